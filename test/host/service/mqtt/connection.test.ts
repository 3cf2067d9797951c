// The service at a broker that does what the test says, packet by packet.
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { generate, parser } from "mqtt-packet";
import type { IConnackPacket, IPublishPacket, Packet } from "mqtt-packet";
import { describe, expect, onTestFinished, test } from "vitest";
import { connectOnce } from "../../../../host/service/mqtt/connection.ts";
import type { Service } from "../../../../host/service/service.ts";
import { fakeService, recordingLog, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

interface FakeBroker {
  /** What the service has sent, behind CONNECT and SUBSCRIBE. */
  packets: Packet[];
  service: Service;
  log: string[];
  /** Whether it acknowledges what the service publishes. */
  acknowledges: boolean;
  send(packet: object): void;
  /** Resolves when the service has handled all that was sent before. */
  sentinel(): Promise<void>;
}

/** Starts a service at it, over MQTT 5, and has taken its first statuses. */
async function connect(properties: IConnackPacket["properties"]): Promise<FakeBroker> {
  const broker = { packets: [] as Packet[], acknowledges: true } as FakeBroker;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    broker.send = (packet) => void socket.write(generate(packet as Packet, { protocolVersion: 5 }));
    const reader = parser({ protocolVersion: 5 });
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => reader.parse(chunk));
    reader.on("packet", (packet) => {
      if (packet.cmd === "connect") broker.send({ cmd: "connack", reasonCode: 0, sessionPresent: false, properties });
      else if (packet.cmd === "subscribe")
        broker.send({ cmd: "suback", messageId: packet.messageId, granted: packet.subscriptions.map(() => 1) });
      else {
        broker.packets.push(packet);
        if (packet.cmd === "publish" && packet.qos === 1 && broker.acknowledges)
          broker.send({ cmd: "puback", messageId: packet.messageId, reasonCode: 0 });
      }
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const log = recordingLog();
  broker.log = log.lines;
  broker.service = fakeService({
    access: { url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, protocol: 5 },
    log,
  });
  let sentinels = 10_000;
  broker.sentinel = async () => {
    const messageId = sentinels++;
    // The service acknowledges its own status at once.
    broker.send({ cmd: "publish", topic: topics.status, payload: "online", qos: 1, messageId });
    await until(() => broker.packets.some((packet) => packet.cmd === "puback" && packet.messageId === messageId));
    broker.packets = broker.packets.filter((packet) => packet.messageId !== messageId);
  };
  onTestFinished(async () => {
    await broker.service.stop();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await broker.service.start();
  await until(() => publishes(broker).some(({ topic }) => topic === topics.status));
  await broker.sentinel();
  broker.packets = [];
  return broker;
}

const publishes = ({ packets }: FakeBroker) =>
  packets.filter((packet): packet is IPublishPacket => packet.cmd === "publish");

function ask({ send }: FakeBroker, messageId: number, qos: 0 | 1 | 2 = 1, payload = "win"): void {
  send({ cmd: "publish", topic: topics.classify, payload, qos, messageId });
}

/** Such as "publish 3" or "puback 7", in the order in which they were sent. */
const sent = ({ packets }: FakeBroker) => packets.map(({ cmd, messageId }) => `${cmd} ${messageId}`);

test("never more answers unacknowledged than the broker takes, and each PUBACK is sent behind its answer", async () => {
  const broker = await connect({ receiveMaximum: 2 });
  broker.acknowledges = false;
  for (const id of [101, 102, 103, 104]) ask(broker, id);
  await until(() => publishes(broker).length === 2);
  await broker.sentinel();
  const [first, second] = publishes(broker).map(({ messageId }) => messageId);
  expect(sent(broker)).toEqual([`publish ${first}`, "puback 101", `publish ${second}`, "puback 102"]);
  broker.send({ cmd: "puback", messageId: second, reasonCode: 0 });
  await until(() => publishes(broker).length === 3);
  await broker.sentinel();
  const third = publishes(broker)[2]!.messageId;
  expect(third).not.toBe(first);
  expect(sent(broker).slice(4)).toEqual([`publish ${third}`, "puback 103"]);
  for (const messageId of [first, third]) broker.send({ cmd: "puback", messageId, reasonCode: 0 });
  await until(() => sent(broker).includes("puback 104"));
});

test("a QoS 2 request gets its PUBREC behind its answer, and its PUBCOMP", async () => {
  const broker = await connect({});
  ask(broker, 7, 2);
  await until(() => sent(broker).includes("pubrec 7"));
  expect(broker.packets.map(({ cmd }) => cmd)).toEqual(["publish", "pubrec"]);
  broker.send({ cmd: "pubrel", messageId: 7, reasonCode: 0 });
  await until(() => sent(broker).includes("pubcomp 7"));
});

test("nothing that is larger than the broker takes is sent; what fits is, and the log says so once", async () => {
  const maximumPacketSize = 400;
  const broker = await connect({ maximumPacketSize });
  ask(broker, 1, 1, JSON.stringify({ text: "win", id: "x".repeat(256) }));
  ask(broker, 2, 1, JSON.stringify({ text: "win", id: "small" }));
  await until(() => sent(broker).includes("puback 2"));
  expect(sent(broker)).toContain("puback 1");
  expect(publishes(broker).map(({ payload }) => JSON.parse(payload.toString()).id)).toEqual(["small"]);
  for (const { length } of publishes(broker)) expect(length! + 3).toBeLessThanOrEqual(maximumPacketSize);
  expect(broker.log.filter((line) => line.includes(`larger than the ${maximumPacketSize} bytes`))).toHaveLength(1);
});

test("an answer that the broker refuses is counted, and not sent again", async () => {
  const broker = await connect({});
  broker.acknowledges = false;
  ask(broker, 1);
  await until(() => publishes(broker).length === 1);
  broker.send({ cmd: "puback", messageId: publishes(broker)[0]!.messageId, reasonCode: 0x97 });
  await until(async () => (await broker.service.metrics.text()).includes('answers_total{fate="refused_by_broker"} 1'));
  expect(broker.service["outbox"].length).toBe(0);
});

test("what was unacknowledged when the connection was lost is sent again on the next one", async () => {
  const broker = await connect({});
  broker.acknowledges = false;
  ask(broker, 1);
  await until(() => publishes(broker).length === 1);
  const [{ payload }] = publishes(broker) as [IPublishPacket];
  broker.packets = [];
  broker.acknowledges = true;
  broker.service["connection"]["client"]!.stream.destroy();
  await until(() => publishes(broker).some((packet) => packet.topic === topics.label));
  expect(publishes(broker).find(({ topic }) => topic === topics.label)!.payload).toEqual(payload);
});

describe("a command's connection", () => {
  /** A broker that speaks MQTT 3.1.1 only, and answers its CONNECT with `returnCode`; `versions` are those that it was asked for. */
  async function oldBroker(returnCode: number) {
    const versions: number[] = [];
    const server = createServer((socket) => {
      const reader = parser();
      socket.on("data", (chunk: Buffer) => reader.parse(chunk));
      reader.on("packet", (packet: Packet) => {
        if (packet.cmd !== "connect") return;
        versions.push(packet.protocolVersion!);
        const answer: Packet = {
          cmd: "connack",
          returnCode: packet.protocolVersion === 4 ? returnCode : 1,
          sessionPresent: false,
        };
        socket.write(generate(answer));
      });
    }).listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await once(server, "listening");
    return { versions, url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}` };
  }

  test("goes on with MQTT 3.1.1, unless another version was asked for", async () => {
    const { url, versions } = await oldBroker(0);
    const { client, protocol } = await connectOnce({ url });
    client.end(true);
    expect([protocol, versions.splice(0)]).toEqual([4, [5, 4]]);
    await expect(connectOnce({ url, protocol: 5 })).rejects.toThrow("does not speak this version of MQTT");
    expect(versions).toEqual([5]);
  });

  test("tries no other version for a refusal of another kind", async () => {
    const { url, versions } = await oldBroker(5);
    await expect(connectOnce({ url, protocol: 4 })).rejects.toThrow("refuses the user name or password");
    expect(versions).toEqual([4]);
  });

  test("names a host that nobody has", async () => {
    await expect(connectOnce({ url: "mqtt://nobody.invalid" })).rejects.toThrow(
      "cannot reach mqtt://nobody.invalid: the host name is unknown",
    );
  });
});

test("a stop publishes `offline` in the broker's window, and disconnects", async () => {
  const broker = await connect({ receiveMaximum: 1 });
  await broker.service.stop();
  await until(() => broker.packets.length === 2);
  expect(broker.packets.map(({ cmd }) => cmd)).toEqual(["publish", "disconnect"]);
  expect(publishes(broker)[0]).toMatchObject({ topic: topics.status, retain: true });
  expect(publishes(broker)[0]!.payload.toString()).toBe("offline");
  await until(() => broker.service["connection"]["client"] === undefined);
  expect(broker.log.filter((line) => line.includes("trying again"))).toEqual([]);
});
