// Packages of npm into a folder, for scripts that put them into the user's cache.
import { run } from "./apt.mjs";

/** `rest` are names with versions, and further options of `npm install`. */
export function npmInstall(folder, ...rest) {
  const options = ["--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
  run("npm", ["install", ...options, ...rest], { cwd: folder });
}
