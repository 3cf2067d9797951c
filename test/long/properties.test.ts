// Every property of MQTT 5, at random and at its limits, in every packet that has one: through
// a real broker, and from a broker that is none and says what it likes. The service goes on
// answering, and its memory stays what it was.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generate, parser } from "mqtt-packet";
import type { IPublishPacket, Packet } from "mqtt-packet";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { fakeService, limits, TestClient, topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { Seeded, tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { startWorker } from "./fleet.ts";
import { size } from "./size.ts";

const SEED = Number(process.env["PROPERTIES_SEED"] ?? 20261129);
const PACKETS = size(100_000, 2_000);
const BATCH = 200;
/** What is kept of the packets on the way, and what the allocator makes of it; after the first fifth. */
const GROWTH_MB = 64;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-properties-"));
const at = (name: string): string => join(folder, name);
const route = { name: "r", filter: "in/+", outputs: [{ topic: "out/{1}", when: "any" }] };

beforeAll(async () => {
  writeFileSync(at("model.wasm"), await tinyDeployable());
  writeFileSync(
    at("edgelabel.json"),
    JSON.stringify({
      routes: [route],
      commands: true,
      announcements: [{ topic: "said", payload: "{id}", again: { topic: "birth" } }],
    }),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

const characters = [
  "a",
  "edgelabel-route",
  "status",
  "é",
  "☂",
  "\u{1f600}",
  "/",
  "+",
  "#",
  "\u0001",
  "\n",
  "\u202e",
  "__proto__",
  "constructor",
  "toString",
  "\ufeff",
];
const text = (random: Seeded) => {
  const length = random.below(40) === 0 ? random.pick([255, 256, 4_096, 20_000]) : random.below(12);
  return Array.from({ length: Math.ceil(length / 2) }, () => random.pick(characters))
    .join("")
    .slice(0, length);
};
const bytes = (random: Seeded) =>
  Buffer.alloc(random.below(40) === 0 ? random.pick([65_535, 30_000]) : random.below(40), random.below(256));
const number = (random: Seeded, bits: number) =>
  random.pick([0, 1, 2, random.below(2 ** Math.min(bits, 30)), 2 ** bits - 1]);

function userProperties(random: Seeded): Record<string, string | string[]> {
  const made: Record<string, string | string[]> = Object.create(null) as Record<string, string | string[]>;
  const count = random.below(100) === 0 ? 5_000 : random.below(5);
  for (let i = 0; i < count; i++)
    made[count > 5 ? `n${i}` : text(random) || "n"] =
      count > 5 ? "" : random.below(4) === 0 ? [text(random), text(random)] : text(random);
  return made;
}

/** Each of the properties, in half of the packets that may have it. */
function some<T extends object>(random: Seeded, all: { [K in keyof T]: () => T[K] }): Partial<T> {
  return Object.fromEntries(
    Object.entries(all)
      .filter(() => random.below(2) === 0)
      .map(([name, make]) => [name, (make as () => unknown)()]),
  ) as Partial<T>;
}

type Properties = NonNullable<IPublishPacket["properties"]>;

function publish(random: Seeded, qos: 0 | 1 | 2, messageId: number, isOfBroker: boolean): IPublishPacket {
  const topic = random.pick([
    topics.classify,
    `${topics.classify}/spam`,
    `${topics.classify}/x`,
    "in/1",
    "birth",
    `${topics.command}/list/${random.below(50)}`,
    topics.status,
  ]);
  const payload = random.pick([
    () => "play some jazz",
    () => JSON.stringify({ text: "jazz", id: 1, topK: 2 }),
    () => JSON.stringify({ status: "init" }),
    () => bytes(random),
    () => "",
    () => `{"text":${"[".repeat(random.below(90))}`,
  ])();
  const properties = some<Properties>(random, {
    payloadFormatIndicator: () => random.below(2) === 1,
    messageExpiryInterval: () => number(random, 32),
    responseTopic: () =>
      random.pick([
        "answers/1",
        topics.reply,
        `${topics.reply}/1`,
        "in/1",
        text(random).replace(/[+#]/g, "_") || "x",
        "x".repeat(2_000),
      ]),
    correlationData: () => bytes(random),
    userProperties: () => userProperties(random),
    contentType: () => random.pick(["application/json", "text/plain", text(random)]),
    ...(isOfBroker ? { subscriptionIdentifier: () => random.pick([1, 127, 128, 268_435_455]) } : {}),
  } as never);
  return {
    cmd: "publish",
    topic,
    payload,
    qos,
    dup: isOfBroker && qos > 0 && random.below(8) === 0,
    retain: random.below(20) === 0,
    properties,
    ...(qos > 0 ? { messageId } : {}),
  } as IPublishPacket;
}

/** The packet in bytes; some with a few of them changed. */
function written(random: Seeded, packet: Packet, broken: number): Buffer {
  const made = generate(packet, { protocolVersion: 5 });
  if (random.next() >= broken) return made;
  for (let changes = 1 + random.below(3); changes > 0; changes--)
    made[random.below(Math.min(made.length, 60))] = random.below(256);
  return made;
}

const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once("close", () => resolve());
  });
const drained = async (socket: Socket) => {
  while (socket.writableNeedDrain && !socket.destroyed) await pause(1);
};

/** How much more memory the process took than when a fifth of the packets were through. */
class Growth {
  private readonly seen: number[] = [];
  private readonly pid: number | string;
  constructor(pid: number | string) {
    this.pid = pid;
  }
  look(): void {
    this.seen.push(Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))![1]) / 1024);
  }
  get mb(): { first: number; most: number } {
    const fifth = Math.ceil(this.seen.length / 5);
    return { first: Math.max(...this.seen.slice(0, fifth)), most: Math.max(...this.seen.slice(fifth)) };
  }
}

describeMosquitto("properties", (binaries) => {
  test(`${PACKETS} packets through Mosquitto, seed ${SEED}`, async () => {
    const random = new Seeded(SEED);
    const { url, port } = await startMosquitto(binaries, {
      lines: ["set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 0"],
    });
    const worker = await startWorker(
      at("model.wasm"),
      "--broker",
      url,
      "--node",
      "gate-1",
      "--config",
      at("edgelabel.json"),
    );
    onTestFinished(() => worker.end("SIGKILL"));
    const growth = new Growth(worker.process.pid!);
    const calm = await TestClient.connect(url, 5);
    await calm.subscribe("calm");
    let connects = 0;
    let socket: Socket | undefined;

    /** A session whose every packet has properties; its will has them, too. */
    async function connect(): Promise<Socket> {
      const made = createConnection(port, "127.0.0.1");
      made.on("error", () => {});
      const reader = parser({ protocolVersion: 5 });
      reader.on("error", () => made.destroy());
      reader.on("packet", (packet) => {
        if (packet.cmd === "pubrec")
          made.write(
            generate(
              {
                cmd: "pubrel",
                messageId: packet.messageId!,
                properties: some(random, { reasonString: () => "x", userProperties: () => userProperties(random) }),
              } as Packet,
              { protocolVersion: 5 },
            ),
          );
      });
      made.on("data", (chunk: Buffer) => reader.parse(chunk));
      await once(made, "connect");
      connects++;
      made.write(
        generate({
          cmd: "connect",
          clientId: `fuzz-${connects % 20}`,
          protocolId: "MQTT",
          protocolVersion: 5,
          clean: true,
          keepalive: 0,
          will: {
            topic: random.pick(["birth", topics.classify]),
            payload: Buffer.from("gone"),
            qos: 1,
            retain: false,
            properties: some(random, {
              willDelayInterval: () => 0,
              payloadFormatIndicator: () => false,
              messageExpiryInterval: () => number(random, 32),
              contentType: () => text(random),
              responseTopic: () => "answers/1",
              correlationData: () => bytes(random),
              userProperties: () => userProperties(random),
            }),
          },
          properties: some(random, {
            sessionExpiryInterval: () => number(random, 32),
            receiveMaximum: () => 100,
            maximumPacketSize: () => 2 ** 28,
            topicAliasMaximum: () => number(random, 16),
            requestResponseInformation: () => true,
            requestProblemInformation: () => true,
            userProperties: () => userProperties(random),
          }),
        } as Packet),
      );
      return made;
    }

    for (let sent = 0; sent < PACKETS;) {
      if (!socket || socket.destroyed) socket = await connect();
      // Nothing is sent behind a packet that may end the connection.
      for (let i = 0; i < BATCH && !socket.destroyed; i++, sent++) {
        const qos = i < 90 ? (random.below(3) as 0 | 1 | 2) : 0;
        const isLast = i === BATCH - 1;
        if (!socket.write(written(random, publish(random, qos, i + 1, false), isLast ? 0.5 : 0))) await drained(socket);
      }
      await calm.publish(topics.classify, JSON.stringify({ text: "play some jazz", id: sent }), {
        qos: 1,
        properties: { responseTopic: "calm" },
      });
      expect((await calm.next(({ json }) => json.id === sent)).json).toMatchObject({ label: "music" });
      growth.look();
    }
    socket?.destroy();
    const { first, most } = growth.mb;
    process.stdout.write(
      `properties: ${PACKETS} packets in ${connects} sessions through Mosquitto: RSS ${first.toFixed(1)} MB after a fifth, at most ${most.toFixed(1)} MB\n`,
    );
    expect(most - first).toBeLessThan(GROWTH_MB);
    expect(await worker.metric("edgelabel_broker_connects_total")).toBe(1);
    expect(await worker.metric('edgelabel_ignored_total{reason="failed"}')).toBe(0);
    expect(worker.log()).not.toContain("bug in edgelabel");
    await calm.close();
  }, 1_800_000);
});

test(`${PACKETS} packets from a broker that says what it likes, seed ${SEED}`, async () => {
  const random = new Seeded(SEED);
  const sockets = new Set<Socket>();
  const waiting = new Map<string, () => void>();
  const acks = ["puback", "pubrec", "pubrel", "pubcomp"] as const;
  let connections = 0;
  const common = () => some(random, { reasonString: () => text(random), userProperties: () => userProperties(random) });
  const server = createServer((socket) => {
    const say = (packet: object) => void socket.write(generate(packet as Packet, { protocolVersion: 5 }));
    const reader = parser({ protocolVersion: 5 });
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    socket.on("data", (chunk: Buffer) => reader.parse(chunk));
    reader.on("error", () => socket.destroy());
    reader.on("packet", (packet) => {
      if (packet.cmd === "connect") {
        connections++;
        say({
          cmd: "connack",
          reasonCode: 0,
          sessionPresent: random.below(2) === 0,
          properties: {
            ...common(),
            ...some(random, {
              sessionExpiryInterval: () => number(random, 32),
              receiveMaximum: () => 1 + random.below(1_000),
              retainAvailable: () => true,
              maximumPacketSize: () => 2 ** 28 - 1,
              topicAliasMaximum: () => number(random, 16),
              wildcardSubscriptionAvailable: () => true,
              subscriptionIdentifiersAvailable: () => true,
              sharedSubscriptionAvailable: () => true,
              serverKeepAlive: () => 600,
              responseInformation: () => text(random),
              serverReference: () => text(random),
            }),
          },
        });
      } else if (packet.cmd === "subscribe") {
        say({
          cmd: "suback",
          messageId: packet.messageId,
          granted: packet.subscriptions.map(() => 1),
          properties: common(),
        });
        sockets.add(socket);
      } else if (packet.cmd === "publish") {
        if (packet.qos === 1)
          say({
            cmd: "puback",
            messageId: packet.messageId,
            reasonCode: random.pick([0, 0, 0, 0x10]),
            properties: common(),
          });
        waiting.get(packet.properties?.correlationData?.toString() ?? "")?.();
      } else if (packet.cmd === "pubrec")
        say({ cmd: "pubrel", messageId: packet.messageId, reasonCode: 0, properties: common() });
      else if (packet.cmd === "pingreq") say({ cmd: "pingresp" });
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => void server.close());
  const service = fakeService({
    access: { url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, protocol: 5 },
    commands: true,
    limits: { ...limits, queuedBytes: 8_000_000 },
    announcements: [{ topic: "said", payload: "{id}", again: { topic: "birth" } }],
  });
  onTestFinished(() => service.stop());
  await service.start();
  const growth = new Growth("self");
  let messageId = 0;
  const nextId = () => (messageId = 1 + (messageId % 65_000));

  const acknowledgement = (cmd: (typeof acks)[number]) =>
    ({
      cmd,
      messageId: nextId(),
      reasonCode: cmd === "pubrel" || cmd === "pubcomp" ? random.pick([0, 0x92]) : random.pick([0, 0x10]),
      properties: common(),
    }) as Packet;
  for (let sent = 0; sent < PACKETS;) {
    await until(() => service.isReady && sockets.size > 0, 60_000);
    const [socket] = sockets;
    // Every so often it breaks the protocol, and the service must come back by itself.
    const breaks = random.below(5) === 0;
    for (let i = 0; i < BATCH; i++, sent++) {
      const packet =
        random.below(10) > 0
          ? publish(random, random.below(3) as 0 | 1 | 2, nextId(), true)
          : acknowledgement(random.pick(acks));
      if (breaks && packet.cmd === "publish" && random.below(20) === 0)
        packet.properties = { ...packet.properties, topicAlias: number(random, 16) };
      const isEnd = breaks && i === BATCH - 1;
      if (
        !socket!.write(
          isEnd
            ? random.pick([
                () => written(random, packet, 1),
                () =>
                  generate(
                    {
                      cmd: "disconnect",
                      reasonCode: 0x8e,
                      properties: {
                        ...common(),
                        ...some(random, { serverReference: () => text(random), sessionExpiryInterval: () => 5 }),
                      },
                    } as Packet,
                    { protocolVersion: 5 },
                  ),
                () =>
                  generate(
                    {
                      cmd: "auth",
                      reasonCode: 0x18,
                      properties: { ...common(), authenticationMethod: "x", authenticationData: bytes(random) },
                    } as Packet,
                    { protocolVersion: 5 },
                  ),
                () => Buffer.alloc(100, random.below(256)),
              ])()
            : written(random, packet, 0),
        )
      )
        await drained(socket!);
    }
    if (breaks) {
      socket!.destroy();
      await until(() => !service.isReady);
      continue;
    }
    const name = `sentinel ${sent}`;
    const answered = new Promise<void>((resolve) => waiting.set(name, resolve));
    socket!.write(
      generate(
        {
          cmd: "publish",
          topic: topics.classify,
          payload: "win",
          qos: 1,
          dup: false,
          retain: false,
          messageId: nextId(),
          properties: { responseTopic: "answers/1", correlationData: Buffer.from(name) },
        },
        { protocolVersion: 5 },
      ),
    );
    // Unless the service has closed the connection over something in the batch.
    await Promise.race([
      answered,
      closed(socket!),
      pause(30_000).then(async () => {
        throw new Error(`no answer after ${sent} packets: ${await service.metrics.text()}`);
      }),
    ]);
    waiting.clear();
    growth.look();
  }
  const { first, most } = growth.mb;
  process.stdout.write(
    `properties: ${PACKETS} packets in ${connections} connections from a broker that says what it likes: RSS ${first.toFixed(1)} MB after a fifth, at most ${most.toFixed(1)} MB\n`,
  );
  expect(most - first).toBeLessThan(2 * GROWTH_MB);
  expect(await service.metrics.text()).not.toContain('reason="failed"');
  expect(service.isReady || connections > 1).toBe(true);
}, 1_800_000);
