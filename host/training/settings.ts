// How to train: the settings of a run as the host has them, and as fields of Settings in
// assembly/train/settings.ts, which checks them and says what they mean.
import * as abi from "../../assembly/abi.ts";
import type { __AdaptedExports as TrainerExports } from "#build/trainer.js";

const LOSSES = {
  binary_crossentropy: abi.LOSS_BINARY_CROSSENTROPY,
  mean_squared_error: abi.LOSS_MEAN_SQUARED_ERROR,
  categorical_crossentropy: abi.LOSS_CATEGORICAL_CROSSENTROPY,
} as const;
const OPTIMIZERS = { sgd: abi.OPTIMIZER_SGD, adam: abi.OPTIMIZER_ADAM } as const;
const SCHEDULES = {
  constant: abi.SCHEDULE_CONSTANT,
  linear: abi.SCHEDULE_LINEAR,
  cosine: abi.SCHEDULE_COSINE,
} as const;

/** Shares of the tokens that each epoch drops, swaps with the next one, misspells, or replaces by a synonym, at random. */
export interface Augmentation {
  delete?: number;
  swap?: number;
  typo?: number;
  synonym?: number;
}

/** How to train; the names are Keras' where Keras has one. */
export interface RunOptions {
  loss: keyof typeof LOSSES;
  optimizer: keyof typeof OPTIMIZERS;
  learningRate: number;
  /** Only for sgd. */
  momentum: number;
  /** Only for sgd. */
  nesterov: boolean;
  /** This and the next two only for adam. */
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Largest global norm of the gradient; 0 = no clipping. */
  clipNorm: number;
  weightDecay: number;
  schedule: keyof typeof SCHEDULES;
  /** The rate rises to learningRate over this share of the steps. */
  warmup: number;
  /** Only for linear and cosine: share of learningRate at the end. */
  finalRate: number;
  labelSmoothing: number;
  /** Share of known words that are hidden in training, so that the network learns to cope with unknown ones. */
  wordDropout: number;
  /** Masks that the last dropout draws for each sample; the loss is their mean; absent = 1. */
  dropoutSamples?: number;
  /** Adversarial training, late in the run: each text is also learnt with its token vectors moved, by this share of their length, in the direction in which the loss grows; absent = 0. */
  perturbation?: number;
  /** Decay of a moving average of the weights, which the model file then has; 0 = none. */
  averageDecay: number;
  /** Weights classes equally, however many samples they have. */
  balanced: boolean;
  /** A known word's vector is its own row plus the mean of its n-grams' rows. Ignored for an opened file, which says itself. */
  addNgrams: boolean;
  /** The embedding's initial weights are uniform in plus or minus this; an opened file has weights. */
  embeddingRange: number;
  /** Absent = none. */
  augment?: Augmentation;
  epochs: number;
  batch: number;
  seed: number;
  /** Number of trainers that share each batch, see workers.ts; absent = 1. It changes the result. */
  workers?: number;
}

/** The engine's settings, by the names of their fields. */
export type SettingName = keyof typeof TrainerExports extends infer Name
  ? Name extends `SETTINGS_${infer Field}`
    ? Field
    : never
  : never;
type Field = readonly [type: "u16" | "u32" | "f32" | "f64", value: number];

const u16 = (value: number): Field => ["u16", Math.min(value, 0xffff)];
const u32 = (value: number): Field => ["u32", value];
const f32 = (value: number): Field => ["f32", value];
const f64 = (value: number): Field => ["f64", value];

/** All fields except those that the engine sets. */
export function settingsOf(options: RunOptions): Partial<Record<SettingName, Field>> {
  const { augment = {}, workers = 1, dropoutSamples = 1, perturbation = 0 } = options;
  return {
    loss: u32(LOSSES[options.loss]),
    optimizer: u32(OPTIMIZERS[options.optimizer]),
    optimizerFlags: u32(
      (options.nesterov ? abi.OPTIMIZER_NESTEROV : 0) | (options.averageDecay > 0 ? abi.OPTIMIZER_AVERAGE : 0),
    ),
    schedule: u32(SCHEDULES[options.schedule]),
    beta1: f64(options.optimizer === "sgd" ? options.momentum : options.beta1),
    beta2: f64(options.beta2),
    epsilon: f32(options.epsilon),
    clipNorm: f32(options.clipNorm),
    weightDecay: f32(options.weightDecay),
    learningRate: f32(options.learningRate),
    warmup: f32(options.warmup),
    decay: f32(options.finalRate),
    labelSmoothing: f32(options.labelSmoothing),
    wordDropout: f32(options.wordDropout),
    averageDecay: f32(options.averageDecay),
    isBalanced: u32(Number(options.balanced)),
    addsNgrams: u32(Number(options.addNgrams)),
    epochs: u32(options.epochs),
    batch: u32(options.batch),
    seed: u32(options.seed),
    deletion: f32(augment.delete ?? 0),
    swap: f32(augment.swap ?? 0),
    synonyms: f32(augment.synonym ?? 0),
    typos: f32(augment.typo ?? 0),
    workers: u16(workers > 1 ? workers : 0),
    dropoutSamples: u16(dropoutSamples),
    perturbation: f32(perturbation),
  };
}
