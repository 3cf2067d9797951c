// `edgelabel train`: labelled texts -> a model, by the recipe in host/recipe.ts and the
// options that change it. NAME.wasm is quantized and packed; NAME.elb keeps the f32
// weights and what is needed to resume.
import { Command, InvalidArgumentError, Option } from "commander";
import { MAX_ROWS, MAX_SEQUENCE, MAX_WIDTH } from "../../assembly/abi.ts";
import { Classifier } from "../classifier.ts";
import { readDataset, type Sample } from "../dataset.ts";
import { startProgress } from "../progress.ts";
import { MIN_AGREEMENT, type Quantized, quantize } from "../quantization.ts";
import { addSamples, DEFAULT_RECIPE, type EpochReport, prepareTraining, type RecipeOptions, runEpochs, TUTORIAL_RECIPE } from "../recipe.ts";
import { Trainer } from "../trainer.ts";
import { addDatasetOptions, type DatasetFlags, share, wholeNumber } from "./options.ts";
import { isDeployable, kilobytes, modelName, parseOutput, percent, print, printJson, requireWritable, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";
import { noteWeak, sentence } from "./quantize.ts";

interface TrainOptions extends DatasetFlags {
  output: string;
  valid?: string[];
  recipe?: keyof typeof RECIPES;
  seed?: number;
  epochs?: number;
  batch?: number;
  learningRate?: number;
  embedding?: number;
  units?: number;
  maxlen?: number;
  numWords?: number;
  balanced?: boolean;
  name?: string;
  modelVersion?: string;
  resume?: string;
  stopAfter?: number;
  minAgreement?: number;
  quantize: boolean;
  json?: boolean;
}

const RECIPES = { default: DEFAULT_RECIPE, tutorial: TUTORIAL_RECIPE };
/** What a resumed run takes from its file. */
const FIXED_BY_RESUME = ["recipe", "seed", "epochs", "batch", "learningRate", "embedding", "units", "maxlen", "numWords", "balanced", "name", "modelVersion"];
const MAX_SEED = 2 ** 32 - 1;
/** Texts that the quantized model is checked on, at most. */
const CHECKED_TEXTS = 2000;

export function trainCommand(): Command {
  return addDatasetOptions(new Command("train")
    .description("train a model on labelled texts")
    .argument("<data...>", "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)")
    .requiredOption("-o, --output <file>", "deployable to write (.wasm), or .elb for f32 weights that can be trained on", parseOutput)
    .option("--valid <files...>", "labelled texts to measure each epoch on")
    .addOption(new Option("--recipe <name>", "default, or tutorial: Embedding, LSTM, Dense(1, sigmoid) as in the Keras tutorial").choices(Object.keys(RECIPES)))
    .option("--seed <n>", `the same seed gives the same model (default: ${DEFAULT_RECIPE.seed})`, wholeNumber(0, MAX_SEED))
    .option("--epochs <n>", `passes over the data (default: ${DEFAULT_RECIPE.epochs})`, wholeNumber(1, 100_000))
    .option("--batch <n>", `texts a step (default: ${DEFAULT_RECIPE.batch})`, wholeNumber(1, 4096))
    .option("--learning-rate <x>", `of the optimizer (default: ${DEFAULT_RECIPE.learningRate})`, positive)
    .option("--embedding <n>", `width of the word vectors (default: ${DEFAULT_RECIPE.embedding})`, wholeNumber(1, MAX_WIDTH))
    .option("--units <n>", `LSTM units a direction (default: ${DEFAULT_RECIPE.units})`, wholeNumber(1, MAX_WIDTH))
    .option("--maxlen <n>", `tokens of a text that count (default: ${DEFAULT_RECIPE.tokenizer.sequenceLength})`, wholeNumber(1, MAX_SEQUENCE))
    .option("--num-words <n>", "keep only the n - 1 most frequent words", wholeNumber(2, MAX_ROWS))
    .option("--balanced", "let all labels weigh the same, however many texts they have")
    .option("--name <name>", "name in the model (default: that of the output file)")
    .option("--model-version <text>", 'version in the model (default: "1")')
    .addOption(new Option("--resume <file>", "go on with the run in this .elb, on the same data").conflicts(FIXED_BY_RESUME))
    .option("--stop-after <n>", "end after n epochs of the run and keep the rest for --resume (-o must be .elb)", wholeNumber(1, 100_000))
    .option("--min-agreement <share>", `least share of equal labels of int8 and f32 (default: ${MIN_AGREEMENT})`, share)
    .option("--no-quantize", "keep f32 weights in the .wasm")
    .option("--json", "print one JSON object"))
    .addHelpText("after", `
Examples:
  edgelabel train train.tsv -o spam.wasm
  edgelabel train train.csv --text-column message --valid test.csv -o spam.wasm --seed 1
  edgelabel train train.tsv -o spam.elb --stop-after 5
  edgelabel train train.tsv -o spam.wasm --resume spam.elb`)
    .action(async (data: string[], options: TrainOptions, command: Command) => {
      if (options.stopAfter !== undefined && isDeployable(options.output)) command.error("error: --stop-after needs an .elb to keep the rest of the run in; change -o");
      await requireWritable(options.output);
      const started = performance.now();
      const samples = await readDataset(data, options);
      const validation = options.valid === undefined ? [] : await readDataset(options.valid, options);
      const trainer = options.resume === undefined ? await begin(samples, validation, options) : await resume(options.resume, samples, validation);
      const last = runAll(trainer, validation.length > 0, options);
      const written = await finish(trainer, validation.length > 0 ? validation : samples, options);
      const bytes = await writeModel(options.output, written.elb);
      const labels = (await Classifier.fromBytes(written.elb, options.output)).labels.length;
      const seconds = (performance.now() - started) / 1000;
      await (options.json
        ? printJson(summary(last, written, { file: options.output, bytes, labels, texts: samples.length, epochs_left: trainer.epochsLeft(), seconds }))
        : print(renderSummary(last, written, { file: options.output, bytes, labels, texts: samples.length, seconds })));
    });
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError("it takes a number above 0.");
  return value;
}

async function begin(samples: readonly Sample[], validation: readonly Sample[], options: TrainOptions): Promise<Trainer> {
  const recipe = adapt(RECIPES[options.recipe ?? "default"], options);
  const trainer = await prepareTraining(samples, validation, recipe);
  trainer.start(recipe);
  return trainer;
}

function adapt(recipe: RecipeOptions, options: TrainOptions): RecipeOptions {
  const { seed, epochs, batch, learningRate, embedding, units, numWords, balanced } = options;
  const given = Object.entries({ seed, epochs, batch, learningRate, embedding, units, numWords, balanced }).filter(([, value]) => value !== undefined);
  return {
    ...recipe,
    ...(Object.fromEntries(given) as Partial<RecipeOptions>),
    tokenizer: { ...recipe.tokenizer, sequenceLength: options.maxlen ?? recipe.tokenizer.sequenceLength },
    name: options.name ?? modelName(options.output),
    version: options.modelVersion ?? recipe.version,
  };
}

async function resume(path: string, samples: readonly Sample[], validation: readonly Sample[]): Promise<Trainer> {
  const elb = await readElb(path);
  const { labels } = await Classifier.fromBytes(elb, path);
  const trainer = await Trainer.open(elb, path);
  addSamples(trainer, labels, samples, validation);
  trainer.resume();
  return trainer;
}

function runAll(trainer: Trainer, validates: boolean, { json, stopAfter }: TrainOptions): EpochReport | null {
  const epochs = trainer.epochsLeft();
  const progress = startProgress("training", { json });
  let batches = 1;
  let figures = "";
  const show = (epoch: number, left: number): void =>
    progress.update(epoch * batches - left, Math.min(epochs, stopAfter ?? epochs) * batches, `epoch ${epoch}/${epochs}${figures}`);
  try {
    return runEpochs(trainer, epochs, validates, {
      onBatch(epoch, left) {
        batches = Math.max(batches, left + 1);
        show(epoch, left);
      },
      onEpoch({ epoch, train, validation }) {
        figures = ` loss ${train.loss.toFixed(4)} ${validation ? "valid" : "accuracy"} ${percent((validation ?? train).accuracy)}`;
        show(epoch, 0);
      },
    }, stopAfter);
  } finally {
    progress.stop();
  }
}

async function finish(trainer: Trainer, samples: readonly Sample[], options: TrainOptions): Promise<Quantized> {
  if (!isDeployable(options.output)) return { elb: trainer.write("training"), form: "f32", agreement: null };
  if (!options.quantize) return { elb: trainer.write("f32"), form: "f32", agreement: null };
  const minAgreement = options.minAgreement ?? MIN_AGREEMENT;
  return quantize(trainer, options.output, { texts: checked(samples), minAgreement, onWeak: noteWeak(minAgreement) });
}

/** Evenly spread over the data, so that a sorted file is covered too. */
function checked(samples: readonly Sample[]): string[] {
  const step = Math.ceil(samples.length / CHECKED_TEXTS);
  return samples.filter((_, i) => i % step === 0).map(({ text }) => text);
}

interface Outcome {
  file: string;
  bytes: number;
  labels: number;
  texts: number;
  seconds: number;
}

function summary(last: EpochReport | null, { form, agreement }: Quantized, outcome: Outcome & { epochs_left: number }): object {
  return { ...outcome, form, train: last?.train ?? null, validation: last?.validation ?? null, agreement };
}

function renderSummary(last: EpochReport | null, { form, agreement }: Quantized, { file, bytes, labels, texts, seconds }: Outcome): string {
  const lines = [`${file}: ${labels} labels, ${form}, ${kilobytes(bytes)}, from ${texts} texts in ${seconds.toFixed(1)} s`];
  if (last) lines.push(`last epoch: loss ${last.train.loss.toFixed(4)}, accuracy ${percent(last.train.accuracy)} while training`);
  if (last?.validation) lines.push(`validation: loss ${last.validation.loss.toFixed(4)}, accuracy ${percent(last.validation.accuracy)} (f32)`);
  if (agreement) lines.push(`${form}: ${sentence(agreement)}`);
  return `${lines.join("\n")}\n`;
}
