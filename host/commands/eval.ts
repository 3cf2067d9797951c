// `edgelabel eval`: a model and labelled texts -> accuracy, precision, recall, F1 and
// the confusion matrix, as a table or as one JSON object.
import { Command } from "commander";
import { Classifier } from "../classifier.ts";
import { readDataset, type Sample } from "../dataset.ts";
import { type Evaluation, renderEvaluation, Tally } from "../evaluation.ts";
import { type Progress, startProgress } from "../progress.ts";
import { addDatasetOptions, type DatasetFlags } from "./options.ts";
import { note, print, printJson } from "./output.ts";

const PROGRESS_EVERY = 256;

export function evalCommand(): Command {
  return addDatasetOptions(new Command("eval")
    .description("measure a model on labelled texts")
    .argument("<model>", "model file (.wasm or .elb)")
    .argument("<data...>", "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)")
    .option("--json", "print one JSON object"))
    .addHelpText("after", `
Labels of the data that the model does not know count as wrong. Averages run over the
labels that occur, and 0/0 is 0, as in scikit-learn.

Examples:
  edgelabel eval spam.wasm test.tsv
  edgelabel eval spam.wasm test.csv --text-column message --json`)
    .action(async (model: string, data: string[], options: DatasetFlags & { json?: boolean }) => {
      const classifier = await Classifier.open(model);
      const samples = await readDataset(data, options);
      const progress = startProgress("evaluating", { json: options.json });
      const evaluation = evaluate(classifier, samples, progress);
      if (evaluation.unknown_labels.length > 0) {
        note(`warning: the model does not know ${evaluation.unknown_labels.map((label) => JSON.stringify(label)).join(", ")}; their texts count as wrong`);
      }
      await (options.json ? printJson(evaluation) : print(renderEvaluation(evaluation)));
    });
}

export function evaluate(classifier: Classifier, samples: readonly Sample[], progress?: Progress): Evaluation {
  const tally = new Tally(classifier.labels);
  samples.forEach(({ label, text }, i) => {
    tally.add(label, classifier.classify(text).label ?? "?");
    if (i % PROGRESS_EVERY === 0) progress?.update(i, samples.length);
  });
  progress?.update(samples.length, samples.length);
  progress?.stop();
  return tally.evaluate();
}
