// Two nodes whose outputs, answers or announcements reach each other go round a bounded
// number of times, on MQTT 5 and where MQTT 3.1.1 carries no mark.
import { afterEach, describe, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import type { RouteSettings } from "../../host/service/answer/outputs.ts";
import type { Service, ServiceOptions } from "../../host/service/service.ts";
import { topicsOf } from "../../host/service/topics.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { counter, fakeService, TestClient } from "../support/fake.ts";
import { until } from "../support/wait.ts";

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const route = (filter: string, topic: string, payload?: RouteSettings["outputs"][0]["payload"]): RouteSettings => ({
  name: "r",
  filter,
  text: [],
  model: "",
  threshold: 0,
  outputs: [{ topic, payload, when: "any", onChange: false, qos: 1, retain: false }],
});

async function node(url: string, protocol: 4 | 5, name: string, options: Partial<ServiceOptions>): Promise<Service> {
  const service = fakeService({
    access: { url, protocol },
    topics: topicsOf("edgelabel", name),
    clientId: name,
    ...options,
  });
  await service.start();
  ends.push(() => service.stop());
  return service;
}

/** Hears the topics of the loop; what is retained there is not counted. */
async function listen(url: string, protocol: 4 | 5, filter: string): Promise<TestClient> {
  const client = await TestClient.connect(url, protocol);
  ends.push(() => client.close());
  await client.subscribe(filter);
  await settled(client);
  client.received.length = 0;
  return client;
}

/** What has come when both nodes have answered, twice: what one sends the other is over by then. */
async function settled(client: TestClient): Promise<number> {
  for (const name of ["a", "b", "a", "b"])
    await client.settled(`edgelabel/${name}/classify`, `edgelabel/${name}/reply`);
  return client.received.length;
}

/** How many messages come on the topics of the loop until a node drops one; and after how many seconds. */
async function rounds(url: string, protocol: 4 | 5, filter: string, nodes: Service[]) {
  const client = await listen(url, protocol, filter);
  const since = performance.now();
  await client.publish("x", "win");
  const outcome = protocol === 5 ? "loop" : "repeated";
  const dropped = () =>
    Promise.all(nodes.map((each) => counter(each, `edgelabel_routed_total{route="r",outcome="${outcome}"}`)));
  await until(async () => (await dropped()).some((count) => count > 0));
  return { count: await settled(client), seconds: (performance.now() - since) / 1_000 };
}

/** Without a mark a route takes the same text a hundred times in ten seconds; there are two routes, or two texts. */
const most = (protocol: 4 | 5, seconds: number) => (protocol === 5 ? 2 : 2 + 200 * (1 + Math.ceil(seconds / 10)));

function loops(start: () => Promise<string>, protocol: 4 | 5): void {
  test("announcements that name each other's topics as `again`", async () => {
    const url = await start();
    await node(url, protocol, "a", { announcements: [{ topic: "say/a", payload: "{id}", again: { topic: "say/b" } }] });
    await node(url, protocol, "b", { announcements: [{ topic: "say/b", payload: "{id}", again: { topic: "say/a" } }] });
    const client = await listen(url, protocol, "say/+");
    const since = performance.now();
    await client.publish("say/b", "again");
    // On MQTT 3.1.1 it goes on, with one a second from each.
    await until(() => client.received.length >= (protocol === 5 ? 2 : 5));
    const count = await settled(client);
    const seconds = (performance.now() - since) / 1_000;
    expect(count).toBeLessThanOrEqual(protocol === 5 ? 2 : 1 + 2 * (seconds + 1));
  });

  test("routes that feed each other", async () => {
    const url = await start();
    const nodes = [
      await node(url, protocol, "a", { routes: [route("x", "y")] }),
      await node(url, protocol, "b", { routes: [route("y", "x")] }),
    ];
    const { count, seconds } = await rounds(url, protocol, "+", nodes);
    expect(count).toBeGreaterThan(1);
    expect(count).toBeLessThanOrEqual(most(protocol, seconds));
  });

  test("a route whose output is a request that wants its answer back on the route", async () => {
    const url = await start();
    const nodes = [
      await node(url, protocol, "a", {
        routes: [route("x", "edgelabel/b/classify", { text: "{text}", replyTo: "x" })],
      }),
      await node(url, protocol, "b", {}),
    ];
    const { count, seconds } = await rounds(url, protocol, "x", nodes);
    expect(count).toBeGreaterThan(1);
    expect(count).toBeLessThanOrEqual(most(protocol, seconds));
  });
}

describe("embedded broker", () => {
  const start = async () => {
    const broker = await startBroker({ port: 0 });
    ends.push(() => broker.close());
    return broker.url;
  };
  describe("MQTT 3.1.1", () => loops(start, 4));
  describe("MQTT 5", () => loops(start, 5));
});

describeMosquitto("Mosquitto", (binaries) => {
  describe("MQTT 3.1.1", () => loops(async () => (await startMosquitto(binaries)).url, 4));
  describe("MQTT 5", () => loops(async () => (await startMosquitto(binaries)).url, 5));
});

test("60,000 messages that name `again` make an announcement a second", async () => {
  const broker = await startBroker({ port: 0 });
  ends.push(() => broker.close());
  const announcements = Array.from({ length: 3 }, (_, i) => ({
    topic: `say/${i}`,
    payload: { id: "{id}", filler: "x".repeat(20_000) },
    again: { topic: "birth", payload: "online" },
  }));
  await node(broker.url, 4, "a", { announcements });
  const client = await TestClient.connect(broker.url, 4);
  ends.push(() => client.close());
  await client.subscribe("say/+");
  client.received.length = 0;
  const from = performance.now();
  await client.subscribe("edgelabel/a/label");
  for (let i = 0; i < 60_000; i++) {
    const sent = client.publish("birth", "online", { qos: 0 });
    if (i % 1_000 === 0) await sent;
  }
  // What was published because of them has come before this answer.
  await client.publish("edgelabel/a/classify", "win");
  await client.next(({ topic }) => topic === "edgelabel/a/label");
  // The last one is told too, when its second is over.
  await until(() => client.received.length >= 6);
  const seconds = (performance.now() - from) / 1_000;
  expect(client.received.length).toBeLessThanOrEqual(3 * (seconds + 1));
});
