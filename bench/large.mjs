// A large file: makes one of so many lines outside of the checkout, trains an epoch of a small network or a linear model on it, and
// prints texts a second of the whole command and its peak memory (Linux only); of several numbers of lines also what a million more take.
//   node bench/large.mjs [--lines 1000000,5000000] [--recipe default|linear]
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { main } from "./program.mjs";

const { values } = parseArgs({
  options: { lines: { type: "string", default: "5000000" }, recipe: { type: "string", default: "default" } },
});
const NETWORK = [
  "units=8",
  "embedding-dim=16",
  "dropout-samples=1",
  "batch-size=256",
  "perturbation=0",
  "linear=false",
];
const folder = mkdtempSync(join(tmpdir(), "edgelabel-large-"));
const data = join(folder, "data.tsv");

let state = 1;
/** A number from 0 to below `limit`. */
function random(limit) {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
}

/** 3 to 8 words, a third of them of the label's own, the others of 50,000, of which some are far more frequent. */
function line() {
  const label = random(20);
  const words = Array.from({ length: 3 + random(6) }, () =>
    random(3) === 0 ? `topic${label}x${random(40)}` : `word${Math.floor((random(1e6) / 1e6) ** 3 * 50_000)}`,
  );
  return `label${label}\t${words.join(" ")}\n`;
}

function write(lines) {
  const file = openSync(data, "w");
  for (let i = 0; i < lines; i += 10_000)
    writeSync(file, Array.from({ length: Math.min(10_000, lines - i) }, line).join(""));
  closeSync(file);
}

/** Peak memory of a training on so many lines, in MB. */
async function measure(lines) {
  write(lines);
  const isLinear = values.recipe === "linear";
  const settings = isLinear ? [] : ["--epochs", "1", ...NETWORK.flatMap((setting) => ["--set", setting])];
  const args = ["train", data, "-o", join(folder, "m.wasm"), "--recipe", values.recipe, ...settings];
  const started = performance.now();
  const child = spawn(process.execPath, [main, ...args], { stdio: "inherit" });
  let peak = 0;
  const timer = setInterval(() => {
    const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8")) ?? [];
    peak = Math.max(peak, Number(kilobytes ?? 0) / 1024);
  }, 200);
  const code = await new Promise((resolve) => child.once("exit", resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`train ended with ${code}`);
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${lines} lines, ${Math.round(statSync(data).size / 1e6)} MB: ${Math.round(lines / seconds)} texts a second, peak ${Math.round(peak)} MB`,
  );
  return peak;
}

try {
  let before;
  for (const lines of values.lines.split(",").map(Number)) {
    const peak = await measure(lines);
    if (before)
      console.log(`${Math.round((1e6 * (peak - before.peak)) / (lines - before.lines))} MB for each million more`);
    before = { lines, peak };
  }
} finally {
  rmSync(folder, { recursive: true });
}
