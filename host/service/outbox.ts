// Answers on their way to the broker: a bounded queue in front of a window of
// unacknowledged ones. A request is acknowledged ("settled") once its answer has been
// written to the same connection, ahead of the PUBACK. QoS 1 answers that the broker has
// not acknowledged are sent again on the next connection, QoS 0 answers are not.
//
// Some brokers close the connection when they refuse an answer. After a close, the
// answers that were in flight are therefore suspects, and sent again one by one. An
// answer that was in flight at three closes is given up. It is also remembered, since
// the broker delivers its request again and the same answer would come back.
import { createHash } from "node:crypto";
import type { Outgoing } from "./sender.ts";

export interface Answer extends Outgoing {
  /** By performance.now(); after that it is dropped. */
  expiresAt: number;
  /** Called once, when the request may be acknowledged. */
  settled: () => void;
}

export type AnswerFate = "sent" | "expired" | "given_up" | "connection_lost" | "refused_by_broker";

/** The present connection. `done` is called when the answer is acknowledged, or at QoS 0 when the socket takes more. */
export interface AnswerChannel {
  window: number;
  send(answer: Answer, done: (error?: Error | null) => void): void;
}

interface Entry {
  answer: Answer;
  closes: number;
  isSettled: boolean;
}

const CLOSES_UNTIL_GIVEN_UP = 3;
const GIVEN_UP_REMEMBERED = 100;

function fingerprint({ topic, payload }: Answer): string {
  return createHash("sha256").update(topic).update("\0").update(payload).digest("base64");
}

export class Outbox {
  private readonly capacity: { answers: number; bytes: number };
  private readonly report: (fate: AnswerFate) => void;
  private waiting: Entry[] = [];
  private suspects: Entry[] = [];
  /** In the order in which they were sent. An array, not a set, for the reason in queue.ts. */
  private inFlight: Entry[] = [];
  private suspectsInFlight = 0;
  private bytes = 0;
  private channel: AnswerChannel | undefined;
  private isPumping = false;
  private idle: (() => void)[] = [];
  private givenUp = new Set<string>();

  constructor(capacity: { answers: number; bytes: number }, report: (fate: AnswerFate) => void) {
    this.capacity = capacity;
    this.report = report;
  }

  get length(): number {
    return this.waiting.length + this.suspects.length + this.inFlight.length;
  }

  get isFull(): boolean {
    return this.length >= this.capacity.answers || this.bytes >= this.capacity.bytes;
  }

  offer(answer: Answer): void {
    this.bytes += answer.payload.length;
    this.waiting.push({ answer, closes: 0, isSettled: false });
    this.pump();
  }

  attach(channel: AnswerChannel): void {
    this.channel = channel;
    this.pump();
  }

  /** The connection is gone. */
  detach(): void {
    if (!this.channel) return;
    this.channel = undefined;
    const again: Entry[] = [];
    for (const entry of this.inFlight.splice(0)) {
      if (entry.answer.qos === 0) this.finish(entry, "connection_lost");
      else if (++entry.closes >= CLOSES_UNTIL_GIVEN_UP) this.giveUp(entry);
      else again.push(entry);
    }
    this.suspectsInFlight = 0;
    this.suspects = [...again, ...this.suspects];
    // A QoS 0 request was never promised an answer on a later connection.
    const kept = this.waiting.filter((entry) => entry.answer.qos === 1);
    for (const entry of this.waiting) if (entry.answer.qos === 0) this.finish(entry, "connection_lost");
    this.waiting = kept;
    this.wakeWhenIdle();
  }

  /** Resolves when nothing is left to send, or after `timeoutMs`. */
  drained(timeoutMs: number): Promise<void> {
    if (this.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.idle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Not reentrant: `done` may be called at once, and with many answers the recursion would overflow the stack. */
  private pump(): void {
    if (this.isPumping) return;
    this.isPumping = true;
    try {
      this.sendWaiting();
    } finally {
      this.isPumping = false;
    }
  }

  private sendWaiting(): void {
    while (this.channel) {
      const isProbing = this.suspects.length > 0 || this.suspectsInFlight > 0;
      if (this.inFlight.length >= (isProbing ? 1 : this.channel.window)) return;
      const entry = this.suspects.shift() ?? this.waiting.shift();
      if (!entry) break;
      if (entry.answer.expiresAt <= performance.now()) this.finish(entry, "expired");
      else if (this.givenUp.size > 0 && this.givenUp.has(fingerprint(entry.answer))) this.finish(entry, "given_up");
      else this.send(entry, this.channel);
    }
    this.wakeWhenIdle();
  }

  private send(entry: Entry, channel: AnswerChannel): void {
    this.inFlight.push(entry);
    if (entry.closes > 0) this.suspectsInFlight++;
    channel.send(entry.answer, (error) => {
      const at = this.inFlight.indexOf(entry);
      // The connection has closed since, and detach() has dealt with the answer.
      if (this.channel !== channel || at < 0) return;
      this.inFlight.splice(at, 1);
      if (entry.closes > 0) this.suspectsInFlight--;
      this.finish(entry, error ? "refused_by_broker" : "sent");
      this.pump();
    });
    this.settle(entry);
  }

  private giveUp(entry: Entry): void {
    this.givenUp.add(fingerprint(entry.answer));
    const [oldest] = this.givenUp;
    if (this.givenUp.size > GIVEN_UP_REMEMBERED) this.givenUp.delete(oldest!);
    this.finish(entry, "given_up");
  }

  private finish(entry: Entry, fate: AnswerFate): void {
    this.bytes -= entry.answer.payload.length;
    this.report(fate);
    this.settle(entry);
  }

  private settle(entry: Entry): void {
    if (entry.isSettled) return;
    entry.isSettled = true;
    entry.answer.settled();
  }

  private wakeWhenIdle(): void {
    if (this.idle.length === 0 || this.length > 0) return;
    for (const wake of this.idle.splice(0)) wake();
  }
}
