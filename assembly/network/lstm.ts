// The LSTM step, forward only: one step's input projection + state -> next state.
// Called by step.ts for each direction and step; the formulas are Keras':
//
//   z = x W + h U + b        (4H), gates i f c o
//   c' = sigmoid(z_f) c + sigmoid(z_i) tanh(z_c)
//   h' = sigmoid(z_o) tanh(c')                    S. Hochreiter, J. Schmidhuber 1997; F. Gers 2000
//
// Packed order. Units are taken in groups of 4, so that a vector holds one gate of
// four units and no horizontal sum is ever needed. A group is 16 rows of z:
//
//   | i u0 u1 u2 u3 | f u0 u1 u2 u3 | c u0 u1 u2 u3 | o u0 u1 u2 u3 |      G = ceil(H / 4) groups
//
// f32 weights are stored as [G][K][16], int8 weights as s16 [G][K/2][16][2], K padded to a multiple
// of 4. int8 weights are widened once at load, since widening them at every step would cost more
// than loading twice the bytes.
//
// int8: weights s8, inputs s16 in Q14 (|h| <= 1 -> 16384), i32 sums. |sum| <= 1024 * 127 * 16384
// < 2^31, so no result can overflow, and integer sums are the same in any order.
import { exp2Within, roundEven } from "./activation";

/** One in Q14. */
const Q14_ONE: f32 = 16384.0;
export const Q14_SCALE: f32 = 1.0 / 16384.0;

/** Rounds four values in [-1.99, 1.99] to Q14, ties to even: f32x4 -> i32x4. */
// @ts-ignore: decorator
@inline
export function toQ14(x: v128): v128 {
  return roundEven(f32x4.mul(x, f32x4.splat(Q14_ONE)));
}

/** Row of Keras' z, gate * H + unit, at packed position p; -1 where H is padded. */
export function packedRow(p: u32, units: u32): i32 {
  const unit = ((p >> 4) << 2) | (p & 3);
  return unit < units ? <i32>(((p >> 2) & 3) * units + unit) : -1;
}

/** Byte offset of the weight of packed position p (of 16 G) and input k among int8 weights with `pairs` input pairs. */
export function packedByte(p: u32, k: u32, pairs: u32): usize {
  return ((((<usize>((p >> 4) * pairs + (k >> 1))) << 4) + (p & 15)) << 2) + ((k & 1) << 1);
}

/**
 * z[16 G] = base + scale * (weights . input), int8.
 * weights s16 (G, pairs, 16, 2), pairs even, at least 2; input s16[2 pairs]; scale, base, z f32[16 G], all packed.
 * Eight bytes behind the input are read, too, but not used. One load of two pairs and a loop that ends with its test
 * make the fewest instructions of what bench/README.md lists.
 */
export function projectS8(
  weights: usize,
  scale: usize,
  base: usize,
  input: usize,
  pairs: u32,
  groups: u32,
  z: usize,
): void {
  const end = input + ((<usize>pairs) << 2);
  for (let g: u32 = 0; g < groups; g++) {
    let i = i32x4.splat(0),
      f = i32x4.splat(0),
      c = i32x4.splat(0),
      o = i32x4.splat(0);
    let p = input;
    do {
      const both = v128.load(p);
      const x = v128.shuffle<i32>(both, both, 0, 0, 0, 0);
      i = i32x4.add(i, i32x4.dot_i16x8_s(v128.load(weights), x));
      f = i32x4.add(f, i32x4.dot_i16x8_s(v128.load(weights, 16), x));
      c = i32x4.add(c, i32x4.dot_i16x8_s(v128.load(weights, 32), x));
      o = i32x4.add(o, i32x4.dot_i16x8_s(v128.load(weights, 48), x));
      const y = v128.shuffle<i32>(both, both, 1, 1, 1, 1);
      i = i32x4.add(i, i32x4.dot_i16x8_s(v128.load(weights, 64), y));
      f = i32x4.add(f, i32x4.dot_i16x8_s(v128.load(weights, 80), y));
      c = i32x4.add(c, i32x4.dot_i16x8_s(v128.load(weights, 96), y));
      o = i32x4.add(o, i32x4.dot_i16x8_s(v128.load(weights, 112), y));
      weights += 128;
      p += 8;
    } while (p < end);
    v128.store(z, f32x4.add(v128.load(base), f32x4.mul(v128.load(scale), f32x4.convert_i32x4_s(i))));
    v128.store(z, f32x4.add(v128.load(base, 16), f32x4.mul(v128.load(scale, 16), f32x4.convert_i32x4_s(f))), 16);
    v128.store(z, f32x4.add(v128.load(base, 32), f32x4.mul(v128.load(scale, 32), f32x4.convert_i32x4_s(c))), 32);
    v128.store(z, f32x4.add(v128.load(base, 48), f32x4.mul(v128.load(scale, 48), f32x4.convert_i32x4_s(o))), 48);
    base += 64;
    scale += 64;
    z += 64;
  }
}

/** z[16 G] = base + weights . input, f32. weights (G, K, 16); input f32[K], K at least 1; base, z packed. */
export function projectF32(weights: usize, base: usize, input: usize, count: u32, groups: u32, z: usize): void {
  const end = input + ((<usize>count) << 2);
  for (let g: u32 = 0; g < groups; g++) {
    let i = v128.load(base),
      f = v128.load(base, 16),
      c = v128.load(base, 32),
      o = v128.load(base, 48);
    let p = input;
    do {
      const x = v128.load32_splat(p);
      i = f32x4.add(i, f32x4.mul(v128.load(weights), x));
      f = f32x4.add(f, f32x4.mul(v128.load(weights, 16), x));
      c = f32x4.add(c, f32x4.mul(v128.load(weights, 32), x));
      o = f32x4.add(o, f32x4.mul(v128.load(weights, 48), x));
      weights += 64;
      p += 4;
    } while (p < end);
    v128.store(z, i);
    v128.store(z, f, 16);
    v128.store(z, c, 32);
    v128.store(z, o, 48);
    base += 64;
    z += 64;
  }
}

/**
 * From z[16 G] (packed, times exponentScale) and the cell state c[4 G]: the new c, in place, and h[4 G].
 * Divisions cost the most, so each formula is written as one quotient; with e_x = e^-x:
 *
 *   c' = (c (1 + e_i)(1 + e_2g) + (1 - e_2g)(1 + e_f)) / ((1 + e_f)(1 + e_i)(1 + e_2g))
 *   h' = (1 - e_2c') / ((1 + e_2c')(1 + e_o))
 *
 * Exponents are clamped to 40, so that a product of three factors stays below 2^122; this changes a
 * gate by at most 1e-12. Absolute error of h below 1e-6.
 */
export function updateState(z: usize, c: usize, h: usize, groups: u32): void {
  applyGates(z, c, h, groups, false);
}

/** The same with coarser exponentials, for int8 models, which round h to Q14, by up to 3e-5, afterwards: absolute error of h below 1e-5. */
export function updateStateCoarsely(z: usize, c: usize, h: usize, groups: u32): void {
  applyGates(z, c, h, groups, true);
}

// @ts-ignore: decorator
@inline
function applyGates(z: usize, c: usize, h: usize, groups: u32, coarse: bool): void {
  const one = f32x4.splat(1.0);
  // Two passes over the groups, so that their computations overlap: in one pass, each h' would have to wait for its c'.
  for (let g: usize = 0; g < <usize>groups; g++) {
    const gates = z + (g << 6);
    const cell = c + (g << 4);
    const input = f32x4.add(one, exp2Within(v128.load(gates), GATE_BOUND, coarse));
    const forget = f32x4.add(one, exp2Within(v128.load(gates, 16), GATE_BOUND, coarse));
    const candidate = exp2Within(v128.load(gates, 32), GATE_BOUND, coarse);
    const both = f32x4.mul(input, f32x4.add(one, candidate));
    v128.store(
      cell,
      f32x4.div(
        f32x4.add(f32x4.mul(v128.load(cell), both), f32x4.mul(f32x4.sub(one, candidate), forget)),
        f32x4.mul(forget, both),
      ),
    );
  }
  for (let g: usize = 0; g < <usize>groups; g++) {
    const output = f32x4.add(one, exp2Within(v128.load(z + (g << 6), 48), GATE_BOUND, coarse));
    const squashed = exp2Within(f32x4.mul(v128.load(c + (g << 4)), f32x4.splat(TANH_EXPONENT)), GATE_BOUND, coarse);
    v128.store(h + (g << 4), f32x4.div(f32x4.sub(one, squashed), f32x4.mul(f32x4.add(one, squashed), output)));
  }
}

export const GATE_BOUND: f32 = 40.0;
/** e^-x = 2^(x SIGMOID_EXPONENT), e^-2x = 2^(x TANH_EXPONENT). */
export const SIGMOID_EXPONENT: f32 = -1.44269504088896341;
export const TANH_EXPONENT: f32 = -2.88539008177792681;

/** The factor by which z at packed position p, with its weights, is multiplied at load, since the gates are computed from powers of two. */
export function exponentScale(p: u32): f32 {
  return ((p >> 2) & 3) == 2 ? TANH_EXPONENT : SIGMOID_EXPONENT;
}

/** Rounds f32[count] to Q14 s16; count is a multiple of 4 and both buffers are padded to it. */
export function quantizeState(values: usize, q14: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i += 4) {
    const q = toQ14(v128.load(values));
    v128.store64_lane(q14, i16x8.narrow_i32x4_s(q, q), 0);
    values += 16;
    q14 += 8;
  }
}
