// How long a run is: small data sets get more epochs, large ones what the recipe says.
import { expect, test } from "vitest";
import { DEFAULT_RECIPE, epochsFor, TUTORIAL_RECIPE } from "../../host/recipe.ts";

test.each([
  [13_784, 10], // 431 steps an epoch
  [3201, 10],   // 101 steps
  [3168, 11],   // 99 steps: 10 epochs would be 990 steps
  [640, 50],
  [70, 60],     // 334 epochs would be too many
  [1, 60],
])("%i texts get %i epochs", (texts, epochs) => {
  expect(epochsFor(texts, DEFAULT_RECIPE)).toBe(epochs);
});

test("the tutorial trains as Keras does, however few the texts", () => {
  expect(epochsFor(10, TUTORIAL_RECIPE)).toBe(10);
});

test("more epochs than the extension's limit stay", () => {
  expect(epochsFor(70, { ...DEFAULT_RECIPE, epochs: 200 })).toBe(200);
});
