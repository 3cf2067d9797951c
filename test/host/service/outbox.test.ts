import { beforeEach, expect, test } from "vitest";
import { Outbox } from "../../../host/service/outbox.ts";
import type { Answer, AnswerChannel } from "../../../host/service/outbox.ts";

let fates: string[];
let settled: string[];
let outbox: Outbox;

/** Records what was sent; `acknowledge` is the broker's PUBACK. */
class FakeChannel implements AnswerChannel {
  readonly sent: string[] = [];
  readonly window: number;
  private readonly waiting = new Map<string, (error?: Error | null) => void>();
  constructor(window: number) {
    this.window = window;
  }
  send({ payload }: Answer, done: (error?: Error | null) => void): void {
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
  outbox = new Outbox({ answers: 10, bytes: 100 }, (fate) => fates.push(fate));
});

test("never more in flight than the window; settled when handed over, not before", () => {
  for (const payload of ["a", "b", "c"]) offer(payload);
  expect(settled).toEqual([]);
  const channel = new FakeChannel(2);
  outbox.attach(channel);
  expect(channel.sent).toEqual(["a", "b"]);
  expect(settled).toEqual(["a", "b"]);
  channel.acknowledge("a");
  expect(channel.sent).toEqual(["a", "b", "c"]);
  channel.acknowledge("b");
  channel.acknowledge("c");
  expect(fates).toEqual(["sent", "sent", "sent"]);
  expect(outbox.length).toBe(0);
});

test("after a close, QoS 1 goes again and is settled once; QoS 0 does not", () => {
  const first = new FakeChannel(10);
  outbox.attach(first);
  offer("q1");
  offer("q0", { qos: 0 });
  outbox.detach();
  offer("later", { qos: 1 });
  expect(fates).toEqual(["connection_lost"]);
  const second = new FakeChannel(10);
  outbox.attach(second);
  second.acknowledge("q1");
  expect(second.sent).toEqual(["q1", "later"]);
  expect(settled).toEqual(["q1", "q0", "later"]);
  // A late callback of the old connection changes nothing.
  first.acknowledge("q1");
  expect(fates).toEqual(["connection_lost", "sent"]);
});

test("an answer that the broker closes over is found, given up and remembered; the others go out", () => {
  let channel = new FakeChannel(10);
  outbox.attach(channel);
  for (const payload of ["a", "poison", "b"]) offer(payload);
  let closes = 0;
  for (; outbox.length > 0; closes++) {
    expect(closes).toBeLessThan(5);
    outbox.detach();
    channel = new FakeChannel(10);
    outbox.attach(channel);
    // A broker that takes all but the poison, which ends the connection.
    for (let i = 0; i < channel.sent.length && channel.sent[i] !== "poison"; i++) channel.acknowledge(channel.sent[i]!);
  }
  expect(closes).toBe(3);
  expect(fates.toSorted()).toEqual(["given_up", "sent", "sent"]);
  // Its request is redelivered: the same answer must not go out again.
  offer("poison");
  expect(channel.sent).not.toContain("poison");
  expect(fates.filter((fate) => fate === "given_up")).toHaveLength(2);
});

test("an expired answer is never sent", () => {
  offer("old", { expiresAt: performance.now() - 1 });
  const channel = new FakeChannel(10);
  outbox.attach(channel);
  expect(channel.sent).toEqual([]);
  expect([fates, settled]).toEqual([["expired"], ["old"]]);
});

test("an answer that the broker refuses is counted and done with", () => {
  const channel = new FakeChannel(10);
  outbox.attach(channel);
  offer("a");
  channel.acknowledge("a", new Error("not authorized"));
  expect([fates, outbox.length]).toEqual([["refused_by_broker"], 0]);
});

test("drained waits for the last acknowledgement, or for its time", async () => {
  const channel = new FakeChannel(10);
  outbox.attach(channel);
  await outbox.drained(0);
  offer("a");
  const start = Date.now();
  await outbox.drained(30);
  expect(Date.now() - start).toBeGreaterThanOrEqual(29);
  const drained = outbox.drained(60_000);
  channel.acknowledge("a");
  await drained;
});

test("full at its capacity", () => {
  for (let i = 0; i < 9; i++) offer(String(i));
  expect(outbox.isFull).toBe(false);
  offer("9");
  expect(outbox.isFull).toBe(true);
});

test("full by size as well, and free again afterwards", () => {
  offer("x".repeat(99));
  expect(outbox.isFull).toBe(false);
  offer("y");
  expect(outbox.isFull).toBe(true);
  const channel = new FakeChannel(10);
  outbox.attach(channel);
  channel.acknowledge("y");
  expect(outbox.isFull).toBe(false);
});

test("acknowledged out of order, and twice: what was not goes again, in its order", () => {
  const first = new FakeChannel(10);
  let again: (() => void) | undefined;
  outbox.attach({ window: 10, send: (answer, done) => { first.send(answer, done); if (answer.payload === "b") again = done; } });
  for (const payload of ["a", "b", "c"]) offer(payload);
  first.acknowledge("b");
  again!();
  expect([fates, outbox.length]).toEqual([["sent"], 2]);
  outbox.detach();
  const second = new FakeChannel(10);
  outbox.attach(second);
  again!();
  first.acknowledge("a");
  expect([second.sent, fates]).toEqual([["a"], ["sent"]]);
  second.acknowledge("a");
  second.acknowledge("c");
  expect([second.sent, fates.length, outbox.length]).toEqual([["a", "c"], 3, 0]);
});

test("thousands that are done as soon as they are sent do not fill the stack", () => {
  outbox = new Outbox({ answers: 30_000, bytes: 1_000_000 }, (fate) => fates.push(fate));
  for (let i = 0; i < 30_000; i++) offer("x", { qos: 0 });
  outbox.attach({ window: 64, send: (_answer, done) => done() });
  expect([outbox.length, fates.length, settled.length]).toEqual([0, 30_000, 30_000]);
});
