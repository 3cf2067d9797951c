// Puts Mosquitto and its clients into the user's cache, without root and without
// touching the system: the distribution's own packages, unpacked beside each
// other. Prints the folder. Debian and its children only.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { unpackPackages } from "./apt.mjs";

const packages = ["mosquitto", "mosquitto-clients"];

export const mosquittoFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "edgelabel", "mosquitto");

export function fetchMosquitto() {
  if (existsSync(join(mosquittoFolder, "usr/sbin/mosquitto"))) return mosquittoFolder;
  mkdirSync(dirname(mosquittoFolder), { recursive: true });
  const work = mkdtempSync(`${mosquittoFolder}-`);
  try {
    const root = unpackPackages(packages, work, { withLibraries: true });
    // Two test runs may fetch at the same time; the first one to finish wins.
    if (!existsSync(mosquittoFolder)) renameSync(root, mosquittoFolder);
    return mosquittoFolder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchMosquitto()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-mosquitto: ${error.stderr || error.message}\n`);
    process.exitCode = 1;
  }
}
