// Matrix products of training, row-major f32, any size including 0.
//   multiply            C (M,N) = or += A (M,K) . B (K,N), B packed beforehand
//   multiplyTransposed  C (M,N) += A (K,M)^T . B (K,N)
//   packRows, packColumns  B, or the transpose of a stored matrix -> packed B
// Strides are in floats. Every element of C is summed in the order of k, in
// steps of at most DEPTH_BLOCK, so the bits do not depend on the machine.

// A packed B is cut into panels of 8 columns, the last one filled up with zeros, so
// that the inner loop reads it from front to back without conflicts in the cache:
//   | k=0: b0..b7 | k=1: b0..b7 | ... | k=K-1 |  next panel ...
// Inside, a 4x8 tile of C stays in registers: 8 accumulators, 2 B, 1 A. Measured
// in V8 against 5x8, 6x8, 3x12, 2x16 and unrolled loops, it is within 5 % of the best.

/** Rows of A that are multiplied with all panels before the next ones: they fit in the L1 cache. */
const ROW_BLOCK = 64;
/** Depth of a block in multiplyTransposed: a panel of B then takes 8 KiB. */
const DEPTH_BLOCK = 256;

/** f32[4][8] for tiles that reach beyond the edge of C. */
const TILE: usize = memory.data(128, 16);

/** Floats of a packed (depth, columns) matrix. */
export function packedLength(depth: i32, columns: i32): usize {
  return <usize>((columns + 7) & ~7) * <usize>depth;
}

/** Floats of scratch that multiplyTransposed needs. */
export function transposedScratch(rows: i32, columns: i32): usize {
  return <usize>DEPTH_BLOCK * <usize>(((rows + 3) & ~3) + ((columns + 7) & ~7));
}

/** Packs B (depth, columns) that lies in rows of `stride` floats. */
export function packRows(depth: i32, columns: i32, source: usize, stride: i32, packed: usize): void {
  const step = (<usize>stride) << 2;
  for (let j = 0; j < columns; j += 8) {
    let from = source + ((<usize>j) << 2);
    const width = columns - j;
    if (width >= 8) {
      for (let k = 0; k < depth; k++) {
        v128.store(packed, v128.load(from));
        v128.store(packed, v128.load(from, 16), 16);
        from += step;
        packed += 32;
      }
    } else {
      for (let k = 0; k < depth; k++) {
        for (let i = 0; i < 8; i++)
          store<f32>(packed + ((<usize>i) << 2), i < width ? load<f32>(from + ((<usize>i) << 2)) : <f32>0);
        from += step;
        packed += 32;
      }
    }
  }
}

/** Packs B (depth, columns) whose transpose, (columns, depth), lies in rows of `stride` floats. */
export function packColumns(depth: i32, columns: i32, source: usize, stride: i32, packed: usize): void {
  const step = (<usize>stride) << 2;
  for (let j = 0; j < columns; j += 8) {
    const panel = packed + ((<usize>j * <usize>depth) << 2);
    for (let i = 0; i < 8; i++) {
      let to = panel + ((<usize>i) << 2);
      const from = source + <usize>(j + i) * step;
      const isReal = j + i < columns;
      for (let k = 0; k < depth; k++) {
        store<f32>(to, isReal ? load<f32>(from + ((<usize>k) << 2)) : <f32>0);
        to += 32;
      }
    }
  }
}

/** C (rows, columns) = A (rows, depth) . B, or += when `accumulate`. */
export function multiply(
  rows: i32,
  columns: i32,
  depth: i32,
  a: usize,
  aStride: i32,
  packed: usize,
  c: usize,
  cStride: i32,
  accumulate: bool,
): void {
  const aStep = (<usize>aStride) << 2;
  const cStep = (<usize>cStride) << 2;
  for (let first = 0; first < rows; first += ROW_BLOCK) {
    const last = min(first + ROW_BLOCK, rows);
    for (let j = 0; j < columns; j += 8) {
      const panel = packed + ((<usize>j * <usize>depth) << 2);
      const width = columns - j;
      let i = first;
      if (width >= 8) {
        for (; i + 4 <= last; i += 4) {
          tileOfRows(
            depth,
            a + <usize>i * aStep,
            aStep,
            panel,
            c + <usize>i * cStep + ((<usize>j) << 2),
            cStep,
            accumulate,
          );
        }
      }
      for (; i < last; i++) {
        rowOfTile(
          depth,
          a + <usize>i * aStep,
          panel,
          c + <usize>i * cStep + ((<usize>j) << 2),
          min(width, 8),
          accumulate,
        );
      }
    }
  }
}

/** C (rows, columns) += A^T . B with A (depth, rows) and B (depth, columns); `scratch` as transposedScratch says. */
export function multiplyTransposed(
  rows: i32,
  columns: i32,
  depth: i32,
  a: usize,
  aStride: i32,
  b: usize,
  bStride: i32,
  c: usize,
  cStride: i32,
  scratch: usize,
): void {
  const cStep = (<usize>cStride) << 2;
  const packedA = scratch + ((<usize>DEPTH_BLOCK * <usize>((columns + 7) & ~7)) << 2);
  for (let first = 0; first < depth; first += DEPTH_BLOCK) {
    const count = min(DEPTH_BLOCK, depth - first);
    packRows(count, columns, b + ((<usize>first * <usize>bStride) << 2), bStride, scratch);
    packQuads(count, rows, a + ((<usize>first * <usize>aStride) << 2), aStride, packedA);
    for (let j = 0; j < columns; j += 8) {
      const panel = scratch + ((<usize>j * <usize>count) << 2);
      const width = min(columns - j, 8);
      for (let i = 0; i < rows; i += 4) {
        const height = min(rows - i, 4);
        const quad = packedA + ((<usize>i * <usize>count) << 2);
        const tile = c + <usize>i * cStep + ((<usize>j) << 2);
        const isWhole = width == 8 && height == 4;
        if (!isWhole) memory.fill(TILE, 0, 128);
        tileOfQuads(count, quad, panel, isWhole ? tile : TILE, isWhole ? cStep : 32);
        if (isWhole) continue;
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            const to = tile + <usize>y * cStep + ((<usize>x) << 2);
            store<f32>(to, load<f32>(to) + load<f32>(TILE + ((<usize>(y * 8 + x)) << 2)));
          }
        }
      }
    }
  }
}

/** A (depth, rows) -> quads of 4 rows, each (depth, 4), the last one filled up with zeros. */
function packQuads(depth: i32, rows: i32, source: usize, stride: i32, packed: usize): void {
  const step = (<usize>stride) << 2;
  for (let i = 0; i < rows; i += 4) {
    let from = source + ((<usize>i) << 2);
    const height = rows - i;
    for (let k = 0; k < depth; k++) {
      if (height >= 4) {
        v128.store(packed, v128.load(from));
      } else {
        for (let y = 0; y < 4; y++)
          store<f32>(packed + ((<usize>y) << 2), y < height ? load<f32>(from + ((<usize>y) << 2)) : <f32>0);
      }
      from += step;
      packed += 16;
    }
  }
}

/** 4x8 tile of C from 4 rows of A and one panel. */
function tileOfRows(depth: i32, a0: usize, aStep: usize, b: usize, c: usize, cStep: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0),
    c01 = c00,
    c10 = c00,
    c11 = c00,
    c20 = c00,
    c21 = c00,
    c30 = c00,
    c31 = c00;
  const row1 = c + cStep,
    row2 = row1 + cStep,
    row3 = row2 + cStep;
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c10 = v128.load(row1);
    c11 = v128.load(row1, 16);
    c20 = v128.load(row2);
    c21 = v128.load(row2, 16);
    c30 = v128.load(row3);
    c31 = v128.load(row3, 16);
  }
  let a1 = a0 + aStep,
    a2 = a1 + aStep,
    a3 = a2 + aStep;
  for (const end = b + ((<usize>depth) << 5); b < end; b += 32) {
    const b0 = v128.load(b),
      b1 = v128.load(b, 16);
    let s = v128.load32_splat(a0);
    c00 = f32x4.add(c00, f32x4.mul(s, b0));
    c01 = f32x4.add(c01, f32x4.mul(s, b1));
    s = v128.load32_splat(a1);
    c10 = f32x4.add(c10, f32x4.mul(s, b0));
    c11 = f32x4.add(c11, f32x4.mul(s, b1));
    s = v128.load32_splat(a2);
    c20 = f32x4.add(c20, f32x4.mul(s, b0));
    c21 = f32x4.add(c21, f32x4.mul(s, b1));
    s = v128.load32_splat(a3);
    c30 = f32x4.add(c30, f32x4.mul(s, b0));
    c31 = f32x4.add(c31, f32x4.mul(s, b1));
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(row1, c10);
  v128.store(row1, c11, 16);
  v128.store(row2, c20);
  v128.store(row2, c21, 16);
  v128.store(row3, c30);
  v128.store(row3, c31, 16);
}

/** 1x8 tile of C, of which `width` columns exist. */
function rowOfTile(depth: i32, a: usize, b: usize, c: usize, width: i32, accumulate: bool): void {
  let to = c;
  if (width < 8) {
    to = TILE;
    if (accumulate)
      for (let x = 0; x < width; x++) store<f32>(to + ((<usize>x) << 2), load<f32>(c + ((<usize>x) << 2)));
  }
  let c0 = f32x4.splat(0),
    c1 = c0;
  if (accumulate) {
    c0 = v128.load(to);
    c1 = v128.load(to, 16);
  }
  for (const end = b + ((<usize>depth) << 5); b < end; b += 32) {
    const s = v128.load32_splat(a);
    c0 = f32x4.add(c0, f32x4.mul(s, v128.load(b)));
    c1 = f32x4.add(c1, f32x4.mul(s, v128.load(b, 16)));
    a += 4;
  }
  v128.store(to, c0);
  v128.store(to, c1, 16);
  if (width < 8) for (let x = 0; x < width; x++) store<f32>(c + ((<usize>x) << 2), load<f32>(to + ((<usize>x) << 2)));
}

/** 4x8 tile of C += one quad of A^T, (depth, 4), times one panel. */
function tileOfQuads(depth: i32, a: usize, b: usize, c: usize, cStep: usize): void {
  const row1 = c + cStep,
    row2 = row1 + cStep,
    row3 = row2 + cStep;
  let c00 = v128.load(c),
    c01 = v128.load(c, 16);
  let c10 = v128.load(row1),
    c11 = v128.load(row1, 16);
  let c20 = v128.load(row2),
    c21 = v128.load(row2, 16);
  let c30 = v128.load(row3),
    c31 = v128.load(row3, 16);
  for (const end = b + ((<usize>depth) << 5); b < end; b += 32) {
    const b0 = v128.load(b),
      b1 = v128.load(b, 16);
    let s = v128.load32_splat(a);
    c00 = f32x4.add(c00, f32x4.mul(s, b0));
    c01 = f32x4.add(c01, f32x4.mul(s, b1));
    s = v128.load32_splat(a, 4);
    c10 = f32x4.add(c10, f32x4.mul(s, b0));
    c11 = f32x4.add(c11, f32x4.mul(s, b1));
    s = v128.load32_splat(a, 8);
    c20 = f32x4.add(c20, f32x4.mul(s, b0));
    c21 = f32x4.add(c21, f32x4.mul(s, b1));
    s = v128.load32_splat(a, 12);
    c30 = f32x4.add(c30, f32x4.mul(s, b0));
    c31 = f32x4.add(c31, f32x4.mul(s, b1));
    a += 16;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(row1, c10);
  v128.store(row1, c11, 16);
  v128.store(row2, c20);
  v128.store(row2, c21, 16);
  v128.store(row3, c30);
  v128.store(row3, c31, 16);
}
