// Stage 2 of an import: a Keras model config (JSON) in, our own layer records out,
// with the names under which each layer's weights are saved. The graph must be
// InputLayer? -> Embedding -> [Dropout] -> LSTM... -> [pooling] -> Dense...; a layer
// or option that would give other scores than Keras is refused by its name.
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
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
  MAX_ROWS,
  MAX_WIDTH,
} from "../../assembly/abi.ts";
import { EdgelabelError } from "../errors.ts";
import type { LayerRecord } from "../training/trainer.ts";
import { findPool } from "./pool.ts";

export type WeightedClass = "Embedding" | "LSTM" | "Bidirectional" | "Dense";

/** A layer with weights, and what is needed to find the weights in the file. */
export interface WeightedLayer {
  name: string;
  className: WeightedClass;
  /** Its folder in a .keras file: the class name in lower case, with a number from the second layer of a class on. */
  slot: string;
  useBias: boolean;
}

export interface Graph {
  layers: LayerRecord[];
  weighted: WeightedLayer[];
  rows: number;
  /** Steps of the input; null when the model leaves them open. */
  sequenceLength: number | null;
  outputs: number;
  outputActivation: number;
  /** For the user: options that are left out because they only matter in training. */
  notes: string[];
}

type Json = Record<string, unknown>;
type Stage = "ids" | "sequence" | "vector";

interface KerasLayer {
  name: string;
  className: string;
  config: Json;
  slot: string;
  /** Functional models: whether a call argument hands the layer a mask. */
  explicitMask: boolean;
  /** Stands for all layers of a pool (see pool.ts). */
  pool?: Pool;
}

interface Pool {
  flags: number;
  isMasked: boolean;
  layers: KerasLayer[];
}

export const ACTIVATIONS = new Map([
  ["linear", ACTIVATION_LINEAR],
  ["sigmoid", ACTIVATION_SIGMOID],
  ["tanh", ACTIVATION_TANH],
  ["relu", ACTIVATION_RELU],
  ["softmax", ACTIVATION_SOFTMAX],
]);
const SUPPORTED =
  "InputLayer, Embedding, SpatialDropout1D, Dropout, LSTM, Bidirectional, GlobalMaxPooling1D, GlobalAveragePooling1D, Dense, Activation, Softmax, ReLU";

export function readGraph(model: unknown, source: string): Graph {
  const reader = new GraphReader(source);
  for (const layer of orderedLayers(model, source)) reader.read(layer);
  return reader.finish();
}

class GraphReader {
  private readonly source: string;
  private readonly layers: LayerRecord[] = [];
  private readonly weighted: WeightedLayer[] = [];
  private readonly notes: string[] = [];
  private stage: Stage = "ids";
  private masked = false;
  private rows = 0;
  private sequenceLength: number | null = null;

  constructor(source: string) {
    this.source = source;
  }

  read(layer: KerasLayer): void {
    if (layer.explicitMask && !this.masked) this.refuse(layer, "is called with a mask of its own");
    if (layer.className !== "InputLayer") this.requireFloat32(layer);
    if (layer.pool) return this.readPool(layer, layer.pool);
    switch (layer.className) {
      case "InputLayer":
        return this.readInput(layer);
      case "Embedding":
        return this.readEmbedding(layer);
      case "Dropout":
      case "SpatialDropout1D":
        return this.readDropout(layer);
      case "LSTM":
        return this.readLstm(layer, layer, 0);
      case "Bidirectional":
        return this.readBidirectional(layer);
      case "GlobalMaxPooling1D":
        return this.readPooling(layer, LAYER_POOL_MAX);
      case "GlobalAveragePooling1D":
        return this.readPooling(layer, LAYER_POOL_MEAN);
      case "Dense":
        return this.readDense(layer);
      case "Activation":
        return this.fold(layer, this.activation(layer, "activation"));
      case "Softmax":
        this.allow(layer, "axis", -1, undefined);
        return this.fold(layer, ACTIVATION_SOFTMAX);
      case "ReLU":
        this.allow(layer, "max_value", null, undefined);
        this.allow(layer, "negative_slope", 0, null, undefined);
        this.allow(layer, "threshold", 0, null, undefined);
        return this.fold(layer, ACTIVATION_RELU);
      case "TextVectorization":
        return this.refuse(
          layer,
          "tokenizes inside the model; save the model without it and give its tokenizer with --tokenizer",
        );
      default:
        return this.refuse(layer, `is of a class that cannot be reproduced; supported are ${SUPPORTED}`);
    }
  }

  finish(): Graph {
    const last = this.layers.at(-1);
    if (last?.kind !== LAYER_DENSE) throw new EdgelabelError(`${this.source}: the model does not end in a Dense layer`);
    if (!this.layers.some((layer) => layer.kind === LAYER_LSTM))
      throw new EdgelabelError(`${this.source}: the model has no LSTM layer`);
    return {
      layers: this.layers,
      weighted: this.weighted,
      rows: this.rows,
      sequenceLength: this.sequenceLength,
      outputs: last.units,
      outputActivation: last.activation,
      notes: this.notes,
    };
  }

  private readInput(layer: KerasLayer): void {
    if (this.layers.length > 0) this.refuse(layer, "is not the first layer");
    this.allow(layer, "sparse", false, undefined);
    this.allow(layer, "ragged", false, undefined);
    if (layer.config["dtype"] === "string") this.refuse(layer, "takes strings; a model of padded token ids is needed");
    this.takeInputShape(layer);
  }

  private readEmbedding(layer: KerasLayer): void {
    if (this.stage !== "ids" || this.layers.length > 0) this.refuse(layer, "is not the first layer after the input");
    this.refuseQuantized(layer);
    this.takeInputShape(layer);
    const inputLength = layer.config["input_length"];
    if (typeof inputLength === "number") this.takeLength(layer, inputLength);
    this.rows = this.count(layer, "input_dim", MAX_ROWS);
    this.masked = this.flag(layer, "mask_zero");
    this.stage = "sequence";
    this.add(LAYER_EMBEDDING, {
      flags: this.masked ? LAYER_MASK_ZERO : 0,
      units: this.count(layer, "output_dim"),
      rows: this.rows,
    });
    this.weigh(layer, "Embedding", true);
  }

  private readDropout(layer: KerasLayer): void {
    const spatial = layer.className === "SpatialDropout1D";
    if (this.stage === "ids" || (spatial && this.stage !== "sequence"))
      this.refuse(layer, "has no sequence of vectors before it");
    const rate = layer.config["rate"];
    if (typeof rate !== "number" || !(rate >= 0 && rate < 1))
      this.refuse(layer, `rate=${show(rate)} is not between 0 and 1`);
    if ((layer.config["noise_shape"] ?? null) !== null)
      this.notes.push(`layer "${layer.name}": noise_shape is left out; it only matters in training`);
    this.add(LAYER_DROPOUT, { flags: spatial ? LAYER_SPATIAL : 0, rate: rate });
  }

  /** `layer` is named in messages; `lstm` carries the config (of a Bidirectional's inner layer). */
  private readLstm(layer: KerasLayer, lstm: KerasLayer, direction: number): void {
    if (this.stage !== "sequence")
      this.refuse(layer, "has no sequence before it; set return_sequences=True in the LSTM before it");
    this.requireLstmOptions(lstm, false);
    const sequences = this.flag(lstm, "return_sequences");
    for (const option of ["dropout", "recurrent_dropout"]) {
      if ((lstm.config[option] ?? 0) !== 0)
        this.notes.push(`layer "${lstm.name}": ${option} is left out; it only matters in training`);
    }
    this.add(LAYER_LSTM, { flags: direction | (sequences ? LAYER_SEQUENCES : 0), units: this.count(lstm, "units") });
    this.weigh(layer, direction === 0 ? "LSTM" : "Bidirectional", lstm.config["use_bias"] !== false);
    if (!sequences) this.leaveSequence();
  }

  private readBidirectional(layer: KerasLayer): void {
    this.allow(layer, "merge_mode", "concat", undefined);
    const forward = this.innerLayer(layer, "layer");
    if (forward.className !== "LSTM") this.refuse(layer, `wraps a ${forward.className}; only LSTM can be reproduced`);
    if ((layer.config["backward_layer"] ?? null) !== null) {
      const backward = this.innerLayer(layer, "backward_layer");
      if (backward.className !== "LSTM")
        this.refuse(layer, `its backward_layer is a ${backward.className}; only LSTM can be reproduced`);
      this.requireLstmOptions(backward, true);
      for (const option of ["units", "return_sequences", "use_bias"]) {
        if (backward.config[option] !== forward.config[option])
          this.refuse(layer, `its two directions differ in ${option}`);
      }
    }
    this.readLstm(layer, forward, LAYER_BIDIRECTIONAL);
  }

  private requireLstmOptions(lstm: KerasLayer, backwards: boolean): void {
    this.requireFloat32(lstm);
    this.allow(lstm, "go_backwards", backwards, ...(backwards ? [] : [undefined]));
    for (const option of ["stateful", "return_state", "time_major"]) this.allow(lstm, option, false, undefined);
    if (this.activation(lstm, "activation") !== ACTIVATION_TANH)
      this.refuse(lstm, `activation=${show(lstm.config["activation"])} cannot be reproduced, only "tanh"`);
    if (this.activation(lstm, "recurrent_activation") !== ACTIVATION_SIGMOID) {
      this.refuse(
        lstm,
        `recurrent_activation=${show(lstm.config["recurrent_activation"])} cannot be reproduced, only "sigmoid"`,
      );
    }
  }

  private readPooling(layer: KerasLayer, flag: number): void {
    if (this.stage !== "sequence")
      this.refuse(layer, "has no sequence before it; set return_sequences=True in the LSTM before it");
    this.allow(layer, "keepdims", false, undefined);
    this.allow(layer, "data_format", "channels_last", null, undefined);
    // Keras' GlobalMaxPooling1D ignores the mask and includes the padded steps; ours does not.
    if (flag === LAYER_POOL_MAX && this.masked)
      this.refuse(layer, "takes the maximum over steps that mask_zero=True masks, which cannot be reproduced");
    this.add(LAYER_POOL, { flags: flag });
    this.leaveSequence();
  }

  private readPool(layer: KerasLayer, { flags, isMasked, layers }: Pool): void {
    for (const each of layers) this.requireFloat32(each);
    if (this.stage !== "sequence" || isMasked !== this.masked)
      this.refuse(layer, `pools over ${isMasked ? "tokens" : "all steps"}, other than the mask of the layer before it`);
    this.add(LAYER_POOL, { flags });
    this.leaveSequence();
  }

  private readDense(layer: KerasLayer): void {
    if (this.stage !== "vector")
      this.refuse(
        layer,
        "works on a sequence; only Dense layers after the last LSTM or a pooling layer can be reproduced",
      );
    this.refuseQuantized(layer);
    this.add(LAYER_DENSE, { activation: this.activation(layer, "activation"), units: this.count(layer, "units") });
    this.weigh(layer, "Dense", layer.config["use_bias"] !== false);
  }

  private fold(layer: KerasLayer, activation: number): void {
    const last = this.layers.at(-1);
    if (last?.kind !== LAYER_DENSE || last.activation !== ACTIVATION_LINEAR)
      this.refuse(layer, "does not directly follow a Dense layer with linear activation");
    else last.activation = activation;
  }

  private leaveSequence(): void {
    this.stage = "vector";
    this.masked = false;
  }

  private add(kind: number, fields: Partial<LayerRecord>): void {
    this.layers.push({ kind, flags: 0, activation: ACTIVATION_LINEAR, units: 0, rate: 0, ...fields });
  }

  private weigh(layer: KerasLayer, className: WeightedClass, useBias: boolean): void {
    this.weighted.push({ name: layer.name, className, slot: layer.slot, useBias });
  }

  private takeInputShape(layer: KerasLayer): void {
    const shape = layer.config["batch_shape"] ?? layer.config["batch_input_shape"] ?? null;
    if (shape === null) return;
    if (!Array.isArray(shape) || shape.length !== 2)
      this.refuse(layer, `its input shape ${show(shape)} is not [batch, steps]`);
    const steps: unknown = (shape as unknown[])[1];
    if (steps !== null) this.takeLength(layer, steps);
  }

  private takeLength(layer: KerasLayer, steps: unknown): void {
    if (typeof steps !== "number" || !Number.isInteger(steps) || steps < 1)
      this.refuse(layer, `its input length ${show(steps)} is not a positive integer`);
    if (this.sequenceLength !== null && this.sequenceLength !== steps)
      this.refuse(layer, `its input length ${show(steps)} differs from the input's ${this.sequenceLength}`);
    this.sequenceLength = steps;
  }

  private innerLayer(layer: KerasLayer, key: string): KerasLayer {
    const inner = asObject(layer.config[key]);
    if (!inner) this.refuse(layer, `has no ${key}`);
    return { ...asLayer(inner, this.source), slot: layer.slot };
  }

  private count(layer: KerasLayer, option: string, most: number = MAX_WIDTH): number {
    const value = layer.config[option];
    if (typeof value !== "number" || !Number.isInteger(value) || value < 1)
      this.refuse(layer, `${option}=${show(value)} is not a positive integer`);
    if (value > most) this.refuse(layer, `${option}=${show(value)} is above the limit of ${most}`);
    return value;
  }

  private flag(layer: KerasLayer, option: string): boolean {
    const value = layer.config[option] ?? false;
    if (typeof value !== "boolean") this.refuse(layer, `${option}=${show(value)} is neither true nor false`);
    return value;
  }

  private activation(layer: KerasLayer, option: string): number {
    const value = layer.config[option] ?? "linear";
    // Keras 3 may write a built-in function as {"class_name": "function", "config": "tanh"}.
    const name = asObject(value)?.["config"] ?? value;
    const activation = typeof name === "string" ? ACTIVATIONS.get(name) : undefined;
    if (activation === undefined) this.refuse(layer, `${option}=${show(name)} cannot be reproduced`);
    return activation;
  }

  private allow(layer: KerasLayer, option: string, ...values: unknown[]): void {
    const value = layer.config[option];
    if (!values.includes(value)) this.refuse(layer, `${option}=${show(value)} cannot be reproduced`);
  }

  private requireFloat32(layer: KerasLayer): void {
    const dtype = layer.config["dtype"] ?? "float32";
    const policy = asObject(asObject(dtype)?.["config"])?.["name"] ?? dtype;
    if (policy !== "float32") this.refuse(layer, `dtype=${show(policy)} cannot be reproduced, only "float32"`);
  }

  private refuseQuantized(layer: KerasLayer): void {
    this.allow(layer, "quantization_config", null, undefined);
    this.allow(layer, "lora_rank", null, undefined);
  }

  private refuse(layer: KerasLayer, reason: string): never {
    throw new EdgelabelError(`${this.source}: layer "${layer.name}" (${layer.className}) ${reason}`);
  }
}

// --- order of the layers ---------------------------------------------------------

function orderedLayers(model: unknown, source: string): KerasLayer[] {
  const root = asObject(model);
  const className = root?.["class_name"];
  const config = root?.["config"];
  // Early Keras 2 wrote a Sequential's config as the bare list of layers.
  const list: unknown = Array.isArray(config) ? config : asObject(config)?.["layers"];
  if (!root || !Array.isArray(list)) throw new EdgelabelError(`${source}: its model config has no list of layers`);
  const slots = new Map<string, number>();
  const layers = list.map((item: unknown) => {
    const layer = asLayer(asObject(item) ?? {}, source);
    const seen = slots.get(layer.className) ?? 0;
    slots.set(layer.className, seen + 1);
    const base = layer.className.toLowerCase();
    return { ...layer, slot: seen === 0 ? base : `${base}_${seen}` };
  });
  if (className === "Sequential") return layers;
  if (className !== "Functional" && className !== "Model") {
    throw new EdgelabelError(
      `${source}: the model is a ${show(className)}; only Sequential and linear Functional models can be reproduced`,
    );
  }
  return followLinks(layers, list as Json[], asObject(config)!, source);
}

/** Puts a Functional model's layers into the order of its one path from input to output. */
function followLinks(layers: KerasLayer[], items: Json[], config: Json, source: string): KerasLayer[] {
  const refuse = (message: string): never => {
    throw new EdgelabelError(`${source}: ${message}; only linear models can be reproduced`);
  };
  const inputs = endpoints(config["input_layers"]);
  const outputs = endpoints(config["output_layers"]);
  if (inputs.length !== 1) refuse(`the model has ${inputs.length} inputs`);
  if (outputs.length !== 1) refuse(`the model has ${outputs.length} outputs`);
  const masks = new Set<string>();
  const next = new Map<string, KerasLayer>();
  const pool = poolOf(layers, items, inputs[0]!);
  layers.forEach((layer, i) => {
    if (pool?.names.has(layer.name)) {
      if (layer.name !== pool.output) return;
      layer.pool = { ...pool, layers: layers.filter(({ name }) => pool.names.has(name)) };
      if (next.has(pool.states)) refuse(`the model branches after layer "${pool.states}"`);
      next.set(pool.states, layer);
      return;
    }
    const nodes = items[i]!["inbound_nodes"];
    if (!Array.isArray(nodes)) refuse(`layer "${layer.name}" has no inbound_nodes`);
    const calls = nodes as unknown[];
    if (calls.length === 0) return;
    if (calls.length > 1) refuse(`layer "${layer.name}" is used ${calls.length} times`);
    const call = readCall(calls[0]);
    if (call.sources.length !== 1)
      refuse(`layer "${layer.name}" (${layer.className}) joins ${call.sources.length} inputs`);
    const [from] = call.sources as [string];
    if (
      layer.className === "NotEqual" &&
      from === inputs[0] &&
      call.constants.length === 1 &&
      call.constants[0] === 0
    ) {
      // The node that Keras 3 adds for mask_zero: it computes the mask, "id is not 0", from the input.
      masks.add(layer.name);
      return;
    }
    for (const [name, value] of call.options) {
      if (name === "mask" && masks.has(historyOf(value) ?? "")) layer.explicitMask = true;
      else if (value !== null && !(name === "training" && value === false)) {
        throw new EdgelabelError(
          `${source}: layer "${layer.name}" (${layer.className}) is called with ${name}=${show(value)}, which cannot be reproduced`,
        );
      }
    }
    if (next.has(from)) refuse(`the model branches after layer "${from}"`);
    next.set(from, layer);
  });
  const first = layers.find((layer) => layer.name === inputs[0]);
  const ordered: KerasLayer[] = [];
  for (let layer = first; layer && ordered.length <= layers.length; layer = next.get(layer.name)) ordered.push(layer);
  const inPool = pool ? pool.names.size - 1 : 0;
  if (ordered.length !== layers.length - masks.size - inPool || ordered.at(-1)?.name !== outputs[0])
    refuse("its layers do not form one path from the input to the output");
  return ordered;
}

function poolOf(layers: readonly KerasLayer[], items: readonly Json[], ids: string): ReturnType<typeof findPool> {
  const shape = layers.find(({ name }) => name === ids)?.config["batch_shape"];
  const steps: unknown = Array.isArray(shape) ? (shape as unknown[])[1] : undefined;
  const candidates = layers.map(({ name, className, config }, i) => {
    const nodes = items[i]!["inbound_nodes"];
    const calls = Array.isArray(nodes) ? nodes.map(readCall) : [];
    const isPlain = calls.length === 1 && calls[0]!.options.every(([, value]) => value === null);
    return { name, className, config, inputs: isPlain ? calls[0]!.sources : [] };
  });
  return findPool(candidates, ids, Number(steps));
}

interface Call {
  sources: string[];
  constants: unknown[];
  options: [string, unknown][];
}

function readCall(node: unknown): Call {
  if (Array.isArray(node)) {
    // Keras 2: one [layer, node, tensor, options] per input.
    const inputs = node.map((input: unknown) => (Array.isArray(input) ? (input as unknown[]) : []));
    return {
      sources: inputs.map(([from]) => String(from)),
      constants: [],
      options: inputs.flatMap(([, , , options]) => Object.entries(asObject(options) ?? {})),
    };
  }
  const { args, kwargs } = (asObject(node) ?? {}) as { args?: unknown; kwargs?: unknown };
  const values = Array.isArray(args) ? (args as unknown[]).flat(1) : [];
  const sources = values.map(historyOf);
  return {
    sources: sources.filter((name) => name !== undefined),
    constants: values.filter((_, i) => sources[i] === undefined),
    options: Object.entries(asObject(kwargs) ?? {}),
  };
}

/** The layer that a serialized Keras tensor comes from. */
function historyOf(value: unknown): string | undefined {
  const tensor = asObject(value);
  if (tensor?.["class_name"] !== "__keras_tensor__") return undefined;
  const history = asObject(tensor["config"])?.["keras_history"];
  return Array.isArray(history) ? String(history[0]) : undefined;
}

/** input_layers and output_layers: ["name", 0, 0] or a list of such. */
function endpoints(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  if (typeof value[0] === "string") return [value[0]];
  return (value as unknown[]).flatMap((item) => (Array.isArray(item) ? [String(item[0])] : []));
}

function asLayer(item: Json, source: string): KerasLayer {
  const className = item["class_name"];
  const config = asObject(item["config"]);
  if (typeof className !== "string" || !config)
    throw new EdgelabelError(`${source}: its model config holds a layer without class_name or config`);
  return {
    name: String(config["name"] ?? item["name"] ?? className),
    className,
    config,
    slot: "",
    explicitMask: false,
  };
}

function asObject(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "(absent)";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
