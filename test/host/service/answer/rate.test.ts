import fc from "fast-check";
import { expect, test } from "vitest";
import { RateLimit, shortName } from "../../../../host/service/answer/rate.ts";

/** A limit whose clock is `clock.ms`. */
function limited(textsPerSecond: number, requesters = 1_000): { rate: RateLimit; clock: { ms: number } } {
  const clock = { ms: 1_000_000 };
  return { rate: new RateLimit({ textsPerSecond, requesters }, () => clock.ms), clock };
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
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), fc.array(step, { maxLength: 100 }), (textsPerSecond, steps) => {
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
    }),
    { seed: 7, numRuns: 500 },
  );
});

test("whoever invents a name for each text: all names together get no more than those that are told apart, and one", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 10 }),
      fc.array(fc.integer({ min: 0, max: 200 }), { maxLength: 300 }),
      (textsPerSecond, requesters, gaps) => {
        const { rate, clock } = limited(textsPerSecond, requesters);
        const start = clock.ms;
        let passed = 0;
        for (const [i, gap] of gaps.entries()) {
          clock.ms += gap;
          for (let n = 0; n < 20; n++) if (rate.take(`invented ${i} ${n}`, 1) === 0) passed++;
        }
        expect(passed).toBeLessThanOrEqual((requesters + 1) * textsPerSecond * ((clock.ms - start) / 1_000 + 1));
      },
    ),
    { seed: 8, numRuns: 300 },
  );
});

test("who was here keeps its rate and its line while others invent names; who comes then shares", () => {
  const { rate, clock } = limited(10, 3);
  for (let second = 0; second < 630; second++) {
    expect([rate.take("old", 5), rate.lineOf("old")]).toEqual([0, "old"]);
    for (let i = 0; i < 100; i++) rate.take(`invented ${second} ${i}`, 1);
    clock.ms += 1_000;
  }
  expect(rate.take("new", 1)).toBe(0);
  expect([rate.lineOf("new"), rate.lineOf("another"), rate.lineOf("old")]).toEqual([
    rate.lineOf("nobody"),
    rate.lineOf("nobody"),
    "old",
  ]);
  for (let i = 0; i < 9; i++) expect(rate.take(`invented ${i}`, 1)).toBe(0);
  expect(rate.take("new", 1)).toBe(100);
});

test("a place is free again after a minute, but a debt is not forgotten", () => {
  const { rate, clock } = limited(1, 2);
  rate.take("debtor", 200);
  rate.take("quiet", 1);
  clock.ms += 59_999;
  rate.take("new", 1);
  expect(rate.lineOf("new")).not.toBe("new");
  clock.ms += 1;
  rate.take("new", 1);
  expect([rate.lineOf("new"), rate.lineOf("debtor"), rate.lineOf("quiet")]).toEqual([
    "new",
    "debtor",
    rate.lineOf("nobody"),
  ]);
  expect(rate.take("debtor", 1)).toBe(140_000);
});

test("a place is free again also while one who was here comes alone, whose own place stays", () => {
  const { rate, clock } = limited(10, 2);
  rate.take("debtor", 1_500);
  clock.ms += 1_000;
  rate.take("old", 1);
  let told = 0;
  for (let second = 0; second < 300; second++) {
    clock.ms += 1_000;
    rate.take("old", 1);
    if (second >= 60) rate.take("new", 1);
    if (rate.lineOf("new") !== "new") told = second;
    expect(rate.lineOf("old")).toBe("old");
  }
  expect(told).toBeLessThan(240);
});

test("names of any length stay short, and different", () => {
  const longest = "x".repeat(256);
  expect(shortName(longest)).toBe(longest);
  const [one, other] = [shortName(`${longest}1`), shortName(`${longest}2`)];
  expect([one.length, other.length, one === other, shortName(`${longest}1`) === one]).toEqual([44, 44, false, true]);
});
