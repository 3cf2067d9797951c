// What `serve` runs: models, requests, routes, outbox and the connection to the broker,
// joined; and what the node publishes about itself (status, info, announcements, figures).
// It is given loaded models, never paths, and opens no port.
//
//   connection -> requests or routes -> predictor (queue) -> outbox -> connection
import { randomUUID } from "node:crypto";
import { afterwards } from "./afterwards.ts";
import { Commands } from "./control/commands.ts";
import type { Limits } from "./limits.ts";
import { Guard } from "./answer/guard.ts";
import type { Log } from "./log.ts";
import { largestPacket } from "./answer/messages.ts";
import { Metrics } from "./metrics.ts";
import { Connection, LOOP_MARK, ROUTES_CLIENT } from "./mqtt/connection.ts";
import type { BrokerAccess, Incoming, Session } from "./mqtt/connection.ts";
import { Outbox } from "./mqtt/outbox.ts";
import { Predictor } from "./answer/predictor.ts";
import type { Model } from "./answer/predictor.ts";
import { Requests } from "./answer/requests.ts";
import { checkRoutes, checkTopic, Routes } from "./answer/routes.ts";
import type { RouteSettings } from "./answer/routes.ts";
import { checkTemplate, fillPayload, fillTopic } from "./answer/template.ts";
import type { Json } from "./answer/template.ts";
import { filterMatches, ownRequestTopics, requestFilters, requestTopicsOf } from "./topics.ts";
import type { ResponseRules, Topics } from "./topics.ts";
import { packageVersion } from "../version.ts";

/** A retained message about this node, by which other programs discover it. */
export interface Announcement {
  topic: string;
  payload: Json;
  /** Published again when this message comes, such as Home Assistant's birth message. */
  again?: { topic: string; payload?: string | undefined } | undefined;
}

export interface ServiceOptions {
  /** By name; the first one answers requests that name none. Empty while a registry has no model yet. */
  models: ReadonlyMap<string, Model>;
  topics: Topics;
  access: BrokerAccess;
  clientId: string;
  limits: Limits;
  responses: ResponseRules;
  routes?: readonly RouteSettings[];
  announcements?: readonly Announcement[];
  /** How often figures are published; 0: never. */
  figuresSeconds?: number;
  /** Whether commands are accepted. */
  commands?: boolean;
  log: Log;
}

/** A newer version of a model that is installed but not active. */
export interface WaitingVersion {
  version: string;
  digest: string;
}

/** Messages of routes that the broker may send before one of them is acknowledged. */
const ROUTES_WINDOW = 64;
/** Answers that may be unacknowledged at once. */
const WINDOW = 64;
const STATUS_DELAY_MS = 1_000;
/** An announcement is published at most once in this time, whoever may ask for it `again`. */
const ANNOUNCEMENT_MS = 1_000;
/** Topics with a state besides the announcements: the node's own, and those of commands. */
const STATES = 128;
/** How long a stop waits for answers that are on their way. */
const STOP_DRAIN_MS = 900;
const ANNOUNCED = [
  "node",
  "root",
  "version",
  "model",
  "labels",
  "status",
  "info",
  "metrics",
  "classify",
  "label",
  "command",
  "waiting",
  "id",
];

/** Throws a UserError that names the first impossible route or announcement. */
export function checkService({
  routes = [],
  announcements = [],
  topics,
}: Pick<ServiceOptions, "routes" | "announcements" | "topics">): void {
  const heard = [
    ...routes.map(({ filter }) => filter),
    ...topicsOfAgain(announcements),
    ...ownRequestTopics(topics).flatMap(requestFilters),
    `${topics.command}/#`,
    topics.status,
    topics.info,
  ];
  checkRoutes(routes, topics, heard);
  for (const { topic, payload } of announcements) {
    const who = `announcement ${topic}`;
    checkTemplate(topic, ANNOUNCED, who);
    checkTemplate(payload, ANNOUNCED, who);
    checkTopic(topic, heard, who);
  }
}

function topicsOfAgain(announcements: readonly Announcement[]): string[] {
  return announcements.flatMap(({ again }) => (again ? [again.topic] : []));
}

export class Service {
  readonly metrics = new Metrics();
  readonly predictor: Predictor;
  /** Undefined when commands are off. */
  readonly commands: Commands | undefined;
  private readonly options: ServiceOptions;
  private readonly outbox: Outbox;
  private readonly requests: Requests;
  private readonly routes: Routes;
  private readonly connection: Connection;
  /** Undefined without routes. */
  private readonly routing: Connection | undefined;
  private readonly waiting = new Map<string, WaitingVersion>();
  private session: Session | undefined;
  private isSubscribed = false;
  private isRouting = false;
  private isStopping = false;
  private statusTimer: NodeJS.Timeout | undefined;
  private figuresTimer: NodeJS.Timeout | undefined;
  /** Announcements of the last second. */
  private readonly announced = new Map<Announcement, { timer: NodeJS.Timeout; isWanted: boolean }>();
  private onReady: (() => void)[] = [];

  constructor(options: ServiceOptions) {
    checkService(options);
    const { topics, limits, log, models, routes = [], announcements = [], responses } = options;
    const { metrics } = this;
    this.options = options;
    const guard = new Guard(metrics, log);
    this.predictor = new Predictor(
      models,
      {
        texts: limits.queuedTexts,
        bytes: limits.queuedBytes,
        textsPerSecond: limits.textsPerSecond,
        requesters: limits.requesters,
      },
      metrics,
    );
    this.outbox = new Outbox(
      { answers: limits.queuedAnswers, bytes: limits.queuedBytes, states: STATES + announcements.length },
      (fate) => afterwards(() => metrics.answers.inc({ fate })),
    );
    metrics.gauge("edgelabel_answers_queued", "Answers that wait for the broker.", () => this.outbox.length);
    metrics.gauge("edgelabel_texts_queued", "Texts that wait for the engine.", () => this.predictor.queue.length);
    for (const [name, model] of models) this.countModel(name, model, 1);
    const heard = topicsOfAgain(announcements);
    const routed = routes.map(({ filter }) => filter);
    const { group } = topics;
    const shared = (filters: string[]) => (group ? filters.map((filter) => `$share/${group.name}/${filter}`) : filters);
    this.requests = new Requests({
      predictor: this.predictor,
      outbox: this.outbox,
      metrics,
      topics,
      limits,
      log,
      guard,
      responses: { ...responses, deny: [...responses.deny, ...routed, ...heard] },
      session: () => this.session,
    });
    this.commands = options.commands
      ? new Commands({
          topics,
          metrics,
          log,
          guard,
          outbox: this.outbox,
          // A button in another program sends the {id} of its announcement: with the same one it would get the same failure for ever.
          onFailed: () => this.announceAll(),
        })
      : undefined;
    this.commands?.add("list", async () => ({ models: this.models() }));
    this.routes = new Routes({
      routes,
      predictor: this.predictor,
      outbox: this.outbox,
      metrics,
      topics,
      limits,
      log,
      guard,
      mayPause: !options.access.isEmbedded,
      session: () => this.session,
    });
    metrics.gauge("edgelabel_routes_waiting", "Messages of routes that wait for room.", () => this.routes.waiting);
    const access = {
      access: options.access,
      isPersistent: group === undefined,
      maximumPacketSize: largestPacket(limits),
      answerBytes: limits.answerBytes,
    };
    this.connection = new Connection({
      ...access,
      clientId: options.clientId,
      filters: [
        ...new Set([
          ...requestFilters(topics),
          topics.status,
          ...heard,
          ...(group ? shared(requestFilters(group)) : []),
        ]),
      ],
      retainedFilters: this.commands ? [this.commands.filter] : [],
      will: { topic: topics.status, payload: "offline" },
      log,
      onMessage: (message) => guard.run(message, () => this.onMessage(message)),
      onConnect: (session) => this.onConnect(session),
      onSubscribed: (session) => this.onSubscribed(session),
      onClose: () => this.onClose(),
    });
    this.routing =
      routes.length === 0
        ? undefined
        : new Connection({
            ...access,
            clientId: options.clientId + ROUTES_CLIENT,
            filters: [...new Set(shared(routed))],
            retainedFilters: [],
            receiveMaximum: ROUTES_WINDOW,
            log: { info() {}, warn: (message, fields) => log.warn(`routes: ${message}`, fields), error() {} },
            onMessage: (message) => (this.isStopping ? undefined : this.routes.onMessage(message)),
            onConnect: () => {},
            onSubscribed: () => {
              this.isRouting = true;
              this.tellReady();
            },
            onClose: () => {
              this.isRouting = false;
              this.routes.onClose();
            },
          });
    this.predictor.queue.beforeSlice = () => this.connection.flush();
  }

  /** Why requests get no answers at present; undefined when they do. */
  get hindrance(): string | undefined {
    if (!this.isSubscribed || (this.routing && !this.isRouting) || this.isStopping)
      return "not connected to the broker";
    return this.predictor.models.size === 0 ? "no model is installed yet" : undefined;
  }

  get isReady(): boolean {
    return this.hindrance === undefined;
  }

  /** Resolves when the broker has taken the subscription; until then it keeps trying. */
  start(): Promise<void> {
    const { figuresSeconds = 0 } = this.options;
    this.connection.start();
    this.routing?.start();
    if (figuresSeconds > 0) this.figuresTimer = setInterval(() => this.sayFigures(), figuresSeconds * 1000);
    return new Promise((resolve) => this.onReady.push(resolve));
  }

  /** Takes no further requests, sends the answers that are due, publishes `offline` and disconnects. Unacknowledged requests stay with the broker. */
  async stop(): Promise<void> {
    if (this.isStopping) return;
    this.isStopping = true;
    clearTimeout(this.statusTimer);
    clearInterval(this.figuresTimer);
    for (const { timer } of this.announced.values()) clearTimeout(timer);
    this.commands?.stop();
    this.routes.onClose();
    const until = performance.now() + STOP_DRAIN_MS;
    await this.predictor.queue.drained(STOP_DRAIN_MS);
    if (this.session) await this.outbox.drained(until - performance.now());
    await Promise.all([
      this.routing?.stop(),
      this.connection.stop({ topic: this.options.topics.status, payload: "offline", qos: 1, retain: true }),
    ]);
  }

  /** Replaces or adds a model without a pause, and publishes the change. */
  setModel(name: string, model: Model): void {
    const old = this.predictor.models.get(name);
    if (old) this.countModel(name, old, 0);
    this.predictor.set(name, model);
    this.countModel(name, model, 1);
    this.metrics.modelChanges.inc({ model: name });
    this.sayModels();
  }

  /** False for the last model, which stays: without one the service could answer nothing. */
  removeModel(name: string): boolean {
    const model = this.predictor.models.get(name);
    if (!model || this.predictor.models.size === 1) return false;
    this.countModel(name, model, 0);
    this.predictor.remove(name);
    this.sayModels();
    return true;
  }

  /** Publishes that a newer version of a model waits to be activated, or that none does any more. */
  setWaiting(name: string, waiting: WaitingVersion | undefined): void {
    if (this.waiting.get(name)?.digest === waiting?.digest) return;
    if (waiting) this.waiting.set(name, { version: waiting.version, digest: waiting.digest });
    else this.waiting.delete(name);
    this.sayModels();
  }

  info(): object {
    const { topics, limits } = this.options;
    return {
      name: "edgelabel",
      version: packageVersion,
      node: topics.node,
      models: this.models(),
      limits,
      topics: {
        classify: topics.classify,
        from: topics.from,
        label: topics.label,
        reply: topics.reply,
        status: topics.status,
      },
      group: topics.group,
    };
  }

  private countModel(model: string, { version, digest }: Model, served: 0 | 1): void {
    if (served === 1) this.metrics.modelInfo.set({ model, version, digest }, 1);
    else this.metrics.modelInfo.remove({ model, version, digest });
  }

  private sayModels(): void {
    if (!this.isSubscribed) return;
    this.outbox.say({ topic: this.options.topics.info, payload: JSON.stringify(this.info()), qos: 1, retain: true });
    this.announceAll();
  }

  private announceAll(): void {
    for (const announcement of this.options.announcements ?? []) this.announceSoon(announcement);
  }

  /** At once, or when the last time is long enough ago, and then once however often it was asked for. */
  private announceSoon(announcement: Announcement): void {
    const last = this.announced.get(announcement);
    if (last) {
      last.isWanted = true;
      return;
    }
    this.announce(announcement);
    const timer = setTimeout(() => {
      const { isWanted } = this.announced.get(announcement)!;
      this.announced.delete(announcement);
      if (isWanted && this.isSubscribed && !this.isStopping) this.announceSoon(announcement);
    }, ANNOUNCEMENT_MS).unref();
    this.announced.set(announcement, { timer, isWanted: false });
  }

  private models(): object[] {
    return [...this.predictor.models].map(([name, { version, labels, digest }]) => ({
      name,
      version,
      labels,
      digest,
      default: name === this.predictor.defaultModel,
      waiting: this.waiting.get(name),
    }));
  }

  private onConnect(session: Session): void {
    this.session = session;
    this.metrics.connects.inc();
    this.outbox.attach({
      window: Math.min(WINDOW, session.receiveMaximum),
      get isCongested() {
        return session.isCongested;
      },
      send: (message, done) => session.publish(message, done),
    });
  }

  private onSubscribed(session: Session): void {
    const { log } = this.options;
    this.isSubscribed = true;
    this.metrics.connected.set(1);
    this.sayModels();
    this.sayOnline();
    log.info(`connected to ${session.url} (MQTT ${session.protocol === 5 ? "5" : "3.1.1"})`, {
      broker: session.url,
      protocol: session.protocol,
    });
    this.tellReady();
  }

  private tellReady(): void {
    if (this.isSubscribed && (!this.routing || this.isRouting)) for (const ready of this.onReady.splice(0)) ready();
  }

  private onClose(): void {
    this.session = undefined;
    this.isSubscribed = false;
    this.metrics.connected.set(0);
    this.outbox.detach();
  }

  private onMessage(message: Incoming): void {
    // Left unacknowledged, so that the broker keeps a QoS 1 request for the next start.
    if (this.isStopping) return;
    const { topics, announcements = [] } = this.options;
    if (requestTopicsOf(topics, message.topic)) this.requests.onMessage(message);
    else if (message.topic === topics.status) this.onStatus(message);
    else if (message.topic.startsWith(`${topics.command}/`)) this.onCommand(message);
    else {
      for (const announcement of announcements) {
        const { again } = announcement;
        if (
          again &&
          !message.isMarked &&
          filterMatches(again.topic, message.topic) &&
          (again.payload === undefined || again.payload === message.payload.toString())
        )
          this.announceSoon(announcement);
      }
      // Routes of an earlier configuration may still be in the session, too.
      message.acknowledge();
    }
  }

  /** Commands may come even when they are off: from a session that began when they were on. */
  private onCommand(message: Incoming): void {
    if (this.commands) this.commands.onMessage(message);
    else message.acknowledge();
  }

  /** Corrects the status when the last will of an earlier connection comes late, at most once a second. */
  private onStatus(message: Incoming): void {
    message.acknowledge();
    if (message.payload.toString() === "online" || !this.isSubscribed || this.statusTimer) return;
    this.statusTimer = setTimeout(() => {
      this.statusTimer = undefined;
      if (this.isSubscribed && !this.isStopping) this.sayOnline();
    }, STATUS_DELAY_MS);
  }

  private sayOnline(): void {
    this.outbox.say({ topic: this.options.topics.status, payload: "online", qos: 1, retain: true });
  }

  private announce({ topic: template, payload }: Announcement): void {
    // An announcement is about a model: without one it waits until the first is installed.
    if (this.predictor.models.size === 0) return;
    const { topics } = this.options;
    const { name, model } = this.predictor.model("");
    const values: Record<string, unknown> = {
      node: topics.node,
      root: topics.root,
      version: packageVersion,
      model: name,
      labels: model.labels,
      status: topics.status,
      info: topics.info,
      metrics: topics.metrics,
      classify: topics.classify,
      label: topics.label,
      command: topics.command,
      waiting: this.waiting.get(name)?.digest,
      id: randomUUID(),
    };
    const topic = fillTopic(template, (placeholder) => values[placeholder]);
    if (topic === undefined) return;
    this.outbox.say({
      topic,
      payload: fillPayload(payload, (placeholder) => values[placeholder]),
      qos: 1,
      retain: true,
      properties: { userProperties: { [LOOP_MARK]: topics.node } },
    });
  }

  private sayFigures(): void {
    if (!this.session || this.session.isCongested) return;
    void this.metrics
      .figures()
      .then((figures) =>
        this.outbox.say({
          topic: this.options.topics.metrics,
          payload: JSON.stringify({
            ...figures,
            answers_queued: this.outbox.length,
            texts_queued: this.predictor.queue.length,
          }),
          qos: 0,
        }),
      );
  }
}
