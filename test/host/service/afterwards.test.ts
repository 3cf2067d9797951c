import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { afterwards, settle } from "../../../host/service/afterwards.ts";
import { Metrics } from "../../../host/service/metrics.ts";

test("runs in order when this turn of the event loop has ended, and once", async () => {
  const log: number[] = [];
  afterwards(() => log.push(1));
  afterwards(() => log.push(2));
  await Promise.resolve();
  expect(log).toEqual([]);
  await turn();
  expect(log).toEqual([1, 2]);
  afterwards(() => log.push(3));
  settle();
  expect(log).toEqual([1, 2, 3]);
  await turn();
  expect(log).toEqual([1, 2, 3]);
});

test("runs what comes alone, and what comes while it runs", async () => {
  const log: number[] = [];
  afterwards(() => {
    log.push(1);
    afterwards(() => log.push(2));
  });
  await turn();
  expect(log).toEqual([1]);
  await turn();
  expect(log).toEqual([1, 2]);
});

test("who reads the metrics finds what waits in them", async () => {
  const metrics = new Metrics();
  afterwards(() => metrics.classified("spam", 0.001));
  expect(await metrics.text()).toContain('edgelabel_texts_total{model="spam"} 1\n');
  afterwards(() => metrics.classified("spam", 0.001));
  expect(await metrics.figures()).toMatchObject({ texts: 2 });
});
