// The experiment behind host/training/recipe.ts: trains on the training texts with changed settings
// and prints the accuracy on validation texts. Test texts are never used; if a set has no
// valid.tsv, every 10th line of train.tsv is held out.
//   node bench/recipe.mjs hwu64 massive_en --set units=96 --seeds 1,2,3
//   node bench/recipe.mjs hwu64 --recipe fast --set linear=false
//   node bench/recipe.mjs hwu64 --texts-per-label 20 --min-steps 0     # 0: the recipe is not adapted to few texts
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { readDataset } from "../build/host/data/read.js";
import { Survey } from "../build/host/data/survey.js";
import { prepareAdapted, runEpochs } from "../build/host/training/recipe.js";
import { parseSetting, RECIPES, withSettings } from "../build/host/training/setting-table.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    recipe: { type: "string", default: "default" },
    set: { type: "string", multiple: true, default: [] },
    seeds: { type: "string", default: "1,2,3" },
    "texts-per-label": { type: "string", default: "Infinity" },
    "min-steps": { type: "string", default: String(RECIPES.default.minSteps) },
    data: { type: "string", default: "../shared/data" },
  },
});
const sets = positionals.length ? positionals : ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"];
const { settings, given } = withSettings(RECIPES[values.recipe], new Map(values.set.map(parseSetting)));

const cells = [];
for (const set of sets) {
  let training = await readDataset([`${values.data}/${set}/train.tsv`]);
  let validation;
  if (existsSync(`${values.data}/${set}/valid.tsv`))
    validation = await readDataset([`${values.data}/${set}/valid.tsv`]);
  else {
    validation = training.filter((_, i) => i % 10 === 9);
    training = training.filter((_, i) => i % 10 !== 9);
  }
  const seen = new Map();
  training = training.filter(({ label }) => {
    seen.set(label, (seen.get(label) ?? 0) + 1);
    return seen.get(label) <= Number(values["texts-per-label"]);
  });
  const known = new Set(training.map(({ label }) => label));
  validation = validation.filter(({ label }) => known.has(label));
  const accuracies = [];
  for (const seed of values.seeds.split(",").map(Number)) {
    const asked = { ...settings, minSteps: Number(values["min-steps"]), seed };
    const { trainer, recipe } = await prepareAdapted(new Survey(training), validation, asked, given);
    trainer.start(recipe);
    runEpochs(trainer, recipe.epochs, false, {});
    accuracies.push(100 * trainer.validate().accuracy);
  }
  cells.push(`${accuracies.map((accuracy) => accuracy.toFixed(2)).join(" ")}`);
}
console.log(`| ${values.set.join(" ")} | ${cells.join(" | ")} |`);
