// A trained model in, the bytes of an ONNX file out: the network behind the tokenizer, from token
// ids to the score of each label. A model that masks padding takes any number of steps and
// padding on either side, since its graph begins by moving the tokens to the front.
import {
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
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
  LAYER_SEQUENCES,
} from "../../assembly/abi.ts";
import type { LayerRecord, Trainer } from "../training/trainer.ts";
import { encode, type Field } from "./protobuf.ts";

const IR_VERSION = 8;
const OPSET = 17;
const ELEMENT = { float: 1, int32: 6, int64: 7 } as const;
const ATTRIBUTE = { int: 2, string: 3, ints: 7 } as const;
const INPUT = "ids";
const OUTPUT = "scores";
const ACTIVATIONS = new Map([
  [ACTIVATION_SIGMOID, "Sigmoid"],
  [ACTIVATION_TANH, "Tanh"],
  [ACTIVATION_RELU, "Relu"],
  [ACTIVATION_SOFTMAX, "Softmax"],
]);
/** Below every state of an LSTM, which is between -1 and 1. */
const BELOW_STATES = -2;

/** `trainer` has a built model without a temperature, of texts of `steps` tokens and `labels` labels. */
export function exportOnnx(
  trainer: Trainer,
  { name, version, steps, labels }: { name: string; version: string; steps: number; labels: number },
): Uint8Array {
  const layers = trainer.layers();
  const isMasked = (layers[0]!.flags & LAYER_MASK_ZERO) !== 0;
  const graph = new Graph(trainer, isMasked);
  for (const layer of layers) graph.add(layer);
  graph.end(labels);
  return encode([
    [1, IR_VERSION],
    [2, "edgelabel"],
    [7, graph.fields(name, { steps: isMasked ? "steps" : steps, labels })],
    [8, [[2, OPSET]]],
    [14, property("name", name)],
    [14, property("version", version)],
  ]);
}

class Graph {
  readonly #trainer: Trainer;
  readonly #isMasked: boolean;
  readonly #nodes: Field[] = [];
  readonly #initializers: Field[] = [];
  #tensor = 0;
  /** The last layer's output: (steps, batch, channels), behind the last LSTM or pool (batch, channels). */
  #last = INPUT;
  #channels = 0;
  /** Number of tokens: int32 (batch); "" when padding is read like a token. */
  #lengths = "";
  /** Which steps are tokens: (steps, batch, 1). */
  #tokens = "";

  constructor(trainer: Trainer, isMasked: boolean) {
    this.#trainer = trainer;
    this.#isMasked = isMasked;
    if (isMasked) this.#moveTokens();
  }

  add(layer: LayerRecord): void {
    if (layer.kind === LAYER_DROPOUT) return;
    if (layer.kind === LAYER_EMBEDDING) this.#addEmbedding(layer);
    else if (layer.kind === LAYER_LSTM) this.#addLstm(layer);
    else if (layer.kind === LAYER_DENSE) this.#addDense(layer);
    else this.#addPool(layer);
  }

  /** One output for two labels is the score of the second one. */
  end(labels: number): void {
    if (this.#channels < labels)
      this.#last = this.#op("Concat", [this.#op("Sub", [this.#number(1), this.#last]), this.#last], { axis: 1 });
    this.#op("Identity", [this.#last], {}, [OUTPUT]);
  }

  /** Turns each row of ids around until its first token is in front. */
  #moveTokens(): void {
    const [zero, one] = [this.#ints([0]), this.#ints([1])];
    const tokens = this.#op("Cast", [this.#op("Not", [this.#op("Equal", [INPUT, zero])])], { to: ELEMENT.int64 });
    const steps = this.#op("Gather", [this.#op("Shape", [INPUT]), this.#ints(1)]);
    const range = this.#op("Range", [this.#ints(0), steps, this.#ints(1)]);
    const first = this.#op("ArgMax", [tokens], { axis: 1 });
    const places = this.#op("Mod", [this.#op("Add", [range, first]), steps]);
    this.#last = this.#op("GatherElements", [INPUT, places], { axis: 1 });
    const lengths = this.#op("ReduceSum", [tokens, one], { keepdims: 0 });
    this.#lengths = this.#op("Cast", [lengths], { to: ELEMENT.int32 });
    const before = this.#op("Less", [this.#op("Unsqueeze", [range, one]), this.#op("Unsqueeze", [lengths, zero])]);
    this.#tokens = this.#op("Unsqueeze", [before, this.#ints([2])]);
  }

  #addEmbedding({ rows = 0, units }: LayerRecord): void {
    const table = this.#floats([rows, units], this.#next().subarray(0, rows * units));
    this.#last = this.#op("Transpose", [this.#op("Gather", [table, this.#last])], { perm: [1, 0, 2] });
    this.#channels = units;
  }

  #addLstm({ flags, units }: LayerRecord): void {
    const isBidirectional = (flags & LAYER_BIDIRECTIONAL) !== 0;
    const directions = isBidirectional ? 2 : 1;
    const [kernels, recurrents, biases]: [Uint8Array[], Uint8Array[], Uint8Array[]] = [[], [], []];
    for (let direction = 0; direction < directions; direction++) {
      for (const part of [kernels, recurrents, biases])
        part.push(bytesOf(this.#trainer.onnxGates(this.#tensor++, units)));
      // ONNX has a second bias, of the recurrent product.
      biases.push(new Uint8Array(biases[0]!.length));
    }
    const inputs = [
      this.#last,
      this.#floats([directions, 4 * units, this.#channels], ...kernels),
      this.#floats([directions, 4 * units, units], ...recurrents),
      this.#floats([directions, 8 * units], ...biases),
      this.#lengths,
    ];
    const attributes = { hidden_size: units, direction: isBidirectional ? "bidirectional" : "forward" };
    this.#channels = directions * units;
    const keepsSteps = (flags & LAYER_SEQUENCES) !== 0;
    const output = this.#op(
      "LSTM",
      inputs,
      attributes,
      keepsSteps ? [this.#name("states")] : ["", this.#name("state")],
    );
    // The directions, an axis of their own, become channels.
    const turned = this.#op("Transpose", [output], { perm: keepsSteps ? [0, 2, 1, 3] : [1, 0, 2] });
    this.#last = this.#op("Reshape", [turned, this.#ints(keepsSteps ? [0, 0, this.#channels] : [0, this.#channels])]);
  }

  #addPool({ flags }: LayerRecord): void {
    const axis = { axes: [0], keepdims: 0 };
    const counts = this.#isMasked
      ? this.#op("Cast", [this.#op("Unsqueeze", [this.#lengths, this.#ints([1])])], { to: ELEMENT.float })
      : "";
    const outputs: string[] = [];
    if (flags & LAYER_POOL_MAX) {
      if (this.#isMasked) {
        const shown = this.#op("Where", [this.#tokens, this.#last, this.#number(BELOW_STATES)]);
        // A text without tokens has zeros.
        const any = this.#op("Min", [counts, this.#number(1)]);
        outputs.push(this.#op("Mul", [this.#op("ReduceMax", [shown], axis), any]));
      } else outputs.push(this.#op("ReduceMax", [this.#last], axis));
    }
    if (flags & LAYER_POOL_MEAN) {
      if (this.#isMasked) {
        const shown = this.#op("Where", [this.#tokens, this.#last, this.#number(0)]);
        const sum = this.#op("ReduceSum", [shown, this.#ints([0])], { keepdims: 0 });
        outputs.push(this.#op("Div", [sum, this.#op("Max", [counts, this.#number(1)])]));
      } else outputs.push(this.#op("ReduceMean", [this.#last], axis));
    }
    this.#channels *= outputs.length;
    this.#last = outputs.length > 1 ? this.#op("Concat", outputs, { axis: 1 }) : outputs[0]!;
  }

  #addDense({ units, activation }: LayerRecord): void {
    const kernel = this.#floats([this.#channels, units], this.#next());
    const bias = this.#floats([units], this.#next());
    this.#last = this.#op("Gemm", [this.#last, kernel, bias]);
    this.#channels = units;
    const name = ACTIVATIONS.get(activation);
    if (name) this.#last = this.#op(name, [this.#last], name === "Softmax" ? { axis: 1 } : {});
  }

  #next() {
    return this.#trainer.tensor(this.#tensor++);
  }

  #name(stem: string): string {
    return `${stem}_${this.#nodes.length + this.#initializers.length}`;
  }

  /** Adds a node; returns the name of its last output. */
  #op(
    type: string,
    inputs: readonly string[],
    attributes: Record<string, number | string | readonly number[]> = {},
    outputs: readonly string[] = [this.#name(type.toLowerCase())],
  ): string {
    this.#nodes.push([
      1,
      [
        ...inputs.map((name): Field => [1, name]),
        ...outputs.map((name): Field => [2, name]),
        [4, type],
        ...Object.entries(attributes).map(([name, value]): Field => [5, attribute(name, value)]),
      ],
    ]);
    return outputs.at(-1)!;
  }

  #floats(shape: readonly number[], ...parts: readonly ArrayBufferView[]): string {
    return this.#initialize("weights", shape, ELEMENT.float, Buffer.concat(parts.map(bytesOf)));
  }

  #number(value: number): string {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.#initialize("number", [], ELEMENT.float, bytes);
  }

  /** A list, or one number without a dimension. */
  #ints(values: number | readonly number[]): string {
    const list = [values].flat();
    const bytes = Buffer.from(BigInt64Array.from(list, BigInt).buffer);
    return this.#initialize("ints", typeof values === "number" ? [] : [list.length], ELEMENT.int64, bytes);
  }

  #initialize(stem: string, shape: readonly number[], type: number, bytes: Uint8Array): string {
    const name = this.#name(stem);
    this.#initializers.push([5, [...shape.map((size): Field => [1, size]), [2, type], [8, name], [9, bytes]]]);
    return name;
  }

  fields(name: string, { steps, labels }: { steps: number | string; labels: number }): Field[] {
    return [
      ...this.#nodes,
      [2, name],
      ...this.#initializers,
      [11, value(INPUT, ELEMENT.int64, ["batch", steps])],
      [12, value(OUTPUT, ELEMENT.float, ["batch", labels])],
    ];
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function attribute(name: string, value: number | string | readonly number[]): Field[] {
  if (typeof value === "number")
    return [
      [1, name],
      [3, value],
      [20, ATTRIBUTE.int],
    ];
  if (typeof value === "string")
    return [
      [1, name],
      [4, value],
      [20, ATTRIBUTE.string],
    ];
  return [[1, name], ...value.map((each): Field => [8, each]), [20, ATTRIBUTE.ints]];
}

/** An input or output; a dimension with a name may have any size. */
function value(name: string, type: number, dimensions: readonly (number | string)[]): Field[] {
  const shape = dimensions.map((size): Field => [1, [typeof size === "number" ? [1, size] : [2, size]]]);
  return [
    [1, name],
    [
      2,
      [
        [
          1,
          [
            [1, type],
            [2, shape],
          ],
        ],
      ],
    ],
  ];
}

function property(key: string, content: string): Field[] {
  return [
    [1, key],
    [2, content],
  ];
}
