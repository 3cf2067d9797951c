// The Wyoming protocol of voice assistants, by which they ask a service what a sentence means: labels are intents. Home Assistant
// sends what it has heard as a `transcript`, other clients ask to `recognize` it.
//
//   describe -> info           recognize, transcript -> intent, not-recognized or error
//   ping -> pong               select-program: which model answers from here on
//
// The protocol has neither logins nor TLS. Each connection is answered event by event, and not read meanwhile.
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { RequestError } from "../answer/messages.ts";
import { requestErrorOf } from "../answer/predictor.ts";
import { drained, explainListenError, hostInUrl, listen, reachable } from "../listen.ts";
import type { Service } from "../service.ts";
import { packageVersion } from "../../version.ts";
import { encodeEvent, EventError, EventReader } from "./events.ts";
import type { WyomingEvent } from "./events.ts";

export interface WyomingSettings {
  /** 0: any free one. */
  port: number;
  /** Sentences with a lower score are not recognized, 0 to 1. */
  threshold: number;
}

export interface WyomingEndpoint {
  url: string;
  port: number;
  close(): Promise<void>;
}

/** A spoken sentence has some hundred bytes. */
const EVENT_BYTES = 65_536;
/** Beyond this number, the connection that has been silent for longest is closed. */
const MAX_CONNECTIONS = 64;
/** A connection on which nothing comes and goes for this long is closed. */
const SILENCE_MS = 300_000;

export async function startWyoming(
  service: Service,
  { host, port, threshold }: WyomingSettings & { host: string },
): Promise<WyomingEndpoint> {
  /** Least recently used first. */
  const sockets = new Set<Socket>();
  const used = (socket: Socket): void => {
    if (sockets.delete(socket)) sockets.add(socket);
  };
  // A client may end its side before it has its answer.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    if (sockets.size > MAX_CONNECTIONS) sockets.values().next().value!.destroy();
    socket
      .setNoDelay()
      .setTimeout(SILENCE_MS, () => socket.destroy())
      .on("error", () => socket.destroy())
      .on("close", () => sockets.delete(socket));
    converse(service, socket, threshold, () => used(socket)).catch(() => socket.destroy());
  });
  try {
    await listen(server, host, port);
  } catch (error) {
    throw explainListenError(error, host, port, "choose another one with --wyoming NUMBER (0 takes any free one)");
  }
  const bound = server.address() as AddressInfo;
  return {
    url: `tcp://${hostInUrl(reachable(host))}:${bound.port}`,
    port: bound.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Answers a client until it has no more to say. */
async function converse(service: Service, socket: Socket, threshold: number, used: () => void): Promise<void> {
  const reader = new EventReader(EVENT_BYTES);
  const client: Client = { requester: `wyoming ${socket.remoteAddress}`, threshold, model: "" };
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>)
      for (const event of reader.read(chunk)) {
        used();
        const answer = await answerTo(service, event, client);
        if (answer && !socket.write(encodeEvent(answer))) await drained(socket);
      }
    socket.end();
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    service.metrics.errors.inc({ code: "bad_request" });
    socket.end(encodeEvent(failure(new RequestError("bad_request", error.message))));
  }
}

interface Client {
  requester: string;
  threshold: number;
  /** "": the first one. */
  model: string;
}

/** Undefined for events that need none, and for those of other services, such as sound. */
async function answerTo(
  service: Service,
  { type, data }: WyomingEvent,
  client: Client,
): Promise<WyomingEvent | undefined> {
  switch (type) {
    case "describe":
      return { type: "info", data: info(service) };
    case "ping":
      return { type: "pong", data: typeof data["text"] === "string" ? { text: data["text"] } : {} };
    case "select-program":
      if (typeof data["name"] === "string" && service.predictor.models.has(data["name"])) {
        client.model = data["name"];
        return undefined;
      }
      return failure(new RequestError("unknown_model", "no model has this name; describe lists them"));
    case "recognize":
    case "transcript":
      return recognize(service, data, client).catch((error: unknown) => {
        const known = requestErrorOf(error);
        service.metrics.errors.inc({ code: known.code });
        return failure(known);
      });
    default:
      return undefined;
  }
}

async function recognize(
  service: Service,
  { text, context }: WyomingEvent["data"],
  client: Client,
): Promise<WyomingEvent> {
  const start = performance.now();
  service.metrics.requests.inc({ transport: "wyoming" });
  if (typeof text !== "string")
    throw new RequestError("bad_request", 'an event to recognize needs a "text", which is a string');
  const label = text.trim() === "" ? null : await labelOf(service, text, client);
  service.metrics.answerSeconds.observe({ transport: "wyoming" }, (performance.now() - start) / 1000);
  // What belongs to a conversation comes back as it was.
  const shared = context === undefined || context === null ? {} : { context };
  return label === null
    ? { type: "not-recognized", data: shared }
    : { type: "intent", data: { name: label, entities: [], ...shared } };
}

async function labelOf(
  service: Service,
  text: string,
  { requester, model, threshold }: Client,
): Promise<string | null> {
  const { predictions } = await service.predictor.predict({
    requester,
    model,
    texts: [text],
    bytes: Buffer.byteLength(text),
  });
  const { label, score } = predictions[0]!;
  return score < threshold ? null : label;
}

/** A program for each model, by which a client may choose. No languages means all of them: the file does not say which ones it knows. */
function info(service: Service): Record<string, unknown> {
  const attribution = { name: "edgelabel", url: "" };
  const programs = [...service.predictor.models].map(([name, { version, labels }]) => {
    const described = { name, attribution, installed: true, description: `${labels.length} labels`, version };
    return { ...described, version: packageVersion, models: [{ ...described, languages: [] }] };
  });
  return { asr: [], tts: [], handle: [], intent: programs, wake: [], mic: [], snd: [] };
}

function failure({ code, message }: RequestError): WyomingEvent {
  return { type: "error", data: { text: message, code } };
}
