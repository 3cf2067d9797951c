// Which tokens made a score: the text classified last -> a share of a label's score for each
// piece of it, by occlusion: pieces are hidden and the network runs again. A piece is a
// token, or in texts of more than MAX_PIECES tokens a run of them. Called by the host
// through index.ts, one forward pass a call, so that other texts can be classified between.
//
//   whole = score(t1 ... tn), base = score of the text with all pieces hidden
//   share(ti) = half of   score(t1 ... ti) - score(t1 ... ti-1)     hidden from the last one on
//             + half of   score(ti ... tn) - score(ti+1 ... tn)     hidden from the first one on
//
// Each half adds up to whole - base, and so do the shares. They are the mean over two of the
// n! orders that Shapley values average over, for 2 n - 1 passes. sequenceShow hides tokens.
import { ERR_BAD_STATE, ERR_NO_MODEL, MAX_PIECES, OK } from "./abi";
import { allocate } from "./arena";
import { bestLabel, hasModel, labelCount, loadedModel, loadedSequence, scoreOf, scoreWith } from "./engine";
import {
  Sequence,
  dropContext,
  sequenceCopy,
  sequenceLinear,
  sequenceReserve,
  sequenceShow,
  tokenEnd,
  tokenStart,
} from "./network/sequence";

/** A piece of the text and its share of the score. */
@unmanaged
export class Piece {
  start: u32; // bytes of the text
  end: u32;
  share: f64;
}

let pieces: usize = 0; // Piece[MAX_PIECES]
let count: u32 = 0;
let size: u32 = 1; // tokens of a piece; the last one may have fewer
let explained: u32 = 0; // label
let whole: f64 = 0;
let base: f64 = 0;
let sequence: Sequence = changetype<Sequence>(0); // copy of the explained text's steps, since others may be classified between
let scores: usize = 0; // f32[labelCount] of the last pass, padded to 4
let passes: u32 = 0; // done
let before: f64 = 0; // score before the next piece is hidden

/** Makes room while a model is loaded; false when memory is refused. */
export function prepareExplaining(): bool {
  sequence = changetype<Sequence>(allocate(offsetof<Sequence>()));
  scores = allocate(((<usize>labelCount() + 3) & ~3) << 2);
  return changetype<usize>(sequence) && scores && reserveSequence() && preparePieces();
}

function reserveSequence(): bool {
  if (!sequenceReserve(sequence, loadedModel())) return false;
  const linear = loadedSequence().linear;
  return !changetype<usize>(linear) || sequenceLinear(sequence, linear.linear);
}

/** Makes room for the pieces alone. */
export function preparePieces(): bool {
  count = 0;
  passes = 0;
  pieces = allocate(<usize>MAX_PIECES * offsetof<Piece>());
  return pieces != 0;
}

/** Begins to explain the score of label number `label`, or of the best one when there is no such number, for the text classified last. Returns a status. */
export function explainLast(label: u32): i32 {
  if (!hasModel()) return ERR_NO_MODEL;
  sequenceCopy(sequence, loadedSequence());
  cutPieces(sequence);
  explained = label < labelCount() ? label : bestLabel();
  whole = <f64>scoreOf(explained);
  base = whole;
  before = whole;
  passes = 0;
  return OK;
}

/** Number of forward passes that are still to do. */
export function passesLeft(): u32 {
  return count ? 2 * count - 1 - passes : 0;
}

/** Does the next forward pass. Returns a status; ERR_BAD_STATE when none is left. */
export function explainNext(): i32 {
  if (passesLeft() == 0) return ERR_BAD_STATE;
  const isFromLast = passes < count;
  const index = isFromLast ? count - 1 - passes : passes - count;
  if (isFromLast) sequenceShow(sequence, 0, index * size);
  else {
    const first = min((index + 1) * size, sequence.tokens);
    sequenceShow(sequence, first, sequence.tokens);
    if (first < sequence.tokens) dropContext(sequence, first);
  }
  const status = scoreWith(sequence, scores);
  if (status != OK) return status;
  hide(index, <f64>load<f32>(scores + ((<usize>explained) << 2)));
  passes++;
  if (passes == count) {
    base = before;
    before = whole;
  }
  // With the last piece hidden too, nothing is shown: that score is known from the first half.
  if (passesLeft() == 0) hide(count - 1, base);
  return OK;
}

/** Notes the score after piece `index` was hidden. */
function hide(index: u32, after: f64): void {
  pieceAt(index).share += (before - after) * 0.5;
  before = after;
}

/** Cuts the kept tokens into pieces with a share of 0; returns how many tokens a piece has. */
export function cutPieces(from: Sequence): u32 {
  const tokens = from.tokens;
  size = max<u32>(1, (tokens + MAX_PIECES - 1) / MAX_PIECES);
  count = (tokens + size - 1) / size;
  for (let i: u32 = 0; i < count; i++) {
    const piece = pieceAt(i);
    piece.start = tokenStart(from, i * size);
    piece.end = tokenEnd(from, min((i + 1) * size, tokens) - 1);
    piece.share = 0;
  }
  return size;
}

/** Sets label, score and base that another method found; the pieces have their shares already. */
export function setExplained(label: u32, wholeScore: f64, emptyScore: f64): void {
  explained = label;
  whole = wholeScore;
  base = emptyScore;
}

// @ts-ignore: decorator
@inline
export function pieceAt(index: u32): Piece {
  return changetype<Piece>(pieces + <usize>index * offsetof<Piece>());
}

export function pieceCount(): u32 {
  return count;
}

/** First byte of a piece in the text; this and the next two give 0 beyond the last piece. */
export function pieceStart(index: u32): u32 {
  return index < count ? pieceAt(index).start : 0;
}

/** Byte behind a piece. */
export function pieceEnd(index: u32): u32 {
  return index < count ? pieceAt(index).end : 0;
}

export function pieceShare(index: u32): f64 {
  return index < count ? pieceAt(index).share : 0;
}

/** The label whose score is explained. */
export function explainedLabel(): u32 {
  return explained;
}

/** The score of that label. */
export function explainedScore(): f64 {
  return whole;
}

/** The score of that label when all pieces are hidden. */
export function baseScore(): f64 {
  return base;
}
