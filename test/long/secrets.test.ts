// Texts and secrets planted wherever they can be: none may come out anywhere but where it
// belongs. The built command as a process, on a Mosquitto with a password and TLS, and on its
// own broker; looked for in the log (plain and JSON), /metrics, pages, error answers, status and
// info topics, the arguments and what a crash leaves behind.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import mqtt from "mqtt";
import type { IClientOptions } from "mqtt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EdgelabelError } from "../../host/errors.ts";
import { readSettings } from "../../host/service/config.ts";
import { hashPassword } from "../../host/service/users.ts";
import { Certificates } from "../support/certificates.ts";
import { main, type Running, startProgram } from "../support/program.ts";
import { pause, until } from "../support/wait.ts";
import { tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { size } from "./size.ts";

const TEXTS = size(10_000, 600);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-secrets-"));

/** Each is told apart, and none is a word that could be there by chance. */
const secrets = {
  filePassword: "s3cret-file-Zq1",
  environmentPassword: "s3cret-env-Zq2",
  userPassword: "s3cret-user-Zq3",
  token: "s3cret-token-Zq4",
  urlPassword: "s3cret-url-Zq5",
};
const canary = (i: number): string => `canary${i}zq`;

beforeAll(async () => {
  writeFileSync(join(folder, "m.wasm"), await tinyDeployable());
  const certificates = new Certificates(folder);
  certificates.authority("ca");
  certificates.certificate("server", "ca", "localhost");
  certificates.certificate("device", "ca", "device");
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Lines of a key file: none of them may be seen either. */
const keyLines = (...names: string[]): string[] =>
  names.flatMap((name) =>
    readFileSync(join(folder, `${name}.key`), "utf8")
      .split("\n")
      .filter((line) => line.length > 20 && !line.startsWith("-")),
  );

/** Any six characters in a row of it give away too much. */
const piecesOf = (secret: string): string[] =>
  Array.from({ length: secret.length - 5 }, (_, i) => secret.slice(i, i + 6));

/** What of `planted` stands in `places`, by the places' names. */
function found(places: Record<string, string>, planted: readonly string[]): string[] {
  return Object.entries(places).flatMap(([place, text]) =>
    planted
      .filter((secret) => text.includes(secret))
      .map(
        (secret) =>
          `${secret} in ${place}: ${text.slice(Math.max(0, text.indexOf(secret) - 100), text.indexOf(secret) + 100)}`,
      ),
  );
}

/** Makes the engine trap on some texts; on SIGUSR2 the service's next answer throws where no handler can catch it, on SIGHUP it uses up its memory. */
const faults = `data:text/javascript,${encodeURIComponent(`
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (...args) => {
    const made = await instantiate(...args);
    const { exports } = made.instance ?? made;
    if (!exports.classify) return made;
    const classify = (length) => {
      const text = new TextDecoder().decode(new Uint8Array(exports.memory.buffer, exports.textPtr(), length));
      if (text.includes("trap")) throw new WebAssembly.RuntimeError("memory access out of bounds");
      return exports.classify(length);
    };
    const instance = { exports: { ...exports, classify } };
    return made.instance ? { module: made.module, instance } : instance;
  };
  const { stringify } = JSON;
  process.on("SIGUSR2", () => {
    JSON.stringify = (value) => {
      queueMicrotask(() => value.nothing.here);
      return stringify(value);
    };
  });
  process.on("SIGHUP", () => { const all = []; for (;;) all.push(new Array(1e5).fill(all.length)); });
`)}`;

async function serve(
  config: object,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  sign = /https?:\/\/127\.0\.0\.1:\d+/,
): Promise<Running> {
  const path = join(folder, "edgelabel.json");
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  const running = startProgram(
    process.execPath,
    ["--max-old-space-size=80", "--import", faults, main, "serve", "--config", path, "--http", "0", ...args],
    { env: { ...process.env, EDGELABEL_TOKEN: secrets.token, AWS_SECRET_ACCESS_KEY: secrets.token, ...env } },
  );
  await until(() => sign.test(running.output()) || running.child.exitCode !== null);
  expect(running.child.exitCode, running.output()).toBeNull();
  return running;
}

const base = {
  models: ["m.wasm"],
  node: "n",
  responses: { allow: ["answers/#"] },
  limits: { payloadBytes: 5_000 },
  routes: [
    {
      name: "sms",
      filter: "sms/+",
      text: "/text",
      outputs: [{ topic: "labels/{1}", when: "any", payload: { label: "{label}" } }],
    },
  ],
};

/** Sends TEXTS canaries in every way that texts come, right and wrong; returns all that anybody but the requester can see, and the error answers. */
async function plant({ child, output }: Running, url: string, login: IClientOptions): Promise<Record<string, string>> {
  const seen: string[] = [];
  const client = await mqtt.connectAsync(url, { ...login, reconnectPeriod: 0 });
  const isOver = (topic: string, text: string) => topic === "answers/end" && text.includes('"label"');
  let isDone = false;
  client.on("message", (topic, payload) => {
    const text = payload.toString();
    // Our own requests come back to us, since we listen to everything; an answer is the requester's.
    if (/^n?o?pe|\/classify|^sms\//.test(topic)) return;
    isDone ||= isOver(topic, text);
    seen.push(`${topic} ${text}`);
  });
  await client.subscribeAsync("#", { qos: 1 });
  const http = /http:\/\/127\.0\.0\.1:\d+/.exec(output())![0];
  const errors: string[] = [];
  // The same users as over MQTT, where there are any.
  const Authorization = `Basic ${Buffer.from(`${login.username}:${login.password}`).toString("base64")}`;
  const post = async (
    path: string,
    body: string,
    headers: Record<string, string> = { "Content-Type": "application/json" },
  ) => {
    errors.push(
      await (await fetch(http + path, { method: "POST", headers: { Authorization, ...headers }, body })).text(),
    );
  };
  const topic = "edgelabel/n/classify";
  const send = (at: string, payload: string | object, properties?: object) =>
    void client.publish(at, typeof payload === "string" ? payload : JSON.stringify(payload), {
      qos: 0,
      ...(properties && login.protocolVersion === 5 ? { properties } : {}),
    });
  const ways: ((text: string, i: number) => void)[] = [
    (text) => send(topic, text),
    (text, id) => send(topic, { text, id }),
    (text) => send(topic, { texts: [text, 7] }),
    (text) => send(topic, { text: { text } }),
    (text) => send(topic, { text, topK: text, threshold: text, deadline: text }),
    (text) => send(topic, `{"text": "${text}`),
    (text) => send(topic, `{"text": "${text}`, { contentType: "application/json" }),
    (text) => send(topic, { text, texts: [text] }),
    (text, id) => send(topic, { text, id, replyTo: "edgelabel/other/classify" }),
    (text) => send(`${topic}/nope`, { text }),
    (text) => send(topic, `trap ${text}`),
    (text) => send(topic, text.padEnd(6_000, "x")),
    (text) => send(topic, { text, id: { text } }),
    (text) => send("sms/1", { text }),
    (text) => send("sms/1", `{"text":"${text}"`),
    (text) => send("sms/1", { text: `trap ${text}` }),
  ];
  for (let i = 0; i < TEXTS; i++) {
    ways[i % ways.length]!(canary(i), i);
    if (i % 100 === 0) {
      const text = canary(i);
      await post("/predict", JSON.stringify({ data: text }));
      await post("/predict", `{"data": "${text}`);
      await post("/predict", JSON.stringify({ data: [text], model: text }));
      await post("/predict", JSON.stringify({ data: text, model: text }));
      await post("/predict", JSON.stringify({ data: `trap ${text}` }), {
        "Content-Type": "application/json",
        Authorization: `Bearer ${secrets.token}`,
        "X-Text": text,
      });
      await post("/predict", text, { "Content-Type": text });
      await post(
        "/v2/models/tiny/infer",
        JSON.stringify({ inputs: [{ name: text, datatype: text, shape: [1], data: [text] }] }),
      );
      await post(`/v2/models/${text}/infer?token=${secrets.token}`, JSON.stringify({ inputs: text }));
      await post(`/${text}`, text);
    }
  }
  for (let tries = 0; !isDone; tries++) {
    if (tries > 200) throw new Error(`the service does not answer any more: ${output().slice(-2_000)}`);
    send(topic, { text: "light", replyTo: "answers/end", id: tries });
    await pause(100);
  }
  await client.endAsync(true);
  const pages = await Promise.all(
    ["/", "/metrics", "/healthz", "/readyz", "/v2", "/v2/models/tiny", "/v2/models/tiny/ready"].map(async (path) =>
      (await fetch(http + path, { headers: { Authorization } })).text(),
    ),
  );
  expect(pages[1]).toMatch(/edgelabel_errors_total\{code="internal"\} \d+/);
  expect(seen.length).toBeGreaterThan(TEXTS / 3);
  return {
    topics: seen.join("\n"),
    "HTTP answers": errors.join("\n"),
    "HTTP pages": pages.join("\n"),
    log: output(),
    arguments: readFileSync(`/proc/${child.pid}/cmdline`, "utf8"),
    children: childrenOf(child.pid!),
  };
}

/** Command lines and environments that anybody's child has been given by the process. */
function childrenOf(pid: number): string {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      try {
        const parent = / \(.*\) \S (\d+) /s.exec(readFileSync(`/proc/${name}/stat`, "utf8"))?.[1];
        return Number(parent) === pid
          ? readFileSync(`/proc/${name}/cmdline`, "utf8") + readFileSync(`/proc/${name}/environ`, "utf8")
          : "";
      } catch {
        return "";
      }
    })
    .join("");
}

/** What is left when the service dies in the middle of a request: an exception nobody expects, and no memory. */
async function crash(
  { child, output, ended }: Running,
  signal: "SIGUSR2" | "SIGHUP",
  url: string,
  login: IClientOptions,
): Promise<Record<string, string>> {
  const client = await mqtt.connectAsync(url, { ...login, reconnectPeriod: 0 });
  client.on("error", () => {});
  child.kill(signal);
  let sent = 0;
  const timer = setInterval(
    () => client.publish("edgelabel/n/classify", JSON.stringify({ text: canary(1), id: sent++ }), { qos: 0 }),
    20,
  );
  await Promise.race([ended, pause(100_000)]);
  clearInterval(timer);
  expect(
    child.exitCode ?? child.signalCode,
    `lives on after ${sent} requests, connected ${client.connected}: ${output().slice(-500)}`,
  ).not.toBeNull();
  client.end(true);
  expect(child.exitCode).not.toBe(0);
  expect(output()).toMatch(signal === "SIGHUP" ? /heap out of memory/ : /TypeError/);
  return { [`crash by ${signal}`]: output() };
}

const planted = (...names: string[]): string[] => [...Object.values(secrets), "canary", ...keyLines(...names)];

describeMosquitto(`${TEXTS} texts, on Mosquitto`, (binaries) => {
  test.each([
    [[] as string[], "SIGUSR2"],
    [["--json"], "SIGHUP"],
  ] as const)(
    "with %j",
    async (args, signal) => {
      const passwords = join(folder, "passwd");
      const tool = [dirname(binaries.pub), dirname(binaries.broker)]
        .map((bin) => join(bin, "mosquitto_passwd"))
        .find((path) => existsSync(path))!;
      writeFileSync(
        passwords,
        `device:${secrets.filePassword}\nservice:${secrets.environmentPassword}\nclient:${secrets.userPassword}\n`,
        { mode: 0o600 },
      );
      expect(
        spawnSync(tool, ["-U", passwords], {
          env: { ...binaries.env, PATH: `${dirname(tool)}${delimiter}${process.env["PATH"]}` },
        }).status,
      ).toBe(0);
      const broker = await startMosquitto(binaries, {
        lines: [
          "allow_anonymous false",
          `password_file ${passwords}`,
          `cafile ${join(folder, "ca.pem")}`,
          `certfile ${join(folder, "server.pem")}`,
          `keyfile ${join(folder, "server.key")}`,
        ],
      });
      const url = `mqtts://localhost:${broker.port}`;
      const login: IClientOptions = {
        protocolVersion: 5,
        username: "client",
        password: secrets.userPassword,
        ca: readFileSync(join(folder, "ca.pem")),
      };
      // The environment's login wins: the file's is never even right.
      const config = {
        ...base,
        broker: url,
        username: "device",
        password: secrets.urlPassword,
        tls: { ca: "ca.pem", cert: "device.pem", key: "device.key" },
      };
      const serving = await serve(config, args, {
        EDGELABEL_MQTT_USERNAME: "service",
        EDGELABEL_MQTT_PASSWORD: secrets.environmentPassword,
      });
      const places = await plant(serving, url, login);
      expect(found(places, planted("device"))).toEqual([]);
      // It has had something to say, and at every level.
      if (args.length > 0) {
        const levels = serving
          .output()
          .trim()
          .split("\n")
          .map((line) => (JSON.parse(line) as { level: number }).level);
        expect([30, 40, 50].filter((level) => !levels.includes(level))).toEqual([]);
      } else
        expect(serving.output()).toMatch(
          /a request failed: memory access out of bounds[^]*may not be used|may not be used[^]*a request failed/,
        );
      expect(found(await crash(serving, signal, url, login), planted("device"))).toEqual([]);
      // Refused by the broker, and left by it.
      const refused = await serve(config, args, {}, /cannot reach/);
      expect(refused.output()).toContain("the broker refuses the user name or password");
      refused.child.kill("SIGKILL");
      const left = await serve(config, args, {
        EDGELABEL_MQTT_USERNAME: "service",
        EDGELABEL_MQTT_PASSWORD: secrets.environmentPassword,
      });
      await broker.kill();
      await until(() => left.output().includes("lost"));
      left.child.kill("SIGKILL");
      expect(found({ refusal: refused.output(), loss: left.output() }, planted("device"))).toEqual([]);
    },
    300_000,
  );
});

describe(`${TEXTS} texts, on the embedded broker`, () => {
  test.each([[] as string[], ["--json"]])(
    "with users of HTTP, %j",
    async (...args) => {
      const hash = await hashPassword(secrets.userPassword);
      const config = {
        ...base,
        port: 0,
        users: {
          client: { password: hash, publish: ["#"], subscribe: ["#"] },
          other: { password: await hashPassword(secrets.filePassword) },
        },
      };
      const serving = await serve(config, args);
      const url = /mqtt:\/\/127\.0\.0\.1:\d+/.exec(serving.output())![0];
      // For HTTP; the broker asks for none, and must not tell of it either.
      const login: IClientOptions = { protocolVersion: 4, username: "client", password: secrets.userPassword };
      const places = await plant(serving, url, login);
      expect(found(places, [...planted(), hash, hash.split("$").at(-1)!])).toEqual([]);
      expect(found(await crash(serving, "SIGUSR2", url, login), [...planted(), hash])).toEqual([]);
    },
    300_000,
  );
});

describe("settings that are wrong are told without what they hold", () => {
  const secret = secrets.filePassword;
  const pem = () => readFileSync(join(folder, "device.key"), "utf8");
  const configs: [string, () => string][] = [
    ["a comma is missing behind the password", () => `{"models":["m.wasm"],"password":"${secret}" "username":"u"}`],
    ["the password has no quotes", () => `{"password":${secret}}`],
    ["the password is cut off", () => `{"username":"u","password":"${secret}`],
    ["the password has a line end", () => `{"password":"${secret}\n"}`],
    ["nothing but the password", () => secret],
    ["a password as a string alone", () => JSON.stringify(secret)],
    ["the password in an array", () => JSON.stringify({ models: ["m.wasm"], password: [secret] })],
    ["the password in an object", () => JSON.stringify({ models: ["m.wasm"], password: { value: secret } })],
    ["a misspelt key", () => JSON.stringify({ models: ["m.wasm"], pasword: secret })],
    [
      "a user's password instead of its hash",
      () => JSON.stringify({ models: ["m.wasm"], users: { u: { password: secret } } }),
    ],
    ["a user who is only a password", () => JSON.stringify({ models: ["m.wasm"], users: { u: secret } })],
    ["users as an array", () => JSON.stringify({ models: ["m.wasm"], users: [secret] })],
    [
      "a key in the place of its file",
      () =>
        JSON.stringify({ models: ["m.wasm"], broker: "mqtts://localhost", tls: { cert: "device.pem", key: pem() } }),
    ],
    [
      "a server's key in the place of its file",
      () => JSON.stringify({ models: ["m.wasm"], serverTls: { cert: "server.pem", key: pem() } }),
    ],
    [
      "a key that is no key",
      () => {
        writeFileSync(join(folder, "broken.key"), secret);
        return JSON.stringify({ models: ["m.wasm"], serverTls: { cert: "server.pem", key: "broken.key" } });
      },
    ],
    ...[
      `mqtt://u:${secret}@h`,
      `mqtt://u:${secret}/x@h`,
      `mqtt://u:${secret}#x@h`,
      `mqtt://u:${secret}?x@h`,
      `mqtt://u:${secret}@h:99999`,
      `mqtt:u:${secret}@h`,
      `u:${secret}@h`,
      `http://u:${secret}@h`,
      `mqtt:///u:${secret}@h`,
      `mqtt://u%3A${secret}@h`,
      `//u:${secret}@h`,
      `mqtt:/u:${secret}@h`,
      `mqtt://${secret}@h`,
      `mqtt://u:@${secret}@h`,
      `https://h/?token=${secret}`,
      `mqtt://h,mqtt://u:${secret}@h`,
      `mqtt://u:${secret},x@h`,
    ].map((url): [string, () => string] => [
      `the broker ${url.replace(secret, "…")}`,
      () => JSON.stringify({ models: ["m.wasm"], broker: url }),
    ]),
  ];

  test.each(configs)("%s", (_name, content) => {
    const path = join(folder, "wrong.json");
    writeFileSync(path, content(), { mode: 0o600 });
    let message = "";
    try {
      readSettings([], { config: path, node: "n" }, {});
    } catch (error) {
      expect(error).toBeInstanceOf(EdgelabelError);
      ({ message } = error as EdgelabelError);
    }
    expect(message).not.toBe("");
    expect(found({ message }, [...piecesOf(secret), ...keyLines("device")])).toEqual([]);
  });

  test("the line where JSON goes wrong is named", () => {
    const path = join(folder, "wrong.json");
    for (const [line, content] of [
      [3, `{\n  "models": ["m.wasm"],\n  "username": "u"\n  "password": "p"\n}`],
      [3, `{\n  "models": ["m.wasm"],\n  "password": ${secret},\n  "username": "somebody"\n}`],
      [2, `{\n  "password": "${secret}`],
    ] as const) {
      writeFileSync(path, content, { mode: 0o600 });
      expect(() => readSettings([], { config: path })).toThrow(
        `${path} is not JSON from line ${line} on: look for a missing or extra comma, quote or bracket`,
      );
    }
    expect(spawnSync(process.execPath, [main, "serve", "--config", path], { encoding: "utf8" })).toMatchObject({
      status: 1,
      stdout: "",
      stderr: expect.stringMatching(/^edgelabel: .* is not JSON from line 2 on: .*\n$/),
    });
  });

  test("a token in a broker's URL, which WebSockets may have, is not shown", async () => {
    for (const url of [
      `ws://localhost:1/mqtt?token=${secret}`,
      `ws://localhost:1/?t=${secret},mqtt://localhost:1#${secret}`,
    ]) {
      const path = join(folder, "token.json");
      writeFileSync(path, JSON.stringify({ models: ["m.wasm"], node: "n", broker: url }), { mode: 0o600 });
      const { status, stdout, stderr } = spawnSync(process.execPath, [main, "serve", "--config", path, "--check"], {
        encoding: "utf8",
      });
      expect(status, stderr).toBe(0);
      expect(stdout).toContain("***");
      const { stderr: asked } = spawnSync(process.execPath, [main, "ask", "hi", "--broker", url], { encoding: "utf8" });
      expect(asked).toContain("cannot reach");
      const serving = await serve({ ...base, broker: url }, [], {}, /cannot reach/);
      serving.child.kill("SIGKILL");
      expect(found({ stdout, stderr, asked, log: serving.output() }, piecesOf(secret))).toEqual([]);
    }
  });

  test.each(["serve", "ask"])(
    "%s: a broker's password on the command line is refused, and not said again",
    (command) => {
      for (const url of [`mqtt://u:${secret}@h`, `u:${secret}/x@h`]) {
        const { status, stdout, stderr } = spawnSync(
          process.execPath,
          [main, command, join(folder, "m.wasm"), "--broker", url],
          { encoding: "utf8" },
        );
        expect(status).toBe(1);
        expect(found({ stdout, stderr }, [secret])).toEqual([]);
      }
    },
  );
});
