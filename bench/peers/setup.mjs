// Installs the peers, with pinned versions, outside the checkout: a Python virtual environment
// and a folder of node packages in the user's cache. Returns what could be installed, and the
// reasons for what could not; existing installations are not changed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "edgelabel");
const requirements = readFileSync(new URL("requirements.txt", import.meta.url), "utf8")
  .trim()
  .split("\n");
const NODE_PACKAGES = {
  "onnxruntime-node": "1.30.0",
  "onnxruntime-web": "1.30.0",
  "@tensorflow/tfjs": "4.22.0",
  "@tensorflow/tfjs-backend-wasm": "4.22.0",
};
const MINUTES = 60_000;

function run(command, args, minutes, cwd) {
  const { status, stderr, error } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    timeout: minutes * MINUTES,
    stdio: ["ignore", "ignore", "pipe"],
  });
  return status === 0 ? null : (error?.message ?? stderr.trim().split("\n").at(-1) ?? `exit ${status}`);
}

/** { python: path or null, problems: { requirement: reason } } */
export function pythonPeers() {
  const home = join(cache, "bench-venv");
  const python = join(home, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  const problems = {};
  if (!existsSync(python)) {
    const problem = run("python3", ["-m", "venv", home], 5);
    if (problem) return { python: null, problems: { python: problem } };
  }
  for (const requirement of requirements) {
    // One by one, so that a package that cannot be installed here does not prevent the others.
    const mark = join(home, `.${requirement}`);
    if (existsSync(mark)) continue;
    process.stderr.write(`installing ${requirement}\n`);
    const problem = run(
      python,
      ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", requirement],
      20,
    );
    if (problem) problems[requirement] = problem;
    else writeFileSync(mark, "");
  }
  return { python, problems };
}

/** { folder, problems }: a folder with node_modules. */
export function nodePeers() {
  const folder = join(cache, "bench-node");
  const problems = {};
  mkdirSync(folder, { recursive: true });
  const manifest = join(folder, "package.json");
  if (!existsSync(manifest)) writeFileSync(manifest, '{ "private": true }\n');
  for (const [name, version] of Object.entries(NODE_PACKAGES)) {
    const installed = join(folder, "node_modules", name, "package.json");
    if (existsSync(installed) && JSON.parse(readFileSync(installed, "utf8")).version === version) continue;
    process.stderr.write(`installing ${name}@${version}\n`);
    const problem = run(
      "npm",
      ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", `${name}@${version}`],
      20,
      folder,
    );
    if (problem) problems[name] = problem;
  }
  return { folder, problems };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problems = { ...pythonPeers().problems, ...nodePeers().problems };
  for (const [name, problem] of Object.entries(problems)) process.stderr.write(`${name}: ${problem}\n`);
  process.exitCode = Object.keys(problems).length > 0 ? 1 : 0;
}
