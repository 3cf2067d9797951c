// The linear part against plain twins: its scores, bit for bit in f32, from the file as FORMAT.md has it; what they change
// in the softmax; and its weights, against a slow solver of the same problem in f64.
import { beforeAll, describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import type { ModelForm } from "../../../host/training/trainer.ts";
import { headerValue, partAt, read, withParts } from "../../support/model-file.ts";
import { loadFile, putText, samples, scoresOf, trainTiny } from "../../support/models.ts";
import { loadWasm } from "../../support/wasm.ts";

const LABELS = ["light", "music", "weather"];
const BUCKETS = 64;

const tokensOf = (text: string): string[] =>
  text
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter(Boolean);

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193);
  return value >>> 0;
}

/** Numbers of the buckets of a word, by FORMAT.md, of n-grams of 3 to 5. */
function bucketsOf(word: string, count: number): number[] {
  const marked = [...`<${word}>`];
  const found: number[] = [];
  for (let start = 0; start < marked.length; start++)
    for (let n = 3; n <= 5 && start + n <= marked.length; n++)
      found.push((hash(marked.slice(start, start + n).join("")) % BUCKETS) % count);
  return found.slice(0, abi.MAX_NGRAMS_PER_WORD);
}

interface Part {
  words: Map<string, number>;
  buckets: number;
  strange: number;
  pairs: Map<string, number>;
  squares: number[];
  rows: number[][];
  bias: number[];
}

const f32 = Math.fround;
const padded = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** The linear part of a file. */
function readPart(file: Uint8Array): Part {
  const { offset } = partAt(file, "linear");
  const labels = headerValue(file, "labelCount");
  const wordCount = headerValue(file, "wordCount");
  const buckets = read(file, offset, "u32");
  const pairCount = read(file, offset + 4, "u32");
  const count = wordCount + buckets + pairCount;
  const offsets = partAt(file, "wordOffsets").offset;
  const strings = partAt(file, "words").offset;
  const words = new Map(
    Array.from({ length: wordCount }, (_, i) => [
      Buffer.from(
        file.subarray(strings + read(file, offsets + 4 * i, "u32"), strings + read(file, offsets + 4 * i + 4, "u32")),
      ).toString(),
      i + 1,
    ]),
  );
  let at = offset + 32;
  const pairs = new Map(
    Array.from({ length: pairCount }, (_, i) => [
      `${read(file, at + 8 * i, "u32")} ${read(file, at + 8 * i + 4, "u32")}`,
      wordCount + buckets + i,
    ]),
  );
  at += padded(8 * pairCount);
  const squares = Array.from({ length: count }, (_, r) => read(file, at + 4 * r, "f32"));
  at += padded(4 * count);
  let rows: number[][];
  if (headerValue(file, "form") === abi.FORM_F32) {
    rows = squares.map((_, r) => LABELS.map((_, k) => read(file, at + 4 * (labels * r + k), "f32")));
    at += padded(4 * labels * count);
  } else {
    const bytes = Math.ceil(labels / 2);
    const scales = at + padded(bytes * count);
    rows = squares.map((_, r) =>
      LABELS.map((_, k) => {
        const half = (file[at + bytes * r + (k >> 1)]! >> (4 * (k & 1))) & 15;
        return f32(read(file, scales + 4 * r, "f32") * (half > 7 ? half - 16 : half));
      }),
    );
    at = scales + padded(4 * count);
  }
  const bias = LABELS.map((_, k) => read(file, at + 4 * k, "f32"));
  return { words, buckets, strange: read(file, offset + 8, "f32"), pairs, squares, rows, bias };
}

/** Scores as FORMAT.md says, in f32. */
function scores({ words, buckets, strange, pairs, squares, rows, bias }: Part, text: string): number[] {
  const sum = LABELS.map(() => 0);
  let square = 0;
  const add = (row: number): void => {
    square = f32(square + squares[row]!);
    rows[row]!.forEach((value, k) => (sum[k] = f32(sum[k]! + value)));
  };
  tokensOf(text).forEach((token, t, tokens) => {
    const id = words.get(token);
    if (id !== undefined) add(id - 1);
    else {
      square = f32(square + strange);
      for (const bucket of bucketsOf(token, buckets)) add(words.size + bucket);
    }
    if (t === 0) return;
    const pair = pairs.get(`${words.get(tokens[t - 1]!)} ${id}`);
    if (pair === undefined) square = f32(square + strange);
    else add(pair);
  });
  const share = square > 0 ? f32(1 / f32(Math.sqrt(square))) : 0;
  return sum.map((value, k) => f32(f32(value * share) + bias[k]!));
}

const files = new Map<ModelForm, Uint8Array>();

beforeAll(async () => {
  const trainer = await trainTiny({ epochs: 2, linear: true });
  for (const form of ["f32", "int8", "int8-weights"] as const) files.set(form, trainer.write(form));
});

describe.each<ModelForm>(["f32", "int8", "int8-weights"])("%s", (form) => {
  test.each([
    "",
    "turn on the light",
    "play",
    "zebra crossing lamps",
    "the weather the weather the weather is cold and strange in the far north",
  ])("%j: the scores have the same bits, and are added to what enters the softmax", (text) => {
    const file = files.get(form)!;
    const reading = loadWasm("testing");
    expect(loadFile(reading, file)).toBe(abi.OK);
    expect(reading["prepareReading"]()).toBe(abi.OK);
    reading["readIds"](reading["textPtr"](), putText(reading, text));
    const at = reading["allocate"](4 * LABELS.length);
    reading["readLinear"](at);
    expect([...new Float32Array(reading.memory.buffer, at, LABELS.length)]).toEqual(scores(readPart(file), text));

    const [whole, alone] = [file, withParts(file, { linear: new Uint8Array() })].map((bytes) => {
      const wasm = loadWasm("testing");
      expect(loadFile(wasm, bytes)).toBe(abi.OK);
      return [...scoresOf(wasm, text)];
    }) as [number[], number[]];
    const expected = scores(readPart(file), text);
    for (const k of [1, 2])
      expect(Math.log(whole[k]! / whole[0]!) - Math.log(alone[k]! / alone[0]!)).toBeCloseTo(
        expected[k]! - expected[0]!,
        3,
      );
  });
});

test("the weights solve the support vector machines of the training texts", () => {
  const part = readPart(files.get("f32")!);
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
  const theirs = samples.map(({ text }) => scores(part, text));
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

test("hidden tokens are left out of the part's scores, too", () => {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, files.get("f32")!)).toBe(abi.OK);
  expect(wasm["prepareExplaining"]()).toBeTruthy();
  const whole = scoresOf(wasm, "turn on zebra lights")[0]!;
  const empty = scoresOf(wasm, "")[0]!;
  scoresOf(wasm, "turn on zebra lights");
  expect(wasm["explainLast"](0)).toBe(abi.OK);
  while (wasm["passesLeft"]() > 0) expect(wasm["explainNext"]()).toBe(abi.OK);
  let sum = 0;
  for (let i = 0; i < wasm["pieceCount"](); i++) sum += wasm["pieceShare"](i);
  expect(wasm["baseScore"]()).toBeCloseTo(empty, 6);
  expect(sum).toBeCloseTo(whole - empty, 6);
});
