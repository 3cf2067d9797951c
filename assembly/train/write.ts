// Model in memory -> model file, in the format that model.ts reads (FORMAT.md): parts follow
// one another, each padded with zeros to 16 bytes. Called by save.ts and prune.ts.
import { ERR_OUT_OF_MEMORY, FORM_F32, FORMAT_MAGIC, FORMAT_VERSION, MAX_NGRAMS_PER_WORD, OK } from "../abi";
import { allocate, arenaRelease, arenaTop } from "../arena";
import {
  Header,
  Layer,
  LinearHeader,
  Model,
  crc32,
  layerAt,
  layerBytes,
  linearBytes,
  linearRows,
  padded,
} from "../network/model";
import { wordNgrams } from "./dataset";
import { quantizeLayer, quantizeLinear } from "./quantize";

let file: usize = 0; // the last file written
let filesFrom: usize = 0; // the memory [filesFrom, filesTo) that writing it took; filesTo 0 = none
let filesTo: usize = 0;

export function filePtr(): usize {
  return file;
}

export function fileBytes(): u32 {
  return file ? changetype<Header>(file).fileBytes : 0;
}

/** Call it after releasing the arena, which frees the last file too. */
export function forgetFile(): void {
  file = 0;
  filesTo = 0;
}

/** Frees the last file, unless memory was claimed since: so a run that writes a file each epoch does not grow. */
export function beginFile(): void {
  if (filesTo != 0 && arenaTop() == filesTo) arenaRelease(filesFrom);
  filesFrom = arenaTop();
  file = 0;
}

/**
 * After beginFile: writes `model` with f32 `weights` in Keras' layout as a file of `form`, to be found at filePtr().
 * With the form f32, `trainingBytes` of state at `training` follow. Returns a status.
 */
export function writeModel(model: Model, weights: usize, form: u32, training: usize, trainingBytes: u32): i32 {
  file = writeParts(model, weights, form, training, trainingBytes);
  filesTo = arenaTop();
  return file ? OK : ERR_OUT_OF_MEMORY;
}

/** Bytes of a file of this model without weights, linear part and training state. */
export function partsBytes(model: Model): u64 {
  const header = model.header;
  return (
    <u64>offsetof<Header>() +
    padded(header.filterBytes) +
    padded(header.splitBytes) +
    padded(header.nameBytes) +
    padded(header.versionBytes) +
    padded((<u64>header.wordCount + 1) * 4) +
    padded(header.wordBytes) +
    padded((<u64>header.labelCount + 1) * 4) +
    padded(header.labelBytes) +
    <u64>header.layerCount * offsetof<Layer>()
  );
}

/** Returns the file's address, 0 when memory is refused. */
function writeParts(model: Model, weights: usize, form: u32, training: usize, trainingBytes: u32): usize {
  const header = model.header;
  let weightBytes: u64 = 0;
  for (let i: u32 = 0; i < header.layerCount; i++) weightBytes += layerBytes(form, layerAt(model.layers, i));
  let linear: u64 = 0;
  if (model.linear) {
    const part = changetype<LinearHeader>(model.linear);
    linear = linearBytes(form, header.wordCount, part.bucketCount, part.pairCount, header.labelCount);
  }
  const bytes = partsBytes(model) + weightBytes + linear + trainingBytes;
  if (bytes > 0x7fffff00) return 0;
  const start = allocate(<usize>bytes);
  if (!start) return 0;

  memory.copy(start, changetype<usize>(header), offsetof<Header>());
  const written = changetype<Header>(start);
  written.magic = FORMAT_MAGIC;
  written.version = FORMAT_VERSION;
  written.fileBytes = <u32>bytes;
  written.form = form;
  written.weightBytes = <u32>weightBytes;
  written.linearBytes = <u32>linear;
  written.trainingBytes = trainingBytes;

  let to = start + offsetof<Header>();
  to = copyPart(model.filters, header.filterBytes, to);
  to = copyPart(model.split, header.splitBytes, to);
  to = copyPart(model.name, header.nameBytes, to);
  to = copyPart(model.version, header.versionBytes, to);
  to = copyPart(model.wordOffsets, (header.wordCount + 1) << 2, to);
  to = copyPart(model.words, header.wordBytes, to);
  to = copyPart(model.labelOffsets, (header.labelCount + 1) << 2, to);
  to = copyPart(model.labels, header.labelBytes, to);
  to = copyPart(model.layers, header.layerCount * <u32>offsetof<Layer>(), to);
  if (form == FORM_F32) to = copyPart(weights, <u32>weightBytes, to);
  else {
    let from = weights;
    for (let i: u32 = 0; i < header.layerCount; i++) {
      const layer = layerAt(model.layers, i);
      to = quantizeLayer(layer, from, to);
      from += <usize>layerBytes(FORM_F32, layer);
    }
  }
  if (model.linear) {
    if (form == FORM_F32) to = copyPart(model.linear, <u32>linear, to);
    else to = quantizeLinear(model.linear, linearRows(model), header.labelCount, to);
  }
  copyPart(training, trainingBytes, to);
  const covered = offsetof<Header>("form");
  written.checksum = crc32(start + covered, <usize>bytes - covered, 0);
  return start;
}

/**
 * A copy of the model's f32 weights in which each word's embedding row is its own row plus
 * the mean of its n-grams, as training composed it; 0 when memory is refused.
 */
export function mergeNgrams(model: Model, weightBytes: usize): usize {
  const merged = allocate(weightBytes);
  const rows = allocate(MAX_NGRAMS_PER_WORD << 2);
  if (!merged || !rows) return 0;
  memory.copy(merged, model.weights, weightBytes);
  const width = layerAt(model.layers, 0).units;
  for (let id: u32 = 1; id <= model.header.wordCount; id++) {
    if (id == model.header.unknownId) continue;
    const count = wordNgrams(model, id, rows);
    if (count == 0) continue;
    const share: f32 = <f32>1 / <f32>count;
    const target = merged + ((<usize>id * width) << 2);
    for (let r: u32 = 0; r < count; r++) {
      const from = model.weights + ((<usize>load<u32>(rows + ((<usize>r) << 2)) * width) << 2);
      for (let k: usize = 0, end = (<usize>width) << 2; k < end; k += 4) {
        store<f32>(target + k, load<f32>(target + k) + share * load<f32>(from + k));
      }
    }
  }
  return merged;
}

function copyPart(from: usize, bytes: u32, to: usize): usize {
  memory.copy(to, from, bytes);
  return to + <usize>padded(bytes);
}
