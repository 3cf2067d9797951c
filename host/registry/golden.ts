// Opens a model in a new engine of this thread and compares its version and answers with its
// manifest. Imports little, since selftest.ts runs it in a thread that must start fast.
import { setImmediate as nextTurn } from "node:timers/promises";
import { Classifier } from "../classifier.ts";
import { UserError } from "../errors.ts";
import type { Manifest } from "./manifest.ts";

export interface Candidate {
  model: Uint8Array;
  manifest: Manifest;
  source: string;
}

/** A model that takes longer for one text is refused. */
const LONGEST_ANSWER_MS = 2_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export async function tryHere({ model, manifest, source }: Candidate): Promise<Classifier> {
  const classifier = await open(model, source);
  if (classifier.version !== manifest.version) throw new UserError(`${source}: its model has version ${JSON.stringify(classifier.version)}, the manifest says ${JSON.stringify(manifest.version)}`);
  for (const { text, line } of manifest.golden) {
    // Lets the event loop answer requests between the texts.
    await nextTurn();
    const start = performance.now();
    let given: string;
    try {
      given = answer(classifier, text);
    } catch (error) {
      throw new UserError(`${source}: its model fails the self-test (${(error as Error).message})`);
    }
    if (given !== line) throw new UserError(`${source}: its model fails the self-test: it answers ${JSON.stringify(given)} where it answered ${JSON.stringify(line)} when it was signed`);
    if (performance.now() - start > LONGEST_ANSWER_MS) throw new UserError(`${source}: its model needs more than ${LONGEST_ANSWER_MS / 1000} s for a text`);
  }
  return classifier;
}

/** Any failure to open a model is told as a fault of the update. */
async function open(model: Uint8Array, source: string): Promise<Classifier> {
  try {
    return await Classifier.fromBytes(model, source);
  } catch (error) {
    throw error instanceof UserError ? error : new UserError(`${source}: its model cannot be opened (${(error as Error).message})`);
  }
}

export function answer(classifier: Classifier, text: string): string {
  return decoder.decode(classifier.line(encoder.encode(text), { json: false, top: 1 })).trimEnd();
}
