import { beforeEach, expect, test } from "vitest";
import { Outbox } from "../../../../host/service/mqtt/outbox.ts";
import type { Session } from "../../../../host/service/mqtt/connection.ts";
import type { Outgoing } from "../../../../host/service/mqtt/message.ts";

let fates: string[];
let settled: string[];
let outbox: Outbox;

/** Records what was sent; `acknowledge` is the broker's PUBACK. */
class FakeSession implements Pick<Session, "receiveMaximum" | "isCongested" | "publish"> {
  readonly sent: string[] = [];
  readonly receiveMaximum: number;
  private readonly waiting = new Map<string, (error?: Error) => void>();
  constructor(receiveMaximum: number) {
    this.receiveMaximum = receiveMaximum;
  }
  isCongested = false;
  publish({ payload }: Outgoing, done: (error?: Error) => void = () => {}): void {
    this.sent.push(payload);
    this.waiting.set(payload, done);
  }
  acknowledge(payload: string, error?: Error): void {
    const done = this.waiting.get(payload)!;
    this.waiting.delete(payload);
    done(error);
  }
}

function offer(payload: string, { qos = 1 as 0 | 1, expiresAt = performance.now() + 60_000 } = {}): void {
  outbox.offer({ topic: "t", payload, qos, expiresAt, settled: () => settled.push(payload) });
}

beforeEach(() => {
  fates = [];
  settled = [];
  outbox = new Outbox({ answers: 10, bytes: 100, states: 3 }, (fate) => fates.push(fate));
});

test("never more in flight than the window; settled when handed over, not before", () => {
  for (const payload of ["a", "b", "c"]) offer(payload);
  expect(settled).toEqual([]);
  const session = new FakeSession(2);
  outbox.attach(session);
  expect(session.sent).toEqual(["a", "b"]);
  expect(settled).toEqual(["a", "b"]);
  session.acknowledge("a");
  expect(session.sent).toEqual(["a", "b", "c"]);
  session.acknowledge("b");
  session.acknowledge("c");
  expect(fates).toEqual(["sent", "sent", "sent"]);
  expect(outbox.length).toBe(0);
});

test("after a close, QoS 1 goes again and is settled once; QoS 0 does not", () => {
  const first = new FakeSession(10);
  outbox.attach(first);
  offer("q1");
  offer("q0", { qos: 0 });
  outbox.detach();
  offer("later", { qos: 1 });
  expect(fates).toEqual(["connection_lost"]);
  const second = new FakeSession(10);
  outbox.attach(second);
  second.acknowledge("q1");
  expect(second.sent).toEqual(["q1", "later"]);
  expect(settled).toEqual(["q1", "q0", "later"]);
  // A late callback of the old connection changes nothing.
  first.acknowledge("q1");
  expect(fates).toEqual(["connection_lost", "sent"]);
});

test("an answer that the broker closes over is found, given up and remembered; the others go out", () => {
  let session = new FakeSession(10);
  outbox.attach(session);
  for (const payload of ["a", "poison", "b"]) offer(payload);
  let closes = 0;
  for (; outbox.length > 0; closes++) {
    expect(closes).toBeLessThan(5);
    outbox.detach();
    session = new FakeSession(10);
    outbox.attach(session);
    // A broker that takes all but the poison, which ends the connection.
    for (let i = 0; i < session.sent.length && session.sent[i] !== "poison"; i++) session.acknowledge(session.sent[i]!);
  }
  expect(closes).toBe(3);
  expect(fates.toSorted()).toEqual(["given_up", "sent", "sent"]);
  // Its request is redelivered: the same answer must not go out again.
  offer("poison");
  expect(session.sent).not.toContain("poison");
  expect(fates.filter((fate) => fate === "given_up")).toHaveLength(2);
});

test("an expired answer is never sent", () => {
  offer("old", { expiresAt: performance.now() - 1 });
  const session = new FakeSession(10);
  outbox.attach(session);
  expect(session.sent).toEqual([]);
  expect([fates, settled]).toEqual([["expired"], ["old"]]);
});

test("an answer that the broker refuses is counted and done with", () => {
  const session = new FakeSession(10);
  outbox.attach(session);
  offer("a");
  session.acknowledge("a", new Error("not authorized"));
  expect([fates, outbox.length]).toEqual([["refused_by_broker"], 0]);
});

test("drained waits for the last acknowledgement, or for its time", async () => {
  const session = new FakeSession(10);
  outbox.attach(session);
  await outbox.drained(0);
  offer("a");
  const start = Date.now();
  await outbox.drained(30);
  expect(Date.now() - start).toBeGreaterThanOrEqual(29);
  const drained = outbox.drained(60_000);
  session.acknowledge("a");
  await drained;
});

test("full at its capacity", () => {
  for (let i = 0; i < 9; i++) offer(String(i));
  expect(outbox.isFull).toBe(false);
  offer("9");
  expect(outbox.isFull).toBe(true);
});

test("full by size as well, and free again afterwards", () => {
  offer("x".repeat(97));
  expect(outbox.isFull).toBe(false);
  offer("y");
  expect(outbox.isFull).toBe(true);
  const session = new FakeSession(10);
  outbox.attach(session);
  session.acknowledge("y");
  expect(outbox.isFull).toBe(false);
});

test("acknowledged out of order, and twice: what was not goes again, in its order", () => {
  const first = new FakeSession(10);
  let again: (() => void) | undefined;
  outbox.attach({
    receiveMaximum: 10,
    isCongested: false,
    publish: (answer, done) => {
      first.publish(answer, done);
      if (answer.payload === "b") again = done;
    },
  });
  for (const payload of ["a", "b", "c"]) offer(payload);
  first.acknowledge("b");
  again!();
  expect([fates, outbox.length]).toEqual([["sent"], 2]);
  outbox.detach();
  const second = new FakeSession(10);
  outbox.attach(second);
  again!();
  first.acknowledge("a");
  expect([second.sent, fates]).toEqual([["a"], ["sent"]]);
  second.acknowledge("a");
  second.acknowledge("c");
  expect([second.sent, fates.length, outbox.length]).toEqual([["a", "c"], 3, 0]);
});

test("thousands that are done as soon as they are sent do not fill the stack", () => {
  outbox = new Outbox({ answers: 30_000, bytes: 1_000_000, states: 3 }, (fate) => fates.push(fate));
  for (let i = 0; i < 30_000; i++) offer("x", { qos: 0 });
  outbox.attach({ receiveMaximum: 65_535, isCongested: false, publish: (_answer, done) => done?.() });
  expect([outbox.length, fates.length, settled.length]).toEqual([0, 30_000, 30_000]);
});

test("counted by whole message: topic, payload and properties, in bytes", () => {
  const kept = { qos: 1, expiresAt: Infinity, settled() {} } as const;
  outbox = new Outbox({ answers: 100, bytes: 1_000, states: 3 }, () => {});
  outbox.offer({ ...kept, topic: "é".repeat(100), payload: "☂".repeat(100) });
  expect(outbox["bytes"]).toBe(200 + 300);
  outbox.offer({
    ...kept,
    topic: "t",
    payload: "",
    properties: {
      contentType: "a".repeat(50),
      correlationData: Buffer.alloc(100),
      userProperties: { n: "v".repeat(30), m: "" },
    },
  });
  expect(outbox["bytes"]).toBe(500 + 1 + 3 + 50 + 3 + 100 + 5 + 1 + 30 + 5 + 1);
  expect(outbox.isFull).toBe(false);
  outbox.publishState({ topic: "s", payload: "x".repeat(300), qos: 1 });
  expect([outbox["bytes"], outbox.isFull]).toEqual([1_000, true]);
  const session = new FakeSession(10);
  outbox.attach(session);
  for (const payload of [...session.sent]) session.acknowledge(payload);
  expect([outbox["bytes"], outbox.length]).toEqual([0, 0]);
});

test("of the states that wait for a topic the last one is sent, first of all, and never given up", () => {
  const said: string[] = [];
  const say = (topic: string, payload: string, qos: 0 | 1 = 1) =>
    outbox.publishState({
      topic,
      payload,
      qos,
      isKept: qos === 1,
      finished: (fate) => void said.push(`${payload} ${fate}`),
    });
  offer("answer");
  for (const i of [1, 2, 3]) say("a", `a${i}`);
  say("b", "b1");
  say("figures", "f1", 0);
  expect([outbox.length, said]).toEqual([4, ["a1 replaced", "a2 replaced"]]);
  outbox.attach(new FakeSession(2));
  for (let i = 0; i < 5; i++) {
    outbox.detach();
    const session = new FakeSession(2);
    outbox.attach(session);
    expect(session.sent.toSorted()).toEqual(["a3", "b1"]);
  }
  expect(said.slice(2)).toEqual(["f1 connection_lost"]);
  outbox.detach();
  say("a", "a4");
  const last = new FakeSession(10);
  outbox.attach(last);
  for (const payload of [...last.sent]) last.acknowledge(payload);
  expect(said.slice(3).toSorted()).toEqual(["a3 replaced", "a4 sent", "b1 sent"]);
  expect(last.sent.at(-1)).toBe("answer");
});

test("no more states wait than there is room for: the oldest one goes", () => {
  const gone: string[] = [];
  for (const topic of ["a", "b", "c", "d", "e"])
    outbox.publishState({ topic, payload: topic, qos: 1, finished: (fate) => void gone.push(`${topic} ${fate}`) });
  expect([outbox.length, gone]).toEqual([3, ["a replaced", "b replaced"]]);
});

test("a refusal goes at once, at QoS 0, and not at all to a broker that does not read", () => {
  const session = new FakeSession(1);
  outbox.refuse({ topic: "t", payload: "nobody is there", qos: 1 });
  outbox.attach(session);
  offer("in flight");
  offer("waits");
  outbox.refuse({ topic: "t", payload: "refused", qos: 1 });
  session.isCongested = true;
  outbox.refuse({ topic: "t", payload: "dropped", qos: 1 });
  expect([session.sent, outbox.length]).toEqual([["in flight", "refused"], 2]);
});

test("half of the room is for those who cannot wait elsewhere", () => {
  const roomy = new Outbox({ answers: 10, bytes: 1_000_000, states: 3 }, () => {});
  const add = (to: Outbox): void =>
    to.offer({ topic: "t", payload: "x", qos: 1, expiresAt: Infinity, settled: () => {} });
  for (let i = 0; i < 4; i++) add(roomy);
  expect(roomy.hasRoomToSpare).toBe(true);
  add(roomy);
  expect([roomy.hasRoomToSpare, roomy.isFull]).toEqual([false, false]);
  for (let i = 5; i < 10; i++) add(roomy);
  expect(roomy.isFull).toBe(true);

  const each = roomy["bytes"] / 10;
  const narrow = new Outbox({ answers: 100, bytes: 4 * each, states: 3 }, () => {});
  add(narrow);
  expect(narrow.hasRoomToSpare).toBe(true);
  add(narrow);
  expect([narrow.hasRoomToSpare, narrow.isFull]).toEqual([false, false]);
  add(narrow);
  add(narrow);
  expect(narrow.isFull).toBe(true);
});

test("the last hundred that were given up are known again, and no more", () => {
  for (let i = 0; i <= 100; i++) {
    offer(`bad ${i}`);
    for (let close = 0; close < 3; close++) {
      expect(fates).toHaveLength(i);
      outbox.attach(new FakeSession(10));
      outbox.detach();
    }
  }
  expect(fates).toEqual(Array(101).fill("given_up"));
  const session = new FakeSession(10);
  outbox.attach(session);
  for (const i of [100, 1, 0]) offer(`bad ${i}`);
  expect(session.sent).toEqual(["bad 0"]);
});
