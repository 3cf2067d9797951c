// A registry of models in a folder:
//
//   state.json            which version of each name is active, and the sequences reached
//   state.backup.json     the same again, for a disk that loses the first one
//   models/ID.update      complete updates: manifest and model; ID is the manifest's SHA-256
//   incoming/ID.part      the beginning of an update that is still being received
//   reserve               room for a state, so that going back and removing need none
//
// Only state.json changes, and it changes by one rename: the new file is written beside it
// and synced, renamed, the folder is synced, and only then are superfluous updates removed.
// A crash at any point leaves the old state or the new one, each with its models. Processes
// may share a folder: a lock lets one at a time change it.
import { randomBytes } from "node:crypto";
import { dirname, join, resolve } from "node:path";
import { EdgelabelError } from "../errors.ts";
import { isFull, temporaryIn } from "../files/atomic.ts";
import { realDisk } from "./disk.ts";
import type { Disk } from "./disk.ts";
import { readManifest, splitUpdate } from "./manifest.ts";
import type { SignedManifest } from "./manifest.ts";
import { addVersion, decodeState, encodeState, idsOf, prune } from "./state.ts";
import type { State } from "./state.ts";

export interface StoredUpdate extends SignedManifest {
  model: Buffer;
}

/** More than a state takes that has hundreds of versions. */
const RESERVE_BYTES = 262_144;
const DAY_MS = 86_400_000;
const PART_MS = 7 * DAY_MS;

export class Store {
  /** For messages. */
  readonly folder: string;
  readonly disk: Disk;
  /** The path to the same folder. */
  private at: string;
  private readonly now: () => number;
  private queue: Promise<unknown> = Promise.resolve();
  private hasFolders = false;

  constructor(folder: string, disk: Disk = realDisk, now: () => number = Date.now) {
    this.now = now;
    this.folder = this.at = resolve(folder);
    this.disk = disk;
  }

  updatePath(id: string): string {
    return join(this.at, "models", `${id}.update`);
  }

  partPath(id: string): string {
    return join(this.at, "incoming", `${id}.part`);
  }

  private get statePath(): string {
    return join(this.at, "state.json");
  }

  private get reservePath(): string {
    return join(this.at, "reserve");
  }

  private get backupPath(): string {
    return join(this.at, "state.backup.json");
  }

  /** The state on disk; if that is damaged or missing, its backup; without a backup, a state rebuilt from the updates. */
  async read(): Promise<State> {
    return this.stateFrom(await this.guarded(() => this.disk.read(this.statePath)));
  }

  private async stateFrom(bytes: Buffer | undefined): Promise<State> {
    const state = decodeState(bytes);
    if (state) return state;
    const made = bytes ? "damaged" : "missing";
    const copy = decodeState(await this.guarded(() => this.disk.read(this.backupPath)));
    return copy ? { ...copy, made } : this.rebuilt(made);
  }

  /** Undefined when the update is missing or damaged; throws for faults of the machine, such as too many open files. */
  async readUpdate(id: string): Promise<StoredUpdate | undefined> {
    const bytes = await this.guarded(() =>
      this.disk.read(this.updatePath(id)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === "EIO") return undefined;
        throw error;
      }),
    );
    if (!bytes) return undefined;
    try {
      const { head, model } = splitUpdate(bytes, id);
      const signed = readManifest(head, id, undefined);
      return signed.id === id ? { ...signed, model } : undefined;
    } catch {
      return undefined;
    }
  }

  /** Changes the state, and keeps a complete update that it then names, unless `edit` throws. Changes run one after the other. */
  change<T>(edit: (state: State) => T, update?: { id: string; bytes: Uint8Array }): Promise<T> {
    return this.alone(async () => {
      // Without a state file, read() would take the update for an installed one.
      if (update) await this.commit(() => {});
      return this.commit(edit, update);
    });
  }

  /** Removes what crashes left behind. Other writers hold the lock, except those of parts. */
  clean(now = Date.now()): Promise<void> {
    return this.alone(async () => {
      const isKept = new Set(idsOf(await this.read()));
      for (const folder of [this.at, join(this.at, "models"), join(this.at, "incoming")]) {
        for (const name of await this.disk.list(folder)) {
          const path = join(folder, name);
          const isLost =
            name.endsWith(".tmp") || (name.endsWith(".update") && !isKept.has(name.slice(0, -".update".length)));
          if (isLost || (name.endsWith(".part") && now - (await this.disk.modifiedAt(path)) > PART_MS))
            await this.disk.remove(path);
        }
      }
    });
  }

  async makeFolders(): Promise<void> {
    if (this.hasFolders) return;
    this.at = (await this.disk.enter?.(this.at)) ?? this.at;
    await this.disk.makeFolder(this.at);
    await this.disk.makeFolder(join(this.at, "models"));
    await this.disk.makeFolder(join(this.at, "incoming"));
    await this.disk.sync(this.at);
    // It was there before it was entered.
    if (this.at !== ".") await this.disk.sync(dirname(this.at));
    this.hasFolders = true;
  }

  /** Runs file operations, and turns their errors into EdgelabelErrors that name the registry. */
  async guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (error instanceof EdgelabelError || code === undefined) throw error;
      throw new EdgelabelError(`the registry ${this.folder} cannot be used (${message})`);
    }
  }

  /** Runs `work` after what this process has begun before, and while no other process changes the folder. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.queue.then(() =>
      this.guarded(async () => {
        await this.makeFolders();
        const unlock = await this.disk.lock(this.at);
        return work().finally(unlock);
      }),
    );
    this.queue = done.catch(() => {});
    return done;
  }

  private async commit<T>(edit: (state: State) => T, update?: { id: string; bytes: Uint8Array }): Promise<T> {
    for (;;) {
      const found = await this.disk.read(this.statePath);
      const before = await this.stateFrom(found);
      const after = structuredClone(before);
      delete after.made;
      const result = edit(after);
      prune(after);
      const { seen = 0 } = before;
      if (JSON.stringify(after) === JSON.stringify(before) && this.now() < seen + DAY_MS) return result;
      after.revision = before.revision + 1;
      after.seen = Math.max(this.now(), seen);
      const [was, isKept] = [new Set(idsOf(before)), new Set(idsOf(after))];
      const dropped = [...was].filter((id) => !isKept.has(id)).map((id) => this.updatePath(id));
      // The lock does not reach other machines; one of them may have changed the state meanwhile.
      const isUnchanged = async (): Promise<boolean> =>
        (await this.disk.read(this.statePath))?.toString() === found?.toString();
      // On a full disk, a change that adds nothing makes room first.
      const spare = [this.reservePath, ...(update ? [] : dropped)];
      if (update) await this.replace(this.updatePath(update.id), update.bytes);
      try {
        if (!(await this.withRoom(spare, () => this.replace(this.statePath, encodeState(after), isUnchanged))))
          continue;
      } catch (error) {
        // The new state may be in place all the same; then its update must stay.
        if (update && !was.has(update.id) && (await isUnchanged().catch(() => false)))
          await this.disk.remove(this.updatePath(update.id)).catch(() => {});
        throw error;
      }
      await this.withRoom(spare, () => this.replace(this.backupPath, encodeState(after)));
      for (const path of dropped) await this.disk.remove(path);
      await this.keepReserve();
      return result;
    }
  }

  /** Removes spare files, one by one, while there is no room for the work. */
  private async withRoom<T>(spare: readonly string[], work: () => Promise<T>): Promise<T> {
    for (let i = 0; ; i++) {
      try {
        return await work();
      } catch (error) {
        if (!isFull(error) || i === spare.length) throw error;
        await this.disk.remove(spare[i]!);
      }
    }
  }

  /** Bytes that no file system can compress. Without room for them there is no reserve until the next change. */
  private async keepReserve(): Promise<void> {
    if ((await this.disk.list(this.at)).includes("reserve")) return;
    await this.disk.write(this.reservePath, randomBytes(RESERVE_BYTES)).catch(async (error: unknown) => {
      if (!isFull(error)) throw error;
      await this.disk.remove(this.reservePath);
    });
  }

  /** Writes a file beside `path` and renames it into place, unless `isRight` says no by then; returns whether it did. */
  private async replace(path: string, bytes: Uint8Array | string, isRight?: () => Promise<boolean>): Promise<boolean> {
    const temporary = temporaryIn(dirname(path));
    try {
      await this.disk.write(temporary, bytes);
      await this.disk.sync(temporary);
      if (isRight && !(await isRight())) {
        await this.disk.remove(temporary);
        return false;
      }
      await this.disk.rename(temporary, path);
    } catch (error) {
      await this.disk.remove(temporary).catch(() => {});
      throw error;
    }
    await this.disk.sync(dirname(path));
    return true;
  }

  /** A state from the updates alone: for each name the signed update with the highest sequence is active, else the latest one. */
  private async rebuilt(why: "damaged" | "missing"): Promise<State> {
    const state: State = { revision: 0, models: [] };
    const found: SignedManifest[] = [];
    for (const name of await this.disk.list(join(this.at, "models"))) {
      const update = name.endsWith(".update") ? await this.readUpdate(name.slice(0, -".update".length)) : undefined;
      if (update) found.push(update);
    }
    found.sort((a, b) => sequenceOf(a) - sequenceOf(b) || a.manifest.signed.localeCompare(b.manifest.signed));
    for (const signed of found) {
      const entry = addVersion(state, signed, new Date(0).toISOString());
      entry.isRebuilt = true;
      [entry.active, entry.previous] = [signed.id, entry.active];
    }
    return { ...state, made: why === "missing" && found.length === 0 ? "new" : why };
  }
}

function sequenceOf({ key, manifest }: SignedManifest): number {
  return key === undefined ? 0 : manifest.sequence;
}
