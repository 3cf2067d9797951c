// `eval --curve`: every point against a count by hand over what the model answers, the areas over
// all texts and pairs, before and after calibration; and the command's table, JSON and chart.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { calibrate } from "../../../host/training/calibration.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import type { Sample } from "../../../host/data/dataset.ts";
import type { Evaluation } from "../../../host/report/evaluation.ts";
import { packModel } from "../../../host/model/pack.ts";
import { measureCurve, type RejectionCurve, renderCurve } from "../../../host/report/rejection-curve.ts";
import { samples, trainTiny } from "../../support/models.ts";
import { edgelabel } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-curve-"));
const at = (name: string): string => join(folder, name);
const known: Sample[] = samples.flatMap(({ label, text }) =>
  [text.split(" ").slice(0, 2).join(" "), text.split(" ").slice(1).join(" ")].map((half) => ({
    label,
    text: half,
    line: 1,
  })),
);
const outside: Sample[] = ["order a pizza", "two plus two", "xyzzy plugh", "good morning", "is it"].map((text) => ({
  label: "other",
  text,
  line: 1,
}));
const texts = [...known, ...outside];

let elb: Uint8Array;
let classifier: Classifier;
let curve: RejectionCurve;

beforeAll(async () => {
  ({ elb } = await calibrate((await trainTiny({ epochs: 12 })).write("int8"), texts, {
    unknownShare: 0.1,
    source: "tiny",
  }));
  classifier = await Classifier.fromBytes(elb, "tiny");
  curve = await measureCurve(elb, classifier.info, texts, "tiny");
  writeFileSync(at("tiny.wasm"), await packModel(elb));
  writeFileSync(at("texts.tsv"), texts.map(({ label, text }) => `${label}\t${text}\n`).join(""));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Best label and score of each text, the model's own rule left aside: the first of "scores" is the best. */
function answers(): { right: boolean; known: boolean; score: number }[] {
  return texts.map(({ label, text }) => {
    const { scores, score } = classifier.classify(text, 1);
    return { right: Object.keys(scores)[0] === label, known: label !== "other", score };
  });
}

/** Scores are rendered with 6 decimals. */
const EPSILON = 1e-6;

test("points: what a threshold leaves, and how much of it is right", () => {
  const all = answers();
  expect(curve.points[0]).toMatchObject({ coverage: 1 });
  expect(curve.points.length).toBeGreaterThan(20);
  for (const { threshold, coverage, accuracy } of curve.points) {
    const kept = all.filter(({ score }) => score >= threshold - EPSILON);
    expect(coverage).toBeCloseTo(kept.length / all.length, 12);
    expect(accuracy).toBeCloseTo(kept.filter(({ right }) => right).length / kept.length, 12);
  }
  for (let i = 1; i < curve.points.length; i++) {
    expect(curve.points[i]!.threshold).toBeGreaterThan(curve.points[i - 1]!.threshold);
    expect(curve.points[i]!.coverage).toBeLessThan(curve.points[i - 1]!.coverage);
  }
});

test("points: one for each percent of more than a hundred texts", async () => {
  const words = [...new Set(samples.flatMap(({ text }) => text.split(" ")))];
  const byScore = new Map<number, string>();
  for (const first of words)
    for (const second of words) {
      const text = `${first} ${second}`;
      const { score } = classifier.classify(text, 1);
      if (byScore.size < 250 && !byScore.has(score)) byScore.set(score, text);
    }
  const many = [...byScore.values()].map((text) => ({ label: "light", text, line: 1 }));
  expect(many).toHaveLength(250);
  const { points } = await measureCurve(elb, classifier.info, many, "tiny");
  expect(points.map(({ coverage }) => Math.round(coverage * 250))).toEqual(
    Array.from({ length: 100 }, (_, i) => Math.ceil(2.5 * (100 - i))),
  );
  // The threshold is the score of the last text that keeps its answer.
  const scores = [...byScore.keys()].sort((a, b) => b - a);
  for (const { threshold, coverage } of points)
    expect(threshold).toBeCloseTo(scores[Math.round(coverage * 250) - 1]!, 5);
});

test("areas: over all texts, and over all pairs of a known and an unknown one", () => {
  const all = answers();
  const risks = all.map(({ score }) => {
    const kept = all.filter((other) => other.score >= score - EPSILON / 2);
    return kept.filter(({ right }) => !right).length / kept.length;
  });
  expect(curve.aurc).toBeCloseTo(risks.reduce((sum, risk) => sum + risk, 0) / risks.length, 9);
  const pairs = all
    .filter(({ known }) => known)
    .flatMap((a) =>
      all
        .filter(({ known }) => !known)
        .map((b): number => (Math.abs(a.score - b.score) < EPSILON / 2 ? 0.5 : a.score > b.score ? 1 : 0)),
    );
  expect(curve.auroc).toBeCloseTo(pairs.reduce((sum, win) => sum + win, 0) / pairs.length, 9);
});

test("the model's rule and temperature are those of its file, and calibration shows", async () => {
  expect(curve.temperature).toBe(classifier.info.temperature);
  const rejected = texts.filter(({ text }) => classifier.classify(text).label === null).length;
  expect(curve.rejected.right + curve.rejected.wrong + curve.rejected.unknown).toBe(rejected);
  expect(curve.answers.unknown).toBe(outside.length);
  expect(curve.log_loss!.after).toBeLessThan(curve.log_loss!.before);
  const loss =
    known.reduce((sum, { label, text }) => sum - Math.log(classifier.classify(text, 0).scores[label]!), 0) /
    known.length;
  expect(curve.log_loss!.after).toBeCloseTo(loss, 4);
  expect((await measureCurve(elb, classifier.info, known, "tiny")).auroc).toBeNull();
});

describe("edgelabel eval --curve", () => {
  const run = (...args: string[]) => edgelabel(["eval", at("tiny.wasm"), at("texts.tsv"), ...args]);

  test("JSON: the evaluation as ever, with the rejected texts, and the curve", async () => {
    const report = JSON.parse((await run("--curve", "--json")).stdout) as Evaluation & { curve: RejectionCurve };
    expect(report.curve).toEqual(curve);
    const { right, wrong, unknown } = curve.rejected;
    expect(report.rejected.reduce((sum, n) => sum + n, 0)).toBe(right + wrong + unknown);
    expect(report.accuracy).toBeCloseTo((curve.answers.right - right) / texts.length, 12);
    expect(report.coverage).toBeCloseTo(1 - (right + wrong + unknown) / texts.length, 12);
    expect(report.labels).toEqual(["light", "music", "weather", "other"]);
    expect(JSON.parse((await run("--json")).stdout)).not.toHaveProperty("curve");
  });

  test("a table for people, and a chart", async () => {
    const { stdout, code } = await run("--curve", "--chart", at("curve.svg"));
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /\n    threshold   coverage   accuracy of the answers given\n( +0\.\d{6} +[\d.]+ % +[\d.]+ %\n){9}\narea under the risk-coverage curve/,
    );
    expect(stdout).toMatch(
      /\nrule for unknown texts: .*; rejects \d+ of \d+ right answers, \d+ of \d+ wrong answers, \d+ of 5 texts of other labels\n$/,
    );
    expect(readFileSync(at("curve.svg"), "utf8")).toContain("tiny: 41 texts</text>");
  });

  test("a chart needs the curve", async () => {
    expect(await run("--chart", at("x.svg"))).toMatchObject({ code: 2, stdout: "" });
  });
});

describe("the picture", () => {
  const picture = (reject: RejectionCurve["reject"], rejected: RejectionCurve["rejected"]): string =>
    renderCurve(
      {
        ...curve,
        points: [
          { threshold: 0.5, coverage: 1, accuracy: 0.9 },
          { threshold: 0.75, coverage: 0.5, accuracy: 0.95 },
          { threshold: 1, coverage: 0.25, accuracy: 1 },
        ],
        answers: { right: 90, wrong: 6, unknown: 4 },
        reject,
        rejected,
      },
      "<m>",
    );
  const score = { score: 0.6, margin: 0, unknown_share: 1 };
  const ten = { right: 2, wrong: 4, unknown: 4 };

  test("has coverage and accuracy over the threshold, from 0 to 1", () => {
    const svg = picture(score, ten);
    const [coverage, accuracy] = Array.from(svg.matchAll(/<polyline [^>]*points="([^"]*)"/g), ([, points]) =>
      points!.split(" ").map((point) => point.split(",").map(Number)),
    );
    // 640 wide from 52, and 208 high from 260 upwards.
    expect(coverage).toEqual([
      [372, 52],
      [532, 156],
      [692, 208],
    ]);
    expect(accuracy!.map(([x]) => x)).toEqual([372, 532, 692]);
    expect(accuracy!.map(([, y]) => y)).toEqual([72.8, 62.4, 52]);
    expect(svg).toContain("&lt;m&gt;");
  });

  test("marks the threshold of the model's rule, and says what the rule does", () => {
    const svg = picture(score, ten);
    expect(svg).toContain('<line class="mark" x1="436" y1="52" x2="436" y2="260"/>');
    // It leaves 90 of 100 texts, of which 88 are right.
    const at = Array.from(svg.matchAll(/<circle class="mark" cx="436" cy="([\d.]+)"/g), ([, y]) => Number(y));
    expect(at).toEqual([72.8, 56.62]);
    expect(svg).toContain(
      "The model rejects: score below 0.600. It answers 90 % of the texts, and 97.78 % of these answers are right.",
    );
  });

  test("a rule of another kind is where a threshold answers as many texts, and no rule is nowhere", () => {
    const margin = picture({ score: 0, margin: 0.1, unknown_share: 1 }, { right: 32, wrong: 4, unknown: 4 });
    // 60 of 100 are answered, more than from 0.75 on.
    expect(margin).toContain('<line class="mark" x1="372" y1="52" x2="372" y2="260"/>');
    expect(margin).toContain("the model&#39;s rule answers as many");
    expect(margin).toContain("The model rejects: lead below 0.100. It answers 60 % of the texts, and 96.67 %");
    const none = picture({ score: 0, margin: 0, unknown_share: 1 }, { right: 0, wrong: 0, unknown: 0 });
    expect(none).not.toContain('class="mark"');
    expect(none).toContain("The model rejects no text; of its answers, 90 % are right.");
  });

  test("a rule that leaves nothing has figures, too", () => {
    expect(picture(score, { right: 90, wrong: 6, unknown: 4 })).toContain("It answers 0 % of the texts, and 0 %");
  });
});
