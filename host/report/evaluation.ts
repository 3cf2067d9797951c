// Counts of true against predicted labels in, the figures of a classifier out.
// The conventions are those of scikit-learn: a ratio 0/0 is 0, and the averages
// run over the labels that occur among the true or the predicted ones. A text that the
// model rejects as unknown has no predicted label: it is never right.
import { MAX_LABELS } from "../../assembly/abi.ts";
import { labelsOfSample, type Sample, soleLabel } from "../data/dataset.ts";
import { excerpt, EdgelabelError } from "../errors.ts";
import type { Classifier, Prediction } from "../model/classifier.ts";
import { isSameSet } from "../training/label-sets.ts";
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
  /** Of a model that gives several labels a text: over all labels of all texts. There, a text is right if it got exactly its labels, and there is no confusion matrix. */
  micro_precision?: number;
  micro_recall?: number;
  micro_f1?: number;
  macro_precision: number;
  macro_recall: number;
  macro_f1: number;
  weighted_f1: number;
  /** If the model or the texts have labels such as `a/b/c`: by level, the share of all texts whose answer agrees with their label up to it, thus with `a`, then `a/b`. */
  level_accuracy?: number[];
  /** Of the texts that got an answer, the share whose answer is their label or a parent of it. */
  path_accuracy?: number;
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
    const counts = confusion.map((row, i) => ({
      hits: row[i]!,
      given: sum(confusion.map((each) => each[i]!)),
      support: sum(row) + rejected[i]!,
    }));
    const right = sum(counts.map(({ hits }) => hits));
    const n = sum(counts.map(({ support }) => support));
    const texts = { n, right, accepted: n - sum(rejected), acceptedRight: right };
    const levels = this.levels(n, texts.accepted);
    return { ...figuresOf(this.labels, this.known, counts, texts), ...levels, confusion, rejected };
  }

  private levels(n: number, accepted: number): Pick<Evaluation, "level_accuracy" | "path_accuracy"> {
    const paths = this.labels.map((label) => label.split("/"));
    const depth = paths.reduce((most, path) => Math.max(most, path.length), 1);
    if (depth === 1) return {};
    const right = Array.from({ length: depth }, () => 0);
    let rightPaths = 0;
    this.counts.forEach((row, i) =>
      // A row has only the answers that occurred.
      row.forEach((count, j) => {
        const [truth, answer] = [paths[i]!, paths[j]!];
        let shared = 0;
        while (shared < truth.length && truth[shared] === answer[shared]) shared++;
        for (let level = 0; level < (i === j ? depth : shared); level++) right[level]! += count;
        if (shared === answer.length) rightPaths += count;
      }),
    );
    return { level_accuracy: right.map((count) => ratio(count, n)), path_accuracy: ratio(rightPaths, accepted) };
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

/** The same of a model that gives several labels a text. */
export class SetTally {
  readonly #known: number;
  readonly #figures = new Map<string, LabelCounts>();
  readonly #texts = { n: 0, right: 0, accepted: 0, acceptedRight: 0 };

  constructor(modelLabels: readonly string[]) {
    this.#known = modelLabels.length;
    for (const label of modelLabels) this.#of(label);
  }

  add(truths: readonly string[], given: readonly string[]): void {
    const right = isSameSet(truths, given) ? 1 : 0;
    const accepted = given.length > 0 ? 1 : 0;
    this.#texts.n++;
    this.#texts.right += right;
    this.#texts.accepted += accepted;
    this.#texts.acceptedRight += right * accepted;
    for (const label of truths) this.#of(label).support++;
    for (const label of given) {
      const figures = this.#of(label);
      figures.given++;
      if (truths.includes(label)) figures.hits++;
    }
  }

  #of(label: string): LabelCounts {
    let figures = this.#figures.get(label);
    if (!figures) this.#figures.set(label, (figures = { hits: 0, given: 0, support: 0 }));
    return figures;
  }

  evaluate(): Evaluation {
    const counts = [...this.#figures.values()];
    const [hits, given, support] = (["hits", "given", "support"] as const).map((name) =>
      sum(counts.map((count) => count[name])),
    ) as [number, number, number];
    return {
      ...figuresOf([...this.#figures.keys()], this.#known, counts, this.#texts),
      micro_precision: ratio(hits, given),
      micro_recall: ratio(hits, support),
      micro_f1: ratio(2 * hits, given + support),
      confusion: [],
      rejected: [],
    };
  }
}

interface LabelCounts {
  hits: number;
  /** Texts that got this label. */
  given: number;
  support: number;
}

function figuresOf(
  labels: readonly string[],
  known: number,
  counts: readonly LabelCounts[],
  { n, right, accepted, acceptedRight }: { n: number; right: number; accepted: number; acceptedRight: number },
): Omit<Evaluation, "confusion" | "rejected"> {
  const figures = counts.map(({ hits, given, support }): LabelFigures => ({
    precision: ratio(hits, given),
    recall: ratio(hits, support),
    f1: ratio(2 * hits, support + given),
    support,
  }));
  // An answered parent is no label of the model, so it has no part in the averages.
  const isParent = (i: number): boolean =>
    i >= known && labels.slice(0, known).some((label) => label.startsWith(`${labels[i]}/`));
  const occurring = figures.filter(({ support }, i) => support > 0 || (counts[i]!.given > 0 && !isParent(i)));
  const mean = (value: (figure: LabelFigures) => number): number => ratio(sum(occurring.map(value)), occurring.length);
  return {
    n,
    accuracy: ratio(right, n),
    accuracy_interval: scoreInterval(right, n),
    coverage: ratio(accepted, n),
    accepted_accuracy: ratio(acceptedRight, accepted),
    macro_precision: mean((figure) => figure.precision),
    macro_recall: mean((figure) => figure.recall),
    macro_f1: mean((figure) => figure.f1),
    weighted_f1: ratio(sum(figures.map((figure) => figure.f1 * figure.support)), sum(counts.map(({ support }) => support))), // prettier-ignore
    labels: [...labels],
    per_class: Object.fromEntries(labels.map((label, i) => [label, figures[i]!])),
    unknown_labels: labels.filter((_, i) => i >= known && counts[i]!.support > 0),
  };
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

/** Counts the answers to labelled texts, of a model that gives one label or several. */
export class Evaluator {
  readonly #one: Tally;
  readonly #several: SetTally;
  #isMultiLabel = false;

  constructor(modelLabels: readonly string[]) {
    this.#one = new Tally(modelLabels);
    this.#several = new SetTally(modelLabels);
  }

  /** Throws an EdgelabelError if the text has several labels, or none, and the model gives one; or if too many labels are unknown. */
  add(sample: Pick<Sample, "label" | "labels">, { label, labels }: Pick<Prediction, "label" | "labels">): void {
    this.#isMultiLabel = labels !== undefined;
    if (labels)
      this.#several.add(labelsOfSample(sample), labels.map((each) => each.label)); // prettier-ignore
    else this.#one.add(soleLabel(sample), label);
  }

  evaluate(): Evaluation {
    return (this.#isMultiLabel ? this.#several : this.#one).evaluate();
  }
}

/** Classifies labelled texts; `onProgress` is called now and then with the number of texts done. */
export function evaluate<S extends Pick<Sample, "label" | "labels" | "text">>(
  classifier: Pick<Classifier, "labels" | "classify">,
  samples: readonly S[],
  onProgress?: (done: number) => void,
  onAnswer?: (sample: S, answer: Prediction) => void,
): Evaluation {
  const evaluator = new Evaluator(classifier.labels);
  samples.forEach((sample, i) => {
    const answer = classifier.classify(sample.text);
    evaluator.add(sample, answer);
    onAnswer?.(sample, answer);
    if ((i + 1) % PROGRESS_EVERY === 0 || i + 1 === samples.length) onProgress?.(i + 1);
  });
  return evaluator.evaluate();
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
    ...(evaluation.micro_f1 === undefined
      ? [line("accuracy", ["", "", evaluation.accuracy], evaluation.n)]
      : [
          line("exact match", ["", "", evaluation.accuracy], evaluation.n),
          line("micro", [evaluation.micro_precision!, evaluation.micro_recall!, evaluation.micro_f1], evaluation.n),
        ]),
    line("macro", [evaluation.macro_precision, evaluation.macro_recall, evaluation.macro_f1], evaluation.n),
    line("weighted", ["", "", evaluation.weighted_f1], evaluation.n),
  ];
  if (evaluation.level_accuracy) {
    evaluation.level_accuracy.forEach((accuracy, i) =>
      lines.push(line(`to level ${i + 1}`, ["", "", accuracy], evaluation.n)),
    );
    lines.push(line("on the path", ["", "", evaluation.path_accuracy!], evaluation.n - sum(evaluation.rejected)));
  }
  if (evaluation.micro_f1 !== undefined) {
    if (evaluation.n > 0)
      lines.push(
        "",
        `with 95 % confidence, ${renderInterval(evaluation.accuracy_interval)} of all such texts get exactly their labels; ${Math.round((1 - evaluation.coverage) * evaluation.n)} of ${evaluation.n} got none`,
      );
    return `${lines.join("\n")}\n`;
  }
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
