// Labelled texts in memory, encoded once: (text, label) -> tokens, each with its embedding
// rows. fillBatch then writes them, a batch at a time, as the network's input. Called by
// run.ts and builder.ts. Each list of rows is kept once, however many tokens are read as it,
// so that a text takes 8 bytes and a token 4.
//
//   labels u32[N] | tokenEnds u32[N] | tokens u32[...], numbers of lists | listEnds u32[lists] | rows u32[...]
//
// A token's vector is the mean of its rows: one row for a known word, one for each hashed
// n-gram of an unknown one. Padding is row 0. In training the vector of a known word may
// also be its own row plus the mean of its n-grams; write.ts adds these up, so that in use
// it is one row.
import { CONTEXT_ROW, ERR_OUT_OF_MEMORY, LAYER_MASK_ZERO, MAX_NGRAMS_PER_WORD, OK, TOKENIZER_PAD_POST } from "../abi";
import { allocate } from "../arena";
import { linearScores } from "../network/linear";
import { Model, crc32, layerAt } from "../network/model";
import { ngramRows } from "../text/ngram";
import { Sequence, sequenceRead, tokenRowCount, tokenRows } from "../network/sequence";
import { equalRows, hashRows, scatter } from "../hash";
import { Augmentation, augmentTokens, augmentWord } from "./augment";
import { Growable, appendWord32, createGrowable, extend, reserve, word32At } from "./growable";
import { OWN_ROW, network, networkRandom } from "./network";
import { randomUniform } from "./random";
import { setChecksum, setHas } from "./sets";


@unmanaged
export class Dataset {
  count: u32; // N
  labels: Growable;
  tokenEnds: Growable;
  tokens: Growable;
  listEnds: Growable;
  rows: Growable;
  slots: usize; // u32[slotMask + 1]: number of a list + 1, or 0 = free
  slotMask: u32;
  scores: Growable; // f32[N][K]: what the linear part adds to the logits; empty = nothing
  drawn: usize; // u32[lists][2], see drawOnce: the batch in which rows were last drawn for a list, and the token there; 0 = each token draws
  batches: u32; // that were filled
}

const FIRST_SLOTS: u32 = 1024;

/** An empty data set in new memory; null when memory is refused. */
export function createDataset(): Dataset {
  const self = changetype<Dataset>(allocate(offsetof<Dataset>()));
  if (!changetype<usize>(self)) return self;
  self.labels = createGrowable();
  self.tokenEnds = createGrowable();
  self.tokens = createGrowable();
  self.listEnds = createGrowable();
  self.rows = createGrowable();
  self.slotMask = FIRST_SLOTS - 1;
  self.slots = allocate((<usize>FIRST_SLOTS) << 2);
  self.scores = createGrowable();
  const complete =
    changetype<usize>(self.labels) &&
    changetype<usize>(self.tokenEnds) &&
    changetype<usize>(self.tokens) &&
    changetype<usize>(self.listEnds) &&
    changetype<usize>(self.rows) &&
    self.slots &&
    changetype<usize>(self.scores);
  return complete ? self : changetype<Dataset>(0);
}

/** Encodes a text and keeps it under `label`, which is the number of a set (sets.ts) if texts have several. Returns a status. */
export function addSample(self: Dataset, model: Model, sequence: Sequence, label: u32, text: usize, length: u32): i32 {
  sequenceRead(sequence, model, text, length);
  for (let t: u32 = 0; t < sequence.tokens; t++) {
    const list = listOf(self, tokenRows(sequence, t), tokenRowCount(sequence, t));
    if (list == NO_LIST || !appendWord32(self.tokens, list)) return ERR_OUT_OF_MEMORY;
  }
  if (!appendWord32(self.labels, label) || !appendWord32(self.tokenEnds, self.tokens.bytes >> 2))
    return ERR_OUT_OF_MEMORY;
  self.count++;
  return OK;
}

/** Keeps what the linear part, if there is one, adds to the logits of the text that addSample has just read; false when memory is refused. */
export function addScores(self: Dataset, model: Model, sequence: Sequence): bool {
  if (!changetype<usize>(sequence.linear)) return true;
  const scores = extend(self.scores, model.header.labelCount << 2);
  if (scores) linearScores(sequence.linear, scores);
  return scores != 0;
}

/** Makes room for texts and all their tokens at once, as what a list leaves behind when it grows is lost. False when memory is refused. */
export function reserveSamples(self: Dataset, texts: u32, tokens: u64): bool {
  return reserve(self.labels, texts) && reserve(self.tokenEnds, texts) && reserve(self.tokens, tokens);
}

const NO_LIST: u32 = 0xffffffff;

/** From now on, fillBatch draws once for equal tokens of a batch. Call it when all samples are added; false when memory is refused. */
export function drawOnce(self: Dataset): bool {
  self.batches = 0;
  self.drawn = allocate((<usize>self.listEnds.bytes) << 1);
  return self.drawn != 0;
}

/** The number of the list of these rows, which is added if there is none; NO_LIST when memory is refused. */
function listOf(self: Dataset, rows: usize, count: u32): u32 {
  let slot = slotOf(self, rows, count);
  const found = load<u32>(slot);
  if (found) return found - 1;
  const lists = self.listEnds.bytes >> 2;
  if (lists << 1 > self.slotMask) {
    if (!growSlots(self)) return NO_LIST;
    slot = slotOf(self, rows, count);
  }
  const target = extend(self.rows, count << 2);
  if (!target) return NO_LIST;
  memory.copy(target, rows, (<usize>count) << 2);
  if (!appendWord32(self.listEnds, self.rows.bytes >> 2)) return NO_LIST;
  store<u32>(slot, lists + 1);
  return lists;
}

/** Address of the slot of the list of these rows, or of the free one where it belongs. */
function slotOf(self: Dataset, rows: usize, count: u32): usize {
  let index = scatter(hashRows(rows, count)) & self.slotMask;
  while (true) {
    const slot = self.slots + ((<usize>index) << 2);
    const found = load<u32>(slot);
    if (!found) return slot;
    const first = firstRow(self, found - 1);
    if (word32At(self.listEnds, found - 1) - first == count && equalRows(rowAddress(self, first), rows, count))
      return slot;
    index = (index + 1) & self.slotMask;
  }
}

/** Doubles the slots, at most half of which are in use. */
function growSlots(self: Dataset): bool {
  const count = (self.slotMask + 1) << 1;
  const slots = allocate((<usize>count) << 2);
  if (!slots) return false;
  self.slots = slots;
  self.slotMask = count - 1;
  for (let list: u32 = 0, lists = self.listEnds.bytes >> 2; list < lists; list++) {
    const first = firstRow(self, list);
    store<u32>(slotOf(self, rowAddress(self, first), word32At(self.listEnds, list) - first), list + 1);
  }
  return true;
}

// @ts-ignore: decorator
@inline
function firstRow(self: Dataset, list: u32): u32 {
  return list ? word32At(self.listEnds, list - 1) : 0;
}

// @ts-ignore: decorator
@inline
function rowAddress(self: Dataset, row: u32): usize {
  return self.rows.address + ((<usize>row) << 2);
}

export function sampleLabel(self: Dataset, sample: u32): u32 {
  return word32At(self.labels, sample);
}

// @ts-ignore: decorator
@inline
function firstToken(self: Dataset, sample: u32): u32 {
  return sample ? word32At(self.tokenEnds, sample - 1) : 0;
}

export function sampleTokens(self: Dataset, sample: u32): u32 {
  return word32At(self.tokenEnds, sample) - firstToken(self, sample);
}

/** Tokens of the longest sample, at least 1. */
export function mostTokens(self: Dataset): u32 {
  let most: u32 = 1;
  for (let i: u32 = 0; i < self.count; i++) most = max(most, sampleTokens(self, i));
  return most;
}

/** Checksum of all labels, lengths and rows in order, by which a resumed run recognises its data; with `isSeveral` of the labels in the sets, too. */
export function datasetChecksum(self: Dataset, isSeveral: bool): u32 {
  let counts =
    crc32(self.labels.address, self.labels.bytes, 0) ^
    rotl<u32>(crc32(self.tokenEnds.address, self.tokenEnds.bytes, 0), 8);
  for (let i: u32 = 0; isSeveral && i < self.count; i++)
    counts = rotl<u32>(counts, 1) ^ setChecksum(sampleLabel(self, i));
  const end = memory.data(4, 4); // u32: rows up to the end of a token
  store<u32>(end, 0);
  let ends: u32 = 0;
  let rows: u32 = 0;
  for (let token: u32 = 0, tokens = self.tokens.bytes >> 2; token < tokens; token++) {
    const list = word32At(self.tokens, token);
    const first = firstRow(self, list);
    const count = word32At(self.listEnds, list) - first;
    store<u32>(end, load<u32>(end) + count);
    ends = crc32(end, 4, ends);
    rows = crc32(rowAddress(self, first), (<usize>count) << 2, rows);
  }
  return counts ^ rotl<u32>(ends, 16) ^ rotl<u32>(rows, 24);
}

/**
 * Writes the samples order[0 ... count - 1] as the network's batch: the rows of each step,
 * and one-hot targets (0 or 1 for a single output unit; of several labels, 1 for each). With `wordDropout` > 0 each known
 * word is hidden with that probability, that is, read as its n-grams or as the unknown word,
 * so that the network learns to cope with unknown words; and context rows are
 * left out most of the time, so that it does not depend on them. With `addsNgrams` a known
 * word is its own row plus the mean of its n-grams. `augmentation` may be null; else it
 * changes the tokens. Returns the number of steps T.
 */
export function fillBatch(
  self: Dataset,
  model: Model,
  order: usize,
  count: u32,
  wordDropout: f32,
  addsNgrams: bool,
  augmentation: Augmentation,
): u32 {
  const header = model.header;
  const isMasked = (layerAt(model.layers, 0).flags & LAYER_MASK_ZERO) != 0;
  const padsBehind = (header.tokenizerFlags & TOKENIZER_PAD_POST) != 0;
  let steps: u32 = isMasked ? 1 : header.sequenceLength;
  if (isMasked) {
    for (let b: u32 = 0; b < count; b++) steps = max(steps, sampleTokens(self, load<u32>(order + ((<usize>b) << 2))));
  }
  const augments = changetype<usize>(augmentation) != 0;
  const hasScores = self.scores.bytes != 0;
  self.batches++;
  let offset = network.rowOffsets;
  let rows = network.rowIds;
  store<u32>(offset, 0);
  for (let b: u32 = 0; b < count; b++) {
    const sample = load<u32>(order + ((<usize>b) << 2));
    const first = firstToken(self, sample);
    let tokens = sampleTokens(self, sample);
    if (augments) tokens = augmentTokens(augmentation, networkRandom(), first, tokens);
    const lead = padsBehind ? 0 : steps - tokens;
    for (let t: u32 = 0; t < steps; t++) {
      // For t < lead the difference wraps around, so one comparison checks both ends.
      if (t - lead >= tokens) {
        store<u32>(rows, 0);
        rows += 4;
      } else {
        const index = t - lead;
        const token = augments ? load<u32>(augmentation.tokens + ((<usize>index) << 2)) : first + index;
        // A context row is only valid behind the token that precedes it in the text.
        const keepsContext =
          !augments || (index > 0 && load<u32>(augmentation.tokens + ((<usize>(index - 1)) << 2)) == token - 1);
        const at = (<u32>(offset - network.rowOffsets)) >> 2;
        rows = fillToken(self, model, token, at, keepsContext, wordDropout, addsNgrams, augmentation, rows);
      }
      offset += 4;
      store<u32>(offset, (<u32>(rows - network.rowIds)) >> 2);
    }
    fillTarget(b, sampleLabel(self, sample), header.multiLabel != 0);
    if (hasScores) fillOffsets(self, b, sample);
  }
  network.hasOffsets = hasScores ? 1 : 0;
  return steps;
}

/** Writes the rows of one token, the batch's token number `at`, and returns the address behind them. */
function fillToken(
  self: Dataset,
  model: Model,
  token: u32,
  at: u32,
  keepsContext: bool,
  wordDropout: f32,
  addsNgrams: bool,
  augmentation: Augmentation,
  target: usize,
): usize {
  const list = word32At(self.tokens, token);
  const first = firstRow(self, list);
  const count = word32At(self.listEnds, list) - first;
  const row = word32At(self.rows, first);
  const last = word32At(self.rows, first + count - 1);
  const context = last & CONTEXT_ROW ? last : 0;
  const drawn = self.drawn && (!context || keepsContext) ? self.drawn + ((<usize>list) << 3) : 0;
  if (drawn && load<u32>(drawn) == self.batches) {
    const equal = network.rowOffsets + ((<usize>load<u32>(drawn, 4)) << 2);
    const start = load<u32>(equal);
    const bytes = (<usize>(load<u32>(equal, 4) - start)) << 2;
    memory.copy(target, network.rowIds + ((<usize>start) << 2), bytes);
    return target + bytes;
  }
  if (drawn) {
    store<u32>(drawn, self.batches);
    store<u32>(drawn, at, 4);
  }
  const end = fillOwn(
    self,
    model,
    first,
    context ? count - 1 : count,
    row,
    wordDropout,
    addsNgrams,
    augmentation,
    target,
  );
  if (!context || !keepsContext || (wordDropout > 0 && randomUniform(networkRandom()) < CONTEXT_DROPOUT)) return end;
  store<u32>(end, context);
  return end + 4;
}

/** Share of context rows that training leaves out. */
const CONTEXT_DROPOUT: f32 = 0.65;

/** Writes the rows of a token other than its context row; returns the address behind them. */
function fillOwn(
  self: Dataset,
  model: Model,
  first: u32,
  count: u32,
  row: u32,
  wordDropout: f32,
  addsNgrams: bool,
  augmentation: Augmentation,
  target: usize,
): usize {
  const header = model.header;
  const isWord = count == 1 && row <= header.wordCount && row != header.unknownId;
  if (!isWord) {
    memory.copy(target, rowAddress(self, first), (<usize>count) << 2);
    return target + ((<usize>count) << 2);
  }
  if (changetype<usize>(augmentation)) {
    const changed = augmentWord(augmentation, model, networkRandom(), row, target);
    if (changed) {
      row = load<u32>(target);
      if (changed > 1 || row > header.wordCount || row == header.unknownId) return target + ((<usize>changed) << 2);
    }
  }
  const isHidden = wordDropout > 0 && randomUniform(networkRandom()) < wordDropout;
  if (header.bucketCount && (isHidden || addsNgrams)) {
    const found = wordNgrams(model, row, isHidden ? target : target + 4);
    if (found) {
      if (isHidden) return target + ((<usize>found) << 2);
      store<u32>(target, row | OWN_ROW);
      return target + ((<usize>(found + 1)) << 2);
    }
  } else if (isHidden) {
    store<u32>(target, header.unknownId);
    return target + 4;
  }
  store<u32>(target, row);
  return target + 4;
}

/** How often each vocabulary word occurs in the samples, by id: u32[wordCount + 1] in new memory, 0 when it is refused. */
export function wordUses(self: Dataset, wordCount: u32): usize {
  const uses = allocate((<usize>(wordCount + 1)) << 2);
  if (!uses) return 0;
  for (let token: u32 = 0, tokens = self.tokens.bytes >> 2; token < tokens; token++) {
    const row = word32At(self.rows, firstRow(self, word32At(self.tokens, token)));
    if (row > wordCount) continue;
    const slot = uses + ((<usize>row) << 2);
    store<u32>(slot, load<u32>(slot) + 1);
  }
  return uses;
}

/** Writes the n-gram rows of vocabulary word `id` to u32 `rows`; returns how many. */
export function wordNgrams(model: Model, id: u32, rows: usize): u32 {
  const header = model.header;
  const offset = model.wordOffsets + ((<usize>(id - 1)) << 2);
  const start = load<u32>(offset);
  const firstBucket = layerAt(model.layers, 0).inputWidth - header.bucketCount;
  return ngramRows(
    model.words + start,
    load<u32>(offset, 4) - start,
    header.ngramMin,
    header.ngramMax,
    header.bucketCount,
    firstBucket,
    rows,
  );
}

/** What the linear part adds to the logits of the sample. */
function fillOffsets(self: Dataset, index: u32, sample: u32): void {
  const bytes = (<usize>network.outputs) << 2;
  memory.copy(network.offsets + <usize>index * bytes, self.scores.address + <usize>sample * bytes, bytes);
}

function fillTarget(index: u32, label: u32, isSeveral: bool): void {
  const outputs = network.outputs;
  const target = network.targets + ((<usize>(index * outputs)) << 2);
  if (outputs == 1) {
    store<f32>(target, <f32>label);
    return;
  }
  memory.fill(target, 0, (<usize>outputs) << 2);
  if (isSeveral) {
    for (let k: u32 = 0; k < outputs; k++) if (setHas(label, k)) store<f32>(target + ((<usize>k) << 2), 1);
  } else store<f32>(target + ((<usize>label) << 2), 1);
}

/** Most rows that a token can have. */
export function rowsPerToken(model: Model): u32 {
  return model.header.bucketCount ? MAX_NGRAMS_PER_WORD + 2 : 1;
}
