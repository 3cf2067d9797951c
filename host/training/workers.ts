// Data-parallel training: worker threads that share each batch with this thread's trainer. Each
// has a trainer of its own, resumed from this one's file, and computes the gradient of its shard
// of a batch. They exchange the gradients through shared memory and all take the same step, so
// nothing else is exchanged. The arithmetic is the trainer's; here bytes are copied and awaited.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { artefactPath } from "../artefact.ts";
import type { Sample } from "../data/dataset.ts";
import { SampleFiles } from "../data/read.ts";
import type { Samples } from "../data/survey.ts";
import { EdgelabelError } from "../errors.ts";
import { resumeTraining } from "./recipe.ts";
import type { SynonymGroup } from "./synonyms.ts";
import type { Exchange, Trainer } from "./trainer.ts";

/** The texts, and synonyms, with which a run was started. */
export interface TrainingData {
  samples: Samples;
  synonyms: { groups: readonly SynonymGroup[]; source: string } | null;
}

/** The data of a thread. */
export interface Job extends Omit<TrainingData, "samples"> {
  samples: readonly Sample[] | Pick<SampleFiles, "paths" | "options">;
  elb: Uint8Array;
  source: string;
  shard: number;
  memory: SharedArrayBuffer;
}

/** A worker that takes longer than this is considered dead. */
const PATIENCE_MS = 120_000;
/** How often a sleeping worker checks whether another one has failed. */
const SLEEP_MS = 100;
/** Spins before a worker sleeps: the others mostly arrive in this time. */
const LOOKS = 1000;

// The shared memory: control words, the length of each share, then the shares. Each worker has
// two shares, so that those of one batch can be read while the next ones are written.
const ARRIVED = 0;
const ROUND = 1;
const FAILED = 2;
const CONTROL_WORDS = 4;

/** All-gather through the shared memory: each worker writes its share of a batch and reads those of all others. */
class AllGather {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #workers: number;
  readonly #shard: number;
  readonly #first: number;
  readonly #capacity: number;

  constructor(memory: SharedArrayBuffer, trainer: Trainer, shard: number) {
    this.#workers = trainer.workers();
    this.#shard = shard;
    this.#capacity = trainer.shareCapacity();
    this.#first = firstShare(this.#workers);
    this.#words = new Int32Array(memory, 0, this.#first / 4);
    this.#bytes = new Uint8Array(memory);
  }

  /** Writes its own share, waits for all others, and reads theirs. */
  readonly exchange: Exchange = (own, take) => {
    const round = Atomics.load(this.#words, ROUND);
    const side = (round & 1) * this.#workers;
    this.#words[CONTROL_WORDS + side + this.#shard] = own.length;
    this.#bytes.set(own, this.#first + (side + this.#shard) * this.#capacity);
    this.#barrier(round);
    for (let shard = 0; shard < this.#workers; shard++) {
      const at = this.#first + (side + shard) * this.#capacity;
      if (shard !== this.#shard) take(shard, this.#bytes.subarray(at, at + this.#words[CONTROL_WORDS + side + shard]!));
    }
  };

  #barrier(round: number): void {
    if (Atomics.add(this.#words, ARRIVED, 1) === this.#workers - 1) {
      Atomics.store(this.#words, ARRIVED, 0);
      Atomics.add(this.#words, ROUND, 1);
      Atomics.notify(this.#words, ROUND);
      return;
    }
    for (let look = 0; look < LOOKS && Atomics.load(this.#words, ROUND) === round; look++);
    for (let slept = 0; Atomics.load(this.#words, ROUND) === round; slept += SLEEP_MS) {
      if (Atomics.load(this.#words, FAILED) || slept > PATIENCE_MS)
        throw new EdgelabelError("a training worker has ended; train with fewer --workers");
      Atomics.wait(this.#words, ROUND, round, SLEEP_MS);
    }
  }

  /** Tells the others that this worker has failed. */
  fail(): void {
    Atomics.store(this.#words, FAILED, 1);
  }
}

function firstShare(workers: number): number {
  return (4 * (CONTROL_WORDS + 2 * workers) + 15) & ~15;
}

export interface Workers {
  stop(): Promise<void>;
}

/** Starts the other workers of the run that `trainer` has started or resumed, if it has any. */
export async function startWorkers(trainer: Trainer, source: string, data: TrainingData): Promise<Workers> {
  const count = trainer.workers();
  if (count === 1) return { stop: async () => {} };
  const memory = new SharedArrayBuffer(firstShare(count) + 2 * count * trainer.shareCapacity());
  const elb = trainer.write("training");
  const threads = Array.from({ length: count - 1 }, (_, i) => {
    const job = { ...data, elb, source, shard: i + 1, memory };
    // A failure before the thread is ready rejects once() below; a later one shows at the next exchange.
    return new Worker(artefactPath("host/training/worker.js"), { workerData: job }).on("error", () => {});
  });
  const stop = async (): Promise<void> => {
    await Promise.all(threads.map((thread) => thread.terminate()));
  };
  try {
    await Promise.all(threads.map((thread) => once(thread, "message")));
  } catch (error) {
    await stop();
    throw error;
  }
  trainer.shareBatches(0, new AllGather(memory, trainer, 0).exchange);
  return { stop };
}

/** What a worker thread does; calls `ready` when it is about to wait for the first batch. */
export async function work({ elb, source, samples, synonyms, shard, memory }: Job, ready: () => void): Promise<void> {
  // Files have come as a copy without methods.
  const own = "paths" in samples ? new SampleFiles(samples.paths, samples.options) : samples;
  const trainer = await resumeTraining(elb, source, own, [], synonyms);
  const gather = new AllGather(memory, trainer, shard);
  trainer.shareBatches(shard, gather.exchange);
  ready();
  try {
    while (trainer.epochsLeft() > 0) for (const _ of trainer.epoch());
  } catch (error) {
    gather.fail();
    throw error;
  }
}
