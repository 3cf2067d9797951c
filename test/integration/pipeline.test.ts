// A deployment without Node: mosquitto_sub | wasmtime run MODEL.wasm | mosquitto_pub -l.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
import { TestClient } from "../support/fake.ts";
import { samples, tinyDeployable } from "../support/models.ts";
import { describeMosquitto, runClient, startMosquitto } from "../support/mosquitto.ts";
import { describeWasmtime } from "../support/wasmtime.ts";

describeWasmtime("Mosquitto's clients around wasmtime", (wasmtime) => {
  describeMosquitto("and its broker", (binaries) => {
    test("each line published is answered before the next one", async () => {
      const folder = mkdtempSync(join(tmpdir(), "edgelabel-pipeline-"));
      const model = join(folder, "tiny.wasm");
      const bytes = await tinyDeployable();
      writeFileSync(model, bytes);
      const classifier = await Classifier.fromBytes(bytes, model);
      const broker = await startMosquitto(binaries);
      const at = `-h 127.0.0.1 -p ${broker.port}`;
      const pipeline = spawn(
        "bash",
        [
          "-c",
          `"$1" ${at} -t in | "$2" run "$3" | "$4" ${at} -t out -l`,
          "bash",
          binaries.sub,
          wasmtime,
          model,
          binaries.pub,
        ],
        { env: binaries.env, detached: true, stdio: "ignore" },
      );
      const client = await TestClient.connect(broker.url, 4);
      const publish = (text: string) =>
        runClient(binaries, "pub", ["-h", "127.0.0.1", "-p", String(broker.port), "-t", "in", "-m", text]);
      const lineOf = (text: string) =>
        Buffer.from(classifier.line(Buffer.from(text), { json: false, top: 0 }))
          .toString()
          .trimEnd();
      try {
        await client.subscribe("out");
        // Until mosquitto_sub has subscribed, nobody hears it.
        const first = samples[0]!.text;
        let published = 0;
        for (; client.received.length === 0; published++) await publish(first);
        const texts = [samples[7]!.text, "请打开灯", samples[14]!.text];
        expect(texts.map(lineOf)).not.toContain(lineOf(first));
        for (const text of texts) {
          await publish(text);
          expect((await client.next(({ text: line }) => line !== lineOf(first))).text).toBe(lineOf(text));
        }
        expect(client.received.every(({ text }) => text === lineOf(first))).toBe(true);
        expect(client.received.length).toBeLessThanOrEqual(published);
      } finally {
        await client.close();
        process.kill(-pipeline.pid!, "SIGKILL");
        await broker.kill();
        rmSync(folder, { recursive: true });
      }
    });
  });
});
