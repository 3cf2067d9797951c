// A registry under a running service: changes from outside and by MQTT commands, and
// versions that fail at work.
import { createHash } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { ModelFile } from "../../../../host/model/file.ts";
import { keyId } from "../../../../host/registry/keys.ts";
import { LiveModels } from "../../../../host/service/control/live-models.ts";
import { Registry } from "../../../../host/registry/registry.ts";
import { sendUpdate } from "../../../../host/service/control/send-update.ts";
import { addVersion } from "../../../../host/registry/state.ts";
import { registryVerbs } from "../../../../host/service/control/update-verbs.ts";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker } from "../../../../host/service/broker/broker.ts";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { Service } from "../../../../host/service/service.ts";
import { counter, fakeModel, fakeService, recordingLog, retained, TestClient, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";
import { keysFile, modelOf, newKey, signed, signedEndless } from "../../../support/registry.ts";
import type { Signed } from "../../../support/registry.ts";

const root = mkdtempSync(join(tmpdir(), "edgelabel-live-"));
const keys = join(root, "keys");
let key: KeyObject;
let updates: Signed[];
let registry: Registry;
let broker: Broker;
let service: Service;
let live: LiveModels;
let log: ReturnType<typeof recordingLog>;
let client: TestClient;
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  key = newKey();
  writeFileSync(keys, keysFile([key]));
  updates = await Promise.all([0, 1, 2, 3].map(async (v) => signed(await modelOf(v), key, v + 1)));
});
afterAll(() => rmSync(root, { recursive: true }));

beforeEach(async () => {
  registry = new Registry(mkdtempSync(join(root, "r-")), { keys });
  await install(1);
  broker = await startBroker({ port: 0 });
  ends.push(() => broker.close());
  await start();
  client = await TestClient.connect(broker.url, 4);
  ends.push(() => client.close());
  await client.subscribe(topics.info, `${topics.label}/#`, `${topics.command}/#`);
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(trialMs?: number): Promise<void> {
  log = recordingLog();
  live = new LiveModels(registry, log, trialMs);
  service = fakeService({
    access: broker.access,
    models: new Map<string, ReturnType<typeof fakeModel>>([...(await live.open()), ["file", fakeModel()]]),
    commands: true,
    log,
  });
  live.attach(service);
  for (const [name, verb] of Object.entries(registryVerbs(live, 65_536))) service.commands!.add(name, verb);
  await service.start();
  const [oneLive, oneService] = [live, service];
  ends.push(() => Promise.all([oneLive.stop(), oneService.stop()]));
}

const install = (version: number) => registry.install(updates[version]!.update, `v${version}`);
const command = (topic: string, args: object = {}) =>
  client.publish(`${topics.command}/${topic}`, JSON.stringify({ status: "init", ...args }));
const ended = async (topic: string) =>
  (
    await client.next(
      (message) => message.topic === `${topics.command}/${topic}` && /^(successful|failed)$/.test(message.json?.status),
    )
  ).json;
const send = (update: Signed, options = {}) =>
  sendUpdate(
    { head: update.head, model: Buffer.from(update.model) },
    { access: broker.access, topics, activate: true, ...options },
  );

async function answeredBy(): Promise<string> {
  await client.publish(topics.classify, "x");
  return (await client.next(({ topic }) => topic === topics.label)).json.version;
}

test("another process installs: answers, info, metrics and KServe follow within seconds, without a restart", async () => {
  const http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 10 });
  ends.push(() => http.close());
  const versions = async () =>
    ((await (await fetch(`${http.url}/v2/models/spam`)).json()) as { versions: string[] }).versions;
  expect([await answeredBy(), await versions()]).toEqual(["1", ["1"]]);
  const { digest } = updates[1]!.manifest;
  expect(await counter(service, `edgelabel_model_info{model="spam",version="1",digest="${digest}"}`)).toBe(1);
  await new Registry(registry.store.folder, { keys }).install(updates[2]!.update, "u");
  const { json } = await client.next(({ topic, json }) => topic === topics.info && json.models[0].version === "2");
  expect(json.models).toMatchObject([
    { name: "spam", digest: updates[2]!.manifest.digest, default: true },
    { name: "file", default: false },
  ]);
  expect([await answeredBy(), await versions()]).toEqual(["2", ["2"]]);
  expect((await fetch(`${http.url}/v2/models/spam/versions/1`)).status).toBe(404);
  const metrics = await service.metrics.text();
  expect(metrics.match(/^edgelabel_model_info\{model="spam".*$/gm)).toEqual([
    `edgelabel_model_info{model="spam",version="2",digest="${updates[2]!.manifest.digest}"} 1`,
  ]);
  expect(log.lines).toContain("model spam is version 2 now");
});

test("a registry that is empty at first: the service waits for its first update, says so, and is ready with it", async () => {
  await Promise.all([live.stop(), service.stop()]);
  registry = new Registry(mkdtempSync(join(root, "r-")), { keys });
  log = recordingLog();
  live = new LiveModels(registry, log);
  service = fakeService({
    access: broker.access,
    models: await live.open(),
    commands: true,
    log,
    announcements: [{ topic: "found/{node}", payload: { model: "{model}", labels: "{labels}" } }],
  });
  live.attach(service);
  for (const [name, verb] of Object.entries(registryVerbs(live, 65_536))) service.commands!.add(name, verb);
  const http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 10 });
  ends.push(() => Promise.all([live.stop(), service.stop(), http.close()]));
  await client.subscribe("found/#", topics.status);
  client.received.length = 0;
  await service.start();
  const get = async (path: string) => {
    const response = await fetch(http.url + path);
    return [response.status, path === "/" ? "" : await response.json()];
  };
  const predict = () =>
    fetch(`${http.url}/predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: '{"data":"x"}',
    });

  expect(
    (await client.next(({ topic, json }) => topic === topics.info && json.models.length === 0)).json.topics.classify,
  ).toBe(topics.classify);
  await client.next(({ topic, text }) => topic === topics.status && text === "online");
  for (const path of ["/readyz", "/v2/health/ready"])
    expect(await get(path)).toEqual([503, { status: "no model is installed yet" }]);
  expect(await get("/healthz")).toEqual([200, { status: "ok" }]);
  expect(await get("/")).toEqual([200, ""]);
  expect((await get("/v2/models/spam/ready"))[0]).toBe(503);
  for (const topic of [topics.classify, `${topics.classify}/spam`]) {
    await client.publish(topic, '{"text":"x","id":1}');
    expect((await client.next(({ topic }) => topic === topics.label)).json).toEqual({
      id: 1,
      error: { code: "no_model", message: "no model is installed here yet; try again when one is" },
    });
  }
  const refused = await predict();
  expect([
    refused.status,
    refused.headers.get("retry-after"),
    ((await refused.json()) as { error: { code: string } }).error.code,
  ]).toEqual([503, "10", "no_model"]);
  expect(await counter(service, 'edgelabel_errors_total{code="no_model"}')).toBe(4);
  await command("list/1");
  expect((await ended("list/1")).models).toEqual([]);

  await send(updates[1]!);
  expect((await client.next(({ topic }) => topic === "found/gate-1")).json).toEqual({
    model: "spam",
    labels: ["ham", "spam"],
  });
  await client.next(({ topic, json }) => topic === topics.info && json.models[0]?.version === "1");
  expect(await answeredBy()).toBe("1");
  expect(await get("/readyz")).toEqual([200, { status: "ready" }]);
  expect((await predict()).status).toBe(200);
});

test("load in parts, list, rollback, activate; each status is true when it is said", async () => {
  expect(await send(updates[2]!)).toMatchObject({
    status: "successful",
    name: "spam",
    version: "2",
    state: "active",
    sequence: 3,
  });
  expect(await answeredBy()).toBe("2");
  await command("rollback/1", { name: "spam" });
  expect(await ended("rollback/1")).toMatchObject({ status: "successful", version: "1", state: "active" });
  expect(await answeredBy()).toBe("1");
  expect(await send(updates[3]!, { activate: false })).toMatchObject({ version: "3", state: "waiting" });
  expect(await answeredBy()).toBe("1");
  const { digest } = updates[3]!.manifest;
  await client.next(
    ({ topic, json }) =>
      topic === topics.info &&
      json.models[0].version === "1" &&
      json.models[0].waiting?.digest === digest &&
      json.models[0].waiting.version === "3",
  );
  await command("activate/1", { name: "spam", version: digest });
  expect(await ended("activate/1")).toMatchObject({ status: "successful", version: "3" });
  await client.next(
    ({ topic, json }) =>
      topic === topics.info && json.models[0].version === "3" && json.models[0].waiting === undefined,
  );
  expect(await answeredBy()).toBe("3");
  await command("list/1");
  expect((await ended("list/1")).models).toMatchObject([
    { version: "3", state: "active" },
    { version: "2", state: "waiting" },
    { version: "1", state: "previous" },
  ]);
  // What was for the sender is not left behind.
  expect(await retained(broker.url, `${topics.command}/load/#`)).toEqual([]);
});

test("a new name is served beside the others; a name that is a file's stays the file's", async () => {
  await send(await signed(await modelOf(2, { name: "new" }), key, 1));
  await client.publish(`${topics.classify}/new`, "x");
  expect((await client.next(({ topic }) => topic === `${topics.label}/new`)).json).toMatchObject({
    model: "new",
    version: "2",
  });
  expect([...service.predictor.models.keys()]).toEqual(["spam", "file", "new"]);
  await expect(send(await signed(await modelOf(2, { name: "file" }), key, 1))).rejects.toThrow(
    "file is a model file that the service was started with",
  );
  await registry.remove("new");
  await until(() => !service.predictor.models.has("new"));
  // Another process knows nothing of the service's files.
  const file = service.predictor.models.get("file");
  await registry.install((await signed(await modelOf(2, { name: "file" }), key, 1)).update, "v");
  await live.follow();
  expect(service.predictor.models.get("file")).toBe(file);
});

test("a version is loaded once, however many ask for it at a time", async () => {
  const opening = vi.spyOn(registry, "open");
  await install(2);
  await Promise.all([live.follow(), live.follow()]);
  expect(opening).toHaveBeenCalledTimes(1);
});

test("refusals say why, before a byte of the model is asked for", async () => {
  for (const [update, reason] of [
    [await signed(updates[2]!.model, newKey(), 9), "is not trusted"],
    [updates[1]!, "has sequence 2, but 2 of spam was installed already"],
    [await signed(updates[2]!.model, key, 9, { abi: 77 }), "engine ABI 77"],
  ] as const)
    await expect(send(update)).rejects.toThrow(reason);
  expect(readdirSync(join(registry.store.folder, "incoming"))).toEqual([]);
  await expect(send(await signed(updates[2]!.model, key, 9, { golden: [{ text: "a", line: "b" }] }))).rejects.toThrow(
    "fails the self-test",
  );
  // The broker keeps nothing of it for ever.
  expect(await retained(broker.url, `${topics.command}/load/+`)).toEqual([]);
  for (const [topic, args, reason] of [
    ["load/1", {}, '"manifest" must be given, as a string'],
    ["load/2", { manifest: "x" }, "its manifest is cut off"],
    ["load/3", { manifest: updates[3]!.head.toString(), activate: 1 }, '"activate" must be true or false'],
    ["rollback/1", { name: 7 }, '"name" must be given'],
    ["rollback/2", { name: "spam" }, "no previous version"],
    ["activate/1", { name: "spam" }, '"version" must be given'],
  ] as const) {
    await command(topic, args);
    const { status, reason: given } = await ended(topic);
    expect([status, given]).toEqual(["failed", expect.stringContaining(reason)]);
  }
  expect(await answeredBy()).toBe("1");
});

test("a token in a broker's URL is not shown", async () => {
  const failure = await send(updates[2]!, { access: { url: "ws://127.0.0.1:1/?token=secret" } }).catch(
    (error: Error) => error.message,
  );
  expect(failure).toBe("cannot reach ws://127.0.0.1:1/?***: connection refused: no broker listens there");
});

test("a load that breaks off goes on where it stopped, after a restart of the service too", async () => {
  const { head, model } = updates[2]!;
  await command("load/1", { manifest: head.toString() });
  await client.next(({ json }) => json?.received === 0);
  await client.publish(`${topics.command}/load/1/0`, Buffer.from(model.subarray(0, 300)));
  await client.next(({ json }) => json?.received === 300);
  await command("load/2", { manifest: head.toString() });
  expect((await ended("load/2")).reason).toBe("another command loads this update already");
  await Promise.all([live.stop(), service.stop()]);
  expect((await ended("load/1")).status).toBe("failed");
  await start();
  await command("load/3", { manifest: head.toString() });
  expect((await client.next(({ json }) => json?.received !== undefined && json.received > 0)).json).toMatchObject({
    received: 300,
    bytes: model.length,
  });
  await client.publish(`${topics.command}/load/3/300`, Buffer.from(model.subarray(300)));
  expect(await ended("load/3")).toMatchObject({ status: "successful", version: "2" });
});

test("parts that are lost, doubled and exchanged: installed bit for bit or refused, never anything else", async () => {
  let attempts = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(5), fc.constantFrom("send", "send", "send", "twice", "garbage")), {
        minLength: 1,
        maxLength: 12,
      }),
      async (script) => {
        const { head, model } = await signed(
          updates[3]!.model,
          key,
          Math.max(...(await registry.versions()).map(({ sequence }) => sequence ?? 0)) + 1,
        );
        const size = Math.ceil(model.length / 6);
        const topic = `load/p${++attempts}`;
        await command(topic, { manifest: head.toString() });
        await client.next(({ topic: from, json }) => from.endsWith(topic) && json?.received === 0);
        for (const [index, how] of [...script, ...Array.from({ length: 6 }, (_, i) => [i, "send"] as const)]) {
          const bytes = Buffer.from(model.subarray(index * size, (index + 1) * size));
          if (how === "garbage") bytes.fill(7);
          for (let n = how === "twice" ? 2 : 1; n > 0; n--)
            await client.publish(`${topics.command}/${topic}/${index * size}`, bytes);
        }
        const { status, reason } = await ended(topic);
        if (status === "failed") expect(reason).toMatch(/is not the one that was signed/);
        else
          expect(
            (await registry.store.readUpdate((await registry.versions())[0]!.id))!.model.equals(Buffer.from(model)),
          ).toBe(true);
        client.received.length = 0;
      },
    ),
    { numRuns: 12 },
  );
});

test("a load that gets nothing is given up, and says where to go on", async () => {
  for (const [name, verb] of Object.entries(registryVerbs(live, 65_536, 1_000))) service.commands!.add(name, verb);
  const { head, model } = updates[2]!;
  await command("load/1", { manifest: head.toString() });
  await client.next(({ json }) => json?.received === 0);
  await client.publish(`${topics.command}/load/1/0`, Buffer.from(model.subarray(0, 200)));
  expect((await ended("load/1")).reason).toBe(
    "nothing arrived for 1 s; load the same update again to resume at byte 200",
  );
});

test("a version has proven itself after a time of quiet, too", async () => {
  await registry.install(updates[2]!.update, "v2");
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const quiet = new LiveModels(registry, log, 500);
  ends.push(() => quiet.stop());
  await quiet.open();
  vi.advanceTimersByTime(499);
  expect((await registry.store.read()).models[0]!.trial).toEqual({ starts: 1 });
  vi.advanceTimersByTime(1);
  vi.useRealTimers();
  await until(async () => (await registry.store.read()).models[0]!.trial === undefined);
});

describe("a version that fails at work", () => {
  const breakModel = () => {
    const model = service.predictor.models.get("spam") as ModelFile;
    model.classify = () => {
      throw new WebAssembly.RuntimeError("unreachable");
    };
  };

  test("is rolled back after three failures among its first answers, and told", async () => {
    // No look at the registry now and then helps it.
    await Promise.all([live.stop(), service.stop()]);
    vi.useFakeTimers({ toFake: ["setInterval"] });
    await start().finally(() => vi.useRealTimers());
    await send(updates[2]!);
    breakModel();
    for (let i = 0; i < 3; i++) await client.publish(topics.classify, "x");
    await until(() => service.predictor.models.get("spam")!.version === "1");
    client.received.length = 0;
    expect(await answeredBy()).toBe("1");
    expect((await registry.versions()).map(({ version, state }) => `${version} ${state}`).sort()).toEqual([
      "1 active",
      "2 failed",
    ]);
    expect(log.lines).toContain("version 2 of model spam failed: 3 of its first 3 answers failed (unreachable)");
    expect(await counter(service, 'edgelabel_model_failures_total{model="spam"}')).toBe(1);
    // A new update, a new chance.
    await send(updates[3]!);
    expect(await answeredBy()).toBe("3");
  });

  test("has proven itself after a hundred answers, and stays then", async () => {
    await send(updates[2]!);
    await client.publish(topics.classify, JSON.stringify({ texts: Array.from({ length: 100 }, () => "x") }));
    await until(async () => (await registry.store.read()).models[0]!.trial === undefined);
    breakModel();
    for (let i = 0; i < 5; i++) await client.publish(topics.classify, "x");
    await until(async () => (await counter(service, 'edgelabel_errors_total{code="internal"}')) === 5);
    expect(service.predictor.models.get("spam")!.version).toBe("2");
  });

  test("has proven itself after a time of quiet, and stays then, too", async () => {
    await Promise.all([live.stop(), service.stop()]);
    await start(300);
    await send(updates[2]!);
    await until(async () => (await registry.store.read()).models[0]!.trial === undefined);
    breakModel();
    for (let i = 0; i < 5; i++) await client.publish(topics.classify, "x");
    await until(async () => (await counter(service, 'edgelabel_errors_total{code="internal"}')) === 5);
    // What a rollback does in the registry would come before this.
    await send(updates[3]!, { activate: false });
    expect((await registry.versions()).map(({ version, state }) => `${version} ${state}`).sort()).toEqual([
      "1 previous",
      "2 active",
      "3 waiting",
    ]);
    expect(service.predictor.models.get("spam")!.version).toBe("2");
  });

  test("by holding code that never ends, and no model: the start falls back to the one before, and counts it", async () => {
    const { head, update, manifest } = signedEndless(updates[2]!.manifest, key, {});
    const id = createHash("sha256").update(head).digest("hex");
    await registry.store.change(
      (state) => {
        const entry = addVersion(state, { id, key: keyId(key), head, manifest }, manifest.signed);
        [entry.active, entry.previous] = [id, entry.active];
      },
      { id, bytes: update },
    );
    await Promise.all([live.stop(), service.stop()]);
    registry = new Registry(registry.store.folder, { keys });
    await start();
    expect(await answeredBy()).toBe("1");
    expect(await counter(service, 'edgelabel_model_failures_total{model="spam"}')).toBe(1);
    expect(log.lines).toContain(
      `version 2 of model spam failed: ${registry.store.updatePath(id)}: holds no model; pack one with: edgelabel pack MODEL.elb -o MODEL.wasm`,
    );
  });

  test("a bad text is no failure of the model", async () => {
    await send(updates[2]!);
    const long = "x".repeat(150_000);
    for (let i = 0; i < 5; i++) await client.publish(topics.classify, long);
    await until(async () => (await counter(service, 'edgelabel_requests_total{transport="mqtt"}')) >= 5);
    expect(service.predictor.models.get("spam")!.version).toBe("2");
  });
});
