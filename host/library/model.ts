// A model as the library has it: a file's bytes in, answers out.
import { EdgelabelError } from "../errors.ts";
import { type Answer, type AnswerOptions, answerOf } from "../model/answer.ts";
import { Classifier, type ModelInfo } from "../model/classifier.ts";

export interface ClassifyOptions extends AnswerOptions {
  /** Also say which tokens made the score of the best label, or of the label named here. Takes 2 forward passes a token. */
  explain?: boolean | string | undefined;
}

/** What open() takes. */
export type ModelSource = string | URL | Response | Blob | ArrayBuffer | Uint8Array;

export class Model {
  readonly #classifier: Classifier;

  constructor(classifier: Classifier) {
    this.#classifier = classifier;
  }

  get name(): string {
    return this.#classifier.name;
  }

  get version(): string {
    return this.#classifier.version;
  }

  /** In the order of their numbers. */
  get labels(): readonly string[] {
    return this.#classifier.labels;
  }

  /** What `edgelabel info --json` shows of the model: form, tokenizer, layers, calibration, sizes in bytes. */
  get info(): ModelInfo {
    return this.#classifier.info;
  }

  /** Set if a deployable was packed with another engine than this library's, which answers here. */
  get warning(): string | undefined {
    return this.#classifier.warning;
  }

  /**
   * The answer to a text (a string, or UTF-8), at once. Never throws for what is in a text, only for one above
   * 1 MiB (code "text_too_long"), a label to explain that the model lacks, or options outside their range.
   */
  classify(text: string | Uint8Array, options: ClassifyOptions = {}): Answer {
    const { explain, topK, threshold } = options;
    if (topK !== undefined && !(Number.isInteger(topK) && topK >= 1))
      throw new EdgelabelError("topK takes a whole number from 1");
    if (threshold !== undefined && !(threshold >= 0 && threshold <= 1))
      throw new EdgelabelError("threshold takes a number from 0 to 1");
    const explanation =
      explain === undefined || explain === false
        ? undefined
        : this.#classifier.explain(text, explain === true ? undefined : explain);
    return answerOf(this.#classifier.classify(text, topK), options, explanation);
  }

  /** The answers to many texts, in their order, each when it is asked for. */
  *classifyAll(texts: Iterable<string | Uint8Array>, options: ClassifyOptions = {}): Generator<Answer, void> {
    for (const text of texts) yield this.classify(text, options);
  }
}

/** Opens what `source` is; `read` gets the bytes of a path or URL. */
export async function openModel(
  source: ModelSource,
  read: (place: string | URL) => Promise<Uint8Array>,
): Promise<Model> {
  return new Model(await Classifier.fromBytes(await bytesOf(source, read), nameOf(source)));
}

async function bytesOf(source: ModelSource, read: (place: string | URL) => Promise<Uint8Array>): Promise<Uint8Array> {
  if (typeof source === "string" || source instanceof URL) return read(source);
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Response) return readResponse(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  throw new EdgelabelError("open() takes a path, a URL, a Response, a Blob or bytes");
}

/** Names the model in errors, and when it has no name of its own. */
function nameOf(source: ModelSource): string {
  if (typeof source === "string") return source;
  if (source instanceof URL) return source.href;
  if (source instanceof Response && source.url !== "") return source.url;
  // A File of a page has a name, other Blobs have none.
  if (source instanceof Blob && "name" in source && typeof source.name === "string") return source.name;
  return "model";
}

/** Downloads a model. */
export async function fetchModel(url: string | URL): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    const { cause, message } = error as Error & { cause?: Error };
    throw new EdgelabelError(`${String(url)}: cannot be fetched (${cause?.message ?? message})`, "unreadable");
  }
  return readResponse(response);
}

async function readResponse(response: Response): Promise<Uint8Array> {
  if (!response.ok)
    throw new EdgelabelError(
      `${response.url || "model"}: the server answers ${response.status} instead of a model`,
      "unreadable",
    );
  return new Uint8Array(await response.arrayBuffer());
}
