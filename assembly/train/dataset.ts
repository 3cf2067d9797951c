// Labelled texts in memory, encoded once: (text, label) -> tokens, each with its embedding
// rows. fillBatch then writes them, a batch at a time, as the network's input. Called by
// run.ts and builder.ts.
//
//   labels u32[N] | tokenEnds u32[N] | rowEnds u32[tokens] | rows u32[...]
//
// A token's vector is the mean of its rows: one row for a known word, one for each hashed
// n-gram of an unknown one. Padding is row 0. In training the vector of a known word may
// also be its own row plus the mean of its n-grams; write.ts adds these up, so that in use
// it is one row.
import {
  CONTEXT_ROW,
  ERR_OUT_OF_MEMORY,
  LAYER_MASK_ZERO,
  MAX_NGRAMS_PER_WORD,
  OK,
  TOKENIZER_LETTER_PAIRS,
  TOKENIZER_PAD_POST,
  TOKENIZER_TRUNCATE_POST,
} from "../abi";
import { allocate } from "../arena";
import { linearScores } from "../network/linear";
import { Model, crc32, layerAt } from "../network/model";
import { letterHash, ngramRows } from "../text/ngram";
import { Sequence, letterPairContext, sequenceRead, tokenRowCount, tokenRows, wordRows } from "../network/sequence";
import { Tokenizer } from "../text/tokenizer";
import { Vocabulary, vocabularyFind } from "../text/vocabulary";
import { Augmentation, augmentTokens, augmentWord } from "./augment";
import { Fit, firstOfText, fittedWord, textCount } from "./fit";
import { Growable, appendWord32, createGrowable, extend, reserve, word32At } from "./growable";
import { OWN_ROW, network, networkRandom } from "./network";
import { randomUniform } from "./random";


@unmanaged
export class Dataset {
  count: u32; // N
  labels: Growable;
  tokenEnds: Growable;
  rowEnds: Growable;
  rows: Growable;
  scores: Growable; // f32[N][K]: what the linear part adds to the logits; empty = nothing
}

/** An empty data set in new memory; null when memory is refused. */
export function createDataset(): Dataset {
  const self = changetype<Dataset>(allocate(offsetof<Dataset>()));
  if (!changetype<usize>(self)) return self;
  self.labels = createGrowable();
  self.tokenEnds = createGrowable();
  self.rowEnds = createGrowable();
  self.rows = createGrowable();
  self.scores = createGrowable();
  const complete =
    changetype<usize>(self.labels) &&
    changetype<usize>(self.tokenEnds) &&
    changetype<usize>(self.rowEnds) &&
    changetype<usize>(self.rows) &&
    changetype<usize>(self.scores);
  return complete ? self : changetype<Dataset>(0);
}

/** Encodes a text and keeps it under `label`. Returns a status. */
export function addSample(self: Dataset, model: Model, sequence: Sequence, label: u32, text: usize, length: u32): i32 {
  sequenceRead(sequence, model, text, length);
  for (let t: u32 = 0; t < sequence.tokens; t++) {
    const count = tokenRowCount(sequence, t);
    const target = extend(self.rows, count << 2);
    if (!target) return ERR_OUT_OF_MEMORY;
    memory.copy(target, tokenRows(sequence, t), (<usize>count) << 2);
    if (!appendWord32(self.rowEnds, self.rows.bytes >> 2)) return ERR_OUT_OF_MEMORY;
  }
  if (!appendWord32(self.labels, label) || !appendWord32(self.tokenEnds, self.rowEnds.bytes >> 2))
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

/** Encodes the texts of `fit`, whose labels have been added, just as addSample would, but without splitting them again. Returns a status. */
export function addFitted(self: Dataset, model: Model, sequence: Sequence, fit: Fit): i32 {
  const capacity = changetype<Tokenizer>(sequence.tokenizer).tokenCapacity;
  findWords(fit, sequence);
  for (let i: u32 = 0; i < fit.wordCount; i++) {
    const word = fittedWord(fit, i);
    word.rowCount = wordRows(model, word.id, fit.bytes + word.start, min(word.length, capacity), sequence.rows);
  }
  if (!reserveFor(self, model, fit)) return ERR_OUT_OF_MEMORY;
  for (let i: u32 = 0; i < textCount(fit); i++)
    if (!addText(self, model, fit, firstOfText(fit, i), firstOfText(fit, i + 1), capacity)) return ERR_OUT_OF_MEMORY;
  return OK;
}

/** Makes room for the tokens of `fit` at once, as what a list leaves behind when it grows is lost. False when memory is refused. */
function reserveFor(self: Dataset, model: Model, fit: Fit): bool {
  const most = model.header.sequenceLength;
  const readsFirst = (model.header.tokenizerFlags & TOKENIZER_TRUNCATE_POST) != 0;
  let tokens: u64 = 0;
  let rows: u64 = 0;
  for (let i: u32 = 0; i < textCount(fit); i++) {
    const from = firstOfText(fit, i);
    const to = firstOfText(fit, i + 1);
    let left = most;
    for (let k = from; left > 0 && k < to; k++) {
      const word = fittedWord(fit, word32At(fit.tokens, readsFirst ? k : from + to - 1 - k));
      if (!word.rowCount) continue;
      rows += word.rowCount + word.isLetter;
      left--;
    }
    tokens += most - left;
  }
  return reserve(self.tokenEnds, textCount(fit)) && reserve(self.rowEnds, tokens) && reserve(self.rows, rows);
}

/** Sets the ids of the words of `fit`. */
export function findWords(fit: Fit, sequence: Sequence): void {
  const vocabulary = changetype<Vocabulary>(sequence.vocabulary);
  for (let i: u32 = 0; i < fit.wordCount; i++) {
    const word = fittedWord(fit, i);
    word.id = vocabularyFind(vocabulary, fit.bytes + word.start, word.length);
  }
}

/** Encodes tokens from ... to - 1 of `fit` as sequenceRead encodes a text; `capacity` limits the bytes of a token that are hashed. */
function addText(self: Dataset, model: Model, fit: Fit, from: u32, to: u32, capacity: u32): bool {
  const header = model.header;
  let left: u32 = 0; // tokens that the model reads
  for (let t = from; t < to; t++) if (fittedWord(fit, word32At(fit.tokens, t)).rowCount) left++;
  const first: u32 = header.tokenizerFlags & TOKENIZER_TRUNCATE_POST ? 0 : left - min(left, header.sequenceLength);
  const last = min(left, first + header.sequenceLength);
  const pairsLetters = (header.tokenizerFlags & TOKENIZER_LETTER_PAIRS) != 0;
  let letterBefore: u32 = 0;
  let index: u32 = 0; // of the token among those
  for (let t = from; index < last; t++) {
    const word = fittedWord(fit, word32At(fit.tokens, t));
    if (!word.rowCount) continue;
    const bytes = fit.bytes + word.start;
    const length = min(word.length, capacity);
    const isPair = word.isLetter && letterBefore;
    if (index >= first) {
      const rows = extend(self.rows, (word.rowCount + (isPair ? 1 : 0)) << 2);
      if (!rows) return false;
      wordRows(model, word.id, bytes, length, rows);
      if (isPair)
        store<u32>(rows + ((<usize>word.rowCount) << 2), letterPairContext(model, letterBefore, bytes, length));
      if (!appendWord32(self.rowEnds, self.rows.bytes >> 2)) return false;
    }
    letterBefore = pairsLetters && word.isLetter ? letterHash(bytes, length) : 0;
    index++;
  }
  self.count++;
  return appendWord32(self.tokenEnds, self.rowEnds.bytes >> 2);
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

/** Checksum of all labels, lengths and rows in order, by which a resumed run recognises its data. */
export function datasetChecksum(self: Dataset): u32 {
  const counts =
    crc32(self.labels.address, self.labels.bytes) ^ rotl<u32>(crc32(self.tokenEnds.address, self.tokenEnds.bytes), 8);
  return (
    counts ^
    rotl<u32>(crc32(self.rowEnds.address, self.rowEnds.bytes), 16) ^
    rotl<u32>(crc32(self.rows.address, self.rows.bytes), 24)
  );
}

/**
 * Writes the samples order[0 ... count - 1] as the network's batch: the rows of each step,
 * and one-hot targets (0 or 1 for a single output unit). With `wordDropout` > 0 each known
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
        rows = fillToken(self, model, token, keepsContext, wordDropout, addsNgrams, augmentation, rows);
      }
      offset += 4;
      store<u32>(offset, (<u32>(rows - network.rowIds)) >> 2);
    }
    fillTarget(b, sampleLabel(self, sample));
    if (hasScores) fillOffsets(self, b, sample);
  }
  network.hasOffsets = hasScores ? 1 : 0;
  return steps;
}

/** Writes the rows of one token and returns the address behind them. */
function fillToken(
  self: Dataset,
  model: Model,
  token: u32,
  keepsContext: bool,
  wordDropout: f32,
  addsNgrams: bool,
  augmentation: Augmentation,
  target: usize,
): usize {
  const first = token ? word32At(self.rowEnds, token - 1) : 0;
  const count = word32At(self.rowEnds, token) - first;
  const row = word32At(self.rows, first);
  const last = word32At(self.rows, first + count - 1);
  const context = last & CONTEXT_ROW ? last : 0;
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
    memory.copy(target, self.rows.address + ((<usize>first) << 2), (<usize>count) << 2);
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
  let first: u32 = 0;
  for (let token: u32 = 0, tokens = self.rowEnds.bytes >> 2; token < tokens; token++) {
    const row = word32At(self.rows, first);
    first = word32At(self.rowEnds, token);
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

function fillTarget(index: u32, label: u32): void {
  const outputs = network.outputs;
  const target = network.targets + ((<usize>(index * outputs)) << 2);
  if (outputs == 1) {
    store<f32>(target, <f32>label);
    return;
  }
  memory.fill(target, 0, (<usize>outputs) << 2);
  store<f32>(target + ((<usize>label) << 2), 1);
}

/** Most rows that a token can have. */
export function rowsPerToken(model: Model): u32 {
  return model.header.bucketCount ? MAX_NGRAMS_PER_WORD + 2 : 1;
}
