// Reads whole files that users name. All of them are read here, so that the same fault is
// reported in the same words. The parts that a library can have (model, data, training, keras,
// report) read files in no other way.
import { isUtf8 } from "node:buffer";
import { accessSync, constants, readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { artefactPath } from "../build-path.ts";
import { EdgelabelError } from "../errors.ts";

export interface ReadOptions {
  /** What the file is, where its name alone would not tell: "certificate". */
  what?: string;
  /** What to do when there is none. */
  ifMissing?: string;
  /** Most bytes, and what to say of more. */
  most?: { bytes: number; otherwise: string };
}

const REASONS: Record<string, string> = {
  ENOENT: "no such file",
  ENOTDIR: "no such file",
  EISDIR: "is a directory, not a file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ERR_FS_FILE_TOO_LARGE: "is larger than 2 GiB",
};
const UTF16 = "is UTF-16, as some Windows programs write it; save it as UTF-8";
/** First bytes of files that people take for text, and what to do with them. None of these begins a UTF-8 file. */
const FOREIGN: readonly [bytes: Buffer, advice: string][] = [
  [Buffer.of(0xff, 0xfe), UTF16],
  [Buffer.of(0xfe, 0xff), UTF16],
  [Buffer.of(0x1f, 0x8b), "is compressed; unpack it with gunzip"],
  [
    Buffer.from("PK\u0003\u0004"),
    "is a zip archive, as Excel's workbooks are; unpack it, or export the sheet as CSV in UTF-8",
  ],
  [Buffer.of(0xd0, 0xcf, 0x11, 0xe0), "is an Excel workbook; export the sheet as CSV in UTF-8"],
];

/** A file's bytes. Throws an EdgelabelError that says what is wrong with it, and what to do. */
export async function readWhole(path: string, options: ReadOptions = {}): Promise<Buffer> {
  const { most } = options;
  try {
    if (most && (await stat(path)).size > most.bytes) throw new EdgelabelError(`${path}: ${most.otherwise}`);
    return await readFile(path);
  } catch (error) {
    throw unreadable(error, path, options);
  }
}

/** The same, or undefined when there is no such file. */
export function readIfAny(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw unreadable(error, path, {});
  });
}

/** The same for settings, which are read before anything runs. */
export function readWholeSync(path: string, options: ReadOptions = {}): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw unreadable(error, path, options);
  }
}

/** Throws what reading the file would throw, for a file that is read later. */
export function requireReadable(path: string, options: ReadOptions): void {
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    throw unreadable(error, path, options);
  }
}

/** A text file's content, without a byte order mark. Throws an EdgelabelError unless it is UTF-8. */
export async function readText(path: string, options: ReadOptions = {}): Promise<string> {
  return decodeText(await readWhole(path, options), path);
}

export function decodeText(bytes: Uint8Array, source: string): string {
  requireText(bytes, source);
  if (!isUtf8(bytes)) throw new EdgelabelError(`${source}: not valid UTF-8`);
  return new TextDecoder().decode(bytes);
}

/** Throws an EdgelabelError when the first bytes are those of a file that is no UTF-8 text. */
export function requireText(bytes: Uint8Array, source: string): void {
  const foreign = FOREIGN.find(([mark]) => mark.equals(bytes.subarray(0, mark.length)));
  if (foreign) throw new EdgelabelError(`${source}: ${foreign[1]}`);
}

/** A compiled module of this build. */
export function readArtefact(name: string): Promise<Buffer> {
  return readFile(artefactPath(name));
}

function unreadable(error: unknown, path: string, { what, ifMissing }: ReadOptions): Error {
  const { code = "", message } = error as NodeJS.ErrnoException;
  if (error instanceof EdgelabelError) return error;
  const advice = code === "ENOENT" && ifMissing !== undefined ? `; ${ifMissing}` : "";
  return new EdgelabelError(
    `${what === undefined ? path : `cannot read the ${what} ${path}`}: ${REASONS[code] ?? message}${advice}`,
    "unreadable",
  );
}
