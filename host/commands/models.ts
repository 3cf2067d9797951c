// `edgelabel models`: works on a registry in its folder, or sends an update to a service
// that runs elsewhere. A service that runs on the same folder follows within a second.
import { Command } from "commander";
import { readModelFile } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import { readWhole } from "../files/read.ts";
import { ownersDisk } from "../registry/disk.ts";
import { splitUpdate } from "../registry/manifest.ts";
import { Registry } from "../registry/registry.ts";
import type { VersionInfo } from "../registry/state.ts";
import { sendUpdate } from "../service/control/send-update.ts";
import { topicsOf } from "../service/topics.ts";
import { accessOf, defaultNode } from "../service/mqtt/access.ts";
import { addBrokerOptions } from "./broker-options.ts";
import type { BrokerOptions } from "../service/mqtt/access.ts";
import { kilobytes, print, printJson } from "./terminal.ts";

interface JsonOption {
  json?: boolean;
}

export function modelsCommand(): Command {
  const command = new Command("models");
  const subcommand = (name: string, description: string) =>
    command.command(name).description(description).option("--json", "print JSON");

  subcommand("list", "show every version that is kept")
    .argument("<folder>", "registry")
    .action(async (folder: string, { json }: JsonOption) => {
      const registry = new Registry(folder);
      const versions = await registry.versions();
      if (json) await printJson(versions);
      else if (versions.length > 0) await print(versions.map(line).join(""));
      else
        await print(
          (await registry.exists()) ? `the registry ${folder} is empty\n` : `there is no registry in ${folder} yet\n`,
        );
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

  subcommand("activate", "activate a version that is kept")
    .argument("<folder>", "registry")
    .argument("<name>", "model")
    .argument("<version>", "its version, or the beginning of its digest")
    .option("--keys <file>", "trusted keys; not needed for unsigned versions")
    .action(async (folder: string, name: string, version: string, { keys, json }: JsonOption & { keys?: string }) =>
      show(await new Registry(folder, { keys, disk: ownersDisk }).activate(name, version), json),
    );

  subcommand("rollback", "make the previous version active again")
    .argument("<folder>", "registry")
    .argument("<name>", "model")
    .option("--keys <file>", "trusted keys; not needed for unsigned versions")
    .action(async (folder: string, name: string, { keys, json }: JsonOption & { keys?: string }) =>
      show(await new Registry(folder, { keys, disk: ownersDisk }).rollback(name), json),
    );

  subcommand("remove", "remove a model, or one of its versions")
    .argument("<folder>", "registry")
    .argument("<name>", "model")
    .argument("[version]", "a version that is not active (default: all)")
    .action(async (folder: string, name: string, version: string | undefined, { json }: JsonOption) => {
      const gone = await new Registry(folder, { disk: ownersDisk }).remove(name, version);
      await (json ? printJson(gone) : print(`${name}: ${gone.map((each) => each.version).join(", ")} removed\n`));
    });

  addBrokerOptions(
    subcommand("send", "send an update to a running service over MQTT; continues an interrupted attempt")
      .argument("<update>", "what edgelabel sign made")
      .option("--broker <url>", "mqtt://, mqtts://, ws:// or wss://HOST[:PORT]", "mqtt://127.0.0.1:1883")
      .option("--node <name>", "node name of the service (default: the host name)")
      .option("--root <topic>", "first levels of all topics", "edgelabel")
      .option("--no-activate", "do not activate it"),
  )
    .addHelpText("after", "\nExample:\n  edgelabel models send spam.update --broker mqtt://192.168.1.5 --node gate-1")
    .action(
      async (
        file: string,
        options: JsonOption & BrokerOptions & { broker: string; node?: string; root: string; activate: boolean },
      ) => {
        const access = accessOf(options);
        const update = splitUpdate(await readWhole(file), file);
        await show(
          await sendUpdate(update, {
            access,
            topics: topicsOf(options.root, options.node ?? defaultNode()),
            activate: options.activate,
          }),
          options.json,
        );
      },
    );

  return command;
}

async function show(version: VersionInfo, json = false): Promise<void> {
  await (json ? printJson(version) : print(line(version)));
}

function line({ name, state, version, digest, bytes, sequence, key, failed }: VersionInfo): string {
  const signed = key === undefined ? "unsigned" : `sequence ${sequence}, key ${key}`;
  return `${name}\t${version}\t${failed === undefined ? state : `${state} (${failed})`}\t${digest.slice(0, 12)}\t${kilobytes(bytes)}\t${signed}\n`;
}
