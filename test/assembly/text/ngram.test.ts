// Hashed character n-grams against a twin over JavaScript strings: which runs, in which
// order, how many, and the frozen hash itself (published FNV-1a values).
import { describe, expect, test } from "vitest";
import { MAX_NGRAM, MAX_NGRAMS_PER_WORD } from "../../../assembly/abi.ts";
import { Seeded } from "../../support/models.ts";
import { loadWasm, put } from "../../support/wasm.ts";

const wasm = loadWasm("testing");
const rows = put(wasm, new Uint32Array(MAX_NGRAMS_PER_WORD + 4));
const wordAt = put(wasm, new Uint8Array(4096));
const encoder = new TextEncoder();

function fnv1a(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** All runs of "<word>", from each beginning, shortest first. */
function runs(word: string, least: number, most: number): string[] {
  const points = [...("<" + word + ">")];
  const all: string[] = [];
  for (let start = 0; start < points.length - 1; start++) {
    for (let length = least; length <= most && start + length <= points.length; length++) {
      const run = points.slice(start, start + length).join("");
      if (length > 1 || start > 0) all.push(run);
    }
  }
  return all.slice(0, MAX_NGRAMS_PER_WORD);
}

function engine(word: string | Uint8Array, least: number, most: number, buckets: number, firstRow: number): number[] {
  const bytes = typeof word === "string" ? encoder.encode(word) : word;
  new Uint8Array(wasm.memory.buffer, wordAt, bytes.length).set(bytes);
  new Uint32Array(wasm.memory.buffer, rows, MAX_NGRAMS_PER_WORD + 4).fill(0xdeadbeef);
  const count: number = wasm["ngramRows"](wordAt, bytes.length, least, most, buckets, firstRow, rows);
  const written = [...new Uint32Array(wasm.memory.buffer, rows, MAX_NGRAMS_PER_WORD + 4)];
  expect(written.slice(count).every((row) => row === 0xdeadbeef)).toBe(true);
  return written.slice(0, count);
}

const twin = (word: string, least: number, most: number, buckets: number, firstRow: number): number[] =>
  runs(word, least, most).map((run) => firstRow + (fnv1a(encoder.encode(run)) % buckets));

test("the twin's hash is FNV-1a", () => {
  // From the authors' test vectors.
  expect([fnv1a(encoder.encode("")), fnv1a(encoder.encode("a")), fnv1a(encoder.encode("foobar"))]).toEqual([
    0x811c9dc5, 0xe40c292c, 0xbf9cf968,
  ]);
});

test("an example, run by run", () => {
  expect(runs("hé", 2, 3)).toEqual(["<h", "<hé", "hé", "hé>", "é>"]);
  expect(engine("hé", 2, 3, 1 << 20, 7)).toEqual(
    ["<h", "<hé", "hé", "hé>", "é>"].map((run) => 7 + (fnv1a(encoder.encode(run)) % (1 << 20))),
  );
});

test("the rows of known words never change", () => {
  // In files that exist, buckets are trained for these rows.
  expect(engine("light", 3, 5, 4096, 100)).toEqual(
    ["<li", "<lig", "<ligh", "lig", "ligh", "light", "igh", "ight", "ight>", "ght", "ght>", "ht>"].map(
      (run) => 100 + (fnv1a(encoder.encode(run)) % 4096),
    ),
  );
});

describe.each([
  [1, 1],
  [1, 3],
  [2, 2],
  [3, 5],
  [3, 8],
  [8, 8],
] as const)("runs of %i ... %i", (least, most) => {
  test("words of every alphabet and length", () => {
    const random = new Seeded(least * 10 + most);
    const letters = ["a", "b", "z", "é", "ß", "中", "文", "\u{1f600}", "\u{10ffff}", "\u0301"];
    for (let i = 0; i < 500; i++) {
      const word = Array.from({ length: i < 12 ? i : random.below(40) }, () => random.pick(letters)).join("");
      const buckets = 1 + random.below(1 << 20);
      expect(engine(word, least, most, buckets, 3), word).toEqual(twin(word, least, most, buckets, 3));
    }
  });
});

test("at most MAX_NGRAMS_PER_WORD rows of a long word", () => {
  expect(engine("x".repeat(4000), 1, MAX_NGRAM, 10, 0).length).toBe(MAX_NGRAMS_PER_WORD);
});

test("one bucket takes all", () => {
  expect(new Set(engine("anything", 3, 5, 1, 42))).toEqual(new Set([42]));
});

test("a word shorter than the shortest run has none", () => {
  expect(engine("", 3, 5, 10, 0)).toEqual([]);
  expect(engine("a", 4, 5, 10, 0)).toEqual([]);
  expect(engine("a", 3, 5, 10, 0).length).toBe(1);
});

test("bytes that a cut left of a code point do not run past the word", () => {
  const cut = encoder.encode("a\u{1f600}").subarray(0, 3);
  expect(engine(cut, 1, 8, 100, 0).every((row) => row < 100)).toBe(true);
});

test("letter pairs continue the letter's hash", () => {
  const letter = (text: string): [number, number] => {
    const bytes = encoder.encode(text);
    return [put(wasm, bytes), bytes.length];
  };
  const before: number = wasm["letterHash"](...letter("请"));
  expect(before >>> 0).toBe(fnv1a(encoder.encode("请")));
  expect(wasm["letterPairRow"](before, ...letter("打"), 1000, 5)).toBe(5 + (fnv1a(encoder.encode("请打")) % 1000));
});
