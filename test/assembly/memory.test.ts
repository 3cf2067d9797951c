// Memory after loading: it does not grow, nothing is written where it does not belong, and
// the module asks its host for nothing but the five functions of its command line.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { ERR_TEXT_TOO_LONG, OK, TEXT_CAPACITY } from "../../assembly/abi.ts";
import { Seeded, samples, trainTiny } from "../support/models.ts";
import { type Exports, loadWasm } from "../support/wasm.ts";

const ENGINE_BYTES = 96 * 1024;
const engineFile = new URL("../../build/engine.wasm", import.meta.url);

let elb: Uint8Array;
beforeAll(async () => {
  elb = (await trainTiny()).write("int8");
});

function load(bytes: Uint8Array, name: "engine" | "testing" = "engine"): { wasm: Exports; address: number } {
  const wasm = loadWasm(name);
  const address = wasm["reserveModel"](bytes.length) as number;
  new Uint8Array(wasm.memory.buffer, address, bytes.length).set(bytes);
  expect(wasm["loadModel"](bytes.length)).toBe(OK);
  return { wasm, address };
}

test("100,000 classifications leave memory as large, and the model as it was", () => {
  const { wasm, address } = load(elb);
  const digest = () =>
    createHash("sha256")
      .update(new Uint8Array(wasm.memory.buffer, address, elb.length))
      .digest("hex");
  const before = { bytes: wasm.memory.buffer.byteLength, digest: digest() };
  const random = new Seeded(3);
  const texts = [
    ...samples.map(({ text }) => Buffer.from(text)),
    Buffer.alloc(0),
    Buffer.from("unseen wörds 你好世界 ".repeat(20)),
    ...Array.from({ length: 50 }, () =>
      Buffer.from(Uint8Array.from({ length: random.below(300) }, () => random.below(256))),
    ),
  ];
  for (let i = 0; i < 100_000; i++) {
    const text = texts[i % texts.length]!;
    new Uint8Array(wasm.memory.buffer, wasm["textPtr"](), text.length).set(text);
    if (wasm["classify"](text.length) !== OK || wasm["renderLine"](i & 1, 0) === 0)
      throw new Error(`text ${i % texts.length} fails`);
  }
  expect({ bytes: wasm.memory.buffer.byteLength, digest: digest() }).toEqual(before);
});

test("a text fills its buffer to the last byte; nothing is written beside the engine's own blocks", () => {
  const { wasm, address } = load(elb, "testing");
  expect(wasm["prepareLine"]()).toBe(1);
  wasm.memory.grow(1);
  const at = wasm["textPtr"]() as number;
  const scoresAt = wasm["scoresPtr"]() as number;
  const lineAt = wasm["linePtr"]() as number;
  // | static data | model | plan ... | text | scores | line | order | free
  expect([address < at, scoresAt === at + TEXT_CAPACITY, lineAt > scoresAt]).toEqual([true, true, true]);
  const behindScores = scoresAt + 16 * Math.ceil(wasm["labelCount"]() / 4);
  const free = wasm["arenaTop"]() as number;
  const memory = new Uint8Array(wasm.memory.buffer);
  expect(free).toBeLessThan(memory.length);
  const guarded = [
    [0, address],
    [address, address + elb.length],
    [behindScores, lineAt],
    [free, memory.length],
  ] as const;
  memory.fill(0xa5, free);
  const before = guarded.map(([from, to]) => memory.slice(from, to));
  const random = new Seeded(5);
  const texts = [
    new Uint8Array(TEXT_CAPACITY).fill(0x61),
    new Uint8Array(TEXT_CAPACITY).fill(0xff),
    new Uint8Array(TEXT_CAPACITY).fill(0x20),
    Buffer.alloc(TEXT_CAPACITY, "\u4e2d\u{1f600}a "),
    Uint8Array.from({ length: TEXT_CAPACITY }, () => random.below(256)),
    new Uint8Array(0),
  ];
  for (const text of texts) {
    memory.set(text, at);
    expect(wasm["classify"](text.length)).toBe(OK);
    for (const json of [false, true]) expect(wasm["renderLine"](json, 0)).toBeGreaterThan(0);
    expect(wasm["renderCard"]()).toBeGreaterThan(0);
    expect(Buffer.compare(memory.subarray(at, at + text.length), text)).toBe(0);
    guarded.forEach(([from, to], i) =>
      expect(`${i}: ${Buffer.compare(memory.subarray(from, to), before[i]!)}`).toBe(`${i}: 0`),
    );
  }
  expect(wasm.memory.buffer.byteLength).toBe(memory.length);
  expect(wasm["classify"](TEXT_CAPACITY + 1)).toBe(ERR_TEXT_TOO_LONG);
});

test("a second model takes the place of the first", async () => {
  const { wasm } = load(elb);
  const first = wasm.memory.buffer.byteLength;
  const other = (await trainTiny({ units: 5, seed: 2 })).write("int8");
  for (let i = 0; i < 20; i++) {
    const bytes = i & 1 ? elb : other;
    new Uint8Array(wasm.memory.buffer, wasm["reserveModel"](bytes.length), bytes.length).set(bytes);
    expect(wasm["loadModel"](bytes.length)).toBe(OK);
  }
  expect(wasm.memory.buffer.byteLength).toBe(first);
});

describe("the module", () => {
  const bytes = readFileSync(engineFile);
  const module = new WebAssembly.Module(bytes);

  test("is small", () => expect(bytes.length).toBeLessThanOrEqual(ENGINE_BYTES));

  test("imports five WASI functions", () => {
    expect(
      WebAssembly.Module.imports(module)
        .map((entry) => `${entry.module}.${entry.name}`)
        .sort(),
    ).toEqual(
      ["args_get", "args_sizes_get", "fd_read", "fd_write", "proc_exit"].map(
        (name) => `wasi_snapshot_preview1.${name}`,
      ),
    );
  });

  test("exports what assembly/index.ts names", () => {
    const source = readFileSync(new URL("../../assembly/index.ts", import.meta.url), "utf8");
    const passed = [...source.matchAll(/export \{([^}]*)\}/g)].flatMap(([, names]) =>
      names!.split(",").map((name) =>
        name
          .trim()
          .split(/\s+as\s+/)
          .at(-1)!,
      ),
    );
    const own = [...source.matchAll(/export function (\w+)/g)].map(([, name]) => name!);
    const names = WebAssembly.Module.exports(module).map(({ name }) => name);
    expect(names.filter((name) => name !== "memory").sort()).toEqual([...passed, ...own].filter(Boolean).sort());
  });
});
