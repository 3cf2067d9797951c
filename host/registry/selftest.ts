// A model file proves in a fresh engine that it is what its manifest says: its own
// version, and the answers that it gave where it was signed, byte for byte. A thread of
// its own goes first, since it can be ended when the model never comes to an end: the
// same bytes do the same again in the thread that will serve them.
import { Worker } from "node:worker_threads";
import { ABI_VERSION } from "../../assembly/abi.ts";
import { artefactPath } from "../artefact.ts";
import { Classifier } from "../classifier.ts";
import { UserError } from "../errors.ts";
import { checkLevel, levelOf } from "../service/topics.ts";
import { answer, tryHere } from "./golden.ts";
import type { Candidate } from "./golden.ts";
import { checkDigest, MAX_GOLDEN } from "./manifest.ts";
import type { Manifest } from "./manifest.ts";

/** On a small machine that has just been switched on a thread starts slowly. */
const LONGEST_TEST_MS = 30_000;

export interface Description {
  /** Default: the one in the model. */
  name?: string | undefined;
  sequence: number;
  expires: Date;
  /** For the self-test. Default: the labels. */
  texts?: readonly string[] | undefined;
}

/** The manifest of a model file as it is here and now; opens it to see that it works. */
export async function describeModel(model: Uint8Array, source: string, { name, sequence, expires, texts }: Description): Promise<Manifest> {
  const classifier = await Classifier.fromBytes(model, source);
  const { version, digest, labels } = classifier;
  return {
    update: 1,
    name: name === undefined ? levelOf(classifier.name) : checkLevel("model name", name),
    version,
    digest,
    bytes: model.length,
    abi: ABI_VERSION,
    sequence,
    signed: new Date().toISOString(),
    expires: expires.toISOString(),
    golden: (texts ?? ["", ...labels].slice(0, MAX_GOLDEN)).map((text) => ({ text, line: answer(classifier, text) })),
  };
}

/**
 * The model of a manifest, ready to serve: from the very bytes that were hashed. Throws a UserError
 * that says what is wrong with it. With an infinite `testMs` no thread goes first.
 */
export async function testModel(model: Uint8Array, manifest: Manifest, source: string, testMs = LONGEST_TEST_MS): Promise<Classifier> {
  checkDigest(model, manifest, source);
  const candidate: Candidate = { model, manifest, source };
  if (testMs < Infinity) await tryInThread(candidate, testMs);
  return tryHere(candidate);
}

function tryInThread(candidate: Candidate, testMs: number): Promise<void> {
  const { source } = candidate;
  return new Promise((resolve, reject) => {
    const thread = new Worker(artefactPath("host/registry/selftest-worker.js"), { workerData: candidate });
    const end = (error?: Error): void => {
      clearTimeout(timer);
      void thread.terminate();
      if (error) reject(error);
      else resolve();
    };
    const timer = setTimeout(() => end(new UserError(`${source}: its model does not get through the self-test within ${testMs / 1000} s`)), testMs);
    thread.once("message", (fault: string | undefined) => end(fault === undefined ? undefined : new UserError(fault)));
    // Not the model's fault: a machine that has no room for a thread must not make a version fail.
    thread.once("error", (error) => end(new Error(`the self-test cannot be run here: ${error.message}`)));
  });
}
