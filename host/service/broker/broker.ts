// The embedded MQTT broker (Aedes, MQTT 5 and 3.1.1), for a machine that runs no broker yet. This is
// all that it promises:
//
// - It listens on loopback. Every program on the machine may do everything, except be the service.
// - It keeps nothing for a client that is away: a session ends with its connection. Retained
//   messages are kept in memory, up to a limit.
// - A faulty program keeps nobody else out: at the limits below, the connection that has been
//   silent for longest, or holds most, is closed.
//
// For more, use a real broker: deploy/README.md says how to set up Mosquitto.
import "../mqtt/quiet.ts";
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { Aedes } from "aedes";
import type { AedesPublishPacket, Client, ConnectPacket, SubscribePacket } from "aedes";
import { generate } from "mqtt-packet";
import { defaultLimits } from "../limits.ts";
import { explainListenError, listen } from "../listen.ts";
import { largestPacket } from "../answer/messages.ts";
import { ROUTES_CLIENT } from "../mqtt/connection.ts";
import type { BrokerAccess } from "../mqtt/connection.ts";
import { filterMatches } from "../topics.ts";
import { Store } from "./store.ts";

export interface BrokerSettings {
  port: number;
  /** Client id that only this process may use. */
  ownClientId?: string | undefined;
  packetBytes?: number | undefined;
  /** A subscriber that reads nothing for this long is disconnected, since it holds up the others. */
  slowSubscriberSeconds?: number | undefined;
}

export interface Broker {
  port: number;
  /** Where clients on this machine find it. */
  url: string;
  /** How this process itself connects. */
  access: BrokerAccess;
  /** How many messages were not retained for lack of room. */
  readonly dropped: number;
  close(): Promise<void>;
}

const HOST = "127.0.0.1";
const CONNECT_TIMEOUT_MS = 10_000;
const CONNECT_PACKET_BYTES = 65_536;
const SLOW_SUBSCRIBER_SECONDS = 5;
const MAX_CLIENTS = 500;
/** Of a client. Each costs a scan of the retained messages. */
const MAX_FILTERS = 256;
const MAX_FILTER_BYTES = 1024;
/** Generous estimate of what a level of a filter takes. */
const LEVEL_BYTES = 1024;
/** Limit for unfinished packets and filters of all clients together, in packets of the largest size. */
const HELD_PACKETS = 16;
/** QoS 2 messages of a client that it has not released; only their ids are kept. */
const UNRELEASED = 10_000;
/** Not authorized. The message of an error would go along as a reason string, which not every client can read. */
const REFUSED = new Error();
const ID_TAKEN = Object.assign(new Error("this client id is the service's own"), { returnCode: 2 });

/** Where a message goes that nobody may have. */
const NOWHERE = "$nowhere";

/** The parts of Aedes that its types leave out. */
type Inner = Client & {
  /** By filter. `si` is the identifier that MQTT 5 has for it. */
  subscriptions: Record<string, { qos: number; si?: number }>;
  /** Whether CONNACK tells how long the session is kept. */
  _sessionExpiryClamped: boolean;
  _parser: NodeJS.EventEmitter & { _list: { length: number } };
};

type Forwarded = AedesPublishPacket & { messageExpiry?: number };

export async function startBroker({
  port,
  ownClientId,
  packetBytes = largestPacket(defaultLimits),
  slowSubscriberSeconds = SLOW_SUBSCRIBER_SECONDS,
}: BrokerSettings): Promise<Broker> {
  const own = {
    username: `edgelabel-${randomBytes(8).toString("hex")}`,
    password: randomBytes(24).toString("base64url"),
  };
  const ours = new WeakSet<object>();
  const store = new Store(UNRELEASED);
  /** When each connection last sent a packet. */
  const clients = new Map<Inner, number>();

  const aedes = await Aedes.createBroker({
    connectTimeout: CONNECT_TIMEOUT_MS,
    drainTimeout: 1000 * slowSubscriberSeconds,
    maximumPacketSize: packetBytes,
    receiveMaximum: UNRELEASED,
    persistence: store,
    preConnect: (_client, packet, done) => {
      // Without an id there is no session to end: Aedes refuses to keep one, as it must. [MQTT-3.1.3-8]
      if (packet.clientId !== "") packet.clean = true;
      delete packet.properties?.sessionExpiryInterval;
      done(null, true);
    },
    authenticate: (client, username, password, done) => {
      (client as Inner)._sessionExpiryClamped = true;
      const isOurs = username === own.username && password?.toString() === own.password;
      if (isOurs) ours.add(client);
      if (isOurs || (client.id !== ownClientId && client.id !== `${ownClientId}${ROUTES_CLIENT}`)) done(null, true);
      else done(ID_TAKEN, false);
    },
    authorizePublish: (client, packet, done) => {
      if (packet.topic.startsWith("$")) {
        if (client?.version === 5) {
          done(REFUSED);
          return;
        }
        // MQTT 3.1.1 could only end the connection.
        packet.topic = NOWHERE;
        packet.retain = false;
      }
      // What is not for subscribers: the one is for us, in a will, the other would be a fault of the publisher.
      const properties: Record<string, unknown> = packet.properties ?? {};
      delete properties["willDelayInterval"];
      delete properties["subscriptionIdentifier"];
      const isOurs = client !== null && ours.has(client);
      if (packet.retain && !isOurs && !store.hasRoom(packet)) packet.retain = false;
      done(null);
    },
    authorizeSubscribe: (client, subscription, done) => {
      const { subscriptions } = client as Inner;
      const { topic } = subscription;
      // Aedes refuses shared subscriptions on MQTT 5 only; on 3.1.1 it would grant them and then deliver nothing.
      const isGranted =
        !topic.startsWith("$share/") &&
        Buffer.byteLength(topic) <= MAX_FILTER_BYTES &&
        (topic in subscriptions || Object.keys(subscriptions).length < MAX_FILTERS);
      done(null, isGranted ? subscription : null);
      if (isGranted) weigh();
    },
    authorizeForward: (client, packet) => forward(client as Inner, packet, packetBytes),
  });
  mend(aedes as unknown as { clients: object }, "clients");

  /** Makes room for a new connection. Those that have not sent CONNECT go first. */
  function closeIdle(): void {
    if (clients.size <= MAX_CLIENTS) return;
    const others = [...clients].filter(([client]) => !ours.has(client));
    const strangers = others.filter(([client]) => !client.connected);
    const [[idle]] = (strangers.length > 1 ? strangers : others).sort(([, a], [, b]) => a - b) as [[Inner, number]];
    drop(idle);
  }

  let weighing: NodeJS.Immediate | undefined;
  function weigh(): void {
    weighing ??= setImmediate(closeGreedy);
  }

  function closeGreedy(): void {
    weighing = undefined;
    const held = [...clients.keys()]
      .map((client) => [client, heldBytes(client)] as const)
      .sort(([, a], [, b]) => b - a);
    let sum = held.reduce((bytes, [, more]) => bytes + more, 0);
    for (const [client, bytes] of held) {
      if (sum <= HELD_PACKETS * packetBytes) return;
      if (ours.has(client)) continue;
      drop(client);
      sum -= bytes;
    }
  }

  function drop(client: Inner): void {
    clients.delete(client);
    client.conn.destroy();
  }

  const server = createServer((socket: Socket) => {
    socket.setNoDelay(true);
    const client = aedes.handle(socket) as Inner;
    clients.set(client, performance.now());
    socket.once("close", () => clients.delete(client));
    mend(client, "subscriptions");
    const { _parser: parser } = client;
    // Aedes has read the bytes by now.
    socket.on("readable", () => {
      if (!client.connecting && !client.connected && socket.bytesRead > CONNECT_PACKET_BYTES) drop(client);
      else if (parser._list.length > CONNECT_PACKET_BYTES) weigh();
    });
    parser.prependListener("packet", (packet: ConnectPacket | SubscribePacket) => {
      if (clients.has(client)) clients.set(client, performance.now());
      if (packet.cmd !== "subscribe" || packet.subscriptions.length === 1) return;
      if (packet.subscriptions.every(({ topic }) => topic !== "__proto__")) return;
      // Aedes would take the fields of this subscription for further ones, and fall over them.
      packet.subscriptions = [];
      drop(client);
    });
    closeIdle();
  });
  try {
    await listen(server, HOST, port);
  } catch (error) {
    await new Promise<void>((resolve) => aedes.close(resolve));
    throw explainListenError(
      error,
      HOST,
      port,
      `use that broker with --broker mqtt://${HOST}:${port}, or choose another port with --port NUMBER (0 takes any free one)`,
    );
  }
  const bound = (server.address() as AddressInfo).port;
  const url = `mqtt://${HOST}:${bound}`;
  return {
    port: bound,
    url,
    access: { url, isEmbedded: true, ...own },
    get dropped() {
      return store.dropped;
    },
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      aedes.close();
      await closed;
    },
  };
}

/** What we hold for a client: a packet that has not fully arrived, and its filters. */
function heldBytes({ _parser, subscriptions }: Inner): number {
  return Object.keys(subscriptions).reduce(
    (bytes, filter) => bytes + LEVEL_BYTES * filter.split("/").length,
    _parser._list.length,
  );
}

/**
 * Names from outside are keys of this object, and "constructor" would be found in it. Version 1 of Aedes
 * has mended this since 2.0.0-beta.1 was made.
 */
function mend<Key extends string>(owner: Record<Key, object>, key: Key): void {
  Object.setPrototypeOf(owner[key], null);
}

/** What Aedes does not see to when it delivers a message to a client; nothing if it must not have it. */
function forward(client: Inner, packet: Forwarded, packetBytes: number): AedesPublishPacket | null {
  if (packet.topic === NOWHERE) return null;
  const matching = Object.entries(client.subscriptions).filter(([filter]) => filterMatches(filter, packet.topic));
  // Aedes looks at the QoS of filters without wildcards only.
  const granted = matching.reduce((most, [, { qos }]) => Math.max(most, qos), 0);
  packet.qos = Math.min(packet.qos, granted) as AedesPublishPacket["qos"];
  const properties = { ...packet.properties };
  // Aedes names one of several that match. A retained message, which has no brokerId, has the one that it is sent for.
  const identifiers = matching.flatMap(([, { si = [] }]) => si);
  if (packet.brokerId && identifiers.length > 1) properties.subscriptionIdentifier = identifiers;
  if (packet.messageExpiry !== undefined) {
    properties.messageExpiryInterval = Math.ceil((packet.messageExpiry - Date.now()) / 1000);
    if (properties.messageExpiryInterval <= 0) return null;
  }
  packet.properties = properties;
  const { maximumPacketSize = Infinity } = client;
  const isTooLarge =
    maximumPacketSize < packetBytes &&
    generate({ ...packet, messageId: 1 }, { protocolVersion: 5 }).length > maximumPacketSize;
  return isTooLarge ? null : packet;
}
