// New versions of files, and the way back: the replaced version stays beside the new one, as
// NAME.previous.EXT, byte for byte. Several files change together: first all new files are
// written under temporary names, then a plan of renames, which commits the change, and then the
// files are renamed. A crash before the plan changes nothing; after a later one, finishChange
// does the remaining renames.
import { access, open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { EdgelabelError } from "../errors.ts";
import { ifCode, type Owner, reasonOf, syncFolder, writeNew } from "./atomic.ts";

export interface NewFile {
  path: string;
  bytes: Uint8Array;
}

const ifMissing = ifCode("ENOENT", undefined);

/** Renames, in order. */
type Plan = readonly (readonly [from: string, to: string])[];

/** "models/spam.elb" -> "models/spam.previous.elb". */
export function previousPath(path: string): string {
  return path.replace(/(\.[^./\\]*)$/, ".previous$1");
}

/** The temporary name under which the next content of a file is written. */
function nextPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.next`);
}

/** A file's content, and the permissions that its next content gets too. */
interface Replaced {
  bytes: Buffer;
  mode: number;
  owner: Owner;
}

/** Undefined if there is none. Content and permissions are those of one file, even if its name is redirected meanwhile. */
async function readReplaced(path: string): Promise<Replaced | undefined> {
  const file = await open(path, "r").catch(ifMissing);
  if (!file) return undefined;
  try {
    const { mode, uid, gid } = await file.stat();
    return { bytes: await file.readFile(), mode: mode & 0o777, owner: { uid, gid } };
  } finally {
    await file.close();
  }
}

/** Replaces what a crash may have left there. */
async function writeNext(path: string, bytes: Uint8Array, like?: Omit<Replaced, "bytes">): Promise<void> {
  await rm(nextPath(path), { force: true });
  await writeNew(nextPath(path), bytes, like);
}

function planPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.plan`);
}

/** Writes all files or none, and keeps the files that they replace. Throws an EdgelabelError. The plan is beside the first file. */
export async function replaceFiles(files: readonly NewFile[]): Promise<void> {
  const paths = files.map(({ path }) => path);
  const changed: string[] = [];
  const stage = async (path: string, bytes: Uint8Array, like?: Replaced): Promise<void> => {
    changed.push(path);
    await writeNext(path, bytes, like);
  };
  try {
    for (const { path, bytes } of files) {
      const replaced = await readReplaced(path);
      if (!replaced) await rm(previousPath(path), { force: true });
      else await stage(previousPath(path), replaced.bytes, replaced);
      await stage(path, bytes, replaced);
    }
    await syncFolders(paths);
    await decide(
      paths[0]!,
      changed.map((path) => [nextPath(path), path]),
    );
  } catch (error) {
    await dropStaged(paths);
    const path = changed.at(-1) ?? paths[0]!;
    throw new EdgelabelError(`${path}: cannot be written (${reasonOf(error, path)}); the model stays as it was`);
  }
  await finishChange(paths);
}

/** Puts the previous versions back; returns the paths that had one. Throws an EdgelabelError when none had. */
export async function restoreFiles(paths: readonly string[]): Promise<string[]> {
  const restored: string[] = [];
  for (const path of paths)
    if (
      await access(previousPath(path)).then(
        () => true,
        () => false,
      )
    )
      restored.push(path);
  if (restored.length === 0)
    throw new EdgelabelError(`there is nothing to undo: no ${paths.map(previousPath).join(", no ")}`);
  try {
    await decide(
      paths[0]!,
      restored.map((path) => [previousPath(path), path]),
    );
  } catch (error) {
    throw new EdgelabelError(`${paths[0]}: cannot be changed (${reasonOf(error, paths[0]!)}); nothing has changed`);
  }
  await finishChange(paths);
  return restored;
}

/** Finishes a change that a crash has interrupted, and returns the files that it changed. Call it before doing anything else with these files. */
export async function finishChange(paths: readonly string[]): Promise<string[]> {
  const path = planPath(paths[0]!);
  const content = await readFile(path, "utf8").catch(ifMissing);
  if (content === undefined) {
    await dropStaged(paths);
    return [];
  }
  const plan = (JSON.parse(content) as Plan).map(
    ([from, to]) => [resolve(dirname(path), from), resolve(dirname(path), to)] as const,
  );
  const changed = plan.map(([, to]) => to);
  try {
    // A missing file was renamed before the crash.
    for (const [from, to] of plan) await rename(from, to).catch(ifMissing);
    await syncFolders(changed);
    await rm(path);
    await syncFolders([path]);
  } catch (error) {
    throw new EdgelabelError(
      `${changed.join(", ")}: cannot be changed (${(error as Error).message}); the next edgelabel learn will try again`,
    );
  }
  return changed;
}

/** Writes the plan, which commits the change: from here on it is finished even after a crash. */
async function decide(first: string, plan: Plan): Promise<void> {
  const path = planPath(first);
  const fromFolder = (name: string): string => relative(dirname(path), name);
  await writeNext(path, Buffer.from(JSON.stringify(plan.map((names) => names.map(fromFolder)))));
  await rename(nextPath(path), path);
  await syncFolders([path]);
}

async function dropStaged(paths: readonly string[]): Promise<void> {
  for (const path of [planPath(paths[0]!), ...paths.flatMap((one) => [one, previousPath(one)])])
    await rm(nextPath(path), { force: true }).catch(() => {});
}

async function syncFolders(paths: readonly string[]): Promise<void> {
  for (const folder of new Set(paths.map((path) => dirname(path)))) await syncFolder(folder);
}
