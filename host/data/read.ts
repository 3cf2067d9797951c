// Labelled texts from files and from standard input: all of them in memory, or file after file in blocks of lines, from the
// beginning each time, so that files may be larger than memory, and than V8's longest string.
import { EdgelabelError } from "../errors.ts";
import { fileSize, readParts, readWhole } from "../files/read.ts";
import { blocksOf } from "./blocks.ts";
import {
  type DatasetOptions,
  DatasetParser,
  isArray,
  MOST,
  parseDataset,
  requireTexts,
  type Sample,
} from "./dataset.ts";
import type { SampleParts } from "./survey.ts";

/** Reads the files in order, as one data set; "-" is standard input. */
export async function readDataset(paths: readonly string[], options: DatasetOptions = {}): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const path of paths) {
    const bytes = path === "-" ? await readStdin() : await readWhole(path, { most: MOST });
    for (const sample of parseDataset(bytes, path === "-" ? "standard input" : path, options)) samples.push(sample);
  }
  return samples;
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > MOST.bytes) break;
  }
  return Buffer.concat(chunks);
}

/** Smaller blocks take longer; of larger ones, strings and samples take memory. */
const BLOCK_BYTES = 2 ** 22;

export interface FileListener {
  /** Told after each block how many bytes of all files have been read this time. */
  onRead?: ((done: number, total: number) => void) | undefined;
  /** See DatasetOptions; told the first time only. */
  onSkipped?: DatasetOptions["onSkipped"];
}

/** Files that are read in order, as one data set. A copy without methods, as threads get it, is made whole by new SampleFiles(paths, options). */
export class SampleFiles implements SampleParts {
  readonly paths: readonly string[];
  readonly options: Omit<DatasetOptions, "onSkipped">;
  readonly #listener: FileListener;
  #isRead = false;

  constructor(paths: readonly string[], options: Omit<DatasetOptions, "onSkipped"> = {}, listener: FileListener = {}) {
    this.paths = paths;
    this.options = options;
    this.#listener = listener;
  }

  async *read(): AsyncGenerator<Sample[]> {
    const { onRead, onSkipped } = this.#listener;
    const options = this.#isRead ? this.options : { ...this.options, onSkipped };
    let total = 0;
    for (const path of this.paths) total += (await fileSize(path)) ?? 0;
    let done = 0;
    for (const path of this.paths) {
      const parts = async function* (): AsyncGenerator<Uint8Array> {
        for await (const part of readParts(path)) {
          done += part.length;
          yield part;
        }
      };
      for await (const samples of samplesIn(parts(), path, options)) {
        onRead?.(done, total);
        yield samples;
      }
    }
    this.#isRead = true;
    onRead?.(total, total);
  }
}

/** The samples of a file, in blocks of `least` bytes or more. */
export async function* samplesIn(
  input: AsyncIterable<Uint8Array>,
  source: string,
  options: DatasetOptions,
  least = BLOCK_BYTES,
): AsyncGenerator<Sample[]> {
  const parser = new DatasetParser(source, options);
  let held: string | undefined;
  for await (const content of contentOf(input, source, options, least)) {
    if (held !== undefined) yield parser.read(held, false);
    held = content;
  }
  yield parser.read(held ?? "", true);
  parser.close();
}

async function* contentOf(
  input: AsyncIterable<Uint8Array>,
  source: string,
  options: DatasetOptions,
  least: number,
): AsyncGenerator<string> {
  const iterator = input[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let beginning = "";
  while (beginning.trim() === "") {
    const { done, value } = await iterator.next();
    if (done) break;
    first.push(value);
    beginning = new TextDecoder().decode(Buffer.concat(first));
  }
  requireTexts(Buffer.concat(first), source);
  const isWhole = isArray(beginning, source, options);
  const all = async function* (): AsyncGenerator<Uint8Array> {
    yield* first;
    let length = 0;
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      length += next.value.length;
      if (isWhole && length > MOST.bytes)
        throw new EdgelabelError(
          `${source}: a JSON array of more than 512 MB; give one object a line instead, as jq -c '.[]' writes it`,
        );
      yield next.value;
    }
  };
  const limits = isWhole ? { least: Infinity, most: Infinity } : { least };
  for await (const { content, line } of blocksOf(all(), source, limits))
    yield line === 1 && content.startsWith(MARK) ? content.slice(MARK.length) : content;
}

const MARK = "\ufeff";
