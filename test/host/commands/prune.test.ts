// `edgelabel prune` as a process: the file it writes, its report, what it refuses.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { edgelabel, json, LAMPS, SMALL } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-prune-"));
const at = (name: string): string => join(folder, name);
const lamps = [at("lamps.elb"), at("lamps.tsv"), "--valid", at("valid.tsv")];

beforeAll(async () => {
  writeFileSync(at("lamps.tsv"), LAMPS.join(""));
  writeFileSync(at("valid.tsv"), LAMPS.filter((_, i) => i % 4 === 0).join(""));
  await json("train", at("lamps.tsv"), "-o", at("lamps.elb"), "--set", "ngram-buckets=256", ...SMALL);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("a deployable with half the units and words, and its report", async () => {
  const report = await json("prune", ...lamps, "-o", at("small.wasm"), "--units", "4", "--words", "12");
  expect(report).toMatchObject({
    file: at("small.wasm"),
    before: { units: [8] },
    after: { units: [4], words: 12, bytes: readFileSync(at("small.wasm")).length },
  });
  expect(report.form).toMatch(/^int8/);
  expect(report.after.bytes).toBeLessThan(report.before.bytes);
  expect(report.before.words).toBeGreaterThan(12);
  expect(report.speed_ratio).toBeCloseTo(report.before.microseconds / report.after.microseconds, 10);
  const { accuracy } = await json("eval", at("small.wasm"), at("valid.tsv"));
  expect(report.after.accuracy).toBe(accuracy);
  expect(accuracy).toBeGreaterThan(0.9);
  const info = await json("info", at("small.wasm"));
  expect(info.tokenizer.words).toBe(12);
  expect(info.layers.find(({ kind }: { kind: string }) => kind === "lstm").output).toBe(8);
});

test("the .elb is plain f32, the same for the same seed, and can be pruned again", async () => {
  const once = await json("prune", ...lamps, "-o", at("once.elb"), "--units", "6", "--epochs", "1");
  expect(once).toMatchObject({ form: "f32", before: { units: [8] }, after: { units: [6] } });
  await json("prune", ...lamps, "-o", at("again.elb"), "--units", "6", "--epochs", "1");
  expect(readFileSync(at("again.elb")).equals(readFileSync(at("once.elb")))).toBe(true);
  const twice = await json(
    "prune",
    at("once.elb"),
    at("lamps.tsv"),
    "--valid",
    at("valid.tsv"),
    "-o",
    at("twice.elb"),
    "--units",
    "2",
    "--min-count",
    "9",
    "--epochs",
    "0",
  );
  expect(twice.before).toMatchObject({ units: [6], bytes: readFileSync(at("once.elb")).length });
  // "the" is there 48 times, "in" 32, "switch" and "light" 16; a room 6 times.
  expect(twice.after.units).toEqual([2]);
  expect(twice.after.words).toBeGreaterThan(3);
  expect(twice.after.words).toBeLessThan(8);
});

test("a calibrated model is calibrated again, and another one is not", async () => {
  await json("calibrate", at("lamps.elb"), at("valid.tsv"), "--unknown", "0.2", "-o", at("calibrated.elb"));
  for (const output of ["wary.elb", "wary.wasm"]) {
    const { calibration, after } = await json(
      "prune",
      at("calibrated.elb"),
      ...lamps.slice(1),
      "-o",
      at(output),
      "--units",
      "2",
      "--epochs",
      "0",
    );
    const info = await json("info", at(output));
    expect(info.temperature).toBeCloseTo(calibration.temperature, 5);
    expect(info.reject.score).toBeCloseTo(calibration.reject.score, 5);
    expect(info.temperature).not.toBe((await json("info", at("calibrated.elb"))).temperature);
    // An answer that is kept back is not right.
    const { n, answers, rejected } = calibration;
    expect([n, answers.right - rejected.right]).toEqual([12, Math.round(after.accuracy * 12)]);
  }
  const plain = await json("prune", ...lamps, "-o", at("plain.wasm"), "--units", "2", "--epochs", "0");
  expect([plain.calibration, (await json("info", at("plain.wasm"))).temperature]).toEqual([null, 1]);
});

test("people get a table", async () => {
  const { code, stdout } = await edgelabel(["prune", ...lamps, "-o", at("table.elb"), "--units", "4", "--epochs", "0"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/before +after\n/);
  expect(stdout).toMatch(/\nunits +8 +4\n/);
  expect(stdout).toMatch(/times as fast/);
  expect(stdout).toMatch(/\naccuracy( +[\d.]+ %){2}\n/);
});

describe("refuses, and writes nothing", () => {
  test.each<[string, string[], number, string | RegExp]>([
    ["to guess what to remove", [], 2, "say what to remove"],
    [
      "to remove nothing",
      ["--units", "8"],
      1,
      /lamps\.elb: nothing to remove; it has 8 units a direction and \d+ words/,
    ],
    ["no units", ["--units", "0"], 2, "whole number from 1"],
  ])("%s", async (_, args, code, message) => {
    const outcome = await edgelabel(["prune", ...lamps, "-o", at("none.elb"), ...args]);
    expect(outcome.code).toBe(code);
    expect(outcome.stderr).toMatch(message);
    expect(existsSync(at("none.elb"))).toBe(false);
  });
  test("labels that the model does not know", async () => {
    writeFileSync(at("dim.tsv"), `${LAMPS[0]}dim\tdim the hall\n`);
    for (const data of [
      [at("dim.tsv"), "--valid", at("valid.tsv")],
      [at("lamps.tsv"), "--valid", at("dim.tsv")],
    ]) {
      const { code, stderr } = await edgelabel([
        "prune",
        at("lamps.elb"),
        ...data,
        "-o",
        at("none.elb"),
        "--units",
        "4",
      ]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/lamps\.elb does not know the label "dim"; it knows "off", "on"/);
    }
  });
  test("to work without texts to measure on", async () => {
    const { code, stderr } = await edgelabel([
      "prune",
      at("lamps.elb"),
      at("lamps.tsv"),
      "-o",
      at("none.elb"),
      "--units",
      "4",
    ]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining("--valid") });
  });
  test("an int8 model", async () => {
    await json("quantize", at("lamps.elb"), "-o", at("int8.elb"));
    const { code, stderr } = await edgelabel([
      "prune",
      at("int8.elb"),
      at("lamps.tsv"),
      "--valid",
      at("valid.tsv"),
      "-o",
      at("none.elb"),
      "--units",
      "4",
    ]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("start from an f32 .elb file") });
  });
});
