// The embedded broker against programs with a fault, that flood it, hold on to it or do not read.
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import mqtt from "mqtt";
import type { IClientOptions, MqttClient } from "mqtt";
import { afterEach, describe, expect, test } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker, BrokerSettings } from "../../../../host/service/broker/broker.ts";
import { fakeService, TestClient, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(settings: Partial<BrokerSettings> = {}): Promise<Broker> {
  const broker = await startBroker({ port: 0, ...settings });
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

async function raw(broker: Broker): Promise<{ socket: Socket; closed: Promise<number> }> {
  const socket = createConnection(broker.port, "127.0.0.1");
  ends.push(() => socket.destroy());
  socket.on("error", () => {});
  socket.resume();
  await new Promise((resolve) => {
    socket.once("connect", resolve);
  });
  const since = Date.now();
  return {
    socket,
    closed: new Promise((resolve) => {
      socket.once("close", () => resolve(Date.now() - since));
    }),
  };
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

  test("a packet of the largest size passes, whatever the chunks are; a larger one ends the connection", async () => {
    const broker = await start({ packetBytes: 200_000 });
    const watcher = await TestClient.connect(broker.url, 4);
    ends.push(() => watcher.close());
    await watcher.subscribe("t");
    const publish = (bytes: number) =>
      Buffer.concat([
        Buffer.from([0x30, 0x80 | (bytes & 0x7f), 0x80 | ((bytes >> 7) & 0x7f), bytes >> 14, 0, 1, 0x74]),
        Buffer.alloc(bytes - 3, 0x61),
      ]);
    const { socket, closed } = await raw(broker);
    socket.setNoDelay(true);
    const bytes = Buffer.concat([CONNECT, publish(200_000), publish(50_000)]);
    for (let i = 0; i < 40; i++) socket.write(bytes.subarray(i, i + 1));
    for (let i = 40; i < bytes.length; i += 7_777) socket.write(bytes.subarray(i, i + 7_777));
    expect((await watcher.next()).text.length).toBe(199_997);
    expect((await watcher.next()).text.length).toBe(49_997);
    socket.write(publish(200_001).subarray(0, 150_000));
    await closed;
    await watcher.publish("t", "the next one");
    expect((await watcher.next()).text).toBe("the next one");
  });

  test("a length of five bytes, and bytes that are no MQTT, end the connection", async () => {
    const broker = await start();
    for (const bytes of [
      [0x10, 0xff, 0xff, 0xff, 0xff, 1],
      [0x30, 0x02, 0, 0],
      [0x00, 0x00],
      [0xf0, 0x00],
      [...Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ]) {
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
    deep.socket.write(
      Buffer.concat([
        CONNECT,
        Buffer.from([0x30, 0x80 | (402 & 0x7f), 402 >> 7, topic.length >> 8, topic.length & 0xff]),
        topic,
      ]),
    );
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
    // CONNACK has four bytes, SUBACK five.
    await until(() => frozen.socket.bytesRead === 9);
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

  test("what is refused in a SUBSCRIBE stays refused, beside what is granted and after a reconnect", async () => {
    const broker = await start();
    const session: IClientOptions = { clientId: "greedy", clean: false };
    const greedy = await connect(broker.url, session);
    const granted = await new Promise((resolve) => {
      greedy
        .once("packetreceive", (packet) => resolve("granted" in packet && packet.granted))
        .subscribe(["mine", "$share/g/#", "x".repeat(1025)], { qos: 1 });
    });
    expect(granted).toEqual([1, 128, 128]);
    await greedy.endAsync();
    const again = await connect(broker.url, session);
    const heard: string[] = [];
    again.on("message", (topic) => heard.push(topic));
    await again.subscribeAsync("last", { qos: 1 });
    const other = await connect(broker.url);
    for (const topic of ["foreign", "mine", "last"]) await other.publishAsync(topic, "x", { qos: 1 });
    await until(() => heard.includes("last"));
    expect(heard).toEqual(["last"]);
    await other.publishAsync("$SYS/x", "x", { qos: 0 });
    await until(() => !other.connected);
  });
});

describe("QoS 2", () => {
  test("1,300 requests of 60 KB, sender gone in the middle of each: others are still answered, at QoS 1 and 2", async () => {
    const broker = await start({ ownClientId: "edgelabel-gate-1" });
    const service = fakeService({ access: broker.access });
    await service.start();
    ends.push(() => service.stop());
    const topic = Buffer.from(topics.classify);
    const length = 2 + topic.length + 2 + 60_000;
    const { socket } = await raw(broker);
    socket.write(CONNECT);
    for (let id = 1; id <= 1_300; id++) {
      socket.write(
        Buffer.from([
          0x34,
          0x80 | (length & 0x7f),
          0x80 | ((length >> 7) & 0x7f),
          length >> 14,
          0,
          topic.length,
          ...topic,
          id >> 8,
          id & 0xff,
        ]),
      );
      if (!socket.write(Buffer.alloc(60_000, 0x61))) await new Promise((resolve) => socket.once("drain", resolve));
    }
    await new Promise<void>((resolve) => socket.write("", () => resolve()));
    socket.destroy();
    const client = await TestClient.connect(broker.url, 4);
    ends.push(() => client.close());
    await client.subscribe("calm");
    for (let id = 0; id < 50; id++) {
      await client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo: "calm" }), {
        qos: id % 2 ? 1 : 2,
      });
      expect((await client.next(({ json }) => json.id === id)).json.label).toBe("spam");
    }
  });

  test("a handshake comes to its end, a repeated PUBLISH is one message, and subscribers are granted QoS 1", async () => {
    const broker = await start();
    const granting = await connect(broker.url);
    const heard: [string, number][] = [];
    granting.on("message", (_topic, payload, { qos }) => heard.push([payload.toString(), qos]));
    expect((await granting.subscribeAsync("t/#", { qos: 2 })).map(({ qos }) => qos)).toEqual([1]);
    const publish = (qos: number) => Buffer.from([0x30 | (qos << 1), 8, 0, 3, ...Buffer.from("t/x"), 0, 7, 0x61]);
    const { socket } = await raw(broker);
    const answers: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => answers.push(chunk));
    socket.write(CONNECT);
    await until(() => Buffer.concat(answers).length >= 4);
    for (const packet of [publish(2), publish(2), Buffer.from([0x62, 2, 0, 7]), publish(1)]) socket.write(packet);
    await until(() => Buffer.concat(answers).length >= 20);
    const connack = [0x20, 2, 0, 0];
    const [pubrec, pubcomp, puback] = [
      [0x50, 2, 0, 7],
      [0x70, 2, 0, 7],
      [0x40, 2, 0, 7],
    ];
    const said = Buffer.concat(answers).toString("hex").match(/.{8}/g)!;
    expect(said.toSorted()).toEqual(
      [connack, pubrec, pubrec, pubcomp, puback].map((packet) => Buffer.from(packet).toString("hex")).toSorted(),
    );
    await until(() => heard.length >= 2);
    expect(heard).toEqual([
      ["a", 1],
      ["a", 1],
    ]);
  });
});

describe("a program with a fault keeps nobody out", () => {
  const limitMiB = (mebibytes: number) => mebibytes * 2 ** 20;

  test("1,100 silent connections: the oldest of them go, others come in at once and stay", async () => {
    const broker = await start({ ownClientId: "edgelabel-gate-1" });
    const service = fakeService({ access: broker.access });
    await service.start();
    ends.push(() => service.stop());
    const quiet = await TestClient.connect(broker.url, 4);
    ends.push(() => quiet.close());
    let closed = 0;
    for (let i = 0; i < 1_100; i++) void (await raw(broker)).closed.then(() => closed++);
    const since = Date.now();
    await works(broker);
    // Aedes closes those that say nothing after ten seconds.
    expect(Date.now() - since).toBeLessThan(5_000);
    await until(() => closed >= 600);
    expect([quiet.client.connected, service.isReady]).toEqual([true, true]);
  });

  test("700 clients that say who they are and then nothing: those go that are silent for longest, never the service", async () => {
    const broker = await start({ ownClientId: "edgelabel-gate-1" });
    const service = fakeService({ access: broker.access });
    await service.start();
    ends.push(() => service.stop());
    const silent = await Promise.all([0, 1].map(async () => raw(broker)));
    for (const [i, { socket }] of silent.entries()) await say(socket, named(`silent-${i}`), 4);
    let lost = 0;
    for (const { closed } of silent) void closed.then(() => lost++);
    const lively = await TestClient.connect(broker.url, 4);
    ends.push(() => lively.close());
    await lively.subscribe("lively");
    for (let i = 0; i < 700; i++) {
      const { socket } = await raw(broker);
      await say(socket, named(`c-${i}`), 4);
      if (i % 100 === 0) await lively.publish("lively", "x");
    }
    expect([lost, lively.client.connected, lively.received.length]).toEqual([2, true, 7]);
    await works(broker);
    expect(service.isReady).toBe(true);
  });

  test("nobody but the service has its client id", async () => {
    const broker = await start({ ownClientId: "edgelabel-gate-1" });
    const service = fakeService({ access: broker.access });
    await service.start();
    ends.push(() => service.stop());
    expect(await refusal(broker.url, { clientId: "edgelabel-gate-1" })).toBe(2);
    expect(
      await refusal(broker.url, { clientId: "edgelabel-gate-1", username: broker.access.username!, password: "guess" }),
    ).toBe(2);
    expect(await refusal(broker.url, { clientId: "other" })).toBe(0);
    expect(service.isReady).toBe(true);
  });

  test("a session ends with its connection: 500 abandoned ones leave nothing, and nothing is kept for them", async () => {
    const broker = await start();
    for (let i = 0; i < 500; i++) {
      const { socket } = await raw(broker);
      const filter = Buffer.from("away/#");
      await say(
        socket,
        Buffer.concat([
          named(`away-${i}`, false),
          Buffer.from([0x82, 5 + filter.length, 0, 1, 0, filter.length, ...filter, 1]),
        ]),
        9,
      );
      socket.destroy();
    }
    const before = process.memoryUsage().rss;
    const publisher = await connect(broker.url);
    for (let i = 0; i < 200; i++) await publisher.publishAsync("away/x", Buffer.alloc(100_000), { qos: 1 });
    expect(process.memoryUsage().rss - before).toBeLessThan(limitMiB(100));
    const back = await mqtt.connectAsync(broker.url, {
      protocolVersion: 4,
      clientId: "away-0",
      clean: false,
      reconnectPeriod: 0,
    });
    ends.push(() => back.endAsync(true));
    const heard: string[] = [];
    back.on("message", (topic) => heard.push(topic));
    await back.subscribeAsync("sentinel", { qos: 1 });
    await publisher.publishAsync("sentinel", "x", { qos: 1 });
    await until(() => heard.length > 0);
    expect(heard).toEqual(["sentinel"]);
  });

  test("retained messages have a limit in bytes and one in number; beyond it they are only delivered, but the service's are kept", async () => {
    const broker = await start({ ownClientId: "edgelabel-gate-1" });
    const publisher = await connect(broker.url);
    const heard: string[] = [];
    const live = await connect(broker.url);
    live.on("message", (topic) => heard.push(topic));
    await live.subscribeAsync("large/#", { qos: 0 });
    for (let i = 0; i < 200; i++)
      await publisher.publishAsync(`large/${i}`, Buffer.alloc(100_000), { qos: 1, retain: true });
    await until(() => heard.length === 200);
    expect(broker.dropped).toBe(117);
    // Clearing makes room, and so does replacing by something smaller.
    for (let i = 0; i < 83; i++)
      await publisher.publishAsync(`large/${i}`, i % 2 ? "" : "small", { qos: 1, retain: true });
    for (let i = 0; i < 3_000; i++) await publisher.publishAsync(`small/${i}`, "x", { qos: 1, retain: true });
    expect(broker.dropped).toBe(117 + 3_000 - (1_000 - 42));
    const service = fakeService({ access: broker.access });
    await service.start();
    ends.push(() => service.stop());
    const late = await TestClient.connect(broker.url, 4);
    ends.push(() => late.close());
    await late.subscribe(topics.status);
    expect((await late.next()).text).toBe("online");
    await late.subscribe("large/0");
    expect((await late.next(({ topic }) => topic === "large/0")).text).toBe("small");
  });

  test("filters have a limit in number for each client, and one in bytes, at which the client goes that holds most", async () => {
    const broker = await start();
    const calm = await TestClient.connect(broker.url, 4);
    ends.push(() => calm.close());
    await calm.subscribe("calm");
    const before = process.memoryUsage().rss;
    const many = await connect(broker.url);
    const granted = await subscribe(
      many,
      Array.from({ length: 5_000 }, (_, i) => `many/${i}`),
    );
    expect(granted.filter((qos) => qos < 128).length).toBe(256);
    // What is given back may be taken again.
    await many.unsubscribeAsync("many/0");
    expect(await subscribe(many, ["other"])).toEqual([1]);
    let closed = 0;
    for (let client = 0; client < 20; client++) {
      const deep = await connect(broker.url);
      const ended = new Promise<void>((resolve) => {
        deep.once("close", () => {
          closed++;
          resolve();
        });
      });
      await Promise.race([
        subscribe(
          deep,
          Array.from({ length: 256 }, (_, i) => `${client}-${i}${"/x".repeat(90)}`),
        ),
        ended,
      ]);
    }
    await until(() => closed >= 18);
    await works(broker);
    expect(process.memoryUsage().rss - before).toBeLessThan(limitMiB(150));
    await calm.publish("calm", "x");
    expect((await calm.next()).text).toBe("x");
  });

  test("packets that never end have a limit together, at which those go that hold most", async () => {
    const broker = await start();
    const calm = await TestClient.connect(broker.url, 4);
    ends.push(() => calm.close());
    await calm.subscribe("calm");
    const before = process.memoryUsage().rss;
    let closed = 0;
    for (let i = 0; i < 100; i++) {
      const connection = await raw(broker);
      void connection.closed.then(() => closed++);
      // A PUBLISH of 2 MB, but for its last byte.
      connection.socket.write(
        Buffer.concat([named(`half-${i}`), Buffer.from([0x30, 0x80, 0x80, 0x7a]), Buffer.alloc(1_998_847)]),
      );
    }
    await until(() => closed >= 80);
    expect(process.memoryUsage().rss - before).toBeLessThan(limitMiB(200));
    await calm.publish("calm", "x");
    expect((await calm.next()).text).toBe("x");
  });

  test("QoS 2 messages that are never released hold their numbers only, and those up to a limit", async () => {
    const broker = await start();
    const before = process.memoryUsage().rss;
    for (let client = 0; client < 2; client++) {
      const { socket, closed } = await raw(broker);
      socket.write(named(`unreleased-${client}`));
      for (let id = 1; id <= 11_000 && !socket.destroyed; id++) {
        if (!socket.write(Buffer.from([0x34, 0x85, 0x10, 0, 1, 0x74, id >> 8, id & 0xff, ...Buffer.alloc(2_048)])))
          await Promise.race([closed, new Promise((resolve) => socket.once("drain", resolve))]);
      }
      await closed;
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(limitMiB(150));
    await works(broker);
  });
});

/** Writes, and waits until so many bytes have come back. */
async function say(socket: Socket, bytes: Buffer, answerBytes: number): Promise<void> {
  const answered = new Promise<void>((resolve) => {
    let length = 0;
    socket.on("data", (chunk: Buffer) => {
      if ((length += chunk.length) >= answerBytes) resolve();
    });
  });
  socket.write(bytes);
  await answered;
}

/** CONNECT with this client id. */
function named(clientId: string, isClean = true): Buffer {
  const id = Buffer.from(clientId);
  return Buffer.from([
    0x10,
    12 + id.length,
    0,
    4,
    ...Buffer.from("MQTT"),
    4,
    isClean ? 2 : 0,
    0,
    60,
    0,
    id.length,
    ...id,
  ]);
}

/** The QoS that each filter is granted; 128 means refused. */
function subscribe(client: MqttClient, filters: string[]): Promise<number[]> {
  return new Promise((resolve) => {
    client.on("packetreceive", (packet) => {
      if (packet.cmd === "suback") resolve(packet.granted as number[]);
    });
    client.subscribe(filters, { qos: 1 });
  });
}
