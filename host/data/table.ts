// A file with a text in each record -> the same file with a label and a score in each: all that
// was there stays as it was written, byte by byte. Records are taken one after the other, so that
// a file of any size fits in memory.
import { excerpt, listed, EdgelabelError } from "../errors.ts";
import { type Block, blocksOf } from "./blocks.ts";
import { ambiguous, candidatesIn, columnIn, type ColumnOptions } from "./columns.ts";
import {
  CsvReader,
  delimiterOf,
  isBlank,
  MOST_RECORD,
  startOf,
  STRAY_RETURN,
  UNCLOSED,
  widestDelimiter,
} from "./csv.ts";
import { type DatasetOptions, Defects, fieldsOf, formatByName, textDefect } from "./dataset.ts";

/** Files of these formats have names for what is in a record. */
export const TABLES = ["csv", "tsv", "jsonl"] as const;
type Table = (typeof TABLES)[number];

export type TableOptions = Pick<ColumnOptions, "textColumn"> & Pick<DatasetOptions, "format">;

/** Label, or list of labels, and score of a text; the label is null when it is unknown. */
interface TableAnswer {
  label: string | readonly string[] | null;
  score: number;
}

/** Whole records of a table. */
export interface TablePart {
  /** Those that need an answer. */
  texts: readonly string[];
  /** The records with the answers, one for each of the texts. */
  write(answers: readonly TableAnswer[]): string;
}

const MARK = "\ufeff";
const UNKNOWN = "?";

/** What becomes of some records: as they are, or with the answer to the text of this number, if they have a text. */
type Piece = string | { text: number | undefined; write: (answer: TableAnswer | undefined) => string };

/** An answer as it stands in a table: a list of labels as data is read that has several. */
function cellsOf(answer: TableAnswer | undefined): [label: string, score: string] {
  if (answer === undefined) return ["", ""];
  const { label, score } = answer;
  return [typeof label === "object" && label ? JSON.stringify(label) : (label ?? UNKNOWN), score.toFixed(6)];
}

/** Yields the new file part by part. Throws an EdgelabelError that names the lines, after all of them have been read. */
export async function* tableParts(
  input: AsyncIterable<Uint8Array>,
  source: string,
  options: TableOptions,
): AsyncGenerator<TablePart> {
  const format = options.format ?? formatByName(source);
  if (!TABLES.some((table) => table === format))
    throw new EdgelabelError(
      format === undefined
        ? `${source}: its name does not tell its format; use --format ${TABLES.join("|")}`
        : `${source}: ${format} has no columns; use one of ${TABLES.join(", ")}`,
    );
  const defects = new Defects(source);
  let texts: string[] = [];
  const ask = (line: number, text: string): number | undefined => {
    if (text.trim() === "") return undefined;
    const defect = textDefect(text);
    if (defect !== undefined) defects.add(line, defect);
    return texts.push(text) - 1;
  };
  const writer = { csv: csvWriter, tsv: tsvWriter, jsonl: jsonWriter }[format as Table](source, options, defects, ask);
  for await (const { content, line } of blocksOf(input, source)) {
    const mark = line === 1 && content.startsWith(MARK) ? MARK : "";
    texts = [];
    const pieces = writer.write({ content: content.slice(mark.length), line });
    // Nothing is written once something is wrong.
    if (defects.count > 0) continue;
    yield {
      texts,
      write: (answers) =>
        mark +
        pieces
          .map((piece) =>
            typeof piece === "string" ? piece : piece.write(piece.text === undefined ? undefined : answers[piece.text]),
          )
          .join(""),
    };
  }
  writer.close();
  defects.raise();
}

interface Writer {
  write(block: Block): Piece[];
  /** After the last lines. */
  close(): void;
}
type StartWriter = (
  source: string,
  options: TableOptions,
  defects: Defects,
  /** The number of a text that needs an answer; undefined if it is empty. */
  ask: (line: number, text: string) => number | undefined,
) => Writer;

/** Names of the new columns that the file does not have yet. */
function newNames(names: readonly string[], source: string): [label: string, score: string] {
  const taken = new Set(names.map((name) => name.trim().toLowerCase()));
  for (const pair of [
    ["label", "score"],
    ["predicted_label", "predicted_score"],
  ] as const)
    if (!pair.some((name) => taken.has(name))) return [...pair];
  throw new EdgelabelError(
    `${source}: has the columns "label" or "score" and "predicted_label" or "predicted_score" already; rename or remove one pair`,
  );
}

const csvWriter: StartWriter = (source, options, defects, ask) => {
  let delimiter: string | undefined;
  let width = 0;
  let column = 0;
  let quotesAll = false;
  let rest: Block | undefined;
  const cell = (text: string): string =>
    quotesAll || /["\r\n]/.test(text) || text.includes(delimiter!) ? `"${text.replaceAll('"', '""')}"` : text;
  const extended = (raw: string, cells: readonly [string, string]): string => {
    const end = /\r?\n?$/.exec(raw)![0];
    return raw.slice(0, raw.length - end.length) + cells.map((each) => delimiter! + cell(each)).join("") + end;
  };
  return {
    write(block) {
      const content = (rest?.content ?? "") + block.content;
      const start = startOf(rest === undefined && block.line === 1 ? content : "");
      if (delimiter === undefined) {
        delimiter =
          start.delimiter ??
          delimiterOf(content, (header) => candidatesIn(header, options).text.length > 0) ??
          widestDelimiter(content);
      }
      const reader = new CsvReader(content, delimiter, {
        position: start.position,
        line: (rest ?? block).line + start.line - 1,
      });
      rest = undefined;
      const written: Piece[] = [content.slice(0, start.position)];
      for (;;) {
        const at = reader.at;
        const record = reader.next();
        const raw = content.slice(at.position, reader.at.position);
        if (record === undefined) {
          written.push(raw);
          return written;
        }
        if (record.defect === UNCLOSED) {
          rest = { content: raw, line: at.line };
          if (raw.length > MOST_RECORD) throw new EdgelabelError(`${source}: line ${record.line}: ${UNCLOSED}`);
          return written;
        }
        if (record.defect !== undefined) {
          defects.add(record.line, record.defect);
          // Without a header nothing else can be said.
          if (width === 0) defects.raise();
        } else if (width === 0) {
          column = columnIn(record.fields, source, "text", options);
          const names = newNames(record.fields, source);
          width = record.fields.length;
          quotesAll = record.isQuoted;
          delimiter ??= ",";
          written.push(extended(raw, names));
        } else if (record.fields.length !== width)
          defects.add(record.line, `${record.fields.length} fields where the header has ${width}`);
        else {
          const text = ask(record.line, record.fields[column]!);
          written.push({ text, write: (answer) => extended(raw, cellsOf(answer)) });
        }
      }
    },
    close() {
      if (rest) defects.add(rest.line, UNCLOSED);
      else if (width === 0) throw new EdgelabelError(`${source}: is empty`);
    },
  };
};

/** Writes line by line; `extend` gets and returns lines without their ends. */
function lineWriter(extend: (line: string, number: number) => Piece, close = (): void => {}): Writer {
  return {
    write({ content, line }) {
      const written: Piece[] = [];
      for (const part of content.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
        const text = part.replace(/\r?\n$/, "");
        written.push(isBlank(text) ? text : extend(text, line), part.slice(text.length));
        line++;
      }
      return written;
    },
    close,
  };
}

const tsvWriter: StartWriter = (source, options, defects, ask) => {
  let width = 0;
  let column = 0;
  const extend = (line: string, number: number): Piece => {
    const fields = line.split("\t");
    if (width === 0) {
      column = columnIn(fields, source, "text", options);
      width = fields.length;
      return [line, ...newNames(fields, source)].join("\t");
    }
    if (line.includes("\r")) defects.add(number, STRAY_RETURN);
    else if (fields.length !== width)
      defects.add(
        number,
        `${fields.length} fields where the header has ${width}; if fields are in quotes, use --format csv`,
      );
    else {
      return { text: ask(number, fields[column]!), write: (answer) => [line, ...cellsOf(answer)].join("\t") };
    }
    return line;
  };
  return lineWriter(extend, () => {
    if (width === 0) throw new EdgelabelError(`${source}: is empty`);
  });
};

const jsonWriter: StartWriter = (source, options, defects, ask) => {
  let key = "";
  let names: [string, string] | undefined;
  return lineWriter((line, number) => {
    if (names === undefined && /^\s*\[/.test(line))
      throw new EdgelabelError(`${source}: is a JSON array; give one object a line instead, as jq -c '.[]' writes it`);
    const fields = fieldsOf(line);
    if (typeof fields === "string") {
      defects.add(number, fields);
      return line;
    }
    const keys = [...fields.keys()];
    if (names === undefined) {
      const [first, second] = candidatesIn(keys, options).text;
      if (second !== undefined) throw ambiguous(source, "text", keys[first!]!, keys[second]!);
      key = first === undefined ? (options.textColumn ?? "text") : keys[first]!;
      names = newNames(keys, source);
    }
    const text = fields.get(key);
    const taken = names.find((name) => fields.has(name));
    if (taken !== undefined) defects.add(number, `has ${excerpt(taken)} already, which the first object has not`);
    else if (typeof text !== "string" && text !== null)
      defects.add(
        number,
        text === undefined
          ? `no ${excerpt(key)}, only ${listed(keys)}; choose one with --text-column`
          : `${excerpt(key)} is not a string`,
      );
    else {
      const [labelKey, scoreKey] = names.map((name) => JSON.stringify(name));
      const end = line.lastIndexOf("}");
      return {
        text: ask(number, text ?? ""),
        write: (answer) =>
          `${line.slice(0, end)},${labelKey}:${JSON.stringify(answer?.label ?? null)},${scoreKey}:${answer?.score ?? null}${line.slice(end)}`,
      };
    }
    return line;
  });
};
