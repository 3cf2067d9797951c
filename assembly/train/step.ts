// One training step by the settings in settings.ts, and the saved state.
//   networkBuild -> networkTrainWith -> networkInitialize or restore -> (fill, networkBatch, networkStep) ...
// Called by run.ts. Refuses steps whose loss or gradient is not finite.
import {
  ERR_BAD_STATE,
  ERR_NO_MODEL,
  ERR_NO_SAMPLES,
  ERR_NOT_FINITE,
  ERR_OUT_OF_MEMORY,
  LOSS_MEAN_SQUARED_ERROR,
  OK,
  OPTIMIZER_AVERAGE,
  OPTIMIZER_PER_TOKEN,
  OPTIMIZER_SGD,
} from "../abi";
import { allocate } from "../arena";
import { perturb } from "./adversary";
import { addBackward, zeroGradients } from "./backward";
import { plan } from "./batch";
import { forwardFrom, forward } from "./forward";
import { loss } from "./loss";
import { network, ROW_KNOWN, ROW_TOUCHED, TrainingState } from "./network";
import { averageSwap, averageUpdate, gradientNorm, optimizerSettle, optimizerUpdate, Optimizer } from "./optimizer";
import { settings } from "./settings";

/** A longer step could make weights infinite, and only the next step would detect that. */
const LARGEST_STEP: f32 = 1e35;

let optimizer: Optimizer = changetype<Optimizer>(0);

/** Allocates the optimizer's state for the network just built. The settings must be legal. */
export function networkTrainWith(): i32 {
  optimizer = changetype<Optimizer>(0);
  if (changetype<usize>(network) == 0) return ERR_NO_MODEL;
  const flags = settings.optimizerFlags;
  const isAdam = settings.optimizer != OPTIMIZER_SGD;
  const next = changetype<Optimizer>(allocate(offsetof<Optimizer>()));
  if (changetype<usize>(next) == 0) return ERR_OUT_OF_MEMORY;
  if (isAdam || settings.beta1 != 0) {
    next.slot0 = allocate(network.parameterBytes);
    if (next.slot0 == 0) return ERR_OUT_OF_MEMORY;
  }
  if (isAdam) {
    next.slot1 = allocate(network.parameterBytes);
    // Weight decay moves every weight in every step, so rows cannot fade.
    const fades = settings.weightDecay == 0;
    if (fades) next.fadedSince = allocate((<usize>network.rows) << 2);
    if (next.slot1 == 0 || (fades && next.fadedSince == 0)) return ERR_OUT_OF_MEMORY;
  }
  if (flags & OPTIMIZER_AVERAGE) {
    next.average = allocate(network.parameterBytes);
    if (next.average == 0) return ERR_OUT_OF_MEMORY;
  }
  const isPerToken = (flags & OPTIMIZER_PER_TOKEN) != 0;
  network.splitsTokens = isPerToken && (isAdam || settings.clipNorm > 0) ? 1 : 0;
  if (network.splitsTokens) network.sharesDropout = 0;
  network.squares = 0;
  if (isPerToken && isAdam && settings.clipNorm == 0) {
    network.squares = allocate(network.embeddingBytes);
    if (network.squares == 0) return ERR_OUT_OF_MEMORY;
  }
  const state = network.state;
  state.beta1Power = 1;
  state.beta2Power = 1;
  state.steps = 0;
  state.averages = 0;
  state.isSwapped = 0;
  for (let row: u32 = 0; row < network.rows; row++)
    store<u8>(network.rowStates + row, load<u8>(network.rowStates + row) & ROW_TOUCHED);
  optimizer = next;
  return OK;
}

/** Computes the scores of networkBatch's batch; without dropout unless `isTraining`. */
export function networkForward(isTraining: bool): i32 {
  if (changetype<usize>(network) == 0) return ERR_NO_MODEL;
  if (plan.batch == 0) return ERR_NO_SAMPLES;
  forward(isTraining);
  return OK;
}

/** One step on networkBatch's batch. When it fails, no parameter has changed. */
export function networkStep(learningRate: f32, perturbation: f32): i32 {
  const status = networkGradient(perturbation);
  return status == OK ? networkUpdate(learningRate) : status;
}

/**
 * First half of a step: the gradients of the batch. With a `perturbation` above 0, the mean of the gradients of its texts
 * and of the perturbed texts, see adversary.ts (not with OPTIMIZER_PER_TOKEN).
 */
export function networkGradient(perturbation: f32): i32 {
  if (changetype<usize>(optimizer) == 0) return ERR_BAD_STATE;
  if (network.state.isSwapped) return ERR_BAD_STATE;
  if (plan.batch == 0) return ERR_NO_SAMPLES;
  const isAdversarial = perturbation > 0;
  if (isAdversarial && network.splitsTokens != 0) return ERR_BAD_STATE;
  if (isAdversarial) plan.total <<= 1; // each of the two passes counts half
  zeroGradients();
  optimizer.lossValue = 0;
  addGradients(0);
  if (isAdversarial) {
    addGradients(perturb(perturbation));
    plan.total >>= 1;
  }
  return isFinite<f32>(optimizer.lossValue) ? OK : ERR_NOT_FINITE;
}

/** Adds loss and gradients of a forward pass from layer `first` on. */
function addGradients(first: u32): void {
  forwardFrom(first, true);
  optimizer.lossValue += loss(settings.loss, settings.labelSmoothing, true);
  addBackward(settings.loss != LOSS_MEAN_SQUARED_ERROR);
}

/** Second half: moves the parameters by the present gradients. */
export function networkUpdate(learningRate: f32): i32 {
  optimizer.gradientNorm = gradientNorm();
  if (!isFinite<f32>(optimizer.gradientNorm)) return ERR_NOT_FINITE;
  const length = settings.clipNorm > 0 ? min<f32>(settings.clipNorm, optimizer.gradientNorm) : optimizer.gradientNorm;
  if (!(length * learningRate < LARGEST_STEP) || settings.weightDecay * learningRate > 1) return ERR_NOT_FINITE;
  optimizerUpdate(optimizer, learningRate);
  return OK;
}

/** Loss of the last networkForward, for instance on a validation batch. */
export function networkLoss(): f32 {
  return changetype<usize>(optimizer) == 0 || plan.batch == 0
    ? NaN
    : loss(settings.loss, settings.labelSmoothing, false);
}

/** Mean loss of the last step's batch, before its update. */
export function networkLossValue(): f32 {
  return changetype<usize>(optimizer) == 0 ? NaN : optimizer.lossValue;
}

/** Length of the last step's gradient, before clipping. */
export function networkGradientNorm(): f32 {
  return changetype<usize>(optimizer) == 0 ? NaN : optimizer.gradientNorm;
}

/** Moves the averaged weights towards the parameters: average += (w - average) (1 - decay). */
export function networkAverage(decay: f32): i32 {
  if (changetype<usize>(optimizer) == 0 || optimizer.average == 0 || network.state.isSwapped) return ERR_BAD_STATE;
  averageUpdate(optimizer, decay);
  return OK;
}

/** Exchanges parameters and averaged weights; a second call exchanges them back. Between the two calls no step can be taken. */
export function networkSwapAverage(): i32 {
  if (changetype<usize>(optimizer) == 0 || optimizer.average == 0 || network.state.averages == 0) return ERR_BAD_STATE;
  averageSwap(optimizer);
  network.state.isSwapped ^= 1;
  return OK;
}

/** Brings the optimizer slots of all rows up to date. Call it before reading the blocks below. */
export function networkSettle(): void {
  if (changetype<usize>(optimizer) != 0) optimizerSettle(optimizer);
}

/** Number of blocks of a saved training: state, parameters, slots, averaged weights. */
export function networkStateCount(): u32 {
  if (changetype<usize>(optimizer) == 0) return 0;
  return 2 + (optimizer.slot0 != 0 ? 1 : 0) + (optimizer.slot1 != 0 ? 1 : 0) + (optimizer.average != 0 ? 1 : 0);
}

export function networkStatePtr(index: u32): usize {
  if (index == 0) return changetype<usize>(network.state);
  if (index == 1) return network.parameters;
  if (index == 2 && optimizer.slot0 != 0) return optimizer.slot0;
  if (index == 3 && optimizer.slot1 != 0) return optimizer.slot1;
  return optimizer.average;
}

/** Bytes of block `index`. */
export function networkStateBytes(index: u32): usize {
  return index == 0 ? offsetof<TrainingState>() : network.parameterBytes;
}

/**
 * Call it after writing saved blocks back: from then on any embedding row may have non-zero slots.
 * False if no training can have produced this state.
 */
export function networkRestored(): bool {
  for (let row: u32 = 0; row < network.rows; row++)
    store<u8>(network.rowStates + row, (load<u8>(network.rowStates + row) & ROW_TOUCHED) | ROW_KNOWN);
  const state = network.state;
  const isPower1 = state.beta1Power >= 0 && state.beta1Power <= 1;
  const isPower2 = state.beta2Power >= 0 && state.beta2Power <= 1;
  // An all-zero generator only ever returns 0, and randomIndex would loop forever.
  const isSeeded = (state.random | state.random1 | state.random2 | state.random3) != 0;
  return (
    isPower1 &&
    isPower2 &&
    isSeeded &&
    state.isSwapped == 0 &&
    <u64>state.frozenFirst + state.frozenCount <= network.rows &&
    isZero(
      changetype<usize>(state) + offsetof<TrainingState>("reserved2"),
      offsetof<TrainingState>() - offsetof<TrainingState>("reserved2"),
    )
  );
}

/** True when all of `bytes` bytes, a multiple of 4, are zero. */
function isZero(address: usize, bytes: usize): bool {
  for (const end = address + bytes; address < end; address += 4) if (load<u32>(address) != 0) return false;
  return true;
}
