// `edgelabel export` as a process: its three files, what it says, what it refuses; and what `import`
// says of a fastText model.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { edgelabel, json, LAMPS, SMALL } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-export-"));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  for (const name of ["keras", "onnx", "int8", "taken"]) mkdirSync(at(name));
  writeFileSync(at("lamps.tsv"), LAMPS.join(""));
  await json("train", at("lamps.tsv"), "-o", at("lamps.elb"), "--set", "ngram-buckets=256", ...SMALL);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("writes model, words and labels, and names what is not in them", async () => {
  const report = await json("export", at("lamps.elb"), "-o", at("keras", "lamps.keras"));
  const files = ["lamps.keras", "tokenizer.json", "labels.json"].map((name) => at("keras", name));
  expect(report.files).toEqual(files.map((file) => ({ file, bytes: readFileSync(file).length })));
  expect(JSON.parse(readFileSync(at("keras", "labels.json"), "utf8"))).toEqual(["off", "on"]);
  expect(report.pad_sequences).toEqual({ maxlen: 256, padding: "pre", truncating: "pre" });
  expect(report.changed).toEqual([]);
  expect(report.left_out).toEqual([
    "the linear part: the scores are those of the network alone; train with --set linear=false for a model without one",
    "256 n-gram rows: words outside the vocabulary are dropped, not read by their parts",
    "scripts without spaces: Keras' Tokenizer takes what stands between two spaces for a word, not each letter or pair",
    "cleaning: normalize, compose, punctuation",
    "the state to resume training",
  ]);
  const { layers } = await json("info", at("lamps.elb"));
  await json(
    "import",
    at("keras", "lamps.keras"),
    "--tokenizer",
    files[1]!,
    "--labels",
    files[2]!,
    "-o",
    at("back.elb"),
  );
  const back = (await json("info", at("back.elb"))).layers;
  expect(back.map(({ kind, output }: Layer) => [kind, output])).toEqual(
    layers.map(({ kind, output }: Layer) => [kind, output]),
  );
});

interface Layer {
  kind: string;
  output: number;
}

test("writes ONNX with the same words beside it", async () => {
  await json("export", at("lamps.elb"), "-o", at("onnx", "lamps.onnx"));
  expect(readFileSync(at("onnx", "lamps.onnx")).includes("LSTM")).toBe(true);
  for (const name of ["tokenizer.json", "labels.json"])
    expect(readFileSync(at("onnx", name)).equals(readFileSync(at("keras", name)))).toBe(true);
});

test("says what becomes of int8 weights, of a temperature and of a rule", async () => {
  const calibrated = ["--valid", at("lamps.tsv"), "--unknown", "0.05"];
  await json("train", at("lamps.tsv"), "-o", at("lamps.wasm"), ...SMALL, ...calibrated);
  const { code, stdout } = await edgelabel(["export", at("lamps.wasm"), "-o", at("int8", "lamps.onnx")]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^changed: temperature [\d.]+: divides the last layer's weights$/m);
  expect(stdout).toMatch(/^changed: int8 weights: f32 numbers/m);
  expect(stdout).toMatch(/^left out: rule for unknown texts: /m);
  expect(stdout).toMatch(/^ids: pad_sequences\(…, maxlen=256, padding="pre", truncating="pre"\)$/m);
});

test("replaces no tokenizer.json of another model, and writes nothing then", async () => {
  writeFileSync(at("taken", "tokenizer.json"), "{}");
  const { code, stderr } = await edgelabel(["export", at("lamps.elb"), "-o", at("taken", "lamps.keras")]);
  expect([code, stderr]).toEqual([
    1,
    `edgelabel: ${at("taken", "tokenizer.json")}: is there already, of another model; export into another folder, or remove it\n`,
  ]);
  expect(existsSync(at("taken", "lamps.keras"))).toBe(false);
});

test("another ending is misuse", async () => {
  const { code, stderr } = await edgelabel(["export", at("lamps.elb"), "-o", at("lamps.tflite")]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("must end in .keras or .onnx")]);
});

test("import names a fastText model, and demands the parts of any other one", async () => {
  writeFileSync(at("model.bin"), Buffer.of(0xba, 0x16, 0x4f, 0x2f, 12, 0, 0, 0));
  const fastText = await edgelabel(["import", at("model.bin"), "-o", at("m.elb")]);
  expect([fastText.code, fastText.stderr]).toEqual([1, expect.stringContaining("model.bin: a fastText model")]);
  const parts = ["--tokenizer", at("keras", "tokenizer.json"), "--labels", at("keras", "labels.json")];
  expect((await edgelabel(["import", at("model.bin"), ...parts, "-o", at("m.elb")])).stderr).toBe(fastText.stderr);
  for (const [missing, given] of [
    ["--tokenizer", parts.slice(2)],
    ["--labels", parts.slice(0, 2)],
  ] as const) {
    const bare = await edgelabel(["import", at("keras", "lamps.keras"), ...given, "-o", at("m.elb")]);
    expect([bare.code, bare.stderr]).toEqual([2, `error: required option '${missing} <file>' not specified\n`]);
  }
});
