// The ladder of the LSTM, rung by rung, against plain twins: activation, rounding, product,
// state. Integer products agree bit for bit; f32 ones within a bound that grows with K.
import { beforeEach, describe, expect, test } from "vitest";
import { cell, roundEven, sigmoid } from "../reference.ts";
import { Seeded } from "../models.ts";
import { type Exports, f32, loadWasm, put } from "../wasm.ts";

const UNITS = [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 63, 64];
const INPUTS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129, 1023, 1024];
const EPSILON = 2 ** -24;

let wasm: Exports;
beforeEach(() => { wasm = loadWasm("testing"); });

const ceil = (count: number, step: number): number => Math.ceil(count / step) * step;

describe("activations", () => {
  const grid = Float32Array.from({ length: 200_000 }, (_, i) => (i - 100_000) * 0.0009);
  test.each([
    ["expArray", Math.exp, 87, (y: number) => 2e-7 * y],
    ["sigmoidArray", sigmoid, 90, () => 1.2e-7],
    ["tanhArray", Math.tanh, 90, () => 2.4e-7],
  ] as const)("%s keeps its stated error", (name, exact, reach, bound) => {
    const xs = grid.filter((x) => Math.abs(x) <= reach);
    const at = put(wasm, xs);
    wasm[name](at, xs.length - (xs.length % 4));
    const ys = f32(wasm, at, xs.length - (xs.length % 4));
    const beyond = ys.findIndex((y, i) => !(Math.abs(y - exact(xs[i]!)) <= bound(exact(xs[i]!))));
    expect(beyond === -1 ? "" : `${name}(${xs[beyond]}) = ${ys[beyond]}`).toBe("");
  });

  test.each(["expArray", "sigmoidArray", "tanhArray"])("%s turns every input into a finite number", (name) => {
    const at = put(wasm, Float32Array.of(NaN, Infinity, -Infinity, 3e38, -3e38, 1e-45, -0, 88));
    wasm[name](at, 8);
    expect([...f32(wasm, at, 8)].every(Number.isFinite)).toBe(true);
  });
});

describe("packed order", () => {
  test.each(UNITS)("%i units: each row of z stands once, padding nowhere", (units) => {
    const rows = Array.from({ length: 4 * ceil(units, 4) }, (_, p) => wasm["packedRow"](p, units) as number);
    expect(rows.filter((row) => row >= 0).sort((a, b) => a - b)).toEqual(Array.from({ length: 4 * units }, (_, i) => i));
    // Position: group of 4 units, gate, lane.
    rows.forEach((row, p) => {
      const unit = Math.floor(p / 16) * 4 + (p % 4);
      expect(row).toBe(unit < units ? (Math.floor(p / 4) % 4) * units + unit : -1);
    });
  });
});

describe("Q14", () => {
  test("rounds to nearest, ties to even, over its whole range", () => {
    const random = new Seeded(1);
    const ties = Array.from({ length: 400 }, (_, i) => (i - 200 + 0.5) / 16384);
    const values = Float32Array.from([...ties, 1, -1, 0, -0, 0.99997, ...Array.from({ length: 3003 }, () => random.between(-1, 1))]);
    const at = put(wasm, values);
    const q14 = wasm["allocate"](values.length * 2 + 16) as number;
    wasm["quantizeState"](at, q14, values.length);
    expect([...new Int16Array(wasm.memory.buffer, q14, values.length)]).toEqual([...values].map((x) => roundEven(x * 16384) + 0));
  });
});

/** (4G rows, K) weights of packed positions and their layout in memory. */
function packS8(weights: number[][], pairs: number): Int8Array {
  const packed = new Int8Array(weights.length * pairs * 2);
  weights.forEach((row, p) => row.forEach((w, k) => { packed[((p >> 4) * pairs + (k >> 1)) * 32 + (p & 15) * 2 + (k & 1)] = w; }));
  return packed;
}

describe("projectS8", () => {
  const cases = INPUTS.flatMap((inputs) => [1, 2, 3, 8].map((groups) => [inputs, groups] as const));
  const check = (inputs: number, groups: number, weight: () => number, input: () => number) => {
    const pairs = (inputs + 1) >> 1;
    const weights = Array.from({ length: 16 * groups }, () => Array.from({ length: inputs }, weight));
    const x = new Int16Array(pairs * 2);
    for (let k = 0; k < inputs; k++) x[k] = input();
    const random = new Seeded(inputs);
    const scale = random.floats(16 * groups, 0.01);
    const base = random.floats(16 * groups, 2);
    const z = wasm["allocate"](64 * groups) as number;
    wasm["projectS8"](put(wasm, packS8(weights, pairs)), put(wasm, scale), put(wasm, base), put(wasm, x), pairs, groups, z);
    const expected = weights.map((row, p) => {
      const sum = row.reduce((total, w, k) => total + w * x[k]!, 0);
      expect(Math.abs(sum)).toBeLessThan(2 ** 31);
      // The sum is exact; f32 then rounds once a conversion, a product and an addition.
      return Math.fround(base[p]! + Math.fround(scale[p]! * Math.fround(sum)));
    });
    expect([...f32(wasm, z, 16 * groups)]).toEqual(expected);
  };

  test.each(cases)("%i inputs, %i groups: bit for bit", (inputs, groups) => {
    const random = new Seeded(inputs * 31 + groups);
    check(inputs, groups, () => random.below(255) - 127, () => random.below(32769) - 16384);
  });
  test.each([[127, 16384], [127, -16384], [-127, 16384], [-127, -16384], [0, 16384], [127, 0]])("extremes %i and %i at 1024 inputs", (weight, input) => {
    check(1024, 2, () => weight, () => input);
  });
});

describe("projectF32", () => {
  test.each(INPUTS)("%i inputs", (inputs) => {
    const groups = 3;
    const random = new Seeded(inputs);
    const weights = random.floats(16 * groups * inputs, 1); // [G][K][16]
    const x = random.floats(inputs, 1);
    const base = random.floats(16 * groups, 1);
    const z = wasm["allocate"](64 * groups) as number;
    wasm["projectF32"](put(wasm, weights), put(wasm, base), put(wasm, x), inputs, groups, z);
    f32(wasm, z, 16 * groups).forEach((value, p) => {
      const terms = Array.from(x, (xk, k) => xk * weights[((p >> 4) * inputs + k) * 16 + (p & 15)]!);
      const size = terms.reduce((sum, term) => sum + Math.abs(term), Math.abs(base[p]!));
      expect(Math.abs(value - terms.reduce((sum, term) => sum + term, base[p]!))).toBeLessThanOrEqual((inputs + 2) * EPSILON * size);
    });
  });
});

describe("updateState", () => {
  test.each(UNITS)("%i units: gates, cell and hidden state", (units) => {
    const wide = ceil(units, 4);
    const random = new Seeded(units);
    const z = Array.from({ length: 4 * units }, () => random.between(-6, 6));
    const c = Array.from({ length: units }, () => random.between(-2, 2));
    const packed = new Float32Array(4 * wide);
    for (let p = 0; p < 4 * wide; p++) {
      const row = wasm["packedRow"](p, units) as number;
      if (row >= 0) packed[p] = z[row]!;
    }
    const cAt = put(wasm, Float32Array.from({ length: wide }, (_, u) => c[u] ?? 0));
    const hAt = wasm["allocate"](wide * 4) as number;
    wasm["updateState"](put(wasm, packed), cAt, hAt, wide / 4);
    const expected = cell(z.map(Math.fround), c.map(Math.fround));
    const tolerance = 2e-6; // five activations of 2.4e-7, and c up to 8 in size
    f32(wasm, cAt, units).forEach((value, u) => expect(Math.abs(value - expected.c[u]!)).toBeLessThan(tolerance));
    f32(wasm, hAt, units).forEach((value, u) => expect(Math.abs(value - expected.h[u]!)).toBeLessThan(tolerance));
    // Padded units stay at rest.
    expect([...f32(wasm, hAt, wide)].slice(units).every((value) => value === 0)).toBe(true);
  });
});
