// Requests that wait for the engine: a fair queue with a line for each requester. A turn is one text.
// Every second turn goes round the lines, so that neither a flood nor a large batch delays anyone
// by more than two texts per line. The turns in between go to requesters with clearly less work
// than the average, so that they hardly notice a flood. If there are none, they go to the oldest
// job, so that a requester's second job need not wait for two whole rounds.
//
// A requester's work is what it has in line, and what was done for it in the last seconds.
//
// Work is done in slices of a few milliseconds, between which the event loop runs (PINGRESP, PUBACK,
// HTTP). The first slice begins when all packets of a read from the socket have been offered.
//
// When the queue is full, all jobs that have arrived since the last slice are judged together: the
// newcomer with the most work has its newest job refused. A job that has been waiting is refused
// only if its requester has clearly more work than that newcomer, because refusals should be prompt.
// So a requester that floods gets `busy`, and one below its share gets in, even when there are
// more requesters than places.
export type Refusal = "busy" | "expired";

export interface Job {
  /** Whose line it waits in. */
  requester: string;
  /** Upper bound of its work, in texts. */
  texts: number;
  bytes: number;
  /** Gives way: refused at once when the queue is full, and gets no oldest-first turns. */
  isModest?: boolean;
  /** By performance.now(), like all deadlines here, so that setting the clock ends none. Refused as expired after that. */
  expiresAt: number;
  /** Set by the queue, in order of arrival. */
  number?: number;
  /** Does one text, or one forward pass of its explanation. Returns true when the job is done, undefined when it could do nothing yet. Never throws. */
  step(): boolean | undefined;
  /** Ends a job that will not be finished. */
  refuse(why: Refusal): void;
}

interface Line {
  jobs: Job[];
  texts: number;
  /** Texts done for this requester in this window, and in the one before. */
  doneNow: number;
  doneBefore: number;
  /** Texts done in the last seconds: estimated from both windows when the requester gets in line or the window turns, counted since. */
  done: number;
  /** How many of its jobs, the last ones in line, have come since the last slice. */
  fresh: number;
}

const SLICE_MS = 2;
const CLEARLY_MORE = 1.25;
/** Requesters above this multiple of the average work get no oldest-first turns: a long line always has an old job. */
const TOO_MUCH = 2;
/** Lines that are searched for the oldest job, so that a turn costs the same however many wait. */
const COMPARED = 16;
/** Finished texts count for one to two windows. */
const WINDOW_MS = 5_000;
/** New requesters after which a window ends early, which bounds the memory for them. */
const REMEMBERED = 5_000;

export class Queue {
  private readonly capacity: { texts: number; bytes: number };
  /** Requesters that wait, in rotation: the first one is next and then goes to the end. */
  private readonly lines = new Set<Line>();
  /** Those of them with clearly less work than the average. */
  private readonly calm = new Set<Line>();
  /** Those of them with jobs that have come since the last slice. */
  private readonly fresh = new Set<Line>();
  /** All requesters that wait or had texts done in the last seconds. */
  private readonly requesters = new Map<string, Line>();
  private windowStart = 0;
  private comeInWindow = 0;
  private offered = 0;
  private isAround = false;
  private texts = 0;
  private bytes = 0;
  /** Sum of `done` of those in line. */
  private done = 0;
  private isScheduled = false;
  /** What is left of the slice. A slice does at least one text, and goes on while the next one is likely to fit. */
  private leftMs = SLICE_MS;
  /** Duration of the last text. */
  private stepMs = 0;
  private idle: (() => void)[] = [];

  constructor(capacity: { texts: number; bytes: number }) {
    this.capacity = capacity;
  }

  /** Texts that wait. */
  get length(): number {
    return this.texts;
  }

  /** Less than half full: for routes, whose messages can wait elsewhere. */
  get hasRoomToSpare(): boolean {
    return this.texts < this.capacity.texts / 2 && this.bytes < this.capacity.bytes / 2;
  }

  offer(job: Job): void {
    if (job.isModest && this.isFullFor(job)) {
      job.refuse("busy");
      return;
    }
    const line = this.lineOf(job.requester);
    job.number = this.offered++;
    line.jobs.push(job);
    this.add(line, job, 1);
    if (line.jobs.length === 1) {
      this.countDone(line);
      this.goToEnd(line);
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
    return (
      this.lines.size > 0 && (this.texts + texts > this.capacity.texts || this.bytes + bytes > this.capacity.bytes)
    );
  }

  /** A job that is alone may have any size: the size of a single request is limited elsewhere. */
  private get isOverfull(): boolean {
    if (this.texts <= this.capacity.texts && this.bytes <= this.capacity.bytes) return false;
    return this.lines.size > 1 || first(this.lines).jobs.length > 1;
  }

  private makeRoom(): void {
    while (this.isOverfull && this.fresh.size > 0) {
      const newcomer = largest(this.fresh);
      const any = largest(this.lines);
      const line = CLEARLY_MORE * sizeOf(newcomer) < sizeOf(any) ? any : newcomer;
      const refused = line.jobs.at(-1)!;
      this.remove(line, refused);
      refused.refuse("busy");
    }
    for (const line of this.fresh) line.fresh = 0;
    this.fresh.clear();
  }

  private lineOf(requester: string): Line {
    let line = this.requesters.get(requester);
    if (!line) {
      this.requesters.set(requester, (line = { jobs: [], texts: 0, doneNow: 0, doneBefore: 0, done: 0, fresh: 0 }));
      this.comeInWindow++;
    }
    return line;
  }

  /** Estimates the texts of the last WINDOW_MS: those of this window, and of the one before the share that it still overlaps. */
  private countDone(line: Line): void {
    line.done = line.doneNow;
    if (line.doneBefore > 0)
      line.done += line.doneBefore * Math.max(0, 1 - (performance.now() - this.windowStart) / WINDOW_MS);
    this.done += line.done;
  }

  private turnWindow(now: number): void {
    if (now - this.windowStart < WINDOW_MS && this.comeInWindow < REMEMBERED) return;
    const isNext = now - this.windowStart < 2 * WINDOW_MS;
    for (const [requester, line] of this.requesters) {
      line.doneBefore = isNext ? line.doneNow : 0;
      line.doneNow = 0;
      if (line.doneBefore === 0 && line.jobs.length === 0) this.requesters.delete(requester);
    }
    this.windowStart = now;
    this.comeInWindow = 0;
    this.done = 0;
    for (const line of this.lines) this.countDone(line);
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
    if (this.lines.size > 1) {
      this.leave(line);
      this.goToEnd(line);
    }
    if (job.expiresAt <= performance.now()) {
      this.remove(line, job);
      job.refuse("expired");
      return;
    }
    const isDone = job.step();
    if (isDone === undefined) return;
    line.doneNow++;
    line.done++;
    this.done++;
    if (isDone) this.remove(line, job);
  }

  /** The line whose turn it is. */
  private next(): Line {
    const { lines, calm } = this;
    this.isAround = !this.isAround;
    if (this.isAround || lines.size === 1) return first(lines);
    if (calm.size > 0) return first(calm);
    const most = TOO_MUCH * this.average;
    let oldest: Line | undefined;
    let compared = 0;
    for (const line of lines) {
      if (++compared > COMPARED) break;
      const job = line.jobs[0]!;
      if (job.isModest || sizeOf(line) > most) continue;
      if (!oldest || job.number! < oldest.jobs[0]!.number!) oldest = line;
    }
    return oldest ?? first(lines);
  }

  private get average(): number {
    return (this.texts + this.done) / this.lines.size;
  }

  private goToEnd(line: Line): void {
    this.lines.add(line);
    if (CLEARLY_MORE * sizeOf(line) < this.average) this.calm.add(line);
  }

  private leave(line: Line): void {
    this.lines.delete(line);
    this.calm.delete(line);
  }

  private remove(line: Line, job: Job): void {
    const isNewest = line.jobs.at(-1) === job;
    if (isNewest) line.jobs.pop();
    else line.jobs.shift();
    this.add(line, job, -1);
    if (line.fresh > 0) {
      line.fresh = isNewest ? line.fresh - 1 : Math.min(line.fresh, line.jobs.length);
      if (line.fresh === 0) this.fresh.delete(line);
    }
    if (line.jobs.length > 0) return;
    this.done -= line.done;
    this.leave(line);
  }

  private add(line: Line, { texts, bytes }: Job, sign: 1 | -1): void {
    line.texts += sign * texts;
    this.texts += sign * texts;
    this.bytes += sign * bytes;
  }
}

/** A requester's work: texts in line, and done in the last seconds. */
function sizeOf({ texts, done }: Line): number {
  return texts + done;
}

function first(lines: ReadonlySet<Line>): Line {
  return lines.values().next().value!;
}

function largest(lines: ReadonlySet<Line>): Line {
  let found = first(lines);
  for (const line of lines) if (sizeOf(line) > sizeOf(found)) found = line;
  return found;
}
