// The random stream and what is drawn from it, and the logarithm it needs.
import { beforeEach, expect, test } from "vitest";
import { f32, i32, loadWasm, type Exports } from "../../support/wasm.ts";

const DRAWS = 100_000;
let wasm: Exports;
let random: number;

beforeEach(() => {
  wasm = loadWasm("testing");
  random = wasm["allocate"](16);
  wasm["randomSeed"](random, 7);
});

/** xoshiro128** and splitmix32 as their authors publish them, in plain numbers. */
function twin(seed: number): () => number {
  const state = Array.from({ length: 4 }, () => {
    seed = (seed + 0x9e3779b9) | 0;
    let z = Math.imul(seed ^ (seed >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  });
  const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));
  return () => {
    let [a, b, c, d] = state as [number, number, number, number];
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotate(d, 11);
    state.splice(0, 4, a, b, c, d);
    return result;
  };
}

function draw(count: number, name: string, ...rest: number[]): number[] {
  return Array.from({ length: count }, () => wasm[name](random, ...rest));
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

test.each([0, 1, 7, 0xffffffff])("seed %i gives the published stream", (seed) => {
  wasm["randomSeed"](random, seed);
  const next = twin(seed);
  for (let i = 0; i < 1000; i++) expect(wasm["randomBits"](random) >>> 0).toBe(next());
});

test("the state is all there is: a copy continues with the same bits", () => {
  draw(100, "randomBits");
  const copy: number = wasm["allocate"](16);
  new Uint8Array(wasm.memory.buffer).copyWithin(copy, random, random + 16);
  const here = draw(50, "randomNormal");
  random = copy;
  expect(draw(50, "randomNormal")).toEqual(here);
});

test("uniform numbers lie in [0, 1) and fill it", () => {
  const values = draw(DRAWS, "randomUniform");
  expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...values)).toBeLessThan(1);
  expect(mean(values)).toBeCloseTo(0.5, 2);
  expect(mean(values.map((x) => x * x))).toBeCloseTo(1 / 3, 2);
});

test("normal numbers have the moments of a normal distribution", () => {
  const values = draw(DRAWS, "randomNormal");
  expect(Math.abs(mean(values))).toBeLessThan(0.015);
  expect(mean(values.map((x) => x ** 2))).toBeCloseTo(1, 1);
  expect(Math.abs(mean(values.map((x) => x ** 3)))).toBeLessThan(0.05);
  expect(Math.abs(mean(values.map((x) => x ** 4)) - 3)).toBeLessThan(0.15);
});

test.each([1, 2, 3, 7, 100])("indices below %i are all equally likely", (count) => {
  const seen = new Array<number>(count).fill(0);
  for (const index of draw(DRAWS, "randomIndex", count)) seen[index >>> 0]!++;
  const expected = DRAWS / count;
  for (const n of seen) expect(Math.abs(n - expected)).toBeLessThanOrEqual(5 * Math.sqrt(expected));
});

test("an index of a count above 2^31 stays below it", () => {
  const count = 3_000_000_000;
  const values = draw(1000, "randomIndex", count).map((x) => x >>> 0);
  expect(Math.max(...values)).toBeLessThan(count);
  expect(Math.max(...values)).toBeGreaterThan(2 ** 31);
  // 2^32 mod count of the smallest indices would come twice as often if no draw were thrown away.
  const favoured = 2 ** 32 - count;
  expect(Math.abs(values.filter((value) => value < favoured).length / values.length - favoured / count)).toBeLessThan(
    0.05,
  );
});

test("a shuffle keeps all elements and reaches every order", () => {
  const address: number = wasm["allocate"](16);
  const orders = new Map<string, number>();
  for (let i = 0; i < 12_000; i++) {
    new Uint32Array(wasm.memory.buffer, address, 3).set([1, 2, 3]);
    wasm["shuffle"](random, address, 3);
    const order = i32(wasm, address, 3).join("");
    orders.set(order, (orders.get(order) ?? 0) + 1);
  }
  expect([...orders.keys()].sort()).toEqual(["123", "132", "213", "231", "312", "321"]);
  for (const count of orders.values()) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(2000));
});

test.each([0, 1])("a shuffle of %i elements touches nothing else", (length) => {
  const address: number = wasm["allocate"](16);
  new Uint32Array(wasm.memory.buffer, address, 3).set([5, 6, 7]);
  wasm["shuffle"](random, address, length);
  expect([...i32(wasm, address, 3)]).toEqual([5, 6, 7]);
});

test.each([0, 0.1, 0.5, 0.99])("a mask of rate %f drops that share and scales the rest", (rate) => {
  const address: number = wasm["allocate"](4 * DRAWS);
  wasm["randomMask"](random, rate, address, DRAWS);
  const values = f32(wasm, address, DRAWS);
  const kept = Math.fround(1 / (1 - Math.fround(rate)));
  const dropped = values.filter((value) => value === 0).length;
  expect(values.filter((value) => value !== 0 && !(Math.abs(value - kept) / kept < 1e-6))).toHaveLength(0);
  expect(Math.abs(dropped / DRAWS - rate)).toBeLessThan(0.01);
});

test("the logarithm is exact to 2e-7", () => {
  for (let x = 1e-37; x < 1e38; x *= 1.0173) {
    const value = Math.fround(x);
    const expected = Math.log(value);
    expect(Math.abs(wasm["logF32"](value) - expected)).toBeLessThan(2e-7 * Math.max(0.5, Math.abs(expected)));
  }
  expect(wasm["logF32"](1)).toBe(0);
});
