// Figures and messages of the page.
import { expect, test } from "vitest";
import { kilobytes } from "../../host/figures.ts";
import { counted, inPage, modelNameOf, timeLeft } from "../../web/playground/figures.ts";

test.each<[number, number, number, string]>([
  [1000, 1, 10, ""],
  [2000, 0, 10, ""],
  [2000, 10, 10, ""],
  [9000, 9, 10, "a few seconds left"],
  [10_000, 5, 10, "about 10 s left"],
  [10_000, 1, 9, "about 80 s left"],
  [10_000, 1, 10, "about 2 min left"],
  [10_100, 1, 10, "about 2 min left"],
  [600_000, 1, 10, "about 90 min left"],
])("after %i ms, %i of %i done: %j", (elapsed, done, total, left) => {
  expect(timeLeft(elapsed, done, total)).toBe(left);
});

test("sizes and counts", () => {
  expect([kilobytes(1536), counted(1, "text"), counted(0, "text")]).toEqual(["1.5 KB", "1 text", "0 texts"]);
});

test.each([
  [
    "its header has no column; choose one with --text-column",
    "its header has no column; choose one with “text column”",
  ],
  ["use --format tsv|csv|jsonl|fasttext", "name the file .csv, .tsv, .jsonl or .ft"],
  ["read it with --format csv", "read it with a file name that ends in .csv"],
  ["nothing is learnt from them; edgelabel data lists them", "nothing is learnt from them"],
  ["write them alike (edgelabel data shows all)", "write them alike"],
])("%j speaks of no option of the command line", (message, shown) => {
  expect(inPage(message)).toBe(shown);
});

test.each([
  ["calls.csv", "calls"],
  ["My calls (2).v1.tsv", "My-calls-2-v1"],
  ["客服.jsonl", "客服"],
  ["../../.csv", "model"],
  [`${"x".repeat(99)}.csv`, "x".repeat(40)],
])("%s gives a model named %s", (file, name) => {
  expect(modelNameOf(file)).toBe(name);
});
