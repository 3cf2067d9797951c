// Labelled texts: bytes of TSV, CSV, JSONL or fastText in, an array of {label, text,
// line} out. Anything it would have to guess is refused, with file and line number: invalid
// UTF-8, a missing or doubled label, an empty text, broken quoting, columns without names. The
// texts themselves are not changed.
import { MAX_LABEL_BYTES, TEXT_CAPACITY } from "../../assembly/abi.ts";
import { excerpt, listed, EdgelabelError } from "../errors.ts";
import { byteLength, decodeUtf8, requireText } from "../text.ts";

export interface Sample {
  label: string;
  text: string;
  /** 1-based number of the line that the record starts on. */
  line: number;
}

export const FORMATS = ["tsv", "csv", "jsonl", "fasttext"] as const;
type Format = (typeof FORMATS)[number];

export interface DatasetOptions {
  format?: Format | undefined;
  textColumn?: string | undefined;
  labelColumn?: string | undefined;
}

const SUFFIXES = new Map<string, Format>([
  ["tsv", "tsv"],
  ["csv", "csv"],
  ["jsonl", "jsonl"],
  ["ndjson", "jsonl"],
  ["ft", "fasttext"],
  ["fasttext", "fasttext"],
]);
const LABEL_PREFIX = "__label__";
export const OLD_MAC =
  "uses \\r as line ends, as old Mac programs do; save it with \\n, or convert it with tr '\\r' '\\n'";
/** With a larger share of NUL bytes in its beginning, a file is not text. */
const MOST_NULS = 0.1;
const BEGINNING_BYTES = 4096;
const DELIMITERS = [",", ";", "\t"] as const;
/** The first line of a TSV is a header if it has a name of each kind. */
const TEXT_NAMES = [
  "text",
  "sentence",
  "message",
  "utterance",
  "content",
  "body",
  "comment",
  "review",
  "tweet",
  "query",
  "question",
  "title",
  "document",
  "description",
];
const LABEL_NAMES = ["label", "labels", "class", "category", "intent", "target", "tag", "sentiment", "topic"];
const SHOWN_DEFECTS = 5;
// V8 cannot hold a longer string.
export const MOST = { bytes: 0x1fffffe8, otherwise: "larger than 512 MB; split it into several files" };
const STRAY_RETURN = "a carriage return (\\r) that ends no line";
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

export function parseDataset(bytes: Uint8Array, source: string, options: DatasetOptions = {}): Sample[] {
  const defects = new Defects(source);
  if (bytes.length > MOST.bytes) throw new EdgelabelError(`${source}: ${MOST.otherwise}`);
  requireText(bytes, source);
  const beginning = bytes.subarray(0, BEGINNING_BYTES);
  if (beginning.filter((byte) => byte === 0).length > MOST_NULS * beginning.length)
    throw new EdgelabelError(`${source}: is full of NUL bytes, as UTF-16 and binary files are; save it as UTF-8 text`);
  const content = decodeUtf8(bytes);
  if (content === undefined) {
    nameInvalidLines(bytes, defects);
    return defects.raise(
      'if it is Windows-1252, as Excel\'s plain CSV is, save it as "CSV UTF-8" or convert it with iconv -f WINDOWS-1252 -t UTF-8',
    ) as never;
  }
  if (!content.includes("\n") && content.trimEnd().includes("\r")) throw new EdgelabelError(`${source}: ${OLD_MAC}`);
  const format = options.format ?? formatByName(source) ?? formatByContent(content, source, options);
  const samples: Sample[] = [];
  const keep = (line: number, label: string, text: string): void => {
    const defect = sampleDefect(label, text);
    if (defect !== undefined) defects.add(line, defect);
    else samples.push({ label, text, line });
  };
  if (format === "csv") readCsv(content, source, options, defects, keep);
  else if (format === "tsv") readTsv(content, source, options, defects, keep);
  else if (format === "fasttext") readLines(content, readFastTextLine, defects, keep);
  else readJsonl(content, source, options, defects, keep);
  defects.raise();
  if (samples.length === 0) throw new EdgelabelError(`${source}: holds no labelled texts`);
  return samples;
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
  for (const sample of samples) labels.add(sample.label);
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

function textDefect(text: string): string | undefined {
  if (text.trim() === "") return "the text is empty";
  if (LONE_SURROGATE.test(text)) return "the text contains half a surrogate pair";
  if (text.length > TEXT_CAPACITY / 3 && byteLength(text) > TEXT_CAPACITY) {
    return `the text is longer than ${TEXT_CAPACITY} bytes`;
  }
  return undefined;
}

// --- formats -----------------------------------------------------------------

type Keep = (line: number, label: string, text: string) => void;
/** Hands label and text to `keep`, or returns what is wrong with the line. */
type LineReader = (line: string, number: number, keep: Keep) => string | undefined;

function formatByName(source: string): Format | undefined {
  const name = source.toLowerCase();
  return SUFFIXES.get(name.slice(name.lastIndexOf(".") + 1));
}

function formatByContent(content: string, source: string, options: DatasetOptions): Format {
  const first = content.split(/\r?\n/, 1000).find((line) => line.trim() !== "") ?? "";
  if (first === "") throw new EdgelabelError(`${source}: holds no labelled texts`);
  if (first.startsWith(LABEL_PREFIX)) return "fasttext";
  if (/^\s*[{[]/.test(first)) return "jsonl";
  if (first.includes("\t")) return "tsv";
  if (delimiterOf(first, options) !== undefined) return "csv";
  throw new EdgelabelError(`${source}: cannot tell its format from the first line; use --format ${FORMATS.join("|")}`);
}

function readLines(content: string, read: LineReader, defects: Defects, keep: Keep): void {
  let number = 0;
  for (let start = 0; start < content.length;) {
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

/** Whichever of the delimiters makes columns with both names of a file's first line. */
function delimiterOf(
  content: string,
  { textColumn = "text", labelColumn = "label" }: DatasetOptions,
): string | undefined {
  return DELIMITERS.find((delimiter) => {
    const header = new CsvReader(content, delimiter).next()?.fields ?? [];
    return [textColumn, labelColumn].every((name) => columnsNamed(header, name).length > 0);
  });
}

/** The columns of that name or, when there is none, of that name in other letter case. */
function columnsNamed(header: readonly string[], name: string): number[] {
  const matching = (matches: (field: string) => boolean): number[] =>
    header.flatMap((field, i) => (matches(field) ? [i] : []));
  const exact = matching((field) => field === name);
  return exact.length > 0 ? exact : matching((field) => field.toLowerCase() === name.toLowerCase());
}

/** Which columns hold text and label. Throws an EdgelabelError when the header does not say so. */
function columnsOf(
  header: readonly string[],
  source: string,
  { textColumn = "text", labelColumn = "label" }: DatasetOptions,
): { text: number; label: number } {
  const isNamed = [textColumn, labelColumn].some((name) => columnsNamed(header, name).length > 0);
  const remedy =
    header.length < 2
      ? "separate its columns with commas, semicolons or tabs, and choose one with"
      : isNamed
        ? "choose one with"
        : "give it a header if that is a text, or choose one with";
  const column = (name: string, option: string): number => {
    const [index, second] = columnsNamed(header, name);
    if (index === undefined)
      throw new EdgelabelError(
        `${source}: its header has no column ${excerpt(name)}, only ${listed(header)}; ${remedy} ${option}`,
      );
    if (second !== undefined) throw new EdgelabelError(`${source}: its header has two columns ${excerpt(name)}`);
    return index;
  };
  return { text: column(textColumn, "--text-column"), label: column(labelColumn, "--label-column") };
}

/** Without a header, a line is a label, a tab and a text, which may hold more tabs. */
function readTsv(content: string, source: string, options: DatasetOptions, defects: Defects, keep: Keep): void {
  const quoted = quotedRecord(content);
  if (quoted !== undefined) {
    defects.add(
      quoted,
      "a quoted field with a tab or line break, as pandas writes it; give the file a header such as label<TAB>text if it has none, and read it with --format csv",
    );
    return;
  }
  let header: string[] | null | undefined;
  let columns = { text: 1, label: 0 };
  let lines = 0;
  const widths = new Set<number>();
  readLines(
    content,
    (line, number) => {
      if (line.includes("\r")) return STRAY_RETURN;
      if (header === undefined) {
        header = tsvHeader(line, source, options);
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
    },
    defects,
    keep,
  );
  const [width] = widths;
  if (lines > 1 && widths.size === 1 && width! > 2)
    throw new EdgelabelError(
      `${source}: each line has ${width} columns; without a header only label<TAB>text is read; add a header that names them, such as ${["label", "text", "c", "d"].slice(0, width).join("<TAB>")}${width! > 4 ? "<TAB>…" : ""}`,
    );
}

/** The column names if the first line has those asked for, null if it is a label and a text. Throws an EdgelabelError if it seems to have other names. */
function tsvHeader(line: string, source: string, options: DatasetOptions): string[] | null {
  const fields = line.split("\t").map((field) => field.trim());
  const { textColumn = "text", labelColumn = "label" } = options;
  const found = [textColumn, labelColumn].filter((name) => columnsNamed(fields, name).length > 0);
  if (found.length === 2 || (found.length === 1 && !["text", "label"].includes(found[0]!))) return fields;
  const named = (names: readonly string[]): string | undefined =>
    fields.find((field) => names.includes(field.toLowerCase()));
  const [text, label] = [named(TEXT_NAMES), named(LABEL_NAMES)];
  if (text === undefined || label === undefined) return null;
  throw new EdgelabelError(
    `${source}: line 1: looks like a header; name its columns with --text-column ${text} --label-column ${label}, or remove it`,
  );
}

/** The line of the first quoted field with a tab or line break, if quoting splits the whole file into valid records; otherwise quotes are text. */
function quotedRecord(content: string): number | undefined {
  if (!/(?:^|\t)"/m.test(content)) return undefined;
  const reader = new CsvReader(content, "\t");
  let line: number | undefined;
  for (let record = reader.next(); record; record = reader.next()) {
    if (record.defect !== undefined) return undefined;
    if (record.fields.some((field) => /[\t\n]/.test(field))) line ??= record.line;
  }
  return line;
}

function readFastTextLine(line: string, number: number, keep: Keep): string | undefined {
  if (line.includes("\r")) return STRAY_RETURN;
  if (!line.startsWith(LABEL_PREFIX)) return `does not begin with ${LABEL_PREFIX}`;
  const labels = line.split(/[ \t]+/).filter((word) => word.startsWith(LABEL_PREFIX));
  if (labels.length > 1) return carries(labels.map((label) => label.slice(LABEL_PREFIX.length)));
  const end = line.search(/[ \t]/);
  if (end < 0) return "no text after the label";
  keep(number, line.slice(LABEL_PREFIX.length, end), line.slice(end + 1));
  return undefined;
}

function carries(labels: readonly string[]): string {
  return labels.length === 0
    ? "has no label"
    : `has ${labels.length} labels (${listed(labels)}); a text has exactly one`;
}

function readJsonl(
  content: string,
  source: string,
  { textColumn = "text", labelColumn = "label" }: DatasetOptions,
  defects: Defects,
  keep: Keep,
): void {
  if (/^\s*\[\s*(?:\{|$)/.test(content.slice(0, BEGINNING_BYTES)))
    throw new EdgelabelError(`${source}: is a JSON array; give one object per line instead, as jq -c '.[]' writes it`);
  readLines(content, (line, number) => readJsonLine(line, number, keep, textColumn, labelColumn), defects, keep);
}

function readJsonLine(line: string, number: number, keep: Keep, textKey: string, labelKey: string): string | undefined {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch {
    return "not valid JSON";
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) return "not a JSON object";
  const fields = new Map<string, unknown>(Object.entries(record));
  const text = fields.get(textKey);
  let label = fields.get(labelKey);
  const missing = (key: string, option: string): string =>
    `no ${excerpt(key)}${fields.size > 0 ? `, only ${listed([...fields.keys()])}; choose one with ${option}` : ""}`;
  if (typeof text !== "string")
    return text === undefined ? missing(textKey, "--text-column") : `${excerpt(textKey)} is not a string`;
  if (label === undefined) return missing(labelKey, "--label-column");
  if (Array.isArray(label) && label.every((each) => typeof each === "string")) {
    if (label.length !== 1) return carries(label);
    label = label[0];
  }
  // JSON.parse has rounded it, perhaps to what another label is rounded to.
  if (typeof label === "number" && Math.abs(label) > Number.MAX_SAFE_INTEGER)
    return `${excerpt(labelKey)} is too large a number to be read exactly; put quotes around it`;
  if (typeof label !== "number" && typeof label !== "boolean" && typeof label !== "string")
    return `${excerpt(labelKey)} is not a string`;
  keep(number, String(label).trim(), text);
  return undefined;
}

/** Columns are separated by commas or, if the header shows it, by semicolons or tabs. */
function readCsv(content: string, source: string, options: DatasetOptions, defects: Defects, keep: Keep): void {
  const delimiter =
    delimiterOf(content, options) ??
    DELIMITERS.find((each) => (new CsvReader(content, each).next()?.fields.length ?? 0) > 1);
  const reader = new CsvReader(content, delimiter);
  const header = reader.next();
  if (!header) throw new EdgelabelError(`${source}: holds no labelled texts`);
  if (header.defect !== undefined) {
    defects.add(header.line, header.defect);
    return;
  }
  if (header.fields[0]!.startsWith("sep="))
    throw new EdgelabelError(
      `${source}: begins with a line for Excel, sep=; remove it, so that the header comes first`,
    );
  const { text, label } = columnsOf(header.fields, source, options);
  for (let record = reader.next(); record; record = reader.next()) {
    if (record.defect !== undefined) defects.add(record.line, record.defect);
    else if (record.fields.length !== header.fields.length) {
      defects.add(record.line, `${record.fields.length} fields where the header has ${header.fields.length}`);
    } else keep(record.line, record.fields[label]!.trim(), record.fields[text]!);
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
  private readonly delimiter: string;
  private readonly run: RegExp;

  constructor(content: string, delimiter = ",") {
    this.content = content;
    this.delimiter = delimiter;
    this.run = new RegExp(`[^${delimiter}\n]*`, "y");
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
        if (field.includes("\r")) record.defect ??= STRAY_RETURN;
        record.fields.push(field);
      }
      if (this.atLineEnd()) break;
      if (content[this.position] !== this.delimiter) {
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
    const { content, run } = this;
    run.lastIndex = this.position;
    let field = run.exec(content)![0];
    if (field.endsWith("\r") && content[run.lastIndex] !== this.delimiter) field = field.slice(0, -1);
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

  /** Throws an EdgelabelError with what was gathered, and with a remedy for all of it. */
  raise(remedy?: string): void {
    if (this.count === 0) return;
    if (remedy !== undefined) this.shown[this.shown.length - 1] += `; ${remedy}`;
    if (this.count === 1) throw new EdgelabelError(`${this.source}: ${this.shown[0]}`);
    const rest = this.count - this.shown.length;
    throw new EdgelabelError(
      [`${this.source}: ${this.count} malformed lines`, ...this.shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join(
        "\n  ",
      ),
    );
  }
}

function nameInvalidLines(bytes: Uint8Array, defects: Defects): void {
  let number = 0;
  for (let start = 0; start < bytes.length;) {
    let end = bytes.indexOf(10, start);
    if (end < 0) end = bytes.length;
    number++;
    if (decodeUtf8(bytes.subarray(start, end)) === undefined) defects.add(number, "not valid UTF-8");
    start = end + 1;
  }
}
