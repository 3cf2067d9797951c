// An update that comes in parts. Its manifest comes first and is checked before any part of
// the model is taken. The parts survive a restart; the complete update has to pass the same
// checks as an update from a file.
import { join } from "node:path";
import { EdgelabelError } from "../errors.ts";
import { isFull } from "../files/atomic.ts";
import type { Manifest } from "./manifest.ts";
import type { InstallOptions, Registry } from "./registry.ts";
import type { VersionInfo } from "./state.ts";

/** Incomplete updates that are kept at once. */
const MAX_PARTS = 4;

export class IncomingUpdate {
  readonly manifest: Manifest;
  readonly id: string;
  private readonly registry: Registry;
  private length: number;
  private readonly headLength: number;

  private constructor(registry: Registry, id: string, manifest: Manifest, lengths: { head: number; part: number }) {
    this.registry = registry;
    this.id = id;
    this.manifest = manifest;
    this.headLength = lengths.head;
    this.length = lengths.part;
  }

  /** Begins to receive an update, or continues an earlier attempt with the same manifest. */
  static async begin(registry: Registry, head: Buffer): Promise<IncomingUpdate> {
    const { id, manifest } = await registry.admit(head, "the update");
    const { store } = registry;
    const path = store.partPath(id);
    const part = await store.guarded(async () => {
      const found = await store.disk.read(path);
      if (found && found.length <= head.length + manifest.bytes && found.subarray(0, head.length).equals(head))
        return found;
      await store.makeFolders();
      await dropOldest(registry);
      await store.disk.write(path, head);
      return head;
    });
    return new IncomingUpdate(registry, id, manifest, { head: head.length, part: part.length });
  }

  /** Bytes of the model that have been received. */
  get received(): number {
    return this.length - this.headLength;
  }

  get isComplete(): boolean {
    return this.received === this.manifest.bytes;
  }

  /** Takes the bytes if `offset` is where the next ones belong; returns whether it was. */
  async append(offset: number, bytes: Uint8Array): Promise<boolean> {
    if (offset !== this.received || bytes.length === 0) return false;
    if (offset + bytes.length > this.manifest.bytes)
      throw new EdgelabelError(`the update has ${this.manifest.bytes} bytes, but more arrived`);
    const { store } = this.registry;
    await store.guarded(() =>
      store.disk.append(store.partPath(this.id), bytes).catch(async (error: unknown) => {
        // What does not fit must not take up room either.
        if (isFull(error)) await store.disk.remove(store.partPath(this.id));
        throw error;
      }),
    );
    this.length += bytes.length;
    return true;
  }

  async install(options: InstallOptions): Promise<VersionInfo> {
    const { store } = this.registry;
    const path = store.partPath(this.id);
    const update = await store.guarded(() => store.disk.read(path));
    try {
      return await this.registry.install(update ?? Buffer.alloc(0), "the update", options);
    } finally {
      // Whether it was installed or refused, another attempt begins from the start.
      await store.guarded(() => store.disk.remove(path));
    }
  }
}

async function dropOldest({ store: { folder, disk } }: Registry): Promise<void> {
  const parts = await Promise.all(
    (await disk.list(join(folder, "incoming"))).map(async (name) => {
      const path = join(folder, "incoming", name);
      return { path, at: await disk.modifiedAt(path) };
    }),
  );
  for (const { path } of parts.sort((a, b) => b.at - a.at).slice(MAX_PARTS - 1)) await disk.remove(path);
}
