// Integrated gradients: the twin takes the same midpoints, and there the derivative along each
// token's vector by central differences of the network in f64 (reference.ts).
import { describe, expect, test } from "vitest";
import * as abi from "../../../../assembly/abi.ts";
import { repair, setHeader } from "../../../support/model-file.ts";
import {
  Seeded,
  dense,
  dropout,
  embedding,
  lstm,
  makeModel,
  pool,
  trainTiny,
  type LayerShape,
  type ModelSpec,
} from "../../../support/models.ts";
import { network } from "../../../support/reference.ts";
import { loadWasm, type Exports } from "../../../support/wasm.ts";

const {
  LAYER_BIDIRECTIONAL: BOTH,
  LAYER_MASK_ZERO: MASK,
  LAYER_POOL_MAX: MAX,
  LAYER_POOL_MEAN: MEAN,
  LAYER_SEQUENCES: SEQUENCES,
} = abi;
const { ACTIVATION_RELU, ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX } = abi;

const words = Array.from({ length: 9 }, (_, i) => `w${i}`);
const T = 8;
const BEST = 0xffffffff;

function open(file: Uint8Array): Exports {
  const wasm = loadWasm("trainer");
  const at = wasm["reserveFile"](file.length); // it may grow the memory, which replaces its buffer
  new Uint8Array(wasm.memory.buffer, at).set(file);
  expect(wasm["openFile"](file.length)).toBe(abi.OK);
  expect(wasm["prepareGradients"]()).toBe(abi.OK);
  return wasm;
}

function integrate(
  wasm: Exports,
  text: string,
  label: number,
  steps: number,
): { label: number; score: number; base: number; shares: number[] } {
  const bytes = new TextEncoder().encode(text);
  new Uint8Array(wasm.memory.buffer, wasm["inputPtr"]()).set(bytes);
  expect(wasm["integrateGradients"](label, bytes.length, steps)).toBe(abi.OK);
  const shares = Array.from({ length: wasm["pieceCount"]() }, (_, i) => wasm["pieceShare"](i) as number);
  return { label: wasm["explainedLabel"](), score: wasm["explainedScore"](), base: wasm["baseScore"](), shares };
}

const cases: [string, LayerShape[], Partial<ModelSpec>?, number?][] = [
  [
    "masked, both directions and pools",
    [
      embedding(5, MASK),
      dropout(0.3),
      lstm(6, BOTH | SEQUENCES),
      pool(MAX | MEAN),
      dropout(0.5),
      dense(3, ACTIVATION_SOFTMAX),
    ],
  ],
  [
    "masked, padding behind",
    [embedding(5, MASK), lstm(6), dense(3, ACTIVATION_SOFTMAX)],
    { tokenizer: { padPost: true } },
  ],
  ["padding that is read", [embedding(4), lstm(6), dense(3, ACTIVATION_SOFTMAX)]],
  [
    "padding that is read behind, stacked",
    [embedding(4), lstm(6, SEQUENCES), lstm(5, BOTH), dense(7, ACTIVATION_RELU), dense(3, ACTIVATION_SOFTMAX)],
    { tokenizer: { padPost: true } },
  ],
  ["one unit for two labels", [embedding(4, MASK), lstm(6), dense(1, ACTIVATION_SIGMOID)], { labels: ["a", "b"] }],
  ["a temperature", [embedding(4, MASK), lstm(6), dense(3, ACTIVATION_SOFTMAX)], {}, 2.5],
];

describe("as central differences at the same midpoints", () => {
  test.each(cases)("%s", async (_name, layers, changes = {}, temperature = 1) => {
    const random = new Seeded(6);
    const model = await makeModel({ words, labels: ["a", "b", "c"], layers, ...changes }, (_, length) =>
      random.floats(length, 0.9),
    );
    const file = model.write("f32");
    setHeader(file, "temperature", temperature);
    const wasm = open(repair(file));
    const width = layers[0]!.units!;
    const tensors = model.tensors.map((tensor, i) =>
      i < model.tensors.length - 2 ? tensor : tensor.map((value) => value / temperature),
    );
    /** Score of `label` when token t's vector is scales[t] times its own. */
    const score = (ids: readonly number[], label: number, scales: readonly number[]): number => {
      const own = [0, ...ids].flatMap((id, row) =>
        Array.from(
          { length: width },
          (_, k) => model.tensors[0]![id * width + k]! * (row === 0 ? 1 : scales[row - 1]!),
        ),
      );
      const padding = Array.from({ length: T - ids.length }, () => [0]);
      const tokens = ids.map((_, i) => [i + 1]);
      const scores = network(
        model.layers,
        [own, ...tensors.slice(1)],
        changes.tokenizer?.padPost ? [...tokens, ...padding] : [...padding, ...tokens],
      );
      return scores.length === 1 ? (label === 1 ? scores[0]! : 1 - scores[0]!) : scores[label]!;
    };
    const H = 1e-4;
    for (const [length, steps] of [
      [0, 3],
      [1, 1],
      [3, 5],
      [6, 4],
      [T, 3],
    ] as const) {
      // Few words, so that some repeat and share what the forward pass computes.
      const ids = Array.from({ length }, () => 1 + random.below(3));
      for (let label = 0; label < (changes.labels ?? "abc").length; label++) {
        const found = integrate(wasm, ids.map((id) => words[id - 1]).join(" "), label, steps);
        const expected = ids.map((_, t) => {
          let sum = 0;
          for (let i = 0; i < steps; i++) {
            const at = (i + 0.5) / steps;
            const moved = (by: number): number =>
              score(
                ids,
                label,
                ids.map((_, other) => at + (other === t ? by : 0)),
              );
            sum += (moved(H) - moved(-H)) / (2 * H);
          }
          return sum / steps;
        });
        expect(found.shares).toHaveLength(length);
        expected.forEach((share, t) =>
          expect(Math.abs(share - found.shares[t]!), `token ${t} of ${length}`).toBeLessThan(3e-6),
        );
        expect(
          Math.abs(
            found.score -
              score(
                ids,
                label,
                ids.map(() => 1),
              ),
          ),
        ).toBeLessThan(2e-6);
        expect(
          Math.abs(
            found.base -
              score(
                ids,
                label,
                ids.map(() => 0),
              ),
          ),
        ).toBeLessThan(2e-6);
      }
    }
  });
});

test("the shares add up to score - base, with many steps; hashed words, letter pairs, repeated words and none; memory is given back", async () => {
  const wasm = open((await trainTiny()).write("training"));
  integrate(wasm, "x", BEST, 1);
  const memory = wasm.memory.buffer.byteLength;
  for (const text of ["please play some jazz in the bedroom", "lights lights dimmer", "", "打开 the light"]) {
    // Where a pool's maximum passes to another step the derivative jumps: the error falls as 1 / steps only.
    for (const [steps, most] of [
      [256, 5e-3],
      [2048, 5e-4],
    ] as const) {
      const { score, base, shares } = integrate(wasm, text, BEST, steps);
      expect(Math.abs(shares.reduce((sum, share) => sum + share, 0) - (score - base))).toBeLessThan(most);
    }
  }
  expect(wasm.memory.buffer.byteLength).toBe(memory);
});

test("refuses what cannot be", async () => {
  const file = (await trainTiny({ epochs: 1 })).write("f32");
  const wasm = loadWasm("trainer");
  expect(wasm["integrateGradients"](0, 0, 8)).toBe(abi.ERR_BAD_STATE);
  expect(wasm["prepareGradients"]()).toBe(abi.ERR_BAD_STATE);
  const opened = open(file);
  expect(opened["integrateGradients"](0, 0, 0)).toBe(abi.ERR_BAD_ARGUMENT);
  expect(opened["integrateGradients"](0, abi.TEXT_CAPACITY + 1, 8)).toBe(abi.ERR_TEXT_TOO_LONG);
});
