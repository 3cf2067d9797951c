// Pruning: what is cut out of each tensor, by files that the test puts together itself; which
// units are thought least of, by numerical derivatives; and that a pruned model trains on.
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import { addSamples, DEFAULT_RECIPE, runEpochs } from "../../../host/training/recipe.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import { headerValue } from "../../support/model-file.ts";
import {
  dense,
  dropout,
  embedding,
  type LayerShape,
  loadFile,
  lstm,
  minGru,
  makeModel,
  type ModelSpec,
  pool,
  samples,
  scoresOf,
  Seeded,
  trainTiny,
} from "../../support/models.ts";
import { loadWasm } from "../../support/wasm.ts";

const LABELS = ["x", "y", "z"];
const WORDS = ["one", "two", "three", "four", "five", "six", "seven"];
const TEXTS: readonly (readonly [label: number, text: string])[] = [
  [0, "one two three"],
  [1, "four five two one six"],
  [2, "seven one"],
  [1, "two two six five"],
];
const BOTH = abi.LAYER_BIDIRECTIONAL;
const SEQUENCES = abi.LAYER_SEQUENCES;

/** Rows and columns of a row-major matrix of `width` columns. */
function cut(values: Float32Array, width: number, rows: readonly number[], columns: readonly number[]): Float32Array {
  return Float32Array.from(rows.flatMap((row) => columns.map((column) => values[row * width + column]!)));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
/** Columns i f c o of the kept units, or u g of a minGRU. */
const gates = (kept: readonly number[], units: number, count = 4): number[] =>
  upTo(count).flatMap((gate) => kept.map((unit) => gate * units + unit));

interface Made {
  spec: ModelSpec;
  tensors: Float32Array[];
  file: Uint8Array;
}

async function make(layers: readonly LayerShape[], changes: Partial<ModelSpec> = {}, seed = 7): Promise<Made> {
  const spec: ModelSpec = { words: WORDS, labels: LABELS, layers, ...changes };
  const random = new Seeded(seed);
  const { tensors, write } = await makeModel(spec, (_, length) => random.floats(length, 0.9));
  return { spec, tensors, file: write("f32") };
}

async function opened(file: Uint8Array): Promise<Trainer> {
  const trainer = await Trainer.open(file, "model.elb");
  for (const [label, text] of TEXTS) trainer.addSample(label, text);
  return trainer;
}

async function fileOf(spec: ModelSpec, tensors: readonly Float32Array[]): Promise<Uint8Array> {
  return (
    await makeModel(spec, (index, length) => {
      expect(tensors[index]!.length).toBe(length);
      return tensors[index]!;
    })
  ).write("f32");
}

function scores(file: Uint8Array, text: string): number[] {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, file)).toBe(abi.OK);
  return [...scoresOf(wasm, text)];
}

/** Mean cross-entropy on TEXTS against targets smoothed as the ranking's are. */
function lossOf(file: Uint8Array): number {
  const wasm = loadWasm("testing");
  loadFile(wasm, file);
  const losses = TEXTS.map(([label, text]) =>
    [...scoresOf(wasm, text)].reduce(
      (sum, p, k) => sum - ((k === label ? 0.9 : 0) + 0.1 / LABELS.length) * Math.log(p),
      0,
    ),
  );
  return losses.reduce((a, b) => a + b) / losses.length;
}

const BIDIRECTIONAL = [
  embedding(5, abi.LAYER_MASK_ZERO),
  dropout(0.2),
  lstm(6, BOTH | SEQUENCES),
  pool(abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN),
  dropout(0.5),
  dense(4, abi.ACTIVATION_TANH),
  dense(3, abi.ACTIVATION_SOFTMAX),
];

describe("units that nothing reads", () => {
  test("go first, and no answer changes: both directions, both pools, a hidden Dense", async () => {
    const { spec, tensors } = await make(BIDIRECTIONAL);
    const silent = [
      [1, 4],
      [0, 1, 5],
    ];
    const kept = silent.map((units) =>
      upTo(6)
        .filter((unit) => !units.includes(unit))
        .slice(0, 3),
    );
    // The third kept unit of the first direction is a fourth one there: silence one more.
    silent[0] = upTo(6).filter((unit) => !kept[0]!.includes(unit));
    silent.forEach((units, d) =>
      units.forEach((unit) => {
        tensors[2 + 3 * d]!.fill(0, unit * 24, (unit + 1) * 24);
        for (const row of [6 * d + unit, 12 + 6 * d + unit]) tensors[7]!.fill(0, row * 4, (row + 1) * 4);
      }),
    );
    const file = await fileOf(spec, tensors);
    const pruned = (await opened(file)).prune({ units: 3 });

    const [forward, backward] = kept as [number[], number[]];
    const channels = [...forward, ...backward.map((unit) => 6 + unit)];
    const rows = [...channels, ...channels.map((channel) => 12 + channel)];
    const expected = [
      tensors[0]!,
      cut(tensors[1]!, 24, upTo(5), gates(forward, 6)),
      cut(tensors[2]!, 24, forward, gates(forward, 6)),
      cut(tensors[3]!, 24, [0], gates(forward, 6)),
      cut(tensors[4]!, 24, upTo(5), gates(backward, 6)),
      cut(tensors[5]!, 24, backward, gates(backward, 6)),
      cut(tensors[6]!, 24, [0], gates(backward, 6)),
      cut(tensors[7]!, 4, rows, upTo(4)),
      ...tensors.slice(8),
    ];
    const layers = spec.layers.map((layer) => (layer.kind === abi.LAYER_LSTM ? { ...layer, units: 3 } : layer));
    expect(pruned).toEqual(await fileOf({ ...spec, layers }, expected));
    expect(pruned.length).toBeLessThan(file.length);
    for (const [, text] of TEXTS)
      scores(pruned, text).forEach((score, k) => expect(score).toBeCloseTo(scores(file, text)[k]!, 6));
  });

  test("in a stack, what reads is the next LSTM's kernel", async () => {
    const { spec, tensors } = await make([embedding(3), lstm(5, SEQUENCES), lstm(3), dense(3, abi.ACTIVATION_SOFTMAX)]);
    for (const unit of [0, 3]) {
      tensors[2]!.fill(0, unit * 20, (unit + 1) * 20);
      tensors[4]!.fill(0, unit * 12, (unit + 1) * 12);
    }
    const file = await fileOf(spec, tensors);
    const kept = [1, 2, 4];
    const expected = [
      tensors[0]!,
      cut(tensors[1]!, 20, upTo(3), gates(kept, 5)),
      cut(tensors[2]!, 20, kept, gates(kept, 5)),
      cut(tensors[3]!, 20, [0], gates(kept, 5)),
      cut(tensors[4]!, 12, kept, upTo(12)),
      ...tensors.slice(5),
    ];
    const layers = spec.layers.map((layer) => (layer.units === 5 ? { ...layer, units: 3 } : layer));
    expect((await opened(file)).prune({ units: 3 })).toEqual(await fileOf({ ...spec, layers }, expected));
  });
});

test.each<[string, LayerShape[]]>([
  ["the last state, one direction", [embedding(4, abi.LAYER_MASK_ZERO), lstm(7), dense(3, abi.ACTIVATION_SOFTMAX)]],
  [
    "both directions, pooled",
    [
      embedding(4, abi.LAYER_MASK_ZERO),
      lstm(7, BOTH | SEQUENCES),
      pool(abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN),
      dense(3, abi.ACTIVATION_SOFTMAX),
    ],
  ],
  [
    "a minGRU",
    [
      embedding(4, abi.LAYER_MASK_ZERO),
      minGru(7, BOTH | SEQUENCES),
      pool(abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN),
      dense(3, abi.ACTIVATION_SOFTMAX),
    ],
  ],
])("the units kept are those whose scaling changes the loss most: %s", async (_, layers) => {
  const { spec, tensors, file } = await make(layers, {}, 11);
  const directions = layers[1]!.flags! & BOTH ? 2 : 1;
  const count = layers[1]!.kind === abi.LAYER_LSTM ? 4 : 2; // of gates
  const biasOf = (d: number): number => (count === 4 ? 3 + 3 * d : 2 + 2 * d);
  const last = tensors.length - 2;
  const blocks = tensors[last]!.length / (3 * 7 * directions);
  const slope = async (d: number, unit: number): Promise<number> => {
    const at = async (factor: number): Promise<number> => {
      const scaled = tensors.map((values) => values.slice());
      if (count === 4) for (let k = 0; k < 28; k++) scaled[2 + 3 * d]![unit * 28 + k]! *= factor;
      for (let b = 0; b < blocks; b++)
        for (let k = 0; k < 3; k++) scaled[last]![(b * 7 * directions + 7 * d + unit) * 3 + k]! *= factor;
      return lossOf(await fileOf(spec, scaled));
    };
    return Math.abs((await at(1.02)) - (await at(0.98))) / 0.04;
  };
  const pruned = await Trainer.open((await opened(file)).prune({ units: 4 }), "pruned.elb");
  pruned.buildOpened();
  for (let d = 0; d < directions; d++) {
    const slopes = await Promise.all(upTo(7).map((unit) => slope(d, unit)));
    const order = upTo(7).sort((a, b) => slopes[b]! - slopes[a]!);
    // Far enough apart that the rounding of a numerical derivative decides nothing.
    expect(slopes[order[3]!]! - slopes[order[4]!]!).toBeGreaterThan(1e-4);
    const kept = order.slice(0, 4).sort((a, b) => a - b);
    expect(pruned.tensor(biasOf(d))).toEqual(cut(tensors[biasOf(d)]!, 7 * count, [0], gates(kept, 7, count)));
  }
});

describe("words", () => {
  const layers = [embedding(4, abi.LAYER_MASK_ZERO), lstm(3), dense(3, abi.ACTIVATION_SOFTMAX)];
  const buckets = { ngramBuckets: 6, ngramMin: 2, ngramMax: 3 };

  test("behind the first few go, the buckets stay", async () => {
    const { spec, tensors, file } = await make(layers, { tokenizer: buckets });
    const pruned = (await opened(file)).prune({ words: 4 });
    const rows = [...upTo(5), ...upTo(6).map((bucket) => 8 + bucket)];
    expect(pruned).toEqual(
      await fileOf({ ...spec, words: WORDS.slice(0, 4) }, [cut(tensors[0]!, 4, rows, upTo(4)), ...tensors.slice(1)]),
    );
    expect(scores(pruned, "one two")).toEqual(scores(file, "one two"));
    expect(scores(pruned, "six")).not.toEqual(scores(file, "six"));
  });
  test("that the samples have too seldom go, the unknown word never", async () => {
    const { spec, tensors, file } = await make(layers, { unknownId: 7 });
    // Thrice or more: one, two; "seven" once.
    const pruned = (await opened(file)).prune({ minCount: 3 });
    expect(pruned).toEqual(
      await fileOf({ ...spec, words: ["one", "two", "seven"], unknownId: 3 }, [
        cut(tensors[0]!, 4, [0, 1, 2, 7], upTo(4)),
        ...tensors.slice(1),
      ]),
    );
    expect(scores(pruned, "three")).toEqual(scores(file, "unseen"));
  });
  test("more than there are leave the model as it is, but for rows that nothing can reach", async () => {
    const { spec, tensors } = await make([embedding(4), lstm(3), dense(3, abi.ACTIVATION_SOFTMAX)]);
    const wide = {
      ...spec,
      layers: spec.layers.map((layer) => (layer.kind === abi.LAYER_EMBEDDING ? { ...layer, rows: 12 } : layer)),
    };
    const padding = new Float32Array(16).fill(0.5);
    const file = await fileOf(wide, [Float32Array.from([...tensors[0]!, ...padding]), ...tensors.slice(1)]);
    expect((await opened(file)).prune({ units: 99, words: 99 })).toEqual(await fileOf(spec, tensors));
  });
});

describe("what cannot be pruned is refused", () => {
  test("a model without samples", async () => {
    const trainer = await Trainer.open((await make(BIDIRECTIONAL)).file, "model.elb");
    expect(() => trainer.prune({ units: 2 })).toThrow("model.elb: there are no samples to train on");
  });
  test("more units than a model can have", async () => {
    const trainer = await opened((await make(BIDIRECTIONAL)).file);
    expect(() => trainer.prune({ units: abi.MAX_WIDTH + 1 })).toThrow("a setting is outside its range");
  });
  test("a model that is being trained", async () => {
    const trainer = await opened((await make(BIDIRECTIONAL)).file);
    trainer.start({ ...DEFAULT_RECIPE, addNgrams: false, epochs: 1 });
    expect(() => trainer.prune({ units: 2 })).toThrow("does not allow that step");
  });
});

test("a pruned model is trained on, the same for the same seed", async () => {
  const original = (await trainTiny()).write("training");
  const open = async (file: Uint8Array): Promise<Trainer> => {
    const trainer = await Trainer.open(file, "tiny.elb");
    addSamples(trainer, ["light", "music", "weather"], samples, samples);
    return trainer;
  };
  const pruned = (await open(original)).prune({ units: 3, words: 30 });
  expect(headerValue(pruned, "trainingBytes")).toBe(0);
  expect(headerValue(pruned, "wordCount")).toBe(30);
  const tuned = async (seed: number): Promise<[number, Uint8Array]> => {
    const trainer = await open(pruned);
    trainer.start({ ...DEFAULT_RECIPE, addNgrams: false, epochs: 20, batch: 8, learningRate: 0.01, seed });
    const before = trainer.validate().loss;
    runEpochs(trainer, 20, false, {});
    const after = trainer.validate();
    expect(after.loss).toBeLessThan(before);
    return [after.accuracy, trainer.write("f32")];
  };
  const [accuracy, file] = await tuned(1);
  expect(accuracy).toBeGreaterThan(0.9);
  expect((await tuned(1))[1]).toEqual(file);
  expect((await tuned(2))[1]).not.toEqual(file);
});
