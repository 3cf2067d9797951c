// Loads hostile files into the deployed engine and sees to what must hold of each: a status,
// little memory before it is accepted, and answers from whatever was accepted.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as abi from "../../assembly/abi.ts";
import { defects } from "./model-file.ts";
import type { Exports } from "./wasm.ts";

/** What a reader may claim before it has accepted a file, beside the file itself: see FORMAT.md, Conventions. */
const MEMORY_BEFORE_ACCEPTED = 4 * 2 ** 20;
const PAGE = 65536;

const constants = abi as unknown as Record<string, number>;
export const nameOf = (status: number): string =>
  Object.keys(constants).find((name) => /^(OK|ERR_)/.test(name) && constants[name] === status) ?? `status ${status}`;
export const documented = new Set(["OK", ...defects.map(({ status }) => status)]);

export const engineBytes = readFileSync(fileURLToPath(new URL("../../build/engine.wasm", import.meta.url)));
export const engineModule = new WebAssembly.Module(engineBytes);

export function start(module: WebAssembly.Module): Exports {
  const refuse = (): number => 52;
  const imports = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, refuse]));
  return new WebAssembly.Instance(module, { wasi_snapshot_preview1: imports }).exports as Exports;
}

/** Texts that every accepted file must answer. */
export const samples = [
  "",
  "hi",
  "turn on the light",
  "\u0000\u{1f600} 今天 hihihihihihihihihi <b>www.a.bc</b> 1234567",
];

/** Loads files into one instance, and into a fresh one after a file that took much memory. */
export class Loader {
  #engine: Exports = start(engineModule);
  readonly counts = new Map<string, number>();
  /** Of the last file, in milliseconds: the time to load it, or the longest of its answers. */
  ms = 0;
  /** Of the last file when it was accepted: output lines, text and JSON in turn, "" for numbers that overflow. */
  lines: string[] = [];

  load(file: Uint8Array): string {
    const engine = this.#engine;
    const address: number = engine["reserveModel"](file.length);
    if (address === 0) throw new Error(`no memory for ${file.length} bytes`);
    new Uint8Array(engine.memory.buffer).set(file, address);
    const since = performance.now();
    const status = nameOf(engine["loadModel"](file.length));
    this.ms = performance.now() - since;
    this.counts.set(status, (this.counts.get(status) ?? 0) + 1);
    if (status === "OK") {
      this.#classify(engine);
      if (Buffer.compare(new Uint8Array(engine.memory.buffer, address, file.length), file) !== 0)
        throw new Error("the file in memory has changed");
      if (engine.memory.buffer.byteLength > MEMORY_BEFORE_ACCEPTED) this.#engine = start(engineModule);
    } else {
      if (engine["textPtr"]() !== 0) throw new Error(`a text buffer is offered after ${status}`);
      if (engine["classify"](0) !== abi.ERR_NO_MODEL) throw new Error(`classify works after ${status}`);
      const bytes = engine.memory.buffer.byteLength;
      if (status === "ERR_OUT_OF_MEMORY") this.#engine = start(engineModule);
      else if (bytes > address + 2 * file.length + MEMORY_BEFORE_ACCEPTED + PAGE)
        throw new Error(`${bytes} bytes of memory for a file of ${file.length} bytes that was refused with ${status}`);
    }
    return status;
  }

  /** Whatever was accepted must also answer. */
  #classify(engine: Exports): void {
    const before = engine.memory.buffer.byteLength;
    this.lines = [];
    for (const sample of samples) {
      const { written } = new TextEncoder().encodeInto(
        sample,
        new Uint8Array(engine.memory.buffer, engine["textPtr"](), 256),
      );
      const since = performance.now();
      const status: number = engine["classify"](written);
      this.ms = Math.max(this.ms, performance.now() - since);
      if (status !== abi.OK && status !== abi.ERR_NOT_FINITE) throw new Error(`classify returns ${nameOf(status)}`);
      if (status !== abi.OK) {
        this.lines.push("");
        continue;
      }
      const scores = new Float32Array(engine.memory.buffer, engine["scoresPtr"](), engine["labelCount"]());
      if (!scores.every(Number.isFinite)) throw new Error(`scores ${scores.join()}`);
      for (const json of [false, true]) {
        const line = new TextDecoder("utf-8", { fatal: true }).decode(
          new Uint8Array(engine.memory.buffer, engine["linePtr"](), engine["renderLine"](json, 3)),
        );
        if (!line.endsWith("\n") || line.indexOf("\n") !== line.length - 1)
          throw new Error(`line ${JSON.stringify(line)}`);
        if (json) JSON.parse(line);
        this.lines.push(line);
      }
    }
    JSON.parse(
      new TextDecoder().decode(new Uint8Array(engine.memory.buffer, engine["linePtr"](), engine["renderCard"]())),
    );
    if (engine.memory.buffer.byteLength !== before) throw new Error("memory grew while classifying");
  }
}
