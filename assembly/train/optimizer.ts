// Gradients -> new parameters: SGD with momentum, Adam, and a moving average, as in Keras 3.
// Called by step.ts once a step. Slots are blocks with the parameters' layout: SGD with
// momentum has one, Adam two (m, v). Refuses nothing: step.ts checks the gradients.
import { OPTIMIZER_NESTEROV, OPTIMIZER_SGD } from "../abi";
import { network, ROW_FADED, ROW_KNOWN, ROW_TOUCHED } from "./network";
import { loadU32, storeU32 } from "./rows";
import { settings } from "./settings";

/** What is kept between steps, in blocks with the parameters' layout. */
@unmanaged
export class Optimizer {
  slot0: usize; // momentum or m; 0 = none
  slot1: usize; // v; 0 = none
  average: usize; // moving average of the parameters; 0 = none
  fadedSince: usize; // u32[V] step after which a ROW_FADED row's slots were left alone; 0 = rows do not fade
  lossValue: f32; // of the last step
  gradientNorm: f32; // of the last step, before clipping
}

/**
 * Smaller gradients and slots are flushed to 0. They cannot change a parameter, but in long sequences they
 * would become denormal (below 1.2e-38), which x86 computes a hundred times slower.
 */
export const NEGLIGIBLE: f32 = 1e-30;
/** The limit for squared gradients: its root is negligible beside epsilon. */
const NEGLIGIBLE_SQUARE: f32 = 1e-36;

// The factors of this step, for the functions on spans below.
let scale: f32 = 1;
let rate: f32 = 0;
let decay: f32 = 0;

// In Keras the gradient of an embedding has one slice for each token. Without clipping, Adam
// sums the squares of a row's slices for v; with clipping, the norm is computed from these
// squares, but v gets the square of the sum. OPTIMIZER_PER_TOKEN reproduces both to rounding,
// for the cost of one more product over all tokens. Without it a row has one gradient, the
// sum of its slices, as in PyTorch.

/** Length of the gradient of all parameters together; NaN or infinite when any of it is. */
export function gradientNorm(): f32 {
  let sum = sumOfSquares(
    network.gradients + network.embeddingBytes,
    <u32>((network.parameterBytes - network.embeddingBytes) >> 2),
  );
  if (network.splitsTokens) return sqrt<f32>(sum + network.tokenSquares);
  for (let i: u32 = 0; i < network.touchedCount; i++) {
    sum += sumOfSquares(network.gradients + ((<usize>loadU32(network.touched, i) * network.width) << 2), network.width);
  }
  return sqrt<f32>(sum);
}

/** Sum of the squares of f32[length]. */
export function sumOfSquares(values: usize, length: u32): f32 {
  const end = values + ((<usize>length) << 2);
  let sums = f32x4.splat(0);
  for (; values + 16 <= end; values += 16) {
    const x = v128.load(values);
    sums = f32x4.add(sums, f32x4.mul(x, x));
  }
  let sum: f32 =
    f32x4.extract_lane(sums, 0) +
    f32x4.extract_lane(sums, 1) +
    (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3));
  for (; values < end; values += 4) sum += load<f32>(values) * load<f32>(values);
  return sum;
}

/** One step with the present gradients, shortened to clipNorm. */
export function optimizerUpdate(self: Optimizer, learningRate: f32): void {
  const state = network.state;
  state.steps++;
  scale = settings.clipNorm > 0 ? settings.clipNorm / max<f32>(self.gradientNorm, settings.clipNorm) : 1;
  decay = settings.weightDecay * learningRate;
  rate = learningRate;
  if (settings.optimizer != OPTIMIZER_SGD) {
    state.beta1Power *= <f64>(<f32>settings.beta1);
    state.beta2Power *= <f64>(<f32>settings.beta2);
    // alpha = lr sqrt(1 - beta2^t) / (1 - beta1^t)
    rate = (learningRate * sqrt<f32>(<f32>(1 - state.beta2Power))) / <f32>(1 - state.beta1Power);
  }
  updateEmbedding(self);
  updateSpan(self, network.embeddingBytes, network.parameterBytes - network.embeddingBytes, true);
}

/**
 * Skips rows that never had a gradient: their slots are 0, so an update would not change them.
 * Consecutive rows of one kind are updated as one span.
 */
function updateEmbedding(self: Optimizer): void {
  const bytes = (<usize>network.width) << 2;
  const rows = network.rows;
  const isPlain = self.slot0 == 0;
  let first: u32 = 0;
  while (first < rows) {
    const kind = rowKind(self, first, isPlain);
    let end = first + 1;
    if (kind == ROW_KNOWN && self.fadedSince != 0 && rate > 0) {
      if (adamSpan(self, <usize>first * bytes, bytes, false, 0)) {
        storeU32(self.fadedSince, first, network.state.steps);
        store<u8>(network.rowStates + first, ROW_KNOWN | ROW_FADED);
      }
    } else {
      while (end < rows && rowKind(self, end, isPlain) == kind) end++;
      if (kind == ROW_TOUCHED && self.fadedSince != 0) wakeRows(self, first, end, network.state.steps - 1);
      if (kind != 0) updateSpan(self, <usize>first * bytes, <usize>(end - first) * bytes, kind == ROW_TOUCHED);
    }
    first = end;
  }
}

/** ROW_TOUCHED: has a gradient; ROW_KNOWN: must be updated without one; 0: stays as it is. */
function rowKind(self: Optimizer, row: u32, isPlain: bool): u8 {
  const state = load<u8>(network.rowStates + row);
  if (state & ROW_TOUCHED) return ROW_TOUCHED;
  if (row - network.state.frozenFirst < network.state.frozenCount) return 0;
  if (decay != 0) return ROW_KNOWN;
  return isPlain || (state & ROW_FADED) != 0 ? 0 : state & ROW_KNOWN;
}

// With Adam, a row without gradients keeps moving, by about beta1 times as much in each step,
// until the changes are lost in rounding. Then the row has faded: only its slots still change, and
// they are caught up when they are next needed, as m beta1^k and v beta2^k after k steps. Most
// words of a vocabulary are rare, so this saves most of the work on the embedding.

/** Brings the slots of the faded rows among first ... end - 1 up to date with `step`. */
function wakeRows(self: Optimizer, first: u32, end: u32, step: u32): void {
  const bytes = (<usize>network.width) << 2;
  for (let row = first; row < end; row++) {
    const state = load<u8>(network.rowStates + row);
    if (!(state & ROW_FADED)) continue;
    const missed = step - loadU32(self.fadedSince, row);
    shrinkSlots(self.slot0 + <usize>row * bytes, bytes, power(<f32>settings.beta1, missed), NEGLIGIBLE);
    shrinkSlots(self.slot1 + <usize>row * bytes, bytes, power(<f32>settings.beta2, missed), NEGLIGIBLE_SQUARE);
    store<u8>(network.rowStates + row, state & ~ROW_FADED);
  }
}

function shrinkSlots(slots: usize, bytes: usize, share: f32, limit: f32): void {
  for (const end = slots + bytes; slots < end; slots += 4) {
    const value = load<f32>(slots) * share;
    store<f32>(slots, abs<f32>(value) < limit ? <f32>0 : value);
  }
}

/** base^exponent, by squaring. */
function power(base: f32, exponent: u32): f32 {
  let result: f32 = 1;
  for (; exponent; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

/** Catches all slots up with the last step, before they are saved. */
export function optimizerSettle(self: Optimizer): void {
  if (self.fadedSince != 0) wakeRows(self, 0, network.rows, network.state.steps);
}

/** Updates the parameters at [offset, offset + bytes) of the block. */
function updateSpan(self: Optimizer, offset: usize, bytes: usize, hasGradient: bool): void {
  if (decay != 0) decaySpan(network.parameters + offset, bytes);
  if (settings.optimizer == OPTIMIZER_SGD) {
    if (self.slot0 == 0) {
      if (hasGradient) sgdSpan(network.parameters + offset, network.gradients + offset, bytes);
    } else {
      momentumSpan(self, offset, bytes);
    }
  } else if (!hasGradient) {
    adamSpan(self, offset, bytes, false, 0);
  } else if (network.squares != 0 && offset < network.embeddingBytes) {
    adamSpan(self, offset, bytes, true, network.squares + offset);
  } else {
    adamSpan(self, offset, bytes, true, 0);
  }
}

/** w -= decay * w, before the update, as AdamW. */
function decaySpan(w: usize, bytes: usize): void {
  const end = w + bytes;
  for (; w + 16 <= end; w += 16) v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(v128.load(w), f32x4.splat(decay))));
  for (; w < end; w += 4) store<f32>(w, load<f32>(w) - load<f32>(w) * decay);
}

/** w -= rate * g */
function sgdSpan(w: usize, g: usize, bytes: usize): void {
  const end = w + bytes;
  for (; w + 16 <= end; w += 16, g += 16) {
    v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(f32x4.mul(v128.load(g), f32x4.splat(scale)), f32x4.splat(rate))));
  }
  for (; w < end; w += 4, g += 4) store<f32>(w, load<f32>(w) - load<f32>(g) * scale * rate);
}

/** m = momentum * m - rate * g;  w += m, or w += momentum * m - rate * g (Nesterov) */
function momentumSpan(self: Optimizer, offset: usize, bytes: usize): void {
  const isNesterov = (settings.optimizerFlags & OPTIMIZER_NESTEROV) != 0;
  const momentum = f32x4.splat(<f32>settings.beta1);
  let w = network.parameters + offset;
  let g = network.gradients + offset;
  let m = self.slot0 + offset;
  for (let rest = bytes; rest > 0;) {
    const lanes = min<usize>(rest, 16);
    const step = f32x4.mul(f32x4.mul(v128.load(g), f32x4.splat(scale)), f32x4.splat(rate));
    const velocity = flush(f32x4.sub(f32x4.mul(v128.load(m), momentum), step), NEGLIGIBLE);
    const change = isNesterov ? f32x4.sub(f32x4.mul(velocity, momentum), step) : velocity;
    const weight = f32x4.add(v128.load(w), change);
    storeLanes(m, velocity, lanes);
    storeLanes(w, weight, lanes);
    rest -= lanes;
    w += 16;
    g += 16;
    m += 16;
  }
}

/** m += (g - m) (1 - beta1);  v += (g^2 - v) (1 - beta2);  w -= rate m / (sqrt v + epsilon). g^2 is read from `squares` unless that is 0. True when no w changed. */
// @ts-ignore: decorator
@inline
function adamSpan(self: Optimizer, offset: usize, bytes: usize, hasGradient: bool, squares: usize): bool {
  const rest1 = f32x4.splat(<f32>(1 - settings.beta1));
  const rest2 = f32x4.splat(<f32>(1 - settings.beta2));
  const epsilon = f32x4.splat(settings.epsilon);
  const factor = f32x4.splat(rate);
  const clip = f32x4.splat(scale);
  const w = network.parameters;
  const g = network.gradients;
  const p = self.slot0;
  const q = self.slot1;
  const s = squares ? squares - offset : 0;
  let moved = i32x4.splat(0);
  const end = offset + bytes;
  for (; offset + 16 <= end; offset += 16) {
    const change = adamLanes(w, g, p, q, s, offset, 16, hasGradient, clip, rest1, rest2, epsilon, factor);
    moved = v128.or(moved, change);
  }
  if (offset < end) {
    const change = adamLanes(w, g, p, q, s, offset, end - offset, hasGradient, clip, rest1, rest2, epsilon, factor);
    moved = v128.or(moved, change);
  }
  return !v128.any_true(moved);
}

/** adamSpan for the four parameters at `offset`, of which the first `bytes` bytes are stored; returns the bits in which they changed. */
// @ts-ignore: decorator
@inline
function adamLanes(
  w: usize,
  g: usize,
  p: usize,
  q: usize,
  squares: usize,
  offset: usize,
  bytes: usize,
  hasGradient: bool,
  clip: v128,
  rest1: v128,
  rest2: v128,
  epsilon: v128,
  factor: v128,
): v128 {
  let gradient = f32x4.splat(0);
  if (hasGradient) gradient = f32x4.mul(v128.load(g + offset), clip);
  let m = v128.load(p + offset);
  m = flush(f32x4.add(m, f32x4.mul(f32x4.sub(gradient, m), rest1)), NEGLIGIBLE);
  let square = f32x4.mul(gradient, gradient);
  if (squares != 0) square = v128.load(squares + offset);
  let v = v128.load(q + offset);
  v = flush(f32x4.add(v, f32x4.mul(f32x4.sub(square, v), rest2)), NEGLIGIBLE_SQUARE);
  storeLanes(p + offset, m, bytes);
  storeLanes(q + offset, v, bytes);
  const change = f32x4.div(f32x4.mul(m, factor), f32x4.add(f32x4.sqrt(v), epsilon));
  const before = v128.load(w + offset);
  const weight = f32x4.sub(before, change);
  storeLanes(w + offset, weight, bytes);
  // Lanes beyond the span were not stored, so they must not count as moved.
  return v128.xor(before, bytes == 16 ? weight : v128.load(w + offset));
}

/** Stores the first `bytes` bytes of a vector, since a span may end inside one. Loads may read past the end of a span. */
// @ts-ignore: decorator
@inline
function storeLanes(address: usize, value: v128, bytes: usize): void {
  if (bytes == 16) v128.store(address, value);
  else storePart(address, value, bytes);
}

function storePart(address: usize, value: v128, bytes: usize): void {
  store<f32>(address, f32x4.extract_lane(value, 0));
  if (bytes > 4) store<f32>(address, f32x4.extract_lane(value, 1), 4);
  if (bytes > 8) store<f32>(address, f32x4.extract_lane(value, 2), 8);
}

/** 0 where |x| is below `limit`. NaN stays, since no comparison with it holds. */
// @ts-ignore: decorator
@inline
export function flush(x: v128, limit: f32): v128 {
  return v128.andnot(x, f32x4.lt(f32x4.abs(x), f32x4.splat(limit)));
}

/** average += (w - average) (1 - decay); the first call copies the parameters. */
export function averageUpdate(self: Optimizer, averageDecay: f32): void {
  const state = network.state;
  state.averages++;
  if (state.averages == 1) {
    memory.copy(self.average, network.parameters, network.parameterBytes);
    return;
  }
  const share = f32x4.splat(<f32>1 - averageDecay);
  let w = network.parameters;
  let a = self.average;
  for (const end = w + network.parameterBytes; w < end; w += 16, a += 16) {
    const old = v128.load(a);
    v128.store(a, f32x4.add(old, f32x4.mul(f32x4.sub(v128.load(w), old), share)));
  }
}

/** Exchanges the parameters and their average. */
export function averageSwap(self: Optimizer): void {
  let w = network.parameters;
  let a = self.average;
  for (const end = w + network.parameterBytes; w < end; w += 16, a += 16) {
    const value = v128.load(w);
    v128.store(w, v128.load(a));
    v128.store(a, value);
  }
}
