// `edgelabel train`: labelled texts -> a model, by the recipe in host/training/recipe.ts and the
// options that change it. NAME.wasm is quantized and packed; NAME.elb keeps the f32
// weights and what is needed to resume.
import { setImmediate as nextTurn } from "node:timers/promises";
import { Command, Option } from "commander";
import { MAX_DROPOUT_SAMPLES, MAX_ROWS, MAX_SEQUENCE, MAX_WIDTH, MAX_WORKERS } from "../../assembly/abi.ts";
import { calibrate, type Calibration, renderCalibration } from "../training/calibration.ts";
import { renderChart } from "../report/chart.ts";
import { Classifier } from "../model/classifier.ts";
import { doubtsOf, similarLabels } from "../data/report.ts";
import { labelsOf, readDataset, type Sample } from "../data/dataset.ts";
import { listed, UserError } from "../errors.ts";
import { requireWritable, writeWhole } from "../files/atomic.ts";
import { startProgress } from "../progress.ts";
import { MIN_AGREEMENT, type Quantized, quantize, spreadTexts } from "../training/quantization.ts";
import {
  DEFAULT_RECIPE,
  type EpochReport,
  prepareAdapted,
  type RecipeOptions,
  resumeTraining,
  type Shape,
  takeSteps,
  TUTORIAL_RECIPE,
  withCleaning,
} from "../training/recipe.ts";
import { EngineError } from "../model/status.ts";
import { addSynonyms, readSynonyms } from "../training/synonyms.ts";
import type { Augmentation } from "../training/settings.ts";
import type { Trainer } from "../training/trainer.ts";
import { startWorkers, type TrainingData } from "../training/workers.ts";
import { UNKNOWN_HELP } from "./calibrate.ts";
import {
  addDatasetOptions,
  augmentation,
  cleaningSteps,
  type DatasetFlags,
  nameText,
  parseSeed,
  positive,
  share,
  shareBelow1,
  shortText,
  svgName,
  wholeNumber,
} from "./options.ts";
import {
  isDeployable,
  kilobytes,
  modelName,
  note,
  noteSeen,
  parseOutput,
  percent,
  print,
  printJson,
  writeModel,
} from "./output.ts";
import { readElb } from "./pack.ts";
import { noteWeak, sentence } from "./quantize.ts";

interface TrainOptions extends DatasetFlags {
  output: string;
  valid?: string[];
  recipe?: keyof typeof RECIPES;
  synonyms?: string;
  augment?: Augmentation;
  name?: string;
  modelVersion?: string;
  resume?: string;
  stopAfter?: number;
  chart?: string;
  minAgreement?: number;
  quantize: boolean;
  unknown?: number;
  calibrate: boolean;
  json?: boolean;
}

/** How often training lets the event loop handle signals. */
const TURN_MS = 50;
const RECIPES = { default: DEFAULT_RECIPE, tutorial: TUTORIAL_RECIPE };
/** The user is told when more than this share of the texts is cut: a few change little. */
const NOTED_CUT = 0.05;
/** Of so many groups of similar labels the user is told. */
const MOST_SIMILAR = 3;
/** Share of the words that a file of synonyms replaces, where --augment says nothing. */
const DEFAULT_SYNONYMS = 0.1;

type Parser = ((text: string) => unknown) | readonly string[] | "switch";

/** The settings of the recipe: flag, parser or choices of its value, path of the value in RecipeOptions, help. */
const SETTINGS: readonly [flag: string, parser: Parser, path: string, help: string][] = [
  ["--seed <n>", parseSeed, "seed", "the same seed gives the same model"],
  ["--epochs <n>", wholeNumber(1, 100_000), "epochs", "passes over the data; more if there are few texts"],
  [
    "--workers <n>",
    wholeNumber(1, MAX_WORKERS),
    "workers",
    "threads that share each batch: 2 on two idle cores are 1.3 to 1.8 times as fast, on busy ones slower; their number changes the model, as a seed does",
  ],
  ["--batch <n>", wholeNumber(1, 4096), "batch", "texts in each step; fewer if there are few texts"],
  [
    "--optimizer <name>",
    ["adam", "adam-uncorrected", "sgd"],
    "optimizer",
    "adam as in Keras, without its bias correction, or sgd",
  ],
  ["--learning-rate <x>", positive, "learningRate", "highest rate of the optimizer"],
  ["--schedule <name>", ["cosine", "linear", "inverse-time", "constant"], "schedule", "how the rate falls"],
  ["--warmup <share>", shareBelow1, "warmup", "share of the steps in which it climbs first"],
  ["--decay <x>", notNegative, "decay", "of inverse-time: rate / (1 + decay * step)"],
  [
    "--final-rate <share>",
    share,
    "finalRate",
    "of cosine and linear: share of the highest rate that is left at the end",
  ],
  ["--momentum <x>", shareBelow1, "momentum", "of sgd"],
  ["--nesterov", "switch", "nesterov", "of sgd: look ahead"],
  ["--clip-norm <x>", notNegative, "clipNorm", "longest gradient, by global norm; 0: any"],
  ["--weight-decay <x>", notNegative, "weightDecay", "taken off the weights, times the rate"],
  [
    "--average-decay <x>",
    shareBelow1,
    "averageDecay",
    "keep a moving average of the weights, with this decay; 0: none",
  ],
  [
    "--loss <name>",
    ["categorical_crossentropy", "binary_crossentropy", "mean_squared_error"],
    "loss",
    "what is made small",
  ],
  [
    "--label-smoothing <share>",
    shareBelow1,
    "labelSmoothing",
    "of the cross-entropies: share of the target that all labels get",
  ],
  ["--balanced", "switch", "balanced", "let all labels weigh the same, however many texts they have"],
  ["--embedding <n>", wholeNumber(1, MAX_WIDTH), "embedding", "width of the word vectors"],
  ["--units <n>", wholeNumber(1, MAX_WIDTH), "units", "LSTM units in each direction"],
  ["--bidirectional", "switch", "bidirectional", "read texts both ways"],
  ["--mask", "switch", "mask", "skip padding"],
  ["--pooling <name>", ["last", "max", "mean", "max+mean"], "pooling", "how the states of all steps become one"],
  ["--binary-output", "switch", "binaryOutput", "one sigmoid unit for two labels"],
  ["--embedding-dropout <share>", shareBelow1, "embeddingDropout", "dropout behind the embedding"],
  ["--output-dropout <share>", shareBelow1, "outputDropout", "dropout before the last layer"],
  [
    "--dropout-samples <n>",
    wholeNumber(1, MAX_DROPOUT_SAMPLES),
    "dropoutSamples",
    "masks that the dropout before the last layer draws for each text; their losses are averaged",
  ],
  [
    "--perturbation <share>",
    shareBelow1,
    "perturbation",
    "adversarial training: at the end of the run, learn also from word vectors that are moved by this share of their length to where the loss grows; 0: none",
  ],
  ["--word-dropout <share>", shareBelow1, "wordDropout", "share of the words that are hidden in training"],
  [
    "--augment <shares>",
    augmentation,
    "augment",
    "share of the words changed each epoch, as in delete=0.05,swap=0.05,typo=0.05,synonym=0.1; typos spare unknown words and those of 1 or 2 letters",
  ],
  [
    "--min-count <n>",
    wholeNumber(1, MAX_ROWS),
    "minCount",
    "leave rarer words to their n-grams; few texts keep all words",
  ],
  [
    "--num-words <n>",
    wholeNumber(0, MAX_ROWS),
    "numWords",
    "keep only the n - 1 most frequent words, so that the int8 deployable stays below 1 MB; 0: all",
  ],
  ["--oov-token <word>", shortText, "oovToken", "word that stands for unknown ones (with --ngram-buckets 0)"],
  [
    "--ngram-buckets <n>",
    wholeNumber(0, MAX_ROWS),
    "tokenizer.ngramBuckets",
    "embedding rows for the n-grams of unknown words; 0: none",
  ],
  ["--add-ngrams", "switch", "addNgrams", "add n-grams to known words too"],
  ["--maxlen <n>", wholeNumber(1, MAX_SEQUENCE), "tokenizer.sequenceLength", "tokens of a text that count"],
  [
    "--clean <steps>",
    cleaningSteps,
    "tokenizer.cleaning",
    "clean texts first, in use too, besides the default: some of markup,urls,width,accents,numbers,repeats, or all; or none at all",
  ],
  ["--filters <characters>", String, "tokenizer.filters", "characters that part words"],
  ["--split <text>", shortText, "tokenizer.split", "text that parts words"],
  ["--lower", "switch", "tokenizer.lower", "lower-case texts"],
  ["--char-level", "switch", "tokenizer.charLevel", "every character is a token"],
  ["--split-scripts", "switch", "tokenizer.splitScripts", "letters of scripts without spaces are tokens"],
  ["--letter-pairs", "switch", "tokenizer.letterPairs", "such letters also bring their pair with the letter before"],
  ["--pad-post", "switch", "tokenizer.padPost", "pad behind the text"],
  ["--truncate-post", "switch", "tokenizer.truncatePost", "cut the end of a long text, not its beginning"],
];

/** Settings that have an effect only together with others. */
const NEEDS: Readonly<Record<string, { needs: string; isMet: (recipe: RecipeOptions) => boolean }>> = {
  decay: { needs: "--schedule inverse-time", isMet: ({ schedule }) => schedule === "inverse-time" },
  finalRate: {
    needs: "--schedule cosine or linear",
    isMet: ({ schedule }) => schedule === "cosine" || schedule === "linear",
  },
  momentum: { needs: "--optimizer sgd", isMet: ({ optimizer }) => optimizer === "sgd" },
  nesterov: { needs: "--optimizer sgd", isMet: ({ optimizer }) => optimizer === "sgd" },
  labelSmoothing: { needs: "a cross-entropy for the --loss", isMet: ({ loss }) => loss !== "mean_squared_error" },
  oovToken: {
    needs: "--ngram-buckets 0: else unknown words have their n-grams",
    isMet: ({ tokenizer }) => tokenizer.ngramBuckets === 0,
  },
  addNgrams: { needs: "--ngram-buckets above 0", isMet: ({ tokenizer }) => tokenizer.ngramBuckets > 0 },
  "tokenizer.splitScripts": {
    needs: "--no-char-level: else all letters are tokens",
    isMet: ({ tokenizer }) => !tokenizer.charLevel,
  },
  "tokenizer.letterPairs": {
    needs: "--split-scripts, --ngram-buckets above 0 and --no-char-level",
    isMet: ({ tokenizer }) => tokenizer.splitScripts && tokenizer.ngramBuckets > 0 && !tokenizer.charLevel,
  },
};

/** Options that a resumed run takes from its file. */
const FIXED_BY_RESUME = [
  "recipe",
  "name",
  "modelVersion",
  ...SETTINGS.map(([flag]) => new Option(flag).attributeName()),
];

export function trainCommand(): Command {
  const command = addDatasetOptions(
    new Command("train")
      .argument("<data...>", "labelled texts (.tsv .csv .jsonl .ft, or - for standard input)")
      .requiredOption(
        "-o, --output <file>",
        "deployable to write (.wasm), or .elb for f32 weights that can be trained on",
        parseOutput,
      )
      .option(
        "--valid <files...>",
        "labelled texts to measure each epoch on, and at the end to calibrate the scores' temperature on",
      )
      .option("--unknown <share>", `${UNKNOWN_HELP} (on --valid)`, shareBelow1)
      .option("--no-calibrate", "keep the scores as trained")
      .addOption(
        new Option(
          "--recipe <name>",
          "default, or tutorial: Embedding, LSTM, Dense(1, sigmoid) as in the Keras tutorial",
        ).choices(Object.keys(RECIPES)),
      )
      .option(
        "--synonyms <file>",
        `words that may replace one another, one group a line, with commas between the words (share: ${DEFAULT_SYNONYMS}, or as --augment says)`,
      )
      .option("--name <name>", "name in the model (default: that of the output file)", nameText)
      .option("--model-version <text>", 'version in the model (default: "1")', nameText)
      .addOption(
        new Option("--resume <file>", "go on with the run in this .elb, on the same data").conflicts(FIXED_BY_RESUME),
      )
      .option(
        "--stop-after <n>",
        "end after n epochs of the run and keep the rest for --resume, as Ctrl-C does after the present epoch (-o must be .elb)",
        wholeNumber(1, 100_000),
      )
      .addOption(new Option("--chart <file>", "write loss and accuracy of the epochs as an SVG").argParser(svgName))
      .option(
        "--min-agreement <share>",
        `least share of equal labels of int8 and f32 (default: ${MIN_AGREEMENT})`,
        share,
      )
      .option("--no-quantize", "keep f32 weights in the .wasm")
      .option("--json", "print one JSON object"),
  );
  command.optionsGroup("Settings of the recipe (a switch that is on is turned off with --no-, as in --no-mask):");
  for (const [flag, parser, path, help] of SETTINGS) command.addOption(settingOption(flag, parser, path, help));
  for (const [flag, parser] of SETTINGS)
    if (parser === "switch") command.addOption(new Option(flag.replace("--", "--no-")).hideHelp());
  return command
    .addHelpText(
      "after",
      `
Examples:
  edgelabel train train.tsv -o spam.wasm
  edgelabel train train.csv --text-column message --valid test.csv -o spam.wasm --seed 1
  edgelabel train train.tsv -o spam.elb --stop-after 5
  edgelabel train train.tsv -o spam.wasm --resume spam.elb`,
    )
    .action(train);
}

async function train(data: string[], options: TrainOptions, command: Command): Promise<void> {
  if (options.stopAfter !== undefined && isDeployable(options.output))
    command.error("error: --stop-after needs an .elb to keep the rest of the run in; change -o");
  if (options.augment?.synonym !== undefined && options.synonyms === undefined)
    command.error("error: --augment synonym=… needs a file of --synonyms");
  if (options.unknown !== undefined && (options.valid === undefined || !options.calibrate))
    command.error("error: --unknown is calibrated on the texts of --valid; give them, without --no-calibrate");
  const chosen = choose(options, command);
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
  const written = await finish(trainer, validation.length > 0 ? validation : samples, options);
  const { elb, calibration } =
    validation.length > 0 && options.calibrate
      ? await calibrateOrKeep(written.elb, validation, options)
      : { elb: written.elb, calibration: null };
  const bytes = await writeModel(options.output, elb);
  if (options.chart !== undefined)
    await writeWhole(
      options.chart,
      new TextEncoder().encode(renderChart(reports, `${modelName(options.output)}: ${samples.length} texts`)),
    );
  const labels = (await Classifier.fromBytes(written.elb, options.output)).labels.length;
  const outcome: Outcome = {
    file: options.output,
    bytes,
    labels,
    texts: samples.length,
    epochs_left: trainer.epochsLeft(),
    seconds: (performance.now() - started) / 1000,
  };
  await (options.json
    ? printJson(summary(last, written, calibration, outcome))
    : print(renderSummary(last, written, calibration, outcome)));
  if (trainer.epochsLeft() > 0 && reports.length !== options.stopAfter)
    throw new UserError(`${options.output}: stopped before the run was done`);
}

function notNegative(text: string): number {
  return Number(text) === 0 && text.trim() !== "" ? 0 : positive(text);
}

async function begin(
  { samples, synonyms }: TrainingData,
  validation: readonly Sample[],
  { recipe: asked, given }: Chosen,
): Promise<Trainer> {
  const { trainer, recipe, shape } = await prepareAdapted(samples, validation, asked, given);
  noteShape(shape, asked, recipe);
  if ((recipe.workers ?? 1) > recipe.batch)
    throw new UserError(
      `--workers ${recipe.workers} cannot share a batch of ${recipe.batch}; choose at most as many as --batch`,
    );
  if (synonyms) recipe.augment = { synonym: DEFAULT_SYNONYMS, ...recipe.augment };
  noteDoubts(samples, validation);
  noteSeen(validation, samples);
  if (synonyms) addSynonyms(trainer, synonyms.groups, synonyms.source);
  try {
    trainer.start(recipe);
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== "out_of_memory") throw error;
    throw new UserError(
      `batches of ${recipe.batch} of these texts do not fit in WebAssembly memory; choose a smaller --batch, --maxlen, --units or --embedding`,
    );
  }
  return trainer;
}

interface Chosen {
  recipe: RecipeOptions;
  /** Paths of the settings that were given. */
  given: Set<string>;
}

/** The recipe with the settings of the command line; ends the command when one of them would have no effect. */
function choose({ recipe: name, ...options }: TrainOptions, command: Command): Chosen {
  const preset: RecipeOptions = RECIPES[name ?? "default"];
  const recipe = {
    ...preset,
    tokenizer: { ...preset.tokenizer },
    name: options.name ?? modelName(options.output),
    version: options.modelVersion ?? preset.version,
  };
  const given = new Set<string>();
  for (const [flag, , path] of SETTINGS) {
    const key = new Option(flag).attributeName();
    // Commander gives a switch with a --no- form a default, which the user has not asked for.
    if (command.getOptionValueSource(key) !== "cli") continue;
    const [holder, field] = place(recipe, path);
    holder[field] =
      path === "tokenizer.cleaning" ? withCleaning(preset, command.getOptionValue(key)) : command.getOptionValue(key);
    given.add(path);
  }
  if (recipe.loss === "mean_squared_error" && !given.has("labelSmoothing")) recipe.labelSmoothing = 0;
  for (const [flag, , path] of SETTINGS) {
    const [holder, field] = place(recipe, path);
    const condition = NEEDS[path];
    if (given.has(path) && holder[field] && condition && !condition.isMet(recipe))
      command.error(`error: ${flag.split(" ")[0]} needs ${condition.needs}`);
  }
  return { recipe, given };
}

function noteShape(
  { texts, empty, cut }: Shape,
  asked: RecipeOptions,
  { tokenizer: { charLevel, sequenceLength, truncatePost } }: RecipeOptions,
): void {
  if (empty > 0) note(`${empty} of ${texts} texts have no token and teach nothing; edgelabel data lists them`);
  if (charLevel && !asked.tokenizer.charLevel)
    note(
      "nearly each text has a word that no other has, so they are read letter by letter (--no-char-level: word by word)",
    );
  else if (cut > NOTED_CUT * texts)
    note(
      `${cut} of ${texts} texts have more than ${sequenceLength} tokens, of which only the ${truncatePost ? "first" : "last"} ${sequenceLength} count; a higher --maxlen reads more, and takes longer`,
    );
}

function noteDoubts(samples: readonly Sample[], validation: readonly Sample[]): void {
  for (const doubt of doubtsOf(samples)) note(doubt);
  for (const labels of similarLabels(labelsOf([...samples, ...validation])).slice(0, MOST_SIMILAR))
    note(`the labels ${listed(labels)} look alike; if they mean the same, write them alike (edgelabel data shows all)`);
}

function settingOption(flag: string, parser: Parser, path: string, help: string): Option {
  const [holder, field] = place(DEFAULT_RECIPE, path);
  const preset = holder[field];
  const option = new Option(flag, `${help} (default: ${path === "tokenizer.filters" ? "Keras'" : shown(preset)})`);
  if (typeof parser === "function") return option.argParser(parser);
  return parser === "switch" ? option : option.choices(parser);
}

/** A default as one would type it. */
function shown(preset: unknown): string {
  if (typeof preset === "boolean") return preset ? "on" : "off";
  if (typeof preset === "string") return JSON.stringify(preset);
  if (Array.isArray(preset)) return preset.join(",");
  if (typeof preset === "object" && preset !== null)
    return Object.entries(preset)
      .map(([kind, value]) => `${kind}=${value}`)
      .join(",");
  return String(preset ?? "none");
}

/** Where a setting is in the recipe: "tokenizer.split" -> the recipe's tokenizer, "split". */
function place(recipe: RecipeOptions, path: string): [holder: Record<string, unknown>, field: string] {
  const [first, second] = path.split(".");
  return second === undefined ? [recipe as unknown as Record<string, unknown>, first!] : [recipe.tokenizer, second];
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
        note("stopping when this epoch is done; once more, and nothing is kept");
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

async function finish(trainer: Trainer, samples: readonly Sample[], options: TrainOptions): Promise<Quantized> {
  if (!isDeployable(options.output)) return { elb: trainer.write("training"), form: "f32", agreement: null };
  if (!options.quantize) return { elb: trainer.write("f32"), form: "f32", agreement: null };
  const minAgreement = options.minAgreement ?? MIN_AGREEMENT;
  return quantize(trainer, options.output, {
    texts: spreadTexts(samples),
    minAgreement,
    onWeak: noteWeak(minAgreement),
  });
}

/** A model that cannot be calibrated is written as it was trained: the work of hours stays. */
async function calibrateOrKeep(
  elb: Uint8Array,
  validation: readonly Sample[],
  { output, unknown }: TrainOptions,
): Promise<{ elb: Uint8Array; calibration: Calibration }> {
  try {
    return await calibrate(elb, validation, { unknownShare: unknown, source: output });
  } catch (error) {
    await writeModel(output, elb);
    note(`${output} is written as it was trained, and not calibrated`);
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
    lines.push(`${left} epoch${left === 1 ? " is" : "s are"} left; go on with the same data and --resume ${file}`);
  return `${lines.join("\n")}\n${calibration ? renderCalibration(calibration) : ""}`;
}
