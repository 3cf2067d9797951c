import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ERR_BAD_TOKENIZER,
  ERR_BAD_VOCABULARY,
  MAX_ROWS,
  MAX_WORD_BYTES,
  OK,
  TOKENIZER_CHAR_LEVEL,
  TOKENIZER_LOWER,
} from "../../../assembly/abi.ts";
import { describeShared, readSharedJson, readSharedJsonLines } from "../../support/shared.ts";
import { type Exports, loadWasm, put } from "../../support/wasm.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

interface Options {
  flags: number;
  filters: string;
  split: string;
  unknown: string;
  numWords: number;
  minCount: number;
  capacity: number;
}
interface Fitted {
  self: number;
  status: number;
  words: string[];
  counts: number[];
  unknownId: number;
  skipped: number;
  offsets: number;
  bytes: number;
}

const defaults: Options = {
  flags: TOKENIZER_LOWER,
  filters: "",
  split: " ",
  unknown: "",
  numWords: 0,
  minCount: 1,
  capacity: MAX_WORD_BYTES,
};

/** Fields of the engine's struct Fit, all u32, in order. */
const FIT_FIELDS = [
  "tokenizer",
  "wordCount",
  "skippedCount",
  "wordCapacity",
  "words",
  "byteCapacity",
  "byteCount",
  "bytes",
  "slots",
  "slotMask",
  "vocabularySize",
  "unknownId",
  "vocabularyOffsets",
  "vocabularyBytes",
  "vocabularyCounts",
] as const;

function prepareTokenizer(wasm: Exports, { flags, filters, split, capacity }: Options): number {
  const self: number = wasm["allocate"](128);
  const filterBytes = encoder.encode(filters);
  const splitBytes = encoder.encode(split);
  expect(
    wasm["tokenizerPrepare"](
      self,
      flags,
      put(wasm, filterBytes),
      filterBytes.length,
      put(wasm, splitBytes),
      splitBytes.length,
      capacity,
    ),
  ).toBe(OK);
  return self;
}

function fit(wasm: Exports, texts: Iterable<string>, given: Partial<Options> = {}): Fitted {
  const options = { ...defaults, ...given };
  const self: number = wasm["allocate"](128);
  expect(wasm["fitBegin"](self, prepareTokenizer(wasm, options))).toBe(OK);
  for (const text of texts) {
    const bytes = encoder.encode(text);
    expect(wasm["fitText"](self, put(wasm, bytes), bytes.length)).toBe(OK);
  }
  const unknown = encoder.encode(options.unknown);
  const status: number = wasm["fitFinish"](
    self,
    options.minCount,
    options.numWords,
    put(wasm, unknown),
    unknown.length,
  );
  const raw = new Uint32Array(wasm.memory.buffer, self, FIT_FIELDS.length);
  const field = (name: (typeof FIT_FIELDS)[number]) => raw[FIT_FIELDS.indexOf(name)]!;
  const size = status === OK ? field("vocabularySize") : 0;
  const list = (address: number) => Array.from(new Uint32Array(wasm.memory.buffer, address, size));
  const offsets = Array.from(new Uint32Array(wasm.memory.buffer, field("vocabularyOffsets"), size + 1));
  const words = list(field("vocabularyCounts")).map((_, i) =>
    decoder.decode(
      new Uint8Array(wasm.memory.buffer, field("vocabularyBytes") + offsets[i]!, offsets[i + 1]! - offsets[i]!),
    ),
  );
  return {
    self,
    status,
    words,
    counts: list(field("vocabularyCounts")),
    unknownId: field("unknownId"),
    skipped: field("skippedCount"),
    offsets: field("vocabularyOffsets"),
    bytes: field("vocabularyBytes"),
  };
}

/** Keras' texts_to_sequences for one text, with the vocabulary that lies at offsets and bytes. */
function idsOf(wasm: Exports, tokenizer: number, vocabulary: number, unknownId: number, text: string): number[] {
  const base: number = wasm["arenaTop"]();
  const bytes = encoder.encode(text);
  wasm["tokenizerStart"](tokenizer, put(wasm, bytes), bytes.length);
  const ids: number[] = [];
  while (wasm["tokenizerNext"](tokenizer)) {
    const [address, length] = new Uint32Array(wasm.memory.buffer, tokenizer, 2) as unknown as [number, number];
    const id: number = wasm["vocabularyFind"](vocabulary, address, length) || unknownId;
    if (id !== 0) ids.push(id);
  }
  wasm["arenaRelease"](base);
  return ids;
}

interface KerasConfig {
  num_words: number | null;
  filters: string;
  lower: boolean;
  split: string;
  char_level: boolean;
  oov_token: string | null;
  word_index: string;
  word_counts: string;
}

describeShared("fit, Keras goldens", () => {
  describe.each(["tokenizer-seed", "tokenizer-oov", "tokenizer-filters", "tokenizer-keepcase", "tokenizer-char"])(
    "%s",
    (name) => {
      const { config } = readSharedJson<{ config: KerasConfig }>("golden", name, "tokenizer.json");
      const cases = readSharedJsonLines<{ text: string; ids: number[] }>("golden", name, "cases.jsonl");
      const texts = readSharedJson<string[]>("golden", name, "fit.json");
      const wordIndex = JSON.parse(config.word_index) as Record<string, number>;
      const ranked = Object.entries(wordIndex)
        .sort((a, b) => a[1] - b[1])
        .map(([word]) => word);
      const options: Partial<Options> = {
        flags: (config.lower ? TOKENIZER_LOWER : 0) | (config.char_level ? TOKENIZER_CHAR_LEVEL : 0),
        filters: config.filters,
        split: config.split,
        unknown: config.oov_token ?? "",
      };

      function expectKerasIds(wasm: Exports, offsets: number, bytes: number, count: number, unknownId: number): void {
        const tokenizer = prepareTokenizer(wasm, { ...defaults, ...options });
        const vocabulary: number = wasm["allocate"](64);
        expect(wasm["vocabularyBuild"](vocabulary, offsets, bytes, count)).toBe(OK);
        expect(cases.length).toBeGreaterThan(30);
        for (const { text, ids } of cases)
          expect(idsOf(wasm, tokenizer, vocabulary, unknownId, text), text).toEqual(ids);
      }

      test("the whole word_index and word_counts", () => {
        const fitted = fit(loadWasm("testing"), texts, options);
        expect(fitted.status).toBe(OK);
        expect(fitted.words).toEqual(ranked);
        expect(fitted.skipped).toBe(0);
        const counts = JSON.parse(config.word_counts) as Record<string, number>;
        expect(fitted.counts).toEqual(ranked.map((word) => counts[word] ?? 0));
        expect(fitted.unknownId).toBe(config.oov_token === null ? 0 : 1);
      });

      test("ids with the vocabulary that was fitted", () => {
        const wasm = loadWasm("testing");
        const fitted = fit(wasm, texts, { ...options, numWords: config.num_words ?? 0 });
        expect(fitted.words).toEqual(config.num_words === null ? ranked : ranked.slice(0, config.num_words - 1));
        expectKerasIds(wasm, fitted.offsets, fitted.bytes, fitted.words.length, fitted.unknownId);
      });

      test("ids with the words of tokenizer.json", () => {
        const wasm = loadWasm("testing");
        const words = (config.num_words === null ? ranked : ranked.slice(0, config.num_words - 1)).map((word) =>
          encoder.encode(word),
        );
        const offsets = new Uint32Array(words.length + 1);
        words.forEach((word, i) => {
          offsets[i + 1] = offsets[i]! + word.length;
        });
        const bytes = Uint8Array.from(words.flatMap((word) => [...word]));
        expectKerasIds(
          wasm,
          put(wasm, offsets),
          put(wasm, bytes),
          words.length,
          config.oov_token === null ? 0 : wordIndex[config.oov_token]!,
        );
      });
    },
  );
});

describe("fit", () => {
  test("by falling count, ties by first appearance", () => {
    const fitted = fit(loadWasm("testing"), ["b a c", "c d b", "e c"]);
    expect(fitted.words).toEqual(["c", "b", "a", "d", "e"]);
    expect(fitted.counts).toEqual([3, 2, 1, 1, 1]);
  });

  test("minCount drops rarer words, numWords keeps the ids below it", () => {
    const texts = ["a a a b b c"];
    expect(fit(loadWasm("testing"), texts, { minCount: 2 }).words).toEqual(["a", "b"]);
    expect(fit(loadWasm("testing"), texts, { numWords: 3 }).words).toEqual(["a", "b"]);
    expect(fit(loadWasm("testing"), texts, { numWords: 3, unknown: "?" }).words).toEqual(["?", "a"]);
    expect(fit(loadWasm("testing"), texts, { numWords: 1, unknown: "?" })).toMatchObject({ words: [], unknownId: 0 });
    expect(fit(loadWasm("testing"), [], { unknown: "?" })).toMatchObject({ words: ["?"], unknownId: 1 });
    expect(fit(loadWasm("testing"), [])).toMatchObject({ words: [], unknownId: 0 });
  });

  // Keras: dict(zip(["unk", "a", "unk", "b"], [1, 2, 3, 4])) is {"unk": 3, "a": 2, "b": 4}.
  test("an unknown word that the texts hold takes the id of its rank", () => {
    const wasm = loadWasm("testing");
    const fitted = fit(wasm, ["a a a unk unk b"], { unknown: "unk" });
    expect(fitted).toMatchObject({ words: [" ", "a", "unk", "b"], unknownId: 3, counts: [0, 3, 2, 1] });
    const vocabulary: number = wasm["allocate"](64);
    expect(wasm["vocabularyBuild"](vocabulary, fitted.offsets, fitted.bytes, 4)).toBe(OK);
    expect(idsOf(wasm, prepareTokenizer(wasm, defaults), vocabulary, fitted.unknownId, "b other unk a")).toEqual([
      4, 3, 3, 2,
    ]);
    expect(
      fit(loadWasm("testing"), ["aaa??b"], { unknown: "?", flags: TOKENIZER_CHAR_LEVEL, split: "" }),
    ).toMatchObject({ words: ["??", "a", "?", "b"], unknownId: 3 });
  });

  test("an unknown word that is cut off stays id 1", () => {
    expect(fit(loadWasm("testing"), ["a a a unk b b"], { unknown: "unk", numWords: 4 })).toMatchObject({
      words: ["unk", "a", "b"],
      unknownId: 1,
    });
    expect(fit(loadWasm("testing"), ["a a a unk b b"], { unknown: "unk", minCount: 2 })).toMatchObject({
      words: ["unk", "a", "b"],
      unknownId: 1,
    });
  });

  test("words too long for a model file are left out and counted", () => {
    const longest = "x".repeat(MAX_WORD_BYTES);
    expect(fit(loadWasm("testing"), [`${longest} ${longest}y a`])).toMatchObject({ words: [longest, "a"], skipped: 1 });
    expect(fit(loadWasm("testing"), ["12345678 123456789"], { capacity: 8 })).toMatchObject({
      words: ["12345678"],
      skipped: 1,
    });
  });

  test("refuses an unknown word that is broken or too long", () => {
    const wasm = loadWasm("testing");
    const self: number = wasm["allocate"](128);
    expect(wasm["fitBegin"](self, prepareTokenizer(wasm, defaults))).toBe(OK);
    expect(wasm["fitFinish"](self, 1, 0, put(wasm, Uint8Array.from([0xc3])), 1)).toBe(ERR_BAD_TOKENIZER);
    expect(fit(loadWasm("testing"), ["a"], { unknown: "u".repeat(MAX_WORD_BYTES + 1) }).status).toBe(ERR_BAD_TOKENIZER);
  });

  test("grows to a million words, and refuses more than a model can hold", () => {
    function* texts(): Generator<string> {
      for (let i = 0; i < MAX_ROWS; i += 4096)
        yield Array.from({ length: 4096 }, (_, j) => (i + j).toString(36)).join(" ");
    }
    const wasm = loadWasm("testing");
    const kept = fit(wasm, texts(), { numWords: MAX_ROWS });
    expect(kept.status).toBe(OK);
    expect(kept.words.length).toBe(MAX_ROWS - 1);
    expect(kept.words.every((word, i) => word === i.toString(36))).toBe(true);
    expect(wasm["fitFinish"](kept.self, 1, 0, 64, 0)).toBe(ERR_BAD_VOCABULARY);
  });

  test("any texts: as Keras' algorithm", () => {
    const word = fc.constantFrom("a", "b", "c", "d", "é", "中", "unk", "?", "e", "f", "g");
    const text = fc.array(word, { maxLength: 12 }).map((words) => words.join(" "));
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), fc.constantFrom("", "unk", "?"), (texts, unknown) => {
        const counts = new Map<string, number>();
        for (const token of texts.flatMap((one) => one.split(" ").filter(Boolean)))
          counts.set(token, (counts.get(token) ?? 0) + 1);
        const sorted = [...counts].sort((a, b) => b[1] - a[1]).map(([token]) => token);
        const wordIndex = new Map((unknown ? [unknown, ...sorted] : sorted).map((token, i) => [token, i + 1]));
        const fitted = fit(loadWasm("testing"), texts, { unknown });
        expect(fitted.unknownId).toBe(wordIndex.get(unknown) ?? 0);
        expect(fitted.words.length).toBe(sorted.length + (unknown ? 1 : 0));
        for (const [token, id] of wordIndex) expect(fitted.words[id - 1]).toBe(token);
      }),
      { numRuns: 300 },
    );
  });
});

test("of more words than the table holds, the rarest are dropped, and counts of frequent ones are exact", () => {
  const wasm = loadWasm("testing");
  const TEXTS = 2200;
  const unique = (text: number): string =>
    Array.from({ length: 1000 }, (_, i) => `u${(text * 1000 + i).toString(36)}`).join(" ");
  // "early" comes once before and once after the table was full.
  const texts = Array.from(
    { length: TEXTS },
    (_, i) => `often ${unique(i)}${i % 2 ? " half" : ""}${i === 0 || i === TEXTS - 1 ? " -early-" : ""}`,
  );
  const { status, words, counts, self } = fit(wasm, texts, { minCount: 2 });
  expect(status).toBe(OK);
  expect(words).toEqual(["often", "half"]);
  expect(counts).toEqual([TEXTS, TEXTS / 2]);
  expect(wasm["fitWithOwnWord"](self)).toBe(TEXTS);
  expect(wasm["fitWithin"](self, 1000)).toBe(0);
  expect(wasm["fitWithin"](self, 1001)).toBe(TEXTS / 2 - 1);
});
