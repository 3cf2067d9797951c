// Measures edgelabel and its peers: npm run bench [-- --rounds N --snips FILE.elb --only TEXT --report FILE.md]
// Same weights, same inputs, one thread each; the contenders are measured in turns, round by
// round, while all others sleep. First, the answers of each are compared with those of Keras.
// Prints tables in Markdown; --report also writes them to a file.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { packModel } from "../build/host/model/pack.js";
import { fetchWasmtime } from "../test/tools/fetch-wasmtime.mjs";
import { curves, memory } from "./curves.mjs";
import { LARGE, SEED, randomIds, randomModel, textOf, writeForPeers } from "./models.mjs";
import { nodePeers, pythonPeers } from "./peers/setup.mjs";
import { makeSnips, OTHER_RECIPES } from "./snips.mjs";
import { training } from "./training.mjs";
import { Worker, micro, spread, table, verdict } from "./turns.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    budget: { type: "string", default: "60" },
    snips: { type: "string" },
    linear: { type: "string" },
    fast: { type: "string" },
    only: { type: "string" },
    report: { type: "string" },
  },
});
const ROUNDS = Number(options.rounds);
const BUDGET_MS = Number(options.budget);
const only = options.only?.split(",");
const TEXTS = 500;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const data = here("../../shared/data/snips");

// --- contenders -------------------------------------------------------------------

/** name, worker, contender, least agreement with Keras: largest difference of a score (null: it has other weights) */
const FORWARD = [
  ["**edgelabel int8, node**", "ours", "forward-int8", 0.05],
  ["**edgelabel f32, node**", "ours", "forward-f32", 1e-4],
  ["LiteRT dynamic int8, unrolled", "python", "litert-int8", 0.05],
  ["LiteRT dynamic int8, fused", "python", "litert-fused-int8", 0.05],
  ["LiteRT f32, unrolled", "python", "litert-f32", 1e-4],
  ["LiteRT f32, fused", "python", "litert-fused-f32", 1e-4],
  ["ONNX Runtime int8, Python", "python", "onnx-int8", 0.05],
  ["ONNX Runtime f32, Python", "python", "onnx-f32", 1e-4],
  ["ONNX Runtime int8, node", "node", "onnx-node-int8", 0.05],
  ["ONNX Runtime f32, node", "node", "onnx-node-f32", 1e-4],
  ["ONNX Runtime Web int8 (wasm)", "node", "onnx-web-int8", 0.05],
  ["ONNX Runtime Web f32 (wasm)", "node", "onnx-web-f32", 1e-4],
  ["TensorFlow.js wasm", "tfjs-wasm", "tfjs-wasm", 1e-4],
  ["TensorFlow.js cpu", "tfjs-cpu", "tfjs-cpu", 1e-4],
  ["Keras `tf.function`", "python", "keras-function", 1e-4],
  ["Keras `predict`", "python", "keras-predict", null],
].map(([name, worker, contender, tolerance]) => ({ name, worker, contender, tolerance }));
const TEXT = [
  { name: "**edgelabel int8, node**", worker: "ours", contender: "text-int8", tolerance: null },
  { name: "**edgelabel f32, node**", worker: "ours", contender: "text-f32", tolerance: null },
  ...OTHER_RECIPES.map((recipe) => ({
    name: `**edgelabel \`--recipe ${recipe}\`, int8, node**`,
    worker: "ours",
    contender: `text-${recipe}`,
    tolerance: null,
  })),
  { name: "fastText, Python `predict`", worker: "python", contender: "fasttext", tolerance: null },
  ...FORWARD.slice(2),
];
const loopsOf = (forms) =>
  forms.flatMap((form) => [
    { name: `node, ${form}`, worker: "ours", contender: `loop-${form}`, tolerance: null, form, runtime: "node" },
    {
      name: `wasmtime, ${form}`,
      worker: "python",
      contender: `wasmtime-${form}`,
      tolerance: null,
      form,
      runtime: "wasmtime",
    },
  ]);

function largestDifference(scores, truth) {
  let largest = 0;
  scores.forEach((row, i) =>
    row.forEach((score, k) => (largest = Math.max(largest, score === null ? Infinity : Math.abs(score - truth[i][k])))),
  );
  return largest;
}

// --- a model's contest --------------------------------------------------------------

async function contest(model, contenders, workers, problems, folder) {
  const wanted = contenders.filter(
    ({ name, contender }) =>
      !only ||
      /^(loop|wasmtime)-/.test(contender) ||
      only.some((each) => contender.includes(each)) ||
      name.includes("edgelabel"),
  );
  const results = [];
  let truth = null;
  // Keras first: it is what the others are compared with. Python next: it writes the .onnx files.
  const order = wanted.toSorted((a, b) => rank(a) - rank(b));
  for (const contender of order) {
    process.stderr.write(`${model}: ${contender.contender}\n`);
    const worker = workers[contender.worker];
    if (!worker) {
      results.push({ ...contender, problem: problems[contender.worker] ?? "not installed" });
      continue;
    }
    const answer = await worker.ask({ op: "load", folder, model, contender: contender.contender });
    const result = { ...contender, version: answer.version, labels: answer.labels, times: [], reads: [] };
    results.push(result);
    if (!answer.ok) {
      result.problem = answer.error;
      continue;
    }
    if (contender.contender === "keras-predict") truth = answer.scores;
    if (contender.tolerance !== null && answer.scores?.length) {
      const reference = answer.reference ?? truth;
      if (!reference) continue;
      result.difference = largestDifference(answer.scores.slice(0, reference.length), reference);
      if (!(result.difference <= contender.tolerance))
        result.problem = `differs from Keras by ${result.difference.toPrecision(2)}`;
    }
  }
  for (let round = -1; round < ROUNDS; round++) {
    for (const result of results) {
      if (result.problem) continue;
      // Keras' predict takes 50 ms and more a call.
      if (result.contender === "keras-predict" && round % 3 !== 0) continue;
      const answer = await workers[result.worker].ask({
        op: "time",
        model,
        contender: result.contender,
        budget: BUDGET_MS,
        first: (round + 1) * 37,
      });
      if (!answer.ok) result.problem = answer.error;
      else if (round >= 0) {
        result.times.push(...answer.times);
        if (answer.reads) result.reads.push(...answer.reads);
      }
    }
  }
  for (const result of results) if (!result.problem) Object.assign(result, spread(result.times));
  return wanted.map(({ contender }) => results.find((result) => result.contender === contender));
}

function rank({ contender, worker }) {
  return contender === "keras-predict" ? 0 : worker === "python" ? 1 : 2;
}

function contestTable(results, expected) {
  const first = results[0];
  return table(
    ["", "median µs", "min", "p90", "times ours", expected ? "accuracy" : "largest difference from Keras", "version"],
    results.map((result) => {
      const { name, problem, median, min, p90, version = "", difference, labels, contender } = result;
      if (problem) return [name, `not measured: ${problem}`, "", "", "", "", version];
      const right =
        labels?.length === expected?.length ? expected?.filter((label, i) => label === labels[i]).length : undefined;
      const check = expected
        ? right === undefined
          ? ""
          : (right / expected.length).toFixed(4)
        : (difference?.toExponential(1) ?? (contender === "keras-predict" ? "is the truth" : ""));
      return [name, micro(median), micro(min), micro(p90), `${(median / first.median).toFixed(2)}×`, check, version];
    }),
  );
}

// --- wasmtime's command ---------------------------------------------------------------

/** µs a line of `wasmtime run`: the time for many lines less that for one line, which is the start-up. */
function commandTimes(wasmtime, deployable, texts, repeat) {
  const many = Buffer.from(Array.from({ length: repeat }, () => texts.join("\n")).join("\n") + "\n");
  const one = Buffer.from(`${texts[0]}\n`);
  const run = (input) => {
    const start = performance.now();
    const { status } = spawnSync(wasmtime, ["run", deployable], { input, stdio: ["pipe", "ignore", "inherit"] });
    if (status !== 0) throw new Error(`wasmtime ended with ${status}`);
    return performance.now() - start;
  };
  const lines = texts.length * repeat - 1;
  return spread(
    Array.from({ length: 7 }, () => {
      const start = run(one);
      return ((run(many) - start) / lines) * 1000;
    }),
  );
}

// --- the sitting ------------------------------------------------------------------------

const folder = mkdtempSync(join(tmpdir(), "edgelabel-bench-"));
const report = [];
const say = (text) => {
  report.push(text);
  process.stdout.write(`${text}\n\n`);
};

try {
  const python = pythonPeers();
  const node = nodePeers();
  const testing = here("../build/testing.wasm");
  const workers = { ours: new Worker(process.execPath, [here("ours.mjs")]) };
  if (python.python) workers.python = new Worker(python.python, [here("peers/peers.py")]);
  for (const name of ["node", "tfjs-wasm", "tfjs-cpu"])
    workers[name] = new Worker(process.execPath, [here("peers/node.mjs"), node.folder]);
  const problems = { python: python.problems.python };
  for (const [name, problem] of Object.entries({ ...python.problems, ...node.problems }))
    process.stderr.write(`${name} cannot be installed: ${problem}\n`);

  const wasmtime = fetchWasmtime();
  const wasmtimeVersion = execFileSync(wasmtime, ["--version"], { encoding: "utf8" }).trim();
  say(
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0].model.trim()}, ${cpus().length} cores, node ${process.versions.node} (V8 ${process.versions.v8}), ${wasmtimeVersion}; load at the start ${loadavg()[0].toFixed(2)}.`,
  );

  const commands = [];
  const ratios = [];
  const loops = [];
  for (const shape of [SEED, LARGE]) {
    const model = await randomModel(shape);
    const ids = randomIds(shape, TEXTS);
    const inputTexts = ids.map(textOf);
    writeForPeers(folder, { ...shape, pooled: false, ids, inputTexts, testing }, model.tensors);
    for (const form of ["f32", "int8"]) writeFileSync(join(folder, `${shape.name}.${form}.elb`), model.write(form));
    const results = await contest(shape.name, FORWARD, workers, problems, folder);
    say(
      `### ${shape.name}: the forward pass alone, from ids to scores\n\nEmbedding(${shape.rows}, ${shape.width}) → LSTM(${shape.units}) → Dense(${shape.outputs}), ${shape.steps} steps, batch 1, one thread\n\n${contestTable(results)}`,
    );
    ratios.push(...ratioRows(shape.name, results));
    loops.push([shape.name, await contest(shape.name, loopsOf(["int8", "f32"]), workers, problems, folder)]);
    const deployable = join(folder, `${shape.name}.wasm`);
    writeFileSync(deployable, await packModel(model.write("int8")));
    commands.push([shape.name, commandTimes(wasmtime, deployable, inputTexts, 40)]);
  }

  let sizes = [];
  if (existsSync(data)) {
    process.stderr.write("snips: training\n");
    const { deployable, expected } = await makeSnips(folder, data, { ...options, default: options.snips });
    const results = await contest("snips", TEXT, workers, problems, folder);
    say(
      `### snips: the whole path, from text to label\n\nThe model of \`edgelabel train\` with no options on ${expected.length} test texts: bidirectional LSTM(64), maximum and mean over time, 7 labels. The peers have the same weights without the n-grams of unknown words, and Keras' \`Tokenizer\` (in node: the same in JavaScript) in front. fastText has a model of its own.\n\n${contestTable(results, expected)}`,
    );
    ratios.push(...ratioRows("snips", results));
    // The loop is that of the network.
    const forms = ["int8", "f32", ...OTHER_RECIPES.filter((name) => name !== "linear")];
    loops.push(["snips", await contest("snips", loopsOf(forms), workers, problems, folder)]);
    const file = join(folder, "snips.wasm");
    commands.push([
      "snips",
      commandTimes(wasmtime, file, JSON.parse(readFileSync(join(folder, "snips.json"), "utf8")).texts, 30),
    ]);
    sizes = [["snips.wasm", deployable.length]];
  } else say("snips was not measured: ../shared/data/snips is absent.");
  for (const worker of Object.values(workers)) worker.end();

  say(
    `### node and wasmtime\n\nThe same module driven from outside with many texts a call, µs a text: medians.\n\n${table(
      ["", "text → scores", "of this the tokenizer", "forward pass", "wasmtime / node"],
      loops.flatMap(([model, results]) => results.map((result) => loopRow(model, result, results))),
    )}`,
  );
  say(
    `The command \`wasmtime run MODEL.wasm\`, int8, µs a line (reading, tokenizer, network and writing), start-up taken off:\n\n${table(
      ["", "median", "min", "p90"],
      commands.map(([name, { median, min, p90 }]) => [name, micro(median), micro(min), micro(p90)]),
    )}`,
  );
  if (!options.only) {
    say(await curves());
    say(await memory([["engine.wasm", readFileSync(here("../build/engine.wasm")).length], ...sizes], folder));
    const { text, targets } = await training(workers.python && python.python, ROUNDS);
    say(text);
    ratios.push(...targets);
  }
  say(
    `### targets\n\n${table(["", "", "wanted", ""], [...ratios, ...runtimeRows(loops)])}\n\nLoad at the end ${loadavg()[0].toFixed(2)}.`,
  );
  if (options.report) writeFileSync(options.report, `${report.join("\n\n")}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function loopRow(model, result, results) {
  const { name, problem, form, median, reads } = result;
  if (problem) return [`${model}: ${name}`, `not measured: ${problem}`, "", "", ""];
  const read = spread(reads).median;
  const nodeResult = results.find((other) => other.form === form && other.runtime === "node");
  const forward = ({ median, reads }) => median - spread(reads).median;
  const ratio =
    result === nodeResult || nodeResult.problem ? "" : `${(forward(result) / forward(nodeResult)).toFixed(2)}×`;
  return [`${model}: ${name}`, micro(median), micro(read), micro(median - read), ratio];
}

function ratioRows(model, results) {
  const ours = results[0];
  const measured = (prefix) => results.filter(({ contender, problem }) => contender.startsWith(prefix) && !problem);
  if (ours.problem) return [];
  if (model === "snips") {
    const rows = measured("fasttext").map(({ median }) => verdict("snips: fastText / int8", median / ours.median, 5));
    const [fast] = measured("text-fast");
    if (fast)
      for (const { name, contender, median } of results)
        if (/^(fasttext|litert.*int8|onnx-int8)$/.test(contender) && median)
          rows.push(verdict(`snips: ${name} / recipe fast`, median / fast.median, contender === "fasttext" ? 2.5 : 20));
    const others = results.filter(
      ({ worker, problem, contender }) => worker !== "ours" && contender !== "fasttext" && !problem,
    );
    if (others.length) {
      const best = others.toSorted((a, b) => a.median - b.median)[0];
      rows.push(verdict(`snips: the fastest other peer (${best.name}) / int8`, best.median / ours.median, 5));
    }
    return rows;
  }
  return measured("litert")
    .filter(({ contender }) => contender.endsWith("int8"))
    .map(({ name, median }) => verdict(`${model}: ${name} / int8`, median / ours.median, model === "seed" ? 4 : 2));
}

function runtimeRows(loops) {
  return loops.flatMap(([model, results]) => {
    const forward = (form, wanted) => {
      const result = results.find(
        ({ form: each, runtime, problem }) => each === form && runtime === wanted && !problem,
      );
      return result ? result.median - spread(result.reads).median : NaN;
    };
    const rows = ["int8", "fast"].map((form) =>
      verdict(
        `${model}: wasmtime / node, ${form} forward pass`,
        forward(form, "wasmtime") / forward(form, "node"),
        1.5,
        true,
      ),
    );
    rows.push(
      verdict(`${model}: forward pass, LSTM / recipe fast`, forward("int8", "node") / forward("fast", "node"), 15),
    );
    return rows.filter(([, figure]) => !figure.startsWith("NaN"));
  });
}
