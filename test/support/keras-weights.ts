// Reads a .keras file for the tests: layer records in our numbers, and the float32
// tensors of layers and optimizer in the order in which Keras saved them.
// Only tests use it; `edgelabel import` has its own, stricter reader.
import { readFileSync } from "node:fs";
import { unzipSync } from "fflate";
import { File, Group } from "jsfive";
import {
  ACTIVATION_LINEAR,
  ACTIVATION_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_SOFTMAX,
  ACTIVATION_TANH,
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
} from "../../assembly/abi.ts";

export interface LayerRecord {
  kind: number;
  flags?: number;
  activation?: number;
  inputWidth: number;
  units?: number;
  outputWidth: number;
  rate?: number;
}

export interface KerasWeights {
  layers: LayerRecord[];
  tensors: Float32Array[];
  /** Momentum, or m and v in turn, of each tensor; empty when the optimizer keeps none. */
  slots: Float32Array[];
}

const ACTIVATIONS: Record<string, number> = {
  linear: ACTIVATION_LINEAR,
  sigmoid: ACTIVATION_SIGMOID,
  tanh: ACTIVATION_TANH,
  relu: ACTIVATION_RELU,
  softmax: ACTIVATION_SOFTMAX,
};

export function readKerasWeights(path: string): KerasWeights {
  const entries = unzipSync(readFileSync(path));
  const config = JSON.parse(new TextDecoder().decode(entries["config.json"]!)).config;
  const file = new File(entries["model.weights.h5"]!.slice().buffer, path);
  const layers: LayerRecord[] = [];
  const tensors: Float32Array[] = [];
  const counts = new Map<string, number>();
  let width = 0;
  for (const { class_name: name, config: layer } of config.layers) {
    if (name === "InputLayer") continue;
    // Keras numbers the groups per class: lstm, lstm_1, ...
    const slot = name.toLowerCase();
    const count = counts.get(slot) ?? 0;
    counts.set(slot, count + 1);
    const group = `layers/${slot}${count === 0 ? "" : `_${count}`}`;
    const add = (place: string, number: number): void => {
      for (let i = 0; i < number; i++) tensors.push(values(file, `${group}/${place}vars/${i}`));
    };
    if (name === "Embedding") {
      layers.push({
        kind: LAYER_EMBEDDING,
        flags: layer.mask_zero ? LAYER_MASK_ZERO : 0,
        inputWidth: layer.input_dim,
        units: layer.output_dim,
        outputWidth: layer.output_dim,
      });
      add("", 1);
    } else if (name === "LSTM" || name === "Bidirectional") {
      const inner = name === "LSTM" ? layer : layer.layer.config;
      const both = name === "Bidirectional";
      layers.push({
        kind: LAYER_LSTM,
        flags: (both ? LAYER_BIDIRECTIONAL : 0) | (inner.return_sequences ? LAYER_SEQUENCES : 0),
        inputWidth: width,
        units: inner.units,
        outputWidth: inner.units * (both ? 2 : 1),
      });
      for (const place of both ? ["forward_layer/cell/", "backward_layer/cell/"] : ["cell/"]) add(place, 3);
    } else if (name === "Dense") {
      layers.push({
        kind: LAYER_DENSE,
        activation: ACTIVATIONS[layer.activation]!,
        inputWidth: width,
        units: layer.units,
        outputWidth: layer.units,
      });
      add("", 2);
    } else if (name === "Dropout" || name === "SpatialDropout1D") {
      layers.push({
        kind: LAYER_DROPOUT,
        flags: name === "Dropout" ? 0 : LAYER_SPATIAL,
        inputWidth: width,
        outputWidth: width,
        rate: layer.rate,
      });
    } else throw new Error(`${path}: layer ${name} is not known to the tests`);
    width = layers.at(-1)!.outputWidth;
  }
  // vars/0 is the step count and vars/1 the learning rate.
  const optimizer = file.get("optimizer/vars");
  const slots =
    optimizer instanceof Group
      ? optimizer.keys
          .map(Number)
          .filter((i) => i > 1)
          .sort((a, b) => a - b)
      : [];
  return { layers, tensors, slots: slots.map((i) => values(file, `optimizer/vars/${i}`)) };
}

function values(file: File, path: string): Float32Array {
  const dataset = file.get(path);
  if (dataset === null || dataset instanceof Group) throw new Error(`no tensor at ${path}`);
  return Float32Array.from(dataset.value as number[]);
}
