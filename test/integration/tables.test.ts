// `predict --in … --out …` as a user runs it.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readDataset } from "../../host/data/read.ts";
import { tinyDeployable } from "../support/models.ts";
import { edgelabel, main, startProgram } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-tables-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const model = at("tiny.wasm");

beforeAll(async () => writeFileSync(model, await tinyDeployable()));

test("100,000 rows: they and their order are the same, in a heap that the table would not fit in", async () => {
  const texts = ["turn the lamp on", "stop, the music", "打 rain \ntoday", 'say ""song""'];
  const rows = Array.from({ length: 100_000 }, (_, i) => `${i};"${texts[i % 4]}";${"x".repeat(i % 400)}\r\n`);
  writeFileSync(at("calls.csv"), `\ufeffid;body;note\r\n${rows.join("")}`);
  const args = ["predict", model, "--in", at("calls.csv"), "--text-column", "body", "--out", at("labelled.csv")];
  const running = startProgram(process.execPath, ["--max-old-space-size=24", main, ...args]);
  expect({ code: await running.ended, output: running.output() }).toEqual({
    code: 0,
    output: `${at("labelled.csv")}: 100000 texts\n`,
  });
  const added = await Promise.all(
    texts.map(async (text) => {
      // As a message of several lines it is one text.
      const { stdout } = await edgelabel(["predict", model, text.replaceAll('""', '"')]);
      return stdout.trimEnd().replace("\t", ";");
    }),
  );
  expect(new Set(added.map((each) => each.split(";")[0])).size).toBeGreaterThan(1);
  const expected = rows.map((row, i) => row.replace(/\r\n$/, `;${added[i % 4]}\r\n`));
  // Not as an expectation of two long strings, whose difference would take minutes to show.
  const written = readFileSync(at("labelled.csv"), "utf8");
  expect(written === `\ufeffid;body;note;label;score\r\n${expected.join("")}`).toBe(true);
});

test("--workers: the same bytes, of lines and of tables", async () => {
  const lines = Array.from({ length: 20_000 }, (_, i) => `turn the lamp ${i % 7 ? "on" : "off"} ${"x".repeat(i % 90)}`);
  const input = `\ufeff${lines.join("\n")}`;
  writeFileSync(at("many.tsv"), `text\n${lines.join("\n")}\n`);
  for (const args of [
    ["--top", "2"],
    ["--in", at("many.tsv")],
  ]) {
    const one = await edgelabel(["predict", model, ...args], input);
    const three = await edgelabel(["predict", model, ...args, "--workers", "3"], input);
    expect({ code: three.code, stderr: three.stderr, length: three.stdout.length }).toEqual({
      code: 0,
      stderr: "",
      length: one.stdout.length,
    });
    expect(three.stdout === one.stdout).toBe(true);
    expect(three.stdout.split("\n").length).toBe(args[0] === "--in" ? 20_002 : 20_001);
  }
  expect(await edgelabel(["predict", model, "--workers", "2", "a text"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--workers is for lines of standard input and tables"),
  });
});

test("standard input to standard output", async () => {
  const { code, stdout } = await edgelabel(
    ["predict", model, "--in", "-", "--format", "jsonl"],
    '{"text":"turn the \\u001b lamp on"}\n',
  );
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^\{"text":"turn the \\u001b lamp on","label":"light","score":0\.\d{1,6}\}\n$/),
  });
});

test("a malformed table leaves nothing behind, and no older file is touched", async () => {
  writeFileSync(at("bad.csv"), "text,n\na,1\nb\n");
  writeFileSync(at("old.csv"), "old");
  const { code, stdout, stderr } = await edgelabel(["predict", model, "--in", at("bad.csv"), "--out", at("old.csv")]);
  expect({ code, stdout, stderr }).toEqual({
    code: 1,
    stdout: "",
    stderr: `edgelabel: ${at("bad.csv")}: line 3: 1 fields where the header has 2\n`,
  });
  expect(readFileSync(at("old.csv"), "utf8")).toBe("old");
  expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

test.each([
  [["--out", "x.csv"], "error: --out needs a table; give it with --in\n"],
  [["--text-column", "a"], "error: --text-column needs a table; give it with --in\n"],
  [
    ["--in", "x.csv", "--json"],
    "error: --in adds label and score to a table; it takes no texts, no --json and no --top\n",
  ],
  [
    ["--in", "x.csv", "text"],
    "error: --in adds label and score to a table; it takes no texts, no --json and no --top\n",
  ],
  [["--in", "x.csv", "--out", "./x.csv"], "error: --out would overwrite the table; choose another name\n"],
])("%j is misuse", async (args, stderr) => {
  expect(await edgelabel(["predict", model, ...args])).toMatchObject({ code: 2, stdout: "", stderr });
});

test("a file that is not there, or that cannot be written, is named before anything is done", async () => {
  expect(await edgelabel(["predict", model, "--in", at("none.csv"), "--out", at("x.csv")])).toMatchObject({
    code: 1,
    stderr: `edgelabel: ${at("none.csv")}: no such file\n`,
  });
  expect(await edgelabel(["predict", model, "--in", at("none.csv"), "--out", at("no/x.csv")])).toMatchObject({
    code: 1,
    stderr: `edgelabel: ${at("no/x.csv")}: cannot be written (no folder ${at("no")})\n`,
  });
});

describe("data --split", () => {
  const texts = Array.from({ length: 100 }, (_, i) => ({
    label: i % 4 === 0 ? "rare, or so" : "often",
    text: `text "${i}",\nof ${i}`,
  }));
  const lines = [...texts, texts[0]!].map((each) => JSON.stringify(each)).join("\n");
  const split = (name: string, ...options: string[]) =>
    edgelabel(["data", at("all.jsonl"), "--split", "80/10/10", "-o", at(name), ...options]);
  const read = async (name: string) =>
    Promise.all(["train", "valid", "test"].map((part) => readDataset([at(`${name}/${part}.csv`)])));

  test("parts each label, keeps every text once and as it was, and equal ones together", async () => {
    writeFileSync(at("all.jsonl"), lines);
    const { code, stdout } = await split("parts");
    const parts = await read("parts");
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: ["train", "valid", "test"]
        .map((part, i) => `${at("parts")}/${part}.csv: ${parts[i]!.length} texts, 2 labels\n`)
        .join(""),
    });
    const pairs = parts.flat().map(({ label, text }) => JSON.stringify({ label, text }));
    expect(pairs.sort()).toEqual(lines.split("\n").sort());
    const sizes = parts.map((part) => part.filter(({ label }) => label === "often").length);
    expect(sizes.map((size) => Math.abs(size - [60, 7.5, 7.5][sizes.indexOf(size)]!) <= 1)).toEqual([true, true, true]);
    const twice = parts.map((part) => part.filter(({ text }) => text === texts[0]!.text).length);
    expect([...twice].sort()).toEqual([0, 0, 2]);
  });
  test("is the same with the same seed, another with another, and overwrites nothing", async () => {
    await split("again");
    await split("other", "--seed", "1");
    expect(await read("again")).toEqual(await read("parts"));
    expect(await read("other")).not.toEqual(await read("parts"));
    expect(await split("parts")).toMatchObject({
      code: 1,
      stderr: `edgelabel: ${at("parts")}/train.csv: is there already; choose another folder with -o\n`,
    });
  });
  test("writes no file for a part of 0 %, and takes percentages only", async () => {
    const { stdout } = await edgelabel(["data", at("all.jsonl"), "--split", "80/0/20", "-o", at("two")]);
    expect(stdout.trimEnd().split("\n")).toHaveLength(2);
    expect(readdirSync(at("two")).sort()).toEqual(["test.csv", "train.csv"]);
    for (const shares of ["80/10", "80/10/11", "0/50/50", "a/b/c", "80/10/-10"])
      expect(await edgelabel(["data", at("all.jsonl"), "--split", shares])).toMatchObject({ code: 2, stdout: "" });
    expect(await edgelabel(["data", at("all.jsonl"), "-o", at("x")])).toMatchObject({ code: 2 });
  });
});
