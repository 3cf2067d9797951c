// One process at a time, by the kernel's word: whoever wants a lock listens on a socket of his
// own beside the locked file, and has it if nobody else listens on one. As long as the process
// lives, others reach its socket, also from another container, while it is stopped, and
// whatever the clocks say; as soon as it is gone, they are refused. So a lock is never taken
// from a live owner, and never outlasts a dead one.
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { readdir, realpath, rename, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { basename, dirname, join, relative } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { UserError } from "../errors.ts";
import { ifCode, inFolder, reasonOf } from "./atomic.ts";

export interface Lock {
  release(): Promise<void>;
  /** The same at once, for a process that ends. */
  drop(): void;
}

/** Who has it; on Windows nobody knows. The number is the process's in its own container. */
export interface Holder {
  pid?: number;
  since?: Date;
}

const LOOK_MS = 20;
/** Two who come at the same time both step back and try again, for this long. */
const PATIENCE_MS = 500;
/** Longest name of a locked file that is a part of the socket's name. */
const MOST_NAME = 40;
/** What systems take as the path of a socket, in bytes. */
const MOST_PATH = 103;
/** Not yet where others look. */
const UNBORN = ".new";
/** What file systems without sockets say. */
const NO_SOCKETS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

/** Takes the lock of a file, or returns who has it. */
export async function takeLock(path: string, patienceMs = PATIENCE_MS): Promise<Lock | Holder> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const taken = process.platform === "win32" ? await takePipe(path) : await takeSocket(path);
    if (taken && ("release" in taken || performance.now() >= end)) return taken;
    await pause(LOOK_MS * (0.5 + Math.random()));
  }
}

/** Waits until nobody else has the lock, and takes it. */
export async function waitForLock(path: string): Promise<Lock> {
  return (await takeLock(path, Infinity)) as Lock;
}

/** Runs `work` as the only process that changes a training form (the journal has a lock of its own). Throws a UserError that names the process that is already doing so. */
export async function withModelLock<T>(model: string, work: () => Promise<T>): Promise<T> {
  const path = `${model}.lock`;
  const taken = await takeLock(path).catch((error: unknown) => {
    throw error instanceof UserError ? error : new UserError(`${model}: cannot be locked (${reasonOf(error, path)})`);
  });
  if (!("release" in taken)) {
    const { pid, since } = taken;
    throw new UserError(
      `${model}: ${pid === undefined ? "another process is" : `process ${pid} has been`} learning, or undoing${since ? `, for ${Math.round((Date.now() - since.getTime()) / 1000)} s` : ""}; try again when it is done`,
    );
  }
  process.once("exit", taken.drop);
  try {
    return await work();
  } finally {
    process.off("exit", taken.drop);
    await taken.release();
  }
}

/** Undefined: somebody else's doing made it fail, try again. */
function takeSocket(path: string): Promise<Lock | Holder | undefined> {
  const [folder, file] = [dirname(path), basename(path)];
  const prefix = `.${file.length > MOST_NAME ? digestOf(file) : file}.`;
  return inFolder(folder, async (at) => {
    const before = await findHolder(at, prefix);
    if (before) return before;
    const name = `${prefix}${process.pid}.${Date.now().toString(36)}.${randomBytes(4).toString("hex")}`;
    const server = await listen(socketPath(at, name + UNBORN)).catch((error: NodeJS.ErrnoException) => {
      throw NO_SOCKETS.has(error.code!)
        ? new UserError(`${folder}: its file system has no sockets, which locks need; use a folder on another one`)
        : error;
    });
    const drop = (): void => rmSync(join(folder, name), { force: true });
    const release = async (): Promise<void> => {
      await rm(join(folder, name), { force: true });
      server.close();
    };
    try {
      // Between its birth and its first listening a socket looks like a dead one: only then may others see it.
      if (!(await rename(join(at, name + UNBORN), join(at, name)).then(() => true, ifCode("ENOENT", false)))) {
        server.close();
        return undefined;
      }
      // Of two, one is the second to be seen, and looks after that: at most one finds nobody.
      const other = await findHolder(at, prefix, name);
      if (!other) return { release, drop };
      await release();
      return other;
    } catch (error) {
      await release().catch(() => {});
      throw error;
    }
  });
}

/** Whose socket is alive, and removes the dead ones. */
async function findHolder(at: string, prefix: string, own?: string): Promise<Holder | undefined> {
  for (const name of await readdir(at)) {
    if (!name.startsWith(prefix) || name === own) continue;
    const isAlive = await connects(socketPath(at, name));
    if (!isAlive) await rm(join(at, name), { force: true });
    else if (!name.endsWith(UNBORN)) {
      const [pid, since] = name.slice(prefix.length).split(".");
      return { pid: Number(pid), since: new Date(parseInt(since!, 36)) };
    }
  }
  return undefined;
}

/** Only who is certainly dead is taken for dead: one who has no time to answer, or may not be spoken to, lives. */
function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code !== "ECONNREFUSED" && code !== "ENOENT"));
  });
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy()).unref();
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve(server);
    });
  });
}

function socketPath(at: string, name: string): string {
  const path = join(at, name);
  const short = Buffer.byteLength(path) > MOST_PATH ? relative("", path) : path;
  // Some versions of Node would cut it off.
  if (Buffer.byteLength(short) > MOST_PATH)
    throw new UserError(`${path}: is too long for a lock; use a folder with a shorter path`);
  return short;
}

/** Windows has no sockets in folders, but pipes, whose names are free when their process is gone. */
async function takePipe(path: string): Promise<Lock | Holder> {
  const folder = await realpath(dirname(path));
  const server = await listen(`\\\\.\\pipe\\edgelabel-${digestOf(join(folder, basename(path)).toLowerCase())}`).catch(
    ifCode("EADDRINUSE", undefined),
  );
  return server ? { release: async () => void server.close(), drop: () => {} } : {};
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
