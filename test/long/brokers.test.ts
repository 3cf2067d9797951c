// What each broker does for the service, of all that it would like: on the embedded one,
// Mosquitto and Artemis, as deploy/brokers.md says, and on any other by
//   EDGELABEL_BROKER=mqtt://host:1883 npx vitest run test/long/brokers.test.ts
// (with EDGELABEL_MQTT_USERNAME and EDGELABEL_MQTT_PASSWORD where it needs them).
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import mqtt from "mqtt";
import type { MqttClient } from "mqtt";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import { startCluster } from "../support/artemis.ts";
import { until } from "../support/wait.ts";
import { tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { fetchArtemis } from "../tools/fetch-artemis.mjs";
import { startWorker } from "./fleet.ts";
import { describeWith } from "./needs.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-brokers-"));
const path = join(folder, "model.wasm");
const WAIT_MS = 6_000;
/** Bytes of the largest text that is tried. */
const LARGE = 900_000;

beforeAll(async () => writeFileSync(path, await tinyDeployable()));
afterAll(() => rmSync(folder, { recursive: true }));

interface Findings {
  protocol: "5" | "3.1.1";
  /** Requests at QoS 0 and 1 are answered on a reply topic. */
  answers: boolean;
  /** A request of 900 KB is answered. */
  large: boolean;
  /** A late subscriber is told the status: by its topic, and by a filter with a wildcard. */
  retained: boolean;
  retainedByWildcard: boolean;
  /** A worker that is killed is said to be offline. */
  lastWill: boolean;
  /** What a worker is asked at QoS 1 while it is away is answered when it is back. */
  keptRequests: boolean;
  /** Workers share requests; otherwise the worker says why not. */
  groups: boolean | string;
}

/** Asks the broker all of it; leaves nothing retained behind. */
async function examine(url: string): Promise<Findings> {
  const node = `probe-${randomBytes(4).toString("hex")}`;
  const group = `${node}-group`;
  const base = `edgelabel/${node}`;
  const start = (...more: string[]) => startWorker(path, "--broker", url, "--node", node, ...more);
  let worker = await start();
  onTestFinished(() => worker.end("SIGKILL"));
  const protocol = /\(MQTT (5|3\.1\.1)\)/.exec(worker.log())![1] as Findings["protocol"];
  const clients: MqttClient[] = [];
  const connect = async () => {
    const client = await mqtt.connectAsync(url, {
      protocolVersion: protocol === "5" ? 5 : 4,
      reconnectPeriod: 0,
      username: process.env["EDGELABEL_MQTT_USERNAME"],
      password: process.env["EDGELABEL_MQTT_PASSWORD"],
    });
    clients.push(client);
    client.on("error", () => {});
    return client;
  };
  /** Whether such a message comes to a client of its own, once `act` is done. */
  const hears = async (filter: string, text: RegExp, act: () => unknown = () => {}) => {
    const client = await connect();
    let isHeard = false;
    client.on("message", (_, payload) => {
      isHeard ||= text.test(payload.toString());
    });
    await client.subscribeAsync(filter, { qos: 1 });
    await act();
    return until(() => isHeard, WAIT_MS).then(
      () => true,
      () => false,
    );
  };
  const requester = await connect();
  const ask = (to: string, id: string, replyTo: string, { text = "play some jazz", qos = 1 as 0 | 1 } = {}) => {
    requester.publish(`edgelabel/${to}/classify`, JSON.stringify({ text, id, replyTo }), { qos });
  };
  const isAnswered = (to: string, id: string, options = {}) =>
    hears(`edgelabel/${to}/reply/${id}`, new RegExp(`"id":"${id}","label"`), () =>
      ask(to, id, `edgelabel/${to}/reply/${id}`, options),
    );

  const answers = (await isAnswered(node, "a", { qos: 0 })) && (await isAnswered(node, "b"));
  const retained = await hears(`${base}/status`, /^online$/);
  const retainedByWildcard = await hears("edgelabel/+/status", /^online$/);
  const large = await isAnswered(node, "c", { text: `${"a ".repeat(LARGE / 2)}jazz` });
  const lastWill = await hears(`${base}/status`, /^offline$/, () => worker.end("SIGKILL"));
  const keptRequests = await hears(`${base}/reply/d`, /"id":"d","label"/, async () => {
    const asker = await connect();
    await asker.publishAsync(
      `${base}/classify`,
      JSON.stringify({ text: "play some jazz", id: "d", replyTo: `${base}/reply/d` }),
      { qos: 1 },
    );
    worker = await start();
  });
  await worker.end("SIGTERM");
  const groups = await start("--group", group).then(
    (joined) => {
      worker = joined;
      return isAnswered(group, "e");
    },
    (error: Error) => error.message,
  );
  await worker.end("SIGTERM");
  for (const topic of ["status", "info"])
    await requester.publishAsync(`${base}/${topic}`, "", { qos: 1, retain: true });
  for (const client of clients) client.end(true);
  return { protocol, answers, large, retained, retainedByWildcard, lastWill, keptRequests, groups };
}

const all: Findings = {
  protocol: "5",
  answers: true,
  large: true,
  retained: true,
  retainedByWildcard: true,
  lastWill: true,
  keptRequests: true,
  groups: true,
};

test("the embedded broker: all but groups, which its worker says, and sessions, which end with it and the service", async () => {
  const broker = await startBroker({ port: 0 });
  onTestFinished(() => broker.close());
  expect(await examine(broker.url)).toEqual({
    ...all,
    keptRequests: false,
    groups: expect.stringContaining("the broker has no shared subscriptions"),
  });
});

describeMosquitto("Mosquitto", (binaries) => {
  test("all of it", async () => {
    expect(await examine((await startMosquitto(binaries)).url)).toEqual(all);
  });
});

describeWith("Artemis", "Artemis", fetchArtemis, (jars) => {
  test("all but the last will, which it keeps while it keeps a session", async () => {
    expect(await examine((await startCluster(jars))[0]!.url)).toEqual({ ...all, lastWill: false });
  }, 240_000);
});

describe.runIf(process.env["EDGELABEL_BROKER"])("$EDGELABEL_BROKER", () => {
  test("answers; the rest is told", async () => {
    const findings = await examine(process.env["EDGELABEL_BROKER"]!);
    process.stdout.write(`${JSON.stringify(findings, null, 2)}\n`);
    expect(findings.answers).toBe(true);
  });
});
