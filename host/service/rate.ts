// How many texts a requester may send: a token bucket each, which holds a second's worth.
// A request that is larger than what is left may pass and leaves a debt, so that batches
// are possible at any rate and pay for themselves.
//
// Requesters are told apart by names of their own choice, so only so many are: whoever
// comes beyond those shares one bucket, and one line in the queue, with all others that
// do. Inventing names gains nothing then, and takes nothing from who was here before.

/** Whose place is free again: who has not come for so long, and has no debt. */
const FORGOTTEN_MS = 60_000;
/** Who comes again so soon stays where it is: to move it for every request is dear. */
const MOVED_MS = 1_000;
const CAPACITY_MS = 1_000;
/** No topic and no address is called so. */
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
  /** Who has not come for longest is first. */
  private readonly buckets = new Map<string, Bucket>();
  private readonly others: Bucket = { fullAt: 0, seenAt: 0 };

  constructor({ textsPerSecond, requesters }: Rates, now: () => number = () => performance.now()) {
    this.textMs = 1_000 / textsPerSecond;
    this.requesters = requesters;
    this.now = now;
  }

  /** 0 when the requester may send these texts now, else after how many milliseconds it may. */
  take(requester: string, texts: number): number {
    const now = this.now();
    const bucket = this.bucketOf(requester, now);
    const fullAt = Math.max(now, bucket.fullAt);
    const emptyFor = fullAt - now + Math.min(this.textMs, CAPACITY_MS) - CAPACITY_MS;
    if (emptyFor > 0) return emptyFor;
    bucket.fullAt = fullAt + texts * this.textMs;
    return 0;
  }

  /** In whose line a requester waits that has come: in its own, or in that of all others. */
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
