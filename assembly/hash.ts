// Hashes of words, and of lists of row ids, for the hash tables of the engine and the trainer.

/** The initial value of FNV-1a, 32 bits. */
export const FNV_OFFSET: u32 = 0x811c9dc5;

// @ts-ignore: decorator
@inline
export function fnvByte(hash: u32, byte: u32): u32 {
  return (hash ^ byte) * 0x01000193;
}

/** Continues the hash of a text with `length` bytes more. */
export function fnvBytes(hash: u32, address: usize, length: u32): u32 {
  for (let end = address + length; address < end; address++) hash = fnvByte(hash, load<u8>(address));
  return hash;
}

export function fnv1a(address: usize, length: u32): u32 {
  return fnvBytes(FNV_OFFSET, address, length);
}

/** MurmurHash3's finaliser: lets every bit of a hash reach the low ones, which choose the slot. */
export function scatter(hash: u32): u32 {
  hash = (hash ^ (hash >>> 16)) * 0x85ebca6b;
  hash = (hash ^ (hash >>> 13)) * 0xc2b2ae35;
  return hash ^ (hash >>> 16);
}

/** Hash of a list of rows, u32[count]. Its high bits are good; for the low ones, scatter it. */
export function hashRows(rows: usize, count: u32): u32 {
  let hash = FNV_OFFSET ^ count;
  for (const end = rows + ((<usize>count) << 2); rows < end; rows += 4) hash = (hash ^ load<u32>(rows)) * 0x9e3779b1;
  return hash;
}

/** Whether two lists of rows, u32[count], are equal: as memory.compare, which in V8 is a call. */
export function equalRows(a: usize, b: usize, count: u32): bool {
  for (const end = a + ((<usize>count) << 2); a < end; a += 4, b += 4) if (load<u32>(a) != load<u32>(b)) return false;
  return true;
}
