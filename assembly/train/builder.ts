// A model under construction: the host sets tokenizer, words, labels and layers; training, an
// import or a file then gives it weights. Called through assembly/train/index.ts. States: begun -> described -> built (weights exist); a call in the wrong
// state returns ERR_BAD_STATE.
//
// Strings are passed in the text buffer: write UTF-8 at inputPtr(), pass its length.
import {
  CLEAN_FLAGS,
  ERR_BAD_ARGUMENT,
  ERR_BAD_LABELS,
  ERR_BAD_LAYERS,
  ERR_BAD_STATE,
  ERR_BAD_UTF8,
  ERR_BAD_VOCABULARY,
  ERR_LABEL_OUT_OF_RANGE,
  ERR_OUT_OF_MEMORY,
  ERR_TEXT_TOO_LONG,
  FORM_F32,
  LAYER_DENSE,
  LAYER_EMBEDDING,
  LAYER_MASK_ZERO,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  MAX_LABELS,
  MAX_LAYERS,
  MAX_LABEL_BYTES,
  MAX_NAME_BYTES,
  MAX_ROWS,
  MAX_WORD_BYTES,
  OK,
  TEXT_CAPACITY,
} from "../abi";
import { allocate, arenaBase, arenaRelease, claim } from "../arena";
import { linearPrepare } from "../network/linear";
import {
  Header,
  Layer,
  LinearHeader,
  Model,
  checkModel,
  directions,
  isRecurrent,
  labelAddress,
  labelLength,
  layerAt,
  layerBytes,
  linearBias,
  linearBytes,
  linearRows,
  linearWeights,
  padded,
  readModel,
} from "../network/model";
import { Sequence, sequenceLinear, sequencePrepare } from "../network/sequence";
import { Tokenizer, tokenizerNext, tokenizerPrepare, tokenizerStart } from "../text/tokenizer";
import { utf8IsValid } from "../text/utf8";
import { Dataset, addSample as keepSample, createDataset, reserveSamples, rowsPerToken } from "./dataset";
import {
  Fit,
  fitBegin,
  fitFinish,
  fitKept,
  fitText,
  keptCount,
  tokensWithin,
  textsWithOwnWord as fittedWithOwnWord,
  textsWithin as fittedWithin,
} from "./fit";
import { Growable, appendWord32, createGrowable, extend } from "./growable";
import { networkInitialize } from "./initialize";
import { planBuild } from "./batch";
import { expandLayer, expandLinear } from "./quantize";
import { network, networkBuild, networkRandom } from "./network";
import { randomSeed } from "./random";
import { isTarget, startSets } from "./sets";
import { forgetFile } from "./write";

const STATE_NONE: u32 = 0;
const STATE_BEGUN: u32 = 1;
const STATE_DESCRIBED: u32 = 2; // vocabulary, labels and layers are fixed
const STATE_BUILT: u32 = 3; // the network has its memory

let state: u32 = STATE_NONE;
let input: usize = 0; // u8[TEXT_CAPACITY]
/** Words of the texts, counted for the vocabulary. */
let fit: Fit = changetype<Fit>(0);
/** Texts for the linear part; null when there are none. */
export let linearTexts: Fit = changetype<Fit>(0);
/** u32[]: the label of each of them. */
export let linearLabels: Growable = changetype<Growable>(0);
let textsOffered: u32 = 0; // texts of which linearTexts keeps some
let textsExpected: u32 = 0;
let tokenizer: Tokenizer = changetype<Tokenizer>(0);
/** The vocabulary: word with id i + 1 is `words` from offset i to offset i + 1. */
export let wordOffsets: Growable = changetype<Growable>(0);
export let words: Growable = changetype<Growable>(0);
let labelOffsets: Growable = changetype<Growable>(0);
let labels: Growable = changetype<Growable>(0);

/** The model that is being built; once built, its weights are the network's parameters. */
export let draft: Model = changetype<Model>(0);
/** Reads texts for it. */
export let reader: Sequence = changetype<Sequence>(0);
/** Its training texts. */
export let samples: Dataset = changetype<Dataset>(0);
/** Vectors of its words, see vectors.ts; 0 = none. */
export let pretrained: usize = 0;
/** Training state of the opened file, and its bytes; 0 = none. */
export let openedTraining: usize = 0;
export let openedTrainingBytes: u32 = 0;
/** Number of labels that were added to those of the opened file. */
let addedLabels: u32 = 0;

/** Begins a new model; everything before is forgotten. Returns a status. */
export function beginModel(): i32 {
  state = STATE_NONE;
  arenaRelease(arenaBase());
  const status = reserveDraft();
  if (status != OK) return status;
  const header = allocate(offsetof<Header>());
  draft.layers = allocate(<usize>MAX_LAYERS * offsetof<Layer>());
  wordOffsets = createGrowable();
  words = createGrowable();
  labelOffsets = createGrowable();
  labels = createGrowable();
  if (!header || !draft.layers || !changetype<usize>(labels)) return ERR_OUT_OF_MEMORY;
  draft.header = changetype<Header>(header);
  draft.header.form = FORM_F32;
  clearCalibration();
  if (!appendWord32(wordOffsets, 0) || !appendWord32(labelOffsets, 0)) return ERR_OUT_OF_MEMORY;
  state = STATE_BEGUN;
  return OK;
}

/** Sets temperature 1 and a rule that rejects nothing, and answers no parents; of several labels, those with a score of a half or more are given. */
export function clearCalibration(): void {
  draft.header.temperature = 1;
  draft.header.rejectScore = draft.header.multiLabel ? 0.5 : 0;
  draft.header.rejectMargin = 0;
  draft.header.rejectUnknown = 1;
  draft.header.levels = 0;
}

/** The model, which is not described yet, is to give several labels a text; targets are then the numbers of sets. */
export function setMultiLabel(): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  draft.header.multiLabel = 1;
  clearCalibration();
  return OK;
}

/** Whether the model gives several labels a text. */
export function isMultiLabel(): bool {
  return draft.header.multiLabel != 0;
}

/** Whether `target` is that of a sample of the draft. */
export function fitsDraft(target: u32): bool {
  const header = draft.header;
  return isTarget(target, header.multiLabel != 0, header.labelCount);
}

function reserveDraft(): i32 {
  input = claim(TEXT_CAPACITY);
  draft = changetype<Model>(allocate(offsetof<Model>()));
  reader = changetype<Sequence>(allocate(offsetof<Sequence>()));
  samples = createDataset();
  pretrained = 0;
  const hasSets = startSets();
  openedTraining = 0;
  openedTrainingBytes = 0;
  addedLabels = 0;
  forgetFile();
  fit = changetype<Fit>(0);
  linearTexts = changetype<Fit>(0);
  tokenizer = changetype<Tokenizer>(0);
  return input && changetype<usize>(draft) && changetype<usize>(reader) && changetype<usize>(samples) && hasSets
    ? OK
    : ERR_OUT_OF_MEMORY;
}

/** Where the host writes a text or a name: u8[TEXT_CAPACITY]. */
export function inputPtr(): usize {
  return input;
}

/** Keeps `length` input bytes as a part of the model: `part` and `bytes` are the offsets of its fields in Model and Header. */
function keepPart(length: u32, part: usize, bytes: usize): i32 {
  // Once the model is described, only its version may still change.
  if (state != STATE_BEGUN && !(state == STATE_DESCRIBED && part == offsetof<Model>("version"))) return ERR_BAD_STATE;
  if (length > <u32>MAX_NAME_BYTES) return ERR_TEXT_TOO_LONG;
  if (!utf8IsValid(input, length)) return ERR_BAD_UTF8;
  const address = allocate(length);
  if (!address) return ERR_OUT_OF_MEMORY;
  memory.copy(address, input, length);
  store<usize>(changetype<usize>(draft) + part, address);
  store<u32>(changetype<usize>(draft.header) + bytes, length);
  return OK;
}

/** Sets TOKENIZER_* flags, the tokens that a text is padded or cut to, and the hashed n-grams (0, 0, 0 for none). */
export function setTokenizer(flags: u32, sequenceLength: u32, buckets: u32, ngramMin: u32, ngramMax: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  const header = draft.header;
  header.tokenizerFlags = flags;
  header.sequenceLength = sequenceLength;
  header.bucketCount = buckets;
  header.ngramMin = ngramMin;
  header.ngramMax = ngramMax;
  return OK;
}

/** Sets the steps of cleaning before a text is split: CLEAN_* or 0. */
export function setCleaning(flags: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  if (flags & ~CLEAN_FLAGS) return ERR_BAD_ARGUMENT;
  draft.header.cleaning = flags;
  return OK;
}

export function setFilters(length: u32): i32 {
  return keepPart(length, offsetof<Model>("filters"), offsetof<Header>("filterBytes"));
}

export function setSplit(length: u32): i32 {
  return keepPart(length, offsetof<Model>("split"), offsetof<Header>("splitBytes"));
}

export function setName(length: u32): i32 {
  return keepPart(length, offsetof<Model>("name"), offsetof<Header>("nameBytes"));
}

export function setVersion(length: u32): i32 {
  return keepPart(length, offsetof<Model>("version"), offsetof<Header>("versionBytes"));
}

export function addString(offsets: Growable, strings: Growable, string: usize, length: u32): i32 {
  const target = extend(strings, length);
  if (!target || !appendWord32(offsets, strings.bytes)) return ERR_OUT_OF_MEMORY;
  memory.copy(target, string, length);
  return OK;
}

/** Adds the next word of the vocabulary, in id order from 1. */
export function addWord(length: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  if (length < 1 || length > <u32>MAX_WORD_BYTES || wordOffsets.bytes >> 2 > <u32>MAX_ROWS) return ERR_BAD_VOCABULARY;
  if (!utf8IsValid(input, length)) return ERR_BAD_UTF8;
  return addString(wordOffsets, words, input, length);
}

/** Sets the id of words outside the vocabulary; 0 = they are dropped. */
export function setUnknownId(id: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  draft.header.unknownId = id;
  return OK;
}

/** Adds the next label, in class order; an opened file gets one label and one output more. */
export function addLabel(length: u32): i32 {
  if (state == STATE_DESCRIBED && draft.weights) return extendLabels(length);
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  if (length < 1 || length > <u32>MAX_LABEL_BYTES || labelOffsets.bytes >> 2 > <u32>MAX_LABELS) return ERR_BAD_LABELS;
  return addString(labelOffsets, labels, input, length);
}

/** Adds a label and an output to the opened file; buildNetwork makes its weights. */
function extendLabels(length: u32): i32 {
  const header = draft.header;
  const last = layerAt(draft.layers, header.layerCount - 1);
  // A single sigmoid unit cannot tell three labels apart.
  if (last.units != header.labelCount) return ERR_BAD_LAYERS;
  if (length < 1 || length > <u32>MAX_LABEL_BYTES || header.labelCount >= <u32>MAX_LABELS) return ERR_BAD_LABELS;
  const offsets = allocate((<usize>header.labelCount + 2) << 2);
  const strings = allocate(<usize>header.labelBytes + length);
  if (!offsets || !strings) return ERR_OUT_OF_MEMORY;
  memory.copy(offsets, draft.labelOffsets, (<usize>header.labelCount + 1) << 2);
  memory.copy(strings, draft.labels, header.labelBytes);
  memory.copy(strings + header.labelBytes, input, length);
  draft.labelOffsets = offsets;
  draft.labels = strings;
  header.labelCount++;
  header.labelBytes += length;
  store<u32>(offsets + ((<usize>header.labelCount) << 2), header.labelBytes);
  last.units++;
  last.outputWidth++;
  addedLabels++;
  if (draft.linear && !extendLinear()) return ERR_OUT_OF_MEMORY;
  const status = checkModel(draft);
  if (status != OK) state = STATE_NONE;
  return status;
}

/**
 * Gives the linear part a score for the last label, of which it knows nothing: as low as that of the label with the lowest
 * bias, since its scores say which labels a text does not have. False when memory is refused.
 */
function extendLinear(): bool {
  const labels = draft.header.labelCount;
  const from = draft.linear;
  const part = changetype<LinearHeader>(from);
  const rows = linearRows(draft);
  const bytes = linearBytes(FORM_F32, draft.header.wordCount, part.bucketCount, part.pairCount, labels);
  const linear = bytes < 0x7fffff00 ? allocate(<usize>bytes) : 0;
  if (!linear) return false;
  const weights = linearWeights(from, rows);
  memory.copy(linear, from, weights - from);
  const target = linearWeights(linear, rows);
  for (let r: u32 = 0; r < rows; r++)
    memory.copy(
      target + ((<usize>r * labels) << 2),
      weights + ((<usize>r * (labels - 1)) << 2),
      (<usize>(labels - 1)) << 2,
    );
  const bias = linearBias(linear, FORM_F32, rows, labels);
  memory.copy(bias, linearBias(from, FORM_F32, rows, labels - 1), (<usize>(labels - 1)) << 2);
  let lowest = load<f32>(bias);
  for (let k: u32 = 1; k < labels - 1; k++) lowest = min<f32>(lowest, load<f32>(bias + ((<usize>k) << 2)));
  store<f32>(bias + ((<usize>(labels - 1)) << 2), lowest);
  draft.linear = linear;
  draft.header.linearBytes = <u32>bytes;
  return sequenceLinear(reader, linearPrepare(draft));
}

/** Counts the words of a text for fitVocabulary. The tokenizer must be set. */
export function countText(length: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  if (!changetype<usize>(fit)) {
    const status = prepareTokenizer();
    if (status != OK) return status;
    fit = createFit();
    if (!changetype<usize>(fit)) return ERR_OUT_OF_MEMORY;
  }
  return fitText(fit, input, length);
}

/** Begins to take `count` texts for the linear part, with addText. The model must be described or opened. */
export function startTexts(count: u32): i32 {
  if (state != STATE_DESCRIBED) return ERR_BAD_STATE;
  const status = prepareTokenizer();
  if (status != OK) return status;
  textsOffered = 0;
  textsExpected = count;
  linearTexts = createFit();
  linearLabels = createGrowable();
  return changetype<usize>(linearTexts) && changetype<usize>(linearLabels) ? OK : ERR_OUT_OF_MEMORY;
}

/** Most texts that the linear part is trained on: their tables fit in memory, and more gain little. */
const MOST_LINEAR_TEXTS: u32 = 200_000;

/** Takes a text with its label for fitLinear; of too many texts, evenly spread ones are kept. */
export function addText(label: u32, length: u32): i32 {
  if (state != STATE_DESCRIBED || !changetype<usize>(linearTexts) || textsOffered >= textsExpected)
    return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  if (!fitsDraft(label)) return ERR_LABEL_OUT_OF_RANGE;
  const kept = <u64>keptCount(linearTexts);
  const next = (kept * textsExpected) / min(textsExpected, MOST_LINEAR_TEXTS);
  textsOffered++;
  if (<u64>(textsOffered - 1) < next) return OK;
  return appendWord32(linearLabels, label) ? fitKept(linearTexts, input, length) : ERR_OUT_OF_MEMORY;
}

/** An empty one in new memory; null when memory is refused. */
function createFit(): Fit {
  const created = changetype<Fit>(allocate(offsetof<Fit>()));
  return changetype<usize>(created) && fitBegin(created, tokenizer) == OK ? created : changetype<Fit>(0);
}

/** How many of the texts counted so far have at most `most` tokens. */
export function textsWithin(most: u32): u32 {
  return changetype<usize>(fit) ? fittedWithin(fit, most) : 0;
}

/** How many of them have a word that no other text has. */
export function textsWithOwnWord(): u32 {
  return changetype<usize>(fit) ? fittedWithOwnWord(fit) : 0;
}

/** Makes `tokenizer`, once. */
function prepareTokenizer(): i32 {
  if (changetype<usize>(tokenizer)) return OK;
  const header = draft.header;
  const made = changetype<Tokenizer>(allocate(offsetof<Tokenizer>()));
  if (!changetype<usize>(made)) return ERR_OUT_OF_MEMORY;
  const status = tokenizerPrepare(
    made,
    header.tokenizerFlags,
    draft.filters,
    header.filterBytes,
    draft.split,
    header.splitBytes,
    MAX_WORD_BYTES,
    header.cleaning,
  );
  if (status == OK) tokenizer = made;
  return status;
}

/** Begins to split the input; then call nextToken() until it returns false. The tokenizer must be set. */
export function startTokens(length: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  const status = prepareTokenizer();
  if (status == OK) tokenizerStart(tokenizer, input, length);
  return status;
}

/** Reads the next token to tokenPtr(), tokenBytes(). */
export function nextToken(): bool {
  return changetype<usize>(tokenizer) != 0 && tokenizerNext(tokenizer);
}

export function tokenPtr(): usize {
  return tokenizer.tokenPtr;
}

/** Bytes at tokenPtr(): of a token longer than MAX_WORD_BYTES only the beginning. */
export function tokenBytes(): u32 {
  return min(tokenizer.tokenLength, tokenizer.tokenCapacity);
}

/**
 * Makes the vocabulary of the texts counted: words seen at least `minCount` times, ids below
 * `numWords` (0 = all). The input's first `unknownLength` bytes name the unknown word, id 1.
 */
export function fitVocabulary(minCount: u32, numWords: u32, unknownLength: u32): i32 {
  if (state != STATE_BEGUN || !changetype<usize>(fit)) return ERR_BAD_STATE;
  const status = fitFinish(fit, minCount, numWords, input, unknownLength);
  if (status != OK) return status;
  setVocabulary(fit.vocabularyOffsets, fit.vocabularyBytes, fit.vocabularySize, fit.unknownId);
  return OK;
}

/** Replaces the vocabulary by u32 offsets[size + 1] and their bytes. */
export function setVocabulary(offsets: usize, bytes: usize, size: u32, unknownId: u32): void {
  wordOffsets.address = offsets;
  wordOffsets.bytes = (size + 1) << 2;
  wordOffsets.capacity = wordOffsets.bytes;
  words.address = bytes;
  words.bytes = load<u32>(offsets + ((<usize>size) << 2));
  words.capacity = words.bytes;
  draft.header.unknownId = unknownId;
}

/** The tokenizer of the texts, between fitVocabulary and describeModel; else null. */
export function fittedTokenizer(): Tokenizer {
  return state == STATE_BEGUN && changetype<usize>(fit) && fit.vocabularyOffsets ? tokenizer : changetype<Tokenizer>(0);
}

export function setPretrained(address: usize): void {
  pretrained = address;
}

/** Words in the vocabulary, V without padding and buckets. */
export function wordCount(): u32 {
  return state >= STATE_DESCRIBED ? draft.header.wordCount : (wordOffsets.bytes >> 2) - 1;
}

/**
 * Adds a layer. units: width E of an Embedding, H of an LSTM, outputs of a Dense. rows: of
 * an Embedding, 0 = as many as vocabulary and buckets need. Widths follow from the chain.
 */
export function addLayer(kind: u32, flags: u32, activation: u32, units: u32, rate: f32, rows: u32): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  const index = draft.header.layerCount;
  if (index >= <u32>MAX_LAYERS) return ERR_BAD_ARGUMENT;
  const layer = layerAt(draft.layers, index);
  layer.kind = kind;
  layer.flags = flags;
  layer.activation = activation;
  layer.units = units;
  layer.rate = rate;
  layer.inputWidth = index
    ? layerAt(draft.layers, index - 1).outputWidth
    : rows
      ? rows
      : 1 + wordCount() + draft.header.bucketCount;
  if (kind == LAYER_EMBEDDING || kind == LAYER_DENSE) layer.outputWidth = units;
  else if (isRecurrent(layer)) layer.outputWidth = units * directions(layer);
  else if (kind == LAYER_POOL && flags & LAYER_POOL_MAX && flags & LAYER_POOL_MEAN)
    layer.outputWidth = 2 * layer.inputWidth;
  else layer.outputWidth = layer.inputWidth;
  draft.header.layerCount = index + 1;
  return OK;
}

/** Labels of the described or opened model. */
export function labelCount(): u32 {
  return isDescribed() ? draft.header.labelCount : 0;
}

/** UTF-8 of a label below labelCount(), labelBytes(label) long. */
export function labelPtr(label: u32): usize {
  return labelAddress(draft, label);
}

export function labelBytes(label: u32): u32 {
  return labelLength(draft, label);
}

/** Fixes tokenizer, vocabulary, labels and layers, and makes room for the texts that were counted; from now on texts can be read. */
export function describeModel(): i32 {
  if (state != STATE_BEGUN) return ERR_BAD_STATE;
  const header = draft.header;
  draft.wordOffsets = wordOffsets.address;
  draft.words = words.address;
  header.wordCount = wordCount();
  header.wordBytes = words.bytes;
  draft.labelOffsets = labelOffsets.address;
  draft.labels = labels.address;
  header.labelCount = (labelOffsets.bytes >> 2) - 1;
  header.labelBytes = labels.bytes;
  let status = checkModel(draft);
  if (status == OK) status = describe();
  if (status != OK || !changetype<usize>(fit)) return status;
  return reserveSamples(samples, fit.texts, tokensWithin(fit, header.sequenceLength)) ? OK : ERR_OUT_OF_MEMORY;
}

function describe(): i32 {
  const status = sequencePrepare(reader, draft);
  if (status == OK) state = STATE_DESCRIBED;
  return status;
}

/** Encodes a text and keeps it for training, before the network has its memory. */
export function addSample(label: u32, length: u32): i32 {
  if (state != STATE_DESCRIBED) return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  if (!fitsDraft(label)) return ERR_LABEL_OUT_OF_RANGE;
  return keepSample(samples, draft, reader, label, input, length);
}

/**
 * Allocates parameters, gradients and the buffers for steps of at most `batch` samples (1 where nothing
 * is trained) with at most `tokens` tokens (0: as many as the model reads). Weights are those of the opened
 * file, if any; otherwise they are drawn, the embedding's from +-embeddingRange. `seed` seeds the run.
 */
export function buildNetwork(batch: u32, dropoutSamples: u32, seed: u32, embeddingRange: f32, tokens: u32): i32 {
  if (state != STATE_DESCRIBED) return ERR_BAD_STATE;
  const header = draft.header;
  const opened = draft.weights;
  // Without masking, every text has all steps.
  const steps = tokens && layerAt(draft.layers, 0).flags & LAYER_MASK_ZERO ? tokens : header.sequenceLength;
  const status = networkBuild(draft.layers, header.layerCount, batch, steps, rowsPerToken(draft), dropoutSamples);
  if (status != OK) return status;
  if (!planBuild(batch, steps, network.rows)) return ERR_OUT_OF_MEMORY;
  if (draft.linear) {
    network.offsets = allocate((<usize>batch * network.outputs) << 2);
    if (!network.offsets) return ERR_OUT_OF_MEMORY;
    network.networkShare = changetype<LinearHeader>(draft.linear).networkShare;
  }
  if (opened) {
    copyWeights(opened);
    randomSeed(networkRandom(), seed);
  } else networkInitialize(seed, embeddingRange);
  draft.weights = network.parameters;
  state = STATE_BUILT;
  return OK;
}

/** Copies the weights of the opened file to the parameters. Those of added labels, the last columns of the last tensors, stay 0. */
function copyWeights(from: usize): void {
  const last = layerAt(draft.layers, draft.header.layerCount - 1);
  const wide = (<usize>last.units) << 2;
  const narrow = (<usize>(last.units - addedLabels)) << 2;
  const front = network.parameterBytes - <usize>layerBytes(FORM_F32, last);
  memory.copy(network.parameters, from, front);
  let to = network.parameters + front;
  from += front;
  for (let i: usize = 0; i < <usize>last.inputWidth; i++) memory.copy(to + i * wide, from + i * narrow, narrow);
  to += <usize>padded(<u64>last.inputWidth * wide);
  from += <usize>padded(<u64>last.inputWidth * narrow);
  memory.copy(to, from, narrow);
}

/** Makes room for a model file of `length` bytes and returns its address, 0 when refused. */
export function reserveFile(length: u32): usize {
  state = STATE_NONE;
  arenaRelease(arenaBase());
  return claim(length);
}

/**
 * Opens the f32 file of `length` bytes at reserveFile's address to train, quantize or change it. With `expands` it may be an
 * int8 file, whose weights become the f32 numbers that they stand for.
 */
export function openFile(length: u32, expands: bool): i32 {
  if (state != STATE_NONE) return ERR_BAD_STATE;
  arenaRelease((arenaBase() + length + 15) & ~15);
  let status = reserveDraft();
  if (status != OK) return status;
  status = readModel(arenaBase(), length, draft);
  if (status != OK) return status;
  if (draft.header.form != FORM_F32) {
    if (!expands) return ERR_BAD_STATE;
    if (!expandWeights()) return ERR_OUT_OF_MEMORY;
  }
  openedTraining = draft.training;
  openedTrainingBytes = draft.header.trainingBytes;
  return describe();
}

/** Makes f32 weights of the draft's int8 ones; false when memory is refused. */
function expandWeights(): bool {
  const header = draft.header;
  let bytes: u64 = 0;
  for (let i: u32 = 0; i < header.layerCount; i++) bytes += layerBytes(FORM_F32, layerAt(draft.layers, i));
  const weights = bytes < 0x7fffff00 ? allocate(<usize>bytes) : 0;
  if (!weights) return false;
  let from = draft.weights;
  let to = weights;
  for (let i: u32 = 0; i < header.layerCount; i++) {
    const layer = layerAt(draft.layers, i);
    to = expandLayer(layer, from, to);
    from += <usize>layerBytes(header.form, layer);
  }
  if (draft.linear) {
    const part = changetype<LinearHeader>(draft.linear);
    const partBytes = linearBytes(FORM_F32, header.wordCount, part.bucketCount, part.pairCount, header.labelCount);
    const linear = partBytes < 0x7fffff00 ? allocate(<usize>partBytes) : 0;
    if (!linear) return false;
    expandLinear(draft.linear, linearRows(draft), header.labelCount, linear);
    draft.linear = linear;
    header.linearBytes = <u32>partBytes;
  }
  draft.weights = weights;
  header.weightBytes = <u32>bytes;
  header.form = FORM_F32;
  return true;
}

/** True once texts can be read. */
export function isDescribed(): bool {
  return state >= STATE_DESCRIBED;
}

/** True once weights exist. */
export function isBuilt(): bool {
  return state == STATE_BUILT;
}
