// Structured pruning: an opened f32 model and its samples -> a smaller f32 model. Whole units of LSTMs
// and minGRUs are removed, with their rows and columns in every tensor, and whole words, of which
// only the n-grams are then read. The result is an ordinary model, smaller and faster, which
// should then be fine-tuned.
//   openFile -> addSample ... -> pruneModel(…) -> filePtr(), fileBytes()
// Refuses models without samples (ERR_NO_SAMPLES) and calls in the wrong state (ERR_BAD_STATE).
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_BAD_ARGUMENT,
  ERR_NO_SAMPLES,
  ERR_NOT_FINITE,
  ERR_OUT_OF_MEMORY,
  FORM_F32,
  LAYER_DENSE,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
  LOSS_MEAN_SQUARED_ERROR,
  MAX_WIDTH,
  OK,
} from "../abi";
import { allocate } from "../arena";
import {
  Header,
  Layer,
  LinearHeader,
  Model,
  directions,
  gateCount,
  isRecurrent,
  layerAt,
  layerBytes,
  linearBias,
  linearBytes,
  linearPairs,
  linearRows,
  linearSquares,
  linearWeights,
  padded,
} from "../network/model";
import { Augmentation } from "./augment";
import { backward } from "./backward";
import { networkBatch } from "./batch";
import { buildNetwork, draft, samples } from "./builder";
import { fillBatch, mostTokens, wordUses } from "./dataset";
import { denseBias, forward, outputRows } from "./forward";
import { loss } from "./loss";
import { Direction, Stage, gradientOf, lastStage, network, stageAt } from "./network";
import { loadU32, storeU32 } from "./rows";
import { beginFile, writeModel } from "./write";

/** Small, since the contributions of samples cancel out in a large batch. */
const BATCH: u32 = 4;
/** Largest number of samples that are used, evenly spread over all. */
const MOST_SAMPLES: u32 = 4096;
/** Label smoothing for the ranking: without it, the gradients of a well-trained model are close to 0. */
const SMOOTHING: f32 = 0.1;

let importances: usize = 0; // f64[units of all recurrent directions, one after the other]
let importance: usize = 0; // of the next direction to be narrowed
let target: usize = 0; // where the next tensor to be kept goes

/**
 * Writes a copy of the opened model with the `units` most important units of each recurrent direction
 * (0 = all), and with those of its first `words` words (0 = all) that occur at least `minCount`
 * times in the samples; the word for unknown ones is kept. Builds the network.
 */
export function pruneModel(units: u32, words: u32, minCount: u32): i32 {
  if (units > <u32>MAX_WIDTH) return ERR_BAD_ARGUMENT;
  if (samples.count == 0) return ERR_NO_SAMPLES;
  let status = buildNetwork(BATCH, 1, 1, 0, mostTokens(samples));
  if (status == OK) status = rankUnits();
  if (status != OK) return status;
  const header = draft.header;
  const pruned = changetype<Model>(allocate(offsetof<Model>()));
  const copied = changetype<Header>(allocate(offsetof<Header>()));
  const layers = allocate(<usize>header.layerCount * offsetof<Layer>());
  if (!changetype<usize>(pruned) || !changetype<usize>(copied) || !layers) return ERR_OUT_OF_MEMORY;
  memory.copy(changetype<usize>(pruned), changetype<usize>(draft), offsetof<Model>());
  memory.copy(changetype<usize>(copied), changetype<usize>(header), offsetof<Header>());
  memory.copy(layers, draft.layers, <usize>header.layerCount * offsetof<Layer>());
  pruned.header = copied;
  pruned.layers = layers;
  const rows = keepWords(pruned, words, minCount);
  if (!rows || !keepLayers(pruned, units, rows)) return ERR_OUT_OF_MEMORY;
  if (draft.linear && !keepLinear(pruned, rows)) return ERR_OUT_OF_MEMORY;
  beginFile();
  return writeModel(pruned, pruned.weights, FORM_F32, 0, 0);
}

/**
 * Measures the importance of each unit: the first-order change of the loss when its state h is
 * held at 0, |sum over steps of dL/dh h|, added up over batches. (P. Molchanov et al.,
 * Importance Estimation for Neural Network Pruning, 2019.)
 */
function rankUnits(): i32 {
  importances = allocate((<usize>unitCount()) << 3);
  const order = allocate((<usize>BATCH) << 2);
  if (!importances || !order) return ERR_OUT_OF_MEMORY;
  const activation = lastStage().layer.activation;
  let kind: u32 = LOSS_MEAN_SQUARED_ERROR;
  if (activation == ACTIVATION_SOFTMAX) kind = LOSS_CATEGORICAL_CROSSENTROPY;
  if (activation == ACTIVATION_SIGMOID) kind = LOSS_BINARY_CROSSENTROPY;
  const smoothing: f32 = kind == LOSS_MEAN_SQUARED_ERROR ? 0 : SMOOTHING;

  const count = min(samples.count, MOST_SAMPLES);
  for (let first: u32 = 0; first < count; first += BATCH) {
    const size = min(BATCH, count - first);
    for (let b: u32 = 0; b < size; b++) storeU32(order, b, <u32>((<u64>(first + b) * samples.count) / count));
    const filled = networkBatch(size, fillBatch(samples, draft, order, size, 0, false, changetype<Augmentation>(0)));
    if (filled != OK) return filled;
    forward(false);
    if (!isFinite<f32>(loss(kind, smoothing, true))) return ERR_NOT_FINITE;
    backward(kind != LOSS_MEAN_SQUARED_ERROR);
    addImportances();
  }
  return OK;
}

/** Units of all directions of all recurrent layers. */
function unitCount(): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < draft.header.layerCount; i++) {
    const layer = layerAt(draft.layers, i);
    if (isRecurrent(layer)) count += layer.units * directions(layer);
  }
  return count;
}

/** Adds the importance of each unit in the last batch. */
function addImportances(): void {
  let at = importances;
  for (let i: u32 = 0; i < network.layerCount; i++) {
    const stage = stageAt(i);
    if (!isRecurrent(stage.layer)) continue;
    const units = stage.layer.units;
    for (let d: u32 = 0; d < directions(stage.layer); d++) {
      const direction = d == 0 ? stage.forwards : stage.backwards;
      for (let j: u32 = 0; j < units; j++) {
        let change = outputChange(stage, d * units + j);
        if (stage.layer.kind == LAYER_LSTM) change += recurrentChange(direction, j, units);
        store<f64>(at, load<f64>(at) + <f64>abs<f32>(change));
        at += 8;
      }
    }
  }
}

/** sum of dL/dy y over a channel of the layer's output. */
function outputChange(stage: Stage, channel: u32): f32 {
  let sum: f32 = 0;
  for (let r: u32 = 0, rows = outputRows(stage); r < rows; r++) {
    const at = (<usize>(r * stage.stride + channel)) << 2;
    sum += load<f32>(stage.gradient + at) * load<f32>(stage.output + at);
  }
  return sum;
}

/** The same for h as the next step reads it: z = h U, so sum dL/dh_j h_j = sum over k of U_jk dL/dU_jk. */
function recurrentChange(direction: Direction, unit: u32, units: u32): f32 {
  let sum: f32 = 0;
  let u = direction.recurrent + ((<usize>(unit * 4 * units)) << 2);
  for (const end = u + ((<usize>units) << 4); u < end; u += 4) sum += load<f32>(u) * load<f32>(gradientOf(u));
  return sum;
}

// Lists of what is kept, as rising indices: of the units of a recurrent direction, of the output
// channels of a layer (the inputs of the next one), of the words.

/** Cuts the vocabulary down. Returns the embedding rows to keep, u32[1 + words + buckets]; 0 when memory is refused. */
function keepWords(pruned: Model, words: u32, minCount: u32): usize {
  const header = draft.header;
  const rows = allocate((<usize>(1 + header.wordCount + header.bucketCount)) << 2);
  const offsets = allocate((<usize>(header.wordCount + 1)) << 2);
  const strings = allocate(header.wordBytes);
  const uses = minCount ? wordUses(samples, header.wordCount) : 0;
  if (!rows || !offsets || !strings || (minCount && !uses)) return 0;
  let count: u32 = 0;
  let bytes: u32 = 0;
  storeU32(rows, 0, 0);
  for (let id: u32 = 1; id <= header.wordCount; id++) {
    const isUsed = (!words || id <= words) && (!minCount || loadU32(uses, id) >= minCount);
    if (!isUsed && id != header.unknownId) continue;
    const start = loadU32(draft.wordOffsets, id - 1);
    const length = loadU32(draft.wordOffsets, id) - start;
    memory.copy(strings + bytes, draft.words + start, length);
    bytes += length;
    count++;
    storeU32(offsets, count, bytes);
    storeU32(rows, count, id);
    if (id == header.unknownId) pruned.header.unknownId = count;
  }
  const firstBucket = layerAt(draft.layers, 0).inputWidth - header.bucketCount;
  for (let i: u32 = 0; i < header.bucketCount; i++) storeU32(rows, 1 + count + i, firstBucket + i);
  pruned.wordOffsets = offsets;
  pruned.words = strings;
  pruned.header.wordCount = count;
  pruned.header.wordBytes = bytes;
  layerAt(pruned.layers, 0).inputWidth = 1 + count + header.bucketCount;
  return rows;
}

/** Keeps the linear part's rows of the words in the list `words`, of its n-grams, and of the pairs of these words. False when memory is refused. */
function keepLinear(pruned: Model, words: usize): bool {
  const header = pruned.header;
  const labels = header.labelCount;
  const old = draft.linear;
  const part = changetype<LinearHeader>(old);
  const ids = allocate((<usize>(draft.header.wordCount + 1)) << 2); // new id of each word, 0 = none
  if (!ids) return false;
  for (let id: u32 = 1; id <= header.wordCount; id++) storeU32(ids, loadU32(words, id), id);
  let pairCount: u32 = 0;
  for (let i: u32 = 0; i < part.pairCount; i++) if (keptPair(old, i, ids)) pairCount++;
  const bytes = linearBytes(FORM_F32, header.wordCount, part.bucketCount, pairCount, labels);
  const linear = allocate(<usize>bytes);
  if (!linear) return false;
  memory.copy(linear, old, offsetof<LinearHeader>());
  changetype<LinearHeader>(linear).pairCount = pairCount;
  pruned.linear = linear;
  header.linearBytes = <u32>bytes;
  const rows = linearRows(pruned);
  const oldRows = linearRows(draft);
  let row: u32 = 0;
  for (let id: u32 = 1; id <= header.wordCount; id++)
    copyLinearRow(linear, rows, row++, oldRows, loadU32(words, id) - 1);
  for (let b: u32 = 0; b < part.bucketCount; b++)
    copyLinearRow(linear, rows, row++, oldRows, draft.header.wordCount + b);
  let pair = linearPairs(linear);
  for (let i: u32 = 0; i < part.pairCount; i++) {
    const kept = keptPair(old, i, ids);
    if (!kept) continue;
    // The order of the words is the same, and so is that of the pairs.
    store<u32>(pair, <u32>(kept >> 32));
    store<u32>(pair, <u32>kept, 4);
    pair += 8;
    copyLinearRow(linear, rows, row++, oldRows, draft.header.wordCount + part.bucketCount + i);
  }
  memory.copy(
    linearBias(linear, FORM_F32, rows, labels),
    linearBias(old, FORM_F32, oldRows, labels),
    (<usize>labels) << 2,
  );
  return true;
}

/** The new ids of the words of pair `index`, the first in the high half; 0 when one of the words is dropped. */
function keptPair(linear: usize, index: u32, ids: usize): u64 {
  const first = loadU32(ids, loadU32(linearPairs(linear), 2 * index));
  const second = loadU32(ids, loadU32(linearPairs(linear), 2 * index + 1));
  return first && second ? ((<u64>first) << 32) | second : 0;
}

function copyLinearRow(linear: usize, rows: u32, row: u32, oldRows: u32, oldRow: u32): void {
  const bytes = (<usize>draft.header.labelCount) << 2;
  storeU32(linearSquares(linear), row, loadU32(linearSquares(draft.linear), oldRow));
  memory.copy(
    linearWeights(linear, rows) + <usize>row * bytes,
    linearWeights(draft.linear, oldRows) + <usize>oldRow * bytes,
    bytes,
  );
}

/** Narrows the layers and copies the weights that stay; `inputs` are the embedding's rows. False when memory is refused. */
function keepLayers(pruned: Model, units: u32, inputs: usize): bool {
  const layerCount = draft.header.layerCount;
  let bytes: u64 = 0;
  // No tensor grows, so the old weights' size is enough.
  for (let i: u32 = 0; i < layerCount; i++) bytes += layerBytes(FORM_F32, layerAt(draft.layers, i));
  const weights = allocate(<usize>bytes);
  const all = listAll();
  if (!weights || !all) return false;
  pruned.weights = weights;
  target = weights;
  importance = importances;
  for (let i: u32 = 0; i < layerCount; i++) {
    const old = stageAt(i);
    const layer = layerAt(pruned.layers, i);
    const kind = layer.kind;
    if (kind == LAYER_EMBEDDING) {
      copyMatrix(old.weights, layer.units, inputs, layer.inputWidth, all, layer.units);
      inputs = all;
      continue;
    }
    layer.inputWidth = layerAt(pruned.layers, i - 1).outputWidth;
    if (isRecurrent(layer)) {
      inputs = keepUnits(layer, old, units, inputs, all);
      if (!inputs) return false;
    } else if (kind == LAYER_POOL) {
      const width = layer.inputWidth;
      layer.outputWidth = width;
      if (layer.flags & LAYER_POOL_MAX && layer.flags & LAYER_POOL_MEAN) {
        layer.outputWidth = 2 * width;
        const outputs = allocate((<usize>(2 * width)) << 2);
        if (!outputs) return false;
        memory.copy(outputs, inputs, (<usize>width) << 2);
        for (let j: u32 = 0; j < width; j++) storeU32(outputs, width + j, old.layer.inputWidth + loadU32(inputs, j));
        inputs = outputs;
      }
    } else if (kind == LAYER_DENSE) {
      copyMatrix(old.weights, layer.units, inputs, layer.inputWidth, all, layer.units);
      copyMatrix(denseBias(old), layer.units, all, 1, all, layer.units);
      inputs = all;
    } else layer.outputWidth = layer.inputWidth;
  }
  return true;
}

/** Narrows a recurrent layer and copies what stays of its directions. Returns the output channels to keep, u32[outputWidth]; 0 when memory is refused. */
function keepUnits(layer: Layer, old: Stage, units: u32, inputs: usize, all: usize): usize {
  const oldUnits = layer.units;
  const kept = units ? min(units, oldUnits) : oldUnits;
  const outputs = allocate((<usize>(2 * kept)) << 2);
  const gates = gateCount(layer);
  const columns = allocate((<usize>(gates * kept)) << 2);
  const taken = allocate(oldUnits);
  if (!outputs || !columns || !taken) return 0;
  for (let d: u32 = 0; d < directions(layer); d++) {
    const from = d == 0 ? old.forwards : old.backwards;
    const chosen = outputs + ((<usize>(d * kept)) << 2);
    chooseUnits(oldUnits, kept, taken, chosen);
    for (let gate: u32 = 0; gate < gates; gate++) {
      for (let j: u32 = 0; j < kept; j++) storeU32(columns, gate * kept + j, gate * oldUnits + loadU32(chosen, j));
    }
    copyMatrix(from.kernel, gates * oldUnits, inputs, layer.inputWidth, columns, gates * kept);
    if (layer.kind == LAYER_LSTM) copyMatrix(from.recurrent, 4 * oldUnits, chosen, kept, columns, 4 * kept);
    copyMatrix(from.bias, gates * oldUnits, all, 1, columns, gates * kept);
    // The backward direction's channels lie behind the forward one's.
    if (d == 1) for (let j: u32 = 0; j < kept; j++) storeU32(chosen, j, loadU32(chosen, j) + oldUnits);
    importance += (<usize>oldUnits) << 3;
  }
  layer.units = kept;
  layer.outputWidth = kept * directions(layer);
  return outputs;
}

/** u32 0, 1, 2 ... up to the widest layer; 0 when memory is refused. */
function listAll(): usize {
  const count: u32 = 4 * MAX_WIDTH;
  const list = allocate((<usize>count) << 2);
  if (list) for (let j: u32 = 0; j < count; j++) storeU32(list, j, j);
  return list;
}

/** The `kept` most important of the next `units` units, in rising order, to u32 `chosen`; of equals the first. `taken` is scratch u8[units]. */
function chooseUnits(units: u32, kept: u32, taken: usize, chosen: usize): void {
  memory.fill(taken, 0, units);
  for (let i: u32 = 0; i < kept; i++) {
    let best = units;
    for (let j: u32 = 0; j < units; j++) {
      if (load<u8>(taken + j)) continue;
      if (best == units || load<f64>(importance + ((<usize>j) << 3)) > load<f64>(importance + ((<usize>best) << 3)))
        best = j;
    }
    store<u8>(taken + best, 1);
  }
  for (let j: u32 = 0; j < units; j++) {
    if (!load<u8>(taken + j)) continue;
    store<u32>(chosen, j);
    chosen += 4;
  }
}

/** Copies the listed rows and columns of an f32 matrix of `width` columns to `target`, and moves `target` behind them, padded to 16. */
function copyMatrix(from: usize, width: u32, rows: usize, rowCount: u32, columns: usize, columnCount: u32): void {
  let p = target;
  for (let r: u32 = 0; r < rowCount; r++) {
    const row = from + ((<usize>(loadU32(rows, r) * width)) << 2);
    for (let c: u32 = 0; c < columnCount; c++) {
      store<f32>(p, load<f32>(row + ((<usize>loadU32(columns, c)) << 2)));
      p += 4;
    }
  }
  target += <usize>padded(<u64>rowCount * columnCount * 4);
}
