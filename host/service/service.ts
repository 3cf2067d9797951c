// What `serve` runs: connects models, requests, routes, outbox and the connection to the broker, and
// publishes what the node says about itself (status, info, announcements, figures). It is given
// loaded models, not paths, and opens no port.
//
//   connection -> requests or routes -> predictor (queue) -> outbox -> connection
import { randomUUID } from "node:crypto";
import { Commands } from "./control/commands.ts";
import type { Limits } from "./limits.ts";
import { Guard } from "./answer/guard.ts";
import type { Log } from "./log.ts";
import { largestPacket } from "./answer/messages.ts";
import { Metrics } from "./metrics.ts";
import { Connection, LOOP_MARK, ROUTES_CLIENT } from "./mqtt/connection.ts";
import type { BrokerAccess, Session } from "./mqtt/connection.ts";
import type { Incoming } from "./mqtt/message.ts";
import { Outbox } from "./mqtt/outbox.ts";
import { Predictor } from "./answer/predictor.ts";
import type { Model } from "./answer/predictor.ts";
import { Requests } from "./answer/requests.ts";
import { repeatTopics } from "./answer/outputs.ts";
import type { Announcement, RouteSettings } from "./answer/outputs.ts";
import { Routes } from "./answer/routes.ts";
import { fillPayload, fillTopic } from "./answer/template.ts";
import { filterMatches, requestFilters, requestTopicsOf } from "./topics.ts";
import type { ResponseRules, Topics } from "./topics.ts";
import { packageVersion } from "../version.ts";

export interface ServiceOptions {
  /** By name; the first one answers requests that name no model. Empty while a registry has no model yet. */
  models: ReadonlyMap<string, Model>;
  topics: Topics;
  access: BrokerAccess;
  clientId: string;
  limits: Limits;
  responses: ResponseRules;
  /** Routes and announcements: such as checkOutputs takes. */
  routes?: readonly RouteSettings[];
  announcements?: readonly Announcement[];
  /** Interval at which figures are published; 0: never. */
  figuresSeconds?: number;
  /** Whether commands are accepted. */
  commands?: boolean;
  log: Log;
}

/** A newer version of a model that is installed but not yet active. */
export interface WaitingVersion {
  version: string;
  digest: string;
}

/** Messages for routes that the broker may send before one of them is acknowledged. */
const ROUTES_WINDOW = 64;
const STATUS_DELAY_MS = 1_000;
/** An announcement is published at most once in this time, however often it is asked for. */
const ANNOUNCEMENT_MS = 1_000;
/** Topics with a state besides the announcements: the node's own, and those of commands. */
const STATES = 128;
/** How long a stop waits for pending answers. */
const STOP_DRAIN_MS = 900;

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
      (fate) => metrics.answers.inc({ fate }),
    );
    metrics.gauge("edgelabel_answers_queued", "Answers that wait for the broker.", () => this.outbox.length);
    metrics.gauge("edgelabel_texts_queued", "Texts that wait for the engine.", () => this.predictor.queue.length);
    for (const [name, model] of models) this.countModel(name, model, 1);
    const repeats = repeatTopics(announcements);
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
      responses: { ...responses, deny: [...responses.deny, ...routed, ...repeats] },
      session: () => this.session,
    });
    this.commands = options.commands
      ? new Commands({
          topics,
          metrics,
          log,
          guard,
          outbox: this.outbox,
          // A button in another program sends the {id} of its announcement, and would get the same failure again with the same id.
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
          ...repeats,
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
              this.resolveStart();
            },
            onClose: () => {
              this.isRouting = false;
              this.routes.onClose();
            },
          });
  }

  /** Why requests are not answered at the moment; undefined if they are. */
  get notReadyReason(): string | undefined {
    if (!this.isSubscribed || (this.routing && !this.isRouting) || this.isStopping)
      return "not connected to the broker";
    return this.predictor.models.size === 0 ? "no model is installed yet" : undefined;
  }

  get isReady(): boolean {
    return this.notReadyReason === undefined;
  }

  /** Resolves when the subscription is there; until then it keeps trying. */
  start(): Promise<void> {
    const { figuresSeconds = 0 } = this.options;
    this.connection.start();
    this.routing?.start();
    if (figuresSeconds > 0) this.figuresTimer = setInterval(() => this.publishFigures(), figuresSeconds * 1000);
    return new Promise((resolve) => this.onReady.push(resolve));
  }

  /** Accepts no more requests, sends the pending answers, publishes `offline` and disconnects. Unacknowledged requests stay with the broker. */
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
    if (this.session) {
      this.publishStatus("offline");
      await this.outbox.drained(until - performance.now());
    }
    await Promise.all([this.routing?.stop(true), this.connection.stop(this.outbox.length === 0)]);
  }

  /** Replaces or adds a model without a pause, and publishes the change. */
  setModel(name: string, model: Model): void {
    const old = this.predictor.models.get(name);
    if (old) this.countModel(name, old, 0);
    this.predictor.set(name, model);
    this.countModel(name, model, 1);
    this.metrics.modelChanges.inc({ model: name });
    this.publishInfo();
  }

  /** Returns false for the last model, which stays: without one the service could answer nothing. */
  removeModel(name: string): boolean {
    const model = this.predictor.models.get(name);
    if (!model || this.predictor.models.size === 1) return false;
    this.countModel(name, model, 0);
    this.predictor.remove(name);
    this.publishInfo();
    return true;
  }

  /** Publishes that a newer version of a model waits to be activated, or that none does. */
  setWaiting(name: string, waiting: WaitingVersion | undefined): void {
    if (this.waiting.get(name)?.digest === waiting?.digest) return;
    if (waiting) this.waiting.set(name, { version: waiting.version, digest: waiting.digest });
    else this.waiting.delete(name);
    this.publishInfo();
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

  private publishInfo(): void {
    if (!this.isSubscribed) return;
    this.outbox.publishState({
      topic: this.options.topics.info,
      payload: JSON.stringify(this.info()),
      qos: 1,
      retain: true,
    });
    this.announceAll();
  }

  private announceAll(): void {
    for (const announcement of this.options.announcements ?? []) this.announceSoon(announcement);
  }

  /** At once, or as soon as the last time is long enough ago, and then only once. */
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
    return [...this.predictor.models].map(([name, { version, labels, isMultiLabel, digest }]) => ({
      name,
      version,
      labels,
      multiLabel: isMultiLabel || undefined,
      digest,
      default: name === this.predictor.defaultModel,
      waiting: this.waiting.get(name),
    }));
  }

  private onConnect(session: Session): void {
    this.session = session;
    this.metrics.connects.inc();
    this.outbox.attach(session);
  }

  private onSubscribed(session: Session): void {
    const { log } = this.options;
    this.isSubscribed = true;
    this.metrics.connected.set(1);
    this.publishInfo();
    this.publishStatus("online");
    log.info(`connected to ${session.url} (MQTT ${session.protocol === 5 ? "5" : "3.1.1"})`, {
      broker: session.url,
      protocol: session.protocol,
    });
    this.resolveStart();
  }

  private resolveStart(): void {
    if (this.isSubscribed && (!this.routing || this.isRouting)) for (const ready of this.onReady.splice(0)) ready();
  }

  private onClose(): void {
    this.session = undefined;
    this.isSubscribed = false;
    this.metrics.connected.set(0);
    this.outbox.detach();
  }

  private onMessage(message: Incoming): void {
    // Not acknowledged, so that the broker keeps a QoS 1 request for the next start.
    if (this.isStopping) return;
    const { topics, announcements = [] } = this.options;
    const asked = requestTopicsOf(topics, message.topic);
    if (asked) this.requests.onMessage(message, asked);
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
      // The session may still have routes of an earlier configuration.
      message.acknowledge();
    }
  }

  /** The session may still have commands from a time when they were on. */
  private onCommand(message: Incoming): void {
    if (this.commands) this.commands.onMessage(message);
    else message.acknowledge();
  }

  /** Corrects the status when the will of an earlier connection is late, at most once a second. */
  private onStatus(message: Incoming): void {
    message.acknowledge();
    if (message.payload.toString() === "online" || !this.isSubscribed || this.statusTimer) return;
    this.statusTimer = setTimeout(() => {
      this.statusTimer = undefined;
      if (this.isSubscribed && !this.isStopping) this.publishStatus("online");
    }, STATUS_DELAY_MS);
  }

  private publishStatus(payload: "online" | "offline"): void {
    this.outbox.publishState({ topic: this.options.topics.status, payload, qos: 1, retain: true });
  }

  private announce({ topic: template, payload }: Announcement): void {
    // Announcements describe a model, so they wait until the first one is installed.
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
    this.outbox.publishState({
      topic,
      payload: fillPayload(payload, (placeholder) => values[placeholder]),
      qos: 1,
      retain: true,
      properties: { userProperties: { [LOOP_MARK]: topics.node } },
    });
  }

  private publishFigures(): void {
    if (!this.session || this.session.isCongested) return;
    void this.metrics
      .figures()
      .then((figures) =>
        this.outbox.publishState({
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
