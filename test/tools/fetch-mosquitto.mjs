// Puts Mosquitto and its clients into the user's cache, without root and without
// touching the system: the distribution's own packages, unpacked beside each
// other. Prints the folder. Debian and its children only.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const packages = ["mosquitto", "mosquitto-clients"];

export const mosquittoFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "edgelabel", "mosquitto");

function run(command, args, options = {}) {
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 300_000, ...options });
}

function isInstalled(name) {
  try {
    return run("dpkg-query", ["-W", "-f", "${Status}", name]).includes("ok installed");
  } catch {
    return false;
  }
}

/** Downloads the packages and the libraries that this machine lacks. */
function download(folder, aptOptions) {
  const tree = run("apt-cache", [...aptOptions, "depends", "--recurse", "--no-recommends", "--no-suggests",
    "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", ...packages]);
  const libraries = tree.split("\n").filter((line) => /^lib[a-z0-9]/.test(line) && !isInstalled(line.trim()));
  run("apt-get", [...aptOptions, "download", ...packages], { cwd: folder });
  for (const library of libraries) {
    // Alternatives and virtual packages have no file of their own.
    try {
      run("apt-get", [...aptOptions, "download", library.trim()], { cwd: folder });
    } catch {
      continue;
    }
  }
}

export function fetchMosquitto() {
  if (existsSync(join(mosquittoFolder, "usr/sbin/mosquitto"))) return mosquittoFolder;
  mkdirSync(dirname(mosquittoFolder), { recursive: true });
  const work = mkdtempSync(`${mosquittoFolder}-`);
  try {
    const debs = join(work, "deb");
    const lists = join(work, "lists");
    mkdirSync(debs);
    try {
      download(debs, []);
    } catch {
      // No package lists, or stale ones: fetch our own, which needs no root.
      mkdirSync(join(lists, "partial"), { recursive: true });
      const aptOptions = ["-o", `Dir::State::lists=${lists}`, "-o", `Dir::Cache=${join(work, "apt")}`, "-o", "Debug::NoLocking=1"];
      mkdirSync(join(work, "apt/archives/partial"), { recursive: true });
      run("apt-get", [...aptOptions, "update"]);
      download(debs, aptOptions);
    }
    const root = join(work, "root");
    mkdirSync(root);
    for (const deb of readdirSync(debs)) run("dpkg", ["-x", join(debs, deb), root]);
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
