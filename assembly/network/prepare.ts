// Model -> plan: everything that can be done once, when a model is loaded. Weights are
// packed in the order in which lstm.ts reads them, buffers are sized, and the states after
// leading padding are computed. Called by engine.ts.
//
//   file, untouched          | arena, made here
//   weights (row-major)  ->  | packed weights, scales, biases | input tables | states | scratch
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_OUT_OF_MEMORY,
  FORM_F32,
  FORM_INT8,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_MINGRU,
  LAYER_SEQUENCES,
  MAX_NGRAMS_PER_WORD,
  OK,
  TABLE_BUDGET,
  TOKENIZER_PAD_POST,
} from "../abi";
import { allocate } from "../arena";
import { Q14_SCALE, exponentScale, packedByte, packedRow } from "./lstm";
import { Scan, gateExponent, gateGroups, gateRow } from "./mingru";
import {
  Layer,
  Model,
  directions,
  hasInputTable,
  isRecurrent,
  layerAt,
  layerBytes,
  matrixBytes,
  padded,
  poolBehind,
} from "./model";
import { DirectionPlan, GatePlan, LayerPlan, Plan, planLayer } from "./plan";
import { clearState, inputProjection, step } from "./step";

let failed: bool = false;

/** allocate() that remembers a refusal, so that one check at the end is enough. */
function reserve(bytes: u64): usize {
  const address: usize = bytes > 0x7ffffff0 ? 0 : allocate(<usize>bytes);
  if (address == 0) failed = true;
  return address;
}

export function prepare(plan: Plan, model: Model): i32 {
  failed = false;
  const header = model.header;
  const form = header.form;
  const embedding = layerAt(model.layers, 0);
  plan.isInt8 = form == FORM_INT8;
  plan.layerCount = header.layerCount;
  plan.layers = reserve(<u64>header.layerCount * offsetof<LayerPlan>());
  plan.embedding = model.weights;
  plan.rows = embedding.inputWidth;
  plan.width = embedding.units;
  plan.embeddingScale = form == FORM_F32 ? 0 : model.weights + <usize>padded(<u64>plan.rows * plan.width);
  if (failed) return ERR_OUT_OF_MEMORY;

  let weights = model.weights;
  let groups: u32 = 1;
  let channels: u32 = 4;
  let rowWidth: u32 = 0;
  let scanGroups: u32 = 0; // of the widest minGRU; 0 = none
  let storesSequence = false;
  for (let i: u32 = 0; i < header.layerCount; i++) {
    const layer = layerAt(model.layers, i);
    const at = planLayer(plan, i);
    at.layer = layer;
    channels = max(channels, layer.outputWidth);
    if (layer.flags & LAYER_SEQUENCES && isRecurrent(layer) && !(layer.kind == LAYER_MINGRU && poolBehind(model, i)))
      storesSequence = true;
    if (layer.kind == LAYER_LSTM) {
      groups = max(groups, (layer.units + 3) >> 2);
      packLstm(at, form, weights, isFirstRecurrent(model, i) ? plan.rows : 0);
      if (!failed && at.forward.table) plan.hasTable = true;
    } else if (layer.kind == LAYER_MINGRU) {
      packMinGru(plan, at, model, weights, isFirstRecurrent(model, i));
      if (failed) return ERR_OUT_OF_MEMORY;
      if (at.gates.table) plan.hasTable = true;
      groups = max(groups, at.gates.groups);
      scanGroups = max(scanGroups, gateGroups(layer.units));
      // A row of states takes what a scan writes.
      rowWidth = max(rowWidth, layer.outputWidth - layer.units + 8 * gateGroups(layer.units));
    } else if (layer.kind == LAYER_DENSE) {
      const isLast =
        i + 1 == header.layerCount &&
        (layer.activation == ACTIVATION_SOFTMAX || layer.activation == ACTIVATION_SIGMOID);
      packDense(at, form, weights, isLast ? <f32>1 / header.temperature : 1);
    }
    weights += <usize>layerBytes(form, layer);
    if (failed) return ERR_OUT_OF_MEMORY;
  }

  plan.row = reserve(<u64>plan.width * 4 + 16);
  plan.projection = reserve(<u64>groups * 64);
  plan.share = reserve(<u64>groups * 64);
  plan.z = reserve(<u64>groups * 64);
  plan.zeros = reserve(<u64>groups * 64);
  plan.cell = reserve(<u64>groups * 16);
  plan.hidden = reserve(<u64>groups * 16);
  plan.hiddenQ14 = reserve(<u64>groups * 8 + 16);
  plan.inputQ14 = reserve(<u64>channels * 2 + 16);
  plan.vectorA = reserve(<u64>channels * 4 + 16);
  plan.vectorB = reserve(<u64>channels * 4 + 16);
  plan.sequenceWidth = (max(channels, rowWidth) + 3) & ~3;
  plan.sequenceA = 0;
  plan.sequenceB = 0;
  if (storesSequence) {
    plan.sequenceA = reserve(<u64>header.sequenceLength * plan.sequenceWidth * 4);
    plan.sequenceB = reserve(<u64>header.sequenceLength * plan.sequenceWidth * 4);
  }
  if (scanGroups) reserveScan(plan, header.sequenceLength, scanGroups);
  if (failed) return ERR_OUT_OF_MEMORY;
  return preparePrefix(plan, model);
}

/** What a text's scans need: addresses of the steps' gates, and room for results. */
function reserveScan(plan: Plan, steps: u32, groups: u32): void {
  plan.steps = reserve((<u64>steps) << 2);
  plan.padding = reserve(4);
  plan.scan = changetype<Scan>(reserve(offsetof<Scan>()));
  if (failed) return;
  const bytes = (<u64>groups) << 5;
  plan.scan.gates = plan.steps;
  plan.scan.last = reserve(bytes);
  plan.scan.largest = reserve(bytes);
  plan.scan.mean = reserve(bytes);
}

/** True for the recurrent layer that reads the embedding: only dropout stands between. */
function isFirstRecurrent(model: Model, index: u32): bool {
  for (let i: u32 = 1; i < index; i++) {
    if (layerAt(model.layers, i).kind != LAYER_DROPOUT) return false;
  }
  return true;
}

/** Packs both directions. tableRows: rows of the embedding if this LSTM reads it, else 0. */
function packLstm(at: LayerPlan, form: u32, weights: usize, tableRows: u32): void {
  const layer = at.layer;
  at.groups = (layer.units + 3) >> 2;
  at.inputPairs = ((layer.inputWidth + 3) >> 2) << 1;
  at.unitPairs = at.groups << 1;
  const count = directions(layer);
  const keepsTable = tableRows > 0 && hasInputTable(layer, tableRows);
  for (let d: u32 = 0; d < count; d++) {
    const address = reserve(offsetof<DirectionPlan>());
    if (failed) return;
    const direction = changetype<DirectionPlan>(address);
    if (d == 0) at.forward = direction;
    else at.backward = direction;
    // An embedding row has its own scale; the states of a layer before are in Q14.
    weights = packDirection(at, direction, form, weights, tableRows ? 1.0 : Q14_SCALE);
    direction.table = 0;
    if (keepsTable) {
      direction.table = reserve(<u64>tableRows * at.groups * 64);
      direction.known = reserve(tableRows);
    }
    if (failed) return;
  }
}

/** Packs kernel, recurrent kernel and bias of one direction; returns the address behind them. */
function packDirection(at: LayerPlan, direction: DirectionPlan, form: u32, weights: usize, inputScale: f32): usize {
  const layer = at.layer;
  const units = layer.units;
  const inputs = layer.inputWidth;
  const positions: u32 = at.groups << 4;
  const kernel = weights;
  const recurrent = kernel + <usize>matrixBytes(form, 4 * units, inputs);
  const bias = recurrent + <usize>matrixBytes(form, 4 * units, units);
  if (form == FORM_INT8) {
    direction.kernel = packS8(kernel, positions, units, inputs, at.inputPairs);
    direction.recurrent = packS8(recurrent, positions, units, units, at.unitPairs);
  } else {
    direction.kernel = packF32(form, kernel, positions, units, inputs, inputs);
    direction.recurrent = packF32(form, recurrent, positions, units, units, at.groups << 2);
  }
  direction.bias = reserve(<u64>positions * 4);
  direction.kernelScale = reserve(<u64>positions * 4);
  direction.recurrentScale = reserve(<u64>positions * 4);
  if (failed) return 0;
  for (let p: u32 = 0; p < positions; p++) {
    const row = packedRow(p, units);
    if (row < 0) continue;
    const to = (<usize>p) << 2;
    const from = (<usize>row) << 2;
    const exponent = exponentScale(p);
    store<f32>(direction.bias + to, exponent * load<f32>(bias + from));
    if (form == FORM_INT8) {
      store<f32>(
        direction.kernelScale + to,
        exponent * load<f32>(kernel + <usize>padded(<u64>4 * units * inputs) + from) * inputScale,
      );
      store<f32>(
        direction.recurrentScale + to,
        exponent * load<f32>(recurrent + <usize>padded(<u64>4 * units * units) + from) * Q14_SCALE,
      );
    }
  }
  return bias + <usize>padded(<u64>units * 16);
}

/** At least so many bytes of the cache of a minGRU, if a text has few steps. */
const CACHE_BYTES: u64 = 1 << 21;

/** Packs both directions of a minGRU as one product, and reserves what it keeps. */
function packMinGru(plan: Plan, at: LayerPlan, model: Model, weights: usize, isFirst: bool): void {
  const layer = at.layer;
  const form = model.header.form;
  const units = layer.units;
  const inputs = layer.inputWidth;
  const self = changetype<GatePlan>(reserve(offsetof<GatePlan>()));
  if (failed) return;
  at.gates = self;
  const positions = gateGroups(units) << 4; // of one direction
  const count = directions(layer);
  self.groups = gateGroups(units) * count;
  self.inputs = inputs;
  self.inputPairs = ((inputs + 3) >> 2) << 1;
  self.kernel = reserve(<u64>count * positions * (plan.isInt8 ? 2 * self.inputPairs : inputs) * (plan.isInt8 ? 2 : 4));
  self.bias = reserve(<u64>count * positions * 4);
  self.kernelScale = plan.isInt8 ? reserve(<u64>count * positions * 4) : 0;
  if (failed) return;
  for (let d: u32 = 0; d < count; d++) {
    const bias = weights + <usize>matrixBytes(form, 2 * units, inputs);
    for (let p: u32 = 0; p < positions; p++) {
      const row = gateRow(p, units);
      if (row < 0) continue;
      const to = d * positions + p;
      const exponent = gateExponent(p);
      store<f32>(self.bias + ((<usize>to) << 2), exponent * load<f32>(bias + ((<usize>row) << 2)));
      if (plan.isInt8) {
        const scale = load<f32>(weights + <usize>padded(<u64>2 * units * inputs) + ((<usize>row) << 2));
        store<f32>(self.kernelScale + ((<usize>to) << 2), exponent * scale);
        for (let k: u32 = 0; k < inputs; k++)
          store<i16>(self.kernel + packedByte(to, k, self.inputPairs), load<i8>(weights + <usize>row * inputs + k));
      } else {
        const target = self.kernel + ((<usize>(to >> 4) * inputs) << 6) + ((<usize>(to & 15)) << 2);
        for (let k: u32 = 0; k < inputs; k++)
          store<f32>(target + ((<usize>k) << 6), exponent * weightAt(form, weights, 2 * units, inputs, row, k));
      }
    }
    weights = bias + <usize>padded(<u64>8 * units);
  }
  self.bytes = (<usize>self.groups) << (plan.isInt8 ? 5 : 6);
  const steps = model.header.sequenceLength;
  if (!isFirst) {
    self.stepGates = reserve(<u64>steps * self.bytes);
    return;
  }
  if (<u64>plan.rows * self.bytes <= <u64>TABLE_BUDGET) {
    self.table = reserve(<u64>plan.rows * self.bytes);
    self.known = reserve(plan.rows);
  }
  const rowCapacity: u32 = model.header.bucketCount ? MAX_NGRAMS_PER_WORD + 1 : 1;
  self.slotBytes = <usize>padded(8 + 4 * rowCapacity) + self.bytes;
  let slots: u32 = 2;
  while (slots < 2 * steps || <u64>slots * self.slotBytes < CACHE_BYTES) slots <<= 1;
  self.slotMask = slots - 1;
  self.slots = reserve(<u64>slots * self.slotBytes);
}

/** s8 (4H, inputs) -> s16 (G, pairs, 16, 2), zero where H or the inputs are padded. */
function packS8(from: usize, positions: u32, units: u32, inputs: u32, pairs: u32): usize {
  const packed = reserve(<u64>positions * pairs * 4);
  if (failed) return 0;
  for (let p: u32 = 0; p < positions; p++) {
    const row = packedRow(p, units);
    if (row < 0) continue;
    const source = from + <usize>row * inputs;
    for (let k: u32 = 0; k < inputs; k++) store<i16>(packed + packedByte(p, k, pairs), load<i8>(source + k));
  }
  return packed;
}

/** f32 (inputs, 4H), or s8 (4H, inputs) with scales, -> f32 (G, paddedInputs, 16). */
function packF32(form: u32, from: usize, positions: u32, units: u32, inputs: u32, paddedInputs: u32): usize {
  const packed = reserve(<u64>positions * paddedInputs * 4);
  if (failed) return 0;
  for (let p: u32 = 0; p < positions; p++) {
    const row = packedRow(p, units);
    if (row < 0) continue;
    const target = packed + ((<usize>(p >> 4) * paddedInputs) << 6) + ((<usize>(p & 15)) << 2);
    for (let k: u32 = 0; k < inputs; k++) {
      store<f32>(target + ((<usize>k) << 6), exponentScale(p) * weightAt(form, from, 4 * units, inputs, row, k));
    }
  }
  return packed;
}

/** Weight from input `column` to output `row` of a matrix as its form stores it. */
function weightAt(form: u32, from: usize, rows: u32, columns: u32, row: u32, column: u32): f32 {
  if (form == FORM_F32) return load<f32>(from + ((<usize>column * rows + row) << 2));
  const scale = load<f32>(from + <usize>padded(<u64>rows * columns) + ((<usize>row) << 2));
  return scale * <f32>load<i8>(from + <usize>row * columns + column);
}

/** Packs f32 weights times `scale`: Dense layers are small and their inputs unbounded, so they run in f32 in every form. */
function packDense(at: LayerPlan, form: u32, weights: usize, scale: f32): void {
  const layer = at.layer;
  const inputs = layer.inputWidth;
  const units = layer.units;
  const quads = (units + 3) >> 2;
  at.weights = reserve(<u64>quads * inputs * 16);
  at.bias = reserve(<u64>quads * 16);
  if (failed) return;
  const bias = weights + <usize>matrixBytes(form, units, inputs);
  for (let row: u32 = 0; row < units; row++) {
    store<f32>(at.bias + ((<usize>row) << 2), scale * load<f32>(bias + ((<usize>row) << 2)));
    const target = at.weights + ((<usize>(row >> 2) * inputs) << 4) + ((<usize>(row & 3)) << 2);
    for (let k: u32 = 0; k < inputs; k++)
      store<f32>(target + ((<usize>k) << 4), scale * weightAt(form, weights, units, inputs, row, k));
  }
}

/**
 * With leading padding that is not masked, the state after k pads is the same for every
 * text: computes all of these states. Only if the first LSTM runs forward and yields its
 * last state, since otherwise the states of the padded steps themselves are needed.
 */
function preparePrefix(plan: Plan, model: Model): i32 {
  plan.prefix = 0;
  if (layerAt(model.layers, 0).flags & LAYER_MASK_ZERO || model.header.tokenizerFlags & TOKENIZER_PAD_POST) return OK;
  let index: u32 = 1;
  while (!isRecurrent(planLayer(plan, index).layer)) index++;
  const at = planLayer(plan, index);
  if (at.layer.flags != 0 || at.layer.kind != LAYER_LSTM) return OK;

  const steps = model.header.sequenceLength;
  const stateBytes = (<u32>at.groups) << 4;
  plan.prefixStride = stateBytes * 2 + <u32>padded(stateBytes >> 1);
  plan.prefix = reserve((<u64>steps + 1) * plan.prefixStride);
  if (failed) return ERR_OUT_OF_MEMORY;
  clearState(plan, at);
  const base = inputProjection(plan, at, at.forward, 0, plan.projection);
  for (let k: u32 = 1; k <= steps; k++) {
    step(plan, at, at.forward, base, k == 1);
    const saved = plan.prefix + <usize>k * plan.prefixStride;
    memory.copy(saved, plan.cell, stateBytes);
    memory.copy(saved + stateBytes, plan.hidden, stateBytes);
    memory.copy(saved + 2 * stateBytes, plan.hiddenQ14, stateBytes >> 1);
  }
  return OK;
}
