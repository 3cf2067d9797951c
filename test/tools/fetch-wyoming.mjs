// Puts the reference implementation of the Wyoming protocol into the user's cache: one pinned wheel, through pip. Prints the folder,
// which Python takes as PYTHONPATH.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { cached } from "./cache.mjs";
import { pip } from "./fetch-wasmtime.mjs";

const REQUIREMENT = "wyoming==1.10.2";

export function fetchWyoming() {
  return cached(REQUIREMENT.replace("==", "-"), (work) => {
    const [command, ...args] = pip();
    const options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--target", work];
    execFileSync(command, [...args, "install", ...options, REQUIREMENT], {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 300_000,
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchWyoming()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-wyoming: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
