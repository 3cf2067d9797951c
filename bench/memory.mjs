// 100,000 classifications by one model in a fresh process: prints linear memory and RSS as JSON rows.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { Classifier } from "../build/host/model/classifier.js";
import { seeded } from "./models.mjs";

const COUNT = 100_000;
const mebibytes = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`;
const file = process.argv[2];

globalThis.gc();
const empty = process.memoryUsage.rss();
const classifier = await Classifier.fromBytes(readFileSync(file), file);
const random = seeded(3);
const letters = "abcdefghijklmnopqrstuvwxyz";
/** A text of random letters, different for each call. */
const text = (i) =>
  Array.from({ length: 3 + (i % 9) }, () =>
    Array.from({ length: 1 + Math.floor(random() * 9) }, () => letters[Math.floor(random() * 26)]).join(""),
  ).join(" ");
classifier.classify(text(0));
const before = classifier.memoryBytes();
globalThis.gc();
const loaded = process.memoryUsage.rss();
for (let i = 1; i < 10_000; i++) classifier.classify(text(i));
globalThis.gc();
const warm = process.memoryUsage.rss();
for (let i = 10_000; i <= COUNT; i++) classifier.classify(text(i));
globalThis.gc();
const after = process.memoryUsage.rss();
const name = basename(file);
process.stdout.write(
  JSON.stringify([
    [`${name}: linear memory once loaded`, mebibytes(before)],
    [`${name}: linear memory after ${COUNT} classifications`, mebibytes(classifier.memoryBytes())],
    ["RSS of node before loading", mebibytes(empty)],
    ["RSS with the model loaded", mebibytes(loaded)],
    ["RSS after 10000 classifications", mebibytes(warm)],
    [`RSS after ${COUNT} classifications`, mebibytes(after)],
  ]),
);
