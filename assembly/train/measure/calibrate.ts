// Calibrated scores: a loaded model of any form and labelled texts -> the best temperature for
// its logits, and the file with that temperature and other settings in its header. Called through assembly/train/index.ts after engine.ts has loaded the file.
//
//   changeSettings(1, 0, 0, 1, 0) -> startLogits() -> addLogits(label, length) ...
//     -> fitTemperature(), logLoss(t), calibrationError(t) -> changeSettings(…)
//
// Logits are what enters the last softmax or sigmoid; temperature scaling as in C. Guo et al.,
// On Calibration of Modern Neural Networks (2017). It changes no label.
import {
  ACTIVATION_LINEAR,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_BAD_ARGUMENT,
  ERR_BAD_STATE,
  ERR_LABEL_OUT_OF_RANGE,
  ERR_NO_MODEL,
  ERR_OUT_OF_MEMORY,
  OK,
} from "../../abi";
import { expF32 } from "../../network/activation";
import { allocate, arenaBase } from "../../arena";
import {
  classify,
  hasModel,
  isMultiLabel,
  labelCount,
  loadModel,
  loadedModel,
  loadedPlan,
  scoresPtr,
} from "../../engine";
import { Header, Layer, crc32 } from "../../network/model";
import { planLayer } from "../../network/plan";
import { forgetAnswers } from "./answers";
import { Growable, appendWord32, createGrowable, extend } from "../growable";
import { logF32 } from "../random";
import { forgetSets, isTarget, setHas, sigmoidLoss, startSets } from "../sets";

/** Bins of equal width in which scores and hits are compared. */
const BINS: u32 = 15;
/** The search's ends: logarithms of 1/20 and 20. */
const MAX_LOG_TEMPERATURE: f32 = 2.9957323;
const SEARCH_STEPS: u32 = 40;
const GOLDEN: f32 = 0.618034;

let labels: Growable = changetype<Growable>(0); // u32[N]
let logits: Growable = changetype<Growable>(0); // f32[N][width]
let width: u32 = 0; // logits of a text
let isSeveral: bool = false; // the label of a text is the number of a set, see sets.ts
let activation: u32 = 0; // of the last layer

/** Writes settings and the new checksum into the header of the loaded file, and loads it again. Collected logits and answers are forgotten. Returns a status. */
export function changeSettings(
  temperature: f32,
  rejectScore: f32,
  rejectMargin: f32,
  rejectUnknown: f32,
  levels: f32,
): i32 {
  if (!hasModel()) return ERR_NO_MODEL;
  if (!(temperature >= 0.01 && temperature <= 100)) return ERR_BAD_ARGUMENT;
  if (!(
    rejectScore >= 0 &&
    rejectScore <= 1 &&
    rejectMargin >= 0 &&
    rejectMargin <= 1 &&
    rejectUnknown >= 0 &&
    rejectUnknown <= 1 &&
    levels >= 0 &&
    levels <= 1
  ))
    return ERR_BAD_ARGUMENT;
  const header = changetype<Header>(arenaBase());
  header.temperature = temperature;
  header.rejectScore = rejectScore;
  header.rejectMargin = rejectMargin;
  header.rejectUnknown = rejectUnknown;
  header.levels = levels;
  const covered = offsetof<Header>("form");
  header.checksum = crc32(arenaBase() + covered, <usize>header.fileBytes - covered, 0);
  labels = changetype<Growable>(0);
  forgetAnswers();
  forgetSets();
  return loadModel(header.fileBytes);
}

/** Address of the loaded file. */
export function settledFile(): usize {
  return arenaBase();
}

/**
 * Begins to collect logits: from now on the loaded model leaves out its last activation. Returns a status; ERR_BAD_STATE
 * when that is neither softmax nor sigmoid, or the temperature is not 1.
 */
export function startLogits(): i32 {
  if (!hasModel()) return ERR_NO_MODEL;
  const last = planLayer(loadedPlan(), loadedPlan().layerCount - 1);
  activation = last.layer.activation;
  if (loadedModel().header.temperature != 1 || (activation != ACTIVATION_SOFTMAX && activation != ACTIVATION_SIGMOID))
    return ERR_BAD_STATE;
  labels = createGrowable();
  logits = createGrowable();
  isSeveral = isMultiLabel();
  if (!startSets()) return ERR_OUT_OF_MEMORY;
  const linear = allocate(offsetof<Layer>());
  if (!changetype<usize>(labels) || !changetype<usize>(logits) || !linear) return ERR_OUT_OF_MEMORY;
  memory.copy(linear, changetype<usize>(last.layer), offsetof<Layer>());
  last.layer = changetype<Layer>(linear);
  last.layer.activation = ACTIVATION_LINEAR;
  width = last.layer.units;
  return OK;
}

/** Keeps the logits of the `length` bytes at textPtr(), whose true label is `label`. Returns a status. */
export function addLogits(label: u32, length: u32): i32 {
  if (!changetype<usize>(labels)) return ERR_BAD_STATE;
  if (!isTarget(label, isSeveral, labelCount())) return ERR_LABEL_OUT_OF_RANGE;
  const status = classify(length);
  if (status != OK) return status;
  const row = extend(logits, width << 2);
  if (!row || !appendWord32(labels, label)) return ERR_OUT_OF_MEMORY;
  // One unit for two labels: its logit belongs to the second one.
  memory.copy(row, scoresPtr() + (width < labelCount() ? 4 : 0), (<usize>width) << 2);
  return OK;
}

// @ts-ignore: decorator
@inline
function total(): u32 {
  return changetype<usize>(labels) ? labels.bytes >> 2 : 0;
}

// @ts-ignore: decorator
@inline
function labelOf(index: u32): u32 {
  return load<u32>(labels.address + ((<usize>index) << 2));
}

/** The label of a text, as one of those that have a logit: a single one belongs to the second of two. */
function targetOf(index: u32): u32 {
  return width == 1 ? 1 - labelOf(index) : labelOf(index);
}

// @ts-ignore: decorator
@inline
function logitsOf(index: u32): usize {
  return logits.address + ((<usize>index * width) << 2);
}

// @ts-ignore: decorator
@inline
function logit(row: usize, index: u32): f32 {
  return load<f32>(row + ((<usize>index) << 2));
}

/**
 * The temperature from 1/20 to 20 with the smallest loss, by golden-section search over its logarithm. Targets
 * are smoothed by 1 / (N + 2), after J. Platt (1999): without smoothing, texts that are all answered right would
 * have the smallest loss at infinite certainty. Without texts the temperature is 1.
 */
export function fitTemperature(): f32 {
  if (total() == 0) return 1;
  const smoothing: f32 = <f32>1 / <f32>(total() + 2);
  let low: f32 = -MAX_LOG_TEMPERATURE;
  let high: f32 = MAX_LOG_TEMPERATURE;
  let left: f32 = high - GOLDEN * (high - low);
  let right: f32 = low + GOLDEN * (high - low);
  let leftLoss = meanLoss(expF32(left), smoothing);
  let rightLoss = meanLoss(expF32(right), smoothing);
  for (let i: u32 = 0; i < SEARCH_STEPS; i++) {
    if (leftLoss < rightLoss) {
      high = right;
      right = left;
      rightLoss = leftLoss;
      left = high - GOLDEN * (high - low);
      leftLoss = meanLoss(expF32(left), smoothing);
    } else {
      low = left;
      left = right;
      leftLoss = rightLoss;
      right = low + GOLDEN * (high - low);
      rightLoss = meanLoss(expF32(right), smoothing);
    }
  }
  return expF32((low + high) * <f32>0.5);
}

/** Mean negative log-likelihood of the true labels at a temperature; for a sigmoid for each label, the mean cross-entropy of all sigmoids. */
export function logLoss(temperature: f32): f64 {
  return meanLoss(temperature, 0);
}

function meanLoss(temperature: f32, smoothing: f32): f64 {
  const inverse: f32 = <f32>1 / temperature;
  let sum: f64 = 0;
  for (let i: u32 = 0; i < total(); i++) {
    sum += <f64>(
      (activation == ACTIVATION_SOFTMAX
        ? softmaxLoss(logitsOf(i), labelOf(i), inverse, smoothing)
        : sigmoidLoss(logitsOf(i), width, targetOf(i), isSeveral, inverse, smoothing) / <f32>width)
    );
  }
  return total() ? sum / <f64>total() : 0;
}

/** -sum y log p with p = softmax(z inverse), y one-hot but for the smoothing: log sum e^z - sum y z. */
function softmaxLoss(row: usize, label: u32, inverse: f32, smoothing: f32): f32 {
  const largest = largestLogit(row);
  let power: f32 = 0;
  let mean: f32 = 0;
  for (let k: u32 = 0; k < width; k++) {
    const z: f32 = (logit(row, k) - largest) * inverse;
    power += expF32(z);
    mean += z;
  }
  const own: f32 = (logit(row, label) - largest) * inverse;
  return logF32(power) - own * (<f32>1 - smoothing) - (smoothing * mean) / <f32>width;
}

/** Expected calibration error at a temperature: |best score - share of hits|, averaged over BINS bins of best scores by their texts. */
export function calibrationError(temperature: f32): f64 {
  const inverse: f32 = <f32>1 / temperature;
  const bins = memory.data(120, 16); // f64[BINS]: sum of scores less hits; how many texts a bin has cancels out
  memory.fill(bins, 0, (<usize>BINS) << 3);
  for (let i: u32 = 0; i < total(); i++) {
    const row = logitsOf(i);
    const best = bestScore(row, inverse);
    const bin = bins + ((<usize>min<u32>(<u32>(best * <f32>BINS), BINS - 1)) << 3);
    store<f64>(bin, load<f64>(bin) + <f64>best - (isHit(row, labelOf(i)) ? 1 : 0));
  }
  let error: f64 = 0;
  for (let b: u32 = 0; b < BINS; b++) error += abs<f64>(load<f64>(bins + ((<usize>b) << 3)));
  return total() ? error / <f64>total() : 0;
}

function bestScore(row: usize, inverse: f32): f32 {
  const largest = largestLogit(row);
  if (activation == ACTIVATION_SIGMOID)
    return <f32>1 / (<f32>1 + expF32(-(width == 1 ? abs<f32>(largest) : largest) * inverse));
  let power: f32 = 0;
  for (let k: u32 = 0; k < width; k++) power += expF32((logit(row, k) - largest) * inverse);
  return <f32>1 / power;
}

/** Whether the largest logit is that of the label, or of one of several; of equal logits the first one counts. */
function isHit(row: usize, label: u32): bool {
  if (width < labelCount()) return logit(row, 0) > 0 == (label == 1);
  let best: u32 = 0;
  for (let k: u32 = 1; k < width; k++) if (logit(row, k) > logit(row, best)) best = k;
  return isSeveral ? setHas(label, best) : label == best;
}

function largestLogit(row: usize): f32 {
  let largest = logit(row, 0);
  for (let k: u32 = 1; k < width; k++) largest = max<f32>(largest, logit(row, k));
  return largest;
}
