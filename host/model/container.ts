// A deployable .wasm as a container: its bytes -> the model in them. Whoever made the file wrote
// its code too, so none of it is compiled or run here: the model goes into an engine of our own.
// This file knows the WebAssembly binary format (sections, LEB128), but not that of a model.
// The page in web/ uses it too, so it imports nothing of Node.
import { EdgelabelError } from "../errors.ts";
import { FORMAT_MAGIC } from "../../assembly/abi.ts";

/** "\0asm" and version 1. */
export const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const MAGIC_BYTES = 4;
const MODEL_MAGIC = [0, 8, 16, 24].map((shift) => (FORMAT_MAGIC >>> shift) & 0xff);
const SECTION_CUSTOM = 0;
export const SECTION_DATA = 11;
export const OPCODE_I32_CONST = 0x41;
export const OPCODE_END = 0x0b;
/** An engine has about a dozen sections and a hundred data segments. */
const MOST_SECTIONS = 256;
const MOST_SEGMENTS = 4096;

export interface Section {
  id: number;
  body: Uint8Array;
}

export function isWasm(bytes: Uint8Array): boolean {
  return PREAMBLE.slice(0, MAGIC_BYTES).every((byte, i) => bytes[i] === byte);
}

/** The .elb file in the deployable `wasm`, as a view of it. Throws an EdgelabelError; `source` names the file in it. */
export function unpackModel(wasm: Uint8Array, source: string): Uint8Array {
  const data = readSections(wasm, source).find(({ id }) => id === SECTION_DATA)?.body;
  const models = data
    ? readSegments(data, source).filter((bytes) => MODEL_MAGIC.every((byte, i) => bytes[i] === byte))
    : [];
  if (models.length > 1) throw damaged(source, "it holds more than one model");
  if (!models[0])
    throw new EdgelabelError(
      `${source}: holds no model; pack one with: edgelabel pack MODEL.elb -o MODEL.wasm`,
      "no_model",
    );
  return models[0];
}

/** All sections in order, as views of the module; of each kind but custom ones there is at most one. */
export function readSections(wasm: Uint8Array, source: string): Section[] {
  if (PREAMBLE.some((byte, i) => wasm[i] !== byte))
    throw damaged(source, "it is not a WebAssembly module of version 1");
  const sections: Section[] = [];
  for (let at = PREAMBLE.length; at < wasm.length;) {
    if (sections.length === MOST_SECTIONS) throw damaged(source, `it has more than ${MOST_SECTIONS} sections`);
    const id = wasm[at]!;
    const body = readBytes(wasm, at + 1, source);
    if (id !== SECTION_CUSTOM && sections.some((section) => section.id === id))
      throw damaged(source, `it has section ${id} twice`);
    sections.push({ id, body: body.value });
    at = body.end;
  }
  return sections;
}

/** The bytes of each segment. */
function readSegments(data: Uint8Array, source: string): Uint8Array[] {
  const count = readUnsigned(data, 0, source);
  if (count.value > MOST_SEGMENTS) throw damaged(source, `it has more than ${MOST_SEGMENTS} data segments`);
  const segments: Uint8Array[] = [];
  let at = count.end;
  for (let i = 0; i < count.value; i++) {
    // Only what the compiler and pack.ts write: active segments of memory 0, at a constant address.
    if (data[at] !== 0 || data[at + 1] !== OPCODE_I32_CONST)
      throw damaged(source, "it has a data segment of a kind that edgelabel does not write");
    at = readUnsigned(data, at + 2, source).end;
    if (data[at] !== OPCODE_END) throw damaged(source, "the address of a data segment is not a constant");
    const bytes = readBytes(data, at + 1, source);
    segments.push(bytes.value);
    at = bytes.end;
  }
  if (at !== data.length) throw damaged(source, "its data section is longer than its segments");
  return segments;
}

/** A length and that many bytes, as a view. */
function readBytes(bytes: Uint8Array, at: number, source: string): { value: Uint8Array; end: number } {
  const length = readUnsigned(bytes, at, source);
  const end = length.end + length.value;
  if (end > bytes.length) throw damaged(source, "it is cut off, or a length in it is wrong");
  return { value: bytes.subarray(length.end, end), end };
}

/** LEB128 of 0 ... 2^32 - 1, in at most 5 bytes. */
export function readUnsigned(bytes: Uint8Array, at: number, source: string): { value: number; end: number } {
  let value = 0;
  for (let shift = 0; shift < 35; shift += 7, at++) {
    const byte = bytes[at];
    if (byte === undefined) throw damaged(source, "it is cut off, or a length in it is wrong");
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80 && value < 2 ** 32) return { value, end: at + 1 };
  }
  throw damaged(source, "a number in it is too large");
}

function damaged(source: string, defect: string): EdgelabelError {
  return new EdgelabelError(`${source}: not a deployable of edgelabel (${defect})`, "bad_wasm");
}
