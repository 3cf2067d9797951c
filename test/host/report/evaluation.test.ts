// The figures of eval against values that scikit-learn 1.x gives (noted where they are literal).
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MAX_LABELS } from "../../../assembly/abi.ts";
import { renderEvaluation, Tally } from "../../../host/report/evaluation.ts";

function tally(labels: string[], truth: string[], predicted: (string | null)[]) {
  const counts = new Tally(labels);
  truth.forEach((label, i) => counts.add(label, predicted[i] ?? null));
  return counts.evaluate();
}

describe("evaluation", () => {
  // sklearn.metrics.classification_report of the example in scikit-learn's user guide:
  // y_true = [0, 1, 2, 2, 0], y_pred = [0, 0, 2, 1, 0].
  const guide = tally(["0", "1", "2"], ["0", "1", "2", "2", "0"], ["0", "0", "2", "1", "0"]);

  test("equals scikit-learn's guide", () => {
    expect(guide.n).toBe(5);
    expect(guide.accuracy).toBeCloseTo(0.6, 12);
    expect(guide.per_class["0"]).toEqual({ precision: 2 / 3, recall: 1, f1: 0.8, support: 2 });
    expect(guide.per_class["1"]).toEqual({ precision: 0, recall: 0, f1: 0, support: 1 });
    expect(guide.per_class["2"]).toEqual({ precision: 1, recall: 0.5, f1: 2 / 3, support: 2 });
    expect(guide.macro_f1).toBeCloseTo((0.8 + 0 + 2 / 3) / 3, 12);
    expect(guide.macro_precision).toBeCloseTo(5 / 9, 12);
    expect(guide.macro_recall).toBeCloseTo(0.5, 12);
    expect(guide.weighted_f1).toBeCloseTo((0.8 * 2 + (2 / 3) * 2) / 5, 12);
    expect(guide.confusion).toEqual([
      [2, 0, 0],
      [1, 0, 0],
      [0, 1, 1],
    ]);
  });

  test("averages over occurring labels only, as scikit-learn does", () => {
    const figures = tally(["a", "b", "never"], ["a", "b"], ["a", "b"]);
    expect(figures.macro_f1).toBe(1);
    expect(figures.per_class["never"]).toEqual({ precision: 0, recall: 0, f1: 0, support: 0 });
    expect(figures.confusion[2]).toEqual([0, 0, 0]);
  });

  test("counts a label that the model does not know as wrong, and names it", () => {
    const figures = tally(["a", "b"], ["a", "c", "c"], ["a", "b", "a"]);
    expect(figures.unknown_labels).toEqual(["c"]);
    expect(figures.labels).toEqual(["a", "b", "c"]);
    expect(figures.accuracy).toBeCloseTo(1 / 3, 12);
    expect(figures.confusion).toEqual([
      [1, 0, 0],
      [0, 0, 0],
      [1, 1, 0],
    ]);
    expect(figures.macro_f1).toBeCloseTo((2 / 3 + 0 + 0) / 3, 12);
  });

  test("a rejected text counts for its label and for the whole, and is never right nor anyone's mistake", () => {
    const figures = tally(["a", "b"], ["a", "a", "a", "b", "b", "?", "?"], ["a", null, "b", null, "b", null, "a"]);
    expect(figures).toMatchObject({
      n: 7,
      accuracy: 2 / 7,
      coverage: 4 / 7,
      accepted_accuracy: 0.5,
      labels: ["a", "b", "?"],
      unknown_labels: ["?"],
      rejected: [1, 1, 1],
      confusion: [
        [1, 1, 0],
        [0, 1, 0],
        [1, 0, 0],
      ],
    });
    expect(figures.per_class["a"]).toEqual({ precision: 0.5, recall: 1 / 3, f1: 0.4, support: 3 });
    expect(figures.per_class["b"]).toEqual({ precision: 0.5, recall: 0.5, f1: 0.5, support: 2 });
    expect(renderEvaluation(figures)).toContain(
      "accepted                               0.5000        4\n\nrejected as unknown: 3 of 7 texts\n",
    );
  });

  test("without rejected texts the accepted ones are all", () => {
    expect(tally(["a", "b"], ["a", "b", "b"], ["a", "b", "a"])).toMatchObject({
      coverage: 1,
      accepted_accuracy: 2 / 3,
      rejected: [0, 0],
    });
  });

  test("keeps labels with the names of JavaScript's own properties", () => {
    const figures = tally(["__proto__", "constructor"], ["__proto__", "constructor"], ["__proto__", "__proto__"]);
    expect(Object.keys(figures.per_class)).toEqual(["__proto__", "constructor"]);
    expect(JSON.parse(JSON.stringify(figures)).per_class.constructor.support).toBe(1);
  });

  test("takes as many labels that the model does not know as a model may have, and no more", () => {
    const counts = new Tally(["a", "b", "c"]);
    for (let i = 0; i < MAX_LABELS; i++) counts.add(`new ${i}`, "a");
    expect(() => counts.add("one more", "a")).toThrow(
      `the data has more than ${MAX_LABELS} labels that the model does not know, such as "one more"`,
    );
    expect(counts.evaluate()).toMatchObject({ n: MAX_LABELS, accuracy: 0 });
  });

  test("nothing counted gives zeros, never NaN", () => {
    const figures = tally(["a"], [], []);
    expect(figures).toMatchObject({
      n: 0,
      accuracy: 0,
      coverage: 0,
      accepted_accuracy: 0,
      macro_f1: 0,
      weighted_f1: 0,
    });
  });

  test("equals a count by hand for any labels", () => {
    const label = fc.constantFrom("a", "b", "c", "d");
    fc.assert(
      fc.property(fc.array(fc.tuple(label, label), { minLength: 1 }), (rows) => {
        const figures = tally(
          ["a", "b", "c"],
          rows.map(([truth]) => truth),
          rows.map(([, predicted]) => predicted),
        );
        expect(figures.accuracy).toBeCloseTo(rows.filter(([t, p]) => t === p).length / rows.length, 12);
        const f1 = [...new Set(rows.flat())].map((name) => {
          const hit = rows.filter(([t, p]) => t === name && p === name).length;
          const missed = rows.filter(([t, p]) => t === name && p !== name).length;
          const false_ = rows.filter(([t, p]) => t !== name && p === name).length;
          return hit === 0 ? 0 : hit / (hit + (missed + false_) / 2);
        });
        expect(figures.macro_f1).toBeCloseTo(f1.reduce((a, b) => a + b, 0) / f1.length, 12);
      }),
    );
  });

  test("the table names every label, the averages and the confusions", () => {
    const table = renderEvaluation(
      tally(["ham", "很长的标签"], ["ham", "ham", "很长的标签"], ["ham", "很长的标签", "很长的标签"]),
    );
    expect(table.split("\n")).toEqual([
      "              precision     recall         f1  support",
      "ham              1.0000     0.5000     0.6667        2",
      "很长的标签       0.5000     1.0000     0.6667        1",
      "",
      "accuracy                               0.6667        3",
      "macro            0.7500     0.7500     0.6667        3",
      "weighted                               0.6667        3",
      "",
      "with 95 % confidence, 20.8 % to 93.9 % of all such texts are labelled right",
      "",
      "true labels (rows) and answers (columns):",
      "                1   2",
      " 1 ham          1   1",
      " 2 很长的标签   ·   1",
      "",
      "most often confused (true → predicted):",
      "     1  ham → 很长的标签",
      "",
    ]);
  });
});
