// The inference engine in this process: the only file that touches engine.wasm and its
// memory. It copies bytes in, calls, and reads bytes out. Memory that grows while a model is
// loaded detaches older views; afterwards it does not grow.
import { EdgelabelError } from "../errors.ts";
import { instantiate } from "@assemblyscript/loader";
import { ABI_VERSION, TEXT_CAPACITY } from "../../assembly/abi.ts";
import type { __AdaptedExports as EngineExports } from "#build/engine.js";
import { readArtefact } from "../artefact.ts";
import { type Explanation, readExplanation } from "./explanation.ts";
import { check, withNamedTraps } from "./status.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const ERRNO_NOSYS = 52;

/** The module imports WASI for its command line; in a host none of these functions is called. Nothing else resolves, not even through Object.prototype. */
function imports(): Record<string, Record<string, unknown>> {
  const refuse = (): number => ERRNO_NOSYS;
  const wasi = { fd_read: refuse, fd_write: refuse, args_get: refuse, args_sizes_get: refuse, proc_exit: refuse };
  return Object.assign(Object.create(null), { wasi_snapshot_preview1: wasi, env: Object.create(null) }) as Record<
    string,
    Record<string, unknown>
  >;
}

let compiled: ReturnType<typeof compile> | undefined;

/** engine.wasm, compiled once for all models of this process, and where pack.ts must put a model in it. */
async function compile() {
  const { module, exports } = await instantiate<typeof EngineExports>(await readArtefact("engine.wasm"), imports());
  const version = exports.abiVersion();
  if (version !== ABI_VERSION)
    throw new EdgelabelError(
      `engine.wasm speaks ABI ${version}, this edgelabel ${ABI_VERSION}; build again`,
      "bad_abi",
    );
  return { module, modelAddress: exports.modelAddress() };
}

function engineModule(): ReturnType<typeof compile> {
  return (compiled ??= compile());
}

/** The description of a loaded model that renderCard in assembly/render.ts writes. */
export interface ModelInfo {
  name: string;
  version: string;
  format: number;
  form: "f32" | "int8" | "int8-weights";
  resumable: boolean;
  file_bytes: number;
  weight_bytes: number;
  labels: string[];
  /** It gives each label whose score is reject.score or more; absent = the best one. */
  multi_label?: true;
  tokenizer: {
    lower: boolean;
    char_level: boolean;
    split_scripts: boolean;
    padding: "pre" | "post";
    truncating: "pre" | "post";
    sequence_length: number;
    words: number;
    ngram_buckets: number;
    cleaning: string[];
  };
  layers: {
    kind: string;
    input: number;
    output: number;
    activation?: string;
    rate?: number;
    [flag: string]: unknown;
  }[];
  /** Beside the layers; absent = none. */
  linear?: { words: number; ngram_buckets: number; pairs: number; bytes: number; network_share: number };
  temperature: number;
  /** Answers are unknown below this score or margin, or above this share of unknown words; 0, 0, 1 = never. */
  reject: { score: number; margin: number; unknown_share: number };
  /** If the best label's score is below this, its nearest parent that reaches it is answered: of `a/b/c`, `a/b` or `a`; absent = never. */
  levels?: number;
  input_table: boolean;
  memory_bytes: number;
}

/** How answerLines parts the memory of texts: a line, whole lines, and their answers. */
const BLOCK = TEXT_CAPACITY / 4;
const ANSWERS = TEXT_CAPACITY - 2 * BLOCK;
const NEWLINE = 0x0a;

export class Engine {
  readonly #exports: typeof EngineExports;
  /** Where the engine reads texts. */
  readonly #text: Uint8Array;

  /** `exports` have a model. */
  private constructor(exports: typeof EngineExports) {
    this.#exports = exports;
    this.#text = new Uint8Array(exports.memory.buffer, exports.textPtr(), TEXT_CAPACITY);
  }

  /** An engine with the model file `bytes` (.elb) in it. `source` names it in errors. */
  static async withModel(bytes: Uint8Array, source: string): Promise<Engine> {
    const { module } = await engineModule();
    const { exports } = await instantiate<typeof EngineExports>(module, imports());
    const named = withNamedTraps(exports as unknown as typeof EngineExports, source);
    const address = named.reserveModel(bytes.length);
    if (address === 0)
      throw new EdgelabelError(`${source}: ${bytes.length} bytes do not fit in WebAssembly memory`, "out_of_memory");
    new Uint8Array(named.memory.buffer, address, bytes.length).set(bytes);
    check(named.loadModel(bytes.length), source);
    return new Engine(named);
  }

  /** The address at which pack.ts must put a model for loadEmbedded. */
  static async modelAddress(): Promise<number> {
    return (await engineModule()).modelAddress;
  }

  /** Classifies a text; line() and json() then render the result. */
  classify(text: string | Uint8Array): void {
    check(this.#exports.classify(this.#put(text)), "text");
  }

  /** Writes a text where the engine reads it; returns its length in bytes. */
  #put(text: string | Uint8Array): number {
    // A UTF-16 unit becomes at most 3 bytes of UTF-8, so texts of this length fit without measuring.
    if (typeof text === "string" && text.length * 3 <= TEXT_CAPACITY)
      return encoder.encodeInto(text, this.#text).written;
    const bytes = typeof text === "string" ? encoder.encode(text) : text;
    if (bytes.length > TEXT_CAPACITY)
      throw new EdgelabelError(
        `text: ${bytes.length} bytes, but at most ${TEXT_CAPACITY} are classified`,
        "text_too_long",
      );
    this.#text.set(bytes);
    return bytes.length;
  }

  /**
   * Shares of the text's tokens in the score of label number `label`, or of the best label when there is no such
   * number, by occlusion. Yields before each forward pass; meanwhile other texts may be classified, but not explained.
   */
  *explain(text: Uint8Array, labels: readonly string[], label: number): Generator<undefined, Explanation> {
    const { explainLast, passesLeft, explainNext } = this.#exports;
    this.classify(text);
    check(explainLast(label), "explanation");
    while (passesLeft() > 0) {
      yield;
      check(explainNext(), "explanation");
    }
    return readExplanation(this.#exports, text, labels, "occlusion");
  }

  /** The best label of the last result, by its number; its score as lines show it; whether the model's own rule rejects it. */
  best(): { label: number; score: number; isRejected: boolean } {
    const { bestLabel, bestScore, isRejected } = this.#exports;
    return { label: bestLabel(), score: bestScore(), isRejected: isRejected() };
  }

  /** The last result as an output line, "\n" included: a copy. */
  line(json: boolean, top: number): Uint8Array {
    const length = this.#exports.renderLine(json, top);
    return new Uint8Array(this.#exports.memory.buffer, this.#exports.linePtr(), length).slice();
  }

  /**
   * The output lines of whole lines, which lie end to end, each with its "\n". All copies are made within the
   * engine's memory, since a view of every line would take longer than a small model.
   */
  answerLines(lines: Uint8Array, json: boolean, top: number): Uint8Array[] {
    const answers: Uint8Array[] = [];
    for (let start = 0; start < lines.length;) {
      let end = lines.lastIndexOf(NEWLINE, start + BLOCK - 1) + 1;
      if (end > start) this.#answerBlock(lines.subarray(start, end), json, top, answers);
      else {
        end = lines.indexOf(NEWLINE, start) + 1;
        this.classify(lines.subarray(start, end - 1));
        answers.push(this.line(json, top));
      }
      start = end;
    }
    return answers;
  }

  /** At most BLOCK bytes. */
  #answerBlock(lines: Uint8Array, json: boolean, top: number, answers: Uint8Array[]): void {
    const { memory, classify, renderLine, linePtr } = this.#exports;
    const all = new Uint8Array(memory.buffer);
    const text = this.#text.byteOffset;
    const line = linePtr();
    const from = text + 2 * BLOCK;
    let at = from;
    const flush = (): void => {
      if (at > from) answers.push(all.slice(from, at));
      at = from;
    };
    all.set(lines, text + BLOCK);
    for (let start = text + BLOCK; start < text + BLOCK + lines.length;) {
      const end = all.indexOf(NEWLINE, start);
      all.copyWithin(text, start, end);
      check(classify(end - start), "text");
      const length = renderLine(json, top);
      if (at + length > from + ANSWERS) flush();
      if (length > ANSWERS) answers.push(all.slice(line, line + length));
      else {
        all.copyWithin(at, line, line + length);
        at += length;
      }
      start = end + 1;
    }
    flush();
  }

  /** The last result as JSON text. */
  json(top: number): string {
    const length = this.#exports.renderLine(true, top);
    return decoder.decode(new Uint8Array(this.#exports.memory.buffer, this.#exports.linePtr(), length));
  }

  info(): ModelInfo {
    const length = this.#exports.renderCard();
    return JSON.parse(
      decoder.decode(new Uint8Array(this.#exports.memory.buffer, this.#exports.linePtr(), length)),
    ) as ModelInfo;
  }

  /** Bytes of linear memory; constant once a model is loaded. */
  memoryBytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }
}
