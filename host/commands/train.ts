// `edgelabel train`: labelled texts -> a model, by a recipe of host/training/recipe.ts and the
// settings that change it. NAME.wasm is quantized and packed; NAME.elb keeps the f32
// weights and what is needed to resume.
import { setImmediate as nextTurn } from "node:timers/promises";
import { Command, Option } from "commander";
import { MAX_WORKERS } from "../../assembly/abi.ts";
import { calibrate, type Calibration, renderCalibration } from "../training/calibration.ts";
import { renderChart } from "../report/chart.ts";
import { doubtsOf, similarLabels } from "../data/report.ts";
import { labelsOf, readDataset, type Sample } from "../data/dataset.ts";
import { listed, EdgelabelError } from "../errors.ts";
import { requireWritable, writeWhole } from "../files/atomic.ts";
import { startProgress } from "../progress.ts";
import { type Quantized, quantize, spreadTexts } from "../training/quantization.ts";
import {
  DEFAULT_RECIPE,
  type EpochReport,
  prepareAdapted,
  type RecipeOptions,
  resumeTraining,
  type Shape,
  takeSteps,
} from "../training/recipe.ts";
import {
  AFTER_TRAINING,
  DEFAULT_SYNONYMS,
  type Path,
  RECIPES,
  type Settings,
  withoutEffect,
  withSettings,
} from "../training/setting-table.ts";
import { addSynonyms, readSynonyms } from "../training/synonyms.ts";
import type { TrainerModule } from "../training/module.ts";
import type { Trainer } from "../training/trainer.ts";
import { startWorkers, type TrainingData } from "../training/workers.ts";
import { UNKNOWN_HELP } from "./calibrate.ts";
import {
  addDatasetOptions,
  type DatasetFlags,
  nameText,
  parseSeed,
  parserOf,
  svgName,
  wholeNumber,
} from "./options.ts";
import { isDeployable, modelName, noteSeen, parseOutput, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";
import { noteWeak, sentence } from "./quantize.ts";
import {
  addOldOptions,
  addSettingsList,
  type GivenSettings,
  OWN_OPTIONS,
  refuseOldOptions,
  setOption,
} from "./settings.ts";
import { shareBelow1 } from "../values.ts";
import { kilobytes, note, percent, print, printJson } from "./terminal.ts";

interface TrainOptions extends DatasetFlags {
  output: string;
  valid?: string[];
  recipe?: keyof typeof RECIPES;
  seed?: number;
  epochs?: number;
  workers?: number;
  set?: GivenSettings;
  synonyms?: string;
  name?: string;
  modelVersion?: string;
  resume?: string;
  stopAfter?: number;
  chart?: string;
  quantize: boolean;
  unknown?: number;
  json?: boolean;
}

/** How often training lets the event loop handle signals. */
const TURN_MS = 50;
/** The user is told when more than this share of the texts is cut: a few change little. */
const NOTED_CUT = 0.05;
/** The user is told of at most so many groups of similar labels. */
const MOST_SIMILAR = 3;

export function trainCommand(): Command {
  const { seed, epochs } = DEFAULT_RECIPE;
  const command = new Command("train").argument(
    "<data...>",
    "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)",
  );
  command.optionsGroup("Texts:");
  addDatasetOptions(
    command.option(
      "--valid <files...>",
      "labelled texts to validate each epoch on, and to calibrate the scores on at the end",
    ),
  ).option(
    "--synonyms <file>",
    "words that may replace one another: a group on each line, with commas between the words",
  );
  command.optionsGroup("Training:");
  command
    .addOption(
      new Option(
        "--recipe <name>",
        "default, or tutorial: Embedding, LSTM and Dense(1, sigmoid) as in the Keras tutorial",
      ).choices(Object.keys(RECIPES)),
    )
    .option("--seed <n>", `the same seed gives the same model (default: ${seed})`, parseSeed)
    .option(
      "--epochs <n>",
      `passes over the texts (default: ${epochs}, or more if there are few texts)`,
      wholeNumber(1, 100_000),
    )
    .option(
      "--workers <n>",
      "threads that share each batch (default: 1); 2 take about two thirds of the time if two cores are idle; their number changes the model, as a seed does",
      wholeNumber(1, MAX_WORKERS),
    )
    .option("--unknown <share>", `${UNKNOWN_HELP} (needs --valid)`, parserOf(shareBelow1))
    .addOption(setOption());
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
  edgelabel train train.tsv -o spam.elb --stop-after 5
  edgelabel train train.tsv -o spam.wasm --resume spam.elb`,
    )
    .action(train);
}

async function train(data: string[], options: TrainOptions, command: Command): Promise<void> {
  refuseOldOptions(command);
  if (options.stopAfter !== undefined && isDeployable(options.output))
    command.error("error: --stop-after needs an .elb to keep the rest of the run in; change -o");
  const chosen = choose(options, command);
  const { calibrate: calibrates, minAgreement } = chosen.settings;
  if (options.unknown !== undefined && (options.valid === undefined || !calibrates))
    command.error("error: --unknown is calibrated on the texts of --valid; give them, without --set calibrate=false");
  await requireWritable(options.output);
  if (options.chart !== undefined) await requireWritable(options.chart);
  const started = performance.now();
  const samples = await readDataset(data, options);
  const validation = options.valid === undefined ? [] : await readDataset(options.valid, options);
  const synonyms =
    options.synonyms === undefined ? null : { groups: await readSynonyms(options.synonyms), source: options.synonyms };
  const trainer =
    options.resume === undefined
      ? await begin({ samples, synonyms }, validation, chosen)
      : await resumeTraining(await readElb(options.resume), options.resume, samples, validation, synonyms);
  const workers = await startWorkers(trainer, options.output, { samples, synonyms });
  let reports: EpochReport[];
  try {
    reports = await runAll(trainer, validation.length > 0, options);
  } finally {
    await workers.stop();
  }
  const last = reports.at(-1) ?? null;
  const left = trainer.epochsLeft();
  const labels = trainer.labels().length;
  const written = await finish(trainer, validation.length > 0 ? validation : samples, minAgreement, options);
  const { elb, calibration } =
    validation.length > 0 && calibrates
      ? await calibrateOrKeep(written.elb, trainer.release(), validation, options)
      : { elb: written.elb, calibration: null };
  const bytes = await writeModel(options.output, elb);
  if (options.chart !== undefined)
    await writeWhole(
      options.chart,
      new TextEncoder().encode(renderChart(reports, `${modelName(options.output)}: ${samples.length} texts`)),
    );
  const outcome: Outcome = {
    file: options.output,
    bytes,
    labels,
    texts: samples.length,
    epochs_left: left,
    seconds: (performance.now() - started) / 1000,
  };
  await (options.json
    ? printJson(summary(last, written, calibration, outcome))
    : print(renderSummary(last, written, calibration, outcome)));
  if (left > 0 && reports.length !== options.stopAfter)
    throw new EdgelabelError(`${options.output}: stopped before the end of the run`);
}

async function begin(
  { samples, synonyms }: TrainingData,
  validation: readonly Sample[],
  { settings: asked, given }: Chosen,
): Promise<Trainer> {
  const { trainer, recipe, shape } = await prepareAdapted(samples, validation, asked, given);
  noteShape(shape, asked, recipe);
  if ((recipe.workers ?? 1) > recipe.batch)
    throw new EdgelabelError(
      `--workers ${recipe.workers} cannot share a batch of ${recipe.batch}; use fewer, or set a larger batch-size`,
    );
  if (synonyms) recipe.augment = { synonym: DEFAULT_SYNONYMS, ...recipe.augment };
  noteDoubts(samples, validation);
  noteSeen(validation, samples);
  if (synonyms) addSynonyms(trainer, synonyms.groups, synonyms.source);
  try {
    trainer.start(recipe);
  } catch (error) {
    if (!(error instanceof EdgelabelError) || error.code !== "out_of_memory") throw error;
    throw new EdgelabelError(
      `batches of ${recipe.batch} of these texts do not fit in WebAssembly memory; set a smaller batch-size, maxlen, units or embedding-dim`,
    );
  }
  return trainer;
}

interface Chosen {
  settings: Settings;
  /** Those that the user gave. */
  given: ReadonlySet<Path>;
}

/** The settings of the command line; ends the command when one of them would have no effect. */
function choose(options: TrainOptions, command: Command): Chosen {
  const { set = new Map(), resume, synonyms } = options;
  const ofTheRun = [...set.keys()].find(({ path }) => !AFTER_TRAINING.has(path));
  if (resume !== undefined && ofTheRun !== undefined)
    command.error(
      `error: option '--resume <file>' cannot be used with '--set ${ofTheRun.name}': a run keeps the settings that it was started with`,
    );
  const preset = RECIPES[options.recipe ?? "default"];
  const { settings, given } = withSettings(preset, set);
  const idle = withoutEffect(settings, given);
  if (idle !== undefined) command.error(`error: ${idle}`);
  if (given.has("augment.synonym") && synonyms === undefined)
    command.error("error: augment-synonym needs a file of --synonyms");
  settings.name = options.name ?? modelName(options.output);
  settings.version = options.modelVersion ?? preset.version;
  for (const name of OWN_OPTIONS) {
    const value = options[name];
    if (value === undefined) continue;
    settings[name] = value;
    given.add(name);
  }
  return { settings, given };
}

function noteShape(
  { texts, empty, cut }: Shape,
  asked: RecipeOptions,
  { tokenizer: { charLevel, sequenceLength, truncatePost } }: RecipeOptions,
): void {
  if (empty > 0)
    note(`${empty} of ${texts} texts have no tokens, so nothing is learnt from them; edgelabel data lists them`);
  if (charLevel && !asked.tokenizer.charLevel)
    note(
      "nearly every text has a word that no other text has, so texts are read letter by letter (--set char-level=false: word by word)",
    );
  else if (cut > NOTED_CUT * texts)
    note(
      `${cut} of ${texts} texts have more than ${sequenceLength} tokens, of which only the ${truncatePost ? "first" : "last"} ${sequenceLength} count; a higher --set maxlen reads more, and takes longer`,
    );
}

function noteDoubts(samples: readonly Sample[], validation: readonly Sample[]): void {
  for (const doubt of doubtsOf(samples)) note(doubt);
  for (const labels of similarLabels(labelsOf([...samples, ...validation])).slice(0, MOST_SIMILAR))
    note(`the labels ${listed(labels)} look alike; if they mean the same, write them alike (edgelabel data shows all)`);
}

async function runAll(
  trainer: Trainer,
  validates: boolean,
  { json, stopAfter, output }: TrainOptions,
): Promise<EpochReport[]> {
  const reports: EpochReport[] = [];
  let isStopped = false;
  // Training for a .wasm cannot be resumed, so there a signal ends the process at once.
  const stopping = isDeployable(output)
    ? null
    : onSignal(() => {
        isStopped = true;
        note("stopping after this epoch; another Ctrl-C stops at once and keeps nothing");
      });
  const epochs = trainer.epochsLeft();
  const progress = startProgress("training", { json });
  let figures = "";
  const show = (done: number): void =>
    progress.update(done, Math.min(epochs, stopAfter ?? epochs), `epoch ${Math.ceil(done)}/${epochs}${figures}`);
  try {
    const steps = takeSteps(
      trainer,
      epochs,
      validates,
      {
        onBatch: show,
        isStopped: () => isStopped,
        onEpoch(report) {
          const { epoch, train, validation } = report;
          reports.push(report);
          figures = ` loss ${train.loss.toFixed(4)} ${validation ? "valid" : "accuracy"} ${percent((validation ?? train).accuracy)}`;
          show(epoch);
        },
      },
      stopAfter,
    );
    let turn = performance.now();
    while (!steps.next().done) {
      if (performance.now() - turn < TURN_MS) continue;
      await nextTurn();
      turn = performance.now();
    }
    return reports;
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

async function finish(
  trainer: Trainer,
  samples: readonly Sample[],
  minAgreement: number,
  options: TrainOptions,
): Promise<Quantized> {
  if (!isDeployable(options.output)) return { elb: trainer.write("training"), form: "f32", agreement: null };
  if (!options.quantize) return { elb: trainer.write("f32"), form: "f32", agreement: null };
  return quantize(trainer, options.output, {
    texts: spreadTexts(samples),
    minAgreement,
    onWeak: noteWeak(minAgreement),
  });
}

/** A model that cannot be calibrated is still written: it may be the work of hours. */
async function calibrateOrKeep(
  elb: Uint8Array,
  module: TrainerModule,
  validation: readonly Sample[],
  { output, unknown }: TrainOptions,
): Promise<{ elb: Uint8Array; calibration: Calibration }> {
  try {
    return await calibrate(elb, validation, { unknownShare: unknown, source: output, module });
  } catch (error) {
    await writeModel(output, elb);
    note(`${output} is written without calibration`);
    throw error;
  }
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

function summary(
  last: EpochReport | null,
  { form, agreement }: Quantized,
  calibration: Calibration | null,
  outcome: Outcome,
): object {
  return { ...outcome, form, train: last?.train ?? null, validation: last?.validation ?? null, agreement, calibration };
}

function renderSummary(
  last: EpochReport | null,
  { form, agreement }: Quantized,
  calibration: Calibration | null,
  { file, bytes, labels, texts, epochs_left: left, seconds }: Outcome,
): string {
  const lines = [
    `${file}: ${labels} labels, ${form}, ${kilobytes(bytes)}, from ${texts} texts in ${seconds.toFixed(1)} s`,
  ];
  if (last)
    lines.push(
      `last epoch: loss ${last.train.loss.toFixed(4)}, accuracy ${percent(last.train.accuracy)} while training`,
    );
  if (last?.validation)
    lines.push(
      `validation: loss ${last.validation.loss.toFixed(4)}, accuracy ${percent(last.validation.accuracy)} (f32)`,
    );
  if (agreement) lines.push(`${form}: ${sentence(agreement)}`);
  if (left > 0)
    lines.push(`${left} epoch${left === 1 ? " is" : "s are"} left; continue with the same data and --resume ${file}`);
  return `${lines.join("\n")}\n${calibration ? renderCalibration(calibration) : ""}`;
}
