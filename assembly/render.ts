// Result -> bytes of one output line, and model -> JSON card. Nothing else writes them, so
// Node, wasmtime and a browser print the same bytes. Called by wasi.ts and by the host
// through index.ts. Writes UTF-8 into one fixed buffer; reads no JSON.
import {
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
  CLEAN_ACCENTS,
  CLEAN_COMPOSE,
  CLEAN_MARKUP,
  CLEAN_NORMALIZE,
  CLEAN_NUMBERS,
  CLEAN_PUNCTUATION,
  CLEAN_REPEATS,
  CLEAN_URLS,
  CLEAN_WIDTH,
  FORM_F32,
  FORM_INT8,
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MINGRU,
  LAYER_MASK_ZERO,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  TOKENIZER_CHAR_LEVEL,
  TOKENIZER_LOWER,
  TOKENIZER_PAD_POST,
  TOKENIZER_SPLIT_SCRIPTS,
  TOKENIZER_TRUNCATE_POST,
} from "./abi";
import { allocate } from "./arena";
import {
  answerScore,
  bestLabel,
  givenCount,
  hasModel,
  isMultiLabel,
  isRejected,
  labelBytes,
  labelCount,
  labelPtr,
  loadedModel,
  loadedPlan,
  parentBytes,
  scoreOf,
} from "./engine";
import { Header, Layer, LinearHeader, Model, layerAt } from "./network/model";

let buffer: usize = 0; // the line
let end: usize = 0; // where the next byte goes
let order: usize = 0; // u32[labelCount], labels by falling score

/** Longest score in text: sign, 13 digits, point, 6 digits. */
const SCORE_BYTES: usize = 24;
/** What is written around a label and its score in the list of several. */
const GIVEN_BYTES: usize = 24;

/**
 * Sizes the line buffer for the loaded model: every label with its score, and once more with a model that
 * gives several, twice as long as it is (JSON escapes can double it); or the card. Returns false when memory is refused.
 */
export function prepareLine(): bool {
  let bytes: usize = 8192;
  for (let i: u32 = 0; i < labelCount(); i++) bytes += <usize>labelBytes(i) * 4 + 2 * SCORE_BYTES + 8 + GIVEN_BYTES;
  bytes += <usize>(loadedModel().header.nameBytes + loadedModel().header.versionBytes) * 2;
  buffer = allocate(bytes);
  order = allocate((<usize>labelCount()) << 2);
  return buffer != 0 && order != 0;
}

/** True when there is a model, and room for its lines. */
function isReady(): bool {
  return hasModel() && buffer != 0 && order != 0;
}

/** Where the last rendered line lies. */
export function linePtr(): usize {
  return buffer;
}

/**
 * Renders the last classified text; returns the length of the line, "\n" included.
 * Text: label<TAB>score, then further <TAB>label<TAB>score pairs up to `top` labels.
 * JSON: {"label":…,"score":…,"scores":{…}} with the `top` best labels, best first.
 * top = 0: one label as text, all labels as JSON. An answer that the model's own rule
 * rejects has the label "?" as text; in JSON it is null, and "unknown":true follows the score.
 * A model that gives several labels writes all of them as text unless `top` is given, and in JSON
 * "labels":[{"label":…,"score":…},…] before the scores, best first, which is empty for a rejected answer.
 * Where the answer is a parent of the best label, it and its score stand first, and the labels, best first, after it.
 * Without a model there is no line: 0.
 */
export function renderLine(json: bool, top: u32): u32 {
  if (!isReady()) return 0;
  const given = isMultiLabel() ? givenCount() : 1;
  const count = min(top ? top : json ? labelCount() : max<u32>(1, given), labelCount());
  rank(max(count, given));
  end = buffer;
  const best = load<u32>(order);
  const rejected = isRejected();
  const parent = parentBytes();
  if (json) {
    put('{"label":');
    if (rejected) put("null");
    else putString(labelPtr(best), parent ? parent : labelBytes(best));
    put(',"score":');
    putScore(parent ? answerScore() : scoreOf(best));
    if (rejected) put(',"unknown":true');
    if (isMultiLabel()) putGiven(given);
    put(',"scores":{');
  }
  for (let i: u32 = 0; i < count; i++) {
    // In text, a parent comes before all labels, and is one of the `count`.
    const isParent: bool = !json && parent != 0 && i == 0;
    const label = load<u32>(order + ((<usize>(i - (!json && parent && i ? 1 : 0))) << 2));
    if (json) {
      if (i) putByte(0x2c);
      putLabel(label);
      putByte(0x3a);
    } else {
      if (i) putByte(0x09);
      if (i == 0 && rejected) putByte(0x3f);
      else putBytes(labelPtr(label), isParent ? parent : labelBytes(label));
      putByte(0x09);
    }
    putScore(isParent ? answerScore() : scoreOf(label));
  }
  if (json) put("}}");
  putByte(0x0a);
  return <u32>(end - buffer);
}

/** The labels that a text has, with their scores. */
function putGiven(count: u32): void {
  put(',"labels":[');
  for (let i: u32 = 0; i < count; i++) {
    const label = load<u32>(order + ((<usize>i) << 2));
    put(i ? ',{"label":' : '{"label":');
    putLabel(label);
    put(',"score":');
    putScore(scoreOf(label));
    putByte(0x7d);
  }
  putByte(0x5d);
}

/** Sorts the `count` best labels to the front of `order`, equal scores in class order. */
function rank(count: u32): void {
  for (let i: u32 = 0; i < labelCount(); i++) store<u32>(order + ((<usize>i) << 2), i);
  for (let i: u32 = 0; i < count; i++) {
    let best = i;
    for (let j = i + 1; j < labelCount(); j++) {
      const challenger = load<u32>(order + ((<usize>j) << 2));
      const champion = load<u32>(order + ((<usize>best) << 2));
      const ahead = scoreOf(challenger) - scoreOf(champion);
      if (ahead > 0 || (ahead == 0 && challenger < champion)) best = j;
    }
    const chosen = load<u32>(order + ((<usize>best) << 2));
    store<u32>(order + ((<usize>best) << 2), load<u32>(order + ((<usize>i) << 2)));
    store<u32>(order + ((<usize>i) << 2), chosen);
  }
}

/** Score of the best label of the last text, as lines show it. */
export function bestScore(): f64 {
  // Adding 0 makes 0 of -0.
  return inMillionths(scoreOf(bestLabel())) / 1e6 + 0;
}

/** Renders what `edgelabel info` shows: one JSON object without a line end. Returns its length. */
export function renderCard(): u32 {
  if (!isReady()) return 0;
  const model = loadedModel();
  const header = model.header;
  end = buffer;
  put('{"name":');
  putString(model.name, header.nameBytes);
  put(',"version":');
  putString(model.version, header.versionBytes);
  put(',"format":');
  putInteger(header.version);
  put(
    header.form == FORM_F32 ? ',"form":"f32"' : header.form == FORM_INT8 ? ',"form":"int8"' : ',"form":"int8-weights"',
  );
  put(',"resumable":');
  putBool(header.trainingBytes != 0);
  put(',"file_bytes":');
  putInteger(header.fileBytes);
  put(',"weight_bytes":');
  putInteger(header.weightBytes);
  put(',"labels":[');
  for (let i: u32 = 0; i < labelCount(); i++) {
    if (i) putByte(0x2c);
    putLabel(i);
  }
  put("]");
  if (isMultiLabel()) put(',"multi_label":true');
  put(',"tokenizer":');
  putTokenizer(header);
  put(',"layers":[');
  for (let i: u32 = 0; i < header.layerCount; i++) {
    if (i) putByte(0x2c);
    putLayer(layerAt(model.layers, i));
  }
  put("]");
  if (model.linear) putLinear(model);
  put(',"temperature":');
  putScore(header.temperature);
  put(',"reject":{"score":');
  putScore(header.rejectScore);
  put(',"margin":');
  putScore(header.rejectMargin);
  put(',"unknown_share":');
  putScore(header.rejectUnknown);
  putByte(0x7d);
  if (header.levels > 0) {
    put(',"levels":');
    putScore(header.levels);
  }
  put(',"input_table":');
  putBool(loadedPlan().hasTable);
  put(',"memory_bytes":');
  putInteger((<u32>memory.size()) << 16);
  putByte(0x7d);
  return <u32>(end - buffer);
}

function putTokenizer(header: Header): void {
  const flags = header.tokenizerFlags;
  put('{"lower":');
  putBool((flags & TOKENIZER_LOWER) != 0);
  put(',"char_level":');
  putBool((flags & TOKENIZER_CHAR_LEVEL) != 0);
  put(',"split_scripts":');
  putBool((flags & TOKENIZER_SPLIT_SCRIPTS) != 0);
  put(flags & TOKENIZER_PAD_POST ? ',"padding":"post"' : ',"padding":"pre"');
  put(flags & TOKENIZER_TRUNCATE_POST ? ',"truncating":"post"' : ',"truncating":"pre"');
  put(',"sequence_length":');
  putInteger(header.sequenceLength);
  put(',"words":');
  putInteger(header.wordCount);
  put(',"ngram_buckets":');
  putInteger(header.bucketCount);
  put(',"cleaning":[');
  putCleaning(header.cleaning);
  put("]}");
}

function putLinear(model: Model): void {
  const linear = changetype<LinearHeader>(model.linear);
  put(',"linear":{"words":');
  putInteger(model.header.wordCount);
  put(',"ngram_buckets":');
  putInteger(linear.bucketCount);
  put(',"pairs":');
  putInteger(linear.pairCount);
  put(',"bytes":');
  putInteger(model.header.linearBytes);
  put(',"network_share":');
  putScore(linear.networkShare);
  put("}");
}

function putLayer(layer: Layer): void {
  put('{"kind":"');
  put(
    layer.kind == LAYER_EMBEDDING
      ? "embedding"
      : layer.kind == LAYER_LSTM
        ? "lstm"
        : layer.kind == LAYER_MINGRU
          ? "mingru"
          : layer.kind == LAYER_POOL
            ? "pool"
            : layer.kind == LAYER_DENSE
              ? "dense"
              : "dropout",
  );
  put('","input":');
  putInteger(layer.inputWidth);
  put(',"output":');
  putInteger(layer.outputWidth);
  if (layer.flags & LAYER_MASK_ZERO) put(',"mask_zero":true');
  if (layer.flags & LAYER_BIDIRECTIONAL) put(',"bidirectional":true');
  if (layer.flags & LAYER_SEQUENCES) put(',"sequences":true');
  if (layer.flags & LAYER_SPATIAL) put(',"spatial":true');
  if (layer.flags & LAYER_POOL_MAX) put(',"max":true');
  if (layer.flags & LAYER_POOL_MEAN) put(',"mean":true');
  if (layer.kind == LAYER_DENSE) {
    put(
      layer.activation == ACTIVATION_SIGMOID
        ? ',"activation":"sigmoid"'
        : layer.activation == ACTIVATION_TANH
          ? ',"activation":"tanh"'
          : layer.activation == ACTIVATION_RELU
            ? ',"activation":"relu"'
            : layer.activation == ACTIVATION_SOFTMAX
              ? ',"activation":"softmax"'
              : ',"activation":"linear"',
    );
  }
  if (layer.rate > 0) {
    put(',"rate":');
    putScore(layer.rate);
  }
  putByte(0x7d);
}

/** The names of the cleaning steps, in their order. */
function putCleaning(flags: u32): void {
  const before = end;
  if (flags & CLEAN_NORMALIZE) put('"normalize",');
  if (flags & CLEAN_MARKUP) put('"markup",');
  if (flags & CLEAN_URLS) put('"urls",');
  if (flags & CLEAN_WIDTH) put('"width",');
  if (flags & CLEAN_COMPOSE) put('"compose",');
  if (flags & CLEAN_ACCENTS) put('"accents",');
  if (flags & CLEAN_NUMBERS) put('"numbers",');
  if (flags & CLEAN_REPEATS) put('"repeats",');
  if (flags & CLEAN_PUNCTUATION) put('"punctuation",');
  if (end > before) end--; // the last comma
}

/** Writes an ASCII string literal: each UTF-16 unit becomes a byte. */
function put(text: string): void {
  for (let i = 0; i < text.length; i++) putByte(<u8>load<u16>(changetype<usize>(text) + ((<usize>i) << 1)));
}

// @ts-ignore: decorator
@inline
function putByte(byte: u8): void {
  store<u8>(end++, byte);
}

function putBytes(address: usize, length: u32): void {
  memory.copy(end, address, length);
  end += length;
}

function putBool(value: bool): void {
  put(value ? "true" : "false");
}

function putLabel(label: u32): void {
  putString(labelPtr(label), labelBytes(label));
}

/** A JSON string of text without control characters, which the loader guarantees. */
function putString(address: usize, length: u32): void {
  putByte(0x22);
  for (let i: u32 = 0; i < length; i++) {
    const byte = load<u8>(address + i);
    if (byte == 0x22 || byte == 0x5c) putByte(0x5c);
    putByte(byte);
  }
  putByte(0x22);
}

function putInteger(value: u64): void {
  let divisor: u64 = 1;
  while (value / divisor >= 10) divisor *= 10;
  for (; divisor > 0; divisor /= 10) putByte(<u8>(0x30 + ((value / divisor) % 10)));
}

function inMillionths(value: f32): f64 {
  return nearest<f64>(max<f64>(-1e12, min<f64>(1e12, <f64>value)) * 1e6);
}

/** Fixed point, 6 decimals, ties to even; magnitudes above 10^12 are clipped to it. */
function putScore(value: f32): void {
  const rounded = inMillionths(value);
  const millionths = <u64>abs<f64>(rounded);
  if (rounded < 0) putByte(0x2d);
  putInteger(millionths / 1000000);
  putByte(0x2e);
  for (let divisor: u64 = 100000; divisor > 0; divisor /= 10) putByte(<u8>(0x30 + ((millionths / divisor) % 10)));
}
