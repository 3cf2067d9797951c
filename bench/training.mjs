// Training against Keras: node bench/training.mjs [--rounds N]; npm run bench does it too.
// The same weights, texts and optimizer (Adam, batch 32); each turn is one epoch, of Keras
// model.fit on all cores, and the contenders take turns. Then `edgelabel train` on snips.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { TUTORIAL_RECIPE } from "../build/host/training/recipe.js";
import { Trainer } from "../build/host/training/trainer.js";
import { startWorkers } from "../build/host/training/workers.js";
import { LARGE, SEED, randomIds, randomModel, textOf, writeForPeers } from "./models.mjs";
import { pythonPeers } from "./peers/setup.mjs";
import { Worker, micro, spread, table, verdict } from "./turns.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** Texts of an epoch, so that Keras takes about a second. */
const TEXTS = { seed: 2048, large: 512 };

/** A run of edgelabel that never ends: each call of epoch() trains one, and returns µs a text and the loss. */
async function ours(model, samples, workers) {
  const trainer = await Trainer.open(model.write("f32"), model.shape.name);
  samples.forEach(({ label, text }) => trainer.addSample(Number(label.slice("label".length)), text));
  trainer.start({
    ...TUTORIAL_RECIPE,
    loss: model.shape.outputs === 1 ? "binary_crossentropy" : "categorical_crossentropy",
    epochs: 100_000,
    workers,
  });
  const threads = await startWorkers(trainer, model.shape.name, { samples, synonyms: null });
  return {
    stop: () => threads.stop(),
    async epoch() {
      const start = performance.now();
      const batches = trainer.epoch();
      let step = batches.next();
      while (!step.done) step = batches.next();
      return { ok: true, time: ((performance.now() - start) / samples.length) * 1000, loss: step.value.loss };
    },
  };
}

async function contest(shape, python, rounds, folder) {
  const model = await randomModel(shape);
  const ids = randomIds(shape, TEXTS[shape.name]);
  const labels = ids.map((row) => row.at(-1) % Math.max(2, shape.outputs));
  const samples = ids.map((row, i) => ({ label: `label${labels[i]}`, text: textOf(row), line: i + 1 }));
  writeForPeers(folder, { ...shape, pooled: false, ids, labels }, model.tensors);
  const keras = python && new Worker(python, [here("peers/training.py"), folder, shape.name]);
  const contenders = [
    { name: "**edgelabel**", ...(await ours(model, samples, 1)) },
    { name: "edgelabel `--workers 2`", ...(await ours(model, samples, 2)) },
    {
      name: "Keras `fit`, all cores",
      epoch: () => keras?.ask({}) ?? { ok: false, error: "not installed" },
      stop: () => keras?.end(),
    },
  ].map((contender) => ({ ...contender, times: [] }));
  for (let round = -1; round < rounds; round++) {
    for (const contender of contenders) {
      if (contender.problem) continue;
      const { ok, error, time, loss } = await contender.epoch();
      if (!ok) contender.problem = error;
      else if (round >= 0) contender.times.push(time);
      contender.loss = loss;
    }
  }
  for (const contender of contenders) await contender.stop();
  return contenders;
}

/** Seconds of `edgelabel train` with no options on snips, as the command reports them. */
function snipsSeconds(data, folder) {
  const printed = execFileSync(
    process.execPath,
    [here("../build/host/main.js"), "train", join(data, "train.tsv"), "-o", join(folder, "snips.wasm"), "--json"],
    { encoding: "utf8" },
  );
  return JSON.parse(printed).seconds;
}

/** { text, targets }: the tables as Markdown, and rows of the table of targets. */
export async function training(python, rounds) {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-training-"));
  const rows = [];
  const targets = [];
  try {
    for (const shape of [SEED, LARGE]) {
      process.stderr.write(`${shape.name}: training\n`);
      const contenders = await contest(shape, python, rounds, folder);
      const first = spread(contenders[0].times).median;
      for (const { name, problem, times, loss } of contenders) {
        if (problem) {
          rows.push([`${shape.name}: ${name}`, `not measured: ${problem}`, "", "", "", ""]);
          continue;
        }
        const { median, min, p90 } = spread(times);
        rows.push([
          `${shape.name}: ${name}`,
          micro(median),
          micro(min),
          micro(p90),
          `${(median / first).toFixed(2)}×`,
          loss.toFixed(4),
        ]);
        if (name.startsWith("Keras")) {
          targets.push(verdict(`${shape.name}: training, Keras / edgelabel`, median / first, 2));
          targets.push(
            verdict(
              `${shape.name}: training, Keras / edgelabel with 2 workers`,
              median / spread(contenders[1].times).median,
              2,
            ),
          );
        }
      }
    }
    const data = here("../../shared/data/snips");
    if (existsSync(data)) {
      process.stderr.write("snips: training\n");
      targets.push(verdict("snips: `edgelabel train` with no options", snipsSeconds(data, folder), 30, true, " s"));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const text = `### training\n\nµs a text, Adam, batch 32, one epoch of ${TEXTS.seed} (*seed*) and ${TEXTS.large} (*large*) texts a turn, ${rounds} turns after a first one to warm up; every contender began with the same weights.\n\n${table(
    ["", "median µs", "min", "p90", "times ours", "last loss"],
    rows,
  )}`;
  return { text, targets };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "9" } } });
  const begun = loadavg()[0];
  const { text, targets } = await training(pythonPeers().python, Number(values.rounds));
  console.log(
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0].model.trim()}, ${cpus().length} cores, node ${process.versions.node}; load ${begun.toFixed(2)} at the start, ${loadavg()[0].toFixed(2)} at the end.\n\n${text}\n\n${table(["", "", "wanted", ""], targets)}`,
  );
}
