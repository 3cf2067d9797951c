// Float32 tensors by path in, bytes of an HDF5 file out: what Keras expects of model.weights.h5,
// and no more. No pure JavaScript library writes HDF5, and Keras' other store (.npz) needs
// pickled Python objects, which it no longer reads.
// The file has superblock version 0, groups that list their links in the object header, and
// each tensor in one piece.
import type { Tensor } from "./hdf5.ts";

const SUPERBLOCK_BYTES = 96;
const UNDEFINED_ADDRESS = 2n ** 64n - 1n;
const MESSAGE = { dataspace: 1, linkInfo: 2, datatype: 3, link: 6, layout: 8, groupInfo: 10 } as const;
/** IEEE 754 binary32, little-endian. */
const FLOAT32 = [0x11, 0x20, 0x1f, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];

interface Group {
  [name: string]: Group | Tensor;
}

/** `tensors` at different paths such as "layers/dense/vars/0"; names are ASCII. */
export function writeHdf5(tensors: readonly Tensor[]): Uint8Array {
  const root: Group = {};
  for (const tensor of tensors) {
    const names = tensor.path.split("/");
    let group = root;
    for (const name of names.slice(0, -1)) group = (group[name] ??= {}) as Group;
    group[names.at(-1)!] = tensor;
  }
  const file = new File();
  return file.finish(file.addGroup(root));
}

class File {
  readonly #parts: Uint8Array[] = [];
  #length = SUPERBLOCK_BYTES;

  /** Returns its address. */
  addGroup(group: Group): number {
    const links = Object.entries(group).map(([name, item]) => {
      const address = isTensor(item) ? this.#addTensor(item) : this.addGroup(item);
      return message(MESSAGE.link, [1, 0, name.length, ...Buffer.from(name), ...u64(address)]);
    });
    const none = u64(UNDEFINED_ADDRESS);
    return this.#addObject([
      message(MESSAGE.linkInfo, [0, 0, ...none, ...none]),
      message(MESSAGE.groupInfo, [0, 0]),
      ...links,
    ]);
  }

  #addTensor({ shape, values }: Tensor): number {
    const data = this.#add(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return this.#addObject([
      message(MESSAGE.dataspace, [1, shape.length, 0, 0, 0, 0, 0, 0, ...shape.flatMap(u64)]),
      message(MESSAGE.datatype, FLOAT32),
      message(MESSAGE.layout, [3, 1, ...u64(data), ...u64(values.byteLength)]),
    ]);
  }

  #addObject(messages: readonly number[][]): number {
    const body = messages.flat();
    return this.#add(
      Uint8Array.from([1, 0, ...u16(messages.length), ...u32(1), ...u32(body.length), ...u32(0), ...body]),
    );
  }

  #add(bytes: Uint8Array): number {
    const address = this.#length;
    const padding = -bytes.length & 7;
    this.#parts.push(bytes, new Uint8Array(padding));
    this.#length += bytes.length + padding;
    return address;
  }

  finish(root: number): Uint8Array {
    const none = u64(UNDEFINED_ADDRESS);
    const versions = [0, 0, 0, 0, 0, 8, 8, 0, ...u16(4), ...u16(16), ...u32(0)];
    const rootEntry = [...u64(0), ...u64(root), ...u32(0), ...u32(0), ...u64(0), ...u64(0)];
    const superblock = [
      ...Buffer.from("\x89HDF\r\n\x1a\n", "latin1"),
      ...versions,
      ...u64(0),
      ...none,
      ...u64(this.#length),
      ...none,
      ...rootEntry,
    ];
    return Buffer.concat([Uint8Array.from(superblock), ...this.#parts]);
  }
}

function isTensor(item: Group | Tensor): item is Tensor {
  return ArrayBuffer.isView(item["values"]);
}

/** A message of an object header, padded to 8 bytes. */
function message(type: number, content: readonly number[]): number[] {
  const padded = [...content, ...Array.from({ length: -content.length & 7 }, () => 0)];
  return [...u16(type), ...u16(padded.length), 0, 0, 0, 0, ...padded];
}

const u16 = (value: number): number[] => [value & 0xff, value >> 8];
const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)];
const u64 = (value: number | bigint): number[] => [...Buffer.from(new BigUint64Array([BigInt(value)]).buffer)];
