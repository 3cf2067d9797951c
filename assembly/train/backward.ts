// The backward pass: d loss at the last Dense -> gradients of all parameters (+=, after
// zeroing). It mirrors forward.ts: each function names the forward line that it
// differentiates. Called by step.ts after a forward pass and the loss; refuses nothing.
import {
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
  CONTEXT_ROW,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_LSTM,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
} from "../abi";
import { directions, gateCount, isRecurrent } from "../network/model";
import { NO_ROW, plan } from "./batch";
import { averagedShare, denseBias, dropoutMaskRow, outputRows, realSteps, sequenceRow } from "./forward";
import { multiply, multiplyTransposed, packColumns } from "./matmul";
import { Direction, gradientOf, network, roundUp, ROW_KNOWN, ROW_TOUCHED, Stage, stageAt, OWN_ROW } from "./network";
import { flush, NEGLIGIBLE, sumOfSquares } from "./optimizer";
import { addRow, addScaledRow, copyRow, loadU32, multiplyRow, storeU32 } from "./rows";

/** Sets the gradients to those of the last forward pass. `fromLogits`: the gradient at the last layer is that of z, before the activation. */
export function backward(fromLogits: bool): void {
  zeroGradients();
  addBackward(fromLogits);
}

/** Adds the gradients of the last forward pass to the present ones. */
export function addBackward(fromLogits: bool): void {
  for (let i = network.layerCount - 1; i > 0; i--) {
    const stage = stageAt(i);
    const input = stageAt(i - 1);
    const kind = stage.layer.kind;
    if (kind == LAYER_DENSE) {
      if (!fromLogits || i + 1 < network.layerCount) activationBackward(stage);
      denseBackward(stage, input);
    } else if (kind == LAYER_POOL) poolBackward(stage, input);
    else if (kind == LAYER_DROPOUT) dropoutBackward(stage, input);
    else if (isRecurrent(stage.layer)) recurrentBackward(stage, input);
  }
  embeddingBackward(stageAt(0));
}

/** Zeroes all gradients. Of the embedding only the rows that the last step touched need it. */
export function zeroGradients(): void {
  memory.fill(network.gradients + network.embeddingBytes, 0, network.parameterBytes - network.embeddingBytes);
  const bytes = (<usize>network.width) << 2;
  for (let i: u32 = 0; i < network.touchedCount; i++) {
    const row = loadU32(network.touched, i);
    memory.fill(network.gradients + <usize>row * bytes, 0, bytes);
    if (network.squares != 0) memory.fill(network.squares + <usize>row * bytes, 0, bytes);
    store<u8>(network.rowStates + row, load<u8>(network.rowStates + row) & ~ROW_TOUCHED);
  }
  network.touchedCount = 0;
}

/** y = activation(z): d y becomes d z, in place. */
function activationBackward(stage: Stage): void {
  const activation = stage.layer.activation;
  for (let b: u32 = 0; b < outputRows(stage); b++) {
    const y = stage.output + ((<usize>b * stage.stride) << 2);
    const d = stage.gradient + ((<usize>b * stage.stride) << 2);
    let sum: f32 = 0; // of d y * y, for softmax
    if (activation == ACTIVATION_SOFTMAX) {
      for (let k: u32 = 0; k < stage.layer.units; k++)
        sum += load<f32>(d + ((<usize>k) << 2)) * load<f32>(y + ((<usize>k) << 2));
    }
    for (let k: u32 = 0; k < stage.layer.units; k++) {
      const value = load<f32>(y + ((<usize>k) << 2));
      let gradient = load<f32>(d + ((<usize>k) << 2));
      if (activation == ACTIVATION_SIGMOID) gradient = gradient * value * (<f32>1 - value);
      else if (activation == ACTIVATION_TANH) gradient = gradient * (<f32>1 - value * value);
      else if (activation == ACTIVATION_RELU) gradient = value > 0 ? gradient : 0;
      else if (activation == ACTIVATION_SOFTMAX) gradient = (gradient - sum) * value;
      store<f32>(d + ((<usize>k) << 2), gradient);
    }
  }
}

/** denseForward, z = x . W + b: dW += x^T . dz, db += sum dz, dx = dz . W^T. */
function denseBackward(stage: Stage, input: Stage): void {
  const inputs = stage.layer.inputWidth;
  const units = stage.layer.units;
  const rows = outputRows(stage);
  multiplyTransposed(
    inputs,
    units,
    rows,
    input.output,
    input.stride,
    stage.gradient,
    stage.stride,
    gradientOf(stage.weights),
    units,
    network.products,
  );
  sumRows(stage.gradient, rows, stage.stride, gradientOf(denseBias(stage)), units);
  packColumns(units, inputs, stage.weights, units, stage.packedT);
  multiply(rows, inputs, units, stage.gradient, stage.stride, stage.packedT, input.gradient, input.stride, false);
}

/** sum[width] += each of the rows. */
function sumRows(source: usize, rows: u32, stride: u32, sum: usize, width: u32): void {
  for (let r: u32 = 0; r < rows; r++) addRow(sum, source + ((<usize>r * stride) << 2), width);
}

/** poolForward: the chosen row gets a channel's d max; each real row gets d mean / count. */
function poolBackward(stage: Stage, input: Stage): void {
  const width = stage.layer.inputWidth;
  memory.fill(input.gradient, 0, (<usize>plan.rows * input.stride) << 2);
  for (let place: u32 = 0; place < plan.batch; place++) {
    const b = loadU32(plan.order, place);
    let d = stage.gradient + ((<usize>b * stage.stride) << 2);
    if (stage.layer.flags & LAYER_POOL_MAX) {
      const chosen = stage.mask + ((<usize>b * stage.stride) << 2);
      for (let j: u32 = 0; j < width; j++) {
        const r = loadU32(chosen, j);
        if (r == NO_ROW) continue;
        const p = input.gradient + ((<usize>(r * input.stride + j)) << 2);
        store<f32>(p, load<f32>(p) + load<f32>(d + ((<usize>j) << 2)));
      }
      d += (<usize>width) << 2;
    }
    if (stage.layer.flags & LAYER_POOL_MEAN) {
      const count = realSteps(b, place);
      for (let t = loadU32(plan.starts, b); t < loadU32(plan.ends, b); t++) {
        const r = loadU32(plan.stepFirst, t) + place;
        if (loadU32(plan.rowReal, r))
          addScaledRow(input.gradient + ((<usize>r * input.stride) << 2), d, <f32>1 / <f32>count, width);
      }
    }
  }
}

/** Whether this stage's output has one gradient for each slot, not for each row. */
export function gradientBySlot(stage: Stage): bool {
  return stage.bySlot != 0 && network.splitsTokens == 0;
}

export function gradientRows(stage: Stage): u32 {
  if (gradientBySlot(stage)) return plan.slotCount;
  return stage.isSequence ? plan.rows : plan.batch * stage.copies;
}

/** dropoutForward, y = x * mask: dx = dy * mask, summed over the rows that share a slot, and over a sample's copies. */
function dropoutBackward(stage: Stage, input: Stage): void {
  if (stage.passesOn) {
    memory.copy(input.gradient, stage.gradient, (<usize>gradientRows(stage) * stage.stride) << 2);
    return;
  }
  const rowFloats = stage.stride;
  const bySlot = gradientBySlot(input) && !stage.bySlot;
  if (bySlot) memory.fill(input.gradient, 0, (<usize>plan.slotCount * rowFloats) << 2);
  for (let r: u32 = 0, rows = gradientRows(stage); r < rows; r++) {
    const dy = stage.gradient + ((<usize>r * rowFloats) << 2);
    multiplyRow(dy, dy, dropoutMaskRow(stage, r), rowFloats);
    if (bySlot) addRow(sequenceRow(input, input.gradient, r), dy, rowFloats);
    else if (!stage.isSequence && r >= plan.batch)
      addRow(input.gradient + ((<usize>(r % plan.batch) * rowFloats) << 2), dy, rowFloats);
    else copyRow(input.gradient + ((<usize>r * rowFloats) << 2), dy, rowFloats);
  }
}

function recurrentBackward(stage: Stage, input: Stage): void {
  const units = stage.layer.units;
  const inputs = stage.layer.inputWidth;
  const count = gateCount(stage.layer);
  const gates = count * roundUp(units);
  const isLstm = stage.layer.kind == LAYER_LSTM;
  for (let d: u32 = 0; d < directions(stage.layer); d++) {
    const direction = d == 0 ? stage.forwards : stage.backwards;
    if (isLstm) packColumns(gates, units, direction.spreadRecurrent, gates, direction.packedRecurrentT);
    packColumns(gates, inputs, direction.spreadKernel, gates, direction.packedKernelT);
    // Gates of a minGRU are those of a slot, and so is dz.
    const dzBySlot = !isLstm && gradientBySlot(input);
    if (!isLstm) memory.fill(direction.gates, 0, (<usize>((dzBySlot ? plan.slotCount : plan.rows) * gates)) << 2);
    stepsBackward(direction, stage, input, dzBySlot, d == 1);
    if (!isLstm) gatesBackward(direction, stage, input, dzBySlot);

    // recurrentSteps, z += h' . U: dU += h'^T . dz.
    if (isLstm)
      addKernelGradient(
        direction.recurrent,
        units,
        units,
        count,
        plan.rows,
        direction.previous,
        roundUp(units),
        direction.gates,
      );
    let dz = direction.gates;
    let rows = dzBySlot ? plan.slotCount : plan.rows;
    if (input.bySlot && !plan.isDirect && !dzBySlot) {
      // recurrentSteps read projected[slot]: its gradient is the sum over the slot's rows.
      dz = direction.projected;
      rows = plan.slotCount;
      memory.fill(dz, 0, (<usize>rows * gates) << 2);
      for (let r: u32 = 0; r < plan.rows; r++) {
        addRow(
          dz + ((<usize>(loadU32(plan.slots, r) * gates)) << 2),
          direction.gates + ((<usize>(r * gates)) << 2),
          gates,
        );
      }
    }
    // projectInputs, z = x . W + b: dW += x^T . dz, db += sum dz, dx = dz . W^T, summed over both directions.
    addKernelGradient(direction.kernel, inputs, units, count, rows, input.output, input.stride, dz);
    addBiasGradient(direction.bias, units, count, rows, dz);
    if (!gradientBySlot(input)) {
      dz = direction.gates;
      rows = plan.rows;
    }
    multiply(rows, inputs, gates, dz, gates, direction.packedKernelT, input.gradient, input.stride, d == 1);
  }
}

/** Gradient of `kernel` [inputs][gates H] += x^T . dz, where the gates of dz are padded to H4. */
function addKernelGradient(
  kernel: usize,
  inputs: u32,
  units: u32,
  gates: u32,
  rows: u32,
  x: usize,
  stride: u32,
  dz: usize,
): void {
  const wide = roundUp(units);
  const gradient = gradientOf(kernel);
  if (units == wide) {
    multiplyTransposed(
      inputs,
      gates * units,
      rows,
      x,
      stride,
      dz,
      gates * wide,
      gradient,
      gates * units,
      network.products,
    );
    return;
  }
  memory.fill(network.spread, 0, (<usize>(inputs * gates * wide)) << 2);
  multiplyTransposed(
    inputs,
    gates * wide,
    rows,
    x,
    stride,
    dz,
    gates * wide,
    network.spread,
    gates * wide,
    network.products,
  );
  for (let i: u32 = 0; i < gates * inputs; i++) {
    addRow(gradient + ((<usize>(i * units)) << 2), network.spread + ((<usize>(i * wide)) << 2), units);
  }
}

function addBiasGradient(bias: usize, units: u32, gates: u32, rows: u32, dz: usize): void {
  const wide = roundUp(units);
  memory.fill(network.row, 0, (<usize>wide) << 4);
  sumRows(dz, rows, gates * wide, network.row, gates * wide);
  for (let gate: u32 = 0; gate < gates; gate++) {
    addRow(gradientOf(bias) + ((<usize>(gate * units)) << 2), network.row + ((<usize>(gate * wide)) << 2), units);
  }
}

/** recurrentSteps, from the last step to the first. Writes dz over `gates`; of a minGRU adds what gatesBackward needs to `gates`, by slot or row. */
function stepsBackward(direction: Direction, stage: Stage, input: Stage, dzBySlot: bool, isBackwards: bool): void {
  const units = stage.layer.units;
  const wide = roundUp(units);
  const stateBytes = (<usize>wide) << 2;
  const isLstm = stage.layer.kind == LAYER_LSTM;
  const gateBytes = stateBytes * gateCount(stage.layer);
  const isSequence = (stage.layer.flags & LAYER_SEQUENCES) != 0;
  const offset = isBackwards ? (<usize>units) << 2 : 0;
  const lastRows = isBackwards ? plan.firstRows : plan.lastRows;
  const dh = network.hidden; // [B][H4], from the following step
  const dc = network.cellGradients; // [B][H4]
  let following: u32 = 0; // rows of the following step
  // The row buffer holds d h of one sample when its gates are padded.
  memory.fill(network.row, 0, stateBytes);
  for (let step = <i32>plan.time - 1; step >= 0; step--) {
    const t = isBackwards ? plan.time - 1 - step : <u32>step;
    const rows = loadU32(plan.stepRows, t);
    const first = loadU32(plan.stepFirst, t);
    let carried: u32 = 0;
    let carriedFirst: u32 = 0;
    if (step > 0) {
      const before = isBackwards ? t + 1 : t - 1;
      carried = loadU32(plan.stepRows, before);
      carriedFirst = loadU32(plan.stepFirst, before);
    }
    const alive = min(carried, rows);
    // Samples that end at this step get no gradient from a following one.
    const ended = min(following, rows);
    memory.fill(dh + <usize>ended * stateBytes, 0, <usize>(rows - ended) * stateBytes);
    memory.fill(dc + <usize>ended * stateBytes, 0, <usize>(rows - ended) * stateBytes);
    for (let b: u32 = 0; b < rows; b++) {
      const r = first + b;
      const gates = direction.gates + <usize>r * gateBytes;
      const dhRow = dh + <usize>b * stateBytes;
      let dOut = network.zeros;
      if (isSequence) dOut = stage.gradient + ((<usize>r * stage.stride) << 2) + offset;
      else if (loadU32(lastRows, b) == r)
        dOut = stage.gradient + ((<usize>loadU32(plan.order, b) * stage.stride) << 2) + offset;
      if (!loadU32(plan.rowReal, r)) {
        // A masked step copies h and c, so both gradients pass through.
        addRow(dhRow, dOut, units);
        if (isLstm) memory.fill(gates, 0, gateBytes);
        continue;
      }
      if (units != wide && dOut != network.zeros) {
        copyRow(network.row, dOut, units);
        dOut = network.row;
      }
      if (!isLstm) {
        const slot = input.bySlot ? loadU32(plan.slots, r) : r;
        minGruRowBackward(
          dOut,
          dhRow,
          direction.projected + <usize>slot * gateBytes,
          dzBySlot ? direction.gates + <usize>slot * gateBytes : gates,
          direction.previous + <usize>r * stateBytes,
          stateBytes,
        );
        continue;
      }
      const cBefore = b < alive ? direction.cells + <usize>(carriedFirst + b) * stateBytes : network.zeros;
      lstmRowBackward(
        dOut,
        dhRow,
        dc + <usize>b * stateBytes,
        gates,
        cBefore,
        direction.tanhCells + <usize>r * stateBytes,
        stateBytes,
      );
      if (plan.hasMasked) memory.fill(dhRow, 0, stateBytes);
    }
    // z += h' . U: dh' = dz . U^T. A minGRU's dh' is there already.
    if (isLstm)
      multiply(
        alive,
        units,
        4 * wide,
        direction.gates + <usize>first * gateBytes,
        4 * wide,
        direction.packedRecurrentT,
        dh,
        wide,
        plan.hasMasked != 0,
      );
    following = rows;
  }
}

/**
 * lstmRow; dh is the sum of d out and the gradient from the following step, dc comes from that step:
 *   h = o * tanh c        do = dh * tanh c, dc += dh * o * (1 - tanh^2 c)
 *   c = f * c' + i * g    di = dc * g, df = dc * c', dg = dc * i, dc' = dc * f
 *   sigmoid, tanh         dz = di * i * (1 - i), ..., dg * (1 - g^2)
 * Overwrites i, f, g, o with dz, and dc with dc'.
 */
function lstmRowBackward(
  dOut: usize,
  dh: usize,
  dc: usize,
  gates: usize,
  cBefore: usize,
  tanhC: usize,
  bytes: usize,
): void {
  const one = f32x4.splat(1);
  for (const end = dh + bytes; dh < end; dh += 16) {
    const i = v128.load(gates);
    const f = v128.load(gates + bytes);
    const g = v128.load(gates + 2 * bytes);
    const o = v128.load(gates + 3 * bytes);
    const tanhCell = v128.load(tanhC);
    const dHidden = f32x4.add(v128.load(dOut), v128.load(dh));
    const dCell = f32x4.add(
      v128.load(dc),
      f32x4.mul(f32x4.mul(dHidden, o), f32x4.sub(one, f32x4.mul(tanhCell, tanhCell))),
    );
    v128.store(dc, flush(f32x4.mul(dCell, f), NEGLIGIBLE));
    v128.store(gates, flush(f32x4.mul(f32x4.mul(dCell, g), f32x4.mul(i, f32x4.sub(one, i))), NEGLIGIBLE));
    v128.store(
      gates + bytes,
      flush(f32x4.mul(f32x4.mul(dCell, v128.load(cBefore)), f32x4.mul(f, f32x4.sub(one, f))), NEGLIGIBLE),
    );
    v128.store(gates + 2 * bytes, flush(f32x4.mul(f32x4.mul(dCell, i), f32x4.sub(one, f32x4.mul(g, g))), NEGLIGIBLE));
    v128.store(
      gates + 3 * bytes,
      flush(f32x4.mul(f32x4.mul(dHidden, tanhCell), f32x4.mul(o, f32x4.sub(one, o))), NEGLIGIBLE),
    );
    dOut += 16;
    dc += 16;
    gates += 16;
    cBefore += 16;
    tanhC += 16;
  }
}

/**
 * minGruRow; dh is the sum of d out and the gradient from the following step:
 *   h = h' + z * (g - h')    dz = dh * (g - h'), dg = dh * z, dh' = dh * (1 - z)
 * Adds dz and dh to `sums`, and overwrites dh with dh'.
 */
function minGruRowBackward(dOut: usize, dh: usize, gates: usize, sums: usize, hBefore: usize, bytes: usize): void {
  for (const end = dh + bytes; dh < end; dh += 16) {
    const z = v128.load(gates);
    const dHidden = f32x4.add(v128.load(dOut), v128.load(dh));
    const dUpdate = f32x4.mul(dHidden, f32x4.sub(v128.load(gates + bytes), v128.load(hBefore)));
    v128.store(sums, f32x4.add(v128.load(sums), dUpdate));
    v128.store(sums + bytes, f32x4.add(v128.load(sums + bytes), dHidden));
    v128.store(dh, flush(f32x4.mul(dHidden, f32x4.sub(f32x4.splat(1), z)), NEGLIGIBLE));
    dOut += 16;
    gates += 16;
    sums += 16;
    hBefore += 16;
  }
}

/** activateGates: dz * z * (1 - z), and dh * z * (1 - g^2), over the sums of minGruRowBackward. */
function gatesBackward(direction: Direction, stage: Stage, input: Stage, dzBySlot: bool): void {
  const one = f32x4.splat(1);
  const bytes = (<usize>roundUp(stage.layer.units)) << 2;
  for (let r: u32 = 0, rows = dzBySlot ? plan.slotCount : plan.rows; r < rows; r++) {
    let sums = direction.gates + <usize>r * 2 * bytes;
    let gates = direction.projected + <usize>(input.bySlot && !dzBySlot ? loadU32(plan.slots, r) : r) * 2 * bytes;
    for (const end = sums + bytes; sums < end; sums += 16, gates += 16) {
      const z = v128.load(gates);
      const g = v128.load(gates + bytes);
      const dUpdate = f32x4.mul(v128.load(sums), f32x4.mul(z, f32x4.sub(one, z)));
      const dNext = f32x4.mul(f32x4.mul(v128.load(sums + bytes), z), f32x4.sub(one, f32x4.mul(g, g)));
      v128.store(sums, flush(dUpdate, NEGLIGIBLE));
      v128.store(sums + bytes, flush(dNext, NEGLIGIBLE));
    }
  }
}

/** embeddingForward, x = mean of rows + own row + context row: adds its share of dx to each row, and notes which rows have a gradient. */
function embeddingBackward(stage: Stage): void {
  const width = network.width;
  const tokens = gradientBySlot(stage) ? plan.slotTokens : plan.rowTokens;
  const frozenFirst = network.state.frozenFirst;
  const frozenCount = network.state.frozenCount;
  let squares: f32 = 0;
  for (let s: u32 = 0, count = gradientRows(stage); s < count; s++) {
    const token = loadU32(tokens, s);
    const start = loadU32(network.rowOffsets, token);
    const end = loadU32(network.rowOffsets, token + 1);
    const dx = stage.gradient + ((<usize>s * stage.stride) << 2);
    const square: f32 = network.splitsTokens ? sumOfSquares(dx, width) : 0;
    const share = averagedShare(start, end);
    for (let j = start; j < end; j++) {
      const id = loadU32(network.rowIds, j);
      const row = id & ~(OWN_ROW | CONTEXT_ROW);
      if (row - frozenFirst < frozenCount) continue;
      const scale: f32 = id == row ? share : 1;
      const state = load<u8>(network.rowStates + row);
      if (!(state & ROW_TOUCHED)) {
        store<u8>(network.rowStates + row, state | ROW_TOUCHED | ROW_KNOWN);
        storeU32(network.touched, network.touchedCount, row);
        network.touchedCount++;
      }
      addScaledRow(network.gradients + ((<usize>row * width) << 2), dx, scale, width);
      squares += square * scale * scale;
      if (network.squares != 0) addSquares(network.squares + ((<usize>row * width) << 2), dx, scale, width);
    }
  }
  network.tokenSquares = squares;
}

/** target[length] += (scale * source[length])^2. */
function addSquares(target: usize, source: usize, scale: f32, length: u32): void {
  const end = target + ((<usize>length) << 2);
  for (; target + 16 <= end; target += 16, source += 16) {
    const x = f32x4.mul(v128.load(source), f32x4.splat(scale));
    v128.store(target, f32x4.add(v128.load(target), f32x4.mul(x, x)));
  }
  for (; target < end; target += 4, source += 4) {
    const x: f32 = load<f32>(source) * scale;
    store<f32>(target, load<f32>(target) + x * x);
  }
}
