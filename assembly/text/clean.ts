// Cleaning: UTF-8 bytes [start, end) -> code points of the cleaned text, one a call, by the
// CLEAN_* flags of the model. Called by tokenizer.ts in place of utf8.ts when a model cleans,
// in training and in use. Reads forward in linear time; its state is a few numbers, no text.
// The steps, each of which works on the result of the one before:
//
//   NORMALIZE  drops what shows nothing: controls, default-ignorable code points, terminal
//            sequences; turns apostrophes into '; makes symbols and emoji, with repeats, one
//            CLEANED_SYMBOL; and tells tokenizer.ts which code points are punctuation
//   MARKUP   <tag …>, <!-- … -->, <script> and <style> with their content -> one space;
//            &amp; &lt; &gt; &quot; &apos; &nbsp; &#8364; &#x20ac; -> the character
//   URLS     http://… https://… www.… -> CLEANED_URL; name@host.tld -> CLEANED_EMAIL.
//            Found in the original bytes; consist of ASCII and two-byte letters
//   WIDTH    full-width ASCII, the ideographic space and half-width katakana with their
//            voicing marks -> normal width, as NFKC does; no other compatibility characters
//   COMPOSE  a letter and marks behind it -> one code point, as far as compose.ts has it
//   ACCENTS  Latin letters -> ASCII: the table below, and combining marks behind them
//   NUMBERS  each ASCII digit -> 0, and of a run the first four only
//   REPEATS  the same letter, in either case, three times or more -> twice. A letter is
//            an ASCII one or anything beyond ASCII
//   PUNCTUATION  a sign, with repeats -> CLEANED_SYMBOL: all of ASCII that is no letter, digit,
//            space or apostrophe, and punctuation beyond ASCII
import {
  CLEAN_ACCENTS,
  CLEAN_COMPOSE,
  CLEAN_MARKUP,
  CLEAN_NORMALIZE,
  CLEAN_NUMBERS,
  CLEAN_PUNCTUATION,
  CLEAN_REPEATS,
  CLEAN_URLS,
  CLEAN_WIDTH,
} from "../abi";
import { composed, unit } from "./compose";
import { FINAL_SIGMA, SMALL_SIGMA, isCased, isCaseIgnorable, lowercase } from "./lowercase";
import {
  KEYCAP,
  NON_JOINER,
  PUNCTUATION,
  SYMBOL,
  WORD,
  ZERO_WIDTH_JOINER,
  isApostrophe,
  isInvisible,
  isJoined,
  signOf,
} from "./signs";
import { REPLACEMENT, utf8CodePoint, utf8Decode, utf8DecodeBefore, utf8Encode, utf8Length } from "./utf8";

/** Results of cleanNext besides code points, and larger than any of these. */
export const CLEANED_URL: u32 = 0x110000;
export const CLEANED_EMAIL: u32 = 0x110001;
/** A symbol, an emoji or a sign of PUNCTUATION, with its repeats: the token is the symbolBytes bytes at `symbol`. */
export const CLEANED_SYMBOL: u32 = 0x110002;
/** Only inside: a terminal sequence. */
const CLEANED_SEQUENCE: u32 = 0x110003;
export const END: u32 = 0xffffffff;
export const LAST_CODE_POINT: u32 = 0x10ffff;


@unmanaged
export class Cleaner {
  flags: u32; // CLEAN_*
  start: usize; // the text: [start, end), read up to `cursor`
  cursor: usize;
  end: usize;
  at: usize; // where in the text the last code point begins
  item: usize; // where in the text the last one that was read begins, before composing
  prior: u32; // that one
  edge: usize; // where in the text what is read now begins: before all that shows nothing
  last: u32; // the last code point
  before: u32; // the one before it
  sign: u32; // class of the last code point beyond ASCII, from signs.ts
  symbol: usize; // u8[2 MAX_SYMBOL_BYTES]: the last symbol, and one to compare it with
  symbolBytes: u32;
  isAgain: u32; // cleanNext returns it once more
  second: u32; // second letter when one became two, returned next; 0 = none
  digits: u32; // digits of the present run that were returned, at most MAX_DIGITS
  repeated: u32; // the last letter, lower-cased; 0 = the last code point was none
  repeats: u32; // how often it came in a row
  isLatin: u32; // the last code point is a Latin letter: marks behind it are dropped
  context: u32; // last code point before `last` that is not case-ignorable: for the final sigma
  // Where in the text the rest has no such end; 0 = not known. There it is not searched again: otherwise a text of many
  // openings would take quadratic time. Looking ahead may find that before the cursor is there.
  noComment: usize;
  noScript: usize;
  noStyle: usize;
  noSequence: usize;
}

/** Of longer joined emoji only the beginning is kept; those in use have at most 28 bytes. */
const MAX_SYMBOL_BYTES: u32 = 64;

const MAX_DIGITS: u32 = 4;
const MAX_REPEATS: u32 = 2;
const APOSTROPHE: u32 = 0x27;
const ESCAPE: u32 = 0x1b;
/** Bit i: characters that begin with the byte 0xc0 + i may be composed with the one before them, and may be ones that show nothing. */
const COMPOSED_LEADS: u64 = 0xb02003000; // CC CD D9 E0 E1 E3
const INVISIBLE_LEADS: u64 = 0x0009800e01002004; // C2 CD D8 E1 E2 E3 EF F0 F3
const SPACE: u32 = 0x20;
const HALF_WIDTH_LEAD: u64 = 0x800000000000; // EF
/** A character reference has at most so many digits. */
const MAX_REFERENCE_DIGITS: u32 = 8;

/**
 * Base letters of 128 code points each: of letters that Unicode decomposes, and of the stroked and joined
 * ones of Latin-1 and Latin Extended-A. "." = no base letter; a digit = the index of two letters in PAIRS.
 */
const LATIN_C0: string =
  "AAAAAA0CEEEEIIIIDNOOOOO.OUUUUY32aaaaaa1ceeeeiiiidnooooo.ouuuuy4yAaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIi56JjKk.LlLlLlL";
const LATIN_140: string =
  "lLlNnNnNnn..OoOoOo78RrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZzZzZzs................................Oo.............Uu...............";
const LATIN_1C0: string =
  ".............AaIiOoUuUuUuUuUu.AaAa....GgKkOoOo..j...Gg..NnAa....AaAaEeEeIiIiOoOoRrRrUuUuSsTt..Hh......AaEeOoOoOoOoYy............";
const LATIN_1E00: string =
  "AaBbBbBbCcDdDdDdDdDdEeEeEeEeEeFfGgHhHhHhHhHhIiIiKkKkKkLlLlLlLlMmMmMmNnNnNnNnOoOoOoOoPpPpRrRrRrRrSsSsSsSsSsTtTtTtTtUuUuUuUuUuVvVv";
const LATIN_1E80: string =
  "WwWwWwWwWwXxXxYyZzZzZzhtwy....9.AaAaAaAaAaAaAaAaAaAaAaAaEeEeEeEeEeEeEeEeIiIiOoOoOoOoOoOoOoOoOoOoOoOoUuUuUuUuUuUuUuYyYyYyYy......";
const PAIRS: string = "AEaessTHthIJijOEoeSS";

/** Normal katakana and punctuation of U+FF61 ... U+FF9F. */
const KATAKANA: StaticArray<u16> = [
  0x3002, 0x300c, 0x300d, 0x3001, 0x30fb, 0x30f2, 0x30a1, 0x30a3, 0x30a5, 0x30a7, 0x30a9, 0x30e3, 0x30e5, 0x30e7,
  0x30c3, 0x30fc, 0x30a2, 0x30a4, 0x30a6, 0x30a8, 0x30aa, 0x30ab, 0x30ad, 0x30af, 0x30b1, 0x30b3, 0x30b5, 0x30b7,
  0x30b9, 0x30bb, 0x30bd, 0x30bf, 0x30c1, 0x30c4, 0x30c6, 0x30c8, 0x30ca, 0x30cb, 0x30cc, 0x30cd, 0x30ce, 0x30cf,
  0x30d2, 0x30d5, 0x30d8, 0x30db, 0x30de, 0x30df, 0x30e0, 0x30e1, 0x30e2, 0x30e4, 0x30e6, 0x30e8, 0x30e9, 0x30ea,
  0x30eb, 0x30ec, 0x30ed, 0x30ef, 0x30f3, 0x3099, 0x309a,
];

/** Bytes to allocate for a Cleaner: the Cleaner itself, the copy with which it looks ahead, and the room for symbols. */
export function cleanerBytes(): usize {
  return 2 * offsetof<Cleaner>() + 2 * <usize>MAX_SYMBOL_BYTES;
}

/** Begins a text, which must stay in place. */
export function cleanStart(self: Cleaner, flags: u32, start: usize, end: usize): void {
  // In a loop, which takes less than memory.fill for so few bytes.
  for (let p = changetype<usize>(self), last = p + offsetof<Cleaner>(); p < last; p += 4) store<u32>(p, 0);
  self.flags = flags;
  self.start = start;
  self.cursor = start;
  self.end = end;
  self.symbol = changetype<usize>(self) + 2 * offsetof<Cleaner>();
}

/** The next code point, CLEANED_URL, CLEANED_EMAIL, CLEANED_SYMBOL or END. */
export function cleanNext(self: Cleaner): u32 {
  if (self.isAgain) {
    self.isAgain = 0;
    return self.last;
  }
  if (!isCaseIgnorable(self.last)) self.context = self.last;
  self.before = self.last;
  self.last = nextCleaned(self);
  return self.last;
}

/**
 * Reads the ASCII sign of PUNCTUATION at `at`, with repeats, in place of cleanNext: it is the symbol then. Returns where
 * it ends; 0 when what is behind may change it, and nothing is read. The text up to `at` is as for cleanSkip, but may be empty.
 */
export function cleanSign(self: Cleaner, at: usize): usize {
  const sign = load<u8>(at);
  let after = at + 1;
  while (after < self.end && load<u8>(after) == sign) after++;
  if (mayChangeBefore(self.flags, after, self.end)) return 0;
  if (self.cursor != at) cleanSkip(self, at);
  if (!isCaseIgnorable(self.last)) self.context = self.last;
  self.before = self.last;
  self.last = CLEANED_SYMBOL;
  self.prior = sign;
  self.at = at;
  self.cursor = after;
  self.sign = 0;
  self.symbolBytes = 1;
  store<u8>(self.symbol, sign);
  return after;
}

/** Goes on at `to`: the code points up to there, at least one, are such as no step changes, and have been read elsewhere. */
export function cleanSkip(self: Cleaner, to: usize): void {
  if (!isCaseIgnorable(self.last)) self.context = self.last;
  const from = self.cursor;
  self.last = utf8CodePoint(utf8DecodeBefore(from, to));
  self.prior = self.last;
  self.cursor = to;
  for (let p = to; p > from;) {
    const decoded = utf8DecodeBefore(from, p);
    if (!isCaseIgnorable(utf8CodePoint(decoded))) {
      self.context = utf8CodePoint(decoded);
      return;
    }
    p -= utf8Length(decoded);
  }
}

/** Whether what begins at `at`, other than the & of a character reference, may change the character before it. */
export function mayChangeBefore(flags: u32, at: usize, end: usize): bool {
  if (at == end) return false;
  const byte = <u32>load<u8>(at);
  if (byte < 0x80) return (byte < 0x20 || byte == 0x7f) && flags & CLEAN_NORMALIZE && isInvisible(byte);
  const leads =
    (flags & CLEAN_COMPOSE ? COMPOSED_LEADS : 0) |
    (flags & CLEAN_NORMALIZE ? INVISIBLE_LEADS : 0) |
    (flags & CLEAN_WIDTH ? HALF_WIDTH_LEAD : 0);
  if (byte < 0xc0 || !((leads >>> (byte & 0x3f)) & 1)) return false;
  // Of frequent letters, not so U+0600-0612, U+061D-0652, U+065D-067F, U+0E00-0FFF and U+1E00-1FFF.
  const second: u32 = at + 1 < end ? load<u8>(at, 1) : 0;
  return (byte & ~1) == 0xd8 ? second - 0x93 < 10 : (byte & ~1) != 0xe0 || second < 0xb8;
}

/** Makes cleanNext return the last code point once more. */
export function cleanAgain(self: Cleaner): void {
  self.isAgain = 1;
}

/** The small sigma for the capital one just read; as lowercaseSigma, but in the cleaned text. */
export function cleanSigma(self: Cleaner): u32 {
  if (!isCased(self.context)) return SMALL_SIGMA;
  const ahead = lookAhead(self);
  let codePoint: u32 = 0;
  do codePoint = cleanNext(ahead);
  while (isCaseIgnorable(codePoint));
  return isCased(codePoint) ? SMALL_SIGMA : FINAL_SIGMA;
}

/** The code point behind the last one, if it and the one before the last may be letters or digits of a word; else 0. */
export function cleanInside(self: Cleaner): u32 {
  if (!isOfWord(self.before)) return 0;
  const next = cleanNext(lookAhead(self));
  return isOfWord(next) ? next : 0;
}

function lookAhead(self: Cleaner): Cleaner {
  const ahead = changetype<usize>(self) + offsetof<Cleaner>();
  memory.copy(ahead, changetype<usize>(self), offsetof<Cleaner>());
  return changetype<Cleaner>(ahead);
}

function isOfWord(codePoint: u32): bool {
  if (codePoint < 0x80) return isAlphanumeric(codePoint);
  return codePoint <= LAST_CODE_POINT && signOf(codePoint) == WORD;
}

function nextCleaned(self: Cleaner): u32 {
  const flags = self.flags;
  while (true) {
    let codePoint = self.second;
    if (codePoint) self.second = 0;
    else {
      codePoint = readComposed(self);
      if (flags & (CLEAN_NORMALIZE | CLEAN_PUNCTUATION)) {
        self.sign = signOf(codePoint);
        const maySymbol = flags & CLEAN_NORMALIZE && (self.sign == SYMBOL || isKeycapBase(self, codePoint));
        if (maySymbol && readSymbol(self, codePoint)) codePoint = CLEANED_SYMBOL;
        else if (flags & CLEAN_PUNCTUATION && isPunctuation(self, codePoint)) {
          readRepeats(self, codePoint);
          codePoint = CLEANED_SYMBOL;
        }
      }
      if (codePoint > LAST_CODE_POINT) {
        self.digits = 0;
        self.repeated = 0;
        self.isLatin = 0;
        return codePoint;
      }
      if (flags & CLEAN_ACCENTS) {
        if (self.isLatin && isMark(codePoint)) continue;
        if (codePoint >= 0xc0) codePoint = baseLetter(self, codePoint);
        self.isLatin = isLetter(codePoint) ? 1 : 0;
      }
    }
    if (flags & CLEAN_NUMBERS) {
      if (!isDigit(codePoint)) self.digits = 0;
      else if (self.digits == MAX_DIGITS) continue;
      else {
        self.digits++;
        codePoint = 0x30;
      }
    }
    if (flags & CLEAN_REPEATS && isOneTooMany(self, codePoint)) continue;
    return codePoint;
  }
}

/** A character together with what is composed with it, or an item. */
function readComposed(self: Cleaner): u32 {
  let codePoint = readNormal(self);
  self.at = self.item;
  if (!(self.flags & CLEAN_COMPOSE)) return codePoint;
  while (codePoint <= LAST_CODE_POINT && mayCompose(self)) {
    const end = self.cursor;
    const prior = self.prior;
    const whole = composed(codePoint, readNormal(self));
    if (!whole) {
      self.cursor = end;
      self.prior = prior;
      break;
    }
    codePoint = whole;
  }
  return codePoint;
}

/** Whether a mark may be next: most characters are none, and need not be read twice. */
// @ts-ignore: decorator
@inline
function mayCompose(self: Cleaner): bool {
  if (mayChangeBefore(self.flags, self.cursor, self.end)) return true;
  return (self.flags & CLEAN_MARKUP) != 0 && self.cursor < self.end && load<u8>(self.cursor) == 0x26;
}

/** A character in its normal width, or an item. */
function readNormal(self: Cleaner): u32 {
  const codePoint = readItem(self);
  return self.flags & CLEAN_WIDTH && codePoint - 0x3000 <= LAST_CODE_POINT - 0x3000
    ? normalWidth(self, codePoint)
    : codePoint;
}

/**
 * Reads a character, or a longer piece of the text that becomes a space, CLEANED_URL or CLEANED_EMAIL.
 * With NORMALIZE what shows nothing is skipped; joiners among it are one joiner where that shows.
 */
function readItem(self: Cleaner): u32 {
  // Behind a joiner what shows nothing has been read already.
  if (self.item != self.cursor) self.edge = self.cursor;
  self.item = self.cursor;
  if (!(self.flags & CLEAN_NORMALIZE)) return readRaw(self);
  let joiner: u32 = 0;
  while (true) {
    const codePoint = readRaw(self);
    if (isInvisible(codePoint) || codePoint == CLEANED_SEQUENCE) {
      if (codePoint == ZERO_WIDTH_JOINER || (codePoint == NON_JOINER && !joiner)) joiner = codePoint;
      self.item = self.cursor;
      continue;
    }
    if (joiner && isJoint(joiner, self.prior, codePoint)) {
      // Reads the code point again behind the joiner.
      self.cursor = self.item;
      self.prior = joiner;
      return joiner;
    }
    self.prior = codePoint;
    return isApostrophe(codePoint) ? APOSTROPHE : codePoint;
  }
}

/** Whether a joiner between two code points shows: it shapes letters, or makes one emoji of two. */
function isJoint(joiner: u32, before: u32, after: u32): bool {
  if (isJoined(before)) return joiner == ZERO_WIDTH_JOINER || isJoined(after);
  return joiner == ZERO_WIDTH_JOINER && (isTone(before) || isPicture(before)) && isPicture(after);
}

/** A symbol that may be joined to another: no regional indicator, and no full-width form of an ASCII symbol. */
function isPicture(codePoint: u32): bool {
  return signOf(codePoint) == SYMBOL && codePoint - 0xff00 >= 0x60 && !isRegional(codePoint);
}

/** Reads the same, with CLEANED_SEQUENCE for a terminal sequence. */
function readRaw(self: Cleaner): u32 {
  const at = self.cursor;
  const end = self.end;
  if (at == end) return END;
  const byte = <u32>load<u8>(at);
  if (byte >= 0x80) {
    const decoded = utf8Decode(at, end);
    self.cursor = at + utf8Length(decoded);
    return utf8CodePoint(decoded);
  }
  if (byte == ESCAPE && self.flags & CLEAN_NORMALIZE) {
    const after = sequenceEnd(self, at);
    if (after) {
      self.cursor = after;
      return CLEANED_SEQUENCE;
    }
  }
  if (self.flags & CLEAN_MARKUP) {
    if (byte == 0x3c) {
      const after = tagEnd(self, at);
      if (after) {
        self.cursor = after;
        return SPACE;
      }
    } else if (byte == 0x26) {
      const reference = readReference(at + 1, end);
      if (reference) {
        self.cursor = at + 1 + utf8Length(reference);
        return utf8CodePoint(reference);
      }
    }
  }
  if (self.flags & CLEAN_URLS) {
    const before: u32 = self.edge > self.start ? load<u8>(self.edge - 1) : 0;
    let after: usize = 0;
    if (!isNameByte(before) && (byte | 0x20) - 0x68 < 16) after = urlEnd(at, end);
    if (after) {
      self.cursor = after;
      return CLEANED_URL;
    }
    if (!isAddressByte(before) && isAddressByte(byte)) after = emailEnd(at, end);
    if (after) {
      self.cursor = after;
      return CLEANED_EMAIL;
    }
  }
  self.cursor = at + 1;
  return byte;
}

// --- symbols and terminal sequences ------------------------------------------------

/** Whether the code point just read is a token by PUNCTUATION. */
function isPunctuation(self: Cleaner, codePoint: u32): bool {
  if (codePoint < 0x80) return isAsciiPunctuation(codePoint);
  return self.sign == PUNCTUATION && !isSpace(codePoint);
}

export function isAsciiPunctuation(byte: u32): bool {
  return byte - 0x21 < 0x5e && !isAlphanumeric(byte) && byte != APOSTROPHE && byte != 0x60;
}

/** \p{Z} beyond ASCII, and U+0085. */
function isSpace(codePoint: u32): bool {
  if (codePoint - 0x2000 < 11 || codePoint - 0x2028 < 2) return true;
  return (
    codePoint == 0x85 ||
    codePoint == 0xa0 ||
    codePoint == 0x1680 ||
    codePoint == 0x202f ||
    codePoint == 0x205f ||
    codePoint == 0x3000
  );
}

/** Makes a sign `symbol`, and reads all repeats of it. */
function readRepeats(self: Cleaner, sign: u32): void {
  self.symbolBytes = utf8Encode(sign, self.symbol);
  const at = self.at;
  while (true) {
    const end = self.cursor;
    const prior = self.prior;
    if (readComposed(self) == sign) continue;
    self.cursor = end;
    self.prior = prior;
    self.at = at;
    return;
  }
}

/** Whether a keycap may stand behind the code point just read. */
// @ts-ignore: decorator
@inline
function isKeycapBase(self: Cleaner, codePoint: u32): bool {
  if (!isDigit(codePoint) && codePoint != 0x23 && codePoint != 0x2a) return false;
  return mayCompose(self);
}

function isTone(codePoint: u32): bool {
  return codePoint - 0x1f3fb < 5;
}

function isRegional(codePoint: u32): bool {
  return codePoint - 0x1f1e6 < 26;
}

/** Reads the rest of the symbol that begins with `first`, and all repeats of it, into `symbol`. False for a digit, # or * without a keycap. */
function readSymbol(self: Cleaner, first: u32): bool {
  self.symbolBytes = readSequence(self, first, self.symbol);
  if (!self.symbolBytes) return false;
  const at = self.at;
  const again = self.symbol + MAX_SYMBOL_BYTES;
  while (true) {
    const end = self.cursor;
    const prior = self.prior;
    const next = readComposed(self);
    const bytes = next == first ? readSequence(self, next, again) : 0;
    if (bytes != self.symbolBytes || memory.compare(self.symbol, again, bytes) != 0) {
      self.cursor = end;
      self.prior = prior;
      self.at = at;
      return true;
    }
  }
}

/**
 * The emoji that begins with `first`: a pair of regional indicators, a keycap, a flag with tags, or symbols
 * that are joined, without their skin tones. Writes at most MAX_SYMBOL_BYTES at `to`; returns how many.
 */
function readSequence(self: Cleaner, first: u32, to: usize): u32 {
  let bytes = utf8Encode(first, to);
  if (first == BLACK_FLAG) bytes += readTags(self, to + bytes);
  while (true) {
    const end = self.cursor;
    const prior = self.prior;
    const next = readNormal(self);
    if (first < 0x80 || isRegional(first)) {
      if (first < 0x80 ? next == KEYCAP : isRegional(next)) return bytes + utf8Encode(next, to + bytes);
      if (first < 0x80) bytes = 0;
    } else if (isTone(next)) continue;
    else if (next == ZERO_WIDTH_JOINER) {
      const joined = readComposed(self);
      if (bytes + 8 <= MAX_SYMBOL_BYTES) {
        bytes += utf8Encode(next, to + bytes);
        bytes += utf8Encode(joined, to + bytes);
      }
      continue;
    }
    self.cursor = end;
    self.prior = prior;
    return bytes;
  }
}

const BLACK_FLAG: u32 = 0x1f3f4;
const FIRST_TAG: u32 = 0xe0020;
const LAST_TAG: u32 = 0xe007f;
/** ISO 3166-2 has at most two letters and three more characters, and the last tag ends them. */
const MAX_TAGS: u32 = 6;

/** Reads the tags behind a black flag, if LAST_TAG ends them; returns the bytes written. */
function readTags(self: Cleaner, to: usize): u32 {
  let p = self.cursor;
  for (let count: u32 = 1; count <= MAX_TAGS; count++) {
    const decoded = utf8Decode(p, self.end);
    const tag = utf8CodePoint(decoded);
    if (tag < FIRST_TAG || tag > LAST_TAG) return 0;
    utf8Encode(tag, to + 4 * (count - 1));
    p += utf8Length(decoded);
    if (tag == LAST_TAG) {
      self.cursor = p;
      return 4 * count;
    }
  }
  return 0;
}

/** Address behind the terminal sequence at `at`, which is ESC (ECMA-48); 0 when it is not complete. */
function sequenceEnd(self: Cleaner, at: usize): usize {
  const end = self.end;
  let p = at + 1;
  const second: u32 = p < end ? load<u8>(p) : 0;
  // ] P X ^ _ begin a text up to BEL or ESC backslash, such as a link's address
  if (second == 0x5d || second == 0x50 || second == 0x58 || second == 0x5e || second == 0x5f) {
    if (self.noSequence && at >= self.noSequence) return 0;
    for (; p < end; p++) {
      const byte = <u32>load<u8>(p);
      if (byte == 0x07) return p + 1;
      if (byte == ESCAPE && p + 1 < end && load<u8>(p, 1) == 0x5c) return p + 2;
    }
    self.noSequence = at;
    return 0;
  }
  const isControl = second == 0x5b; // [
  if (isControl) p++;
  while (p < end && <u32>load<u8>(p) - 0x20 < (isControl ? <u32>0x20 : <u32>0x10)) p++;
  const last: u32 = p < end ? load<u8>(p) : 0;
  return last >= (isControl ? <u32>0x40 : <u32>0x30) && last < 0x7f ? p + 1 : 0;
}

// --- markup ----------------------------------------------------------------------

/** Address behind the tag or comment at `at`; of <script> and <style>, the address of the end tag; 0 when there is no tag. */
function tagEnd(self: Cleaner, at: usize): usize {
  const end = self.end;
  let close: usize = 0;
  if (startsWith(at, end, "<!--", 0)) close = findOnce(self, offsetof<Cleaner>("noComment"), at + 4, "-->", 0);
  if (close) return close + 3;
  if (at + 1 >= end) return 0;
  const second = <u32>load<u8>(at + 1);
  if (!isLetter(second) && second != 0x2f && second != 0x21 && second != 0x3f) return 0;
  let p = at + 2;
  while (p < end && load<u8>(p) != 0x3e) {
    if (load<u8>(p) == 0x3c) return 0;
    p++;
  }
  if (p == end) return 0;
  p++;
  // The end tag of a script or style; behind the tag itself when there is none.
  if (isElement(at + 1, end, "script")) close = findOnce(self, offsetof<Cleaner>("noScript"), p, "</script", 0x20);
  else if (isElement(at + 1, end, "style")) close = findOnce(self, offsetof<Cleaner>("noStyle"), p, "</style", 0x20);
  return close ? close : p;
}

function isElement(name: usize, end: usize, wanted: string): bool {
  if (!startsWith(name, end, wanted, 0x20)) return false;
  const after = <u32>load<u8>(name + <usize>wanted.length); // a tag has its ">" behind the name
  return !isLetter(after) && !isDigit(after);
}

/** Whether ASCII `wanted`, in small letters where `fold` is 0x20, stands at `at`. */
function startsWith(at: usize, end: usize, wanted: string, fold: u32): bool {
  if (end - at < <usize>wanted.length) return false;
  for (let i = 0; i < wanted.length; i++) {
    const byte = <u32>load<u8>(at + <usize>i);
    if ((isLetter(byte) ? byte | fold : byte) != unit(wanted, i)) return false;
  }
  return true;
}

/** Address of the first `wanted` from `from` on; 0 when there is none, which is kept in the field at offset `none`. */
function findOnce(self: Cleaner, none: usize, from: usize, wanted: string, fold: u32): usize {
  const field = changetype<usize>(self) + none;
  const known = load<usize>(field);
  if (known && from >= known) return 0;
  for (let p = from; p < self.end; p++) if (startsWith(p, self.end, wanted, fold)) return p;
  store<usize>(field, from);
  return 0;
}

/** The character reference behind "&": code point and length, packed as by utf8Decode; 0 when there is none. */
function readReference(at: usize, end: usize): u32 {
  if (at < end && load<u8>(at) == 0x23) return readNumber(at + 1, end);
  if (startsWith(at, end, "amp;", 0)) return packed(0x26, 4);
  if (startsWith(at, end, "lt;", 0)) return packed(0x3c, 3);
  if (startsWith(at, end, "gt;", 0)) return packed(0x3e, 3);
  if (startsWith(at, end, "quot;", 0)) return packed(0x22, 5);
  if (startsWith(at, end, "apos;", 0)) return packed(0x27, 5);
  if (startsWith(at, end, "nbsp;", 0)) return packed(SPACE, 5);
  return 0;
}

/** "8364;" or "x20ac;". Numbers that are no code point become U+FFFD, as in HTML. */
function readNumber(at: usize, end: usize): u32 {
  const isHex = at < end && ((<u32>load<u8>(at)) | 0x20) == 0x78;
  const first = isHex ? at + 1 : at;
  let p = first;
  let value: u32 = 0;
  for (; p < end && p - first <= <usize>MAX_REFERENCE_DIGITS; p++) {
    const byte = <u32>load<u8>(p);
    if (isDigit(byte)) value = value * (isHex ? 16 : 10) + byte - 0x30;
    else if (isHex && (byte | 0x20) - 0x61 < 6) value = (value << 4) + (byte | 0x20) - 0x57;
    else break;
  }
  if (p == first || p - first > <usize>MAX_REFERENCE_DIGITS || p == end || load<u8>(p) != 0x3b) return 0;
  if (value == 0 || value > LAST_CODE_POINT || (value & 0xfffff800) == 0xd800) value = REPLACEMENT;
  // "#" and ";" count too.
  return packed(value, <u32>(p - at) + 2);
}

function packed(codePoint: u32, length: u32): u32 {
  return codePoint | (length << 24);
}

// --- addresses ---------------------------------------------------------------------

/** Address behind the URL at `at`, without the punctuation that ends a sentence; 0 when there is none. */
function urlEnd(at: usize, end: usize): usize {
  let p = at;
  if (startsWith(p, end, "www.", 0x20)) p += 4;
  else if (startsWith(p, end, "http", 0x20)) {
    p += 4;
    if (p < end && ((<u32>load<u8>(p)) | 0x20) == 0x73) p++;
    if (!startsWith(p, end, "://", 0)) return 0;
    p += 3;
  } else return 0;
  if (p == end || (!isAlphanumeric(load<u8>(p)) && urlBytes(p, end) < 2)) return 0;
  for (let bytes = urlBytes(p, end); bytes; bytes = urlBytes(p, end)) p += bytes;
  while (endsSentence(load<u8>(p - 1))) p--;
  return p;
}

/** Bytes of a URL's next character: 1, or 2 for a letter of U+00C0 ... U+07FF; 0 when the URL ends here. */
function urlBytes(p: usize, end: usize): usize {
  if (p == end) return 0;
  const byte = <u32>load<u8>(p);
  if (byte - 0xc3 < 0x1d) return p + 1 < end && (load<u8>(p, 1) & 0xc0) == 0x80 ? 2 : 0;
  if (byte <= 0x20 || byte >= 0x7b) return byte == 0x7e ? 1 : 0;
  // Not in a URL: " < > \ ^ `
  return byte == 0x22 || byte == 0x3c || byte == 0x3e || byte == 0x5c || byte == 0x5e || byte == 0x60 ? 0 : 1;
}

/** ! ' ) , . : ; ? ] */
function endsSentence(byte: u32): bool {
  return (
    byte == 0x21 ||
    byte == 0x27 ||
    byte == 0x29 ||
    byte == 0x2c ||
    byte == 0x2e ||
    byte == 0x3a ||
    byte == 0x3b ||
    byte == 0x3f ||
    byte == 0x5d
  );
}

/** Address behind name@host.tld at `at`; its last part begins with a letter and has two characters or more. */
function emailEnd(at: usize, end: usize): usize {
  let p = at;
  while (p < end && isAddressByte(load<u8>(p))) p++;
  if (p == end || load<u8>(p) != 0x40) return 0;
  let part = ++p;
  let isFirst = true;
  let found: usize = 0;
  for (; p < end; p++) {
    const byte = <u32>load<u8>(p);
    if (isAlphanumeric(byte) || byte == 0x2d) {
      if (!isFirst && p > part && isLetter(load<u8>(part))) found = p + 1;
    } else if (byte == 0x2e && p > part) {
      isFirst = false;
      part = p + 1;
    } else break;
  }
  return found;
}

/** Letters, digits and . _ % + - */
function isAddressByte(byte: u32): bool {
  return isNameByte(byte) || byte == 0x2e || byte == 0x25 || byte == 0x2b || byte == 0x2d;
}

function isNameByte(byte: u32): bool {
  return isAlphanumeric(byte) || byte == 0x5f;
}

export function isAlphanumeric(byte: u32): bool {
  return isLetter(byte) || isDigit(byte);
}

// @ts-ignore: decorator
@inline
function isLetter(codePoint: u32): bool {
  return (codePoint | 0x20) - 0x61 < 26;
}

// @ts-ignore: decorator
@inline
function isDigit(codePoint: u32): bool {
  return codePoint - 0x30 < 10;
}

// --- characters ----------------------------------------------------------------------

function normalWidth(self: Cleaner, codePoint: u32): u32 {
  if (codePoint == 0x3000) return SPACE;
  if (codePoint - 0xff01 <= 0xff5e - 0xff01) return codePoint - 0xfee0;
  if (codePoint - 0xff61 > 0xff9f - 0xff61) return codePoint;
  const kana: u32 = unchecked(KATAKANA[codePoint - 0xff61]);
  const end = self.cursor;
  const item = self.item;
  const prior = self.prior;
  const next = readItem(self);
  const marked = next - 0xff9e < 2 ? composed(kana, unchecked(KATAKANA[next - 0xff61])) : 0;
  self.item = item;
  if (marked) return marked;
  self.cursor = end;
  self.prior = prior;
  return kana;
}

function isMark(codePoint: u32): bool {
  return codePoint - 0x300 < 0x70 || codePoint - 0x1ab0 < 0x50 || codePoint - 0x1dc0 < 0x40;
}

/** The ASCII letter without diacritics; where it is two letters, the first one, with the other in `second`. */
function baseLetter(self: Cleaner, codePoint: u32): u32 {
  let base: u32 = 0x2e;
  if (codePoint < 0x140) base = unit(LATIN_C0, codePoint - 0xc0);
  else if (codePoint < 0x1c0) base = unit(LATIN_140, codePoint - 0x140);
  else if (codePoint < 0x240) base = unit(LATIN_1C0, codePoint - 0x1c0);
  else if (codePoint - 0x1e00 < 0x80) base = unit(LATIN_1E00, codePoint - 0x1e00);
  else if (codePoint - 0x1e80 < 0x80) base = unit(LATIN_1E80, codePoint - 0x1e80);
  if (base == 0x2e) return codePoint;
  if (!isDigit(base)) return base;
  const pair = (base - 0x30) << 1;
  self.second = unit(PAIRS, pair + 1);
  return unit(PAIRS, pair);
}

/** Whether the same letter was returned MAX_REPEATS times right before this one. */
function isOneTooMany(self: Cleaner, codePoint: u32): bool {
  if (codePoint < 0x80 && !isLetter(codePoint)) {
    self.repeated = 0;
    return false;
  }
  const small = lowercase(codePoint);
  if (small != self.repeated) {
    self.repeated = small;
    self.repeats = 1;
    return false;
  }
  if (self.repeats == MAX_REPEATS) return true;
  self.repeats++;
  return false;
}
