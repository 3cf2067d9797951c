// The forward pass of a batch: planned rows -> scores f32 (B,K). Keeps the intermediate values
// that backward.ts needs. Called by step.ts after networkBatch, which has checked the plan, so
// nothing is refused. Keras' semantics: a masked step copies h and c; pooling only reads real
// steps; dropout only acts in training, and scales what it keeps by 1 / (1 - rate).
import {
  ACTIVATION_LINEAR,
  ACTIVATION_SOFTMAX,
  CONTEXT_ROW,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
} from "../abi";
import { activate, sigmoidF32x4, tanhF32x4 } from "../network/activation";
import { directions, gateCount, isRecurrent } from "../network/model";
import { NO_ROW, plan } from "./batch";
import { multiply, packRows } from "./matmul";
import { Direction, lastStage, network, networkRandom, OWN_ROW, roundUp, Stage, stageAt } from "./network";
import { randomMask } from "./random";
import { addRow, addScaledRow, copyRow, loadU32, multiplyRow, scaleRow, storeU32 } from "./rows";

/** Runs all layers; `isTraining` switches dropout on. */
export function forward(isTraining: bool): void {
  forwardFrom(0, isTraining);
}

/** Runs layer `first` and all layers behind it; those before it already have their output. */
export function forwardFrom(first: u32, isTraining: bool): void {
  for (let i = first; i < network.layerCount; i++) {
    const stage = stageAt(i);
    const kind = stage.layer.kind;
    if (kind == LAYER_EMBEDDING) {
      embeddingForward(stage);
      continue;
    }
    const input = stageAt(i - 1);
    stage.copies = input.copies;
    if (isRecurrent(stage.layer)) recurrentForward(stage, input);
    else if (kind == LAYER_DROPOUT) dropoutForward(stage, input, isTraining);
    else if (kind == LAYER_POOL) poolForward(stage, input);
    else if (kind == LAYER_DENSE) denseForward(stage, input);
  }
}

/** Number of rows of a stage's output. */
export function outputRows(stage: Stage): u32 {
  if (stage.bySlot) return plan.slotCount;
  return stage.isSequence ? plan.rows : plan.batch * stage.copies;
}

/** Address of the output row that belongs to row r of the plan. */
// @ts-ignore: decorator
@inline
export function sequenceRow(stage: Stage, base: usize, r: u32): usize {
  return base + ((<usize>(stage.bySlot ? loadU32(plan.slots, r) : r) * stage.stride) << 2);
}

/** x[slot] = mean of the token's embedding rows + its own row and its context row, if it has them. */
function embeddingForward(stage: Stage): void {
  const width = network.width;
  stage.bySlot = 1;
  stage.copies = 1;
  for (let s: u32 = 0; s < plan.slotCount; s++) {
    const token = loadU32(plan.slotTokens, s);
    const start = loadU32(network.rowOffsets, token);
    const end = loadU32(network.rowOffsets, token + 1);
    const x = stage.output + ((<usize>s * stage.stride) << 2);
    copyRow(x, embeddingRow(start), width);
    if (end == start + 1) continue;
    const share = averagedShare(start, end);
    if (!(loadU32(network.rowIds, start) & OWN_ROW)) scaleRow(x, share, width);
    for (let j = start + 1; j < end; j++) {
      addScaledRow(x, embeddingRow(j), loadU32(network.rowIds, j) & CONTEXT_ROW ? 1 : share, width);
    }
  }
}

/** 1 / the number of rows start ... end - 1 that are averaged. */
export function averagedShare(start: u32, end: u32): f32 {
  let count = end - start;
  if (loadU32(network.rowIds, start) & OWN_ROW) count--;
  if (loadU32(network.rowIds, end - 1) & CONTEXT_ROW) count--;
  return count ? <f32>1 / <f32>count : 0;
}

function embeddingRow(index: u32): usize {
  return (
    network.parameters + ((<usize>(loadU32(network.rowIds, index) & ~(OWN_ROW | CONTEXT_ROW)) * network.width) << 2)
  );
}

function recurrentForward(stage: Stage, input: Stage): void {
  const isSequence = (stage.layer.flags & LAYER_SEQUENCES) != 0;
  // Samples without a real step end with the zero state.
  if (!isSequence) memory.fill(stage.output, 0, (<usize>plan.batch * stage.stride) << 2);
  for (let d: u32 = 0; d < directions(stage.layer); d++) {
    const direction = d == 0 ? stage.forwards : stage.backwards;
    projectInputs(direction, stage, input);
    if (stage.layer.kind == LAYER_MINGRU) activateGates(direction, stage, input);
    recurrentSteps(direction, stage, input, d == 1);
  }
}

/** projected[slot or row] = x . W, for all steps at once. */
function projectInputs(direction: Direction, stage: Stage, input: Stage): void {
  const units = stage.layer.units;
  const inputs = stage.layer.inputWidth;
  const count = gateCount(stage.layer);
  const gates = count * roundUp(units);
  spreadGates(direction.kernel, direction.spreadKernel, count * inputs, units);
  spreadGates(direction.bias, direction.spreadBias, count, units);
  packRows(inputs, gates, direction.spreadKernel, gates, direction.packedKernel);
  if (stage.layer.kind == LAYER_LSTM) {
    spreadGates(direction.recurrent, direction.spreadRecurrent, count * units, units);
    packRows(units, gates, direction.spreadRecurrent, gates, direction.packedRecurrent);
  }
  multiply(
    outputRows(input),
    gates,
    inputs,
    input.output,
    input.stride,
    direction.packedKernel,
    direction.projected,
    gates,
    false,
  );
}

/** minGRU: projected[slot or row] becomes z = sigmoid(x Wz + bz) and g = tanh(x Wg + bg). */
function activateGates(direction: Direction, stage: Stage, input: Stage): void {
  const bytes = (<usize>roundUp(stage.layer.units)) << 2;
  const bias = direction.spreadBias;
  let gates = direction.projected;
  for (const end = gates + <usize>outputRows(input) * 2 * bytes; gates < end; gates += 2 * bytes) {
    for (let p: usize = 0; p < bytes; p += 16) {
      const update = gates + p;
      const next = update + bytes;
      v128.store(update, sigmoidF32x4(f32x4.add(v128.load(update), v128.load(bias + p))));
      v128.store(next, tanhF32x4(f32x4.add(v128.load(next), v128.load(bias + bytes + p))));
    }
  }
}

/** Gates [H] -> [H4], padded with zeros. Nothing to do when H is a multiple of 4. */
function spreadGates(source: usize, target: usize, gates: u32, units: u32): void {
  if (source == target) return;
  const wide = roundUp(units);
  for (let i: u32 = 0; i < gates; i++) {
    for (let j: u32 = 0; j < units; j++) store<f32>(target + ((<usize>j) << 2), load<f32>(source + ((<usize>j) << 2)));
    source += (<usize>units) << 2;
    target += (<usize>wide) << 2;
  }
}

/** The recurrence; the backwards direction walks from the last step to the first. */
function recurrentSteps(direction: Direction, stage: Stage, input: Stage, isBackwards: bool): void {
  const units = stage.layer.units;
  const wide = roundUp(units);
  const stateBytes = (<usize>wide) << 2;
  const isLstm = stage.layer.kind == LAYER_LSTM;
  const gateBytes = stateBytes * gateCount(stage.layer);
  const isSequence = (stage.layer.flags & LAYER_SEQUENCES) != 0;
  const offset = isBackwards ? (<usize>units) << 2 : 0;
  const lastRows = isBackwards ? plan.firstRows : plan.lastRows;
  let carried: u32 = 0; // rows of the step before
  let carriedFirst: u32 = 0;
  for (let step: u32 = 0; step < plan.time; step++) {
    const t = isBackwards ? plan.time - 1 - step : step;
    const rows = loadU32(plan.stepRows, t);
    const first = loadU32(plan.stepFirst, t);
    let following: u32 = 0;
    let followingFirst: u32 = 0;
    if (step + 1 < plan.time) {
      const next = isBackwards ? t - 1 : t + 1;
      following = loadU32(plan.stepRows, next);
      followingFirst = loadU32(plan.stepFirst, next);
    }
    const alive = min(carried, rows);
    const previous = direction.previous + <usize>first * stateBytes;
    // Samples that begin here have h = 0.
    memory.fill(previous + <usize>alive * stateBytes, 0, <usize>(rows - alive) * stateBytes);
    if (isLstm) {
      memory.fill(network.recurrentSums + <usize>alive * gateBytes, 0, <usize>(rows - alive) * gateBytes);
      multiply(
        alive,
        4 * wide,
        units,
        previous,
        wide,
        direction.packedRecurrent,
        network.recurrentSums,
        4 * wide,
        false,
      );
    }
    for (let b: u32 = 0; b < rows; b++) {
      const r = first + b;
      const h =
        b < following
          ? direction.previous + <usize>(followingFirst + b) * stateBytes
          : network.hidden + <usize>b * stateBytes;
      const hBefore = direction.previous + <usize>r * stateBytes;
      const c = direction.cells + <usize>r * stateBytes;
      const cBefore = b < alive ? direction.cells + <usize>(carriedFirst + b) * stateBytes : network.zeros;
      const projected = direction.projected + <usize>(input.bySlot ? loadU32(plan.slots, r) : r) * gateBytes;
      const gates = direction.gates + <usize>r * gateBytes;
      if (!loadU32(plan.rowReal, r)) {
        if (isLstm) copyRow(c, cBefore, wide);
        copyRow(h, hBefore, wide);
      } else if (isLstm) {
        lstmRow(
          projected,
          network.recurrentSums + <usize>b * gateBytes,
          direction.spreadBias,
          gates,
          cBefore,
          c,
          direction.tanhCells + <usize>r * stateBytes,
          h,
          stateBytes,
        );
      } else minGruRow(projected, hBefore, h, stateBytes);
      if (isSequence) copyRow(sequenceRow(stage, stage.output, r) + offset, h, units);
      else if (loadU32(lastRows, b) == r)
        copyRow(stage.output + ((<usize>loadU32(plan.order, b) * stage.stride) << 2) + offset, h, units);
    }
    carried = rows;
    carriedFirst = first;
  }
}

/**
 * One step of one sample:
 *   i, f, o = sigmoid(z), g = tanh(z), z = x W + h U + b
 *   c = f * c' + i * g,  h = o * tanh(c)
 */
function lstmRow(
  x: usize,
  hU: usize,
  bias: usize,
  gates: usize,
  cBefore: usize,
  c: usize,
  tanhC: usize,
  h: usize,
  bytes: usize,
): void {
  for (const end = c + bytes; c < end; c += 16) {
    const i = sigmoidF32x4(f32x4.add(f32x4.add(v128.load(x), v128.load(hU)), v128.load(bias)));
    v128.store(gates, i);
    const f = sigmoidF32x4(f32x4.add(f32x4.add(v128.load(x + bytes), v128.load(hU + bytes)), v128.load(bias + bytes)));
    v128.store(gates + bytes, f);
    const g = tanhF32x4(
      f32x4.add(f32x4.add(v128.load(x + 2 * bytes), v128.load(hU + 2 * bytes)), v128.load(bias + 2 * bytes)),
    );
    v128.store(gates + 2 * bytes, g);
    const o = sigmoidF32x4(
      f32x4.add(f32x4.add(v128.load(x + 3 * bytes), v128.load(hU + 3 * bytes)), v128.load(bias + 3 * bytes)),
    );
    v128.store(gates + 3 * bytes, o);
    const cell = f32x4.add(f32x4.mul(f, v128.load(cBefore)), f32x4.mul(i, g));
    v128.store(c, cell);
    const tanhCell = tanhF32x4(cell);
    v128.store(tanhC, tanhCell);
    v128.store(h, f32x4.mul(o, tanhCell));
    x += 16;
    hU += 16;
    bias += 16;
    gates += 16;
    cBefore += 16;
    tanhC += 16;
    h += 16;
  }
}

/** One step of one sample of a minGRU, with the gates of activateGates: h = h' + z * (g - h') */
function minGruRow(gates: usize, hBefore: usize, h: usize, bytes: usize): void {
  for (const end = h + bytes; h < end; h += 16) {
    const before = v128.load(hBefore);
    const change = f32x4.mul(v128.load(gates), f32x4.sub(v128.load(gates + bytes), before));
    v128.store(h, f32x4.add(before, change));
    gates += 16;
    hBefore += 16;
  }
}

/** y = x * mask; a spatial mask is drawn once for each sample and used for all its steps. Tokens that share a slot share its mask if they may. */
function dropoutForward(stage: Stage, input: Stage, isTraining: bool): void {
  const rate = stage.layer.rate;
  stage.passesOn = isTraining && rate > 0 ? 0 : 1;
  const isSpatial = stage.isSequence && (stage.layer.flags & LAYER_SPATIAL) != 0;
  stage.bySlot = stage.passesOn || (network.sharesDropout && !isSpatial) ? input.bySlot : 0;
  if (stage.passesOn) {
    stage.output = input.output;
    return;
  }
  stage.output = stage.values;
  const isLast = changetype<usize>(stage) == changetype<usize>(stageAt(network.layerCount - 2));
  if (isLast && !stage.isSequence) stage.copies = network.dropoutSamples;
  const rowFloats = stage.stride;
  const rows = outputRows(stage);
  randomMask(networkRandom(), rate, stage.mask, (isSpatial ? plan.batch : rows) * rowFloats);
  for (let r: u32 = 0; r < rows; r++) {
    const x =
      stage.isSequence && !stage.bySlot
        ? sequenceRow(input, input.output, r)
        : input.output + ((<usize>(stage.bySlot ? r : r % plan.batch) * rowFloats) << 2);
    multiplyRow(stage.output + ((<usize>r * rowFloats) << 2), x, dropoutMaskRow(stage, r), rowFloats);
  }
}

/** Mask of output row r. */
// @ts-ignore: decorator
@inline
export function dropoutMaskRow(stage: Stage, r: u32): usize {
  const isSpatial = stage.isSequence && (stage.layer.flags & LAYER_SPATIAL) != 0;
  return stage.mask + ((<usize>(isSpatial ? loadU32(plan.rowSamples, r) : r) * stage.stride) << 2);
}

/** [max over time, mean over time], or one of them. */
function poolForward(stage: Stage, input: Stage): void {
  const width = stage.layer.inputWidth;
  memory.fill(stage.output, 0, (<usize>plan.batch * stage.stride) << 2);
  for (let place: u32 = 0; place < plan.batch; place++) {
    const b = loadU32(plan.order, place);
    let y = stage.output + ((<usize>b * stage.stride) << 2);
    if (stage.layer.flags & LAYER_POOL_MAX) {
      poolMax(stage, input, place, y, stage.mask + ((<usize>b * stage.stride) << 2));
      y += (<usize>width) << 2;
    }
    if (stage.layer.flags & LAYER_POOL_MEAN) {
      const count = realSteps(b, place);
      if (count == 0) continue;
      for (let t = loadU32(plan.starts, b); t < loadU32(plan.ends, b); t++) {
        const r = loadU32(plan.stepFirst, t) + place;
        if (loadU32(plan.rowReal, r)) addRow(y, sequenceRow(input, input.output, r), width);
      }
      scaleRow(y, <f32>1 / <f32>count, width);
    }
  }
}

/** Number of real steps of sample b, which is at `place` of the plan's order. */
export function realSteps(b: u32, place: u32): u32 {
  let count: u32 = 0;
  for (let t = loadU32(plan.starts, b); t < loadU32(plan.ends, b); t++)
    count += loadU32(plan.rowReal, loadU32(plan.stepFirst, t) + place);
  return count;
}

/** Largest value of each channel, and its row for the backward pass; the first of equals. */
function poolMax(stage: Stage, input: Stage, place: u32, y: usize, chosen: usize): void {
  const b = loadU32(plan.order, place);
  const width = stage.layer.inputWidth;
  memory.fill(chosen, 0xff, (<usize>width) << 2); // NO_ROW
  for (let t = loadU32(plan.starts, b); t < loadU32(plan.ends, b); t++) {
    const r = loadU32(plan.stepFirst, t) + place;
    if (!loadU32(plan.rowReal, r)) continue;
    const x = sequenceRow(input, input.output, r);
    let j: u32 = 0;
    for (; j + 4 <= width; j += 4) {
      const at = (<usize>j) << 2;
      const value = v128.load(x + at);
      const largest = v128.load(y + at);
      const rows = v128.load(chosen + at);
      const isLarger = v128.or(i32x4.eq(rows, i32x4.splat(NO_ROW)), f32x4.gt(value, largest));
      v128.store(y + at, v128.bitselect(value, largest, isLarger));
      v128.store(chosen + at, v128.bitselect(i32x4.splat(r), rows, isLarger));
    }
    for (; j < width; j++) {
      const value = load<f32>(x + ((<usize>j) << 2));
      if (loadU32(chosen, j) != NO_ROW && !(value > load<f32>(y + ((<usize>j) << 2)))) continue;
      store<f32>(y + ((<usize>j) << 2), value);
      storeU32(chosen, j, r);
    }
  }
}

/** y = activation(x . W + b). The last Dense also keeps x . W + b, from which the loss starts. */
function denseForward(stage: Stage, input: Stage): void {
  const inputs = stage.layer.inputWidth;
  const units = stage.layer.units;
  const stride = stage.stride;
  const rows = outputRows(stage);
  const bias = denseBias(stage);
  for (let b: u32 = 0; b < rows; b++) copyRow(stage.output + ((<usize>b * stride) << 2), bias, units);
  packRows(inputs, units, stage.weights, units, stage.packed);
  multiply(rows, units, inputs, input.output, input.stride, stage.packed, stage.output, stride, true);
  const isLast = changetype<usize>(stage) == changetype<usize>(lastStage());
  if (isLast && network.hasOffsets) {
    for (let b: u32 = 0; b < rows; b++) {
      const row = stage.output + ((<usize>b * stride) << 2);
      scaleRow(row, network.networkShare, units);
      addRow(row, network.offsets + ((<usize>(b % plan.batch) * units) << 2), units);
    }
  }
  if (isLast) memory.copy(stage.mask, stage.output, (<usize>rows * stride) << 2);
  if (stage.layer.activation == ACTIVATION_LINEAR) return;
  // Softmax needs its row's length; the others take all rows in one go.
  if (stage.layer.activation != ACTIVATION_SOFTMAX)
    return activate(stage.layer.activation, stage.output, rows * stride);
  for (let b: u32 = 0; b < rows; b++) activate(ACTIVATION_SOFTMAX, stage.output + ((<usize>b * stride) << 2), units);
}

/** Bias of a Dense layer: the tensor behind its kernel. */
export function denseBias(stage: Stage): usize {
  return stage.weights + ((<usize>stage.layer.inputWidth * stage.layer.units * 4 + 15) & ~15);
}
