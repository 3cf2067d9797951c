// All file operations of a registry, each a step at which the power may fail. Tests use
// another Disk, which fails at each of them in turn.
import { constants, lstat, mkdir, open, readdir, readFile, readlink, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { EdgelabelError } from "../errors.ts";
import { ifCode, inFolder, isRoot, type Owner, writeNew } from "../files/atomic.ts";
import { waitForLock } from "../files/lock.ts";

export interface Disk {
  /** Called before the first change, with the registry's folder; returns the path to use from then on. */
  enter?(folder: string): Promise<string>;
  makeFolder(path: string): Promise<void>;
  /** Names in a folder; none when it does not exist. */
  list(folder: string): Promise<string[]>;
  /** Undefined when there is no such file. */
  read(path: string): Promise<Buffer | undefined>;
  /** Milliseconds since 1970. */
  modifiedAt(path: string): Promise<number>;
  /** Replaces the file; its bytes survive a power cut only after a sync(). */
  write(path: string, bytes: Uint8Array | string): Promise<void>;
  /** The file must exist. */
  append(path: string, bytes: Uint8Array): Promise<void>;
  /** Makes writes to this file, or renames in this folder, survive a power cut. */
  sync(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Resolves once only this process may change the folder; call the result to release the lock. */
  lock(folder: string): Promise<() => Promise<void>>;
}

/** Only the owner may read and write a registry. */
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;

export const realDisk: Disk = {
  makeFolder: async (path) => {
    await mkdir(dirname(path), { recursive: true, mode: FOLDER_MODE });
    await inFolder(dirname(path), async (at, owner) => {
      const made = join(at, basename(path));
      if (!(await mkdir(made, FOLDER_MODE).then(() => true, ifCode("EEXIST", false))) || !isRoot()) return;
      // Otherwise the service could not read what root has made. A link that has taken the new folder's place is not followed.
      const folder = await open(made, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      await folder.chown(owner.uid, owner.gid).finally(() => folder.close());
    });
  },
  list: (folder) => readdir(folder).catch(ifCode("ENOENT", [])),
  read: (path) => readFile(path).catch(ifCode("ENOENT", undefined)),
  modifiedAt: async (path) => (await stat(path)).mtimeMs,
  write: async (path, bytes) => {
    await rm(path, { force: true });
    await inFolder(dirname(path), (at, owner) => writeNew(join(at, basename(path)), bytes, { mode: FILE_MODE, owner }));
  },
  append: async (path, bytes) => {
    const file = await open(path, constants.O_WRONLY | constants.O_APPEND | (constants.O_NOFOLLOW ?? 0));
    await file.appendFile(bytes).finally(() => file.close());
  },
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
  lock: async (folder) => (await waitForLock(join(folder, "lock"))).release,
};

/**
 * For commands run as root on a registry that may belong to another user: before the first change the process becomes
 * that user for good, so nothing planted in the folder can make it do what that user could not do himself.
 */
export const ownersDisk: Disk = {
  ...realDisk,
  enter: async (folder) => {
    if (!isRoot()) return folder;
    let owner = await ownerOf(folder);
    if (owner === "nobody yet") {
      await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
      owner = await ownerOf(folder);
    }
    if (owner === "root" || owner === "nobody yet") return folder;
    let reached = folder;
    while (!(await stat(reached).catch(ifCode("ENOENT", undefined)))) reached = dirname(reached);
    // From inside, since a folder above may be closed to this user, as that of systemd's dynamic users is.
    process.chdir(reached);
    process.setgroups!([]);
    process.setgid!(owner.gid);
    process.setuid!(owner.uid);
    return relative(reached, folder) || ".";
  },
};

const MOST_LINKS = 40;

/** Who decides where this path leads: the owner of the first folder or link on the way that is not root's. */
async function ownerOf(path: string): Promise<Owner | "root" | "nobody yet"> {
  let at = "/";
  let links = 0;
  let rest = levelsOf(resolve(path));
  while (rest.length > 0) {
    const next = join(at, rest.shift()!);
    const found = await lstat(next).catch(ifCode("ENOENT", undefined));
    if (!found) return "nobody yet";
    const { uid, gid, mode } = found;
    if (uid !== 0) return { uid, gid };
    if (found.isSymbolicLink()) {
      if (++links > MOST_LINKS) throw new EdgelabelError(`${path}: too many links on the way`);
      rest = [...levelsOf(resolve(at, await readlink(next))), ...rest];
      at = "/";
      continue;
    }
    // In a folder with the sticky bit, such as /tmp, nobody else can replace what is root's.
    const isOpen = (mode & 0o1000) === 0 && ((mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0));
    if (isOpen)
      throw new EdgelabelError(
        `${next} belongs to root, but others may write there: give it to the user who does (chown), or take that right away (chmod go-w)`,
      );
    at = next;
  }
  return "root";
}

function levelsOf(path: string): string[] {
  return path.split("/").filter(Boolean);
}
