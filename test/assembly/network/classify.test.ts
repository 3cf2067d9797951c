// Text -> scores, whole: every kind of chain against the plain twin in f64, in all three
// forms; what prepare.ts keeps (input tables, states behind padding) gives the same bits as
// doing it anew; overflow, sequences without a step. Then Keras' own answers.
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import type { ModelForm } from "../../../host/training/trainer.ts";
import { GOLDEN_MODELS, compareGolden, importGolden, openFile, type GoldenCase } from "../../support/golden.ts";
import { setHeader, repair } from "../../support/model-file.ts";
import {
  Seeded,
  dense,
  dropout,
  embedding,
  loadFile,
  lstm,
  makeModel,
  minGru,
  pool,
  putText,
  scoresOf,
  type LayerShape,
  type MadeModel,
} from "../../support/models.ts";
import { network, pad, type Arithmetic } from "../../support/reference.ts";
import { describeShared, readSharedJsonLines } from "../../support/shared.ts";
import { loadWasm, type Exports } from "../../support/wasm.ts";

const {
  LAYER_BIDIRECTIONAL: BOTH,
  LAYER_MASK_ZERO: MASK,
  LAYER_POOL_MAX: MAX,
  LAYER_POOL_MEAN: MEAN,
  LAYER_SEQUENCES: SEQUENCES,
} = abi;
const { ACTIVATION_LINEAR, ACTIVATION_RELU, ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX, ACTIVATION_TANH } = abi;
const FORMS: readonly (ModelForm & Arithmetic)[] = ["f32", "int8", "int8-weights"];

/** Rounding of some hundred f32 sums; int8: a state on the edge of two Q14 numbers may fall either way. */
const TOLERANCE: Record<Arithmetic, number> = { f32: 2e-6, "int8-weights": 2e-6, int8: 5e-5 };

const words = Array.from({ length: 20 }, (_, i) => `w${i}`);
const idOf = (word: string): number => words.indexOf(word) + 1;
const labels = (count: number): string[] => Array.from({ length: count }, (_, i) => `label${i}`);

function open(file: Uint8Array): Exports {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, file)).toBe(abi.OK);
  return wasm;
}

/** Lists of words of every length up to beyond T, some of them unknown. */
function texts(random: Seeded, sequenceLength: number): string[][] {
  return [0, 1, 2, sequenceLength - 1, sequenceLength, sequenceLength + 1, 2 * sequenceLength + 3]
    .filter((length) => length >= 0)
    .map((length) => Array.from({ length }, () => (random.below(8) === 0 ? "unknown" : random.pick(words))));
}

interface Case {
  name: string;
  layers: LayerShape[];
  labels?: number;
  sequenceLength?: number;
  padPost?: boolean;
  truncatePost?: boolean;
  unknownId?: number;
}

const cases: Case[] = [
  ...[1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64].map((units, i) => ({
    name: `LSTM(${units}) on ${[65, 1, 2, 3, 5, 7, 8, 9, 17, 33, 64][i]} channels`,
    layers: [embedding([65, 1, 2, 3, 5, 7, 8, 9, 17, 33, 64][i]!), lstm(units), dense(3, ACTIVATION_SOFTMAX)],
  })),
  ...[1, 3, 4, 5, 8, 12, 31, 64].map((units, i) => ({
    name: `minGRU(${units}) on ${[65, 1, 3, 5, 8, 9, 33, 64][i]} channels`,
    layers: [embedding([65, 1, 3, 5, 8, 9, 33, 64][i]!), minGru(units), dense(3, ACTIVATION_SOFTMAX)],
  })),
  {
    name: "minGRU, both ways, both pools, masked",
    layers: [embedding(5, MASK), minGru(5, SEQUENCES | BOTH), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)],
  },
  {
    name: "minGRU above a minGRU and an LSTM",
    layers: [
      embedding(5),
      minGru(7, SEQUENCES | BOTH),
      lstm(5, SEQUENCES),
      minGru(9, BOTH),
      dense(3, ACTIVATION_SOFTMAX),
    ],
  },
  { name: "masked", layers: [embedding(5, MASK), lstm(6), dense(3, ACTIVATION_SOFTMAX)] },
  {
    name: "padding and truncation behind",
    padPost: true,
    truncatePost: true,
    layers: [embedding(5), lstm(6), dense(3, ACTIVATION_SOFTMAX)],
  },
  { name: "padding behind", padPost: true, layers: [embedding(4), lstm(3, BOTH), dense(3, ACTIVATION_SOFTMAX)] },
  {
    name: "masked, padding and truncation behind",
    padPost: true,
    truncatePost: true,
    layers: [embedding(5, MASK), lstm(6, BOTH), dense(3, ACTIVATION_SOFTMAX)],
  },
  { name: "truncation behind", truncatePost: true, layers: [embedding(3), lstm(5), dense(3, ACTIVATION_SOFTMAX)] },
  { name: "one step", sequenceLength: 1, layers: [embedding(3), lstm(5), dense(3, ACTIVATION_SOFTMAX)] },
  { name: "unknown words have an id", unknownId: 1, layers: [embedding(3), lstm(5), dense(3, ACTIVATION_SOFTMAX)] },
  { name: "bidirectional", layers: [embedding(5), lstm(7, BOTH), dense(3, ACTIVATION_SOFTMAX)] },
  {
    name: "stacked",
    layers: [embedding(5), lstm(7, SEQUENCES), lstm(3, SEQUENCES), lstm(9), dense(3, ACTIVATION_SOFTMAX)],
  },
  {
    name: "stacked, bidirectional, masked, dropout",
    layers: [
      embedding(5, MASK),
      dropout(0.5, abi.LAYER_SPATIAL),
      lstm(7, SEQUENCES | BOTH),
      dropout(0.25),
      lstm(3, SEQUENCES | BOTH),
      lstm(5, BOTH),
      dropout(0.1),
      dense(4, ACTIVATION_RELU),
      dense(3, ACTIVATION_SOFTMAX),
    ],
  },
  { name: "max pool", layers: [embedding(5), lstm(7, SEQUENCES), pool(MAX), dense(3, ACTIVATION_SOFTMAX)] },
  {
    name: "mean pool, masked",
    layers: [embedding(5, MASK), lstm(7, SEQUENCES | BOTH), pool(MEAN), dense(3, ACTIVATION_SOFTMAX)],
  },
  {
    name: "both pools, masked, padding behind",
    padPost: true,
    layers: [embedding(5, MASK), lstm(5, SEQUENCES | BOTH), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)],
  },
  {
    name: "both pools, unmasked",
    layers: [
      embedding(6),
      lstm(5, SEQUENCES | BOTH),
      lstm(3, SEQUENCES),
      pool(MAX | MEAN),
      dense(3, ACTIVATION_SOFTMAX),
    ],
  },
  ...(
    [
      ["linear", ACTIVATION_LINEAR],
      ["sigmoid", ACTIVATION_SIGMOID],
      ["tanh", ACTIVATION_TANH],
      ["relu", ACTIVATION_RELU],
      ["softmax", ACTIVATION_SOFTMAX],
    ] as const
  ).map(([name, activation]) => ({
    name: `Dense ${name}, then one unit for two labels`,
    labels: 2,
    layers: [embedding(3), lstm(5), dense(9, activation), dense(1, ACTIVATION_SIGMOID)],
  })),
  ...[2, 3, 4, 5, 13].map((count) => ({
    name: `${count} sigmoids`,
    labels: count,
    layers: [embedding(3), lstm(5), dense(count, ACTIVATION_SIGMOID)],
  })),
];

function made(
  { layers, labels: count = 3, sequenceLength = 6, padPost = false, truncatePost = false, unknownId = 0 }: Case,
  seed: number,
  magnitude = 0.7,
): Promise<MadeModel> {
  const random = new Seeded(seed);
  return makeModel(
    { words, labels: labels(count), layers, unknownId, tokenizer: { sequenceLength, padPost, truncatePost } },
    (_, length) => random.floats(length, magnitude),
  );
}

test("NULs at the end, and one line end before them, are no part of a text", async () => {
  const random = new Seeded(3);
  const spec = {
    words: ["a", "\n", "\r", "\0"],
    labels: labels(2),
    layers: [embedding(4), lstm(4), dense(2, ACTIVATION_SOFTMAX)],
    tokenizer: { charLevel: true, sequenceLength: 8 },
  };
  const wasm = open((await makeModel(spec, (_, length) => random.floats(length, 0.7))).write("f32"));
  const tokens = (text: string): number => {
    expect(wasm["classify"](putText(wasm, text))).toBe(abi.OK);
    return wasm["tokenCount"]();
  };
  for (const end of ["", "\n", "\r\n", "\r", "\0", "\0\0\0", "\n\0", "\r\n\0\0"]) {
    expect([end, tokens(`aa${end}`)]).toEqual([end, 2]);
    expect(scoresOf(wasm, `aa${end}`)).toEqual(scoresOf(wasm, "aa"));
    expect([end, tokens(end)]).toEqual([end, 0]);
  }
  for (const [text, count] of [
    ["a\n\n", 2],
    ["a\n\r", 2],
    ["\naa", 3],
    ["\0aa", 3],
    ["a\0\n", 2],
    ["a\r\r\n", 2],
  ] as const)
    expect([text, tokens(text)]).toEqual([text, count]);
});

const worst: Record<Arithmetic, number> = { f32: 0, int8: 0, "int8-weights": 0 };

describe("every chain, as the twin says", () => {
  test.each(cases)("$name", async (each) => {
    const model = await made(each, 11);
    const { sequenceLength = 6, padPost = false, truncatePost = false, unknownId = 0 } = each;
    for (const form of FORMS) {
      const wasm = open(model.write(form));
      for (const text of texts(new Seeded(5), sequenceLength)) {
        const ids = text.map((word) => idOf(word) || unknownId).filter((id) => id !== 0);
        const outputs = network(
          model.layers,
          model.tensors,
          pad(ids, sequenceLength, { padding: padPost, truncating: truncatePost }),
          form,
        );
        const expected = outputs.length === 1 ? [1 - outputs[0]!, outputs[0]!] : outputs;
        const found = scoresOf(wasm, text.join(" "));
        expect(found.length).toBe(expected.length);
        found.forEach((score, k) => {
          worst[form] = Math.max(worst[form], Math.abs(score - expected[k]!));
          if (!(Math.abs(score - expected[k]!) < TOLERANCE[form]))
            expect(`${form}, "${text.join(" ")}", score ${k}: ${score}`).toBe(expected[k]);
        });
      }
    }
  });

  test("worst differences", () => {
    console.log(
      `engine against twin: ${Object.entries(worst)
        .map(([form, value]) => `${form} ${value.toExponential(2)}`)
        .join(", ")}`,
    );
    for (const form of FORMS) expect(worst[form]).toBeGreaterThan(0);
  });
});

test("temperature divides what enters the last softmax or sigmoid", async () => {
  for (const [count, activation] of [
    [3, ACTIVATION_SOFTMAX],
    [2, ACTIVATION_SIGMOID],
  ] as const) {
    const model = await made({ name: "", labels: count, layers: [embedding(3), lstm(4), dense(count, activation)] }, 3);
    const plain = model.write("f32");
    for (const temperature of [0.5, 3]) {
      const file = plain.slice();
      setHeader(file, "temperature", temperature);
      const cooled = [...model.tensors];
      for (const i of [-1, -2]) cooled[cooled.length + i] = cooled.at(i)!.map((value) => value / temperature);
      const expected = network(model.layers, cooled, pad([1, 2], 6));
      scoresOf(open(repair(file)), "w0 w1").forEach((score, k) =>
        expect(Math.abs(score - expected[k]!)).toBeLessThan(TOLERANCE.f32),
      );
    }
  }
});

// --- what is kept gives the same bits ----------------------------------------------------

describe.each(FORMS)("%s: kept and computed anew are the same bits", (form) => {
  const chains: Case[] = [
    { name: "plain", layers: [embedding(5), lstm(7), dense(3, ACTIVATION_SOFTMAX)] },
    {
      name: "bidirectional, masked, pooled",
      layers: [embedding(9, MASK), lstm(5, BOTH | SEQUENCES), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)],
    },
    { name: "stacked", layers: [embedding(4), lstm(6, SEQUENCES), lstm(5), dense(3, ACTIVATION_SOFTMAX)] },
  ];
  const bits = (scores: Float32Array): number[] => [...new Uint32Array(scores.buffer)];

  test.each(chains)("input table: $name", async (each) => {
    const file = (await made(each, 21)).write(form);
    const [kept, anew] = [open(file), open(file)];
    expect(kept["keepsTables"]()).toBe(1);
    anew["forgetTables"]();
    for (let round = 0; round < 2; round++) {
      for (const text of texts(new Seeded(6), 6))
        expect(bits(scoresOf(kept, text.join(" ")))).toEqual(bits(scoresOf(anew, text.join(" "))));
    }
  });

  test("states behind leading padding", async () => {
    const file = (await made({ name: "", layers: [embedding(5), lstm(7), dense(3, ACTIVATION_SOFTMAX)] }, 22)).write(
      form,
    );
    const [kept, anew] = [open(file), open(file)];
    expect(kept["keepsPrefix"]()).toBe(1);
    anew["forgetPrefix"]();
    for (const text of texts(new Seeded(7), 6))
      expect(bits(scoresOf(kept, text.join(" ")))).toEqual(bits(scoresOf(anew, text.join(" "))));
  });

  test("hashed n-grams: with and without the table", async () => {
    const random = new Seeded(23);
    const model = await makeModel(
      {
        words,
        labels: labels(3),
        layers: [embedding(5, MASK), lstm(7, BOTH), dense(3, ACTIVATION_SOFTMAX)],
        tokenizer: { ngramBuckets: 50, ngramMin: 2, ngramMax: 4 },
      },
      (_, length) => random.floats(length, 0.7),
    );
    const file = model.write(form);
    const [kept, anew] = [open(file), open(file)];
    anew["forgetTables"]();
    for (const text of ["unheard w1 of", "w0 w1", "zzz", "äöü 中文"]) {
      expect(bits(scoresOf(kept, text))).toEqual(bits(scoresOf(anew, text)));
      // Mean of the n-grams' rows, as a second reader finds them.
      const rows = readRows(kept, text);
      const expected = network(model.layers, model.tensors, rows, form);
      scoresOf(kept, text).forEach((score, k) => expect(Math.abs(score - expected[k]!)).toBeLessThan(TOLERANCE[form]));
    }
  });

  test("the order of texts does not matter", async () => {
    const file = (
      await made({ name: "", layers: [embedding(5), lstm(7, BOTH), dense(3, ACTIVATION_SOFTMAX)] }, 24)
    ).write(form);
    const list = texts(new Seeded(8), 6).map((text) => text.join(" "));
    const wasm = open(file);
    const forwards = list.map((text) => bits(scoresOf(wasm, text)));
    const backwards = [...list]
      .reverse()
      .map((text) => bits(scoresOf(wasm, text)))
      .reverse();
    expect(backwards).toEqual(forwards);
    expect(list.map((text) => bits(scoresOf(open(file), text)))).toEqual(forwards);
  });
});

/** Rows of each step as the loaded model reads them. */
function readRows(wasm: Exports, text: string): number[][] {
  expect(wasm["prepareReading"]()).toBe(abi.OK);
  const count: number = wasm["readText"](putText(wasm, text));
  return Array.from({ length: count }, (_, t) =>
    Array.from({ length: wasm["readRowCount"](t) }, (_, r) => wasm["readRow"](t, r) as number),
  );
}

test("a letter of a script without spaces brings the row of its pair, in full", async () => {
  const random = new Seeded(26);
  const letters = ["\u5f00", "\u706f"];
  const model = await makeModel(
    {
      words: letters,
      labels: labels(3),
      layers: [embedding(5, MASK), lstm(6, BOTH), dense(3, ACTIVATION_SOFTMAX)],
      tokenizer: { splitScripts: true, letterPairs: true, ngramBuckets: 16, ngramMin: 3, ngramMax: 5 },
    },
    (_, length) => random.floats(length, 1),
  );
  const hash = Buffer.from(letters.join("")).reduce((sum, byte) => Math.imul(sum ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
  const steps = [[1], [2, abi.CONTEXT_ROW + 1 + letters.length + (hash % 16)]];
  for (const form of FORMS) {
    const expected = network(model.layers, model.tensors, steps, form);
    scoresOf(open(model.write(form)), letters.join("")).forEach((score, k) =>
      expect(Math.abs(score - expected[k]!)).toBeLessThan(TOLERANCE[form]),
    );
  }
});

test("a vocabulary beyond the table's budget is projected anew, with the twin's scores", async () => {
  // 33 groups of 64 bytes in two directions for each row: the budget holds 7,943 of them.
  const many = Array.from({ length: 8000 }, (_, i) => `v${i}`);
  const random = new Seeded(25);
  const model = await makeModel(
    { words: many, labels: labels(3), layers: [embedding(2), lstm(129, BOTH), dense(3, ACTIVATION_SOFTMAX)] },
    (_, length) => random.floats(length, 0.2),
  );
  const wasm = open(model.write("f32"));
  expect(wasm["keepsTables"]()).toBe(0);
  const expected = network(model.layers, model.tensors, pad([8000, 1], 8));
  scoresOf(wasm, "v7999 v0").forEach((score, k) => expect(Math.abs(score - expected[k]!)).toBeLessThan(TOLERANCE.f32));
});

// --- the edges ----------------------------------------------------------------------------

describe("overflow is reported, not scored", () => {
  test.each([
    ["softmax", ACTIVATION_SOFTMAX],
    ["sigmoid", ACTIVATION_SIGMOID],
    ["linear", ACTIVATION_LINEAR],
  ] as const)("before %s", async (_, activation) => {
    const model = await makeModel(
      { words, labels: labels(3), layers: [embedding(2), lstm(2), dense(3, activation)] },
      (_, length) => new Float32Array(length).fill(3e38),
    );
    const wasm = open(model.write("f32"));
    expect(wasm["classify"](putText(wasm, "w0 w1"))).toBe(abi.ERR_NOT_FINITE);
  });

  test("huge weights inside the LSTM only saturate it", async () => {
    const model = await makeModel(
      { words, labels: labels(3), layers: [embedding(2), lstm(2), dense(3, ACTIVATION_SOFTMAX)] },
      (i, length) => new Float32Array(length).fill(i < 4 ? 3e38 : 1),
    );
    expect(scoresOf(open(model.write("f32")), "w0 w1").every(Number.isFinite)).toBe(true);
  });
});

test("a masked text without tokens has the scores of the state zero", async () => {
  for (const layers of [
    [embedding(3, MASK), lstm(4, BOTH), dense(3, ACTIVATION_SOFTMAX)],
    [embedding(3, MASK), lstm(4, SEQUENCES), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)],
  ]) {
    const model = await made({ name: "", layers }, 30);
    const expected = network(model.layers, model.tensors, []);
    scoresOf(open(model.write("f32")), "nothing known").forEach((score, k) =>
      expect(Math.abs(score - expected[k]!)).toBeLessThan(TOLERANCE.f32),
    );
  }
});

test("a text longer than the buffer is refused", async () => {
  const wasm = open((await made(cases[0]!, 1)).write("f32"));
  expect(wasm["classify"](abi.TEXT_CAPACITY + 1)).toBe(abi.ERR_TEXT_TOO_LONG);
  expect(wasm["classify"](0xffffffff)).toBe(abi.ERR_TEXT_TOO_LONG);
  expect(wasm["classify"](abi.TEXT_CAPACITY)).toBe(abi.OK);
});

test("of equal scores the first label wins", async () => {
  const model = await makeModel(
    { words, labels: labels(5), layers: [embedding(2), lstm(2), dense(5, ACTIVATION_SOFTMAX)] },
    (_, length) => new Float32Array(length),
  );
  const wasm = open(model.write("f32"));
  expect(new Set(scoresOf(wasm, "w0")).size).toBe(1);
  expect(wasm["bestLabel"]()).toBe(0);
});

// --- Keras' own answers ----------------------------------------------------------------------

/** Largest difference from Keras' float32 scores that is still its rounding and ours. */
const KERAS_TOLERANCE = 1e-5;

describeShared("the goldens of Keras", () => {
  describe.each(GOLDEN_MODELS)("%s", (name) => {
    test.each(["model.keras", "model.h5"] as const)("%s: ids and scores of every case", async (file) => {
      const cases = readSharedJsonLines<GoldenCase>("golden", name, "cases.jsonl");
      expect(cases.length).toBeGreaterThan(100);
      const { worst: most, wrongIds } = compareGolden(openFile(await importGolden(name, file)), cases);
      console.log(`${name}/${file}: ${cases.length} cases, worst difference from Keras ${most.toExponential(3)}`);
      expect(wrongIds).toEqual([]);
      expect(most).toBeLessThan(KERAS_TOLERANCE);
    });
  });
});
