// The page's side that tries models, in a real Chromium, as any web server gives it: opened and
// dropped models, texts of any kind, and the scores of Node.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
import type { Answer } from "../../host/model/answer.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { unpackModel } from "../../host/model/container.ts";
import { packModel } from "../../host/model/pack.ts";
import { DEFAULT_RECIPE, prepareTraining, runEpochs } from "../../host/training/recipe.ts";
import { parseDataset } from "../../host/data/dataset.ts";
import { Calibrator } from "../../host/training/calibrator.ts";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { type FileServer, serveFolder } from "../support/pages.ts";
import { trainSeveral } from "../support/models.ts";
import { until } from "../support/wait.ts";

const root = new URL("../../", import.meta.url);
const messages = parseDataset(readFileSync(new URL("host/demo/messages.tsv", root)), "messages.tsv").slice(0, 120);
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

const executablePath = findChromium();

describe.skipIf(!executablePath)("page", () => {
  let server: FileServer;
  let browser: Browser;
  let page: Page;
  let deployable: Uint8Array;
  let node: Classifier;
  const problems: string[] = [];

  beforeAll(async () => {
    const recipe = { ...DEFAULT_RECIPE, name: "<b>messages", epochs: 3 };
    const trainer = await prepareTraining(messages, [], recipe);
    trainer.start(recipe);
    runEpochs(trainer, recipe.epochs, false, {});
    deployable = await packModel(trainer.write("int8"));
    node = await Classifier.fromBytes(deployable, "demo.wasm");
    server = await serveFolder(new URL("build/web/", root), { "/mine.wasm": deployable });
    browser = await launchChromium(executablePath!);
    page = await browser.newPage();
    // A text of a megabyte keeps it busy.
    page.setDefaultTimeout(100_000);
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(server.url);
    await page.waitForSelector("#text:enabled");
  });

  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  const choose = (name: string, bytes: Uint8Array) =>
    page.setInputFiles("#model", { name, mimeType: "application/wasm", buffer: Buffer.from(bytes) });
  const opened = (card: string) => until(async () => (await page.textContent("#card"))!.includes(card));
  const best = () => page.textContent("#ask .best bdi");

  test("opened as a file, which runs nothing of it, says so", async () => {
    const another = await browser.newPage();
    await another.goto(new URL("build/web/index.html", root).href);
    expect(await another.textContent("#note")).toContain("needs a web server");
    expect(await another.isVisible("#note")).toBe(true);
    await another.close();
    expect(await page.isVisible("#note")).toBe(false);
  });

  test("begins with a small model, texts to ask it, and no label", async () => {
    expect(await page.textContent("#card")).toMatch(/^house 6 labels, int8/);
    expect(await page.textContent("#ask .answer")).toBe("The label appears here as you type.");
    const labels: (string | null)[] = [];
    for (const chip of await page.locator("#ask .chips button").all()) {
      await chip.click();
      expect(await page.inputValue("#text")).toBe(await chip.textContent());
      labels.push(await page.textContent("#ask .best strong"));
    }
    expect(labels).toEqual(["lights", "fault", "alarm", "weather", "None of its labels"]);
    for (const nothing of ["", "  \n"]) {
      await page.fill("#text", nothing);
      expect(await page.textContent("#ask .answer")).toBe("The label appears here as you type.");
    }
  });

  test("opens the model that its address names, from its own site only", async () => {
    const another = await browser.newPage();
    await another.goto(`${server.url}?model=mine.wasm`);
    await another.waitForSelector("#text:enabled");
    expect(await another.textContent("#card strong")).toBe("<b>messages");
    expect(await another.locator("#ask .chips button").count()).toBe(0);
    for (const [model, complaint] of [
      ["nothing.wasm", "The model cannot be used. "],
      ["index.html", "The model cannot be used. "],
      ["http://127.0.0.2:9/m.wasm", "http://127.0.0.2:9 is another site, and this page may connect to none."],
    ]) {
      await another.goto(`${server.url}?model=${encodeURIComponent(model!)}`);
      await another.waitForSelector("#note:not([hidden])");
      expect(await another.textContent("#note")).toContain(complaint);
      expect(await another.isDisabled("#text")).toBe(true);
    }
    await another.close();
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
    await opened("messages");
    await page.fill("#text", messages[0]!.text);
    expect(await best()).toBe(node.classify(messages[0]!.text).label);
    await page.fill("#text", "");
  });

  test("takes a model without an engine, and says how large a file is", async () => {
    const kilobytes = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KB`;
    const model = unpackModel(deployable, "demo.wasm");
    await choose("demo.elb", model);
    await opened(`6 labels, int8, ${kilobytes(model.length)}, version 1`);
    await choose("demo.wasm", deployable);
    await opened(
      `6 labels, int8, ${kilobytes(deployable.length)}, of it the model ${kilobytes(model.length)}, version 1`,
    );
  });

  test("a dropped model is opened", async () => {
    await choose("demo.elb", unpackModel(deployable, "demo.wasm"));
    const drop = (name: string, bytes: Uint8Array) =>
      page.evaluate(`(() => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob("${Buffer.from(bytes).toString("base64")}"), (c) => c.charCodeAt(0));
        data.items.add(new File([bytes], ${JSON.stringify(name)}));
        dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, cancelable: true }));
        const shown = !document.getElementById("drop").hidden;
        dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        return shown && document.getElementById("drop").hidden;
      })()`);
    expect(await drop("demo.wasm", deployable)).toBe(true);
    await opened("of it the model");
    expect(await drop("texts.csv", Buffer.from("label,text\na,b\n"))).toBe(true);
    await page.waitForSelector("#train .preview");
    await page.click("#try-tab");
  });

  test("a text that is too long is named, and the label before it goes", async () => {
    await page.fill("#text", messages[0]!.text);
    expect(await page.locator("#ask .best").count()).toBe(1);
    // Not typed by the driver, which is slow.
    const fill = (length: number) =>
      page.evaluate(
        `(() => { const text = document.getElementById("text"); text.value = "x".repeat(${length}); text.dispatchEvent(new Event("input")); })()`,
      );
    await fill(TEXT_CAPACITY + 1);
    expect(await page.textContent("#ask .answer")).toBe(
      `This text cannot be classified. text: ${TEXT_CAPACITY + 1} bytes, but at most ${TEXT_CAPACITY} are classified`,
    );
    await fill(TEXT_CAPACITY);
    expect(await page.locator("#ask .best").count()).toBe(1);
    await page.fill("#text", "");
  });

  test("a long text scrolls inside, to the words that count", async () => {
    const long = `${"something that is not read ".repeat(400)}${"dim the lamp over the sofa ".repeat(60)}`;
    await page.fill("#text", long);
    expect(await page.evaluate("document.documentElement.scrollHeight")).toBeLessThan(1600);
    expect(await page.textContent("#ask .heat")).toBe(
      await page.evaluate(`(() => {
      const heat = document.querySelector("#ask .heat").cloneNode(true);
      return document.getElementById("text").value === [...heat.childNodes].map((node) => {
        for (const figure of node.querySelectorAll?.("rt") ?? []) figure.remove();
        return node.textContent;
      }).join("") ? document.querySelector("#ask .heat").textContent : "another text";
    })()`),
    );
    const seen = await page.evaluate(`(() => {
      const [box, word] = [".words", ".word"].map((name) => document.querySelector("#ask " + name).getBoundingClientRect());
      return word.top >= box.top && word.bottom <= box.bottom;
    })()`);
    expect(seen).toBe(true);
    expect(await page.textContent("#ask .legend")).toContain("256 words are the most that count");
    await page.fill("#text", "dim the lamp");
    expect(await page.textContent("#ask .legend")).not.toContain("256");
  });

  test("names a file that is no deployable, and keeps the model", async () => {
    await choose("engine.wasm", readFileSync(fileURLToPath(new URL("build/engine.wasm", root))));
    await page.waitForSelector("#note:not([hidden])");
    expect(await page.textContent("#note")).toContain("This file cannot be used. engine.wasm: holds no model");
    expect(await page.textContent("#card strong")).toBe("<b>messages");
    await choose("demo.wasm", deployable);
    await page.waitForSelector("#note", { state: "hidden" });
  });

  test("gives the scores of Node, digit by digit", async () => {
    await choose("demo.wasm", deployable);
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

  test("shows the best label first, why, and the others", async () => {
    const text = messages[0]!.text;
    await page.fill("#text", text);
    const { label, score, scores } = node.classify(text, 99);
    expect(await best()).toBe(label);
    expect(await page.textContent("#ask .best .share")).toBe(percent(score));
    const { tokens } = node.explain(text);
    expect(await page.locator("#ask .heat .word").allTextContents()).toEqual(tokens.map(({ token }) => token));
    expect(await page.locator("#ask .heat .against").count()).toBe(tokens.filter(({ share }) => share < 0).length);
    expect(await page.textContent("#ask .legend")).toContain(`for ${label}`);
    const others = Object.entries(scores)
      .slice(1)
      .map(([name, share]) => `${name}${percent(share)}`);
    expect(await page.locator("#ask .others li").allTextContents()).toEqual(others);
    expect(problems).toEqual([]);
  });

  test("shows that a text is rejected", async () => {
    const calibrator = await Calibrator.open(unpackModel(deployable, "demo.wasm"), "demo.wasm");
    calibrator.change(1, { score: 1, margin: 0, unknown_share: 1 });
    await choose("strict.wasm", await packModel(calibrator.file()));
    await until(async () => (await page.textContent("#ask .best")) === "None of its labels");
    expect(await page.locator("#ask .others li").count()).toBe(6);
  });

  test("all labels of a text that has several, and why it has any of them, or has it not", async () => {
    const several = await packModel((await trainSeveral()).write("int8"));
    await choose("several.wasm", several);
    await opened("3 labels");
    const text = "turn on the light and play some jazz";
    await page.fill("#text", text);
    const classifier = await Classifier.fromBytes(several, "several.wasm");
    const { labels, scores } = classifier.classify(text, 9);
    expect(labels!.length).toBe(2);
    const lines = (each: [string, number][]) => each.map(([name, share]) => `${name}${percent(share)}`);
    const shown = (list: string) => page.locator(`#ask ${list} li`).allTextContents();
    expect(await shown(".given")).toEqual(lines(labels!.map(({ label, score }) => [label, score])));
    expect(await shown(".others:not(.given)")).toEqual(lines(Object.entries(scores).slice(2)));
    for (const { label } of [...labels!, { label: Object.keys(scores)[2]! }].reverse()) {
      const press = page.locator("#ask .reason", { hasText: label });
      await press.click();
      expect(await page.textContent("#ask .legend")).toContain(`for ${label}`);
      const { tokens } = classifier.explain(text, label);
      expect(await page.locator("#ask .heat .against").count()).toBe(tokens.filter(({ share }) => share < 0).length);
      expect([await press.getAttribute("aria-pressed"), await page.locator("#ask [aria-pressed=true]").count()]).toEqual(["true", 1]); // prettier-ignore
      expect(await press.evaluate((found) => found === document.activeElement)).toBe(true);
    }
    await page.fill("#text", "good morning");
    expect(await page.textContent("#ask .best")).toBe("None of its labels");
    expect(await shown(".others")).toHaveLength(3);
    expect(problems).toEqual([]);
  });

  test("many labels are shown on request", async () => {
    const labelled = Array.from({ length: 90 }, (_, i) => ({
      label: `label ${i % 9}`,
      text: `text ${i % 9} of ${i}`,
      line: 1,
    }));
    const recipe = { ...DEFAULT_RECIPE, epochs: 1 };
    const trainer = await prepareTraining(labelled, [], recipe);
    trainer.start(recipe);
    runEpochs(trainer, 1, false, {});
    await choose("many.wasm", await packModel(trainer.write("int8")));
    await opened("9 labels");
    expect(await page.locator("#ask .others li").count()).toBe(6);
    await page.click("text=Show all 8");
    expect(await page.locator("#ask .others li").count()).toBe(8);
    await page.click("text=Show fewer");
    expect(await page.locator("#ask .others li").count()).toBe(6);
  });

  test("the keyboard changes sides", async () => {
    await page.focus("#try-tab");
    await page.keyboard.press("ArrowRight");
    expect([await page.isVisible("#train"), await page.isVisible("#try")]).toEqual([true, false]);
    expect(await page.evaluate("document.activeElement.id")).toBe("train-tab");
    await page.keyboard.press("ArrowLeft");
    expect([await page.isVisible("#train"), await page.isVisible("#try")]).toEqual([false, true]);
  });

  test("axe finds no violation, and nothing is wider than the screen", async () => {
    for (const colorScheme of ["light", "dark"] as const)
      for (const width of [1100, 360]) {
        const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
        const other = await context.newPage();
        await other.goto(server.url);
        await other.waitForSelector("#text:enabled");
        await other.evaluate(axe.source);
        for (const text of ["", "dim the lamp over the sofa", "lorem ipsum dolor sit amet", "a".repeat(2000)]) {
          await other.fill("#text", text);
          const { violations, passes } = (await other.evaluate("axe.run()")) as axe.AxeResults;
          expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
          expect(passes.map(({ id }) => id)).toContain("color-contrast");
          expect(await other.evaluate("document.documentElement.scrollWidth")).toBe(width);
        }
        await context.close();
      }
  });
});
