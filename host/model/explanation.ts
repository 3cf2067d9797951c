// Which tokens of a text made its score: the pieces that engine.wasm or trainer.wasm found ->
// tokens with their bytes and shares, as in `explain --json` and the service's answers.

/** Exports that both modules have; see assembly/explain.ts. */
export interface ExplanationExports {
  pieceCount(): number;
  pieceStart(index: number): number;
  pieceEnd(index: number): number;
  pieceShare(index: number): number;
  explainedLabel(): number;
  explainedScore(): number;
  baseScore(): number;
}

export type Method = "occlusion" | "gradients";

/** A token of the text; in a text of more than MAX_PIECES tokens, a run of tokens. */
export interface TokenShare {
  /** As written in the text. */
  token: string;
  /** First byte of the token in the text, which is UTF-8. */
  start: number;
  /** The byte after its last one. */
  end: number;
  /** The token's part of the score: above 0 it speaks for the label, below 0 against it. */
  share: number;
}

export interface Explanation {
  /** The label whose score is explained. */
  label: string;
  score: number;
  /** The label's score when all tokens are hidden; with gradients, when all their vectors are 0. */
  base: number;
  method: Method;
  /** Sum of the shares. */
  sum: number;
  /** sum - (score - base): with occlusion only rounding; with gradients it falls with the number of steps. */
  error: number;
  tokens: TokenShare[];
}

const DECIMALS = 9;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function readExplanation(
  found: ExplanationExports,
  text: Uint8Array,
  labels: readonly string[],
  method: Method,
): Explanation {
  const tokens = Array.from({ length: found.pieceCount() }, (_, i): TokenShare => {
    const start = found.pieceStart(i);
    const end = found.pieceEnd(i);
    return { token: decoder.decode(text.subarray(start, end)), start, end, share: rounded(found.pieceShare(i)) };
  });
  const score = rounded(found.explainedScore());
  const base = rounded(found.baseScore());
  const sum = rounded(tokens.reduce((total, { share }) => total + share, 0));
  return {
    label: labels[found.explainedLabel()]!,
    score,
    base,
    method,
    sum,
    error: rounded(sum - (score - base)),
    tokens,
  };
}

/** Shorter JSON; -0 becomes 0. */
function rounded(value: number): number {
  return Number(value.toFixed(DECIMALS)) + 0;
}
