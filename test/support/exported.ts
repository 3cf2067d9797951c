// Models of all shapes that an export has to write, and the way back from an export.
import * as abi from "../../assembly/abi.ts";
import type { exportModel } from "../../host/commands/export.ts";
import { importKeras } from "../../host/keras/import.ts";
import { dense, dropout, embedding, lstm, makeModel, type ModelSpec, pool, Seeded } from "./models.ts";

const {
  LAYER_BIDIRECTIONAL: BOTH,
  LAYER_MASK_ZERO: MASK,
  LAYER_POOL_MAX: MAX,
  LAYER_POOL_MEAN: MEAN,
  LAYER_SEQUENCES: ALL,
  LAYER_SPATIAL: SPATIAL,
} = abi;

const chain = (...layers: ModelSpec["layers"]): ModelSpec => ({
  words: ["light", "lamp", "7", "rain", "__proto__", 'a"b', "ü"],
  labels: ["a", "b", "c"],
  version: "1",
  layers,
});
const softmax = dense(3, abi.ACTIVATION_SOFTMAX);

export const SPECS = {
  "one sigmoid": { ...chain(embedding(3), lstm(2), dense(1, abi.ACTIVATION_SIGMOID)), labels: ["no", "yes"] },
  "masked, post": {
    ...chain(embedding(3, MASK), lstm(5), softmax),
    tokenizer: { padPost: true, truncatePost: true, sequenceLength: 4 },
  },
  stack: chain(
    embedding(4, MASK),
    dropout(0.3, SPATIAL),
    lstm(3, ALL),
    dropout(1 / 3),
    lstm(2, BOTH),
    dense(5, abi.ACTIVATION_RELU),
    dropout(0.5),
    dense(4, abi.ACTIVATION_TANH),
    softmax,
  ),
  "unknown word": { ...chain(embedding(3), lstm(2), softmax), unknownId: 2 },
  max: chain(embedding(3), lstm(3, ALL | BOTH), pool(MAX), softmax),
  mean: chain(embedding(3), lstm(3, ALL), pool(MEAN), softmax),
  "max and mean": chain(embedding(3), lstm(3, ALL | BOTH), pool(MAX | MEAN), dropout(0.5), softmax),
  "masked max": chain(embedding(3, MASK), lstm(3, ALL), pool(MAX), softmax),
  "masked mean": chain(embedding(3, MASK), lstm(3, ALL | BOTH), pool(MEAN), softmax),
  "masked max and mean": chain(
    embedding(3, MASK),
    lstm(4, ALL | BOTH),
    lstm(3, ALL | BOTH),
    pool(MAX | MEAN),
    dense(3, abi.ACTIVATION_SIGMOID),
  ),
} satisfies Record<string, ModelSpec>;

/** The model with random weights, as an f32 .elb. */
export async function buildSpec(name: keyof typeof SPECS): Promise<Uint8Array> {
  const random = new Seeded(5);
  return (await makeModel(SPECS[name], (_, length) => random.floats(length, 1))).write("f32");
}

export async function importBack(
  { network, tokenizer, labels, info }: Awaited<ReturnType<typeof exportModel>>,
  name = "",
): Promise<Uint8Array> {
  const { elb } = await importKeras({
    model: { path: "model.keras", content: network },
    tokenizer: { path: "tokenizer.json", content: tokenizer },
    labels: { path: "labels.json", content: labels },
    name,
    version: "1",
    padding: info.tokenizer.padding,
    truncating: info.tokenizer.truncating,
  });
  return elb;
}
