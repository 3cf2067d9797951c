// Quantization of a matrix, bit for bit against a plain twin: scales, ties to even, rows of
// zeros, outliers, both layouts of the source, padding.
import { describe, expect, test } from "vitest";
import { f32, loadWasm, put } from "../../support/wasm.ts";

const padded = (bytes: number): number => (bytes + 15) & ~15;

/** Nearest integer, ties to even. */
function nearest(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

function quantizeRow(row: number[]): { scale: number; weights: number[] } {
  const largest = Math.max(0, ...row.map(Math.abs));
  const scale = largest > Math.fround(1e-30) ? Math.fround(largest / 127) : 1;
  return { scale, weights: row.map((w) => Math.max(-127, Math.min(127, nearest(Math.fround(w / scale))))) };
}

function quantized(
  rows: number[][],
  isTransposed: boolean,
): { scales: Float32Array; weights: number[][]; rest: number[]; end: number } {
  const wasm = loadWasm("testing");
  const columns = rows[0]!.length;
  const flat = isTransposed
    ? Array.from({ length: columns }, (_, c) => rows.map((row) => row[c]!)).flat()
    : rows.flat();
  const from = put(wasm, Float32Array.from(flat));
  const bytes = padded(rows.length * columns) + padded(4 * rows.length);
  const to = put(wasm, new Uint8Array(bytes + 16).fill(0xaa));
  const end: number = wasm["quantizeMatrix"](from, rows.length, columns, isTransposed ? 1 : 0, to);
  const s8 = new Int8Array(wasm.memory.buffer, to, bytes + 16).slice();
  return {
    scales: f32(wasm, to + padded(rows.length * columns), rows.length),
    weights: rows.map((_, r) => [...s8.subarray(r * columns, (r + 1) * columns)]),
    rest: [...s8.subarray(bytes)].map((byte) => byte & 0xff),
    end: end - to,
  };
}

function expectTwin(rows: number[][]): void {
  const f32Rows = rows.map((row) => row.map(Math.fround));
  for (const isTransposed of [false, true]) {
    const actual = quantized(f32Rows, isTransposed);
    const expected = f32Rows.map(quantizeRow);
    expect(actual.weights).toEqual(expected.map(({ weights }) => weights.map((w) => w + 0)));
    expect([...actual.scales]).toEqual(expected.map(({ scale }) => scale));
    expect(actual.end).toBe(padded(rows.length * rows[0]!.length) + padded(4 * rows.length));
    expect(actual.rest).toEqual(new Array(16).fill(0xaa));
  }
}

describe.each([1, 2, 3, 7, 16, 33])("%i rows", (rows) => {
  test.each([1, 2, 3, 5, 8, 15, 17, 64, 129])("of %i weights", (columns) => {
    expectTwin(
      Array.from({ length: rows }, (_, r) =>
        Array.from({ length: columns }, (_, c) => Math.sin(1 + 37 * r + 11 * c) * 10 ** ((r % 5) - 3)),
      ),
    );
  });
});

test("ties go to the even neighbour", () => {
  expectTwin([[127, 0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 126.5, -126.5]]);
  expect(quantized([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 125.5]], false).weights).toEqual([
    [127, 0, 2, 2, 0, -2, -2, 126, 126],
  ]);
});

test("a row of zeros and one of next to nothing get the scale 1", () => {
  expectTwin([
    [0, 0, 0],
    [1e-31, -1e-32, 0],
    [2e-30, -1e-30, 0],
  ]);
  expect([
    ...quantized(
      [
        [0, -0, 0],
        [1e-31, -1e-31, 0],
      ],
      false,
    ).scales,
  ]).toEqual([1, 1]);
});

test("an outlier costs only its own row", () => {
  const rows = [
    [0.01, -0.02, 0.03],
    [0.01, -0.02, 1000],
  ];
  expectTwin(rows);
  const { weights } = quantized(rows, false);
  expect(weights).toEqual([
    [42, -85, 127],
    [0, 0, 127],
  ]);
});

test("the largest f32 does not overflow, and -128 is never written", () => {
  expectTwin([
    [3.4028234663852886e38, -3.4028234663852886e38, 1],
    [-1, 1, -0.999],
  ]);
});
