// `edgelabel pack`: an .elb model -> the deployable .wasm (engine + model); from a
// deployable, the same with this build's engine, or with -o NAME.elb the model alone.
import { Command } from "commander";
import { Classifier } from "../model/classifier.ts";
import { readModelFile } from "../model/file.ts";
import { isWasm, unpackModel } from "../model/container.ts";
import { parseOutput, trimmed, writeModel } from "./output.ts";
import { kilobytes } from "../figures.ts";
import { print, printJson } from "./terminal.ts";

export function packCommand(): Command {
  return new Command("pack")
    .argument("<model>", "model file (.elb, or .wasm to replace its engine)")
    .requiredOption(
      "-o, --output <file>",
      "deployable to write (.wasm, without the state to resume training), or .elb to extract the model",
      parseOutput,
    )
    .option("--json", "print one JSON object")
    .addHelpText("after", "\nExamples:\n  edgelabel pack spam.elb -o spam.wasm\n  edgelabel pack old.wasm -o spam.elb")
    .action(async (model: string, { output, json }: { output: string; json?: boolean }) => {
      const elb = await readElb(model);
      const { info } = await Classifier.fromBytes(elb, model);
      const bytes = await writeModel(output, await trimmed(output, elb, info));
      await (json ? printJson({ file: output, bytes }) : print(`${output}: ${kilobytes(bytes)}\n`));
    });
}

/** The model in an .elb or .wasm file. */
export async function readElb(path: string): Promise<Uint8Array> {
  const bytes = await readModelFile(path);
  return isWasm(bytes) ? unpackModel(bytes, path) : bytes;
}
