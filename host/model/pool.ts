// Threads that classify, each with the model in an engine of its own; and answers in the order of what was asked.
import { Worker } from "node:worker_threads";
import { artefactPath } from "../artefact.ts";
import { EdgelabelError } from "../errors.ts";
import { Classifier } from "./classifier.ts";

export type LineFormat = Parameters<Classifier["line"]>[1];
/** With a list in place of the label, of a model that gives several. */
interface Labelled {
  label: string | readonly string[] | null;
  score: number;
}

/** What classifies much at once: this thread's Classifier, or a pool. */
export interface Bulk {
  /** How many questions may be open, so that no thread waits. */
  readonly most: number;
  /** Output lines of whole lines, as Classifier.lines. */
  lines(lines: Uint8Array, format: LineFormat): Promise<Uint8Array[]>;
  texts(texts: readonly string[]): Promise<Labelled[]>;
}

/** The model that a thread gets. */
export interface Job {
  bytes: Uint8Array;
  source: string;
}

export type Question = { lines: Uint8Array; format: LineFormat } | { texts: readonly string[] };
type Reply = Uint8Array[] | Labelled[];

export function answer(classifier: Classifier, question: Question): Reply {
  return "lines" in question
    ? classifier.lines(question.lines, question.format)
    : question.texts.map((text) => {
        const { label, labels, score } = classifier.classify(text);
        return { label: labels ? labels.map((each) => each.label) : label, score };
      });
}

/** The same in this thread. */
export function bulkOf(classifier: Classifier): Bulk {
  return {
    most: 1,
    lines: async (lines, format) => answer(classifier, { lines, format }) as Uint8Array[],
    texts: async (texts) => answer(classifier, { texts }) as Labelled[],
  };
}

interface Thread {
  worker: Worker;
  asked: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[];
  error?: Error;
}

/** Questions for each thread: one at work, one that waits, and one whose answer waits for its turn. */
const OPEN = 3;

export class Pool implements Bulk {
  readonly most: number;
  readonly #threads: Thread[];
  #next = 0;

  constructor(count: number, job: Job) {
    this.most = OPEN * count;
    this.#threads = Array.from({ length: count }, () => {
      const thread: Thread = {
        worker: new Worker(artefactPath("host/model/worker.js"), { workerData: job }),
        asked: [],
      };
      const fail = (error: Error): void => {
        thread.error ??= error;
        for (const { reject } of thread.asked.splice(0)) reject(thread.error);
      };
      thread.worker
        .on("message", (reply: Reply) => thread.asked.shift()!.resolve(reply))
        .on("error", fail)
        .on("exit", () => fail(new EdgelabelError("a worker has ended; use fewer --workers")));
      return thread;
    });
  }

  lines(lines: Uint8Array, format: LineFormat): Promise<Uint8Array[]> {
    return this.#ask({ lines, format }) as Promise<Uint8Array[]>;
  }

  texts(texts: readonly string[]): Promise<Labelled[]> {
    return this.#ask({ texts }) as Promise<Labelled[]>;
  }

  /** Questions are of about the same size, so the threads take turns. */
  #ask(question: Question): Promise<Reply> {
    const thread = this.#threads[this.#next++ % this.#threads.length]!;
    return new Promise((resolve, reject) => {
      if (thread.error) return void reject(thread.error);
      thread.asked.push({ resolve, reject });
      thread.worker.postMessage(question);
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }
}

/**
 * Yields what `work` makes of each item, in their order, each as soon as it and all before it are there; works on at
 * most `most` items at once. When the items end in an error, yields what came before it first.
 */
export async function* inOrder<Item, Result>(
  items: AsyncIterable<Item>,
  most: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void> {
  const input = items[Symbol.asyncIterator]();
  const results: Promise<Result>[] = [];
  let next: Promise<IteratorResult<Item> | { error: unknown }> | undefined;
  let isEnd = false;
  let failure: { error: unknown } | undefined;
  try {
    for (;;) {
      if (next === undefined && !isEnd && results.length < most)
        next = input.next().catch((error: unknown) => ({ error }));
      const first = results[0];
      if (first !== undefined && (next === undefined || (await isEarlier(first, next)))) {
        yield await first;
        void results.shift();
        continue;
      }
      if (next === undefined) break;
      const item = await next;
      next = undefined;
      if ("error" in item) failure = item;
      isEnd = "error" in item || item.done === true;
      if (!isEnd) {
        const result = work((item as IteratorYieldResult<Item>).value);
        // It is looked at in its turn.
        result.catch(() => {});
        results.push(result);
      }
    }
  } finally {
    // One that waits for its next chunk would not return before it has come.
    if (next === undefined) await input.return?.(undefined);
  }
  if (failure) throw failure.error;
}

/** Whether the first of two promises is settled first, or both are. */
function isEarlier(first: Promise<unknown>, second: Promise<unknown>): Promise<boolean> {
  const settled = (promise: Promise<unknown>, value: boolean): Promise<boolean> =>
    promise.then(
      () => value,
      () => value,
    );
  return Promise.race([settled(first, true), settled(second, false)]);
}
