// The experiment behind host/training/recipe.ts: trains on the training texts with changed settings
// and prints the accuracy on validation texts. Test texts are never used; if a set has no
// valid.tsv, every 10th line of train.tsv is held out.
//   node bench/recipe.mjs hwu64,massive_en '{"units":96}' 1,2,3
//   node bench/recipe.mjs hwu64 '{"minSteps":0}' 1,2,3 20        # 20 training texts a label
import { existsSync } from "node:fs";
import { readDataset } from "../build/host/data/dataset.js";
import { DEFAULT_RECIPE, prepareAdapted, runEpochs } from "../build/host/training/recipe.js";

const [
  sets = "snips,hwu64,sms_spam,massive_en,massive_zh",
  changes = "{}",
  seeds = "1,2,3",
  textsPerLabel = "Infinity",
] = process.argv.slice(2);
const data = "../shared/data";

const cells = [];
for (const set of sets.split(",")) {
  let training = await readDataset([`${data}/${set}/train.tsv`]);
  let validation;
  if (existsSync(`${data}/${set}/valid.tsv`)) validation = await readDataset([`${data}/${set}/valid.tsv`]);
  else {
    validation = training.filter((_, i) => i % 10 === 9);
    training = training.filter((_, i) => i % 10 !== 9);
  }
  const seen = new Map();
  training = training.filter(({ label }) => {
    seen.set(label, (seen.get(label) ?? 0) + 1);
    return seen.get(label) <= Number(textsPerLabel);
  });
  const known = new Set(training.map(({ label }) => label));
  validation = validation.filter(({ label }) => known.has(label));
  const accuracies = [];
  for (const seed of seeds.split(",").map(Number)) {
    const given = JSON.parse(changes);
    const asked = { ...DEFAULT_RECIPE, ...given, seed };
    const { trainer, recipe } = await prepareAdapted(training, validation, asked, new Set(Object.keys(given)));
    trainer.start(recipe);
    runEpochs(trainer, recipe.epochs, false, {});
    accuracies.push(100 * trainer.validate().accuracy);
  }
  cells.push(`${accuracies.map((accuracy) => accuracy.toFixed(2)).join(" ")}`);
}
console.log(`| ${changes} | ${cells.join(" | ")} |`);
