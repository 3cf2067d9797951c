// A flood of explanations, each of 255 forward passes, from many requesters: a calm client's
// texts get their labels, each after one pass at most of every requester's, and never `busy`;
// the flood gets explanations too, and is told `busy` beyond what the queue holds.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import mqtt from "mqtt";
import type { MqttClient } from "mqtt";
import * as abi from "../../assembly/abi.ts";
import { openModel } from "../../host/model/file.ts";
import { packModel } from "../../host/model/pack.ts";
import { topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { dense, embedding, lstm, makeModel, pool, Seeded } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { startWorker } from "./fleet.ts";
import type { Worker } from "./fleet.ts";
import { isLong, size } from "./size.ts";

const SECONDS = size(30, 3);
const FLOODERS = 10;
/** Requests that each of them has on their way at all times. */
const WINDOW = 3;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-explanations-"));
const path = join(folder, "model.wasm");
const text = Array.from({ length: abi.MAX_PIECES }, (_, i) => `w${i % 50}`).join(" ");
let worker: Worker;
const clients: MqttClient[] = [];

beforeAll(async () => {
  const random = new Seeded(1);
  const { write } = await makeModel(
    {
      words: Array.from({ length: 50 }, (_, i) => `w${i}`),
      labels: ["no", "yes"],
      name: "m",
      version: "1",
      tokenizer: { sequenceLength: abi.MAX_PIECES },
      layers: [
        embedding(64, abi.LAYER_MASK_ZERO),
        lstm(64, abi.LAYER_SEQUENCES | abi.LAYER_BIDIRECTIONAL),
        pool(abi.LAYER_POOL_MAX),
        dense(2, abi.ACTIVATION_SOFTMAX),
      ],
    },
    (_, length) => random.floats(length, 0.3),
  );
  writeFileSync(path, await packModel(write("int8")));
});
afterEach(async () => {
  for (const client of clients) await client.endAsync(true);
  await worker.end("SIGKILL");
});
afterAll(() => rmSync(folder, { recursive: true }));

describeMosquitto("explanations", (binaries) => {
  test(
    `${FLOODERS} requesters ask for them for ${SECONDS} s`,
    async () => {
      const { url } = await startMosquitto(binaries, { lines: ["set_tcp_nodelay true"] });
      worker = await startWorker(path, "--broker", url, "--node", "gate-1");
      const connect = async (): Promise<MqttClient> => {
        const client = await mqtt.connectAsync(url, { protocolVersion: 5 });
        clients.push(client);
        return client;
      };
      const calm = await connect();
      await calm.subscribeAsync("answers/calm");
      let onCalm = (_payload: string): void => {};
      calm.on("message", (_topic, payload) => onCalm(payload.toString()));
      /** For so long, and until `isEnough`. */
      const latencies = async (seconds: number, isEnough = () => true): Promise<number[]> => {
        const found: number[] = [];
        for (const end = performance.now() + 1000 * seconds; performance.now() < end || !isEnough();) {
          const at = performance.now();
          const answer = new Promise<string>((resolve) => {
            onCalm = resolve;
          });
          calm.publish(topics.classify, JSON.stringify({ text, replyTo: "answers/calm" }), { qos: 0 });
          expect(JSON.parse(await answer)).toHaveProperty("label");
          found.push(performance.now() - at);
          await pause(5);
        }
        return found;
      };
      const alone = await latencies(size(5, 1));

      const flood = await connect();
      let explained = 0;
      let busy = 0;
      let isOver = false;
      let lastExplanation: unknown;
      await flood.subscribeAsync("answers/flood/+");
      const ask = (topic: string): void =>
        void flood.publish(topics.classify, JSON.stringify({ text, replyTo: topic, explain: true }), { qos: 0 });
      flood.on("message", (topic, payload) => {
        const { explanation, error } = JSON.parse(payload.toString());
        if (explanation) lastExplanation = explanation;
        if (explanation) explained++;
        else if (error.code === "busy") busy++;
        if (!isOver) setTimeout(ask, explanation ? 0 : 50, topic);
      });
      for (let i = 0; i < FLOODERS; i++) for (let k = 0; k < WINDOW; k++) ask(`answers/flood/${i}`);
      await until(() => explained > 0);
      const flooded = await latencies(SECONDS, () => explained > 3 && busy > 3);
      isOver = true;

      const quantile = (values: readonly number[], share: number): number =>
        values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1]!;
      const figures = (values: readonly number[]): string =>
        `p50 ${quantile(values, 0.5).toFixed(1)}, p99 ${quantile(values, 0.99).toFixed(1)} ms (${values.length} texts)`;
      process.stdout.write(
        `explanations: a calm client alone ${figures(alone)}; in the flood ${figures(flooded)}; the flood got ${explained} explanations and was ${busy} times told busy\n`,
      );
      expect(lastExplanation).toEqual((await openModel(path)).explain(text));
      if (isLong) expect(quantile(flooded, 0.99)).toBeLessThan(25);
    },
    1000 * SECONDS + 60_000,
  );
});
