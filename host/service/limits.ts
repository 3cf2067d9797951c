// The limits of the service; deploy/README.md has the table for operators.
import type { MessageLimits } from "./answer/messages.ts";

export interface Limits extends MessageLimits {
  /** Answers that wait or are unacknowledged; beyond this, requests get `busy`. */
  queuedAnswers: number;
  /** The same limit in bytes of whole messages, and that of queuedTexts. */
  queuedBytes: number;
  /** Texts that wait for the engine; beyond this, requests get `busy`. */
  queuedTexts: number;
  /** Texts that a requester may send per second, on average; undefined: no limit. */
  textsPerSecond?: number | undefined;
  /** Requesters with a turn and a rate of their own; all others count as one. */
  requesters: number;
  /** Answers kept for requests that come twice. */
  rememberedAnswers: number;
  /** How long they are kept. */
  rememberSeconds: number;
  /** An answer that could not be sent in this time is dropped. */
  answerSeconds: number;
  /** Largest payload of an answer. A broker may announce a smaller limit. */
  answerBytes: number;
}

export const defaultLimits: Limits = {
  payloadBytes: 2_097_152,
  textsPerRequest: 256,
  queuedAnswers: 1000,
  queuedBytes: 8_388_608,
  queuedTexts: 1000,
  requesters: 1000,
  rememberedAnswers: 10_000,
  rememberSeconds: 300,
  answerSeconds: 60,
  answerBytes: 1_048_576,
};
