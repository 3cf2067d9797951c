// Text -> steps: look-up, dropping or naming of unknown words, padding and truncation as
// Keras' pad_sequences, counts, hashed rows and letter pairs, where each token stands in the
// text. The twin is a few lines over JavaScript strings.
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { CONTEXT_ROW, LAYER_MASK_ZERO, ACTIVATION_SOFTMAX, OK } from "../../../assembly/abi.ts";
import type { TokenizerOptions } from "../../../host/training/trainer.ts";
import { Seeded, dense, embedding, loadFile, lstm, makeModel, putText } from "../../support/models.ts";
import { pad } from "../../support/reference.ts";
import { loadWasm, type Exports } from "../../support/wasm.ts";

const words = ["turn", "on", "the", "light", "off", "müsli", "中"];
const idOf = (word: string): number => words.indexOf(word) + 1;

interface Read {
  rows: number[][];
  /** Bytes of the text, [start, end). */
  spans: [number, number][];
  total: number;
  unknown: number;
  pads: number;
  steps: number;
}

async function reader(
  tokenizer: Partial<TokenizerOptions>,
  options: { unknownId?: number; masked?: boolean; words?: string[] } = {},
): Promise<(text: string | Uint8Array) => Read> {
  const model = await makeModel(
    {
      words: options.words ?? words,
      labels: ["a", "b"],
      tokenizer,
      unknownId: options.unknownId ?? 0,
      layers: [embedding(2, options.masked ? LAYER_MASK_ZERO : 0), lstm(1), dense(2, ACTIVATION_SOFTMAX)],
    },
    (_, length) => new Float32Array(length),
  );
  const wasm: Exports = loadWasm("testing");
  expect(loadFile(wasm, model.write("f32"))).toBe(OK);
  expect(wasm["prepareReading"]()).toBe(OK);
  return (text) => {
    const kept: number = wasm["readText"](putText(wasm, text));
    const rows = Array.from({ length: kept }, (_, t) =>
      Array.from({ length: wasm["readRowCount"](t) }, (_, r) => wasm["readRow"](t, r) >>> 0),
    );
    const spans = Array.from({ length: kept }, (_, t): [number, number] => [wasm["readStart"](t), wasm["readEnd"](t)]);
    return {
      rows,
      spans,
      total: wasm["readTotal"](),
      unknown: wasm["readUnknown"](),
      pads: wasm["readPads"](),
      steps: wasm["readSteps"](),
    };
  };
}

const ids = ({ rows }: Read): number[] => rows.map(([row]) => row!);
const T = 5;

describe("padding and truncation", () => {
  const lists = (): string[][] => {
    const random = new Seeded(1);
    return Array.from({ length: 200 }, (_, i) =>
      Array.from({ length: i < 20 ? i : random.below(30) }, () =>
        random.below(5) === 0 ? "other" : random.pick(words),
      ),
    );
  };

  test.each([
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ])("padded behind: %s, cut behind: %s", async (padPost, truncatePost) => {
    const read = await reader({ sequenceLength: T, padPost, truncatePost });
    for (const list of lists()) {
      const result = read(list.join(" "));
      const known = list.map(idOf).filter((id) => id > 0);
      const expected = pad(known, T, { padding: padPost, truncating: truncatePost }).flat();
      const padded = Array<number>(T - result.rows.length).fill(0);
      expect(padPost ? [...ids(result), ...padded] : [...padded, ...ids(result)]).toEqual(expected);
      expect(result).toMatchObject({
        total: list.length,
        unknown: list.filter((word) => word === "other").length,
        pads: padPost ? 0 : padded.length,
        steps: T,
      });
    }
  });

  test("masked: the steps are the tokens, and none is padding", async () => {
    for (const padPost of [false, true]) {
      const read = await reader({ sequenceLength: T, padPost }, { masked: true });
      for (const list of lists()) {
        const result = read(list.join(" "));
        expect(result.pads).toBe(0);
        expect(result.steps).toBe(Math.min(T, list.filter((word) => idOf(word) > 0).length));
        expect(ids(result)).toEqual(
          list
            .map(idOf)
            .filter((id) => id > 0)
            .slice(-T),
        );
      }
    }
  });

  test("a sequence of one token keeps the last or the first", async () => {
    expect(ids((await reader({ sequenceLength: 1 }))("turn on the light"))).toEqual([4]);
    expect(ids((await reader({ sequenceLength: 1, truncatePost: true }))("turn on the light"))).toEqual([1]);
  });

  test("a text far longer than the sequence", async () => {
    const read = await reader({ sequenceLength: T });
    const result = read(`${"turn ".repeat(200_000)}on the`);
    expect(ids(result)).toEqual([1, 1, 1, 2, 3]);
    expect(result.total).toBe(200_002);
  });
});

describe("unknown words", () => {
  test("are dropped, and counted", async () => {
    expect((await reader({ sequenceLength: T }))("what is the müsli")).toMatchObject({
      rows: [[3], [6]],
      total: 4,
      unknown: 2,
    });
  });

  test("have the id that the model names for them", async () => {
    expect((await reader({ sequenceLength: T }, { unknownId: 2 }))("what is the light")).toMatchObject({
      rows: [[2], [2], [3], [4]],
      total: 4,
      unknown: 2,
    });
  });

  test("a token longer than every word is unknown, even if it begins like one", async () => {
    const read = await reader({ sequenceLength: T });
    expect(read(`turn${"n".repeat(5000)} turn`)).toMatchObject({ rows: [[1]], unknown: 1 });
  });

  test("a word of 4096 bytes is known, and one byte more is not", async () => {
    const long = "x".repeat(4096);
    const read = await reader({ sequenceLength: T }, { words: ["a", long] });
    expect(read(`${long} ${long}x ${long.slice(1)} a`)).toMatchObject({ rows: [[2], [1]], unknown: 2 });
  });
});

describe("hashed n-grams", () => {
  let read: Awaited<ReturnType<typeof reader>>;
  const BUCKETS = 32;
  const first = 1 + words.length;
  beforeAll(async () => {
    read = await reader({ sequenceLength: T, ngramBuckets: BUCKETS, ngramMin: 3, ngramMax: 4 });
  });

  function fnv1a(text: string): number {
    let hash = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    return hash;
  }
  const rowsOf = (...runs: string[]): number[] => runs.map((run) => first + (fnv1a(run) % BUCKETS));

  test("stand for words that the vocabulary lacks, and only for them", () => {
    expect(read("light dim").rows).toEqual([[4], rowsOf("<di", "<dim", "dim", "dim>", "im>")]);
  });

  test("a word too short for one is dropped", async () => {
    const long = await reader({ sequenceLength: T, ngramBuckets: BUCKETS, ngramMin: 5, ngramMax: 5 });
    expect(long("on ab abc")).toMatchObject({ rows: [[2], rowsOf("<abc>")], total: 3, unknown: 2 });
  });

  test("all rows lie in the embedding, whatever the bytes are", () => {
    const random = new Seeded(9);
    for (let i = 0; i < 300; i++) {
      const { rows } = read(Uint8Array.from({ length: random.below(400) }, () => random.below(256)));
      expect(rows.flat().every((row) => row > 0 && row < first + BUCKETS)).toBe(true);
      expect(rows.every((step) => step.length > 0 && step.length <= 64)).toBe(true);
    }
  });

  test("a letter right behind another one brings the row of their pair", async () => {
    const letters = await reader({
      sequenceLength: T,
      splitScripts: true,
      letterPairs: true,
      ngramBuckets: BUCKETS,
      ngramMin: 3,
      ngramMax: 4,
    });
    const pair = (text: string): number => (CONTEXT_ROW + first + (fnv1a(text) % BUCKETS)) >>> 0;
    expect(letters("中中light中").rows).toEqual([[7], [7, pair("中中")], [4], [7]]);
    expect(letters("中文").rows).toEqual([[7], [...rowsOf("<文>"), pair("中文")]]);
  });
});

describe("where tokens stand in the text", () => {
  const all = { sequenceLength: 64, ngramBuckets: 8, ngramMin: 1, ngramMax: 2 }; // no token is dropped
  const encoder = new TextEncoder();
  const slices = (text: string, { spans }: Read): string[] =>
    spans.map(([start, end]) => new TextDecoder().decode(encoder.encode(text).subarray(start, end)));

  /** Runs of code points that part nothing, by their bytes. */
  function runs(text: string, isSeparator: (char: string) => boolean): [number, number][] {
    const found: [number, number][] = [];
    let at = 0;
    let open = false;
    for (const char of text) {
      const next = at + encoder.encode(char).length;
      if (isSeparator(char)) open = false;
      else if (open) found.at(-1)![1] = next;
      else {
        found.push([at, next]);
        open = true;
      }
      at = next;
    }
    return found;
  }

  test("any text, one separator: the runs between separators", async () => {
    const read = await reader({ ...all, filters: "-é😀" });
    const text = fc.string({
      unit: fc.constantFrom("a", "b", "Z", " ", "-", "é", "É", "中", "Σ", "İ", "😀", "'"),
      maxLength: 40,
    });
    fc.assert(
      fc.property(text, (each) => {
        expect(read(each).spans).toEqual(runs(each, (char) => " -éÉ😀".includes(char)));
      }),
      { numRuns: 2000 },
    );
  });

  test("scripts without spaces: letters with their marks, and the runs between", async () => {
    const read = await reader({ ...all, splitScripts: true, filters: "-" });
    expect(slices("x 打开 Kitchen灯123。", read("x 打开 Kitchen灯123。"))).toEqual([
      "x",
      "打",
      "开",
      "Kitchen",
      "灯",
      "123",
    ]);
    expect(slices("ที่นี่ か\u3099İ", read("ที่นี่ か\u3099İ"))).toEqual(["ที่", "นี่", "か\u3099", "İ"]);
  });

  test("characters", async () => {
    expect(slices("aİ 😀", (await reader({ ...all, charLevel: true, split: "" }))("aİ 😀"))).toEqual([
      "a",
      "İ",
      "",
      " ",
      "😀",
    ]);
  });

  test("a separator of several bytes is no part of a token", async () => {
    expect(slices("one--two-x--", (await reader({ ...all, split: "--" }))("one--two-x--"))).toEqual(["one", "two-x"]);
  });

  test("signs that the vocabulary lacks are no tokens, whatever becomes of unknown words", async () => {
    const cleaning: TokenizerOptions["cleaning"] = ["normalize", "punctuation"];
    for (const unknownId of [0, idOf("off")]) {
      const read = await reader({ cleaning }, { words: [...words, "!", "👍"], unknownId });
      const plain = read("turn on the light dim");
      expect(plain).toMatchObject({ total: 5, unknown: 1 });
      expect({ ...read("(turn) on, the light: dim?... 👎"), spans: plain.spans }).toEqual(plain);
      expect(ids(read("on! 👍👍?"))).toEqual([idOf("on"), words.length + 1, words.length + 2]);
    }
  });

  test.each<[string, TokenizerOptions["cleaning"], string[]]>([
    ["soooo <b>Hi</b> there", ["markup", "repeats"], ["soooo", "Hi", "there"]],
    ["caf&eacute;&amp;co caf&#233; x", ["markup"], ["caf&eacute;&amp;co", "caf&#233;", "x"]],
    [
      "see http://a.example/b, or mail joe@mail.example now",
      ["urls"],
      ["see", "http://a.example/b", ",", "or", "mail", "joe@mail.example", "now"],
    ],
    ["0176123456 at 9:30", ["numbers"], ["0176123456", "at", "9:30"]],
    ["Ｈｅｌｌｏ　ｗｏｒｌｄ ｶﾞｷﾞ", ["width"], ["Ｈｅｌｌｏ", "ｗｏｒｌｄ", "ｶﾞｷﾞ"]],
    ["nai\u0308ve e\u0301\u0302 ok", ["accents"], ["nai\u0308ve", "e\u0301\u0302", "ok"]],
    ["okkkk", ["repeats"], ["okkkk"]],
    [
      "\ufeffso\u00adft\u2060 «now\u200b» \x1b[31mred\x1b[0m",
      ["normalize", "compose"],
      ["so\u00adft\u2060", "now\u200b", "red\x1b[0m"],
    ],
    [
      "don’t good👍👍🏿! 🇩🇪 ‘so’ \u200e1️⃣e\u0301",
      ["normalize", "compose"],
      ["don’t", "good", "👍👍🏿", "!", "🇩🇪", "so", "1️⃣", "e\u0301"],
    ],
  ])("as it is written, what cleaning drops of it included: %s", async (text, cleaning, expected) => {
    const read = await reader({ ...all, ...(cleaning ? { cleaning } : {}) });
    expect(slices(text, read(text))).toEqual(expected);
  });

  test("any bytes, cleaned or not: spans lie in the text, in order, and do not overlap", async () => {
    for (const cleaning of [
      [],
      ["normalize", "compose"],
      ["normalize", "markup", "urls", "width", "compose", "accents", "numbers", "repeats"],
    ] as const) {
      for (const split of [" ", "ab"]) {
        const read = await reader({ ...all, cleaning, split, splitScripts: true, filters: "-" });
        const text = fc.string({
          unit: fc.constantFrom(
            "a",
            "b",
            "ab",
            "<",
            "b>",
            " ",
            "-",
            "&#97;",
            "www.a.b",
            "@",
            "中",
            "ｶ",
            "ﾞ",
            "111",
            "\ud800",
            "'",
            "’",
            "«",
            "\u200b",
            "👍",
            "e\u0301",
            "İ",
            "\x1b[m",
            "\0",
          ),
          maxLength: 30,
        });
        fc.assert(
          fc.property(text, (each) => {
            let before = 0;
            for (const [start, end] of read(each).spans) {
              expect(start).toBeGreaterThanOrEqual(before);
              expect(end).toBeGreaterThanOrEqual(start);
              before = end;
            }
            expect(before).toBeLessThanOrEqual(encoder.encode(each).length);
          }),
          { numRuns: 1500 },
        );
      }
    }
  });
});

test("ids do not depend on what was read before", async () => {
  const read = await reader({ sequenceLength: T });
  const once = read("turn the light off");
  read("on ".repeat(17));
  read("");
  expect(read("turn the light off")).toEqual(once);
});
