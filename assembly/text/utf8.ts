// UTF-8, one code point at a time: bytes [at, end) -> code point and number of bytes.
// Broken bytes become U+FFFD as in the WHATWG Encoding Standard, one for each maximal
// part that could be the beginning of a code point. No bytes trap, and none is read at
// `end` or beyond. A byte order mark is a code point like any other.

export const REPLACEMENT: u32 = 0xfffd;

/** Number of bytes that a decoded code point took: 1 ... 4, or 0 at the end. */
// @ts-ignore: decorator
@inline
export function utf8Length(decoded: u32): u32 {
  return decoded >>> 24;
}

// @ts-ignore: decorator
@inline
export function utf8CodePoint(decoded: u32): u32 {
  return decoded & 0x1fffff;
}

// @ts-ignore: decorator
@inline
function decodedAs(codePoint: u32, length: u32): u32 {
  return codePoint | (length << 24);
}

/** True for the first byte of a code point. */
// @ts-ignore: decorator
@inline
export function utf8IsLead(byte: u32): bool {
  return (byte & 0xc0) != 0x80;
}

/** The code point at `at`, packed with its length; 0 when `at` is the end. */
export function utf8Decode(at: usize, end: usize): u32 {
  if (at >= end) return 0;
  const first = <u32>load<u8>(at);
  if (first < 0x80) return decodedAs(first, 1);
  // The bounds of the second byte exclude overlong forms, surrogates and code points above U+10FFFF.
  let lowest: u32 = 0x80;
  let highest: u32 = 0xbf;
  let length: u32 = 0;
  let codePoint: u32 = 0;
  if (first < 0xc2) return decodedAs(REPLACEMENT, 1);
  if (first < 0xe0) {
    length = 2;
    codePoint = first & 0x1f;
  } else if (first < 0xf0) {
    length = 3;
    codePoint = first & 0x0f;
    if (first == 0xe0) lowest = 0xa0;
    else if (first == 0xed) highest = 0x9f;
  } else if (first < 0xf5) {
    length = 4;
    codePoint = first & 0x07;
    if (first == 0xf0) lowest = 0x90;
    else if (first == 0xf4) highest = 0x8f;
  } else return decodedAs(REPLACEMENT, 1);
  for (let i: u32 = 1; i < length; i++) {
    if (at + i >= end) return decodedAs(REPLACEMENT, i);
    const byte = <u32>load<u8>(at + i);
    if (byte < lowest || byte > highest) return decodedAs(REPLACEMENT, i);
    lowest = 0x80;
    highest = 0xbf;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  return decodedAs(codePoint, length);
}

/**
 * The code point that ends at `at` > start, packed with its length. Where the bytes
 * before `at` are broken it is U+FFFD with length 1, whatever the maximal part.
 */
export function utf8DecodeBefore(start: usize, at: usize): u32 {
  let first = at - 1;
  const lowest = at - start > 4 ? at - 4 : start;
  while (first > lowest && !utf8IsLead(load<u8>(first))) first--;
  const decoded = utf8Decode(first, at);
  return <usize>utf8Length(decoded) == at - first ? decoded : decodedAs(REPLACEMENT, 1);
}

/** Writes the 1 ... 4 bytes of a code point at `to`; returns how many. Surrogates and numbers above U+10FFFF become U+FFFD. */
export function utf8Encode(codePoint: u32, to: usize): u32 {
  if (codePoint < 0x80) {
    store<u8>(to, codePoint);
    return 1;
  }
  if (codePoint < 0x800) {
    store<u8>(to, 0xc0 | (codePoint >> 6));
    store<u8>(to, 0x80 | (codePoint & 0x3f), 1);
    return 2;
  }
  if (codePoint > 0x10ffff || (codePoint & 0xfffff800) == 0xd800) codePoint = REPLACEMENT;
  if (codePoint < 0x10000) {
    store<u8>(to, 0xe0 | (codePoint >> 12));
    store<u8>(to, 0x80 | ((codePoint >> 6) & 0x3f), 1);
    store<u8>(to, 0x80 | (codePoint & 0x3f), 2);
    return 3;
  }
  store<u8>(to, 0xf0 | (codePoint >> 18));
  store<u8>(to, 0x80 | ((codePoint >> 12) & 0x3f), 1);
  store<u8>(to, 0x80 | ((codePoint >> 6) & 0x3f), 2);
  store<u8>(to, 0x80 | (codePoint & 0x3f), 3);
  return 4;
}

/** Whether all bytes are valid UTF-8. */
export function utf8IsValid(address: usize, length: usize): bool {
  const end = address + length;
  while (address < end) {
    const decoded = utf8Decode(address, end);
    // U+FFFD itself is EF BF BD; a broken part that begins with EF is shorter.
    const isReplacement = utf8CodePoint(decoded) == REPLACEMENT;
    if (isReplacement && (load<u8>(address) != 0xef || utf8Length(decoded) != 3)) return false;
    address += utf8Length(decoded);
  }
  return true;
}
