// Accuracy with few texts: for each set, number of texts a label and sample of ../shared/data/few, `edgelabel train` with no
// other option, then `edgelabel eval` of the int8 deployable on the set's test texts. The figures are means over the samples.
//   node bench/few.mjs [set ...] [--texts 5,10,20] [--samples 1,2,3] [--recipe fast] [--set name=value] [--vectors FILE] [--data ../shared/data]
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { edgelabel } from "./program.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    texts: { type: "string", default: "5,10,20" },
    samples: { type: "string", default: "1,2,3" },
    recipe: { type: "string", default: "default" },
    set: { type: "string", multiple: true, default: [] },
    vectors: { type: "string" },
    data: { type: "string", default: "../shared/data" },
  },
});
/** An SVM on TF-IDF on the same samples, from ../shared/data/README.md. */
const SVM = {
  snips: { 5: 88.0, 10: 93.6, 20: 95.2 },
  sms_spam: { 5: 71.2, 10: 83.2, 20: 82.3 },
  massive_zh: { 5: 42.3, 10: 50.8, 20: 58.9 },
  massive_en: { 5: 49.0, 10: 58.7, 20: 66.3 },
  hwu64: { 5: 60.6, 10: 70.5, 20: 77.7 },
};
const sets = positionals.length ? positionals : Object.keys(SVM);

const folder = mkdtempSync(join(tmpdir(), "edgelabel-few-"));
const model = join(folder, "model.wasm");
const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
console.log("| set | texts a label | edgelabel | SVM | | KB | train s |\n|---|--:|--:|--:|--:|--:|--:|");
try {
  for (const set of sets) {
    for (const texts of values.texts.split(",")) {
      const runs = values.samples.split(",").map((sample) => {
        const settings = values.set.flatMap((setting) => ["--set", setting]);
        const { seconds } = edgelabel(
          "train",
          `${values.data}/few/${set}/${texts}-${sample}.tsv`,
          "-o",
          model,
          "--recipe",
          values.recipe,
          ...settings,
          ...(values.vectors === undefined ? [] : ["--vectors", values.vectors]),
        );
        const { accuracy } = edgelabel("eval", model, `${values.data}/${set}/test.tsv`);
        return { accuracy: 100 * accuracy, kilobytes: statSync(model).size / 1024, seconds };
      });
      const accuracy = mean(runs.map((run) => run.accuracy));
      const svm = SVM[set]?.[texts];
      const more = svm === undefined ? "" : (accuracy - svm).toFixed(1);
      console.log(
        `| ${set} | ${texts} | ${accuracy.toFixed(1)} | ${svm?.toFixed(1) ?? ""} | ${more} | ${Math.ceil(Math.max(...runs.map((run) => run.kilobytes)))} | ${mean(runs.map((run) => run.seconds)).toFixed(1)} |`,
      );
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
