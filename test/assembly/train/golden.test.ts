// Training against Keras: initial weights -> batches -> each loss, the final weights and the
// optimizer's slots; and the forward pass against the scores of trained Keras models.
import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import {
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  OK,
  OPTIMIZER_ADAM,
  OPTIMIZER_NESTEROV,
  OPTIMIZER_PER_TOKEN,
  OPTIMIZER_SGD,
} from "../../../assembly/abi.ts";
import { readKerasWeights } from "../../support/keras-weights.ts";
import {
  describeShared,
  readSharedJson,
  readSharedJsonLines,
  sharedIsPresent,
  sharedPath,
} from "../../support/shared.ts";
import { Trainer, type Recipe } from "./driver.ts";

// Keras sums in another order: the difference is rounding, grown over the steps.
const LOSS_TOLERANCE = 1e-4; // relative
const WEIGHT_TOLERANCE = 1e-4; // absolute
const SLOT_TOLERANCE = 1e-4; // relative to the tensor's largest
const SCORE_TOLERANCE = 1e-5;

interface TrainCase {
  optimizer: {
    name: string;
    learning_rate: number;
    momentum?: number;
    nesterov?: boolean;
    beta_1?: number;
    beta_2?: number;
    epsilon?: number;
    global_clipnorm?: number;
  };
  loss: string;
  shape: { maxlen: number; outputs: number };
  batches: { x: number[][]; y: number[][] }[];
  losses: number[];
}

const LOSSES: Record<string, number> = {
  binary_crossentropy: LOSS_BINARY_CROSSENTROPY,
  categorical_crossentropy: LOSS_CATEGORICAL_CROSSENTROPY,
  mean_squared_error: LOSS_MEAN_SQUARED_ERROR,
};

function recipeOf({ optimizer, loss }: TrainCase): Recipe {
  const isAdam = optimizer.name === "adam";
  return {
    loss: LOSSES[loss]!,
    optimizer: isAdam ? OPTIMIZER_ADAM : OPTIMIZER_SGD,
    flags: OPTIMIZER_PER_TOKEN | (optimizer.nesterov ? OPTIMIZER_NESTEROV : 0),
    beta1: isAdam ? optimizer.beta_1! : (optimizer.momentum ?? 0),
    beta2: optimizer.beta_2 ?? 0,
    epsilon: optimizer.epsilon ?? 1e-7,
    clipNorm: optimizer.global_clipnorm ?? 0,
  };
}

function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

const goldens = sharedIsPresent ? readdirSync(sharedPath("golden")) : [];

describeShared("training reproduces Keras", () => {
  const names = goldens.filter((name) => name.startsWith("train-"));
  test("the cases are there", () => expect(names.length).toBeGreaterThanOrEqual(7));

  test.each(names)("%s", (name) => {
    const golden = readSharedJson<TrainCase>("golden", name, "train.json");
    const initial = readKerasWeights(sharedPath("golden", name, "initial.keras"));
    const final = readKerasWeights(sharedPath("golden", name, "final.keras"));
    const trainer = new Trainer(initial.layers, {
      batch: Math.max(...golden.batches.map(({ x }) => x.length)),
      time: golden.shape.maxlen,
    });
    expect(trainer.trainWith(recipeOf(golden))).toBe(OK);
    expect(trainer.tensorCount).toBe(initial.tensors.length);
    initial.tensors.forEach((values, i) => trainer.setTensor(i, values));
    expect(golden.batches.length).toBe(golden.losses.length);
    golden.batches.forEach(({ x, y }, i) => {
      expect(trainer.setBatch(x, y)).toBe(OK);
      expect(trainer.step(golden.optimizer.learning_rate)).toBe(OK);
      const expected = golden.losses[i]!;
      expect(
        Math.abs(trainer.loss - expected) / expected,
        `loss of step ${i}: ${trainer.loss}, Keras ${expected}`,
      ).toBeLessThan(LOSS_TOLERANCE);
    });
    final.tensors.forEach((values, i) => {
      expect(largestDifference(trainer.tensor(i), values), `tensor ${i}`).toBeLessThan(WEIGHT_TOLERANCE);
      // Training must have moved the tensor further than the tolerance, or the line above proves nothing.
      expect(largestDifference(initial.tensors[i]!, values)).toBeGreaterThan(WEIGHT_TOLERANCE);
    });
    const perTensor = final.slots.length / final.tensors.length;
    final.slots.forEach((values, i) => {
      const scale = Math.max(...values.map(Math.abs));
      const slot = trainer.slot(Math.floor(i / perTensor), i % perTensor);
      expect(largestDifference(slot, values) / scale, `slot ${i}`).toBeLessThan(SLOT_TOLERANCE);
    });
  });
});

describeShared("the forward pass reproduces Keras", () => {
  const names = goldens.filter((name) => name.startsWith("model-"));
  test("the cases are there", () => expect(names.length).toBeGreaterThanOrEqual(4));

  test.each(names)("%s", (name) => {
    const model = readKerasWeights(sharedPath("golden", name, "model.keras"));
    const cases = readSharedJsonLines<Record<string, number[]>>("golden", name, "cases.jsonl");
    const ids = cases.map((line) => line["ids"]!);
    const scores = cases.map((line) => line["scores"]!);
    const time = ids[0]!.length;
    const trainer = new Trainer(model.layers, { batch: 32, time });
    model.tensors.forEach((values, i) => trainer.setTensor(i, values));
    for (let first = 0; first < ids.length; first += 32) {
      const batch = ids.slice(first, first + 32);
      expect(trainer.setBatch(batch)).toBe(OK);
      const actual = trainer.scores(batch.length, scores[0]!.length);
      expect(largestDifference(actual.flat(), scores.slice(first, first + 32).flat())).toBeLessThan(SCORE_TOLERANCE);
    }
  });
});
