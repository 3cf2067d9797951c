// Integrated gradients: the twin takes the same midpoints, and there the derivative along each
// token's vector by central differences of the network in f64 (reference.ts).
import { describe, expect, test } from "vitest";
import * as abi from "../../../../assembly/abi.ts";
import { bucketsOf, LABELS, readPart } from "../../../support/linear-part.ts";
import { partAt, repair, setHeader, write } from "../../../support/model-file.ts";
import {
  Seeded,
  dense,
  dropout,
  embedding,
  lstm,
  minGru,
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
  [
    "minGRU, both directions and pools",
    [embedding(5, MASK), minGru(6, BOTH | SEQUENCES), pool(MAX | MEAN), dense(3, ACTIVATION_SOFTMAX)],
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

test.each([false, true])(
  "the shares add up to score - base, with many steps; hashed words, letter pairs, repeated words and none; memory is given back; linear part %s",
  async (linear) => {
    const wasm = open((await trainTiny({ linear })).write("training"));
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
  },
);

test("a linear part's shares are those of its tokens, half of each pair", async () => {
  const file = (await trainTiny({ epochs: 1, linear: true })).write("f32");
  setHeader(file, "temperature", 1.5);
  // Of the network, nothing is left.
  write(file, partAt(file, "linear").offset + 12, "f32", 0);
  const part = readPart(file);
  const wasm = open(repair(file));
  const tokens = ["turn", "on", "zebra", "the", "light"];
  const ids = tokens.map((token) => part.words.get(token));
  const rowsOf = (t: number): number[] => {
    const id = ids[t];
    return id !== undefined ? [id - 1] : bucketsOf(tokens[t]!, part.buckets).map((bucket) => part.words.size + bucket);
  };
  const pairOf = (t: number): number[] => {
    const pair = part.pairs.get(`${ids[t - 1]} ${ids[t]}`);
    return t > 0 && pair !== undefined ? [pair] : [];
  };
  const sum = (rows: number[], factor: number): number[] =>
    LABELS.map((_, k) => factor * rows.reduce((total, row) => total + part.rows[row]![k]!, 0));
  const square = tokens.reduce((total, _, t) => {
    const rows = [...rowsOf(t), ...pairOf(t)].reduce((squares, row) => squares + part.squares[row]!, 0);
    return total + rows + (ids[t] === undefined ? part.strange : 0) + (t > 0 && !pairOf(t).length ? part.strange : 0);
  }, 0);
  const scale = 1 / Math.sqrt(square) / 1.5;
  const added = tokens.map((_, t) => {
    const parts = [sum(rowsOf(t), scale), sum(pairOf(t), scale / 2), sum(pairOf(t + 1), scale / 2)];
    return LABELS.map((_, k) => parts.reduce((total, one) => total + one[k]!, 0));
  });
  const softmax = (a: number): number[] => {
    const powers = LABELS.map((_, k) =>
      Math.exp(part.bias[k]! / 1.5 + a * added.reduce((total, one) => total + one[k]!, 0)),
    );
    return powers.map((power) => power / powers.reduce((x, y) => x + y));
  };
  const STEPS = 7;
  const expected = added.map((one) =>
    Array.from({ length: STEPS }, (_, i) => softmax((i + 0.5) / STEPS)).reduce(
      (total, p) => total + (p[1]! * (one[1]! - one.reduce((mean, value, k) => mean + p[k]! * value, 0))) / STEPS,
      0,
    ),
  );
  expect(pairOf(1).length + pairOf(4).length).toBeGreaterThan(0);
  const { shares, score, base } = integrate(wasm, tokens.join(" "), 1, STEPS);
  expected.forEach((share, t) => expect(shares[t]).toBeCloseTo(share, 5));
  expect([base, score].map((value) => value)).toEqual([
    expect.closeTo(softmax(0)[1]!, 5),
    expect.closeTo(softmax(1)[1]!, 5),
  ]);
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
