// `edgelabel import`: a saved Keras model with its tokenizer and labels -> a model file
// with the same f32 weights. What cannot be reproduced is refused by name.
import { Command, Option } from "commander";
import { MAX_SEQUENCE } from "../../assembly/abi.ts";
import { readText, readWhole } from "../files/read.ts";
import { refuseFastText } from "../keras/archive.ts";
import { importKeras } from "../keras/import.ts";
import { nameText, wholeNumber } from "./options.ts";
import { modelName, parseOutput, writeModel } from "./output.ts";
import { kilobytes } from "../figures.ts";
import { note, print, printJson } from "./terminal.ts";

interface ImportOptions {
  tokenizer?: string;
  labels?: string;
  output: string;
  maxlen?: number;
  padding: "pre" | "post";
  truncating: "pre" | "post";
  name?: string;
  modelVersion: string;
  json?: boolean;
}

export function importCommand(): Command {
  const command = new Command("import");
  return command
    .argument("<file>", "Keras model (.keras or .h5)")
    .option("--tokenizer <file>", "output of Tokenizer.to_json() (required)")
    .option("--labels <file>", "JSON array of names in class order; two for one sigmoid output (required)")
    .requiredOption("-o, --output <file>", "model to write (.wasm or .elb)", parseOutput)
    .option("--maxlen <n>", "tokens that texts are padded to, if the model does not say", wholeNumber(1, MAX_SEQUENCE))
    .addOption(new Option("--padding <side>", "as given to pad_sequences").choices(["pre", "post"]).default("pre"))
    .addOption(new Option("--truncating <side>", "as given to pad_sequences").choices(["pre", "post"]).default("pre"))
    .option("--name <name>", "name in the model (default: that of the output file)", nameText)
    .option("--model-version <text>", "version in the model", nameText, "1")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Reads Sequential and linear Functional models of Embedding, LSTM, Bidirectional(LSTM),
Dropout, SpatialDropout1D, GlobalMaxPooling1D, GlobalAveragePooling1D, Dense, Activation,
and what the command export writes, also after Keras has trained and saved it again.

In Python, save the parts with:
  model.save("model.keras")
  open("tokenizer.json", "w").write(tokenizer.to_json())
  json.dump(["ham", "spam"], open("labels.json", "w"))

Example:
  edgelabel import model.keras --tokenizer tokenizer.json --labels labels.json -o spam.wasm`,
    )
    .action(async (file: string, options: ImportOptions) => {
      const { tokenizer, labels } = options;
      if (tokenizer === undefined || labels === undefined) {
        // Neither is there for a fastText model.
        refuseFastText(await readWhole(file).catch(() => new Uint8Array()), file);
        const missing = tokenizer === undefined ? "--tokenizer <file>" : "--labels <file>";
        return command.error(`error: required option '${missing}' not specified`);
      }
      const { elb, kerasVersion, notes } = await importKeras({
        model: { path: file, content: await readWhole(file) },
        tokenizer: { path: tokenizer, content: await readText(tokenizer) },
        labels: { path: labels, content: await readText(labels) },
        name: options.name ?? modelName(options.output),
        version: options.modelVersion,
        sequenceLength: options.maxlen,
        padding: options.padding,
        truncating: options.truncating,
      });
      if (!options.json) for (const text of notes) note(`note: ${text}`);
      const bytes = await writeModel(options.output, elb);
      await (options.json
        ? printJson({ file: options.output, bytes, keras_version: kerasVersion, notes })
        : print(`${options.output}: ${kilobytes(bytes)}, from Keras ${kerasVersion}\n`));
    });
}
