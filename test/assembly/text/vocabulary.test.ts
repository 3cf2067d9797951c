import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ERR_BAD_VOCABULARY, MAX_ROWS, MAX_WORD_BYTES, OK } from "../../../assembly/abi.ts";
import { type Exports, loadWasm, put } from "../../support/wasm.ts";

const VOCABULARY_BYTES = 64;
const encoder = new TextEncoder();

function build(wasm: Exports, words: (string | Uint8Array)[]): { status: number; self: number } {
  const list = words.map((word) => (typeof word === "string" ? encoder.encode(word) : word));
  const offsets = new Uint32Array(list.length + 1);
  list.forEach((word, i) => {
    offsets[i + 1] = offsets[i]! + word.length;
  });
  const bytes = new Uint8Array(offsets[list.length]!);
  list.forEach((word, i) => bytes.set(word, offsets[i]));
  const self: number = wasm["allocate"](VOCABULARY_BYTES);
  return { status: wasm["vocabularyBuild"](self, put(wasm, offsets), put(wasm, bytes), list.length), self };
}

function find(wasm: Exports, self: number, word: string | Uint8Array): number {
  const base: number = wasm["arenaTop"]();
  const bytes = typeof word === "string" ? encoder.encode(word) : word;
  const id: number = wasm["vocabularyFind"](self, put(wasm, bytes), bytes.length);
  wasm["arenaRelease"](base);
  return id;
}

function fnv1a(wasm: Exports, bytes: Uint8Array): number {
  const base: number = wasm["arenaTop"]();
  const hash: number = wasm["fnv1a"](put(wasm, bytes), bytes.length) >>> 0;
  wasm["arenaRelease"](base);
  return hash;
}

describe("vocabulary", () => {
  test("ids count from 1 in the order given; what is absent is 0", () => {
    const wasm = loadWasm("testing");
    const { status, self } = build(wasm, ["the", "a", "中", "don't"]);
    expect(status).toBe(OK);
    expect(
      ["the", "a", "中", "don't", "th", "thea", "", "b", "x".repeat(5000)].map((word) => find(wasm, self, word)),
    ).toEqual([1, 2, 3, 4, 0, 0, 0, 0, 0]);
  });

  test("none at all", () => {
    const wasm = loadWasm("testing");
    const { status, self } = build(wasm, []);
    expect(status).toBe(OK);
    expect(find(wasm, self, "a")).toBe(0);
    expect(find(wasm, self, "")).toBe(0);
  });

  test("words with one and the same hash are told apart", () => {
    const wasm = loadWasm("testing");
    expect(fnv1a(wasm, encoder.encode("costarring"))).toBe(fnv1a(wasm, encoder.encode("liquid")));
    const { status, self } = build(wasm, ["costarring", "x", "liquid"]);
    expect(status).toBe(OK);
    expect(["costarring", "liquid", "x"].map((word) => find(wasm, self, word))).toEqual([1, 3, 2]);
  });

  test("refuses repeated, empty and over-long words, and too many", () => {
    const status = (words: (string | Uint8Array)[]) => build(loadWasm("testing"), words).status;
    expect(status(["a", "b", "a"])).toBe(ERR_BAD_VOCABULARY);
    expect(status(["a", ""])).toBe(ERR_BAD_VOCABULARY);
    expect(status(["x".repeat(MAX_WORD_BYTES)])).toBe(OK);
    expect(status(["x".repeat(MAX_WORD_BYTES + 1)])).toBe(ERR_BAD_VOCABULARY);
    const wasm = loadWasm("testing");
    expect(wasm["vocabularyBuild"](wasm["allocate"](VOCABULARY_BYTES), 64, 64, MAX_ROWS)).toBe(ERR_BAD_VOCABULARY);
  });

  test("refuses a list made of collisions instead of building it for hours", () => {
    // Pairs of blocks with equal hashes, chained: block i leads from one state to the next whichever of the two is taken.
    const step = (hash: number, byte: number) => Math.imul(hash ^ byte, 0x01000193) >>> 0;
    let state = 0x811c9dc5;
    const pairs: [number[], number[]][] = [];
    // Eight bytes that look random: some 80,000 of them hold a pair.
    const block = (n: number) =>
      [0x85ebca6b, 0xc2b2ae35].flatMap((factor) => {
        const mixed = Math.imul(n ^ (n >>> 7), factor);
        return [mixed & 0xff, (mixed >> 8) & 0xff, (mixed >> 16) & 0xff, mixed >>> 24];
      });
    for (let i = 0; i < 11; i++) {
      const seen = new Map<number, number>();
      for (let n = 0; ; n++) {
        const hash = block(n).reduce(step, state);
        const other = seen.get(hash);
        if (other !== undefined) {
          pairs.push([block(other), block(n)]);
          state = hash;
          break;
        }
        seen.set(hash, n);
      }
    }
    const words = Array.from({ length: 2 ** pairs.length }, (_, n) =>
      Uint8Array.from(pairs.flatMap((pair, i) => pair[(n >> i) & 1]!)),
    );
    const wasm = loadWasm("testing");
    expect(new Set(words.slice(0, 64).map((word) => fnv1a(wasm, word))).size).toBe(1);
    expect(build(wasm, words.slice(0, 1000)).status).toBe(OK);
    expect(build(wasm, words).status).toBe(ERR_BAD_VOCABULARY);
  });

  test("a large vocabulary of near-equal words", () => {
    const wasm = loadWasm("testing");
    const words = Array.from({ length: 200_000 }, (_, i) => `w${i}`);
    const { status, self } = build(wasm, words);
    expect(status).toBe(OK);
    for (let i = 0; i < words.length; i += 997) expect(find(wasm, self, words[i]!)).toBe(i + 1);
    for (let i = 0; i < 1000; i++) expect(find(wasm, self, `w${200_000 + i}`)).toBe(0);
  });

  test("any words: as a Map", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b", "é", "中", "\0"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.uniqueArray(word, { maxLength: 60 }), fc.array(word, { maxLength: 20 }), (words, others) => {
        const wasm = loadWasm("testing");
        const { status, self } = build(wasm, words);
        expect(status).toBe(OK);
        for (const other of [...words, ...others]) expect(find(wasm, self, other)).toBe(words.indexOf(other) + 1);
      }),
      { numRuns: 300 },
    );
  });
});
