// Home Assistant itself, set up as a person does it, finds the node of examples/home-assistant.json through the embedded
// broker, over MQTT 5, and shows the label of a message. What deploy/README.md has for its configuration works: a label starts an
// automation, and a sentence is understood over Wyoming.
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

const page = readFileSync(new URL("../../deploy/README.md", import.meta.url), "utf8");
const [AUTOMATION, INTENT_SCRIPT] = ["automation", "intent_script"].map(
  (key) => new RegExp(`\n\`\`\`yaml\n(${key}:\n[^\`]*)\`\`\``).exec(page)![1]!,
);

async function startNode(): Promise<{ url: string; wyoming: number }> {
  const example = readFileSync(new URL("../../deploy/examples/home-assistant.json", import.meta.url), "utf8");
  const { broker: _, ...settings } = JSON.parse(example);
  writeFileSync(join(folder, "model.wasm"), await tinyDeployable());
  writeFileSync(join(folder, "node.json"), JSON.stringify({ ...settings, port: 0, figuresSeconds: 1, wyoming: 0 }));
  const { url, stdout } = await serve(["--config", join(folder, "node.json")]);
  return { url, wyoming: Number(/tcp:\/\/127\.0\.0\.1:(\d+)/.exec(stdout())![1]) };
}

describeWith("Home Assistant", "Home Assistant", onlyLong(fetchHomeAssistant), (python) => {
  test("finds the node on MQTT 5, and understands a sentence over Wyoming", { timeout: 2 * PATIENCE_MS }, async () => {
    const { url, wyoming } = await startNode();
    const { text, label: expected } = samples[0]!;
    const { port, versions } = await tap(Number(new URL(url).port));
    const [home, http] = [join(folder, "home"), await freePort()];
    writeFileSync(
      join(folder, "configuration.yaml"),
      [
        ...["api:", "config:", "http:", "  server_host: 127.0.0.1", `  server_port: ${http}`],
        ...["logger:", "  default: warning", "  logs:", "    homeassistant.components.mqtt: debug"],
        // In place of lamps; and the labels are the model's.
        ...["input_boolean:", "  porch:", "  room:"],
        AUTOMATION!
          .replace("payload: delivery", `payload: ${expected}`)
          .replace("light.turn_on", "input_boolean.turn_on")
          .replace("light.porch", "input_boolean.porch"),
        INTENT_SCRIPT!
          .replace("lights_off", expected)
          .replace("light.turn_off", "input_boolean.turn_on")
          .replace("area_id: living_room", "entity_id: input_boolean.room"),
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
    const client = await TestClient.connect(url, 5);
    onTestFinished(() => client.close());
    // It subscribes to the states of an entity a moment after it has made the entity.
    await until(async () => {
      await client.publish("doorbell/transcript", text);
      return (await states()).get(label) === expected;
    }, PATIENCE_MS);
    await until(async () => Number((await states()).get("sensor.edgelabel_gate_1_texts")) > 0, PATIENCE_MS);
    await until(async () => (await states()).get("input_boolean.porch") === "on", PATIENCE_MS);

    const { flow_id: added } = await ask<Form>(flows, { handler: "wyoming" });
    const { title } = await ask<{ title: string }>(`${flows}/${added}`, { host: "127.0.0.1", port: wyoming });
    expect(title).toBe("tiny");
    await until(async () => (await states()).has("conversation.tiny"), PATIENCE_MS);
    const say = async (sentence: string) => {
      const said = { text: sentence, language: "en", agent_id: "conversation.tiny" };
      const answer = await ask<{ response: Record<string, any> }>("/api/conversation/process", said);
      return answer.response;
    };
    expect((await states()).get("input_boolean.room")).toBe("off");
    const understood = await say(text);
    expect([understood["response_type"], understood["speech"].plain.speech]).toEqual(["action_done", "It is dark now"]);
    expect((await states()).get("input_boolean.room")).toBe("on");
    expect((await say(" "))["data"].code).toBe("no_intent_match");

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
