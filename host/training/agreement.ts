// Two models on the same texts -> how far their answers agree. Only counts and compares the
// answers; the scores come from the engines.
import type { Classifier } from "../model/classifier.ts";

export interface Agreement {
  n: number;
  /** Share of texts with the same label. */
  top1: number;
  /** Largest difference of any label's score on any text. */
  largest_difference: number;
}

export function compare(one: Classifier, other: Classifier, texts: readonly string[]): Agreement {
  let same = 0;
  let largest = 0;
  for (const text of texts) {
    const a = one.classify(text, 0);
    const b = other.classify(text, 0);
    if (a.label === b.label) same++;
    for (const [label, score] of Object.entries(a.scores))
      largest = Math.max(largest, Math.abs(score - (b.scores[label] ?? 0)));
  }
  return { n: texts.length, top1: texts.length ? same / texts.length : 1, largest_difference: largest };
}
