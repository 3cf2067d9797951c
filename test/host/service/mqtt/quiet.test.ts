// DEBUG=* makes the MQTT packages print what they carry, unless they are told not to.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { smallestModel } from "../../../support/models.ts";
import { until } from "../../../support/fake.ts";

const main = fileURLToPath(new URL("../../../../build/host/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-quiet-"));
const model = join(folder, "model.elb");
beforeAll(async () => writeFileSync(model, await smallestModel()));
afterAll(() => rmSync(folder, { recursive: true }));

const CANARY = "canary-text-4711";

function start(args: string[], debug: string) {
  const child = spawn(process.execPath, [main, ...args], {
    env: {
      ...process.env,
      DEBUG: debug,
      EDGELABEL_MQTT_USERNAME: "u",
      EDGELABEL_MQTT_PASSWORD: "canary-password-4711",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "", exit: once(child, "close"), child };
  child.stdout.on("data", (chunk: Buffer) => {
    output.stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    output.stderr += chunk.toString();
  });
  return output;
}

test.each(["*", "mqttjs*", "mqttjs:client mqtt-packet:parser", "*,"])(
  "DEBUG=%j: neither serve nor ask writes a text or a password",
  async (debug) => {
    const serving = start(["serve", model, "--port", "0", "--http", "0", "--node", "gate-1"], debug);
    await until(() => serving.stdout.includes("Stop with Ctrl-C") || serving.child.exitCode !== null);
    const asking = start(
      ["ask", CANARY, "--broker", /mqtt:\/\/127\.0\.0\.1:\d+/.exec(serving.stdout)![0], "--node", "gate-1"],
      debug,
    );
    expect(await asking.exit).toEqual([0, null]);
    await fetch(`${/http:\/\/127\.0\.0\.1:\d+/.exec(serving.stdout)![0]}/predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data: CANARY }),
    });
    serving.child.kill("SIGTERM");
    await serving.exit;
    const written = serving.stdout + serving.stderr + asking.stderr;
    // As bytes, too, as Node prints a Buffer.
    for (const form of [
      "canary",
      Buffer.from("canary").toString("hex"),
      Buffer.from("canary")
        .toString("hex")
        .replace(/..(?=.)/g, "$& "),
    ])
      expect(written).not.toContain(form);
    expect(written).not.toContain("mqttjs");
  },
);
