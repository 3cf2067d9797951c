// Tokens -> activated gates of a minGRU: what mingru.ts scans. Called by classify.ts; prepare.ts packs the weights.
// Gates depend on the token alone, so they are kept when they are first computed:
//
//   table  one row for each row of the embedding, if all fit into TABLE_BUDGET: for tokens that are one row
//   cache  a fixed number of slots for all others, such as unknown words, which are the mean of their n-grams'
//          rows. A slot has the token's list of rows, so that nothing but an equal list is taken for it. A new list
//          replaces what was not used for longest of the WAYS slots from the one that its hash tells, or, if the
//          present text uses them all, takes the next slot that it does not. There are at least twice as many slots
//          as a text has steps.
//
// Both are only reserved at loading: a page that was never touched takes no physical memory. What is kept has the
// bits that computing it anew would give.
import { CONTEXT_ROW } from "../abi";
import { equalRows, hashRows, scatter } from "../hash";
import { roundEven } from "./activation";
import { projectF32, projectS8 } from "./lstm";
import { activateGates } from "./mingru";
import { GatePlan, Plan } from "./plan";
import { Sequence, tokenRowCount, tokenRows } from "./sequence";

/** Slots in which a list of rows is looked for. */
const WAYS: u32 = 4;

/** A row of the embedding in int8 products: whole numbers up to this, so that 1024 * 127 * INPUT_MOST < 2^31. */
const INPUT_MOST: f32 = 16383.0;
/** A smaller vector counts as 0. */
const LEAST_INPUT: f32 = 1e-30;

/** Finds the gates of the `steps` tokens from `first` on: their addresses go to plan.steps, valid until the next call. A token that is not shown counts as padding. */
export function tokenGates(plan: Plan, self: GatePlan, sequence: Sequence, first: u32, steps: u32): void {
  beginText(self);
  for (let t: u32 = 0; t < steps; t++) {
    const token = first + t;
    let gates: usize;
    // For a token before the first one shown the difference wraps to a huge u32, so one comparison checks both ends.
    if (token - sequence.shownFrom >= sequence.shownTo - sequence.shownFrom)
      gates = gatesOf(plan, self, plan.padding, 1);
    else gates = gatesOf(plan, self, tokenRows(sequence, token), tokenRowCount(sequence, token));
    store<u32>(plan.steps + ((<usize>t) << 2), <u32>gates);
  }
}

/** The same for the states of the layer before: f32 (steps, stride in bytes). */
export function stateGates(plan: Plan, self: GatePlan, states: usize, stride: usize, steps: u32): void {
  for (let t: u32 = 0; t < steps; t++) {
    const gates = self.stepGates + <usize>t * self.bytes;
    computeGates(plan, self, states + <usize>t * stride, gates);
    store<u32>(plan.steps + ((<usize>t) << 2), <u32>gates);
  }
}

/** Address of the gates of a token with these `count` rows. */
function gatesOf(plan: Plan, self: GatePlan, rows: usize, count: u32): usize {
  if (count > 1 || self.table == 0) return cachedGates(plan, self, rows, count);
  const row = load<u32>(rows);
  const gates = self.table + <usize>row * self.bytes;
  if (load<u8>(self.known + row)) return gates;
  store<u8>(self.known + row, 1);
  averageRows(plan, rows, 1);
  computeGates(plan, self, plan.row, gates);
  return gates;
}

function beginText(self: GatePlan): void {
  if (++self.text != 0) return;
  // After 2^32 texts the numbers begin anew.
  for (let s: u32 = 0; s <= self.slotMask; s++) store<u32>(self.slots + <usize>s * self.slotBytes, 0);
  self.text = 1;
}

/** Slot: | u32 number of the last text that used it, 0 = free | u32 count | u32 rows[...] | gates | */
function cachedGates(plan: Plan, self: GatePlan, rows: usize, count: u32): usize {
  const home = scatter(hashRows(rows, count));
  let oldest = self.slots + <usize>(home & self.slotMask) * self.slotBytes;
  for (let way: u32 = 0; way < WAYS || load<u32>(oldest) == self.text; way++) {
    const slot = self.slots + <usize>((home + way) & self.slotMask) * self.slotBytes;
    const text = load<u32>(slot);
    if (text != 0 && load<u32>(slot, 4) == count && equalRows(slot + 8, rows, count)) {
      store<u32>(slot, self.text);
      return slot + self.slotBytes - self.bytes;
    }
    if (text < load<u32>(oldest)) oldest = slot;
  }
  store<u32>(oldest, self.text);
  store<u32>(oldest, count, 4);
  for (let p: usize = 0, bytes = (<usize>count) << 2; p < bytes; p += 4)
    store<u32>(oldest + 8 + p, load<u32>(rows + p));
  averageRows(plan, rows, count);
  const gates = oldest + self.slotBytes - self.bytes;
  computeGates(plan, self, plan.row, gates);
  return gates;
}

/** plan.row, f32[E] = the mean of the rows, plus the context row in full, if the last one is marked as that. */
function averageRows(plan: Plan, rows: usize, count: u32): void {
  const last = load<u32>(rows + ((<usize>(count - 1)) << 2));
  const averaged = last & CONTEXT_ROW ? count - 1 : count;
  for (let k: usize = 0, bytes = (<usize>plan.width) << 2; k < bytes; k += 16) v128.store(plan.row + k, f32x4.splat(0));
  for (let r: u32 = 0; r < averaged; r++) addRow(plan, load<u32>(rows + ((<usize>r) << 2)), <f32>1 / <f32>averaged);
  if (averaged < count) addRow(plan, last & ~CONTEXT_ROW, 1);
}

/** plan.row += share * row. Its last vector may read beyond the row, never beyond the file. */
function addRow(plan: Plan, row: u32, share: f32): void {
  const width = <usize>plan.width;
  if (plan.embeddingScale == 0) {
    const from = plan.embedding + ((<usize>row * width) << 2);
    const factor = f32x4.splat(share);
    for (let k: usize = 0, bytes = width << 2; k < bytes; k += 16)
      v128.store(plan.row + k, f32x4.add(v128.load(plan.row + k), f32x4.mul(factor, v128.load(from + k))));
    return;
  }
  const from = plan.embedding + <usize>row * width;
  const factor = f32x4.splat(share * load<f32>(plan.embeddingScale + ((<usize>row) << 2)));
  for (let k: usize = 0; k < width; k += 4) {
    const whole = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from + k)));
    const to = plan.row + (k << 2);
    v128.store(to, f32x4.add(v128.load(to), f32x4.mul(factor, f32x4.convert_i32x4_s(whole))));
  }
}

/** Activated gates of both directions for the vector x, f32[inputs] in a buffer of whole vectors. */
function computeGates(plan: Plan, self: GatePlan, x: usize, gates: usize): void {
  if (!plan.isInt8) {
    projectF32(self.kernel, plan.zeros, x, self.inputs, self.groups, plan.z);
    return activateGates(plan.z, 1, self.bias, gates, self.groups, false);
  }
  const scale = roundInput(x, plan.inputQ14, self.inputs);
  projectS8(self.kernel, self.kernelScale, plan.zeros, plan.inputQ14, self.inputPairs, self.groups, plan.z);
  activateGates(plan.z, scale, self.bias, gates, self.groups, true);
}

/** x -> whole numbers up to INPUT_MOST, s16, ties to even, and the factor that turns them back: x is about whole * factor. Those behind `count` may be anything, as their weights are 0. */
function roundInput(x: usize, whole: usize, count: u32): f32 {
  let largest: f32 = 0;
  for (let k: u32 = 0; k < count; k++) largest = max<f32>(largest, abs<f32>(load<f32>(x + ((<usize>k) << 2))));
  const isZero = !(largest >= LEAST_INPUT);
  const scale = f32x4.splat(isZero ? 0 : INPUT_MOST / largest);
  const most = f32x4.splat(INPUT_MOST);
  for (let k: u32 = 0; k < count; k += 4) {
    // pmax with the bound first turns NaN into the bound.
    const scaled = f32x4.mul(v128.load(x + ((<usize>k) << 2)), scale);
    const clamped = f32x4.pmin(most, f32x4.pmax(f32x4.neg(most), scaled));
    const rounded = roundEven(clamped);
    v128.store64_lane(whole + ((<usize>k) << 1), i16x8.narrow_i32x4_s(rounded, rounded), 0);
  }
  return isZero ? 0 : largest / INPUT_MOST;
}
