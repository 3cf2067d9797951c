// A finished model file and labelled texts that it was not trained on -> the same file with a
// calibrated temperature and, when asked for, a rule for unknown texts. The arithmetic is in
// assembly/train/measure/calibrate.ts and answers.ts; here texts are handed over and figures collected.
// A calibrated model that gets new weights (by `learn` or `prune`) is calibrated again.
import { Classifier, type ModelInfo } from "../model/classifier.ts";
import { labelsOfSample, type Sample } from "../data/dataset.ts";
import { listed, EdgelabelError } from "../errors.ts";
import { type AnswerCounts, Calibrator, NO_REJECTION, type RejectionRule } from "./calibrator.ts";
import { targetsOf } from "./label-sets.ts";
import type { TrainerModule } from "./module.ts";
import { percent } from "../figures.ts";

export interface BeforeAfter {
  before: number;
  after: number;
}

/** What `calibrate --json` prints, and `train --json` under "calibration". */
export interface Calibration {
  /** Texts whose label the model has. */
  n: number;
  temperature: number;
  /** Mean negative log-likelihood of the true labels, at temperature 1 and at the new one; null where scores come from no softmax or sigmoid. */
  log_loss: BeforeAfter | null;
  /** Expected calibration error over 15 bins. */
  calibration_error: BeforeAfter | null;
  /** The model gives several labels a text: each one whose score is reject.score or more. An answer is right if its best label is. */
  multi_label?: true | undefined;
  /** An answer with a lower score is a parent of the best label; undefined = never. */
  levels?: number | undefined;
  reject: RejectionRule;
  answers: AnswerCounts;
  /** Of these answers, those that the rule rejects. */
  rejected: AnswerCounts;
}

/** A rule must not reject every right answer. */
const MOST_KEPT_BACK = 0.999;

export interface CalibrateOptions {
  /** Largest share of the right answers that the rule for unknown texts may reject; undefined: no rule. */
  unknownShare?: number | undefined;
  /** Answers with a lower score are to be parents: of `a/b/c`, `a/b` or `a`; undefined: none. */
  levels?: number | undefined;
  /** Names the model in errors. */
  source: string;
  /** The module of a trainer that is done; absent = a fresh one. */
  module?: TrainerModule;
}

export async function calibrate(
  elb: Uint8Array,
  samples: readonly Sample[],
  { unknownShare, levels, source, module }: CalibrateOptions,
): Promise<{ elb: Uint8Array; calibration: Calibration }> {
  const calibrator = await Calibrator.open(elb, source, module);
  const labels = calibrator.labels();
  if (levels) requireLevels(await Classifier.fromBytes(elb, source), source);
  const { temperature, n, log_loss, calibration_error } = fitTemperature(calibrator, labels, samples);
  calibrator.change(temperature, NO_REJECTION);
  collectAnswers(calibrator, labels, samples);
  const answers = calibrator.answers();
  const isMultiLabel = calibrator.isMultiLabel();
  if (isMultiLabel && unknownShare !== undefined) throw noRule();
  const reject = isMultiLabel
    ? calibrator.fitThreshold()
    : unknownShare === undefined
      ? NO_REJECTION
      : calibrator.fitRejection(unknownShare);
  const rejected = calibrator.rejected(reject);
  calibrator.change(temperature, reject, levels);
  return {
    elb: calibrator.file(),
    calibration: {
      n,
      temperature,
      log_loss,
      calibration_error,
      multi_label: isMultiLabel || undefined,
      levels: levels || undefined,
      reject,
      answers,
      rejected,
    },
  };
}

/** Why a model that gives several labels has no rule for unknown texts. */
export function noRule(): EdgelabelError {
  return new EdgelabelError("of several labels, a text that fits none gets none; leave unknown out");
}

/** Throws an EdgelabelError if the model cannot answer parents of its labels. */
function requireLevels({ info }: Classifier, source: string): void {
  const why = info.multi_label
    ? "it gives several labels a text"
    : info.layers.at(-1)!.activation !== "softmax"
      ? "its scores come from no softmax, so they do not add up"
      : info.labels.some((label) => label.lastIndexOf("/") > 0)
        ? undefined
        : "none of its labels has one, as home/light/on has home/light";
  if (why !== undefined) throw new EdgelabelError(`${source} cannot answer with a parent: ${why}; leave levels out`);
}

/** Whether the model has a calibrated temperature, a rule for unknown texts, or answers parents. */
export function isCalibrated({
  temperature,
  reject,
  levels,
}: Pick<ModelInfo, "temperature" | "reject" | "levels">): boolean {
  return temperature !== 1 || keepsBack(reject) || levels !== undefined;
}

function keepsBack({ score, margin, unknown_share }: RejectionRule): boolean {
  return score > 0 || margin > 0 || unknown_share < 1;
}

/** The file with another temperature, rule and levels. */
export async function withCalibration(
  elb: Uint8Array,
  { temperature, reject, levels }: Pick<Calibration, "temperature" | "reject" | "levels">,
  source: string,
): Promise<Uint8Array> {
  const calibrator = await Calibrator.open(elb, source);
  calibrator.change(temperature, reject, levels);
  return calibrator.file();
}

/** Calibrates a model file. The calibration is null if no answer is right, so that no rule can be fitted. */
export type Recalibrate = (elb: Uint8Array) => Promise<{ elb: Uint8Array; calibration: Calibration | null }>;

/**
 * How to calibrate successors of the model file `elb`, on samples whose labels it must know: not at all if `elb` itself is
 * not calibrated. Levels stay, and the new rule for unknown texts rejects the same share of the right answers as the old one.
 */
export async function recalibration(elb: Uint8Array, samples: readonly Sample[], source: string): Promise<Recalibrate> {
  const classifier = await Classifier.fromBytes(elb, source);
  if (!isCalibrated(classifier.info)) return async (successor) => ({ elb: successor, calibration: null });
  const unknownShare =
    !classifier.info.multi_label && keepsBack(classifier.info.reject)
      ? shareKeptBack(classifier, samples, source)
      : undefined;
  return async (successor) => {
    try {
      return await calibrate(successor, samples, { unknownShare, levels: classifier.info.levels, source });
    } catch (error) {
      if (error instanceof EdgelabelError && error.code === "no_samples") return { elb: successor, calibration: null };
      throw error;
    }
  };
}

/** The share of the right answers that the model's own rule rejects. */
function shareKeptBack(classifier: Classifier, samples: readonly Sample[], source: string): number {
  const right = samples
    .map(({ label, text }) => ({ label, answer: classifier.classify(text, 1) }))
    .filter(({ label, answer }) => Object.hasOwn(answer.scores, label));
  if (right.length === 0)
    throw new EdgelabelError(
      `${source} answers none of the ${samples.length} held-out texts right, so its rule for unknown texts cannot be fitted anew; take it off with: edgelabel calibrate`,
    );
  // Half a text is added because the fit rounds down: otherwise the share would shrink with every successor.
  return Math.min((right.filter(({ answer }) => answer.label === null).length + 0.5) / right.length, MOST_KEPT_BACK);
}

function fitTemperature(
  calibrator: Calibrator,
  labels: readonly string[],
  samples: readonly Sample[],
): Pick<Calibration, "temperature" | "n" | "log_loss" | "calibration_error"> {
  const n = collectLogits(calibrator, labels, samples);
  if (n === null) return { temperature: 1, n: 0, log_loss: null, calibration_error: null };
  const temperature = calibrator.fitTemperature();
  return { temperature, n, ...reliability(calibrator, temperature) };
}

/** Both measures at temperature 1 and at another one. */
export function reliability(
  calibrator: Calibrator,
  temperature: number,
): { log_loss: BeforeAfter; calibration_error: BeforeAfter } {
  return {
    log_loss: { before: calibrator.logLoss(1), after: calibrator.logLoss(temperature) },
    calibration_error: { before: calibrator.calibrationError(1), after: calibrator.calibrationError(temperature) },
  };
}

/**
 * Collects the logits of the texts whose label the model has, and returns how many they are; null when the model's scores come from
 * neither softmax nor sigmoid. Sets the temperature to 1. Throws an EdgelabelError when no text has a label of the model.
 */
export function collectLogits(
  calibrator: Calibrator,
  labels: readonly string[],
  samples: readonly Sample[],
): number | null {
  const names = new Set(labels);
  const isKnown = (sample: Sample): boolean => labelsOfSample(sample).some((label) => names.has(label));
  const known = samples.filter(isKnown);
  if (known.length === 0)
    throw new EdgelabelError(`no text has a label of the model; its labels are ${listed(labels)}`);
  calibrator.change(1, NO_REJECTION);
  if (!calibrator.startLogits()) return null;
  const targetOf = targetsOf(labels, calibrator.sets);
  // A text without a label says something of all of them.
  const used = calibrator.isMultiLabel() ? samples : known;
  for (const sample of used) calibrator.addLogits(targetOf(sample)!, sample.text);
  return used.length;
}

/** Collects the answers to the texts; texts whose label the model lacks count as unknown. */
export function collectAnswers(calibrator: Calibrator, labels: readonly string[], samples: readonly Sample[]): void {
  calibrator.startAnswers();
  const targetOf = targetsOf(labels, calibrator.sets);
  for (const sample of samples) calibrator.addAnswer(targetOf(sample) ?? labels.length, sample.text);
}

/** For people, a few lines. */
export function renderCalibration({
  n,
  temperature,
  log_loss,
  calibration_error,
  reject,
  answers,
  rejected,
  levels,
  multi_label: isMultiLabel,
}: Calibration): string {
  const lines: string[] = [];
  if (log_loss && calibration_error) {
    lines.push(
      `temperature ${temperature.toFixed(3)}, from ${n} texts: log loss ${log_loss.before.toFixed(4)} -> ${log_loss.after.toFixed(4)}, ` +
        `calibration error ${percent(calibration_error.before, 1)} -> ${percent(calibration_error.after, 1)}`,
    );
  } else lines.push("temperature 1: the scores come from no softmax and no sigmoid");
  if (isMultiLabel)
    lines.push(
      `labels: those with a score of ${reject.score.toFixed(4)} or more, which gives the largest micro F1; ${rejected.right + rejected.wrong} of ${answers.right + answers.wrong} texts get none`,
    );
  else if (rejected.right + rejected.wrong + rejected.unknown > 0 || keepsBack(reject)) {
    const parts = (["right", "wrong", "unknown"] as const)
      .filter((kind) => answers[kind] > 0)
      .map(
        (kind) =>
          `${percent(rejected[kind] / answers[kind], 1)} of ${answers[kind]} ${kind === "unknown" ? "texts with other labels" : `${kind} answers`}`,
      );
    lines.push(`unknown: ${describeRule(reject)}; rejects ${parts.join(", ")}`);
  }
  if (levels !== undefined) lines.push(describeLevels(levels));
  return lines.map((line) => `${line}\n`).join("");
}

/** Which answer a model gives, in words. */
export function describeAnswers({
  reject,
  levels,
  multi_label: isMultiLabel,
}: Pick<ModelInfo, "reject" | "levels" | "multi_label">): string {
  return isMultiLabel
    ? `each label with a score of ${reject.score.toFixed(4)} or more`
    : `unknown: ${describeRule(reject)}${levels === undefined ? "" : `; ${describeLevels(levels)}`}`;
}

function describeLevels(levels: number): string {
  return `parent: instead of a label with a score below ${levels.toFixed(3)}`;
}

/** A rule in words: "never", or "score below 0.4, …". */
export function describeRule({ score, margin, unknown_share }: RejectionRule): string {
  return (
    [
      ...(score > 0 ? [`score below ${score.toFixed(3)}`] : []),
      ...(margin > 0 ? [`lead below ${margin.toFixed(3)}`] : []),
      ...(unknown_share < 1 ? [`more than ${percent(unknown_share, 0)} of the words unknown`] : []),
    ].join(", ") || "never"
  );
}
