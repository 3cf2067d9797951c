// Intervals and McNemar's test: values that statsmodels gives (proportion_confint with method "wilson", mcnemar with
// exact=True), and exact sums of whole numbers.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mcnemar, scoreInterval } from "../../../host/report/certainty.ts";
import { compare, renderComparison } from "../../../host/report/comparison.ts";

describe("the interval of a share", () => {
  test.each([
    [8, 10, 0.490162, 0.943318],
    [0, 10, 0, 0.277533],
    [10, 10, 0.722467, 1],
    [691, 700, 0.975743, 0.993221],
    [0, 0, 0, 1],
  ])("%i of %i: %f to %f", (right, n, least, most) => {
    const [from, to] = scoreInterval(right, n);
    expect(from).toBeCloseTo(least, 5);
    expect(to).toBeCloseTo(most, 5);
  });
});

/** Twice the share of the 2^n outcomes that are at least as uneven on one side. */
function reference(a: number, b: number): number {
  const [n, fewer] = [BigInt(a + b), BigInt(Math.min(a, b))];
  let [ways, tail] = [1n, 1n];
  for (let k = 1n; k <= fewer; k++) {
    ways = (ways * (n - k + 1n)) / k;
    tail += ways;
  }
  const scale = 10n ** 15n;
  return Math.min(1, Number((2n * tail * scale) / 2n ** n) / Number(scale));
}

describe("McNemar's exact test", () => {
  test("9 against 3 is 0.1460, and none against none is certain chance", () => {
    expect(mcnemar(9, 3)).toBeCloseTo(0.14599609375, 12);
    expect(mcnemar(0, 0)).toBe(1);
  });

  test("equals the sum of binomials, whichever model comes first", () => {
    const count = fc.nat(1500);
    fc.assert(
      fc.property(count, count, (a, b) => {
        expect(mcnemar(a, b)).toBeCloseTo(reference(a, b), 9);
        expect(mcnemar(b, a)).toBe(mcnemar(a, b));
      }),
    );
  });

  test("of many texts it neither overflows nor says nothing", () => {
    expect(mcnemar(50_000, 50_000)).toBe(1);
    // The normal approximation with a continuity correction gives 0.0291.
    expect(mcnemar(50_000, 50_690)).toBeCloseTo(0.0298, 3);
    expect(mcnemar(0, 5000)).toBe(0);
  });
});

describe("a comparison", () => {
  const says = (labels: Record<string, string | null>) => ({
    classify: (text: string) => ({ label: labels[text] ?? null, score: 1 }) as never,
  });
  const samples = ["a", "b", "c", "d"].map((text) => ({ text, label: "yes" }));
  const first = says({ a: "yes", b: "yes", c: "no", d: null });
  const second = says({ a: "yes", b: "no", c: "no", d: "yes" });

  test("counts who is right alone, and a rejected text as not right", () => {
    const both = compare([["first", first], ["second", second]], samples); // prettier-ignore
    expect(both).toMatchObject({ n: 4, both: 1, neither: 1, difference: 0, p: 1 });
    expect(both.models.map(({ accuracy, alone }) => [accuracy, alone])).toEqual([[0.5, 1], [0.5, 1]]); // prettier-ignore
    expect(renderComparison(both)).toContain("They are right equally often.");
  });

  test("says which is better, and whether that may be chance", () => {
    const [good, bad] = [says({ a: "yes", b: "yes", c: "yes", d: "yes" }), says({})];
    const few = renderComparison(compare([["bad", bad], ["good", good]], samples)); // prettier-ignore
    expect(few).toContain("good is right on 4 more texts (100.00 points). That may well be chance");
    const many = Array.from({ length: 5 }, () => samples).flat();
    expect(renderComparison(compare([["good", good], ["bad", bad]], many))).toContain("good is right on 20 more texts (100.00 points). That is more than chance: McNemar's p is less than 0.0001."); // prettier-ignore
  });
});
