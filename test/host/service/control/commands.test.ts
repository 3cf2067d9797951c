// Commands over MQTT: statuses, rights, repetition, interruption, parts.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EdgelabelError } from "../../../../host/errors.ts";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker, BrokerSettings } from "../../../../host/service/broker/broker.ts";
import { Commands } from "../../../../host/service/control/commands.ts";
import type { Command } from "../../../../host/service/control/commands.ts";
import { Guard } from "../../../../host/service/answer/guard.ts";
import { Outbox } from "../../../../host/service/mqtt/outbox.ts";
import { Metrics } from "../../../../host/service/metrics.ts";
import type { Incoming } from "../../../../host/service/mqtt/message.ts";
import type { Service } from "../../../../host/service/service.ts";
import { counter, fakeService, limits, recordingLog, TestClient, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

let broker: Broker;
let service: Service;
let client: TestClient;
let log: ReturnType<typeof recordingLog>;
const ends: (() => Promise<unknown>)[] = [];

async function start(settings: Partial<BrokerSettings> = {}): Promise<void> {
  broker = await startBroker({ port: 0, ...settings });
  ends.push(() => broker.close());
  log = recordingLog();
  service = fakeService({ access: broker.access, commands: true, log });
  ends.push(() => service.stop());
}

async function connect(): Promise<void> {
  await service.start();
  client = await TestClient.connect(broker.url, 4);
  ends.push(() => client.close());
  await client.subscribe(`${topics.command}/#`);
}

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const statusOf = (topic: string, status: string) =>
  client.next((message) => message.topic === `${topics.command}/${topic}` && message.json?.status === status);
const command = (topic: string, args: object = {}) =>
  client.publish(`${topics.command}/${topic}`, JSON.stringify({ status: "init", ...args }));

describe("on a broker", () => {
  beforeEach(() => start());

  test("init, executing, successful; the last one is retained", async () => {
    service.commands!.add("double", async ({ args, report }) => {
      report({ step: 1 });
      return { result: 2 * (args["value"] as number) };
    });
    await connect();
    await command("double/a", { value: 21 });
    expect((await statusOf("double/a", "executing")).json).toEqual({ status: "executing" });
    expect((await statusOf("double/a", "executing")).json).toEqual({ status: "executing", step: 1 });
    expect((await statusOf("double/a", "successful")).json).toEqual({ status: "successful", result: 42 });
    const late = await TestClient.connect(broker.url, 4);
    await late.subscribe(`${topics.command}/double/a`);
    const { json, packet } = await late.next();
    expect([json, packet.retain]).toEqual([{ status: "successful", result: 42 }, true]);
    await late.close();
    expect(await counter(service, 'edgelabel_commands_total{verb="double",status="successful"}')).toBe(1);
  });

  test("list tells the models", async () => {
    await connect();
    await command("list/1");
    expect((await statusOf("list/1", "successful")).json.models).toMatchObject([
      { name: "spam", version: "1.0.0", default: true },
      { name: "other", version: "2.0.0", default: false },
    ]);
  });

  test("failures name their reason; an unknown verb names the known ones", async () => {
    service.commands!.add("refuse", async () => {
      throw new EdgelabelError("no room");
    });
    await connect();
    await command("refuse/1");
    expect((await statusOf("refuse/1", "failed")).json).toEqual({ status: "failed", reason: "no room" });
    await command("dance/1");
    expect((await statusOf("dance/1", "failed")).json.reason).toBe(
      "there is no such command here; the commands are list, refuse",
    );
  });

  test("the log tells how a command ended, and why where there is a reason", async () => {
    service.commands!.add("refuse", async () => {
      throw new EdgelabelError("no room");
    });
    service.commands!.add("learn", async () => ({ reason: "" }));
    await connect();
    for (const verb of ["refuse", "learn"]) await command(`${verb}/1`);
    await statusOf("learn/1", "successful");
    expect(log.lines.filter((line) => line.startsWith("command"))).toEqual([
      "command refuse/1 failed: no room",
      "command learn/1 successful",
    ]);
  });

  test("the same id is taken once, until its topic is cleared", async () => {
    let runs = 0;
    service.commands!.add("count", async () => ({ runs: ++runs }));
    await connect();
    for (let i = 0; i < 3; i++) {
      await command("count/1");
      expect((await statusOf("count/1", "successful")).json.runs).toBe(1);
    }
    await client.publish(`${topics.command}/count/1`, "", { qos: 1, retain: true });
    await command("count/1");
    expect((await statusOf("count/1", "successful")).json.runs).toBe(2);
  });

  test("a retained command is not executed; one that a restart interrupted ends as failed, and says so", async () => {
    client = await TestClient.connect(broker.url, 4);
    await client.publish(`${topics.command}/list/old`, '{"status":"init"}', { qos: 1, retain: true });
    await client.publish(`${topics.command}/learn/7`, '{"status":"executing","epoch":3}', { qos: 1, retain: true });
    await client.close();
    await connect();
    expect((await statusOf("learn/7", "failed")).json.reason).toBe("a restart of the service interrupted it");
    await until(async () => (await counter(service, 'edgelabel_ignored_total{reason="retained"}')) === 1);
    await command("list/new");
    await statusOf("list/new", "successful");
    expect(client.received.filter(({ topic, json }) => topic.endsWith("list/old") && json.status !== "init")).toEqual(
      [],
    );
    expect(await counter(service, 'edgelabel_ignored_total{reason="retained"}')).toBe(1);
  });

  test("of a last status that is too large, at least that is said", async () => {
    // Over MQTT 3.1.1, where this limit holds for all messages.
    const access = { ...broker.access, protocol: 4 as const };
    service = fakeService({ access, commands: true, limits: { ...limits, answerBytes: 200 } });
    ends.push(() => service.stop());
    service.commands!.add("evaluate", async ({ report }) => {
      report({ seen: "x".repeat(200) });
      return { confusion: "x".repeat(200) };
    });
    await connect();
    for (let i = 0; i < 2; i++) {
      await command("evaluate/1");
      expect((await statusOf("evaluate/1", "failed")).json.reason).toBe(
        'the status, which is "successful", is larger than the broker takes',
      );
    }
  });

  test("a status that did not reach the broker is sent on the next connection", async () => {
    let finish = () => {};
    service.commands!.add(
      "wait",
      () =>
        new Promise((resolve) => {
          finish = () => resolve({ done: true });
        }),
    );
    await connect();
    await command("wait/1");
    await statusOf("wait/1", "executing");
    const { port } = broker;
    await client.close();
    await broker.close();
    await until(() => !service.isReady);
    finish();
    broker = await startBroker({ port });
    client = await TestClient.connect(broker.url, 4);
    await client.subscribe(`${topics.command}/#`);
    expect((await statusOf("wait/1", "successful")).json.done).toBe(true);
  });

  test("after a failure, what is announced has a new id, or a button would get the remembered status for ever", async () => {
    service = fakeService({
      access: broker.access,
      commands: true,
      announcements: [{ topic: "ha/{node}", payload: "{command}/refuse/{id}" }],
    });
    ends.push(() => service.stop());
    let runs = 0;
    service.commands!.add("refuse", async () => {
      throw new EdgelabelError(`refused ${++runs}`);
    });
    await connect();
    await client.subscribe("ha/+");
    for (const reason of ["refused 1", "refused 2"]) {
      const { text: button } = await client.next(({ topic }) => topic === "ha/gate-1");
      await client.publish(button, '{"status":"init"}');
      expect((await client.next(({ topic, json }) => topic === button && json?.status === "failed")).json.reason).toBe(
        reason,
      );
    }
  });

  test("parts reach the verb that waits for them, in order, and nobody else", async () => {
    const parts: string[] = [];
    let command_: Command | undefined;
    service.commands!.add(
      "gather",
      (given) =>
        new Promise((resolve) => {
          command_ = given;
          given.onPart = async (part, bytes) => {
            parts.push(`${part}=${bytes.toString()}`);
            if (parts.length === 3) resolve({ parts });
          };
        }),
    );
    await connect();
    await client.publish(`${topics.command}/gather/1/0`, "early");
    await command("gather/1");
    await statusOf("gather/1", "executing");
    for (const i of [0, 1, 2]) await client.publish(`${topics.command}/gather/1/${i}`, `part ${i}`);
    expect((await statusOf("gather/1", "successful")).json.parts).toEqual(["0=part 0", "1=part 1", "2=part 2"]);
    expect(command_!.signal.aborted).toBe(false);
    expect(await counter(service, 'edgelabel_ignored_total{reason="unexpected_part"}')).toBe(1);
    for (const topic of ["gather", "gather/1/2/3", "a b/1", "x/"])
      await client.publish(`${topics.command}/${topic}`, '{"status":"init"}');
    await client.publish(`${topics.command}/list/5`, "not json");
    await until(
      async () =>
        (await counter(service, 'edgelabel_ignored_total{reason="bad_command_topic"}')) === 4 &&
        (await counter(service, 'edgelabel_ignored_total{reason="bad_command"}')) === 1,
    );
  });
});

test("a last status that a lost connection took with it is told on the next one, whatever the broker has", async () => {
  const outbox = new Outbox({ answers: 10, bytes: 10_000, states: 10 }, () => {});
  const connect = () => {
    const said: string[] = [];
    outbox.attach({ receiveMaximum: 10, isCongested: false, publish: ({ payload }) => void said.push(payload) });
    return said;
  };
  const commands = new Commands({
    topics,
    metrics: new Metrics(),
    log: recordingLog(),
    guard: new Guard(new Metrics(), recordingLog()),
    outbox,
    onFailed() {},
  });
  commands.add("count", async () => ({ n: 1 }));
  const hear = (status: string, isRetained = false) =>
    commands.onMessage({
      topic: `${topics.command}/count/1`,
      payload: Buffer.from(JSON.stringify({ status })),
      qos: 1,
      isRetained,
      isMarked: false,
      bytes: 20,
      expiresAt: Infinity,
      acknowledge() {},
    } satisfies Incoming);
  const first = connect();
  hear("init");
  const [executing, successful] = ['{"status":"executing"}', '{"status":"successful","n":1}'];
  await until(() => first.length === 2);
  expect(first).toEqual([executing, successful]);
  outbox.detach();
  const second = connect();
  expect(second).toEqual([successful]);
  hear("executing", true);
  expect(second).toEqual([successful, successful]);
});

describe("without a broker", () => {
  let said: [command: string, status: any][];
  let metrics: Metrics;
  let commands: Commands;
  let log: ReturnType<typeof recordingLog>;
  beforeEach(() => {
    said = [];
    log = recordingLog();
    metrics = new Metrics();
    commands = new Commands({
      topics,
      metrics,
      log,
      guard: new Guard(metrics, recordingLog()),
      outbox: {
        publishState: ({ topic, payload }) =>
          void said.push([topic.slice(topics.command.length + 1), JSON.parse(payload)]),
      },
      onFailed() {},
    });
  });
  const hear = (command: string, status = "init") =>
    commands.onMessage({
      topic: `${topics.command}/${command}`,
      payload: Buffer.from(JSON.stringify({ status })),
      qos: 1,
      isRetained: false,
      isMarked: false,
      bytes: 20,
      expiresAt: Infinity,
      acknowledge() {},
    });
  const ended = (command: string) => said.find(([of, { status }]) => of === command && status !== "executing")?.[1];

  test("sixteen run at once, and the next one when one of them is done", async () => {
    const finish: (() => void)[] = [];
    commands.add("wait", () => new Promise((resolve) => void finish.push(() => resolve({}))));
    for (let i = 0; i < 17; i++) hear(`wait/${i}`);
    await until(() => ended("wait/16") !== undefined);
    expect(ended("wait/16")).toEqual({
      status: "failed",
      reason: "too many commands are running; try again when some have finished",
    });
    expect(finish).toHaveLength(16);
    finish[3]!();
    await until(() => ended("wait/3") !== undefined);
    hear("wait/17");
    expect(finish).toHaveLength(17);
    expect(said.filter(([, { status }]) => status === "failed")).toHaveLength(1);
  });

  test("a hundred last statuses are remembered, of those that ended last", async () => {
    let runs = 0;
    commands.add("count", async () => ({ runs: ++runs }));
    for (let i = 0; i < 101; i++) {
      hear(`count/${i}`);
      await until(() => ended(`count/${i}`) !== undefined);
    }
    said.length = 0;
    hear("count/1");
    expect(said).toEqual([["count/1", { status: "successful", runs: 2 }]]);
    hear("count/0");
    await until(() => ended("count/0") !== undefined);
    expect([ended("count/0").runs, runs]).toEqual([102, 102]);
  });

  test("a bug at the end of one that came over HTTP is logged, and the process goes on", async () => {
    commands.add("odd", async () => ({ n: 1n }));
    commands.start("odd", {});
    await until(() => log.lines.some((line) => line.includes("command odd broke off")));
  });

  test("what nobody knows is counted under one name, however many names are tried", async () => {
    for (const verb of ["dance", "sing"]) hear(`${verb}/1`);
    await until(() => ended("sing/1") !== undefined);
    const counts = (await metrics.text()).match(/^edgelabel_commands_total\{.*$/gm);
    expect(counts).toEqual(['edgelabel_commands_total{verb="unknown",status="failed"} 2']);
  });

  test("one that runs is not begun again, and what it says of itself is no command", async () => {
    let begun = 0;
    commands.add("wait", () => {
      begun++;
      return new Promise(() => {});
    });
    hear("wait/1");
    hear("wait/1");
    for (const status of ["executing", "successful", "failed"]) hear("wait/1", status);
    expect([begun, said]).toEqual([1, [["wait/1", { status: "executing" }]]]);
    expect(await metrics.text()).not.toMatch(/^edgelabel_ignored_total\{/m);
  });
});

test("a service without commands hears none", async () => {
  await start();
  service = fakeService({ access: broker.access, clientId: "deaf" });
  ends.push(() => service.stop());
  await connect();
  await command("list/1");
  expect((await client.settled()).map(({ json }) => json.status)).toEqual(["init"]);
  expect(service.commands).toBeUndefined();
});
