// Puts Eclipse Paho's interoperability tests into the user's cache: one pinned commit, through git. No package
// registry has them, so where GitHub cannot be reached set PAHO_TESTING to a clone. Prints the folder.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./apt.mjs";
import { cached } from "./cache.mjs";

const COMMIT = "9d7bb80bb8b9d9cfc0b52f8cb4c1916401281103";
const name = `paho.mqtt.testing-${COMMIT.slice(0, 12)}`;

export function fetchPaho() {
  const source = process.env.PAHO_TESTING || "https://github.com/eclipse-paho/paho.mqtt.testing.git";
  const folder = cached(name, (work) => {
    run("git", ["clone", "--quiet", "--no-checkout", source, work], {
      env: { ...process.env, GIT_TERMINAL_PROMPT: "0" },
    });
    run("git", ["-C", work, "checkout", "--quiet", COMMIT]);
  });
  return join(folder, "interoperability");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchPaho()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-paho: ${error.stderr || error.message}\n`);
    process.exitCode = 1;
  }
}
