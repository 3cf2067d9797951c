// The minGRU, forward only: gates that depend on the token alone, and the scan over them.
// Called by gates.ts, which keeps the gates of each token, and by classify.ts.
//
//   u = sigmoid(x Wu + bu)   g = tanh(x Wg + bg)                L. Feng and others 2024; the tanh bounds h
//   h' = (1 - u) h + u g                                        |h| <= 1, as h' is a mean of h and g
//
// Packed order. x W + b of both directions is one product, in groups of 16 values as lstm.ts has them, which
// are eight units here; units are filled up to whole pairs of groups:
//
//   | u u0 u1 u2 u3 | g u0 u1 u2 u3 | u u4 u5 u6 u7 | g u4 u5 u6 u7 |      G = 2 ceil(H / 16) groups a direction
//
// Activated gates are the factor 1 - u and the addend u g, so that a step is a multiplication and an addition:
//
//   f32  | factor u0 ... u3 | addend u0 ... u3 | factor u4 ... u7 | addend u4 ... u7 |      64 bytes a group
//   Q15  | factor u0 ... u7 | addend u0 ... u7 |                                            32 bytes a group
//
// int8 models have Q15 (1 is 32768, what rounds to it is 32767): twice as many units an instruction, and the same
// bits whatever the order. A step rounds by at most 1.5 units of 2^-15: factor, addend and product by half a unit each.
import { exp2Within, roundEven } from "./activation";
import { GATE_BOUND, SIGMOID_EXPONENT, TANH_EXPONENT } from "./lstm";

const Q15_ONE: f32 = 32768.0;
const Q15_SCALE: f32 = 1.0 / 32768.0;

/** Groups of one direction. */
export function gateGroups(units: u32): u32 {
  return ((units + 15) >> 4) << 1;
}

/** Row of z = x W + b, gate * H + unit, at packed position p of a direction; -1 where H is filled up. */
export function gateRow(p: u32, units: u32): i32 {
  const unit = ((p >> 3) << 2) | (p & 3);
  return unit < units ? <i32>(((p >> 2) & 1) * units + unit) : -1;
}

/** The factor by which z at packed position p, with its weights, is multiplied at load, as lstm.ts does it. */
export function gateExponent(p: u32): f32 {
  return (p >> 2) & 1 ? TANH_EXPONENT : SIGMOID_EXPONENT;
}

/**
 * z = bias + scale * product, f32 (groups, 16) -> activated gates at `to`, which may be `product`. With e_u = e^-u,
 * e_g = e^-2g and one denominator for both:
 *
 *   1 - u = e_u (1 + e_g) / ((1 + e_u)(1 + e_g))      u g = (1 - e_g) / ((1 + e_u)(1 + e_g))
 *
 * Absolute error below 1e-6; in Q15, whose rounding is 1.5e-5, with coarser exponentials, below 1e-5.
 */
export function activateGates(product: usize, scale: f32, bias: usize, to: usize, groups: u32, isQ15: bool): void {
  if (isQ15) activateWithin(product, scale, bias, to, groups, true);
  else activateWithin(product, scale, bias, to, groups, false);
}

// @ts-ignore: decorator
@inline
function activateWithin(product: usize, scale: f32, bias: usize, to: usize, groups: u32, isQ15: bool): void {
  const factor = f32x4.splat(scale);
  const one = f32x4.splat(1);
  for (const end = product + ((<usize>groups) << 6); product < end; product += 64, bias += 64) {
    const update0 = exponential(product, factor, bias, 0, isQ15);
    const both0 = f32x4.add(one, exponential(product, factor, bias, 16, isQ15));
    const share0 = f32x4.div(one, f32x4.mul(f32x4.add(one, update0), both0));
    const factor0 = f32x4.mul(f32x4.mul(update0, both0), share0);
    const addend0 = f32x4.mul(f32x4.sub(f32x4.splat(2), both0), share0);
    const update1 = exponential(product, factor, bias, 32, isQ15);
    const both1 = f32x4.add(one, exponential(product, factor, bias, 48, isQ15));
    const share1 = f32x4.div(one, f32x4.mul(f32x4.add(one, update1), both1));
    const factor1 = f32x4.mul(f32x4.mul(update1, both1), share1);
    const addend1 = f32x4.mul(f32x4.sub(f32x4.splat(2), both1), share1);
    if (isQ15) {
      v128.store(to, i16x8.narrow_i32x4_s(toQ15(factor0), toQ15(factor1)));
      v128.store(to, i16x8.narrow_i32x4_s(toQ15(addend0), toQ15(addend1)), 16);
      to += 32;
    } else {
      v128.store(to, factor0);
      v128.store(to, addend0, 16);
      v128.store(to, factor1, 32);
      v128.store(to, addend1, 48);
      to += 64;
    }
  }
}

/** 2^(bias + factor product) of the four values at `at`. */
// @ts-ignore: decorator
@inline
function exponential(product: usize, factor: v128, bias: usize, at: usize, coarse: bool): v128 {
  const z = f32x4.add(v128.load(bias + at), f32x4.mul(factor, v128.load(product + at)));
  return exp2Within(z, GATE_BOUND, coarse);
}

/** Rounds four values in [-1, 1] to Q15, ties to even, 1 to 32768: f32x4 -> i32x4. */
// @ts-ignore: decorator
@inline
function toQ15(x: v128): v128 {
  return roundEven(f32x4.mul(x, f32x4.splat(Q15_ONE)));
}

/** The scan of one direction, from state zero: what it reads, and where its results go. Rows of results have 8 groups values. */
@unmanaged
export class Scan {
  gates: usize; // u32[steps]: address of each step's activated gates
  steps: u32;
  isBackward: bool; // from the last step to the first
  shift: usize; // bytes from those addresses to the gates of this direction
  groups: u32; // of this direction, an even number
  last: usize; // f32[8 groups]: the last state, 0 without a step; so are the next two
  largest: usize; // f32[8 groups]: of all states
  mean: usize; // f32[8 groups]: of all states
  states: usize; // f32 (steps, stride): each state in the order of the steps, 8 groups floats a row; 0 = not wanted
  stride: usize; // bytes
}

/** In Q15: h' = ((factor h + 2^14) >> 15) + addend, saturating. Two vectors of eight units a pass, so that states, maxima and sums stay in registers. */
export function scanQ15(self: Scan): void {
  const steps = self.steps;
  const states = self.states;
  const move: isize = self.isBackward ? -4 : 4;
  const start = self.gates + (self.isBackward && steps ? (<usize>(steps - 1)) << 2 : 0);
  const scale = f32x4.splat(Q15_SCALE);
  const share = f32x4.splat(steps ? Q15_SCALE / <f32>steps : 0);
  for (let g: usize = 0, groups = <usize>self.groups; g < groups; g += 2) {
    const shift = self.shift + (g << 5);
    let h0 = i16x8.splat(0),
      h1 = h0;
    let largest0 = i16x8.splat(steps ? -32768 : 0),
      largest1 = largest0;
    let sum0 = h0,
      sum1 = h0,
      sum2 = h0,
      sum3 = h0;
    let at = start;
    for (let n = steps; n; n--) {
      const row = <usize>load<u32>(at) + shift;
      h0 = i16x8.add_sat_s(i16x8.q15mulr_sat_s(h0, v128.load(row)), v128.load(row, 16));
      h1 = i16x8.add_sat_s(i16x8.q15mulr_sat_s(h1, v128.load(row, 32)), v128.load(row, 48));
      largest0 = i16x8.max_s(largest0, h0);
      largest1 = i16x8.max_s(largest1, h1);
      sum0 = i32x4.add(sum0, i32x4.extend_low_i16x8_s(h0));
      sum1 = i32x4.add(sum1, i32x4.extend_high_i16x8_s(h0));
      sum2 = i32x4.add(sum2, i32x4.extend_low_i16x8_s(h1));
      sum3 = i32x4.add(sum3, i32x4.extend_high_i16x8_s(h1));
      if (states) {
        const state = states + ((at - self.gates) >> 2) * self.stride + (g << 5);
        storeScaled(state, h0, scale);
        storeScaled(state + 32, h1, scale);
      }
      at += move;
    }
    const to = g << 5;
    storeScaled(self.last + to, h0, scale);
    storeScaled(self.last + to + 32, h1, scale);
    storeScaled(self.largest + to, largest0, scale);
    storeScaled(self.largest + to + 32, largest1, scale);
    v128.store(self.mean + to, f32x4.mul(f32x4.convert_i32x4_s(sum0), share));
    v128.store(self.mean + to, f32x4.mul(f32x4.convert_i32x4_s(sum1), share), 16);
    v128.store(self.mean + to, f32x4.mul(f32x4.convert_i32x4_s(sum2), share), 32);
    v128.store(self.mean + to, f32x4.mul(f32x4.convert_i32x4_s(sum3), share), 48);
  }
}

/** Eight values in Q15 -> f32[8]. */
// @ts-ignore: decorator
@inline
function storeScaled(to: usize, values: v128, scale: v128): void {
  v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(values)), scale));
  v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(values)), scale), 16);
}

/** In f32: h' = factor h + addend. Two vectors of four units a pass. */
export function scanF32(self: Scan): void {
  const steps = self.steps;
  const states = self.states;
  const move: isize = self.isBackward ? -4 : 4;
  const start = self.gates + (self.isBackward && steps ? (<usize>(steps - 1)) << 2 : 0);
  const share = f32x4.splat(steps ? <f32>1 / <f32>steps : 0);
  for (let g: usize = 0, groups = <usize>self.groups; g < groups; g++) {
    const shift = self.shift + (g << 6);
    let h0 = f32x4.splat(0),
      h1 = h0;
    // States are at least -1.
    let largest0 = f32x4.splat(steps ? -2 : 0),
      largest1 = largest0;
    let sum0 = h0,
      sum1 = h0;
    let at = start;
    for (let n = steps; n; n--) {
      const row = <usize>load<u32>(at) + shift;
      h0 = f32x4.add(f32x4.mul(v128.load(row), h0), v128.load(row, 16));
      h1 = f32x4.add(f32x4.mul(v128.load(row, 32), h1), v128.load(row, 48));
      largest0 = f32x4.pmax(largest0, h0);
      largest1 = f32x4.pmax(largest1, h1);
      sum0 = f32x4.add(sum0, h0);
      sum1 = f32x4.add(sum1, h1);
      if (states) {
        const state = states + ((at - self.gates) >> 2) * self.stride + (g << 5);
        v128.store(state, h0);
        v128.store(state, h1, 16);
      }
      at += move;
    }
    const to = g << 5;
    v128.store(self.last + to, h0);
    v128.store(self.last + to, h1, 16);
    v128.store(self.largest + to, largest0);
    v128.store(self.largest + to, largest1, 16);
    v128.store(self.mean + to, f32x4.mul(sum0, share));
    v128.store(self.mean + to, f32x4.mul(sum1, share), 16);
  }
}
