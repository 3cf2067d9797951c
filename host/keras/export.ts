// A trained model in, the bytes of a .keras file out that Keras 3 opens as a Functional model from
// token ids to scores, with the same weights.
import { zipSync } from "fflate";
import {
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MASK_ZERO,
  LAYER_POOL,
  LAYER_SEQUENCES,
  LAYER_SPATIAL,
} from "../../assembly/abi.ts";
import type { LayerRecord, Trainer } from "../training/trainer.ts";
import { ACTIVATIONS } from "./graph.ts";
import type { Tensor } from "./hdf5.ts";
import { writeHdf5 } from "./hdf5-write.ts";
import { type FunctionalLayer, poolLayers } from "./pool.ts";

/** The oldest Keras that opens the file. */
const KERAS_VERSION = "3.0.0";
const EPOCH = "1980-01-01T00:00:00";
const INPUT = "ids";

/** `trainer` has a built model without a temperature, of texts of `steps` tokens. */
export function exportKeras(trainer: Trainer, name: string, steps: number): Uint8Array {
  const network = new KerasNetwork(trainer, steps);
  const metadata = { keras_version: KERAS_VERSION, written_by: "edgelabel" };
  const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  // Keras stores without compression too; a fixed time makes equal models equal files.
  return zipSync(
    {
      "metadata.json": json(metadata),
      "config.json": json(network.config(name)),
      "model.weights.h5": writeHdf5(network.tensors),
    },
    { level: 0, mtime: EPOCH },
  );
}

class KerasNetwork {
  readonly tensors: Tensor[] = [];
  readonly #layers: FunctionalLayer[] = [];
  readonly #counts = new Map<string, number>();
  readonly #trainer: Trainer;
  readonly #steps: number;
  #tensor = 0;

  constructor(trainer: Trainer, steps: number) {
    this.#trainer = trainer;
    this.#steps = steps;
    const layers = trainer.layers();
    const isMasked = (layers[0]!.flags & LAYER_MASK_ZERO) !== 0;
    let width = 0;
    for (const layer of layers) width = this.#add(layer, width, isMasked);
  }

  /** Adds a layer with `inputs` channels in; returns the number of channels out. */
  #add(layer: LayerRecord, inputs: number, isMasked: boolean): number {
    const { kind, flags, units } = layer;
    switch (kind) {
      case LAYER_EMBEDDING: {
        const rows = layer.rows!;
        const slot = this.#chain("Embedding", { input_dim: rows, output_dim: units, mask_zero: isMasked });
        this.#weigh(`${slot}/vars`, [[rows, units]]);
        return units;
      }
      case LAYER_DROPOUT:
        this.#chain(flags & LAYER_SPATIAL ? "SpatialDropout1D" : "Dropout", { rate: shortest(layer.rate) });
        return inputs;
      case LAYER_LSTM: {
        const config = {
          units,
          activation: "tanh",
          recurrent_activation: "sigmoid",
          return_sequences: (flags & LAYER_SEQUENCES) !== 0,
        };
        const shapes = [[inputs, 4 * units], [units, 4 * units], [4 * units]];
        if ((flags & LAYER_BIDIRECTIONAL) === 0) {
          this.#weigh(`${this.#chain("LSTM", config)}/cell/vars`, shapes);
          return units;
        }
        const inner = { module: "keras.layers", class_name: "LSTM", config: { name: "lstm", ...config } };
        const slot = this.#chain("Bidirectional", { merge_mode: "concat", layer: { ...inner, registered_name: null } });
        this.#weigh(`${slot}/forward_layer/cell/vars`, shapes);
        this.#weigh(`${slot}/backward_layer/cell/vars`, shapes);
        return 2 * units;
      }
      case LAYER_POOL: {
        const pool = poolLayers(flags, { ids: INPUT, states: this.#last, steps: this.#steps, isMasked });
        for (const one of pool) this.#layers.push(one);
        return pool.at(-1)!.className === "Concatenate" ? 2 * inputs : inputs;
      }
      case LAYER_DENSE: {
        const activation = [...ACTIVATIONS].find(([, number]) => number === layer.activation)![0];
        this.#weigh(`${this.#chain("Dense", { units, activation })}/vars`, [[inputs, units], [units]]);
        return units;
      }
      default:
        throw new Error(`layer kind ${kind} is unknown`);
    }
  }

  get #last(): string {
    return this.#layers.at(-1)?.name ?? INPUT;
  }

  /** Adds a layer behind the last one; returns the folder of its weights: Keras numbers the layers of each class. */
  #chain(className: string, config: Record<string, unknown>): string {
    const count = this.#counts.get(className) ?? 0;
    this.#counts.set(className, count + 1);
    const name = className.toLowerCase() + (count === 0 ? "" : `_${count}`);
    this.#layers.push({ className, name, config, inputs: [this.#last] });
    return `layers/${name}`;
  }

  /** The trainer's next tensors; of the embedding the first rows, since the last ones are buckets. */
  #weigh(folder: string, shapes: readonly number[][]): void {
    shapes.forEach((shape, i) => {
      const length = shape.reduce((product, size) => product * size, 1);
      this.tensors.push({
        path: `${folder}/${i}`,
        shape,
        values: this.#trainer.tensor(this.#tensor++).subarray(0, length),
      });
    });
  }

  config(name: string): unknown {
    const input = { batch_shape: [null, this.#steps], dtype: "int32", sparse: false, name: INPUT };
    return {
      module: "keras.src.models.functional",
      class_name: "Functional",
      config: {
        // Keras allows no slash in it.
        name: name.replaceAll("/", "_"),
        trainable: true,
        layers: [
          layerJson({ className: "InputLayer", name: INPUT, config: input, inputs: [] }),
          ...this.#layers.map(layerJson),
        ],
        input_layers: [[INPUT, 0, 0]],
        output_layers: [[this.#last, 0, 0]],
      },
      registered_name: "Functional",
    };
  }
}

function layerJson({ className, name, config, inputs }: FunctionalLayer): unknown {
  // Keras demands a shape and a type here, but goes by the layer that the tensor comes from.
  const tensors = inputs.map((from) => ({
    class_name: "__keras_tensor__",
    config: { shape: [null], dtype: "float32", keras_history: [from, 0, 0] },
  }));
  return {
    module: "keras.layers",
    class_name: className,
    config: { name, ...config },
    registered_name: null,
    name,
    inbound_nodes: inputs.length === 0 ? [] : [{ args: inputs.length > 1 ? [tensors] : tensors, kwargs: {} }],
  };
}

/** The shortest decimal number that stands for this f32, as Keras would have been told. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === value) return candidate;
  }
  return value;
}
