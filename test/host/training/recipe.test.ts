// What a recipe becomes on few texts: smaller batches, more epochs, all words; large data sets get what it says.
import { describe, expect, test } from "vitest";
import { LAYER_DROPOUT } from "../../../assembly/abi.ts";
import {
  adaptToShape,
  DEFAULT_RECIPE,
  FAST_RECIPE,
  prepareAdapted,
  prepareTraining,
  type RecipeOptions,
  type Shape,
  TUTORIAL_RECIPE,
} from "../../../host/training/recipe.ts";
import { Survey } from "../../../host/data/survey.ts";
import { samples } from "../../support/models.ts";

const sentences = (texts: number): Shape => ({ labels: 7, texts, empty: 0, short: 0, withOwnToken: texts, cut: 0 });

test.each([
  [13_784, 32, 10, 2], // 431 steps an epoch
  [4800, 32, 10, 2], // 48,000 texts in all
  [4799, 32, 11, 2],
  [2048, 32, 24, 2], // 64 batches
  [2047, 16, 24, 2], // 128 batches, where of 32 there would be less than 64
  [1024, 16, 47, 2],
  [1023, 8, 24, 1],
  [300, 8, 79, 1],
  [70, 8, 80, 1], // 334 epochs would be too many
  [1, 8, 80, 1],
])("%i texts: batches of %i, %i epochs, words seen %i times", (texts, batch, epochs, minCount) => {
  expect(adaptToShape(DEFAULT_RECIPE, sentences(texts))).toEqual({
    ...DEFAULT_RECIPE,
    batch,
    epochs,
    minCount,
    numWords: 5133,
  });
});

test("the fast recipe's rate is for its large batches, and so is that it perturbs no texts", () => {
  const adapted = (texts: number, ...given: string[]): (number | undefined)[] => {
    const { learningRate, perturbation } = adaptToShape(FAST_RECIPE, sentences(texts), new Set(given));
    return [learningRate, perturbation];
  };
  expect([8192, 8191, 300].map((texts) => adapted(texts))).toEqual([
    [0.018, 0],
    [0.008, 0.07],
    [0.008, 0.07],
  ]);
  expect(adapted(300, "learningRate", "perturbation")).toEqual([0.018, 0]);
});

describe("the linear part", () => {
  const figures = sentences(2000);
  const adapted = (changes: Partial<Shape> = {}, recipe = {}, given: string[] = []): Partial<RecipeOptions> => {
    const { linear, numWords } = adaptToShape(
      { ...DEFAULT_RECIPE, ...recipe },
      { ...figures, ...changes },
      new Set(given),
    );
    return { linear, numWords };
  };

  test("gets its room from the vocabulary, the more the more labels there are", () => {
    expect(adapted({ labels: 2 })).toEqual({ linear: true, numWords: 5274 });
    expect(adapted({ labels: 150 })).toEqual({ linear: true, numWords: 2909 });
    expect(adapted({}, { numWords: 1000 })).toEqual({ linear: true, numWords: 1000 });
    expect(adapted({}, {}, ["numWords"])).toEqual({ linear: true, numWords: 7000 });
    expect(adapted({}, { linear: false }, ["linear"])).toEqual({ linear: false, numWords: 7000 });
  });

  test("is left out beside one sigmoid unit, and of names, unless it is asked for", () => {
    const none = { linear: false, numWords: 7000 };
    expect(adapted({}, { binaryOutput: true })).toEqual(none);
    expect(adapted({ short: 2000 })).toEqual(none);
    expect(adapted({ short: 2000 }, {}, ["linear"])).toMatchObject({ linear: true });
  });
});

describe("names are read letter by letter", () => {
  test.each<[string, boolean, Partial<Shape>]>([
    ["one word each, all different", true, {}],
    ["a few that come twice", true, { withOwnToken: 900 }],
    ["many that come twice", false, { withOwnToken: 899 }],
    ["more than half of them short", true, { short: 501 }],
    ["half of them", false, { short: 500 }],
    ["a hundred", true, { texts: 100, withOwnToken: 100 }],
    ["fewer, which may differ by chance", false, { texts: 99, withOwnToken: 99 }],
  ])("%s: %s", (_, charLevel, changes) => {
    const shape = { labels: 7, texts: 1000, empty: 0, short: 1000, withOwnToken: 1000, cut: 0, ...changes };
    const { tokenizer, wordDropout } = adaptToShape(DEFAULT_RECIPE, shape);
    expect(tokenizer).toEqual({
      ...DEFAULT_RECIPE.tokenizer,
      charLevel,
      ngramBuckets: charLevel ? 0 : DEFAULT_RECIPE.tokenizer.ngramBuckets,
    });
    expect(wordDropout).toBe(charLevel ? 0 : DEFAULT_RECIPE.wordDropout);
    expect(adaptToShape(DEFAULT_RECIPE, shape, new Set(["tokenizer.charLevel"])).tokenizer).toEqual(
      DEFAULT_RECIPE.tokenizer,
    );
    expect(adaptToShape(TUTORIAL_RECIPE, shape)).toEqual(TUTORIAL_RECIPE);
  });
});

test("names are split again, into letters", async () => {
  const names = Array.from({ length: 120 }, (_, i) => ({
    label: i % 2 ? "pc" : "server",
    text: `host${(i * 7919) % 1000}`,
    line: i + 1,
  }));
  const { trainer, recipe, shape } = await prepareAdapted(new Survey(names), [], DEFAULT_RECIPE, new Set());
  expect(shape).toEqual({ labels: 2, texts: 120, empty: 0, short: 120, withOwnToken: 120, cut: 0 });
  expect(recipe.tokenizer.charLevel).toBe(true);
  const plain = await prepareTraining(names, [], recipe);
  expect(trainer.wordCount()).toBe(14);
  for (const one of [trainer, plain]) one.start(recipe);
  expect(Buffer.compare(trainer.write("training"), plain.write("training"))).toBe(0);
});

describe("what is given stays", () => {
  test("one by one", () => {
    expect(adaptToShape(DEFAULT_RECIPE, sentences(300), new Set(["batch"]))).toMatchObject({
      batch: 32,
      epochs: 80,
      minCount: 1,
    });
    expect(adaptToShape({ ...DEFAULT_RECIPE, epochs: 3 }, sentences(300), new Set(["epochs"]))).toMatchObject({
      batch: 8,
      epochs: 3,
      minCount: 1,
    });
    expect(adaptToShape({ ...DEFAULT_RECIPE, minCount: 5 }, sentences(300), new Set(["minCount"]))).toMatchObject({
      batch: 8,
      epochs: 79,
      minCount: 5,
    });
  });

  test("n-grams of letters, and hidden words without n-grams", () => {
    const names = { labels: 7, texts: 1000, empty: 0, short: 1000, withOwnToken: 1000, cut: 0 };
    const asked = { ...DEFAULT_RECIPE, wordDropout: 0.2, tokenizer: { ...DEFAULT_RECIPE.tokenizer, ngramBuckets: 64 } };
    expect(adaptToShape(asked, names, new Set(["tokenizer.ngramBuckets"]))).toMatchObject({
      wordDropout: 0.2,
      tokenizer: { charLevel: true, ngramBuckets: 64 },
    });
    expect(adaptToShape(asked, names, new Set(["wordDropout"]))).toMatchObject({
      wordDropout: 0.2,
      tokenizer: { ngramBuckets: 0 },
    });
  });

  test("words are hidden for the unknown word, or not at all without n-grams", () => {
    const words = { ...DEFAULT_RECIPE, tokenizer: { ...DEFAULT_RECIPE.tokenizer, ngramBuckets: 0 } };
    expect(adaptToShape(words, sentences(5000)).wordDropout).toBe(0);
    expect(adaptToShape({ ...words, oovToken: "<unk>" }, sentences(5000)).wordDropout).toBe(DEFAULT_RECIPE.wordDropout);
  });

  test("a batch is not smaller than its workers", () => {
    expect(adaptToShape({ ...DEFAULT_RECIPE, workers: 12 }, sentences(300)).batch).toBe(16);
    expect(adaptToShape({ ...DEFAULT_RECIPE, workers: 32 }, sentences(300)).batch).toBe(32);
  });

  test("the tutorial trains as Keras does, however few the texts", () => {
    expect(adaptToShape(TUTORIAL_RECIPE, sentences(10))).toEqual(TUTORIAL_RECIPE);
  });
});

test("no dropout is no layer", async () => {
  const kindsOf = async (rate: number) => {
    const recipe = { ...DEFAULT_RECIPE, embeddingDropout: rate, outputDropout: rate };
    const trainer = await prepareTraining(samples, [], recipe);
    trainer.start(recipe);
    return trainer.layers().map(({ kind }) => kind);
  };
  const without = await kindsOf(0);
  expect(without).not.toContain(LAYER_DROPOUT);
  expect((await kindsOf(0.5)).filter((kind) => kind !== LAYER_DROPOUT)).toEqual(without);
  expect(await kindsOf(0.5)).toHaveLength(without.length + 2);
});

test.each([Number.NaN, -0.1, 1e6])("the embedding cannot be drawn from +-%d", async (embeddingRange) => {
  const trainer = await prepareTraining(samples, [], DEFAULT_RECIPE);
  expect(() => trainer.start({ ...DEFAULT_RECIPE, embeddingRange })).toThrow(/training settings/);
});
