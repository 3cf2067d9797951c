// One training step, and the training's settings and saved state.
//   networkBuild -> networkTrainWith -> networkInitialize or restore -> (fill, networkBatch, networkStep) ...
// Called by run.ts. Refuses a loss that does not fit the last activation, settings out of
// range (ERR_BAD_TRAINING), and steps whose loss or gradient is not finite.
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_BAD_STATE,
  ERR_BAD_TRAINING,
  ERR_NO_MODEL,
  ERR_NO_SAMPLES,
  ERR_NOT_FINITE,
  ERR_OUT_OF_MEMORY,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  OK,
  OPTIMIZER_ADAM_UNCORRECTED,
  OPTIMIZER_AVERAGE,
  OPTIMIZER_LAZY,
  OPTIMIZER_NESTEROV,
  OPTIMIZER_PER_TOKEN,
  OPTIMIZER_SGD,
} from "../abi";
import { allocate } from "../arena";
import { perturb } from "./adversary";
import { addBackward, zeroGradients } from "./backward";
import { plan } from "./batch";
import { forwardFrom, forward } from "./forward";
import { loss } from "./loss";
import { lastStage, network, ROW_KNOWN, ROW_TOUCHED, TrainingState } from "./network";
import { averageSwap, averageUpdate, gradientNorm, optimizerSettle, optimizerUpdate, Recipe } from "./optimizer";

/** A longer step could make weights infinite, which would only be noticed in the next step. */
const LARGEST_STEP: f32 = 1e35;

let recipe: Recipe = changetype<Recipe>(0);

/**
 * Chooses loss and optimizer of the network just built, and claims the slots (zero).
 * `beta1` is the momentum of SGD; flags are OPTIMIZER_NESTEROV, _LAZY, _AVERAGE, _PER_TOKEN;
 * `clipNorm` 0 does not clip.
 */
export function networkTrainWith(
  lossKind: u32,
  labelSmoothing: f32,
  optimizer: u32,
  flags: u32,
  beta1: f64,
  beta2: f64,
  epsilon: f32,
  clipNorm: f32,
  weightDecay: f32,
): i32 {
  recipe = changetype<Recipe>(0);
  if (changetype<usize>(network) == 0) return ERR_NO_MODEL;
  if (!isLegal(lossKind, labelSmoothing, optimizer, flags, beta1, beta2, epsilon, clipNorm, weightDecay))
    return ERR_BAD_TRAINING;
  const isAdam = optimizer != OPTIMIZER_SGD;
  const address = allocate(offsetof<Recipe>());
  if (address == 0) return ERR_OUT_OF_MEMORY;
  const next = changetype<Recipe>(address);
  next.optimizer = optimizer;
  next.flags = flags;
  next.loss = lossKind;
  next.labelSmoothing = labelSmoothing;
  next.beta1 = beta1;
  next.beta2 = beta2;
  next.epsilon = epsilon;
  next.clipNorm = clipNorm;
  next.weightDecay = weightDecay;
  if (isAdam || beta1 != 0) {
    next.slot0 = allocate(network.parameterBytes);
    if (next.slot0 == 0) return ERR_OUT_OF_MEMORY;
  }
  if (isAdam) {
    next.slot1 = allocate(network.parameterBytes);
    // Rows cannot fade with weight decay, which always moves weights, or with lazy updates, where slots do not shrink.
    const fades = weightDecay == 0 && (flags & OPTIMIZER_LAZY) == 0;
    if (fades) next.fadedSince = allocate((<usize>network.rows) << 2);
    if (next.slot1 == 0 || (fades && next.fadedSince == 0)) return ERR_OUT_OF_MEMORY;
  }
  if (flags & OPTIMIZER_AVERAGE) {
    next.average = allocate(network.parameterBytes);
    if (next.average == 0) return ERR_OUT_OF_MEMORY;
  }
  const isPerToken = (flags & OPTIMIZER_PER_TOKEN) != 0;
  network.splitsTokens = isPerToken && (isAdam || clipNorm > 0) ? 1 : 0;
  network.squares = 0;
  if (isPerToken && isAdam && clipNorm == 0) {
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
  recipe = next;
  return OK;
}

/** Whether the loss fits the last layer's activation, and all settings are in their range. */
function isLegal(
  lossKind: u32,
  labelSmoothing: f32,
  optimizer: u32,
  flags: u32,
  beta1: f64,
  beta2: f64,
  epsilon: f32,
  clipNorm: f32,
  weightDecay: f32,
): bool {
  const activation = lastStage().layer.activation;
  if (lossKind == LOSS_BINARY_CROSSENTROPY) {
    if (activation != ACTIVATION_SIGMOID) return false;
  } else if (lossKind == LOSS_CATEGORICAL_CROSSENTROPY) {
    if (activation != ACTIVATION_SOFTMAX) return false;
  } else if (lossKind != LOSS_MEAN_SQUARED_ERROR || labelSmoothing != 0) return false;
  if (optimizer < <u32>OPTIMIZER_SGD || optimizer > <u32>OPTIMIZER_ADAM_UNCORRECTED) return false;
  if ((flags & ~(OPTIMIZER_NESTEROV | OPTIMIZER_LAZY | OPTIMIZER_AVERAGE | OPTIMIZER_PER_TOKEN)) != 0) return false;
  if (!(labelSmoothing >= 0 && labelSmoothing < 1) || !(beta1 >= 0 && beta1 < 1)) return false;
  if (!(clipNorm >= 0 && clipNorm < Infinity) || !(weightDecay >= 0 && weightDecay < Infinity)) return false;
  if (optimizer == OPTIMIZER_SGD) return true;
  return beta2 >= 0 && beta2 < 1 && epsilon > 0 && epsilon < Infinity && (flags & OPTIMIZER_NESTEROV) == 0;
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
  if (changetype<usize>(recipe) == 0) return ERR_BAD_STATE;
  if (network.state.isSwapped) return ERR_BAD_STATE;
  if (plan.batch == 0) return ERR_NO_SAMPLES;
  const isAdversarial = perturbation > 0;
  if (isAdversarial && network.splitsTokens != 0) return ERR_BAD_STATE;
  if (isAdversarial) plan.total <<= 1; // each of the two passes contributes half of the mean
  zeroGradients();
  recipe.lossValue = 0;
  addGradients(0);
  if (isAdversarial) {
    addGradients(perturb(perturbation));
    plan.total >>= 1;
  }
  return isFinite<f32>(recipe.lossValue) ? OK : ERR_NOT_FINITE;
}

/** Adds loss and gradients of a forward pass from layer `first` on. */
function addGradients(first: u32): void {
  forwardFrom(first, true);
  recipe.lossValue += loss(recipe.loss, recipe.labelSmoothing, true);
  addBackward(recipe.loss != LOSS_MEAN_SQUARED_ERROR);
}

/** Second half: moves the parameters by the present gradients. */
export function networkUpdate(learningRate: f32): i32 {
  recipe.gradientNorm = gradientNorm();
  if (!isFinite<f32>(recipe.gradientNorm)) return ERR_NOT_FINITE;
  const length = recipe.clipNorm > 0 ? min<f32>(recipe.clipNorm, recipe.gradientNorm) : recipe.gradientNorm;
  if (!(length * learningRate < LARGEST_STEP) || recipe.weightDecay * learningRate > 1) return ERR_NOT_FINITE;
  optimizerUpdate(recipe, learningRate);
  return OK;
}

/** Loss of the last networkForward against the targets, for instance of a validation batch. */
export function networkLoss(): f32 {
  return changetype<usize>(recipe) == 0 || plan.batch == 0 ? NaN : loss(recipe.loss, recipe.labelSmoothing, false);
}

/** Mean loss of the last step's batch, before its update. */
export function networkLossValue(): f32 {
  return changetype<usize>(recipe) == 0 ? NaN : recipe.lossValue;
}

/** Length of the last step's gradient, before clipping. */
export function networkGradientNorm(): f32 {
  return changetype<usize>(recipe) == 0 ? NaN : recipe.gradientNorm;
}

/** Moves the averaged weights towards the parameters: average += (w - average) (1 - decay). */
export function networkAverage(decay: f32): i32 {
  if (changetype<usize>(recipe) == 0 || recipe.average == 0 || network.state.isSwapped) return ERR_BAD_STATE;
  averageUpdate(recipe, decay);
  return OK;
}

/** Exchanges parameters and averaged weights; a second call exchanges them back. Between the two calls no step can be taken. */
export function networkSwapAverage(): i32 {
  if (changetype<usize>(recipe) == 0 || recipe.average == 0 || network.state.averages == 0) return ERR_BAD_STATE;
  averageSwap(recipe);
  network.state.isSwapped ^= 1;
  return OK;
}

/** Brings the optimizer slots of all rows up to date; to be called before the blocks below are read. */
export function networkSettle(): void {
  if (changetype<usize>(recipe) != 0) optimizerSettle(recipe);
}

/** Number of blocks of a saved training: state, parameters, slots, averaged weights. */
export function networkStateCount(): u32 {
  if (changetype<usize>(recipe) == 0) return 0;
  return 2 + (recipe.slot0 != 0 ? 1 : 0) + (recipe.slot1 != 0 ? 1 : 0) + (recipe.average != 0 ? 1 : 0);
}

export function networkStatePtr(index: u32): usize {
  if (index == 0) return changetype<usize>(network.state);
  if (index == 1) return network.parameters;
  if (index == 2 && recipe.slot0 != 0) return recipe.slot0;
  if (index == 3 && recipe.slot1 != 0) return recipe.slot1;
  return recipe.average;
}

/** Bytes of block `index`. */
export function networkStateBytes(index: u32): usize {
  return index == 0 ? offsetof<TrainingState>() : network.parameterBytes;
}

/**
 * To be called after the caller has written saved blocks back, when any embedding row may have
 * slots that are not zero. False when no training can have this state.
 */
export function networkRestored(): bool {
  for (let row: u32 = 0; row < network.rows; row++)
    store<u8>(network.rowStates + row, (load<u8>(network.rowStates + row) & ROW_TOUCHED) | ROW_KNOWN);
  const state = network.state;
  const isPower1 = state.beta1Power >= 0 && state.beta1Power <= 1;
  const isPower2 = state.beta2Power >= 0 && state.beta2Power <= 1;
  // From a state of zeros the generator gives only zeros, with which randomIndex would never end.
  const isSeeded = (state.random | state.random1 | state.random2 | state.random3) != 0;
  return (
    isPower1 &&
    isPower2 &&
    isSeeded &&
    state.isSwapped == 0 &&
    isZero(
      changetype<usize>(state) + offsetof<TrainingState>("reserved0"),
      offsetof<TrainingState>() - offsetof<TrainingState>("reserved0"),
    )
  );
}

/** True when all of `bytes` bytes, a multiple of 4, are zero. */
function isZero(address: usize, bytes: usize): bool {
  for (const end = address + bytes; address < end; address += 4) if (load<u32>(address) != 0) return false;
  return true;
}
