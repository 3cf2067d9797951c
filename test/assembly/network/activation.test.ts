// Activations against f64 over dense grids: the error bounds that activation.ts states,
// what happens at the ends of the range, and that NaN comes out as a number.
import { describe, expect, test } from "vitest";
import {
  ACTIVATION_LINEAR,
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
} from "../../../assembly/abi.ts";
import { Seeded } from "../../support/models.ts";
import { sigmoid, softmax } from "../../support/reference.ts";
import { f32, loadWasm, put } from "../../support/wasm.ts";

const wasm = loadWasm("testing");
const scratch = put(wasm, new Float32Array(1 << 16));

/** Applies an array function to values, in pieces that fit the scratch memory. */
function apply(name: string, values: Float32Array): Float32Array {
  const result = new Float32Array(values.length);
  for (let from = 0; from < values.length; from += 1 << 16) {
    const piece = values.subarray(from, from + (1 << 16));
    new Float32Array(wasm.memory.buffer, scratch, piece.length).set(piece);
    wasm[name](scratch, piece.length);
    result.set(f32(wasm, scratch, piece.length), from);
  }
  return result;
}

/** A grid over [low, high], closer near 0, and all powers of two. */
function grid(low: number, high: number): Float32Array {
  const count = 1 << 19;
  const even = Float32Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
  const near = Float32Array.from({ length: count }, (_, i) => -2 + (4 * i) / (count - 1));
  const powers = Float32Array.from({ length: 298 }, (_, i) => 2 ** (i - 149)).filter((x) => x <= high);
  return concat([even, near, powers, powers.map((x) => -x).filter((x) => x >= low), Float32Array.of(low, high, 0, -0)]);
}

function concat(parts: Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function worst(values: Float32Array, error: (x: number, i: number) => number): number {
  return values.reduce((most, x, i) => Math.max(most, error(x, i)), 0);
}

describe("stated error bounds", () => {
  test("exp: relative error below 1.2e-7 on [-87, 87]", () => {
    const x = grid(-87, 87).filter((value) => Math.abs(value) <= 87);
    const y = apply("expArray", x);
    const most = worst(x, (value, i) => Math.abs(y[i]! / Math.exp(value) - 1));
    console.log(`exp: worst relative error ${most.toExponential(3)}`);
    expect(most).toBeLessThan(1.2e-7);
  });

  test("2^x: relative error below 3e-7 on [-40, 40], and exact at whole numbers", () => {
    const x = grid(-40, 40);
    const y = apply("exp2Array", x);
    const most = worst(x, (value, i) => Math.abs(y[i]! / 2 ** value - 1));
    console.log(`2^x: worst relative error ${most.toExponential(3)}`);
    expect(most).toBeLessThan(3e-7);
    const whole = Float32Array.from({ length: 84 }, (_, i) => Math.min(i - 40, 40));
    expect(apply("exp2Array", whole)).toEqual(whole.map((n) => 2 ** n));
    const coarse = apply("coarseExp2Array", x);
    expect(worst(x, (value, i) => Math.abs(coarse[i]! / 2 ** value - 1))).toBeLessThan(3e-6);
    expect(apply("coarseExp2Array", whole)).toEqual(whole.map((n) => 2 ** n));
  });

  test("sigmoid: absolute error below 1e-7", () => {
    const x = grid(-100, 100);
    const y = apply("sigmoidArray", x);
    const most = worst(x, (value, i) => Math.abs(y[i]! - sigmoid(value)));
    console.log(`sigmoid: worst absolute error ${most.toExponential(3)}`);
    expect(most).toBeLessThan(1e-7);
    expect(y.every((value) => value >= 0 && value <= 1)).toBe(true);
  });

  test("tanh: absolute error below 2e-7, and never beyond 1", () => {
    const x = grid(-50, 50);
    const y = apply("tanhArray", x);
    const most = worst(x, (value, i) => Math.abs(y[i]! - Math.tanh(value)));
    console.log(`tanh: worst absolute error ${most.toExponential(3)}`);
    expect(most).toBeLessThan(2e-7);
    // Q14 states rely on it.
    expect(y.every((value) => value >= -1 && value <= 1)).toBe(true);
  });
});

describe("the ends", () => {
  const ends = Float32Array.of(-Infinity, -3.4e38, -200, -88, 88, 200, 3.4e38, Infinity);

  test("2^x is clamped to its bound", () => {
    for (const name of ["exp2Array", "coarseExp2Array"])
      expect([...apply(name, ends)]).toEqual([...Array(4).fill(2 ** -40), ...Array(4).fill(2 ** 40)]);
  });

  test("exp is clamped to [-87, 87]", () => {
    const [low, high] = [Math.exp(-87), Math.exp(87)];
    apply("expArray", ends).forEach((value, i) =>
      expect(Math.abs(value / (i < 4 ? low : high) - 1)).toBeLessThan(1.2e-7),
    );
  });

  test("sigmoid and tanh saturate", () => {
    expect([...apply("sigmoidArray", ends)].map((value) => Math.round(value * 1e30) / 1e30)).toEqual([
      0, 0, 0, 0, 1, 1, 1, 1,
    ]);
    expect([...apply("tanhArray", ends)]).toEqual([-1, -1, -1, -1, 1, 1, 1, 1]);
  });

  test("denormals and zeros", () => {
    expect([...apply("expArray", Float32Array.of(0, -0, 1e-45, -1e-45))]).toEqual([1, 1, 1, 1]);
    expect([...apply("sigmoidArray", Float32Array.of(0, -0, 1e-45, -1e-45))]).toEqual([0.5, 0.5, 0.5, 0.5]);
    expect([...apply("tanhArray", Float32Array.of(0, -0, 1e-45, -1e-45))].map(Math.abs)).toEqual([0, 0, 0, 0]);
  });

  test("NaN, quiet, signalling or negative, becomes a number", () => {
    const bits = Uint32Array.of(0x7fc00000, 0x7f800001, 0xffc00000, 0xffffffff);
    for (const name of ["expArray", "exp2Array", "coarseExp2Array", "sigmoidArray", "tanhArray"]) {
      const result = apply(name, new Float32Array(bits.buffer));
      expect(result.every(Number.isFinite), name).toBe(true);
    }
  });
});

describe("activate", () => {
  const activate = (kind: number, values: number[]): number[] => {
    const address = put(wasm, Float32Array.from([...values, ...Array<number>((4 - (values.length % 4)) % 4).fill(0)]));
    wasm["activate"](kind, address, values.length);
    return [...f32(wasm, address, values.length)];
  };
  const values = [-3, -0.5, 0, 0.25, 1, 2, 7, -20, 0.1];

  test.each([1, 2, 3, 4, 5, 7, 8, 9])("on %i values", (length) => {
    const x = values.slice(0, length);
    expect(activate(ACTIVATION_LINEAR, x)).toEqual(x.map(Math.fround));
    expect(activate(ACTIVATION_RELU, x)).toEqual(x.map((value) => Math.fround(Math.max(0, value))));
    activate(ACTIVATION_SIGMOID, x).forEach((value, i) => expect(Math.abs(value - sigmoid(x[i]!))).toBeLessThan(1e-7));
    activate(ACTIVATION_TANH, x).forEach((value, i) => expect(Math.abs(value - Math.tanh(x[i]!))).toBeLessThan(2e-7));
    const expected = softmax(x);
    activate(ACTIVATION_SOFTMAX, x).forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(3e-7));
  });

  test("relu makes 0 of NaN", () => expect(activate(ACTIVATION_RELU, [NaN, -1, 1, NaN])).toEqual([0, 0, 1, 0]));
});

describe("softmax", () => {
  const run = (values: ArrayLike<number>): Float32Array => {
    const address = put(wasm, Float32Array.from(values));
    wasm["softmax"](address, values.length);
    return f32(wasm, address, values.length);
  };

  test.each([1, 2, 3, 7, 60, 64, 1000])("of %i values sums to 1 and orders as its input", (length) => {
    const x = new Seeded(length).floats(length, 12);
    const y = run(x);
    const expected = softmax([...x]);
    y.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(3e-7));
    expect(Math.abs(y.reduce((sum, value) => sum + value, 0) - 1)).toBeLessThan(1e-5);
  });

  test("is shifted: huge values neither overflow nor vanish", () => {
    expect([...run([3e38, 3e38])]).toEqual([0.5, 0.5]);
    expect([...run([-3e38, -3e38, -3e38])].map((value) => Math.round(value * 3e6))).toEqual([1e6, 1e6, 1e6]);
    const [one, other] = run([1000, -1000]);
    expect(one).toBe(1);
    expect(other).toBeLessThan(1e-30);
  });

  test("NaN among the values leaves numbers", () => {
    expect(run([NaN, 1, 2]).every(Number.isFinite)).toBe(true);
    expect(run([1, NaN, 2]).every(Number.isFinite)).toBe(true);
  });
});
