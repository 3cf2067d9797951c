// `edgelabel predict`: texts, or lines of stdin -> one line of output each, with the
// bytes that `wasmtime run MODEL` prints for them. Lines are bytes here, never strings,
// so that invalid UTF-8 reaches the engine as it is. With --in, a table -> the same table with labels.
import { Command, Option } from "commander";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
import type { Classifier } from "../model/classifier.ts";
import { openModel } from "../model/file.ts";
import { OLD_MAC } from "../data/dataset.ts";
import { labelTable, type TableOptions, TABLES } from "../data/table.ts";
import { isSameFile, requireWritable, writeWhole } from "../files/atomic.ts";
import { readParts } from "../files/read.ts";
import { requireText } from "../text.ts";
import { EdgelabelError } from "../errors.ts";
import { parseTop } from "./options.ts";
import { note, noteFileName, print } from "./terminal.ts";

const TAB = 0x09;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const MARK = Buffer.of(0xef, 0xbb, 0xbf);

interface PredictOptions extends TableOptions {
  json?: boolean;
  top?: number;
  in?: string;
  out?: string;
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
    .addHelpText(
      "after",
      `
Examples:
  edgelabel predict spam.wasm 'you won a prize' 'see you at noon'
  mosquitto_sub -t in | edgelabel predict spam.wasm --json
  edgelabel predict spam.wasm --in calls.csv --text-column body --out labelled.csv`,
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
      const classifier = await openModel(model);
      if (classifier.warning !== undefined) note(`warning: ${classifier.warning}`);
      if (options.in !== undefined) {
        await labelFile(classifier, options.in, options);
        return;
      }
      const answer = (line: Uint8Array): Uint8Array => classifier.line(line, { json, top });
      if (texts.length > 0) {
        await noteFileName(texts, "predict MODEL", "; to label the rows of a table: --in FILE");
        for (const text of texts) await print(answer(Buffer.from(text)));
        return;
      }
      let count = 0;
      let tabbed = 0;
      for await (const lines of linesOf(process.stdin)) {
        count += lines.length;
        tabbed += lines.filter((line) => line.includes(TAB)).length;
        await print(Buffer.concat(lines.map(answer)));
      }
      if (count > 1 && tabbed === count)
        note(
          "every line has a tab, as labelled texts do, but was read as one text; to measure a model on labelled texts: edgelabel eval",
        );
    });
}

async function labelFile(classifier: Classifier, path: string, options: PredictOptions): Promise<void> {
  const { out } = options;
  if (out !== undefined) await requireWritable(out);
  let count = 0;
  const parts = labelTable(
    path === "-" ? process.stdin : readParts(path),
    path === "-" ? "standard input" : path,
    options,
    (text) => {
      count++;
      return classifier.classify(text);
    },
  );
  if (out === undefined) {
    // What was in the file is the user's own, and stays as it is.
    for await (const part of parts) await print(Buffer.from(part));
    return;
  }
  await writeWhole(out, parts);
  await print(`${out}: ${count} text${count === 1 ? "" : "s"}\n`);
}

/**
 * The lines of a byte stream by the rules of assembly/wasi.ts: "\n" ends a line, a last line
 * needs no end, of a line above TEXT_CAPACITY bytes the beginning is kept, and a byte order
 * mark at the start is dropped. (A "\r" at the end is dropped by the engine.) Yields the lines
 * that each chunk completes. Throws an EdgelabelError for UTF-16, and for "\r" alone as line ends.
 */
export async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array[]> {
  let parts: Uint8Array[] = [];
  let length = 0;
  let isOpen = false;
  let isFirst = true;
  const keep = (part: Uint8Array): void => {
    // One byte beyond the capacity shows that the line is longer.
    const kept = part.subarray(0, TEXT_CAPACITY + 1 - length);
    if (kept.length > 0) parts.push(kept);
    length += kept.length;
  };
  const close = (): Uint8Array => {
    // Most often a line lies in one chunk, and needs no copy.
    const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    if (isFirst) requireText(line, "standard input");
    const start = isFirst && MARK.equals(line.subarray(0, MARK.length)) ? MARK.length : 0;
    parts = [];
    length = 0;
    isOpen = false;
    isFirst = false;
    if (line.length > TEXT_CAPACITY) note(`a line is longer than ${TEXT_CAPACITY} bytes; its beginning was classified`);
    return line.subarray(start, TEXT_CAPACITY);
  };
  for await (const chunk of input) {
    const lines: Uint8Array[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      keep(chunk.subarray(start, end));
      lines.push(close());
      start = end + 1;
    }
    if (start < chunk.length) {
      keep(chunk.subarray(start));
      isOpen = true;
    }
    if (lines.length > 0) yield lines;
  }
  if (!isOpen) return;
  const isOnly = isFirst;
  const line = close();
  if (isOnly && line.subarray(0, -1).includes(CARRIAGE_RETURN)) throw new EdgelabelError(`standard input: ${OLD_MAC}`);
  yield [line];
}
