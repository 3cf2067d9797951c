// The minGRU's inner loops against plain twins: packed order, activated gates in f32 and Q15, and the scans,
// the one in Q15 bit for bit. Then what gates.ts keeps: the same bits as computing it anew, whatever was read before.
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import type { ModelForm } from "../../../host/training/trainer.ts";
import { dense, embedding, loadFile, makeModel, minGru, pool, scoresOf, Seeded } from "../../support/models.ts";
import { sigmoid } from "../../support/reference.ts";
import { f32, loadWasm, put, type Exports } from "../../support/wasm.ts";

const UNITS = [1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 64];
const groupsOf = (units: number): number => 2 * Math.ceil(units / 16);
/** A position of the packed order -> gate and unit, from the picture in mingru.ts. */
const unpacked = (p: number): { gate: number; unit: number } => ({ gate: (p >> 2) & 1, unit: 4 * (p >> 3) + (p & 3) });

test("gateRow tells the row of each position, and -1 where the units are filled up", () => {
  const wasm = loadWasm("testing");
  for (const units of UNITS) {
    expect(wasm["gateGroups"](units)).toBe(groupsOf(units));
    const rows = Array.from({ length: 16 * groupsOf(units) }, (_, p) => wasm["gateRow"](p, units) as number);
    expect(rows).toEqual(
      rows.map((_, p) => (unpacked(p).unit < units ? unpacked(p).gate * units + unpacked(p).unit : -1)),
    );
    expect(rows.filter((row) => row >= 0).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 2 * units }, (_, i) => i),
    );
  }
});

describe.each([false, true])("activated gates, in Q15: %s", (isQ15) => {
  test("are 1 - u and u g of bias + scale * product", () => {
    const wasm = loadWasm("testing");
    const groups = 4;
    const random = new Seeded(7);
    let worst = 0;
    for (const [magnitude, scale] of [
      [1, 1],
      [6, 0.5],
      [1e4, 1],
    ] as const) {
      const product = random.floats(16 * groups, magnitude);
      const bias = random.floats(16 * groups, 1);
      const to = put(wasm, new Float32Array(16 * groups));
      wasm["activateGates"](put(wasm, product), scale, put(wasm, bias), to, groups, isQ15);
      const found = isQ15
        ? Array.from(new Int16Array(wasm.memory.buffer, to, 16 * groups), (value) => value / 32768)
        : [...f32(wasm, to, 16 * groups)];
      // Powers of two of z: e^-u = 2^z.
      const z = [...product].map((value, p) => bias[p]! + Math.fround(scale * value));
      for (let unit = 0; unit < 8 * groups; unit++) {
        const at = 8 * (unit >> 2) + (unit & 3);
        const update = sigmoid(z[at]! * Math.LN2 * -1);
        const candidate = Math.tanh((z[at + 4]! * Math.LN2) / -2);
        const [factor, addend] = isQ15
          ? [found[16 * (unit >> 3) + (unit & 7)]!, found[16 * (unit >> 3) + 8 + (unit & 7)]!]
          : [found[at]!, found[at + 4]!];
        worst = Math.max(worst, Math.abs(factor - (1 - update)), Math.abs(addend - update * candidate));
      }
    }
    console.log(`activated gates, ${isQ15 ? "Q15" : "f32"}: worst error ${worst.toExponential(2)}`);
    // What rounds to 1 is one unit less; else half a unit and the error of the exponentials.
    expect(worst).toBeLessThan(isQ15 ? 1.01 / 32768 : 1e-6);
    expect(worst).toBeGreaterThan(0);
  });
});

// --- scans --------------------------------------------------------------------------

interface Scanned {
  last: number[];
  largest: number[];
  mean: number[];
  states: number[][];
}

/** factors and addends (steps, units), whole numbers of Q15. */
function scanTwin(factors: number[][], addends: number[][], units: number, isBackward: boolean): Scanned {
  const saturate = (value: number): number => Math.max(-32768, Math.min(32767, value));
  let h = Array<number>(units).fill(0);
  const states: number[][] = [];
  const order = factors.map((_, t) => t);
  for (const t of isBackward ? order.reverse() : order) {
    h = h.map((value, u) =>
      saturate(saturate(Math.floor((factors[t]![u]! * value + 16384) / 32768)) + addends[t]![u]!),
    );
    states[t] = h;
  }
  const each = (of: (values: number[]) => number): number[] =>
    h.map((_, u) => (states.length ? of(states.map((state) => state[u]!)) : 0));
  const share = Math.fround(Math.fround(1 / 32768) / Math.fround(states.length));
  return {
    last: h.map((value) => value / 32768),
    largest: each((values) => Math.max(...values) / 32768),
    mean: each((values) => Math.fround(Math.fround(values.reduce((sum, value) => sum + value, 0)) * share)),
    states: states.map((state) => state.map((value) => value / 32768)),
  };
}

function scan(
  wasm: Exports,
  rows: ArrayBufferView[],
  groups: number,
  isBackward: boolean,
  isQ15: boolean,
  shift: number,
): Scanned {
  const addresses = rows.map((row) => put(wasm, row) - shift);
  const units = 8 * groups;
  const result = (length: number): number => put(wasm, new Float32Array(length).fill(9));
  const gates = put(wasm, Uint32Array.from([...addresses, 0]));
  const [last, largest, mean] = [result(units), result(units), result(units)];
  const states = result(units * rows.length);
  wasm["scanSteps"](gates, rows.length, isBackward, shift, groups, last, largest, mean, states, 4 * units, isQ15);
  return {
    last: [...f32(wasm, last, units)],
    largest: [...f32(wasm, largest, units)],
    mean: [...f32(wasm, mean, units)],
    states: rows.map((_, t) => [...f32(wasm, states + 4 * units * t, units)]),
  };
}

describe.each([false, true])("the scan, backward: %s", (isBackward) => {
  test.each([0, 1, 2, 9, 300])("in Q15 is the integer twin, bit for bit: %i steps", (steps) => {
    const wasm = loadWasm("testing");
    const random = new Seeded(steps + 1);
    for (const groups of [2, 4, 10]) {
      const units = 8 * groups;
      const extremes = [-32768, 32767, 0, 1, -1];
      const any = (): number => (random.below(8) === 0 ? random.pick(extremes) : random.below(65536) - 32768);
      const [factors, addends] = [0, 1].map(() =>
        Array.from({ length: steps }, () => Array.from({ length: units }, any)),
      ) as [number[][], number[][]];
      const rows = factors.map((row, t) =>
        Int16Array.from({ length: 2 * units }, (_, i) => {
          const unit = 8 * (i >> 4) + (i & 7);
          return i & 8 ? addends[t]![unit]! : row[unit]!;
        }),
      );
      expect(scan(wasm, rows, groups, isBackward, true, 64)).toEqual(scanTwin(factors, addends, units, isBackward));
    }
  });

  test("in f32 rounds each operation once", () => {
    const wasm = loadWasm("testing");
    const random = new Seeded(3);
    const [groups, steps] = [4, 7];
    const units = 8 * groups;
    const rows = Array.from({ length: steps }, () => random.floats(2 * units, 0.5));
    const found = scan(wasm, rows, groups, isBackward, false, 0);
    let h = Array<number>(units).fill(0);
    const states: number[][] = [];
    const order = rows.map((_, t) => t);
    for (const t of isBackward ? order.reverse() : order) {
      h = h.map((value, u) => {
        const at = 8 * (u >> 2) + (u & 3);
        return Math.fround(Math.fround(rows[t]![at]! * value) + rows[t]![at + 4]!);
      });
      states[t] = h;
    }
    expect(found.states).toEqual(states);
    expect(found.last).toEqual(h);
    expect(found.largest).toEqual(h.map((_, u) => Math.max(...states.map((state) => state[u]!))));
    found.mean.forEach((value, u) =>
      expect(value).toBeCloseTo(states.reduce((sum, state) => sum + state[u]!, 0) / steps, 6),
    );
  });
});

// --- what is kept -------------------------------------------------------------------

describe.each<ModelForm>(["f32", "int8", "int8-weights"])("%s: what is kept", (form) => {
  const model = (steps: number, units = 5): ReturnType<typeof makeModel> =>
    makeModel(
      {
        words: Array.from({ length: 20 }, (_, i) => `w${i}`),
        labels: ["a", "b", "c"],
        layers: [
          embedding(6, abi.LAYER_MASK_ZERO),
          minGru(units, abi.LAYER_BIDIRECTIONAL | abi.LAYER_SEQUENCES),
          pool(abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN),
          dense(3, abi.ACTIVATION_SOFTMAX),
        ],
        tokenizer: { sequenceLength: steps, ngramBuckets: 500, ngramMin: 2, ngramMax: 4 },
      },
      (_, length) => new Seeded(length).floats(length, 0.7),
    );
  const open = (file: Uint8Array): Exports => {
    const wasm = loadWasm("testing");
    expect(loadFile(wasm, file)).toBe(abi.OK);
    return wasm;
  };
  /** Words that are not in the vocabulary, all different. */
  const strange = (count: number, from = 0): string =>
    Array.from({ length: count }, (_, i) => `x${((from + i) * 7919).toString(36)}y`).join(" ");

  test("gives the same bits as computing it anew, when there are more words than slots, too", async () => {
    const file = (await model(40)).write(form);
    const [kept, anew] = [open(file), open(file)];
    expect(kept["keepsTables"]()).toBe(1);
    const slots = kept["keptSlots"]() as number;
    expect(slots).toBeGreaterThan(2 * 40);
    const texts = Array.from(
      { length: Math.ceil((1.5 * slots) / 40) },
      (_, i) => `w3 ${strange(39, 39 * i)} w${i % 20}`,
    );
    for (const text of [...texts, ...texts.slice(0, 20), "w1", strange(2), ""]) {
      anew["forgetTables"]();
      expect(scoresOf(kept, text)).toEqual(scoresOf(anew, text));
    }
  });

  test("has room for every step of a text, and then for other texts; memory does not grow", async () => {
    const wasm = open((await model(4096)).write(form));
    expect(wasm["keptSlots"]()).toBeGreaterThanOrEqual(2 * 4096);
    const before = wasm.memory.buffer.byteLength;
    const first = scoresOf(wasm, strange(5000));
    for (let i = 1; i < 4; i++) scoresOf(wasm, strange(5000, 5000 * i));
    expect(scoresOf(wasm, strange(5000))).toEqual(first);
    expect(wasm.memory.buffer.byteLength).toBe(before);
  });

  test("survives the 2^32nd text", async () => {
    const wasm = open((await model(8)).write(form));
    const text = `w1 ${strange(5)}`;
    const first = scoresOf(wasm, text);
    wasm["numberTexts"](0xfffffffe);
    for (let i = 0; i < 4; i++) expect(scoresOf(wasm, text)).toEqual(first);
  });
});
