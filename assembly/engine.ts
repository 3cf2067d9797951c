// The one loaded model and its buffers: what index.ts, render.ts and wasi.ts share.
// Loading validates, prepares and fixes the memory; a failed load leaves no model.
//
//   arena: | model file | Model, Plan, Sequence | plan's blocks | text | scores |
import { ERR_NO_MODEL, ERR_OUT_OF_MEMORY, ERR_TEXT_TOO_LONG, FORMAT_MAGIC, OK, TEXT_CAPACITY } from "./abi";
import { allocate, arenaBase, arenaRelease, arenaTop, claim } from "./arena";
import { classifyText, scoreSteps } from "./network/classify";
import { Header, Model, labelAddress, labelLength, readModel } from "./network/model";
import { Plan } from "./network/plan";
import { prepare } from "./network/prepare";
import { Sequence, sequencePrepare } from "./network/sequence";

const NEWLINE: u8 = 0x0a;
const CARRIAGE_RETURN: u8 = 0x0d;
/** Parts the levels of a label's name: `home/light` is the parent of `home/light/on`. */
const SLASH: u8 = 0x2f;

let isLoaded: bool = false;
let text: usize = 0; // u8[TEXT_CAPACITY]
let scores: usize = 0; // f32[labelCount], padded to 4
let best: u32 = 0; // label of the last text's largest score
let model: Model = changetype<Model>(0);
let plan: Plan = changetype<Plan>(0);
let sequence: Sequence = changetype<Sequence>(0);

/** Makes room for a model file of `length` bytes and returns its address, 0 when memory is refused. */
export function reserveModel(length: u32): usize {
  isLoaded = false;
  arenaRelease(arenaBase());
  return claim(length);
}

/** Loads the file of `length` bytes that was written to reserveModel's address. Returns a status. */
export function loadModel(length: u32): i32 {
  isLoaded = false;
  best = 0;
  const address = arenaBase();
  if (<usize>length > arenaTop() - address) return ERR_NO_MODEL;
  arenaRelease((address + length + 15) & ~15);
  const status = prepareAll(address, length);
  isLoaded = status == OK;
  return status;
}

/** Loads the model that `edgelabel pack` put into this module's data. Returns a status. */
export function loadEmbedded(): i32 {
  const address = arenaBase();
  const end = (<usize>memory.size()) << 16;
  if (address + offsetof<Header>() > end) return ERR_NO_MODEL;
  const header = changetype<Header>(address);
  if (header.magic != FORMAT_MAGIC || <usize>header.fileBytes > end - address) return ERR_NO_MODEL;
  reserveModel(header.fileBytes);
  return loadModel(header.fileBytes);
}

function prepareAll(address: usize, length: u32): i32 {
  model = changetype<Model>(allocate(offsetof<Model>()));
  plan = changetype<Plan>(allocate(offsetof<Plan>()));
  sequence = changetype<Sequence>(allocate(offsetof<Sequence>()));
  if (!changetype<usize>(model) || !changetype<usize>(plan) || !changetype<usize>(sequence)) return ERR_OUT_OF_MEMORY;
  let status = readModel(address, length, model);
  if (status != OK) return status;
  status = sequencePrepare(sequence, model);
  if (status != OK) return status;
  status = prepare(plan, model);
  if (status != OK) return status;
  text = allocate(TEXT_CAPACITY);
  scores = allocate(((<usize>model.header.labelCount + 3) & ~3) << 2);
  return text && scores ? OK : ERR_OUT_OF_MEMORY;
}

/** Where a text is written before classify(): u8[TEXT_CAPACITY]; 0 without a model. */
export function textPtr(): usize {
  return isLoaded ? text : 0;
}

/**
 * Classifies the first `length` bytes at textPtr(), UTF-8, whatever way they came in. NULs at
 * the end, and one line end before them, were put there by what sent the text: they are no
 * part of it. Returns a status; then see bestLabel() and scoresPtr().
 */
export function classify(length: u32): i32 {
  if (!isLoaded) return ERR_NO_MODEL;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  const status = classifyText(model, plan, sequence, text, withoutEnd(length), scores);
  if (status == OK) findBest();
  return status;
}

function findBest(): void {
  best = 0;
  let largest = scoreOf(0);
  for (let i: u32 = 1, count = labelCount(); i < count; i++) {
    const score = scoreOf(i);
    if (score <= largest) continue;
    best = i;
    largest = score;
  }
}

function withoutEnd(length: u32): u32 {
  while (endsWith(length, 0)) length--;
  if (endsWith(length, NEWLINE)) length--;
  return endsWith(length, CARRIAGE_RETURN) ? length - 1 : length;
}

function endsWith(length: u32, byte: u8): bool {
  return length > 0 && load<u8>(text + length - 1) == byte;
}

/** Scores of the last text in class order: f32[labelCount()]. */
export function scoresPtr(): usize {
  return scores;
}

/** Class with the largest score of the last text; of equal scores the first. */
export function bestLabel(): u32 {
  return best;
}

/**
 * True when the model's own rule rejects the last answer as unknown: its score or
 * the lead over the best label outside it is too small, or too many tokens are not in the vocabulary.
 */
export function isRejected(): bool {
  const header = model.header;
  return (
    answerScore() < header.rejectScore ||
    (header.rejectMargin > 0 && margin() < header.rejectMargin) ||
    (sequence.total > 0 && <f32>sequence.unknown > header.rejectUnknown * <f32>sequence.total)
  );
}

/** Whether the model gives several labels a text: each one whose score is its threshold or more. */
export function isMultiLabel(): bool {
  return isLoaded && model.header.multiLabel != 0;
}

/** Of a model that gives several labels a text: how many the last text has; they are those with the best scores. */
export function givenCount(): u32 {
  if (isRejected()) return 0;
  let count: u32 = 0;
  for (let i: u32 = 0; i < labelCount(); i++) if (scoreOf(i) >= model.header.rejectScore) count++;
  return count;
}

/** Lead of the last answer's score over that of the best label outside it, or over 0. */
export function margin(): f32 {
  const parent = parentBytes();
  let second: f32 = 0;
  for (let i: u32 = 0; i < labelCount(); i++) {
    if (!isWithin(i, parent) && scoreOf(i) > second) second = scoreOf(i);
  }
  return answerScore() - second;
}

/**
 * When the best label of the last text is doubtful, with a score below the model's `levels`, the answer is the nearest
 * of its parents whose labels together reach that, or else the topmost. Returns how many bytes of the label's name
 * are the parent's; 0 when the answer is the label itself.
 */
export function parentBytes(): u32 {
  const least = model.header.levels;
  // Written so that levels = 0, which is off, stops here.
  if (!(scoreOf(best) < least)) return 0;
  const name = labelPtr(best);
  let parent: u32 = 0;
  for (let end = labelBytes(best) - 1; end > 0; end--) {
    if (load<u8>(name + end) != SLASH) continue;
    parent = end;
    if (scoreWithin(parent) >= least) break;
  }
  return parent;
}

/** Score of the last answer: that of the best label, or the sum over the labels of its parent. */
export function answerScore(): f32 {
  return scoreWithin(parentBytes());
}

function scoreWithin(parent: u32): f32 {
  if (parent == 0) return scoreOf(best);
  let sum: f32 = 0;
  for (let i: u32 = 0; i < labelCount(); i++) if (isWithin(i, parent)) sum += scoreOf(i);
  // Rounding must not make it more than certain.
  return min<f32>(1, sum);
}

/** Whether a label is the parent that the first bytes of the best label's name are, or has it as a parent; for 0 bytes, whether it is the best label. */
function isWithin(label: u32, parent: u32): bool {
  if (parent == 0) return label == best;
  const bytes = labelBytes(label);
  const name = labelPtr(label);
  return (
    bytes >= parent &&
    memory.compare(name, labelPtr(best), parent) == 0 &&
    (bytes == parent || load<u8>(name + parent) == SLASH)
  );
}

// @ts-ignore: decorator
@inline
export function scoreOf(label: u32): f32 {
  return load<f32>(scores + ((<usize>label) << 2));
}

/** Tokens of the last text, including those that were cut off or dropped. */
export function tokenCount(): u32 {
  return isLoaded ? sequence.total : 0;
}

/** Tokens of the last text that the vocabulary lacks. */
export function unknownCount(): u32 {
  return isLoaded ? sequence.unknown : 0;
}

export function labelCount(): u32 {
  return isLoaded ? model.header.labelCount : 0;
}

/** UTF-8 of a label, labelBytes(label) long. */
export function labelPtr(label: u32): usize {
  return label < labelCount() ? labelAddress(model, label) : 0;
}

export function labelBytes(label: u32): u32 {
  return label < labelCount() ? labelLength(model, label) : 0;
}

/** The loaded model; only after a successful load. */
export function loadedModel(): Model {
  return model;
}

export function loadedPlan(): Plan {
  return plan;
}

/** The steps of the last text. */
export function loadedSequence(): Sequence {
  return sequence;
}

/** Writes the scores of the steps of another Sequence to `target`, f32[labelCount] padded to 4; those of the last text are not changed. Returns a status. */
export function scoreWith(steps: Sequence, target: usize): i32 {
  return scoreSteps(model, plan, steps, target);
}

export function hasModel(): bool {
  return isLoaded;
}
