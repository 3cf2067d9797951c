// Requests over MQTT, from message to answer:
//
//   message -> retained? -> parse -> answer topic -> known? -> queue -> encode -> outbox
//                 |           |           |            |         |                  |
//               count       error       count     same bytes   busy            acknowledge
//
// Whether an answer may go to its topic is checked before anything is computed.
import { afterwards } from "../afterwards.ts";
import type { Limits } from "../limits.ts";
import type { Guard } from "./guard.ts";
import type { Log } from "../log.ts";
import { BrokenRequest, encodeAnswer, encodeError, RequestError, requestParser, statusOf } from "./messages.ts";
import type { ClassifyRequest, RequestParser } from "./messages.ts";
import type { Metrics } from "../metrics.ts";
import { LOOP_MARK, payloadRoom } from "../mqtt/connection.ts";
import type { Incoming, Session } from "../mqtt/connection.ts";
import type { Outbox } from "../mqtt/outbox.ts";
import { requestErrorOf } from "./predictor.ts";
import type { Predictor } from "./predictor.ts";
import { RememberedAnswers } from "./answer-cache.ts";
import type { Outgoing } from "../mqtt/sender.ts";
import { answerTopicFault, requestTopicsOf, modelInTopic, userTopicFault } from "../topics.ts";
import type { RequestTopics, ResponseRules, Topics } from "../topics.ts";

export interface RequestsOptions {
  predictor: Predictor;
  outbox: Outbox;
  metrics: Metrics;
  topics: Topics;
  limits: Limits;
  responses: ResponseRules;
  log: Log;
  guard: Guard;
  /** The present connection. */
  session: () => Session | undefined;
}

/** What is needed of a request until its answer has been handed to the outbox. */
interface Pending {
  message: Incoming;
  topic: string;
  /** By whom it takes its turn and has its rate. */
  requester: string;
  id: ClassifyRequest["id"];
  expiresAt: number;
  receivedAt: number;
}

const OK = 200;
const ANSWERS_WAIT = new RequestError("busy", "too many answers wait for the broker; try again later");
const REMEMBERED_BYTES = 4_194_304;
const ALLOWED_REMEMBERED = 1_000;

export class Requests {
  private readonly options: RequestsOptions;
  private readonly parse: RequestParser;
  private readonly remembered: RememberedAnswers;
  /** Answer topics that were found to be allowed, since most requesters come again. */
  private readonly allowed = new Set<string>();
  private readonly warned = new Set<string>();

  constructor(options: RequestsOptions) {
    const { limits } = options;
    this.options = options;
    this.parse = requestParser(limits);
    this.remembered = new RememberedAnswers({
      answers: limits.rememberedAnswers,
      bytes: REMEMBERED_BYTES,
      ms: limits.rememberSeconds * 1000,
    });
  }

  onMessage(message: Incoming): void {
    const { topics, metrics, limits } = this.options;
    afterwards(() => metrics.requests.inc({ transport: "mqtt" }));
    if (message.isRetained) {
      this.ignore("retained", message);
      return;
    }
    let request: ClassifyRequest | undefined;
    let failure: RequestError | undefined;
    try {
      request = this.parse(message.payload, message.contentType);
    } catch (error) {
      failure = requestErrorOf(error);
      if (failure instanceof BrokenRequest)
        this.warnOnce("broken_request", `a request cannot be read: ${failure.message}; further ones are only counted`);
    }
    const asked = requestTopicsOf(topics, message.topic) ?? topics;
    const wanted = modelInTopic(asked, message.topic);
    const topic = this.answerTopic(message, asked, wanted, request?.replyTo ?? failure?.replyTo);
    if (topic === undefined) return;
    // No topic has a NUL: nobody can take a user's turns by choosing an answer topic.
    const requester = asked.user === undefined ? topic : `\0from ${asked.user}`;
    const receivedAt = performance.now();
    const pending: Pending = {
      message,
      topic,
      requester,
      id: request?.id ?? failure?.id,
      receivedAt,
      // Only the requester's own deadline is by the clock on the wall, which may be set while the request waits.
      expiresAt: Math.min(
        message.expiresAt,
        receivedAt + 1000 * limits.answerSeconds,
        receivedAt + (request?.deadline ?? Infinity) - Date.now(),
      ),
    };
    if (request) this.handle(request, wanted, pending);
    else this.fail(failure!, pending);
  }

  private handle(request: ClassifyRequest, wanted: string, pending: Pending): void {
    const { predictor, outbox } = this.options;
    const { message, topic, requester, expiresAt } = pending;
    const canComeAgain = request.id !== undefined || message.correlationData !== undefined;
    const known = canComeAgain ? this.remembered.get(message, topic) : undefined;
    if (known !== undefined) {
      this.options.metrics.duplicates.inc();
      this.reply(pending, known, OK);
      return;
    }
    if (outbox.isFull) {
      this.fail(ANSWERS_WAIT, pending);
      return;
    }
    predictor.submit(
      {
        requester,
        model: wanted,
        texts: request.texts,
        bytes: message.bytes,
        topK: request.topK,
        explain: request.explain,
        expiresAt,
      },
      ({ name, model, predictions }) => {
        const payload = encodeAnswer(request, predictions, { name, version: model.version });
        this.reply(pending, payload, OK);
        if (canComeAgain) afterwards(() => this.remembered.set(message, topic, payload));
      },
      (error) => this.options.guard.run(message, () => this.fail(error, pending)),
    );
  }

  /** Where the answer goes; undefined, with the request ignored, when it may not go there. */
  private answerTopic(
    message: Incoming,
    asked: RequestTopics,
    wanted: string,
    replyTo: string | undefined,
  ): string | undefined {
    const { topics, responses, predictor } = this.options;
    const { label, reply } = asked;
    const topic =
      message.responseTopic ??
      replyTo ??
      (wanted !== "" && predictor.models.has(wanted) ? `${label}/${wanted}` : label);
    const foreign = userTopicFault(asked, topic);
    if (foreign === undefined && this.allowed.has(topic)) return topic;
    const fault = foreign ?? answerTopicFault(topic, topics, responses);
    if (fault === undefined) {
      if (this.allowed.size >= ALLOWED_REMEMBERED) this.allowed.clear();
      this.allowed.add(topic);
      return topic;
    }
    // The topic itself is not shown: a requester can write a text there.
    const hint =
      foreign !== undefined
        ? `; a user is answered below ${reply}/ only`
        : fault === "not_allowed"
          ? `; topics below ${reply}/ are free, others need "responses": {"allow": [...]} in the configuration file`
          : "";
    this.warnOnce(
      fault,
      `a request wants its answer on a topic that may not be used (${fault})${hint}; further ones are only counted`,
    );
    this.ignore(`response_topic_${fault}`, message);
    return undefined;
  }

  private warnOnce(fault: string, message: string): void {
    if (this.warned.has(fault)) return;
    this.warned.add(fault);
    this.options.log.warn(message, { fault });
  }

  private fail(error: RequestError, pending: Pending): void {
    if (error.code === "expired") {
      this.ignore("expired", pending.message);
      return;
    }
    if (error.code === "internal") this.options.log.error(`a request failed: ${error.message}`);
    this.options.metrics.errors.inc({ code: error.code });
    const payload = encodeError(error, pending.id);
    if (error.code === "busy" || error.code === "rate") this.replyAtOnce(pending, payload, statusOf[error.code]);
    else this.reply(pending, payload, statusOf[error.code]);
  }

  private reply(pending: Pending, payload: string, status: number): void {
    const { outbox, metrics } = this.options;
    const { message, topic, expiresAt, receivedAt } = pending;
    const answer = this.fitting(pending, payload, status);
    if (!answer) {
      this.ignore("no_room_for_answer", message);
      return;
    }
    if (outbox.isFull) {
      metrics.errors.inc({ code: "busy" });
      this.replyAtOnce(pending, encodeError(ANSWERS_WAIT, pending.id), statusOf.busy);
      return;
    }
    const seconds = (performance.now() - receivedAt) / 1000;
    afterwards(() => metrics.answerSeconds.observe({ transport: "mqtt" }, seconds));
    outbox.offer({
      topic,
      payload: answer.payload,
      qos: message.qos === 0 ? 0 : 1,
      properties: propertiesOf(message, answer.status),
      expiresAt,
      settled: message.acknowledge,
    });
  }

  /** The answer, or an error in its place when it is too large for the broker; undefined when even the error is. */
  private fitting(
    { message, topic, id }: Pending,
    payload: string,
    status: number,
  ): { payload: string; status: number } | undefined {
    const { limits, metrics } = this.options;
    const room = Math.min(limits.answerBytes, payloadRoom(this.options.session(), topic, message.correlationData));
    if (Buffer.byteLength(payload) <= room) return { payload, status };
    metrics.errors.inc({ code: "too_large" });
    const error = encodeError(
      {
        code: "too_large",
        message: `the answer is larger than the ${limits.answerBytes} bytes, or the broker's own limit, that an answer may have`,
      },
      id,
    );
    return Buffer.byteLength(error) <= room ? { payload: error, status: statusOf.too_large } : undefined;
  }

  private replyAtOnce({ message, topic }: Pending, payload: string, status: number): void {
    this.options.outbox.refuse({ topic, payload, qos: 0, properties: propertiesOf(message, status) });
    message.acknowledge();
  }

  private ignore(reason: string, message: Incoming): void {
    this.options.metrics.ignored.inc({ reason });
    message.acknowledge();
  }
}

/** The MQTT 5 properties of an answer. Only errors have a `status`, which tells them from labels without parsing the payload. */
function propertiesOf({ correlationData, isMarked }: Incoming, status: number): NonNullable<Outgoing["properties"]> {
  return {
    contentType: "application/json",
    correlationData,
    userProperties:
      status === OK && !isMarked
        ? undefined
        : { ...(status === OK ? {} : { status: String(status) }), ...(isMarked ? { [LOOP_MARK]: "answer" } : {}) },
  };
}
