// Adversarial training (T. Miyato et al., Adversarial Training Methods for Semi-Supervised Text
// Classification, 2017): after a backward pass, moves the token vectors that the first recurrent layer reads
// a little in the direction in which the loss grows fastest. step.ts then learns from the
// original and the moved vectors, so that words with similar vectors get the same answer.
// Refuses nothing.
import { plan } from "./batch";
import { gradientBySlot, gradientRows } from "./backward";
import { network, Stage, stageAt } from "./network";
import { isRecurrent } from "../network/model";
import { sumOfSquares } from "./optimizer";
import { addScaledRow, loadU32 } from "./rows";

/** Shorter gradients, by their square, have no usable direction. */
const SMALLEST_SQUARE: f32 = 1e-30;

/**
 * x += size |x| / |g| g for each sample, where x are the vectors of all its tokens after dropout (zeroed elements stay
 * 0) and g is their gradient. Returns the layer from which the forward pass has to be run again. Where samples share the
 * slots of equal tokens, without dropout or before a minGRU, |x| and |g| are those of the whole batch.
 */
export function perturb(size: f32): u32 {
  let next: u32 = 1;
  while (!isRecurrent(stageAt(next).layer)) next++;
  const stage = stageAt(next - 1);
  const isShared = gradientBySlot(stage);
  const rows = gradientRows(stage);
  const width = stage.layer.outputWidth;
  const groups: u32 = isShared ? 1 : plan.batch;
  memory.fill(network.squaredLengths, 0, (<usize>groups) << 3);
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
    addScaledRow(
      rowAt(stage, stage.output, r),
      rowAt(stage, stage.gradient, r),
      size * sqrt<f32>(load<f32>(lengths) / square),
      width,
    );
  }
  return next;
}

/** Address of f32[2], the squared lengths |x|^2 and |g|^2 for the sample, or batch, of row r. */
// @ts-ignore: decorator
@inline
function groupOf(r: u32, isShared: bool): usize {
  return network.squaredLengths + (isShared ? 0 : (<usize>loadU32(plan.rowSamples, r)) << 3);
}

// @ts-ignore: decorator
@inline
function rowAt(stage: Stage, base: usize, r: u32): usize {
  return base + ((<usize>(r * stage.stride)) << 2);
}
