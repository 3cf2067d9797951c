// Loss of the last forward pass: scores (B,K), targets (B,K), sample weights (B) -> mean loss
// and its gradient at the last Dense. Called by step.ts, which has checked that loss and
// activation fit: binary cross-entropy needs sigmoid, categorical cross-entropy softmax.
import { LOSS_BINARY_CROSSENTROPY, LOSS_CATEGORICAL_CROSSENTROPY } from "../abi";
import { expF32 } from "../network/activation";
import { plan } from "./batch";
import { lastStage, network, Stage } from "./network";
import { logF32 } from "./random";

// Both cross-entropies start from z, the value before the activation, as Keras does in a
// compiled graph: no logarithm of a rounded 0, and the gradient is simply p - y.

/**
 * Mean loss over the batch and its copies; of a share of a batch, its part of the mean over plan.total samples.
 * With `writeGradient` also writes d loss / d z, or d loss / d y for the squared error.
 */
export function loss(kind: u32, smoothing: f32, writeGradient: bool): f32 {
  const stage = lastStage();
  const outputs = network.outputs;
  let sum: f32 = 0;
  const total = <f32>(plan.total * stage.copies);
  for (let r: u32 = 0; r < plan.batch * stage.copies; r++) {
    const b = r % plan.batch;
    const row = (<usize>r * stage.stride) << 2;
    const target = network.targets + ((<usize>b * outputs) << 2);
    const weight = load<f32>(network.sampleWeights + ((<usize>b) << 2));
    let value: f32;
    if (kind == LOSS_CATEGORICAL_CROSSENTROPY)
      value = categorical(stage, row, target, smoothing, weight / total, writeGradient);
    else
      value =
        elementwise(kind, stage, row, target, smoothing, weight / (total * <f32>outputs), writeGradient) / <f32>outputs;
    sum += weight * value;
  }
  return sum / total;
}

/** sum y (log sum e^z - z), with y smoothed towards 1 / K; gradient p sum(y) - y. */
function categorical(stage: Stage, row: usize, target: usize, smoothing: f32, scale: f32, writeGradient: bool): f32 {
  const outputs = network.outputs;
  const z = stage.mask + row;
  let largest: f32 = load<f32>(z);
  for (let k: u32 = 1; k < outputs; k++) largest = max<f32>(largest, load<f32>(z + ((<usize>k) << 2)));
  let total: f32 = 0;
  for (let k: u32 = 0; k < outputs; k++) total += expF32(load<f32>(z + ((<usize>k) << 2)) - largest);
  const logTotal: f32 = largest + logF32(total);
  let value: f32 = 0;
  let mass: f32 = 0;
  for (let k: u32 = 0; k < outputs; k++) {
    const at = (<usize>k) << 2;
    const y: f32 = load<f32>(target + at) * (<f32>1 - smoothing) + smoothing / <f32>outputs;
    value += y * (logTotal - load<f32>(z + at));
    mass += y;
  }
  // A NaN in z must give a NaN, although expF32 clamps it to a number.
  if (!isFinite<f32>(logTotal)) value = NaN;
  if (!writeGradient) return value;
  for (let k: u32 = 0; k < outputs; k++) {
    const at = (<usize>k) << 2;
    const y: f32 = load<f32>(target + at) * (<f32>1 - smoothing) + smoothing / <f32>outputs;
    store<f32>(stage.gradient + row + at, (load<f32>(stage.output + row + at) * mass - y) * scale);
  }
  return value;
}

/** Sum over the outputs of binary cross-entropy (gradient p - y) or squared error (gradient 2 (p - y)). */
function elementwise(
  kind: u32,
  stage: Stage,
  row: usize,
  target: usize,
  smoothing: f32,
  scale: f32,
  writeGradient: bool,
): f32 {
  let value: f32 = 0;
  for (let k: u32 = 0; k < network.outputs; k++) {
    const at = (<usize>k) << 2;
    const z = load<f32>(stage.mask + row + at);
    const p = load<f32>(stage.output + row + at);
    let y = load<f32>(target + at);
    let gradient: f32;
    if (kind == LOSS_BINARY_CROSSENTROPY) {
      y = y * (<f32>1 - smoothing) + smoothing * <f32>0.5;
      // max(z, 0) - z y + log(1 + e^-|z|)
      value += max<f32>(z, 0) - z * y + logF32(<f32>1 + expF32(-abs<f32>(z)));
      gradient = p - y;
    } else {
      value += (p - y) * (p - y);
      gradient = (p - y) * 2;
    }
    if (!isFinite<f32>(z)) value = NaN;
    if (writeGradient) store<f32>(stage.gradient + row + at, gradient * scale);
  }
  return value;
}
