// Stage 4 of an import: the text of Keras' Tokenizer.to_json() and of the label
// list in, tokenizer options, words in id order and class names out. Refuses ids
// that the model's embedding has no row for. And the way back, for an export.
import { labelDefect } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";

export interface KerasTokenizer {
  lower: boolean;
  charLevel: boolean;
  filters: string;
  split: string;
  /** The id of words outside the vocabulary; 0 = Keras drops them. */
  unknownId: number;
  /** The word with id i + 1 at index i; only words that Keras does not treat as unknown. */
  words: string[];
}

const SHOWN_WORDS = 5;

/** `rows` is the height of the model's embedding: ids above rows - 1 cannot occur. */
export function readTokenizerJson(text: string, source: string, rows: number): KerasTokenizer {
  const fail = (reason: string): never => {
    throw new EdgelabelError(`${source}: ${reason}`);
  };
  let root = parse(text, fail);
  // json.dump(tokenizer.to_json()) instead of write() makes it a string of JSON.
  if (typeof root === "string") root = parse(root, fail);
  const { class_name: className, config: content } = asRecord(root) ?? {};
  if (className !== "Tokenizer") fail('is not what Keras\' Tokenizer.to_json() writes (class_name is not "Tokenizer")');
  const config = asRecord(content) ?? fail("has no config");
  const filters = config["filters"] ?? "";
  const split = config["split"] ?? " ";
  const oovToken = config["oov_token"] ?? null;
  const limit = config["num_words"] ?? null;
  if (typeof filters !== "string") return fail("its filters are not a string");
  if (typeof split !== "string" || split === "") return fail("its split is not a string of one character or more");
  if (oovToken !== null && typeof oovToken !== "string") return fail("its oov_token is not a string");
  if (limit !== null && (!Number.isInteger(limit) || (limit as number) < 0))
    fail(`its num_words is ${JSON.stringify(limit)}, not a whole number`);
  for (const option of ["lower", "char_level"]) {
    if (typeof config[option] !== "boolean") fail(`its ${option} is neither true nor false`);
  }
  const words = wordsInOrder(config["word_index"], oovToken, fail);
  if (words.length === 0) fail("its word_index is empty; call fit_on_texts before to_json");
  const unknownId = oovToken === null ? 0 : words.indexOf(oovToken) + 1;
  if (oovToken !== null && unknownId === 0)
    fail(`its oov_token ${JSON.stringify(oovToken)} is not in word_index; call fit_on_texts before to_json`);
  words[0] ??= impossibleWord(config["char_level"] === true, oovToken!, split);
  // num_words = n keeps the ids below n; Keras reads 0 as no limit.
  const kept = limit === null || limit === 0 ? words : words.slice(0, Math.max(0, (limit as number) - 1));
  if (kept.length === 0) fail(`its num_words=${limit} keeps no word`);
  if (unknownId > kept.length) fail(`its oov_token has the id ${unknownId}, which num_words=${limit} leaves out`);
  if (kept.length >= rows) {
    const outside = kept.slice(rows - 1);
    const shown = outside
      .slice(0, SHOWN_WORDS)
      .map((word, i) => `${JSON.stringify(word)} (${rows + i})`)
      .join(", ");
    const more = outside.length > SHOWN_WORDS ? ", …" : "";
    fail(
      `${outside.length} words have ids that the embedding of ${rows} rows cannot look up: ${shown}${more}; ` +
        `the model belongs to another tokenizer, or needs num_words=${rows}`,
    );
  }
  return {
    lower: config["lower"] as boolean,
    charLevel: config["char_level"] as boolean,
    filters,
    split,
    unknownId,
    words: kept,
  };
}

/** What stands for an id without a word: a string that can never be a token. */
function impossibleWord(charLevel: boolean, oovToken: string, split: string): string {
  return charLevel ? `${oovToken}${oovToken}` : split;
}

/** What Keras' tokenizer_from_json() reads; it has no counts, with which no text is tokenized. */
export function writeTokenizerJson({ lower, charLevel, filters, split, unknownId, words }: KerasTokenizer): string {
  const oovToken = unknownId === 0 ? null : words[unknownId - 1]!;
  const entries = words.map((word, i): [string, number] => [word, i + 1]);
  if (oovToken !== null && words[0] === impossibleWord(charLevel, oovToken, split)) entries.shift();
  const config = {
    num_words: null,
    filters,
    lower,
    split,
    char_level: charLevel,
    oov_token: oovToken,
    document_count: 0,
    word_counts: "{}",
    word_docs: "{}",
    index_docs: "{}",
    // Not JSON.stringify, which puts words such as "7" before all others; Keras needs no order, but readers of the file do.
    index_word: `{${entries.map(([word, id]) => `"${id}": ${JSON.stringify(word)}`).join(", ")}}`,
    word_index: `{${entries.map(([word, id]) => `${JSON.stringify(word)}: ${id}`).join(", ")}}`,
  };
  return JSON.stringify({ class_name: "Tokenizer", config });
}

/** Names in class order; a single sigmoid output takes two. */
export function readLabels(text: string, source: string, outputs: number): string[] {
  const fail = (reason: string): never => {
    throw new EdgelabelError(`${source}: ${reason}`);
  };
  const list = parse(text, fail);
  if (!Array.isArray(list)) return fail('is not a JSON array of names, such as ["ham", "spam"]');
  const labels = list.map((label: unknown, i) => {
    if (typeof label !== "string") return fail(`its entry ${i + 1} is not a string`);
    const defect = labelDefect(label);
    if (defect !== undefined) fail(`its entry ${i + 1}: ${defect}`);
    return label;
  });
  const expected = outputs === 1 ? 2 : outputs;
  if (labels.length !== expected) {
    fail(
      `has ${labels.length} names where the model needs ${expected}${outputs === 1 ? " (of its one output: for a score near 0, then near 1)" : ""}`,
    );
  }
  const twice = labels.find((label, i) => labels.indexOf(label) !== i);
  if (twice !== undefined) fail(`names ${JSON.stringify(twice)} twice`);
  return labels;
}

/**
 * The words by id. When the training texts contained the oov_token itself, Keras gives it the id of its rank and leaves
 * id 1 without a word: then there is none at index 0.
 */
function wordsInOrder(stored: unknown, oovToken: string | null, fail: (reason: string) => never): string[] {
  const index = asRecord(typeof stored === "string" ? parse(stored, fail) : stored);
  if (!index) return fail("has no word_index");
  const entries = Object.entries(index);
  const hasHole = oovToken !== null && index[oovToken] !== undefined && !entries.some(([, id]) => id === 1);
  const most = entries.length + (hasHole ? 1 : 0);
  const words: string[] = new Array<string>(most);
  for (const [word, id] of entries) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 1 || id > most) {
      return fail(
        `its word_index gives ${JSON.stringify(word)} the id ${JSON.stringify(id)}; ids run from 1 to the number of words, or from 2 if the texts held the oov_token`,
      );
    }
    if (words[id - 1] !== undefined)
      return fail(
        `its word_index gives the id ${id} to both ${JSON.stringify(words[id - 1])} and ${JSON.stringify(word)}`,
      );
    words[id - 1] = word;
  }
  return words;
}

function parse(text: string, fail: (reason: string) => never): unknown {
  try {
    return JSON.parse(text.replace(/^\ufeff/, "")) as unknown;
  } catch (error) {
    return fail(`is not valid JSON (${(error as Error).message})`);
  }
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
