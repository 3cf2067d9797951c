// `edgelabel eval`: a model and labelled texts -> accuracy, precision, recall, F1 and
// the confusion matrix, as a table or as one JSON object; with --curve also how well the
// scores separate right answers from others.
import { Command } from "commander";
import { openModel } from "../model/file.ts";
import { labelsOfSample, type Sample } from "../data/dataset.ts";
import { similarLabels } from "../data/report.ts";
import { listed } from "../errors.ts";
import { isRight } from "../training/label-sets.ts";
import { compare, renderComparison } from "../report/comparison.ts";
import { evaluate, renderEvaluation } from "../report/evaluation.ts";
import { requireWritable, writeWhole } from "../files/atomic.ts";
import { startProgress } from "../progress.ts";
import { measureCurve, renderCurve, renderCurveTable } from "../report/rejection-curve.ts";
import { type Mistake, ranked, renderMistakes } from "../report/mistakes.ts";
import { renderPage, type ScoreBin } from "../report/page.ts";
import { addDatasetOptions, type DatasetFlags, htmlName, readSamples, svgName } from "./options.ts";
import { readElb } from "./pack.ts";
import { note, print, printJson } from "./terminal.ts";

interface EvalOptions extends DatasetFlags {
  curve?: boolean;
  chart?: string;
  errors?: string;
  report?: string;
  json?: boolean;
}

/** Explaining takes 2 forward passes a token. */
const MOST_EXPLAINED = 100;
const SCORE_BINS = 10;

/** The labels of a text; "?" for none, as predict shows it. */
const inARow = (labels: readonly string[]): string => labels.join(", ") || "?";

const isModelName = (path: string): boolean => /\.(wasm|elb)$/.test(path);

export function evalCommand(): Command {
  return addDatasetOptions(
    new Command("eval")
      .argument("<model>", "model file (.wasm or .elb); two of them are compared")
      .argument("<data...>", "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)")
      .option("--curve", "show the effect of rejecting low scores, and how well scores are calibrated")
      .option("--chart <file>", "with --curve: write the curve as an SVG", svgName)
      .option("--errors <file>", "write the texts that are labelled wrong as TSV, the most confident answers first")
      .option("--report <file>", "write all of this as one page of HTML, with heat maps of the wrong answers", htmlName)
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      `
Texts whose label the model does not know count as wrong. Averages are over the labels
that occur, and 0/0 is 0, as in scikit-learn. Texts that the model rejects as unknown
count as wrong too; "accepted" leaves them out. Of labels such as a/b/c, it says how many
answers are right up to each level; a/b in place of a/b/c is wrong, but right up to level 2. Of two models it says on how many texts
each is right where the other is not, and whether that may be chance (McNemar's test).

Examples:
  edgelabel eval spam.wasm test.tsv
  edgelabel eval spam.wasm test.csv --text-column message --json
  edgelabel eval old.wasm new.wasm test.tsv
  edgelabel eval intents.wasm test.tsv others.tsv --curve --chart curve.svg
  edgelabel eval intents.wasm test.tsv --errors wrong.tsv --report report.html`,
    )
    .action(async (model: string, data: string[], options: EvalOptions, command: Command) => {
      if (options.chart !== undefined && !options.curve) command.error("error: --chart draws the curve; add --curve");
      for (const file of [options.chart, options.errors, options.report])
        if (file !== undefined) await requireWritable(file);
      const other = isModelName(data[0]!) ? data.shift() : undefined;
      if (other !== undefined && data.length === 0)
        command.error("error: missing argument 'data'; eval A B compares two models on labelled texts");
      const only = (["curve", "errors", "report"] as const).find((name) => options[name] !== undefined);
      if (other !== undefined && only) command.error(`error: --${only} is for one model`);
      const classifier = await openModel(model);
      const rival = other === undefined ? undefined : await openModel(other);
      const isMultiLabel = (classifier.info.multi_label || rival?.info.multi_label) ?? false;
      const samples: (Sample & { file: string })[] = [];
      for (const path of data) {
        const file = path === "-" ? "standard input" : path;
        for (const sample of await readSamples([path], options, isMultiLabel)) samples.push({ ...sample, file });
      }
      if (other !== undefined && rival) {
        const progress = startProgress("comparing", { json: options.json });
        const onProgress = (done: number): void => progress.update(done, samples.length);
        const comparison = compare([[model, classifier], [other, rival]], samples, onProgress); // prettier-ignore
        progress.stop();
        await (options.json ? printJson(comparison) : print(renderComparison(comparison)));
        return;
      }
      const progress = startProgress("evaluating", { json: options.json });
      const mistakes: Mistake[] = [];
      const bins = Array.from({ length: SCORE_BINS }, (): ScoreBin => ({ texts: 0, right: 0, scores: 0 }));
      const evaluation = evaluate(
        classifier,
        samples,
        (done) => progress.update(done, samples.length),
        (sample, prediction) => {
          const { file, line, text } = sample;
          const { score } = prediction;
          const [truth, answer] = prediction.labels
            ? [inARow(labelsOfSample(sample)), inARow(prediction.labels.map(({ label }) => label))]
            : [sample.label, prediction.label];
          const bin = bins[Math.min(SCORE_BINS - 1, Math.floor(SCORE_BINS * score))]!;
          bin.texts++;
          bin.scores += score;
          // Of several labels, the score is that of the best one.
          const isHit = prediction.labels
            ? labelsOfSample(sample).some((label) => Object.hasOwn(prediction.scores, label))
            : answer === truth;
          if (isHit) bin.right++;
          if (!isRight(sample, prediction)) mistakes.push({ file, line, text, truth, answer, score });
        },
      );
      progress.stop();
      if (evaluation.unknown_labels.length > 0) {
        const alike = similarLabels(evaluation.labels);
        note(
          `warning: the model does not know ${listed(evaluation.unknown_labels)}; their texts count as wrong${alike.length > 0 ? `. Similar labels: ${alike.slice(0, 3).map(listed).join("; ")}` : ""}`,
        );
      }
      const wrong = ranked(mistakes);
      if (options.errors !== undefined) await writeWhole(options.errors, Buffer.from(renderMistakes(wrong)));
      const curve =
        options.curve || options.report !== undefined
          ? await measureCurve(await readElb(model), classifier.info, samples, model)
          : undefined;
      if (curve && options.chart !== undefined)
        await writeWhole(options.chart, Buffer.from(renderCurve(curve, `${classifier.name}: ${samples.length} texts`)));
      if (curve && options.report !== undefined) {
        const shown = wrong
          .slice(0, MOST_EXPLAINED)
          .map((mistake) => ({ mistake, explanation: classifier.explain(mistake.text) }));
        const title = `${classifier.name}: ${samples.length} texts`;
        const page = renderPage({ title, evaluation, curve, bins, wrong: wrong.length, shown });
        await writeWhole(options.report, Buffer.from(page));
      }
      await (options.json
        ? printJson({ ...evaluation, curve: options.curve ? curve : undefined })
        : print(renderEvaluation(evaluation) + (curve && options.curve ? `\n${renderCurveTable(curve)}` : "")));
    });
}
