// How long the program takes to start, as a multiple of `node -e 0`: medians of alternating runs.
//   node bench/startup.mjs [RUNS]
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const runs = Number(process.argv[2] ?? 15);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const main = here("../bin/edgelabel.js");
const folder = mkdtempSync(join(tmpdir(), "edgelabel-startup-"));
const model = join(folder, "model.wasm");

const commands = {
  "node -e 0": ["-e", "0"],
  "edgelabel --version": [main, "--version"],
  "edgelabel --help": [main, "--help"],
  "edgelabel predict M text": [main, "predict", model, "play some jazz"],
};

function seconds(args) {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args);
  if (status !== 0) throw new Error(`${args.join(" ")}: ${stderr}`);
  return (performance.now() - start) / 1000;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

try {
  execFileSync(process.execPath, [main, "train", here("../host/demo/messages.tsv"), "-o", model, "--epochs", "1"], {
    stdio: "ignore",
  });
  const times = Object.fromEntries(Object.keys(commands).map((name) => [name, []]));
  for (let run = -1; run < runs; run++) {
    for (const [name, args] of Object.entries(commands)) {
      const time = seconds(args);
      // The first round warms the disk's cache.
      if (run >= 0) times[name].push(time);
    }
  }
  const base = median(times["node -e 0"]);
  process.stdout.write("| command | ms | of `node -e 0` |\n|---|---|---|\n");
  for (const [name, values] of Object.entries(times)) {
    process.stdout.write(
      `| \`${name}\` | ${(1000 * median(values)).toFixed(0)} | ${(median(values) / base).toFixed(2)} |\n`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
