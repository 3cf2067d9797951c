import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parseConfig, parseModelArgument, readSettings } from "../../../host/service/config.ts";
import { Certificates } from "../../support/certificates.ts";
import type { ServeOptions } from "../../../host/service/config.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

function settingsFrom(
  config: object | undefined,
  options: ServeOptions = {},
  { models = [] as string[], env = {}, mode = 0o600 } = {},
) {
  if (config === undefined) return readSettings(models, options, env);
  const path = join(folder, "edgelabel.json");
  writeFileSync(path, JSON.stringify(config));
  chmodSync(path, mode);
  return readSettings(models, { config: path, ...options }, env);
}

describe("review", () => {
  const base = { models: ["m"], node: "n" };
  const users = { ann: { password: `scrypt$32768$3$${"A".repeat(22)}$${"A".repeat(43)}` } };

  test("is off, or has its defaults, or what is given", () => {
    expect(settingsFrom({ ...base, http: 1 }).review).toBeUndefined();
    const { review, warnings } = settingsFrom({ ...base, http: 1, review: {} });
    expect(review).toEqual({ texts: 200, hours: 24 });
    expect(warnings.join()).toContain("kept in memory");
    expect(settingsFrom({ ...base, http: 1, review: { hours: 2 } }).review).toEqual({ texts: 200, hours: 2 });
  });

  test("needs HTTP, and users where others than this machine's programs could see the texts", () => {
    const refusal = "needs a login";
    expect(() => settingsFrom({ ...base, review: {} })).toThrow('give "http" too');
    expect(() => settingsFrom({ ...base, http: 1, host: "0.0.0.0", broker: "mqtt://b", review: {} })).toThrow(refusal);
    expect(() => settingsFrom({ ...base, http: 1, broker: "mqtt://b", review: {} })).toThrow(refusal);
    const open = settingsFrom({ ...base, http: 1, host: "0.0.0.0", broker: "mqtt://b", users, review: {} });
    expect([open.review, open.isConsoleOpen]).toEqual([{ texts: 200, hours: 24 }, false]);
  });
});

test("defaults", () => {
  const settings = settingsFrom(undefined, { node: "n" }, { models: ["a.wasm", "x=dir/b.wasm"] });
  expect(settings).toMatchObject({
    models: [{ path: "a.wasm" }, { name: "x", path: "dir/b.wasm" }],
    clientId: "edgelabel-n",
    host: "127.0.0.1",
    embeddedPort: 1883,
    httpPort: undefined,
    responses: { allow: ["#"], deny: [] },
    warnings: [],
  });
  expect(settings.topics.classify).toBe("edgelabel/n/classify");
  expect(settings.access.url).toBeUndefined();
});

test("the file's paths start at its folder; options and environment win over it", () => {
  writeFileSync(join(folder, "ca.pem"), "CA");
  const config = {
    models: ["m.wasm", { name: "b", path: "/abs/b.elb" }],
    broker: "mqtts://file:8883",
    node: "file",
    http: 1,
    username: "u",
    password: "p",
    tls: { ca: "ca.pem" },
    limits: { queuedAnswers: 7 },
  };
  const settings = settingsFrom(config);
  expect(settings.models).toEqual([{ path: join(folder, "m.wasm") }, { name: "b", path: "/abs/b.elb" }]);
  expect(settings.access).toMatchObject({
    url: "mqtts://file:8883",
    username: "u",
    password: "p",
    tls: { ca: Buffer.from("CA") },
  });
  expect(settings.limits).toMatchObject({ queuedAnswers: 7, answerSeconds: 60 });
  const over = settingsFrom(
    config,
    { broker: "wss://option", node: "option", http: 0 },
    { models: ["c.wasm"], env: { EDGELABEL_MQTT_USERNAME: "eu", EDGELABEL_MQTT_PASSWORD: "ep" } },
  );
  expect(over.models).toEqual([{ path: "c.wasm" }]);
  expect(over.access).toMatchObject({ url: "wss://option", username: "eu", password: "ep" });
  expect([over.topics.node, over.httpPort]).toEqual(["option", 0]);
});

test("several brokers of one cluster, and a group", () => {
  const settings = settingsFrom({ models: ["m"], node: "n", group: "pool", broker: ["mqtt://a:1", "mqtt://b:2"] });
  expect(settings.access).toMatchObject({ url: "mqtt://a:1,mqtt://b:2", protocol: 5 });
  expect(settings.topics.group?.classify).toBe("edgelabel/pool/classify");
  const over = settingsFrom(
    { models: ["m"], node: "n", group: "pool", broker: "mqtt://a" },
    { group: "other", broker: "mqtt://c,mqtt://d" },
  );
  expect([over.access.url, over.topics.group?.name]).toEqual(["mqtt://c,mqtt://d", "other"]);
});

test("with a login of its own the service answers on its own topics only, unless told otherwise", () => {
  const allow = (config: object, env = {}) =>
    settingsFrom({ models: ["m"], node: "n", ...config }, {}, { env }).responses.allow;
  expect(allow({})).toEqual(["#"]);
  expect(allow({ broker: "mqtt://h" })).toEqual(["#"]);
  expect(allow({ broker: "mqtt://h", username: "u" })).toEqual([]);
  expect(allow({ broker: "mqtt://h" }, { EDGELABEL_MQTT_USERNAME: "u" })).toEqual([]);
  // The embedded broker's clients may publish anywhere themselves.
  expect(allow({ users: {}, http: 1 })).toEqual(["#"]);
  expect(allow({ broker: "mqtt://h", username: "u", responses: { allow: ["clients/#"] } })).toEqual(["clients/#"]);
});

test("routes get their defaults; users and TLS files are for HTTP", () => {
  const settings = settingsFrom({
    models: ["m"],
    node: "n",
    routes: [{ name: "r", filter: "a/+", text: "/t", outputs: [{ topic: "b/{1}" }] }],
  });
  expect(settings.routes).toEqual([
    {
      name: "r",
      filter: "a/+",
      text: ["/t"],
      model: "",
      threshold: 0,
      outputs: [{ topic: "b/{1}", payload: undefined, when: "known", onChange: false, qos: 1, retain: false }],
    },
  ]);
  for (const broker of [{}, { broker: "mqtt://h" }])
    expect(() => settingsFrom({ models: ["m"], ...broker, users: {} })).toThrow(
      '"users" are those of HTTP, which is off: give "http" too',
    );
  writeFileSync(join(folder, "bad.pem"), "no certificate");
  expect(() => settingsFrom({ models: ["m"], serverTls: { cert: "bad.pem", key: "bad.pem" } })).toThrow(
    /"serverTls": .*bad\.pem.* do not go together/,
  );
  expect(() =>
    settingsFrom({ models: ["m"], routes: [{ name: "r", filter: "a", outputs: [{ topic: "a" }] }] }),
  ).toThrow("would be received again through a");
});

test("settings that would have no effect are told", () => {
  writeFileSync(join(folder, "authority.pem"), "CA");
  const warnings = (config: object, options: ServeOptions = {}) =>
    settingsFrom({ models: ["m"], node: "n", ...config }, options).warnings;
  expect(warnings({ username: "u" })).toEqual([
    '"username" has no effect: it is for a broker that is given by its URL',
  ]);
  expect(warnings({ broker: "mqtt://h", port: 1, host: "::1" })).toEqual([
    '"port" has no effect: it is for the embedded broker',
    '"host" has no effect: it is for HTTP and Wyoming',
  ]);
  expect(warnings({ host: "localhost" })).toEqual(['"host" has no effect: it is for HTTP and Wyoming']);
  expect(warnings({ host: "localhost", wyoming: 1 })).toEqual([]);
  expect(warnings({ broker: "mqtt://h", http: 1, host: "::1", username: "u" })).toEqual([]);
  expect(() => warnings({ tls: { ca: "authority.pem" } })).toThrow(
    '"tls" (--ca, --cert, --key) is for a broker that is given by its URL; the embedded one is reached from this machine only',
  );
  expect(() => warnings({}, { ca: join(folder, "authority.pem") })).toThrow('"tls" (--ca');
});

test("further names for HTTP", () => {
  expect(settingsFrom({ models: ["m"], node: "n" }).httpHosts).toEqual([]);
  const settings = settingsFrom({ models: ["m"], node: "n", http: 1, httpHosts: ["labels.example.org", "edgelabel"] });
  expect([settings.httpHosts, settings.warnings]).toEqual([["labels.example.org", "edgelabel"], []]);
  expect(settingsFrom({ models: ["m"], node: "n", httpHosts: ["a"] }).warnings).toEqual([
    '"httpHosts" has no effect: it is for HTTP',
  ]);
});

test("Wyoming: a port, or more; open to others only with a warning", () => {
  const settings = (config: object, options: ServeOptions = {}) =>
    settingsFrom({ models: ["m"], node: "n", broker: "mqtt://h", ...config }, options);
  expect(settings({}).wyoming).toBeUndefined();
  expect(settings({ wyoming: 1 }).wyoming).toEqual({ port: 1, threshold: 0 });
  expect(settings({ wyoming: { port: 1, threshold: 0.5 } }, { wyoming: 0 }).wyoming).toEqual({
    port: 0,
    threshold: 0.5,
  });
  expect(settings({ wyoming: 1 }).warnings).toEqual([]);
  expect(settings({ wyoming: 1, host: "0.0.0.0" }).warnings).toEqual([
    expect.stringMatching(/^Wyoming on 0\.0\.0\.0 can be used and overheard by everyone/),
  ]);
  const users = { a: { password: quietHash } };
  expect(settings({ wyoming: 1, http: 1, users }).warnings).toEqual([
    '"users" are those of HTTP only: Wyoming answers everyone who reaches it',
  ]);
  // The embedded broker does not listen there, so the address is Wyoming's.
  expect(settingsFrom({ models: ["m"], node: "n", wyoming: 1, host: "::" }).host).toBe("::");
});

test("origins of pages that may use HTTP", () => {
  expect(settingsFrom({ models: ["m"], node: "n" }).httpOrigins).toEqual([]);
  const httpOrigins = ["https://app.example.org", "http://10.0.0.7:3000"];
  expect(settingsFrom({ models: ["m"], node: "n", http: 1, httpOrigins })).toMatchObject({ httpOrigins, warnings: [] });
  expect(settingsFrom({ models: ["m"], node: "n", httpOrigins }).warnings).toEqual([
    '"httpOrigins" has no effect: it is for HTTP',
  ]);
});

test("the embedded broker is for one machine: another address is refused with the way to a real broker", () => {
  const settings = (config: object, options: ServeOptions = {}) =>
    settingsFrom({ models: ["m"], node: "n", ...config }, options);
  for (const host of ["0.0.0.0", "::", "192.0.2.1", "gateway.local"]) {
    const refusal = `the embedded broker serves this machine only, so it cannot listen on ${host}: set up Mosquitto (node deploy/mosquitto/setup.mjs) and give --broker`;
    expect(() => settings({ host })).toThrow(refusal);
    expect(() => settings({}, { host })).toThrow(refusal);
    // The address is HTTP's then.
    expect(settings({ host, http: 1 }).host).toBe(host);
    expect(settings({ host, broker: "mqtt://h", http: 1 }).host).toBe(host);
  }
  for (const host of ["localhost", "127.0.0.1", "127.1.2.3", "::1"]) expect(settings({ host }).host).toBe(host);
});

test("what every program of this machine could do is told", () => {
  const password = `scrypt$32768$3$${"a".repeat(22)}$${"a".repeat(43)}`;
  const warnings = (config: object) => settingsFrom({ models: ["m"], node: "n", http: 1, ...config }).warnings;
  const users = { u: { password } };
  const openHttp =
    'HTTP on 0.0.0.0 can be used by everyone who reaches this address: give "users" in the configuration file';
  const plain = 'passwords travel to 0.0.0.0 unencrypted: give "serverTls" in the configuration file';
  const local = '"users" are those of HTTP only: the embedded broker answers every program on this machine';
  expect(warnings({})).toEqual([]);
  expect(warnings({ host: "0.0.0.0" })).toEqual([openHttp]);
  expect(warnings({ users })).toEqual([local]);
  expect(warnings({ host: "0.0.0.0", users })).toEqual([plain, local]);
  expect(warnings({ host: "0.0.0.0", users, broker: "mqtt://h" })).toEqual([plain]);
  expect(warnings({ commands: true })).toEqual(['"commands" are on, and every program on this machine may send them']);
  expect(warnings({ commands: true, broker: "mqtt://h" })).toEqual([
    '"commands" are on, and whoever reaches the broker may send them: require a login there',
  ]);
});

test("a registry, from the file or the command line", () => {
  expect(settingsFrom({ registry: "models", node: "n" }).registry).toEqual({
    path: join(folder, "models"),
    keys: undefined,
  });
  const config = { registry: { path: "/abs", keys: "keys" } };
  expect(settingsFrom(config).registry).toEqual({ path: "/abs", keys: join(folder, "keys") });
  expect(settingsFrom(config, { registry: "r", keys: "k" }).registry).toEqual({ path: "r", keys: "k" });
  expect(settingsFrom({ models: ["m"] }).registry).toBeUndefined();
  expect(() => settingsFrom({ registry: { keys: "k" } })).toThrow(
    '"registry" must be a folder, or an object with path and keys',
  );
  expect(() => settingsFrom({ models: ["m"] }, { keys: "k" })).toThrow("--keys is for updates of a registry");
});

test("commands are on only when asked for", () => {
  const settings = (config: object, env = {}) => settingsFrom({ models: ["m"], node: "n", ...config }, {}, { env });
  expect(settings({}).commands).toBe(false);
  expect(settings({ users: {}, http: 1 }).commands).toBe(false);
  const env = { EDGELABEL_MQTT_USERNAME: "u" };
  expect(settings({ broker: "mqtt://h" }, env).commands).toBe(false);
  expect(settings({ broker: "mqtt://h", commands: true }, env)).toMatchObject({ commands: true, warnings: [] });
  expect(settings({ broker: "mqtt://h", commands: true }).warnings.join()).toContain(
    "whoever reaches the broker may send them",
  );
});

const quietHash = `scrypt$32768$3$${"A".repeat(22)}$${"A".repeat(43)}`;

test("secrets that others can read are told: passwords, their hashes, private keys", () => {
  const warnings = (config: object, mode: number, options: ServeOptions = {}) =>
    settingsFrom({ models: ["m"], node: "n", ...config }, options, { mode }).warnings.filter((each) =>
      each.includes("read by others"),
    );
  const password = { broker: "mqtts://h", username: "u", password: "geheim" };
  const users = { http: 1, users: { a: { password: quietHash } } };
  const file = join(folder, "edgelabel.json");
  expect(warnings(password, 0o644)).toEqual([`${file} holds a password and can be read by others: chmod o= ${file}`]);
  expect(warnings(users, 0o644)).toEqual([
    `${file} holds hashes of passwords, which can be guessed from them, and can be read by others: chmod o= ${file}`,
  ]);
  expect(warnings({}, 0o644)).toEqual([]);
  for (const mode of [0o600, 0o640]) expect([...warnings(password, mode), ...warnings(users, mode)]).toEqual([]);

  const certificates = new Certificates(folder);
  certificates.authority("authority");
  certificates.certificate("server", "authority", "localhost");
  const tls = { cert: "server.pem", key: "server.key" };
  const key = join(folder, "server.key");
  for (const [mode, expected] of [
    [0o644, [`${key} holds a private key and can be read by others: chmod o= ${key}`]],
    [0o640, []],
    [0o400, []],
  ] as const) {
    chmodSync(key, mode);
    expect(warnings({ http: 1, serverTls: tls }, 0o600)).toEqual(expected);
    expect(warnings({ broker: "mqtts://h", tls }, 0o600)).toEqual(expected);
    expect(warnings({ broker: "mqtts://h" }, 0o600, { cert: join(folder, "server.pem"), key })).toEqual(expected);
  }
});

test("with a CA, HTTP's certificate is for those only who have one of it themselves", async () => {
  const own = mkdtempSync(join(folder, "tls-"));
  const certificates = new Certificates(own);
  for (const authority of ["ours", "theirs"]) certificates.authority(authority);
  certificates.certificate("server", "ours", "localhost");
  for (const authority of ["ours", "theirs"]) certificates.certificate(`of-${authority}`, authority, "client");
  const at = (name: string): string => join(own, name);
  const files = { cert: at("server.pem"), key: at("server.key") };
  const status = async (serverTls: object, client?: string) => {
    const settings = settingsFrom({ models: ["m"], node: "n", http: 1, serverTls });
    const server = createServer(settings.serverTls!, (_, response) => response.end()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const identity = client ? { cert: readFileSync(at(`${client}.pem`)), key: readFileSync(at(`${client}.key`)) } : {};
    const ca = readFileSync(at("ours.pem"));
    const found = await new Promise((resolve) => {
      get({ host: "127.0.0.1", servername: "localhost", port, ca, agent: false, ...identity }, ({ statusCode }) =>
        resolve(statusCode),
      ).on("error", () => resolve("refused"));
    });
    server.close();
    return found;
  };
  expect(await status(files)).toBe(200);
  const demanding = { ...files, ca: at("ours.pem") };
  expect(await status(demanding, "of-ours")).toBe(200);
  expect([await status(demanding), await status(demanding, "of-theirs")]).toEqual(["refused", "refused"]);
});

test("what everyone can use or overhear is told", () => {
  const warnings = (config: object, options: ServeOptions = {}, env: NodeJS.ProcessEnv = {}) =>
    settingsFrom({ models: ["m"], node: "n", ...config }, options, { env }).warnings;
  const users = { a: { password: quietHash } };
  const broker = "mqtt://127.0.0.1";
  for (const host of ["0.0.0.0", "::", "192.168.1.5", "gate.example"]) {
    expect(warnings({ broker, http: 1, host })).toEqual([
      `HTTP on ${host} can be used by everyone who reaches this address: give "users" in the configuration file`,
    ]);
    expect(warnings({ broker, http: 1 }, { host })).toHaveLength(1);
    expect(warnings({ broker, http: 1, host, users })).toEqual([
      `passwords travel to ${host} unencrypted: give "serverTls" in the configuration file`,
    ]);
  }
  for (const host of ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
    expect([...warnings({ broker, http: 1, host }), ...warnings({ broker, http: 1, host, users })]).toEqual([]);
  const login = { username: "u", password: "p" };
  for (const url of ["mqtt://h", "ws://h:9001", "mqtts://a,mqtt://h", "MQTT://h", "mqtt://192.168.1.5"])
    expect([url, warnings({ broker: url.split(","), ...login })]).toEqual([
      url,
      [expect.stringContaining("the password of the broker travels to ")],
    ]);
  for (const url of ["mqtts://h", "wss://h", "mqtt://127.0.0.1", "mqtt://localhost", "mqtt://[::1]:1883"])
    expect([url, warnings({ broker: url, ...login })]).toEqual([url, []]);
  expect(warnings({ broker: "mqtt://h" })).toEqual([]);
  expect(warnings({ broker: "mqtt://h" }, {}, { EDGELABEL_MQTT_USERNAME: "u", EDGELABEL_MQTT_PASSWORD: "p" })).toEqual([
    "the password of the broker travels to h unencrypted: use mqtts:// or wss://",
  ]);
  expect(warnings({}, {}, { NODE_DEBUG: "http" })).toEqual([
    "NODE_DEBUG is set: Node itself may write texts and passwords to standard error",
  ]);
});

test("a user name of the environment is never paired with the password of the file", () => {
  const config = { models: ["m"], node: "n", broker: "mqtts://h", username: "fu", password: "fp" };
  const access = (env: NodeJS.ProcessEnv, over: object = {}) =>
    settingsFrom({ ...config, ...over }, {}, { env }).access;
  expect(access({})).toMatchObject({ username: "fu", password: "fp" });
  expect(access({ EDGELABEL_MQTT_USERNAME: "", EDGELABEL_MQTT_PASSWORD: "" })).toMatchObject({
    username: "fu",
    password: "fp",
  });
  expect(access({ EDGELABEL_MQTT_USERNAME: "eu", EDGELABEL_MQTT_PASSWORD: "ep" })).toMatchObject({
    username: "eu",
    password: "ep",
  });
  expect(access({ EDGELABEL_MQTT_PASSWORD: "ep" })).toMatchObject({ username: "fu", password: "ep" });
  for (const env of [
    { EDGELABEL_MQTT_USERNAME: "eu" },
    { EDGELABEL_MQTT_USERNAME: "eu", EDGELABEL_MQTT_PASSWORD: "" },
  ]) {
    expect(() => access(env)).toThrow("EDGELABEL_MQTT_USERNAME is set without EDGELABEL_MQTT_PASSWORD");
    expect(access(env, { password: undefined })).toMatchObject({ username: "eu", password: undefined });
  }
});

test("a hash of an earlier version is told with what to do", () => {
  const hash = (work: string) => `scrypt$${work}$${"A".repeat(22)}$${"A".repeat(43)}`;
  const users = { old: { password: hash("16384") }, new: { password: hash("32768$3") } };
  expect(settingsFrom({ models: ["m"], node: "n", http: 1, broker: "mqtt://h", users }).warnings).toEqual([
    "the password of user old has a weak hash: make a new one with edgelabel serve --hash-password",
  ]);
});

test("a byte order mark before the object is no fault", () => {
  expect(parseConfig('\ufeff{"node":"gate-1"}', "config.json").node).toBe("gate-1");
});

test.each([
  ["{", "config.json is not JSON"],
  ["[]", "config.json: the file must not be an array"],
  ["7", "config.json: the file must be a JSON object"],
  ["null", "config.json: the file must be a JSON object"],
  ['{"brokr":"x"}', 'unknown key "brokr", did you mean "broker"?'],
  ['{"limits":{"payloadbyte":1}}', 'unknown key "limits.payloadbyte", did you mean "payloadBytes"?'],
  ['{"tls":{"zzzzzzzzz":1}}', 'unknown key "tls.zzzzzzzzz"; known keys: ca, cert, key'],
  ['{"http":"80"}', '"http" must be a port number'],
  ['{"wyoming":"80"}', '"wyoming" must be a port number, or an object with port and threshold'],
  ['{"wyoming":{"port":1,"treshold":1}}', '"wyoming" must be a port number, or an object with port and threshold'],
  ['{"wyoming":{"port":1,"threshold":2}}', '"wyoming.threshold" must be a number from 0 to 1'],
  ['{"port":65536}', '"port" must be a port number'],
  ['{"protocol":3}', '"protocol" must be 4 (MQTT 3.1.1) or 5'],
  ['{"broker":[]}', '"broker" must name a broker'],
  ['{"broker":7}', '"broker" must be a broker URL, or an array of them'],
  ['{"node":""}', '"node" must not be empty'],
  ['{"limits":{"queuedAnswers":0}}', '"limits.queuedAnswers" must be a whole number from 1 to 30000'],
  ['{"responses":{"allow":["a#"]}}', '"responses.allow.0" must hold topic filters'],
  ['{"models":[1]}', '"models.0" must hold file names'],
  ['{"tls":[]}', '"tls" must not be an array'],
  ['{"limits":7}', '"limits" must be a JSON object'],
  ['{"routes":{}}', '"routes" must be an array'],
  ['{"routes":[{"name":"r","filter":"a/+","outputs":[]}]}', '"routes.0.outputs" must hold at least one output'],
  ['{"routes":[{"name":"r","filter":"a/#/b","outputs":[{"topic":"b"}]}]}', '"routes.0.filter" must be a topic filter'],
  [
    '{"routes":[{"name":"r","filter":"a","text":"x","outputs":[{"topic":"b"}]}]}',
    '"routes.0.text" must be a JSON pointer',
  ],
  [
    '{"routes":[{"name":"r","filter":"a","outputs":[{"topic":"b","when":"never"}]}]}',
    '"routes.0.outputs.0.when" must be "known", "unknown", "any" or an array of labels',
  ],
  [
    '{"routes":[{"name":"r","filtr":"a","outputs":[{"topic":"b"}]}]}',
    'unknown key "routes.0.filtr", did you mean "filter"?',
  ],
  [
    '{"routes":[{"name":"r","filter":"a","outputs":[{"topic":"b","retian":true}]}]}',
    'unknown key "routes.0.outputs.0.retian", did you mean "retain"?',
  ],
  ['{"users":{"a":{"password":"geheim"}}}', '"users.a.password" must be what edgelabel serve --hash-password prints'],
  ['{"users":{"a/b":{"password":"x"}}}', "must have names of 1 to 64"],
  ['{"routes":[{"name":"r","outputs":[{"topic":"b"}]}]}', '"routes.0.filter" is missing'],
  [
    '{"learning":{"spam":{"traning":"a.elb","data":"d","valid":"v"}}}',
    'unknown key "learning.spam.traning", did you mean "training"?',
  ],
  [
    '{"learning":{"spam":{"training":"a.wasm","data":"d","valid":"v"}}}',
    '"learning.spam.training" must be a training form (.elb), as edgelabel train -o NAME.elb writes it',
  ],
  ['{"learning":{"spam":{"training":"a.elb","data":[],"valid":"v"}}}', '"learning.spam.data" must'],
  ['{"review":{"text":1}}', 'unknown key "review.text", did you mean "texts"?'],
  ['{"review":{"texts":0}}', '"review.texts" must be a whole number from 1 to 10000'],
  ['{"review":true}', '"review" must be a JSON object'],
  ['{"learning":{"a/b":{"training":"a.elb","data":"d","valid":"v"}}}', '"learning.a/b" must have names of models'],
  ...["__proto__", "constructor", "prototype"].flatMap((name): [string, string][] => [
    [`{"users":{"${name}":{"password":"x"}}}`, `config.json: "users.${name}": this name cannot be used`],
    [
      `{"learning":{"${name}":{"training":"a.elb","data":"d","valid":"v"}}}`,
      `config.json: "learning.${name}": this name cannot be used`,
    ],
    [`{"${name}":{}}`, `config.json: "${name}": this name cannot be used`],
    [`{"models":[{"path":"m","${name}":1}]}`, `config.json: "models.0.${name}": this name cannot be used`],
  ]),
  ['{"toString":1}', 'unknown key "toString"'],
  ['{"limits":{"valueOf":1}}', 'unknown key "limits.valueOf"'],
  ['{"httpHosts":"a"}', '"httpHosts" must be an array of host names'],
  ['{"httpHosts":["https://a"]}', '"httpHosts.0" must be the name of a host, without scheme and port'],
  ['{"httpHosts":["a:80"]}', '"httpHosts.0" must be the name of a host'],
  ['{"httpOrigins":"https://a"}', '"httpOrigins" must be an array of origins'],
  ...[
    "*",
    "null",
    "a.example",
    "https://a/",
    "https://a/b",
    "HTTPS://a",
    "https://a:443",
    "https://u@a",
    "ftp://a",
  ].map((origin): [string, string] => [
    JSON.stringify({ httpOrigins: [origin] }),
    '"httpOrigins.0" must be what browsers send as the origin of a page, such as https://app.example.org',
  ]),
  ['{"limits":{"queuedText":1}}', 'unknown key "limits.queuedText", did you mean "queuedTexts"?'],
])("%s: %s", (json, message) => {
  expect(() => parseConfig(json, "config.json")).toThrow(message);
});

test.each(
  Object.entries({
    payloadBytes: 16_777_216,
    textsPerRequest: 10_000,
    queuedAnswers: 30_000,
    queuedBytes: 1_073_741_824,
    queuedTexts: 100_000,
    textsPerSecond: 1_000_000,
    requesters: 100_000,
    rememberedAnswers: 1_000_000,
    rememberSeconds: 86_400,
    answerSeconds: 86_400,
    answerBytes: 16_777_216,
  }),
)("limits.%s is from 1 to %i", (name, largest) => {
  const limit = (value: number) => parseConfig(JSON.stringify({ limits: { [name]: value } }), "c").limits;
  for (const value of [1, largest]) expect(limit(value)).toEqual({ [name]: value });
  for (const value of [0, 1.5, largest + 1])
    expect(() => limit(value)).toThrow(`"limits.${name}" must be a whole number from 1 to ${largest}`);
});

test("other numbers at their bounds", () => {
  const numbers = (part: object) => () => parseConfig(JSON.stringify(part), "c");
  for (const key of ["port", "http"]) {
    for (const value of [0, 65_535]) expect(numbers({ [key]: value })()).toEqual({ [key]: value });
    for (const value of [-1, 0.5, 65_536]) expect(numbers({ [key]: value })).toThrow("must be a port number");
  }
  for (const value of [1, 86_400]) expect(numbers({ figuresSeconds: value })()).toEqual({ figuresSeconds: value });
  for (const value of [0, 86_401]) expect(numbers({ figuresSeconds: value })).toThrow("from 1 to 86400");
  for (const value of [4, 5]) expect(numbers({ protocol: value })()).toEqual({ protocol: value });
  for (const value of [3, 6]) expect(numbers({ protocol: value })).toThrow("must be 4 (MQTT 3.1.1) or 5");
  const route = (more: object, output: object = {}) =>
    numbers({ routes: [{ name: "r", filter: "a", ...more, outputs: [{ topic: "b", ...output }] }] });
  for (const threshold of [0, 1]) expect(route({ threshold })().routes).toMatchObject([{ threshold }]);
  for (const threshold of [-0.01, 1.01]) expect(route({ threshold })).toThrow("must be a number from 0 to 1");
  for (const qos of [0, 1]) expect(route({}, { qos })().routes![0]!.outputs).toEqual([{ topic: "b", qos }]);
  expect(route({}, { qos: 2 })).toThrow("must be 0 or 1");
});

test.each([
  [{}, [], "no model given"],
  [{ broker: "http://h" }, ["m"], "the schemes are mqtt, mqtts, ws and wss"],
  [{ broker: "localhost:1883" }, ["m"], "must look like mqtt://host:1883"],
  [{ broker: "mqtt://u:secret@h" }, ["m"], "must not hold a user name or password"],
  [{ broker: "mqtt://h,http://i" }, ["m"], 'the broker URL "http://i" must look like'],
  [{ group: "g" }, ["m"], "a group needs a broker that all its workers reach"],
  [{ group: "g", broker: "mqtt://h", protocol: 4 }, ["m"], "a group needs MQTT 5"],
  [{ broker: "mqtt://h", port: 1 }, ["m"], "--port is for the embedded broker"],
  [{ cert: "a" }, ["m"], "needs both --cert and --key"],
  [{ ca: "/nonexistent" }, ["m"], "cannot read the CA file /nonexistent"],
  [{ config: "/nonexistent" }, ["m"], "cannot read the configuration file /nonexistent"],
  [{ node: "a/b" }, ["m"], 'the node name "a/b" cannot be part of a topic'],
] as [ServeOptions, string[], string][])("%j: %s", (options, models, message) => {
  expect(() => readSettings(models, options, {})).toThrow(message);
});

test("a secret in a URL is not repeated in the error", () => {
  for (const broker of ["mqtt://u:secret@h", "http://u:secret@h", "mqtt://u:secret@h:99999"]) {
    expect(() => readSettings(["m"], { broker }, {})).toThrow(/^(?!.*secret)/);
  }
});

test("NAME=FILE", () => {
  expect(parseModelArgument("a.b-c=x=y.wasm")).toEqual({ name: "a.b-c", path: "x=y.wasm" });
  expect(parseModelArgument("./a=b.wasm")).toEqual({ path: "./a=b.wasm" });
});
