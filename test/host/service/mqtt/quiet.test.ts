// DEBUG=* makes the MQTT packages print what they carry, unless they are told not to.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { smallestModel } from "../../../support/models.ts";
import { main, serve, startProgram } from "../../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-quiet-"));
const model = join(folder, "model.elb");
beforeAll(async () => writeFileSync(model, await smallestModel()));
afterAll(() => rmSync(folder, { recursive: true }));

const CANARY = "canary-text-4711";

const env = (DEBUG: string) => ({
  ...process.env,
  DEBUG,
  EDGELABEL_MQTT_USERNAME: "u",
  EDGELABEL_MQTT_PASSWORD: "canary-password-4711",
});

test.each(["*", "mqttjs*", "mqttjs:client mqtt-packet:parser", "*,"])(
  "DEBUG=%j: neither serve nor ask writes a text or a password",
  async (debug) => {
    const serving = await serve([model, "--port", "0", "--http", "0", "--node", "gate-1"], { env: env(debug) });
    const asking = startProgram(process.execPath, [main, "ask", CANARY, "--broker", serving.url, "--node", "gate-1"], {
      env: env(debug),
    });
    expect(await asking.ended).toBe(0);
    await fetch(`${serving.http}/predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data: CANARY }),
    });
    expect((await serving.end()).code).toBe(0);
    const written = serving.output() + asking.stderr();
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
