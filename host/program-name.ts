// How people who run this program start it again, so that commands in its help and messages
// work where they are: from a checkout, an installed package, or the PATH.
import { readFileSync, realpathSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join, relative, resolve } from "node:path";

const COMMANDS =
  "data|train|learn|calibrate|eval|predict|explain|quantize|prune|pack|import|export|serve|ask|info|demo|playground|models|sign|keygen";
const COMMAND_LINE = new RegExp(`\\bedgelabel (?=(?:${COMMANDS}|COMMAND)\\b|\\[options\\])`, "g");

/**
 * "edgelabel", "npx edgelabel", "npx -p ./edgelabel-0.1.0.tgz edgelabel" or "node bin/edgelabel.js": what starts the
 * program again in the folder `cwd`. `script` is what Node was given to run.
 */
export function programName(
  script = process.argv[1] ?? "",
  path = process.env["PATH"] ?? "",
  cwd = process.cwd(),
): string {
  const [, project] = /^(.*)[\\/]node_modules[\\/]\.bin[\\/][^\\/]+$/.exec(script) ?? [];
  if (project !== undefined) {
    const asked = askedOfNpx(project);
    // npx finds what is installed in this folder or one above, and the command of the package that the folder is in.
    if (isInside(cwd, asked ?? project)) return "npx edgelabel";
    if (asked !== undefined)
      return asked.startsWith("edgelabel") ? `npx ${asked}` : `npx -p ${quoted(asked)} edgelabel`;
  } else if (
    /[\\/]edgelabel$/.test(script) &&
    path.split(delimiter).some((folder) => folder !== "" && isSameFolder(folder, dirname(script)))
  )
    return "edgelabel";
  const near = relative(cwd, script);
  return `node ${quoted(near.startsWith("..") || isAbsolute(near) ? script : near)}`;
}

/** What npx was told to run, if the folder is one of its cache: a name, a tarball, a checkout's folder. */
function askedOfNpx(folder: string): string | undefined {
  try {
    const { _npx: npx } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      _npx?: { packages?: string[] };
    };
    return npx?.packages?.[0];
  } catch {
    return undefined;
  }
}

/** The text with "edgelabel train" and the like as one would type them here. */
export function asTyped(text: string): string {
  return text.replace(COMMAND_LINE, () => `${programName()} `);
}

function quoted(path: string): string {
  return /^[\w./:\\@-]+$/.test(path) ? path : `"${path}"`;
}

function isInside(folder: string, other: string): boolean {
  const way = relative(real(other), real(folder));
  return !way.startsWith("..") && !isAbsolute(way);
}

function isSameFolder(one: string, other: string): boolean {
  return real(one) === real(other);
}

function real(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return resolve(folder);
  }
}
