// One group of workers on a cluster of two brokers: a worker and a requester at each. One
// broker is killed in the middle of the load; its clients go to the other one, and all
// requests are answered.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startCluster } from "../support/artemis.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { until } from "../support/wait.ts";
import { samples, tinyDeployable } from "../support/models.ts";
import { fetchArtemis } from "../tools/fetch-artemis.mjs";
import { Requester, startWorker } from "./fleet.ts";
import type { Worker } from "./fleet.ts";
import { describeWith } from "./needs.ts";
import { size } from "./size.ts";

const REQUESTS = size(1_000, 100);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-cluster-"));
const path = join(folder, "model.wasm");
const workers: Worker[] = [];
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

describeWith("a cluster of two brokers", "Artemis", fetchArtemis, (jars) => {
  test("workers and requesters at both; one broker is killed, and nothing stays unanswered", async () => {
    const brokers = await startCluster(jars);
    // Each of a pair starts at its own broker.
    const urls = [brokers, brokers.toReversed()].map((all) => all.map(({ url }) => url));
    workers.push(
      ...(await Promise.all(
        urls.map((each, i) => startWorker(path, "--broker", each.join(), "--group", "pool", "--node", `worker-${i}`)),
      )),
    );
    const requesters = await Promise.all(
      urls.map((each, i) => Requester.connect(each, "edgelabel/pool/classify", `edgelabel/pool/reply/${i}`)),
    );
    await isOne(requesters);

    const texts = Array.from({ length: REQUESTS }, (_, i) => `${samples[i % samples.length]!.text} ${i}`);
    const half = REQUESTS / 2;
    const before = await Promise.all(workers.map((worker) => worker.requests()));
    await Promise.all(requesters.map((requester) => requester.ask(texts.slice(0, half), 0, 60_000)));
    const shares = (await Promise.all(workers.map((worker) => worker.requests()))).map(
      (count, i) => count - before[i]!,
    );
    for (const share of shares) expect(share).toBeGreaterThan(0.3 * REQUESTS);

    const rest = requesters.map((requester) => requester.ask(texts.slice(half), half, 90_000));
    await until(() => requesters.every(({ answers }) => answers.size > half));
    await brokers[0]!.kill();
    const killedAt = Date.now();
    await Promise.all(rest);
    const recoveredMs = Date.now() - killedAt;
    await until(() => workers[0]!.log().includes(`connected to ${brokers[1]!.url}`), 30_000);

    for (const { answers } of requesters) {
      for (const [id, text] of texts.entries()) {
        const { label, score } = classifier.classify(text);
        expect(JSON.parse(answers.get(id)![0]!)).toEqual({ label, score, model: "tiny", version: "1" });
        expect(new Set(answers.get(id)).size).toBe(1);
      }
    }
    const repeated = requesters.map((requester) => requester.repeated.size);
    process.stdout.write(
      `cluster: 2 x ${REQUESTS} requests; shares of the first half ${shares.join(" and ")}; sent again ${repeated.join(" and ")}; the rest answered ${recoveredMs} ms after the kill; 0 unanswered\n`,
    );
    for (const requester of requesters) await requester.close();
  }, 240_000);
});

/** Waits until the brokers have found each other: then both workers get requests of each requester. */
async function isOne(requesters: readonly Requester[]): Promise<void> {
  for (const [i, requester] of requesters.entries()) {
    await until(async () => {
      const before = await Promise.all(workers.map((worker) => worker.requests()));
      await requester.ask(
        Array.from({ length: 8 }, () => "are you there"),
        -8 * (i + 1),
        60_000,
      );
      const after = await Promise.all(workers.map((worker) => worker.requests()));
      for (let id = -8 * (i + 1); id < -8 * i; id++) requester.answers.delete(id);
      return after.every((count, w) => count > before[w]!);
    }, 60_000);
  }
}
