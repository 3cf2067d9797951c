// A growable block; its address may change when it grows. Used while a training is set up, for
// instance by builder.ts and dataset.ts, and never in a step.
import { allocate, claim } from "../arena";


@unmanaged
export class Growable {
  address: usize;
  bytes: u32; // filled
  capacity: u32;
}

const FIRST_CAPACITY: u32 = 4096;
const MAX_CAPACITY: u32 = 0x40000000;

/** An empty one in new memory; null when memory is refused. */
export function createGrowable(): Growable {
  return changetype<Growable>(allocate(offsetof<Growable>()));
}

/** Makes room for `count` more bytes and returns where they go; 0 when memory is refused. */
export function extend(self: Growable, count: u32): usize {
  if (count > MAX_CAPACITY - self.bytes) return 0;
  const needed = self.bytes + count;
  if (needed > self.capacity) {
    let capacity = max(self.capacity, FIRST_CAPACITY);
    while (capacity < needed) capacity <<= 1;
    // The arena cannot free the old block: others may lie above it.
    const moved = claim(capacity);
    if (!moved) return 0;
    memory.copy(moved, self.address, self.bytes);
    self.address = moved;
    self.capacity = capacity;
  }
  const target = self.address + self.bytes;
  self.bytes = needed;
  return target;
}

/** Makes room for `count` u32 in an empty one, and no more; false when memory is refused. */
export function reserve(self: Growable, count: u64): bool {
  const bytes = count << 2;
  if (bytes > <u64>MAX_CAPACITY) return false;
  if (<u32>bytes <= self.capacity) return true;
  self.address = claim(<usize>bytes);
  self.capacity = <u32>bytes;
  return self.address != 0;
}

/** Appends one u32; false when memory is refused. */
export function appendWord32(self: Growable, value: u32): bool {
  const target = extend(self, 4);
  if (!target) return false;
  store<u32>(target, value);
  return true;
}

/** The u32 at `index`, counted from 0. */
// @ts-ignore: decorator
@inline
export function word32At(self: Growable, index: u32): u32 {
  return load<u32>(self.address + ((<usize>index) << 2));
}
