// The chart of a run: well-formed XML with nothing of the title let through, ticks that
// enclose the values, and lines whose points lie where the values say.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { niceTicks, renderChart, renderCurve } from "../../../host/report/chart.ts";
import type { EpochReport } from "../../../host/training/recipe.ts";

const reports = (train: [loss: number, accuracy: number][], validation?: [number, number][]): EpochReport[] =>
  train.map(([loss, accuracy], i) => ({
    epoch: i + 1,
    epochs: train.length,
    train: { loss, accuracy },
    validation: validation ? { loss: validation[i]![0], accuracy: validation[i]![1] } : null,
  }));

/** Throws unless every tag is closed in order, attributes are quoted and text is escaped. */
function checkXml(xml: string): void {
  const open: string[] = [];
  const rest = xml.replace(
    /<(\/?)([a-z]+)((?: [a-zA-Z][a-zA-Z0-9:-]*="[^"<&]*")*)(\/?)>/g,
    (_, isEnd: string, name: string, _attributes: string, isEmpty: string) => {
      if (isEnd) expect(open.pop()).toBe(name);
      else if (!isEmpty) open.push(name);
      return "";
    },
  );
  expect(open).toEqual([]);
  expect(rest.replace(/&(?:#[0-9]+|amp|lt|gt|quot);/g, "")).not.toMatch(/[<>&]/);
}

function pointsOf(svg: string): [number, number][][] {
  return [...svg.matchAll(/<polyline [^>]*points="([^"]*)"/g)].map(([, points]) =>
    points!.split(" ").map((point) => point.split(",").map(Number) as [number, number]),
  );
}

describe("a chart", () => {
  test("shows both figures of training and validation", () => {
    const svg = renderChart(
      reports(
        [
          [2, 0.5],
          [1, 0.75],
          [0, 1],
        ],
        [
          [1.5, 0.6],
          [1, 0.7],
          [0.5, 0.8],
        ],
      ),
      "spam",
    );
    checkXml(svg);
    const [loss, validLoss, accuracy] = pointsOf(svg) as [[number, number][], [number, number][], [number, number][]];
    expect(pointsOf(svg)).toHaveLength(4);
    // Evenly apart, and twice the loss is twice as high above the axis.
    expect(loss.map(([x]) => x)).toEqual([56, 226, 396]);
    expect(loss[2]![1] - loss[0]![1]).toBeCloseTo(2 * (loss[2]![1] - loss[1]![1]), 1);
    expect(validLoss[1]).toEqual(loss[1]);
    expect(accuracy[2]![1]).toBeLessThan(accuracy[0]![1]);
    expect(svg).toContain(">validation</text>");
    expect(svg).toContain("<title>validation, epoch 3: 80 %</title>");
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    expect(svg).not.toMatch(/href|url\(|<script/);
  });

  test("without validation has two lines, with one epoch two dots", () => {
    const svg = renderChart(reports([[0.7, 0.9]]), "x");
    checkXml(svg);
    expect(pointsOf(svg)).toHaveLength(2);
    expect(svg.match(/<circle/g)).toHaveLength(2);
    expect(svg).not.toContain("validation");
  });

  test("escapes its title", () => {
    const svg = renderChart(reports([[1, 0]]), "</svg><script>alert(1)</script>&\"'\u0000");
    checkXml(svg);
    expect(svg).not.toMatch(/<script|\u0000/);
    expect(svg).toContain("&lt;/svg&gt;&lt;script&gt;alert(1)");
  });

  test("of any figures is well-formed and stays inside its frame", () => {
    const figure = fc.tuple(fc.double({ min: 0, max: 1e6 }), fc.double({ min: 0, max: 1, noNaN: true }));
    fc.assert(
      fc.property(fc.array(figure, { maxLength: 60 }), (figures) => {
        const svg = renderChart(reports(figures), "any");
        checkXml(svg);
        expect(svg).not.toMatch(/NaN|Infinity|undefined/);
        for (const [x, y] of pointsOf(svg).flat()) {
          expect(x >= 56 && x <= 826).toBe(true);
          expect(y >= 76 && y <= 296).toBe(true);
        }
      }),
    );
  });
});

describe("ticks", () => {
  test.each<[number, number, number | undefined, number[]]>([
    [0, 2.3, undefined, [0, 0.5, 1, 1.5, 2, 2.5]],
    [0, 0.3, undefined, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]],
    [0.62, 1, 1, [0.6, 0.7, 0.8, 0.9, 1]],
    [0.9, 0.9, 1, [0.8, 1]],
    [1, 1, 1, [0.8, 1]],
    [0, 0, undefined, [0, 0.2]],
    [0.99931, 0.99987, 1, [0.9993, 0.9994, 0.9995, 0.9996, 0.9997, 0.9998, 0.9999]],
  ])("of %f ... %f below %s", (low, high, ceiling, ticks) => {
    expect(niceTicks(low, high, ceiling)).toEqual(ticks);
  });

  test("enclose any values, evenly and few", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        (a, b) => {
          const [low, high] = [Math.min(a, b), Math.max(a, b)];
          const ticks = niceTicks(low, high);
          expect(ticks.length).toBeGreaterThanOrEqual(2);
          expect(ticks.length).toBeLessThanOrEqual(9);
          const span = ticks.at(-1)! - ticks[0]!;
          expect(ticks[0]!).toBeLessThanOrEqual(low + span * 1e-6);
          expect(ticks.at(-1)!).toBeGreaterThanOrEqual(high - span * 1e-6);
        },
      ),
    );
  });
});

test("a rejection curve lies over the coverage, from 0 to 1", () => {
  const svg = renderCurve(
    [
      { threshold: 0.5, coverage: 1, accuracy: 0.9 },
      { threshold: 0.75, coverage: 0.5, accuracy: 0.95 },
      { threshold: 1, coverage: 0.25, accuracy: 1 },
    ],
    "<m>",
  );
  checkXml(svg);
  const [accuracy, threshold] = pointsOf(svg) as [[number, number][], [number, number][]];
  expect(accuracy.map(([x]) => x)).toEqual([56 + 340, 56 + 170, 56 + 85]);
  expect(threshold.map(([x]) => x)).toEqual([486 + 340, 486 + 170, 486 + 85]);
  expect(threshold[0]![1] - threshold[2]![1]).toBeCloseTo(2 * (threshold[1]![1] - threshold[2]![1]), 1);
  expect(svg).toContain("<title>accuracy, coverage 50 %: 95 %</title>");
  expect(svg.match(/>coverage<\/text>/g)).toHaveLength(2);
  checkXml(renderCurve([], "nothing"));
  // Along the bottom of both panels all of the coverage, and up the sides no more than there can be.
  const ticks = [...svg.matchAll(/text-anchor="(\w+)">([\d.]+(?: %)?)<\/text>/g)];
  const along = ticks.filter(([, anchor]) => anchor === "middle").map(([, , text]) => text);
  const shares = ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"];
  expect(along).toEqual([...shares, ...shares]);
  const up = ticks.filter(([, anchor]) => anchor === "end").map(([, , text]) => text!);
  expect(up.filter((text) => text.endsWith("%")).at(-1)).toBe("100 %");
  expect(up.at(-1)).toBe("1");
});

test("neither panel of a curve goes beyond 1, also where all are 1", () => {
  const svg = renderCurve(
    [1, 0.5].map((coverage) => ({ threshold: 1, coverage, accuracy: 1 })),
    "m",
  );
  expect([...svg.matchAll(/text-anchor="end">([^<]+)<\/text>/g)].map(([, text]) => text)).toEqual([
    "80 %",
    "100 %",
    "0.8",
    "1",
  ]);
});
