// Everything that the service publishes, on its way to the broker.
//
// Answers wait in a bounded queue, in front of a window of unacknowledged ones. A request is
// acknowledged ("settled") once its answer has been written to the same connection, ahead of the
// PUBACK. QoS 1 answers that the broker has not acknowledged are sent again on the next
// connection, QoS 0 answers are not.
//
// Some brokers close the connection when they refuse a message. So after a close, the answers that
// were in flight are suspects, and are sent again one at a time. An answer that was in flight at
// three closes is given up, and remembered: the broker delivers its request again, which would
// bring the same answer back.
//
// States (status, info, announcements, figures, statuses of commands) go first. Only the last one
// for a topic waits. The next connection begins with new ones, except for those that are kept;
// none is given up.
import { createHash } from "node:crypto";
import type { Session } from "./connection.ts";
import { sizeOf } from "./message.ts";
import type { Outgoing } from "./message.ts";

export interface Answer extends Outgoing {
  /** By performance.now(). It is dropped after that. */
  expiresAt: number;
  /** Called once, as soon as the request may be acknowledged. */
  settled: () => void;
  /** Called once, when it has been delivered or dropped. */
  finished?: (result: DeliveryResult, error?: Error) => void;
}

export interface State extends Outgoing {
  /** Sent again on the next connection if this one is lost. */
  isKept?: boolean;
  finished?: Answer["finished"];
}

/** A state is `replaced` by a newer one for its topic, or dropped as such when too many wait. */
export type DeliveryResult = "sent" | "expired" | "given_up" | "connection_lost" | "refused_by_broker" | "replaced";

/** What it needs of the connection. */
type Channel = Pick<Session, "receiveMaximum" | "isCongested" | "publish">;

interface Entry {
  answer: Answer;
  bytes: number;
  isState: boolean;
  isKept: boolean;
  closes: number;
  isSettled: boolean;
}

/** Messages that may be unacknowledged at once, if the broker takes as many. */
const WINDOW = 64;
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
  private readonly report: (result: DeliveryResult) => void;
  private waiting: Entry[] = [];
  private states: Entry[] = [];
  private suspects: Entry[] = [];
  /** In the order in which they were sent. */
  private readonly inFlight = new Set<Entry>();
  private suspectsInFlight = 0;
  private bytes = 0;
  private session: Channel | undefined;
  private isPumping = false;
  private idle: (() => void)[] = [];
  private givenUp = new Set<string>();

  constructor(capacity: OutboxCapacity, report: (result: DeliveryResult) => void) {
    this.capacity = capacity;
    this.report = report;
  }

  get length(): number {
    return this.waiting.length + this.states.length + this.suspects.length + this.inFlight.size;
  }

  get isFull(): boolean {
    return this.length >= this.capacity.answers || this.bytes >= this.capacity.bytes;
  }

  /** Less than half full: for routes, whose messages can wait elsewhere. */
  get hasRoomToSpare(): boolean {
    return this.length < this.capacity.answers / 2 && this.bytes < this.capacity.bytes / 2;
  }

  offer(answer: Answer): void {
    this.waiting.push(this.entry(answer, false, answer.qos === 1));
    this.pump();
  }

  /** Publishes a state, in place of one that is still waiting for the same topic. */
  publishState(state: State): void {
    this.states.push(this.entry({ ...state, expiresAt: Infinity, settled: NOTHING }, true, state.isKept ?? false));
    const waits = this.states.findIndex(({ answer }) => answer.topic === state.topic);
    if (waits < this.states.length - 1) this.finish(this.states.splice(waits, 1)[0]!, "replaced");
    else if (this.states.length > this.capacity.states) this.finish(this.states.shift()!, "replaced");
    this.pump();
  }

  /** Sends a refusal ahead of the queue, since it is only useful if prompt; drops it if the broker is not reading. */
  refuse(message: Outgoing): void {
    if (this.session && !this.session.isCongested) this.session.publish({ ...message, qos: 0 });
  }

  /** The connection is there. */
  attach(session: Channel): void {
    this.session = session;
    this.pump();
  }

  /** The connection is gone. */
  detach(): void {
    if (!this.session) return;
    this.session = undefined;
    const again: Entry[] = [];
    const states: Entry[] = [];
    const inFlight = [...this.inFlight];
    this.inFlight.clear();
    for (const entry of inFlight) {
      if (!entry.isKept) this.finish(entry, "connection_lost");
      else if (entry.isState) states.unshift(entry);
      else if (++entry.closes >= CLOSES_UNTIL_GIVEN_UP) this.giveUp(entry);
      else again.push(entry);
    }
    this.suspectsInFlight = 0;
    this.suspects = [...again, ...this.suspects];
    // Newest first, so that an older one does not take its place.
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

  /** Resolves when everything has been sent, or after `timeoutMs`. */
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

  /** Not reentrant: callbacks may come synchronously, and with many answers the recursion would overflow the stack. */
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
    while (this.session) {
      const isProbing = this.suspects.length > 0 || this.suspectsInFlight > 0;
      if (this.inFlight.size >= (isProbing ? 1 : Math.min(WINDOW, this.session.receiveMaximum))) return;
      const entry = this.suspects.shift() ?? this.states.shift() ?? this.waiting.shift();
      if (!entry) break;
      if (entry.answer.expiresAt <= performance.now()) this.finish(entry, "expired");
      else if (this.givenUp.size > 0 && this.givenUp.has(fingerprint(entry.answer))) this.finish(entry, "given_up");
      else this.send(entry, this.session);
    }
    this.wakeWhenIdle();
  }

  private send(entry: Entry, session: Channel): void {
    this.inFlight.add(entry);
    if (entry.closes > 0) this.suspectsInFlight++;
    session.publish(entry.answer, (error) => {
      // If the connection has closed since, detach() has dealt with the answer.
      if (this.session !== session || !this.inFlight.delete(entry)) return;
      if (entry.closes > 0) this.suspectsInFlight--;
      this.finish(entry, error ? "refused_by_broker" : "sent", error);
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

  private finish(entry: Entry, result: DeliveryResult, error?: Error): void {
    this.bytes -= entry.bytes;
    if (!entry.isState) this.report(result);
    this.settle(entry);
    entry.answer.finished?.(result, error);
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
