// `edgelabel train`: labelled texts -> a model, by a recipe of host/training/recipe.ts and the
// settings that change it. NAME.wasm is quantized and packed; NAME.elb keeps the f32
// weights and what is needed to resume.
import { shellQuoted } from "../escape.ts";
import { Command, InvalidArgumentError, Option } from "commander";
import { MAX_WORKERS } from "../../assembly/abi.ts";
import { EdgelabelError } from "../errors.ts";
import { isMultiLabel } from "../data/dataset.ts";
import { keptAside } from "../data/split.ts";
import { partsOf, type Samples } from "../data/survey.ts";
import { requireWritable, writeWhole } from "../files/atomic.ts";
import { readText, readUnzipped, requireReadable } from "../files/read.ts";
import { type Chosen, type RunSettings, typedName } from "../library/settings.ts";
import { type CrossValidation, runFolds } from "../library/folds.ts";
import {
  chooseTraining,
  type Finished,
  runTraining,
  type Trained,
  type Training,
  type TrainingInMemory,
} from "../library/train.ts";
import { tune } from "../library/tune.ts";
import { asTyped } from "../program-name.ts";
import { startProgress } from "../progress.ts";
import { renderChart } from "../report/chart.ts";
import { renderTrials, renderTrialsChart, type Trial, type Tuned } from "../report/tuning.ts";
import { renderCalibration } from "../training/calibration.ts";
import { DEFAULT_RECIPE, FAST_RECIPE, type EpochReport } from "../training/recipe.ts";
import { RECIPES } from "../training/setting-table.ts";
import { parseSynonyms } from "../training/synonyms.ts";
import { startWorkers } from "../training/workers.ts";
import { positive, shareBelow1 } from "../values.ts";
import { UNKNOWN_HELP } from "./calibrate.ts";
import {
  addDatasetOptions,
  type DatasetFlags,
  nameText,
  parserOf,
  parseSeed,
  openSamples,
  readSamples,
  svgName,
  wholeNumber,
} from "./options.ts";
import { isDeployable, modelName, parseOutput, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";
import { sentence } from "./quantize.ts";
import {
  addOldOptions,
  addSettingsList,
  type GivenSettings,
  OWN_OPTIONS,
  refuseOldOptions,
  setOption,
} from "./settings.ts";
import { note, print, printJson } from "./terminal.ts";
import type { Evaluation } from "../report/evaluation.ts";
import { renderInterval, scoreInterval } from "../report/certainty.ts";
import { kilobytes, nameOfAccuracy, percent } from "../figures.ts";

interface TrainFlags extends DatasetFlags {
  output: string;
  valid?: string[] | number;
  folds?: number;
  recipe?: keyof typeof RECIPES;
  seed?: number;
  epochs?: number;
  workers?: number;
  set?: GivenSettings;
  synonyms?: string;
  vectors?: string;
  tune?: Tuning;
  maxSize?: number;
  maxUs?: number;
  name?: string;
  modelVersion?: string;
  resume?: string;
  stopAfter?: number;
  chart?: string;
  quantize: boolean;
  unknown?: number;
  json?: boolean;
}

export function trainCommand(): Command {
  const { seed, epochs } = DEFAULT_RECIPE;
  const command = new Command("train").argument(
    "<data...>",
    "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)",
  );
  command.optionsGroup("Texts:");
  addDatasetOptions(
    command
      .option(
        "--valid <files...>",
        "labelled texts to validate each epoch on, and to calibrate the scores on at the end; or a share such as 10% of the data",
        parseValid,
      )
      .option(
        "--folds <n>",
        "first train n models, each without an nth of the texts, and measure it on these",
        wholeNumber(2, 100),
      ),
  ).option(
    "--synonyms <file>",
    "words that may replace one another: a group on each line, with commas between the words",
  );
  command.option(
    "--vectors <file>",
    "pretrained word vectors of the texts' language, which help with few texts: fastText's .vec or GloVe's .txt, also in gzip",
  );
  command.optionsGroup("Training:");
  command
    .addOption(
      new Option(
        "--recipe <name>",
        "default; fast: a cell that runs and trains faster; linear: words, pairs and n-grams without a network, in seconds; or tutorial: as in the Keras tutorial",
      ).choices(Object.keys(RECIPES)),
    )
    .option("--seed <n>", `the same seed gives the same model (default: ${seed})`, parseSeed)
    .option(
      "--epochs <n>",
      `passes over the texts (default: ${epochs}, with --recipe fast ${FAST_RECIPE.epochs}, or more if there are few texts)`,
      wholeNumber(1, 100_000),
    )
    .option(
      "--workers <n>",
      "threads that share each batch (default: 1); 2 take about two thirds of the time if two cores are idle; their number changes the model, as a seed does",
      wholeNumber(1, MAX_WORKERS),
    )
    .option("--unknown <share>", `${UNKNOWN_HELP} (needs --valid)`, parserOf(shareBelow1))
    .addOption(setOption())
    .option(
      "--tune <time>",
      "first try other settings for a time such as 5m, or a number of trials, and take the best ones",
      parseTuning,
    )
    .option("--max-size <size>", "with --tune: of the deployable model, such as 500K", parseSize)
    .option("--max-us <n>", "with --tune: microseconds a text, on this machine", parserOf(positive));
  addSettingsList(command);
  command.optionsGroup("Output:");
  command
    .requiredOption(
      "-o, --output <file>",
      "deployable to write (.wasm), or .elb for f32 weights that can be trained on",
      parseOutput,
    )
    .option("--no-quantize", "keep f32 weights in the .wasm")
    .option("--name <name>", "name in the model (default: that of the output file)", nameText)
    .option("--model-version <text>", 'version in the model (default: "1")', nameText)
    .option("--chart <file>", "write loss and accuracy of the epochs as an SVG", svgName)
    .option("--json", "print one JSON object");
  command.optionsGroup("In parts:");
  command
    .option(
      "--stop-after <n>",
      "stop after n epochs and keep the rest for --resume, as Ctrl-C does after the current epoch (-o must be .elb)",
      wholeNumber(1, 100_000),
    )
    .addOption(
      new Option("--resume <file>", "continue the run in this .elb, on the same texts").conflicts([
        "recipe",
        "tune",
        "vectors",
        "name",
        "modelVersion",
        ...OWN_OPTIONS,
      ]),
    );
  return addOldOptions(command)
    .addHelpText(
      "after",
      `
Examples:
  edgelabel train train.tsv -o spam.wasm
  edgelabel train train.csv --text-column message --valid test.csv -o spam.wasm --seed 1
  edgelabel train train.tsv -o spam.wasm --set units=32 --set clean=urls,numbers
  edgelabel train train.tsv -o spam.wasm --tune 5m --max-size 500K
  edgelabel train train.tsv -o spam.elb --stop-after 5
  edgelabel train train.tsv -o spam.wasm --resume spam.elb`,
    )
    .action(train);
}

async function train(data: string[], options: TrainFlags, command: Command): Promise<void> {
  refuseOldOptions(command);
  const { output, chart, stopAfter, json } = options;
  if (stopAfter !== undefined && isDeployable(output))
    command.error("error: --stop-after needs an .elb to keep the rest of the run in; change -o");
  const { tune: tuning, maxSize, maxUs } = options;
  if (!tuning && (maxSize ?? maxUs) !== undefined)
    command.error("error: --max-size and --max-us choose among the trials of --tune; add --tune 5m");
  const chosen = choose(options, command);
  if (options.vectors !== undefined) requireReadable(options.vectors, {});
  await requireWritable(output);
  if (chart !== undefined) await requireWritable(chart);
  const started = performance.now();
  const { valid } = options;
  const isSplit = typeof valid === "number" || options.folds !== undefined || tuning !== undefined;
  const opened = isSplit ? await readSamples(data, options) : await openSamples(data, options);
  const isSeveral = await haveSeveral(opened);
  // A threshold for several labels may be fitted on some of them, so all are held in memory.
  const held = isSeveral && "read" in opened ? await readSamples(data, options) : opened;
  const inMemoryTexts = "read" in held ? [] : held;
  const [texts, validation] =
    typeof valid === "number"
      ? keptAside(inMemoryTexts, valid)
      : [inMemoryTexts, valid === undefined ? [] : await readSamples(valid, options, isSeveral)];
  const accuracy = nameOfAccuracy(isSeveral);
  const common = {
    chosen,
    validation,
    synonyms:
      options.synonyms === undefined
        ? null
        : { groups: parseSynonyms(await readText(options.synonyms), options.synonyms), source: options.synonyms },
    vectors:
      options.vectors === undefined ? null : { source: options.vectors, read: () => readUnzipped(options.vectors!) },
  };
  const inMemory: TrainingInMemory = { ...common, samples: texts };
  const folds = options.folds === undefined ? null : await crossValidate(inMemory, options.folds, options);
  const tuned = tuning ? await tuneShown(inMemory, tuning, options) : null;
  const training: Training = "read" in held ? { ...common, samples: held } : inMemory;
  const { trained, trial } = tuned
    ? await runBest(training, tuned, options, accuracy)
    : { trained: await runShown(training, options, accuracy), trial: null };
  const file = isDeployable(output) ? await trained.deployed() : await trained.resumable();
  const bytes = await writeModel(output, file.elb);
  if (file.failure) {
    // It may be the work of hours.
    note(`${output} is written without calibration`);
    throw file.failure;
  }
  const { reports, epochsLeft: left } = trained;
  if (chart !== undefined)
    await writeWhole(
      chart,
      new TextEncoder().encode(
        tuned && trial
          ? renderTrialsChart(`${modelName(output)}: ${tuned.trials.length} trials`, tuned, trial)
          : renderChart(reports, `${modelName(output)}: ${trained.texts} texts`, accuracy),
      ),
    );
  const outcome: Outcome = {
    file: output,
    bytes,
    labels: trained.labels.length,
    texts: trained.texts,
    epochs_left: left,
    seconds: (performance.now() - started) / 1000,
  };
  const last = reports.at(-1) ?? null;
  // The figures of the epoch are those of the network.
  const figures = { train: chosen.settings.linear === "alone" ? null : last?.train, validation: last?.validation };
  const validated = await trained.validated();
  await (json
    ? printJson({
        ...summary(figures, file, folds, outcome),
        ...(validated ? { validated } : {}),
        ...(tuned ? { tuned: { ...tuned, chosen: trial } } : {}),
      })
    : print(
        (tuned && trial ? `${renderTrials(tuned, trial, accuracy)}${asTyped(again(trial, options))}\n` : "") +
          renderSummary({ ...figures, validated }, validation.length, file, folds, outcome, tuned !== null, accuracy),
      ));
  if (left > 0 && reports.length !== stopAfter)
    throw new EdgelabelError(`${output}: stopped before the end of the run`);
}

/** Of large files, so many texts show whether they have several labels. */
const ENOUGH_TO_SHOW = 10_000;

async function haveSeveral(samples: Samples): Promise<boolean> {
  let seen = 0;
  for await (const part of partsOf(samples)) {
    seen += part.length;
    if (isMultiLabel(part)) return true;
    if (seen >= ENOUGH_TO_SHOW) return false;
  }
  return false;
}

/** The settings of the command line; ends the command when one of them makes no sense. */
function choose(flags: TrainFlags, command: Command): Chosen {
  try {
    return chosenWith(flags, {});
  } catch (error) {
    if (error instanceof EdgelabelError) command.error(`error: ${error.message}`);
    throw error;
  }
}

/** The settings of the command line, and changes of those that it does not give. */
function chosenWith(
  { output, name, modelVersion, valid, unknown, resume, synonyms, set, ...flags }: TrainFlags,
  changes: RunSettings,
): Chosen {
  const { recipe = changes.recipe, seed, epochs = changes.epochs, workers } = flags;
  return chooseTraining({
    ...changes,
    ...set,
    recipe,
    seed,
    epochs,
    workers,
    unknown,
    name: name ?? (resume === undefined ? modelName(output) : undefined),
    version: modelVersion,
    // What they hold is read later.
    valid: typeof valid === "number" ? valid : valid && [],
    synonyms: synonyms === undefined ? undefined : [],
    resume: resume === undefined ? undefined : new Uint8Array(),
  });
}

/** "10%" is a share, everything else a file. */
function parseValid(value: string, given: string[] | number = []): string[] | number {
  const [, percents] = /^(\d+(?:\.\d+)?)\s*%$/.exec(value) ?? [];
  if (percents === undefined && typeof given !== "number") return [...given, value];
  if (percents === undefined || typeof given === "number" || given.length > 0)
    throw new InvalidArgumentError("it takes files, or one share of the data such as 10%.");
  return Number(percents) / 100;
}

interface Tuning {
  ms?: number;
  trials?: number;
}

const MS = { s: 1_000, m: 60_000, h: 3_600_000 };

/** "5m" is a time, "12" a number of trials. */
function parseTuning(text: string): Tuning {
  const [, count, unit] = /^([1-9]\d{0,4})(s|m|h)?$/.exec(text) ?? [];
  if (count === undefined)
    throw new InvalidArgumentError("it takes a time such as 90s, 5m or 1h, or a number of trials such as 12.");
  return unit === undefined ? { trials: Number(count) } : { ms: Number(count) * MS[unit as keyof typeof MS] };
}

/** "500K" -> 512,000 bytes. */
function parseSize(text: string): number {
  const [, count, unit = ""] = /^(\d+(?:\.\d+)?)([KM]?)$/i.exec(text) ?? [];
  if (count === undefined || Number(count) === 0)
    throw new InvalidArgumentError("it takes a size such as 500K or 1M, or a number of bytes.");
  return Number(count) * { "": 1, K: 1_024, M: 1_048_576 }[unit.toUpperCase() as "" | "K" | "M"];
}

async function tuneShown(training: TrainingInMemory, { ms, trials }: Tuning, options: TrainFlags): Promise<Tuned> {
  const { json, quantize, maxSize, maxUs } = options;
  const onTrial = ({ what, accuracy, isGivenUp }: Trial): void =>
    json ? undefined : note(`${percent(accuracy)}  ${what}${isGivenUp ? " (given up)" : ""}`);
  const limits = { ms, trials, maxBytes: maxSize, maxMicroseconds: maxUs, onTrial };
  return tune(training, (changes) => chosenWith(options, changes), { quantize }, limits, startWorkers);
}

/** Trains with the best settings whose model is small enough: with all texts it has more words than in its trial. */
async function runBest(
  training: Training,
  { ranked }: Tuned,
  options: TrainFlags,
  accuracy: string,
): Promise<{ trained: Trained; trial: Trial }> {
  const { maxSize = Infinity } = options;
  for (const trial of ranked) {
    const trained = await runShown({ ...training, chosen: chosenWith(options, trial.settings) }, options, accuracy);
    if ((await trained.wasm()).length <= maxSize) return { trained, trial };
    note(`with all texts, the model is larger than --max-size (${trial.what}); the next best settings are taken`);
  }
  throw new EdgelabelError("with all texts, each of these models is larger than --max-size; allow more");
}

/** The command that makes the model again without trials. */
function again({ settings }: Trial, flags: TrainFlags): string {
  const own = process.argv.slice(process.argv.indexOf("train") + 1);
  const words: string[] = [];
  for (let i = 0; i < own.length; i++) {
    const [, name, value] = /^(--(?:tune|max-size|max-us|chart))(=.*)?$/.exec(own[i]!) ?? [];
    if (name === undefined) words.push(own[i]!);
    else if (value === undefined) i++;
  }
  // What the user has set was not changed.
  const given = { ...flags.set, ...flags };
  const changed = Object.entries(settings).filter(([name]) => !(name in given));
  for (const [name, value] of changed) {
    if (name === "epochs" || name === "recipe") words.push(`--${name}`, String(value));
    else words.push("--set", `${typedName(name)}=${String(value)}`);
  }
  return `the same without trials: edgelabel train ${words.map(quoted).join(" ")}`;
}

/** As a shell takes it. */
function quoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : shellQuoted(word);
}

function crossValidate(
  training: TrainingInMemory,
  folds: number,
  { json, quantize }: TrainFlags,
): Promise<CrossValidation> {
  const progress = startProgress("folds", { json });
  const onProgress = (done: number, total: number): void => progress.update(done, total);
  return runFolds(training, folds, { quantize, onProgress }, startWorkers).finally(() => progress.stop());
}

/** Trains with a progress bar, until the run ends or a signal ends it. */
async function runShown(
  training: Training,
  { output, json, stopAfter, resume, unknown, quantize }: TrainFlags,
  accuracy: string,
): Promise<Trained> {
  let isStopped = false;
  // Training for a .wasm cannot be resumed, so there a signal ends the process at once.
  const stopping = isDeployable(output)
    ? null
    : onSignal(() => {
        isStopped = true;
        note("stopping after this epoch; another Ctrl-C stops at once and keeps nothing");
      });
  const progress = startProgress("training", { json });
  let figures = "";
  try {
    return await runTraining(
      training,
      {
        resume: resume === undefined ? undefined : await readElb(resume),
        unknown,
        quantize,
        onNote: note,
        onProgress: (done, total) =>
          progress.update(done, Math.min(total, stopAfter ?? total), `epoch ${Math.ceil(done)}/${total}${figures}`),
        onEpoch({ epoch, train, validation }) {
          figures = ` loss ${train.loss.toFixed(4)} ${validation ? "valid" : accuracy} ${percent((validation ?? train).accuracy)}`;
          return epoch !== stopAfter && !isStopped;
        },
      },
      startWorkers,
    );
  } finally {
    progress.stop();
    stopping?.();
  }
}

/** Calls `listener` at the first SIGINT or SIGTERM, after which signals end the process again; call the result to stop listening. */
function onSignal(listener: () => void): () => void {
  const signals = ["SIGINT", "SIGTERM"] as const;
  const ignore = (): void => {
    for (const signal of signals) process.off(signal, once);
  };
  const once = (): void => {
    ignore();
    listener();
  };
  for (const signal of signals) process.on(signal, once);
  return ignore;
}

interface Outcome {
  file: string;
  bytes: number;
  labels: number;
  texts: number;
  /** Of the run: for --resume. */
  epochs_left: number;
  seconds: number;
}

interface Figures {
  train?: EpochReport["train"] | null | undefined;
  validation?: EpochReport["validation"] | undefined;
  /** Of a model that gives several labels a text, as it is deployed. */
  validated?: Evaluation | null;
}

function summary(
  { train = null, validation = null }: Figures,
  { form, agreement, calibration }: Finished,
  folds: CrossValidation | null,
  outcome: Outcome,
): object {
  return { ...outcome, form, train, validation, agreement, calibration, folds };
}

/** What the share of right ones among `n` texts says of other texts. */
function sure(accuracy: number, n: number): string {
  return `95 % interval ${renderInterval(scoreInterval(Math.round(accuracy * n), n))}`;
}

function renderSummary(
  { train, validation, validated }: Figures,
  validationTexts: number,
  { form, agreement, calibration }: Finished,
  folds: CrossValidation | null,
  { file, bytes, labels, texts, epochs_left: left, seconds }: Outcome,
  isTuned: boolean,
  accuracy: string,
): string {
  const lines = [
    `${file}: ${labels} labels, ${form}, ${kilobytes(bytes)}, from ${texts} texts in ${seconds.toFixed(1)} s`,
  ];
  if (train)
    lines.push(`last epoch: loss ${train.loss.toFixed(4)}, ${accuracy} ${percent(train.accuracy)} while training`);
  if (validated?.micro_f1 !== undefined)
    lines.push(
      `validation: micro F1 ${validated.micro_f1.toFixed(4)}, macro F1 ${validated.macro_f1.toFixed(4)}, ${accuracy} ${percent(validated.accuracy)} (${form}), ${sure(validated.accuracy, validated.n)}`,
    );
  else if (validation)
    lines.push(
      `validation: loss ${validation.loss.toFixed(4)}, ${accuracy} ${percent(validation.accuracy)} (f32), ${sure(validation.accuracy, validationTexts)}`,
    );
  if (folds)
    lines.push(
      `${folds.folds.length} folds: ${folds.micro_f1 === undefined ? "" : `micro F1 ${folds.micro_f1.toFixed(4)}, `}${accuracy} ${percent(folds.accuracy)} on ${folds.n} texts that were left out in turn, ${sure(folds.accuracy, folds.n)} (fold by fold ${folds.folds.map((share) => percent(share)).join(", ")})`,
    );
  if (agreement) lines.push(`${form}: ${sentence(agreement)}`);
  if (left > 0)
    lines.push(`${left} epoch${left === 1 ? " is" : "s are"} left; continue with the same data and --resume ${file}`);
  else if (!validation && !folds && !isTuned)
    lines.push(
      `${train ? `${accuracy} while training says little about new texts; for a figure that does` : "for the accuracy on new texts"}, add --valid 10% or --folds 5`,
    );
  return `${lines.join("\n")}\n${calibration ? renderCalibration(calibration) : ""}`;
}
