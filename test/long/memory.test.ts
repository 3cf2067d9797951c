// Each kind of thing that a peer can make the service keep, far beyond its limit: the process
// stays below what deploy/edgelabel.service allows it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import { packModel } from "../../host/model/pack.ts";
import { TestClient, topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { dense, embedding, lstm, makeModel, Seeded } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { startWorker } from "./fleet.ts";
import { isLong, size } from "./size.ts";

const MEMORY_MAX_MB = 256;
const TOKENS = 256;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-memory-"));
const at = (name: string): string => join(folder, name);
/** Some milliseconds of work, so that what comes has to wait. */
const slow = Array.from({ length: TOKENS }, (_, i) => `w${i % 50}`).join(" ");

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
  writeFileSync(at("model.wasm"), await packModel(write("int8")));
  writeFileSync(
    at("edgelabel.json"),
    JSON.stringify({
      commands: true,
      wyoming: 0,
      routes: [{ name: "r", filter: "in/+", outputs: [{ topic: "out", when: "any", on: "change" }] }],
      announcements: [
        { topic: "said", payload: { id: "{id}", filler: "x".repeat(20_000) }, again: { topic: "birth" } },
      ],
    }),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

describeMosquitto("memory", (binaries) => {
  test(
    "every kind of thing that a peer can make us keep, beyond its limit",
    async () => {
      const broker = await startMosquitto(binaries, {
        lines: ["set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 0"],
      });
      const worker = await startWorker(
        at("model.wasm"),
        "--broker",
        broker.url,
        "--node",
        "gate-1",
        "--config",
        at("edgelabel.json"),
      );
      onTestFinished(() => worker.end("SIGKILL"));
      const residentMb = () =>
        Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${worker.process.pid}/status`, "utf8"))![1]) / 1024;
      const client = await TestClient.connect(broker.url, 5);
      const calm = await TestClient.connect(broker.url, 5);
      await calm.subscribe("calm");
      const large = (bytes: number) => "x".repeat(bytes);
      const request = (i: number, properties: object, payload: string | Buffer = `${slow} ${i}`, qos: 0 | 1 | 2 = 0) =>
        client.client.publish(
          topics.classify,
          payload,
          { qos, properties: { responseTopic: `answers/${i % 50}`, ...properties } },
          () => {},
        );
      const port = Number(/tcp:\/\/127\.0\.0\.1:(\d+)/.exec(worker.log())![1]);
      /** A voice assistant that says this, and reads nothing. */
      const say = (events: string) => {
        const socket = connect(port, "127.0.0.1").on("error", () => {});
        onTestFinished(() => void socket.destroy());
        socket.write(events);
      };
      const kinds: [string, number, (i: number) => unknown][] = [
        [
          "user properties of 360 KB",
          size(1_200, 150),
          (i) =>
            request(i, {
              userProperties: Object.fromEntries(Array.from({ length: 6 }, (_, n) => [`n${n}`, large(60_000)])),
            }),
        ],
        [
          "small user properties",
          size(1_200, 150),
          (i) =>
            request(i, { userProperties: Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`n${n}`, ""])) }),
        ],
        [
          "correlation data of 64 KB",
          size(3_000, 300),
          (i) => request(i, { correlationData: Buffer.alloc(65_000, i) }),
        ],
        ["content types of 60 KB", size(3_000, 300), (i) => request(i, { contentType: large(60_000) })],
        ["texts of 300 KB", size(1_200, 150), (i) => request(i, {}, `${slow} ${i} ${large(300_000)}`)],
        ["texts at QoS 2", size(600, 100), (i) => request(i, {}, `${slow} ${i} ${large(60_000)}`, 2)],
        [
          "response topics of 1 KB",
          size(20_000, 1_000),
          (i) => request(i, { responseTopic: `answers/${i}/${large(1_000)}` }, "w1"),
        ],
        [
          "small texts in large chunks",
          size(20_000, 1_000),
          (i) =>
            i % 2
              ? request(i, { correlationData: Buffer.from("c") })
              : client.client.publish("in/x", Buffer.alloc(60_000), { qos: 0, retain: false }),
        ],
        [
          "topics of routes of 60 KB",
          size(6_000, 500),
          (i) => client.client.publish(`in/${i}${large(60_000)}`, "w1", { qos: 0 }),
        ],
        [
          "messages of routes at QoS 1",
          size(1_000, 150),
          (i) => client.client.publish(`in/${i % 9}`, `${slow} ${i} ${large(100_000)}`, { qos: 1 }, () => {}),
        ],
        ["announcements", size(30_000, 2_000), () => client.client.publish("birth", "x", { qos: 0 })],
        [
          "statuses of commands",
          size(5_000, 300),
          (i) =>
            client.client.publish(`${topics.command}/list/${i}`, `{"status":"init","x":"${large(1_000)}"}`, { qos: 0 }),
        ],
        [
          "refused commands",
          size(500, 100),
          (i) =>
            client.client.publish(`${topics.command}/${large(60)}/${i}`, `{"status":"init","x":"${large(300_000)}"}`, {
              qos: 0,
            }),
        ],
        [
          "unfinished events over Wyoming",
          size(5_000, 300),
          () => say(`{"type":"recognize","data_length":65000}\n${large(64_999)}`),
        ],
        [
          "answers over Wyoming that nobody reads",
          size(1_000, 150),
          () => say(`{"type":"recognize","data":{"text":" ","context":"${large(60_000)}"}}\n`.repeat(20)),
        ],
      ];
      const figures: string[] = [];
      let most = 0;
      for (const [kind, count, send] of kinds) {
        let peak = residentMb();
        for (let i = 0; i < count; i++) {
          send(i);
          if (i % 20 === 0) {
            await pause(1);
            await until(() => client.client.stream.writableLength < 4_000_000, 120_000);
            peak = Math.max(peak, residentMb());
          }
        }
        await calm.publish(topics.classify, JSON.stringify({ text: "w1", id: kind, replyTo: "calm" }), { qos: 1 });
        const { json } = await calm.next(({ json: answer }) => answer?.id === kind, 120_000);
        expect(json.label ?? json.error.code).toMatch(/^(?:no|yes|busy)$/);
        peak = Math.max(peak, residentMb());
        most = Math.max(most, peak);
        figures.push(`${kind} (${count}): ${peak.toFixed(0)} MB`);
        expect(worker.process.exitCode).toBeNull();
      }
      process.stdout.write(`memory: ${figures.join("; ")}\n`);
      expect(most).toBeLessThan(MEMORY_MAX_MB);
      expect(await worker.metric("edgelabel_broker_connects_total")).toBe(1);
      await client.close();
      await calm.close();
    },
    isLong ? 1_200_000 : 300_000,
  );
});
