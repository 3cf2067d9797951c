// Answers to labelled texts, and which of them to reject: a loaded model of any form and
// texts with their labels -> thresholds of a rule for unknown texts, how many answers a rule
// rejects, and how well scores separate right answers from wrong ones. Called through
// assembly/train/index.ts after engine.ts has loaded a file; calibrate.ts writes the thresholds to it.
//
//   startAnswers() -> addAnswer(label, length) ...
//     -> fitRejection(share) or setRule(…), then rejectedCount(kind)
//     -> scoreAtCoverage(share), riskCoverageArea(), unknownRanking()
import {
  ANSWER_RIGHT,
  ANSWER_UNKNOWN,
  ANSWER_WRONG,
  ERR_BAD_ARGUMENT,
  ERR_BAD_STATE,
  ERR_LABEL_OUT_OF_RANGE,
  ERR_NO_MODEL,
  ERR_NO_SAMPLES,
  ERR_OUT_OF_MEMORY,
  OK,
} from "../../abi";
import { allocate, arenaRelease, arenaTop } from "../../arena";
import {
  bestLabel,
  classify,
  hasModel,
  isMultiLabel,
  labelCount,
  margin,
  scoreOf,
  tokenCount,
  unknownCount,
} from "../../engine";
import { Growable, createGrowable, extend } from "../growable";
import { isTarget, setHas, startSets } from "../sets";

/** The answer to a text, as far as a rule needs it. */
@unmanaged
class Answer {
  kind: u32; // ANSWER_*
  score: f32; // the best one
  margin: f32; // its lead over the second
  unknownShare: f32; // share of the tokens that the vocabulary lacks
}

/** Added to the threshold for unknown tokens, so that rounding does not reject the very answer that set it. */
const SHARE_ROUNDING: f32 = 1e-6;

/** Thresholds for the labels of texts that have several: 0, 1 / (THRESHOLDS - 1) ... 1. */
const THRESHOLDS: u32 = 1001;

let answers: Growable = changetype<Growable>(0); // Answer[N]
let counts: usize = 0; // u32[THRESHOLDS][2]: scores of false and of true labels, of texts that have several
// The rule.
let leastScore: f32 = 0;
let leastMargin: f32 = 0;
let mostUnknown: f32 = 1;

/** Begins to collect answers of the loaded model. Returns a status. */
export function startAnswers(): i32 {
  if (!hasModel()) return ERR_NO_MODEL;
  answers = createGrowable();
  setRule(0, 0, 1);
  counts = isMultiLabel() ? allocate((<usize>THRESHOLDS) << 3) : 0;
  if (isMultiLabel() && (!counts || !startSets())) return ERR_OUT_OF_MEMORY;
  return changetype<usize>(answers) ? OK : ERR_OUT_OF_MEMORY;
}

/** Forgets the collected answers; their memory is about to be reused. */
export function forgetAnswers(): void {
  answers = changetype<Growable>(0);
  counts = 0;
}

/**
 * Classifies the `length` bytes at textPtr() and keeps the answer. `label` is the true label; labelCount() or more when the model lacks it.
 * Of several labels it is the number of their set, and the answer is right when the best label is one of them. Returns a status.
 */
export function addAnswer(label: u32, length: u32): i32 {
  if (!changetype<usize>(answers)) return ERR_BAD_STATE;
  if (isMultiLabel() && !isTarget(label, true, labelCount())) return ERR_LABEL_OUT_OF_RANGE;
  const status = classify(length);
  if (status != OK) return status;
  const address = extend(answers, <u32>offsetof<Answer>());
  if (!address) return ERR_OUT_OF_MEMORY;
  const answer = changetype<Answer>(address);
  const best = bestLabel();
  const isSeveral = isMultiLabel();
  for (let k: u32 = 0; isSeveral && k < labelCount(); k++) {
    // Scores of sigmoids are 0 ... 1.
    const at = counts + ((<usize>(<u32>(scoreOf(k) * <f32>(THRESHOLDS - 1)))) << 3) + (setHas(label, k) ? 4 : 0);
    store<u32>(at, load<u32>(at) + 1);
  }
  const isRight = isSeveral ? setHas(label, best) : best == label;
  answer.kind = isRight ? ANSWER_RIGHT : isSeveral || label < labelCount() ? ANSWER_WRONG : ANSWER_UNKNOWN;
  answer.score = scoreOf(best);
  answer.margin = margin();
  answer.unknownShare = tokenCount() ? <f32>unknownCount() / <f32>tokenCount() : 0;
  return OK;
}

// @ts-ignore: decorator
@inline
function total(): u32 {
  return changetype<usize>(answers) ? answers.bytes / <u32>offsetof<Answer>() : 0;
}

// @ts-ignore: decorator
@inline
function answerAt(index: u32): Answer {
  return changetype<Answer>(answers.address + <usize>index * offsetof<Answer>());
}

/** Number of answers of a kind, ANSWER_*. */
export function answerCount(kind: u32): u32 {
  let n: u32 = 0;
  for (let i: u32 = 0; i < total(); i++) if (answerAt(i).kind == kind) n++;
  return n;
}

// --- the rule ----------------------------------------------------------------------

/** Sets the rule for rejectedCount; see Header.rejectScore and the fields behind it. */
export function setRule(score: f32, margin: f32, unknownShare: f32): void {
  leastScore = score;
  leastMargin = margin;
  mostUnknown = unknownShare;
}

export function ruleScore(): f32 {
  return leastScore;
}

export function ruleMargin(): f32 {
  return leastMargin;
}

export function ruleUnknown(): f32 {
  return mostUnknown;
}

/** Number of answers of a kind that the rule rejects. */
export function rejectedCount(kind: u32): u32 {
  let n: u32 = 0;
  for (let i: u32 = 0; i < total(); i++) {
    const answer = answerAt(i);
    if (
      answer.kind == kind &&
      (answer.score < leastScore || answer.margin < leastMargin || answer.unknownShare > mostUnknown)
    )
      n++;
  }
  return n;
}

/**
 * Finds the rule that rejects most wrong answers and unknown texts, while it rejects at most `share` of the right answers.
 * For each set of criteria (score, margin, unknown tokens), each criterion rejects the same number of right answers, as
 * large as possible; the best set is taken, of equally good ones the first in CRITERIA. Returns a status; ERR_NO_SAMPLES
 * without a right answer.
 */
export function fitRejection(share: f64): i32 {
  if (!(share >= 0 && share < 1)) return ERR_BAD_ARGUMENT;
  const right = answerCount(ANSWER_RIGHT);
  if (right == 0) return ERR_NO_SAMPLES;
  const mark = arenaTop();
  const scores = sortedFigures(offsetof<Answer>("score"), ANSWER_RIGHT);
  const margins = sortedFigures(offsetof<Answer>("margin"), ANSWER_RIGHT);
  const shares = sortedFigures(offsetof<Answer>("unknownShare"), ANSWER_RIGHT);
  if (!scores || !margins || !shares) {
    arenaRelease(mark);
    return ERR_OUT_OF_MEMORY;
  }
  const most = <u32>floor<f64>(share * <f64>right);
  let bestSet: u32 = 0;
  let bestLost: u32 = 0;
  let highest: u32 = 0;
  for (let i: usize = 0; i < 7; i++) {
    const criteria = <u32>load<u8>(CRITERIA + i);
    let low: u32 = 0; // does not reject too many right answers
    let high: u32 = most + 1; // rejects too many
    while (low + 1 < high) {
      const middle = (low + high) >>> 1;
      setThresholds(scores, margins, shares, right, middle, criteria);
      if (rejectedCount(ANSWER_RIGHT) <= most) low = middle;
      else high = middle;
    }
    setThresholds(scores, margins, shares, right, low, criteria);
    const rejected = rejectedCount(ANSWER_WRONG) + rejectedCount(ANSWER_UNKNOWN);
    if (i == 0 || rejected > highest) {
      bestSet = criteria;
      bestLost = low;
      highest = rejected;
    }
  }
  setThresholds(scores, margins, shares, right, bestLost, bestSet);
  arenaRelease(mark);
  return OK;
}

/**
 * The threshold for the labels of texts that have several at which the labels given have the largest micro F1: the middle one, if
 * several are as good. It becomes the rule. Returns a status; ERR_NO_SAMPLES without a true label.
 */
export function fitThreshold(): i32 {
  if (!counts) return ERR_BAD_STATE;
  let labels: u32 = 0; // that are true
  for (let b: u32 = 0; b < THRESHOLDS; b++) labels += load<u32>(counts + ((<usize>b) << 3), 4);
  if (labels == 0) return ERR_NO_SAMPLES;
  let hits: u32 = 0;
  let given: u32 = 0;
  let best: f64 = -1;
  let highest: u32 = 0;
  let lowest: u32 = 0;
  for (let b = THRESHOLDS; b > 0; b--) {
    const at = counts + ((<usize>(b - 1)) << 3);
    hits += load<u32>(at, 4);
    given += load<u32>(at) + load<u32>(at, 4);
    const figure = <f64>hits / <f64>(given + labels);
    if (figure > best) {
      best = figure;
      highest = b - 1;
      lowest = b - 1;
    } else if (figure == best && lowest == b) lowest = b - 1;
  }
  setRule(<f32>(highest + lowest) / (<f32>2 * <f32>(THRESHOLDS - 1)), 0, 1);
  return OK;
}

const BY_SCORE: u32 = 1;
const BY_MARGIN: u32 = 2;
const BY_UNKNOWN: u32 = 4;
/** All sets of criteria, small ones first. */
const CRITERIA = memory.data<u8>([1, 2, 4, 3, 5, 6, 7]);

/** Sets the rule so that each of the criteria rejects `lost` right answers, or fewer when figures are equal, and the other criteria none. */
function setThresholds(scores: usize, margins: usize, shares: usize, right: u32, lost: u32, criteria: u32): void {
  setRule(
    criteria & BY_SCORE ? min<f32>(1, shown(figure(scores, lost))) : 0,
    criteria & BY_MARGIN ? min<f32>(1, shown(figure(margins, lost))) : 0,
    criteria & BY_UNKNOWN ? min<f32>(1, figure(shares, right - 1 - lost) + SHARE_ROUNDING) : 1,
  );
}

/** The threshold, rounded down to the 6 decimals that a model's card shows, so that the card shows the exact rule. */
function shown(threshold: f32): f32 {
  return <f32>(floor<f64>(<f64>threshold * 1e6) / 1e6);
}

// --- scores as a measure of certainty ---------------------------------------------------

/** The largest score that at least `share` of all answers reach: as a threshold it gives at least this coverage. 0 without answers. */
export function scoreAtCoverage(share: f64): f32 {
  const n = total();
  const mark = arenaTop();
  const scores = n ? sortedFigures(offsetof<Answer>("score"), ANY) : 0;
  const kept = min(n, max<u32>(1, <u32>ceil<f64>(share * <f64>n)));
  const found: f32 = scores ? figure(scores, n - kept) : 0;
  arenaRelease(mark);
  return found;
}

/**
 * Area under the risk-coverage curve: the mean over all answers of the share that is not right among the answers that
 * score as much or more. Near 0 when right answers score above all others; for random scores it is the error rate. -1
 * when memory is refused.
 */
export function riskCoverageArea(): f64 {
  const n = total();
  if (n == 0) return 0;
  const mark = arenaTop();
  const all = sortedFigures(offsetof<Answer>("score"), ANY);
  const right = sortedFigures(offsetof<Answer>("score"), ANSWER_RIGHT);
  const rightCount = answerCount(ANSWER_RIGHT);
  let sum: f64 = 0;
  let rightBelow: u32 = 0;
  for (let i: u32 = 0; all && right && i < n;) {
    const score = figure(all, i);
    let end = i;
    while (end < n && figure(all, end) == score) end++;
    while (rightBelow < rightCount && figure(right, rightBelow) < score) rightBelow++;
    sum += <f64>(end - i) * (1 - <f64>(rightCount - rightBelow) / <f64>(n - i));
    i = end;
  }
  arenaRelease(mark);
  return all && right ? sum / <f64>n : -1;
}

/**
 * Area under the ROC curve: the probability that a text with a label of the model scores more than a text without,
 * where a tie counts half. -1 when there are no texts of one kind, or memory is refused.
 */
export function unknownRanking(): f64 {
  const unknownTotal = answerCount(ANSWER_UNKNOWN);
  const knownTotal = total() - unknownTotal;
  if (unknownTotal == 0 || knownTotal == 0) return -1;
  const mark = arenaTop();
  const unknown = sortedFigures(offsetof<Answer>("score"), ANSWER_UNKNOWN);
  let wins: f64 = 0;
  for (let i: u32 = 0; unknown && i < total(); i++) {
    const answer = answerAt(i);
    if (answer.kind == ANSWER_UNKNOWN) continue;
    const below = countBelow(unknown, unknownTotal, answer.score, false);
    wins += <f64>below + <f64>(countBelow(unknown, unknownTotal, answer.score, true) - below) * 0.5;
  }
  arenaRelease(mark);
  return unknown ? wins / (<f64>knownTotal * <f64>unknownTotal) : -1;
}

/** Of f32[length], rising: how many are below `value`, or with `orEqual` not above it. */
function countBelow(values: usize, length: u32, value: f32, orEqual: bool): u32 {
  let low: u32 = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = figure(values, middle);
    if (at < value || (orEqual && at == value)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Answers of every kind. */
const ANY: u32 = 0xffffffff;

/** One field of all answers of a kind in new memory: f32[], rising; 0 when memory is refused. */
function sortedFigures(field: usize, kind: u32): usize {
  const values = allocate(((<usize>(kind == ANY ? total() : answerCount(kind))) << 2) + 16);
  if (!values) return 0;
  let to = values;
  for (let i: u32 = 0; i < total(); i++) {
    const answer = answerAt(i);
    if (kind != ANY && answer.kind != kind) continue;
    store<f32>(to, load<f32>(changetype<usize>(answer) + field));
    to += 4;
  }
  heapSort(values, (<u32>(to - values)) >> 2);
  return values;
}

// @ts-ignore: decorator
@inline
function figure(values: usize, index: u32): f32 {
  return load<f32>(values + ((<usize>index) << 2));
}

/** Sorts f32[length], rising. */
export function heapSort(values: usize, length: u32): void {
  for (let i = length >> 1; i > 0; i--) sink(values, i - 1, length);
  for (let end = length; end > 1; end--) {
    const largest = figure(values, 0);
    store<f32>(values, figure(values, end - 1));
    store<f32>(values + ((<usize>(end - 1)) << 2), largest);
    sink(values, 0, end - 1);
  }
}

function sink(values: usize, index: u32, length: u32): void {
  const value = figure(values, index);
  while (true) {
    let child: u32 = 2 * index + 1;
    if (child >= length) break;
    if (child + 1 < length && figure(values, child + 1) > figure(values, child)) child++;
    if (figure(values, child) <= value) break;
    store<f32>(values + ((<usize>index) << 2), figure(values, child));
    index = child;
  }
  store<f32>(values + ((<usize>index) << 2), value);
}
