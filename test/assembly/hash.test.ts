import { expect, test } from "vitest";
import { loadWasm, put } from "../support/wasm.ts";

const wasm = loadWasm("testing");

/** FNV-1a's published test vectors (draft-eastlake-fnv, appendix of the reference code). */
test.each([
  ["", 0x811c9dc5],
  ["a", 0xe40c292c],
  ["foobar", 0xbf9cf968],
])("fnv1a of %j", (text, expected) => {
  const bytes = new TextEncoder().encode(text);
  expect(wasm["fnv1a"](put(wasm, bytes), bytes.length) >>> 0).toBe(expected);
});

test("scatter is MurmurHash3's finaliser: its known values", () => {
  expect(wasm["scatter"](0)).toBe(0);
  expect(wasm["scatter"](1) >>> 0).toBe(0x514e28b7);
});

test("lists of rows: equal ones have equal hashes; order, length and each bit count", () => {
  const lists = [[0], [0, 0], [1], [1, 2], [2, 1], [1, 2, 3], [1, 2, 0x80000003], [0x7fffffff, 0xffffffff]];
  const placed = lists.flatMap((list) => [list, list]).map((list) => ({ list, at: put(wasm, Uint32Array.from(list)) }));
  for (const one of placed) {
    for (const other of placed) {
      const isSame = one.list === other.list;
      const length = one.list.length;
      if (length === other.list.length) expect(wasm["equalRows"](one.at, other.at, length)).toBe(isSame ? 1 : 0);
      expect(wasm["hashRows"](one.at, length) === wasm["hashRows"](other.at, other.list.length)).toBe(isSame);
    }
  }
});
