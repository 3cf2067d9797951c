// A model and labelled texts -> how well its scores separate right answers from others: the
// rejection curve, areas under curves, calibration, and the effect of the model's own rule.
// assembly/train/measure/answers.ts and calibrate.ts compute the figures; here they are collected and
// shown.
import { type BeforeAfter, collectAnswers, collectLogits, describeRule, reliability } from "../training/calibration.ts";
import type { ModelInfo } from "../model/classifier.ts";
import type { Sample } from "../data/dataset.ts";
import { type AnswerCounts, Calibrator, NO_REJECTION, type RejectionRule } from "../training/calibrator.ts";

/** What happens when answers with scores below a threshold are rejected. */
export interface CurvePoint {
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
  { labels, temperature, reject }: ModelInfo,
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
    reject,
    answers,
    rejected: calibrator.rejected(reject),
  };
}

function total({ right, wrong, unknown }: AnswerCounts): number {
  return right + wrong + unknown;
}

/** Coverages shown in the table. */
const SHOWN = [1, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];

export function renderCurveTable({
  points,
  aurc,
  auroc,
  log_loss,
  calibration_error,
  temperature,
  reject,
  answers,
  rejected,
}: RejectionCurve): string {
  const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
  const lines = ["    threshold   coverage   accuracy of the answers given"];
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
