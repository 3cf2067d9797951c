// Pretrained word vectors: the lines of a file, a part at a time -> the embedding rows of words. Of each word only the first
// vector is kept, and only for words of the vocabulary and, while it has room, for the words that the file has first, so that
// words that no training text has mean something too. Files are word2vec's and fastText's text, and GloVe's: on each line a
// word and its numbers, with spaces or tabs between; the first line may have the numbers of words and of dimensions.
//
//   fitVocabulary -> startVectors -> readVectors ... -> finishVectors -> describeModel -> startTraining
//
// Rows with a vector do not learn: the network learns to read them, and then also reads those that no text has. The linear part
// has the sum of a text's vectors as features (linear.ts), so that a word's row there has a meaning before any text has the word.
import {
  ERR_BAD_STATE,
  ERR_BAD_VECTORS,
  ERR_OUT_OF_MEMORY,
  ERR_TEXT_TOO_LONG,
  MAX_DIMENSIONS,
  MAX_WORD_BYTES,
  OK,
  TEXT_CAPACITY,
  VECTORS_BAD_HEADER,
  VECTORS_BAD_NUMBER,
  VECTORS_CUT_OFF,
  VECTORS_NO_NUMBERS,
  VECTORS_OTHER_WIDTH,
} from "../abi";
import { allocate, arenaRelease, arenaTop, claim } from "../arena";
import { Tokenizer, tokenizerNext, tokenizerStart } from "../text/tokenizer";
import { utf8IsValid } from "../text/utf8";
import { fnv1a, scatter } from "../hash";
import {
  addString,
  draft,
  fittedTokenizer,
  inputPtr,
  pretrained,
  setPretrained,
  setVocabulary,
  wordCount,
  wordOffsets,
  words,
} from "./builder";
import { dot, orthonormalize } from "./initialize";
import { word32At } from "./growable";
import { network } from "./network";
import { sumOfSquares } from "./optimizer";
import { Random, randomNormal, randomSeed } from "./random";
import { addRow, addScaledRow, copyRow, scaleRow } from "./rows";

/** Of the rows: about four times the length of those that are drawn. Much shorter or longer ones gain less. */
const LENGTH: f32 = 4;
/** Steps towards the directions in which vectors differ most, when they have more dimensions than the embedding. */
const REDUCING_STEPS: u32 = 20;

// Where the vector of a word is from.
const NONE: u8 = 0;
/** From a word of the file that the tokenizer reads as this word, such as "The". */
const SIMILAR: u8 = 1;
const EXACT: u8 = 2;


@unmanaged
export class Vectors {
  most: u32; // words that the vocabulary may have
  dimensions: u32; // 0 = not known yet
  declared: u32; // words by the header; 0 = no header
  line: u32; // lines read
  lines: u32; // of these, lines with a word
  defect: u32; // VECTORS_*
  numbers: u32; // on the line with the defect
  found: u32; // words of the texts that have a vector
  repeated: u32; // vectors of words that had one
  repeatedLine: u32; // the first of them
  slots: usize; // u32[slotMask + 1]: a word's id, or 0 = free
  slotMask: u32;
  origins: usize; // u8[most + 1], by id
  stride: u32; // floats of a row: dimensions, rounded up to 4
  rows: usize; // f32[most + 1][stride], by id
  token: usize; // u8[MAX_WORD_BYTES]

  // Of finishVectors.
  first: u32; // the words first ... first + count - 1 have a vector
  count: u32;
  width: u32;
  reduced: usize; // f32[count][width], of length 1
}

// @ts-ignore: decorator
@inline
function current(): Vectors {
  return changetype<Vectors>(pretrained);
}

/** Begins to read vectors for the vocabulary just made, which gets other words until it has `most`. */
export function startVectors(most: u32): i32 {
  if (!changetype<usize>(fittedTokenizer())) return ERR_BAD_STATE;
  const self = changetype<Vectors>(allocate(offsetof<Vectors>()));
  if (!changetype<usize>(self)) return ERR_OUT_OF_MEMORY;
  self.most = max(most, wordCount());
  let slotCount: u32 = 2;
  while (slotCount < 2 * (self.most + 1)) slotCount <<= 1;
  self.slotMask = slotCount - 1;
  self.slots = allocate((<usize>slotCount) << 2);
  self.origins = allocate(self.most + 1);
  self.token = claim(MAX_WORD_BYTES);
  if (!self.slots || !self.origins || !self.token) return ERR_OUT_OF_MEMORY;
  setPretrained(changetype<usize>(self));
  for (let id: u32 = 1; id <= wordCount(); id++)
    if (id != draft.header.unknownId) store<u32>(slotOf(wordAddress(id), wordLength(id)), id);
  return OK;
}

function wordAddress(id: u32): usize {
  return words.address + word32At(wordOffsets, id - 1);
}

function wordLength(id: u32): u32 {
  return word32At(wordOffsets, id) - word32At(wordOffsets, id - 1);
}

/** Address of the slot that has the word, or of the free slot for it. */
function slotOf(word: usize, length: u32): usize {
  const self = current();
  let index = scatter(fnv1a(word, length)) & self.slotMask;
  while (true) {
    const slot = self.slots + ((<usize>index) << 2);
    const id = load<u32>(slot);
    if (id == 0 || (wordLength(id) == length && memory.compare(wordAddress(id), word, length) == 0)) return slot;
    index = (index + 1) & self.slotMask;
  }
}

/** Reads the whole lines in the first `length` bytes of the input. Returns a status; ERR_BAD_VECTORS: see vectorsDefect. */
export function readVectors(length: u32): i32 {
  if (!pretrained) return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  const end = inputPtr() + length;
  for (let p = inputPtr(); p < end;) {
    let lineEnd = p;
    while (lineEnd < end && load<u8>(lineEnd) != 0x0a) lineEnd++;
    current().line++;
    const status = readLine(p, lineEnd);
    if (status != OK) return status;
    p = lineEnd + 1;
  }
  return OK;
}

function isBlank(byte: u32): bool {
  return byte == 0x20 || byte == 0x09 || byte == 0x0d;
}

/** How many words and numbers there are. */
function countFields(from: usize, end: usize): u32 {
  let count: u32 = 0;
  let before: u32 = 0x20;
  for (; from < end; from++) {
    const byte = <u32>load<u8>(from);
    if (!isBlank(byte) && isBlank(before)) count++;
    before = byte;
  }
  return count;
}

function fieldEnd(from: usize, end: usize): usize {
  while (from < end && !isBlank(load<u8>(from))) from++;
  return from;
}

function refuse(defect: u32, numbers: u32): i32 {
  current().defect = defect;
  current().numbers = numbers;
  return ERR_BAD_VECTORS;
}

function readLine(from: usize, end: usize): i32 {
  const self = current();
  const fields = countFields(from, end);
  if (fields == 0) return OK;
  const wordEnd = fieldEnd(from, end);
  if (self.dimensions == 0) {
    let width = fields - 1;
    // The first line of word2vec and fastText.
    const isHeader = fields == 2 && wholeNumber(from, wordEnd) >= 0 && wholeNumber(wordEnd + 1, end) >= 0;
    if (isHeader) {
      width = <u32>min<f64>(wholeNumber(wordEnd + 1, end), u32.MAX_VALUE);
      self.declared = <u32>min<f64>(wholeNumber(from, wordEnd), u32.MAX_VALUE);
    }
    if (width == 0 || width > <u32>MAX_DIMENSIONS)
      return refuse(isHeader ? VECTORS_BAD_HEADER : VECTORS_NO_NUMBERS, width);
    self.dimensions = width;
    self.stride = (width + 3) & ~3;
    self.rows = allocate((<usize>(self.most + 1) * self.stride) << 2);
    if (!self.rows) return ERR_OUT_OF_MEMORY;
    if (isHeader) return OK;
  }
  self.lines++;
  if (fields != self.dimensions + 1) {
    // A word that is white space, or that has some, as a few of GloVe's have, is no word here.
    if (from == wordEnd && fields == self.dimensions) return OK;
    if (fields > self.dimensions + 1 && !isNumber(wordEnd, end)) return OK;
    return refuse(VECTORS_OTHER_WIDTH, fields - 1);
  }
  const length = <u32>(wordEnd - from);
  if (length == 0 || length > <u32>MAX_WORD_BYTES || !utf8IsValid(from, length)) return OK;
  return keepVector(from, length, end);
}

/** Keeps the vector of a line whose word has `length` bytes, if it is one token that has none or only a similar one's. */
function keepVector(from: usize, length: u32, end: usize): i32 {
  const self = current();
  const tokenizer = fittedTokenizer();
  tokenizerStart(tokenizer, from, length);
  if (!tokenizerNext(tokenizer)) return OK;
  const tokenLength = tokenizer.tokenLength;
  if (tokenLength > <u32>MAX_WORD_BYTES) return OK;
  memory.copy(self.token, tokenizer.tokenPtr, tokenLength);
  if (tokenizerNext(tokenizer)) return OK;
  const origin = tokenLength == length && memory.compare(self.token, from, length) == 0 ? EXACT : SIMILAR;
  const slot = slotOf(self.token, tokenLength);
  let id = load<u32>(slot);
  if (id == 0) {
    if (wordCount() >= self.most) return OK;
    const status = addString(wordOffsets, words, self.token, tokenLength);
    if (status != OK) return status;
    id = wordCount();
    store<u32>(slot, id);
  } else {
    const before = load<u8>(self.origins + id);
    if (before == EXACT && origin == EXACT) {
      if (self.repeated == 0) self.repeatedLine = self.line;
      self.repeated++;
    }
    if (before >= origin) return OK;
    if (before == NONE) self.found++;
  }
  store<u8>(self.origins + id, origin);
  return readNumbers(from + length, end, self.rows + ((<usize>id * self.stride) << 2));
}

/** Reads the numbers of a line, which has as many as it should. */
function readNumbers(from: usize, end: usize, to: usize): i32 {
  while (true) {
    while (from < end && isBlank(load<u8>(from))) from++;
    if (from == end) return OK;
    const next = fieldEnd(from, end);
    const value = numberOf(from, next);
    if (!(abs<f64>(value) < 1e18)) return refuse(VECTORS_BAD_NUMBER, 0);
    store<f32>(to, <f32>value);
    to += 4;
    from = next;
  }
}

/** Whether the field behind the blanks at `from` is a number. */
function isNumber(from: usize, end: usize): bool {
  while (from < end && isBlank(load<u8>(from))) from++;
  return !isNaN<f64>(numberOf(from, fieldEnd(from, end)));
}

function isDigit(byte: u32): bool {
  return byte - 0x30 < 10;
}

/** The whole number in [from, end), blanks behind it left out; -1 when it is none. */
function wholeNumber(from: usize, end: usize): f64 {
  while (end > from && isBlank(load<u8>(end - 1))) end--;
  if (from == end) return -1;
  let value: f64 = 0;
  for (; from < end; from++) {
    const byte = <u32>load<u8>(from);
    if (!isDigit(byte)) return -1;
    value = value * 10 + <f64>(byte - 0x30);
  }
  return value;
}

/** The number in [from, end), such as -1.5e-3; NaN when it is none. The same bits everywhere, though not always the nearest f32. */
function numberOf(from: usize, end: usize): f64 {
  let sign: f64 = 1;
  if (from < end && (load<u8>(from) == 0x2d || load<u8>(from) == 0x2b)) {
    if (load<u8>(from) == 0x2d) sign = -1;
    from++;
  }
  let value: f64 = 0;
  let digits: u32 = 0;
  let power: i32 = 0;
  let isFraction = false;
  for (; from < end; from++) {
    const byte = <u32>load<u8>(from);
    if (byte == 0x2e && !isFraction) isFraction = true;
    else if (isDigit(byte)) {
      digits++;
      // Further digits change nothing.
      if (value < 1e16) {
        value = value * 10 + <f64>(byte - 0x30);
        if (isFraction) power--;
      } else if (!isFraction) power++;
    } else break;
  }
  if (digits == 0) return NaN;
  if (from < end) {
    if ((load<u8>(from) | 0x20) != 0x65) return NaN;
    from++;
    const isNegative = from < end && load<u8>(from) == 0x2d;
    if (from < end && (isNegative || load<u8>(from) == 0x2b)) from++;
    const exponent = wholeNumber(from, end);
    if (exponent < 0) return NaN;
    power += (isNegative ? -1 : 1) * <i32>min<f64>(exponent, 1000);
  }
  for (; power > 0 && value != 0 && value < 1e30; power--) value *= 10;
  for (; power < 0 && value > 1e-60; power++) value /= 10;
  return power < 0 ? 0 : sign * value;
}

/**
 * Ends reading: words with a vector become the last ones of the vocabulary, and their vectors get `width` numbers, those of the
 * embedding. Returns a status; ERR_BAD_VECTORS: see vectorsDefect.
 */
export function finishVectors(width: u32): i32 {
  if (!pretrained) return ERR_BAD_STATE;
  const self = current();
  if (self.dimensions == 0) return refuse(VECTORS_NO_NUMBERS, 0);
  if (self.lines < self.declared) return refuse(VECTORS_CUT_OFF, self.lines);
  const total = wordCount();
  const offsets = allocate((<usize>total + 1) << 2);
  const bytes = allocate(words.bytes);
  if (!offsets || !bytes) return ERR_OUT_OF_MEMORY;
  const rowBytes = (<usize>self.stride) << 2;
  let unknown: u32 = 0;
  let placed: u32 = 0;
  self.count = 0;
  for (let pass: u32 = 0; pass < 2; pass++) {
    if (pass == 1) self.first = placed + 1;
    for (let id: u32 = 1; id <= total; id++) {
      if ((load<u8>(self.origins + id) != NONE) != (pass == 1)) continue;
      const start = load<u32>(offsets + ((<usize>placed) << 2));
      memory.copy(bytes + start, wordAddress(id), wordLength(id));
      placed++;
      store<u32>(offsets + ((<usize>placed) << 2), start + wordLength(id));
      if (id == draft.header.unknownId) unknown = placed;
      if (pass == 0) continue;
      memory.copy(self.rows + <usize>self.count * rowBytes, self.rows + <usize>id * rowBytes, rowBytes);
      self.count++;
    }
  }
  setVocabulary(offsets, bytes, total, unknown);
  return reduce(width) ? OK : ERR_OUT_OF_MEMORY;
}

export function vectorsDefect(): u32 {
  return current().defect;
}

/** Numbers on the line with the defect, or lines with a word when there are too few. */
export function vectorsNumbers(): u32 {
  return current().numbers;
}

/** Lines read. */
export function vectorsLine(): u32 {
  return current().line;
}

export function vectorsDimensions(): u32 {
  return current().dimensions;
}

/** Words by the header; 0 = there is none. */
export function vectorsDeclared(): u32 {
  return current().declared;
}

/** Words of the texts that have a vector. */
export function vectorsFound(): u32 {
  return current().found;
}

/** Other words that were added to the vocabulary. */
export function vectorsAdded(): u32 {
  return current().count - current().found;
}

/** Further vectors of words that had one, which are left out. */
export function vectorsRepeated(): u32 {
  return current().repeated;
}

/** The first line with such a vector. */
export function vectorsRepeatedLine(): u32 {
  return current().repeatedLine;
}

/** Writes the vectors to the rows of a network just initialized, if they have its width, and keeps these rows from learning. */
export function placeVectors(): void {
  if (!pretrained) return;
  const self = current();
  if (self.width != network.width) return;
  for (let i: u32 = 0; i < self.count; i++) {
    const to = network.parameters + ((<usize>(self.first + i) * network.width) << 2);
    copyRow(to, self.reduced + ((<usize>i * self.width) << 2), self.width);
    scaleRow(to, LENGTH, self.width);
  }
  network.state.frozenFirst = self.first;
  network.state.frozenCount = self.count;
}

/** The vector of a word, f32[vectorWidth()] of length 1; 0 = it has none. */
export function vectorOf(id: u32): usize {
  if (!pretrained) return 0;
  const self = current();
  const index = id - self.first;
  return index < self.count ? self.reduced + ((<usize>index * self.width) << 2) : 0;
}

/** Numbers of vectorOf; 0 = no word has a vector. */
export function vectorWidth(): u32 {
  return pretrained ? current().width : 0;
}

/** Makes vectors of `width` numbers: centred, cut to the directions in which they differ most, if need be, and of length 1. False when memory is refused. */
function reduce(width: u32): bool {
  const self = current();
  self.width = width;
  self.reduced = allocate((<usize>self.count * width) << 2);
  if (!self.reduced) return false;
  const mark = arenaTop();
  centre();
  const isReduced = self.dimensions > width;
  const basis = isReduced ? widestDirections(width) : 0;
  if (isReduced && !basis) return false;
  for (let i: u32 = 0; i < self.count; i++) {
    const from = self.rows + ((<usize>i * self.stride) << 2);
    const to = self.reduced + ((<usize>i * width) << 2);
    if (isReduced)
      for (let k: u32 = 0; k < width; k++)
        store<f32>(to + ((<usize>k) << 2), dot(from, basis + ((<usize>k * self.stride) << 2), self.stride));
    else copyRow(to, from, self.dimensions);
    const square = sumOfSquares(to, width);
    if (square > 0) scaleRow(to, <f32>1 / sqrt<f32>(square), width);
  }
  arenaRelease(mark);
  return true;
}

/** Makes the mean of all rows 0. */
function centre(): void {
  const self = current();
  const bytes = (<usize>self.stride) << 2;
  const mean = self.rows + <usize>self.count * bytes; // the row of id 0, or one that has moved
  memory.fill(mean, 0, bytes);
  for (let i: u32 = 0; i < self.count; i++) addRow(mean, self.rows + <usize>i * bytes, self.stride);
  scaleRow(mean, <f32>1 / <f32>self.count, self.stride);
  for (let i: u32 = 0; i < self.count; i++) addScaledRow(self.rows + <usize>i * bytes, mean, -1, self.stride);
}

/** f32 (width, stride): orthonormal directions in which the rows differ nearly most, by subspace iteration; 0 when memory is refused. */
function widestDirections(width: u32): usize {
  const self = current();
  const stride = self.stride;
  const bytes = (<usize>stride) << 2;
  const covariance = allocate(<usize>stride * bytes);
  const basis = allocate(<usize>width * bytes);
  const next = allocate(<usize>width * bytes);
  const random = changetype<Random>(allocate(offsetof<Random>()));
  if (!covariance || !basis || !next || !changetype<usize>(random)) return 0;
  for (let i: u32 = 0; i < self.count; i++) {
    const row = self.rows + <usize>i * bytes;
    for (let k: u32 = 0; k < stride; k++)
      addScaledRow(covariance + <usize>k * bytes, row, load<f32>(row + ((<usize>k) << 2)), stride);
  }
  randomSeed(random, 1);
  for (let p = basis, end = basis + <usize>width * bytes; p < end; p += 4) store<f32>(p, randomNormal(random));
  for (let step: u32 = 0; step < REDUCING_STEPS; step++) {
    memory.fill(next, 0, <usize>width * bytes);
    for (let d: u32 = 0; d < width; d++)
      for (let k: u32 = 0; k < stride; k++)
        addScaledRow(
          next + <usize>d * bytes,
          covariance + <usize>k * bytes,
          load<f32>(basis + <usize>d * bytes + ((<usize>k) << 2)),
          stride,
        );
    memory.copy(basis, next, <usize>width * bytes);
    orthonormalize(basis, width, stride);
  }
  return basis;
}
