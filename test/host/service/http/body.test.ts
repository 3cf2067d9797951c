// Memory and connections that clients of HTTP could take without ever sending a whole request.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { get } from "node:https";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../../../host/service/http/http.ts";
import type { Service } from "../../../../host/service/service.ts";
import { Certificates } from "../../../support/certificates.ts";
import { fakeService } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

const BODY = 1_000_000;
const CLIENTS = 150;

let http: HttpEndpoint;
let service: Service;
const sockets: { socket: Socket; answer: string; isClosed: boolean }[] = [];

async function start(tls?: { cert: Buffer; key: Buffer }): Promise<void> {
  service = fakeService({ access: { url: "mqtt://127.0.0.1:1", protocol: 4 } });
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: BODY, textsPerRequest: 3, tls });
}
afterEach(async () => {
  for (const { socket } of sockets.splice(0)) socket.destroy();
  await http.close();
});

function open(first: string | Buffer) {
  const client = { socket: connect(http.port, "127.0.0.1"), answer: "", isClosed: false };
  client.socket
    .on("data", (chunk: Buffer) => {
      client.answer += chunk.toString();
    })
    .on("error", () => {})
    .on("close", () => {
      client.isClosed = true;
    });
  client.socket.write(first);
  sockets.push(client);
  return client;
}

const head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
const asks = async (data = "win") =>
  (
    await fetch(`${http.url}/predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data }),
    })
  ).status;

test.each([
  ["announced", `${head}Content-Length: ${BODY}\r\n\r\n`, Buffer.alloc(BODY - 1, 0x20)],
  [
    "in chunks",
    `${head}Transfer-Encoding: chunked\r\n\r\n`,
    Buffer.from(`${(BODY - 1).toString(16)}\r\n${" ".repeat(BODY - 1)}\r\n`),
  ],
] as const)(
  "bodies that never end, %s: together they take little, the oldest give way, and others are served",
  async (_how, start_, body) => {
    await start();
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    for (let i = 0; i < CLIENTS; i++) {
      const { socket } = open(start_);
      await new Promise((resolve) => {
        socket.write(body, resolve);
      });
      if (i % 10 === 9) expect(await asks("x".repeat(90_000))).toBe(200);
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    await until(() => sockets.filter(({ isClosed }) => isClosed).length >= CLIENTS - 10);
    expect(await asks("x".repeat(90_000))).toBe(200);
    // Four bodies, and what has not been collected yet of others and of what the sockets read into.
    expect(most).toBeLessThan((CLIENTS * BODY) / 2);
    const refused = sockets.filter(({ answer }) => answer !== "");
    for (const { answer } of refused) expect(answer).toMatch(/^HTTP\/1\.1 503 [^]*Retry-After: 1\r\n[^]*"busy"/);
    expect(refused.length).toBeGreaterThan(CLIENTS / 2);
  },
);

test("a body in chunks of one byte takes no more memory than it has bytes", async () => {
  await start();
  const chunks = Buffer.from("1\r\n \r\n".repeat(200_000));
  const before = process.memoryUsage().arrayBuffers;
  const client = open(`${head}Transfer-Encoding: chunked\r\n\r\n`);
  await new Promise((resolve) => {
    client.socket.write(chunks, resolve);
  });
  client.socket.write("0\r\n\r\n");
  await until(() => client.answer !== "");
  expect(client.answer).toContain("the body is not JSON");
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5_000_000);
});

test("the length of a body in chunks counts in the queue, too", async () => {
  await start();
  let bytes = 0;
  const { predict } = service.predictor;
  service.predictor.predict = (work) => {
    ({ bytes } = work);
    return predict.call(service.predictor, work);
  };
  const client = open(`${head}Transfer-Encoding: chunked\r\n\r\ne\r\n{"data":"win"}\r\n0\r\n\r\n`);
  await until(() => client.answer !== "");
  expect([client.answer.slice(0, 12), bytes]).toEqual(["HTTP/1.1 200", 14]);
});

test("of requests that come before the last answer has been sent, none is worked on", async () => {
  await start();
  let works = 0;
  const { predict } = service.predictor;
  service.predictor.predict = (work) => {
    works++;
    return predict.call(service.predictor, work);
  };
  const one = `${head}Content-Length: 14\r\n\r\n{"data":"win"}`;
  const client = open(one + one + one);
  await until(() => client.isClosed);
  expect(await asks()).toBe(200);
  // Perhaps the first one, and the one that was just asked.
  expect(works).toBeLessThanOrEqual(2);
});

test("connections that have been answered and stay open keep nobody out", async () => {
  await start();
  for (let i = 0; i < 300; i++) {
    const client = open("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await until(() => client.answer !== "" || client.isClosed);
    expect([i, client.answer.slice(0, 12)]).toEqual([i, "HTTP/1.1 200"]);
  }
});

test("with TLS, clients that never begin the handshake keep nobody out", async () => {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-http-body-"));
  const certificates = new Certificates(folder);
  certificates.authority("CA");
  certificates.certificate("server", "CA", "localhost");
  const [ca, cert, key] = ["CA.pem", "server.pem", "server.key"].map((name) => readFileSync(join(folder, name))) as [
    Buffer,
    Buffer,
    Buffer,
  ];
  rmSync(folder, { recursive: true });
  await start({ cert, key });
  for (let i = 0; i < 300; i++)
    await new Promise((resolve) => {
      open("").socket.once("connect", resolve).once("close", resolve);
    });
  const status = await new Promise((resolve) => {
    get(
      { host: "127.0.0.1", port: http.port, path: "/healthz", ca, servername: "localhost", agent: false },
      (response) => resolve(response.resume().statusCode),
    ).on("error", resolve);
  });
  expect(status).toBe(200);
  // As many as may be open, and one more that has said something.
  expect(sockets.filter(({ isClosed }) => !isClosed).length).toBeLessThanOrEqual(193);
});
