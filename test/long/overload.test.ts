// Much more than the service can do, ten times for a minute: it goes on doing what it can, at the
// latency it always had, refuses the rest at once, serves a calm client through a flood of
// others, and is itself again when the flood ends. The model takes about 2 ms a text, and the
// queue is as short as that latency wants it; capacity is measured first, on the same machine.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import mqtt from "mqtt";
import type { MqttClient } from "mqtt";
import * as abi from "../../assembly/abi.ts";
import { packModel } from "../../host/model/pack.ts";
import { topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { dense, embedding, lstm, makeModel, Seeded } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { startWorker } from "./fleet.ts";
import type { Worker } from "./fleet.ts";
import { isLong, size } from "./size.ts";

const OVERLOAD = size(10, 5);
const OVERLOAD_SECONDS = size(60, 3);
const CALM_SECONDS = size(20, 1);
const QUEUED_TEXTS = 8;
const FLOODERS = 9;
/** Who asks before and after the flood; the flood's requesters are 0, the calm one, and up. */
const USUAL = 100;
const TOKENS = 256;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-overload-"));
const path = join(folder, "model.wasm");
const config = join(folder, "edgelabel.json");
const text = Array.from({ length: TOKENS }, (_, i) => `w${i % 50}`).join(" ");
let worker: Worker;
let client: MqttClient;

beforeAll(async () => {
  const random = new Seeded(1);
  const { write } = await makeModel(
    {
      words: Array.from({ length: 50 }, (_, i) => `w${i}`),
      labels: ["no", "yes"],
      name: "slow",
      version: "1",
      tokenizer: { sequenceLength: TOKENS },
      layers: [embedding(64), lstm(256), dense(1, abi.ACTIVATION_SIGMOID)],
    },
    (_, length) => random.floats(length, 0.1),
  );
  writeFileSync(path, await packModel(write("int8")));
  writeFileSync(config, JSON.stringify({ limits: { queuedTexts: QUEUED_TEXTS } }));
});
afterEach(async () => {
  await client.endAsync(true);
  await worker.end("SIGKILL");
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Sent {
  requester: number;
  at: number;
  /** Until its answer came. */
  ms?: number;
  isAnswered?: boolean;
}

const sent: Sent[] = [];
let onAnswer = (_request: Sent) => {};

function send(requester: number): void {
  const id = sent.push({ requester, at: performance.now() }) - 1;
  // The calm requester takes QoS 2, the flood every QoS.
  const qos = requester === 0 ? 2 : ((id % 3) as 0 | 1 | 2);
  client.publish(topics.classify, text, {
    qos,
    properties: { responseTopic: `answers/${requester}`, correlationData: Buffer.from(String(id)) },
  });
}

const allAnswered = () => until(() => sent.every(({ ms }) => ms !== undefined));

/** `window` requests on their way at all times; answers a second. */
async function closedLoop(window: number, seconds: number): Promise<number> {
  let answered = 0;
  const end = performance.now() + 1_000 * seconds;
  onAnswer = ({ requester, isAnswered }) => {
    if (isAnswered) answered++;
    if (performance.now() < end) send(requester);
  };
  for (let i = 0; i < window; i++) send(USUAL);
  await pause(1_000 * seconds);
  onAnswer = () => {};
  await allAnswered();
  return answered / seconds;
}

/** Requests at random times, at these rates a second, from the requesters `firstRequester` on; returns them when all are answered. */
async function openLoop(firstRequester: number, rates: readonly number[], seconds: number): Promise<Sent[]> {
  const random = new Seeded(3);
  const first = sent.length;
  const start = performance.now();
  const gap = (rate: number) => (-1_000 * Math.log(1 - random.next())) / rate;
  const next = rates.map((rate) => start + gap(rate));
  for (let now = start; now < start + 1_000 * seconds; now = performance.now()) {
    for (const [i, rate] of rates.entries()) for (; next[i]! <= now; next[i]! += gap(rate)) send(firstRequester + i);
    await pause(1);
  }
  await allAnswered();
  return sent.slice(first);
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1] ?? NaN;
}

const answeredOf = (requests: readonly Sent[]) => requests.filter(({ isAnswered }) => isAnswered);
const refusedOf = (requests: readonly Sent[]) => requests.filter(({ isAnswered }) => isAnswered === false);
const p99 = (requests: readonly Sent[]) =>
  quantile(
    requests.map(({ ms }) => ms!),
    0.99,
  );

describeMosquitto("overload", (binaries) => {
  test(`${OVERLOAD} times the capacity for ${OVERLOAD_SECONDS} s`, async () => {
    const { url } = await startMosquitto(binaries, {
      lines: ["set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 0"],
    });
    worker = await startWorker(path, "--broker", url, "--node", "gate-1", "--config", config);
    client = await mqtt.connectAsync(url, { protocolVersion: 5 });
    await client.subscribeAsync("answers/+", { qos: 0 });
    client.on("message", (_topic, payload, { properties }) => {
      const request = sent[Number(properties!.correlationData!.toString())]!;
      request.ms = performance.now() - request.at;
      request.isAnswered = payload.includes('"label"');
      onAnswer(request);
    });
    const residentMb = () =>
      Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${worker.process.pid}/status`, "utf8"))![1]) / 1024;

    await closedLoop(4, 1);
    const capacity = await closedLoop(4, size(10, 2));
    const usual = await openLoop(USUAL, [0.7 * capacity], CALM_SECONDS);
    const mb = residentMb();

    // Requester 0 stays calm, at a twentieth of the capacity: below its fair tenth.
    const flood = await openLoop(
      0,
      [0.05 * capacity, ...Array<number>(FLOODERS).fill((OVERLOAD * capacity) / FLOODERS)],
      OVERLOAD_SECONDS,
    );
    const offered = flood.length / OVERLOAD_SECONDS / capacity;
    const grownMb = residentMb() - mb;
    // Two seconds, and all must be as it was.
    await pause(2_000);
    const after = await openLoop(USUAL, [0.7 * capacity], CALM_SECONDS);

    const goodput = answeredOf(flood).length / OVERLOAD_SECONDS / capacity;
    const calm = flood.filter(({ requester }) => requester === 0);
    const shares = Array.from(
      { length: FLOODERS },
      (_, i) => answeredOf(flood).filter(({ requester }) => requester === i + 1).length,
    );
    process.stdout.write(
      [
        `overload: capacity ${capacity.toFixed(0)} texts/s; at 0.7 of it p99 ${p99(answeredOf(usual)).toFixed(1)} ms, ${refusedOf(usual).length} of ${usual.length} refused`,
        `  ${offered.toFixed(1)} × for ${OVERLOAD_SECONDS} s: goodput ${(100 * goodput).toFixed(1)} %, accepted p99 ${p99(answeredOf(flood)).toFixed(1)} ms, ${refusedOf(flood).length} refused, p50 ${quantile(
          refusedOf(flood).map(({ ms }) => ms!),
          0.5,
        ).toFixed(1)} p99 ${p99(refusedOf(flood)).toFixed(1)} ms, RSS ${grownMb.toFixed(1)} MB more`,
        `  the calm client: ${refusedOf(calm).length} of ${calm.length} refused, p99 ${p99(answeredOf(calm)).toFixed(1)} ms; the others' answers from ${Math.min(...shares)} to ${Math.max(...shares)}`,
        `  2 s after: p99 ${p99(answeredOf(after)).toFixed(1)} ms, ${refusedOf(after).length} of ${after.length} refused`,
        "",
      ].join("\n"),
    );

    // All got an answer of some kind: no lost connection, no starved keepalive.
    expect(await worker.metric("edgelabel_broker_connects_total")).toBe(1);
    // What it asks for, unless that is more than its share; in the first moments nobody has had anything yet, and all are alike.
    const share = Math.min(calm.length, answeredOf(flood).length / (FLOODERS + 1));
    expect(answeredOf(calm).length).toBeGreaterThanOrEqual((isLong ? 0.99 : 0.8) * share - 2);
    expect(Math.min(...shares)).toBeGreaterThan(0.7 * Math.max(...shares));
    expect(goodput).toBeGreaterThan(isLong ? 0.9 : 0.1);
    if (!isLong) return;
    expect(offered).toBeGreaterThan(0.95 * OVERLOAD);
    expect(p99(answeredOf(flood))).toBeLessThanOrEqual(2 * p99(answeredOf(usual)));
    expect(p99(refusedOf(flood))).toBeLessThanOrEqual(10);
    expect(p99(answeredOf(after))).toBeLessThanOrEqual(1.5 * p99(answeredOf(usual)));
    expect(grownMb).toBeLessThan(32);
  }, 300_000);
});
