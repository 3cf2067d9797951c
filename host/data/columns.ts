// Which columns of a table, or keys of JSON objects, hold text and label: those asked for, or
// else those named so, or else the only ones with another usual name. Letter case does not count.
import { excerpt, listed, EdgelabelError } from "../errors.ts";

export interface ColumnOptions {
  /** Column or JSON key of the text; default: "text", or else the only one with a usual name, such as "Message". */
  textColumn?: string | undefined;
  /** The same for the label: "label", or else one such as "Category". */
  labelColumn?: string | undefined;
}

const USUAL = {
  text: [
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
  ],
  label: ["labels", "class", "category", "intent", "target", "tag", "sentiment", "topic"],
};
type Kind = keyof typeof USUAL;

/** Places in `names` of what could hold the text or the label. */
export interface Candidates {
  text: number[];
  label: number[];
}

export function candidatesIn(names: readonly string[], { textColumn, labelColumn }: ColumnOptions): Candidates {
  const of = (kind: Kind, asked: string | undefined, other: string | undefined): number[] => {
    if (asked !== undefined) return named(names, asked);
    const own = named(names, kind);
    if (own.length > 0) return own;
    // What is asked for as the label is not the text.
    const taken = other === undefined ? [] : named(names, other);
    return places(names, (name) => USUAL[kind].includes(name.trim().toLowerCase())).filter((i) => !taken.includes(i));
  };
  return { text: of("text", textColumn, labelColumn), label: of("label", labelColumn, textColumn) };
}

/** Those of that name or, when there is none, of that name in other letter case. */
function named(names: readonly string[], name: string): number[] {
  const exact = places(names, (each) => each === name);
  return exact.length > 0 ? exact : places(names, (each) => each.trim().toLowerCase() === name.toLowerCase());
}

function places(names: readonly string[], matches: (name: string) => boolean): number[] {
  return names.flatMap((name, i) => (matches(name) ? [i] : []));
}

/** The column of that kind in a file's header. Throws an EdgelabelError when the header does not say so. */
export function columnIn(header: readonly string[], source: string, kind: Kind, options: ColumnOptions): number {
  const candidates = candidatesIn(header, options);
  const [index, second] = candidates[kind];
  const option = `--${kind}-column`;
  if (index === undefined) {
    const isHeader = candidates.text.length + candidates.label.length > 0;
    const remedy =
      header.length < 2
        ? "separate its columns with commas, semicolons or tabs, and choose one with"
        : isHeader
          ? "choose one with"
          : "give it a header if that is a text, or choose one with";
    throw new EdgelabelError(
      `${source}: its header has no column ${excerpt(options[`${kind}Column`] ?? kind)}, only ${listed(header)}; ${remedy} ${option}`,
    );
  }
  if (second === undefined) return index;
  const [name, other] = [header[index]!, header[second]!];
  if (name.trim().toLowerCase() === other.trim().toLowerCase())
    throw new EdgelabelError(`${source}: its header has two columns ${excerpt(name)}`);
  throw ambiguous(source, kind, name, other);
}

export function ambiguous(source: string, kind: Kind, name: string, other: string): EdgelabelError {
  return new EdgelabelError(
    `${source}: ${excerpt(name)} and ${excerpt(other)} could both be the ${kind}; choose one with --${kind}-column`,
  );
}
