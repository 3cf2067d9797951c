// Texts -> the figures to which the default recipe adapts: how many texts there are, how long
// they are, and whether their words recur.
export interface Shape {
  texts: number;
  /** Texts without any token. */
  empty: number;
  /** Median number of tokens. */
  medianTokens: number;
  /** Texts with a token that no other text has. */
  withOwnToken: number;
  /** Texts with more tokens than the model keeps. */
  cut: number;
}

const SHARED = -1;

/** `tokens` says how the model would split a text; `limit` is how many tokens it keeps. */
export function shapeOf(texts: readonly string[], tokens: (text: string) => string[], limit: number): Shape {
  // For each token, the only text that has it, or SHARED.
  const owners = new Map<string, number>();
  const lengths = texts
    .map((text, i) => {
      const list = tokens(text);
      for (const token of list) owners.set(token, (owners.get(token) ?? i) === i ? i : SHARED);
      return list.length;
    })
    .sort((a, b) => a - b);
  const withOwnToken = new Set(owners.values());
  withOwnToken.delete(SHARED);
  return {
    texts: texts.length,
    empty: lengths.filter((length) => length === 0).length,
    medianTokens: lengths[lengths.length >> 1] ?? 0,
    withOwnToken: withOwnToken.size,
    cut: lengths.filter((length) => length > limit).length,
  };
}
