import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { encodeEvent, EventReader, type WyomingEvent } from "../../../../host/service/wyoming/events.ts";
import { startWyoming, type WyomingEndpoint } from "../../../../host/service/wyoming/wyoming.ts";
import type { Service } from "../../../../host/service/service.ts";
import { fakeModel, fakeService, limits } from "../../../support/fake.ts";
import { pause, until } from "../../../support/wait.ts";

let service: Service;
let wyoming: WyomingEndpoint;

const start = async (options: Parameters<typeof fakeService>[0]) => {
  service = fakeService(options);
  wyoming = await startWyoming(service, { host: "127.0.0.1", port: 0, threshold: 0.5 });
};
const access = { url: "mqtt://127.0.0.1:1", protocol: 4 } as const;
beforeEach(() => start({ access }));
afterEach(() => wyoming.close());

class Client {
  readonly socket: Socket;
  readonly events: WyomingEvent[] = [];
  isClosed = false;

  constructor({ reads = true } = {}) {
    this.socket = connect(wyoming.port, "127.0.0.1");
    onTestFinished(() => void this.socket.destroy());
    this.socket.on("error", () => {}).on("close", () => (this.isClosed = true));
    if (reads) this.read();
  }

  read(): void {
    const reader = new EventReader(1e6);
    this.socket.on("data", (chunk: Buffer) => void this.events.push(...reader.read(chunk)));
  }

  async ask(type: string, data: Record<string, unknown> = {}): Promise<WyomingEvent> {
    this.socket.write(encodeEvent({ type, data }));
    return this.next();
  }

  async next(): Promise<WyomingEvent> {
    await until(() => this.events.length > 0 || this.isClosed);
    return this.events.shift()!;
  }
}

test("describe: a program for each model, the first one first", async () => {
  const { type, data } = await new Client().ask("describe");
  expect(type).toBe("info");
  expect(data).toMatchObject({ asr: [], tts: [], handle: [], wake: [], mic: [], snd: [] });
  expect((data["intent"] as { name: string }[]).map(({ name }) => name)).toEqual(["spam", "other"]);
  expect(data["intent"]).toMatchObject([
    { installed: true, models: [{ name: "spam", version: "1.0.0", languages: [], installed: true }] },
    { models: [{ version: "2.0.0" }] },
  ]);
});

test.each(["recognize", "transcript"])("%s: the label is the intent", async (type) => {
  const client = new Client();
  expect(await client.ask(type, { text: "win a prize" })).toEqual({
    type: "intent",
    data: { name: "spam", entities: [] },
  });
  const context = { conversation_id: "c", deep: [{ number: 1 }] };
  expect(await client.ask(type, { text: "hi", context, language: "en" })).toEqual({
    type: "intent",
    data: { name: "ham", entities: [], context },
  });
  for (const text of ["", " \n"])
    expect(await client.ask(type, { text, context })).toEqual({ type: "not-recognized", data: { context } });
});

test("a score below the threshold, and a model's own rule, are not recognized", async () => {
  await wyoming.close();
  const classify = (text: string | Uint8Array) => ({
    label: text === "odd" ? null : "ham",
    score: text === "weak" ? 0.49 : 0.5,
    scores: {},
  });
  await start({ access, models: new Map([["m", { ...fakeModel(), classify }]]) });
  const client = new Client();
  expect((await client.ask("recognize", { text: "good" })).type).toBe("intent");
  expect((await client.ask("recognize", { text: "weak" })).type).toBe("not-recognized");
  expect((await client.ask("recognize", { text: "odd" })).type).toBe("not-recognized");
});

test("ping, and select-program", async () => {
  const client = new Client();
  expect(await client.ask("ping", { text: "a" })).toEqual({ type: "pong", data: { text: "a" } });
  expect(await client.ask("ping")).toEqual({ type: "pong", data: {} });
  expect(await client.ask("select-program", { name: "nope" })).toMatchObject({
    type: "error",
    data: { code: "unknown_model" },
  });
  client.socket.write(encodeEvent({ type: "select-program", data: { name: "other" } }));
  expect((await client.ask("recognize", { text: "win" })).data["name"]).toBe("spam");
  expect(await service.metrics.text()).toContain('edgelabel_texts_total{model="other"} 1');
});

test("events of other services are skipped, with their sound", async () => {
  const client = new Client();
  client.socket.write('{"type":"audio-start","data":{"rate":16000}}\n');
  client.socket.write(`{"type":"audio-chunk","payload_length":2000000}\n`);
  client.socket.write(Buffer.alloc(2_000_000, "\n"));
  expect((await client.ask("ping")).type).toBe("pong");
});

test.each([
  [{}, "bad_request", '"text", which is a string'],
  [{ text: 7 }, "bad_request", '"text", which is a string'],
  [{ text: "boom" }, "internal", "trap"],
])("%j is answered with an error, and the next request as ever", async (data, code, message) => {
  const client = new Client();
  expect(await client.ask("recognize", data)).toEqual({
    type: "error",
    data: { code, text: expect.stringContaining(message) },
  });
  expect((await client.ask("recognize", { text: "win" })).type).toBe("intent");
});

test("a full queue, and no model", async () => {
  await wyoming.close();
  await start({ access, limits: { ...limits, queuedTexts: 1, textsPerSecond: 1 } });
  const client = new Client();
  // No time passes, which would make room for the second one.
  const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now());
  const answers = [await client.ask("recognize", { text: "win" }), await client.ask("recognize", { text: "win" })];
  clock.mockRestore();
  expect(answers).toMatchObject([{ type: "intent" }, { type: "error", data: { code: "rate" } }]);
  await wyoming.close();
  await start({ access, models: new Map() });
  expect(await new Client().ask("recognize", { text: "win" })).toMatchObject({ data: { code: "no_model" } });
});

test("a client may end its side first", async () => {
  const client = new Client();
  client.socket.end(encodeEvent({ type: "recognize", data: { text: "win" } }));
  expect((await client.next()).type).toBe("intent");
  await until(() => client.isClosed);
});

describe("hostile clients", () => {
  test.each([
    ["a page of another site", "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "not JSON"],
    ["a line without an end", "a".repeat(70_000), "at most 65536 bytes"],
    ["data without an end", '{"type":"a","data_length":1e9}\n', "at most 65536 bytes"],
  ])("%s is told so, and goes", async (_name, bytes, message) => {
    const client = new Client();
    client.socket.write(bytes);
    expect(await client.next()).toMatchObject({
      type: "error",
      data: { code: "bad_request", text: expect.stringContaining(message) },
    });
    await until(() => client.isClosed);
  });

  test("connections that say nothing do not keep others out", async () => {
    const busy = new Client();
    expect((await busy.ask("ping")).type).toBe("pong");
    const idle: Client[] = [];
    for (let i = 0; i < 100; i++) {
      idle.push(new Client());
      await once(idle[i]!.socket, "connect");
      // It is used all the time, so the others go.
      if (i % 20 === 0) expect((await busy.ask("ping")).type).toBe("pong");
    }
    expect((await busy.ask("recognize", { text: "win" })).type).toBe("intent");
    await until(() => idle.filter(({ isClosed }) => isClosed).length >= 37);
    expect(idle.slice(-60).some(({ isClosed }) => isClosed)).toBe(false);
  });

  test("who does not read answers is not read either, and misses none", async () => {
    const client = new Client({ reads: false });
    const context = { filling: "x".repeat(10_000) };
    const request = encodeEvent({ type: "recognize", data: { text: "win", context } });
    const count = 2_000;
    for (let i = 0; i < count; i++) client.socket.write(request);
    const handled = async () =>
      Number(/edgelabel_requests_total\{transport="wyoming"\} (\d+)/.exec(await service.metrics.text())?.[1] ?? 0);
    let last = -1;
    for (let now = await handled(); now !== last || now === 0; now = await handled()) {
      last = now;
      await pause(200);
    }
    expect(last).toBeLessThan(count);
    // It reads little by little from here on, and the service waits for it each time: this leaves no listeners behind.
    const warnings: Error[] = [];
    const onWarning = (warning: Error): unknown => warnings.push(warning);
    process.on("warning", onWarning);
    onTestFinished(() => void process.off("warning", onWarning));
    client.read();
    client.socket.on("data", () => {
      client.socket.pause();
      setTimeout(() => client.socket.resume(), 1);
    });
    await until(() => client.events.length === count);
    expect(warnings).toEqual([]);
  });
});
