// `edgelabel data`: labelled texts -> what is wrong with them, as a table or as one JSON object.
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { MAX_SEQUENCE } from "../../assembly/abi.ts";
import { labelsOf, type Sample } from "../data/dataset.ts";
import { renderReport, reportData, type Source } from "../data/report.ts";
import { split } from "../data/split.ts";
import { EdgelabelError } from "../errors.ts";
import { writeWhole } from "../files/atomic.ts";
import { createTrainer, DEFAULT_RECIPE, withCleaning } from "../training/recipe.ts";
import { cleaningSteps } from "../training/setting-table.ts";
import type { Cleaning } from "../training/trainer.ts";
import { addDatasetOptions, type DatasetFlags, parseSeed, parserOf, readSamples, wholeNumber } from "./options.ts";
import { print, printJson } from "./terminal.ts";

interface DataOptions extends DatasetFlags {
  valid?: string[];
  clean?: Cleaning[];
  maxlen: number;
  split?: number[];
  seed: number;
  output?: string;
  json?: boolean;
}

const PARTS = ["train", "valid", "test"];

function parseShares(text: string): number[] {
  const shares = text.split("/").map(Number);
  const sum = shares.reduce((total, share) => total + share, 0);
  if (shares.length !== PARTS.length || !/^[\d/]+$/.test(text) || sum !== 100 || shares[0] === 0)
    throw new InvalidArgumentError(
      "it takes the percentages of training, validation and test texts, such as 80/10/10.",
    );
  return shares;
}

export function dataCommand(): Command {
  return addDatasetOptions(
    new Command("data")
      .argument("<data...>", "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)")
      .option("--valid <files...>", "validation texts, to find those that are in the data too")
      .option(
        "--clean <steps>",
        "clean texts before they are compared, as train --set clean=STEPS does",
        parserOf(cleaningSteps),
      )
      .option(
        "--maxlen <n>",
        "tokens of each text that are read",
        wholeNumber(1, MAX_SEQUENCE),
        DEFAULT_RECIPE.tokenizer.sequenceLength,
      )
      .option(
        "--split <percentages>",
        "instead: write train.csv, valid.csv and test.csv, such as 80/10/10 of each label; texts that are equal stay together",
        parseShares,
      )
      .option("--seed <n>", "with --split: another seed gives other parts", parseSeed, 0)
      .option("-o, --output <folder>", "with --split: where to write them (default: beside the data)")
      .option("--json", "print one JSON object, with all the lines that the table leaves out"),
  )
    .addHelpText(
      "after",
      `
Two texts are the same if the default recipe's tokenizer gives them the same tokens.
Findings are not errors: the exit code is 0 whatever is found.

Examples:
  edgelabel data train.tsv
  edgelabel data messages.tsv --split 80/10/10 -o parts
  edgelabel data train.tsv --valid valid.tsv --clean urls,numbers --json`,
    )
    .action(async (data: string[], options: DataOptions, command: Command) => {
      if (options.split === undefined && options.output !== undefined)
        command.error("error: -o is where --split writes; add --split");
      const sources = await readAll(data, options);
      if (options.split !== undefined) {
        const samples = sources.flatMap(({ samples }) => samples);
        const folder = options.output ?? (data[0] === "-" ? "." : dirname(data[0]!));
        await writeParts(samples, options.split, options.seed, folder);
        return;
      }
      const validation = options.valid === undefined ? null : await readAll(options.valid, options);
      const trainer = await createTrainer({
        ...DEFAULT_RECIPE.tokenizer,
        ...(options.clean ? { cleaning: withCleaning(DEFAULT_RECIPE, options.clean) } : {}),
      });
      const report = reportData(sources, validation, (text) => trainer.tokens(text), options.maxlen);
      await (options.json ? printJson(report) : print(renderReport(report)));
    });
}

/** Writes the parts as CSV, which holds every text; a part of 0 % has no file. */
async function writeParts(samples: readonly Sample[], shares: number[], seed: number, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch((error: Error) => {
    throw new EdgelabelError(`${folder}: cannot be made (${error.message})`);
  });
  const parts = split(
    samples,
    shares.map((share) => share / 100),
    seed,
  ).map((part, i) => ({ part, share: shares[i]!, path: join(folder, `${PARTS[i]}.csv`) }));
  const wanted = parts.filter(({ share }) => share > 0);
  for (const { path } of wanted)
    if (existsSync(path)) throw new EdgelabelError(`${path}: is there already; choose another folder with -o`);
  const cell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  for (const { part, path } of wanted) {
    const rows = part.map(
      ({ label, labels, text }) => `${cell(labels ? JSON.stringify(labels) : label)},${cell(text)}\n`,
    );
    await writeWhole(path, Buffer.from(`label,text\n${rows.join("")}`));
    await print(`${path}: ${part.length} texts, ${labelsOf(part).length} labels\n`);
  }
}

async function readAll(paths: readonly string[], options: DatasetFlags): Promise<Source[]> {
  const sources: Source[] = [];
  for (const path of paths)
    sources.push({ file: path === "-" ? "standard input" : path, samples: await readSamples([path], options) });
  return sources;
}
