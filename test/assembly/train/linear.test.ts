// The training of the linear part: its weights against a slow solver of the same problem, the part's share, its size,
// and what becomes of it in files that are opened, grown, pruned and validated.
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import { DEFAULT_RECIPE, prepareTraining, type RecipeOptions } from "../../../host/training/recipe.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import { bucketsOf, LABELS, linearScores, readPart, tokensOf } from "../../support/linear-part.ts";
import { headerValue, partAt } from "../../support/model-file.ts";
import { loadFile, samples, scoresOf, trainTiny } from "../../support/models.ts";
import { loadWasm } from "../../support/wasm.ts";

test("the weights solve the support vector machines of the training texts", async () => {
  const part = readPart((await trainTiny({ epochs: 1, linear: true })).write("f32"));
  const texts = samples.map(({ text }) => tokensOf(text));
  const names = texts.map((tokens) => [
    ...tokens.map((token) => `w ${token}`),
    ...tokens.slice(1).map((token, i) => `p ${tokens[i]} ${token}`),
    ...tokens.flatMap((token) => bucketsOf(token, part.buckets)).map((bucket) => `n ${bucket}`),
  ]);
  const frequency = new Map<string, number>();
  for (const list of names) for (const name of new Set(list)) frequency.set(name, (frequency.get(name) ?? 0) + 1);
  const valueOf = (name: string): number =>
    (name.startsWith("n") ? 0.7 : 1) * (Math.log((1 + texts.length) / (1 + frequency.get(name)!)) + 1);
  const vectors = names.map((list) => {
    const length = Math.sqrt(list.reduce((sum, name) => sum + valueOf(name) ** 2, 0));
    const vector = new Map([["bias", 1]]);
    for (const name of list) vector.set(name, (vector.get(name) ?? 0) + valueOf(name) / length);
    return vector;
  });
  const dot = (a: Map<string, number>, b: Map<string, number>): number => {
    let sum = 0;
    for (const [name, value] of a) sum += value * (b.get(name) ?? 0);
    return sum;
  };
  // Gradient descent on 1/2 |w|^2 + sum max(0, 1 - y w x)^2, whose curvature is at most 1 + 2 sum |x|^2.
  const rate = 1 / (1 + 2 * vectors.reduce((sum, vector) => sum + dot(vector, vector), 0));
  const own = LABELS.map((label) => {
    const weights = new Map<string, number>();
    for (let step = 0; step < 1000; step++) {
      const margins = vectors.map((vector, i) => {
        const target = samples[i]!.label === label ? 1 : -1;
        return { target, missing: Math.max(0, 1 - target * dot(vector, weights)) };
      });
      for (const [name, value] of weights) weights.set(name, value * (1 - rate));
      margins.forEach(({ target, missing }, i) => {
        if (missing === 0) return;
        for (const [name, value] of vectors[i]!)
          weights.set(name, (weights.get(name) ?? 0) + rate * 2 * missing * target * value);
      });
    }
    return vectors.map((vector) => dot(vector, weights));
  });
  const theirs = samples.map(({ text }) => linearScores(part, text));
  // The file's weights are all times one factor, the share.
  let products = 0;
  let squares = 0;
  theirs.forEach((list, i) =>
    list.forEach((value, k) => {
      products += value * own[k]![i]!;
      squares += own[k]![i]! ** 2;
    }),
  );
  const share = products / squares;
  expect(share).toBeGreaterThan(0);
  theirs.forEach((list, i) => list.forEach((value, k) => expect(value / share).toBeCloseTo(own[k]![i]!, 1)));
});

const TINY: RecipeOptions = {
  ...DEFAULT_RECIPE,
  minCount: 1,
  embedding: 4,
  units: 4,
  tokenizer: { ...DEFAULT_RECIPE.tokenizer, sequenceLength: 8, ngramBuckets: 64 },
};

function addTexts(trainer: Trainer, shift = 0): void {
  trainer.startTexts(samples.length);
  for (const { label, text } of samples) trainer.addText((LABELS.indexOf(label) + shift) % 3, text);
}

async function fileOf(data: readonly { label: string; text: string }[], linear: boolean): Promise<Uint8Array> {
  const trainer = await prepareTraining(
    data.map((sample, i) => ({ ...sample, line: i + 1 })),
    [],
    TINY.linear === linear ? TINY : { ...TINY, linear },
  );
  trainer.start(TINY);
  return trainer.write("f32");
}

describe("there is none", () => {
  test.each<[string, readonly { label: string; text: string }[]]>([
    ["when texts say nothing about labels", samples.flatMap(({ text }) => LABELS.map((label) => ({ label, text })))],
    ["when texts have no tokens", samples.map(({ label }, i) => ({ label, text: "!".repeat(i + 1) }))],
    [
      "when only copies of texts agree on their labels",
      Array.from({ length: 60 }, (_, i) => ({
        label: LABELS[(i >> 1) % 3]!,
        text: String.fromCharCode(97 + ((i >> 1) % 26), 97 + ((7 * (i >> 1)) % 26), 97 + ((11 * (i >> 1)) % 26)),
      })),
    ],
    ["of one text a label", LABELS.map((label) => ({ label, text: label }))],
  ])("%s: the file is that without", async (_, data) => {
    const file = await fileOf(data, true);
    expect(headerValue(file, "linearBytes")).toBe(0);
    expect(file).toEqual(await fileOf(data, false));
  });

  test("when not even its words have room", async () => {
    const trainer = await prepareTraining(samples, [], { ...TINY, linear: false });
    addTexts(trainer);
    trainer.fitLinear(0, false);
    trainer.start(TINY);
    expect(trainer.write("f32")).toEqual(await fileOf(samples, false));
  });
});

test("of little room n-grams take at most half, and pairs of the most texts the rest", async () => {
  const alone = await prepareTraining(samples, [], { ...TINY, linear: false });
  const words = alone.wordCount();
  alone.start(TINY);
  const without = alone.write("int8").length;
  const counts = new Map<string, number>();
  for (const { text } of samples) {
    const tokens = tokensOf(text);
    for (const pair of new Set(tokens.slice(1).map((token, i) => `${tokens[i]} ${token}`)))
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  // A row of three labels takes 2 bytes, a scale and a square; a pair its ids besides.
  const [ofWords, ofBucket, ofPair] = [32 + 16 + 10 * words, 10, 18];
  for (const [room, buckets, pairs] of [
    [32 * ofBucket + 48 * ofPair, 32, 48],
    [64 * ofBucket + 40 * ofPair, 64, 40],
  ] as const) {
    const trainer = await prepareTraining(samples, [], { ...TINY, linear: false });
    addTexts(trainer);
    trainer.fitLinear(without + ofWords + 3 * 16 + room, false);
    trainer.start(TINY);
    const file = trainer.write("int8");
    expect(file.length).toBeLessThanOrEqual(without + ofWords + 3 * 16 + room);
    const part = readPart(file);
    expect(part.buckets).toBe(buckets);
    expect(Math.abs(part.pairs.size - pairs)).toBeLessThan(6);
    const names = [...part.words.keys()];
    const kept = [...part.pairs.keys()].map((ids) =>
      ids
        .split(" ")
        .map((id) => names[Number(id) - 1])
        .join(" "),
    );
    const least = Math.min(...kept.map((pair) => counts.get(pair)!));
    for (const [pair, texts] of counts) if (texts > least) expect(kept).toContain(pair);
  }
});

test("its rows include the n-grams of their words, and what it reads is finite for any text", async () => {
  const file = (await trainTiny({ epochs: 1, linear: true })).write("f32");
  const part = readPart(file);
  for (const [word, id] of part.words) {
    const own = part.squares[id - 1]!;
    const grams = bucketsOf(word, part.buckets).reduce(
      (sum, bucket) => sum + part.squares[part.words.size + bucket]!,
      0,
    );
    expect(own).toBeGreaterThan(grams);
    expect(own - grams).toBeLessThan(part.strange + 1e-4);
  }
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, file)).toBe(abi.OK);
  for (const text of ["light ".repeat(5000), "x".repeat(100_000), "a b ".repeat(3000), "\u0000", "!"])
    for (const score of scoresOf(wasm, text)) expect(score).toBeGreaterThanOrEqual(0);
});

test("takes part in validation, though the network learns alone", async () => {
  const options = { ...TINY, epochs: 3, labelSmoothing: 0 };
  const files = await Promise.all(
    [true, false].map(async (linear) => {
      const trainer = await prepareTraining(samples, samples, { ...options, linear });
      trainer.start(options);
      for (let epoch = 0; epoch < 3; epoch++) for (const _ of trainer.epoch());
      const file = trainer.write("f32");
      const classifier = await Classifier.fromBytes(file, "model");
      let [loss, right] = [0, 0];
      for (const { label, text } of samples) {
        const answer = classifier.classify(text, 0);
        loss -= Math.log(answer.scores[label]!) / samples.length;
        if (answer.label === label) right++;
      }
      const figures = trainer.validate();
      expect(figures.loss).toBeCloseTo(loss, 4);
      expect(figures.accuracy).toBeCloseTo(right / samples.length, 12);
      return file;
    }),
  );
  const [weights, alone] = files.map((file) => {
    const { offset, length } = partAt(file, "weights");
    return file.slice(offset, offset + length);
  });
  expect(weights).toEqual(alone);
});

describe("alone", () => {
  const prepare = async (data = samples): Promise<Trainer> => {
    const trainer = await prepareTraining(data, data, { ...TINY, labelSmoothing: 0, linear: "alone" });
    trainer.start({ ...TINY, labelSmoothing: 0 });
    return trainer;
  };

  test("it gives the scores, whatever the network's weights are, in validation too", async () => {
    const trainer = await prepare();
    const file = trainer.write("f32");
    const part = readPart(file);
    for (const _ of trainer.epoch());
    const trained = trainer.write("f32");
    expect(trained).not.toEqual(file);
    const [one, other] = [await Classifier.fromBytes(file, "model"), await Classifier.fromBytes(trained, "model")];
    let loss = 0;
    for (const { label, text } of samples) {
      const { scores } = one.classify(text, 0);
      expect(other.classify(text, 0).scores).toEqual(scores);
      const exponents = linearScores(part, text).map(Math.exp);
      const sum = exponents.reduce((a, b) => a + b);
      LABELS.forEach((name, k) => expect(scores[name]).toBeCloseTo(exponents[k]! / sum, 5));
      loss -= Math.log(scores[label]!) / samples.length;
    }
    expect(trainer.validate().loss).toBeCloseTo(loss, 4);
  });

  test("it answers also when its texts say nothing, and is refused when its words have no room", async () => {
    const file = (await prepare(samples.flatMap((each) => LABELS.map((label) => ({ ...each, label }))))).write("f32");
    expect(headerValue(file, "linearBytes")).toBeGreaterThan(0);
    const trainer = await prepareTraining(samples, [], { ...TINY, linear: false });
    expect(() => trainer.fitLinear(0, true)).toThrow(expect.objectContaining({ code: "bad_state" }));
    addTexts(trainer);
    expect(() => trainer.fitLinear(0, true)).toThrow(expect.objectContaining({ code: "bad_argument" }));
  });
});

describe("of an opened file", () => {
  test("it stays, and is replaced by one that is trained on other texts", async () => {
    const file = (await trainTiny({ epochs: 1, linear: true })).write("f32");
    const opened = await Trainer.open(file, "model.elb");
    opened.buildOpened();
    expect(opened.write("f32")).toEqual(file);
    // The same texts give the same part, but that the room is another one.
    const again = await Trainer.open(file, "model.elb");
    addTexts(again);
    again.fitLinear(1_000_000, false);
    again.buildOpened();
    expect(again.write("f32")).toEqual(file);
    const other = await Trainer.open(file, "model.elb");
    addTexts(other, 1);
    other.fitLinear(1_000_000, false);
    other.buildOpened();
    const part = readPart(other.write("f32"));
    for (const { label, text } of samples) {
      const scores = linearScores(part, text);
      expect(scores.indexOf(Math.max(...scores))).toBe((LABELS.indexOf(label) + 1) % 3);
    }
    expect(() => other.addText(0, "too late")).toThrow();
  });

  test("int8 weights and 4-bit rows become the numbers that they stand for", async () => {
    const trained = await trainTiny({ epochs: 1, linear: true });
    const opened = await Trainer.open(trained.write("int8"), "model.elb", true);
    opened.buildOpened();
    const part = readPart(opened.write("f32"));
    expect(part.rows).toEqual(readPart(trained.write("int8")).rows);
    expect(part.rows).not.toEqual(readPart(trained.write("f32")).rows);
    expect(part.bias).toEqual(readPart(trained.write("f32")).bias);
  });

  test("a label that is added scores as low as any, and the others as before", async () => {
    const file = (await trainTiny({ epochs: 1, linear: true })).write("f32");
    const opened = await Trainer.open(file, "model.elb");
    opened.addLabel("new");
    opened.buildOpened();
    const [before, after] = [file, opened.write("f32")].map((bytes) => {
      const wasm = loadWasm("testing");
      expect(loadFile(wasm, bytes)).toBe(abi.OK);
      return [...scoresOf(wasm, "play the zebra song")];
    }) as [number[], number[]];
    for (const k of [1, 2]) expect(Math.log(after[k]! / after[0]!)).toBeCloseTo(Math.log(before[k]! / before[0]!), 5);
    expect(after[3]).toBeGreaterThan(0);
    expect(after[3]).toBeLessThan(Math.max(...after.slice(0, 3)));
  });

  test("a pruned model keeps the rows of the words that it keeps, and of their pairs", async () => {
    const file = (await trainTiny({ epochs: 1, linear: true })).write("f32");
    const opened = await Trainer.open(file, "model.elb");
    for (const { label, text } of samples) opened.addSample(LABELS.indexOf(label), text);
    const before = readPart(file);
    const after = readPart(opened.prune({ units: 9, words: 12, minCount: 1 }));
    expect(after.words.size).toBe(12);
    expect([after.buckets, after.bias, after.share]).toEqual([before.buckets, before.bias, before.share]);
    const nameOf = (part: typeof before, ids: string): string =>
      ids
        .split(" ")
        .map((id) => [...part.words.keys()][Number(id) - 1])
        .join(" ");
    const pairs = new Map([...before.pairs].map(([ids, row]) => [nameOf(before, ids), row]));
    const expected = [...pairs.keys()].filter((pair) => pair.split(" ").every((word) => after.words.has(word)));
    expect(expected.length).toBeGreaterThan(3);
    expect([...after.pairs.keys()].map((ids) => nameOf(after, ids)).sort()).toEqual(expected.sort());
    for (const [ids, row] of after.pairs) expect(after.rows[row]).toEqual(before.rows[pairs.get(nameOf(after, ids))!]);
    for (const [word, id] of after.words) {
      expect(after.rows[id - 1]).toEqual(before.rows[before.words.get(word)! - 1]);
      expect(after.squares[id - 1]).toEqual(before.squares[before.words.get(word)! - 1]);
    }
  });
});
