// Accuracy of a recipe on real data: for each set and seed, `edgelabel train` with
// no other option, then `edgelabel eval` of the int8 deployable on the test texts.
//   node bench/accuracy.mjs [set ...] [--recipe default] [--seeds 1,2,3] [--data ../shared/data]
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    recipe: { type: "string", default: "default" },
    seeds: { type: "string", default: "1,2,3" },
    data: { type: "string", default: "../shared/data" },
  },
});
const sets = positionals.length ? positionals : ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"];
const seeds = values.seeds.split(",");
const main = fileURLToPath(new URL("../build/host/main.js", import.meta.url));
const edgelabel = (...args) =>
  JSON.parse(execFileSync(process.execPath, [main, ...args, "--json"], { encoding: "utf8", maxBuffer: 1 << 26 }));
const percent = (share) => (100 * share).toFixed(2);

const folder = mkdtempSync(join(tmpdir(), "edgelabel-accuracy-"));
console.log(
  `| set | ${seeds.map((seed) => `seed ${seed}`).join(" | ")} | median | int8 = f32 | KB | train s |\n|---|${"---|".repeat(seeds.length + 4)}`,
);
try {
  for (const set of sets) {
    const model = join(folder, `${set}.wasm`);
    const runs = seeds.map((seed) => {
      const trained = edgelabel(
        "train",
        `${values.data}/${set}/train.tsv`,
        "-o",
        model,
        "--recipe",
        values.recipe,
        "--seed",
        seed,
      );
      const { accuracy } = edgelabel("eval", model, `${values.data}/${set}/test.tsv`);
      return { accuracy, bytes: statSync(model).size, seconds: trained.seconds, agreement: trained.agreement.top1 };
    });
    const sorted = runs.map(({ accuracy }) => accuracy).sort((a, b) => a - b);
    const worst = Math.min(...runs.map(({ agreement }) => agreement));
    console.log(
      `| ${set} | ${runs.map(({ accuracy }) => percent(accuracy)).join(" | ")} | **${percent(sorted[sorted.length >> 1])}** | ${percent(worst)} | ${Math.ceil(runs[0].bytes / 1024)} | ${Math.max(...runs.map(({ seconds }) => seconds)).toFixed(1)} |`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
