// Puts Keras (on jax) and onnxruntime, which judge exported models, into the user's cache: pinned
// wheels, through pip. Prints the folder, which Python takes as PYTHONPATH.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cache, cached } from "./cache.mjs";

const REQUIREMENTS = ["keras==3.15.1", "jax==0.10.2", "jaxlib==0.10.2", "onnxruntime==1.32.0"];

const name = REQUIREMENTS.map((requirement) => requirement.replace("==", "-")).join("-");

/** The folder, if it has been fetched. */
export function cachedKeras() {
  const folder = join(cache, name);
  if (!existsSync(folder)) throw new Error("it is fetched by: node test/tools/fetch-keras.mjs");
  return folder;
}

export function fetchKeras() {
  return cached(name, (work) => {
    const options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--target", work];
    execFileSync("python3", ["-m", "pip", "install", ...options, ...REQUIREMENTS], {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 600_000,
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchKeras()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-keras: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
