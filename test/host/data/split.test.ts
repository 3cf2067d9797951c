// Parts of labelled texts: stratified, without a text in two of them, and the same for the same seed.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { split } from "../../../host/data/split.ts";

const sample = (label: string, text: string, line = 0) => ({ label, text, line });
const samples = ["a", "b", "c"].flatMap((label, i) =>
  Array.from({ length: [100, 30, 10][i]! }, (_, j) => sample(label, `${label}${j}`, j)),
);

describe("split()", () => {
  test("gives each label its share in each part, in the order of the samples", () => {
    const parts = split(samples, [0.8, 0.1, 0.1], 1);
    const counts = parts.map((part) =>
      ["a", "b", "c"].map((label) => part.filter((one) => one.label === label).length),
    );
    expect(counts).toEqual([
      [80, 24, 8],
      [10, 3, 1],
      [10, 3, 1],
    ]);
    expect(new Set(parts.flat())).toEqual(new Set(samples));
    for (const part of parts) expect(part).toEqual(samples.filter((one) => part.includes(one)));
  });

  test("is the same for the same seed, and another one for another", () => {
    expect(split(samples, [0.5, 0.5], 3)).toEqual(split(samples, [0.5, 0.5], 3));
    expect(split(samples, [0.5, 0.5], 3)).not.toEqual(split(samples, [0.5, 0.5], 4));
    // Held, since figures of different days are compared.
    expect(split(samples, [0.05], 1)[0]!.map(({ text }) => text)).toEqual([
      "a2",
      "a15",
      "a16",
      "a50",
      "a63",
      "b0",
      "b20",
      "c3",
    ]);
  });

  test("draws all texts alike", () => {
    const drawn = new Map<string, number>();
    for (let seed = 0; seed < 600; seed++)
      for (const { text } of split(samples.slice(0, 10), [0.3], seed)[0]!) drawn.set(text, (drawn.get(text) ?? 0) + 1);
    // Each is drawn with probability 0.3: 180 times of 600, give or take 5 deviations of 11.2.
    expect(drawn.size).toBe(10);
    for (const count of drawn.values()) expect(Math.abs(count - 180)).toBeLessThan(56);
  });

  test("keeps a text in one part, however often and under whatever labels it comes", () => {
    const text = fc.constantFrom(..."abcdefgh");
    fc.assert(
      fc.property(fc.array(fc.tuple(text, fc.constantFrom("x", "y"))), fc.nat(), (pairs, seed) => {
        const given = pairs.map(([text, label], i) => sample(label, text, i));
        const [one, other] = split(given, [0.6, 0.4], seed);
        const texts = new Set(one!.map(({ text }) => text));
        expect(other!.filter(({ text }) => texts.has(text))).toEqual([]);
        expect(one!.length + other!.length).toBe(given.length);
      }),
    );
  });
});
