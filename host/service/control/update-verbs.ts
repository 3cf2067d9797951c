// The registry's commands over MQTT (see host/service/control/commands.ts for their statuses):
//
//   list      {}                                  every version that is kept
//   load      {"manifest": TEXT, "activate"?}     then the model in parts …/<id>/<offset>
//   activate  {"name", "version"}                 a version, or the beginning of a digest
//   rollback  {"name"}                            the version before
//   remove    {"name", "version"?}                one that is not active, or all of the name
//
// `load` reports {"received", "bytes", "chunkBytes"} when it begins and after each part; a
// part that does not begin at `received` is not taken. A new `load` of the same manifest
// continues an attempt that broke off: its first report tells where.
import { EdgelabelError } from "../../errors.ts";
import type { Command, Verb } from "./commands.ts";
import { IncomingUpdate } from "../../registry/incoming.ts";
import type { LiveModels } from "./live-models.ts";
import type { VersionInfo } from "../../registry/state.ts";

/** Well below what brokers take in one message. */
const CHUNK_BYTES = 65_536;
/** A load that receives no part for this time fails. */
const STALL_MS = 60_000;

export function registryVerbs(live: LiveModels, payloadBytes: number, stallMs = STALL_MS): Record<string, Verb> {
  const { registry } = live;
  const loading = new Set<string>();

  async function load(command: Command): Promise<object> {
    const { args, report } = command;
    const head = Buffer.from(text(args, "manifest"));
    const activate = args["activate"] ?? true;
    if (typeof activate !== "boolean") throw new EdgelabelError('"activate" must be true or false');
    const incoming = await IncomingUpdate.begin(registry, head);
    live.requireOurs(incoming.manifest.name);
    if (loading.has(incoming.id)) throw new EdgelabelError("another command loads this update already");
    loading.add(incoming.id);
    try {
      await receive(
        command,
        incoming,
        () =>
          report({
            received: incoming.received,
            bytes: incoming.manifest.bytes,
            chunkBytes: Math.min(CHUNK_BYTES, payloadBytes),
          }),
        stallMs,
      );
      return shown(await live.require(await incoming.install({ activate })));
    } finally {
      loading.delete(incoming.id);
    }
  }

  return {
    list: async () => ({ models: (await registry.versions()).map(shown) }),
    load,
    activate: async ({ args }) =>
      shown(await live.require(await registry.activate(text(args, "name"), text(args, "version")))),
    rollback: async ({ args }) => shown(await live.require(await registry.rollback(text(args, "name")))),
    remove: async ({ args }) => {
      const name = text(args, "name");
      const version = args["version"] === undefined ? undefined : text(args, "version");
      if (version === undefined) live.requireAnother(name);
      const gone = await registry.remove(name, version);
      await live.follow();
      return { removed: gone.map((each) => ({ version: each.version, digest: each.digest })) };
    },
  };
}

/** Resolves when all parts have been received. */
function receive(command: Command, incoming: IncomingUpdate, report: () => void, stallMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const { signal } = command;
    let timer: NodeJS.Timeout;
    const end = (error?: Error) => {
      clearTimeout(timer);
      delete command.onPart;
      signal.removeEventListener("abort", onAbort);
      if (error) reject(error);
      else resolve();
    };
    const onAbort = () => end(signal.reason as Error);
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(
        () =>
          end(
            new EdgelabelError(
              `nothing arrived for ${stallMs / 1000} s; load the same update again to resume at byte ${incoming.received}`,
            ),
          ),
        stallMs,
      );
    };
    // One part after the other, in the order in which they came.
    let queue = Promise.resolve();
    command.onPart = (part, bytes) =>
      (queue = queue
        .then(async () => {
          if (incoming.isComplete) return;
          if (await incoming.append(Number(part), bytes)) restartTimer();
          report();
          if (incoming.isComplete) end();
        })
        .catch(end));
    signal.addEventListener("abort", onAbort);
    restartTimer();
    report();
    if (incoming.isComplete) end();
  });
}

function text(args: Command["args"], key: string): string {
  const value = args[key];
  if (typeof value !== "string" || value === "") throw new EdgelabelError(`"${key}" must be given, as a string`);
  return value;
}

function shown({ name, version, state, digest, bytes, sequence, key, failed }: VersionInfo): object {
  return { name, version, state, digest, bytes, sequence, key, failed };
}
