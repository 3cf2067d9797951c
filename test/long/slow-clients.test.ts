// HTTP clients that are slow on purpose, all at once: others are served all the while, and
// after their time they are gone.
import { once } from "node:events";
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import type { Broker } from "../../host/service/broker/broker.ts";
import { startHttp } from "../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../host/service/http/http.ts";
import type { Service } from "../../host/service/service.ts";
import { fakeModel, fakeService } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { size } from "./size.ts";

const CLIENTS = size(2_000, 500);
/** Of an answer that fills all buffers on the way, 30 MB: so long a label for so many texts. */
const LABEL = 30_000;
const TEXTS = 1_000;

let broker: Broker;
let service: Service;
let http: HttpEndpoint;
const sockets: Socket[] = [];

beforeAll(async () => {
  broker = await startBroker({ port: 0 });
  const long = "l".repeat(LABEL);
  const wordy = { ...fakeModel(), labels: [long, "other"], classify: () => ({ label: long, score: 0.9, scores: {} }) };
  service = fakeService({
    access: broker.access,
    models: new Map([
      ["spam", fakeModel()],
      ["wordy", wordy],
    ]),
  });
  await service.start();
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 1_000_000, textsPerRequest: 100_000 });
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  await http.close();
  await service.stop();
  await broker.close();
});

/** A connection that says `first`, then `drop` every 200 ms. */
function slow(first: string, drop?: string | false): Socket {
  const socket = createConnection(http.port, "127.0.0.1", () => socket.write(first));
  const timer = drop ? setInterval(() => socket.write(drop), 200) : undefined;
  socket.on("error", () => {}).on("close", () => clearInterval(timer));
  if (drop !== false) socket.resume();
  sockets.push(socket);
  return socket;
}

const isServed = async (): Promise<boolean> =>
  (
    await fetch(`${http.url}/predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Connection: "close" },
      body: '{"data":"win"}',
    })
  ).status === 200;

test.concurrent(
  `${CLIENTS} that say nothing, or dribble headers or bodies: others are served, and after 15 s all are gone`,
  async () => {
    const post = "POST /predict HTTP/1.1\r\nHost: localhost\r\n";
    const kinds: [string, string?][] = [
      [""],
      [post, "X-A: b\r\n"],
      [`${post}Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n{`, " "],
      [`${post}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`, "1\r\n \r\n"],
      ["GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ];
    const since = Date.now();
    const clients: Socket[] = [];
    while (clients.length < CLIENTS) {
      for (let i = 0; i < 50; i++) clients.push(slow(...kinds[i % kinds.length]!));
      expect(await isServed()).toBe(true);
    }
    const last = Date.now();
    while (clients.some(({ closed }) => !closed)) {
      expect(await isServed()).toBe(true);
      expect(Date.now() - last).toBeLessThan(25_000);
      await pause(100);
    }
    console.log(
      `the last of ${CLIENTS} slow clients was gone ${Date.now() - last} ms after it came, ${Date.now() - since} ms after the first`,
    );
  },
  120_000,
);

test("requests that come before the last answer is out end the connection, and cost no memory", async () => {
  const before = process.memoryUsage().rss;
  const clients = Array.from({ length: 40 }, () =>
    slow("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000)),
  );
  await until(() => clients.every(({ closed }) => closed), 20_000);
  expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
  expect(await isServed()).toBe(true);
});

test.concurrent("a client that does not take its answer is cut off", async () => {
  const body = JSON.stringify({
    inputs: [{ name: "text", datatype: "BYTES", shape: [TEXTS], data: Array(TEXTS).fill("a") }],
  });
  const socket = slow(
    `POST /v2/models/wordy/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    false,
  );
  // Longer than the service waits for it.
  await pause(13_000);
  // What was on its way still comes; of the rest nothing.
  let bytes = 0;
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await once(socket, "close");
  expect(bytes).toBeGreaterThan(10_000);
  expect(bytes).toBeLessThan(TEXTS * LABEL);
});

test.concurrent(
  "streams in which nothing moves end, whoever is silent; one that goes on does not",
  async () => {
    const head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n";
    const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
    const first = `${head}Transfer-Encoding: chunked\r\n\r\n${chunk('{"text":"win"}\n')}`;
    const quiet = slow(first);
    // It sends for as long as it can, and reads nothing.
    const deaf = slow(first, false);
    const lines = chunk(`{"text":"win","id":"${"i".repeat(200)}"}\n`.repeat(200));
    const send = () => {
      while (!deaf.destroyed && deaf.write(lines));
    };
    deaf.on("drain", send);
    send();
    const busy = slow(first, chunk('{"text":"win"}\n'));
    await Promise.all([once(quiet, "close"), until(() => deaf.closed || deaf.destroyed, 90_000)]);
    expect(busy.closed).toBe(false);
    busy.destroy();
  },
  120_000,
);
