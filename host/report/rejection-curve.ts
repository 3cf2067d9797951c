// A model and labelled texts -> how well its scores separate right answers from others: the
// rejection curve, areas under curves, calibration, and the effect of the model's own rule.
// assembly/train/measure/answers.ts and calibrate.ts compute the figures; here they are collected,
// and shown as a picture and as a table.
import {
  type BeforeAfter,
  collectAnswers,
  collectLogits,
  describeAnswers,
  describeRule,
  reliability,
} from "../training/calibration.ts";
import type { ModelInfo } from "../model/classifier.ts";
import type { Sample } from "../data/dataset.ts";
import { type Axis, fourDigits, type Panel, percents, renderPicture } from "./chart.ts";
import { type AnswerCounts, Calibrator, NO_REJECTION, type RejectionRule } from "../training/calibrator.ts";
import { percent } from "../figures.ts";

/** What happens when answers with scores below a threshold are rejected. */
interface CurvePoint {
  threshold: number;
  /** Share of all texts that keep their answer. */
  coverage: number;
  /** Share of these answers that are right. */
  accuracy: number;
}

export interface RejectionCurve {
  /** By decreasing coverage, at most one point per percent. Answers to texts with a label that the model lacks are never right. */
  points: CurvePoint[];
  /** Area under the risk-coverage curve: the smaller, the more clearly right answers score above the others. */
  aurc: number;
  /** Probability that a text with a label of the model scores above one with another label; null without texts of either kind. */
  auroc: number | null;
  /** Mean negative log-likelihood of the true labels that the model has, at temperature 1 and at the model's; null where scores come from no softmax or sigmoid. */
  log_loss: BeforeAfter | null;
  /** Expected calibration error over 15 bins. */
  calibration_error: BeforeAfter | null;
  temperature: number;
  /** The model gives several labels a text: an answer is then that its best label is one of them. */
  multi_label?: true;
  /** The model's own rule. */
  reject: RejectionRule;
  answers: AnswerCounts;
  /** How many of these answers the rule rejects. */
  rejected: AnswerCounts;
}

const POINTS = 100;

/** `source` names the .elb file `elb` in errors; `info` is its own. */
export async function measureCurve(
  elb: Uint8Array,
  { labels, temperature, reject, multi_label: isMultiLabel }: ModelInfo,
  samples: readonly Sample[],
  source: string,
): Promise<RejectionCurve> {
  const calibrator = await Calibrator.open(elb, source);
  const measured =
    collectLogits(calibrator, labels, samples) === null
      ? { log_loss: null, calibration_error: null }
      : reliability(calibrator, temperature);
  calibrator.change(temperature, NO_REJECTION);
  collectAnswers(calibrator, labels, samples);
  const answers = calibrator.answers();
  const points: CurvePoint[] = [];
  for (let i = POINTS; i > 0; i--) {
    const threshold = calibrator.scoreAtCoverage(i / POINTS);
    if (threshold === points.at(-1)?.threshold) continue;
    const rejected = calibrator.rejected({ ...NO_REJECTION, score: threshold });
    const kept = total(answers) - total(rejected);
    points.push({ threshold, coverage: kept / total(answers), accuracy: (answers.right - rejected.right) / kept });
  }
  return {
    points,
    aurc: calibrator.riskCoverageArea(),
    auroc: calibrator.unknownRanking(),
    ...measured,
    temperature,
    ...(isMultiLabel ? { multi_label: true as const } : {}),
    reject,
    answers,
    rejected: calibrator.rejected(reject),
  };
}

function total({ right, wrong, unknown }: AnswerCounts): number {
  return right + wrong + unknown;
}

/** The curve as a picture. */
export function renderCurve(curve: RejectionCurve, title: string): string {
  const { panel, axis } = curvePanel(curve);
  return renderPicture(title, [{ ...panel, width: 640 }], axis, describePresent(curve));
}

/** Coverage and accuracy over the threshold; where the model's own rule has a threshold, it is marked. */
export function curvePanel(curve: RejectionCurve): { panel: Panel; axis: Axis } {
  const { points } = curve;
  const over = (figure: "coverage" | "accuracy"): Panel["lines"][number]["points"] =>
    points.map((point) => ({ at: point.threshold, value: point[figure] }));
  return {
    panel: {
      title: "answers at or above the threshold",
      lines: [
        { name: "of all texts (coverage)", kind: "second", points: over("coverage") },
        { name: "right, of these (accuracy)", kind: "first", points: over("accuracy") },
      ],
      floor: 0,
      ceiling: 1,
      show: percents,
      mark: markOf(curve),
    },
    axis: { name: "threshold of the score", first: 0, last: 1, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], show: fourDigits },
  };
}

/** Where the model's own rule is on the axis: at its threshold or, if it has more than one, at the threshold that answers as many texts. */
function markOf(curve: RejectionCurve): Panel["mark"] {
  const { points, reject } = curve;
  const { coverage, accuracy } = presentRule(curve);
  if (describeRule(reject) === "never") return undefined;
  const isThreshold = describeRule({ ...NO_REJECTION, score: reject.score }) === describeRule(reject);
  const alike = points.filter((point) => point.coverage >= coverage).at(-1);
  return {
    at: isThreshold ? reject.score : (alike?.threshold ?? 1),
    words: isThreshold ? "the model's rule" : "the model's rule answers as many",
    values: [coverage, accuracy],
  };
}

/** What the model's own rule does, in a sentence. */
export function describePresent(curve: RejectionCurve): string {
  const rule = describeRule(curve.reject);
  const { coverage, accuracy } = presentRule(curve);
  if (curve.multi_label)
    return `The model gives ${describeAnswers(curve)}: one or more to ${percents(coverage)} of the texts, and the best one is right for ${percents(accuracy)} of these.`;
  return rule === "never"
    ? `The model rejects no text; of its answers, ${percents(accuracy)} are right.`
    : `The model rejects: ${rule}. It answers ${percents(coverage)} of the texts, and ${percents(accuracy)} of these answers are right.`;
}

function presentRule({ answers, rejected }: RejectionCurve): { coverage: number; accuracy: number } {
  const kept = total(answers) - total(rejected);
  return { coverage: kept / total(answers), accuracy: kept > 0 ? (answers.right - rejected.right) / kept : 0 };
}

/** Coverages shown in the table. */
const SHOWN = [1, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];

export function renderCurveTable(curve: RejectionCurve): string {
  const { points, aurc, auroc, log_loss, calibration_error, temperature, reject, answers, rejected } = curve;
  const isMultiLabel = curve.multi_label;
  const lines = [
    `    threshold   coverage   ${isMultiLabel ? "share of best labels that are right" : "accuracy of the answers given"}`,
  ];
  for (const wanted of SHOWN) {
    const point = points.filter(({ coverage }) => coverage >= wanted - 1e-12).at(-1);
    if (point)
      lines.push(
        `${point.threshold.toFixed(6).padStart(13)}${percent(point.coverage).padStart(11)}${percent(point.accuracy).padStart(11)}`,
      );
  }
  lines.push("", `area under the risk-coverage curve (0 is best): ${aurc.toFixed(4)}`);
  if (auroc !== null) lines.push(`known texts score above unknown ones in ${percent(auroc)} of the pairs`);
  if (log_loss && calibration_error) {
    lines.push(
      `temperature ${temperature.toFixed(3)}: log loss ${log_loss.after.toFixed(4)}, calibration error ${percent(calibration_error.after)}` +
        `${temperature === 1 ? "" : ` (without it ${log_loss.before.toFixed(4)}, ${percent(calibration_error.before)})`}`,
    );
  }
  if (isMultiLabel) return [...lines, describePresent(curve)].map((line) => `${line}\n`).join("");
  const share = (kind: keyof AnswerCounts, name: string): string[] =>
    answers[kind] > 0 ? [`${rejected[kind]} of ${answers[kind]} ${name}`] : [];
  lines.push(
    `rule for unknown texts: ${describeRule(reject)}${
      describeRule(reject) === "never"
        ? ""
        : `; rejects ${[
            ...share("right", "right answers"),
            ...share("wrong", "wrong answers"),
            ...share("unknown", "texts of other labels"),
          ].join(", ")}`
    }`,
  );
  return lines.map((line) => `${line}\n`).join("");
}
