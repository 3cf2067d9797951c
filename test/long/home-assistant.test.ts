// Home Assistant itself, set up as a person does it, finds the node of examples/home-assistant.json through the embedded
// broker, over MQTT 5, and shows the label of a message.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { TestClient } from "../support/fake.ts";
import { samples, tinyDeployable } from "../support/models.ts";
import { freePort } from "../support/mosquitto.ts";
import { serve, startProgram } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { fetchHomeAssistant } from "../tools/fetch-home-assistant.mjs";
import { describeWith, onlyLong } from "./needs.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-home-assistant-"));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
const PATIENCE_MS = 900_000;

/** A way to the broker that notes the version of MQTT in each CONNECT. */
async function tap(port: number): Promise<{ port: number; versions: number[] }> {
  const versions: number[] = [];
  const server = createServer((socket) => {
    const broker = createConnection(port, "127.0.0.1");
    for (const end of [socket, broker])
      end
        .on("error", () => {})
        .on("close", () => {
          socket.destroy();
          broker.destroy();
        });
    socket.once("data", (connect: Buffer) => versions.push(connect[connect.indexOf("MQTT") + 4]!));
    socket.pipe(broker).pipe(socket);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, versions };
}

async function startNode(): Promise<string> {
  const example = readFileSync(new URL("../../deploy/examples/home-assistant.json", import.meta.url), "utf8");
  const { broker: _, ...settings } = JSON.parse(example);
  writeFileSync(join(folder, "model.wasm"), await tinyDeployable());
  writeFileSync(join(folder, "node.json"), JSON.stringify({ ...settings, port: 0, figuresSeconds: 1 }));
  return (await serve(["--config", join(folder, "node.json")])).url;
}

describeWith("Home Assistant", "Home Assistant", onlyLong(fetchHomeAssistant), (python) => {
  test("finds the node on MQTT 5, and shows the label of a message", { timeout: 2 * PATIENCE_MS }, async () => {
    const url = await startNode();
    const { port, versions } = await tap(Number(new URL(url).port));
    const [home, http] = [join(folder, "home"), await freePort()];
    writeFileSync(
      join(folder, "configuration.yaml"),
      [
        ...["api:", "config:", "http:", "  server_host: 127.0.0.1", `  server_port: ${http}`],
        ...["logger:", "  default: warning", "  logs:", "    homeassistant.components.mqtt: debug", ""],
      ].join("\n"),
    );
    const program = startProgram(python, ["-m", "homeassistant", "--config", folder], {
      env: { ...process.env, HOME: home },
    });

    const base = `http://127.0.0.1:${http}`;
    const client_id = `${base}/`;
    let token = "";
    async function ask<T>(path: string, body?: object): Promise<T> {
      const response = await fetch(base + path, {
        method: body ? "POST" : "GET",
        headers: {
          ...(body && !(body instanceof URLSearchParams) ? { "Content-Type": "application/json" } : {}),
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
        },
        ...(body ? { body: body instanceof URLSearchParams ? body : JSON.stringify(body) } : {}),
      });
      if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
      return (await response.json()) as T;
    }
    const isUp = () => ask("/api/onboarding").then(() => true, () => false); // prettier-ignore
    await until(isUp, PATIENCE_MS);
    const user = { client_id, name: "T", username: "t", password: "a password", language: "en" };
    const { auth_code: code } = await ask<{ auth_code: string }>("/api/onboarding/users", user);
    const grant = new URLSearchParams({ grant_type: "authorization_code", code, client_id });
    token = (await ask<{ access_token: string }>("/auth/token", grant)).access_token;

    const flows = "/api/config/config_entries/flow";
    interface Form {
      flow_id: string;
      data_schema: { name: string; default?: unknown }[];
    }
    const form = await ask<Form>(flows, { handler: "mqtt" });
    // What it proposes by itself.
    expect(form.data_schema.find(({ name }) => name === "protocol")?.default).toBe("5");
    const entry = await ask<{ type: string; result: { state: string } }>(`${flows}/${form.flow_id}`, {
      broker: "127.0.0.1",
      port,
      protocol: "5",
      other_settings: { set_client_cert: false, set_ca_cert: "off", transport: "tcp" },
    });
    expect([entry.type, entry.result.state]).toEqual(["create_entry", "loaded"]);

    const states = async () => {
      const all = await ask<{ entity_id: string; state: string }[]>("/api/states");
      return new Map(all.map(({ entity_id, state }) => [entity_id, state]));
    };
    const label = "sensor.edgelabel_gate_1_label";
    await until(async () => (await states()).has(label), PATIENCE_MS);
    const { text, label: expected } = samples[0]!;
    const client = await TestClient.connect(url, 5);
    onTestFinished(() => client.close());
    // It subscribes to the states of an entity a moment after it has made the entity.
    await until(async () => {
      await client.publish("doorbell/transcript", text);
      return (await states()).get(label) === expected;
    }, PATIENCE_MS);
    await until(async () => Number((await states()).get("sensor.edgelabel_gate_1_texts")) > 0, PATIENCE_MS);
    const now = await states();
    expect(now.get("event.edgelabel_gate_1_heard")).toMatch(/^\d{4}-/);
    expect(now.get("update.edgelabel_gate_1_model")).toBe("off");
    expect(versions.length).toBeGreaterThan(0);
    expect(new Set(versions)).toEqual(new Set([5]));
    for (const line of program.output().match(/^.*(?:Connected to MQTT|Found new component: |labelled\/).*$/gm)!)
      process.stdout.write(`${line.slice(0, 200)}\n`);
    await program.end();
  });
});
