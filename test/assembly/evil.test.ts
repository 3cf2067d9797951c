// Hostile model files -> exactly the documented status, never a trap, and little memory.
// Every row of FORMAT.md's table of defects has its cases here. Then mechanical harm:
// truncation, bit flips, header fields. Seeded mutants are in test/long/mutants.test.ts.
import { beforeAll, describe, expect, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import { Loader, documented, engineBytes, engineModule, nameOf, start } from "../support/loader.ts";
import {
  HEADER_BYTES,
  defects,
  documentedFile,
  headerFields,
  headerValue,
  partAt,
  read,
  repair,
  setHeader,
  setLayer,
  withParts,
  withStrings,
  write,
} from "../support/model-file.ts";
import {
  Seeded,
  dense,
  dropout,
  embedding,
  lstm,
  makeModel,
  pool,
  minGru,
  trainSeveral,
  trainTiny,
  type ModelSpec,
} from "../support/models.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const TRAINING_HEAD = 128;

// --- files to harm ----------------------------------------------------------------

const smallest = documentedFile();
const random = new Seeded(7);
const weights = (_: number, length: number): Float32Array => random.floats(length, 0.5);
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
let f32: Uint8Array;
let int8: Uint8Array;
let int8Weights: Uint8Array;
let gru: Uint8Array; // the same with a minGRU, f32
let gru8: Uint8Array;
let training: Uint8Array;
let linear: Uint8Array; // with a linear part, f32
let several: Uint8Array; // several labels a text
let linear4: Uint8Array; // the same, 4 bits a weight

beforeAll(async () => {
  const model = await makeModel(spec, weights);
  f32 = model.write("f32");
  int8 = model.write("int8");
  int8Weights = model.write("int8-weights");
  const layers = spec.layers.map((one) => (one.kind === abi.LAYER_LSTM ? minGru(one.units!, one.flags) : one));
  const gated = await makeModel({ ...spec, layers }, weights);
  gru = gated.write("f32");
  gru8 = gated.write("int8");
  training = (await trainTiny({ embedding: 2, units: 2, epochs: 1 })).write("training");
  const tiny = await trainTiny({ embedding: 2, units: 2, epochs: 1, linear: true });
  linear = tiny.write("f32");
  linear4 = tiny.write("int8");
  several = (await trainSeveral({ embedding: 2, units: 2, epochs: 1 })).write("f32");
});

type Harm = (file: Uint8Array) => Uint8Array | void;

/** A harmed copy with a right checksum. */
function harmed(file: Uint8Array, harm: Harm): Uint8Array {
  const copy = file.slice();
  return repair(harm(copy) ?? copy);
}

const header = (name: string, ...values: number[]): Harm[] =>
  values.map((value) => (file) => setHeader(file, name, value));
const layer = (index: number, name: string, ...values: number[]): Harm[] =>
  values.map((value) => (file) => setLayer(file, index, name, value));
const bad = Uint8Array.of(0x61, 0xff);

/** Where the arrays of a linear part lie, by FORMAT.md. */
function linearAt(
  file: Uint8Array,
): Record<"pairs" | "squares" | "rows" | "scales" | "bias", number> & { count: number } {
  const { offset } = partAt(file, "linear");
  const labels = headerValue(file, "labelCount");
  const padded = (bytes: number): number => Math.ceil(bytes / 16) * 16;
  const pairCount = read(file, offset + 4, "u32");
  const count = headerValue(file, "wordCount") + read(file, offset, "u32") + pairCount;
  const pairs = offset + 32;
  const squares = pairs + padded(8 * pairCount);
  const rows = squares + padded(4 * count);
  const isF32 = headerValue(file, "form") === 1;
  const scales = rows + padded(isF32 ? 4 * labels * count : Math.ceil(labels / 2) * count);
  return { pairs, squares, rows, scales, bias: isF32 ? scales : scales + padded(4 * count), count };
}

// --- the table of defects -------------------------------------------------------------

interface Case {
  /** The file that is harmed; the smallest one when absent. */
  file?: () => Uint8Array;
  harms: Harm[];
  /** The harm is to the checksum or what it does not cover. */
  isRaw?: true;
}

/** Weights of the int8 file: V = 6, E = 3, so 18 values and then 6 scales. */
const scaleAt = (file: Uint8Array): number => partAt(file, "weights").offset + 32;

/** Words of 4 letters that all want slot 0 of a table of `slots`. */
function colliding(count: number, slots: number): Uint8Array[] {
  const words: Uint8Array[] = [];
  for (let i = 0; words.length < count; i++) {
    const word = [0, 6, 12, 18].map((shift) => 0x40 + ((i >> shift) & 63));
    let hash = 0x811c9dc5;
    for (const byte of word) hash = Math.imul(hash ^ byte, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    if (((hash ^ (hash >>> 16)) & (slots - 1)) === 0) words.push(Uint8Array.from(word));
    if (i >> 24) throw new Error("too few words");
  }
  return words;
}

const cases: Record<string, Case[]> = {
  "shorter than the header": [
    {
      harms: [(file) => file.subarray(0, 127), (file) => file.subarray(0, 1), (file) => file.subarray(0, 0)],
      isRaw: true,
    },
  ],
  "another magic": [{ harms: header("magic", 0, 0x4d424c44, 0x454c424d) }],
  "another version": [{ harms: header("version", 0, 2, 0xffffffff) }],
  "fileBytes is not the length of the file": [
    {
      harms: [
        ...header("fileBytes", 0, 127, 399, 401, 0xffffffff),
        (file) => Uint8Array.of(...file, 0),
        (file) => new Uint8Array(416).fill(0).map((_, i) => file[i] ?? 0),
      ],
    },
  ],
  "another checksum": [
    {
      harms: [
        ...header("checksum", 0, 0xffffffff),
        (file) => {
          file[399]! ^= 1;
        },
        (file) => {
          file[16]! ^= 1;
        },
      ],
      isRaw: true,
    },
  ],
  "unknown form": [{ harms: header("form", 0, 4, 0xffffffff) }],
  "a reserved word is not 0": [{ harms: [120, 124].map((at) => (file) => write(file, at, "u32", 1)) }],
  "training state in a quantized form": [
    { file: () => int8, harms: [(file) => withParts(file, { training: new Uint8Array(TRAINING_HEAD) })] },
    { file: () => int8Weights, harms: header("trainingBytes", 16) },
  ],
  "trainingBytes is not a multiple of 16, or 2^31 and more": [
    { harms: header("trainingBytes", 1, 24, 0x80000000, 0xfffffff0) },
  ],
  "weightBytes is 2^31 and more": [{ harms: header("weightBytes", 0x80000000, 0xffffffff) }],
  "temperature outside its range, or not a number": [
    { harms: header("temperature", 0, 0.0099, 100.1, -1, NaN, Infinity) },
  ],
  "a reject field or levels outside its range, or not a number": [
    {
      harms: ["rejectScore", "rejectMargin", "rejectUnknown", "levels"].flatMap((name) =>
        header(name, -0.001, 1.001, NaN, Infinity, -Infinity),
      ),
    },
  ],
  "cleaning has an unknown flag": [{ harms: header("cleaning", 512, 0x80000000) }],
  "multiLabel above 1, or together with rejectMargin or levels": [
    { harms: header("multiLabel", 2, 0xffffffff) },
    {
      file: () => several,
      harms: [0.25, 1].map(
        (margin): Harm =>
          (file) =>
            setHeader(file, "rejectMargin", margin),
      ),
    },
    { file: () => several, harms: header("levels", 0.25, 1) },
  ],
  "multiLabel, but no sigmoid for each label at the end": [
    // One unit for two labels, and a softmax.
    { harms: header("multiLabel", 1) },
    { file: () => several, harms: layer(5, "activation", 0, 2, 3, 4) },
  ],
  // One unit for two labels.
  "levels, but no softmax at the end": [{ harms: header("levels", 0.25, 1) }],
  "unknown tokenizer flag": [{ harms: header("tokenizerFlags", 64, 0x80000001) }],
  "sequenceLength outside its range": [{ harms: header("sequenceLength", 0, 4097, 0x80000000, 0xffffffff) }],
  "filterBytes or splitBytes above 4096": [
    {
      harms: [
        ...header("filterBytes", 4097, 0xffffffff),
        ...header("splitBytes", 4097, 0x80000001),
        (file) => withParts(file, { split: text("s".repeat(4097)) }),
      ],
    },
  ],
  "no separator, without CHAR_LEVEL": [
    { harms: [(file) => withParts(file, { split: new Uint8Array() }), ...header("splitBytes", 0)] },
  ],
  "unknownId above wordCount": [{ harms: header("unknownId", 2, 0xffffffff) }],
  "bucketCount above 1048576": [{ harms: header("bucketCount", 1048577, 0xffffffff) }],
  "ngramMin or ngramMax outside its range": [
    {
      harms: [
        ...header("ngramMin", 1),
        ...header("ngramMax", 1),
        ...[
          [0, 3],
          [4, 3],
          [3, 9],
          [0xffffffff, 0xffffffff],
        ].map(([min, max]): Harm => (file) => {
          setHeader(file, "bucketCount", 1);
          setHeader(file, "ngramMin", min!);
          setHeader(file, "ngramMax", max!);
        }),
      ],
    },
  ],
  "buckets together with unknownId": [
    {
      harms: [
        (file) => {
          for (const [name, value] of [
            ["bucketCount", 1],
            ["ngramMin", 3],
            ["ngramMax", 3],
            ["unknownId", 1],
          ] as const)
            setHeader(file, name, value);
        },
      ],
    },
  ],
  "LETTER_PAIRS without buckets, or without SPLIT_SCRIPTS": [
    {
      harms: [
        ...header("tokenizerFlags", 32, 36),
        (file) => {
          for (const [name, value] of [
            ["tokenizerFlags", 32],
            ["bucketCount", 1],
            ["ngramMin", 3],
            ["ngramMax", 3],
          ] as const)
            setHeader(file, name, value);
        },
      ],
    },
  ],
  "nameBytes or versionBytes above 4096": [
    {
      harms: [
        ...header("nameBytes", 4097, 0xffffffff),
        ...header("versionBytes", 4097),
        (file) => withParts(file, { name: text("n".repeat(4097)) }),
      ],
    },
  ],
  "wordCount or wordBytes outside its range": [
    { harms: [...header("wordCount", 1048576, 0xffffffff), ...header("wordBytes", 0x80000000, 0xffffffff)] },
  ],
  "labelCount or labelBytes outside its range": [
    { harms: [...header("labelCount", 0, 1, 1025, 0xffffffff), ...header("labelBytes", 262145)] },
  ],
  "layerCount outside its range": [{ harms: header("layerCount", 0, 2, 17, 0xffffffff) }],
  "the parts do not add up to the file": [
    {
      harms: [
        ...header("filterBytes", 1, 4096),
        ...header("wordCount", 1000, 1048575),
        ...header("wordBytes", 0x7fffffff, 17),
        ...header("labelBytes", 17, 262144),
        ...header("layerCount", 4, 16),
        ...header("weightBytes", 0, 95, 0x7fffffff),
        ...header("trainingBytes", 16, 0x7ffffff0),
        (file) => {
          const longer = Uint8Array.of(...file, ...new Uint8Array(16));
          setHeader(longer, "fileBytes", longer.length);
          return longer;
        },
      ],
    },
  ],
  "padding behind a string, a list of offsets or of strings is not 0": [
    {
      harms: ["split", "wordOffsets", "words", "labelOffsets", "labels"].flatMap((name) =>
        [0, 1].map((last): Harm => (file) => {
          const { offset, length } = partAt(file, name);
          file[last ? Math.ceil((offset + length) / 16) * 16 - 1 : offset + length] = 1;
        }),
      ),
    },
    {
      file: () => f32,
      harms: ["name", "version"].map((name) => (file) => {
        const { offset, length } = partAt(file, name);
        file[offset + length] = 0x20;
      }),
    },
  ],
  "filters or separator are not UTF-8": [
    {
      harms: [
        (file) => withParts(file, { filters: bad }),
        (file) => withParts(file, { split: bad }),
        (file) => withParts(file, { filters: Uint8Array.of(0xe4, 0xbb) }),
      ],
    },
  ],
  "name or version is not UTF-8, or has control characters": [
    {
      harms: ["name", "version"].flatMap((name) =>
        [bad, text("a\n"), text("\u007f"), Uint8Array.of(0), Uint8Array.of(0xed, 0xa0, 0x80)].map(
          (value): Harm =>
            (file) =>
              withParts(file, { [name]: value }),
        ),
      ),
    },
  ],
  "word offsets that do not rise from 0 to wordBytes": [
    {
      harms: [
        (file) => write(file, partAt(file, "wordOffsets").offset, "u32", 1),
        ...[0, 1, 3, 0xffffffff].map(
          (end): Harm =>
            (file) =>
              write(file, partAt(file, "wordOffsets").offset + 4, "u32", end),
        ),
        (file) => withStrings(file, "word", [text("hi"), text("")]),
        (file) => withParts(file, { words: text("hit") }),
      ],
    },
  ],
  "a word longer than 4096 bytes": [{ harms: [(file) => withStrings(file, "word", [text("w".repeat(4097))])] }],
  "a word is not UTF-8": [
    {
      harms: [
        (file) => withStrings(file, "word", [bad]),
        (file) => withStrings(file, "word", [Uint8Array.of(0xc0, 0x80)]),
      ],
    },
  ],
  "label offsets that do not rise from 0 to labelBytes": [
    {
      harms: [
        (file) => write(file, partAt(file, "labelOffsets").offset, "u32", 1),
        ...[0, 6, 0xffffffff].map(
          (end): Harm =>
            (file) =>
              write(file, partAt(file, "labelOffsets").offset + 4, "u32", end),
        ),
        (file) => write(file, partAt(file, "labelOffsets").offset + 8, "u32", 4),
        (file) => withStrings(file, "label", [text("a"), text("")]),
      ],
    },
  ],
  "a label longer than 256 bytes": [
    { harms: [(file) => withStrings(file, "label", [text("a"), text("l".repeat(257))])] },
  ],
  "a label is not UTF-8": [{ harms: [(file) => withStrings(file, "label", [text("a"), bad])] }],
  "a label with control characters": [
    {
      harms: ["a\tb", "a\n", "\u0000", "\u001b[2J", "\u007f"].map(
        (label): Harm =>
          (file) =>
            withStrings(file, "label", [text("a"), text(label)]),
      ),
    },
  ],
  "two equal labels": [
    { harms: [(file) => withStrings(file, "label", [text("no"), text("no")])] },
    { file: () => f32, harms: [(file) => withStrings(file, "label", [text("é"), text("a"), text("é")])] },
  ],
  "the first layer is not an Embedding, or another one is": [
    { harms: [...layer(0, "kind", 2, 3, 4, 5), ...layer(1, "kind", 1)] },
  ],
  "an Embedding with too few or too many rows": [{ harms: layer(0, "inputWidth", 0, 1, 2097153, 0xffffffff) }],
  "a layer of unknown kind, or with a flag, activation, rate or reserved word that it cannot have": [
    {
      harms: [
        ...layer(1, "kind", 0, 7, 0xffffffff),
        ...layer(0, "flags", 2, 0x80000000),
        ...layer(1, "flags", 1, 8, 32),
        ...layer(2, "flags", 1, 4),
        ...layer(0, "activation", 1),
        ...layer(1, "activation", 2),
        ...layer(2, "activation", 5, 0xffffffff),
        ...layer(1, "rate", 0.5, NaN),
        ...layer(2, "reserved", 1),
        ...layer(0, "reserved", 0x80000000),
      ],
    },
    {
      file: () => f32,
      harms: [...layer(1, "rate", 1, -0.1, NaN, Infinity), ...layer(1, "flags", 1, 64), ...layer(3, "flags", 0, 32)],
    },
  ],
  "a layer whose units or widths are outside their range or do not fit": [
    {
      harms: [
        ...layer(0, "units", 0, 2, 1025, 0xffffffff),
        ...layer(1, "units", 0, 1025, 0x40000001),
        ...layer(1, "inputWidth", 0, 2),
        ...layer(1, "outputWidth", 0, 2),
        ...layer(2, "inputWidth", 2),
        ...layer(2, "units", 0, 1025),
        ...layer(1, "flags", abi.LAYER_BIDIRECTIONAL),
      ],
    },
    {
      file: () => f32,
      harms: [
        ...layer(1, "units", 3),
        ...layer(3, "outputWidth", 6),
        ...layer(3, "units", 1),
        ...layer(2, "outputWidth", 3),
      ],
    },
  ],
  "a Dense layer on a sequence, or a sequence layer on a vector": [
    { harms: layer(1, "flags", abi.LAYER_SEQUENCES) },
    {
      file: () => f32,
      harms: [
        (file) => {
          setLayer(file, 4, "kind", 2);
          setLayer(file, 4, "activation", 0);
        },
      ],
    },
  ],
  "a Pool before the first recurrent layer": [
    {
      file: () => f32,
      harms: [
        (file) => {
          for (const [name, value] of [
            ["kind", 3],
            ["flags", 8],
            ["rate", 0],
          ] as const)
            setLayer(file, 1, name, value);
        },
      ],
    },
  ],
  "a last layer that is no Dense layer, or does not fit the labels": [
    {
      harms: [
        (file) => {
          setLayer(file, 2, "kind", 5);
          setLayer(file, 2, "units", 0);
          setLayer(file, 2, "activation", 0);
        },
        (file) => withStrings(file, "label", [text("a"), text("b"), text("c")]),
      ],
    },
    { file: () => f32, harms: [(file) => withStrings(file, "label", [text("a"), text("b")])] },
  ],
  "weightBytes is not what the layers need": [
    {
      harms: [
        (file) => withParts(file, { weights: new Uint8Array(80) }),
        (file) => withParts(file, { weights: new Uint8Array(112) }),
      ],
    },
    { file: () => f32, harms: header("form", 2, 3) },
    { file: () => int8, harms: header("form", 1) },
    { file: () => gru, harms: layer(2, "kind", abi.LAYER_LSTM) },
    { file: () => gru8, harms: layer(2, "kind", abi.LAYER_LSTM) },
  ],
  "a text could take too long, see Limits": [
    {
      harms: [
        (file) => {
          setHeader(file, "sequenceLength", 4096);
          setLayer(file, 0, "units", 1024);
          setLayer(file, 0, "outputWidth", 1024);
          setLayer(file, 1, "inputWidth", 1024);
          setLayer(file, 1, "units", 1024);
          setLayer(file, 1, "outputWidth", 1024);
          setLayer(file, 2, "inputWidth", 1024);
        },
      ],
    },
  ],
  "an f32 weight or bias that is not finite": [
    {
      harms: [0, 4, 16, 32, 48, 64, 80, 92].flatMap((at) =>
        [NaN, Infinity, -Infinity].map(
          (value): Harm =>
            (file) =>
              write(file, partAt(file, "weights").offset + at, "f32", value),
        ),
      ),
    },
    { file: () => int8, harms: [(file) => write(file, file.length - 16, "f32", NaN)] },
    {
      // Kernel and bias of each direction of the minGRU, behind an embedding of 80 bytes.
      file: () => gru,
      harms: [80, 160, 192, 272].map((at) => (file) => write(file, partAt(file, "weights").offset + at, "f32", NaN)),
    },
  ],
  "an s8 weight of -128": [
    {
      file: () => gru8,
      harms: [64, 81].map((at) => (file) => {
        file[partAt(file, "weights").offset + at] = 0x80;
      }),
    },
    {
      file: () => int8,
      harms: [0, 17, 64].map((at) => (file) => {
        file[partAt(file, "weights").offset + at] = 0x80;
      }),
    },
    {
      file: () => int8Weights,
      harms: [
        (file) => {
          file[partAt(file, "weights").offset + 5] = 0x80;
        },
      ],
    },
  ],
  "a scale that is 0, negative, infinite or not a number": [
    {
      file: () => int8,
      harms: [0, -0, -1, NaN, Infinity, -Infinity].flatMap((value) =>
        [0, 20].map(
          (at): Harm =>
            (file) =>
              write(file, scaleAt(file) + at, "f32", value),
        ),
      ),
    },
    { file: () => int8Weights, harms: [(file) => write(file, scaleAt(file), "f32", -1e-30)] },
    // Behind the embedding's 64 bytes come (6, 3) values, padded to 32, and six scales.
    { file: () => gru8, harms: [(file) => write(file, partAt(file, "weights").offset + 96, "f32", 0)] },
  ],
  "padding behind a tensor is not 0": [
    {
      file: () => gru,
      harms: [152, 184, 264, 296].map(
        (at): Harm =>
          (file) =>
            write(file, partAt(file, "weights").offset + at, "f32", 1),
      ),
    },
    {
      file: () => gru8,
      harms: [82, 120, 152].map((at): Harm => (file) => {
        file[partAt(file, "weights").offset + at] = 1;
      }),
    },
    {
      harms: [8, 12, 68, 84].map(
        (at): Harm =>
          (file) =>
            write(file, partAt(file, "weights").offset + at, "f32", 1),
      ),
    },
    {
      file: () => int8,
      harms: [18, 31, 56, 60].map((at): Harm => (file) => {
        file[partAt(file, "weights").offset + at] = 1;
      }),
    },
    {
      file: () => int8,
      harms: [1, 4].map((fromEnd): Harm => (file) => {
        file[file.length - fromEnd] = 1;
      }),
    },
  ],
  "linearBytes is 1 ... 31, or 2^31 and more": [{ harms: header("linearBytes", 1, 16, 31, 0x80000000, 0xffffffff) }],
  "a linear part, but neither a softmax over the labels at the end nor multiLabel": [
    { harms: [(file) => withParts(file, { linear: new Uint8Array(32) })] },
    { file: () => linear, harms: layer(5, "activation", 0, 1) },
  ],
  "more buckets in the linear part than in the header, too many pairs, strangeSquare or networkShare outside its range, or a reserved word that is not 0":
    [
      {
        file: () => linear,
        harms: [
          ...[65, 0xffffffff].map(
            (value) => (file: Uint8Array) => write(file, partAt(file, "linear").offset, "u32", value),
          ),
          ...[1048577, 0xffffffff].map(
            (value) => (file: Uint8Array) => write(file, partAt(file, "linear").offset + 4, "u32", value),
          ),
          ...[-1, 1.1e6, NaN, Infinity].map(
            (value) => (file: Uint8Array) => write(file, partAt(file, "linear").offset + 8, "f32", value),
          ),
          ...[-0.1, 1.1, NaN, Infinity].map(
            (value) => (file: Uint8Array) => write(file, partAt(file, "linear").offset + 12, "f32", value),
          ),
          ...[16, 20, 24, 28].map(
            (at) => (file: Uint8Array) => write(file, partAt(file, "linear").offset + at, "u32", 1),
          ),
        ],
      },
    ],
  "linearBytes is not what the linear part needs": [
    {
      file: () => linear,
      harms: [
        ...[0, 1048576].map(
          (value) => (file: Uint8Array) => write(file, partAt(file, "linear").offset + 4, "u32", value),
        ),
        (file) => write(file, partAt(file, "linear").offset, "u32", 63),
        (file) => {
          const { offset, length } = partAt(file, "linear");
          return withParts(file, { linear: file.slice(offset, offset + length - 16) });
        },
      ],
    },
  ],
  "a pair with a word that does not exist, or not behind the pair before": [
    {
      file: () => linear,
      harms: [
        ...[0, 4].flatMap((at) =>
          [0, 0xffffffff].map((value) => (file: Uint8Array) => write(file, linearAt(file).pairs + at, "u32", value)),
        ),
        (file) => write(file, linearAt(file).pairs, "u32", headerValue(file, "wordCount") + 1),
        (file) => void file.copyWithin(linearAt(file).pairs + 8, linearAt(file).pairs, linearAt(file).pairs + 8),
      ],
    },
  ],
  "a square of a row outside its range, or not a number": [
    {
      file: () => linear4,
      harms: [-1e-6, NaN, Infinity, 1.1e6].flatMap((value) => [
        (file: Uint8Array) => write(file, linearAt(file).squares, "f32", value),
        (file: Uint8Array) => write(file, linearAt(file).squares + 4 * (linearAt(file).count - 1), "f32", value),
      ]),
    },
  ],
  "padding in the linear part is not 0": [
    { file: () => linear, harms: [(file) => write(file, linearAt(file).bias + 12, "f32", 1)] },
    // Three labels have a byte and a half.
    {
      file: () => linear4,
      harms: [
        (file) => {
          file[linearAt(file).rows + 1]! |= 0x10;
        },
      ],
    },
  ],
  "a weight or bias of the linear part that is not finite, or a 4-bit weight of -8": [
    {
      file: () => linear,
      harms: [NaN, Infinity].flatMap((value) => [
        (file: Uint8Array) => write(file, linearAt(file).rows, "f32", value),
        (file: Uint8Array) => write(file, linearAt(file).bias + 8, "f32", value),
      ]),
    },
    {
      file: () => linear4,
      harms: [0x08, 0x80].map((value) => (file: Uint8Array) => {
        file[linearAt(file).rows] = value;
      }),
    },
  ],
  "a scale of the linear part that is 0, negative, infinite or not a number": [
    {
      file: () => linear4,
      harms: [0, -1, NaN, Infinity].map(
        (value) => (file: Uint8Array) => write(file, linearAt(file).scales, "f32", value),
      ),
    },
  ],
  "CHAR_LEVEL together with SPLIT_SCRIPTS": [{ harms: header("tokenizerFlags", 6) }],
  "SPLIT_SCRIPTS with a separator that holds a letter of these scripts": [
    {
      harms: [
        (file) => {
          setHeader(file, "tokenizerFlags", 4);
          return withParts(file, { split: text("中") });
        },
      ],
    },
  ],
  "two equal words": [
    { file: () => f32, harms: [(file) => withStrings(file, "word", ["a", "b", "a", "c", "d"].map(text))] },
  ],
  "words made to collide": [
    {
      harms: [
        (file) => {
          const words = withStrings(file, "word", colliding(1100, 4096));
          setLayer(words, 0, "inputWidth", 1101);
          return withParts(words, { weights: new Uint8Array(4416 + 80) });
        },
      ],
    },
  ],
};

describe("every row of FORMAT.md's table of defects", () => {
  test("has its cases here", () => {
    expect(new Set(defects.map(({ defect }) => defect))).toEqual(
      new Set([...Object.keys(cases), "legal, but memory is refused"]),
    );
    expect(defects.length).toBe(Object.keys(cases).length + 1);
  });

  test.each(defects.filter(({ defect }) => defect in cases))("$defect: $status", ({ defect, status }) => {
    const loader = new Loader();
    for (const { file = () => smallest, harms, isRaw } of cases[defect]!) {
      expect(loader.load(file())).toBe("OK");
      harms.forEach((harm, i) => {
        let broken: Uint8Array;
        if (isRaw) {
          const copy = file().slice();
          broken = harm(copy) ?? copy;
        } else broken = harmed(file(), harm);
        expect(`${i}: ${loader.load(broken)}`).toBe(`${i}: ${status}`);
      });
    }
  });

  test("legal, but memory is refused: ERR_OUT_OF_MEMORY", () => {
    // One page more at a time: refused as long as it is too little, then accepted for good.
    const statuses = Array.from({ length: 40 }, (_, i) => {
      const engine = start(withMostPages(i + 1));
      const address: number = engine["reserveModel"](f32.length);
      if (address === 0) return "ERR_OUT_OF_MEMORY";
      new Uint8Array(engine.memory.buffer).set(f32, address);
      const status = nameOf(engine["loadModel"](f32.length));
      if (status !== "OK") expect([engine["renderLine"](false, 0), engine["renderCard"]()]).toEqual([0, 0]);
      return status;
    });
    const accepted = statuses.indexOf("OK");
    expect(accepted).toBeGreaterThanOrEqual(16); // the text buffer alone takes 16
    expect(statuses).toEqual(statuses.map((_, i) => (i < accepted ? "ERR_OUT_OF_MEMORY" : "OK")));
  });

  test("lengths that no file has", () => {
    const engine = start(engineModule);
    expect([engine["reserveModel"](0x7fffffff), engine["reserveModel"](0xffffffff)]).toEqual([0, 0]);
    expect([0xffffffff, 0x80000000, 17].map((length) => nameOf(engine["loadModel"](length)))).toEqual([
      "ERR_NO_MODEL",
      "ERR_NO_MODEL",
      "ERR_NO_MODEL",
    ]);
    expect(nameOf(engine["loadModel"](0))).toBe("ERR_BAD_LENGTH");
    expect(nameOf(engine["loadEmbedded"]())).toBe("ERR_NO_MODEL");
    expect([
      engine["renderLine"](true, 0),
      engine["renderCard"](),
      engine["labelPtr"](0),
      engine["bestLabel"](),
    ]).toEqual([0, 0, 0, 0]);
  });
});

/** The engine with a memory of at most `pages`: its memory section is 01 00 <least>. */
function withMostPages(pages: number): WebAssembly.Module {
  for (let at = 8; at < engineBytes.length;) {
    let length = 0;
    let body = at + 1;
    for (let shift = 0; ; shift += 7) {
      const byte = engineBytes[body++]!;
      length += (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (engineBytes[at] === 5) {
      expect([...engineBytes.subarray(body, body + length)]).toEqual([1, 0, 1]);
      return new WebAssembly.Module(
        Uint8Array.of(...engineBytes.subarray(0, at), 5, 4, 1, 1, 1, pages, ...engineBytes.subarray(body + length)),
      );
    }
    at = body + length;
  }
  throw new Error("engine.wasm has no memory section");
}

// --- mechanical harm ------------------------------------------------------------------

const engineOffset = (name: string): number => headerFields.find((field) => field.name === name)!.offset;

test("cut off at every byte: ERR_BAD_LENGTH, also with the length and the checksum made right", () => {
  const loader = new Loader();
  for (let length = 0; length < smallest.length; length++) {
    expect(`${length}: ${loader.load(smallest.slice(0, length))}`).toBe(`${length}: ERR_BAD_LENGTH`);
    if (length < HEADER_BYTES) continue;
    const cut = smallest.slice(0, length);
    setHeader(cut, "fileBytes", length);
    expect(`${length}: ${loader.load(repair(cut))}`).toBe(`${length}: ERR_BAD_LENGTH`);
  }
});

test("cut off at every byte: the int8 form", () => {
  const loader = new Loader();
  for (let length = 0; length < int8.length; length++)
    expect(loader.load(int8.slice(0, length))).toBe("ERR_BAD_LENGTH");
});

test("every single bit flipped", () => {
  const loader = new Loader();
  for (let bit = 0; bit < 8 * smallest.length; bit++) {
    const at = bit >> 3;
    const flipped = smallest.slice();
    flipped[at]! ^= 1 << (bit & 7);
    const expected =
      at < 4 ? "ERR_BAD_MAGIC" : at < 8 ? "ERR_BAD_VERSION" : at < 12 ? "ERR_BAD_LENGTH" : "ERR_BAD_CHECKSUM";
    const status = loader.load(flipped);
    if (status !== expected) expect(`bit ${bit}: ${status}`).toBe(`bit ${bit}: ${expected}`);
  }
});

test.each(["smallest", "f32", "int8", "weights only"])(
  "every single bit flipped, with the checksum made right: the %s file",
  (form) => {
    const file = form === "f32" ? f32 : form === "int8" ? int8 : form === "smallest" ? smallest : int8Weights;
    const weightsBegin = 8 * partAt(file, "weights").offset;
    const loader = new Loader();
    // Of the weights of larger files a sample will do: 7 is prime to 8, so all places of a byte are met.
    for (let bit = 0; bit < 8 * file.length; bit += form !== "smallest" && bit >= weightsBegin ? 7 : 1) {
      const flipped = file.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const status = loader.load(repair(flipped));
      if (!documented.has(status)) expect(`bit ${bit}: ${status}`).toBe("a documented status");
    }
    // Most bits are weights, so many files stay legal; what is structure is refused.
    expect(loader.counts.get("OK")).toBeGreaterThan(0);
    expect(loader.counts.size).toBeGreaterThan(8);
  },
);

const extremes = [0, 1, 2, 3, 15, 16, 17, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffff0, 0xffffffff];

test("every word of the header and of each layer at its extremes", () => {
  const loader = new Loader();
  for (const file of [smallest, f32, int8, int8Weights, training]) {
    const offsets = Array.from({ length: HEADER_BYTES / 4 }, (_, i) => 4 * i).filter(
      (at) => at !== engineOffset("checksum"),
    );
    const { offset, length } = partAt(file, "layers");
    for (let at = offset; at < offset + length; at += 4) offsets.push(at);
    for (const at of offsets) {
      const now = read(file, at, "u32");
      for (const value of [...extremes, now - 1, now + 1]) {
        const copy = file.slice();
        write(copy, at, "u32", value);
        const status = loader.load(repair(copy));
        if (!documented.has(status)) expect(`u32 ${value} at ${at}: ${status}`).toBe("a documented status");
      }
    }
  }
});
