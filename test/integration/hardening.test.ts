// What a requester sends must not reach the log, the metrics, the prototype of all
// objects, or anybody but the requester.
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import type { Broker } from "../../host/service/broker/broker.ts";
import { startHttp } from "../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../host/service/http/http.ts";
import type { RouteSettings } from "../../host/service/answer/outputs.ts";
import type { Service } from "../../host/service/service.ts";
import { fakeModel, fakeService, recordingLog, TestClient, topics } from "../support/fake.ts";
import { until } from "../support/wait.ts";

let broker: Broker;
let service: Service;
let http: HttpEndpoint;
let client: TestClient;
let log: ReturnType<typeof recordingLog>;

const route: RouteSettings = {
  name: "sms",
  filter: "sms/+",
  text: ["/text"],
  model: "",
  threshold: 0,
  outputs: [{ topic: "labels/{1}", when: "any", onChange: false, qos: 0, retain: false }],
};

beforeEach(async () => {
  broker = await startBroker({ port: 0 });
  log = recordingLog();
  service = fakeService({ access: broker.access, log, routes: [route], models: new Map([["spam", fakeModel()]]) });
  await service.start();
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 200_000, textsPerRequest: 100 });
  client = await TestClient.connect(broker.url, 4);
});

afterEach(async () => {
  await client.close();
  await http.close();
  await service.stop();
  await broker.close();
});

const post = (path: string, body: string | Buffer<ArrayBuffer>) =>
  fetch(http.url + path, { method: "POST", headers: { "Content-Type": "application/json" }, body });

const hostile: [string, string | Buffer<ArrayBuffer>][] = [
  ["__proto__", '{"text":"win","id":1,"__proto__":{"polluted":1}}'],
  ["constructor", '{"text":"win","id":1,"constructor":{"prototype":{"polluted":1}}}'],
  ["__proto__ alone", '{"__proto__":{"text":"win"}}'],
  ["twice the same key", '{"text":7,"text":"win","id":1}'],
  ["50,000 levels", `{"text":"win","x":${"[".repeat(50_000)}${"]".repeat(50_000)}}`],
  ["50,000 levels as the text", `{"text":${"[".repeat(50_000)}${"]".repeat(50_000)}}`],
  ["infinite id", '{"text":"win","id":1e999}'],
  ["infinite topK", '{"text":"win","topK":1e999}'],
  ["an id of 300 characters", `{"text":"win","id":"${"x".repeat(300)}"}`],
  ["byte order mark", '\ufeff{"text":"win"}'],
  [
    "bytes that are no UTF-8",
    Buffer.concat([Buffer.from('{"text":"'), Buffer.from([0xff, 0xfe, 0xc3]), Buffer.from('"}')]),
  ],
  ["a lone surrogate", '{"text":"\\ud800","id":"\\ud800"}'],
  ["control characters", '{"text":"a\\u0000\\u001b[31m\\r\\n","id":"\\r\\nforged: line"}'],
];

test.each(hostile)("MQTT: %s is answered, and the next request works", async (_name, payload) => {
  await client.subscribe(topics.label);
  await client.publish(topics.classify, payload);
  const { json } = await client.next();
  expect(json.label !== undefined || json.error?.code === "bad_request").toBe(true);
  await client.publish(topics.classify, '{"text":"win","id":"next"}');
  expect((await client.next()).json).toMatchObject({ id: "next", label: "spam" });
  expect(({} as any).polluted).toBeUndefined();
  expect(
    log.lines.filter(
      (line) =>
        !/^(?:connected|a request cannot be read: the payload starts like a JSON request, but is (?:not|JSON of)|a request is a JSON object without "text")/.test(
          line,
        ),
    ),
  ).toEqual([]);
});

test("a request that cannot be read is told so where its sender may hear it, counted, and logged once", async () => {
  await client.subscribe(topics.label);
  for (const payload of ['{"text":"win","id":"canary","replyTo":"reply/1"', "{'text': 'canary'}"]) {
    await client.publish(topics.classify, payload);
    expect((await client.next()).json).toEqual({
      error: { code: "bad_request", message: expect.stringContaining("starts like a JSON request, but is not JSON") },
    });
  }
  expect(await service.metrics.text()).toContain('edgelabel_errors_total{code="bad_request"} 2');
  expect(log.lines.filter((line) => line.includes("request"))).toEqual([
    expect.stringMatching(/^a request cannot be read: .* logged once, then only counted$/),
  ]);
  expect(log.lines.join()).not.toContain("canary");
});

test.each(hostile)("HTTP: %s gets 200 or 400, and the next request works", async (_name, payload) => {
  const asData = Buffer.from(
    payload.toString("latin1" as never).replace('"text"', '"data"'),
    typeof payload === "string" ? "utf8" : "latin1",
  );
  for (const path of ["/predict", "/v2/models/spam/infer"])
    expect([200, 400]).toContain((await post(path, asData)).status);
  expect(await (await post("/predict", '{"data":"win"}')).json()).toEqual({ label: "spam" });
  expect(({} as any).polluted).toBeUndefined();
});

test("any bytes at all: an answer or an error, never a fault", async () => {
  await client.subscribe(topics.label);
  const structure = fc.json().map((json) => `{"text":${json},"id":${json},"topK":${json}}`);
  const payloads = fc.sample(
    fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      structure,
    ),
    { numRuns: 1_000, seed: 11 },
  );
  for (const payload of payloads) void client.publish(topics.classify, payload, { qos: 0 });
  await until(() => client.received.length === payloads.length);
  expect(client.received.filter(({ json }) => json === undefined || json.error?.code === "internal")).toEqual([]);
  expect(service.isReady).toBe(true);
});

test("10,000 canary texts: none in logs, metrics, errors or anybody else's answer", async () => {
  const canary = (i: number) => `canary${i}zq`;
  await client.subscribe("#");
  const ways: ((text: string, i: number) => unknown)[] = [
    (text) => client.publish(topics.classify, text, { qos: 0 }),
    (text, id) => client.publish(topics.classify, JSON.stringify({ text, id }), { qos: 0 }),
    (text) => client.publish(topics.classify, JSON.stringify({ texts: [text, 7] }), { qos: 0 }),
    (text) => client.publish(topics.classify, `{"text": "${text}`, { qos: 0 }),
    (text) => client.publish(topics.classify, JSON.stringify({ text, topK: text }), { qos: 0 }),
    (text) => client.publish(`${topics.classify}/spam`, JSON.stringify({ text: { text } }), { qos: 0 }),
    (text) => client.publish("sms/1", JSON.stringify({ text }), { qos: 0 }),
    (text) => client.publish("sms/1", `{"text":"${text}"`, { qos: 0 }),
    (text) => client.publish(topics.classify, text + "x".repeat(100_001), { qos: 0 }),
  ];
  for (let i = 0; i < 10_000; i++) {
    const sent = ways[i % (i % 90 < 9 ? 9 : 8)]!(canary(i), i);
    if (i % 100 === 0) await sent;
    if (i % 500 === 0) {
      await post("/predict", JSON.stringify({ data: canary(i) }));
      await post("/predict", `{"data": "${canary(i)}`);
      await post("/v2/models/spam/infer", JSON.stringify({ inputs: canary(i) }));
      await post(`/v2/models/${canary(i)}/infer`, "{}");
    }
  }
  const crashing = {
    ...fakeModel(),
    classify: () => {
      throw new RangeError("out of bounds");
    },
  };
  const other = fakeService({
    access: broker.access,
    log,
    models: new Map([["trap", crashing]]),
    topics: { ...topics, classify: "edgelabel/trap/classify" },
    clientId: "trap",
  });
  await other.start();
  for (let i = 0; i < 50; i++) await client.publish("edgelabel/trap/classify", canary(i));
  await until(async () => (await other.metrics.text()).includes('edgelabel_errors_total{code="internal"} 50'));
  await client.publish(topics.classify, JSON.stringify({ text: "win", id: "end" }));
  await client.next(({ json }) => json?.id === "end");
  const places = [
    log.lines.join("\n"),
    await service.metrics.text(),
    await other.metrics.text(),
    await (await fetch(`${http.url}/metrics`)).text(),
    ...client.received
      .filter(({ topic }) => !topic.startsWith("sms/") && !topic.includes("classify"))
      .map(({ topic, text }) => topic + text),
  ];
  expect(places.length).toBeGreaterThan(5_000);
  expect(places.filter((text) => text.includes("canary"))).toEqual([]);
  expect(log.lines.length).toBeGreaterThan(50);
  await other.stop();
});

test("metrics have as many series after 1,000 ids and topics as after one", async () => {
  const series = async () =>
    (await service.metrics.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
  await client.subscribe(topics.label);
  const ask = async (i: number) => {
    void client.publish(`${topics.classify}/model-${i}`, JSON.stringify({ text: "win", id: `id-${i}` }), { qos: 0 });
    void client.publish(topics.classify, JSON.stringify({ text: "win", id: `id-${i}`, replyTo: `a/${i}/+` }), {
      qos: 0,
    });
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: `id-${i}` }), { qos: 0 });
    await client.next(({ json }) => json.id === `id-${i}` && json.label === "spam");
  };
  await ask(0);
  const first = await series();
  for (let i = 1; i < 1_000; i++) await ask(i);
  expect(await series()).toBe(first);
  expect(first).toBeLessThan(200);
});
