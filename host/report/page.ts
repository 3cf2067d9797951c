// An evaluation as one page of HTML that needs nothing else: figures, confusion matrix,
// calibration, rejection curve, and the texts that were labelled wrong with heat maps. Texts and
// labels are not trusted. The colours follow the reader's light or dark scheme.
import { escapeMarkup } from "../escape.ts";
import type { Explanation } from "../model/explanation.ts";
import { CHART_STYLE, fourDigits, percents, renderInline } from "./chart.ts";
import { renderInterval } from "./certainty.ts";
import { type Evaluation, mostConfused } from "./evaluation.ts";
import { HEAT_STYLE, heatLegend, heatMap } from "./heat-map.ts";
import type { Mistake } from "./mistakes.ts";
import { curvePanel, describePresent, type RejectionCurve } from "./rejection-curve.ts";
import { THEME } from "./theme.ts";
import { nameOfAccuracy, percent } from "../figures.ts";

/** Answers whose scores lie in one tenth of the range. */
export interface ScoreBin {
  texts: number;
  right: number;
  /** Sum of the scores. */
  scores: number;
}

export interface ReportContent {
  title: string;
  evaluation: Evaluation;
  curve: RejectionCurve;
  /** From low scores to high ones. */
  bins: readonly ScoreBin[];
  /** How many texts are labelled wrong. */
  wrong: number;
  /** Those that are shown. */
  shown: readonly { mistake: Mistake; explanation: Explanation }[];
}

/** A larger matrix is cut down to the labels that are confused most. */
const MOST_LABELS = 24;

export function renderPage({ title, evaluation, curve, bins, wrong, shown }: ReportContent): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeMarkup(title)}</title>
<style>${THEME}${STYLE}${CHART_STYLE}${HEAT_STYLE}</style></head>
<body><main>
<h1>${escapeMarkup(title)}</h1>
${renderFigures(evaluation)}
<h2>Labels</h2>
${renderLabels(evaluation)}
${evaluation.micro_f1 === undefined ? `<h2>Confusion matrix</h2>\n${renderMatrix(evaluation)}\n` : ""}<h2>Calibration</h2>
${renderCalibration(curve, bins)}
<h2>Rejecting doubtful answers</h2>
${renderRejection(curve)}
<h2>Wrong answers</h2>
${renderWrong(wrong, shown)}
</main></body></html>
`;
}

function renderFigures({
  n,
  accuracy,
  accuracy_interval: interval,
  micro_f1,
  macro_f1,
  weighted_f1,
  coverage,
  accepted_accuracy,
}: Evaluation): string {
  const figures: [string, string][] = [
    ["texts", String(n)],
    [nameOfAccuracy(micro_f1 !== undefined), percent(accuracy, 1)],
    ["95 % interval", renderInterval(interval)],
    ...(micro_f1 === undefined ? [] : ([["micro F1", micro_f1.toFixed(3)]] as [string, string][])),
    ["macro F1", macro_f1.toFixed(3)],
    ["weighted F1", weighted_f1.toFixed(3)],
    ...(coverage < 1
      ? ([
          [micro_f1 === undefined ? "not rejected" : "with a label", percent(coverage, 1)],
          ["right, of these", percent(accepted_accuracy, 1)],
        ] as [string, string][])
      : []),
  ];
  return `<dl class="figures">${figures.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("")}</dl>`;
}

/** A table that scrolls by itself on a narrow screen, also by keyboard. */
function scrolling(name: string, table: string): string {
  return `<div class="wide" role="region" aria-label="${name}" tabindex="0">${table}</div>`;
}

function name(label: string): string {
  return `<bdi>${escapeMarkup(label)}</bdi>`;
}

function renderLabels({ labels, per_class }: Evaluation): string {
  const rows = labels.map((label) => {
    const { precision, recall, f1, support } = per_class[label]!;
    return `<tr><th scope="row">${name(label)}</th>${[precision, recall, f1].map((value) => `<td>${value.toFixed(3)}</td>`).join("")}<td>${support}</td></tr>`;
  });
  return scrolling(
    "Figures of each label",
    `<table><thead><tr><th scope="col">label</th><th scope="col">precision</th><th scope="col">recall</th><th scope="col">F1</th><th scope="col">texts</th></tr></thead><tbody>${rows.join("")}</tbody></table>`,
  );
}

function renderMatrix(evaluation: Evaluation): string {
  const { labels, confusion, rejected } = evaluation;
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const chosen = mostConfused(evaluation, MOST_LABELS);
  const hasRejected = rejected.some((count) => count > 0);
  const cell = (count: number, total: number, isRight: boolean): string =>
    count === 0
      ? "<td>·</td>"
      : `<td class="${isRight ? "right" : "wrong"}" style="--share:${(total > 0 ? count / total : 0).toFixed(3)}">${count}</td>`;
  const rows = chosen.map((i) => {
    const total = sum(confusion[i]!) + rejected[i]!;
    const cells = chosen.map((j) => cell(confusion[i]![j]!, total, i === j));
    if (hasRejected) cells.push(cell(rejected[i]!, total, false));
    return `<tr><th scope="row">${name(labels[i]!)}</th>${cells.join("")}</tr>`;
  });
  const heads = [...chosen.map((i) => name(labels[i]!)), ...(hasRejected ? ["rejected"] : [])];
  const note =
    chosen.length === MOST_LABELS && labels.length > MOST_LABELS
      ? ` The ${MOST_LABELS} labels that are confused most are shown, of ${labels.length}.`
      : "";
  return `<p>Rows are true labels, columns the answers.${note}</p>
${scrolling("Confusion matrix", `<table class="matrix"><thead><tr><th scope="col">true</th>${heads.map((head) => `<th scope="col"><span>${head}</span></th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`)}`;
}

function renderCalibration(
  { calibration_error, temperature, multi_label: isMultiLabel }: RejectionCurve,
  bins: readonly ScoreBin[],
): string {
  const filled = bins.map((bin, i) => ({ ...bin, from: i / bins.length })).filter(({ texts }) => texts > 0);
  const points = filled.map(({ texts, right, scores }) => ({ at: scores / texts, value: right / texts }));
  const rows = filled.map(
    ({ from, texts, right, scores }) =>
      `<tr><th scope="row">${from.toFixed(1)} to ${(from + 1 / bins.length).toFixed(1)}</th><td>${texts}</td><td>${(scores / texts).toFixed(3)}</td><td>${(right / texts).toFixed(3)}</td></tr>`,
  );
  const error = calibration_error
    ? ` On average they differ by ${percent(calibration_error.after, 1)} (temperature ${temperature.toFixed(3)}).`
    : "";
  return `<p>Of the ${isMultiLabel ? "best labels" : "answers"} with a score of 0.9, nine in ten should be right: the line should lie on the diagonal.${error}</p>
<div class="pair">${renderInline(
    "Share of right answers by score",
    {
      title: "right answers",
      lines: [
        {
          name: "ideal",
          kind: "ideal",
          points: [
            { at: 0, value: 0 },
            { at: 1, value: 1 },
          ],
        },
        { name: "model", kind: "first", points },
      ],
      floor: 0,
      ceiling: 1,
      show: percents,
    },
    { name: "score", first: 0, last: 1, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], show: fourDigits },
  )}
${scrolling("Answers by score", `<table><thead><tr><th scope="col">scores</th><th scope="col">texts</th><th scope="col">mean score</th><th scope="col">right</th></tr></thead><tbody>${rows.join("")}</tbody></table>`)}</div>`;
}

/** Coverages in the table. */
const COVERAGES = [1, 0.98, 0.95, 0.9, 0.8, 0.6];

function renderRejection(curve: RejectionCurve): string {
  const { points, aurc } = curve;
  const rows = COVERAGES.flatMap((wanted) => {
    const point = points.filter(({ coverage }) => coverage >= wanted - 1e-12).at(-1);
    return point
      ? [
          `<tr><th scope="row">${point.threshold.toFixed(4)}</th><td>${percent(point.coverage, 1)}</td><td>${percent(point.accuracy, 1)}</td></tr>`,
        ]
      : [];
  });
  const { panel, axis } = curvePanel(curve);
  return `<p>If ${curve.multi_label ? "texts whose best label has a score below a threshold get no answer, more of the other best labels" : "answers below a threshold are rejected, more of the others"} are right. ${escapeMarkup(describePresent(curve))} Area under the risk-coverage curve: ${aurc.toFixed(4)} (0 is best).</p>
<div class="pair">${renderInline("Coverage and accuracy by threshold", panel, axis)}
${scrolling("Thresholds", `<table><thead><tr><th scope="col">threshold</th><th scope="col">answered</th><th scope="col">right</th></tr></thead><tbody>${rows.join("")}</tbody></table>`)}</div>`;
}

function renderWrong(wrong: number, shown: ReportContent["shown"]): string {
  if (wrong === 0) return "<p>There are none.</p>";
  const rest = shown.length < wrong ? `The ${shown.length} with the highest scores are shown, of ${wrong}.` : "";
  const items = shown.map(
    ({ mistake: { file, line, truth, answer, score, text }, explanation }) =>
      `<li><p class="heat" dir="auto">${heatMap({ text: new TextEncoder().encode(text), explanation })}</p>
<p class="verdict"><span>${answer === null ? "rejected" : name(answer)} ${score.toFixed(3)}</span> instead of <strong>${name(truth)}</strong> <span class="place">${escapeMarkup(file)}:${line}</span></p></li>`,
  );
  return `<p>The most confident ones come first; look there for faults in the data. ${rest}</p>
${heatLegend()}
<ol>${items.join("\n")}</ol>`;
}

const STYLE = `
svg { width: 100%; height: auto; max-width: 32rem }
ol { list-style: none; margin: 1rem 0 0; padding: 0 } li { border-top: 1px solid var(--rule); padding: .6rem 0 } li p { max-width: none }
.verdict { color: var(--soft); font-size: .9375rem; margin: .25rem 0 0; display: flex; flex-wrap: wrap; gap: 0 .4rem; overflow-wrap: anywhere } .verdict span:first-child { color: var(--ink) } .place { margin-inline-start: .6rem }
`;
