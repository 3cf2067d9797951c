// The trained models of the benchmark: recipes on snips as our model files, and the default one's weights and
// vocabulary in the peers' format.
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { unpackModel } from "../build/host/model/container.js";
import { RECIPES } from "../build/host/training/setting-table.js";
import { Trainer } from "../build/host/training/trainer.js";
import { packModel } from "../build/host/model/pack.js";
import { Classifier } from "../build/host/model/classifier.js";
import { testing, writeForPeers } from "./models.mjs";
import { main } from "./program.mjs";

/** Recipes whose models are measured beside the default one's. */
export const OTHER_RECIPES = ["linear", "fast"].filter((name) => name in RECIPES);

const padded = (bytes) => (bytes + 15) & ~15;

/** The words of an .elb in id order; offsets as assembly/FORMAT.md has them. */
function wordsOf(elb, wasm) {
  const view = new DataView(elb.buffer, elb.byteOffset, elb.length);
  const header = (name) => view.getUint32(wasm[`HEADER_${name}`].value, true);
  let at = wasm.HEADER_BYTES.value;
  for (const part of ["filterBytes", "splitBytes", "nameBytes", "versionBytes"]) at += padded(header(part));
  const count = header("wordCount");
  const start = at + padded((count + 1) * 4);
  return Array.from({ length: count }, (_, i) =>
    elb.toString("utf8", start + view.getUint32(at + 4 * i, true), start + view.getUint32(at + 4 * i + 4, true)),
  );
}

/** Lines of label<TAB>text. */
function readTsv(file) {
  return readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => [line.slice(0, line.indexOf("\t")), line.slice(line.indexOf("\t") + 1)]);
}

/**
 * Writes all files to `folder`; returns the bytes of the default recipe's deployable. `trained` has what need not be
 * trained: by "default" an f32 .elb, by the name of another recipe its deployable.
 */
export async function makeSnips(folder, data, trained) {
  const train = (file, ...options) =>
    execFileSync(process.execPath, [main, "train", join(data, "train.tsv"), "-o", file, "--seed", "1", ...options], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  for (const recipe of OTHER_RECIPES) {
    const file = join(folder, `snips.${recipe}.wasm`);
    if (trained[recipe]) copyFileSync(trained[recipe], file);
    else train(file, "--recipe", recipe);
    writeFileSync(join(folder, `snips.${recipe}.elb`), unpackModel(readFileSync(file), file));
  }
  const file = trained.default ?? join(folder, "snips.train.elb");
  if (!trained.default) train(file, "--name", "snips");
  const elb = readFileSync(file);
  const trainer = await Trainer.open(elb, file);
  trainer.buildOpened();
  const tensors = Array.from({ length: trainer.tensorCount() }, (_, i) => trainer.tensor(i));
  for (const form of ["f32", "int8"]) writeFileSync(join(folder, `snips.${form}.elb`), trainer.write(form));
  const deployable = await packModel(trainer.write("int8"));
  writeFileSync(join(folder, "snips.wasm"), deployable);

  const lines = readTsv(join(data, "test.tsv"));
  const texts = lines.map(([, text]) => text);
  const { labels } = await Classifier.fromBytes(elb, file);
  const words = wordsOf(elb, testing());
  const ids = new Map(words.map((word, i) => [word, i + 1]));
  const known = texts.map((text) => {
    const found = text
      .toLowerCase()
      .replace(/[!"#$%&()*+,\-./:;<=>?@[\\\]^_`{|}~\t\n]/g, " ")
      .split(" ")
      .map((word) => ids.get(word))
      .filter(Boolean);
    return found.length > 0 ? found : [0];
  });
  const fasttext = join(folder, "snips.ft");
  writeFileSync(
    fasttext,
    readTsv(join(data, "train.tsv"))
      .map(([label, text]) => `__label__${label} ${text}\n`)
      .join(""),
  );

  // The peers get only the rows of padding and words, since they have no n-grams for unknown words.
  const width = 64;
  const rows = words.length + 1;
  const units = tensors[2].length ** 0.5 / 2;
  writeForPeers(
    folder,
    {
      name: "snips",
      rows,
      width,
      units,
      outputs: labels.length,
      activation: "softmax",
      steps: null,
      pooled: true,
      longest: Math.max(...known.map(({ length }) => length)),
      ids: known,
      words,
      labels,
      texts,
      inputTexts: texts,
      fasttext,
      testing: fileURLToPath(new URL("../build/testing.wasm", import.meta.url)),
    },
    [tensors[0].subarray(0, rows * width), ...tensors.slice(1)],
  );
  return { deployable, expected: lines.map(([label]) => label) };
}
