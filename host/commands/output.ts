// Output of the commands: model files, and text on stdout at the pace of its reader.
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { ModelInfo } from "../model/classifier.ts";
import { type Sample, without } from "../data/dataset.ts";
import { excerpt, printable } from "../errors.ts";
import { isSameFile, writeWhole } from "../files/atomic.ts";
import { packModel } from "../model/pack.ts";
import { asTyped } from "../program-name.ts";
import { Trainer } from "../training/trainer.ts";

/** The value of -o: the ending of the name decides what is written. */
export function parseOutput(path: string): string {
  if (!/[^/\\]\.(elb|wasm)$/.test(path))
    throw new InvalidArgumentError("its name must end in .wasm (deployable) or .elb (model only).");
  return path;
}

/** Ends a command that makes less of f32 weights and would write it over them: nothing brings them back. */
export async function requireOtherOutput(command: Command, output: string, model: string): Promise<void> {
  if (await isSameFile(output, model))
    command.error("error: -o would overwrite the f32 weights that it is made of; give it another name");
}

export function isDeployable(path: string): boolean {
  return path.endsWith(".wasm");
}

/** "models/spam.wasm" -> "spam". */
export function modelName(path: string): string {
  return basename(path).replace(/\.(elb|wasm)$/, "");
}

/** Writes the model as the ending of `path` says; returns the bytes of the file. */
export async function writeModel(path: string, elb: Uint8Array): Promise<number> {
  const bytes = isDeployable(path) ? await packModel(elb) : elb;
  await writeWhole(path, bytes);
  return bytes.length;
}

/** What writeModel is to write: for a deployable only the weights, since the state to resume training is several times as large and of no use there. */
export async function trimmed(path: string, elb: Uint8Array, { resumable }: ModelInfo): Promise<Uint8Array> {
  if (!resumable || !isDeployable(path)) return elb;
  const trainer = await Trainer.open(elb, path);
  trainer.buildOpened();
  return trainer.write("f32");
}

/** Writes to stdout; resolves when it accepts more. Names and labels in text come from files of others, so it is made printable; bytes are written as they are. */
export async function print(content: string | Uint8Array): Promise<void> {
  if (!process.stdout.write(typeof content === "string" ? shown(content) : content))
    await new Promise((resolve) => process.stdout.once("drain", resolve));
}

/** Control characters are escaped, which says the same in JSON. */
export async function printJson(value: unknown): Promise<void> {
  const units = (characters: string): string =>
    Array.from(
      { length: characters.length },
      (_, i) => `\\u${characters.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join("");
  await print(`${JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, units)}\n`);
}

/** Text for a terminal: lines and columns stay. */
function shown(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}

/** Writes a remark for people to stderr; stdout is for results. */
export function note(text: string): void {
  process.stderr.write(`edgelabel: ${shown(asTyped(text))}\n`);
}

/** Tells the user when the only text is a file's name; `command` is what reads lines. */
export async function noteFileName(texts: readonly string[], command: string): Promise<void> {
  const [name] = texts;
  if (
    texts.length !== 1 ||
    !(await stat(name!).then(
      (found) => found.isFile(),
      () => false,
    ))
  )
    return;
  note(
    `${excerpt(name!)} is a file here, but its name is taken for a text; its lines are read by: edgelabel ${command} < FILE`,
  );
}

/** Tells the user when texts to measure on are among those that the model learns from. */
export function noteSeen(validation: readonly Sample[], samples: readonly Sample[]): void {
  const seen = validation.length - without(validation, samples).length;
  if (seen > 0)
    note(
      `${seen} of ${validation.length} texts of --valid are in the data too, so the figures are better than for new texts; keep them apart (edgelabel data DATA --valid FILE lists them)`,
    );
}

export function kilobytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KB`;
}

export function percent(part: number): string {
  return `${(100 * part).toFixed(2)} %`;
}
