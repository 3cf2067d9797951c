// Builds a model from parts (import), from texts (training) or from a file, and returns the
// bytes of its file. All arithmetic is in the module; here its functions are called and their
// status codes checked.
import { EdgelabelError } from "../errors.ts";
import * as abi from "../../assembly/abi.ts";
import { type Explanation, readExplanation } from "../model/explanation.ts";
import { check } from "../model/status.ts";
import { LabelSets } from "./label-sets.ts";
import { TrainerModule } from "./module.ts";
import { type RunOptions, type SettingName, settingsOf } from "./settings.ts";

const CLEANINGS = {
  normalize: abi.CLEAN_NORMALIZE,
  markup: abi.CLEAN_MARKUP,
  urls: abi.CLEAN_URLS,
  width: abi.CLEAN_WIDTH,
  compose: abi.CLEAN_COMPOSE,
  accents: abi.CLEAN_ACCENTS,
  numbers: abi.CLEAN_NUMBERS,
  repeats: abi.CLEAN_REPEATS,
  punctuation: abi.CLEAN_PUNCTUATION,
} as const;
export type Cleaning = keyof typeof CLEANINGS;
/** In the order in which they are applied. */
export const CLEANING_STEPS = Object.keys(CLEANINGS) as Cleaning[];

/** How texts become tokens; the names are Keras'. */
export interface TokenizerOptions {
  lower: boolean;
  charLevel: boolean;
  /** Letters of scripts that are written without spaces are tokens of their own. */
  splitScripts: boolean;
  /** A letter of such a script also gets the embedding row of its pair with the letter before; needs n-gram buckets. */
  letterPairs: boolean;
  padPost: boolean;
  truncatePost: boolean;
  /** Tokens that a text is padded or cut to. */
  sequenceLength: number;
  filters: string;
  split: string;
  /** Cleaning steps before a text is split; absent = none. */
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
  /** Rows of an Embedding; absent = as many as the vocabulary needs. */
  rows?: number;
}

/** How a built model reads words. */
export interface Vocabulary {
  /** The word with id i + 1 at index i. */
  words: string[];
  /** The id of words outside the vocabulary; 0 = they are dropped, or read by their n-grams. */
  unknownId: number;
  filters: string;
  split: string;
}

export type ModelForm = "training" | "f32" | "int8" | "int8-weights";

/** Hands this trainer's share of a batch to the others, and each of theirs to `take`. */
export type Exchange = (own: Uint8Array, take: (shard: number, share: Uint8Array) => void) => void;

/** How a field of the engine's settings is written, by its type. */
const WRITERS = { u16: "setUint16", u32: "setUint32", f32: "setFloat32", f64: "setFloat64" } as const;

/** The fields of Distortion in assembly/train/measure/distortion.ts, in their order. */
const DISTORTION = [
  "rows",
  "columns",
  "bits",
  "smallestScale",
  "largestScale",
  "largestError",
  "decibels",
  "bytesBefore",
  "bytesAfter",
] as const;

/** What a file of word vectors holds, as assembly/train/vectors.ts says it. */
export interface VectorFigures {
  /** VECTORS_*; 0 = none. */
  defect: number;
  /** Lines read: the last one has the defect. */
  line: number;
  /** Numbers on that line, or words in a file that has too few. */
  numbers: number;
  dimensions: number;
  /** Words by the header; 0 = there is none. */
  declared: number;
  /** Words of the texts with a vector, and others that were added. */
  found: number;
  added: number;
  /** Vectors of words that had one, and the first line with one. */
  repeated: number;
  repeatedLine: number;
}

/** The loss of precision of a tensor in int8. */
export interface Distortion {
  /** Keras' shape. */
  shape: number[];
  /** Bits of a weight: 8, or 32 when the tensor stays f32. */
  bits: number;
  /** Smallest and largest of the rows' scales; null for f32. */
  scale: [smallest: number, largest: number] | null;
  largest_error: number;
  /** Signal-to-noise ratio, in dB; null when nothing is lost. */
  snr_db: number | null;
  /** Size in an f32 file, and below in an int8 file. */
  bytes_before: number;
  bytes_after: number;
}

export interface EpochFigures {
  loss: number;
  accuracy: number;
}

export class Trainer {
  readonly #module: TrainerModule;
  readonly #source: string;
  #sets: LabelSets | null = null;
  #shard = 0;
  #exchange: Exchange | null = null;

  private constructor(module: TrainerModule, source: string) {
    this.#module = module;
    this.#source = source;
  }

  get #exports(): TrainerModule["exports"] {
    return this.#module.exports;
  }

  /** A trainer with an empty model. `source` names it in errors. */
  static async create(source = "model"): Promise<Trainer> {
    const trainer = new Trainer(await TrainerModule.start(source), source);
    trainer.begin();
    return trainer;
  }

  /** Forgets all and begins with an empty model. */
  begin(): void {
    check(this.#exports.beginModel(), this.#source);
    this.#sets = null;
  }

  /**
   * A trainer with the model of an f32 .elb file; a training form brings its optimizer state. With `expands` it may be an
   * int8 file, whose weights become the f32 numbers that they stand for.
   */
  static async open(bytes: Uint8Array, source: string, expands = false): Promise<Trainer> {
    const module = await TrainerModule.start(source);
    check(module.exports.openFile(module.putFile(bytes, module.exports.reserveFile, source), expands), source);
    const trainer = new Trainer(module, source);
    if (module.exports.isMultiLabel()) trainer.#sets = new LabelSets(module.exports);
    return trainer;
  }

  /** The model is to give several labels a text. Before the first text. */
  setMultiLabel(): void {
    check(this.#exports.setMultiLabel(), this.#source);
    this.#sets = new LabelSets(this.#exports);
  }

  /** Sets of labels, if the model gives several labels a text: their numbers then stand for those of labels below. */
  get sets(): LabelSets | null {
    return this.#sets;
  }

  /** The labels of a described or opened model. */
  labels(): string[] {
    const { labelCount, labelPtr, labelBytes } = this.#exports;
    return this.#module.texts(labelCount(), labelPtr, labelBytes);
  }

  /** Hands over the module, for what comes after training. The trainer must not be used afterwards. */
  release(): TrainerModule {
    return this.#module;
  }

  setTokenizer(options: TokenizerOptions): void {
    const flags =
      (options.lower ? abi.TOKENIZER_LOWER : 0) |
      (options.charLevel ? abi.TOKENIZER_CHAR_LEVEL : 0) |
      (options.splitScripts ? abi.TOKENIZER_SPLIT_SCRIPTS : 0) |
      (options.letterPairs ? abi.TOKENIZER_LETTER_PAIRS : 0) |
      (options.padPost ? abi.TOKENIZER_PAD_POST : 0) |
      (options.truncatePost ? abi.TOKENIZER_TRUNCATE_POST : 0);
    const { ngramBuckets, ngramMin, ngramMax } = options;
    check(this.#exports.setTokenizer(flags, options.sequenceLength, ngramBuckets, ngramMin, ngramMax), "tokenizer");
    check(
      this.#exports.setCleaning((options.cleaning ?? []).reduce((sum, step) => sum | CLEANINGS[step], 0)),
      "cleaning",
    );
    check(this.#exports.setFilters(this.#put(options.filters, "filters")), "filters");
    check(this.#exports.setSplit(this.#put(options.split, "separator")), "separator");
  }

  setIdentity(name: string, version: string): void {
    check(this.#exports.setName(this.#put(name, "name")), "name");
    this.setVersion(version);
  }

  /** The version can also be set for an opened file, before its run starts. */
  setVersion(version: string): void {
    check(this.#exports.setVersion(this.#put(version, "version")), "version");
  }

  /** Adds the next word, in id order from 1. */
  addWord(word: string): void {
    check(this.#exports.addWord(this.#put(word, "word")), `word ${JSON.stringify(word)}`);
  }

  /** The id of words outside the vocabulary; 0 = they are dropped. */
  setUnknownId(id: number): void {
    check(this.#exports.setUnknownId(id), "unknown word");
  }

  /** Adds the next label, in class order. An opened model gets an additional label, if its last layer has an output for each label. */
  addLabel(label: string): void {
    check(this.#exports.addLabel(this.#put(label, "label")), `label ${JSON.stringify(label)}`);
  }

  /** The tokens of a text, before the model is described. */
  tokens(text: string | Uint8Array): string[] {
    check(this.#exports.startTokens(this.#put(text, "text")), "text");
    const tokens: string[] = [];
    while (this.#exports.nextToken())
      tokens.push(this.#module.text(this.#exports.tokenPtr(), this.#exports.tokenBytes()));
    return tokens;
  }

  /** Counts the words of a text for fitVocabulary(). The tokenizer must be set. */
  countText(text: string | Uint8Array): void {
    check(this.#exports.countText(this.#put(text, "text")), "text");
  }

  /** Begins to take `count` texts for fitLinear(), by addText(). */
  startTexts(count: number): void {
    check(this.#exports.startTexts(count), "texts");
  }

  /** Takes a text with label number `label` for fitLinear(). */
  addText(label: number, text: string | Uint8Array): void {
    check(this.#exports.addText(label, this.#put(text, "text")), "text");
  }

  /** How many of the texts counted have at most `tokens` tokens. */
  textsWithin(tokens: number): number {
    return this.#exports.textsWithin(tokens);
  }

  /** How many of them have a token that no other one has. */
  textsWithOwnToken(): number {
    return this.#exports.textsWithOwnWord();
  }

  /** Makes the vocabulary of the texts counted: words seen at least minCount times, ids below numWords (0 = all); unknownWord, if any, gets id 1. */
  fitVocabulary(minCount: number, numWords: number, unknownWord: string | null): void {
    check(this.#exports.fitVocabulary(minCount, numWords, this.#put(unknownWord ?? "", "unknown word")), "vocabulary");
  }

  /** Begins to read pretrained vectors for the vocabulary just made, which gets other words of the file until it has `most`. */
  startVectors(most: number): void {
    check(this.#exports.startVectors(most), "vectors");
  }

  /** Reads whole lines of a file of vectors, at most TEXT_CAPACITY bytes. */
  readVectors(lines: Uint8Array): void {
    check(this.#exports.readVectors(this.#put(lines, "vectors")), "vectors");
  }

  /** Ends reading; `width` is that of the embedding. */
  finishVectors(width: number): void {
    check(this.#exports.finishVectors(width), "vectors");
  }

  vectorFigures(): VectorFigures {
    const e = this.#exports;
    return {
      defect: e.vectorsDefect(),
      line: e.vectorsLine(),
      numbers: e.vectorsNumbers(),
      dimensions: e.vectorsDimensions(),
      declared: e.vectorsDeclared(),
      found: e.vectorsFound(),
      added: e.vectorsAdded(),
      repeated: e.vectorsRepeated(),
      repeatedLine: e.vectorsRepeatedLine(),
    };
  }

  wordCount(): number {
    return this.#exports.wordCount();
  }

  addLayer({ kind, flags, activation, units, rate, rows = 0 }: LayerRecord): void {
    check(this.#exports.addLayer(kind, flags, activation, units, rate, rows), "layer");
  }

  /** Fixes tokenizer, vocabulary, labels and layers, and makes room for the texts that were counted. */
  describe(): void {
    check(this.#exports.describeModel(), this.#source);
  }

  /** Trains a linear part, in place of one that the model has, on the texts of addText, if the int8 file has at most `bytes` bytes with it; `isAlone`: of which alone the scores are. */
  fitLinear(bytes: number, isAlone: boolean): void {
    check(this.#exports.fitLinear(bytes, isAlone), "linear part");
  }

  /** Describes the model and makes its weights, for an import: without buffers for training. */
  build(): void {
    this.describe();
    this.buildOpened();
  }

  /** Makes the weights of an opened file writable, without buffers for training. */
  buildOpened(): void {
    check(this.#exports.buildNetwork(1, 1, 1, 0, 0), this.#source);
  }

  /** Number of weight tensors, which are in Keras' order. */
  tensorCount(): number {
    return this.#exports.tensorCount();
  }

  /** Sets the weights of a tensor, in Keras' layout. */
  setTensor(index: number, values: Float32Array): void {
    const length = this.#exports.tensorLength(index);
    if (index >= this.tensorCount() || values.length !== length) {
      throw new EdgelabelError(
        `${this.#source}: tensor ${index} has ${values.length} weights where ${length} belong`,
        "bad_tensor",
      );
    }
    this.#module.floats(this.#exports.tensorPtr(index), length).set(values);
  }

  /** A copy of a tensor. */
  tensor(index: number): Float32Array {
    return this.#module.floats(this.#exports.tensorPtr(index), this.#exports.tensorLength(index)).slice();
  }

  /** Divides the last layer's weights by the model's temperature, as the engine does; a built model then gives the same scores without one. */
  foldTemperature(): void {
    check(this.#exports.foldTemperature(), this.#source);
  }

  /** A copy of a tensor of an LSTM of `units`, as ONNX has it: (4H, rows) with the gates i o f c. */
  onnxGates(index: number, units: number): Float32Array {
    const address = this.#exports.onnxGates(index, units);
    if (address === 0) throw new EdgelabelError(`${this.#source}: does not fit in WebAssembly memory`, "out_of_memory");
    return this.#module.floats(address, this.#exports.tensorLength(index)).slice();
  }

  /** The layers as addLayer took them, but for the buckets: `rows` of the Embedding are padding and words, the first of its tensor. */
  layers(): LayerRecord[] {
    const { layerKind, layerFlags, layerActivation, layerUnits, layerRate, wordRows } = this.#exports;
    return Array.from({ length: this.#exports.layerCount() }, (_, i) => ({
      kind: layerKind(i),
      flags: layerFlags(i),
      activation: layerActivation(i),
      units: layerUnits(i),
      rate: layerRate(i),
      ...(i === 0 && { rows: wordRows() }),
    }));
  }

  /** What addWord, setUnknownId and setTokenizer were told. */
  vocabulary(): Vocabulary {
    const { wordPtr, wordBytes, unknownId, filtersPtr, filtersBytes, splitPtr, splitBytes } = this.#exports;
    return {
      words: this.#module.texts(this.wordCount(), wordPtr, wordBytes),
      unknownId: unknownId(),
      filters: this.#module.text(filtersPtr(), filtersBytes()),
      split: this.#module.text(splitPtr(), splitBytes()),
    };
  }

  /** Measures the loss of precision in int8 of tensor `index` of a built model. */
  measure(index: number): Distortion {
    const address = this.#exports.measureTensor(index);
    if (address === 0) throw new EdgelabelError(`${this.#source}: tensor ${index} cannot be measured`, "bad_tensor");
    const values = this.#module.doubles(address, DISTORTION.length);
    const figures = Object.fromEntries(DISTORTION.map((name, i) => [name, values[i]])) as Record<
      (typeof DISTORTION)[number],
      number
    >;
    const { rows, columns, bits, smallestScale, largestScale, largestError, decibels, bytesBefore, bytesAfter } =
      figures;
    const isQuantized = bits < 32;
    return {
      shape: isQuantized ? [rows, columns] : [columns],
      bits,
      scale: isQuantized ? [smallestScale, largestScale] : null,
      largest_error: largestError,
      snr_db: Number.isFinite(decibels) ? decibels : null,
      bytes_before: bytesBefore,
      bytes_after: bytesAfter,
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

  /** Adds a word to a group of synonyms, or begins a new group with it; false when it is not exactly one token. */
  addSynonym(word: string, beginsGroup: boolean): boolean {
    const status = this.#exports.addSynonym(this.#put(word, "synonym"), beginsGroup);
    if (status === abi.ERR_BAD_ARGUMENT) return false;
    check(status, "synonym");
    return true;
  }

  /** Builds the network and starts a run on the samples, from the weights of the opened file if there is one. */
  start(options: RunOptions): void {
    const settings = this.#module.fields(this.#exports.settingsPtr());
    for (const [name, [type, value]] of Object.entries(settingsOf(options)))
      settings[WRITERS[type]](this.#exports[`SETTINGS_${name as SettingName}`].value, value, true);
    check(this.#exports.startTraining(options.embeddingRange), "training settings");
  }

  /** Continues the run of an opened training form, with the same samples and synonyms. */
  resume(): void {
    check(this.#exports.resumeTraining(), `${this.#source}: cannot be resumed on these samples or synonyms`);
  }

  epochsLeft(): number {
    return this.#exports.epochsLeft();
  }

  /** Whether texts were perturbed at the end of the last epoch that is done. */
  isPerturbed(): boolean {
    return Boolean(this.#exports.isPerturbed());
  }

  /** Number of trainers that share each batch of the run. */
  workers(): number {
    return this.#exports.workers();
  }

  /** Largest size of a share, in bytes. */
  shareCapacity(): number {
    return this.#exports.shareCapacity();
  }

  /** In a run of several workers: sets which shard of each batch this trainer computes, from 0. */
  shareBatches(shard: number, exchange: Exchange): void {
    check(this.#exports.trainingShard(shard), "training settings");
    this.#shard = shard;
    this.#exchange = exchange;
  }

  /** One epoch, a batch at a time; yields the number of batches left. */
  *epoch(): Generator<number, EpochFigures> {
    check(this.#exports.beginEpoch(), "training");
    while (this.#exports.batchesLeft() > 0) {
      check(this.#exchange ? this.#exports.computeBatch() : this.#exports.trainBatch(), "training");
      if (this.#exchange) {
        const { sharePtr, shareBytes } = this.#exports;
        const own = this.#module.bytes(sharePtr(this.#shard), shareBytes(this.#shard));
        this.#exchange(own, (shard, share) => this.#module.write(sharePtr(shard), share));
        check(this.#exports.applyBatch(), "training");
      }
      yield this.#exports.batchesLeft();
    }
    check(this.#exports.endEpoch(), "training");
    return this.#figures();
  }

  /** Loss and accuracy on the validation texts. */
  validate(): EpochFigures {
    check(this.#exports.validate(), "validation");
    return this.#figures();
  }

  #figures(): EpochFigures {
    return { loss: this.#exports.meanLoss(), accuracy: this.#exports.accuracy() };
  }

  /** A smaller copy of the opened model as an f32 .elb: the `units` most important units of each LSTM direction, and the first `words` words that occur `minCount` times in the samples; 0 = all. Needs samples. */
  prune({
    units = 0,
    words = 0,
    minCount = 0,
  }: {
    units?: number | undefined;
    words?: number | undefined;
    minCount?: number | undefined;
  }): Uint8Array {
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
    return this.#module.bytes(this.#exports.filePtr(), this.#exports.fileBytes()).slice();
  }

  /** Makes an opened model ready for integrateGradients; nothing is trained or written afterwards. */
  prepareGradients(): void {
    check(this.#exports.prepareGradients(), this.#source);
  }

  /** Shares of a text's tokens in the score of label number `label`, or of the best label if there is no such number. More `steps` make it more exact. */
  integrateGradients(text: Uint8Array, labels: readonly string[], label: number, steps: number): Explanation {
    check(this.#exports.integrateGradients(label, this.#put(text, "text"), steps), "explanation");
    return readExplanation(this.#exports, text, labels, "gradients");
  }

  /** Writes a text where the module reads it; returns its length in bytes. */
  #put(text: string | Uint8Array, subject: string): number {
    const most = subject === "text" || subject === "vectors" ? abi.TEXT_CAPACITY : abi.MAX_NAME_BYTES;
    return this.#module.putText(this.#exports.inputPtr(), text, subject, most);
  }
}
