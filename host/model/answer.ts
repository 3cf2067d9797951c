// What is answered about a text, over MQTT, over HTTP and by the library alike.
import type { Prediction } from "./classifier.ts";
import type { Explanation } from "./explanation.ts";

export interface GivenLabel {
  label: string;
  score: number;
}

export interface Answer {
  /** The best label, or a parent of it if the model has levels and is in doubt; null when the score is below the threshold, or the model's own rule rejects the text. */
  label: string | null;
  /** Score of the best label, 0 to 1, with 6 decimals. */
  score: number;
  unknown?: true | undefined;
  /** Of a model that gives several labels a text: all that it has, best first; none if it is unknown. `label` and `score` are those of the best one. */
  labels?: GivenLabel[] | undefined;
  /** By label, best first; only when asked for. */
  scores?: Record<string, number> | undefined;
  explanation?: Explanation | undefined;
}

export interface AnswerOptions {
  /** How many labels `scores` has; absent = there are no `scores`. */
  topK?: number | undefined;
  /** Answers with a lower score than this are unknown, 0 to 1. */
  threshold?: number | undefined;
}

/** The labels that a text has, best first: at most one, unless the model gives several; none if it is unknown. */
export function givenLabels({ label, score, labels }: Omit<Prediction, "scores">, threshold = 0): GivenLabel[] {
  const all = labels ?? (label === null ? [] : [{ label, score }]);
  return all.filter((each) => each.score >= threshold);
}

export function answerOf(
  prediction: Prediction,
  { topK, threshold = 0 }: AnswerOptions,
  explanation?: Explanation,
): Answer {
  const { score } = prediction;
  const labels = prediction.labels && givenLabels(prediction, threshold);
  // The rule of givenLabels for one label, without a list for each text.
  const best = labels ? labels[0]?.label : score >= threshold ? prediction.label : null;
  return {
    label: best ?? null,
    score,
    unknown: best == null ? true : undefined,
    labels,
    scores: topK === undefined ? undefined : prediction.scores,
    explanation,
  };
}
