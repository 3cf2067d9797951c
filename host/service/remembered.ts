// Answers of the last minutes, by who asked and what: a request that comes twice
// (redelivered by the broker, or sent again by a requester who lost patience) gets
// the same bytes again and is not computed. The text is part of the key, so that
// an id used anew for another text is another request.
//
// They stand one behind the other in a ring of bytes, the newest in the place of the oldest:
// many small things that live for seconds are what a garbage collector does worst.
// A position counts all bytes ever written, so whatever lies before `oldest` is forgotten,
// also for the chains that lead there.
import { createHash, randomInt } from "node:crypto";
import type { Incoming } from "./mqtt.ts";

export type Request = Pick<Incoming, "topic" | "contentType" | "correlationData" | "payload">;

/** A short key stands for itself: that costs less than its digest. */
const HASHED_FROM = 512;
// A record: its length, the key's, the answer's and the key's hash, of four bytes each; when it is
// forgotten and where the one before it in its chain is, of eight; key; answer; padding to a
// multiple of eight, and what is left to the ring's end where the next one does not fit.
const UNTIL = 16;
const BEFORE = 24;
const HEADER_BYTES = 32;
const NONE = -1;
const NOTHING = Buffer.alloc(0);
/** Only who makes up keys for it gets a longer chain; what lies further is computed again. */
const LONGEST_CHAIN = 32;

export class RememberedAnswers {
  private readonly answers: number;
  private readonly ms: number;
  private readonly bytes: Buffer;
  private readonly words: Uint32Array;
  /** Of each chain, the newest record's position. */
  private readonly newest: number[];
  private readonly key = Buffer.alloc(HASHED_FROM);
  private readonly keyWords = new Uint32Array(this.key.buffer, this.key.byteOffset, HASHED_FROM / 4);
  private readonly seed = randomInt(2 ** 32);
  private oldest = 0;
  private end = 0;
  /** Where the newest record begins. */
  private last = 0;
  private count = 0;

  /** At most so many answers, in so many bytes with their requests, for so many milliseconds. */
  constructor({ answers, bytes, ms }: { answers: number; bytes: number; ms: number }) {
    this.answers = answers;
    this.ms = ms;
    this.bytes = Buffer.allocUnsafeSlow(roundUp(bytes));
    this.words = new Uint32Array(this.bytes.buffer);
    this.newest = Array<number>(2 ** Math.ceil(Math.log2(Math.min(answers, this.bytes.length / HEADER_BYTES)))).fill(NONE);
  }

  get length(): number {
    return this.count;
  }

  get(request: Request, answerTopic: string): string | undefined {
    const keyBytes = this.putKey(request, answerTopic);
    const at = this.find(keyBytes, this.hash(keyBytes));
    if (at === NONE || this.untilOf(at) <= Date.now()) return undefined;
    const start = at + HEADER_BYTES + keyBytes;
    return this.bytes.toString("utf8", start, start + this.words[at / 4 + 2]!);
  }

  /** Of two answers to the same request the first one stands. */
  set(request: Request, answerTopic: string, answer: string): void {
    const now = Date.now();
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

  /** Writes a request's key; its length, a multiple of 4. */
  private putKey({ topic, contentType = "", correlationData = NOTHING, payload }: Request, answerTopic: string): number {
    const { key } = this;
    // A character has three bytes at most; five lengths, and up to a word.
    const most = 3 * (topic.length + answerTopic.length + contentType.length) + correlationData.length + payload.length + 13;
    if (most > HASHED_FROM) {
      const digest = createHash("sha256");
      for (const part of [topic, answerTopic, contentType, correlationData, payload]) digest.update(`${Buffer.byteLength(part)} `).update(part);
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

  /** Its length, and itself. */
  private put(part: string | Buffer, at: number): number {
    const bytes = part.length === 0 ? 0 : typeof part === "string" ? this.key.write(part, at + 2) : part.copy(this.key, at + 2);
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
      if (this.words[at / 4 + 3] === hash && this.words[at / 4 + 1] === keyBytes && this.key.compare(this.bytes, start, start + keyBytes, 0, keyBytes) === 0) return at;
      position = this.bytes.readDoubleLE(at + BEFORE);
    }
    return NONE;
  }

  /** Begins a record of so many bytes, and forgets those in its place; where it is, NONE when it can be nowhere. */
  private makeRoom(bytes: number): number {
    const size = this.bytes.length;
    if (bytes > size) return NONE;
    const rest = size - this.offset(this.end);
    if (bytes > rest) {
      // No record goes around: the one before takes what is left there.
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
