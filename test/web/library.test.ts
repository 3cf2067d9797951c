// The library's bundle for browsers: the names and the bytes of Node, in a page and in a worker, and no larger than it must be.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { parseDataset } from "../../host/data/dataset.ts";
import * as library from "../../host/index.ts";
import { findChromium, launchChromium } from "../support/chromium.ts";

const web = new URL("../../build/web/", import.meta.url);
const read = (name: string): Buffer => readFileSync(new URL(name, web));
const texts = parseDataset(readFileSync(new URL("../../host/demo/messages.tsv", import.meta.url)), "messages.tsv").map(
  ({ text, label }) => ({ text, label }),
);
const options = { name: "house", epochs: 3, seed: 2, units: 16, embeddingDim: 16, unknown: 0.1 };

test("has the names of Node", async () => {
  expect(Object.keys(await import(new URL("edgelabel.js", web).href))).toEqual(Object.keys(library).sort());
});

test("weighs, compressed, at most 70 KB, and 70 KB more when it trains", () => {
  const kilobytes = (name: string): number => gzipSync(read(name), { level: 9 }).length / 1024;
  const sizes = ["edgelabel.js", "edgelabel-trainer.js"].map((name) => [name, kilobytes(name)] as const);
  for (const [name, size] of sizes) {
    process.stdout.write(`${name}: ${size.toFixed(1)} KB gzipped\n`);
    expect(size).toBeLessThan(70);
  }
});

const executablePath = findChromium();

describe.skipIf(!executablePath)("in Chromium", () => {
  let server: Server;
  let browser: Browser;
  let bundle: Uint8Array;
  const worker = `
    import { train } from "/edgelabel.js";
    onmessage = async ({ data: { texts, options } }) => {
      try {
        const epochs = [];
        const trained = await train(texts, { ...options, onEpoch: ({ epoch }) => void epochs.push(epoch) });
        postMessage({ wasm: await trained.wasm(), elb: await trained.elb(), epochs });
      } catch ({ name, code, message }) {
        postMessage({ name, code, message });
      }
    };`;
  // Nothing may leave the page, and no code but its own may run.
  const policy =
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'";

  beforeAll(async () => {
    server = createServer(({ url }, response) => {
      if (url === "/no-such-file") return void response.writeHead(404).end();
      const [type, body] =
        url === "/"
          ? ["text/html", "<!doctype html><title>t</title>"]
          : ["text/javascript", url === "/worker.js" ? worker : url === "/app.js" ? bundle : read(url!.slice(1))];
      response.writeHead(200, { "content-type": type, "content-security-policy": policy }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    browser = await launchChromium(executablePath!);
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  async function inPage(code: string): Promise<any> {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    // As text, since the test runner rewrites import() in a function.
    const result = await page.evaluate(`(async () => {${code}})()`);
    await page.close();
    return result;
  }

  test("a worker trains to the bytes of Node, while the page goes on", async () => {
    const valid = texts.filter((_, i) => i % 4 === 0);
    const trained = await library.train(texts, { ...options, valid });
    const [wasm, elb] = [await trained.wasm(), await trained.elb()];
    const result = await inPage(`
      const worker = new Worker("/worker.js", { type: "module" });
      const answer = new Promise((resolve, reject) => Object.assign(worker, { onmessage: resolve, onerror: reject }));
      worker.postMessage(${JSON.stringify({ texts, options: { ...options, valid } })});
      let turns = 0;
      const turning = setInterval(() => turns++);
      const { data } = await answer;
      clearInterval(turning);
      const { open } = await import("/edgelabel.js");
      const model = await open(data.wasm);
      const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
      return {
        turns, epochs: data.epochs, wasm: base64(data.wasm), elb: base64(data.elb),
        answers: ${JSON.stringify(texts)}.map(({ text }) => model.classify(text, { topK: 3, explain: true })),
      };`);
    expect(Buffer.from(result.wasm, "base64").equals(wasm)).toBe(true);
    expect(Buffer.from(result.elb, "base64").equals(elb)).toBe(true);
    expect(result.epochs).toEqual([1, 2, 3]);
    expect(result.turns).toBeGreaterThan(10);
    const model = await library.open(wasm);
    expect(result.answers).toEqual(
      JSON.parse(JSON.stringify(texts.map(({ text }) => model.classify(text, { topK: 3, explain: true })))),
    );
  });

  test("a bundler finds the library by its name", async () => {
    const folder = mkdtempSync(join(tmpdir(), "edgelabel-bundle-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(fileURLToPath(new URL("../../", import.meta.url)), join(folder, "node_modules/edgelabel"));
    writeFileSync(
      join(folder, "app.js"),
      'import { open, train } from "edgelabel";\nexport const app = async (texts, options) => open(await (await train(texts, options)).wasm());',
    );
    const { outputFiles, warnings } = await build({
      entryPoints: [join(folder, "app.js")],
      ...{ bundle: true, format: "esm", write: false, platform: "browser", logLevel: "silent" },
    });
    expect([warnings, outputFiles.length]).toEqual([[], 1]);
    bundle = outputFiles[0]!.contents;
    const few = { ...options, epochs: 1, unknown: undefined };
    const answer = await inPage(`
      const { app } = await import("/app.js");
      return (await app(${JSON.stringify(texts)}, ${JSON.stringify(few)})).classify("the lamp is too bright");`);
    const trained = await library.train(texts, few);
    expect(answer).toEqual(JSON.parse(JSON.stringify((await trained.model()).classify("the lamp is too bright"))));
  });

  test("errors have code and message in a page, too", async () => {
    const errors = await inPage(`
      const { open, train, EdgelabelError } = await import("/edgelabel.js");
      const attempts = [() => open("/no-such-file"), () => open(new Uint8Array(9)), () => train([{ text: "a", label: "b" }]),
        () => train(${JSON.stringify(texts)}, { workers: 2 })];
      return Promise.all(attempts.map((attempt) =>
        attempt().catch((error) => [error instanceof EdgelabelError, error.code, error.message])));`);
    expect(errors).toEqual([
      [true, "unreadable", expect.stringContaining("/no-such-file")],
      [true, "bad_length", expect.stringContaining("model: ")],
      [true, "invalid", expect.stringContaining("a classifier needs at least 2 labels")],
      [true, "invalid", "a browser trains in one thread; leave workers out"],
    ]);
  });
});
