import { setImmediate as tick } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Queue } from "../../../../host/service/answer/queue.ts";
import type { Refusal } from "../../../../host/service/answer/queue.ts";

/** Slices are told by it; it stands still but for work(), so that a busy machine changes nothing. */
let clock: number;
beforeEach(() => {
  clock = 100_000;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
});
afterEach(() => void vi.restoreAllMocks());

/** What a text costs, in milliseconds. */
function work(ms: number): void {
  clock += ms;
}

/** Each text takes so many milliseconds. */
function recorder(queue: Queue, ms = 0) {
  const log: string[] = [];
  const offer = (requester: string, name: string, { texts = 1, bytes = 1, expiresAt = Infinity } = {}) => {
    let left = texts;
    queue.offer({
      requester,
      texts,
      bytes,
      expiresAt,
      step() {
        work(ms);
        log.push(name);
        return --left === 0;
      },
      refuse: (why: Refusal) => void log.push(`${name}:${why}`),
    });
  };
  return { log, offer };
}

test("nothing runs before all of a read was offered, then all in order, before the event loop's next turn", async () => {
  const queue = new Queue({ texts: 10, bytes: 100 });
  const { log, offer } = recorder(queue);
  for (const name of ["1", "2", "3"]) offer("a", name);
  expect([log, queue.length]).toEqual([[], 3]);
  await Promise.resolve();
  expect([log, queue.length]).toEqual([["1", "2", "3"], 0]);
});

test("what comes one by one within a turn of the event loop is done at once for a slice, not longer", async () => {
  const queue = new Queue({ texts: 100, bytes: 100 });
  let done = 0;
  const offer = () =>
    queue.offer({
      requester: "a",
      texts: 1,
      bytes: 1,
      expiresAt: Infinity,
      refuse() {},
      step: () => {
        work(1);
        return ++done > 0;
      },
    });
  for (let turn = 1; turn <= 3; turn++) {
    for (let i = 0; i < 10; i++) {
      offer();
      await Promise.resolve();
    }
    expect(done).toBeGreaterThan(0);
    expect(done).toBeLessThanOrEqual(2 + 10 * (turn - 1));
    await queue.drained(1_000);
    expect(done).toBe(10 * turn);
  }
});

test("what comes during a slice is done in it, once, and the slice after finds nothing and does no harm", async () => {
  const queue = new Queue({ texts: 10, bytes: 100 });
  const { log, offer } = recorder(queue);
  queue.offer({
    requester: "a",
    texts: 1,
    bytes: 1,
    expiresAt: Infinity,
    refuse() {},
    step() {
      offer("b", "2");
      log.push("1");
      return true;
    },
  });
  await tick();
  expect([log, queue.length]).toEqual([["1", "2"], 0]);
});

test("requesters take turns, a text at a time, whoever has more", async () => {
  const queue = new Queue({ texts: 100, bytes: 100 });
  const { log, offer } = recorder(queue);
  offer("batch", "B", { texts: 5 });
  for (const name of ["f1", "f2", "f3"]) offer("flood", name);
  offer("late", "L");
  await queue.drained(1_000);
  expect(log).toEqual(["B", "f1", "L", "B", "f2", "f3", "B", "B", "B"]);
});

test("every other turn is for who had clearly less than the others", async () => {
  const queue = new Queue({ texts: 100, bytes: 100 });
  const { log, offer } = recorder(queue);
  for (let i = 1; i <= 6; i++) for (const flood of ["a", "b", "c"]) offer(flood, `${flood}${i}`);
  for (let i = 1; i <= 4; i++) offer("calm", `calm${i}`);
  await queue.drained(1_000);
  expect(log.slice(0, 9)).toEqual(["a1", "calm1", "b1", "calm2", "c1", "calm3", "a2", "calm4", "b2"]);
});

test("every other turn is for the job that has waited longest, where all had about as much", async () => {
  const queue = new Queue({ texts: 100, bytes: 100 });
  const { log, offer } = recorder(queue);
  for (const name of ["a1", "a2", "b", "c", "d", "e", "f"]) offer(name[0]!, name);
  await queue.drained(1_000);
  expect(log).toEqual(["a1", "b", "c", "a2", "d", "e", "f"]);
});

test("full: of all who come together, those with most are told busy before anything is done", async () => {
  const queue = new Queue({ texts: 4, bytes: 100 });
  const { log, offer } = recorder(queue);
  for (const name of ["f1", "f2", "f3", "f4", "f5"]) offer("flood", name);
  for (const name of ["o1", "o2"]) offer("other", name);
  for (const name of ["t1", "t2"]) offer("third", name);
  await Promise.resolve();
  expect(log).toEqual(["f5:busy", "f4:busy", "f3:busy", "f2:busy", "o2:busy", "f1", "o1", "t1", "t2"]);
});

test("full: who has waited goes for one who had clearly less, not for one who had about as much", async () => {
  const queue = new Queue({ texts: 2, bytes: 100 });
  const { log, offer } = recorder(queue, 3);
  for (const name of ["a1", "a2"]) offer("a", name);
  await Promise.resolve();
  expect(log).toEqual(["a1"]);
  for (const name of ["b1", "b2"]) offer("b", name);
  await Promise.resolve();
  expect(log.slice(1)).toEqual(["b2:busy"]);
  offer("c", "c1");
  await Promise.resolve();
  expect(log.slice(2)).toEqual(["a2:busy"]);
  await queue.drained(1_000);
  expect(log.slice(3)).toEqual(["b1", "c1"]);
});

test("a modest job makes nobody go, and turns in which it lets others go first are not counted", async () => {
  const queue = new Queue({ texts: 4, bytes: 100 });
  const { log, offer } = recorder(queue);
  offer("flood", "f", { texts: 3 });
  queue.offer({
    requester: "modest",
    texts: 2,
    bytes: 1,
    isModest: true,
    expiresAt: Infinity,
    step: () => true,
    refuse: (why) => void log.push(`m:${why}`),
  });
  expect(log).toEqual(["m:busy"]);
  let turns = 0;
  queue.offer({
    requester: "waits",
    texts: 1,
    bytes: 1,
    expiresAt: Infinity,
    step: () => (turns++ < 10 ? undefined : true),
    refuse: (why) => void log.push(`w:${why}`),
  });
  await tick();
  expect([turns, queue.length]).toEqual([11, 0]);
  // Of these two the one that had three texts goes, not the one that had eleven turns and one text.
  offer("flood", "g", { texts: 2 });
  offer("waits", "w", { texts: 2 });
  offer("third", "t");
  await tick();
  expect(log.slice(4)).toEqual(["g:busy", "w", "t", "w"]);
});

test("bytes count too, and a job that is alone may have any size", async () => {
  const queue = new Queue({ texts: 3, bytes: 10 });
  const { log, offer } = recorder(queue);
  offer("a", "huge", { texts: 7, bytes: 1000 });
  offer("b", "small");
  await tick();
  expect(log).toEqual(["huge:busy", "small"]);
  offer("c", "large", { texts: 4, bytes: 1000 });
  await tick();
  expect(log.slice(2)).toEqual(["large", "large", "large", "large"]);
});

test("what is too late is not begun", async () => {
  const queue = new Queue({ texts: 10, bytes: 100 });
  const { log, offer } = recorder(queue);
  offer("a", "late", { expiresAt: performance.now() - 1 });
  offer("a", "in time", { expiresAt: performance.now() + 60_000 });
  await tick();
  expect(log).toEqual(["late:expired", "in time"]);
});

test("a long line is done in slices: timers come in between", async () => {
  const many = 20_000;
  const queue = new Queue({ texts: many, bytes: many });
  let done = 0;
  for (let i = 0; i < many; i++) {
    queue.offer({
      requester: "a",
      texts: 1,
      bytes: 1,
      expiresAt: Infinity,
      refuse() {},
      step() {
        work(2);
        done++;
        return true;
      },
    });
  }
  // A timer, the thing itself.
  await new Promise((resolve) => {
    setTimeout(resolve, 1);
  });
  await tick();
  expect(done).toBeGreaterThan(0);
  expect(done).toBeLessThan(many);
  await queue.drained(10_000);
  expect(done).toBe(many);
});

test("more floods than places: each gets a like share, and who wants less than that gets it all", async () => {
  const queue = new Queue({ texts: 4, bytes: 1000 });
  const [done, refused] = [new Map<string, number>(), new Map<string, number>()];
  const add = (counts: Map<string, number>, requester: string) =>
    counts.set(requester, (counts.get(requester) ?? 0) + 1);
  const offer = (requester: string) =>
    queue.offer({
      requester,
      texts: 1,
      bytes: 1,
      expiresAt: Infinity,
      refuse: () => add(refused, requester),
      step: () => {
        // Longer than a slice: one text, and then those who knock.
        work(4);
        add(done, requester);
        return true;
      },
    });
  const floods = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
  for (let turn = 0; turn < 200; turn++) {
    for (const flood of floods) offer(flood);
    if (turn % 20 === 10) offer("calm");
    await tick();
  }
  await queue.drained(1_000);
  expect(done.get("calm")).toBe(10);
  expect(refused.get("calm")).toBeUndefined();
  const shares = floods.map((flood) => done.get(flood)!);
  expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(3);
});

/** One more text done or refused for each that is; the share of each requester. */
async function shares(waiting: Record<string, number>, turns: number): Promise<Record<string, number>> {
  const queue = new Queue({ texts: 1_000, bytes: 1_000 });
  const done: Record<string, number> = {};
  let left = turns;
  const offer = (requester: string): void =>
    queue.offer({
      requester,
      texts: 1,
      bytes: 0,
      expiresAt: Infinity,
      refuse() {},
      step: () => {
        done[requester] = (done[requester] ?? 0) + 1;
        if (--left > 0) offer(requester);
        return true;
      },
    });
  for (const [requester, count] of Object.entries(waiting)) for (let i = 0; i < count; i++) offer(requester);
  await queue.drained(10_000);
  return done;
}

test("a flood gets no more than about twice what each of many others gets, who always have some in line", async () => {
  const others = Array.from({ length: 15 }, (_, i) => `other ${i}`);
  const done = await shares({ flood: 200, ...Object.fromEntries(others.map((each) => [each, 4])) }, 20_000);
  expect(done.flood!).toBeLessThan(2.5 * Math.min(...others.map((each) => done[each]!)));
});

test("a modest job gets no turn for its age", async () => {
  const queue = new Queue({ texts: 100, bytes: 100 });
  const log: string[] = [];
  for (const name of ["m1", "m2", "a1", "a2", "b1", "b2"])
    queue.offer({
      requester: name[0]!,
      texts: 1,
      bytes: 1,
      isModest: name[0] === "m",
      expiresAt: Infinity,
      refuse() {},
      step: () => log.push(name) > 0,
    });
  await queue.drained(1_000);
  expect(log).toEqual(["m1", "a1", "b1", "a2", "m2", "b2"]);
});

test("what was done is remembered for a window or two, and who had it no longer", async () => {
  const queue = new Queue({ texts: 2, bytes: 100 });
  const { log, offer } = recorder(queue);
  const at = async (seconds: number, ...names: string[]) => {
    clock = 100_000 + 1_000 * seconds;
    log.length = 0;
    for (const name of names) offer(name[0]!, name);
    await tick();
    expect(queue["done"]).toBeCloseTo(0);
    return log.filter((each) => each.endsWith("busy"));
  };
  await at(0, "a");
  for (let i = 0; i < 10; i++) await at(1, "a");
  expect(await at(1, "a1", "b1", "b2")).toEqual(["a1:busy"]);
  await at(6, "b");
  expect(await at(7, "a1", "b1", "b2")).toEqual(["a1:busy"]);
  // Of that, too little is in sight.
  expect(await at(10.9, "a1", "d1", "d2")).toEqual(["d2:busy"]);
  for (let i = 0; i < 10; i++) await at(11, "e");
  await at(30, "c");
  expect(await at(30, "e1", "f1", "f2")).toEqual(["f2:busy"]);
  expect([...queue["requesters"].keys()].sort()).toEqual(["c", "e", "f"]);
  await at(60, "z");
  expect([...queue["requesters"].keys()]).toEqual(["z"]);
});

test("what a step offers waits like all else, also where it is done in the same slice", async () => {
  const queue = new Queue({ texts: 2, bytes: 100 });
  const { log, offer } = recorder(queue);
  const offerThen = (name: string, then: () => void) =>
    queue.offer({
      requester: "a",
      texts: 1,
      bytes: 1,
      expiresAt: Infinity,
      refuse() {},
      step: () => {
        log.push(name);
        then();
        return true;
      },
    });
  offerThen("a1", () => {
    offerThen("a2", () => {});
    offerThen("a3", () => {
      for (const name of ["b1", "b2", "c1", "c2"]) offer(name[0]!, name);
      work(4);
    });
  });
  await queue.drained(1_000);
  expect(log).toEqual(["a1", "a2", "a3", "b2:busy", "c2:busy", "b1", "c1"]);
});

test("drained gives up in time", async () => {
  const queue = new Queue({ texts: 1000, bytes: 1000 });
  let isOver = false;
  const step = () => {
    work(1);
    return isOver;
  };
  queue.offer({ requester: "a", texts: 1, bytes: 1, expiresAt: Infinity, refuse() {}, step });
  await queue.drained(50);
  expect(queue.length).toBe(1);
  isOver = true;
  await queue.drained(1_000);
  expect(queue.length).toBe(0);
});
