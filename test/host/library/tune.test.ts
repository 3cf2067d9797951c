// Choosing settings by trials: the same ones for the same texts, what fits, and what is taken.
import { expect, test } from "vitest";
import { chooseTraining } from "../../../host/library/train.ts";
import { tune, type TuneOptions } from "../../../host/library/tune.ts";
import type { RunSettings } from "../../../host/library/settings.ts";
import { startWorkers } from "../../../host/training/workers.ts";
import { renderTrials, renderTrialsChart, type Tuned } from "../../../host/report/tuning.ts";
import { samples } from "../../support/models.ts";

/** Quick to train; what a user has set, no trial changes. */
const SET: RunSettings = { seed: 1, embeddingDim: 8, ngramBuckets: 64, epochs: 3 };

function run(limits: TuneOptions, set: RunSettings = SET): Promise<Tuned> {
  const training = { samples, synonyms: null, vectors: null };
  return tune(training, (changes) => chooseTraining({ ...changes, ...set }), {}, limits, startWorkers);
}

const without = ({ trials }: Tuned) => trials.map(({ microseconds: _, ...trial }) => trial);

test("the same texts, seed and number of trials give the same table", async () => {
  const [one, other] = [await run({ trials: 3 }), await run({ trials: 3 })];
  expect(without(one)).toEqual(without(other));
  expect(one.n).toBe(samples.length);
  expect(one.trials.map(({ what }) => what)).toEqual([
    "the recipe as it is",
    "half the network",
    "a cell that runs and trains faster",
  ]);
  expect(one.trials.every(({ accuracy, bytes }) => accuracy >= 0 && accuracy <= 1 && bytes > 10_000)).toBe(true);
});

test("a change that the user's settings undo is not tried again", async () => {
  const { trials } = await run({ trials: 3 }, { ...SET, units: 16, bidirectional: false });
  expect(trials.map(({ what }) => what)).toEqual([
    "the recipe as it is",
    "a cell that runs and trains faster",
    "less dropout",
  ]);
});

test("the linear part alone is tried, unless the user has set something of the network", async () => {
  const linear = "words, pairs and n-grams, without a network";
  const { trials } = await run({ trials: 2 }, { seed: 1, ngramBuckets: 64 });
  expect(trials.map(({ what, settings }) => [what, settings])).toEqual([
    ["the recipe as it is", {}],
    [linear, { recipe: "linear" }],
  ]);
  const ofLinear = await run({ trials: 3 }, { seed: 1, recipe: "linear" });
  expect(ofLinear.trials.map(({ what }) => what)).toEqual([
    "the recipe as it is",
    "numbers and accents alike",
    "without addresses and markup",
  ]);
});

test("the recipe stays where the difference may be chance, and what does not fit is not taken", async () => {
  const { trials, ranked } = await run({ trials: 2 });
  expect(ranked[0]!.what).toBe("the recipe as it is");
  const [recipe, half] = trials;
  const small = await run({ trials: 2, maxBytes: recipe!.bytes - 1 });
  expect(half!.bytes).toBeLessThan(recipe!.bytes);
  expect(small.ranked.map(({ what }) => what)).toEqual(["half the network"]);
  expect(small.trials[0]!.fits).toBe(false);
});

test("nothing fits, or too few texts: says so", async () => {
  await expect(run({ trials: 1, maxBytes: 1000 })).rejects.toThrow(
    "of 1 trials none is within the largest size and time",
  );
  const few = tune({ samples: samples.slice(0, 2), synonyms: null, vectors: null }, (changes) => chooseTraining({ ...changes, ...SET }), {}, { trials: 1 }, startWorkers); // prettier-ignore
  await expect(few).rejects.toThrow("2 texts are too few to compare settings on");
});

test("the time is kept: one trial at least, and none that would end too late", async () => {
  expect((await run({ ms: 1 })).trials).toHaveLength(1);
});

test("the table marks what is taken, and the picture has a point for each trial", () => {
  const trial = { settings: {}, accuracy: 0.9, bytes: 400_000, microseconds: 5.25, isGivenUp: false, fits: true };
  const chosen = { ...trial, what: "half <the> network", bytes: 200_000 };
  const trials = [
    { ...trial, what: "the recipe as it is", accuracy: 0.95 },
    chosen,
    { ...trial, what: "texts as they come", isGivenUp: true, accuracy: 0.5 },
    { ...trial, what: "a larger network", fits: false },
  ];
  const tuned = { n: 300, trials, ranked: [chosen] };
  expect(renderTrials(tuned, chosen).split("\n")).toEqual([
    "4 trials, each on 300 texts that it was not trained on:",
    " accuracy       size  µs a text  settings",
    "  95.00 %     391 KB        5.3  the recipe as it is",
    "  90.00 %     195 KB        5.3 *half <the> network",
    "  50.00 %     391 KB        5.3  texts as they come, given up",
    "  90.00 %     391 KB        5.3  a larger network, too large or too slow",
    "",
  ]);
  const svg = renderTrialsChart("lamps", tuned, chosen);
  expect(svg.match(/<circle class="(?:first|second)"/g)).toHaveLength(3);
  expect(svg).toContain("chosen");
});
