// Nothing that comes in ends the process, and nothing that fails comes again.
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker } from "../../../../host/service/broker/broker.ts";
import { Guard } from "../../../../host/service/answer/guard.ts";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../../../host/service/http/http.ts";
import { Metrics } from "../../../../host/service/metrics.ts";
import type { Model } from "../../../../host/service/answer/predictor.ts";
import type { RouteSettings } from "../../../../host/service/answer/outputs.ts";
import type { Service } from "../../../../host/service/service.ts";
import { counter, fakeModel, fakeService, recordingLog, TestClient, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

let broker: Broker;
let service: Service;
let http: HttpEndpoint;
let client: TestClient;
const log = recordingLog();

const shown = { topic: "out/{/topic}", when: "any", onChange: false, qos: 1, retain: false } as const;
/** Every way in which a route gives back what came. */
const routes: RouteSettings[] = [
  {
    name: "pointers",
    filter: "sms/+",
    text: ["/message", "/text"],
    model: "",
    threshold: 0,
    outputs: [{ ...shown, payload: { from: "{/from}", all: "{/message} {/from} {topic}" } }],
  },
  {
    name: "whole",
    filter: "sms/+",
    text: [],
    model: "",
    threshold: 0,
    outputs: [{ ...shown, topic: "out/{1}", payload: { text: "{text}", a: "{/a/0}", scores: "{scores}" } }],
  },
];
/** The text "poison" is answered by something that cannot be written. */
const poisonous: Model = {
  ...fakeModel(),
  classify(text, top) {
    const prediction = fakeModel().classify(text, top);
    if (Buffer.from(text).toString() !== "poison") return prediction;
    return {
      ...prediction,
      score: {
        toJSON() {
          throw new RangeError("Maximum call stack size exceeded");
        },
      } as unknown as number,
    };
  },
};

beforeEach(async () => {
  log.lines.length = 0;
  broker = await startBroker({ port: 0 });
  service = fakeService({ access: broker.access, routes, commands: true, log, models: new Map([["spam", poisonous]]) });
  service.commands!.add("echo", async ({ args, report }) => {
    report({ args });
    return { args };
  });
  await service.start();
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 2_000_000, textsPerRequest: 100 });
  client = await TestClient.connect(broker.url, 4);
});
afterEach(async () => {
  await client.close();
  await http.close();
  await service.stop();
  await broker.close();
});

const post = async (path: string, body: string) =>
  (await fetch(http.url + path, { method: "POST", headers: { "Content-Type": "application/json" }, body })).status;

/** It answers, and the broker keeps nothing that would come again. */
async function isWell(): Promise<void> {
  await client.subscribe(topics.label);
  await client.publish(topics.classify, '{"text":"win","id":"after"}');
  await client.next(({ json }) => json?.id === "after");
  const before = await counter(service, 'edgelabel_requests_total{transport="mqtt"}');
  service["connection"]["client"]!.stream.destroy();
  await until(() => !service.isReady);
  await until(() => service.isReady);
  await client.publish(topics.classify, '{"text":"win","id":"again"}');
  await client.next(({ json }) => json?.id === "again");
  expect((await counter(service, 'edgelabel_requests_total{transport="mqtt"}')) - before).toBe(1);
  expect(await post("/predict", '{"data":"win"}')).toBe(200);
}

test("an answer that cannot be written is the error `internal`, over MQTT and KServe, and a route goes on", async () => {
  await client.subscribe(topics.label);
  await client.publish(topics.classify, '{"text":"poison","id":1}');
  expect((await client.next()).json).toMatchObject({ id: 1, error: { code: "internal" } });
  expect(await post("/predict", '{"data":"poison"}')).toBe(200);
  const inputs = [{ name: "text", shape: [1], datatype: "BYTES", data: ["poison"] }];
  expect(await post("/v2/models/spam/infer", JSON.stringify({ inputs }))).toBe(500);
  await client.publish("sms/1", "poison");
  await until(async () => (await counter(service, 'edgelabel_routed_total{route="whole",outcome="published"}')) === 1);
  await isWell();
});

const deep = (depth: number, open: string, close: string) => open.repeat(depth) + close.repeat(depth);
const strange = [
  deep(6_000, "[", "]"),
  deep(200_000, "[", "]"),
  deep(30_000, '{"a":', "}"),
  deep(63, "[", "]"),
  deep(60, '{"message":', "}"),
  '"\\ud800"',
  "1e999",
  "-0",
  "123456789012345678901234567890",
  "null",
  '{"__proto__":{"toJSON":1}}',
  '{"toJSON":{"toString":null}}',
  '"poison"',
];

test.each([
  [
    "a route",
    (json: string) => client.publish("sms/1", `{"message":"hi","from":${json},"topic":${json},"a":[${json}]}`),
  ],
  ["a route's text", (json: string) => client.publish("sms/1", `{"message":${json},"text":${json}}`)],
  [
    "a request",
    (json: string) =>
      client.publish(topics.classify, `{"text":"hi","id":${json},"replyTo":${json},"topK":${json},"deadline":${json}}`),
  ],
  [
    "a request's text",
    (json: string) => client.publish(topics.classify, `{"text":${json},"texts":${json}}`, { qos: 2 }),
  ],
  ["a request that is nothing else", (json: string) => client.publish(topics.classify, json)],
  [
    "a command",
    (json: string) =>
      client.publish(
        `${topics.command}/echo/${Math.random().toString(36).slice(2)}`,
        `{"status":"init","x":${json},"reason":${json}}`,
      ),
  ],
  ["a command's status", (json: string) => client.publish(`${topics.command}/echo/1`, `{"status":${json}}`)],
  ["HTTP", (json: string) => post("/predict", `{"data":${json},"model":${json}}`)],
  ["HTTP, text only", (json: string) => post("/predict", `{"data":"hi","x":${json}}`)],
  [
    "KServe",
    (json: string) =>
      post(
        "/v2/models/spam/infer",
        `{"id":${json},"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":${json}}]}`,
      ),
  ],
] as [string, (json: string) => Promise<unknown>][])(
  "whatever JSON is in %s, the service goes on",
  async (_what, send) => {
    for (const json of strange) await send(json);
    const samples = fc.sample(fc.json({ maxDepth: 6 }), { numRuns: 200, seed: 13 });
    await Promise.all(samples.map((json) => send(json)));
    await isWell();
  },
);

test("a message whose error fails too is acknowledged, counted, and told once without a word of it", () => {
  const log = recordingLog();
  const guard = new Guard(new Metrics(), log);
  let acknowledged = 0;
  const message = {
    topic: "t",
    payload: Buffer.from("secret"),
    qos: 1 as const,
    isRetained: false,
    acknowledge: () => void acknowledged++,
  };
  for (let i = 0; i < 3; i++)
    guard.run(message as never, () => {
      throw new TypeError("secret is not a function");
    });
  guard.run(message as never, () => {
    throw "secret";
  });
  guard.run(message as never, () => {});
  expect(acknowledged).toBe(4);
  expect(log.lines).toHaveLength(2);
  expect(log.lines.join()).not.toContain("secret");
});
