// How many texts a requester may send: a token bucket each, which holds a second's worth.
// A request that is larger than what is left may pass and leaves a debt, so that batches
// are possible at any rate and pay for themselves.
//
// A bucket is one number, the time at which it will be full again.

/** Requesters remembered at once, twice over; of more, those are forgotten that were still longest. */
const REMEMBERED = 5_000;
const CAPACITY_MS = 1_000;

export class RateLimit {
  private readonly textMs: number;
  private readonly now: () => number;
  private recent = new Map<string, number>();
  private older = new Map<string, number>();

  /** `textsPerSecond` may be Infinity: no limit. */
  constructor(textsPerSecond: number, now: () => number = () => performance.now()) {
    this.textMs = 1_000 / textsPerSecond;
    this.now = now;
  }

  /** 0 when the requester may send these texts now, else after how many milliseconds it may. */
  take(requester: string, texts: number): number {
    if (this.textMs === 0) return 0;
    const now = this.now();
    const fullAt = Math.max(now, this.recent.get(requester) ?? this.older.get(requester) ?? 0);
    const emptyFor = fullAt + Math.min(this.textMs, CAPACITY_MS) - now - CAPACITY_MS;
    if (emptyFor > 0) return emptyFor;
    if (this.recent.size >= REMEMBERED) [this.older, this.recent] = [this.recent, new Map()];
    this.recent.set(requester, fullAt + texts * this.textMs);
    return 0;
  }
}
