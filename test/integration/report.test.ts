// `eval --errors` and `eval --report` as a user runs them, and the page as a browser and axe see it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import axe from "axe-core";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium } from "../support/chromium.ts";
import { samples, tinyDeployable } from "../support/models.ts";
import { edgelabel, SMALL } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-report-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

let outcome: Awaited<ReturnType<typeof edgelabel>>;
beforeAll(async () => {
  writeFileSync(at("tiny.wasm"), await tinyDeployable());
  writeFileSync(at("right.tsv"), samples.map(({ label, text }) => `${label}\t${text}\n`).join(""));
  const wrong = ["stop the music <img src=x onerror=alert(1)>", "play some\u001b[31m jazz\there"];
  writeFileSync(at("wrong.tsv"), `music\tplay my rock list\n${wrong.map((text) => `<b>odd</b>\t${text}\n`).join("")}`);
  outcome = await edgelabel([
    ...["eval", at("tiny.wasm"), at("right.tsv"), at("wrong.tsv")],
    ...["--errors", at("errors.tsv"), "--report", at("report.html")],
  ]);
});

test("the wrong texts have their places, the most confident answers first", () => {
  expect(outcome.code).toBe(0);
  const [head, ...rows] = readFileSync(at("errors.tsv"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
  expect(head).toEqual(["file", "line", "truth", "answer", "score", "text"]);
  expect(rows.every((row) => row.length === 6)).toBe(true);
  const odd = rows.filter(([, , truth]) => truth === "<b>odd</b>");
  expect(odd.map(([file, line, , answer]) => [file, line, answer]).sort()).toEqual([
    [at("wrong.tsv"), "2", "music"],
    [at("wrong.tsv"), "3", "music"],
  ]);
  expect(odd.map((row) => row[5]!).sort()).toEqual([
    "play some\ufffd[31m jazz here",
    "stop the music <img src=x onerror=alert(1)>",
  ]);
  const scores = rows.map((row) => Number(row[4]));
  expect(scores).toEqual([...scores].sort((a, b) => b - a));
});

test("the terminal has the matrix", () => {
  const matrix = outcome.stdout.split("true labels (rows) and answers (columns):\n")[1]!.split("\n").slice(0, 5);
  expect(matrix).toEqual([
    "                1   2   3   4",
    " 1 light        6   ·   ·   ·",
    " 2 music        ·   7   ·   ·",
    " 3 weather      ·   ·   6   ·",
    " 4 <b>odd</b>   ·   2   ·   ·",
  ]);
});

test("the page needs nothing else, and is refused under another name", async () => {
  const page = readFileSync(at("report.html"), "utf8");
  expect(page).not.toMatch(/<script|<link|<img|\bsrc=(?!x onerror)|url\(|https?:/);
  expect(page).toContain("default-src 'none'");
  expect(page).toContain("stop");
  const { code, stderr } = await edgelabel(["eval", at("tiny.wasm"), at("right.tsv"), "--report", at("page.txt")]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("its name must end in .html.")]);
});

test("two models are compared on the same texts", async () => {
  const labels = { light: "a", music: "b", weather: "c" };
  writeFileSync(
    at("other.tsv"),
    samples.map(({ label, text }) => `${labels[label as keyof typeof labels]}\t${text}\n`).join(""),
  );
  const trained = await edgelabel(["train", at("other.tsv"), "-o", at("other.wasm"), ...SMALL]);
  expect(trained.code).toBe(0);
  const { code, stdout } = await edgelabel(["eval", at("other.wasm"), at("tiny.wasm"), at("right.tsv")]);
  expect(code).toBe(0);
  expect(stdout).toContain(
    `${at("tiny.wasm")} is right on ${samples.length} more texts (100.00 points). That is more than chance`,
  );
  const json = await edgelabel(["eval", at("tiny.wasm"), at("tiny.wasm"), at("right.tsv"), "--json"]);
  expect(JSON.parse(json.stdout)).toMatchObject({
    n: samples.length,
    both: samples.length,
    neither: 0,
    difference: 0,
    p: 1,
  });
  for (const [args, problem] of [
    [["eval", "a.wasm", "b.wasm"], "missing argument 'data'; eval A B compares two models on labelled texts"],
    [["eval", "a.wasm", "b.wasm", at("right.tsv"), "--curve"], "--curve is for one model"],
  ] as const) {
    const { code: refused, stderr } = await edgelabel([...args]);
    expect([refused, stderr]).toEqual([2, expect.stringContaining(problem)]);
  }
});

test("all answers right: the page says that there are no others", async () => {
  const { code } = await edgelabel(["eval", at("tiny.wasm"), at("right.tsv"), "--report", at("fine.html")]);
  expect(code).toBe(0);
  expect(readFileSync(at("fine.html"), "utf8")).toContain("<p>There are none.</p>");
});

const executablePath = findChromium();
describe.skipIf(executablePath === undefined)("in Chromium", () => {
  test("axe finds no violation, and the page fits, on a desk and on a phone, light and dark", async () => {
    const browser = await chromium.launch({ executablePath: executablePath!, args: ["--no-sandbox"] });
    try {
      for (const colorScheme of ["light", "dark"] as const)
        for (const width of [1100, 390]) {
          // The page's own policy would keep axe out.
          const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
          const page = await context.newPage();
          const said: string[] = [];
          page.on("console", (message) => said.push(message.text()));
          page.on("request", (request) => said.push(request.url()));
          await page.goto(pathToFileURL(at("report.html")).href);
          await page.addScriptTag({ content: axe.source });
          const { violations, passes } = await page.evaluate<axe.AxeResults>("axe.run()");
          expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
          expect(passes.map(({ id }) => id)).toContain("color-contrast");
          expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
          expect(await page.locator("ol li").count()).toBe(2);
          expect(said).toEqual([pathToFileURL(at("report.html")).href]);
          await context.close();
        }
    } finally {
      await browser.close();
    }
  }, 300_000);
});
