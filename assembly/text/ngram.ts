// Words that the vocabulary lacks: UTF-8 word -> rows of hashed character n-grams.
// "<word>" is cut into all runs of ngramMin ... ngramMax code points; each run's FNV-1a
// hash picks one of bucketCount embedding rows, and the word's vector is their mean
// (subwords as in P. Bojanowski et al., Enriching Word Vectors, 2017). The hash is part
// of the model format: trained models depend on it, so it never changes.
//
// Letters of scripts written without spaces are tokens of their own, and mean little alone.
// With TOKENIZER_LETTER_PAIRS the pair of a letter and the letter before it is hashed to a row
// of the same buckets, its context row, which is added to the letter's vector.
import { MAX_NGRAMS_PER_WORD } from "../abi";
import { utf8IsLead } from "./utf8";
import { FNV_OFFSET, fnv1a, fnvByte, fnvBytes } from "../hash";

const WORD_START: u32 = 0x3c; // '<'
const WORD_END: u32 = 0x3e; // '>'

/**
 * Writes the rows of the n-grams of `word` (valid UTF-8) to `rows`, at most MAX_NGRAMS_PER_WORD,
 * in the order in which they begin; returns how many. A row is firstRow + hash % buckets.
 */
export function ngramRows(
  word: usize,
  length: u32,
  ngramMin: u32,
  ngramMax: u32,
  buckets: u32,
  firstRow: u32,
  rows: usize,
): u32 {
  let count: u32 = 0;
  // A division takes longer than all else here; of a power of two the remainder is the low bits.
  const mask = buckets & (buckets - 1) ? 0 : buckets - 1;
  // Position -1 stands for '<' and `length` for '>'.
  for (let start: i32 = -1; start < <i32>length; start++) {
    if (start >= 0 && !utf8IsLead(load<u8>(word + start))) continue;
    let hash = FNV_OFFSET;
    let points: u32 = 0;
    let p = start;
    while (points < ngramMax && p <= <i32>length) {
      // One code point: its lead byte and its continuation bytes.
      if (p < 0 || p == <i32>length) {
        hash = fnvByte(hash, p < 0 ? WORD_START : WORD_END);
        p++;
      } else {
        do {
          hash = fnvByte(hash, load<u8>(word + p));
          p++;
        } while (p < <i32>length && !utf8IsLead(load<u8>(word + p)));
      }
      points++;
      if (points >= ngramMin) {
        // '<' or '>' alone says nothing about the word.
        if (points == 1 && (start < 0 || p > <i32>length)) continue;
        store<u32>(rows + ((<usize>count) << 2), firstRow + (mask ? hash & mask : hash % buckets));
        if (++count == MAX_NGRAMS_PER_WORD) return count;
      }
    }
  }
  return count;
}

/** Hash of a letter, which letterPairRow continues with the next letter. Never 0, which stands for no letter. */
export function letterHash(letter: usize, length: u32): u32 {
  const hash = fnv1a(letter, length);
  return hash ? hash : 1;
}

/** Row of the pair of the letter hashed to `before` and this one. */
export function letterPairRow(before: u32, letter: usize, length: u32, buckets: u32, firstRow: u32): u32 {
  return firstRow + (fnvBytes(before, letter, length) % buckets);
}
