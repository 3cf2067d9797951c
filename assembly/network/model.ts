// The model file: bytes -> a validated Model, every pointer resolved, nothing copied.
// FORMAT.md is normative; this file reads the format. Called by engine.ts and by the
// trainer; refuses every file that is not exactly legal, with an ERR_* code.
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  CLEAN_FLAGS,
  ERR_BAD_CHECKSUM,
  ERR_BAD_HEADER,
  ERR_BAD_LABELS,
  ERR_BAD_LAYERS,
  ERR_BAD_LENGTH,
  ERR_BAD_LINEAR,
  ERR_BAD_MAGIC,
  ERR_BAD_PADDING,
  ERR_BAD_SCALE,
  ERR_BAD_TOKENIZER,
  ERR_BAD_TRAINING,
  ERR_BAD_UTF8,
  ERR_BAD_VERSION,
  ERR_BAD_VOCABULARY,
  ERR_BAD_WEIGHT,
  ERR_TOO_SLOW,
  FORM_F32,
  FORM_INT8,
  FORM_INT8_WEIGHTS,
  FORMAT_MAGIC,
  FORMAT_VERSION,
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  MAX_LABELS,
  MAX_LAYERS,
  MAX_LABEL_BYTES,
  MAX_NAME_BYTES,
  MAX_NGRAM,
  MAX_NGRAMS_PER_WORD,
  MAX_ROWS,
  MAX_SEQUENCE,
  MAX_TEXT_WORK,
  MAX_WIDTH,
  MAX_WORD_BYTES,
  OK,
  TABLE_BUDGET,
  TOKENIZER_CHAR_LEVEL,
  TOKENIZER_FLAGS,
  TOKENIZER_LETTER_PAIRS,
  TOKENIZER_SPLIT_SCRIPTS,
} from "../abi";
import { utf8IsValid } from "../text/utf8";

/** The first 128 bytes of a model file, little-endian. */
@unmanaged
export class Header {
  magic: u32;
  version: u32;
  fileBytes: u32;
  checksum: u32; // CRC-32 of the bytes from `form` to the end of the file
  form: u32; // FORM_*
  tokenizerFlags: u32; // TOKENIZER_*
  sequenceLength: u32; // tokens a text is padded or truncated to
  unknownId: u32; // id of words not in the vocabulary; 0 = they are dropped
  filterBytes: u32;
  splitBytes: u32;
  nameBytes: u32;
  versionBytes: u32;
  wordCount: u32; // ids 1 ... wordCount
  wordBytes: u32;
  bucketCount: u32; // rows of hashed n-grams, the last rows of the embedding; 0 = none
  ngramMin: u32;
  ngramMax: u32;
  labelCount: u32;
  labelBytes: u32;
  layerCount: u32;
  weightBytes: u32;
  trainingBytes: u32; // optimizer state of a training form; 0 = none
  temperature: f32; // divides what enters the last softmax or sigmoid; 1 = as trained
  rejectScore: f32; // an answer is unknown below this best score,
  rejectMargin: f32; // with less than this between the two best scores,
  rejectUnknown: f32; // or when more than this share of the tokens is not in the vocabulary
  cleaning: u32; // CLEAN_*: steps of cleaning before a text is split; 0 = none
  linearBytes: u32; // the linear part, see linear.ts; 0 = none
  multiLabel: u32; // 1: a text gets each label whose score is rejectScore or more; 0: the best one
  levels: f32; // above 0: an answer with a lower score is a parent of the best label, see parentBytes in engine.ts
  reserved3: u32;
  reserved4: u32;
}

/** One layer, 32 bytes. */
@unmanaged
export class Layer {
  kind: u32; // LAYER_*
  flags: u32; // LAYER_MASK_ZERO ...
  activation: u32; // ACTIVATION_*, of a Dense layer
  inputWidth: u32; // channels in; Embedding: rows V
  units: u32; // Embedding: E; LSTM, minGRU: H of one direction; Dense: outputs; else 0
  outputWidth: u32; // channels out
  rate: f32; // Dropout: share dropped in training, 0 <= rate < 1
  reserved: u32;
}

/**
 * The linear part, 32 bytes, of R = wordCount + bucketCount + pairCount rows; behind it
 *   | pairs u32[pairCount][2] | squares f32[R] | rows (R, labelCount) | bias f32[labelCount] |
 */
@unmanaged
export class LinearHeader {
  bucketCount: u32; // rows of hashed n-grams, at most those of the embedding
  pairCount: u32; // rows of pairs of words
  strangeSquare: f32; // square of a word or pair without a row
  networkShare: f32; // factor of what enters the last softmax without the linear part
  reserved0: u32;
  reserved1: u32;
  reserved2: u32;
  reserved3: u32;
}

/** Where the parts of a validated model lie. */
@unmanaged
export class Model {
  header: Header;
  filters: usize; // UTF-8
  split: usize; // UTF-8
  name: usize; // UTF-8
  version: usize; // UTF-8
  wordOffsets: usize; // u32[wordCount + 1] into words
  words: usize; // UTF-8, in id order, unseparated
  labelOffsets: usize; // u32[labelCount + 1] into labels
  labels: usize; // UTF-8, in class order, unseparated
  layers: usize; // Layer[layerCount]
  weights: usize; // tensors, see FORMAT.md
  linear: usize; // LinearHeader and what follows it; 0 = none
  training: usize;
}

/** Rows of the linear part. */
export function linearRows(model: Model): u32 {
  const linear = changetype<LinearHeader>(model.linear);
  return model.header.wordCount + linear.bucketCount + linear.pairCount;
}

/** Bytes of the rows of a linear part: f32, or 4 bits a weight and one f32 scale a row. */
function linearRowBytes(form: u32, rows: u64, labels: u64): u64 {
  return form == FORM_F32 ? padded(rows * labels * 4) : padded(rows * ((labels + 1) >> 1)) + padded(rows * 4);
}

/** Bytes of a linear part. */
export function linearBytes(form: u32, words: u64, buckets: u64, pairs: u64, labels: u64): u64 {
  const rows = words + buckets + pairs;
  return (
    offsetof<LinearHeader>() +
    padded(pairs * 8) +
    padded(rows * 4) +
    linearRowBytes(form, rows, labels) +
    padded(labels * 4)
  );
}

// The four arrays of the linear part at `linear`.

export function linearPairs(linear: usize): usize {
  return linear + offsetof<LinearHeader>();
}

export function linearSquares(linear: usize): usize {
  return linearPairs(linear) + <usize>padded(<u64>changetype<LinearHeader>(linear).pairCount * 8);
}

export function linearWeights(linear: usize, rows: u32): usize {
  return linearSquares(linear) + <usize>padded((<u64>rows) << 2);
}

export function linearBias(linear: usize, form: u32, rows: u32, labels: u32): usize {
  return linearWeights(linear, rows) + <usize>linearRowBytes(form, rows, labels);
}

/** `length` rounded up to a multiple of 16. */
// @ts-ignore: decorator
@inline
export function padded(length: u64): u64 {
  return (length + 15) & ~(<u64>15);
}

export function layerAt(layers: usize, index: u32): Layer {
  return changetype<Layer>(layers + <usize>index * offsetof<Layer>());
}

/** LSTM or minGRU. */
// @ts-ignore: decorator
@inline
export function isRecurrent(layer: Layer): bool {
  return layer.kind == LAYER_LSTM || layer.kind == LAYER_MINGRU;
}

/** Gates of a recurrent layer: i f c o of an LSTM, z g of a minGRU. */
// @ts-ignore: decorator
@inline
export function gateCount(layer: Layer): u32 {
  return layer.kind == LAYER_LSTM ? 4 : 2;
}

/** Directions of a recurrent layer: 1, or 2 when it is bidirectional. */
// @ts-ignore: decorator
@inline
export function directions(layer: Layer): u32 {
  return layer.flags & LAYER_BIDIRECTIONAL ? 2 : 1;
}

/** Index of the Pool that reads the states of recurrent layer `index`, with only dropout between; 0 = another layer does. */
export function poolBehind(model: Model, index: u32): u32 {
  do index++;
  while (layerAt(model.layers, index).kind == LAYER_DROPOUT);
  return layerAt(model.layers, index).kind == LAYER_POOL ? index : 0;
}

/** Bytes of a (rows, columns) matrix: f32, or int8 and one f32 scale a row. */
export function matrixBytes(form: u32, rows: u64, columns: u64): u64 {
  if (form == FORM_F32) return padded(rows * columns * 4);
  return padded(rows * columns) + padded(rows * 4);
}

/** Bytes of all tensors of a layer in a file of this form. */
export function layerBytes(form: u32, layer: Layer): u64 {
  const inputWidth = <u64>layer.inputWidth;
  const units = <u64>layer.units;
  if (layer.kind == LAYER_EMBEDDING) return matrixBytes(form, inputWidth, units);
  if (isRecurrent(layer)) {
    const gates = gateCount(layer) * units;
    const recurrent = layer.kind == LAYER_LSTM ? matrixBytes(form, gates, units) : 0;
    return <u64>directions(layer) * (matrixBytes(form, gates, inputWidth) + recurrent + padded(4 * gates));
  }
  if (layer.kind == LAYER_DENSE) return matrixBytes(form, units, inputWidth) + padded(4 * units);
  return 0;
}

/** CRC-32 (IEEE 802.3, reflected 0xEDB88320), four bits at a time, behind bytes with the checksum `before`, 0 if there are none. */
export function crc32(address: usize, length: usize, before: u32): u32 {
  const table = memory.data<u32>([
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c, 0xedb88320,
    0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
  ]);
  let crc = ~before;
  for (let i: usize = 0; i < length; i++) {
    crc ^= <u32>load<u8>(address + i);
    crc = (crc >> 4) ^ load<u32>(table + ((<usize>(crc & 15)) << 2));
    crc = (crc >> 4) ^ load<u32>(table + ((<usize>(crc & 15)) << 2));
  }
  return ~crc;
}

/**
 * Reads the file of `length` bytes at `address` into `model`. Everything is
 * checked before use: each size against its limit before it is multiplied, the
 * sum of the parts against the file, each string, each layer, each number.
 */
export function readModel(address: usize, length: usize, model: Model): i32 {
  if (length < offsetof<Header>()) return ERR_BAD_LENGTH;
  const header = changetype<Header>(address);
  if (header.magic != FORMAT_MAGIC) return ERR_BAD_MAGIC;
  if (header.version != FORMAT_VERSION) return ERR_BAD_VERSION;
  if (<usize>header.fileBytes != length) return ERR_BAD_LENGTH;
  if (header.checksum != crc32(address + offsetof<Header>("form"), length - offsetof<Header>("form"), 0))
    return ERR_BAD_CHECKSUM;
  model.header = header;

  const headerStatus = checkHeader(header);
  if (headerStatus != OK) return headerStatus;

  // Parts follow one another, each padded to 16; u64, so no sum can wrap.
  let offset: u64 = offsetof<Header>();
  model.filters = address + <usize>offset;
  offset += padded(header.filterBytes);
  model.split = address + <usize>offset;
  offset += padded(header.splitBytes);
  model.name = address + <usize>offset;
  offset += padded(header.nameBytes);
  model.version = address + <usize>offset;
  offset += padded(header.versionBytes);
  model.wordOffsets = address + <usize>offset;
  offset += padded((<u64>header.wordCount + 1) * 4);
  model.words = address + <usize>offset;
  offset += padded(header.wordBytes);
  model.labelOffsets = address + <usize>offset;
  offset += padded((<u64>header.labelCount + 1) * 4);
  model.labels = address + <usize>offset;
  offset += padded(header.labelBytes);
  model.layers = address + <usize>offset;
  offset += <u64>header.layerCount * offsetof<Layer>();
  model.weights = address + <usize>offset;
  offset += header.weightBytes;
  model.linear = header.linearBytes ? address + <usize>offset : 0;
  offset += header.linearBytes;
  model.training = address + <usize>offset;
  offset += header.trainingBytes;
  if (offset != <u64>length) return ERR_BAD_LENGTH;
  if (
    !isPadded(model.filters, header.filterBytes) ||
    !isPadded(model.split, header.splitBytes) ||
    !isPadded(model.name, header.nameBytes) ||
    !isPadded(model.version, header.versionBytes) ||
    !isPadded(model.wordOffsets, (<u64>header.wordCount + 1) * 4) ||
    !isPadded(model.words, header.wordBytes) ||
    !isPadded(model.labelOffsets, (<u64>header.labelCount + 1) * 4) ||
    !isPadded(model.labels, header.labelBytes)
  )
    return ERR_BAD_PADDING;

  let status = checkParts(model);
  if (status == OK) status = checkWeights(model);
  return status == OK && model.linear ? checkLinear(model) : status;
}

/** True when `bytes` bytes are followed by zeros up to the next part. Required, so that equal models are equal files with the same digest. */
function isPadded(address: usize, bytes: u64): bool {
  for (let p = address + <usize>bytes, end = address + <usize>padded(bytes); p < end; p++) {
    if (load<u8>(p) != 0) return false;
  }
  return true;
}

/** Checks a model that was not read from a file: all but its weights. */
export function checkModel(model: Model): i32 {
  const status = checkHeader(model.header);
  return status == OK ? checkParts(model) : status;
}

/** Strings, labels and layers. */
function checkParts(model: Model): i32 {
  const header = model.header;
  if (!utf8IsValid(model.filters, header.filterBytes) || !utf8IsValid(model.split, header.splitBytes))
    return ERR_BAD_UTF8;
  if (!isPlainText(model.name, header.nameBytes) || !isPlainText(model.version, header.versionBytes))
    return ERR_BAD_UTF8;
  const wordStatus = checkStrings(
    model.wordOffsets,
    model.words,
    header.wordCount,
    header.wordBytes,
    MAX_WORD_BYTES,
    ERR_BAD_VOCABULARY,
  );
  if (wordStatus != OK) return wordStatus;
  const labelStatus = checkLabels(model);
  if (labelStatus != OK) return labelStatus;
  return checkLayers(model);
}

function checkHeader(header: Header): i32 {
  if (header.form != FORM_F32 && header.form != FORM_INT8 && header.form != FORM_INT8_WEIGHTS) return ERR_BAD_HEADER;
  for (
    let p = changetype<usize>(header) + offsetof<Header>("reserved3"),
      end = changetype<usize>(header) + offsetof<Header>();
    p < end;
    p += 4
  ) {
    if (load<u32>(p) != 0) return ERR_BAD_HEADER;
  }
  if (header.trainingBytes != 0 && header.form != FORM_F32) return ERR_BAD_TRAINING;
  if ((header.trainingBytes & 15) != 0 || header.trainingBytes > 0x7fffffff) return ERR_BAD_TRAINING;
  if (header.weightBytes > 0x7fffffff) return ERR_BAD_HEADER;
  if (
    header.linearBytes != 0 &&
    (header.linearBytes < <u32>offsetof<LinearHeader>() || header.linearBytes > 0x7fffffff)
  )
    return ERR_BAD_HEADER;
  if (!(header.temperature >= 0.01 && header.temperature <= 100)) return ERR_BAD_HEADER;
  if (!isShare(header.rejectScore) || !isShare(header.rejectMargin) || !isShare(header.rejectUnknown))
    return ERR_BAD_HEADER;
  if ((header.cleaning & ~CLEAN_FLAGS) != 0) return ERR_BAD_HEADER;
  if (!isShare(header.levels) || (header.levels > 0 && header.multiLabel)) return ERR_BAD_HEADER;
  if (header.multiLabel > 1 || (header.multiLabel != 0 && header.rejectMargin != 0)) return ERR_BAD_HEADER;

  if ((header.tokenizerFlags & ~TOKENIZER_FLAGS) != 0) return ERR_BAD_TOKENIZER;
  if (header.sequenceLength < 1 || header.sequenceLength > <u32>MAX_SEQUENCE) return ERR_BAD_TOKENIZER;
  if (header.filterBytes > <u32>MAX_NAME_BYTES || header.splitBytes > <u32>MAX_NAME_BYTES) return ERR_BAD_TOKENIZER;
  if (header.splitBytes == 0 && (header.tokenizerFlags & TOKENIZER_CHAR_LEVEL) == 0) return ERR_BAD_TOKENIZER;
  if (header.unknownId > header.wordCount) return ERR_BAD_TOKENIZER;
  if (header.bucketCount > <u32>MAX_ROWS) return ERR_BAD_TOKENIZER;
  if (
    header.tokenizerFlags & TOKENIZER_LETTER_PAIRS &&
    (header.bucketCount == 0 || !(header.tokenizerFlags & TOKENIZER_SPLIT_SCRIPTS))
  )
    return ERR_BAD_TOKENIZER;
  if (header.bucketCount == 0) {
    if (header.ngramMin != 0 || header.ngramMax != 0) return ERR_BAD_TOKENIZER;
  } else if (
    header.ngramMin < 1 ||
    header.ngramMax > <u32>MAX_NGRAM ||
    header.ngramMin > header.ngramMax ||
    header.unknownId != 0
  ) {
    return ERR_BAD_TOKENIZER;
  }

  if (header.nameBytes > <u32>MAX_NAME_BYTES || header.versionBytes > <u32>MAX_NAME_BYTES) return ERR_BAD_HEADER;
  if (header.wordCount >= <u32>MAX_ROWS || header.wordBytes > 0x7fffffff) return ERR_BAD_VOCABULARY;
  if (
    header.labelCount < 2 ||
    header.labelCount > <u32>MAX_LABELS ||
    header.labelBytes > <u32>(MAX_LABELS * MAX_LABEL_BYTES)
  )
    return ERR_BAD_LABELS;
  if (header.layerCount < 3 || header.layerCount > <u32>MAX_LAYERS) return ERR_BAD_LAYERS;
  return OK;
}

/** True for numbers from 0 to 1; false for NaN. */
function isShare(value: f32): bool {
  return value >= 0 && value <= 1;
}

/** Strings of 1 ... maxBytes bytes each, end to end: offsets rise from 0 to `bytes`. */
function checkStrings(offsets: usize, strings: usize, count: u32, bytes: u32, maxBytes: u32, error: i32): i32 {
  if (load<u32>(offsets) != 0) return error;
  let start: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const end = load<u32>(offsets + ((<usize>(i + 1)) << 2));
    if (end <= start || end > bytes || end - start > maxBytes) return error;
    if (!utf8IsValid(strings + start, end - start)) return ERR_BAD_UTF8;
    start = end;
  }
  return start == bytes ? OK : error;
}

/** Valid UTF-8 without control characters: safe in a line, a topic's JSON, a log. */
function isPlainText(address: usize, length: u32): bool {
  for (let i: u32 = 0; i < length; i++) {
    const byte = load<u8>(address + i);
    if (byte < 0x20 || byte == 0x7f) return false;
  }
  return utf8IsValid(address, length);
}

function checkLabels(model: Model): i32 {
  const count = model.header.labelCount;
  const status = checkStrings(
    model.labelOffsets,
    model.labels,
    count,
    model.header.labelBytes,
    MAX_LABEL_BYTES,
    ERR_BAD_LABELS,
  );
  if (status != OK) return status;
  if (!isPlainText(model.labels, model.header.labelBytes)) return ERR_BAD_LABELS;
  for (let i: u32 = 1; i < count; i++) {
    for (let j: u32 = 0; j < i; j++) {
      const length = labelLength(model, i);
      if (
        length == labelLength(model, j) &&
        memory.compare(labelAddress(model, i), labelAddress(model, j), length) == 0
      )
        return ERR_BAD_LABELS;
    }
  }
  return OK;
}

export function labelAddress(model: Model, index: u32): usize {
  return model.labels + load<u32>(model.labelOffsets + ((<usize>index) << 2));
}

export function labelLength(model: Model, index: u32): u32 {
  const p = model.labelOffsets + ((<usize>index) << 2);
  return load<u32>(p, 4) - load<u32>(p);
}

/** The layers form a chain, and its ends fit the vocabulary and the labels. */
function checkLayers(model: Model): i32 {
  const header = model.header;
  if (!isChain(model.layers, header.layerCount)) return ERR_BAD_LAYERS;
  if (layerAt(model.layers, 0).inputWidth < 1 + header.wordCount + header.bucketCount) return ERR_BAD_LAYERS;
  const last = layerAt(model.layers, header.layerCount - 1);
  const outputs = last.units;
  // One output unit stands for two labels: it is the score of the second, its complement that of the first.
  if (outputs != header.labelCount && !(outputs == 1 && header.labelCount == 2)) return ERR_BAD_LAYERS;
  if (header.multiLabel && (outputs != header.labelCount || last.activation != ACTIVATION_SIGMOID))
    return ERR_BAD_LAYERS;
  if (header.levels > 0 && last.activation != ACTIVATION_SOFTMAX) return ERR_BAD_LAYERS;
  return longestWork(model) <= (<u64>MAX_TEXT_WORK) << 20 ? OK : ERR_TOO_SLOW;
}

/** Multiplications that the text with the most work takes, as FORMAT.md counts them: no text holds up a service for longer. */
function longestWork(model: Model): u64 {
  const steps = <u64>model.header.sequenceLength;
  const rows: u64 = model.header.bucketCount ? steps * (1 + MAX_NGRAMS_PER_WORD) : steps;
  const embedding = layerAt(model.layers, 0);
  let work: u64 = model.linear ? <u64>MAX_SEQUENCE * (MAX_NGRAMS_PER_WORD + 2) * model.header.labelCount : 0;
  let isFirst = true;
  for (let i: u32 = 1; i < model.header.layerCount; i++) {
    const layer = layerAt(model.layers, i);
    if (layer.kind == LAYER_DENSE) work += <u64>layer.inputWidth * layer.units;
    else if (layer.kind == LAYER_MINGRU) {
      // The product of each token, of whose rows the first of these layers takes the mean.
      const outputs = <u64>2 * layer.units * directions(layer);
      if (isFirst) work += rows * layer.inputWidth;
      work += outputs * steps * (layer.inputWidth + 1);
      isFirst = false;
    } else if (layer.kind == LAYER_LSTM) {
      const outputs = <u64>4 * layer.units * directions(layer);
      let projections = steps;
      if (isFirst) {
        projections = hasInputTable(layer, embedding.inputWidth) ? min<u64>(rows, embedding.inputWidth) : rows;
        work += rows * outputs;
      }
      work += outputs * (projections * layer.inputWidth + steps * layer.units);
      isFirst = false;
    }
  }
  return work;
}

/** True when the projections of all `rows` of the embedding are kept for the LSTM that reads it (see step.ts). */
export function hasInputTable(layer: Layer, rows: u32): bool {
  return <u64>directions(layer) * rows * ((layer.units + 3) >> 2) * 64 <= <u64>TABLE_BUDGET;
}

/**
 * The graph is a chain: Embedding, then sequence layers (Dropout, LSTM, minGRU), then one
 * layer that ends the sequence (LSTM or minGRU without SEQUENCES, or Pool), then vector
 * layers (Dropout, Dense), the last one Dense. Widths must fit one another.
 */
export function isChain(layers: usize, layerCount: u32): bool {
  if (layerCount < 3 || layerCount > <u32>MAX_LAYERS) return false;
  let width: u32 = 0;
  let isSequence = true;
  let recurrentCount = 0;
  for (let i: u32 = 0; i < layerCount; i++) {
    const layer = layerAt(layers, i);
    if (layer.reserved != 0 || layer.units > <u32>MAX_WIDTH) return false;
    if (layer.kind != LAYER_DENSE && layer.activation != 0) return false;
    if (layer.kind != LAYER_DROPOUT && layer.rate != 0) return false;
    if ((layer.kind == LAYER_EMBEDDING) != (i == 0) || (i > 0 && layer.inputWidth != width)) return false;
    let outputWidth = layer.units;
    let flags: u32 = 0;
    if (layer.kind == LAYER_EMBEDDING) {
      flags = LAYER_MASK_ZERO;
      if (layer.inputWidth < 1 || layer.inputWidth > <u32>(2 * MAX_ROWS)) return false;
    } else if (isRecurrent(layer)) {
      flags = LAYER_BIDIRECTIONAL | LAYER_SEQUENCES;
      // More than MAX_WIDTH inputs could overflow the i32 sums of int8 products.
      if (!isSequence || layer.inputWidth > <u32>MAX_WIDTH) return false;
      outputWidth *= directions(layer);
      isSequence = (layer.flags & LAYER_SEQUENCES) != 0;
      recurrentCount++;
    } else if (layer.kind == LAYER_POOL) {
      flags = LAYER_POOL_MAX | LAYER_POOL_MEAN;
      if (!isSequence || recurrentCount == 0 || layer.units != 0 || (layer.flags & flags) == 0) return false;
      outputWidth = (layer.flags & flags) == flags ? 2 * width : width;
      isSequence = false;
    } else if (layer.kind == LAYER_DROPOUT) {
      flags = LAYER_SPATIAL;
      if (layer.units != 0 || !(layer.rate >= 0 && layer.rate < 1)) return false;
      outputWidth = width;
    } else if (layer.kind == LAYER_DENSE) {
      if (isSequence || layer.activation > <u32>ACTIVATION_SOFTMAX) return false;
    } else return false;
    if (
      (layer.flags & ~flags) != 0 ||
      outputWidth < 1 ||
      outputWidth != layer.outputWidth ||
      outputWidth > <u32>(4 * MAX_WIDTH)
    )
      return false;
    width = outputWidth;
  }
  return layerAt(layers, layerCount - 1).kind == LAYER_DENSE;
}

function checkWeights(model: Model): i32 {
  const form = model.header.form;
  let total: u64 = 0;
  for (let i: u32 = 0; i < model.header.layerCount; i++) total += layerBytes(form, layerAt(model.layers, i));
  if (total != <u64>model.header.weightBytes) return ERR_BAD_LENGTH;

  let p = model.weights;
  for (let i: u32 = 0; i < model.header.layerCount; i++) {
    const layer = layerAt(model.layers, i);
    if (form == FORM_F32) {
      const end = p + <usize>layerBytes(form, layer);
      if (!isFinite32(p, end)) return ERR_BAD_WEIGHT;
      // The tensors of an LSTM are multiples of 16 bytes, so they have no padding.
      if (layer.kind == LAYER_MINGRU) {
        const biasBytes = <u64>gateCount(layer) * layer.units * 4;
        const kernelBytes = biasBytes * layer.inputWidth;
        for (let at = p; at < end; at += <usize>(padded(kernelBytes) + padded(biasBytes))) {
          if (!isPadded(at, kernelBytes) || !isPadded(at + <usize>padded(kernelBytes), biasBytes))
            return ERR_BAD_PADDING;
        }
      }
      if (layer.kind == LAYER_EMBEDDING && !isPadded(p, <u64>layer.inputWidth * layer.units * 4))
        return ERR_BAD_PADDING;
      if (layer.kind == LAYER_DENSE) {
        const kernelBytes = <u64>layer.inputWidth * layer.units * 4;
        if (!isPadded(p, kernelBytes) || !isPadded(p + <usize>padded(kernelBytes), <u64>layer.units * 4))
          return ERR_BAD_PADDING;
      }
      p = end;
    } else if (layer.kind == LAYER_EMBEDDING) {
      const status = checkRows(p, layer.inputWidth, layer.units);
      if (status != OK) return status;
      p += <usize>layerBytes(form, layer);
    } else if (isRecurrent(layer) || layer.kind == LAYER_DENSE) {
      const rows = isRecurrent(layer) ? gateCount(layer) * layer.units : layer.units;
      const count = isRecurrent(layer) ? directions(layer) : 1;
      for (let d: u32 = 0; d < count; d++) {
        let status = checkRows(p, rows, layer.inputWidth);
        if (status != OK) return status;
        p += <usize>matrixBytes(form, rows, layer.inputWidth);
        if (layer.kind == LAYER_LSTM) {
          status = checkRows(p, rows, layer.units);
          if (status != OK) return status;
          p += <usize>matrixBytes(form, rows, layer.units);
        }
        const end = p + <usize>padded(<u64>rows * 4);
        if (!isFinite32(p, end)) return ERR_BAD_WEIGHT;
        if (!isPadded(p, <u64>rows * 4)) return ERR_BAD_PADDING;
        p = end;
      }
    }
  }
  return OK;
}

/** Its parts add up, each pair is two words and comes behind the one before, squares are not negative, and all numbers are finite. */
function checkLinear(model: Model): i32 {
  const header = model.header;
  const linear = model.linear;
  const part = changetype<LinearHeader>(linear);
  const labels = header.labelCount;
  const last = layerAt(model.layers, header.layerCount - 1);
  if ((last.activation != ACTIVATION_SOFTMAX && !header.multiLabel) || last.units != labels) return ERR_BAD_LINEAR;
  const buckets = part.bucketCount;
  if (buckets > header.bucketCount) return ERR_BAD_LINEAR;
  if (part.pairCount > <u32>MAX_ROWS || !isSquare(part.strangeSquare) || !isShare(part.networkShare))
    return ERR_BAD_LINEAR;
  for (let p = linear + offsetof<LinearHeader>("reserved0"), end = linear + offsetof<LinearHeader>(); p < end; p += 4) {
    if (load<u32>(p) != 0) return ERR_BAD_LINEAR;
  }
  if (linearBytes(header.form, header.wordCount, buckets, part.pairCount, labels) != <u64>header.linearBytes)
    return ERR_BAD_LENGTH;

  const rows = linearRows(model);
  const pairs = linearPairs(linear);
  let before: u64 = 0;
  for (let i: u32 = 0; i < part.pairCount; i++) {
    const p = pairs + ((<usize>i) << 3);
    const first = load<u32>(p);
    const second = load<u32>(p, 4);
    const pair = ((<u64>first) << 32) | second;
    if (first < 1 || second < 1 || first > header.wordCount || second > header.wordCount || pair <= before)
      return ERR_BAD_LINEAR;
    before = pair;
  }
  const squares = linearSquares(linear);
  for (let i: u32 = 0; i < rows; i++) if (!isSquare(load<f32>(squares + ((<usize>i) << 2)))) return ERR_BAD_LINEAR;
  const weights = linearWeights(linear, rows);
  const bias = linearBias(linear, header.form, rows, labels);
  if (
    !isPadded(pairs, <u64>part.pairCount * 8) ||
    !isPadded(squares, <u64>rows * 4) ||
    !isPadded(bias, <u64>labels * 4)
  )
    return ERR_BAD_PADDING;
  if (!isFinite32(bias, bias + <usize>padded(<u64>labels * 4))) return ERR_BAD_WEIGHT;
  if (header.form == FORM_F32) {
    if (!isPadded(weights, <u64>rows * labels * 4)) return ERR_BAD_PADDING;
    return isFinite32(weights, bias) ? OK : ERR_BAD_WEIGHT;
  }
  return checkNibbles(weights, rows, labels);
}

/** 4-bit weights are -7 ... 7, and a scale is finite and positive. */
function checkNibbles(address: usize, rows: u32, labels: u32): i32 {
  const stride = (labels + 1) >> 1;
  const bytes = <usize>rows * stride;
  for (let p = address, end = address + bytes; p < end; p++) {
    const byte = load<u8>(p);
    if ((byte & 15) == 8 || byte >> 4 == 8) return ERR_BAD_WEIGHT;
  }
  if (labels & 1)
    for (let r: u32 = 0; r < rows; r++)
      if (load<u8>(address + <usize>(r + 1) * stride - 1) >> 4 != 0) return ERR_BAD_PADDING;
  const scales = address + <usize>padded(bytes);
  for (let r: u32 = 0; r < rows; r++) {
    const scale = load<f32>(scales + ((<usize>r) << 2));
    if (!(scale > 0 && scale < f32.MAX_VALUE)) return ERR_BAD_SCALE;
  }
  return isPadded(address, bytes) && isPadded(scales, <u64>rows * 4) ? OK : ERR_BAD_PADDING;
}

/** A number from 0 to 10^6; false for NaN. */
function isSquare(value: f32): bool {
  return value >= 0 && value <= 1e6;
}

/** An int8 matrix holds -127 ... 127, and each row's scale is finite and positive. */
function checkRows(address: usize, rows: u32, columns: u32): i32 {
  const bytes = <usize>rows * columns;
  for (let p = address, end = address + bytes; p < end; p++) {
    if (load<i8>(p) == -128) return ERR_BAD_WEIGHT;
  }
  const scales = address + <usize>padded(bytes);
  for (let r: u32 = 0; r < rows; r++) {
    const scale = load<f32>(scales + ((<usize>r) << 2));
    if (!(scale > 0 && scale < f32.MAX_VALUE)) return ERR_BAD_SCALE;
  }
  return isPadded(address, bytes) && isPadded(scales, <u64>rows * 4) ? OK : ERR_BAD_PADDING;
}

/** True when no f32 of [address, end) is infinite or NaN. */
export function isFinite32(address: usize, end: usize): bool {
  let bad = i32x4.splat(0);
  for (let p = address; p < end; p += 16) {
    const exponent = v128.and(v128.load(p), i32x4.splat(0x7f800000));
    bad = v128.or(bad, i32x4.eq(exponent, i32x4.splat(0x7f800000)));
  }
  return !v128.any_true(bad);
}
