// The clients of examples/ beside Node's, on the same model and texts: lines of code, time to the first answer,
// µs a text, and whether the bytes are Node's.
//   node bench/runtimes.mjs MODEL.wasm [--texts ../shared/data/snips/test.tsv] [--rounds 5] [--seconds 3] [--only NAME,...]
// A client reads all lines and prints all answers, as a user would run it. Its µs a text are the difference of two
// runs, one with twice the texts of the other, so that starting, loading and compiling do not count; the runs are
// made longer until the larger one takes so many seconds of CPU time. The clients take turns. CPU time, of all
// threads, is hardly changed by other programs on the machine; the time that passes is.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as runtimes from "../test/tools/fetch-runtimes.mjs";
import { fetchWasmtime } from "../test/tools/fetch-wasmtime.mjs";

const CHECKED = 2000;
const TIMED = 'TIMEFORMAT="%R %U %S"; time "$@"';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    texts: { type: "string", default: "../shared/data/snips/test.tsv" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    only: { type: "string" },
  },
});
const [model] = positionals;
if (!model) {
  process.stderr.write("usage: node bench/runtimes.mjs MODEL.wasm [--texts FILE.tsv] [--rounds N] [--only NAME,...]\n");
  process.exit(2);
}

const javascript = ["javascript/classifier.js", "javascript/classify.js"];
/** Name, command line, its files, and what tells its version. */
const CLIENTS = [
  ["Node", runtimes.node, javascript, () => `node ${process.version}`],
  [
    "Node's workers",
    runtimes.pool,
    ["javascript/classifier.js", "javascript/pool.js"],
    () => `node ${process.version}`,
  ],
  ["Deno", runtimes.deno, javascript, ([program]) => said(program, "--version")],
  ["Bun", runtimes.bun, javascript, ([program]) => `bun ${said(program, "--version")}`],
  ["Python", runtimes.python, ["python/classify.py"], () => pinned("python/requirements.txt", /wasmtime==.*/)],
  ["Go", runtimes.go, ["go/main.go"], () => pinned("go/go.mod", /wazero v.*/)],
  ["Rust", runtimes.rust, ["rust/src/main.rs"], () => `wasmtime ${pinned("rust/Cargo.toml", /(?<="=)[\d.]+/)}`],
  ["Java", runtimes.java, ["java/Classify.java"], () => `GraalWasm ${pinned("java/pom.xml", /(?<=<graal>)[\d.]+/)}`],
  ["wasmtime CLI", () => [fetchWasmtime(), "run"], [], ([program]) => said(program, "--version")],
];

function said(program, ...args) {
  return spawnSync(program, args, { encoding: "utf8" }).stdout.split("\n")[0];
}

function pinned(file, pattern) {
  return pattern.exec(readFileSync(join(runtimes.examples, file), "utf8"))[0];
}

/** Without empty lines and comments. */
function linesOfCode(files) {
  const comment = /^\s*(\/\/|\/\*|\*|#|""")/;
  return files
    .flatMap((file) => readFileSync(join(runtimes.examples, file), "utf8").split("\n"))
    .filter((line) => line.trim() && !comment.test(line)).length;
}

const folder = mkdtempSync(join(os.tmpdir(), "edgelabel-runtimes-"));
const texts = readFileSync(values.texts, "utf8")
  .split("\n")
  .filter(Boolean)
  .map((line) => line.split("\t").at(-1));

/** A file of so many texts. */
function input(count) {
  const path = join(folder, `${count}.txt`);
  writeFileSync(path, Array.from({ length: count }, (_, i) => `${texts[i % texts.length]}\n`).join(""));
  return path;
}

/** Seconds that pass and seconds of CPU time that a client takes for a file, and with `keep` what it prints. */
function run(client, path, keep = false) {
  const file = openSync(path, "r");
  const last = client.name === "wasmtime CLI" ? [model, "--json"] : [model];
  const { status, stdout, stderr } = spawnSync("bash", ["-c", TIMED, "bash", ...client.command, ...last], {
    stdio: [file, keep ? "pipe" : "ignore", "pipe"],
    maxBuffer: 1 << 28,
  });
  closeSync(file);
  if (status !== 0) throw new Error(`${client.name}: ${stderr}`);
  const [elapsed, user, system] = stderr.toString().trim().split("\n").at(-1).split(" ").map(Number);
  return { elapsed, cpu: user + system, stdout };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const medianOf = (times, key) => median(times.map((time) => time[key]));
const digits = (value) => value.toFixed(value < 20 ? 1 : 0);

try {
  const clients = [];
  const only = values.only?.split(",");
  for (const [name, fetch, files, version] of CLIENTS) {
    if (only && name !== "Node" && !only.includes(name)) continue;
    try {
      const command = fetch();
      clients.push({ name, command, code: linesOfCode(files), version: version(command), starts: [], times: [] });
    } catch (error) {
      process.stderr.write(`${name}: ${error.stderr?.toString() || error.message}\n`);
    }
  }
  const checked = input(CHECKED);
  const one = input(1);
  const expected = run(clients[0], checked, true).stdout;
  for (const client of clients) {
    client.same = run(client, checked, true).stdout.equals(expected);
    client.count = CHECKED;
    while (run(client, input(2 * client.count)).cpu < Number(values.seconds)) client.count *= 2;
  }
  for (let round = 0; round < Number(values.rounds); round++)
    for (const { starts, times, count, ...client } of clients) {
      starts.push(run(client, one).cpu * 1e3);
      const [half, whole] = [run(client, input(count)), run(client, input(2 * count))];
      const text = (key) => ((whole[key] - half[key]) / count) * 1e6;
      times.push({ elapsed: text("elapsed"), cpu: text("cpu") });
    }
  const base = medianOf(clients[0].times, "cpu");
  console.log(`${os.cpus()[0].model.trim()}, ${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}\n`);
  console.log(
    "| | lines | first answer, ms of CPU | µs of CPU a text | times Node's | µs that pass a text | bytes equal | version |",
  );
  console.log("|---|--:|--:|--:|--:|--:|---|---|");
  for (const { name, code, starts, times, same, version } of clients)
    console.log(
      `| ${name} | ${code || "–"} | ${median(starts).toFixed(0)} | ${digits(medianOf(times, "cpu"))} | ${(medianOf(times, "cpu") / base).toFixed(2)} | ${digits(medianOf(times, "elapsed"))} | ${same ? "yes" : "no"} | ${version} |`,
    );
} finally {
  rmSync(folder, { recursive: true });
}
