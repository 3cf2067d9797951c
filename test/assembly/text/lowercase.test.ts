import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadWasm, put } from "../../support/wasm.ts";

const wasm = loadWasm("testing");

/** Code points that have had a lower-case letter only since Unicode 16: our tables are of 15.1. */
const newer: [number, number][] = [
  [0x1c89, 0x1c89],
  [0xa7cb, 0xa7d5],
  [0xa7da, 0xa7dd],
  [0x10d50, 0x10d65],
  [0x16ea0, 0x16eb8],
];

function isNewer(codePoint: number): boolean {
  return newer.some(([first, last]) => codePoint >= first && codePoint <= last);
}

/** The small letter for the capital sigma at a UTF-16 index. */
function sigmaAt(text: string, index: number): string {
  const encoder = new TextEncoder();
  const bytes = encoder.encode(text);
  const base: number = wasm["arenaTop"]();
  const start = put(wasm, bytes);
  const at = start + encoder.encode(text.slice(0, index)).length;
  const sigma: number = wasm["lowercaseSigma"](start, at, at + 2, start + bytes.length);
  wasm["arenaRelease"](base);
  return String.fromCodePoint(sigma);
}

describe("lowercase", () => {
  test("agrees with String.prototype.toLowerCase on every code point", () => {
    const differences: string[] = [];
    let changed = 0;
    for (let codePoint = 0; codePoint < 0x110000; codePoint++) {
      if (codePoint >= 0xd800 && codePoint < 0xe000) continue;
      const mapped: number = wasm["lowercase"](codePoint);
      if (mapped !== codePoint) changed++;
      const expected = String.fromCodePoint(codePoint).toLowerCase().codePointAt(0)!;
      if (mapped !== expected && !(isNewer(codePoint) && mapped === codePoint))
        differences.push(codePoint.toString(16));
    }
    expect(differences).toEqual([]);
    // len([c for c in map(chr, range(0x110000)) if c.lower() != c]) in Python 3.13
    expect(changed).toBe(1433);
  });

  test.each([
    ["ΑΣ", 1, "ς"],
    ["ΑΣΑ", 1, "σ"],
    ["Σ", 0, "σ"],
    ["ΣΑ", 0, "σ"],
    ["ΑΣ ", 1, "ς"],
    [" Σ", 1, "σ"],
    ["ΑΣ'Α", 1, "σ"],
    ["ΑΣ'", 1, "ς"],
    ["Α'Σ", 2, "ς"],
    ["'Σ", 1, "σ"],
    ["ΑΣ\u0301\u00ad.Β", 1, "σ"],
    ["Α\u0301\u0301Σ", 3, "ς"],
    ["ΑΣΣ", 1, "σ"],
    ["ΑΣΣ", 2, "ς"],
    ["1Σ", 1, "σ"],
    ["ΑΣ1", 1, "ς"],
    ["中Σ", 1, "σ"],
    ["ʰΣ", 1, "σ"],
    ["𐐀Σ", 2, "ς"],
    ["ΑΣ𐐀", 1, "σ"],
  ])("sigma in %j at %i is %s", (text, index, expected) => {
    expect(sigmaAt(text, index)).toBe(expected);
    expect(text.toLowerCase()[index]).toBe(expected); // the same rule, from another implementation
  });

  test("any context: sigma agrees with toLowerCase", () => {
    const unit = fc.constantFrom(
      "a",
      "Β",
      "ß",
      "1",
      " ",
      "'",
      ".",
      ":",
      "·",
      "\u0301",
      "\u00ad",
      "\u200d",
      "ʰ",
      "ª",
      "中",
      "Σ",
      "ǅ",
      "𝐀",
      "🇦",
      "´",
      "😀",
      "\ufffd",
    );
    const context = fc.array(unit, { maxLength: 8 }).map((units) => units.join(""));
    fc.assert(
      fc.property(context, context, (before, after) => {
        const text = `${before}Σ${after}`;
        // Lower-casing keeps the length in UTF-16 of all these units.
        expect(sigmaAt(text, before.length)).toBe(text.toLowerCase()[before.length]);
      }),
      { numRuns: 3000 },
    );
  });

  test("broken bytes beside a sigma are neither cased nor skipped", () => {
    const base: number = wasm["arenaTop"]();
    const bytes = Uint8Array.from([0x41, 0x80, 0xce, 0xa3, 0xe4, 0xb8]);
    const start = put(wasm, bytes);
    expect(wasm["lowercaseSigma"](start, start + 2, start + 4, start + 6)).toBe(0x3c3);
    expect(wasm["lowercaseSigma"](start + 2, start + 2, start + 4, start + 4)).toBe(0x3c3);
    new Uint8Array(wasm.memory.buffer)[start + 1] = 0x42;
    expect(wasm["lowercaseSigma"](start, start + 2, start + 4, start + 6)).toBe(0x3c2);
    wasm["arenaRelease"](base);
  });
});
