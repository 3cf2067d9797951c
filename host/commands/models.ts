// `edgelabel models`: works on a registry in its folder, or on that of a service which runs elsewhere.
// A service that runs on the same folder follows within a second.
import { Command, Option } from "commander";
import { readModelFile } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import { readWhole } from "../files/read.ts";
import { ownersDisk } from "../registry/disk.ts";
import { splitUpdate } from "../registry/manifest.ts";
import { Registry } from "../registry/registry.ts";
import type { VersionInfo } from "../registry/state.ts";
import { sendCommand, type SendOptions } from "../service/control/send-command.ts";
import { sendUpdate } from "../service/control/send-update.ts";
import { topicsOf } from "../service/topics.ts";
import { accessOf, defaultNode } from "../service/mqtt/access.ts";
import { addBrokerOptions } from "./broker-options.ts";
import type { BrokerOptions } from "../service/mqtt/access.ts";
import { kilobytes } from "../figures.ts";
import { print, printJson } from "./terminal.ts";

interface JsonOption {
  json?: boolean;
}

/** Of a service that runs elsewhere. */
interface RemoteOptions extends BrokerOptions {
  broker: string;
  node?: string;
  root: string;
}

type PlaceOptions = JsonOption & Partial<RemoteOptions> & { keys?: string };

/** A service without a registry lists the models that it serves, of which less is known. */
type Listed = Pick<VersionInfo, "name" | "version" | "digest"> &
  Partial<Omit<VersionInfo, "state">> & { state?: VersionInfo["state"] | "served" };

/** A registry in a folder here, or that of a service. */
interface Place extends Pick<Registry, "activate" | "rollback"> {
  versions(): Promise<Listed[]>;
  whyEmpty(): Promise<string>;
  remove(name: string, version?: string): Promise<{ version: string }[]>;
}

const BROKER = "mqtt://, mqtts://, ws:// or wss://HOST[:PORT]";
const NODE = "node name of the service (default: the host name)";
const ROOT = "first levels of all topics";
/** Commands other than `send` have little to do, and say at once that they have begun. */
const TIMEOUT_MS = 10_000;

export function modelsCommand(): Command {
  const command = new Command("models");
  const subcommand = (name: string, description: string) =>
    command.command(name).description(description).option("--json", "print JSON");
  const withKeys = (each: Command) =>
    each.addOption(new Option("--keys <file>", "trusted keys; not needed for unsigned versions").conflicts("broker"));

  onPlace(subcommand("list", "show every version that is kept"), [], async (place, _args, { json }) => {
    const versions = await place.versions();
    if (json) await printJson(versions);
    else if (versions.length > 0) await print(versions.map(line).join(""));
    else await print(`${await place.whyEmpty()}\n`);
  });

  subcommand("install", "verify an update, test its model and make it active")
    .argument("<folder>", "registry; created if missing")
    .argument("<update>", "what edgelabel sign made; with --unsigned a model file (.wasm or .elb)")
    .option("--keys <file>", "trusted keys, as edgelabel keygen prints them")
    .option("--unsigned", "accept a model file without a signature; you vouch for it")
    .option("--name <name>", "with --unsigned: name that it is served under (default: the one in the model)")
    .option("--no-activate", "do not activate it")
    .addHelpText(
      "after",
      "\nExamples:\n  edgelabel models install registry spam.update --keys trusted-keys\n  edgelabel models install registry spam.wasm --unsigned",
    )
    .action(
      async (
        folder: string,
        file: string,
        {
          keys,
          unsigned = false,
          name,
          activate,
          json,
        }: JsonOption & { keys?: string; unsigned?: boolean; name?: string; activate: boolean },
      ) => {
        if (name !== undefined && !unsigned)
          throw new EdgelabelError("--name is for --unsigned: a signed update has its name in the manifest");
        const registry = new Registry(folder, { keys, disk: ownersDisk });
        await show(
          unsigned
            ? await registry.adopt(await readModelFile(file), file, { name, activate })
            : await registry.install(await readWhole(file), file, { activate }),
          json,
        );
      },
    );

  onPlace(
    withKeys(subcommand("activate", "activate a version that is kept")),
    ["name", "version"],
    async (place, [name, version], { json }) => show(await place.activate(name!, version!), json),
  );

  onPlace(
    withKeys(subcommand("rollback", "make the previous version active again")),
    ["name"],
    async (place, [name], { json }) => show(await place.rollback(name!), json),
  );

  onPlace(
    subcommand("remove", "remove a model, or one of its versions that is not active"),
    ["name", "[version]"],
    async (place, [name, version], { json }) => {
      const gone = await place.remove(name!, version);
      await (json ? printJson(gone) : print(`${name}: ${gone.map((each) => each.version).join(", ")} removed\n`));
    },
  );

  addBrokerOptions(
    subcommand("send", "send an update to a running service over MQTT; continues an interrupted attempt")
      .argument("<update>", "what edgelabel sign made")
      .option("--broker <url>", BROKER, "mqtt://127.0.0.1:1883")
      .option("--node <name>", NODE)
      .option("--root <topic>", ROOT, "edgelabel")
      .option("--no-activate", "do not activate it"),
  )
    .addHelpText("after", "\nExample:\n  edgelabel models send spam.update --broker mqtt://192.168.1.5 --node gate-1")
    .action(async (file: string, options: RemoteOptions & JsonOption & { activate: boolean }) => {
      const service = serviceOf(options);
      const update = splitUpdate(await readWhole(file), file);
      await show(await sendUpdate(update, { ...service, activate: options.activate }), options.json);
    });

  return command;
}

/** Gives a subcommand the arguments FOLDER and `names`, or with --broker only `names`. An optional one is in brackets, and the last. */
function onPlace(
  command: Command,
  names: readonly string[],
  act: (place: Place, args: string[], options: PlaceOptions) => Promise<void>,
): void {
  const required = names.filter((name) => !name.startsWith("["));
  const shown = names.map((name) => (name.startsWith("[") ? name : `<${name}>`));
  addBrokerOptions(
    command
      .usage(
        `${["<folder>", ...shown].join(" ")} [options]\n       edgelabel models ${[command.name(), ...shown].join(" ")} --broker <url> [options]`,
      )
      .argument("[arguments...]")
      .option("--broker <url>", `work on the registry of a running service instead: ${BROKER}`)
      .option("--node <name>", NODE)
      .option("--root <topic>", ROOT, "edgelabel"),
  ).action(async (given: string[], options: PlaceOptions) => {
    const { broker } = options;
    const wanted = broker === undefined ? ["folder", ...required] : required;
    const most = wanted.length + names.length - required.length;
    if (given.length < wanted.length) command.error(`error: missing required argument '${wanted[given.length]}'`);
    if (given.length > most)
      command.error(
        `error: too many arguments for '${command.name()}'${broker === undefined ? "" : ", which takes no folder with --broker"}`,
      );
    if (broker === undefined) await act(folderPlace(given[0]!, options), given.slice(1), options);
    else await act(remotePlace({ ...options, broker, root: options.root! }), given, options);
  });
}

function folderPlace(folder: string, { keys }: PlaceOptions): Place {
  const registry = new Registry(folder, { keys, disk: ownersDisk });
  return Object.assign(registry, {
    whyEmpty: async () =>
      (await registry.exists()) ? `the registry ${folder} is empty` : `there is no registry in ${folder} yet`,
  });
}

function remotePlace(options: RemoteOptions): Place {
  const service = serviceOf(options);
  const send = (verb: string, args: object) => sendCommand(verb, args, { ...service, timeoutMs: TIMEOUT_MS });
  return {
    whyEmpty: () => Promise.resolve(`the registry of ${service.topics.node} is empty`),
    versions: async () => (await send("list", {}))["models"] as Listed[],
    activate: async (name, version) => (await send("activate", { name, version })) as unknown as VersionInfo,
    rollback: async (name) => (await send("rollback", { name })) as unknown as VersionInfo,
    remove: async (name, version) => (await send("remove", { name, version }))["removed"] as { version: string }[],
  };
}

function serviceOf(options: RemoteOptions): Omit<SendOptions, "timeoutMs"> {
  return { access: accessOf(options), topics: topicsOf(options.root, options.node ?? defaultNode()) };
}

async function show(version: VersionInfo, json = false): Promise<void> {
  await (json ? printJson(version) : print(line(version)));
}

function line({ name, state = "served", version, digest, bytes, sequence, key, failed }: Listed): string {
  const signed = key === undefined ? "unsigned" : `sequence ${sequence}, key ${key}`;
  return `${[
    name,
    version,
    failed === undefined ? state : `${state} (${failed})`,
    digest.slice(0, 12),
    ...(bytes === undefined ? [] : [kilobytes(bytes), signed]),
  ].join("\t")}\n`;
}
