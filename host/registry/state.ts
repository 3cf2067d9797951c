// What a registry knows about its models: which versions of each name are kept, which one is
// active, and which sequences have been reached. Plain data and functions on it; store.ts keeps
// it on disk.
import { createHash } from "node:crypto";
import { EdgelabelError } from "../errors.ts";
import type { Manifest, SignedManifest } from "./manifest.ts";

/** One update that is kept. */
export interface Version {
  id: string;
  version: string;
  digest: string;
  bytes: number;
  /** Of a signed update. */
  sequence?: number | undefined;
  key?: string | undefined;
  /** SHA-256 of the training form that a version has which was learnt here. */
  training?: string | undefined;
  installed: string;
  /** When it became active for the first time; undefined: never yet. */
  activated?: string | undefined;
  /** Why it was rolled back. Such a version becomes active again only when it is named. */
  failed?: string | undefined;
}

/** All versions of one name. When all are removed, the entry stays for its sequences. */
export interface Entry {
  name: string;
  /** Ids. `active` is undefined only while no installed version has been activated. */
  active?: string | undefined;
  previous?: string | undefined;
  /** Starts of the service with a newly activated version that has not proven itself yet. */
  trial?: { starts: number } | undefined;
  /** Rebuilt from the updates alone, so it is not known whether `active` may be active. */
  isRebuilt?: true | undefined;
  versions: Version[];
  /** Highest installed sequence, by key id. */
  sequences: Record<string, number>;
}

export interface State {
  revision: number;
  /** The latest time that this machine's clock has shown, in milliseconds since 1970: setting it back makes nothing valid again. Noted with each change, and daily. */
  seen?: number | undefined;
  models: Entry[];
  /** Set when state.json was missing or damaged and this state was made otherwise; the next change writes it. */
  made?: "new" | "damaged" | "missing" | undefined;
}

/** A version, with its name and state. */
export interface VersionInfo extends Version {
  name: string;
  state: "active" | "previous" | "failed" | "waiting";
}

export function entryOf(state: State, name: string): Entry | undefined {
  return state.models.find((entry) => entry.name === name);
}

/** The entry of a name that has versions; throws an EdgelabelError when there is none. */
export function requireEntry(state: State, name: string): Entry {
  const entry = entryOf(state, name);
  if (entry && entry.versions.length > 0) return entry;
  const names = state.models.filter(({ versions }) => versions.length > 0).map((each) => each.name);
  throw new EdgelabelError(`the registry has no model ${JSON.stringify(name)}; it has ${names.join(", ") || "none"}`);
}

export function versionOf({ versions }: Entry, id: string | undefined): Version | undefined {
  return versions.find((version) => version.id === id);
}

/** Adds a version to its entry, and notes its sequence. */
export function addVersion(
  state: State,
  { id, key, manifest }: SignedManifest,
  installed: string,
  training?: string,
): Entry {
  const { name, version, digest, bytes, sequence } = manifest;
  let entry = entryOf(state, name);
  if (!entry) state.models.push((entry = { name, versions: [], sequences: {} }));
  const kept = key === undefined ? {} : { sequence, key };
  entry.versions = [
    ...entry.versions.filter((each) => each.id !== id),
    { id, version, digest, bytes, ...kept, training, installed },
  ];
  if (key !== undefined) entry.sequences[key] = Math.max(sequence, entry.sequences[key] ?? 0);
  return entry;
}

/** Makes a version active, for a trial; what was active until then becomes the previous one, unless it has failed. */
export function makeActive(entry: Entry, id: string, now: string): void {
  const chosen = versionOf(entry, id)!;
  chosen.activated ??= now;
  delete entry.isRebuilt;
  if (entry.active === id) return;
  const active = versionOf(entry, entry.active);
  if (active && active.failed === undefined) entry.previous = active.id;
  else if (entry.previous === id) delete entry.previous;
  entry.active = id;
  entry.trial = { starts: 0 };
  delete chosen.failed;
}

/** The sequence that an update must exceed; updates that revoked keys have signed do not count, nor does `kept` itself. */
export function floorOf(state: State, { name }: Manifest, revoked: ReadonlySet<string>, kept?: Version): number {
  const counting = Object.entries(entryOf(state, name)?.sequences ?? {}).filter(
    ([key, sequence]) => !revoked.has(key) && !(key === kept?.key && sequence === kept.sequence),
  );
  return counting.reduce((highest, [, sequence]) => Math.max(highest, sequence), 0);
}

/** Keeps three versions of each name: the active one, the previous one, and the latest other one. */
export function prune({ models }: State): void {
  for (const entry of models) {
    const other = entry.versions.filter(({ id }) => id !== entry.active && id !== entry.previous).at(-1)?.id;
    entry.versions = entry.versions.filter(({ id }) => id === entry.active || id === entry.previous || id === other);
  }
}

export function idsOf({ models }: State): string[] {
  return models.flatMap(({ versions }) => versions.map(({ id }) => id));
}

export function encodeState(state: State): string {
  const json = JSON.stringify(state, undefined, 1);
  return `${createHash("sha256").update(json).digest("hex")}\n${json}\n`;
}

/** Undefined when it is damaged. */
export function decodeState(bytes: Buffer | undefined): State | undefined {
  const [, checksum, json] = /^([0-9a-f]{64})\n(.*)\n$/s.exec(bytes?.toString() ?? "") ?? [];
  return json !== undefined && createHash("sha256").update(json).digest("hex") === checksum
    ? (JSON.parse(json) as State)
    : undefined;
}

/** `which` is a version, or the beginning of a digest or an id. */
export function findVersion({ name, versions }: Entry, which: string): Version {
  const found = versions.filter(
    ({ version, digest, id }) =>
      version === which || (which.length >= 6 && (digest.startsWith(which) || id.startsWith(which))),
  );
  if (found.length === 1) return found[0]!;
  const known = versions.map(({ version, digest }) => `${version} (${digest.slice(0, 12)})`).join(", ");
  throw new EdgelabelError(
    `${found.length === 0 ? "there is no" : "more than one is a"} version ${JSON.stringify(which)} of ${name}; there are ${known}: name one by its version, or by the beginning of its digest`,
  );
}

function stateOf(entry: Entry, { id, failed }: Version): VersionInfo["state"] {
  if (id === entry.active) return "active";
  if (failed !== undefined) return "failed";
  return id === entry.previous ? "previous" : "waiting";
}

export function infoOf(entry: Entry, id: string): VersionInfo {
  const version = versionOf(entry, id)!;
  return { name: entry.name, state: stateOf(entry, version), ...version };
}
