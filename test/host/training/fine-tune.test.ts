// How a trained model is trained on: by the loss that its last layer was made for.
import { expect, test } from "vitest";
import type { ModelInfo } from "../../../host/model/engine.ts";
import { tuningOptions } from "../../../host/training/fine-tune.ts";
import { DEFAULT_RECIPE } from "../../../host/training/recipe.ts";

test.each([
  ["softmax", "categorical_crossentropy", DEFAULT_RECIPE.labelSmoothing],
  ["sigmoid", "binary_crossentropy", DEFAULT_RECIPE.labelSmoothing],
  ["linear", "mean_squared_error", 0],
])("after %s: %s", (activation, loss, labelSmoothing) => {
  const info = { layers: [{ activation: "linear" }, { activation }], tokenizer: { ngram_buckets: 0 } };
  const options = tuningOptions(info as unknown as ModelInfo, { epochs: 1, learningRate: 0.01, seed: 1 });
  expect(options).toMatchObject({ loss, labelSmoothing });
});
