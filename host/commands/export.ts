// `edgelabel export`: a model file -> the same network for Keras or ONNX, with its words and labels
// in files beside it. What the other format cannot hold is named.
import { dirname, join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { EdgelabelError } from "../errors.ts";
import { writeWhole } from "../files/atomic.ts";
import { readIfAny } from "../files/read.ts";
import { exportKeras } from "../keras/export.ts";
import { writeTokenizerJson } from "../keras/tokenizer-json.ts";
import { Classifier, type ModelInfo } from "../model/classifier.ts";
import { exportOnnx } from "../onnx/export.ts";
import { describeRule } from "../training/calibration.ts";
import { Trainer } from "../training/trainer.ts";
import { readElb } from "./pack.ts";
import { kilobytes } from "../figures.ts";
import { print, printJson } from "./terminal.ts";

export function exportCommand(): Command {
  return new Command("export")
    .argument("<model>", "model file (.wasm or .elb)")
    .requiredOption("-o, --output <file>", "file to write (.keras or .onnx)", parseExport)
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Writes the network behind the tokenizer, from token ids to scores, and beside it tokenizer.json
(for Keras' tokenizer_from_json) and labels.json (names in class order). A temperature becomes
part of the last layer's weights. int8 weights become the f32 numbers that they stand for.
What neither format can hold, such as n-grams and cleaning, is named.

Examples:
  edgelabel export spam.elb -o keras/spam.keras
  edgelabel export spam.wasm -o onnx/spam.onnx`,
    )
    .action(async (path: string, { output, json }: { output: string; json?: boolean }) => {
      const { network, tokenizer, labels, info } = await exportModel(await readElb(path), path, output);
      const files: [path: string, bytes: Uint8Array][] = [
        [output, network],
        [join(dirname(output), "tokenizer.json"), Buffer.from(tokenizer)],
        [join(dirname(output), "labels.json"), Buffer.from(labels)],
      ];
      for (const [file, bytes] of files.slice(1)) await requireNoOther(file, bytes);
      for (const [file, bytes] of files) await writeWhole(file, bytes);
      const { sequence_length: maxlen, padding, truncating } = info.tokenizer;
      const report: Report = {
        files: files.map(([file, { length }]) => ({ file, bytes: length })),
        pad_sequences: { maxlen, padding, truncating },
        changed: changes(info),
        left_out: losses(info),
      };
      await (json ? printJson(report) : print(render(report)));
    });
}

/** The model in `elb` as the contents of the three files; the ending of `output` says for whom. `source` names it in errors. */
export async function exportModel(
  elb: Uint8Array,
  source: string,
  output: string,
): Promise<{ network: Uint8Array; tokenizer: string; labels: string; info: ModelInfo }> {
  const { info, name, version, labels } = await Classifier.fromBytes(elb, source);
  if (info.layers.some(({ kind }) => kind === "mingru"))
    throw new EdgelabelError(
      `${source}: Keras and ONNX have no minGRU layer, which the recipe fast trains; train with the default recipe to export`,
    );
  const trainer = await Trainer.open(elb, source, true);
  trainer.buildOpened();
  trainer.foldTemperature();
  const { lower, char_level: charLevel, sequence_length: steps } = info.tokenizer;
  return {
    network: output.endsWith(".onnx")
      ? exportOnnx(trainer, { name, version, steps, labels: labels.length })
      : exportKeras(trainer, name, steps),
    tokenizer: writeTokenizerJson({ lower, charLevel, ...trainer.vocabulary() }),
    labels: JSON.stringify(labels),
    info,
  };
}

interface Report {
  files: { file: string; bytes: number }[];
  /** What Keras' function of that name must be told. */
  pad_sequences: { maxlen: number; padding: string; truncating: string };
  /** What is in the network in another form. */
  changed: string[];
  /** What is not in any of the files. */
  left_out: string[];
}

function parseExport(path: string): string {
  if (!/[^/\\]\.(keras|onnx)$/.test(path)) throw new InvalidArgumentError("its name must end in .keras or .onnx.");
  return path;
}

/** The user has not typed this name, so no file of his is replaced. */
async function requireNoOther(path: string, bytes: Uint8Array): Promise<void> {
  const there = await readIfAny(path);
  if (there !== undefined && Buffer.compare(there, bytes) !== 0)
    throw new EdgelabelError(`${path}: is there already, of another model; export into another folder, or remove it`);
}

function changes({ temperature, form }: ModelInfo): string[] {
  return [
    ...(temperature === 1 ? [] : [`temperature ${temperature}: divides the last layer's weights`]),
    ...(form === "int8"
      ? ["int8 weights: f32 numbers; LSTM states are not rounded, so scores differ in about the fifth decimal"]
      : []),
    ...(form === "int8-weights" ? ["int8 weights: f32 numbers"] : []),
  ];
}

function losses({ tokenizer, reject, levels, resumable, linear, multi_label: isMultiLabel }: ModelInfo): string[] {
  const rule = describeRule(reject);
  return [
    ...(linear === undefined
      ? []
      : [
          "the linear part: the scores are those of the network alone; train with --set linear=false for a model without one",
        ]),
    ...(tokenizer.ngram_buckets > 0
      ? [`${tokenizer.ngram_buckets} n-gram rows: words outside the vocabulary are dropped, not read by their parts`]
      : []),
    ...(tokenizer.split_scripts
      ? [
          "scripts without spaces: Keras' Tokenizer takes what stands between two spaces for a word, not each letter or pair",
        ]
      : []),
    ...(tokenizer.cleaning.length > 0 ? [`cleaning: ${tokenizer.cleaning.join(", ")}`] : []),
    ...(isMultiLabel
      ? [`the threshold for several labels: a text has each label with a score of ${reject.score.toFixed(4)} or more`]
      : rule === "never"
        ? []
        : [`rule for unknown texts: ${rule}`]),
    ...(levels === undefined
      ? []
      : [`parents of doubtful labels: a score below ${levels} gives the label all the same`]),
    ...(resumable ? ["the state to resume training"] : []),
  ];
}

function render({ files, pad_sequences: { maxlen, padding, truncating }, changed, left_out: leftOut }: Report): string {
  const rows: [string, string][] = [
    ...files.map(({ file, bytes }): [string, string] => ["", `${file}: ${kilobytes(bytes)}`]),
    ["", `ids: pad_sequences(…, maxlen=${maxlen}, padding="${padding}", truncating="${truncating}")`],
    ...changed.map((text): [string, string] => ["changed: ", text]),
    ...leftOut.map((text): [string, string] => ["left out: ", text]),
  ];
  return rows.map(([kind, text]) => `${kind}${text}\n`).join("");
}
