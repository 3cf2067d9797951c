// Last stage of an import: model file, tokenizer.json and labels.json in, the bytes
// of an f32 .elb file out. Joins the parts and checks whether they fit one another;
// the arithmetic stays in the trainer module.
import { ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX, MAX_LAYERS, MAX_SEQUENCE } from "../../assembly/abi.ts";
import { EdgelabelError } from "../errors.ts";
import { Trainer } from "../training/trainer.ts";
import { type KerasModel, readKerasModel } from "./archive.ts";
import { readLabels, readTokenizerJson } from "./tokenizer-json.ts";

/** A file's content and the name that messages call it by. */
interface Source<Content> {
  path: string;
  content: Content;
}

export interface ImportInput {
  model: Source<Uint8Array>;
  tokenizer: Source<string>;
  labels: Source<string>;
  name: string;
  version: string;
  /** Needed when the model does not fix the length of its input. */
  sequenceLength?: number | undefined;
  padding: "pre" | "post";
  truncating: "pre" | "post";
}

export interface Imported {
  elb: Uint8Array;
  kerasVersion: string;
  notes: string[];
}

export async function importKeras(input: ImportInput): Promise<Imported> {
  const { path } = input.model;
  const model = readKerasModel(input.model.content, path);
  const sequenceLength = agreeOnLength(model, input.sequenceLength, path);
  requireClassifier(model, path);
  const { words, unknownId, ...tokens } = readTokenizerJson(input.tokenizer.content, input.tokenizer.path, model.rows);
  const labels = readLabels(input.labels.content, input.labels.path, model.outputs);

  const trainer = await Trainer.create(path);
  trainer.setTokenizer({
    ...tokens,
    sequenceLength,
    splitScripts: false,
    letterPairs: false,
    padPost: input.padding === "post",
    truncatePost: input.truncating === "post",
    ngramBuckets: 0,
    ngramMin: 0,
    ngramMax: 0,
  });
  trainer.setIdentity(input.name, input.version);
  for (const word of words) trainer.addWord(word);
  trainer.setUnknownId(unknownId);
  for (const label of labels) trainer.addLabel(label);
  for (const layer of model.layers) trainer.addLayer(layer);
  trainer.build();
  if (trainer.tensorCount() !== model.tensors.length) {
    throw new EdgelabelError(
      `${path}: its layers have ${model.tensors.length} weight tensors where ${trainer.tensorCount()} are expected`,
    );
  }
  model.tensors.forEach(({ path: tensorPath, values }, i) => {
    try {
      trainer.setTensor(i, values);
    } catch (error) {
      throw error instanceof EdgelabelError ? new EdgelabelError(`${error.message} (${tensorPath})`) : error;
    }
  });
  return { elb: trainer.write("f32"), kerasVersion: model.kerasVersion, notes: model.notes };
}

function agreeOnLength(model: KerasModel, asked: number | undefined, path: string): number {
  const length = model.sequenceLength ?? asked;
  if (length === undefined)
    throw new EdgelabelError(
      `${path}: the model leaves the length of its input open; give the maxlen of pad_sequences with --maxlen N`,
    );
  if (asked !== undefined && asked !== length)
    throw new EdgelabelError(`${path}: the model takes ${length} tokens, but --maxlen says ${asked}`);
  if (length > MAX_SEQUENCE)
    throw new EdgelabelError(`${path}: the model takes ${length} tokens; at most ${MAX_SEQUENCE} are possible`);
  return length;
}

/** A classifier has one sigmoid output, or several with softmax or sigmoid. */
function requireClassifier(model: KerasModel, path: string): void {
  const { outputs, outputActivation: activation } = model;
  if (outputs === 1 && activation !== ACTIVATION_SIGMOID) {
    throw new EdgelabelError(`${path}: the last layer has one output without sigmoid, which is not a classifier`);
  }
  if (outputs > 1 && activation !== ACTIVATION_SOFTMAX && activation !== ACTIVATION_SIGMOID) {
    throw new EdgelabelError(
      `${path}: the last layer gives logits, not scores; add keras.layers.Activation("softmax") after it and save again`,
    );
  }
  if (model.layers.length > MAX_LAYERS)
    throw new EdgelabelError(
      `${path}: the model has ${model.layers.length} layers; at most ${MAX_LAYERS} are possible`,
    );
}
