// Labelled texts: TSV, CSV, JSON or fastText in, as a whole or in blocks of lines, and {label, text,
// line} out. Anything it would have to guess is refused, with file and line number: invalid
// UTF-8, a missing or doubled label, an empty text, broken quoting, columns without names. The
// texts themselves are not changed.
import { MAX_LABEL_BYTES, TEXT_CAPACITY } from "../../assembly/abi.ts";
import { ambiguous, candidatesIn, columnIn, type ColumnOptions } from "./columns.ts";
import {
  type CsvRecord,
  CsvReader,
  delimiterOf,
  isBlank,
  MOST_RECORD,
  startOf,
  STRAY_RETURN,
  UNCLOSED,
  widestDelimiter,
} from "./csv.ts";
import { excerpt, listed, EdgelabelError } from "../errors.ts";
import { elementsOf } from "./json-array.ts";
import { byteLength, decodeUtf8, requireText } from "../text.ts";

export interface Sample {
  label: string;
  /** Of a text that has several labels, or none: all of them; `label` has them in a row, so that it tells one such set from another. */
  labels?: readonly string[] | undefined;
  text: string;
  /** 1-based number of the line that the record starts on. */
  line: number;
}

export const FORMATS = ["tsv", "csv", "jsonl", "fasttext"] as const;
type Format = (typeof FORMATS)[number];

export interface DatasetOptions extends ColumnOptions {
  /** Default: by the file's name or first line. "jsonl" also takes a JSON array of objects. */
  format?: Format | undefined;
  /** Stands between the labels of a cell or string that has several; a text may then have none. */
  labelSeparator?: string | undefined;
  /** Texts may have several labels, or none, even if no text of this file has several. */
  mayHaveSeveral?: boolean | undefined;
  /** Leave out texts without a label, and labels without a text; otherwise they are errors. */
  skipEmpty?: boolean | undefined;
  /** Told of each file how many were left out, if any were. */
  onSkipped?: ((count: number, source: string) => void) | undefined;
}

const SUFFIXES = new Map<string, Format>([
  ["tsv", "tsv"],
  ["csv", "csv"],
  ["jsonl", "jsonl"],
  ["ndjson", "jsonl"],
  ["json", "jsonl"],
  ["ft", "fasttext"],
  ["fasttext", "fasttext"],
]);
const LABEL_PREFIX = "__label__";
export const OLD_MAC =
  "uses \\r as line ends, as old Mac programs do; save it with \\n, or convert it with tr '\\r' '\\n'";
/** With a larger share of NUL bytes in its beginning, a file is not text. */
const MOST_NULS = 0.1;
const BEGINNING_BYTES = 4096;
const SHOWN_DEFECTS = 5;
/** So many objects may come before the first one that has a label. */
const MOST_WAITING = 10_000;
// V8 cannot hold a longer string.
export const MOST = { bytes: 0x1fffffe8, otherwise: "larger than 512 MB; split it into several files" };
const NOT_UTF8_ADVICE =
  'if it is Windows-1252, as Excel\'s plain CSV is, save it as "CSV UTF-8" or convert it with iconv -f WINDOWS-1252 -t UTF-8';
/** Nobody looks at more lines. */
const MOST_UNLABELLED = 1000;
const SKIP_ADVICE = "--skip-empty leaves out what has no label or no text";
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

export function parseDataset(bytes: Uint8Array, source: string, options: DatasetOptions = {}): Sample[] {
  const defects = new Defects(source);
  if (bytes.length > MOST.bytes) throw new EdgelabelError(`${source}: ${MOST.otherwise}`);
  requireTexts(bytes, source);
  const content = decodeUtf8(bytes);
  if (content === undefined) {
    nameInvalidLines(bytes, defects);
    return defects.raise() as never;
  }
  const parser = new DatasetParser(source, options);
  const samples = parser.read(content, true);
  parser.close();
  return samples;
}

/** Throws an EdgelabelError when the beginning of a file is not that of UTF-8 text. */
export function requireTexts(bytes: Uint8Array, source: string): void {
  requireText(bytes, source);
  const beginning = bytes.subarray(0, BEGINNING_BYTES);
  if (beginning.filter((byte) => byte === 0).length > MOST_NULS * beginning.length)
    throw new EdgelabelError(`${source}: is full of NUL bytes, as UTF-16 and binary files are; save it as UTF-8 text`);
}

/** A JSON array is the one format that cannot be cut at line ends: whether a file begins like one. */
export function isArray(beginning: string, source: string, { format = formatByName(source) }: DatasetOptions): boolean {
  return (format ?? "jsonl") === "jsonl" && /^\s*\[/.test(beginning);
}

/** Reads a file in blocks of whole lines, a JSON array in one. */
export class DatasetParser {
  readonly #source: string;
  readonly #options: DatasetOptions;
  readonly #defects: Defects;
  #reader: FormatReader | undefined;
  #samples: Sample[] = [];
  #line = 1;
  #count = 0;
  #empty = 0;
  #hasSeveral: boolean;
  /** What is wrong with texts without a label if none has several. */
  readonly #unlabelled: { line: number; defect: string }[] = [];

  constructor(source: string, options: DatasetOptions) {
    this.#source = source;
    this.#options = options;
    this.#defects = new Defects(source);
    this.#hasSeveral = options.labelSeparator !== undefined || options.mayHaveSeveral === true;
  }

  /** The samples that end in the next block; none once something is wrong. */
  read(content: string, isLast: boolean): Sample[] {
    this.#reader ??= this.#start(content);
    this.#reader(content, this.#line, isLast);
    if (!isLast) this.#line += content.split("\n").length - 1;
    const samples = this.#samples;
    this.#samples = [];
    if (this.#defects.count > 0) return [];
    this.#count += samples.length;
    return samples;
  }

  /** After the last block: throws an EdgelabelError that names what is wrong. */
  close(): void {
    // Only where other texts have several labels does one without any have none.
    if (!this.#hasSeveral)
      for (const { line, defect } of this.#unlabelled) this.#defects.add(line, defect, SKIP_ADVICE);
    this.#defects.raise();
    if (this.#count === 0) throw new EdgelabelError(`${this.#source}: holds no labelled texts`);
    if (this.#empty > 0) this.#options.onSkipped?.(this.#empty, this.#source);
  }

  #start(content: string): FormatReader {
    const [source, options, defects] = [this.#source, this.#options, this.#defects];
    if (!content.includes("\n") && content.trimEnd().includes("\r")) throw new EdgelabelError(`${source}: ${OLD_MAC}`);
    const format = options.format ?? formatByName(source) ?? formatByContent(content, source, options);
    const keep: Keep = (...record) => this.#keep(...record);
    if (format === "csv") return csvReader(source, options, defects, keep);
    if (format === "tsv") return tsvReader(source, options, defects, keep);
    if (format === "jsonl") return jsonReader(source, options, defects, keep);
    return (block, first) => readLines(block, first, (line, number) => readFastTextLine(line, number, keep), defects);
  }

  #keep(line: number, found: string | readonly string[], text: string, unless = "the label is empty"): void {
    const labels = labelsIn(found, this.#options);
    const isEmpty = labels?.length === 0 || (!labels && found.toString().trim() === "") || text.trim() === "";
    if (isEmpty && this.#options.skipEmpty) {
      this.#empty++;
      return;
    }
    const sample = sampleOf(labels ?? found, text, line);
    if (typeof sample === "string") {
      this.#defects.add(line, sample, isEmpty ? SKIP_ADVICE : undefined);
      return;
    }
    this.#samples.push(sample);
    if (sample.labels && sample.labels.length > 1) this.#hasSeveral = true;
    if (labels?.length === 0 && this.#unlabelled.length < MOST_UNLABELLED)
      this.#unlabelled.push({ line, defect: unless });
  }
}

/** Labels have no control characters. */
const LABELS_JOINT = "\n";

/** The labels of a list or of a cell with separators; undefined for a label on its own. */
function labelsIn(found: string | readonly string[], { labelSeparator }: DatasetOptions): string[] | undefined {
  if (typeof found === "string" && labelSeparator === undefined) return undefined;
  const parts = typeof found === "string" ? found.split(labelSeparator!).filter((label) => label.trim() !== "") : found;
  return parts.map((label) => label.trim());
}

/** A text with its label, or with a list of several or none; or what makes it unfit. */
export function sampleOf(label: string | readonly string[], text: string, line: number): Sample | string {
  if (typeof label !== "string") return sampleWith(label, text, line);
  return sampleDefect(label, text) ?? { label, text, line };
}

function sampleWith(given: readonly string[], text: string, line: number): Sample | string {
  const labels = [...new Set(given)].sort();
  const defect = labels.map(labelDefect).find((each) => each !== undefined) ?? textDefect(text);
  if (defect !== undefined) return defect;
  return labels.length === 1
    ? { label: labels[0]!, text, line }
    : { label: labels.join(LABELS_JOINT), labels, text, line };
}

/** All labels of a sample, of which there is exactly one unless texts have several. */
export function labelsOfSample({ label, labels }: Pick<Sample, "label" | "labels">): readonly string[] {
  return labels ?? [label];
}

/** The label of a text, for a model that gives one. Throws an EdgelabelError if it has several, or none. */
export function soleLabel({ label, labels }: Pick<Sample, "label" | "labels">): string {
  if (labels && labels.length !== 1)
    throw new EdgelabelError("some texts have several labels, or none, but the model gives one");
  return label;
}

/** Whether texts have several labels, or none. */
export function isMultiLabel(samples: readonly Pick<Sample, "labels">[]): boolean {
  return samples.some(({ labels }) => labels !== undefined);
}

/** At most `most` of the items, evenly spread, so that all parts of a sorted file are represented. */
export function thinned<T>(items: readonly T[], most: number): T[] {
  const step = Math.max(1, items.length / most);
  return Array.from({ length: Math.min(most, items.length) }, (_, i) => items[Math.floor(i * step)]!);
}

/** The samples whose text does not occur in `others`. */
export function without(samples: readonly Sample[], others: readonly Sample[]): Sample[] {
  const texts = new Set(others.map(({ text }) => text));
  return samples.filter(({ text }) => !texts.has(text));
}

/** The distinct labels. They are sorted (by code unit), so that the order of the classes does not depend on that of the lines. */
export function labelsOf(samples: Iterable<Sample>): string[] {
  const labels = new Set<string>();
  for (const sample of samples) for (const label of labelsOfSample(sample)) labels.add(label);
  return [...labels].sort();
}

/** What makes `label` unfit to be a class name; undefined when nothing does. */
export function labelDefect(label: string): string | undefined {
  if (label.trim() === "") return "the label is empty";
  if (CONTROL_CHARACTER.test(label)) return `the label ${excerpt(label)} contains a control character`;
  if (LONE_SURROGATE.test(label)) return `the label ${excerpt(label)} contains half a surrogate pair`;
  if (byteLength(label) > MAX_LABEL_BYTES) return `the label is longer than ${MAX_LABEL_BYTES} bytes`;
  return undefined;
}

/** What makes a labelled text unfit; undefined when nothing does. */
export function sampleDefect(label: string, text: string): string | undefined {
  return labelDefect(label) ?? textDefect(text);
}

/** What makes a text unfit; undefined when nothing does. */
export function textDefect(text: string): string | undefined {
  if (text.trim() === "") return "the text is empty";
  if (LONE_SURROGATE.test(text)) return "the text contains half a surrogate pair";
  if (text.length > TEXT_CAPACITY / 3 && byteLength(text) > TEXT_CAPACITY) {
    return `the text is longer than ${TEXT_CAPACITY} bytes`;
  }
  return undefined;
}

// --- formats -----------------------------------------------------------------

/** Takes a record; `unless` says what is wrong with one without a label if no text of the file has several. */
type Keep = (line: number, label: string | readonly string[], text: string, unless?: string) => void;
/** Takes a line, or returns what is wrong with it. */
type LineReader = (line: string, number: number) => string | undefined;
/** Takes the next block of a file, and the number of its first line. */
type FormatReader = (content: string, first: number, isLast: boolean) => void;

export function formatByName(source: string): Format | undefined {
  const name = source.toLowerCase();
  return SUFFIXES.get(name.slice(name.lastIndexOf(".") + 1));
}

function formatByContent(content: string, source: string, options: DatasetOptions): Format {
  const first = content.split(/\r?\n/, 1000).find((line) => line.trim() !== "") ?? "";
  if (first === "") throw new EdgelabelError(`${source}: holds no labelled texts`);
  if (first.startsWith(LABEL_PREFIX)) return "fasttext";
  if (startOf(content).delimiter !== undefined) return "csv";
  if (/^\s*[{[]/.test(first)) return "jsonl";
  if (first.includes("\t")) return "tsv";
  if (delimiterOf(first, hasColumns(options)) !== undefined) return "csv";
  throw new EdgelabelError(`${source}: cannot tell its format from the first line; use --format ${FORMATS.join("|")}`);
}

function readLines(content: string, first: number, read: LineReader, defects: Defects): void {
  let number = first - 1;
  for (let start = 0; start < content.length;) {
    let end = content.indexOf("\n", start);
    if (end < 0) end = content.length;
    const line = content.slice(start, content[end - 1] === "\r" && end > start ? end - 1 : end);
    number++;
    if (!isBlank(line)) {
      const defect = read(line, number);
      if (defect !== undefined) defects.add(number, defect);
    }
    start = end + 1;
  }
}

function hasColumns(options: ColumnOptions): (header: readonly string[]) => boolean {
  return (header) => {
    const { text, label } = candidatesIn(header, options);
    return text.length > 0 && label.length > 0;
  };
}

/** Which columns hold text and label. Throws an EdgelabelError when the header does not say so. */
function columnsOf(header: readonly string[], source: string, options: ColumnOptions): { text: number; label: number } {
  return { text: columnIn(header, source, "text", options), label: columnIn(header, source, "label", options) };
}

/** Without a header, a line is a label, a tab and a text, which may hold more tabs. */
function tsvReader(source: string, options: DatasetOptions, defects: Defects, keep: Keep): FormatReader {
  let header: string[] | null | undefined;
  let columns = { text: 1, label: 0 };
  let lines = 0;
  let isQuoted = false;
  const widths = new Set<number>();
  const read = (line: string, number: number): string | undefined => {
    if (line.includes("\r")) return STRAY_RETURN;
    if (header === undefined) {
      header = tsvHeader(line, options);
      if (header) {
        columns = columnsOf(header, source, options);
        return undefined;
      }
    }
    let fields = line.split("\t");
    if (!header) {
      if (fields.length < 2) return "no tab between label and text";
      lines++;
      widths.add(fields.length);
    }
    const most = header?.length ?? 2;
    // The text of the last column may have tabs, which then separate nothing.
    if (columns.text === most - 1 && fields.length > most)
      fields = [...fields.slice(0, columns.text), fields.slice(columns.text).join("\t")];
    if (fields.length !== most) return `${fields.length} fields where the header has ${most}`;
    const label = fields[columns.label]!.trim();
    if (/^".*"$/.test(label))
      return `the label ${excerpt(label)} is in quotes; if the file has a header, read it with --format csv`;
    if (label.startsWith(LABEL_PREFIX))
      return `a fastText label, ${excerpt(label)}; read the file with --format fasttext`;
    keep(number, label, fields[columns.text]!);
    return undefined;
  };
  return (content, first, isLast) => {
    const quoted = first === 1 ? quotedRecord(content, isLast) : undefined;
    if (quoted !== undefined) {
      isQuoted = true;
      defects.add(
        quoted,
        "a quoted field with a tab or line break, as pandas writes it; give the file a header such as label<TAB>text if it has none, and read it with --format csv",
      );
    }
    if (isQuoted) return;
    readLines(content, first, read, defects);
    const [width] = widths;
    if (isLast && lines > 1 && widths.size === 1 && width! > 2)
      throw new EdgelabelError(
        `${source}: each line has ${width} columns; without a header only label<TAB>text is read; add a header that names them, such as ${["label", "text", "c", "d"].slice(0, width).join("<TAB>")}${width! > 4 ? "<TAB>…" : ""}`,
      );
  };
}

/** The column names if the first line has some for text and label, or one that is asked for; null if it is a label and a text. */
function tsvHeader(line: string, options: ColumnOptions): string[] | null {
  const fields = line.split("\t").map((field) => field.trim());
  const { text, label } = candidatesIn(fields, options);
  const isHeader =
    (text.length > 0 && label.length > 0) ||
    (options.textColumn !== undefined && text.length > 0) ||
    (options.labelColumn !== undefined && label.length > 0);
  return isHeader ? fields : null;
}

/** The line of the first quoted field with a tab or line break, if quoting splits the file, or its first block, into valid records; otherwise quotes are text. */
function quotedRecord(content: string, isLast: boolean): number | undefined {
  if (!/(?:^|\t)"/m.test(content)) return undefined;
  const reader = new CsvReader(content, "\t");
  let line: number | undefined;
  for (let record = reader.next(); record; record = reader.next()) {
    if (record.defect === UNCLOSED && !isLast) return line;
    if (record.defect !== undefined) return undefined;
    if (record.fields.some((field) => /[\t\n]/.test(field))) line ??= record.line;
  }
  return line;
}

function readFastTextLine(line: string, number: number, keep: Keep): string | undefined {
  if (line.includes("\r")) return STRAY_RETURN;
  const labels: string[] = [];
  let text = line;
  while (text.startsWith(LABEL_PREFIX)) {
    const end = text.search(/[ \t]/);
    if (end < 0) return "no text after the label";
    labels.push(text.slice(LABEL_PREFIX.length, end));
    text = text.slice(end + 1);
    if (text.trimStart().startsWith(LABEL_PREFIX)) text = text.trimStart();
  }
  const inside = text.split(/[ \t]+/).find((word) => word.startsWith(LABEL_PREFIX));
  if (inside !== undefined)
    return `a label behind words of the text, ${excerpt(inside)}; put all labels at the beginning`;
  keep(number, labels.length === 1 ? labels[0]! : labels, text, `does not begin with ${LABEL_PREFIX}`);
  return undefined;
}

interface JsonRecord {
  line: number;
  fields: Map<string, unknown> | string;
}

/** One object a line, or an array of objects. */
function jsonReader(source: string, options: DatasetOptions, defects: Defects, keep: Keep): FormatReader {
  const keys = new Set<string>();
  /** Objects that lack a key which no object before them has either. */
  const waiting: JsonRecord[] = [];
  let chosen: { text: string; label: string } | undefined;
  const recordsOf = (content: string, first: number): JsonRecord[] => {
    const records: JsonRecord[] = [];
    const add = (json: string, line: number): undefined => {
      const fields = fieldsOf(json);
      records.push({ line, fields });
      if (typeof fields !== "string") for (const key of fields.keys()) keys.add(key);
    };
    if (first === 1 && /^\s*\[/.test(content)) {
      for (const { line, json, defect } of elementsOf(content)) {
        if (defect === undefined) add(json, line);
        else records.push({ line, fields: defect });
      }
    } else {
      if (first === 1) requireLines(content, source);
      readLines(content, first, add, defects);
    }
    return records;
  };
  const keyOf = (kind: "text" | "label"): string => {
    const names = [...keys];
    const [index, second] = candidatesIn(names, options)[kind];
    const before = chosen?.[kind];
    const found = index === undefined ? (options[`${kind}Column`] ?? kind) : names[index]!;
    if (second !== undefined) throw ambiguous(source, kind, found, names[second]!);
    // Objects before have been read by another key.
    if (before !== undefined && before !== found && keys.has(before)) throw ambiguous(source, kind, before, found);
    return found;
  };
  return (content, first, isLast) => {
    const count = keys.size;
    const records = recordsOf(content, first);
    if (keys.has("annotations") && keys.has("data"))
      throw new EdgelabelError(`${source}: is Label Studio's JSON with all annotations; export it as JSON-MIN or CSV`);
    if (!chosen || keys.size > count) chosen = { text: keyOf("text"), label: keyOf("label") };
    const { text, label } = chosen;
    const isKnown = keys.has(text) && keys.has(label);
    for (const record of isLast ? [...waiting, ...records] : records) {
      const { line, fields } = record;
      if (!isLast && !isKnown && typeof fields !== "string" && waiting.length < MOST_WAITING) {
        waiting.push(record);
        continue;
      }
      const defect =
        typeof fields === "string"
          ? fields
          : readRecord(fields, text, label, keys, options, (...sample) => keep(line, ...sample));
      if (defect !== undefined) defects.add(line, defect);
    }
  };
}

/** What is in the object, or what is wrong with it. */
export function fieldsOf(json: string): Map<string, unknown> | string {
  let record: unknown;
  try {
    record = JSON.parse(json);
  } catch {
    return "not valid JSON";
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) return "not a JSON object";
  return new Map<string, unknown>(Object.entries(record));
}

/** Throws an EdgelabelError when the file is one JSON object over several lines. */
function requireLines(content: string, source: string): void {
  const first = /^\s*\{[^\n]*/.exec(content)?.[0] ?? "{}";
  const parsed = (json: string): unknown => {
    try {
      return JSON.parse(json);
    } catch {
      return undefined;
    }
  };
  if (parsed(first) !== undefined) return;
  const whole = parsed(content);
  if (whole !== undefined)
    throw new EdgelabelError(
      `${source}: is one JSON object, with ${listed(Object.keys(whole as object))}; give an array of objects, or one object a line`,
    );
}

/** Hands label and text to `keep`, or returns what is wrong with the object. `keys` are those of all objects. */
function readRecord(
  fields: ReadonlyMap<string, unknown>,
  textKey: string,
  labelKey: string,
  keys: ReadonlySet<string>,
  { skipEmpty }: DatasetOptions,
  keep: (label: string | readonly string[], text: string) => void,
): string | undefined {
  const missing = (key: string, option: string): string => {
    const others = fields.size > 0 ? `, only ${listed([...fields.keys()])}` : "";
    if (keys.has(key)) return `no ${excerpt(key)}${others}; --skip-empty leaves it out`;
    return `no ${excerpt(key)}${others}${fields.size > 0 ? `; choose one with ${option}` : ""}`;
  };
  const value = (key: string): unknown => {
    const found = fields.get(key);
    return found === null || (skipEmpty && found === undefined && keys.has(key)) ? "" : found;
  };
  const text = value(textKey);
  if (text === undefined) return missing(textKey, "--text-column");
  if (typeof text === "object" && text !== null && !Array.isArray(text))
    return `${excerpt(textKey)} is an object; pandas writes one text a line with to_json(orient="records", lines=True)`;
  if (typeof text !== "string") return `${excerpt(textKey)} is not a string`;
  const label = value(labelKey);
  if (label === undefined) return missing(labelKey, "--label-column");
  const found = labelIn(label);
  if (typeof found === "string" || Array.isArray(found)) {
    keep(typeof found === "string" ? found.trim() : found, text);
    return undefined;
  }
  return found.defect ?? `${excerpt(labelKey)} is not a string`;
}

/** The label, or the list of labels, which may be Label Studio's {"choices"}; or what is wrong with it. */
function labelIn(value: unknown): string | string[] | { defect?: string } {
  if (typeof value === "string") return value;
  // JSON.parse has rounded it, perhaps to what another label is rounded to.
  if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER)
    return { defect: "the label is too large a number to be read exactly; put quotes around it" };
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const list: unknown = typeof value === "object" && value !== null && "choices" in value ? value.choices : value;
  if (!Array.isArray(list) || !list.every((each) => typeof each === "string")) return {};
  return list;
}

/** The same for a cell, in which a list is JSON, as Label Studio writes it. */
function labelInCell(cell: string): string | string[] | { defect?: string } {
  const label = cell.trim();
  if (!/^(?:\[.*\]|\{.*\})$/s.test(label)) return label;
  try {
    const found = labelIn(JSON.parse(label));
    return typeof found === "string" || Array.isArray(found) || found.defect !== undefined ? found : label;
  } catch {
    return label;
  }
}

/** Columns are separated by commas or, if the header shows it, by semicolons or tabs. */
function csvReader(source: string, options: DatasetOptions, defects: Defects, keep: Keep): FormatReader {
  let separator: string | undefined;
  let delimiter: string | undefined;
  let header: string[] | undefined;
  let columns = { text: 0, label: 0 };
  /** The beginning of a record whose end is in the next block, and its line. */
  let rest: { content: string; line: number } | undefined;
  let isUnreadable = false;
  const take = ({ line, fields, defect }: CsvRecord): void => {
    if (!header) {
      if (defect !== undefined) {
        // Without a header nothing else can be said.
        isUnreadable = true;
        defects.add(line, defect);
        return;
      }
      header = fields;
      columns = columnsOf(header, source, options);
      return;
    }
    const label = labelInCell(fields[columns.label] ?? "");
    if (defect !== undefined) defects.add(line, defect);
    else if (fields.length !== header.length)
      defects.add(line, `${fields.length} fields where the header has ${header.length}`);
    else if (typeof label !== "string" && !Array.isArray(label)) defects.add(line, label.defect!);
    else keep(line, label, fields[columns.text]!);
  };
  return (block, first, isLast) => {
    const content = rest ? rest.content + block : block;
    const line = rest?.line ?? first;
    const start = startOf(line === 1 ? content : "");
    separator ??= start.delimiter;
    if (!header) delimiter = separator ?? delimiterOf(content, hasColumns(options)) ?? widestDelimiter(content);
    const reader = new CsvReader(content, delimiter, { position: start.position, line: line + start.line - 1 });
    rest = undefined;
    while (!isUnreadable) {
      const at = reader.at;
      const record = reader.next();
      if (!record) break;
      if (record.defect === UNCLOSED && !isLast && content.length - at.position <= MOST_RECORD) {
        rest = { content: content.slice(at.position), line: at.line };
        break;
      }
      take(record);
    }
    if (isLast && !header && !isUnreadable) throw new EdgelabelError(`${source}: holds no labelled texts`);
  };
}

// --- defects -------------------------------------------------------------------

/** Gathers what is wrong with a file, so that one run names more than one line. */
export class Defects {
  private readonly source: string;
  private readonly shown: string[] = [];
  private readonly remedies = new Set<string>();
  count = 0;

  constructor(source: string) {
    this.source = source;
  }

  /** `remedy` is said once, however many defects have it. */
  add(line: number, defect: string, remedy?: string): void {
    if (this.count++ < SHOWN_DEFECTS) this.shown.push(`line ${line}: ${defect}`);
    if (remedy !== undefined) this.remedies.add(remedy);
  }

  /** Throws an EdgelabelError with what was gathered, and with the remedies. */
  raise(): void {
    if (this.count === 0) return;
    for (const remedy of this.remedies) this.shown[this.shown.length - 1] += `; ${remedy}`;
    if (this.count === 1) throw new EdgelabelError(`${this.source}: ${this.shown[0]}`);
    const rest = this.count - this.shown.length;
    throw new EdgelabelError(
      [`${this.source}: ${this.count} malformed lines`, ...this.shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join(
        "\n  ",
      ),
    );
  }
}

/** `line` is the number of the first line. */
export function nameInvalidLines(bytes: Uint8Array, defects: Defects, line = 1): void {
  for (let start = 0; start < bytes.length; line++) {
    let end = bytes.indexOf(10, start);
    if (end < 0) end = bytes.length;
    if (decodeUtf8(bytes.subarray(start, end)) === undefined) defects.add(line, "not valid UTF-8", NOT_UTF8_ADVICE);
    start = end + 1;
  }
}
