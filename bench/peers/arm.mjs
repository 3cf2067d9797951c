// ARM64 programs in an emulator that counts executed instructions, all in the user's cache: Debian's qemu-user, which
// takes plugins where qemu-user-static does not, with the plugin arm-count.c, compiled here; Node, wasmtime and the C
// library of the ARM tests; Debian's Python with the peers' wheels.
import { cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, unpackPackages } from "../../test/tools/apt.mjs";
import { cached } from "../../test/tools/cache.mjs";
import { fetchArm } from "../../test/tools/fetch-arm.mjs";
import { pip } from "../../test/tools/fetch-wasmtime.mjs";

const source = fileURLToPath(new URL("arm-count.c", import.meta.url));
/** Of Debian 12; the emulator takes the plugin's interface of 7.2 and later. */
const PYTHON = "3.11";
const PYTHON_PACKAGES = [
  ...["minimal", "stdlib"].map((part) => `libpython${PYTHON}-${part}`),
  ...[`python${PYTHON}-minimal`, "libexpat1", "zlib1g", "libffi8"],
];
const WHEELS = ["ai-edge-litert==2.3.0", "onnxruntime==1.31.1", "numpy==2.4.6", "flatbuffers==25.12.19"];
const WHEEL_PLATFORMS = ["manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"];

/** Processors as QEMU names them, and what libraries read in /proc/cpuinfo to choose their kernels. */
export const PROCESSORS = {
  "cortex-a72": { board: "Raspberry Pi 4", part: "0xd08", features: "fp asimd evtstrm crc32 cpuid" },
  "cortex-a76": {
    board: "Raspberry Pi 5",
    part: "0xd0b",
    features: "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
  },
};

function cpuinfo({ part, features }) {
  const lines = [
    `Features\t: ${features}`,
    "CPU implementer\t: 0x41",
    "CPU architecture: 8",
    "CPU variant\t: 0x0",
    `CPU part\t: ${part}`,
    "CPU revision\t: 3",
  ];
  return [0, 1, 2, 3].map((core) => `processor\t: ${core}\n${lines.join("\n")}\n\n`).join("");
}

function fetchEmulator(system) {
  return cached("arm-count-7.2", (work) => {
    const made = join(work, "made");
    mkdirSync(made);
    const root = join(unpackPackages(["qemu-user", "libcapstone4", "liburing2"], work), "usr");
    cpSync(join(root, "bin/qemu-aarch64"), join(made, "qemu"));
    mkdirSync(join(made, "lib"));
    for (const machine of readdirSync(join(root, "lib")).filter((name) => name.endsWith("-linux-gnu")))
      cpSync(join(root, "lib", machine), join(made, "lib"), { recursive: true, verbatimSymlinks: true });
    run("cc", ["-shared", "-fPIC", "-O2", source, "-o", join(made, "count.so")]);
    for (const [name, processor] of Object.entries(PROCESSORS)) {
      const root = join(made, name);
      cpSync(system, root, { recursive: true, verbatimSymlinks: true });
      mkdirSync(join(root, "proc"));
      writeFileSync(join(root, "proc/cpuinfo"), cpuinfo(processor));
    }
    return made;
  });
}

function fetchPython() {
  return cached(`arm-python-${PYTHON}-${WHEELS.map((wheel) => wheel.split("==")[1]).join("-")}`, (work) => {
    const made = join(work, "made");
    mkdirSync(made);
    cpSync(unpackPackages(PYTHON_PACKAGES, work, { architecture: "arm64" }), join(made, "root"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    const [command, ...args] = pip();
    run(command, [
      ...[...args, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"],
      ...WHEEL_PLATFORMS.flatMap((platform) => ["--platform", platform]),
      ...["--python-version", PYTHON, "--target", join(made, "site"), ...WHEELS],
    ]);
    return made;
  });
}

/**
 * For one of PROCESSORS { node, wasmtime, python: beginnings of command lines, env: what they need }. A program
 * prints "instructions N" to stderr at its end.
 */
export function countingArm(processor) {
  const { arm64, wasmtime } = fetchArm();
  const folder = fetchEmulator(arm64[2]);
  const python = fetchPython();
  const libraries = ["usr/lib", "lib"].map((each) => join(python, "root", each, "aarch64-linux-gnu")).join(":");
  const emulate = (program, settings) => [
    ...[join(folder, "qemu"), "-cpu", processor, "-plugin", join(folder, "count.so"), "-L", join(folder, processor)],
    // The emulator's own libraries are not the program's.
    ...Object.entries({ LD_LIBRARY_PATH: "", ...settings }).flatMap(([name, value]) => ["-E", `${name}=${value}`]),
    program,
  ];
  return {
    node: emulate(arm64.at(-1)),
    wasmtime: emulate(wasmtime.at(-1)),
    python: emulate(join(python, "root/usr/bin", `python${PYTHON}`), {
      LD_LIBRARY_PATH: libraries,
      PYTHONHOME: join(python, "root/usr"),
      PYTHONPATH: join(python, "site"),
      PYTHONDONTWRITEBYTECODE: "1",
      PYTHONHASHSEED: "0", // the start takes the same instructions every time
    }),
    env: { LD_LIBRARY_PATH: join(folder, "lib") },
  };
}
