// The mutation run of the host: changes one thing in one file of host/ and runs the tests that reach that
// file, nearest first. A change that no test notices survives: a rule that could be broken unseen.
//
//   npm run mutate                          all folders
//   npm run mutate -- keras data/report.ts  these
//   npm run mutate -- registry --most 100   100 of the folder's mutants; otherwise 40, always the same
//   npm run mutate -- registry --seed 2     others
//   npm run mutate -- registry --seconds 90 with more tests: those of a mutant take 30 s without it, all together,
//                                           and only the one at the path of the changed file may take longer
//
// It works in a copy of the checkout. Mutants whose effect nobody can observe are listed in equivalent-mutants.json
// beside this file, with the reason.
import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, posix } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import ts from "typescript";
import { mutantsOf } from "./mutants.mjs";

const self = fileURLToPath(import.meta.url);
const root = join(dirname(self), "../..");
/** A mutant that so many tests do not notice, the nearest ones, survives. */
const MOST_TESTS = 5;

/** In a process of its own, which is killed when a mutant hangs: keeps vitest loaded, and runs a test file at each message. */
async function serveRuns() {
  const { createVitest } = await import("vitest/node");
  const vitest = await createVitest("test", { watch: false, bail: 1, maxWorkers: 1, reporters: [{}], silent: true });
  process.on("message", async ({ changed, test }) => {
    for (const path of changed) vitest.invalidateFile(path);
    const specification = vitest.getRootProject().createSpecification(join(process.cwd(), test));
    const { testModules, unhandledErrors } = await vitest.runTestSpecifications([specification]);
    // It remembers the modules of earlier runs.
    const found = testModules.find(({ moduleId }) => moduleId === specification.moduleId);
    const [failed] = found.children.allTests("failed");
    const isFine = found.ok() && unhandledErrors.length === 0;
    process.send(isFine ? "" : (failed?.fullName ?? "an error outside of its tests"));
  });
  process.send("ready");
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      most: { type: "string", default: "40" },
      seed: { type: "string", default: "1" },
      seconds: { type: "string", default: "30" },
    },
  });
  const sources = list("host").filter((path) => /(?<!\.d)\.ts$/.test(path) && path.split("/").length > 2);
  const folders = [...new Set(sources.map((path) => dirname(path).replace("host/", "")))].sort();
  const equivalent = JSON.parse(readFileSync(new URL("equivalent-mutants.json", import.meta.url), "utf8"));
  const rank = ({ file, line, change }) =>
    createHash("sha256").update(`${values.seed} ${file} ${line} ${change}`).digest("hex");

  const checkout = new Checkout(1000 * Number(values.seconds));
  process.once("exit", () => checkout.remove());
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
  const results = [];
  for (const folder of positionals.length > 0 ? positionals : folders) {
    const inFolder = sources.filter((path) => [path, dirname(path)].includes(`host/${folder}`));
    const all = inFolder.flatMap((path) => mutantsOf(checkout.path, path));
    if (all.length === 0) throw new Error(`host/${folder} has no mutants`);
    const chosen = new Set(all.toSorted((a, b) => (rank(a) < rank(b) ? -1 : 1)).slice(0, Number(values.most)));
    const result = { folder, mutants: all.length, tried: 0, killed: 0, survived: 0, equivalent: 0 };
    for (const mutant of all.filter((each) => chosen.has(each))) {
      const { file, line, change, number } = mutant;
      result.tried++;
      const known = equivalent.find((other) => other.file === file && other.line === line && other.change === change);
      const killer = known ? undefined : await checkout.killerOf(mutant);
      const fate = known ? "equivalent" : killer ? "killed" : "survived";
      result[fate]++;
      console.log(`${fate.padEnd(10)} ${file}:${number}  ${change}${killer ? `  [${killer}]` : ""}`);
    }
    results.push(result);
  }
  for (const result of results) {
    const share = result.killed / (result.tried - result.equivalent);
    Object.assign(result, { score: `${(100 * share).toFixed(0)} %` });
  }
  console.table(results);
  process.exit();
}

function list(folder) {
  const names = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
  return names.map((name) => posix.join(folder, name.replaceAll("\\", "/")));
}

const named = new Map();

/** The files that a file imports, or runs: the compiled form in build/ counts as its source. */
function namedIn(path) {
  if (!named.has(path)) named.set(path, findNamed(path));
  return named.get(path);
}

function findNamed(path) {
  const source = readFileSync(join(root, path), "utf8").replace(/^import type [^;]*;/gm, "");
  return [...source.matchAll(/"([\w./-]+\.(?:ts|mjs|js))"/g)]
    .map(([, name]) => posix.join(dirname(path), name).replace(/^build\/(host\/.*)\.js$/, "$1.ts"))
    .filter((name) => /^(host|test)\//.test(name) && existsSync(join(root, name)));
}

function ownTest(path) {
  return `test/${path.replace(/ts$/, "test.ts")}`;
}

/** The tests that reach a file, by how many imports lie between; the one at its path comes first. */
function testsOf(path) {
  const distance = (test) => {
    if (test === ownTest(path)) return 0;
    const steps = new Map([[test, 0]]);
    for (const [from, step] of steps) for (const to of namedIn(from)) if (!steps.has(to)) steps.set(to, step + 1);
    return steps.get(path) ?? Infinity;
  };
  return [...list("test/host"), ...list("test/integration")]
    .filter((name) => name.endsWith(".test.ts"))
    .map((test) => ({ test, far: distance(test) }))
    .filter(({ far }) => far < Infinity)
    .sort((a, b) => a.far - b.far)
    .map(({ test }) => test)
    .slice(0, MOST_TESTS);
}

/** A copy of the checkout, in which one file at a time is changed. */
class Checkout {
  #at = mkdtempSync(join(tmpdir(), "edgelabel-mutate-"));
  path = join(this.#at, "checkout");
  #tests = new Map();
  #times = new Map();
  #changed = new Set();
  #compilerOptions = {
    ...ts.parseJsonConfigFileContent(
      ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile).config,
      ts.sys,
      root,
    ).options,
    module: ts.ModuleKind.ESNext,
  };
  #child;
  #testsMs;

  constructor(testsMs) {
    this.#testsMs = testsMs;
    // Some tests run programs as another user.
    chmodSync(this.#at, 0o755);
    cpSync(root, this.path, { recursive: true, filter: (path) => !/[/\\](\.git|node_modules)$/.test(path) });
    symlinkSync(join(root, "node_modules"), join(this.path, "node_modules"));
    if (existsSync(join(root, "../shared"))) symlinkSync(join(root, "../shared"), join(this.#at, "shared"));
  }

  /** The first test that fails with the mutant; undefined when it survives them all. */
  async killerOf({ file, from, to, replacement }) {
    if (!this.#tests.has(file)) this.#tests.set(file, testsOf(file));
    const source = readFileSync(join(this.path, file), "utf8");
    let left = this.#testsMs;
    for (const test of this.#tests.get(file)) {
      const ms = await this.#timeOf(test, test === ownTest(file) ? 300_000 : this.#testsMs);
      if (ms > left && (left < this.#testsMs || ms === Infinity)) continue;
      left -= ms;
      this.#write(file, source.slice(0, from) + replacement + source.slice(to));
      const killer = await this.#run(test, 4 * ms + 10_000);
      this.#write(file, source);
      if (killer) return `${basename(test)}: ${killer}`;
      if (left <= 0) break;
    }
    if (left === this.#testsMs) console.log(`no test of ${file} is quick enough`);
    return undefined;
  }

  /** Milliseconds that a test takes without mutants; Infinity for one that fails, or takes longer than the limit. */
  async #timeOf(test, limitMs) {
    if (!this.#times.has(test)) {
      const since = performance.now();
      const killer = await this.#run(test, limitMs);
      if (killer) console.log(`left out for what it does without a mutant: ${basename(test)}: ${killer}`);
      this.#times.set(test, killer ? Infinity : performance.now() - since);
    }
    return this.#times.get(test);
  }

  /** Into host/ for tests that import it, and into build/ for those that run the program. */
  #write(file, source) {
    this.#changed.add(join(this.path, file));
    writeFileSync(join(this.path, file), source);
    const { outputText } = ts.transpileModule(source, { fileName: file, compilerOptions: this.#compilerOptions });
    writeFileSync(join(this.path, "build", file.replace(/ts$/, "js")), outputText);
  }

  async #run(test, limitMs) {
    const done = new AbortController();
    const { signal } = done;
    try {
      if (!this.#child) {
        this.#child = fork(self, { cwd: this.path, detached: true, stdio: ["ignore", "ignore", "inherit", "ipc"] });
        await once(this.#child, "message");
      }
      this.#child.send({ test, changed: [...this.#changed] });
      return await Promise.race([
        once(this.#child, "message", { signal }).then(([killer]) => killer),
        once(this.#child, "exit", { signal }).then(() => this.#stop("the end of vitest")),
        pause(limitMs, undefined, { signal }).then(() => this.#stop("taking too long")),
      ]);
    } finally {
      done.abort();
    }
  }

  /** With all that the tests have started. */
  #stop(killer) {
    try {
      if (this.#child) process.kill(-this.#child.pid, "SIGKILL");
    } catch {
      // All have ended.
    }
    this.#child = undefined;
    return killer;
  }

  remove() {
    this.#stop();
    rmSync(this.#at, { recursive: true });
  }
}

await (process.send ? serveRuns() : main());
