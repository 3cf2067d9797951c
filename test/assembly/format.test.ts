// assembly/FORMAT.md against the code: its hex block is a file that loads and that the
// trainer writes, its offsets are the compiler's, its codes and limits are abi.ts's.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import { Classifier } from "../../host/model/classifier.ts";
import {
  crc32,
  defects,
  documentedFile,
  headerFields,
  headerValue,
  layerFields,
  parts,
  partAt,
  setHeader,
  settingsFields,
  withParts,
  withStrings,
  type Field,
} from "../support/model-file.ts";
import { smallestModel } from "../support/models.ts";
import { loadWasm, put } from "../support/wasm.ts";

const wasm = loadWasm("testing");
const page = readFileSync(fileURLToPath(new URL("../../assembly/FORMAT.md", import.meta.url)), "utf8");

describe("the tables of offsets", () => {
  test.each<[string, Field[], string]>([
    ["Header", headerFields, "HEADER"],
    ["Layer", layerFields, "LAYER"],
    ["Settings", settingsFields, "SETTINGS"],
  ])("%s is the struct, field by field", (_, documented, prefix) => {
    const compiled = Object.entries(wasm)
      .filter(([name]) => name.startsWith(`${prefix}_`) && name !== `${prefix}_BYTES`)
      .map(([name, global]) => [name.slice(prefix.length + 1), (global as unknown as WebAssembly.Global).value]);
    expect(documented.map(({ name, offset }) => [name, offset])).toEqual(compiled);
  });

  test("sizes", () => {
    expect([wasm["HEADER_BYTES"].value, wasm["LAYER_BYTES"].value, wasm["SETTINGS_BYTES"].value]).toEqual([
      128, 32, 128,
    ]);
  });
});

describe("the file in hex", () => {
  const file = documentedFile();

  test("is what the trainer writes", async () => {
    expect(await smallestModel()).toEqual(file);
  });

  test("loads and answers as the page says", async () => {
    const classifier = await Classifier.fromBytes(file, "FORMAT.md");
    expect(classifier.classify("hi", 0)).toEqual({
      label: "yes",
      score: 0.684844,
      scores: { yes: 0.684844, no: 0.315156 },
    });
    expect(classifier.classify("", 0)).toEqual({
      label: "no",
      score: 0.731059,
      scores: { no: 0.731059, yes: 0.268941 },
    });
    expect(page).toContain("gets `yes` with 0.684844");
    expect(page).toContain("gets `no` with 0.731059");
  });

  test("its parts cover it", () => {
    const last = parts(file).at(-1)!;
    expect(last.offset + last.length).toBe(file.length);
    expect(headerValue(file, "checksum")).toBe(crc32(file.subarray(16)));
  });

  test("no shorter file than 368 bytes loads, and one of 368 does", async () => {
    expect(page).toContain("no file is shorter than 368 bytes");
    const copy = withParts(withStrings(file, "word", []), { split: new Uint8Array() });
    setHeader(copy, "tokenizerFlags", abi.TOKENIZER_CHAR_LEVEL);
    const shortest = withParts(copy, { filters: new Uint8Array() });
    expect(shortest.length).toBe(368);
    expect((await Classifier.fromBytes(shortest, "shortest")).classify("x").label).toBe("no");
    // Every part of it has its least length: no text, two labels, three layers, one channel.
    expect(parts(shortest).map(({ length }) => length)).toEqual([0, 0, 0, 0, 4, 0, 12, 5, 96, 96, 0, 0]);
    expect(partAt(shortest, "weights").offset).toBe(272);
  });
});

test("the engine's CRC-32 is the usual one", () => {
  const bytes = new TextEncoder().encode("123456789");
  expect(wasm["crc32"](put(wasm, bytes), bytes.length, 0) >>> 0).toBe(0xcbf43926);
  expect(crc32(bytes)).toBe(0xcbf43926);
});

test("the defect table names statuses of abi.ts, and all that concern files", () => {
  const constants = abi as unknown as Record<string, number>;
  const named = new Set(defects.map(({ status }) => status));
  for (const status of named) expect(constants[status], status).toBeGreaterThan(0);
  const ofFiles = Object.keys(constants).filter(
    (name) => name.startsWith("ERR_BAD_") && !["ERR_BAD_STATE", "ERR_BAD_ARGUMENT", "ERR_BAD_VECTORS"].includes(name),
  );
  expect(ofFiles.filter((name) => !named.has(name))).toEqual([]);
});

test("the page's numbers are abi.ts's", () => {
  for (const [text, value] of [
    ["1 ... 4096, T", abi.MAX_SEQUENCE],
    ["0 ... 1048575", abi.MAX_ROWS - 1],
    ["1 ... 1024. Embedding", abi.MAX_WIDTH],
    ["at most 2097152", 2 * abi.MAX_ROWS],
    ["3 ... 16", abi.MAX_LAYERS],
    ["2 ... 1024, K", abi.MAX_LABELS],
    ["1 ... 8; 0", abi.MAX_NGRAM],
    ["text | 8192 * 2^20", abi.MAX_TEXT_WORK],
    ["65 T with buckets", abi.MAX_NGRAMS_PER_WORD + 1],
    ["at most 64 of them", abi.MAX_NGRAMS_PER_WORD],
    ["at most 262144", abi.MAX_LABELS * abi.MAX_LABEL_BYTES],
    ["Words are 1 ... 4096", abi.MAX_WORD_BYTES],
  ] as const) {
    expect(page).toContain(text);
    expect(text).toContain(String(value));
  }
  expect(abi.MAX_LABELS).toBe(abi.MAX_WIDTH); // a label more than a Dense layer has units could not be scored
  const codes: Record<string, number> = {
    FORM_F32: 1,
    FORM_INT8: 2,
    FORM_INT8_WEIGHTS: 3,
    FORMAT_VERSION: 1,
    TOKENIZER_LOWER: 1,
    TOKENIZER_CHAR_LEVEL: 2,
    TOKENIZER_SPLIT_SCRIPTS: 4,
    TOKENIZER_PAD_POST: 8,
    TOKENIZER_TRUNCATE_POST: 16,
    TOKENIZER_LETTER_PAIRS: 32,
    CLEAN_MARKUP: 1,
    CLEAN_URLS: 2,
    CLEAN_NUMBERS: 4,
    CLEAN_REPEATS: 8,
    CLEAN_WIDTH: 16,
    CLEAN_ACCENTS: 32,
    CLEAN_COMPOSE: 64,
    CLEAN_NORMALIZE: 128,
    LAYER_EMBEDDING: 1,
    LAYER_LSTM: 2,
    LAYER_POOL: 3,
    LAYER_DENSE: 4,
    LAYER_DROPOUT: 5,
    LAYER_MASK_ZERO: 1,
    LAYER_BIDIRECTIONAL: 2,
    LAYER_SEQUENCES: 4,
    LAYER_POOL_MAX: 8,
    LAYER_POOL_MEAN: 16,
    LAYER_SPATIAL: 32,
    ACTIVATION_LINEAR: 0,
    ACTIVATION_SIGMOID: 1,
    ACTIVATION_TANH: 2,
    ACTIVATION_RELU: 3,
    ACTIVATION_SOFTMAX: 4,
    LOSS_BINARY_CROSSENTROPY: 1,
    LOSS_MEAN_SQUARED_ERROR: 2,
    LOSS_CATEGORICAL_CROSSENTROPY: 3,
    OPTIMIZER_SGD: 1,
    OPTIMIZER_ADAM: 2,
    OPTIMIZER_NESTEROV: 1,
    OPTIMIZER_AVERAGE: 4,
    OPTIMIZER_PER_TOKEN: 8,
    SCHEDULE_CONSTANT: 0,
    SCHEDULE_LINEAR: 1,
    SCHEDULE_COSINE: 2,
    FORMAT_MAGIC: 0x4d424c45,
  };
  // These numbers are in files that exist; a change here is a change of the format.
  for (const [name, value] of Object.entries(codes))
    expect([name, (abi as unknown as Record<string, number>)[name]]).toEqual([name, value]);
});
