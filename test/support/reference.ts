// What the engine computes, said a second time as plainly as possible: loops over arrays of
// f64, in the order of the textbook. Weights in Keras' order and layout. Nothing here is fast
// and nothing is shared with the engine but the numbers of abi.ts.
import {
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
  CONTEXT_ROW,
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
} from "../../assembly/abi.ts";
import type { LayerRecord } from "./keras-weights.ts";

type Vector = number[];

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export function softmax(values: Vector): Vector {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function activation(kind: number, values: Vector): Vector {
  if (kind === ACTIVATION_SOFTMAX) return softmax(values);
  return values.map((x) =>
    kind === ACTIVATION_SIGMOID
      ? sigmoid(x)
      : kind === ACTIVATION_TANH
        ? Math.tanh(x)
        : kind === ACTIVATION_RELU
          ? Math.max(0, x)
          : x,
  );
}

/** x W of f64[in] and (in, out). */
export function multiply(x: Vector, weights: ArrayLike<number>, out: number): Vector {
  return Array.from({ length: out }, (_, j) => x.reduce((sum, value, k) => sum + value * weights[k * out + j]!, 0));
}

const add = (a: Vector, b: ArrayLike<number>): Vector => a.map((value, i) => value + b[i]!);

/** z[4H] (gates i f c o) and c[H] -> the new c and h. */
export function cell(z: Vector, c: Vector): { c: Vector; h: Vector } {
  const units = c.length;
  const gate = (g: number, u: number): number => z[g * units + u]!;
  const next = c.map((value, u) => sigmoid(gate(1, u)) * value + sigmoid(gate(0, u)) * Math.tanh(gate(2, u)));
  return { c: next, h: next.map((value, u) => sigmoid(gate(3, u)) * Math.tanh(value)) };
}

/** z[2H] (gates u g) and h[H] -> the new h of a minGRU; with `isQ15` gates and state are whole numbers of 2^-15. */
function mixed(z: Vector, h: Vector, isQ15: boolean): Vector {
  const toQ15 = (x: number): number => Math.min(32767, roundEven(x * 32768));
  return h.map((value, i) => {
    const update = sigmoid(z[i]!);
    const addend = update * Math.tanh(z[h.length + i]!);
    if (!isQ15) return (1 - update) * value + addend;
    const state = Math.floor((toQ15(1 - update) * value * 32768 + 16384) / 32768) + toQ15(addend);
    return Math.max(-32768, Math.min(32767, state)) / 32768;
  });
}

// --- quantization -----------------------------------------------------------------

/** Nearest whole number, ties to even. */
export function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** h in Q14, as the int8 form keeps it. */
const toQ14 = (h: number): number => roundEven(Math.fround(h) * 16384);

interface Quantized {
  /** (rows, columns), whole numbers. */
  values: Vector;
  scales: Vector;
}

/** f32 (rows, columns), or (columns, rows) when transposed -> s8 (rows, columns) and a scale a row. */
function quantizeRows(weights: ArrayLike<number>, rows: number, columns: number, transposed: boolean): Quantized {
  const at = (r: number, c: number): number => weights[transposed ? c * rows + r : r * columns + c]!;
  const scales: Vector = [];
  const values: Vector = [];
  for (let r = 0; r < rows; r++) {
    let largest = 0;
    for (let c = 0; c < columns; c++) largest = Math.max(largest, Math.abs(at(r, c)));
    const scale = largest > 1e-30 ? Math.fround(largest / 127) : 1;
    scales.push(scale);
    for (let c = 0; c < columns; c++)
      values.push(Math.max(-127, Math.min(127, roundEven(Math.fround(at(r, c) / scale)))));
  }
  return { values, scales };
}

/** q . x with whole numbers, times the row's scale: one value a row. */
function multiplyRows(matrix: Quantized, x: Vector): Vector {
  return matrix.scales.map(
    (scale, r) => scale * x.reduce((sum, value, k) => sum + value * matrix.values[r * x.length + k]!, 0),
  );
}

// --- the network ----------------------------------------------------------------------

export type Arithmetic = "f32" | "int8" | "int8-weights";

/** An embedding row at work: its f64 values, and in the int8 form the whole numbers and the scale behind them. */
interface Row {
  values: Vector;
  whole?: Vector;
  scale?: number;
}

interface State {
  c: Vector;
  h: Vector;
}

/** How a direction turns an input and the last state into the next one. */
interface Direction {
  units: number;
  project(x: Row): Vector;
  /** The new state, from z without the recurrent product. */
  next(z: Vector, state: State): State;
}

function direction(
  tensors: readonly ArrayLike<number>[],
  inputs: number,
  units: number,
  arithmetic: Arithmetic,
): Direction {
  const isLstm = tensors.length === 3;
  const gates = (isLstm ? 4 : 2) * units;
  const kernel = tensors[0]!;
  const recurrent = isLstm ? tensors[1]! : [];
  const bias = tensors.at(-1)!;
  const nextBy =
    (recur: (h: Vector) => Vector) =>
    (z: Vector, { c, h }: State): State =>
      isLstm ? cell(add(z, recur(h)), c) : { c, h: mixed(z, h, arithmetic === "int8") };
  if (arithmetic === "f32") {
    return {
      units,
      project: (x) => add(multiply(x.values, kernel, gates), bias),
      next: nextBy((h) => multiply(h, recurrent, gates)),
    };
  }
  const K = quantizeRows(kernel, gates, inputs, true);
  const U = isLstm ? quantizeRows(recurrent, gates, units, true) : { values: [], scales: [] };
  if (arithmetic === "int8-weights")
    return { units, project: (x) => add(multiplyRows(K, x.values), bias), next: nextBy((h) => multiplyRows(U, h)) };
  return {
    units,
    project: (x) => {
      if (x.whole)
        return add(
          multiplyRows(K, x.whole).map((value) => value * x.scale!),
          bias,
        );
      return add(
        multiplyRows(K, x.values.map(toQ14)).map((value) => value / 16384),
        bias,
      );
    },
    next: nextBy((h) => multiplyRows(U, h.map(toQ14)).map((value) => value / 16384)),
  };
}

/** z of a step: rows of a token are averaged, a context row is added in full; the bias counts once. */
function projectStep(at: Direction, step: readonly Row[], context: Row | undefined): Vector {
  const projected = step.map((row) => at.project(row));
  const mean = projected[0]!.map((_, j) => projected.reduce((sum, z) => sum + z[j]!, 0) / step.length);
  if (!context) return mean;
  const bias = at.project({
    values: context.values.map(() => 0),
    ...(context.whole ? { whole: context.values.map(() => 0), scale: 1 } : {}),
  });
  return at.project(context).map((value, j) => value + mean[j]! - bias[j]!);
}

interface Step {
  rows: Row[];
  context?: Row;
}

/** All states of one direction, in time's order. */
function run(at: Direction, steps: readonly Step[], reversed: boolean): Vector[] {
  let state = { c: Array<number>(at.units).fill(0), h: Array<number>(at.units).fill(0) };
  const states: Vector[] = [];
  for (const step of reversed ? [...steps].reverse() : steps) {
    const x = projectStep(at, step.rows, step.context);
    state = at.next(x, state);
    states.push(state.h);
  }
  return reversed ? states.reverse() : states;
}

/** Scores of steps given as embedding rows; a step of several rows is their mean. 0 is padding. */
export function network(
  layers: readonly LayerRecord[],
  tensors: readonly ArrayLike<number>[],
  ids: readonly (readonly number[])[],
  arithmetic: Arithmetic = "f32",
): Vector {
  const [embedding] = layers as [LayerRecord];
  const width = embedding.units!;
  const quantized = arithmetic === "f32" ? undefined : quantizeRows(tensors[0]!, embedding.inputWidth, width, false);
  const rowOf = (id: number): Row => {
    if (!quantized) return { values: Array.from({ length: width }, (_, k) => tensors[0]![id * width + k]!) };
    const whole = quantized.values.slice(id * width, (id + 1) * width);
    const scale = quantized.scales[id]!;
    const values = whole.map((value) => value * scale);
    return arithmetic === "int8" ? { values, whole, scale } : { values };
  };
  const masked = ((embedding.flags ?? 0) & LAYER_MASK_ZERO) !== 0;
  let steps: Step[] = ids
    .filter((rows) => !masked || rows[0] !== 0)
    .map((rows) => {
      const context = rows.find((row) => row >= CONTEXT_ROW);
      return {
        rows: rows.filter((row) => row < CONTEXT_ROW).map(rowOf),
        ...(context === undefined ? {} : { context: rowOf(context - CONTEXT_ROW) }),
      };
    });
  let vector: Vector = [];
  let next = 1;
  for (const { kind, flags = 0, activation: shape = 0, inputWidth, units = 0 } of layers) {
    if (kind === LAYER_EMBEDDING) continue;
    if (kind === LAYER_LSTM || kind === LAYER_MINGRU) {
      const count = kind === LAYER_LSTM ? 3 : 2;
      const sides = [false, ...(flags & LAYER_BIDIRECTIONAL ? [true] : [])].map((reversed) => {
        const at = direction(tensors.slice(next, next + count), inputWidth, units, arithmetic);
        next += count;
        return { states: run(at, steps, reversed), reversed, zero: Array<number>(units).fill(0) };
      });
      // Read to the end, the last state of the backward side is that of the first step.
      vector = sides.flatMap(({ states, reversed, zero }) => (reversed ? states[0] : states.at(-1)) ?? zero);
      if (flags & LAYER_SEQUENCES)
        steps = steps.map((_, t) => ({ rows: [{ values: sides.flatMap(({ states }) => states[t]!) }] }));
    } else if (kind === LAYER_POOL) {
      const channels = Array.from({ length: inputWidth }, (_, k) => steps.map(({ rows }) => rows[0]!.values[k]!));
      vector = [
        ...(flags & LAYER_POOL_MAX ? channels.map((values) => (values.length ? Math.max(...values) : 0)) : []),
        ...(flags & LAYER_POOL_MEAN
          ? channels.map((values) =>
              values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0,
            )
          : []),
      ];
    } else if (kind === LAYER_DENSE) {
      let weights = tensors[next]!;
      if (arithmetic !== "f32") {
        const { values, scales } = quantizeRows(weights, units, inputWidth, true);
        weights = Array.from(
          { length: units * inputWidth },
          (_, i) => values[(i % units) * inputWidth + Math.floor(i / units)]! * scales[i % units]!,
        );
      }
      vector = activation(shape, add(multiply(vector, weights, units), tensors[next + 1]!));
      next += 2;
    }
  }
  return vector;
}

/** Keras' pad_sequences of one list of ids, as steps of one row. */
export function pad(
  ids: readonly number[],
  length: number,
  post: { padding?: boolean; truncating?: boolean } = {},
): number[][] {
  const kept =
    ids.length <= length ? [...ids] : post.truncating ? ids.slice(0, length) : ids.slice(ids.length - length);
  const zeros = Array<number>(length - kept.length).fill(0);
  return (post.padding ? [...kept, ...zeros] : [...zeros, ...kept]).map((id) => [id]);
}
