// Files that are written completely or not at all, also when the power is cut.
import { access, constants, open, realpath, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { UserError } from "./errors.ts";

/** Throws a UserError when the file cannot be written: to be called before the work whose result it shall hold. */
export async function requireWritable(path: string): Promise<void> {
  if (await isFolder(path)) throw new UserError(`${path}: is a directory, not a file`);
  try {
    await access(dirname(path), constants.W_OK);
    if (!await isFolder(dirname(path))) throw Object.assign(new Error(), { code: "ENOENT" });
  } catch (error) {
    throw new UserError(`${path}: cannot be written (${reasonOf(error, path)})`);
  }
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isDirectory(), () => false);
}

/** Whether both paths lead to one file, be it through a link. */
export async function isSameFile(path: string, other: string): Promise<boolean> {
  const real = (name: string): Promise<string> => realpath(name).catch(() => resolve(name));
  return await real(path) === await real(other);
}

/** Writes a file beside the target, then renames it: a reader sees the old file or the new one, never a part. Throws a UserError. */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  try {
    await writeThrough(temporary, bytes);
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw new UserError(`${path}: cannot be written (${reasonOf(error, path)})`);
  }
}

/** Writes and syncs a file. A crash may leave a part of it; once this resolves, its bytes survive a power cut. */
export async function writeThrough(path: string, bytes: Uint8Array, mode?: number): Promise<void> {
  // "w" truncates what a crash may have left there.
  const file = await open(path, "w");
  try {
    if (mode !== undefined) await file.chmod(mode);
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A handler for catch(): gives `value` when a file operation failed with this code, such as ENOENT; rethrows other errors. */
export function ifCode<T>(code: string, value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === code) return value;
    throw error;
  };
}

/** Why a file cannot be written, for people. */
export function reasonOf(error: unknown, path: string): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === "ENOENT" ? `no folder ${dirname(path)}` : message;
}

/** Makes renames in the folder survive a power cut, where the system can do so. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r").catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}
