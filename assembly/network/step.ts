// One step of an LSTM: embedding row -> x W + b -> new state. The innermost part of classifying;
// called by classify.ts for each step, and by prepare.ts for leading padding.
//
// The input table. x W + b depends only on the embedding row x, so the projection of a row
// is kept when it is first computed; from then on the word costs one look-up. The table is
// only reserved at loading: a page that was never touched takes no physical memory. A model
// whose table would exceed TABLE_BUDGET computes every projection anew, with the same bits.
import { projectF32, projectS8, quantizeState, updateState, updateStateCoarsely } from "./lstm";
import { DirectionPlan, LayerPlan, Plan } from "./plan";

/**
 * Address of x W + b of an embedding row, f32 (G, 16): in the table if there is one, else
 * computed into `scratch`.
 */
export function inputProjection(plan: Plan, at: LayerPlan, direction: DirectionPlan, row: u32, scratch: usize): usize {
  let target = scratch;
  if (direction.table) {
    target = direction.table + ((<usize>row * at.groups) << 6);
    if (load<u8>(direction.known + row)) return target;
    store<u8>(direction.known + row, 1);
  }
  const width = plan.width;
  if (plan.isInt8) {
    const source = plan.embedding + <usize>row * width;
    for (let k: u32 = 0; k < width; k++) store<i16>(plan.row + ((<usize>k) << 1), <i16>load<i8>(source + k));
    projectS8(direction.kernel, direction.kernelScale, plan.zeros, plan.row, at.inputPairs, at.groups, target);
    const scale = f32x4.splat(load<f32>(plan.embeddingScale + ((<usize>row) << 2)));
    for (let p: usize = 0, end = (<usize>at.groups) << 6; p < end; p += 16) {
      v128.store(target + p, f32x4.add(v128.load(direction.bias + p), f32x4.mul(scale, v128.load(target + p))));
    }
    return target;
  }
  let source = plan.embedding + ((<usize>row * width) << 2);
  if (plan.embeddingScale) {
    const scale = load<f32>(plan.embeddingScale + ((<usize>row) << 2));
    for (let k: u32 = 0; k < width; k++) {
      store<f32>(plan.row + ((<usize>k) << 2), scale * <f32>load<i8>(plan.embedding + <usize>row * width + k));
    }
    source = plan.row;
  }
  projectF32(direction.kernel, direction.bias, source, width, at.groups, target);
  return target;
}

/**
 * One step from the projection `base`: updates plan.cell, plan.hidden and plan.hiddenQ14.
 * isFirst: the state is zero, so the recurrent product is left out.
 */
export function step(plan: Plan, at: LayerPlan, direction: DirectionPlan, base: usize, isFirst: bool): void {
  const z = isFirst ? base : plan.z;
  if (plan.isInt8) {
    if (!isFirst)
      projectS8(direction.recurrent, direction.recurrentScale, base, plan.hiddenQ14, at.unitPairs, at.groups, z);
    updateStateCoarsely(z, plan.cell, plan.hidden, at.groups);
    quantizeState(plan.hidden, plan.hiddenQ14, at.groups << 2);
  } else {
    if (!isFirst) projectF32(direction.recurrent, base, plan.hidden, at.groups << 2, at.groups, z);
    updateState(z, plan.cell, plan.hidden, at.groups);
  }
}

/** State zero: before the first step. */
export function clearState(plan: Plan, at: LayerPlan): void {
  const stateBytes = (<usize>at.groups) << 4;
  memory.fill(plan.cell, 0, stateBytes);
  memory.fill(plan.hidden, 0, stateBytes);
  memory.fill(plan.hiddenQ14, 0, stateBytes >> 1);
}

/** The state after `pads` padded steps, from preparePrefix. */
export function loadPrefix(plan: Plan, at: LayerPlan, pads: u32): void {
  const stateBytes = (<usize>at.groups) << 4;
  const saved = plan.prefix + <usize>pads * plan.prefixStride;
  memory.copy(plan.cell, saved, stateBytes);
  memory.copy(plan.hidden, saved + stateBytes, stateBytes);
  memory.copy(plan.hiddenQ14, saved + 2 * stateBytes, stateBytes >> 1);
}
