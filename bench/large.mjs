// A large file: makes one of so many lines outside of the checkout, trains an epoch of a small network on it, and prints texts a second
// of the whole command and its peak memory (Linux only).
//   node bench/large.mjs [--lines 5000000]
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { main } from "./program.mjs";

const { values } = parseArgs({ options: { lines: { type: "string", default: "5000000" } } });
const SETTINGS = [
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

try {
  const file = openSync(data, "w");
  const lines = Number(values.lines);
  for (let i = 0; i < lines; i += 10_000)
    writeSync(file, Array.from({ length: Math.min(10_000, lines - i) }, line).join(""));
  closeSync(file);
  const args = ["train", data, "-o", join(folder, "m.wasm"), "--epochs", "1"];
  const started = performance.now();
  const child = spawn(process.execPath, [main, ...args, ...SETTINGS.flatMap((setting) => ["--set", setting])], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  let peak = 0;
  const timer = setInterval(() => {
    const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8")) ?? [];
    peak = Math.max(peak, Number(kilobytes ?? 0));
  }, 200);
  const code = await new Promise((resolve) => child.once("exit", resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`train ended with ${code}`);
  const seconds = (performance.now() - started) / 1000;
  console.log(`${lines} lines: ${Math.round(lines / seconds)} texts a second, peak ${Math.round(peak / 1024)} MB`);
} finally {
  rmSync(folder, { recursive: true });
}
