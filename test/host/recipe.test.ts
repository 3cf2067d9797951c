// What a recipe becomes on few texts: smaller batches, more epochs, all words; large data sets get what it says.
import { describe, expect, test } from "vitest";
import { adaptToSize, DEFAULT_RECIPE, prepareTraining, TUTORIAL_RECIPE } from "../../host/recipe.ts";
import { samples } from "../models.ts";

test.each([
  [13_784, 32, 10, 2], // 431 steps an epoch
  [9600, 32, 10, 2],   // 300 steps: 3000 in all
  [9568, 32, 11, 2],   // 299 steps: 10 epochs would be 2990
  [2048, 32, 47, 2],   // 64 batches
  [2047, 16, 24, 2],   // 128 batches, where of 32 there would be less than 64
  [1024, 16, 47, 2],
  [1023, 8, 24, 1],
  [300, 8, 79, 1],
  [70, 8, 80, 1],      // 334 epochs would be too many
  [1, 8, 80, 1],
])("%i texts: batches of %i, %i epochs, words seen %i times", (texts, batch, epochs, minCount) => {
  expect(adaptToSize(DEFAULT_RECIPE, texts)).toEqual({ ...DEFAULT_RECIPE, batch, epochs, minCount });
});

describe("what is given stays", () => {
  test("one by one", () => {
    expect(adaptToSize(DEFAULT_RECIPE, 300, new Set(["batch"]))).toMatchObject({ batch: 32, epochs: 80, minCount: 1 });
    expect(adaptToSize({ ...DEFAULT_RECIPE, epochs: 3 }, 300, new Set(["epochs"]))).toMatchObject({ batch: 8, epochs: 3, minCount: 1 });
    expect(adaptToSize({ ...DEFAULT_RECIPE, minCount: 5 }, 300, new Set(["minCount"]))).toMatchObject({ batch: 8, epochs: 79, minCount: 5 });
  });

  test("a batch is not smaller than its workers", () => {
    expect(adaptToSize({ ...DEFAULT_RECIPE, workers: 12 }, 300).batch).toBe(16);
    expect(adaptToSize({ ...DEFAULT_RECIPE, workers: 32 }, 300).batch).toBe(32);
  });

  test("the tutorial trains as Keras does, however few the texts", () => {
    expect(adaptToSize(TUTORIAL_RECIPE, 10)).toEqual(TUTORIAL_RECIPE);
  });
});

test.each([Number.NaN, -0.1, 1e6])("the embedding cannot be drawn from +-%d", async (embeddingRange) => {
  const trainer = await prepareTraining(samples, [], DEFAULT_RECIPE);
  expect(() => trainer.start({ ...DEFAULT_RECIPE, embeddingRange })).toThrow(/training settings/);
});
