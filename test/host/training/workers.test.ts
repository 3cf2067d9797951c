// Workers that share each batch: what they come to is the one trainer's result to rounding
// where no random numbers are drawn, always the same for the same number, and also after a
// stop; and a failure in any of them ends the run.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Sample } from "../../../host/data/dataset.ts";
import {
  DEFAULT_RECIPE,
  prepareTraining,
  type RecipeOptions,
  resumeTraining,
  runEpochs,
} from "../../../host/training/recipe.ts";
import type { EpochFigures, Trainer } from "../../../host/training/trainer.ts";
import { startWorkers } from "../../../host/training/workers.ts";
import { samples as texts } from "../../support/models.ts";
import { edgelabel, json, LAMPS, SMALL } from "../../support/program.ts";

const SYNONYMS = { groups: [{ words: ["lamp", "light"], line: 1 }], source: "synonyms.txt" };
/** Batches of 8 of 18 texts, so that the last one has only 2. */
const RANDOM: RecipeOptions = {
  ...DEFAULT_RECIPE,
  minCount: 1,
  embedding: 10,
  units: 6,
  epochs: 4,
  batch: 8,
  seed: 5,
  tokenizer: { ...DEFAULT_RECIPE.tokenizer, sequenceLength: 16, ngramBuckets: 32 },
};
/** All texts in one batch, whose order does not matter. */
const PLAIN: RecipeOptions = {
  ...RANDOM,
  batch: 32,
  embeddingDropout: 0,
  outputDropout: 0,
  wordDropout: 0,
  perturbation: 0,
  augment: {},
  tokenizer: { ...RANDOM.tokenizer, letterPairs: false },
};

async function start(recipe: RecipeOptions, samples: readonly Sample[] = texts): Promise<Trainer> {
  const trainer = await prepareTraining(samples, [], recipe);
  trainer.start(recipe);
  return trainer;
}

async function run(trainer: Trainer, samples: readonly Sample[] = texts, most = Infinity): Promise<EpochFigures> {
  const workers = await startWorkers(trainer, "run", { samples, synonyms: null });
  try {
    return runEpochs(trainer, trainer.epochsLeft(), false, {}, most)!.train;
  } finally {
    await workers.stop();
  }
}

describe("without random numbers the result is that of one trainer, to rounding", () => {
  test.each<[string, Partial<RecipeOptions>, number, readonly Sample[]]>([
    ["two workers", {}, 2, texts],
    ["a minGRU", { cell: "mingru" }, 2, texts],
    ["three workers, weights and their average", { balanced: true, averageDecay: 0.5 }, 3, texts],
    [
      "squared error, SGD, no mask",
      {
        loss: "mean_squared_error",
        labelSmoothing: 0,
        optimizer: "sgd",
        momentum: 0.9,
        learningRate: 0.1,
        mask: false,
      },
      2,
      texts,
    ],
    ["more workers than texts", {}, 4, [texts[0]!, texts[6]!, texts[12]!]],
  ])("%s", async (_, changes, workers, samples) => {
    // Adam divides by the size of a gradient, so it makes much of rounding where that is next to nothing.
    const recipe = { ...PLAIN, epsilon: 1e-3, ...changes };
    const alone = await start(recipe, samples);
    const shared = await start({ ...recipe, workers }, samples);
    expect(shared.workers()).toBe(workers);
    const one = await run(alone, samples);
    const several = await run(shared, samples);
    expect(several.loss).toBeCloseTo(one.loss, 5);
    expect(several.accuracy).toBe(one.accuracy);
    for (let i = 0; i < alone.tensorCount(); i++) {
      const expected = alone.tensor(i);
      shared.tensor(i).forEach((weight, k) => expect(Math.abs(weight - expected[k]!)).toBeLessThan(2e-5));
    }
  });
});

describe("the same bits", () => {
  test("for the same seed and number, and others for another number", async () => {
    const files = [];
    for (const workers of [3, 3, 2, 1]) {
      const trainer = await start({ ...RANDOM, workers });
      await run(trainer);
      files.push(Buffer.from(trainer.write("training")).toString("base64"));
    }
    expect(files[1]).toBe(files[0]);
    expect(new Set(files).size).toBe(3);
  });

  test("of one worker as without the option", async () => {
    const { workers: _, ...recipe } = RANDOM;
    const [without, one] = [await start(recipe), await start({ ...RANDOM, workers: 1 })];
    await run(one);
    runEpochs(without, 4, false, {});
    expect(one.write("training")).toEqual(without.write("training"));
  });

  test("after a stop, with augmentation by synonyms", async () => {
    const recipe: RecipeOptions = { ...RANDOM, augment: { delete: 0.1, typo: 0.2 }, workers: 2 };
    const whole = await start(recipe);
    await run(whole);
    const part = await start(recipe);
    await run(part, texts, 3);
    const resumed = await resumeTraining(part.write("training"), "part.elb", texts, [], null);
    expect(resumed.workers()).toBe(2);
    await run(resumed);
    expect(resumed.write("training")).toEqual(whole.write("training"));
  });
});

describe("failures", () => {
  test("of the thread's data are reported before the first batch", async () => {
    const trainer = await start({ ...RANDOM, workers: 2 });
    await expect(startWorkers(trainer, "run", { samples: texts, synonyms: SYNONYMS })).rejects.toThrow(
      "cannot be resumed on these samples or synonyms",
    );
  });
  test("of the shares to come are no wrong steps", async () => {
    const trainer = await start({ ...RANDOM, workers: 2 });
    expect(() => runEpochs(trainer, 4, false, {})).toThrow("does not allow that step");
  });
  test("of the arithmetic end all", async () => {
    const trainer = await start({ ...RANDOM, workers: 2 });
    trainer.setTensor(trainer.tensorCount() - 1, Float32Array.of(3e38, -3e38, 0));
    await expect(run(trainer)).rejects.toThrow("the numbers overflowed");
  });
});

describe("the command", () => {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-workers-"));
  const at = (name: string): string => join(folder, name);
  afterAll(() => rmSync(folder, { recursive: true }));

  test("stops and goes on with the same number of workers", async () => {
    writeFileSync(at("lamps.tsv"), LAMPS.join(""));
    writeFileSync(at("words.txt"), "lamp, light\n");
    const options = ["--synonyms", at("words.txt"), "--name", "lamps"];
    const settings = ["--workers", "2", ...SMALL];
    await json("train", at("lamps.tsv"), "-o", at("whole.elb"), ...options, ...settings);
    const part = await json(
      "train",
      at("lamps.tsv"),
      "-o",
      at("part.elb"),
      "--stop-after",
      "3",
      ...options,
      ...settings,
    );
    expect(part.epochs_left).toBe(5);
    await json(
      "train",
      at("lamps.tsv"),
      "-o",
      at("resumed.elb"),
      "--resume",
      at("part.elb"),
      "--synonyms",
      at("words.txt"),
    );
    expect(readFileSync(at("resumed.elb")).equals(readFileSync(at("whole.elb")))).toBe(true);
  });

  test("refuses more workers than a batch has texts", async () => {
    const { code, stderr } = await edgelabel([
      "train",
      at("lamps.tsv"),
      "-o",
      at("x.elb"),
      "--set",
      "batch-size=4",
      "--workers",
      "5",
    ]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining("5 workers cannot share a batch of 4"),
    });
  });
});
