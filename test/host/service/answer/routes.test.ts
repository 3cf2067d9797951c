// Routes on a real connection, and what they refuse before there is one.
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker } from "../../../../host/service/broker/broker.ts";
import type { BrokerAccess } from "../../../../host/service/mqtt/connection.ts";
import { checkOutputs } from "../../../../host/service/answer/outputs.ts";
import type { RouteOutput, RouteSettings } from "../../../../host/service/answer/outputs.ts";
import type { Service, ServiceOptions } from "../../../../host/service/service.ts";
import { fill, fillTopic, pointedAt, topicFilter } from "../../../../host/service/answer/template.ts";
import { filterMatches, isTopicFilter, topicsOf } from "../../../../host/service/topics.ts";
import { describeMosquitto, startMosquitto } from "../../../support/mosquitto.ts";
import {
  counter,
  fakeModel,
  fakeService,
  holdQueue,
  limits,
  recordingLog,
  slowModel,
  TestClient,
  topics,
} from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

const output = (given: Partial<RouteOutput> & { topic: string }): RouteOutput => ({
  when: "known",
  onChange: false,
  qos: 1,
  retain: false,
  ...given,
});
const route = (given: Partial<RouteSettings>): RouteSettings => ({
  name: "r",
  filter: "in/+",
  text: [],
  model: "",
  threshold: 0,
  outputs: [output({ topic: "out/{1}" })],
  ...given,
});

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

let broker: Broker;
let service: Service;
let client: TestClient;

async function begin(routes: RouteSettings[], options: Partial<ServiceOptions> = {}): Promise<void> {
  broker = await startBroker({ port: 0 });
  ends.push(() => broker.close());
  service = fakeService({ access: broker.access, routes, ...options });
  await service.start();
  ends.push(() => service.stop());
  client = await TestClient.connect(broker.url, 4);
  ends.push(() => client.close());
  await client.subscribe("out/#");
}

async function nothing(): Promise<void> {
  expect(await client.settled()).toEqual([]);
}

test("a payload that is the text; levels of the topic go on", async () => {
  await begin([route({})]);
  await client.publish("in/7", "win a prize");
  expect(await client.next()).toMatchObject({
    topic: "out/7",
    json: { label: "spam", score: 0.875, model: "spam", version: "1.0.0" },
  });
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="published"}')).toBe(1);
});

test("text by JSON pointer, several fields, template of topic and payload, another model", async () => {
  await begin([
    route({
      text: ["/subject", "/parts/0/te~1xt", "/n"],
      model: "other",
      outputs: [
        output({
          topic: "out/{label}/{/from}",
          payload: {
            who: "{/from}",
            all: "{scores}",
            line: "{label} {score} {/missing}",
            text: "{text}",
            gone: "{/missing}",
            jinja: "{{ value_json.x }}",
            n: 1,
            list: ["{version}", null],
          },
        }),
      ],
    }),
  ]);
  await client.publish("in/7", JSON.stringify({ subject: "win", parts: [{ "te/xt": "now" }], n: 5, from: "+49/1#" }));
  expect(await client.next()).toMatchObject({
    topic: "out/spam/_49_1_",
    json: {
      who: "+49/1#",
      all: { spam: 0.875, ham: 0.125 },
      line: "spam 0.875 ",
      text: "win now 5",
      jinja: "{{ value_json.x }}",
      n: 1,
      list: ["2.0.0", null],
    },
  });
});

test("messages without a text are counted and dropped; the first one is logged", async () => {
  const log = recordingLog();
  await begin([route({ text: ["/text"] })], { log });
  for (const payload of [
    "",
    "[]",
    "null",
    '{"text":{}}',
    '{"text":""}',
    '{"text":[]}',
    '{"text":[{}]}',
    '{"text":[1,256]}',
    '{"text":[1,-1]}',
    '{"txt":"x"}',
    '{"__proto__":{"text":"x"}}',
  ])
    await client.publish("in/7", payload);
  const broken = [
    "no json",
    '{"text":"win"',
    '{"text":"win","t":NaN}',
    `{"text":"win","x":${"[".repeat(6000)}${"]".repeat(6000)}}`,
  ];
  for (const payload of broken) await client.publish("in/7", payload);
  await client.publish("in/end", '{"text":"win"}');
  expect((await client.next()).topic).toBe("out/end");
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="no_text"}')).toBe(11);
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="bad_json"}')).toBe(broken.length);
  expect(log.lines.filter((line) => line.includes("route"))).toEqual(
    ["no_text", "bad_json"].map((fault) => `route "r" drops a message (${fault}); logged once, then only counted`),
  );
});

test("bytes in an array are UTF-8, and several texts in one are joined", async () => {
  await begin([
    route({
      text: ["/unit", "/MESSAGE"],
      outputs: [output({ topic: "out/{1}", payload: { text: "{text}", label: "{label}" } })],
    }),
  ]);
  const seen = async (MESSAGE: unknown) => {
    await client.publish("in/7", JSON.stringify({ unit: "ssh", MESSAGE }));
    return (await client.next()).json;
  };
  expect(await seen([...Buffer.from("you win \u001b[31m\u00e4")])).toEqual({
    text: "ssh you win \u001b[31m\u00e4",
    label: "spam",
  });
  expect(await seen([...Buffer.from("win "), 0xff])).toEqual({ text: "ssh win \ufffd", label: "spam" });
  expect(await seen(["you", "win"])).toEqual({ text: "ssh you win", label: "spam" });
  expect(await seen(["you", [...Buffer.from("win")]])).toEqual({ text: "ssh you win", label: "spam" });
  expect(await seen("")).toEqual({ text: "ssh", label: "ham" });
});

test("a part of the text is not labelled as if it were all", async () => {
  const log = recordingLog();
  await begin([route({ text: ["/unit", "/MESSAGE"] })], { log });
  for (const rest of [
    "",
    ',"MESSAGE":null',
    ',"MESSAGE":true',
    ',"MESSAGE":{"text":"win"}',
    ',"MESSAGE":["win",null]',
    ',"MESSAGE":[300]',
  ])
    await client.publish("in/7", `{"unit":"ssh"${rest}}`);
  await client.publish("in/end", '{"unit":"ssh","MESSAGE":"win"}');
  expect(await client.next()).toMatchObject({ topic: "out/end", json: { label: "spam" } });
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="part_missing"}')).toBe(6);
  expect(log.lines.filter((line) => line.includes("route"))).toEqual([
    'route "r" drops a message (part_missing); logged once, then only counted',
  ]);
});

test("numbers go on with the digits that came, in texts, topics and payloads", async () => {
  await begin([
    route({
      text: ["/sim"],
      outputs: [
        output({
          topic: "out/{/sim}",
          payload: { text: "{text}", sim: "{/sim}", all: "{/all}", line: "t={/all/time}" },
        }),
      ],
    }),
  ]);
  await client.publish(
    "in/7",
    '{"sim":8949123456789012345678,"all":{"time":1700000000123456789,"list":[18446744073709551615,1.5]}}',
  );
  const { topic, text } = await client.next();
  expect(topic).toBe("out/8949123456789012345678");
  expect(text).toBe(
    '{"text":"8949123456789012345678","sim":8949123456789012345678,"all":{"time":1700000000123456789,"list":[18446744073709551615,1.5]},"line":"t=1700000000123456789"}',
  );
});

test("an empty text is unknown, where an output wants to hear of that", async () => {
  await begin([
    route({
      text: ["/a", "/b"],
      outputs: [
        output({ topic: "out/known" }),
        output({
          topic: "out/{1}",
          when: "unknown",
          payload: {
            id: "{/id}",
            text: "{text}",
            label: "{label}",
            score: "{score}",
            scores: "{scores}",
            model: "{model}",
          },
        }),
      ],
    }),
  ]);
  for (const given of ['"a":"","b":null', '"a":" ","b":"\\t"', '"a":null,"b":null']) {
    await client.publish("in/7", `{${given},"id":1}`);
    expect((await client.next()).json).toEqual({ id: 1, text: "", label: null, score: 0, scores: {}, model: "spam" });
  }
  await client.publish("in/7", '{"a":null,"id":2}');
  await client.publish("in/7", '{"a":"win","b":"","id":3}');
  expect((await client.next()).topic).toBe("out/known");
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="no_text"}')).toBe(1);
  expect(await counter(service, 'edgelabel_texts_total{model="spam"}')).toBe(1);
});

test("among: the best of the labels that the message allows", async () => {
  const scores = { "9": 0.2, "10": 0.1, sure: 0.7 };
  const model = {
    ...fakeModel(),
    labels: Object.keys(scores),
    classify: () => ({ label: "sure", score: 0.7, scores }),
  };
  await begin(
    [
      route({
        text: ["/text"],
        among: "/only",
        threshold: 0.15,
        outputs: [output({ topic: "out/7", when: "any", payload: "{label} {score} {scores}" })],
      }),
    ],
    { models: new Map([["m", model]]) },
  );
  const seen = async (only: string) => {
    await client.publish("in/7", `{"text":"x","only":${only}}`);
    return (await client.next()).text;
  };
  expect(await seen("null")).toBe('sure 0.7 {"9":0.2,"10":0.1,"sure":0.7}');
  expect(await seen('["10","9","other"]')).toBe('9 0.2 {"9":0.2,"10":0.1}');
  expect(await seen('["10"]')).toBe(' 0.1 {"10":0.1}');
  expect(await seen('["other"]')).toBe(" 0 {}");
  expect(await seen('"sure"')).toBe(" 0 {}");
});

test("among: a text that the model rejects stays unknown, whichever labels the message allows", async () => {
  const rejecting = { ...fakeModel(), classify: () => ({ label: null, score: 0.6, scores: { spam: 0.6, ham: 0.4 } }) };
  await begin([route({ text: ["/text"], among: "/only", outputs: [output({ topic: "out/7", when: "any" })] })], {
    models: new Map([["m", rejecting]]),
  });
  for (const [only, score] of [
    ['["ham"]', 0.4],
    ["[]", 0.6],
  ] as const) {
    await client.publish("in/7", `{"text":"x","only":${only}}`);
    expect((await client.next()).json).toMatchObject({ label: null, score });
  }
});

test("a value of any depth in a placeholder stops nothing", async () => {
  await begin([route({ text: ["/message"], outputs: [output({ topic: "out/{1}", payload: { from: "{/from}" } })] })]);
  const nested = (levels: number) => `{"message":"hi","from":${"[".repeat(levels)}${"]".repeat(levels)}}`;
  await client.publish("in/deep", nested(6000));
  await client.publish("in/end", nested(60));
  expect(await client.next()).toMatchObject({ topic: "out/end", text: `{"from":${"[".repeat(60)}${"]".repeat(60)}}` });
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="bad_json"}')).toBe(1);
});

test("threshold and labels choose the outputs", async () => {
  await begin([
    route({
      name: "sure",
      filter: "in/sure",
      threshold: 0.9,
      outputs: [
        output({ topic: "out/known" }),
        output({ topic: "out/unknown", when: "unknown" }),
        output({ topic: "out/any", when: "any", payload: "{label}" }),
      ],
    }),
    route({ name: "some", filter: "in/some", outputs: [output({ topic: "out/spam", when: ["spam"] })] }),
  ]);
  await client.publish("in/sure", "win");
  const topicsSeen = [await client.next(), await client.next()];
  expect(topicsSeen.map(({ topic, text }) => [topic, text])).toEqual([
    ["out/unknown", '{"label":null,"score":0.875,"model":"spam","version":"1.0.0"}'],
    ["out/any", ""],
  ]);
  await client.publish("in/some", "hello");
  await client.publish("in/some", "win");
  expect((await client.next()).topic).toBe("out/spam");
  await nothing();
});

test("on change: once a source topic, until the label is another one", async () => {
  await begin([route({ outputs: [output({ topic: "out/{1}", payload: "{label}", onChange: true, retain: true })] })]);
  for (const text of ["win", "win 2", "hello", "hi", "win"]) await client.publish("in/a", text);
  await client.publish("in/b", "win");
  const seen = [];
  while (seen.length < 4) seen.push(await client.next());
  expect(seen.map(({ topic, text }) => `${topic} ${text}`)).toEqual([
    "out/a spam",
    "out/a ham",
    "out/a spam",
    "out/b spam",
  ]);
  await nothing();
  const late = await TestClient.connect(broker.url, 4);
  ends.push(() => late.close());
  await late.subscribe("out/a");
  const kept = await late.next();
  expect([kept.text, kept.packet.retain]).toEqual(["spam", true]);
});

test("a change that could not be published is published with the next message", async () => {
  await begin([route({ outputs: [output({ topic: "out/{1}", payload: "{label} {text}", onChange: true })] })], {
    limits: { ...limits, answerBytes: 20 },
  });
  for (const text of ["win a very large prize", "win 1", "win 2"]) await client.publish("in/a", text);
  expect((await client.next()).text).toBe("spam win 1");
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="too_large"}')).toBe(1);
  await client.publish("in/a", "hi");
  expect((await client.next()).text).toBe("ham hi");
});

test("a message that two routes hear goes through both", async () => {
  await begin([
    route({ name: "a", filter: "in/#", outputs: [output({ topic: "out/a" })] }),
    route({ name: "b", filter: "in/+", model: "other", outputs: [output({ topic: "out/b" })] }),
  ]);
  await client.publish("in/7", "win");
  const seen = [await client.next(), await client.next()];
  expect(seen.map(({ topic, json }) => `${topic} ${json.model}`).sort()).toEqual(["out/a spam", "out/b other"]);
});

test("what a route hears or says is no response topic", async () => {
  await begin([route({})]);
  await client.publish(topics.classify, JSON.stringify({ text: "win", replyTo: "in/7" }));
  await until(async () => (await counter(service, 'edgelabel_errors_total{code="bad_request"}')) === 1);
  await nothing();
});

/** Of messages with QoS 1 that find the queue full none is lost, and requests come in meanwhile. */
async function flood(url: string, protocol: 4 | 5, access: BrokerAccess, disturb = async () => {}): Promise<void> {
  service = fakeService({
    access,
    routes: [route({})],
    models: new Map([["slow", slowModel(3)]]),
    limits: { ...limits, queuedTexts: 20 },
  });
  await service.start();
  ends.push(() => service.stop());
  client = await TestClient.connect(url, protocol);
  ends.push(() => client.close());
  await client.subscribe("out/#", topics.label);
  const other = await TestClient.connect(url, protocol);
  ends.push(() => other.close());
  const sent: Promise<void>[] = [];
  const send = () => void sent.push(other.publish(`in/${sent.length}`, `win ${sent.length}`));
  for (let i = 0; i < 400; i++) send();
  // As many wait until all requests are answered.
  const more = (topic: string) => void (topic.startsWith("out/") && send());
  client.client.on("message", more);
  for (let id = 0; id < 5; id++) {
    await client.publish(topics.classify, JSON.stringify({ text: "win", id }));
    expect((await client.next(({ json }) => json.id === id)).json.label).toBe("spam");
    if (id === 2) await disturb();
  }
  client.client.off("message", more);
  await Promise.all(sent);
  const out = () =>
    new Set(client.received.filter(({ topic }) => topic.startsWith("out/")).map(({ topic }) => topic)).size;
  await until(() => out() === sent.length);
  expect(await counter(service, 'edgelabel_routed_total{route="r",outcome="busy"}')).toBe(0);
  await until(async () => (await counter(service, "edgelabel_routes_waiting")) === 0);
}

test.each([4, 5] as const)(
  "QoS 1 messages that find the queue full wait for their turn, on the embedded broker, on MQTT %i",
  async (protocol) => {
    broker = await startBroker({ port: 0 });
    ends.push(() => broker.close());
    await flood(broker.url, protocol, { ...broker.access, protocol });
  },
);

test("more than the embedded broker's messages may take in bytes is dropped and counted", async () => {
  await begin([route({})], { limits: { ...limits, queuedTexts: 5, queuedBytes: 100_000 } });
  const release = holdQueue(service);
  for (let i = 0; i < 200; i++) void client.publish("in/1", `win ${i} ${"x".repeat(2_000)}`);
  const dropped = () => counter(service, 'edgelabel_routed_total{route="r",outcome="busy"}');
  const waiting = () => counter(service, "edgelabel_routes_waiting");
  await until(async () => service.predictor.queue.length + (await waiting()) + (await dropped()) === 200);
  const kept = 200 - (await dropped());
  expect(kept).toBeGreaterThan(20);
  expect(kept).toBeLessThan(100);
  release();
  await until(() => client.received.length === kept);
});

test("a flood on a route does not keep requests out", async () => {
  await begin([route({})], { limits: { ...limits, queuedTexts: 50 } });
  await client.subscribe(topics.label);
  const release = holdQueue(service);
  for (let i = 0; i < 200; i++) void client.publish("in/flood", `win ${i}`, { qos: 0 });
  await until(async () => (await counter(service, 'edgelabel_routed_total{route="r",outcome="busy"}')) > 50);
  await client.publish(topics.classify, '{"text":"win","id":"x"}');
  await until(() => service.predictor.queue["lines"].size === 2);
  release();
  expect((await client.next(({ json }) => json.id === "x")).json).toMatchObject({ label: "spam" });
});

describeMosquitto("Mosquitto", (binaries) => {
  test.each([4, 5] as const)(
    "QoS 1 messages that find the queue full wait for their turn, on MQTT %i",
    async (protocol) => {
      const { url } = await startMosquitto(binaries);
      await flood(url, protocol, { url, protocol });
    },
  );

  test("what waits when the connection is lost comes again", async () => {
    const { url } = await startMosquitto(binaries);
    await flood(url, 5, { url, protocol: 5 }, async () => {
      service["routing"]!["client"]!.stream.destroy();
      await until(() => !service.isReady);
      await until(() => service.isReady);
    });
  });

  test("two nodes that feed each other stop after one turn; retained messages are no news", async () => {
    const mosquitto = await startMosquitto(binaries);
    ends.push(() => mosquitto.kill());
    const nodes = [
      ["one", "a/in", "b/in"],
      ["two", "b/in", "a/in"],
    ].map(([name, filter, topic]) =>
      fakeService({
        access: { url: mosquitto.url },
        clientId: name!,
        topics: { ...topics, classify: `edgelabel/${name}/classify` },
        routes: [route({ filter: filter!, outputs: [output({ topic: topic!, payload: "win" })] })],
      }),
    );
    const watcher = await TestClient.connect(mosquitto.url, 5);
    ends.push(() => watcher.close());
    await watcher.publish("a/in", "old", { qos: 1, retain: true });
    for (const node of nodes) {
      await node.start();
      ends.push(() => node.stop());
    }
    await watcher.subscribe("b/in");
    await watcher.publish("a/in", "win");
    const { packet } = await watcher.next();
    expect(packet.properties?.userProperties).toEqual({ "edgelabel-route": "gate-1/r" });
    await until(async () => (await counter(nodes[1]!, 'edgelabel_routed_total{route="r",outcome="loop"}')) === 1);
    for (const name of ["one", "two"]) expect(await watcher.settled(`edgelabel/${name}/classify`)).toEqual([]);
    expect(await counter(nodes[0]!, 'edgelabel_routed_total{route="r",outcome="published"}')).toBe(1);
  });
});

describeMosquitto("a group on Mosquitto", (binaries) => {
  test("one worker each takes a message of a route; figures and discovery are every worker's own", async () => {
    const mosquitto = await startMosquitto(binaries);
    ends.push(() => mosquitto.kill());
    client = await TestClient.connect(mosquitto.url, 5);
    ends.push(() => client.close());
    await client.subscribe("out/#", "born/#");
    const workers = ["one", "two"].map((name) =>
      fakeService({
        access: { url: mosquitto.url },
        clientId: name,
        topics: topicsOf("edgelabel", name, "pool"),
        routes: [route({})],
        announcements: [{ topic: "born/{node}", payload: "here", again: { topic: "birth" } }],
      }),
    );
    for (const worker of workers) {
      await worker.start();
      ends.push(() => worker.stop());
    }
    for (let i = 0; i < 20; i++) await client.publish(`in/${i}`, "win");
    const topicsHeard = await Promise.all(
      Array.from({ length: 20 }, async () => (await client.next(({ topic }) => topic.startsWith("out/"))).topic),
    );
    expect(new Set(topicsHeard).size).toBe(20);
    await client.publish("birth", "");
    for (const name of ["one", "one", "two", "two"]) await client.next(({ topic }) => topic === `born/${name}`);
    for (const name of ["one", "two"])
      expect(await client.settled(`edgelabel/${name}/classify`, `edgelabel/${name}/reply`)).toEqual([]);
    for (const worker of workers)
      expect(await counter(worker, 'edgelabel_routed_total{route="r",outcome="published"}')).toBeGreaterThan(5);
  });
});

describe("refused before anything runs", () => {
  test("what a worker of a group cannot do", () => {
    const pooled = topicsOf("edgelabel", "gate-1", "pool");
    expect(() =>
      checkOutputs({ routes: [route({ outputs: [output({ topic: "edgelabel/pool/classify" })] })], topics: pooled }),
    ).toThrow("would be received again through edgelabel/pool/classify/#");
    expect(() =>
      checkOutputs({ routes: [route({ outputs: [output({ topic: "out", onChange: true })] })], topics: pooled }),
    ).toThrow('route "r": "on": "change" needs all messages of a source');
  });

  test.each([
    [route({ outputs: [output({ topic: "in/label" })] }), "its output in/label would be received again through in/+"],
    [
      route({ filter: "in/+/#", outputs: [output({ topic: "in/{1}/label" })] }),
      "would be received again through in/+/#",
    ],
    [route({ outputs: [output({ topic: "{1}/{label}" })] }), "would be received again through in/+"],
    [
      route({ outputs: [output({ topic: "edgelabel/gate-1/classify" })] }),
      "would be received again through edgelabel/gate-1/classify/#",
    ],
    [
      route({ outputs: [output({ topic: "edgelabel/{1}/status" })] }),
      "would be received again through edgelabel/gate-1/status",
    ],
    [
      route({ outputs: [output({ topic: "edgelabel/gate-1/cmd/{1}/1" })] }),
      "would be received again through edgelabel/gate-1/cmd/#",
    ],
    [
      route({ outputs: [output({ topic: "homeassistant/status" })] }),
      "would be received again through homeassistant/status",
    ],
    [route({ filter: "#" }), "covers edgelabel's own topics"],
    [route({ filter: "edgelabel/gate-1/label" }), "covers edgelabel's own topics"],
    [route({ outputs: [output({ topic: "$SYS/x" })] }), "not a topic that can be published to"],
    [route({ outputs: [output({ topic: "a/#" })] }), "not a topic that can be published to"],
    [route({ outputs: [output({ topic: "a/+" })] }), "not a topic that can be published to"],
    [route({ outputs: [output({ topic: "out/{lable}" })] }), "{lable} stands for nothing; known are {label}"],
    [route({ outputs: [output({ topic: "out", payload: "{sha265}" })] }), "{sha265} stands for nothing"],
    [route({ outputs: [output({ topic: "out/{2}" })] }), "topic: {2} stands for nothing; known are {label}"],
    [route({ filter: "in/a", outputs: [output({ topic: "out", payload: "{1}" })] }), "{1} stands for nothing"],
    [route({ outputs: [output({ topic: "out", payload: { a: [{ b: "{nope}" }] } })] }), "{nope} stands for nothing"],
  ])("%#: %j", (bad, message) => {
    expect(() =>
      checkOutputs({
        routes: [bad],
        announcements: [{ topic: "ha/x", payload: {}, again: { topic: "homeassistant/status" } }],
        topics,
      }),
    ).toThrow(message);
  });

  test("two routes that would feed each other", () => {
    const [a, b] = [
      route({ name: "a", filter: "a/+", outputs: [output({ topic: "b/{1}" })] }),
      route({ name: "b", filter: "b/+", outputs: [output({ topic: "a/{1}" })] }),
    ];
    expect(() => checkOutputs({ routes: [a], topics })).not.toThrow();
    expect(() => checkOutputs({ routes: [a, b], topics })).toThrow(
      'route "a": its output b/{1} would be received again through b/+',
    );
  });

  test("two routes of one name", () => {
    expect(() => checkOutputs({ routes: [route({}), route({ filter: "other/+" })], topics })).toThrow(
      'two routes are called "r"',
    );
  });

  test.each([
    [{ topic: "ha/#", payload: "" }, 'announcement ha/#: "ha/#" is not a topic that can be published to'],
    [{ topic: "$SYS/x", payload: "" }, "is not a topic that can be published to"],
    [
      { topic: "ha/x", payload: "", again: { topic: "ha/+" } },
      "announcement ha/x: its output ha/x would be received again through ha/+",
    ],
    [{ topic: "in/{node}", payload: "" }, "would be received again through in/+"],
    [{ topic: "edgelabel/{node}/status", payload: "" }, "would be received again through edgelabel/gate-1/status"],
    [{ topic: "ha/x", payload: "{1}" }, "announcement ha/x: {1} stands for nothing; known are {node}"],
    [{ topic: "ha/x", payload: { a: "{/a}" } }, "{/a} stands for nothing"],
  ])("announcement %#: %j", (bad, message) => {
    expect(() =>
      checkOutputs({ routes: [route({})], announcements: [{ topic: "ok/{node}", payload: "{labels}" }, bad], topics }),
    ).toThrow(message);
  });

  test("no values can make an output topic that its pattern does not cover", () => {
    const level = fc.oneof(
      fc.constantFrom("{label}", "{1}", "{/x}", "a", "a{label}b", "{1}{2}"),
      fc.string({ unit: fc.constantFrom("a", "b", "-"), minLength: 1, maxLength: 3 }),
    );
    const template = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join("/"));
    fc.assert(
      fc.property(
        template,
        fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("$SYS", "#", "+", "a/b", "", null, 7)),
        (pattern, value) => {
          const topic = fillTopic(pattern, () => value);
          if (topic === undefined) return;
          expect(filterMatches(topicFilter(pattern), topic)).toBe(true);
          expect(isTopicFilter(topic) && !/[+#]|^\$/.test(topic)).toBe(true);
        },
      ),
      { numRuns: 5_000 },
    );
  });
});

test("JSON pointers, by the examples of RFC 6901", () => {
  const document = {
    foo: ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
  };
  const cases = [
    ["/foo", ["bar", "baz"]],
    ["/foo/0", "bar"],
    ["/", 0],
    ["/a~1b", 1],
    ["/c%d", 2],
    ["/e^f", 3],
    ["/g|h", 4],
    ["/i\\j", 5],
    ['/k"l', 6],
    ["/ ", 7],
    ["/m~0n", 8],
    ["/foo/2", undefined],
    ["/foo/bar", undefined],
    ["/toString", undefined],
    ["/foo/length", 2],
  ] as const;
  for (const [pointer, value] of cases) expect([pointer, pointedAt(document, pointer)]).toEqual([pointer, value]);
});

test("a whole placeholder keeps its type; keys without a value go", () => {
  const values = (name: string) => ({ n: 1, o: { a: 1 }, none: undefined, nil: null })[name];
  expect(fill({ n: "{n}", o: "{o}", s: "{n}-{o}", none: "{none}", nil: "{nil}" }, values)).toEqual({
    n: 1,
    o: { a: 1 },
    s: '1-{"a":1}',
    none: undefined,
    nil: null,
  });
});
