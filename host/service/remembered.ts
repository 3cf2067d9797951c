// Answers of the last minutes, by who asked and what: a request that comes twice
// (redelivered by the broker, or sent again by a requester who lost patience) gets
// the same bytes again and is not computed. The text is part of the key, so that
// an id used anew for another text is another request.
import { createHash } from "node:crypto";

interface Remembered {
  key: string;
  payload: string;
  until: number;
}

export interface RequestIdentity {
  requestTopic: string;
  answerTopic: string;
  correlationData: Buffer | undefined;
  payload: Buffer;
}

/** A short payload is its own key: that costs less than its digest. */
const HASHED_FROM = 256;

export class RememberedAnswers {
  private readonly limits: { answers: number; bytes: number; ms: number };
  private readonly byKey = new Map<string, Remembered>();
  // In the order of their ends, since all are kept equally long; those before `first` are forgotten.
  // (The first entry of a Map is dear to find once many before it were deleted.)
  private order: Remembered[] = [];
  private first = 0;
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
      ? `${payload.length} ${payload.toString("latin1")}`
      : createHash("sha256").update(payload).digest("base64");
    return `${requestTopic}\0${answerTopic}\0${text}${correlationData?.toString("latin1") ?? ""}`;
  }

  get(key: string): string | undefined {
    const found = this.byKey.get(key);
    return found && found.until > Date.now() ? found.payload : undefined;
  }

  /** Of two answers to the same request the first one stands. */
  set(key: string, payload: string): void {
    const { answers, bytes, ms } = this.limits;
    const now = Date.now();
    while (this.length > 0 && this.order[this.first]!.until <= now) this.forgetFirst();
    if (this.byKey.has(key)) return;
    const entry = { key, payload, until: now + ms };
    this.byKey.set(key, entry);
    this.order.push(entry);
    this.bytes += payload.length + key.length;
    while (this.length > answers || this.bytes > bytes) this.forgetFirst();
  }

  private forgetFirst(): void {
    const { key, payload } = this.order[this.first++]!;
    this.byKey.delete(key);
    this.bytes -= payload.length + key.length;
    if (2 * this.first < this.order.length) return;
    this.order = this.order.slice(this.first);
    this.first = 0;
  }
}
