// Cross-validation: how well models of these texts and settings answer texts that they were not trained on.
import { isMultiLabel, type Sample } from "../data/dataset.ts";
import { split, SPLIT_SEED } from "../data/split.ts";
import { EdgelabelError } from "../errors.ts";
import { type LabelledTexts, samplesOf } from "./samples.ts";
import {
  chooseTraining,
  runTraining,
  type StartWorkers,
  synonymsOf,
  type TrainingInMemory,
  type TrainOptions,
  vectorsOf,
} from "./train.ts";

export interface FoldOptions extends Omit<TrainOptions, "valid" | "unknown" | "resume" | "onEpoch"> {
  /** Number of parts; each is left out of one training, and measured on it. From 2. Default: 5. */
  folds?: number | undefined;
}

export interface CrossValidation {
  /** Texts measured on: all that were given. */
  n: number;
  /** Share of them that got their label from the model that was trained without them, as deployed; of several labels, exactly these. */
  accuracy: number;
  /** Of several labels: mean over the parts, by their texts. */
  micro_f1?: number | undefined;
  /** The same for each part. */
  folds: number[];
}

export async function crossValidate(
  texts: LabelledTexts,
  { folds = 5, ...options }: FoldOptions,
  startWorkers: StartWorkers,
): Promise<CrossValidation> {
  const chosen = chooseTraining(options);
  const samples = await samplesOf(texts, "texts");
  const [synonyms, vectors] = [synonymsOf(options.synonyms), vectorsOf(options.vectors)];
  return runFolds({ chosen, samples, validation: [], synonyms, vectors }, folds, options, startWorkers);
}

/** The same, when texts and settings are at hand. */
export async function runFolds(
  training: TrainingInMemory,
  folds: number,
  options: Omit<FoldOptions, "folds">,
  startWorkers: StartWorkers,
): Promise<CrossValidation> {
  const { samples } = training;
  if (!(Number.isInteger(folds) && folds >= 2 && folds <= samples.length))
    throw new EdgelabelError(`folds takes a whole number from 2 to the number of texts, which is ${samples.length}`);
  const parts = split(samples, Array<number>(folds).fill(1 / folds), SPLIT_SEED);
  const accuracies: number[] = [];
  let right = 0;
  let micro = 0;
  for (const [i, part] of parts.entries()) {
    const left = new Set<Sample>(part);
    const trained = await runTraining(
      { ...training, samples: samples.filter((sample) => !left.has(sample)) },
      { ...options, onProgress: (done, total) => options.onProgress?.(i * total + done, folds * total) },
      startWorkers,
    );
    const { accuracy, micro_f1 = NaN } = await trained.evaluate(part);
    accuracies.push(accuracy);
    right += accuracy * part.length;
    micro += micro_f1 * part.length;
  }
  const n = samples.length;
  return { n, accuracy: right / n, micro_f1: isMultiLabel(samples) ? micro / n : undefined, folds: accuracies };
}
