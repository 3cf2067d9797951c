// Two workers of one group on a real Mosquitto: they split the load, one is lost in
// the middle of it, and requesters who try again miss nothing.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
import { TestClient } from "../support/fake.ts";
import { main } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { samples, tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { Requester, startWorker } from "./fleet.ts";
import type { Worker } from "./fleet.ts";
import { size } from "./size.ts";

const REQUESTS = size(2_000, 200);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-workers-"));
const path = join(folder, "model.wasm");
const workers = new Set<Worker>();
let classifier: Classifier;

beforeAll(async () => {
  const bytes = await tinyDeployable();
  writeFileSync(path, bytes);
  classifier = await Classifier.fromBytes(bytes, path);
});
afterAll(async () => {
  for (const worker of workers) await worker.end("SIGKILL");
  rmSync(folder, { recursive: true });
});

async function work(url: string, node: string): Promise<Worker> {
  const worker = await startWorker(path, "--broker", url, "--group", "pool", "--node", node);
  workers.add(worker);
  return worker;
}

describeMosquitto("a group of workers", (binaries) => {
  test("two split the load; one is stalled and killed; all requests are answered, duplicates with the same bytes", async () => {
    const { url } = await startMosquitto(binaries);
    const [first, second] = await Promise.all([work(url, "worker-1"), work(url, "worker-2")]);
    const watcher = await TestClient.connect(url, 5);
    await watcher.subscribe("edgelabel/+/status", "edgelabel/+/info");
    const infos = await Promise.all(
      [1, 2].map((i) => watcher.next(({ topic }) => topic === `edgelabel/worker-${i}/info`)),
    );
    for (const { json } of infos)
      expect(json.group).toEqual({
        name: "pool",
        classify: "edgelabel/pool/classify",
        from: "edgelabel/pool/from",
        label: "edgelabel/pool/label",
        reply: "edgelabel/pool/reply",
      });

    const texts = Array.from({ length: REQUESTS }, (_, i) => `${samples[i % samples.length]!.text} ${i}`);
    const half = REQUESTS / 2;
    const requester = await Requester.connect([url], "edgelabel/pool/classify", "edgelabel/pool/reply/requester");
    await requester.ask(texts.slice(0, half), 0, 60_000);
    const shares = await Promise.all([first.requests(), second.requests()]);
    expect(shares[0]! + shares[1]!).toBeGreaterThanOrEqual(half);
    for (const share of shares) expect(share).toBeGreaterThan(0.3 * half);

    // Stalled first, so that requests are certainly with it when it dies.
    first.process.kill("SIGSTOP");
    const rest = requester.ask(texts.slice(half), half, 60_000);
    await until(() => requester.answers.size >= half + 20);
    await first.end("SIGKILL");
    await watcher.next(({ topic, text }) => topic === "edgelabel/worker-1/status" && text === "offline");
    await rest;
    expect(requester.repeated.size).toBeGreaterThan(0);

    expect(requester.answers.size).toBe(REQUESTS);
    for (const [id, answers] of requester.answers) {
      const { label, score } = classifier.classify(texts[id]!);
      expect(JSON.parse(answers[0]!)).toEqual({ label, score, model: "tiny", version: "1" });
      expect(new Set(answers).size).toBe(1);
    }
    process.stdout.write(
      `workers: ${REQUESTS} requests; shares of the first half ${shares.join(" and ")}; ${requester.repeated.size} sent again; 0 unanswered\n`,
    );

    // The one that comes back takes its share again, and `ask` needs to know but the group.
    const again = await work(url, "worker-1");
    await requester.ask(texts.slice(0, 40), REQUESTS, 20_000);
    expect(await again.requests()).toBeGreaterThan(0);
    expect(
      execFileSync(process.execPath, [main, "ask", "play some jazz", "--broker", url, "--node", "pool"], {
        encoding: "utf8",
      }),
    ).toMatch(/^music\t/);
    await until(() =>
      watcher.received.some(({ topic, text }) => topic === "edgelabel/worker-1/status" && text === "online"),
    );
    await requester.close();
    await watcher.close();
  });
});
