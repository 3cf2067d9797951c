#!/usr/bin/env node
// The command line: arguments in, exit code out (0 done, 1 failed, 2 misuse). Each
// command lives in host/commands; here they are registered and their errors shown.
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, CommanderError } from "commander";
import { askCommand } from "./commands/ask.ts";
import { calibrateCommand } from "./commands/calibrate.ts";
import { dataCommand } from "./commands/data.ts";
import { demoCommand } from "./commands/demo.ts";
import { evalCommand } from "./commands/eval.ts";
import { explainCommand } from "./commands/explain.ts";
import { importCommand } from "./commands/import.ts";
import { infoCommand } from "./commands/info.ts";
import { learnCommand } from "./commands/learn.ts";
import { modelsCommand } from "./commands/models.ts";
import { note } from "./commands/output.ts";
import { packCommand } from "./commands/pack.ts";
import { predictCommand } from "./commands/predict.ts";
import { pruneCommand } from "./commands/prune.ts";
import { quantizeCommand } from "./commands/quantize.ts";
import { serveCommand } from "./commands/serve.ts";
import { keygenCommand, signCommand } from "./commands/sign.ts";
import { trainCommand } from "./commands/train.ts";
import { UserError } from "./errors.ts";
import { asTyped } from "./program-name.ts";
import { packageVersion } from "./version.ts";

const FAILED = 1;
const MISUSE = 2;

function createProgram(): Command {
  const program = new Command("edgelabel")
    .description("Train small text classifiers, deploy them as one .wasm file, serve them over MQTT.")
    .version(packageVersion)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => process.stdout.write(asTyped(text)),
      writeErr: (text) => process.stderr.write(asTyped(text)),
    })
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: false })
    .addHelpText("after", "\nedgelabel COMMAND --help shows a command's arguments and examples.");
  const commands = [
    dataCommand(),
    trainCommand(),
    learnCommand(),
    calibrateCommand(),
    evalCommand(),
    predictCommand(),
    explainCommand(),
    quantizeCommand(),
    pruneCommand(),
    packCommand(),
    importCommand(),
    serveCommand(),
    askCommand(),
    infoCommand(),
    demoCommand(),
    modelsCommand(),
    signCommand(),
    keygenCommand(),
  ];
  for (const command of commands) {
    program.addCommand(command.copyInheritedSettings(program));
    for (const subcommand of command.commands) subcommand.copyInheritedSettings(command);
  }
  return program;
}

/** Runs one command line (without "node" and the script) and returns its exit code. */
export async function run(args: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(args, { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSE;
    const text =
      error instanceof UserError
        ? error.message
        : `unexpected failure, please report it\n${(error as Error).stack ?? String(error)}`;
    note(text);
    return FAILED;
  }
}

function isMain(): boolean {
  const script = process.argv[1];
  return script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url);
}

if (isMain()) {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough (head, a closed pipe) is no failure.
    if (error.code === "EPIPE") process.exit(0);
    process.stderr.write(`edgelabel: standard output cannot be written (${error.message})\n`);
    process.exit(FAILED);
  });
  process.exitCode = await run(process.argv.slice(2));
}
