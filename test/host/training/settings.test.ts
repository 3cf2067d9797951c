// What the host writes into the engine's settings: every field that a run does not set by itself, in the type that FORMAT.md gives it.
import { expect, test } from "vitest";
import { DEFAULT_RECIPE } from "../../../host/training/recipe.ts";
import { settingsOf } from "../../../host/training/settings.ts";
import { settingsFields } from "../../support/model-file.ts";

const OF_THE_RUN = ["epochsDone", "sampleCount", "sampleChecksum", "synonymChecksum"];

test("every field is written, in its type", () => {
  const written = Object.entries(settingsOf(DEFAULT_RECIPE)).map(([name, [type]]) => `${name} ${type}`);
  const expected = settingsFields.filter(({ name }) => !OF_THE_RUN.includes(name));
  expect(written.sort()).toEqual(expected.map(({ name, type }) => `${name} ${type}`).sort());
});

test("a number beyond 16 bits does not wrap to a legal one", () => {
  expect(settingsOf({ ...DEFAULT_RECIPE, dropoutSamples: 0x10001 }).dropoutSamples).toEqual(["u16", 0xffff]);
});

test("one worker is what the engine calls none, whether it is said or not", () => {
  const { workers, ...unsaid } = DEFAULT_RECIPE;
  expect([workers, settingsOf(unsaid)]).toEqual([1, settingsOf(DEFAULT_RECIPE)]);
});
