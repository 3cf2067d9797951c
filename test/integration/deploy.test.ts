// What lies in deploy/, as shipped: every example configuration at work, the systemd
// unit's commands, Mosquitto's rights by role, topic and operation.
import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { isBuiltin } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Template } from "@huggingface/jinja";
import mqtt from "mqtt";
import type { IClientOptions, MqttClient } from "mqtt";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import { readSettings } from "../../host/service/config.ts";
import type { Model } from "../../host/service/answer/predictor.ts";
import type { WaitingVersion } from "../../host/service/service.ts";
import { topicsOf } from "../../host/service/topics.ts";
import { tinyDeployable } from "../support/models.ts";
import { describeMosquitto, freePort } from "../support/mosquitto.ts";
import { main, serve, startProgram } from "../support/program.ts";
import { describeShared, sharedPath } from "../support/shared.ts";
import { fakeModel, fakeService, TestClient } from "../support/fake.ts";
import { until } from "../support/wait.ts";
import type { Received } from "../support/fake.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const deploy = join(root, "deploy");
const examples = readdirSync(join(deploy, "examples"));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-deploy-"));
const ends: (() => Promise<unknown> | unknown)[] = [];

beforeAll(async () => {
  mkdirSync(join(folder, "models"));
  const model = await tinyDeployable();
  writeFileSync(join(folder, "model.wasm"), model);
  writeFileSync(join(folder, "models/model.wasm"), model);
  for (const name of examples) copyFileSync(join(deploy, "examples", name), join(folder, name));
  copyFileSync(join(deploy, "edgelabel.json"), join(folder, "edgelabel.json"));
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(() => rmSync(folder, { recursive: true }));

const settingsOf = (example: string) => readSettings([], { config: join(deploy, "examples", example) }, {});

describe("example configurations", () => {
  test.each([...examples, "edgelabel.json"])("%s passes serve --check with a real model", (name) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [main, "serve", "--config", join(folder, name), "--check"],
      { encoding: "utf8" },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(
      /^the configuration is valid: models tiny; broker mqtt:\/\/127\.0\.0\.1:1883; requests on edgelabel\/gate-1\/classify/,
    );
  });

  async function run(name: string, model = { label: "spam", score: 0.9, scores: { spam: 0.9, ham: 0.1 } }) {
    const broker = await startBroker({ port: 0 });
    ends.push(() => broker.close());
    const { routes, announcements, figuresSeconds } = settingsOf(name);
    const classify = (text: string | Uint8Array) =>
      Buffer.from(text).includes("odd") ? { ...model, score: 0.2 } : model;
    const service = fakeService({
      access: broker.access,
      routes,
      announcements,
      figuresSeconds: figuresSeconds && 0.2,
      commands: true,
      models: new Map([["spam", { ...fakeModel(), digest: "d".repeat(64), classify }]]),
    });
    const client = await TestClient.connect(broker.url, 4);
    ends.push(
      () => client.close(),
      () => service.stop(),
    );
    await service.start();
    // What is announced first is retained by then: it comes once.
    await until(() => service["outbox"].length === 0);
    await client.subscribe("#");
    const next = (fits: (message: Received) => boolean = () => true) =>
      client.next((message) => !/^edgelabel\/gate-1\/(?:info|status)$/.test(message.topic) && fits(message));
    const send = async (topic: string, payload: object | string) => {
      const text = typeof payload === "string" ? payload : JSON.stringify(payload);
      await client.publish(topic, text);
      await next((message) => message.topic === topic);
    };
    return { next, send, client, service };
  }

  test("sms-gateway.json: labels go beside the gateway's topics, doubts to a review", async () => {
    const { next, send } = await run("sms-gateway.json");
    await send("sms/modem-1/received", { from: "+491234", message: "you win", time: 1700000000 });
    expect(await next()).toMatchObject({
      topic: "labelled/sms/modem-1",
      json: { from: "+491234", label: "spam", score: 0.9, received: 1700000000 },
    });
    await send("sms/modem-1/received", { from: "+491234", message: "odd" });
    expect(await next()).toMatchObject({
      topic: "labelled/sms/modem-1/review",
      json: { from: "+491234", scores: { spam: 0.9, ham: 0.1 } },
    });
  });

  test("log-shipper.json: an alert changes only when the label does", async () => {
    const { next, send } = await run("log-shipper.json");
    for (let i = 0; i < 3; i++) await send("logs/host-1/sshd", { unit: "ssh.service", MESSAGE: "failed" });
    expect(await next()).toMatchObject({ topic: "alerts/host-1/sshd", text: "spam" });
    await send("logs/host-2/sshd", { MESSAGE: "failed" });
    expect((await next()).topic).toBe("alerts/host-2/sshd");
    // As journald writes a line with colours or bad UTF-8, and one that is too long for it.
    await send("logs/host-3/sshd", { unit: "ssh.service", MESSAGE: null });
    await send("logs/host-4/sshd", { unit: "ssh.service", MESSAGE: [...Buffer.from("\u001b[31mfailed"), 0xff] });
    expect((await next()).topic).toBe("alerts/host-4/sshd");
  });

  test("hermes-nlu.json: Rhasspy's query gets its intent, or that there is none", async () => {
    const { next, send } = await run("hermes-nlu.json");
    const query = { input: "turn on the light", siteId: "kitchen", id: "q-1", sessionId: "s-1" };
    const heard = { customData: { a: 1 }, asrConfidence: 0.75, wakewordId: "porcupine", lang: "en" };
    await send("hermes/nlu/query", { ...query, ...heard });
    const intent = { intentName: "spam", confidenceScore: 0.9 };
    expect(await next(({ topic }) => topic === "hermes/nlu/intentParsed")).toMatchObject({
      json: { ...query, intent, slots: [] },
    });
    const { json } = await next(({ topic }) => topic === "hermes/intent/spam");
    expect(json).toEqual({ ...query, ...heard, rawInput: query.input, intent, slots: [] });
    await send("hermes/nlu/query", { ...query, input: "odd", customData: { a: 1 } });
    expect((await next()).json).toEqual({ ...query, input: "odd", customData: { a: 1 } });
  });

  describeShared("hermes-nlu.json: queries that no intent fits", () => {
    test.each(["query.json", "null.json"])("%s is answered at once", async (name) => {
      const { next, send } = await run("hermes-nlu.json");
      const payload = readFileSync(sharedPath("cases", "hermes-empty-input", name), "utf8");
      await send("hermes/nlu/query", payload);
      expect(await next()).toMatchObject({
        topic: "hermes/nlu/intentNotRecognized",
        json: { ...JSON.parse(payload), input: "" },
      });
    });
  });

  test("hermes-nlu.json: of the intents in a filter the best one, if it is good enough", async () => {
    const { next, send } = await run("hermes-nlu.json");
    const query = { input: "turn on the light", siteId: "kitchen", id: "q-1", sessionId: "s-1" };
    const topics = async (intentFilter: unknown, n: number) => {
      await send("hermes/nlu/query", { ...query, intentFilter });
      const seen = [];
      while (seen.length < n) seen.push(await next());
      return seen.map(({ topic }) => topic);
    };
    const spam = ["hermes/nlu/intentParsed", "hermes/intent/spam"];
    for (const filter of [null, [], ["spam"], ["play_music", "spam"]]) expect(await topics(filter, 2)).toEqual(spam);
    // "ham" has 0.1, and no model knows the other.
    for (const filter of [["ham"], ["play_music"], "spam", [{}]])
      expect(await topics(filter, 1)).toEqual(["hermes/nlu/intentNotRecognized"]);
    await send("hermes/nlu/query", { ...query, input: " " });
    expect((await next()).topic).toBe("hermes/nlu/intentNotRecognized");
  });

  test("edge-ai-inference.json: the envelope of Edge AI System Compatibility with MQTT", async () => {
    const { next, send } = await run("edge-ai-inference.json");
    await send("site/line-1/mill/raw", { log: "spindle hot", id: 7 });
    const { topic, json } = await next();
    expect(topic).toBe("site/line-1/mill/spam/1.0.0/inference");
    expect(json).toMatchObject({
      model: { identifier: "d".repeat(64), name: "spam", version: "1.0.0" },
      tags: {
        sourceTopic: "site/line-1/mill/raw",
        sourceMessageID: 7,
        inputSizeInBytes: 28,
        inputSha256Digest: createHash("sha256").update('{"log":"spindle hot","id":7}').digest("hex"),
      },
      resultType: "classPredictions",
      result: {
        classPredictions: [
          { class: "spam", score: 0.9 },
          { class: "ham", score: 0.1 },
        ],
      },
    });
    expect(json.identifier).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("home-assistant.json: device discovery, again at Home Assistant's birth, and its states", async () => {
    const { next, send, client, service } = await run("home-assistant.json");
    const discovered = await next(({ topic }) => topic.startsWith("homeassistant/"));
    await send("homeassistant/status", "offline");
    await send("homeassistant/status", "online");
    const { topic, json, packet } = await next(({ topic }) => topic.startsWith("homeassistant/device"));
    // Each command has an id of its own.
    const { command_topic } = discovered.json.cmps.update;
    expect(json.cmps.update.command_topic).not.toBe(command_topic);
    expect([
      packet.retain,
      { ...json, cmps: { ...json.cmps, update: { ...json.cmps.update, command_topic } } },
    ]).toEqual([false, discovered.json]);
    await client.subscribe(topic);
    expect((await next((message) => message.topic === topic)).packet.retain).toBe(true);
    expect(topic).toBe("homeassistant/device/edgelabel_gate-1/config");
    expect(json).toMatchObject({ dev: { ids: ["edgelabel_gate-1"] }, availability_topic: "edgelabel/gate-1/status" });
    expect(json.cmps.label).toMatchObject({
      p: "sensor",
      device_class: "enum",
      options: ["ham", "spam"],
      value_template: "{{ value_json.label }}",
    });
    expect(json.cmps.heard).toMatchObject({ p: "event", event_types: ["ham", "spam"] });
    for (const component of Object.values(json.cmps) as { unique_id: string; p: string }[])
      expect(component.unique_id).toMatch(/^edgelabel_gate-1_/);
    await send("doorbell/transcript", "parcel");
    const state = await next((message) => message.topic === json.cmps.label.state_topic);
    expect(state.json.label).toBe("spam");
    const event = await next((message) => message.topic === json.cmps.heard.state_topic);
    expect(event.json.event_type).toBe("spam");
    // What a route hears is no request: texts are what is counted.
    const figures = await next((message) => message.topic === json.cmps.texts.state_topic && message.json.texts > 0);
    expect(figures.json).toMatchObject({ requests: 0, texts: 1, texts_queued: 0, answers_queued: 0 });
    const shown = (component: { value_template: string }) =>
      new Template(component.value_template).render({ value_json: figures.json });
    expect([shown(json.cmps.texts), shown(json.cmps.queued)]).toEqual(["1", "0"]);

    // A version that waits is offered, and what Home Assistant then sends is the command for it.
    const commanded: object[] = [];
    service.commands!.add("activate", async ({ args }) => commanded.push(args) && {});
    service.setWaiting("spam", { version: "2.0.0", digest: "e".repeat(64) });
    const offer = (await next(({ topic }) => topic.startsWith("homeassistant/device"))).json.cmps.update;
    expect(offer).toMatchObject({
      p: "update",
      state_topic: "edgelabel/gate-1/info",
      latest_version_topic: "edgelabel/gate-1/info",
    });
    await client.publish(offer.command_topic, offer.payload_install);
    await next(({ topic, json }) => topic === offer.command_topic && json.status === "successful");
    expect(commanded).toEqual([{ name: "spam", version: "e".repeat(64) }]);
  });

  /** What Home Assistant makes of the node's info: the version that is installed, and the latest one. */
  function versions(models: Map<string, Model>, waiting?: WaitingVersion): string[] {
    const { announcements } = settingsOf("home-assistant.json");
    const { update } = (announcements[0]!.payload as { cmps: Record<string, Record<string, string>> }).cmps;
    // Never started.
    const service = fakeService({ access: { url: "mqtt://127.0.0.1" }, models });
    service.setWaiting("spam", waiting);
    const value_json: unknown = JSON.parse(JSON.stringify(service.info()));
    return [update!["value_template"]!, update!["latest_version_template"]!].map((template) =>
      new Template(template).render({ value_json }),
    );
  }

  test("home-assistant.json: versions are those of the default model, and none before there is one", () => {
    expect(
      versions(
        new Map([
          ["spam", fakeModel("1.0.0")],
          ["other", fakeModel("3.0.0")],
        ]),
      ),
    ).toEqual(["1.0.0", "1.0.0"]);
    expect(versions(new Map())).toEqual(["", ""]);
  });

  // Home Assistant offers nothing that has the installed version's number or a lower one: what bears a digest it cannot compare, and offers.
  test.each(["1.1.0", "1.0.0", "0.9.0"])(
    "home-assistant.json: %s waits, and is offered whatever its number",
    (version) => {
      expect(
        versions(new Map([["spam", fakeModel("1.0.0")]]), { version, digest: "0123456789abcdef".repeat(4) }),
      ).toEqual(["1.0.0", `${version} (0123456789ab)`]);
    },
  );
});

test("what the package leaves out is needed by the build alone", () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: object };
  const imported = readdirSync(join(root, "build/host"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".js"))
    .flatMap((name) =>
      [
        ...readFileSync(join(root, "build/host", name), "utf8").matchAll(
          /^(?:import|export|\}).* from "((?:@[^/"]+\/)?[^./"][^/"]*)/gm,
        ),
      ].map(([, found]) => found!),
    );
  const packages = [...new Set(imported)].filter((name) => !isBuiltin(name));
  expect(packages).toContain("mqtt");
  expect(packages.filter((name) => !(name in dependencies))).toEqual([]);
});

test.each([
  [200, 0],
  [404, 1],
])("the container's health check asks where it is told: %s is %s", async (status, code) => {
  const text = readFileSync(join(deploy, "Containerfile"), "utf8");
  const [, ...args] = JSON.parse(/^HEALTHCHECK CMD (.*)$/m.exec(text)![1]!) as string[];
  const server = createServer((_request, response) => response.writeHead(status).end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const child = spawn(process.execPath, args, {
    env: { ...process.env, EDGELABEL_HEALTH: `http://127.0.0.1:${(server.address() as AddressInfo).port}/healthz` },
  });
  expect(await once(child, "exit")).toEqual([code, null]);
  server.close();
});

describeMosquitto("Mosquitto with the shipped rights", (binaries) => {
  const setup = join(deploy, "mosquitto/setup.mjs");
  const shipped = (file: string) => readFileSync(join(deploy, "mosquitto", file), "utf8");

  interface Started {
    url: string;
    port: number;
    /** The folder that stands for / */
    home: string;
    passwords: Record<string, string>;
    end: () => Promise<void>;
  }

  /** A Mosquitto as Debian installs it: no users, no listener, and the plugin where setup.mjs looks for it. */
  function install(name: string): string {
    const home = join(folder, name);
    for (const path of ["etc/mosquitto/conf.d", "var/lib/mosquitto", "usr/lib"])
      mkdirSync(join(home, path), { recursive: true });
    writeFileSync(
      join(home, "etc/mosquitto/mosquitto.conf"),
      `persistence true\npersistence_location ${home}/var/lib/mosquitto/\nlog_dest stderr\ninclude_dir ${home}/etc/mosquitto/conf.d\n`,
    );
    const libraries = [
      ...(binaries.env["LD_LIBRARY_PATH"] ?? "").split(delimiter),
      ...readdirSync("/usr/lib").map((each) => join("/usr/lib", each)),
    ];
    const from = libraries.find((each) => existsSync(join(each, "mosquitto_dynamic_security.so")))!;
    for (const file of readdirSync(from).filter((each) =>
      /^(?:mosquitto_dynamic_security\.so|libcjson\.so\.1)$/.test(each),
    ))
      copyFileSync(join(from, file), join(home, "usr/lib", file));
    // Started by root, Mosquitto becomes another user before it reads its files.
    const user = ["mosquitto", "nobody"].find((each) => spawnSync("id", [each]).status === 0)!;
    if (process.getuid!() === 0) execFileSync("chown", ["-R", user, join(home, "var/lib/mosquitto")]);
    for (const path of [folder, home]) chmodSync(path, 0o755);
    return home;
  }

  /** Runs the set-up; returns the passwords that it printed, with the service's from its file. */
  function setUp(home: string, ...args: string[]): Record<string, string> {
    const printed = execFileSync(process.execPath, [setup, "--root", home, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
    const credentials = readFileSync(join(home, "etc/edgelabel/credentials"), "utf8");
    return {
      ...Object.fromEntries(
        printed
          .split("\n")
          .filter(Boolean)
          .map((line) => line.split("\t") as [string, string]),
      ),
      edgelabel: /^EDGELABEL_MQTT_USERNAME=edgelabel\nEDGELABEL_MQTT_PASSWORD=(.*)\n$/.exec(credentials)![1]!,
    };
  }

  async function run(home: string, port: number, passwords: Record<string, string>): Promise<Started> {
    const env = {
      ...binaries.env,
      LD_LIBRARY_PATH: [join(home, "usr/lib"), binaries.env["LD_LIBRARY_PATH"]].filter(Boolean).join(delimiter),
    };
    const child = spawn(binaries.broker, ["-c", join(home, "etc/mosquitto/mosquitto.conf")], {
      env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    process.once("exit", () => child.kill("SIGKILL"));
    let output = "";
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    await until(() => / running\n/.test(output) || child.exitCode !== null);
    expect(output).toMatch(/ running\n/);
    const end = async () => {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    };
    return { url: `mqtt://127.0.0.1:${port}`, port, home, passwords, end };
  }

  async function start(name: string, ...args: string[]): Promise<Started> {
    const [home, port] = [install(name), await freePort()];
    return run(home, port, setUp(home, "--port", String(port), ...args));
  }

  /** A broker that its owner runs already, with users in a password file, to whose rights the shipped ones have been added. */
  async function startOwn(name: string, ...users: string[]): Promise<Started> {
    const [home, port] = [install(name), await freePort()];
    const passwd = [dirname(binaries.pub), dirname(binaries.broker)]
      .map((bin) => join(bin, "mosquitto_passwd"))
      .find((path) => existsSync(path))!;
    const [acl, file] = [join(home, "var/lib/mosquitto/acl"), join(home, "var/lib/mosquitto/passwd")];
    writeFileSync(acl, `user lamp\ntopic readwrite lamps/#\n\n${shipped("acl")}`);
    const passwords = Object.fromEntries(users.map((user) => [user, `${user}-password`]));
    writeFileSync(file, users.map((user) => `${user}:${passwords[user]}\n`).join(""));
    execFileSync(passwd, ["-U", file], { env: binaries.env });
    for (const path of [acl, file]) chmodSync(path, 0o644);
    writeFileSync(
      join(home, "etc/mosquitto/conf.d/own.conf"),
      `listener ${port} 127.0.0.1\nallow_anonymous false\npassword_file ${file}\nacl_file ${acl}\n`,
    );
    return run(home, port, passwords);
  }

  let at: Started;
  const forms: [string, () => Promise<Started>][] = [
    ["set up by setup.mjs", () => start("mosquitto", "--group", "pool", "phone", "other")],
    [
      "with an acl_file of its own, to which acl was added",
      () => startOwn("own", "edgelabel", "admin", "phone", "other", "lamp"),
    ],
  ];

  async function connect(username: string | undefined, options: IClientOptions = {}, broker = at): Promise<MqttClient> {
    const client = await mqtt.connectAsync(
      broker.url,
      {
        protocolVersion: 5,
        reconnectPeriod: 0,
        ...(username === undefined ? {} : { username, password: broker.passwords[username]! }),
        ...options,
      },
      false,
    );
    ends.push(() => client.endAsync(true));
    return client;
  }

  /** Whether the broker takes the message: MQTT 5 tells by the reason code. */
  async function mayWrite(client: MqttClient, topic: string): Promise<boolean> {
    return client.publishAsync(topic, "x", { qos: 1 }).then(
      () => true,
      () => false,
    );
  }

  describe.each(forms)("%s", (_name, begin) => {
    beforeAll(async () => {
      at = await begin();
      return at.end;
    });

    test("nobody comes in without a password", async () => {
      const notAuthorized = { code: 135 };
      await expect(connect(undefined)).rejects.toMatchObject(notAuthorized);
      await expect(connect("phone", { password: "wrong" })).rejects.toMatchObject(notAuthorized);
      await expect(connect("phone", { username: "admin" })).rejects.toMatchObject(notAuthorized);
      await connect("phone");
    });

    const matrix: Record<string, { write: string[]; never: string[] }> = {
      phone: {
        write: [
          "edgelabel/gate-1/from/phone/classify",
          "edgelabel/gate-1/from/phone/classify/spam",
          "edgelabel/pool/from/phone/classify",
        ],
        never: [
          "edgelabel/gate-1/classify",
          "edgelabel/gate-1/classify/spam",
          "edgelabel/gate-1/from/other/classify",
          "edgelabel/gate-1/from/phone",
          "edgelabel/pool/classify",
          "edgelabel/pool/from/other/classify",
          "edgelabel/pool/label",
          "edgelabel/pool/reply/phone/1",
          "edgelabel/pool/status",
          "edgelabel/gate-1/status",
          "edgelabel/gate-1/info",
          "edgelabel/gate-1/label",
          "edgelabel/gate-1/reply/phone/1",
          "edgelabel/gate-1/cmd/load/1",
          "edgelabel/gate-1/cmd/load/1/0",
          "edgelabel/gate-2/from/phone/classify",
          "elsewhere",
        ],
      },
      edgelabel: {
        write: [
          "edgelabel/gate-1/status",
          "edgelabel/gate-1/info",
          "edgelabel/gate-1/label",
          "edgelabel/gate-1/label/spam",
          "edgelabel/gate-1/reply/phone/1",
          "edgelabel/gate-1/metrics",
          "edgelabel/gate-1/cmd/load/1",
          "edgelabel/pool/label",
          "edgelabel/pool/reply/phone/1",
        ],
        never: [
          "edgelabel/pool/status",
          "edgelabel/gate-1/cmd/load/1/0",
          "edgelabel/gate-2/cmd/load/1",
          "edgelabel/gate-2/status",
          "edgelabel/gate-1/classify",
          "edgelabel/gate-1/from/phone/classify",
          "zigbee2mqtt/lamp/set",
          "elsewhere",
        ],
      },
      admin: {
        write: ["edgelabel/gate-1/cmd/load/1", "edgelabel/gate-1/cmd/load/1/0", "edgelabel/gate-1/classify"],
        never: ["elsewhere", "edgelabel/gate-2/cmd/load/1", "edgelabel/pool/classify"],
      },
    };

    test.each(Object.entries(matrix))("what %s may write", async (name, { write, never }) => {
      const client = await connect(name);
      for (const topic of write) expect([topic, await mayWrite(client, topic)]).toEqual([topic, true]);
      for (const topic of never) expect([topic, await mayWrite(client, topic)]).toEqual([topic, false]);
    });

    test("each reads its own answers only, whatever it subscribes to and calls itself", async () => {
      const heard = new Map<number, Set<string>>();
      const listeners: [string, IClientOptions, string[]][] = [
        ["phone", {}, ["#", "edgelabel/#", "edgelabel/gate-1/reply/phone/#"]],
        [
          "phone",
          { clientId: "other" },
          [
            "edgelabel/gate-1/reply/+/1",
            "edgelabel/gate-1/cmd/#",
            "edgelabel/gate-1/from/#",
            "edgelabel/gate-1/reply/phone/end",
          ],
        ],
        ["other", {}, ["edgelabel/gate-1/reply/#", "edgelabel/gate-1/reply/other/#"]],
        // Mosquitto trusts no pattern for a client whose id is one itself.
        ["other", { clientId: "#" }, ["edgelabel/gate-1/reply/phone/#"]],
      ];
      for (const [i, [name, options, filters]] of listeners.entries()) {
        const client = await connect(name, options);
        heard.set(i, new Set());
        client.on("message", (topic) => heard.get(i)!.add(topic));
        for (const filter of filters) await client.subscribeAsync(filter, { qos: 1 }).catch(() => []);
      }
      const admin = await connect("admin");
      for (const topic of ["edgelabel/gate-1/cmd/load/1", "edgelabel/gate-1/from/phone/classify"])
        await admin.publishAsync(topic, "x", { qos: 1 });
      const service = await connect("edgelabel");
      for (const user of ["phone", "other"])
        for (const id of ["1", "end"])
          await service.publishAsync(`edgelabel/gate-1/reply/${user}/${id}`, "x", { qos: 1 });
      await service.publishAsync("edgelabel/gate-1/label", "x", { qos: 1 });
      const replies = (user: string, ...ids: string[]) => ids.map((id) => `edgelabel/gate-1/reply/${user}/${id}`);
      await until(() => [0, 1, 2].every((i) => [...heard.get(i)!].some((topic) => topic.endsWith("/end"))));
      expect([...heard.get(0)!]).toEqual(replies("phone", "1", "end"));
      for (const topic of heard.get(1)!) expect(replies("phone", "1", "end")).toContain(topic);
      expect([...heard.get(2)!]).toEqual(replies("other", "1", "end"));
      expect([...heard.get(3)!]).toEqual([]);
    });

    test("a request of one user brings another neither answers nor a rate that is used up", async () => {
      const service = fakeService({
        access: { url: at.url, username: "edgelabel", password: at.passwords["edgelabel"]! },
        responses: { allow: [], deny: [] },
      });
      ends.push(() => service.stop());
      await service.start();
      const [phone, other] = [await connect("phone"), await connect("other")];
      const heard: string[] = [];
      for (const client of [phone, other]) client.on("message", (topic) => heard.push(topic));
      await phone.subscribeAsync("edgelabel/gate-1/reply/phone/#", { qos: 1 });
      await other.subscribeAsync("edgelabel/gate-1/reply/other/#", { qos: 1 });
      for (const responseTopic of ["edgelabel/gate-1/reply/other/1", "edgelabel/gate-1/reply/phone/1"])
        await phone.publishAsync("edgelabel/gate-1/from/phone/classify", "win", {
          qos: 1,
          properties: { responseTopic },
        });
      await other.publishAsync("edgelabel/gate-1/from/other/classify", "win", {
        qos: 1,
        properties: { responseTopic: "edgelabel/gate-1/reply/other/end" },
      });
      await until(() => heard.length >= 3);
      // The phone is told on its own topic that it may not have an answer sent to the other user.
      expect(heard.toSorted()).toEqual([
        "edgelabel/gate-1/reply/other/end",
        "edgelabel/gate-1/reply/phone",
        "edgelabel/gate-1/reply/phone/1",
      ]);
    });
  });

  describe("set up by setup.mjs", () => {
    beforeAll(async () => {
      at = await start("again", "--group", "pool", "phone", "other");
      return at.end;
    });

    test("nobody but a worker joins a group: beside six intruders all requests are answered", async () => {
      for (let i = 0; i < 6; i++) {
        const intruder = await connect("phone");
        for (const filter of [
          "$share/pool/edgelabel/pool/classify/#",
          "$share/pool/edgelabel/pool/from/+/classify/#",
          "$share/pool/edgelabel/pool/from/phone/classify/#",
          "$share/pool/#",
          "$share/other/edgelabel/pool/#",
          "edgelabel/pool/from/phone/classify/#",
        ]) {
          await expect(intruder.subscribeAsync(filter, { qos: 1 })).rejects.toThrow("Subscribe error: Not authorized");
        }
      }
      const service = fakeService({
        access: { url: at.url, protocol: 5, username: "edgelabel", password: at.passwords["edgelabel"]! },
        topics: topicsOf("edgelabel", "gate-1", "pool"),
      });
      ends.push(() => service.stop());
      await service.start();
      const phone = await connect("phone");
      const ids = new Set<unknown>();
      phone.on("message", (_topic, payload) => ids.add((JSON.parse(payload.toString()) as { id: unknown }).id));
      await phone.subscribeAsync("edgelabel/pool/reply/phone/#", { qos: 1 });
      for (let id = 0; id < 60; id++)
        await phone.publishAsync("edgelabel/pool/from/phone/classify", JSON.stringify({ text: "win", id }), { qos: 1 });
      await until(() => ids.size === 60);
    });

    test("admin manages the users, others do not", async () => {
      const [topic, list] = [
        "$CONTROL/dynamic-security/v1",
        JSON.stringify({ commands: [{ command: "listClients" }] }),
      ];
      const phone = await connect("phone");
      await expect(phone.subscribeAsync(`${topic}/response`)).rejects.toThrow("Subscribe error: Not authorized");
      expect(await mayWrite(phone, topic)).toBe(false);
      const admin = await connect("admin");
      const answer = new Promise<string>((resolve) => {
        admin.once("message", (_topic, payload) => resolve(payload.toString()));
      });
      await admin.subscribeAsync(`${topic}/response`);
      await admin.publishAsync(topic, list, { qos: 1 });
      const { responses } = JSON.parse(await answer) as { responses: { data: { clients: string[] } }[] };
      expect(responses[0]!.data.clients.toSorted()).toEqual(["admin", "edgelabel", "other", "phone"]);
    });

    test("run again it adds users and changes nothing else; a Mosquitto with users of its own it leaves alone", async () => {
      const home = install("twice");
      const contents = () =>
        Object.fromEntries(
          readdirSync(home, { recursive: true, encoding: "utf8" })
            .filter((name) => statSync(join(home, name)).isFile())
            .map((name) => [name, readFileSync(join(home, name), "utf8")]),
        );
      const bare = contents();
      const refusal = (...args: string[]) =>
        spawnSync(process.execPath, [setup, "--root", home, ...args], { encoding: "utf8" });
      const own = join(home, "etc/mosquitto/conf.d/own.conf");
      for (const line of [
        "listener 1883",
        "allow_anonymous true",
        "password_file /etc/mosquitto/passwd",
        "acl_file /etc/mosquitto/acl",
        "per_listener_settings true",
        "plugin /x.so",
      ]) {
        writeFileSync(own, `# mine\n${line}\n`);
        expect(refusal("phone")).toMatchObject({
          status: 1,
          stdout: "",
          stderr: expect.stringMatching(
            /own\.conf has "\w+": this Mosquitto has users or listeners of its own, which stay as they are\. deploy\/README\.md, "You already have a broker"/,
          ),
        });
      }
      rmSync(own);
      expect(refusal("a/b")).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('"a/b" cannot be a name here'),
      });
      expect(contents()).toEqual(bare);

      // Mosquitto's user, who owns this folder, leads root nowhere.
      const victim = join(home, "victim");
      writeFileSync(victim, "mine");
      symlinkSync(victim, join(home, "var/lib/mosquitto/edgelabel-users.json.new"));
      const first = setUp(home, "phone");
      expect([readFileSync(victim, "utf8"), statSync(victim).uid]).toEqual(["mine", process.getuid!()]);
      expect(Object.keys(first).toSorted()).toEqual(["admin", "edgelabel", "phone"]);
      for (const password of Object.values(first)) expect(password).toMatch(/^[\w-]{24}$/);
      const before = contents();
      const users = "var/lib/mosquitto/edgelabel-users.json";
      for (const password of Object.values(first)) expect(before[users]).not.toContain(password);
      for (const secret of [users, "etc/edgelabel/credentials"])
        expect([secret, statSync(join(home, secret)).mode & 0o077]).toEqual([secret, 0]);
      const second = setUp(home, "--rights", join(deploy, "mosquitto/acl-home-assistant"), "phone", "third");
      expect(Object.keys(second).toSorted()).toEqual(["edgelabel", "homeassistant", "third"]);
      const { [users]: added, ...others } = contents();
      const { [users]: old, ...same } = before;
      expect(others).toEqual(same);
      const listOf = (json: string) => (JSON.parse(json) as { clients: { username: string }[] }).clients;
      expect(listOf(added!).slice(0, -2)).toEqual(listOf(old!));
      expect(
        listOf(added!)
          .slice(-2)
          .map(({ username }) => username),
      ).toEqual(["homeassistant", "third"]);
      // Of the users that were there, the service has what Home Assistant needs besides.
      const rolesOf = (json: string) =>
        (JSON.parse(json) as { roles: { rolename: string; acls: { topic: string }[] }[] }).roles;
      for (const { rolename, acls } of rolesOf(old!)) {
        const now = rolesOf(added!).find((role) => role.rolename === rolename)!.acls;
        expect([rolename, now.slice(0, acls.length)]).toEqual([rolename, acls]);
        expect([rolename, now.slice(acls.length).map(({ topic }) => topic)]).toEqual([
          rolename,
          rolename === "edgelabel"
            ? [
                "homeassistant/status",
                "homeassistant/status",
                "homeassistant/device/edgelabel_gate-1/config",
                "doorbell/transcript",
                "doorbell/transcript",
                "labelled/gate-1/#",
              ]
            : [],
        ]);
      }
      expect(refusal("--tls", "localhost")).toMatchObject({
        status: 1,
        stderr: expect.stringContaining("stays as it is"),
      });
    });

    test("with --tls other machines reach it by TLS, with the authority that was made, and no other way", async () => {
      const tls = await freePort();
      const { home, passwords, end } = await start("tls", "--tls", `localhost:${tls}`, "phone");
      ends.push(end);
      const ca = join(home, "etc/mosquitto/edgelabel/ca.pem");
      const url = `mqtts://localhost:${tls}`;
      const options = { username: "phone", password: passwords["phone"]!, reconnectPeriod: 0, connectTimeout: 30_000 };
      const client = await mqtt.connectAsync(url, { ...options, ca: readFileSync(ca) }, false);
      ends.push(() => client.endAsync(true));
      await expect(mqtt.connectAsync(url, options, false)).rejects.toMatchObject({
        code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
      });
      await expect(mqtt.connectAsync(url.replace("mqtts", "mqtt"), options, false)).rejects.toThrow(
        /ECONNRESET|closed/,
      );
      const service = fakeService({
        access: { url, username: "edgelabel", password: passwords["edgelabel"]!, tls: { ca: readFileSync(ca) } },
      });
      ends.push(() => service.stop());
      await service.start();
      const env = { ...process.env, EDGELABEL_MQTT_USERNAME: "phone", EDGELABEL_MQTT_PASSWORD: passwords["phone"] };
      const asked = await promisify(execFile)(
        process.execPath,
        [main, "ask", "win", "--broker", url, "--ca", ca, "--node", "gate-1"],
        { env, encoding: "utf8" },
      );
      expect(asked.stdout).toMatch(/^spam\t/);
      expect(readdirSync(join(home, "etc/mosquitto/edgelabel")).toSorted()).toEqual([
        "ca.pem",
        "server.key",
        "server.pem",
      ]);
      expect(statSync(join(home, "etc/mosquitto/edgelabel/server.key")).mode & 0o077).toBe(0);
    });

    test("with acl-home-assistant, Home Assistant hears all that it is told of, and may have activated what waits, no more", async () => {
      writeFileSync(join(folder, "acl-doorbell"), "user doorbell\ntopic write doorbell/transcript\n");
      const broker = await start(
        "home-assistant",
        "--rights",
        join(deploy, "mosquitto/acl-home-assistant"),
        "--rights",
        join(folder, "acl-doorbell"),
      );
      ends.push(broker.end);
      const { routes, announcements } = settingsOf("home-assistant.json");
      const service = fakeService({
        access: { url: broker.url, username: "edgelabel", password: broker.passwords["edgelabel"]! },
        routes,
        announcements,
        figuresSeconds: 0.2,
        commands: true,
      });
      ends.push(() => service.stop());
      await service.start();
      const client = await connect("homeassistant", {}, broker);
      const heard = new Map<string, string>();
      client.on("message", (topic, payload) => void heard.set(topic, payload.toString()));
      await client.subscribeAsync(
        [
          "homeassistant/#",
          "labelled/gate-1/#",
          "edgelabel/gate-1/status",
          "edgelabel/gate-1/info",
          "edgelabel/gate-1/metrics",
        ],
        { qos: 1 },
      );
      const config = "homeassistant/device/edgelabel_gate-1/config";
      await until(() => heard.has(config));
      heard.delete(config);
      await client.publishAsync("homeassistant/status", "online", { qos: 1 });
      await until(() => heard.has(config));
      const doorbell = await connect("doorbell", {}, broker);
      await doorbell.publishAsync("doorbell/transcript", "you win", { qos: 1 });
      const { availability_topic, cmps } = JSON.parse(heard.get(config)!) as {
        availability_topic: string;
        cmps: Record<string, Record<string, string>>;
      };
      const topics = [
        availability_topic,
        ...Object.values(cmps).flatMap((component) =>
          Object.entries(component).flatMap(([key, topic]) =>
            /^(?:state|json_attributes|latest_version)_topic$/.test(key) ? [topic] : [],
          ),
        ),
      ];
      expect(topics.length).toBeGreaterThan(6);
      await until(() => topics.every((topic) => heard.has(topic)));
      expect(heard.get("labelled/gate-1/doorbell")).toBe('{"label":"spam","score":0.875}');

      service.setWaiting("spam", { version: "2.0.0", digest: "e".repeat(64) });
      await until(() => heard.get(config)!.includes("e".repeat(64)));
      const { update } = (JSON.parse(heard.get(config)!) as { cmps: Record<string, Record<string, string>> }).cmps;
      const done = new Promise<void>((resolve) => {
        service.commands!.add("activate", async ({ args }) => {
          resolve();
          return args;
        });
      });
      await client.publishAsync(update!["command_topic"]!, update!["payload_install"]!, { qos: 1 });
      await done;
      for (const topic of [
        "edgelabel/gate-1/cmd/load/1",
        "edgelabel/gate-1/cmd/rollback/1",
        config,
        "labelled/gate-1/doorbell",
      ])
        expect([topic, await mayWrite(client, topic)]).toEqual([topic, false]);
    });

    test("admin may send an update to the service, phone may not", async () => {
      const run = (user: string, ...args: string[]) => {
        const env = { ...process.env, EDGELABEL_MQTT_USERNAME: user, EDGELABEL_MQTT_PASSWORD: at.passwords[user]! };
        return new Promise<{ code: unknown; output: string }>((resolve) => {
          execFile(process.execPath, [main, ...args], { cwd: folder, env }, (error, stdout, stderr) =>
            resolve({ code: error?.code ?? 0, output: stdout + stderr }),
          );
        });
      };
      writeFileSync(
        join(folder, "trusted-keys"),
        (await run("admin", "keygen", "release.pem")).output.split("\n").find((line) => line.startsWith("ed25519"))!,
      );
      await run("admin", "models", "install", "registry", "model.wasm", "--unsigned");
      await run("admin", "sign", "model.wasm", "--key", "release.pem", "--sequence", "1", "--expires", "1d");
      writeFileSync(
        join(folder, "commands.json"),
        JSON.stringify({
          node: "gate-1",
          broker: at.url,
          clientId: "with-commands",
          registry: { path: "registry", keys: "trusted-keys" },
          commands: true,
        }),
      );
      const env = {
        ...process.env,
        EDGELABEL_MQTT_USERNAME: "edgelabel",
        EDGELABEL_MQTT_PASSWORD: at.passwords["edgelabel"]!,
      };
      const service = await serve(["--config", join(folder, "commands.json")], { env });
      const send = (user: string) =>
        run(user, "models", "send", "model.update", "--broker", at.url, "--node", "gate-1");
      const refused = await send("phone");
      expect(refused).toMatchObject({
        code: 1,
        output: expect.stringMatching(
          /^edgelabel: the broker refuses the subscription to edgelabel\/gate-1\/cmd\/load\//,
        ),
      });
      expect(await send("admin")).toMatchObject({
        code: 0,
        output: expect.stringMatching(/^tiny\t1\tactive\t.*\tsequence 1, key [0-9a-f]{16}\n$/),
      });
      expect(service.output()).toContain("model tiny is version 1 now");
      expect(service.output()).not.toContain("whoever reaches the broker");
    });

    test("the unit's own commands run the service under these rights, and SIGTERM ends it well", async () => {
      const unit = readFileSync(join(deploy, "edgelabel.service"), "utf8");
      expect(unit).not.toMatch(/^MemoryDenyWriteExecute=/m);
      expect(unit).not.toMatch(/^Documentation=https:\/\/mqtt/m);
      const command = (key: string) => {
        const line = new RegExp(`^${key}=(.*)$`, "m").exec(unit)![1]!;
        return line
          .replace(/^edgelabel /, `${process.execPath} ${main} `)
          .replace("/etc/edgelabel/", `${folder}/`)
          .split(" ");
      };
      const file = join(folder, "edgelabel.json");
      writeFileSync(
        file,
        readFileSync(file, "utf8")
          .replace(":1883", `:${at.port}`)
          .replace("8080", "0")
          .replace("{", '{ "group": "pool",'),
      );
      const env = {
        ...process.env,
        EDGELABEL_MQTT_USERNAME: "edgelabel",
        EDGELABEL_MQTT_PASSWORD: at.passwords["edgelabel"]!,
      };
      const [node, ...pre] = command("ExecStartPre");
      expect(spawnSync(node!, pre, { env }).status).toBe(0);
      const [, ...args] = command("ExecStart");
      const service = startProgram(node!, args, { env });
      await until(() => service.output().includes('"msg":"serving"'));
      const phone = await connect("phone");
      const answers: string[] = [];
      phone.on("message", (topic, payload) => void (payload.includes('"score"') && answers.push(topic)));
      await phone.subscribeAsync("edgelabel/gate-1/reply/phone/#");
      for (const responseTopic of [
        "edgelabel/gate-1/reply/phone/1",
        "zigbee2mqtt/lamp/set",
        "edgelabel/gate-1/reply/other/1",
        "edgelabel/gate-1/reply/phone/2",
      ]) {
        await phone.publishAsync("edgelabel/gate-1/from/phone/classify", "turn on the light", {
          qos: 1,
          properties: { responseTopic },
        });
      }
      await until(() => answers.length === 2);
      expect(answers).toEqual(["edgelabel/gate-1/reply/phone/1", "edgelabel/gate-1/reply/phone/2"]);
      const asked = execFileSync(
        process.execPath,
        [main, "ask", "turn on the light", "--broker", at.url, "--node", "pool"],
        {
          env: { ...process.env, EDGELABEL_MQTT_USERNAME: "phone", EDGELABEL_MQTT_PASSWORD: at.passwords["phone"] },
          encoding: "utf8",
        },
      );
      expect(asked).toMatch(/^light\t/);
      expect(service.output()).not.toContain(at.passwords["edgelabel"]);
      expect(service.output()).not.toContain("turn on");
      expect((await service.end()).code).toBe(0);
      for (const line of service.output().trim().split("\n")) expect(JSON.parse(line)).toHaveProperty("msg");
    });
  });
});
