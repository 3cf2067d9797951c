// The journal of a model's corrections: texts with the labels that people said are right, in
// the order in which they said so. It is a file of JSON lines beside the model to which
// entries are only appended, and which `edgelabel eval` can read. An entry is on the disk
// before it is confirmed. A last entry that a power cut has left incomplete is ignored, and
// the next append cuts it off.
import { dirname } from "node:path";
import { parseDataset, type Sample } from "./dataset.ts";
import { EdgelabelError } from "../errors.ts";
import { openToAppend, syncFolder } from "../files/atomic.ts";
import { type Lock, waitForLock } from "../files/lock.ts";
import { readIfAny } from "../files/read.ts";

/** With `labels` if its text has several, or none. */
export type Correction = Pick<Sample, "label" | "labels" | "text">;

const NEWLINE = 10;

/** "models/spam.elb" -> "models/spam.corrections.jsonl". */
export function journalPath(model: string): string {
  return `${model.replace(/\.(elb|wasm)$/, "")}.corrections.jsonl`;
}

/** All entries, in order; none when there is no journal yet. */
export async function readCorrections(path: string): Promise<Sample[]> {
  const bytes = (await readIfAny(path)) ?? Buffer.alloc(0);
  const whole = bytes.subarray(0, wholeLength(bytes));
  return whole.length === 0 ? [] : parseDataset(whole, path, { format: "jsonl", mayHaveSeveral: true });
}

/** Those of `given` that change the label of their text. */
export function newsTo(kept: readonly Correction[], given: readonly Correction[]): Correction[] {
  const answers = new Map(kept.map(({ label, text }) => [text, label]));
  return given.filter(({ label, text }) => {
    const isNews = answers.get(text) !== label;
    answers.set(text, label);
    return isNews;
  });
}

/** Adds the entries; resolves when they are on the disk. */
export async function appendCorrections(path: string, corrections: readonly Correction[]): Promise<void> {
  let file: Awaited<ReturnType<typeof openToAppend>> | undefined;
  let lock: Lock | undefined;
  try {
    // Locked, since another process could take an entry that is being written for an incomplete one and cut it off.
    lock = await waitForLock(`${path}.lock`);
    file = await openToAppend(path);
    const bytes = await file.readFile();
    const length = wholeLength(bytes);
    if (length < bytes.length) await file.truncate(length);
    const lines = corrections
      .map(({ label, labels, text }) => `${JSON.stringify({ label: labels ?? label, text })}\n`)
      .join("");
    // The last entry may be complete but for its "\n".
    await file.appendFile(length > 0 && bytes[length - 1] !== NEWLINE ? `\n${lines}` : lines);
    await file.sync();
    if (bytes.length === 0) await syncFolder(dirname(path));
  } catch (error) {
    throw new EdgelabelError(`${path}: the corrections cannot be kept (${(error as Error).message})`);
  } finally {
    await file?.close();
    await lock?.release();
  }
}

/** Length in bytes up to the end of the last complete entry. */
function wholeLength(bytes: Uint8Array): number {
  const start = bytes.lastIndexOf(NEWLINE) + 1;
  return isEntry(bytes.subarray(start)) ? bytes.length : start;
}

function isEntry(line: Uint8Array): boolean {
  try {
    const entry: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(line));
    return typeof entry === "object" && entry !== null && "label" in entry && "text" in entry;
  } catch {
    return false;
  }
}
