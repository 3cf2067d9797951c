// The self-test: in a new engine, a model file must have the version of its manifest and give
// the answers that it gave where it was signed, byte for byte. It runs first in a thread of
// its own, which can be ended if the model never finishes, and then in the thread that will
// serve it, where the same bytes do the same again.
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

/** Long, since threads start slowly on a small machine that is booting. */
const LONGEST_TEST_MS = 30_000;

export interface Description {
  /** Default: the one in the model. */
  name?: string | undefined;
  sequence: number;
  expires: Date;
  /** Texts of the self-test. Default: the empty text and the labels. */
  texts?: readonly string[] | undefined;
}

/** Makes the manifest of a model file, with the answers that it gives here. */
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
 * The tested model, ready to serve, from the same bytes as were compared with the digest. Throws a UserError
 * that says what is wrong with it. With an infinite `testMs` it is not run in a thread first.
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
    // Not a UserError: that a machine has no room for a thread is no fault of the model.
    thread.once("error", (error) => end(new Error(`the self-test cannot be run here: ${error.message}`)));
  });
}
