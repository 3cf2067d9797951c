// train() and what can be done with its result: the command line's bytes, from objects instead of files.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { split } from "../../../host/data/split.ts";
import {
  calibrate,
  crossValidate,
  type EpochReport,
  type TrainOptions,
  learn,
  open,
  pack,
  parse,
  quantize,
  train,
} from "../../../host/index.ts";
import { edgelabel, json, LAMPS } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-library-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const texts = LAMPS.map((line) => {
  const [label, text] = line.trim().split("\t");
  return { label: label!, text: text! };
});
const valid = texts.slice(0, 12).map(({ label, text }) => ({ label, text: `${text} now` }));
const samples = texts.map((each, i) => ({ ...each, line: i + 1 }));
const lines = (samples: { label: string; text: string }[]) =>
  samples.map(({ label, text }) => `${label}\t${text}\n`).join("");
const VECTORS = [...new Set(texts.flatMap(({ text }) => text.toLowerCase().split(" ")))]
  .map((word, i) => `${word} ${Math.sin(i)} ${Math.cos(3 * i)} ${i % 5}\n`)
  .join("");
async function* wordVectors(): AsyncGenerator<Uint8Array> {
  yield new TextEncoder().encode(VECTORS);
}
const SMALL = { epochs: 2, embeddingDim: 8, units: 4 };
const SMALL_FLAGS = ["--epochs", "2", "--set", "embedding-dim=8", "--set", "units=4"];

beforeAll(() => {
  writeFileSync(at("data.tsv"), lines(texts));
  writeFileSync(at("valid.tsv"), lines(valid));
  writeFileSync(at("vectors.txt.gz"), gzipSync(VECTORS));
});

async function run(...args: string[]): Promise<void> {
  const { code, stderr } = await edgelabel(args);
  expect(code, stderr).toBe(0);
}

describe("gives the bytes of the command line", () => {
  test.each<[string, object, string[]]>([
    ["as it is", {}, []],
    [
      "with settings",
      { seed: 7, clean: ["urls", "numbers"], maxlen: 9 },
      ["--seed", "7", "--set", "clean=urls,numbers", "--set", "maxlen=9"],
    ],
    ["with f32 weights", { quantize: false, padding: "post" }, ["--no-quantize", "--set", "padding=post"]],
    ["as in the tutorial", { recipe: "tutorial" }, ["--recipe", "tutorial"]],
    ["by two workers", { workers: 2 }, ["--workers", "2"]],
    [
      "by two workers, from word vectors",
      { workers: 2, vectors: wordVectors },
      ["--workers", "2", "--vectors", at("vectors.txt.gz")],
    ],
  ])("%s", async (_, options, flags) => {
    await run("train", at("data.tsv"), "-o", at("x.wasm"), "--name", "lamps", ...SMALL_FLAGS, ...flags);
    const trained = await train(texts, { name: "lamps", ...SMALL, ...options });
    expect(await trained.wasm()).toEqual(new Uint8Array(readFileSync(at("x.wasm"))));
    expect((await trained.model()).info.form).toBe("quantize" in options ? "f32" : "int8");
  });

  test("of the linear part alone", async () => {
    await run("train", at("data.tsv"), "-o", at("x.wasm"), "--name", "lamps", "--recipe", "linear");
    const trained = await train(texts, { name: "lamps", recipe: "linear" });
    expect(await trained.wasm()).toEqual(new Uint8Array(readFileSync(at("x.wasm"))));
    expect((await trained.model()).info.linear).toMatchObject({ network_share: 0 });
  });

  test("calibrated, both files, whichever is asked for first", async () => {
    const flags = ["--valid", at("valid.tsv"), "--unknown", "0.1", "--name", "lamps", ...SMALL_FLAGS];
    for (const file of ["x.wasm", "x.elb"]) await run("train", at("data.tsv"), "-o", at(file), ...flags);
    const files = [new Uint8Array(readFileSync(at("x.wasm"))), new Uint8Array(readFileSync(at("x.elb")))];
    const options = { name: "lamps", valid, unknown: 0.1, ...SMALL };
    const one = await train(texts, options);
    expect([await one.wasm(), await one.elb()]).toEqual(files);
    const other = await train(texts, options);
    expect([await other.elb(), await other.wasm()].reverse()).toEqual(files);
  });

  test("pack(), quantize(), calibrate() and learn() do, too", async () => {
    const elb = await (await train(texts, { ...SMALL, epochs: 25 })).elb();
    writeFileSync(at("lamps.elb"), elb);
    await run("pack", at("lamps.elb"), "-o", at("packed.wasm"));
    expect(await pack(elb)).toEqual(new Uint8Array(readFileSync(at("packed.wasm"))));
    expect((await open(await pack(elb))).info.resumable).toBe(false);

    await run("quantize", at("lamps.elb"), "-o", at("small.elb"), "--data", at("data.tsv"));
    const { model, report } = await quantize(elb, { texts: texts.map(({ text }) => text) });
    expect(model).toEqual(new Uint8Array(readFileSync(at("small.elb"))));
    expect(report).toMatchObject({ form: "int8", agreement: { n: texts.length }, tensors: { length: 9 } });

    await run("calibrate", at("packed.wasm"), at("valid.tsv"), "-o", at("sure.wasm"), "--unknown", "0.2");
    const sure = await calibrate(await pack(elb), valid, { unknown: 0.2 });
    expect(sure.model).toEqual(new Uint8Array(readFileSync(at("sure.wasm"))));
    expect(sure.report.n).toBe(valid.length);

    const text = "darkness please";
    const { label: given } = (await open(elb)).classify(text);
    const corrections = [{ text, label: ["off", "on"].find((label) => label !== given)! }];
    writeFileSync(at("fixes.tsv"), lines(corrections));
    const learnt = await learn(elb, { corrections, data: texts, valid });
    const args = ["--corrections", at("fixes.tsv"), "--data", at("data.tsv"), "--valid", at("valid.tsv")];
    await run("learn", at("lamps.elb"), ...args, "-o", at("learnt.wasm"));
    expect(learnt.report.accepted).toBe(true);
    expect([learnt.elb, learnt.wasm]).toEqual(
      ["lamps.elb", "learnt.wasm"].map((name) => new Uint8Array(readFileSync(at(name)))),
    );
  });
});

test("what train() gives can be used at once", async () => {
  const trained = await train(texts, { ...SMALL, epochs: 30 });
  const model = await trained.model();
  expect([model.name, model.labels]).toEqual(["model", trained.labels]);
  const figures = await trained.evaluate(texts);
  const right = texts.filter(({ label, text }) => model.classify(text).label === label).length;
  expect(figures).toMatchObject({ n: texts.length, accuracy: right / texts.length });
  writeFileSync(at("used.wasm"), await trained.wasm());
  expect(await json("eval", at("used.wasm"), at("data.tsv"))).toMatchObject({ accuracy: figures.accuracy });
});

test("takes texts as they come, and those that parse() reads from a file's bytes", async () => {
  const stream = async function* () {
    yield* texts;
  };
  const wasm = await (await train(texts, SMALL)).wasm();
  expect(await (await train(stream(), SMALL)).wasm()).toEqual(wasm);
  expect(await (await train(parse(readFileSync(at("data.tsv")), "data.tsv"), SMALL)).wasm()).toEqual(wasm);
});

describe("figures of texts that a model was not trained on", () => {
  test("a share that is kept aside gives the bytes of the command line, and of the same texts in two sets", async () => {
    const { stdout } = await edgelabel([
      ...["train", at("data.tsv"), "--valid", "25%", "-o", at("aside.wasm"), "--name", "lamps", "--json"],
      ...SMALL_FLAGS,
    ]);
    const trained = await train(texts, { name: "lamps", valid: 0.25, ...SMALL });
    expect(await trained.wasm()).toEqual(new Uint8Array(readFileSync(at("aside.wasm"))));
    expect(JSON.parse(stdout)).toMatchObject({
      texts: texts.length - Math.round(texts.length / 4),
      validation: trained.reports.at(-1)!.validation,
    });
    const [training, valid] = split(samples, [0.75, 0.25], 1);
    expect(await (await train(training!, { name: "lamps", valid: valid!, ...SMALL })).wasm()).toEqual(
      await trained.wasm(),
    );
  });

  test("folds are measured on the texts that their models did not see", async () => {
    const options = { ...SMALL, epochs: 20, seed: 3 };
    const result = await crossValidate(texts, { folds: 3, ...options });
    const parts = split(samples, [1 / 3, 1 / 3, 1 / 3], 1);
    const accuracies = await Promise.all(
      parts.map(async (part, i) => {
        const others = samples.filter((one) => !part.includes(one));
        expect(others.length).toBe(texts.length - parts[i]!.length);
        return (await (await train(others, options)).evaluate(part)).accuracy;
      }),
    );
    expect(result.folds).toEqual(accuracies);
    expect(result.n).toBe(texts.length);
    const right = accuracies.reduce((sum, accuracy, i) => sum + accuracy * parts[i]!.length, 0);
    expect(result.accuracy).toBeCloseTo(right / texts.length, 9);

    const flags = ["--folds", "3", "--epochs", "20", "--seed", "3", ...SMALL_FLAGS.slice(2)];
    const report = await json("train", at("data.tsv"), "-o", at("folds.wasm"), ...flags);
    expect(report.folds).toEqual(result);
    // The model itself has all texts.
    expect(await (await train(texts, { name: "folds", ...options })).wasm()).toEqual(
      new Uint8Array(readFileSync(at("folds.wasm"))),
    );
  });

  test("without either, the command says how to get them", async () => {
    const last = async (...flags: string[]) =>
      (await edgelabel(["train", at("data.tsv"), "-o", at("x.elb"), ...SMALL_FLAGS, ...flags])).stdout;
    const advice =
      "accuracy while training says little about new texts; for a figure that does, add --valid 10% or --folds 5";
    expect(await last()).toContain(advice);
    for (const flags of [
      ["--valid", "20%"],
      ["--folds", "2"],
    ])
      expect(await last(...flags)).not.toContain(advice);
    expect(await last("--folds", "2")).toMatch(/^2 folds: accuracy [\d.]+ % on \d+ texts that were left out in turn/m);
  });

  test.each([
    [["--valid", "10%", "a.tsv"], "it takes files, or one share of the data such as 10%"],
    [["--valid", "a.tsv", "10%"], "it takes files, or one share of the data such as 10%"],
    [["--valid", "100%"], "above 0 and below 1"],
    [["--valid", "0%"], "above 0 and below 1"],
    [["--valid", "0.1%"], "too few to keep 0.1 % of them"],
    [["--folds", "1"], "a whole number from 2"],
  ])("%j is refused", async (flags, message) => {
    const { code, stderr } = await edgelabel(["train", at("data.tsv"), "-o", at("x.wasm"), ...flags]);
    expect(code).toBeGreaterThan(0);
    expect(stderr).toContain(message);
  });

  test("more folds than texts are refused", async () => {
    await expect(crossValidate(texts.slice(0, 3), { folds: 5 })).rejects.toThrow(
      "from 2 to the number of texts, which is 3",
    );
  });
});

describe("a run", () => {
  test("says from which epoch on texts are perturbed, also when it is resumed", async () => {
    const perturbed = async (options: TrainOptions): Promise<boolean[]> =>
      (await train(texts, options)).reports.map((report) => report.perturbed);
    const run = { ...SMALL, epochs: 10 };
    const late = Array.from({ length: 10 }, (_, i) => i >= 7);
    expect(await perturbed(run)).toEqual(late);
    expect(await perturbed({ ...run, perturbation: 0 })).toEqual(late.map(() => false));
    const begun = await train(texts, { ...run, onEpoch: ({ epoch }) => epoch < 8 });
    expect(await perturbed({ resume: await begun.elb() })).toEqual([true, true]);
  });

  test("takes pretrained vectors, from the beginning for each fold", async () => {
    let reads = 0;
    const vectors = (): AsyncGenerator<Uint8Array> => {
      reads++;
      return wordVectors();
    };
    const notes: string[] = [];
    const trained = await train(texts, { ...SMALL, vectors, onNote: (note) => notes.push(note) });
    expect(notes.find((note) => note.startsWith("vectors: "))).toMatch(/has vectors for [1-9]\d* of the \d+ words/);
    expect(await trained.wasm()).not.toEqual(await (await train(texts, SMALL)).wasm());
    await crossValidate(texts, { ...SMALL, folds: 2, vectors });
    expect(reads).toBe(3);
  });

  test("reports its epochs, can be ended after one, and resumed to the same bytes", async () => {
    const reports: EpochReport[] = [];
    const begun = await train(texts, { ...SMALL, epochs: 3, onEpoch: (report) => (reports.push(report), false) });
    expect([begun.epochsLeft, begun.reports, reports.map(({ epoch, epochs }) => [epoch, epochs])]).toEqual([
      2,
      reports,
      [[1, 3]],
    ]);
    const done: number[] = [];
    const resumed = await train(texts, { resume: await begun.elb(), onProgress: (part, all) => done.push(part / all) });
    expect(resumed.epochsLeft).toBe(0);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(done.at(-1)).toBe(1);
    expect(await resumed.elb()).toEqual(await (await train(texts, { ...SMALL, epochs: 3 })).elb());
  });

  test("is ended by a signal", async () => {
    const controller = new AbortController();
    const long = train(texts, {
      ...SMALL,
      epochs: 2_000,
      signal: controller.signal,
      onEpoch: () => void setTimeout(() => controller.abort(new Error("enough"))),
    });
    await expect(long).rejects.toThrow("enough");
    await expect(train(texts, { signal: AbortSignal.abort(new Error("never")) })).rejects.toThrow("never");
  });

  test("notes what is doubtful", async () => {
    const notes: string[] = [];
    await train([...texts, { text: " ... ", label: texts[0]!.label }, { text: "dark", label: "ON" }], {
      ...SMALL,
      valid: texts,
      onNote: (note) => notes.push(note),
    });
    expect(notes).toEqual([
      expect.stringContaining("1 of "),
      expect.stringContaining('the labels "ON", "on" look alike'),
      expect.stringContaining(`${texts.length} of ${texts.length} texts of the validation data`),
    ]);
  });

  test("learns from synonyms", async () => {
    const synonyms = [["lamp", "light"]];
    const one = await (await train(texts, { ...SMALL, synonyms })).wasm();
    expect(one).toEqual(await (await train(texts, { ...SMALL, synonyms, augmentSynonym: 0.1 })).wasm());
    expect(one).not.toEqual(await (await train(texts, SMALL)).wasm());
    await expect(train(texts, { synonyms: [["two words", "lamp"]] })).rejects.toThrow(
      'synonyms: line 1: "two words" is not one word',
    );
  });
});

test.each<[string, unknown, object, string, string]>([
  ["no texts", [], {}, "invalid", "the data has no samples"],
  ["one label", [texts[0]], {}, "invalid", "only the label"],
  ["an empty text", [texts[0], { text: " ", label: "on" }], {}, "invalid", "texts: number 2: the text is empty"],
  ["a text that is none", [{ text: 3, label: "on" }], {}, "invalid", "texts: number 1 is not { text, label }"],
  ["a gap", [texts[0], null], {}, "invalid", "texts: number 2 is not { text, label }"],
  ["a validation text that is none", texts, { valid: [{ label: "on" }] }, "invalid", "valid: number 1 is not"],
  ["a share that leaves no texts", texts, { valid: 1 }, "bad_setting", "valid takes labelled texts, or a share"],
  ["a setting that there is not", texts, { unit: 3 }, "bad_setting", 'no setting "unit", did you mean units?'],
  ["a value out of range", texts, { units: 0 }, "bad_setting", "units takes a whole number from 1 to"],
  ["a name that is none", texts, { name: "" }, "bad_setting", "name takes 1 to"],
  ["a seed out of range", texts, { seed: -1 }, "bad_setting", "seed takes a whole number from 0"],
  [
    "a recipe that there is not",
    texts,
    { recipe: "best" },
    "bad_setting",
    'there are "default", "fast", "linear", "tutorial"',
  ],
  ["a setting without effect", texts, { momentum: 0.9 }, "bad_setting", "momentum needs optimizer=sgd"],
  ["unknown without valid", texts, { unknown: 0.1 }, "bad_setting", "unknown is calibrated on the texts of valid"],
  ["a resumed run with another seed", texts, { resume: new Uint8Array(), seed: 2 }, "bad_setting", "seed cannot be"],
  [
    "a resumed run with vectors",
    texts,
    { resume: new Uint8Array(), vectors: (): AsyncGenerator<Uint8Array> => wordVectors() },
    "bad_setting",
    "a resumed run has the vectors",
  ],
  ["a resumed run that is none", texts, { resume: new Uint8Array(64) }, "bad_length", "model: its length is not"],
])("refuses %s", async (_, given, options, code, message) => {
  await expect(train(given as typeof texts, options)).rejects.toThrow(
    expect.objectContaining({ name: "EdgelabelError", code, message: expect.stringContaining(message) }),
  );
});

test("a model that cannot be calibrated is not given as if it were", async () => {
  const { text } = texts[0]!;
  const { label } = (await (await train(texts, SMALL)).model()).classify(text);
  const wrong = { text, label: texts.find((each) => each.label !== label)!.label };
  const trained = await train(texts, { ...SMALL, valid: [wrong], unknown: 0.1 });
  await expect(trained.wasm()).rejects.toThrow("no text was answered right");
  await expect(trained.elb()).rejects.toThrow("no text was answered right");
});
