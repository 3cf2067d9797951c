// Which settings suit these texts: models of other settings are measured on texts that they were not trained on, as long
// as time lasts. First each change of the recipe by itself, in an order that does not depend on time, then those that
// helped together. So the same texts, seed and number of trials give the same table.
import { isMultiLabel, type Sample } from "../data/dataset.ts";
import { split, SPLIT_SEED } from "../data/split.ts";
import { EdgelabelError } from "../errors.ts";
import { Classifier } from "../model/classifier.ts";
import { isRight } from "../training/label-sets.ts";
import { mcnemar } from "../report/certainty.ts";
import type { Trial, Tuned } from "../report/tuning.ts";
import { speedOf } from "../report/speed.ts";
import { BAD_SETTING, type Chosen, type RunSettings } from "./settings.ts";
import { runTraining, type StartWorkers, type TrainingInMemory, type TrainOptions } from "./train.ts";

/** What is tried, with what is said of it. Each helps some kinds of texts. */
const CHANGES: readonly [what: string, settings: RunSettings][] = [
  ["the recipe as it is", {}],
  ["words, pairs and n-grams, without a network", { recipe: "linear" }],
  ["half the network", { units: 32, embeddingDim: 32 }],
  ["a cell that runs and trains faster", { recipe: "fast" }],
  ["read forwards only", { bidirectional: false }],
  ["less dropout", { embeddingDropout: 0.1, outputDropout: 0.3, wordDropout: 0.1 }],
  ["a larger network", { units: 96, embeddingDim: 96 }],
  ["numbers and accents alike", { clean: ["numbers", "accents"] }],
  ["without addresses and markup", { clean: ["urls", "markup"] }],
  ["twice the n-grams", { ngramBuckets: 8192 }],
  ["a quarter of the n-grams", { ngramBuckets: 1024 }],
  ["no misspellings in training", { augmentTypo: 0 }],
  ["all labels weigh the same", { classWeight: "balanced" }],
  ["texts as they come", { clean: "none" }],
  ["trained for longer", { epochs: 20 }],
];
/** Texts of all parts together: enough to tell settings apart, few enough for many trials. */
const MOST_TEXTS = 2_000;
const FOLDS = 3;
/** A change that is so far behind the best after the first part is given up. */
const HOPELESS = 0.04;
/** A change takes the recipe's place when chance would make such a difference less often. */
const CHANCE = 0.2;

export interface TuneOptions {
  /** No trial begins that would probably end later, in milliseconds. */
  ms?: number | undefined;
  /** Most trials. */
  trials?: number | undefined;
  maxBytes?: number | undefined;
  maxMicroseconds?: number | undefined;
  onTrial?: ((trial: Trial) => void) | undefined;
}

interface Measured extends Trial {
  settings: RunSettings;
  /** Whether each text was right, part by part. */
  right: boolean[];
}

/** `choose` gives the settings of a training with these changes. Throws an EdgelabelError when there are too few texts, or no trial fits. */
export async function tune(
  training: Omit<TrainingInMemory, "chosen" | "validation">,
  choose: (changes: RunSettings) => Chosen,
  options: Pick<TrainOptions, "quantize" | "signal">,
  { ms = Infinity, trials: most = Infinity, maxBytes = Infinity, maxMicroseconds = Infinity, onTrial }: TuneOptions,
  startWorkers: StartWorkers,
): Promise<Tuned> {
  const { samples } = training;
  const [texts] = split(samples, [Math.min(1, MOST_TEXTS / samples.length)], SPLIT_SEED);
  const parts = split(texts!, Array<number>(FOLDS).fill(1 / FOLDS), SPLIT_SEED);
  if (parts.some(({ length }) => length === 0))
    throw new EdgelabelError(`${samples.length} texts are too few to compare settings on; train without tuning`);
  const started = performance.now();
  const measured: Measured[] = [];
  const tried = new Set<string>();
  let longest = 0;

  async function run(what: string, settings: RunSettings): Promise<void> {
    const began = performance.now();
    const chosen = chosenFor(settings);
    if (chosen === undefined) return;
    // What the user has set is not changed, so two trials may be the same.
    const key = JSON.stringify(chosen.settings);
    if (tried.has(key)) return;
    tried.add(key);
    const first = parts[0]!.length;
    const best = measured
      .filter((trial) => trial.fits)
      .reduce((most_, { right }) => Math.max(most_, shareOf(right.slice(0, first))), 0);
    const right: boolean[] = [];
    let [bytes, microseconds, isGivenUp, fits] = [0, 0, false, false];
    for (const part of parts) {
      const left = new Set<Sample>(part);
      const rest = texts!.filter((sample) => !left.has(sample));
      const given = { ...training, samples: rest, validation: [], chosen };
      const trained = await runTraining(given, options, startWorkers);
      const classifier = await Classifier.fromBytes((await trained.deployed()).elb, what);
      for (const sample of part) right.push(isRight(sample, classifier.classify(sample.text)));
      if (right.length > first) continue;
      bytes = (await trained.wasm()).length;
      microseconds = speedOf(classifier, part.map(({ text }) => text)); // prettier-ignore
      fits = bytes <= maxBytes && microseconds <= maxMicroseconds;
      isGivenUp = shareOf(right) < best - HOPELESS;
      if (!fits || isGivenUp) break;
    }
    const trial = { what, settings, accuracy: shareOf(right), bytes, microseconds, isGivenUp, fits };
    measured.push({ ...trial, right });
    longest = Math.max(longest, performance.now() - began);
    onTrial?.(trial);
  }
  /** Undefined where the settings do not go with those of the user. */
  function chosenFor(settings: RunSettings): Chosen | undefined {
    try {
      return choose(settings);
    } catch (error) {
      if (measured.length > 0 && error instanceof EdgelabelError && error.code === BAD_SETTING) return undefined;
      throw error;
    }
  }
  const hasTime = (): boolean =>
    measured.length < most && (measured.length === 0 || performance.now() - started + longest <= ms);

  // Sets of labels have no weights.
  const changes = isMultiLabel(samples) ? CHANGES.filter(([, { classWeight }]) => classWeight === undefined) : CHANGES;
  for (const [what, settings] of changes) if (hasTime()) await run(what, settings);
  const recipe = measured[0]!;
  const better = measured
    .filter(
      ({ settings, accuracy, isGivenUp, fits }) =>
        fits && !isGivenUp && accuracy > recipe.accuracy && settings.recipe === undefined,
    )
    .sort((one, other) => other.accuracy - one.accuracy);
  for (let count = 2; count <= better.length && hasTime(); count++) {
    const some = better.slice(0, count);
    // The more a change helped, the later it is set.
    const together = Object.assign({}, ...some.map(({ settings }) => settings).reverse()) as RunSettings;
    await run(some.map(({ what }) => what).join(", "), together);
  }
  const ranked = rank(measured);
  if (ranked.length === 0)
    throw new EdgelabelError(
      `of ${measured.length} trials none is within the largest size and time; the smallest has ${measured.reduce((least, { bytes }) => Math.min(least, bytes), Infinity)} bytes`,
    );
  return { n: texts!.length, trials: measured.map(withoutRight), ranked: ranked.map(withoutRight) };
}

function rank(measured: readonly Measured[]): Measured[] {
  const recipe = measured[0]!;
  const ranked = measured
    .filter(({ fits, isGivenUp }) => fits && !isGivenUp)
    .sort((one, other) => other.accuracy - one.accuracy);
  const [best] = ranked;
  return best && recipe.fits && mayBeChance(recipe, best)
    ? [recipe, ...ranked.filter((each) => each !== recipe)]
    : ranked;
}

function mayBeChance(one: Measured, other: Measured): boolean {
  const alone = (a: Measured, b: Measured): number => a.right.filter((isRight, i) => isRight && !b.right[i]).length;
  return mcnemar(alone(one, other), alone(other, one)) >= CHANCE;
}

function withoutRight({ right: _, ...trial }: Measured): Trial {
  return trial;
}

function shareOf(right: readonly boolean[]): number {
  return right.filter(Boolean).length / right.length;
}
