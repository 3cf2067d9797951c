// Exports, read back by our own import: the same layers, weights, words and scores. Whether Keras
// and onnxruntime agree is in test/long/export.test.ts.
import { readFileSync } from "node:fs";
import { strFromU8, strToU8, unzipSync, zipSync } from "fflate";
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import { exportModel } from "../../../host/commands/export.ts";
import { readKerasModel } from "../../../host/keras/archive.ts";
import { readTokenizerJson, writeTokenizerJson } from "../../../host/keras/tokenizer-json.ts";
import { Calibrator } from "../../../host/training/calibrator.ts";
import { GOLDEN_MODELS, importGolden } from "../../support/golden.ts";
import { buildSpec, importBack, SPECS } from "../../support/exported.ts";
import { loadFile, scoresOf, trainTiny } from "../../support/models.ts";
import { describeShared, sharedPath } from "../../support/shared.ts";
import { loadWasm } from "../../support/wasm.ts";

/** Scores of each text; none when the file does not load. */
function scoresIn(file: Uint8Array, texts: readonly string[]): Float32Array[] {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, file)).toBe(abi.OK);
  return texts.map((text) => scoresOf(wasm, text));
}

describeShared("an imported model", () => {
  test.each(GOLDEN_MODELS)("%s: export and import give the same file", async (name) => {
    const elb = await importGolden(name);
    const back = await importBack(await exportModel(elb, name, "model.keras"), name);
    expect(Buffer.compare(back, elb)).toBe(0);
  });

  test("has its numbers described as Keras describes them", async () => {
    const [name] = GOLDEN_MODELS;
    const weightsIn = (network: Uint8Array) => Buffer.from(unzipSync(network)["model.weights.h5"]!);
    const theirs = weightsIn(readFileSync(sharedPath("golden", name!, "model.keras")));
    const ours = weightsIn((await exportModel(await importGolden(name!), name!, "model.keras")).network);
    // Version 1 of a floating-point type, little-endian, its sign in bit 31.
    const start = theirs.indexOf(Uint8Array.of(0x11, 0x20, 0x1f, 0));
    expect(start).toBeGreaterThan(0);
    expect(ours.includes(theirs.subarray(start, start + 20))).toBe(true);
  });

  test.each(["char", "filters", "keepcase", "oov", "seed"])(
    "tokenizer-%s: export and import give the same words",
    (name) => {
      const rows = 100_000;
      const tokenizer = readTokenizerJson(
        readFileSync(sharedPath("golden", `tokenizer-${name}`, "tokenizer.json"), "utf8"),
        name,
        rows,
      );
      expect(readTokenizerJson(writeTokenizerJson(tokenizer), name, rows)).toEqual(tokenizer);
    },
  );
});

test("an id without a word, which Keras leaves when the texts hold the unknown word, stays without one", () => {
  const tokenizer = { lower: true, charLevel: false, filters: "", split: " ", unknownId: 2, words: [" ", "oov", "a"] };
  const { config } = JSON.parse(writeTokenizerJson(tokenizer)) as { config: Record<string, string> };
  expect(JSON.parse(config["word_index"]!)).toEqual({ oov: 2, a: 3 });
  expect(config["oov_token"]).toBe("oov");
});

const TEXTS = [
  "light",
  "lamp rain",
  "",
  '7 7 7 lamp ü light rain 7 light a"b',
  "__proto__ rain",
  "none of these",
  "rain x ü",
];

const names = Object.keys(SPECS) as (keyof typeof SPECS)[];

describe.each(names)("a model with %s", (name) => {
  test("is the same file after export and import", async () => {
    const elb = await buildSpec(name);
    const exported = await exportModel(elb, name, "model.keras");
    expect(Buffer.compare(await importBack(exported), elb)).toBe(0);
    const again = await exportModel(elb, name, "model.keras");
    expect(Buffer.compare(again.network, exported.network)).toBe(0);
  });
});

test("a temperature becomes part of the last weights: other weights, the same bits of the scores", async () => {
  for (const name of ["one sigmoid", "stack"] as const) {
    const calibrator = await Calibrator.open(await buildSpec(name), name);
    calibrator.change(1.7, { score: 0, margin: 0, unknown_share: 1 });
    const elb = calibrator.file();
    const back = await importBack(await exportModel(elb, name, "model.keras"));
    expect(scoresIn(back, TEXTS)).toEqual(scoresIn(elb, TEXTS));
    expect(scoresIn(await buildSpec(name), TEXTS)).not.toEqual(scoresIn(elb, TEXTS));
  }
});

test("int8 weights are exported as the f32 numbers that they stand for", async () => {
  const trainer = await trainTiny();
  const texts = ["turn on the light", "play some jazz", "will it rain"];
  const elb = trainer.write("int8-weights");
  const back = await importBack(await exportModel(elb, "tiny", "model.keras"));
  expect(scoresIn(back, texts)).toEqual(scoresIn(elb, texts));
  // The integer form has the same weights.
  const int8 = await exportModel(trainer.write("int8"), "tiny", "model.keras");
  expect(unzipSync(int8.network)["model.weights.h5"]).toEqual(
    unzipSync((await exportModel(elb, "tiny", "model.keras")).network)["model.weights.h5"],
  );
});

test("a model of the default recipe gives the same scores for words that it knows", async () => {
  const elb = (await trainTiny()).write("f32");
  const exported = await exportModel(elb, "tiny", "model.keras");
  const texts = ["turn on the light", "play some jazz", "will it rain in paris tomorrow", "the", ""];
  expect(scoresIn(await importBack(exported), texts)).toEqual(scoresIn(elb, texts));
  // Without the rows of n-grams, which Keras could not look up.
  expect(readKerasModel(exported.network, "m").rows).toBe(exported.info.tokenizer.words + 1);
  expect(unzipSync(exported.network)["model.weights.h5"]!.length).toBeLessThan(elb.length);
});

describe("a pool in a Keras file", () => {
  type Layers = Record<string, any>[];
  async function changed(spec: keyof typeof SPECS, change: (layers: Layers) => void): Promise<Uint8Array> {
    const { network } = await exportModel(await buildSpec(spec), spec, "model.keras");
    const entries = unzipSync(network);
    const root = JSON.parse(strFromU8(entries["config.json"]!)) as { config: { layers: Layers } };
    change(root.config.layers);
    return zipSync({ ...entries, "config.json": strToU8(JSON.stringify(root)) });
  }
  const layer = (layers: Layers, name: string) => layers.find((each) => each["name"] === name)!;

  test("is over the steps, Keras' axis 1", async () => {
    await changed("masked max and mean", (layers) => {
      expect(layer(layers, "pool_shares")).toMatchObject({ class_name: "Softmax", config: { axis: 1 } });
      expect(layer(layers, "pool_sum")).toMatchObject({ class_name: "Dot", config: { axes: 1 } });
    });
  });

  test("may have what Keras adds when it saves it again", async () => {
    const bytes = await changed("masked max and mean", (layers) => {
      for (const each of layers)
        Object.assign(each["config"], { trainable: true, dtype: { config: { name: "float32" } } });
      layer(layers, "pool_shares")["inbound_nodes"][0].kwargs = { mask: null };
    });
    expect(readKerasModel(bytes, "m").layers.map(({ kind }) => kind)).toContain(abi.LAYER_POOL);
  });

  test.each<[string, string, (layers: Layers) => void]>([
    ["another number", "branches after", (layers) => (layer(layers, "pool_scale")["config"].scale = 1)],
    ["another class", "branches after", (layers) => (layer(layers, "pool_padding")["class_name"] = "Add")],
    ["another order", "branches after", (layers) => layer(layers, "pool")["inbound_nodes"][0].args[0].reverse()],
    [
      "a call with a mask",
      "branches after",
      (layers) => (layer(layers, "pool_any")["inbound_nodes"][0].kwargs = { mask: 1 }),
    ],
    [
      "a layer more",
      "branches after",
      (layers) => layers.push({ ...layers[1], name: "pool_more", config: { name: "pool_more" } }),
    ],
    [
      "half precision",
      'layer "pool_states" (Add) dtype="float16"',
      (layers) => (layer(layers, "pool_states")["config"].dtype = "float16"),
    ],
    [
      "no mask before it",
      "pools over tokens, other than the mask",
      (layers) => (layer(layers, "embedding")["config"].mask_zero = false),
    ],
  ])("is refused with %s", async (_, message, change) => {
    const bytes = await changed("masked max and mean", change);
    expect(() => readKerasModel(bytes, "m")).toThrow(message);
  });

  test("is refused when it pools over all steps of a masked sequence", async () => {
    const bytes = await changed("max and mean", (layers) => (layer(layers, "embedding")["config"].mask_zero = true));
    expect(() => readKerasModel(bytes, "m")).toThrow("pools over all steps, other than the mask");
  });
});
