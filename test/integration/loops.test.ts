// Two nodes whose outputs, answers or announcements reach each other go round a bounded
// number of times, on MQTT 5 and where MQTT 3.1.1 carries no mark.
import { afterEach, describe, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import type { RouteSettings } from "../../host/service/answer/routes.ts";
import type { ServiceOptions } from "../../host/service/service.ts";
import { topicsOf } from "../../host/service/topics.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { fakeService, pause, TestClient, until } from "../support/fake.ts";

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

async function node(url: string, protocol: 4 | 5, name: string, options: Partial<ServiceOptions>): Promise<void> {
  const service = fakeService({
    access: { url, protocol },
    topics: topicsOf("edgelabel", name),
    clientId: name,
    ...options,
  });
  await service.start();
  ends.push(() => service.stop());
}

/** How many messages come on the topics of the loop until none has come for a second and a half; it is given up at 1,000, or after `ms`. */
async function rounds(url: string, protocol: 4 | 5, filter: string, first: string, ms = 20_000): Promise<number> {
  const client = await TestClient.connect(url, protocol);
  ends.push(() => client.close());
  await client.subscribe(filter);
  const before = client.received.length;
  await client.publish(first, "win");
  const end = performance.now() + ms;
  for (let last = -1; last !== client.received.length && performance.now() < end && last < 1_000;) {
    last = client.received.length;
    await pause(1_500);
  }
  return client.received.length - before;
}

function loops(start: () => Promise<string>, protocol: 4 | 5): void {
  test("announcements that name each other's topics as `again`", async () => {
    const url = await start();
    await node(url, protocol, "a", { announcements: [{ topic: "say/a", payload: "{id}", again: { topic: "say/b" } }] });
    await node(url, protocol, "b", { announcements: [{ topic: "say/b", payload: "{id}", again: { topic: "say/a" } }] });
    // On MQTT 3.1.1 it goes on, with one a second from each.
    const count = await rounds(url, protocol, "say/+", "say/a", 4_000);
    expect(count).toBeLessThan(protocol === 5 ? 5 : 20);
  });

  test("routes that feed each other", async () => {
    const url = await start();
    await node(url, protocol, "a", { routes: [route("x", "y")] });
    await node(url, protocol, "b", { routes: [route("y", "x")] });
    const count = await rounds(url, protocol, "+", "x");
    expect(count).toBeGreaterThan(1);
    expect(count).toBeLessThan(protocol === 5 ? 3 : 250);
  });

  test("a route whose output is a request that wants its answer back on the route", async () => {
    const url = await start();
    await node(url, protocol, "a", { routes: [route("x", "edgelabel/b/classify", { text: "{text}", replyTo: "x" })] });
    await node(url, protocol, "b", {});
    const count = await rounds(url, protocol, "x", "x");
    expect(count).toBeGreaterThan(1);
    expect(count).toBeLessThan(protocol === 5 ? 3 : 250);
  });
}

describe("embedded broker, MQTT 3.1.1", () =>
  loops(async () => {
    const broker = await startBroker({ port: 0 });
    ends.push(() => broker.close());
    return broker.url;
  }, 4));

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
    client.client.publish("birth", "online", { qos: 0 });
    if (i % 1_000 === 0) await pause(1);
  }
  // What was published because of them has come before this answer.
  await client.publish("edgelabel/a/classify", "win");
  await client.next(({ topic }) => topic === "edgelabel/a/label");
  // The last one is told too, when its second is over.
  await until(() => client.received.length >= 6);
  const seconds = (performance.now() - from) / 1_000;
  expect(client.received.length).toBeLessThanOrEqual(3 * (seconds + 1));
});
