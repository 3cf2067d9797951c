// The readable oracle of training: plain f64 twins of the network's forward pass, the losses,
// the n-grams and the random stream, written from the formulas and not from the engine. Gradients are
// central differences of these. Sizes: B samples, T steps, E embedding width, H units.
import {
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
  CONTEXT_ROW,
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  LOSS_BINARY_CROSSENTROPY,
  LOSS_CATEGORICAL_CROSSENTROPY,
} from "../../../assembly/abi.ts";
import type { LayerRecord } from "../../support/keras-weights.ts";
import type { Batch } from "./driver.ts";

/** Marks the first of a token's rows as its own; see network.ts. */
export const OWN_ROW = 2 ** 31;

// --- randomness ------------------------------------------------------------------

export type RandomState = [number, number, number, number];

const rotate = (x: number, count: number): number => ((x << count) | (x >>> (32 - count))) >>> 0;

/** splitmix32, four times. */
export function seedState(seed: number): RandomState {
  return [1, 2, 3, 4].map((i) => {
    let z = (seed + Math.imul(0x9e3779b9, i)) >>> 0;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad) >>> 0;
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97) >>> 0;
    return (z ^ (z >>> 15)) >>> 0;
  }) as RandomState;
}

/** xoshiro128**. */
export function randomBits(s: RandomState): number {
  const result = Math.imul(rotate(Math.imul(s[1], 5) >>> 0, 7), 9) >>> 0;
  const t = (s[1] << 9) >>> 0;
  s[2] = (s[2] ^ s[0]) >>> 0;
  s[3] = (s[3] ^ s[1]) >>> 0;
  s[1] = (s[1] ^ s[2]) >>> 0;
  s[0] = (s[0] ^ s[3]) >>> 0;
  s[2] = (s[2] ^ t) >>> 0;
  s[3] = rotate(s[3], 11);
  return result;
}

/** Keep mask: value i comes from stream i % 4 of four streams whose states are drawn word by word. */
function dropoutMask(random: RandomState, rate: number, length: number): Float32Array {
  const words = Array.from({ length: 16 }, () => randomBits(random));
  const streams = [0, 1, 2, 3].map(
    (lane) => [(words[lane]! | 1) >>> 0, words[4 + lane]!, words[8 + lane]!, words[12 + lane]!] as RandomState,
  );
  const threshold = Math.floor(Math.fround(rate) * 2 ** 32);
  const kept = Math.fround(1 / Math.fround(1 - Math.fround(rate)));
  return Float32Array.from({ length }, (_, i) => (randomBits(streams[i % 4]!) < threshold ? 0 : kept));
}

// --- n-grams -----------------------------------------------------------------------

export function fnv1a(text: string): number {
  return new TextEncoder().encode(text).reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
}

/** Rows of "<word>" cut into all runs of min ... max code points, by their beginning. */
export function ngramRows(word: string, min: number, max: number, buckets: number, firstRow: number): number[] {
  const points = [...`<${word}>`];
  const lengths = Array.from({ length: max - min + 1 }, (_, i) => min + i);
  return points.flatMap((_, start) =>
    lengths
      .filter((length) => start + length <= points.length)
      .map((length) => firstRow + (fnv1a(points.slice(start, start + length).join("")) % buckets)),
  );
}

// --- forward pass ------------------------------------------------------------------

type Row = number[];
/** [sample][step][channel]. */
export type Sequences = Row[][];

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const zeros = (length: number): Row => new Array<number>(length).fill(0);
const sum = (values: Row): number => values.reduce((a, b) => a + b, 0);
const roundUp = (length: number): number => (length + 3) & ~3;

export interface Scores {
  /** Before the last activation. */
  logits: Row[];
  scores: Row[];
}

export interface Passing {
  /** That dropout draws from, and advances; without it nothing is dropped. */
  random?: RandomState;
  /** Masks that the last Dropout draws for a sample. */
  dropoutSamples?: number;
  /** Every token has a mask of its own, even in front of a minGRU. */
  splitsTokens?: boolean;
  /** Is given the vectors that the first recurrent layer is about to read; what it returns is read instead. */
  readsThrough?: (vectors: Sequences) => Sequences;
}

/** Scores of a batch; those of a sample's further dropout masks follow behind all the samples. */
export function forward(
  layers: LayerRecord[],
  tensors: ArrayLike<number>[],
  tokens: Batch,
  { random, dropoutSamples = 1, splitsTokens = false, readsThrough }: Passing = {},
): Scores {
  const isMasked = ((layers[0]!.flags ?? 0) & LAYER_MASK_ZERO) !== 0;
  const real = tokens.map((sample) =>
    sample.map(
      (token) => !(isMasked && (token === 0 || (Array.isArray(token) && token.length === 1 && token[0] === 0))),
    ),
  );
  let sequences: Sequences = [];
  let vectors: Row[] = [];
  let logits: Row[] = [];
  let isSequence = true;
  let next = 0;
  let isRead = false;
  for (const [index, layer] of layers.entries()) {
    const flags = layer.flags ?? 0;
    const units = layer.units ?? 0;
    if (layer.kind === LAYER_EMBEDDING) {
      const table = tensors[next++]!;
      sequences = tokens.map((sample) => sample.map((token) => embed(table, units, token)));
    } else if (layer.kind === LAYER_LSTM || layer.kind === LAYER_MINGRU) {
      if (!isRead && readsThrough) sequences = readsThrough(sequences);
      isRead = true;
      const both = (flags & LAYER_BIDIRECTIONAL) !== 0;
      const ways = (both ? [false, true] : [false]).map((isBackwards) => {
        const kernel = tensors[next++]!;
        if (layer.kind === LAYER_MINGRU) {
          const bias = tensors[next++]!;
          return sequences.map((steps, b) => minGru(kernel, bias, units, steps, real[b]!, isBackwards));
        }
        const [recurrent, bias] = [tensors[next++]!, tensors[next++]!];
        return sequences.map((steps, b) => lstm(kernel, recurrent, bias, units, steps, real[b]!, isBackwards));
      });
      isSequence = (flags & LAYER_SEQUENCES) !== 0;
      if (isSequence)
        sequences = sequences.map((steps, b) => steps.map((_, t) => ways.flatMap((way) => way[b]!.outputs[t]!)));
      else vectors = sequences.map((_, b) => ways.flatMap((way) => way[b]!.last));
    } else if (layer.kind === LAYER_POOL) {
      isSequence = false;
      vectors = sequences.map((steps, b) => {
        const rows = steps.filter((_, t) => real[b]![t]);
        const columns = Array.from({ length: layer.inputWidth }, (_, j) => rows.map((row) => row[j]!));
        return [
          ...(flags & LAYER_POOL_MAX ? columns.map((column) => (column.length ? Math.max(...column) : 0)) : []),
          ...(flags & LAYER_POOL_MEAN
            ? columns.map((column) => (column.length ? sum(column) / column.length : 0))
            : []),
        ];
      });
    } else if (layer.kind === LAYER_DROPOUT) {
      if (!random || !layer.rate) continue;
      const width = layer.inputWidth;
      const stride = roundUp(width);
      if (!isSequence) {
        const copies = index === layers.length - 2 ? dropoutSamples : 1;
        vectors = Array.from({ length: copies }, () => vectors).flat();
        const mask = dropoutMask(random, layer.rate, vectors.length * stride);
        vectors = vectors.map((row, b) => row.map((x, j) => x * mask[b * stride + j]!));
      } else {
        const order = rowOrder(real, isMasked);
        const isSpatial = (flags & LAYER_SPATIAL) !== 0;
        const sharesMasks = !isSpatial && !isRead && !splitsTokens && sharesDropout(layers);
        const masks = isSpatial ? order.map(([b]) => b) : sharesMasks ? slotsOf(tokens, order) : [...order.keys()];
        const mask = dropoutMask(random, layer.rate, (isSpatial ? tokens.length : Math.max(...masks) + 1) * stride);
        sequences = sequences.map((steps) => steps.map((row) => row.slice()));
        order.forEach(([b, t], r) => {
          const row = sequences[b]![t]!;
          for (let j = 0; j < width; j++) row[j]! *= mask[masks[r]! * stride + j]!;
        });
      }
    } else if (layer.kind === LAYER_DENSE) {
      const [kernel, bias] = [tensors[next]!, tensors[next + 1]!];
      next += 2;
      logits = vectors.map((x) =>
        Array.from({ length: units }, (_, k) => bias[k]! + sum(x.map((value, j) => value * kernel[j * units + k]!))),
      );
      vectors = logits.map((z) => activate(layer.activation ?? 0, z));
    }
  }
  return { logits, scores: vectors };
}

/** Mean of the rows, plus in full an own row (the first) and a context row (the last). */
function embed(table: ArrayLike<number>, width: number, token: number | number[]): Row {
  const rows = Array.isArray(token) ? [...token] : [token];
  const value = (row: number, j: number): number => table[(row % CONTEXT_ROW) * width + j]!;
  if (rows.length === 1) return Array.from({ length: width }, (_, j) => value(rows[0]!, j));
  const full = [...(rows[0]! >= OWN_ROW ? [rows.shift()!] : []), ...(rows.at(-1)! >= CONTEXT_ROW ? [rows.pop()!] : [])];
  return Array.from(
    { length: width },
    (_, j) =>
      sum(full.map((row) => value(row, j))) + (rows.length ? sum(rows.map((row) => value(row, j))) / rows.length : 0),
  );
}

/** A recurrent layer on one sample, from state zero: `next` makes the state behind a step; a masked step repeats the one before it. */
function recur(
  units: number,
  steps: Row[],
  real: boolean[],
  isBackwards: boolean,
  next: (input: Row, h: Row) => Row,
): { outputs: Row[]; last: Row } {
  let h = zeros(units);
  const outputs: Row[] = [];
  const times = steps.map((_, t) => t);
  for (const t of isBackwards ? times.reverse() : times) {
    if (real[t]) h = next(steps[t]!, h);
    outputs[t] = h;
  }
  return { outputs, last: h };
}

/** Keras' LSTM. */
function lstm(
  kernel: ArrayLike<number>,
  recurrent: ArrayLike<number>,
  bias: ArrayLike<number>,
  units: number,
  steps: Row[],
  real: boolean[],
  isBackwards: boolean,
): { outputs: Row[]; last: Row } {
  let c = zeros(units);
  return recur(units, steps, real, isBackwards, (input, h) => {
    const z = Array.from(
      { length: 4 * units },
      (_, k) =>
        bias[k]! +
        sum(input.map((x, j) => x * kernel[j * 4 * units + k]!)) +
        sum(h.map((x, j) => x * recurrent[j * 4 * units + k]!)),
    );
    c = c.map((before, u) => sigmoid(z[units + u]!) * before + sigmoid(z[u]!) * Math.tanh(z[2 * units + u]!));
    return c.map((cell, u) => sigmoid(z[3 * units + u]!) * Math.tanh(cell));
  });
}

/** h' = (1 - z) h + z g. */
function minGru(
  kernel: ArrayLike<number>,
  bias: ArrayLike<number>,
  units: number,
  steps: Row[],
  real: boolean[],
  isBackwards: boolean,
): { outputs: Row[]; last: Row } {
  return recur(units, steps, real, isBackwards, (input, h) => {
    const gate = (k: number): number => bias[k]! + sum(input.map((x, j) => x * kernel[j * 2 * units + k]!));
    return h.map((before, u) => {
      const z = sigmoid(gate(u));
      return (1 - z) * before + z * Math.tanh(gate(units + u));
    });
  });
}

/** The order in which rows draw their masks: step after step, in each the samples of longer span first; see batch.ts. */
function rowOrder(real: boolean[][], isMasked: boolean): [sample: number, step: number][] {
  const spans = real.map((steps) =>
    isMasked ? { start: steps.indexOf(true), end: steps.lastIndexOf(true) + 1 } : { start: 0, end: steps.length },
  );
  const length = (b: number): number => spans[b]!.end - Math.max(0, spans[b]!.start);
  const order = real.map((_, b) => b).sort((a, b) => length(b) - length(a) || a - b);
  const rows: [number, number][] = [];
  for (let t = 0; t < real[0]!.length; t++) {
    const present = order.map((b) => length(b) > 0 && t >= spans[b]!.start && t < spans[b]!.end);
    for (let place = 0; place <= present.lastIndexOf(true); place++) rows.push([order[place]!, t]);
  }
  return rows;
}

/** Whether equal tokens of a batch share a dropout mask: the first recurrent layer is a minGRU. */
export function sharesDropout(layers: LayerRecord[]): boolean {
  return layers.slice(1).find(({ kind }) => kind !== LAYER_DROPOUT)?.kind === LAYER_MINGRU;
}

/** For each row the number of its token among the different ones, by first appearance; if too few are equal, every row has its own. */
function slotsOf(tokens: Batch, order: [sample: number, step: number][]): number[] {
  const slots = new Map<string, number>();
  const numbers = order.map(([b, t]) => {
    const key = [tokens[b]![t]!].flat().join();
    slots.set(key, slots.get(key) ?? slots.size);
    return slots.get(key)!;
  });
  return slots.size * 8 > order.length * 7 ? [...order.keys()] : numbers;
}

function activate(activation: number, z: Row): Row {
  if (activation === ACTIVATION_SIGMOID) return z.map(sigmoid);
  if (activation === ACTIVATION_TANH) return z.map(Math.tanh);
  if (activation === ACTIVATION_RELU) return z.map((x) => Math.max(0, x));
  if (activation !== ACTIVATION_SOFTMAX) return z;
  const largest = Math.max(...z);
  const powers = z.map((x) => Math.exp(x - largest));
  return powers.map((p) => p / sum(powers));
}

// --- losses ------------------------------------------------------------------------

export interface Target {
  kind: number;
  smoothing?: number;
  targets: number[][];
  weights?: number[];
}

/** Mean over the batch of weight * loss, as Keras reduces it. */
export function loss({ logits, scores }: Scores, { kind, smoothing = 0, targets, weights }: Target): number {
  const perSample = scores.map((p, row) => {
    const target = targets[row % targets.length]!;
    const z = logits[row]!;
    if (kind === LOSS_CATEGORICAL_CROSSENTROPY) {
      const largest = Math.max(...z);
      const logTotal = largest + Math.log(sum(z.map((x) => Math.exp(x - largest))));
      return sum(target.map((y, k) => (y * (1 - smoothing) + smoothing / target.length) * (logTotal - z[k]!)));
    }
    if (kind === LOSS_BINARY_CROSSENTROPY) {
      return (
        sum(
          target.map((y, k) => {
            const smooth = y * (1 - smoothing) + smoothing / 2;
            return -smooth * Math.log(p[k]!) - (1 - smooth) * Math.log(1 - p[k]!);
          }),
        ) / target.length
      );
    }
    return sum(target.map((y, k) => (p[k]! - y) ** 2)) / target.length;
  });
  return sum(perSample.map((value, row) => value * (weights?.[row % targets.length] ?? 1))) / scores.length;
}

/** d loss / d parameter of every parameter, by central differences of the f64 twin. */
export function gradients(lossOf: (tensors: number[][]) => number, tensors: ArrayLike<number>[]): number[][] {
  const values = tensors.map((tensor) => Array.from(tensor));
  return values.map((tensor) =>
    tensor.map((value, i) => {
      const at = (x: number): number => {
        tensor[i] = x;
        return lossOf(values);
      };
      const difference = at(value + STEP) - at(value - STEP);
      tensor[i] = value;
      return difference / (2 * STEP);
    }),
  );
}

/** f64 rounding and the third derivative both leave an error near 1e-10. */
const STEP = 1e-5;
