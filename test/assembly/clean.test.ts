import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CLEAN_ACCENTS, CLEAN_COMPOSE, CLEAN_FLAGS, CLEAN_MARKUP, CLEAN_NUMBERS, CLEAN_REPEATS, CLEAN_URLS, CLEAN_WIDTH, ERR_BAD_TOKENIZER, OK, TEXT_CAPACITY,
  TOKENIZER_CHAR_LEVEL, TOKENIZER_LOWER, TOKENIZER_SPLIT_SCRIPTS,
} from "../../assembly/abi.ts";
import { type Exports, loadWasm, put } from "../wasm.ts";

interface Options { flags?: number; filters?: string; split?: string; cleaning?: number }

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const KERAS_FILTERS = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n";

function prepare(wasm: Exports, { flags = TOKENIZER_LOWER, filters = "", split = " ", cleaning = 0 }: Options): { status: number; self: number } {
  const self: number = wasm["allocate"](128);
  const filterBytes = encoder.encode(filters);
  const splitBytes = encoder.encode(split);
  const status: number = wasm["tokenizerPrepare"](
    self, flags, put(wasm, filterBytes), filterBytes.length, put(wasm, splitBytes), splitBytes.length, 4096, cleaning);
  return { status, self };
}

const shared = loadWasm("testing");

function tokens(text: string | Uint8Array, options: Options = {}): string[] {
  const base: number = shared["arenaTop"]();
  const { status, self } = prepare(shared, options);
  expect(status).toBe(OK);
  const bytes = typeof text === "string" ? encoder.encode(text) : text;
  shared["tokenizerStart"](self, put(shared, bytes), bytes.length);
  const list: string[] = [];
  while (shared["tokenizerNext"](self)) {
    const [address, length] = new Uint32Array(shared.memory.buffer, self, 2) as unknown as [number, number];
    list.push(decoder.decode(new Uint8Array(shared.memory.buffer, address, length)));
  }
  shared["arenaRelease"](base);
  return list;
}

// --- the same in plain TypeScript: one regular expression or replacement a step ---------

const URL_MARK = "\ue000";
const EMAIL_MARK = "\ue001";
const NAMED: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: " " };
const FOLDED: Record<string, string> = {
  Æ: "AE", æ: "ae", ß: "ss", Þ: "TH", þ: "th", Ĳ: "IJ", ĳ: "ij", Œ: "OE", œ: "oe", ẞ: "SS", Ø: "O", ø: "o", Ð: "D", ð: "d", Đ: "D", đ: "d",
  Ħ: "H", ħ: "h", ı: "i", Ŀ: "L", ŀ: "l", Ł: "L", ł: "l", ŉ: "n", Ŧ: "T", ŧ: "t", ſ: "s",
};
const MARKUP = "(?<tag><!--[^]*?-->|<(?<raw>script|style)(?![a-z0-9])[^<>]*>[^]*?(?=</\\k<raw>)|<[a-z/!?][^<>]*>)"
  + "|(?<reference>&(?:(?-i:amp|lt|gt|quot|apos|nbsp)|#[0-9]{1,8}|#x[0-9a-f]{1,8});)";
const URLS = "(?<url>(?<![a-z0-9_])(?:www\\.|https?://)(?=[a-z0-9\\u00c0-\\u07ff])[!#-;=?-[\\]_a-z~\\u00c0-\\u07ff]*(?<![!'),.:;?\\]]))"
  + "|(?<email>(?<![a-z0-9._%+-])[a-z0-9._%+-]+@(?:[a-z0-9-]+\\.)+[a-z][a-z0-9-]+)";

function referred(reference: string): string {
  const name = reference.slice(1, -1);
  if (!name.startsWith("#")) return NAMED[name]!;
  const value = /^#x/i.test(name) ? parseInt(name.slice(2), 16) : Number(name.slice(1));
  return value === 0 || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff) ? "\ufffd" : String.fromCodePoint(value);
}

function baseOf(letter: string): string {
  if (FOLDED[letter] !== undefined) return FOLDED[letter];
  const base = letter.normalize("NFD").replace(/\p{M}/gu, "");
  return /^[a-z]$/i.test(base) ? base : letter;
}

function firstTwo(text: string): string {
  let letter = "";
  let count = 0;
  return [...text].filter((char) => {
    const small = /[a-z]|[^\0-\x7f\ue000\ue001]/i.test(char) ? [...char.toLowerCase()][0]! : "";
    count = small !== "" && small === letter ? count + 1 : 1;
    letter = small;
    return count <= 2;
  }).join("");
}

const isStable = (char: string): boolean => char.length === 1 && char === char.normalize("NFC");

function composed(text: string): string {
  return [...text].reduce<string[]>((list, char) => {
    const both = (list.at(-1) ?? "") + char;
    const whole = both.normalize("NFC");
    if (list.length > 0 && isStable(list.at(-1)!) && isStable(char) && whole.length === 1) list.splice(-1, 1, whole);
    else list.push(char);
    return list;
  }, []).join("");
}

function cleaned(text: string, flags: number): string {
  const parts = [...(flags & CLEAN_MARKUP ? [MARKUP] : []), ...(flags & CLEAN_URLS ? [URLS] : [])];
  if (parts.length > 0) {
    text = text.replace(new RegExp(parts.join("|").replace("(?-i:", "(?:"), "gi"), (found: string, ...rest: unknown[]) => {
      const { tag, reference, url } = rest.at(-1) as Record<string, string | undefined>;
      if (tag !== undefined) return " ";
      // The names of references are the only thing whose case counts.
      if (reference !== undefined) return /^&[a-z]/i.test(found) && found !== found.toLowerCase() ? found : referred(reference);
      return url === undefined ? EMAIL_MARK : URL_MARK;
    });
  }
  if (flags & CLEAN_WIDTH) text = text.replace(/[\uff01-\uff5e\u3000\uff61-\uff9f]+/g, (run) => run.normalize("NFKC"));
  if (flags & CLEAN_COMPOSE) text = composed(text);
  if (flags & CLEAN_ACCENTS) {
    text = text.replace(/[\u00c0-\u024f\u1e00-\u1eff]/g, baseOf).replace(/([a-z])[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff]+/gi, "$1");
  }
  if (flags & CLEAN_NUMBERS) text = text.replace(/[0-9]+/g, (run) => "0".repeat(Math.min(4, run.length)));
  return flags & CLEAN_REPEATS ? firstTwo(text) : text;
}

/** Tokens of the text that the twin has cleaned, from the tokenizer without cleaning. */
function expected(text: string, { cleaning = 0, ...options }: Options): string[] {
  return cleaned(text, cleaning).split(/([\ue000\ue001])/).flatMap((part) =>
    part === URL_MARK ? ["<url>"] : part === EMAIL_MARK ? ["<email>"] : tokens(part, options));
}

describe("cleaning", () => {
  test.each<[string, number, string[]]>([
    ["<p class=\"a b\">Hi<br/>there</P>", CLEAN_MARKUP, ["hi", "there"]],
    ["1 < 2 <3 a<b and c>d", CLEAN_MARKUP, ["1", "<", "2", "<3", "a", "d"]],
    ["x<!-- a > b <i> -->y<!DOCTYPE html><?xml?>z<!-- open", CLEAN_MARKUP, ["x", "y", "z<!--", "open"]],
    ["a<script src=x>if (a<b) c()</SCRIPT>b<style>p{}</style>c<scripted>d<script>e", CLEAN_MARKUP, ["a", "b", "c", "d", "e"]],
    ["&lt;b&gt; &amp;amp; &quot;q&apos; a&nbsp;b &copy; &AMP; &", CLEAN_MARKUP, ["<b>", "&amp;", "\"q'", "a", "b", "&copy;", "&amp;", "&"]],
    ["&#65;&#x42;&#X43;&#0;&#xd800;&#x110000;&#;&#x;&#123456789;&#00000068;", CLEAN_MARKUP, ["abc\ufffd\ufffd\ufffd&#;&#x;&#123456789;d"]],
    ["see http://a.example/b?c=d&e#f, or (HTTPS://x.example/(y)).", CLEAN_URLS, ["see", "<url>", ",", "or", "(", "<url>", "))."]],
    ["WWW.Example.org! xhttp://no http:// www. www.-", CLEAN_URLS, ["<url>", "!", "xhttp://no", "http://", "www.", "www.-"]],
    ["请看http://a.example/中文 https://de.example/Müller, https://ü", CLEAN_URLS, ["请看", "<url>", "中文", "<url>", ",", "<url>"]],
    ["mail joe.q+x@mail.example.org. a@b a@b.c @x.example a@.example a@1.22", CLEAN_URLS, ["mail", "<email>", ".", "a@b", "a@b.c", "@x.example", "a@.example", "a@1.22"]],
    ["<b>www.a.example</b>joe@a.example<br>", CLEAN_URLS | CLEAN_MARKUP, ["<url>", "<email>"]],
    ["call 0176-1234567 at 9:30, 12345 abc007", CLEAN_NUMBERS, ["call", "0000-0000", "at", "0:00,", "0000", "abc000"]],
    ["sooooo Cooool LOOOoool aa !!! 1000 哈哈哈哈 😂😂😂 ΣΣΣσ", CLEAN_REPEATS, ["soo", "cool", "lool", "aa", "!!!", "1000", "哈哈", "😂😂", "σς"]],
    ["Ｈｅｌｌｏ　ｗｏｒｌｄ！ ｶﾞｷﾞﾊﾟｰﾄ ｳﾞｧｱﾞ ｯﾞ ｢ﾜﾞ｣", CLEAN_WIDTH, ["hello", "world!", "ガギパート", "ヴァア\u3099", "ッ\u3099", "「ヷ」"]],
    ["Crème Brûlée, STRAẞE straße Łódź Ærø nai\u0308ve e\u0301\u0302 Ệ ﬁ й α\u0301", CLEAN_ACCENTS, [
      "creme", "brulee,", "strasse", "strasse", "lodz", "aero", "naive", "e", "e", "ﬁ", "й", "α\u0301"]],
    ["cafe\u0301 nai\u0308ve и\u0306 ε\u0301 か\u3099 カﾞ e\u0323\u0302 ê\u0323 x\u0301", CLEAN_COMPOSE, ["café", "naïve", "й", "έ", "が", "カﾞ", "ệ", "ệ", "x\u0301"]],
    ["\u1112\u1161\u11ab\u1100\u116e\u11a8 가\u11a7 각\u11a8 カﾞ e&#769; <\u0338", CLEAN_COMPOSE | CLEAN_WIDTH | CLEAN_MARKUP, ["한국", "가\u11a7", "각\u11a8", "ガ", "é", "≮"]],
    ["１２３４５ éééé &#49;&#x32;", CLEAN_FLAGS, ["0000", "ee", "00"]],
  ])("%s with %i", (text, cleaning, list) => {
    expect(tokens(text, { cleaning })).toEqual(list);
    expect(expected(text, { cleaning })).toEqual(list);
  });

  test("an address is one token whatever the filters, the separator and the level are", () => {
    const cleaning = CLEAN_URLS;
    expect(tokens("ab www.a.b/c d", { cleaning, filters: KERAS_FILTERS })).toEqual(["ab", "<url>", "d"]);
    expect(tokens("xrx:www.a.b r", { cleaning, split: "r" })).toEqual(["x", "x:", "<url>", " "]);
    expect(tokens("a www.a.b", { cleaning, flags: TOKENIZER_CHAR_LEVEL })).toEqual(["a", " ", "<url>"]);
    expect(tokens("中www.a.b文", { cleaning, flags: TOKENIZER_SPLIT_SCRIPTS })).toEqual(["中", "<url>", "文"]);
    expect(tokens("a!www.a.b", { cleaning, filters: "!", split: "abc" })).toEqual(["a", "<url>"]);
  });

  const pieces = [
    "<", ">", "<b>", "</p >", "<!--", "-->", "<script>", "</script", "<style x>", "</STYLE>", "&", "&amp;", "&lt;", "&nbsp;", "&#49;", "&#x41;", "&#xe9;", "&#x301;",
    ";", "#", "www.", "HTTP://", "https:", "//", "/", "a@b.co", "@", ".", ",", "!", "'", "-", "_", "%", " ", "\n", "a", "A", "h", "w", "e", "Σ", "σ", "İ", "é", "É",
    "ß", "Ǆ", "\u0301", "1", "9", "0", "٣", "ｶ", "ﾞ", "ﾊ", "ﾟ", "ｱ", "ｯ", "Ａ", "５", "＜", "　", "中", "ท", "ี", "😀", "й", "\u0085", "\0",
    "и", "\u0306", "\u0323", "\u0302", "ê", "\u1112", "\u1161", "\u11ab", "カ", "\u3099", "\u212b", "\u0344", "\u{11099}", "\u{110ba}",
  ];
  const text = (maxLength: number) => fc.array(fc.oneof(fc.constantFrom(...pieces), fc.constantFrom("a", "b", "1", " ", "Σ")), { maxLength }).map((list) => list.join(""));

  test("any text, flags, filters and separator: as the twin", () => {
    const level = fc.constantFrom(0, TOKENIZER_LOWER, TOKENIZER_LOWER | TOKENIZER_SPLIT_SCRIPTS, TOKENIZER_LOWER | TOKENIZER_CHAR_LEVEL);
    fc.assert(fc.property(text(24), fc.integer({ min: 0, max: CLEAN_FLAGS }), level, fc.constantFrom("", "!.'", KERAS_FILTERS), fc.constantFrom(" ", "a", "aa"), (content, cleaning, flags, filters, split) => {
      const options = { cleaning, flags, filters, split: flags & TOKENIZER_SPLIT_SCRIPTS ? " " : split };
      expect(tokens(content, options)).toEqual(expected(content, options));
    }), { numRuns: 20_000 });
  });

  test("any bytes: as the twin on the text that a TextDecoder makes of them", () => {
    const byte = fc.oneof(fc.nat(255), fc.constantFrom(...encoder.encode("<>&;@.:/wéｶ")));
    fc.assert(fc.property(fc.array(byte, { maxLength: 40 }), fc.integer({ min: 0, max: CLEAN_FLAGS }), (list, cleaning) => {
      const bytes = Uint8Array.from(list);
      expect(tokens(bytes, { cleaning })).toEqual(expected(decoder.decode(bytes), { cleaning }));
    }), { numRuns: 5000 });
  });

  test("every letter of the Latin blocks: as the twin", () => {
    for (const [first, last] of [[0x80, 0x250], [0x1e00, 0x1f00], [0xff00, 0xffef]] as const) {
      for (let codePoint = first; codePoint <= last; codePoint++) {
        const word = `x${String.fromCodePoint(codePoint)}y`;
        const options = { flags: 0, cleaning: CLEAN_ACCENTS | CLEAN_WIDTH };
        expect(tokens(word, options)).toEqual(expected(word, options));
      }
    }
  });

  test("every two code points that NFC joins, and each mark behind every letter: as NFC", () => {
    const letters = new Set<string>();
    const marks = new Set<string>();
    for (let codePoint = 0x80; codePoint < 0x10000; codePoint++) {
      const [letter, ...rest] = String.fromCodePoint(codePoint).normalize("NFD");
      if (rest.length === 0 || (codePoint >= 0xac00 && codePoint <= 0xd7a3)) continue;
      for (const char of [letter!, String.fromCodePoint(codePoint)]) letters.add(char);
      for (const mark of rest) marks.add(mark);
    }
    for (const char of "\u1100\u1112\u1113가개힣") letters.add(char);
    for (const char of "\u1161\u1175\u1176\u11a7\u11a8\u11c2\u11c3") marks.add(char);
    const options = { flags: 0, cleaning: CLEAN_COMPOSE };
    for (const mark of marks) {
      const text = [...letters].map((letter) => letter + mark).join(" ");
      expect(tokens(text, options)).toEqual(composed(text).split(" "));
    }
  });

  test("unknown flags are refused", () => {
    expect(prepare(loadWasm("testing"), { cleaning: CLEAN_FLAGS + 1 }).status).toBe(ERR_BAD_TOKENIZER);
  });

  // Each would take hours, were the rest of the text searched for every opening.
  test.each([
    "<", "<a", "<!--", "<!-- <", "<script>", "<style>a", "&", "&#", "&#1234567", "a@", "a@b.", "a.b@c.d.e.", "aaaa", "www.", "http://", "http:", "Σ", "Σ'", "Σ<", "Σ<!--",
    "Σ<script>", "Σ@", "www.a!", "ｶﾞ", "e\u0301", "\u0301", "e&#769;", "\u1112\u1161\u11ab", "9", "é", "x@1.", "<a>",
  ])("1 MiB of %j: linear time, no memory", (piece) => {
    const wasm = loadWasm("testing");
    const { self } = prepare(wasm, { cleaning: CLEAN_FLAGS, filters: KERAS_FILTERS, flags: TOKENIZER_LOWER | TOKENIZER_SPLIT_SCRIPTS });
    const bytes = encoder.encode(piece.repeat(TEXT_CAPACITY / encoder.encode(piece).length));
    const address = put(wasm, bytes);
    const top: number = wasm["arenaTop"]();
    const started = performance.now();
    wasm["tokenizerStart"](self, address, bytes.length);
    while (wasm["tokenizerNext"](self));
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(wasm["arenaTop"]()).toBe(top);
  });
});
