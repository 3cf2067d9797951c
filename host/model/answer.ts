// What is answered about a text, over MQTT, over HTTP and by the library alike.
import type { Prediction } from "./classifier.ts";
import type { Explanation } from "./explanation.ts";

export interface Answer {
  /** The best label; null when the score is below the threshold, or the model's own rule rejects the text. */
  label: string | null;
  /** Score of the best label, 0 to 1, with 6 decimals. */
  score: number;
  unknown?: true | undefined;
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

export function answerOf(
  { label, score, scores }: Prediction,
  { topK, threshold = 0 }: AnswerOptions,
  explanation?: Explanation,
): Answer {
  const isUnknown = label === null || score < threshold;
  return {
    label: isUnknown ? null : label,
    score,
    unknown: isUnknown || undefined,
    scores: topK === undefined ? undefined : scores,
    explanation,
  };
}
