// The tables of signs.ts against the regular expressions of this Node.
import { describe, expect, test } from "vitest";
import { loadWasm } from "../../support/wasm.ts";

const wasm = loadWasm("testing");
/** Unicode's version in the tables. An older one lacks some code points; what a newer one adds is not known to the tables. */
const VERSION = 17;
const isNewer = Number.parseInt(process.versions["unicode"]!, 10) > VERSION;

/** Code points beyond ASCII, with an unassigned one as undefined, for which the two differ. */
function differences(ours: (codePoint: number) => number, theirs: (char: string) => number | undefined): string[] {
  const list: string[] = [];
  for (let codePoint = 0x80; codePoint < 0x110000; codePoint++) {
    if (codePoint >= 0xd800 && codePoint < 0xe000) continue;
    const expected = theirs(String.fromCodePoint(codePoint));
    if (expected !== undefined && ours(codePoint) !== expected) list.push(codePoint.toString(16));
  }
  return list;
}

const [WORD, PUNCTUATION, SYMBOL] = [0, 1, 2];

describe.skipIf(isNewer)("on every code point that this Node knows", () => {
  test("punctuation and symbols, besides apostrophes and the replacement character", () => {
    expect(
      differences(
        (codePoint) => wasm["signOf"](codePoint),
        (char) => {
          if (/\p{Default_Ignorable_Code_Point}|[´ʼ׳‘’‛′＇\ufffd]/u.test(char)) return WORD;
          if (/[\p{P}\p{Z}\p{Sk}\x85]/u.test(char)) return PUNCTUATION;
          if (/\p{S}|\p{Emoji_Presentation}/u.test(char)) return SYMBOL;
          return /\p{Cn}/u.test(char) ? undefined : WORD;
        },
      ),
    ).toEqual([]);
  });

  test("what shows nothing", () => {
    expect(
      differences(
        (codePoint) => Number(wasm["isInvisible"](codePoint)),
        (char) => Number(/\p{Default_Ignorable_Code_Point}|(?!\x85)\p{Cc}/u.test(char)),
      ),
    ).toEqual([]);
  });

  test("letters and marks that joiners shape", () => {
    const scripts = "Arab Syrc Mand Nkoo Mong Deva Beng Guru Gujr Orya Taml Telu Knda Mlym Sinh Khmr Mymr Tibt".split(
      " ",
    );
    const shaped = new RegExp(`(?=[\\p{L}\\p{M}])[${scripts.map((script) => `\\p{scx=${script}}`).join("")}]`, "u");
    expect(
      differences(
        (codePoint) => Number(wasm["isJoined"](codePoint)),
        (char) =>
          /\p{Cn}/u.test(char)
            ? undefined
            : Number(!/\p{Default_Ignorable_Code_Point}/u.test(char) && shaped.test(char)),
      ),
    ).toEqual([]);
  });
});

test("every emoji is a symbol, so that it is a token", () => {
  const missing = differences(
    (codePoint) => Number(wasm["signOf"](codePoint) === SYMBOL),
    (char) => (/\p{Emoji_Presentation}/u.test(char) && !/\p{Emoji_Modifier}/u.test(char) ? 1 : undefined),
  );
  expect(missing).toEqual([]);
});

test("ASCII and numbers beyond all code points", () => {
  for (let codePoint = 0; codePoint < 0x80; codePoint++) {
    expect(Boolean(wasm["isInvisible"](codePoint))).toBe(/[\0-\x08\x0e-\x1f\x7f]/.test(String.fromCharCode(codePoint)));
    expect(Boolean(wasm["isApostrophe"](codePoint))).toBe(codePoint === 0x60);
  }
  for (const number of [0x110000, 0xffffffff]) {
    for (const name of ["signOf", "isInvisible", "isJoined", "isApostrophe"])
      expect(Number(wasm[name](number))).toBe(0);
  }
});

test("apostrophes", () => {
  const found = Array.from({ length: 0x110000 }, (_, codePoint) => codePoint).filter((codePoint) =>
    wasm["isApostrophe"](codePoint),
  );
  expect(String.fromCodePoint(...found)).toBe("`´ʼ׳‘’‛′＇");
});
