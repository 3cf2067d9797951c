// The plan of a loaded model: its packed weights and the buffers of a text, made by prepare.ts,
// run by step.ts and classify.ts.
import { Scan } from "./mingru";
import { Layer } from "./model";

/** One direction of an LSTM, packed (see lstm.ts). */
@unmanaged
export class DirectionPlan {
  kernel: usize; // f32 (G, inputs, 16), or s16 (G, inputPairs, 16, 2)
  kernelScale: usize; // f32 (G, 16), int8 only, times the scale of the input
  recurrent: usize; // f32 (G, units, 16), or s16 (G, unitPairs, 16, 2)
  recurrentScale: usize; // f32 (G, 16), int8 only, times Q14_SCALE
  bias: usize; // f32 (G, 16)
  table: usize; // f32 (V, G, 16): projections of the rows; 0 = not kept
  known: usize; // u8 (V): 1 when the table has the row's projection
}

/** A minGRU, packed (see mingru.ts): both directions in one, forward first, with D G groups together; and what it keeps (see gates.ts). */
@unmanaged
export class GatePlan {
  groups: u32; // D G
  inputs: u32;
  inputPairs: u32; // int8: of the inputs, padded to 4
  kernel: usize; // f32 (D G, inputs, 16), or s16 (D G, inputPairs, 16, 2)
  kernelScale: usize; // f32 (D G, 16), int8 only
  bias: usize; // f32 (D G, 16)
  bytes: usize; // of a token's activated gates, both directions
  table: usize; // (V, bytes); 0 = not kept
  known: usize; // u8 (V): 1 when the table has the row's gates
  slots: usize; // (slotMask + 1, slotBytes): the cache
  slotMask: u32;
  slotBytes: usize;
  text: u32; // number of the present text
  stepGates: usize; // (T, bytes), above another recurrent layer, where nothing is kept
}

/** One layer, ready to run. Packed weights: of an LSTM in its directions; of a Dense f32 (ceil(out / 4), inputs, 4). */
@unmanaged
export class LayerPlan {
  layer: Layer;
  groups: u32; // LSTM: ceil(H / 4)
  inputPairs: u32; // LSTM int8: of the inputs, padded to 4
  unitPairs: u32; // LSTM int8: of the state, padded to 4
  weights: usize; // Dense
  bias: usize; // Dense, f32[out] padded to 4
  forward: DirectionPlan;
  backward: DirectionPlan; // null in one direction
  gates: GatePlan; // of a minGRU
}

/** Everything classify.ts needs beside the model and the sequence. */
@unmanaged
export class Plan {
  layers: usize; // LayerPlan[layerCount]
  layerCount: u32;
  isInt8: bool; // integer recurrent products, else f32
  hasTable: bool; // the input table is kept
  embedding: usize; // first embedding row in the file
  embeddingScale: usize; // f32[V], quantized files only
  rows: u32; // V
  width: u32; // E
  row: usize; // one embedding row: f32[E] or s16[E], padded
  projection: usize; // f32 (G, 16): x W + b of the step, when it is not in a table
  share: usize; // f32 (G, 16): projection of one of several rows of a token
  z: usize; // f32 (G, 16)
  zeros: usize; // f32 (G, 16)
  steps: usize; // u32[T]: address of each step's gates; these and the next two only with a minGRU
  padding: usize; // u32[1]: the row of padding, 0
  scan: Scan; // with f32 room for its results
  cell: usize; // f32 [4 G]
  hidden: usize; // f32 [4 G]
  hiddenQ14: usize; // s16 [4 G]
  inputQ14: usize; // s16 [inputs], of a stacked LSTM
  prefix: usize; // states after k pads: (T + 1) x prefixStride; 0 = none
  prefixStride: u32;
  sequenceA: usize; // f32 (T, channels): what a sequence layer yields
  sequenceB: usize;
  sequenceWidth: u32; // channels, the largest of all layers
  vectorA: usize; // f32 [channels]: what a vector layer yields
  vectorB: usize;
}

export function planLayer(plan: Plan, index: u32): LayerPlan {
  return changetype<LayerPlan>(plan.layers + <usize>index * offsetof<LayerPlan>());
}
