import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Exports, loadWasm, put } from "../../support/wasm.ts";

const wasm = loadWasm("testing");

/** Decodes like a TextDecoder, through utf8Decode; bytes behind the text must not be read. */
function decode(bytes: Uint8Array): string {
  const base: number = wasm["arenaTop"]();
  const guarded = new Uint8Array(bytes.length + 4).fill(0xbf);
  guarded.set(bytes);
  const address = put(wasm, guarded);
  const end = address + bytes.length;
  let text = "";
  for (let at = address; at < end;) {
    const decoded: number = wasm["utf8Decode"](at, end) >>> 0;
    expect(decoded >>> 24).toBeGreaterThan(0);
    text += String.fromCodePoint(decoded & 0x1fffff);
    at += decoded >>> 24;
    expect(at).toBeLessThanOrEqual(end);
  }
  wasm["arenaRelease"](base);
  return text;
}

function isValid(bytes: Uint8Array): boolean {
  const base: number = wasm["arenaTop"]();
  const valid = wasm["utf8IsValid"](put(wasm, bytes), bytes.length) !== 0;
  wasm["arenaRelease"](base);
  return valid;
}

const reference = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

function isStrictlyValid(bytes: Uint8Array): boolean {
  try {
    strict.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

const broken: Record<string, number[]> = {
  "overlong slash, 2 bytes": [0xc0, 0xaf],
  "overlong slash, 3 bytes": [0xe0, 0x80, 0xaf],
  "overlong slash, 4 bytes": [0xf0, 0x80, 0x80, 0xaf],
  "first surrogate": [0xed, 0xa0, 0x80],
  "last surrogate": [0xed, 0xbf, 0xbf],
  "U+110000": [0xf4, 0x90, 0x80, 0x80],
  "F5 lead": [0xf5, 0x80, 0x80, 0x80],
  "stray continuation": [0x41, 0x80, 0x42],
  "cut after 1 of 2": [0xc3],
  "cut after 2 of 3": [0xe4, 0xb8],
  "cut after 3 of 4": [0xf0, 0x9f, 0x98],
  "cut by a letter": [0xf0, 0x9f, 0x98, 0x41],
  "cut by a lead": [0xe4, 0xb8, 0xe4, 0xb8, 0xad],
};

describe("utf8", () => {
  test.each(Object.entries(broken))("replaces and refuses: %s", (_name, bytes) => {
    const data = Uint8Array.from(bytes);
    expect(decode(data)).toBe(reference.decode(data));
    expect(decode(data)).toContain("\ufffd");
    expect(isValid(data)).toBe(false);
  });

  test("accepts U+FFFD itself, the byte order mark and NUL", () => {
    const data = new TextEncoder().encode("\ufeffa\ufffd\0");
    expect(decode(data)).toBe("\ufeffa\ufffd\0");
    expect(isValid(data)).toBe(true);
  });

  test("nothing is there at the end", () => {
    expect(wasm["utf8Decode"](64, 64)).toBe(0);
    expect(isValid(new Uint8Array(0))).toBe(true);
  });

  test("encodes and decodes every code point as TextEncoder does", () => {
    const instance: Exports = loadWasm("testing");
    const address: number = instance["allocate"](4);
    const view = new Uint8Array(instance.memory.buffer, address, 4);
    const encoder = new TextEncoder();
    const expected = new Uint8Array(4);
    let wrong = 0;
    for (let codePoint = 0; codePoint < 0x110000; codePoint++) {
      // A lone surrogate becomes U+FFFD in both.
      const scalar = codePoint >= 0xd800 && codePoint < 0xe000 ? 0xfffd : codePoint;
      const length: number = instance["utf8Encode"](codePoint, address);
      const { written } = encoder.encodeInto(String.fromCodePoint(scalar), expected);
      if (length !== written || view.subarray(0, length).some((byte, i) => byte !== expected[i])) wrong++;
      if (instance["utf8Decode"](address, address + length) >>> 0 !== ((length << 24) | scalar) >>> 0) wrong++;
    }
    expect(wrong).toBe(0);
    expect(instance["utf8Encode"](0x110000, address)).toBe(3);
    expect([...view.subarray(0, 3)]).toEqual([0xef, 0xbf, 0xbd]);
  });

  const nearUtf8 = fc
    .array(
      fc.oneof(
        fc.uint8Array({ maxLength: 3 }),
        fc.string({ unit: "binary", maxLength: 3 }).map((text) => new TextEncoder().encode(text)),
        fc.constantFrom(...Object.values(broken)).map((bytes) => Uint8Array.from(bytes)),
      ),
      { maxLength: 12 },
    )
    .map((parts) => Uint8Array.from(parts.flatMap((part) => [...part])));

  test("any bytes: decodes and judges as TextDecoder does", () => {
    fc.assert(
      fc.property(nearUtf8, (bytes) => {
        expect(decode(bytes)).toBe(reference.decode(bytes));
        expect(isValid(bytes)).toBe(isStrictlyValid(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  test("any bytes: backwards finds the same code points where they are valid", () => {
    fc.assert(
      fc.property(nearUtf8, (bytes) => {
        const base: number = wasm["arenaTop"]();
        const start = put(wasm, bytes);
        const end = start + bytes.length;
        const forward = new Map<number, number>();
        for (let at = start; at < end;) {
          const decoded: number = wasm["utf8Decode"](at, end) >>> 0;
          at += decoded >>> 24;
          if ((decoded & 0x1fffff) !== 0xfffd) forward.set(at, decoded);
        }
        for (let at = end; at > start; at--) {
          const decoded: number = wasm["utf8DecodeBefore"](start, at) >>> 0;
          if (forward.has(at)) expect(decoded).toBe(forward.get(at));
          else if ((decoded & 0x1fffff) !== 0xfffd) expect.fail(`a code point ends at ${at - start} only backwards`);
        }
        wasm["arenaRelease"](base);
      }),
      { numRuns: 2000 },
    );
  });
});
