// Classifies the lines of standard input in Node, Deno or Bun.
import { readFileSync } from "node:fs";
import process from "node:process";
import { buffer } from "node:stream/consumers";
import { openClassifier } from "./classifier.js";

const classify = await openClassifier(readFileSync(process.argv[2]));
const input = await buffer(process.stdin);
const answers = [];
for (let start = 0; start < input.length;) {
  const end = input.indexOf(10, start);
  answers.push(classify(input.subarray(start, end < 0 ? input.length : end)).slice());
  start = end < 0 ? input.length : end + 1;
}
process.stdout.write(Buffer.concat(answers));
