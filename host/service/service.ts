// Requests in, answers out: the part of `serve` that joins models, messages,
// outbox and broker. It is given loaded models, never paths, and opens no port.
//
//   message -> refuse? -> parse -> classify -> encode -> outbox -> broker
//                 |          |         |                    |
//               count      error     error             acknowledge
import type { Classifier, Prediction } from "../classifier.ts";
import type { Limits } from "./config.ts";
import type { Log } from "./log.ts";
import { encodeAnswer, encodeError, RequestError, requestParser, statusOf } from "./messages.ts";
import type { ClassifyRequest, ErrorCode, RequestParser } from "./messages.ts";
import { Metrics } from "./metrics.ts";
import { Connection } from "./mqtt.ts";
import type { BrokerAccess, Incoming, Outgoing, Session } from "./mqtt.ts";
import { Outbox } from "./outbox.ts";
import type { Answer } from "./outbox.ts";
import { answerTopicFault, modelInTopic } from "./topics.ts";
import type { ResponseRules, Topics } from "./topics.ts";
import { packageVersion } from "./version.ts";

export type Model = Pick<Classifier, "version" | "labels" | "digest" | "classify">;

export interface ServiceOptions {
  /** By name; the first one answers requests that name none. */
  models: ReadonlyMap<string, Model>;
  topics: Topics;
  access: BrokerAccess;
  clientId: string;
  limits: Limits;
  responses: ResponseRules;
  log: Log;
}

/** Fixed header, lengths and properties around an answer's payload and topic, generously. */
const PACKET_OVERHEAD = 256;
const OK = 200;
/** Answers that may be unacknowledged at once. */
const WINDOW = 64;
const STATUS_DELAY_MS = 1_000;
/** How long a stop waits for answers that are on their way. */
const STOP_DRAIN_MS = 900;

export class Service {
  readonly metrics: Metrics;
  readonly models: ReadonlyMap<string, Model>;
  readonly defaultModel: string;
  private readonly options: ServiceOptions;
  private readonly parse: RequestParser;
  private readonly outbox: Outbox;
  private readonly connection: Connection;
  private session: Session | undefined;
  private isSubscribed = false;
  private isStopping = false;
  private statusTimer: NodeJS.Timeout | undefined;
  private onReady: (() => void)[] = [];

  constructor(options: ServiceOptions) {
    const [first] = options.models.keys();
    if (first === undefined) throw new Error("a service needs a model");
    this.options = options;
    this.models = options.models;
    this.defaultModel = first;
    this.parse = requestParser(options.limits);
    this.outbox = new Outbox({ answers: options.limits.queuedAnswers, bytes: options.limits.queuedBytes }, (fate) => this.metrics.answers.inc({ fate }));
    this.metrics = new Metrics(() => this.outbox.length);
    for (const [model, { version, digest }] of options.models) this.metrics.modelInfo.set({ model, version, digest }, 1);
    const { topics } = options;
    this.connection = new Connection({
      access: options.access,
      clientId: options.clientId,
      filters: [`${topics.classify}/#`, topics.status],
      will: { topic: topics.status, payload: "offline" },
      maximumPacketSize: options.limits.payloadBytes + 65_536,
      log: options.log,
      onMessage: (message) => this.onMessage(message),
      onConnect: (session) => this.onConnect(session),
      onSubscribed: (session) => this.onSubscribed(session),
      onClose: () => this.onClose(),
    });
  }

  /** Whether requests come in from the broker now. */
  get isReady(): boolean {
    return this.isSubscribed && !this.isStopping;
  }

  /** Resolves when the broker has taken the subscription; until then it keeps trying. */
  start(): Promise<void> {
    this.connection.start();
    return new Promise((resolve) => this.onReady.push(resolve));
  }

  /** No further requests; sends what is owed, says `offline`, disconnects. Unacknowledged requests stay with the broker. */
  async stop(): Promise<void> {
    if (this.isStopping) return;
    this.isStopping = true;
    clearTimeout(this.statusTimer);
    if (this.session) await this.outbox.drained(STOP_DRAIN_MS);
    await this.connection.stop({ topic: this.options.topics.status, payload: "offline", qos: 1, retain: true });
  }

  /** The model of that name, "" being the default one. */
  model(name: string): { name: string; model: Model } {
    const wanted = name === "" ? this.defaultModel : name;
    const model = this.models.get(wanted);
    if (!model) throw new RequestError("unknown_model", `there is no such model here; the models are ${[...this.models.keys()].join(", ")}`);
    return { name: wanted, model };
  }

  classify(name: string, model: Model, text: string | Uint8Array, top?: number): Prediction {
    const start = performance.now();
    try {
      return top === undefined ? model.classify(text) : model.classify(text, top);
    } catch (error) {
      throw requestErrorOf(error);
    } finally {
      this.metrics.classified(name, (performance.now() - start) / 1000);
    }
  }

  info(): object {
    const { topics, limits } = this.options;
    return {
      name: "edgelabel",
      version: packageVersion,
      node: topics.node,
      models: [...this.models].map(([name, { version, labels, digest }]) => ({ name, version, labels, digest, default: name === this.defaultModel })),
      limits,
      topics: { classify: topics.classify, label: topics.label, reply: topics.reply, status: topics.status },
    };
  }

  private onConnect(session: Session): void {
    this.session = session;
    this.metrics.connects.inc();
    this.outbox.attach({
      window: Math.min(WINDOW, session.receiveMaximum),
      send: ({ topic, payload, qos, correlationData, status }, done) => session.publish({
        topic,
        payload,
        qos,
        properties: propertiesOf(correlationData, status),
      }, done),
    });
  }

  private onSubscribed(session: Session): void {
    const { topics, access, log } = this.options;
    this.isSubscribed = true;
    this.metrics.connected.set(1);
    session.publish({ topic: topics.info, payload: JSON.stringify(this.info()), qos: 1, retain: true });
    this.sayOnline();
    log.info(`connected to ${access.url} (MQTT ${session.protocol === 5 ? "5" : "3.1.1"})`, { broker: access.url, protocol: session.protocol });
    for (const ready of this.onReady.splice(0)) ready();
  }

  private onClose(): void {
    this.session = undefined;
    this.isSubscribed = false;
    this.metrics.connected.set(0);
    this.outbox.detach();
  }

  private onMessage(message: Incoming): void {
    // Unacknowledged, so that a QoS 1 request waits for the next start.
    if (this.isStopping) return;
    if (message.topic === this.options.topics.status) {
      this.onStatus(message);
      return;
    }
    this.metrics.requests.inc({ transport: "mqtt" });
    if (message.isRetained) {
      this.ignore("retained", message);
      return;
    }
    const { topics } = this.options;
    const wanted = modelInTopic(topics, message.topic);
    let replyTo = message.responseTopic;
    let request: ClassifyRequest | undefined;
    let payload: string;
    let status = OK;
    try {
      request = this.parse(message.payload, message.contentType);
      replyTo ??= request.replyTo;
      if (this.outbox.isFull) throw new RequestError("busy", "too many answers wait for the broker; try again later");
      payload = this.answer(wanted, request);
    } catch (error) {
      const failure = requestErrorOf(error);
      if (failure.code === "internal") this.options.log.error(`a request failed: ${failure.message}`);
      replyTo ??= failure.replyTo;
      payload = encodeError(failure, request?.id ?? failure.id);
      status = this.countError(failure.code);
    }
    this.reply(message, { wanted, replyTo, payload, status, request });
  }

  /** A late last will of an earlier connection must not stand: who is here says so again, at most once a second. */
  private onStatus(message: Incoming): void {
    message.acknowledge();
    if (message.payload.toString() === "online" || !this.isSubscribed || this.statusTimer) return;
    this.statusTimer = setTimeout(() => {
      this.statusTimer = undefined;
      if (this.isReady) this.sayOnline();
    }, STATUS_DELAY_MS);
  }

  private sayOnline(): void {
    this.session?.publish({ topic: this.options.topics.status, payload: "online", qos: 1, retain: true });
  }

  private answer(wanted: string, request: ClassifyRequest): string {
    const { name, model } = this.model(wanted);
    const predictions = request.texts.map((text) => this.classify(name, model, text, request.topK));
    return encodeAnswer(request, predictions, { name, version: model.version });
  }

  private reply(message: Incoming, { wanted, replyTo, payload, status, request }: { wanted: string; replyTo: string | undefined; payload: string; status: number; request: ClassifyRequest | undefined }): void {
    const { topics, limits, responses } = this.options;
    const topic = replyTo ?? (wanted !== "" && this.models.has(wanted) ? `${topics.label}/${wanted}` : topics.label);
    const fault = answerTopicFault(topic, topics, responses);
    if (fault) {
      this.ignore(`response_topic_${fault}`, message);
      return;
    }
    const { correlationData, expirySeconds } = message;
    const room = Math.min(limits.answerBytes, (this.session?.maximumPacketSize ?? Infinity) - Buffer.byteLength(topic) - (correlationData?.length ?? 0) - PACKET_OVERHEAD);
    if (Buffer.byteLength(payload) > room) {
      payload = encodeError({ code: "too_large", message: `the answer is larger than the ${limits.answerBytes} bytes, or the broker's own limit, that an answer may have` }, request?.id);
      status = this.countError("too_large");
      if (Buffer.byteLength(payload) > room) {
        this.ignore("no_room_for_answer", message);
        return;
      }
    }
    const answer: Answer = {
      topic,
      payload,
      qos: message.qos === 0 ? 0 : 1,
      correlationData,
      status,
      expiresAt: Date.now() + 1000 * Math.min(limits.answerSeconds, expirySeconds ?? Infinity),
      settled: message.acknowledge,
    };
    if (this.outbox.isFull) this.replyAtOnce(answer);
    else this.outbox.offer(answer);
  }

  /** Past the full outbox, at QoS 0: `busy` must be prompt or it is of no use. */
  private replyAtOnce({ topic, payload, correlationData, status, settled }: Answer): void {
    this.session?.publish({ topic, payload, qos: 0, properties: propertiesOf(correlationData, status) });
    settled();
  }

  private ignore(reason: string, message: Incoming): void {
    this.metrics.ignored.inc({ reason });
    message.acknowledge();
  }

  /** Counts an error answer; returns its status. */
  countError(code: ErrorCode): number {
    this.metrics.errors.inc({ code });
    return statusOf[code];
  }
}

/** What goes with an answer on MQTT 5; a `status` tells an error from a label without a look at the payload. */
function propertiesOf(correlationData: Buffer | undefined, status: number): NonNullable<Outgoing["properties"]> {
  return {
    contentType: "application/json",
    ...(correlationData ? { correlationData } : {}),
    ...(status === OK ? {} : { userProperties: { status: String(status) } }),
  };
}

/** Engine errors keep their meaning; anything else is `internal`, and says no more than its message. */
export function requestErrorOf(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  if ((error as { code?: unknown }).code === "text_too_long") return new RequestError("text_too_long", (error as Error).message);
  return new RequestError("internal", error instanceof Error ? error.message : "the engine failed");
}
