import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { AnswerCache, requestKey } from "../../../../host/service/answer/answer-cache.ts";

const request = { topic: "q", contentType: undefined, correlationData: Buffer.from("7"), payload: Buffer.from("win") };

/** The key of a request of its own for every name. */
const key = (name: string) => requestKey({ ...request, payload: Buffer.from(name) }, "r");

test("an answer is for the same topics, content type, correlation data and text only", () => {
  const cache = new AnswerCache({ answers: 100, bytes: 100_000, ms: 60_000 });
  const named = (payload: string) => ({ ...request, payload: Buffer.from(payload) });
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
  cache.set(requestKey(request, "r/1"), "first");
  for (const [each, topic] of others) expect(cache.get(requestKey(each, topic))).toBeUndefined();
  for (const [i, [each, topic]] of others.entries()) cache.set(requestKey(each, topic), `answer ${i}`);
  for (const [i, [each, topic]] of others.entries())
    expect(cache.get(requestKey({ ...each, payload: Buffer.from(each.payload) }, topic))).toBe(`answer ${i}`);
  expect(cache.get(requestKey(request, "r/1"))).toBe("first");
  cache.set(requestKey(request, "r/1"), "another");
  expect([cache.get(requestKey(request, "r/1")), cache.length]).toEqual(["first", 1 + others.length]);
});

test("the oldest are forgotten when there are too many, or too many bytes, and all after their time", () => {
  const few = new AnswerCache({ answers: 3, bytes: 10_000, ms: 60_000 });
  for (const name of ["a", "b", "c", "d"]) few.set(key(name), `${name}!`);
  expect([few.length, ...["a", "b", "c", "d"].map((name) => few.get(key(name)))]).toEqual([
    3,
    undefined,
    "b!",
    "c!",
    "d!",
  ]);

  const small = new AnswerCache({ answers: 100, bytes: 1_000, ms: 60_000 });
  small.set(key("a"), "a!");
  small.set(key("large"), "é".repeat(300));
  expect([small.get(key("a")), small.get(key("large"))?.length, small.length]).toEqual([undefined, 300, 1]);
  small.set(key("larger than all"), "x".repeat(1_000));
  expect([small.get(key("larger than all")), small.get(key("large"))?.length]).toEqual([undefined, 300]);

  const brief = new AnswerCache({ answers: 3, bytes: 1_000, ms: 60_000 });
  brief.set(key("a"), "a!");
  expect(brief.get(key("a"))).toBe("a!");
  const now = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(now + 60_001);
  expect(brief.get(key("a"))).toBeUndefined();
  brief.set(key("b"), "b!");
  brief.set(key("a"), "a?");
  expect([brief.length, brief.get(key("a"))]).toEqual([2, "a?"]);
  clock.mockRestore();
});

test("never a wrong answer, and always those of the last requests, as many as there is room for", () => {
  const step = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 200 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.integer({ min: 1, max: 20 }), (steps, answers) => {
      const bytes = 4_096;
      const cache = new AnswerCache({ answers, bytes, ms: 60_000 });
      let twin: [name: number, answer: string][] = [];
      for (const [i, [name, length]] of steps.entries()) {
        const found = twin.find(([each]) => each === name)?.[1];
        expect(cache.get(key(String(name)))).toBe(found);
        const answer = `${i} ${"x".repeat(length)}`;
        cache.set(key(String(name)), answer);
        if (found === undefined) twin.push([name, answer]);
        const size = () => twin.reduce((sum, [, text]) => sum + 200 + 2 * text.length, 0);
        while (twin.length > answers || size() > bytes) twin = twin.slice(1);
        expect(cache.length).toBe(twin.length);
      }
    }),
    { numRuns: 300 },
  );
});

test("a cache that has become empty by time goes on as before", () => {
  vi.useFakeTimers();
  try {
    const cache = new AnswerCache({ answers: 10, bytes: 2_000, ms: 10 });
    for (let i = 0; i < 200; i++) {
      if (i % 7 === 0) vi.advanceTimersByTime(20);
      cache.set(key(`text ${i}`), "x".repeat(i));
      expect([cache.get(key(`text ${i}`))?.length, cache.length > 0]).toEqual([i, true]);
      if (i % 7 > 0) expect(cache.get(key(`text ${i - 1}`))?.length).toBe(i - 1);
    }
  } finally {
    vi.useRealTimers();
  }
});
