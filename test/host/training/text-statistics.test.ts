import { expect, test } from "vitest";
import { shapeOf } from "../../../host/training/text-statistics.ts";

const words = (text: string): string[] => text.split(" ").filter(Boolean);

test.each([
  [[], { texts: 0, empty: 0, medianTokens: 0, withOwnToken: 0, cut: 0 }],
  [[""], { texts: 1, empty: 1, medianTokens: 0, withOwnToken: 0, cut: 0 }],
  [["a", "b b", "c d e"], { texts: 3, empty: 0, medianTokens: 2, withOwnToken: 3, cut: 0 }],
  [["a b", "a c", "b a", "c"], { texts: 4, empty: 0, medianTokens: 2, withOwnToken: 0, cut: 0 }],
  [["a b c d", "a b c d e", "a"], { texts: 3, empty: 0, medianTokens: 4, withOwnToken: 1, cut: 2 }],
])("%j", (texts, shape) => {
  expect(shapeOf(texts, words, 3)).toEqual(shape);
});
