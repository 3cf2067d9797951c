// TLS, client certificates and WebSockets, with a certificate authority of its own.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { Aedes } from "aedes";
import { createWebSocketStream, WebSocketServer } from "ws";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import { backoffMs, checkBrokerUrl, clientOptions } from "../../host/service/mqtt/connection.ts";
import type { BrokerAccess } from "../../host/service/mqtt/connection.ts";
import { Certificates } from "../support/certificates.ts";
import { topicsOf } from "../../host/service/topics.ts";
import { describeMosquitto, freePort, startMosquitto } from "../support/mosquitto.ts";
import { fakeService, recordingLog, startOld } from "../support/fake.ts";
import { until } from "../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-tls-"));
const file = (name: string) => readFileSync(join(folder, name));
const ends: (() => Promise<void> | void)[] = [];

beforeAll(() => {
  const certificates = new Certificates(folder);
  certificates.authority("ca");
  certificates.authority("stranger");
  certificates.certificate("server", "ca", "localhost");
  certificates.certificate("elsewhere", "ca", "elsewhere.example");
  certificates.certificate("client", "ca", "gate-1");
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, "localhost", resolve);
  });
  ends.push(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function aedes(): Promise<Aedes> {
  const broker = await Aedes.createBroker();
  ends.push(() => broker.close());
  return broker;
}

async function mqtts(certificate: string, demand = false): Promise<string> {
  const broker = await aedes();
  const server = createTlsServer(
    {
      cert: file(`${certificate}.pem`),
      key: file(`${certificate}.key`),
      ca: file("ca.pem"),
      requestCert: demand,
      rejectUnauthorized: demand,
    },
    broker.handle,
  );
  server.on("tlsClientError", () => {});
  return `mqtts://localhost:${await listen(server)}`;
}

async function websocket(isSecure: boolean): Promise<string> {
  const broker = await aedes();
  const server = isSecure
    ? createHttpsServer({ cert: file("server.pem"), key: file("server.key") })
    : createHttpServer();
  new WebSocketServer({ server }).on("connection", (socket) => broker.handle(createWebSocketStream(socket)));
  return `${isSecure ? "wss" : "ws"}://localhost:${await listen(server)}/mqtt`;
}

/** "ready", or the first complaint. */
async function outcome(access: BrokerAccess): Promise<string> {
  const log = recordingLog();
  const service = fakeService({ access, log });
  ends.push(() => service.stop());
  void service.start();
  await until(() => service.isReady || log.lines.length > 0);
  return service.isReady ? "ready" : log.lines[0]!;
}

test("mqtts with the right authority", async () => {
  expect(await outcome({ url: await mqtts("server"), tls: { ca: file("ca.pem") } })).toBe("ready");
});

test("mqtts with another authority, none, or a certificate for another host is refused", async () => {
  expect(await outcome({ url: await mqtts("server"), tls: { ca: file("stranger.pem") } })).toMatch(
    /unable to (verify|get)|self.signed/,
  );
  expect(await outcome({ url: await mqtts("server") })).toMatch(/unable to (verify|get)|self.signed/);
  expect(await outcome({ url: await mqtts("elsewhere"), tls: { ca: file("ca.pem") } })).toMatch(
    /does not match certificate's altnames/,
  );
});

test("a client certificate is shown where the broker demands one", async () => {
  const url = await mqtts("server", true);
  expect(await outcome({ url, tls: { ca: file("ca.pem"), cert: file("client.pem"), key: file("client.key") } })).toBe(
    "ready",
  );
  expect(await outcome({ url, tls: { ca: file("ca.pem") } })).toContain(`cannot reach ${url}`);
});

test("ws and wss", async () => {
  expect(await outcome({ url: await websocket(false) })).toBe("ready");
  expect(await outcome({ url: await websocket(true), tls: { ca: file("ca.pem") } })).toBe("ready");
  expect(await outcome({ url: await websocket(true), tls: { ca: file("stranger.pem") } })).toMatch(
    /unable to (verify|get)|self.signed/,
  );
});

test("of several brokers the next one is tried when one is away, round and round", async () => {
  const [dead, ports] = [await freePort(), [await freePort(), await freePort()]];
  const start = async (i: number) => startBroker({ port: ports[i]! });
  const log = recordingLog();
  const service = fakeService({
    access: { url: [dead, ...ports].map((port) => `mqtt://127.0.0.1:${port}`).join() },
    log,
  });
  ends.push(() => service.stop());
  let broker = await start(0);
  await service.start();
  for (const i of [1, 0]) {
    const next = await start(i);
    await broker.close();
    broker = next;
    await until(() => log.lines.at(-1) === `connected to mqtt://127.0.0.1:${ports[i]} (MQTT 5)`);
  }
  ends.push(() => broker.close());
});

test("a group says so when its broker has no shared subscriptions, or no MQTT 5", async () => {
  const group = async (access: BrokerAccess) => {
    const log = recordingLog();
    const service = fakeService({ access, topics: topicsOf("edgelabel", "gate-1", "pool"), log });
    ends.push(() => service.stop());
    void service.start();
    await until(() => log.lines.length > 0);
    return log.lines[0];
  };
  // A CONNACK of MQTT 5 with one property: 42, Shared Subscription Available, is 0.
  const without = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.write(Buffer.from([0x20, 5, 0, 0, 2, 42, 0])));
  });
  const port = await listen(without);
  expect(await group({ url: `mqtt://localhost:${port}`, protocol: 5 })).toContain(
    "the broker has no shared subscriptions, which a group needs",
  );
  const old = await startBroker({ port: 0 });
  ends.push(() => old.close());
  expect(await group({ url: await startOld(old.port), protocol: 5 })).toContain(
    "the broker does not speak this version of MQTT (--protocol; a group needs MQTT 5)",
  );
});

const another = "another client with the id edgelabel-gate-1 has connected; give each service a --node of its own";

test("a packet that cannot be read ends the connection at once, instead of being waited out", async () => {
  // CONNACK; PUBLISH without room for its topic.
  const broker = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.write(Buffer.from([0x20, 3, 0, 0, 0, 0x30, 1, 0])));
  });
  const url = `mqtt://localhost:${await listen(broker)}`;
  const since = performance.now();
  expect(await outcome({ url, protocol: 5 })).toBe(`lost ${url}: Cannot parse topic; trying again until it works`);
  // Before anybody gives up waiting for the subscription.
  expect(performance.now() - since).toBeLessThan(10_000);
});

test("a broker's word that another client has taken the session over is passed on", async () => {
  // CONNACK; DISCONNECT with reason 0x8E, Session taken over.
  const broker = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(Buffer.from([0x20, 3, 0, 0, 0, 0xe0, 1, 0x8e])));
  });
  const url = `mqtt://localhost:${await listen(broker)}`;
  const log = recordingLog();
  const service = fakeService({ access: { url, protocol: 5 }, log });
  ends.push(() => service.stop());
  void service.start();
  const connection = service["connection"];
  // In a fight, a service leaves the id to the other one for longer and longer.
  for (const seconds of [8, 16, 32, 64, 128, 256, 300, 300]) {
    await until(() => connection["client"] === undefined);
    const { _idleTimeout: delayMs } = connection["timer"] as unknown as { _idleTimeout: number };
    expect(delayMs).toBeGreaterThanOrEqual(400 * seconds);
    expect(delayMs).toBeLessThanOrEqual(1_000 * seconds);
    clearTimeout(connection["timer"]);
    connection.start();
  }
  expect(log.lines).toEqual([`lost ${url}: ${another}; trying again less and less often`]);
});

describeMosquitto("Mosquitto", (binaries) => {
  test.each([4, 5] as const)(
    "two services with one name are told what may be the matter, though the broker does not say, and back off (MQTT %s)",
    async (protocol) => {
      const { url } = await startMosquitto(binaries);
      const log = recordingLog();
      const services = [0, 1].map(() => fakeService({ access: { url, protocol }, log }));
      for (const service of services) {
        ends.push(() => service.stop());
        await service.start();
      }
      await until(() => log.lines.some((line) => line.includes("has connected")));
      // They wait longer each time, though both are subscribed at once whenever they try.
      await until(() => services.some((service) => service["connection"]["attempt"] > 4));
      // A restart of the broker is not taken for that.
      const lost = log.lines.filter((line) => line.startsWith("lost"));
      expect(lost[0]).toBe(`lost ${url}: the broker closed the connection; trying again until it works`);
      expect(lost.at(-1)).toMatch(`the broker closed the connection, and not for the first time: perhaps ${another}`);
    },
  );
});

test("TLS files with a scheme without TLS are a mistake", () => {
  expect(() => clientOptions({ url: "mqtt://h", tls: { ca: Buffer.from("x") } }, 5)).toThrow(
    "TLS files need a broker URL that begins with mqtts:// or wss://",
  );
});

test("a password without a user name is a mistake", () => {
  expect(() => clientOptions({ url: "mqtt://h", password: "p" }, 5)).toThrow(
    "a password for the broker needs a user name",
  );
});

test.each(["mqtt://h", "mqtts://h:1", "ws://h/path", "wss://[::1]:9"])("%s is a broker URL", (url) => {
  expect(checkBrokerUrl(url).href.startsWith(url)).toBe(true);
});

test("the backoff doubles up to half a minute and scatters by more than a fifth", () => {
  expect(backoffMs(0, 1)).toBe(500);
  expect(backoffMs(3, 1)).toBe(4_000);
  expect(backoffMs(3, 0)).toBe(1_600);
  for (const attempt of [6, 20, 1_000_000]) expect(backoffMs(attempt, 1)).toBe(30_000);
  const delays = Array.from({ length: 1_000 }, (_, i) => backoffMs(20, i / 1_000));
  const mean = delays.reduce((sum, delay) => sum + delay) / delays.length;
  const deviation = Math.sqrt(delays.reduce((sum, delay) => sum + (delay - mean) ** 2, 0) / delays.length);
  expect(deviation / mean).toBeGreaterThan(0.2);
});
