// Counts of true against predicted labels in, the figures of a classifier out.
// The conventions are those of scikit-learn: a ratio 0/0 is 0, and the averages
// run over the labels that occur among the true or the predicted ones. A text that the
// model rejects as unknown has no predicted label: it is never right.
import { MAX_LABELS } from "../../assembly/abi.ts";
import type { Sample } from "../data/dataset.ts";
import { excerpt, EdgelabelError } from "../errors.ts";
import type { Classifier, Prediction } from "../model/classifier.ts";
import { renderInterval, scoreInterval } from "./certainty.ts";

const PROGRESS_EVERY = 256;

interface LabelFigures {
  precision: number;
  recall: number;
  f1: number;
  /** Texts that truly have this label. */
  support: number;
}

/** What `eval --json` prints. */
export interface Evaluation {
  n: number;
  /** Share of all texts that got their label. */
  accuracy: number;
  /** Where the accuracy on all such texts lies with 95 % confidence: [least, most]. */
  accuracy_interval: [number, number];
  /** Share of the texts that got a label at all. */
  coverage: number;
  /** Of the texts that got a label, the share that got the right one. */
  accepted_accuracy: number;
  macro_precision: number;
  macro_recall: number;
  macro_f1: number;
  weighted_f1: number;
  labels: string[];
  per_class: Record<string, LabelFigures>;
  /** Texts by true label (rows) and predicted label (columns), both in the order of `labels`. */
  confusion: number[][];
  /** Texts of each label that were rejected as unknown, in the order of `labels`. */
  rejected: number[];
  /** Labels of the data that the model does not know; their texts count as wrong. */
  unknown_labels: string[];
}

export class Tally {
  private readonly known: number;
  private readonly labels: string[];
  private readonly index = new Map<string, number>();
  private readonly counts: number[][];
  private readonly rejected: number[] = [];

  constructor(modelLabels: readonly string[]) {
    this.known = modelLabels.length;
    this.labels = [...modelLabels];
    this.labels.forEach((label, i) => this.index.set(label, i));
    this.counts = this.labels.map(() => []);
  }

  /** `predicted` is null when the text was rejected as unknown. Throws an EdgelabelError when too many labels are unknown. */
  add(truth: string, predicted: string | null): void {
    const place = this.place(truth);
    if (predicted === null) {
      this.rejected[place] = (this.rejected[place] ?? 0) + 1;
      return;
    }
    const row = this.counts[place]!;
    const column = this.place(predicted);
    row[column] = (row[column] ?? 0) + 1;
  }

  evaluate(): Evaluation {
    const confusion = this.labels.map((_, i) => this.labels.map((_, j) => this.counts[i]![j] ?? 0));
    const rejected = this.labels.map((_, i) => this.rejected[i] ?? 0);
    const supports = confusion.map((row, i) => sum(row) + rejected[i]!);
    const hits = confusion.map((row, i) => row[i]!);
    const figures = this.labels.map((_, i): LabelFigures => {
      const predicted = sum(confusion.map((row) => row[i]!));
      return {
        precision: ratio(hits[i]!, predicted),
        recall: ratio(hits[i]!, supports[i]!),
        f1: ratio(2 * hits[i]!, supports[i]! + predicted),
        support: supports[i]!,
      };
    });
    const n = sum(supports);
    const accepted = n - sum(rejected);
    const occurring = figures.filter((figure, i) => figure.support > 0 || confusion.some((row) => row[i]! > 0));
    const mean = (value: (figure: LabelFigures) => number): number =>
      ratio(sum(occurring.map(value)), occurring.length);
    return {
      n,
      accuracy: ratio(sum(hits), n),
      accuracy_interval: scoreInterval(sum(hits), n),
      coverage: ratio(accepted, n),
      accepted_accuracy: ratio(sum(hits), accepted),
      macro_precision: mean((figure) => figure.precision),
      macro_recall: mean((figure) => figure.recall),
      macro_f1: mean((figure) => figure.f1),
      weighted_f1: ratio(sum(figures.map((figure) => figure.f1 * figure.support)), n),
      labels: [...this.labels],
      per_class: Object.fromEntries(this.labels.map((label, i) => [label, figures[i]!])),
      confusion,
      rejected,
      unknown_labels: this.labels.slice(this.known),
    };
  }

  private place(label: string): number {
    let place = this.index.get(label);
    if (place === undefined) {
      // The confusion matrix grows with their square.
      if (this.labels.length - this.known >= MAX_LABELS)
        throw new EdgelabelError(
          `the data has more than ${MAX_LABELS} labels that the model does not know, such as ${excerpt(label)}. Are label and text the wrong way round?`,
        );
      place = this.labels.push(label) - 1;
      this.index.set(label, place);
      this.counts.push([]);
    }
    return place;
  }
}

/** The numbers of the labels that occur among the true or the predicted ones, at most `most` of them: those that are confused most. */
export function mostConfused({ labels, confusion, rejected }: Evaluation, most: number): number[] {
  const row = (i: number): number => sum(confusion[i]!) + rejected[i]!;
  const column = (i: number): number => sum(confusion.map((each) => each[i]!));
  const errors = labels.map((_, i) => row(i) + column(i) - 2 * confusion[i]![i]!);
  return labels
    .map((_, i) => i)
    .filter((i) => row(i) + column(i) > 0)
    .sort((a, b) => errors[b]! - errors[a]! || a - b)
    .slice(0, most)
    .sort((a, b) => a - b);
}

/** Classifies labelled texts; `onProgress` is called now and then with the number of texts done. */
export function evaluate<S extends Pick<Sample, "label" | "text">>(
  classifier: Pick<Classifier, "labels" | "classify">,
  samples: readonly S[],
  onProgress?: (done: number) => void,
  onAnswer?: (sample: S, answer: Prediction) => void,
): Evaluation {
  const tally = new Tally(classifier.labels);
  samples.forEach((sample, i) => {
    const answer = classifier.classify(sample.text);
    tally.add(sample.label, answer.label);
    onAnswer?.(sample, answer);
    if ((i + 1) % PROGRESS_EVERY === 0 || i + 1 === samples.length) onProgress?.(i + 1);
  });
  return tally.evaluate();
}

/** A table for people: the figures per label, the averages, and what is confused most. */
export function renderEvaluation(evaluation: Evaluation): string {
  const { labels, per_class: perClass, confusion } = evaluation;
  const width = labels.reduce((most, label) => Math.max(most, displayWidth(label)), 12);
  const figure = (value: number | ""): string => (value === "" ? "" : value.toFixed(4)).padStart(11);
  const line = (name: string, columns: (number | "")[], support: number): string =>
    pad(name, width) + columns.map(figure).join("") + String(support).padStart(9);
  const lines = [
    `${" ".repeat(width)}  precision     recall         f1  support`,
    ...labels.map((label) => {
      const { precision, recall, f1, support } = perClass[label]!;
      return line(label, [precision, recall, f1], support);
    }),
    "",
    line("accuracy", ["", "", evaluation.accuracy], evaluation.n),
    line("macro", [evaluation.macro_precision, evaluation.macro_recall, evaluation.macro_f1], evaluation.n),
    line("weighted", ["", "", evaluation.weighted_f1], evaluation.n),
  ];
  if (evaluation.coverage < 1 && evaluation.n > 0) {
    const accepted = evaluation.n - sum(evaluation.rejected);
    lines.push(
      line("accepted", ["", "", evaluation.accepted_accuracy], accepted),
      "",
      `rejected as unknown: ${evaluation.n - accepted} of ${evaluation.n} texts`,
    );
  }
  if (evaluation.n > 0)
    lines.push(
      "",
      `with 95 % confidence, ${renderInterval(evaluation.accuracy_interval)} of all such texts are labelled right`,
    );
  for (const each of matrixLines(evaluation)) lines.push(each);
  const mistakes = labels
    .flatMap((truth, i) => labels.map((predicted, j) => ({ truth, predicted, count: i === j ? 0 : confusion[i]![j]! })))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count);
  if (mistakes.length > 0) lines.push("", "most often confused (true → predicted):");
  for (const { truth, predicted, count } of mistakes.slice(0, 10))
    lines.push(`${String(count).padStart(6)}  ${truth} → ${predicted}`);
  return `${lines.join("\n")}\n`;
}

/** More labels than this make a matrix that a terminal cannot show. */
const MATRIX_LABELS = 12;

/** The confusion matrix of few labels; columns have the numbers of the rows, so that long labels fit. */
function matrixLines({ labels, confusion, rejected }: Evaluation): string[] {
  const occurring = labels
    .map((_, i) => i)
    .filter((i) => sum(confusion[i]!) + rejected[i]! + sum(confusion.map((row) => row[i]!)) > 0);
  if (occurring.length < 2 || occurring.length > MATRIX_LABELS) return [];
  const hasRejected = sum(rejected) > 0;
  const rows = occurring.map((i) => [
    ...occurring.map((j) => confusion[i]![j]!),
    ...(hasRejected ? [rejected[i]!] : []),
  ]);
  const heads = [...occurring.map((_, column) => String(column + 1)), ...(hasRejected ? ["?"] : [])];
  const width = rows.flat().reduce((most, count) => Math.max(most, String(count).length), 3) + 1;
  const cells = (texts: readonly string[]): string => texts.map((text) => text.padStart(width)).join("");
  const names = occurring.map((i, row) => `${String(row + 1).padStart(2)} ${labels[i]!}`);
  const margin = names.reduce((most, each) => Math.max(most, displayWidth(each)), 0);
  return [
    "",
    `true labels (rows) and answers (columns)${hasRejected ? "; ? is rejected as unknown" : ""}:`,
    " ".repeat(margin) + cells(heads),
    ...rows.map((row, i) => pad(names[i]!, margin) + cells(row.map((count) => (count === 0 ? "·" : String(count))))),
  ];
}

/** Columns that the text takes in a terminal: characters of wide scripts take two. */
function displayWidth(text: string): number {
  return [...text].reduce(
    (width, char) =>
      width +
      (/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\u{1f300}-\u{1faff}]/u.test(char)
        ? 2
        : 1),
    0,
  );
}

function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - displayWidth(text)));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}
