// Answers of the last minutes, by who asked and what: a request that comes twice
// (redelivered by the broker, or sent again by a requester who lost patience) gets
// the same bytes again and is not computed. The text is part of the key, so that
// an id used anew for another text is another request.
import { createHash } from "node:crypto";

interface Remembered {
  key: string;
  payload: string;
  until: number;
  /** The one that ends after this one. */
  next: Remembered | undefined;
}

export interface RequestIdentity {
  requestTopic: string;
  answerTopic: string;
  correlationData: Buffer | undefined;
  payload: Uint8Array;
}

/** A short payload is its own key: that costs less than its digest. */
const HASHED_FROM = 256;

export class RememberedAnswers {
  private readonly limits: { answers: number; bytes: number; ms: number };
  private readonly byKey = new Map<string, Remembered>();
  // A list in the order of their ends, since all are kept equally long. (The first entry of a
  // Map is dear to find once many before it were deleted.)
  private oldest: Remembered | undefined;
  private newest: Remembered | undefined;
  private bytes = 0;

  constructor(limits: { answers: number; bytes: number; ms: number }) {
    this.limits = limits;
  }

  get length(): number {
    return this.byKey.size;
  }

  static key({ requestTopic, answerTopic, correlationData, payload }: RequestIdentity): string {
    // No topic holds NUL, and the length says where a text ends that stands for itself.
    const text = payload.length <= HASHED_FROM
      ? `${payload.length} ${Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString("latin1")}`
      : createHash("sha256").update(payload).digest("base64");
    return `${requestTopic}\0${answerTopic}\0${text}${correlationData?.toString("latin1") ?? ""}`;
  }

  get(key: string): string | undefined {
    const found = this.byKey.get(key);
    return found && found.until > Date.now() ? found.payload : undefined;
  }

  /** Of two answers to the same request the first one stands. */
  set(key: string, payload: string): void {
    const now = Date.now();
    this.forgetWhile(({ until }) => until <= now);
    if (this.byKey.has(key)) return;
    const entry: Remembered = { key, payload, until: now + this.limits.ms, next: undefined };
    this.byKey.set(key, entry);
    if (this.newest) this.newest.next = entry;
    else this.oldest = entry;
    this.newest = entry;
    this.bytes += payload.length + key.length;
    this.forgetWhile(() => this.byKey.size > this.limits.answers || this.bytes > this.limits.bytes);
  }

  private forgetWhile(isToGo: (entry: Remembered) => boolean): void {
    while (this.oldest && isToGo(this.oldest)) {
      this.byKey.delete(this.oldest.key);
      this.bytes -= this.oldest.payload.length + this.oldest.key.length;
      this.oldest = this.oldest.next;
    }
    if (!this.oldest) this.newest = undefined;
  }
}
