// Status codes of the engine -> errors that a person can read.
import * as abi from "../../assembly/abi.ts";
import { EdgelabelError } from "../errors.ts";

const REASONS: Record<number, readonly [code: string, reason: string]> = {
  [abi.ERR_OUT_OF_MEMORY]: ["out_of_memory", "it does not fit in WebAssembly memory"],
  [abi.ERR_NO_MODEL]: ["no_model", "no model is loaded"],
  [abi.ERR_BAD_STATE]: [
    "bad_state",
    "this model's form does not allow that step; training, quantizing and packing start from an f32 .elb file",
  ],
  [abi.ERR_TEXT_TOO_LONG]: ["text_too_long", `a text is longer than ${abi.TEXT_CAPACITY} bytes; shorten it`],
  [abi.ERR_BAD_MAGIC]: ["bad_magic", "it is not an edgelabel model"],
  [abi.ERR_BAD_VERSION]: [
    "bad_version",
    `its format version is not ${abi.FORMAT_VERSION}; make it again with this edgelabel`,
  ],
  [abi.ERR_BAD_LENGTH]: ["bad_length", "its length is not what its header says; it is cut off or has extra bytes"],
  [abi.ERR_BAD_CHECKSUM]: ["bad_checksum", "its checksum is wrong; the file is damaged, copy it again"],
  [abi.ERR_BAD_HEADER]: ["bad_header", "a header field is outside its range"],
  [abi.ERR_BAD_TOKENIZER]: ["bad_tokenizer", "its tokenizer settings are invalid"],
  [abi.ERR_BAD_VOCABULARY]: [
    "bad_vocabulary",
    "its vocabulary is invalid (empty or duplicate words, or words that are too long or too many)",
  ],
  [abi.ERR_BAD_LABELS]: [
    "bad_labels",
    `its labels are invalid (fewer than 2, more than ${abi.MAX_LABELS}, empty, duplicate, longer than ${abi.MAX_LABEL_BYTES} bytes, or with control characters)`,
  ],
  [abi.ERR_BAD_LAYERS]: [
    "bad_layers",
    "its layers do not form a chain from Embedding over LSTM or minGRU to Dense, or do not fit the labels or vocabulary",
  ],
  [abi.ERR_BAD_LINEAR]: [
    "bad_linear",
    "its linear part names words that it does not have, has a number out of range, or stands beside a last layer without a softmax over the labels",
  ],
  [abi.ERR_BAD_SCALE]: ["bad_scale", "a quantization scale is not a positive number"],
  [abi.ERR_BAD_WEIGHT]: ["bad_weight", "a weight is not a finite number in its range"],
  [abi.ERR_BAD_TRAINING]: ["bad_training", "its training state is invalid"],
  [abi.ERR_BAD_UTF8]: ["bad_utf8", "a name in it is not valid UTF-8 text, or has control characters"],
  [abi.ERR_BAD_PADDING]: ["bad_padding", "bytes between its parts are not 0; another program wrote it, or changed it"],
  [abi.ERR_TOO_SLOW]: [
    "too_slow",
    `a text could take more than ${abi.MAX_TEXT_WORK} million multiplications, which would block a service; choose fewer units, a smaller embedding-dim or a shorter maxlen`,
  ],
  [abi.ERR_BAD_ARGUMENT]: ["bad_argument", "a setting is outside its range"],
  [abi.ERR_LABEL_OUT_OF_RANGE]: ["label_out_of_range", "a sample has a label that the model lacks"],
  [abi.ERR_NO_SAMPLES]: ["no_samples", "there are no samples to train on"],
  [abi.ERR_BAD_VECTORS]: ["bad_vectors", "a line of a file of word vectors is not a word and its numbers"],
  [abi.ERR_NOT_FINITE]: ["not_finite", "the numbers overflowed; lower the learning rate or clip the gradient"],
};

type Call = (...args: unknown[]) => unknown;

/** The module's own function: the loader's counts arguments, which takes time and only functions with optional ones need. */
function withoutLoader(call: Call & { original?: Call }): Call {
  return call.original ?? call;
}

/** The exports of a module at work on `source`; a trap in one of its functions becomes an EdgelabelError that names it. */
export function withNamedTraps<T extends object>(exports: T, source: string): T {
  const named =
    (call: Call) =>
    (...args: unknown[]): unknown => {
      try {
        return call(...args);
      } catch (error) {
        if ((error as Error).name !== "RuntimeError") throw error;
        throw new EdgelabelError(
          `${source}: the engine crashed (${(error as Error).message}); no model should cause that: make this one again, and report the crash with this file`,
          "trap",
        );
      }
    };
  return Object.fromEntries(
    Object.entries(exports).map(([name, value]) => [
      name,
      typeof value === "function" ? named(withoutLoader(value as Call)) : value,
    ]),
  ) as T;
}

/** Throws when `status` is not OK; `subject` says what was at work ("model.elb", "text"). */
export function check(status: number, subject: string): void {
  if (status === abi.OK) return;
  const [code, reason] = REASONS[status] ?? ["unknown", `the engine reports the unknown status ${status}`];
  throw new EdgelabelError(`${subject}: ${reason}`, code);
}
