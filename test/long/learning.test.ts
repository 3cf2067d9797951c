// Answers while the service learns: none lost, none late, none of a model that was not active.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { TestClient, topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { json, LAMPS, serve } from "../support/program.ts";
import { isLong, size } from "./size.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-learns-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

/** A request every so often, on a service that could answer a thousand in that time. */
const EVERY_MS = 5;
const IDLE_MS = size(15_000, 1_000);
const RUNS = size(5, 1);
/** The lamps' phrases again, in so many more rooms. */
const FLOORS = size(50, 1);

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

describeMosquitto("on Mosquitto", (binaries) => {
  test(`${RUNS} runs of learning and undoing, a request every ${EVERY_MS} ms`, async () => {
    const data = Array.from({ length: FLOORS }, (_, floor) =>
      LAMPS.map((line) => (floor ? line.replace("\n", ` on floor ${floor}\n`) : line)),
    ).flat();
    writeFileSync(at("data.tsv"), data.join(""));
    const said = (rooms: readonly string[]) =>
      rooms.flatMap((room) => [
        { label: "on", text: `the ${room} needs everything` },
        { label: "off", text: `the ${room} needs nothing` },
      ]);
    // With texts of the corrections' kind: a hold-out that is all right before could only get worse.
    writeFileSync(
      at("valid.tsv"),
      [
        ...data.filter((_, i) => i % 7 === 0),
        ...said(["office", "cellar", "attic", "garage"]).map(({ label, text }) => `${label}\t${text}\n`),
      ].join(""),
    );
    await json("train", at("data.tsv"), "-o", at("lamps.elb"), "--set", "ngram-buckets=256");
    await json("quantize", at("lamps.elb"), "-o", at("lamps.wasm"));
    const broker = await startMosquitto(binaries, { lines: ["set_tcp_nodelay true"] });
    writeFileSync(
      at("edgelabel.json"),
      JSON.stringify({
        models: ["lamps.wasm"],
        broker: broker.url,
        node: topics.node,
        commands: true,
        learning: { lamps: { training: "lamps.elb", data: "data.tsv", valid: "valid.tsv" } },
      }),
    );
    const service = await serve(["--config", at("edgelabel.json")]);

    const admin = await TestClient.connect(broker.url, 5);
    await admin.subscribe(`${topics.command}/#`, topics.status);
    const requester = await TestClient.connect(broker.url, 5);
    await requester.subscribe(topics.label);
    const sent = new Map<number, { at: number; phase: "idle" | "learning" }>();
    const latencies = { idle: [] as number[], learning: [] as number[] };
    const versions = new Map<string, number>();
    const faults: string[] = [];
    requester.client.on("message", (_topic, payload) => {
      const { id, label, version } = JSON.parse(payload.toString()) as { id: number; label?: string; version: string };
      const request = sent.get(id);
      sent.delete(id);
      if (!request || label === undefined) faults.push(payload.toString());
      else latencies[request.phase].push(performance.now() - request.at);
      versions.set(version, (versions.get(version) ?? 0) + 1);
    });
    let phase: "idle" | "learning" = "idle";
    let id = 0;
    const timer = setInterval(() => {
      sent.set(++id, { at: performance.now(), phase });
      requester.client.publish(
        topics.classify,
        JSON.stringify({ id, text: LAMPS[id % LAMPS.length]!.split("\t")[1] }),
        { qos: 1 },
      );
    }, EVERY_MS);
    await pause(IDLE_MS);

    const command = async (topic: string, args: object) => {
      await admin.publish(`${topics.command}/${topic}`, JSON.stringify({ status: "init", ...args }));
      return (
        await admin.next(
          (message) =>
            message.topic === `${topics.command}/${topic}` && /^(successful|failed)$/.test(message.json?.status),
          120_000,
        )
      ).json;
    };
    const corrections = said(["kitchen", "bedroom", "hall", "garden"]);
    let seconds = 0;
    for (let run = 0; run < RUNS; run++) {
      phase = "learning";
      const report = await command(`learn/${run}`, { corrections });
      expect(report).toMatchObject({ status: "successful", accepted: true, version: "1+1" });
      seconds += report.seconds as number;
      phase = "idle";
      expect(await command(`learn/undo-${run}`, { undo: true })).toMatchObject({ status: "successful" });
    }
    clearInterval(timer);
    await until(() => sent.size === 0);
    expect(faults).toEqual([]);
    expect([...versions.keys()].sort()).toEqual(["1", "1+1"]);
    // The connection stood all the time: nobody ever heard that the service was gone.
    const statuses = admin.received.filter(({ topic }) => topic === topics.status).map(({ text }) => text);
    expect(new Set(statuses)).toEqual(new Set(["online"]));
    expect(service.output()).not.toContain("lost mqtt");

    for (const list of [latencies.idle, latencies.learning]) list.sort((a, b) => a - b);
    const figures = Object.entries(latencies).map(
      ([name, list]) =>
        `${name}: ${list.length} answers, p50 ${quantile(list, 0.5).toFixed(2)} ms, p99 ${quantile(list, 0.99).toFixed(2)} ms`,
    );
    console.log(`${figures.join("; ")}; ${RUNS} runs in ${seconds.toFixed(1)} s`);
    expect(latencies.learning.length).toBeGreaterThan(20);
    if (isLong) expect(quantile(latencies.learning, 0.99)).toBeLessThan(2 * quantile(latencies.idle, 0.99) + 5);
    await admin.close();
    await requester.close();
    await broker.kill();
  }, 600_000);
});
