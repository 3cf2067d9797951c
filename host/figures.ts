// Figures as people read them, in a terminal, on a page and in messages.

/** A share of 0 to 1 for people. */
export function percent(share: number, decimals = 2): string {
  return `${(100 * share).toFixed(decimals)} %`;
}

/** What the share of right texts is called: with several labels, a text is right if it gets exactly its own. */
export function nameOfAccuracy(isMultiLabel: boolean): string {
  return isMultiLabel ? "exact match" : "accuracy";
}

export function kilobytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KB`;
}
