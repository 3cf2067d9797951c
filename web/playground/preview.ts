// The beginning of a file of labelled texts -> its first rows, and which columns hold text and label.
// parseDataset() reads the whole file later; here nothing is refused.
import { candidatesIn } from "../../host/data/columns.ts";
import { CsvReader, delimiterOf, startOf, widestDelimiter } from "../../host/data/csv.ts";
import { fieldsOf, formatByName } from "../../host/data/dataset.ts";
import { elementsOf } from "../../host/data/json-array.ts";

export interface Preview {
  /** Names of the columns, or keys; empty if a line is just a label and a text. */
  columns: readonly string[];
  /** Undefined: none has a usual name. */
  text?: string | undefined;
  label?: string | undefined;
  rows: readonly (readonly string[])[];
}

const ROWS = 5;
const CHARACTERS = 60_000;
const FASTTEXT = "__label__";

export function previewOf(content: string, name: string): Preview {
  const beginning = content.slice(0, CHARACTERS);
  const format = formatByName(name) ?? formatOf(beginning);
  if (format === "jsonl") return ofJson(beginning);
  const lines = beginning.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (format === "fasttext") {
    const rows = lines.slice(0, ROWS).map((line) => {
      const [, labels = "", text = ""] = /^((?:__label__\S*(?:\s+|$))*)(.*)$/.exec(line) ?? [];
      return [labels.replaceAll(FASTTEXT, "").trim().replace(/\s+/g, ", "), text];
    });
    return { columns: [], rows };
  }
  if (format === "tsv" && !hasBoth((lines[0] ?? "").split("\t"))) {
    const rows = lines.slice(0, ROWS).map((line) => {
      const [label = "", ...text] = line.split("\t");
      return [label, text.join("\t")];
    });
    return { columns: [], rows };
  }
  const start = startOf(beginning);
  const delimiter =
    format === "tsv" ? "\t" : (start.delimiter ?? delimiterOf(beginning, hasBoth) ?? widestDelimiter(beginning) ?? ",");
  const reader = new CsvReader(beginning, delimiter, start);
  const columns = reader.next()?.fields ?? [];
  const rows: string[][] = [];
  for (let record = reader.next(); record && rows.length < ROWS; record = reader.next())
    if (record.defect === undefined) rows.push(record.fields);
  return { columns, ...choice(columns), rows };
}

function formatOf(content: string): string {
  const first = content.trimStart().split("\n", 1)[0] ?? "";
  if (first.startsWith(FASTTEXT)) return "fasttext";
  if (/^[{[]/.test(first)) return "jsonl";
  return first.includes("\t") && startOf(content).delimiter === undefined ? "tsv" : "csv";
}

function ofJson(content: string): Preview {
  const objects: Map<string, unknown>[] = [];
  const lines = /^\s*\[/.test(content)
    ? Array.from(elementsOf(content), ({ json }) => json)
    : content.split("\n").filter((line) => line.trim() !== "");
  for (const json of lines) {
    const fields = fieldsOf(json);
    if (typeof fields !== "string") objects.push(fields);
  }
  const columns = [...new Set(objects.flatMap((fields) => [...fields.keys()]))];
  const cell = (value: unknown): string =>
    typeof value === "string"
      ? value
      : value === undefined
        ? ""
        : Array.isArray(value) && value.every((each) => typeof each === "string")
          ? value.join(", ")
          : JSON.stringify(value);
  const rows = objects.slice(0, ROWS).map((fields) => columns.map((column) => cell(fields.get(column))));
  return { columns, ...choice(columns), rows };
}

function hasBoth(header: readonly string[]): boolean {
  const { text, label } = candidatesIn(
    header.map((name) => name.trim()),
    {},
  );
  return text.length > 0 && label.length > 0;
}

function choice(columns: readonly string[]): Pick<Preview, "text" | "label"> {
  const { text, label } = candidatesIn(columns, {});
  const [textAt] = text;
  const [labelAt] = label;
  return {
    text: textAt === undefined ? undefined : columns[textAt],
    label: labelAt === undefined ? undefined : columns[labelAt],
  };
}
