// The settings of a training run. The host writes them by name before it starts the run, at the
// offsets in setting-offsets.ts; a training form brings those of the run that it continues.
// FORMAT.md has their ranges, since a training form begins with them.
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  MAX_DROPOUT_SAMPLES,
  MAX_WORKERS,
  OPTIMIZER_ADAM,
  OPTIMIZER_AVERAGE,
  OPTIMIZER_NESTEROV,
  OPTIMIZER_PER_TOKEN,
  OPTIMIZER_SGD,
  SCHEDULE_COSINE,
} from "../abi";

/** The settings of a run, and how far it is; 128 bytes of a training form. */
@unmanaged
export class Settings {
  loss: u32; // LOSS_*
  optimizer: u32; // OPTIMIZER_*
  optimizerFlags: u32; // OPTIMIZER_NESTEROV ...
  schedule: u32; // SCHEDULE_*
  beta1: f64; // SGD: momentum
  beta2: f64;
  epsilon: f32;
  clipNorm: f32; // largest global norm of the gradient; 0 = no clipping
  weightDecay: f32; // each step shrinks every parameter by this share, times the learning rate
  learningRate: f32;
  warmup: f32; // share of all steps
  decay: f32; // linear, cosine: share of the rate left at the end
  labelSmoothing: f32;
  wordDropout: f32;
  averageDecay: f32;
  isBalanced: u32; // weights classes equally, however many samples they have
  addsNgrams: u32; // a known word is its own row plus the mean of its n-grams
  epochs: u32;
  batch: u32;
  seed: u32;
  epochsDone: u32;
  sampleCount: u32; // with the checksum: detects that a run is resumed on other data
  sampleChecksum: u32;
  deletion: f32; // augmentation: shares of tokens, see augment.ts
  swap: f32;
  synonyms: f32;
  typos: f32;
  synonymChecksum: u32; // detects that a run is resumed with other synonyms
  workers: u16; // instances that share each batch; 0 and 1: one alone
  dropoutSamples: u16; // masks that the last dropout draws for a sample; 0 and 1: one
  perturbation: f32; // of the token vectors, see adversary.ts; 0 = none
}

/** The settings of the run of this instance. */
export const settings: Settings = changetype<Settings>(memory.data(128, 8));

/** Where the host writes them. */
export function settingsPtr(): usize {
  return changetype<usize>(settings);
}

/** Instances that share each batch. */
export function workers(): u32 {
  return max<u32>(settings.workers, 1);
}

/** Whether every setting is in range and compatible with the others and with the last layer's `activation`. */
export function settingsAreLegal(activation: u32): bool {
  return lossFits(activation) && optimizerIsLegal() && runIsLegal() && textsAreLegal();
}

function lossFits(activation: u32): bool {
  const smoothing = settings.labelSmoothing;
  if (settings.loss == LOSS_BINARY_CROSSENTROPY && activation != ACTIVATION_SIGMOID) return false;
  if (settings.loss == LOSS_CATEGORICAL_CROSSENTROPY && activation != ACTIVATION_SOFTMAX) return false;
  if (settings.loss == LOSS_MEAN_SQUARED_ERROR && smoothing != 0) return false;
  return (
    settings.loss >= <u32>LOSS_BINARY_CROSSENTROPY &&
    settings.loss <= <u32>LOSS_CATEGORICAL_CROSSENTROPY &&
    isShare(smoothing)
  );
}

function optimizerIsLegal(): bool {
  const flags = settings.optimizerFlags;
  if (settings.optimizer < <u32>OPTIMIZER_SGD || settings.optimizer > <u32>OPTIMIZER_ADAM) return false;
  if ((flags & ~(OPTIMIZER_NESTEROV | OPTIMIZER_AVERAGE | OPTIMIZER_PER_TOKEN)) != 0) return false;
  if (settings.averageDecay > 0 != ((flags & OPTIMIZER_AVERAGE) != 0) || !isShare(settings.averageDecay)) return false;
  if (!(settings.beta1 >= 0 && settings.beta1 < 1)) return false;
  if (!(settings.clipNorm >= 0 && settings.clipNorm < Infinity)) return false;
  if (!(settings.learningRate > 0 && settings.learningRate < 1e6)) return false;
  if (!(settings.weightDecay >= 0 && settings.weightDecay * settings.learningRate <= 1)) return false;
  if (settings.optimizer == OPTIMIZER_SGD) return true;
  return (
    settings.beta2 >= 0 &&
    settings.beta2 < 1 &&
    settings.epsilon > 0 &&
    settings.epsilon < Infinity &&
    (flags & OPTIMIZER_NESTEROV) == 0
  );
}

function runIsLegal(): bool {
  return (
    settings.epochs >= 1 &&
    settings.epochs <= 100000 &&
    settings.epochsDone <= settings.epochs &&
    settings.schedule <= <u32>SCHEDULE_COSINE &&
    isShare(settings.warmup) &&
    settings.decay >= 0 &&
    settings.decay <= 1 &&
    settings.isBalanced <= 1 &&
    settings.workers <= settings.batch &&
    settings.workers <= <u32>MAX_WORKERS &&
    (settings.workers < 2 || !(settings.optimizerFlags & OPTIMIZER_PER_TOKEN))
  );
}

/** The settings that change the texts of a batch, or their vectors. */
function textsAreLegal(): bool {
  return (
    settings.addsNgrams <= 1 &&
    isShare(settings.wordDropout) &&
    isShare(settings.deletion) &&
    isShare(settings.swap) &&
    isShare(settings.synonyms) &&
    isShare(settings.typos) &&
    settings.dropoutSamples <= <u16>MAX_DROPOUT_SAMPLES &&
    isShare(settings.perturbation) &&
    (settings.perturbation == 0 || !(settings.optimizerFlags & OPTIMIZER_PER_TOKEN))
  );
}

/** 0 <= x < 1, which NaN is not. */
function isShare(x: f32): bool {
  return x >= 0 && x < 1;
}
