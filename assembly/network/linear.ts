// The linear part of a model: the words, pairs of words and n-grams of a text -> a score for each
// label, which classify.ts adds to what enters the last softmax ("wide and deep": H.-T. Cheng
// et al., Wide & Deep Learning, 2016). Called by sequence.ts for each token as it is read.
//
//   score = (sum of rows) / sqrt(sum of squares) + bias
//
// A row is weights, one for each label, times the feature's value; its square is that of the value, so the
// text's features have the length 1. A known word has a row of its own, which includes its n-grams; any
// other token has those of its n-grams. What has no row counts in the length alone, so that a
// text of strange words is near the bias.
import { FORM_F32, MAX_NGRAMS_PER_WORD, MAX_SEQUENCE } from "../abi";
import { allocate } from "../arena";
import { scatter } from "../hash";
import {
  LinearHeader,
  Model,
  linearBias,
  linearPairs,
  linearRows,
  linearSquares,
  linearWeights,
  padded,
} from "./model";

/** The linear part of a loaded model. */
@unmanaged
export class Linear {
  labels: u32;
  words: u32;
  buckets: u32;
  width: u32; // bytes of scores: f32[labelCount], padded to 16
  stride: u32; // bytes of a row: f32[labelCount], padding, and the row's square as the last f32 of the 16 bytes
  networkShare: f32;
  weights: usize; // (rows + 1, stride); the last row is that of what has none: no weights, but its square
  bias: usize; // f32[labelCount], padded
  strange: usize; // address of that last row
  pairs: usize; // u32[pairCount][2]
  slots: usize; // u32[slotMask + 1]: number of a pair + 1, or 0 = free
  slotMask: u32;
}

/** What the linear part has read of a text. */
@unmanaged
export class LinearSum {
  linear: Linear;
  sum: usize; // a row: the sum of those read; once linearEnd was called its square is in `square`
  square: f32;
  waiting: usize; // u32[MAX_WAITING]: addresses of rows that are still to be added to the sum
  waitingCount: u32;
  tokens: u32; // those read, at most MAX_SEQUENCE
  before: u32; // id of the last one, 0 when the vocabulary lacks it
  rows: usize; // u32[MAX_NGRAMS_PER_WORD], scratch for tokens that the rest of the model does not keep
}

/**
 * Rows that are added at once: a sum in registers costs less than one in memory, and the reads of the rows
 * do not wait for the search for the next token.
 */
const MAX_WAITING: u32 = 2 * MAX_NGRAMS_PER_WORD;

/** The linear part of `model`, which has one, ready to read texts; null when memory is refused. */
export function linearPrepare(model: Model): Linear {
  const none = changetype<Linear>(0);
  const header = model.header;
  const part = changetype<LinearHeader>(model.linear);
  const self = changetype<Linear>(allocate(offsetof<Linear>()));
  const rows = linearRows(model);
  if (!changetype<usize>(self)) return none;
  const bytes = padded((<u64>header.labelCount + 1) << 2);
  if (bytes * (rows + 1) > 0x7fff0000) return none;
  self.labels = header.labelCount;
  self.words = header.wordCount;
  self.buckets = part.bucketCount;
  self.width = <u32>padded((<u64>header.labelCount) << 2);
  self.stride = <u32>bytes;
  self.networkShare = part.networkShare;
  self.bias = linearBias(model.linear, header.form, rows, header.labelCount);
  self.pairs = linearPairs(model.linear);
  self.weights = allocate(<usize>(bytes * (rows + 1)));
  if (!self.weights || !indexPairs(self, part.pairCount)) return none;
  expandRows(self.weights, self.stride, model, rows);
  const squares = linearSquares(model.linear);
  for (let r: u32 = 0; r <= rows; r++) {
    const square = r < rows ? load<f32>(squares + ((<usize>r) << 2)) : part.strangeSquare;
    store<f32>(rowAddress(self, r + 1) - 4, square);
  }
  self.strange = rowAddress(self, rows);
  return self;
}

/** Makes the slots of `count` pairs; false when memory is refused. */
export function indexPairs(self: Linear, count: u32): bool {
  let slots: u32 = 2;
  while (slots < 2 * count) slots <<= 1;
  self.slotMask = slots - 1;
  self.slots = allocate((<usize>slots) << 2);
  if (!self.slots) return false;
  for (let i: u32 = 0; i < count; i++) {
    const pair = self.pairs + ((<usize>i) << 3);
    store<u32>(pairSlot(self, load<u32>(pair), load<u32>(pair, 4)), i + 1);
  }
  return true;
}

/** Multiplies the rows out: f32, each padded to 16 bytes. */
function expandRows(target: usize, stride: u32, model: Model, rows: u32): void {
  const labels = model.header.labelCount;
  const from = linearWeights(model.linear, rows);
  if (model.header.form != FORM_F32) return expandNibbles(from, rows, labels, target, stride >> 2);
  for (let r: u32 = 0; r < rows; r++)
    memory.copy(target + <usize>r * stride, from + ((<usize>r * labels) << 2), (<usize>labels) << 2);
}

/** 4-bit rows of `labels` weights at `from`, and their scales behind them -> f32 rows of `width` at `target`. */
export function expandNibbles(from: usize, rows: u32, labels: u32, target: usize, width: u32): void {
  const bytes = (labels + 1) >> 1;
  const scales = from + <usize>padded(<u64>rows * bytes);
  for (let r: u32 = 0; r < rows; r++) {
    const scale = load<f32>(scales + ((<usize>r) << 2));
    for (let k: u32 = 0; k < labels; k++) {
      const byte = load<u8>(from + <usize>r * bytes + (k >> 1));
      const nibble = <i32>(k & 1 ? byte >> 4 : byte & 15);
      store<f32>(target + ((<usize>r * width + k) << 2), scale * <f32>((nibble << 28) >> 28));
    }
  }
}

/** Address of the slot of a pair of ids, or of the free one where it belongs. */
export function pairSlot(self: Linear, first: u32, second: u32): usize {
  let index = scatter(first * 0x9e3779b1 + second) & self.slotMask;
  while (true) {
    const slot = self.slots + ((<usize>index) << 2);
    const found = load<u32>(slot);
    if (found == 0) return slot;
    const pair = self.pairs + ((<usize>(found - 1)) << 3);
    if (load<u32>(pair) == first && load<u32>(pair, 4) == second) return slot;
    index = (index + 1) & self.slotMask;
  }
}

/** A sum of nothing in new memory; null when memory is refused. */
export function linearSumCreate(linear: Linear): LinearSum {
  const self = changetype<LinearSum>(allocate(offsetof<LinearSum>()));
  if (!changetype<usize>(self)) return self;
  self.linear = linear;
  self.sum = allocate(linear.stride);
  self.waiting = allocate(MAX_WAITING << 2);
  self.rows = allocate(MAX_NGRAMS_PER_WORD << 2);
  return self.sum && self.waiting && self.rows ? self : changetype<LinearSum>(0);
}

export function linearClear(self: LinearSum): void {
  for (let p: usize = 0, end = <usize>self.linear.stride; p < end; p += 16) v128.store(self.sum + p, f32x4.splat(0));
  self.square = 0;
  self.waitingCount = 0;
  self.tokens = 0;
  self.before = 0;
}

export function linearCopy(self: LinearSum, from: LinearSum): void {
  memory.copy(self.sum, from.sum, self.linear.width);
  self.square = from.square;
  self.tokens = from.tokens;
}

/** self += weight * from. */
export function linearAdd(self: LinearSum, from: LinearSum, weight: f32): void {
  const factor = f32x4.splat(weight);
  for (let p: usize = 0, end = <usize>self.linear.width; p < end; p += 16)
    v128.store(self.sum + p, f32x4.add(v128.load(self.sum + p), f32x4.mul(factor, v128.load(from.sum + p))));
  self.square += weight * from.square;
}

/**
 * Reads the next token: its id, or 0 and the `count` buckets at `buckets`, u32, which are rows of the embedding from
 * `firstBucket` on. The sum is whole after linearEnd.
 */
export function linearToken(self: LinearSum, id: u32, buckets: usize, count: u32, firstBucket: u32): void {
  if (self.tokens == <u32>MAX_SEQUENCE) return;
  const linear = self.linear;
  // The n-grams, the token itself, and its pair.
  if (self.waitingCount + count + 2 > MAX_WAITING) addWaiting(self);
  let at = self.waiting + ((<usize>self.waitingCount) << 2);
  if (id != 0) at = wait(at, rowAddress(linear, id - 1));
  else {
    at = wait(at, linear.strange);
    if (linear.buckets != 0) {
      for (let end = buckets + ((<usize>count) << 2); buckets < end; buckets += 4) {
        let bucket = load<u32>(buckets) - firstBucket;
        // Most often the embedding has no more buckets, and a division takes long.
        if (bucket >= linear.buckets) bucket %= linear.buckets;
        at = wait(at, rowAddress(linear, linear.words + bucket));
      }
    }
  }
  if (self.tokens != 0) {
    const pair = id != 0 && self.before != 0 ? load<u32>(pairSlot(linear, self.before, id)) : 0;
    at = wait(at, pair != 0 ? rowAddress(linear, linear.words + linear.buckets + pair - 1) : linear.strange);
  }
  self.waitingCount = <u32>((at - self.waiting) >> 2);
  self.before = id;
  self.tokens++;
}

// @ts-ignore: decorator
@inline
function wait(at: usize, row: usize): usize {
  store<u32>(at, <u32>row);
  return at + 4;
}

// @ts-ignore: decorator
@inline
function rowAddress(self: Linear, row: u32): usize {
  return self.weights + <usize>row * self.stride;
}

/** Adds the rows that wait, in their order. */
function addWaiting(self: LinearSum): void {
  const stride = <usize>self.linear.stride;
  const end = self.waiting + ((<usize>self.waitingCount) << 2);
  let p: usize = 0;
  for (; p + 32 <= stride; p += 32) {
    let low = v128.load(self.sum + p);
    let high = v128.load(self.sum + p, 16);
    for (let at = self.waiting; at < end; at += 4) {
      const row = <usize>load<u32>(at) + p;
      low = f32x4.add(low, v128.load(row));
      high = f32x4.add(high, v128.load(row, 16));
    }
    v128.store(self.sum + p, low);
    v128.store(self.sum + p, high, 16);
  }
  if (p < stride) {
    let last = v128.load(self.sum + p);
    for (let at = self.waiting; at < end; at += 4) last = f32x4.add(last, v128.load(<usize>load<u32>(at) + p));
    v128.store(self.sum + p, last);
  }
  self.waitingCount = 0;
}

/** Completes the sum after the last token. */
export function linearEnd(self: LinearSum): void {
  addWaiting(self);
  const square = self.sum + self.linear.stride - 4;
  self.square = load<f32>(square);
  store<f32>(square, 0);
}

/** 1 / length of the text's features; 0 when it has none. */
export function linearScale(self: LinearSum): f32 {
  return self.square > 0 ? <f32>1 / sqrt<f32>(self.square) : 0;
}

/** Writes the scores to f32[labelCount]. */
export function linearScores(self: LinearSum, scores: usize): void {
  const linear = self.linear;
  const share = linearScale(self);
  for (let p: usize = 0, end = (<usize>linear.labels) << 2; p < end; p += 4)
    store<f32>(scores + p, load<f32>(self.sum + p) * share + load<f32>(linear.bias + p));
}

/** target = networkShare * target + scale * score, f32[labelCount] padded to 4. */
export function linearMix(self: LinearSum, target: usize, scale: f32): void {
  const linear = self.linear;
  const share = f32x4.splat(linearScale(self));
  const factor = f32x4.splat(scale);
  const others = f32x4.splat(linear.networkShare);
  for (let p: usize = 0, end = <usize>linear.width; p < end; p += 16) {
    const score = f32x4.add(f32x4.mul(v128.load(self.sum + p), share), v128.load(linear.bias + p));
    v128.store(target + p, f32x4.add(f32x4.mul(others, v128.load(target + p)), f32x4.mul(factor, score)));
  }
}
