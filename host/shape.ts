// Texts -> what the default recipe goes by besides its own settings: how many they are, how
// long, and whether their words ever come again.
export interface Shape {
  texts: number;
  /** Tokens of the text in the middle. */
  medianTokens: number;
  /** Texts with a token that no other text has. */
  withOwnToken: number;
  /** Texts with more tokens than the model keeps. */
  cut: number;
}

/** `tokens` says how the model would split a text; `limit` is how many tokens it keeps. */
export function shapeOf(texts: readonly string[], tokens: (text: string) => string[], limit: number): Shape {
  const lists = texts.map((text) => tokens(text));
  const holders = new Map<string, number>();
  for (const list of lists) for (const token of new Set(list)) holders.set(token, (holders.get(token) ?? 0) + 1);
  const lengths = lists.map(({ length }) => length).sort((a, b) => a - b);
  return {
    texts: texts.length,
    medianTokens: lengths[lengths.length >> 1] ?? 0,
    withOwnToken: lists.filter((list) => list.some((token) => holders.get(token) === 1)).length,
    cut: lengths.filter((length) => length > limit).length,
  };
}
