// All file operations of a registry, each a step at which the power may fail. Tests use
// another Disk, which fails at each of them in turn.
import { appendFile, chown, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ifCode } from "../files.ts";
import { waitForLock } from "../lock.ts";

export interface Disk {
  makeFolder(path: string): Promise<void>;
  /** Names in a folder; none when it does not exist. */
  list(folder: string): Promise<string[]>;
  /** Undefined when there is no such file. */
  read(path: string): Promise<Buffer | undefined>;
  /** Milliseconds since 1970. */
  modifiedAt(path: string): Promise<number>;
  write(path: string, bytes: Uint8Array | string): Promise<void>;
  append(path: string, bytes: Uint8Array): Promise<void>;
  /** Makes writes to this file, or renames in this folder, survive a power cut. */
  sync(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Resolves when this process alone may change the folder; call the result to give the lock back. */
  lock(folder: string): Promise<() => Promise<void>>;
}

/** Only the owner may read and write a registry. */
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** A change takes milliseconds: an older lock was left by a crash, even if its process id is in use again. */
const LOCK_MS = 10_000;

export const realDisk: Disk = {
  makeFolder: async (path) => {
    if (await mkdir(path, { recursive: true, mode: FOLDER_MODE }) !== undefined) await giveToOwner(path);
  },
  list: (folder) => readdir(folder).catch(ifCode("ENOENT", [])),
  read: (path) => readFile(path).catch(ifCode("ENOENT", undefined)),
  modifiedAt: async (path) => (await stat(path)).mtimeMs,
  write: async (path, bytes) => {
    await writeFile(path, bytes, { mode: FILE_MODE });
    await giveToOwner(path);
  },
  append: (path, bytes) => appendFile(path, bytes, { mode: FILE_MODE }),
  sync: async (path) => {
    let handle;
    try {
      handle = await open(path, "r");
      await handle.sync();
    } catch (error) {
      // Windows cannot open a folder; its file systems journal renames.
      if (process.platform !== "win32") throw error;
    } finally {
      await handle?.close();
    }
  },
  rename,
  remove: (path) => rm(path, { force: true }),
  lock: async (folder) => (await waitForLock(join(folder, "lock"), LOCK_MS)).release,
};

/** Gives what root creates to the owner of the folder: otherwise the service could not read it. */
async function giveToOwner(path: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(dirname(path));
  await chown(path, uid, gid);
}
