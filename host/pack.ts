// Engine + model -> one deployable .wasm, and back. The model becomes one more data
// segment at the engine's arena base, where loadEmbedded looks for it, and the minimum
// size of the memory grows to hold it; nothing else in the module changes. This file knows
// the WebAssembly binary format (sections, LEB128), but not the format of a model.
import { readFile } from "node:fs/promises";
import { FORMAT_MAGIC } from "../assembly/abi.ts";
import { artefactPath } from "./artefact.ts";
import { Engine } from "./engine.ts";
import { UserError } from "./errors.ts";

const WASM_MAGIC = [0x00, 0x61, 0x73, 0x6d];
const MODEL_MAGIC = [0, 8, 16, 24].map((shift) => (FORMAT_MAGIC >>> shift) & 0xff);
const PREAMBLE_BYTES = 8;
const PAGE_BYTES = 65536;
const SECTION_MEMORY = 5;
const SECTION_DATA = 11;
const SECTION_DATA_COUNT = 12;
const OPCODE_I32_CONST = 0x41;
const OPCODE_END = 0x0b;

interface Section {
  id: number;
  body: Uint8Array;
}

export function isWasm(bytes: Uint8Array): boolean {
  return WASM_MAGIC.every((byte, i) => bytes[i] === byte);
}

/** A deployable .wasm of this build's engine and the .elb file `model`. */
export async function packModel(model: Uint8Array): Promise<Uint8Array> {
  const engine = await readFile(artefactPath("engine.wasm"));
  const address = await Engine.modelAddress(engine);
  const sections = readSections(engine, "engine.wasm").map(({ id, body }) => {
    if (id === SECTION_MEMORY) return { id, body: withLeastMemory(body, address + model.length) };
    if (id === SECTION_DATA_COUNT) return { id, body: unsigned(readUnsigned(body, 0).value + 1) };
    if (id === SECTION_DATA) return { id, body: withSegment(body, address, model) };
    return { id, body };
  });
  return concat([engine.subarray(0, PREAMBLE_BYTES), ...sections.flatMap(({ id, body }) => [Uint8Array.of(id), unsigned(body.length), body])]);
}

/** The .elb file inside a deployable. */
export function unpackModel(wasm: Uint8Array, source: string): Uint8Array {
  const data = readSections(wasm, source).find(({ id }) => id === SECTION_DATA)?.body;
  if (data) {
    const count = readUnsigned(data, 0);
    let at = count.end;
    for (let i = 0; i < count.value; i++) {
      // Active segments of memory 0 only: flag 0, i32.const address, end, length, bytes.
      if (data[at] !== 0 || data[at + 1] !== OPCODE_I32_CONST) break;
      at = readUnsigned(data, at + 2).end;
      if (data[at] !== OPCODE_END) break;
      const length = readUnsigned(data, at + 1);
      const bytes = data.subarray(length.end, length.end + length.value);
      if (MODEL_MAGIC.every((byte, k) => bytes[k] === byte)) return bytes;
      at = length.end + length.value;
    }
  }
  throw new UserError(`${source}: holds no model; pack one with: edgelabel pack MODEL.elb -o MODEL.wasm`);
}

function readSections(wasm: Uint8Array, source: string): Section[] {
  if (!isWasm(wasm)) throw new UserError(`${source}: not a WebAssembly module`);
  const sections: Section[] = [];
  for (let at = PREAMBLE_BYTES; at < wasm.length;) {
    const size = readUnsigned(wasm, at + 1);
    if (size.end + size.value > wasm.length) throw new UserError(`${source}: a section runs past the end of the file; it is cut off`);
    sections.push({ id: wasm[at]!, body: wasm.subarray(size.end, size.end + size.value) });
    at = size.end + size.value;
  }
  return sections;
}

/** One memory, with or without a maximum, whose minimum covers `bytes`. */
function withLeastMemory(body: Uint8Array, bytes: number): Uint8Array {
  const flags = body[1]!;
  const least = readUnsigned(body, 2);
  const pages = Math.max(least.value, Math.ceil(bytes / PAGE_BYTES));
  return concat([Uint8Array.of(1, flags), unsigned(pages), body.subarray(least.end)]);
}

function withSegment(body: Uint8Array, address: number, bytes: Uint8Array): Uint8Array {
  const count = readUnsigned(body, 0);
  return concat([
    unsigned(count.value + 1), body.subarray(count.end),
    Uint8Array.of(0, OPCODE_I32_CONST), signed(address), Uint8Array.of(OPCODE_END), unsigned(bytes.length), bytes,
  ]);
}

function readUnsigned(bytes: Uint8Array, at: number): { value: number; end: number } {
  let value = 0;
  for (let shift = 0; shift < 35; shift += 7, at++) {
    const byte = bytes[at];
    if (byte === undefined) break;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return { value, end: at + 1 };
  }
  throw new UserError("a number in the WebAssembly module is cut off");
}

/** LEB128 of 0 ... 2^32 - 1. */
function unsigned(value: number): Uint8Array {
  const bytes: number[] = [];
  do {
    const low = value % 128;
    value = Math.floor(value / 128);
    bytes.push(value > 0 ? low | 0x80 : low);
  } while (value > 0);
  return Uint8Array.from(bytes);
}

/** Signed LEB128 of a non-negative number: the top bit of the last group must be clear. */
function signed(value: number): Uint8Array {
  const bytes: number[] = [];
  for (;;) {
    const low = value % 128;
    value = Math.floor(value / 128);
    if (value === 0 && low < 64) return Uint8Array.from([...bytes, low]);
    bytes.push(low | 0x80);
  }
}

function concat(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
