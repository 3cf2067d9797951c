// Routes, from the configuration file: messages of other programs in, labels out,
// without a change to those programs.
//
//   message -> filter -> text -> queue -> label -> which outputs -> topic, payload
//
// A QoS 1 or 2 message that finds no room waits here, unacknowledged. Routes have a connection of
// their own, so that the broker's window of unacknowledged messages is theirs alone: however many
// wait, requests and commands still come in.
//
// No output can go to a topic that this node listens to: see outputs.ts. A loop between two nodes is prevented by a mark that every output
// carries on MQTT 5: a message with the mark is not routed. MQTT 3.1.1 has no place for a
// mark; there a loop ends because the same text keeps coming on the same topic.
import { createHash, randomUUID } from "node:crypto";
import { givenLabels } from "../../model/answer.ts";
import type { Prediction } from "../../model/classifier.ts";
import type { Limits } from "../limits.ts";
import type { Guard } from "./guard.ts";
import { ExactNumber, fromJson, JsonError } from "./json.ts";
import { OnceLog } from "../log.ts";
import type { Log } from "../log.ts";
import { withoutMark } from "./messages.ts";
import type { Metrics } from "../metrics.ts";
import { LOOP_MARK, payloadRoom } from "../mqtt/connection.ts";
import type { Session } from "../mqtt/connection.ts";
import type { Incoming } from "../mqtt/message.ts";
import type { Outbox } from "../mqtt/outbox.ts";
import { requestErrorOf } from "./predictor.ts";
import type { Outcome, Predictor } from "./predictor.ts";
import { shortName } from "./rate.ts";
import type { RouteOutput, RouteSettings } from "./outputs.ts";
import { fillPayload, fillTopic, pointedAt } from "./template.ts";
import type { Values } from "./template.ts";
import { filterMatches } from "../topics.ts";
import type { Topics } from "../topics.ts";

/** A message that waits for room. */
interface Held {
  route: RouteSettings;
  message: Incoming;
  done: () => void;
}

export interface RoutesOptions {
  routes: readonly RouteSettings[];
  predictor: Predictor;
  outbox: Outbox;
  metrics: Metrics;
  topics: Topics;
  limits: Limits;
  log: Log;
  guard: Guard;
  /** Whether the connection may stop reading; with the embedded broker that would hold up everyone. */
  mayPause: boolean;
  /** The current connection. */
  session: () => Session | undefined;
}

/** Last labels kept for `onChange`, for all routes together. */
const SOURCES_REMEMBERED = 10_000;
/** How often the same text on the same topic is routed in this time: only a loop sends it more often. */
const REPEATS = 100;
const REPEATS_MS = 10_000;
/** Texts that are counted at once. */
const REPEATED_REMEMBERED = 10_000;
/** How often waiting messages are tried again. */
const TRY_AGAIN_MS = 20;
/** Generous estimate of the memory that a waiting message takes besides its bytes. */
const HELD_OVERHEAD = 512;
/** Value of topK: all scores. */
const ALL = 0;
/** The prediction for an empty text. */
const NOTHING: Prediction = { label: null, score: 0, scores: {} };
/** Outcomes that need no warning. */
const ORDINARY = new Set(["classified", "published", "retained", "loop"]);

interface Source {
  route: RouteSettings;
  message: Incoming;
  json: unknown;
  text: string | Uint8Array;
}

export class Routes {
  private readonly options: RoutesOptions;
  /** The sorted labels, as JSON. */
  private readonly last = new Map<string, string>();
  private readonly log: OnceLog;
  /** Routes that need the scores of all labels. */
  private readonly scored: ReadonlySet<RouteSettings>;
  /** QoS 1 and 2 messages that found no room, in order of arrival. */
  private held: Held[] = [];
  private heldBytes = 0;
  private timer: NodeJS.Timeout | undefined;
  private onRoom: (() => void)[] = [];
  /** How often each text was received on its topic since `repeatsSince`. */
  private readonly repeats = new Map<string, number>();
  private repeatsSince = 0;

  constructor(options: RoutesOptions) {
    this.options = options;
    this.log = new OnceLog(options.log);
    this.scored = new Set(
      options.routes.filter(
        ({ among, outputs }) => among !== undefined || /\{(?:scores|predictions)\}/.test(JSON.stringify(outputs)),
      ),
    );
  }

  /** Messages that wait for room, unacknowledged. */
  get waiting(): number {
    return this.held.length;
  }

  /** Returns a promise if so much is waiting that reading should stop until it resolves. */
  onMessage(message: Incoming): Promise<void> | undefined {
    this.options.guard.run(message, () => this.begin(message));
    if (this.hasRoomToWait || !this.options.mayPause) return undefined;
    return new Promise((resolve) => this.onRoom.push(resolve));
  }

  private begin(message: Incoming): void {
    const routes = this.options.routes.filter(({ filter }) => filterMatches(filter, message.topic));
    if (routes.length === 0) message.acknowledge();
    const done = countdown(routes.length, message.acknowledge);
    for (const route of routes) this.route(route, message, done);
  }

  private route(route: RouteSettings, message: Incoming, done: () => void, isAgain = false): void {
    const { predictor, outbox, guard, limits } = this.options;
    const end = (outcome: string) => {
      this.count(route, outcome);
      done();
    };
    if (message.isRetained) return end("retained");
    if (message.isMarked) return end("loop");
    if (message.payload.length > limits.payloadBytes) return end("too_large");
    const json = parseJson(message.payload);
    const found = textOf(route, message.payload, json);
    if ("fault" in found) return end(found.fault);
    const { text } = found;
    if (!isAgain && this.isRepeated(route, message.topic, text)) return end("repeated");
    const mayWait = message.qos > 0;
    const wait = () => this.hold({ route, message, done }, isAgain);
    // Behind those already waiting, so that a topic's messages stay in order.
    if (mayWait && ((this.held.length > 0 && !isAgain) || !this.hasRoomToSpare)) return wait();
    if (text === "") return this.publishUnknown({ route, message, json, text }, end, done);
    predictor.submit(
      {
        requester: `${route.name}\0${message.topic}`,
        model: route.model,
        texts: [text],
        bytes: message.bytes,
        topK: this.scored.has(route) ? ALL : undefined,
        expiresAt: mayWait
          ? message.expiresAt
          : Math.min(message.expiresAt, performance.now() + 1000 * limits.answerSeconds),
      },
      (outcome) => {
        if (mayWait && outbox.isFull) return wait();
        this.count(route, "classified");
        this.publish({ route, message, json, text }, outcome, done);
        if (this.held.length > 0) setImmediate(() => this.tryAgain());
      },
      (error) =>
        guard.run(message, () => {
          if (mayWait && (error.code === "busy" || error.code === "rate")) wait();
          else end(error.code);
        }),
    );
  }

  /** These messages can wait and requests cannot, so half of the queue and of the outbox is left to requests. */
  private get hasRoomToSpare(): boolean {
    const { predictor, outbox } = this.options;
    return predictor.queue.hasRoomToSpare && outbox.hasRoomToSpare;
  }

  private get hasRoomToWait(): boolean {
    return this.heldBytes <= this.options.limits.queuedBytes;
  }

  private hold(held: Held, isAgain: boolean): void {
    if (!this.hasRoomToWait && !this.options.mayPause) {
      this.count(held.route, "busy");
      held.done();
      return;
    }
    if (isAgain) this.held.unshift(held);
    else this.held.push(held);
    this.heldBytes += sizeOfHeld(held);
    this.timer ??= setInterval(() => this.tryAgain(), TRY_AGAIN_MS).unref();
  }

  private tryAgain(): void {
    const { guard } = this.options;
    while (this.held.length > 0 && this.hasRoomToSpare) {
      const held = this.held.shift()!;
      this.heldBytes -= sizeOfHeld(held);
      const { length } = this.held;
      guard.run(held.message, () => this.route(held.route, held.message, held.done, true));
      if (this.held.length > length) break;
    }
    this.goOn();
  }

  private goOn(): void {
    if (this.hasRoomToWait) for (const goOn of this.onRoom.splice(0)) goOn();
    if (this.held.length > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** The connection is lost: the broker will deliver again what was not acknowledged. */
  onClose(): void {
    this.held = [];
    this.heldBytes = 0;
    this.goOn();
  }

  /** An empty text is unknown without asking the model; its sender may be waiting for that answer. */
  private publishUnknown(source: Source, end: (outcome: string) => void, done: () => void): void {
    const { route } = source;
    if (!route.outputs.some((output) => isWanted(output, null))) return end("no_text");
    let model: ReturnType<Predictor["model"]>;
    try {
      model = this.options.predictor.model(route.model);
    } catch (error) {
      return end(requestErrorOf(error).code);
    }
    this.publish(source, { ...model, predictions: [NOTHING] }, done);
  }

  private publish(source: Source, outcome: Outcome, done: () => void): void {
    const { route, message } = source;
    const { outbox, limits, topics, session } = this.options;
    const prediction = bestAmong(route, source.json, outcome.predictions[0]!);
    const given = givenLabels(prediction, route.threshold);
    const each = given.length > 0 ? given : [{ label: null, score: prediction.score }];
    const wanted = route.outputs.flatMap((output, i) => {
      const own = each.filter(({ label }) => isWanted(output, label));
      const labels = JSON.stringify(own.map(({ label }) => label).sort());
      const key = shortName(`${route.name}\0${i}\0${message.topic}`);
      if (output.onChange && this.last.get(key) === labels) return [];
      // A text is one message on a topic, and its labels have the topics of their own.
      const messages = output.topic.includes("{label}") ? own : own.slice(0, 1);
      return messages.map((answer) => ({ ...output, ...answer, key, labels }));
    });
    const finished = countdown(wanted.length + 1, done);
    const failed = new Set<string>();
    for (const { topic: template, payload, onChange, qos, retain, key, labels, label, score } of wanted) {
      const values = this.values(source, outcome, { label, score, labels: given, scores: prediction.scores });
      const topic = fillTopic(template, values);
      const text =
        payload === undefined
          ? JSON.stringify({
              label,
              score,
              labels: outcome.model.isMultiLabel ? given : undefined,
              model: outcome.name,
              version: outcome.model.version,
            })
          : fillPayload(payload, values);
      const fault =
        topic === undefined
          ? "bad_topic"
          : Buffer.byteLength(text) > Math.min(limits.answerBytes, payloadRoom(session(), topic))
            ? "too_large"
            : outbox.isFull
              ? "busy"
              : undefined;
      this.count(route, fault ?? "published");
      if (fault !== undefined) {
        failed.add(key);
        if (this.last.get(key) === labels) this.last.delete(key);
        finished();
        continue;
      }
      // Not for outputs that fail: for them the labels are still a change next time.
      if (onChange && !failed.has(key)) this.remember(key, labels);
      outbox.offer({
        topic: topic!,
        payload: text,
        qos,
        retain,
        properties: { userProperties: { [LOOP_MARK]: `${topics.node}/${route.name}` } },
        expiresAt: message.qos > 0 ? Infinity : performance.now() + 1000 * limits.answerSeconds,
        settled() {},
        // Not earlier: the acknowledgement takes another connection, and could overtake outputs that wait for this one.
        finished,
      });
    }
    finished();
  }

  private isRepeated({ name }: RouteSettings, topic: string, text: string | Uint8Array): boolean {
    const now = performance.now();
    if (now - this.repeatsSince >= REPEATS_MS || this.repeats.size >= REPEATED_REMEMBERED) {
      this.repeats.clear();
      this.repeatsSince = now;
    }
    const key = createHash("sha256").update(`${name}\0${topic}\0`).update(text).digest("base64");
    const times = (this.repeats.get(key) ?? 0) + 1;
    this.repeats.set(key, times);
    return times > REPEATS;
  }

  /** Counts the outcome, and logs the first message that is dropped for each reason. */
  private count({ name }: RouteSettings, outcome: string): void {
    this.options.metrics.routed.inc({ route: name, outcome });
    if (ORDINARY.has(outcome)) return;
    this.log.warn(
      `${name} ${outcome}`,
      `route "${name}" drops a message (${outcome}); logged once, then only counted`,
      { route: name, fault: outcome },
    );
  }

  private remember(key: string, labels: string): void {
    this.last.delete(key);
    this.last.set(key, labels);
    if (this.last.size > SOURCES_REMEMBERED) this.last.delete(this.last.keys().next().value!);
  }

  private values(
    { route, message, json, text }: Source,
    { name, model }: Outcome,
    { label, score, labels, scores }: Prediction,
  ): Values {
    const { topics } = this.options;
    const levels = message.topic.split("/");
    const wildcards = route.filter.split("/").flatMap((level, i) => (level === "+" ? [levels[i]] : []));
    const byName: Record<string, () => unknown> = {
      label: () => label,
      score: () => score,
      labels: () => labels,
      scores: () => scores,
      predictions: () => Object.entries(scores).map(([each, value]) => ({ class: each, score: value })),
      model: () => name,
      version: () => model.version,
      digest: () => model.digest,
      node: () => topics.node,
      root: () => topics.root,
      route: () => route.name,
      topic: () => message.topic,
      text: () => (typeof text === "string" ? text : Buffer.from(text).toString()),
      id: () => randomUUID(),
      time: () => new Date().toISOString(),
      bytes: () => message.payload.length,
      sha256: () => createHash("sha256").update(message.payload).digest("hex"),
    };
    return (wanted) => {
      if (wanted.startsWith("/")) return pointedAt(json, wanted);
      return /^\d$/.test(wanted) ? wildcards[Number(wanted) - 1] : byName[wanted]!();
    };
  }
}

/** Calls `then` on the nth call. A function of its own, so that the outbox, which keeps it, does not keep the message with it. */
function countdown(times: number, then: () => void): () => void {
  return () => {
    if (--times === 0) then();
  };
}

function sizeOfHeld({ message }: Held): number {
  return message.bytes + HELD_OVERHEAD;
}

/** A label of null means unknown: none reaches the threshold, or the model rejects the text. */
function isWanted({ when }: RouteOutput, label: string | null): boolean {
  if (when === "any") return true;
  if (when === "unknown") return label === null;
  return label !== null && (when === "known" || when.includes(label));
}

/** The best of the labels that the message allows; a message without a list, or with an empty one, allows all. */
function bestAmong({ among }: RouteSettings, json: unknown, prediction: Prediction): Prediction {
  const allowed = (among === undefined ? undefined : pointedAt(json, among)) ?? [];
  if (Array.isArray(allowed) && allowed.length === 0) return prediction;
  const isAllowed = (label: string): boolean => Array.isArray(allowed) && allowed.includes(label);
  const scores = Object.entries(prediction.scores).filter(([label]) => isAllowed(label));
  // JavaScript moves keys that are whole numbers to the front.
  const [label, score] = scores.sort((a, b) => b[1] - a[1])[0] ?? [null, 0];
  return {
    label: prediction.label === null ? null : label,
    score,
    labels: prediction.labels?.filter((each) => isAllowed(each.label)),
    scores: Object.fromEntries(scores),
  };
}

/** Undefined when the payload is not JSON. */
function parseJson(payload: Buffer): unknown {
  try {
    return fromJson(payload);
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

/** The parts joined by a space, "" if all are empty or null; or why the message has no text. Some of the parts must not pass for the whole text. */
function textOf(
  { text: pointers }: RouteSettings,
  payload: Buffer,
  json: unknown,
): { text: string | Uint8Array } | { fault: string } {
  if (pointers.length === 0) {
    const text = withoutMark(payload);
    return text.length > 0 ? { text } : { fault: "no_text" };
  }
  if (json === undefined && payload.length > 0) return { fault: "bad_json" };
  const found = pointers.map((pointer) => pointedAt(json, pointer));
  if (found.every((part) => part === null || (typeof part === "string" && part.trim() === ""))) return { text: "" };
  const parts = found.map(partOf);
  if (!parts.includes(undefined)) return { text: parts.filter(Boolean).join(" ") };
  return { fault: parts.some(Boolean) ? "part_missing" : "no_text" };
}

/** A string, a number, bytes of UTF-8 in an array, as journald writes a MESSAGE that has colours, or several of these; undefined for anything else. */
function partOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "number" || value instanceof ExactNumber) return String(value);
  if (!Array.isArray(value) || value.length === 0) return undefined;
  if (value.every(isByte)) return Buffer.from(value).toString();
  const parts = value.map((item: unknown) =>
    typeof item === "string" || Array.isArray(item) ? partOf(item) : undefined,
  );
  return parts.includes(undefined) ? undefined : parts.filter(Boolean).join(" ");
}

function isByte(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 255;
}
