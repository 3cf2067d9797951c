// A broker that is away for ten minutes while 200 answers a second are owed, compressed: the
// same 120,000 answers, twenty times as fast. "Away" is made by a proxy in the line, in the two
// ways in which a broker goes: first it takes nothing any more while requests still come in (so
// that there are answers to queue), then the line is cut and stays cut. The service's time limit
// for answers is compressed alike.
import { createConnection, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import mqtt from "mqtt";
import { topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { startWorker } from "./fleet.ts";
import type { Worker } from "./fleet.ts";
import { isLong, size } from "./size.ts";

const ANSWERS = size(120_000, 5_000);
const RATE = 4_000;
const QUEUED_ANSWERS = 1_000;
const ANSWER_SECONDS = 3;
const MOST_GROWTH_MB = 16;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-outage-"));
const path = join(folder, "model.wasm");
const config = join(folder, "edgelabel.json");
const text = "play some jazz in the kitchen, please, and not too loud";
let worker: Worker;
let proxy: Proxy;

/** A line to the broker that can be stalled in one direction, or cut. */
class Proxy {
  private readonly server: Server;
  private readonly pairs = new Set<[service: Socket, broker: Socket]>();
  private isCut = false;

  constructor(brokerPort: number) {
    this.server = createServer((service) => {
      if (this.isCut) {
        service.resetAndDestroy();
        return;
      }
      const broker = createConnection(brokerPort, "127.0.0.1");
      const pair: [Socket, Socket] = [service, broker];
      this.pairs.add(pair);
      service.pipe(broker).pipe(service);
      for (const socket of pair) {
        socket.setNoDelay(true);
        socket.on("error", () => {});
        socket.on("close", () => {
          this.pairs.delete(pair);
          for (const each of pair) each.destroy();
        });
      }
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.server.listen(0, "127.0.0.1", resolve);
    });
    return `mqtt://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** What the service sends goes nowhere; what the broker sends still arrives. */
  stall(): void {
    for (const [service, broker] of this.pairs) {
      service.unpipe(broker);
      service.pause();
    }
  }

  cut(): void {
    this.isCut = true;
    for (const [service, broker] of this.pairs) for (const socket of [service, broker]) socket.resetAndDestroy();
  }

  heal(): void {
    this.isCut = false;
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}

beforeAll(async () => {
  writeFileSync(path, await tinyDeployable());
  writeFileSync(config, JSON.stringify({ limits: { queuedAnswers: QUEUED_ANSWERS, answerSeconds: ANSWER_SECONDS } }));
});
afterEach(async () => {
  proxy.close();
  await worker.end("SIGKILL");
});
afterAll(() => rmSync(folder, { recursive: true }));

function residentMb(): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${worker.process.pid}/status`, "utf8"))![1]) / 1024;
}

describeMosquitto("a broker that is away", (binaries) => {
  test(`${ANSWERS} answers that nobody takes: bounded memory, a full queue, and nothing stale afterwards`, async () => {
    const broker = await startMosquitto(binaries, {
      lines: ["set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 0"],
    });
    proxy = new Proxy(broker.port);
    worker = await startWorker(path, "--broker", await proxy.listen(), "--node", "gate-1", "--config", config);
    const client = await mqtt.connectAsync(broker.url, { protocolVersion: 5 });
    const sentAt: number[] = [];
    const answered: { id: number; ageMs: number }[] = [];
    client.on("message", (_topic, payload, { properties }) => {
      const id = Number(properties!.correlationData!.toString());
      // Refusals are no answers.
      if (payload.includes('"label"')) answered.push({ id, ageMs: Date.now() - sentAt[id]! });
    });
    await client.subscribeAsync("answers", { qos: 1 });
    let most = { answers: 0, mb: 0 };
    /** Sends `count` requests at `RATE` a second, nine of ten at QoS 0: more than a window of QoS 1 ones the broker holds back. */
    const send = async (count: number) => {
      const start = Date.now();
      for (let sent = 0; sent < count;) {
        const due = Math.min(count, Math.ceil(((Date.now() - start) * RATE) / 1000));
        for (; sent < due; sent++) {
          const id = sentAt.push(Date.now()) - 1;
          client.publish(topics.classify, text, {
            qos: id % 10 === 0 ? 1 : 0,
            properties: {
              responseTopic: "answers",
              correlationData: Buffer.from(String(id)),
              messageExpiryInterval: ANSWER_SECONDS,
            },
          });
        }
        await pause(5);
        if (Math.floor(sent / 2_000) > Math.floor((sent - RATE / 200) / 2_000)) await look();
      }
    };
    const look = async () => {
      most = {
        answers: Math.max(most.answers, await worker.metric("edgelabel_answers_queued")),
        mb: Math.max(most.mb, residentMb()),
      };
    };
    // Until the heap has the size that this rate takes.
    await send(size(60_000, 4_000));
    await until(async () => answered.length > 0 && (await worker.metric("edgelabel_answers_queued")) === 0);
    await look();
    const before = most.mb;
    answered.length = 0;

    proxy.stall();
    await send(ANSWERS);
    await look();
    const outageMb = most.mb;
    proxy.cut();
    await until(async () => !(await worker.isReady()));
    // Until the answers that wait are too old.
    await pause(1_000 * (ANSWER_SECONDS + 1));
    // Away, it is alive, and answers those who come by another way.
    expect((await fetch(`${worker.http}/healthz`)).status).toBe(200);
    expect(
      (
        await fetch(`${worker.http}/predict`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: '{"data":"play some jazz"}',
        })
      ).status,
    ).toBe(200);

    const early = answered.length;
    proxy.heal();
    await until(() => worker.isReady(), 60_000);
    // It goes on as if nothing had been. What is stale would come before the new answers.
    const fresh = sentAt.length;
    await send(100);
    const isFresh = ({ id }: { id: number }) => id >= fresh;
    await until(() => answered.filter(isFresh).length === 100);
    const stale = answered.slice(early).filter((answer) => !isFresh(answer));
    expect(stale.map(({ id, ageMs }) => `request ${id} after ${ageMs} ms`)).toEqual([]);
    const fates = await Promise.all(
      ["sent", "expired", "connection_lost"].map(async (fate) => [
        fate,
        await worker.metric(`edgelabel_answers_total{fate="${fate}"}`),
      ]),
    );
    const busy = await worker.metric('edgelabel_errors_total{code="busy"}');
    expect(busy).toBeGreaterThan(ANSWERS / 4);

    process.stdout.write(
      `outage: ${ANSWERS} requests at ${RATE}/s; RSS ${before.toFixed(1)} MB before, at most ${outageMb.toFixed(1)} MB in it (${(outageMb - before).toFixed(1)} more); at most ${most.answers} answers queued; ${busy} told busy; ${fates.map((each) => each.join(" ")).join(", ")}; 0 sent late\n`,
    );
    expect(most.answers).toBeLessThanOrEqual(QUEUED_ANSWERS);
    expect(most.answers).toBeGreaterThan(0.9 * QUEUED_ANSWERS);
    // A short run has no time to come to its working size.
    expect(outageMb - before).toBeLessThan(isLong ? MOST_GROWTH_MB : 4 * MOST_GROWTH_MB);
    await client.endAsync(true);
  }, 300_000);
});
