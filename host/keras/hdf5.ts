// Stage 1 of an import: bytes of an HDF5 file in, attributes and float32 tensors
// by path out, read by jsfive. Refuses what Keras never writes (external or
// chunked storage, other element types), tensors larger than the file, and files
// whose structure has loops or is far too large.
import { Dataset, File, Group } from "jsfive";
import { EdgelabelError } from "../errors.ts";

export interface Tensor {
  /** Its path in the file, for messages. */
  path: string;
  shape: readonly number[];
  /** Row-major. */
  values: Float32Array;
}

const SIGNATURE = Buffer.from("\x89HDF\r\n\x1a\n", "latin1");
const MAX_FILE_BYTES = 2 ** 30;
// Far above the few thousand reads that Keras' files need.
const MAX_READS = 50_000;
const MAX_NODE_ENTRIES = 512;
const EXTERNAL_FILES_MESSAGE = 7;

export function isHdf5(bytes: Uint8Array): boolean {
  return bytes.length >= SIGNATURE.length && SIGNATURE.equals(bytes.subarray(0, SIGNATURE.length));
}

export class Hdf5 {
  private readonly source: string;
  private readonly size: number;
  private readonly root: File;

  constructor(bytes: Uint8Array, source: string) {
    if (!isHdf5(bytes)) throw new EdgelabelError(`${source}: not an HDF5 file`);
    if (bytes.length > MAX_FILE_BYTES) throw new EdgelabelError(`${source}: larger than 1 GB`);
    refuseWideIndexes(bytes, source);
    this.source = source;
    this.size = bytes.length;
    const buffer = new CountedBuffer(bytes.length);
    new Uint8Array(buffer).set(bytes);
    this.root = this.guard("/", () => new File(buffer, source));
  }

  /** Names in the group at `path`; none when there is no such group. */
  keys(path: string): string[] {
    const node = this.find(path);
    return node instanceof Group ? this.guard(path, () => node.keys) : [];
  }

  string(path: string, name: string): string | undefined {
    const value = this.attribute(path, name);
    return typeof value === "string" ? value.replace(/\0+$/, "") : undefined;
  }

  /** A list of strings, also in the form NAME0, NAME1 ... that h5py needs above 64 KB. */
  strings(path: string, name: string): string[] | undefined {
    const whole = this.attribute(path, name);
    if (whole !== undefined) return asStrings(whole);
    const parts: string[] = [];
    for (let i = 0; ; i++) {
      const part = this.attribute(path, `${name}${i}`);
      if (part === undefined) return i === 0 ? undefined : parts;
      for (const text of asStrings(part)) parts.push(text);
    }
  }

  tensor(path: string): Tensor {
    const node = this.find(path);
    if (!(node instanceof Dataset)) throw new EdgelabelError(`${this.source}: has no tensor ${JSON.stringify(path)}`);
    const refuse = (reason: string): never => {
      throw new EdgelabelError(`${this.source}: tensor ${JSON.stringify(path)} ${reason}`);
    };
    return this.guard(path, () => {
      if (node.dtype !== "<f4")
        refuse(`has elements of type ${JSON.stringify(node.dtype)}; only float32 ("<f4") can be reproduced`);
      if (node._dataobjects.find_msg_type(EXTERNAL_FILES_MESSAGE).length > 0) refuse("lies in an external file");
      if (node._dataobjects.chunks !== null)
        refuse("is chunked or compressed; save the model the way Keras does by default");
      const shape = [...node.shape];
      const count = shape.reduce((product, length) => product * length, 1);
      if (count * Float32Array.BYTES_PER_ELEMENT > this.size)
        refuse(`claims shape [${shape.join(", ")}], more than the whole file holds`);
      const stored = node.value;
      if (count > 0 && stored[0] === undefined) refuse("has no data in the file");
      return { path, shape, values: Float32Array.from(stored as number[]) };
    });
  }

  private attribute(path: string, name: string): unknown {
    const node = this.find(path);
    if (!(node instanceof Group)) return undefined;
    return this.guard(path, () => {
      // jsfive's warnings about attributes that it cannot read contain raw bytes, which must not reach the terminal.
      const { warn } = console;
      console.warn = () => {};
      try {
        return new Map(Object.entries(node.attrs)).get(name);
      } finally {
        console.warn = warn;
      }
    });
  }

  private find(path: string): Group | Dataset | undefined {
    let node: Group | Dataset = this.root;
    for (const name of path.split("/").filter(Boolean)) {
      if (!(node instanceof Group)) return undefined;
      const group: Group = node;
      const next: Group | Dataset | null = this.guard(path, () => (group.keys.includes(name) ? group.get(name) : null));
      if (next === null) return undefined;
      node = next;
    }
    return node;
  }

  private guard<T>(path: string, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (error instanceof EdgelabelError) throw error;
      // jsfive throws strings for faults that it detects, and TypeErrors and RangeErrors where it fails on damaged data.
      const reason =
        typeof error === "string" ? error : "it is damaged, or uses what Keras does not write, such as external links";
      throw new EdgelabelError(`${this.source}: cannot read ${JSON.stringify(path)}: ${reason}`);
    }
  }
}

/** Ends a loop in a hostile file by counting reads: whenever jsfive reads a structure, it slices its signature or name. */
class CountedBuffer extends ArrayBuffer {
  private reads = 0;

  static override get [Symbol.species](): ArrayBufferConstructor {
    return ArrayBuffer;
  }

  override slice(begin: number, end?: number): ArrayBuffer {
    if (++this.reads > MAX_READS) throw "its structure is larger than any Keras model's, or loops";
    return super.slice(begin, end);
  }
}

/** Refuses index nodes that claim very many children: jsfive would work through them without the reads that are counted. */
function refuseWideIndexes(bytes: Uint8Array, source: string): void {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = view.indexOf("TREE"); at >= 0 && at + 8 <= view.length; at = view.indexOf("TREE", at + 1)) {
    if (view[at + 4] === 0 && view.readUInt16LE(at + 6) > MAX_NODE_ENTRIES) {
      throw new EdgelabelError(
        `${source}: an HDF5 index node claims ${view.readUInt16LE(at + 6)} entries, more than any Keras model needs`,
      );
    }
  }
}

function asStrings(value: unknown): string[] {
  return (Array.isArray(value) ? value : [value]).map((item) => String(item).replace(/\0+$/, ""));
}
