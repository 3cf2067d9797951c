// A finished model file of any form and labelled texts -> temperature, thresholds, figures, and
// the file with other settings. The arithmetic is in assembly/train/measure/calibrate.ts and
// answers.ts.
import { EdgelabelError } from "../errors.ts";
import * as abi from "../../assembly/abi.ts";
import { check } from "../model/status.ts";
import { LabelSets } from "./label-sets.ts";
import { TrainerModule } from "./module.ts";

/** When an answer is rejected as unknown: any of the three is enough; 0, 0, 1 = never. */
export interface RejectionRule {
  /** The best score is below this one. */
  score: number;
  /** The lead of the best score over the second one is below this. */
  margin: number;
  /** More than this share of the tokens are unknown. */
  unknown_share: number;
}

export const NO_REJECTION: RejectionRule = { score: 0, margin: 0, unknown_share: 1 };

const ANSWER_KINDS = { right: abi.ANSWER_RIGHT, wrong: abi.ANSWER_WRONG, unknown: abi.ANSWER_UNKNOWN } as const;
/** Number of answers by kind; `unknown` are answers to texts whose label the model lacks. */
export type AnswerCounts = Record<keyof typeof ANSWER_KINDS, number>;

export class Calibrator {
  readonly #module: TrainerModule;
  readonly #length: number;
  #sets: LabelSets | null = null;

  private constructor(module: TrainerModule, length: number) {
    this.#module = module;
    this.#length = length;
  }

  get #exports(): TrainerModule["exports"] {
    return this.#module.exports;
  }

  /** `source` names the .elb file `bytes` in errors; `module` is one that a trainer has released; the default is a fresh one. */
  static async open(bytes: Uint8Array, source: string, module?: TrainerModule): Promise<Calibrator> {
    module ??= await TrainerModule.start(source);
    const length = module.putFile(bytes, module.exports.reserveModel, source);
    check(module.exports.loadModel(length), source);
    return new Calibrator(module, length);
  }

  /** Whether the model gives several labels a text. */
  isMultiLabel(): boolean {
    return Boolean(this.#exports.loadedMultiLabel());
  }

  /** Sets of labels since startLogits() or startAnswers(), if the model gives several labels a text: their numbers then stand for those of labels below. */
  get sets(): LabelSets | null {
    return this.#sets;
  }

  labels(): string[] {
    const { loadedLabelCount, loadedLabelPtr, loadedLabelBytes } = this.#exports;
    return this.#module.texts(loadedLabelCount(), loadedLabelPtr, loadedLabelBytes);
  }

  /** Changes temperature, rule and the score below which a parent is answered in the file's header, and forgets all logits and answers. */
  change(temperature: number, { score, margin, unknown_share }: RejectionRule, levels = 0): void {
    check(this.#exports.changeSettings(temperature, score, margin, unknown_share, levels), "calibration");
  }

  /** A copy of the file as it is now. */
  file(): Uint8Array {
    return this.#module.bytes(this.#exports.settledFile(), this.#length).slice();
  }

  /** Begins to collect logits; the temperature must be 1. False when the last layer has neither softmax nor sigmoid. */
  startLogits(): boolean {
    const status = this.#exports.startLogits();
    if (status === abi.ERR_BAD_STATE) return false;
    check(status, "calibration");
    this.#startSets();
    return true;
  }

  /** `label` is the number of the text's true label. */
  addLogits(label: number, text: string): void {
    check(this.#exports.addLogits(label, this.#put(text)), "calibration");
  }

  fitTemperature(): number {
    return this.#exports.fitTemperature();
  }

  /** Mean negative log-likelihood of the true labels, from the collected logits. */
  logLoss(temperature: number): number {
    return this.#exports.logLoss(temperature);
  }

  /** Expected calibration error over 15 bins, from the collected logits. */
  calibrationError(temperature: number): number {
    return this.#exports.calibrationError(temperature);
  }

  startAnswers(): void {
    check(this.#exports.startAnswers(), "calibration");
    this.#startSets();
  }

  #startSets(): void {
    this.#sets = this.isMultiLabel() ? new LabelSets(this.#exports) : null;
  }

  /** `label` is the number of the text's true label; the number of labels when the model lacks it. */
  addAnswer(label: number, text: string): void {
    check(this.#exports.addAnswer(label, this.#put(text)), "calibration");
  }

  /** The strictest rule that rejects at most `share` of the right answers. */
  fitRejection(share: number): RejectionRule {
    const status = this.#exports.fitRejection(share);
    if (status === abi.ERR_NO_SAMPLES)
      throw new EdgelabelError(
        "no text was answered right, so there is nothing to fit a rule for unknown texts on",
        "no_samples",
      );
    check(status, "calibration");
    return this.#rule();
  }

  /** Of a model that gives several labels a text: the threshold at which these labels have the largest micro F1. */
  fitThreshold(): RejectionRule {
    check(this.#exports.fitThreshold(), "calibration");
    return this.#rule();
  }

  #rule(): RejectionRule {
    return {
      score: this.#exports.ruleScore(),
      margin: this.#exports.ruleMargin(),
      unknown_share: this.#exports.ruleUnknown(),
    };
  }

  answers(): AnswerCounts {
    return countKinds((kind) => this.#exports.answerCount(kind));
  }

  rejected({ score, margin, unknown_share }: RejectionRule): AnswerCounts {
    this.#exports.setRule(score, margin, unknown_share);
    return countKinds((kind) => this.#exports.rejectedCount(kind));
  }

  /** The largest score that at least `share` of the answers reach. */
  scoreAtCoverage(share: number): number {
    return this.#exports.scoreAtCoverage(share);
  }

  riskCoverageArea(): number {
    return this.#exports.riskCoverageArea();
  }

  /** Area under the ROC curve: how well scores separate texts with the model's labels from others; null without texts of either kind. */
  unknownRanking(): number | null {
    const area = this.#exports.unknownRanking();
    return area < 0 ? null : area;
  }

  #put(text: string): number {
    return this.#module.putText(this.#exports.textPtr(), text, "text");
  }
}

function countKinds(count: (kind: number) => number): AnswerCounts {
  const { right, wrong, unknown } = ANSWER_KINDS;
  return { right: count(right), wrong: count(wrong), unknown: count(unknown) };
}
