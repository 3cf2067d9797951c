// Text -> shares of a label's score. Twin one: in a masked model the score of some tokens is
// that of a text of these tokens alone, to the bit. Twin two, for models that read padding in a
// hidden token's place: the network in f64 (reference.ts) on ids with zeros in them.
import { beforeAll, describe, expect, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import {
  Seeded,
  dense,
  dropout,
  embedding,
  loadFile,
  lstm,
  minGru,
  makeModel,
  pool,
  putText,
  scoresOf,
  trainTiny,
  type LayerShape,
  type ModelSpec,
} from "../support/models.ts";
import { network, pad } from "../support/reference.ts";
import { loadWasm, type Exports } from "../support/wasm.ts";

const {
  LAYER_BIDIRECTIONAL: BOTH,
  LAYER_MASK_ZERO: MASK,
  LAYER_POOL_MAX: MAX,
  LAYER_POOL_MEAN: MEAN,
  LAYER_SEQUENCES: SEQUENCES,
} = abi;
const { ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX, MAX_PIECES } = abi;

const words = Array.from({ length: 12 }, (_, i) => `w${i}`);
const BEST = 0xffffffff;

interface Explained {
  label: number;
  score: number;
  base: number;
  shares: number[];
  spans: [number, number][];
}

function open(file: Uint8Array): Exports {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, file)).toBe(abi.OK);
  expect(wasm["prepareExplaining"]()).toBe(1);
  return wasm;
}

function explain(wasm: Exports, text: string, label = BEST, between: () => void = () => {}): Explained {
  expect(wasm["classify"](putText(wasm, text))).toBe(abi.OK);
  expect(wasm["explainLast"](label)).toBe(abi.OK);
  while (wasm["passesLeft"]() > 0) {
    between();
    expect(wasm["explainNext"]()).toBe(abi.OK);
  }
  const pieces = Array.from({ length: wasm["pieceCount"]() }, (_, i) => i);
  return {
    label: wasm["explainedLabel"](),
    score: wasm["explainedScore"](),
    base: wasm["baseScore"](),
    shares: pieces.map((i) => wasm["pieceShare"](i)),
    spans: pieces.map((i) => [wasm["pieceStart"](i), wasm["pieceEnd"](i)]),
  };
}

/** Shares by the formula in assembly/explain.ts: score(from, to) is that of pieces from ... to - 1. */
function byPaths(n: number, score: (from: number, to: number) => number): number[] {
  return Array.from({ length: n }, (_, i) => (score(0, i + 1) - score(0, i)) / 2 + (score(i, n) - score(i + 1, n)) / 2);
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function spec(layers: LayerShape[], changes: Partial<ModelSpec> = {}): ModelSpec {
  return { words, labels: ["a", "b", "c"].slice(0, layers.at(-1)!.units === 1 ? 2 : 3), layers, ...changes };
}

const masked: [string, ModelSpec][] = [
  ["one direction", spec([embedding(5, MASK), lstm(7), dense(3, ACTIVATION_SOFTMAX)])],
  [
    "both directions and pools",
    spec([embedding(4, MASK), dropout(0.3), lstm(6, BOTH | SEQUENCES), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)]),
  ],
  ["minGRU", spec([embedding(4, MASK), minGru(6, BOTH | SEQUENCES), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)])],
  ["one unit for two labels", spec([embedding(4, MASK), lstm(5, BOTH), dense(1, ACTIVATION_SIGMOID)])],
  ["stacked", spec([embedding(4, MASK), lstm(5, SEQUENCES), lstm(3, BOTH), dense(3, ACTIVATION_SOFTMAX)])],
  ["unknown words have an id", spec([embedding(4, MASK), lstm(5), dense(3, ACTIVATION_SOFTMAX)], { unknownId: 1 })],
];

describe("a masked model: what tokens score alone, to the bit", () => {
  test.each(masked)("%s", async (_name, each) => {
    const random = new Seeded(3);
    const model = await makeModel(each, (_, length) => random.floats(length, 0.9));
    for (const form of ["f32", "int8", "int8-weights"] as const) {
      const wasm = open(model.write(form));
      for (let length = 0; length <= 8; length++) {
        const tokens = Array.from({ length }, () =>
          each.unknownId && random.below(4) === 0 ? "other" : random.pick(words),
        );
        for (let label = 0; label < each.labels.length; label++) {
          const found = explain(wasm, tokens.join(" "), label);
          const score = (from: number, to: number): number => scoresOf(wasm, tokens.slice(from, to).join(" "))[label]!;
          expect(found.shares).toEqual(byPaths(length, score));
          expect(found).toMatchObject({ label, score: score(0, length), base: score(0, 0) });
        }
      }
    }
  });

  test("a letter that is shown without the one before it has no pair with it", async () => {
    const letters = ["中", "文", "打", "开", "灯"];
    const random = new Seeded(5);
    const model = await makeModel(
      {
        words: letters.slice(0, 3),
        labels: ["a", "b"],
        tokenizer: { splitScripts: true, letterPairs: true, ngramBuckets: 64, ngramMin: 1, ngramMax: 3 },
        layers: [embedding(6, MASK), lstm(5, BOTH), dense(2, ACTIVATION_SOFTMAX)],
      },
      (_, length) => random.floats(length, 0.9),
    );
    const wasm = open(model.write("f32"));
    for (let length = 1; length <= 8; length++) {
      const tokens = Array.from({ length }, () => random.pick(letters));
      expect(explain(wasm, tokens.join(""), 1).shares).toEqual(
        byPaths(length, (from, to) => scoresOf(wasm, tokens.slice(from, to).join(""))[1]!),
      );
    }
  });

  test("of a text that is cut, the kept tokens, wherever they lie in the ring", async () => {
    for (const truncatePost of [false, true]) {
      const random = new Seeded(7);
      const model = await makeModel(
        spec([embedding(5, MASK), lstm(6), dense(3, ACTIVATION_SOFTMAX)], {
          tokenizer: { sequenceLength: 5, truncatePost },
        }),
        (_, length) => random.floats(length, 0.9),
      );
      const wasm = open(model.write("int8"));
      for (let length = 6; length <= 16; length++) {
        const tokens = Array.from({ length }, () => random.pick(words));
        const first = truncatePost ? 0 : length - 5;
        const kept = tokens.slice(first, first + 5);
        const found = explain(wasm, tokens.join(" "), 2);
        expect(found.shares).toEqual(byPaths(5, (from, to) => scoresOf(wasm, kept.slice(from, to).join(" "))[2]!));
        expect(found.spans[0]).toEqual([
          tokens.slice(0, first).join(" ").length + (first > 0 ? 1 : 0),
          tokens.slice(0, first + 1).join(" ").length,
        ]);
      }
    }
  });

  test("more tokens than pieces: runs of equal length, the last one shorter", async () => {
    const random = new Seeded(8);
    const model = await makeModel(
      spec([embedding(3, MASK), lstm(4), dense(3, ACTIVATION_SOFTMAX)], {
        tokenizer: { sequenceLength: 4 * MAX_PIECES },
      }),
      (_, length) => random.floats(length, 0.9),
    );
    const wasm = open(model.write("f32"));
    for (const [length, size, count] of [
      [MAX_PIECES, 1, MAX_PIECES],
      [MAX_PIECES + 1, 2, MAX_PIECES / 2 + 1],
      [3 * MAX_PIECES - 1, 3, MAX_PIECES],
    ] as const) {
      const tokens = Array.from({ length }, () => random.pick(words));
      const found = explain(wasm, tokens.join(" "), 0);
      expect(found.shares).toHaveLength(count);
      expect(found.shares).toEqual(
        byPaths(count, (from, to) => scoresOf(wasm, tokens.slice(from * size, to * size).join(" "))[0]!),
      );
      expect(found.spans[1]).toEqual([
        tokens.slice(0, size).join(" ").length + 1,
        tokens.slice(0, 2 * size).join(" ").length,
      ]);
      expect(found.spans.at(-1)![1]).toBe(tokens.join(" ").length);
    }
  });
});

describe("padding that is read: as the network in f64 with zeros in place of what is hidden", () => {
  test.each<[string, LayerShape[], ModelSpec["tokenizer"]]>([
    ["padding before", [embedding(5), lstm(6), dense(3, ACTIVATION_SOFTMAX)], {}],
    ["padding behind", [embedding(5), lstm(6), dense(3, ACTIVATION_SOFTMAX)], { padPost: true }],
    ["minGRU", [embedding(5), minGru(6, BOTH), dense(3, ACTIVATION_SOFTMAX)], {}],
    ["both directions", [embedding(5), lstm(6, BOTH), dense(3, ACTIVATION_SOFTMAX)], {}],
    ["pools", [embedding(5), lstm(6, SEQUENCES), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)], { padPost: true }],
  ])("%s", async (_name, layers, tokenizer = {}) => {
    const random = new Seeded(4);
    const model = await makeModel(spec(layers, { tokenizer }), (_, length) => random.floats(length, 0.9));
    const wasm = open(model.write("f32"));
    let largest = 0;
    for (let length = 0; length <= 11; length++) {
      const ids = Array.from({ length }, () => 1 + random.below(words.length));
      const kept = ids.slice(-8);
      const score = (from: number, to: number): number =>
        network(
          model.layers,
          model.tensors,
          pad(
            kept.map((id, i) => (i >= from && i < to ? id : 0)),
            8,
            { padding: tokenizer.padPost ?? false },
          ),
        )[1]!;
      const found = explain(wasm, ids.map((id) => words[id - 1]).join(" "), 1);
      const expected = byPaths(kept.length, score);
      expect(found.shares).toHaveLength(expected.length);
      expected.forEach((share, i) => {
        largest = Math.max(largest, Math.abs(share - found.shares[i]!));
      });
      expect(found.base).toBeCloseTo(score(0, 0), 5);
    }
    expect(largest).toBeLessThan(4e-6); // four scores of f32 sums
  });
});

describe("a trained model", () => {
  let file: Uint8Array;
  beforeAll(async () => {
    file = (await trainTiny()).write("int8");
  });
  const TEXTS = [
    "please play some jazz in the bedroom",
    "is it going to rain?",
    "",
    "???",
    "lights lights LIGHTS",
    "好 play",
    "x".repeat(5000),
    "turn the volume up ".repeat(40),
  ];

  test("the shares add up to score - base within 1e-6, and the label is the best one unless another is asked for", () => {
    const wasm = open(file);
    for (const text of TEXTS) {
      const scores = scoresOf(wasm, text);
      const { label, score, base, shares } = explain(wasm, text);
      expect(label).toBe(scores.indexOf(Math.max(...scores)));
      expect(score).toBe(scores[label]);
      expect(Math.abs(sum(shares) - (score - base))).toBeLessThan(1e-6);
      expect(explain(wasm, text, 2)).toMatchObject({ label: 2, score: scores[2] });
    }
  });

  test("other texts between the passes change no bit, and the last text's own scores stay", () => {
    const wasm = open(file);
    for (const text of TEXTS) {
      const alone = explain(wasm, text);
      const scores = new Float32Array(wasm.memory.buffer, wasm["scoresPtr"](), 3);
      let other: Float32Array = Float32Array.of();
      const between = explain(wasm, text, BEST, () => {
        other = scoresOf(wasm, "stop the music 中文");
      });
      expect(between).toEqual(alone);
      if (alone.shares.length > 0) expect(scores.slice()).toEqual(other);
    }
  });

  test("no pass is done when none is left, and a text without tokens has none", () => {
    const wasm = open(file);
    const { shares, score, base } = explain(wasm, "");
    expect({ shares, base }).toEqual({ shares: [], base: score });
    expect(wasm["explainNext"]()).toBe(abi.ERR_BAD_STATE);
    explain(wasm, "play jazz");
    expect(wasm["explainNext"]()).toBe(abi.ERR_BAD_STATE);
    expect([wasm["pieceStart"](2), wasm["pieceEnd"](2), wasm["pieceShare"](2)]).toEqual([0, 0, 0]);
    expect(loadWasm("testing")["explainLast"](0)).toBe(abi.ERR_NO_MODEL);
  });

  test("memory does not grow", () => {
    const wasm = open(file);
    const bytes = wasm.memory.buffer.byteLength;
    for (let i = 0; i < 300; i++) explain(wasm, TEXTS[i % TEXTS.length]!);
    expect(wasm.memory.buffer.byteLength).toBe(bytes);
  });
});
