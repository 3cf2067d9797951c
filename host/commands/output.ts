// Model files that commands write: how they are named, and what goes into them.
import { basename } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { ModelInfo } from "../model/classifier.ts";
import { isSameFile, writeWhole } from "../files/atomic.ts";
import { packModel } from "../model/pack.ts";
import { withoutState } from "../library/update.ts";

/** The value of -o: the ending of the name decides what is written. */
export function parseOutput(path: string): string {
  if (!/[^/\\]\.(elb|wasm)$/.test(path))
    throw new InvalidArgumentError("its name must end in .wasm (deployable) or .elb (model only).");
  return path;
}

/** Ends a command that would overwrite f32 weights with something less precise: they could not be restored. */
export async function requireOtherOutput(command: Command, output: string, model: string): Promise<void> {
  if (await isSameFile(output, model))
    command.error("error: -o would overwrite the model's f32 weights; choose another name");
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
  return withoutState(elb, path);
}
