// trainer.wasm in this process: the only file that touches the module and its memory. Copies
// bytes in and out for trainer.ts and calibrator.ts, which call its functions.
import { EdgelabelError } from "../errors.ts";
import { instantiate } from "@assemblyscript/loader";
import { ABI_VERSION, TEXT_CAPACITY } from "../../assembly/abi.ts";
import type { __AdaptedExports as TrainerExports } from "#build/trainer.js";
import { readArtefact } from "../artefact.ts";
import { withNamedTraps } from "../model/status.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export class TrainerModule {
  readonly exports: typeof TrainerExports;

  private constructor(exports: typeof TrainerExports) {
    this.exports = exports;
  }

  /** A fresh instance. `source` names its model in errors. */
  static async start(source: string): Promise<TrainerModule> {
    const { exports } = await instantiate<typeof TrainerExports>(await readArtefact("trainer.wasm"), {});
    const version = exports.abiVersion();
    if (version !== ABI_VERSION)
      throw new EdgelabelError(
        `trainer.wasm speaks ABI ${version}, this edgelabel ${ABI_VERSION}; build again`,
        "bad_abi",
      );
    return new TrainerModule(withNamedTraps(exports as unknown as typeof TrainerExports, source));
  }

  /** Writes a file to the address that `reserve` gives for its length, and returns the length. `source` names it in errors. */
  putFile(bytes: Uint8Array, reserve: (length: number) => number, source: string): number {
    const address = reserve(bytes.length);
    if (address === 0)
      throw new EdgelabelError(`${source}: ${bytes.length} bytes do not fit in WebAssembly memory`, "out_of_memory");
    this.write(address, bytes);
    return bytes.length;
  }

  /** Writes a text to `address` as UTF-8, and returns its length in bytes. `subject` names it in errors. */
  putText(address: number, text: string | Uint8Array, subject: string, most = TEXT_CAPACITY): number {
    const bytes = typeof text === "string" ? encoder.encode(text) : text;
    if (bytes.length > most)
      throw new EdgelabelError(`${subject}: ${bytes.length} bytes, but at most ${most} are allowed`, "text_too_long");
    this.write(address, bytes);
    return bytes.length;
  }

  text(address: number, length: number): string {
    return decoder.decode(this.bytes(address, length));
  }

  /** Texts by their number, from 0. */
  texts(count: number, address: (index: number) => number, length: (index: number) => number): string[] {
    return Array.from({ length: count }, (_, i) => this.text(address(i), length(i)));
  }

  write(address: number, bytes: Uint8Array): void {
    this.bytes(address, bytes.length).set(bytes);
  }

  /** A view, like the next ones. Do not keep it: growing memory detaches it. */
  bytes(address: number, length: number): Uint8Array {
    return new Uint8Array(this.exports.memory.buffer, address, length);
  }

  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.exports.memory.buffer, address, length);
  }

  doubles(address: number, length: number): Float64Array {
    return new Float64Array(this.exports.memory.buffer, address, length);
  }

  fields(address: number): DataView {
    return new DataView(this.exports.memory.buffer, address);
  }
}
