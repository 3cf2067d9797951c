// Records of a file whose columns are separated by commas, semicolons or tabs, and whose fields
// may be in quotes.

export const STRAY_RETURN = "a carriage return (\\r) that ends no line";
/** Most characters of a record: an unclosed quote must not fill the memory. */
export const MOST_RECORD = 2 ** 24;
export const UNCLOSED = "a quoted field is never closed";
const DELIMITERS = [",", ";", "\t"] as const;
/** The first line by which files tell Excel how their columns are separated. */
const SEPARATOR_LINE = /^"?sep=([\t!#-/:-@[-`{-~])"?(?:\r?\n|$)/i;

export interface CsvStart {
  position: number;
  line: number;
  /** Undefined when the file does not say it. */
  delimiter?: string;
}

/** Where the header begins: behind the line for Excel, if there is one. */
export function startOf(content: string): CsvStart {
  const [line, delimiter] = SEPARATOR_LINE.exec(content) ?? [];
  return line === undefined ? { position: 0, line: 1 } : { position: line.length, line: 2, delimiter: delimiter! };
}

/** Whichever delimiter makes a header of which this holds. */
export function delimiterOf(content: string, isHeader: (fields: readonly string[]) => boolean): string | undefined {
  return DELIMITERS.find((each) => isHeader(new CsvReader(content, each).next()?.fields ?? []));
}

/** Whichever makes more than one column, to name these to the user. */
export function widestDelimiter(content: string): string | undefined {
  return delimiterOf(content, ({ length }) => length > 1);
}

export function isBlank(line: string): boolean {
  return /^ *$/.test(line);
}

export interface CsvRecord {
  line: number;
  fields: string[];
  /** All fields are in quotes. */
  isQuoted: boolean;
  defect?: string;
}

/** RFC 4180 with either line end: records one by one, blank lines left out. */
export class CsvReader {
  private position: number;
  private line: number;
  private readonly content: string;
  private readonly delimiter: string;
  private readonly run: RegExp;

  /** `from` is where the header begins; see startOf. */
  constructor(content: string, delimiter = ",", from: { position: number; line: number } = { position: 0, line: 1 }) {
    this.content = content;
    this.position = from.position;
    this.line = from.line;
    this.delimiter = delimiter;
    this.run = new RegExp(`[^\\u${delimiter.charCodeAt(0).toString(16).padStart(4, "0")}\n]*`, "y");
  }

  /** Where the next record, or a blank line before it, begins. */
  get at(): { position: number; line: number } {
    return { position: this.position, line: this.line };
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
    const record: CsvRecord = { line: this.line, fields: [], isQuoted: true };
    for (;;) {
      if (content[this.position] === '"') {
        const field = this.quoted();
        if (field === undefined) {
          this.position = content.length;
          return { ...record, defect: UNCLOSED };
        }
        record.fields.push(field);
      } else {
        const field = this.plain();
        record.isQuoted = false;
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
