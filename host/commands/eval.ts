// `edgelabel eval`: a model and labelled texts -> accuracy, precision, recall, F1 and
// the confusion matrix, as a table or as one JSON object; with --curve also how well the
// scores separate right answers from others.
import { Command } from "commander";
import { renderCurve } from "../report/chart.ts";
import { openModel } from "../model/file.ts";
import { similarLabels } from "../data/report.ts";
import { listed } from "../errors.ts";
import { evaluate, renderEvaluation } from "../report/evaluation.ts";
import { requireWritable, writeWhole } from "../files/atomic.ts";
import { startProgress } from "../progress.ts";
import { measureCurve, renderCurveTable } from "../report/rejection-curve.ts";
import { addDatasetOptions, type DatasetFlags, readSamples, svgName } from "./options.ts";
import { readElb } from "./pack.ts";
import { note, print, printJson } from "./terminal.ts";

interface EvalOptions extends DatasetFlags {
  curve?: boolean;
  chart?: string;
  json?: boolean;
}

export function evalCommand(): Command {
  return addDatasetOptions(
    new Command("eval")
      .argument("<model>", "model file (.wasm or .elb)")
      .argument("<data...>", "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)")
      .option("--curve", "show the effect of rejecting low scores, and how well scores are calibrated")
      .option("--chart <file>", "with --curve: write the curve as an SVG", svgName)
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      `
Texts whose label the model does not know count as wrong. Averages are over the labels
that occur, and 0/0 is 0, as in scikit-learn. Texts that the model rejects as unknown
count as wrong too; "accepted" leaves them out.

Examples:
  edgelabel eval spam.wasm test.tsv
  edgelabel eval spam.wasm test.csv --text-column message --json
  edgelabel eval intents.wasm test.tsv others.tsv --curve --chart curve.svg`,
    )
    .action(async (model: string, data: string[], options: EvalOptions, command: Command) => {
      if (options.chart !== undefined && !options.curve) command.error("error: --chart draws the curve; add --curve");
      if (options.chart !== undefined) await requireWritable(options.chart);
      const classifier = await openModel(model);
      const samples = await readSamples(data, options);
      const progress = startProgress("evaluating", { json: options.json });
      const evaluation = evaluate(classifier, samples, (done) => progress.update(done, samples.length));
      progress.stop();
      if (evaluation.unknown_labels.length > 0) {
        const alike = similarLabels(evaluation.labels);
        note(
          `warning: the model does not know ${listed(evaluation.unknown_labels)}; their texts count as wrong${alike.length > 0 ? `. Similar labels: ${alike.slice(0, 3).map(listed).join("; ")}` : ""}`,
        );
      }
      const curve = options.curve
        ? await measureCurve(await readElb(model), classifier.info, samples, model)
        : undefined;
      if (curve && options.chart !== undefined)
        await writeWhole(
          options.chart,
          Buffer.from(renderCurve(curve.points, `${classifier.name}: ${samples.length} texts`)),
        );
      await (options.json
        ? printJson({ ...evaluation, curve })
        : print(renderEvaluation(evaluation) + (curve ? `\n${renderCurveTable(curve)}` : "")));
    });
}
