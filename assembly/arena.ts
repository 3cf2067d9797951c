// The one allocator: a bump arena from the end of the static data upward.
//
//   | static data | model file | tables, states, scratch ... | free to the end of memory |
//   0             __heap_base                               top
//
// Blocks are 16-byte aligned. Memory grows here and nowhere else, and only while
// a model is being loaded or a training set up: classifying never allocates.

let top: usize = 0;

/** First address of the arena; a packed model's data segment lies here. */
export function arenaBase(): usize {
  return (__heap_base + 15) & ~15;
}

/** Frees everything at `address` and above it. */
export function arenaRelease(address: usize): void {
  top = address;
}

/** First free address. */
export function arenaTop(): usize {
  if (top == 0) top = arenaBase();
  return top;
}

/** Claims `bytes` bytes without zeroing them, or returns 0 when memory is refused. */
export function claim(bytes: usize): usize {
  const address = arenaTop();
  if (bytes > 0x7fff0000 - address) return 0;
  const end = (address + bytes + 15) & ~15;
  const missing = <i32>((end + 0xffff) >>> 16) - memory.size();
  if (missing > 0 && memory.grow(missing) < 0) return 0;
  top = end;
  return address;
}

/** Claims `bytes` zeroed bytes, or returns 0 when memory is refused. */
export function allocate(bytes: usize): usize {
  const before = memory.size();
  const address = claim(bytes);
  if (address == 0) return 0;
  // Pages that memory.grow has just added are zero, and take no physical memory
  // until they are touched; only the memory that was there before is cleared.
  const old = (<usize>before) << 16;
  const end = arenaTop();
  if (address < old) memory.fill(address, 0, min(end, old) - address);
  return address;
}
