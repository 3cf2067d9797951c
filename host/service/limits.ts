// What the service keeps and takes at most; deploy/README.md has the table for operators.
import type { MessageLimits } from "./answer/messages.ts";

export interface Limits extends MessageLimits {
  /** Answers that wait or are unacknowledged; beyond this limit requests are told `busy`. */
  queuedAnswers: number;
  /** The same limit by their size, in characters. */
  queuedBytes: number;
  /** Texts that wait for the engine; beyond this limit requests are told `busy`. */
  queuedTexts: number;
  /** Texts that one requester may send a second, on average; undefined: no limit. */
  textsPerSecond?: number | undefined;
  /** How many requesters are told apart at once; all further ones count as one. */
  requesters: number;
  /** Answers that are kept for requests that come twice. */
  rememberedAnswers: number;
  /** How long they are kept. */
  rememberSeconds: number;
  /** An answer that could not be sent for this time is dropped. */
  answerSeconds: number;
  /** Largest payload of an answer. A broker that announces a smaller packet size lowers it. */
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
