// A model file at work: bytes of the file -> texts in, labels out. The commands and
// the service use this class, never the engine itself.
import { isWasm, unpackModel } from "./container.ts";
import { Engine, type ModelInfo } from "./engine.ts";
import { excerpt, listed, EdgelabelError } from "../errors.ts";
import type { Explanation } from "./explanation.ts";
import { isPackedHere } from "./pack.ts";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";

export type { ModelInfo } from "./engine.ts";

export interface Prediction {
  /** The best label, or a parent of it if the model has levels and is in doubt; null when the model's own rule rejects the text as unknown. */
  label: string | null;
  /** Score of the best label, 0 to 1; of a parent, the sum over its labels. */
  score: number;
  unknown?: true;
  /** Of a model that gives several labels: those that the text has, best first. `label` is the first of them, null if there is none. */
  labels?: { label: string; score: number }[] | undefined;
  /** By label, best first; as many as were asked for. */
  scores: Record<string, number>;
}

const encoder = new TextEncoder();

const NO_SCORES: Prediction["scores"] = Object.freeze({});

export class Classifier {
  readonly name: string;
  readonly version: string;
  readonly labels: readonly string[];
  /** Length of the file; info.file_bytes is that of the model in it. */
  readonly fileBytes: number;
  readonly info: ModelInfo;
  /** Whether a .wasm has this host's own engine in it; undefined for an .elb, which has none. */
  readonly isPackedHere: boolean | undefined;
  readonly #engine: Engine;
  readonly #source: string;

  private constructor(
    engine: Engine,
    bytes: Uint8Array,
    { source, isPackedHere }: { source: string; isPackedHere: boolean | undefined },
  ) {
    this.#engine = engine;
    this.#source = source;
    this.isPackedHere = isPackedHere;
    this.info = engine.info();
    this.name = this.info.name || source.replace(/^.*[/\\]/, "").replace(/\.(elb|wasm)$/, "");
    this.version = this.info.version;
    this.labels = this.info.labels;
    this.fileBytes = bytes.length;
  }

  /** Whether it gives a text several labels, or none, instead of one. */
  get isMultiLabel(): boolean {
    return this.info.multi_label === true;
  }

  /** Of a .wasm only the model is used, in this host's own engine: code of a model file is never run. */
  static async fromBytes(bytes: Uint8Array, source: string): Promise<Classifier> {
    const model = isWasm(bytes) ? unpackModel(bytes, source) : bytes;
    const engine = await Engine.withModel(model, source);
    return new Classifier(engine, bytes, {
      source,
      isPackedHere: isWasm(bytes) ? await isPackedHere(bytes, model) : undefined,
    });
  }

  /** A warning if the deployable has another engine in it than this host's; undefined otherwise. */
  get warning(): string | undefined {
    if (this.isPackedHere !== false) return undefined;
    return `${this.#source}: it was packed with another engine than this edgelabel's, while this one answers here, so "wasmtime run" may differ in the last digits; pack it again: edgelabel pack MODEL.wasm -o NEW.wasm`;
  }

  /** Throws EdgelabelError with code "text_too_long" above 1 MiB. top: how many scores; 0 = all; absent = none, or that of the best label if the model has several labels or levels. */
  classify(text: string | Uint8Array, top?: number): Prediction {
    this.#engine.classify(text);
    // Most often asked for, and by far the shorter way; an object with the label's name as a key would take a fifth of its time.
    if (top !== undefined || this.isMultiLabel || this.info.levels !== undefined)
      return JSON.parse(this.#engine.json(top ?? 1)) as Prediction;
    const { label, score, isRejected } = this.#engine.best();
    return isRejected
      ? { label: null, score, unknown: true, scores: NO_SCORES }
      : { label: this.labels[label]!, score, scores: NO_SCORES };
  }

  /** One output line with its "\n": the bytes that `wasmtime run` prints for the same line. */
  line(text: Uint8Array, format: { json: boolean; top: number }): Uint8Array {
    // As in assembly/wasi.ts, only the beginning of a longer line is classified.
    this.#engine.classify(text.length > TEXT_CAPACITY ? text.subarray(0, TEXT_CAPACITY) : text);
    return this.#engine.line(format.json, format.top);
  }

  /** The output lines of whole lines, end to end, each with its "\n" and of at most TEXT_CAPACITY bytes before it. */
  lines(lines: Uint8Array, format: { json: boolean; top: number }): Uint8Array[] {
    return this.#engine.answerLines(lines, format.json, format.top);
  }

  /** Which tokens made the score of `label`, by default of the best one. Takes 2 forward passes a token. */
  explain(text: string | Uint8Array, label?: string): Explanation {
    const steps = this.explaining(text, label);
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  }

  /** The same in steps of one forward pass each; between them other texts may be classified, but not explained. */
  explaining(text: string | Uint8Array, label?: string): Generator<undefined, Explanation> {
    return this.#engine.explain(
      typeof text === "string" ? encoder.encode(text) : text,
      this.labels,
      label === undefined ? this.labels.length : this.indexOf(label),
    );
  }

  /** The number of a label; throws an EdgelabelError when the model lacks it. */
  indexOf(label: string): number {
    const index = this.labels.indexOf(label);
    if (index < 0)
      throw new EdgelabelError(`${this.name} has no label ${excerpt(label)}; its labels are ${listed(this.labels)}`);
    return index;
  }

  /** Bytes of linear memory; constant once a model is loaded. */
  memoryBytes(): number {
    return this.#engine.memoryBytes();
  }
}
