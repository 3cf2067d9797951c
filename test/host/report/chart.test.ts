// The chart of a run: well-formed XML with nothing of the title let through, ticks that
// enclose the values, lines whose points lie where the values say, and what explains them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { niceTicks, renderChart } from "../../../host/report/chart.ts";
import type { EpochReport } from "../../../host/training/recipe.ts";

const reports = (
  train: [loss: number, accuracy: number][],
  validation?: [number, number][],
  perturbedFrom = Infinity,
): EpochReport[] =>
  train.map(([loss, accuracy], i) => ({
    epoch: i + 1,
    epochs: train.length,
    train: { loss, accuracy },
    validation: validation ? { loss: validation[i]![0], accuracy: validation[i]![1] } : null,
    perturbed: i + 1 >= perturbedFrom,
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
    expect(loss.map(([x]) => x)).toEqual([52, 204, 356]);
    expect(loss[2]![1] - loss[0]![1]).toBeCloseTo(2 * (loss[2]![1] - loss[1]![1]), 1);
    expect(validLoss[1]).toEqual(loss[1]);
    expect(accuracy[2]![1]).toBeLessThan(accuracy[0]![1]);
    expect(svg).toContain(">validation</text>");
    expect(svg).toContain("<title>validation, epoch 3: 80 %</title>");
    // The last values, and the best of the validation, in each panel.
    expect([...svg.matchAll(/class="last (\w+)"[^>]*>([^<]+)</g)].map(([, kind, value]) => [kind, value])).toEqual([
      ["first", "0.5"],
      ["second", "0"],
      ["second", "100 %"],
      ["first", "80 %"],
    ]);
    expect(svg.match(/<title>best: epoch 3: [^<]+</g)).toEqual([
      "<title>best: epoch 3: 0.5<",
      "<title>best: epoch 3: 80 %<",
    ]);
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    expect(svg).not.toMatch(/href|url\(|<script/);
  });

  test("without validation has two lines, with one epoch two dots", () => {
    const svg = renderChart(reports([[0.7, 0.9]]), "x");
    checkXml(svg);
    expect(pointsOf(svg)).toHaveLength(2);
    expect(svg.match(/<circle/g)).toHaveLength(2);
    expect(svg).not.toMatch(/validation|best:|class="phase"/);
  });

  test("says where perturbed texts begin, from the epoch before on, and marks the first of equally good epochs", () => {
    const train: [number, number][] = [
      [2, 0.5],
      [1, 0.9],
      [1.5, 0.7],
      [1.2, 0.8],
      [1, 0.8],
    ];
    const svg = renderChart(reports(train, train, 3), "m");
    checkXml(svg);
    // Epoch 2 of 5 is at a quarter of 304.
    expect([...svg.matchAll(/class="phase" x="([\d.]+)" y="52" width="([\d.]+)"/g)].map(([, ...at]) => at)).toEqual([
      ["128", "228"],
      ["128", "228"],
    ]);
    expect(svg.match(/from epoch 3 on, texts/g)).toHaveLength(2);
    expect(svg.match(/>best: epoch \d/g)).toEqual([
      ">best: epoch 2",
      ">best: epoch 2",
      ">best: epoch 2",
      ">best: epoch 2",
    ]);
    expect(renderChart(reports(train, train, 1), "m")).toContain('class="phase" x="52" y="52" width="304"');
  });

  test("last values that are close keep apart", () => {
    const svg = renderChart(
      reports(
        [
          [1, 0.5],
          [0.5, 0.9],
        ],
        [
          [1, 0.5],
          [0.501, 0.901],
        ],
      ),
      "m",
    );
    const at = [...svg.matchAll(/class="last \w+" x="[^"]+" y="([\d.]+)"/g)].map(([, y]) => Number(y));
    expect([at[1]! - at[0]!, at[3]! - at[2]!]).toEqual([14, 14]);
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
          expect(x >= 52 && x <= 356).toBe(true);
          expect(y >= 52 && y <= 260).toBe(true);
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
