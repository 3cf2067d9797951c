// Labelled texts -> a trained model, by a recipe of host/training/recipe.ts and the settings that
// change it: what `edgelabel train` does, without files.
import { doubtsOf, similarLabels } from "../data/report.ts";
import { isMultiLabel, labelsOf, type Sample, without } from "../data/dataset.ts";
import { keptAside } from "../data/split.ts";
import { type Samples, Survey } from "../data/survey.ts";
import { EdgelabelError, listed } from "../errors.ts";
import { Classifier } from "../model/classifier.ts";
import { packModel } from "../model/pack.ts";
import { type Evaluation, evaluate } from "../report/evaluation.ts";
import { calibrate, type Calibration, noRule } from "../training/calibration.ts";
import { type Agreement, quantize, spreadTexts } from "../training/quantization.ts";
import {
  type EpochReport,
  prepareAdapted,
  type RecipeOptions,
  resumeTraining,
  type Shape,
  takeSteps,
} from "../training/recipe.ts";
import { DEFAULT_SYNONYMS, type Settings } from "../training/setting-table.ts";
import { addSynonyms, type SynonymGroup } from "../training/synonyms.ts";
import { type ModelForm, Trainer } from "../training/trainer.ts";
import type { VectorFile } from "../training/vectors.ts";
import type { TrainingData, Workers } from "../training/workers.ts";
import { Model } from "./model.ts";
import { type LabelledTexts, samplesOf } from "./samples.ts";
import { BAD_SETTING, type Chosen, chooseSettings, type RunSettings } from "./settings.ts";
import { percent } from "../figures.ts";

export interface TrainOptions extends RunSettings {
  /** Labelled texts to validate each epoch on, and to calibrate the scores on at the end; or the share of the texts, above 0 and below 1, that is taken out of them for this. */
  valid?: LabelledTexts | number | undefined;
  /** Answer "unknown" to texts that fit none of the labels; at most this share of right answers is lost, 0 to below 1. Needs `valid`. */
  unknown?: number | undefined;
  /** False keeps f32 weights in the deployable. Default: true. */
  quantize?: boolean | undefined;
  /** Groups of words that may replace one another. */
  synonyms?: readonly (readonly string[])[] | undefined;
  /** Pretrained word vectors as text, as fastText and GloVe have them: gives the bytes of the file, from the beginning each time. */
  vectors?: (() => AsyncIterable<Uint8Array>) | undefined;
  /** The .elb of a run that has epochs left, to go on with, on the same texts. */
  resume?: Uint8Array | undefined;
  /** Called after each epoch; false ends the run, whose .elb can be resumed. */
  onEpoch?: ((report: EpochReport) => boolean | void) | undefined;
  /** Called several times in each epoch with the number of epochs done, fractions included, and their total. */
  onProgress?: ((done: number, total: number) => void) | undefined;
  /** Told what is doubtful about texts or model, in a sentence. */
  onNote?: ((note: string) => void) | undefined;
  /** Ends the run with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Starts the threads that share batches with the trainer; where there are none, a run of several workers is refused. */
export type StartWorkers = (trainer: Trainer, source: string, data: TrainingData) => Promise<Workers>;

/** How often training lets the event loop handle signals, messages and clicks. */
const TURN_MS = 50;
/** The user is told when more than this share of the texts is cut: a few change little. */
const NOTED_CUT = 0.05;
/** The share of texts with several labels that the threshold for them is fitted on, if there are enough. */
const ASIDE = 0.1;
const ENOUGH_ASIDE = 200;
/** The user is told of at most so many groups of similar labels. */
const MOST_SIMILAR = 3;

/** A file of the trained model. */
export interface Finished {
  elb: Uint8Array;
  form: ModelForm;
  /** How far int8 and f32 agree; null when not quantized. */
  agreement: Agreement | null;
  /** null without validation texts, or when it failed. */
  calibration: Calibration | null;
  /** Why the model could not be calibrated; the file is without calibration then. */
  failure: Error | null;
}

/** What a training starts from. */
export interface Training extends TrainingData {
  validation: readonly Sample[];
  chosen: Chosen;
  vectors: VectorFile | null;
}

/** Of texts that are in memory. */
export interface TrainingInMemory extends Training {
  samples: readonly Sample[];
}

export async function train(texts: LabelledTexts, options: TrainOptions, startWorkers: StartWorkers): Promise<Trained> {
  const { valid, synonyms, vectors } = options;
  const chosen = chooseTraining(options);
  const given = await samplesOf(texts, "texts");
  const [samples, validation] =
    typeof valid === "number"
      ? keptAside(given, valid)
      : [given, valid === undefined ? [] : await samplesOf(valid, "valid")];
  const training: Training = {
    chosen,
    samples,
    validation,
    synonyms: synonymsOf(synonyms),
    vectors: vectorsOf(vectors),
  };
  return runTraining(training, options, startWorkers);
}

/** Their numbers, from 1, stand for the lines of a file. */
export function synonymsOf(synonyms: TrainOptions["synonyms"]): TrainingData["synonyms"] {
  if (synonyms === undefined) return null;
  const groups = synonyms.map((words, i): SynonymGroup => ({ words: [...words], line: i + 1 }));
  return { groups, source: "synonyms" };
}

export function vectorsOf(vectors: TrainOptions["vectors"]): VectorFile | null {
  return vectors === undefined ? null : { source: "vectors", read: vectors };
}

/** The same, when texts and settings are at hand. */
export async function runTraining(
  { chosen, synonyms, vectors, ...texts }: Training,
  options: TrainOptions,
  startWorkers: StartWorkers,
): Promise<Trained> {
  const { resume, signal, onNote: note = () => {} } = options;
  const { settings } = chosen;
  if (options.unknown !== undefined && !("read" in texts.samples) && isMultiLabel(texts.samples)) throw noRule();
  const [samples, validation] = withValidation(texts, settings, note);
  const survey = new Survey(samples, validation);
  const trainer =
    resume === undefined
      ? await begin(survey, synonyms, validation, chosen, vectors, note)
      : await resumeTraining(resume, settings.name, await lookedThrough(survey), validation, synonyms);
  signal?.throwIfAborted();
  const workers = await startWorkers(trainer, settings.name, { samples, synonyms });
  try {
    const reports = await runAll(trainer, validation.length > 0, options);
    return new Trained(trainer, reports, { ...options, ...settings, survey, validation, note });
  } finally {
    await workers.stop();
  }
}

/** Where texts have several labels, a threshold decides which of them a text gets; if there are no texts to fit it on, some are kept aside. */
function withValidation(
  { samples, validation }: Pick<Training, "samples" | "validation">,
  settings: Settings,
  note: (note: string) => void,
): readonly [Samples, readonly Sample[]] {
  const isInMemory = !("read" in samples) && samples.length >= ENOUGH_ASIDE;
  if (validation.length > 0 || !settings.calibrate || !isInMemory || !isMultiLabel(samples))
    return [samples, validation];
  note(`${percent(ASIDE, 0)} of the texts are kept aside, for the threshold`);
  return keptAside(samples, ASIDE);
}

/** The settings of a training; throws an EdgelabelError with code BAD_SETTING for what train() refuses before it looks at texts. */
export function chooseTraining(options: TrainOptions): Chosen {
  const {
    valid,
    unknown,
    synonyms,
    vectors,
    resume,
    quantize: _quantize,
    onEpoch: _onEpoch,
    onProgress: _onProgress,
    onNote: _onNote,
    signal: _signal,
    ...settings
  } = options;
  const chosen = chooseSettings(settings, { isResumed: resume !== undefined, hasSynonyms: synonyms !== undefined });
  if (typeof valid === "number" && !(valid > 0 && valid < 1))
    throw new EdgelabelError("valid takes labelled texts, or a share of the texts above 0 and below 1", BAD_SETTING);
  if (vectors !== undefined && resume !== undefined)
    throw new EdgelabelError("a resumed run has the vectors that it was started with; leave them out", BAD_SETTING);
  if (unknown !== undefined && (valid === undefined || !chosen.settings.calibrate))
    throw new EdgelabelError(
      "unknown is calibrated on the texts of valid; give them, without calibrate=false",
      BAD_SETTING,
    );
  return chosen;
}

/** The survey, after its samples have been read once. */
async function lookedThrough(survey: Survey): Promise<Survey> {
  for await (const _ of survey.read());
  return survey;
}

async function begin(
  survey: Survey,
  synonyms: TrainingData["synonyms"],
  validation: readonly Sample[],
  { settings: asked, given }: Chosen,
  vectors: VectorFile | null,
  note: (note: string) => void,
): Promise<Trainer> {
  const { trainer, recipe, shape } = await prepareAdapted(survey, validation, asked, given, vectors, note);
  noteShape(shape, asked, recipe, note);
  if ((recipe.workers ?? 1) > recipe.batch)
    throw new EdgelabelError(
      `${recipe.workers} workers cannot share a batch of ${recipe.batch}; use fewer, or set a larger batch-size`,
    );
  if (synonyms) recipe.augment = { synonym: DEFAULT_SYNONYMS, ...recipe.augment };
  noteDoubts(survey, validation, note);
  if (synonyms) addSynonyms(trainer, synonyms.groups, synonyms.source);
  try {
    trainer.start(recipe);
  } catch (error) {
    if (!(error instanceof EdgelabelError) || error.code !== "out_of_memory") throw error;
    throw new EdgelabelError(
      `batches of ${recipe.batch} of these texts do not fit in WebAssembly memory; set a smaller batch-size, maxlen, units or embedding-dim`,
      error.code,
    );
  }
  return trainer;
}

function noteShape(
  { texts, empty, cut }: Shape,
  asked: RecipeOptions,
  { tokenizer: { charLevel, sequenceLength, truncatePost } }: RecipeOptions,
  note: (note: string) => void,
): void {
  if (empty > 0)
    note(`${empty} of ${texts} texts have no tokens, so nothing is learnt from them; edgelabel data lists them`);
  if (charLevel && !asked.tokenizer.charLevel)
    note(
      "nearly every text has a word that no other text has, so texts are read letter by letter (char-level=false: word by word)",
    );
  else if (cut > NOTED_CUT * texts)
    note(
      `${cut} of ${texts} texts have more than ${sequenceLength} tokens, of which only the ${truncatePost ? "first" : "last"} ${sequenceLength} count; a higher maxlen reads more, and takes longer`,
    );
}

function noteDoubts(survey: Survey, validation: readonly Sample[], note: (note: string) => void): void {
  for (const doubt of doubtsOf(survey.figures)) note(doubt);
  const all = [...new Set([...survey.labels(), ...labelsOf(validation)])].sort();
  for (const labels of similarLabels(all).slice(0, MOST_SIMILAR))
    note(`the labels ${listed(labels)} look alike; if they mean the same, write them alike (edgelabel data shows all)`);
  noteSeenOf(survey.seen, validation, note);
}

/** Tells when texts to measure on are among those that the model learns from. */
export function noteSeen(
  validation: readonly Sample[],
  samples: readonly Sample[],
  note: (note: string) => void,
): void {
  noteSeenOf(validation.length - without(validation, samples).length, validation, note);
}

function noteSeenOf(seen: number, validation: readonly Sample[], note: (note: string) => void): void {
  if (seen > 0)
    note(
      `${seen} of ${validation.length} texts of the validation data are in the training data too, so the figures are better than for new texts; keep them apart (edgelabel data DATA --valid FILE lists them)`,
    );
}

async function runAll(
  trainer: Trainer,
  validates: boolean,
  { onEpoch, onProgress, signal }: TrainOptions,
): Promise<EpochReport[]> {
  const reports: EpochReport[] = [];
  const epochs = trainer.epochsLeft();
  let isStopped = false;
  const steps = takeSteps(trainer, epochs, validates, {
    onBatch: (done) => onProgress?.(done, epochs),
    isStopped: () => isStopped,
    onEpoch(report) {
      reports.push(report);
      isStopped = onEpoch?.(report) === false;
    },
  });
  let turn = performance.now();
  while (!steps.next().done) {
    if (performance.now() - turn < TURN_MS) continue;
    await nextTurn();
    signal?.throwIfAborted();
    turn = performance.now();
  }
  return reports;
}

/** Browsers have no setImmediate, and make a timer wait for some milliseconds. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve);
  });
}

interface Given
  extends Pick<TrainOptions, "unknown" | "quantize">, Pick<Settings, "name" | "calibrate" | "minAgreement"> {
  survey: Survey;
  validation: readonly Sample[];
  note: (note: string) => void;
}

/** A trained model, as the files that can be made of it. */
export class Trained {
  /** Of the epochs of this run. */
  readonly reports: readonly EpochReport[];
  /** How many texts it was trained on: without those that were kept aside. */
  readonly texts: number;
  /** Epochs that the run has left, for `resume`. */
  readonly epochsLeft: number;
  readonly labels: readonly string[];
  readonly #given: Given;
  /** Until its module calibrates a file; #training is what it held. */
  #trainer: Trainer | undefined;
  #training: Uint8Array | undefined;
  #deployed: Promise<Finished> | undefined;
  #resumable: Promise<Finished> | undefined;

  constructor(trainer: Trainer, reports: readonly EpochReport[], given: Given) {
    this.#trainer = trainer;
    this.#given = given;
    this.reports = reports;
    this.texts = given.survey.figures.texts;
    this.epochsLeft = trainer.epochsLeft();
    this.labels = trainer.labels();
  }

  /** The deployable: the engine and, unless `quantize` was false, int8 weights. */
  async wasm(): Promise<Uint8Array> {
    return packModel(unlessFailed(await this.deployed()));
  }

  /** The training form: f32 weights, and what it takes to resume the run, or to learn from corrections. */
  async elb(): Promise<Uint8Array> {
    return unlessFailed(await this.resumable());
  }

  /** The deployable's figures on the texts that its threshold and scores are calibrated on; null if there are none, or texts have one label each. */
  async validated(): Promise<Evaluation | null> {
    const { validation, survey } = this.#given;
    return validation.length > 0 && survey.figures.isMultiLabel ? evaluate(await this.#classifier(), validation) : null;
  }

  /** The deployable, opened. */
  async model(): Promise<Model> {
    return new Model(await this.#classifier());
  }

  /** The deployable's figures on other labelled texts, as `edgelabel eval --json` prints them. */
  async evaluate(texts: LabelledTexts): Promise<Evaluation> {
    return evaluate(await this.#classifier(), await samplesOf(texts, "texts"));
  }

  async #classifier(): Promise<Classifier> {
    return Classifier.fromBytes(unlessFailed(await this.deployed()), this.#given.name);
  }

  /** What wasm() packs, with figures. */
  deployed(): Promise<Finished> {
    return (this.#deployed ??= this.#finish(async (trainer) => {
      const { name, survey, validation, minAgreement, note } = this.#given;
      if (this.#given.quantize === false) return { elb: trainer.write("f32"), form: "f32", agreement: null };
      return quantize(trainer, name, {
        texts: validation.length > 0 ? spreadTexts(validation) : survey.spread,
        minAgreement,
        onWeak: (form, { top1 }) => note(weak(form, top1, minAgreement)),
      });
    }));
  }

  /** What elb() gives, with figures. */
  resumable(): Promise<Finished> {
    return (this.#resumable ??= this.#finish(async (trainer) => ({
      elb: this.#training ?? trainer.write("training"),
      form: "f32",
      agreement: null,
    })));
  }

  async #finish(write: (trainer: Trainer) => Promise<Pick<Finished, "elb" | "form" | "agreement">>): Promise<Finished> {
    const { name, validation, calibrate: calibrates, unknown } = this.#given;
    const trainer = this.#trainer ?? (await reopened(this.#training!, name));
    const written = await write(trainer);
    if (validation.length === 0 || !calibrates) return { ...written, calibration: null, failure: null };
    this.#training ??= trainer.write("training");
    this.#trainer = undefined;
    try {
      const calibrated = await calibrate(written.elb, validation, {
        unknownShare: unknown,
        source: name,
        module: trainer.release(),
      });
      return { ...written, ...calibrated, failure: null };
    } catch (error) {
      return { ...written, calibration: null, failure: error as Error };
    }
  }
}

async function reopened(training: Uint8Array, name: string): Promise<Trainer> {
  const trainer = await Trainer.open(training, name);
  trainer.buildOpened();
  return trainer;
}

function unlessFailed({ elb, failure }: Finished): Uint8Array {
  if (failure) throw failure;
  return elb;
}

/** Says that a form agrees too little with f32. */
export function weak(form: ModelForm, top1: number, minAgreement: number): string {
  return `${form} agrees on ${percent(top1)} of the labels, less than ${percent(minAgreement)}`;
}
