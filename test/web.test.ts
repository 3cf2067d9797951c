// The page in a real Chromium: it loads a deployable, classifies, and gives the scores of Node.
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TEXT_CAPACITY } from "../assembly/abi.ts";
import { Classifier, type Prediction } from "../host/classifier.ts";
import { unpackModel } from "../host/container.ts";
import { packModel } from "../host/pack.ts";
import { DEFAULT_RECIPE, prepareTraining, runEpochs } from "../host/recipe.ts";
import { parseDataset } from "../host/dataset.ts";
import { Calibrator } from "../host/trainer.ts";
import { fetchChromium } from "./tools/fetch-chromium.mjs";

const root = new URL("../", import.meta.url);
const messages = parseDataset(readFileSync(new URL("host/demo/messages.tsv", root)), "messages.tsv").slice(0, 120);

function findChromium(): string | undefined {
  try {
    return fetchChromium();
  } catch (error) {
    if (process.env["CI"] === "true") throw error;
    process.stderr.write(`\nThe browser tests are skipped: ${(error as Error).message}\n`);
    return undefined;
  }
}

const executablePath = findChromium();

test("the page, which can import nothing of ours, knows the engine's longest text", () => {
  expect(/TEXT_CAPACITY = (\d+);/.exec(readFileSync(new URL("web/classifier.js", root), "utf8"))?.[1]).toBe(String(TEXT_CAPACITY));
});

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
      if (!/^(index\.html|classifier\.js)$/.test(path)) response.writeHead(404).end();
      else response.writeHead(200, { "content-type": path.endsWith("js") ? "text/javascript" : "text/html" }).end(readFileSync(new URL(`web/${path}`, root)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    browser = await chromium.launch({
      executablePath: executablePath!,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
    page = await browser.newPage();
    page.on("console", (message) => { if (message.type() === "error" && !message.text().includes("favicon") && !message.text().includes("404")) problems.push(message.text()); });
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  const choose = (name: string, bytes: Uint8Array) => page.setInputFiles("#model", { name, mimeType: "application/wasm", buffer: Buffer.from(bytes) });

  test("opened as a file, which runs nothing of it, says so", async () => {
    expect(await page.textContent("#note")).toBe("No model yet.");
    const opened = await browser.newPage();
    await opened.goto(new URL("web/index.html", root).href);
    expect(await opened.textContent("#note")).toContain("needs a web server");
    await opened.close();
  });

  test("names a file that is no deployable", async () => {
    await choose("engine.wasm", readFileSync(fileURLToPath(new URL("build/engine.wasm", root))));
    await page.waitForFunction("document.getElementById('note').textContent.includes('cannot be used')");
    expect(await page.isDisabled("#text")).toBe(true);
  });

  test("gives the scores of Node, digit by digit", async () => {
    await choose("demo.wasm", deployable);
    await page.waitForFunction("!document.getElementById('text').disabled");
    const node = await Classifier.fromBytes(deployable, "demo.wasm");
    const texts = [...messages.map(({ text }) => text), "", "\u{1f600} ünknown wörds 你好", "<b>&amp;</b>"];
    // As text, since the test runner rewrites import() in a function.
    const inPage = await page.evaluate(`(async () => {
      const { openClassifier } = await import("/classifier.js");
      const classifier = await openClassifier(Uint8Array.from(atob("${Buffer.from(deployable).toString("base64")}"), (c) => c.charCodeAt(0)));
      return ${JSON.stringify(texts)}.map((text) => [classifier.classify(text), classifier.explain(text)]);
    })()`) as [Prediction, { text: string; share: number }[]][];
    expect(inPage.map(([prediction]) => prediction)).toEqual(texts.map((text) => node.classify(text, 0)));
    inPage.forEach(([, parts], i) => {
      expect(parts.map(({ text }) => text).join("")).toBe(texts[i]);
      expect(parts.filter((_, at) => at % 2 === 1).map(({ text, share }) => [text, Number(share.toFixed(9)) + 0])).toEqual(node.explain(texts[i]!).tokens.map(({ token, share }) => [token, share]));
    });
  });

  test("shows the best label first, as text", async () => {
    const text = messages[0]!.text;
    await page.fill("#text", text);
    const node = await Classifier.fromBytes(deployable, "demo.wasm");
    expect(await page.textContent("#scores .best")).toBe(node.classify(text).label);
    expect(await page.textContent("#words")).toBe(text);
    expect(await page.locator("#words span[style]").count()).toBe(node.explain(text).tokens.filter(({ share }) => share !== 0).length);
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
