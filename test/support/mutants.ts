// Model files of every kind, and mutants of them made by changes that know what lies where:
// header fields and layer records at their boundaries, offsets, sizes, strings, weights, parts
// swapped, taken from another file or cut off, and networks drawn anew that are legal.
import * as abi from "../../assembly/abi.ts";
import {
  HEADER_BYTES,
  LAYER_BYTES,
  documentedFile,
  headerFields,
  headerValue,
  layerFields,
  partAt,
  parts,
  repair,
  setHeader,
  setLayer,
  settingsFields,
  withParts,
  withStrings,
  read,
  write,
} from "./model-file.ts";
import { Seeded, dense, dropout, embedding, lstm, makeModel, pool, trainTiny, type ModelSpec } from "./models.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const spec: ModelSpec = {
  words: ["turn", "on", "the", "light", "hi"],
  labels: ["off", "on", "dim"],
  name: "evil",
  version: "1",
  tokenizer: { sequenceLength: 5 },
  layers: [
    embedding(3),
    dropout(0.1),
    lstm(3, abi.LAYER_SEQUENCES | abi.LAYER_BIDIRECTIONAL),
    pool(abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN),
    dense(5, abi.ACTIVATION_RELU),
    dense(3, abi.ACTIVATION_SOFTMAX),
  ],
};
/** Letters of scripts without spaces, their pairs, n-grams and all cleaning. */
const rich: ModelSpec = {
  words: ["今", "天", "hi", "<url>", "turn"],
  labels: ["否", "是"],
  name: "rich",
  version: "2",
  tokenizer: {
    splitScripts: true,
    letterPairs: true,
    padPost: true,
    truncatePost: true,
    sequenceLength: 12,
    filters: "!?",
    ngramBuckets: 16,
    ngramMin: 2,
    ngramMax: 4,
    cleaning: ["normalize", "markup", "urls", "width", "compose", "accents", "numbers", "repeats"],
  },
  layers: [embedding(5, abi.LAYER_MASK_ZERO), lstm(6), dense(1, abi.ACTIVATION_SIGMOID)],
};
const letters: ModelSpec = {
  words: ["a", "h", "i", "?"],
  labels: ["a", "b", "c"],
  unknownId: 4,
  tokenizer: { charLevel: true, sequenceLength: 9 },
  layers: [
    embedding(4),
    lstm(2, abi.LAYER_SEQUENCES),
    lstm(3, abi.LAYER_BIDIRECTIONAL),
    dropout(0.2),
    dense(3, abi.ACTIVATION_TANH),
  ],
};

export interface Sources {
  f32: Uint8Array[];
  int8: Uint8Array[];
  int8Weights: Uint8Array[];
}

/** Files to harm, by form. */
export async function sources(): Promise<Sources> {
  const models = await Promise.all(
    [spec, rich, letters].map((each, i) => {
      const random = new Seeded(i);
      return makeModel(each, (_, length) => random.floats(length, 0.5));
    }),
  );
  const tiny = await trainTiny({ embedding: 4, units: 5, epochs: 2 });
  return {
    f32: [documentedFile(), ...models.map((model) => model.write("f32")), tiny.write("training")],
    int8: [...models.map((model) => model.write("int8")), tiny.write("int8")],
    int8Weights: models.map((model) => model.write("int8-weights")),
  };
}

const extremes = [
  0, 1, 2, 3, 15, 16, 17, 255, 256, 1023, 1024, 1025, 4095, 4096, 4097, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
  0x80000001, 0xfffffff0, 0xffffffff,
];
const numbers = [0, -0, 1, -1, 0.5, NaN, Infinity, -Infinity, 1e-45, 2e-38, 1e38, -3e38, 3.4028235e38, 99];

type Change = (file: Uint8Array, next: Seeded, other: Uint8Array) => Uint8Array | void;

const noise = (length: number, next: Seeded): Uint8Array => Uint8Array.from({ length }, () => next.below(256));
const word = (next: Seeded): Uint8Array =>
  next.below(12) === 0
    ? noise(next.below(12), next)
    : text("ab\u00e9\u4e2d\u{1f600}".slice(0, 1 + next.below(4)).repeat(1 + next.below(3)) + next.below(1000));
const words = (count: number, next: Seeded): Uint8Array[] => Array.from({ length: count }, () => word(next));

function near(value: number, next: Seeded): number {
  return next.below(2) ? next.pick(extremes) : value + next.pick([-16, -4, -2, -1, 1, 2, 4, 16]);
}

const changes: Change[] = [
  // Any word of the header, any field by its type, any field of a layer.
  (file, next) =>
    write(
      file,
      4 * next.below(HEADER_BYTES / 4),
      "u32",
      next.below(2) ? next.pick(extremes) : next.below(2 ** (1 + next.below(22))),
    ),
  (file, next) => {
    const { name, type } = next.pick(headerFields);
    setHeader(file, name, type === "f32" ? next.pick(numbers) : near(headerValue(file, name), next));
  },
  (file, next) => {
    const { name, type } = next.pick(layerFields);
    setLayer(
      file,
      next.below(headerValue(file, "layerCount")),
      name,
      type === "f32" ? next.pick(numbers) : next.pick([...extremes, next.below(8), next.below(64)]),
    );
  },
  (file, next) => setHeader(file, "tokenizerFlags", next.below(abi.TOKENIZER_FLAGS + 1)),
  (file, next) => setHeader(file, "cleaning", next.below(abi.CLEAN_FLAGS + 1)),
  (file, next) => setHeader(file, "sequenceLength", 1 + next.below(next.below(20) ? 40 : abi.MAX_SEQUENCE)),
  // Two words of the header trade places, two layers, two offsets.
  (file, next) => swap(file, 4 * next.below(HEADER_BYTES / 4), 4 * next.below(HEADER_BYTES / 4), 4),
  (file, next) => {
    const { offset, length } = partAt(file, "layers");
    const count = length / LAYER_BYTES;
    const [from, to] = [next.below(count), next.below(count)].map((index) => offset + index * LAYER_BYTES) as [
      number,
      number,
    ];
    if (next.below(2)) swap(file, from, to, LAYER_BYTES);
    else file.copyWithin(to, from, from + LAYER_BYTES);
  },
  (file, next) => {
    const { offset, length } = partAt(file, next.pick(["wordOffsets", "labelOffsets"]));
    const at = offset + 4 * next.below(length >> 2);
    if (next.below(3) === 0) swap(file, at, offset + 4 * next.below(length >> 2), 4);
    else write(file, at, "u32", near(read(file, at, "u32"), next));
  },
  // Strings and whole parts, longer and shorter, with lengths that say so.
  (file, next) => withStrings(file, "word", words(next.below(next.below(9) ? 8 : 400), next)),
  (file, next) =>
    withStrings(
      file,
      "label",
      words(next.below(3) ? Math.min(8, headerValue(file, "labelCount")) : 1 + next.below(5), next),
    ),
  (file, next) =>
    withParts(file, {
      [next.pick(["filters", "split", "name", "version"])]: next.below(8)
        ? text(next.pick([" ", "ab", "aab", "\u4e2d", "!?., ", ""]))
        : noise(next.below(9), next),
    }),
  (file, next) => {
    const { name, offset, length } = next.pick(parts(file));
    if (length > file.length) return undefined;
    const resized = new Uint8Array(Math.max(0, length + next.pick([-16, -4, -1, 1, 4, 16])));
    resized.set(file.subarray(offset, offset + Math.min(length, resized.length)));
    return withParts(file, { [name]: resized });
  },
  // Bytes of any part, and numbers among the weights.
  (file, next) => {
    const { offset, length } = next.pick(parts(file));
    if (length > 0)
      file[offset + next.below(length)] = next.below(3) ? next.below(256) : next.pick([0, 0x7f, 0x80, 0x81, 0xff]);
  },
  (file, next) => {
    const { offset, length } = partAt(file, "weights");
    write(file, offset + 4 * next.below(length >> 2), "f32", next.below(3) ? next.between(-2, 2) : next.pick(numbers));
  },
  (file, next) => {
    const { offset, length } = partAt(file, "training");
    if (length === 0) return;
    const { offset: at, type } = next.pick(settingsFields);
    write(file, offset + at, type, type === "u32" ? next.pick(extremes) : next.pick(numbers));
  },
  // Of two files: a part, a part with the header's word on it, or everything from a part on.
  (file, next, other) => {
    const { name, offset, length } = next.pick(parts(other));
    const grafted = withParts(file, { [name]: other.subarray(offset, offset + length) });
    if (next.below(2))
      for (const field of ["wordCount", "labelCount", "layerCount", "bucketCount", "form"])
        if (next.below(2)) setHeader(grafted, field, headerValue(other, field));
    return grafted;
  },
  (file, next, other) => {
    const [cut, from] = [next.pick(parts(file)).offset, next.pick(parts(other)).offset];
    const spliced = Uint8Array.of(...file.subarray(0, cut), ...other.subarray(from));
    setHeader(spliced, "fileBytes", spliced.length);
    return spliced;
  },
  // Cut off, or too long.
  (file, next) => file.slice(0, next.below(2) ? next.below(file.length + 1) : next.pick(parts(file)).offset),
  (file, next) => Uint8Array.of(...file, ...noise(next.pick([1, 4, 16, 100]), next)),
  // Another network altogether, of awkward widths.
  redraw,
  redraw,
  redraw,
];

function swap(file: Uint8Array, a: number, b: number, bytes: number): void {
  const [left, right] = [file.slice(a, a + bytes), file.slice(b, b + bytes)];
  file.set(left, b);
  file.set(right, a);
}

/** A legal chain of layers and legal weights for the vocabulary and labels that the file has. */
function redraw(file: Uint8Array, next: Seeded): Uint8Array {
  const of = (name: string): number => headerValue(file, name);
  if (of("wordCount") + of("bucketCount") > 2000 || of("labelCount") > 100)
    throw new RangeError("an earlier change claims more than is worth drawing");
  const form = next.pick([abi.FORM_F32, abi.FORM_INT8, abi.FORM_INT8_WEIGHTS]);
  const width = (): number => 1 + next.below(next.below(6) ? 9 : 40);
  const layers: number[][] = [];
  let channels = 0;
  const add = (kind: number, flags: number, activation: number, units: number, out: number, input = channels): void => {
    layers.push([kind, flags, activation, input, units, out]);
    channels = out;
  };
  const addLstm = (sequences: number): void => {
    const [units, both] = [width(), next.pick([0, abi.LAYER_BIDIRECTIONAL])];
    add(abi.LAYER_LSTM, sequences | both, 0, units, both ? 2 * units : units);
  };
  const rows = 1 + of("wordCount") + of("bucketCount") + next.below(3);
  const embedded = width();
  add(abi.LAYER_EMBEDDING, next.pick([0, abi.LAYER_MASK_ZERO]), 0, embedded, embedded, rows);
  for (let i = next.below(3); i > 0; i--) {
    if (next.below(3)) addLstm(abi.LAYER_SEQUENCES);
    else add(abi.LAYER_DROPOUT, next.pick([0, abi.LAYER_SPATIAL]), 0, 0, channels);
  }
  if (layers.some(([kind]) => kind === abi.LAYER_LSTM) && next.below(2)) {
    const flags = next.pick([abi.LAYER_POOL_MAX, abi.LAYER_POOL_MEAN, abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN]);
    add(abi.LAYER_POOL, flags, 0, 0, flags === (abi.LAYER_POOL_MAX | abi.LAYER_POOL_MEAN) ? 2 * channels : channels);
  } else addLstm(0);
  const addDense = (units: number): void =>
    add(abi.LAYER_DENSE, 0, next.below(abi.ACTIVATION_SOFTMAX + 1), units, units);
  for (let i = next.below(3); i > 0; i--) addDense(width());
  addDense(of("labelCount") === 2 && next.below(2) ? 1 : of("labelCount"));
  const records = new Uint8Array(LAYER_BYTES * layers.length);
  layers.forEach((fields, i) => fields.forEach((value, k) => write(records, i * LAYER_BYTES + 4 * k, "u32", value)));
  const drawn = withParts(file, {
    layers: records,
    weights: drawWeights(form, layers, next),
    training: new Uint8Array(),
  });
  setHeader(drawn, "layerCount", layers.length);
  setHeader(drawn, "form", form);
  return drawn;
}

/** Weights as FORMAT.md lays them out, now and then at the edge of what is legal. */
function drawWeights(form: number, layers: readonly number[][], next: Seeded): Uint8Array {
  const blocks: Uint8Array[] = [];
  const add = (block: ArrayBufferView): void => {
    const whole = new Uint8Array(Math.ceil(block.byteLength / 16) * 16);
    whole.set(new Uint8Array(block.buffer, block.byteOffset, block.byteLength));
    blocks.push(whole);
  };
  const number = next.below(8)
    ? (): number => next.between(-1, 1)
    : (): number => next.pick(numbers.filter((value) => Math.abs(value) <= 1e38));
  const scale = next.below(8)
    ? (): number => next.between(0.001, 0.02)
    : (): number => next.pick([1e-45, 2e-38, 1, 3.4e38]);
  const matrix = (out: number, input: number): void => {
    if (form === abi.FORM_F32) add(Float32Array.from({ length: out * input }, number));
    else {
      add(
        Int8Array.from({ length: out * input }, () => (next.below(8) ? next.below(255) - 127 : next.pick([-127, 127]))),
      );
      add(Float32Array.from({ length: out }, scale));
    }
  };
  for (const [kind, flags, , input, units] of layers as [number, number, number, number, number][]) {
    if (kind === abi.LAYER_EMBEDDING) matrix(input, units);
    for (let d = 0; kind === abi.LAYER_LSTM && d < (flags & abi.LAYER_BIDIRECTIONAL ? 2 : 1); d++) {
      matrix(4 * units, input);
      matrix(4 * units, units);
      add(Float32Array.from({ length: 4 * units }, number));
    }
    if (kind === abi.LAYER_DENSE) {
      matrix(units, input);
      add(Float32Array.from({ length: units }, number));
    }
  }
  return Buffer.concat(blocks);
}

/** One to four changes; the checksum, and mostly the length, are made right again. `keepsLength`: only changes that leave the length. */
export function mutate(file: Uint8Array, other: Uint8Array, next: Seeded, keepsLength = false): Uint8Array {
  let mutant: Uint8Array = file.slice();
  for (let count = 1 + next.below(4); count > 0; count--) {
    try {
      const copy = mutant.slice();
      const changed = next.pick(changes)(copy, next, other) ?? copy;
      if (!keepsLength || changed.length === file.length) mutant = changed;
    } catch (error) {
      // What an earlier change has moved outside the file cannot be changed further.
      if (!(error instanceof RangeError)) throw error;
    }
  }
  if (mutant.length >= HEADER_BYTES) {
    if (next.below(3) > 0) setHeader(mutant, "fileBytes", mutant.length);
    if (next.below(20) > 0) repair(mutant);
  }
  return mutant;
}
