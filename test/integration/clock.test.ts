// The clock on the wall is set while the service runs: deadlines, remembered answers and
// the connection go by the time that passes.
import { afterEach, expect, test, vi } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import { Outbox } from "../../host/service/mqtt/outbox.ts";
import { AnswerCache, requestKey } from "../../host/service/answer/answer-cache.ts";
import { counter, fakeService, holdQueue, TestClient, topics } from "../support/fake.ts";
import { until } from "../support/wait.ts";

const DAY_MS = 86_400_000;
const wall = Date.now.bind(Date);
const step = (days: number) => void vi.spyOn(Date, "now").mockImplementation(() => wall() + days * DAY_MS);
const passed = performance.now.bind(performance);
/** As if so many milliseconds had passed. */
const pass = (ms: number) => void vi.spyOn(performance, "now").mockImplementation(() => passed() + ms);
afterEach(() => void vi.restoreAllMocks());

test.each([1, -3])(
  "%i days: no request or answer that waits expires, and a requester's own deadline counts from its arrival",
  async (days) => {
    const broker = await startBroker({ port: 0 });
    const service = fakeService({ access: broker.access });
    await service.start();
    const client = await TestClient.connect(broker.url, 4);
    await client.subscribe(topics.label);
    const deadline = wall() + 60_000;
    const release = holdQueue(service);
    for (let id = 0; id < 800; id++)
      void client.publish(topics.classify, JSON.stringify({ text: "win", id, ...(id % 2 === 0 ? { deadline } : {}) }), {
        qos: 1,
      });
    await until(() => service.predictor.queue.length === 800);
    step(days);
    release();
    const ids = new Set<unknown>();
    while (ids.size < 800) ids.add((await client.next()).json.id);
    expect(await counter(service, 'edgelabel_ignored_total{reason="expired"}')).toBe(0);
    // One that is over by the clock of now is over.
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "late", deadline: Date.now() - 1 }));
    await client.publish(
      topics.classify,
      JSON.stringify({ text: "win", id: "in time", deadline: Date.now() + 60_000 }),
    );
    expect((await client.next()).json.id).toBe("in time");
    expect(await counter(service, 'edgelabel_ignored_total{reason="expired"}')).toBe(1);
    await client.close();
    await service.stop();
    await broker.close();
  },
);

test.each([1, -3])("%i days: an answer waits in the outbox for its time, no longer and no shorter", async (days) => {
  const fates: string[] = [];
  const outbox = new Outbox({ answers: 10, bytes: 1_000, states: 3 }, (fate) => fates.push(fate));
  const offer = (payload: string, ms: number) =>
    outbox.offer({ topic: "t", payload, qos: 1, expiresAt: performance.now() + ms, settled() {} });
  offer("long", 60_000);
  offer("short", 20);
  step(days);
  pass(30);
  outbox.attach({ receiveMaximum: 10, isCongested: false, publish: (_answer, done) => done?.() });
  expect(fates).toEqual(["sent", "expired"]);
});

test.each([1, -3])("%i days: a remembered answer lives for its time, no longer and no shorter", async (days) => {
  const request = { topic: "t", contentType: undefined, correlationData: undefined, payload: Buffer.from("win") };
  const key = requestKey(request, "a");
  const cache = new AnswerCache({ answers: 10, bytes: 10_000, ms: 200_000 });
  cache.set(key, "spam");
  step(days);
  expect(cache.get(key)).toBe("spam");
  pass(210_000);
  expect(cache.get(key)).toBeUndefined();
});
