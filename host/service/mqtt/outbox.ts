// All that the service publishes, on its way to the broker. Answers: a bounded queue in front of a window of
// unacknowledged ones. A request is acknowledged ("settled") once its answer has been
// written to the same connection, ahead of the PUBACK. QoS 1 answers that the broker has
// not acknowledged are sent again on the next connection, QoS 0 answers are not.
//
// Some brokers close the connection when they refuse an answer. After a close, the
// answers that were in flight are therefore suspects, and sent again one by one. An
// answer that was in flight at three closes is given up. It is also remembered, since
// the broker delivers its request again and the same answer would come back.
//
// States (status, info, announcements, figures, the statuses of commands) go first. Of those
// that wait for the same topic only the last one is kept, whatever makes us publish them. The
// next connection begins with new ones, except for those that are kept; none is given up.
import { createHash } from "node:crypto";
import { sizeOf } from "./sender.ts";
import type { Outgoing } from "./sender.ts";

export interface Answer extends Outgoing {
  /** By performance.now(); after that it is dropped. */
  expiresAt: number;
  /** Called once, when the request may be acknowledged. */
  settled: () => void;
  /** Called once, when nothing more will be done about it. */
  finished?: (fate: AnswerFate, error?: Error) => void;
}

export interface State extends Outgoing {
  /** Sent again on the next connection if this one is lost. */
  isKept?: boolean;
  finished?: Answer["finished"];
}

/** A state is `replaced` by a later one for its topic, or when too many wait. */
export type AnswerFate = "sent" | "expired" | "given_up" | "connection_lost" | "refused_by_broker" | "replaced";

/** The present connection. `done` is called when the answer is acknowledged, or at QoS 0 when the socket takes more. */
export interface AnswerChannel {
  window: number;
  /** The broker reads more slowly than we write. */
  readonly isCongested: boolean;
  send(message: Outgoing, done: (error?: Error | null) => void): void;
}

interface Entry {
  answer: Answer;
  bytes: number;
  isState: boolean;
  isKept: boolean;
  closes: number;
  isSettled: boolean;
}

const CLOSES_UNTIL_GIVEN_UP = 3;
const GIVEN_UP_REMEMBERED = 100;
const NOTHING = () => {};

function fingerprint({ topic, payload }: Answer): string {
  return createHash("sha256").update(topic).update("\0").update(payload).digest("base64");
}

export interface OutboxCapacity {
  /** Waiting or unacknowledged. */
  answers: number;
  /** The same, by whole message: topic, payload and properties. */
  bytes: number;
  /** Topics for which a state may wait. */
  states: number;
}

export class Outbox {
  private readonly capacity: OutboxCapacity;
  private readonly report: (fate: AnswerFate) => void;
  private waiting: Entry[] = [];
  private states: Entry[] = [];
  private suspects: Entry[] = [];
  /** In the order in which they were sent. An array, not a set, for the reason in queue.ts. */
  private inFlight: Entry[] = [];
  private suspectsInFlight = 0;
  private bytes = 0;
  private channel: AnswerChannel | undefined;
  private isPumping = false;
  private idle: (() => void)[] = [];
  private givenUp = new Set<string>();

  constructor(capacity: OutboxCapacity, report: (fate: AnswerFate) => void) {
    this.capacity = capacity;
    this.report = report;
  }

  get length(): number {
    return this.waiting.length + this.states.length + this.suspects.length + this.inFlight.length;
  }

  get isFull(): boolean {
    return this.length >= this.capacity.answers || this.bytes >= this.capacity.bytes;
  }

  /** For what can wait elsewhere, so that it keeps nobody out. */
  get hasRoomToSpare(): boolean {
    return this.length < this.capacity.answers / 2 && this.bytes < this.capacity.bytes / 2;
  }

  offer(answer: Answer): void {
    this.waiting.push(this.entry(answer, false, answer.qos === 1));
    this.pump();
  }

  /** Publishes a state; one that waits for the same topic is replaced. */
  say(state: State): void {
    this.states.push(this.entry({ ...state, expiresAt: Infinity, settled: NOTHING }, true, state.isKept ?? false));
    const waits = this.states.findIndex(({ answer }) => answer.topic === state.topic);
    if (waits < this.states.length - 1) this.finish(this.states.splice(waits, 1)[0]!, "replaced");
    else if (this.states.length > this.capacity.states) this.finish(this.states.shift()!, "replaced");
    this.pump();
  }

  /** Sends a refusal past the queue, since it must be prompt to be of use; drops it when the broker does not read. */
  refuse(message: Outgoing): void {
    if (this.channel && !this.channel.isCongested) this.channel.send({ ...message, qos: 0 }, NOTHING);
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
    const states: Entry[] = [];
    for (const entry of this.inFlight.splice(0)) {
      if (!entry.isKept) this.finish(entry, "connection_lost");
      else if (entry.isState) states.unshift(entry);
      else if (++entry.closes >= CLOSES_UNTIL_GIVEN_UP) this.giveUp(entry);
      else again.push(entry);
    }
    this.suspectsInFlight = 0;
    this.suspects = [...again, ...this.suspects];
    // The last one for a topic first, since an earlier one must not take its place.
    for (const entry of states) {
      if (this.states.some(({ answer }) => answer.topic === entry.answer.topic)) this.finish(entry, "replaced");
      else this.states.unshift(entry);
    }
    // A QoS 0 request was never promised an answer on a later connection.
    const gone = [...this.waiting, ...this.states].filter(({ isKept }) => !isKept);
    this.waiting = this.waiting.filter(({ isKept }) => isKept);
    this.states = this.states.filter(({ isKept }) => isKept);
    for (const entry of gone) this.finish(entry, "connection_lost");
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

  private entry(answer: Answer, isState: boolean, isKept: boolean): Entry {
    const bytes = sizeOf(answer);
    this.bytes += bytes;
    return { answer, bytes, isState, isKept, closes: 0, isSettled: false };
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
      const entry = this.suspects.shift() ?? this.states.shift() ?? this.waiting.shift();
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
      this.finish(entry, error ? "refused_by_broker" : "sent", error ?? undefined);
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

  private finish(entry: Entry, fate: AnswerFate, error?: Error): void {
    this.bytes -= entry.bytes;
    if (!entry.isState) this.report(fate);
    this.settle(entry);
    entry.answer.finished?.(fate, error);
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
