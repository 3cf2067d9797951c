// Initial weights: seed -> parameters of the whole network, drawn as in Keras: embedding uniform
// in +-embeddingRange (Keras: 0.05), kernels Glorot uniform, recurrent kernels orthogonal, biases
// 0, but 1 for the forget gate. The same seed gives the same bits on every machine.
import { LAYER_EMBEDDING, LAYER_LSTM } from "../abi";
import { Layer, directions, gateCount, isRecurrent } from "../network/model";
import { networkRandom, network, stageAt, Direction } from "./network";
import { randomNormal, Random, randomSeed, randomUniform } from "./random";

/** Seeds the random stream of this training and draws all parameters. */
export function networkInitialize(seed: u32, embeddingRange: f32): void {
  const random = networkRandom();
  randomSeed(random, seed);
  memory.fill(network.parameters, 0, network.parameterBytes);
  for (let i: u32 = 0; i < network.layerCount; i++) {
    const stage = stageAt(i);
    const layer = stage.layer;
    if (layer.kind == LAYER_EMBEDDING) {
      fillUniform(random, stage.weights, layer.inputWidth * layer.units, embeddingRange);
    } else if (isRecurrent(layer)) {
      for (let d: u32 = 0; d < directions(layer); d++) {
        initializeDirection(random, layer, d == 0 ? stage.forwards : stage.backwards);
      }
    } else if (stage.weights != 0) {
      fillUniform(random, stage.weights, layer.inputWidth * layer.units, glorotLimit(layer.inputWidth, layer.units));
    }
  }
}

function initializeDirection(random: Random, layer: Layer, direction: Direction): void {
  const inputs = layer.inputWidth;
  const units = layer.units;
  const gates = gateCount(layer) * units;
  fillUniform(random, direction.kernel, inputs * gates, glorotLimit(inputs, gates));
  if (layer.kind != LAYER_LSTM) return;
  fillOrthogonal(random, direction.recurrent, units, 4 * units);
  for (let i: u32 = units; i < 2 * units; i++) store<f32>(direction.bias + ((<usize>i) << 2), 1);
}

/** sqrt(6 / (fan_in + fan_out)). */
function glorotLimit(inputs: u32, outputs: u32): f32 {
  return sqrt<f32>(<f32>6 / <f32>(inputs + outputs));
}

function fillUniform(random: Random, values: usize, length: u32, limit: f32): void {
  for (const end = values + ((<usize>length) << 2); values < end; values += 4) {
    store<f32>(values, (randomUniform(random) * 2 - 1) * limit);
  }
}

/** Random orthonormal rows (rows <= columns). */
function fillOrthogonal(random: Random, values: usize, rows: u32, columns: u32): void {
  for (let p = values, end = values + ((<usize>rows * columns) << 2); p < end; p += 4)
    store<f32>(p, randomNormal(random));
  orthonormalize(values, rows, columns);
}

/** Makes the rows, f32 (rows, columns) with columns a multiple of 4, orthonormal: Gram-Schmidt, twice for each row to remove rounding errors. A row that depends on those before becomes 0, or what rounding makes of it. */
export function orthonormalize(values: usize, rows: u32, columns: u32): void {
  const stride = (<usize>columns) << 2;
  for (let r: u32 = 0; r < rows; r++) {
    const row = values + <usize>r * stride;
    for (let pass = 0; pass < 2; pass++) {
      for (let q = values; q < row; q += stride) addScaled(row, q, -dot(row, q, columns), columns);
      const square = dot(row, row, columns);
      const scale: f32 = square > 0 ? <f32>1 / sqrt<f32>(square) : 0;
      for (let p = row; p < row + stride; p += 16) v128.store(p, f32x4.mul(v128.load(p), f32x4.splat(scale)));
    }
  }
}

/** Dot product of two f32[length], length a multiple of 4. */
export function dot(a: usize, b: usize, length: u32): f32 {
  let sum = f32x4.splat(0);
  for (const end = a + ((<usize>length) << 2); a < end; a += 16) {
    sum = f32x4.add(sum, f32x4.mul(v128.load(a), v128.load(b)));
    b += 16;
  }
  return (
    f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3))
  );
}

function addScaled(target: usize, source: usize, scale: f32, length: u32): void {
  const factor = f32x4.splat(scale);
  for (const end = target + ((<usize>length) << 2); target < end; target += 16) {
    v128.store(target, f32x4.add(v128.load(target), f32x4.mul(factor, v128.load(source))));
    source += 16;
  }
}
