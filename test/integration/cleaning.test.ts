// What new models make of texts that look alike but are written in different ways, by the default
// recipe: tokens of many texts, and models trained on the inputs of ../shared/cases.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Classifier } from "../../host/model/classifier.ts";
import { openModel } from "../../host/model/file.ts";
import { createTrainer, DEFAULT_RECIPE, TUTORIAL_RECIPE, withCleaning } from "../../host/training/recipe.ts";
import { edgelabel } from "../support/program.ts";
import { describeShared, sharedPath } from "../support/shared.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-cleaning-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const reader = await createTrainer(DEFAULT_RECIPE.tokenizer);
const tokens = (text: string): string[] => reader.tokens(text);
const linesOf = (path: string): string[] => readFileSync(path, "utf8").replace(/\n$/, "").split("\n");

test("which steps a recipe does", () => {
  expect(DEFAULT_RECIPE.tokenizer.cleaning).toEqual(["normalize", "compose", "punctuation"]);
  expect(TUTORIAL_RECIPE.tokenizer.cleaning).toEqual([]);
  expect(withCleaning(DEFAULT_RECIPE, ["urls"])).toEqual(["normalize", "urls", "compose", "punctuation"]);
  expect(withCleaning(TUTORIAL_RECIPE, ["urls"])).toEqual(["urls"]);
  expect(withCleaning(DEFAULT_RECIPE, [])).toEqual([]);
});

describe("what shows nothing changes nothing", () => {
  const text = "turn off the kitchen lights";
  test.each([
    ["byte order mark", `\ufeff${text}`],
    ["directional marks", `\u200e${text}\u200f`],
    ["embeddings and overrides", `\u202a\u202d${text}\u202c\u202c`],
    ["isolates", `turn \u2066off\u2069 \u2067the\u2069 \u2068kitchen\u2069 lights`],
    ["soft hyphens", "turn off the kit\u00adchen lights"],
    ["word joiners", "turn off the kit\u2060chen lights\u2060"],
    ["zero-width space and joiners", "tu\u200brn off\u200c the\u200d kit\u200bchen lights"],
    ["NUL and other controls", "turn\0 off\x01 the\x08 kitchen\x7f lights\x9f"],
    ["variation selectors and tags", "turn\ufe0e off\ufe0f the\u{e0001} kitchen\u{e0041} lights\u{e0100}"],
    ["terminal colours", "\x1b[1;31mturn\x1b[0m off \x1b[38;5;208mthe\x1b[m kit\x1b[4mchen\x1b[24m lights\x1b(B\x1b[m"],
    ["a terminal's link", "turn off the \x1b]8;;https://a.example/\x1b\\kitchen\x1b]8;;\x07 lights"],
  ])("%s", (_, written) => {
    expect(written).not.toBe(text);
    expect(tokens(written)).toEqual(tokens(text));
  });

  test("a joiner stays where it shows", () => {
    expect(tokens("می\u200cخواهم क्\u200dष 👩\u200d💻")).toEqual(["می\u200cخواهم", "क्\u200dष", "👩\u200d💻"]);
  });
});

describeShared("the cases", () => {
  const at = (...parts: string[]): string => sharedPath("cases", ...parts);
  const train = async (data: string, name: string, ...options: string[]): Promise<Classifier> => {
    const file = join(folder, name);
    expect(await edgelabel(["train", data, "-o", file, "--seed", "1", ...options])).toMatchObject({ code: 0 });
    return openModel(file);
  };

  test("curly-apostrophe: the same tokens, so the same answers", () => {
    const plain = linesOf(at("curly-apostrophe", "ascii.txt"));
    const curly = linesOf(at("curly-apostrophe", "curly.txt"));
    expect(plain.length).toBeGreaterThan(3);
    expect(curly.map(tokens)).toEqual(plain.map(tokens));
    expect(tokens("what’s the date")).toEqual(["what's", "the", "date"]);
    for (const sign of "’‘ʼ´`＇")
      for (const line of plain) expect(tokens(line.replaceAll("'", sign))).toEqual(tokens(line));
  });

  test("punctuation-beyond-ascii: no part of a word in any script", () => {
    const written = linesOf(at("punctuation-beyond-ascii", "sample.txt"));
    expect(written.length).toBeGreaterThan(3);
    for (const line of written)
      expect(tokens(line).filter((token) => /\p{L}/u.test(token))).toEqual(["turn", "off", "the", "lights"]);
    expect(tokens("¿Lloverá mañana?")).toEqual(["¿", "lloverá", "mañana", "?"]);
    expect(tokens("هل ستمطر اليوم؟ نعم، غدا")).toEqual(["هل", "ستمطر", "اليوم", "؟", "نعم", "،", "غدا"]);
    expect(tokens("क्या बारिश होगी।")).toEqual(["क्या", "बारिश", "होगी", "।"]);
  });

  test.each<[string, string[]]>([
    ["by default", []],
    ["with all cleaning", ["--set", "clean=all"]],
  ])(
    "emoji-sequences, %s: skin tone, U+FE0F and repeats change nothing",
    async (_, options) => {
      const model = await train(at("emoji-sequences", "emoji.tsv"), `emoji-${options.length}.wasm`, ...options);
      const asked = linesOf(at("emoji-sequences", "ask.txt"));
      expect(asked).toHaveLength(8);
      const answers = asked.map((line) => model.classify(line));
      expect(answers.map(({ label }) => label)).toEqual(["good", "good", "good", "good", "good", "good", "bad", "bad"]);
      for (const { score } of answers) expect(score).toBeGreaterThan(0.9);
      // 👍 and 👍👍👍; 💪 and 💪🏿; ❤ and ❤️; 👎👎 and 👎👎👎
      for (const [one, other] of [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
      ] as const)
        expect(answers[one]).toEqual(answers[other]);
    },
    120_000,
  );

  test("nfd-input: the answers for decomposed texts are those for composed ones, to the last digit", async () => {
    const model = await train(at("nfd-input", "nfc.tsv"), "nfd.wasm");
    const composed = linesOf(at("nfd-input", "q_nfc.txt"));
    const decomposed = linesOf(at("nfd-input", "q_nfd.txt"));
    expect(decomposed).not.toEqual(composed);
    expect(decomposed.map((line) => model.classify(line))).toEqual(composed.map((line) => model.classify(line)));
    expect(composed.map((line) => model.classify(line).label)).toEqual(["gio", "thoitiet", "thoitiet", "gio"]);
  }, 120_000);
});
