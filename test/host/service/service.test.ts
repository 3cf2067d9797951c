// The service as its clients see it, on every broker and protocol it is made for.
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { startBroker } from "../../../host/service/broker/broker.ts";
import type { Service } from "../../../host/service/service.ts";
import { describeMosquitto, runClient, startMosquitto } from "../../support/mosquitto.ts";
import type { Mosquitto } from "../../support/mosquitto.ts";
import {
  counter,
  fakeModel,
  fakeService,
  holdQueue,
  limits,
  recordingLog,
  slowModel,
  startOld,
  TestClient,
  topics,
} from "../../support/fake.ts";
import { until } from "../../support/wait.ts";

interface RunningBroker {
  url: string;
  port: number;
  stop(): Promise<void>;
}

interface Target {
  protocol: 4 | 5;
  /** The embedded broker keeps nothing for those who are away: it is away with the service. */
  keepsSessions: boolean;
  start(port?: number): Promise<RunningBroker>;
}

function embedded(protocol: 4 | 5): Target {
  return {
    protocol,
    keepsSessions: false,
    async start(port = 0) {
      const broker = await startBroker({ port });
      return { url: broker.url, port: broker.port, stop: () => broker.close() };
    },
  };
}

function real(binaries: Mosquitto, protocol: 4 | 5): Target {
  return {
    protocol,
    keepsSessions: true,
    async start(port) {
      const broker = await startMosquitto(binaries, port === undefined ? {} : { port });
      return { url: broker.url, port: broker.port, stop: () => broker.kill() };
    },
  };
}

function serviceTests({ protocol, keepsSessions, start }: Target): void {
  let broker: RunningBroker;
  let service: Service;
  let client: TestClient;

  beforeEach(async () => {
    broker = await start();
    service = fakeService({ access: { url: broker.url, protocol } });
    await service.start();
    client = await TestClient.connect(broker.url, protocol);
  });

  afterEach(async () => {
    await client.close();
    await service.stop();
    await broker.stop();
  });

  test("raw text is answered on the label topic", async () => {
    await client.subscribe("edgelabel/gate-1/label");
    await client.publish("edgelabel/gate-1/classify", "win a prize");
    expect((await client.next()).json).toEqual({ label: "spam", score: 0.875, model: "spam", version: "1.0.0" });
  });

  test.each([0, 1] as const)("a QoS %s request gets an answer of the same QoS", async (qos) => {
    await client.subscribe("edgelabel/gate-1/label");
    await client.publish(topics.classify, "hello", { qos });
    const { json, packet } = await client.next();
    expect(json.label).toBe("ham");
    expect(packet.qos).toBe(qos);
    expect(packet.retain).toBe(false);
  });

  test("text that only looks like JSON is text", async () => {
    await client.subscribe(topics.label);
    for (const text of ["{hello", '{"txt":"win"}', '["win"]', '"win"', "7", "null", " \t{"]) {
      await client.publish(topics.classify, text);
      const { json } = await client.next();
      expect([text, json.label, json.error]).toEqual([text, text.includes("win") ? "spam" : "ham", undefined]);
    }
  });

  test("JSON with id and replyTo is answered there, with the id", async () => {
    await client.subscribe("my/answers/#");
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "a-1", replyTo: "my/answers/7" }));
    expect(await client.next()).toMatchObject({ topic: "my/answers/7", json: { id: "a-1", label: "spam" } });
    await client.publish(topics.classify, JSON.stringify({ text: "hi", id: 42, replyTo: "my/answers/8" }));
    expect(await client.next()).toMatchObject({ topic: "my/answers/8", json: { id: 42, label: "ham" } });
  });

  test("topK adds scores, threshold makes unknown", async () => {
    await client.subscribe(topics.label);
    await client.publish(topics.classify, JSON.stringify({ text: "win", topK: 2 }));
    expect((await client.next()).json.scores).toEqual({ spam: 0.875, ham: 0.125 });
    await client.publish(topics.classify, JSON.stringify({ text: "win", topK: 1, threshold: 0.9 }));
    expect((await client.next()).json).toEqual({
      label: null,
      score: 0.875,
      unknown: true,
      scores: { spam: 0.875 },
      model: "spam",
      version: "1.0.0",
    });
    await client.publish(topics.classify, JSON.stringify({ text: "win", threshold: 0.875 }));
    expect((await client.next()).json).toEqual({ label: "spam", score: 0.875, model: "spam", version: "1.0.0" });
  });

  test("explain adds which tokens made the label, to each of several texts too", async () => {
    await client.subscribe(topics.label);
    await client.publish(topics.classify, JSON.stringify({ text: "win", explain: true }));
    const explanation = (token: string) => ({
      label: "spam",
      score: 0.875,
      base: 0.5,
      method: "occlusion",
      sum: 0.375,
      error: 0,
      tokens: [{ token, start: 0, end: token.length, share: 0.375 }],
    });
    expect((await client.next()).json).toEqual({
      label: "spam",
      score: 0.875,
      explanation: explanation("win"),
      model: "spam",
      version: "1.0.0",
    });
    await client.publish(topics.classify, JSON.stringify({ texts: ["win", "", "hi"], explain: true, topK: 1 }));
    expect((await client.next()).json.results.map((result: any) => result.explanation)).toEqual([
      explanation("win"),
      explanation(""),
      explanation("hi"),
    ]);
    await client.publish(topics.classify, JSON.stringify({ text: "win", explain: false }));
    expect((await client.next()).json).toEqual({ label: "spam", score: 0.875, model: "spam", version: "1.0.0" });
    expect(await counter(service, 'edgelabel_explanations_total{model="spam"}')).toBe(4);
    expect(await counter(service, 'edgelabel_texts_total{model="spam"}')).toBe(5);
  });

  test("texts get results, in order", async () => {
    await client.subscribe(topics.label);
    await client.publish(topics.classify, JSON.stringify({ texts: ["win", "hi", "win"], id: 1 }));
    expect((await client.next()).json).toEqual({
      id: 1,
      results: [
        { label: "spam", score: 0.875 },
        { label: "ham", score: 0.875 },
        { label: "spam", score: 0.875 },
      ],
      model: "spam",
      version: "1.0.0",
    });
  });

  test("each model has its topics; an unknown one is answered with the known names", async () => {
    await client.subscribe("edgelabel/gate-1/label/#");
    await client.publish("edgelabel/gate-1/classify/other", "win");
    expect(await client.next()).toMatchObject({
      topic: "edgelabel/gate-1/label/other",
      json: { model: "other", version: "2.0.0" },
    });
    await client.publish("edgelabel/gate-1/classify/spam", "win");
    expect(await client.next()).toMatchObject({ topic: "edgelabel/gate-1/label/spam", json: { model: "spam" } });
    for (const name of ["nope", "a/b", "__proto__"]) {
      await client.publish(`edgelabel/gate-1/classify/${name}`, JSON.stringify({ text: "win", id: 3 }));
      const { topic, json } = await client.next();
      expect(topic).toBe("edgelabel/gate-1/label");
      expect(json).toMatchObject({ id: 3, error: { code: "unknown_model" } });
      expect(json.error.message).toContain("spam, other");
    }
  });

  test("faulty fields are named, and the id and replyTo still count", async () => {
    await client.subscribe("r");
    const faults: [object, string][] = [
      [{ text: 7 }, "text"],
      [{ text: "a", texts: ["b"] }, "texts"],
      [{ texts: [] }, "texts"],
      [{ texts: ["a", 1] }, "texts.1"],
      [{ texts: Array(101).fill("a") }, "100"],
      [{ text: "a", topK: 0 }, "topK"],
      [{ text: "a", topK: 1.5 }, "topK"],
      [{ text: "a", threshold: 2 }, "threshold"],
      [{ text: "a", explain: "yes" }, "explain"],
    ];
    for (const [fields, named] of faults) {
      await client.publish(topics.classify, JSON.stringify({ ...fields, id: "x", replyTo: "r" }));
      const { json } = await client.next();
      expect(json).toMatchObject({ id: "x", error: { code: "bad_request" } });
      expect(json.error.message).toContain(named);
    }
  });

  test("an empty, an over-long and a crashing text each get their error", async () => {
    await client.subscribe(topics.label);
    for (const [payload, code] of [
      ["", "bad_request"],
      ["x".repeat(100_001), "text_too_long"],
      ["boom", "internal"],
    ] as const) {
      await client.publish(topics.classify, payload);
      expect((await client.next()).json).toMatchObject({ error: { code } });
    }
    await client.publish(topics.classify, "win");
    expect((await client.next()).json.label).toBe("spam");
  });

  test("hostile reply topics are answered nowhere and break nothing", async () => {
    const watcher = await TestClient.connect(broker.url, protocol);
    await watcher.subscribe("#", "$SYS/x");
    const hostile = [
      "a/#",
      "a/+/b",
      "#",
      "+",
      "$SYS/x",
      "$share/g/t",
      "a\0b",
      "a\nb",
      "\ud800",
      "x".repeat(1025),
      "",
      "a/".repeat(70),
      topics.classify,
      `${topics.classify}/spam`,
      topics.status,
      topics.info,
      "edgelabel",
      "edgelabel/other/classify",
      "edgelabel/other/label",
      "edgelabel/gate-1/cmd/load/1",
      "edgelabel/gate-1/reply",
    ];
    for (const replyTo of hostile)
      await client.publish(topics.classify, JSON.stringify({ text: "win", id: "hostile", replyTo }));
    await client.publish(
      topics.classify,
      JSON.stringify({ text: "win", id: "good", replyTo: "edgelabel/gate-1/reply/1" }),
    );
    await watcher.next(({ json }) => json?.id === "good" && json.label === "spam");
    expect(watcher.received.filter(({ json }) => json?.label !== undefined)).toEqual([]);
    // Each is told so where everyone who uses the node may hear it.
    const told = watcher.received.filter(({ json }) => json?.id === "hostile" && json.error);
    expect(told.map(({ topic, json }) => [topic, json.error.code])).toEqual(
      hostile.map(() => [topics.label, "bad_request"]),
    );
    expect(await counter(service, 'edgelabel_errors_total{code="bad_request"}')).toBe(hostile.length);
    expect(await counter(service, "edgelabel_broker_connects_total")).toBe(1);
    await watcher.close();
  });

  test("a retained request is ignored", async () => {
    await service.stop();
    await client.publish("edgelabel/gate-2/classify", JSON.stringify({ text: "win", id: "old" }), {
      qos: 1,
      retain: true,
    });
    service = fakeService({
      access: { url: broker.url, protocol },
      topics: { ...topics, node: "gate-2", classify: "edgelabel/gate-2/classify" },
      clientId: "edgelabel-gate-2",
    });
    await client.subscribe("edgelabel/gate-1/label");
    await service.start();
    await client.publish("edgelabel/gate-2/classify", JSON.stringify({ text: "win", id: "new" }));
    expect((await client.next()).json.id).toBe("new");
    // On MQTT 5 the service does not want it from the broker.
    const ignored = protocol === 5 ? 0 : 1;
    await until(async () => (await counter(service, 'edgelabel_ignored_total{reason="retained"}')) === ignored);
    expect(await client.settled("edgelabel/gate-2/classify")).toEqual([]);
  });

  test("status and info are retained, and the last will says offline", async () => {
    await client.subscribe(topics.status, topics.info);
    const status = await client.next(({ topic }) => topic === topics.status);
    expect([status.text, status.packet.retain]).toEqual(["online", true]);
    const info = await client.next(({ topic }) => topic === topics.info);
    expect(info.packet.retain).toBe(true);
    expect(info.json.models).toMatchObject([
      { name: "spam", default: true, labels: ["ham", "spam"] },
      { name: "other", default: false },
    ]);
    // The socket ends without a DISCONNECT, as when the process is killed.
    service["connection"]["client"]!.stream.destroy();
    expect((await client.next(({ topic }) => topic === topics.status)).text).toBe("offline");
    expect((await client.next(({ topic }) => topic === topics.status)).text).toBe("online");
    await service.stop();
    expect((await client.next(({ topic }) => topic === topics.status)).text).toBe("offline");
  });

  test("a model that is removed is gone from the retained info, and asked for in vain; the last one stays", async () => {
    await client.subscribe(topics.info, `${topics.label}/#`);
    await client.next(({ topic }) => topic === topics.info);
    expect(service.removeModel("spam")).toBe(true);
    const { json } = await client.next(({ topic }) => topic === topics.info);
    expect(json.models).toMatchObject([{ name: "other", default: true }]);
    await client.publish("edgelabel/gate-1/classify/spam", "win");
    expect((await client.next()).json.error.code).toBe("unknown_model");
    expect([service.removeModel("spam"), service.removeModel("other")]).toEqual([false, false]);
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "still there" }));
    expect((await client.next()).json).toMatchObject({ id: "still there", label: "spam", model: "other" });
    // Whoever comes later finds the same, and one series of the model that is left.
    const late = await TestClient.connect(broker.url, protocol);
    await late.subscribe(topics.info);
    expect((await late.next()).json.models).toHaveLength(1);
    await late.close();
    expect((await service.metrics.text()).match(/^edgelabel_model_info\{.*$/gm)).toEqual([
      expect.stringContaining('model="other"'),
    ]);
  });

  test("a status that is not true is put right", async () => {
    await client.subscribe(topics.status);
    await client.next(({ text }) => text === "online");
    await client.publish(topics.status, "offline", { qos: 1, retain: true });
    expect((await client.next()).text).toBe("offline");
    expect((await client.next()).text).toBe("online");
  });

  test.runIf(keepsSessions)(
    "QoS 1 requests sent while the service is away are answered at the next start",
    async () => {
      await client.subscribe(topics.label);
      await service.stop();
      for (let id = 0; id < 20; id++) await client.publish(topics.classify, JSON.stringify({ text: "win", id }));
      service = fakeService({ access: { url: broker.url, protocol } });
      await service.start();
      const ids = new Set<unknown>();
      while (ids.size < 20) ids.add((await client.next()).json.id);
      expect([...ids].sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 20 }, (_, id) => id));
    },
  );

  test("requests in flight at the stop are answered before it ends, or by the next start", async () => {
    await client.subscribe(topics.label);
    const sending = Array.from({ length: 100 }, (_, id) =>
      client.publish(topics.classify, JSON.stringify({ text: "win", id })),
    );
    await client.next();
    const stopped = service.stop();
    expect(service.notReadyReason).toBe("not connected to the broker");
    await stopped;
    await Promise.all(sending);
    service = fakeService({ access: { url: broker.url, protocol } });
    await service.start();
    const ids = new Set<unknown>(client.received.map(({ json }) => json.id));
    while (ids.size < 99) ids.add((await client.next()).json.id);
  });

  test("a request that comes again gets the same bytes and is computed once; another text, topic or model is another request", async () => {
    await client.subscribe("r/#");
    const ask = async (text: string, replyTo: string, topic = topics.classify) => {
      await client.publish(topic, JSON.stringify({ text, id: 7, replyTo }));
      return (await client.next()).text;
    };
    const first = await ask("win", "r/1");
    for (let i = 0; i < 20; i++) expect(await ask("win", "r/1")).toBe(first);
    expect(await counter(service, 'edgelabel_texts_total{model="spam"}')).toBe(1);
    expect(await counter(service, "edgelabel_duplicates_total")).toBe(20);
    expect(JSON.parse(await ask("hello", "r/1")).label).toBe("ham");
    await ask("win", "r/2");
    expect(await counter(service, 'edgelabel_texts_total{model="spam"}')).toBe(3);
    expect(JSON.parse(await ask("win", "r/1", `${topics.classify}/other`)).model).toBe("other");
    // Without an id there is nothing to tell two requests apart by.
    await client.publish(topics.classify, '{"text":"win","replyTo":"r/1"}');
    await client.publish(topics.classify, '{"text":"win","replyTo":"r/1"}');
    await client.next();
    await client.next();
    expect(await counter(service, "edgelabel_duplicates_total")).toBe(20);
  });

  test("a request whose deadline is over is dropped and counted; one in time is answered", async () => {
    await client.subscribe(topics.label);
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "late", deadline: Date.now() - 1 }));
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "good", deadline: Date.now() + 60_000 }));
    expect((await client.next()).json.id).toBe("good");
    expect(await counter(service, 'edgelabel_ignored_total{reason="expired"}')).toBe(1);
    expect(await counter(service, 'edgelabel_texts_total{model="spam"}')).toBe(1);
    await client.publish(topics.classify, JSON.stringify({ text: "win", deadline: "soon" }));
    expect((await client.next()).json.error.message).toContain("deadline");
  });

  test("a flood is told busy, and does not keep another requester out", async () => {
    await service.stop();
    service = fakeService({
      access: { url: broker.url, protocol },
      limits: { ...limits, queuedTexts: 20, queuedAnswers: 1000 },
    });
    await service.start();
    await client.subscribe("flood");
    const calm = await TestClient.connect(broker.url, protocol);
    await calm.subscribe("calm");
    const release = holdQueue(service);
    for (let id = 0; id < 300; id++)
      void client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo: "flood" }), { qos: 0 });
    const busy = () => client.received.filter(({ json }) => json.error?.code === "busy").length;
    await until(() => busy() >= 250);
    await calm.publish(topics.classify, JSON.stringify({ text: "win", id: "c", replyTo: "calm" }));
    await until(() => service.predictor.queue["lines"].size === 2);
    release();
    expect((await calm.next()).json).toMatchObject({ id: "c", label: "spam" });
    const answered = () => client.received.filter(({ json }) => json.label === "spam").length;
    await until(() => answered() === 19);
    expect(await counter(service, 'edgelabel_errors_total{code="busy"}')).toBeGreaterThanOrEqual(busy());
    await calm.close();
  });

  test("who sends more than its rate is told so, and nobody else is", async () => {
    await service.stop();
    service = fakeService({ access: { url: broker.url, protocol }, limits: { ...limits, textsPerSecond: 5 } });
    await service.start();
    await client.subscribe("many", "few");
    const start = performance.now();
    for (let id = 0; id < 50; id++)
      void client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo: "many" }));
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "f", replyTo: "few" }));
    expect((await client.next(({ topic }) => topic === "few")).json.label).toBe("spam");
    await until(() => client.received.filter(({ topic }) => topic === "many").length === 50);
    const refused = client.received.filter(({ json }) => json.error?.code === "rate");
    const answered = client.received.filter(({ json }) => json.label === "spam");
    expect(answered.length).toBe(50 - refused.length);
    expect(answered.length).toBeLessThanOrEqual(5 + (5 * (performance.now() - start)) / 1000);
    if (protocol === 5) expect({ ...refused[0]!.packet.properties!.userProperties }).toEqual({ status: "429" });
    expect(await counter(service, 'edgelabel_errors_total{code="rate"}')).toBe(refused.length);
  });

  test("a user, whom the request's topic names, is answered on its own topics only", async () => {
    await client.subscribe(`${topics.reply}/#`, topics.label, "elsewhere");
    const from = `${topics.from}/phone/classify`;
    for (const [id, replyTo] of [
      `${topics.reply}/victim/1`,
      `${topics.reply}/phoney`,
      topics.reply,
      topics.label,
      "elsewhere",
    ].entries())
      await client.publish(from, JSON.stringify({ text: "win", id, replyTo }));
    await client.publish(from, JSON.stringify({ id: "broken", text: 7, replyTo: `${topics.reply}/victim/1` }));
    await client.publish(from, JSON.stringify({ text: "win", id: "none" }));
    await client.publish(`${from}/other`, JSON.stringify({ text: "win", id: "model" }));
    await client.publish(from, JSON.stringify({ text: "win", id: "own", replyTo: `${topics.reply}/phone/1` }));
    const heard = [];
    while (heard.length < 9) heard.push(await client.next());
    const refused = heard.filter(({ json }) => json.error);
    expect(refused.map(({ topic, json }) => [topic, json.id])).toEqual(
      [0, 1, 2, 3, 4, "broken"].map((id) => [`${topics.reply}/phone`, id]),
    );
    expect(refused[0]!.json.error).toEqual({
      code: "bad_request",
      message: `the request wants its answer on a topic that may not be used (not_the_users); a user is answered below ${topics.reply}/phone/ only`,
    });
    expect(
      heard
        .filter(({ json }) => json.label)
        .map(({ topic, json }) => [topic, json.id])
        .toSorted(),
    ).toEqual([
      [`${topics.reply}/phone`, "none"],
      [`${topics.reply}/phone/1`, "own"],
      [`${topics.reply}/phone/other`, "model"],
    ]);
    expect(client.received).toEqual([]);
  });

  test("a user has its turns and its rate by name: inventing topics gains nothing, and nobody can use them up", async () => {
    await service.stop();
    service = fakeService({ access: { url: broker.url, protocol }, limits: { ...limits, textsPerSecond: 5 } });
    await service.start();
    await client.subscribe(`${topics.reply}/#`);
    const start = performance.now();
    for (let id = 0; id < 100; id++)
      void client.publish(topics.classify, JSON.stringify({ text: "win", replyTo: `${topics.reply}/victim/1` }));
    for (let id = 0; id < 100; id++)
      void client.publish(
        `${topics.from}/phone/classify`,
        JSON.stringify({ text: "win", replyTo: `${topics.reply}/phone/${id}` }),
      );
    await client.publish(
      `${topics.from}/victim/classify`,
      JSON.stringify({ text: "win", id: "v", replyTo: `${topics.reply}/victim/1` }),
    );
    expect((await client.next(({ json }) => json.id === "v")).json.label).toBe("spam");
    await until(() => client.received.length === 200);
    const answered = client.received.filter(
      ({ topic, json }) => topic.startsWith(`${topics.reply}/phone/`) && json.label === "spam",
    ).length;
    expect(answered).toBeLessThanOrEqual(5 + (5 * (performance.now() - start)) / 1000);
  });

  test("who invents a reply topic for each request gains nothing, and takes nothing from who was here before", async () => {
    await service.stop();
    service = fakeService({
      access: { url: broker.url, protocol },
      limits: { ...limits, textsPerSecond: 5, requesters: 3 },
    });
    await service.start();
    await client.subscribe("few", "many/#");
    const ask = (replyTo: string) => client.publish(topics.classify, JSON.stringify({ text: "win", replyTo }));
    await ask("few");
    const start = performance.now();
    for (let id = 0; id < 200; id++) void ask(`many/${id}`);
    await ask("few");
    for (let i = 0; i < 2; i++) expect((await client.next(({ topic }) => topic === "few")).json.label).toBe("spam");
    await until(() => client.received.filter(({ topic }) => topic !== "few").length === 200);
    // Two have a place of their own, and all others share the rate of one.
    expect(client.received.filter(({ json }) => json.label === "spam").length).toBeLessThanOrEqual(
      2 + 5 * (1 + (performance.now() - start) / 1000),
    );
  });

  test("a batch longer than the keepalive's patience holds nobody up", async () => {
    await service.stop();
    service = fakeService({ access: { url: broker.url, protocol }, models: new Map([["slow", slowModel(5)]]) });
    await service.start();
    await client.subscribe("batch", "single");
    const release = holdQueue(service);
    await client.publish(topics.classify, JSON.stringify({ texts: Array(100).fill("win"), id: "b", replyTo: "batch" }));
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "s", replyTo: "single" }));
    await until(() => service.predictor.queue.length === 101);
    release();
    expect((await client.next()).json.id).toBe("s");
    expect((await client.next()).json.results).toHaveLength(100);
  });

  test("after the broker's restart it answers again, and says online", async () => {
    await broker.stop();
    await until(() => !service.isReady);
    broker = await start(broker.port);
    await until(() => service.isReady);
    const fresh = await TestClient.connect(broker.url, protocol);
    await fresh.subscribe(topics.label, topics.status);
    expect((await fresh.next(({ topic }) => topic === topics.status)).text).toBe("online");
    await fresh.publish(topics.classify, "win");
    expect((await fresh.next(({ topic }) => topic === topics.label)).json.label).toBe("spam");
    await fresh.close();
  });

  test("QoS 2 is answered, with each of its handshakes finished", async () => {
    await client.client.subscribeAsync(topics.label, { qos: 2 });
    const ids = new Set<unknown>();
    for (let id = 0; id < 100; id++) {
      await client.publish(topics.classify, JSON.stringify({ text: "win", id }), { qos: 2 });
      ids.add((await client.next()).json.id);
    }
    expect(ids.size).toBe(100);
    // The broker keeps none of them for the service: nothing comes again after a new connection.
    await until(() => service["outbox"].length === 0);
    await client.publish(topics.classify, "sentinel", { qos: 2 });
    await client.next();
    service["connection"]["client"]!.stream.destroy();
    await until(() => !service.isReady);
    await until(() => service.isReady);
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "end" }), { qos: 2 });
    expect((await client.next()).json.id).toBe("end");
    expect(await counter(service, "edgelabel_duplicates_total")).toBe(0);
  });

  test.runIf(keepsSessions)(
    "a QoS 2 request that was not answered before a connection was lost is answered on the next one",
    async () => {
      await client.subscribe(topics.label);
      let held = 0;
      service["onMessage"] = ({ topic }) => void (topic === topics.classify && held++);
      await client.publish(topics.classify, JSON.stringify({ text: "win", id: "kept" }), { qos: 2 });
      // The broker does not wait for the service.
      await client.publish(topics.classify, JSON.stringify({ text: "win", id: "too" }), { qos: 2 });
      await until(() => held === 2);
      delete (service as any).onMessage;
      service["connection"]["client"]!.stream.destroy();
      expect(new Set([(await client.next()).json.id, (await client.next()).json.id])).toEqual(new Set(["kept", "too"]));
    },
  );

  test("1,300 QoS 2 requests of 60 KB, whose sender is gone, keep nobody out", async () => {
    await client.subscribe("calm");
    const sender = await TestClient.connect(broker.url, protocol);
    const large = "x".repeat(60_000);
    for (let sent = 0; sent < 1_300; sent += 10)
      await Promise.all(Array.from({ length: 10 }, () => sender.publish(topics.classify, large, { qos: 2 })));
    await sender.close();
    for (let id = 0; id < 20; id++)
      await client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo: "calm" }));
    const ids = new Set<unknown>();
    while (ids.size < 20) ids.add((await client.next()).json.id);
    expect(service.isReady).toBe(true);
  });

  test("a burst beyond the window is answered whole", async () => {
    await client.subscribe(topics.label);
    await Promise.all(
      Array.from({ length: 500 }, (_, id) => client.publish(topics.classify, JSON.stringify({ text: "win", id }))),
    );
    const ids = new Set<unknown>();
    while (ids.size < 500) {
      const { json } = await client.next();
      expect(["spam", undefined]).toContain(json.label);
      ids.add(json.id);
    }
    await until(() => service["outbox"].length === 0);
  });
}

/** What only MQTT 5 has. */
function requestTests({ start }: Target): void {
  let broker: RunningBroker;
  let service: Service;
  let client: TestClient;

  beforeEach(async () => {
    broker = await start();
    service = fakeService({ access: { url: broker.url } });
    await service.start();
    client = await TestClient.connect(broker.url, 5);
  });

  afterEach(async () => {
    await client.close();
    await service.stop();
    await broker.stop();
  });

  test("a 3.1.1 client with replyTo gets its label from the same service", async () => {
    const old = await TestClient.connect(broker.url, 4);
    await old.subscribe("old/answers");
    await old.publish(topics.classify, '{"text":"win","replyTo":"old/answers"}');
    expect((await old.next()).json.label).toBe("spam");
    await old.close();
  });

  test("correlation data comes back byte for byte, with status of an error and content type", async () => {
    await client.subscribe("answers/#");
    const correlationData = Buffer.from([0, 255, 128, 10, 0, 7]);
    await client.publish(topics.classify, "win", {
      qos: 1,
      properties: { responseTopic: "answers/1", correlationData },
    });
    const { packet } = await client.next();
    expect(packet.properties?.correlationData).toEqual(correlationData);
    expect(packet.properties?.contentType).toBe("application/json");
    expect(packet.properties?.userProperties).toBeUndefined();
    await client.publish(`${topics.classify}/nope`, "win", {
      qos: 1,
      properties: { responseTopic: "answers/2", correlationData },
    });
    const failed = await client.next();
    expect(failed.topic).toBe("answers/2");
    expect(failed.packet.properties?.correlationData).toEqual(correlationData);
    expect(failed.packet.properties?.userProperties).toEqual({ status: "404" });
    expect(failed.json.error.code).toBe("unknown_model");
  });

  test("the response topic wins over replyTo, and the content type decides what JSON is", async () => {
    await client.subscribe("answers/#");
    const properties = { responseTopic: "answers/1" };
    await client.publish(topics.classify, '{"text":"win","replyTo":"answers/2"}', { properties });
    expect((await client.next()).topic).toBe("answers/1");
    await client.publish(topics.classify, '{"text":"hi"} win', {
      properties: { ...properties, contentType: "application/json" },
    });
    expect((await client.next()).json.error.code).toBe("bad_request");
    await client.publish(topics.classify, '{"text":"hi","w":"win"}', {
      properties: { ...properties, contentType: "text/plain" },
    });
    expect((await client.next()).json.label).toBe("spam");
  });

  test("hostile response topics as properties", async () => {
    await client.subscribe("#");
    for (const responseTopic of [
      "$SYS/x",
      "$share/g/x",
      topics.classify,
      "edgelabel/other/classify",
      "x".repeat(2000),
    ]) {
      await client.publish(topics.classify, "win", { qos: 1, properties: { responseTopic } });
    }
    await client.publish(topics.classify, "win", { qos: 1, properties: { responseTopic: "good" } });
    expect((await client.next(({ json }) => json?.label !== undefined)).topic).toBe("good");
    expect(client.received.filter(({ json }) => json?.label !== undefined)).toEqual([]);
    expect(await counter(service, "edgelabel_broker_connects_total")).toBe(1);
  });

  test("a full outbox answers busy at once", async () => {
    await service.stop();
    service = fakeService({ access: { url: broker.url }, limits: { ...limits, queuedAnswers: 1 } });
    await service.start();
    await client.subscribe("answers");
    // An answer that the broker never acknowledges fills the one place there is.
    const session = service["session"]!;
    const publish = session.publish.bind(session);
    session.publish = (message, done) => void (message.qos === 0 && publish(message, done));
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: 1 }), {
      qos: 1,
      properties: { responseTopic: "answers" },
    });
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: 2 }), {
      qos: 1,
      properties: { responseTopic: "answers" },
    });
    const { json, packet } = await client.next();
    expect(json).toMatchObject({ id: 2, error: { code: "busy" } });
    expect(packet.properties?.userProperties).toEqual({ status: "503" });
  });

  test("a message counts with its topics and properties, whatever is kept of them", async () => {
    const counted: number[] = [];
    service["requests"].onMessage = ({ bytes, acknowledge }) => {
      counted.push(bytes);
      acknowledge();
    };
    const publish = (payload: string, properties: object) =>
      client.publish(topics.classify, payload, { qos: 1, properties });
    await publish("", {});
    await publish("é".repeat(1_000), {});
    await publish("", {
      responseTopic: "a".repeat(1_000),
      correlationData: Buffer.alloc(30_000),
      contentType: "t".repeat(500),
    });
    await publish("", { userProperties: { n: "v".repeat(50_000), m: ["w".repeat(7), ""] } });
    await until(() => counted.length === 4);
    const base = 5 + 2 + topics.classify.length + 2 + 1;
    expect(counted).toEqual([
      base,
      base + 2_000,
      base + 2 + 3 + 1_000 + 3 + 30_000 + 3 + 500,
      base + 2 + 6 + 50_000 + 6 + 6 + 7,
    ]);
  });

  test("large properties fill the queue as large texts do", async () => {
    await service.stop();
    service = fakeService({ access: { url: broker.url }, limits: { ...limits, queuedBytes: 500_000 } });
    await service.start();
    await client.subscribe("answers/+");
    const answers = async (count: number) => {
      const answered = Array.from({ length: count }, () => client.next());
      return (await Promise.all(answered)).map(({ json }) => json.label ?? json.error.code);
    };
    for (const properties of [
      { userProperties: { n: "x".repeat(60_000) } },
      { correlationData: Buffer.alloc(60_000) },
    ]) {
      const release = holdQueue(service);
      for (let i = 0; i < 16; i++)
        void client.publish(topics.classify, `win ${i}`, {
          qos: 1,
          properties: { responseTopic: "answers/1", ...properties },
        });
      expect(await answers(8)).toEqual(Array(8).fill("busy"));
      release();
      expect(await answers(8)).toEqual(Array(8).fill("spam"));
    }
  });

  test("a message expiry that ran out in the queue: nobody is answered, and it is counted", async () => {
    await client.subscribe("answers");
    const release = holdQueue(service);
    const ask = (id: string, messageExpiryInterval?: number) =>
      client.publish(topics.classify, JSON.stringify({ text: "win", id }), {
        qos: 1,
        properties: { responseTopic: "answers", ...(messageExpiryInterval ? { messageExpiryInterval } : {}) },
      });
    await ask("late", 10);
    await ask("in time", 3_600);
    await ask("unhurried");
    await until(() => service.predictor.queue.length === 3);
    const now = performance.now() + 10_000;
    const clock = vi.spyOn(performance, "now").mockReturnValue(now);
    release();
    clock.mockRestore();
    for (const id of ["in time", "unhurried"]) expect((await client.next()).json.id).toBe(id);
    expect(await counter(service, 'edgelabel_ignored_total{reason="expired"}')).toBe(1);
    expect(client.received).toEqual([]);
  });

  test("a response topic outside the allow-list is told in the log once, and not shown, since it may hold a text", async () => {
    await service.stop();
    const log = recordingLog();
    service = fakeService({ access: { url: broker.url }, responses: { allow: ["answers/#"], deny: [] }, log });
    await service.start();
    await client.subscribe("#");
    const correlationData = Buffer.from("c-7");
    for (const responseTopic of ["zigbee2mqtt/lamp/set", "zigbee2mqtt/door/set"])
      await client.publish(topics.classify, "win", { properties: { responseTopic, correlationData } });
    await client.publish(topics.classify, "win", { properties: { responseTopic: "answers/1" } });
    await client.next(({ topic }) => topic === "answers/1");
    expect(client.received.filter(({ topic }) => topic.startsWith("zigbee2mqtt"))).toEqual([]);
    const told = client.received.filter(({ topic }) => topic === topics.label);
    expect(told.map(({ json }) => json)).toEqual(
      Array(2).fill({
        error: {
          code: "bad_request",
          message:
            "the request wants its answer on a topic that may not be used (not_allowed); topics below edgelabel/gate-1/reply/ are free",
        },
      }),
    );
    expect({ ...told[0]!.packet.properties!.userProperties }).toEqual({ status: "400" });
    expect(told[0]!.packet.properties!.correlationData).toEqual(correlationData);
    expect(log.lines.filter((line) => /zigbee2mqtt|wants its answer/.test(line))).toEqual([
      'a request wants its answer on a topic that may not be used (not_allowed); topics below edgelabel/gate-1/reply/ are free, others need "responses": {"allow": [...]} in the configuration file; logged once, then only counted',
    ]);
    expect(await counter(service, 'edgelabel_errors_total{code="bad_request"}')).toBe(2);
  });

  test("where the node's own topic may not be used either, nothing is said, and the request is counted", async () => {
    await service.stop();
    service = fakeService({ access: { url: broker.url }, responses: { allow: [], deny: [`${topics.label}/#`] } });
    await service.start();
    await client.subscribe("#");
    client.received.length = 0;
    for (const properties of [{ responseTopic: "elsewhere" }, {}])
      await client.publish(topics.classify, "win", { properties });
    await until(async () => (await counter(service, 'edgelabel_ignored_total{reason="response_topic_denied"}')) === 2);
    expect((await client.settled()).filter(({ json }) => json?.error || json?.label)).toEqual([]);
  });

  test("JSON without text is labelled as a text, and the log says once what was probably meant", async () => {
    await service.stop();
    const log = recordingLog();
    service = fakeService({ access: { url: broker.url }, log });
    await service.start();
    await client.subscribe(topics.label);
    for (const payload of ['{"Text":"secret win"}', '{"Text":"win"}', '{"tests":["win"]}'])
      expect(
        (await client.publish(topics.classify, payload).then(() => client.next(({ topic }) => topic === topics.label)))
          .json.label,
      ).toBe(payload.includes("win") ? "spam" : "ham");
    expect(log.lines.filter((line) => line.includes("without"))).toEqual([
      'a request is a JSON object without "text" or "texts", so all of it was labelled as a text; did its sender mean "text"? Names are in lower case; logged once',
    ]);
    expect(log.lines.join()).not.toContain("secret");
  });

  test("10,000 generated response topics: nothing is published outside the allow-list", async () => {
    await service.stop();
    service = fakeService({
      access: { url: broker.url },
      responses: { allow: ["answers/+/out"], deny: ["answers/secret/out"] },
      limits: { ...limits, queuedAnswers: 20_000 },
    });
    await service.start();
    await client.subscribe("#");
    const level = fc.oneof(
      fc.constantFrom(
        "answers",
        "out",
        "secret",
        "edgelabel",
        "gate-1",
        "gate-2",
        "classify",
        "cmd",
        "reply",
        "label",
        "status",
        "$SYS",
        "$share",
        "#",
        "+",
        "",
        "аnswers",
      ),
      fc.string({ unit: "grapheme", maxLength: 3 }),
      fc.string({ unit: "binary", maxLength: 2 }),
    );
    const chosen = fc.array(level, { minLength: 1, maxLength: 5 }).map((levels) => levels.join("/"));
    const generated = fc.sample(
      fc.oneof(
        { weight: 9, arbitrary: chosen },
        { weight: 1, arbitrary: level.map((middle) => `answers/${middle}/out`) },
      ),
      { numRuns: 10_000, seed: 5 },
    );
    // The broker drops what a subscriber is too slow for, so the sender waits for it now and then.
    for (const [id, replyTo] of generated.entries())
      await client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo }), {
        qos: id % 100 === 99 ? 1 : 0,
      });
    await until(() => service.predictor.queue.length + service["outbox"].length === 0);
    await client.publish(topics.classify, JSON.stringify({ text: "win", id: "end", replyTo: "answers/end/out" }));
    await client.next(({ topic }) => topic === "answers/end/out");
    const published = client.received
      .filter(({ json }) => json?.label !== undefined || json?.error !== undefined)
      .map(({ topic }) => topic);
    expect(published.length).toBeGreaterThan(50);
    const outside = published.filter(
      (topic) =>
        !/^answers\/(?!secret\/)[^/+#]*\/out$/s.test(topic) &&
        !topic.startsWith("edgelabel/gate-1/label") &&
        !topic.startsWith("edgelabel/gate-1/reply/"),
    );
    expect(outside).toEqual([]);
    expect(await counter(service, "edgelabel_broker_connects_total")).toBe(1);
  });
}

describe("embedded broker", () => {
  describe("service, MQTT 3.1.1", () => serviceTests(embedded(4)));
  describe("service, MQTT 5", () => serviceTests(embedded(5)));
  describe("MQTT 5 request and response", () => requestTests(embedded(5)));
});

describe("service that prefers MQTT 5, on a broker that speaks 3.1.1 only", () => {
  test("falls back once and stays there", async () => {
    const broker = await startBroker({ port: 0 });
    const url = await startOld(broker.port);
    const log = recordingLog();
    const service = fakeService({ access: { url }, log });
    await service.start();
    expect(log.lines).toEqual([`connected to ${url} (MQTT 3.1.1)`]);
    service["connection"]["client"]!.stream.destroy();
    await until(() => log.lines.length === 3);
    expect(log.lines[2]).toBe(log.lines[0]);
    await service.stop();
    await broker.close();
  });
});

describeMosquitto("Mosquitto", (binaries) => {
  describe("service, MQTT 3.1.1", () => serviceTests(real(binaries, 4)));
  describe("service, MQTT 5", () => serviceTests(real(binaries, 5)));

  describe("MQTT 5 request and response", () => {
    requestTests(real(binaries, 5));
  });

  describe("programs and limits of its own", () => {
    let broker: Awaited<ReturnType<typeof startMosquitto>>;
    let service: Service;
    let client: TestClient;

    async function begin(lines: string[] = [], protocol?: 4 | 5): Promise<void> {
      broker = await startMosquitto(binaries, { lines });
      service = fakeService({ access: { url: broker.url, protocol } });
      await service.start();
      client = await TestClient.connect(broker.url, 5);
    }

    afterEach(async () => {
      await client.close();
      await service.stop();
      await broker.kill();
    });

    test("mosquitto_rr gets its label, and 5 is taken without being asked for", async () => {
      await begin();
      const args = [
        "-V",
        "5",
        "-h",
        "127.0.0.1",
        "-p",
        String(broker.port),
        "-t",
        topics.classify,
        "-e",
        "answers/rr",
        "-W",
        "30",
      ];
      expect(JSON.parse(await runClient(binaries, "rr", [...args, "-m", "win a prize"]))).toMatchObject({
        label: "spam",
        score: 0.875,
      });
      expect(
        JSON.parse(await runClient(binaries, "rr", [...args, "-q", "1", "-m", '{"text":"hi","id":"q"}'])),
      ).toMatchObject({ id: "q", label: "ham" });
      expect(service["session"]!.protocol).toBe(5);
    });

    test("an answer above the broker's packet limit becomes a small error, without a disconnect", async () => {
      await begin(["max_packet_size 2000"]);
      await client.subscribe("answers");
      const texts = Array<string>(90).fill("win");
      await client.publish(topics.classify, JSON.stringify({ texts, id: "big" }), {
        qos: 1,
        properties: { responseTopic: "answers" },
      });
      expect((await client.next()).json).toMatchObject({ id: "big", error: { code: "too_large" } });
      expect(await counter(service, "edgelabel_broker_connects_total")).toBe(1);
    });

    test.each([
      [5, limits, "the 2000 bytes that the broker takes"],
      [4, { ...limits, answerBytes: 1500 }, 'the 1500 bytes of "limits.answerBytes"'],
    ] as const)(
      "info, announcements and routes above the broker's packet limit are left out, and requests answered (MQTT %s)",
      async (protocol, limits, limit) => {
        broker = await startMosquitto(binaries, { lines: ["max_packet_size 2000"] });
        const labels = Array.from({ length: 300 }, (_, i) => `label ${i}`);
        const log = recordingLog();
        service = fakeService({
          access: { url: broker.url, protocol },
          limits,
          log,
          commands: true,
          models: new Map([["many", { ...fakeModel(), labels }]]),
          announcements: [{ topic: "ha/{node}", payload: "{labels}" }],
          routes: [
            {
              name: "r",
              filter: "in",
              text: [],
              model: "",
              threshold: 0,
              outputs: [
                { topic: "out", payload: "{text} {text}", when: "any", onChange: false, qos: 1, retain: false },
              ],
            },
          ],
        });
        await service.start();
        client = await TestClient.connect(broker.url, protocol);
        await client.subscribe("answers", "out");
        await client.publish("in", "a".repeat(1500));
        await client.publish(`${topics.command}/list/1`, '{"status":"init"}');
        await client.publish("in", "win");
        expect((await client.next()).text).toBe("win win");
        await client.publish(topics.classify, '{"text":"win","replyTo":"answers"}');
        expect((await client.next()).json).toMatchObject({ label: "spam" });
        expect(await counter(service, "edgelabel_broker_connects_total")).toBe(1);
        expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="too_large"}')).toBe(1);
        expect(await counter(service, 'edgelabel_answers_total{fate="refused_by_broker"}')).toBe(0);
        expect(log.lines.filter((line) => line.includes(`a message is larger than ${limit}`))).toHaveLength(1);
      },
    );

    test("on 3.1.1, where no limit is announced, such an answer is given up and the rest goes out", async () => {
      await begin(["max_packet_size 2000"], 4);
      await client.subscribe("answers");
      const texts = Array<string>(90).fill("win");
      await client.publish(topics.classify, JSON.stringify({ texts, id: "big", replyTo: "answers" }));
      await until(async () => (await counter(service, 'edgelabel_answers_total{fate="given_up"}')) >= 2);
      await until(() => service.isReady);
      const connects = await counter(service, "edgelabel_broker_connects_total");
      expect(connects).toBeLessThanOrEqual(4);
      await client.publish(topics.classify, JSON.stringify({ text: "win", id: "small", replyTo: "answers" }));
      expect((await client.next()).json).toMatchObject({ id: "small", label: "spam" });
      // Nothing is left that could end the connection once more.
      await until(() => service["outbox"].length === 0);
      await client.settled();
      expect(await counter(service, "edgelabel_broker_connects_total")).toBe(connects);
    });

    test("a refused subscription is logged and tried again", async () => {
      const log = recordingLog();
      broker = await startMosquitto(binaries, { lines: ["max_connections -1"] });
      client = await TestClient.connect(broker.url, 5);
      service = fakeService({ access: { url: broker.url }, log, topics: { ...topics, classify: "edgelabel/+bad" } });
      void service.start();
      await until(() => log.lines.some((line) => line.includes("refuses the subscription")));
      expect(service.isReady).toBe(false);
    });
  });

  test("wrong credentials are logged in plain words, without the password", async () => {
    const broker = await startMosquitto(binaries, { lines: ["allow_anonymous false"] });
    const log = recordingLog();
    const service = fakeService({
      access: { url: broker.url, username: "u", password: "wrong" },
      log,
      models: new Map([["spam", fakeModel()]]),
    });
    void service.start();
    await until(() => log.lines.length > 0);
    expect(log.lines[0]).toContain("the broker refuses the user name or password");
    expect(log.lines.join()).not.toContain("wrong");
    await service.stop();
    await broker.kill();
  });
});
