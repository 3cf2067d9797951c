// `edgelabel info`: a model file -> what is in it, as text or as one JSON object.
import { Command } from "commander";
import { describeAnswers } from "../training/calibration.ts";
import type { ModelInfo } from "../model/classifier.ts";
import { openModel } from "../model/file.ts";
import { isDeployable } from "./output.ts";
import { kilobytes } from "../figures.ts";
import { print, printJson } from "./terminal.ts";

export function infoCommand(): Command {
  return new Command("info")
    .argument("<model>", "model file (.wasm or .elb)")
    .option("--json", "print one JSON object")
    .addHelpText("after", "\nExamples:\n  edgelabel info spam.wasm\n  edgelabel info spam.wasm --json")
    .action(async (model: string, options: { json?: boolean }) => {
      const classifier = await openModel(model);
      const engine = classifier.isPackedHere === undefined ? null : classifier.isPackedHere ? "own" : "other";
      const { info } = classifier;
      const card: Card = {
        file: model,
        sha256: classifier.digest,
        engine,
        ...info,
        name: classifier.name,
        file_bytes: classifier.fileBytes,
        model_bytes: info.file_bytes,
      };
      await (options.json ? printJson(card) : print(renderInfo(card)));
    });
}

interface Card extends ModelInfo {
  file: string;
  sha256: string;
  /** Of a deployable: this edgelabel's own, or another one. */
  engine: "own" | "other" | null;
  /** Without the engine; file_bytes is the size of the whole file. */
  model_bytes: number;
}

function renderInfo(card: Card): string {
  const { tokenizer, labels } = card;
  const rows: [string, string][] = [
    ["file", `${card.file} (${isDeployable(card.file) ? "deployable" : "model only"})`],
    ["sha256", card.sha256],
    ...(card.engine === null
      ? []
      : [
          [
            "engine",
            card.engine === "own"
              ? "this edgelabel's"
              : `another one than this edgelabel's: "wasmtime run" may give other last digits; pack it again: edgelabel pack ${card.file} -o NEW.wasm`,
          ] satisfies [string, string],
        ]),
    ["name", card.version === "" ? card.name : `${card.name}, version ${card.version}`],
    ["form", `${card.form}${card.resumable ? ", with the state to resume training" : ""}, format ${card.format}`],
    [
      "size",
      `${kilobytes(card.file_bytes)}, of it ${card.engine === null ? "" : `the model ${kilobytes(card.model_bytes)}, and of that `}weights ${kilobytes(card.weight_bytes)}; in memory ${kilobytes(card.memory_bytes)}`,
    ],
    ["labels", `${labels.length}: ${labels.slice(0, 12).join(", ")}${labels.length > 12 ? ", …" : ""}`],
    [
      "tokens",
      [
        `${tokenizer.sequence_length} a text, padded ${tokenizer.padding}, truncated ${tokenizer.truncating}`,
        `${tokenizer.words} words`,
        ...(tokenizer.ngram_buckets > 0 ? [`${tokenizer.ngram_buckets} n-gram rows`] : []),
        ...(tokenizer.char_level ? ["by character"] : []),
        ...(tokenizer.lower ? ["lower case"] : []),
        ...(tokenizer.split_scripts ? ["scripts without spaces split"] : []),
        ...(tokenizer.cleaning.length > 0 ? [`cleaned of ${tokenizer.cleaning.join(", ")}`] : []),
      ].join(", "),
    ],
    ["scores", `temperature ${card.temperature}; ${describeAnswers(card)}`],
    ...card.layers.map(({ kind, input, output, ...flags }, i): [string, string] => {
      const details = Object.entries(flags).map(([name, value]) =>
        value === true ? name : `${name} ${String(value)}`,
      );
      return [
        i === 0 ? "layers" : "",
        `${kind} ${input} → ${output}${details.length > 0 ? ` (${details.join(", ")})` : ""}`,
      ];
    }),
  ];
  return rows.map(([name, value]) => `${name.padEnd(8)}${value}\n`).join("");
}
