// Labelled texts from files: bytes of TSV, CSV, JSONL or fastText in, an array of
// {label, text, line} out. Whatever it would have to guess at is refused with file and
// line number: invalid UTF-8, a missing or doubled label, an empty text, broken
// quoting. The texts themselves are not changed.
import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { MAX_LABEL_BYTES, TEXT_CAPACITY } from "../assembly/abi.ts";
import { UserError } from "./errors.ts";

export interface Sample {
  label: string;
  text: string;
  /** 1-based number of the line that the record starts on. */
  line: number;
}

export const FORMATS = ["tsv", "csv", "jsonl", "fasttext"] as const;
export type Format = (typeof FORMATS)[number];

export interface DatasetOptions {
  format?: Format | undefined;
  textColumn?: string | undefined;
  labelColumn?: string | undefined;
}

const SUFFIXES = new Map<string, Format>([
  ["tsv", "tsv"], ["csv", "csv"], ["jsonl", "jsonl"], ["ndjson", "jsonl"], ["ft", "fasttext"], ["fasttext", "fasttext"],
]);
const LABEL_PREFIX = "__label__";
// Neither begins a UTF-8 file.
const UTF16_MARKS = [Buffer.of(0xff, 0xfe), Buffer.of(0xfe, 0xff)];
const SHOWN_DEFECTS = 5;
// V8 cannot hold a longer string.
const MAX_FILE_BYTES = 0x1fffffe8;
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Reads the files in order, as one data set; "-" is standard input. */
export async function readDataset(paths: readonly string[], options: DatasetOptions = {}): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const path of paths) {
    const bytes = path === "-" ? await readStdin() : await readInput(path);
    for (const sample of parseDataset(bytes, path === "-" ? "standard input" : path, options)) samples.push(sample);
  }
  return samples;
}

export function parseDataset(bytes: Uint8Array, source: string, options: DatasetOptions = {}): Sample[] {
  const defects = new Defects(source);
  if (bytes.length > MAX_FILE_BYTES) throw new UserError(`${source}: larger than 512 MB; split it into several files`);
  if (UTF16_MARKS.some((mark) => mark.equals(bytes.subarray(0, 2)))) throw new UserError(`${source}: is UTF-16, as some Windows programs write it; save it as UTF-8`);
  if (!isUtf8(bytes)) {
    nameInvalidLines(bytes, defects);
    defects.raise();
  }
  const content = new TextDecoder().decode(bytes);
  const format = options.format ?? formatByName(source) ?? formatByContent(content, source, options);
  const samples: Sample[] = [];
  const keep = (line: number, label: string, text: string): void => {
    const defect = sampleDefect(label, text);
    if (defect !== undefined) defects.add(line, defect);
    else samples.push({ label, text, line });
  };
  if (format === "csv") readCsv(content, source, options, defects, keep);
  else readLines(content, lineReader(format, options), defects, keep);
  defects.raise();
  if (samples.length === 0) throw new UserError(`${source}: holds no labelled texts`);
  return samples;
}

/** At most `most` of the items, evenly spread, so that all parts of a sorted file are represented. */
export function thinned<T>(items: readonly T[], most: number): T[] {
  const step = Math.max(1, items.length / most);
  return Array.from({ length: Math.min(most, items.length) }, (_, i) => items[Math.floor(i * step)]!);
}

/** The samples whose text none of the others has. */
export function without(samples: readonly Sample[], others: readonly Sample[]): Sample[] {
  const texts = new Set(others.map(({ text }) => text));
  return samples.filter(({ text }) => !texts.has(text));
}

/** The distinct labels. They are sorted (by code unit), so that the order of the classes does not depend on that of the lines. */
export function labelsOf(samples: Iterable<Sample>): string[] {
  const labels = new Set<string>();
  for (const sample of samples) labels.add(sample.label);
  return [...labels].sort();
}

/** What makes `label` unfit to be a class name; undefined when nothing does. */
export function labelDefect(label: string): string | undefined {
  if (label.trim() === "") return "the label is empty";
  if (CONTROL_CHARACTER.test(label)) return `the label ${JSON.stringify(label)} contains a control character`;
  if (LONE_SURROGATE.test(label)) return `the label ${JSON.stringify(label)} contains half a surrogate pair`;
  if (Buffer.byteLength(label) > MAX_LABEL_BYTES) return `the label is longer than ${MAX_LABEL_BYTES} bytes`;
  return undefined;
}

/** What makes a labelled text unfit; undefined when nothing does. */
export function sampleDefect(label: string, text: string): string | undefined {
  return labelDefect(label) ?? textDefect(text);
}

function textDefect(text: string): string | undefined {
  if (text.trim() === "") return "the text is empty";
  if (LONE_SURROGATE.test(text)) return "the text contains half a surrogate pair";
  if (text.length > TEXT_CAPACITY / 3 && Buffer.byteLength(text) > TEXT_CAPACITY) {
    return `the text is longer than ${TEXT_CAPACITY} bytes`;
  }
  return undefined;
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** A file's bytes. Throws a UserError when it is missing or cannot be read. */
export async function readInput(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: "no such file", EISDIR: "is a directory, not a file", EACCES: "permission denied",
      ERR_FS_FILE_TOO_LARGE: "larger than 2 GB",
    };
    throw new UserError(`${path}: ${reasons[code ?? ""] ?? message}`);
  }
}

// --- formats -----------------------------------------------------------------

type Keep = (line: number, label: string, text: string) => void;
/** Hands label and text to `keep`, or returns what is wrong with the line. */
type LineReader = (line: string, number: number, keep: Keep) => string | undefined;

function formatByName(source: string): Format | undefined {
  const name = basename(source).toLowerCase();
  return SUFFIXES.get(name.slice(name.lastIndexOf(".") + 1));
}

function formatByContent(content: string, source: string, options: DatasetOptions): Format {
  const first = content.split(/\r?\n/, 1000).find((line) => line.trim() !== "") ?? "";
  if (first === "") throw new UserError(`${source}: holds no labelled texts`);
  if (first.startsWith(LABEL_PREFIX)) return "fasttext";
  if (first.startsWith("{")) return "jsonl";
  if (first.includes("\t")) return "tsv";
  const header = new CsvReader(first).next()?.fields ?? [];
  const { textColumn = "text", labelColumn = "label" } = options;
  if (header.includes(textColumn) && header.includes(labelColumn)) return "csv";
  throw new UserError(`${source}: cannot tell its format from the first line; use --format ${FORMATS.join("|")}`);
}

function readLines(content: string, read: LineReader, defects: Defects, keep: Keep): void {
  let number = 0;
  for (let start = 0; start < content.length; ) {
    let end = content.indexOf("\n", start);
    if (end < 0) end = content.length;
    const line = content.slice(start, content[end - 1] === "\r" && end > start ? end - 1 : end);
    number++;
    if (!isBlank(line)) {
      const defect = read(line, number, keep);
      if (defect !== undefined) defects.add(number, defect);
    }
    start = end + 1;
  }
}

function isBlank(line: string): boolean {
  return /^ *$/.test(line);
}

function lineReader(format: Exclude<Format, "csv">, options: DatasetOptions): LineReader {
  if (format === "fasttext") return readFastTextLine;
  const { textColumn = "text", labelColumn = "label" } = options;
  if (format === "tsv") return (line, number, keep) => readTsvLine(line, number, keep, [textColumn, labelColumn]);
  return (line, number, keep) => readJsonLine(line, number, keep, textColumn, labelColumn);
}

function readTsvLine(line: string, number: number, keep: Keep, columns: readonly string[]): string | undefined {
  const tab = line.indexOf("\t");
  if (tab < 0) return "no tab between label and text";
  // Names of columns would quietly become a label and a text.
  if (number === 1 && columns.every((name) => line.toLowerCase().split(/ *\t */).includes(name.toLowerCase()))) return "a header, which TSV files do not have here: each line is label<TAB>text; remove it";
  keep(number, line.slice(0, tab).trim(), line.slice(tab + 1));
  return undefined;
}

function readFastTextLine(line: string, number: number, keep: Keep): string | undefined {
  if (!line.startsWith(LABEL_PREFIX)) return `does not begin with ${LABEL_PREFIX}`;
  const labels = line.split(/[ \t]+/).filter((word) => word.startsWith(LABEL_PREFIX));
  if (labels.length > 1) return `carries ${labels.length} labels (${labels.join(", ")}); a text has exactly one`;
  const end = line.search(/[ \t]/);
  if (end < 0) return "no text after the label";
  keep(number, line.slice(LABEL_PREFIX.length, end), line.slice(end + 1));
  return undefined;
}

function readJsonLine(line: string, number: number, keep: Keep, textKey: string, labelKey: string): string | undefined {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    return `not valid JSON (${(error as Error).message})`;
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) return "not a JSON object";
  const fields = new Map(Object.entries(record));
  const text: unknown = fields.get(textKey);
  const label: unknown = fields.get(labelKey);
  if (typeof text !== "string") return text === undefined ? `no "${textKey}"` : `"${textKey}" is not a string`;
  // JSON.parse has rounded it, perhaps to what another label is rounded to.
  if (typeof label === "number" && Math.abs(label) > Number.MAX_SAFE_INTEGER) return `"${labelKey}" is too large a number to be read exactly; put quotes around it`;
  if (typeof label === "number" || typeof label === "boolean") keep(number, String(label), text);
  else if (typeof label === "string") keep(number, label.trim(), text);
  else return label === undefined ? `no "${labelKey}"` : `"${labelKey}" is not a string`;
  return undefined;
}

function readCsv(content: string, source: string, options: DatasetOptions, defects: Defects, keep: Keep): void {
  const { textColumn = "text", labelColumn = "label" } = options;
  const reader = new CsvReader(content);
  const header = reader.next();
  if (!header) throw new UserError(`${source}: holds no labelled texts`);
  if (header.defect !== undefined) {
    defects.add(header.line, header.defect);
    return;
  }
  const column = (name: string, option: string): number => {
    const index = header.fields.indexOf(name);
    if (index < 0) {
      const found = header.fields.map((field) => `"${field}"`).join(", ");
      throw new UserError(`${source}: its header has no column "${name}" but ${found}; choose one with ${option}`);
    }
    if (header.fields.includes(name, index + 1)) throw new UserError(`${source}: its header has two columns "${name}"`);
    return index;
  };
  const textIndex = column(textColumn, "--text-column");
  const labelIndex = column(labelColumn, "--label-column");
  for (let record = reader.next(); record; record = reader.next()) {
    if (record.defect !== undefined) defects.add(record.line, record.defect);
    else if (record.fields.length !== header.fields.length) {
      defects.add(record.line, `${record.fields.length} fields where the header has ${header.fields.length}`);
    } else keep(record.line, record.fields[labelIndex]!.trim(), record.fields[textIndex]!);
  }
}

interface CsvRecord {
  line: number;
  fields: string[];
  defect?: string;
}

/** RFC 4180 with either line end: records one by one, blank lines left out. */
class CsvReader {
  private position = 0;
  private line = 1;
  private readonly content: string;

  constructor(content: string) {
    this.content = content;
  }

  next(): CsvRecord | undefined {
    const { content } = this;
    while (this.position < content.length) {
      const end = this.lineEnd(this.position);
      if (!isBlank(content.slice(this.position, end).replace(/\r$/, ""))) return this.record();
      this.position = end + 1;
      this.line++;
    }
    return undefined;
  }

  private record(): CsvRecord {
    const { content } = this;
    const record: CsvRecord = { line: this.line, fields: [] };
    for (;;) {
      if (content[this.position] === '"') {
        const field = this.quoted();
        if (field === undefined) {
          this.position = content.length;
          return { ...record, defect: "a quoted field is never closed" };
        }
        record.fields.push(field);
      } else {
        const field = this.plain();
        if (field.includes('"')) record.defect ??= "a quote inside a field that does not begin with one";
        record.fields.push(field);
      }
      if (this.atLineEnd()) break;
      if (content[this.position] !== ",") {
        record.defect ??= "characters after the closing quote of a field";
        this.position = this.lineEnd(this.position);
        break;
      }
      this.position++;
    }
    this.position = this.lineEnd(this.position) + 1;
    this.line++;
    return record;
  }

  /** The field that the quote at the position opens; undefined when nothing closes it. */
  private quoted(): string | undefined {
    const { content } = this;
    let start = this.position + 1;
    let field = "";
    for (;;) {
      const quote = content.indexOf('"', start);
      if (quote < 0) return undefined;
      field += content.slice(start, quote);
      if (content[quote + 1] !== '"') {
        this.line += content.slice(this.position, quote).split("\n").length - 1;
        this.position = quote + 1;
        return field;
      }
      field += '"';
      start = quote + 2;
    }
  }

  private plain(): string {
    const run = /[^,\n]*/y;
    run.lastIndex = this.position;
    let field = run.exec(this.content)![0];
    if (field.endsWith("\r") && this.content[run.lastIndex] !== ",") field = field.slice(0, -1);
    this.position += field.length;
    return field;
  }

  private atLineEnd(): boolean {
    const { content, position } = this;
    const next = content[position] === "\r" ? position + 1 : position;
    return next >= content.length || content[next] === "\n";
  }

  private lineEnd(from: number): number {
    const end = this.content.indexOf("\n", from);
    return end < 0 ? this.content.length : end;
  }
}

// --- defects -------------------------------------------------------------------

/** Gathers what is wrong with a file, so that one run names more than one line. */
class Defects {
  private readonly source: string;
  private readonly shown: string[] = [];
  private count = 0;

  constructor(source: string) {
    this.source = source;
  }

  add(line: number, defect: string): void {
    if (this.count++ < SHOWN_DEFECTS) this.shown.push(`line ${line}: ${defect}`);
  }

  raise(): void {
    if (this.count === 0) return;
    if (this.count === 1) throw new UserError(`${this.source}: ${this.shown[0]}`);
    const rest = this.count - this.shown.length;
    throw new UserError([`${this.source}: ${this.count} malformed lines`, ...this.shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join("\n  "));
  }
}

function nameInvalidLines(bytes: Uint8Array, defects: Defects): void {
  let number = 0;
  for (let start = 0; start < bytes.length; ) {
    let end = bytes.indexOf(10, start);
    if (end < 0) end = bytes.length;
    number++;
    if (!isUtf8(bytes.subarray(start, end))) defects.add(number, "not valid UTF-8");
    start = end + 1;
  }
}
