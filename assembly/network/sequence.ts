// Text -> the steps that the network runs: UTF-8 bytes -> embedding rows for each step.
// Does the work of Keras' texts_to_sequences and pad_sequences in one pass: tokens are
// looked up as they are read, and only the last (or first) sequenceLength of them are
// kept, so a text of any length fits. Called by classify.ts and assembly/train/dataset.ts.
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
import {
  Linear,
  LinearSum,
  linearAdd,
  linearClear,
  linearCopy,
  linearEnd,
  linearPrepare,
  linearMix,
  linearSumCreate,
  linearToken,
} from "./linear";
import { Model, layerAt } from "./model";
import { letterHash, letterPairRow, ngramRows } from "../text/ngram";
import { Tokenizer, tokenIsLetter, tokenizerNext, tokenizerPrepare, tokenizerStart } from "../text/tokenizer";
import { Vocabulary, vocabularyBuild, vocabularyFind } from "../text/vocabulary";

/** The steps of one text. A step's vector is the mean of its embedding rows, plus its CONTEXT_ROW, if any. */
@unmanaged
export class Sequence {
  capacity: u32; // T, steps
  rowCapacity: u32; // rows a step can have: 1, or with hashed n-grams MAX_NGRAMS_PER_WORD and a letter pair
  tokens: u32; // tokens kept of the last text, 0 ... T
  unknown: u32; // how many of all its tokens the vocabulary lacks
  total: u32; // all its tokens, including those cut off or dropped
  first: u32; // slot of the oldest kept token; the slots are a ring
  shownFrom: u32; // kept tokens that the network sees: all of them, unless explain.ts hides some
  shownTo: u32;
  rowCounts: usize; // u32[T], by slot
  rows: usize; // u32[T][rowCapacity], by slot
  spans: usize; // u32[T][2], by slot: bytes of the text where the token begins and ends
  tokenizer: usize; // Tokenizer
  vocabulary: usize; // Vocabulary
  linear: LinearSum; // of all tokens, kept or not; null when the model has no linear part
  visible: LinearSum; // scratch: of the tokens that are shown, and of those that were not kept
  part: LinearSum; // scratch: of some tokens
}

/** Allocates a Sequence for `model`. Returns a status. */
export function sequencePrepare(self: Sequence, model: Model): i32 {
  const header = model.header;
  self.tokenizer = allocate(offsetof<Tokenizer>());
  self.vocabulary = allocate(offsetof<Vocabulary>());
  if (!self.tokenizer || !self.vocabulary || !sequenceReserve(self, model)) return ERR_OUT_OF_MEMORY;

  let longest: u32 = MIN_TOKEN_CAPACITY;
  for (let i: u32 = 0; i < header.wordCount; i++) {
    const p = model.wordOffsets + ((<usize>i) << 2);
    longest = max(longest, load<u32>(p, 4) - load<u32>(p));
  }
  let status = tokenizerPrepare(
    changetype<Tokenizer>(self.tokenizer),
    header.tokenizerFlags,
    model.filters,
    header.filterBytes,
    model.split,
    header.splitBytes,
    longest,
    header.cleaning,
  );
  if (status != OK) return status;
  status = vocabularyBuild(changetype<Vocabulary>(self.vocabulary), model.wordOffsets, model.words, header.wordCount);
  if (status != OK || !model.linear) return status;
  return sequenceLinear(self, linearPrepare(model)) ? OK : ERR_OUT_OF_MEMORY;
}

/** Allocates room for the steps alone: such a Sequence can be a copy of another one, but read no text. False when memory is refused. */
export function sequenceReserve(self: Sequence, model: Model): bool {
  self.capacity = model.header.sequenceLength;
  self.rowCapacity = model.header.bucketCount ? MAX_NGRAMS_PER_WORD + 1 : 1;
  self.rowCounts = allocate((<usize>self.capacity) << 2);
  self.rows = allocate((<usize>self.capacity * self.rowCapacity) << 2);
  self.spans = allocate((<usize>self.capacity) << 3);
  return self.rowCounts && self.rows && self.spans;
}

/** Lets the Sequence read texts for a linear part, which may be null if memory was refused; false then. */
export function sequenceLinear(self: Sequence, linear: Linear): bool {
  if (!changetype<usize>(linear)) return false;
  self.linear = linearSumCreate(linear);
  self.visible = linearSumCreate(linear);
  self.part = linearSumCreate(linear);
  return changetype<usize>(self.linear) && changetype<usize>(self.visible) && changetype<usize>(self.part);
}

/** Copies the steps of another Sequence of the same model. */
export function sequenceCopy(self: Sequence, from: Sequence): void {
  self.tokens = from.tokens;
  self.first = from.first;
  sequenceShow(self, 0, from.tokens);
  memory.copy(self.rowCounts, from.rowCounts, (<usize>from.capacity) << 2);
  memory.copy(self.rows, from.rows, (<usize>from.capacity * from.rowCapacity) << 2);
  memory.copy(self.spans, from.spans, (<usize>from.capacity) << 3);
  self.total = from.total;
  if (changetype<usize>(self.linear)) linearCopy(self.linear, from.linear);
}

/** The token buffer holds at least so many bytes, since an unknown word is hashed by its first bytes. */
const MIN_TOKEN_CAPACITY: u32 = 128;

/** Reads the text; afterwards the kept tokens are in the slots first, first + 1, ... modulo T. */
export function sequenceRead(self: Sequence, model: Model, text: usize, length: u32): void {
  const header = model.header;
  const tokenizer = changetype<Tokenizer>(self.tokenizer);
  const vocabulary = changetype<Vocabulary>(self.vocabulary);
  const keepsFirst = (header.tokenizerFlags & TOKENIZER_TRUNCATE_POST) != 0;
  const pairsLetters = (header.tokenizerFlags & TOKENIZER_LETTER_PAIRS) != 0;
  let letterBefore: u32 = 0; // hash of the token before if that is a letter
  let kept: u32 = 0;
  let slot: u32 = 0;
  self.total = 0;
  self.unknown = 0;
  const linear = self.linear;
  const hasLinear = changetype<usize>(linear) != 0;
  if (hasLinear) linearClear(linear);
  tokenizerStart(tokenizer, text, length);
  while (tokenizerNext(tokenizer)) {
    const id = vocabularyFind(vocabulary, tokenizer.tokenPtr, tokenizer.tokenLength);
    if (id == 0) {
      // A sign that the training texts lack says nothing: a text with a full stop is the text without.
      if (tokenizer.isSign) continue;
      self.unknown++;
    }
    self.total++;
    const isKept = !keepsFirst || kept < self.capacity;
    if (!isKept && !hasLinear) continue;
    const rows = isKept ? self.rows + ((<usize>slot * self.rowCapacity) << 2) : linear.rows;
    const bytes = min(tokenizer.tokenLength, tokenizer.tokenCapacity);
    let count = wordRows(model, id, tokenizer.tokenPtr, bytes, rows);
    if (hasLinear) linearToken(linear, id, rows, count, firstBucket(model));
    if (!isKept) continue;
    if (count == 0) continue;
    if (pairsLetters) {
      const isLetter = tokenIsLetter(tokenizer);
      if (isLetter && letterBefore) {
        store<u32>(rows + ((<usize>count) << 2), letterPairContext(model, letterBefore, tokenizer.tokenPtr, bytes));
        count++;
      }
      letterBefore = isLetter ? letterHash(tokenizer.tokenPtr, bytes) : 0;
    }
    store<u32>(self.rowCounts + ((<usize>slot) << 2), count);
    const span = self.spans + ((<usize>slot) << 3);
    store<u32>(span, <u32>(tokenizer.tokenStart - text));
    store<u32>(span, <u32>(tokenizer.tokenEnd - text), 4);
    kept++;
    if (++slot == self.capacity) slot = 0;
  }
  if (hasLinear) linearEnd(linear);
  self.tokens = min(kept, self.capacity);
  self.first = kept > self.capacity ? slot : 0;
  sequenceShow(self, 0, self.tokens);
}

/**
 * Writes the embedding rows of a word with this id, 0 when the vocabulary lacks it, without a context row; `length` is
 * at most tokenCapacity. Returns how many, 0 when the word is dropped.
 */
export function wordRows(model: Model, id: u32, word: usize, length: u32, rows: usize): u32 {
  const header = model.header;
  if (id == 0 && header.bucketCount != 0)
    return ngramRows(word, length, header.ngramMin, header.ngramMax, header.bucketCount, firstBucket(model), rows);
  const row = id != 0 ? id : header.unknownId;
  if (row == 0) return 0;
  store<u32>(rows, row);
  return 1;
}

/** The context row of a letter behind the letter that letterHash has hashed to `before`. */
export function letterPairContext(model: Model, before: u32, letter: usize, length: u32): u32 {
  return CONTEXT_ROW | letterPairRow(before, letter, length, model.header.bucketCount, firstBucket(model));
}

function firstBucket(model: Model): u32 {
  return layerAt(model.layers, 0).inputWidth - model.header.bucketCount;
}

/** Shows the network only the kept tokens from ... to - 1: a masked model skips the others, any other model reads padding in their place. */
export function sequenceShow(self: Sequence, from: u32, to: u32): void {
  self.shownFrom = from;
  self.shownTo = to;
}

/** Whether the network has no share in the scores. */
export function isLinearAlone(self: Sequence): bool {
  return changetype<usize>(self.linear) != 0 && self.linear.linear.networkShare == 0;
}

/** Mixes the scores of the linear part, if there is one, times `scale`, into `target`, f32[labelCount] padded to 4: of the tokens that are shown, and of those that were not kept. */
export function mixLinear(self: Sequence, model: Model, target: usize, scale: f32): void {
  if (!changetype<usize>(self.linear)) return;
  if (self.shownFrom == 0 && self.shownTo == self.tokens) return linearMix(self.linear, target, scale);
  const sum = self.visible;
  linearClear(sum);
  if (self.total > self.tokens) {
    linearAdd(sum, self.linear, 1);
    linearAdd(sum, linearOf(self, model, 0, self.tokens), -1);
  }
  linearAdd(sum, linearOf(self, model, self.shownFrom, self.shownTo), 1);
  linearMix(sum, target, scale);
}

/** What the linear part reads in the kept tokens from ... to - 1, until the next call. */
export function linearOf(self: Sequence, model: Model, from: u32, to: u32): LinearSum {
  const sum = self.part;
  linearClear(sum);
  for (let t = from; t < to; t++) {
    const rows = tokenRows(self, t);
    let count = tokenRowCount(self, t);
    if (load<u32>(rows + ((<usize>(count - 1)) << 2)) & CONTEXT_ROW) count--;
    const row = load<u32>(rows);
    const isWord = count == 1 && row <= model.header.wordCount && row != model.header.unknownId;
    linearToken(sum, isWord ? row : 0, rows, count, firstBucket(model));
  }
  linearEnd(sum);
  return sum;
}

/** Number of rows of token `index` (0 = oldest kept). */
// @ts-ignore: decorator
@inline
export function tokenRowCount(self: Sequence, index: u32): u32 {
  return load<u32>(self.rowCounts + ((<usize>tokenSlot(self, index)) << 2));
}

/** Address of the rows of token `index`: u32[tokenRowCount]. */
// @ts-ignore: decorator
@inline
export function tokenRows(self: Sequence, index: u32): usize {
  return self.rows + ((<usize>tokenSlot(self, index) * self.rowCapacity) << 2);
}

// @ts-ignore: decorator
@inline
function tokenSlot(self: Sequence, index: u32): u32 {
  const slot = self.first + index;
  return slot >= self.capacity ? slot - self.capacity : slot;
}

/** Offset in the text of the first byte of token `index`. */
export function tokenStart(self: Sequence, index: u32): u32 {
  return load<u32>(self.spans + ((<usize>tokenSlot(self, index)) << 3));
}

/** Offset in the text of the byte behind token `index`. */
export function tokenEnd(self: Sequence, index: u32): u32 {
  return load<u32>(self.spans + ((<usize>tokenSlot(self, index)) << 3), 4);
}

/** Drops the context row of token `index`, which depends on the token before it. */
export function dropContext(self: Sequence, index: u32): void {
  const count = tokenRowCount(self, index);
  const last = load<u32>(tokenRows(self, index) + ((<usize>(count - 1)) << 2));
  if (last & CONTEXT_ROW) store<u32>(self.rowCounts + ((<usize>tokenSlot(self, index)) << 2), count - 1);
}

/** Number of padded steps before the tokens; 0 when padding is masked or comes behind them. */
export function leadingPads(self: Sequence, model: Model): u32 {
  if (layerAt(model.layers, 0).flags & LAYER_MASK_ZERO || model.header.tokenizerFlags & TOKENIZER_PAD_POST) return 0;
  return self.capacity - self.tokens;
}

/** Number of steps that the network runs: the tokens shown, and the padding unless it is masked. */
export function stepCount(self: Sequence, model: Model): u32 {
  return layerAt(model.layers, 0).flags & LAYER_MASK_ZERO ? self.shownTo - self.shownFrom : self.capacity;
}

/** Index of the token of step 0; a negative number, as a wrapped u32, when the step is a pad. The indices of further steps follow one by one. */
export function firstToken(self: Sequence, model: Model): u32 {
  return layerAt(model.layers, 0).flags & LAYER_MASK_ZERO ? self.shownFrom : 0 - leadingPads(self, model);
}
