// `edgelabel predict`: texts, or lines of stdin -> one line of output each, with the
// bytes that `wasmtime run MODEL` prints for them. Lines are bytes here, never strings,
// so that invalid UTF-8 reaches the engine as it is.
import { Command } from "commander";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
import { openModel } from "../model/file.ts";
import { OLD_MAC } from "../data/dataset.ts";
import { requireText } from "../text.ts";
import { EdgelabelError } from "../errors.ts";
import { parseTop } from "./options.ts";
import { note, noteFileName, print } from "./terminal.ts";

const TAB = 0x09;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const MARK = Buffer.of(0xef, 0xbb, 0xbf);

interface PredictOptions {
  json?: boolean;
  top?: number;
}

export function predictCommand(): Command {
  return new Command("predict")
    .argument("<model>", "model file (.wasm or .elb)")
    .argument("[texts...]", "texts; without any, one a line from standard input")
    .option("--json", 'print {"label","score","scores"} a line')
    .option("--top <n>", "print the N best labels, best first", parseTop)
    .addHelpText(
      "after",
      `
Examples:
  edgelabel predict spam.wasm 'you won a prize' 'see you at noon'
  mosquitto_sub -t in | edgelabel predict spam.wasm --json`,
    )
    .action(async (model: string, texts: string[], { json = false, top = 0 }: PredictOptions) => {
      const classifier = await openModel(model);
      if (classifier.warning !== undefined) note(`warning: ${classifier.warning}`);
      const answer = (line: Uint8Array): Uint8Array => classifier.line(line, { json, top });
      if (texts.length > 0) {
        await noteFileName(texts, "predict MODEL");
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
    const line = Buffer.concat(parts);
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
