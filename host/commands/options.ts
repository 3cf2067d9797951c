// Options that several commands share, and the parsers of their values. A value that they
// refuse is misuse (exit code 2).
import { type Command, InvalidArgumentError, Option } from "commander";
import { type DatasetOptions, FORMATS, type Sample } from "../data/dataset.ts";
import { readDataset, SampleFiles } from "../data/read.ts";
import type { Samples } from "../data/survey.ts";
import { type Progress, startProgress } from "../progress.ts";
import { fileSize } from "../files/read.ts";
import { note } from "./terminal.ts";
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

/** The name of a page. */
export function htmlName(text: string): string {
  if (!/\.html?$/.test(text)) throw new InvalidArgumentError("its name must end in .html.");
  return text;
}

/** As many labels as `wasmtime run MODEL --top N` takes. */
export const parseTop = wholeNumber(1, 9999);

function parseSeparator(text: string): string {
  if (text === "") throw new InvalidArgumentError("it must not be empty.");
  return text === "\\t" ? "\t" : text;
}

export type DatasetFlags = Omit<DatasetOptions, "onSkipped" | "mayHaveSeveral">;

export function addDatasetOptions(command: Command): Command {
  return command
    .addOption(new Option("--format <name>", "format of the data (default: by file name)").choices(FORMATS))
    .option(
      "--text-column <name>",
      'column or JSON key of the text (default: "text", or else the usual name that is there)',
    )
    .option("--label-column <name>", "the same for the label")
    .option(
      "--label-separator <text>",
      'stands between several labels in a cell or string, such as "|"',
      parseSeparator,
    )
    .option("--skip-empty", "leave out texts without a label, and labels without a text");
}

/** Reads labelled texts as the options say, and tells the user how many were left out. `mayHaveSeveral`: of a model, or beside texts, that have several labels, or none, a text may have none even if no other has several. */
export function readSamples(paths: readonly string[], flags: DatasetFlags, mayHaveSeveral = false): Promise<Sample[]> {
  return readDataset(paths, { ...datasetOptions(flags), mayHaveSeveral, onSkipped: noteSkipped });
}

/** Labelled texts that are read as they are needed, with a progress bar if that takes long; those of pipes at once. */
export async function openSamples(
  paths: readonly string[],
  flags: DatasetFlags & { json?: boolean },
): Promise<Samples> {
  for (const path of paths) if (path === "-" || (await fileSize(path)) === undefined) return readSamples(paths, flags);
  let progress: Progress | undefined;
  return new SampleFiles(paths, datasetOptions(flags), {
    onSkipped: noteSkipped,
    onRead(done, total) {
      if (total < SHOWN_BYTES) return;
      progress ??= startProgress("reading", flags);
      progress.update(done, total, `${megabytes(done)} of ${megabytes(total)}`);
      if (done < total) return;
      progress.stop();
      progress = undefined;
    },
  });
}

/** Files of this size take a second to read. */
const SHOWN_BYTES = 2 ** 26;

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** Those of all options of a command. */
function datasetOptions({ format, textColumn, labelColumn, labelSeparator, skipEmpty }: DatasetFlags): DatasetFlags {
  return { format, textColumn, labelColumn, labelSeparator, skipEmpty };
}

function noteSkipped(count: number, source: string): void {
  note(`${source}: ${count} without a label or a text left out`);
}
