// Whole models against the plain f64 twin: every kind of chain, form, padding and length, and
// the short cuts (input table, state behind the padding), which must not change a bit.
import { describe, expect, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import { Classifier } from "../../host/classifier.ts";
import { dense, dropout, embedding, type LayerShape, lstm, makeModel, type ModelSpec, pool, Seeded } from "../models.ts";
import { type Arithmetic, network, pad } from "../reference.ts";
import { type Exports, loadWasm } from "../wasm.ts";

const WORDS = Array.from({ length: 30 }, (_, i) => `w${i + 1}`);
const TIME = 8;
const { LAYER_MASK_ZERO: MASK, LAYER_BIDIRECTIONAL: BOTH, LAYER_SEQUENCES: ALL, LAYER_POOL_MAX: MAX, LAYER_POOL_MEAN: MEAN } = abi;
const { ACTIVATION_SOFTMAX: SOFTMAX, ACTIVATION_SIGMOID: SIGMOID, ACTIVATION_TANH: TANH, ACTIVATION_RELU: RELU, ACTIVATION_LINEAR: LINEAR } = abi;

const CHAINS: readonly [name: string, layers: LayerShape[]][] = [
  ["last state", [embedding(5), lstm(7), dense(3, SOFTMAX)]],
  ["one unit, one wide", [embedding(1), lstm(1), dense(3, SOFTMAX)]],
  ["masked", [embedding(6, MASK), lstm(4), dense(3, SOFTMAX)]],
  ["bidirectional", [embedding(5), lstm(9, BOTH), dense(3, SOFTMAX)]],
  ["masked bidirectional", [embedding(8, MASK), dropout(0.5), lstm(5, BOTH), dropout(0.3), dense(4, RELU), dense(3, SOFTMAX)]],
  ["max pooled", [embedding(5, MASK), lstm(6, BOTH | ALL), pool(MAX), dense(3, SOFTMAX)]],
  ["mean pooled, padding counts", [embedding(5), lstm(6, ALL), pool(MEAN), dense(3, SOFTMAX)]],
  ["both pools", [embedding(5, MASK), lstm(33, BOTH | ALL), pool(MAX | MEAN), dense(3, SOFTMAX)]],
  ["stacked", [embedding(5), lstm(7, ALL), lstm(6, BOTH | ALL), lstm(3), dense(3, SOFTMAX)]],
  ["stacked, masked", [embedding(4, MASK), lstm(5, BOTH | ALL), dropout(0.1), lstm(6, BOTH), dense(3, SOFTMAX)]],
  ["every activation", [embedding(5), lstm(8), dense(7, TANH), dense(6, RELU), dense(5, LINEAR), dense(9, SIGMOID), dense(3, SOFTMAX)]],
];

const spec = (layers: LayerShape[], tokenizer: ModelSpec["tokenizer"] = {}, labels = ["a", "b", "c"]): ModelSpec => ({
  words: WORDS, labels, layers, tokenizer: { sequenceLength: TIME, ...tokenizer },
});

function texts(random: Seeded): number[][] {
  return [[], [1], [30, 2, 30], ...Array.from({ length: 10 }, (_, i) => Array.from({ length: i + 1 }, () => 1 + random.below(WORDS.length)))];
}

async function expectTwin(model: Awaited<ReturnType<typeof makeModel>>, form: Arithmetic, post: { padding?: boolean; truncating?: boolean }, tolerance: number): Promise<void> {
  const classifier = await Classifier.fromBytes(model.write(form), "model");
  for (const ids of texts(new Seeded(4))) {
    const { scores } = classifier.classify(ids.map((id) => `w${id}`).join(" "), 0);
    const expected = network(model.layers, model.tensors, pad(ids, TIME, post), form);
    const both = expected.length === 1 ? [1 - expected[0]!, expected[0]!] : expected;
    both.forEach((score, k) => expect(Math.abs(scores[classifier.labels[k]!]! - score)).toBeLessThan(tolerance));
  }
}

describe.each(CHAINS)("%s", (_name, layers) => {
  // Scores have six decimals. int8 twins part where a state lies on the edge of a Q14 step.
  test.each([["f32", 2e-6], ["int8-weights", 2e-6], ["int8", 2e-4]] as const)("%s", async (form, tolerance) => {
    const random = new Seeded(7);
    const model = await makeModel(spec(layers), (_, length) => random.floats(length, 1));
    await expectTwin(model, form, {}, tolerance);
  });
});

describe.each([[false, true], [true, false], [true, true]])("padding behind: %s, truncating behind: %s", (padding, truncating) => {
  test.each([["masked", MASK], ["unmasked", 0]])("%s", async (_name, flags) => {
    const random = new Seeded(8);
    const model = await makeModel(spec([embedding(5, flags), lstm(6, BOTH), dense(3, SOFTMAX)], { padPost: padding, truncatePost: truncating }), (_, length) => random.floats(length, 1));
    await expectTwin(model, "f32", { padding, truncating }, 2e-6);
  });
});

test("one sigmoid unit speaks for two labels", async () => {
  const random = new Seeded(9);
  const model = await makeModel(spec([embedding(5), lstm(6), dense(1, SIGMOID)], {}, ["no", "yes"]), (_, length) => random.floats(length, 1));
  await expectTwin(model, "f32", {}, 2e-6);
});

test("an unknown word is the mean of its n-grams, and adds to nothing else", async () => {
  const random = new Seeded(10);
  const model = await makeModel(spec([embedding(5, MASK), lstm(6), dense(3, SOFTMAX)], { ngramBuckets: 16, ngramMin: 3, ngramMax: 4 }), (_, length) => random.floats(length, 1));
  const fnv1a = (text: string): number => Buffer.from(text).reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
  // "<abc>" begins with <ab <abc, abc abc>, bc>
  const rows = ["<ab", "<abc", "abc", "abc>", "bc>"].map((gram) => 1 + WORDS.length + (fnv1a(gram) % 16));
  const { scores } = (await Classifier.fromBytes(model.write("f32"), "model")).classify("w1 abc w2", 0);
  network(model.layers, model.tensors, [[1], rows, [2]]).forEach((score, k) => expect(Math.abs(scores["abc"[k]!]! - score)).toBeLessThan(2e-6));
});

test("letters of scripts without spaces bring their pair", async () => {
  const random = new Seeded(11);
  const words = ["开", "灯"];
  const model = await makeModel({
    words, labels: ["a", "b", "c"], layers: [embedding(5, MASK), lstm(6), dense(3, SOFTMAX)],
    tokenizer: { sequenceLength: TIME, splitScripts: true, letterPairs: true, ngramBuckets: 16, ngramMin: 3, ngramMax: 5 },
  }, (_, length) => random.floats(length, 1));
  const fnv1a = (text: string): number => Buffer.from(text).reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
  const pair = abi.CONTEXT_ROW + 1 + words.length + (fnv1a("开灯") % 16);
  const { scores } = (await Classifier.fromBytes(model.write("f32"), "model")).classify("开灯", 0);
  network(model.layers, model.tensors, [[1], [2, pair]]).forEach((score, k) => expect(Math.abs(scores["abc"[k]!]! - score)).toBeLessThan(2e-6));
});

describe("short cuts change no bit", () => {
  const load = (bytes: Uint8Array): Exports => {
    const wasm = loadWasm("testing");
    new Uint8Array(wasm.memory.buffer, wasm["reserveModel"](bytes.length), bytes.length).set(bytes);
    expect(wasm["loadModel"](bytes.length)).toBe(abi.OK);
    return wasm;
  };
  const scores = (wasm: Exports, text: string): number[] => {
    const { written } = new TextEncoder().encodeInto(text, new Uint8Array(wasm.memory.buffer, wasm["textPtr"](), 1000));
    expect(wasm["classify"](written)).toBe(abi.OK);
    return [...new Uint32Array(wasm.memory.buffer, wasm["scoresPtr"](), 3)];
  };

  test.each(["f32", "int8", "int8-weights"] as const)("%s", async (form) => {
    const random = new Seeded(12);
    const { write } = await makeModel(spec([embedding(9), lstm(10), dense(3, SOFTMAX)]), (_, length) => random.floats(length, 1));
    const bytes = write(form);
    const plain = load(bytes);
    expect([plain["keepsTables"](), plain["keepsPrefix"]()]).toEqual([1, 1]);
    const slow = load(bytes);
    slow["forgetTables"]();
    slow["forgetPrefix"]();
    for (const ids of texts(new Seeded(13))) {
      const text = ids.map((id) => `w${id}`).join(" ");
      const expected = scores(slow, text);
      expect(scores(plain, text)).toEqual(expected);
      expect(scores(plain, text)).toEqual(expected); // now from the table
    }
  });
});
