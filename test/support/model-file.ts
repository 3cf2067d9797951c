// Model files seen by the tests: everything known here is read from assembly/FORMAT.md,
// so a test that changes a field also proves that the page says where it lies.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const page = readFileSync(fileURLToPath(new URL("../../assembly/FORMAT.md", import.meta.url)), "utf8");

export interface Field {
  name: string;
  offset: number;
  type: string;
}

/** The rows of the first table under a heading, without its head. */
function table(heading: string): string[][] {
  const start = page.indexOf(`\n## ${heading}\n`);
  if (start < 0) throw new Error(`FORMAT.md has no section "${heading}"`);
  const lines = page.slice(start).split("\n");
  const first = lines.findIndex((line) => line.startsWith("|---"));
  const rows = lines.slice(first + 1);
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith("|")),
    )
    .map((line) =>
      line
        .slice(1, -1)
        .split("|")
        .map((cell) => cell.trim()),
    );
}

function fields(heading: string): Field[] {
  return table(heading).map(([offset, type, name]) => ({ name: name!, offset: Number(offset), type: type! }));
}

export const headerFields = fields("Header");
export const layerFields = fields("Layers");
// The section draws a box first; the table is the one of the settings.
export const settingsFields = fields("Training");
export const defects = table("Defects").map(([defect, status]) => ({ defect: defect!, status: status! }));

/** The file that stands in FORMAT.md as hex. */
export function documentedFile(): Uint8Array {
  const block = /```hex\n([\s\S]*?)```/.exec(page)?.[1];
  if (!block) throw new Error("FORMAT.md has no hex block");
  const bytes = block
    .trimEnd()
    .split("\n")
    .flatMap((line, i) => {
      // What follows the 16 bytes explains them.
      const [, offset, digits] = /^([0-9a-f]{4}): ((?:[0-9a-f]{2} ){15}[0-9a-f]{2}) /.exec(line)!;
      if (Number.parseInt(offset!, 16) !== 16 * i) throw new Error(`FORMAT.md: the hex line ${line} is out of place`);
      return digits!.split(" ").map((digit) => Number.parseInt(digit, 16));
    });
  return Uint8Array.from(bytes);
}

export const HEADER_BYTES = 128;
export const LAYER_BYTES = 32;

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function read(bytes: Uint8Array, at: number, type: string): number {
  return type === "u16"
    ? view(bytes).getUint16(at, true)
    : type === "f32"
      ? view(bytes).getFloat32(at, true)
      : type === "f64"
        ? view(bytes).getFloat64(at, true)
        : view(bytes).getUint32(at, true);
}

export function write(bytes: Uint8Array, at: number, type: string, value: number): void {
  if (type === "u16") view(bytes).setUint16(at, value, true);
  else if (type === "f32") view(bytes).setFloat32(at, value, true);
  else if (type === "f64") view(bytes).setFloat64(at, value, true);
  else view(bytes).setUint32(at, value >>> 0, true);
}

function named(list: Field[], name: string): Field {
  const field = list.find((item) => item.name === name);
  if (!field) throw new Error(`FORMAT.md knows no field "${name}"`);
  return field;
}

export function headerValue(bytes: Uint8Array, name: string): number {
  const { offset, type } = named(headerFields, name);
  return read(bytes, offset, type);
}

export function setHeader(bytes: Uint8Array, name: string, value: number): void {
  const { offset, type } = named(headerFields, name);
  write(bytes, offset, type, value);
}

/** Sets a field of the settings at the beginning of `bytes`. */
export function setSetting(bytes: Uint8Array, name: string, value: number): void {
  const { offset, type } = named(settingsFields, name);
  write(bytes, offset, type, value);
}

export function setLayer(bytes: Uint8Array, index: number, name: string, value: number): void {
  const { offset, type } = named(layerFields, name);
  write(bytes, partAt(bytes, "layers").offset + index * LAYER_BYTES + offset, type, value);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 255]!;
  return ~crc >>> 0;
}

/** Makes the checksum right again. */
export function repair(bytes: Uint8Array): Uint8Array {
  setHeader(bytes, "checksum", crc32(bytes.subarray(named(headerFields, "form").offset)));
  return bytes;
}

export interface Part {
  name: string;
  offset: number;
  length: number;
}

const padded = (length: number): number => Math.ceil(length / 16) * 16;

/** Where the parts of a legal file lie. */
export function parts(bytes: Uint8Array): Part[] {
  const of = (name: string): number => headerValue(bytes, name);
  const lengths: [string, number][] = [
    ["filters", of("filterBytes")],
    ["split", of("splitBytes")],
    ["name", of("nameBytes")],
    ["version", of("versionBytes")],
    ["wordOffsets", 4 * (of("wordCount") + 1)],
    ["words", of("wordBytes")],
    ["labelOffsets", 4 * (of("labelCount") + 1)],
    ["labels", of("labelBytes")],
    ["layers", LAYER_BYTES * of("layerCount")],
    ["weights", of("weightBytes")],
    ["linear", of("linearBytes")],
    ["training", of("trainingBytes")],
  ];
  let offset = HEADER_BYTES;
  return lengths.map(([name, length]) => {
    const part = { name, offset, length };
    offset += padded(length);
    return part;
  });
}

export function partAt(bytes: Uint8Array, name: string): Part {
  return parts(bytes).find((part) => part.name === name)!;
}

const PART_LENGTHS: Record<string, string> = {
  filters: "filterBytes",
  split: "splitBytes",
  name: "nameBytes",
  version: "versionBytes",
  words: "wordBytes",
  labels: "labelBytes",
  weights: "weightBytes",
  linear: "linearBytes",
  training: "trainingBytes",
};

/** A copy in which parts have other bytes; lengths and checksum are made right, counts are the caller's. */
export function withParts(bytes: Uint8Array, replaced: Record<string, Uint8Array>): Uint8Array {
  const pieces = parts(bytes).map(({ name, offset, length }) => ({
    name,
    data: replaced[name] ?? bytes.subarray(offset, offset + length),
  }));
  const whole = new Uint8Array(HEADER_BYTES + pieces.reduce((sum, { data }) => sum + padded(data.length), 0));
  whole.set(bytes.subarray(0, HEADER_BYTES));
  let at = HEADER_BYTES;
  for (const { name, data } of pieces) {
    const field = PART_LENGTHS[name];
    if (field && replaced[name]) setHeader(whole, field, data.length);
    whole.set(data, at);
    at += padded(data.length);
  }
  setHeader(whole, "fileBytes", whole.length);
  return repair(whole);
}

/** Replaces the vocabulary or the labels. */
export function withStrings(bytes: Uint8Array, which: "word" | "label", strings: readonly Uint8Array[]): Uint8Array {
  const offsets = new Uint32Array(strings.length + 1);
  strings.forEach((text, i) => {
    offsets[i + 1] = offsets[i]! + text.length;
  });
  const joined = new Uint8Array(offsets.at(-1)!);
  strings.forEach((text, i) => joined.set(text, offsets[i]));
  const copy = withParts(bytes, { [`${which}Offsets`]: new Uint8Array(offsets.buffer), [`${which}s`]: joined });
  setHeader(copy, `${which}Count`, strings.length);
  return repair(copy);
}
