// The program as a user calls it: `node main ...`.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export const main = fileURLToPath(new URL("../build/host/main.js", import.meta.url));

/** Runs a command with --json; returns what it prints. */
export function edgelabel(...args) {
  return JSON.parse(
    execFileSync(process.execPath, [main, ...args, "--json"], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
      stdio: ["ignore", "pipe", "ignore"],
    }),
  );
}
