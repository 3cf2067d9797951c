// Files that are there whole or not at all, also after a power cut.
import { access, constants, open, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "./errors.ts";

/** Fails early where hours of work could not be written. */
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

/** Beside the target first, then renamed: a reader sees the old file or the new one, never a part. */
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

/** Writes a file that a crash may leave in part; when it resolves, its bytes stay through a power cut. */
export async function writeThrough(path: string, bytes: Uint8Array, mode?: number): Promise<void> {
  // What a crash has left there under the same name goes.
  const file = await open(path, "w");
  try {
    if (mode !== undefined) await file.chmod(mode);
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** For catch(): what stands for the result when a file operation fails with this code, such as ENOENT. */
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

/** Makes the folder's names last through a power cut, where the system can do so. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r").catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}
