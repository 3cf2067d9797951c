// `edgelabel data`: labelled texts -> what is wrong with them, as a table or as one JSON object.
import { Command } from "commander";
import { MAX_SEQUENCE } from "../../assembly/abi.ts";
import { renderReport, reportData, type Source } from "../data/report.ts";
import { createTrainer, DEFAULT_RECIPE, withCleaning } from "../training/recipe.ts";
import { cleaningSteps } from "../training/setting-table.ts";
import type { Cleaning } from "../training/trainer.ts";
import { addDatasetOptions, type DatasetFlags, parserOf, readSamples, wholeNumber } from "./options.ts";
import { print, printJson } from "./terminal.ts";

interface DataOptions extends DatasetFlags {
  valid?: string[];
  clean?: Cleaning[];
  maxlen: number;
  json?: boolean;
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
      .option("--json", "print one JSON object, with all the lines that the table leaves out"),
  )
    .addHelpText(
      "after",
      `
Two texts are the same if the default recipe's tokenizer gives them the same tokens.
Findings are not errors: the exit code is 0 whatever is found.

Examples:
  edgelabel data train.tsv
  edgelabel data train.tsv --valid valid.tsv --clean urls,numbers --json`,
    )
    .action(async (data: string[], options: DataOptions) => {
      const sources = await readAll(data, options);
      const validation = options.valid === undefined ? null : await readAll(options.valid, options);
      const trainer = await createTrainer({
        ...DEFAULT_RECIPE.tokenizer,
        ...(options.clean ? { cleaning: withCleaning(DEFAULT_RECIPE, options.clean) } : {}),
      });
      const report = reportData(sources, validation, (text) => trainer.tokens(text), options.maxlen);
      await (options.json ? printJson(report) : print(renderReport(report)));
    });
}

async function readAll(paths: readonly string[], options: DatasetFlags): Promise<Source[]> {
  const sources: Source[] = [];
  for (const path of paths)
    sources.push({ file: path === "-" ? "standard input" : path, samples: await readSamples([path], options) });
  return sources;
}
