// Figures as people read them, in a terminal, on a page and in messages.

/** A share of 0 to 1 for people. */
export function percent(share: number, decimals = 2): string {
  return `${(100 * share).toFixed(decimals)} %`;
}

export function kilobytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KB`;
}
