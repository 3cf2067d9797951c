// Texts -> samples -> the network's batch: rows, padding on either side, targets, hidden words
// and n-grams, against rows that a plain twin of the hash gives.
import { beforeEach, describe, expect, test } from "vitest";
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  CONTEXT_ROW,
  LAYER_DENSE,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  OK,
  TOKENIZER_LETTER_PAIRS,
  TOKENIZER_LOWER,
  TOKENIZER_PAD_POST,
  TOKENIZER_SPLIT_SCRIPTS,
  TOKENIZER_TRUNCATE_POST,
} from "../../../assembly/abi.ts";
import { loadWasm, put, type Exports } from "../../support/wasm.ts";
import { fnv1a, ngramRows, OWN_ROW } from "./oracle.ts";

const encoder = new TextEncoder();
const WORDS = ["the", "light", "on", "off", "中", "文"];
const BUCKETS = 1000;
const NGRAM = { min: 3, max: 4 };
const STEPS = 5;
const FIRST_BUCKET = 1 + WORDS.length;
const ngrams = (word: string): number[] => ngramRows(word, NGRAM.min, NGRAM.max, BUCKETS, FIRST_BUCKET);

interface Setup {
  flags?: number;
  isMasked?: boolean;
  hashes?: boolean;
  unknownId?: number;
  outputs?: number;
  labels?: number;
}

let wasm: Exports;
beforeEach(() => {
  wasm = loadWasm("testing");
});

function say(text: string): number {
  const bytes = encoder.encode(text);
  new Uint8Array(wasm.memory.buffer, wasm["inputPtr"](), bytes.length).set(bytes);
  return bytes.length;
}

function begin(
  { flags = TOKENIZER_LOWER, isMasked = true, hashes = true, unknownId = 0, labels = 3, outputs = labels }: Setup,
  samples: [label: number, text: string][],
): void {
  const done = (status: number): void => expect(status).toBe(OK);
  done(wasm["beginModel"]());
  done(wasm["setTokenizer"](flags, STEPS, hashes ? BUCKETS : 0, hashes ? NGRAM.min : 0, hashes ? NGRAM.max : 0));
  done(wasm["setFilters"](say("!")));
  done(wasm["setSplit"](say(" ")));
  for (const word of WORDS) done(wasm["addWord"](say(word)));
  done(wasm["setUnknownId"](unknownId));
  for (let k = 0; k < labels; k++) done(wasm["addLabel"](say(`label ${k}`)));
  done(wasm["addLayer"](LAYER_EMBEDDING, isMasked ? LAYER_MASK_ZERO : 0, 0, 4, 0, 0));
  done(wasm["addLayer"](LAYER_LSTM, 0, 0, 4, 0, 0));
  done(wasm["addLayer"](LAYER_DENSE, 0, outputs === 1 ? ACTIVATION_SIGMOID : ACTIVATION_SOFTMAX, outputs, 0, 0));
  done(wasm["describeModel"]());
  for (const [label, text] of samples) done(wasm["addSample"](label, say(text)));
  done(wasm["buildNetwork"](8, 1, 1, 0.05, 0));
}

/** The batch of these samples: [sample][step] rows, and targets. */
function fill(
  order: number[],
  wordDropout = 0,
  addsNgrams = false,
  outputs = 3,
): { steps: number; rows: number[][][]; targets: number[][] } {
  const steps: number = wasm["fillSamples"](
    put(wasm, Uint32Array.from(order)),
    order.length,
    wordDropout,
    addsNgrams ? 1 : 0,
  );
  expect(wasm["networkBatch"](order.length, steps)).toBe(OK);
  const offsets = new Uint32Array(wasm.memory.buffer, wasm["networkRowOffsetsPtr"](), order.length * steps + 1);
  const ids = new Uint32Array(wasm.memory.buffer, wasm["networkRowIdsPtr"](), offsets.at(-1)!);
  const targets = new Float32Array(wasm.memory.buffer, wasm["networkTargetsPtr"](), order.length * outputs);
  return {
    steps,
    rows: order.map((_, b) =>
      Array.from({ length: steps }, (_step, t) => [
        ...ids.subarray(offsets[b * steps + t], offsets[b * steps + t + 1]),
      ]),
    ),
    targets: order.map((_, b) => [...targets.subarray(b * outputs, (b + 1) * outputs)]),
  };
}

const PAD = [0];
const [THE, LIGHT, ON, OFF] = [[1], [2], [3], [4]];

describe("steps", () => {
  const texts: [number, string][] = [
    [0, "the light"],
    [1, "on"],
    [2, ""],
    [0, "the light on the light off the"],
  ];

  test("are as many as the longest sample of the batch has when padding is masked, padded before", () => {
    begin({}, texts);
    expect(fill([0, 1])).toMatchObject({
      steps: 2,
      rows: [
        [THE, LIGHT],
        [PAD, ON],
      ],
    });
    expect(fill([1])).toMatchObject({ steps: 1, rows: [[ON]] });
    expect(fill([2])).toMatchObject({ steps: 1, rows: [[PAD]] });
    expect(fill([2, 0, 0])).toMatchObject({
      steps: 2,
      rows: [
        [PAD, PAD],
        [THE, LIGHT],
        [THE, LIGHT],
      ],
    });
  });

  test("are all of them without a mask", () => {
    begin({ isMasked: false }, texts);
    expect(fill([0, 2])).toMatchObject({
      steps: STEPS,
      rows: [
        [PAD, PAD, PAD, THE, LIGHT],
        [PAD, PAD, PAD, PAD, PAD],
      ],
    });
  });

  test("are padded behind when the tokenizer says so", () => {
    begin({ flags: TOKENIZER_PAD_POST, isMasked: false }, texts);
    expect(fill([0, 1]).rows).toEqual([
      [THE, LIGHT, PAD, PAD, PAD],
      [ON, PAD, PAD, PAD, PAD],
    ]);
  });

  test("are the last of a long text, or the first", () => {
    begin({}, texts);
    expect(fill([3]).rows).toEqual([[ON, THE, LIGHT, OFF, THE]]);
    wasm = loadWasm("testing");
    begin({ flags: TOKENIZER_TRUNCATE_POST }, texts);
    expect(fill([3]).rows).toEqual([[THE, LIGHT, ON, THE, LIGHT]]);
  });
});

test("targets are one-hot, or one number of two labels", () => {
  begin({}, [
    [2, "the"],
    [0, "on"],
    [1, "off"],
  ]);
  expect(fill([0, 1, 2]).targets).toEqual([
    [0, 0, 1],
    [1, 0, 0],
    [0, 1, 0],
  ]);
  wasm = loadWasm("testing");
  begin({ labels: 2, outputs: 1 }, [
    [1, "the"],
    [0, "on"],
  ]);
  expect(fill([0, 1, 0], 0, false, 1).targets).toEqual([[1], [0], [1]]);
});

describe("words", () => {
  test("outside the vocabulary are their n-grams, the unknown word, or nothing", () => {
    const texts: [number, string][] = [[0, "the lightning"]];
    begin({}, texts);
    expect(fill([0]).rows).toEqual([[THE, ngrams("lightning")]]);
    wasm = loadWasm("testing");
    begin({ hashes: false, unknownId: 4 }, texts);
    expect(fill([0]).rows).toEqual([[THE, [4]]]);
    wasm = loadWasm("testing");
    begin({ hashes: false }, texts);
    expect(fill([0]).rows).toEqual([[THE]]);
  });

  test("inside it are also their own row and n-grams", () => {
    begin({}, [[0, "the light lights"]]);
    expect(fill([0], 0, true).rows).toEqual([
      [[OWN_ROW + 1, ...ngrams("the")], [OWN_ROW + 2, ...ngrams("light")], ngrams("lights")],
    ]);
  });

  test("of letters bring their pair with the letter before", () => {
    begin({ flags: TOKENIZER_SPLIT_SCRIPTS | TOKENIZER_LETTER_PAIRS }, [[0, "中文 the 文"]]);
    const pair = CONTEXT_ROW + (FIRST_BUCKET + (fnv1a("中文") % BUCKETS));
    expect(fill([0]).rows).toEqual([[[5], [6, pair], THE, [6]]]);
    expect(fill([0], 0, true).rows).toEqual([
      [
        [OWN_ROW + 5, ...ngrams("中")],
        [OWN_ROW + 6, ...ngrams("文"), pair],
        [OWN_ROW + 1, ...ngrams("the")],
        [OWN_ROW + 6, ...ngrams("文")],
      ],
    ]);
  });

  test.each([0.2, 0.5])("are hidden by the share %d: read as n-grams", (share) => {
    begin({}, [[0, "the light on unheard"]]);
    let hidden = 0;
    const rounds = 2000;
    for (let i = 0; i < rounds; i++) {
      const [sample] = fill([0], share).rows;
      expect(sample![3]).toEqual(ngrams("unheard"));
      ["the", "light", "on"].forEach((word, t) => {
        if (sample![t]!.length === 1) return expect(sample![t]).toEqual([t + 1]);
        expect(sample![t]).toEqual(ngrams(word));
        hidden++;
      });
    }
    expect(Math.abs(hidden - 3 * rounds * share)).toBeLessThan(4 * Math.sqrt(3 * rounds * share * (1 - share)));
  });

  test("are hidden as the unknown word without n-grams, which itself stays", () => {
    begin({ hashes: false, unknownId: 4 }, [[0, "the off the"]]);
    const seen = new Set<string>();
    for (let i = 0; i < 200; i++) seen.add(fill([0], 0.5).rows[0]!.join());
    expect([...seen].sort()).toEqual(["1,4,1", "1,4,4", "4,4,1", "4,4,4"]);
  });

  test("are all hidden in a batch, and all bring their context row, or none, where equal tokens are drawn once", () => {
    begin({ flags: TOKENIZER_SPLIT_SCRIPTS | TOKENIZER_LETTER_PAIRS }, [
      [0, "the light 中文"],
      [1, "light the"],
      [2, "文 the 中文"],
    ]);
    expect(wasm["shareDraws"]()).toBe(1);
    const seen = { the: new Set<string>(), light: new Set<string>(), pair: new Set<string>(), both: new Set<string>() };
    for (let i = 0; i < 300; i++) {
      const [first, second, third] = fill([0, 1, 2], 0.5).rows.map((steps) => steps.filter(([row]) => row !== 0));
      expect(second).toEqual([first![1], first![0]]);
      // 文 behind 中 is another token than 文 alone.
      expect(third!.slice(1)).toEqual([first![0], ...first!.slice(2)]);
      seen.the.add(first![0]!.join());
      seen.light.add(first![1]!.join());
      seen.pair.add(first![3]!.join());
      seen.both.add([first![0]!.length, first![1]!.length].join());
    }
    expect([seen.the.size, seen.light.size, seen.pair.size, seen.both.size]).toEqual([2, 2, 4, 4]);
  });

  test("bring a step's context row 35 % of the time while words are hidden", () => {
    begin({ flags: TOKENIZER_SPLIT_SCRIPTS | TOKENIZER_LETTER_PAIRS }, [[0, "中文"]]);
    let kept = 0;
    const rounds = 2000;
    for (let i = 0; i < rounds; i++) kept += fill([0], 1e-9).rows[0]![1]!.length - 1;
    expect(Math.abs(kept - 0.35 * rounds)).toBeLessThan(4 * Math.sqrt(0.35 * 0.65 * rounds));
  });
});
