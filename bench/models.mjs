// The benchmark's models: shape -> our .elb files, and the same weights and inputs in
// files that the peers read. Weights and ids are random but seeded; all ids of a text
// differ and no text is padded, so that no state or prefix occurs twice.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as abi from "../build/assembly/abi.js";
import { Trainer } from "../build/host/training/trainer.js";

/** rows, width, units, outputs; a text has `steps` tokens. `cell`: "mingru" instead of an LSTM. */
export const SEED = { name: "seed", rows: 100, width: 64, units: 64, outputs: 1, activation: "sigmoid", steps: 10 };
export const LARGE = {
  name: "large",
  rows: 10000,
  width: 64,
  units: 128,
  outputs: 7,
  activation: "softmax",
  steps: 32,
};

const ACTIVATIONS = { sigmoid: abi.ACTIVATION_SIGMOID, softmax: abi.ACTIVATION_SOFTMAX };

/** mulberry32: numbers from 0 up to, not including, 1, the same on every machine. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A model of `shape` with random weights: its tensors in Keras' order and layout, and `write(form)`. */
export async function randomModel(shape, seed = 1) {
  const random = seeded(seed);
  const trainer = await Trainer.create(shape.name);
  trainer.setTokenizer({
    lower: true,
    charLevel: false,
    splitScripts: false,
    letterPairs: false,
    padPost: false,
    truncatePost: false,
    sequenceLength: shape.steps,
    filters: "",
    split: " ",
    ngramBuckets: 0,
    ngramMin: 0,
    ngramMax: 0,
  });
  trainer.setIdentity(shape.name, "1");
  for (let id = 1; id < shape.rows; id++) trainer.addWord(`w${id}`);
  for (let i = 0; i < Math.max(2, shape.outputs); i++) trainer.addLabel(`label${i}`);
  const layer = (kind, units, activation = 0, rows = 0) =>
    trainer.addLayer({ kind, flags: 0, activation, units, rate: 0, rows });
  layer(abi.LAYER_EMBEDDING, shape.width, 0, shape.rows);
  const isGru = shape.cell === "mingru";
  layer(isGru ? abi.LAYER_MINGRU : abi.LAYER_LSTM, shape.units);
  layer(abi.LAYER_DENSE, shape.outputs, ACTIVATIONS[shape.activation]);
  trainer.build();
  const fans = [shape.width, shape.width, ...(isGru ? [] : [shape.units]), 16, shape.units, 16];
  const tensors = fans.map((fan, i) => {
    // As large as after training, so that gates vary and states are neither 0 nor saturated.
    const magnitude = i === 0 ? 0.5 : 2 / Math.sqrt(fan);
    return Float32Array.from({ length: trainer.tensor(i).length }, () => magnitude * (2 * random() - 1));
  });
  tensors.forEach((values, i) => trainer.setTensor(i, values));
  return { shape, tensors, write: (form) => trainer.write(form) };
}

let compiled;

/** The exports of a new instance of testing.wasm, whose imports do nothing. */
export function testing() {
  compiled ??= new WebAssembly.Module(readFileSync(new URL("../build/testing.wasm", import.meta.url)));
  const imports = {};
  for (const { module, name } of WebAssembly.Module.imports(compiled)) (imports[module] ??= {})[name] = () => 52;
  return new WebAssembly.Instance(compiled, imports).exports;
}

/** The same with a model in it. */
export function testingWith(elb) {
  const wasm = testing();
  const address = wasm.reserveModel(elb.length); // may grow memory, so the view comes after it
  new Uint8Array(wasm.memory.buffer, address, elb.length).set(elb);
  const status = wasm.loadModel(elb.length) || wasm.prepareReading();
  if (status !== 0) throw new Error(`the model does not load: status ${status}`);
  return wasm;
}

/** `count` lists of `steps` different ids, none of them 0. */
export function randomIds(shape, count, seed = 2) {
  const random = seeded(seed);
  return Array.from({ length: count }, () => {
    const ids = new Set();
    while (ids.size < shape.steps) ids.add(1 + Math.floor(random() * (shape.rows - 1)));
    return [...ids];
  });
}

export const textOf = (ids) => ids.map((id) => `w${id}`).join(" ");

/** Writes the files that the peers read: NAME.json (shape, ids, names of tensors) and NAME.f32 (all tensors, end to end). */
export function writeForPeers(folder, description, tensors) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${description.name}.json`), JSON.stringify(description));
  const all = new Float32Array(tensors.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const values of tensors) {
    all.set(values, at);
    at += values.length;
  }
  writeFileSync(join(folder, `${description.name}.f32`), new Uint8Array(all.buffer));
}
