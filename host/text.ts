// Bytes of files that users take for text -> text, or why they are none.
import { EdgelabelError } from "./errors.ts";

const UTF16 = "is UTF-16, as some Windows programs write it; save it as UTF-8";
/** First bytes of files that people take for text, and what to do with them. None of these begins a UTF-8 file. */
const FOREIGN: readonly [bytes: readonly number[], advice: string][] = [
  [[0xff, 0xfe], UTF16],
  [[0xfe, 0xff], UTF16],
  [[0x1f, 0x8b], "is compressed; unpack it with gunzip"],
  [
    [0x50, 0x4b, 0x03, 0x04],
    "is a zip archive, as Excel's workbooks are; unpack it, or export the sheet as CSV in UTF-8",
  ],
  [[0xd0, 0xcf, 0x11, 0xe0], "is an Excel workbook; export the sheet as CSV in UTF-8"],
];

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true });
const lossless = new TextDecoder("utf-8", { ignoreBOM: true });

/** Length of a text in UTF-8. */
export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** A copy of a part of a long text; in V8, the part itself keeps all of that text in memory. */
export function detached(text: string): string {
  return lossless.decode(encoder.encode(text));
}

/** The text without a byte order mark; undefined unless it is UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The same for a file, named `source` in the EdgelabelError that it throws. */
export function decodeText(bytes: Uint8Array, source: string): string {
  requireText(bytes, source);
  const text = decodeUtf8(bytes);
  if (text === undefined) throw new EdgelabelError(`${source}: not valid UTF-8`);
  return text;
}

/** Throws an EdgelabelError when the first bytes are those of a file that is no UTF-8 text. */
export function requireText(bytes: Uint8Array, source: string): void {
  const foreign = FOREIGN.find(([mark]) => mark.every((byte, i) => bytes[i] === byte));
  if (foreign) throw new EdgelabelError(`${source}: ${foreign[1]}`);
}
