// Files that are written completely or not at all, even if the power is cut. Somebody else who
// can write in the folder gains nothing by planting links or folders there, even when root is
// writing: files are created, never opened by name, and ownership is changed on the open file.
import { randomBytes } from "node:crypto";
import { access, constants, type FileHandle, open, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { EdgelabelError } from "../errors.ts";

/** Throws an EdgelabelError if the file could not be written. Call it before the work whose result goes there. */
export async function requireWritable(path: string): Promise<void> {
  if (await isFolder(path)) throw new EdgelabelError(`${path}: is a directory, not a file`);
  try {
    await access(dirname(path), constants.W_OK);
    if (!(await isFolder(dirname(path)))) throw Object.assign(new Error(), { code: "ENOENT" });
  } catch (error) {
    throw new EdgelabelError(`${path}: cannot be written (${reasonOf(error, path)})`);
  }
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Whether both paths lead to the same file, also through links. */
export async function isSameFile(path: string, other: string): Promise<boolean> {
  const real = (name: string): Promise<string> => realpath(name).catch(() => resolve(name));
  return (await real(path)) === (await real(other));
}

/**
 * Writes a file beside the target, then renames it: a reader sees the old file or the new one, never a part. Throws an EdgelabelError,
 * also one that the content's parts throw.
 */
export async function writeWhole(path: string, content: Uint8Array | AsyncIterable<string>): Promise<void> {
  const temporary = temporaryIn(dirname(path));
  try {
    await writeNew(temporary, content);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    if (error instanceof EdgelabelError) throw error;
    throw new EdgelabelError(`${path}: cannot be written (${reasonOf(error, path)})`);
  }
}

/** A name that nobody can guess. */
export function temporaryIn(folder: string): string {
  return join(folder, `.${randomBytes(8).toString("hex")}.tmp`);
}

export interface Owner {
  uid: number;
  gid: number;
}

/**
 * Creates, writes and syncs a file. An existing file or link is an error (EEXIST). A crash may leave part of the file, a
 * failure leaves nothing. Once this resolves, the bytes survive a power cut. With `owner`, root hands it to that user.
 */
export async function writeNew(
  path: string,
  content: Uint8Array | string | AsyncIterable<string>,
  { mode, owner }: { mode?: number; owner?: Owner | undefined } = {},
): Promise<void> {
  const file = await open(path, "wx", mode);
  try {
    // Exactly this mode, whatever the umask.
    if (mode !== undefined) await file.chmod(mode);
    if (owner && isRoot()) await file.chown(owner.uid, owner.gid);
    await writeFile(file, content);
    await file.sync();
  } catch (error) {
    await rm(path, { force: true }).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
}

/** Whether the disk, or the user's quota, is full. */
export function isFull(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code!);
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * Runs `work` with the folder's owner and a path that stays with this folder even if its name is redirected meanwhile,
 * so that what root hands to the owner is certain to lie in the owner's folder. Only Linux has such paths.
 */
export async function inFolder<T>(folder: string, work: (at: string, owner: Owner) => Promise<T>): Promise<T> {
  if (process.platform !== "linux") return work(folder, await stat(folder));
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  const at = `/proc/self/fd/${handle.fd}`;
  try {
    return await work(at, await handle.stat());
  } catch (error) {
    if (error instanceof Error) error.message = error.message.replaceAll(at, folder);
    throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Opens a file to read and append; a new one is for its owner's eyes only. Root gives a new one to the owner of the folder,
 * and opens no other than a file of that owner: whoever may write in the folder could have put a link to any file there.
 */
export function openToAppend(path: string): Promise<FileHandle> {
  const { O_RDWR, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW = 0 } = constants;
  return inFolder(dirname(path), async (at, owner) => {
    const found = join(at, basename(path));
    const made = await open(found, O_RDWR | O_APPEND | O_CREAT | O_EXCL, 0o600).catch(ifCode("EEXIST", undefined));
    const file = made ?? (await open(found, O_RDWR | O_APPEND | O_NOFOLLOW));
    try {
      if (!isRoot()) return file;
      if (made) await file.chown(owner.uid, owner.gid);
      const { uid } = await file.stat();
      if (uid !== owner.uid)
        throw new Error(`it belongs to user ${uid}, but its folder to user ${owner.uid}; give both to one user`);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  });
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
