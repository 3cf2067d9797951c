// Several labels a text: micro F1 on GoEmotions (28 labels, 43,410 texts to train on), beside one-vs-rest logistic
// regression on TF-IDF and fastText's one-vs-all.
//   git clone --depth 1 https://github.com/monologg/GoEmotions-pytorch ~/.cache/edgelabel/goemotions
//   node bench/labels.mjs ~/.cache/edgelabel/goemotions/data/original [PYTHON]
// PYTHON has scikit-learn and fasttext-wheel. What the sets themselves hold is used as it is: dev.tsv is what every
// contender fits its threshold and settings on, test.tsv what is measured. Files go to a temporary folder.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { edgelabel } from "./program.mjs";

const [source, python, ...more] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "labels-"));
const names = readFileSync(join(source, "labels.txt"), "utf8").trim().split("\n");
for (const [from, to] of Object.entries({ train: "train", dev: "valid", test: "test" })) {
  const lines = readFileSync(join(source, `${from}.tsv`), "utf8")
    .trim()
    .split("\n");
  const rows = lines.map((line) => {
    const [text, numbers] = line.split("\t");
    const labels = numbers.split(",").map((number) => `__label__${names[Number(number)]}`);
    return `${labels.join(" ")} ${text.trim()}\n`;
  });
  writeFileSync(join(folder, `${to}.ft`), rows.join(""));
}

const model = join(folder, "model.wasm");
const [train, valid, test] = ["train", "valid", "test"].map((part) => join(folder, `${part}.ft`));
const trained = edgelabel("train", train, "--valid", valid, "-o", model, ...more);
const { micro_f1, macro_f1, accuracy } = edgelabel("eval", model, test);
const { bytes, form, seconds, calibration } = trained;
console.log(
  JSON.stringify({
    name: "edgelabel",
    threshold: calibration.reject.score,
    micro_f1,
    macro_f1,
    exact: accuracy,
    bytes,
    form,
    seconds,
  }),
);
if (python)
  console.log(
    execFileSync(python, [new URL("peers/labels.py", import.meta.url).pathname, folder], { encoding: "utf8" }).trim(),
  );
