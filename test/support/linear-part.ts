// Plain twins of the linear part of trainTiny's models: the part read from a file, and its scores as FORMAT.md has them.
import * as abi from "../../assembly/abi.ts";
import { headerValue, partAt, read } from "./model-file.ts";

/** Labels of trainTiny's model, the only ones that these read. */
export const LABELS = ["light", "music", "weather"];
/** Its n-gram rows. */
const BUCKETS = 64;

export const tokensOf = (text: string): string[] =>
  text
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter(Boolean);

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193);
  return value >>> 0;
}

/** Numbers of the buckets of a word, by FORMAT.md, of n-grams of 3 to 5. */
export function bucketsOf(word: string, count: number): number[] {
  const marked = [...`<${word}>`];
  const found: number[] = [];
  for (let start = 0; start < marked.length; start++)
    for (let n = 3; n <= 5 && start + n <= marked.length; n++)
      found.push((hash(marked.slice(start, start + n).join("")) % BUCKETS) % count);
  return found.slice(0, abi.MAX_NGRAMS_PER_WORD);
}

export interface Part {
  words: Map<string, number>;
  buckets: number;
  strange: number;
  /** Of the network's logits. */
  share: number;
  pairs: Map<string, number>;
  squares: number[];
  rows: number[][];
  bias: number[];
}

const f32 = Math.fround;
const padded = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** The linear part of a file. */
export function readPart(file: Uint8Array): Part {
  const { offset } = partAt(file, "linear");
  const labels = headerValue(file, "labelCount");
  const wordCount = headerValue(file, "wordCount");
  const buckets = read(file, offset, "u32");
  const pairCount = read(file, offset + 4, "u32");
  const count = wordCount + buckets + pairCount;
  const offsets = partAt(file, "wordOffsets").offset;
  const strings = partAt(file, "words").offset;
  const words = new Map(
    Array.from({ length: wordCount }, (_, i) => [
      Buffer.from(
        file.subarray(strings + read(file, offsets + 4 * i, "u32"), strings + read(file, offsets + 4 * i + 4, "u32")),
      ).toString(),
      i + 1,
    ]),
  );
  let at = offset + 32;
  const pairs = new Map(
    Array.from({ length: pairCount }, (_, i) => [
      `${read(file, at + 8 * i, "u32")} ${read(file, at + 8 * i + 4, "u32")}`,
      wordCount + buckets + i,
    ]),
  );
  at += padded(8 * pairCount);
  const squares = Array.from({ length: count }, (_, r) => read(file, at + 4 * r, "f32"));
  at += padded(4 * count);
  let rows: number[][];
  if (headerValue(file, "form") === abi.FORM_F32) {
    rows = squares.map((_, r) => LABELS.map((_, k) => read(file, at + 4 * (labels * r + k), "f32")));
    at += padded(4 * labels * count);
  } else {
    const bytes = Math.ceil(labels / 2);
    const scales = at + padded(bytes * count);
    rows = squares.map((_, r) =>
      LABELS.map((_, k) => {
        const half = (file[at + bytes * r + (k >> 1)]! >> (4 * (k & 1))) & 15;
        return f32(read(file, scales + 4 * r, "f32") * (half > 7 ? half - 16 : half));
      }),
    );
    at = scales + padded(4 * count);
  }
  const bias = LABELS.map((_, k) => read(file, at + 4 * k, "f32"));
  return {
    words,
    buckets,
    strange: read(file, offset + 8, "f32"),
    share: read(file, offset + 12, "f32"),
    pairs,
    squares,
    rows,
    bias,
  };
}

/** Scores as FORMAT.md says, in f32. */
export function linearScores({ words, buckets, strange, pairs, squares, rows, bias }: Part, text: string): number[] {
  const sum = LABELS.map(() => 0);
  let square = 0;
  const add = (row: number): void => {
    square = f32(square + squares[row]!);
    rows[row]!.forEach((value, k) => (sum[k] = f32(sum[k]! + value)));
  };
  tokensOf(text).forEach((token, t, tokens) => {
    const id = words.get(token);
    if (id !== undefined) add(id - 1);
    else {
      square = f32(square + strange);
      for (const bucket of bucketsOf(token, buckets)) add(words.size + bucket);
    }
    if (t === 0) return;
    const pair = pairs.get(`${words.get(tokens[t - 1]!)} ${id}`);
    if (pair === undefined) square = f32(square + strange);
    else add(pair);
  });
  const share = square > 0 ? f32(1 / f32(Math.sqrt(square))) : 0;
  return sum.map((value, k) => f32(f32(value * share) + bias[k]!));
}
