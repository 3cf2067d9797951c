// Learning by command: corrections come in over MQTT, the answers change, and change back.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { digestOf, openModel } from "../../../../host/model/file.ts";
import { appendCorrections, readCorrections } from "../../../../host/data/journal.ts";
import { readDataset } from "../../../../host/data/read.ts";
import { waitForLock } from "../../../../host/files/lock.ts";
import { LiveModels } from "../../../../host/service/control/live-models.ts";
import { Registry } from "../../../../host/registry/registry.ts";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import { createLearners, finishWriting, learningVerbs } from "../../../../host/service/control/learning.ts";
import type { LearningSettings } from "../../../../host/service/control/learning.ts";
import { describeMosquitto, startMosquitto } from "../../../support/mosquitto.ts";
import { json, LAMPS, serve } from "../../../support/program.ts";
import { fakeService, limits, recordingLog, TestClient, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

const root = mkdtempSync(join(tmpdir(), "edgelabel-learning-"));
const made = (name: string): string => join(root, name);
/** To compare files: vitest takes half a minute to compare two models byte by byte. */
const digestAt = (path: string): string => digestOf(readFileSync(path));
const ROOMS = ["kitchen", "bedroom", "hall", "garden", "office", "cellar", "attic", "garage"];
const SAID = [
  ["on", "the ROOM needs everything"],
  ["off", "the ROOM needs nothing"],
] as const;
const fixes = SAID.flatMap(([label, phrase]) =>
  ROOMS.slice(0, 4).map((room) => ({ label, text: phrase.replace("ROOM", room) })),
);
/** Of the same kind, never corrected. */
const others = SAID.flatMap(([label, phrase]) =>
  ROOMS.slice(4).map((room) => ({ label, text: phrase.replace("ROOM", room) })),
);
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  writeFileSync(made("data.tsv"), LAMPS.join(""));
  writeFileSync(
    made("valid.tsv"),
    [...LAMPS.filter((_, i) => i % 5 === 0), ...others.map(({ label, text }) => `${label}\t${text}\n`)].join(""),
  );
  await json("train", made("data.tsv"), "-o", made("lamps.elb"), "--set", "ngram-buckets=256");
  await json("quantize", made("lamps.elb"), "-o", made("lamps.wasm"));
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(() => rmSync(root, { recursive: true }));

/** A folder of its own, with fresh copies of what is learnt from. */
function place(): { at: (name: string) => string; settings: LearningSettings } {
  const folder = mkdtempSync(join(root, "p-"));
  const at = (name: string): string => join(folder, name);
  for (const name of ["data.tsv", "valid.tsv", "lamps.elb", "lamps.wasm"]) copyFileSync(made(name), at(name));
  return {
    at,
    settings: { training: at("lamps.elb"), data: [at("data.tsv")], valid: [at("valid.tsv")], newLabels: false },
  };
}

/** A service, not started, whose one model comes from a registry. */
async function serveRegistry(at: (name: string) => string, settings: LearningSettings) {
  const registry = new Registry(at("registry"));
  const original = await registry.adopt(readFileSync(at("lamps.wasm")), "lamps.wasm", { name: "lamps" });
  const broker = await startBroker({ port: 0 });
  ends.push(() => broker.close());
  const live = new LiveModels(registry, recordingLog());
  const service = fakeService({ access: broker.access, models: await live.open(), commands: true });
  ends.push(() => Promise.all([live.stop(), service.stop()]));
  live.attach(service);
  return {
    registry,
    original,
    broker,
    live,
    service,
    learners: createLearners(new Map([["lamps", settings]]), service, new Map(), live),
  };
}

function childPriorities(): number[] {
  const all = execFileSync("ps", ["-A", "-o", "ppid=,nice="], { encoding: "utf8" }).trim().split("\n");
  return all
    .map((line) => line.trim().split(/ +/).map(Number))
    .filter(([parent]) => parent === process.pid)
    .map(([, priority]) => priority!);
}

let asked = 0;
function speakTo(client: TestClient) {
  const ended = async (topic: string) =>
    (
      await client.next(
        (message) =>
          message.topic === `${topics.command}/${topic}` && /^(successful|failed)$/.test(message.json?.status),
        120_000,
      )
    ).json;
  const init = (topic: string, args: object) =>
    client.publish(`${topics.command}/${topic}`, JSON.stringify({ status: "init", ...args }));
  return {
    init,
    ended,
    command: async (topic: string, args: object = {}) => {
      await init(topic, args);
      return ended(topic);
    },
    labels: async (texts: readonly string[]) => {
      await client.publish(topics.classify, JSON.stringify({ texts, id: asked++ }));
      return (await client.next(({ topic }) => topic === topics.label)).json.results.map(
        ({ label }: { label: string }) => label,
      );
    },
  };
}

describeMosquitto("edgelabel serve on Mosquitto", (binaries) => {
  test("learns, keeps what it learnt through a restart, evaluates, and goes back", async () => {
    const broker = await startMosquitto(binaries);
    const { at } = place();
    const learning = { training: "lamps.elb", data: "data.tsv", valid: ["valid.tsv"] };
    writeFileSync(
      at("edgelabel.json"),
      JSON.stringify({
        models: ["lamps.wasm"],
        broker: broker.url,
        node: topics.node,
        commands: true,
        learning: { lamps: learning },
      }),
    );
    const before = ["lamps.elb", "lamps.wasm"].map((name) => digestAt(at(name)));
    const startService = async () => {
      const service = await serve(["--config", at("edgelabel.json")]);
      return async () => {
        expect((await service.end()).code).toBe(0);
        // The texts of people are no matter for the log.
        for (const { text } of fixes) expect(service.output()).not.toContain(text);
      };
    };
    let stop = await startService();
    const client = await TestClient.connect(broker.url, 5);
    await client.subscribe(`${topics.command}/#`, topics.label, topics.info);
    const { command, labels, init, ended } = speakTo(client);
    const truth = [...fixes, ...others].map(({ label }) => label);
    const texts = [...fixes, ...others].map(({ text }) => text);
    const right = (found: string[]): number => found.filter((label, i) => label === truth[i]).length;
    const first = await labels(texts);
    expect(right(first)).toBeLessThan(12);

    await init("learn/one", { corrections: fixes });
    expect((await client.next(({ topic, json }) => topic === `${topics.command}/learn/one` && json.kept)).json).toEqual(
      { status: "executing", kept: 8 },
    );
    expect((await readCorrections(at("lamps.corrections.jsonl"))).map(({ label, text }) => ({ label, text }))).toEqual(
      fixes,
    );
    const report = await ended("learn/one");
    expect(report).toMatchObject({
      status: "successful",
      model: "lamps",
      accepted: true,
      version: "1+1",
      corrections: 8,
      after: { corrected: 8 },
    });
    const learnt = await labels(texts);
    expect(right(learnt)).toBeGreaterThan(12);
    expect(
      (await client.next(({ topic, json }) => topic === topics.info && json.models[0].version === "1+1")).json.models[0]
        .digest,
    ).toBe((await openModel(at("lamps.wasm"))).digest);

    const evaluation = await command("evaluate/one");
    const expected = await json("eval", at("lamps.wasm"), at("valid.tsv"));
    expect(evaluation).toMatchObject({
      status: "successful",
      model: "lamps",
      version: "1+1",
      n: expected.n,
      accuracy: expected.accuracy,
      macro_f1: expected.macro_f1,
    });

    await stop();
    stop = await startService();
    expect(await labels(texts)).toEqual(learnt);
    expect(await command("learn/two")).toMatchObject({
      status: "successful",
      accepted: false,
      version: "1+1",
      reason: "it answers all 8 corrections so already",
    });
    expect(await command("learn/three", { undo: true })).toEqual({
      status: "successful",
      model: "lamps",
      restored: [at("lamps.elb"), at("lamps.wasm")],
    });
    expect(await labels(texts)).toEqual(first);
    expect(["lamps.elb", "lamps.wasm"].map((name) => digestAt(at(name)))).toEqual(before);
    expect(await command("learn/four", { undo: true })).toMatchObject({
      status: "failed",
      reason: expect.stringContaining("there is nothing to undo"),
    });
    await stop();
    await client.close();
    await broker.kill();
  }, 180_000);
});

describe("in a service", () => {
  async function start(textsPerSecond?: number) {
    const { at, settings } = place();
    const broker = await startBroker({ port: 0 });
    ends.push(() => broker.close());
    const service = fakeService({
      access: broker.access,
      models: new Map([
        ["lamps", await openModel(at("lamps.wasm"))],
        ["other", await openModel(at("lamps.wasm"))],
      ]),
      commands: true,
      limits: { ...limits, textsPerSecond },
    });
    ends.push(() => service.stop());
    const learners = createLearners(
      new Map([["lamps", settings]]),
      service,
      new Map([["lamps", at("lamps.wasm")]]),
      undefined,
    );
    for (const [name, verb] of Object.entries(learningVerbs(service, learners))) service.commands!.add(name, verb);
    await service.start();
    return { at, broker, service };
  }

  async function connect(url: string): Promise<TestClient> {
    const client = await TestClient.connect(url, 4);
    ends.push(() => client.close());
    await client.subscribe(`${topics.command}/#`, topics.label);
    return client;
  }

  test("what cannot be learnt is refused before it is kept", async () => {
    const { at, broker } = await start();
    const { command } = speakTo(await connect(broker.url));
    const reasons: [object, string][] = [
      [{ text: "dim it", label: "dim" }, 'the model does not know the label "dim"; it knows off, on'],
      [{ text: "dim it" }, 'correction 1: "text" must be a string, and "label" a string or a list of them'],
      [{ corrections: [fixes[0], { text: " ", label: "on" }] }, "corrections 2: the text is empty"],
      [{ corrections: "on" }, '"corrections" must be an array of objects with "text" and "label"'],
      [{ model: "none", ...fixes[0] }, 'there is no model "none" here; the models are lamps, other'],
      [
        { model: "other", ...fixes[0] },
        'the model other has nothing to learn from here: give "learning" in the configuration file its training form and data',
      ],
      [{}, `there are no corrections for ${at("lamps.elb")}; give some with --corrections`],
    ];
    for (const [i, [args, reason]] of reasons.entries())
      expect(await command(`learn/${i}`, args)).toEqual({ status: "failed", reason });
    expect(existsSync(at("lamps.corrections.jsonl"))).toBe(false);
    expect(
      await command("evaluate/a", {
        model: "other",
        samples: [
          { text: "please light the hall", label: "on" },
          { text: "please light the attic", label: "off" },
        ],
      }),
    ).toMatchObject({ status: "successful", model: "other", n: 2, accuracy: 0.5 });
  });

  test("an evaluation leaves out what of the hold-out is corrected, as learning does", async () => {
    const { at, broker } = await start();
    const { command } = speakTo(await connect(broker.url));
    expect(await command("evaluate/a")).toMatchObject({ status: "successful", n: 18 });
    await appendCorrections(at("lamps.corrections.jsonl"), [others[0]!, fixes[0]!]);
    expect(await command("evaluate/b")).toMatchObject({ status: "successful", n: 17 });
    await appendCorrections(at("lamps.corrections.jsonl"), await readDataset([at("valid.tsv")]));
    expect(await command("evaluate/c")).toEqual({
      status: "failed",
      reason:
        "every held-out text is a correction too, so nothing is left to measure on; the hold-out needs other texts",
    });
  });

  test("an evaluation keeps to the rate of a requester, and waits", async () => {
    const { broker } = await start(64);
    const { command } = speakTo(await connect(broker.url));
    const samples = Array.from({ length: 100 }, () => ({ text: "please light the hall", label: "on" }));
    expect(await command("evaluate/a", { samples })).toMatchObject({ status: "successful", n: 100, accuracy: 1 });
  });

  test("corrections that come while it learns are learnt together by one more run", async () => {
    const { at, broker } = await start();
    const client = await connect(broker.url);
    const { init, ended } = speakTo(client);
    for (const [i, fix] of fixes.entries()) await init(`learn/${i}`, fix);
    // Answers come first, also on a machine with a single core.
    await until(() => childPriorities().includes(constants.priority.PRIORITY_LOW));
    const reports = await Promise.all(fixes.map((_, i) => ended(`learn/${i}`)));
    // Whatever the first run has found in the journal, the second one finds all, and there is no third.
    for (const report of reports.slice(1)) expect(report).toMatchObject({ status: "successful", corrections: 8 });
    expect(reports.slice(2).map(({ seconds }) => seconds)).toEqual(Array(6).fill(reports[1].seconds));
    expect(await readCorrections(at("lamps.corrections.jsonl"))).toHaveLength(8);
    expect((await openModel(at("lamps.wasm"))).version).toBe(reports[1].version);
  }, 180_000);

  test("a stop ends the run and leaves the files as they were", async () => {
    const { at, broker, service } = await start();
    const client = await connect(broker.url);
    await speakTo(client).init("learn/a", { corrections: fixes });
    await client.next(({ json }) => json?.kept === 8);
    await service.stop();
    expect((await client.next(({ json }) => json?.status === "failed")).json).toEqual({
      status: "failed",
      reason: "the service stopped",
    });
    expect(digestAt(at("lamps.wasm"))).toBe(digestAt(made("lamps.wasm")));
    expect(await readCorrections(at("lamps.corrections.jsonl"))).toHaveLength(8);
  });
});

describe("at the next start", () => {
  test("what was half written is whole before the models are opened, unless someone else is at it", async () => {
    const { at, settings } = place();
    const names = ["lamps.elb", "lamps.wasm"];
    for (const name of names) writeFileSync(at(`.${name}.next`), `new ${name}`);
    writeFileSync(at(".lamps.elb.plan"), JSON.stringify(names.map((name) => [`.${name}.next`, name])));
    const learning = new Map([["lamps", settings]]);
    const lock = await waitForLock(at("lamps.elb.lock"));
    const log = recordingLog();
    await finishWriting(learning, log);
    expect(names.map((name) => digestAt(at(name)))).toEqual(names.map((name) => digestAt(made(name))));
    expect(log.lines.join()).toContain(`process ${process.pid} has been learning`);
    await lock.release();
    await finishWriting(learning, log);
    expect(names.map((name) => readFileSync(at(name), "utf8"))).toEqual(["new lamps.elb", "new lamps.wasm"]);
    expect(log.lines.join()).toContain(`it is finished now: ${at("lamps.elb")}, ${at("lamps.wasm")}`);
    expect(existsSync(at(".lamps.elb.plan"))).toBe(false);
  });
});

describe("a model of the registry", () => {
  test("gets what a learning process accepts that outlives the service, once", async () => {
    const { at, settings } = place();
    const { registry, live, service } = await serveRegistry(at, settings);
    writeFileSync(at("fixes.tsv"), fixes.map(({ label, text }) => `${label}\t${text}\n`).join(""));
    const learn = () =>
      json(
        "learn",
        at("lamps.elb"),
        "--corrections",
        at("fixes.tsv"),
        "--data",
        at("data.tsv"),
        "--valid",
        at("valid.tsv"),
        "--registry",
        at("registry"),
        "--name",
        "lamps",
      );
    const states = async () => (await registry.versions()).map(({ version, state }) => `${version} ${state}`);
    const { installed } = await learn();
    expect(installed).toMatchObject({
      name: "lamps",
      version: "1+1",
      state: "active",
      training: digestAt(at("lamps.elb")),
    });
    await live.follow();
    expect([await states(), service.predictor.model("lamps").model.version]).toEqual([
      ["1+1 active", "1 previous"],
      "1+1",
    ]);
    // As after a crash in between: the registry has the new version, the training form is the old one.
    copyFileSync(made("lamps.elb"), at("lamps.elb"));
    expect((await learn()).installed.id).toBe(installed.id);
    expect(await states()).toEqual(["1+1 active", "1 previous"]);
    // Who takes it back has a reason.
    await registry.rollback("lamps");
    expect(await learn()).toMatchObject({ accepted: false, reason: "it answers all 8 corrections so already" });
    expect(await states()).toEqual(["1+1 previous", "1 active"]);
  });

  test("keeps a version that has become active while another one was being learnt; that one waits", async () => {
    const { at, settings } = place();
    // Read when the run has seen which version is active; what it learns from comes after that.
    execFileSync("mkfifo", [at("slow.tsv")]);
    settings.data = [at("slow.tsv")];
    const { registry, original, broker, service, learners } = await serveRegistry(at, settings);
    for (const [name, verb] of Object.entries(learningVerbs(service, learners))) service.commands!.add(name, verb);
    await service.start();
    const client = await TestClient.connect(broker.url, 4);
    ends.push(() => client.close());
    await client.subscribe(`${topics.command}/#`);
    const { init, ended } = speakTo(client);
    await init("learn/a", { corrections: fixes });
    const data = await open(at("slow.tsv"), "w");
    const other = await registry.adopt(readFileSync(made("lamps.elb")), "lamps.elb", { name: "lamps" });
    await data.writeFile(LAMPS.join(""));
    await data.close();
    expect(await ended("learn/a")).toEqual({
      status: "failed",
      reason:
        "another version of lamps has become active meanwhile; what was learnt waits as version 1+1: choose it with the command activate",
    });
    expect((await registry.versions()).map(({ id, version, state }) => [id, version, state])).toEqual([
      [expect.any(String), "1+1", "waiting"],
      [other.id, "1", "active"],
      [original.id, "1", "previous"],
    ]);
    expect(service.predictor.model("lamps").model.digest).toBe(other.digest);
  });
});

test("a model of the registry learns as a version there, which the registry can take back", async () => {
  const { at, settings } = place();
  const { registry, original, broker, live, service, learners } = await serveRegistry(at, settings);
  for (const [name, verb] of Object.entries(learningVerbs(service, learners))) service.commands!.add(name, verb);
  await service.start();
  const client = await TestClient.connect(broker.url, 4);
  ends.push(() => client.close());
  await client.subscribe(`${topics.command}/#`, topics.label);
  const { command, labels } = speakTo(client);
  const texts = fixes.map(({ text }) => text);
  const before = await labels(texts);
  const files = readdirSync(at("."));
  expect(await command("learn/a", { corrections: fixes })).toMatchObject({ status: "successful", version: "1+1" });
  // What is deployed is the registry's alone.
  expect(readdirSync(at(".")).filter((name) => !files.includes(name))).toEqual([
    "lamps.corrections.jsonl",
    "lamps.previous.elb",
  ]);
  expect(await labels(texts)).toEqual(fixes.map(({ label }) => label));
  expect((await registry.versions()).map(({ version, state }) => [version, state])).toEqual([
    ["1+1", "active"],
    ["1", "previous"],
  ]);
  await live.require(await registry.activate("lamps", "1"));
  expect(await command("learn/0", { undo: true })).toMatchObject({
    status: "failed",
    reason: `there is nothing to undo: the active version of lamps was not learnt from ${at("lamps.elb")} as it is now; choose another version with the command activate, and for that file use: edgelabel learn ${at("lamps.elb")} --undo`,
  });
  await live.require(await registry.activate("lamps", "1+1"));
  expect(await command("learn/b", { undo: true })).toMatchObject({ status: "successful" });
  expect(await labels(texts)).toEqual(before);
  expect(service.predictor.models.get("lamps")!.digest).toBe(original.digest);
  expect(digestAt(at("lamps.elb"))).toBe(digestAt(made("lamps.elb")));
  expect(await command("learn/c", { undo: true })).toMatchObject({
    status: "failed",
    reason: expect.stringContaining("there is nothing to undo"),
  });
}, 180_000);
