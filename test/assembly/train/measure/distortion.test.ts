// What the quantization report says of each tensor, against sums in plain code over the
// weights and over what the int8 file of the model holds.
import { expect, test } from "vitest";
import * as abi from "../../../../assembly/abi.ts";
import { Classifier } from "../../../../host/model/classifier.ts";
import { distortions } from "../../../../host/training/quantization.ts";
import { Trainer } from "../../../../host/training/trainer.ts";
import { dense, dropout, embedding, lstm, minGru, makeModel, pool, Seeded } from "../../../support/models.ts";

const WORDS = ["one", "two", "three", "four", "five"];
const BOTH = abi.LAYER_BIDIRECTIONAL | abi.LAYER_SEQUENCES;
const LAYERS = [
  embedding(7, abi.LAYER_MASK_ZERO),
  dropout(0.2),
  lstm(5, BOTH),
  lstm(1, abi.LAYER_SEQUENCES),
  minGru(6, BOTH),
  pool(abi.LAYER_POOL_MAX),
  dense(4, abi.ACTIVATION_TANH),
  dense(3, abi.ACTIVATION_SOFTMAX),
];
/** Keras' shapes of the matrices; biases have one dimension. */
const SHAPES: Record<string, number[]> = {
  "embedding/embeddings": [6, 7],
  "lstm/forward/kernel": [7, 20],
  "lstm/forward/recurrent_kernel": [5, 20],
  "lstm/forward/bias": [20],
  "lstm/backward/kernel": [7, 20],
  "lstm/backward/recurrent_kernel": [5, 20],
  "lstm/backward/bias": [20],
  "lstm_1/kernel": [10, 4],
  "lstm_1/recurrent_kernel": [1, 4],
  "lstm_1/bias": [4],
  "mingru/forward/kernel": [1, 12],
  "mingru/forward/bias": [12],
  "mingru/backward/kernel": [1, 12],
  "mingru/backward/bias": [12],
  "dense/kernel": [12, 4],
  "dense/bias": [4],
  "dense_1/kernel": [4, 3],
  "dense_1/bias": [3],
};

async function report(
  fill: (index: number, length: number) => Float32Array,
): Promise<{ tensors: Float32Array[]; measured: ReturnType<typeof distortions>; int8: Uint8Array }> {
  const { tensors, write } = await makeModel({ words: WORDS, labels: ["x", "y", "z"], layers: LAYERS }, fill);
  const file = write("f32");
  const trainer = await Trainer.open(file, "model.elb");
  trainer.buildOpened();
  const { info } = await Classifier.fromBytes(file, "model.elb");
  return { tensors, measured: distortions(trainer, info), int8: trainer.write("int8") };
}

test("names, shapes, scales, errors and sizes", async () => {
  const random = new Seeded(3);
  const { tensors, measured, int8 } = await report((_, length) => random.floats(length, 0.9));
  expect(measured.map(({ name, shape }) => [name, shape])).toEqual(Object.entries(SHAPES));
  measured.forEach(({ name, shape, bits, scale, largest_error, snr_db, bytes_before }, i) => {
    const weights = tensors[i]!;
    expect(bytes_before).toBe(Math.ceil(weights.length / 4) * 16);
    if (name.endsWith("bias")) {
      expect({ bits, scale, largest_error, snr_db }).toEqual({ bits: 32, scale: null, largest_error: 0, snr_db: null });
      return;
    }
    const [rows, columns] = shape as [number, number];
    // A row of the int8 matrix is a word's vector, or all the weights into one unit.
    const groups = name.startsWith("embedding")
      ? Array.from({ length: rows }, (_, r) => [...weights.subarray(r * columns, (r + 1) * columns)])
      : Array.from({ length: columns }, (_, c) => Array.from({ length: rows }, (_, r) => weights[r * columns + c]!));
    const scales = groups.map((group) => Math.max(...group.map(Math.abs)) / 127);
    const errors = groups.flatMap((group, g) =>
      group.map((weight) => weight - Math.round(weight / scales[g]!) * scales[g]!),
    );
    const energy = (values: Iterable<number>): number => [...values].reduce((sum, value) => sum + value * value, 0);
    expect(bits).toBe(8);
    expect(scale![0]).toBeCloseTo(Math.min(...scales), 8);
    expect(scale![1]).toBeCloseTo(Math.max(...scales), 8);
    expect(largest_error).toBeCloseTo(Math.max(...errors.map(Math.abs)), 6);
    // Of a single weight a scale, nothing but the last bit of an f32 is lost.
    if (Math.max(...groups.map(({ length }) => length)) > 1)
      expect(snr_db).toBeCloseTo(10 * Math.log10(energy(weights) / energy(errors)), 3);
    else expect(snr_db ?? Infinity).toBeGreaterThan(120);
  });
  const { info } = await Classifier.fromBytes(int8, "int8.elb");
  expect(measured.reduce((sum, { bytes_after }) => sum + bytes_after, 0)).toBe(info.weight_bytes);
});

test("what int8 holds exactly has no error, and zeros have no ratio", async () => {
  const { measured } = await report((index, length) =>
    Float32Array.from({ length }, (_, k) => (index === 0 ? (k % 7 === 0 ? 127 : k % 3) : 0)),
  );
  expect(measured[0]).toMatchObject({ scale: [1, 1], largest_error: 0, snr_db: null });
  expect(measured[1]).toMatchObject({ bits: 8, scale: [1, 1], largest_error: 0, snr_db: null });
});

test("a tensor that is not there is refused", async () => {
  const trainer = await Trainer.open(
    (
      await makeModel(
        { words: WORDS, labels: ["x", "y", "z"], layers: LAYERS },
        (_, length) => new Float32Array(length),
      )
    ).write("f32"),
    "model.elb",
  );
  expect(() => trainer.measure(0)).toThrow("model.elb: tensor 0 cannot be measured");
  trainer.buildOpened();
  expect(() => trainer.measure(18)).toThrow("tensor 18");
});
