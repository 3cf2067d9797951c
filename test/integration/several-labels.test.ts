// Several labels a text on the command line: data in every format, training, figures, and each command that meets such a
// model or such texts, or why it does not.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Seeded } from "../support/models.ts";
import { edgelabel, json } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-several-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const SMALL = [
  "--epochs",
  "4",
  "--set",
  "min-agreement=0.9",
  "--set",
  "units=8",
  "--set",
  "embedding-dim=8",
  "--set",
  "ngram-buckets=64",
];
const WORDS = { food: ["soup", "bread"], money: ["bank", "loan"], sport: ["ball", "team"], travel: ["train", "hotel"] };
const FILLERS = ["the", "a", "today", "please", "we", "want", "with", "for", "my", "is"];

interface Made {
  labels: string[];
  text: string;
}

/** Texts with none to four labels, each of which one of its words names, except for every tenth text. */
function make(count: number, seed: number): Made[] {
  const random = new Seeded(seed);
  const names = Object.keys(WORDS) as (keyof typeof WORDS)[];
  return Array.from({ length: count }, () => {
    const labels = names.filter(() => random.below(10) < 3);
    const fillers = Array.from({ length: 3 + random.below(4) }, () => FILLERS[random.below(10)]!);
    const words = [...fillers, ...labels.map((label) => WORDS[label][random.below(2)]!)];
    const text = words.map((word) => ({ word, key: random.below(1000) })).sort((a, b) => a.key - b.key).map(({ word }) => word).join(" "); // prettier-ignore
    return { labels: random.below(10) === 0 ? names.slice(0, random.below(2)) : labels, text };
  });
}

const asJson = (made: Made[]): string => made.map(({ labels, text }) => `${JSON.stringify({ text, label: labels })}\n`).join(""); // prettier-ignore

beforeAll(async () => {
  const [training, valid, sole] = [make(320, 1), make(80, 2), make(200, 3).filter(({ labels }) => labels.length === 1)];
  writeFileSync(at("train.jsonl"), asJson(training));
  writeFileSync(at("valid.jsonl"), asJson(valid));
  writeFileSync(at("train.ft"), training.map(({ labels, text }) => `${[...labels.map((label) => `__label__${label}`), text].join(" ")}\n`).join("")); // prettier-ignore
  writeFileSync(at("train.csv"), `text,label\n${training.map(({ labels, text }) => `${text},${labels.join("|")}\n`).join("")}`); // prettier-ignore
  writeFileSync(at("sole.tsv"), sole.map(({ labels, text }) => `${labels.join()}\t${text}\n`).join(""));
  // No text of it has more than one label.
  writeFileSync(at("few.jsonl"), asJson(valid.filter(({ labels }) => labels.length < 2)));
  await json("train", at("train.jsonl"), "--valid", at("valid.jsonl"), "-o", at("m.elb"), ...SMALL);
  await json("pack", at("m.elb"), "-o", at("m.wasm"));
  await json("train", at("sole.tsv"), "-o", at("sole.elb"), ...SMALL);
});

describe("training", () => {
  test("all formats give the same bits, and figures have their names", async () => {
    const train = (data: string, ...more: string[]) =>
      edgelabel(["train", at(data), "-o", at("same.wasm"), "--name", "same", ...SMALL, ...more]);
    const outcome = await train("train.jsonl", "--folds", "2", "--chart", at("chart.svg"));
    expect(outcome).toMatchObject({ code: 0, stderr: expect.stringContaining("10 % of the texts are kept aside") });
    expect(outcome.stdout).toMatch(
      /from 28\d texts[^]*exact match [\d.]+ % while training\nvalidation: micro F1 0\.\d{4}, macro F1 0\.\d{4}, exact match [^]*2 folds: micro F1 0\.\d{4}, exact match/,
    );
    expect(outcome.stdout).not.toContain("accuracy");
    expect(readFileSync(at("chart.svg"), "utf8")).toContain("exact match");
    const bytes = readFileSync(at("same.wasm"));
    for (const [data, ...args] of [["train.ft"], ["train.csv", "--label-separator", "|"]]) {
      expect((await train(data!, ...args)).code).toBe(0);
      expect(readFileSync(at("same.wasm")).equals(bytes), data).toBe(true);
    }
  });
  test("the linear part alone, two workers and tuning", async () => {
    const figures = async (...args: string[]) =>
      (await json("train", at("train.jsonl"), "--valid", at("valid.jsonl"), "-o", at("x.wasm"), ...args)).validated;
    expect((await figures("--recipe", "linear")).micro_f1).toBeGreaterThan(0.8);
    expect((await figures("--workers", "2", ...SMALL)).micro_f1).toBeGreaterThan(0.8);
    const tuned = await edgelabel(["train", at("train.jsonl"), "-o", at("x.wasm"), "--tune", "2", ...SMALL]);
    expect(tuned.stdout).toMatch(/2 trials[^]* exact match +size/);
  });
  test.each([
    [["--unknown", "0.1", "--valid", "valid.jsonl"], "a text that fits none gets none"],
    [["--recipe", "tutorial"], "one sigmoid unit tells 2 labels apart; set binary-output=false"],
    [["--set", "class-weight=balanced"], "class weights are for one"],
    [["--set", "loss=categorical_crossentropy"], "the loss categorical_crossentropy is for one"],
  ])("%s: says why not", async (args, why) => {
    const { code, stderr } = await edgelabel([
      ...["train", at("train.jsonl"), "-o", at("none.wasm")],
      ...args.map((arg) => (arg === "valid.jsonl" ? at(arg) : arg)),
    ]);
    expect({ code, isThere: existsSync(at("none.wasm")) }).toEqual({ code: 1, isThere: false });
    expect(stderr).toContain(why);
  });
});

test("eval: a table, a report without a confusion matrix, the wrong answers, a comparison", async () => {
  const outcome = await edgelabel([
    ...["eval", at("m.wasm"), at("few.jsonl"), "--curve"],
    ...["--errors", at("errors.tsv"), "--report", at("report.html")],
  ]);
  expect(outcome).toMatchObject({ code: 0, stderr: "" });
  expect(outcome.stdout).toMatch(
    /\nexact match [^]*\nmicro [^]*share of best labels that are right[^]*gives each label/,
  );
  const page = readFileSync(at("report.html"), "utf8");
  expect(page).toContain("<dt>exact match</dt>");
  expect(page).toContain("<dt>micro F1</dt>");
  expect(page).not.toContain("Confusion");
  writeFileSync(at("wrong.jsonl"), '{"text":"soup and bread today","label":[]}\n{"text":"we want my hotel","label":["food","money"]}\n'); // prettier-ignore
  await edgelabel(["eval", at("m.wasm"), at("wrong.jsonl"), "--errors", at("errors.tsv")]);
  const rows = readFileSync(at("errors.tsv"), "utf8").trim().split("\n").map((line) => line.split("\t")); // prettier-ignore
  expect(rows.slice(1).map(([, line, truth, answer]) => [line, truth, answer]).sort()).toEqual([
    ["1", "?", "food"],
    ["2", "food, money", "travel"],
  ]); // prettier-ignore
  // All objects have something of this name.
  writeFileSync(at("odd.jsonl"), '{"text":"my bank","label":["constructor"]}\n{"text":"my bank","label":["money"]}\n');
  await edgelabel(["eval", at("m.wasm"), at("odd.jsonl"), "--report", at("report.html")]);
  expect(readFileSync(at("report.html"), "utf8")).toMatch(/<td>2<\/td><td>[01]\.\d{3}<\/td><td>0\.500<\/td>/);
  const { models } = await json("eval", at("m.wasm"), at("sole.elb"), at("valid.jsonl"));
  const { micro_f1, accuracy } = await json("eval", at("m.wasm"), at("valid.jsonl"));
  expect(models[0]).toMatchObject({ micro_f1, accuracy });
  expect(models[1]).not.toHaveProperty("micro_f1");
  expect(models[1].accuracy).toBeLessThan(accuracy);
});

test("predict: lines, JSON, and a table with a list in a cell", async () => {
  const texts = ["soup from the bank", "the today we"];
  expect((await edgelabel(["predict", at("m.wasm"), ...texts])).stdout).toMatch(
    /^(food\t0\.\d+\tmoney|money\t0\.\d+\tfood)\t0\.\d+\n\?\t0\.\d+\n$/,
  );
  const answers = (await edgelabel(["predict", at("m.wasm"), "--json", ...texts])).stdout.trim().split("\n");
  expect(answers.map((line) => JSON.parse(line).labels.length)).toEqual([2, 0]);
  writeFileSync(at("in.csv"), `text\n${texts.join("\n")}\n`);
  const { stdout } = await edgelabel(["predict", at("m.wasm"), "--in", at("in.csv")]);
  expect(stdout).toMatch(/^text,.*\nsoup from the bank,"\[""\w+"",""\w+""\]",0\.\d+\nthe today we,\[\],0\.\d+\n$/);
});

test("info, export, quantize, calibrate, explain and data", async () => {
  expect((await edgelabel(["info", at("m.wasm")])).stdout).toMatch(/each label with a score of 0\.\d{4} or more/);
  mkdirSync(at("onnx"));
  const { left_out: left } = await json("export", at("m.elb"), "-o", at("onnx/m.onnx"));
  expect(left.join()).toMatch(/the threshold for several labels: a text has each label with a score of 0\.\d{4}/);
  const { agreement } = await json("quantize", at("m.elb"), "--data", at("few.jsonl"), "-o", at("q.wasm"));
  expect(agreement.top1).toBeGreaterThan(0.9);
  const { multi_label: isMultiLabel, reject } = await json("calibrate", at("m.wasm"), at("few.jsonl"), "-o", at("c.wasm")); // prettier-ignore
  expect(isMultiLabel).toBe(true);
  expect((await json("info", at("c.wasm"))).reject.score).toBeCloseTo(reject.score, 6);
  const { label, tokens } = await json("explain", at("m.wasm"), "soup from the bank", "--label", "money");
  expect(label).toBe("money");
  expect(tokens.find(({ token }: { token: string }) => token === "bank").share).toBeGreaterThan(0.3);
  const report = await json("data", at("train.jsonl"));
  expect(report.several.none).toBeGreaterThan(0);
  await edgelabel(["data", at("train.csv"), "--label-separator", "|", "--split", "80/10/10", "-o", at("parts")]);
  const parts = await Promise.all(["train", "valid", "test"].map((part) => json("data", at(`parts/${part}.csv`))));
  expect(parts.reduce((sum, { texts }) => sum + texts, 0)).toBe(report.texts);
});

test("prune, and a run in parts", async () => {
  const report = await json("prune", at("m.elb"), at("train.jsonl"), "--valid", at("few.jsonl"), "-o", at("p.wasm"), "--units", "4"); // prettier-ignore
  expect(report.calibration.multi_label).toBe(true);
  expect(report.after.accuracy).toBeGreaterThan(report.before.accuracy - 0.05);
  const train = (...args: string[]) => json("train", at("train.jsonl"), "--valid", at("valid.jsonl"), ...args);
  await train("-o", at("whole.wasm"), "--name", "run", ...SMALL);
  await train("-o", at("part.elb"), "--name", "run", ...SMALL, "--stop-after", "2");
  await train("-o", at("rest.wasm"), "--resume", at("part.elb"));
  expect(readFileSync(at("rest.wasm")).equals(readFileSync(at("whole.wasm")))).toBe(true);
});

test("learn takes all labels of a text from a correction, also none and new ones", async () => {
  const corrections = [
    { text: "a zebra is here today", label: ["food", "travel"] },
    { text: "the yak and a gnu", label: [] },
    { text: "my okapi", label: ["zoo", "sport"] },
  ];
  writeFileSync(at("fixes.jsonl"), corrections.map((each) => `${JSON.stringify(each)}\n`).join(""));
  // Held-out texts on which an answer gets better by what is learnt.
  const held = [
    { text: "we want my zebra", labels: ["food", "travel"] },
    { text: "the okapi is please", labels: ["sport", "zoo"] },
  ];
  writeFileSync(at("held.jsonl"), readFileSync(at("few.jsonl"), "utf8") + asJson(held));
  writeFileSync(at("learnt.elb"), readFileSync(at("m.elb")));
  const learn = (...args: string[]) =>
    json("learn", at("learnt.elb"), "--data", at("train.jsonl"), "--valid", at("held.jsonl"), ...args);
  const report = await learn("--corrections", at("fixes.jsonl"), "--new-labels", "-o", at("learnt.wasm"));
  expect(report).toMatchObject({ accepted: true, new_labels: ["zoo"], corrections: 3 });
  expect(report.after.corrected).toBeGreaterThan(report.before.corrected);
  // As they were given, so that they are learnt again with the next ones.
  const journal = readFileSync(at("learnt.corrections.jsonl"), "utf8").trim().split("\n");
  expect(journal.map((line) => JSON.parse(line).label)).toEqual([["food", "travel"], [], ["zoo", "sport"].sort()]);
  writeFileSync(at("none.jsonl"), '{"text":"nothing of it","label":[]}\n');
  expect((await learn("--corrections", at("none.jsonl"), "--new-labels")).corrections).toBe(4);
});

test.each([
  ["eval", ["sole.elb", "valid.jsonl"]],
  ["prune", ["sole.elb", "train.jsonl", "--valid", "valid.jsonl", "-o", "x.wasm", "--units", "4"]],
  ["calibrate", ["sole.elb", "valid.jsonl", "-o", "x.wasm"]],
  ["learn", ["sole.elb", "--corrections", "valid.jsonl", "--data", "sole.tsv", "--valid", "sole.tsv"]],
])("%s refuses such texts for a model that gives one label", async (command, args) => {
  const { code, stderr } = await edgelabel([command, ...args.map((arg) => (/\.\w+$/.test(arg) ? at(arg) : arg))]);
  expect(code).toBe(1);
  expect(stderr).toContain("some texts have several labels, or none, but the model gives one");
  expect(existsSync(at("sole.corrections.jsonl"))).toBe(false);
});
