/** A share of 0 to 1 for people. */
export function percent(share: number, decimals = 2): string {
  return `${(100 * share).toFixed(decimals)} %`;
}
