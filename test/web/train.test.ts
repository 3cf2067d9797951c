// The page's side that trains, in a real Chromium: from a pasted CSV to a model that wasmtime runs and that
// the command line makes, too, byte for byte; while the page goes on, and with texts and names of every kind.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import axe from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, afterEach, describe, expect, test } from "vitest";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { type FileServer, serveFolder } from "../support/pages.ts";
import { severalSamples } from "../support/models.ts";
import { edgelabel } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { describeWasmtime, runWasmtime } from "../support/wasmtime.ts";

const root = new URL("../../", import.meta.url);
const messages = readFileSync(new URL("host/demo/messages.tsv", root), "utf8")
  .trimEnd()
  .split("\n")
  .slice(0, 150)
  .map((line) => line.split("\t") as [label: string, text: string]);
const HOSTILE = "<img src=x onerror=hit()>";
/** Lines: a header, 150 messages; one of them under another label, one twice; a text without a label; and a label of markup. */
const csv = [
  "id,message,kind",
  ...messages.map(([label, text], i) => `${i},"${text.replaceAll('"', '""')}",${label}`),
  `150,"${messages[0]![1]}",${messages.find(([label]) => label !== messages[0]![0])![0]}`,
  `151,"${messages[1]![1]}",${messages[1]![0]}`,
  "152,nothing,",
  ...Array.from({ length: 10 }, (_, i) => `${153 + i},${HOSTILE} number ${i},${HOSTILE}`),
  "",
].join("\n");

const folder = mkdtempSync(join(tmpdir(), "edgelabel-playground-"));
const executablePath = findChromium();

describe.skipIf(!executablePath)("in Chromium", () => {
  let server: FileServer;
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];
  const files: Record<string, Buffer> = {};

  beforeAll(async () => {
    server = await serveFolder(new URL("build/web/", root));
    browser = await launchChromium(executablePath!);
  });
  beforeEach(async () => {
    page = await browser.newPage();
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("dialog", (dialog) => problems.push(dialog.message()));
    await page.goto(server.url);
    await page.click("#train-tab");
  });
  afterEach(() => page.close());
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    rmSync(folder, { recursive: true });
  });

  const paste = async (text: string): Promise<void> => {
    await page.fill("#texts", text);
    await page.waitForSelector("#about h2");
  };
  const train = async (settings: Readonly<Record<string, string>>): Promise<void> => {
    await page.click("text=Settings");
    for (const [id, value] of Object.entries(settings))
      await (id === "aside" || id === "unknown" ? page.selectOption(`#${id}`, value) : page.fill(`#${id}`, value));
    await page.click("#run .primary");
  };
  const download = async (name: string): Promise<[string, Buffer]> => {
    const [file] = await Promise.all([page.waitForEvent("download"), page.click(`text=${name}`)]);
    return [file.suggestedFilename(), readFileSync(await file.path())];
  };

  test("a pasted CSV becomes the command line's model, while the page goes on, and no markup becomes an element", async () => {
    await paste(csv);
    // No column has a usual name for labels.
    expect(await page.textContent("#about")).toContain("Choose which column");
    expect(await page.inputValue("#text-column")).toBe("message");
    expect(await page.locator(".preview tbody tr").count()).toBe(5);
    expect(await page.locator(".preview tbody tr").first().textContent()).toBe(`0${messages[0]![1]}${messages[0]![0]}`);
    await page.selectOption("#label-column", "kind");
    await page.waitForSelector("#run .primary");
    const found = (await page.textContent("#about"))!;
    expect(found).toContain("162 texts, 7 labels");
    expect(found).toContain("1 text without a label, or labels without a text, left out.");
    expect(found).toContain("2 texts with the same words but different labels");
    expect(found).toMatch(/ as \w+ in line 2, as \w+ in line 152/);
    expect(found).toContain("in lines 3, 153");

    // What it says while it trains, and how many turns the page's own timers had by then.
    await page.evaluate(`
      turns = 0;
      said = [];
      setInterval(() => turns++, 10);
      new MutationObserver(() => {
        const state = document.querySelector(".state");
        if (state) said.push([state.textContent, turns]);
      }).observe(document.querySelector("#run"), { childList: true, subtree: true });`);
    await train({ name: "calls", epochs: "8", seed: "5", aside: "0.2", unknown: "0.05" });
    await page.waitForSelector(".charts svg");
    await page.click("#try-tab");
    await page.click("#ask .chips button");
    expect(await page.textContent("#ask .best bdi")).toBe("lights");
    await page.click("#train-tab");
    await page.waitForSelector("dl.figures");
    const epochs = ((await page.evaluate("said")) as [string, number][]).filter(([state]) =>
      /^Epoch \d of 8$/.test(state),
    );
    expect(epochs.at(-1)![1] - epochs[0]![1]).toBeGreaterThan(10);

    for (const name of ["Download .wasm", "Download .elb"]) {
      const [file, bytes] = await download(name);
      files[file] = bytes;
    }
    expect(Object.keys(files)).toEqual(["calls.wasm", "calls.elb"]);
    const command = (await page.textContent(".command code"))!;
    expect(command).toBe(
      "edgelabel train texts.csv --text-column message --label-column kind --skip-empty --valid 20% --unknown 0.05 --epochs 8 --seed 5 -o calls.wasm",
    );
    writeFileSync(join(folder, "texts.csv"), csv);
    const args = command
      .split(" ")
      .slice(1)
      .map((each) => (/^(?:texts|calls)\./.test(each) ? join(folder, each) : each));
    for (const name of ["calls.wasm", "calls.elb"]) {
      args[args.length - 1] = join(folder, name);
      expect((await edgelabel(args)).code).toBe(0);
      expect(readFileSync(join(folder, name)).equals(files[name]!)).toBe(true);
    }

    // The figures, and the texts behind a cell, are those of `eval` on the texts that were kept aside.
    const figures = await page.locator("dl.figures div").allTextContents();
    expect(figures.slice(0, 2)).toEqual([
      expect.stringMatching(/^right, of new texts[\d.]+ %$/),
      expect.stringMatching(/^new texts3\d$/),
    ]);
    const cells = await page.locator(".matrix td button").all();
    let texts = 0;
    for (const cell of cells) {
      await cell.click();
      const count = Number(await cell.textContent());
      expect(await page.locator(".behind .answers > li").count()).toBe(count);
      expect(await cell.getAttribute("aria-pressed")).toBe("true");
      texts += count;
    }
    expect(figures[1]).toBe(`new texts${texts}`);
    expect(await page.locator(".matrix [aria-pressed=true]").count()).toBe(1);
    expect(await page.locator(".charts svg").count()).toBe(2);
    expect(await page.textContent(".charts")).toContain("from epoch 6 on, texts");

    // The model can be tried, there and on the other side.
    await page.fill("#trained-text", "dim the lamp");
    expect(await page.locator("#run p.best").count()).toBe(1);
    await page.click("text=Open it under");
    expect(await page.textContent("#card strong")).toBe("calls");
    expect(await page.locator("img, script:not([src])").count()).toBe(0);
    expect(problems).toEqual([]);
  });

  describeWasmtime("the model", (wasmtime) => {
    test("runs", () => {
      const path = join(folder, "calls.wasm");
      const { status, stdout } = runWasmtime(wasmtime, path, [], "dim the lamp over the sofa\n");
      expect([status, stdout.toString()]).toEqual([0, expect.stringMatching(/^(?:lights|\?)\t[\d.]+\n$/)]);
    });
  });

  test("texts with several labels, or none, become the command line's model, too", async () => {
    const lines = severalSamples.map(({ labels, text }) => `${labels!.map((label) => `__label__${label} `).join("")}${text}`); // prettier-ignore
    writeFileSync(join(folder, "several.ft"), `${lines.join("\n")}\n`);
    await page.setInputFiles('#train input[type="file"]', join(folder, "several.ft"));
    await page.waitForSelector("#run .primary");
    expect(await page.textContent("#about")).toMatch(/3 labels.*1\.3 labels a text, and 6 texts without any/);
    await page.click("text=Settings");
    expect(await page.locator("#unknown").count()).toBe(0);
    await page.fill("#epochs", "4");
    await page.click("#run .primary");
    await page.waitForSelector("dl.figures");
    const figures = await page.locator("dl.figures dt").allTextContents();
    expect(figures.slice(0, 3)).toEqual(["micro F1", "exactly right", "new texts"]);
    expect(await page.locator(".matrix").count()).toBe(0);
    const [, bytes] = await download("Download .wasm");
    expect(await page.textContent(".command code")).toBe(
      "edgelabel train several.ft --valid 10% --epochs 4 -o several.wasm",
    );
    const path = join(folder, "several.wasm");
    await edgelabel(["train", join(folder, "several.ft"), "--valid", "10%", "--epochs", "4", "-o", path]);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(problems).toEqual([]);
  });

  test("a run can be stopped and kept, or cancelled", async () => {
    await page.click("text=Use the example messages");
    await page.waitForSelector("#run .primary");
    expect(await page.textContent("#about")).toContain("480 texts, 6 labels, 80 of each");
    // So many epochs that it is not done before.
    await train({ epochs: "500" });
    await page.waitForSelector(".charts svg");
    await page.click("text=Cancel");
    await page.waitForSelector("#run .primary");
    expect(await page.locator(".charts svg").count()).toBe(0);
    await train({ epochs: "500", aside: "0" });
    await page.waitForSelector(".charts svg");
    await page.click("text=Stop after this epoch");
    await page.waitForSelector("dl.figures");
    expect(await page.textContent("#run h2")).toBe("The model “messages”, stopped early");
    expect(await page.textContent("#run")).toContain("No texts were kept aside");
    expect(await page.locator(".command").count()).toBe(0);
    const [name, elb] = await download("Download .elb");
    writeFileSync(join(folder, name), elb);
    expect((await edgelabel(["info", join(folder, name)])).stdout).toContain("with the state to resume training");
    await page.click("text=Train again");
    expect(await page.isVisible("#run .primary")).toBe(true);
    expect(problems).toEqual([]);
  });

  test("what cannot be read or trained on is named in words, and nothing of it stays", async () => {
    for (const [text, complaint] of [
      ["label,text\nlights,switch it on,now\n", "line 2: 3 fields where the header has 2"],
      ["label\ttext\nlights\tswitch it on\n", "There is only one label"],
      ['{"label": "a", "text": "b"}\n{"label": "c"\n', "line 2: not valid JSON"],
    ]) {
      await paste(text!);
      await until(async () => (await page.textContent("#about"))!.includes(complaint!));
      expect(await page.textContent("#about")).not.toContain("--");
      expect(await page.locator("#run *").count()).toBe(0);
    }
    await page.fill("#texts", "");
    await until(async () => (await page.locator("#about *").count()) === 0);
    // A text for each of two labels: too few to keep some aside.
    await paste("label,text\na,one\nb,two\n");
    await page.waitForSelector("#run .primary");
    await train({});
    await page.waitForSelector("#run .alert");
    expect(await page.textContent("#run .alert")).toContain("too few to keep 10 % of them");
    await page.setInputFiles('#train input[type="file"]', {
      name: "x.csv",
      mimeType: "text/csv",
      buffer: Buffer.from([0x80, 0x0a]),
    });
    await page.waitForSelector("#about .alert");
    expect(problems).toEqual([]);
  });

  test("axe finds no violation, and nothing is wider than the screen", async () => {
    for (const colorScheme of ["light", "dark"] as const)
      for (const width of [1100, 360]) {
        const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
        const other = await context.newPage();
        const check = async (state: string): Promise<void> => {
          const { violations } = (await other.evaluate("axe.run()")) as axe.AxeResults;
          const found = violations.map(({ id, nodes }) => [state, id, nodes.map(({ html }) => html)]);
          expect(found).toEqual([]);
          expect([state, await other.evaluate("document.documentElement.scrollWidth")]).toEqual([state, width]);
        };
        await other.goto(server.url);
        await other.evaluate(axe.source);
        await other.click("#train-tab");
        await check("empty");
        await other.fill("#texts", "label,text\nlights,on,now\n");
        await other.waitForSelector("#about .alert");
        await check("error");
        await other.fill("#texts", csv);
        await other.selectOption("#label-column", "kind");
        await other.waitForSelector("#run .primary");
        for (const summary of await other.locator("#train summary").all()) await summary.click();
        await check("read");
        await other.fill("#epochs", "3");
        await other.click("#run .primary");
        await other.waitForSelector("dl.figures");
        await other.locator(".matrix td button").first().click();
        await other.fill("#trained-text", "dim the lamp");
        await check("trained");
        await context.close();
      }
  }, 300_000);
});
