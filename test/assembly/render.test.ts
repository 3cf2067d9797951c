// Scores -> lines: fixed point against exact decimal arithmetic, order and ties, escapes,
// rejection, and the card. Scores are written into the engine's buffer, so any f32 can be shown.
import { beforeAll, describe, expect, test } from "vitest";
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  LAYER_BIDIRECTIONAL,
  LAYER_MASK_ZERO,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  MAX_LABEL_BYTES,
  MAX_WIDTH,
  OK,
} from "../../assembly/abi.ts";
import { repair, setHeader } from "../support/model-file.ts";
import { Seeded, dense, dropout, embedding, loadFile, lstm, makeModel, pool, putText } from "../support/models.ts";
import { loadWasm, type Exports } from "../support/wasm.ts";

async function file(labels: string[], name = "", version = ""): Promise<Uint8Array> {
  const model = await makeModel(
    { words: ["hi"], labels, name, version, layers: [embedding(1), lstm(1), dense(labels.length, ACTIVATION_SOFTMAX)] },
    (_, length) => new Float32Array(length),
  );
  return model.write("f32");
}

function open(bytes: Uint8Array): Exports {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, bytes)).toBe(OK);
  expect(wasm["prepareLine"]()).toBe(1);
  expect(wasm["classify"](putText(wasm, "hi"))).toBe(OK);
  return wasm;
}

function line(wasm: Exports, scores: number[], json: boolean, top = 0): string {
  new Float32Array(wasm.memory.buffer, wasm["scoresPtr"](), scores.length).set(scores);
  return new TextDecoder("utf-8", { fatal: true }).decode(
    new Uint8Array(wasm.memory.buffer, wasm["linePtr"](), wasm["renderLine"](json, top)),
  );
}

/** Six decimals, ties to even, of the f32 nearest to `value`, by whole-number arithmetic. */
function fixed(value: number): string {
  const exact = Math.max(-1e12, Math.min(1e12, Math.fround(value)));
  // An f32 is m / 2^e with whole m; 149 is the largest e.
  const shift = 149n;
  let scaled = 0n;
  let rest = Math.abs(exact);
  for (let bit = 40; bit >= -149 && rest > 0; bit--) {
    if (rest >= 2 ** bit) {
      rest -= 2 ** bit;
      scaled += 1n << BigInt(bit + 149);
    }
  }
  const product = scaled * 1000000n;
  let millionths = product >> shift;
  const left = product - (millionths << shift);
  const half = 1n << (shift - 1n);
  if (left > half || (left === half && millionths % 2n === 1n)) millionths++;
  const digits = millionths.toString().padStart(7, "0");
  return `${exact < 0 && millionths > 0n ? "-" : ""}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}

test("several labels: all that reach the threshold, best first; none if none does", async () => {
  const labels = ["a", 'b"', "c"];
  const model = await makeModel(
    { words: ["hi"], labels, layers: [embedding(1), lstm(1), dense(3, ACTIVATION_SIGMOID)], multiLabel: true },
    (_, length) => new Float32Array(length),
  );
  const wasm = open(model.write("f32"));
  const scores = [0.5, 0.25, 0.75];
  expect(line(wasm, scores, true)).toBe(
    '{"label":"c","score":0.750000,"labels":[{"label":"c","score":0.750000},{"label":"a","score":0.500000}],"scores":{"c":0.750000,"a":0.500000,"b\\"":0.250000}}\n',
  );
  expect(line(wasm, scores, true, 1)).toContain('{"label":"a","score":0.500000}],"scores":{"c":0.750000}}');
  expect(line(wasm, scores, false)).toBe("c\t0.750000\ta\t0.500000\n");
  expect(line(wasm, scores, false, 1)).toBe("c\t0.750000\n");
  expect(line(wasm, scores, false, 9)).toBe('c\t0.750000\ta\t0.500000\tb"\t0.250000\n');
  expect(line(wasm, [0.1, 0.3, 0.2], true, 1)).toBe(
    '{"label":null,"score":0.300000,"unknown":true,"labels":[],"scores":{"b\\"":0.300000}}\n',
  );
  expect(line(wasm, [0.1, 0.3, 0.2], false)).toBe("?\t0.300000\n");
});

test("the longest labels of a model that gives several fit in the line", async () => {
  const labels = Array.from({ length: 40 }, (_, i) => String.fromCharCode(65 + i) + '"'.repeat(MAX_LABEL_BYTES - 2));
  const model = await makeModel(
    { words: ["hi"], labels, layers: [embedding(1), lstm(1), dense(40, ACTIVATION_SIGMOID)], multiLabel: true },
    (_, length) => new Float32Array(length),
  );
  const wasm = open(model.write("f32"));
  const shown = JSON.parse(line(wasm, labels.map(() => 3e38), true)) as { labels: object[]; scores: object }; // prettier-ignore
  expect([shown.labels.length, Object.keys(shown.scores).length]).toEqual([40, 40]);
});

describe("scores", () => {
  let wasm: Exports;
  beforeAll(async () => {
    wasm = open(await file(["a", "b"]));
  });
  const shown = (value: number): string => /"b":(.*?)[,}]/.exec(line(wasm, [0, value], true))![1]!;

  test.each([
    0, -0, 1, 0.5, 0.1, 0.9999995, 0.9999994, 0.0000005, 0.00000049, 1e-45, -1e-9, -0.25, 123456.789, 999999.5, 1e12,
    3.4e38, -3.4e38,
  ])("%d", (value) => {
    expect(shown(value)).toBe(fixed(value));
  });

  test("50,000 random ones, as exact arithmetic rounds them", () => {
    const random = new Seeded(4);
    for (let i = 0; i < 50_000; i++) {
      const value = i % 2 ? random.next() : random.between(-1, 1) * 10 ** (random.below(16) - 8);
      const text = shown(value);
      // The engine multiplies in f64: exact up to a tie that 2^53 cannot hold.
      if (text !== fixed(value)) expect(`${value}: ${text}`).toBe(`${value}: ${fixed(value)}`);
    }
  });

  test("are numbers to JSON, within half a millionth", () => {
    const random = new Seeded(5);
    for (let i = 0; i < 1000; i++) {
      const value = Math.fround(random.next());
      expect(Math.abs(JSON.parse(shown(value)) - value)).toBeLessThanOrEqual(0.5000001e-6);
    }
  });
});

describe("order", () => {
  let wasm: Exports;
  beforeAll(async () => {
    wasm = open(await file(["a", "b", "c", "d", "e"]));
  });

  test("text: the best label, or the best ones", () => {
    const scores = [0.1, 0.4, 0.2, 0.25, 0.05];
    expect(line(wasm, scores, false)).toBe("b\t0.400000\n");
    expect(line(wasm, scores, false, 1)).toBe("b\t0.400000\n");
    expect(line(wasm, scores, false, 3)).toBe("b\t0.400000\td\t0.250000\tc\t0.200000\n");
    expect(line(wasm, scores, false, 99)).toBe("b\t0.400000\td\t0.250000\tc\t0.200000\ta\t0.100000\te\t0.050000\n");
  });

  test("JSON: all scores best first, or the best ones", () => {
    const scores = [0.1, 0.4, 0.2, 0.25, 0.05];
    expect(line(wasm, scores, true)).toBe(
      '{"label":"b","score":0.400000,"scores":{"b":0.400000,"d":0.250000,"c":0.200000,"a":0.100000,"e":0.050000}}\n',
    );
    expect(line(wasm, scores, true, 2)).toBe('{"label":"b","score":0.400000,"scores":{"b":0.400000,"d":0.250000}}\n');
  });

  test("ties keep the order of the classes, at any length", () => {
    expect(
      line(wasm, [0.2, 0.2, 0.2, 0.2, 0.2], false, 5)
        .split("\t")
        .filter((_, i) => i % 2 === 0),
    ).toEqual(["a", "b", "c", "d", "e"]);
    const random = new Seeded(6);
    for (let i = 0; i < 500; i++) {
      const scores = Array.from({ length: 5 }, () => random.below(3) / 4);
      const expected = ["a", "b", "c", "d", "e"].sort(
        (x, y) => scores["abcde".indexOf(y)]! - scores["abcde".indexOf(x)]!,
      );
      for (const top of [1, 2, 5]) {
        const shown = line(wasm, scores, false, top)
          .trimEnd()
          .split("\t")
          .filter((_, at) => at % 2 === 0);
        expect(shown).toEqual(expected.slice(0, top));
      }
    }
  });
});

test("labels are escaped in JSON and plain in text, at their greatest length", async () => {
  const labels = ['say "hi"', "back\\slash", "中文 \u{1f600}", "\u2028\u0085", '"'.repeat(256), "\\".repeat(256)];
  const wasm = open(await file(labels));
  for (let best = 0; best < labels.length; best++) {
    const scores = labels.map((_, i) => (i === best ? 1 : 0));
    const parsed = JSON.parse(line(wasm, scores, true)) as { label: string; scores: Record<string, number> };
    expect(parsed.label).toBe(labels[best]);
    expect(Object.keys(parsed.scores).sort()).toEqual([...labels].sort());
    expect(line(wasm, scores, false)).toBe(`${labels[best]}\t1.000000\n`);
  }
});

test("as many labels as a Dense layer has units, as long as labels can be, all escaped, fit their line", async () => {
  const labels = Array.from({ length: MAX_WIDTH }, (_, i) => String(i).padStart(MAX_LABEL_BYTES, '"'));
  const parsed = JSON.parse(line(open(await file(labels)), [], true)) as { scores: Record<string, number> };
  expect(new Set(Object.keys(parsed.scores))).toEqual(new Set(labels));
});

describe("rejection", () => {
  async function rejecting(fields: Record<string, number>): Promise<Exports> {
    const bytes = await file(["a", "b", "c"]);
    for (const [name, value] of Object.entries(fields)) setHeader(bytes, name, value);
    return open(repair(bytes));
  }

  test("a best score below the least", async () => {
    const wasm = await rejecting({ rejectScore: 0.5 });
    expect(line(wasm, [0.5, 0.3, 0.2], false)).toBe("a\t0.500000\n");
    expect(line(wasm, [0.49, 0.31, 0.2], false, 2)).toBe("?\t0.490000\tb\t0.310000\n");
    expect(JSON.parse(line(wasm, [0.49, 0.31, 0.2], true))).toEqual({
      label: null,
      score: 0.49,
      unknown: true,
      scores: { a: 0.49, b: 0.31, c: 0.2 },
    });
  });

  test("too small a lead", async () => {
    const wasm = await rejecting({ rejectMargin: 0.25 });
    expect(line(wasm, [0.5, 0.25, 0.25], false)).toBe("a\t0.500000\n");
    expect(line(wasm, [0.3, 0.5, 0.2], false)).toBe("?\t0.500000\n");
  });

  test("too many tokens outside the vocabulary", async () => {
    const wasm = await rejecting({ rejectUnknown: 0.5 });
    const best = (text: string): string => {
      expect(wasm["classify"](putText(wasm, text))).toBe(OK);
      return line(wasm, [0.8, 0.1, 0.1], false);
    };
    expect(best("hi ho")).toBe("a\t0.800000\n");
    expect(best("hi ho ho")).toBe("?\t0.800000\n");
    expect(best("")).toBe("a\t0.800000\n");
  });

  test("never, by default", async () => {
    const wasm = open(await file(["a", "b", "c"]));
    expect(wasm["classify"](putText(wasm, "all of this is unknown"))).toBe(OK);
    expect(line(wasm, [0, 0, 0], false)).toBe("a\t0.000000\n");
  });
});

describe("parents", () => {
  // The best label is the first one, since the weights are zeros.
  const labels = ["a/b/on", "a/b/off", "a/bc", "a", "x/y", "a/b"];
  async function levelled(fields: Record<string, number>): Promise<Exports> {
    const bytes = await file(labels);
    for (const [name, value] of Object.entries(fields)) setHeader(bytes, name, value);
    return open(repair(bytes));
  }
  const shown = (wasm: Exports, scores: number[]): string => line(wasm, scores, false).trimEnd().replace("\t", " ");

  test("the label, its nearest parent that reaches the score, or the topmost", async () => {
    const wasm = await levelled({ levels: 0.75 });
    expect(shown(wasm, [0.75, 0.25, 0, 0, 0, 0])).toBe("a/b/on 0.750000");
    expect(shown(wasm, [0.5, 0.25, 0, 0, 0.25, 0])).toBe("a/b 0.750000");
    // a/bc is not below a/b, while the label a/b itself counts for it.
    expect(shown(wasm, [0.5, 0.125, 0.25, 0, 0.125, 0])).toBe("a 0.875000");
    expect(shown(wasm, [0.5, 0.125, 0.125, 0, 0, 0.25])).toBe("a/b 0.875000");
    expect(shown(wasm, [0.5, 0, 0, 0, 0.5, 0])).toBe("a 0.500000");
    expect(shown(wasm, [0.5, 0.5001, 0, 0, 0, 0])).toBe("a/b 1.000000");
  });

  test("stand before the scores of the labels", async () => {
    const wasm = await levelled({ levels: 0.75 });
    const scores = [0.5, 0.25, 0, 0, 0.25, 0];
    expect(line(wasm, scores, true, 2)).toBe(
      '{"label":"a/b","score":0.750000,"scores":{"a/b/on":0.500000,"a/b/off":0.250000}}\n',
    );
    expect(line(wasm, scores, false, 3)).toBe("a/b\t0.750000\ta/b/on\t0.500000\ta/b/off\t0.250000\n");
  });

  test("are off by default, and never made up for a label that has none", async () => {
    expect(shown(await levelled({}), [0.5, 0.25, 0, 0, 0.25, 0])).toBe("a/b/on 0.500000");
    const bytes = await file(["/top", "a/b"]);
    setHeader(bytes, "levels", 1);
    expect(shown(open(repair(bytes)), [0.75, 0.25])).toBe("/top 0.750000");
  });

  test("are unknown by their own score, and by their lead over what is outside them", async () => {
    const score = await levelled({ levels: 0.75, rejectScore: 0.625 });
    expect(shown(score, [0.5, 0.25, 0, 0, 0.25, 0])).toBe("a/b 0.750000");
    expect(line(score, [0.5, 0, 0, 0, 0.5, 0], true, 1)).toBe(
      '{"label":null,"score":0.500000,"unknown":true,"scores":{"a/b/on":0.500000}}\n',
    );
    const lead = await levelled({ levels: 0.75, rejectMargin: 0.5 });
    expect(shown(lead, [0.4375, 0.3125, 0, 0, 0.25, 0])).toBe("a/b 0.750000");
    expect(shown(lead, [0.375, 0.25, 0, 0, 0.375, 0])).toBe("? 0.625000");
  });

  test("the longest name, all of it escaped, fits the line as text and as JSON", async () => {
    const name = `${'"'.repeat(MAX_LABEL_BYTES - 2)}/b`;
    const bytes = await file([name, "c"]);
    setHeader(bytes, "levels", 1);
    const wasm = open(repair(bytes));
    expect((JSON.parse(line(wasm, [0.75, 0.25], true)) as { label: string }).label).toBe(name.slice(0, -2));
    expect(line(wasm, [0.75, 0.25], false, 9)).toBe(`${name.slice(0, -2)}\t0.750000\t${name}\t0.750000\n`);
  });
});

test("the card names everything of the model", async () => {
  const random = new Seeded(1);
  const model = await makeModel(
    {
      words: ["a", "b"],
      labels: ["x", 'y"'],
      name: 'kitchen \\ "n°1"',
      version: "2.1",
      tokenizer: { sequenceLength: 7, padPost: true, cleaning: ["urls", "accents"] },
      layers: [
        embedding(3, LAYER_MASK_ZERO),
        dropout(0.25, LAYER_SPATIAL),
        lstm(4, LAYER_SEQUENCES | LAYER_BIDIRECTIONAL),
        pool(LAYER_POOL_MAX | LAYER_POOL_MEAN),
        dense(2, ACTIVATION_SOFTMAX),
      ],
    },
    (_, length) => random.floats(length, 1),
  );
  for (const form of ["f32", "int8", "int8-weights"] as const) {
    const bytes = model.write(form);
    const wasm = open(bytes);
    const card = JSON.parse(
      new TextDecoder().decode(new Uint8Array(wasm.memory.buffer, wasm["linePtr"](), wasm["renderCard"]())),
    );
    expect(card).toEqual({
      name: 'kitchen \\ "n°1"',
      version: "2.1",
      format: 1,
      form,
      resumable: false,
      file_bytes: bytes.length,
      weight_bytes: expect.any(Number),
      labels: ["x", 'y"'],
      tokenizer: {
        lower: true,
        char_level: false,
        split_scripts: false,
        padding: "post",
        truncating: "pre",
        sequence_length: 7,
        words: 2,
        ngram_buckets: 0,
        cleaning: ["urls", "accents"],
      },
      layers: [
        { kind: "embedding", input: 3, output: 3, mask_zero: true },
        { kind: "dropout", input: 3, output: 3, spatial: true, rate: 0.25 },
        { kind: "lstm", input: 3, output: 8, bidirectional: true, sequences: true },
        { kind: "pool", input: 8, output: 16, max: true, mean: true },
        { kind: "dense", input: 16, output: 2, activation: "softmax" },
      ],
      temperature: 1,
      reject: { score: 0, margin: 0, unknown_share: 1 },
      input_table: true,
      memory_bytes: wasm.memory.buffer.byteLength,
    });
  }
});
