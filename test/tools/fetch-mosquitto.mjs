// Puts Mosquitto and its clients into the user's cache, without root and without
// touching the system: the distribution's own packages, unpacked beside each
// other. Prints the folder. Debian and its children only.
import { fileURLToPath } from "node:url";
import { unpackPackages } from "./apt.mjs";
import { cached } from "./cache.mjs";

const packages = ["mosquitto", "mosquitto-clients"];

export function fetchMosquitto() {
  return cached("mosquitto", (work) => unpackPackages(packages, work, { withLibraries: true }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchMosquitto()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-mosquitto: ${error.stderr || error.message}\n`);
    process.exitCode = 1;
  }
}
