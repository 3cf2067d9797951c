// Puts Keras (on jax) and onnxruntime, which judge exported models, into the user's cache: pinned
// wheels, through pip. Prints the folder, which Python takes as PYTHONPATH.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const REQUIREMENTS = ["keras==3.15.1", "jax==0.10.2", "jaxlib==0.10.2", "onnxruntime==1.32.0"];

export const kerasFolder = join(
  process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "edgelabel",
  REQUIREMENTS.map((requirement) => requirement.replace("==", "-")).join("-"),
);

/** The folder, if it has been fetched. */
export function cachedKeras() {
  if (!existsSync(kerasFolder)) throw new Error("it is fetched by: node test/tools/fetch-keras.mjs");
  return kerasFolder;
}

export function fetchKeras() {
  if (existsSync(kerasFolder)) return kerasFolder;
  mkdirSync(dirname(kerasFolder), { recursive: true });
  const work = mkdtempSync(`${kerasFolder}-`);
  try {
    const options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--target", work];
    execFileSync("python3", ["-m", "pip", "install", ...options, ...REQUIREMENTS], {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 600_000,
    });
    // Two test runs may fetch at the same time; the first one to finish wins.
    if (!existsSync(kerasFolder)) renameSync(work, kerasFolder);
    return kerasFolder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchKeras()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-keras: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
