// Learning from corrections: a training form, corrections (texts with the right labels) and its
// training data -> a model that has learnt them, or the reason why the old one stays. Trained on
// corrections alone, the network would forget the rest, so each epoch mixes them with texts of
// the training data. After some epochs the model is measured as it would be deployed, on a
// hold-out that it never trains on; it is accepted only if it is not worse there. A calibrated
// model is calibrated on the hold-out first.
import { type Calibration, isCalibrated, recalibration, withCalibration } from "./calibration.ts";
import { Classifier, type ModelInfo } from "../model/classifier.ts";
import { labelsOf, type Sample, thinned, without } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";
import { MIN_AGREEMENT, quantize, spreadTexts } from "./quantization.ts";
import { addSamples, DEFAULT_RECIPE, epochsFor, LARGEST_INT8, runEpochs } from "./recipe.ts";
import { type ModelForm, Trainer } from "./trainer.ts";
import { requireKnownLabels, tuningOptions } from "./fine-tune.ts";
import { isRight, targetsOf } from "./label-sets.ts";
import { percent } from "../figures.ts";

export interface LearnOptions {
  /** Absent = EPOCHS, or more when there are few texts. */
  epochs?: number | undefined;
  learningRate: number;
  seed: number;
  /** Texts of the training data that an epoch rehearses, at most. */
  rehearsed: number;
  /** Corrections and data may bring labels that the model does not know. */
  newLabels: boolean;
  /** Version of the new model; absent = the next one after the old model's. */
  version?: string | undefined;
  /** Keep f32 weights in the deployed model, too. */
  quantize: boolean;
}

export const LEARN_DEFAULTS: LearnOptions = {
  learningRate: 2e-3,
  seed: 1,
  rehearsed: 2000,
  newLabels: false,
  quantize: true,
};

const EPOCHS = 4;
const MIN_STEPS = 250;
const MOST_EPOCHS = 60;
/** A run is measured after each epoch, but at most this many times, evenly spread. */
const MOST_MEASURED = 12;
/** Losses within this share count as equal: any further training changes the loss that much. */
const LOSS_TOLERANCE = 0.01;
/** Corrections are repeated until they make up this share of an epoch, ... */
const CORRECTED_SHARE = 0.25;
/** ... but at most this many times: augmentation yields no more useful variants of a text. */
const MOST_REPEATS = 10;

export interface LearnInput {
  /** The training form. */
  elb: Uint8Array;
  /** Names it in errors. */
  source: string;
  /** The model that is deployed now. Its calibration is used if the training form has none. */
  deployed?: Pick<ModelInfo, "temperature" | "reject"> | undefined;
  /** Oldest first: of two corrections of the same text the later one counts. */
  corrections: readonly Sample[];
  /** What the model was trained on. */
  data: readonly Sample[];
  /** Texts that are also corrected are left out. */
  validation: readonly Sample[];
}

/** How good a model is. */
export interface Standing {
  /** How many corrections the deployed form answers as corrected. */
  corrected: number;
  /** Accuracy of the deployed form on the hold-out; of several labels, the share of the texts that get exactly theirs. */
  accuracy: number;
  /** Loss of the f32 form on the hold-out, which decides between equal accuracies. */
  loss: number;
}

export interface LearnReport {
  accepted: boolean;
  /** Why the old model stays; "" when it does not. */
  reason: string;
  version: string;
  form: ModelForm;
  /** Number of texts with a correction. */
  corrections: number;
  /** Texts of the training data in each epoch. */
  rehearsed: number;
  /** Texts of the hold-out. */
  validated: number;
  new_labels: string[];
  before: Standing;
  /** One for each time the run was measured. */
  measured: Standing[];
  /** Of the accepted model; null when there is none. */
  after: Standing | null;
  /** Of the accepted model, on the hold-out; null when the old one was not calibrated, and so the new one is not. */
  calibration: Calibration | null;
}

export interface Learnt {
  report: LearnReport;
  /** The new training form, and the model to deploy; null when the old one stays. */
  model: { training: Uint8Array; deployed: Uint8Array } | null;
}

/** Whether there is nothing left to learn: the run was accepted, or the old model already answered all corrections right. */
export function isDone({ accepted, before, corrections }: LearnReport): boolean {
  return accepted || before.corrected === corrections;
}

/** The same input and seed give the same bits. `onBatch` is called with the epochs done, of the last one a part, and their total. */
export async function learn(
  input: LearnInput,
  options: LearnOptions,
  onBatch?: (done: number, total: number) => void,
): Promise<Learnt> {
  const { elb, source, deployed: replaced, data } = input;
  const old = await Classifier.fromBytes(elb, source);
  const corrections = latest(input.corrections);
  if (corrections.length === 0)
    throw new EdgelabelError(`there are no corrections for ${source}; give some with --corrections`);
  const validation = leftOf(input.validation, corrections);
  const { info, version: oldVersion } = old;
  const newLabels = newLabelsFor(old, { ...input, corrections, validation }, options);
  const labels = [...old.labels, ...newLabels];

  const version = options.version ?? nextVersion(oldVersion);
  const { known, rehearsed, repeats } = mix(corrections, data, validation, options.rehearsed);
  const samples = [...rehearsed, ...Array.from({ length: repeats }, () => corrections).flat()];
  const total =
    options.epochs ??
    epochsFor(samples.length, { ...DEFAULT_RECIPE, epochs: EPOCHS, minSteps: MIN_STEPS }, MOST_EPOCHS);
  const begin = async (fitsLinear: boolean): Promise<Trainer> => {
    const begun = await Trainer.open(elb, source);
    for (const label of newLabels) begun.addLabel(label);
    begun.setVersion(version);
    if (fitsLinear) {
      const repeated = corrections.flatMap((sample) => Array.from({ length: repeats }, () => sample));
      begun.startTexts(known.length + repeated.length);
      const targetOf = targetsOf(labels, begun.sets);
      for (const sample of [...known, ...repeated]) begun.addText(targetOf(sample)!, sample.text);
      begun.fitLinear(LARGEST_INT8, info.linear?.network_share === 0);
    }
    addSamples(begun, labels, samples, validation);
    begun.start(tuningOptions(info, { ...options, epochs: total }));
    return begun;
  };
  let trainer = await begin(false);

  const form = options.quantize
    ? (await quantize(trainer, source, { texts: spreadTexts(validation), minAgreement: MIN_AGREEMENT })).form
    : "f32";
  const measure = async (deployed: Uint8Array): Promise<Standing> => {
    const classifier = await Classifier.fromBytes(deployed, source);
    const right = (samples: readonly Sample[]): number =>
      samples.filter((sample) => isRight(sample, classifier.classify(sample.text))).length;
    return {
      corrected: right(corrections),
      accuracy: right(validation) / validation.length,
      loss: trainer.validate().loss,
    };
  };
  const asTrained = trainer.write(form);
  const current =
    replaced && isCalibrated(replaced) && !isCalibrated(info)
      ? await withCalibration(asTrained, replaced, source)
      : asTrained;
  const recalibrate = await recalibration(current, validation, source);
  const before = await measure(current);
  const measured: Standing[] = [];
  let after: Standing | null = null;
  let calibration: Calibration | null = null;
  let model: Learnt["model"] = null;
  if (before.corrected < corrections.length) {
    // A linear part is trained anew on all texts, which takes seconds; the network goes on from where it is.
    if (info.linear) trainer = await begin(true);
    while (trainer.epochsLeft() > 0) {
      runEpochs(trainer, total, false, { onBatch: (done) => onBatch?.(done, total) }, Math.ceil(total / MOST_MEASURED));
      const candidate = await recalibrate(trainer.write(form));
      const standing = await measure(candidate.elb);
      measured.push(standing);
      if (isWorse(standing, before) || standing.corrected <= before.corrected || (after && !isBetter(standing, after)))
        continue;
      after = standing;
      calibration = candidate.calibration;
      const training = trainer.write("training");
      model = {
        training: calibration ? await withCalibration(training, calibration, source) : training,
        deployed: candidate.elb,
      };
    }
  }
  const report = {
    accepted: model !== null,
    reason: model ? "" : reasonOf(before, measured, corrections.length),
    version: model ? version : oldVersion,
    form,
    corrections: corrections.length,
    rehearsed: rehearsed.length,
    validated: validation.length,
    new_labels: newLabels,
    before,
    measured,
    after,
    calibration,
  };
  return { report, model };
}

/** The texts of a hold-out that are not corrected, so never trained on. Throws an EdgelabelError if there are none. */
export function leftOf(holdOut: readonly Sample[], corrections: readonly Sample[]): Sample[] {
  const left = without(holdOut, corrections);
  if (left.length === 0)
    throw new EdgelabelError(
      "every held-out text is a correction too, so nothing is left to measure on; the hold-out needs other texts",
    );
  return left;
}

/** Labels of the input that the model lacks and may learn. Throws an EdgelabelError for a label that it may not learn. */
function newLabelsFor(
  { labels: known, info }: Classifier,
  { source, corrections, data, validation }: LearnInput,
  options: LearnOptions,
): string[] {
  const newLabels = options.newLabels
    ? labelsOf([...corrections, ...data]).filter((label) => !known.includes(label))
    : [];
  const labels = [...known, ...newLabels];
  requireKnownLabels(labels, [...corrections, ...data], source, "Correct the data, allow it with --new-labels");
  requireKnownLabels(labels, validation, source, "Correct the hold-out");
  if (newLabels.length > 0 && info.layers.at(-1)?.output === 1)
    throw new EdgelabelError(
      `${source} has one sigmoid unit, which tells 2 labels apart; train anew with the label ${JSON.stringify(newLabels[0])}`,
    );
  return newLabels;
}

/** The texts that are neither corrected nor in the hold-out, those of them that an epoch rehearses, and how often it repeats each correction. */
function mix(
  corrections: readonly Sample[],
  data: readonly Sample[],
  validation: readonly Sample[],
  most: number,
): { known: Sample[]; rehearsed: Sample[]; repeats: number } {
  const known = without(data, [...corrections, ...validation]);
  const rehearsed = thinned(known, most);
  const wanted = Math.ceil((CORRECTED_SHARE * rehearsed.length) / ((1 - CORRECTED_SHARE) * corrections.length));
  return { known, rehearsed, repeats: Math.min(MOST_REPEATS, Math.max(1, wanted)) };
}

/** The rule of acceptance: a model is worse if it is less accurate on the hold-out, or equally accurate with a clearly larger loss. */
function isWorse(one: Standing, other: Standing): boolean {
  return (
    one.accuracy < other.accuracy || (one.accuracy === other.accuracy && one.loss > (1 + LOSS_TOLERANCE) * other.loss)
  );
}

/** Between acceptable models: more corrections learnt, or as many and not worse on the hold-out. */
function isBetter(one: Standing, other: Standing): boolean {
  return one.corrected > other.corrected || (one.corrected === other.corrected && !isWorse(one, other));
}

function reasonOf(before: Standing, measured: readonly Standing[], corrections: number): string {
  if (before.corrected === corrections)
    return `it answers ${corrections === 1 ? "the correction" : `all ${corrections} corrections`} so already`;
  if (measured.every(({ corrected }) => corrected <= before.corrected)) return "none of the corrections was learnt";
  const sum = ({ accuracy, loss }: Standing): string => `accuracy ${percent(accuracy)}, loss ${loss.toFixed(4)}`;
  return `the hold-out got worse: ${sum(before)} before, ${sum(measured.at(-1)!)} after`;
}

/** The last correction of each text. */
export function latest(corrections: readonly Sample[]): Sample[] {
  return [...new Map(corrections.map((sample) => [sample.text, sample])).values()];
}

/** "2" -> "2+1" -> "2+2": what was learnt since version 2 was trained. */
function nextVersion(version: string): string {
  const [, trained, count] = /^(.*?)(?:\+(\d+))?$/s.exec(version)!;
  return `${trained}+${Number(count ?? 0) + 1}`;
}
