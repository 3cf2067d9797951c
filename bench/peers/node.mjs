// The peers that run in node, with the protocol of peers.py. argv[2]: folder with their node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(join(process.argv[2], "package.json"));
const CHECKED = 50;
const RUN_MS = 0.2;
const loaded = new Map();

/** Shape, weights and inputs of one model, as models.mjs wrote them. */
function readModel(folder, name) {
  const model = JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
  const bytes = readFileSync(join(folder, `${name}.f32`));
  const weights = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const shapes = [[model.rows, model.width]];
  for (let d = 0; d < (model.pooled ? 2 : 1); d++)
    shapes.push([model.width, 4 * model.units], [model.units, 4 * model.units], [4 * model.units]);
  shapes.push([model.pooled ? 4 * model.units : model.units, model.outputs], [model.outputs]);
  let at = 0;
  const tensors = shapes.map((shape) => {
    const length = shape.reduce((product, n) => product * n, 1);
    at += length;
    return { shape, values: weights.subarray(at - length, at) };
  });
  return { ...model, folder, tensors };
}

async function onnxRuntime(model, packageName, suffix) {
  const ort = require(packageName);
  if (packageName === "onnxruntime-web") {
    ort.env.wasm.numThreads = 1;
    // The module is given as bytes and a path, since node's fetch cannot read files.
    ort.env.wasm.wasmPaths = `file://${dirname(require.resolve("onnxruntime-web"))}/`;
  }
  const file = readFileSync(join(model.folder, `${model.name}${suffix}.onnx`));
  const session = await ort.InferenceSession.create(file, {
    executionProviders: [packageName === "onnxruntime-web" ? "wasm" : "cpu"],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  return {
    version: `${packageName} ${ort.env.versions.common}`,
    input: (ids) => new ort.Tensor("int32", Int32Array.from(ids), [ids.length, 1]),
    run: async (ids) => (await session.run({ ids })).scores.data,
  };
}

async function tensorflowJs(model, backend) {
  const tf = require("@tensorflow/tfjs");
  if (backend === "wasm") {
    const wasm = require("@tensorflow/tfjs-backend-wasm");
    wasm.setWasmPaths(`${dirname(require.resolve("@tensorflow/tfjs-backend-wasm"))}/`);
    wasm.setThreadsCount(1);
  }
  if (!(await tf.setBackend(backend))) throw new Error(`no backend ${backend}`);
  await tf.ready();
  const input = tf.input({ shape: [model.steps ?? null], dtype: "int32" });
  let x = tf.layers.embedding({ inputDim: model.rows, outputDim: model.width }).apply(input);
  const lstm = () =>
    tf.layers.lstm({ units: model.units, returnSequences: model.pooled, recurrentActivation: "sigmoid" });
  if (model.pooled) {
    x = tf.layers.bidirectional({ layer: lstm(), mergeMode: "concat" }).apply(x);
    // tfjs has no layer for the maximum over time; TimePool computes it with tfjs' own operator.
    x = new TimePool(tf).apply(x);
  } else x = lstm().apply(x);
  const built = tf.model({
    inputs: input,
    outputs: tf.layers.dense({ units: model.outputs, activation: model.activation }).apply(x),
  });
  built.setWeights(model.tensors.map(({ shape, values }) => tf.tensor(values, shape)));
  return {
    version: `tfjs ${tf.version.tfjs}`,
    input: (ids) => ids,
    async run(ids) {
      if (tf.getBackend() !== backend) tf.setBackend(backend);
      const scores = tf.tidy(() => built.predict(tf.tensor2d([ids], [1, ids.length], "int32")));
      const values = await scores.data();
      scores.dispose();
      return values;
    },
  };
}

function TimePool(tf) {
  class Pool extends tf.layers.Layer {
    static className = "TimePool";
    computeOutputShape([batch, , channels]) {
      return [batch, 2 * channels];
    }
    call(inputs) {
      const x = Array.isArray(inputs) ? inputs[0] : inputs;
      return tf.concat([tf.max(x, 1), tf.mean(x, 1)], 1);
    }
  }
  return new Pool({});
}

const CONTENDERS = {
  "onnx-node-f32": (model) => onnxRuntime(model, "onnxruntime-node", ""),
  "onnx-node-int8": (model) => onnxRuntime(model, "onnxruntime-node", ".int8"),
  "onnx-web-f32": (model) => onnxRuntime(model, "onnxruntime-web", ""),
  "onnx-web-int8": (model) => onnxRuntime(model, "onnxruntime-web", ".int8"),
  "tfjs-wasm": (model) => tensorflowJs(model, "wasm"),
  "tfjs-cpu": (model) => tensorflowJs(model, "cpu"),
};

/** Text -> label: Keras' tokenizer in a few lines of JavaScript in front, argmax behind. */
function fromText(model, peer) {
  const ids = new Map(model.words.map((word, i) => [word, i + 1]));
  const filters = /[!"#$%&()*+,\-./:;<=>?@[\\\]^_`{|}~\t\n]/g;
  return async (i) => {
    const known = [];
    for (const word of model.texts[i].toLowerCase().replace(filters, " ").split(" ")) {
      const id = ids.get(word);
      if (id !== undefined) known.push(id);
    }
    const scores = await peer.run(peer.input(known.length ? known : [0]));
    let best = 0;
    for (let k = 1; k < scores.length; k++) if (scores[k] > scores[best]) best = k;
    return { scores, label: model.labels[best] };
  };
}

async function load({ folder, model: name, contender }) {
  const model = readModel(folder, name);
  const peer = await CONTENDERS[contender](model);
  let call;
  if (model.texts) call = fromText(model, peer);
  else {
    const inputs = model.ids.map(peer.input);
    call = (i) => peer.run(inputs[i]);
  }
  loaded.set(`${name} ${contender}`, { call, count: model.ids.length });
  const scores = [];
  const labels = [];
  const isSlow = contender.startsWith("tfjs");
  for (let i = 0; i < (model.texts && !isSlow ? model.ids.length : CHECKED); i++) {
    const result = await call(i);
    if (i < CHECKED) scores.push([...(model.texts ? result.scores : result)]);
    if (model.texts) labels.push(result.label);
  }
  return { ok: true, version: peer.version, scores, labels };
}

async function measure({ model, contender, budget, first }) {
  const { call, count } = loaded.get(`${model} ${contender}`);
  const times = [];
  let i = first;
  const end = performance.now() + budget;
  while (true) {
    const start = performance.now();
    let calls = 0;
    let now;
    do {
      await call(i++ % count);
      calls++;
      now = performance.now();
    } while (now - start < RUN_MS);
    times.push(((now - start) / calls) * 1000);
    if (now >= end) return { ok: true, times };
  }
}

console.log = console.info = console.warn = console.error; // what libraries print is no answer
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = request.op === "load" ? await load(request) : await measure(request);
  } catch (error) {
    answer = {
      ok: false,
      error: String(error.message ?? error)
        .split("\n")[0]
        .slice(0, 200),
    };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
