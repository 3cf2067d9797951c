// Temperature: the twin has the logits from the network in f64 (reference.ts) with a linear last
// layer, and finds the least loss by trying a fine grid. Of the file only the settings change.
import { describe, expect, test } from "vitest";
import * as abi from "../../../../assembly/abi.ts";
import { Calibrator, NO_REJECTION } from "../../../../host/training/calibrator.ts";
import { headerFields, read } from "../../../support/model-file.ts";
import {
  Seeded,
  dense,
  embedding,
  loadFile,
  lstm,
  makeModel,
  pool,
  scoresOf,
  trainTiny,
  type LayerShape,
  type MadeModel,
} from "../../../support/models.ts";
import { network, pad, softmax, sigmoid } from "../../../support/reference.ts";
import { loadWasm } from "../../../support/wasm.ts";

const {
  ACTIVATION_LINEAR,
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  LAYER_MASK_ZERO: MASK,
  LAYER_POOL_MAX: MAX,
  LAYER_SEQUENCES: SEQUENCES,
} = abi;
const words = Array.from({ length: 15 }, (_, i) => `w${i}`);
const N = 120;

interface Case {
  model: MadeModel;
  calibrator: Calibrator;
  logits: number[][];
  labels: number[];
  activation: number;
}

/** A model of large weights, and texts whose labels are often the most likely one, sometimes any. */
async function collected(layers: LayerShape[], labelCount: number, seed: number, noise: number): Promise<Case> {
  const random = new Seeded(seed);
  const model = await makeModel({ words, labels: ["a", "b", "c", "d"].slice(0, labelCount), layers }, (_, length) =>
    random.floats(length, 1.5),
  );
  const calibrator = await Calibrator.open(model.write("f32"), "case");
  expect(calibrator.startLogits()).toBe(true);
  const activation = layers.at(-1)!.activation!;
  const linear = model.layers.map((layer, i) =>
    i === model.layers.length - 1 ? { ...layer, activation: ACTIVATION_LINEAR } : layer,
  );
  const logits: number[][] = [];
  const labels: number[] = [];
  for (let i = 0; i < N; i++) {
    const ids = Array.from({ length: 1 + random.below(8) }, () => 1 + random.below(words.length));
    const row = network(linear, model.tensors, pad(ids, 8));
    const best = row.length === 1 ? (row[0]! > 0 ? 1 : 0) : row.indexOf(Math.max(...row));
    const label = random.next() < noise ? random.below(labelCount) : best;
    calibrator.addLogits(label, ids.map((id) => words[id - 1]).join(" "));
    logits.push(row);
    labels.push(label);
  }
  return { model, calibrator, logits, labels, activation };
}

/** Mean loss in f64; targets are smoothed by `smoothing`. */
function lossAt({ logits, labels, activation }: Case, temperature: number, smoothing = 0): number {
  const losses = logits.map((row, i) => {
    const label = labels[i]!;
    const z = row.map((value) => value / temperature);
    if (activation === ACTIVATION_SOFTMAX) {
      const p = softmax(z);
      return -p.reduce(
        (sum, value, k) => sum + ((k === label ? 1 - smoothing : 0) + smoothing / p.length) * Math.log(value),
        0,
      );
    }
    const terms = z.map((value, k) => {
      const y = (row.length === 1 ? label === 1 : label === k) ? 1 - smoothing / 2 : smoothing / 2;
      return -y * Math.log(sigmoid(value)) - (1 - y) * Math.log(1 - sigmoid(value));
    });
    return terms.reduce((sum, term) => sum + term, 0) / terms.length;
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

function errorAt({ logits, labels, activation }: Case, temperature: number): number {
  const bins = Array.from({ length: 15 }, () => ({ n: 0, score: 0, hits: 0 }));
  logits.forEach((row, i) => {
    const z = row.map((value) => value / temperature);
    const scores =
      activation === ACTIVATION_SOFTMAX
        ? softmax(z)
        : row.length === 1
          ? [1 - sigmoid(z[0]!), sigmoid(z[0]!)]
          : z.map(sigmoid);
    const best = scores.indexOf(Math.max(...scores));
    const bin = bins[Math.min(14, Math.floor(scores[best]! * 15))]!;
    bin.n++;
    bin.score += scores[best]!;
    if (best === labels[i]) bin.hits++;
  });
  return bins.reduce(
    (sum, { n, score, hits }) => sum + (n ? (n / logits.length) * Math.abs(score / n - hits / n) : 0),
    0,
  );
}

const layersOf = (units: number, activation: number): LayerShape[] => [embedding(4), lstm(6), dense(units, activation)];
const cases: [string, LayerShape[], number, number][] = [
  ["softmax, overconfident", layersOf(4, ACTIVATION_SOFTMAX), 4, 0.6],
  ["softmax, too modest", layersOf(3, ACTIVATION_SOFTMAX), 3, 0.02],
  ["one sigmoid for two labels", layersOf(1, ACTIVATION_SIGMOID), 2, 0.3],
  ["a sigmoid for each label", layersOf(3, ACTIVATION_SIGMOID), 3, 0.5],
];

describe("temperature", () => {
  test.each(cases)(
    "%s: losses and errors as the twin has them, and none is smaller on a fine grid",
    async (_name, layers, labelCount, noise) => {
      for (const seed of [1, 2, 3]) {
        const each = await collected(layers, labelCount, seed, noise);
        for (const temperature of [0.3, 1, 2.5, 10]) {
          expect(each.calibrator.logLoss(temperature)).toBeCloseTo(lossAt(each, temperature), 5);
          expect(each.calibrator.calibrationError(temperature)).toBeCloseTo(errorAt(each, temperature), 5);
        }
        const fitted = each.calibrator.fitTemperature();
        const grid = Array.from({ length: 2000 }, (_, i) => Math.exp(-Math.log(20) + (2 * Math.log(20) * i) / 1999));
        const losses = grid.map((temperature) => lossAt(each, temperature, 1 / (N + 2)));
        const best = grid[losses.indexOf(Math.min(...losses))]!;
        expect(lossAt(each, fitted, 1 / (N + 2))).toBeLessThanOrEqual(Math.min(...losses) + 1e-6);
        expect(Math.abs(Math.log(fitted / best))).toBeLessThan(0.02);
      }
    },
  );

  test("texts that are all answered right do not make it run to its end", async () => {
    const each = await collected(layersOf(4, ACTIVATION_SOFTMAX), 4, 5, 0);
    const fitted = each.calibrator.fitTemperature();
    expect(fitted).toBeGreaterThan(0.06);
    expect(fitted).toBeLessThan(1);
  });

  test("refuses a last layer without softmax and sigmoid, a temperature that is set, and labels that the model lacks", async () => {
    const relu = await makeModel(
      { words, labels: ["a", "b", "c"], layers: layersOf(3, ACTIVATION_RELU) },
      (_, length) => new Float32Array(length),
    );
    expect((await Calibrator.open(relu.write("f32"), "relu")).startLogits()).toBe(false);
    const calibrator = await Calibrator.open((await trainTiny({ epochs: 1 })).write("int8"), "tiny");
    calibrator.change(2, NO_REJECTION);
    expect(calibrator.startLogits()).toBe(false);
    calibrator.change(1, NO_REJECTION);
    expect(calibrator.startLogits()).toBe(true);
    expect(() => calibrator.addLogits(3, "x")).toThrow("label that the model lacks");
    expect(() => calibrator.change(0, NO_REJECTION)).toThrow("outside its range");
    expect(() => calibrator.change(1, { score: 1.5, margin: 0, unknown_share: 1 })).toThrow("outside its range");
  });
});

describe("the changed file", () => {
  test("has other settings and another checksum, and every other byte is as it was", async () => {
    const trainer = await trainTiny();
    for (const form of ["training", "f32", "int8", "int8-weights"] as const) {
      const before = trainer.write(form);
      const calibrator = await Calibrator.open(before, form);
      expect(Buffer.from(calibrator.file()).equals(before)).toBe(true);
      const rule = { score: 0.25, margin: 0.125, unknown_share: 0.5 };
      calibrator.change(1.75, rule);
      const after = calibrator.file();
      const changed = headerFields
        .filter(({ offset, type }) => read(before, offset, type) !== read(after, offset, type))
        .map(({ name, offset, type }) => [name, read(after, offset, type)]);
      expect(changed.filter(([name]) => name !== "checksum")).toEqual([
        ["temperature", 1.75],
        ["rejectScore", 0.25],
        ["rejectMargin", 0.125],
        ["rejectUnknown", 0.5],
      ]);
      expect(changed.map(([name]) => name)).toContain("checksum");
      expect(Buffer.from(after.subarray(128)).equals(before.subarray(128))).toBe(true);
      calibrator.change(1, NO_REJECTION);
      expect(Buffer.from(calibrator.file()).equals(before)).toBe(true);
    }
  });

  test("scores as its logits say at the temperature, with the same labels", async () => {
    const random = new Seeded(12);
    const layers = [embedding(5, MASK), lstm(6, SEQUENCES), pool(MAX), dense(4, ACTIVATION_SOFTMAX)];
    const model = await makeModel({ words, labels: ["a", "b", "c", "d"], layers }, (_, length) =>
      random.floats(length, 1),
    );
    const linear = model.layers.map((layer, i) =>
      i === layers.length - 1 ? { ...layer, activation: ACTIVATION_LINEAR } : layer,
    );
    const calibrator = await Calibrator.open(model.write("f32"), "model");
    for (const temperature of [0.05, 0.5, 3, 20]) {
      calibrator.change(temperature, NO_REJECTION);
      const wasm = loadWasm("testing");
      expect(loadFile(wasm, calibrator.file())).toBe(abi.OK);
      for (let i = 0; i < 30; i++) {
        const ids = Array.from({ length: random.below(9) }, () => 1 + random.below(words.length));
        const logits = network(linear, model.tensors, pad(ids, 8));
        const scores = scoresOf(wasm, ids.map((id) => words[id - 1]).join(" "));
        softmax(logits.map((value) => value / temperature)).forEach((score, k) =>
          expect(Math.abs(score - scores[k]!)).toBeLessThan(2e-5),
        );
        expect(scores.indexOf(Math.max(...scores))).toBe(logits.indexOf(Math.max(...logits)));
      }
    }
  });
});
