// The network in training: layer records -> parameters, gradients, optimizer slots and
// the buffers of one step, all claimed from the arena at once. step.ts runs it.
// Sizes: V embedding rows, E embedding width, H units, K outputs, T steps, B samples.
// Refuses layer sequences that are no model graph (ERR_BAD_LAYERS) and sizes beyond
// abi.ts (ERR_BAD_ARGUMENT).
import {
  ERR_BAD_ARGUMENT,
  ERR_BAD_LAYERS,
  ERR_OUT_OF_MEMORY,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_SEQUENCES,
  MAX_DROPOUT_SAMPLES,
  MAX_SEQUENCE,
  OK,
} from "../abi";
import { allocate } from "../arena";
import { directions, gateCount, isChain, isRecurrent, Layer, layerAt } from "../network/model";
import { packedLength, transposedScratch } from "./matmul";
import { Random } from "./random";

// Parameters lie in one block, in Keras order, each tensor padded to 16 bytes; gradients,
// optimizer slots and the averaged weights are blocks of the same layout:
//   | embedding [V][E] | per LSTM direction: kernel [in][4H] recurrent [H][4H] bias [4H] | minGRU direction: kernel [in][2H] bias [2H] | dense kernel [in][out] bias [out] ...
// Rows of activations are padded to a multiple of 4 floats. Gates inside rows have
// H rounded up to 4 floats each, so that vectors never straddle two gates: | i | f | c | o | of an LSTM, | z | g | of a minGRU.

// A token's vector is the mean of its rows. Its first row may be marked as its own (OWN_ROW),
// its last row as its context row (CONTEXT_ROW in abi.ts): these two are not averaged, but
// added to the mean.

/** Marks the first of a token's rows as its own row. */
export const OWN_ROW: u32 = 0x80000000;

/** One parameter tensor. */
@unmanaged
export class Tensor {
  address: usize;
  length: u32; // floats
  layer: u32; // index of its layer
}

/** One direction of an LSTM, or of a minGRU: that has 2 instead of 4 gates, and only the fields of the kernel, of the bias, `projected`, `gates` and `previous`. R is the number of rows of a step, H4 = H rounded up to 4. */
@unmanaged
export class Direction {
  kernel: usize; // parameters [in][4H]
  recurrent: usize; // parameters [H][4H]
  bias: usize; // parameters [4H]
  spreadKernel: usize; // [in][4 H4]; the parameters themselves when H4 = H
  spreadRecurrent: usize; // [H][4 H4]
  spreadBias: usize; // [4 H4]
  packedKernel: usize; // (in, 4 H4)
  packedRecurrent: usize; // (H, 4 H4)
  packedKernelT: usize; // (4 H4, in)
  packedRecurrentT: usize; // (4 H4, H)
  projected: usize; // [R][4 H4] x . W, without bias, of a minGRU the gates after their activation; the backward pass sums dz by slot here
  gates: usize; // [R][4 H4] i f c o after their activation; the backward pass leaves dz here
  cells: usize; // [R][H4] c
  tanhCells: usize; // [R][H4] tanh c
  previous: usize; // [R][H4] h of the step before
}

/** What a layer holds while training. */
@unmanaged
export class Stage {
  layer: Layer;
  weights: usize; // parameters of an Embedding or Dense
  stride: u32; // floats from one output row to the next
  isSequence: u32; // output has R rows, else B rows in the order of the samples, `copies` times
  values: usize; // [rows][stride], this layer's own buffer
  output: usize; // values, or the input's output when the layer passes it on
  gradient: usize; // d output, same shape
  copies: u32; // output rows for each sample in this pass: in training, from the last Dropout on, dropoutSamples; else 1
  passesOn: u32; // Dropout outside training: output and gradient are the input's
  bySlot: u32; // output rows are slots (see batch.ts) and not rows
  mask: usize; // Dropout: f32 [rows][stride]; Pool: u32 [B][width] chosen rows; last Dense: [B][stride] before the activation
  packed: usize; // Dense kernel (in, out)
  packedT: usize; // its transpose (out, in)
  forwards: Direction;
  backwards: Direction;
}

/** What a saved training holds besides parameters, slots and average. 64 bytes. */
@unmanaged
export class TrainingState {
  beta1Power: f64; // beta1^steps
  beta2Power: f64;
  random: u32; // Random, 16 bytes
  random1: u32;
  random2: u32;
  random3: u32;
  steps: u32; // optimizer steps taken
  averages: u32; // updates of the averaged weights
  isSwapped: u32; // the parameters are the averaged weights at present
  frozenFirst: u32; // rows of the embedding that do not learn: pretrained vectors
  frozenCount: u32;
  reserved2: u32;
  reserved3: u32;
  reserved4: u32;
}


@unmanaged
export class Network {
  layerCount: u32;
  tensorCount: u32;
  tensors: usize; // Tensor[tensorCount]
  stages: usize; // Stage[layerCount]
  batchCapacity: u32;
  timeCapacity: u32;
  rowsPerToken: u32;
  dropoutSamples: u32;
  rows: u32; // V
  width: u32; // E
  outputs: u32; // K
  isMasked: u32; // MASK_ZERO
  sharesDropout: u32; // equal tokens of a batch share a slot even with dropout: its mask is drawn for each slot
  parameterBytes: usize; // of each block
  embeddingBytes: usize; // its first part, the embedding
  parameters: usize;
  gradients: usize;
  state: TrainingState;

  // Of OPTIMIZER_PER_TOKEN; see optimizer.ts.
  splitsTokens: u32; // the embedding's stage has one gradient a row of the plan, not one a slot
  tokenSquares: f32; // sum of the squares of the tokens' gradients in this step
  squares: usize; // f32[V][E] the same sum for each parameter; 0 = not needed

  touched: usize; // u32[] embedding rows with a gradient in this step
  touchedCount: u32;
  rowStates: usize; // u8[V] ROW_*

  // One batch, written by the caller; batch.ts makes a plan of it.
  rowOffsets: usize; // u32[B T + 1]
  rowIds: usize; // u32[B T rowsPerToken]
  targets: usize; // f32[B][K]
  sampleWeights: usize; // f32[B]
  offsets: usize; // f32[B][K], room for what the linear part adds; 0 = no linear part
  hasOffsets: u32; // what enters the last activation is networkShare * itself + offsets
  networkShare: f32;

  // Scratch of one step.
  recurrentSums: usize; // [B][4 H4] h . U
  hidden: usize; // [B][H4] h of samples that end here; gradient of h in the backward pass
  cellGradients: usize; // [B][H4]
  zeros: usize; // [4 H4], always zero
  row: usize; // [4 H4]
  squaredLengths: usize; // [B][2], see adversary.ts
  spread: usize; // gradient of a kernel with spread gates
  products: usize; // scratch of multiplyTransposed
}

/** The embedding row has a gradient in this step. */
export const ROW_TOUCHED: u8 = 1;
/** The row has had a gradient before, so its optimizer slots may be non-zero. */
export const ROW_KNOWN: u8 = 2;
/** The row's optimizer slots are not up to date; see optimizer.ts. */
export const ROW_FADED: u8 = 4;

/** The one network of this instance. */
export let network: Network = changetype<Network>(0);

export function stageAt(index: u32): Stage {
  return changetype<Stage>(network.stages + <usize>index * offsetof<Stage>());
}

export function lastStage(): Stage {
  return stageAt(network.layerCount - 1);
}

export function networkRandom(): Random {
  return changetype<Random>(changetype<usize>(network.state) + offsetof<TrainingState>("random"));
}

/** Address of the gradient of the parameter at `address`. */
// @ts-ignore: decorator
@inline
export function gradientOf(address: usize): usize {
  return address - network.parameters + network.gradients;
}

/** `length` floats rounded up to whole vectors. */
// @ts-ignore: decorator
@inline
export function roundUp(length: u32): u32 {
  return (length + 3) & ~3;
}

// Set when memory is refused, so that one check at the end is enough.
let refused = false;

function floats(length: u64): usize {
  // 16 bytes more, since vectors may read beyond the last row.
  const address = length < 0x1ffffff0 ? allocate(<usize>length * 4 + 16) : 0;
  if (address == 0) refused = true;
  return address;
}

/**
 * Builds the network of the `layerCount` records at `layers` for batches of at most
 * `batchCapacity` samples, `timeCapacity` steps and `rowsPerToken` embedding rows a
 * token. Parameters are zero until networkInitialize or the caller writes them.
 *
 * A Dropout right before the last Dense draws `dropoutSamples` masks for each sample, and the loss is the mean over
 * them: multi-sample dropout (H. Inoue, 2019). Gradients get less noisy, and only the last layer runs more often.
 */
export function networkBuild(
  layers: usize,
  layerCount: u32,
  batchCapacity: u32,
  timeCapacity: u32,
  rowsPerToken: u32,
  dropoutSamples: u32,
): i32 {
  network = changetype<Network>(0);
  if (
    batchCapacity < 1 ||
    batchCapacity > 65536 ||
    timeCapacity < 1 ||
    timeCapacity > <u32>MAX_SEQUENCE ||
    rowsPerToken < 1 ||
    rowsPerToken > 65536 ||
    dropoutSamples < 1 ||
    dropoutSamples > <u32>MAX_DROPOUT_SAMPLES
  ) {
    return ERR_BAD_ARGUMENT;
  }
  if (!isChain(layers, layerCount)) return ERR_BAD_LAYERS;

  refused = false;
  const address = allocate(offsetof<Network>());
  if (address == 0) return ERR_OUT_OF_MEMORY;
  const net = changetype<Network>(address);
  const embedding = layerAt(layers, 0);
  net.layerCount = layerCount;
  net.batchCapacity = batchCapacity;
  net.timeCapacity = timeCapacity;
  net.rowsPerToken = rowsPerToken;
  net.dropoutSamples = dropoutSamples;
  net.rows = embedding.inputWidth;
  net.width = embedding.units;
  net.outputs = layerAt(layers, layerCount - 1).units;
  net.isMasked = embedding.flags & LAYER_MASK_ZERO;
  net.state = changetype<TrainingState>(allocate(offsetof<TrainingState>()));
  net.stages = allocate(<usize>layerCount * offsetof<Stage>());
  net.tensors = allocate(<usize>(layerCount * 6) * offsetof<Tensor>());
  const tokens = <u64>batchCapacity * timeCapacity;
  net.rowOffsets = floats(tokens + 1);
  net.rowIds = floats(tokens * rowsPerToken);
  net.targets = floats(<u64>batchCapacity * net.outputs);
  net.sampleWeights = floats(batchCapacity);
  net.touched = floats(min(tokens * rowsPerToken, <u64>net.rows));
  net.rowStates = floats(net.rows / 4 + 1);
  if (refused || changetype<usize>(net.state) == 0 || net.stages == 0 || net.tensors == 0) return ERR_OUT_OF_MEMORY;

  const bytes = listTensors(net, layers);
  if (bytes > 0x7fff0000) return ERR_OUT_OF_MEMORY;
  net.parameterBytes = <usize>bytes;
  net.embeddingBytes = (<usize>net.rows * net.width * 4 + 15) & ~15;
  net.parameters = allocate(<usize>bytes);
  net.gradients = allocate(<usize>bytes);
  if (net.parameters == 0 || net.gradients == 0) return ERR_OUT_OF_MEMORY;
  for (let i: u32 = 0; i < net.tensorCount; i++) {
    const tensor = changetype<Tensor>(net.tensors + <usize>i * offsetof<Tensor>());
    tensor.address += net.parameters;
  }
  net.sharesDropout = readsByMinGru(net, layers) ? 1 : 0;
  buildStages(net, layers);
  if (refused) return ERR_OUT_OF_MEMORY;
  network = net;
  return OK;
}

/** Whether the first recurrent layer is a minGRU. Its gates depend on the token alone, so that they are computed once for each slot. */
function readsByMinGru(net: Network, layers: usize): bool {
  for (let i: u32 = 1; i < net.layerCount; i++) {
    const kind = layerAt(layers, i).kind;
    if (kind != LAYER_DROPOUT) return kind == LAYER_MINGRU;
  }
  return false;
}

/** Lists the tensors with their offsets in the block; returns the block's bytes. */
function listTensors(net: Network, layers: usize): u64 {
  let offset: u64 = 0;
  for (let i: u32 = 0; i < net.layerCount; i++) {
    const layer = layerAt(layers, i);
    const inputs = <u64>layer.inputWidth;
    const units = <u64>layer.units;
    if (layer.kind == LAYER_EMBEDDING) {
      offset = addTensor(net, i, inputs * units, offset);
    } else if (isRecurrent(layer)) {
      const gates = gateCount(layer) * units;
      for (let d: u32 = 0; d < directions(layer); d++) {
        offset = addTensor(net, i, inputs * gates, offset);
        if (layer.kind == LAYER_LSTM) offset = addTensor(net, i, units * gates, offset);
        offset = addTensor(net, i, gates, offset);
      }
    } else if (layer.kind == LAYER_DENSE) {
      offset = addTensor(net, i, inputs * units, offset);
      offset = addTensor(net, i, units, offset);
    }
  }
  return offset;
}

function addTensor(net: Network, layer: u32, length: u64, offset: u64): u64 {
  const tensor = changetype<Tensor>(net.tensors + <usize>net.tensorCount * offsetof<Tensor>());
  net.tensorCount++;
  tensor.address = <usize>offset;
  tensor.length = <u32>length;
  tensor.layer = layer;
  return offset + ((length * 4 + 15) & ~(<u64>15));
}

function buildStages(net: Network, layers: usize): void {
  const rowCapacity = <u64>net.batchCapacity * net.timeCapacity;
  let isSequence = true;
  let next: u32 = 0; // tensor
  let widest: u32 = 4; // padded floats of the largest gate row
  let spread: u64 = 4;
  let products: usize = 0;
  for (let i: u32 = 0; i < net.layerCount; i++) {
    const layer = layerAt(layers, i);
    const stage = changetype<Stage>(net.stages + <usize>i * offsetof<Stage>());
    stage.layer = layer;
    if (layer.kind == LAYER_POOL || (isRecurrent(layer) && (layer.flags & LAYER_SEQUENCES) == 0)) isSequence = false;
    stage.isSequence = isSequence ? 1 : 0;
    stage.stride = roundUp(layer.outputWidth);
    const copies = isSequence || i + 2 < net.layerCount ? 1 : net.dropoutSamples;
    const rows: u64 = isSequence ? rowCapacity : <u64>net.batchCapacity * copies;
    stage.values = floats(rows * stage.stride);
    stage.gradient = floats(rows * stage.stride);
    stage.output = stage.values;
    if (layer.kind == LAYER_EMBEDDING || layer.kind == LAYER_DENSE) stage.weights = tensorAddress(net, next);
    if (layer.kind == LAYER_EMBEDDING) {
      next += 1;
    } else if (isRecurrent(layer)) {
      for (let d: u32 = 0; d < directions(layer); d++) {
        const direction = buildDirection(net, layer, next, rowCapacity);
        if (d == 0) stage.forwards = direction;
        else stage.backwards = direction;
        next += layer.kind == LAYER_LSTM ? 3 : 2;
      }
      const gates = gateCount(layer) * roundUp(layer.units);
      widest = max(widest, 4 * roundUp(layer.units));
      spread = max(spread, <u64>max(layer.inputWidth, layer.units) * gates);
      products = max(products, transposedScratch(max(layer.inputWidth, layer.units), gates));
    } else if (layer.kind == LAYER_DENSE) {
      next += 2;
      stage.packed = floats(packedLength(layer.inputWidth, layer.units));
      stage.packedT = floats(packedLength(layer.units, layer.inputWidth));
      stage.mask = i + 1 == net.layerCount ? floats(rows * stage.stride) : 0;
      products = max(products, transposedScratch(layer.inputWidth, layer.units));
    } else {
      stage.mask = floats(rows * stage.stride);
    }
  }
  net.recurrentSums = floats(<u64>net.batchCapacity * widest);
  net.hidden = floats(<u64>net.batchCapacity * (widest >> 2));
  net.cellGradients = floats(<u64>net.batchCapacity * (widest >> 2));
  net.zeros = floats(widest);
  net.row = floats(widest);
  net.squaredLengths = floats(<u64>net.batchCapacity * 2);
  net.spread = floats(spread);
  net.products = floats(products);
}

function tensorAddress(net: Network, index: u32): usize {
  return changetype<Tensor>(net.tensors + <usize>index * offsetof<Tensor>()).address;
}

export function tensorAt(index: u32): Tensor {
  return changetype<Tensor>(network.tensors + <usize>index * offsetof<Tensor>());
}

function buildDirection(net: Network, layer: Layer, tensor: u32, rowCapacity: u64): Direction {
  const address = allocate(offsetof<Direction>());
  if (address == 0) {
    refused = true;
    return changetype<Direction>(0);
  }
  const direction = changetype<Direction>(address);
  const inputs = layer.inputWidth;
  const units = layer.units;
  const wide = roundUp(units);
  direction.kernel = tensorAddress(net, tensor);
  const gates = gateCount(layer);
  const isLstm = layer.kind == LAYER_LSTM;
  direction.bias = tensorAddress(net, tensor + (isLstm ? 2 : 1));
  direction.spreadKernel = units == wide ? direction.kernel : floats(<u64>inputs * gates * wide);
  direction.spreadBias = units == wide ? direction.bias : floats(gates * wide);
  direction.packedKernel = floats(packedLength(inputs, gates * wide));
  direction.packedKernelT = floats(packedLength(gates * wide, inputs));
  direction.projected = floats(rowCapacity * gates * wide);
  direction.gates = floats(rowCapacity * gates * wide);
  direction.previous = floats(rowCapacity * wide);
  if (!isLstm) return direction;
  direction.recurrent = tensorAddress(net, tensor + 1);
  direction.spreadRecurrent = units == wide ? direction.recurrent : floats(<u64>units * 4 * wide);
  direction.packedRecurrent = floats(packedLength(units, 4 * wide));
  direction.packedRecurrentT = floats(packedLength(4 * wide, units));
  direction.cells = floats(rowCapacity * wide);
  direction.tanhCells = floats(rowCapacity * wide);
  return direction;
}

export function networkTensorCount(): u32 {
  return network.tensorCount;
}

/** Address of the f32 values of tensor `index`, in Keras order and layout. */
export function networkTensorPtr(index: u32): usize {
  return tensorAddress(network, index);
}

/** Floats of tensor `index`. */
export function networkTensorLength(index: u32): u32 {
  return tensorAt(index).length;
}

/** Address of the last step's gradient of tensor `index`. */
export function networkGradientPtr(index: u32): usize {
  return gradientOf(tensorAddress(network, index));
}

/** u32[B T + 1]: the embedding rows of step t of sample b are rowIds[rowOffsets[b T + t]] up to rowOffsets[b T + t + 1]. */
export function networkRowOffsetsPtr(): usize {
  return network.rowOffsets;
}

/** u32[B T rowsPerToken]; the first row of a token may carry OWN_ROW, the last CONTEXT_ROW. */
export function networkRowIdsPtr(): usize {
  return network.rowIds;
}

/** f32[B][K]. */
export function networkTargetsPtr(): usize {
  return network.targets;
}

/** f32[B]: factor of each sample's loss; networkBatch sets them all to 1. */
export function networkSampleWeightsPtr(): usize {
  return network.sampleWeights;
}

/** Address of the scores of the last forward pass, f32 rows of networkOutputStride() floats. */
export function networkOutputPtr(): usize {
  return lastStage().output;
}

export function networkOutputStride(): u32 {
  return lastStage().stride;
}
