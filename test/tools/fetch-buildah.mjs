// What builds and runs the container image without a registry of images: Buildah from Debian's packages and,
// in place of the image `node:20-slim`, a folder with Debian's C library, shell and tools, and Node and npm
// from npm. For root on Debian and its children.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run, unpackPackages } from "./apt.mjs";
import { cached } from "./cache.mjs";
import { fetchNode } from "./fetch-node.mjs";

const NODE = "20.20.2";
const NPM = "10.8.2";
const SYSTEM = ["base-files", "base-passwd", "dash", "coreutils", "libc6", "libstdc++6", "libgcc-s1", "libatomic1"];
const LIBRARIES = ["libacl1", "libattr1", "libselinux1", "libpcre2-8-0", "libgmp10", "libssl3"];

/** `command` is how Buildah is called, its own arguments after it; `base` the folder of the base image. */
export function fetchBuildah() {
  if (process.getuid?.() !== 0) throw new Error("only root may build images without further set-up");
  const folder = cached("buildah", (work) => unpackPackages(["buildah"], work, { withLibraries: true }));
  const system = readdirSync("/usr/lib").find((name) => name.endsWith("-linux-gnu"));
  const [program, libraries] = [join(folder, "usr/bin/buildah"), join("/usr/lib", system)];
  // Buildah starts itself anew without LD_LIBRARY_PATH, so its libraries lie over the system's, in a mount namespace of its own.
  const over = `mount -t overlay overlay -o "lowerdir=$1:$2" "$2" && shift 2 && exec "$@"`;
  const command = ["unshare", "--mount", "sh", "-ec", over, "sh", join(folder, libraries), libraries, program];
  run(command[0], [...command.slice(1), "--version"]);
  return { command, base: cached(`node-${NODE}-image`, makeBase) };
}

function makeBase(work) {
  const root = unpackPackages([...SYSTEM, ...LIBRARIES], work);
  mkdirSync(join(root, "usr/local/bin"), { recursive: true });
  cpSync(fetchNode(NODE), join(root, "usr/local/bin/node"));
  const archive = run("npm", ["pack", "--silent", "--pack-destination", work, `npm@${NPM}`]).trim();
  const modules = join(root, "usr/local/lib/node_modules");
  mkdirSync(modules, { recursive: true });
  execFileSync("tar", ["-xzf", join(work, archive), "-C", modules]);
  symlinkSync("package", join(modules, "npm"));
  symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", join(root, "usr/local/bin/npm"));
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n");
  writeFileSync(join(root, "etc/group"), "root:x:0:\nnode:x:1000:\n");
  for (const each of ["tmp", "root", "home/node"]) mkdirSync(join(root, each), { recursive: true });
  chmodSync(join(root, "tmp"), 0o1777);
  return root;
}
