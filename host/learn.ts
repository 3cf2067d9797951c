// Learning from corrections: a training form, what it should have answered, and texts of its
// training -> a model that has learnt it, or the reason why the old one stays. Corrections
// alone would make the network forget the rest, so each epoch mixes them with texts it was
// trained on. In between the model is measured as it would be deployed, on a hold-out that
// it never trains on: only what is not worse there can be taken. A calibrated model is
// calibrated on it, too, before it is measured.
import { type Calibration, isCalibrated, recalibration, withCalibration } from "./calibration.ts";
import { Classifier, type ModelInfo } from "./classifier.ts";
import { labelsOf, type Sample, thinned, without } from "./dataset.ts";
import { UserError } from "./errors.ts";
import { MIN_AGREEMENT, quantize, spreadTexts } from "./quantization.ts";
import { addSamples, DEFAULT_RECIPE, epochsFor, runEpochs } from "./recipe.ts";
import { type ModelForm, Trainer } from "./trainer.ts";
import { requireKnownLabels, tuningOptions } from "./tuning.ts";

export interface LearnOptions {
  /** Absent = EPOCHS, or more of few texts. */
  epochs?: number | undefined;
  learningRate: number;
  seed: number;
  /** Texts of the training data that an epoch rehearses, at most. */
  rehearsed: number;
  /** Corrections and data may bring labels that the model does not know. */
  newLabels: boolean;
  /** Of the new model; absent = that of the old one, counted up. */
  version?: string | undefined;
  /** Keep f32 weights in the deployed model, too. */
  quantize: boolean;
}

export const LEARN_DEFAULTS: LearnOptions = { learningRate: 2e-3, seed: 1, rehearsed: 2000, newLabels: false, quantize: true };

const EPOCHS = 4;
const MIN_STEPS = 250;
const MOST_EPOCHS = 60;
/** A run is measured after each epoch, or so often, evenly spread. */
const MOST_MEASURED = 12;
/** A loss that is larger by this share is still the same: any further training makes that much of a difference. */
const LOSS_TOLERANCE = 0.01;
/** Corrections are repeated until they are this share of an epoch, ... */
const CORRECTED_SHARE = 0.25;
/** ... but no more often than this: augmentation makes only so many different ones of one text. */
const MOST_REPEATS = 10;

export interface LearnInput {
  /** The training form, and what errors call it. */
  elb: Uint8Array;
  source: string;
  /** What is deployed of it: where it is calibrated and the training form is not, its calibration counts. */
  deployed?: Pick<ModelInfo, "temperature" | "reject"> | undefined;
  /** In order: of two for one text the later one counts. */
  corrections: readonly Sample[];
  /** What the model was trained on. */
  data: readonly Sample[];
  /** Of these, what is corrected counts as corrections only. */
  validation: readonly Sample[];
}

/** A model's figures as it is deployed; the loss, which decides between equal accuracies, is that of the f32 form. */
export interface Standing {
  /** Corrections that are answered as corrected. */
  corrected: number;
  /** On the hold-out. */
  accuracy: number;
  loss: number;
}

export interface LearnReport {
  accepted: boolean;
  /** Why the old model stays; empty when it does not. */
  reason: string;
  version: string;
  form: ModelForm;
  /** Different texts. */
  corrections: number;
  rehearsed: number;
  validated: number;
  new_labels: string[];
  before: Standing;
  /** As it was measured on the way. */
  measured: Standing[];
  /** Of what was taken; null when nothing was. */
  after: Standing | null;
  /** Of what was taken, on the hold-out; null when the model was not calibrated before, and stays so. */
  calibration: Calibration | null;
}

export interface Learnt {
  report: LearnReport;
  /** The new training form, and the model to deploy; null when the old one stays. */
  model: { training: Uint8Array; deployed: Uint8Array } | null;
}

/** Whether the corrections are answered as corrected as far as can be: they were, or the run was accepted. */
export function isDone({ accepted, before, corrections }: LearnReport): boolean {
  return accepted || before.corrected === corrections;
}

/** The same input and seed give the same bits. `onBatch` is told how many of how many epochs are done. */
export async function learn({ elb, source, deployed: replaced, corrections: journal, data, validation: given }: LearnInput, options: LearnOptions, onBatch?: (done: number, total: number) => void): Promise<Learnt> {
  const corrections = latest(journal);
  if (corrections.length === 0) throw new UserError(`there are no corrections for ${source}; give some with --corrections`);
  const validation = without(given, corrections);
  if (validation.length === 0) throw new UserError(`every held-out text is a correction too, so nothing is left to measure ${source} on; give other texts with --valid`);
  const { labels: known, info, version: oldVersion } = await Classifier.fromBytes(elb, source);
  const newLabels = options.newLabels ? labelsOf([...corrections, ...data]).filter((label) => !known.includes(label)) : [];
  const labels = [...known, ...newLabels];
  requireKnownLabels(labels, [...corrections, ...data], source, "Correct the data, allow it with --new-labels");
  requireKnownLabels(labels, validation, source, "Correct the hold-out");
  if (newLabels.length > 0 && info.layers.at(-1)?.output === 1) throw new UserError(`${source} has one sigmoid unit, which tells 2 labels apart; train anew with the label ${JSON.stringify(newLabels[0])}`);

  const trainer = await Trainer.open(elb, source);
  for (const label of newLabels) trainer.addLabel(label);
  const version = options.version ?? nextVersion(oldVersion);
  trainer.setVersion(version);
  const { rehearsed, repeats } = mix(corrections, data, validation, options.rehearsed);
  const samples = [...rehearsed, ...Array.from({ length: repeats }, () => corrections).flat()];
  const total = options.epochs ?? epochsFor(samples.length, { ...DEFAULT_RECIPE, epochs: EPOCHS, minSteps: MIN_STEPS }, MOST_EPOCHS);
  addSamples(trainer, labels, samples, validation);
  trainer.start(tuningOptions(info, { ...options, epochs: total }));

  const form = options.quantize ? (await quantize(trainer, source, { texts: spreadTexts(validation), minAgreement: MIN_AGREEMENT })).form : "f32";
  const stand = async (deployed: Uint8Array): Promise<Standing> => {
    const classifier = await Classifier.fromBytes(deployed, source);
    const right = (samples: readonly Sample[]): number => samples.filter(({ label, text }) => classifier.classify(text).label === label).length;
    return { corrected: right(corrections), accuracy: right(validation) / validation.length, loss: trainer.validate().loss };
  };
  const asTrained = trainer.write(form);
  const current = replaced && isCalibrated(replaced) && !isCalibrated(info) ? await withCalibration(asTrained, replaced, source) : asTrained;
  const recalibrate = await recalibration(current, validation, source);
  const before = await stand(current);
  const measured: Standing[] = [];
  let after: Standing | null = null;
  let calibration: Calibration | null = null;
  let model: Learnt["model"] = null;
  if (before.corrected < corrections.length) {
    while (trainer.epochsLeft() > 0) {
      runEpochs(trainer, total, false, { onBatch: (done) => onBatch?.(done, total) }, Math.ceil(total / MOST_MEASURED));
      const candidate = await recalibrate(trainer.write(form));
      const standing = await stand(candidate.elb);
      measured.push(standing);
      if (isWorse(standing, before) || standing.corrected <= before.corrected || (after && !isBetter(standing, after))) continue;
      after = standing;
      calibration = candidate.calibration;
      const training = trainer.write("training");
      model = { training: calibration ? await withCalibration(training, calibration, source) : training, deployed: candidate.elb };
    }
  }
  const report = {
    accepted: model !== null, reason: model ? "" : reasonOf(before, measured, corrections.length), version: model ? version : oldVersion, form,
    corrections: corrections.length, rehearsed: rehearsed.length, validated: validation.length, new_labels: newLabels, before, measured, after, calibration,
  };
  return { report, model };
}

/** What an epoch consists of: texts of the data, none of them corrected or in the hold-out, and the corrections, so many times. */
function mix(corrections: readonly Sample[], data: readonly Sample[], validation: readonly Sample[], most: number): { rehearsed: Sample[]; repeats: number } {
  const rehearsed = thinned(without(data, [...corrections, ...validation]), most);
  const wanted = Math.ceil((CORRECTED_SHARE * rehearsed.length) / ((1 - CORRECTED_SHARE) * corrections.length));
  return { rehearsed, repeats: Math.min(MOST_REPEATS, Math.max(1, wanted)) };
}

/** The rule of acceptance: on the hold-out neither less accurate, nor equally accurate with a clearly larger loss. */
function isWorse(one: Standing, other: Standing): boolean {
  return one.accuracy < other.accuracy || (one.accuracy === other.accuracy && one.loss > (1 + LOSS_TOLERANCE) * other.loss);
}

/** Of what is acceptable, what has learnt more. */
function isBetter(one: Standing, other: Standing): boolean {
  return one.corrected > other.corrected || (one.corrected === other.corrected && !isWorse(one, other));
}

function reasonOf(before: Standing, measured: readonly Standing[], corrections: number): string {
  if (before.corrected === corrections) return `it answers ${corrections === 1 ? "the correction" : `all ${corrections} corrections`} so already`;
  if (measured.every(({ corrected }) => corrected <= before.corrected)) return "none of the corrections was learnt";
  const sum = ({ accuracy, loss }: Standing): string => `accuracy ${(100 * accuracy).toFixed(2)} %, loss ${loss.toFixed(4)}`;
  return `the hold-out got worse: ${sum(before)} before, ${sum(measured.at(-1)!)} after`;
}

function latest(corrections: readonly Sample[]): Sample[] {
  return [...new Map(corrections.map((sample) => [sample.text, sample])).values()];
}

/** "2" -> "2+1" -> "2+2": what was learnt since version 2 was trained. */
function nextVersion(version: string): string {
  const [, trained, count] = /^(.*?)(?:\+(\d+))?$/s.exec(version)!;
  return `${trained}+${Number(count ?? 0) + 1}`;
}
