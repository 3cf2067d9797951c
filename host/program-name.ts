// How people who run this program start it again, so that commands in its help and messages
// work where they are: from a checkout, an installed package, or the PATH.
import { realpathSync } from "node:fs";
import { delimiter, dirname, isAbsolute, relative } from "node:path";

const COMMANDS =
  "data|train|learn|calibrate|eval|predict|explain|quantize|prune|pack|import|export|serve|ask|info|demo|models|sign|keygen";
const COMMAND_LINE = new RegExp(`\\bedgelabel (?=(?:${COMMANDS}|COMMAND)\\b|\\[options\\])`, "g");

/** "edgelabel", "npx edgelabel" or "node build/host/main.js"; `script` is what Node was given to run. */
export function programName(script = process.argv[1] ?? "", path = process.env["PATH"] ?? ""): string {
  if (/[\\/]node_modules[\\/]\.bin[\\/]/.test(script)) return "npx edgelabel";
  const parts = script.split(/[\\/]/);
  if (parts.at(-1) === "edgelabel" && path.split(delimiter).some((folder) => isSameFolder(folder, dirname(script))))
    return "edgelabel";
  const near = relative("", script);
  const shown = near.startsWith("..") || isAbsolute(near) ? script : near;
  return `node ${/^[\w./:\\@-]+$/.test(shown) ? shown : `"${shown}"`}`;
}

/** The text with "edgelabel train" and the like as one would type them here. */
export function asTyped(text: string): string {
  return text.replace(COMMAND_LINE, () => `${programName()} `);
}

function isSameFolder(one: string, other: string): boolean {
  const real = (folder: string): string => {
    try {
      return realpathSync(folder);
    } catch {
      return folder;
    }
  };
  return one !== "" && real(one) === real(other);
}
