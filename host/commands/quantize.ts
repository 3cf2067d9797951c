// `edgelabel quantize`: an f32 model -> int8 rows, with a report of how far its answers
// agree with the f32 ones on given data, and weight-only int8 where they do not.
import { Command } from "commander";
import { compare, type Agreement } from "../agreement.ts";
import { Classifier, readModelFile } from "../classifier.ts";
import { readDataset } from "../dataset.ts";
import { isWasm, unpackModel } from "../pack.ts";
import { Trainer, type ModelForm } from "../trainer.ts";
import { addDatasetOptions, type DatasetFlags, share } from "./options.ts";
import { kilobytes, note, parseOutput, print, printJson, writeModel } from "./output.ts";

interface QuantizeOptions extends DatasetFlags {
  output: string;
  data?: string;
  minAgreement: number;
  weightOnly?: boolean;
  json?: boolean;
}

export function quantizeCommand(): Command {
  const command = new Command("quantize")
    .description("turn an f32 model into int8, and report how its answers agree")
    .argument("<model>", "f32 model (.elb, or a .wasm that holds f32 weights)")
    .requiredOption("-o, --output <file>", "model to write (.wasm or .elb)", parseOutput)
    .option("--data <file>", "texts to compare both models on")
    .option("--min-agreement <share>", "least share of equal labels on --data; below it weight-only int8 is written", share, 0.99)
    .option("--weight-only", "int8 weights with f32 arithmetic, whatever the agreement")
    .option("--json", "print the report as one JSON object");
  return addDatasetOptions(command)
    .addHelpText("after", `
The weights take a quarter of the room. Integer products run faster than f32 ones;
weight-only int8 keeps f32 arithmetic, so it is as small but not faster.

Example:
  edgelabel quantize spam.elb -o spam.wasm --data valid.tsv`)
    .action(async (path: string, options: QuantizeOptions) => {
      const { form, elb, agreement } = await quantize(path, options);
      const bytes = await writeModel(options.output, elb);
      const report = { file: options.output, bytes, form, agreement };
      await (options.json ? printJson(report) : print(`${options.output}: ${kilobytes(bytes)}, ${form}${agreement ? `\n${sentence(agreement)}` : ""}\n`));
    });
}

async function quantize(path: string, options: QuantizeOptions): Promise<{ form: ModelForm; elb: Uint8Array; agreement: Agreement | null }> {
  const file = await readModelFile(path);
  const source = isWasm(file) ? unpackModel(file, path) : file;
  const trainer = await Trainer.open(source, path);
  trainer.buildOpened();
  const forms: ModelForm[] = options.weightOnly ? ["int8-weights"] : ["int8", "int8-weights"];
  if (!options.data) return { form: forms[0]!, elb: trainer.write(forms[0]!), agreement: null };

  const samples = await readDataset([options.data], options);
  const original = await Classifier.fromBytes(source, path);
  let result;
  for (const form of forms) {
    const elb = trainer.write(form);
    const agreement = compare(original, await Classifier.fromBytes(elb, `${path} as ${form}`), samples.map(({ text }) => text));
    result = { form, elb, agreement };
    if (agreement.top1 >= options.minAgreement) return result;
    note(`${form} agrees on ${percent(agreement.top1)} of the labels, less than ${percent(options.minAgreement)}`);
  }
  return result!;
}

/** The agreement as people read it. */
export function sentence({ n, top1, largest_difference }: Agreement): string {
  return `same label as f32 on ${percent(top1)} of ${n} texts; largest score difference ${largest_difference.toFixed(6)}`;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(2)} %`;
}
