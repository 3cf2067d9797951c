// How many texts a second a requester may send: a token bucket for each, which holds one second's
// worth. A request that is larger than what is left passes too, and puts the bucket into debt; the
// requester waits until it is repaid. So batches work at any rate.
//
// Requesters choose their own names, so the number of buckets is limited. All requesters beyond
// it share one bucket and one line in the queue: inventing names gains nothing, and takes nothing
// from requesters that were here before.
import { createHash } from "node:crypto";

/** Longer names, which may hold a topic of 64 KB, are replaced by their digest. */
const LONGEST_NAME = 256;

export function shortName(name: string): string {
  return name.length <= LONGEST_NAME ? name : createHash("sha256").update(name).digest("base64");
}

/** A requester without debt that has been silent for this long loses its bucket. */
const FORGOTTEN_MS = 60_000;
/** How exact the order of the buckets is: moving one for every request would be expensive. */
const MOVED_MS = 1_000;
const CAPACITY_MS = 1_000;
/** No topic or address has this name. */
const OTHERS = "\0others";

interface Bucket {
  /** When it will be full again. */
  fullAt: number;
  seenAt: number;
}

export interface Rates {
  /** Infinity: no limit. */
  textsPerSecond: number;
  /** How many requesters have a bucket of their own. */
  requesters: number;
}

export class RateLimit {
  private readonly textMs: number;
  private readonly requesters: number;
  private readonly now: () => number;
  /** By requester, least recently seen first. */
  private readonly buckets = new Map<string, Bucket>();
  private readonly others: Bucket = { fullAt: 0, seenAt: 0 };

  constructor({ textsPerSecond, requesters }: Rates, now: () => number = () => performance.now()) {
    this.textMs = 1_000 / textsPerSecond;
    this.requesters = requesters;
    this.now = now;
  }

  /** Takes the texts from the requester's bucket and returns 0, or takes none and returns how many milliseconds the requester must wait. */
  take(requester: string, texts: number): number {
    const now = this.now();
    const bucket = this.bucketOf(requester, now);
    const fullAt = Math.max(now, bucket.fullAt);
    const emptyFor = fullAt - now + Math.min(this.textMs, CAPACITY_MS) - CAPACITY_MS;
    if (emptyFor > 0) return emptyFor;
    bucket.fullAt = fullAt + texts * this.textMs;
    return 0;
  }

  /** The line of the queue in which a requester waits: its own, or the one of all requesters without a bucket. */
  lineOf(requester: string): string {
    return this.buckets.has(requester) ? requester : OTHERS;
  }

  private bucketOf(requester: string, now: number): Bucket {
    let bucket = this.buckets.get(requester);
    if (bucket && now - bucket.seenAt < MOVED_MS) return bucket;
    if (bucket) this.buckets.delete(requester);
    else {
      this.forget(now);
      if (this.buckets.size >= this.requesters) return this.others;
      bucket = { fullAt: 0, seenAt: now };
    }
    bucket.seenAt = now;
    this.buckets.set(requester, bucket);
    return bucket;
  }

  private forget(now: number): void {
    for (const [requester, bucket] of this.buckets) {
      if (now - bucket.seenAt < FORGOTTEN_MS) return;
      this.buckets.delete(requester);
      if (bucket.fullAt <= now) continue;
      bucket.seenAt = now;
      this.buckets.set(requester, bucket);
    }
  }
}
