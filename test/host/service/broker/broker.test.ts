// The embedded broker against programs with a fault, that flood it, hold on to it or do not read.
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import mqtt from "mqtt";
import type { IClientOptions, IConnackPacket, IPublishPacket, MqttClient } from "mqtt";
import { generate, parser } from "mqtt-packet";
import type { Packet } from "mqtt-packet";
import { afterEach, describe, expect, test } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker, BrokerSettings } from "../../../../host/service/broker/broker.ts";
import { fakeService, TestClient, topics } from "../../../support/fake.ts";
import { pause, until } from "../../../support/wait.ts";

/** After this time the broker closes connections that have not said who they are. */
const SILENCE_MS = 10_000;

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(settings: Partial<BrokerSettings> = {}): Promise<Broker> {
  const broker = await startBroker({ port: 0, ...settings });
  ends.push(() => broker.close());
  return broker;
}

describe.each([
  ["3.1.1", 4],
  ["5", 5],
] as const)("MQTT %s", (_, protocol) => {
  async function connect(url: string, options: IClientOptions = {}): Promise<MqttClient> {
    const client = await mqtt.connectAsync(url, { protocolVersion: protocol, reconnectPeriod: 0, ...options }, false);
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

  const bytesOf = (packet: object) => generate(packet as Packet, { protocolVersion: protocol });

  /** CONNECT with this client id. */
  const named = (clientId: string, isClean = true) =>
    bytesOf({
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: protocol,
      clientId,
      clean: isClean,
      keepalive: 60,
      ...(protocol === 5 && !isClean ? { properties: { sessionExpiryInterval: 3600 } } : {}),
    });
  const CONNECT = named("raw");

  interface Raw {
    socket: Socket;
    /** What has come back. */
    packets: Packet[];
    closed: Promise<number>;
    /** Sends bytes, and waits for so many more packets. */
    say(bytes: Buffer, answers?: number): Promise<void>;
  }

  async function raw(broker: Broker): Promise<Raw> {
    const socket = createConnection(broker.port, "127.0.0.1");
    ends.push(() => socket.destroy());
    socket.on("error", () => {});
    const packets: Packet[] = [];
    const reader = parser({ protocolVersion: protocol });
    reader.on("packet", (packet) => packets.push(packet));
    socket.on("data", (chunk: Buffer) => reader.parse(chunk));
    await new Promise((resolve) => {
      socket.once("connect", resolve);
    });
    const since = Date.now();
    return {
      socket,
      packets,
      closed: new Promise((resolve) => {
        socket.once("close", () => resolve(Date.now() - since));
      }),
      async say(bytes, answers = 1) {
        const wanted = packets.length + answers;
        socket.write(bytes);
        await until(() => packets.length >= wanted);
      },
    };
  }

  /** The fixed headers of a CONNECT and a PUBLISH that announce 250 MB. */
  const hugeConnect = Buffer.from([0x10, 0x80, 0xe5, 0x9a, 0x77]);
  const hugePublish = Buffer.from([0x30, 0x80, 0xe5, 0x9a, 0x77]);

  async function works(broker: Broker): Promise<void> {
    const client = await TestClient.connect(broker.url, protocol);
    await client.subscribe("alive");
    await client.publish("alive", "x");
    await client.next();
    await client.close();
  }

  test("a close ends every connection", async () => {
    const broker = await startBroker({ port: 0 });
    const client = await connect(broker.url);
    await Promise.all([new Promise<void>((resolve) => client.once("close", () => resolve())), broker.close()]);
    expect(client.connected).toBe(false);
  });

  describe("packets", () => {
    test("a client that announces 250 MB is cut off before it has sent them, known or not", async () => {
      const broker = await start({ packetBytes: 100_000 });
      const before = process.memoryUsage().rss;
      for (const first of [hugeConnect, Buffer.concat([CONNECT, hugePublish])]) {
        const { socket, closed } = await raw(broker);
        socket.write(first);
        const chunk = Buffer.alloc(1 << 20);
        const feed = setInterval(() => socket.write(chunk), 1);
        expect(await closed).toBeLessThan(SILENCE_MS);
        clearInterval(feed);
      }
      expect(process.memoryUsage().rss - before).toBeLessThan(16 << 20);
      await works(broker);
    });

    test("a packet of the largest size passes, whatever the chunks are; a larger one ends the connection", async () => {
      const broker = await start({ packetBytes: 200_000 });
      const watcher = await TestClient.connect(broker.url, protocol);
      ends.push(() => watcher.close());
      await watcher.subscribe("t");
      const publish = (bytes: number) => {
        const empty = bytesOf({ cmd: "publish", topic: "t", payload: Buffer.alloc(0), qos: 0 }).length;
        // A packet of this size has a length of three bytes, an empty one of one.
        return bytesOf({ cmd: "publish", topic: "t", payload: Buffer.alloc(bytes - empty - 2, 0x61), qos: 0 });
      };
      expect(publish(200_000).length).toBe(200_000);
      const { socket, packets, closed } = await raw(broker);
      socket.setNoDelay(true);
      const bytes = Buffer.concat([CONNECT, publish(200_000), publish(50_000)]);
      for (let i = 0; i < 40; i++) socket.write(bytes.subarray(i, i + 1));
      for (let i = 40; i < bytes.length; i += 7_777) socket.write(bytes.subarray(i, i + 7_777));
      for (const size of [200_000, 50_000])
        expect(size - (await watcher.next()).text.length).toBe(protocol === 5 ? 8 : 7);
      socket.write(publish(200_001).subarray(0, 150_000));
      await closed;
      if (protocol === 5) expect(packets.at(-1)).toMatchObject({ cmd: "disconnect", reasonCode: 0x95 });
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
        expect(await closed).toBeLessThan(SILENCE_MS);
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
      for (const topic of ["__proto__", "constructor", "toString"]) {
        const client = await connect(broker.url);
        await client.unsubscribeAsync(topic);
      }
      const deep = "a/".repeat(200);
      for (const packet of [
        { cmd: "publish", topic: deep, payload: "", qos: 0 },
        { cmd: "subscribe", messageId: 1, subscriptions: [{ topic: deep, qos: 0 }] },
        {
          cmd: "subscribe",
          messageId: 1,
          subscriptions: [...Object.getOwnPropertyNames(Object.prototype), "x"].map((topic) => ({ topic, qos: 0 })),
        },
      ]) {
        const { socket, closed } = await raw(broker);
        socket.write(Buffer.concat([CONNECT, bytesOf(packet)]));
        await closed;
      }
      const half = await raw(broker);
      half.socket.end(CONNECT.subarray(0, 9));
      await half.closed;
      await works(broker);
    });

    test("a subscriber that does not read holds up the others for its time only", async () => {
      const broker = await start({ slowSubscriberSeconds: 1 });
      const frozen = await raw(broker);
      await frozen.say(CONNECT);
      await frozen.say(bytesOf({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "flood", qos: 0 }] }));
      frozen.socket.pause();
      const publisher = await TestClient.connect(broker.url, protocol);
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
      // Not the five seconds that are the default.
      expect(longest).toBeLessThan(5_000);
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
      expect(granted).toEqual(protocol === 5 ? [1, 0x9e, 0x87] : [1, 128, 128]);
      await greedy.endAsync();
      const again = await connect(broker.url, session);
      const heard: string[] = [];
      again.on("message", (topic) => heard.push(topic));
      await again.subscribeAsync("last", { qos: 1 });
      const other = await connect(broker.url);
      for (const topic of ["foreign", "mine", "last"]) await other.publishAsync(topic, "x", { qos: 1 });
      await until(() => heard.includes("last"));
      expect(heard).toEqual(["last"]);
    });

    test("what is published on topics that begin with $ reaches nobody, and does not end the connection", async () => {
      const broker = await start();
      const heard: string[] = [];
      const listener = await connect(broker.url, { clientId: "listener" });
      listener.on("message", (topic) => heard.push(topic));
      await listener.subscribeAsync(["#", "+/+", "$x/#", "$nowhere"], { qos: 1 });
      const publisher = await connect(broker.url);
      for (const [topic, payload] of [
        ["$x/y", "x"],
        // Aedes would take this for the word of another broker, and end the connection of that client.
        ["$SYS/x/new/clients", "listener"],
      ] as const)
        for (const qos of [0, 1, 2] as const) {
          const published = publisher.publishAsync(topic, payload, { qos, retain: true });
          if (protocol === 5 && qos > 0) await expect(published).rejects.toMatchObject({ code: 0x87 });
          else await published;
        }
      await publisher.publishAsync("sentinel", "x", { qos: 1 });
      await until(() => heard.length > 0);
      expect([heard[0], publisher.connected, listener.connected]).toEqual(["sentinel", true, true]);
      const late = await connect(broker.url);
      late.on("message", (topic) => heard.push(topic));
      await late.subscribeAsync(["$x/#", "$nowhere", "sentinel"], { qos: 1 });
      heard.length = 0;
      await publisher.publishAsync("sentinel", "x", { qos: 1 });
      await until(() => heard.length > 0);
      expect(new Set(heard)).toEqual(new Set(["sentinel"]));
    });

    test("a client without an id has one given, but no session that would outlive its connection", async () => {
      const broker = await start();
      expect(await refusal(broker.url, { clientId: "", clean: true })).toBe(0);
      const { socket, packets, closed } = await raw(broker);
      const version = [0, 4, ...Buffer.from("MQTT"), protocol];
      const noProperties = protocol === 5 ? [0] : [];
      const fields = [...version, 0, 0, 60, ...noProperties, 0, 0];
      socket.write(Buffer.from([0x10, fields.length, ...fields]));
      await until(() => packets.length === 1);
      if (protocol === 4) {
        expect(packets).toMatchObject([{ cmd: "connack", returnCode: 2 }]);
        await closed;
      } else
        expect(packets).toMatchObject([
          {
            cmd: "connack",
            reasonCode: 0,
            properties: { assignedClientIdentifier: expect.stringMatching(/./), sessionExpiryInterval: 0 },
          },
        ]);
    });
  });

  describe("QoS 2", () => {
    test("1,300 requests of 60 KB, sender gone in the middle of each: others are still answered, at QoS 1 and 2", async () => {
      const broker = await start({ ownClientId: "edgelabel-gate-1" });
      const service = fakeService({ access: broker.access });
      await service.start();
      ends.push(() => service.stop());
      const { socket } = await raw(broker);
      socket.write(CONNECT);
      for (let messageId = 1; messageId <= 1_300; messageId++) {
        const request = {
          cmd: "publish",
          topic: topics.classify,
          payload: Buffer.alloc(60_000, 0x61),
          qos: 2,
          messageId,
        };
        if (!socket.write(bytesOf(request))) await new Promise((resolve) => socket.once("drain", resolve));
      }
      await new Promise<void>((resolve) => socket.write("", () => resolve()));
      socket.destroy();
      const client = await TestClient.connect(broker.url, protocol);
      ends.push(() => client.close());
      await client.subscribe("calm");
      for (let id = 0; id < 50; id++) {
        await client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo: "calm" }), {
          qos: id % 2 ? 1 : 2,
        });
        expect((await client.next(({ json }) => json.id === id)).json.label).toBe("spam");
      }
    });

    test("a handshake comes to its end, and a repeated PUBLISH is one message", async () => {
      const broker = await start();
      const heard: [string, number][] = [];
      for (const qos of [1, 2] as const) {
        const granting = await connect(broker.url);
        granting.on("message", (_topic, payload, packet) => heard.push([payload.toString(), packet.qos]));
        expect((await granting.subscribeAsync("t/#", { qos })).map((each) => each.qos)).toEqual([qos]);
      }
      const publish = (qos: number) => bytesOf({ cmd: "publish", topic: "t/x", payload: "a", qos, messageId: 7 });
      const pubrel = bytesOf({ cmd: "pubrel", messageId: 7 });
      const { packets, say } = await raw(broker);
      await say(CONNECT);
      await say(Buffer.concat([publish(2), publish(2), pubrel, pubrel, publish(1)]), 5);
      expect(packets.map(({ cmd, messageId }) => `${cmd} ${messageId}`).toSorted()).toEqual([
        "connack undefined",
        "puback 7",
        "pubcomp 7",
        "pubcomp 7",
        "pubrec 7",
        "pubrec 7",
      ]);
      await until(() => heard.length >= 4);
      expect(heard.toSorted()).toEqual([
        ["a", 1],
        ["a", 1],
        ["a", 1],
        ["a", 2],
      ]);
      await works(broker);
    });
  });

  describe("a program with a fault keeps nobody out", () => {
    const limitMiB = (mebibytes: number) => mebibytes * 2 ** 20;

    test("1,100 silent connections: the oldest of them go, others come in at once and stay", async () => {
      const broker = await start({ ownClientId: "edgelabel-gate-1" });
      const service = fakeService({ access: broker.access });
      await service.start();
      ends.push(() => service.stop());
      const quiet = await TestClient.connect(broker.url, protocol);
      ends.push(() => quiet.close());
      let closed = 0;
      for (let i = 0; i < 1_100; i++) void (await raw(broker)).closed.then(() => closed++);
      const since = Date.now();
      await works(broker);
      expect(Date.now() - since).toBeLessThan(SILENCE_MS);
      await until(() => closed >= 600);
      expect([quiet.client.connected, service.isReady]).toEqual([true, true]);
    });

    test("700 clients that say who they are and then nothing: those go that are silent for longest, never the service", async () => {
      const broker = await start({ ownClientId: "edgelabel-gate-1" });
      const service = fakeService({ access: broker.access });
      await service.start();
      ends.push(() => service.stop());
      const silent = await Promise.all([0, 1].map(async () => raw(broker)));
      for (const [i, { say }] of silent.entries()) await say(named(`silent-${i}`));
      let lost = 0;
      for (const { closed } of silent) void closed.then(() => lost++);
      const lively = await TestClient.connect(broker.url, protocol);
      ends.push(() => lively.close());
      await lively.subscribe("lively");
      for (let i = 0; i < 700; i++) {
        await (await raw(broker)).say(named(`c-${i}`));
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
      expect(await refusal(broker.url, { clientId: "edgelabel-gate-1" })).toBe(protocol === 5 ? 0x85 : 2);
      expect(
        await refusal(broker.url, {
          clientId: "edgelabel-gate-1",
          username: broker.access.username!,
          password: "guess",
        }),
      ).toBe(protocol === 5 ? 0x85 : 2);
      expect(await refusal(broker.url, { clientId: "other" })).toBe(0);
      expect(service.isReady).toBe(true);
    });

    test("a session ends with its connection: 500 abandoned ones leave nothing, and nothing is kept for them", async () => {
      const broker = await start();
      for (let i = 0; i < 500; i++) {
        const { socket, say } = await raw(broker);
        await say(named(`away-${i}`, false));
        await say(bytesOf({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "away/#", qos: 1 }] }));
        socket.destroy();
      }
      const before = process.memoryUsage().rss;
      const publisher = await connect(broker.url);
      for (let i = 0; i < 200; i++) await publisher.publishAsync("away/x", Buffer.alloc(100_000), { qos: 1 });
      expect(process.memoryUsage().rss - before).toBeLessThan(limitMiB(100));
      const back = await connect(broker.url, { clientId: "away-0", clean: false });
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
      const late = await TestClient.connect(broker.url, protocol);
      ends.push(() => late.close());
      await late.subscribe(topics.status);
      expect((await late.next()).text).toBe("online");
      await late.subscribe("large/0");
      expect((await late.next(({ topic }) => topic === "large/0")).text).toBe("small");
    });

    test("filters have a limit in number for each client, and one in bytes, at which the client goes that holds most", async () => {
      const broker = await start();
      const calm = await TestClient.connect(broker.url, protocol);
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
      const calm = await TestClient.connect(broker.url, protocol);
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
        const { socket, packets, closed } = await raw(broker);
        const publish = (messageId: number) =>
          socket.write(bytesOf({ cmd: "publish", topic: "t", payload: Buffer.alloc(2_048), qos: 2, messageId }));
        socket.write(named(`unreleased-${client}`));
        for (let id = 1; id <= 10_000; id++)
          if (!publish(id)) await new Promise((resolve) => socket.once("drain", resolve));
        await until(() => packets.length === 1 + 10_000);
        publish(10_001);
        await closed;
        const reason = protocol === 5 ? [{ cmd: "disconnect", reasonCode: 0x93 }] : [];
        expect(packets.slice(1 + 10_000)).toMatchObject(reason);
      }
      expect(process.memoryUsage().rss - before).toBeLessThan(limitMiB(150));
      await works(broker);
    });
  });

  /** The QoS that each filter is granted; 128 means refused. */
  function subscribe(client: MqttClient, filters: string[]): Promise<number[]> {
    return new Promise((resolve) => {
      client.on("packetreceive", (packet) => {
        if (packet.cmd === "suback") resolve(packet.granted as number[]);
      });
      client.subscribe(filters, { qos: 1 });
    });
  }
});

describe("what only MQTT 5 has", () => {
  /** A client, its CONNACK, and what it hears. */
  async function join(broker: Broker, options: IClientOptions = {}) {
    const client = mqtt.connect(broker.url, { protocolVersion: 5, reconnectPeriod: 0, ...options });
    ends.push(() => client.endAsync(true));
    client.on("error", () => {});
    const heard: IPublishPacket[] = [];
    client.on("message", (_topic, _payload, packet) => heard.push(packet));
    const connack = await new Promise<IConnackPacket>((resolve) => {
      client.once("connect", resolve);
    });
    /** What has come until a message that is published now. */
    const settled = async () => {
      const topic = `sentinel/${client.options.clientId}`;
      await client.subscribeAsync(topic, { qos: 1 });
      await client.publishAsync(topic, "", { qos: 1 });
      await until(() => heard.some((packet) => packet.topic === topic));
      return heard.splice(0).filter((packet) => packet.topic !== topic);
    };
    return { client, connack, heard, settled };
  }

  test("CONNACK tells the limits, and that there are no kept sessions and no shared subscriptions", async () => {
    const broker = await start({ packetBytes: 100_000 });
    const { connack } = await join(broker, { clean: false, clientId: "x", properties: { sessionExpiryInterval: 60 } });
    expect(connack.sessionPresent).toBe(false);
    expect({ ...connack.properties }).toEqual({
      maximumPacketSize: 100_000,
      receiveMaximum: 10_000,
      sessionExpiryInterval: 0,
      sharedSubscriptionAvailable: false,
    });
  });

  test.each([0, 1, 2] as const)("properties go on as they came, at QoS %s, live and retained", async (qos) => {
    const broker = await start();
    const [publisher, live] = [await join(broker), await join(broker)];
    await live.client.subscribeAsync("t/#", { qos: 2 });
    const properties = {
      payloadFormatIndicator: true,
      contentType: "text/plain",
      responseTopic: "answers/1",
      correlationData: Buffer.from([0, 255, 10]),
      userProperties: { a: ["1", "2"], b: "é" },
    };
    await publisher.client.publishAsync("t/x", "é", { qos, retain: true, properties });
    await until(() => live.heard.length === 1);
    const late = await join(broker);
    await late.client.subscribeAsync("t/+", { qos: 2 });
    await until(() => late.heard.length === 1);
    for (const { heard } of [live, late]) {
      const { userProperties, ...rest } = heard[0]!.properties!;
      expect({ ...rest, userProperties: { ...userProperties } }).toEqual(properties);
      expect([heard[0]!.qos, heard[0]!.payload.toString()]).toEqual([qos, "é"]);
    }
  });

  test("a retained message says how long it is still good for, and is gone then", async () => {
    const broker = await start();
    const { client } = await join(broker);
    const publish = (topic: string, seconds: number) =>
      client.publishAsync(topic, "x", { qos: 1, retain: true, properties: { messageExpiryInterval: seconds } });
    await publish("t/long", 100);
    await publish("t/short", 1);
    await pause(2_000);
    const late = await join(broker);
    await late.client.subscribeAsync("t/+", { qos: 1 });
    await until(() => late.heard.length > 0);
    const heard = await late.settled();
    expect(heard.map(({ topic }) => topic)).toEqual(["t/long"]);
    const left = heard[0]!.properties!.messageExpiryInterval!;
    expect(left).toBeGreaterThan(50);
    expect(left).toBeLessThan(100);
  });

  test("expired retained messages make room for others", async () => {
    const broker = await start();
    const { client } = await join(broker);
    const publish = (i: number, properties: object) =>
      client.publishAsync(`t/${i}`, Buffer.alloc(100_000), { qos: 1, retain: true, properties });
    for (let i = 0; i < 83; i++) await publish(i, { messageExpiryInterval: 2 });
    expect(broker.dropped).toBe(0);
    await pause(2_000);
    for (let i = 100; i < 183; i++) await publish(i, {});
    expect(broker.dropped).toBe(0);
  });

  test("a retained message counts with its properties", async () => {
    const broker = await start();
    const { client } = await join(broker);
    for (const [i, properties] of [
      { userProperties: { n: "v".repeat(60_000) } },
      { userProperties: Object.fromEntries(Array.from({ length: 900 }, (_, n) => [`n${n}`, "v"])) },
      { correlationData: Buffer.alloc(60_000) },
      { responseTopic: "x".repeat(60_000) },
      { contentType: "x".repeat(60_000) },
    ].entries()) {
      const dropped = broker.dropped;
      for (let n = 0; n < 150; n++) await client.publishAsync(`t/${i}/${n}`, "x", { qos: 1, retain: true, properties });
      expect(broker.dropped - dropped).toBeGreaterThan(10);
      for (let n = 0; n < 150; n++) await client.publishAsync(`t/${i}/${n}`, "", { qos: 1, retain: true });
    }
  });

  test("a message that waits behind a slow subscriber for too long is not delivered", async () => {
    const broker = await start({ slowSubscriberSeconds: 3_600 });
    const frozen = await join(broker);
    await frozen.client.subscribeAsync("flood", { qos: 0 });
    (frozen.client.stream as Socket).pause();
    const [calm, { client }] = [await join(broker), await join(broker)];
    await calm.client.subscribeAsync("tick/#", { qos: 1 });
    // Aedes handles a hundred messages at once, and a subscriber's socket takes some megabytes. More than 16 MB that are
    // under way at once would cost publishers their connection.
    const publishers: MqttClient[] = [];
    for (let i = 0; i < 300; i++) publishers.push((await join(broker)).client);
    const payload = Buffer.alloc(50_000);
    await Promise.all(publishers.map((publisher) => publisher.publishAsync("flood", payload, { qos: 1 })));
    await client.publishAsync("tick/short", "x", { qos: 1, properties: { messageExpiryInterval: 1 } });
    await client.publishAsync("tick/long", "x", { qos: 1, properties: { messageExpiryInterval: 100 } });
    await pause(1_100);
    expect(calm.heard).toEqual([]);
    frozen.client.stream.destroy();
    await until(() => calm.heard.some(({ topic }) => topic === "tick/long"));
    expect(calm.heard.map(({ topic }) => topic)).toEqual(["tick/long"]);
    expect(calm.heard[0]!.properties!.messageExpiryInterval).toBeLessThan(100);
  });

  test("a message that matches several filters comes once, at the highest QoS, with all their identifiers", async () => {
    const broker = await start();
    const { client, heard } = await join(broker);
    for (const [filter, qos, subscriptionIdentifier] of [
      ["t/+", 1, 7],
      ["t/#", 2, 300],
      ["other", 2, 9],
    ] as const)
      await client.subscribeAsync(filter, { qos, properties: { subscriptionIdentifier } });
    await client.publishAsync("t/x", "x", { qos: 2 });
    await client.publishAsync("other", "x", { qos: 2 });
    await until(() => heard.length === 2);
    expect(heard.map(({ qos, properties }) => [qos, properties?.subscriptionIdentifier])).toEqual([
      [2, [7, 300]],
      [2, 9],
    ]);
  });

  test("a client is sent no packet that is larger than it says", async () => {
    const broker = await start();
    const { client, settled } = await join(broker, { properties: { maximumPacketSize: 1_000 } });
    await client.subscribeAsync("t", { qos: 1 });
    const publisher = await join(broker);
    // Fixed header of 3 bytes, topic of 3, id of 2, one byte for no properties.
    for (const bytes of [991, 992]) await publisher.client.publishAsync("t", Buffer.alloc(bytes), { qos: 1 });
    await publisher.client.publishAsync("t", "", { qos: 1, properties: { userProperties: { n: "v".repeat(1_000) } } });
    await until(async () => (await settled()).length === 1);
  });

  test("a will comes at once, since the session ends at once, and with its properties", async () => {
    const broker = await start();
    const listener = await join(broker);
    await listener.client.subscribeAsync("will", { qos: 1 });
    const { client } = await join(broker, {
      properties: { sessionExpiryInterval: 1_000 },
      will: {
        topic: "will",
        payload: Buffer.from("gone"),
        qos: 1,
        retain: false,
        properties: { willDelayInterval: 500, contentType: "text/plain", messageExpiryInterval: 60 },
      },
    });
    client.stream.destroy();
    await until(() => listener.heard.length === 1);
    expect({ ...listener.heard[0]!.properties }).toEqual({ contentType: "text/plain", messageExpiryInterval: 60 });
  });
});
