// Models for tests, made by the trainer from given layers and seeded weights. The same
// weights go to test/support/reference.ts, so nothing that is compared comes from the engine.
import * as abi from "../../assembly/abi.ts";
import { packModel } from "../../host/model/pack.ts";
import { DEFAULT_RECIPE, prepareTraining, runEpochs, type RecipeOptions } from "../../host/training/recipe.ts";
import type { Sample } from "../../host/data/dataset.ts";
import { type ModelForm, Trainer, type TokenizerOptions } from "../../host/training/trainer.ts";
import type { LayerRecord } from "./keras-weights.ts";
import type { Exports } from "./wasm.ts";

/** A small, seeded generator of numbers (mulberry32): the same sequence on every machine. */
export class Seeded {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number below `count`. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.next();
  }

  floats(length: number, magnitude: number): Float32Array {
    return Float32Array.from({ length }, () => this.between(-magnitude, magnitude));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** A layer without the widths that follow from the chain. */
export type LayerShape = Pick<LayerRecord, "kind" | "flags" | "activation" | "units" | "rate"> & { rows?: number };

export const embedding = (units: number, flags = 0): LayerShape => ({ kind: abi.LAYER_EMBEDDING, units, flags });
export const lstm = (units: number, flags = 0): LayerShape => ({ kind: abi.LAYER_LSTM, units, flags });
export const minGru = (units: number, flags = 0): LayerShape => ({ kind: abi.LAYER_MINGRU, units, flags });
export const pool = (flags: number): LayerShape => ({ kind: abi.LAYER_POOL, flags });
export const dropout = (rate: number, flags = 0): LayerShape => ({ kind: abi.LAYER_DROPOUT, rate, flags });
export const dense = (units: number, activation: number): LayerShape => ({ kind: abi.LAYER_DENSE, units, activation });

export interface ModelSpec {
  words: readonly string[];
  labels: readonly string[];
  layers: readonly LayerShape[];
  tokenizer?: Partial<TokenizerOptions>;
  unknownId?: number;
  name?: string;
  version?: string;
  /** It gives several labels a text. */
  multiLabel?: boolean;
}

export interface MadeModel {
  trainer: Trainer;
  layers: LayerRecord[];
  /** Keras' order and layout. */
  tensors: Float32Array[];
  write(form: ModelForm): Uint8Array;
}

/** The trainer's model of `spec`; each tensor is what `weights` says for its index and length. */
export async function makeModel(
  spec: ModelSpec,
  weights: (index: number, length: number) => Float32Array,
): Promise<MadeModel> {
  const trainer = await Trainer.create("test model");
  trainer.setTokenizer({
    lower: true,
    charLevel: false,
    splitScripts: false,
    letterPairs: false,
    padPost: false,
    truncatePost: false,
    sequenceLength: 8,
    filters: "",
    split: " ",
    ngramBuckets: 0,
    ngramMin: 0,
    ngramMax: 0,
    ...spec.tokenizer,
  });
  trainer.setIdentity(spec.name ?? "", spec.version ?? "");
  for (const word of spec.words) trainer.addWord(word);
  trainer.setUnknownId(spec.unknownId ?? 0);
  for (const label of spec.labels) trainer.addLabel(label);
  if (spec.multiLabel) trainer.setMultiLabel();
  for (const { kind, flags = 0, activation = 0, units = 0, rate = 0, rows } of spec.layers) {
    trainer.addLayer({ kind, flags, activation, units, rate, ...(rows ? { rows } : {}) });
  }
  trainer.build();
  const tensors = Array.from({ length: trainer.tensorCount() }, (_, i) => weights(i, trainer.tensor(i).length));
  tensors.forEach((values, i) => trainer.setTensor(i, values));
  const rows = 1 + spec.words.length + (spec.tokenizer?.ngramBuckets ?? 0);
  return { trainer, layers: withWidths(spec.layers, rows), tensors, write: (form) => trainer.write(form) };
}

function withWidths(shapes: readonly LayerShape[], rows: number): LayerRecord[] {
  let width = 0;
  return shapes.map((shape) => {
    const flags = shape.flags ?? 0;
    const units = shape.units ?? 0;
    const inputWidth = shape.kind === abi.LAYER_EMBEDDING ? (shape.rows ?? rows) : width;
    if (shape.kind === abi.LAYER_LSTM || shape.kind === abi.LAYER_MINGRU)
      width = flags & abi.LAYER_BIDIRECTIONAL ? 2 * units : units;
    else if (shape.kind === abi.LAYER_POOL) width *= flags & abi.LAYER_POOL_MAX && flags & abi.LAYER_POOL_MEAN ? 2 : 1;
    else if (shape.kind !== abi.LAYER_DROPOUT) width = units;
    return {
      kind: shape.kind,
      flags,
      activation: shape.activation ?? 0,
      inputWidth,
      units,
      outputWidth: width,
      rate: shape.rate ?? 0,
    };
  });
}

/** The model whose bytes stand in FORMAT.md. */
export async function smallestModel(): Promise<Uint8Array> {
  const spec: ModelSpec = {
    words: ["hi"],
    labels: ["no", "yes"],
    tokenizer: { sequenceLength: 2 },
    layers: [embedding(1), lstm(1), dense(1, abi.ACTIVATION_SIGMOID)],
  };
  const weights = [[0, 1], [1, 0.5, 2, 1], [0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0], [4], [-1]];
  return (await makeModel(spec, (i) => Float32Array.from(weights[i]!))).write("f32");
}

const TEXTS: readonly [label: string, words: string][] = [
  [
    "light",
    "turn on the light|switch the lamp on|lights off please|dim the bedroom lamp|make it brighter here|is the light on",
  ],
  ["music", "play some jazz|stop the music|next song please|turn the volume up|play my rock list|what song is this"],
  [
    "weather",
    "will it rain today|how warm is it outside|is it sunny in paris|weather for tomorrow|do i need an umbrella|how cold will it get",
  ],
];

export const samples: readonly Sample[] = TEXTS.flatMap(([label, texts]) =>
  texts.split("|").map((text) => ({ label, text })),
).map((sample, i) => ({ ...sample, line: i + 1 }));

/** A tiny model trained on a few dozen texts, in all forms: seconds. */
export async function trainTiny(changes: Partial<RecipeOptions> = {}, data = samples): Promise<Trainer> {
  const options: RecipeOptions = {
    ...DEFAULT_RECIPE,
    name: "tiny",
    version: "1",
    minCount: 1,
    embedding: 12,
    units: 9,
    epochs: 30,
    batch: 8,
    learningRate: 0.02,
    linear: false,
    tokenizer: { ...DEFAULT_RECIPE.tokenizer, sequenceLength: 24, ngramBuckets: 64 },
    ...changes,
  };
  const trainer = await prepareTraining(data, [], options);
  trainer.start(options);
  runEpochs(trainer, options.epochs, false, {});
  return trainer;
}

/** The samples, texts with the labels of two of them, and texts with none. */
export const severalSamples: readonly Sample[] = [
  ...samples.map(({ label, text }) => ({ labels: [label], text })),
  ...samples.flatMap((one, i) => {
    const other = samples[(i + 7) % samples.length]!;
    if (one.label === other.label) return [];
    return [{ labels: [one.label, other.label].sort(), text: `${one.text} and ${other.text}` }];
  }),
  ...["good morning", "order a pizza", "what is two plus two", "thank you so much", "call my mother", "see you"].map(
    (text) => ({ labels: [], text }),
  ),
].map(({ labels, text }, i) => ({ label: labels.join("\n"), labels, text, line: i + 1 }));

/** A tiny model that gives several labels a text. */
export async function trainSeveral(changes: Partial<RecipeOptions> = {}): Promise<Trainer> {
  return trainTiny({ loss: "binary_crossentropy", labelSmoothing: 0, ...changes }, severalSamples);
}

/** The tiny model's int8 form as a .wasm. */
export async function tinyDeployable(): Promise<Uint8Array> {
  return packModel((await trainTiny()).write("int8"));
}

// --- files in an instance of testing.wasm -------------------------------------------

/** Loads a file; returns the status. */
export function loadFile(wasm: Exports, file: Uint8Array): number {
  const address: number = wasm["reserveModel"](file.length);
  new Uint8Array(wasm.memory.buffer).set(file, address);
  return wasm["loadModel"](file.length);
}

/** Writes a text where the engine reads it; returns its length in bytes. */
export function putText(wasm: Exports, text: string | Uint8Array): number {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  new Uint8Array(wasm.memory.buffer).set(bytes, wasm["textPtr"]());
  return bytes.length;
}

/** Scores of a text in class order. */
export function scoresOf(wasm: Exports, text: string | Uint8Array): Float32Array {
  const status: number = wasm["classify"](putText(wasm, text));
  if (status !== abi.OK) throw new Error(`classify returned ${status}`);
  return new Float32Array(wasm.memory.buffer, wasm["scoresPtr"](), wasm["labelCount"]()).slice();
}
