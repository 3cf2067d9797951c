// `edgelabel predict`: texts, or lines of stdin -> one line of output each, with the
// bytes that `wasmtime run MODEL` prints for them. With --in, a table -> the same table with labels.
import { Command, Option } from "commander";
import { MAX_WORKERS } from "../../assembly/abi.ts";
import { openModelBytes, readModelFile } from "../model/file.ts";
import { type Bulk, bulkOf, inOrder, type LineFormat, Pool } from "../model/pool.ts";
import { tableParts, type TableOptions, TABLES } from "../data/table.ts";
import { isSameFile, requireWritable, writeWhole } from "../files/atomic.ts";
import { readParts } from "../files/read.ts";
import { wholeLines } from "./lines.ts";
import { parseTop, wholeNumber } from "./options.ts";
import { note, noteFileName, print } from "./terminal.ts";

const TAB = 0x09;
const NEWLINE = 0x0a;

interface PredictOptions extends TableOptions {
  json?: boolean;
  top?: number;
  in?: string;
  out?: string;
  workers?: number;
}

export function predictCommand(): Command {
  return new Command("predict")
    .argument("<model>", "model file (.wasm or .elb)")
    .argument("[texts...]", "texts; without any, one a line from standard input")
    .option("--json", 'print {"label","score","scores"} a line')
    .option("--top <n>", "print the N best labels, best first", parseTop)
    .option("--in <file>", "add label and score to each record of a table (.csv .tsv .jsonl, or - for standard input)")
    .option("--out <file>", "with --in: write the table there (default: print it)")
    .addOption(new Option("--format <name>", "with --in: format of the table (default: by file name)").choices(TABLES))
    .option(
      "--text-column <name>",
      'with --in: column or JSON key of the text (default: "text", or else the usual name that is there)',
    )
    .option(
      "--workers <n>",
      "threads that label lines or a table, in their order (default: 1)",
      wholeNumber(1, MAX_WORKERS),
    )
    .addHelpText(
      "after",
      `
Examples:
  edgelabel predict spam.wasm 'you won a prize' 'see you at noon'
  mosquitto_sub -t in | edgelabel predict spam.wasm --json
  edgelabel predict spam.wasm --in calls.csv --text-column body --out labelled.csv
  edgelabel predict spam.wasm --workers 4 < million.txt > labels.txt`,
    )
    .action(async (model: string, texts: string[], options: PredictOptions, command: Command) => {
      const { json = false, top = 0 } = options;
      if (options.in === undefined) {
        for (const name of ["out", "format", "textColumn"] as const)
          if (options[name] !== undefined)
            command.error(`error: --${name === "textColumn" ? "text-column" : name} needs a table; give it with --in`);
      } else {
        if (texts.length > 0 || json || top > 0)
          command.error("error: --in adds label and score to a table; it takes no texts, no --json and no --top");
        if (options.out !== undefined && (await isSameFile(options.in, options.out)))
          command.error("error: --out would overwrite the table; choose another name");
      }
      if (texts.length > 0 && options.workers !== undefined)
        command.error("error: --workers is for lines of standard input and tables, not for texts in the command");
      const bytes = await readModelFile(model);
      const classifier = await openModelBytes(bytes, model);
      if (classifier.warning !== undefined) note(`warning: ${classifier.warning}`);
      if (texts.length > 0) {
        await noteFileName(texts, "predict MODEL", "; to label the rows of a table: --in FILE");
        for (const text of texts) await print(classifier.line(Buffer.from(text), { json, top }));
        return;
      }
      const { workers = 1 } = options;
      const pool = workers > 1 ? new Pool(workers, { bytes, source: model }) : undefined;
      const bulk = pool ?? bulkOf(classifier);
      try {
        if (options.in === undefined) await labelLines(bulk, { json, top });
        else await labelFile(bulk, options.in, options);
      } finally {
        await pool?.stop();
      }
    });
}

async function labelLines(bulk: Bulk, format: LineFormat): Promise<void> {
  let count = 0;
  /** Every line so far has a tab. */
  let isTabbed = true;
  const answers = inOrder(wholeLines(process.stdin), bulk.most, (block) => {
    for (let start = 0; isTabbed && start < block.length; count++) {
      const end = block.indexOf(NEWLINE, start);
      isTabbed = block.subarray(start, end).includes(TAB);
      start = end + 1;
    }
    return bulk.lines(block, format);
  });
  for await (const parts of answers) for (const part of parts) await print(part);
  if (count > 1 && isTabbed)
    note(
      "every line has a tab, as labelled texts do, but was read as one text; to measure a model on labelled texts: edgelabel eval",
    );
}

async function labelFile(bulk: Bulk, path: string, options: PredictOptions): Promise<void> {
  const { out } = options;
  if (out !== undefined) await requireWritable(out);
  let count = 0;
  const table = tableParts(
    path === "-" ? process.stdin : readParts(path),
    path === "-" ? "standard input" : path,
    options,
  );
  const parts = inOrder(table, bulk.most, async ({ texts, write }) => {
    count += texts.length;
    return write(await bulk.texts(texts));
  });
  if (out === undefined) {
    // What was in the file is the user's own, and stays as it is.
    for await (const part of parts) await print(Buffer.from(part));
    return;
  }
  await writeWhole(out, parts);
  await print(`${out}: ${count} text${count === 1 ? "" : "s"}\n`);
}
