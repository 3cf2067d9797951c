// A deployment without Node: mosquitto_sub | wasmtime run MODEL.wasm | mosquitto_pub -l.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectAsync } from "mqtt";
import { expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
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
      const client = await connectAsync(broker.url);
      const answers: string[] = [];
      try {
        client.on("message", (_topic, payload) => answers.push(payload.toString()));
        await client.subscribeAsync("out", { qos: 1 });
        for (const text of [samples[0]!.text, samples[7]!.text, "请打开灯", samples[14]!.text]) {
          const expected = Buffer.from(classifier.line(Buffer.from(text), { json: false, top: 0 }))
            .toString()
            .trimEnd();
          // Until mosquitto_sub has subscribed, nobody hears the first one.
          for (let tries = 0; answers.length === 0 && tries < 100; tries++) {
            await runClient(binaries, "pub", ["-h", "127.0.0.1", "-p", String(broker.port), "-t", "in", "-m", text]);
            await new Promise((resolve) => {
              setTimeout(resolve, 100);
            });
          }
          expect(answers.shift()).toBe(expected);
          await new Promise((resolve) => {
            setTimeout(resolve, 150);
          });
          answers.length = 0;
        }
      } finally {
        await client.endAsync(true);
        process.kill(-pipeline.pid!, "SIGKILL");
        await broker.kill();
        rmSync(folder, { recursive: true });
      }
    });
  });
});
