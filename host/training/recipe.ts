// The default recipe: labelled texts -> trained weights. Holds every default of `edgelabel
// train`; bench/README.md has the experiments behind them. Decides on the model's layers and the
// settings of the run; the arithmetic is the trainer's.
import * as abi from "../../assembly/abi.ts";
import { swapped } from "../data/report.ts";
import { labelsOfSample, type Sample } from "../data/dataset.ts";
import { partsOf, type Samples, Survey } from "../data/survey.ts";
import { excerpt, EdgelabelError } from "../errors.ts";
import { targetsOf } from "./label-sets.ts";
import type { RunOptions } from "./settings.ts";
import { addSynonyms, type SynonymGroup } from "./synonyms.ts";
import { addVectors, type VectorFile } from "./vectors.ts";
import { CLEANING_STEPS, type Cleaning, Trainer, type EpochFigures, type TokenizerOptions } from "./trainer.ts";

export interface RecipeOptions extends RunOptions {
  name: string;
  version: string;
  tokenizer: Omit<TokenizerOptions, "ngramMin" | "ngramMax">;
  /** Rarer words are not in the vocabulary; only their n-grams are read. */
  minCount: number;
  /** Keras' num_words: the vocabulary has at most numWords - 1 words; 0 = no limit. */
  numWords: number;
  /** The embedding has numWords rows, as Keras' Embedding(num_words, …), even when the texts have fewer words. */
  allRows: boolean;
  oovToken: string | null;
  embedding: number;
  /** The recurrent layer. */
  cell: "lstm" | "mingru";
  units: number;
  bidirectional: boolean;
  mask: boolean;
  pooling: "last" | "max" | "mean" | "max+mean";
  /** Rate of the dropout behind the embedding, element by element. */
  embeddingDropout: number;
  /** Rate of the dropout before the last layer. */
  outputDropout: number;
  /** One unit with a sigmoid for two labels, as the Keras tutorial has it. */
  binaryOutput: boolean;
  /** A linear part over words, pairs of words and n-grams beside the network: "wide and deep"; or "alone": it gives the scores, and the network is not run. Not with binaryOutput. */
  linear: boolean | "alone";
  /** With few texts the run gets more epochs until it has this many steps, or has read minTexts texts; see adaptToShape. 0 = the recipe is not adapted to the texts. */
  minSteps: number;
  minTexts: number;
}

/** Keras' Tokenizer filters; Python's repr of them is in its documentation. */
export const KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n';

export const DEFAULT_RECIPE: RecipeOptions = {
  name: "",
  version: "1",
  tokenizer: {
    lower: true,
    charLevel: false,
    splitScripts: true,
    letterPairs: true,
    padPost: false,
    truncatePost: false,
    sequenceLength: 256,
    filters: KERAS_FILTERS,
    split: " ",
    cleaning: ["normalize", "compose", "punctuation"],
    ngramBuckets: 4096,
  },
  minCount: 2,
  numWords: 7000,
  allRows: false,
  oovToken: null,
  embedding: 64,
  cell: "lstm",
  units: 64,
  bidirectional: true,
  mask: true,
  pooling: "max+mean",
  embeddingDropout: 0.3,
  outputDropout: 0.5,
  binaryOutput: false,
  linear: true,
  loss: "categorical_crossentropy",
  optimizer: "adam",
  learningRate: 8e-3,
  momentum: 0,
  nesterov: false,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-7,
  clipNorm: 1,
  weightDecay: 0,
  schedule: "cosine",
  warmup: 0.1,
  finalRate: 0.3,
  labelSmoothing: abi.LABEL_SMOOTHING,
  wordDropout: 0.3,
  dropoutSamples: 4,
  perturbation: 0.07,
  averageDecay: 0.999,
  augment: { typo: 0.15 },
  balanced: false,
  addNgrams: true,
  embeddingRange: 0.17,
  epochs: 10,
  minSteps: 3000,
  minTexts: 48_000,
  batch: 32,
  seed: 1,
  workers: 1,
};

/** If an epoch would have fewer batches than this, they get smaller. */
const FEW_BATCHES = 64;
const SMALLEST_BATCH = 8;
/** With fewer texts than this, the vocabulary also has words that occur only once. */
const FEW_TEXTS = FEW_BATCHES * 2 * SMALLEST_BATCH;
const MOST_EPOCHS = 80;
/** Fewer texts than this are not taken for names: most of their words occur only once anyway. */
const ENOUGH_NAMES = 100;
/** Most names have at most this many tokens. */
const NAME_TOKENS = 2;
/** Share of names with a word of their own. For one- or two-word commands it is about 0.5 (0.8 with only 100). */
const OWN_SHARE = 0.9;
const NGRAM_MIN = 3;
const NGRAM_MAX = 5;

/** An int8 .elb of at most this size makes, with the engine, a deployable of less than 1 MB; a linear part takes no more room than that leaves. */
export const LARGEST_INT8 = 930_000;
/** With a linear part, the vocabulary may take about so much of that, ... */
const VOCABULARY_BYTES = 480_000;
/** ... and a word takes so much, a byte for each number of its vector, and half a byte for each label. */
const WORD_BYTES = 26;

/** What a recipe adapts to: figures of the texts, as its tokenizer splits them. */
export interface Shape {
  labels: number;
  texts: number;
  /** Texts without any token. */
  empty: number;
  /** Texts with at most NAME_TOKENS tokens. */
  short: number;
  /** Texts with a token that no other text has. */
  withOwnToken: number;
  /** Texts with more tokens than the model keeps. */
  cut: number;
}

/** One direction, its last state, and nothing that keeps a network from learning its texts by heart. */
const PLAIN: RecipeOptions = {
  ...DEFAULT_RECIPE,
  bidirectional: false,
  pooling: "last",
  embeddingDropout: 0,
  outputDropout: 0,
  labelSmoothing: 0,
  wordDropout: 0,
  dropoutSamples: 1,
  perturbation: 0,
  averageDecay: 0,
  augment: {},
  addNgrams: false,
};

/** The tutorial's model: Embedding(num_words, 64), LSTM(64), Dense(1, sigmoid), Adam, as Keras trains it. */
export const TUTORIAL_RECIPE: RecipeOptions = {
  ...PLAIN,
  tokenizer: {
    ...DEFAULT_RECIPE.tokenizer,
    splitScripts: false,
    letterPairs: false,
    sequenceLength: 10,
    cleaning: [],
    ngramBuckets: 0,
  },
  minCount: 1,
  numWords: 100,
  allRows: true,
  mask: false,
  binaryOutput: true,
  loss: "binary_crossentropy",
  learningRate: 1e-3,
  clipNorm: 0,
  schedule: "constant",
  warmup: 0,
  finalRate: 0,
  linear: false,
  embeddingRange: 0.05,
  minSteps: 0,
};

/**
 * A minGRU instead of the LSTM: its gates depend on the word alone, so that words come out of a table, and in training equal
 * words of a batch are computed once; large batches have more of them. Shorter vectors, fewer epochs and, unless texts are few,
 * no perturbed ones make training faster, too.
 */
export const FAST_RECIPE: RecipeOptions = {
  ...DEFAULT_RECIPE,
  cell: "mingru",
  embedding: 48,
  labelSmoothing: 0.05,
  perturbation: 0,
  epochs: 6,
  batch: 128,
  learningRate: 0.018,
};

/** The linear part alone: trains in seconds. The network is the smallest that the format takes, and gets one epoch however few the texts. */
export const LINEAR_RECIPE: RecipeOptions = {
  ...PLAIN,
  tokenizer: { ...DEFAULT_RECIPE.tokenizer, ngramBuckets: 16_384 },
  numWords: 16_000,
  linear: "alone",
  embedding: 1,
  units: 1,
  batch: 256,
  epochs: 1,
  minSteps: 1,
};

/** The cleaning steps of a recipe when some are asked for: those and its own; none if the list is empty. */
export function withCleaning({ tokenizer: { cleaning = [] } }: RecipeOptions, asked: readonly Cleaning[]): Cleaning[] {
  return asked.length === 0 ? [] : CLEANING_STEPS.filter((step) => asked.includes(step) || cleaning.includes(step));
}

/**
 * The recipe, adapted to the shape of the texts: few texts get smaller batches with the default recipe's rate and perturbation,
 * more epochs and all their words in the vocabulary; names, whose words do not recur, are read letter by letter, without a linear part; there is
 * no word dropout without n-grams; a linear part gets its room from the vocabulary. Settings in `given` stay.
 */
export function adaptToShape(
  recipe: RecipeOptions,
  shape: Shape,
  given: ReadonlySet<string> = new Set(),
): RecipeOptions {
  if (recipe.minSteps === 0) return recipe;
  const { texts } = shape;
  let { batch, learningRate, perturbation, epochs, minCount, numWords, linear, wordDropout, tokenizer } = recipe;
  const smallest = Math.max(SMALLEST_BATCH, recipe.workers ?? 1);
  if (!given.has("batch")) while (batch >= 2 * smallest && texts < FEW_BATCHES * batch) batch /= 2;
  // What the fast recipe has instead is for batches as large as its own.
  if (recipe.cell === "mingru" && batch < FAST_RECIPE.batch) {
    if (!given.has("learningRate")) ({ learningRate } = DEFAULT_RECIPE);
    if (!given.has("perturbation")) ({ perturbation } = DEFAULT_RECIPE);
  }
  if (!given.has("minCount") && texts < FEW_TEXTS) minCount = 1;
  if (!given.has("epochs")) epochs = epochsFor(texts, { ...recipe, batch });
  if (!given.has("tokenizer.charLevel") && linear !== "alone" && areNames(shape)) {
    tokenizer = {
      ...tokenizer,
      charLevel: true,
      ngramBuckets: given.has("tokenizer.ngramBuckets") ? tokenizer.ngramBuckets : 0,
    };
  }
  if (!given.has("linear") && linear !== "alone" && (tokenizer.charLevel || recipe.binaryOutput)) linear = false;
  if (!given.has("numWords") && linear)
    numWords = Math.min(numWords, Math.floor(VOCABULARY_BYTES / (WORD_BYTES + recipe.embedding + shape.labels / 2)));
  // Without n-grams or an unknown word, a hidden word leaves nothing to learn from.
  if (!given.has("wordDropout") && tokenizer.ngramBuckets === 0 && recipe.oovToken === null) wordDropout = 0;
  return { ...recipe, batch, learningRate, perturbation, epochs, minCount, numWords, linear, wordDropout, tokenizer };
}

/** The recipe for texts with several labels: one sigmoid a label. Throws an EdgelabelError for what only makes sense with one label a text. */
function forSeveralLabels(recipe: RecipeOptions, given: ReadonlySet<string>): RecipeOptions {
  const unfit = recipe.balanced
    ? "class weights are for one"
    : recipe.binaryOutput
      ? "one sigmoid unit tells 2 labels apart; set binary-output=false"
      : given.has("loss") && recipe.loss === "categorical_crossentropy"
        ? `the loss ${recipe.loss} is for one`
        : null;
  if (unfit) throw new EdgelabelError(`the texts have several labels; ${unfit}`);
  return {
    ...recipe,
    loss: given.has("loss") ? recipe.loss : "binary_crossentropy",
    // Each label is missing in most texts: smoothed towards a half, its score would say little.
    labelSmoothing: given.has("labelSmoothing") ? recipe.labelSmoothing : 0,
  };
}

/** Mostly very short texts of which nearly each has a word of its own, such as host names or product codes. */
function areNames({ texts, short, withOwnToken }: Shape): boolean {
  return texts >= ENOUGH_NAMES && 2 * short > texts && withOwnToken >= OWN_SHARE * texts;
}

/** Epochs of a run on this many texts: at least `epochs`, and up to `most` to reach `minSteps` steps or `minTexts` texts. */
export function epochsFor(
  texts: number,
  { epochs, minSteps, minTexts, batch }: Pick<RecipeOptions, "epochs" | "minSteps" | "minTexts" | "batch">,
  most = MOST_EPOCHS,
): number {
  const wanted = Math.min(Math.ceil(minSteps / Math.ceil(texts / batch)), Math.ceil(minTexts / texts));
  return Math.max(epochs, Math.min(wanted, most));
}

/** What a run reports after each epoch. */
export interface EpochReport {
  epoch: number;
  epochs: number;
  train: EpochFigures;
  validation: EpochFigures | null;
  /** Late in a run, texts are also learnt perturbed, which lowers the accuracy in training: so they were at the end of this epoch. */
  perturbed: boolean;
}

export interface RunListener {
  /** Called after each batch with the number of epochs done, fractions included. */
  onBatch?(epochs: number): void;
  onEpoch?(report: EpochReport): void;
  /** Asked before each epoch: true ends the run, which can be resumed. */
  isStopped?(): boolean;
}

/** A trainer that has a tokenizer but no vocabulary, labels or layers yet: it can split texts. */
export async function createTrainer(tokenizer: RecipeOptions["tokenizer"]): Promise<Trainer> {
  const trainer = await Trainer.create();
  setTokenizer(trainer, tokenizer);
  return trainer;
}

function setTokenizer(trainer: Trainer, tokenizer: RecipeOptions["tokenizer"]): void {
  const hashes = tokenizer.ngramBuckets > 0;
  const splitScripts = tokenizer.splitScripts && !tokenizer.charLevel;
  const letterPairs = tokenizer.letterPairs && splitScripts && hashes;
  trainer.setTokenizer({
    ...tokenizer,
    // Letter by letter, a sign is a letter.
    cleaning: (tokenizer.cleaning ?? []).filter((step) => step !== "punctuation" || !tokenizer.charLevel),
    splitScripts,
    letterPairs,
    ngramMin: hashes ? NGRAM_MIN : 0,
    ngramMax: hashes ? NGRAM_MAX : 0,
  });
}

/** A trainer with the model described and the samples encoded, ready to start. */
export async function prepareTraining(
  samples: Samples,
  validation: readonly Sample[],
  recipe: RecipeOptions,
): Promise<Trainer> {
  const survey = new Survey(samples);
  const trainer = await countTexts(survey, recipe);
  requireLearnable(survey, recipe);
  trainer.fitVocabulary(recipe.minCount, recipe.numWords, recipe.oovToken);
  await describe(trainer, survey, validation, recipe);
  return trainer;
}

/** The same of samples that are read for the first time, with a recipe that is adapted to them, except for the settings in `given`, and perhaps pretrained vectors; and the texts' shape. */
export async function prepareAdapted(
  survey: Survey,
  validation: readonly Sample[],
  wanted: RecipeOptions,
  given: ReadonlySet<string>,
  vectors: VectorFile | null = null,
  note: (note: string) => void = () => {},
): Promise<{ trainer: Trainer; recipe: RecipeOptions; shape: Shape }> {
  let trainer = await countTexts(survey, wanted);
  const { texts, labels, isMultiLabel: isSeveral } = survey.figures;
  const asked = isSeveral ? forSeveralLabels(wanted, given) : wanted;
  requireLearnable(survey, asked);
  const shape = {
    labels: labels.size,
    texts,
    empty: trainer.textsWithin(0),
    short: trainer.textsWithin(NAME_TOKENS),
    withOwnToken: trainer.textsWithOwnToken(),
    cut: texts - trainer.textsWithin(asked.tokenizer.sequenceLength),
  };
  const recipe = adaptToShape(asked, shape, given);
  // Names are read letter by letter, but only their words show that they are names.
  if (recipe.tokenizer !== asked.tokenizer) trainer = await countTexts(survey, recipe);
  trainer.fitVocabulary(recipe.minCount, recipe.numWords, recipe.oovToken);
  if (vectors) {
    const most = Math.max(recipe.numWords - 1, 0);
    // Without a network only the linear part reads them.
    const width = recipe.linear === "alone" ? DEFAULT_RECIPE.embedding : recipe.embedding;
    await addVectors(trainer, vectors, { most, width }, note);
  }
  await describe(trainer, survey, validation, recipe);
  return { trainer, recipe, shape };
}

/** A trainer that has counted the words of the samples. */
async function countTexts(survey: Survey, { tokenizer, name, version }: RecipeOptions): Promise<Trainer> {
  const trainer = await Trainer.create(name || "model");
  setTokenizer(trainer, tokenizer);
  trainer.setIdentity(name, version);
  for await (const part of survey.read()) for (const { text } of part) trainer.countText(text);
  return trainer;
}

/** Throws an EdgelabelError when the recipe cannot learn the samples. */
function requireLearnable(survey: Survey, options: RecipeOptions): void {
  const labels = survey.labels();
  const { different, isMultiLabel: isSeveral } = survey.figures;
  if (labels.length < 2)
    throw new EdgelabelError(
      `the data has ${labels.length === 1 ? `only the label ${excerpt(labels[0]!)}` : "no samples"}; a classifier needs at least 2 labels`,
    );
  if (labels.length > abi.MAX_LABELS)
    throw new EdgelabelError(
      `the data has ${labels.length} labels, such as ${excerpt(labels[0]!)}; a model tells at most ${abi.MAX_LABELS} apart. Are label and text the wrong way round?`,
    );
  if (different < labels.length) throw new EdgelabelError(swapped(labels.length, different));
  if (options.binaryOutput && labels.length !== 2)
    throw new EdgelabelError(`one sigmoid unit tells 2 labels apart, but the data has ${labels.length}`);
  const unfit = options.binaryOutput || isSeveral ? "categorical_crossentropy" : "binary_crossentropy";
  if (options.loss === unfit)
    throw new EdgelabelError(
      `the loss ${unfit} does not fit ${options.binaryOutput ? "one sigmoid unit" : "a softmax"}; choose another loss, or turn the binary output ${options.binaryOutput ? "off" : "on"}`,
    );
}

async function describe(
  trainer: Trainer,
  survey: Survey,
  validation: readonly Sample[],
  options: RecipeOptions,
): Promise<void> {
  const labels = survey.labels();
  for (const label of labels) trainer.addLabel(label);
  if (survey.figures.isMultiLabel) trainer.setMultiLabel();
  addLayers(trainer, labels.length, options);
  const hasLinear = options.linear !== false && !options.binaryOutput;
  const targetOf = targetsOf(labels, trainer.sets);
  const { texts } = survey.figures;
  try {
    trainer.describe();
    if (hasLinear) trainer.startTexts(texts);
    for await (const part of survey.read()) {
      for (const sample of part) {
        const target = targetOf(sample)!;
        trainer.addSample(target, sample.text);
        if (hasLinear) trainer.addText(target, sample.text);
      }
    }
  } catch (error) {
    if (!(error instanceof EdgelabelError) || error.code !== "out_of_memory") throw error;
    throw new EdgelabelError(
      `these ${texts} texts do not fit in WebAssembly memory, at about 16 bytes a text and 4 a token; train on some of them`,
      error.code,
    );
  }
  if (hasLinear) fitLinear(trainer, options);
  addSamples(trainer, labels, [], validation);
}

function fitLinear(trainer: Trainer, { linear }: RecipeOptions): void {
  try {
    trainer.fitLinear(LARGEST_INT8, linear === "alone");
  } catch (error) {
    if (!(error instanceof EdgelabelError) || error.code !== "bad_argument") throw error;
    throw new EdgelabelError("with so many words and labels the model has more than 1 MB; set a smaller num-words");
  }
}

/** Continues the run of an .elb file; samples and synonyms must be those with which it was started. */
export async function resumeTraining(
  elb: Uint8Array,
  source: string,
  samples: Samples,
  validation: readonly Sample[],
  synonyms: { groups: readonly SynonymGroup[]; source: string } | null,
): Promise<Trainer> {
  const trainer = await Trainer.open(elb, source);
  const labels = trainer.labels();
  for await (const part of partsOf(samples)) addSamples(trainer, labels, part, []);
  addSamples(trainer, labels, [], validation);
  if (synonyms) addSynonyms(trainer, synonyms.groups, synonyms.source);
  trainer.resume();
  return trainer;
}

/** Hands the samples to the trainer. Throws an EdgelabelError for a label that is not in `labels`. */
export function addSamples(
  trainer: Trainer,
  labels: readonly string[],
  samples: readonly Sample[],
  validation: readonly Sample[],
): void {
  const known = new Set(labels);
  const targetOf = targetsOf(labels, trainer.sets);
  const strangeIn = (sample: Sample): string | undefined => labelsOfSample(sample).find((label) => !known.has(label));
  for (const sample of samples) {
    const strange = strangeIn(sample);
    if (strange !== undefined)
      throw new EdgelabelError(
        `the label ${excerpt(strange)} does not occur in the training data; remove its lines or train with it`,
      );
    trainer.addSample(targetOf(sample)!, sample.text);
  }
  const first = validation.find((sample) => strangeIn(sample) !== undefined);
  if (first)
    throw new EdgelabelError(
      `the validation texts have the label ${excerpt(strangeIn(first)!)} (first in line ${first.line}), which does not occur in the training data; remove its lines or train with it`,
    );
  for (const sample of validation) trainer.addValidation(targetOf(sample)!, sample.text);
}

function addLayers(trainer: Trainer, labelCount: number, options: RecipeOptions): void {
  const layer = (kind: number, flags: number, units = 0, rate = 0, activation: number = abi.ACTIVATION_LINEAR): void =>
    trainer.addLayer({ kind, flags, activation, units, rate });
  trainer.addLayer({
    kind: abi.LAYER_EMBEDDING,
    flags: options.mask ? abi.LAYER_MASK_ZERO : 0,
    activation: abi.ACTIVATION_LINEAR,
    units: options.embedding,
    rate: 0,
    rows: options.allRows && options.tokenizer.ngramBuckets === 0 ? options.numWords : 0,
  });
  if (options.embeddingDropout > 0) layer(abi.LAYER_DROPOUT, 0, 0, options.embeddingDropout);
  const pools = options.pooling !== "last";
  layer(
    options.cell === "lstm" ? abi.LAYER_LSTM : abi.LAYER_MINGRU,
    (options.bidirectional ? abi.LAYER_BIDIRECTIONAL : 0) | (pools ? abi.LAYER_SEQUENCES : 0),
    options.units,
  );
  if (pools) {
    layer(
      abi.LAYER_POOL,
      (options.pooling.includes("max") ? abi.LAYER_POOL_MAX : 0) |
        (options.pooling.includes("mean") ? abi.LAYER_POOL_MEAN : 0),
    );
  }
  if (options.outputDropout > 0) layer(abi.LAYER_DROPOUT, 0, 0, options.outputDropout);
  if (options.binaryOutput) layer(abi.LAYER_DENSE, 0, 1, 0, abi.ACTIVATION_SIGMOID);
  else layer(abi.LAYER_DENSE, 0, labelCount, 0, trainer.sets ? abi.ACTIVATION_SIGMOID : abi.ACTIVATION_SOFTMAX);
}

/** Runs the epochs that are left, at most `most` of them; returns the last report, null when there was none. */
export function runEpochs(
  trainer: Trainer,
  epochs: number,
  validates: boolean,
  listener: RunListener,
  most = Infinity,
): EpochReport | null {
  const steps = takeSteps(trainer, epochs, validates, listener, most);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** The same, a batch at a time, so that the caller can do something else in between. */
export function* takeSteps(
  trainer: Trainer,
  epochs: number,
  validates: boolean,
  listener: RunListener,
  most = Infinity,
): Generator<undefined, EpochReport | null> {
  let report: EpochReport | null = null;
  for (let done = 0; trainer.epochsLeft() > 0 && done < most && !listener.isStopped?.(); done++) {
    const epoch = epochs - trainer.epochsLeft() + 1;
    const batches = trainer.epoch();
    let step = batches.next();
    const count = step.done ? 0 : step.value + 1;
    for (; !step.done; step = batches.next()) {
      listener.onBatch?.(epoch - step.value / count);
      yield;
    }
    report = {
      epoch,
      epochs,
      train: step.value,
      validation: validates ? trainer.validate() : null,
      perturbed: trainer.isPerturbed(),
    };
    listener.onEpoch?.(report);
  }
  return report;
}
