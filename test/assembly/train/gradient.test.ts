// Every layer's forward pass and gradient against the f64 oracle: loss, scores, and d loss of
// every single parameter by central differences, for each kind of layer, mask, dropout and loss.
import { expect, test } from "vitest";
import {
  ACTIVATION_LINEAR,
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
  CONTEXT_ROW,
  LAYER_BIDIRECTIONAL,
  LAYER_DROPOUT,
  LAYER_MASK_ZERO,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  OK,
  OPTIMIZER_ADAM,
  OPTIMIZER_PER_TOKEN,
  OPTIMIZER_SGD,
} from "../../../assembly/abi.ts";
import type { LayerRecord } from "../../support/keras-weights.ts";
import { Trainer, type Batch, type Recipe } from "./driver.ts";
import { chain, dense, dropout, lstm, minGru, pool } from "./layers.ts";
import {
  forward,
  gradients,
  loss,
  OWN_ROW,
  randomBits,
  seedState,
  sharesDropout,
  type RandomState,
  type Sequences,
} from "./oracle.ts";

// f32 sums of some dozens of terms near 1, against f64. The engine was seen within 1.1e-6.
const GRADIENT_TOLERANCE = 4e-6;
const LOSS_TOLERANCE = 2e-6;
const SCORE_TOLERANCE = 1e-6;

const BOTH = LAYER_POOL_MAX | LAYER_POOL_MEAN;
const EVERY_STEP = LAYER_SEQUENCES;
const TWO_WAYS = LAYER_BIDIRECTIONAL;
const SOFTMAX = dense(3, ACTIVATION_SOFTMAX);

/** All rows differ, so that no two tokens share a slot; and rows that come again and again. */
const DISTINCT: Batch = [
  [1, 2, 3, 4],
  [5, 6, 7, 8],
  [9, 10, 11, 12],
];
const REPEATED: Batch = [
  [1, 2, 1, 2],
  [2, 1, 1, 3],
  [3, 3, 3, 2],
];
/** Pads before, behind, on both sides, inside, nowhere, and nothing but pads. */
const PADDED: Batch = [
  [0, 0, 1, 2],
  [3, 1, 0, 0],
  [0, 2, 4, 0],
  [5, 0, 0, 1],
  [1, 5, 2, 3],
  [0, 0, 0, 0],
];
const MANY_ROWS: Batch = [
  [[1, 2, 3], 4, [5, 6], [7, 7, 1]],
  [8, [9, 3, 2, 4], 8, [5, 6]],
];
const OWN_AND_MANY: Batch = [
  [[OWN_ROW + 1, 2, 3], 4, [OWN_ROW + 5, 6], [OWN_ROW + 1, 2, 3]],
  [[2, 3], [OWN_ROW + 5, 6], [OWN_ROW + 7], [OWN_ROW + 1, 2, 3]],
  [[OWN_ROW + 1, 2, 3], [OWN_ROW + 1, 2, 3], 0, [OWN_ROW + 5, 6]],
];
const CONTEXTS: Batch = [
  [1, [2, CONTEXT_ROW + 9], [OWN_ROW + 3, 4, CONTEXT_ROW + 8], [5, 6, CONTEXT_ROW + 9]],
  [
    [OWN_ROW + 3, 4],
    [OWN_ROW + 3, 4, CONTEXT_ROW + 9],
    [OWN_ROW + 7, CONTEXT_ROW + 7],
    [2, CONTEXT_ROW + 8],
  ],
];

interface Case {
  layers: LayerRecord[];
  tokens: Batch;
  loss?: number;
  smoothing?: number;
  weighted?: boolean;
  recipe?: Partial<Recipe>;
  dropoutSamples?: number;
  perturbation?: number;
  /** Tensor whose gradient is 0. */
  still?: number;
}

const cases: Record<string, Case> = {
  "LSTM of 4 units": { layers: chain(13, 4, 0, lstm(4), SOFTMAX), tokens: DISTINCT },
  "LSTM of 3 units on 5 channels": { layers: chain(13, 5, 0, lstm(3), SOFTMAX), tokens: DISTINCT },
  "LSTM of 1 unit on 1 channel": { layers: chain(13, 1, 0, lstm(1), SOFTMAX), tokens: DISTINCT },
  "LSTM of 9 units": { layers: chain(13, 3, 0, lstm(9), SOFTMAX), tokens: DISTINCT },
  "rows in common": { layers: chain(4, 4, 0, lstm(4), SOFTMAX), tokens: REPEATED },
  "rows in common, 3 units": { layers: chain(4, 3, 0, lstm(3), SOFTMAX), tokens: REPEATED },
  "one step": { layers: chain(4, 3, 0, lstm(3), SOFTMAX), tokens: [[1], [2], [1]], still: 2 },
  "one sample": { layers: chain(13, 3, 0, lstm(3), SOFTMAX), tokens: [[1, 2, 3, 4, 5, 6]] },
  bidirectional: { layers: chain(13, 3, 0, lstm(3, TWO_WAYS), SOFTMAX), tokens: DISTINCT },
  "bidirectional, rows in common": { layers: chain(4, 4, 0, lstm(4, TWO_WAYS), SOFTMAX), tokens: REPEATED },
  masked: { layers: chain(6, 3, LAYER_MASK_ZERO, lstm(3), SOFTMAX), tokens: PADDED },
  "masked, 4 units": { layers: chain(6, 4, LAYER_MASK_ZERO, lstm(4), SOFTMAX), tokens: PADDED },
  "padding that is no mask": { layers: chain(6, 3, 0, lstm(3), SOFTMAX), tokens: PADDED },
  "masked bidirectional": { layers: chain(6, 3, LAYER_MASK_ZERO, lstm(3, TWO_WAYS), SOFTMAX), tokens: PADDED },
  "masked, behind the texts": {
    layers: chain(6, 3, LAYER_MASK_ZERO, lstm(3, TWO_WAYS), SOFTMAX),
    tokens: [
      [1, 2, 3, 0],
      [4, 0, 0, 0],
      [5, 1, 0, 0],
    ],
  },
  "pool max": { layers: chain(13, 3, 0, lstm(3, EVERY_STEP), pool(LAYER_POOL_MAX), SOFTMAX), tokens: DISTINCT },
  "pool mean": { layers: chain(13, 3, 0, lstm(3, EVERY_STEP), pool(LAYER_POOL_MEAN), SOFTMAX), tokens: DISTINCT },
  "pool max and mean": { layers: chain(13, 3, 0, lstm(3, EVERY_STEP), pool(BOTH), SOFTMAX), tokens: DISTINCT },
  "masked bidirectional pool max": {
    layers: chain(6, 3, LAYER_MASK_ZERO, lstm(3, TWO_WAYS | EVERY_STEP), pool(LAYER_POOL_MAX), SOFTMAX),
    tokens: PADDED,
  },
  "masked bidirectional pool mean": {
    layers: chain(6, 4, LAYER_MASK_ZERO, lstm(4, TWO_WAYS | EVERY_STEP), pool(LAYER_POOL_MEAN), SOFTMAX),
    tokens: PADDED,
  },
  "masked bidirectional pool max and mean": {
    layers: chain(6, 3, LAYER_MASK_ZERO, lstm(5, TWO_WAYS | EVERY_STEP), pool(BOTH), SOFTMAX),
    tokens: PADDED,
  },
  "minGRU of 4 units": { layers: chain(13, 4, 0, minGru(4), SOFTMAX), tokens: DISTINCT },
  "minGRU of 3 units on 5 channels, rows in common": {
    layers: chain(4, 5, 0, minGru(3, TWO_WAYS), SOFTMAX),
    tokens: REPEATED,
  },
  "minGRU, masked bidirectional pool max and mean": {
    layers: chain(6, 3, LAYER_MASK_ZERO, minGru(5, TWO_WAYS | EVERY_STEP), pool(BOTH), SOFTMAX),
    tokens: PADDED,
  },
  "minGRU, masked, last state": { layers: chain(6, 3, LAYER_MASK_ZERO, minGru(4, TWO_WAYS), SOFTMAX), tokens: PADDED },
  "minGRU of tokens of many rows": {
    layers: chain(11, 3, LAYER_MASK_ZERO, minGru(4, TWO_WAYS | EVERY_STEP), pool(BOTH), SOFTMAX),
    tokens: CONTEXTS,
  },
  "minGRU above a minGRU and an LSTM": {
    layers: chain(13, 3, 0, minGru(3, EVERY_STEP), minGru(5, EVERY_STEP), lstm(3), SOFTMAX),
    tokens: DISTINCT,
  },
  "minGRU with dropout before and behind": {
    layers: chain(13, 3, 0, dropout(0.3), minGru(4, EVERY_STEP | TWO_WAYS), pool(BOTH), dropout(0.5), SOFTMAX),
    tokens: DISTINCT,
    dropoutSamples: 2,
  },
  "minGRU with dropout, rows in common": {
    layers: chain(4, 5, 0, dropout(0.4), minGru(3, EVERY_STEP | TWO_WAYS), pool(BOTH), dropout(0.5), SOFTMAX),
    tokens: REPEATED,
    dropoutSamples: 2,
  },
  "minGRU with dropout, masked": {
    layers: chain(6, 4, LAYER_MASK_ZERO, dropout(0.3), minGru(4, TWO_WAYS), SOFTMAX),
    tokens: PADDED,
  },
  "minGRU with dropout, own rows and n-grams in common": {
    layers: chain(13, 3, LAYER_MASK_ZERO, dropout(0.3), minGru(4, EVERY_STEP | TWO_WAYS), pool(BOTH), SOFTMAX),
    tokens: OWN_AND_MANY,
  },
  "minGRU with spatial dropout, rows in common": {
    layers: chain(4, 4, 0, dropout(0.4, LAYER_SPATIAL), minGru(4), SOFTMAX),
    tokens: REPEATED,
  },
  "minGRU with two dropouts, rows in common": {
    layers: chain(4, 4, 0, dropout(0.3), dropout(0.3), minGru(4), SOFTMAX),
    tokens: REPEATED,
  },
  "minGRU with dropout, token by token": {
    layers: chain(4, 4, 0, dropout(0.3), minGru(4, TWO_WAYS), SOFTMAX),
    tokens: REPEATED,
    recipe: { optimizer: OPTIMIZER_ADAM, flags: OPTIMIZER_PER_TOKEN },
  },
  "minGRU, token by token": {
    layers: chain(4, 4, 0, minGru(4, TWO_WAYS), SOFTMAX),
    tokens: REPEATED,
    recipe: { optimizer: OPTIMIZER_ADAM, flags: OPTIMIZER_PER_TOKEN },
  },
  "two LSTMs": { layers: chain(13, 3, 0, lstm(3, EVERY_STEP), lstm(5), SOFTMAX), tokens: DISTINCT },
  "two LSTMs, masked bidirectional": {
    layers: chain(6, 3, LAYER_MASK_ZERO, lstm(3, TWO_WAYS | EVERY_STEP), lstm(3, TWO_WAYS), SOFTMAX),
    tokens: PADDED,
  },
  "two LSTMs and a pool, masked": {
    layers: chain(6, 4, LAYER_MASK_ZERO, lstm(4, EVERY_STEP), lstm(3, EVERY_STEP), pool(BOTH), SOFTMAX),
    tokens: PADDED,
  },
  "dropout of the embedding": { layers: chain(13, 3, 0, dropout(0.4), lstm(3), SOFTMAX), tokens: DISTINCT },
  "dropout of the embedding, rows in common": {
    layers: chain(4, 4, 0, dropout(0.4), lstm(4, TWO_WAYS), SOFTMAX),
    tokens: REPEATED,
  },
  "dropout of the embedding, masked": {
    layers: chain(6, 3, LAYER_MASK_ZERO, dropout(0.4), lstm(3, TWO_WAYS), SOFTMAX),
    tokens: PADDED,
  },
  "spatial dropout": { layers: chain(13, 5, 0, dropout(0.4, LAYER_SPATIAL), lstm(3), SOFTMAX), tokens: DISTINCT },
  "spatial dropout, masked, rows in common": {
    layers: chain(6, 4, LAYER_MASK_ZERO, dropout(0.4, LAYER_SPATIAL), lstm(4), SOFTMAX),
    tokens: PADDED,
  },
  "dropout of rate 0": { layers: chain(4, 3, 0, dropout(0), lstm(3), dropout(0), SOFTMAX), tokens: REPEATED },
  "dropout between LSTMs": {
    layers: chain(6, 3, LAYER_MASK_ZERO, lstm(3, EVERY_STEP), dropout(0.3), lstm(3), SOFTMAX),
    tokens: PADDED,
  },
  "two dropouts in a row": {
    layers: chain(4, 4, 0, dropout(0.3), dropout(0.3, LAYER_SPATIAL), lstm(4), SOFTMAX),
    tokens: REPEATED,
  },
  "dropout before the last layer": { layers: chain(13, 3, 0, lstm(5), dropout(0.5), SOFTMAX), tokens: DISTINCT },
  "the default model": {
    layers: chain(
      6,
      4,
      LAYER_MASK_ZERO,
      dropout(0.3),
      lstm(4, TWO_WAYS | EVERY_STEP),
      pool(BOTH),
      dropout(0.5),
      SOFTMAX,
    ),
    tokens: PADDED,
    smoothing: 0.1,
  },
  "three masks a sample": {
    layers: chain(13, 3, 0, lstm(5), dropout(0.5), SOFTMAX),
    tokens: DISTINCT,
    dropoutSamples: 3,
    smoothing: 0.1,
    weighted: true,
  },
  "three masks a sample of a hidden Dense": {
    layers: chain(13, 3, 0, lstm(5), dense(6, ACTIVATION_TANH), dropout(0.5), dense(2, ACTIVATION_SIGMOID)),
    tokens: DISTINCT,
    loss: LOSS_MEAN_SQUARED_ERROR,
    dropoutSamples: 3,
  },
  "three masks a sample, of rate 0": {
    layers: chain(13, 3, 0, lstm(3), dropout(0), SOFTMAX),
    tokens: DISTINCT,
    dropoutSamples: 3,
  },
  "masks a sample without Dropout": { layers: chain(13, 3, 0, lstm(3), SOFTMAX), tokens: DISTINCT, dropoutSamples: 3 },
  perturbed: {
    layers: chain(6, 3, LAYER_MASK_ZERO, dropout(0.3), lstm(5, TWO_WAYS), SOFTMAX),
    tokens: PADDED.slice(0, 2),
    perturbation: 0.2,
    weighted: true,
  },
  "perturbed, no dropout": { layers: chain(13, 3, 0, lstm(3), SOFTMAX), tokens: DISTINCT, perturbation: 0.2 },
  "perturbed, rows in common": { layers: chain(4, 4, 0, lstm(4), SOFTMAX), tokens: REPEATED, perturbation: 0.2 },
  "perturbed default model": {
    layers: chain(
      6,
      4,
      LAYER_MASK_ZERO,
      dropout(0.3),
      lstm(4, TWO_WAYS | EVERY_STEP),
      pool(BOTH),
      dropout(0.5),
      SOFTMAX,
    ),
    tokens: PADDED,
    smoothing: 0.1,
    dropoutSamples: 4,
    perturbation: 0.07,
  },
  "perturbed minGRU with dropout, rows in common": {
    layers: chain(4, 4, 0, dropout(0.3), minGru(4, TWO_WAYS), SOFTMAX),
    tokens: REPEATED,
    perturbation: 0.2,
  },
  "tokens of several rows": { layers: chain(13, 3, 0, lstm(3), SOFTMAX), tokens: MANY_ROWS },
  "own row and n-grams": { layers: chain(13, 4, LAYER_MASK_ZERO, lstm(4), SOFTMAX), tokens: OWN_AND_MANY },
  "own row and n-grams with dropout": {
    layers: chain(13, 3, LAYER_MASK_ZERO, dropout(0.3), lstm(3, TWO_WAYS), SOFTMAX),
    tokens: OWN_AND_MANY,
  },
  "context rows": { layers: chain(13, 3, 0, lstm(3), SOFTMAX), tokens: CONTEXTS },
  "token by token, with clipping": {
    layers: chain(4, 3, 0, lstm(3), SOFTMAX),
    tokens: REPEATED,
    recipe: { optimizer: OPTIMIZER_ADAM, flags: OPTIMIZER_PER_TOKEN, clipNorm: 1 },
  },
  "token by token, with dropout": {
    layers: chain(4, 4, 0, dropout(0.3), lstm(4), SOFTMAX),
    tokens: REPEATED,
    recipe: { optimizer: OPTIMIZER_ADAM, flags: OPTIMIZER_PER_TOKEN },
  },
  "token by token, own row and n-grams": {
    layers: chain(13, 3, LAYER_MASK_ZERO, lstm(3), SOFTMAX),
    tokens: OWN_AND_MANY,
    recipe: { optimizer: OPTIMIZER_ADAM, flags: OPTIMIZER_PER_TOKEN },
  },
  "hidden Dense, relu": { layers: chain(13, 3, 0, lstm(3), dense(6, ACTIVATION_RELU), SOFTMAX), tokens: DISTINCT },
  "hidden Dense, tanh": { layers: chain(13, 3, 0, lstm(3), dense(5, ACTIVATION_TANH), SOFTMAX), tokens: DISTINCT },
  "hidden Dense, linear": { layers: chain(13, 3, 0, lstm(3), dense(4, ACTIVATION_LINEAR), SOFTMAX), tokens: DISTINCT },
  "hidden Dense, sigmoid": {
    layers: chain(13, 3, 0, lstm(3), dense(4, ACTIVATION_SIGMOID), SOFTMAX),
    tokens: DISTINCT,
  },
  "hidden Dense, softmax, dropout": {
    layers: chain(13, 3, 0, lstm(3), dense(5, ACTIVATION_SOFTMAX), dropout(0.3), SOFTMAX),
    tokens: DISTINCT,
  },
  "binary cross-entropy": {
    layers: chain(13, 3, 0, lstm(3), dense(1, ACTIVATION_SIGMOID)),
    tokens: DISTINCT,
    loss: LOSS_BINARY_CROSSENTROPY,
  },
  "binary cross-entropy of 3 outputs, smoothed, weighted": {
    layers: chain(13, 3, 0, lstm(3), dense(3, ACTIVATION_SIGMOID)),
    tokens: DISTINCT,
    loss: LOSS_BINARY_CROSSENTROPY,
    smoothing: 0.2,
    weighted: true,
  },
  "categorical cross-entropy, smoothed": {
    layers: chain(13, 3, 0, lstm(3), SOFTMAX),
    tokens: DISTINCT,
    smoothing: 0.1,
  },
  "categorical cross-entropy, weighted": {
    layers: chain(13, 3, 0, lstm(3), SOFTMAX),
    tokens: DISTINCT,
    weighted: true,
  },
  "squared error, linear": {
    layers: chain(13, 3, 0, lstm(3), dense(2, ACTIVATION_LINEAR)),
    tokens: DISTINCT,
    loss: LOSS_MEAN_SQUARED_ERROR,
  },
  "squared error, sigmoid, weighted": {
    layers: chain(13, 3, 0, lstm(3), dense(2, ACTIVATION_SIGMOID)),
    tokens: DISTINCT,
    loss: LOSS_MEAN_SQUARED_ERROR,
    weighted: true,
  },
  "squared error, tanh": {
    layers: chain(13, 3, 0, lstm(3), dense(1, ACTIVATION_TANH)),
    tokens: DISTINCT,
    loss: LOSS_MEAN_SQUARED_ERROR,
  },
  "squared error, softmax": {
    layers: chain(13, 3, 0, lstm(3), dense(3, ACTIVATION_SOFTMAX)),
    tokens: DISTINCT,
    loss: LOSS_MEAN_SQUARED_ERROR,
  },
  "squared error, relu": {
    layers: chain(13, 3, 0, lstm(3), dense(4, ACTIVATION_RELU)),
    tokens: DISTINCT,
    loss: LOSS_MEAN_SQUARED_ERROR,
  },
};

test.each(Object.entries(cases))(
  "%s",
  (
    _,
    {
      layers,
      tokens,
      loss: kind = LOSS_CATEGORICAL_CROSSENTROPY,
      smoothing = 0,
      weighted = false,
      recipe = {},
      dropoutSamples = 1,
      perturbation = 0,
      still,
    },
  ) => {
    const outputs = layers.at(-1)!.outputWidth;
    const draws = seedState(tokens.length * 100 + layers.length);
    const draw = (): number => (randomBits(draws) / 2 ** 31 - 1) * 0.9;
    const trainer = new Trainer(layers, {
      batch: tokens.length,
      time: tokens[0]!.length,
      rowsPerToken: 4,
      dropoutSamples,
    });
    expect(trainer.trainWith({ loss: kind, optimizer: OPTIMIZER_SGD, labelSmoothing: smoothing, ...recipe })).toBe(OK);
    trainer.tensors().forEach((tensor, i) => trainer.setTensor(i, tensor.map(draw)));
    const tensors = trainer.tensors();
    const targets = tokens.map((_sample, b) =>
      Array.from({ length: outputs }, (_output, k) => (outputs === 1 ? b % 2 : (b + 1) % outputs === k ? 1 : 0)),
    );
    const weights = weighted ? tokens.map((_sample, b) => 0.5 + b) : undefined;
    const state: RandomState = [5, 6, 7, 8];
    trainer.randomState = state;
    expect(trainer.setBatch(tokens, targets, weights)).toBe(OK);

    const target = { kind, smoothing: Math.fround(smoothing), targets, weights };
    const splitsTokens = ((recipe.flags ?? 0) & OPTIMIZER_PER_TOKEN) !== 0;
    const pass = (
      values: ArrayLike<number>[],
      random: RandomState,
      readsThrough = (vectors: Sequences): Sequences => vectors,
    ): number => loss(forward(layers, values, tokens, { random, dropoutSamples, splitsTokens, readsThrough }), target);
    const shift = perturbation
      ? perturbationOf(perturbation, layers, tokens, (readsThrough) => pass(tensors, [...state], readsThrough))
      : undefined;
    const lossOf = (values: ArrayLike<number>[]): number => {
      const random: RandomState = [...state];
      const clean = pass(values, random);
      if (!shift) return clean;
      // The embedding's dropout keeps its mask, the one behind the LSTM goes on in the stream.
      const again: RandomState = [...state];
      return (
        (clean +
          pass(values, again, (vectors) => {
            again.splice(0, 4, ...random);
            return moved(vectors, shift);
          })) /
        2
      );
    };
    // A rate of 0 leaves the weights where they are.
    expect(trainer.step(0, perturbation)).toBe(OK);
    expect(Math.abs(trainer.loss - lossOf(tensors))).toBeLessThan(LOSS_TOLERANCE);
    gradients(lossOf, tensors).forEach((expected, i) => {
      const actual = trainer.gradient(i);
      const errors = expected.map((value, j) => Math.abs(value - actual[j]!));
      const worst = errors.reduce((largest, error, j) => (error <= errors[largest]! ? largest : j), 0);
      expect(errors[worst], `tensor ${i}[${worst}]: ${actual[worst]} where ${expected[worst]} belongs`).toBeLessThan(
        GRADIENT_TOLERANCE,
      );
      // A tensor without gradient would pass the line above.
      if (i === still) expect(actual.every((value) => value === 0)).toBe(true);
      else expect(Math.max(...actual.map(Math.abs))).toBeGreaterThan(100 * GRADIENT_TOLERANCE);
    });
    expect(trainer.tensors()).toEqual(tensors);

    // Without dropout, as validation and use have it.
    const expected = forward(layers, tensors, tokens).scores.flat();
    trainer
      .scores(tokens.length, outputs)
      .flat()
      .forEach((score, i) => expect(Math.abs(score - expected[i]!)).toBeLessThan(SCORE_TOLERANCE));
  },
);

/** What adversary.ts adds to the vectors: of the gradient's direction in each sample; where tokens share their vectors, in the whole batch. */
function perturbationOf(
  size: number,
  layers: LayerRecord[],
  tokens: Batch,
  lossThrough: (readsThrough: (vectors: Sequences) => Sequences) => number,
): Sequences {
  let vectors: Sequences = [];
  lossThrough((read) => (vectors = read));
  const width = vectors[0]![0]!.length;
  const flat = gradients(
    ([values]) =>
      lossThrough((read) =>
        moved(
          read,
          tokens.map((sample, b) =>
            sample.map((_, t) => values!.slice((b * sample.length + t) * width, (b * sample.length + t + 1) * width)),
          ),
        ),
      ),
    [vectors.flat(2).map(() => 0)],
  )[0]!;
  const isDropped = layers[1]!.kind === LAYER_DROPOUT && !sharesDropout(layers);
  // The vectors that are moved: those of each step, or of each different token.
  const slots = new Map<string, { group: number; x: number[]; g: number[] }>();
  const key = (b: number, t: number): string => (isDropped ? `${b} ${t}` : `${tokens[b]![t]}`);
  tokens.forEach((sample, b) =>
    sample.forEach((_, t) => {
      const x = vectors[b]![t]!;
      const from = (b * sample.length + t) * width;
      const g = flat.slice(from, from + width).map((value, j) => (x[j] === 0 ? 0 : value));
      if (g.every((value) => value === 0)) return; // padding
      const slot = slots.get(key(b, t));
      if (slot) slot.g = slot.g.map((value, j) => value + g[j]!);
      else slots.set(key(b, t), { group: isDropped ? b : 0, x, g });
    }),
  );
  const length = (group: number, part: "x" | "g"): number =>
    Math.hypot(...[...slots.values()].filter((slot) => slot.group === group).flatMap((slot) => slot[part]));
  return tokens.map((sample, b) =>
    sample.map((_, t) => {
      const slot = slots.get(key(b, t));
      if (!slot) return new Array<number>(width).fill(0);
      return slot.g.map((value) => ((size * length(slot.group, "x")) / length(slot.group, "g")) * value);
    }),
  );
}

function moved(vectors: Sequences, shift: Sequences): Sequences {
  return vectors.map((steps, b) => steps.map((row, t) => row.map((x, j) => x + shift[b]![t]![j]!)));
}

test("a second step starts from clean gradients", () => {
  const layers = chain(13, 3, 0, lstm(3), SOFTMAX);
  const one = new Trainer(layers, { batch: 3, time: 4 });
  one.trainWith({ loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_SGD });
  one.wasm["networkInitialize"](3, 0.05);
  const targets = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ];
  one.setBatch(DISTINCT, targets);
  one.step(0);
  one.setBatch(
    [
      [1, 2],
      [2, 3],
    ],
    targets.slice(1),
  );
  one.step(0);
  const second = one.tensors().map((_, i) => one.gradient(i));
  const other = new Trainer(layers, { batch: 3, time: 4 });
  other.trainWith({ loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_SGD });
  other.wasm["networkInitialize"](3, 0.05);
  other.setBatch(
    [
      [1, 2],
      [2, 3],
    ],
    targets.slice(1),
  );
  other.step(0);
  expect(other.tensors().map((_, i) => other.gradient(i))).toEqual(second);
  expect([...second[0]!.subarray(15)].every((value) => value === 0)).toBe(true);
});
