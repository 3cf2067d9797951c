// The service and the broker are killed in the middle of the load, as a power cut would
// do it, and nobody's request stays without its answer.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
import { pause, until } from "../support/wait.ts";
import { samples, Seeded, tinyDeployable } from "../support/models.ts";
import { describeMosquitto, freePort, startMosquitto } from "../support/mosquitto.ts";
import { Requester, startWorker } from "./fleet.ts";
import type { Worker } from "./fleet.ts";
import { isLong, size } from "./size.ts";

const REQUESTS = size(2_000, 200);
const KILLS = size(20, 3);
const DEADLINE_MS = size(240_000, 60_000);
const TIMEOUT_MS = DEADLINE_MS + 60_000;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-kills-"));
const path = join(folder, "model.wasm");
const texts = Array.from({ length: REQUESTS }, (_, i) => `${samples[i % samples.length]!.text} ${i}`);
const classify = "edgelabel/gate-1/classify";
const reply = "edgelabel/gate-1/reply/requester";
let classifier: Classifier;
let worker: Worker;

beforeAll(async () => {
  const bytes = await tinyDeployable();
  writeFileSync(path, bytes);
  classifier = await Classifier.fromBytes(bytes, path);
});
afterEach(() => worker.end("SIGKILL"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Kills `KILLS` times, at moments that the seed spreads over the answers, and waits for what `restart` does. */
async function killing(requester: Requester, restart: () => Promise<void>): Promise<void> {
  const random = new Seeded(5);
  for (let i = 0; i < KILLS; i++) {
    const after = ((i + random.next()) * REQUESTS) / (KILLS + 1);
    await until(() => requester.answers.size >= after, DEADLINE_MS);
    await restart();
  }
}

/** All are answered, rightly, and those answered twice with the same bytes; how many these are. */
function repeatedAnswers({ answers }: Requester): number {
  expect(answers.size).toBe(REQUESTS);
  for (const [id, each] of answers) {
    const { label, score } = classifier.classify(texts[id]!);
    expect(JSON.parse(each[0]!)).toEqual({ label, score, model: "tiny", version: "1" });
    expect(new Set(each).size).toBe(1);
  }
  return [...answers.values()].filter((each) => each.length > 1).length;
}

describeMosquitto("kills", (binaries) => {
  test(
    "of the service: nothing is unanswered, though nobody asks twice",
    async () => {
      const { url } = await startMosquitto(binaries);
      const start = () => startWorker(path, "--broker", url, "--node", "gate-1");
      worker = await start();
      const requester = await Requester.connect([url], classify, reply);
      const asking = requester.ask(texts, 0, DEADLINE_MS, Infinity);
      await killing(requester, async () => {
        // Stalled first, so that requests are certainly with it when it dies.
        worker.process.kill("SIGSTOP");
        await pause(20);
        await worker.end("SIGKILL");
        worker = await start();
      });
      await asking;
      // What the broker delivers again after the last kill comes before this.
      await requester.ask(["the last one"], REQUESTS, DEADLINE_MS, Infinity);
      requester.answers.delete(REQUESTS);
      const twice = repeatedAnswers(requester);
      expect(requester.repeated.size).toBe(0);
      process.stdout.write(
        `kills: ${KILLS} SIGKILLs of the service in ${REQUESTS} requests: 0 unanswered, ${twice} answered twice with the same bytes\n`,
      );
      await requester.close();
    },
    TIMEOUT_MS,
  );

  test(
    "of the broker: all is answered to those who ask again, and the service is back soon",
    async () => {
      const port = await freePort();
      let broker = await startMosquitto(binaries, { port });
      worker = await startWorker(path, "--broker", broker.url, "--node", "gate-1");
      const requester = await Requester.connect([broker.url], classify, reply);
      const backMs: number[] = [];
      const asking = requester.ask(texts, 0, DEADLINE_MS);
      await killing(requester, async () => {
        await broker.kill();
        await until(async () => !(await worker.isReady()));
        broker = await startMosquitto(binaries, { port });
        const since = Date.now();
        await until(() => worker.isReady(), 60_000);
        backMs.push(Date.now() - since);
      });
      await asking;
      const twice = repeatedAnswers(requester);
      backMs.sort((a, b) => a - b);
      const p95 = backMs[Math.ceil(0.95 * backMs.length) - 1]!;
      process.stdout.write(
        `kills: ${KILLS} SIGKILLs of the broker in ${REQUESTS} requests: 0 unanswered, ${requester.repeated.size} asked again, ${twice} answered twice with the same bytes; the service was back ${backMs[backMs.length >> 1]} ms (median), ${p95} ms (p95) after the broker\n`,
      );
      if (isLong) expect(p95).toBeLessThanOrEqual(5_000);
      await requester.close();
    },
    TIMEOUT_MS,
  );

  test(
    "of a service with its own broker: all is answered to those who ask again",
    async () => {
      const port = await freePort();
      const start = () => startWorker(path, "--port", String(port), "--node", "gate-1");
      worker = await start();
      const requester = await Requester.connect([`mqtt://127.0.0.1:${port}`], classify, reply, 4);
      const asking = requester.ask(texts, 0, DEADLINE_MS);
      await killing(requester, async () => {
        await worker.end("SIGKILL");
        worker = await start();
      });
      await asking;
      const twice = repeatedAnswers(requester);
      process.stdout.write(
        `kills: ${KILLS} SIGKILLs of the service with its own broker in ${REQUESTS} requests: 0 unanswered, ${requester.repeated.size} asked again, ${twice} answered twice with the same bytes\n`,
      );
      await requester.close();
    },
    TIMEOUT_MS,
  );
});
