// The self-test: in a new engine, a model file must have the version of its manifest and give
// the answers that it gave where it was signed, byte for byte. It needs no thread of its own:
// the engine refuses models that could take long over one text.
import { setImmediate as nextTurn } from "node:timers/promises";
import { ABI_VERSION } from "../../assembly/abi.ts";
import type { Classifier } from "../model/classifier.ts";
import { type ModelFile, openModelBytes } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import { checkLevel, levelOf } from "../names.ts";
import { checkDigest, MAX_GOLDEN } from "./manifest.ts";
import type { Manifest } from "./manifest.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface Description {
  /** Default: the one in the model. */
  name?: string | undefined;
  sequence: number;
  expires: Date;
  /** Texts of the self-test. Default: the empty text and the labels. */
  texts?: readonly string[] | undefined;
}

/** Makes the manifest of a model file, with the answers that it gives here. */
export async function describeModel(
  model: Uint8Array,
  source: string,
  { name, sequence, expires, texts }: Description,
): Promise<Manifest> {
  const classifier = await openModelBytes(model, source);
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

/** The tested model, ready to serve, from the same bytes as were compared with the digest. Throws an EdgelabelError that says what is wrong with it. */
export async function testModel(model: Uint8Array, manifest: Manifest, source: string): Promise<ModelFile> {
  checkDigest(model, manifest, source);
  const classifier = await open(model, source);
  if (classifier.version !== manifest.version)
    throw new EdgelabelError(
      `${source}: its model has version ${JSON.stringify(classifier.version)}, the manifest says ${JSON.stringify(manifest.version)}`,
    );
  for (const { text, line } of manifest.golden) {
    // Lets the event loop answer requests between the texts.
    await nextTurn();
    let given: string;
    try {
      given = answer(classifier, text);
    } catch (error) {
      throw new EdgelabelError(`${source}: its model fails the self-test (${(error as Error).message})`);
    }
    if (given !== line)
      throw new EdgelabelError(
        `${source}: its model fails the self-test: it answers ${JSON.stringify(given)} where it answered ${JSON.stringify(line)} when it was signed`,
      );
  }
  return classifier;
}

/** Any failure to open a model is reported as a fault of the update. */
async function open(model: Uint8Array, source: string): Promise<ModelFile> {
  try {
    return await openModelBytes(model, source);
  } catch (error) {
    throw error instanceof EdgelabelError
      ? error
      : new EdgelabelError(`${source}: its model cannot be opened (${(error as Error).message})`);
  }
}

function answer(classifier: Classifier, text: string): string {
  return decoder.decode(classifier.line(encoder.encode(text), { json: false, top: 1 })).trimEnd();
}
