// A training run: settings -> epochs of batches -> trained weights, with validation. Its
// whole state can be saved, and a resumed run gives the same bits as one that never
// stopped. Called through assembly/train/index.ts; the host only counts and prints.
//
//   describeModel -> addSample ... -> startTraining(…) or resumeTraining()
//     -> while epochsLeft(): beginEpoch(), trainBatch() until batchesLeft() is 0, endEpoch()
import {
  ERR_BAD_ARGUMENT,
  ERR_BAD_STATE,
  ERR_BAD_TRAINING,
  ERR_LABEL_OUT_OF_RANGE,
  ERR_NO_SAMPLES,
  ERR_OUT_OF_MEMORY,
  ERR_TEXT_TOO_LONG,
  LAYER_MASK_ZERO,
  OK,
  OPTIMIZER_AVERAGE,
  TEXT_CAPACITY,
} from "../abi";
import { allocate } from "../arena";
import { isFinite32, layerAt } from "../network/model";
import { Augmentation, addSynonym as keepSynonym, createAugmentation, synonymChecksum } from "./augment";
import { zeroGradients } from "./backward";
import { networkBatch, plan } from "./batch";
import {
  buildNetwork,
  clearCalibration,
  draft,
  fitsDraft,
  inputPtr,
  isBuilt,
  isDescribed,
  openedTraining,
  openedTrainingBytes,
  reader,
  samples,
} from "./builder";
import {
  addSample,
  addScores,
  createDataset,
  Dataset,
  datasetChecksum,
  drawOnce,
  fillBatch,
  mostTokens,
  sampleLabel,
  sampleTokens,
} from "./dataset";
import { lastStage, network, networkRandom, TrainingState } from "./network";
import { randomBits, randomSeed, shuffle } from "./random";
import { restoreState } from "./save";
import { setHas } from "./sets";
import { learningRateAt } from "./schedule";
import { Settings, settings, settingsAreLegal, workers } from "./settings";
import { Share, sharePtr, shareWrite, sharesAdd, sharesBuild } from "./share";
import {
  networkAverage,
  networkForward,
  networkGradient,
  networkLoss,
  networkLossValue,
  networkSettle,
  networkSwapAverage,
  networkTrainWith,
  networkUpdate,
} from "./step";
import { placeVectors } from "./vectors";

/** Samples are sorted by length within groups of this many batches, so that batches need little padding. */
const SORTED_BATCHES: u32 = 32;

/** Perturbation starts after this share of the steps: it doubles the cost of a step, and gains nothing earlier in a run. */
const PERTURBED_FROM: f32 = 0.7;

/** Steps between two updates of the average; each update touches as many weights as a step does. */
const AVERAGED_STEPS: u32 = 8;

/** After n updates the decay is at most n / (n + YOUNG_AVERAGE). */
const YOUNG_AVERAGE: f32 = 10;

let validation: Dataset = changetype<Dataset>(0);
let augmentation: Augmentation = changetype<Augmentation>(0);
let order: usize = 0; // u32[N], this epoch's samples
let sorted: usize = 0; // u32[max(N, batch)], scratch of the sort and of validation
let lengthCounts: usize = 0; // u32[T + 2]
let batchOrder: usize = 0; // u32[batches]
let classWeights: usize = 0; // f32[labelCount]
let shard: u32 = 0; // which share of each batch this instance computes
let batchCount: u32 = 0;
let nextBatch: u32 = 0;
let lossSum: f64 = 0;
let correct: u32 = 0;
let seen: u32 = 0;

/** Sets which share of each batch this instance computes, 0 ... workers() - 1; the default is 0. */
export function trainingShard(index: u32): i32 {
  if (!isBuilt() || index >= workers()) return ERR_BAD_ARGUMENT;
  shard = index;
  return OK;
}

/** Adds a word to the current group of synonyms, or starts a new group with it. The model must be described. */
export function addSynonym(length: u32, beginsGroup: bool): i32 {
  if (!isDescribed()) return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  if (!changetype<usize>(augmentation)) augmentation = createAugmentation(draft, reader);
  if (!changetype<usize>(augmentation)) return ERR_OUT_OF_MEMORY;
  return keepSynonym(augmentation, draft, inputPtr(), length, beginsGroup);
}

/** Encodes a text for validation, which the linear part takes part in; the network learns alone. Texts added after the run has started must not be longer than the longest one before. */
export function addValidation(label: u32, length: u32): i32 {
  if (!changetype<usize>(reader)) return ERR_BAD_STATE;
  if (!changetype<usize>(validation)) validation = createDataset();
  if (!changetype<usize>(validation)) return ERR_OUT_OF_MEMORY;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  if (!fitsDraft(label)) return ERR_LABEL_OUT_OF_RANGE;
  const status = addSample(validation, draft, reader, label, inputPtr(), length);
  if (status != OK) return status;
  return addScores(validation, draft, reader) ? OK : ERR_OUT_OF_MEMORY;
}

/**
 * Builds the network and starts a run with the present settings and samples. Weights are those of the
 * opened file, if any; otherwise they are drawn, the embedding's from +-embeddingRange.
 */
export function startTraining(embeddingRange: f32): i32 {
  if (!(embeddingRange >= 0 && embeddingRange < 1e6)) return ERR_BAD_ARGUMENT;
  settings.epochsDone = 0;
  settings.synonymChecksum = checkSynonyms();
  settings.sampleCount = samples.count;
  settings.sampleChecksum = datasetChecksum(samples, draft.header.multiLabel != 0);
  let status = isDescribed() && draft.weights ? startFromOpened() : OK;
  if (status == OK) status = prepareRun(embeddingRange);
  if (status == OK) placeVectors();
  return status;
}

/**
 * A run on an opened file starts from the file's weights. If these have the n-grams added to each word's
 * row, it takes the separate weights from the training state instead, so that the n-grams are not added
 * twice. In any other file a word is a single row, and stays one.
 */
function startFromOpened(): i32 {
  settings.addsNgrams = 0;
  if (openedTrainingBytes < <u32>offsetof<Settings>()) return OK;
  const opened = changetype<Settings>(openedTraining);
  if (opened.addsNgrams == 0) return OK;
  const before = <usize>offsetof<Settings>() + offsetof<TrainingState>();
  const bytes = <usize>draft.header.weightBytes;
  const blocks = (<usize>openedTrainingBytes - before) / bytes;
  if (<usize>openedTrainingBytes <= before || blocks == 0 || before + blocks * bytes != <usize>openedTrainingBytes)
    return ERR_BAD_TRAINING;
  const state = changetype<TrainingState>(openedTraining + offsetof<Settings>());
  const index: usize = (opened.optimizerFlags & OPTIMIZER_AVERAGE) != 0 && state.averages > 0 ? blocks - 1 : 0;
  const weights = openedTraining + before + index * bytes;
  if (!isFinite32(weights, weights + bytes)) return ERR_BAD_TRAINING;
  draft.weights = weights;
  settings.addsNgrams = 1;
  return OK;
}

/** Continues the run of an opened training form on the same samples. Drops the file's calibration, since the weights will change. */
export function resumeTraining(): i32 {
  if (!openedTraining || openedTrainingBytes < <u32>offsetof<Settings>()) return ERR_BAD_STATE;
  memory.copy(changetype<usize>(settings), openedTraining, offsetof<Settings>());
  if (
    settings.sampleCount != samples.count ||
    settings.sampleChecksum != datasetChecksum(samples, draft.header.multiLabel != 0)
  )
    return ERR_BAD_TRAINING;
  if (settings.synonymChecksum != checkSynonyms()) return ERR_BAD_TRAINING;
  const status = prepareRun(0); // the file has weights
  if (status != OK) return status;
  const restored = restoreState(openedTraining, openedTrainingBytes);
  if (restored != OK) return restored;
  clearCalibration();
  return OK;
}

function checkSynonyms(): u32 {
  return changetype<usize>(augmentation) ? synonymChecksum(augmentation) : 0;
}

function prepareRun(embeddingRange: f32): i32 {
  if (samples.count == 0) return ERR_NO_SAMPLES;
  if (!settingsAreLegal(layerAt(draft.layers, draft.header.layerCount - 1).activation)) return ERR_BAD_ARGUMENT;
  // Sets of labels have no weights.
  if (draft.header.multiLabel && settings.isBalanced) return ERR_BAD_ARGUMENT;
  const tokens = max(mostTokens(samples), changetype<usize>(validation) ? mostTokens(validation) : 0);
  let status = buildNetwork(
    settings.batch,
    max<u32>(settings.dropoutSamples, 1),
    settings.seed,
    embeddingRange,
    tokens,
  );
  if (status != OK) return status;
  status = networkTrainWith();
  if (status != OK) return status;
  batchCount = (samples.count + settings.batch - 1) / settings.batch;
  order = allocate((<usize>samples.count) << 2);
  sorted = allocate((<usize>max(samples.count, settings.batch)) << 2);
  lengthCounts = allocate((<usize>draft.header.sequenceLength + 2) << 2);
  batchOrder = allocate((<usize>batchCount) << 2);
  classWeights = allocate((<usize>draft.header.labelCount) << 2);
  if (!order || !sorted || !lengthCounts || !batchOrder || !classWeights) return ERR_OUT_OF_MEMORY;
  if (!prepareAugmentation()) return ERR_OUT_OF_MEMORY;
  if (network.sharesDropout && !drawOnce(samples)) return ERR_OUT_OF_MEMORY;
  shard = 0;
  if (workers() > 1 && !sharesBuild(workers())) return ERR_OUT_OF_MEMORY;
  weighClasses();
  return OK;
}

/** If all shares are 0 there is no augmentation, and it draws no random numbers. */
function prepareAugmentation(): bool {
  if (settings.deletion == 0 && settings.swap == 0 && settings.synonyms == 0 && settings.typos == 0) {
    augmentation = changetype<Augmentation>(0);
    return true;
  }
  if (!changetype<usize>(augmentation)) augmentation = createAugmentation(draft, reader);
  if (!changetype<usize>(augmentation)) return false;
  augmentation.deletion = settings.deletion;
  augmentation.swap = settings.swap;
  augmentation.synonyms = settings.synonyms;
  augmentation.typos = settings.typos;
  return true;
}

/** Balanced: N / (K n_k), as scikit-learn's class_weight="balanced"; else 1. */
function weighClasses(): void {
  const classes = draft.header.labelCount;
  for (let k: u32 = 0; k < classes; k++) {
    let count: u32 = 0;
    for (let i: u32 = 0; i < samples.count; i++) if (sampleLabel(samples, i) == k) count++;
    const weight = settings.isBalanced && count ? <f32>samples.count / (<f32>classes * <f32>count) : <f32>1;
    store<f32>(classWeights + ((<usize>k) << 2), weight);
  }
}

export function epochsLeft(): u32 {
  return isBuilt() ? settings.epochs - settings.epochsDone : 0;
}

/** Whether a step is early in the run, and leaves its texts as they are. */
function isEarly(step: u32): bool {
  return <f32>step < PERTURBED_FROM * <f32>(settings.epochs * batchCount);
}

/** Whether texts were perturbed at the end of the last epoch that is done. */
export function isPerturbed(): bool {
  const steps = settings.epochsDone * batchCount;
  return settings.perturbation > 0 && steps > 0 && !isEarly(steps - 1);
}

export function batchesLeft(): u32 {
  return batchCount - nextBatch;
}

/** Shuffles the samples and forms this epoch's batches. */
export function beginEpoch(): i32 {
  if (!isBuilt() || epochsLeft() == 0) return ERR_BAD_STATE;
  const random = networkRandom();
  // Workers draw different random numbers within an epoch, so each epoch reseeds from its number, which all of them know.
  if (workers() > 1) randomSeed(random, settings.seed ^ (settings.epochsDone * 0x9e3779b9));
  for (let i: u32 = 0; i < samples.count; i++) store<u32>(order + ((<usize>i) << 2), i);
  shuffle(random, order, samples.count);
  for (let i: u32 = 0; i < batchCount; i++) store<u32>(batchOrder + ((<usize>i) << 2), i);
  if (layerAt(draft.layers, 0).flags & LAYER_MASK_ZERO) {
    const window = SORTED_BATCHES * settings.batch;
    for (let i: u32 = 0; i < samples.count; i += window)
      sortByLength(order + ((<usize>i) << 2), min(window, samples.count - i));
    shuffle(random, batchOrder, batchCount);
  }
  if (workers() > 1) randomSeed(random, randomBits(random) + shard);
  nextBatch = 0;
  lossSum = 0;
  correct = 0;
  seen = 0;
  return OK;
}

/** Sorts u32[count] sample numbers by their token count: a counting sort, so it is stable. */
function sortByLength(from: usize, count: u32): void {
  const lengths = draft.header.sequenceLength + 1;
  memory.fill(lengthCounts, 0, (<usize>lengths + 1) << 2);
  for (let i: u32 = 0; i < count; i++) {
    const slot = lengthCounts + ((<usize>(sampleTokens(samples, load<u32>(from + ((<usize>i) << 2))) + 1)) << 2);
    store<u32>(slot, load<u32>(slot) + 1);
  }
  for (let l: u32 = 0; l < lengths; l++) {
    const slot = lengthCounts + ((<usize>l) << 2);
    store<u32>(slot, load<u32>(slot) + load<u32>(slot, 4), 4);
  }
  for (let i: u32 = 0; i < count; i++) {
    const sample = load<u32>(from + ((<usize>i) << 2));
    const slot = lengthCounts + ((<usize>sampleTokens(samples, sample)) << 2);
    const place = load<u32>(slot);
    store<u32>(slot, place + 1);
    store<u32>(sorted + ((<usize>place) << 2), sample);
  }
  memory.copy(from, sorted, (<usize>count) << 2);
}

/** Trains on the epoch's next batch. Returns a status. With several workers, call the two halves below instead and exchange shares in between. */
export function trainBatch(): i32 {
  if (workers() > 1) return ERR_BAD_STATE;
  const status = computeBatch();
  return status == OK ? applyBatch() : status;
}

/** First half of trainBatch: computes the gradients. With several workers, these (or the error) become this instance's share, at sharePtr(shard). */
export function computeBatch(): i32 {
  if (nextBatch >= batchCount) return ERR_BAD_STATE;
  const count = batchSamples();
  const begin = (count * shard) / workers();
  const end = (count * (shard + 1)) / workers();
  const rightBefore = correct;
  const status = begin < end ? computeSamples(nextSamples() + ((<usize>begin) << 2), end - begin, count) : emptyShare();
  if (workers() == 1) return status;
  shareWrite(shard, status, begin < end ? networkLossValue() : 0, correct - rightBefore);
  correct = rightBefore;
  return OK;
}

/** Second half of trainBatch: takes the step. With several workers, all shares must have been copied to their sharePtr first. */
export function applyBatch(): i32 {
  if (nextBatch >= batchCount) return ERR_BAD_STATE;
  const count = batchSamples();
  let loss = <f64>networkLossValue();
  if (workers() > 1) {
    const status = sharesAdd(workers());
    if (status != OK) return status;
    loss = 0;
    for (let i: u32 = 0; i < workers(); i++) {
      const share = changetype<Share>(sharePtr(i));
      loss += share.loss;
      correct += share.correct;
    }
  }
  const rate = learningRateAt(
    settings.schedule,
    settings.learningRate,
    settings.warmup,
    settings.decay,
    stepsDone(),
    settings.epochs * batchCount,
  );
  const status = networkUpdate(rate);
  if (status != OK) return status;
  lossSum += loss * <f64>count;
  seen += count;
  nextBatch++;
  return settings.averageDecay > 0 ? average() : OK;
}

/**
 * Updates the average every few steps, and at the end of each epoch, when it may be saved. It
 * starts with a smaller decay, so that it soon forgets the untrained weights.
 */
function average(): i32 {
  const steps = ((nextBatch - 1) % AVERAGED_STEPS) + 1;
  if (steps < AVERAGED_STEPS && nextBatch < batchCount) return OK;
  let kept: f32 = 1;
  for (let i: u32 = 0; i < steps; i++) kept *= settings.averageDecay;
  const age = <f32>network.state.averages;
  return networkAverage(min(kept, age / (age + YOUNG_AVERAGE)));
}

/** Number of samples of the next batch, for all workers together. */
function batchSamples(): u32 {
  return min(settings.batch, samples.count - load<u32>(batchOrder + ((<usize>nextBatch) << 2)) * settings.batch);
}

/** Their numbers, u32[batchSamples()]. */
function nextSamples(): usize {
  return order + ((<usize>(load<u32>(batchOrder + ((<usize>nextBatch) << 2)) * settings.batch)) << 2);
}

function stepsDone(): u32 {
  return settings.epochsDone * batchCount + nextBatch;
}

/** Gradients of `count` samples of a batch of `total`. */
function computeSamples(from: usize, count: u32, total: u32): i32 {
  const steps = fillBatch(samples, draft, from, count, settings.wordDropout, settings.addsNgrams != 0, augmentation);
  let status = networkBatch(count, steps);
  if (status != OK) return status;
  plan.total = total;
  if (settings.isBalanced) {
    for (let b: u32 = 0; b < count; b++) {
      const label = sampleLabel(samples, load<u32>(from + ((<usize>b) << 2)));
      store<f32>(network.sampleWeights + ((<usize>b) << 2), load<f32>(classWeights + ((<usize>label) << 2)));
    }
  }
  status = networkGradient(isEarly(stepsDone()) ? 0 : settings.perturbation);
  if (status == OK) countCorrect(samples, from, count);
  return status;
}

/** The share of a worker without samples: an epoch's last batch may have fewer samples than there are workers. */
function emptyShare(): i32 {
  zeroGradients();
  return OK;
}

/** Counts the samples of the last forward pass whose label has the largest score; of several labels, those that have exactly the ones with a score above a half. */
function countCorrect(data: Dataset, from: usize, count: u32): void {
  const stage = lastStage();
  const outputs = network.outputs;
  for (let b: u32 = 0; b < count; b++) {
    const scores = stage.output + ((<usize>(b * stage.stride)) << 2);
    const label = sampleLabel(data, load<u32>(from + ((<usize>b) << 2)));
    if (draft.header.multiLabel) {
      if (isExact(scores, label)) correct++;
      continue;
    }
    let best: u32 = 0;
    if (outputs == 1) best = load<f32>(scores) > 0.5 ? 1 : 0;
    else {
      for (let k: u32 = 1; k < outputs; k++) {
        if (load<f32>(scores + ((<usize>k) << 2)) > load<f32>(scores + ((<usize>best) << 2))) best = k;
      }
    }
    if (best == label) correct++;
  }
}

/** Whether the scores above a half are those of the labels in a set. */
function isExact(scores: usize, set: u32): bool {
  for (let k: u32 = 0; k < network.outputs; k++)
    if (load<f32>(scores + ((<usize>k) << 2)) > 0.5 != setHas(set, k)) return false;
  return true;
}

/** Closes the epoch once all its batches are done. */
export function endEpoch(): i32 {
  if (nextBatch != batchCount) return ERR_BAD_STATE;
  settings.epochsDone++;
  // Must happen at the same step in every run, saved or not, since the last bits of the slots depend on it.
  networkSettle();
  return OK;
}

/** Mean loss of the samples seen in this epoch, or of the last validation. */
export function meanLoss(): f64 {
  return seen ? lossSum / <f64>seen : 0;
}

/** Share of the samples seen in this epoch, or of the last validation, that were right. */
export function accuracy(): f64 {
  return seen ? <f64>correct / <f64>seen : 0;
}

/** Classifies the validation texts; meanLoss() and accuracy() then return their figures. */
export function validate(): i32 {
  if (!isBuilt() || !changetype<usize>(validation)) return ERR_NO_SAMPLES;
  lossSum = 0;
  correct = 0;
  seen = 0;
  // Before the first step there is no average yet.
  const swaps = settings.averageDecay > 0 && network.state.averages > 0;
  let status: i32 = swaps ? networkSwapAverage() : OK;
  for (let first: u32 = 0; first < validation.count && status == OK; first += settings.batch) {
    const count = min(settings.batch, validation.count - first);
    for (let i: u32 = 0; i < count; i++) store<u32>(sorted + ((<usize>i) << 2), first + i);
    status = networkBatch(
      count,
      fillBatch(validation, draft, sorted, count, 0, settings.addsNgrams != 0, changetype<Augmentation>(0)),
    );
    if (status == OK) status = networkForward(false);
    if (status != OK) break;
    lossSum += <f64>networkLoss() * <f64>count;
    countCorrect(validation, sorted, count);
    seen += count;
  }
  if (swaps && network.state.isSwapped) networkSwapAverage();
  return status;
}
