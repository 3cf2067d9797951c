// Standard input -> whole lines, by the rules of assembly/wasi.ts: "\n" ends a line, a last line needs no end, of a
// line above TEXT_CAPACITY bytes the beginning is kept, and a byte order mark at the start is dropped. (A "\r" at the
// end is dropped by the engine.) Lines are bytes here, never strings, so that invalid UTF-8 reaches the engine as it is.
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
import { OLD_MAC } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";
import { requireText } from "../text.ts";
import { note } from "./terminal.ts";

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const MARK = Buffer.of(0xef, 0xbb, 0xbf);
/** So much is looked at once: a line within it is not too long. */
const PIECE = 65_536;

/**
 * Yields the lines that each chunk completes, end to end, each with its "\n". Throws an EdgelabelError for UTF-16,
 * and for "\r" alone as line ends.
 */
export async function* wholeLines(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let length = 0;
  let isOpen = false;
  let isFirst = true;
  const keep = (part: Uint8Array): void => {
    // One byte beyond the capacity shows that the line is longer.
    const kept = part.subarray(0, TEXT_CAPACITY + 1 - length);
    if (kept.length > 0) parts.push(kept);
    length += kept.length;
    isOpen = true;
  };
  /** The kept line with its end. */
  const close = (): Uint8Array => {
    const line = Buffer.concat(parts);
    if (isFirst) requireText(line, "standard input");
    const start = isFirst && MARK.equals(line.subarray(0, MARK.length)) ? MARK.length : 0;
    parts = [];
    length = 0;
    isOpen = false;
    isFirst = false;
    if (line.length > TEXT_CAPACITY) note(`a line is longer than ${TEXT_CAPACITY} bytes; its beginning was classified`);
    return Buffer.concat([line.subarray(start, TEXT_CAPACITY), Buffer.of(NEWLINE)]);
  };
  for await (const chunk of input) {
    for (let at = 0; at < chunk.length; at += PIECE) {
      const piece = chunk.subarray(at, at + PIECE);
      const blocks: Uint8Array[] = [];
      let start = 0;
      if (isFirst || isOpen) {
        const end = piece.indexOf(NEWLINE);
        keep(end < 0 ? piece : piece.subarray(0, end));
        if (end < 0) continue;
        blocks.push(close());
        start = end + 1;
      }
      const end = Math.max(start, piece.lastIndexOf(NEWLINE) + 1);
      if (end > start) blocks.push(piece.subarray(start, end));
      if (end < piece.length) keep(piece.subarray(end));
      if (blocks.length > 0) yield blocks.length === 1 ? blocks[0]! : Buffer.concat(blocks);
    }
  }
  if (!isOpen) return;
  const isOnly = isFirst;
  const line = close();
  if (isOnly && line.subarray(0, -2).includes(CARRIAGE_RETURN)) throw new EdgelabelError(`standard input: ${OLD_MAC}`);
  yield line;
}

/** The same lines, each by itself and without its "\n". */
export async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array[]> {
  for await (const block of wholeLines(input)) {
    const lines: Uint8Array[] = [];
    for (let start = 0; start < block.length;) {
      const end = block.indexOf(NEWLINE, start);
      lines.push(block.subarray(start, end));
      start = end + 1;
    }
    yield lines;
  }
}
