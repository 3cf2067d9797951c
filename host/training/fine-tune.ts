// A trained model and labelled texts -> the same model, trained for a few more epochs at a
// low rate, as `prune` and `learn` do. The other settings are the default recipe's.
import type { ModelInfo } from "../model/engine.ts";
import { listed, EdgelabelError } from "../errors.ts";
import { labelsOf, type Sample } from "../data/dataset.ts";
import { addSamples, DEFAULT_RECIPE, runEpochs, type RunListener } from "./recipe.ts";
import type { RunOptions } from "./settings.ts";
import { Trainer } from "./trainer.ts";

export interface Tuning {
  epochs: number;
  learningRate: number;
  seed: number;
}

/** Throws an EdgelabelError when samples have labels for which the model has no output. */
export function requireKnownLabels(
  labels: readonly string[],
  samples: readonly Sample[],
  source: string,
  remedy = "Correct the data",
): void {
  const unknown = labelsOf(samples).filter((label) => !labels.includes(label));
  if (unknown.length === 0) return;
  throw new EdgelabelError(
    `${source} does not know the label${unknown.length > 1 ? "s" : ""} ${listed(unknown)}; it knows ${listed(labels)}. ${remedy}, or train anew with it`,
  );
}

/** Fine-tunes the f32 model in `elb`; with 0 epochs its weights stay as they are. */
export async function tune(
  elb: Uint8Array,
  info: ModelInfo,
  source: string,
  samples: readonly Sample[],
  tuning: Tuning,
  listener: RunListener = {},
): Promise<Trainer> {
  const trainer = await Trainer.open(elb, source);
  if (tuning.epochs === 0) {
    trainer.buildOpened();
    return trainer;
  }
  addSamples(trainer, info.labels, samples, []);
  trainer.start(tuningOptions(info, tuning));
  runEpochs(trainer, tuning.epochs, false, listener);
  return trainer;
}

/** The default recipe's settings, adapted to the model. */
export function tuningOptions(
  { layers, tokenizer, multi_label: isMultiLabel }: ModelInfo,
  { epochs, learningRate, seed }: Tuning,
): RunOptions {
  const activation = layers.at(-1)?.activation;
  const loss =
    activation === "softmax"
      ? "categorical_crossentropy"
      : activation === "sigmoid"
        ? "binary_crossentropy"
        : "mean_squared_error";
  const hashes = tokenizer.ngram_buckets > 0;
  return {
    ...DEFAULT_RECIPE,
    loss,
    epochs,
    learningRate,
    seed,
    labelSmoothing: loss === "mean_squared_error" || isMultiLabel ? 0 : DEFAULT_RECIPE.labelSmoothing,
    // Left out: fine-tuning is short, and may run beside a service that answers.
    dropoutSamples: 1,
    perturbation: 0,
    averageDecay: 0,
    finalRate: 0,
    wordDropout: hashes ? DEFAULT_RECIPE.wordDropout : 0,
    augment: hashes ? { ...DEFAULT_RECIPE.augment } : {},
  };
}
