// Which tokens led to a score, by integrated gradients (M. Sundararajan et al., Axiomatic
// Attribution for Deep Networks, 2017), the alternative to occlusion in explain.ts: text,
// label -> a share of the score for each piece. Called through assembly/train/index.ts on an opened
// f32 model.
//
//   x = the tokens' vectors, as the embedding gives them; a in 0 ... 1 scales all of them at once
//   share(t) = x_t . mean over `steps` midpoints a of  d score(a x) / d x_t
//
// The shares sum up to score(x) - score(0), apart from the error of the midpoint rule, which
// the host reports and more steps make smaller. Padding that the model reads is not scaled. What a
// token adds to the linear part's scores, half of its pairs included, is scaled as its vector is.
import {
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ERR_BAD_ARGUMENT,
  ERR_BAD_STATE,
  ERR_NOT_FINITE,
  ERR_OUT_OF_MEMORY,
  ERR_TEXT_TOO_LONG,
  OK,
  TEXT_CAPACITY,
  TOKENIZER_PAD_POST,
} from "../../abi";
import { allocate, arenaRelease, arenaTop } from "../../arena";
import { cutPieces, pieceAt, pieceCount, preparePieces, setExplained } from "../../explain";
import { linearScale } from "../../network/linear";
import { isFinite32 } from "../../network/model";
import { linearOf } from "../../network/sequence";
import { Augmentation } from "../augment";
import { backward } from "../backward";
import { networkBatch, plan } from "../batch";
import { buildNetwork, draft, inputPtr, isBuilt, reader } from "../builder";
import { addSample, addScores, createDataset, fillBatch } from "../dataset";
import { denseBias, forward, forwardFrom, sequenceRow } from "../forward";
import { Stage, lastStage, network, stageAt } from "../network";
import { addScaledRow, copyRow, loadU32, scaleRow } from "../rows";

let isPrepared = false;

/** Builds the opened model's network for one text, with its temperature and the network's share in the last layer. Nothing is trained or written afterwards. */
export function prepareGradients(): i32 {
  const status = buildNetwork(1, 1, 1, 0, 0);
  if (status != OK) return status;
  if (!preparePieces()) return ERR_OUT_OF_MEMORY;
  // One gradient for each token, not summed over equal tokens.
  network.splitsTokens = 1;
  const last = lastStage();
  const activation = last.layer.activation;
  if (activation == ACTIVATION_SOFTMAX || activation == ACTIVATION_SIGMOID) {
    const scale: f32 = (network.offsets ? network.networkShare : 1) / draft.header.temperature;
    network.networkShare = 1;
    const end = denseBias(last) + ((<usize>last.layer.units) << 2);
    for (let p = last.weights; p < end; p += 4) store<f32>(p, load<f32>(p) * scale);
  }
  isPrepared = true;
  return OK;
}

/** Explains the score of label number `label`, or of the best label when there is no such number, for `length` input bytes. Returns a status; the getters of explain.ts then give the result. */
export function integrateGradients(label: u32, length: u32, steps: u32): i32 {
  if (!isBuilt() || !isPrepared) return ERR_BAD_STATE;
  if (length > <u32>TEXT_CAPACITY) return ERR_TEXT_TOO_LONG;
  if (steps < 1) return ERR_BAD_ARGUMENT;
  const mark = arenaTop();
  const status = integrate(label, length, steps);
  arenaRelease(mark);
  return status;
}

function integrate(label: u32, length: u32, steps: u32): i32 {
  const one = allocate(16); // order of the one sample
  const data = createDataset();
  if (!one || !changetype<usize>(data)) return ERR_OUT_OF_MEMORY;
  let status = addSample(data, draft, reader, 0, inputPtr(), length);
  if (status != OK) return status;
  if (!addScores(data, draft, reader)) return ERR_OUT_OF_MEMORY;
  const size = cutPieces(reader);
  status = networkBatch(1, fillBatch(data, draft, one, 1, 0, false, changetype<Augmentation>(0)));
  if (status != OK) return status;
  if (network.offsets) scaleRow(network.offsets, <f32>1 / draft.header.temperature, draft.header.labelCount);

  forward(false);
  const embedding = stageAt(0);
  const rows = plan.slotCount;
  const bytes = (<usize>(rows * embedding.stride)) << 2;
  const vectors = allocate(bytes);
  if (!vectors) return ERR_OUT_OF_MEMORY;
  memory.copy(vectors, embedding.output, bytes);
  const labels = draft.header.labelCount;
  const explained = label < labels ? label : bestOf(labels);
  const whole = <f64>scoreOf(explained);
  if (!isFinite32(lastStage().output, lastStage().output + ((<usize>lastStage().stride) << 2))) return ERR_NOT_FINITE;

  // At least one float each, since models without a linear part have none.
  const offsets = allocate((<usize>labels) << 2);
  const added = allocate((<usize>(pieceCount() * labels)) << 2);
  if (!offsets || !added) return ERR_OUT_OF_MEMORY;
  if (network.offsets) readLinear(offsets, added, size);

  scaleTokens(embedding, vectors, 0);
  scaleOffsets(offsets, added, 0);
  forwardFrom(1, false);
  const base = <f64>scoreOf(explained);
  for (let i: u32 = 0; i < steps; i++) {
    const scale: f32 = (<f32>i + <f32>0.5) / <f32>steps;
    scaleTokens(embedding, vectors, scale);
    scaleOffsets(offsets, added, scale);
    forwardFrom(1, false);
    startGradient(explained);
    backward(false);
    addShares(embedding, vectors, size, 1 / <f64>steps);
    if (network.offsets) addLinearShares(added, 1 / <f64>steps);
  }
  setExplained(explained, whole, base);
  return OK;
}

/**
 * Splits what the linear part adds to the logits: `added`, f32 (pieces, labels), is what each piece adds, and `offsets`,
 * f32[labels], the rest. Half of a pair counts for each of its tokens.
 */
function readLinear(offsets: usize, added: usize, size: u32): void {
  const labels = draft.header.labelCount;
  const tokens = reader.tokens;
  const bytes = (<usize>labels) << 2;
  const linear = reader.linear;
  const scale = linearScale(linear) / draft.header.temperature;
  memory.copy(offsets, network.offsets, bytes);
  for (let i: u32 = 0; i < pieceCount(); i++) {
    const from = i * size;
    const to = min(from + size, tokens);
    const row = added + <usize>i * bytes;
    addScaledRow(row, linearOf(reader, draft, 0, to).sum, <f32>0.5 * scale, labels);
    addScaledRow(row, linearOf(reader, draft, 0, from).sum, <f32>-0.5 * scale, labels);
    addScaledRow(row, linearOf(reader, draft, from, tokens).sum, <f32>0.5 * scale, labels);
    addScaledRow(row, linearOf(reader, draft, to, tokens).sum, <f32>-0.5 * scale, labels);
    addScaledRow(offsets, row, -1, labels);
  }
}

/** Sets what is added to the logits to `offsets` plus scale * `added`. */
function scaleOffsets(offsets: usize, added: usize, scale: f32): void {
  if (!network.offsets) return;
  const labels = draft.header.labelCount;
  copyRow(network.offsets, offsets, labels);
  for (let i: u32 = 0; i < pieceCount(); i++)
    addScaledRow(network.offsets, added + ((<usize>(i * labels)) << 2), scale, labels);
}

/** share += weight * what the piece adds . gradient of the logits. */
function addLinearShares(added: usize, weight: f64): void {
  const gradient = lastStage().gradient;
  for (let i: u32 = 0; i < pieceCount(); i++) {
    const row = added + ((<usize>(i * draft.header.labelCount)) << 2);
    let product: f64 = 0;
    for (let k: usize = 0; k < (<usize>draft.header.labelCount) << 2; k += 4)
      product += <f64>load<f32>(row + k) * <f64>load<f32>(gradient + k);
    pieceAt(i).share += weight * product;
  }
}

/** Sets the embedding's output to scale * vectors, except for padding. */
function scaleTokens(embedding: Stage, vectors: usize, scale: f32): void {
  for (let s: u32 = 0; s < plan.slotCount; s++) {
    if (isPadding(loadU32(plan.slotTokens, s))) continue;
    const at = (<usize>(s * embedding.stride)) << 2;
    for (let k: u32 = 0; k < network.width; k++) {
      store<f32>(embedding.output + at + ((<usize>k) << 2), scale * load<f32>(vectors + at + ((<usize>k) << 2)));
    }
  }
}

// @ts-ignore: decorator
@inline
function isPadding(token: u32): bool {
  return tokenIndex(token) >= reader.tokens;
}

/** Index of the kept token at a step; for padding a number beyond the last token (before the tokens it wraps around). */
// @ts-ignore: decorator
@inline
function tokenIndex(step: u32): u32 {
  return step - (draft.header.tokenizerFlags & TOKENIZER_PAD_POST ? 0 : plan.time - reader.tokens);
}

/** Score of a label after a forward pass; a single unit stands for two labels. */
function scoreOf(label: u32): f32 {
  const output = lastStage().output;
  if (network.outputs == 1 && draft.header.labelCount == 2)
    return label == 1 ? load<f32>(output) : <f32>1 - load<f32>(output);
  return load<f32>(output + ((<usize>label) << 2));
}

function bestOf(labels: u32): u32 {
  let best: u32 = 0;
  for (let k: u32 = 1; k < labels; k++) if (scoreOf(k) > scoreOf(best)) best = k;
  return best;
}

/** d score / d output at the last layer. */
function startGradient(label: u32): void {
  const last = lastStage();
  memory.fill(last.gradient, 0, (<usize>last.stride) << 2);
  if (network.outputs == 1) store<f32>(last.gradient, label == 1 ? 1 : -1);
  else store<f32>(last.gradient + ((<usize>label) << 2), 1);
}

/** share += weight * x . gradient, for every step that is a token. */
function addShares(embedding: Stage, vectors: usize, size: u32, weight: f64): void {
  for (let r: u32 = 0; r < plan.rows; r++) {
    const token = loadU32(plan.rowTokens, r);
    if (isPadding(token)) continue;
    const x = sequenceRow(embedding, vectors, r);
    const gradient = embedding.gradient + ((<usize>(r * embedding.stride)) << 2);
    let product: f64 = 0;
    for (let k: u32 = 0; k < network.width; k++)
      product += <f64>load<f32>(x + ((<usize>k) << 2)) * <f64>load<f32>(gradient + ((<usize>k) << 2));
    const piece = pieceAt(tokenIndex(token) / size);
    piece.share += weight * product;
  }
}
