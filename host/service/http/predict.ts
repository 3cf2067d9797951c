// POST /predict: a request in JSON, or a stream of them, one a line. A request is one as over MQTT, with the name of a
// model as a further field, and is answered with the same object; or it is that of the Flask tutorial, {"data"}.
//
// A stream is worked off line by line: the next one is read when the answer to the last one has been written, and when
// the client has taken enough of what was written. So a stream takes the memory of a line, whatever its length.
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import * as v from "valibot";
import { encodeAnswer, encodeError, explainSchema, labelValue, RequestError } from "../answer/messages.ts";
import type { ClassifyRequest, RequestReader } from "../answer/messages.ts";
import { fromJson, JsonError } from "../answer/json.ts";
import type { Outcome, Work } from "../answer/predictor.ts";
import type { Service } from "../service.ts";
import { drained } from "../listen.ts";
import type { Bodies, Body } from "./body.ts";
import { failureOf, HttpError } from "./error.ts";
import type { HttpUser } from "./login.ts";

/** Who asks whom. */
export interface Asker {
  service: Service;
  request: IncomingMessage;
  /** Absent if no users are configured. */
  user?: HttpUser | undefined;
}

interface PredictRequest extends ClassifyRequest {
  model: string;
  /** Asked as in the tutorial, and to be answered so. */
  isTutorial: boolean;
}

const NEWLINE = 0x0a;
/** A stream ends when its client has neither sent nor taken anything for so long. */
const SILENCE_MS = 30_000;

export function requireRight(user: HttpUser | undefined, model: string): void {
  if (user && !user.mayAsk(model)) throw new HttpError(403, "this user may not send texts to this model");
}

export async function classify({ service, request, user }: Asker, work: Omit<Work, "requester">): Promise<Outcome> {
  const start = performance.now();
  const outcome = await service.predictor.predict({
    ...work,
    requester: `http ${user?.name ?? request.socket.remoteAddress}`,
  });
  service.metrics.answerSeconds.observe({ transport: "http" }, (performance.now() - start) / 1000);
  return outcome;
}

/** `what` the bytes are, for errors. Throws a RequestError. */
export function parseJson(bytes: Uint8Array, what = "body"): unknown {
  try {
    return fromJson(bytes);
  } catch (error) {
    if (error instanceof JsonError) throw new RequestError("bad_request", `the ${what} is ${error.message}`);
    throw error;
  }
}

/** Throws a RequestError. */
export function parsePredict(bytes: Uint8Array, read: RequestReader, what?: "line"): PredictRequest {
  const value = parseJson(bytes, what);
  const fields = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const { data, text, texts, model = "", explain } = fields;
  const isTutorial = data !== undefined;
  if (isTutorial ? typeof data !== "string" : text === undefined && texts === undefined)
    throw new RequestError(
      "bad_request",
      `the ${what ?? "body"} must be an object such as {"text": "a text"}, {"texts": ["a text", "another"]} or {"data": "a text"}`,
    );
  if (typeof model !== "string") throw new RequestError("bad_request", '"model" must be a string');
  if (!isTutorial) return { ...read(fields), model, isTutorial };
  if (!v.is(v.optional(explainSchema), explain))
    throw new RequestError("bad_request", `"explain" ${explainSchema.message}`);
  return { texts: [data as string], isBatch: false, explain, model, isTutorial };
}

/** The answer, as JSON. Throws a RequestError or an HttpError. */
export async function answer(asker: Asker, wanted: PredictRequest, bytes: number): Promise<string> {
  const { texts, model, topK, explain, deadline = Infinity, isTutorial } = wanted;
  requireRight(asker.user, model);
  const expiresAt = performance.now() + deadline - Date.now();
  const outcome = await classify(asker, { model, texts, bytes, topK, explain, expiresAt });
  if (!isTutorial)
    return encodeAnswer(wanted, outcome.predictions, { name: outcome.name, version: outcome.model.version });
  const { label, labels, explanation } = outcome.predictions[0]!;
  return JSON.stringify({ label: labelValue(label), labels, explanation });
}

/** Answers a stream until it ends. `onLine` is called for each line. */
export async function answerStream(
  asker: Asker,
  response: ServerResponse,
  { bodies, read, onLine }: { bodies: Bodies; read: RequestReader; onLine: () => void },
): Promise<void> {
  const { service, request, user } = asker;
  const { socket } = request;
  const answerLine = async (line: Uint8Array | RequestError): Promise<string> => {
    let id: ClassifyRequest["id"];
    try {
      if (line instanceof RequestError) throw line;
      const wanted = parsePredict(line, read, "line");
      ({ id } = wanted);
      return await withRoom(response, () => answer(asker, wanted, line.length));
    } catch (error) {
      const failure = failureOf(service, error, user);
      return encodeError(failure, id ?? failure.id);
    }
  };
  socket.setTimeout(SILENCE_MS);
  response.writeHead(200, { "Content-Type": "application/x-ndjson" }).flushHeaders();
  for await (const line of linesOf(request, bodies)) {
    onLine();
    if (!(line instanceof RequestError) && isBlank(line)) continue;
    service.metrics.requests.inc({ transport: "http" });
    // However long the answer takes, it is not the client that is silent.
    socket.setTimeout(0);
    const text = await answerLine(line);
    if (response.destroyed) return;
    socket.setTimeout(SILENCE_MS);
    if (!response.write(`${text}\n`)) await drained(response);
  }
  response.end();
}

/** A stream waits while there is no room or its rate is used up: it is its client's only request that does. */
async function withRoom<T>(response: ServerResponse, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const { code, retrySeconds = 1 } = error as Partial<RequestError>;
      if ((code !== "busy" && code !== "rate") || response.destroyed) throw error;
      await pause(1000 * retrySeconds);
    }
  }
}

/** The lines of a request, without their ends; or the error that is the answer to a line, if it is too long. */
async function* linesOf(request: IncomingMessage, bodies: Bodies): AsyncGenerator<Uint8Array | RequestError> {
  /** A line whose end has not come yet. */
  let line: Body | undefined;
  let refusal: RequestError | undefined;
  const add = (part: Uint8Array): void => {
    line ??= bodies.begin((error) => (refusal = error));
    line.append(part);
  };
  const end = (part: Uint8Array): Uint8Array | RequestError => {
    if (!line && part.length <= bodies.limit) return part;
    add(part);
    const whole = refusal ?? line!.bytes();
    line!.end();
    line = refusal = undefined;
    return whole;
  };
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      let start = 0;
      for (let stop = chunk.indexOf(NEWLINE); stop >= 0; stop = chunk.indexOf(NEWLINE, start)) {
        yield end(chunk.subarray(start, stop));
        start = stop + 1;
      }
      if (start < chunk.length) add(chunk.subarray(start));
    }
    if (line) yield end(new Uint8Array());
  } finally {
    line?.end();
  }
}

/** Of white space, and of NULs, which fromJson drops too. */
function isBlank(line: Uint8Array): boolean {
  return line.every((byte) => byte === 0 || byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));
}
