// How many texts a second a requester may send: each has a token bucket that holds a second's
// worth. A request that is larger than what is left may pass, and leaves a debt that must be
// waited off: so batches are possible at any rate.
//
// Requesters choose the names by which they are told apart, so the number of buckets is
// limited. All requesters beyond that number share one bucket, and one line in the queue:
// inventing names then gains nothing, and takes nothing from requesters that were here before.

import { createHash } from "node:crypto";

/** Longer names, which may hold a topic of 64 KB, are replaced by their digest. */
const LONGEST_NAME = 256;

export function shortName(name: string): string {
  return name.length <= LONGEST_NAME ? name : createHash("sha256").update(name).digest("base64");
}

/** A requester that sends nothing for so long and has no debt loses its bucket. */
const FORGOTTEN_MS = 60_000;
/** The order of the buckets is only exact to this, since moving one for every request is expensive. */
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
  /** How many requesters are told apart at once. */
  requesters: number;
}

export class RateLimit {
  private readonly textMs: number;
  private readonly requesters: number;
  private readonly now: () => number;
  /** By requester, the one that has sent nothing for longest first. */
  private readonly buckets = new Map<string, Bucket>();
  private readonly others: Bucket = { fullAt: 0, seenAt: 0 };

  constructor({ textsPerSecond, requesters }: Rates, now: () => number = () => performance.now()) {
    this.textMs = 1_000 / textsPerSecond;
    this.requesters = requesters;
    this.now = now;
  }

  /** Takes the texts from the requester's bucket and returns 0; or takes none and returns how many milliseconds it must wait. */
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
