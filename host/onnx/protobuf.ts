// Fields of a message in, its bytes in Protocol Buffers' wire format out.

/** A number is a whole one from 0 to 2^53. A list of fields is a message in the message. */
export type Field = readonly [number: number, value: number | string | Uint8Array | readonly Field[]];

const VARINT = 0;
const LENGTH_DELIMITED = 2;

export function encode(fields: readonly Field[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (typeof value === "number") return [varint(number * 8 + VARINT), varint(value)];
      const bytes =
        typeof value === "string" ? Buffer.from(value) : value instanceof Uint8Array ? value : encode(value);
      return [varint(number * 8 + LENGTH_DELIMITED), varint(bytes.length), bytes];
    }),
  );
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Uint8Array.from([...bytes, value]);
}
