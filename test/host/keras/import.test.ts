// Saved Keras models and tokenizers. The small models of test/host/keras were written
// by real Keras 2.15 and 3.15 (make.py there); expected weights are what Keras says.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { strToU8, unzipSync, type Zippable, zipSync } from "fflate";
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import { EdgelabelError } from "../../../host/errors.ts";
import { readKerasModel } from "../../../host/keras/archive.ts";
import { Hdf5 } from "../../../host/keras/hdf5.ts";
import { importKeras, type ImportInput } from "../../../host/keras/import.ts";
import { readLabels, readTokenizerJson } from "../../../host/keras/tokenizer-json.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import {
  describeShared,
  readSharedJson,
  readSharedJsonLines,
  sharedPath,
  sharedIsPresent,
} from "../../support/shared.ts";

const folder = fileURLToPath(new URL("./", import.meta.url));
const fixture = (name: string): Uint8Array => new Uint8Array(readFileSync(folder + name));
const read = (name: string) => readKerasModel(fixture(name), name);

interface Expected {
  weights: { shape: number[]; values: number[] }[];
}

function complaint(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof EdgelabelError) return error.message;
    throw error;
  }
  throw new Error("no complaint");
}

const layer = (kind: number, fields: object = {}) => ({
  kind,
  flags: 0,
  activation: abi.ACTIVATION_LINEAR,
  units: 0,
  rate: 0,
  ...fields,
});

const LAYERS: Record<string, object[]> = {
  stack: [
    layer(abi.LAYER_EMBEDDING, { flags: abi.LAYER_MASK_ZERO, units: 3, rows: 9 }),
    layer(abi.LAYER_DROPOUT, { flags: abi.LAYER_SPATIAL, rate: 0.25 }),
    layer(abi.LAYER_LSTM, { flags: abi.LAYER_SEQUENCES, units: 4 }),
    layer(abi.LAYER_LSTM, { flags: abi.LAYER_SEQUENCES | abi.LAYER_BIDIRECTIONAL, units: 2 }),
    layer(abi.LAYER_POOL, { flags: abi.LAYER_POOL_MEAN }),
    layer(abi.LAYER_DROPOUT, { rate: 0.5 }),
    layer(abi.LAYER_DENSE, { activation: abi.ACTIVATION_RELU, units: 5 }),
    layer(abi.LAYER_DENSE, { activation: abi.ACTIVATION_SOFTMAX, units: 3 }),
  ],
  functional: [
    layer(abi.LAYER_EMBEDDING, { flags: abi.LAYER_MASK_ZERO, units: 3, rows: 9 }),
    layer(abi.LAYER_LSTM, { units: 4 }),
    layer(abi.LAYER_DENSE, { activation: abi.ACTIVATION_SIGMOID, units: 1 }),
  ],
  pooled: [
    layer(abi.LAYER_EMBEDDING, { units: 3, rows: 9 }),
    layer(abi.LAYER_LSTM, { flags: abi.LAYER_SEQUENCES | abi.LAYER_BIDIRECTIONAL, units: 2 }),
    layer(abi.LAYER_POOL, { flags: abi.LAYER_POOL_MAX }),
    layer(abi.LAYER_DENSE, { activation: abi.ACTIVATION_SOFTMAX, units: 2 }),
  ],
};

describe.each(Object.keys(LAYERS))("%s model", (name) => {
  describe.each(["keras2.keras", "keras2.h5", "keras3.keras", "keras3.h5"])("saved as %s", (form) => {
    const model = read(`${name}-${form}`);
    const expected = JSON.parse(readFileSync(`${folder}${name}-${form.split(".")[0]}.json`, "utf8")) as Expected;

    test("gives the layer records", () => {
      expect(model.layers).toEqual(LAYERS[name]);
      expect(model.sequenceLength).toBe(name === "functional" ? null : 6);
      expect(model.kerasVersion).toBe(form.startsWith("keras2") ? "2.15.0" : "3.15.1");
    });

    test("gives every weight, bit for bit, with zeros for absent biases", () => {
      const stored = model.tensors.filter((tensor) => !tensor.path.endsWith("(no bias)"));
      expect(stored.map((tensor) => [...tensor.shape])).toEqual(expected.weights.map((weight) => weight.shape));
      stored.forEach((tensor, i) => expect(tensor.values).toEqual(Float32Array.from(expected.weights[i]!.values)));
      const absent = model.tensors.filter((tensor) => tensor.path.endsWith("(no bias)"));
      expect(absent.map((tensor) => [...tensor.shape])).toEqual(
        name === "stack" ? [[5]] : name === "functional" ? [[16]] : [],
      );
      for (const tensor of absent) expect([...tensor.values].every((value) => value === 0)).toBe(true);
    });
  });
});

test("the stack's tensors stand in the engine's order", () => {
  const shapes = read("stack-keras3.keras").tensors.map((tensor) => tensor.shape.join("x"));
  expect(shapes).toEqual(["9x3", "3x16", "4x16", "16", "4x8", "2x8", "8", "4x8", "2x8", "8", "4x5", "5", "5x3", "3"]);
});

test("dropout inside an LSTM is left out, and said so", () => {
  expect(read("stack-keras3.keras").notes).toEqual(['layer "lstm": dropout is left out; it only matters in training']);
});

// --- refusals ------------------------------------------------------------------

type Config = Record<string, any>;

/** The archive with its config.json changed. */
function changed(name: string, change: (root: Config) => void): Uint8Array {
  const entries = unzipSync(fixture(name));
  const root = JSON.parse(new TextDecoder().decode(entries["config.json"]!)) as Config;
  change(root);
  return zipSync({ ...entries, "config.json": strToU8(JSON.stringify(root)) });
}

const layerOf = (root: Config, className: string): Config =>
  root["config"].layers.find((item: Config) => item["class_name"] === className);

describe("refuses by layer and option", () => {
  const option = (className: string, key: string, value: unknown) => (root: Config) => {
    layerOf(root, className)["config"][key] = value;
  };
  const inner =
    (key: string, value: unknown, which = "layer") =>
    (root: Config) => {
      layerOf(root, "Bidirectional")["config"][which].config[key] = value;
    };
  const rename = (from: string, to: string) => (root: Config) => {
    layerOf(root, from)["class_name"] = to;
  };

  test.each<[string, (root: Config) => void]>([
    ['layer "lstm" (LSTM) go_backwards=true cannot be reproduced', option("LSTM", "go_backwards", true)],
    ['layer "lstm" (LSTM) stateful=true cannot be reproduced', option("LSTM", "stateful", true)],
    ['layer "lstm" (LSTM) return_state=true cannot be reproduced', option("LSTM", "return_state", true)],
    ['layer "lstm" (LSTM) activation="relu" cannot be reproduced, only "tanh"', option("LSTM", "activation", "relu")],
    [
      'layer "input_layer" (InputLayer) is not the first layer',
      (root) => {
        root["config"].layers.reverse();
        root["config"].layers = [root["config"].layers.at(-2), root["config"].layers.at(-1)];
      },
    ],
    [
      'layer "embedding" (Embedding) is not the first layer after the input',
      (root) => {
        root["config"].layers.splice(2, 0, layerOf(root, "Embedding"));
      },
    ],
    [
      'layer "dropout" (Dropout) has no sequence of vectors before it',
      (root) => {
        root["config"].layers.unshift(layerOf(root, "Dropout"));
      },
    ],
    ['layer "dropout" (SpatialDropout1D) has no sequence of vectors before it', rename("Dropout", "SpatialDropout1D")],
    [
      'layer "dense" (Dense) works on a sequence; only Dense layers after',
      (root) => {
        root["config"].layers = root["config"].layers.filter(
          (item: Config) => item["class_name"] !== "GlobalAveragePooling1D",
        );
      },
    ],
    [
      'layer "global_average_pooling1d" (GlobalAveragePooling1D) has no sequence before it',
      (root) => {
        for (const which of ["layer", "backward_layer"]) inner("return_sequences", false, which)(root);
      },
    ],
    [
      'layer "activation" (Activation) does not directly follow a Dense layer',
      (root) => {
        root["config"].layers.splice(6, 0, root["config"].layers.pop());
      },
    ],
    ['layer "input_layer" (InputLayer) sparse=true', option("InputLayer", "sparse", true)],
    ['layer "input_layer" (InputLayer) ragged=true', option("InputLayer", "ragged", true)],
    [
      'layer "input_layer" (InputLayer) its input shape "six" is not [batch, steps]',
      option("InputLayer", "batch_shape", "six"),
    ],
    [
      'layer "input_layer" (InputLayer) its input length 0 is not a positive integer',
      option("InputLayer", "batch_shape", [null, 0]),
    ],
    [
      'layer "input_layer" (InputLayer) its input length 2.5 is not a positive integer',
      option("InputLayer", "batch_shape", [null, 2.5]),
    ],
    [
      'layer "input_layer" (InputLayer) its input length "6" is not a positive integer',
      option("InputLayer", "batch_shape", [null, "6"]),
    ],
    [
      'layer "embedding" (Embedding) its input length 7 differs from the input\'s 6',
      option("Embedding", "input_length", 7),
    ],
    ['layer "embedding" (Embedding) mask_zero="yes" is neither', option("Embedding", "mask_zero", "yes")],
    [
      'layer "embedding" (Embedding) input_dim=1048577 is above the limit',
      option("Embedding", "input_dim", abi.MAX_ROWS + 1),
    ],
    [
      'layer "embedding" (Embedding) quantization_config=',
      option("Embedding", "quantization_config", { mode: "int8" }),
    ],
    ['layer "embedding" (Embedding) dtype="bfloat16" cannot be reproduced', option("Embedding", "dtype", "bfloat16")],
    ['layer "dense" (Dense) lora_rank=4 cannot', option("Dense", "lora_rank", 4)],
    ['layer "dense" (Dense) units=(absent) is not a positive integer', option("Dense", "units", undefined)],
    ['layer "dense" (Dense) units=1025 is above the limit of 1024', option("Dense", "units", abi.MAX_WIDTH + 1)],
    ['layer "dense" (Dense) units="5" is not a positive integer', option("Dense", "units", "5")],
    ['layer "dense" (Dense) units=2.5 is not a positive integer', option("Dense", "units", 2.5)],
    ['layer "dropout" (Dropout) rate=-0.1 is not between 0 and 1', option("Dropout", "rate", -0.1)],
    ['layer "dropout" (Dropout) rate="0" is not between 0 and 1', option("Dropout", "rate", "0")],
    ['layer "lstm" (LSTM) time_major=true cannot be reproduced', option("LSTM", "time_major", true)],
    ['layer "bidirectional" (Bidirectional) has no layer', option("Bidirectional", "layer", undefined)],
    [
      'layer "bidirectional" (Bidirectional) its backward_layer is a GRU',
      (root) => {
        layerOf(root, "Bidirectional")["config"].backward_layer.class_name = "GRU";
      },
    ],
    [
      'layer "bidirectional" (Bidirectional) its two directions differ in return_sequences',
      inner("return_sequences", false),
    ],
    ['layer "bidirectional" (Bidirectional) its two directions differ in use_bias', inner("use_bias", false)],
    [
      'layer "global_average_pooling1d" (GlobalAveragePooling1D) data_format="channels_first"',
      option("GlobalAveragePooling1D", "data_format", "channels_first"),
    ],
    [
      'layer "activation" (Softmax) axis=1 cannot',
      (root) => {
        Object.assign(layerOf(root, "Activation"), { class_name: "Softmax" })["config"].axis = 1;
      },
    ],
    [
      "its model config has no list of layers",
      (root) => {
        root["config"].layers = { 0: root["config"].layers[0] };
      },
    ],
    [
      'layer "lstm" (LSTM) recurrent_activation="hard_sigmoid" cannot be reproduced',
      option("LSTM", "recurrent_activation", "hard_sigmoid"),
    ],
    [
      'layer "lstm" (LSTM) dtype="mixed_float16" cannot be reproduced',
      option("LSTM", "dtype", { class_name: "DTypePolicy", config: { name: "mixed_float16" } }),
    ],
    ['layer "lstm" (LSTM) units=2048 is above the limit of 1024', option("LSTM", "units", 2048)],
    ['layer "lstm" (LSTM) units=0 is not a positive integer', option("LSTM", "units", 0)],
    ['layer "lstm" (LSTM) return_sequences="yes" is neither true nor false', option("LSTM", "return_sequences", "yes")],
    [
      'layer "bidirectional" (Bidirectional) has no sequence before it; set return_sequences=True',
      option("LSTM", "return_sequences", false),
    ],
    ['layer "lstm" (GRU) is of a class that cannot be reproduced; supported are', rename("LSTM", "GRU")],
    ['layer "dense" (Conv1D) is of a class', rename("Dense", "Conv1D")],
    ['layer "activation" (Lambda) is of a class', rename("Activation", "Lambda")],
    ['layer "embedding" (TextVectorization) tokenizes inside the model', rename("Embedding", "TextVectorization")],
    [
      'layer "bidirectional" (Bidirectional) merge_mode="sum" cannot be reproduced',
      option("Bidirectional", "merge_mode", "sum"),
    ],
    [
      'layer "bidirectional" (Bidirectional) wraps a GRU',
      (root) => {
        layerOf(root, "Bidirectional")["config"].layer.class_name = "GRU";
      },
    ],
    ['layer "forward_lstm_1" (LSTM) activation="sigmoid" cannot', inner("activation", "sigmoid")],
    ['layer "backward_lstm_1" (LSTM) go_backwards=false cannot', inner("go_backwards", false, "backward_layer")],
    ['layer "bidirectional" (Bidirectional) its two directions differ in units', inner("units", 3, "backward_layer")],
    [
      'layer "global_average_pooling1d" (GlobalAveragePooling1D) keepdims=true',
      option("GlobalAveragePooling1D", "keepdims", true),
    ],
    [
      'layer "global_average_pooling1d" (GlobalMaxPooling1D) takes the maximum over steps that mask_zero=True masks',
      rename("GlobalAveragePooling1D", "GlobalMaxPooling1D"),
    ],
    ['layer "spatial_dropout1d" (SpatialDropout1D) rate=1 is not between', option("SpatialDropout1D", "rate", 1)],
    ['layer "dense" (Dense) activation="gelu" cannot be reproduced', option("Dense", "activation", "gelu")],
    [
      'layer "dense" (Dense) quantization_config={"mode":"int8"} cannot',
      option("Dense", "quantization_config", { mode: "int8" }),
    ],
    [
      'layer "activation" (Activation) does not directly follow a Dense layer with linear activation',
      (root) => {
        root["config"].layers.at(-2).config.activation = "relu";
      },
    ],
    ['layer "input_layer" (InputLayer) takes strings', option("InputLayer", "dtype", "string")],
    [
      'layer "input_layer" (InputLayer) its input shape [null,6,2] is not [batch, steps]',
      option("InputLayer", "batch_shape", [null, 6, 2]),
    ],
    [
      "the model does not end in a Dense layer",
      (root) => {
        root["config"].layers.splice(-3);
      },
    ],
    [
      "the model has no LSTM layer",
      (root) => {
        root["config"].layers = root["config"].layers.filter(
          (item: Config) => !/LSTM|Bidirectional/.test(item["class_name"]),
        );
      },
    ],
    [
      'the model is a "MyModel"; only Sequential and linear Functional',
      (root) => {
        root["class_name"] = "MyModel";
      },
    ],
    [
      "its model config has no list of layers",
      (root) => {
        root["config"] = {};
      },
    ],
    [
      "its model config holds a layer without class_name or config",
      (root) => {
        root["config"].layers[1] = 7;
      },
    ],
    [
      'layer "renamed" is expected at layers/dense, but the weights there are those of "dense"',
      option("Dense", "name", "renamed"),
    ],
    [
      'layer "dense" has 1 weights at layers/dense/vars where 2 are expected (kernel, bias)',
      option("Dense", "use_bias", true),
    ],
  ])("%s", (message, change) => {
    expect(complaint(() => readKerasModel(changed("stack-keras3.keras", change), "m.keras"))).toContain(
      `m.keras: ${message}`,
    );
  });

  test.each<[string, (root: Config) => void]>([
    [
      'layer "dense_2" (Dense) joins 2 inputs',
      (root) => {
        const [node] = layerOf(root, "Dense")["inbound_nodes"];
        node.args = [[node.args[0], node.args[0]]];
      },
    ],
    [
      'layer "lstm_2" is used 2 times',
      (root) => {
        const nodes = layerOf(root, "LSTM")["inbound_nodes"];
        nodes.push(nodes[0]);
      },
    ],
    [
      'the model branches after layer "embedding_1"',
      (root) => {
        layerOf(root, "Dense")["inbound_nodes"][0].args[0].config.keras_history[0] = "embedding_1";
      },
    ],
    [
      "the model has 2 inputs",
      (root) => {
        root["config"].input_layers = [
          ["input_layer_1", 0, 0],
          ["other", 0, 0],
        ];
      },
    ],
    [
      "the model has 2 outputs",
      (root) => {
        root["config"].output_layers = [
          ["dense_2", 0, 0],
          ["lstm_2", 0, 0],
        ];
      },
    ],
    [
      "its layers do not form one path",
      (root) => {
        layerOf(root, "Dense")["inbound_nodes"] = [[null]];
      },
    ],
    [
      "its layers do not form one path",
      (root) => {
        root["config"].output_layers = ["lstm_2", 0, 0];
      },
    ],
    [
      'layer "lstm_2" (LSTM) is called with initial_state=',
      (root) => {
        layerOf(root, "LSTM")["inbound_nodes"][0].kwargs.initial_state = [1];
      },
    ],
    [
      'layer "lstm_2" (LSTM) is called with training=true',
      (root) => {
        layerOf(root, "LSTM")["inbound_nodes"][0].kwargs.training = true;
      },
    ],
    [
      'layer "lstm_2" (LSTM) is called with a mask of its own',
      (root) => {
        layerOf(root, "Embedding")["config"].mask_zero = false;
      },
    ],
    [
      'layer "lstm_2" has no inbound_nodes',
      (root) => {
        delete layerOf(root, "LSTM")["inbound_nodes"];
      },
    ],
    [
      "the model has 0 outputs",
      (root) => {
        root["config"].output_layers = [];
      },
    ],
    [
      "its layers do not form one path",
      (root) => {
        layerOf(root, "LSTM")["inbound_nodes"][0].args[0].config.keras_history[0] = "dense_2";
      },
    ],
    [
      'layer "lstm_2" (LSTM) joins 0 inputs',
      (root) => {
        layerOf(root, "LSTM")["inbound_nodes"][0].args = [7];
      },
    ],
    [
      'layer "dense_2" (Dense) is called with mask=',
      (root) => {
        layerOf(root, "Dense")["inbound_nodes"][0].kwargs.mask = layerOf(root, "LSTM")["inbound_nodes"][0].args[0];
      },
    ],
    [
      'the model branches after layer "input_layer_1"',
      (root) => {
        layerOf(root, "NotEqual")["inbound_nodes"][0].args[1] = 3;
      },
    ],
  ])("in a Functional model: %s", (message, change) => {
    expect(complaint(() => readKerasModel(changed("functional-keras3.keras", change), "m.keras"))).toContain(message);
  });

  test("accepts what only Keras' serialization varies", () => {
    const model = readKerasModel(
      changed("stack-keras3.keras", (root) => {
        layerOf(root, "LSTM")["config"].activation = {
          module: "builtins",
          class_name: "function",
          config: "tanh",
          registered_name: "function",
        };
        root["config"].layers.at(-1).class_name = "Softmax";
        root["config"].layers.at(-1).config.axis = -1;
      }),
      "m.keras",
    );
    expect(model.layers).toEqual(LAYERS["stack"]);
  });

  test("takes what is at the bounds", () => {
    const accepted = (change: (root: Config) => void) =>
      readKerasModel(changed("stack-keras3.keras", change), "m.keras");
    expect(accepted(option("Dropout", "rate", 0)).layers[5]).toMatchObject({ kind: abi.LAYER_DROPOUT, rate: 0 });
    expect(accepted(option("InputLayer", "batch_shape", [null, 1])).sequenceLength).toBe(1);
    expect(accepted(option("InputLayer", "batch_shape", [null, null])).sequenceLength).toBeNull();
    expect(accepted(option("Embedding", "input_length", 6)).sequenceLength).toBe(6);
    expect(accepted(option("Dense", "units", abi.MAX_WIDTH)).layers[6]).toMatchObject({ units: abi.MAX_WIDTH });
    expect(accepted(option("Dense", "units", 1)).layers[6]).toMatchObject({ units: 1 });
    expect(accepted(option("Embedding", "input_dim", abi.MAX_ROWS)).rows).toBe(abi.MAX_ROWS);
    expect(accepted((root) => void root["config"].layers.shift()).sequenceLength).toBeNull();
  });

  test("says what it leaves out of layers that work only in training", () => {
    const notes = (change: (root: Config) => void) => readKerasModel(changed("stack-keras3.keras", change), "m").notes;
    const lstm = 'layer "lstm": dropout is left out; it only matters in training';
    expect(notes(option("LSTM", "dropout", 0))).toEqual([]);
    expect(notes(option("LSTM", "recurrent_dropout", 0.1))).toEqual([
      lstm,
      lstm.replace("dropout", "recurrent_dropout"),
    ]);
    expect(notes(option("Dropout", "noise_shape", [null, 1]))).toEqual([
      lstm,
      'layer "dropout": noise_shape is left out; it only matters in training',
    ]);
    expect(notes(option("Dropout", "noise_shape", null))).toEqual([lstm]);
  });

  test("a Functional model of Keras 2 is read as one of Keras 3, whatever it calls its class", () => {
    const functional = (change: (root: Config) => void) =>
      readKerasModel(changed("functional-keras2.keras", change), "m").layers;
    const call = (options: object) => (root: Config) => {
      layerOf(root, "LSTM")["inbound_nodes"][0][0][3] = options;
    };
    expect(
      functional((root) => {
        root["class_name"] = "Model";
      }),
    ).toEqual(LAYERS["functional"]);
    expect(functional(call({ training: false, mask: null }))).toEqual(LAYERS["functional"]);
    expect(complaint(() => functional(call({ training: true })))).toContain("is called with training=true");
    expect(complaint(() => functional(call({ mask: ["embedding_1", 0, 0] })))).toContain("is called with mask=");
    const joined = (root: Config) => {
      layerOf(root, "LSTM")["inbound_nodes"][0].push(["input_1", 0, 0, {}]);
    };
    expect(complaint(() => functional(joined))).toContain('layer "lstm_2" (LSTM) joins 2 inputs');
    const elsewhere = (root: Config) => {
      root["config"].input_layers = [["nobody", 0, 0]];
    };
    expect(complaint(() => functional(elsewhere))).toContain("its layers do not form one path");
  });

  test("early Keras 2 wrote the layers of a Sequential model as a bare list", () => {
    const bare = (root: Config) => {
      root["config"] = root["config"].layers;
    };
    expect(readKerasModel(changed("stack-keras2.keras", bare), "m").layers).toEqual(LAYERS["stack"]);
  });

  test("a Bidirectional layer that tells of no backward layer has its forward layer twice", () => {
    const model = changed("stack-keras3.keras", option("Bidirectional", "backward_layer", null));
    expect(readKerasModel(model, "m").layers).toEqual(LAYERS["stack"]);
  });

  /** The stack, whose first Dense layer has its ReLU in a layer of its own. */
  const withRelu = (options: object) => (root: Config) => {
    layerOf(root, "Dense")["config"].activation = "linear";
    const { layers } = root["config"];
    const at = layers.indexOf(layerOf(root, "Dense"));
    layers.splice(at + 1, 0, { class_name: "ReLU", config: { name: "re_lu", ...options } });
  };
  test.each([{}, { max_value: null, negative_slope: 0, threshold: 0 }, { negative_slope: null, threshold: null }])(
    "a ReLU layer with %j is the activation of the Dense layer before it",
    (options) => {
      expect(readKerasModel(changed("stack-keras3.keras", withRelu(options)), "m").layers).toEqual(LAYERS["stack"]);
    },
  );
  test.each([
    ["max_value=6", { max_value: 6 }],
    ["negative_slope=0.1", { negative_slope: 0.1 }],
    ["threshold=1", { threshold: 1 }],
  ])("a ReLU layer with %s is another function, and refused", (option, options) => {
    expect(complaint(() => readKerasModel(changed("stack-keras3.keras", withRelu(options)), "m"))).toBe(
      `m: layer "re_lu" (ReLU) ${option} cannot be reproduced`,
    );
  });
});

describe("a whole import", () => {
  const words = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`w${i + 1}`, i + 1]));
  const config = { filters: "", lower: true, split: " ", char_level: false, word_index: words };
  const importing = (model: Uint8Array, labels: string[], more: Partial<ImportInput> = {}) =>
    importKeras({
      model: { path: "m", content: model },
      tokenizer: { path: "t", content: JSON.stringify({ class_name: "Tokenizer", config }) },
      labels: { path: "l", content: JSON.stringify(labels) },
      name: "m",
      version: "1",
      padding: "pre",
      truncating: "pre",
      ...more,
    });
  /** The stack with Dropout layers before its last layer but one, so many in all. */
  const ofLayers = (count: number) => (root: Config) => {
    const more = Array.from({ length: count - LAYERS["stack"]!.length }, (_, i) => ({
      class_name: "Dropout",
      config: { name: `more_${i}`, rate: 0.5 },
    }));
    const { layers } = root["config"];
    layers.splice(layers.indexOf(layerOf(root, "Dense")), 0, ...more);
  };

  test("takes as many layers as a model may have, and no more", async () => {
    const names = ["a", "b", "c"];
    const { elb } = await importing(changed("stack-keras3.keras", ofLayers(abi.MAX_LAYERS)), names);
    expect((await Classifier.fromBytes(elb, "m")).info.labels).toEqual(names);
    await expect(importing(changed("stack-keras3.keras", ofLayers(abi.MAX_LAYERS + 1)), names)).rejects.toThrow(
      `m: the model has ${abi.MAX_LAYERS + 1} layers; at most ${abi.MAX_LAYERS} are possible`,
    );
  });

  test("takes as many steps as a model may have, and no more", async () => {
    const model = fixture("functional-keras3.keras");
    await importing(model, ["a", "b"], { sequenceLength: abi.MAX_SEQUENCE });
    await expect(importing(model, ["a", "b"], { sequenceLength: abi.MAX_SEQUENCE + 1 })).rejects.toThrow(
      `the model takes ${abi.MAX_SEQUENCE + 1} tokens; at most ${abi.MAX_SEQUENCE} are possible`,
    );
  });

  test("a length that is asked for must be the model's", async () => {
    const model = fixture("pooled-keras3.keras");
    const { elb } = await importing(model, ["a", "b"], { sequenceLength: 6 });
    expect(elb).toEqual((await importing(model, ["a", "b"])).elb);
    await expect(importing(model, ["a", "b"], { sequenceLength: 7 })).rejects.toThrow("--maxlen says 7");
    await expect(importing(fixture("functional-keras3.keras"), ["a", "b"])).rejects.toThrow("--maxlen N");
  });

  test("a model whose last layer gives no scores is no classifier", async () => {
    const last = (className: string, activation: string, units: number) => (root: Config) => {
      const layer = root["config"].layers.findLast((item: Config) => item["class_name"] === className);
      Object.assign(layer.config, { activation, units });
    };
    const [pooled, functional] = ["pooled-keras3.keras", "functional-keras3.keras"];
    await expect(importing(changed(pooled, last("Dense", "linear", 2)), ["a", "b"])).rejects.toThrow("gives logits");
    await expect(importing(changed(pooled, last("Dense", "relu", 2)), ["a", "b"])).rejects.toThrow("gives logits");
    const { elb } = await importing(changed(pooled, last("Dense", "sigmoid", 2)), ["a", "b"]);
    expect((await Classifier.fromBytes(elb, "m")).info.labels).toEqual(["a", "b"]);
    for (const activation of ["softmax", "linear"])
      await expect(
        importing(changed(functional, last("Dense", activation, 1)), ["a", "b"], { sequenceLength: 6 }),
      ).rejects.toThrow("one output without sigmoid");
  });

  test("name, version, padding and truncation are those given", async () => {
    const described = async (more: Partial<ImportInput>) => {
      const { elb } = await importing(fixture("pooled-keras3.keras"), ["a", "b"], more);
      const { name, version, tokenizer } = (await Classifier.fromBytes(elb, "m")).info;
      return [name, version, tokenizer.padding, tokenizer.truncating];
    };
    expect(await described({})).toEqual(["m", "1", "pre", "pre"]);
    expect(await described({ name: "x", padding: "post" })).toEqual(["x", "1", "post", "pre"]);
    expect(await described({ version: "2", truncating: "post" })).toEqual(["m", "2", "pre", "post"]);
  });

  test("weights of another shape are named by their path in the file", async () => {
    const wider = (root: Config) => {
      root["config"].layers.findLast((item: Config) => item["class_name"] === "Dense").config.units = 3;
    };
    await expect(importing(changed("pooled-keras3.keras", wider), ["a", "b", "c"])).rejects.toThrow(
      /\(layers\/dense\/vars\/0\)$/,
    );
  });
});

describe("archives", () => {
  const entries = (): Zippable => unzipSync(fixture("pooled-keras3.keras"));

  test("may be deflated", () => {
    const bytes = zipSync(entries(), { level: 9 });
    expect(readKerasModel(bytes, "m").tensors).toEqual(read("pooled-keras3.keras").tensors);
  });
  test("must hold what model.save() writes", () => {
    const { "model.weights.h5": _, ...rest } = entries();
    expect(complaint(() => readKerasModel(zipSync(rest), "m"))).toBe(
      "m: the archive has no model.weights.h5; it was not written by model.save()",
    );
    expect(complaint(() => readKerasModel(zipSync({ ...entries(), "config.json": strToU8("{") }), "m"))).toContain(
      "its config.json is not valid JSON",
    );
    expect(complaint(() => readKerasModel(zipSync({ ...entries(), "model.weights.h5": strToU8("x") }), "m"))).toBe(
      "m: not an HDF5 file",
    );
    expect(complaint(() => readKerasModel(strToU8("hello"), "m"))).toBe("m: neither a .keras archive nor an HDF5 file");
  });
  test("that would swell are refused before they are unpacked", () => {
    const bytes = zipSync({ ...entries(), "metadata.json": new Uint8Array(2 ** 20) }, { level: 9 });
    expect(complaint(() => readKerasModel(bytes, "m"))).toContain("metadata.json in the archive is larger than");
  });
  test("are taken up to the size that Keras' own have", () => {
    const padded = (bytes: number) =>
      zipSync({ ...entries(), "metadata.json": Buffer.alloc(bytes, " ").fill("{}", 0, 2) });
    expect(readKerasModel(padded(2 ** 16), "m").kerasVersion).toBe("unknown");
    expect(complaint(() => readKerasModel(padded(2 ** 16 + 1), "m"))).toBe(
      "m: metadata.json in the archive is larger than 65536 bytes",
    );
    const others = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, new Uint8Array(0)]));
    const full = zipSync({ ...entries(), ...others(10_000 - Object.keys(entries()).length) }, { level: 0 });
    expect(readKerasModel(full, "m").layers).toEqual(LAYERS["pooled"]);
  });
  test("that are cut anywhere give a named error", () => {
    const whole = fixture("pooled-keras3.keras");
    for (let length = 0; length < whole.length; length += 97)
      expect(complaint(() => readKerasModel(whole.slice(0, length), "m"))).toMatch(/^m: /);
  });
  test("that hold an entry twice are refused", () => {
    // Same length, so the name can be overwritten in place: metadata.json is listed as config.json twice over.
    const bytes = Buffer.from(zipSync({ ...entries(), "confi2.json": strToU8("{}") }));
    for (let at = bytes.indexOf("confi2.json"); at >= 0; at = bytes.indexOf("confi2.json", at))
      bytes.write("config.json", at, "latin1");
    expect(complaint(() => readKerasModel(bytes, "m"))).toBe("m: the archive holds config.json twice");
  });
  test("with very many entries are refused", () => {
    const many = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`f${i}`, new Uint8Array(0)]));
    expect(complaint(() => readKerasModel(zipSync(many, { level: 0 }), "m"))).toContain("lists more than 10000 files");
  });
});

describe("HDF5 files", () => {
  test.each([
    ["half", 'has elements of type "<f2"; only float32'],
    ["double", 'has elements of type "<f8"; only float32'],
    ["big_endian", 'has elements of type ">f4"; only float32'],
    ["chunked", "is chunked or compressed"],
    ["external", "lies in an external file"],
    ["unwritten", "has no data in the file"],
  ])("tensor %s %s", (name, message) => {
    const file = new Hdf5(fixture("odd-tensors.h5"), "m");
    expect(complaint(() => file.tensor(name))).toContain(`m: tensor "${name}" ${message}`);
  });
  test("external and circular links lead nowhere", () => {
    expect(complaint(() => new Hdf5(fixture("external-link.h5"), "m").keys("model_weights"))).toContain(
      "external links",
    );
    expect(complaint(() => new Hdf5(fixture("odd-tensors.h5"), "m").tensor("soft"))).toBe('m: has no tensor "soft"');
  });
  test("names of JavaScript's own properties are not found in them", () => {
    const file = new Hdf5(fixture("pooled-keras3.h5"), "m");
    expect(complaint(() => file.tensor("constructor"))).toBe('m: has no tensor "constructor"');
    expect(complaint(() => file.tensor("model_weights/__proto__"))).toBe('m: has no tensor "model_weights/__proto__"');
    expect(file.string("/", "constructor")).toBeUndefined();
  });
  test("a shape that the file cannot hold is refused before memory is taken", () => {
    const bytes = Buffer.from(fixture("pooled-keras3.h5"));
    const shape = Buffer.alloc(16);
    shape.writeBigUInt64LE(9n, 0);
    shape.writeBigUInt64LE(3n, 8);
    let found = 0;
    for (let at = bytes.indexOf(shape); at >= 0; at = bytes.indexOf(shape, at + 1), found++)
      bytes.writeUInt32LE(0x7fffffff, at);
    expect(found).toBeGreaterThan(0);
    expect(complaint(() => readKerasModel(bytes, "m"))).toMatch(
      /claims shape \[2147483647, 3\], more than the whole file holds/,
    );
  });
  test("with weights only are told apart", () => {
    const weights = unzipSync(fixture("pooled-keras3.keras"))["model.weights.h5"]!;
    expect(complaint(() => readKerasModel(weights, "m"))).toContain(
      "holds no model_config; save the whole model with model.save()",
    );
  });
  /** The file with one of its strings replaced by another of the same length. */
  const replaced = (name: string, from: string, to: string): Uint8Array => {
    const bytes = Buffer.from(fixture(name));
    let found = 0;
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1), found++)
      bytes.write(to, at, "latin1");
    expect(found).toBeGreaterThan(0);
    return bytes;
  };
  test.each(["0", "1"])("of Keras %s are refused", (major) => {
    expect(complaint(() => readKerasModel(replaced("pooled-keras3.h5", "3.15.1", `${major}.15.1`), "m"))).toBe(
      `m: written by Keras ${major}.15.1; load it with Keras 2 or 3 and save it again`,
    );
  });
  test("may list a layer's weights in parts, and the state of its dropout among them", () => {
    expect(read("parted-names.h5")).toEqual(read("pooled-keras3.h5"));
  });
  test("whose weights have other names than Keras gives them are refused", () => {
    const kernel = replaced("pooled-keras3.h5", "recurrent_kernel", "recurrent_kernal");
    expect(complaint(() => readKerasModel(kernel, "m"))).toMatch(
      /layer "bidirectional_1" lists the weights .* where 2 × kernel, recurrent_kernel, bias are expected$/,
    );
    const direction = replaced("pooled-keras3.h5", "backward_lstm", "sideward_lstm");
    expect(complaint(() => readKerasModel(direction, "m"))).toContain('layer "bidirectional_1" lists the weights');
  });
  test("an index node at the very end of the file is cut, and no reason to read beyond it", () => {
    const whole = fixture("functional-keras3.h5");
    for (let length = 4; length <= 8; length++) {
      const bytes = Buffer.concat([whole, Buffer.from("TREE\0\0\xff\xff", "latin1").subarray(0, length)]);
      if (length < 8) expect(readKerasModel(bytes, "m").layers).toEqual(LAYERS["functional"]);
      else expect(complaint(() => readKerasModel(bytes, "m"))).toContain("claims 65535 entries");
    }
  });
  test("an index node may have as many children as any model needs, and no more", () => {
    const node = (children: number): Buffer => {
      const bytes = Buffer.alloc(8);
      bytes.write("TREE");
      bytes.writeUInt16LE(children, 6);
      return Buffer.concat([fixture("functional-keras3.h5"), bytes]);
    };
    expect(readKerasModel(node(512), "m").layers).toEqual(LAYERS["functional"]);
    expect(complaint(() => readKerasModel(node(513), "m"))).toContain("claims 513 entries");
  });
  test("an index node that claims very many children is refused", () => {
    const bytes = Buffer.from(fixture("pooled-keras3.h5"));
    bytes.writeUInt16LE(0xffff, bytes.indexOf("TREE") + 6);
    expect(complaint(() => readKerasModel(bytes, "m"))).toContain("claims 65535 entries");
  });
  test("that are cut anywhere give a named error", () => {
    const whole = fixture("functional-keras3.h5");
    for (let length = 0; length < whole.length; length += 97) {
      try {
        readKerasModel(whole.slice(0, length), "m");
      } catch (error) {
        expect(error, `cut at ${length}`).toBeInstanceOf(EdgelabelError);
      }
    }
  });
  test("with flipped bytes give a model or a named error, soon", () => {
    const whole = fixture("functional-keras3.h5");
    let seed = 12345;
    const random = (limit: number) => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 1) % limit;
    let refused = 0;
    for (let round = 0; round < 400; round++) {
      const bytes = whole.slice();
      for (let i = 0; i < 3; i++) bytes[random(bytes.length)] = random(256);
      try {
        readKerasModel(bytes, "m");
      } catch (error) {
        refused++;
        if (!(error instanceof EdgelabelError)) throw new Error(`round ${round}`, { cause: error });
      }
    }
    expect(refused).toBeGreaterThan(20);
  });
});

// --- tokenizer and labels ------------------------------------------------------------

describe("tokenizer.json", () => {
  const tokenizer = (config: object) =>
    JSON.stringify({
      class_name: "Tokenizer",
      config: {
        num_words: null,
        filters: "!",
        lower: true,
        split: " ",
        char_level: false,
        oov_token: null,
        word_index: JSON.stringify({ b: 2, a: 1, 2024: 3 }),
        ...config,
      },
    });
  const words = (config: object, rows = 100) => readTokenizerJson(tokenizer(config), "t", rows).words;
  const refusal = (config: object, rows = 100) => complaint(() => words(config, rows));

  test("gives words in id order", () => {
    expect(readTokenizerJson(tokenizer({}), "t", 4)).toEqual({
      lower: true,
      charLevel: false,
      filters: "!",
      split: " ",
      unknownId: 0,
      words: ["a", "b", "2024"],
    });
    expect(words({ word_index: '{"a":1,"__proto__":2}' })).toEqual(["a", "__proto__"]);
  });
  test("num_words = n keeps the ids below n, and 0 keeps all", () => {
    expect(words({ num_words: 3 })).toEqual(["a", "b"]);
    expect(words({ num_words: 0 })).toEqual(["a", "b", "2024"]);
    expect(words({ num_words: 1000 })).toEqual(["a", "b", "2024"]);
    expect(words({ num_words: 3 }, 3)).toEqual(["a", "b"]);
  });
  test("texts that held the oov_token leave id 1 to nobody, who gets what is no token", () => {
    const index = JSON.stringify({ "<oov>": 3, a: 2, b: 4 });
    expect(readTokenizerJson(tokenizer({ oov_token: "<oov>", word_index: index }), "t", 9)).toMatchObject({
      unknownId: 3,
      words: [" ", "a", "<oov>", "b"],
    });
    expect(readTokenizerJson(tokenizer({ oov_token: "<oov>", word_index: index, num_words: 4 }), "t", 9)).toMatchObject(
      { unknownId: 3, words: [" ", "a", "<oov>"] },
    );
    expect(
      readTokenizerJson(
        tokenizer({ oov_token: "?", char_level: true, word_index: JSON.stringify({ "?": 2, a: 3 }) }),
        "t",
        9,
      ),
    ).toMatchObject({ unknownId: 2, words: ["??", "?", "a"] });
    expect(refusal({ oov_token: "<oov>", word_index: JSON.stringify({ "<oov>": 2, a: 4 }) })).toContain(
      'gives "a" the id 4',
    );
    expect(refusal({ oov_token: "<oov>", word_index: JSON.stringify({ a: 2, b: 3 }) })).toContain('gives "b" the id 3');
  });
  test("ids without a row are named", () => {
    expect(refusal({}, 3)).toBe(
      't: 1 words have ids that the embedding of 3 rows cannot look up: "2024" (3); the model belongs to another tokenizer, or needs num_words=3',
    );
  });
  test("a whole to_json() string may be wrapped once more", () => {
    expect(readTokenizerJson(JSON.stringify(tokenizer({})), "t", 9).words).toEqual(["a", "b", "2024"]);
  });
  test.each([
    [{ num_words: 1 }, "its num_words=1 keeps no word"],
    [{ num_words: 2.5 }, "its num_words is 2.5, not a whole number"],
    [{ num_words: -1 }, "its num_words is -1, not a whole number"],
    [{ num_words: "3" }, 'its num_words is "3", not a whole number'],
    [{ split: 3 }, "its split is not a string of one character or more"],
    [{ char_level: "no" }, "its char_level is neither true nor false"],
    [{ oov_token: 1 }, "its oov_token is not a string"],
    [{ word_index: { a: 0 } }, 'its word_index gives "a" the id 0; ids run from 1'],
    [{ word_index: { a: 1.5 } }, 'its word_index gives "a" the id 1.5; ids run from 1'],
    [{ word_index: { a: "1" } }, 'its word_index gives "a" the id "1"; ids run from 1'],
    [{ word_index: [] }, "has no word_index"],
    [{ split: "" }, "its split is not a string of one character or more"],
    [{ filters: 3 }, "its filters are not a string"],
    [{ lower: 1 }, "its lower is neither true nor false"],
    [{ oov_token: "<oov>" }, 'its oov_token "<oov>" is not in word_index'],
    [{ oov_token: "2024", num_words: 3 }, "its oov_token has the id 3, which num_words=3 leaves out"],
    [{ word_index: "{}" }, "its word_index is empty"],
    [{ word_index: undefined }, "has no word_index"],
    [{ word_index: { a: 1, b: 1 } }, 'its word_index gives the id 1 to both "a" and "b"'],
    [{ word_index: { a: 1, b: 3 } }, 'its word_index gives "b" the id 3; ids run from 1'],
    [{ word_index: "{" }, "is not valid JSON"],
  ])("%j is refused", (config, message) => {
    expect(refusal(config)).toContain(`t: ${message}`);
  });
  test("another file is refused", () => {
    expect(complaint(() => readTokenizerJson("[]", "t", 9))).toContain("Tokenizer.to_json()");
  });
});

describe("labels.json", () => {
  test("one output takes two names, more take one each", () => {
    expect(readLabels('["ham","spam"]', "l", 1)).toEqual(["ham", "spam"]);
    expect(readLabels('["a","b","c"]', "l", 3)).toEqual(["a", "b", "c"]);
  });
  test.each([
    ['["a"]', 1, "has 1 names where the model needs 2 (of its one output"],
    ['["a","b"]', 3, "has 2 names where the model needs 3"],
    ['["a","a"]', 2, 'names "a" twice'],
    ['["a",""]', 2, "its entry 2: the label is empty"],
    ["[1,2]", 2, "its entry 1 is not a string"],
    ['["a\\tb","c"]', 2, "control character"],
    ["{}", 2, "is not a JSON array"],
    ["", 2, "is not valid JSON"],
  ])("%s for %i outputs is refused", (text, outputs, message) => {
    expect(complaint(() => readLabels(text, "l", outputs))).toContain(message);
  });
});

describeShared("the golden models", () => {
  const names = sharedIsPresent ? readdirSync(sharedPath("golden")).filter((name) => name.startsWith("model-")) : [];

  test("are all there", () => expect(names.length).toBeGreaterThanOrEqual(4));

  test.each(names)("%s: .keras and .h5 give the same model", (name) => {
    const load = (file: string) => readKerasModel(new Uint8Array(readFileSync(sharedPath("golden", name, file))), file);
    const [keras, h5] = [load("model.keras"), load("model.h5")];
    expect(keras.layers).toEqual(h5.layers);
    expect(keras.tensors.map((tensor) => tensor.shape)).toEqual(h5.tensors.map((tensor) => tensor.shape));
    keras.tensors.forEach((tensor, i) => expect(tensor.values).toEqual(h5.tensors[i]!.values));
    const cases = readSharedJsonLines<{ ids: number[]; scores: number[] }>("golden", name, "cases.jsonl");
    expect(keras.sequenceLength).toBe(cases[0]!.ids.length);
    expect(keras.outputs).toBe(cases[0]!.scores.length);
    const tokenizer = readTokenizerJson(
      readFileSync(sharedPath("golden", name, "tokenizer.json"), "utf8"),
      "tokenizer.json",
      keras.rows,
    );
    expect(tokenizer.words.length).toBeLessThan(keras.rows);
    expect(Math.max(...cases.flatMap((item) => item.ids))).toBeLessThanOrEqual(tokenizer.words.length);
    expect(
      readLabels(readFileSync(sharedPath("golden", name, "labels.json"), "utf8"), "labels.json", keras.outputs),
    ).toHaveLength(Math.max(2, keras.outputs));
  });

  test.each(["char", "filters", "keepcase", "oov", "seed"])("tokenizer-%s is read", (name) => {
    const { config } = readSharedJson<{ config: Record<string, any> }>("golden", `tokenizer-${name}`, "tokenizer.json");
    const tokenizer = readTokenizerJson(
      readFileSync(sharedPath("golden", `tokenizer-${name}`, "tokenizer.json"), "utf8"),
      name,
      2 ** 20,
    );
    const index = new Map(Object.entries(JSON.parse(config["word_index"]) as Record<string, number>));
    tokenizer.words.forEach((word, i) => expect(index.get(word)).toBe(i + 1));
    expect(tokenizer.words).toHaveLength(Math.min(index.size, (config["num_words"] || Infinity) - 1));
    expect(tokenizer).toMatchObject({
      lower: config["lower"],
      charLevel: config["char_level"],
      filters: config["filters"],
      split: config["split"],
      unknownId: config["oov_token"] === null ? 0 : 1,
    });
  });
});
