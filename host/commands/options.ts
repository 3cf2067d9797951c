// Options that several commands share, and the parsers of their values. A value that they
// refuse is misuse (exit code 2).
import { type Command, InvalidArgumentError, Option } from "commander";
import { type DatasetOptions, FORMATS } from "../data/dataset.ts";
import { shortText, type Values, wholeNumbers } from "../values.ts";

/** The parser of an option that takes these values. */
export function parserOf<T>({ takes, read }: Values<T>): (text: string) => T {
  return (text) => {
    const value = read(text);
    if (value === undefined) throw new InvalidArgumentError(`it takes ${takes}.`);
    return value;
  };
}

export function wholeNumber(least: number, most: number): (text: string) => number {
  return parserOf(wholeNumbers(least, most));
}

/** Seed of a run's random numbers. */
export const parseSeed = wholeNumber(0, 2 ** 32 - 1);

/** A model's name or version. */
export function nameText(text: string): string {
  if (/\p{Cc}/u.test(text)) throw new InvalidArgumentError("it takes no control characters.");
  return parserOf(shortText)(text);
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
    .option("--text-column <name>", "column or JSON key of the text, if the file has named columns", "text")
    .option("--label-column <name>", "column or JSON key of the label, if the file has named columns", "label");
}
