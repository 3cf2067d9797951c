// POST /predict with requests as over MQTT, one in a body or many in a stream.
import { randomBytes, scryptSync } from "node:crypto";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { text as readAll } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker } from "../../../../host/service/broker/broker.ts";
import { type HttpEndpoint, type HttpOptions, startHttp } from "../../../../host/service/http/http.ts";
import { HttpLogin } from "../../../../host/service/http/login.ts";
import type { Service } from "../../../../host/service/service.ts";
import {
  counter,
  fakeModel,
  fakeService,
  limits,
  recordingLog,
  TestClient,
  topics,
  fillQueue,
} from "../../../support/fake.ts";
import { pause, until } from "../../../support/wait.ts";

let broker: Broker;
let service: Service;
let http: HttpEndpoint;

async function start(options: Partial<HttpOptions> = {}, serviceOptions: object = {}): Promise<void> {
  broker = await startBroker({ port: 0 });
  const numbers = { ...fakeModel("3"), classify: () => ({ label: "1", score: 0.9, scores: {} }) };
  service = fakeService({
    access: { url: broker.url, protocol: 5 },
    models: new Map([
      ["spam", fakeModel()],
      ["other", numbers],
    ]),
    ...serviceOptions,
  });
  await service.start();
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 1_000, textsPerRequest: 3, ...options });
}
const stop = async () => {
  await http.close();
  await service.stop();
  await broker.close();
};
beforeEach(() => start());
afterEach(stop);

async function post(body: string, type = "application/json", headers: Record<string, string> = {}) {
  const response = await fetch(`${http.url}/predict`, {
    method: "POST",
    headers: { "Content-Type": type, ...headers },
    body,
  });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

describe("a request as over MQTT", () => {
  test.each([
    '{"text":"win"}',
    '{"text":"win","id":9223372036854775807}',
    '{"text":"hello","id":"x","topK":2}',
    '{"text":"hello","threshold":0.9}',
    '{"texts":["win","hello",""],"topK":1,"id":0}',
    '{"texts":["win"],"explain":true}',
    '{"text":"win","explain":true,"replyTo":"ignored/here","Model":"and what is unknown"}',
    '{"text":"win","model":"other"}',
  ])("%s: the same bytes as there", async (payload) => {
    const client = await TestClient.connect(broker.url, 5);
    await client.subscribe("answer");
    const { model } = JSON.parse(payload) as { model?: string };
    await client.publish(model === undefined ? topics.classify : `${topics.classify}/${model}`, payload, {
      qos: 1,
      properties: { responseTopic: "answer" },
    });
    const answer = await client.next(({ topic }) => topic === "answer");
    await client.close();
    const { status, text, headers } = await post(payload);
    expect([status, headers.get("content-type")]).toEqual([200, "application/json"]);
    expect(answer.json.model).toBe(model ?? "spam");
    expect(text).toBe(`${answer.text}\n`);
  });

  test.each([
    ['{"text":7}', 400, '"text" must be a string'],
    ['{"texts":[]}', 400, '"texts" must not be empty'],
    ['{"texts":["a","b","c","d"]}', 400, '"texts" must hold at most 3 texts'],
    ['{"text":"a","texts":["a"]}', 400, 'give either "text" or "texts", not both'],
    ['{"text":"a","threshold":2}', 400, '"threshold" must be a number from 0 to 1'],
    ['{"text":"a","model":7}', 400, '"model" must be a string'],
    ['{"Text":"a"}', 400, 'the body must be an object such as {"text": "a text"}'],
    ['{"text":"a"', 400, "the body is not JSON: it is cut off"],
    ['{"text":"a","model":"nope"}', 404, "there is no such model here; the models are spam, other"],
    ['{"text":"a","deadline":1}', 504, "the time of the request was over"],
    ['{"text":"boom"}', 500, "trap"],
  ])("%s: %i", async (payload, status, message) => {
    const answer = await post(payload);
    expect([answer.status, JSON.parse(answer.text).error.message]).toEqual([status, expect.stringContaining(message)]);
  });

  test("data is asked and answered as before, whatever is beside it", async () => {
    for (const payload of [
      '{"data":"win"}',
      '{"data":"win","topK":2,"threshold":0.99,"id":7}',
      '{"data":"win","text":7,"texts":"x"}',
    ])
      expect((await post(payload)).text).toBe('{"label":"spam"}\n');
    expect((await post('{"data":"x","model":"other"}')).text).toBe('{"label":1}\n');
    expect((await post('{"data":null,"text":"win"}')).status).toBe(400);
  });
});

interface Stream {
  sent: ClientRequest;
  answer: Promise<IncomingMessage>;
}

/** Begins a stream, whose lines the caller writes. */
function open(headers: Record<string, string> = {}): Stream {
  const sent = request(`${http.url}/predict`, {
    method: "POST",
    headers: { "Content-Type": "application/x-ndjson", ...headers },
    agent: false,
  });
  const answer = once(sent, "response").then(([response]) => response as IncomingMessage);
  answer.catch(() => {});
  sent.on("error", () => {});
  sent.flushHeaders();
  return { sent, answer };
}

async function stream(lines: string, headers?: Record<string, string>): Promise<any[]> {
  const { text, status } = await post(lines, "application/x-ndjson", headers);
  expect([status, text.endsWith("\n") || text === ""]).toEqual([200, true]);
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

describe("a stream", () => {
  test("has an answer to each line, in their order, as it would have alone", async () => {
    const lines = [
      '{"text":"win","id":1}',
      '{"texts":["hello","win"],"id":"b"}',
      '{"data":"win"}',
      '{"text":"x","model":"other"}',
    ];
    const alone = await Promise.all(lines.map((line) => post(line)));
    for (const end of ["\n", "\r\n", "\n\n \t\n", "\n\0\n"]) {
      const { text, headers } = await post(lines.join(end), "application/x-ndjson; charset=utf-8");
      expect(text).toBe(alone.map((each) => each.text).join(""));
      expect([
        headers.get("content-type"),
        headers.get("x-content-type-options"),
        headers.get("cache-control"),
      ]).toEqual(["application/x-ndjson", "nosniff", "no-store"]);
    }
    expect(await stream("")).toEqual([]);
    expect(await stream("\n\n")).toEqual([]);
    expect(await stream("\ufeff" + '{"text":"win"}')).toMatchObject([{ label: "spam" }]);
  });

  test("errors are answered on their lines, with the id if it could be read, and the next line works", async () => {
    const answers = await stream(
      [
        "{",
        '{"text":"win","id":1}',
        "win a prize",
        '{"text":7,"id":2}',
        '{"text":"a","model":"nope","id":3}',
        '{"text":"boom","id":4}',
        '{"text":"a","deadline":1,"id":5}',
        "null",
        `{"id":6,"text":"${"x".repeat(1_000)}"}`,
        '{"text":"win","id":7}',
        Buffer.from([0x22, 0xff]).toString("latin1"),
        `{"id":8,"text":"${"x".repeat(100_000)}"}`,
        '{"text":"win","id":9}',
        "x".repeat(1_001),
      ].join("\n"),
    );
    expect(answers.map(({ id, label, error }) => [id, label ?? error.code])).toEqual([
      [undefined, "bad_request"],
      [1, "spam"],
      [undefined, "bad_request"],
      [2, "bad_request"],
      [3, "unknown_model"],
      [4, "internal"],
      [5, "expired"],
      [undefined, "bad_request"],
      [undefined, "too_large"],
      [7, "spam"],
      [undefined, "bad_request"],
      [undefined, "too_large"],
      [9, "spam"],
      [undefined, "too_large"],
    ]);
    expect(answers[0].error.message).toBe("the line is not JSON: it is cut off");
    expect(answers[8].error.message).toBe("a request may have at most 1000 bytes");
    expect(await counter(service, 'edgelabel_requests_total{transport="http"}')).toBe(14);
    expect(await counter(service, 'edgelabel_errors_total{code="too_large"}')).toBe(3);
    expect(await counter(service, 'edgelabel_texts_total{model="spam"}')).toBe(4);
  });

  test("each answer's time counts, and all together took no longer than they did", async () => {
    const since = performance.now();
    await stream('{"text":"win"}\n'.repeat(50));
    const seconds = await counter(service, 'edgelabel_answer_seconds_sum{transport="http"}');
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual((performance.now() - since) / 1_000);
    expect(await counter(service, 'edgelabel_answer_seconds_count{transport="http"}')).toBe(50);
  });

  test("is answered line by line, while it goes on", async () => {
    const { sent, answer } = open();
    const response = await answer;
    for (const part of ['{"text":"w', 'in"}\n', '{"text":"hello"}\n{"text"', ':"win"}\n']) {
      sent.write(part);
      if (!part.endsWith("\n")) continue;
      const [chunk] = (await once(response, "data")) as [Buffer];
      expect(chunk.toString()).toContain('"label"');
    }
    sent.end();
    await once(response, "end");
  });

  test("any cut through it gives the same answers", async () => {
    const lines = '{"text":"win ü","id":1}\n\n{"texts":["a","win"]}\r\n{"data":"win"}';
    const { text } = await post(lines, "application/x-ndjson");
    const bytes = Buffer.from(lines);
    for (const step of [1, 2, 3, 7]) {
      const { sent, answer } = open();
      const response = await answer;
      for (let at = 0; at < bytes.length; at += step) {
        sent.write(bytes.subarray(at, at + step));
        await new Promise((resolve) => {
          setImmediate(resolve);
        });
      }
      sent.end();
      expect(await readAll(response)).toBe(text);
    }
  });

  test("waits for a client that does not read, and keeps no more than fits on the way", async () => {
    const { sent, answer } = open();
    const response = await answer;
    response.pause();
    // Far more than the buffers of two sockets hold.
    const total = 100_000;
    const idOf = (i: number) => String(i).padStart(256);
    let written = 0;
    const write = () => {
      while (written < total && sent.write(`{"text":"win","id":"${idOf(written++)}"}\n`));
      if (written < total) sent.once("drain", write);
      else sent.end();
    };
    write();
    const done = () => counter(service, 'edgelabel_requests_total{transport="http"}');
    let last = -1;
    // The client is held up in turn.
    await until(async () => {
      const before = last;
      last = await done();
      await pause(200);
      return last > 0 && last === before;
    }, 100_000);
    expect(last).toBeLessThan(total);
    expect(written).toBeLessThan(total);
    expect(service.predictor.queue.length).toBe(0);
    response.resume();
    const ids = (await readAll(response))
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { id: string }).id);
    expect(ids.length).toBe(total);
    expect(ids.findIndex((id, i) => id !== idOf(i))).toBe(-1);
    expect(await done()).toBe(total);
  });

  test("of a client that breaks off leaves nothing behind", async () => {
    const faults: unknown[] = [];
    const note = (error: unknown) => void faults.push(error);
    process.on("unhandledRejection", note).on("uncaughtExceptionMonitor", note);
    for (const when of ["at once", "in a line", "unread"]) {
      await Promise.all(
        Array.from({ length: 20 }, () => open()).map(async ({ sent, answer }) => {
          if (when === "at once") return sent.destroy();
          const response = await answer;
          response.on("error", () => {});
          response.pause();
          sent.write('{"text":"win"}\n'.repeat(when === "unread" ? 50_000 : 10));
          if (when === "in a line") sent.write('{"text":"wi');
          await pause(50);
          return sent.destroy();
        }),
      );
      expect(await stream('{"text":"win"}')).toMatchObject([{ label: "spam" }]);
    }
    await until(() => service.predictor.queue.length === 0);
    process.off("unhandledRejection", note).off("uncaughtExceptionMonitor", note);
    expect(faults).toEqual([]);
  });

  test("may take longer than a body; a body that dribbles may not", async () => {
    const slow = open();
    const response = await slow.answer;
    const body = open({ "Content-Type": "application/json" });
    const since = Date.now();
    const timer = setInterval(() => {
      slow.sent.write(" ");
      body.sent.write(" ");
    }, 500);
    const late = await body.answer;
    expect([late.statusCode, JSON.parse(await readAll(late)).error.code]).toEqual([408, "too_slow"]);
    expect(Date.now() - since).toBeGreaterThan(9_000);
    clearInterval(timer);
    slow.sent.end('{"text":"win"}\n');
    expect(await readAll(response)).toContain('"label":"spam"');
  });

  test("waits while there is no room, instead of being told so on each line", async () => {
    const makeRoom = fillQueue(service);
    const answers = stream('{"text":"win"}\n{"text":"hello"}');
    await pause(300);
    makeRoom();
    expect((await answers).map(({ label }) => label)).toEqual(["spam", "ham"]);
    expect(await counter(service, 'edgelabel_errors_total{code="busy"}')).toBe(0);
  });

  test("goes at the rate that its client may have", async () => {
    await stop();
    await start({}, { limits: { ...limits, textsPerSecond: 4 } });
    const since = performance.now();
    const answers = await stream('{"text":"win"}\n'.repeat(9));
    expect(answers.map(({ label }) => label)).toEqual(Array(9).fill("spam"));
    // Four at once, and four a second.
    expect(performance.now() - since).toBeGreaterThan(1_000);
  });

  test("needs the right to ask each line's model", async () => {
    await stop();
    const salt = randomBytes(16);
    const base64 = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");
    const password = `scrypt$1024$${base64(salt)}$${base64(scryptSync("geheimnis", salt, 32, { N: 1024, r: 8 }))}`;
    const users = { some: { password, publish: [`${topics.classify}/other`], subscribe: [] } };
    await start({ login: new HttpLogin(users, topics, recordingLog()) });
    expect((await post('{"text":"win"}', "application/x-ndjson")).status).toBe(401);
    const answers = await stream(
      '{"text":"win","id":1}\n{"text":"x","model":"other","id":2}\n{"text":"x","model":"nope","id":3}',
      { Authorization: `Basic ${Buffer.from("some:geheimnis").toString("base64")}` },
    );
    expect(answers).toEqual([
      { id: 1, error: { code: "forbidden", message: "this user may not send texts to this model" } },
      { id: 2, label: "1", score: 0.9, model: "other", version: "3" },
      { id: 3, error: { code: "forbidden", message: "this user may not send texts to this model" } },
    ]);
  });

  test("is for /predict only, without a coding, and not for pages of other sites", async () => {
    const infer = await fetch(`${http.url}/v2/models/spam/infer`, {
      method: "POST",
      headers: { "Content-Type": "application/x-ndjson" },
      body: "{}",
    });
    expect([
      infer.status,
      (await post("{}", "application/x-ndjson", { "Content-Encoding": "gzip" })).status,
      (await post("{}", "application/x-ndjson", { Origin: "https://evil.example" })).status,
      (await post("{}", "application/x-ndjsonx")).status,
    ]).toEqual([415, 415, 403, 415]);
  });
});
