// The learning rate of every step against its formula.
import { expect, test } from "vitest";
import { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_LINEAR } from "../../../assembly/abi.ts";
import { loadWasm } from "../../support/wasm.ts";

const { learningRateAt } = loadWasm("testing") as unknown as {
  learningRateAt: (
    schedule: number,
    base: number,
    warmup: number,
    decay: number,
    step: number,
    steps: number,
  ) => number;
};

/** Of the base rate: the bound of sinOfQuarter, squared and rounded. */
const TOLERANCE = 1e-5;
const BASE = 0.008;
const DECAY = 0.01;
const left = (x: number): number => DECAY + (1 - DECAY) * x;

const formulas: [string, number, (p: number, step: number) => number][] = [
  ["constant", SCHEDULE_CONSTANT, () => 1],
  ["linear", SCHEDULE_LINEAR, (p) => left(1 - p)],
  ["cosine", SCHEDULE_COSINE, (p) => left((1 + Math.cos(Math.PI * p)) / 2)],
];

for (const [name, schedule, formula] of formulas) {
  test.each([
    [0, 1],
    [0, 7],
    [0.1, 1000],
    [0.5, 3],
    [0.99, 100],
  ])(`${name} behind a warm-up of %d in %i steps`, (warmup, steps) => {
    const climb = Math.floor(Math.fround(Math.fround(warmup) * steps));
    for (let step = 0; step < steps; step++) {
      const expected =
        step < climb ? (BASE * (step + 1)) / climb : BASE * formula((step - climb) / (steps - climb), step);
      const rate = learningRateAt(schedule, BASE, warmup, DECAY, step, steps);
      expect(Math.abs(rate - expected), `step ${step}`).toBeLessThan(TOLERANCE * BASE);
      expect(rate).toBeGreaterThan(0);
    }
  });
}

test.each([
  ["linear", SCHEDULE_LINEAR],
  ["cosine", SCHEDULE_COSINE],
])("%s ends at nothing, at its share, or where it began", (_, schedule) => {
  for (const floor of [0, 0.3, 1])
    expect(learningRateAt(schedule, BASE, 0, floor, 9999, 10_000) / BASE).toBeCloseTo(floor, 3);
});
