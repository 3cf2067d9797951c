import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { RememberedAnswers } from "../../../../host/service/answer/answer-cache.ts";

const request = { topic: "q", contentType: undefined, correlationData: Buffer.from("7"), payload: Buffer.from("win") };

/** A request of its own for every name. */
const named = (payload: string) => ({ ...request, payload: Buffer.from(payload) });

test("an answer is for the same topics, content type, correlation data and text only", () => {
  const remembered = new RememberedAnswers({ answers: 100, bytes: 10_000, ms: 60_000 });
  const long = "x".repeat(600);
  const others = [
    [request, "r/2"],
    [{ ...request, topic: "q/m" }, "r/1"],
    [{ ...request, topic: "" }, "qr/1"],
    [{ ...request, topic: "qr" }, "/1"],
    [{ ...request, contentType: "text/plain" }, "r/1"],
    [{ ...request, correlationData: Buffer.from("8") }, "r/1"],
    [{ ...request, correlationData: undefined }, "r/1"],
    [{ ...request, correlationData: Buffer.from("7w"), payload: Buffer.from("in") }, "r/1"],
    [{ ...request, correlationData: Buffer.from([55, 0]) }, "r/1"],
    [named("wim"), "r/1"],
    [named("win\0"), "r/1"],
    [named(""), "r/1"],
    [named(`${long}a`), "r/1"],
    [named(`${long}b`), "r/1"],
    [{ ...request, topic: long }, "r/1"],
    [request, long],
    [{ ...request, correlationData: Buffer.from(long) }, "r/1"],
  ] as const;
  remembered.set(request, "r/1", "first");
  for (const [each, topic] of others) expect(remembered.get(each, topic)).toBeUndefined();
  for (const [i, [each, topic]] of others.entries()) remembered.set(each, topic, `answer ${i}`);
  for (const [i, [each, topic]] of others.entries())
    expect(remembered.get({ ...each, payload: Buffer.from(each.payload) }, topic)).toBe(`answer ${i}`);
  expect(remembered.get(request, "r/1")).toBe("first");
  remembered.set(request, "r/1", "another");
  expect([remembered.get(request, "r/1"), remembered.length]).toEqual(["first", 1 + others.length]);
});

test("the oldest are forgotten when there are too many, or too many bytes, and all after their time", async () => {
  const few = new RememberedAnswers({ answers: 3, bytes: 10_000, ms: 60_000 });
  for (const name of ["a", "b", "c", "d"]) few.set(named(name), "r", `${name}!`);
  expect([few.length, ...["a", "b", "c", "d"].map((name) => few.get(named(name), "r"))]).toEqual([
    3,
    undefined,
    "b!",
    "c!",
    "d!",
  ]);

  const small = new RememberedAnswers({ answers: 100, bytes: 1_000, ms: 60_000 });
  small.set(named("a"), "r", "a!");
  small.set(named("huge"), "r", "é".repeat(460));
  expect([small.get(named("a"), "r"), small.get(named("huge"), "r")?.length, small.length]).toEqual([
    undefined,
    460,
    1,
  ]);
  small.set(named("larger than all"), "r", "x".repeat(1_000));
  expect([small.get(named("larger than all"), "r"), small.get(named("huge"), "r")?.length]).toEqual([undefined, 460]);

  const brief = new RememberedAnswers({ answers: 3, bytes: 1_000, ms: 60_000 });
  brief.set(named("a"), "r", "a!");
  expect(brief.get(named("a"), "r")).toBe("a!");
  const now = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(now + 60_001);
  expect(brief.get(named("a"), "r")).toBeUndefined();
  brief.set(named("b"), "r", "b!");
  brief.set(named("a"), "r", "a?");
  expect([brief.length, brief.get(named("a"), "r")]).toEqual([2, "a?"]);
  clock.mockRestore();
});

test("never a wrong answer, and always that of the last ones, as a map of all has them", () => {
  const step = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 200 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.integer({ min: 1, max: 20 }), (steps, answers) => {
      const bytes = 2_048;
      const remembered = new RememberedAnswers({ answers, bytes, ms: 60_000 });
      const twin = new Map<number, string>();
      for (const [i, [name, length]] of steps.entries()) {
        const each = named(`text ${name}`);
        const answer = `${i} ${"x".repeat(length)}`;
        const found = remembered.get(each, "r");
        // The newest, up to half of the bytes with what a record has besides, are all there.
        const kept = new Set<number>();
        let room = bytes / 2;
        for (const [key, text] of [...twin].reverse()) {
          room -= text.length + 72;
          if (room < 0 || kept.size === answers) break;
          kept.add(key);
        }
        if (found === undefined) {
          expect(kept.has(name)).toBe(false);
          twin.delete(name);
          twin.set(name, answer);
        } else expect(found).toBe(twin.get(name));
        remembered.set(each, "r", answer);
        expect(remembered.get(each, "r")).toBe(twin.get(name));
        expect(remembered.length).toBeLessThanOrEqual(answers);
      }
    }),
    { numRuns: 300 },
  );
});

test("who makes up keys that meet in one chain has the last ones remembered only, and harms nobody else", () => {
  const remembered = new RememberedAnswers({ answers: 1_000, bytes: 1_000_000, ms: 60_000 });
  const others = Array.from({ length: 20 }, (_, i) => named(`text ${i}`));
  for (const each of others) remembered.set(each, "r", "another's");
  // A word's highest bit ends up in two bits of the hash, whatever the seed, and the next word can take it back.
  const colliding = Array.from({ length: 256 }, (_, choice) => {
    const payload = Buffer.alloc(64);
    for (let pair = 0; pair < 8; pair++) {
      if ((choice & (1 << pair)) === 0) continue;
      payload.writeUInt32LE(0x8000_0000, 8 * pair);
      payload.writeUInt32LE(0x8001_0000, 8 * pair + 4);
    }
    // The text begins at a word.
    return { ...request, topic: "qqqq", payload };
  });
  for (const [i, each] of colliding.entries()) remembered.set(each, "r", `answer ${i}`);
  const found = colliding.map((each) => remembered.get(each, "r") !== undefined);
  expect([found.indexOf(true), found.lastIndexOf(false)]).toEqual([256 - 32, 256 - 32 - 1]);
  // One of a thousand may have his in that chain.
  expect(others.filter((each) => remembered.get(each, "r") === "another's").length).toBeGreaterThan(17);
});

test("keys about as long as those that stand for themselves are told apart to their last byte", () => {
  for (const topic of ["q", "☂".repeat(100)]) {
    for (let length = 0; length < 520; length++) {
      const remembered = new RememberedAnswers({ answers: 10, bytes: 10_000, ms: 60_000 });
      const texts = [`${"x".repeat(length)}a`, `${"x".repeat(length)}b`];
      for (const text of texts) remembered.set({ ...named(text), topic }, "r", text);
      for (const text of texts) expect(remembered.get({ ...named(text), topic }, "r")).toBe(text);
    }
  }
  // Digests are of all parts, and of where each one ends.
  const payload = Buffer.alloc(600);
  const alike = [
    { ...request, payload },
    { ...request, payload, topic: "p" },
    { ...request, payload, contentType: "text/plain" },
    { ...request, payload, topic: "qr" },
  ] as const;
  const remembered = new RememberedAnswers({ answers: 10, bytes: 10_000, ms: 60_000 });
  for (const [i, each] of alike.entries()) remembered.set(each, i === 3 ? "r" : "rr", String(i));
  for (const [i, each] of alike.entries()) expect(remembered.get(each, i === 3 ? "r" : "rr")).toBe(String(i));
});

test("a ring that has become empty by time goes on in the right place", () => {
  vi.useFakeTimers();
  try {
    const remembered = new RememberedAnswers({ answers: 10, bytes: 1_000, ms: 10 });
    for (let i = 0; i < 200; i++) {
      if (i % 7 === 0) vi.advanceTimersByTime(20);
      remembered.set(named(`text ${i}`), "r", "x".repeat(i));
      expect([remembered.get(named(`text ${i}`), "r")?.length, remembered.length > 0]).toEqual([i, true]);
      if (i % 7 > 0) expect(remembered.get(named(`text ${i - 1}`), "r")?.length).toBe(i - 1);
    }
  } finally {
    vi.useRealTimers();
  }
});
