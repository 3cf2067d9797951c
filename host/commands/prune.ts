// `edgelabel prune`: an f32 model -> one with fewer units and words, fine-tuned on the data,
// and a report of size, speed and accuracy before and after. Both models are measured in the
// form that is written, so that quantization does not affect the comparison.
import { Command } from "commander";
import { MAX_ROWS, MAX_WIDTH } from "../../assembly/abi.ts";
import { type Calibration, recalibration, renderCalibration } from "../training/calibration.ts";
import { Classifier, type ModelInfo } from "../model/classifier.ts";
import { type Sample } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";
import { requireWritable } from "../files/atomic.ts";
import { packModel } from "../model/pack.ts";
import { MIN_AGREEMENT, quantize, spreadTexts } from "../training/quantization.ts";
import { addSamples } from "../training/recipe.ts";
import { compareSpeed } from "../report/speed.ts";
import { type ModelForm, Trainer } from "../training/trainer.ts";
import { requireKnownLabels, tune } from "../training/fine-tune.ts";
import { evaluate } from "../report/evaluation.ts";
import { positive } from "../values.ts";
import { addDatasetOptions, type DatasetFlags, parserOf, parseSeed, readSamples, wholeNumber } from "./options.ts";
import { startProgress } from "../progress.ts";
import { isDeployable, parseOutput, requireOtherOutput, writeModel } from "./output.ts";
import { noteSeen, weak } from "../library/train.ts";
import { readElb } from "./pack.ts";
import { note, print, printJson } from "./terminal.ts";
import { kilobytes, nameOfAccuracy, percent } from "../figures.ts";

const EPOCHS = 3;
const LEARNING_RATE = 2e-3;

interface PruneFlags extends DatasetFlags {
  output: string;
  units?: number;
  words?: number;
  minCount?: number;
  epochs: number;
  learningRate: number;
  seed: number;
  valid: string[];
  json?: boolean;
}

interface Figures {
  bytes: number;
  words: number;
  /** For each recurrent layer, the units of one direction. */
  units: number[];
  microseconds: number;
  /** On the texts of --valid. */
  accuracy: number;
}

export function pruneCommand(): Command {
  const command = new Command("prune")
    .argument("<model>", "f32 model (.elb, or a .wasm that holds f32 weights)")
    .argument("<data...>", "labelled texts to rank the units, fine-tune and measure speed on")
    .requiredOption("-o, --output <file>", "model to write (.wasm: int8 as train writes it, or .elb: f32)", parseOutput)
    .requiredOption(
      "--valid <files...>",
      "labelled texts that are not in the data, to measure accuracy and calibrate on",
    )
    .option(
      "--units <n>",
      "recurrent units to keep in each direction: those that matter most to the loss on the data; multiples of 4 are fastest",
      wholeNumber(1, MAX_WIDTH),
    )
    .option("--words <n>", "words to keep: the most frequent ones in training", wholeNumber(1, MAX_ROWS))
    .option("--min-count <n>", "keep only words that occur n times in the data", wholeNumber(1, MAX_ROWS))
    .option("--epochs <n>", "passes of the fine-tuning over the data; 0: none", wholeNumber(0, 1000), EPOCHS)
    .option("--learning-rate <x>", "highest rate of the fine-tuning", parserOf(positive), LEARNING_RATE)
    .option("--seed <n>", "the same seed gives the same model", parseSeed, 1)
    .option("--json", "print the report as one JSON object");
  return addDatasetOptions(command)
    .addHelpText(
      "after",
      `
Every model with f32 weights can be pruned, also one imported from Keras. A removed word is
read by its n-grams or as the unknown word; if the model has neither, it is ignored. A
calibrated model is calibrated again on --valid; its rule for unknown texts then rejects the
same share of right answers as before.

Examples:
  edgelabel train train.tsv -o spam.elb
  edgelabel prune spam.elb train.tsv --valid valid.tsv -o small.wasm --units 32 --words 2000`,
    )
    .action(prune);
}

async function prune(path: string, data: string[], options: PruneFlags, command: Command): Promise<void> {
  if (options.units === undefined && options.words === undefined && options.minCount === undefined) {
    command.error("error: say what to remove, with --units, --words or --min-count");
  }
  await requireOtherOutput(command, options.output, path);
  await requireWritable(options.output);
  const elb = await readElb(path);
  const { info, labels } = await Classifier.fromBytes(elb, path);
  const samples = await readSamples(data, options, info.multi_label);
  const valid = await readSamples(options.valid, options, info.multi_label);
  requireKnownLabels(labels, [...samples, ...valid], path);
  noteSeen(valid, samples, note);

  const original = await Trainer.open(elb, path);
  addSamples(original, labels, samples, []);
  const pruned = original.prune(options);
  const { info: left } = await Classifier.fromBytes(pruned, path);
  if (left.weight_bytes >= info.weight_bytes) {
    throw new EdgelabelError(`${path}: nothing to remove; it has ${counts(info)}`);
  }
  const progress = startProgress("fine-tuning", options);
  const tuned = await tune(pruned, left, path, samples, options, {
    onBatch: (done) => progress.update(done, options.epochs, `epoch ${Math.ceil(done)}/${options.epochs}`),
  }).finally(() => progress.stop());
  const { form, elb: uncalibrated } = isDeployable(options.output)
    ? await quantize(tuned, options.output, {
        texts: spreadTexts(valid),
        minAgreement: MIN_AGREEMENT,
        onWeak: (form, { top1 }) => note(weak(form, top1, MIN_AGREEMENT)),
      })
    : { form: "f32" as ModelForm, elb: tuned.write("f32") };
  const before = original.write(form);
  const { elb: after, calibration } = await (await recalibration(before, valid, path))(uncalibrated);
  const report = { ...(await compare(before, after, options.output, samples, valid)), calibration };
  await writeModel(options.output, after);
  await (options.json
    ? printJson({ file: options.output, form, ...report })
    : print(render(options.output, form, report)));
}

interface Report {
  before: Figures;
  after: Figures;
  speed_ratio: number;
  /** null when the model was not calibrated before, and stays so. */
  calibration: Calibration | null;
}

async function compare(
  before: Uint8Array,
  after: Uint8Array,
  output: string,
  samples: readonly Sample[],
  valid: readonly Sample[],
): Promise<Omit<Report, "calibration">> {
  const models = [await Classifier.fromBytes(before, output), await Classifier.fromBytes(after, output)] as const;
  const speed = compareSpeed(
    ...models,
    samples.map(({ text }) => text),
  );
  const figures = async (elb: Uint8Array, classifier: Classifier, microseconds: number): Promise<Figures> => ({
    bytes: (isDeployable(output) ? await packModel(elb) : elb).length,
    words: classifier.info.tokenizer.words,
    units: unitsOf(classifier.info),
    microseconds,
    accuracy: evaluate(classifier, valid).accuracy,
  });
  return {
    before: await figures(before, models[0], speed.before),
    after: await figures(after, models[1], speed.after),
    speed_ratio: speed.ratio,
  };
}

function unitsOf(info: ModelInfo): number[] {
  return info.layers
    .filter(({ kind }) => kind === "lstm" || kind === "mingru")
    .map(({ output, bidirectional }) => (bidirectional ? output / 2 : output));
}

function counts(info: ModelInfo): string {
  return `${unitsOf(info).join(" and ")} units a direction and ${info.tokenizer.words} words`;
}

function render(output: string, form: string, { before, after, speed_ratio: ratio, calibration }: Report): string {
  const row = (name: string, show: (figures: Figures) => string, last = ""): string =>
    `${name.padEnd(12)}${show(before).padStart(14)}${show(after).padStart(14)}${last && `   ${last}`}`;
  const lines = [
    `${output}: ${form}`,
    `${" ".repeat(12)}${"before".padStart(14)}${"after".padStart(14)}`,
    row("size", ({ bytes }) => kilobytes(bytes), percent(after.bytes / before.bytes)),
    row("words", ({ words }) => String(words)),
    row("units", ({ units }) => units.join(", ")),
    row("a text", ({ microseconds }) => `${microseconds.toFixed(1)} µs`, `${ratio.toFixed(2)} times as fast`),
    row(nameOfAccuracy(calibration?.multi_label ?? false), ({ accuracy }) => percent(accuracy)),
  ];
  return `${lines.join("\n")}\n${calibration ? renderCalibration(calibration) : ""}`;
}
