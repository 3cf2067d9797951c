// Adversarial training (T. Miyato et al., Adversarial Training Methods for Semi-Supervised Text
// Classification, 2017): after a backward pass, the token vectors that the first LSTM reads ->
// the same, moved a little to where the loss grows fastest. step.ts then learns from both, so
// that words of nearly the same vector get the same answer. Refuses nothing.
import { LAYER_LSTM } from "../abi";
import { loadU32, plan } from "./batch";
import { gradientBySlot, gradientRows } from "./backward";
import { addScaledRow } from "./forward";
import { network, Stage, stageAt } from "./network";
import { sumOfSquares } from "./optimizer";

/** Less than this is no direction. */
const SMALLEST_SQUARE: f32 = 1e-30;

/**
 * x += size |x| / |g| g in each sample, x being the vectors of all its tokens after dropout (what that has zeroed stays 0)
 * and g their gradient. Returns the layer at which a forward pass goes on. Tokens that share a slot, where there
 * is no dropout, are moved together, by the lengths of the whole batch.
 */
export function perturb(size: f32): u32 {
  let next: u32 = 1;
  while (stageAt(next).layer.kind != LAYER_LSTM) next++;
  const stage = stageAt(next - 1);
  const isShared = gradientBySlot(stage);
  const rows = gradientRows(stage);
  const width = stage.layer.outputWidth;
  const groups: u32 = isShared ? 1 : plan.batch;
  memory.fill(network.squaredLengths, 0, <usize>groups << 3);
  for (let r: u32 = 0; r < rows; r++) {
    const square = sumOfSquares(rowAt(stage, stage.gradient, r), width);
    if (square == 0) continue; // padding
    const lengths = groupOf(r, isShared);
    store<f32>(lengths, load<f32>(lengths) + sumOfSquares(rowAt(stage, stage.output, r), width));
    store<f32>(lengths, load<f32>(lengths, 4) + square, 4);
  }
  for (let r: u32 = 0; r < rows; r++) {
    const lengths = groupOf(r, isShared);
    const square = load<f32>(lengths, 4);
    if (!(square > SMALLEST_SQUARE)) continue;
    addScaledRow(rowAt(stage, stage.output, r), rowAt(stage, stage.gradient, r), size * sqrt<f32>(load<f32>(lengths) / square), width);
  }
  return next;
}

/** f32[2]: squared lengths of the vectors and of the gradients that row r belongs to. */
// @ts-ignore: decorator
@inline
function groupOf(r: u32, isShared: bool): usize {
  return network.squaredLengths + (isShared ? 0 : <usize>loadU32(plan.rowSamples, r) << 3);
}

// @ts-ignore: decorator
@inline
function rowAt(stage: Stage, base: usize, r: u32): usize {
  return base + (<usize>(r * stage.stride) << 2);
}
