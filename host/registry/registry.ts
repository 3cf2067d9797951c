// What can be done with a registry: install, activate, roll back and remove versions, and
// open the active ones. An update passes these steps, any of which may refuse it:
//
//   signature -> engine ABI, expiry, sequence -> digest -> self-test -> file -> state
import { UserError } from "../errors.ts";
import type { Classifier } from "../model/classifier.ts";
import { realDisk } from "./disk.ts";
import type { Disk } from "./disk.ts";
import { readTrustedKeys } from "./keys.ts";
import type { TrustedKeys } from "./keys.ts";
import { checkFitness, encodeManifest, readManifest, splitUpdate } from "./manifest.ts";
import type { SignedManifest } from "./manifest.ts";
import { describeModel, testModel } from "./selftest.ts";
import { enter, entryOf, floorOf, Store } from "./store.ts";
import type { Entry, State, StoredUpdate, Version } from "./store.ts";

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

/** A version as people see it. */
export interface VersionInfo extends Version {
  name: string;
  state: "active" | "previous" | "failed" | "waiting";
}

export interface OpenModel {
  id: string;
  /** Its trial has not ended yet; see live-models.ts. */
  isOnTrial: boolean;
  classifier: Classifier;
}

/** A version on trial that the service started so often without surviving is rolled back at the next start. */
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
    return models.flatMap((entry) =>
      entry.versions.toReversed().map((version) => ({ name: entry.name, state: stateOf(entry, version), ...version })),
    );
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
      throw new UserError(
        'no keys are trusted here, so nothing that is signed can be taken or activated: give --keys FILE, or "registry": {"path", "keys"} in the configuration file',
      );
    return readTrustedKeys(this.keys);
  }

  /** Reads a manifest that may be installed now; throws a UserError that says why it may not. */
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
    await this.tryOut({ ...signed, model }, source);
    // The check is repeated, since another update may have been installed during the self-test.
    return this.take(signed, update, activate, check);
  }

  /** Installs a model file without a signature: one that was given on this machine's command line, or learnt here. */
  async adopt(
    model: Uint8Array,
    source: string,
    { name, activate = true }: InstallOptions & { name?: string | undefined } = {},
  ): Promise<VersionInfo> {
    return this.takeUnsigned(model, source, name, activate);
  }

  /** Notes that a run begins which may make a new version of `output`, the file with that digest (undefined: there is none). */
  async beginLearning(name: string, output: string | undefined): Promise<void> {
    await this.changeExisting((state) => {
      const entry = this.entry(state, name);
      entry.learning = { active: entry.active, output };
    });
  }

  /** What is noted of a run whose outcome is not known yet. */
  async learningOf(name: string): Promise<Entry["learning"]> {
    return entryOf(await this.store.read(), name)?.learning;
  }

  /** Ends a run that has learnt nothing. */
  async endLearning(name: string): Promise<void> {
    await this.store.change((state) => void delete entryOf(state, name)?.learning);
  }

  /** Installs what was learnt. It becomes active unless another version has become so since the run began. */
  async adoptLearnt(model: Uint8Array, source: string, name: string): Promise<VersionInfo> {
    return this.takeUnsigned(
      model,
      source,
      name,
      ({ active, learning }) => learning !== undefined && learning.active === active,
    );
  }

  private async takeUnsigned(
    model: Uint8Array,
    source: string,
    name: string | undefined,
    activate: boolean | ((entry: Entry) => boolean),
  ): Promise<VersionInfo> {
    const head = encodeManifest(await describeModel(model, source, { name, ...UNSIGNED }));
    return this.take(readManifest(head, source, undefined), Buffer.concat([head, model]), activate);
  }

  private async take(
    signed: SignedManifest,
    update: Uint8Array,
    activate: boolean | ((entry: Entry) => boolean),
    check?: (state: State) => void,
  ): Promise<VersionInfo> {
    const { id } = signed;
    return this.store.change(
      (state) => {
        check?.(state);
        const entry = enter(state, signed, new Date(this.now()).toISOString());
        if (typeof activate === "boolean" ? activate : activate(entry)) this.makeActive(entry, id);
        if (typeof activate !== "boolean") delete entry.learning;
        return infoOf(entry, id);
      },
      { id, bytes: update },
    );
  }

  /** `which` is a version, or the beginning of a digest or an id. */
  activate(name: string, which: string): Promise<VersionInfo> {
    return this.switchTo(name, (entry) => find(entry, which));
  }

  rollback(name: string): Promise<VersionInfo> {
    return this.switchTo(name, (entry) => {
      const previous = entry.versions.find(({ id }) => id === entry.previous);
      if (!previous) throw new UserError(`${name} has no previous version to go back to`);
      return previous;
    });
  }

  /** Removes all versions of the name, or one that is not active; returns them. The sequences that were reached are kept. */
  remove(name: string, which?: string): Promise<Version[]> {
    return this.changeExisting((state) => {
      const entry = this.entry(state, name);
      const gone = which === undefined ? entry.versions : [find(entry, which)];
      if (which !== undefined && gone[0]!.id === entry.active)
        throw new UserError(
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
   */
  async open(
    name: string,
    rejected: (version: Version, reason: string) => void,
    isStart = false,
  ): Promise<OpenModel | undefined> {
    const state = await this.store.read();
    const entry = entryOf(state, name);
    if (!entry) return undefined;
    let { active, previous, trial, isRebuilt: mustBeAdmitted = false } = entry;
    while (active !== undefined) {
      const id = active;
      const version = entry.versions.find((each) => each.id === id)!;
      const isBeyondHope = isStart && previous !== undefined && (trial?.starts ?? 0) >= STARTS_UNTIL_ROLLBACK;
      let reason = `the service did not get through its first ${STARTS_UNTIL_ROLLBACK} starts with it`;
      if (!isBeyondHope) {
        if (isStart && trial) await this.countStart(name, id).catch(() => {});
        // A fault of the machine, such as too many open files, is no fault of the version.
        const update = await this.store.readUpdate(id);
        try {
          if (mustBeAdmitted) await this.readmit(name, version, state);
          return { id, isOnTrial: trial !== undefined, classifier: await this.test(id, update) };
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          reason = error.message;
        }
      }
      rejected(version, reason);
      await this.reject(name, id, reason).catch(() => {});
      [active, previous, trial, mustBeAdmitted] = [previous, undefined, undefined, true];
    }
    return undefined;
  }

  /** Marks the active version as failed and makes the previous one active. Throws a UserError when there is one that may not become active again; then nothing else does either. */
  async reject(name: string, id: string, reason: string): Promise<void> {
    const state = await this.store.read();
    const before = entryOf(state, name);
    const previous =
      before?.active === id ? before.versions.find((version) => version.id === before.previous) : undefined;
    const objection =
      previous &&
      (await this.readmit(name, previous, state).then(
        () => undefined,
        (error: unknown) => error,
      ));
    await this.store.change(({ models }) => {
      const entry = models.find((each) => each.name === name);
      if (entry?.active !== id) return;
      entry.versions.find((version) => version.id === id)!.failed = reason;
      if (objection !== undefined || previous === undefined || entry.previous !== previous.id) return;
      // The previous version has had its trial. A second one could let two bad versions alternate for ever.
      entry.active = entry.previous;
      delete entry.previous;
      delete entry.trial;
    });
    if (objection !== undefined)
      throw objection instanceof UserError
        ? new UserError(`${name} has no version to go back to: ${objection.message}`)
        : objection;
  }

  /** Ends the trial of the active version. */
  async prove(name: string, id: string): Promise<void> {
    await this.store.change((state) => {
      const entry = entryOf(state, name);
      if (entry?.active === id) delete entry.trial;
    });
  }

  /** After an orderly stop: the starts of a version on trial do not count against it. */
  async endStart(name: string, id: string): Promise<void> {
    await this.store.change((state) => {
      const entry = entryOf(state, name);
      if (entry?.active === id && entry.trial) entry.trial = { starts: 0 };
    });
  }

  private checkFitness(signed: SignedManifest, source: string, state: State, { revoked }: TrustedKeys): void {
    checkFitness(signed, source, { now: this.time(state), floor: floorOf(state, signed.manifest, revoked) });
  }

  /** Throws a UserError unless a version that is kept may become active: its signature must still count, and what never was active must be as new as what is installed. */
  private async readmit(name: string, kept: Version, state: State): Promise<void> {
    const update = this.present(kept.id, await this.store.readUpdate(kept.id));
    // Whoever can write in the folder vouches for what is not signed.
    if (update.key === undefined) return;
    const source = `version ${kept.version} of ${name}`;
    const keys = await this.trustedKeys();
    const signed = readManifest(update.head, source, keys);
    if (kept.activated === undefined)
      checkFitness(signed, source, {
        now: this.time(state),
        floor: floorOf(state, signed.manifest, keys.revoked, kept),
      });
  }

  private time({ seen = 0 }: State): number {
    return Math.max(this.now(), seen);
  }

  private async countStart(name: string, id: string): Promise<void> {
    await this.store.change((state) => {
      const entry = entryOf(state, name);
      if (entry?.active === id && entry.trial) entry.trial.starts++;
    });
  }

  /** Opens what a service would open, without changing the registry. */
  async check(failed: (name: string, version: Version, reason: string) => void): Promise<Map<string, Classifier>> {
    const open = new Map<string, Classifier>();
    const state = await this.store.read();
    for (const { name, active, previous, versions, isRebuilt } of state.models) {
      for (const version of [active, previous].flatMap((id) => versions.find((each) => each.id === id) ?? [])) {
        try {
          if (isRebuilt || version.id !== active) await this.readmit(name, version, state);
          open.set(name, await this.test(version.id, await this.store.readUpdate(version.id)));
          break;
        } catch (error) {
          failed(name, version, (error as Error).message);
        }
      }
    }
    return open;
  }

  private async test(id: string, update: StoredUpdate | undefined): Promise<Classifier> {
    return this.tryOut(this.present(id, update), this.store.updatePath(id));
  }

  private present(id: string, update: StoredUpdate | undefined): StoredUpdate {
    if (!update) throw new UserError(`${this.store.updatePath(id)} is missing or damaged`);
    return update;
  }

  private async switchTo(name: string, choose: (entry: Entry) => Version): Promise<VersionInfo> {
    const state = await this.store.read();
    const chosen = state.made === "new" ? undefined : choose(this.entry(state, name));
    if (chosen) await this.readmit(name, chosen, state);
    return this.changeExisting((now) => {
      const entry = this.entry(now, name);
      const { id } = choose(entry);
      if (id !== chosen?.id) throw new UserError(`another process has changed the versions of ${name}; try again`);
      this.makeActive(entry, id);
      return infoOf(entry, id);
    });
  }

  /** Throws a UserError when there is no registry yet, so that a mistyped folder does not become one. */
  private async changeExisting<T>(edit: (state: State) => T): Promise<T> {
    if (!(await this.exists()))
      throw new UserError(`there is no registry in ${this.store.folder}, or nothing was installed there yet`);
    return this.store.change(edit);
  }

  private tryOut({ model, manifest }: StoredUpdate, source: string): Promise<Classifier> {
    return testModel(model, manifest, source);
  }

  private makeActive(entry: Entry, id: string): void {
    const chosen = entry.versions.find((version) => version.id === id)!;
    chosen.activated ??= new Date(this.now()).toISOString();
    delete entry.isRebuilt;
    if (entry.active === id) return;
    const active = entry.versions.find((version) => version.id === entry.active);
    if (active && active.failed === undefined) entry.previous = active.id;
    else if (entry.previous === id) delete entry.previous;
    entry.active = id;
    entry.trial = { starts: 0 };
    delete chosen.failed;
  }

  private entry(state: State, name: string): Entry {
    const entry = entryOf(state, name);
    if (entry && entry.versions.length > 0) return entry;
    const names = state.models.filter(({ versions }) => versions.length > 0).map((each) => each.name);
    throw new UserError(`the registry has no model ${JSON.stringify(name)}; it has ${names.join(", ") || "none"}`);
  }
}

function find({ name, versions }: Entry, which: string): Version {
  const found = versions.filter(
    ({ version, digest, id }) =>
      version === which || (which.length >= 6 && (digest.startsWith(which) || id.startsWith(which))),
  );
  if (found.length === 1) return found[0]!;
  const known = versions.map(({ version, digest }) => `${version} (${digest.slice(0, 12)})`).join(", ");
  throw new UserError(
    `${found.length === 0 ? "there is no" : "more than one is a"} version ${JSON.stringify(which)} of ${name}; there are ${known}: name one by its version, or by the beginning of its digest`,
  );
}

function stateOf(entry: Entry, { id, failed }: Version): VersionInfo["state"] {
  if (id === entry.active) return "active";
  if (failed !== undefined) return "failed";
  return id === entry.previous ? "previous" : "waiting";
}

function infoOf(entry: Entry, id: string): VersionInfo {
  const version = entry.versions.find((each) => each.id === id)!;
  return { name: entry.name, state: stateOf(entry, version), ...version };
}
