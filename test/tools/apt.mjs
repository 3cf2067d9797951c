// Debian's packages into a folder, without root and without touching the system.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";

export function run(command, args, options = {}) {
  return execFileSync(command, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 300_000,
    ...options,
  });
}

function isInstalled(name) {
  try {
    return run("dpkg-query", ["-W", "-f", "${Status}", name]).includes("ok installed");
  } catch {
    return false;
  }
}

/** Downloads the packages and, if asked, the libraries that this machine lacks. */
function download(packages, { folder, aptOptions, withLibraries }) {
  run("apt-get", [...aptOptions, "download", ...packages], { cwd: folder });
  if (!withLibraries) return;
  const tree = run("apt-cache", [
    ...aptOptions,
    "depends",
    "--recurse",
    "--no-recommends",
    "--no-suggests",
    "--no-conflicts",
    "--no-breaks",
    "--no-replaces",
    "--no-enhances",
    ...packages,
  ]);
  const libraries = tree.split("\n").filter((line) => /^lib[a-z0-9]/.test(line) && !isInstalled(line.trim()));
  for (const library of libraries) {
    // Alternatives and virtual packages have no file of their own.
    try {
      run("apt-get", [...aptOptions, "download", library.trim()], { cwd: folder });
    } catch {
      continue;
    }
  }
}

function architectureOptions(name) {
  return [`APT::Architecture=${name}`, `APT::Architectures=${name}`].flatMap((option) => ["-o", option]);
}

/** Unpacks the packages beside each other in `work`/root; returns that folder. `architecture`: another one than this machine's. */
export function unpackPackages(packages, work, { withLibraries = false, architecture } = {}) {
  const [folder, root] = [join(work, "deb"), join(work, "root")];
  mkdirSync(folder);
  mkdirSync(root);
  try {
    if (architecture !== undefined) throw new Error("the lists are of this machine's architecture");
    download(packages, { folder, aptOptions: [], withLibraries });
  } catch {
    // No package lists, stale ones, or others: fetch our own, which needs no root.
    const lists = join(work, "lists");
    mkdirSync(join(lists, "partial"), { recursive: true });
    mkdirSync(join(work, "apt/archives/partial"), { recursive: true });
    const aptOptions = [
      "-o",
      `Dir::State::lists=${lists}`,
      "-o",
      `Dir::Cache=${join(work, "apt")}`,
      "-o",
      "Debug::NoLocking=1",
      ...(architecture === undefined ? [] : architectureOptions(architecture)),
    ];
    run("apt-get", [...aptOptions, "update"]);
    download(packages, { folder, aptOptions, withLibraries });
  }
  for (const deb of readdirSync(folder)) run("dpkg", ["-x", join(folder, deb), root]);
  return root;
}
