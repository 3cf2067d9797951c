// Much at once: blocks of lines, threads, and the order of what comes back.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TEXT_CAPACITY } from "../../../assembly/abi.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import { bulkOf, inOrder, Pool } from "../../../host/model/pool.ts";
import { Seeded, tinyDeployable } from "../../support/models.ts";

const FORMATS = [
  { json: false, top: 0 },
  { json: false, top: 3 },
  { json: true, top: 0 },
];
let bytes: Uint8Array;
let classifier: Classifier;
beforeAll(async () => {
  bytes = await tinyDeployable();
  classifier = await Classifier.fromBytes(bytes, "tiny.wasm");
});

const block = (lines: readonly Uint8Array[]): Uint8Array =>
  Buffer.concat(lines.flatMap((line) => [line, Buffer.from("\n")]));
const oneByOne = (lines: readonly Uint8Array[], format: (typeof FORMATS)[number]): Buffer =>
  Buffer.concat(lines.map((line) => classifier.line(line, format)));

/** Noise, real words, empty lines, returns. */
function linesOf(count: number, seed: number): Uint8Array[] {
  const random = new Seeded(seed);
  const words = ["turn", "the", "lamp", "on", "stop", "music", "打", "\r"];
  return Array.from({ length: count }, (_, i) =>
    i % 3 === 0
      ? Uint8Array.from({ length: random.below(60) }, () => random.below(256)).filter((byte) => byte !== 10)
      : Buffer.from(Array.from({ length: random.below(9) }, () => words[random.below(words.length)]).join(" ")),
  );
}

describe.each(FORMATS)("lines as %o", (format) => {
  test.each([
    ["few", () => linesOf(50, 1)],
    ["none", () => []],
    [
      "empty ones, whose answers fill the memory for answers many times",
      () => linesOf(0, 1).concat(Array(60_000).fill(new Uint8Array(0))),
    ],
    [
      "long ones, on both sides of what is answered at once, and the longest",
      () =>
        [TEXT_CAPACITY / 4 - 2, TEXT_CAPACITY / 4 - 1, TEXT_CAPACITY / 4, TEXT_CAPACITY].flatMap((length) => [
          Buffer.from("lamp on"),
          Buffer.alloc(length, "turn the lamp on "),
          Buffer.from("stop the music"),
        ]),
    ],
  ])("have the bytes that each has by itself: %s", (_, make) => {
    const lines = make();
    const answers = classifier.lines(block(lines), format);
    expect(Buffer.concat(answers).equals(oneByOne(lines, format))).toBe(true);
  });
});

describe("a pool", () => {
  let pool: Pool;
  beforeAll(() => {
    pool = new Pool(2, { bytes, source: "tiny.wasm" });
  });
  afterAll(() => pool.stop());

  test("answers blocks and texts as one thread does, in the order of the questions", async () => {
    const blocks = Array.from({ length: 9 }, (_, i) => linesOf(i === 0 ? 5000 : 20, i));
    const answers: Buffer[] = [];
    for await (const parts of inOrder(each(blocks), pool.most, (lines) => pool.lines(block(lines), FORMATS[1]!)))
      answers.push(Buffer.concat(parts));
    expect(answers.map((answer, i) => answer.equals(oneByOne(blocks[i]!, FORMATS[1]!)))).toEqual(Array(9).fill(true));
    const texts = ["turn the lamp on", "stop\nthe music", ""];
    expect(await pool.texts(texts)).toEqual(await bulkOf(classifier).texts(texts));
  });

  test("gives the error of a thread to all that is asked of it", async () => {
    const broken = new Pool(1, { bytes: bytes.subarray(0, 100), source: "cut.wasm" });
    const asked = [broken.texts(["a"]), broken.texts(["b"])];
    for (const question of asked) await expect(question).rejects.toThrow("cut.wasm");
    await expect(broken.texts(["c"])).rejects.toThrow("cut.wasm");
    await broken.stop();
  });
});

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

/** A promise with its ends. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let ends!: { resolve: (value: T) => void; reject: (error: Error) => void };
  const promise = new Promise<T>((resolve, reject) => (ends = { resolve, reject }));
  return { promise, ...ends };
}

describe("in order", () => {
  test("the first result comes first, even if it is ready last; so many are at work", async () => {
    const work = Array.from({ length: 4 }, () => deferred<string>());
    const begun: number[] = [];
    const results = inOrder(each([0, 1, 2, 3]), 3, (i) => {
      begun.push(i);
      return work[i]!.promise;
    });
    const first = results.next();
    work[2]!.resolve("c");
    work[1]!.resolve("b");
    await new Promise(setImmediate);
    expect(begun).toEqual([0, 1, 2]);
    work[0]!.resolve("a");
    expect(await first).toEqual({ done: false, value: "a" });
    work[3]!.resolve("d");
    const rest: string[] = [];
    for await (const result of results) rest.push(result);
    expect(rest).toEqual(["b", "c", "d"]);
  });

  test("a result is there before the next item is, which may never come", async () => {
    const input = (async function* () {
      yield "a";
      await new Promise(() => {});
    })();
    const results = inOrder(input, 8, async (item) => item.toUpperCase());
    expect(await results.next()).toEqual({ done: false, value: "A" });
    // Nor does it wait for that item when it is left.
    expect(await results.return()).toEqual({ done: true, value: undefined });
  });

  test("what came before an error of the items comes before it; an error of the work comes in its turn", async () => {
    const input = async function* () {
      yield "a";
      yield "b";
      throw new Error("no more");
    };
    const seen: string[] = [];
    const collect = async (work: (item: string) => Promise<string>): Promise<void> => {
      for await (const result of inOrder(input(), 8, work)) seen.push(result);
    };
    await expect(collect(async (item) => item)).rejects.toThrow("no more");
    expect(seen.splice(0)).toEqual(["a", "b"]);
    await expect(
      collect(async (item) => {
        if (item === "b") throw new Error("not b");
        await new Promise(setImmediate);
        return item;
      }),
    ).rejects.toThrow("not b");
    expect(seen).toEqual(["a"]);
  });
});
