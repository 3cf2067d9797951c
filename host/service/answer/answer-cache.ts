// Answers of the last minutes: a request that comes twice (delivered again by the broker, or sent
// again by an impatient requester) gets the same bytes again and is not computed.
import { createHash } from "node:crypto";
import type { Incoming } from "../mqtt/message.ts";

export interface CacheCapacity {
  answers: number;
  /** Of memory, with keys and all. */
  bytes: number;
  /** How long an answer is kept. */
  ms: number;
}

interface Entry {
  answer: string;
  bytes: number;
  /** By performance.now(). */
  expiresAt: number;
}

/** What an entry takes besides its answer: the key, the object, its place in the map. */
const ENTRY_BYTES = 200;
const BYTES_A_CHARACTER = 2;

/** What makes two requests the same one. The text is part of it: the same id with another text is another request. */
export function requestKey(
  {
    topic,
    contentType = "",
    correlationData = Buffer.alloc(0),
    payload,
  }: Pick<Incoming, "topic" | "contentType" | "correlationData" | "payload">,
  answerTopic: string,
): string {
  const lengths = [topic, answerTopic, contentType, correlationData].map(({ length }) => length).join(" ");
  return createHash("sha256")
    .update(`${lengths} ${topic}${answerTopic}${contentType}`)
    .update(correlationData)
    .update(payload)
    .digest("base64");
}

export class AnswerCache {
  private readonly capacity: CacheCapacity;
  private readonly entries = new Map<string, Entry>();
  /** The oldest one first. The map has the same order, but would have to pass all entries that were deleted before it finds the first. */
  private readonly keys: string[] = [];
  private bytes = 0;

  constructor(capacity: CacheCapacity) {
    this.capacity = capacity;
  }

  get length(): number {
    return this.entries.size;
  }

  get(key: string): string | undefined {
    const entry = this.entries.get(key);
    return entry && entry.expiresAt > performance.now() ? entry.answer : undefined;
  }

  /** Of two answers to the same request the first one is kept. */
  set(key: string, answer: string): void {
    const { answers, bytes: most, ms } = this.capacity;
    const now = performance.now();
    const bytes = ENTRY_BYTES + BYTES_A_CHARACTER * answer.length;
    if (bytes > most) return;
    while (this.keys.length > 0 && this.entries.get(this.keys[0]!)!.expiresAt <= now) this.forgetOldest();
    if (this.entries.has(key)) return;
    while (this.keys.length >= answers || this.bytes + bytes > most) this.forgetOldest();
    this.entries.set(key, { answer, bytes, expiresAt: now + ms });
    this.keys.push(key);
    this.bytes += bytes;
  }

  private forgetOldest(): void {
    const key = this.keys.shift()!;
    this.bytes -= this.entries.get(key)!.bytes;
    this.entries.delete(key);
  }
}
