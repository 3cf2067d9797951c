// Nothing leaves the page: what its policy forbids, from the page and from its worker, on a server that sends no policies of
// its own and as `edgelabel playground` serves it.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, Page, Worker } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { type FileServer, serveFolder } from "../support/pages.ts";
import { main, startProgram } from "../support/program.ts";
import { until } from "../support/wait.ts";

const executablePath = findChromium();

/** Ways out. Each may throw, or fail later; what counts is what arrives. */
const ATTEMPTS = (place: string): string => `
  const place = ${JSON.stringify(place)};
  const attempts = [
    () => fetch(place + "fetch", { method: "POST", body: "a text", mode: "no-cors" }),
    () => new WebSocket(place.replace("http", "ws") + "socket"),
    () => new EventSource(place + "events"),
    () => new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", place + "xhr");
      request.onload = resolve;
      request.onerror = () => reject(new Error("refused"));
      request.send("a text");
    }),
    ...(typeof document === "undefined" ? [() => importScripts(place + "script.js")] : [
      () => { if (!navigator.sendBeacon(place + "beacon", "a text")) throw new Error("refused"); },
      () => new Promise((resolve, reject) => Object.assign(new Image(), { onload: resolve, onerror: reject, src: place + "image?a-text" })),
      ...["script", "link", "iframe", "object", "audio"].map((name) => () => new Promise((resolve, reject) => {
        const element = Object.assign(document.createElement(name), { onload: resolve, onerror: reject, rel: "stylesheet" });
        for (const key of ["src", "href", "data"]) if (key in element) element[key] = place + name;
        document.body.append(element);
        setTimeout(reject, 300);
      })),
      () => new Promise((resolve, reject) => {
        const form = Object.assign(document.createElement("form"), { action: place + "form", method: "post", target: "_blank" });
        document.body.append(form);
        form.submit();
        setTimeout(reject, 300);
      }),
    ]),
  ];
  (async () => {
    for (const attempt of attempts) await Promise.resolve().then(attempt).catch(() => {});
    return attempts.length;
  })()`;

describe.skipIf(!executablePath)("in Chromium", () => {
  let plain: FileServer;
  let other: Server;
  let browser: Browser;
  const arrived: string[] = [];
  let place: string;

  beforeAll(async () => {
    plain = await serveFolder(new URL("../../build/web/", import.meta.url));
    other = createServer(({ url }, response) => {
      arrived.push(url!);
      response.writeHead(200, { "access-control-allow-origin": "*", "content-type": "text/javascript" }).end();
    });
    other.on("upgrade", ({ url }, socket) => {
      arrived.push(url!);
      socket.destroy();
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    place = `http://127.0.0.1:${(other.address() as AddressInfo).port}/`;
    browser = await launchChromium(executablePath!);
  });
  afterAll(async () => {
    await browser?.close();
    await plain?.close();
    other?.close();
  });

  /** The page with a model, and its worker with texts. */
  async function opened(url: string): Promise<{ page: Page; worker: Worker }> {
    const page = await browser.newPage();
    await page.goto(url);
    await page.waitForSelector("#text:enabled");
    await page.click("#train-tab");
    const started = page.waitForEvent("worker");
    await page.fill("#texts", "label,text\na,one two\nb,three four\n");
    const worker = await started;
    await page.waitForSelector("#run .primary");
    return { page, worker };
  }

  test("the ways out are some, where nothing forbids them", async () => {
    const page = await browser.newPage();
    await page.goto(`${place}page`);
    arrived.length = 0;
    await page.evaluate(ATTEMPTS(place));
    await until(() => new Set(arrived.map((url) => url.replace(/\?.*/, ""))).size >= 10);
    await page.close();
  });

  const check = async (url: string): Promise<void> => {
    const { page, worker } = await opened(url);
    for (const each of [page, worker])
      for (const target of [place, url]) {
        arrived.length = 0;
        plain.asked.length = 0;
        expect(await (each as Page).evaluate(ATTEMPTS(target))).toBeGreaterThan(4);
        // A sentinel behind them, which arrives.
        await fetch(`${place}sentinel`);
        await until(() => arrived.includes("/sentinel"));
        expect(arrived).toEqual(["/sentinel"]);
        // Scripts of its own server are the only thing that the page may load.
        expect(plain.asked.filter((path) => path !== "/script" && path !== "/script.js")).toEqual([]);
      }
    // No code but the page's own runs.
    const ran = await page.evaluate(`(async () => {
      const script = document.createElement("script");
      script.textContent = "window.hit = 1";
      document.body.append(script);
      const button = document.createElement("button");
      button.setAttribute("onclick", "window.hit = 2");
      document.body.append(button);
      button.click();
      // Not at once, since the driver's own code may do so.
      setTimeout(() => new Function("window.hit = 3")());
      await new Promise((resolve) => setTimeout(resolve, 100));
      return window.hit ?? 0;
    })()`);
    expect(ran).toBe(0);
    await page.close();
  };

  test("from a server without policies", () => check(plain.url));

  test("from edgelabel playground, which also forbids to be embedded, and gives nothing but its files", async () => {
    const running = startProgram(process.execPath, [main, "playground"]);
    await until(() => running.stdout().includes("Stop with Ctrl-C"));
    const [url] = /http:\/\/127\.0\.0\.1:\d+\//.exec(running.stdout())!;
    await check(url);
    const response = await fetch(url);
    expect(response.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect((await fetch(`${url}?model=example.elb`)).status).toBe(200);
    const statuses = await Promise.all(
      ["nothing", "%2e%2e/host/main.js", "__proto__", "index.html"].map(
        async (path) => (await fetch(url + path)).status,
      ),
    );
    expect(statuses).toEqual([404, 404, 404, 404]);
    expect((await fetch(url, { method: "POST", body: "x" })).status).toBe(405);
    expect((await fetch(`${url}edgelabel.js`, { method: "HEAD" })).headers.get("content-type")).toContain(
      "text/javascript",
    );
    expect((await running.end()).code).toBe(0);
  });
});
