// One process at a time: a lock is a file that names the process that owns it. A lock that a
// crash left behind is removed: either no process has its owner's id, or, if another process
// has got this id since, the lock has not been refreshed for a while.
import { rmSync, utimesSync } from "node:fs";
import { open, readFile, rm, stat } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import { UserError } from "./errors.ts";
import { ifCode, reasonOf } from "./files.ts";

export interface Lock {
  /** Shows that the owner is still at work; cheap enough to be called often. */
  refresh(): void;
  release(): Promise<void>;
}

export interface Holder {
  pid: number;
  since: Date;
}

/** Readable by all, so that other users' processes can see who owns the lock. */
const LOCK_MODE = 0o644;
const REFRESH_MS = 5_000;
const LOOK_MS = 20;
/** A lock file is created and then written: an older one without an owner's id was left by a crash in between. */
const NAMELESS_MS = 1_000;
/** Many times as long as learning ever goes without a refresh, for instance while it reads its data. */
const LEARNING_MS = 600_000;

/** Takes the lock, or returns who has it. A lock that was not refreshed for `staleMs` is taken from its owner. */
export async function takeLock(path: string, staleMs: number): Promise<Lock | Holder> {
  // With the start time, since in a container each start of a service may get the same process id.
  const owner = `${process.pid} ${performance.timeOrigin} `;
  for (;;) {
    const file = await open(path, "wx", LOCK_MODE).catch(ifCode("EEXIST", null));
    if (file) {
      try {
        await file.writeFile(owner + Date.now());
        return lockOf(path, owner);
      } catch (error) {
        await rm(path, { force: true });
        throw error;
      } finally {
        await file.close();
      }
    }
    const found = await look(path);
    if (!found) continue;
    if (isStale(found, owner, staleMs)) await removeStale(path, owner, staleMs);
    else if (found.pid > 0) return { pid: found.pid, since: new Date(found.since) };
    else await pause(LOOK_MS);
  }
}

/** What a lock file says, and when it was last refreshed; null when there is none. */
interface Found {
  content: string;
  pid: number;
  since: number;
  mtimeMs: number;
}

async function look(path: string): Promise<Found | null> {
  const found = await Promise.all([readFile(path, "utf8"), stat(path)]).catch(ifCode("ENOENT", null));
  if (!found) return null;
  const [content, { mtimeMs }] = found;
  const [pid = 0, , since = mtimeMs] = content.split(" ").map(Number);
  return { content, pid, since, mtimeMs };
}

function isStale({ content, pid, mtimeMs }: Found, owner: string, staleMs: number): boolean {
  return isGone(pid, content.startsWith(owner)) || isOlder(mtimeMs, pid > 0 ? staleMs : NAMELESS_MS);
}

/** Also true for a time in the future, so that a lock does not last longer when the clock is set back. */
function isOlder(mtimeMs: number, ms: number): boolean {
  return Math.abs(Date.now() - mtimeMs) > ms;
}

/** Removes a stale lock under a guard file: only its owner looks at the lock again and removes it, since the stale lock may have been replaced by a new one. */
async function removeStale(path: string, owner: string, staleMs: number): Promise<void> {
  const guard = `${path}.stale`;
  const file = await open(guard, "wx", LOCK_MODE).catch(ifCode("EEXIST", null));
  if (!file) {
    const found = await stat(guard).catch(ifCode("ENOENT", null));
    if (found && isOlder(found.mtimeMs, NAMELESS_MS)) await rm(guard, { force: true });
    else await pause(LOOK_MS);
    return;
  }
  try {
    const found = await look(path);
    if (found && isStale(found, owner, staleMs)) await rm(path, { force: true });
  } finally {
    await file.close();
    await rm(guard, { force: true });
  }
}

/** Waits until nobody else has the lock, and takes it. */
export async function waitForLock(path: string, staleMs: number): Promise<Lock> {
  for (;;) {
    const taken = await takeLock(path, staleMs);
    if ("release" in taken) return taken;
    await pause(LOOK_MS);
  }
}

/** Runs `work` as the only process that changes a training form (the journal has a lock of its own). Throws a UserError that names the process that is already doing so. */
export async function withModelLock<T>(model: string, work: (lock: Lock) => Promise<T>): Promise<T> {
  const path = `${model}.lock`;
  const taken = await takeLock(path, LEARNING_MS).catch((error: unknown) => {
    throw new UserError(`${path}: cannot be written (${reasonOf(error, path)})`);
  });
  if ("pid" in taken) throw new UserError(`${model}: process ${taken.pid} has been learning, or undoing, for ${Math.round((Date.now() - taken.since.getTime()) / 1000)} s; try again when it is done`);
  const drop = (): void => rmSync(path, { force: true });
  process.once("exit", drop);
  try {
    return await work(taken);
  } finally {
    process.off("exit", drop);
    await taken.release();
  }
}

function lockOf(path: string, owner: string): Lock {
  let refreshed = performance.now();
  return {
    refresh() {
      if (performance.now() - refreshed < REFRESH_MS) return;
      refreshed = performance.now();
      try {
        utimesSync(path, new Date(), new Date());
      } catch {
        // Somebody has deleted the lock on purpose.
      }
    },
    async release() {
      const found = await readFile(path, "utf8").catch(ifCode("ENOENT", ""));
      if (found.startsWith(owner)) await rm(path, { force: true });
    },
  };
}

function isGone(pid: number, isThisLife: boolean): boolean {
  if (!(pid > 0)) return false;
  if (pid === process.pid) return !isThisLife;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}
