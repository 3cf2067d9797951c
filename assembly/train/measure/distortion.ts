// The loss of precision by quantization: a tensor of the network -> its shape, scales,
// largest error, signal-to-noise ratio and bytes. Rounds each row of the int8 matrix as
// quantize.ts does; biases stay f32. The weights are not changed.
import { LAYER_EMBEDDING, LAYER_LSTM } from "../../abi";
import { allocate } from "../../arena";
import { layerAt, padded } from "../../network/model";
import { draft, isBuilt } from "../builder";
import { Tensor, network, tensorAt } from "../network";
import { quantizeWeight, rowScale } from "../quantize";
import { logF32 } from "../random";

/** All f64, since the host reads them as one array. */
@unmanaged
class Distortion {
  rows: f64; // in Keras' layout; a bias has one
  columns: f64;
  bits: f64; // of a weight in the int8 file: 8, or 32 where it stays f32
  smallestScale: f64; // of its rows; 0 at 32 bits
  largestScale: f64;
  largestError: f64; // of any weight
  decibels: f64; // 10 log10(sum w^2 / sum error^2); infinite when nothing is lost
  bytesBefore: f64; // in an f32 file, padding included
  bytesAfter: f64; // in an int8 file, scales included
}

const DECIBELS_PER_NEPER: f32 = 4.3429448;

let measured: Distortion = changetype<Distortion>(0);

/** Measures tensor `index` of the built network. Returns the address of a Distortion, valid until the next call; 0 when there is no such tensor, or memory is refused. */
export function measureTensor(index: u32): usize {
  if (!isBuilt() || index >= network.tensorCount) return 0;
  measured = changetype<Distortion>(allocate(offsetof<Distortion>()));
  if (!changetype<usize>(measured)) return 0;
  const tensor = tensorAt(index);
  const layer = layerAt(draft.layers, tensor.layer);
  let first = index;
  while (first > 0 && tensorAt(first - 1).layer == tensor.layer) first--;
  // Keras' order: kernel, the recurrent kernel of an LSTM, bias; then the same for the other direction.
  const isLstm = layer.kind == LAYER_LSTM;
  const part = (index - first) % (isLstm ? 3 : 2);
  const isMatrix = part == 0 || (isLstm && part == 1);
  const rows = !isMatrix ? 1 : part == 0 ? layer.inputWidth : layer.units;
  measured.rows = rows;
  measured.columns = tensor.length / rows;
  measured.bytesBefore = <f64>padded((<u64>tensor.length) << 2);
  if (isMatrix)
    measureMatrix(tensor, layer.kind == LAYER_EMBEDDING ? rows : tensor.length / rows, layer.kind != LAYER_EMBEDDING);
  else {
    measured.bits = 32;
    measured.decibels = Infinity;
    measured.bytesAfter = measured.bytesBefore;
  }
  return changetype<usize>(measured);
}

/** `rows` int8 rows, each a column of Keras' matrix when isTransposed. */
function measureMatrix(tensor: Tensor, rows: u32, isTransposed: bool): void {
  const columns = tensor.length / rows;
  const rowStride = (<usize>(isTransposed ? <u32>1 : columns)) << 2;
  const columnStride = (<usize>(isTransposed ? rows : <u32>1)) << 2;
  let signal: f64 = 0;
  let noise: f64 = 0;
  measured.bits = 8;
  measured.smallestScale = Infinity;
  for (let r: u32 = 0; r < rows; r++) {
    const row = tensor.address + <usize>r * rowStride;
    const scale = rowScale(row, columns, columnStride);
    measured.smallestScale = min<f64>(measured.smallestScale, scale);
    measured.largestScale = max<f64>(measured.largestScale, scale);
    for (let c: u32 = 0; c < columns; c++) {
      const weight = load<f32>(row + <usize>c * columnStride);
      const error = <f64>weight - <f64>(<f32>quantizeWeight(weight, scale) * scale);
      measured.largestError = max<f64>(measured.largestError, abs<f64>(error));
      signal += <f64>weight * <f64>weight;
      noise += error * error;
    }
  }
  measured.decibels = noise > 0 ? DECIBELS_PER_NEPER * logF32(<f32>(signal / noise)) : Infinity;
  measured.bytesAfter = <f64>(padded(tensor.length) + padded((<u64>rows) << 2));
}
