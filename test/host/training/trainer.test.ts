// Texts that are split once: the figures about them, and that they are encoded as they would be anew. What a trainer refuses.
import { describe, expect, test } from "vitest";
import {
  addSamples,
  createTrainer,
  DEFAULT_RECIPE,
  prepareTraining,
  type RecipeOptions,
} from "../../../host/training/recipe.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import { samples } from "../../support/models.ts";

const tokenizer = DEFAULT_RECIPE.tokenizer;

test.each([
  [[], { texts: 0, within: [0, 0, 0], own: 0 }],
  [[""], { texts: 1, within: [1, 1, 1], own: 0 }],
  [["a", "b b", "c d e"], { within: [0, 1, 2], own: 3 }],
  [["a b", "a c", "b a", "c"], { within: [0, 1, 4], own: 0 }],
  [["a b c d", "a b c d e", "a"], { within: [0, 1, 1], own: 1 }],
  [["x".repeat(5000), `${"x".repeat(5000)} a`, "中文"], { within: [0, 1, 3], own: 2 }],
])("%j", async (texts, { within, own }) => {
  const trainer = await createTrainer(tokenizer);
  for (const text of texts) trainer.countText(text);
  expect([0, 1, 2].map((most) => trainer.textsWithin(most))).toEqual(within);
  expect(trainer.textsWithin(2 ** 32 - 1)).toBe(texts.length);
  expect(trainer.textsWithOwnToken()).toBe(own);
});

test("a text without a label of the model is refused", async () => {
  const trainer = await prepareTraining(samples, [], DEFAULT_RECIPE);
  const refused = expect.objectContaining({ code: "label_out_of_range" });
  expect(() => trainer.addSample(3, "a")).toThrow(refused);
  trainer.startTexts(1);
  expect(() => trainer.addText(3, "a")).toThrow(refused);
});

test("a text for training that comes after the run has started is refused", async () => {
  const trainer = await prepareTraining(samples, [], DEFAULT_RECIPE);
  trainer.start(DEFAULT_RECIPE);
  expect(() => trainer.addSample(0, "a")).toThrow(expect.objectContaining({ code: "bad_state" }));
});

test("texts for the linear part are as many as was said, of a described model", async () => {
  const refused = expect.objectContaining({ code: "bad_state" });
  const trainer = await createTrainer(tokenizer);
  expect(() => trainer.startTexts(1)).toThrow(refused);
  const described = await prepareTraining(samples, [], { ...DEFAULT_RECIPE, linear: false });
  expect(() => described.addText(0, "a")).toThrow(refused);
  described.startTexts(1);
  described.addText(0, "a");
  expect(() => described.addText(0, "a")).toThrow(refused);
  expect(() => described.countText("a")).toThrow(refused);
});

test("weights that do not fill a tensor, or belong to none, are refused", async () => {
  const trainer = await prepareTraining(samples, [], DEFAULT_RECIPE);
  trainer.start(DEFAULT_RECIPE);
  const { length } = trainer.tensor(0);
  for (const [index, count] of [
    [0, length - 1],
    [0, length + 1],
    [trainer.tensorCount(), 0],
  ] as const)
    expect(() => trainer.setTensor(index, new Float32Array(count))).toThrow(
      expect.objectContaining({ code: "bad_tensor" }),
    );
});

describe("a text is encoded once as it is when it is read again", () => {
  const word = [
    "lights",
    "on",
    "off",
    "a",
    "unk",
    "é",
    "x".repeat(200),
    "y".repeat(5000),
    "ｘ",
    "日本語のテスト",
    "ไทย",
    "don't",
    "what?!",
    "…",
  ];
  let state = 7;
  const random = (limit: number): number => (state = (state * 48271) % 2147483647) % limit;
  const samples = Array.from({ length: 60 }, (_, i) => ({
    label: i % 3 ? "on" : "off",
    text: Array.from({ length: random(12) }, () => word[random(word.length)]!).join(random(4) ? " " : ""),
    line: i + 1,
  }));
  test.each<[string, Partial<RecipeOptions>, Partial<RecipeOptions["tokenizer"]>]>([
    ["by the default recipe", {}, {}],
    ["cut at the beginning", {}, { sequenceLength: 3 }],
    ["cut at the end", {}, { sequenceLength: 3, truncatePost: true }],
    ["without n-grams, unknown words dropped", { minCount: 9 }, { ngramBuckets: 0, sequenceLength: 4 }],
    [
      "with an unknown word that the texts have",
      { minCount: 4, oovToken: "unk" },
      { ngramBuckets: 0, sequenceLength: 4 },
    ],
    ["with one that few of them have", { minCount: 30, oovToken: "unk" }, { ngramBuckets: 0 }],
    ["letter by letter", {}, { charLevel: true, ngramBuckets: 0, sequenceLength: 20 }],
    ["without pairs of letters", {}, { letterPairs: false, sequenceLength: 5 }],
  ])("%s", async (_, changes, read) => {
    const recipe = {
      ...DEFAULT_RECIPE,
      ...changes,
      epochs: 1,
      embedding: 4,
      units: 4,
      tokenizer: { ...tokenizer, ngramBuckets: 64, ...read },
    };
    const trainer = await prepareTraining(samples, [], recipe);
    trainer.start(recipe);
    const again = await Trainer.open(trainer.write("training"), "again");
    addSamples(again, ["off", "on"], samples, []);
    again.resume();
    expect(Buffer.compare(again.write("training"), trainer.write("training"))).toBe(0);
    const other = await Trainer.open(trainer.write("training"), "other");
    addSamples(
      other,
      ["off", "on"],
      samples.map((sample, i) => (i ? sample : { ...sample, text: "lights lights" })),
      [],
    );
    expect(() => other.resume()).toThrow(expect.objectContaining({ code: "bad_training" }));
  });
});
