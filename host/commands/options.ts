// Options that several commands share, and the parsers of their values. A value that they
// refuse is misuse (exit code 2).
import { type Command, InvalidArgumentError, Option } from "commander";
import { MAX_NAME_BYTES } from "../../assembly/abi.ts";
import { type DatasetOptions, FORMATS } from "../data/dataset.ts";
import type { Augmentation } from "../training/settings.ts";
import { type Cleaning, CLEANING_STEPS } from "../training/trainer.ts";

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`it takes a whole number from ${least} to ${most}.`);
    return value;
  };
}

/** A number above 0, as high as the trainer takes them. */
export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value < 1e6)) throw new InvalidArgumentError("it takes a number above 0 and below 1000000.");
  return value;
}

/** Seed of a run's random numbers. */
export const parseSeed = wholeNumber(0, 2 ** 32 - 1);

/** A text that a model file has room for, such as a word. */
export function shortText(text: string): string {
  if (text === "" || Buffer.byteLength(text) > MAX_NAME_BYTES)
    throw new InvalidArgumentError(`it takes 1 to ${MAX_NAME_BYTES} bytes of text.`);
  return text;
}

/** A model's name or version. */
export function nameText(text: string): string {
  if (/\p{Cc}/u.test(text)) throw new InvalidArgumentError("it takes no control characters.");
  return shortText(text);
}

/** A share from 0 to 1. */
export function share(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= 1))
    throw new InvalidArgumentError("it takes a number from 0 to 1.");
  return value;
}

/** A share below 1, such as a dropout: of all there would be nothing left. */
export function shareBelow1(text: string): number {
  const value = share(text);
  if (value === 1) throw new InvalidArgumentError("it takes a number from 0 to below 1.");
  return value;
}

/** "urls,numbers", "all" or "none": steps of cleaning, in the order in which they are applied. */
export function cleaningSteps(text: string): Cleaning[] {
  const named = text === "all" ? CLEANING_STEPS : text === "none" ? [] : text.split(",").map((step) => step.trim());
  const wrong = named.find((step) => !CLEANING_STEPS.some((known) => known === step));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`it takes "all", "none", or some of ${CLEANING_STEPS.join(", ")} joined by commas.`);
  return CLEANING_STEPS.filter((step) => named.includes(step));
}

/** "delete=0.05,swap=0.02": shares of augmentation. */
export function augmentation(text: string): Augmentation {
  const shares: Augmentation = {};
  for (const part of text.split(",")) {
    const [, kind, value] = /^\s*(delete|swap|typo|synonym)=(.+)$/.exec(part) ?? [];
    if (kind === undefined)
      throw new InvalidArgumentError("it takes shares of delete, swap, typo and synonym, as in delete=0.05,typo=0.05.");
    shares[kind as keyof Augmentation] = shareBelow1(value!);
  }
  return shares;
}

/** The name of a chart. */
export function svgName(text: string): string {
  if (!text.endsWith(".svg")) throw new InvalidArgumentError("its name must end in .svg.");
  return text;
}

/** As many labels as `wasmtime run MODEL --top N` takes. */
export const parseTop = wholeNumber(1, 9999);

export type DatasetFlags = Pick<DatasetOptions, "format" | "textColumn" | "labelColumn">;

export function addDatasetOptions(command: Command): Command {
  return command
    .addOption(new Option("--format <name>", "format of the data (default: by file name)").choices(FORMATS))
    .option("--text-column <name>", "column or JSON key of the text, where the file has names", "text")
    .option("--label-column <name>", "column or JSON key of the label, where the file has names", "label");
}
