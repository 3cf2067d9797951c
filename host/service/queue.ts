// Requests that wait for the engine, one line for each requester. The lines take
// turns, a text at a time, so that neither a flood nor a large batch delays the
// others by more than one text each; between slices of a few milliseconds the
// event loop gets its turn (PINGRESP, PUBACK, HTTP).
//
// When it is full, the newest job of the longest line is refused: whoever floods
// is told `busy`, and a requester with little in the queue still gets in.
export type Refusal = "busy" | "expired";

export interface Job {
  /** Whose turn it takes. */
  requester: string;
  /** How much work it is, at most, in texts. */
  texts: number;
  bytes: number;
  /** Milliseconds since 1970; not begun later. */
  expiresAt: number;
  /** Does one text, or one forward pass of its explanation; true when the job is done. Never throws. */
  step(): boolean;
  /** Ends a job that is not to be done, or not to its end. */
  refuse(why: Refusal): void;
}

interface Line {
  jobs: Job[];
  texts: number;
}

const SLICE_MS = 4;

export class Queue {
  private readonly capacity: { texts: number; bytes: number };
  // In the order of their turns: the first one is next, and then goes to the end.
  private readonly lines = new Map<string, Line>();
  private texts = 0;
  private bytes = 0;
  private isScheduled = false;
  private idle: (() => void)[] = [];

  constructor(capacity: { texts: number; bytes: number }) {
    this.capacity = capacity;
  }

  /** Texts that wait. */
  get length(): number {
    return this.texts;
  }

  offer(job: Job): void {
    while (this.isFullFor(job)) {
      const longest = this.longestLine();
      // Its own line would be the longest one: nobody else must make room.
      if (!longest || (this.lines.get(job.requester)?.texts ?? 0) + job.texts >= longest.texts) {
        job.refuse("busy");
        return;
      }
      const evicted = longest.jobs.at(-1)!;
      this.remove(longest, evicted);
      evicted.refuse("busy");
    }
    const line = this.lines.get(job.requester);
    if (line) line.jobs.push(job);
    else this.lines.set(job.requester, { jobs: [job], texts: 0 });
    this.add(this.lines.get(job.requester)!, job, 1);
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

  /** An empty queue takes any job: limits of one request are for others to set. */
  private isFullFor({ texts, bytes }: Job): boolean {
    return this.lines.size > 0 && (this.texts + texts > this.capacity.texts || this.bytes + bytes > this.capacity.bytes);
  }

  private longestLine(): Line | undefined {
    let longest: Line | undefined;
    for (const line of this.lines.values()) if (!longest || line.texts > longest.texts) longest = line;
    return longest;
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(() => this.run());
  }

  private run(): void {
    this.isScheduled = false;
    const end = performance.now() + SLICE_MS;
    while (this.lines.size > 0) {
      this.takeTurn();
      if (performance.now() >= end) break;
    }
    if (this.lines.size > 0) this.schedule();
    else for (const wake of this.idle.splice(0)) wake();
  }

  private takeTurn(): void {
    const [requester, line] = this.lines.entries().next().value!;
    const job = line.jobs[0]!;
    if (this.lines.size > 1) {
      this.lines.delete(requester);
      this.lines.set(requester, line);
    }
    if (job.expiresAt <= Date.now()) {
      this.remove(line, job);
      job.refuse("expired");
    } else if (job.step()) this.remove(line, job);
  }

  private remove(line: Line, job: Job): void {
    if (line.jobs[0] === job) line.jobs.shift();
    else line.jobs.pop();
    this.add(line, job, -1);
    if (line.jobs.length === 0) this.lines.delete(job.requester);
  }

  private add(line: Line, { texts, bytes }: Job, sign: 1 | -1): void {
    line.texts += sign * texts;
    this.texts += sign * texts;
    this.bytes += sign * bytes;
  }
}
