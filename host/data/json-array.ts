// The elements of a JSON array one by one with their lines, which JSON.parse would not tell.

const [QUOTE, BACKSLASH, COMMA, NEWLINE] = [0x22, 0x5c, 0x2c, 0x0a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

export interface Element {
  /** 1-based number of the line that the element starts on. */
  line: number;
  /** As it stands in the array; whether it is valid JSON shows when it is parsed. */
  json: string;
  /** What is wrong with the array here, where it ends. */
  defect?: string;
}

/** `content` is an array, perhaps behind white space. */
export function* elementsOf(content: string): Generator<Element> {
  let position = content.indexOf("[") + 1;
  let line = linesIn(content.slice(0, position)) + 1;
  let [start, startLine, depth] = [position, line, 0];
  let isFirst = true;
  const element = (): Element => {
    const raw = content.slice(start, position);
    const json = raw.trimStart();
    return { line: startLine + linesIn(raw.slice(0, raw.length - json.length)), json };
  };
  for (; position < content.length; position++) {
    const code = content.charCodeAt(position);
    if (code === NEWLINE) line++;
    else if (code === QUOTE) position = closingQuote(content, position);
    else if (code === OPEN_LIST || code === OPEN_OBJECT) depth++;
    else if (depth > 0 && (code === CLOSE_LIST || code === CLOSE_OBJECT)) depth--;
    else if (depth === 0 && code === COMMA) {
      yield element();
      [start, startLine] = [position + 1, line];
      isFirst = false;
    } else if (code === CLOSE_LIST) {
      if (!isFirst || content.slice(start, position).trim() !== "") yield element();
      const rest = content.slice(position + 1);
      if (rest.trim() !== "")
        yield { line: line + linesIn(/^\s*/.exec(rest)![0]), json: "", defect: "more behind the end of the array" };
      return;
    }
  }
  yield { line: startLine, json: "", defect: "the array is not closed" };
}

/** Where the string that the quote at `open` begins is closed; the end of the content when it is not. */
function closingQuote(content: string, open: number): number {
  for (let quote = content.indexOf('"', open + 1); quote >= 0; quote = content.indexOf('"', quote + 1)) {
    let escapes = 0;
    while (content.charCodeAt(quote - 1 - escapes) === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return quote;
  }
  return content.length;
}

function linesIn(text: string): number {
  return text.split("\n").length - 1;
}
