// `edgelabel quantize`: an f32 model -> int8 rows, with a report of how far its answers
// agree with the f32 ones on given data, and weight-only int8 where they do not.
import { Command } from "commander";
import type { Agreement } from "../agreement.ts";
import { readDataset } from "../dataset.ts";
import { MIN_AGREEMENT, quantize } from "../quantization.ts";
import { type ModelForm, Trainer } from "../trainer.ts";
import { addDatasetOptions, type DatasetFlags, share } from "./options.ts";
import { kilobytes, note, parseOutput, percent, print, printJson, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";

interface QuantizeFlags extends DatasetFlags {
  output: string;
  data?: string[];
  minAgreement?: number;
  weightOnly?: boolean;
  json?: boolean;
}

export function quantizeCommand(): Command {
  const command = new Command("quantize")
    .description("turn an f32 model into int8, and report how its answers agree")
    .argument("<model>", "f32 model (.elb, or a .wasm that holds f32 weights)")
    .requiredOption("-o, --output <file>", "model to write (.wasm or .elb)", parseOutput)
    .option("--data <files...>", "labelled texts to compare both models on")
    .option("--min-agreement <share>", `least share of equal labels on --data (default: ${MIN_AGREEMENT}); below it weight-only int8 is written`, share)
    .option("--weight-only", "int8 weights with f32 arithmetic, whatever the agreement")
    .option("--json", "print the report as one JSON object");
  return addDatasetOptions(command)
    .addHelpText("after", `
The weights take a quarter of the room. Integer products run faster than f32 ones;
weight-only int8 keeps f32 arithmetic, so it is as small but not faster.

Examples:
  edgelabel quantize spam.elb -o spam.wasm --data valid.tsv
  edgelabel quantize spam.elb -o spam.wasm --data valid.tsv --min-agreement 0.995`)
    .action(async (path: string, options: QuantizeFlags) => {
      if (options.minAgreement !== undefined && options.data === undefined) command.error("error: --min-agreement needs texts to compare on; give them with --data");
      const samples = options.data === undefined ? [] : await readDataset(options.data, options);
      const trainer = await Trainer.open(await readElb(path), path);
      trainer.buildOpened();
      const minAgreement = options.minAgreement ?? MIN_AGREEMENT;
      const { form, elb, agreement } = await quantize(trainer, path, {
        texts: samples.map(({ text }) => text),
        minAgreement,
        forms: options.weightOnly ? ["int8-weights"] : ["int8", "int8-weights"],
        onWeak: noteWeak(minAgreement),
      });
      const bytes = await writeModel(options.output, elb);
      const report = { file: options.output, bytes, form, agreement };
      await (options.json ? printJson(report) : print(`${options.output}: ${kilobytes(bytes)}, ${form}${agreement ? `\n${sentence(agreement)}` : ""}\n`));
    });
}

export function noteWeak(minAgreement: number): (form: ModelForm, agreement: Agreement) => void {
  return (form, { top1 }) => note(`${form} agrees on ${percent(top1)} of the labels, less than ${percent(minAgreement)}`);
}

/** The agreement as people read it. */
export function sentence({ n, top1, largest_difference }: Agreement): string {
  return `same label as f32 on ${percent(top1)} of ${n} texts; largest score difference ${largest_difference.toFixed(6)}`;
}
