// The embedded broker against those who mean no good, or do not read.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import mqtt from "mqtt";
import type { IClientOptions, MqttClient } from "mqtt";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startBroker } from "../../../host/service/broker.ts";
import type { Broker, BrokerSettings } from "../../../host/service/broker.ts";
import { startHttp } from "../../../host/service/http.ts";
import { hashPassword } from "../../../host/service/users.ts";
import { Certificates } from "../../certificates.ts";
import { fakeService, pause, TestClient, topics, until } from "./fake.ts";

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(settings: Partial<BrokerSettings> = {}): Promise<Broker> {
  const broker = await startBroker({ host: "127.0.0.1", port: 0, ...settings });
  ends.push(() => broker.close());
  return broker;
}

async function connect(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await mqtt.connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0, ...options }, false);
  ends.push(() => client.endAsync(true));
  client.on("error", () => {});
  return client;
}

/** CONNACK's code for these options. */
async function refusal(url: string, options: IClientOptions): Promise<number | undefined> {
  try {
    await connect(url, options);
    return 0;
  } catch (error) {
    return (error as { code?: number }).code;
  }
}

/** What the service itself connects with. */
function ownLogin({ access }: Broker): IClientOptions {
  return { username: access.username!, password: access.password! };
}

async function raw(broker: Broker): Promise<{ socket: Socket; closed: Promise<number> }> {
  const socket = createConnection(broker.port, "127.0.0.1");
  ends.push(() => socket.destroy());
  socket.on("error", () => {});
  socket.resume();
  await new Promise((resolve) => { socket.once("connect", resolve); });
  const since = Date.now();
  return { socket, closed: new Promise((resolve) => { socket.once("close", () => resolve(Date.now() - since)); }) };
}

const CONNECT = Buffer.from([0x10, 0x0f, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 60, 0, 3, 0x72, 0x61, 0x77]);
/** PUBLISH and CONNECT that announce 250 MB. */
const hugePublish = Buffer.from([0x30, 0x80, 0xe5, 0x9a, 0x77]);
const hugeConnect = Buffer.from([0x10, 0x80, 0xe5, 0x9a, 0x77]);

async function works(broker: Broker): Promise<void> {
  const client = await TestClient.connect(broker.url, 4);
  await client.subscribe("alive");
  await client.publish("alive", "x");
  await client.next();
  await client.close();
}

describe("packets", () => {
  test("a client that announces 250 MB is cut off before it has sent them, known or not", async () => {
    const broker = await start({ packetBytes: 100_000 });
    const before = process.memoryUsage().rss;
    for (const first of [hugeConnect, Buffer.concat([CONNECT, hugePublish])]) {
      const { socket, closed } = await raw(broker);
      socket.write(first);
      const chunk = Buffer.alloc(1 << 20);
      const feed = setInterval(() => socket.write(chunk), 1);
      expect(await closed).toBeLessThan(5_000);
      clearInterval(feed);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(16 << 20);
    await works(broker);
  });

  test("the limit is exact, whatever the chunks are", async () => {
    const broker = await start({ packetBytes: 1_000 });
    const watcher = await TestClient.connect(broker.url, 4);
    ends.push(() => watcher.close());
    await watcher.subscribe("t");
    const publish = (bytes: number) => Buffer.concat([Buffer.from([0x30, 0x80 | (bytes & 0x7f), bytes >> 7, 0, 1, 0x74]), Buffer.alloc(bytes - 3, 0x61)]);
    const { socket, closed } = await raw(broker);
    socket.setNoDelay(true);
    for (const byte of Buffer.concat([CONNECT, publish(1_000), publish(500)])) socket.write(Buffer.of(byte));
    expect((await watcher.next()).text.length).toBe(997);
    expect((await watcher.next()).text.length).toBe(497);
    socket.write(publish(1_001));
    await closed;
    expect(watcher.received).toEqual([]);
  });

  test("a length of five bytes, and bytes that are no MQTT, end the connection", async () => {
    const broker = await start();
    for (const bytes of [[0x10, 0xff, 0xff, 0xff, 0xff, 1], [0x30, 0x02, 0, 0], [0x00, 0x00], [0xf0, 0x00], [...Buffer.from("GET / HTTP/1.1\r\n\r\n")]]) {
      const { socket, closed } = await raw(broker);
      socket.write(Buffer.from(bytes));
      expect(await closed).toBeLessThan(2_000);
    }
    await works(broker);
  });

  test("names that objects inherit, odd topics and half a packet harm nobody", async () => {
    const broker = await start();
    for (const clientId of ["__proto__", "constructor", "#", "+", "a/b"]) {
      const client = await connect(broker.url, { clientId });
      for (const topic of ["__proto__", "constructor", "toString", "a//b"]) {
        await client.subscribeAsync(topic);
        await client.publishAsync(topic, "x", { qos: 1 });
      }
    }
    const deep = await raw(broker);
    const topic = Buffer.from("a/".repeat(200));
    deep.socket.write(Buffer.concat([CONNECT, Buffer.from([0x30, 0x80 | (402 & 0x7f), 402 >> 7, topic.length >> 8, topic.length & 0xff]), topic]));
    await deep.closed;
    const half = await raw(broker);
    half.socket.end(CONNECT.subarray(0, 9));
    await half.closed;
    await works(broker);
  });

  test("a subscriber that does not read holds up the others for its time only", async () => {
    const broker = await start({ slowSubscriberSeconds: 1 });
    const frozen = await raw(broker);
    frozen.socket.write(Buffer.concat([CONNECT, Buffer.from([0x82, 10, 0, 1, 0, 5, ...Buffer.from("flood"), 0])]));
    await pause(100);
    frozen.socket.pause();
    const publisher = await TestClient.connect(broker.url, 4);
    ends.push(() => publisher.close());
    await publisher.subscribe("tick");
    const payload = Buffer.alloc(200_000);
    // More than Aedes has in hand at once: from then on everyone waits.
    for (let i = 0; i < 300; i++) void publisher.publish("flood", payload, { qos: 0 });
    let longest = 0;
    for (let i = 0; i < 20; i++) {
      const since = Date.now();
      await publisher.publish("tick", String(i));
      await publisher.next(({ text }) => text === String(i));
      longest = Math.max(longest, Date.now() - since);
    }
    expect(longest).toBeGreaterThan(500);
    expect(longest).toBeLessThan(2_500);
    frozen.socket.resume();
    await frozen.closed;
  });

  test("shared subscriptions, which it cannot serve, are refused and not swallowed", async () => {
    const broker = await start();
    const client = await connect(broker.url);
    const granted = await client.subscribeAsync({ "$share/g/t": { qos: 1 }, t: { qos: 1 } }).catch((error: Error) => error);
    expect(granted instanceof Error || granted.some(({ qos }) => qos === 128)).toBe(true);
    await client.publishAsync("$SYS/x", "x", { qos: 0 });
    await until(() => !client.connected);
  });
});

describe("messages for those who are away", () => {
  /** Leaves a session that wants `topic`, and goes. */
  async function leave(broker: Broker, clientId: string, topic: string): Promise<void> {
    const client = await connect(broker.url, { clientId, clean: false });
    await client.subscribeAsync(topic, { qos: 1 });
    await client.endAsync();
  }

  /** What waits for the client that comes again. */
  async function collect(broker: Broker, clientId: string): Promise<string[]> {
    const messages: string[] = [];
    const client = mqtt.connect(broker.url, { protocolVersion: 4, reconnectPeriod: 0, clientId, clean: false });
    client.on("message", (_topic, payload) => messages.push(payload.toString()));
    let seen = -1;
    while (seen !== messages.length || !client.connected) {
      seen = messages.length;
      await pause(200);
    }
    await client.endAsync();
    return messages;
  }

  test("the first ones are kept, the rest is dropped and counted; after that there is room again", async () => {
    const broker = await start({ offlineMessages: 20 });
    await leave(broker, "absent", "t");
    await leave(broker, "other", "t/other");
    const publisher = await connect(broker.url);
    for (let i = 0; i < 50; i++) await publisher.publishAsync("t", String(i), { qos: 1 });
    await publisher.publishAsync("t/other", "x", { qos: 1 });
    expect(broker.dropped).toBe(30);
    expect(await collect(broker, "absent")).toEqual(Array.from({ length: 20 }, (_, i) => String(i)));
    expect(await collect(broker, "other")).toEqual(["x"]);
    await publisher.publishAsync("t", "again", { qos: 1 });
    expect(await collect(broker, "absent")).toEqual(["again"]);
    expect(broker.dropped).toBe(30);
  });

  test("QoS 2 halves and clean sessions leave no room taken", async () => {
    const broker = await start({ offlineMessages: 3 });
    for (let turn = 0; turn < 4; turn++) {
      const client = await connect(broker.url, { clientId: "two", clean: false });
      await client.subscribeAsync("t", { qos: 2 });
      const publisher = await connect(broker.url);
      for (let i = 0; i < 3; i++) await publisher.publishAsync("t", String(i), { qos: 2 });
      await client.endAsync();
      for (let i = 0; i < 3; i++) await publisher.publishAsync("t", `away ${i}`, { qos: 2 });
      const fresh = await connect(broker.url, { clientId: "two", clean: true });
      await fresh.endAsync();
    }
    expect(broker.dropped).toBe(0);
  });

  test("neither large messages nor many sessions fill memory", async () => {
    const broker = await start({ offlineBytes: 1_000_000 });
    const payload = Buffer.alloc(100_000);
    for (let i = 0; i < 20; i++) await leave(broker, `absent-${i}`, `t/${i}`);
    const publisher = await connect(broker.url);
    for (let i = 0; i < 20; i++) for (let j = 0; j < 15; j++) await publisher.publishAsync(`t/${i}`, payload, { qos: 1 });
    // Ten for each of eight, and what fits behind that.
    const kept = 20 * 15 - broker.dropped;
    expect(kept).toBeGreaterThanOrEqual(80);
    expect(kept).toBeLessThanOrEqual(81);
    await works(broker);
  });
});

describe("users", () => {
  let hashes: Record<string, string>;
  beforeAll(async () => {
    hashes = { sensor: await hashPassword("s3nsor-4711"), app: await hashPassword("äpp äpp äpp") };
  });
  const users = () => ({
    sensor: { password: hashes["sensor"]!, publish: [`${topics.classify}/#`], subscribe: [`${topics.reply}/%u/#`] },
    app: { password: hashes["app"]!, publish: ["app/#"], subscribe: ["app/#", "+/public"] },
  });

  test("nobody comes in without the right name and password", async () => {
    const broker = await start({ users: users() });
    expect(await refusal(broker.url, {})).toBe(4);
    expect(await refusal(broker.url, { username: "sensor" })).toBe(4);
    expect(await refusal(broker.url, { username: "sensor", password: "wrong" })).toBe(4);
    expect(await refusal(broker.url, { username: "nobody", password: "s3nsor-4711" })).toBe(4);
    expect(await refusal(broker.url, { username: "__proto__", password: "s3nsor-4711" })).toBe(4);
    expect(await refusal(broker.url, { username: "sensor", password: "s3nsor-4711" })).toBe(0);
    expect(await refusal(broker.url, { username: "app", password: "äpp äpp äpp" })).toBe(0);
    expect(await refusal(broker.url, ownLogin(broker))).toBe(0);
  });

  test("each may do what is written, wills included, and no more", async () => {
    const broker = await start({ users: users() });
    const watcher = await connect(broker.url, ownLogin(broker));
    const seen: string[] = [];
    watcher.on("message", (topic) => seen.push(topic));
    await watcher.subscribeAsync("#");
    const sensor = { username: "sensor", password: "s3nsor-4711" };

    const reader = await connect(broker.url, sensor);
    const grants: [string, boolean][] = [[`${topics.reply}/sensor/1`, true], [`${topics.reply}/sensor/#`, true], [`${topics.reply}/app/1`, false], [`${topics.reply}/+/1`, false], [`${topics.reply}/#`, false], ["#", false], ["$SYS/#", false], ["+/public", false]];
    for (const [filter, isAllowed] of grants) {
      const granted = await reader.subscribeAsync(filter, { qos: 1 }).then(([grant]) => grant!.qos < 128, () => false);
      expect([filter, granted]).toEqual([filter, isAllowed]);
    }
    await reader.publishAsync(topics.classify, "x", { qos: 1 });
    for (const topic of [topics.status, "edgelabel/gate-1/cmd/load/1", "app/x", `${topics.reply}/sensor/1`, "homeassistant/x"]) {
      const writer = await connect(broker.url, sensor);
      void writer.publishAsync(topic, "x", { qos: 1 }).catch(() => {});
      await until(() => !writer.connected);
    }
    const dying = await connect(broker.url, { ...sensor, will: { topic: topics.status, payload: Buffer.from("offline"), qos: 1, retain: true } });
    dying.stream.destroy();
    const fair = await connect(broker.url, { ...sensor, will: { topic: `${topics.classify}/spam`, payload: Buffer.from("x"), qos: 1, retain: false } });
    fair.stream.destroy();
    await until(() => seen.length >= 2);
    await pause(100);
    expect(seen).toEqual([topics.classify, `${topics.classify}/spam`]);
  });

  test("a client id belongs to its user: it cannot be kicked out, nor its session taken", async () => {
    const broker = await start({ users: users(), ownClientId: "edgelabel-gate-1" });
    const own = { ...ownLogin(broker), clientId: "edgelabel-gate-1" };
    const service = await connect(broker.url, own);
    expect(await refusal(broker.url, { username: "app", password: "äpp äpp äpp", clientId: "edgelabel-gate-1" })).toBe(2);
    const kept = await connect(broker.url, { username: "app", password: "äpp äpp äpp", clientId: "app-1", clean: false });
    await kept.subscribeAsync("app/secret", { qos: 1 });
    await kept.endAsync();
    await service.publishAsync("app/secret", "x", { qos: 1 });
    expect(await refusal(broker.url, { username: "sensor", password: "s3nsor-4711", clientId: "app-1", clean: false })).toBe(2);
    const messages: string[] = [];
    const again = await mqtt.connectAsync(broker.url, { protocolVersion: 4, username: "app", password: "äpp äpp äpp", clientId: "app-1", clean: false, manualConnect: false });
    ends.push(() => again.endAsync(true));
    again.on("message", (topic) => messages.push(topic));
    await until(() => messages.length === 1);
    expect(service.connected).toBe(true);
  });

  test("without users, the service's own client id is still its own", async () => {
    const broker = await start({ ownClientId: "edgelabel-gate-1" });
    expect(await refusal(broker.url, { clientId: "edgelabel-gate-1" })).toBe(2);
    expect(await refusal(broker.url, { clientId: "other" })).toBe(0);
  });

  test("a user asks and is answered on its own topic, on no other's", async () => {
    const broker = await start({ users: users(), ownClientId: "edgelabel-gate-1" });
    const service = fakeService({ access: broker.access, responses: { allow: [], deny: [] } });
    await service.start();
    ends.push(() => service.stop());
    const watcher = await connect(broker.url, ownLogin(broker));
    const seen: string[] = [];
    watcher.on("message", (topic, payload) => void (payload.includes('"score"') && seen.push(topic)));
    await watcher.subscribeAsync("#");
    const sensor = await connect(broker.url, { username: "sensor", password: "s3nsor-4711" });
    for (const replyTo of ["app/x", "zigbee2mqtt/lamp/set", topics.status, `${topics.reply}/sensor/7`]) await sensor.publishAsync(topics.classify, JSON.stringify({ text: "win", replyTo }), { qos: 1 });
    await until(() => seen.length > 0);
    await pause(100);
    expect(seen).toEqual([`${topics.reply}/sensor/7`]);
  });
});

describe("TLS", () => {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-broker-tls-"));
  const file = (name: string) => readFileSync(join(folder, name));
  beforeAll(() => {
    const certificates = new Certificates(folder);
    certificates.authority("ca");
    certificates.authority("stranger");
    certificates.certificate("server", "ca", "localhost");
    certificates.certificate("client", "ca", "sensor");
    certificates.certificate("forged", "stranger", "sensor");
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const server = () => ({ cert: file("server.pem"), key: file("server.key") });

  test("broker and HTTP speak TLS; the service has its own door, which is closed to others", async () => {
    const broker = await start({ tls: server(), ownClientId: "edgelabel-gate-1" });
    expect(broker.url).toMatch(/^mqtts:/);
    const url = broker.url.replace("127.0.0.1", "localhost");
    const service = fakeService({ access: broker.access });
    await service.start();
    ends.push(() => service.stop());
    const client = await connect(url, { ca: file("ca.pem") });
    const answers: string[] = [];
    client.on("message", (_topic, payload) => answers.push(payload.toString()));
    await client.subscribeAsync(topics.label);
    await client.publishAsync(topics.classify, "win", { qos: 1 });
    await until(() => answers.length === 1);
    expect(JSON.parse(answers[0]!).label).toBe("spam");
    expect(await refusal(broker.access.url, {})).toBe(4);
    expect(await refusal(url, { ca: file("stranger.pem") })).not.toBe(0);
    expect(await refusal(url.replace("mqtts", "mqtt"), { connectTimeout: 1_000 })).not.toBe(0);
    expect(await refusal(url, { ca: file("ca.pem"), minVersion: "TLSv1.1", maxVersion: "TLSv1.1" } as IClientOptions)).not.toBe(0);

    const http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 1_000, textsPerRequest: 10, tls: server() });
    ends.push(() => http.close());
    expect(http.url).toMatch(/^https:/);
    await expect(fetch(http.url.replace("https", "http"))).rejects.toThrow();
  });

  test("with an authority for clients, one needs its certificate", async () => {
    const broker = await start({ tls: { ...server(), ca: file("ca.pem"), requestCert: true } });
    const url = broker.url.replace("127.0.0.1", "localhost");
    const ca = file("ca.pem");
    expect(await refusal(url, { ca, cert: file("client.pem"), key: file("client.key") })).toBe(0);
    expect(await refusal(url, { ca, connectTimeout: 2_000 })).not.toBe(0);
    expect(await refusal(url, { ca, cert: file("forged.pem"), key: file("forged.key"), connectTimeout: 2_000 })).not.toBe(0);
    expect(await refusal(broker.access.url, ownLogin(broker))).toBe(0);
  });
});
