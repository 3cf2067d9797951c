// Response topics that nobody may use, and answers that the broker would not take, sent to the
// built service on a real Mosquitto: the connection stands, nothing is published, and the next
// good request is answered.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestClient, topics } from "../support/fake.ts";
import { tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { startWorker } from "./fleet.ts";
import { size } from "./size.ts";

const ROUNDS = size(50, 2);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-hostile-"));
const path = join(folder, "model.wasm");
const config = join(folder, "edgelabel.json");

beforeAll(async () => {
  writeFileSync(path, await tinyDeployable());
  writeFileSync(config, JSON.stringify({ limits: { answerBytes: 1_000 } }));
});
afterAll(() => rmSync(folder, { recursive: true }));

const hostile = {
  "no topic": "",
  "a wildcard of one level": "answers/+/x",
  "a wildcard of all levels": "answers/#",
  NUL: "answers/\0",
  "a control character": "answers/\u001b[2J\n",
  "half a character": "answers/\ud800",
  "a character that is none": "answers/\uffff",
  "the broker's own": "$SYS/broker/version",
  "a shared subscription": "$share/group/answers",
  "70,000 bytes": "x".repeat(70_000),
  "200 levels": "a/".repeat(200),
  "this node's requests": topics.classify,
  "this node's status": topics.status,
  "another node's commands": "edgelabel/gate-2/cmd/load/1",
};

describeMosquitto("hostile requests", (binaries) => {
  // Brokers that speak 3.1.1 do not say what they take: answerBytes says it.
  test.each([
    [5, []],
    [4, ["--config", config]],
  ] as const)(
    `MQTT %s: ${Object.keys(hostile).length} kinds of response topic and answers over the broker's limit, ${ROUNDS} times: 0 disconnects`,
    async (protocol, more) => {
      const broker = await startMosquitto(binaries, { lines: ["set_tcp_nodelay true", "max_packet_size 2000"] });
      const large = await startMosquitto(binaries, { lines: ["set_tcp_nodelay true"] });
      for (const [{ url }, kinds] of [
        [broker, Object.entries(hostile).filter(([, topic]) => topic.length < 1_000)],
        [large, Object.entries(hostile)],
      ] as const) {
        const worker = await startWorker(
          path,
          "--broker",
          url,
          "--node",
          "gate-1",
          "--protocol",
          String(protocol),
          ...more,
        );
        const client = await TestClient.connect(url, protocol);
        await client.subscribe("#", "$SYS/broker/version");
        for (let round = 0; round < ROUNDS; round++) {
          for (const [kind, replyTo] of kinds) {
            await client.publish(topics.classify, JSON.stringify({ text: "play some jazz", id: kind, replyTo }));
            await client.publish(
              topics.classify,
              JSON.stringify({ text: "play some jazz", id: `good ${kind}`, replyTo: "answers/good" }),
            );
            expect((await client.next(({ topic }) => topic === "answers/good")).json).toMatchObject({
              id: `good ${kind}`,
              label: "music",
            });
          }
          // Sixty results are 4 KB.
          const texts = Array(60).fill("jazz");
          await client.publish(topics.classify, JSON.stringify({ texts, id: "large", replyTo: "answers/large" }));
          const { json } = await client.next(({ topic }) => topic === "answers/large");
          if (url === broker.url || protocol === 4)
            expect(json).toMatchObject({ id: "large", error: { code: "too_large" } });
          else expect(json.results).toHaveLength(60);
        }
        const seen = client.received
          .filter(({ text }) => /"(?:label|error)"/.test(text) && !/"text"|"name":"edgelabel"/.test(text))
          .map(({ topic, json }) => [topic, json.id, json.error?.code]);
        // Each is told so where all may hear it, and nothing goes where it may not.
        expect(seen).toEqual(
          Array.from({ length: ROUNDS }, () => kinds.map(([kind]) => [topics.label, kind, "bad_request"])).flat(),
        );
        expect(await worker.metric("edgelabel_broker_connects_total")).toBe(1);
        expect(worker.log()).not.toContain("lost ");
        await client.close();
        await worker.end("SIGTERM");
      }
      process.stdout.write(
        `hostile: MQTT ${protocol}, ${ROUNDS} × ${Object.keys(hostile).length} response topics and ${2 * ROUNDS} large answers: 0 disconnects\n`,
      );
    },
  );
});
