// Executed ARM64 instructions a text, counted in an emulator, whatever else the machine does:
//   node bench/arm.mjs [--snips FILE.elb] [--linear FILE.wasm] [--fast FILE.wasm] [--only NAME] [--processor NAME]
// Start-up and compilation drop out of the difference of two runs on the same texts, of which the longer one answers
// them more often. Ours are the whole program, from a line of standard input to a line of output; the peers compute
// scores from ids, and get neither text nor tokenizer. The models are those of `npm run bench`.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { packModel } from "../build/host/model/pack.js";
import { LARGE, SEED, randomIds, randomModel, textOf, writeForPeers } from "./models.mjs";
import { PROCESSORS, countingArm } from "./peers/arm.mjs";
import { nodePeers, pythonPeers } from "./peers/setup.mjs";
import { makeSnips, OTHER_RECIPES } from "./snips.mjs";
import { Worker, table } from "./turns.mjs";

const { values: options } = parseArgs({
  options: {
    snips: { type: "string" },
    linear: { type: "string" },
    fast: { type: "string" },
    only: { type: "string", default: "" },
    processor: { type: "string", default: Object.keys(PROCESSORS).join(",") },
  },
});
/** Texts of a run, and how often the two runs answer them. V8 compiles anew what has taken long, which is late where a text takes little. */
const TEXTS = { seed: 200, large: 50, snips: 200 };
const PASSES = { wasmtime: [1, 3], node: [10, 20], nodeOther: [100, 300], peer: [1, 11] };
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const data = here("../../shared/data/snips");
const folder = mkdtempSync(join(tmpdir(), "edgelabel-arm-"));

/** Runs a counting command; { count, output }. */
function counted(env, [program, ...first], args, input = "") {
  const { status, signal, stdout, stderr } = spawnSync(program, [...first, ...args], {
    input,
    encoding: "utf8",
    env: { ...process.env, ...env },
    maxBuffer: 1 << 28,
  });
  const count = Number(/instructions (\d+)/.exec(stderr)?.[1]);
  const said = stderr.split("\n").filter((line) => line && !line.startsWith("instructions"));
  if (status !== 0 || !(count > 0)) throw new Error(`${signal ?? `exit ${status}`}: ${said.at(-1) ?? "no message"}`);
  return { count, output: stdout };
}

/** Instructions of one pass, of a program that runs so many of them. */
function difference([few, many], run) {
  return (run(many).count - run(few).count) / (many - few);
}

/** Thousands a text, or why there is no figure. */
function shown({ texts }, measure) {
  try {
    return (measure() / texts.length / 1000).toFixed(1);
  } catch (error) {
    return error.message.replaceAll("|", "/").slice(0, 160);
  }
}

/** Our program, from line to line, in one of PASSES' runtimes. */
function ours(arm, model, form, runtime) {
  const file = model.files[form];
  if (file === undefined) return "";
  const input = model.texts.map((text) => `${text}\n`).join("");
  const compiled = join(folder, "model.cwasm");
  return shown(model, () => {
    if (runtime === "wasmtime") counted(arm.env, arm.wasmtime, ["compile", file, "-o", compiled]);
    const [program, args] =
      runtime === "wasmtime"
        ? [arm.wasmtime, ["run", "--allow-precompiled", compiled]]
        : [arm.node, ["--single-threaded", here("../bin/edgelabel.js"), "predict", file]];
    const pair = runtime === "node" && OTHER_RECIPES.includes(form) ? PASSES.nodeOther : PASSES[runtime];
    return difference(pair, (passes) => {
      const result = counted(arm.env, program, args, input.repeat(passes));
      if (result.output.split("\n").length !== passes * model.texts.length + 1) throw new Error("lines are missing");
      return result;
    });
  });
}

/** Name, contender of peers.py, which writes the file, end of that file's name, command line. */
const PEERS = [
  ["LiteRT dynamic int8, unrolled", "litert-int8", "unrolled.int8.tflite"],
  ["LiteRT dynamic int8, fused", "litert-fused-int8", "fused.int8.tflite"],
  ["LiteRT f32, unrolled", "litert-f32", "unrolled.f32.tflite"],
  ["LiteRT f32, fused", "litert-fused-f32", "fused.f32.tflite"],
  ["ONNX Runtime int8, Python", "onnx-int8", "int8.onnx"],
  ["ONNX Runtime f32, Python", "onnx-f32", "onnx"],
  ["ONNX Runtime int8, node", "onnx-int8", "int8.onnx"],
  ["ONNX Runtime f32, node", "onnx-f32", "onnx"],
];

/** A peer, which must give the scores that it gives on this machine. */
function peer(arm, model, [name, contender, suffix]) {
  return shown(model, () => {
    const { ok, error, scores } = model.peers.get(contender);
    if (!ok) throw new Error(error);
    const [program, args] = name.endsWith("node")
      ? [arm.node, ["--single-threaded", here("peers/arm-node.mjs"), nodePeers().folder]]
      : [arm.python, [here("peers/arm.py"), contender.split("-")[0]]];
    const files = [join(folder, `${model.name}.${suffix}`), join(folder, `${model.name}.json`)];
    return difference(PASSES.peer, (passes) => {
      const result = counted(arm.env, program, [...args, ...files, String(model.texts.length), String(passes)]);
      const found = JSON.parse(result.output);
      if (!found.every((score, i) => Math.abs(score - scores[0][i]) < 0.05))
        throw new Error(`other scores than on this machine: ${found.join(" ")}`);
      return result;
    });
  });
}

/** Writes models of random weights: an LSTM, also for the peers, and the fast recipe's cell in its place. */
async function random(shape) {
  const model = await randomModel(shape);
  const fast = await randomModel({ ...shape, cell: "mingru" });
  const ids = randomIds(shape, TEXTS[shape.name]);
  const inputTexts = ids.map(textOf);
  writeForPeers(folder, { ...shape, pooled: false, ids, inputTexts }, model.tensors);
  const files = {};
  for (const [form, elb] of [
    ["int8", model.write("int8")],
    ["f32", model.write("f32")],
    ["fast", fast.write("int8")],
  ]) {
    files[form] = join(folder, `${shape.name}.${form}.wasm`);
    writeFileSync(files[form], await packModel(elb));
  }
  return { name: shape.name, texts: inputTexts, files };
}

/** Trains what was not given. */
async function snips() {
  await makeSnips(folder, data, { ...options, default: options.snips });
  const { texts } = JSON.parse(readFileSync(join(folder, "snips.json"), "utf8"));
  const files = { int8: join(folder, "snips.wasm"), f32: join(folder, "snips.f32.wasm") };
  writeFileSync(files.f32, await packModel(readFileSync(join(folder, "snips.f32.elb"))));
  for (const recipe of OTHER_RECIPES) files[recipe] = join(folder, `snips.${recipe}.wasm`);
  return { name: "snips", texts: texts.slice(0, TEXTS.snips), files };
}

/** Writes the peers' files of all models, and keeps the scores that they have here. */
async function convert(models) {
  const contenders = new Set(PEERS.filter(([name]) => name.includes(options.only)).map(([, contender]) => contender));
  if (contenders.size === 0) return;
  const worker = new Worker(pythonPeers().python, [here("peers/peers.py")]);
  for (const model of models) {
    model.peers = new Map();
    for (const contender of contenders)
      model.peers.set(contender, await worker.ask({ op: "load", folder, model: model.name, contender }));
  }
  worker.end();
}

try {
  const models = [await random(SEED), await random(LARGE), await snips()];
  await convert(models);
  for (const processor of options.processor.split(",")) {
    const { board } = PROCESSORS[processor];
    const arm = countingArm(processor);
    const rows = [
      ...["int8", "f32", ...OTHER_RECIPES].flatMap((form) =>
        ["wasmtime", "node"].map((runtime) => [
          `**edgelabel ${OTHER_RECIPES.includes(form) ? `\`--recipe ${form}\`` : form}, ${runtime}**`,
          (model) => ours(arm, model, form, runtime),
        ]),
      ),
      ...PEERS.map((each) => [each[0], (model) => peer(arm, model, each)]),
    ];
    const cells = [];
    for (const [name, cell] of rows) {
      if (!name.includes(options.only)) continue;
      process.stderr.write(`${processor}: ${name}\n`);
      cells.push([name, ...models.map(cell)]);
    }
    process.stdout.write(
      `${processor}, as of a ${board}\n\n${table(["", ...models.map(({ name }) => name)], cells)}\n\n`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
