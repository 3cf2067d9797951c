// Labels with levels: what a model that answers parents says on the command line, in wasmtime and in the library, the
// figures by level, and each command that meets such an answer.
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
import { openModel } from "../../host/model/file.ts";
import { edgelabel, json, SMALL } from "../support/program.ts";
import { trainSeveral } from "../support/models.ts";
import { describeWasmtime, runWasmtime } from "../support/wasmtime.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-levels-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const ROOMS = ["kitchen", "hall", "attic", "garden", "cellar"];
const POLITE = ["please", "now", "will you", "today", "again", "at once"];
/** What a text of each label says; the doubtful ones leave out what tells the two lowest levels, or only the lowest, apart. */
const PHRASES: Record<string, string> = {
  "home/light/on": "lamp brighten",
  "home/light/off": "lamp darken",
  "home/heat/up": "radiator warmer",
  "home/heat/down": "radiator colder",
  "music/play": "song start",
  "music/stop": "song silence",
};
const texts = Object.entries(PHRASES).flatMap(([label, phrase]) =>
  ROOMS.flatMap((room) => POLITE.map((word) => ({ label, text: `${word} ${room} ${phrase}` }))),
);
const doubtful = ["home/light/on\tlamp", "home/light/off\tlamp kitchen", "home/heat/up\tradiator", "home/light/on\tlamp radiator", "music/play\tsong"]; // prettier-ignore

beforeAll(async () => {
  const lines = texts.map(({ label, text }) => `${label}\t${text}\n`);
  writeFileSync(at("train.tsv"), lines.filter((_, i) => i % 5 !== 0).join(""));
  writeFileSync(at("valid.tsv"), lines.filter((_, i) => i % 5 === 0).join(""));
  writeFileSync(at("test.tsv"), `${lines.filter((_, i) => i % 15 === 0).join("")}${doubtful.join("\n")}\n`);
  await json("train", at("train.tsv"), "--valid", at("valid.tsv"), "-o", at("plain.elb"), ...SMALL);
  await json("calibrate", at("plain.elb"), at("valid.tsv"), "--levels", "0.9", "-o", at("m.elb"));
  await json("pack", at("m.elb"), "-o", at("m.wasm"));
}, 120_000);

const inputs = (): string[] =>
  readFileSync(at("test.tsv"), "utf8").trimEnd().split("\n").map((line) => line.split("\t")[1]!); // prettier-ignore

/** What a model without levels says, made into what the same model with levels must say. */
function expected(scores: Record<string, number>, least: number): { label: string; score: number } {
  const [best, score] = Object.entries(scores)[0]!;
  if (score >= least) return { label: best, score };
  const path = best.split("/");
  let answer = { label: best, score };
  while (path.length > 1) {
    path.pop();
    const parent = path.join("/");
    const under = Object.entries(scores).filter(([label]) => label === parent || label.startsWith(`${parent}/`));
    answer = { label: parent, score: under.reduce((sum, [, each]) => sum + each, 0) };
    if (answer.score >= least) break;
  }
  return answer;
}

test("the answer is the label, or the nearest parent that reaches the score", async () => {
  const [plain, levelled] = [await openModel(at("plain.elb")), await openModel(at("m.elb"))];
  expect(levelled.info.levels).toBe(0.9);
  expect(plain.info.levels).toBeUndefined();
  const depths = new Set<string>();
  for (const text of inputs()) {
    const { scores } = levelled.classify(text, 0);
    expect(scores).toEqual(plain.classify(text, 0).scores);
    const answer = levelled.classify(text);
    const { label, score } = expected(scores, 0.9);
    expect(answer.label, text).toBe(label);
    expect(answer.score).toBeCloseTo(score, 5);
    expect(Object.keys(answer.scores)).toEqual([Object.keys(scores)[0]]);
    depths.add(PHRASES[label] === undefined ? label : "label");
  }
  expect([...depths]).toEqual(expect.arrayContaining(["label", "home/light", "music"]));
});

describeWasmtime("in wasmtime", (wasmtime) => {
  test.each([[[]], [["--json"]], [["--top", "3"]], [["--json", "--top", "2"]]])(
    "the same bytes: %j",
    async (args: string[]) => {
      const lines = `${inputs().join("\n")}\n`;
      const { stdout, code } = await edgelabel(["predict", at("m.wasm"), ...args], lines);
      expect(code).toBe(0);
      expect(runWasmtime(wasmtime, at("m.wasm"), args, lines).stdout.toString()).toBe(stdout);
      expect(stdout).toContain("home/light" + (args[0] === "--json" ? '"' : "\t"));
    },
  );
});

test("eval: figures by level; a parent is wrong as a label and right up to its level", async () => {
  const figures = await json("eval", at("m.elb"), at("test.tsv"));
  const model = await openModel(at("m.elb"));
  const pairs = readFileSync(at("test.tsv"), "utf8").trimEnd().split("\n").map((line) => {
    const [truth, text] = line.split("\t") as [string, string];
    return [truth.split("/"), model.classify(text).label!.split("/")] as const;
  }); // prettier-ignore
  const share = (isRight: (truth: readonly string[], answer: readonly string[]) => boolean): number =>
    pairs.filter(([truth, answer]) => isRight(truth, answer)).length / pairs.length;
  const upTo = [1, 2, 3].map((n) => share((truth, answer) => truth.slice(0, n).join() === answer.slice(0, n).join()));
  expect(figures.level_accuracy).toEqual(upTo);
  expect(figures.accuracy).toBe(upTo[2]);
  expect(figures.path_accuracy).toBe(share((truth, answer) => `${truth.join()},`.startsWith(`${answer.join()},`)));
  expect(upTo[0]).toBeGreaterThan(upTo[2]!);
  // A parent is neither a label that the model lacks nor one of those that are averaged.
  expect(figures.unknown_labels).toEqual([]);
  expect(figures.labels).toContain("home/light");
  const { stdout, stderr, code } = await edgelabel(["eval", at("m.elb"), at("test.tsv"), "--curve", "--errors", at("errors.tsv"), "--report", at("report.html")]); // prettier-ignore
  expect([code, stderr]).toEqual([0, ""]);
  for (const [i, accuracy] of upTo.entries())
    expect(stdout).toMatch(new RegExp(`^to level ${i + 1} .* ${accuracy.toFixed(4)} `, "m"));
  expect(stdout).toMatch(/^on the path /m);
  expect(stdout).toMatch(/home\/light\/o.* → home\/light$/m);
  expect(readFileSync(at("errors.tsv"), "utf8")).toContain("home/light\t");
  expect((await edgelabel(["eval", at("plain.elb"), at("m.elb"), at("test.tsv")])).code).toBe(0);
});

test("info and explain; calibrate keeps it only when told; learn keeps it", async () => {
  expect((await edgelabel(["info", at("m.wasm")])).stdout).toContain(
    "parent: instead of a label with a score below 0.900",
  );
  expect((await edgelabel(["explain", at("m.wasm"), "lamp"])).code).toBe(0);
  await json("calibrate", at("m.elb"), at("valid.tsv"), "-o", at("off.elb"));
  expect((await openModel(at("off.elb"))).info.levels).toBeUndefined();
  const { stdout } = await edgelabel(["calibrate", at("m.elb"), at("valid.tsv"), "--levels", "0.75", "--unknown", "0.05", "-o", at("both.wasm")]); // prettier-ignore
  expect(stdout).toContain("parent: instead of a label with a score below 0.750\n");
  writeFileSync(at("corrections.tsv"), "music/stop\thush\nmusic/stop\thush now\n");
  copyFileSync(at("m.elb"), at("next.elb"));
  const learnt = await json("learn", at("next.elb"), "--corrections", at("corrections.tsv"), "--data", at("train.tsv"), "--valid", at("valid.tsv")); // prettier-ignore
  expect(learnt).toMatchObject({ accepted: true, calibration: { levels: 0.9 } });
  expect((await openModel(at("next.elb"))).info.levels).toBe(0.9);
}, 120_000);

test("models that cannot have it are refused, with the reason", async () => {
  const several = (await trainSeveral({ epochs: 1 })).write("f32");
  expect((await Classifier.fromBytes(several, "several")).info.multi_label).toBe(true);
  writeFileSync(at("several.elb"), several);
  writeFileSync(at("flat.tsv"), texts.map(({ label, text }) => `${label.replaceAll("/", "-")}\t${text}\n`).join(""));
  await json("train", at("flat.tsv"), "-o", at("flat.elb"), "--set", "units=4", "--epochs", "1");
  for (const [model, reason] of [
    ["several", "it gives several labels a text"],
    ["flat", "none of its labels has one"],
  ] as const) {
    // prettier-ignore
    const refused = await edgelabel(["calibrate", at(`${model}.elb`), at("flat.tsv"), "--levels", "0.8", "-o", at("x.elb")]); // prettier-ignore
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`cannot answer with a parent: ${reason}`),
    });
  }
  const beyond = await edgelabel(["calibrate", at("plain.elb"), at("valid.tsv"), "--levels", "1.5", "-o", at("x.elb")]);
  expect(beyond.stderr).toContain("a number from 0 to 1");
});
