// Why the page says that a text may have got the wrong label.
import { describe, expect, test } from "vitest";
import { parseDataset } from "../../host/data/dataset.ts";
import { reportData } from "../../host/data/report.ts";
import type { Answered } from "../../web/playground/jobs.ts";
import { reasonFinder } from "../../web/playground/reasons.ts";

const lines = ["on\tlamp on", "off\tlamp on", "off\tdark", "off\tdark", "off\tDark!", "on\tsun"];
const samples = parseDataset(Buffer.from(`${lines.join("\n")}\n`), "a.tsv");
const words = (text: string): string[] => text.toLowerCase().match(/\w+/g) ?? [];
const report = reportData([{ file: "", samples }], null, words, 256);
const counts = new Map([
  ["on", 19],
  ["off", 20],
]);
const find = reasonFinder(report, counts);
const answered = (line: number, answer: string | null, score: number): Answered => ({
  ...{ line, answer: answer === null ? [] : [answer], score, text: samples[line - 1]!.text },
  truth: [samples[line - 1]!.label],
  isRight: samples[line - 1]!.label === answer,
});

describe("reasons", () => {
  test.each<[string, Answered, string[]]>([
    [
      "a conflict, and too few texts",
      answered(1, "off", 0.7),
      ["The same words have the label “off” in line 2.", "Only 19 texts of “on” to learn from."],
    ],
    ["a conflict of the other one", answered(2, "on", 0.7), ["The same words have the label “on” in line 1."]],
    ["copies", answered(3, "on", 0.7), ["The same words are also in lines 4, 5."]],
    [
      "sure",
      answered(6, "off", 0.9),
      ["Only 19 texts of “on” to learn from.", "The model is sure: is the label right?"],
    ],
    [
      "a guess",
      answered(4, "on", 0.49),
      ["The same words are also in lines 3, 5.", "A guess: no label has a high score."],
    ],
    ["rejected: neither sure nor a guess", answered(5, null, 0.2), ["The same words are also in lines 3, 4."]],
  ])("%s", (_, answer, reasons) => {
    expect(find(answer)).toEqual(reasons);
  });

  test("none, where there is nothing to be said", () => {
    const other = reasonFinder(reportData([], null, words, 256), counts);
    expect(other(answered(3, "on", 0.6))).toEqual([]);
  });

  test("a label that was not trained on, and more copies than are listed", () => {
    const many = Array.from({ length: 9 }, (_, i) => ({ label: "new", text: "same", line: i + 1 }));
    const [few, copies] = reasonFinder(
      reportData([{ file: "", samples: many }], null, words, 256),
      new Map([["new", 1]]),
    )({ ...answered(1, "on", 0.6), truth: ["new"] });
    expect(few).toBe("Only 1 text of “new” to learn from.");
    expect(copies).toBe("The same words are also in lines 2, 3, 4, 5, 6 and 3 more.");
    const [unseen] = reasonFinder(report, new Map())(answered(6, "off", 0.6));
    expect(unseen).toBe("Only 0 texts of “on” to learn from.");
  });
});
