// The clients of examples/ that need no compiler: they give the bytes of Node for every text. Those that do
// are in test/long/runtimes.test.ts. docs/runtimes.md says what the engine does, for clients that are not there yet.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import { describeClient, madeSubjects, texts } from "../support/runtimes.ts";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { bun, deno, examples, node, pool, python } from "../tools/fetch-runtimes.mjs";

describeClient("Node", node);
describeClient("a pool of Node's workers", pool);
describeClient("Python", python);
describeClient("Deno", deno);
describeClient("Bun", bun);

const executablePath = findChromium();

test.skipIf(!executablePath)(
  "a page gives the bytes of Node",
  async () => {
    const subjects = await madeSubjects();
    let model = subjects[0]!.path;
    const server = createServer((request, response) => {
      const path = request.url === "/" ? "index.html" : request.url!.slice(1);
      const types = { html: "text/html", js: "text/javascript", wasm: "application/wasm" };
      const type = types[path.split(".").at(-1) as keyof typeof types];
      if (!type || path.includes("/")) response.writeHead(404).end();
      else
        response
          .writeHead(200, { "content-type": type })
          .end(readFileSync(path === "house.wasm" ? model : join(examples, "javascript", path)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const browser = await launchChromium(executablePath!);
    onTestFinished(() => browser.close());
    for (const { path, answers } of subjects) {
      model = path;
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      // Waits until the model is there and the field is enabled.
      await page.fill("#text", texts.at(-1)!.toString());
      expect(await page.textContent("#answer")).toBe(answers.toString().trimEnd().split("\n").at(-1) + "\n");
      // As text, since the test runner rewrites import() in a function.
      const inPage = await page.evaluate(`(async () => {
      const { openClassifier } = await import("/classifier.js");
      const classify = await openClassifier(await (await fetch("house.wasm")).arrayBuffer());
      const answers = ${JSON.stringify(texts.map((text) => text.toString("base64")))}
        .map((text) => new TextDecoder().decode(classify(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)))));
      return answers.join("");
    })()`);
      expect(inPage === answers.toString(), path).toBe(true);
      await page.close();
    }
  },
  120_000,
);

describe("docs/runtimes.md", () => {
  const page = readFileSync(new URL("../../docs/runtimes.md", import.meta.url), "utf8");
  const engine = readFileSync(new URL("../../build/engine.wasm", import.meta.url));
  const module = new WebAssembly.Module(engine);
  /** First cells of the rows of the table below a heading, without backquotes. */
  const firstCells = (heading: string, cell = 0) =>
    page
      .split(`## ${heading}\n`)[1]!
      .split(/^## /m)[0]!
      .split("\n")
      .filter((line) => line.startsWith("| `"))
      .map((line) => line.split("|")[cell + 1]!.trim());

  test("lists the exports with their parameters and results, and no others", () => {
    const { exports } = new WebAssembly.Instance(module, { wasi_snapshot_preview1: imports() });
    const listed = firstCells("Exports").map((cell) => /^`(\w+)(?:\((.*)\))?`$/.exec(cell)!);
    expect(listed.map(([, name]) => name).sort()).toEqual(Object.keys(exports).sort());
    for (const [, name, parameters] of listed) {
      const value: unknown = exports[name!];
      if (typeof value === "function") expect(value.length, name).toBe(parameters ? parameters.split(",").length : 0);
    }
  });

  test("lists the imports", () => {
    expect(firstCells("Imports").map((cell) => cell.replaceAll("`", ""))).toEqual(Object.keys(imports()).sort());
  });

  test("lists the status codes of assembly/abi.ts", () => {
    const codes = Object.entries(abi).filter(([name]) => name === "OK" || name.startsWith("ERR_"));
    const [values, names] = [0, 1].map((cell) =>
      firstCells("Status codes", cell).map((each) => each.replaceAll("`", "")),
    );
    expect(names!.map((name, i) => [name, Number(values![i])])).toEqual(codes);
  });

  test("gives the limits of assembly/abi.ts", () => {
    expect(page).toContain(`\`abiVersion\` returns ${abi.ABI_VERSION}`);
    expect(page).toContain(`${abi.TEXT_CAPACITY.toLocaleString("en")} bytes`);
  });

  test("is right that addresses and the memory stay as they are", async () => {
    const deployable = readFileSync((await madeSubjects())[0]!.path);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(deployable), {
      wasi_snapshot_preview1: imports(),
    }) as { exports: any };
    expect(exports.loadEmbedded()).toBe(abi.OK);
    const buffer = exports.memory.buffer;
    const [text, line] = [exports.textPtr(), exports.linePtr()];
    for (const each of texts) {
      new Uint8Array(buffer).set(each, text);
      expect(exports.classify(each.length)).toBe(abi.OK);
      exports.renderLine(1, 0);
      exports.renderCard();
    }
    expect([exports.textPtr(), exports.linePtr()]).toEqual([text, line]);
    expect(exports.memory.buffer).toBe(buffer);
  });

  function imports(): Record<string, () => number> {
    return Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, () => 52]));
  }
});
