// Keras' fit_on_texts: texts, one at a time -> a vocabulary with counts, in the layout that
// vocabulary.ts reads: most frequent word first, equally frequent ones by first appearance.
// Texts are counted and forgotten, or kept as lists of words for the linear part. When texts that are
// counted have more words than the table may hold, the rarest ones are dropped, as word2vec does. Growing
// tables are copied to a block of twice the size; the arena cannot free the old
// one. Refuses a vocabulary of MAX_ROWS words or more, and leaves out tokens that are too long
// for a model file.
import {
  ERR_BAD_TOKENIZER,
  ERR_BAD_VOCABULARY,
  ERR_OUT_OF_MEMORY,
  MAX_ROWS,
  MAX_SEQUENCE,
  MAX_WORD_BYTES,
  OK,
  TOKENIZER_CHAR_LEVEL,
} from "../abi";
import { allocate, claim } from "../arena";
import { Tokenizer, tokenIsLetter, tokenizerNext, tokenizerStart } from "../text/tokenizer";
import { PUNCTUATION, signOf } from "../text/signs";
import { utf8CodePoint, utf8Decode, utf8IsValid } from "../text/utf8";
import { fnv1a, scatter } from "../hash";
import { Growable, appendWord32, createGrowable, word32At } from "./growable";


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

  // Of texts that are counted.
  texts: u32;
  punctuationCount: u32; // signs of PUNCTUATION, see clean.ts
  lengths: usize; // u32[MAX_SEQUENCE + 2]: texts of so many tokens, or of more
  rarest: u32; // words seen so often or less have been dropped at the last time; 0 = never
  droppedOwners: u32; // texts that had a word of their own which was dropped

  // Texts that are kept, split.
  tokens: Growable; // u32[], indices into words
  tokenEnds: Growable; // u32[texts]
}


@unmanaged
export class FittedWord {
  hash: u32;
  start: u32; // in Fit.bytes
  length: u32; // bytes; of a word that is too long for the vocabulary only the first tokenCapacity are kept
  count: u32;
  owner: u32; // the only text that has the word, or SHARED
  isLetter: u32; // see tokenIsLetter
  isSign: u32; // see Tokenizer
  id: u32; // written by linear.ts: id in the model's vocabulary, or 0
}

const SHARED: u32 = 0xffffffff;

const FIRST_WORD_CAPACITY: u32 = 512;
const FIRST_BYTE_CAPACITY: u32 = 8192;
const MAX_BYTE_CAPACITY: u32 = 0x40000000;
/** Different words, and their bytes, of texts that are counted: with all copies of the tables a few hundred megabytes. */
const MOST_WORDS: u32 = 1 << 21;
const MOST_BYTES: u32 = 1 << 26;

/** Of fewer texts chance makes too much of a full stop (bench/README.md). */
const ENOUGH_FOR_PUNCTUATION: u32 = 1000;

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
  self.lengths = allocate((MAX_SEQUENCE + 2) << 2);
  self.tokens = createGrowable();
  self.tokenEnds = createGrowable();
  return self.words && self.bytes && self.slots && self.lengths && changetype<usize>(self.tokenEnds)
    ? OK
    : ERR_OUT_OF_MEMORY;
}

/** Splits one text, and counts its words. Returns a status. */
export function fitText(self: Fit, textPtr: usize, textLength: u32): i32 {
  const tokenizer = changetype<Tokenizer>(self.tokenizer);
  let tokens: u32 = 0;
  tokenizerStart(tokenizer, textPtr, textLength);
  while (tokenizerNext(tokenizer)) {
    if (isFull(self)) dropRare(self);
    const index = findOrAdd(self, tokenizer, self.texts);
    if (index == NO_WORD) return ERR_OUT_OF_MEMORY;
    const word = fittedWord(self, index);
    // A text is as long as it would be without its punctuation.
    if (isPunctuation(self, word)) self.punctuationCount++;
    else tokens++;
    word.count++;
    if (word.owner != self.texts) word.owner = SHARED;
    if (word.length > longestWord(self)) self.skippedCount++;
  }
  const length = self.lengths + ((<usize>min(tokens, <u32>MAX_SEQUENCE + 1)) << 2);
  store<u32>(length, load<u32>(length) + 1);
  self.texts++;
  return OK;
}

/** Splits one text, and keeps the list of its words. Returns a status. */
export function fitKept(self: Fit, textPtr: usize, textLength: u32): i32 {
  const tokenizer = changetype<Tokenizer>(self.tokenizer);
  tokenizerStart(tokenizer, textPtr, textLength);
  while (tokenizerNext(tokenizer)) {
    const index = findOrAdd(self, tokenizer, SHARED);
    if (index == NO_WORD || !appendWord32(self.tokens, index)) return ERR_OUT_OF_MEMORY;
  }
  return appendWord32(self.tokenEnds, self.tokens.bytes >> 2) ? OK : ERR_OUT_OF_MEMORY;
}

/** Texts that are kept. */
export function keptCount(self: Fit): u32 {
  return self.tokenEnds.bytes >> 2;
}

/** The first of the tokens of kept text `index`; those of the next text follow. */
export function firstOfText(self: Fit, index: u32): u32 {
  return index ? word32At(self.tokenEnds, index - 1) : 0;
}

/** How many of the texts counted have at most `most` tokens; more than MAX_SEQUENCE = any number. */
export function textsWithin(self: Fit, most: u32): u32 {
  let count: u32 = 0;
  for (let length: u32 = 0; length <= min(most, <u32>MAX_SEQUENCE + 1); length++) count += textsOfLength(self, length);
  return count;
}

/** At most so many tokens do all texts counted have, if of each at most `most` count, which is at most MAX_SEQUENCE. */
export function tokensWithin(self: Fit, most: u32): u64 {
  let count: u64 = self.punctuationCount;
  for (let length: u32 = 1; length <= <u32>MAX_SEQUENCE + 1; length++)
    count += <u64>min(length, most) * textsOfLength(self, length);
  return count;
}

function textsOfLength(self: Fit, length: u32): u32 {
  return load<u32>(self.lengths + ((<usize>length) << 2));
}

/** How many of the texts counted have a word that no other text has; of more words than the table may hold, about how many. */
export function textsWithOwnWord(self: Fit): u32 {
  return min(self.texts, self.droppedOwners + owners(self, u32.MAX_VALUE));
}

/** How many texts have a word that no other text has, and that was read at most `most` times. */
function owners(self: Fit, most: u32): u32 {
  let count: u32 = 0;
  let last = SHARED;
  // In order of appearance, the words of a text follow one another.
  for (let i: u32 = 0; i < self.wordCount; i++) {
    const word = fittedWord(self, i);
    if (word.owner == SHARED || word.owner == last || word.count > most) continue;
    last = word.owner;
    count++;
  }
  return count;
}

const NO_WORD: u32 = 0xffffffff;

/** The index of the token's word, which `text` owns if it is new; NO_WORD when memory is refused. */
function findOrAdd(self: Fit, tokenizer: Tokenizer, text: u32): u32 {
  const token = tokenizer.tokenPtr;
  const length = tokenizer.tokenLength;
  const kept = min(length, tokenizer.tokenCapacity);
  const hash = scatter(fnv1a(token, kept));
  let slot = freeOrEqualSlot(self, hash, token, length, kept);
  const found = load<u32>(slot);
  if (found) return found - 1;

  if (self.wordCount == self.wordCapacity) {
    if (!growWords(self)) return NO_WORD;
    slot = freeOrEqualSlot(self, hash, token, length, kept);
  }
  if (self.byteCapacity - self.byteCount < kept && !growBytes(self)) return NO_WORD;
  const word = fittedWord(self, self.wordCount);
  word.hash = hash;
  word.start = self.byteCount;
  word.length = length;
  word.count = 0;
  word.owner = text;
  word.isLetter = tokenIsLetter(tokenizer) ? 1 : 0;
  word.isSign = tokenizer.isSign ? 1 : 0;
  memory.copy(self.bytes + self.byteCount, token, kept);
  self.byteCount += kept;
  store<u32>(slot, ++self.wordCount);
  return self.wordCount - 1;
}

// @ts-ignore: decorator
@inline
export function fittedWord(self: Fit, index: u32): FittedWord {
  return changetype<FittedWord>(self.words + <usize>index * offsetof<FittedWord>());
}

/** Bytes of the longest word that the vocabulary may have. */
function longestWord(self: Fit): u32 {
  return min<u32>(changetype<Tokenizer>(self.tokenizer).tokenCapacity, MAX_WORD_BYTES);
}

function isFull(self: Fit): bool {
  return self.wordCount == MOST_WORDS || self.byteCount > MOST_BYTES;
}

/** Drops the rarest words, until the table is at most half full. A word that comes again begins anew. */
function dropRare(self: Fit): void {
  while (self.wordCount > MOST_WORDS / 2 || self.byteCount > MOST_BYTES / 2) {
    self.rarest++;
    self.droppedOwners += owners(self, self.rarest);
    const count = self.wordCount;
    self.wordCount = 0;
    self.byteCount = 0;
    for (let i: u32 = 0; i < count; i++) {
      const word = fittedWord(self, i);
      if (word.count <= self.rarest) continue;
      const bytes = min(word.length, changetype<Tokenizer>(self.tokenizer).tokenCapacity);
      memory.copy(self.bytes + self.byteCount, self.bytes + word.start, bytes);
      const kept = fittedWord(self, self.wordCount);
      memory.copy(changetype<usize>(kept), changetype<usize>(word), offsetof<FittedWord>());
      kept.start = self.byteCount;
      self.byteCount += bytes;
      self.wordCount++;
    }
  }
  memory.fill(self.slots, 0, (<usize>(self.slotMask + 1)) << 2);
  fillSlots(self);
}

/** Address of the slot that holds the token, or of the one where it belongs. */
function freeOrEqualSlot(self: Fit, hash: u32, token: usize, length: u32, kept: u32): usize {
  let index = hash & self.slotMask;
  while (true) {
    const slot = self.slots + ((<usize>index) << 2);
    const found = load<u32>(slot);
    if (found == 0) return slot;
    const word = fittedWord(self, found - 1);
    if (word.hash == hash && word.length == length && memory.compare(self.bytes + word.start, token, kept) == 0)
      return slot;
    index = (index + 1) & self.slotMask;
  }
}

/** Doubles the word table and its slots; at most half of the slots are in use. */
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
  fillSlots(self);
  return true;
}

/** Enters all words into the slots, which are free. */
function fillSlots(self: Fit): void {
  for (let i: u32 = 0; i < self.wordCount; i++) {
    let index = fittedWord(self, i).hash & self.slotMask;
    while (load<u32>(self.slots + ((<usize>index) << 2)) != 0) index = (index + 1) & self.slotMask;
    store<u32>(self.slots + ((<usize>index) << 2), i + 1);
  }
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
 * those below `numWords` (0 = all). Signs of PUNCTUATION (see clean.ts) need ENOUGH_FOR_PUNCTUATION texts. An unknown word of `unknownLength` > 0 bytes, Keras'
 * oov_token, gets id 1.
 *
 * If the texts contain the unknown word, Keras gives it the id of its rank and leaves id 1
 * unused. So does this, with a word at id 1 that no text can contain. One case differs: if that
 * rank is not below numWords, Keras still uses it as id, beyond its own limit; here the unknown
 * word then keeps id 1.
 */
export function fitFinish(self: Fit, minCount: u32, numWords: u32, unknownPtr: usize, unknownLength: u32): i32 {
  if (unknownLength > <u32>MAX_WORD_BYTES || !utf8IsValid(unknownPtr, unknownLength)) return ERR_BAD_TOKENIZER;
  const order = claim((<usize>self.wordCount) << 2); // u32[kept], indices into words
  if (!order) return ERR_OUT_OF_MEMORY;
  let kept: u32 = 0;
  for (let i: u32 = 0; i < self.wordCount; i++) {
    const word = fittedWord(self, i);
    if (word.count < minCount || word.length > longestWord(self)) continue;
    if (self.texts < ENOUGH_FOR_PUNCTUATION && isPunctuation(self, word)) continue;
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

function isPunctuation(self: Fit, word: FittedWord): bool {
  if (!word.isSign) return false;
  const bytes = self.bytes + word.start;
  const first = utf8CodePoint(utf8Decode(bytes, bytes + word.length));
  // A keycap is a symbol that begins with # or *.
  return first < 0x80 ? word.length == 1 : signOf(first) == PUNCTUATION;
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
  return fittedWord(self, load<u32>(order + ((<usize>rank) << 2)));
}

/** Whether word `a` comes behind word `b`: a rarer one, or of equal ones the later. */
// @ts-ignore: decorator
@inline
function isBehind(self: Fit, a: u32, b: u32): bool {
  const countA = fittedWord(self, a).count;
  const countB = fittedWord(self, b).count;
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
