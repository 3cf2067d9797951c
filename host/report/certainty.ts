// How sure a figure is that was counted on a sample of texts. Counts in, probabilities out.
import { percent } from "../figures.ts";

/** The 97.5 % point of the normal distribution, which leaves 95 % between its two sides. */
const Z = 1.959964;

/**
 * Where the share of right answers to all such texts lies with 95 % confidence, as [least, most] of 0 to 1, when
 * `right` of `n` texts were right. It is E. B. Wilson's score interval (Probable Inference, 1927), which unlike the
 * usual one stays within 0 and 1 and holds for few texts too. Without texts it is [0, 1].
 */
export function scoreInterval(right: number, n: number): [number, number] {
  if (n === 0) return [0, 1];
  const share = right / n;
  const middle = share + (Z * Z) / (2 * n);
  const reach = Z * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n));
  const whole = 1 + (Z * Z) / n;
  return [Math.max(0, (middle - reach) / whole), Math.min(1, (middle + reach) / whole)];
}

/** An interval for people, in percent. */
export function renderInterval([least, most]: readonly [number, number]): string {
  return `${percent(least, 1)} to ${percent(most, 1)}`;
}

/**
 * The probability that two equally good models differ at least as much as these on the texts that exactly one of them
 * has right: McNemar's test in its exact form, two-sided. The models were right alone on `onlyA` and `onlyB` texts.
 */
export function mcnemar(onlyA: number, onlyB: number): number {
  const [fewer, n] = [Math.min(onlyA, onlyB), onlyA + onlyB];
  // P(exactly `fewer` heads in n tosses); halved on the way, so that it stays within what a number holds.
  let term = 1;
  let halves = 0;
  for (let i = 1; i <= fewer; i++) {
    term *= (n - fewer + i) / i;
    for (; term > 1 && halves < n; halves++) term /= 2;
  }
  term *= 2 ** (halves - n);
  let tail = 0;
  for (let heads = fewer; heads >= 0; heads--) {
    tail += term;
    term *= heads / (n - heads + 1);
  }
  return Math.min(1, 2 * tail);
}
