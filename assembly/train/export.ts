// A built model, handed out piece by piece, so that the host can write it for other programs:
// layers, words, tokenizer, and the weights as those programs lay them out. See also
// networkTensorPtr in network.ts, which hands out weights as they are.
import { ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX, ERR_BAD_STATE, OK } from "../abi";
import { allocate } from "../arena";
import { layerAt } from "../network/model";
import { draft, isBuilt } from "./builder";
import { network, networkTensorLength, networkTensorPtr } from "./network";

export function layerCount(): u32 {
  return draft.header.layerCount;
}

export function layerKind(index: u32): u32 {
  return layerAt(draft.layers, index).kind;
}

export function layerFlags(index: u32): u32 {
  return layerAt(draft.layers, index).flags;
}

export function layerActivation(index: u32): u32 {
  return layerAt(draft.layers, index).activation;
}

export function layerUnits(index: u32): u32 {
  return layerAt(draft.layers, index).units;
}

export function layerRate(index: u32): f32 {
  return layerAt(draft.layers, index).rate;
}

/** Rows of the embedding that are no buckets: padding, and at least one for each word. */
export function wordRows(): u32 {
  return layerAt(draft.layers, 0).inputWidth - draft.header.bucketCount;
}

/** Address of the word with the id index + 1. */
export function wordPtr(index: u32): usize {
  return draft.words + load<u32>(draft.wordOffsets + ((<usize>index) << 2));
}

export function wordBytes(index: u32): u32 {
  const offset = draft.wordOffsets + ((<usize>index) << 2);
  return load<u32>(offset, 4) - load<u32>(offset);
}

export function unknownId(): u32 {
  return draft.header.unknownId;
}

export function filtersPtr(): usize {
  return draft.filters;
}

export function filtersBytes(): u32 {
  return draft.header.filterBytes;
}

export function splitPtr(): usize {
  return draft.split;
}

export function splitBytes(): u32 {
  return draft.header.splitBytes;
}

/** Divides the last layer's weights by the temperature, as the engine does when it loads them, and sets it to 1. */
export function foldTemperature(): i32 {
  if (!isBuilt()) return ERR_BAD_STATE;
  const header = draft.header;
  const last = layerAt(draft.layers, header.layerCount - 1);
  if (last.activation == ACTIVATION_SOFTMAX || last.activation == ACTIVATION_SIGMOID) {
    const scale = <f32>1 / header.temperature;
    for (let index = network.tensorCount - 2; index < network.tensorCount; index++) {
      const end = networkTensorPtr(index) + ((<usize>networkTensorLength(index)) << 2);
      for (let p = networkTensorPtr(index); p < end; p += 4) store<f32>(p, scale * load<f32>(p));
    }
  }
  header.temperature = 1;
  return OK;
}

/**
 * A copy of tensor `index` of an LSTM of `units`, f32 (R, 4H) with the gates i f c o, as ONNX has it:
 * (4H, R) with the gates i o f c. 0 when memory is refused.
 */
export function onnxGates(index: u32, units: u32): usize {
  const from = networkTensorPtr(index);
  const width = 4 * units;
  const rows = networkTensorLength(index) / width;
  const copy = allocate((<usize>rows * width) << 2);
  if (!copy) return 0;
  for (let gate: u32 = 0; gate < 4; gate++) {
    const place = gate == 0 ? 0 : gate == 3 ? 1 : gate + 1;
    for (let u: u32 = 0; u < units; u++) {
      const target = copy + ((<usize>(place * units + u) * rows) << 2);
      for (let r: u32 = 0; r < rows; r++)
        store<f32>(target + ((<usize>r) << 2), load<f32>(from + ((<usize>r * width + gate * units + u) << 2)));
    }
  }
  return copy;
}
