// Samples -> what the trainer takes for their labels: the number of a label or, of a model that gives several labels a
// text, the number of a set of labels (assembly/train/sets.ts), each of which it is told once. And whether answers are right.
import { labelsOfSample, type Sample, soleLabel } from "../data/dataset.ts";
import type { Prediction } from "../model/classifier.ts";
import { check } from "../model/status.ts";
import type { TrainerModule } from "./module.ts";

export class LabelSets {
  readonly #exports: Pick<TrainerModule["exports"], "addSet" | "addSetLabel">;
  readonly #numbers = new Map<string, number>();

  constructor(exports: Pick<TrainerModule["exports"], "addSet" | "addSetLabel">) {
    this.#exports = exports;
  }

  /** The number of a set of labels, which are given by their numbers. */
  numberOf(labels: readonly number[]): number {
    const sorted = [...labels].sort((one, other) => one - other);
    const key = sorted.join();
    let number = this.#numbers.get(key);
    if (number === undefined) {
      check(this.#exports.addSet(), "labels");
      for (const label of sorted) check(this.#exports.addSetLabel(label), "labels");
      number = this.#numbers.size;
      this.#numbers.set(key, number);
    }
    return number;
  }
}

/**
 * How samples are numbered; `sets` is null where a text has one label. Undefined for a label that is not in `labels`; of several, such labels are left out.
 * What it returns throws an EdgelabelError for a text with several labels where it should have one.
 */
export function targetsOf(
  labels: readonly string[],
  sets: LabelSets | null,
): (sample: Pick<Sample, "label" | "labels">) => number | undefined {
  const numbers = new Map(labels.map((label, index) => [label, index]));
  if (!sets) return (sample) => numbers.get(soleLabel(sample));
  return (sample) => sets.numberOf(labelsOfSample(sample).flatMap((label) => numbers.get(label) ?? []));
}

/** Whether a text got its label, or exactly its labels. */
export function isRight(
  sample: Pick<Sample, "label" | "labels">,
  { label, labels }: Pick<Prediction, "label" | "labels">,
): boolean {
  return labels
    ? isSameSet(
        labelsOfSample(sample),
        labels.map((each) => each.label),
      )
    : label === sample.label;
}

/** Labels are in each list once. */
export function isSameSet(one: readonly string[], other: readonly string[]): boolean {
  const others = new Set(other);
  return one.length === others.size && one.every((label) => others.has(label));
}
