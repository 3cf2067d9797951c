// New versions of files, and the way back: the version that is replaced stays beside the new
// one, as NAME.previous.EXT, byte for byte. Several files go together. A crash at any point
// leaves whole files, and from them the way back leads to what was there before.
import { access, readFile, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { UserError } from "./errors.ts";
import { syncFolder, writeWhole } from "./files.ts";

export interface NewFile {
  path: string;
  bytes: Uint8Array;
}

/** "models/spam.elb" -> "models/spam.previous.elb". */
export function previousPath(path: string): string {
  return path.replace(/(\.[^./\\]*)$/, ".previous$1");
}

/** Writes all files, and keeps what they replace. */
export async function replaceFiles(files: readonly NewFile[]): Promise<void> {
  const paths = files.map(({ path }) => path);
  // First all older ones go, then the new ones come: what is kept is always of one version.
  for (const path of paths) await unlink(previousPath(path)).catch(ignoreMissing);
  await syncFolders(paths);
  for (const path of paths) {
    const bytes = await readFile(path).catch(ignoreMissing);
    if (bytes) await writeWhole(previousPath(path), bytes);
  }
  await syncFolders(paths);
  for (const { path, bytes } of files) await writeWhole(path, bytes);
  await syncFolders(paths);
}

/** Puts the previous versions back; returns the paths that had one. */
export async function restoreFiles(paths: readonly string[]): Promise<string[]> {
  const restored: string[] = [];
  for (const path of paths) if (await access(previousPath(path)).then(() => true, () => false)) restored.push(path);
  if (restored.length === 0) throw new UserError(`there is nothing to undo: no ${paths.map(previousPath).join(", no ")}`);
  for (const path of restored) await rename(previousPath(path), path);
  await syncFolders(restored);
  return restored;
}

async function syncFolders(paths: readonly string[]): Promise<void> {
  for (const folder of new Set(paths.map((path) => dirname(path)))) await syncFolder(folder);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
