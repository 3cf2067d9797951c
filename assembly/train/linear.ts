// Trains the linear part (linear.ts) on the texts of fit.ts: one support vector machine a label, with squared
// hinge loss, by dual coordinate descent (C.-J. Hsieh et al., A Dual Coordinate Descent Method
// for Large-scale Linear SVM, 2008), for all labels at once. Features are words, pairs of
// words, the hashed n-grams of every word, and the numbers of its pretrained vector, if it has one; their values are inverse
// document frequencies, and each text has the length 1. Afterwards the n-grams and the vector of a known word are added to its row, so that in use it is one row.
//
//   fitLinear(bytes, isAlone) after describeModel: texts -> draft.linear, in its f32 form
//
// The scores are brought to the scale at which their softmax fits texts best that were held out; if none fits better than
// equal scores, there is no linear part. The logits of network and linear part are then averaged, by weights that depend on the number of texts,
// or the linear part stands alone. Only IEEE operations in a fixed order: the same bits everywhere.
import {
  ACTIVATION_SOFTMAX,
  ERR_BAD_ARGUMENT,
  ERR_BAD_STATE,
  ERR_OUT_OF_MEMORY,
  FORM_F32,
  FORM_INT8,
  LABEL_SMOOTHING,
  MAX_NGRAMS_PER_WORD,
  MAX_SEQUENCE,
  OK,
} from "../abi";
import { allocate, arenaRelease, arenaTop, claim } from "../arena";
import { expF32 } from "../network/activation";
import { Linear, LinearSum, indexPairs, linearPrepare, pairSlot } from "../network/linear";
import {
  LinearHeader,
  layerAt,
  layerBytes,
  linearBias,
  linearBytes,
  linearPairs,
  linearSquares,
  linearWeights,
} from "../network/model";
import { sequenceLinear } from "../network/sequence";
import { ngramRows } from "../text/ngram";
import { Tokenizer } from "../text/tokenizer";
import { Vocabulary, vocabularyFind } from "../text/vocabulary";
import { draft, isBuilt, isDescribed, linearLabels, linearTexts, reader } from "./builder";
import { wordNgrams } from "./dataset";
import { Fit, firstOfText, fittedWord, keptCount } from "./fit";
import { Growable, appendWord32, createGrowable, word32At } from "./growable";
import { sumOfSquares } from "./optimizer";
import { Random, logF32, randomSeed, shuffle } from "./random";
import { addScaledRow, scaleRow } from "./rows";
import { setCount, setHas, setLabel, setSize, sigmoidLoss } from "./sets";
import { vectorOf, vectorWidth } from "./vectors";
import { partsBytes } from "./write";

/** Value of an n-gram beside that of a word that is as rare. */
const NGRAM_WEIGHT: f32 = 0.7;
/** Value of a pretrained vector beside that of its word. */
const MEANING_WEIGHT: f32 = 0.7;
/** Bytes of the two ids of a pair in a file. */
const PAIR_BYTES: u64 = 8;
/** At most so much padding do rows of n-grams and pairs add to a file: of pairs, squares, weights and scales. */
const PADDING_BYTES: u64 = 4 * 16;
/** Weights of the loss beside the squared weights, C of liblinear and scikit-learn, that are tried: the less the texts tell of their labels, the smaller. */
const COSTS = 3;
const LARGEST_COST: f32 = 1;
const COST_STEP: f32 = 0.35;
/** Fewer texts that are held out tell too little. */
const ENOUGH_TO_CHOOSE: u32 = 1000;
const LEAST_CERTAINTY: f32 = 0.05;
const EPOCHS: u32 = 12;
/** Up to MOST_FOLDED texts, each is held out once; of more texts a fifth, but not more than MOST_FOLDED. */
const FOLDS: u32 = 5;
const MOST_FOLDED: u32 = 2000;
/** Scales that are tried: 2^(i / 4) from 2^-3 to 2^5. */
const SCALES: u32 = 33;

/** What is trained: features are numbered as the rows of the linear part are. */
@unmanaged
class Problem {
  fit: Fit;
  labels: u32; // K
  isSeveral: bool; // the label of a text is the number of a set, see sets.ts
  width: u32; // K rounded up to 4, floats of a row
  words: u32; // V
  buckets: u32;
  pairCount: u32;
  features: u32;
  texts: u32;
  strange: f32; // value of what no text has
  pairs: usize; // u32[pairCount][2]
  values: usize; // f32[features]
  featureEnds: usize; // u32[fit.wordCount]
  wordFeatures: Growable; // u32: features of each word of `fit`, end to end: its own, if it is known, and its n-grams
  pairOf: usize; // u32[tokens]: number of the pair of a token and the one before + 1, or 0
  scales: usize; // f32[texts]: 1 / length of the text's features
  squares: usize; // f32[texts]: squared length after that; above 1 when features repeat
  folds: usize; // u8[texts]
  weights: usize; // f32 (features, width)
  bias: usize; // f32[width]
  vectorWidth: u32; // D, numbers of a word's vector; 0 = words have none
  meanings: usize; // f32 (texts, D): sum of the vectors of a text's words, each times its value
  meaningWeights: usize; // f32 (D, width)
  alphas: usize; // f32 (texts, width)
  found: usize; // of the text that is read, for each feature: u32 address of its weights, f32 value
  scores: usize; // f32[width + 4]
  change: usize; // f32[width]
  owns: usize; // of the text's own labels: u32 offset in a row, f32 old and new dual variable
  order: usize; // u32[texts]
  random: Random;
}

let problem: Problem = changetype<Problem>(0);
let refused = false;
/** The model is the linear part alone. */
let alone: bool = false;

function reserve(bytes: u64): usize {
  const address = bytes < 0x7ffffff0 ? allocate(<usize>bytes) : 0;
  if (!address) refused = true;
  return address;
}

/**
 * Gives the described or opened model a linear part, in place of one that it has, trained on the texts of addText, so that its
 * int8 file has at most `bytes` bytes; none if not even its words have room, or its scores are of no use. The last layer
 * must be a softmax over the labels, or sigmoids if texts have several. With `isAlone` the network has no share in the scores, and it is
 * ERR_BAD_ARGUMENT if the words have no room. Returns a status.
 */
export function fitLinear(bytes: u32, isAlone: bool): i32 {
  const fit = linearTexts;
  if (!isDescribed() || isBuilt() || !changetype<usize>(fit)) return ERR_BAD_STATE;
  const header = draft.header;
  const last = layerAt(draft.layers, header.layerCount - 1);
  if ((last.activation != ACTIVATION_SOFTMAX && !header.multiLabel) || last.units != header.labelCount)
    return ERR_BAD_STATE;
  refused = false;
  alone = isAlone;
  draft.linear = 0;
  header.linearBytes = 0;
  reader.linear = changetype<LinearSum>(0);
  findWords(fit);
  const mark = arenaTop();
  const status = fitPart(fit, bytes);
  if (status != OK || !header.linearBytes) {
    arenaRelease(mark);
    return status;
  }
  // Of all that was allocated only the part stays.
  const from = draft.linear;
  arenaRelease(mark);
  draft.linear = claim(header.linearBytes);
  memory.copy(draft.linear, from, header.linearBytes);
  return sequenceLinear(reader, linearPrepare(draft)) ? OK : ERR_OUT_OF_MEMORY;
}

function fitPart(fit: Fit, bytes: u32): i32 {
  problem = changetype<Problem>(reserve(offsetof<Problem>()));
  if (refused) return ERR_OUT_OF_MEMORY;
  problem.fit = fit;
  problem.labels = draft.header.labelCount;
  problem.isSeveral = draft.header.multiLabel != 0;
  problem.words = draft.header.wordCount;
  const room = roomBesideWords(bytes);
  if (room == 0) return alone ? ERR_BAD_ARGUMENT : OK;
  return describe(room) && solveAll() && (factor == 0 || writePart()) ? OK : ERR_OUT_OF_MEMORY;
}

/** Sets the ids of the words of `fit`, and drops the signs that the vocabulary lacks, as sequenceRead does. */
function findWords(fit: Fit): void {
  const vocabulary = changetype<Vocabulary>(reader.vocabulary);
  for (let i: u32 = 0; i < fit.wordCount; i++) {
    const word = fittedWord(fit, i);
    word.id = vocabularyFind(vocabulary, fit.bytes + word.start, word.length);
  }
  let from: u32 = 0;
  let kept: u32 = 0;
  for (let i: u32 = 0; i < keptCount(fit); i++) {
    const end = word32At(fit.tokenEnds, i);
    for (; from < end; from++) {
      const index = word32At(fit.tokens, from);
      const word = fittedWord(fit, index);
      if (word.isSign && word.id == 0) continue;
      store<u32>(fit.tokens.address + ((<usize>kept) << 2), index);
      kept++;
    }
    store<u32>(fit.tokenEnds.address + ((<usize>i) << 2), kept);
  }
  fit.tokens.bytes = kept << 2;
}

function labelOf(text: u32): u32 {
  return word32At(linearLabels, text);
}

/** The first token of a text. */
function firstOf(text: u32): u32 {
  return firstOfText(problem.fit, text);
}

/** The token behind the last one that is read. */
function endOf(text: u32): u32 {
  return min(firstOfText(problem.fit, text + 1), firstOf(text) + MAX_SEQUENCE);
}

/** Numbers the features and gives them their values; false when memory is refused. */
function describe(room: u64): bool {
  const self = problem;
  const header = draft.header;
  const fit = self.fit;
  self.width = (self.labels + 3) & ~3;
  self.texts = keptCount(fit);
  self.strange = inverseFrequency(0);
  self.buckets = header.bucketCount;
  // N-grams get at most half of the room, pairs the rest.
  while (self.buckets != 0 && 2 * <u64>self.buckets * rowBytes() > room) self.buckets >>= 1;
  if (!listFeatures() || !choosePairs(room)) return false;
  self.features = self.words + self.buckets + self.pairCount;
  self.values = reserve(<u64>self.features * 4);
  self.scales = reserve(<u64>self.texts * 4);
  self.squares = reserve(<u64>self.texts * 4);
  self.folds = reserve(self.texts);
  // scoreText reads up to 16 bytes beyond a row.
  self.weights = reserve(<u64>self.features * self.width * 4 + 16);
  self.bias = reserve(<u64>self.width * 4);
  self.alphas = reserve(<u64>self.texts * self.width * 4);
  self.scores = reserve(<u64>self.width * 4 + 16);
  self.change = reserve(<u64>self.width * 4);
  self.owns = reserve(<u64>self.labels * 12);
  self.order = reserve(<u64>self.texts * 4);
  self.vectorWidth = vectorWidth();
  self.meanings = reserve(<u64>self.texts * self.vectorWidth * 4);
  self.meaningWeights = reserve(<u64>self.vectorWidth * self.width * 4);
  self.random = changetype<Random>(reserve(offsetof<Random>()));
  return !refused && weighFeatures() && measureTexts();
}

/** log((1 + N) / (1 + n)) + 1 of a feature that n of N texts have, as in scikit-learn. */
function inverseFrequency(texts: u32): f32 {
  return logF32(<f32>(problem.texts + 1) / <f32>(texts + 1)) + 1;
}

/** Lists the features of each word that the texts have. */
function listFeatures(): bool {
  const self = problem;
  const fit = self.fit;
  const header = draft.header;
  const capacity = changetype<Tokenizer>(reader.tokenizer).tokenCapacity;
  const rows = reserve(MAX_NGRAMS_PER_WORD << 2);
  self.featureEnds = reserve(<u64>fit.wordCount * 4);
  self.wordFeatures = createGrowable();
  if (refused || !changetype<usize>(self.wordFeatures)) return false;
  for (let w: u32 = 0; w < fit.wordCount; w++) {
    const word = fittedWord(fit, w);
    if (word.id && !appendWord32(self.wordFeatures, word.id - 1)) return false;
    if (self.buckets != 0) {
      const bytes = min(word.length, capacity);
      const count = ngramRows(
        fit.bytes + word.start,
        bytes,
        header.ngramMin,
        header.ngramMax,
        header.bucketCount,
        0,
        rows,
      );
      for (let i: u32 = 0; i < count; i++) {
        const bucket = load<u32>(rows + ((<usize>i) << 2)) % self.buckets;
        if (!appendWord32(self.wordFeatures, self.words + bucket)) return false;
      }
    }
    store<u32>(self.featureEnds + ((<usize>w) << 2), self.wordFeatures.bytes >> 2);
  }
  return true;
}

/** The first of the features of word `w` of the texts. */
// @ts-ignore: decorator
@inline
function firstFeature(w: u32): u32 {
  return w ? load<u32>(problem.featureEnds + ((<usize>(w - 1)) << 2)) : 0;
}

// A pair in one text: | first id, 20 bits | second id, 20 bits | text, 24 bits |

/** Chooses the pairs that get a row: those of the most texts, of equals those of the more frequent words. */
function choosePairs(room: u64): bool {
  const self = problem;
  const fit = self.fit;
  const tokens = fit.tokens.bytes >> 2;
  self.pairOf = reserve(<u64>tokens * 4);
  const found = reserve(<u64>tokens * 8);
  const scratch = reserve(<u64>tokens * 8);
  if (refused) return false;
  let count: u32 = 0;
  for (let i: u32 = 0; i < self.texts; i++) {
    for (let t = firstOf(i) + 1; t < endOf(i); t++) {
      const first = fittedWord(fit, word32At(fit.tokens, t - 1)).id;
      const second = fittedWord(fit, word32At(fit.tokens, t)).id;
      if (!first || !second) continue;
      store<u64>(found + ((<usize>count) << 3), ((<u64>first) << 44) | ((<u64>second) << 24) | (i & 0xffffff));
      count++;
    }
  }
  sortPairs(found, scratch, count);
  // Of each pair: its ids and the number of its texts, at most 2^24 - 1, in the place of the text.
  let distinct: u32 = 0;
  for (let i: u32 = 0; i < count;) {
    const key = load<u64>(found + ((<usize>i) << 3)) >> 24;
    let texts: u64 = 0;
    let before: u64 = u64.MAX_VALUE;
    for (; i < count; i++) {
      const one = load<u64>(found + ((<usize>i) << 3));
      if (one >> 24 != key) break;
      if (one != before) texts++;
      before = one;
    }
    store<u64>(found + ((<usize>distinct) << 3), (key << 24) | min<u64>(texts, 0xffffff));
    distinct++;
  }
  // More pairs than words gain nothing.
  const most = <u32>min<u64>((room - <u64>self.buckets * rowBytes()) / (rowBytes() + PAIR_BYTES), self.words);
  // Pairs of more than `rarest` texts have room, and `spare` of those of just so many.
  let rarest: u32 = 0;
  let spare = most;
  if (distinct > most) {
    const counts = memory.data(256 << 2, 4); // u32[256]: pairs by their texts, of which 255 stand for more, too
    memory.fill(counts, 0, 256 << 2);
    for (let i: u32 = 0; i < distinct; i++) {
      const slot = counts + ((<usize>textsOf(found, i)) << 2);
      store<u32>(slot, load<u32>(slot) + 1);
    }
    for (rarest = 255; rarest > 0 && load<u32>(counts + ((<usize>rarest) << 2)) <= spare; rarest--)
      spare -= load<u32>(counts + ((<usize>rarest) << 2));
  }
  self.pairs = reserve(<u64>min(distinct, most) * PAIR_BYTES);
  if (refused) return false;
  self.pairCount = 0;
  for (let i: u32 = 0; i < distinct; i++) {
    const texts = textsOf(found, i);
    if (texts < rarest || (texts == rarest && spare == 0)) continue;
    if (texts == rarest) spare--;
    const key = load<u64>(found + ((<usize>i) << 3)) >> 24;
    const to = self.pairs + ((<usize>self.pairCount) << 3);
    store<u32>(to, <u32>(key >> 20));
    store<u32>(to, <u32>(key & 0xfffff), 4);
    self.pairCount++;
  }
  const index = changetype<Linear>(reserve(offsetof<Linear>()));
  if (refused) return false;
  index.pairs = self.pairs;
  if (!indexPairs(index, self.pairCount)) return false;
  for (let i: u32 = 0; i < self.texts; i++) {
    for (let t = firstOf(i) + 1; t < endOf(i); t++) {
      const first = fittedWord(fit, word32At(fit.tokens, t - 1)).id;
      const second = fittedWord(fit, word32At(fit.tokens, t)).id;
      if (first && second) store<u32>(self.pairOf + ((<usize>t) << 2), load<u32>(pairSlot(index, first, second)));
    }
  }
  return true;
}

/** How many texts have a pair, at most 255. */
// @ts-ignore: decorator
@inline
function textsOf(found: usize, index: u32): u32 {
  return <u32>min<u64>(load<u64>(found + ((<usize>index) << 3)) & 0xffffff, 255);
}

/** Bytes that rows of n-grams and pairs may take in an int8 file of at most `bytes`. */
function roomBesideWords(bytes: u32): u64 {
  const header = draft.header;
  let taken: u64 = partsBytes(draft) + linearBytes(FORM_INT8, problem.words, 0, 0, problem.labels) + PADDING_BYTES;
  for (let i: u32 = 0; i < header.layerCount; i++) taken += layerBytes(FORM_INT8, layerAt(draft.layers, i));
  return taken < <u64>bytes ? <u64>bytes - taken : 0;
}

/** Bytes of a row in an int8 file: 4 bits a weight, its scale and its square. */
function rowBytes(): u64 {
  return <u64>((problem.labels + 1) >> 1) + 8;
}

/** Radix sort of u64[count], byte by byte; `scratch` is as large. */
function sortPairs(values: usize, scratch: usize, count: u32): void {
  const counts = memory.data(257 << 2, 4);
  let from = values;
  let to = scratch;
  for (let shift: u64 = 0; shift < 64; shift += 8) {
    memory.fill(counts, 0, 257 << 2);
    for (let i: u32 = 0; i < count; i++) {
      const slot = counts + ((<usize>(((load<u64>(from + ((<usize>i) << 3)) >> shift) & 255) + 1)) << 2);
      store<u32>(slot, load<u32>(slot) + 1);
    }
    for (let b: usize = 0; b < 256; b++)
      store<u32>(counts + ((b + 1) << 2), load<u32>(counts + ((b + 1) << 2)) + load<u32>(counts + (b << 2)));
    for (let i: u32 = 0; i < count; i++) {
      const value = load<u64>(from + ((<usize>i) << 3));
      const slot = counts + ((<usize>((value >> shift) & 255)) << 2);
      const place = load<u32>(slot);
      store<u32>(slot, place + 1);
      store<u64>(to + ((<usize>place) << 3), value);
    }
    const other = from;
    from = to;
    to = other;
  }
}

/** Sets the features' values by the number of texts that have them. */
function weighFeatures(): bool {
  const self = problem;
  const fit = self.fit;
  const seen = reserve(<u64>self.features * 4); // the last text that had the feature + 1
  const counts = reserve(<u64>self.features * 4);
  if (refused) return false;
  for (let i: u32 = 0; i < self.texts; i++) {
    for (let t = firstOf(i); t < endOf(i); t++) {
      const w = word32At(fit.tokens, t);
      for (let f = firstFeature(w), last = firstFeature(w + 1); f < last; f++)
        countText(seen, counts, word32At(self.wordFeatures, f), i);
      const pair = load<u32>(self.pairOf + ((<usize>t) << 2));
      if (pair) countText(seen, counts, self.words + self.buckets + pair - 1, i);
    }
  }
  for (let f: u32 = 0; f < self.features; f++) {
    const value = inverseFrequency(load<u32>(counts + ((<usize>f) << 2)));
    const isNgram = f >= self.words && f < self.words + self.buckets;
    store<f32>(self.values + ((<usize>f) << 2), isNgram ? NGRAM_WEIGHT * value : value);
  }
  return true;
}

function countText(seen: usize, counts: usize, feature: u32, text: u32): void {
  const at = (<usize>feature) << 2;
  if (load<u32>(seen + at) == text + 1) return;
  store<u32>(seen + at, text + 1);
  store<u32>(counts + at, load<u32>(counts + at) + 1);
}

// @ts-ignore: decorator
@inline
function valueOf(feature: u32): f32 {
  return load<f32>(problem.values + ((<usize>feature) << 2));
}

/** Measures the length of each text, and deals the texts of each label out to the folds. */
function measureTexts(): bool {
  const self = problem;
  const fit = self.fit;
  const sums = reserve(<u64>self.features * 4);
  const dealt = reserve(<u64>(self.isSeveral ? setCount() : self.labels) * 4);
  let mostFeatures: u32 = 0; // of a text
  if (refused) return false;
  for (let i: u32 = 0; i < self.texts; i++) {
    const first = firstOf(i);
    const end = endOf(i);
    let square: f32 = 0;
    for (let t = first; t < end; t++) {
      const w = word32At(fit.tokens, t);
      const id = fittedWord(fit, w).id;
      square += id ? addValue(sums, id - 1) : self.strange * self.strange;
      square += addMeaning(i, id);
      const ngrams = firstFeature(w) + (id ? 1 : 0);
      for (let f = ngrams, last = firstFeature(w + 1); f < last; f++)
        square += addValue(sums, word32At(self.wordFeatures, f));
      if (t == first) continue;
      const pair = load<u32>(self.pairOf + ((<usize>t) << 2));
      square += pair ? addValue(sums, self.words + self.buckets + pair - 1) : self.strange * self.strange;
    }
    const scale: f32 = square > 0 ? <f32>1 / sqrt<f32>(square) : 0;
    let exact: f32 = 0;
    let most: u32 = 0; // features, and a pair a token
    for (let t = first; t < end; t++) {
      const w = word32At(fit.tokens, t);
      const last = firstFeature(w + 1);
      for (let f = firstFeature(w); f < last; f++) exact += takeSquare(sums, word32At(self.wordFeatures, f));
      most += last - firstFeature(w) + 1;
      const pair = load<u32>(self.pairOf + ((<usize>t) << 2));
      if (pair) exact += takeSquare(sums, self.words + self.buckets + pair - 1);
    }
    mostFeatures = max(mostFeatures, most);
    store<f32>(self.scales + ((<usize>i) << 2), scale);
    const meaning = self.meanings + ((<usize>i * self.vectorWidth) << 2);
    exact += sumOfSquares(meaning, self.vectorWidth);
    scaleRow(meaning, scale, self.vectorWidth);
    store<f32>(self.squares + ((<usize>i) << 2), exact * scale * scale);
    const label = dealt + ((<usize>labelOf(i)) << 2);
    // Copies of a text share its fold: a text that is held out must not have been learnt.
    if (i > 0 && isCopy(i)) store<u8>(self.folds + i, load<u8>(self.folds + i - 1));
    else {
      store<u8>(self.folds + i, (load<u32>(label) + labelOf(i)) % FOLDS);
      store<u32>(label, load<u32>(label) + 1);
    }
  }
  self.found = reserve(<u64>mostFeatures * 8);
  return !refused;
}

/** Whether a text has the tokens of the one before it. */
function isCopy(text: u32): bool {
  const first = firstOf(text);
  const before = firstOf(text - 1);
  const count = endOf(text) - first;
  if (endOf(text - 1) - before != count) return false;
  const tokens = problem.fit.tokens.address;
  return memory.compare(tokens + ((<usize>first) << 2), tokens + ((<usize>before) << 2), (<usize>count) << 2) == 0;
}

/** Adds the feature's value to its sum; returns the value's square. */
function addValue(sums: usize, feature: u32): f32 {
  const value = valueOf(feature);
  const at = sums + ((<usize>feature) << 2);
  store<f32>(at, load<f32>(at) + value);
  return value * value;
}

/** The square of the feature's sum, which becomes 0. */
function takeSquare(sums: usize, feature: u32): f32 {
  const at = sums + ((<usize>feature) << 2);
  const sum = load<f32>(at);
  store<f32>(at, 0);
  return sum * sum;
}

/** Adds the vector of word `id` to the meaning of a text; returns the square of its length. */
function addMeaning(text: u32, id: u32): f32 {
  const vector = id ? vectorOf(id) : 0;
  if (!vector) return 0;
  const value = MEANING_WEIGHT * valueOf(id - 1);
  const width = problem.vectorWidth;
  addScaledRow(problem.meanings + ((<usize>text * width) << 2), vector, value, width);
  return value * value;
}

/** Trains on all texts but those of fold `heldOut`; FOLDS = none. */
function solve(heldOut: u32): void {
  const self = problem;
  const rowBytes = (<usize>self.width) << 2;
  memory.fill(self.weights, 0, <usize>self.features * rowBytes);
  memory.fill(self.bias, 0, rowBytes);
  memory.fill(self.meaningWeights, 0, <usize>self.vectorWidth * rowBytes);
  memory.fill(self.alphas, 0, <usize>self.texts * rowBytes);
  let count: u32 = 0;
  for (let i: u32 = 0; i < self.texts; i++) {
    if (<u32>load<u8>(self.folds + i) == heldOut) continue;
    store<u32>(self.order + ((<usize>count) << 2), i);
    count++;
  }
  randomSeed(self.random, 1);
  for (let epoch: u32 = 0; epoch < EPOCHS; epoch++) {
    shuffle(self.random, self.order, count);
    for (let o: u32 = 0; o < count; o++) learnText(load<u32>(self.order + ((<usize>o) << 2)));
  }
}

/** Moves the dual variables of one text, one a label, to their optimum with all others fixed. */
function learnText(text: u32): void {
  const self = problem;
  const rowBytes = (<usize>self.width) << 2;
  const end = scoreText(text);
  const rate: f32 = <f32>1 / (<f32>2 * cost);
  const step: f32 = <f32>1 / (load<f32>(self.squares + ((<usize>text) << 2)) + 1 + rate);
  const alphas = self.alphas + <usize>text * rowBytes;
  // Signed by the target, which is 1 for the text's own labels and -1 for the others; so alpha never has the other sign.
  const target = labelOf(text);
  const own: u32 = self.isSeveral ? setSize(target) : 1;
  for (let i: u32 = 0; i < own; i++) {
    const label = (<usize>(self.isSeveral ? setLabel(target, i) : target)) << 2;
    const old = load<f32>(alphas + label);
    const at = self.owns + <usize>i * 12;
    store<u32>(at, <u32>label);
    store<f32>(at, old, 4);
    store<f32>(at, max<f32>(0, old + (<f32>1 - load<f32>(self.scores + label) - rate * old) * step), 8);
  }
  for (let p: usize = 0; p < rowBytes; p += 16) {
    const before = v128.load(alphas + p);
    const gradient = f32x4.sub(
      f32x4.sub(f32x4.splat(-1), v128.load(self.scores + p)),
      f32x4.mul(f32x4.splat(rate), before),
    );
    const after = f32x4.pmin(f32x4.splat(0), f32x4.add(before, f32x4.mul(gradient, f32x4.splat(step))));
    v128.store(self.change + p, f32x4.sub(after, before));
    v128.store(alphas + p, after);
  }
  for (let at = self.owns, end = at + <usize>own * 12; at < end; at += 12) {
    const label = <usize>load<u32>(at);
    store<f32>(self.change + label, load<f32>(at, 8) - load<f32>(at, 4));
    store<f32>(alphas + label, load<f32>(at, 8));
  }
  for (let p = (<usize>self.labels) << 2; p < rowBytes; p += 4) store<f32>(self.change + p, 0);
  let change = i32x4.splat(0);
  for (let p: usize = 0; p < rowBytes; p += 16) change = v128.or(change, v128.load(self.change + p));
  // A text that is far enough on the right side for every label changes nothing.
  if (v128.any_true(change)) addChange(text, end);
}

/** Writes the scores of a text to `scores`, and its features to `found`; returns the address behind the last one. */
function scoreText(text: u32): usize {
  const self = problem;
  const end = findFeatures(text);
  memory.copy(self.scores, self.bias, (<usize>self.width) << 2);
  for (let d: u32 = 0; d < self.vectorWidth; d++)
    addScaledRow(self.scores, meaningRow(d), meaningValue(text, d), self.width);
  // Eight labels at a time, whose sums stay in registers.
  for (let p: usize = 0, bytes = (<usize>self.width) << 2; p < bytes; p += 32) {
    let sum0 = v128.load(self.scores + p);
    let sum1 = v128.load(self.scores + p, 16);
    for (let at = self.found; at < end; at += 8) {
      const row = <usize>load<u32>(at) + p;
      const value = v128.load32_splat(at, 4);
      sum0 = f32x4.add(sum0, f32x4.mul(value, v128.load(row)));
      sum1 = f32x4.add(sum1, f32x4.mul(value, v128.load(row, 16)));
    }
    v128.store(self.scores + p, sum0);
    v128.store(self.scores + p, sum1, 16);
  }
  return end;
}

/** Adds `change` to the bias and to the weights of all features of the text, which are in `found` up to `end`. */
function addChange(text: u32, end: usize): void {
  const self = problem;
  const rowBytes = (<usize>self.width) << 2;
  addScaledRow(self.bias, self.change, 1, self.width);
  for (let d: u32 = 0; d < self.vectorWidth; d++)
    addScaledRow(meaningRow(d), self.change, meaningValue(text, d), self.width);
  for (let at = self.found; at < end; at += 8) {
    const row = <usize>load<u32>(at);
    const value = v128.load32_splat(at, 4);
    for (let p: usize = 0; p < rowBytes; p += 16)
      v128.store(row + p, f32x4.add(v128.load(row + p), f32x4.mul(value, v128.load(self.change + p))));
  }
}

/** Writes the address of the weights and the value of each feature of a text to `found`; returns the address behind the last one. */
function findFeatures(text: u32): usize {
  const self = problem;
  const tokens = self.fit.tokens.address;
  const pairs = self.pairOf;
  const ends = self.featureEnds;
  const features = self.wordFeatures.address;
  const weights = self.weights;
  const rowBytes = (<usize>self.width) << 2;
  const values = self.values;
  const firstPair = self.words + self.buckets - 1;
  const scale = load<f32>(self.scales + ((<usize>text) << 2));
  let to = self.found;
  for (let t = (<usize>firstOf(text)) << 2, end = (<usize>endOf(text)) << 2; t < end; t += 4) {
    const w = (<usize>load<u32>(tokens + t)) << 2;
    let at = features + (w ? (<usize>load<u32>(ends + w - 4)) << 2 : 0);
    for (const last = features + ((<usize>load<u32>(ends + w)) << 2); at < last; at += 4, to += 8) {
      const feature = <usize>load<u32>(at);
      store<u32>(to, <u32>(weights + feature * rowBytes));
      store<f32>(to, scale * load<f32>(values + (feature << 2)), 4);
    }
    const pair = load<u32>(pairs + t);
    if (!pair) continue;
    const feature = <usize>(firstPair + pair);
    store<u32>(to, <u32>(weights + feature * rowBytes));
    store<f32>(to, scale * load<f32>(values + (feature << 2)), 4);
    to += 8;
  }
  return to;
}

// @ts-ignore: decorator
@inline
function meaningRow(d: u32): usize {
  return problem.meaningWeights + ((<usize>d * problem.width) << 2);
}

// @ts-ignore: decorator
@inline
function meaningValue(text: u32, d: u32): f32 {
  return load<f32>(problem.meanings + ((<usize>text * problem.vectorWidth + d) << 2));
}

let cost: f32 = LARGEST_COST;
/** Log loss of the scores at their best scale. */
let leastLoss: f64 = 0;

/** Scale of the scores times the share of the linear part, and the share of the network. */
let factor: f32 = 0;
let networkShare: f32 = 0;

/** Finds cost, scale and shares on held-out texts, then trains on all. */
function solveAll(): bool {
  const self = problem;
  const held = reserve(<u64>min(self.texts, MOST_FOLDED) * self.width * 4);
  const heldLabels = reserve(<u64>min(self.texts, MOST_FOLDED) * 4);
  if (refused) return false;
  let best = LARGEST_COST;
  let scale: f32 = 0;
  let least: f64 = Infinity;
  let accuracy: f32 = 0;
  cost = LARGEST_COST;
  const costs = self.texts < ENOUGH_TO_CHOOSE ? 1 : COSTS;
  for (let tried = 0; tried < costs; tried++) {
    const count = holdOut(held, heldLabels);
    const found = bestScale(held, heldLabels, count);
    if (leastLoss < least) {
      least = leastLoss;
      accuracy = <f32>(countRight(held, heldLabels, count) + 1) / <f32>(count + 2);
      scale = found;
      best = cost;
    } else if (scale > 0) break; // still smaller ones would be worse, too
    cost *= COST_STEP;
  }
  cost = best;
  // The fewer texts, or the less they tell of their labels, the less the network's own scores say (bench/README.md).
  const ofFew: f32 = <f32>0.5 + <f32>10 / sqrt<f32>(<f32>self.texts);
  const unsure = <f32>1 / certainty(accuracy);
  const ofUnsure: f32 = self.texts < ENOUGH_TO_CHOOSE ? 0 : <f32>0.7 * unsure * sqrt<f32>(unsure);
  const weight = max<f32>(ofFew, ofUnsure);
  networkShare = alone ? 0 : <f32>1 / (<f32>1 + weight);
  factor = (alone ? <f32>1 : weight * networkShare) * scale;
  solve(FOLDS);
  return true;
}

/** Writes the scores of texts that are held out, f32 (count, width), and their labels, u32[count]; returns the count. */
function holdOut(held: usize, heldLabels: usize): u32 {
  const self = problem;
  const folds: u32 = self.texts <= MOST_FOLDED ? FOLDS : 1;
  let count: u32 = 0;
  for (let fold: u32 = 0; fold < folds; fold++) {
    solve(fold);
    for (let i: u32 = 0; i < self.texts && count < MOST_FOLDED; i++) {
      if (<u32>load<u8>(self.folds + i) != fold) continue;
      scoreText(i);
      memory.copy(held + ((<usize>count * self.width) << 2), self.scores, (<usize>self.width) << 2);
      store<u32>(heldLabels + ((<usize>count) << 2), labelOf(i));
      count++;
    }
  }
  return count;
}

/** Of texts held out, how many have their label's score, or that of one of several, as the largest one. */
function countRight(scores: usize, labels: usize, count: u32): u32 {
  let right: u32 = 0;
  for (let t: u32 = 0; t < count; t++) {
    const row = scores + ((<usize>t * problem.width) << 2);
    let best: u32 = 0;
    for (let k: u32 = 1; k < problem.labels; k++)
      if (load<f32>(row + ((<usize>k) << 2)) > load<f32>(row + ((<usize>best) << 2))) best = k;
    const label = load<u32>(labels + ((<usize>t) << 2));
    if (problem.isSeveral ? setHas(label, best) : best == label) right++;
  }
  return right;
}

/**
 * A network is trained until it is sure of every text: its logits of a text's label and of the others differ by
 * log(own / other) of its smoothed targets. Where only `accuracy` of new texts are right, logits should differ by
 * log(accuracy / its rest's part). Returns the share of the latter, LEAST_CERTAINTY ... 1.
 */
function certainty(accuracy: f32): f32 {
  const others = <f32>(problem.labels - 1);
  const smoothing = <f32>LABEL_SMOOTHING;
  const trained = logF32((<f32>1 - (smoothing * others) / (others + 1)) / (smoothing / (others + 1)));
  const found = logF32((accuracy * others) / (<f32>1 - accuracy));
  return max<f32>(LEAST_CERTAINTY, min<f32>(1, found / trained));
}

/**
 * The scale of the scores, f32 (count, width), with the smallest log loss; 0 if no scale beats equal scores for all labels,
 * unless these scores are all that there is.
 * Labels are smoothed by the share of one text among count + 1, since so few right answers say only so much.
 */
function bestScale(scores: usize, labels: usize, count: u32): f32 {
  let best: f32 = alone ? 1 : 0;
  // Of several labels, equal scores are halves.
  const equal: f64 = problem.isSeveral ? <f64>problem.labels * <f64>logF32(2) : <f64>logF32(<f32>problem.labels);
  let least: f64 = alone ? Infinity : <f64>count * equal;
  let power: f32 = 0.125;
  const smoothing: f32 = <f32>1 / <f32>(count + 1);
  for (let i: u32 = 0; i < SCALES; i++) {
    let loss: f64 = 0;
    for (let t: u32 = 0; t < count; t++) {
      const row = scores + ((<usize>t * problem.width) << 2);
      const label = load<u32>(labels + ((<usize>t) << 2));
      loss += <f64>(
        (problem.isSeveral
          ? sigmoidLoss(row, problem.labels, label, true, power, smoothing)
          : logLoss(row, label, power, smoothing))
      );
    }
    if (loss < least) {
      least = loss;
      best = power;
    }
    power *= 1.1892071;
  }
  leastLoss = least;
  return best;
}

/** log sum e^(scale s) - scale (s_label + smoothing (mean s - s_label)). */
function logLoss(scores: usize, label: u32, scale: f32, smoothing: f32): f32 {
  let largest = load<f32>(scores);
  for (let k: u32 = 1; k < problem.labels; k++) largest = max<f32>(largest, load<f32>(scores + ((<usize>k) << 2)));
  let sum: f32 = 0;
  let total: f32 = 0;
  for (let k: u32 = 0; k < problem.labels; k++) {
    const score = load<f32>(scores + ((<usize>k) << 2));
    sum += expF32(scale * (score - largest));
    total += score;
  }
  const own = load<f32>(scores + ((<usize>label) << 2));
  return logF32(sum) + scale * (largest - own - smoothing * (total / <f32>problem.labels - own));
}

/** Writes the part in its f32 form: rows are weights times values times `factor`, those of a word with its n-grams added. */
function writePart(): bool {
  const self = problem;
  const header = draft.header;
  const labels = self.labels;
  const bytes = linearBytes(FORM_F32, self.words, self.buckets, self.pairCount, labels);
  const linear = reserve(bytes);
  const ngrams = reserve(MAX_NGRAMS_PER_WORD << 2);
  if (refused) return false;
  const part = changetype<LinearHeader>(linear);
  part.bucketCount = self.buckets;
  part.pairCount = self.pairCount;
  part.strangeSquare = self.strange * self.strange;
  part.networkShare = networkShare;
  const squares = linearSquares(linear);
  const rows = linearWeights(linear, self.features);
  memory.copy(linearPairs(linear), self.pairs, (<usize>self.pairCount) << 3);
  for (let f: u32 = 0; f < self.features; f++) addFeature(rows, squares, f, f);
  for (let id: u32 = 1; id <= self.words; id++) addMeaningRow(rows, squares, id);
  for (let id: u32 = 1; self.buckets != 0 && id <= self.words; id++) {
    const firstBucket = layerAt(draft.layers, 0).inputWidth - header.bucketCount;
    const count = wordNgrams(draft, id, ngrams);
    for (let i: u32 = 0; i < count; i++) {
      const bucket = (load<u32>(ngrams + ((<usize>i) << 2)) - firstBucket) % self.buckets;
      addFeature(rows, squares, id - 1, self.words + bucket);
    }
  }
  const bias = linearBias(linear, FORM_F32, self.features, labels);
  for (let k: usize = 0; k < (<usize>labels) << 2; k += 4) store<f32>(bias + k, factor * load<f32>(self.bias + k));
  header.linearBytes = <u32>bytes;
  draft.linear = linear;
  return true;
}

/** Adds a feature to a row of the part. */
function addFeature(rows: usize, squares: usize, row: u32, feature: u32): void {
  const self = problem;
  const value = valueOf(feature);
  const square = squares + ((<usize>row) << 2);
  store<f32>(square, load<f32>(square) + value * value);
  addScaledRow(
    rows + ((<usize>row * self.labels) << 2),
    self.weights + ((<usize>feature * self.width) << 2),
    factor * value,
    self.labels,
  );
}

/** Adds what the vector of word `id` says, if it has one, to its row of the part. */
function addMeaningRow(rows: usize, squares: usize, id: u32): void {
  const self = problem;
  const vector = vectorOf(id);
  if (!vector) return;
  const value = MEANING_WEIGHT * valueOf(id - 1);
  const square = squares + ((<usize>(id - 1)) << 2);
  store<f32>(square, load<f32>(square) + value * value);
  for (let d: u32 = 0; d < self.vectorWidth; d++)
    addScaledRow(
      rows + ((<usize>(id - 1) * self.labels) << 2),
      self.meaningWeights + ((<usize>d * self.width) << 2),
      factor * value * load<f32>(vector + ((<usize>d) << 2)),
      self.labels,
    );
}
