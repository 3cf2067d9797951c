// Small models, keys and updates for the registry's tests, and a disk in memory that
// counts its steps and can lose its power at any of them.
import { createHash, createPrivateKey, generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { dirname } from "node:path";
import { ACTIVATION_SIGMOID } from "../../assembly/abi.ts";
import { packModel } from "../../host/model/pack.ts";
import type { Disk } from "../../host/registry/disk.ts";
import { trustLine } from "../../host/registry/keys.ts";
import { encodeManifest } from "../../host/registry/manifest.ts";
import type { Manifest } from "../../host/registry/manifest.ts";
import { describeModel } from "../../host/registry/selftest.ts";
import { dense, embedding, lstm, makeModel, Seeded } from "./models.ts";

export const DAY = 86_400_000;

/** Version `v` answers the text "which" with the score sigmoid(v), whatever else it says. */
export async function modelOf(version: number, { name = "spam", packed = false } = {}): Promise<Uint8Array> {
  const model = await makeModel(
    {
      words: ["win"],
      labels: ["ham", "spam"],
      layers: [embedding(2), lstm(2), dense(1, ACTIVATION_SIGMOID)],
      name,
      version: String(version),
    },
    (i, length) => (i === 5 ? Float32Array.of(version) : new Float32Array(length)),
  );
  const elb = model.write("int8");
  return packed ? packModel(elb) : elb;
}

/** The line that version `v` gives for every text, from first principles. */
export function lineOf(version: number): string {
  return `spam\t${(1 / (1 + Math.exp(-version))).toFixed(6)}`;
}

export function newKey(): KeyObject {
  return createPrivateKey(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
}

export function keysFile(keys: readonly KeyObject[], revoked: readonly KeyObject[] = []): string {
  return [
    "# keys",
    ...keys.map((key) => trustLine(key, "trusted here")),
    ...revoked.map((key) => `revoked ${trustLine(key, "lost")}`),
    "",
  ].join("\n");
}

export interface Signed {
  head: Buffer;
  model: Uint8Array;
  update: Buffer;
  manifest: Manifest;
}

/** `changes` lie about the model, or about its time. */
export async function signed(
  model: Uint8Array,
  key: KeyObject,
  sequence: number,
  changes: Partial<Manifest> = {},
): Promise<Signed> {
  const manifest = {
    ...(await describeModel(model, "model", { sequence, expires: new Date(Date.now() + DAY) })),
    ...changes,
  };
  const head = encodeManifest(manifest, key);
  return { head, model, update: Buffer.concat([head, model]), manifest };
}

/** A WebAssembly module whose start function is `loop br 0 end`. */
const ENDLESS = Buffer.from("0061736d01000000010401600000030201000801000a0901070003400c000b0b", "hex");

/** Well signed, with the manifest of another model, and of no use: code that never ends, without a model. */
export function signedEndless(like: Manifest, key: KeyObject, changes: Partial<Manifest>): Signed {
  const manifest: Manifest = {
    ...like,
    digest: createHash("sha256").update(ENDLESS).digest("hex"),
    bytes: ENDLESS.length,
    ...changes,
  };
  const head = encodeManifest(manifest, key);
  return { head, model: ENDLESS, update: Buffer.concat([head, ENDLESS]), manifest };
}

/** The power is gone. */
export class PowerCut extends Error {}

type Inode = { bytes: Buffer; synced: Buffer | undefined; at: number };

/**
 * What POSIX promises and no more: the bytes of a file are safe once the file is synced,
 * names once their folder is. Everything else may or may not have reached the disk.
 */
export class MemoryDisk implements Disk {
  /** Steps that change something. */
  steps = 0;
  /** The step at which the power goes, and whether that one still happened. */
  cutAt = Infinity;
  completesLast = false;
  private names = new Map<string, Inode>();
  private syncedNames = new Map<string, Inode>();
  private isOff = false;

  /** The disk as it may be found afterwards. The generator decides about all that was not synced. */
  afterCut(random: Seeded): MemoryDisk {
    const found = new MemoryDisk();
    for (const path of new Set([...this.names.keys(), ...this.syncedNames.keys()])) {
      const inode = (random.below(2) === 0 ? this.names : this.syncedNames).get(path);
      if (!inode) continue;
      const bytes = contentAfterCut(inode, random);
      found.names.set(path, { bytes, synced: bytes, at: inode.at });
    }
    found.syncedNames = new Map(found.names);
    return found;
  }

  private step<T>(work: () => T): T {
    if (this.isOff) throw new PowerCut();
    this.steps++;
    if (this.steps === this.cutAt) {
      if (this.completesLast) work();
      this.isOff = true;
      throw new PowerCut();
    }
    return work();
  }

  async makeFolder(): Promise<void> {}

  /** After a power cut no owner of a lock lives. */
  async lock(): Promise<() => Promise<void>> {
    return async () => {};
  }

  async list(folder: string): Promise<string[]> {
    return [...this.names.keys()]
      .filter((path) => dirname(path) === folder)
      .map((path) => path.slice(folder.length + 1));
  }

  async read(path: string): Promise<Buffer | undefined> {
    if (this.isOff) throw new PowerCut();
    return this.names.get(path)?.bytes;
  }

  async modifiedAt(path: string): Promise<number> {
    return this.names.get(path)?.at ?? 0;
  }

  async write(path: string, bytes: Uint8Array | string): Promise<void> {
    this.step(() => this.names.set(path, { bytes: Buffer.from(bytes as string), synced: undefined, at: Date.now() }));
  }

  async append(path: string, bytes: Uint8Array): Promise<void> {
    const inode = this.names.get(path)!;
    this.step(() => {
      inode.bytes = Buffer.concat([inode.bytes, bytes]);
    });
  }

  async sync(path: string): Promise<void> {
    this.step(() => {
      const inode = this.names.get(path);
      if (inode) inode.synced = inode.bytes;
      for (const each of new Set([...this.names.keys(), ...this.syncedNames.keys()])) {
        if (dirname(each) !== path) continue;
        const now = this.names.get(each);
        if (now) this.syncedNames.set(each, now);
        else this.syncedNames.delete(each);
      }
    });
  }

  async rename(from: string, to: string): Promise<void> {
    this.step(() => {
      this.names.set(to, this.names.get(from)!);
      this.names.delete(from);
    });
  }

  async remove(path: string): Promise<void> {
    this.step(() => this.names.delete(path));
  }
}

/** Synced bytes stay; of others anything may be there: nothing, a part, zeros. */
function contentAfterCut({ bytes, synced }: Inode, random: Seeded): Buffer {
  if (synced?.equals(bytes)) return bytes;
  const kept = synced?.length ?? 0;
  const length = kept + random.below(bytes.length - kept + 1);
  return random.below(2) === 0
    ? Buffer.from(bytes.subarray(0, length))
    : Buffer.concat([bytes.subarray(0, kept), Buffer.alloc(length - kept)]);
}
