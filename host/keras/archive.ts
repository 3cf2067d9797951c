// Stage 3 of an import: bytes of a saved Keras model (.keras zip, or .h5) in, its
// layer records and weight tensors out, in Keras' order and layout. Refuses
// archives that are larger than Keras' own, and weights that are not where the
// config says.
import { unzipSync } from "fflate";
import { EdgelabelError } from "../errors.ts";
import { type Graph, readGraph, type WeightedClass, type WeightedLayer } from "./graph.ts";
import { Hdf5, isHdf5, type Tensor } from "./hdf5.ts";

export interface KerasModel extends Graph {
  kerasVersion: string;
  /** The tensors of all layers with weights, in order; a layer without bias gets one of zeros. */
  tensors: Tensor[];
}

const MAX_ENTRIES = 10_000;
const ENTRY_LIMITS = new Map([
  ["config.json", 2 ** 24],
  ["metadata.json", 2 ** 16],
  ["model.weights.h5", 2 ** 30],
]);

/** 793712314 in the first four bytes of a .bin or .ftz. */
const FASTTEXT_MAGIC = [0xba, 0x16, 0x4f, 0x2f];

// Names of one direction's weights in Keras' order; the bias comes last.
const WEIGHT_NAMES: Record<WeightedClass, readonly string[]> = {
  Embedding: ["embeddings"],
  LSTM: ["kernel", "recurrent_kernel", "bias"],
  Bidirectional: ["kernel", "recurrent_kernel", "bias"],
  Dense: ["kernel", "bias"],
};

export function readKerasModel(bytes: Uint8Array, source: string): KerasModel {
  if (isHdf5(bytes)) return readH5(bytes, source);
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) return readZip(bytes, source);
  refuseFastText(bytes, source);
  throw new EdgelabelError(`${source}: neither a .keras archive nor an HDF5 file`);
}

/** Throws an EdgelabelError if the file is fastText's. */
export function refuseFastText(bytes: Uint8Array, source: string): void {
  if (FASTTEXT_MAGIC.some((byte, i) => bytes[i] !== byte)) return;
  throw new EdgelabelError(
    `${source}: a fastText model, which is linear, and edgelabel has no linear layer to hold it exactly; train a model on the same texts instead: edgelabel train DATA -o MODEL.wasm`,
  );
}

function readZip(bytes: Uint8Array, source: string): KerasModel {
  const entries = unzip(bytes, source);
  const entry = (name: string): Uint8Array => {
    const content = entries.get(name);
    if (!content) throw new EdgelabelError(`${source}: the archive has no ${name}; it was not written by model.save()`);
    return content;
  };
  const graph = readGraph(parseJson(new TextDecoder().decode(entry("config.json")), source, "config.json"), source);
  const metadata = parseJson(new TextDecoder().decode(entry("metadata.json")), source, "metadata.json") as {
    keras_version?: unknown;
  } | null;
  const file = new Hdf5(entry("model.weights.h5"), source);
  return {
    ...graph,
    kerasVersion: String(metadata?.keras_version ?? "unknown"),
    tensors: graph.weighted.flatMap((layer) => zipTensors(file, layer, source)),
  };
}

function readH5(bytes: Uint8Array, source: string): KerasModel {
  const file = new Hdf5(bytes, source);
  const config = file.string("/", "model_config");
  if (config === undefined)
    throw new EdgelabelError(
      `${source}: holds no model_config; save the whole model with model.save(), not only its weights`,
    );
  const kerasVersion = file.string("/", "keras_version") ?? "unknown";
  if (/^[01]\./.test(kerasVersion))
    throw new EdgelabelError(
      `${source}: written by Keras ${kerasVersion}; load it with Keras 2 or 3 and save it again`,
    );
  const graph = readGraph(parseJson(config, source, "model_config"), source);
  return { ...graph, kerasVersion, tensors: graph.weighted.flatMap((layer) => h5Tensors(file, layer, source)) };
}

/** Weights of a .keras file are at layers/SLOT/.../vars/0, 1, 2. */
function zipTensors(file: Hdf5, layer: WeightedLayer, source: string): Tensor[] {
  const base = `layers/${layer.slot}`;
  const savedName = file.string(`${base}/vars`, "name");
  if (savedName !== undefined && savedName !== layer.name) {
    throw new EdgelabelError(
      `${source}: layer "${layer.name}" is expected at ${base}, but the weights there are those of "${savedName}"`,
    );
  }
  const folders = {
    Embedding: [base],
    Dense: [base],
    LSTM: [`${base}/cell`],
    Bidirectional: [`${base}/forward_layer/cell`, `${base}/backward_layer/cell`],
  }[layer.className];
  return folders.flatMap((folder) => {
    const names = weightNames(layer);
    const found = file.keys(`${folder}/vars`).length;
    if (found !== names.length) {
      throw new EdgelabelError(
        `${source}: layer "${layer.name}" has ${found} weights at ${folder}/vars where ${names.length} are expected (${names.join(", ")})`,
      );
    }
    return withBias(
      layer,
      names.map((_, i) => file.tensor(`${folder}/vars/${i}`)),
    );
  });
}

/** Weights of an .h5 file are listed in the layer's weight_names; Keras 2 appends ":0". */
function h5Tensors(file: Hdf5, layer: WeightedLayer, source: string): Tensor[] {
  const base = `model_weights/${layer.name}`;
  const listed = file.strings(base, "weight_names");
  if (!listed) throw new EdgelabelError(`${source}: has no weights for layer "${layer.name}"`);
  const paths = listed.filter((path) => !path.includes("seed_generator"));
  const names = weightNames(layer);
  const directions = layer.className === "Bidirectional" ? ["forward", "backward"] : [undefined];
  const fits =
    paths.length === names.length * directions.length &&
    paths.every((path, i) => {
      const parts = path.replace(/:0$/, "").split("/");
      const direction = directions[i < names.length ? 0 : 1];
      return (
        parts.at(-1) === names[i % names.length] &&
        (direction === undefined || parts.some((part) => part.startsWith(direction)))
      );
    });
  if (!fits) {
    const expected = `${directions.length} × ${names.join(", ")}`;
    throw new EdgelabelError(
      `${source}: layer "${layer.name}" lists the weights ${paths.join(", ") || "(none)"} where ${expected} are expected`,
    );
  }
  const tensors = paths.map((path) => file.tensor(`${base}/${path}`));
  return directions.flatMap((_, i) => withBias(layer, tensors.slice(i * names.length, (i + 1) * names.length)));
}

function weightNames(layer: WeightedLayer): readonly string[] {
  const names = WEIGHT_NAMES[layer.className];
  return layer.useBias ? names : names.slice(0, -1);
}

function withBias(layer: WeightedLayer, tensors: Tensor[]): Tensor[] {
  if (layer.useBias) return tensors;
  const before = tensors.at(-1)!;
  const width = before.shape.at(-1)!;
  return [...tensors, { path: `${before.path} (no bias)`, shape: [width], values: new Float32Array(width) }];
}

function unzip(bytes: Uint8Array, source: string): Map<string, Uint8Array> {
  let entries = 0;
  const seen = new Map<string, number>();
  const filter = ({ name, originalSize }: { name: string; originalSize: number }): boolean => {
    if (++entries > MAX_ENTRIES)
      throw new EdgelabelError(`${source}: the archive lists more than ${MAX_ENTRIES} files`);
    const limit = ENTRY_LIMITS.get(name);
    if (limit === undefined) return false;
    if (originalSize > limit)
      throw new EdgelabelError(`${source}: ${name} in the archive is larger than ${limit} bytes`);
    if (seen.has(name)) throw new EdgelabelError(`${source}: the archive holds ${name} twice`);
    seen.set(name, originalSize);
    return true;
  };
  let contents: Record<string, Uint8Array>;
  try {
    contents = unzipSync(bytes, { filter });
  } catch (error) {
    if (error instanceof EdgelabelError) throw error;
    throw new EdgelabelError(`${source}: the archive is damaged (${(error as Error).message})`);
  }
  const result = new Map(Object.entries(contents));
  for (const [name, size] of seen) {
    if (result.get(name)?.length !== size)
      throw new EdgelabelError(`${source}: the archive is damaged (${name} is cut short)`);
  }
  return result;
}

function parseJson(text: string, source: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new EdgelabelError(`${source}: its ${what} is not valid JSON (${(error as Error).message})`);
  }
}
