// Answers of the last minutes, by who asked and what: a request that comes twice
// (redelivered by the broker, or sent again by a requester who lost patience) gets
// the same bytes again and is not computed. The text is part of the key, so that
// an id used anew for another text is another request.
import { createHash } from "node:crypto";

interface Remembered {
  payload: string;
  until: number;
}

export interface RequestIdentity {
  requestTopic: string;
  answerTopic: string;
  correlationData: Buffer | undefined;
  payload: Uint8Array;
}

export class RememberedAnswers {
  private readonly limits: { answers: number; bytes: number; ms: number };
  // In the order of their ends, since all are kept equally long.
  private readonly byKey = new Map<string, Remembered>();
  private bytes = 0;

  constructor(limits: { answers: number; bytes: number; ms: number }) {
    this.limits = limits;
  }

  get length(): number {
    return this.byKey.size;
  }

  static key({ requestTopic, answerTopic, correlationData, payload }: RequestIdentity): string {
    // No topic holds NUL, and the fixed-size digest ends the part of variable length.
    const text = createHash("sha256").update(payload).digest("base64");
    return `${requestTopic}\0${answerTopic}\0${text}${correlationData?.toString("latin1") ?? ""}`;
  }

  get(key: string): string | undefined {
    const found = this.byKey.get(key);
    return found && found.until > Date.now() ? found.payload : undefined;
  }

  set(key: string, payload: string): void {
    this.forget(key);
    this.byKey.set(key, { payload, until: Date.now() + this.limits.ms });
    this.bytes += payload.length + key.length;
    for (const [oldest, { until }] of this.byKey) {
      if (this.byKey.size <= this.limits.answers && this.bytes <= this.limits.bytes && until > Date.now()) break;
      this.forget(oldest);
    }
  }

  private forget(key: string): void {
    const found = this.byKey.get(key);
    if (!found) return;
    this.byKey.delete(key);
    this.bytes -= found.payload.length + key.length;
  }
}
