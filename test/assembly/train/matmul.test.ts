// Matrix products: SIMD kernels against a plain twin that rounds to f32 where they do, bit for bit.
import { beforeAll, describe, expect, test } from "vitest";
import { loadWasm, type Exports } from "../../support/wasm.ts";

const SIZES = [0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65];
const LARGEST = 65;
const GAP = 3; // unused floats behind each row
const SENTINEL = 12345.5; // what lies there, and must stay
// multiplyTransposed sums edge tiles beside C and adds them at the end: another order of rounding.
const EDGE_TOLERANCE = 1e-5;

let wasm: Exports;
let a: number, b: number, c: number, packed: number, scratch: number;

beforeAll(() => {
  wasm = loadWasm("testing");
  const room = 4 * 700 * (LARGEST + GAP);
  [a, b, c] = [wasm["allocate"](room), wasm["allocate"](room), wasm["allocate"](room)];
  packed = wasm["allocate"](4 * wasm["packedLength"](700, LARGEST));
  scratch = wasm["allocate"](4 * wasm["transposedScratch"](LARGEST, LARGEST));
});

/** rows x columns numbers of about 1, different each, each row followed by a gap. */
function fill(
  address: number,
  rows: number,
  columns: number,
  seed: number,
): { at: (i: number, j: number) => number; stride: number } {
  const stride = columns + GAP;
  const view = new Float32Array(wasm.memory.buffer, address, rows * stride).fill(SENTINEL);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) view[i * stride + j] = Math.sin(seed + 1.7 * i + 0.37 * j + 0.01 * i * j);
  const values = view.slice();
  return { stride, at: (i, j) => values[i * stride + j]! };
}

function product(start: number, depth: number, x: (k: number) => number, y: (k: number) => number): number {
  let sum = start;
  for (let k = 0; k < depth; k++) sum = Math.fround(sum + Math.fround(x(k) * y(k)));
  return sum;
}

function check(
  rows: number,
  columns: number,
  expected: (i: number, j: number) => number,
  tolerance: number,
  what: string,
): void {
  const stride = columns + GAP;
  const actual = new Float32Array(wasm.memory.buffer, c, rows * stride);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < stride; j++) {
      const value = actual[i * stride + j]!;
      const wanted = j < columns ? expected(i, j) : SENTINEL;
      if (!(Math.abs(value - wanted) <= tolerance)) expect.fail(`${what}: C[${i}][${j}] is ${value}, not ${wanted}`);
    }
  }
}

describe.each(SIZES)("%i rows", (rows) => {
  test.each(SIZES)("times %i columns", (columns) => {
    for (const depth of SIZES) {
      const A = fill(a, rows, depth, 1);
      const B = fill(b, depth, columns, 2);
      wasm["packRows"](depth, columns, b, B.stride, packed);
      for (const accumulate of [0, 1]) {
        const C = fill(c, rows, columns, 3);
        wasm["multiply"](rows, columns, depth, a, A.stride, packed, c, C.stride, accumulate);
        check(
          rows,
          columns,
          (i, j) =>
            product(
              accumulate ? C.at(i, j) : 0,
              depth,
              (k) => A.at(i, k),
              (k) => B.at(k, j),
            ),
          0,
          `depth ${depth}, accumulate ${accumulate}`,
        );
      }

      // The same product with B stored the other way round.
      const T = fill(b, columns, depth, 4);
      wasm["packColumns"](depth, columns, b, T.stride, packed);
      let C = fill(c, rows, columns, 3);
      wasm["multiply"](rows, columns, depth, a, A.stride, packed, c, C.stride, 0);
      check(
        rows,
        columns,
        (i, j) =>
          product(
            0,
            depth,
            (k) => A.at(i, k),
            (k) => T.at(j, k),
          ),
        0,
        `depth ${depth}, B transposed`,
      );

      // And with A stored the other way round.
      const S = fill(a, depth, rows, 5);
      const D = fill(b, depth, columns, 6);
      C = fill(c, rows, columns, 3);
      wasm["multiplyTransposed"](rows, columns, depth, a, S.stride, b, D.stride, c, C.stride, scratch);
      check(
        rows,
        columns,
        (i, j) =>
          product(
            C.at(i, j),
            depth,
            (k) => S.at(k, i),
            (k) => D.at(k, j),
          ),
        EDGE_TOLERANCE,
        `depth ${depth}, A transposed`,
      );
    }
  });
});

test.each([255, 256, 257, 513, 700])("multiplyTransposed over %i rows, in blocks", (depth) => {
  const A = fill(a, depth, 13, 1);
  const B = fill(b, depth, 19, 2);
  const C = fill(c, 13, 19, 3);
  wasm["multiplyTransposed"](13, 19, depth, a, A.stride, b, B.stride, c, C.stride, scratch);
  check(
    13,
    19,
    (i, j) =>
      product(
        C.at(i, j),
        depth,
        (k) => A.at(k, i),
        (k) => B.at(k, j),
      ),
    1e-4,
    "blocks",
  );
});

test("the product has no fused or reordered sums: a cancellation stays", () => {
  new Float32Array(wasm.memory.buffer, a, 4).set([1e8, 1, -1e8, 1]);
  new Float32Array(wasm.memory.buffer, b, 4).set([1, 1, 1, 1]);
  wasm["packRows"](4, 1, b, 1, packed);
  wasm["multiply"](1, 1, 4, a, 4, packed, c, 1, 0);
  expect(new Float32Array(wasm.memory.buffer, c, 1)[0]).toBe(1);
});
