// The tokens of a text as Keras' Tokenizer makes them: UTF-8 bytes -> tokens in UTF-8, one a
// call. The text is lower-cased, each filtered code point is replaced by the separator, the
// text is split at the separator, and empty tokens are dropped. All of this happens while
// reading, so a text of any length needs only the buffer of one token. With cleaning, code
// points come from clean.ts, and an address or symbol that it has found is a token of its own.
// With CLEAN_NORMALIZE punctuation beyond ASCII parts words as filters do, and so does an
// apostrophe that does not stand inside a word. Broken UTF-8 reads as U+FFFD. Called by sequence.ts, which looks up the ids, and assembly/train/fit.ts.
//
// TOKENIZER_SPLIT_SCRIPTS is ours, not Keras'. After lower-casing and filtering
//  - each letter of Han (with radicals and iteration marks), Hiragana, Katakana, Bopomofo,
//    Thai, Lao, Khmer, Myanmar and Tibetan is a token, with the marks that follow it;
//  - these are separators besides the filters: Unicode white space, U+200B, U+2010-205F,
//    U+3000-3003, U+3008-3020, U+30FB, U+FF01-FF0F, U+FF1A-FF20, U+FF3B-FF40, U+FF5B-FF65,
//    Tibetan U+0F0B-0F12, Myanmar U+104A-104B, Khmer U+17D4-17D6;
//  - all other text is left as it is. Joiners (U+200C, U+200D) stay inside their word.
import {
  CLEAN_COMPOSE,
  CLEAN_FLAGS,
  CLEAN_NORMALIZE,
  CLEAN_PUNCTUATION,
  ERR_BAD_TOKENIZER,
  ERR_OUT_OF_MEMORY,
  MAX_NAME_BYTES,
  OK,
  TOKENIZER_CHAR_LEVEL,
  TOKENIZER_FLAGS,
  TOKENIZER_LOWER,
  TOKENIZER_SPLIT_SCRIPTS,
} from "../abi";
import { allocate } from "../arena";
import {
  CLEANED_EMAIL,
  CLEANED_SYMBOL,
  CLEANED_URL,
  Cleaner,
  END,
  LAST_CODE_POINT,
  cleanAgain,
  cleanInside,
  cleanNext,
  cleanSign,
  cleanSigma,
  cleanSkip,
  cleanStart,
  cleanerBytes,
  isAlphanumeric,
  isAsciiPunctuation,
  mayChangeBefore,
} from "./clean";
import {
  CAPITAL_I_WITH_DOT,
  CAPITAL_SIGMA,
  COMBINING_DOT_ABOVE,
  inRanges,
  lowercase,
  lowercaseSigma,
} from "./lowercase";
import { PUNCTUATION, isInvisible, isPlain } from "./signs";
import { utf8CodePoint, utf8Decode, utf8Encode, utf8IsValid, utf8Length } from "./utf8";


@unmanaged
export class Tokenizer {
  tokenPtr: usize; // the token; u8[tokenCapacity + MAX_CODE_POINT_BYTES]
  tokenLength: u32; // its bytes, including those beyond the capacity, which are not kept
  tokenCapacity: u32;
  flags: u32; // TOKENIZER_*
  splitLength: u32; // m
  split: usize; // u8[m]
  fallbacks: usize; // u16[m], Knuth-Morris-Pratt: longest border of split[0 ... i]
  actions: usize; // u8[256], by byte: the lower-cased ASCII byte, SEPARATOR or LOOK
  fastActions: usize; // the same, or LOOK for what cleaning may change
  filters: usize; // u32[filterCount], rising: the filtered code points beyond ASCII
  filterCount: u32;
  start: usize; // the text: [start, end), read up to `cursor`
  cursor: usize;
  end: usize;
  pending: u32; // code point to come next: the second one of a lower-cased U+0130, or one that was put back; 0 = none
  pendingStart: usize; // where in the text it begins
  matched: u32; // the token ends with this many bytes of the separator
  cleaning: u32; // CLEAN_*; 0 = the text is read as it is
  cleaner: usize; // Cleaner, when `cleaning` is not 0
  isLight: bool; // cleaning leaves most of ASCII and all ideographs alone
  inserted: u32; // how many bytes have been read of a separator that replaces a filtered code point; m = there is none
  isSign: bool; // the last token is a symbol or a sign, and CLEAN_PUNCTUATION says to skip those that the vocabulary lacks
  tokenStart: usize; // the token's place in the text; only roughly when the separator has several bytes
  tokenEnd: usize;
}

const MAX_CODE_POINT_BYTES: usize = 4;

/** Actions of bytes that are not simply part of a token. */
const SEPARATOR: u32 = 0x80;
/** Not on the fast path: beyond ASCII, or the beginning of a separator longer than one byte. */
const LOOK: u32 = 0x81;
/** A token of its own by CLEAN_PUNCTUATION. */
const SIGN: u32 = 0x82;

const APOSTROPHE: u32 = 0x27;
/** Result of nextUnchanged, larger than all others but END. */
const CHANGED: u32 = 0xfffffffe;

/** Classes of code points for TOKENIZER_SPLIT_SCRIPTS. */
const OTHER: u32 = 0;
const LETTER: u32 = 1;
const MARK: u32 = 2;

// Ranges as in lowercase.ts, from the regular expressions of Node 20 (Unicode 17).

/** [\p{L}\p{Nl}] with Script_Extensions of the nine scripts, and U+2E80-2FD5; without the blocks in `scriptClass`. */
const SCRIPT_LETTERS: StaticArray<u32> = [
  0x70082f, 0x719001, 0x720006, 0x740801, 0x742000, 0x743004, 0x746017, 0x752800, 0x753809, 0x759001, 0x75e800,
  0x760004, 0x763000, 0x76e003, 0x780000, 0x7a0007, 0x7a4823, 0x7c4004, 0x80002a, 0x81f800, 0x828005, 0x82d003,
  0x830800, 0x832801, 0x837002, 0x83a80c, 0x847000, 0xbc0033, 0xbeb800, 0xbee000, 0x1740019, 0x174d858, 0x17800d5,
  0x1802802, 0x1810808, 0x1818804, 0x181c004, 0x1820855, 0x184e802, 0x1850859, 0x187e003, 0x188282a, 0x18d001f,
  0x18f800f, 0x54f0004, 0x54f3009, 0x54fd004, 0x5530016, 0x553d000, 0x553f001, 0x7c8016d, 0x7d38069, 0x7fb3037,
  0xb7f1800, 0xb7f9004, 0xd7f8003, 0xd7fa806, 0xd7fe801, 0xd800122, 0xd899000, 0xd8a8002, 0xd8aa800, 0xd8b2003,
];

/** \p{M} of the nine scripts, U+0300-036F, U+FF9E-FF9F, joiners and variation selectors. */
const SCRIPT_MARKS: StaticArray<u32> = [
  0x18006f, 0x718800, 0x71a006, 0x723807, 0x758800, 0x75a008, 0x764006, 0x78c001, 0x79a800, 0x79b800, 0x79c800,
  0x79f001, 0x7b8813, 0x7c3001, 0x7c680a, 0x7cc823, 0x7e3000, 0x815813, 0x82b003, 0x82f002, 0x831002, 0x833806,
  0x838803, 0x84100b, 0x847800, 0x84d003, 0xbda01f, 0xbee800, 0x1006001, 0x1815003, 0x184c801, 0x54f2800, 0x553d802,
  0x7f0000f, 0x7fcf001, 0xb7f8001, 0x700800ef,
];

/** The separators of the list above, beyond ASCII. */
const SCRIPT_SEPARATORS: StaticArray<u32> = [
  0x42800, 0x50000, 0x785807, 0x825001, 0xb40000, 0xbea002, 0x100000b, 0x100804f, 0x1800003, 0x1804018, 0x187d800,
  0x7f8080e, 0x7f8d006, 0x7f9d805, 0x7fad80a,
];

/**
 * Sets `self` up; `cleaning` is CLEAN_* or 0. Filters and separator are UTF-8 and are copied; with
 * CHAR_LEVEL they are not used. Of longer tokens only the first `tokenCapacity` bytes are kept, so
 * it must be at least the length of the longest word. ERR_BAD_TOKENIZER: unknown flags, CHAR_LEVEL
 * with SPLIT_SCRIPTS, invalid UTF-8, more than MAX_NAME_BYTES, an empty separator, or, with
 * SPLIT_SCRIPTS, a separator with a letter or mark of these scripts.
 */
export function tokenizerPrepare(
  self: Tokenizer,
  flags: u32,
  filtersPtr: usize,
  filtersLength: u32,
  splitPtr: usize,
  splitLength: u32,
  tokenCapacity: u32,
  cleaning: u32,
): i32 {
  if (flags & ~TOKENIZER_FLAGS) return ERR_BAD_TOKENIZER;
  if (flags & TOKENIZER_CHAR_LEVEL && flags & TOKENIZER_SPLIT_SCRIPTS) return ERR_BAD_TOKENIZER;
  if (filtersLength > <u32>MAX_NAME_BYTES || splitLength > <u32>MAX_NAME_BYTES) return ERR_BAD_TOKENIZER;
  if (!utf8IsValid(filtersPtr, filtersLength) || !utf8IsValid(splitPtr, splitLength)) return ERR_BAD_TOKENIZER;
  if (splitLength == 0 && !(flags & TOKENIZER_CHAR_LEVEL)) return ERR_BAD_TOKENIZER;
  if (flags & TOKENIZER_SPLIT_SCRIPTS && holdsScript(splitPtr, splitPtr + splitLength)) return ERR_BAD_TOKENIZER;
  if (cleaning & ~CLEAN_FLAGS) return ERR_BAD_TOKENIZER;
  if (tokenCapacity > <u32>i32.MAX_VALUE) return ERR_OUT_OF_MEMORY;

  self.flags = flags;
  self.tokenCapacity = tokenCapacity;
  self.splitLength = splitLength;
  self.filterCount = 0;
  self.tokenPtr = allocate(<usize>tokenCapacity + MAX_CODE_POINT_BYTES);
  self.split = allocate(splitLength);
  self.fallbacks = allocate((<usize>splitLength) << 1);
  self.actions = allocate(256);
  self.filters = allocate((<usize>filtersLength) << 2);
  self.fastActions = cleaning ? allocate(256) : self.actions;
  self.cleaning = cleaning;
  self.cleaner = cleaning ? allocate(cleanerBytes()) : 0;
  self.isLight = cleaning != 0 && (cleaning & ~(CLEAN_NORMALIZE | CLEAN_COMPOSE | CLEAN_PUNCTUATION)) == 0;
  if (!self.tokenPtr || !self.split || !self.fallbacks || !self.actions || !self.filters || !self.fastActions)
    return ERR_OUT_OF_MEMORY;
  if (cleaning && !self.cleaner) return ERR_OUT_OF_MEMORY;

  memory.copy(self.split, splitPtr, splitLength);
  findBorders(self);
  setActions(self);
  for (let p = filtersPtr, end = filtersPtr + filtersLength; p < end;) {
    const decoded = utf8Decode(p, end);
    p += utf8Length(decoded);
    addFilter(self, utf8CodePoint(decoded));
  }
  setLowercaseActions(self);
  if (cleaning) setFastActions(self);
  tokenizerStart(self, 0, 0);
  return OK;
}

function holdsScript(p: usize, end: usize): bool {
  while (p < end) {
    const decoded = utf8Decode(p, end);
    if (scriptClass(utf8CodePoint(decoded)) != OTHER) return true;
    p += utf8Length(decoded);
  }
  return false;
}

function findBorders(self: Tokenizer): void {
  let border: u32 = 0;
  for (let i: u32 = 1; i < self.splitLength; i++) {
    const byte = load<u8>(self.split + i);
    while (border > 0 && byte != load<u8>(self.split + border))
      border = load<u16>(self.fallbacks + ((<usize>(border - 1)) << 1));
    if (byte == load<u8>(self.split + border)) border++;
    store<u16>(self.fallbacks + ((<usize>i) << 1), border);
  }
}

function setActions(self: Tokenizer): void {
  for (let byte: u32 = 0; byte < 256; byte++) store<u8>(self.actions + byte, byte < 0x80 ? byte : LOOK);
  if (self.splitLength > 0) {
    const first = load<u8>(self.split);
    if (first < 0x80) store<u8>(self.actions + first, self.splitLength == 1 ? SEPARATOR : LOOK);
  }
  if (self.flags & TOKENIZER_SPLIT_SCRIPTS) {
    for (let byte: u32 = 0x09; byte <= 0x0d; byte++) store<u8>(self.actions + byte, SEPARATOR);
    store<u8>(self.actions + 0x20, SEPARATOR);
  }
}

/** Filters apply to the lower-cased text: a capital letter gets the action of its small letter. */
function setLowercaseActions(self: Tokenizer): void {
  if (!(self.flags & TOKENIZER_LOWER)) return;
  for (let byte: u32 = 0; byte < 0x80; byte++) {
    const small = lowercase(byte);
    if (small != byte) store<u8>(self.actions + byte, load<u8>(self.actions + small));
  }
}

/** Bytes that cleaning may change are not for the fast path. */
function setFastActions(self: Tokenizer): void {
  memory.copy(self.fastActions, self.actions, 256);
  for (let byte: u32 = 0; byte < 0x80; byte++) {
    const isKept =
      self.isLight && !(self.cleaning & CLEAN_NORMALIZE && (byte == APOSTROPHE || byte == 0x60 || isInvisible(byte)));
    if (!isKept) store<u8>(self.fastActions + byte, LOOK);
    else if (self.cleaning & CLEAN_PUNCTUATION && isAsciiPunctuation(byte)) store<u8>(self.fastActions + byte, SIGN);
  }
}

function addFilter(self: Tokenizer, codePoint: u32): void {
  if (codePoint < 0x80) {
    store<u8>(self.actions + codePoint, SEPARATOR);
    return;
  }
  let p = self.filters + ((<usize>self.filterCount) << 2);
  self.filterCount++;
  for (; p > self.filters && load<u32>(p - 4) > codePoint; p -= 4) store<u32>(p, load<u32>(p - 4));
  store<u32>(p, codePoint);
}

/** Begins a text, which must stay in place until its last token is read. */
export function tokenizerStart(self: Tokenizer, textPtr: usize, textLength: u32): void {
  self.start = textPtr;
  self.cursor = textPtr;
  self.end = textPtr + textLength;
  self.pending = 0;
  self.matched = 0;
  self.inserted = self.splitLength;
  self.tokenLength = 0;
  if (self.cleaning) cleanStart(changetype<Cleaner>(self.cleaner), self.cleaning, textPtr, self.end);
}

/** Reads the next token into tokenPtr and tokenLength; false when there is none. */
export function tokenizerNext(self: Tokenizer): bool {
  self.tokenLength = 0;
  self.isSign = false;
  if (self.flags & TOKENIZER_CHAR_LEVEL) {
    const before = self.cursor;
    const codePoint = nextCodePoint(self);
    if (codePoint > LAST_CODE_POINT) return endToken(self, codePoint);
    self.tokenLength = utf8Encode(codePoint, self.tokenPtr);
    self.tokenStart = placeOf(self, before);
    self.tokenEnd = self.cursor;
    return true;
  }
  let isScriptLetter = false;
  while (true) {
    if (self.inserted < self.splitLength) {
      if (self.tokenLength == 0) self.tokenStart = self.cursor;
      self.tokenEnd = self.cursor;
      if (pushInserted(self) && self.tokenLength > 0) return true;
      continue;
    }
    if (self.matched == 0 && self.pending == 0 && !isScriptLetter && pushAscii(self)) {
      if (self.tokenLength > 0) return true;
      continue;
    }
    const before = self.pending ? self.pendingStart : self.cursor;
    const codePoint = nextCodePoint(self);
    if (codePoint > LAST_CODE_POINT) return endToken(self, codePoint);
    if (
      isSeparator(self, codePoint) ||
      (codePoint == APOSTROPHE && self.cleaning & CLEAN_NORMALIZE && (isScriptLetter || !isInside(self)))
    ) {
      // The end of the token may form a separator together with the inserted one, so that is read byte by byte.
      if (self.matched > 0) self.inserted = 0;
      else if (self.tokenLength > 0) {
        // Code points that cleaning has dropped in between belong to the token.
        self.tokenEnd = placeOf(self, before);
        return true;
      }
      continue;
    }
    if (self.flags & TOKENIZER_SPLIT_SCRIPTS) {
      const kind = scriptClass(codePoint);
      if (self.tokenLength == 0) isScriptLetter = kind == LETTER;
      else if (kind == LETTER || (isScriptLetter && kind == OTHER)) {
        // The code point is for the next token. It cannot be the pending one, which is a mark; and
        // a separator that has begun cannot continue with it.
        if (self.pending || !codePoint) {
          // Reads it again.
          if (self.cleaning && changetype<Cleaner>(self.cleaner).cursor == self.cursor)
            cleanAgain(changetype<Cleaner>(self.cleaner));
          self.cursor = before;
          self.pending = 0;
        } else {
          self.pending = codePoint;
          self.pendingStart = before;
        }
        self.matched = 0;
        return true;
      }
    }
    if (self.tokenLength == 0) self.tokenStart = placeOf(self, before);
    self.tokenEnd = self.cursor;
    if (!push(self, codePoint)) continue;
    // The token ends before the separator (assuming that cleaning has removed nothing from it).
    self.tokenEnd = max(self.tokenStart, self.tokenEnd - self.splitLength);
    if (self.tokenLength > 0) return true;
  }
}

/** True when SPLIT_SCRIPTS made the last token: a letter with its marks. */
export function tokenIsLetter(self: Tokenizer): bool {
  if (!(self.flags & TOKENIZER_SPLIT_SCRIPTS) || load<u8>(self.tokenPtr) < 0x80) return false;
  return (
    scriptClass(utf8CodePoint(utf8Decode(self.tokenPtr, self.tokenPtr + min(self.tokenLength, self.tokenCapacity)))) ==
    LETTER
  );
}

/** The address of the code point that was just read from `before` on. With cleaning it may have been read earlier. */
// @ts-ignore: decorator
@inline
function placeOf(self: Tokenizer, before: usize): usize {
  return self.cleaning ? changetype<Cleaner>(self.cleaner).at : before;
}

/** The text's next code point, lower-cased if the flags say so, or END. */
function nextCodePoint(self: Tokenizer): u32 {
  if (self.pending) {
    const codePoint = self.pending;
    self.pending = 0;
    return codePoint;
  }
  if (self.cleaning) return nextCleaned(self);
  const at = self.cursor;
  if (at == self.end) return END;
  const decoded = utf8Decode(at, self.end);
  const codePoint = utf8CodePoint(decoded);
  self.cursor = at + utf8Length(decoded);
  if (!(self.flags & TOKENIZER_LOWER)) return codePoint;
  if (codePoint == CAPITAL_SIGMA) return lowercaseSigma(self.start, at, self.cursor, self.end);
  if (codePoint == CAPITAL_I_WITH_DOT) holdDot(self);
  return lowercase(codePoint);
}

/** The small letter of U+0130 is i and a dot above. */
function holdDot(self: Tokenizer): void {
  self.pending = COMBINING_DOT_ABOVE;
  self.pendingStart = self.cursor;
}

/** Whether the cleaner has no code point that was put back. */
// @ts-ignore: decorator
@inline
function isReady(self: Tokenizer): bool {
  return !self.cleaner || !changetype<Cleaner>(self.cleaner).isAgain;
}

/** The cleaned text's next code point, lower-cased if the flags say so; CLEANED_... or END. */
function nextCleaned(self: Tokenizer): u32 {
  const cleaner = changetype<Cleaner>(self.cleaner);
  if (self.isLight && isReady(self)) {
    const codePoint = nextUnchanged(self, cleaner);
    if (codePoint != CHANGED) return codePoint;
    if (cleaner.cursor != self.cursor) cleanSkip(cleaner, self.cursor);
  }
  const codePoint = cleanNext(cleaner);
  self.cursor = cleaner.cursor;
  if (!(self.flags & TOKENIZER_LOWER) || codePoint > LAST_CODE_POINT) return codePoint;
  if (codePoint == CAPITAL_SIGMA) return cleanSigma(cleaner);
  if (codePoint == CAPITAL_I_WITH_DOT) holdDot(self);
  return lowercase(codePoint);
}

/** Reads the next code point, lower-cased, or END, without the cleaner, if it is one that cleaning leaves alone; else CHANGED. */
function nextUnchanged(self: Tokenizer, cleaner: Cleaner): u32 {
  const at = self.cursor;
  const end = self.end;
  let codePoint = END;
  let after = at;
  if (at < end) {
    codePoint = load<u8>(at);
    after = at + 1;
    if (codePoint < 0x80) {
      if (<u32>load<u8>(self.fastActions + codePoint) >= LOOK) return CHANGED;
    } else {
      const decoded = utf8Decode(at, end);
      codePoint = utf8CodePoint(decoded);
      after = at + utf8Length(decoded);
      if (!isPlain(codePoint)) return CHANGED;
    }
    if (mayChangeBefore(self.cleaning, after, end)) return CHANGED;
    if (self.flags & TOKENIZER_LOWER) {
      if (codePoint == CAPITAL_SIGMA || codePoint == CAPITAL_I_WITH_DOT) return CHANGED;
      codePoint = lowercase(codePoint);
    }
  }
  self.cursor = after;
  cleaner.at = at;
  cleaner.sign = 0;
  return codePoint;
}

/** Whether the apostrophe just read stands between letters or digits of a word, in scripts that have words. */
function isInside(self: Tokenizer): bool {
  const next = cleanInside(changetype<Cleaner>(self.cleaner));
  return next != 0 && !(self.flags & TOKENIZER_SPLIT_SCRIPTS && scriptClass(next) == LETTER);
}

/** Ends the token before the end of the text, an address or a symbol; or makes that a token, whatever filters and separator are. False at the end of the text. */
function endToken(self: Tokenizer, item: u32): bool {
  if (item == END) {
    if (self.tokenLength > 0) self.tokenEnd = placeOf(self, self.end);
    return self.tokenLength > 0;
  }
  if (self.tokenLength > 0) {
    const cleaner = changetype<Cleaner>(self.cleaner);
    cleanAgain(cleaner);
    self.cursor = cleaner.at;
    self.matched = 0;
    return true;
  }
  self.tokenStart = placeOf(self, self.cursor);
  self.tokenEnd = self.cursor;
  let name = memory.data<u8>([0x3c, 0x75, 0x72, 0x6c, 0x3e]);
  self.tokenLength = 5;
  if (item == CLEANED_EMAIL) {
    name = memory.data<u8>([0x3c, 0x65, 0x6d, 0x61, 0x69, 0x6c, 0x3e]);
    self.tokenLength = 7;
  } else if (item == CLEANED_SYMBOL) {
    name = changetype<Cleaner>(self.cleaner).symbol;
    self.tokenLength = changetype<Cleaner>(self.cleaner).symbolBytes;
    self.isSign = (self.cleaning & CLEAN_PUNCTUATION) != 0;
  }
  memory.copy(self.tokenPtr, name, min(self.tokenLength, self.tokenCapacity));
  return true;
}

/** Whether the filters, or the scripts' separators, hold the lower-cased code point. */
function isSeparator(self: Tokenizer, codePoint: u32): bool {
  if (codePoint < 0x80) return <u32>load<u8>(self.actions + codePoint) == SEPARATOR;
  let low: u32 = 0;
  let high = self.filterCount;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const filter = load<u32>(self.filters + ((<usize>middle) << 2));
    if (filter == codePoint) return true;
    if (filter > codePoint) high = middle;
    else low = middle + 1;
  }
  // All of the scripts' separators are punctuation, or show nothing.
  if (self.cleaning & CLEAN_NORMALIZE) return changetype<Cleaner>(self.cleaner).sign == PUNCTUATION;
  return (self.flags & TOKENIZER_SPLIT_SCRIPTS) != 0 && inRanges(SCRIPT_SEPARATORS, codePoint);
}

function scriptClass(codePoint: u32): u32 {
  if (codePoint < 0x300) return OTHER;
  if (codePoint >= 0x4e00 && codePoint <= 0x9fff) return LETTER;
  if (codePoint >= 0x3400 && codePoint <= 0x4dbf) return LETTER;
  // The ideographic planes, including unassigned code points.
  if (codePoint >= 0x20000 && codePoint <= 0x3fffd) return LETTER;
  if (inRanges(SCRIPT_LETTERS, codePoint)) return LETTER;
  return inRanges(SCRIPT_MARKS, codePoint) ? MARK : OTHER;
}

/** Fast path: adds ASCII bytes to the token until one needs more than that. True when it has stopped behind a separator, or at a sign that ends the token, or has made a sign the token. */
function pushAscii(self: Tokenizer): bool {
  const end = self.end;
  const actions = self.fastActions;
  const token = self.tokenPtr;
  const capacity = self.tokenCapacity;
  let cursor = self.cursor;
  let length = self.tokenLength;
  let action: u32 = 0;
  if (length == 0) self.tokenStart = cursor;
  while (cursor < end) {
    action = <u32>load<u8>(actions + <usize>load<u8>(cursor));
    if (action >= SEPARATOR) break;
    if (length < capacity) store<u8>(token + length, action);
    length++;
    cursor++;
  }
  const isAtSeparator = cursor < end && action == SEPARATOR;
  const before = self.cursor;
  self.cursor = isAtSeparator ? cursor + 1 : cursor;
  self.tokenLength = length;
  self.tokenEnd = cursor;
  if (!self.isLight || cursor == end) return isAtSeparator;
  if (action == SIGN) return length > 0 ? !mayChangeBefore(self.cleaning, cursor + 1, end) : readSign(self);
  return isKept(self, before, cursor, isAtSeparator);
}

/** Makes the ASCII sign at the cursor the token; false if the cleaner must read it. */
function readSign(self: Tokenizer): bool {
  const cleaner = changetype<Cleaner>(self.cleaner);
  const after = isReady(self) ? cleanSign(cleaner, self.cursor) : 0;
  if (!after) return false;
  self.cursor = after;
  return endToken(self, CLEANED_SYMBOL);
}

/**
 * Where the text is cleaned, the byte at `at`, on which the fast path has stopped, may change the one before
 * it, which then is left to the cleaner; and so is a separator that may be changed by what is behind it.
 * An apostrophe in a word is added to the token. Returns the same as pushAscii, which began at `from`.
 */
function isKept(self: Tokenizer, from: usize, at: usize, isAtSeparator: bool): bool {
  const end = self.end;
  if (isAtSeparator) {
    const next: u32 = at + 1 < end ? load<u8>(at, 1) : 0x20;
    if (next - 0x20 < 0x5f || !mayChangeBefore(self.cleaning, at + 1, end)) return true;
    self.cursor = at;
    return false;
  }
  if (at == from) return false;
  if (isAsciiInside(self, at)) {
    if (self.tokenLength < self.tokenCapacity) store<u8>(self.tokenPtr + self.tokenLength, APOSTROPHE);
    self.tokenLength++;
    self.cursor++;
  } else if (mayChangeBefore(self.cleaning, at, end)) {
    self.tokenLength--;
    self.tokenEnd--;
    self.cursor--;
  }
  return false;
}

/** Whether an apostrophe at `at` stands between ASCII letters or digits, the first of which is on the fast path too. */
function isAsciiInside(self: Tokenizer, at: usize): bool {
  const byte = <u32>load<u8>(at);
  if ((byte != APOSTROPHE && byte != 0x60) || at + 1 == self.end) return false;
  if (<u32>load<u8>(self.actions + APOSTROPHE) != APOSTROPHE) return false;
  return (
    isAlphanumeric(load<u8>(at - 1)) &&
    isAlphanumeric(load<u8>(at, 1)) &&
    !mayChangeBefore(self.cleaning, at + 2, self.end)
  );
}

/** Adds a code point to the token. True when it completed a separator, which is then removed from the token. */
function push(self: Tokenizer, codePoint: u32): bool {
  // Beyond the capacity, bytes are written behind the kept ones, only to be compared with the separator.
  const at = self.tokenPtr + min(self.tokenLength, self.tokenCapacity);
  const bytes = utf8Encode(codePoint, at);
  let isComplete: bool = false;
  // UTF-8 synchronises itself: only a code point's last byte can complete the separator.
  for (let i: u32 = 0; i < bytes; i++) isComplete = pushByte(self, load<u8>(at + i));
  return isComplete;
}

/** Adds the next byte of the separator that replaces a filtered code point; returns the same as `push`. */
function pushInserted(self: Tokenizer): bool {
  const byte = load<u8>(self.split + self.inserted++);
  store<u8>(self.tokenPtr + min(self.tokenLength, self.tokenCapacity), byte);
  return pushByte(self, byte);
}

/** Counts a byte that is in the buffer, and matches the separator against the end of the token. */
function pushByte(self: Tokenizer, byte: u8): bool {
  self.tokenLength++;
  let matched = self.matched;
  while (matched > 0 && byte != load<u8>(self.split + matched))
    matched = load<u16>(self.fallbacks + ((<usize>(matched - 1)) << 1));
  if (byte == load<u8>(self.split + matched)) matched++;
  if (matched < self.splitLength) {
    self.matched = matched;
    return false;
  }
  self.matched = 0;
  self.tokenLength -= matched;
  return true;
}
