// The options of train() -> the settings of a run. The command line has the same settings, as --set name=value.
import { nearest, EdgelabelError, listed } from "../errors.ts";
import {
  AFTER_TRAINING,
  ALL_SETTINGS,
  OF_NETWORK,
  type Path,
  RECIPES,
  type Setting,
  type SettingName,
  type Settings,
  withoutEffect,
  withSettings,
} from "../training/setting-table.ts";
import { shortText, type Values, wholeNumbers } from "../values.ts";
import { MAX_WORKERS } from "../../assembly/abi.ts";

type CamelCase<Name extends string> = Name extends `${infer First}-${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
  : Name;

/** The settings that `edgelabel train --settings` lists, in camel case: { embeddingDim: 32, clean: ["urls"] }. */
export type TrainSettings = {
  [Name in SettingName as CamelCase<Name>]?: number | boolean | string | readonly string[];
};

/** Those that are options of the command line, too. */
export interface RunSettings extends TrainSettings {
  /** In the model. Default: "model". */
  name?: string | undefined;
  /** In the model. Default: "1". */
  version?: string | undefined;
  /** Default: "default". */
  recipe?: keyof typeof RECIPES | undefined;
  /** The same seed gives the same model. Default: 1. */
  seed?: number | undefined;
  /** Passes over the texts. Default: 10, or more if there are few texts. */
  epochs?: number | undefined;
  /** Threads that share each batch, in Node, Deno and Bun; their number changes the model, as a seed does. Default: 1. */
  workers?: number | undefined;
}

export interface Chosen {
  settings: Settings;
  /** Those that were given. */
  given: ReadonlySet<Path>;
}

const OWN: Record<"seed" | "epochs" | "workers" | "name" | "version", Values<unknown>> = {
  seed: wholeNumbers(0, 2 ** 32 - 1),
  epochs: wholeNumbers(1, 100_000),
  workers: wholeNumbers(1, MAX_WORKERS),
  name: shortText,
  version: shortText,
};

/** Code of the errors below. */
export const BAD_SETTING = "bad_setting";

const byName = new Map(ALL_SETTINGS.map((setting) => [camelCase(setting.name), setting]));

/** "embedding-dim" -> "embeddingDim". */
export function camelCase(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** "embeddingDim" -> "embedding-dim", of a setting. */
export function typedName(name: string): string {
  return byName.get(name)!.name;
}

/** Throws an EdgelabelError for a setting that there is not, a value outside its range, or one that would have no effect. */
export function chooseSettings(
  { recipe = "default", name, version, seed, epochs, workers, ...rest }: RunSettings,
  { isResumed, hasSynonyms }: { isResumed: boolean; hasSynonyms: boolean },
): Chosen {
  if (!Object.hasOwn(RECIPES, recipe))
    throw bad(`there is no recipe ${JSON.stringify(recipe)}; there are ${listed(Object.keys(RECIPES))}`);
  const preset = RECIPES[recipe];
  const set = new Map<Setting, unknown>();
  for (const [key, value] of Object.entries(rest)) if (value !== undefined) set.set(...read(key, value));
  const own = Object.entries({ name, version, seed, epochs, workers }).filter(([, value]) => value !== undefined);
  const named = [...set.keys(), ...own.map(([name_]) => ({ name: name_, path: name_ as Path }))];
  const ofTheRun = named.find(({ path }) => !AFTER_TRAINING.has(path));
  if (isResumed && ofTheRun !== undefined)
    throw bad(`${ofTheRun.name} cannot be changed in a resumed run, which keeps the settings that it was started with`);
  const { settings, given } = withSettings(preset, set);
  settings.name = name ?? "model";
  for (const [key, value] of own as [keyof typeof OWN, unknown][]) {
    if (OWN[key].read(String(value)) === undefined) throw bad(`${key} takes ${OWN[key].takes}`);
    Object.assign(settings, { [key]: value });
    given.add(key);
  }
  const ofNetwork = named.find(({ path }) => OF_NETWORK.has(path));
  if (preset.linear === "alone" && ofNetwork !== undefined)
    throw bad(`${ofNetwork.name} is a setting of the network, and the recipe linear trains none`);
  const idle = withoutEffect(settings, given);
  if (idle !== undefined) throw bad(idle);
  if (given.has("augment.synonym") && !hasSynonyms) throw bad("augment-synonym needs synonyms");
  return { settings, given };
}

function read(key: string, value: unknown): [Setting, unknown] {
  const setting = byName.get(key);
  if (setting === undefined) {
    const meant = nearest(key, [...byName.keys(), ...Object.keys(OWN)]);
    throw bad(`there is no setting ${JSON.stringify(key)}${meant === undefined ? "" : `, did you mean ${meant}?`}`);
  }
  const typed = setting.values.read(Array.isArray(value) ? value.join(",") : String(value));
  if (typed === undefined) throw bad(`${setting.name} takes ${setting.values.takes}`);
  return [setting, typed];
}

function bad(message: string): EdgelabelError {
  return new EdgelabelError(message, BAD_SETTING);
}
