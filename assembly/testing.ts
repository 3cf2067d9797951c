// The entry for tests: every inner kernel by name. It also makes all code reachable, since
// asc checks only code that an entry reaches. Functions of v128 are wrapped into functions
// of arrays, and classes are exported as the offsets of their fields, because a module
// cannot export v128 values or classes.
import { runNetwork } from "./network/classify";
import { exp2Within, expF32x4, sigmoidF32x4, tanhF32x4 } from "./network/activation";
import { allocate } from "./arena";
import { loadedModel as engineModel, loadedPlan, textPtr } from "./engine";
import { linearScores } from "./network/linear";
import { toQ14 } from "./network/lstm";
import { Scan, scanF32, scanQ15 } from "./network/mingru";
import { Header, Layer } from "./network/model";
import { planLayer } from "./network/plan";
import {
  Sequence,
  leadingPads,
  sequencePrepare,
  sequenceRead,
  stepCount,
  tokenEnd,
  tokenRowCount,
  tokenRows,
  tokenStart,
} from "./network/sequence";
import { Augmentation, createAugmentation } from "./train/augment";
import { draft, samples } from "./train/builder";
import { drawOnce, fillBatch } from "./train/dataset";

export { activate, softmax } from "./network/activation";
export * from "./arena";
export { equalRows, fnv1a, hashRows, scatter } from "./hash";
export {
  bestLabel,
  classify,
  labelBytes,
  labelCount,
  labelPtr,
  loadEmbedded,
  loadModel,
  reserveModel,
  scoresPtr,
  textPtr,
  tokenCount,
  unknownCount,
} from "./engine";
export {
  baseScore,
  explainLast,
  explainNext,
  explainedLabel,
  explainedScore,
  passesLeft,
  pieceCount,
  pieceEnd,
  pieceShare,
  pieceStart,
  prepareExplaining,
  preparePieces,
} from "./explain";
export * from "./text/lowercase";
export {
  exponentScale,
  packedRow,
  projectF32,
  projectS8,
  quantizeState,
  updateState,
  updateStateCoarsely,
} from "./network/lstm";
export { activateGates, gateExponent, gateGroups, gateRow } from "./network/mingru";
export { crc32, isFinite32, layerBytes, matrixBytes, padded } from "./network/model";
export * from "./text/ngram";
export { linePtr, prepareLine, renderCard, renderLine } from "./render";
export * from "./text/signs";
export { tokenizerNext, tokenizerPrepare, tokenizerStart } from "./text/tokenizer";
export { heapSort } from "./train/measure/answers";
export { perturb } from "./train/adversary";
export { addSynonym, augmentTokens, augmentWord } from "./train/augment";
export { backward } from "./train/backward";
export { networkBatch, planBuild } from "./train/batch";
export {
  addLabel,
  addLayer,
  addSample,
  addWord,
  beginModel,
  buildNetwork,
  describeModel,
  inputPtr,
  setFilters,
  setSplit,
  setTokenizer,
  setUnknownId,
} from "./train/builder";
export {
  fitBegin,
  fitFinish,
  fitText,
  textsWithOwnWord as fitWithOwnWord,
  textsWithin as fitWithin,
} from "./train/fit";
export { denseBias, dropoutMaskRow, forward, outputRows, realSteps, sequenceRow } from "./train/forward";
export { integrateGradients, prepareGradients } from "./train/measure/attribution";
export * from "./train/initialize";
export * from "./train/loss";
export * from "./train/matmul";
export {
  networkBuild,
  networkGradientPtr,
  networkOutputPtr,
  networkOutputStride,
  networkRandom,
  networkRowIdsPtr,
  networkRowOffsetsPtr,
  networkSampleWeightsPtr,
  networkTargetsPtr,
  networkTensorCount,
  networkTensorLength,
  networkTensorPtr,
} from "./train/network";
export { averageSwap, averageUpdate, gradientNorm, optimizerUpdate } from "./train/optimizer";
export { quantizeMatrix, quantizeWeight } from "./train/quantize";
export {
  logF32,
  randomBits,
  randomIndex,
  randomMask,
  randomNormal,
  randomSeed,
  randomUniform,
  shuffle,
} from "./train/random";
export * from "./train/schedule";
export * from "./train/setting-offsets";
export { settingsAreLegal, settingsPtr } from "./train/settings";
export * from "./train/step";
export * from "./text/utf8";
export { vocabularyBuild, vocabularyFind } from "./text/vocabulary";

/** e^x of f32[length] in place; the buffer is padded to a multiple of 4, as in the next ones. */
export function expArray(values: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i += 4)
    v128.store(values + ((<usize>i) << 2), expF32x4(v128.load(values + ((<usize>i) << 2))));
}

/** 2^x within [-40, 40], likewise. */
export function exp2Array(values: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i += 4)
    v128.store(values + ((<usize>i) << 2), exp2Within(v128.load(values + ((<usize>i) << 2)), 40.0, false));
}

export function coarseExp2Array(values: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i += 4)
    v128.store(values + ((<usize>i) << 2), exp2Within(v128.load(values + ((<usize>i) << 2)), 40.0, true));
}

export function sigmoidArray(values: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i += 4)
    v128.store(values + ((<usize>i) << 2), sigmoidF32x4(v128.load(values + ((<usize>i) << 2))));
}

export function tanhArray(values: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i += 4)
    v128.store(values + ((<usize>i) << 2), tanhF32x4(v128.load(values + ((<usize>i) << 2))));
}

/** f32[length] -> i32[length] in place. */
export function toQ14Array(values: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i += 4)
    v128.store(values + ((<usize>i) << 2), toQ14(v128.load(values + ((<usize>i) << 2))));
}

export function loadedModel(): usize {
  return changetype<usize>(engineModel());
}

/** An augmentation for the loaded model, without shares or synonyms; 0 when memory is refused. */
export function loadedAugmentation(): usize {
  const sequence = changetype<Sequence>(allocate(offsetof<Sequence>()));
  if (!changetype<usize>(sequence) || sequencePrepare(sequence, engineModel()) != 0) return 0;
  return changetype<usize>(createAugmentation(engineModel(), sequence));
}

let reading: Sequence = changetype<Sequence>(0);

/** Claims a second reader for the loaded model. Returns a status. */
export function prepareReading(): i32 {
  reading = changetype<Sequence>(allocate(offsetof<Sequence>()));
  return sequencePrepare(reading, engineModel());
}

/** Reads `length` bytes at textPtr() as the loaded model does; returns the tokens kept. */
export function readText(length: u32): u32 {
  return readIds(textPtr(), length);
}

export function readTotal(): u32 {
  return reading.total;
}

export function readUnknown(): u32 {
  return reading.unknown;
}

export function readRowCount(token: u32): u32 {
  return tokenRowCount(reading, token);
}

export function readRow(token: u32, index: u32): u32 {
  return load<u32>(tokenRows(reading, token) + ((<usize>index) << 2));
}

export function readStart(token: u32): u32 {
  return tokenStart(reading, token);
}

export function readEnd(token: u32): u32 {
  return tokenEnd(reading, token);
}

export function readPads(): u32 {
  return leadingPads(reading, engineModel());
}

export function readSteps(): u32 {
  return stepCount(reading, engineModel());
}

/** From now on, equal tokens of a batch are drawn once. */
export function shareDraws(): bool {
  return drawOnce(samples);
}

/** Fills the network's batch from the builder's samples order[0 ... count - 1]. Returns the steps. */
export function fillSamples(order: usize, count: u32, wordDropout: f32, addsNgrams: bool): u32 {
  return fillBatch(samples, draft, order, count, wordDropout, addsNgrams, changetype<Augmentation>(0));
}

/** Runs a scan with these fields of Scan. */
export function scanSteps(
  gates: usize,
  steps: u32,
  isBackward: bool,
  shift: usize,
  groups: u32,
  last: usize,
  largest: usize,
  mean: usize,
  states: usize,
  stride: usize,
  isQ15: bool,
): void {
  const scan = changetype<Scan>(allocate(offsetof<Scan>()));
  scan.gates = gates;
  scan.steps = steps;
  scan.isBackward = isBackward;
  scan.shift = shift;
  scan.groups = groups;
  scan.last = last;
  scan.largest = largest;
  scan.mean = mean;
  scan.states = states;
  scan.stride = stride;
  if (isQ15) scanQ15(scan);
  else scanF32(scan);
}

/** Makes the loaded model compute every input projection, and the gates of every token, anew. */
export function forgetTables(): void {
  const plan = loadedPlan();
  for (let i: u32 = 0; i < plan.layerCount; i++) {
    const at = planLayer(plan, i);
    if (changetype<usize>(at.gates) && at.gates.slots) {
      at.gates.table = 0;
      memory.fill(at.gates.slots, 0, <usize>(at.gates.slotMask + 1) * at.gates.slotBytes);
    }
    if (changetype<usize>(at.forward)) at.forward.table = 0;
    if (changetype<usize>(at.backward)) at.backward.table = 0;
  }
}

/** Slots that the first layer, a minGRU, keeps gates in. */
export function keptSlots(): u32 {
  return planLayer(loadedPlan(), 1).gates.slotMask + 1;
}

/** Numbers the texts that the first layer, a minGRU, has read, as if it were the `count`th. */
export function numberTexts(count: u32): void {
  planLayer(loadedPlan(), 1).gates.text = count;
}

export function keepsTables(): bool {
  return loadedPlan().hasTable;
}

/** Makes the loaded model run the leading padding instead of starting with the state behind it. */
export function forgetPrefix(): void {
  loadedPlan().prefix = 0;
}

export function keepsPrefix(): bool {
  return loadedPlan().prefix != 0;
}

// --- halves of classify(), for bench/ ------------------------------------------

/** The first half, after prepareReading(): text -> ids. Returns the number of tokens. */
export function readIds(text: usize, length: u32): u32 {
  sequenceRead(reading, engineModel(), text, length);
  return reading.tokens;
}

/** The second half: ids -> address of the scores, f32. */
export function runIds(): usize {
  return runNetwork(engineModel(), loadedPlan(), reading);
}

/** Text i of `count` is bytes[offsets[i] ... offsets[i + 1]). Reads all, and with `runs` also runs the network. */
export function loopTexts(bytes: usize, offsets: usize, count: u32, runs: bool): void {
  for (let i: u32 = 0; i < count; i++) {
    const start = load<u32>(offsets + ((<usize>i) << 2));
    readIds(bytes + start, load<u32>(offsets + ((<usize>(i + 1)) << 2)) - start);
    if (runs) runIds();
  }
}

/** Writes the linear part's scores of the text that readIds has read to `scores`, f32[labelCount]. */
export function readLinear(scores: usize): void {
  linearScores(reading.linear, scores);
}

// --- offsets, compared with FORMAT.md ------------------------------------------

export const HEADER_magic = offsetof<Header>("magic");
export const HEADER_version = offsetof<Header>("version");
export const HEADER_fileBytes = offsetof<Header>("fileBytes");
export const HEADER_checksum = offsetof<Header>("checksum");
export const HEADER_form = offsetof<Header>("form");
export const HEADER_tokenizerFlags = offsetof<Header>("tokenizerFlags");
export const HEADER_sequenceLength = offsetof<Header>("sequenceLength");
export const HEADER_unknownId = offsetof<Header>("unknownId");
export const HEADER_filterBytes = offsetof<Header>("filterBytes");
export const HEADER_splitBytes = offsetof<Header>("splitBytes");
export const HEADER_nameBytes = offsetof<Header>("nameBytes");
export const HEADER_versionBytes = offsetof<Header>("versionBytes");
export const HEADER_wordCount = offsetof<Header>("wordCount");
export const HEADER_wordBytes = offsetof<Header>("wordBytes");
export const HEADER_bucketCount = offsetof<Header>("bucketCount");
export const HEADER_ngramMin = offsetof<Header>("ngramMin");
export const HEADER_ngramMax = offsetof<Header>("ngramMax");
export const HEADER_labelCount = offsetof<Header>("labelCount");
export const HEADER_labelBytes = offsetof<Header>("labelBytes");
export const HEADER_layerCount = offsetof<Header>("layerCount");
export const HEADER_weightBytes = offsetof<Header>("weightBytes");
export const HEADER_trainingBytes = offsetof<Header>("trainingBytes");
export const HEADER_temperature = offsetof<Header>("temperature");
export const HEADER_rejectScore = offsetof<Header>("rejectScore");
export const HEADER_rejectMargin = offsetof<Header>("rejectMargin");
export const HEADER_rejectUnknown = offsetof<Header>("rejectUnknown");
export const HEADER_cleaning = offsetof<Header>("cleaning");
export const HEADER_linearBytes = offsetof<Header>("linearBytes");
export const HEADER_multiLabel = offsetof<Header>("multiLabel");
export const HEADER_levels = offsetof<Header>("levels");
export const HEADER_reserved = offsetof<Header>("reserved3");
export const HEADER_BYTES = offsetof<Header>();

export const LAYER_kind = offsetof<Layer>("kind");
export const LAYER_flags = offsetof<Layer>("flags");
export const LAYER_activation = offsetof<Layer>("activation");
export const LAYER_inputWidth = offsetof<Layer>("inputWidth");
export const LAYER_units = offsetof<Layer>("units");
export const LAYER_outputWidth = offsetof<Layer>("outputWidth");
export const LAYER_rate = offsetof<Layer>("rate");
export const LAYER_reserved = offsetof<Layer>("reserved");
export const LAYER_BYTES = offsetof<Layer>();
