// Post-training quantization: f32 tensors -> int8 rows, one f32 scale a row, and back.
// Symmetric, per output row (an embedding row, or all weights into one unit), so a
// single outlier costs only its own row. Called by write.ts; reads f32 in Keras' layout.
import { FORM_F32, FORM_INT8, LAYER_DENSE, LAYER_EMBEDDING, LAYER_LSTM } from "../abi";
import { expandNibbles } from "../network/linear";
import {
  Layer,
  directions,
  gateCount,
  isRecurrent,
  linearBias,
  linearWeights,
  matrixBytes,
  padded,
} from "../network/model";

/** Largest magnitude of an int8 weight: symmetric, so -128 is not used. */
const INT8_MAX: f32 = 127.0;

/**
 * Quantizes one matrix to s8 (rows, columns) at `to`, then f32 scales[rows], each part
 * padded to 16. The source is (rows, columns), or (columns, rows) when isTransposed.
 * q = round(w / scale), scale = max|w| / 127; a row of zeros gets the scale 1.
 * Returns the address behind it.
 */
export function quantizeMatrix(from: usize, rows: u32, columns: u32, isTransposed: bool, to: usize): usize {
  const rowStride = (<usize>(isTransposed ? <u32>1 : columns)) << 2;
  const columnStride = (<usize>(isTransposed ? rows : <u32>1)) << 2;
  const scales = to + <usize>padded(<u64>rows * columns);
  for (let r: u32 = 0; r < rows; r++) {
    const row = from + <usize>r * rowStride;
    const scale = rowScale(row, columns, columnStride);
    for (let c: u32 = 0; c < columns; c++) {
      store<i8>(to + <usize>r * columns + c, quantizeWeight(load<f32>(row + <usize>c * columnStride), scale));
    }
    store<f32>(scales + ((<usize>r) << 2), scale);
  }
  return scales + <usize>padded((<u64>rows) << 2);
}

/** The scale of f32[columns] that lie `stride` bytes apart. */
export function rowScale(row: usize, columns: u32, stride: usize): f32 {
  let largest: f32 = 0;
  for (let c: u32 = 0; c < columns; c++) largest = max<f32>(largest, abs<f32>(load<f32>(row + <usize>c * stride)));
  // The scale must be a normal f32: a row of smaller weights becomes zeros.
  return largest > 1e-30 ? largest / INT8_MAX : 1;
}

/** Nearest multiple of `scale`, ties to even, as its s8 factor. */
export function quantizeWeight(weight: f32, scale: f32): i8 {
  return <i8>min<f32>(INT8_MAX, max<f32>(-INT8_MAX, nearest<f32>(weight / scale)));
}

/**
 * Quantizes all tensors of a layer from `from` (f32, each tensor padded to 16) to `to`
 * in the order of FORMAT.md; returns the address behind them. Biases stay f32.
 */
export function quantizeLayer(layer: Layer, from: usize, to: usize): usize {
  const inputs = layer.inputWidth;
  const units = layer.units;
  if (layer.kind == LAYER_EMBEDDING) return quantizeMatrix(from, inputs, units, false, to);
  if (isRecurrent(layer)) {
    const gates = gateCount(layer) * units;
    for (let d: u32 = 0, count = directions(layer); d < count; d++) {
      to = quantizeMatrix(from, gates, inputs, true, to);
      from += <usize>padded(<u64>4 * gates * inputs);
      if (layer.kind == LAYER_LSTM) {
        to = quantizeMatrix(from, gates, units, true, to);
        from += <usize>padded(<u64>4 * gates * units);
      }
      to = copyBias(from, gates, to);
      from += <usize>padded(<u64>4 * gates);
    }
    return to;
  }
  if (layer.kind == LAYER_DENSE) {
    to = quantizeMatrix(from, units, inputs, true, to);
    return copyBias(from + <usize>padded(<u64>4 * units * inputs), units, to);
  }
  return to;
}

function copyBias(from: usize, length: u32, to: usize): usize {
  memory.copy(to, from, (<usize>length) << 2);
  return to + <usize>padded((<u64>length) << 2);
}

/** Writes what an int8 matrix (rows, columns) at `from` stands for as f32 in Keras' layout to `to`; returns the address behind it. */
function expandMatrix(from: usize, rows: u32, columns: u32, isTransposed: bool, to: usize): usize {
  const rowStride = (<usize>(isTransposed ? <u32>1 : columns)) << 2;
  const columnStride = (<usize>(isTransposed ? rows : <u32>1)) << 2;
  const scales = from + <usize>padded(<u64>rows * columns);
  for (let r: u32 = 0; r < rows; r++) {
    const scale = load<f32>(scales + ((<usize>r) << 2));
    const row = to + <usize>r * rowStride;
    for (let c: u32 = 0; c < columns; c++)
      store<f32>(row + <usize>c * columnStride, scale * <f32>load<i8>(from + <usize>r * columns + c));
  }
  return to + <usize>padded(<u64>4 * rows * columns);
}

/** The inverse of quantizeLayer, but for what rounding took: int8 tensors at `from` -> f32 at `to`; returns the address behind them. */
export function expandLayer(layer: Layer, from: usize, to: usize): usize {
  const inputs = layer.inputWidth;
  const units = layer.units;
  if (layer.kind == LAYER_EMBEDDING) return expandMatrix(from, inputs, units, false, to);
  if (isRecurrent(layer)) {
    const gates = gateCount(layer) * units;
    for (let d: u32 = 0, count = directions(layer); d < count; d++) {
      to = expandMatrix(from, gates, inputs, true, to);
      from += <usize>matrixBytes(FORM_INT8, gates, inputs);
      if (layer.kind == LAYER_LSTM) {
        to = expandMatrix(from, gates, units, true, to);
        from += <usize>matrixBytes(FORM_INT8, gates, units);
      }
      to = copyBias(from, gates, to);
      from += <usize>padded(<u64>4 * gates);
    }
    return to;
  }
  if (layer.kind == LAYER_DENSE) {
    to = expandMatrix(from, units, inputs, true, to);
    return copyBias(from + <usize>matrixBytes(FORM_INT8, units, inputs), units, to);
  }
  return to;
}

/** Largest magnitude of a weight of the linear part: 4 bits, of which -8 is not used. */
const NIBBLE_MAX: f32 = 7.0;

/**
 * Writes the linear part at `from`, in its f32 form, with 4 bits a weight and a scale a row, to `to`; returns the address behind it.
 * Its scores are sums of a dozen rows and more, so that a single weight matters little.
 */
export function quantizeLinear(from: usize, rows: u32, labels: u32, to: usize): usize {
  const weights = linearWeights(from, rows);
  memory.copy(to, from, weights - from);
  to += weights - from;
  const bytes = (labels + 1) >> 1;
  const scales = to + <usize>padded(<u64>rows * bytes);
  for (let r: u32 = 0; r < rows; r++) {
    const row = weights + ((<usize>r * labels) << 2);
    let largest: f32 = 0;
    for (let k: u32 = 0; k < labels; k++) largest = max<f32>(largest, abs<f32>(load<f32>(row + ((<usize>k) << 2))));
    const scale: f32 = largest > 1e-30 ? largest / NIBBLE_MAX : 1;
    for (let k: u32 = 0; k < labels; k++) {
      const weight = nearest<f32>(load<f32>(row + ((<usize>k) << 2)) / scale);
      const nibble = (<i32>min<f32>(NIBBLE_MAX, max<f32>(-NIBBLE_MAX, weight))) & 15;
      const at = to + <usize>r * bytes + (k >> 1);
      store<u8>(at, k & 1 ? load<u8>(at) | (nibble << 4) : nibble);
    }
    store<f32>(scales + ((<usize>r) << 2), scale);
  }
  to = scales + <usize>padded((<u64>rows) << 2);
  return copyBias(linearBias(from, FORM_F32, rows, labels), labels, to);
}

/** The inverse, but for what rounding took: a linear part of form 2 or 3 at `from` -> its f32 form at `to`. */
export function expandLinear(from: usize, rows: u32, labels: u32, to: usize): void {
  const weights = linearWeights(from, rows);
  memory.copy(to, from, weights - from);
  expandNibbles(weights, rows, labels, linearWeights(to, rows), labels);
  copyBias(linearBias(from, FORM_INT8, rows, labels), labels, linearBias(to, FORM_F32, rows, labels));
}
