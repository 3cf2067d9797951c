// Texts that are read several times: what the first time shows, and what the next ones check.
import { expect, test } from "vitest";
import { MAX_LABELS } from "../../../assembly/abi.ts";
import type { Sample } from "../../../host/data/dataset.ts";
import { thinned } from "../../../host/data/dataset.ts";
import { MOST_COMPARED, Survey } from "../../../host/data/survey.ts";

const sampleOf = (i: number): Sample => ({ label: `label ${i % 3}`, text: `text ${i}`, line: i + 1 });
const samplesOf = (count: number): Sample[] => Array.from({ length: count }, (_, i) => sampleOf(i));

async function readAll(survey: Survey): Promise<Sample[]> {
  const read: Sample[] = [];
  for await (const part of survey.read()) read.push(...part);
  return read;
}

test("the first time counts texts and labels, and finds texts that are sought", async () => {
  const samples = [...samplesOf(5), sampleOf(1)];
  const survey = new Survey(samples, [sampleOf(1), sampleOf(1), sampleOf(4), sampleOf(9)]);
  expect(await readAll(survey)).toEqual(samples);
  const { texts, labels, first, different } = survey.figures;
  expect([texts, first, different]).toEqual([6, "label 0", 5]);
  expect(Object.fromEntries(labels)).toEqual({ "label 0": 2, "label 1": 3, "label 2": 1 });
  expect(survey.labels()).toEqual(["label 0", "label 1", "label 2"]);
  expect(survey.seen).toBe(3);
  await readAll(survey);
  expect([survey.figures.texts, survey.seen]).toEqual([6, 3]);
});

test.each([1, MOST_COMPARED, MOST_COMPARED + 1, 3 * MOST_COMPARED + 17])(
  "of %i texts those are compared that are evenly spread",
  async (count) => {
    const samples = samplesOf(count);
    const survey = new Survey(samples);
    await readAll(survey);
    expect(survey.spread).toEqual([]);
    await readAll(survey);
    expect(survey.spread).toEqual(thinned(samples, MOST_COMPARED).map(({ text }) => text));
    await readAll(survey);
    expect(survey.spread).toHaveLength(Math.min(count, MOST_COMPARED));
  },
);

test("many different texts are not counted to the end", async () => {
  const survey = new Survey(samplesOf(MAX_LABELS + 1));
  await readAll(survey);
  expect(survey.figures.different).toBe(Infinity);
});

test.each<[string, Sample[]]>([
  ["fewer texts", samplesOf(4)],
  ["more texts", samplesOf(6)],
  ["another label", [...samplesOf(4), { label: "new", text: "text 4", line: 5 }]],
])("the next time, %s are refused", async (_, next) => {
  let time = 0;
  const survey = new Survey({
    async *read() {
      yield time++ === 0 ? samplesOf(5) : next;
    },
  });
  await readAll(survey);
  await expect(readAll(survey)).rejects.toThrow("the data has changed while it was read; train again");
});
