import { Writable } from "node:stream";
import { setImmediate as tick } from "node:timers/promises";
import { expect, test } from "vitest";
import { Sender } from "../../../../host/service/mqtt/sender.ts";

/** Keeps what was written, a write an entry; says `done` of each only when it is told to. */
class Line extends Writable {
  readonly writes: Buffer[] = [];
  private waiting: (() => void)[] = [];
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.writes.push(chunk);
    this.waiting.push(done);
  }
  take(): void {
    for (const done of this.waiting.splice(0)) done();
  }
  takeAll(): void {
    while (this.writableLength > 0) this.take();
  }
  get bytes(): string {
    return Buffer.concat(this.writes).toString("hex");
  }
}

const hex = (...parts: (string | number)[]) =>
  parts
    .map((part) => (typeof part === "number" ? part.toString(16).padStart(2, "0") : Buffer.from(part).toString("hex")))
    .join("");

/** A QoS 1 message of one character to "t", over MQTT 3.1.1. */
const message = (id: number, payload: string) => hex(0x32, 6, 0, 1, "t", 0, id, payload);

/** What was written since the last time. */
function said(sender: Sender, line: Line): string {
  sender["flush"]();
  line.takeAll();
  const { bytes } = line;
  line.writes.length = 0;
  return bytes;
}

test("MQTT 5: an answer and its PUBACK, as the standard has them, in one write at the end of the turn", async () => {
  const line = new Line();
  const sender = new Sender(line, 5);
  sender.publish(
    {
      topic: "a/é",
      payload: '{"label":"☂"}',
      qos: 1,
      properties: {
        contentType: "application/json",
        correlationData: Buffer.from([7, 0, 255]),
        userProperties: { status: "503" },
      },
    },
    () => {},
  );
  sender.acknowledge(0x1234);
  expect(line.writes).toEqual([]);
  await Promise.resolve();
  expect(line.writes).toHaveLength(1);
  expect(line.bytes).toBe(
    hex(
      0x32,
      63,
      0,
      4,
      "a/é",
      0,
      2, // QoS 1, 63 bytes follow, topic, the first message id after SUBSCRIBE's
      39,
      0x03,
      0,
      16,
      "application/json",
      0x09,
      0,
      3,
      7,
      0,
      255,
      0x26,
      0,
      6,
      "status",
      0,
      3,
      "503",
      '{"label":"☂"}',
      0x40,
      2,
      0x12,
      0x34,
    ),
  );
});

test.each([
  [
    "MQTT 3.1.1 has no properties",
    4,
    { qos: 0, properties: { contentType: "text/plain" } },
    hex(0x30, 4, 0, 1, "t", "x"),
  ],
  ["none on MQTT 5 is a length of 0", 5, { qos: 0, retain: true }, hex(0x31, 5, 0, 1, "t", 0, "x")],
] as const)("%s", (_what, protocol, message, bytes) => {
  const line = new Line();
  const sender = new Sender(line, protocol);
  sender.publish({ topic: "t", payload: "x", ...message });
  sender["flush"]();
  expect(line.bytes).toBe(bytes);
});

test.each([
  [127, "7f"],
  [128, "8001"],
  [16_383, "ff7f"],
  [16_384, "808001"],
  [2_097_151, "ffff7f"],
  [2_097_152, "80808001"],
])("a packet of %i bytes", (length, lengthHex) => {
  const line = new Line();
  const sender = new Sender(line, 4);
  const payload = "é".repeat((length - 3) >> 1) + "e".repeat((length - 3) & 1);
  sender.publish({ topic: "t", payload, qos: 0 });
  sender.acknowledge(1);
  sender["flush"]();
  line.takeAll();
  expect(line.bytes === `30${lengthHex}000174${Buffer.from(payload).toString("hex")}40020001`).toBe(true);
});

test("bytes stay as they are while the line does not take them, and in order", () => {
  const line = new Line({ highWaterMark: 1_000 });
  const sender = new Sender(line, 4);
  let expected = "";
  for (let i = 100; i < 400; i++) {
    const payload = String(i).repeat(100);
    sender.publish({ topic: "t", payload, qos: 0 });
    expected += hex(0x30, 0xaf, 2, 0, 1, "t", payload);
    if (i % 3 === 0) sender["flush"]();
  }
  expect(sender.waitingBytes).toBe(expected.length / 2);
  sender["flush"]();
  expect(sender.waitingBytes).toBe(expected.length / 2);
  line.takeAll();
  expect(sender.waitingBytes).toBe(0);
  expect(line.bytes === expected).toBe(true);
});

test("QoS 1 is done with its PUBACK, told apart by ids that are never 0, SUBSCRIBE's or in use", () => {
  const line = new Line();
  const sender = new Sender(line, 4);
  const done: string[] = [];
  const publish = (payload: string) =>
    sender.publish({ topic: "t", payload, qos: 1 }, (error) => void done.push(`${payload} ${error?.message ?? "ok"}`));
  for (const payload of ["a", "b", "c"]) publish(payload);
  expect(said(sender, line)).toBe(message(2, "a") + message(3, "b") + message(4, "c"));
  sender.onAcknowledged(3, 0x10);
  sender.onAcknowledged(4, 0x97);
  // PUBACKs for nothing do no harm.
  for (const id of [0, 1, 3, 9]) sender.onAcknowledged(id);
  expect(done).toEqual(["b ok", "c the broker refuses the message, reason 0x97"]);
  for (const payload of ["d", "e", "f"]) publish(payload);
  expect(said(sender, line)).toBe(message(4, "d") + message(3, "e") + message(5, "f"));
  sender.onAcknowledged(2);
  expect(done.at(-1)).toBe("a ok");
});

test("an acknowledgement is written behind what was published before", () => {
  const line = new Line();
  const sender = new Sender(line, 4);
  sender.publish({ topic: "t", payload: "a", qos: 1 });
  sender.acknowledge(8);
  sender.acknowledge(9, true);
  sender.publish({ topic: "t", payload: "0", qos: 0 });
  expect(said(sender, line)).toBe(
    message(2, "a") + hex(0x40, 2, 0, 8) + hex(0x50, 2, 0, 9) + hex(0x30, 4, 0, 1, "t", "0"),
  );
});

test("QoS 0 is done when the line takes more, and nothing is written to a closed one", async () => {
  const line = new Line({ highWaterMark: 10 });
  const sender = new Sender(line, 4);
  const done: number[] = [];
  sender.publish({ topic: "t", payload: "0123456789", qos: 0 }, () => void done.push(0));
  expect(done).toEqual([0]);
  sender["flush"]();
  const many = Array.from({ length: 64 }, (_, i) => i + 1);
  for (const i of many) sender.publish({ topic: "t", payload: String(i), qos: 0 }, () => void done.push(i));
  expect(done).toEqual([0]);
  // More than ten listeners are what Node warns of.
  expect(line.listenerCount("drain")).toBe(1);
  line.take();
  await tick();
  expect(done).toEqual([0, ...many]);
  sender["flush"]();
  sender.close();
  sender.acknowledge(5);
  const before = line.writes.length;
  await tick();
  expect(line.writes.length).toBe(before);
});

test("a packet above the broker's limit is not sent, and its giver told after the turn", async () => {
  const line = new Line();
  const sender = new Sender(line, 4);
  sender.maximumPacketSize = 130;
  const told: (string | undefined)[] = [];
  let withheld = 0;
  sender.onTooLarge = () => void withheld++;
  for (const bytes of [125, 124])
    sender.publish({ topic: "t", payload: "x".repeat(bytes), qos: 0 }, (error) => told.push(error?.message));
  expect([told, withheld]).toEqual([[undefined], 1]);
  await Promise.resolve();
  expect(told).toEqual([undefined, "the message is larger than the broker takes"]);
  expect(line.bytes).toBe(hex(0x30, 127, 0, 1, "t", "x".repeat(124)));
  sender.maximumPayload = 100;
  for (const bytes of [101, 100]) sender.publish({ topic: "t", payload: "x".repeat(bytes), qos: 0 });
  expect(withheld).toBe(2);
});

test("an id is given out again after a message that is too large, and once only after a PUBACK that comes twice", () => {
  const line = new Line();
  const sender = new Sender(line, 4);
  sender.maximumPayload = 5;
  const publish = (payload: string, qos: 0 | 1 = 1) => sender.publish({ topic: "t", payload, qos });
  for (let i = 0; i < 3; i++) for (const qos of [0, 1] as const) publish("too large", qos);
  publish("a");
  expect(said(sender, line)).toBe(message(2, "a"));
  sender.onAcknowledged(2);
  sender.onAcknowledged(2);
  for (const payload of ["b", "c"]) publish(payload);
  expect(said(sender, line)).toBe(message(2, "b") + message(3, "c"));
});
