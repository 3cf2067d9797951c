// Requests that wait for the engine. Each requester has a line of its own, and a turn is one text.
// Every second turn goes to the lines in rotation, so that neither a flood nor a large batch
// delays anyone by more than two texts for each line. The turns in between go to requesters with
// clearly less work than the average, so that a calm requester hardly notices a flood. When there
// is none, they go to the job that has waited longest, so that the second job of a line need not
// wait for two whole rotations.
//
// A requester's work is what it has in line and what was done for it in the last seconds.
//
// Work is done in slices of a few milliseconds; between two slices the event loop gets its turn
// (PINGRESP, PUBACK, HTTP). The first slice begins when all packets of a read from the socket
// have been offered.
//
// When the queue is full, the jobs that have just come are judged together before the next slice:
// of the newcomers, the one with most work has its newest job refused. A job that has waited is
// refused only when its requester has clearly more work than that newcomer, because a refusal is
// of use only when it is prompt. So whoever floods is told `busy`, and a requester below its share
// gets in, even where there are more requesters than places.
export type Refusal = "busy" | "expired";

export interface Job {
  /** In whose line it waits. */
  requester: string;
  /** How much work it is, at most, in texts. */
  texts: number;
  bytes: number;
  /** Refused at once when the queue is full, whoever else is there; gets no turn because it has waited longest. */
  isModest?: boolean;
  /** By performance.now(), as all deadlines here: a clock that is set must not end any. After that it is refused as expired. */
  expiresAt: number;
  /** Given by the queue, in the order in which jobs come. */
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
/** With so many times the average, a requester gets no turn for the age of its jobs: a long line always has an old one. */
const TOO_MUCH = 2;
/** Only the next lines in rotation are searched for the oldest job, so that a turn costs the same however many wait. */
const COMPARED = 16;
/** Texts that are done count for one to two windows. */
const WINDOW_MS = 5_000;
/** A window ends early after so many new requesters, which bounds the memory for them. */
const REMEMBERED = 5_000;

export class Queue {
  /** Called before a slice, so that answers which are ready go out first. */
  beforeSlice = () => {};
  private readonly capacity: { texts: number; bytes: number };
  // These are arrays because V8's sets keep garbage alive: a set that gets and loses an entry with every
  // request replaces its table again and again, each old table points to the next one, and once one of them
  // is in the old generation, all that later tables held survives each collection of the young one.
  /** Requesters that wait, in rotation: the first one is next and then goes to the end. */
  private readonly lines: Line[] = [];
  /** Those of them with clearly less work than the average. */
  private readonly calm: Line[] = [];
  /** Those of them with jobs that have come since the last slice. */
  private readonly fresh: Line[] = [];
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

  /** For what can wait elsewhere, so that it keeps nobody out. */
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
    if (this.fresh.length === 0) queueMicrotask(() => this.makeRoom());
    if (line.fresh++ === 0) this.fresh.push(line);
    this.schedule();
  }

  /** Resolves when nothing waits, or after `timeoutMs`. */
  drained(timeoutMs: number): Promise<void> {
    if (this.lines.length === 0) return Promise.resolve();
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
      this.lines.length > 0 && (this.texts + texts > this.capacity.texts || this.bytes + bytes > this.capacity.bytes)
    );
  }

  /** A job that is alone may have any size: the size of a single request is limited elsewhere. */
  private get isOverfull(): boolean {
    if (this.texts <= this.capacity.texts && this.bytes <= this.capacity.bytes) return false;
    return this.lines.length > 1 || this.lines[0]!.jobs.length > 1;
  }

  private makeRoom(): void {
    while (this.isOverfull && this.fresh.length > 0) {
      const newcomer = largest(this.fresh);
      const any = largest(this.lines);
      const line = CLEARLY_MORE * sizeOf(newcomer) < sizeOf(any) ? any : newcomer;
      const refused = line.jobs.at(-1)!;
      this.remove(line, refused);
      refused.refuse("busy");
    }
    for (const line of this.fresh) line.fresh = 0;
    this.fresh.length = 0;
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
    this.beforeSlice();
    let now = performance.now();
    this.turnWindow(now);
    while (this.lines.length > 0) {
      this.takeTurn();
      const end = performance.now();
      this.stepMs = end - now;
      this.leftMs -= this.stepMs;
      now = end;
      if (this.leftMs < this.stepMs) break;
    }
    if (this.lines.length > 0) this.schedule();
    else if (this.idle.length > 0) for (const wake of this.idle.splice(0)) wake();
  }

  private takeTurn(): void {
    const line = this.next();
    const job = line.jobs[0]!;
    if (this.lines.length > 1) {
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
    if (this.isAround || lines.length === 1) return lines[0]!;
    if (calm.length > 0) return calm[0]!;
    const most = TOO_MUCH * this.average;
    let oldest: Line | undefined;
    for (let i = 0; i < lines.length && i < COMPARED; i++) {
      const line = lines[i]!;
      const job = line.jobs[0]!;
      if (job.isModest || sizeOf(line) > most) continue;
      if (!oldest || job.number! < oldest.jobs[0]!.number!) oldest = line;
    }
    return oldest ?? lines[0]!;
  }

  private get average(): number {
    return (this.texts + this.done) / this.lines.length;
  }

  private goToEnd(line: Line): void {
    this.lines.push(line);
    if (CLEARLY_MORE * sizeOf(line) < this.average) this.calm.push(line);
  }

  private leave(line: Line): void {
    drop(this.lines, line);
    drop(this.calm, line);
  }

  private remove(line: Line, job: Job): void {
    const isNewest = line.jobs.at(-1) === job;
    if (isNewest) line.jobs.pop();
    else line.jobs.shift();
    this.add(line, job, -1);
    if (line.fresh > 0) {
      line.fresh = isNewest ? line.fresh - 1 : Math.min(line.fresh, line.jobs.length);
      if (line.fresh === 0) drop(this.fresh, line);
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

function largest(lines: readonly Line[]): Line {
  let found = lines[0]!;
  for (const line of lines) if (sizeOf(line) > sizeOf(found)) found = line;
  return found;
}

function drop(lines: Line[], line: Line): void {
  const at = lines.indexOf(line);
  if (at === 0) lines.shift();
  else if (at > 0) lines.splice(at, 1);
}
