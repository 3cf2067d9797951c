// The clients of examples/ beside Node's, on the same model and texts: lines of code, time to the first answer,
// µs a text, and whether the bytes are Node's.
//   node bench/runtimes.mjs MODEL.wasm [--texts ../shared/data/snips/test.tsv] [--rounds 5] [--only NAME,...]
// A client reads all lines and prints all answers, as a user would run it. Its µs a text are the difference of two
// runs, one with twice the texts of the other, so that starting, loading and compiling do not count; the runs are
// made longer until the larger one takes three seconds. The clients take turns.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as runtimes from "../test/tools/fetch-runtimes.mjs";
import { fetchWasmtime } from "../test/tools/fetch-wasmtime.mjs";

const LONG_ENOUGH_MS = 3000;
const CHECKED = 2000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    texts: { type: "string", default: "../shared/data/snips/test.tsv" },
    rounds: { type: "string", default: "5" },
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
  ["Node, pool", runtimes.pool, ["javascript/classifier.js", "javascript/pool.js"], () => `node ${process.version}`],
  ["Deno", runtimes.deno, javascript, ([program]) => said(program, "--version")],
  ["Bun", runtimes.bun, javascript, ([program]) => `bun ${said(program, "--version")}`],
  ["Python", runtimes.python, ["python/classify.py"], () => pinned("python/requirements.txt", /wasmtime==.*/)],
  ["Go", runtimes.go, ["go/main.go"], () => pinned("go/go.mod", /wazero v.*/)],
  ["Rust", runtimes.rust, ["rust/src/main.rs"], () => `wasmtime ${pinned("rust/Cargo.toml", /(?<="=)[\d.]+/)}`],
  ["Java", runtimes.java, ["java/Classify.java"], () => `GraalWasm ${pinned("java/pom.xml", /(?<=<graal>)[\d.]+/)}`],
  ["wasmtime, as a program", () => [fetchWasmtime(), "run"], [], ([program]) => said(program, "--version")],
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

const folder = mkdtempSync(join(tmpdir(), "edgelabel-runtimes-"));
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

/** Milliseconds that a client takes for a file, and with `keep` what it prints. */
function run(client, path, keep = false) {
  const [program, ...args] = client.command;
  const file = openSync(path, "r");
  const start = performance.now();
  const last = client.name === "wasmtime, as a program" ? [model, "--json"] : [model];
  const { status, stdout, stderr } = spawnSync(program, [...args, ...last], {
    stdio: [file, keep ? "pipe" : "ignore", "pipe"],
    maxBuffer: 1 << 28,
  });
  const time = performance.now() - start;
  closeSync(file);
  if (status !== 0) throw new Error(`${client.name}: ${stderr}`);
  return { time, stdout };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
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
    while (run(client, input(2 * client.count)).time < LONG_ENOUGH_MS) client.count *= 2;
  }
  for (let round = 0; round < Number(values.rounds); round++)
    for (const client of clients) {
      client.starts.push(run(client, one).time);
      const half = run(client, input(client.count)).time;
      client.times.push(((run(client, input(2 * client.count)).time - half) / client.count) * 1000);
    }
  const base = median(clients[0].times);
  console.log("| | lines | first answer, ms | µs a text | times Node's | bytes equal | version |");
  console.log("|---|--:|--:|--:|--:|---|---|");
  for (const { name, code, starts, times, same, version } of clients)
    console.log(
      `| ${name} | ${code || "–"} | ${median(starts).toFixed(0)} | ${digits(median(times))} | ${(median(times) / base).toFixed(2)} | ${same ? "yes" : "no"} | ${version} |`,
    );
} finally {
  rmSync(folder, { recursive: true });
}
