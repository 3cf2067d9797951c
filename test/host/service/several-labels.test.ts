// A model that gives several labels a text, as each client of a service sees it.
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { labelsOfSample, type Sample } from "../../../host/data/dataset.ts";
import type { Correction } from "../../../host/data/journal.ts";
import { type Learner, learningVerbs } from "../../../host/service/control/learning.ts";
import { Review } from "../../../host/service/control/review.ts";
import { startBroker } from "../../../host/service/broker/broker.ts";
import type { Broker } from "../../../host/service/broker/broker.ts";
import type { RouteOutput } from "../../../host/service/answer/outputs.ts";
import { type HttpEndpoint, startHttp } from "../../../host/service/http/http.ts";
import type { Service } from "../../../host/service/service.ts";
import { encodeEvent, EventReader, type WyomingEvent } from "../../../host/service/wyoming/events.ts";
import { startWyoming } from "../../../host/service/wyoming/wyoming.ts";
import { counter, fakeModel, fakeService, fakeSeveral, TestClient, topics } from "../../support/fake.ts";
import { until } from "../../support/wait.ts";

const output = (given: Partial<RouteOutput> & { topic: string }): RouteOutput => ({
  ...{ when: "known", onChange: false, qos: 1, retain: false },
  ...given,
});
const routes = [
  {
    ...{ name: "r", filter: "in/+", text: [], model: "", threshold: 0 },
    outputs: [
      output({ topic: "out/each/{label}", when: "any", payload: "{score} {1}" }),
      output({ topic: "out/all", when: "any" }),
      output({ topic: "out/some", when: ["urgent", "fraud"], payload: { label: "{label}", labels: "{labels}" } }),
      output({ topic: "out/none", when: "unknown", payload: "{label}{labels}" }),
      output({ topic: "out/changed", onChange: true, payload: "{label}" }),
      output({ topic: "out/changed/{label}", onChange: true, payload: "{label}" }),
    ],
  },
  {
    ...{ name: "among", filter: "among", text: ["/text"], model: "", threshold: 0.7, among: "/only" },
    outputs: [output({ topic: "out/among", when: "any" })],
  },
];

let broker: Broker;
let service: Service;
let http: HttpEndpoint;
let review: Review;
let client: TestClient;
let held: Sample[];
let kept: Correction[];

beforeEach(async () => {
  kept = [];
  broker = await startBroker({ port: 0 });
  service = fakeService({
    access: broker.access,
    models: new Map([
      ["several", fakeSeveral()],
      ["spam", fakeModel()],
    ]),
    routes,
    commands: true,
  });
  review = new Review({ texts: 50, hours: 1 });
  service.predictor.reviewer = (...given) => review.offer(...given);
  const learner = {
    takesNewLabels: true,
    keep: async (corrections: Correction[]) => void kept.push(...corrections),
    holdOut: async () => held,
    learn: async () => ({ accepted: true }),
  } as unknown as Learner;
  const learners = new Map([
    ["several", learner],
    ["spam", learner],
  ]);
  for (const [verb, does] of Object.entries(learningVerbs(service, learners))) service.commands!.add(verb, does);
  await service.start();
  http = await startHttp(service, {
    ...{ host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 10 },
    console: { learners, review, isOpen: true },
  });
  client = await TestClient.connect(broker.url, 5);
  await client.subscribe("out/#");
});

afterEach(async () => {
  await client.close();
  await http.close();
  review.close();
  await service.stop();
  await broker.close();
});

async function ask(path: string, body?: unknown): Promise<{ status: number; text: string; json: any }> {
  const sent = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }; // prettier-ignore
  const response = await fetch(http.url + path, sent);
  const text = await response.text();
  const isJson = response.headers.get("content-type") === "application/json";
  return { status: response.status, text, json: isJson ? JSON.parse(text) : undefined };
}

const both = [
  { label: "spam", score: 0.875 },
  { label: "urgent", score: 0.75 },
];
const named = { model: "several", version: "1.0.0" };

describe("requests", () => {
  test.each<[request: object, answer: object]>([
    [{ text: "win now" }, { label: "spam", score: 0.875, labels: both }],
    [{ text: "hello" }, { label: null, score: 0.125, unknown: true, labels: [] }],
    [
      { text: "win now", threshold: 0.8 },
      { label: "spam", score: 0.875, labels: both.slice(0, 1) },
    ],
    [
      { text: "win now", threshold: 0.9 },
      { label: null, score: 0.875, unknown: true, labels: [] },
    ],
    [
      { text: "win now", topK: 3 },
      { label: "spam", score: 0.875, labels: both, scores: { spam: 0.875, urgent: 0.75, fraud: 0.125 } },
    ],
    [
      { texts: ["now", ""], id: 7 },
      {
        id: 7,
        results: [
          { label: "urgent", score: 0.75, labels: [both[1]] },
          { label: null, score: 0.125, unknown: true, labels: [] },
        ],
      },
    ],
  ])("%j has the same answer over MQTT and HTTP", async (request, answer) => {
    await client.publish(topics.classify, JSON.stringify(request), { properties: { responseTopic: "out/answer" } });
    expect((await client.next(({ topic }) => topic === "out/answer")).json).toEqual({ ...answer, ...named });
    expect((await ask("/predict", request)).json).toEqual({ ...answer, ...named });
  });

  test("a model that gives one label says nothing of several", async () => {
    const { json } = await ask("/predict", { text: "win now", model: "spam" });
    expect(json).toEqual({ label: "spam", score: 0.875, model: "spam", version: "1.0.0" });
  });

  test("the tutorial's has its labels, too", async () => {
    expect((await ask("/predict", { data: "win now" })).json).toEqual({ label: "spam", labels: both });
    expect((await ask("/predict", { data: "hello" })).json).toEqual({ label: null, labels: [] });
  });

  test("why a text has one of its labels, or has it not", async () => {
    for (const label of ["urgent", "fraud"])
      expect((await ask("/predict", { text: "win now", explain: label })).json).toMatchObject({
        label: "spam",
        explanation: { label },
      });
    expect((await ask("/predict", { data: "win now", explain: "urgent" })).json.explanation.label).toBe("urgent");
    const { status, json } = await ask("/predict", { text: "win", explain: "ham" });
    expect([status, json.error.message]).toEqual([
      400,
      '"explain" names a label that the model lacks; its labels are "fraud", "spam", "urgent"',
    ]);
    expect((await ask("/predict", { data: "win", explain: 1 })).json.error.message).toContain("true, false or a label");
  });

  test("texts without a label are counted as unknown, and /info tells which model gives several", async () => {
    for (const text of ["win now", "hello", "now"]) await ask("/predict", { text });
    expect(await counter(service, 'edgelabel_unknown_total{model="several"}')).toBe(1);
    const { models } = (await ask("/info")).json;
    expect(models).toMatchObject([{ name: "several", multiLabel: true }, { name: "spam" }]);
    expect(models[1]).not.toHaveProperty("multiLabel");
  });

  test("KServe has a flag for each label", async () => {
    const texts = ["win now", "hello"];
    const inputs = [{ name: "text", datatype: "BYTES", shape: [texts.length], data: texts }];
    const of = { datatype: "BOOL", shape: [2, 3], parameters: { labels: ["fraud", "spam", "urgent"] } };
    const data = [false, true, true, false, false, false];
    const { json } = await ask("/v2/models/several/infer", { inputs });
    expect(json.outputs).toEqual([
      { name: "label", datatype: "BYTES", shape: [2], data: ["spam", ""] },
      { name: "score", datatype: "FP32", shape: [2], data: [0.875, 0.125] },
      { name: "labels", ...of, data },
    ]);
    const outputs = ["label", "score", "labels", "scores"];
    const described = (await ask("/v2/models/several")).json.outputs;
    expect(described.map(({ name }: { name: string }) => name)).toEqual(outputs);
    expect(described[2]).toEqual({ name: "labels", ...of, shape: [-1, 3] });
    const one = await ask("/v2/models/spam/infer", { inputs, outputs: [{ name: "labels" }] });
    expect(one.json.outputs[0].data).toEqual([false, true, true, false]);
    expect((await ask("/v2/models/spam/infer", { inputs })).json.outputs).toHaveLength(2);
  });
});

test("routes publish each label on its own topic, and a text once on any other", async () => {
  const seen = async (text: string, count: number): Promise<string[]> => {
    await client.publish("in/7", text);
    const messages: string[] = [];
    while (messages.length < count) {
      const message = await client.next();
      messages.push(`${message.topic} ${message.text}`);
    }
    return messages;
  };
  const all = JSON.stringify(both);
  expect(await seen("win now", 7)).toEqual([
    "out/each/spam 0.875 7",
    "out/each/urgent 0.75 7",
    `out/all {"label":"spam","score":0.875,"labels":${all},"model":"several","version":"1.0.0"}`,
    `out/some {"label":"urgent","labels":${all}}`,
    "out/changed spam",
    "out/changed/spam spam",
    "out/changed/urgent urgent",
  ]);
  const changes = (messages: string[]): string[] => messages.filter((each) => each.includes("changed"));
  expect(changes(await seen("win, and now", 4))).toEqual([]);
  expect(changes(await seen("win", 4))).toEqual(["out/changed spam", "out/changed/spam spam"]);
  // Without a label, the first topic would lack a level.
  expect(await seen("hello", 2)).toEqual([
    'out/all {"label":null,"score":0.125,"labels":[],"model":"several","version":"1.0.0"}',
    "out/none []",
  ]);
});

test("routes: the labels that the message allows, above the threshold", async () => {
  const seen = async (only: string[]): Promise<object> => {
    await client.publish("among", JSON.stringify({ text: "win now bank", only }));
    const { label, score, labels } = (await client.next()).json;
    return { label, score, labels };
  };
  expect(await seen([])).toEqual({ label: "spam", score: 0.875, labels: both });
  expect(await seen(["urgent", "fraud"])).toEqual({ label: "urgent", score: 0.75, labels: both.slice(1) });
  expect(await seen(["fraud"])).toEqual({ label: null, score: 0.625, labels: [] });
});

test("for voice assistants, the best label is the intent", async () => {
  const wyoming = await startWyoming(service, { host: "127.0.0.1", port: 0, threshold: 0 });
  const socket = connect(wyoming.port, "127.0.0.1");
  const reader = new EventReader(1e6);
  const events: WyomingEvent[] = [];
  socket.on("data", (chunk: Buffer) => void events.push(...reader.read(chunk)));
  for (const text of ["win now", "hello"]) socket.write(encodeEvent({ type: "recognize", data: { text } }));
  await until(() => events.length === 2);
  socket.destroy();
  await wyoming.close();
  expect(events).toMatchObject([{ type: "intent", data: { name: "spam" } }, { type: "not-recognized" }]);
});

describe("commands", () => {
  async function command(verb: string, args: object): Promise<any> {
    const { json } = await ask(`/commands/${verb}`, args);
    let status: any;
    await until(async () => {
      const { commands } = (await ask("/commands")).json;
      status = commands.find(({ id }: { id: string }) => id === json.id);
      return status !== undefined && status.status !== "executing";
    });
    return status;
  }

  test("evaluate counts labels, and texts with exactly theirs", async () => {
    held = [
      { text: "win now", label: "spam\nurgent", labels: ["spam", "urgent"], line: 1 },
      { text: "win", label: "spam\nfraud", labels: ["fraud", "spam"], line: 2 },
      { text: "hello", label: "", labels: [], line: 3 },
    ];
    expect(await command("evaluate", { model: "several" })).toMatchObject({
      ...{ status: "successful", n: 3, accuracy: 2 / 3, micro_f1: 6 / 7 },
      per_class: { fraud: { recall: 0, support: 1 }, urgent: { f1: 1 } },
    });
    const samples = [
      { text: "win now", label: ["urgent", "spam"] },
      { text: "now", label: "urgent" },
      { text: "hello", label: [] },
    ];
    expect(await command("evaluate", { model: "several", samples })).toMatchObject({ accuracy: 1, micro_f1: 1 });
    const refused = await command("evaluate", { model: "spam", samples });
    expect(refused.reason).toContain("some texts have several labels, or none, but the model gives one");
  });

  test("learn takes lists of labels, of a model that gives several", async () => {
    const labels = { one: "spam", both: ["urgent", "spam"], none: [] };
    const corrections = Object.entries(labels).map(([text, label]) => ({ text, label }));
    expect(await command("learn", { model: "several", corrections })).toMatchObject({ status: "successful" });
    expect(kept.map(({ text, ...each }) => [text, labelsOfSample(each)])).toEqual([
      ["one", ["spam"]],
      ["both", ["spam", "urgent"]],
      ["none", []],
    ]);
    for (const label of [["spam", "ham"], []])
      expect((await command("learn", { model: "spam", text: "x", label })).reason).toContain("the model gives one");
    expect((await command("learn", { model: "several", text: "x", label: ["spam", 7] })).reason).toBe(
      'correction 1: "text" must be a string, and "label" a string or a list of them',
    );
    expect(kept).toHaveLength(3);
  });
});

describe("texts to label", () => {
  test("are those with a label in doubt; none that is certain is no doubt", async () => {
    service.predictor.set("several", {
      ...fakeSeveral(),
      classify: (text) => {
        const [, best, weakest] = String(text).split(" ");
        const both = [best, weakest].map((score, i) => ({ label: `${i}`, score: Number(score) }));
        const labels = weakest === undefined ? [] : both;
        return { label: labels[0]?.label ?? null, score: both[0]!.score, labels, scores: {} };
      },
    });
    const whys = { "weak 0.99 0.6": "uncertain", "sure 0.99 0.95": "chance", "none 0.02": "chance", "near 0.3": "unknown" }; // prettier-ignore
    for (const text of Object.keys(whys)) await ask("/predict", { text });
    const { texts } = (await ask("/review/several")).json;
    expect(Object.fromEntries(texts.map((each: Record<"text" | "why", string>) => [each.text, each.why]))).toEqual(whys); // prettier-ignore
    expect(texts.slice(0, 2).map(({ text }: { text: string }) => text)).toEqual(["weak 0.99 0.6", "near 0.3"]);
  });

  test("get lists of labels, which are exported as training data", async () => {
    for (const text of ["win now", "bank", "now then"]) await ask("/predict", { text });
    const first = (await ask("/review/several")).json;
    expect(first).toMatchObject({ multiLabel: true, canLearn: true });
    const byText = (text: string) => first.texts.find((each: { text: string }) => each.text === text);
    expect(byText("win now")).toMatchObject({ label: "spam", labels: both, why: "uncertain" });
    const judge = (text: string, label: unknown) => ask("/review/several", { id: byText(text).id, label });
    await judge("win now", ["urgent", "spam", "urgent"]);
    await judge("bank", []);
    await judge("now then", "urgent");
    expect((await ask("/review/several/labels.jsonl")).text.split("\n")).toEqual([
      '{"text":"win now","label":["spam","urgent"]}',
      '{"text":"bank","label":[]}',
      '{"text":"now then","label":"urgent"}',
      "",
    ]);
    await ask("/review/several", { learn: true });
    expect(kept.map(({ label, labels }) => labels ?? label)).toEqual([["spam", "urgent"], [], "urgent"]);
  });

  test("of a model that gives one label take no list", async () => {
    await ask("/predict", { text: "win", model: "spam" });
    const [text] = (await ask("/review/spam")).json.texts;
    const { status, json } = await ask("/review/spam", { id: text.id, label: ["spam"] });
    expect([status, json.error.message]).toEqual([400, 'spam gives one label a text: "label" must be a string']);
  });
});
