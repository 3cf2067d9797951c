// `edgelabel quantize`: an f32 model -> its int8 form, checked against the f32 one when
// texts are given. Writes nothing when no form agrees enough.
import { Command } from "commander";
import { readDataset } from "../dataset.ts";
import { UserError } from "../errors.ts";
import { MIN_AGREEMENT, quantize, renderAgreement } from "../quantization.ts";
import { Trainer } from "../trainer.ts";
import { addDatasetOptions, type DatasetFlags, share } from "./options.ts";
import { kilobytes, note, parseOutput, print, printJson, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";

interface QuantizeOptions extends DatasetFlags {
  output: string;
  data?: string[];
  minAgreement?: number;
  report?: boolean;
  json?: boolean;
}

export function quantizeCommand(): Command {
  return addDatasetOptions(new Command("quantize")
    .description("make an f32 model int8")
    .argument("<model>", "model file with f32 weights (.elb, or .wasm made of one)")
    .requiredOption("-o, --output <file>", "model to write (.wasm or .elb)", parseOutput)
    .option("--data <files...>", "labelled texts to compare the two forms on")
    .option("--min-agreement <share>", `least share of equal labels (default: ${MIN_AGREEMENT}); below it only weights become int8`, share)
    .option("--report", "also print every text whose label changes")
    .option("--json", "print one JSON object"))
    .addHelpText("after", `
Examples:
  edgelabel quantize spam.elb -o spam.wasm --data test.tsv
  edgelabel quantize spam.elb -o spam.wasm --data test.tsv --min-agreement 0.995 --report`)
    .action(async (model: string, options: QuantizeOptions, command: Command) => {
      if (options.data === undefined && (options.report || options.minAgreement !== undefined)) {
        command.error(`error: ${options.report ? "--report" : "--min-agreement"} needs texts to compare on; give them with --data`);
      }
      const samples = options.data === undefined ? [] : await readDataset(options.data, options);
      const least = options.minAgreement ?? MIN_AGREEMENT;
      const trainer = await Trainer.open(await readElb(model), model);
      trainer.buildOpened();
      const { agreement, ...result } = await quantize(trainer, model, samples, least);
      if (result.elb === null) {
        throw new UserError(`${model}: no int8 form agrees on ${least * 100} % of the texts (${renderAgreement(agreement!)}); nothing was written. Lower --min-agreement, or pack the f32 model`);
      }
      const bytes = await writeModel(options.output, result.elb);
      if (options.json) {
        const { changed, ...figures } = agreement ?? { changed: [] };
        await printJson({ file: options.output, bytes, form: result.form, agreement: agreement === null ? null : { ...figures, ...(options.report ? { changed } : {}) } });
        return;
      }
      if (result.form === "int8-weights") note(`only the weights are int8: the int8 form agrees on less than ${least * 100} % of the texts`);
      await print(`${options.output}: ${result.form}, ${kilobytes(bytes)}${agreement === null ? "" : `, ${renderAgreement(agreement)}`}\n`);
      if (options.report) for (const { text, f32, quantized } of agreement!.changed) await print(`${f32} → ${quantized}\t${text}\n`);
    });
}
