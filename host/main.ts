#!/usr/bin/env node
// The command line: arguments in, exit code out (0 done, 1 failed, 2 misuse). Each
// command lives in host/commands; here they are registered and their errors shown.
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { EdgelabelError } from "./errors.ts";
import { packageVersion } from "./version.ts";

const FAILED = 1;
const MISUSE = 2;

/** What each command does, and how it is loaded: only the one that is called, since some bring a broker or HDF5. */
const COMMANDS: Record<string, [description: string, load: () => Promise<Command>]> = {
  data: [
    "report duplicates, conflicts and imbalance of labelled texts",
    async () => (await import("./commands/data.ts")).dataCommand(),
  ],
  train: ["train a model on labelled texts", async () => (await import("./commands/train.ts")).trainCommand()],
  learn: [
    "learn from corrections, if a hold-out does not get worse",
    async () => (await import("./commands/learn.ts")).learnCommand(),
  ],
  calibrate: [
    "make scores mean what they say, and find unknown texts",
    async () => (await import("./commands/calibrate.ts")).calibrateCommand(),
  ],
  eval: ["measure a model on labelled texts", async () => (await import("./commands/eval.ts")).evalCommand()],
  predict: [
    "print the label of each text, or of each line on standard input",
    async () => (await import("./commands/predict.ts")).predictCommand(),
  ],
  explain: [
    "show which words led to the label of a text",
    async () => (await import("./commands/explain.ts")).explainCommand(),
  ],
  quantize: [
    "turn an f32 model into int8, and report what that costs",
    async () => (await import("./commands/quantize.ts")).quantizeCommand(),
  ],
  prune: [
    "remove recurrent units and rare words, then fine-tune",
    async () => (await import("./commands/prune.ts")).pruneCommand(),
  ],
  pack: [
    "join engine and model into one deployable .wasm",
    async () => (await import("./commands/pack.ts")).packCommand(),
  ],
  import: [
    "turn a saved Keras model into a model file",
    async () => (await import("./commands/import.ts")).importCommand(),
  ],
  export: [
    "turn a model file into a Keras or ONNX model",
    async () => (await import("./commands/export.ts")).exportCommand(),
  ],
  serve: [
    "answer requests over MQTT, and HTTP if asked, until stopped",
    async () => (await import("./commands/serve.ts")).serveCommand(),
  ],
  ask: [
    "publish texts to a running service and print their labels",
    async () => (await import("./commands/ask.ts")).askCommand(),
  ],
  info: ["show what a model file holds", async () => (await import("./commands/info.ts")).infoCommand()],
  demo: [
    "train, serve and ask a small example model, then keep serving",
    async () => (await import("./commands/demo.ts")).demoCommand(),
  ],
  playground: [
    "open a page that tries and trains models in a browser",
    async () => (await import("./commands/playground.ts")).playgroundCommand(),
  ],
  models: [
    "install, activate and roll back the models of a registry, here or that of a running service",
    async () => (await import("./commands/models.ts")).modelsCommand(),
  ],
  sign: [
    "make a signed update of a model file, for registries that trust the key",
    async () => (await import("./commands/sign.ts")).signCommand(),
  ],
  keygen: [
    "make a key that signs updates, and print its line for the file of trusted keys",
    async () => (await import("./commands/sign.ts")).keygenCommand(),
  ],
};

async function createProgram(called: string | undefined): Promise<Command> {
  const { Command } = await import("commander");
  const { asTyped } = await import("./program-name.ts");
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
  for (const [name, [description, load]] of Object.entries(COMMANDS)) {
    const command = name === called ? await load() : new Command(name);
    program.addCommand(command.description(description).copyInheritedSettings(program));
    for (const subcommand of command.commands) subcommand.copyInheritedSettings(command);
  }
  return program;
}

/** Runs one command line (without "node" and the script) and returns its exit code. */
export async function run(args: readonly string[]): Promise<number> {
  try {
    // Asked by scripts, often: it loads nothing else.
    if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
      process.stdout.write(`${packageVersion}\n`);
      return 0;
    }
    const called = args[0] === "help" ? args[1] : args[0];
    await (await createProgram(called)).parseAsync(args, { from: "user" });
    return 0;
  } catch (error) {
    const { CommanderError } = await import("commander");
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSE;
    const { note } = await import("./commands/terminal.ts");
    const text =
      error instanceof EdgelabelError
        ? error.message
        : `unexpected failure, please report it\n${(error as Error).stack ?? String(error)}`;
    note(text);
    return FAILED;
  }
}

/** Runs the command line that this process was started with. */
export async function start(): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough (head, a closed pipe) is no failure.
    if (error.code === "EPIPE") process.exit(0);
    process.stderr.write(`edgelabel: standard output cannot be written (${error.message})\n`);
    process.exit(FAILED);
  });
  process.exitCode = await run(process.argv.slice(2));
}

function isMain(): boolean {
  const script = process.argv[1];
  return script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url);
}

if (isMain()) await start();
