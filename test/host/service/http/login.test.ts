// HTTP's users: who comes in, what each may do, and that guessing keeps nobody waiting.
import { randomBytes, scryptSync } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker } from "../../../../host/service/broker/broker.ts";
import { HttpLogin } from "../../../../host/service/http/login.ts";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../../../host/service/http/http.ts";
import type { RequestError } from "../../../../host/service/answer/messages.ts";
import type { Service } from "../../../../host/service/service.ts";
import type { UserSettings } from "../../../../host/service/users.ts";
import { fakeService, recordingLog, topics } from "../../../support/fake.ts";

/** The tests do not wait for the work that a hash should take, but where it matters. */
function quickHash(password: string, N = 1024): string {
  const salt = randomBytes(16);
  const base64 = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");
  return `scrypt$${N}$${base64(salt)}$${base64(scryptSync(password, salt, 32, { N, r: 8 }))}`;
}

let broker: Broker;
let service: Service;
let users: Record<string, UserSettings>;

beforeAll(async () => {
  users = {
    asker: { password: quickHash("right:with colon"), publish: ["edgelabel/gate-1/classify/#"], subscribe: [] },
    other: { password: quickHash("öffne dich"), publish: ["edgelabel/gate-1/classify/other"], subscribe: [] },
    prometheus: { password: quickHash("scrape its figures"), publish: [], subscribe: ["edgelabel/gate-1/metrics"] },
    reader: { password: quickHash("read only"), publish: [], subscribe: ["edgelabel/+/info"] },
  };
  broker = await startBroker({ port: 0 });
  service = fakeService({ access: broker.access });
  await service.start();
});
afterAll(async () => {
  await service.stop();
  await broker.close();
});

let http: HttpEndpoint;
afterEach(() => http.close());
const basic = (name: string, password: string): string =>
  `Basic ${Buffer.from(`${name}:${password}`).toString("base64")}`;
const ask = (authorization?: string, model?: string) =>
  fetch(`${http.url}/predict`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      ...(authorization === undefined ? {} : { Authorization: authorization }),
    },
    body: JSON.stringify({ data: "win", model }),
  });
const get = (path: string, authorization?: string) =>
  fetch(http.url + path, { headers: authorization === undefined ? {} : { Authorization: authorization } });

const start = async (given: Record<string, UserSettings>) => {
  http = await startHttp(service, {
    host: "127.0.0.1",
    port: 0,
    login: new HttpLogin(given, topics, recordingLog()),
    bodyBytes: 1_000,
    textsPerRequest: 3,
  });
};
beforeEach(() => start(users));

test("nobody comes in without the right name and password, however the header looks", async () => {
  const wrong = [
    undefined,
    "",
    "Basic",
    "Basic ",
    "Basic !!",
    basic("asker", "wrong"),
    basic("asker", ""),
    basic("", ""),
    basic("nobody", "right:with colon"),
    basic("asker", "right"),
    basic("__proto__", "x"),
    `Basic ${Buffer.from("asker").toString("base64")}`,
    `Bearer ${Buffer.from("asker:right:with colon").toString("base64")}`,
    `Basic ${Buffer.from("asker:right:with colon").toString("base64")} x`,
  ];
  for (const header of wrong) {
    for (const response of await Promise.all([
      ask(header),
      get("/metrics", header),
      get("/", header),
      get("/v2", header),
      get("/v2/models/spam", header),
    ])) {
      expect([header, response.status]).toEqual([header, 401]);
      expect(response.headers.get("www-authenticate")).toBe('Basic realm="edgelabel", charset="UTF-8"');
      expect(await response.text()).not.toMatch(/spam|ham|win/);
    }
  }
});

test("each may do over HTTP what it may over MQTT, and health checks need no password", async () => {
  const [asker, other, prometheus, reader] = [
    basic("asker", "right:with colon"),
    basic("other", "öffne dich"),
    basic("prometheus", "scrape its figures"),
    basic("reader", "read only"),
  ];
  const all = [asker, other, prometheus, reader];
  const statuses = async (send: (authorization: string) => Promise<Response>) =>
    Promise.all(all.map(async (each) => (await send(each)).status));
  expect(await statuses((each) => ask(each))).toEqual([200, 403, 403, 403]);
  expect(await statuses((each) => ask(each, "other"))).toEqual([200, 200, 403, 403]);
  const infer = (each: string, model: string) =>
    fetch(`${http.url}/v2/models/${model}/infer`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: each },
      body: JSON.stringify({ inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["win"] }] }),
    });
  expect(await statuses((each) => infer(each, "spam"))).toEqual([200, 403, 403, 403]);
  expect(await statuses((each) => infer(each, "other"))).toEqual([200, 200, 403, 403]);
  expect(await statuses((each) => get("/metrics", each))).toEqual([403, 403, 200, 403]);
  for (const path of ["/", "/v2", "/v2/models/spam", "/v2/models/spam/ready"])
    expect([path, ...(await statuses((each) => get(path, each)))]).toEqual([path, 403, 403, 403, 200]);
  for (const path of ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
    expect([path, (await get(path)).status]).toEqual([path, 200]);
});

test("rights come first: without them every model name, and every path without a login, gets the same answer", async () => {
  const answer = async (path: string, method: string, authorization?: string, body?: string) => {
    const response = await fetch(http.url + path, {
      method,
      headers: {
        "Content-Type": "application/json",
        ...(authorization === undefined ? {} : { Authorization: authorization }),
      },
      body: body ?? null,
    });
    return [response.status, await response.text()];
  };
  for (const method of ["GET", "POST", "PUT", "DELETE", "OPTIONS"]) {
    for (const path of [
      "/",
      "/predict",
      "/metrics",
      "/v2",
      "/v2/models/spam",
      "/v2/models/nope",
      "/v2/models/spam/infer",
      "/v2/models/nope/infer",
      "/nope",
    ])
      expect([path, method, (await answer(path, method))[0]]).toEqual([path, method, 401]);
  }
  const infer = (model: string, authorization: string) =>
    answer(`/v2/models/${model}/infer`, "POST", authorization, "{");
  for (const user of [basic("prometheus", "scrape its figures"), basic("other", "öffne dich")]) {
    for (const model of [
      "spam",
      "nope",
      "constructor",
      "__proto__",
      "spam%2f..",
      "%23",
      "spam/versions/2.0.0",
      "spam/versions/1.0.0",
    ])
      expect([model, ...(await infer(model, user))]).toEqual([
        model,
        403,
        '{"error":"this user may not send texts to this model"}\n',
      ]);
    for (const model of ["spam", "nope", "constructor"])
      expect([model, (await answer("/predict", "POST", user, JSON.stringify({ data: "win", model })))[0]]).toEqual([
        model,
        403,
      ]);
    for (const path of [
      "/v2/models/spam",
      "/v2/models/nope",
      "/v2/models/spam/ready",
      "/v2/models/nope/ready",
      "/v2/models/spam/versions/9",
    ])
      expect([path, ...(await answer(path, "GET", user))]).toEqual([
        path,
        403,
        '{"error":"this user may not read that"}\n',
      ]);
  }
});

test("whoever may ask any model, but not read which there are, is not told by an error", async () => {
  const answers = [
    await ask(basic("asker", "right:with colon"), "nope"),
    await get("/v2/models/nope/infer", basic("asker", "right:with colon")),
  ];
  for (const response of answers) expect(await response.text()).not.toMatch(/spam|other/);
  expect(answers[0]!.status).toBe(404);
});

test("whoever has logged in is not kept waiting by guesses, of which few are checked at a time", async () => {
  await http.close();
  // So much work that all guesses come before seventeen are checked.
  await start({ asker: { ...users["asker"]!, password: quickHash("right:with colon", 16_384) } });
  const asker = basic("asker", "right:with colon");
  expect((await ask(asker)).status).toBe(200);
  const guesses = Array.from({ length: 60 }, (_, i) => ask(basic("asker", `guess ${i}`)));
  for (let i = 0; i < 20; i++) expect((await ask(asker)).status).toBe(200);
  const answers = await Promise.all(guesses);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401, 503]));
  expect(answers.find(({ status }) => status === 503)!.headers.get("retry-after")).toBe("1");
});

test("400 guesses at once: most are refused, and whoever comes after them is next, from their address or another", async () => {
  const login = new HttpLogin(users, topics, recordingLog());
  const order: string[] = [];
  const come = (who: string, authorization: string, address: string) =>
    login.userOf(authorization, address).then(
      (user) => order.push(`${who} ${user?.name}`),
      (error: RequestError) => order.push(`${who} ${error.code}`),
    );
  const guesses = Array.from({ length: 400 }, (_, i) => come("guess", basic("asker", `guess ${i}`), "10.0.0.1"));
  const [there, here] = [
    come("there", basic("reader", "read only"), "10.0.0.2"),
    come("here", basic("asker", "right:with colon"), "10.0.0.1"),
  ];
  await Promise.all([there, here]);
  expect(order.filter((each) => each === "guess undefined").length).toBeLessThanOrEqual(2);
  expect(order.filter((each) => !each.startsWith("guess"))).toEqual(["here asker", "there reader"]);
  await Promise.all(guesses);
  expect(order.filter((each) => each === "guess busy").length).toBeGreaterThanOrEqual(380);
});

test("guesses from many addresses leave no more waiting than guesses from one", async () => {
  const login = new HttpLogin(users, topics, recordingLog());
  const answers = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) => login.userOf(basic("asker", `guess ${i}`), `10.0.0.${i}`)),
  );
  expect(answers.filter(({ status }) => status === "fulfilled").length).toBe(17);
});

test("requests that bring the same password together share its check", async () => {
  const login = new HttpLogin(users, topics, recordingLog());
  const found = await Promise.all(
    Array.from({ length: 100 }, () => login.userOf(basic("asker", "right:with colon"), "10.0.0.1")),
  );
  expect(new Set(found.map((user) => user?.name))).toEqual(new Set(["asker"]));
});

test("failed logins are counted and logged, the first at once, the others together; a name that nobody has is not shown", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const log = recordingLog();
  const login = new HttpLogin(users, topics, log, 300);
  await login.userOf(basic("my-password", "x"), "10.0.0.7");
  expect(log.lines).toEqual(["1 login over HTTP failed, the last one from 10.0.0.7 as a user that does not exist"]);
  for (let i = 0; i < 5; i++) await login.userOf(basic("asker", `secret ${i}`), "10.0.0.8");
  await login.userOf(basic("asker", "right:with colon"), "10.0.0.8");
  await login.userOf("Basic ////", "10.0.0.\x1b[2J8");
  vi.advanceTimersByTime(299);
  expect(log.lines).toHaveLength(1);
  vi.advanceTimersByTime(1);
  expect(log.lines[1]).toBe(
    "6 logins over HTTP failed, the last one from 10.0.0.\ufffd[2J8 as a user that does not exist",
  );
  expect(login.failed).toBe(7);
  await login.userOf(basic("asker", "secret"), "10.0.0.8");
  vi.advanceTimersByTime(300);
  expect(log.lines[2]).toBe("1 login over HTTP failed, the last one from 10.0.0.8 as user asker");
  expect(log.lines.join()).not.toMatch(/secret|my-password/);
});
