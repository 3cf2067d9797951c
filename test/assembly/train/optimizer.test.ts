// Every optimizer against a plain f64 twin over some steps: weights, slots and averages, row by
// row, also of embedding rows that the batch does not hold.
import { describe, expect, test } from "vitest";
import {
  ACTIVATION_LINEAR,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_BAD_STATE,
  ERR_BAD_TRAINING,
  ERR_NOT_FINITE,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  OK,
  OPTIMIZER_ADAM,
  OPTIMIZER_AVERAGE,
  OPTIMIZER_NESTEROV,
  OPTIMIZER_SGD,
} from "../../../assembly/abi.ts";
import { f32 } from "../../support/wasm.ts";
import { Trainer, type Batch, type Recipe } from "./driver.ts";
import { chain, dense, lstm } from "./layers.ts";

// A few f32 operations on numbers of this size, in each of 4 steps.
const TOLERANCE = 2e-6;

const WIDTH = 3;
const LAYERS = chain(7, WIDTH, 0, lstm(3), dense(3, ACTIVATION_SOFTMAX));
/** Rows come, stay away and come again; row 6 never comes. */
const BATCHES: Batch[] = [
  [
    [1, 2],
    [3, 1],
  ],
  [
    [2, 2],
    [2, 4],
  ],
  [
    [5, 0],
    [1, 4],
  ],
  [
    [3, 3],
    [0, 0],
  ],
];
const TARGETS = [
  [1, 0, 0],
  [0, 0, 1],
];
const RATES = [0.1, 0.05, 0.2, 0.1];

const kinds: Record<string, Omit<Recipe, "loss">> = {
  SGD: { optimizer: OPTIMIZER_SGD },
  momentum: { optimizer: OPTIMIZER_SGD, beta1: 0.9 },
  Nesterov: { optimizer: OPTIMIZER_SGD, beta1: 0.9, flags: OPTIMIZER_NESTEROV },
  Adam: { optimizer: OPTIMIZER_ADAM, beta1: 0.9, beta2: 0.999 },
  "Adam with other constants": { optimizer: OPTIMIZER_ADAM, beta1: 0.5, beta2: 0.75, epsilon: 0.1 },
};
const variants: Record<string, Partial<Recipe>> = {
  plain: {},
  clipped: { clipNorm: 0.05 },
  "not clipped, since short": { clipNorm: 50 },
  "with weight decay": { weightDecay: 0.3 },
  "clipped, with weight decay": { clipNorm: 0.05, weightDecay: 0.3 },
  averaged: { flags: OPTIMIZER_AVERAGE },
};
const AVERAGE_DECAY = 0.75;

interface State {
  weights: number[][];
  first: number[][];
  second: number[][];
  average: number[][] | null;
}

/** One step as the papers and Keras write it; f32 settings, f64 sums. */
function twinStep(state: State, gradients: number[][], recipe: Recipe, rate: number, step: number): void {
  const { optimizer, flags = 0, beta1 = 0, beta2 = 0, epsilon = 1e-7, clipNorm = 0, weightDecay = 0 } = recipe;
  const norm = Math.hypot(...gradients.flat());
  const shortened = clipNorm > 0 && norm > clipNorm ? clipNorm / norm : 1;
  // Keras raises the f32 betas to powers: 1 - 0.999 then differs in its sixth digit.
  const correction =
    optimizer === OPTIMIZER_ADAM ? Math.sqrt(1 - Math.fround(beta2) ** step) / (1 - Math.fround(beta1) ** step) : 1;
  gradients.forEach((tensor, i) =>
    tensor.forEach((value, j) => {
      const g = value * shortened;
      const [w, m, v] = [state.weights[i]!, state.first[i]!, state.second[i]!];
      w[j]! -= weightDecay * rate * w[j]!;
      if (optimizer === OPTIMIZER_SGD) {
        m[j] = beta1 * m[j]! - rate * g;
        w[j]! += flags & OPTIMIZER_NESTEROV ? beta1 * m[j]! - rate * g : m[j]!;
      } else {
        m[j] = beta1 * m[j]! + (1 - beta1) * g;
        v[j] = beta2 * v[j]! + (1 - beta2) * g * g;
        w[j]! -= (rate * correction * m[j]!) / (Math.sqrt(v[j]!) + epsilon);
      }
    }),
  );
  if (!(flags & OPTIMIZER_AVERAGE)) return;
  const { average, weights } = state;
  state.average = average
    ? average.map((tensor, i) => tensor.map((a, j) => AVERAGE_DECAY * a + (1 - AVERAGE_DECAY) * weights[i]![j]!))
    : weights.map((tensor) => [...tensor]);
}

function expectClose(actual: ArrayLike<number>[], expected: number[][], what: string): void {
  expected.forEach((tensor, i) => {
    expect(actual[i]!.length).toBe(tensor.length);
    const worst = Math.max(...tensor.map((value, j) => Math.abs(value - actual[i]![j]!)));
    expect(worst, `${what} ${i}`).toBeLessThan(TOLERANCE);
  });
}

function start(recipe: Recipe): Trainer {
  const trainer = new Trainer(LAYERS, { batch: 2, time: 2 });
  expect(trainer.trainWith(recipe)).toBe(OK);
  trainer.wasm["networkInitialize"](1, 0.05);
  // Keras' first weights are so small that an error would not show.
  trainer.tensors().forEach((tensor, i) =>
    trainer.setTensor(
      i,
      tensor.map((value, j) => value + ((7 * j + i) % 11) / 11 - 0.5),
    ),
  );
  return trainer;
}

const arrays = (tensors: Float32Array[]): number[][] => tensors.map((tensor) => [...tensor]);
const still = (tensors: Float32Array[]): number[][] => tensors.map((tensor) => [...tensor].fill(0));

describe.each(Object.entries(kinds))("%s", (_, kind) => {
  test.each(Object.entries(variants))("%s", (_, variant) => {
    const recipe: Recipe = {
      loss: LOSS_CATEGORICAL_CROSSENTROPY,
      ...kind,
      ...variant,
      flags: (kind.flags ?? 0) | (variant.flags ?? 0),
    };
    const trainer = start(recipe);
    const before = trainer.tensors();
    const state: State = { weights: arrays(before), first: still(before), second: still(before), average: null };
    BATCHES.forEach((tokens, step) => {
      expect(trainer.setBatch(tokens, TARGETS)).toBe(OK);
      expect(trainer.step(RATES[step]!)).toBe(OK);
      if (recipe.flags! & OPTIMIZER_AVERAGE) expect(trainer.wasm["networkAverage"](AVERAGE_DECAY)).toBe(OK);
      const gradients = arrays(trainer.tensors().map((_tensor, i) => trainer.gradient(i)));
      const norm: number = trainer.wasm["networkGradientNorm"]();
      expect(Math.abs(norm - Math.hypot(...gradients.flat()))).toBeLessThan(TOLERANCE);
      twinStep(state, gradients, recipe, RATES[step]!, step + 1);
      expectClose(trainer.tensors(), state.weights, `step ${step}, tensor`);
    });
    const indices = state.weights.map((_tensor, i) => i);
    if (recipe.optimizer !== OPTIMIZER_SGD || recipe.beta1)
      expectClose(
        indices.map((i) => trainer.slot(i, 0)),
        state.first,
        "first slot",
      );
    if (recipe.optimizer !== OPTIMIZER_SGD)
      expectClose(
        indices.map((i) => trainer.slot(i, 1)),
        state.second,
        "second slot",
      );
    if (state.average) {
      const weights = trainer.tensors();
      expect(trainer.wasm["networkSwapAverage"]()).toBe(OK);
      expectClose(trainer.tensors(), state.average, "average");
      expect(trainer.step(0.1)).toBe(ERR_BAD_STATE);
      expect(trainer.wasm["networkAverage"](AVERAGE_DECAY)).toBe(ERR_BAD_STATE);
      expect(trainer.wasm["networkSwapAverage"]()).toBe(OK);
      expect(trainer.tensors()).toEqual(weights);
    }
    // Row 6 has no gradient: only weight decay moves it.
    const moves = (recipe.weightDecay ?? 0) > 0;
    expect(
      trainer
        .tensor(0)
        .slice(6 * WIDTH)
        .some((value, j) => value !== before[0]![6 * WIDTH + j]),
    ).toBe(moves);
  });
});

test("a step whose numbers overflow is refused and leaves weights, slots and counters", () => {
  for (const kind of Object.values(kinds)) {
    const trainer = start({ loss: LOSS_CATEGORICAL_CROSSENTROPY, ...kind });
    const bytes = (): Uint8Array[] =>
      Array.from({ length: trainer.wasm["networkStateCount"]() }, (_, i) =>
        new Uint8Array(
          trainer.wasm.memory.buffer,
          trainer.wasm["networkStatePtr"](i),
          trainer.wasm["networkStateBytes"](i),
        ).slice(),
      );
    let status = OK;
    let before = bytes();
    for (let i = 0; i < 8 && status === OK; i++) {
      before = bytes();
      trainer.setBatch(BATCHES[0]!, TARGETS);
      status = trainer.step(1e30);
    }
    expect(status).toBe(ERR_NOT_FINITE);
    expect(bytes()).toEqual(before);
    for (const tensor of trainer.tensors()) expect(tensor.every(Number.isFinite)).toBe(true);
  }
});

test("weights that are not finite are refused before they spread", () => {
  for (const value of [NaN, Infinity, -Infinity]) {
    const trainer = start({ loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_ADAM, beta1: 0.9, beta2: 0.999 });
    const bias = trainer.tensorCount - 1;
    trainer.setTensor(bias, [value, 0, 0]);
    const before = trainer.tensors();
    trainer.setBatch(BATCHES[0]!, TARGETS);
    expect(trainer.step(0.1)).toBe(ERR_NOT_FINITE);
    expect(trainer.tensors()).toEqual(before);
  }
});

test("a row that has faded comes back as if it had been updated in every step", () => {
  const recipe: Recipe = { loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_ADAM, beta1: 0.9, beta2: 0.999 };
  const trainer = start(recipe);
  const before = trainer.tensors();
  const state: State = { weights: arrays(before), first: still(before), second: still(before), average: null };
  const steps = 400;
  for (let step = 1; step <= steps; step++) {
    const isPresent = step === 1 || step === steps;
    trainer.setBatch(
      isPresent
        ? [
            [1, 2],
            [2, 1],
          ]
        : [
            [2, 2],
            [3, 2],
          ],
      TARGETS,
    );
    expect(trainer.step(0.001)).toBe(OK);
    twinStep(state, arrays(trainer.tensors().map((_tensor, i) => trainer.gradient(i))), recipe, 0.001, step);
    if (step !== steps - 1) continue;
    // Before it is asked for, its slot is the one of the step in which it faded; then the one of this step.
    const raw = f32(trainer.wasm, trainer.wasm["networkStatePtr"](2) + 4 * WIDTH, WIDTH);
    const settled = trainer.slot(0, 0).subarray(WIDTH, 2 * WIDTH);
    for (let j = 0; j < WIDTH; j++) expect(raw[j]! / settled[j]!).toBeGreaterThan(100);
    for (const [slot, twin] of [
      [0, state.first],
      [1, state.second],
    ] as const) {
      const actual = trainer.slot(0, slot);
      for (let j = WIDTH; j < 2 * WIDTH; j++) expect(Math.abs(actual[j]! / twin[0]![j]! - 1)).toBeLessThan(1e-4);
    }
  }
  expectClose(trainer.tensors(), state.weights, "tensor");
  for (const [slot, twin] of [
    [0, state.first],
    [1, state.second],
  ] as const) {
    const actual = trainer.slot(0, slot);
    for (let j = WIDTH; j < 2 * WIDTH; j++) expect(Math.abs(actual[j]! / twin[0]![j]! - 1)).toBeLessThan(1e-4);
  }
});

test("a rate of 0 lets no row fade that is still in motion", () => {
  const recipe: Recipe = { loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_ADAM, beta1: 0.9, beta2: 0.999 };
  const trainer = start(recipe);
  trainer.setBatch(
    [
      [1, 1],
      [1, 1],
    ],
    TARGETS,
  );
  trainer.step(0.1);
  trainer.setBatch(
    [
      [2, 2],
      [2, 2],
    ],
    TARGETS,
  );
  trainer.step(0);
  const before = trainer.tensor(0).subarray(WIDTH, 2 * WIDTH);
  trainer.step(0.1);
  trainer
    .tensor(0)
    .subarray(WIDTH, 2 * WIDTH)
    .forEach((value, j) => expect(Math.abs(value - before[j]!)).toBeGreaterThan(1e-3));
});

test("slots of rows that have long had no gradient end at 0", () => {
  const trainer = start({ loss: LOSS_CATEGORICAL_CROSSENTROPY, optimizer: OPTIMIZER_SGD, beta1: 0.5 });
  trainer.setBatch(
    [
      [1, 1],
      [1, 1],
    ],
    TARGETS,
  );
  trainer.step(0.1);
  for (let i = 0; i < 120; i++) {
    trainer.setBatch(
      [
        [2, 2],
        [2, 2],
      ],
      TARGETS,
    );
    trainer.step(0.1);
  }
  // 0.5^120 nears the smallest normal f32, below which numbers become slow.
  expect([...trainer.slot(0, 0).subarray(WIDTH, 2 * WIDTH)]).toEqual([0, 0, 0]);
});

test.each<[string, number, Partial<Recipe>]>([
  ["binary cross-entropy on softmax", ACTIVATION_SOFTMAX, { loss: LOSS_BINARY_CROSSENTROPY }],
  ["categorical cross-entropy on sigmoid", ACTIVATION_SIGMOID, {}],
  ["an unknown loss", ACTIVATION_SOFTMAX, { loss: 9 }],
  ["smoothed squared error", ACTIVATION_LINEAR, { loss: LOSS_MEAN_SQUARED_ERROR, labelSmoothing: 0.1 }],
  ["an unknown optimizer", ACTIVATION_SOFTMAX, { optimizer: 4 }],
  ["optimizer 0", ACTIVATION_SOFTMAX, { optimizer: 0 }],
  ["an unknown flag", ACTIVATION_SOFTMAX, { flags: 1 << 20 }],
  ["Adam that looks ahead", ACTIVATION_SOFTMAX, { flags: OPTIMIZER_NESTEROV }],
  ["beta1 of 1", ACTIVATION_SOFTMAX, { beta1: 1 }],
  ["beta2 that is no number", ACTIVATION_SOFTMAX, { beta2: NaN }],
  ["epsilon 0", ACTIVATION_SOFTMAX, { epsilon: 0 }],
  ["smoothing of 1", ACTIVATION_SOFTMAX, { labelSmoothing: 1 }],
  ["a negative clip norm", ACTIVATION_SOFTMAX, { clipNorm: -1 }],
  ["infinite weight decay", ACTIVATION_SOFTMAX, { weightDecay: Infinity }],
])("%s is refused", (_, activation, change) => {
  const trainer = new Trainer(chain(7, 3, 0, lstm(3), dense(3, activation)), { batch: 2, time: 2 });
  expect(
    trainer.trainWith({
      loss: LOSS_CATEGORICAL_CROSSENTROPY,
      optimizer: OPTIMIZER_ADAM,
      beta1: 0.9,
      beta2: 0.999,
      ...change,
    }),
  ).toBe(ERR_BAD_TRAINING);
  expect(trainer.step(0.1)).toBe(ERR_BAD_STATE);
});
