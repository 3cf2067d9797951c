// The texts that a model labels wrong, the most confident answers first: there are faults of the
// data among these. As TSV, with a header.
import { printable } from "../escape.ts";

export interface Mistake {
  file: string;
  line: number;
  text: string;
  truth: string;
  /** Null: rejected as unknown. */
  answer: string | null;
  score: number;
}

/** By falling score; equal ones stay in their order. */
export function ranked(mistakes: readonly Mistake[]): Mistake[] {
  return [...mistakes].sort((a, b) => b.score - a.score);
}

export function renderMistakes(mistakes: readonly Mistake[]): string {
  const rows = mistakes.map(({ file, line, truth, answer, score, text }) => [
    file,
    line,
    truth,
    answer ?? "?",
    score.toFixed(6),
    text,
  ]);
  return [["file", "line", "truth", "answer", "score", "text"], ...rows]
    .map((row) => `${row.map((cell) => printable(String(cell).replace(/\s/g, " "))).join("\t")}\n`)
    .join("");
}
