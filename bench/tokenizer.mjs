// What cleaning by default costs: µs a text from its bytes to ids, on real test texts, for a model
// trained with `--set clean=none` and one with the default; the least of many turns in which both are
// read. Needs `npm run build && npm run build:testing`.
//   node bench/tokenizer.mjs [set ...] [--data ../shared/data] [--turns 200] [--testing build/testing.wasm]
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const built = (name) => fileURLToPath(new URL(`../build/${name}`, import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: "string", default: "../shared/data" },
    turns: { type: "string", default: "200" },
    testing: { type: "string", default: built("testing.wasm") },
  },
});
const sets = positionals.length ? positionals : ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"];
const folder = mkdtempSync(join(tmpdir(), "edgelabel-tokenizer-"));

/** Reads all texts with the tokenizer of a model that has been trained only for its vocabulary. */
function reader(set, name, texts, module, ...options) {
  const file = join(folder, `${set}.elb`);
  execFileSync(
    process.execPath,
    [
      built("host/main.js"),
      "train",
      `${values.data}/${set}/train.tsv`,
      "-o",
      file,
      "--epochs",
      "1",
      "--set",
      "units=1",
      "--set",
      "embedding-dim=1",
      ...options,
    ],
    { stdio: "ignore" },
  );
  const elb = readFileSync(file);
  const wasm = new WebAssembly.Instance(module, {
    env: {
      abort: () => {
        throw new Error("abort");
      },
    },
  }).exports;
  const put = (address, bytes) => new Uint8Array(wasm.memory.buffer).set(bytes, address);
  put(wasm.reserveModel(elb.length), elb);
  const status = wasm.loadModel(elb.length) || wasm.prepareReading();
  if (status !== 0) throw new Error(`${name}: status ${status}`);
  const encoded = texts.map((text) => Buffer.from(text));
  const bytes = Buffer.concat(encoded);
  const ends = encoded.reduce((list, { length }) => [...list, list.at(-1) + length], [0]);
  const [at, offsets] = [wasm.allocate(bytes.length), wasm.allocate(4 * ends.length)];
  put(at, bytes);
  new Uint32Array(wasm.memory.buffer, offsets, ends.length).set(ends);
  return { name, best: Infinity, read: () => wasm.loopTexts(at, offsets, texts.length, 0) };
}

console.log("| set | none, µs | default, µs | ratio |\n|---|--:|--:|--:|");
try {
  const module = new WebAssembly.Module(readFileSync(values.testing));
  for (const set of sets) {
    const texts = readFileSync(`${values.data}/${set}/test.tsv`, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => line.slice(line.indexOf("\t") + 1));
    const readers = [reader(set, "none", texts, module, "--set", "clean=none"), reader(set, "default", texts, module)];
    for (let turn = 0; turn < Number(values.turns); turn++) {
      for (const each of readers) {
        const started = performance.now();
        each.read();
        each.best = Math.min(each.best, ((performance.now() - started) * 1000) / texts.length);
      }
    }
    const [none, preset] = readers.map(({ best }) => best);
    console.log(`| ${set} | ${none.toFixed(3)} | ${preset.toFixed(3)} | ${(preset / none).toFixed(2)} |`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
