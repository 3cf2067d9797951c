// The network around its kernels: which chains and batches it takes, first weights, refused
// steps, and the promise that the same steps give the same bits, also after a resume.
import { describe, expect, test } from "vitest";
import {
  ACTIVATION_LINEAR,
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_BAD_ARGUMENT,
  ERR_BAD_LAYERS,
  ERR_BAD_STATE,
  ERR_BAD_TRAINING,
  ERR_NO_SAMPLES,
  ERR_NOT_FINITE,
  ERR_OUT_OF_MEMORY,
  LAYER_BIDIRECTIONAL,
  LAYER_MASK_ZERO,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  MAX_LAYERS,
  MAX_SEQUENCE,
  OK,
  OPTIMIZER_ADAM,
  OPTIMIZER_AVERAGE,
  OPTIMIZER_NESTEROV,
  OPTIMIZER_PER_TOKEN,
} from "../../../assembly/abi.ts";
import type { LayerRecord } from "../../support/keras-weights.ts";
import { build, Trainer, type Batch, type Recipe } from "./driver.ts";
import { chain, dense, dropout, lstm, pool } from "./layers.ts";

const SOFTMAX = dense(3, ACTIVATION_SOFTMAX);
const SEQUENCES = LAYER_SEQUENCES;
const ADAM: Recipe = { loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_ADAM, beta1: 0.9, beta2: 0.999 };
const SHAPE = { batch: 4, time: 5, rowsPerToken: 2 };

describe("chains of layers", () => {
  const good = (): LayerRecord[] => chain(9, 4, 0, lstm(3), SOFTMAX);
  const changed = (index: number, change: Partial<LayerRecord>): LayerRecord[] =>
    good().map((layer, i) => (i === index ? { ...layer, ...change } : layer));

  test.each<[string, LayerRecord[]]>([
    ["the smallest", good()],
    [
      "all kinds",
      chain(
        9,
        4,
        LAYER_MASK_ZERO,
        dropout(0.5, LAYER_SPATIAL),
        lstm(3, SEQUENCES | LAYER_BIDIRECTIONAL),
        dropout(0.1),
        lstm(2, SEQUENCES),
        pool(LAYER_POOL_MAX | LAYER_POOL_MEAN),
        dropout(0.2),
        dense(4, ACTIVATION_RELU),
        SOFTMAX,
      ),
    ],
  ])("%s is taken", (_, layers) => expect(build(layers, SHAPE).status).toBe(OK));

  test.each<[string, LayerRecord[]]>([
    ["no layers", []],
    ["no Embedding", good().slice(1)],
    ["no LSTM", chain(9, 4, 0, SOFTMAX)],
    ["no Dense", chain(9, 4, 0, lstm(3))],
    ["Dropout at the end", chain(9, 4, 0, lstm(3), SOFTMAX, dropout(0.5))],
    ["two Embeddings", [good()[0]!, ...good()]],
    ["Dense on a sequence", chain(9, 4, 0, lstm(3, SEQUENCES), SOFTMAX)],
    ["LSTM on a vector", chain(9, 4, 0, lstm(3), lstm(3), SOFTMAX)],
    ["Pool on a vector", chain(9, 4, 0, lstm(3), pool(LAYER_POOL_MAX), SOFTMAX)],
    ["Pool on the Embedding", chain(9, 4, 0, pool(LAYER_POOL_MAX), SOFTMAX)],
    ["Pool of no kind", chain(9, 4, 0, lstm(3, SEQUENCES), pool(0), SOFTMAX)],
    ["more layers than MAX_LAYERS", chain(9, 4, 0, lstm(3), ...Array.from({ length: MAX_LAYERS }, () => SOFTMAX))],
    ["unknown kind", changed(1, { kind: 99 })],
    ["flag of another kind", changed(1, { flags: LAYER_MASK_ZERO })],
    ["activation of an LSTM", changed(1, { activation: ACTIVATION_SIGMOID })],
    ["unknown activation", changed(2, { activation: 5 })],
    ["no rows", changed(0, { inputWidth: 0 })],
    ["no units", changed(1, { units: 0, outputWidth: 0 })],
    ["too many units", chain(9, 4, 0, lstm(1025), SOFTMAX)],
    ["input that does not fit", changed(1, { inputWidth: 5 })],
    ["output that does not fit its units", changed(1, { outputWidth: 4 })],
    ["rate of 1", chain(9, 4, 0, dropout(1), lstm(3), SOFTMAX)],
    ["rate below 0", chain(9, 4, 0, dropout(-0.1), lstm(3), SOFTMAX)],
    ["rate that is no number", chain(9, 4, 0, dropout(NaN), lstm(3), SOFTMAX)],
  ])("%s: refused", (_, layers) => expect(build(layers, SHAPE).status).toBe(ERR_BAD_LAYERS));

  test.each([
    { batch: 0, time: 5 },
    { batch: 65537, time: 5 },
    { batch: 4, time: 0 },
    { batch: 4, time: MAX_SEQUENCE + 1 },
    { batch: 4, time: 5, rowsPerToken: 0 },
  ])("capacities %o: refused", (shape) => expect(build(good(), shape).status).toBe(ERR_BAD_ARGUMENT));

  test("sizes beyond the address space: refused", () => {
    expect(build(chain(2_000_000, 1024, 0, lstm(3), SOFTMAX), SHAPE).status).toBe(ERR_OUT_OF_MEMORY);
    expect(build(chain(9, 1024, 0, lstm(1024), SOFTMAX), { batch: 65536, time: 4096 }).status).toBe(ERR_OUT_OF_MEMORY);
  });

  test("tensors lie in Keras' order, each on 16 bytes, and do not overlap", () => {
    const trainer = new Trainer(
      chain(9, 5, 0, lstm(3, LAYER_BIDIRECTIONAL), dense(2, ACTIVATION_RELU), SOFTMAX),
      SHAPE,
    );
    const lengths = trainer.tensors().map((tensor) => tensor.length);
    expect(lengths).toEqual([45, 60, 36, 12, 60, 36, 12, 12, 2, 6, 3]);
    let end: number = trainer.wasm["networkStatePtr"](1);
    lengths.forEach((length, i) => {
      const address: number = trainer.wasm["networkTensorPtr"](i);
      expect(address).toBe(end);
      expect(address % 16).toBe(0);
      end = (address + 4 * length + 15) & ~15;
    });
  });
});

describe("batches", () => {
  const trainer = new Trainer(chain(9, 4, 0, lstm(3), SOFTMAX), SHAPE);
  const offsets = [0, 1, 2];

  test.each<[string, number, number, number[], number[], number]>([
    ["fits", 1, 2, offsets, [3, 8], OK],
    ["no samples", 0, 2, offsets, [3, 8], ERR_NO_SAMPLES],
    ["more samples than built for", 5, 1, [0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1], ERR_BAD_ARGUMENT],
    ["no steps", 1, 0, [0], [], ERR_BAD_ARGUMENT],
    ["more steps than built for", 1, 6, [0, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1], ERR_BAD_ARGUMENT],
    ["a row outside the embedding", 1, 2, offsets, [3, 9], ERR_BAD_ARGUMENT],
    ["a token without rows", 1, 2, [0, 0, 1], [3], ERR_BAD_ARGUMENT],
    ["a token of too many rows", 1, 2, [0, 3, 4], [1, 1, 1, 1], ERR_BAD_ARGUMENT],
    ["offsets that fall", 1, 2, [0, 2, 1], [1, 1], ERR_BAD_ARGUMENT],
    ["offsets that do not begin at 0", 1, 2, [1, 2, 3], [1, 1, 1], ERR_BAD_ARGUMENT],
  ])("%s", (_, batch, time, offsets, ids, status) => {
    expect(trainer.setRows(batch, time, offsets, ids)).toBe(status);
    // A refused batch leaves none behind.
    expect(trainer.wasm["networkForward"](0)).toBe(status === OK ? OK : ERR_NO_SAMPLES);
  });

  test("scores of a sample do not depend on the others, on padding behind the mask or on its place", () => {
    const masked = new Trainer(chain(9, 4, LAYER_MASK_ZERO, lstm(3, LAYER_BIDIRECTIONAL), SOFTMAX), SHAPE);
    masked.wasm["networkInitialize"](1, 0.05);
    const alone = (masked.setBatch([[1, 2, 3]]), masked.scores(1, 3)[0]);
    const batches: [Batch, number][] = [
      [
        [
          [1, 2, 3],
          [4, 4, 4],
        ],
        0,
      ],
      [
        [
          [4, 4, 4],
          [5, 6, 7],
          [1, 2, 3],
        ],
        2,
      ],
      [
        [
          [4, 4, 4, 4, 4],
          [0, 0, 1, 2, 3],
          [0, 0, 0, 0, 0],
          [5, 0, 0, 0, 0],
        ],
        1,
      ],
      [
        [
          [1, 2, 3, 0, 0],
          [4, 4, 4, 4, 4],
        ],
        0,
      ],
      [
        [
          [0, 0, 0, 0, 4],
          [0, 1, 2, 3, 0],
          [6, 0, 0, 0, 0],
        ],
        1,
      ],
    ];
    for (const [batch, place] of batches) {
      expect(masked.setBatch(batch)).toBe(OK);
      expect(masked.scores(batch.length, 3)[place]).toEqual(alone);
    }
  });
});

describe("settings of a training", () => {
  test.each<[string, number, Partial<Recipe>]>([
    ["binary cross-entropy without sigmoid", ACTIVATION_SOFTMAX, { loss: LOSS_BINARY_CROSSENTROPY }],
    ["categorical cross-entropy without softmax", ACTIVATION_SIGMOID, { loss: LOSS_CATEGORICAL_CROSSENTROPY }],
    ["unknown loss", ACTIVATION_SOFTMAX, { loss: 4 }],
    ["smoothed squared error", ACTIVATION_LINEAR, { loss: LOSS_MEAN_SQUARED_ERROR, labelSmoothing: 0.1 }],
    ["smoothing of 1", ACTIVATION_SOFTMAX, { labelSmoothing: 1 }],
    ["unknown optimizer", ACTIVATION_SOFTMAX, { optimizer: 4 }],
    ["unknown flag", ACTIVATION_SOFTMAX, { flags: 1024 }],
    ["Adam with Nesterov's look ahead", ACTIVATION_SOFTMAX, { flags: OPTIMIZER_NESTEROV }],
    ["beta1 of 1", ACTIVATION_SOFTMAX, { beta1: 1 }],
    ["beta2 below 0", ACTIVATION_SOFTMAX, { beta2: -0.1 }],
    ["epsilon of 0", ACTIVATION_SOFTMAX, { epsilon: 0 }],
    ["clipping below 0", ACTIVATION_SOFTMAX, { clipNorm: -1 }],
    ["weight decay that is no number", ACTIVATION_SOFTMAX, { weightDecay: NaN }],
  ])("%s: refused", (_, activation, recipe) => {
    const trainer = new Trainer(chain(9, 4, 0, lstm(3), dense(3, activation)), SHAPE);
    expect(trainer.trainWith({ ...ADAM, ...recipe })).toBe(ERR_BAD_TRAINING);
    trainer.setBatch([[1]], [[1, 0, 0]]);
    expect(trainer.step(0.1)).toBe(ERR_BAD_STATE);
  });
});

describe("first weights", () => {
  const layers = chain(50, 24, 0, lstm(20, LAYER_BIDIRECTIONAL), dense(10, ACTIVATION_RELU), SOFTMAX);
  const trainer = new Trainer(layers, SHAPE);
  trainer.wasm["networkInitialize"](5, 0.2);
  const tensors = trainer.tensors();

  test.each([
    [0, 0.2],
    [1, Math.sqrt(6 / (24 + 80))],
    [4, Math.sqrt(6 / (24 + 80))],
    [7, Math.sqrt(6 / (40 + 10))],
    [9, Math.sqrt(6 / 13)],
  ])("tensor %i is uniform in +-%f", (index, limit) => {
    const values = [...tensors[index]!];
    expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(limit);
    expect(Math.max(...values)).toBeGreaterThan(0.85 * limit);
    expect(Math.min(...values)).toBeLessThan(-0.85 * limit);
    const square = values.reduce((sum, x) => sum + x * x, 0) / values.length;
    expect(Math.abs(square / (limit ** 2 / 3) - 1)).toBeLessThan(values.length > 500 ? 0.1 : 0.4);
  });

  test.each([2, 5])("recurrent kernel %i has orthonormal rows", (index) => {
    const rows = Array.from({ length: 20 }, (_, r) => tensors[index]!.subarray(80 * r, 80 * r + 80));
    rows.forEach((a, i) =>
      rows.forEach((b, j) => {
        const dot = a.reduce((sum, x, k) => sum + x * b[k]!, 0);
        expect(Math.abs(dot - (i === j ? 1 : 0))).toBeLessThan(1e-6);
      }),
    );
  });

  test("biases are 0, and 1 for the forget gate", () => {
    for (const index of [3, 6])
      expect([...tensors[index]!]).toEqual([...Array(20).fill(0), ...Array(20).fill(1), ...Array(40).fill(0)]);
    for (const index of [8, 10]) expect(tensors[index]!.every((value) => value === 0)).toBe(true);
  });

  test("the seed decides, alone", () => {
    const other = new Trainer(layers, SHAPE);
    other.wasm["networkInitialize"](6, 0.2);
    expect(other.tensor(0)).not.toEqual(tensors[0]);
    other.wasm["networkInitialize"](5, 0.2);
    expect(other.tensors()).toEqual(tensors);
  });
});

// A run with everything that could make two runs differ: dropout, masks, repeated tokens, the average.
const LAYERS = chain(
  9,
  6,
  LAYER_MASK_ZERO,
  dropout(0.3, LAYER_SPATIAL),
  lstm(5, SEQUENCES | LAYER_BIDIRECTIONAL),
  pool(LAYER_POOL_MAX | LAYER_POOL_MEAN),
  dropout(0.2),
  SOFTMAX,
);
const TARGETS = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
];
const batchOf = (t: number): Batch =>
  [0, 1, 2].map((b) => Array.from({ length: 5 }, (_, s) => (s < (b + t) % 4 ? 0 : 1 + ((3 * b + 5 * s + 7 * t) % 8))));

function begin(flags: number): Trainer {
  const trainer = new Trainer(LAYERS, SHAPE);
  expect(trainer.trainWith({ ...ADAM, flags, labelSmoothing: 0.1 })).toBe(OK);
  trainer.wasm["networkInitialize"](9, 0.05);
  return trainer;
}

function advance(trainer: Trainer, from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => {
    expect(trainer.setBatch(batchOf(from + i), TARGETS)).toBe(OK);
    expect(trainer.step(0.01)).toBe(OK);
    expect(trainer.wasm["networkAverage"](0.9)).toBe(OK);
    return trainer.loss;
  });
}

function blocks(trainer: Trainer): Uint8Array[] {
  const { wasm } = trainer;
  return Array.from({ length: wasm["networkStateCount"]() }, (_, i) =>
    new Uint8Array(wasm.memory.buffer, wasm["networkStatePtr"](i), wasm["networkStateBytes"](i)).slice(),
  );
}

describe.each([
  ["merged", OPTIMIZER_AVERAGE],
  ["per token", OPTIMIZER_AVERAGE | OPTIMIZER_PER_TOKEN],
])("the same steps, %s", (_, flags) => {
  test("give the same bits", () => {
    const [one, two] = [begin(flags), begin(flags)];
    expect(advance(one, 0, 6)).toEqual(advance(two, 0, 6));
    expect(blocks(one)).toEqual(blocks(two));
  });

  test("give the same bits when another instance resumes in between", () => {
    const whole = begin(flags);
    const losses = advance(whole, 0, 8);
    const first = begin(flags);
    advance(first, 0, 4);
    const second = begin(flags);
    second.wasm["networkInitialize"](1, 0.05);
    const saved = blocks(first);
    // State, parameters, m, v, average.
    expect(saved).toHaveLength(5);
    saved.forEach((bytes, i) =>
      new Uint8Array(second.wasm.memory.buffer, second.wasm["networkStatePtr"](i), bytes.length).set(bytes),
    );
    second.wasm["networkRestored"]();
    expect(advance(second, 4, 8)).toEqual(losses.slice(4));
    expect(blocks(second)).toEqual(blocks(whole));
  });

  test("claim no memory", () => {
    const trainer = begin(flags);
    const top = trainer.wasm["arenaTop"]();
    advance(trainer, 0, 3);
    expect(trainer.wasm["arenaTop"]()).toBe(top);
  });

  test("learn a batch by heart", () => {
    const trainer = begin(flags);
    trainer.setBatch(batchOf(0), TARGETS);
    for (let i = 0; i < 150; i++) trainer.step(0.02);
    expect(trainer.scores(3, 3).map((row) => row.indexOf(Math.max(...row)))).toEqual([0, 1, 2]);
    // With smoothing 0.1 the best loss possible is 0.29.
    expect(trainer.wasm["networkLoss"]()).toBeLessThan(0.4);
  });
});

test("slots of a row that stays away end at 0 and not among denormal numbers, which are slow", () => {
  const trainer = new Trainer(chain(9, 4, 0, lstm(3), SOFTMAX), SHAPE);
  trainer.trainWith({ ...ADAM, beta1: 0.5, beta2: 0.5 });
  trainer.wasm["networkInitialize"](4, 0.05);
  trainer.setBatch([[1, 2, 3]], [[1, 0, 0]]);
  trainer.step(0);
  const slotsOfRow = (slot: number): number[] => [...trainer.slot(0, slot).subarray(12, 16)].map(Math.abs);
  expect(Math.min(...slotsOfRow(0), ...slotsOfRow(1))).toBeGreaterThan(0);
  trainer.setBatch([[1, 2]], [[1, 0, 0]]);
  for (let i = 0; i < 160; i++) {
    trainer.step(0);
    for (const m of slotsOfRow(0)) expect(m === 0 || m >= 1e-31).toBe(true);
    for (const v of slotsOfRow(1)) expect(v === 0 || v >= 1e-37).toBe(true);
  }
  expect([...slotsOfRow(0), ...slotsOfRow(1)]).toEqual(Array(8).fill(0));
});

describe("a step that is not finite", () => {
  test.each<[string, (trainer: Trainer) => void]>([
    ["a NaN in the embedding", (trainer) => trainer.setTensor(0, trainer.tensor(0).fill(NaN))],
    ["an infinite bias of the last layer", (trainer) => trainer.setTensor(5, [Infinity, 0, 0])],
    ["a NaN in the recurrent kernel", (trainer) => trainer.setTensor(2, trainer.tensor(2).fill(NaN))],
    [
      "a sample weight beyond all bounds",
      (trainer) =>
        trainer.setBatch(
          [
            [1, 2],
            [3, 4],
          ],
          [
            [1, 0, 0],
            [0, 1, 0],
          ],
          [Infinity, 1],
        ),
    ],
  ])("%s: refused, and nothing changes", (_, spoil) => {
    const trainer = new Trainer(chain(9, 4, 0, lstm(3), SOFTMAX), SHAPE);
    trainer.trainWith(ADAM);
    trainer.wasm["networkInitialize"](2, 0.05);
    trainer.setBatch(
      [
        [1, 2],
        [3, 4],
      ],
      [
        [1, 0, 0],
        [0, 1, 0],
      ],
    );
    expect(trainer.step(0.1)).toBe(OK);
    spoil(trainer);
    const before = blocks(trainer);
    expect(trainer.step(0.1)).toBe(ERR_NOT_FINITE);
    expect(blocks(trainer)).toEqual(before);
  });
});
