// A file in UTF-8 as it comes from disk or over a pipe -> blocks of whole lines, so that a file of any size fits in memory.
import { EdgelabelError } from "../errors.ts";
import { requireText } from "../text.ts";
import { MOST_RECORD } from "./csv.ts";
import { Defects, nameInvalidLines } from "./dataset.ts";

const NEWLINE = 0x0a;
const lossless = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Whole lines of a file. */
export interface Block {
  /** The first one begins with the byte order mark, if there is one. */
  content: string;
  /** 1-based number of the first line. */
  line: number;
}

export interface BlockOptions {
  /** Bytes of a block, or more; the last one may have less. Default: as they come. */
  least?: number;
  /** Most bytes of a line. */
  most?: number;
}

/** Throws an EdgelabelError for files that are not in UTF-8. */
export async function* blocksOf(
  input: AsyncIterable<Uint8Array>,
  source: string,
  { least = 0, most = MOST_RECORD }: BlockOptions = {},
): AsyncGenerator<Block> {
  let parts: Uint8Array[] = [];
  let length = 0;
  let unended = 0; // bytes of the line whose end is to come
  let line = 1;
  const take = (part: Uint8Array): Block => {
    const bytes = parts.length === 0 ? part : concat([...parts, part], length + part.length);
    [parts, length] = [[], 0];
    if (line === 1) requireText(bytes, source);
    const block = { content: decode(bytes, source, line), line };
    line += block.content.split("\n").length - 1;
    return block;
  };
  for await (const chunk of input) {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    unended = chunk.length - end + (end > 0 ? 0 : unended);
    if (unended > most) {
      const lines = [...parts, chunk].map((part) => part.reduce((sum, byte) => sum + Number(byte === NEWLINE), 0));
      throw new EdgelabelError(`${source}: line ${lines.reduce((a, b) => a + b, line)}: longer than ${most} bytes`);
    }
    const isTaken = end > 0 && length + end >= least;
    if (isTaken) yield take(chunk.subarray(0, end));
    const rest = isTaken ? chunk.subarray(end) : chunk;
    if (rest.length === 0) continue;
    parts.push(rest);
    length += rest.length;
  }
  if (length > 0) yield take(new Uint8Array(0));
}

function decode(bytes: Uint8Array, source: string, line: number): string {
  try {
    return lossless.decode(bytes);
  } catch {
    const defects = new Defects(source);
    nameInvalidLines(bytes, defects, line);
    return defects.raise() as never;
  }
}

function concat(parts: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
