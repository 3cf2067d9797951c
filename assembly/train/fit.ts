// Keras' fit_on_texts: texts, one at a time -> a vocabulary with counts, in the layout that
// vocabulary.ts reads: most frequent word first, equally frequent ones by first appearance.
// Called once before a training. Tables that grow are copied to a block of twice the size in
// the arena; the old block stays unused, since others may lie above it. Refuses a vocabulary
// of MAX_ROWS words or more; tokens too long for a model file are left out and counted.
import {
  ERR_BAD_TOKENIZER,
  ERR_BAD_VOCABULARY,
  ERR_OUT_OF_MEMORY,
  MAX_ROWS,
  MAX_WORD_BYTES,
  OK,
  TOKENIZER_CHAR_LEVEL,
} from "../abi";
import { allocate, claim } from "../arena";
import { Tokenizer, tokenizerNext, tokenizerStart } from "../text/tokenizer";
import { utf8IsValid } from "../text/utf8";
import { fnv1a, scatter } from "../text/vocabulary";


@unmanaged
export class Fit {
  tokenizer: usize; // Tokenizer
  wordCount: u32; // distinct words, W
  skippedCount: u32; // tokens longer than a word may be
  wordCapacity: u32;
  words: usize; // FittedWord[wordCapacity], by first appearance
  byteCapacity: u32;
  byteCount: u32;
  bytes: usize; // u8[byteCapacity], the words end to end
  slots: usize; // u32[slotMask + 1]: index of a word + 1, or 0 = free
  slotMask: u32;

  // Results of fitFinish.
  vocabularySize: u32; // V: ids 1 ... V
  unknownId: u32; // id of the word that stands for unknown ones; 0 = none
  vocabularyOffsets: usize; // u32[V + 1]
  vocabularyBytes: usize; // u8[vocabularyOffsets[V]]
  vocabularyCounts: usize; // u32[V], by id - 1: how often the word was read
}


@unmanaged
export class FittedWord {
  hash: u32;
  start: u32; // in Fit.bytes
  length: u32;
  count: u32;
}

const FIRST_WORD_CAPACITY: u32 = 512;
const FIRST_BYTE_CAPACITY: u32 = 8192;
const MAX_BYTE_CAPACITY: u32 = 0x40000000;

/** Begins with no words. The tokenizer's capacity should be MAX_WORD_BYTES. Returns a status. */
export function fitBegin(self: Fit, tokenizer: Tokenizer): i32 {
  memory.fill(changetype<usize>(self), 0, offsetof<Fit>());
  self.tokenizer = changetype<usize>(tokenizer);
  self.wordCapacity = FIRST_WORD_CAPACITY;
  self.byteCapacity = FIRST_BYTE_CAPACITY;
  self.slotMask = 2 * FIRST_WORD_CAPACITY - 1;
  self.words = claim(<usize>FIRST_WORD_CAPACITY * offsetof<FittedWord>());
  self.bytes = claim(FIRST_BYTE_CAPACITY);
  self.slots = allocate((<usize>(2 * FIRST_WORD_CAPACITY)) << 2);
  return self.words && self.bytes && self.slots ? OK : ERR_OUT_OF_MEMORY;
}

/** Counts the words of one text. Returns a status. */
export function fitText(self: Fit, textPtr: usize, textLength: u32): i32 {
  const tokenizer = changetype<Tokenizer>(self.tokenizer);
  const longest = min<u32>(tokenizer.tokenCapacity, MAX_WORD_BYTES);
  tokenizerStart(tokenizer, textPtr, textLength);
  while (tokenizerNext(tokenizer)) {
    if (tokenizer.tokenLength > longest) {
      self.skippedCount++;
      continue;
    }
    const word = findOrAdd(self, tokenizer.tokenPtr, tokenizer.tokenLength);
    if (!word) return ERR_OUT_OF_MEMORY;
    changetype<FittedWord>(word).count++;
  }
  return OK;
}

/** The address of the token's FittedWord; 0 when memory is refused. */
function findOrAdd(self: Fit, token: usize, length: u32): usize {
  const hash = scatter(fnv1a(token, length));
  let slot = freeOrEqualSlot(self, hash, token, length);
  const found = load<u32>(slot);
  if (found) return wordAt(self, found - 1);

  if (self.wordCount == self.wordCapacity) {
    if (!growWords(self)) return 0;
    slot = freeOrEqualSlot(self, hash, token, length);
  }
  if (self.byteCapacity - self.byteCount < length && !growBytes(self)) return 0;
  const address = wordAt(self, self.wordCount);
  const word = changetype<FittedWord>(address);
  word.hash = hash;
  word.start = self.byteCount;
  word.length = length;
  word.count = 0;
  memory.copy(self.bytes + self.byteCount, token, length);
  self.byteCount += length;
  store<u32>(slot, ++self.wordCount);
  return address;
}

// @ts-ignore: decorator
@inline
function wordAt(self: Fit, index: u32): usize {
  return self.words + <usize>index * offsetof<FittedWord>();
}

/** Address of the slot that holds the token, or of the one where it belongs. */
function freeOrEqualSlot(self: Fit, hash: u32, token: usize, length: u32): usize {
  let index = hash & self.slotMask;
  while (true) {
    const slot = self.slots + ((<usize>index) << 2);
    const found = load<u32>(slot);
    if (found == 0) return slot;
    const word = changetype<FittedWord>(wordAt(self, found - 1));
    if (word.hash == hash && word.length == length && memory.compare(self.bytes + word.start, token, length) == 0)
      return slot;
    index = (index + 1) & self.slotMask;
  }
}

/** Doubles the words and their slots, of which half stay free. */
function growWords(self: Fit): bool {
  const capacity = self.wordCapacity << 1;
  const slotCount = capacity << 1;
  const words = claim(<usize>capacity * offsetof<FittedWord>());
  const slots = allocate((<usize>slotCount) << 2);
  if (!words || !slots) return false;
  memory.copy(words, self.words, <usize>self.wordCount * offsetof<FittedWord>());
  self.words = words;
  self.wordCapacity = capacity;
  self.slots = slots;
  self.slotMask = slotCount - 1;
  for (let i: u32 = 0; i < self.wordCount; i++) {
    let index = changetype<FittedWord>(wordAt(self, i)).hash & self.slotMask;
    while (load<u32>(slots + ((<usize>index) << 2)) != 0) index = (index + 1) & self.slotMask;
    store<u32>(slots + ((<usize>index) << 2), i + 1);
  }
  return true;
}

/** Doubles the room for the words' bytes; a word is at most MAX_WORD_BYTES, less than the first capacity. */
function growBytes(self: Fit): bool {
  if (self.byteCapacity >= MAX_BYTE_CAPACITY) return false;
  const bytes = claim((<usize>self.byteCapacity) << 1);
  if (!bytes) return false;
  memory.copy(bytes, self.bytes, self.byteCount);
  self.bytes = bytes;
  self.byteCapacity <<= 1;
  return true;
}

/**
 * Makes the vocabulary: words read at least `minCount` times (Keras: 1), and of all ids only
 * those below `numWords` (0 = all). An unknown word of `unknownLength` > 0 bytes, Keras'
 * oov_token, gets id 1.
 *
 * When the texts themselves contain the unknown word, Keras gives it the id of its rank, and
 * id 1 to no word. The same is done here, with a word at id 1 that no text can contain. One
 * case differs: when that rank is not below numWords, Keras uses the id nevertheless, beyond
 * its own limit; here the unknown word then has id 1.
 */
export function fitFinish(self: Fit, minCount: u32, numWords: u32, unknownPtr: usize, unknownLength: u32): i32 {
  if (unknownLength > <u32>MAX_WORD_BYTES || !utf8IsValid(unknownPtr, unknownLength)) return ERR_BAD_TOKENIZER;
  const order = claim((<usize>self.wordCount) << 2); // u32[kept], indices into words
  if (!order) return ERR_OUT_OF_MEMORY;
  let kept: u32 = 0;
  for (let i: u32 = 0; i < self.wordCount; i++) {
    if (changetype<FittedWord>(wordAt(self, i)).count < minCount) continue;
    store<u32>(order + ((<usize>kept) << 2), i);
    kept++;
  }
  sortByCount(self, order, kept);

  const first: u32 = unknownLength > 0 ? 1 : 0;
  let size = kept + first;
  if (numWords > 0) size = min(size, numWords - 1);
  if (size >= <u32>MAX_ROWS) return ERR_BAD_VOCABULARY;
  let byteCount: usize = 2 * <usize>unknownLength + changetype<Tokenizer>(self.tokenizer).splitLength;
  for (let i: u32 = first; i < size; i++) byteCount += rankedWord(self, order, i - first).length;
  self.vocabularySize = size;
  self.unknownId = min(first, size);
  self.vocabularyOffsets = allocate((<usize>size + 1) << 2);
  self.vocabularyBytes = allocate(byteCount);
  self.vocabularyCounts = allocate((<usize>size) << 2);
  if (!self.vocabularyOffsets || !self.vocabularyBytes || !self.vocabularyCounts) return ERR_OUT_OF_MEMORY;

  if (first && size > 0) {
    for (let i: u32 = 1; i < size; i++) {
      const word = rankedWord(self, order, i - 1);
      if (word.length == unknownLength && memory.compare(self.bytes + word.start, unknownPtr, unknownLength) == 0)
        self.unknownId = i + 1;
    }
    if (self.unknownId == 1) appendWord(self, 0, unknownPtr, unknownLength);
    else appendImpossibleWord(self, unknownPtr, unknownLength);
  }
  for (let i: u32 = first; i < size; i++) {
    const word = rankedWord(self, order, i - first);
    appendWord(self, i, self.bytes + word.start, word.length);
    store<u32>(self.vocabularyCounts + ((<usize>i) << 2), word.count);
  }
  return OK;
}

/** Appends word `index` to the vocabulary; all words before it must be there. */
function appendWord(self: Fit, index: u32, word: usize, length: u32): void {
  const offset = self.vocabularyOffsets + ((<usize>index) << 2);
  memory.copy(self.vocabularyBytes + load<u32>(offset), word, length);
  store<u32>(offset, load<u32>(offset) + length, 4);
}

/** Appends a first word that can never be a token: with CHAR_LEVEL the unknown word twice, else the separator. */
function appendImpossibleWord(self: Fit, unknownPtr: usize, unknownLength: u32): void {
  const tokenizer = changetype<Tokenizer>(self.tokenizer);
  if (tokenizer.flags & TOKENIZER_CHAR_LEVEL) {
    appendWord(self, 0, unknownPtr, unknownLength);
    memory.copy(self.vocabularyBytes + unknownLength, unknownPtr, unknownLength);
    store<u32>(self.vocabularyOffsets, 2 * unknownLength, 4);
  } else appendWord(self, 0, tokenizer.split, tokenizer.splitLength);
}

// @ts-ignore: decorator
@inline
function rankedWord(self: Fit, order: usize, rank: u32): FittedWord {
  return changetype<FittedWord>(wordAt(self, load<u32>(order + ((<usize>rank) << 2))));
}

/** Whether word `a` comes behind word `b`: a rarer one, or of equal ones the later. */
// @ts-ignore: decorator
@inline
function isBehind(self: Fit, a: u32, b: u32): bool {
  const countA = changetype<FittedWord>(wordAt(self, a)).count;
  const countB = changetype<FittedWord>(wordAt(self, b)).count;
  return countA < countB || (countA == countB && a > b);
}

/** Heapsort of u32[length] in place. The order is total, so it does not matter that heapsort is unstable. */
function sortByCount(self: Fit, order: usize, length: u32): void {
  for (let root = length >>> 1; root > 0; root--) siftDown(self, order, root - 1, length);
  for (let end = length; end > 1; end--) {
    const last = order + ((<usize>(end - 1)) << 2);
    const top = load<u32>(order);
    store<u32>(order, load<u32>(last));
    store<u32>(last, top);
    siftDown(self, order, 0, end - 1);
  }
}

/** Restores the heap below `root`; its top is the word that comes behind all others. */
function siftDown(self: Fit, order: usize, root: u32, length: u32): void {
  const moved = load<u32>(order + ((<usize>root) << 2));
  while (true) {
    let child = (root << 1) + 1;
    if (child >= length) break;
    let index = load<u32>(order + ((<usize>child) << 2));
    if (child + 1 < length) {
      const right = load<u32>(order + ((<usize>(child + 1)) << 2));
      if (isBehind(self, right, index)) {
        child++;
        index = right;
      }
    }
    if (!isBehind(self, index, moved)) break;
    store<u32>(order + ((<usize>root) << 2), index);
    root = child;
  }
  store<u32>(order + ((<usize>root) << 2), moved);
}
