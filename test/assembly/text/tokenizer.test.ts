import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ERR_BAD_TOKENIZER,
  ERR_OUT_OF_MEMORY,
  MAX_NAME_BYTES,
  OK,
  TEXT_CAPACITY,
  TOKENIZER_CHAR_LEVEL,
  TOKENIZER_LOWER,
  TOKENIZER_SPLIT_SCRIPTS,
} from "../../../assembly/abi.ts";
import { type Exports, loadWasm, put } from "../../support/wasm.ts";

interface Options {
  flags?: number;
  filters?: string | Uint8Array;
  split?: string | Uint8Array;
  capacity?: number;
}

const TOKENIZER_BYTES = 128;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function toBytes(text: string | Uint8Array): Uint8Array {
  return typeof text === "string" ? encoder.encode(text) : text;
}

function prepare(
  wasm: Exports,
  { flags = 0, filters = "", split = " ", capacity = 4096 }: Options,
): { status: number; self: number } {
  const self: number = wasm["allocate"](TOKENIZER_BYTES);
  const filterBytes = toBytes(filters);
  const splitBytes = toBytes(split);
  const status: number = wasm["tokenizerPrepare"](
    self,
    flags,
    put(wasm, filterBytes),
    filterBytes.length,
    put(wasm, splitBytes),
    splitBytes.length,
    capacity,
  );
  return { status, self };
}

/** Token and its full length in bytes, one by one. */
function* read(wasm: Exports, self: number, text: string | Uint8Array): Generator<[string, number]> {
  const bytes = toBytes(text);
  wasm["tokenizerStart"](self, put(wasm, bytes), bytes.length);
  while (wasm["tokenizerNext"](self)) {
    const [address, length, capacity] = new Uint32Array(wasm.memory.buffer, self, 3) as unknown as [
      number,
      number,
      number,
    ];
    yield [decoder.decode(new Uint8Array(wasm.memory.buffer, address, Math.min(length, capacity))), length];
  }
}

const shared = loadWasm("testing");

function tokens(text: string | Uint8Array, options: Options = {}): string[] {
  const base: number = shared["arenaTop"]();
  const { status, self } = prepare(shared, options);
  expect(status).toBe(OK);
  const result = Array.from(read(shared, self, text), ([token]) => token);
  shared["arenaRelease"](base);
  return result;
}

/** Keras' text_to_word_sequence; String.split leaves the same parts as Python's for a separator that is not empty. */
function keras(
  text: string,
  { flags = 0, filters = "", split = " " }: { flags?: number; filters?: string; split?: string },
): string[] {
  const lowered = flags & TOKENIZER_LOWER ? text.toLowerCase() : text;
  if (flags & TOKENIZER_CHAR_LEVEL) return [...lowered];
  const filtered = Array.from(lowered, (char) => (filters.includes(char) ? split : char)).join("");
  return filtered.split(split).filter(Boolean);
}

const KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n';

describe("tokenizer", () => {
  test.each<[string, Options, string[]]>([
    ["", {}, []],
    [" \t ", { filters: "\t" }, []],
    [
      "Don't stop--now\r\nplease",
      { flags: TOKENIZER_LOWER, filters: KERAS_FILTERS },
      ["don't", "stop", "now\r", "please"],
    ],
    ["Keep Case", {}, ["Keep", "Case"]],
    ["a\u00a0b", {}, ["a\u00a0b"]],
    ["İstanbul", { flags: TOKENIZER_LOWER }, ["i\u0307stanbul"]],
    ["İstanbul", { flags: TOKENIZER_LOWER, filters: "\u0307" }, ["i", "stanbul"]],
    ["İstanbul", { flags: TOKENIZER_LOWER, filters: "i" }, ["\u0307stanbul"]],
    ["ΟΔΟΣ, ΣΟΦΟΣ", { flags: TOKENIZER_LOWER, filters: "," }, ["οδος", "σοφος"]],
    ["one’two—three", { filters: "—’" }, ["one", "two", "three"]],
    ["XaX", { flags: TOKENIZER_LOWER, filters: "X" }, ["xax"]],
    ["XaX", { flags: TOKENIZER_LOWER, filters: "x" }, ["a"]],
    ["3 \u212a", { flags: TOKENIZER_LOWER, split: "k" }, ["3 "]],
    ["xAyAz", { flags: TOKENIZER_LOWER, split: "A" }, ["xayaz"]],
  ])("%j with %j", (text, options, expected) => {
    expect(tokens(text, options)).toEqual(expected);
  });

  test.each<[string, Options, string[]]>([
    ["xabyab", { split: "ab" }, ["x", "y"]],
    ["aab", { split: "ab" }, ["a"]],
    ["aaa", { split: "aa" }, ["a"]],
    ["ababa!", { split: "aba" }, ["ba!"]],
    // "ab" and the inserted "aba" make "ababa": the first separator begins before the filtered code point.
    ["ab!c", { split: "aba", filters: "!" }, ["bac"]],
    ["x!y", { split: "ab", filters: "!" }, ["x", "y"]],
    ["a!b", { split: "ab", filters: "!" }, ["a", "b"]],
    ["ab", { split: "ab", filters: "a" }, ["b"]],
    ["好中好文中文好", { split: "中文" }, ["好中好文", "好"]],
    ["xéy", { split: "é" }, ["x", "y"]],
    ["aaaaaaab", { split: "aaab" }, ["aaaa"]],
  ])("separators of several bytes: %j with %j", (text, options, expected) => {
    expect(tokens(text, options)).toEqual(expected);
  });

  test("char_level yields each code point, unfiltered", () => {
    expect(tokens("Aİ 😀!", { flags: TOKENIZER_LOWER | TOKENIZER_CHAR_LEVEL, filters: "!", split: "" })).toEqual([
      "a",
      "i",
      "\u0307",
      " ",
      "😀",
      "!",
    ]);
    expect(tokens(Uint8Array.from([0x61, 0xff, 0xe4, 0xb8]), { flags: TOKENIZER_CHAR_LEVEL })).toEqual([
      "a",
      "\ufffd",
      "\ufffd",
    ]);
  });

  const alphabet = ["a", "b", "A", "B", " ", "-", "é", "É", "中", "σ", "Σ", "İ", "😀", "'"];
  const word = (maxLength: number, minLength = 0) =>
    fc.array(fc.constantFrom(...alphabet), { minLength, maxLength }).map((units) => units.join(""));

  test("any text, filters and separator: as Keras", () => {
    const flags = fc.constantFrom(0, TOKENIZER_LOWER, TOKENIZER_CHAR_LEVEL, TOKENIZER_LOWER | TOKENIZER_CHAR_LEVEL);
    fc.assert(
      fc.property(word(30), flags, word(3), word(3, 1), (text, flag, filters, split) => {
        const options = { flags: flag, filters, split };
        expect(tokens(text, options)).toEqual(keras(text, options));
      }),
      { numRuns: 4000 },
    );
  });

  test("few letters, so that separators overlap: as Keras", () => {
    const part = (maxLength: number, minLength = 0) =>
      fc.string({ unit: fc.constantFrom("a", "b"), minLength, maxLength });
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", "b", "!"), maxLength: 24 }), part(5, 1), (text, split) => {
        expect(tokens(text, { split, filters: "!" })).toEqual(keras(text, { split, filters: "!" }));
      }),
      { numRuns: 4000 },
    );
  });

  test("any bytes: as Keras on the text that a TextDecoder makes of them", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (bytes, isSplitAtBroken) => {
        const options = { filters: isSplitAtBroken ? "\ufffd" : "", split: " " };
        expect(tokens(bytes, options)).toEqual(keras(decoder.decode(bytes), options));
      }),
      { numRuns: 2000 },
    );
  });

  test.each<[string, Options]>([
    ["empty separator", { split: "" }],
    ["broken separator", { split: Uint8Array.from([0xc3]) }],
    ["broken filters", { filters: Uint8Array.from([0x21, 0x80]) }],
    ["separator too long", { split: "x".repeat(MAX_NAME_BYTES + 1) }],
    ["too many filters", { filters: "é".repeat(MAX_NAME_BYTES / 2 + 1) }],
    ["unknown flag", { flags: 64 }],
    ["two ways to split", { flags: TOKENIZER_CHAR_LEVEL | TOKENIZER_SPLIT_SCRIPTS }],
    ["separator of a script that is split", { flags: TOKENIZER_SPLIT_SCRIPTS, split: "-中" }],
    ["separator with a mark", { flags: TOKENIZER_SPLIT_SCRIPTS, split: "e\u0301" }],
  ])("refuses: %s", (_name, options) => {
    expect(prepare(loadWasm("testing"), options).status).toBe(ERR_BAD_TOKENIZER);
  });

  test("says when memory is refused", () => {
    expect(prepare(loadWasm("testing"), { capacity: 0xffffffff }).status).toBe(ERR_OUT_OF_MEMORY);
  });

  test("the largest separator and filter set work", () => {
    const split = "ab".repeat(MAX_NAME_BYTES / 2 - 1) + "ac";
    const filters = Array.from({ length: 1365 }, (_, i) => String.fromCodePoint(0x5000 + ((i * 8) % 1365))).join("");
    expect(
      tokens(`abab${split}x${String.fromCodePoint(0x5000 + 1364)}y${String.fromCodePoint(0x5000 + 1365)}`, {
        split,
        filters,
      }),
    ).toEqual(["abab", "x", `y${String.fromCodePoint(0x5000 + 1365)}`]);
  });

  test("a token longer than the capacity is counted in full and kept in part", () => {
    const wasm = loadWasm("testing");
    const { self } = prepare(wasm, { capacity: 8, split: "ab" });
    const guard = put(wasm, new Uint8Array(16).fill(7));
    const list = [...read(wasm, self, "12345678ab123456789ab1234567aab中中中abb")];
    expect(list).toEqual([
      ["12345678", 8],
      ["12345678", 9],
      ["1234567a", 8],
      ["中中\ufffd", 9],
      ["b", 1],
    ]);
    expect([...new Uint8Array(wasm.memory.buffer, guard, 16)]).toEqual(Array(16).fill(7));
  });

  test("1 MiB without a separator is one token, and takes no memory", () => {
    const wasm = loadWasm("testing");
    const { self } = prepare(wasm, { flags: TOKENIZER_LOWER, capacity: 64 });
    const text = put(wasm, new Uint8Array(TEXT_CAPACITY).fill(0x41));
    const top: number = wasm["arenaTop"]();
    wasm["tokenizerStart"](self, text, TEXT_CAPACITY);
    expect(wasm["tokenizerNext"](self)).toBe(1);
    const [address, length] = new Uint32Array(wasm.memory.buffer, self, 2) as unknown as [number, number];
    expect(length).toBe(TEXT_CAPACITY);
    expect(decoder.decode(new Uint8Array(wasm.memory.buffer, address, 64))).toBe("a".repeat(64));
    expect(wasm["tokenizerNext"](self)).toBe(0);
    expect(wasm["arenaTop"]()).toBe(top);
  });

  // Each would take hours, were a byte looked at again for every byte before it.
  test.each<[string, string, Options, number]>([
    ["capital sigmas", "Σ".repeat(TEXT_CAPACITY / 2), { flags: TOKENIZER_LOWER }, 1],
    [
      "a sigma before and behind ignorable code points",
      `ΑΣ${"'".repeat(TEXT_CAPACITY - 8)}ΣΑ`,
      { flags: TOKENIZER_LOWER },
      1,
    ],
    ["a separator that almost matches", "a".repeat(TEXT_CAPACITY), { split: `${"a".repeat(MAX_NAME_BYTES - 1)}b` }, 1],
    [
      "an inserted separator that almost matches",
      "a!".repeat(128),
      { split: `${"a".repeat(MAX_NAME_BYTES - 1)}b`, filters: "!" },
      127 + 1,
    ],
    ["one ideograph a token", "中".repeat(TEXT_CAPACITY / 4), { flags: TOKENIZER_SPLIT_SCRIPTS }, TEXT_CAPACITY / 4],
  ])("%s: linear time", (_name, text, options, expected) => {
    const wasm = loadWasm("testing");
    const { self } = prepare(wasm, options);
    const bytes = encoder.encode(text);
    wasm["tokenizerStart"](self, put(wasm, bytes), bytes.length);
    let count = 0;
    while (wasm["tokenizerNext"](self)) count++;
    expect(count).toBe(expected);
  });
});

describe("tokenizer, scripts without spaces", () => {
  const split = (text: string, options: Options = {}) =>
    tokens(text, { flags: TOKENIZER_SPLIT_SCRIPTS | TOKENIZER_LOWER, filters: KERAS_FILTERS, ...options });

  test.each([
    ["打开 Kitchen灯123", ["打", "开", "kitchen", "灯", "123"]],
    ["你好，世界。「开」灯！", ["你", "好", "世", "界", "开", "灯"]],
    ["ラーメンを食べる", ["ラ", "ー", "メ", "ン", "を", "食", "べ", "る"]],
    ["ｶﾞﾗｽ", ["ｶﾞ", "ﾗ", "ｽ"]],
    ["か\u3099き", ["か\u3099", "き"]],
    ["葛\u{e0100}城", ["葛\u{e0100}", "城"]],
    ["𠮷野家 々〇﨑", ["𠮷", "野", "家", "々", "〇", "﨑"]],
    ["ㄅㄆㄇ", ["ㄅ", "ㄆ", "ㄇ"]],
    ["ที่นี่", ["ที่", "นี่"]],
    ["ເປີດ", ["ເ", "ປີ", "ດ"]],
    ["ភាសា", ["ភា", "សា"]],
    ["မြန်မာ", ["မြ", "န်", "မာ"]],
    ["བོད་ཡིག", ["བོ", "ད", "ཡི", "ག"]],
    ["한국어 텍스트", ["한국어", "텍스트"]],
    ["हिन्दी naïve ÉCOLE", ["हिन्दी", "naïve", "école"]],
    ["abc中def", ["abc", "中", "def"]],
    ["\u0301a\u0301中\u0301a", ["\u0301a\u0301", "中\u0301", "a"]],
    ["中İx中", ["中", "i\u0307x", "中"]],
    ["中ΑΣ中", ["中", "ας", "中"]],
    ["a\u200bb\u200dc\u00a0d\u3000e\rf“g”", ["a", "b\u200dc", "d", "e", "f", "g"]],
  ])("%j", (text, expected) => {
    expect(split(text)).toEqual(expected);
  });

  test("a separator of several bytes still separates", () => {
    expect(split("中--a-中-!--b", { split: "--", filters: "!" })).toEqual(["中", "a-", "中", "-b"]);
    expect(split("中a!b", { split: "ab", filters: "!" })).toEqual(["中", "a", "b"]);
  });

  test("any text: the tokens' letters are the text's, and no script's letter has company but its marks", () => {
    const unit = fc.constantFrom(
      "中",
      "あ",
      "ー",
      "ท",
      "ี",
      "\u3099",
      "a",
      "É",
      "İ",
      " ",
      "。",
      "한",
      "\u200d",
      "😀",
      "-",
    );
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 24 }), (units) => {
        const text = units.join("");
        const list = split(text);
        expect(list.join("")).toBe(text.toLowerCase().replace(/[ 。-]/g, ""));
        for (const token of list) {
          if (/[中あーท]/u.test(token)) expect(token).toMatch(/^[中あーท][\u0e35\u3099\u200d]*$/u);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
