import fc from "fast-check";
import { expect, test } from "vitest";
import { RateLimit } from "../../../host/service/rate.ts";

/** A limit whose clock is `clock.ms`. */
function limited(textsPerSecond: number): { rate: RateLimit; clock: { ms: number } } {
  const clock = { ms: 1_000_000 };
  return { rate: new RateLimit(textsPerSecond, () => clock.ms), clock };
}

test("a second's worth at once, then one at a time, each requester for itself", () => {
  const { rate, clock } = limited(10);
  for (let i = 0; i < 10; i++) expect(rate.take("a", 1)).toBe(0);
  expect(rate.take("a", 1)).toBe(100);
  expect(rate.take("b", 1)).toBe(0);
  clock.ms += 99;
  expect(rate.take("a", 1)).toBe(1);
  clock.ms += 1;
  expect(rate.take("a", 1)).toBe(0);
  expect(rate.take("a", 1)).toBe(100);
  clock.ms += 60_000;
  for (let i = 0; i < 10; i++) expect(rate.take("a", 1)).toBe(0);
  expect(rate.take("a", 1)).toBe(100);
});

test("a batch larger than the bucket passes, and is paid for", () => {
  const { rate, clock } = limited(10);
  expect(rate.take("a", 50)).toBe(0);
  expect(rate.take("a", 1)).toBe(4_100);
  clock.ms += 4_100;
  expect(rate.take("a", 1)).toBe(0);
});

test("slow rates: one text, then a wait", () => {
  const { rate, clock } = limited(1);
  expect([rate.take("a", 1), rate.take("a", 1)]).toEqual([0, 1_000]);
  clock.ms += 1_000;
  expect(rate.take("a", 1)).toBe(0);
});

test("no limit", () => {
  const { rate } = limited(Infinity);
  for (let i = 0; i < 1_000; i++) expect(rate.take("a", 256)).toBe(0);
});

test("whatever comes, no more passes than the time pays for, and who waits as told is served", () => {
  const step = fc.record({ texts: fc.integer({ min: 1, max: 40 }), gap: fc.integer({ min: 0, max: 500 }) });
  fc.assert(fc.property(fc.integer({ min: 1, max: 100 }), fc.array(step, { maxLength: 100 }), (textsPerSecond, steps) => {
    const { rate, clock } = limited(textsPerSecond);
    const start = clock.ms;
    let passed = 0;
    for (const { texts, gap } of steps) {
      clock.ms += gap;
      const waitMs = rate.take("a", texts);
      if (waitMs > 0) {
        clock.ms += waitMs;
        // The sum of floats may be short by a hair.
        clock.ms += 0.001;
        expect(rate.take("a", texts)).toBe(0);
      }
      expect(passed).toBeLessThanOrEqual(textsPerSecond * ((clock.ms - start) / 1_000 + 1) + 0.01);
      passed += texts;
    }
  }), { seed: 7, numRuns: 500 });
});

test("a crowd of requesters takes bounded memory, and who was just here is still known", () => {
  const { rate } = limited(1);
  for (let i = 0; i < 100_000; i++) {
    rate.take(`r${i}`, 1);
    if (i % 1_000 === 0) expect(rate.take(`r${i}`, 1)).toBeGreaterThan(0);
  }
  const { recent, older } = rate as unknown as { recent: Map<string, number>; older: Map<string, number> };
  expect(recent.size + older.size).toBeLessThanOrEqual(10_000);
});
