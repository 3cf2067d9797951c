// Puts Node-RED into the user's cache: the last release that runs on Node 20, through npm. Prints the path of its program,
// which may be given as NODE_RED.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "./cache.mjs";
import { npmInstall } from "./npm.mjs";

const NODE_RED = "4.1.8";

export function fetchNodeRed() {
  if (process.env.NODE_RED) return process.env.NODE_RED;
  const folder = cached(`node-red-${NODE_RED}`, (work) => {
    npmInstall(work, "--omit=optional", `node-red@${NODE_RED}`);
  });
  return join(folder, "node_modules/node-red/red.js");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchNodeRed()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-node-red: ${error.stderr || error.message}\n`);
    process.exitCode = 1;
  }
}
