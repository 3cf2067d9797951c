// A service that runs for a year: its heap is the same size after a million requests, ten
// thousand reconnects of its own, and ten thousand clients that come and go, and the models'
// memory does not grow. The built command as a process, asked over IPC for the size of its
// heap after a collection; the slope is a line of least squares through many such points.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { createConnection, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import mqtt from "mqtt";
import type { IClientOptions, MqttClient } from "mqtt";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { main } from "../support/program.ts";
import { pause, until } from "../support/wait.ts";
import { Seeded, tinyDeployable } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { isLong, size } from "./size.ts";

/** The long sizes are a million requests and ten thousand reconnects, in pieces of a few minutes with a fresh service each. */
const PIECES = Array.from({ length: size(4, 1) }, (_, i) => i + 1);
const REQUESTS = size(250_000, 5_000);
const RECONNECTS = size(2_500, 160);
/** Until code is compiled and what is bounded is full. */
const WARM_UP = size(50_000, 3_000);
/** Requests on the embedded broker; clients of it, and of HTTP. */
const EMBEDDED = size(250_000, 500);
const CLIENTS = size(10_000, 160);
const POINTS = size(25, 5);
/** Bytes. */
const MOST_A_REQUEST = 1;
const MOST_A_RECONNECT = 200;
/** All that a short run may grow by: it sees little but code that gets compiled. */
const MOST_OF_SHORT_RUN = 2_000_000;
const WINDOW = 200;

const folder = mkdtempSync(join(tmpdir(), "edgelabel-heap-"));
const running = new Set<ChildProcess>();

beforeAll(async () => {
  writeFileSync(join(folder, "m.wasm"), await tinyDeployable());
});
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Point {
  heap: number;
  external: number;
  /** Of each WebAssembly memory, in bytes. */
  memories: number[];
  /** Timers, sockets and the like that are open. */
  resources: number;
}

/** Answers "point" over IPC; with `isHasty` it waits a thousandth of the usual time before it reconnects. */
const preload = (isHasty: boolean): string =>
  `data:text/javascript,${encodeURIComponent(`
  const memories = [];
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (...args) => {
    const made = await instantiate(...args);
    memories.push((made.instance ?? made).exports.memory);
    return made;
  };
  const { setTimeout } = globalThis;
  if (${isHasty}) globalThis.setTimeout = (run, ms, ...args) => setTimeout(run, new Error().stack.includes("Connection.onClose") ? ms / 1000 : ms, ...args);
  process.on("message", async () => {
    for (let i = 0; i < 4; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      gc();
    }
    const { heapUsed, external } = process.memoryUsage();
    process.send({ heap: heapUsed, external, memories: memories.map(({ buffer }) => buffer.byteLength), resources: process.getActiveResourcesInfo().length });
  });
  process.channel.unref();
`)}`;

interface Serving {
  child: ChildProcess;
  url: string;
  http: string;
  point(): Promise<Point>;
  fileDescriptors(): number;
  end(): Promise<void>;
}

async function serve(config: object, isHasty = false): Promise<Serving> {
  const path = join(folder, "edgelabel.json");
  writeFileSync(
    path,
    JSON.stringify({ models: ["m.wasm"], node: "n", http: 0, port: 0, limits: { rememberedAnswers: 1000 }, ...config }),
    { mode: 0o600 },
  );
  // Interpreted: what V8 keeps of code that it compiles again and again is no memory of the service's, and
  // it hides what is (heap snapshots 80,000 requests apart differ in code alone).
  const child = spawn(
    process.execPath,
    ["--expose-gc", "--no-opt", "--no-sparkplug", "--import", preload(isHasty), main, "serve", "--config", path],
    { stdio: ["ignore", "pipe", "pipe", "ipc"] },
  );
  running.add(child);
  let output = "";
  for (const stream of [child.stdout!, child.stderr!])
    stream.on("data", (chunk: Buffer) => {
      if (output.length < 10_000) output += chunk.toString();
    });
  await until(() => output.includes("Stop with Ctrl-C") || child.exitCode !== null, 30_000);
  expect(child.exitCode, output).toBeNull();
  return {
    child,
    url: /mqtt:\/\/127\.0\.0\.1:\d+/.exec(output)![0],
    http: /http:\/\/127\.0\.0\.1:\d+/.exec(output)![0],
    async point() {
      child.send("point");
      return (await once(child, "message"))[0] as Point;
    },
    fileDescriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    async end() {
      const closed = once(child, "exit");
      child.kill("SIGTERM");
      await closed;
      running.delete(child);
    },
  };
}

/** The slope of y over x by least squares, and its standard error. */
function slope(points: readonly [number, number][]): { slope: number; error: number } {
  const count = points.length;
  const [meanX, meanY] = [0, 1].map((k) => points.reduce((sum, point) => sum + point[k]!, 0) / count) as [
    number,
    number,
  ];
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const b = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
  const rest = points.reduce((sum, [x, y]) => sum + (y - meanY - b * (x - meanX)) ** 2, 0);
  return { slope: b, error: Math.sqrt(rest / (count - 2) / spread) };
}

/** Does `work` in POINTS pieces, after a first one that fills what is bounded; the service must not grow by more than `most` bytes a unit. */
async function grow(
  serving: Serving,
  units: number,
  most: number,
  work: (from: number, to: number) => Promise<void>,
  warmUp = Math.max(units / 10, 40),
): Promise<void> {
  await work(0, warmUp);
  const first = await serving.point();
  const descriptors = serving.fileDescriptors();
  const points: Point[] = [];
  const since = Date.now();
  for (let i = 0; i < POINTS; i++) {
    await work(warmUp + (i * units) / POINTS, warmUp + ((i + 1) * units) / POINTS);
    points.push(await serving.point());
  }
  const seconds = (Date.now() - since) / 1000;
  const heap = slope(points.map((point, i) => [(i * units) / POINTS, point.heap]));
  const external = slope(points.map((point, i) => [(i * units) / POINTS, point.external]));
  const last = points.at(-1)!;
  console.log(
    `${units} in ${seconds.toFixed(0)} s; heap ${points.map((point) => (point.heap / 1e6).toFixed(2)).join(" ")} MB, ${heap.slope.toFixed(3)} (standard error ${heap.error.toFixed(3)}) bytes each; external ${external.slope.toFixed(3)} (${external.error.toFixed(3)}); memories ${last.memories.join(", ")}; resources ${first.resources} -> ${last.resources}, file descriptors ${descriptors} -> ${serving.fileDescriptors()}`,
  );
  const allowed = isLong ? most : MOST_OF_SHORT_RUN / units;
  expect(heap.slope).toBeLessThanOrEqual(allowed);
  expect(external.slope).toBeLessThanOrEqual(allowed);
  // The engine's memory is as large as after the first texts.
  expect(points.filter(({ memories }) => memories.join() !== first.memories.join())).toEqual([]);
  expect(first.memories.length).toBeGreaterThan(0);
  expect(last.resources).toBeLessThanOrEqual(first.resources + 10);
  expect(serving.fileDescriptors()).toBeLessThanOrEqual(descriptors + 10);
}

const TOPIC = "edgelabel/n/classify";

/** Requests of every kind, at most WINDOW unanswered; each of them gets an answer. */
class Requester {
  readonly client: MqttClient;
  private readonly random = new Seeded(5);
  private unanswered = 0;
  private wake = (): void => {};

  constructor(client: MqttClient) {
    this.client = client;
    client.on("message", () => {
      this.unanswered--;
      this.wake();
    });
  }

  static async connect(url: string, options: IClientOptions): Promise<Requester> {
    const client = await mqtt.connectAsync(url, options);
    await client.subscribeAsync(["edgelabel/n/label/#", "edgelabel/n/reply/#", "labels/#"], { qos: 1 });
    return new Requester(client);
  }

  async work(from: number, to: number): Promise<void> {
    for (let id = from; id < to; id++) {
      while (this.unanswered >= WINDOW) await this.settled();
      this.unanswered++;
      this.send(id);
    }
    while (this.unanswered > 0) await this.settled();
  }

  private async settled(): Promise<void> {
    let timer: NodeJS.Timeout;
    await Promise.race([
      new Promise<void>((resolve) => {
        this.wake = resolve;
      }),
      new Promise<void>((_, reject) => {
        timer = setTimeout(
          () => reject(new Error(`${this.unanswered} requests are not answered, connected ${this.client.connected}`)),
          30_000,
        );
      }),
    ]).finally(() => clearTimeout(timer));
  }

  private send(id: number): void {
    const text = `turn on the light ${id} ${"x".repeat(this.random.below(50))}`;
    const is5 = this.client.options.protocolVersion === 5;
    const ways: (() => [topic: string, payload: string, options?: object])[] = [
      () => [TOPIC, text],
      () => [TOPIC, JSON.stringify({ text, id })],
      () => [`${TOPIC}/tiny`, JSON.stringify({ texts: [text, "play"], id: String(id), topK: 2 })],
      () => [TOPIC, JSON.stringify({ text, id, replyTo: `edgelabel/n/reply/${id % 50_000}` })],
      () => [
        TOPIC,
        text,
        is5
          ? {
              responseTopic: `edgelabel/n/reply/v5-${id}`,
              correlationData: Buffer.from(String(id)),
              messageExpiryInterval: 60,
            }
          : {},
      ],
      () => [TOPIC, JSON.stringify({ text: id, id })],
      () => [`${TOPIC}/nope-${id}`, text],
      () => [`sms/${id}`, JSON.stringify({ text })],
    ];
    const [topic, payload, properties = {}] = this.random.pick(ways)();
    this.client.publish(topic, payload, { qos: this.random.pick([0, 1] as const), properties });
  }
}

const route = {
  name: "sms",
  filter: "sms/+",
  text: "/text",
  outputs: [{ topic: "labels/sms", when: "any", payload: { label: "{label}", was: "{1}" } }],
};

function post(agent: Agent | false, url: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { method: "POST", agent, headers: { "Content-Type": "application/json" } },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on("end", () => resolve(text));
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

describeMosquitto("on Mosquitto", (binaries) => {
  test.each(PIECES)(
    `${REQUESTS} requests, some of them over HTTP, piece %i of ${PIECES.length}`,
    async () => {
      const broker = await startMosquitto(binaries, { lines: ["max_queued_messages 10000"] });
      const serving = await serve({ broker: broker.url, routes: [route] });
      const requester = await Requester.connect(broker.url, { protocolVersion: 5 });
      const agent = new Agent({ keepAlive: true, maxSockets: 4 });
      await grow(
        serving,
        REQUESTS,
        MOST_A_REQUEST,
        async (from, to) => {
          const overHttp = (to - from) / 20;
          await requester.work(from, to - overHttp);
          for (let done = 0; done < overHttp; done += 20) {
            await Promise.all(
              Array.from({ length: 20 }, (_, i) =>
                post(
                  agent,
                  `${serving.http}/${i % 2 ? "predict" : "nothing"}`,
                  JSON.stringify({ data: i % 4 === 1 ? `${done} light` : done }),
                ),
              ),
            );
          }
        },
        WARM_UP,
      );
      agent.destroy();
      await requester.client.endAsync();
      await serving.end();
      await broker.kill();
    },
    1_200_000,
  );

  test.each(PIECES)(
    `${RECONNECTS} reconnects of the service, at any moment of a connection, piece %i of ${PIECES.length}`,
    async () => {
      const broker = await startMosquitto(binaries);
      const random = new Seeded(9);
      let cuts = 0;
      let mayCut = false;
      let wake = (): void => {};
      const sockets = new Set<Socket>();
      // Between service and broker; ends connections after a few milliseconds, as long as it may.
      const proxy = createServer((socket) => {
        const upstream = createConnection(broker.port, "127.0.0.1");
        sockets.add(socket);
        const end = (): void => {
          socket.destroy();
          upstream.destroy();
          sockets.delete(socket);
        };
        for (const each of [socket, upstream]) each.on("error", end).on("close", end);
        socket.pipe(upstream).pipe(socket);
        const cut = (): void => {
          if (!mayCut || socket.destroyed) return;
          cuts++;
          end();
          wake();
        };
        socket.once("close", () => clearTimeout(timer));
        const timer = setTimeout(cut, random.below(4) ? 2 + random.below(20) : 0);
      });
      await new Promise<void>((resolve) => {
        proxy.listen(0, "127.0.0.1", resolve);
      });
      const serving = await serve(
        { broker: `mqtt://127.0.0.1:${(proxy.address() as AddressInfo).port}`, routes: [route] },
        true,
      );
      const requester = await Requester.connect(broker.url, { protocolVersion: 5 });
      await grow(serving, RECONNECTS, MOST_A_RECONNECT, async (from, to) => {
        const enough = cuts + Math.round(to - from);
        mayCut = true;
        for (const socket of sockets) socket.destroy();
        while (cuts < enough)
          await Promise.race([
            new Promise<void>((resolve) => {
              wake = resolve;
            }),
            pause(1_000),
          ]);
        mayCut = false;
        // Both connections of the service stand again, and it answers.
        await until(() => sockets.size === 2);
        await until(async () => (await fetch(`${serving.http}/readyz`)).ok);
        await requester.work(0, 3);
      });
      await requester.client.endAsync();
      await serving.end();
      proxy.close();
      await broker.kill();
    },
    1_200_000,
  );
});

describe("on the embedded broker", () => {
  test(`${EMBEDDED} requests, and ${CLIENTS} clients with names of their own that come and go`, async () => {
    const serving = await serve({ routes: [route] });
    const login: IClientOptions = { protocolVersion: 4 };
    const requester = await Requester.connect(serving.url, login);
    await grow(serving, EMBEDDED, MOST_A_REQUEST, (from, to) => requester.work(from, to), WARM_UP);
    await grow(serving, CLIENTS, MOST_A_RECONNECT, async (from, to) => {
      for (let i = from; i < to; i += 8) {
        await Promise.all(
          Array.from({ length: 8 }, async (_, k) => {
            const client = await mqtt.connectAsync(serving.url, {
              ...login,
              clientId: `client-${i}-${k}`,
              reconnectPeriod: 0,
            });
            await client.subscribeAsync(`edgelabel/n/reply/${i}-${k}`);
            if (k % 2) await client.endAsync();
            else client.stream.destroy();
          }),
        );
      }
    });
    await requester.client.endAsync();
    await serving.end();
  }, 1_200_000);

  test(`${CLIENTS} HTTP connections`, async () => {
    const serving = await serve({});
    await grow(serving, CLIENTS, MOST_A_RECONNECT, async (from, to) => {
      for (let i = from; i < to; i += 8)
        await Promise.all(
          Array.from({ length: 8 }, (_, k) =>
            post(false, `${serving.http}/predict`, JSON.stringify({ data: `light ${i} ${k}` })),
          ),
        );
    });
    await serving.end();
  }, 1_200_000);
});
