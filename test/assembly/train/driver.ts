// Drives the training kernels of build/testing.wasm from tests: layer records and
// plain arrays in, statuses, losses and tensors out.
import { ERR_BAD_TRAINING, ERR_OUT_OF_MEMORY, OK, OPTIMIZER_AVERAGE } from "../../../assembly/abi.ts";
import type { LayerRecord } from "../../support/keras-weights.ts";
import { setSetting } from "../../support/model-file.ts";
import { f32, loadWasm, put, type Exports } from "../../support/wasm.ts";

const LAYER_FIELDS = 8;

export interface Shape {
  batch: number;
  time: number;
  rowsPerToken?: number;
  dropoutSamples?: number;
}

export interface Recipe {
  loss: number;
  optimizer: number;
  flags?: number;
  labelSmoothing?: number;
  /** Momentum of SGD. */
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  clipNorm?: number;
  weightDecay?: number;
}

/** Token ids by sample and step; an array instead of an id is a token of several rows. */
export type Batch = (number | number[])[][];

export function build(layers: LayerRecord[], shape: Shape): { wasm: Exports; status: number } {
  const wasm = loadWasm("testing");
  const words = new Uint32Array(LAYER_FIELDS * layers.length);
  const rates = new Float32Array(words.buffer);
  layers.forEach((layer, i) => {
    words.set(
      [layer.kind, layer.flags ?? 0, layer.activation ?? 0, layer.inputWidth, layer.units ?? 0, layer.outputWidth],
      LAYER_FIELDS * i,
    );
    rates[LAYER_FIELDS * i + 6] = layer.rate ?? 0;
  });
  const status: number = wasm["networkBuild"](
    put(wasm, words),
    layers.length,
    shape.batch,
    shape.time,
    shape.rowsPerToken ?? 1,
    shape.dropoutSamples ?? 1,
  );
  if (status !== OK) return { wasm, status };
  const isPlanned: boolean = wasm["planBuild"](shape.batch, shape.time, layers[0]!.inputWidth);
  return { wasm, status: isPlanned ? OK : ERR_OUT_OF_MEMORY };
}

export class Trainer {
  readonly wasm: Exports;
  readonly activation: number;

  constructor(layers: LayerRecord[], shape: Shape) {
    const { wasm, status } = build(layers, shape);
    if (status !== OK) throw new Error(`networkBuild returned ${status}`);
    this.wasm = wasm;
    this.activation = layers.at(-1)!.activation ?? 0;
  }

  trainWith(recipe: Recipe): number {
    const { flags = 0, ...given } = recipe;
    const settings = {
      epsilon: 1e-7,
      learningRate: 1e-7,
      epochs: 1,
      batch: 1,
      ...given,
      optimizerFlags: flags,
      averageDecay: flags & OPTIMIZER_AVERAGE ? 0.5 : 0,
    };
    const { buffer } = this.wasm.memory;
    const bytes = new Uint8Array(buffer, this.wasm["settingsPtr"](), this.wasm["SETTINGS_BYTES"].value).fill(0);
    for (const [name, value] of Object.entries(settings)) setSetting(bytes, name, value);
    return this.wasm["settingsAreLegal"](this.activation) ? this.wasm["networkTrainWith"]() : ERR_BAD_TRAINING;
  }

  /** Fills the batch; `targets` are rows of the output, `weights` one number a sample. */
  setBatch(tokens: Batch, targets?: number[][], weights?: number[]): number {
    const offsets = [0];
    const ids: number[] = [];
    for (const token of tokens.flat(1) as (number | number[])[]) {
      ids.push(...(Array.isArray(token) ? token : [token]));
      offsets.push(ids.length);
    }
    return this.setRows(tokens.length, tokens[0]!.length, offsets, ids, targets, weights);
  }

  setRows(
    batch: number,
    time: number,
    offsets: number[],
    ids: number[],
    targets?: number[][],
    weights?: number[],
  ): number {
    const { wasm } = this;
    new Uint32Array(wasm.memory.buffer, wasm["networkRowOffsetsPtr"](), offsets.length).set(offsets);
    new Uint32Array(wasm.memory.buffer, wasm["networkRowIdsPtr"](), ids.length).set(ids);
    const flat = targets?.flat() ?? [];
    new Float32Array(wasm.memory.buffer, wasm["networkTargetsPtr"](), flat.length).set(flat);
    const status: number = wasm["networkBatch"](batch, time);
    if (status === OK && weights)
      new Float32Array(wasm.memory.buffer, wasm["networkSampleWeightsPtr"](), weights.length).set(weights);
    return status;
  }

  /** The stream that dropout draws from. */
  set randomState(words: readonly number[]) {
    new Uint32Array(this.wasm.memory.buffer, this.wasm["networkRandom"](), 4).set(words);
  }

  step(learningRate: number, perturbation = 0): number {
    return this.wasm["networkStep"](learningRate, perturbation);
  }

  get loss(): number {
    return this.wasm["networkLossValue"]();
  }

  get tensorCount(): number {
    return this.wasm["networkTensorCount"]();
  }

  tensor(index: number): Float32Array {
    return f32(this.wasm, this.wasm["networkTensorPtr"](index), this.wasm["networkTensorLength"](index));
  }

  gradient(index: number): Float32Array {
    return f32(this.wasm, this.wasm["networkGradientPtr"](index), this.wasm["networkTensorLength"](index));
  }

  /** Optimizer slot 0 or 1 of a tensor. */
  slot(index: number, slot: number): Float32Array {
    this.wasm["networkSettle"]();
    const offset: number = this.wasm["networkTensorPtr"](index) - this.wasm["networkStatePtr"](1);
    return f32(this.wasm, this.wasm["networkStatePtr"](2 + slot) + offset, this.wasm["networkTensorLength"](index));
  }

  setTensor(index: number, values: ArrayLike<number>): void {
    const length: number = this.wasm["networkTensorLength"](index);
    if (values.length !== length) throw new Error(`tensor ${index} has ${length} values, not ${values.length}`);
    new Float32Array(this.wasm.memory.buffer, this.wasm["networkTensorPtr"](index), length).set(values);
  }

  tensors(): Float32Array[] {
    return Array.from({ length: this.tensorCount }, (_, i) => this.tensor(i));
  }

  /** Scores of the current batch, without dropout unless `isTraining`. */
  scores(batch: number, outputs: number, isTraining = false): number[][] {
    const status: number = this.wasm["networkForward"](isTraining ? 1 : 0);
    if (status !== OK) throw new Error(`networkForward returned ${status}`);
    const stride: number = this.wasm["networkOutputStride"]();
    const flat = f32(this.wasm, this.wasm["networkOutputPtr"](), batch * stride);
    return Array.from({ length: batch }, (_, b) => [...flat.subarray(b * stride, b * stride + outputs)]);
  }
}
