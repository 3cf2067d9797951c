// An MQTT client that stays connected: with MQTT 5, or 3.1.1 if the broker does not speak 5. Every
// connection gets a new client object, so that nothing of a failed one (stores, timers, listeners)
// lives on. Reconnects for ever, with jittered backoff. Knows nothing of requests and answers.
//
// Incoming messages are acknowledged by calling their `acknowledge`, at any time. MQTT.js
// itself would acknowledge inside handleMessage, and until then read no further packet,
// not even PINGRESP or the PUBACKs of our own messages.
//
// We subscribe with QoS 1, but some brokers (Aedes, with a filter that has wildcards) deliver
// with QoS 2 what was published so. MQTT.js would send PUBREC at once, and a crash would lose
// the request: the broker never delivers it again. So such a message goes through MQTT.js as
// one of QoS 1. `acknowledge` sends its PUBREC, and MQTT.js answers the PUBREL that follows
// with PUBCOMP, as it does for every message id that it does not know.
import "./quiet.ts";
import mqtt from "mqtt";
import type { IClientOptions, IConnackPacket, IPublishPacket, ISubscriptionMap, MqttClient } from "mqtt";
import { EdgelabelError } from "../../errors.ts";
import { OnceLog } from "../log.ts";
import type { Log } from "../log.ts";
import type { Incoming, Outgoing } from "./message.ts";
import { Sender, SUBSCRIPTION_ID } from "./sender.ts";
import type { Done } from "./sender.ts";

export type Protocol = 4 | 5;

export interface BrokerAccess {
  /** Nodes of a cluster are separated by commas, and tried in turn. */
  url: string;
  protocol?: Protocol | undefined;
  username?: string | undefined;
  password?: string | undefined;
  tls?: { ca?: Buffer | undefined; cert?: Buffer | undefined; key?: Buffer | undefined } | undefined;
  /** Our own broker, which holds up everyone while one client does not read. */
  isEmbedded?: boolean | undefined;
}

/** An established connection, from CONNACK to close. */
export interface Session {
  /** The broker's URL, without secrets. */
  url: string;
  protocol: Protocol;
  /** How many QoS 1 messages may be unacknowledged by the broker. */
  receiveMaximum: number;
  /** Largest packet that the broker accepts, in bytes; Infinity if it does not say. */
  maximumPacketSize: number;
  /** The broker reads more slowly than we write, so only send what must be sent. */
  readonly isCongested: boolean;
  /** No callback comes once the connection is lost. */
  publish(message: Outgoing, done?: Done): void;
}

/** Largest payload, in bytes, that the broker accepts in a message to `topic`; Infinity if it does not say. */
export function payloadRoom(session: Session | undefined, topic: string, correlationData?: Buffer): number {
  return (
    (session?.maximumPacketSize ?? Infinity) -
    Buffer.byteLength(topic) -
    (correlationData?.length ?? 0) -
    PUBLISH_OVERHEAD
  );
}

export interface ConnectionOptions {
  access: BrokerAccess;
  clientId: string;
  filters: string[];
  /** Filters whose retained messages are delivered too. */
  retainedFilters: string[];
  will?: { topic: string; payload: string } | undefined;
  /** How many QoS 1 messages an MQTT 5 broker may send before we acknowledge one. */
  receiveMaximum?: number | undefined;
  /**
   * Whether the broker keeps requests while we are away. Not with shared subscriptions: it would
   * keep a share of the group's requests for a worker that may never come back.
   */
  isPersistent: boolean;
  /** Largest packet that we accept, in bytes; MQTT 5 brokers hold larger ones back. */
  maximumPacketSize: number;
  /** Largest payload sent over MQTT 3.1.1, where a broker cannot announce its limit. */
  answerBytes: number;
  log: Log;
  /** If it returns a promise, nothing more is read until that resolves. */
  onMessage(message: Incoming): Promise<void> | undefined | void;
  /** CONNACK: messages can be sent. */
  onConnect(session: Session): void;
  /** SUBACK: requests come in. */
  onSubscribed(session: Session): void;
  onClose(): void;
}

/**
 * User property of everything that a route or an announcement publishes, and of answers to requests that have it.
 * A marked message starts no route and no announcement, so that nodes do not feed each other for ever.
 */
export const LOOP_MARK = "edgelabel-route";
/** The connection for routes has the service's client id with this at its end. */
export const ROUTES_CLIENT = "-routes";
/** Generous estimate of the fixed header, lengths and properties of a PUBLISH packet. */
const PUBLISH_OVERHEAD = 256;
const ACKNOWLEDGED_LATER = new Error("acknowledged later");
/** As many unacknowledged messages as there are ids: the receive maximum of a broker that does not say. [MQTT-3.2.2.3.3] */
const MESSAGE_IDS = 65_535;
const FIXED_HEADER_BYTES = 5;
const CHUNK_TOLERATED = 1024;
const KEEPALIVE_SECONDS = 30;
const CONNECT_TIMEOUT_MS = 10_000;
/** How long a stop waits for the broker. */
const STOP_MS = 300;
const SESSION_EXPIRY_SECONDS = 3600;
/** More than the queue holds, so that a flood is told `busy` instead of piling up in the broker. */
const RECEIVE_MAXIMUM = 2048;
const CONGESTED_BYTES = 1_048_576;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** After a connection that lasted this long, the delays start small again. */
const GOOD_LIFE_MS = 1_000;
/** Two connections in a row shorter than this, each at the first attempt, suggest a second client with the same id. */
const SHORT_LIFE_MS = 60_000;
/** After a subscription the delay is at most that of this attempt, 2 s, however soon the connection is lost: the broker is up. */
const ATTEMPT_ONCE_SUBSCRIBED = 2;
/** When another client has taken over our id, the first delay is that of this attempt, at most 8 s, and the longest 5 min: two services with one name would otherwise take it from each other every second. */
const ATTEMPT_ONCE_TAKEN = 4;
const LONGEST_TAKEN_MS = 300_000;
/** After a connection that lasted this long, nobody else has the id any more. */
const UNCONTESTED_MS = 2 * LONGEST_TAKEN_MS;
const TAKEN_OVER = 0x8e;

export function checkBrokerUrl(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // Handled below, together with the foreign schemes.
  }
  if (!url || !["mqtt:", "mqtts:", "ws:", "wss:"].includes(url.protocol) || !url.hostname) {
    // A malformed URL is only shown if it cannot contain a password.
    const shown = /^\w+:\/\/[\w.-]+(?::\d+)?$/.test(text) ? ` ${JSON.stringify(text)}` : "";
    throw new EdgelabelError(
      `the broker URL${shown} must look like mqtt://host:1883; the schemes are mqtt, mqtts, ws and wss`,
    );
  }
  if (url.username || url.password) {
    throw new EdgelabelError(
      "the broker URL must not hold a user name or password, since others can read it: set EDGELABEL_MQTT_USERNAME and EDGELABEL_MQTT_PASSWORD instead",
    );
  }
  return url;
}

/** A broker URL without secrets: the query of a WebSocket URL may hold a token. */
export function shownUrl(url: string): string {
  return url.replace(/[?#][^,]*/g, "?***");
}

export function brokerUrls(text: string): string[] {
  const urls = text.split(",");
  for (const url of urls) checkBrokerUrl(url);
  return urls;
}

export function clientOptions(access: BrokerAccess, protocol: Protocol): IClientOptions {
  const url = checkBrokerUrl(access.url);
  const { ca, cert, key } = access.tls ?? {};
  if ((ca || cert || key) && !/^(?:mqtts|wss):$/.test(url.protocol))
    throw new EdgelabelError(`TLS files need a broker URL that begins with mqtts:// or wss://, not ${url.protocol}//`);
  if (access.password !== undefined && access.username === undefined)
    throw new EdgelabelError("a password for the broker needs a user name: set EDGELABEL_MQTT_USERNAME too");
  return {
    protocolVersion: protocol,
    reconnectPeriod: 0,
    connectTimeout: CONNECT_TIMEOUT_MS,
    manualConnect: true,
    resubscribe: false,
    queueQoSZero: false,
    keepalive: KEEPALIVE_SECONDS,
    // Ping at fixed intervals: resetting the timer for every packet costs more than a few needless pings.
    reschedulePings: false,
    ...(access.username === undefined ? {} : { username: access.username }),
    ...(access.password === undefined ? {} : { password: access.password }),
    ...(ca ? { ca } : {}),
    ...(cert ? { cert } : {}),
    ...(key ? { key } : {}),
  };
}

/** Whether the broker refused this version of MQTT: 1 in 3.1.1, 0x84 in 5. */
function refusesProtocol(error: Error | undefined): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return code === 1 || code === 0x84;
}

/** What went wrong, for the operator. */
function connectionFault(error: Error | undefined): string {
  if (!error) return "the broker closed the connection";
  const { code } = error as { code?: unknown };
  if (code === "ECONNREFUSED") return "connection refused: no broker listens there";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "the host name is unknown";
  if (code === 4 || code === 5 || code === 0x86 || code === 0x87)
    return "the broker refuses the user name or password (EDGELABEL_MQTT_USERNAME, EDGELABEL_MQTT_PASSWORD)";
  if (refusesProtocol(error))
    return "the broker does not speak this version of MQTT (--protocol; a group needs MQTT 5)";
  if (/wrong version number|packet length too long/.test(error.message))
    return "no TLS is spoken there: mqtt:// and ws:// go without";
  if (/^Invalid header flag bits/.test(error.message)) return "what answers there is no MQTT broker";
  if (error.message === "connack timeout") return `no MQTT broker answered within ${CONNECT_TIMEOUT_MS / 1000} s`;
  return error.message || String(code ?? error);
}

export function backoffMs(attempt: number, random = Math.random(), longest = LONGEST_DELAY_MS): number {
  return Math.min(longest, FIRST_DELAY_MS * 2 ** Math.min(attempt, 16)) * (0.4 + 0.6 * random);
}

/** Connects without Nagle's algorithm, which can delay a small packet by up to 40 ms. */
function open(client: MqttClient): void {
  client.connect();
  (client.stream as { setNoDelay?: (on: boolean) => void }).setNoDelay?.(true);
}

/** One connection for a command, to the first broker that accepts it, with MQTT 5 or else 3.1.1. Throws an EdgelabelError if none does. */
export async function connectOnce(access: BrokerAccess): Promise<{ client: MqttClient; protocol: Protocol }> {
  let fault: unknown;
  for (const url of brokerUrls(access.url)) {
    try {
      return await connectTo({ ...access, url });
    } catch (error) {
      if (error instanceof EdgelabelError) throw error;
      fault = error;
    }
  }
  throw new EdgelabelError(`cannot reach ${shownUrl(access.url)}: ${connectionFault(fault as Error)}`);
}

async function connectTo(access: BrokerAccess): Promise<{ client: MqttClient; protocol: Protocol }> {
  const connect = (protocol: Protocol) =>
    new Promise<MqttClient>((resolve, reject) => {
      const client = mqtt.connect(access.url, clientOptions(access, protocol));
      client.once("connect", () => resolve(client));
      client.once("error", reject);
      client.once("close", () => reject(new Error("the broker closed the connection")));
      open(client);
    });
  const first = access.protocol ?? 5;
  try {
    return { client: await connect(first), protocol: first };
  } catch (error) {
    if (access.protocol === undefined && refusesProtocol(error as Error))
      return { client: await connect(4), protocol: 4 };
    throw error;
  }
}

export class Connection {
  private readonly options: ConnectionOptions;
  private readonly urls: readonly string[];
  private urlIndex = 0;
  private protocol: Protocol;
  private client: MqttClient | undefined;
  private session: Session | undefined;
  private sender: Sender | undefined;
  private timer: NodeJS.Timeout | undefined;
  private attempt = 0;
  private shortLives = 0;
  /** How often another client has taken over our id. */
  private taken = 0;
  private isSubscribed = false;
  private isStopping = false;
  private readonly log: OnceLog;
  private readonly faults: OnceLog;

  constructor(options: ConnectionOptions) {
    this.options = options;
    this.log = new OnceLog(options.log);
    this.faults = new OnceLog(options.log);
    this.protocol = options.access.protocol ?? 5;
    this.urls = brokerUrls(options.access.url);
    // A wrong URL is an error now, not at a later attempt.
    for (const url of this.urls) clientOptions({ ...options.access, url }, this.protocol);
  }

  /** Whether another client seems to have our id too. */
  private get isContested(): boolean {
    return this.taken > 0 || this.shortLives > 1;
  }

  private get url(): string {
    return this.urls[this.urlIndex % this.urls.length]!;
  }

  start(): void {
    const { access, clientId, will, isPersistent, maximumPacketSize, receiveMaximum = RECEIVE_MAXIMUM } = this.options;
    const { protocol, url } = this;
    const client = mqtt.connect(url, {
      ...clientOptions({ ...access, url }, protocol),
      clientId,
      clean: !isPersistent,
      // MQTT.js itself only sends the SUBSCRIBE; sender.ts numbers all other packets.
      messageIdProvider: {
        allocate: () => SUBSCRIPTION_ID,
        getLastAllocated: () => SUBSCRIPTION_ID,
        register: () => true,
        deallocate() {},
        clear() {},
      },
      ...(will ? { will: { ...will, payload: Buffer.from(will.payload), qos: 1, retain: true } } : {}),
      ...(protocol === 5
        ? {
            properties: {
              sessionExpiryInterval: isPersistent ? SESSION_EXPIRY_SECONDS : 0,
              receiveMaximum,
              maximumPacketSize,
            },
          }
        : {}),
    });
    this.client = client;
    let connectedAt = 0;
    let fault: Error | undefined;
    client.on("error", (error) => {
      fault ??= error;
      // After a packet that it cannot parse, MQTT.js would stop reading but keep everything that arrives.
      client.stream.destroy();
    });
    client.on("disconnect", ({ reasonCode }) => {
      fault = disconnectFault(reasonCode, clientId);
    });
    client.on("connect", (connack) => {
      connectedAt = performance.now();
      this.onConnack(client, protocol, connack);
    });
    let isExactlyOnce = false;
    // Emitted before MQTT.js looks at the packet, which it then does synchronously.
    client.on("packetreceive", (packet) => {
      if (packet.cmd === "puback") this.sender?.onAcknowledged(packet.messageId!, packet.reasonCode);
      else if (packet.cmd === "publish") {
        isExactlyOnce = packet.qos === 2;
        if (isExactlyOnce) packet.qos = 1;
      }
    });
    // Set before connecting: in a resumed session, messages follow the CONNACK at once.
    client.handleMessage = (packet, done) => {
      const pause = this.client === client ? this.receive(packet, isExactlyOnce ? 2 : packet.qos) : undefined;
      // With an error MQTT.js does not acknowledge, but goes on reading; `acknowledge` sends the PUBACK later.
      const goOn = () => done(packet.qos === 0 ? undefined : ACKNOWLEDGED_LATER);
      if (pause) void pause.then(goOn);
      else goOn();
    };
    client.once("close", () => this.onClose(client, fault, connectedAt));
    open(client);
    this.sender = new Sender(client.stream, protocol);
  }

  /** Disconnects; without a DISCONNECT, so that the broker publishes the will, unless `isClean`. */
  async stop(isClean: boolean): Promise<void> {
    this.isStopping = true;
    clearTimeout(this.timer);
    const { client, session } = this;
    if (session && isClean) await Promise.race([client!.endAsync(), pause(STOP_MS)]);
    client?.stream.destroy();
  }

  private onConnack(client: MqttClient, protocol: Protocol, { properties }: IConnackPacket): void {
    const { options } = this;
    const sender = this.sender!;
    if (
      properties?.sharedSubscriptionAvailable === false &&
      options.filters.some((filter) => filter.startsWith("$share/"))
    ) {
      this.drop(client, "the broker has no shared subscriptions, which a group needs");
      return;
    }
    sender.maximumPacketSize = properties?.maximumPacketSize ?? Infinity;
    if (protocol === 4) sender.maximumPayload = options.answerBytes;
    const session: Session = {
      url: shownUrl(this.url),
      protocol,
      receiveMaximum: properties?.receiveMaximum ?? MESSAGE_IDS,
      maximumPacketSize: sender.maximumPacketSize,
      get isCongested() {
        return sender.waitingBytes > CONGESTED_BYTES;
      },
      publish: (message, done) => {
        if (this.session === session && !this.isStopping) sender.publish(message, done);
      },
    };
    sender.onTooLarge = () => this.warnTooLarge(session);
    this.session = session;
    options.onConnect(session);
    const watchdog = setTimeout(
      () => this.drop(client, "the broker does not answer the subscription"),
      CONNECT_TIMEOUT_MS,
    );
    // Retain handling 2: the broker does not send retained requests.
    const fresh = { qos: 1, ...(protocol === 5 ? { rh: 2 } : {}) } as const;
    const filters = [
      ...options.filters.map((filter) => [filter, fresh]),
      ...options.retainedFilters.map((filter) => [filter, { qos: 1 }]),
    ];
    client.subscribe(Object.fromEntries(filters) as ISubscriptionMap, (error, granted) => {
      clearTimeout(watchdog);
      if (this.session !== session) return;
      const isGranted = granted?.every(({ qos }) => qos < 128) ?? false;
      if (error || !isGranted)
        this.drop(client, `the broker refuses the subscription to ${filters.map(([filter]) => filter).join(" or ")}`);
      else {
        this.isSubscribed = true;
        if (!this.isContested) this.faults.reset();
        options.onSubscribed(session);
      }
    });
  }

  /** Without the topic, which a route may have made from a text. */
  private warnTooLarge({ protocol, maximumPacketSize }: Session): void {
    const limit =
      protocol === 5
        ? `the ${maximumPacketSize} bytes that the broker takes`
        : `the ${this.options.answerBytes} bytes of "limits.answerBytes", which on MQTT 3.1.1 holds for all messages`;
    this.log.warn(
      "too_large",
      `a message is larger than ${limit}, and is not sent (info and announcements grow with the labels); logged once`,
    );
  }

  private drop(client: MqttClient, why: string): void {
    if (this.client === client) client.emit("error", new Error(why));
    client.stream.destroy();
  }

  private receive(packet: IPublishPacket, qos: 0 | 1 | 2): Promise<void> | undefined | void {
    const { properties } = packet;
    const payload = typeof packet.payload === "string" ? Buffer.from(packet.payload) : packet.payload;
    return this.options.onMessage({
      topic: packet.topic,
      payload: own(payload),
      qos,
      isRetained: packet.retain,
      responseTopic: properties?.responseTopic,
      correlationData: properties?.correlationData && own(properties.correlationData),
      contentType: properties?.contentType,
      expiresAt: performance.now() + 1000 * (properties?.messageExpiryInterval ?? Infinity),
      // Other user properties are not kept: they may be as large as a packet.
      isMarked: properties?.userProperties?.[LOOP_MARK] !== undefined,
      bytes: FIXED_HEADER_BYTES + (packet.length ?? payload.length),
      acknowledge: acknowledger(this.sender!, packet.messageId ?? 0, qos),
    });
  }

  private onClose(client: MqttClient, fault: Error | undefined, connectedAt: number): void {
    const { options } = this;
    const wasConnected = this.session !== undefined;
    this.session = undefined;
    this.client = undefined;
    client.end(true);
    if (wasConnected) options.onClose();
    this.sender?.close();
    this.sender = undefined;
    if (this.isStopping) return;
    if (this.protocol === 5 && options.access.protocol === undefined && refusesProtocol(fault)) {
      this.protocol = 4;
      this.start();
      return;
    }
    const lifeMs = connectedAt > 0 ? performance.now() - connectedAt : 0;
    // A broker that was restarted is away for a while.
    this.shortLives = connectedAt > 0 && lifeMs < SHORT_LIFE_MS ? this.shortLives + 1 : 0;
    if (lifeMs >= UNCONTESTED_MS) this.taken = 0;
    const isTaken = fault instanceof TakenOver;
    // Not every broker says that another client has taken over the id.
    const isGuess = !fault && this.shortLives > 1;
    if (!isTaken && !isGuess) {
      if (lifeMs >= GOOD_LIFE_MS) this.attempt = 0;
      else if (this.isSubscribed) this.attempt = Math.min(this.attempt, ATTEMPT_ONCE_SUBSCRIBED);
    }
    this.isSubscribed = false;
    const url = shownUrl(this.url);
    // All nodes of a cluster are tried before a longer wait.
    const delayMs = isTaken
      ? backoffMs(ATTEMPT_ONCE_TAKEN + this.taken++, undefined, LONGEST_TAKEN_MS)
      : backoffMs(Math.floor(this.attempt++ / this.urls.length));
    this.urlIndex++;
    this.timer = setTimeout(() => this.start(), delayMs);
    const guess = isGuess ? `, and not for the first time: perhaps ${anotherClient(options.clientId)}` : "";
    const why = `${connectionFault(fault)}${guess}`;
    // One line for each fault, however long the broker is away.
    this.faults.warn(
      `${url} ${why}`,
      `${wasConnected ? "lost" : "cannot reach"} ${url}: ${why}; trying again ${isTaken || isGuess ? "less and less often" : "until it works"}`,
      { broker: url, fault: why },
    );
  }
}

/** The bytes, or a copy if they would keep a much larger chunk of the socket alive. */
function own(bytes: Buffer): Buffer {
  return bytes.buffer.byteLength > 2 * bytes.length + CHUNK_TOLERATED ? Buffer.from(bytes) : bytes;
}

/** Acknowledges only once: later the id may belong to another message. Keeps nothing of the message alive. */
function acknowledger(sender: Sender, messageId: number, qos: 0 | 1 | 2): () => void {
  let isDone = qos === 0;
  return () => {
    if (isDone) return;
    isDone = true;
    sender.acknowledge(messageId, qos === 2);
  };
}

function anotherClient(clientId: string): string {
  return `another client with the id ${clientId} has connected; give each service a --node of its own`;
}

class TakenOver extends Error {}

function disconnectFault(reasonCode = 0, clientId: string): Error {
  if (reasonCode === TAKEN_OVER) return new TakenOver(anotherClient(clientId));
  return new Error(`the broker closed the connection, reason 0x${reasonCode.toString(16)}`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}
