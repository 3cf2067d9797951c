// The page in a real Chromium: it loads a deployable, classifies, and gives the scores of Node.
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
import type { Answer } from "../../host/model/answer.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { unpackModel } from "../../host/model/container.ts";
import { packModel } from "../../host/model/pack.ts";
import { DEFAULT_RECIPE, prepareTraining, runEpochs } from "../../host/training/recipe.ts";
import { parseDataset } from "../../host/data/dataset.ts";
import { Calibrator } from "../../host/training/calibrator.ts";
import { findChromium } from "../support/chromium.ts";

const root = new URL("../../", import.meta.url);
const messages = parseDataset(readFileSync(new URL("host/demo/messages.tsv", root)), "messages.tsv").slice(0, 120);

const executablePath = findChromium();

describe.skipIf(!executablePath)("page", () => {
  let server: Server;
  let browser: Browser;
  let page: Page;
  let deployable: Uint8Array;
  const problems: string[] = [];

  beforeAll(async () => {
    const recipe = { ...DEFAULT_RECIPE, epochs: 3 };
    const trainer = await prepareTraining(messages, [], recipe);
    trainer.start(recipe);
    runEpochs(trainer, recipe.epochs, false, {});
    deployable = await packModel(trainer.write("int8"));
    server = createServer((request, response) => {
      const path = request.url === "/" ? "index.html" : request.url!.slice(1);
      if (/favicon|\.\./.test(path)) response.writeHead(404).end();
      else
        response
          .writeHead(200, { "content-type": path.endsWith("js") ? "text/javascript" : "text/html" })
          .end(readFileSync(new URL(`build/web/${path}`, root)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    browser = await chromium.launch({
      executablePath: executablePath!,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    page = await browser.newPage();
    page.on("console", (message) => {
      if (message.type() === "error" && !message.text().includes("favicon") && !message.text().includes("404"))
        problems.push(message.text());
    });
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  const choose = (name: string, bytes: Uint8Array) =>
    page.setInputFiles("#model", { name, mimeType: "application/wasm", buffer: Buffer.from(bytes) });

  test("opened as a file, which runs nothing of it, says so", async () => {
    expect(await page.textContent("#note")).toBe("No model yet.");
    const opened = await browser.newPage();
    await opened.goto(new URL("build/web/index.html", root).href);
    expect(await opened.textContent("#note")).toContain("needs a web server");
    await opened.close();
  });

  test("runs no code of a file: an engine whose start function never ends is left alone", async () => {
    const name = Buffer.from("constructor");
    // Type () -> (), function 0 imported from Object.prototype, function 1 is loop br 0 end, and the start.
    const code = [
      1,
      4,
      1,
      0x60,
      0,
      0,
      2,
      27,
      1,
      11,
      ...name,
      11,
      ...name,
      0,
      0,
      3,
      2,
      1,
      0,
      5,
      3,
      1,
      0,
      1,
      8,
      1,
      1,
      10,
      9,
      1,
      7,
      0,
      3,
      0x40,
      0x0c,
      0,
      0x0b,
      0x0b,
    ];
    const model = unpackModel(deployable, "demo.wasm");
    const leb = (value: number): number[] => [
      (value & 0x7f) | 0x80,
      ((value >> 7) & 0x7f) | 0x80,
      ((value >> 14) & 0x7f) | 0x80,
      value >> 21,
    ];
    const data = [1, 0, 0x41, 0, 0x0b, ...leb(model.length)];
    const file = Buffer.concat([
      Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...code, 11, ...leb(data.length + model.length), ...data]),
      model,
    ]);
    await choose("hostile.wasm", file);
    await page.waitForFunction("document.getElementById('note').textContent.includes(' labels, int8')");
    await page.fill("#text", messages[0]!.text);
    expect(await page.textContent("#scores .best")).toBe(
      (await Classifier.fromBytes(deployable, "demo.wasm")).classify(messages[0]!.text).label,
    );
    await page.fill("#text", "");
  });

  test("takes a model without an engine", async () => {
    await choose("demo.elb", unpackModel(deployable, "demo.wasm"));
    await page.waitForFunction("document.getElementById('note').textContent.includes(' labels, int8')");
    expect(await page.textContent("#note")).toMatch(/^demo.elb .*int8, [\d.]+ KB$/);
  });

  test("says how large the file is", async () => {
    await choose("demo.wasm", deployable);
    const kilobytes = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KB`;
    const size = `int8, ${kilobytes(deployable.length)}, of it the model ${kilobytes(unpackModel(deployable, "demo.wasm").length)}`;
    await page.waitForFunction(`document.getElementById('note').textContent.endsWith(${JSON.stringify(size)})`);
  });

  test("a text that is too long is named, and the label before it goes", async () => {
    await page.fill("#text", messages[0]!.text);
    expect(await page.locator("#scores .best").count()).toBe(1);
    // Not typed by the driver, which is slow.
    const fill = (length: number) =>
      page.evaluate(
        `(() => { const text = document.getElementById("text"); text.value = "x".repeat(${length}); text.dispatchEvent(new Event("input")); })()`,
      );
    await fill(TEXT_CAPACITY + 1);
    expect(await page.textContent("#note")).toContain(
      `text: ${TEXT_CAPACITY + 1} bytes, but at most ${TEXT_CAPACITY} are classified`,
    );
    expect(await page.locator("#scores *, #words *").count()).toBe(0);
    await fill(TEXT_CAPACITY);
    expect(await page.textContent("#note")).toContain(" labels, int8");
    expect(await page.locator("#scores .best").count()).toBe(1);
    expect(problems).toEqual([]);
    await page.fill("#text", "");
  });

  test("names a file that is no deployable", async () => {
    await choose("engine.wasm", readFileSync(fileURLToPath(new URL("build/engine.wasm", root))));
    await page.waitForFunction("document.getElementById('note').textContent.includes('engine.wasm: holds no model')");
    expect(await page.isDisabled("#text")).toBe(true);
  });

  test("gives the scores of Node, digit by digit", async () => {
    await choose("demo.wasm", deployable);
    await page.waitForFunction("!document.getElementById('text').disabled");
    const node = await Classifier.fromBytes(deployable, "demo.wasm");
    const texts = [...messages.map(({ text }) => text), "", "\u{1f600} ünknown wörds 你好", "<b>&amp;</b>"];
    // As text, since the test runner rewrites import() in a function.
    const inPage = (await page.evaluate(`(async () => {
      const { open } = await import("/edgelabel.js");
      const model = await open(Uint8Array.from(atob("${Buffer.from(deployable).toString("base64")}"), (c) => c.charCodeAt(0)));
      return ${JSON.stringify(texts)}.map((text) => model.classify(text, { topK: 99, explain: true }));
    })()`)) as Answer[];
    expect(inPage).toEqual(texts.map((text) => ({ ...node.classify(text, 99), explanation: node.explain(text) })));
  });

  test("shows the best label first, as text", async () => {
    const text = messages[0]!.text;
    await page.fill("#text", text);
    const node = await Classifier.fromBytes(deployable, "demo.wasm");
    expect(await page.textContent("#scores .best")).toBe(node.classify(text).label);
    expect(await page.textContent("#words")).toBe(text);
    expect(await page.locator("#words span[style]").count()).toBe(
      node.explain(text).tokens.filter(({ share }) => share !== 0).length,
    );
    expect(problems).toEqual([]);
  });

  test("shows that a text is rejected", async () => {
    const calibrator = await Calibrator.open(unpackModel(deployable, "demo.wasm"), "demo.wasm");
    calibrator.change(1, { score: 1, margin: 0, unknown_share: 1 });
    await choose("strict.wasm", await packModel(calibrator.file()));
    await page.waitForFunction("document.querySelector('#scores .best').textContent === '?'");
    expect(await page.locator("#scores .best").count()).toBe(1);
  });
});
