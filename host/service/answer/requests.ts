// Requests over MQTT, from message to answer:
//
//   message -> retained? -> parse -> answer topic -> known? -> queue -> encode -> outbox
//                 |           |           |            |         |                  |
//               count       error       error     same bytes   busy            acknowledge
//
// Whether the answer may go to its topic is checked before anything is computed. If it may not, the error goes to
// the node's own topic.
import type { Limits } from "../limits.ts";
import type { Guard } from "./guard.ts";
import { OnceLog } from "../log.ts";
import type { Log } from "../log.ts";
import { BrokenRequest, encodeAnswer, encodeError, RequestError, requestParser, statusOf } from "./messages.ts";
import type { ClassifyRequest, RequestParser } from "./messages.ts";
import type { Metrics } from "../metrics.ts";
import { LOOP_MARK, payloadRoom } from "../mqtt/connection.ts";
import type { Session } from "../mqtt/connection.ts";
import type { Incoming, Outgoing } from "../mqtt/message.ts";
import type { Outbox } from "../mqtt/outbox.ts";
import { requestErrorOf } from "./predictor.ts";
import type { Predictor } from "./predictor.ts";
import { AnswerCache, requestKey } from "./answer-cache.ts";
import { answerTopicFault, modelInTopic, NOT_THE_USERS, userTopicFault } from "../topics.ts";
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
  /** The current connection. */
  session: () => Session | undefined;
}

/** What is kept of a request until its answer is in the outbox. */
interface Pending {
  message: Incoming;
  topic: string;
  /** Whose line and rate limit it counts against. */
  requester: string;
  id: ClassifyRequest["id"];
  expiresAt: number;
  receivedAt: number;
}

const OK = 200;
const ANSWERS_WAIT = new RequestError("busy", "too many answers wait for the broker; try again later");
const CACHE_BYTES = 4_194_304;

export class Requests {
  private readonly options: RequestsOptions;
  private readonly parse: RequestParser;
  private readonly cache: AnswerCache;
  private readonly received: { inc(): void };
  private readonly answerSeconds: { observe(seconds: number): void };
  private readonly log: OnceLog;

  constructor(options: RequestsOptions) {
    const { limits } = options;
    this.options = options;
    this.log = new OnceLog(options.log);
    this.parse = requestParser(limits);
    this.received = options.metrics.requests.labels("mqtt");
    this.answerSeconds = options.metrics.answerSeconds.labels("mqtt");
    this.cache = new AnswerCache({
      answers: limits.rememberedAnswers,
      bytes: CACHE_BYTES,
      ms: limits.rememberSeconds * 1000,
    });
  }

  /** `asked`: the topics of the node, group or user that the message's own topic is one of. */
  onMessage(message: Incoming, asked: RequestTopics): void {
    const { limits } = this.options;
    this.received.inc();
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
        this.log.warn(
          "broken_request",
          `a request cannot be read: ${failure.message}; logged once, then only counted`,
          { fault: "broken_request" },
        );
    }
    if (request?.missing)
      this.log.warn(
        "no_text",
        `a request is a JSON object without "text" or "texts", so all of it was labelled as a text; did its sender mean "${request.missing}"? Names are in lower case; logged once`,
        { fault: "no_text" },
      );
    const wanted = modelInTopic(asked, message.topic);
    const own = wanted !== "" && this.options.predictor.models.has(wanted) ? `${asked.label}/${wanted}` : asked.label;
    let topic = message.responseTopic ?? request?.replyTo ?? failure?.replyTo ?? own;
    const refusal = this.topicRefusal(topic, asked);
    if (refusal) {
      const fault = this.topicFault(own, asked);
      if (fault !== undefined) {
        this.ignore(`response_topic_${fault}`, message);
        return;
      }
      failure = Object.assign(refusal, { id: request?.id ?? failure?.id });
      request = undefined;
      topic = own;
    }
    // No topic contains NUL, so no answer topic can pose as a user.
    const requester = asked.user === undefined ? topic : `\0from ${asked.user}`;
    const receivedAt = performance.now();
    const pending: Pending = {
      message,
      topic,
      requester,
      id: request?.id ?? failure?.id,
      receivedAt,
      // Only the requester's own deadline is in wall-clock time; the clock may be set while the request waits.
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
    const key = canComeAgain ? requestKey(message, topic) : undefined;
    const known = key === undefined ? undefined : this.cache.get(key);
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
        if (key !== undefined) this.cache.set(key, payload);
      },
      (error) => this.options.guard.run(message, () => this.fail(error, pending)),
    );
  }

  /** Why an answer may not go to that topic, as a word; undefined if it may. */
  private topicFault(topic: string, asked: RequestTopics): string | undefined {
    const { topics, responses } = this.options;
    return userTopicFault(asked, topic) ?? answerTopicFault(topic, topics, responses);
  }

  /** The error for a request that wants its answer where it may not go. The topic itself is not named: a requester could put a text there. */
  private topicRefusal(topic: string, asked: RequestTopics): RequestError | undefined {
    const fault = this.topicFault(topic, asked);
    if (fault === undefined) return undefined;
    const what = `wants its answer on a topic that may not be used (${fault})`;
    const free =
      fault === NOT_THE_USERS
        ? `; a user is answered below ${asked.reply}/ only`
        : fault === "not_allowed"
          ? `; topics below ${asked.reply}/ are free`
          : "";
    const others =
      fault === "not_allowed" ? ', others need "responses": {"allow": [...]} in the configuration file' : "";
    this.log.warn(fault, `a request ${what}${free}${others}; logged once, then only counted`, { fault });
    return new RequestError("bad_request", `the request ${what}${free}`);
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
    this.answerSeconds.observe(seconds);
    outbox.offer({
      topic,
      payload: answer.payload,
      qos: message.qos === 0 ? 0 : 1,
      properties: propertiesOf(message, answer.status),
      expiresAt,
      settled: message.acknowledge,
    });
  }

  /** The answer, or an error if it is too large for the broker; undefined if even that is too large. */
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

/** The MQTT 5 properties of an answer. Only errors have a `status`, so they can be told from labels without parsing. */
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
