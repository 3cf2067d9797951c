// The embedded MQTT broker (Aedes, MQTT 3.1.1) for those who run none yet: one gateway, one
// process. Sessions and retained messages live in memory. packet-limit.ts checks the size
// of packets before Aedes reads them; users and their rights are those of users.ts; a client
// id belongs to the user who first connected with it.
import "./quiet.ts";
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { Aedes } from "aedes";
import type { AedesOptions, AuthenticateError, Client } from "aedes";
import { defaultLimits } from "./config.ts";
import { explainListenError, hostInUrl, listen, reachable } from "./listen.ts";
import { largestPacket } from "./messages.ts";
import type { BrokerAccess } from "./mqtt.ts";
import { OfflineQueues } from "./offline.ts";
import { LimitedSocket } from "./packet-limit.ts";
import { Users } from "./users.ts";
import type { UserSettings } from "./users.ts";

export interface ServerTls {
  cert: Buffer;
  key: Buffer;
  /** Authority of client certificates; clients without one are refused. */
  ca?: Buffer | undefined;
  requestCert?: boolean | undefined;
}

export interface BrokerSettings {
  host: string;
  port: number;
  tls?: ServerTls | undefined;
  /** Without any, everyone may do everything. */
  users?: Readonly<Record<string, UserSettings>> | undefined;
  /** Client id that only this process may use. */
  ownClientId?: string | undefined;
  packetBytes?: number | undefined;
  /** A subscriber that reads nothing for this time is disconnected, since it holds up the others. */
  slowSubscriberSeconds?: number | undefined;
  /** How many QoS 1 messages, and how many bytes of them, are kept for a client that is away. */
  offlineMessages?: number | undefined;
  offlineBytes?: number | undefined;
}

export interface Broker {
  host: string;
  port: number;
  /** Where clients on this machine find it. */
  url: string;
  /** How this process itself connects. */
  access: BrokerAccess;
  /** How many messages found no room in the queue of a client that was away. */
  readonly dropped: number;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const CONNECT_PACKET_BYTES = 65_536;
/** All queues together may hold as much as this many full ones. */
const FULL_QUEUES = 8;
const MAX_CLIENTS = 1000;
const REMEMBERED_IDS = 10_000;

/** How the broker recognises the connections of its own process. */
interface Own {
  username: string;
  password: string;
  /** Connections to the inner server, which only this process uses. */
  inner: WeakSet<object>;
}

export async function startBroker(settings: BrokerSettings): Promise<Broker> {
  const { host, port, tls, packetBytes = largestPacket(defaultLimits), slowSubscriberSeconds = defaultLimits.slowSubscriberSeconds } = settings;
  const { offlineMessages = defaultLimits.offlineMessages, offlineBytes = defaultLimits.queuedBytes } = settings;
  const own: Own = { username: `edgelabel-${randomBytes(8).toString("hex")}`, password: randomBytes(24).toString("base64url"), inner: new WeakSet() };
  const aedes = await Aedes.createBroker({
    connectTimeout: CONNECT_TIMEOUT_MS,
    drainTimeout: 1000 * slowSubscriberSeconds,
    ...rules(settings, own),
  });
  const offline = new OfflineQueues(aedes, { messages: offlineMessages, bytes: offlineBytes, allBytes: FULL_QUEUES * offlineBytes });
  // Without these listeners the errors of clients would be thrown here.
  aedes.on("clientError", () => {});
  aedes.on("connectionError", () => {});
  const accept = (socket: Socket) => {
    socket.setNoDelay(true);
    const limited = new LimitedSocket(socket, { bytes: packetBytes, firstBytes: Math.min(packetBytes, CONNECT_PACKET_BYTES), ms: CONNECT_TIMEOUT_MS });
    // Aedes takes any duplex stream; its types name two.
    aedes.handle(limited as unknown as Socket);
    return limited;
  };
  const server = tls ? createTlsServer({ ...tls, minVersion: "TLSv1.2", handshakeTimeout: CONNECT_TIMEOUT_MS }, accept) : createServer(accept);
  // A failed TLS handshake is not an error of the broker.
  server.on("tlsClientError", () => {});
  server.maxConnections = MAX_CLIENTS;
  // With TLS this process connects to an inner server without it, on loopback, which takes no password but its own.
  const inner = tls ? createServer((socket) => own.inner.add(accept(socket))) : undefined;
  try {
    await listen(server, host, port);
    if (inner) await listen(inner, "127.0.0.1", 0);
  } catch (error) {
    await new Promise<void>((resolve) => aedes.close(resolve));
    throw explainListenError(error, host, port, `use that broker with --broker mqtt://${hostInUrl(host)}:${port}, or choose another port with --port NUMBER (0 takes any free one)`);
  }
  const bound = (server.address() as AddressInfo).port;
  const url = `${tls ? "mqtts" : "mqtt"}://${hostInUrl(reachable(host))}:${bound}`;
  return {
    host,
    port: bound,
    url,
    access: { url: inner ? `mqtt://127.0.0.1:${(inner.address() as AddressInfo).port}` : url, protocol: 4, username: own.username, password: own.password },
    get dropped() { return offline.dropped; },
    close: async () => {
      const closed = [server, ...(inner ? [inner] : [])].map((each: Server) => new Promise((resolve) => each.close(resolve)));
      aedes.close();
      await Promise.all(closed);
    },
  };
}

const BAD_PASSWORD = Object.assign(new Error("bad user name or password"), { returnCode: 4 });
const ID_TAKEN = Object.assign(new Error("this client id belongs to another user"), { returnCode: 2 });

/** What Aedes asks before it lets a client in, publish or subscribe. */
function rules({ users: settings, ownClientId }: BrokerSettings, own: Own): AedesOptions {
  const users = settings && new Users(settings);
  const nameOf = new WeakMap<object, string>();
  // A client id belongs to its user while somebody is connected with it, or a session is kept for it.
  const owners = new Map<string, { name: string; connections: number }>(ownClientId === undefined ? [] : [[ownClientId, { name: own.username, connections: 1 }]]);

  function claimId({ id, clean, conn }: Client, name: string): boolean {
    const owner = owners.get(id) ?? { name, connections: 0 };
    if (owner.name !== name || (owners.size >= REMEMBERED_IDS && !owners.has(id))) return false;
    // The client has disconnected while its password was checked.
    if (conn.destroyed) return true;
    owners.set(id, owner);
    owner.connections++;
    conn.once("close", () => {
      if (--owner.connections === 0 && clean) owners.delete(id);
    });
    return true;
  }

  async function authenticate(client: Client, name: string | undefined, password: Buffer | undefined): Promise<Error | undefined> {
    const isOwn = name === own.username && password?.toString() === own.password;
    if (!isOwn && (own.inner.has(client.conn) || (users && !(await users.knows(name, password))))) return BAD_PASSWORD;
    // Without users everybody counts as the same one.
    const user = isOwn || users ? name! : "";
    if (users ? !claimId(client, user) : !isOwn && client.id === ownClientId) return ID_TAKEN;
    nameOf.set(client, user);
    return undefined;
  }

  const isFree = (client: Client | null) => !users || !client || nameOf.get(client) === own.username;
  return {
    authenticate: (client, name, password, done) => {
      authenticate(client, name, password).then((error) => done((error as AuthenticateError | undefined) ?? null, error === undefined), (error: AuthenticateError) => done(error, false));
    },
    authorizePublish: (client, { topic }, done) => {
      if (topic.startsWith("$")) done(new Error("topics that begin with $ are the broker's"));
      else if (isFree(client) || users!.mayPublish(nameOf.get(client!)!, topic)) done(null);
      else done(new Error("this user may not publish there"));
    },
    authorizeSubscribe: (client, subscription, done) => {
      // Refused here, since Aedes would grant a shared subscription and then deliver nothing.
      const isGranted = !subscription.topic.startsWith("$share/") && (isFree(client) || users!.maySubscribe(nameOf.get(client!)!, subscription.topic));
      done(null, isGranted ? subscription : null);
    },
  };
}
