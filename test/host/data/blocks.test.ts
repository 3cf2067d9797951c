// Files that are read in blocks of lines give what they give as a whole, wherever they are cut.
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { blocksOf } from "../../../host/data/blocks.ts";
import { type DatasetOptions, parseDataset, type Sample } from "../../../host/data/dataset.ts";
import { fileSize } from "../../../host/files/read.ts";
import { SampleFiles, samplesIn } from "../../../host/data/read.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-blocks-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size);
}

async function outcome(read: () => Promise<Sample[]> | Sample[]): Promise<unknown> {
  try {
    return await read();
  } catch (error) {
    return (error as Error).message;
  }
}

async function inBlocks(
  bytes: Uint8Array,
  source: string,
  options: DatasetOptions,
  size: number,
  least: number,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for await (const part of samplesIn(cut(bytes, size), source, options, least)) samples.push(...part);
  return samples;
}

const FILES: [what: string, source: string, content: string, options?: DatasetOptions][] = [
  ["TSV", "d.tsv", "on\tlight on\noff\tlight off\non\tTür öffnen 🚪\n"],
  ["TSV with a header", "d.tsv", "text\tid\tlabel\nlight on\t1\ton\nlight off\t2\toff\n"],
  ["TSV with a byte order mark, \\r\\n and no last line end", "d.tsv", "\ufeffon\tlight on\r\noff\toff\r\n\r\non\tdim"],
  ["TSV with a mark in a line", "d.tsv", "on\tlight on\n\ufeffoff\toff\n"],
  ["TSV with quotes that are text", "d.tsv", 'on\t"light" on\noff\t"off\non\tdim"\n'],
  ["TSV with faults", "d.tsv", "on\tlight on\nnone\n\tempty\noff\t \noff\ta\tb\noff\ta\rb\n"],
  ["TSV of three columns", "d.tsv", "on\ta\tb\noff\tc\td\n"],
  ["CSV", "d.csv", 'text,label\n"light\non",on\n"say ""off""",off\nöäü,on\n'],
  ["CSV with \\r\\n in fields", "d.csv", 'label,text\r\non,"light\r\n\r\non"\r\noff,"a,b"\r\n'],
  ["CSV with semicolons and a header in quotes", "d.csv", '"la\nbel";"text"\non;light on\noff;"x;\ny"\n', { labelColumn: "la\nbel" }], // prettier-ignore
  ["CSV with Excel's line", "d.csv", 'sep=|\n"label"|"text"\non|"light\non"\n'],
  ["CSV that never closes a quote", "d.csv", 'label,text\non,light\noff,"dark\nx,y\n'],
  ["CSV with faults", "d.csv", 'label,text\non,light,x\noff,a"b\n"on"x,c\non,fine\n'],
  ["CSV with a broken header", "d.csv", 'label"x,text\non,light\n'],
  ["JSON lines", "d.jsonl", '{"text":"light on","label":"on"}\n\n{"label":"off","text":"zeile\\nöß🚪"}\n'],
  ["JSON lines with usual names", "d.jsonl", '{"message":"a","intent":"x","id":1}\n{"intent":"y","message":"b"}'],
  ["JSON lines whose first objects have no label", "d.jsonl", '{"text":"a"}\n{"text":"b"}\n{"text":"c","label":"x"}\n', { skipEmpty: true }], // prettier-ignore
  ["JSON lines without any label", "d.jsonl", '{"text":"a"}\n{"text":"b"}\n'],
  [
    "JSON lines with faults",
    "d.jsonl",
    '{"text":"a","label":"x"}\n{"text":1,"label":"x"}\nnone\n{"text":"","label":"y"}\n',
  ],
  ["a JSON array", "d.json", '\n[\n{"text":"a",\n"label":"x"},\n{"text":"b","label":"y"}]\n'],
  ["a JSON array by its content", "d.txt", '[{"text":"a","label":"x"},\n{"text":"b","label":"y"}]'],
  ["fastText", "d.ft", "__label__on light on\n__label__off\tdark\r\n__label__on é"],
  ["fastText by its content", "-", "__label__on light on\n__label__off dark\n"],
  ["fastText with faults", "d.ft", "__label__on light on\nlight\n__label__on\n"],
  ["old Mac line ends", "d.tsv", "on\tlight\roff\tdark\r"],
  ["nothing", "d.tsv", ""],
  ["blank lines", "d.csv", "\n\n\n"],
];

describe.each([1, 2, 3, 7, 64])("in parts of %i bytes", (size) => {
  test.each(FILES)("%s", async (_, source, content, options = {}) => {
    const bytes = Buffer.from(content);
    const whole = await outcome(() => parseDataset(bytes, source, options));
    for (const least of [1, 10, 1000])
      expect(await outcome(() => inBlocks(bytes, source, options, size, least))).toEqual(whole);
  });
});

test("what no file says as a whole, and what is not UTF-8 text, is refused in parts, too", async () => {
  const read = (content: Uint8Array, size: number): Promise<unknown> =>
    outcome(() => inBlocks(content, "d.tsv", {}, size, 1));
  const latin = Buffer.from("on\tlight\non\tT\xfcr\noff\tx\n", "latin1");
  for (const size of [1, 5, 100])
    expect(await read(latin, size)).toBe((await outcome(() => parseDataset(latin, "d.tsv"))) as string);
  expect(await read(Buffer.from("on\tx", "utf16le"), 100)).toContain("is full of NUL bytes");
  expect(await read(Buffer.from("\ufeffon\tx", "utf16le"), 1)).toContain("is UTF-16");
});

test("objects that call the text by another name than those before are refused", async () => {
  const lines = Buffer.from('{"message":"a","label":"x"}\n{"text":"b","label":"y"}\n');
  expect(await outcome(() => inBlocks(lines, "d.jsonl", {}, 9, 1))).toBe(
    'd.jsonl: "message" and "text" could both be the text; choose one with --text-column',
  );
});

test("a line may be longer than a block, but not without end", async () => {
  const text = "wort ".repeat(50_000);
  const bytes = Buffer.from(`on\t${text}\noff\tdark\n`);
  expect(await inBlocks(bytes, "d.tsv", {}, 4096, 10_000)).toEqual(parseDataset(bytes, "d.tsv"));
  const read = async (): Promise<void> => {
    for await (const _ of blocksOf(cut(Buffer.from(`a\nb\n${"x".repeat(300)}\n`), 10), "d.tsv", {
      least: 2,
      most: 100,
    }));
  };
  await expect(read()).rejects.toThrow("d.tsv: line 3: longer than 100 bytes");
});

test("blocks have the size that is asked for, and the numbers of their lines", async () => {
  const blocks = [];
  for await (const block of blocksOf(cut(Buffer.from("ab\ncd\nef\ngh"), 4), "x", { least: 5 })) blocks.push(block);
  expect(blocks).toEqual([
    { content: "ab\ncd\n", line: 1 },
    { content: "ef\ngh", line: 3 },
  ]);
});

test("files are read again and again, and what is left out is told once", async () => {
  const paths = ["a.tsv", "b.jsonl"].map((name) => join(folder, name));
  writeFileSync(paths[0]!, "on\tlight\n\tnone\noff\tdark\n");
  writeFileSync(paths[1]!, '{"text":"dim","label":"on"}\n');
  const skipped: unknown[] = [];
  const steps: number[][] = [];
  const files = new SampleFiles(paths, { skipEmpty: true }, {
    onSkipped: (...told) => skipped.push(told),
    onRead: (...told) => steps.push(told),
  }); // prettier-ignore
  const read = async (): Promise<string[]> => {
    const texts: string[] = [];
    for await (const part of files.read()) texts.push(...part.map(({ text }) => text));
    return texts;
  };
  for (let time = 0; time < 2; time++) expect(await read()).toEqual(["light", "dark", "dim"]);
  expect(skipped).toEqual([[1, paths[0]]]);
  expect(steps.slice(0, 3)).toEqual([
    [24, 52],
    [52, 52],
    [52, 52],
  ]);
  appendFileSync(paths[1]!, "none\n");
  await expect(read()).rejects.toThrow(`${paths[1]}: line 2: not valid JSON`);
  expect(await Promise.all([...paths, folder, "/dev/null", join(folder, "none")].map(fileSize))).toEqual([
    24,
    33,
    undefined,
    undefined,
    undefined,
  ]);
});
