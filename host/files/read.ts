// Reads whole files that users name. All of them are read here, so that the same fault is
// reported in the same words. The parts that a library can have (model, data, training, keras,
// report) read files in no other way.
import { accessSync, constants, createReadStream, readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { EdgelabelError } from "../errors.ts";
import { decodeText } from "../text.ts";

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

/** Bytes of a file; undefined of standard input, pipes and others that cannot be read again, and when there is no such file. */
export async function fileSize(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

/** The same, part by part. */
export async function* readParts(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path) as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw unreadable(error, path, {});
  }
}

/** The same of a file that may be in gzip, as the bytes that are compressed in it. */
export async function* readUnzipped(path: string): AsyncGenerator<Uint8Array> {
  const parts = readParts(path);
  const first = await parts.next();
  if (first.done) return;
  const all = (async function* (): AsyncGenerator<Uint8Array> {
    yield first.value;
    yield* parts;
  })();
  if (first.value[0] !== 0x1f || first.value[1] !== 0x8b) {
    yield* all;
    return;
  }
  try {
    const unzipped = createGunzip();
    // It passes an error of the file on to the loop.
    pipeline(Readable.from(all), unzipped, () => {});
    yield* unzipped as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (error instanceof EdgelabelError) throw error;
    throw new EdgelabelError(`${path}: is damaged or cut off gzip (${(error as Error).message})`, "unreadable");
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

function unreadable(error: unknown, path: string, { what, ifMissing }: ReadOptions): Error {
  const { code = "", message } = error as NodeJS.ErrnoException;
  if (error instanceof EdgelabelError) return error;
  const advice = code === "ENOENT" && ifMissing !== undefined ? `; ${ifMissing}` : "";
  return new EdgelabelError(
    `${what === undefined ? path : `cannot read the ${what} ${path}`}: ${REASONS[code] ?? message}${advice}`,
    "unreadable",
  );
}
