// What can be done with a registry: install, activate, roll back and remove versions, and
// open the active ones. An update passes these steps, any of which may refuse it:
//
//   signature -> engine ABI, expiry, sequence -> digest -> self-test -> file -> state
import { EdgelabelError } from "../errors.ts";
import type { ModelFile } from "../model/file.ts";
import { realDisk } from "./disk.ts";
import type { Disk } from "./disk.ts";
import { readTrustedKeys } from "./keys.ts";
import type { TrustedKeys } from "./keys.ts";
import { checkFitness, encodeManifest, readManifest, splitUpdate } from "./manifest.ts";
import type { SignedManifest } from "./manifest.ts";
import { describeModel, testModel } from "./selftest.ts";
import { addVersion, entryOf, findVersion, floorOf, infoOf, makeActive, requireEntry, versionOf } from "./state.ts";
import type { Entry, State, Version, VersionInfo } from "./state.ts";
import { Store } from "./store.ts";
import type { StoredUpdate } from "./store.ts";

export interface RegistryOptions {
  /** File of the keys with which updates may be signed; without it no update is taken. */
  keys?: string | undefined;
  disk?: Disk;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export interface InstallOptions {
  /** false: the version is only kept, for `activate`. */
  activate?: boolean;
}

/** Where a model comes from that was learnt here. */
export interface Learnt {
  /** SHA-256 of its training form. */
  training: string;
  /** Id of the version that was active when learning began. If another one is by now, what was learnt waits. */
  active: string;
}

export interface OpenModel {
  id: string;
  /** Its trial has not ended yet; see live-models.ts. */
  isOnTrial: boolean;
  classifier: ModelFile;
}

/** A version on trial is rolled back after this many starts that the service did not survive. */
const STARTS_UNTIL_ROLLBACK = 2;

/** Fields of an unsigned manifest that do not limit it: the lowest sequence and the last date. */
const UNSIGNED = { sequence: 1, expires: new Date(8.64e15) };

export class Registry {
  readonly store: Store;
  private readonly keys: string | undefined;
  private readonly now: () => number;

  constructor(folder: string, { keys, disk = realDisk, now = Date.now }: RegistryOptions = {}) {
    this.store = new Store(folder, disk, now);
    this.keys = keys;
    this.now = now;
  }

  async versions(): Promise<VersionInfo[]> {
    const { models } = await this.store.read();
    return models.flatMap((entry) => [...entry.versions].reverse().map(({ id }) => infoOf(entry, id)));
  }

  async active(name: string): Promise<VersionInfo> {
    const entry = requireEntry(await this.store.read(), name);
    if (entry.active !== undefined) return infoOf(entry, entry.active);
    throw new EdgelabelError(`no version of ${name} is active in the registry ${this.store.folder}`);
  }

  /** Whether anything was ever installed in the folder. */
  async exists(): Promise<boolean> {
    return (await this.store.read()).made !== "new";
  }

  get hasKeys(): boolean {
    return this.keys !== undefined;
  }

  trustedKeys(): Promise<TrustedKeys> {
    if (this.keys === undefined)
      throw new EdgelabelError(
        'no keys are trusted here, so nothing that is signed can be installed or activated: give --keys FILE, or "registry": {"path", "keys"} in the configuration file',
      );
    return readTrustedKeys(this.keys);
  }

  /** Reads a manifest that may be installed now; throws an EdgelabelError that says why it may not. */
  async admit(head: Uint8Array, source: string): Promise<SignedManifest> {
    const keys = await this.trustedKeys();
    const signed = readManifest(head, source, keys);
    this.checkFitness(signed, source, await this.store.read(), keys);
    return signed;
  }

  /** Installs a signed update. */
  async install(update: Uint8Array, source: string, { activate = true }: InstallOptions = {}): Promise<VersionInfo> {
    const { head, model } = splitUpdate(update, source);
    const keys = await this.trustedKeys();
    const signed = readManifest(head, source, keys);
    const check = (state: State) => this.checkFitness(signed, source, state, keys);
    check(await this.store.read());
    await testModel(model, signed.manifest, source);
    // The check is repeated, since another update may have been installed during the self-test.
    return this.take(signed, update, { activate }, check);
  }

  /** Installs a model file without a signature: one that was given on this machine's command line, or learnt here. */
  async adopt(
    model: Uint8Array,
    source: string,
    { name, activate = true, learnt }: InstallOptions & { name?: string | undefined; learnt?: Learnt } = {},
  ): Promise<VersionInfo> {
    const head = encodeManifest(await describeModel(model, source, { name, ...UNSIGNED }));
    return this.take(readManifest(head, source, undefined), Buffer.concat([head, model]), { activate, learnt });
  }

  private async take(
    signed: SignedManifest,
    update: Uint8Array,
    { activate, learnt }: { activate: boolean; learnt?: Learnt | undefined },
    check?: (state: State) => void,
  ): Promise<VersionInfo> {
    const { id } = signed;
    return this.store.change(
      (state) => {
        check?.(state);
        const entry = addVersion(state, signed, this.timestamp(), learnt?.training);
        if (activate && (!learnt || entry.active === learnt.active)) makeActive(entry, id, this.timestamp());
        return infoOf(entry, id);
      },
      { id, bytes: update },
    );
  }

  activate(name: string, which: string): Promise<VersionInfo> {
    return this.switchTo(name, (entry) => findVersion(entry, which));
  }

  rollback(name: string): Promise<VersionInfo> {
    return this.switchTo(name, (entry) => {
      const previous = versionOf(entry, entry.previous);
      if (!previous) throw new EdgelabelError(`${name} has no previous version to go back to`);
      return previous;
    });
  }

  /** Removes all versions of the name, or one that is not active; returns them. The sequences that were reached are kept. */
  remove(name: string, which?: string): Promise<Version[]> {
    return this.changeExisting((state) => {
      const entry = requireEntry(state, name);
      const gone = which === undefined ? entry.versions : [findVersion(entry, which)];
      if (which !== undefined && gone[0]!.id === entry.active)
        throw new EdgelabelError(
          `version ${which} of ${name} is active: activate another one first, or remove the whole name`,
        );
      entry.versions = entry.versions.filter((version) => !gone.includes(version));
      for (const slot of ["active", "previous"] as const)
        if (gone.some(({ id }) => id === entry[slot])) delete entry[slot];
      if (entry.active === undefined) delete entry.trial;
      return gone;
    });
  }

  /**
   * Opens and tests the active version of a name. If it does not pass, or the service did not
   * survive its first starts with it, the previous version becomes active and is opened, if its
   * key still counts. Undefined when no version is left. Works also when the folder cannot be written.
   * A start counts as one, and a check changes nothing.
   */
  async open(
    name: string,
    rejected: (version: Version, reason: string) => void,
    when: "start" | "running" | "check" = "running",
  ): Promise<OpenModel | undefined> {
    const state = await this.store.read();
    const entry = entryOf(state, name);
    if (!entry) return undefined;
    let { active, previous, trial, isRebuilt: mustBeAdmitted = false } = entry;
    while (active !== undefined) {
      const id = active;
      const version = versionOf(entry, id)!;
      const isBeyondHope = when === "start" && previous !== undefined && (trial?.starts ?? 0) >= STARTS_UNTIL_ROLLBACK;
      let reason = `the service did not get through its first ${STARTS_UNTIL_ROLLBACK} starts with it`;
      if (!isBeyondHope) {
        if (when === "start" && trial)
          await this.changeTrial(name, id, (_, running) => running.starts++).catch(() => {});
        // A fault of the machine, such as too many open files, is no fault of the version.
        const update = await this.store.readUpdate(id);
        try {
          if (mustBeAdmitted) await this.readmit(name, version, state);
          return { id, isOnTrial: trial !== undefined, classifier: await this.test(id, update) };
        } catch (error) {
          if (!(error instanceof EdgelabelError)) throw error;
          reason = error.message;
        }
      }
      rejected(version, reason);
      if (when !== "check") await this.reject(name, id, reason).catch(() => {});
      [active, previous, trial, mustBeAdmitted] = [previous, undefined, undefined, true];
    }
    return undefined;
  }

  /** Marks the active version as failed and makes the previous one active. Throws an EdgelabelError if that one may not become active again; then none is. */
  async reject(name: string, id: string, reason: string): Promise<void> {
    const state = await this.store.read();
    const before = entryOf(state, name);
    const previous = before?.active === id ? versionOf(before, before.previous) : undefined;
    const objection =
      previous &&
      (await this.readmit(name, previous, state).then(
        () => undefined,
        (error: unknown) => error,
      ));
    await this.store.change((now) => {
      const entry = entryOf(now, name);
      if (entry?.active !== id) return;
      versionOf(entry, id)!.failed = reason;
      if (objection !== undefined || previous === undefined || entry.previous !== previous.id) return;
      // The previous version has had its trial. A second one could let two bad versions alternate for ever.
      entry.active = entry.previous;
      delete entry.previous;
      delete entry.trial;
    });
    if (objection !== undefined)
      throw objection instanceof EdgelabelError
        ? new EdgelabelError(`${name} has no version to go back to: ${objection.message}`)
        : objection;
  }

  /** Ends the trial of the active version. */
  prove(name: string, id: string): Promise<void> {
    return this.changeTrial(name, id, (entry) => delete entry.trial);
  }

  /** After an orderly stop: the starts of a version on trial do not count against it. */
  endStart(name: string, id: string): Promise<void> {
    return this.changeTrial(name, id, (_, trial) => (trial.starts = 0));
  }

  /** Does nothing unless this version is active and on trial. */
  private changeTrial(
    name: string,
    id: string,
    edit: (entry: Entry, trial: { starts: number }) => unknown,
  ): Promise<void> {
    return this.store.change((state) => {
      const entry = entryOf(state, name);
      if (entry?.active === id && entry.trial) edit(entry, entry.trial);
    });
  }

  private checkFitness(signed: SignedManifest, source: string, state: State, keys: TrustedKeys, kept?: Version): void {
    checkFitness(signed, source, {
      now: Math.max(this.now(), state.seen ?? 0),
      floor: floorOf(state, signed.manifest, keys.revoked, kept),
    });
  }

  /** Throws an EdgelabelError unless a version that is kept may become active: its signature must still count, and what never was active must be as new as what is installed. */
  private async readmit(name: string, kept: Version, state: State): Promise<void> {
    const update = this.present(kept.id, await this.store.readUpdate(kept.id));
    // Whoever can write in the folder vouches for what is not signed.
    if (update.key === undefined) return;
    const source = `version ${kept.version} of ${name}`;
    const keys = await this.trustedKeys();
    const signed = readManifest(update.head, source, keys);
    if (kept.activated === undefined) this.checkFitness(signed, source, state, keys, kept);
  }

  private timestamp(): string {
    return new Date(this.now()).toISOString();
  }

  /** Opens what a service would open, without changing the registry. */
  async check(failed: (name: string, version: Version, reason: string) => void): Promise<Map<string, ModelFile>> {
    const open = new Map<string, ModelFile>();
    for (const { name } of (await this.store.read()).models) {
      const found = await this.open(name, (version, reason) => failed(name, version, reason), "check");
      if (found) open.set(name, found.classifier);
    }
    return open;
  }

  private async test(id: string, update: StoredUpdate | undefined): Promise<ModelFile> {
    const { model, manifest } = this.present(id, update);
    return testModel(model, manifest, this.store.updatePath(id));
  }

  private present(id: string, update: StoredUpdate | undefined): StoredUpdate {
    if (!update) throw new EdgelabelError(`${this.store.updatePath(id)} is missing or damaged`);
    return update;
  }

  private async switchTo(name: string, choose: (entry: Entry) => Version): Promise<VersionInfo> {
    const state = await this.store.read();
    const chosen = state.made === "new" ? undefined : choose(requireEntry(state, name));
    if (chosen) await this.readmit(name, chosen, state);
    return this.changeExisting((now) => {
      const entry = requireEntry(now, name);
      const { id } = choose(entry);
      if (id !== chosen?.id) throw new EdgelabelError(`another process has changed the versions of ${name}; try again`);
      makeActive(entry, id, this.timestamp());
      return infoOf(entry, id);
    });
  }

  /** Throws an EdgelabelError when there is no registry yet, so that a mistyped folder does not become one. */
  private async changeExisting<T>(edit: (state: State) => T): Promise<T> {
    if (!(await this.exists()))
      throw new EdgelabelError(`there is no registry in ${this.store.folder}, or nothing was installed there yet`);
    return this.store.change(edit);
  }
}
