// The settings of a training that `train --set name=value` changes. This table is the only
// place that knows their names, values and explanations: --set, --settings, the errors of
// options that have become settings, and bench/recipe.mjs all read it. Names are those of
// Keras, or of the papers and programs that everybody knows.
import { MAX_DROPOUT_SAMPLES, MAX_ROWS, MAX_SEQUENCE, MAX_WIDTH } from "../../assembly/abi.ts";
import { nearest, EdgelabelError } from "../errors.ts";
import {
  notNegative,
  onOff,
  positive,
  share,
  shareBelow1,
  shortText,
  type Values,
  wholeNumbers,
  words,
} from "../values.ts";
import { MIN_AGREEMENT } from "./quantization.ts";
import {
  DEFAULT_RECIPE,
  FAST_RECIPE,
  LINEAR_RECIPE,
  type RecipeOptions,
  TUTORIAL_RECIPE,
  withCleaning,
} from "./recipe.ts";
import type { Augmentation } from "./settings.ts";
import { type Cleaning, CLEANING_STEPS } from "./trainer.ts";

/** The recipe, and what is done with the trained model. */
export interface Settings extends RecipeOptions {
  augment: Augmentation;
  calibrate: boolean;
  /** Least share of texts on which int8 arithmetic and f32 agree. */
  minAgreement: number;
}

/** Where a setting is: "units", or "tokenizer.split" for the tokenizer's `split`. */
export type Path =
  | Exclude<keyof Settings, "tokenizer" | "augment">
  | `tokenizer.${keyof Settings["tokenizer"]}`
  | `augment.${keyof Augmentation}`;

export interface Setting {
  name: string;
  path: Path;
  values: Values<unknown>;
  help: string;
  /** The option that it was in version 0.1, without dashes, where it had another name. */
  old?: string;
  /** What must be set for it to have an effect. */
  needs?: [what: string, isMet: (settings: Settings) => boolean];
}

/** Share of the words that a file of synonyms replaces unless augment-synonym says otherwise. */
export const DEFAULT_SYNONYMS = 0.1;

/** "urls,numbers", "all" or "none": steps of cleaning, in the order in which they are applied. */
export const cleaningSteps: Values<Cleaning[]> = {
  takes: `"all", "none", or some of ${CLEANING_STEPS.join(", ")} joined by commas`,
  range: `${CLEANING_STEPS.join(", ")}, all, none`,
  read(text) {
    const named = text === "all" ? CLEANING_STEPS : text === "none" ? [] : text.split(",").map((step) => step.trim());
    const isKnown = named.every((step) => CLEANING_STEPS.some((known) => known === step));
    return isKnown ? CLEANING_STEPS.filter((step) => named.includes(step)) : undefined;
  },
  typed: (steps) => steps.join(",") || "none",
};

const characters: Values<string> = {
  takes: "characters",
  range: "characters",
  read: (text) => text,
  typed: () => undefined,
};
const side = words({ pre: false, post: true });
const sgdOnly: Setting["needs"] = ["optimizer=sgd", ({ optimizer }) => optimizer === "sgd"];
/** Choices that are kept as they are typed. */
const oneOf = (...names: string[]): Values<string> => words(Object.fromEntries(names.map((name) => [name, name])));

type Row = readonly [
  name: string,
  // Each row reads values of its own type.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  values: Values<any>,
  path: Path,
  help: string,
  more?: Pick<Setting, "old" | "needs">,
];

const TABLE = [
  [
    "Network",
    [
      [
        "embedding-dim",
        wholeNumbers(1, MAX_WIDTH),
        "embedding",
        "numbers in the vector of a word",
        { old: "embedding" },
      ],
      ["units", wholeNumbers(1, MAX_WIDTH), "units", "recurrent units in each direction"],
      ["bidirectional", onOff, "bidirectional", "read each text forwards and backwards"],
      ["mask", onOff, "mask", "skip padding, as mask_zero does"],
      ["pooling", oneOf("last", "max", "mean", "max+mean"), "pooling", "how the states of all steps become one"],
      ["binary-output", onOff, "binaryOutput", "one sigmoid unit for two labels"],
      [
        "linear",
        onOff,
        "linear",
        "a linear part over words, pairs and n-grams beside the network",
        { needs: ["binary-output=false", ({ binaryOutput }) => !binaryOutput] },
      ],
    ],
  ],
  [
    "Optimization",
    [
      ["optimizer", oneOf("adam", "sgd"), "optimizer", "as Keras has it"],
      ["learning-rate", positive, "learningRate", "highest rate of the optimizer"],
      ["schedule", oneOf("cosine", "linear", "constant"), "schedule", "fall of the rate"],
      ["warmup", shareBelow1, "warmup", "share of the steps in which the rate climbs"],
      [
        "final-rate",
        share,
        "finalRate",
        "share of the rate that is left at the end",
        { needs: ["schedule=cosine or schedule=linear", ({ schedule }) => schedule !== "constant"] },
      ],
      ["momentum", shareBelow1, "momentum", "of sgd: share of the last step that is kept", { needs: sgdOnly }],
      ["nesterov", onOff, "nesterov", "of sgd: Nesterov's form of the momentum", { needs: sgdOnly }],
      ["batch-size", wholeNumbers(1, 4096), "batch", "texts in each step; fewer for few texts", { old: "batch" }],
      ["global-clipnorm", notNegative, "clipNorm", "longest gradient, by global norm; 0: any", { old: "clip-norm" }],
      ["weight-decay", notNegative, "weightDecay", "share of weights taken off, times the rate"],
      [
        "ema-momentum",
        shareBelow1,
        "averageDecay",
        "keep a moving average of the weights, with this decay; 0: none",
        { old: "average-decay" },
      ],
      [
        "loss",
        oneOf("categorical_crossentropy", "binary_crossentropy", "mean_squared_error"),
        "loss",
        "what is minimized",
      ],
      [
        "label-smoothing",
        shareBelow1,
        "labelSmoothing",
        "share of the target spread over all labels",
        { needs: ["a cross-entropy as its loss", ({ loss }) => loss !== "mean_squared_error"] },
      ],
      [
        "class-weight",
        words({ none: false, balanced: true }),
        "balanced",
        "balanced: all labels weigh the same",
        { old: "balanced" },
      ],
    ],
  ],
  [
    "Regularization",
    [
      ["embedding-dropout", shareBelow1, "embeddingDropout", "dropout after the embedding"],
      ["output-dropout", shareBelow1, "outputDropout", "dropout before the last layer"],
      [
        "dropout-samples",
        wholeNumbers(1, MAX_DROPOUT_SAMPLES),
        "dropoutSamples",
        "masks of the output dropout for each text",
      ],
      ["word-dropout", shareBelow1, "wordDropout", "share of words hidden in training"],
      [
        "perturbation",
        shareBelow1,
        "perturbation",
        "adversarial training at the end of the run: share of their length by which word vectors are moved; 0: none",
      ],
    ],
  ],
  [
    "Augmentation, by the share of the words that each epoch changes at random",
    [
      ["augment-delete", shareBelow1, "augment.delete", "words left out"],
      ["augment-swap", shareBelow1, "augment.swap", "words swapped with the next one"],
      ["augment-typo", shareBelow1, "augment.typo", "known words of 3 letters or more, misspelt"],
      [
        "augment-synonym",
        shareBelow1,
        "augment.synonym",
        `words replaced by another of their group in --synonyms (default, with that file: ${DEFAULT_SYNONYMS})`,
      ],
    ],
  ],
  [
    "Vocabulary",
    [
      ["min-count", wholeNumbers(1, MAX_ROWS), "minCount", "rarer words have n-grams only; few texts: 1"],
      ["num-words", wholeNumbers(0, MAX_ROWS), "numWords", "keep the n - 1 most frequent words; 0: all"],
      [
        "oov-token",
        shortText,
        "oovToken",
        "word that stands for all unknown ones",
        {
          needs: [
            "ngram-buckets=0: otherwise unknown words have their n-grams",
            ({ tokenizer }) => tokenizer.ngramBuckets === 0,
          ],
        },
      ],
      [
        "ngram-buckets",
        wholeNumbers(0, MAX_ROWS),
        "tokenizer.ngramBuckets",
        "rows for n-grams of unknown words; 0: none",
      ],
      [
        "add-ngrams",
        onOff,
        "addNgrams",
        "known words have n-grams too",
        { needs: ["ngram-buckets above 0", ({ tokenizer }) => tokenizer.ngramBuckets > 0] },
      ],
    ],
  ],
  [
    "Tokenizer",
    [
      ["maxlen", wholeNumbers(1, MAX_SEQUENCE), "tokenizer.sequenceLength", "tokens of a text that count"],
      ["padding", side, "tokenizer.padPost", "where short texts are padded", { old: "pad-post" }],
      ["truncating", side, "tokenizer.truncatePost", "where long texts are cut", { old: "truncate-post" }],
      [
        "clean",
        cleaningSteps,
        "tokenizer.cleaning",
        "clean texts first, in use too, by the default steps and these, or by none",
      ],
      ["filters", characters, "tokenizer.filters", "characters between words (default: Keras')"],
      ["split", shortText, "tokenizer.split", "text between words"],
      ["lower", onOff, "tokenizer.lower", "change texts to lower case"],
      ["char-level", onOff, "tokenizer.charLevel", "every character is a token"],
      [
        "split-scripts",
        onOff,
        "tokenizer.splitScripts",
        "letters of Chinese and the like are tokens",
        { needs: ["char-level=false: otherwise all letters are tokens", ({ tokenizer }) => !tokenizer.charLevel] },
      ],
      [
        "letter-pairs",
        onOff,
        "tokenizer.letterPairs",
        "and bring the pair with the letter before",
        {
          needs: [
            "split-scripts=true, ngram-buckets above 0 and char-level=false",
            ({ tokenizer }) => tokenizer.splitScripts && tokenizer.ngramBuckets > 0 && !tokenizer.charLevel,
          ],
        },
      ],
    ],
  ],
  [
    "After training",
    [
      ["calibrate", onOff, "calibrate", "calibrate the scores on the texts of --valid"],
      ["min-agreement", share, "minAgreement", "least share of equal labels of int8 and f32"],
    ],
  ],
] as const satisfies readonly (readonly [group: string, rows: readonly Row[]])[];

export const SETTINGS: readonly [group: string, settings: readonly Setting[]][] = TABLE.map(([group, rows]) => [
  group,
  rows.map(([name, values, path, help, more]: Row) => ({ name, values, path, help, ...more })),
]);

/** "embedding-dim" and so on. */
export type SettingName = (typeof TABLE)[number][1][number][0];

export const ALL_SETTINGS: readonly Setting[] = SETTINGS.flatMap(([, settings]) => settings);

/** Settings that say what is done with the trained model, and not how it is trained. */
export const AFTER_TRAINING: ReadonlySet<Path> = new Set<Path>(["calibrate", "minAgreement"]);

export const RECIPES = {
  default: asSettings(DEFAULT_RECIPE),
  fast: asSettings(FAST_RECIPE),
  linear: asSettings(LINEAR_RECIPE),
  tutorial: asSettings(TUTORIAL_RECIPE),
};

/** Settings of the network, which the recipe linear does not have. */
export const OF_NETWORK: ReadonlySet<Path> = new Set<Path>([
  ...TABLE.slice(0, 4).flatMap(([, rows]) => rows.map(([, , path]) => path)),
  "epochs",
  "workers",
]);

function asSettings(recipe: RecipeOptions): Settings {
  const augment = { delete: 0, swap: 0, typo: 0, ...recipe.augment };
  return { ...recipe, augment, calibrate: true, minAgreement: MIN_AGREEMENT };
}

/** "units=32" -> the setting and its value. Throws an EdgelabelError that says what is allowed. */
export function parseSetting(text: string): [Setting, value: unknown] {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined) throw new EdgelabelError("a setting is written name=value, such as units=32 or mask=false.");
  const setting = ALL_SETTINGS.find((one) => one.name === name);
  if (setting === undefined) {
    const known = ALL_SETTINGS.map((one) => one.name);
    const meant = ALL_SETTINGS.find(({ old }) => old === name)?.name ?? nearest(name, known);
    throw new EdgelabelError(
      `there is no setting ${JSON.stringify(name)}${meant === undefined ? "" : `, did you mean ${meant}?`}${meant === undefined ? ";" : ""} edgelabel train --settings lists all.`,
    );
  }
  const read = setting.values.read(value!);
  if (read === undefined) throw new EdgelabelError(`${name} takes ${setting.values.takes}.`);
  return [setting, read];
}

/** A recipe with the settings that were given, and the paths of these. */
export function withSettings(
  preset: Settings,
  set: ReadonlyMap<Setting, unknown>,
): { settings: Settings; given: Set<Path> } {
  const settings = { ...preset, tokenizer: { ...preset.tokenizer }, augment: { ...preset.augment } };
  for (const [{ path }, value] of set) {
    const [holder, field] = place(settings, path);
    holder[field] = path === "tokenizer.cleaning" ? withCleaning(preset, value as Cleaning[]) : value;
  }
  const given = new Set(Array.from(set.keys(), ({ path }) => path));
  if (settings.loss === "mean_squared_error" && !given.has("labelSmoothing")) settings.labelSmoothing = 0;
  return { settings, given };
}

/** "momentum=0.9 needs optimizer=sgd", for a given setting that would have no effect. */
export function withoutEffect(settings: Settings, given: ReadonlySet<Path>): string | undefined {
  for (const { name, path, needs } of ALL_SETTINGS) {
    if (needs === undefined || !given.has(path) || needs[1](settings)) continue;
    if (valueAt(settings, path)) return `${name} needs ${needs[0]}`;
  }
  return undefined;
}

/** The value of a setting as one types it; undefined when there is none, or none that fits in a list. */
export function typedValue({ values, path }: Setting, settings: Settings): string | undefined {
  const value = valueAt(settings, path) ?? undefined;
  if (value === undefined) return undefined;
  return values.typed === undefined ? String(value) : values.typed(value);
}

/** Old switches, whose options took no value. */
export function isSwitch({ path }: Setting): boolean {
  return typeof valueAt(RECIPES.default, path) === "boolean";
}

function valueAt(settings: Settings, path: Path): unknown {
  const [holder, field] = place(settings, path);
  return holder[field];
}

function place(settings: Settings, path: Path): [holder: Record<string, unknown>, field: string] {
  const [first, second] = path.split(".") as [string, string?];
  const all = settings as unknown as Record<string, unknown>;
  return second === undefined ? [all, first] : [all[first] as Record<string, unknown>, second];
}
