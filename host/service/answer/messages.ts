// Payload bytes -> a request; predictions -> payload text. Shared by MQTT and HTTP.
//
// A payload is JSON when its content type says so (MQTT 5, application/json), or when it
// begins as an object that has `text` or `texts`: if that does not parse, it is a faulty
// request. Any other payload, and any that is sent as text/*, is the text itself.
import * as v from "valibot";
import { nearest } from "../../errors.ts";
import { answerOf } from "../../model/answer.ts";
import type { Prediction } from "../../model/classifier.ts";
import type { Explanation } from "../../model/explanation.ts";
import { ExactNumber, fromJson, JsonError, toJson } from "./json.ts";

export type RequestId = string | number | ExactNumber;

export interface ClassifyRequest {
  texts: (string | Uint8Array)[];
  /** The request had `texts`, so its answer has `results`. */
  isBatch: boolean;
  id?: RequestId | undefined;
  replyTo?: string | undefined;
  topK?: number | undefined;
  threshold?: number | undefined;
  /** Whether to explain which tokens led to the label, or to the one that is named. */
  explain?: boolean | string | undefined;
  /** Milliseconds since 1970, after which no answer is wanted; in addition to the message expiry of MQTT 5. */
  deadline?: number | undefined;
  /** The payload is a JSON object without the fields of a request, so it is the text; this is the field that was probably meant. */
  missing?: "text" | "texts" | undefined;
}

/** What is answered about one text. */
export interface ExplainedPrediction extends Prediction {
  /** Only when it was asked for. */
  explanation?: Explanation;
}

export interface MessageLimits {
  payloadBytes: number;
  textsPerRequest: number;
}

/** Allowance for topic and properties of a request, in bytes. */
const TOPIC_AND_PROPERTIES_BYTES = 65_536;

/** Names of an object that are compared with those of a request, and how long they may be. */
const COMPARED_NAMES = 10;
const LONGEST_SLIP = 8;

/** Largest MQTT packet, in bytes, in which a request may come. */
export function largestPacket({ payloadBytes }: MessageLimits): number {
  return payloadBytes + TOPIC_AND_PROPERTIES_BYTES;
}

export type ErrorCode =
  | "bad_request"
  | "no_model"
  | "unknown_model"
  | "text_too_long"
  | "too_large"
  | "busy"
  | "rate"
  | "expired"
  | "internal";

/** HTTP status codes; MQTT 5 answers carry them as the user property `status`. */
export const statusOf: Record<ErrorCode, number> = {
  bad_request: 400,
  no_model: 503,
  unknown_model: 404,
  text_too_long: 413,
  too_large: 413,
  busy: 503,
  rate: 429,
  expired: 504,
  internal: 500,
};

/** The error that a request is answered with. Never contains the text. */
export class RequestError extends Error {
  override name = "RequestError";
  readonly code: ErrorCode;
  id: RequestId | undefined;
  replyTo: string | undefined;
  /** Seconds after which it makes sense to try again. */
  readonly retrySeconds: number | undefined;
  constructor(code: ErrorCode, message: string, retrySeconds?: number) {
    super(message);
    this.code = code;
    this.retrySeconds = retrySeconds;
  }
}

/** The payload begins like a request but cannot be parsed, so its id and replyTo are unknown: its sender may never see the answer. */
export class BrokenRequest extends RequestError {}

function isId(id: unknown): id is RequestId {
  return typeof id === "string"
    ? id.length <= 256
    : (typeof id === "number" || id instanceof ExactNumber) && Number.isFinite(Number(id));
}

const idSchema = v.custom<RequestId>(isId, "must be a number or a string of at most 256 characters");

/** For numbers that are compared and not echoed, which may lose their last digits. */
const number = (message: string) =>
  v.pipe(
    v.unknown(),
    v.transform((value) => (value instanceof ExactNumber ? Number(value) : value)),
    v.number(message),
  );

export const explainSchema = v.union([v.boolean(), v.string()], "must be true, false or a label");

function requestSchema(limits: Pick<MessageLimits, "textsPerRequest">) {
  return v.object({
    text: v.optional(v.string("must be a string")),
    texts: v.optional(
      v.pipe(
        v.array(v.string("must hold strings only"), "must be an array of strings"),
        v.minLength(1, "must not be empty"),
        v.maxLength(limits.textsPerRequest, `must hold at most ${limits.textsPerRequest} texts`),
      ),
    ),
    id: v.optional(idSchema),
    replyTo: v.optional(v.string("must be a string")),
    topK: v.optional(
      v.pipe(
        number("must be a whole number from 1"),
        v.integer("must be a whole number from 1"),
        v.minValue(1, "must be a whole number from 1"),
      ),
    ),
    explain: v.optional(explainSchema),
    deadline: v.optional(
      v.pipe(
        number("must be a number of milliseconds since 1970"),
        v.minValue(1, "must be a number of milliseconds since 1970"),
      ),
    ),
    threshold: v.optional(
      v.pipe(
        number("must be a number from 0 to 1"),
        v.minValue(0, "must be a number from 0 to 1"),
        v.maxValue(1, "must be a number from 0 to 1"),
      ),
    ),
  });
}

/** Reads the fields of a request. Throws a RequestError, which has the id if that is valid. */
export type RequestReader = (value: object) => ClassifyRequest;

export function requestReader(limits: Pick<MessageLimits, "textsPerRequest">): RequestReader {
  const schema = requestSchema(limits);
  return (value) => plainRequest(value) ?? readRequest(schema, value);
}

export type RequestParser = (payload: Uint8Array, contentType?: string) => ClassifyRequest;

export function requestParser(limits: MessageLimits): RequestParser {
  const read = requestReader(limits);

  return (payload, contentType = "") => {
    if (payload.length > limits.payloadBytes)
      throw new RequestError(
        "too_large",
        `a payload may have at most ${limits.payloadBytes} bytes, this one has ${payload.length}`,
      );
    const declared = contentType !== "" && /^application\/(?:[\w.-]+\+)?json\b/i.test(contentType);
    const value =
      declared || (!/^text\//i.test(contentType) && opensObject(payload))
        ? readRequestJson(payload, declared)
        : undefined;
    if (!isRequestObject(value)) {
      if (declared) throw new RequestError("bad_request", 'the payload is not a JSON object with "text" or "texts"');
      const text = withoutMark(payload);
      if (text.length === 0) throw new RequestError("bad_request", "the payload is empty");
      return { texts: [text], isBatch: false, missing: missingField(value) };
    }
    return read(value);
  };
}

/** A request of a text and perhaps an id, the usual one, read without the schema, which takes as long as a small model; undefined when there is more in it. */
function plainRequest(value: { text?: unknown; id?: unknown }): ClassifyRequest | undefined {
  for (const name in value) if (name !== "text" && name !== "id") return undefined;
  const { text, id } = value;
  return typeof text === "string" && (id === undefined || isId(id)) ? { texts: [text], isBatch: false, id } : undefined;
}

/** Undefined when the payload is not JSON and not meant to be. */
function readRequestJson(payload: Uint8Array, declared: boolean): unknown {
  try {
    return fromJson(payload);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    if (declared) throw new RequestError("bad_request", `the payload is ${error.message}`);
    if (beginsAsRequest(payload))
      throw new BrokenRequest(
        "bad_request",
        `the payload starts like a JSON request, but is ${error.message}; send a text that starts like this as {"text": "…"}`,
      );
    return undefined;
  }
}

function readRequest(schema: ReturnType<typeof requestSchema>, value: object): ClassifyRequest {
  const result = v.safeParse(schema, value);
  if (result.success) {
    const { text, texts, ...rest } = result.output;
    if (text === undefined || texts === undefined)
      return { ...rest, texts: texts ?? [text ?? ""], isBatch: texts !== undefined };
  }
  const issue = result.issues?.[0];
  const error = new RequestError(
    "bad_request",
    issue ? `"${v.getDotPath(issue) ?? "payload"}" ${issue.message}` : 'give either "text" or "texts", not both',
  );
  // The error is sent where the request wants its answer, if that part of it is valid.
  const { id, replyTo } = value as { id?: unknown; replyTo?: unknown };
  if (isId(id)) error.id = id;
  if (typeof replyTo === "string") error.replyTo = replyTo;
  throw error;
}

const hasMark = (payload: Uint8Array) => payload[0] === 0xef && payload[1] === 0xbb && payload[2] === 0xbf;

/** Without a byte order mark. */
export function withoutMark(payload: Uint8Array): Uint8Array {
  return hasMark(payload) ? payload.subarray(3) : payload;
}

function opensObject(payload: Uint8Array): boolean {
  let i = hasMark(payload) ? 3 : 0;
  while (payload[i] === 0x20 || (payload[i]! >= 0x09 && payload[i]! <= 0x0d)) i++;
  return payload[i] === 0x7b;
}

/** Whether it begins like an object with the key `text` or `texts`, in any quotes, even if it is cut off after it. */
function beginsAsRequest(payload: Uint8Array): boolean {
  const text = Buffer.from(withoutMark(payload)).toString().replaceAll("\0", "").trim();
  return (
    /^\{\s{0,99}["'`\u2018-\u201f]?texts?["'`\u2018-\u201f]?\s{0,99}(?::|$)/.test(text) ||
    (/^\{\s{0,99}["'`\u2018-\u201f]/.test(text) &&
      /,\s{0,99}["'`\u2018-\u201f]texts?["'`\u2018-\u201f]\s{0,99}(?::|$)/.test(text))
  );
}

function isRequestObject(value: unknown): value is object {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    (Object.hasOwn(value, "text") || Object.hasOwn(value, "texts"))
  );
}

/** Which field of a request an object without any was probably meant to have; undefined for what is no object. */
function missingField(value: unknown): "text" | "texts" | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const likely = (name: string) => name.length <= LONGEST_SLIP && nearest(name, ["text", "texts"]) === "texts";
  return Object.keys(value).slice(0, COMPARED_NAMES).some(likely) ? "texts" : "text";
}

export function encodeAnswer(
  request: ClassifyRequest,
  predictions: ExplainedPrediction[],
  model: { name: string; version: string },
): string {
  const results = predictions.map((prediction) => answerOf(prediction, request, prediction.explanation));
  return writerFor(request.id)({
    id: request.id,
    ...(request.isBatch ? { results } : results[0]),
    model: model.name,
    version: model.version,
  });
}

/** JSON.stringify is faster, and only an id can hold an ExactNumber. */
function writerFor(id: RequestId | undefined): (value: object) => string {
  return id instanceof ExactNumber ? toJson : JSON.stringify;
}

export function encodeError(error: { code: string; message: string }, id?: RequestId): string {
  return writerFor(id)({ id, error: { code: error.code, message: error.message } });
}

/** A label as JSON: a number when it is written as a whole number, such as the Flask tutorial's 0 and 1. */
export function labelValue(label: string | null): string | number | null {
  return label !== null && /^(?:0|-?[1-9]\d{0,14})$/.test(label) ? Number(label) : label;
}
