// The embedded MQTT broker (Aedes, MQTT 3.1.1), for a machine that runs no broker yet. This is all
// that it promises:
//
// - It listens on loopback. Every program on the machine may do everything, except be the service.
// - QoS 0 and 1. Publishers may use QoS 2; subscribers get such messages at QoS 1.
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
import type { AedesPublishPacket, Client, ConnectPacket, PublishPacket, SubscribePacket } from "aedes";
import { defaultLimits } from "../limits.ts";
import { explainListenError, listen } from "../listen.ts";
import { largestPacket } from "../answer/messages.ts";
import { ROUTES_CLIENT } from "../mqtt/connection.ts";
import type { BrokerAccess } from "../mqtt/connection.ts";

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
/** Generous estimates of what a level of a filter, and a retained message, take besides their bytes. */
const LEVEL_BYTES = 1024;
const MESSAGE_BYTES = 512;
/** Limit for unfinished packets and filters of all clients together, in packets of the largest size. */
const HELD_PACKETS = 16;
const RETAINED_MESSAGES = 1000;
const RETAINED_BYTES = 8_388_608;
/** QoS 2 messages of a client that it has not released; only their ids are kept. */
const UNRELEASED = 10_000;
const ID_TAKEN = Object.assign(new Error("this client id is the service's own"), { returnCode: 2 });

/** The parts of a client that Aedes' types leave out. */
type Inner = Client & {
  subscriptions: Record<string, unknown>;
  _parser: NodeJS.EventEmitter & { packet: { length: number }; _list: { length: number } };
};

/** The part of Aedes' persistence that is changed here. */
interface Persistence {
  incomingStorePacket(client: Client, packet: { messageId?: number }): Promise<void>;
}

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
  const retained = new Retained();
  /** When each connection last sent a packet. */
  const clients = new Map<Inner, number>();

  const aedes = await Aedes.createBroker({
    connectTimeout: CONNECT_TIMEOUT_MS,
    drainTimeout: 1000 * slowSubscriberSeconds,
    maxInflightInbound: UNRELEASED,
    authenticate: (client, username, password, done) => {
      const isOurs = username === own.username && password?.toString() === own.password;
      if (isOurs) ours.add(client);
      if (isOurs || (client.id !== ownClientId && client.id !== `${ownClientId}${ROUTES_CLIENT}`)) done(null, true);
      else done(ID_TAKEN, false);
    },
    authorizePublish: (client, packet, done) => {
      if (packet.topic.startsWith("$")) {
        done(new Error("topics that begin with $ are the broker's"));
        return;
      }
      const isOurs = client !== null && ours.has(client);
      if (packet.retain && !isOurs && !retained.hasRoom(packet)) packet.retain = false;
      if (packet.retain) retained.count(packet);
      done(null);
    },
    authorizeSubscribe: (client, subscription, done) => {
      const { subscriptions } = client as Inner;
      const { topic } = subscription;
      // Aedes would grant a shared subscription and then deliver nothing.
      const isGranted =
        !topic.startsWith("$share/") &&
        Buffer.byteLength(topic) <= MAX_FILTER_BYTES &&
        (topic in subscriptions || Object.keys(subscriptions).length < MAX_FILTERS);
      done(null, isGranted ? subscription : null);
      if (isGranted) weigh();
    },
    authorizeForward: (_client, packet) => {
      // Aedes itself ignores the QoS of filters with wildcards.
      packet.qos = Math.min(packet.qos, 1) as AedesPublishPacket["qos"];
      return packet;
    },
  });
  const { persistence } = aedes as unknown as { persistence: Persistence };
  // Aedes itself would keep the whole message until its PUBREL, although it only looks at the id.
  const storeUnreleased = persistence.incomingStorePacket.bind(persistence);
  persistence.incomingStorePacket = (client, { messageId }) => storeUnreleased(client, { messageId: messageId! });

  /** Makes room for a new connection. Those that have not sent CONNECT go first. */
  function closeIdle(): void {
    if (clients.size <= MAX_CLIENTS) return;
    const others = [...clients].filter(([client]) => !ours.has(client));
    const strangers = others.filter(([client]) => !client.connected);
    const [[idle]] = (strangers.length > 1 ? strangers : others).toSorted(([, a], [, b]) => a - b) as [[Inner, number]];
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
      .toSorted(([, a], [, b]) => b - a);
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
    const { _parser: parser } = client;
    let limit = CONNECT_PACKET_BYTES;
    // Aedes, which has read the bytes by now, would collect as many as a packet's header announces.
    socket.on("readable", () => {
      if (parser.packet.length > limit) drop(client);
      else if (parser._list.length > CONNECT_PACKET_BYTES) weigh();
    });
    parser.prependListener("packet", (packet: ConnectPacket | SubscribePacket | { cmd: "other" }) => {
      if (clients.has(client)) clients.set(client, performance.now());
      limit = packetBytes;
      if (packet.cmd === "connect") packet.clean = true;
      else if (packet.cmd === "subscribe")
        for (const subscription of packet.subscriptions) subscription.qos = Math.min(subscription.qos, 1) as 0 | 1;
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
    access: { url, protocol: 4, isEmbedded: true, ...own },
    get dropped() {
      return retained.dropped;
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

/** Counts the retained messages, which Aedes stores. */
class Retained {
  dropped = 0;
  private readonly sizes = new Map<string, number>();
  private bytes = 0;

  hasRoom(packet: PublishPacket): boolean {
    const { topic, payload } = packet;
    if (payload.length === 0) return true;
    const old = this.sizes.get(topic);
    const hasRoom =
      this.bytes - (old ?? 0) + sizeOf(packet) <= RETAINED_BYTES &&
      (old !== undefined || this.sizes.size < RETAINED_MESSAGES);
    if (!hasRoom) this.dropped++;
    return hasRoom;
  }

  count(packet: PublishPacket): void {
    this.bytes -= this.sizes.get(packet.topic) ?? 0;
    this.sizes.delete(packet.topic);
    if (packet.payload.length === 0) return;
    this.sizes.set(packet.topic, sizeOf(packet));
    this.bytes += sizeOf(packet);
  }
}

function sizeOf({ topic, payload }: PublishPacket): number {
  return MESSAGE_BYTES + topic.length + payload.length;
}
