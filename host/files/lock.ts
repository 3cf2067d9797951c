// One process at a time, guaranteed by the kernel: a process that wants a lock listens on a
// socket of its own beside the locked file, and holds the lock if nobody else is listening.
// While it lives, others can connect to its socket, even from another container, even if it is
// stopped, and whatever the clocks say; once it is gone, they are refused. So a lock is never
// taken from a live owner and never outlasts a dead one.
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { readdir, realpath, rename, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { basename, dirname, join, relative } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { EdgelabelError } from "../errors.ts";
import { ifCode, inFolder, reasonOf } from "./atomic.ts";

export interface Lock {
  release(): Promise<void>;
  /** The same at once, for a process that ends. */
  drop(): void;
}

/** Who holds it (unknown on Windows). `pid` is the number in the holder's own container. */
export interface Holder {
  pid?: number;
  since?: Date;
}

const LOOK_MS = 20;
/** Two that arrive together both step back and retry, for up to this long. */
const PATIENCE_MS = 500;
/** Longer names of locked files appear as a digest in the socket's name. */
const MOST_NAME = 40;
/** Longest path of a socket that all systems take, in bytes. */
const MOST_PATH = 103;
/** Suffix of a socket that others must not see yet. */
const UNBORN = ".new";
/** Errors of file systems without sockets. */
const NO_SOCKETS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

/** Takes the lock of a file, or returns who holds it. */
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

/** Runs `work` as the only process that changes a training form (the journal has a lock of its own). Throws an EdgelabelError that names the process that is already doing so. */
export async function withModelLock<T>(model: string, work: () => Promise<T>): Promise<T> {
  const path = `${model}.lock`;
  const taken = await takeLock(path).catch((error: unknown) => {
    throw error instanceof EdgelabelError
      ? error
      : new EdgelabelError(`${model}: cannot be locked (${reasonOf(error, path)})`);
  });
  if (!("release" in taken)) {
    const { pid, since } = taken;
    throw new EdgelabelError(
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

/** Undefined if another process interfered: try again. */
function takeSocket(path: string): Promise<Lock | Holder | undefined> {
  const [folder, file] = [dirname(path), basename(path)];
  const prefix = `.${file.length > MOST_NAME ? digestOf(file) : file}.`;
  return inFolder(folder, async (at) => {
    const before = await findHolder(at, prefix);
    if (before) return before;
    const name = `${prefix}${process.pid}.${Date.now().toString(36)}.${randomBytes(4).toString("hex")}`;
    const server = await listen(socketPath(at, name + UNBORN)).catch((error: NodeJS.ErrnoException) => {
      throw NO_SOCKETS.has(error.code!)
        ? new EdgelabelError(
            `${folder}: its file system has no sockets, which locks need; use a folder on another file system`,
          )
        : error;
    });
    const drop = (): void => rmSync(join(folder, name), { force: true });
    const release = async (): Promise<void> => {
      await rm(join(folder, name), { force: true });
      server.close();
    };
    try {
      // Before it listens, a socket looks like a dead one; only now may others see it.
      if (!(await rename(join(at, name + UNBORN), join(at, name)).then(() => true, ifCode("ENOENT", false)))) {
        server.close();
        return undefined;
      }
      // Of two, the one that becomes visible second looks after that, so at most one of them finds nobody.
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

/** The process whose socket is alive; removes dead sockets. */
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

/** Only a refused or missing socket is dead: one that is too busy to answer, or closed to this user, is alive. */
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
  // Some versions of Node would silently cut it off.
  if (Buffer.byteLength(short) > MOST_PATH)
    throw new EdgelabelError(`${path}: is too long for a lock; use a folder with a shorter path`);
  return short;
}

/** Windows has named pipes instead, whose names become free when their process ends. */
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
