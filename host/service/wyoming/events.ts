// Wyoming's events as bytes: a line of JSON, then as many bytes as it says of further data in JSON, and of a payload.
//
//   {"type": "transcript", "data_length": 28}\n{"text": "turn on the light"}
//
// Payloads are sound, which nobody here needs: they are skipped as they come.
import { fromJson, JsonError, toJson } from "../answer/json.ts";

export interface WyomingEvent {
  type: string;
  data: Readonly<Record<string, unknown>>;
}

/** What comes is no event, or too large a one; what follows cannot be read either. The message says so to the sender. */
export class EventError extends Error {
  override name = "EventError";
}

const NEWLINE = 0x0a;

/** Bytes in any pieces -> events. At most `most` bytes of an event are kept, line and data together. */
export class EventReader {
  private readonly most: number;
  private room = Buffer.alloc(0);
  private length = 0;
  /** The line, once it is there. */
  private header: (WyomingEvent & { lineBytes: number; dataBytes: number; payloadBytes: number }) | undefined;
  private skipped = 0;

  constructor(most: number) {
    this.most = most;
  }

  /** Throws an EventError. Each event is read when it is asked for. */
  *read(chunk: Uint8Array): Generator<WyomingEvent, void> {
    let rest = chunk;
    for (;;) {
      if (!this.header) {
        const end = rest.indexOf(NEWLINE);
        this.keep(end < 0 ? rest : rest.subarray(0, end));
        if (end < 0) return;
        this.header = this.readHeader(this.take());
        rest = rest.subarray(end + 1);
      }
      const { type, lineBytes, dataBytes, payloadBytes } = this.header;
      if (this.length < dataBytes) {
        const missing = dataBytes - this.length;
        this.keep(rest.subarray(0, missing), lineBytes);
        rest = rest.subarray(missing);
        if (this.length < dataBytes) return;
      }
      const now = Math.min(payloadBytes - this.skipped, rest.length);
      this.skipped += now;
      rest = rest.subarray(now);
      if (this.skipped < payloadBytes) return;
      const data = { ...this.header.data, ...(dataBytes > 0 ? objectOf(this.take(), "the data") : {}) };
      this.header = undefined;
      this.skipped = 0;
      yield { type, data };
    }
  }

  private keep(bytes: Uint8Array, before = 0): void {
    if (bytes.length === 0) return;
    const length = this.length + bytes.length;
    if (before + length > this.most) throw new EventError(`an event may have at most ${this.most} bytes`);
    if (length > this.room.length) {
      const larger = Buffer.alloc(Math.min(this.most, 2 * length));
      larger.set(this.room.subarray(0, this.length));
      this.room = larger;
    }
    this.room.set(bytes, this.length);
    this.length = length;
  }

  private take(): Uint8Array {
    const bytes = this.room.subarray(0, this.length);
    this.room = Buffer.alloc(0);
    this.length = 0;
    return bytes;
  }

  private readHeader(line: Uint8Array): NonNullable<EventReader["header"]> {
    const { type, data, data_length: dataLength, payload_length: payloadLength } = objectOf(line, "the line");
    if (typeof type !== "string") throw new EventError('an event needs a "type", which is a string');
    const inLine = data ?? {};
    if (!isObject(inLine)) throw new EventError('"data" must be a JSON object');
    const [dataBytes, payloadBytes] = [lengthOf(dataLength, "data_length"), lengthOf(payloadLength, "payload_length")];
    if (line.length + dataBytes > this.most) throw new EventError(`an event may have at most ${this.most} bytes`);
    return { type, data: inLine, lineBytes: line.length, dataBytes, payloadBytes };
  }
}

function lengthOf(value: unknown, name: string): number {
  const length = value ?? 0;
  if (!(Number.isSafeInteger(length) && Number(length) >= 0))
    throw new EventError(`"${name}" must be a number of bytes`);
  return Number(length);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectOf(bytes: Uint8Array, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = fromJson(bytes);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new EventError(`${what} of an event is ${error.message}`);
  }
  if (!isObject(value)) throw new EventError(`${what} of an event must be a JSON object`);
  return value;
}

export function encodeEvent({ type, data }: WyomingEvent): string {
  const json = toJson(data);
  if (json === "{}") return `${JSON.stringify({ type })}\n`;
  return `${JSON.stringify({ type, data_length: Buffer.byteLength(json) })}\n${json}`;
}
