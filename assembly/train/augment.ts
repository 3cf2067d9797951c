// Augmentation: a sample's tokens -> the tokens that one training step sees, changed at random
// by the run's random numbers. Called by dataset.ts for training batches only, token by token,
// so that changed texts are not stored and every epoch sees other changes. In this order:
//
//   deletion   a token is left out, but not the last one left
//   swap       a token trades places with the next one
//   synonyms   a known word becomes another member of one of its groups, if there is one
//   typos      a known word of three code points or more gets one edit, and is then looked up
//              like any other: mostly unknown, so read as its n-grams
//
// Words that the vocabulary lacks are stored only as rows of n-grams, and are not changed.
import { ERR_BAD_ARGUMENT, ERR_OUT_OF_MEMORY, MAX_WORD_BYTES, OK } from "../abi";
import { allocate } from "../arena";
import { Model, crc32, layerAt } from "../network/model";
import { ngramRows } from "../text/ngram";
import { Sequence, sequenceRead, tokenRowCount, tokenRows } from "../network/sequence";
import { Tokenizer } from "../text/tokenizer";
import { utf8IsLead } from "../text/utf8";
import { Vocabulary, vocabularyFind } from "../text/vocabulary";
import { Growable, appendWord32, createGrowable, extend, word32At } from "./growable";
import { Random, randomIndex, randomUniform } from "./random";


@unmanaged
export class Augmentation {
  deletion: f32; // shares of tokens, 0 <= share < 1
  swap: f32;
  synonyms: f32;
  typos: f32;
  tokens: usize; // u32[T], tokens of the present sample
  word: usize; // u8[MAX_WORD_BYTES + MAX_CODE_POINT_BYTES], a word with its edit
  sequence: usize; // Sequence: where edited words are looked up
  heads: usize; // u32[wordCount + 1], by word id: its first link + 1, or 0
  links: Growable; // u32[][2]: a group, and the word's next link + 1 or 0
  memberEnds: Growable; // u32[groups]: members up to the end of each group
  rowEnds: Growable; // u32[members]: rows up to the end of each member
  rows: Growable; // u32[]: a known word's id, or rows of n-grams
}

const MAX_CODE_POINT_BYTES: u32 = 4;
/** Shorter words are left alone: one edit turns most of them into another word. */
const MIN_EDITED_CODE_POINTS: u32 = 3;

const EDIT_DELETE: u32 = 0;
const EDIT_TRANSPOSE: u32 = 1;
const EDIT_REPLACE: u32 = 2;
const EDITS: u32 = 4; // and insert

/** An augmentation in new memory that changes nothing yet; null when memory is refused. */
export function createAugmentation(model: Model, sequence: Sequence): Augmentation {
  const nothing = changetype<Augmentation>(0);
  const self = changetype<Augmentation>(allocate(offsetof<Augmentation>()));
  if (!changetype<usize>(self)) return nothing;
  self.sequence = changetype<usize>(sequence);
  self.tokens = allocate((<usize>model.header.sequenceLength) << 2);
  self.word = allocate(<usize>MAX_WORD_BYTES + MAX_CODE_POINT_BYTES);
  self.heads = allocate((<usize>model.header.wordCount + 1) << 2);
  self.links = createGrowable();
  self.memberEnds = createGrowable();
  self.rowEnds = createGrowable();
  self.rows = createGrowable();
  const complete =
    self.tokens &&
    self.word &&
    self.heads &&
    changetype<usize>(self.links) &&
    changetype<usize>(self.memberEnds) &&
    changetype<usize>(self.rowEnds) &&
    changetype<usize>(self.rows);
  return complete ? self : nothing;
}

/**
 * Adds a word to the last group of synonyms, or to a new one. ERR_BAD_ARGUMENT: the text is not
 * exactly one token. A word that the model would drop is not added.
 */
export function addSynonym(self: Augmentation, model: Model, text: usize, length: u32, beginsGroup: bool): i32 {
  const sequence = changetype<Sequence>(self.sequence);
  sequenceRead(sequence, model, text, length);
  if (sequence.total != 1) return ERR_BAD_ARGUMENT;
  if (beginsGroup || self.memberEnds.bytes == 0) {
    if (!appendWord32(self.memberEnds, self.rowEnds.bytes >> 2)) return ERR_OUT_OF_MEMORY;
  }
  if (sequence.tokens == 0) return OK;
  const count = tokenRowCount(sequence, 0);
  const target = extend(self.rows, count << 2);
  if (!target || !appendWord32(self.rowEnds, self.rows.bytes >> 2)) return ERR_OUT_OF_MEMORY;
  memory.copy(target, tokenRows(sequence, 0), (<usize>count) << 2);
  const group = (self.memberEnds.bytes >> 2) - 1;
  store<u32>(self.memberEnds.address + ((<usize>group) << 2), self.rowEnds.bytes >> 2);
  const id = load<u32>(target);
  if (count != 1 || id > model.header.wordCount || id == model.header.unknownId) return OK;
  const head = self.heads + ((<usize>id) << 2);
  if (!appendWord32(self.links, group) || !appendWord32(self.links, load<u32>(head))) return ERR_OUT_OF_MEMORY;
  store<u32>(head, self.links.bytes >> 3);
  return OK;
}

/** Checksum of all groups, which a resumed run compares; 0 = none. */
export function synonymChecksum(self: Augmentation): u32 {
  if (self.rows.bytes == 0) return 0;
  return (
    crc32(self.memberEnds.address, self.memberEnds.bytes, 0) ^
    rotl<u32>(crc32(self.rowEnds.address, self.rowEnds.bytes, 0), 8) ^
    rotl<u32>(crc32(self.rows.address, self.rows.bytes, 0), 16)
  );
}

/** Writes the tokens first ... first + count - 1, after deletion and swaps, to `tokens`; returns how many are left. */
export function augmentTokens(self: Augmentation, random: Random, first: u32, count: u32): u32 {
  let kept: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    if (self.deletion > 0 && randomUniform(random) < self.deletion) continue;
    store<u32>(self.tokens + ((<usize>kept) << 2), first + i);
    kept++;
  }
  if (kept == 0 && count > 0) {
    store<u32>(self.tokens, first + randomIndex(random, count));
    kept = 1;
  }
  if (self.swap == 0) return kept;
  for (let i: u32 = 1; i < kept; i++) {
    if (randomUniform(random) >= self.swap) continue;
    const p = self.tokens + ((<usize>i) << 2);
    const token = load<u32>(p);
    store<u32>(p, load<u32>(p - 4));
    store<u32>(p - 4, token);
    i++; // so that a token moves by at most one place
  }
  return kept;
}

/** Writes the rows of a synonym or misspelling of the known word `id` to u32 `rows`; returns how many, 0 when the word stays. A single row up to wordCount is a known word. */
export function augmentWord(self: Augmentation, model: Model, random: Random, id: u32, rows: usize): u32 {
  let count: u32 = 0;
  if (self.synonyms > 0 && load<u32>(self.heads + ((<usize>id) << 2)) != 0 && randomUniform(random) < self.synonyms) {
    count = pickSynonym(self, random, id, rows);
    const other = load<u32>(rows);
    if (count > 1 || (count == 1 && (other > model.header.wordCount || other == model.header.unknownId))) return count;
    if (count == 1) id = other;
  }
  if (self.typos > 0 && randomUniform(random) < self.typos) {
    const edited = edit(self, model, random, id, rows);
    if (edited) return edited;
  }
  return count;
}

/** Picks one of the word's groups, then one of its other members, and writes that member's rows; 0 = there is none. */
function pickSynonym(self: Augmentation, random: Random, id: u32, rows: usize): u32 {
  let groups: u32 = 0;
  const first = load<u32>(self.heads + ((<usize>id) << 2));
  for (let link = first; link; link = nextLink(self, link)) groups++;
  let link = first;
  for (let skip = groups > 1 ? randomIndex(random, groups) : 0; skip; skip--) link = nextLink(self, link);
  const group = load<u32>(self.links.address + ((<usize>(link - 1)) << 3));
  const begin = group ? word32At(self.memberEnds, group - 1) : 0;
  const end = word32At(self.memberEnds, group);
  let others: u32 = 0;
  for (let member = begin; member < end; member++) others += isMember(self, member, id) ? 0 : 1;
  if (others == 0) return 0;
  let member = begin;
  for (let skip = randomIndex(random, others); skip || isMember(self, member, id); member++)
    skip -= isMember(self, member, id) ? 0 : 1;
  const from = firstRow(self, member);
  const count = word32At(self.rowEnds, member) - from;
  memory.copy(rows, self.rows.address + ((<usize>from) << 2), (<usize>count) << 2);
  return count;
}

// @ts-ignore: decorator
@inline
function firstRow(self: Augmentation, member: u32): u32 {
  return member ? word32At(self.rowEnds, member - 1) : 0;
}

/** Whether a member is the known word `id`; n-grams have other rows. */
function isMember(self: Augmentation, member: u32, id: u32): bool {
  return word32At(self.rows, firstRow(self, member)) == id;
}

function nextLink(self: Augmentation, link: u32): u32 {
  return load<u32>(self.links.address + ((<usize>(link - 1)) << 3), 4);
}

// --- typos -------------------------------------------------------------------------

/** Writes the rows of the word with one random edit; returns how many, 0 when it is too short or would be dropped. */
function edit(self: Augmentation, model: Model, random: Random, id: u32, rows: usize): u32 {
  const word = wordAddress(model, id);
  const bytes = wordLength(model, id);
  let points: u32 = 0;
  for (let i: u32 = 0; i < bytes; i++) points += utf8IsLead(load<u8>(word + i)) ? 1 : 0;
  if (points < MIN_EDITED_CODE_POINTS) return 0;

  const kind = randomIndex(random, EDITS);
  // A letter can only be transposed with one behind it; a letter can also be inserted at the end.
  const places = kind == EDIT_TRANSPOSE ? points - 1 : kind > EDIT_REPLACE ? points + 1 : points;
  const at = skipPoints(word, word + bytes, randomIndex(random, places));
  const next = skipPoints(at, word + bytes, 1);
  let to = append(self.word, word, at);
  let rest = at;
  if (kind == EDIT_DELETE) rest = next;
  else if (kind == EDIT_TRANSPOSE) {
    rest = skipPoints(next, word + bytes, 1);
    to = append(append(to, next, rest), at, next);
  } else {
    // A letter of a random word of the vocabulary, so that it fits the language.
    const other = 1 + randomIndex(random, model.header.wordCount);
    let letter = wordAddress(model, other) + randomIndex(random, wordLength(model, other));
    while (!utf8IsLead(load<u8>(letter))) letter--;
    to = append(to, letter, skipPoints(letter, wordAddress(model, other) + wordLength(model, other), 1));
    if (kind == EDIT_REPLACE) rest = next;
  }
  const length = <u32>(append(to, rest, word + bytes) - self.word);
  return lookUp(self, model, length, rows);
}

/** Writes the rows of self.word, the same as sequence.ts would; returns how many. */
function lookUp(self: Augmentation, model: Model, length: u32, rows: usize): u32 {
  const header = model.header;
  const sequence = changetype<Sequence>(self.sequence);
  const id = vocabularyFind(changetype<Vocabulary>(sequence.vocabulary), self.word, length);
  if (id || header.unknownId) {
    store<u32>(rows, id ? id : header.unknownId);
    return 1;
  }
  if (header.bucketCount == 0) return 0;
  const hashed = min(length, changetype<Tokenizer>(sequence.tokenizer).tokenCapacity);
  const firstBucket = layerAt(model.layers, 0).inputWidth - header.bucketCount;
  return ngramRows(self.word, hashed, header.ngramMin, header.ngramMax, header.bucketCount, firstBucket, rows);
}

function wordAddress(model: Model, id: u32): usize {
  return model.words + load<u32>(model.wordOffsets + ((<usize>(id - 1)) << 2));
}

function wordLength(model: Model, id: u32): u32 {
  const offset = model.wordOffsets + ((<usize>(id - 1)) << 2);
  return load<u32>(offset, 4) - load<u32>(offset);
}

/** The address `count` code points further on, at most `end`. */
function skipPoints(p: usize, end: usize, count: u32): usize {
  for (; count > 0 && p < end; count--) {
    p++;
    while (p < end && !utf8IsLead(load<u8>(p))) p++;
  }
  return p;
}

/** Copies [from, end) to `to` and returns the address behind it. */
function append(to: usize, from: usize, end: usize): usize {
  memory.copy(to, from, end - from);
  return to + (end - from);
}
