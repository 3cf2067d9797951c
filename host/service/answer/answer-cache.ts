// Answers of the last minutes, by who asked and what: a request that comes twice
// (redelivered by the broker, or sent again by an impatient requester) gets the same
// bytes again and is not computed. The text is part of the key, so that the same id
// with another text is another request.
//
// The answers are records in one ring of bytes, where a new record takes the place of the
// oldest ones: garbage collectors cope badly with many small objects that live for seconds.
// A hash table finds them: records whose keys share a slot of it form a chain, each one
// pointing to the record before. Positions count all bytes ever written, so a record before
// `oldest` has been overwritten, and a chain ends where it leads to one.
import { createHash, randomInt } from "node:crypto";
import type { Incoming } from "../mqtt/connection.ts";

export type Request = Pick<Incoming, "topic" | "contentType" | "correlationData" | "payload">;

/** Longer keys are replaced by their SHA-256; a short key costs less as it is. */
const HASHED_FROM = 512;
// A record, in bytes:
//    0  u32 its length, with the padding and, where the next record does not fit, the rest of the ring
//    4  u32 length of the key
//    8  u32 length of the answer
//   12  u32 hash of the key
//   16  f64 when it expires, by performance.now()
//   24  f64 position of the record before it in its chain, or NONE
//   32  key, answer, padding to a multiple of eight
const UNTIL = 16;
const BEFORE = 24;
const HEADER_BYTES = 32;
const NONE = -1;
const NOTHING = Buffer.alloc(0);
/** Only keys that were made to collide give a longer chain; answers beyond it are computed again. */
const LONGEST_CHAIN = 32;

export class RememberedAnswers {
  private readonly answers: number;
  private readonly ms: number;
  private readonly bytes: Buffer;
  private readonly words: Uint32Array;
  /** Position of the newest record of each chain. */
  private readonly newest: number[];
  private readonly key = Buffer.alloc(HASHED_FROM);
  private readonly keyWords = new Uint32Array(this.key.buffer, this.key.byteOffset, HASHED_FROM / 4);
  private readonly seed = randomInt(2 ** 32);
  private oldest = 0;
  private end = 0;
  /** Where the newest record begins. */
  private last = 0;
  private count = 0;

  /** Keeps at most `answers` answers, with their keys in `bytes` bytes, for `ms` milliseconds. */
  constructor({ answers, bytes, ms }: { answers: number; bytes: number; ms: number }) {
    this.answers = answers;
    this.ms = ms;
    this.bytes = Buffer.allocUnsafeSlow(roundUp(bytes));
    this.words = new Uint32Array(this.bytes.buffer);
    this.newest = Array<number>(2 ** Math.ceil(Math.log2(Math.min(answers, this.bytes.length / HEADER_BYTES)))).fill(
      NONE,
    );
  }

  get length(): number {
    return this.count;
  }

  get(request: Request, answerTopic: string): string | undefined {
    const keyBytes = this.putKey(request, answerTopic);
    const at = this.find(keyBytes, this.hash(keyBytes));
    if (at === NONE || this.untilOf(at) <= performance.now()) return undefined;
    const start = at + HEADER_BYTES + keyBytes;
    return this.bytes.toString("utf8", start, start + this.words[at / 4 + 2]!);
  }

  /** Of two answers to the same request the first one is kept. */
  set(request: Request, answerTopic: string, answer: string): void {
    const now = performance.now();
    while (this.count > 0 && this.untilOf(this.offset(this.oldest)) <= now) this.forgetOldest();
    const keyBytes = this.putKey(request, answerTopic);
    const hash = this.hash(keyBytes);
    if (this.find(keyBytes, hash) !== NONE) return;
    const answerBytes = Buffer.byteLength(answer);
    const at = this.makeRoom(roundUp(HEADER_BYTES + keyBytes + answerBytes));
    if (at === NONE) return;
    const chain = hash & (this.newest.length - 1);
    this.words[at / 4 + 1] = keyBytes;
    this.words[at / 4 + 2] = answerBytes;
    this.words[at / 4 + 3] = hash;
    this.bytes.writeDoubleLE(now + this.ms, at + UNTIL);
    this.bytes.writeDoubleLE(this.newest[chain]!, at + BEFORE);
    this.key.copy(this.bytes, at + HEADER_BYTES, 0, keyBytes);
    this.bytes.write(answer, at + HEADER_BYTES + keyBytes);
    this.newest[chain] = this.last;
  }

  /** Writes a request's key to `key`; returns its length, a multiple of 4. */
  private putKey(
    { topic, contentType = "", correlationData = NOTHING, payload }: Request,
    answerTopic: string,
  ): number {
    const { key } = this;
    // UTF-8 needs at most three bytes for a UTF-16 unit; each part has a length of two bytes, and the whole is padded to 4.
    const most =
      3 * (topic.length + answerTopic.length + contentType.length) + correlationData.length + payload.length + 13;
    if (most > HASHED_FROM) {
      const digest = createHash("sha256");
      for (const part of [topic, answerTopic, contentType, correlationData, payload])
        digest.update(`${Buffer.byteLength(part)} `).update(part);
      return digest.digest().copy(key);
    }
    let end = this.put(topic, 0);
    end = this.put(answerTopic, end);
    end = this.put(contentType, end);
    end = this.put(correlationData, end);
    end = this.put(payload, end);
    while (end % 4 !== 0) key[end++] = 0;
    return end;
  }

  /** Writes a part of the key behind its length; returns where the next one goes. */
  private put(part: string | Buffer, at: number): number {
    const bytes =
      part.length === 0 ? 0 : typeof part === "string" ? this.key.write(part, at + 2) : part.copy(this.key, at + 2);
    this.key[at] = bytes;
    this.key[at + 1] = bytes >> 8;
    return at + 2 + bytes;
  }

  private hash(keyBytes: number): number {
    let hash = this.seed;
    for (let i = 0; i < keyBytes / 4; i++) {
      hash = Math.imul(hash ^ this.keyWords[i]!, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash >>> 0;
  }

  /** Where the record with the key is, or NONE. */
  private find(keyBytes: number, hash: number): number {
    let position = this.newest[hash & (this.newest.length - 1)]!;
    for (let i = 0; i < LONGEST_CHAIN && position >= this.oldest; i++) {
      const at = this.offset(position);
      const start = at + HEADER_BYTES;
      if (
        this.words[at / 4 + 3] === hash &&
        this.words[at / 4 + 1] === keyBytes &&
        this.key.compare(this.bytes, start, start + keyBytes, 0, keyBytes) === 0
      )
        return at;
      position = this.bytes.readDoubleLE(at + BEFORE);
    }
    return NONE;
  }

  /** Begins a record of so many bytes over the oldest ones. Returns its offset, or NONE when it is larger than the ring. */
  private makeRoom(bytes: number): number {
    const size = this.bytes.length;
    if (bytes > size) return NONE;
    const rest = size - this.offset(this.end);
    if (bytes > rest) {
      // A record is never split at the ring's end: the one before gets the rest of the ring as padding.
      if (this.count > 0) this.words[this.offset(this.last) / 4]! += rest;
      this.end += rest;
    }
    while (this.count > 0 && (this.end + bytes - this.oldest > size || this.count >= this.answers)) this.forgetOldest();
    if (this.count === 0) this.oldest = this.end;
    this.last = this.end;
    this.end += bytes;
    this.count++;
    const at = this.offset(this.last);
    this.words[at / 4] = bytes;
    return at;
  }

  private forgetOldest(): void {
    this.oldest += this.words[this.offset(this.oldest) / 4]!;
    this.count--;
  }

  private untilOf(at: number): number {
    return this.bytes.readDoubleLE(at + UNTIL);
  }

  private offset(position: number): number {
    return position % this.bytes.length;
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
