// `edgelabel quantize`: an f32 model -> int8, with a report of the loss of precision of each
// tensor, and of how far the answers agree with those of f32 on given data. If they do not
// agree well enough, weight-only int8 is written.
import { Command } from "commander";
import { quantize, type QuantizeReport } from "../library/update.ts";
import { type Agreement, MIN_AGREEMENT } from "../training/quantization.ts";
import { share } from "../values.ts";
import { addDatasetOptions, type DatasetFlags, parserOf, readSamples } from "./options.ts";
import { parseOutput, requireOtherOutput, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";
import { note, print, printJson } from "./terminal.ts";
import { kilobytes, percent } from "../figures.ts";

interface QuantizeFlags extends DatasetFlags {
  output: string;
  data?: string[];
  minAgreement?: number;
  weightOnly?: boolean;
  json?: boolean;
}

const COLUMNS: readonly [heading: string, width: number][] = [
  ["shape", 13],
  ["bits", 6],
  ["scales", 22],
  ["worst error", 13],
  ["S/N", 10],
  ["f32", 12],
  ["int8", 12],
];

export function quantizeCommand(): Command {
  const command = new Command("quantize")
    .argument("<model>", "f32 model (.elb, or a .wasm that holds f32 weights)")
    .requiredOption("-o, --output <file>", "model to write (.wasm or .elb)", parseOutput)
    .option("--data <files...>", "labelled texts to compare both models on")
    .option(
      "--min-agreement <share>",
      `least share of equal labels on --data (default: ${MIN_AGREEMENT}); below it weight-only int8 is written`,
      parserOf(share),
    )
    .option("--weight-only", "int8 weights with f32 arithmetic, whatever the agreement")
    .option("--json", "print the report as one JSON object");
  return addDatasetOptions(command)
    .addHelpText(
      "after",
      `
The weights take a quarter of the space. Integer arithmetic is faster than f32;
weight-only int8 keeps f32 arithmetic, so it is as small but not faster. Each row of a
matrix (a word's vector, or the weights into one unit) has its own scale; biases stay f32.
S/N is the ratio of the weights to their rounding errors.

Examples:
  edgelabel quantize spam.elb -o spam.wasm --data valid.tsv
  edgelabel quantize spam.elb -o spam.wasm --data valid.tsv --min-agreement 0.995`,
    )
    .action(async (path: string, options: QuantizeFlags) => {
      if (options.minAgreement !== undefined && options.data === undefined)
        command.error("error: --min-agreement needs texts to compare on; give them with --data");
      await requireOtherOutput(command, options.output, path);
      const samples = options.data === undefined ? [] : await readSamples(options.data, options, true);
      const original = await readElb(path);
      const { model, report: figures } = await quantize(original, {
        texts: samples.map(({ text }) => text),
        minAgreement: options.minAgreement,
        weightOnly: options.weightOnly,
        source: path,
        onNote: note,
      });
      const bytes = await writeModel(options.output, model);
      const report: Report = { file: options.output, bytes, ...figures };
      await (options.json ? printJson(report) : print(render(report)));
    });
}

interface Report extends QuantizeReport {
  file: string;
  bytes: number;
}

function render({ file, bytes, form, tensors, agreement }: Report): string {
  const width = tensors.reduce((most, { name }) => Math.max(most, name.length), 0);
  const row = (name: string, ...cells: string[]): string =>
    `${name.padEnd(width)}${cells.map((cell, i) => cell.padStart(COLUMNS[i]![1])).join("")}`;
  const total = (of: "bytes_before" | "bytes_after"): string =>
    kilobytes(tensors.reduce((sum, tensor) => sum + tensor[of], 0));
  const lines = [
    `${file}: ${kilobytes(bytes)}, ${form}`,
    row("tensor", ...COLUMNS.map(([heading]) => heading)),
    ...tensors.map(({ name, shape, bits, scale, largest_error, snr_db, bytes_before, bytes_after }) =>
      row(
        name,
        shape.join(" x "),
        String(bits),
        scale ? scale.map((one) => one.toPrecision(2)).join(" … ") : "",
        bits < 32 ? largest_error.toPrecision(2) : "0",
        snr_db === null ? "exact" : `${snr_db.toFixed(1)} dB`,
        kilobytes(bytes_before),
        kilobytes(bytes_after),
      ),
    ),
    row("weights", "", "", "", "", "", total("bytes_before"), total("bytes_after")),
  ];
  if (agreement) lines.push(sentence(agreement));
  return `${lines.join("\n")}\n`;
}

/** The agreement as people read it. */
export function sentence({ n, top1, largest_difference }: Agreement): string {
  return `same label as f32 on ${percent(top1)} of ${n} texts; largest score difference ${largest_difference.toFixed(6)}`;
}
