// Word -> id: UTF-8 bytes -> 1 ... count, or 0 for a word that is not in the vocabulary.
// A hash table with open addressing over words that are stored elsewhere, end to end in id
// order. Built once by sequence.ts when a model is loaded; looked up for every token. Refuses
// empty, over-long and repeated words, and lists of words that were made to collide.
import { ERR_BAD_VOCABULARY, ERR_OUT_OF_MEMORY, MAX_ROWS, MAX_WORD_BYTES, OK } from "../abi";
import { allocate } from "../arena";
import { fnv1a, scatter } from "../hash";


@unmanaged
export class Vocabulary {
  offsets: usize; // u32[count + 1]: word i is bytes[offsets[i] ... offsets[i + 1])
  bytes: usize; // u8[offsets[count]]
  count: u32;
  longestWord: u32; // in bytes; longer tokens are unknown without a look
  slots: usize; // u32[slotMask + 1]: an id, or 0 = free
  slotMask: u32; // a power of two, at least 2 count, less 1
}

/**
 * Largest number of slots that a search visits. At least half of the slots are free, so that words which
 * were not made to collide stay far below it: with a million words the longest run of used slots is about 50.
 */
const MAX_PROBES: u32 = 1024;

/** Indexes `count` words; word i (from 0) gets id i + 1. Returns a status. */
export function vocabularyBuild(self: Vocabulary, offsetsPtr: usize, bytesPtr: usize, count: u32): i32 {
  if (count >= <u32>MAX_ROWS) return ERR_BAD_VOCABULARY;
  let slotCount: u32 = 2;
  while (slotCount < 2 * count) slotCount <<= 1;
  self.offsets = offsetsPtr;
  self.bytes = bytesPtr;
  self.count = count;
  self.longestWord = 0;
  self.slotMask = slotCount - 1;
  self.slots = allocate((<usize>slotCount) << 2);
  if (!self.slots) return ERR_OUT_OF_MEMORY;

  for (let id: u32 = 1; id <= count; id++) {
    const start = load<u32>(offsetsPtr + ((<usize>(id - 1)) << 2));
    const end = load<u32>(offsetsPtr + ((<usize>id) << 2));
    if (end <= start || end - start > <u32>MAX_WORD_BYTES) return ERR_BAD_VOCABULARY;
    const slot = findSlot(self, bytesPtr + start, end - start);
    if (slot == 0 || load<u32>(slot) != 0) return ERR_BAD_VOCABULARY;
    store<u32>(slot, id);
    self.longestWord = max(self.longestWord, end - start);
  }
  return OK;
}

/** The id of a word, or 0. */
export function vocabularyFind(self: Vocabulary, word: usize, length: u32): u32 {
  if (length > self.longestWord) return 0;
  const slot = findSlot(self, word, length);
  return slot == 0 ? 0 : load<u32>(slot);
}

/** Address of the slot that has the word, or of the free slot for it; 0 when a search finds neither. */
function findSlot(self: Vocabulary, word: usize, length: u32): usize {
  let index = scatter(fnv1a(word, length)) & self.slotMask;
  for (let probe: u32 = 0; probe < MAX_PROBES; probe++) {
    const slot = self.slots + ((<usize>index) << 2);
    const id = load<u32>(slot);
    if (id == 0) return slot;
    const offset = self.offsets + ((<usize>(id - 1)) << 2);
    const start = load<u32>(offset);
    if (load<u32>(offset, 4) - start == length && memory.compare(self.bytes + start, word, length) == 0) return slot;
    index = (index + 1) & self.slotMask;
  }
  return 0;
}
