// What odd but common ways of writing the same text cost: accuracy on massive_en's test texts as
// they are and with each way applied to all of them, of models trained with `--set clean=none` and by
// default (which cleans); means over the seeds. A way that shows nothing should cost nothing.
//   node bench/robustness.mjs [--seeds 1,2,3] [--set massive_en] [--data ../shared/data]
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openModel } from "../build/host/model/file.js";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1,2,3" },
    set: { type: "string", default: "massive_en" },
    data: { type: "string", default: "../shared/data" },
  },
});
const main = fileURLToPath(new URL("../build/host/main.js", import.meta.url));
const between = (sign) => (text) => text.replace(/(?<=\w{3})(?=\w{3})/g, sign);
const apostrophe = (sign) => (text) => text.replaceAll("'", sign);
const around = (before, after) => (text) => `${before}${text}${after}`;

const WAYS = {
  "as it is": (text) => text,
  "byte order mark in front": around("\ufeff", ""),
  "directional marks around": around("\u200e", "\u200f"),
  "isolates around": around("\u2068", "\u2069"),
  "soft hyphens in words": between("\u00ad"),
  "word joiners in words": between("\u2060"),
  "zero-width spaces in words": between("\u200b"),
  "NUL behind": around("", "\0"),
  "a word in colour": (text) => text.replace(/\w+$/, "\x1b[1;31m$&\x1b[0m"),
  ...Object.fromEntries([..."’‘ʼ´`＇"].map((sign) => [`${sign} for '`, apostrophe(sign)])),
  "👍 behind": around("", " 👍"),
  "👍🏽👍🏽👍🏽 behind, without a space": around("", "👍🏽👍🏽👍🏽"),
  "¿ ?": around("¿", "?"),
  "« »": around("«", "»"),
  "؟": around("", "؟"),
  "।": around("", "।"),
  "、 between words": (text) => text.replaceAll(" ", "、"),
  "first vowels with a diaeresis, NFC": (text) => text.replace(/[aeiou]/, "$&\u0308").normalize("NFC"),
  "first vowels with a diaeresis, NFD": (text) => text.replace(/[aeiou]/, "$&\u0308"),
};

const folder = mkdtempSync(join(tmpdir(), "edgelabel-robustness-"));
const samples = readFileSync(`${values.data}/${values.set}/test.tsv`, "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => [line.slice(0, line.indexOf("\t")), line.slice(line.indexOf("\t") + 1)]);

async function model(seed, ...options) {
  const file = join(folder, "model.wasm");
  execFileSync(
    process.execPath,
    [main, "train", `${values.data}/${values.set}/train.tsv`, "-o", file, "--seed", seed, ...options],
    { stdio: "ignore" },
  );
  return openModel(file);
}

const rights = Object.fromEntries(Object.keys(WAYS).map((way) => [way, [0, 0]]));
const seeds = values.seeds.split(",");
try {
  for (const seed of seeds) {
    const models = [await model(seed, "--set", "clean=none"), await model(seed)];
    for (const [way, write] of Object.entries(WAYS)) {
      for (const [label, text] of samples)
        models.forEach((each, i) => {
          rights[way][i] += each.classify(write(text)).label === label;
        });
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
const changed = (write) => samples.filter(([, text]) => write(text) !== text).length;
const percent = (right) => ((100 * right) / seeds.length / samples.length).toFixed(2);
console.log("| way | texts changed | none, % | default, % |\n|---|--:|--:|--:|");
for (const [way, [none, preset]] of Object.entries(rights))
  console.log(`| ${way} | ${changed(WAYS[way])} | ${percent(none)} | ${percent(preset)} |`);
