// Requests that wait for the engine, one line for each requester. Every other turn, of a text
// each, goes around the lines: neither a flood nor a large batch delays anyone by more than two
// texts a line. The turns between are for whoever had clearly less than the average, so that a
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
  /** Refused at once when the queue is full, whoever else is there, and never ahead of its turn for its age. */
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
  /** Texts done for this requester in this window, and in the one before. */
  doneNow: number;
  doneBefore: number;
  /** Texts done of late: what of both was in sight when it got in line or the window turned, and those since. */
  done: number;
  /** How many of its last jobs have just come. */
  fresh: number;
}

const SLICE_MS = 2;
const CLEARLY_MORE = 1.25;
/** Who had so much more than the average gets no turn for its age: in a long line of its own something is always old. */
const TOO_MUCH = 2;
/** Only so many lines, those next in turn, are searched for the oldest job: a turn costs the same however many wait. */
const COMPARED = 16;
/** What is done is remembered for one to two windows; one ends early when so many requesters have come in it. */
const WINDOW_MS = 5_000;
const REMEMBERED = 5_000;

export class Queue {
  /** Called before a slice: what is ready to go out need not wait for it. */
  beforeSlice = () => {};
  private readonly capacity: { texts: number; bytes: number };
  // Arrays, where sets would do: the table that a busy set has outgrown leads to its next one, so that
  // once one of them is old, the garbage collector takes whatever later ones held for alive.
  /** Who waits, in the order of their turns: the first one is next, and then goes to the end. */
  private readonly lines: Line[] = [];
  /** Those of them with clearly less than the average. */
  private readonly calm: Line[] = [];
  /** Those of them with jobs that have just come. */
  private readonly fresh: Line[] = [];
  /** Who waits or had something done of late. */
  private readonly requesters = new Map<string, Line>();
  private windowStart = 0;
  private comeInWindow = 0;
  private offered = 0;
  private isAround = false;
  private texts = 0;
  private bytes = 0;
  /** Texts done of late for those in line. */
  private done = 0;
  private isScheduled = false;
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
    return this.lines.length > 0 && (this.texts + texts > this.capacity.texts || this.bytes + bytes > this.capacity.bytes);
  }

  /** A job that is alone may have any size: limits of one request are for others to set. */
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
      this.requesters.set(requester, line = { jobs: [], texts: 0, doneNow: 0, doneBefore: 0, done: 0, fresh: 0 });
      this.comeInWindow++;
    }
    return line;
  }

  /** Of the window before, the share that is still in sight. */
  private countDone(line: Line): void {
    line.done = line.doneNow;
    if (line.doneBefore > 0) line.done += line.doneBefore * Math.max(0, 1 - (performance.now() - this.windowStart) / WINDOW_MS);
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
    if (job.expiresAt <= Date.now()) {
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

  /** Whose turn it is. */
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

/** What a requester had of late, and has in line. */
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
