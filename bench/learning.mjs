// Learning from corrections on real data: a model of a quarter of snips' training texts, some of
// which are withheld or mislabelled, then `edgelabel learn` with some that it answers wrongly.
//   node bench/learning.mjs [phrasing|mistakes|label ...] [--seeds 1,2,3] [--data ../shared/data/snips]
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "1,2,3" }, data: { type: "string", default: "../shared/data/snips" } },
});

/** The kinds of texts that are withheld from the model, or given a wrong label. */
const KINDS = {
  phrasing: {
    title: "GetWeather without the words weather and forecast withheld",
    has: ({ label, text }) => label === "GetWeather" && !/weather|forecast/i.test(text),
  },
  mistakes: {
    title: "SearchCreativeWork of songs and albums labelled PlayMusic",
    has: ({ label, text }) => label === "SearchCreativeWork" && /song|album|sound ?track/i.test(text),
    mistake: "PlayMusic",
  },
  label: { title: "SearchScreeningEvent withheld: a new label", has: ({ label }) => label === "SearchScreeningEvent" },
};
const COUNTS = [20, 100];
const HELD_OUT_EVERY = 20;
const TRAINED_EVERY = 4;

const main = fileURLToPath(new URL("../build/host/main.js", import.meta.url));
function edgelabel(...args) {
  try {
    return JSON.parse(
      execFileSync(process.execPath, [main, ...args, "--json"], {
        encoding: "utf8",
        maxBuffer: 1 << 26,
        stdio: ["ignore", "pipe", "ignore"],
      }),
    );
  } catch ({ stdout }) {
    // When the new model is not accepted, the report comes with exit code 1.
    return JSON.parse(stdout);
  }
}

const read = (name) =>
  readFileSync(join(values.data, name), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const tab = line.indexOf("\t");
      return { label: line.slice(0, tab), text: line.slice(tab + 1) };
    });
const folder = mkdtempSync(join(tmpdir(), "edgelabel-learning-"));
const at = (name) => join(folder, name);
const write = (name, samples) => {
  writeFileSync(at(name), samples.map(({ label, text }) => `${label}\t${text}\n`).join(""));
  return at(name);
};
const spread = (items, count, from) =>
  Array.from({ length: count }, (_, i) => items[(from + Math.floor((i * items.length) / count)) % items.length]);
const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const percent = (shares) => (100 * median(shares)).toFixed(1);

const seeds = values.seeds.split(",").map(Number);
const all = read("train.tsv");
const holdOut = all.filter((_, i) => i % HELD_OUT_EVERY === 0);
const rest = all.filter((_, i) => i % HELD_OUT_EVERY !== 0);
const trained = rest.filter((_, i) => i % TRAINED_EVERY === 0);
const test = write("test.tsv", read("test.tsv"));
console.log(
  `median of seeds ${seeds.join(", ")}; accuracies in %, before -> after; the hold-out has ${holdOut.length} texts`,
);
console.log(
  "| the training data | corrections, at most | right of them | others of their kind | hold-out | test | accepted | s |\n|---|---|---|---|---|---|---|---|",
);
try {
  for (const kind of positionals.length ? positionals : Object.keys(KINDS)) {
    const { title, has, mistake } = KINDS[kind];
    const pool = rest.filter(has);
    const data = write(
      "data.tsv",
      mistake
        ? trained.map((sample) => (has(sample) ? { ...sample, label: mistake } : sample))
        : trained.filter((sample) => !has(sample)),
    );
    const valid = write("valid.tsv", holdOut);
    const runs = new Map(COUNTS.map((count) => [count, []]));
    for (const seed of seeds) {
      edgelabel("train", data, "-o", at("trained.elb"), "--seed", String(seed));
      edgelabel("quantize", at("trained.elb"), "-o", at("trained.wasm"));
      const answers = execFileSync(process.execPath, [main, "predict", at("trained.wasm")], {
        encoding: "utf8",
        input: pool.map(({ text }) => `${text}\n`).join(""),
      })
        .trimEnd()
        .split("\n");
      const wrong = pool.filter(({ label }, i) => answers[i].split("\t")[0] !== label);
      for (const count of COUNTS) {
        const corrections = spread(wrong, Math.min(count, wrong.length), seed);
        const others = write(
          "others.tsv",
          pool.filter((sample) => !corrections.includes(sample)),
        );
        copyFileSync(at("trained.elb"), at("model.elb"));
        rmSync(at("model.corrections.jsonl"), { force: true });
        copyFileSync(at("trained.wasm"), at("model.wasm"));
        const measure = () => [others, test].map((file) => edgelabel("eval", at("model.wasm"), file).accuracy);
        const before = measure();
        const report = edgelabel(
          "learn",
          at("model.elb"),
          "--corrections",
          write("corrections.tsv", corrections),
          "--data",
          data,
          "--valid",
          valid,
          "-o",
          at("model.wasm"),
          "--seed",
          String(seed),
          ...(kind === "label" ? ["--new-labels"] : []),
        );
        runs.get(count).push({ before, after: measure(), report });
      }
    }
    for (const [count, results] of runs) {
      const pair = (of) =>
        `${percent(results.map((run) => of(run, "before")))} -> ${percent(results.map((run) => of(run, "after")))}`;
      const standing = (run, when) => run.report[when] ?? run.report.before;
      console.log(
        `| ${title} | ${count} | ${[
          pair((run, when) => standing(run, when).corrected / run.report.corrections),
          pair((run, when) => run[when][0]),
          pair((run, when) => standing(run, when).accuracy),
          pair((run, when) => run[when][1]),
          `${results.filter(({ report }) => report.accepted).length} of ${seeds.length}`,
          median(results.map(({ report }) => report.seconds)).toFixed(1),
        ].join(" | ")} |`,
      );
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
