// `calibrate`, and `train --valid`: the same labels, scores that fit them better, a rule that loses
// no more right answers than asked, on files of every form; and what is refused.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { calibrate, describeRule, type Calibration, renderCalibration } from "../../../host/training/calibration.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import { openModel } from "../../../host/model/file.ts";
import type { Sample } from "../../../host/data/dataset.ts";
import { packModel } from "../../../host/model/pack.ts";
import { measureCurve } from "../../../host/report/rejection-curve.ts";
import { importGolden } from "../../support/golden.ts";
import { samples, trainTiny } from "../../support/models.ts";
import { describeShared, sharedPath } from "../../support/shared.ts";
import { edgelabel } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-calibrate-"));
const at = (name: string): string => join(folder, name);
const halves: Sample[] = samples.flatMap(({ label, text }) =>
  [text.split(" ").slice(0, 2).join(" "), text.split(" ").slice(1).join(" ")].map((half) => ({
    label,
    text: half,
    line: 1,
  })),
);
const outside = ["order a pizza", "two plus two", "xyzzy plugh", "good morning"].map((text) => ({
  label: "other",
  text,
  line: 1,
}));
const tsv = (list: readonly Sample[]): string => list.map(({ label, text }) => `${label}\t${text}\n`).join("");

beforeAll(async () => {
  const trainer = await trainTiny({ epochs: 12 });
  writeFileSync(at("tiny.elb"), trainer.write("training"));
  writeFileSync(at("tiny.wasm"), await packModel(trainer.write("int8")));
  writeFileSync(at("train.tsv"), tsv(samples));
  writeFileSync(at("valid.tsv"), tsv([...halves, ...outside]));
  writeFileSync(at("known.tsv"), tsv(halves));
  writeFileSync(at("outside.tsv"), tsv(outside));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("a model is calibrated", () => {
  test("its labels stay, its loss on the texts falls, and the scores are those of the temperature", async () => {
    const elb = new Uint8Array(readFileSync(at("tiny.elb")));
    const before = await Classifier.fromBytes(elb, "tiny");
    const { elb: changed, calibration } = await calibrate(elb, [...halves, ...outside], { source: "tiny" });
    const after = await Classifier.fromBytes(changed, "tiny");
    expect(calibration).toMatchObject({
      n: halves.length,
      reject: { score: 0, margin: 0, unknown_share: 1 },
      rejected: { right: 0, wrong: 0, unknown: 0 },
    });
    expect(calibration.answers).toMatchObject({ unknown: outside.length });
    expect(after.info.temperature).toBeCloseTo(calibration.temperature, 5);
    const loss = (classifier: Classifier): number =>
      halves.reduce((sum, { label, text }) => sum - Math.log(classifier.classify(text, 0).scores[label]!), 0) /
      halves.length;
    expect(calibration.log_loss!.before).toBeCloseTo(loss(before), 4);
    expect(calibration.log_loss!.after).toBeCloseTo(loss(after), 4);
    expect(calibration.log_loss!.after).toBeLessThan(calibration.log_loss!.before);
    for (const { text } of [...halves, ...outside])
      expect(after.classify(text).label).toBe(before.classify(text).label);
  });

  test("twice gives the same as once", async () => {
    const once = await calibrate(new Uint8Array(readFileSync(at("tiny.elb"))), halves, {
      unknownShare: 0.1,
      source: "tiny",
    });
    const twice = await calibrate(once.elb, halves, { unknownShare: 0.1, source: "tiny" });
    expect(twice.calibration).toEqual(once.calibration);
    expect(Buffer.from(twice.elb).equals(once.elb)).toBe(true);
  });

  test("with texts of its labels only", async () => {
    await expect(calibrate(new Uint8Array(readFileSync(at("tiny.elb"))), outside, { source: "tiny" })).rejects.toThrow(
      'no text has a label of the model; its labels are "light", "music", "weather"',
    );
  });
});

describe("edgelabel calibrate", () => {
  test('from and to a deployable; rejected texts are "?" and the rule loses no more right answers than asked', async () => {
    const { code, stdout, stderr } = await edgelabel([
      "calibrate",
      at("tiny.wasm"),
      at("valid.tsv"),
      "--unknown",
      "0.1",
      "-o",
      at("known.wasm"),
      "--json",
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const report = JSON.parse(stdout) as Calibration & { file: string; bytes: number };
    expect(report).toMatchObject({ file: at("known.wasm"), bytes: readFileSync(at("known.wasm")).length });
    expect(report.rejected.right).toBeLessThanOrEqual(0.1 * report.answers.right);
    expect(report.rejected.wrong + report.rejected.unknown).toBeGreaterThan(0);
    const classifier = await openModel(at("known.wasm"));
    const rejected = [...halves, ...outside].filter(({ text }) => classifier.classify(text).label === null);
    expect(rejected).toHaveLength(report.rejected.right + report.rejected.wrong + report.rejected.unknown);
    const lines = (await edgelabel(["predict", at("known.wasm"), ...rejected.map(({ text }) => text)])).stdout
      .trimEnd()
      .split("\n");
    expect(lines.every((line) => line.startsWith("?\t"))).toBe(true);
    expect((await edgelabel(["info", at("known.wasm")])).stdout).toContain(
      `temperature ${classifier.info.temperature}; unknown: ${describeRule(classifier.info.reject)}`,
    );
  });

  test("without --unknown no answer is unknown any more", async () => {
    await edgelabel(["calibrate", at("tiny.elb"), at("known.tsv"), "--unknown", "0.3", "-o", at("strict.elb")]);
    expect((await openModel(at("strict.elb"))).info.reject).not.toEqual({ score: 0, margin: 0, unknown_share: 1 });
    const { stdout } = await edgelabel(["calibrate", at("strict.elb"), at("known.tsv"), "-o", at("open.elb")]);
    expect(stdout).toMatch(
      /^.*open\.elb: [\d.]+ KB\ntemperature \d\.\d{3}, from 36 texts: log loss [\d.]+ -> [\d.]+, calibration error [\d.]+ % -> [\d.]+ %\n$/,
    );
    expect((await openModel(at("open.elb"))).info.reject).toEqual({ score: 0, margin: 0, unknown_share: 1 });
  });

  test.each([
    [["calibrate", "m.elb"]],
    [["calibrate", "m.elb", "x.tsv"]],
    [["calibrate", "m.elb", "x.tsv", "-o", "n.elb", "--unknown", "1"]],
    [["calibrate", "m.elb", "x.tsv", "-o", "n.txt"]],
    [["train", "x.tsv", "-o", "n.elb", "--unknown", "0.1"]],
    [["train", "x.tsv", "-o", "n.elb", "--valid", "x.tsv", "--set", "calibrate=false", "--unknown", "0.1"]],
  ])("ends with 2 on misuse: %j", async (args) => {
    expect(await edgelabel([...args])).toMatchObject({ code: 2, stdout: "" });
  });
});

describe("edgelabel train", () => {
  const small = ["--set", "embedding-dim=12", "--set", "units=8", "--epochs", "6", "--seed", "3", "--name", "x"];

  test("calibrates on its --valid texts, unless told not to", async () => {
    const report = JSON.parse(
      (
        await edgelabel([
          "train",
          at("train.tsv"),
          "--valid",
          at("known.tsv"),
          "-o",
          at("a.elb"),
          "--unknown",
          "0.2",
          "--json",
          ...small,
        ])
      ).stdout,
    );
    expect(report.calibration).toMatchObject({ n: halves.length });
    expect(report.calibration.rejected.right).toBeLessThanOrEqual(0.2 * report.calibration.answers.right);
    expect((await openModel(at("a.elb"))).info.temperature).toBeCloseTo(report.calibration.temperature, 5);
    const plain = JSON.parse(
      (
        await edgelabel([
          "train",
          at("train.tsv"),
          "--valid",
          at("known.tsv"),
          "-o",
          at("b.elb"),
          "--set",
          "calibrate=false",
          "--json",
          ...small,
        ])
      ).stdout,
    );
    expect(plain.calibration).toBeNull();
    const [calibrated, asTrained] = [readFileSync(at("a.elb")), readFileSync(at("b.elb"))];
    // The header's settings apart it is the same file.
    expect(calibrated.subarray(128).equals(asTrained.subarray(128))).toBe(true);
    expect((await openModel(at("b.elb"))).info).toMatchObject({
      temperature: 1,
      reject: { score: 0, margin: 0, unknown_share: 1 },
    });
  });

  test("keeps the model when it cannot be calibrated, or its chart cannot be written", async () => {
    await edgelabel(["train", at("train.tsv"), "-o", at("plain.elb"), ...small]);
    const { label } = (await openModel(at("plain.elb"))).classify(samples[0]!.text);
    writeFileSync(
      at("wrong.tsv"),
      tsv([{ ...samples[0]!, label: samples.find((sample) => sample.label !== label)!.label }]),
    );
    const { code, stderr } = await edgelabel([
      "train",
      at("train.tsv"),
      "--valid",
      at("wrong.tsv"),
      "--unknown",
      "0.2",
      "-o",
      at("kept.elb"),
      ...small,
    ]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining("kept.elb is written without calibration\nedgelabel: no text was answered right"),
    ]);
    // No file has a name of that length, which shows only when it is written.
    expect(
      await edgelabel([
        "train",
        at("train.tsv"),
        "-o",
        at("charted.elb"),
        "--chart",
        at(`${"x".repeat(252)}.svg`),
        ...small,
      ]),
    ).toMatchObject({ code: 1, stderr: expect.stringContaining(".svg: cannot be written") });
    for (const name of ["kept.elb", "charted.elb"])
      expect(readFileSync(at(name)).equals(readFileSync(at("plain.elb")))).toBe(true);
  });

  test("a run that was stopped and goes on is calibrated as one that never stopped", async () => {
    const valid = ["--valid", at("known.tsv"), "--unknown", "0.2"];
    await edgelabel(["train", at("train.tsv"), ...valid, "-o", at("whole.elb"), ...small]);
    await edgelabel(["train", at("train.tsv"), ...valid, "-o", at("part.elb"), "--stop-after", "2", ...small]);
    await edgelabel(["train", at("train.tsv"), ...valid, "-o", at("rest.elb"), "--resume", at("part.elb")]);
    expect(readFileSync(at("rest.elb")).equals(readFileSync(at("whole.elb")))).toBe(true);
    await edgelabel(["train", at("train.tsv"), "-o", at("bare.elb"), ...small]);
    await edgelabel(["train", at("train.tsv"), "-o", at("rest.elb"), "--resume", at("part.elb")]);
    expect(readFileSync(at("rest.elb")).equals(readFileSync(at("bare.elb")))).toBe(true);
  });
});

describeShared("the snips model that Keras trained, on texts that it has not seen", () => {
  const read = (set: string): Sample[] =>
    readFileSync(sharedPath("data", set, "test.tsv"), "utf8")
      .split("\n")
      .filter(Boolean)
      .map((line, i) => {
        const [label, text] = line.split("\t") as [string, string];
        return { label, text, line: i + 1 };
      });

  test("what was calibrated on one half of them holds on the other half, and texts of another domain are told from them", async () => {
    const elb = await importGolden("model-snips");
    const texts = read("snips");
    const SHARE = 0.1;
    const { elb: calibrated, calibration } = await calibrate(
      elb,
      texts.filter((_, i) => i % 2 === 0),
      { unknownShare: SHARE, source: "snips" },
    );
    expect(calibration.rejected.right).toBeLessThanOrEqual(SHARE * calibration.answers.right);
    const outside = read("hwu64").map((sample) => ({ ...sample, label: `outside ${sample.label}` }));
    const { info } = await Classifier.fromBytes(calibrated, "snips");
    const curve = await measureCurve(calibrated, info, [...texts.filter((_, i) => i % 2 === 1), ...outside], "snips");
    process.stdout.write(
      `snips: temperature ${info.temperature}, calibration error ${curve.calibration_error!.before.toFixed(4)} -> ${curve.calibration_error!.after.toFixed(4)}, rejected ${JSON.stringify(
        curve.rejected,
      )} of ${JSON.stringify(curve.answers)}, AUROC ${curve.auroc!.toFixed(3)}\n`,
    );
    const { answers, rejected } = curve;
    // Three standard deviations of a share of so many texts.
    const deviation = 3 * Math.sqrt((SHARE * (1 - SHARE)) / answers.right);
    expect(rejected.right / answers.right).toBeLessThan(SHARE + deviation);
    expect(rejected.right / answers.right).toBeGreaterThan(SHARE - 2 * deviation);
    expect(rejected.wrong / answers.wrong).toBeGreaterThan(2 * SHARE);
    expect(rejected.unknown / answers.unknown).toBeGreaterThan(4 * SHARE);
    expect(curve.auroc).toBeGreaterThan(0.8);
    // Trained without label smoothing, this model is calibrated nearly as it comes, and must stay so.
    expect(curve.log_loss!.after).toBeLessThan(curve.log_loss!.before + 0.01);
    expect(curve.calibration_error!.after).toBeLessThan(0.03);
  });
});

test("in words", () => {
  const figures = {
    n: 10,
    temperature: 0.5,
    log_loss: { before: 0.5, after: 0.25 },
    calibration_error: { before: 0.1, after: 0.01 },
  };
  expect(
    renderCalibration({
      ...figures,
      reject: { score: 0.75, margin: 0.5, unknown_share: 0.3333 },
      answers: { right: 8, wrong: 2, unknown: 0 },
      rejected: { right: 1, wrong: 2, unknown: 0 },
    }),
  ).toBe(
    "temperature 0.500, from 10 texts: log loss 0.5000 -> 0.2500, calibration error 10.0 % -> 1.0 %\n" +
      "unknown: score below 0.750, lead below 0.500, more than 33 % of the words unknown; rejects 12.5 % of 8 right answers, 100.0 % of 2 wrong answers\n",
  );
  const none = { right: 0, wrong: 0, unknown: 0 };
  expect(
    renderCalibration({
      n: 0,
      temperature: 1,
      log_loss: null,
      calibration_error: null,
      reject: { score: 0, margin: 0, unknown_share: 1 },
      answers: none,
      rejected: none,
    }),
  ).toBe("temperature 1: the scores come from no softmax and no sigmoid\n");
});
