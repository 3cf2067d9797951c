// The whole forward pass: text -> steps -> states -> scores.
// runNetwork() runs LSTM layers over the steps, pooling, and Dense layers. Called by
// engine.ts; allocates nothing, and writes only to buffers that prepare.ts has sized.
import {
  CONTEXT_ROW,
  ERR_NOT_FINITE,
  LAYER_DROPOUT,
  LAYER_LSTM,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  OK,
} from "../abi";
import { activate } from "./activation";
import { stateGates, tokenGates } from "./gates";
import { projectF32, projectS8, quantizeState } from "./lstm";
import { scanF32, scanQ15 } from "./mingru";
import { Layer, Model, directions, isFinite32, poolBehind } from "./model";
import { DirectionPlan, LayerPlan, Plan, planLayer } from "./plan";
import { clearState, inputProjection, loadPrefix, step } from "./step";
import {
  Sequence,
  isLinearAlone,
  mixLinear,
  firstToken,
  leadingPads,
  sequenceRead,
  stepCount,
  tokenRowCount,
  tokenRows,
} from "./sequence";

/** Writes the scores of the text to `scores`, f32[labelCount] padded to 4. Returns a status. */
export function classifyText(
  model: Model,
  plan: Plan,
  sequence: Sequence,
  text: usize,
  length: u32,
  scores: usize,
): i32 {
  sequenceRead(sequence, model, text, length);
  return scoreSteps(model, plan, sequence, scores);
}

/** The same for the steps that `sequence` holds. */
export function scoreSteps(model: Model, plan: Plan, sequence: Sequence, scores: usize): i32 {
  const output = runNetwork(model, plan, sequence);
  if (!output) return ERR_NOT_FINITE;
  const last = planLayer(plan, plan.layerCount - 1).layer;
  if (last.units == 1 && model.header.labelCount == 2) {
    // One unit stands for two labels: as in Keras, it is the score of the second one.
    const second = load<f32>(output);
    store<f32>(scores, <f32>1.0 - second);
    store<f32>(scores, second, 4);
    store<u64>(scores, 0, 8);
  } else copyFloats(scores, output, ((<usize>last.units + 3) & ~3) << 2);
  return isFinite32(scores, scores + (((<usize>model.header.labelCount + 3) & ~3) << 2)) ? OK : ERR_NOT_FINITE;
}

/** Runs all layers over the steps of `sequence`; returns the address of the last layer's f32[units], 0 when weights overflow. */
export function runNetwork(model: Model, plan: Plan, sequence: Sequence): usize {
  const steps = stepCount(sequence, model);
  let sequenceIn: usize = 0; // 0: the input is the embedding
  let vectorIn: usize = plan.vectorB;
  // Where only the linear part counts, the last layer gets zeros.
  for (let i: u32 = isLinearAlone(sequence) ? plan.layerCount - 1 : 1; i < plan.layerCount; i++) {
    const at = planLayer(plan, i);
    const layer = at.layer;
    if (layer.kind == LAYER_DROPOUT) continue; // identity outside training
    const sequenceOut = sequenceIn == plan.sequenceA ? plan.sequenceB : plan.sequenceA;
    const vectorOut = vectorIn == plan.vectorA ? plan.vectorB : plan.vectorA;
    if (layer.kind == LAYER_LSTM) {
      const keepsAll = (layer.flags & LAYER_SEQUENCES) != 0;
      const width = layer.units;
      runDirection(model, plan, sequence, at, at.forward, false, steps, sequenceIn, keepsAll ? sequenceOut : 0);
      if (!keepsAll) memory.copy(vectorOut, plan.hidden, (<usize>width) << 2);
      if (changetype<usize>(at.backward)) {
        const shift = (<usize>width) << 2;
        runDirection(
          model,
          plan,
          sequence,
          at,
          at.backward,
          true,
          steps,
          sequenceIn,
          keepsAll ? sequenceOut + shift : 0,
        );
        if (!keepsAll) memory.copy(vectorOut + shift, plan.hidden, shift);
      }
      if (keepsAll) sequenceIn = sequenceOut;
      else vectorIn = vectorOut;
    } else if (layer.kind == LAYER_MINGRU) {
      // A Pool behind it takes what the scan has found already.
      const pool = poolBehind(model, i);
      runMinGru(
        model,
        plan,
        sequence,
        at,
        steps,
        sequenceIn,
        sequenceOut,
        pool ? planLayer(plan, pool).layer : layer,
        vectorOut,
      );
      if (pool) i = pool;
      if (!pool && layer.flags & LAYER_SEQUENCES) sequenceIn = sequenceOut;
      else vectorIn = vectorOut;
    } else if (layer.kind == LAYER_POOL) {
      pool(plan, layer, sequenceIn, steps, vectorOut);
      vectorIn = vectorOut;
    } else {
      dense(at, vectorIn, vectorOut);
      if (i + 1 == plan.layerCount) mixLinear(sequence, model, vectorOut, <f32>1 / model.header.temperature);
      // Checked before the activation, which would turn NaN into a number.
      if (!isFinite32(vectorOut, vectorOut + (((<usize>layer.units + 3) & ~3) << 2))) return 0;
      activate(layer.activation, vectorOut, layer.units);
      vectorIn = vectorOut;
    }
  }
  return vectorIn;
}

/**
 * All steps of a minGRU. sequenceIn: states of the layer before, 0 = the embedding. `output`, the layer itself or a Pool
 * behind it, tells what goes to vectorOut, its f32[outputWidth]; or the states of all steps go to sequenceOut.
 */
function runMinGru(
  model: Model,
  plan: Plan,
  sequence: Sequence,
  at: LayerPlan,
  steps: u32,
  sequenceIn: usize,
  sequenceOut: usize,
  output: Layer,
  vectorOut: usize,
): void {
  const self = at.gates;
  const scan = plan.scan;
  const bytes = (<usize>at.layer.units) << 2;
  const sides = directions(at.layer);
  scan.stride = (<usize>plan.sequenceWidth) << 2;
  scan.groups = self.groups / sides;
  scan.steps = steps;
  if (sequenceIn) stateGates(plan, self, sequenceIn, scan.stride, steps);
  else tokenGates(plan, self, sequence, firstToken(sequence, model), steps);
  for (let d: u32 = 0; d < sides; d++) {
    const to = vectorOut + <usize>d * bytes;
    scan.isBackward = d == 1;
    scan.shift = <usize>d * (self.bytes / sides);
    scan.states = output.flags & LAYER_SEQUENCES ? sequenceOut + <usize>d * bytes : 0;
    if (plan.isInt8) scanQ15(scan);
    else scanF32(scan);
    if (output.kind != LAYER_POOL) {
      if (!scan.states) copyFloats(to, scan.last, bytes);
      continue;
    }
    let mean = to;
    if (output.flags & LAYER_POOL_MAX) {
      copyFloats(to, scan.largest, bytes);
      mean += <usize>sides * bytes;
    }
    if (output.flags & LAYER_POOL_MEAN) copyFloats(mean, scan.mean, bytes);
  }
}

/**
 * One direction of one LSTM over all steps, from state zero; leaves the last state in
 * plan.hidden. output: where step t's f32[units] goes, one row of sequenceWidth a step; 0 = nowhere.
 */
function runDirection(
  model: Model,
  plan: Plan,
  sequence: Sequence,
  at: LayerPlan,
  direction: DirectionPlan,
  reversed: bool,
  steps: u32,
  input: usize,
  output: usize,
): void {
  const stride = (<usize>plan.sequenceWidth) << 2;
  const bytes = (<usize>at.layer.units) << 2;
  const first = firstToken(sequence, model);
  let done: u32 = 0;
  if (plan.prefix && !input) {
    done = leadingPads(sequence, model);
    loadPrefix(plan, at, done);
  } else clearState(plan, at);
  for (; done < steps; done++) {
    const t = reversed ? steps - 1 - done : done;
    step(
      plan,
      at,
      direction,
      input
        ? projectStep(plan, at, direction, input + <usize>t * stride)
        : projectToken(plan, sequence, at, direction, first + t),
      done == 0,
    );
    if (output) copyFloats(output + <usize>t * stride, plan.hidden, bytes);
  }
}

/** Like memory.copy, but faster for so few bytes: in V8 that call costs more than the copying. */
function copyFloats(to: usize, from: usize, bytes: usize): void {
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(to + at, v128.load(from + at));
  for (; at < bytes; at += 4) store<f32>(to + at, load<f32>(from + at));
}

/**
 * x W + b of a token, where x is the mean of its rows plus its context row. A token that is not
 * shown counts as padding. Since the projection is affine, it is the same combination of the
 * projections of the rows, which the input table keeps.
 */
function projectToken(plan: Plan, sequence: Sequence, at: LayerPlan, direction: DirectionPlan, token: u32): usize {
  // For a token before the first one shown the difference wraps to a huge u32, so one comparison checks both ends.
  if (token - sequence.shownFrom >= sequence.shownTo - sequence.shownFrom)
    return inputProjection(plan, at, direction, 0, plan.projection);
  const rows = tokenRows(sequence, token);
  const count = tokenRowCount(sequence, token);
  if (count == 1) return inputProjection(plan, at, direction, load<u32>(rows), plan.projection);
  const last = load<u32>(rows + ((<usize>(count - 1)) << 2));
  const averaged = last & CONTEXT_ROW ? count - 1 : count;
  const bytes = (<usize>at.groups) << 6;
  memory.fill(plan.projection, 0, bytes);
  for (let r: u32 = 0; r < averaged; r++)
    addProjection(plan, at, direction, load<u32>(rows + ((<usize>r) << 2)), <f32>1.0 / <f32>averaged);
  if (averaged < count) {
    // The sum now contains b twice, so it is subtracted once.
    addProjection(plan, at, direction, last & ~CONTEXT_ROW, 1);
    for (let p: usize = 0; p < bytes; p += 16) {
      v128.store(plan.projection + p, f32x4.sub(v128.load(plan.projection + p), v128.load(direction.bias + p)));
    }
  }
  return plan.projection;
}

/** plan.projection += weight * (x W + b) of one row. */
function addProjection(plan: Plan, at: LayerPlan, direction: DirectionPlan, row: u32, weight: f32): void {
  let share = inputProjection(plan, at, direction, row, plan.share);
  let sum = plan.projection;
  const scale = f32x4.splat(weight);
  for (const end = share + ((<usize>at.groups) << 6); share < end; share += 64, sum += 64) {
    v128.store(sum, f32x4.add(v128.load(sum), f32x4.mul(scale, v128.load(share))));
    v128.store(sum, f32x4.add(v128.load(sum, 16), f32x4.mul(scale, v128.load(share, 16))), 16);
    v128.store(sum, f32x4.add(v128.load(sum, 32), f32x4.mul(scale, v128.load(share, 32))), 32);
    v128.store(sum, f32x4.add(v128.load(sum, 48), f32x4.mul(scale, v128.load(share, 48))), 48);
  }
}

/** x W + b in an LSTM above another one, where x is a state of the layer before, so |x| <= 1. */
function projectStep(plan: Plan, at: LayerPlan, direction: DirectionPlan, x: usize): usize {
  if (!plan.isInt8) {
    projectF32(direction.kernel, direction.bias, x, at.layer.inputWidth, at.groups, plan.projection);
    return plan.projection;
  }
  quantizeState(x, plan.inputQ14, (at.layer.inputWidth + 3) & ~3);
  projectS8(
    direction.kernel,
    direction.kernelScale,
    direction.bias,
    plan.inputQ14,
    at.inputPairs,
    at.groups,
    plan.projection,
  );
  return plan.projection;
}

/** f32 (steps, channels) -> f32[channels], or [max, mean] side by side; no steps give zeros. */
function pool(plan: Plan, layer: Layer, input: usize, steps: u32, output: usize): void {
  const stride = (<usize>plan.sequenceWidth) << 2;
  const bytes = (<usize>layer.inputWidth) << 2;
  const end = input + <usize>steps * stride;
  let mean = output;
  // Rows and output are padded to whole vectors. Where the maxima write beyond their width, the means overwrite it.
  if (layer.flags & LAYER_POOL_MAX) {
    for (let k: usize = 0; k < bytes; k += 16) {
      let largest = steps ? v128.load(input + k) : f32x4.splat(0);
      for (let p = input + k + stride; p < end; p += stride) largest = f32x4.pmax(largest, v128.load(p));
      v128.store(output + k, largest);
    }
    mean += bytes;
  }
  if (layer.flags & LAYER_POOL_MEAN) {
    const share = f32x4.splat(steps ? <f32>1.0 / <f32>steps : 0);
    for (let k: usize = 0; k < bytes; k += 16) {
      let sum = f32x4.splat(0);
      for (let p = input + k; p < end; p += stride) sum = f32x4.add(sum, v128.load(p));
      v128.store(mean + k, f32x4.mul(sum, share));
    }
  }
}

/** output = bias + x W, f32[units]; weights are packed by four outputs. Four sums for each quad, since a single one would have to wait for its last addition. */
function dense(at: LayerPlan, input: usize, output: usize): void {
  const layer = at.layer;
  const quads = (layer.units + 3) >> 2;
  const inputs = layer.inputWidth;
  const whole = inputs & ~3;
  let weights = at.weights;
  for (let q: u32 = 0; q < quads; q++) {
    let sum0 = v128.load(at.bias + ((<usize>q) << 4)),
      sum1 = f32x4.splat(0),
      sum2 = f32x4.splat(0),
      sum3 = f32x4.splat(0);
    let k: u32 = 0;
    for (; k < whole; k += 4) {
      const x = v128.load(input + ((<usize>k) << 2));
      sum0 = f32x4.add(sum0, f32x4.mul(v128.load(weights), v128.shuffle<f32>(x, x, 0, 0, 0, 0)));
      sum1 = f32x4.add(sum1, f32x4.mul(v128.load(weights, 16), v128.shuffle<f32>(x, x, 1, 1, 1, 1)));
      sum2 = f32x4.add(sum2, f32x4.mul(v128.load(weights, 32), v128.shuffle<f32>(x, x, 2, 2, 2, 2)));
      sum3 = f32x4.add(sum3, f32x4.mul(v128.load(weights, 48), v128.shuffle<f32>(x, x, 3, 3, 3, 3)));
      weights += 64;
    }
    for (; k < inputs; k++) {
      sum0 = f32x4.add(sum0, f32x4.mul(v128.load(weights), v128.load32_splat(input + ((<usize>k) << 2))));
      weights += 16;
    }
    v128.store(output + ((<usize>q) << 4), f32x4.add(f32x4.add(sum0, sum1), f32x4.add(sum2, sum3)));
  }
}
