// Learning from corrections: what is accepted and what is not, the way back, and the command.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { calibrate, withCalibration } from "../../../host/training/calibration.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import type { Sample } from "../../../host/data/dataset.ts";
import { learn, LEARN_DEFAULTS, type LearnInput, type LearnOptions } from "../../../host/training/learn.ts";
import { NO_REJECTION } from "../../../host/training/calibrator.ts";
import { edgelabel, json, LAMPS, main, SMALL, withoutSeen } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-learn-"));
const at = (name: string): string => join(folder, name);
const samplesOf = (lines: readonly string[]): Sample[] =>
  lines.map((line, i) => ({ label: line.split("\t")[0]!, text: line.split("\t")[1]!.trim(), line: i + 1 }));
const linesOf = (samples: readonly Pick<Sample, "label" | "text">[]): string =>
  samples.map(({ label, text }) => `${label}\t${text}\n`).join("");

const ROOMS = ["kitchen", "bedroom", "hall", "garden", "office", "cellar", "attic", "garage"];
const said = (label: string, phrase: string, rooms = ROOMS): Sample[] =>
  rooms.map((room, i) => ({ label, text: phrase.replace("ROOM", room), line: i + 1 }));

const data = samplesOf(LAMPS);
const corrections = [
  ...said("on", "the ROOM needs everything", ROOMS.slice(0, 4)),
  ...said("off", "the ROOM needs nothing", ROOMS.slice(0, 4)),
];
const holdOut = [
  ...samplesOf(LAMPS.filter((_, i) => i % 5 === 0)),
  ...said("off", "the ROOM needs nothing", ROOMS.slice(4)),
];
const options: LearnOptions = { ...LEARN_DEFAULTS, learningRate: 0.01 };
let elb: Uint8Array;
const input = (changes: Partial<LearnInput> = {}): LearnInput => ({
  elb,
  source: "lamps.elb",
  corrections,
  data,
  validation: holdOut,
  ...changes,
});
const rightIn = async (model: Uint8Array, samples: readonly Sample[]): Promise<number> => {
  const classifier = await Classifier.fromBytes(model, "model");
  return samples.filter(({ label, text }) => classifier.classify(text).label === label).length;
};

beforeAll(async () => {
  writeFileSync(at("data.tsv"), LAMPS.join(""));
  writeFileSync(at("valid.tsv"), linesOf(holdOut));
  writeFileSync(at("fixes.tsv"), linesOf(corrections));
  const settings = ["ngram-buckets=256", "batch-size=32"].flatMap((setting) => ["--set", setting]);
  await json("train", at("data.tsv"), "-o", at("lamps.elb"), ...settings, "--set", "linear=false", ...SMALL);
  await json("train", at("data.tsv"), "-o", at("wide.elb"), ...settings, ...SMALL);
  elb = readFileSync(at("lamps.elb"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("learn", () => {
  test("takes what learns the corrections and is not worse on the hold-out, with figures of what is deployed", async () => {
    const { report, model } = await learn(input(), options);
    expect(report).toMatchObject({
      accepted: true,
      reason: "",
      version: "1+1",
      corrections: 8,
      rehearsed: 38,
      validated: holdOut.length,
      new_labels: [],
    });
    expect(report.before.corrected).toBeLessThan(6);
    expect(report.after!.corrected).toBe(8);
    expect(report.after!.accuracy).toBeGreaterThanOrEqual(report.before.accuracy);
    // 54 texts are 2 steps a pass: there are 60 passes, measured 12 times.
    expect(report.measured).toHaveLength(12);
    expect(await rightIn(model!.deployed, corrections)).toBe(8);
    expect(await rightIn(model!.deployed, holdOut)).toBe(Math.round(report.after!.accuracy * holdOut.length));
    const deployed = await Classifier.fromBytes(model!.deployed, "deployed");
    expect([deployed.version, deployed.info.form, deployed.info.resumable]).toEqual(["1+1", report.form, false]);
    // What it has learnt, it goes on from: nothing is left to learn.
    const again = await learn(input({ elb: model!.training }), options);
    expect(again.report).toMatchObject({
      accepted: false,
      version: "1+1",
      reason: "it answers all 8 corrections so already",
      measured: [],
      after: null,
    });
    expect(again.model).toBeNull();
    const more = await learn(
      input({ elb: model!.training, corrections: [...corrections, ...said("off", "nobody is in the ROOM")] }),
      options,
    );
    expect(more.report).toMatchObject({ accepted: true, version: "1+2" });
  });

  test("gives the same bits for the same seed, and others for another", async () => {
    const runs = await Promise.all([1, 1, 2].map((seed) => learn(input(), { ...options, seed })));
    const [one, again, other] = runs.map(({ model }) => model!.training);
    expect(again).toEqual(one);
    expect(other).not.toEqual(one);
  });

  test("refuses what the hold-out contradicts, and says what got worse", async () => {
    const wrong = said("off", "please light the ROOM");
    const { report, model } = await learn(
      input({ corrections: wrong, validation: data.filter((_, i) => i % 2 === 0) }),
      options,
    );
    expect(model).toBeNull();
    expect(report.reason).toMatch(
      /^the hold-out got worse: accuracy [\d.]+ %, loss [\d.]+ before, accuracy [\d.]+ %, loss [\d.]+ after$/,
    );
    const last = report.measured.at(-1)!;
    expect(last.corrected).toBeGreaterThan(report.before.corrected);
    expect(last.accuracy).toBeLessThan(report.before.accuracy);
  });

  test("lets the loss decide between equal accuracies", async () => {
    // Its one text stays right while its loss rises, since the corrections speak against its likes.
    const validation = said("on", "please light the ROOM", ["hall"]);
    const {
      report: { before, measured, accepted },
    } = await learn(input({ corrections: said("off", "please light the ROOM", ["attic", "garage"]), validation }), {
      ...options,
      epochs: 12,
    });
    const learnt = measured.filter(({ corrected, accuracy }) => corrected > before.corrected && accuracy === 1);
    expect(before.accuracy).toBe(1);
    expect(learnt.some(({ loss }) => loss > before.loss)).toBe(true);
    expect(learnt.some(({ loss }) => loss <= before.loss)).toBe(false);
    expect(accepted).toBe(false);
  });

  test("of two corrections of one text the later one counts; neither it nor the hold-out is rehearsed", async () => {
    const text = "please light the hall";
    const flip = [...corrections, { label: "on", text, line: 9 }, { label: "off", text, line: 10 }];
    const { report } = await learn(
      input({ corrections: flip, validation: said("on", "please light the ROOM", ["attic"]) }),
      options,
    );
    // 48 texts of the data but these two.
    expect(report).toMatchObject({ corrections: 9, rehearsed: 46 });
  });

  test("measures nothing on what it trains on: a corrected text of the hold-out counts as a correction only", async () => {
    const apart = await learn(input(), options);
    const leaking = await learn(input({ validation: [...holdOut, ...corrections] }), options);
    expect(leaking).toEqual(apart);
    await expect(learn(input({ validation: corrections }), options)).rejects.toThrow(
      "every held-out text is a correction too, so nothing is left to measure on; the hold-out needs other texts",
    );
  });

  test("knows its labels, unless new ones are allowed; then it learns them", async () => {
    const dim = [...corrections, ...said("dim", "the ROOM is half dark, please")];
    const validation = [...holdOut, ...said("dim", "half dark the ROOM")];
    await expect(learn(input({ corrections: dim }), options)).rejects.toThrow(
      'lamps.elb does not know the label "dim"; it knows "off", "on". Correct the data, allow it with --new-labels, or train anew with it',
    );
    const { report, model } = await learn(input({ corrections: dim, validation }), { ...options, newLabels: true });
    expect(report).toMatchObject({ accepted: true, new_labels: ["dim"] });
    const classifier = await Classifier.fromBytes(model!.deployed, "grown");
    expect(classifier.labels).toEqual(["off", "on", "dim"]);
    expect(await rightIn(model!.deployed, said("dim", "the ROOM is half dark, please"))).toBeGreaterThan(6);
    await expect(
      learn(input({ corrections: dim, validation: said("dimm", "ROOM") }), { ...options, newLabels: true }),
    ).rejects.toThrow('does not know the label "dimm"');
    // Later runs need no leave for it.
    await learn(input({ elb: model!.training, corrections: dim, validation }), options);
  });

  test("needs corrections, and a softmax for a third label; for two a sigmoid does", async () => {
    await expect(learn(input({ corrections: [] }), options)).rejects.toThrow(
      "there are no corrections for lamps.elb; give some with --corrections",
    );
    await json("train", at("data.tsv"), "-o", at("sigmoid.elb"), "--recipe", "tutorial", "--epochs", "1");
    const sigmoid = input({
      elb: readFileSync(at("sigmoid.elb")),
      source: "sigmoid.elb",
      corrections: said("dim", "the ROOM"),
    });
    await expect(learn(sigmoid, { ...options, newLabels: true })).rejects.toThrow(
      'sigmoid.elb has one sigmoid unit, which tells 2 labels apart; train anew with the label "dim"',
    );
    const { report } = await learn({ ...sigmoid, corrections }, options);
    expect(report).toMatchObject({ accepted: true, corrections: 8, new_labels: [], after: { corrected: 8 } });
  });
});

describe("a model with a linear part", () => {
  test("gets a new one, which has read the corrections, too; the same input gives the same bits", async () => {
    const wide = readFileSync(at("wide.elb"));
    const { report, model } = await learn(input({ elb: wide }), options);
    expect(report).toMatchObject({ accepted: true, after: { corrected: 8 } });
    expect(report.before.corrected).toBeLessThan(6);
    expect((await Classifier.fromBytes(model!.deployed, "deployed")).info.linear).toBeDefined();
    expect(await rightIn(model!.deployed, corrections)).toBe(8);
    expect((await learn(input({ elb: wide }), options)).model!.training).toEqual(model!.training);
  });

  test("learns a label that neither part knew", async () => {
    const dim = said("dim", "the ROOM is half dark, please");
    const changes = { corrections: dim, validation: [...holdOut, ...said("dim", "half dark the ROOM")] };
    const { report, model } = await learn(input({ ...changes, elb: readFileSync(at("wide.elb")) }), {
      ...options,
      newLabels: true,
    });
    expect(report).toMatchObject({ accepted: true, new_labels: ["dim"] });
    expect(await rightIn(model!.deployed, dim)).toBeGreaterThan(6);
  });
});

test("the linear part alone learns, and stays alone", async () => {
  await json("train", at("data.tsv"), "-o", at("linear.elb"), "--recipe", "linear");
  const { report, model } = await learn(input({ elb: readFileSync(at("linear.elb")) }), options);
  expect(report).toMatchObject({ accepted: true, after: { corrected: 8 } });
  expect((await Classifier.fromBytes(model!.deployed, "deployed")).info.linear).toMatchObject({ network_share: 0 });
});

describe("a calibrated model", () => {
  /** The old model with a temperature, and with a rule that keeps back a few right answers: up to the widest gap between scores. */
  const calibrated = async (): Promise<{ old: Uint8Array; keptBack: number }> => {
    const temperate = await withCalibration(elb, { temperature: 3, reject: NO_REJECTION }, "lamps");
    const classifier = await Classifier.fromBytes(temperate, "lamps");
    const scores = holdOut
      .map(({ label, text }) => ({ truth: label, ...classifier.classify(text) }))
      .filter(({ truth, label }) => truth === label)
      .map(({ score }) => score)
      .sort((a, b) => a - b);
    const gap = (i: number): number => scores[i]! - scores[i - 1]!;
    const keptBack = [1, 2, 3].reduce((best, i) => (gap(i) > gap(best) ? i : best));
    return {
      old: await withCalibration(
        temperate,
        { temperature: 3, reject: { ...NO_REJECTION, score: scores[keptBack]! - gap(keptBack) / 2 } },
        "lamps",
      ),
      keptBack,
    };
  };
  /** Right answers of a file as it is: how many, how many of them kept back, and the mean -log of the true labels' scores. */
  const figuresOf = async (model: Uint8Array): Promise<{ right: number; keptBack: number; loss: number }> => {
    const classifier = await Classifier.fromBytes(model, "model");
    const answers = holdOut.map(({ label, text }) => ({ truth: label, ...classifier.classify(text, 0) }));
    const right = answers.filter(({ truth, scores }) => scores[truth] === Math.max(...Object.values(scores)));
    return {
      right: right.length,
      keptBack: right.filter(({ label }) => label === null).length,
      loss: answers.reduce((sum, { truth, scores }) => sum - Math.log(scores[truth]!), 0) / answers.length,
    };
  };

  test("is calibrated again, both files alike, and its rule keeps back the same share of the right answers", async () => {
    const { old, keptBack } = await calibrated();
    const before = await figuresOf(old);
    expect(before.keptBack).toBe(keptBack);
    const { report, model } = await learn(input({ elb: old }), options);
    expect(report.accepted).toBe(true);
    expect(report.before.accuracy).toBeCloseTo((before.right - keptBack) / holdOut.length, 12);
    const after = await figuresOf(model!.deployed);
    expect(after.keptBack / after.right).toBeGreaterThan(0);
    // The asked share is that of half a text more, so that rounding down takes none away.
    expect(after.keptBack).toBeLessThanOrEqual(Math.floor(((keptBack + 0.5) / before.right) * after.right));
    expect(report.calibration).toMatchObject({ n: holdOut.length, rejected: { right: after.keptBack } });
    expect(report.after!.accuracy).toBeCloseTo((after.right - after.keptBack) / holdOut.length, 12);
    const [training, deployed] = await Promise.all(
      [model!.training, model!.deployed].map(async (file) => (await Classifier.fromBytes(file, "file")).info),
    );
    expect([training!.temperature, training!.reject]).toEqual([deployed!.temperature, deployed!.reject]);
    // What the old temperature would have made of the new weights.
    const stale = await withCalibration(model!.deployed, { temperature: 3, reject: NO_REJECTION }, "stale");
    expect(after.loss).toBeLessThan((await figuresOf(stale)).loss);
  });

  test("without a rule gets none, and one that was not calibrated stays so", async () => {
    const { elb: warm } = await calibrate(elb, holdOut, { source: "lamps" });
    const { report, model } = await learn(input({ elb: warm }), options);
    expect(report.calibration).toMatchObject({ reject: { score: 0, margin: 0, unknown_share: 1 } });
    expect((await Classifier.fromBytes(model!.deployed, "warm")).info.temperature).toBeCloseTo(
      report.calibration!.temperature,
      5,
    );
    const plain = await learn(input(), options);
    expect(plain.report.calibration).toBeNull();
    for (const file of Object.values(plain.model!))
      expect((await Classifier.fromBytes(file, "plain")).info).toMatchObject({
        temperature: 1,
        reject: { score: 0, margin: 0, unknown_share: 1 },
      });
  });

  test("is known by what is deployed, too", async () => {
    const { old } = await calibrated();
    const { report, model } = await learn(
      input({ deployed: (await Classifier.fromBytes(old, "deployed")).info }),
      options,
    );
    const same = await learn(input({ elb: old }), options);
    expect([report, model]).toEqual([same.report, same.model]);
  });

  test("that answers nothing of the hold-out right says so", async () => {
    const wrong = samplesOf(LAMPS.filter((line) => line.includes("please light"))).map((sample) => ({
      ...sample,
      label: "off",
    }));
    await expect(learn(input({ elb: (await calibrated()).old, validation: wrong }), options)).rejects.toThrow(
      "lamps.elb answers none of the 8 held-out texts right, so its rule for unknown texts cannot be fitted anew; take it off with: edgelabel calibrate",
    );
  });
});

describe("the command", () => {
  const sha = (name: string): string =>
    createHash("sha256")
      .update(readFileSync(at(name)))
      .digest("hex");
  const learning = [
    "--data",
    at("data.tsv"),
    "--valid",
    at("valid.tsv"),
    "-o",
    at("spam.wasm"),
    "--learning-rate",
    "0.01",
  ];

  test("learns, keeps the journal and the version before, and undoes it exactly", async () => {
    writeFileSync(at("spam.elb"), elb);
    await json("quantize", at("spam.elb"), "-o", at("spam.wasm"));
    const [elbBefore, wasmBefore] = [sha("spam.elb"), sha("spam.wasm")];
    const report = await json("learn", at("spam.elb"), "--corrections", at("fixes.tsv"), ...learning);
    expect(report).toMatchObject({ file: at("spam.elb"), accepted: true, corrections: 8, after: { corrected: 8 } });
    expect(sha("spam.previous.elb")).toBe(elbBefore);
    const after = await json("eval", at("spam.wasm"), at("spam.corrections.jsonl"));
    expect(after).toMatchObject({ n: 8, accuracy: 1 });
    expect((await json("eval", at("spam.wasm"), at("valid.tsv"))).accuracy).toBe(report.after.accuracy);
    expect(await json("info", at("spam.elb"))).toMatchObject({ version: "1+1", resumable: true });

    // Again with the same corrections: nothing to do, nothing changes, the journal does not grow.
    const journal = sha("spam.corrections.jsonl");
    const learnt = sha("spam.elb");
    const second = await edgelabel(["learn", at("spam.elb"), "--corrections", at("fixes.tsv"), ...learning]);
    expect([second.code, withoutSeen(second.stderr)]).toEqual([0, ""]);
    expect(second.stdout).toContain(`${at("spam.elb")}: version 1+1 stays: it answers all 8 corrections so already\n`);
    expect([sha("spam.corrections.jsonl"), sha("spam.elb"), sha("spam.previous.elb")]).toEqual([
      journal,
      learnt,
      elbBefore,
    ]);

    expect(await json("learn", at("spam.elb"), "-o", at("spam.wasm"), "--undo")).toEqual({
      restored: [at("spam.elb"), at("spam.wasm")],
    });
    expect([sha("spam.elb"), sha("spam.wasm")]).toEqual([elbBefore, wasmBefore]);
    const none = await edgelabel(["learn", at("spam.elb"), "--undo"]);
    expect([none.code, none.stderr]).toEqual([
      1,
      `edgelabel: there is nothing to undo: no ${at("spam.previous.elb")}\n`,
    ]);
    // What is refused is a failure, and changes nothing.
    writeFileSync(at("wrong.tsv"), linesOf(said("off", "please light the ROOM")));
    writeFileSync(at("half.tsv"), LAMPS.filter((_, i) => i % 2 === 0).join(""));
    writeFileSync(at("wrong.elb"), elb);
    const wrong = await edgelabel([
      "learn",
      at("wrong.elb"),
      "--corrections",
      at("wrong.tsv"),
      "--data",
      at("data.tsv"),
      "--valid",
      at("half.tsv"),
      "--learning-rate",
      "0.01",
    ]);
    expect(wrong.code).toBe(1);
    expect(withoutSeen(wrong.stderr)).toMatch(/^edgelabel: .*wrong\.elb stays as it is: the hold-out got worse: .*\n$/);
    expect([sha("wrong.elb"), existsSync(at("wrong.previous.elb"))]).toEqual([elbBefore, false]);
    // The journal has kept what is to be learnt.
    expect(await json("learn", at("spam.elb"), ...learning, "--model-version", "1.5")).toMatchObject({
      accepted: true,
      version: "1.5",
      corrections: 8,
    });
    expect(sha("spam.elb")).not.toBe(elbBefore);
  }, 120_000);

  test("does not let what is deployed take the training form's place", async () => {
    symlinkSync(folder, at("linked"));
    for (const output of [join(folder, ".", "lamps.elb"), at("linked/lamps.elb")]) {
      const { code, stderr } = await edgelabel([
        "learn",
        at("lamps.elb"),
        "--corrections",
        at("fixes.tsv"),
        "--data",
        at("data.tsv"),
        "--valid",
        at("valid.tsv"),
        "-o",
        output,
      ]);
      expect([code, stderr]).toEqual([2, "error: -o would overwrite the training form; choose another name\n"]);
    }
  });

  test("that finds no room leaves the model, and one whose reader has gone no lock", async () => {
    const learning = (name: string): string[] => [
      "learn",
      at(`${name}.elb`),
      "--corrections",
      at("fixes.tsv"),
      "--data",
      at("data.tsv"),
      "--valid",
      at("valid.tsv"),
      "-o",
      at(`${name}.wasm`),
      "--learning-rate",
      "0.01",
      "--json",
    ];
    for (const name of ["full", "unread"]) {
      writeFileSync(at(`${name}.elb`), elb);
      await json("quantize", at(`${name}.elb`), "-o", at(`${name}.wasm`));
    }
    const left = () =>
      readdirSync(folder)
        .filter((name) => /^\.?full\./.test(name))
        .sort();
    const files = [sha("full.elb"), sha("full.wasm")];
    // Room for the journal, but not for a model: 40 blocks of 1024 bytes.
    const full = spawnSync(
      "bash",
      ["-c", 'ulimit -f 40; exec "$0" "$@"', process.execPath, main, ...learning("full")],
      { encoding: "utf8" },
    );
    expect([full.status, withoutSeen(full.stderr)]).toEqual([
      1,
      expect.stringMatching(
        /^edgelabel: .*full\.previous\.elb: cannot be written \(EFBIG: .*\); the model stays as it was\n$/,
      ),
    ]);
    expect([sha("full.elb"), sha("full.wasm"), ...left()]).toEqual([
      ...files,
      "full.corrections.jsonl",
      "full.elb",
      "full.wasm",
    ]);

    const unread = spawn(process.execPath, [main, ...learning("unread")], { stdio: ["ignore", "pipe", "inherit"] });
    unread.stdout.destroy();
    expect((await once(unread, "exit"))[0]).toBe(0);
    expect(readdirSync(folder).filter((name) => name.includes(".lock."))).toEqual([]);
    expect(sha("unread.previous.elb")).toBe(files[0]);
  });

  test("names the journal where a label is that the model does not know, as after --undo", async () => {
    writeFileSync(at("undone.elb"), elb);
    writeFileSync(at("undone.corrections.jsonl"), '{"label":"dim","text":"dim the hall"}\n');
    const { code, stderr } = await edgelabel([
      "learn",
      at("undone.elb"),
      "--corrections",
      at("fixes.tsv"),
      "--data",
      at("data.tsv"),
      "--valid",
      at("valid.tsv"),
    ]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(
        `does not know the label "dim"; it knows "off", "on". Take it out of ${at("undone.corrections.jsonl")}, allow it with --new-labels, or train anew`,
      ),
    ]);
  });

  test("takes no label of the journal whose text was corrected again", async () => {
    writeFileSync(at("again.elb"), elb);
    writeFileSync(
      at("again.corrections.jsonl"),
      '{"label":"dim","text":"dim the hall"}\n{"label":"dim","text":"dim the attic"}\n{"label":"off","text":"dim the attic"}\n',
    );
    writeFileSync(at("again.tsv"), "off\tdim the hall\n");
    const report = await json(
      "learn",
      at("again.elb"),
      "--corrections",
      at("fixes.tsv"),
      at("again.tsv"),
      "--data",
      at("data.tsv"),
      "--valid",
      at("valid.tsv"),
      "--learning-rate",
      "0.01",
    );
    expect(report).toMatchObject({ corrections: 10, new_labels: [] });
  });

  test("takes a training form only, since it writes one in its place", async () => {
    const { code, stderr } = await edgelabel(["learn", at("lamps.wasm"), ...learning]);
    expect(code).toBe(2);
    expect(stderr).toContain("it takes the training form, an .elb");
    await json("quantize", at("lamps.elb"), "-o", at("int8.elb"));
    const int8 = await edgelabel(["learn", at("int8.elb"), "--corrections", at("fixes.tsv"), ...learning]);
    expect([int8.code, int8.stderr]).toEqual([1, expect.stringContaining("start from an f32 .elb file")]);
  });

  test.each([
    [["--corrections", "fixes.tsv"], 2, "it takes the texts to rehearse, with --data, and a hold-out, with --valid"],
    [["--data", "none.tsv", "--valid", "none.tsv"], 1, "none.tsv: no such file"],
    [["--data", at("data.tsv"), "--valid", at("valid.tsv")], 1, "there are no corrections for"],
    [["--epochs", "0"], 2, "whole number from 1"],
    [["--name", "lamps"], 2, "--name is for --registry"],
    [["--undo", "--registry", "r"], 2, "--undo restores files; in a registry go back with: "],
    [
      ["--registry", at("none"), "--data", at("data.tsv"), "--valid", at("valid.tsv")],
      1,
      'the registry has no model "lamps"; it has none',
    ],
    [["--model-version", ""], 2, "1 to 4096 bytes"],
  ])("%j: exit %i", async (args, code, message) => {
    const { code: got, stdout, stderr } = await edgelabel(["learn", at("lamps.elb"), ...args]);
    expect({ got, stdout }).toEqual({ got: code, stdout: "" });
    expect(stderr).toContain(message);
    expect(existsSync(at("lamps.corrections.jsonl"))).toBe(false);
  });
});
