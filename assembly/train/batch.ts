// The plan of one batch: token rows of B samples x T steps -> which rows each step computes.
// Made by networkBatch before a pass; forward.ts and backward.ts follow it.
// Refuses a batch beyond the capacities, a token without rows, and rows outside the
// embedding (ERR_BAD_ARGUMENT); an empty batch is ERR_NO_SAMPLES.
import { CONTEXT_ROW, ERR_BAD_ARGUMENT, ERR_NO_SAMPLES, OK } from "../abi";
import { allocate } from "../arena";
import { equalRows, hashRows } from "../hash";
import { network, OWN_ROW } from "./network";
import { loadU32, storeU32 } from "./rows";

// With a mask, a sample is computed only from its first real step to its last one.
// Samples are ordered by the length of that span, longest first, so that the samples
// of a step are a prefix of that order, whether texts are padded before or behind:
//
//   step          0  1  2  3             rows are numbered step after step:
//   sample (pre)  x  x  x  x             | 0 | 1 2 | 3 4 | 5 6 7 |
//   sample           x  x  x
//   sample                 x             step 0 has 1 row, step 3 has 3 rows
//
// A masked step between real ones keeps its row, and only copies the state.
// Equal tokens share a slot: what depends only on the token is computed once for each slot. Of an LSTM these are the
// products with word vectors. With dropout, which it draws for each row, they share nothing, but for a minGRU it is drawn for each slot.

/** Stands for no row: the sample has no real step. */
export const NO_ROW: u32 = 0xffffffff;


@unmanaged
export class Plan {
  batch: u32;
  total: u32; // number of samples over which the loss is averaged: more than `batch` when this is only a share of a batch
  time: u32;
  rows: u32; // R
  slotCount: u32;
  isDirect: u32; // each row is its own slot, since too few tokens repeat
  hasMasked: u32; // some row of the plan is a masked step
  order: usize; // u32[B] sample at each place
  starts: usize; // u32[B] first real step, by sample
  ends: usize; // u32[B] last real step + 1, by sample; 0 = none
  stepRows: usize; // u32[T] rows of each step
  stepFirst: usize; // u32[T] its first row
  firstRows: usize; // u32[B] row of the first real step, by place, or NO_ROW
  lastRows: usize; // u32[B] row of the last real step, by place, or NO_ROW
  rowTokens: usize; // u32[R] sample * T + step
  rowSamples: usize; // u32[R]
  rowReal: usize; // u32[R] 0 = masked
  slots: usize; // u32[R]
  slotTokens: usize; // u32[slots] a token of this slot
  slotOfRow: usize; // u32[V] by place (see placeOf): slot + 1 of the last token there that can share a slot; all 0 between batches
  otherSlots: usize; // u32[slots] slot + 1 of another token with the same place, or 0
  counts: usize; // u32[T + 2]
}

export let plan: Plan = changetype<Plan>(0);

/** Claims the plan's arrays; false when memory is refused. */
export function planBuild(batchCapacity: u32, timeCapacity: u32, embeddingRows: u32): bool {
  const rows = <usize>batchCapacity * timeCapacity;
  // u32 counts of the arrays from `order` on, in the order of the fields.
  const total: usize = <usize>5 * batchCapacity + <usize>3 * timeCapacity + 2 + <usize>6 * rows + embeddingRows;
  const address = allocate(offsetof<Plan>() + total * 4);
  if (address == 0) return false;
  plan = changetype<Plan>(address);
  let next = address + offsetof<Plan>();
  plan.order = next;
  next += (<usize>batchCapacity) << 2;
  plan.starts = next;
  next += (<usize>batchCapacity) << 2;
  plan.ends = next;
  next += (<usize>batchCapacity) << 2;
  plan.firstRows = next;
  next += (<usize>batchCapacity) << 2;
  plan.lastRows = next;
  next += (<usize>batchCapacity) << 2;
  plan.stepRows = next;
  next += (<usize>timeCapacity) << 2;
  plan.stepFirst = next;
  next += (<usize>timeCapacity) << 2;
  plan.counts = next;
  next += (<usize>timeCapacity + 2) << 2;
  plan.rowTokens = next;
  next += rows << 2;
  plan.rowSamples = next;
  next += rows << 2;
  plan.rowReal = next;
  next += rows << 2;
  plan.slots = next;
  next += rows << 2;
  plan.slotTokens = next;
  next += rows << 2;
  plan.otherSlots = next;
  next += rows << 2;
  plan.slotOfRow = next;
  return true;
}

/** Plans the batch that the caller wrote: `batch` samples of `time` steps. */
export function networkBatch(batch: u32, time: u32): i32 {
  plan.batch = 0;
  if (batch == 0) return ERR_NO_SAMPLES;
  if (batch > network.batchCapacity || time < 1 || time > network.timeCapacity) return ERR_BAD_ARGUMENT;
  if (!tokensAreLegal(batch * time)) return ERR_BAD_ARGUMENT;
  for (let b: u32 = 0; b < batch; b++) store<f32>(network.sampleWeights + ((<usize>b) << 2), 1);
  plan.batch = batch;
  plan.total = batch;
  plan.time = time;
  findSpans();
  orderSamples();
  numberRows();
  shareSlots();
  return OK;
}

function tokensAreLegal(tokens: u32): bool {
  let start = loadU32(network.rowOffsets, 0);
  if (start != 0) return false;
  for (let i: u32 = 0; i < tokens; i++) {
    const end = loadU32(network.rowOffsets, i + 1);
    if (end <= start || end - start > network.rowsPerToken) return false;
    if ((loadU32(network.rowIds, start) & ~OWN_ROW) >= network.rows) return false;
    for (let j = start + 1; j < end; j++) {
      const id = loadU32(network.rowIds, j);
      if ((j + 1 == end ? id & ~CONTEXT_ROW : id) >= network.rows) return false;
    }
    start = end;
  }
  return true;
}

/** Padding: a token of row 0 alone. */
function isPadding(token: u32): bool {
  const start = loadU32(network.rowOffsets, token);
  return loadU32(network.rowOffsets, token + 1) == start + 1 && loadU32(network.rowIds, start) == 0;
}

function findSpans(): void {
  const time = plan.time;
  for (let b: u32 = 0; b < plan.batch; b++) {
    let start: u32 = 0;
    let end = time;
    if (network.isMasked) {
      while (start < time && isPadding(b * time + start)) start++;
      while (end > start && isPadding(b * time + end - 1)) end--;
      if (start == end) {
        start = 0;
        end = 0;
      }
    }
    storeU32(plan.starts, b, start);
    storeU32(plan.ends, b, end);
  }
}

/** Counting sort by length of span, longest first; equal lengths keep their order. */
function orderSamples(): void {
  const time = plan.time;
  memory.fill(plan.counts, 0, (<usize>time + 2) << 2);
  for (let b: u32 = 0; b < plan.batch; b++) {
    const rank = time - (loadU32(plan.ends, b) - loadU32(plan.starts, b));
    storeU32(plan.counts, rank + 1, loadU32(plan.counts, rank + 1) + 1);
  }
  for (let i: u32 = 1; i <= time; i++) storeU32(plan.counts, i, loadU32(plan.counts, i) + loadU32(plan.counts, i - 1));
  for (let b: u32 = 0; b < plan.batch; b++) {
    const rank = time - (loadU32(plan.ends, b) - loadU32(plan.starts, b));
    const place = loadU32(plan.counts, rank);
    storeU32(plan.counts, rank, place + 1);
    storeU32(plan.order, place, b);
  }
}

function numberRows(): void {
  const time = plan.time;
  let rows: u32 = 0;
  plan.hasMasked = 0;
  memory.fill(plan.firstRows, 0xff, (<usize>plan.batch) << 2);
  memory.fill(plan.lastRows, 0xff, (<usize>plan.batch) << 2);
  for (let t: u32 = 0; t < time; t++) {
    let count: u32 = 0;
    for (let place: u32 = 0; place < plan.batch; place++) {
      const b = loadU32(plan.order, place);
      const start = loadU32(plan.starts, b);
      const end = loadU32(plan.ends, b);
      if (t < start || t >= end) continue;
      count = place + 1;
      if (t == start) storeU32(plan.firstRows, place, rows + place);
      if (t == end - 1) storeU32(plan.lastRows, place, rows + place);
    }
    storeU32(plan.stepRows, t, count);
    storeU32(plan.stepFirst, t, rows);
    for (let place: u32 = 0; place < count; place++) {
      const b = loadU32(plan.order, place);
      const token = b * time + t;
      const isReal: u32 = network.isMasked && isPadding(token) ? 0 : 1;
      if (!isReal) plan.hasMasked = 1;
      storeU32(plan.rowTokens, rows + place, token);
      storeU32(plan.rowSamples, rows + place, b);
      storeU32(plan.rowReal, rows + place, isReal);
    }
    rows += count;
  }
  plan.rows = rows;
}

function shareSlots(): void {
  const rows = plan.rows;
  let count: u32 = 0;
  for (let r: u32 = 0; r < rows; r++) {
    const token = loadU32(plan.rowTokens, r);
    const start = loadU32(network.rowOffsets, token);
    // A token that consists of one row, or has an own row and no context row, always has the same rows.
    const end = loadU32(network.rowOffsets, token + 1);
    const first = loadU32(network.rowIds, start);
    const isShared =
      network.sharesDropout != 0 ||
      end == start + 1 ||
      ((first & OWN_ROW) != 0 && (loadU32(network.rowIds, end - 1) & CONTEXT_ROW) == 0);
    const place = placeOf(start, end);
    const last = isShared ? loadU32(plan.slotOfRow, place) : 0;
    let slot = last;
    while (network.sharesDropout && slot != 0 && !hasRows(loadU32(plan.slotTokens, slot - 1), start, end))
      slot = loadU32(plan.otherSlots, slot - 1);
    if (slot == 0) {
      storeU32(plan.slotTokens, count, token);
      storeU32(plan.otherSlots, count, last);
      slot = ++count;
      if (isShared) storeU32(plan.slotOfRow, place, slot);
    }
    storeU32(plan.slots, r, slot - 1);
  }
  for (let s: u32 = 0; s < count; s++) {
    const token = loadU32(plan.slotTokens, s);
    const place = placeOf(loadU32(network.rowOffsets, token), loadU32(network.rowOffsets, token + 1));
    storeU32(plan.slotOfRow, place, 0);
  }
  // Slots cost an extra pass over the gates, so they must save more than that.
  plan.isDirect = count * 8 > rows * 7 ? 1 : 0;
  if (plan.isDirect) {
    for (let r: u32 = 0; r < rows; r++) {
      storeU32(plan.slots, r, r);
      storeU32(plan.slotTokens, r, loadU32(plan.rowTokens, r));
    }
    count = rows;
  }
  plan.slotCount = count;
}

/** Where in slotOfRow the slot of the token with the rows start ... end - 1 is entered: at its first row, or by all its rows if any token may share. */
function placeOf(start: u32, end: u32): u32 {
  if (!network.sharesDropout) return loadU32(network.rowIds, start) & ~OWN_ROW;
  return <u32>((<u64>hashRows(listAt(start), end - start) * network.rows) >> 32);
}

/** Whether `token` has just the rows start ... end - 1. */
function hasRows(token: u32, start: u32, end: u32): bool {
  const other = loadU32(network.rowOffsets, token);
  const count = end - start;
  return loadU32(network.rowOffsets, token + 1) - other == count && equalRows(listAt(other), listAt(start), count);
}

function listAt(start: u32): usize {
  return network.rowIds + ((<usize>start) << 2);
}
