// Activations, four values at a time: v128 -> v128, f32x4.
// Called by lstm.ts, classify.ts and the training kernels. They use only IEEE add,
// multiply, divide and integer shifts, so every machine gives the same bits. Nothing is
// refused: NaN is treated as the lower bound of the interval, so the result is a number.
import { ACTIVATION_RELU, ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX, ACTIVATION_TANH } from "../abi";

/** 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits. */
const ROUNDING_MAGIC: f32 = 12582912.0;
const ROUNDING_MAGIC_BITS: i32 = 0x4b400000;

/** Rounds four values in [-2^22, 2^22] to whole numbers, ties to even: f32x4 -> i32x4. */
// @ts-ignore: decorator
@inline
export function roundEven(x: v128): v128 {
  return i32x4.sub(f32x4.add(x, f32x4.splat(ROUNDING_MAGIC)), i32x4.splat(ROUNDING_MAGIC_BITS));
}

/**
 * e^x. Relative error below 1.2e-7 on [-87, 87]; x is clamped to that interval.
 * Cody-Waite reduction to |r| <= ln2/2, then the degree-6 minimax polynomial of
 * Cephes expf (S. L. Moshier, Methods and Programs for Mathematical Functions).
 */
// @ts-ignore: decorator
@inline
export function expF32x4(x: v128): v128 {
  // pmax with the bound first turns NaN into the bound.
  const clamped = f32x4.pmin(f32x4.splat(87.0), f32x4.pmax(f32x4.splat(-87.0), x));
  const shifted = f32x4.add(f32x4.mul(clamped, f32x4.splat(1.44269504088896341)), f32x4.splat(ROUNDING_MAGIC));
  const n = f32x4.sub(shifted, f32x4.splat(ROUNDING_MAGIC));
  let r = f32x4.sub(clamped, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.add(r, f32x4.mul(n, f32x4.splat(2.1219444e-4)));
  // Estrin's scheme: pairs of terms can be computed in parallel.
  const r2 = f32x4.mul(r, r);
  const p54 = f32x4.add(f32x4.mul(r, f32x4.splat(1.98756915e-4)), f32x4.splat(1.3981999507e-3));
  const p32 = f32x4.add(f32x4.mul(r, f32x4.splat(8.3334519073e-3)), f32x4.splat(4.1665795894e-2));
  const p10 = f32x4.add(f32x4.mul(r, f32x4.splat(1.6666665459e-1)), f32x4.splat(5.0000001201e-1));
  let p = f32x4.add(f32x4.mul(f32x4.add(f32x4.mul(p54, r2), p32), r2), p10);
  p = f32x4.add(f32x4.mul(p, r2), f32x4.add(r, f32x4.splat(1.0)));
  // p * 2^n: the integer n, still in the low bits of `shifted`, is added to the exponent.
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** e^x of one value. */
// @ts-ignore: decorator
@inline
export function expF32(x: f32): f32 {
  return f32x4.extract_lane(expF32x4(f32x4.splat(x)), 0);
}

/**
 * 2^x, with x clamped to [-bound, bound], bound <= 126; 2^0 is exactly 1. With n the nearest integer,
 * 2^(x - n) for |x - n| <= 1/2 is a minimax polynomial (E. Remez) of degree 5, relative error below
 * 3e-7, or, if `coarse`, of degree 4, relative error below 3e-6.
 */
// @ts-ignore: decorator
@inline
export function exp2Within(x: v128, bound: f32, coarse: bool): v128 {
  const clamped = f32x4.pmin(f32x4.splat(bound), f32x4.pmax(f32x4.splat(-bound), x));
  const shifted = f32x4.add(clamped, f32x4.splat(ROUNDING_MAGIC));
  const r = f32x4.sub(clamped, f32x4.sub(shifted, f32x4.splat(ROUNDING_MAGIC)));
  const r2 = f32x4.mul(r, r);
  const p54 = coarse
    ? f32x4.splat(9.5828529e-3)
    : f32x4.add(f32x4.mul(r, f32x4.splat(1.3276472e-3)), f32x4.splat(9.675541e-3));
  const p32 = f32x4.add(
    f32x4.mul(r, f32x4.splat(coarse ? 5.5906426e-2 : 5.5507133e-2)),
    f32x4.splat(coarse ? 2.4024099e-1 : 2.402212e-1),
  );
  const p10 = f32x4.add(f32x4.mul(r, f32x4.splat(coarse ? 6.9312418e-1 : 6.9314697e-1)), f32x4.splat(1.0));
  const p = f32x4.add(f32x4.mul(f32x4.add(f32x4.mul(p54, r2), p32), r2), p10);
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** 1 / (1 + e^-x). Absolute error below 1e-7. */
// @ts-ignore: decorator
@inline
export function sigmoidF32x4(x: v128): v128 {
  const one = f32x4.splat(1.0);
  return f32x4.div(one, f32x4.add(one, expF32x4(f32x4.neg(x))));
}

/** tanh x = 2 sigmoid(2x) - 1. Absolute error below 2e-7. */
// @ts-ignore: decorator
@inline
export function tanhF32x4(x: v128): v128 {
  const two = f32x4.splat(2.0);
  const one = f32x4.splat(1.0);
  return f32x4.sub(f32x4.div(two, f32x4.add(one, expF32x4(f32x4.mul(x, f32x4.splat(-2.0))))), one);
}

/** Applies `activation` in place to f32[length]; the buffer is padded to a multiple of 4. */
export function activate(activation: u32, values: usize, length: u32): void {
  if (activation == ACTIVATION_SOFTMAX) return softmax(values, length);
  const end = values + ((<usize>length) << 2);
  if (activation == ACTIVATION_SIGMOID) {
    for (let p = values; p < end; p += 16) v128.store(p, sigmoidF32x4(v128.load(p)));
  } else if (activation == ACTIVATION_TANH) {
    for (let p = values; p < end; p += 16) v128.store(p, tanhF32x4(v128.load(p)));
  } else if (activation == ACTIVATION_RELU) {
    for (let p = values; p < end; p += 16) v128.store(p, f32x4.pmax(f32x4.splat(0), v128.load(p)));
  }
}

/** Softmax in place over f32[length], shifted by the largest value so that nothing overflows. */
export function softmax(values: usize, length: u32): void {
  let largest: f32 = load<f32>(values);
  for (let i: u32 = 1; i < length; i++) {
    const value = load<f32>(values + ((<usize>i) << 2));
    if (value > largest) largest = value;
  }
  let i: u32 = 0;
  for (; i + 4 <= length; i += 4) {
    const p = values + ((<usize>i) << 2);
    v128.store(p, expF32x4(f32x4.sub(v128.load(p), f32x4.splat(largest))));
  }
  for (; i < length; i++) {
    const p = values + ((<usize>i) << 2);
    store<f32>(p, expF32(load<f32>(p) - largest));
  }
  let sum: f32 = 0;
  for (i = 0; i < length; i++) sum += load<f32>(values + ((<usize>i) << 2));
  const scale: f32 = <f32>1.0 / sum;
  for (i = 0; i < length; i++) {
    const p = values + ((<usize>i) << 2);
    store<f32>(p, load<f32>(p) * scale);
  }
}
