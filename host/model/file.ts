// Model files on disk, and what identifies them.
import { createHash } from "node:crypto";
import { basename } from "node:path";
import { readWhole } from "../files/read.ts";
import { Classifier } from "./classifier.ts";

/** A classifier with the digest of its file, by which services and registries tell models apart. */
export type ModelFile = Classifier & { readonly digest: string };

/** SHA-256 in hex, which identifies a model file. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Opens an .elb or .wasm file. Throws an EdgelabelError that names the file and its defect. */
export async function openModel(path: string): Promise<ModelFile> {
  return openModelBytes(await readModelFile(path), path);
}

/** The same for the bytes of a file; `source` names it in errors. */
export async function openModelBytes(bytes: Uint8Array, source: string): Promise<ModelFile> {
  return Object.assign(await Classifier.fromBytes(bytes, source), { digest: digestOf(bytes) });
}

/** Reads a model file. Throws an EdgelabelError that says what to do. */
export function readModelFile(path: string): Promise<Uint8Array> {
  return readWhole(path, {
    ifMissing: `make a model with: edgelabel train DATA -o ${basename(path)}`,
    most: { bytes: 0x7fffffff, otherwise: "is larger than 2 GiB, which no model is" },
  });
}
