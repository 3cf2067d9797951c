// Updates and registries at length: every bit of a manifest, ten thousand bits of a model,
// a crash at every file operation, a hundred swaps under load. `npm run test:long` prints
// the figures.
import { spawnSync } from "node:child_process";
import type { KeyObject } from "node:crypto";
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
import { LiveModels } from "../../host/service/control/live-models.ts";
import { Registry } from "../../host/registry/registry.ts";
import { registryVerbs } from "../../host/service/control/update-verbs.ts";
import { startBroker } from "../../host/service/broker/broker.ts";
import { startHttp } from "../../host/service/http/http.ts";
import { DAY, keysFile, lineOf, MemoryDisk, modelOf, newKey, PowerCut, signed } from "../support/registry.ts";
import type { Signed } from "../support/registry.ts";
import { fakeService, recordingLog, TestClient, topics } from "../support/fake.ts";
import { main, serve } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { Seeded } from "../support/models.ts";
import { isLong, size } from "./size.ts";

const dying = fileURLToPath(new URL("../host/registry/install-and-die.mjs", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "edgelabel-update-"));
const keys = join(root, "keys");
let key: KeyObject;
/** Update v has version v and sequence 10 v + 1. */
let updates: Signed[];

beforeAll(async () => {
  if (!existsSync(main)) throw new Error("build/host/main.js is missing: npm run build");
  key = newKey();
  writeFileSync(keys, keysFile([key]));
  updates = await Promise.all(
    [0, 1, 2, 3, 4].map(async (v) => signed(await modelOf(v, { packed: true }), key, 10 * v + 1)),
  );
});
afterAll(() => rmSync(root, { recursive: true }));

/** Hundreds of them, so without a thread each for the self-test. */
const inMemory = (disk: MemoryDisk) => new Registry("/registry", { keys, disk });

function figure(text: string): void {
  if (isLong) process.stdout.write(`figure: ${text}\n`);
}

describe("what nobody has signed is never accepted", () => {
  let registry: Registry;
  let state: string;

  beforeAll(async () => {
    registry = inMemory(new MemoryDisk());
    await registry.install(updates[2]!.update, "v2");
    state = JSON.stringify(await registry.store.read());
  });

  /** How many of the attempts changed anything, or did not say why they were refused. */
  async function accepted(attempts: Iterable<Buffer>): Promise<{ attempts: number; accepted: number }> {
    const result = { attempts: 0, accepted: 0 };
    for (const update of attempts) {
      result.attempts++;
      const refusal = await registry.install(update, "u").then(
        () => undefined,
        (error: Error) => error,
      );
      if (refusal?.name !== "EdgelabelError") result.accepted++;
    }
    if (JSON.stringify(await registry.store.read()) !== state) result.accepted++;
    return result;
  }

  function* flipped(update: Buffer, bits: Iterable<number>): Generator<Buffer> {
    for (const bit of bits) {
      const changed = Buffer.from(update);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      yield changed;
    }
  }

  test("every bit of the manifest flipped", async () => {
    const { head, update } = updates[3]!;
    const step = size(1, 29);
    const result = await accepted(
      flipped(
        update,
        Array.from({ length: Math.floor((head.length * 8) / step) }, (_, i) => i * step),
      ),
    );
    figure(`manifest bits flipped: ${result.attempts} of ${head.length * 8}, accepted ${result.accepted}`);
    expect(result).toEqual({ attempts: Math.floor((head.length * 8) / step), accepted: 0 });
  }, 300_000);

  test("random bits of the model flipped", async () => {
    const { head, update } = updates[3]!;
    const random = new Seeded(1);
    const count = size(10_000, 200);
    const result = await accepted(
      flipped(
        update,
        Array.from({ length: count }, () => head.length * 8 + random.below((update.length - head.length) * 8)),
      ),
    );
    figure(`model bits flipped: ${result.attempts}, accepted ${result.accepted}`);
    expect(result).toEqual({ attempts: count, accepted: 0 });
  }, 300_000);

  test("cut off at every length of the manifest and many of the model, or longer", async () => {
    const { head, update } = updates[3]!;
    const random = new Seeded(2);
    const lengths = [
      ...Array.from({ length: head.length + 1 }, (_, i) => i),
      ...Array.from({ length: 1000 }, () => head.length + random.below(update.length - head.length)),
    ].filter((_, i) => isLong || i % 13 === 0);
    const longer = [1, 7, 100_000].map((more) => Buffer.concat([update, Buffer.alloc(more)]));
    const result = await accepted([...lengths.map((length) => update.subarray(0, length)), ...longer]);
    figure(`truncations and extensions: ${result.attempts}, accepted ${result.accepted}`);
    expect(result).toEqual({ attempts: lengths.length + 3, accepted: 0 });
  }, 300_000);

  test("replays, mixes, foreign and revoked keys, other engines, expired and future ones", async () => {
    const attempts: Buffer[] = [updates[1]!.update, updates[2]!.update];
    const all = await Promise.all([3, 4, 5, 6].map(async (v) => signed(await modelOf(v), key, 100 + v)));
    for (const a of all) for (const b of all) if (a !== b) attempts.push(Buffer.concat([a.head, b.model]));
    // First line of one, signature of another.
    const lines = all.map(({ head }) => head.toString().split("\n"));
    for (const [i, a] of lines.entries())
      for (const [j, b] of lines.entries())
        if (i !== j) attempts.push(Buffer.concat([Buffer.from(`${a[0]}\n${b[1]}\n`), all[i]!.model]));
    const { model } = updates[3]!;
    for (let i = 0; i < 20; i++) attempts.push((await signed(model, newKey(), 200 + i)).update);
    for (const changes of [
      { abi: 0 },
      { abi: 2 },
      { abi: 2 ** 31 },
      { expires: new Date(0).toISOString() },
      { expires: new Date(Date.now() - 1).toISOString() },
      { signed: new Date(Date.now() + 2 * DAY).toISOString() },
      { version: "2" },
      { bytes: model.length - 1 },
      { bytes: model.length + 1 },
      { digest: "0".repeat(64) },
      { golden: [{ text: "", line: lineOf(1) }] },
    ])
      attempts.push((await signed(model, key, 300, changes)).update);
    const result = await accepted(attempts);
    writeFileSync(keys, keysFile([key], [key]));
    const revoked = await accepted(all.map(({ update }) => update));
    writeFileSync(keys, keysFile([key]));
    figure(
      `replays, mixes, keys, engines, dates: ${result.attempts + revoked.attempts}, accepted ${result.accepted + revoked.accepted}`,
    );
    expect([result.accepted, revoked.accepted]).toEqual([0, 0]);
    // And the right one is.
    expect(
      (await new Registry("/other", { keys, disk: new MemoryDisk() }).install(updates[3]!.update, "v3")).version,
    ).toBe("3");
  });
});

describe("killed at every file operation", () => {
  interface Killed {
    kills: number;
    slowestMs: number;
    after: Record<string, number>;
  }

  function child(...args: string[]): { signal: NodeJS.Signals | null; stdout: string; stderr: string } {
    return spawnSync(process.execPath, [dying, ...args], { encoding: "utf8" });
  }

  /** A registry with versions 1 and 2. */
  async function prepare(): Promise<string> {
    const folder = mkdtempSync(join(root, "r-"));
    const registry = new Registry(folder, { keys });
    for (const v of [1, 2]) await registry.install(updates[v]!.update, `v${v}`);
    return folder;
  }

  /** The version that a service answers with, and how long it took from its start to that answer. */
  async function restart(folder: string): Promise<{ line: string; ms: number }> {
    const start = performance.now();
    const args = ["--registry", folder, "--keys", keys, "--port", "0", "--http", "0", "--node", "n"];
    const serving = await serve(args);
    try {
      const response = await fetch(`${serving.http}/v2/models/spam/infer`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["x"] }] }),
      });
      const { outputs } = (await response.json()) as { outputs: { data: [string | number] }[] };
      return {
        line: `${outputs[0]!.data[0]}\t${Number(outputs[1]!.data[0]).toFixed(6)}`,
        ms: performance.now() - start,
      };
    } finally {
      await serving.end("SIGKILL");
    }
  }

  async function killEverywhere(update: string, allowed: readonly number[]): Promise<Killed> {
    const origin = await prepare();
    const counted = mkdtempSync(join(root, "c-"));
    cpSync(origin, counted, { recursive: true });
    const steps = Number(child(counted, keys, update).stdout);
    expect(steps).toBeGreaterThan(6);
    const result: Killed = { kills: 0, slowestMs: 0, after: {} };
    for (let step = 1; step <= steps; step += size(1, 4)) {
      for (const when of ["before", "after"]) {
        const folder = mkdtempSync(join(root, "k-"));
        cpSync(origin, folder, { recursive: true });
        const { signal, stderr } = child(folder, keys, update, String(step), when);
        expect([step, signal, stderr]).toEqual([step, "SIGKILL", ""]);
        if (isLong) {
          const { line, ms } = await restart(folder);
          const version = allowed.find((v) => lineOf(v) === line);
          expect([step, when, line, version !== undefined]).toEqual([step, when, line, true]);
          result.slowestMs = Math.max(result.slowestMs, ms);
          result.after[version!] = (result.after[version!] ?? 0) + 1;
        } else {
          const found = await new Registry(folder, { keys }).open(
            "spam",
            (_version, reason) => {
              throw new Error(reason);
            },
            "start",
          );
          expect([step, when, allowed.map(String).includes(found!.classifier.version)]).toEqual([step, when, true]);
        }
        expect(
          readdirSync(folder, { recursive: true }).filter((name) => String(name).endsWith(".tmp")).length,
        ).toBeLessThanOrEqual(isLong ? 0 : 1);
        result.kills++;
        rmSync(folder, { recursive: true });
      }
    }
    return result;
  }

  test.each([
    ["install", 3, [2, 3]],
    ["rollback", 0, [1, 2]],
  ] as const)(
    "%s: the service starts on the old model or the new one",
    async (what, version, allowed) => {
      const path = join(root, "v3.update");
      writeFileSync(path, updates[3]!.update);
      const { kills, slowestMs, after } = await killEverywhere(version === 0 ? "rollback" : path, allowed);
      figure(
        `SIGKILL before and after every file operation of ${what}: ${kills} kills, ${kills} restarts on a verified model (by version: ${JSON.stringify(after)}), slowest ${Math.round(slowestMs)} ms from start to first answer`,
      );
      if (isLong) expect(slowestMs).toBeLessThan(2_000);
    },
    600_000,
  );

  test("the power cut at every operation, with all that was not synced lost, kept, cut short or zeroed at random", async () => {
    const counts: Record<string, number> = {};
    for (const [what, work, allowed] of [
      ["install", (on: Registry) => on.install(updates[3]!.update, "v3"), ["2", "3"]],
      ["rollback", (on: Registry) => on.rollback("spam"), ["2", "1"]],
    ] as const) {
      const prepare = async () => {
        const disk = new MemoryDisk();
        const on = inMemory(disk);
        for (const v of [1, 2]) await on.install(updates[v]!.update, `v${v}`);
        disk.steps = 0;
        return { disk, on: inMemory(disk) };
      };
      const whole = await prepare();
      await work(whole.on);
      for (let k = 1; k <= whole.disk.steps; k++) {
        for (let seed = 0; seed < size(200, 2); seed++) {
          const { disk, on } = await prepare();
          Object.assign(disk, { cutAt: k, completesLast: seed % 2 === 1 });
          await expect(work(on)).rejects.toThrow(PowerCut);
          const found = await inMemory(disk.afterCut(new Seeded(1000 * k + seed))).open(
            "spam",
            (_version, reason) => {
              throw new Error(reason);
            },
            "start",
          );
          expect([what, k, seed, (allowed as readonly string[]).includes(found!.classifier.version)]).toEqual([
            what,
            k,
            seed,
            true,
          ]);
          counts[what] = (counts[what] ?? 0) + 1;
        }
      }
    }
    figure(`simulated power cuts: ${JSON.stringify(counts)}, all on a verified model`);
    expect(Object.keys(counts).length).toBe(2);
  }, 600_000);
});

test("swaps under load: no request fails, and each answer is wholly of one version", async () => {
  const swaps = size(100, 8);
  const registry = new Registry(mkdtempSync(join(root, "s-")), { keys });
  for (const v of [1, 2]) await registry.install(updates[v]!.update, `v${v}`);
  const broker = await startBroker({ port: 0 });
  const live = new LiveModels(registry, recordingLog());
  const service = fakeService({ access: broker.access, models: await live.open(), commands: true });
  live.attach(service);
  for (const [name, verb] of Object.entries(registryVerbs(live, 65_536))) service.commands!.add(name, verb);
  await service.start();
  const http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 100_000, textsPerRequest: 100 });
  const client = await TestClient.connect(broker.url, 4);
  await client.subscribe(`${topics.label}/#`, `${topics.command}/#`);
  const scores = new Map([1, 2, 3, 4].map((v) => [String(v), Number(lineOf(v).split("\t")[1])]));
  const counts = { mqtt: 0, http: 0, failed: 0, mixed: 0, versions: {} as Record<string, number> };
  const latencies: { at: number; ms: number }[] = [];
  const sentAt = new Map<number, number>();
  client.client.on("message", (topic, payload) => {
    if (topic !== topics.label) return;
    const { id, version, results, error } = JSON.parse(payload.toString()) as {
      id: number;
      version: string;
      results?: { score: number }[];
      error?: object;
    };
    latencies.push({ at: performance.now(), ms: performance.now() - sentAt.get(id)! });
    sentAt.delete(id);
    counts.mqtt++;
    counts.versions[version] = (counts.versions[version] ?? 0) + 1;
    if (error) counts.failed++;
    else if (results!.some(({ score }) => score !== scores.get(version))) counts.mixed++;
  });
  let isDone = false;
  let id = 0;
  const texts = Array.from({ length: 16 }, (_, i) => `text ${i}`);
  const mqttLoad = (async () => {
    while (!isDone) {
      sentAt.set(id, performance.now());
      await client.publish(topics.classify, JSON.stringify({ texts, id: id++ }));
    }
  })();
  const httpLoad = (async () => {
    while (!isDone) {
      const response = await fetch(`${http.url}/predict`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: '{"data":"x"}',
      });
      counts.http++;
      if (response.status !== 200 || ((await response.json()) as { label: string }).label !== "spam") counts.failed++;
    }
  })();
  const swapTimes: number[] = [];
  const known = new Set<string>();
  for (let i = 0; i < swaps; i++) {
    const v = 1 + (i % 4);
    const start = performance.now();
    // Every second one is a new update, the others are rollbacks, given as a command.
    if (i % 2 === 0)
      await registry.install((await signed(updates[v]!.model, key, 1000 + i)).update, "u").then(() => live.follow());
    else {
      await client.client.publishAsync(`${topics.command}/rollback/${i}`, '{"status":"init","name":"spam"}', {
        qos: 1,
      });
      await client.next(
        ({ topic, json }) => topic.endsWith(`/rollback/${i}`) && /^(successful|failed)$/.test(json?.status),
      );
    }
    swapTimes.push(performance.now() - start);
    known.add(service.predictor.models.get("spam")!.version);
  }
  isDone = true;
  await Promise.all([mqttLoad, httpLoad]);
  await until(() => sentAt.size === 0);
  const sorted = latencies.map(({ ms }) => ms).sort((a, b) => a - b);
  figure(
    `${swaps} swaps (install with verification and self-test, or rollback; median ${Math.round(swapTimes.sort((a, b) => a - b)[swaps >> 1]!)} ms) under load: ${counts.mqtt} requests of 16 texts over MQTT, ${counts.http} over HTTP, failed ${counts.failed}, mixed ${counts.mixed}, unanswered ${sentAt.size}; p50 ${sorted[sorted.length >> 1]!.toFixed(1)} ms, p99 ${sorted[Math.floor(sorted.length * 0.99)]!.toFixed(1)} ms`,
  );
  expect({ failed: counts.failed, mixed: counts.mixed, unanswered: sentAt.size }).toEqual({
    failed: 0,
    mixed: 0,
    unanswered: 0,
  });
  expect(known.size).toBeGreaterThan(1);
  expect(counts.mqtt).toBeGreaterThan(swaps);
  expect(counts.http).toBeGreaterThan(swaps / 2);
  expect(service.predictor.models.get("spam")).toBeInstanceOf(Classifier);
  await client.close();
  await http.close();
  await live.stop();
  await service.stop();
  await broker.close();
}, 300_000);
