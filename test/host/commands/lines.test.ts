// How commands part standard input into lines: by the rules of assembly/wasi.ts.
import { expect, test, vi } from "vitest";
import { TEXT_CAPACITY } from "../../../assembly/abi.ts";
import { linesOf } from "../../../host/commands/lines.ts";

async function collect(chunks: Uint8Array[]): Promise<string[]> {
  const stream = (async function* () {
    yield* chunks;
  })();
  const lines: string[] = [];
  for await (const some of linesOf(stream)) lines.push(...some.map((line) => Buffer.from(line).toString("latin1")));
  return lines;
}

test("lines do not depend on how the stream is cut", async () => {
  const bytes = Buffer.from("a\r\n\nb\rc\r\r\n\xff\n\r\nlast\r", "latin1");
  const expected = ["a\r", "", "b\rc\r\r", "\xff", "\r", "last\r"];
  expect(await collect([bytes])).toEqual(expected);
  expect(await collect([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(expected);
  for (let i = 0; i <= bytes.length; i++)
    expect(await collect([bytes.subarray(0, i), bytes.subarray(i)])).toEqual(expected);
});

test("of nothing there are none", async () => {
  expect(await collect([])).toEqual([]);
  expect(await collect([new Uint8Array(0)])).toEqual([]);
});

test("the lines of a chunk are there before the next chunk is asked for", async () => {
  const asked: string[] = [];
  const stream = (async function* () {
    for (const chunk of ["a\nb\nc", "d\n"]) {
      asked.push(chunk);
      yield Buffer.from(chunk);
    }
  })();
  const { value } = await linesOf(stream).next();
  expect((value as Uint8Array[]).map((line) => Buffer.from(line).toString())).toEqual(["a", "b"]);
  expect(asked).toEqual(["a\nb\nc"]);
});

test.each([
  ["the first line", "", []],
  ["a later line", "x\n", ["x"]],
])("%s is kept whole up to the capacity, and its beginning beyond it, with a note", async (_, before, others) => {
  const note = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    for (const [length, end] of [
      [TEXT_CAPACITY, "\n"],
      [TEXT_CAPACITY, ""],
      [TEXT_CAPACITY + 1, "\n"],
      [TEXT_CAPACITY + 1, ""],
      [TEXT_CAPACITY + 70_000, "\n"],
    ] as const) {
      note.mockClear();
      const bytes = Buffer.from(`${before}${"a".repeat(length)}${end}`);
      const expected = [...others, "a".repeat(TEXT_CAPACITY)];
      // Whole, and in chunks as a pipe gives them.
      expect(await collect([bytes])).toEqual(expected);
      const chunks = Array.from({ length: Math.ceil(bytes.length / 65_536) }, (_, i) =>
        bytes.subarray(65_536 * i, 65_536 * (i + 1)),
      );
      expect(await collect(chunks)).toEqual(expected);
      expect(note.mock.calls.map(([line]) => line)).toEqual(
        length > TEXT_CAPACITY
          ? Array(2).fill(`edgelabel: a line is longer than ${TEXT_CAPACITY} bytes; its beginning was classified\n`)
          : [],
      );
    }
  } finally {
    note.mockRestore();
  }
});

test("a byte order mark counts as bytes of the first line, and is dropped there only", async () => {
  const note = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const [mark, long] = [Buffer.of(0xef, 0xbb, 0xbf), Buffer.alloc(TEXT_CAPACITY, "a")];
  expect(await collect([mark, long])).toEqual(["a".repeat(TEXT_CAPACITY - mark.length)]);
  expect(note).toHaveBeenCalledOnce();
  note.mockRestore();
  expect(await collect([mark, Buffer.from("a\n"), mark])).toEqual(["a", "\xef\xbb\xbf"]);
  expect(await collect([mark])).toEqual([""]);
});

test("what is no text, and carriage returns for line ends, are named", async () => {
  await expect(collect([Buffer.from("\ufeffa\n", "utf16le")])).rejects.toThrow("standard input: is UTF-16");
  await expect(collect([Buffer.from("a\rb")])).rejects.toThrow("uses \\r as line ends");
  await expect(collect([Buffer.from("\rb")])).rejects.toThrow("uses \\r as line ends");
  await expect(collect([Buffer.from("a\rb\r")])).rejects.toThrow("uses \\r as line ends");
  expect(await collect([Buffer.from("a\r")])).toEqual(["a\r"]);
  expect(await collect([Buffer.from("a\nb\rc")])).toEqual(["a", "b\rc"]);
});
