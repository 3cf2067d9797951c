// Two models on the same texts -> the time that each takes for a text. Their runs alternate,
// so that other load on the machine affects both alike; the result is the median of the runs.
import type { Classifier } from "../model/classifier.ts";
import { thinned } from "../data/dataset.ts";

const RUNS = 9;
/** Texts of a run, evenly spread over all; fewer ones come several times, since code that has run little is slow. */
const TEXTS = 500;

export interface Speed {
  /** Microseconds a text, from its bytes to the label. */
  before: number;
  after: number;
  /** before / after: above 1 is faster. */
  ratio: number;
}

export function compareSpeed(before: Classifier, after: Classifier, texts: readonly string[]): Speed {
  const [one, other] = timesOf([before, after], texts) as [number, number];
  return { before: one, after: other, ratio: one / other };
}

/** Microseconds a text, from its bytes to the label. */
export function speedOf(classifier: Classifier, texts: readonly string[]): number {
  return timesOf([classifier], texts)[0]!;
}

function timesOf(classifiers: readonly Classifier[], texts: readonly string[]): number[] {
  const encoder = new TextEncoder();
  const distinct = thinned(texts, TEXTS).map((text) => encoder.encode(text));
  const chosen = Array.from({ length: TEXTS }, (_, i) => distinct[i % distinct.length]!);
  const times = classifiers.map((): number[] => []);
  // The first run of each only warms up.
  for (let run = 0; run <= RUNS; run++) {
    classifiers.forEach((classifier, which) => {
      const time = timeOf(classifier, chosen);
      if (run > 0) times[which]!.push(time);
    });
  }
  return times.map(middle);
}

function timeOf(classifier: Classifier, texts: readonly Uint8Array[]): number {
  const started = performance.now();
  for (const text of texts) classifier.line(text, { json: false, top: 1 });
  return (1000 * (performance.now() - started)) / texts.length;
}

function middle(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}
