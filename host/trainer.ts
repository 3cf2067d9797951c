// The trainer in this process: the only file that touches trainer.wasm and its memory.
// Builds a model from parts (import), from texts (training) or from a file, and gives
// its bytes. All arithmetic is in the module; here bytes are copied and statuses read.
import { readFile } from "node:fs/promises";
import { instantiate } from "@assemblyscript/loader";
import * as abi from "../assembly/abi.ts";
import type { __AdaptedExports as TrainerExports } from "../build/trainer.js";
import { artefactPath } from "./artefact.ts";
import { type Explanation, readExplanation } from "./explanation.ts";
import { EngineError, check } from "./status.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

const CLEANINGS = {
  markup: abi.CLEAN_MARKUP, urls: abi.CLEAN_URLS, width: abi.CLEAN_WIDTH, compose: abi.CLEAN_COMPOSE, accents: abi.CLEAN_ACCENTS,
  numbers: abi.CLEAN_NUMBERS, repeats: abi.CLEAN_REPEATS,
} as const;
export type Cleaning = keyof typeof CLEANINGS;
/** In the order in which they are applied. */
export const CLEANING_STEPS = Object.keys(CLEANINGS) as Cleaning[];

/** How texts become tokens; the names are Keras'. */
export interface TokenizerOptions {
  lower: boolean;
  charLevel: boolean;
  /** Letters of scripts written without spaces are tokens of their own. */
  splitScripts: boolean;
  /** A letter of such a script also brings the row of its pair with the letter before; needs n-gram buckets. */
  letterPairs: boolean;
  padPost: boolean;
  truncatePost: boolean;
  /** Tokens that a text is padded or cut to. */
  sequenceLength: number;
  filters: string;
  split: string;
  /** What is done to a text first; absent = nothing. */
  cleaning?: readonly Cleaning[];
  /** Embedding rows of hashed character n-grams for unknown words; 0 = none. */
  ngramBuckets: number;
  ngramMin: number;
  ngramMax: number;
}

/** One layer record, in the numbers of assembly/abi.ts. */
export interface LayerRecord {
  kind: number;
  flags: number;
  activation: number;
  units: number;
  rate: number;
  /** Embedding only; absent = as many as the vocabulary needs. */
  rows?: number;
}

export type ModelForm = "training" | "f32" | "int8" | "int8-weights";

const LOSSES = {
  binary_crossentropy: abi.LOSS_BINARY_CROSSENTROPY, mean_squared_error: abi.LOSS_MEAN_SQUARED_ERROR,
  categorical_crossentropy: abi.LOSS_CATEGORICAL_CROSSENTROPY,
} as const;
const OPTIMIZERS = { sgd: abi.OPTIMIZER_SGD, adam: abi.OPTIMIZER_ADAM, "adam-uncorrected": abi.OPTIMIZER_ADAM_UNCORRECTED } as const;
const SCHEDULES = {
  constant: abi.SCHEDULE_CONSTANT, linear: abi.SCHEDULE_LINEAR, cosine: abi.SCHEDULE_COSINE, "inverse-time": abi.SCHEDULE_INVERSE_TIME,
} as const;

/** Shares of the tokens that each epoch changes at random: left out, swapped with the next, misspelt, replaced by a synonym. */
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
  /** Of sgd. */
  momentum: number;
  nesterov: boolean;
  /** Of adam. */
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Only embedding rows of the batch are updated. */
  lazyEmbedding: boolean;
  /** Longest gradient, by global norm; 0 = any. */
  clipNorm: number;
  weightDecay: number;
  schedule: keyof typeof SCHEDULES;
  /** Share of all steps in which the rate climbs to learningRate. */
  warmup: number;
  /** Of inverse-time: rate / (1 + decay * step). */
  decay: number;
  /** Of linear and cosine: share of learningRate that the last steps have. */
  finalRate: number;
  labelSmoothing: number;
  /** Share of known words that are hidden in training, so that unknown ones are met. */
  wordDropout: number;
  /** Masks that the last dropout draws for a sample, whose losses are averaged; absent = 1. */
  dropoutSamples?: number;
  /** In the last steps of the run learns from each text also with its token vectors moved this far, beside their length, to where the loss grows; absent = 0. */
  perturbation?: number;
  /** Moving average of the weights, which is then what is written; 0 = none. */
  averageDecay: number;
  /** Classes weigh the same, however many samples they have. */
  balanced: boolean;
  /** A known word is its own row plus the mean of its n-grams; of an opened file, as that file has it. */
  addNgrams: boolean;
  /** The embedding's first weights are uniform in plus or minus this; not those of an opened file. */
  embeddingRange: number;
  /** Absent = none. */
  augment?: Augmentation;
  epochs: number;
  batch: number;
  seed: number;
  /** Trainers that share each batch, see workers.ts; absent = 1. The result depends on it. */
  workers?: number;
}

/** Gives this trainer's share of a batch to the others and takes theirs. */
export type Exchange = (own: Uint8Array, take: (shard: number, share: Uint8Array) => void) => void;

/** The fields of Distortion in assembly/train/distortion.ts, in their order. */
const DISTORTION = ["rows", "columns", "bits", "smallestScale", "largestScale", "largestError", "decibels", "bytesBefore", "bytesAfter"] as const;

/** What int8 costs a tensor. */
export interface Distortion {
  /** Keras' shape. */
  shape: number[];
  /** Of a weight: 8, or 32 where it stays f32. */
  bits: number;
  /** Smallest and largest of the rows' scales; null at 32 bits. */
  scale: [smallest: number, largest: number] | null;
  largest_error: number;
  /** Signal-to-noise ratio, in dB; null when nothing is lost. */
  snr_db: number | null;
  /** In an f32 and in an int8 file. */
  bytes_before: number;
  bytes_after: number;
}

export interface EpochFigures {
  loss: number;
  accuracy: number;
}

async function startModule(): Promise<typeof TrainerExports> {
  const { exports } = await instantiate<typeof TrainerExports>(await readFile(artefactPath("trainer.wasm")), {});
  const version = exports.abiVersion();
  if (version !== abi.ABI_VERSION) throw new EngineError("bad_abi", `trainer.wasm speaks ABI ${version}, this edgelabel ${abi.ABI_VERSION}; build again`);
  return exports as unknown as typeof TrainerExports;
}

export class Trainer {
  readonly #exports: typeof TrainerExports;
  readonly #source: string;
  #shard = 0;
  #exchange: Exchange | null = null;

  private constructor(exports: typeof TrainerExports, source: string) {
    this.#exports = exports;
    this.#source = source;
  }

  /** A trainer with an empty model. `source` names it in errors. */
  static async create(source = "model"): Promise<Trainer> {
    const trainer = await Trainer.#start(source);
    check(trainer.#exports.beginModel(), source);
    return trainer;
  }

  /** A trainer with the model of an f32 .elb file; a training form brings its optimizer state. */
  static async open(bytes: Uint8Array, source: string): Promise<Trainer> {
    const trainer = await Trainer.#start(source);
    const address = trainer.#exports.reserveFile(bytes.length);
    if (address === 0) throw new EngineError("out_of_memory", `${source}: ${bytes.length} bytes do not fit in WebAssembly memory`);
    new Uint8Array(trainer.#exports.memory.buffer, address, bytes.length).set(bytes);
    check(trainer.#exports.openFile(bytes.length), source);
    return trainer;
  }

  static async #start(source: string): Promise<Trainer> {
    return new Trainer(await startModule(), source);
  }

  setTokenizer(options: TokenizerOptions): void {
    const flags = (options.lower ? abi.TOKENIZER_LOWER : 0) | (options.charLevel ? abi.TOKENIZER_CHAR_LEVEL : 0)
      | (options.splitScripts ? abi.TOKENIZER_SPLIT_SCRIPTS : 0) | (options.letterPairs ? abi.TOKENIZER_LETTER_PAIRS : 0) | (options.padPost ? abi.TOKENIZER_PAD_POST : 0)
      | (options.truncatePost ? abi.TOKENIZER_TRUNCATE_POST : 0);
    const { ngramBuckets, ngramMin, ngramMax } = options;
    check(this.#exports.setTokenizer(flags, options.sequenceLength, ngramBuckets, ngramMin, ngramMax), "tokenizer");
    check(this.#exports.setCleaning((options.cleaning ?? []).reduce((sum, step) => sum | CLEANINGS[step], 0)), "cleaning");
    check(this.#exports.setFilters(this.#put(options.filters, "filters")), "filters");
    check(this.#exports.setSplit(this.#put(options.split, "separator")), "separator");
  }

  setIdentity(name: string, version: string): void {
    check(this.#exports.setName(this.#put(name, "name")), "name");
    this.setVersion(version);
  }

  /** Also of an opened file, before its run starts. */
  setVersion(version: string): void {
    check(this.#exports.setVersion(this.#put(version, "version")), "version");
  }

  /** The next word, in id order from 1. */
  addWord(word: string): void {
    check(this.#exports.addWord(this.#put(word, "word")), `word ${JSON.stringify(word)}`);
  }

  /** The id of words outside the vocabulary; 0 = they are dropped. */
  setUnknownId(id: number): void {
    check(this.#exports.setUnknownId(id), "unknown word");
  }

  /** The next label, in class order; in an opened file, which has a softmax, one more. */
  addLabel(label: string): void {
    check(this.#exports.addLabel(this.#put(label, "label")), `label ${JSON.stringify(label)}`);
  }

  /** The tokens of a text, before the model is described. */
  tokens(text: string | Uint8Array): string[] {
    check(this.#exports.startTokens(this.#put(text, "text")), "text");
    const tokens: string[] = [];
    while (this.#exports.nextToken()) tokens.push(decoder.decode(new Uint8Array(this.#exports.memory.buffer, this.#exports.tokenPtr(), this.#exports.tokenBytes())));
    return tokens;
  }

  /** Counts the words of a text; afterwards fitVocabulary makes the vocabulary. */
  fitText(text: string | Uint8Array): void {
    check(this.#exports.fitText(this.#put(text, "text")), "text");
  }

  /** Words seen at least minCount times, ids below numWords (0 = all); unknownWord, if any, gets id 1. */
  fitVocabulary(minCount: number, numWords: number, unknownWord: string | null): void {
    check(this.#exports.fitVocabulary(minCount, numWords, this.#put(unknownWord ?? "", "unknown word")), "vocabulary");
  }

  wordCount(): number {
    return this.#exports.wordCount();
  }

  addLayer({ kind, flags, activation, units, rate, rows = 0 }: LayerRecord): void {
    check(this.#exports.addLayer(kind, flags, activation, units, rate, rows), "layer");
  }

  /** Fixes tokenizer, vocabulary, labels and layers. */
  describe(): void {
    check(this.#exports.describeModel(), this.#source);
  }

  /** Describes the model if need be and makes its weights: no training, only import or writing. */
  build(): void {
    this.describe();
    this.buildOpened();
  }

  /** Makes the weights of an opened file writable, without buffers for training. */
  buildOpened(): void {
    check(this.#exports.buildNetwork(1, 1, 1, 0), this.#source);
  }

  /** Number of weight tensors: Keras' order. */
  tensorCount(): number {
    return this.#exports.tensorCount();
  }

  /** Copies a tensor in, Keras' layout. */
  setTensor(index: number, values: Float32Array): void {
    const length = this.#exports.tensorLength(index);
    if (index >= this.tensorCount() || values.length !== length) {
      throw new EngineError("bad_tensor", `${this.#source}: tensor ${index} has ${values.length} weights where ${length} belong`);
    }
    new Float32Array(this.#exports.memory.buffer, this.#exports.tensorPtr(index), length).set(values);
  }

  /** A copy of a tensor. */
  tensor(index: number): Float32Array {
    return new Float32Array(this.#exports.memory.buffer, this.#exports.tensorPtr(index), this.#exports.tensorLength(index)).slice();
  }

  /** What int8 costs tensor `index` of a built model. */
  measure(index: number): Distortion {
    const address = this.#exports.measureTensor(index);
    if (address === 0) throw new EngineError("bad_tensor", `${this.#source}: tensor ${index} cannot be measured`);
    const values = new Float64Array(this.#exports.memory.buffer, address, DISTORTION.length);
    const figures = Object.fromEntries(DISTORTION.map((name, i) => [name, values[i]])) as Record<(typeof DISTORTION)[number], number>;
    const { rows, columns, bits, smallestScale, largestScale, largestError, decibels, bytesBefore, bytesAfter } = figures;
    const isQuantized = bits < 32;
    return {
      shape: isQuantized ? [rows, columns] : [columns], bits, scale: isQuantized ? [smallestScale, largestScale] : null,
      largest_error: largestError, snr_db: Number.isFinite(decibels) ? decibels : null, bytes_before: bytesBefore, bytes_after: bytesAfter,
    };
  }

  /** Encodes a text and keeps it for training. */
  addSample(label: number, text: string | Uint8Array): void {
    check(this.#exports.addSample(label, this.#put(text, "text")), "sample");
  }

  /** Encodes a text and keeps it for validate(). */
  addValidation(label: number, text: string | Uint8Array): void {
    check(this.#exports.addValidation(label, this.#put(text, "text")), "validation sample");
  }

  /** A word of a group of synonyms, whose first word begins it; false when it is not exactly one token. */
  addSynonym(word: string, beginsGroup: boolean): boolean {
    const status = this.#exports.addSynonym(this.#put(word, "synonym"), beginsGroup);
    if (status === abi.ERR_BAD_ARGUMENT) return false;
    check(status, "synonym");
    return true;
  }

  /** Builds the network and starts a run on the samples, from the weights of the opened file if there is one. */
  start(options: RunOptions): void {
    const adam = options.optimizer !== "sgd";
    const flags = (options.nesterov ? abi.OPTIMIZER_NESTEROV : 0) | (options.lazyEmbedding ? abi.OPTIMIZER_LAZY : 0)
      | (options.averageDecay > 0 ? abi.OPTIMIZER_AVERAGE : 0);
    check(this.#exports.trainingSettings(
      LOSSES[options.loss], OPTIMIZERS[options.optimizer], flags, adam ? options.beta1 : options.momentum, options.beta2, options.epsilon,
      options.learningRate, options.clipNorm, options.weightDecay,
    ), "training settings");
    check(this.#exports.trainingPlan(
      SCHEDULES[options.schedule], options.warmup, options.schedule === "inverse-time" ? options.decay : options.finalRate, options.labelSmoothing, options.wordDropout, options.averageDecay,
      options.balanced, options.addNgrams, options.epochs, options.batch, options.seed,
    ), "training settings");
    const { delete: deletion = 0, swap = 0, synonym = 0, typo = 0 } = options.augment ?? {};
    check(this.#exports.trainingAugmentation(deletion, swap, synonym, typo), "training settings");
    check(this.#exports.trainingPasses(options.dropoutSamples ?? 1, options.perturbation ?? 0), "training settings");
    if (options.workers !== undefined && options.workers > 1) check(this.#exports.trainingWorkers(options.workers), "training settings");
    check(this.#exports.startTraining(options.embeddingRange), "training settings");
  }

  /** Continues the run of an opened training form; the same samples, and synonyms, must have been added. */
  resume(): void {
    check(this.#exports.resumeTraining(), `${this.#source}: cannot be resumed on these samples or synonyms`);
  }

  epochsLeft(): number {
    return this.#exports.epochsLeft();
  }

  /** Trainers that share each batch of the run. */
  workers(): number {
    return this.#exports.workers();
  }

  /** Bytes that a share has at most. */
  shareCapacity(): number {
    return this.#exports.shareCapacity();
  }

  /** Of a run of several workers: this one computes shard `shard`, from 0, of each batch. */
  shareBatches(shard: number, exchange: Exchange): void {
    check(this.#exports.trainingShard(shard), "training settings");
    this.#shard = shard;
    this.#exchange = exchange;
  }

  /** One epoch, a batch at a time: yields the number of batches still to do after each. */
  *epoch(): Generator<number, EpochFigures> {
    check(this.#exports.beginEpoch(), "training");
    while (this.#exports.batchesLeft() > 0) {
      check(this.#exchange ? this.#exports.computeBatch() : this.#exports.trainBatch(), "training");
      if (this.#exchange) {
        this.#exchange(this.#share(this.#shard), (shard, share) => new Uint8Array(this.#exports.memory.buffer).set(share, this.#exports.sharePtr(shard)));
        check(this.#exports.applyBatch(), "training");
      }
      yield this.#exports.batchesLeft();
    }
    check(this.#exports.endEpoch(), "training");
    return this.#figures();
  }

  #share(shard: number): Uint8Array {
    return new Uint8Array(this.#exports.memory.buffer, this.#exports.sharePtr(shard), this.#exports.shareBytes(shard));
  }

  /** Loss and accuracy on the validation texts. */
  validate(): EpochFigures {
    check(this.#exports.validate(), "validation");
    return this.#figures();
  }

  #figures(): EpochFigures {
    return { loss: this.#exports.meanLoss(), accuracy: this.#exports.accuracy() };
  }

  /** A smaller copy of the opened model as an f32 .elb: only the worthiest units a direction and the first words; 0 = all. Needs samples. */
  prune({ units = 0, words = 0, minCount = 0 }: { units?: number | undefined; words?: number | undefined; minCount?: number | undefined }): Uint8Array {
    check(this.#exports.pruneModel(units, words, minCount), this.#source);
    return this.#file();
  }

  /** The model as an .elb file. */
  write(form: ModelForm): Uint8Array {
    const code = form === "int8" ? abi.FORM_INT8 : form === "int8-weights" ? abi.FORM_INT8_WEIGHTS : abi.FORM_F32;
    check(this.#exports.writeFile(code, form === "training"), this.#source);
    return this.#file();
  }

  #file(): Uint8Array {
    return new Uint8Array(this.#exports.memory.buffer, this.#exports.filePtr(), this.#exports.fileBytes()).slice();
  }

  /** Makes an opened model ready for integrateGradients; nothing is trained or written afterwards. */
  prepareGradients(): void {
    check(this.#exports.prepareGradients(), this.#source);
  }

  /** Shares of a text's tokens in the score of label number `label`, of the best one when there is no such label; the more `steps`, the smaller the error. */
  integrateGradients(text: Uint8Array, labels: readonly string[], label: number, steps: number): Explanation {
    check(this.#exports.integrateGradients(label, this.#put(text, "text"), steps), "explanation");
    return readExplanation(this.#exports, text, labels, "gradients");
  }

  /** Writes a text where the module reads it; returns its length in bytes. */
  #put(text: string | Uint8Array, subject: string): number {
    const bytes = typeof text === "string" ? encoder.encode(text) : text;
    const most = subject === "text" ? abi.TEXT_CAPACITY : abi.MAX_NAME_BYTES;
    if (bytes.length > most) throw new EngineError("text_too_long", `${subject}: ${bytes.length} bytes, but at most ${most} are allowed`);
    new Uint8Array(this.#exports.memory.buffer, this.#exports.inputPtr(), bytes.length).set(bytes);
    return bytes.length;
  }
}

/** When an answer is unknown; 0, 0, 1 = never. */
export interface RejectionRule {
  /** Below this best score, */
  score: number;
  /** below this lead over the second best, */
  margin: number;
  /** or above this share of unknown tokens. */
  unknown_share: number;
}

export const NO_REJECTION: RejectionRule = { score: 0, margin: 0, unknown_share: 1 };

const ANSWER_KINDS = { right: abi.ANSWER_RIGHT, wrong: abi.ANSWER_WRONG, unknown: abi.ANSWER_UNKNOWN } as const;
/** Answers by their kind; unknown: to texts whose label the model lacks. */
export type AnswerCounts = Record<keyof typeof ANSWER_KINDS, number>;

/** A finished model file of any form and labelled texts -> temperature, thresholds, figures, and the file with other settings. */
export class Calibrator {
  readonly #exports: typeof TrainerExports;
  readonly #length: number;

  private constructor(exports: typeof TrainerExports, length: number) {
    this.#exports = exports;
    this.#length = length;
  }

  /** `source` names the .elb file `bytes` in errors. */
  static async open(bytes: Uint8Array, source: string): Promise<Calibrator> {
    const exports = await startModule();
    const address = exports.reserveModel(bytes.length);
    if (address === 0) throw new EngineError("out_of_memory", `${source}: ${bytes.length} bytes do not fit in WebAssembly memory`);
    new Uint8Array(exports.memory.buffer, address, bytes.length).set(bytes);
    check(exports.loadModel(bytes.length), source);
    return new Calibrator(exports, bytes.length);
  }

  /** Changes the file's header, all else stays; what was collected is forgotten. */
  change(temperature: number, { score, margin, unknown_share }: RejectionRule): void {
    check(this.#exports.changeSettings(temperature, score, margin, unknown_share), "calibration");
  }

  /** The file as it is now. */
  file(): Uint8Array {
    return new Uint8Array(this.#exports.memory.buffer, this.#exports.settledFile(), this.#length).slice();
  }

  /** Begins to collect logits of a file of temperature 1; false when its last layer is no softmax and no sigmoid. */
  startLogits(): boolean {
    const status = this.#exports.startLogits();
    if (status === abi.ERR_BAD_STATE) return false;
    check(status, "calibration");
    return true;
  }

  /** `label` is the number of the text's true label. */
  addLogits(label: number, text: string): void {
    check(this.#exports.addLogits(label, this.#put(text)), "calibration");
  }

  fitTemperature(): number {
    return this.#exports.fitTemperature();
  }

  /** Of the logits: mean negative log-likelihood of the true label. */
  logLoss(temperature: number): number {
    return this.#exports.logLoss(temperature);
  }

  /** Of the logits: how far scores and shares of hits lie apart, over 15 bins. */
  calibrationError(temperature: number): number {
    return this.#exports.calibrationError(temperature);
  }

  startAnswers(): void {
    check(this.#exports.startAnswers(), "calibration");
  }

  /** `label` is the number of the text's true label, or one beyond the last. */
  addAnswer(label: number, text: string): void {
    check(this.#exports.addAnswer(label, this.#put(text)), "calibration");
  }

  /** The strictest rule that rejects at most `share` of the right answers. */
  fitRejection(share: number): RejectionRule {
    const status = this.#exports.fitRejection(share);
    if (status === abi.ERR_NO_SAMPLES) throw new EngineError("no_samples", "no text was answered right, so there is nothing to fit a rule for unknown texts on");
    check(status, "calibration");
    return { score: this.#exports.ruleScore(), margin: this.#exports.ruleMargin(), unknown_share: this.#exports.ruleUnknown() };
  }

  answers(): AnswerCounts {
    return countKinds((kind) => this.#exports.answerCount(kind));
  }

  rejected({ score, margin, unknown_share }: RejectionRule): AnswerCounts {
    this.#exports.setRule(score, margin, unknown_share);
    return countKinds((kind) => this.#exports.rejectedCount(kind));
  }

  /** The largest score that at least `share` of the answers reach. */
  scoreAtCoverage(share: number): number {
    return this.#exports.scoreAtCoverage(share);
  }

  riskCoverageArea(): number {
    return this.#exports.riskCoverageArea();
  }

  /** How well scores tell texts of the model's labels from others; null without either. */
  unknownRanking(): number | null {
    const area = this.#exports.unknownRanking();
    return area < 0 ? null : area;
  }

  #put(text: string): number {
    const bytes = encoder.encode(text);
    if (bytes.length > abi.TEXT_CAPACITY) throw new EngineError("text_too_long", `text: ${bytes.length} bytes, but at most ${abi.TEXT_CAPACITY} are classified`);
    new Uint8Array(this.#exports.memory.buffer, this.#exports.textPtr(), bytes.length).set(bytes);
    return bytes.length;
  }
}

function countKinds(count: (kind: number) => number): AnswerCounts {
  const { right, wrong, unknown } = ANSWER_KINDS;
  return { right: count(right), wrong: count(wrong), unknown: count(unknown) };
}
