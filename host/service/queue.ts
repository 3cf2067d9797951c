// Requests that wait for the engine, one line for each requester. Every other turn, of a text
// each, goes around the lines: neither a flood nor a large batch delays anyone by more than two
// texts a line. The turns between are for whoever had clearly less than the others, so that a
// calm requester hardly notices a flood; if there is none, for the job that has waited longest,
// so that a second job in line need not wait for two whole rounds.
//
// What a read from the socket brings is done as soon as all of it has been looked at, and
// between slices of a few milliseconds the event loop gets its turn (PINGRESP, PUBACK, HTTP).
//
// When it is full, those who have just come are looked at together, and refused before the
// next slice: the newest job of whoever among them had most of late, in line and done in the
// last seconds. One who has waited goes only for a newcomer who had clearly less: a refusal
// must be prompt or it is of no use. So whoever floods is told `busy`, and a requester below
// its share gets in, even where there are more requesters than places.
export type Refusal = "busy" | "expired";

export interface Job {
  /** Whose turn it takes. */
  requester: string;
  /** How much work it is, at most, in texts. */
  texts: number;
  bytes: number;
  /** Refused at once when the queue is full, whoever else is there. */
  isModest?: boolean;
  /** Milliseconds since 1970; not begun later. */
  expiresAt: number;
  /** Given by the queue, in the order in which jobs come. */
  number?: number;
  /** Does one text, or one forward pass of its explanation; true when the job is done, undefined when it must let others go first. Never throws. */
  step(): boolean | undefined;
  /** Ends a job that is not to be done, or not to its end. */
  refuse(why: Refusal): void;
}

interface Line {
  jobs: Job[];
  texts: number;
  /** Texts done for this requester of late. */
  done: number;
  /** How many of its last jobs have just come. */
  fresh: number;
}

const SLICE_MS = 2;
const CLEARLY_MORE = 1.25;
/** Among so many lines the one that has waited longest is looked for: where there are more, a round is long, and nobody's second job is far behind. */
const COMPARED = 16;
/** What is done is remembered for one to two windows, and for so many requesters in each. */
const WINDOW_MS = 5_000;
const REMEMBERED = 5_000;

export class Queue {
  /** Called before a slice: what is ready to go out need not wait for it. */
  beforeSlice = () => {};
  private readonly capacity: { texts: number; bytes: number };
  // In the order of their turns: the first one is next, and then goes to the end.
  private readonly lines = new Map<string, Line>();
  /** Those with clearly less than the others, in the same order. */
  private readonly calm = new Set<Line>();
  private offered = 0;
  private isAround = false;
  private doneNow = new Map<string, number>();
  private doneBefore = new Map<string, number>();
  private windowStart = 0;
  private texts = 0;
  private bytes = 0;
  /** Texts done of late for those in line. */
  private done = 0;
  private isScheduled = false;
  /** Those with jobs that have just come. */
  private readonly fresh = new Set<Line>();
  /** What may still be done before the event loop gets its turn: a text at least, and others that are likely to fit. */
  private leftMs = SLICE_MS;
  /** What the last text took. */
  private stepMs = 0;
  private idle: (() => void)[] = [];

  constructor(capacity: { texts: number; bytes: number }) {
    this.capacity = capacity;
  }

  /** Texts that wait. */
  get length(): number {
    return this.texts;
  }

  offer(job: Job): void {
    if (job.isModest && this.isFullFor(job)) {
      job.refuse("busy");
      return;
    }
    let line = this.lines.get(job.requester);
    const isNew = !line;
    line ??= { jobs: [], texts: 0, done: this.doneFor(job.requester), fresh: 0 };
    job.number = this.offered++;
    line.jobs.push(job);
    this.add(line, job, 1);
    if (isNew) {
      this.done += line.done;
      this.goToEnd(job.requester, line);
    }
    if (this.fresh.size === 0) queueMicrotask(() => this.makeRoom());
    line.fresh++;
    this.fresh.add(line);
    this.schedule();
  }

  /** Resolves when nothing waits, or after `timeoutMs`. */
  drained(timeoutMs: number): Promise<void> {
    if (this.lines.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.idle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private isFullFor({ texts, bytes }: Job): boolean {
    return this.lines.size > 0 && (this.texts + texts > this.capacity.texts || this.bytes + bytes > this.capacity.bytes);
  }

  /** A job that is alone may have any size: limits of one request are for others to set. */
  private get isOverfull(): boolean {
    if (this.texts <= this.capacity.texts && this.bytes <= this.capacity.bytes) return false;
    return this.lines.size > 1 || this.lines.values().next().value!.jobs.length > 1;
  }

  private makeRoom(): void {
    while (this.isOverfull && this.fresh.size > 0) {
      const newcomer = largest(this.fresh);
      const any = largest(this.lines.values());
      const line = CLEARLY_MORE * sizeOf(newcomer) < sizeOf(any) ? any : newcomer;
      const refused = line.jobs.at(-1)!;
      this.remove(line, refused);
      if (line.fresh > 0 && --line.fresh === 0) this.fresh.delete(line);
      refused.refuse("busy");
    }
    for (const line of this.fresh) line.fresh = 0;
    this.fresh.clear();
  }

  /** The share of the window before that is still in sight, and all of this one. */
  private doneFor(requester: string): number {
    const before = this.doneBefore.get(requester) ?? 0;
    return (this.doneNow.get(requester) ?? 0) + (before === 0 ? 0 : before * Math.max(0, 1 - (performance.now() - this.windowStart) / WINDOW_MS));
  }

  private turnWindow(now: number): void {
    if (now - this.windowStart < WINDOW_MS && this.doneNow.size < REMEMBERED) return;
    this.doneBefore = now - this.windowStart < 2 * WINDOW_MS ? this.doneNow : new Map();
    this.doneNow = new Map();
    this.windowStart = now;
    this.done = 0;
    for (const [requester, line] of this.lines) this.done += line.done = this.doneFor(requester);
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    if (this.leftMs === SLICE_MS || this.leftMs >= this.stepMs) {
      queueMicrotask(() => this.run());
      return;
    }
    setImmediate(() => {
      this.leftMs = SLICE_MS;
      this.run();
    });
  }

  private run(): void {
    this.isScheduled = false;
    this.beforeSlice();
    let now = performance.now();
    this.turnWindow(now);
    while (this.lines.size > 0) {
      this.takeTurn();
      const end = performance.now();
      this.stepMs = end - now;
      this.leftMs -= this.stepMs;
      now = end;
      if (this.leftMs < this.stepMs) break;
    }
    if (this.lines.size > 0) this.schedule();
    else if (this.idle.length > 0) for (const wake of this.idle.splice(0)) wake();
  }

  private takeTurn(): void {
    const line = this.next();
    const job = line.jobs[0]!;
    const { requester } = job;
    if (this.lines.size > 1) this.goToEnd(requester, line);
    if (job.expiresAt <= Date.now()) {
      this.remove(line, job);
      job.refuse("expired");
      return;
    }
    const isDone = job.step();
    if (isDone === undefined) return;
    line.done++;
    this.done++;
    this.doneNow.set(requester, (this.doneNow.get(requester) ?? 0) + 1);
    if (isDone) this.remove(line, job);
  }

  /** Whose turn it is. */
  private next(): Line {
    this.isAround = !this.isAround;
    if (this.isAround || this.lines.size === 1) return this.lines.values().next().value!;
    if (this.calm.size > 0) for (const calm of this.calm) return calm;
    let oldest: Line | undefined;
    let seen = 0;
    for (const line of this.lines.values()) {
      if (!oldest || line.jobs[0]!.number! < oldest.jobs[0]!.number!) oldest = line;
      if (++seen === COMPARED) break;
    }
    return oldest!;
  }

  private goToEnd(requester: string, line: Line): void {
    this.lines.delete(requester);
    this.lines.set(requester, line);
    if (this.calm.size > 0) this.calm.delete(line);
    if (CLEARLY_MORE * sizeOf(line) < (this.texts + this.done) / this.lines.size) this.calm.add(line);
  }

  private remove(line: Line, job: Job): void {
    if (line.jobs[0] === job) line.jobs.shift();
    else line.jobs.pop();
    this.add(line, job, -1);
    if (line.jobs.length > 0) return;
    this.lines.delete(job.requester);
    if (this.calm.size > 0) this.calm.delete(line);
    this.fresh.delete(line);
    this.done -= line.done;
  }

  private add(line: Line, { texts, bytes }: Job, sign: 1 | -1): void {
    line.texts += sign * texts;
    this.texts += sign * texts;
    this.bytes += sign * bytes;
  }
}

/** What a requester had of late, and has in line. */
function sizeOf({ texts, done }: Line): number {
  return texts + done;
}

function largest(lines: Iterable<Line>): Line {
  let found: Line | undefined;
  for (const line of lines) if (!found || sizeOf(line) > sizeOf(found)) found = line;
  return found!;
}
