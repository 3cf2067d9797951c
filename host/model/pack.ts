// Engine + model -> one deployable .wasm. The model becomes one more data segment at the
// engine's arena base, where loadEmbedded looks for it, and the minimum size of the memory
// grows to hold it; nothing else in the module changes. container.ts takes it out again.
import { readArtefact } from "../artefact.ts";
import { OPCODE_END, OPCODE_I32_CONST, PREAMBLE, SECTION_DATA, readSections, readUnsigned } from "./container.ts";
import { Engine } from "./engine.ts";

const PAGE_BYTES = 65536;
const SECTION_MEMORY = 5;
const SECTION_DATA_COUNT = 12;
const ENGINE = "engine.wasm";

/** A deployable .wasm of this build's engine and the .elb file `model`. */
export async function packModel(model: Uint8Array): Promise<Uint8Array> {
  return concat(await partsOf(model));
}

/** True when `wasm` is what packModel makes of `model`, so that `wasmtime run` computes the same bits as this host. */
export async function isPackedHere(wasm: Uint8Array, model: Uint8Array): Promise<boolean> {
  let at = 0;
  for (const part of await partsOf(model)) {
    for (let i = 0; i < part.length; i++) if (wasm[at + i] !== part[i]) return false;
    at += part.length;
  }
  return at === wasm.length;
}

/** The deployable in pieces, of which the model is one. */
async function partsOf(model: Uint8Array): Promise<Uint8Array[]> {
  const address = await Engine.modelAddress();
  const sections = readSections(await readEngine(), ENGINE).map(({ id, body }) => {
    if (id === SECTION_MEMORY) return { id, parts: withLeastMemory(body, address + model.length) };
    if (id === SECTION_DATA_COUNT) return { id, parts: [unsigned(readUnsigned(body, 0, ENGINE).value + 1)] };
    if (id === SECTION_DATA) return { id, parts: withSegment(body, address, model) };
    return { id, parts: [body] };
  });
  return [
    Uint8Array.from(PREAMBLE),
    ...sections.flatMap(({ id, parts }) => [Uint8Array.of(id), unsigned(lengthOf(parts)), ...parts]),
  ];
}

let engine: Promise<Uint8Array> | undefined;

function readEngine(): Promise<Uint8Array> {
  return (engine ??= readArtefact(ENGINE));
}

/** One memory, with or without a maximum, whose minimum covers `bytes`. */
function withLeastMemory(body: Uint8Array, bytes: number): Uint8Array[] {
  const flags = body[1]!;
  const least = readUnsigned(body, 2, ENGINE);
  const pages = Math.max(least.value, Math.ceil(bytes / PAGE_BYTES));
  return [Uint8Array.of(1, flags), unsigned(pages), body.subarray(least.end)];
}

function withSegment(body: Uint8Array, address: number, bytes: Uint8Array): Uint8Array[] {
  const count = readUnsigned(body, 0, ENGINE);
  return [
    unsigned(count.value + 1),
    body.subarray(count.end),
    Uint8Array.of(0, OPCODE_I32_CONST),
    signed(address),
    Uint8Array.of(OPCODE_END),
    unsigned(bytes.length),
    bytes,
  ];
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

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
