// Whatever comes over HTTP, from requests that are nearly right to bytes that are none: the answer
// is one of the documented statuses, and the next good request is answered.
import { connect } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import "../../../support/fast-check.ts";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../../../host/service/http/http.ts";
import { fakeService } from "../../../support/fake.ts";

/** Those of deploy/README.md, and 408 and 431 of Node, for headers that come too slowly or are too large. */
const STATUSES = [200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 429, 431, 500, 503, 504];
const RUNS = 400;
const prototype = Object.getOwnPropertyNames(Object.prototype);

let http: HttpEndpoint;
const faults: unknown[] = [];
const note = (error: unknown) => void faults.push(error);
beforeAll(async () => {
  const service = fakeService({ access: { url: "mqtt://127.0.0.1:1", protocol: 4 } });
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 3 });
  process.on("unhandledRejection", note).on("uncaughtExceptionMonitor", note);
});
afterAll(async () => {
  process.off("unhandledRejection", note).off("uncaughtExceptionMonitor", note);
  await http.close();
});

/** All that the server sends back to these bytes until it closes the connection. The client says that it has no more to send. */
function exchange(bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect({ port: http.port, host: "127.0.0.1" }, () => socket.end(bytes));
    socket
      .setEncoding("latin1")
      .on("data", (chunk: string) => {
        answer += chunk;
      })
      .on("error", () => {})
      .on("close", () => resolve(answer));
  });
}

const statuses = (answer: string): number[] =>
  [...answer.matchAll(/(?:^|\n)HTTP\/1\.1 (\d{3}) /g)]
    .map(([, status]) => Number(status))
    .filter((status) => status !== 100);

async function holds(bytes: Buffer, mayBeSilent: boolean): Promise<number[]> {
  const found = statuses(await exchange(bytes));
  expect(found.filter((status) => !STATUSES.includes(status))).toEqual([]);
  if (!mayBeSilent) expect(found.length).toBeGreaterThan(0);
  expect(faults).toEqual([]);
  expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(prototype);
  return found;
}

const name = fc.oneof(
  fc.constantFrom(
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "data",
    "text",
    "texts",
    "topK",
    "threshold",
    "deadline",
    "model",
    "explain",
    "inputs",
    "outputs",
    "name",
    "shape",
    "datatype",
    "parameters",
    "binary_data_size",
    "id",
  ),
  fc.string({ maxLength: 5 }),
);
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { depthSize: "large", withCrossShrink: true },
    fc.string({ maxLength: 20 }),
    fc.double(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.constantFrom("BYTES", "spam", "win", "boom"),
    fc.array(tie("tree"), { maxLength: 4 }),
    fc.array(fc.tuple(name, tie("tree")), { maxLength: 5 }).map((entries) => Object.fromEntries(entries)),
  ),
}));
const deep = fc
  .tuple(fc.integer({ min: 1, max: 4_900 }), fc.constantFrom(["[", "]"], ['{"data":', "}"]))
  .map(([depth, [open, close]]) => open!.repeat(depth) + (open === "[" ? "" : "1") + close!.repeat(depth))
  .filter((text) => text.length < 60_000);
const body = fc.oneof(
  tree.map((value) => Buffer.from(JSON.stringify(value))),
  fc
    .record(
      {
        text: fc.oneof(fc.string(), tree),
        texts: fc.oneof(fc.array(fc.string(), { maxLength: 4 }), tree),
        topK: fc.oneof(fc.integer(), tree),
        threshold: fc.oneof(fc.double(), tree),
        explain: fc.boolean(),
        id: tree,
      },
      { requiredKeys: [] },
    )
    .map((value) => Buffer.from(JSON.stringify(value))),
  fc
    .record(
      {
        data: fc.oneof(fc.string(), tree),
        model: fc.oneof(fc.constantFrom("spam", "other", "__proto__", "constructor", ""), tree),
        explain: tree,
      },
      { requiredKeys: [] },
    )
    .map((value) => Buffer.from(JSON.stringify(value))),
  fc
    .record(
      {
        id: tree,
        inputs: fc.array(
          fc.record(
            {
              name: tree,
              shape: fc.oneof(fc.constant([1]), tree),
              datatype: fc.oneof(fc.constant("BYTES"), tree),
              data: fc.oneof(fc.constant(["win"]), tree),
              parameters: tree,
            },
            { requiredKeys: [] },
          ),
          { maxLength: 2 },
        ),
        outputs: tree,
      },
      { requiredKeys: [] },
    )
    .map((value) => Buffer.from(JSON.stringify(value))),
  deep.map((text) => Buffer.from(text)),
  fc
    .constantFrom(
      '{"data":"win"}',
      '{"__proto__":{"data":"x"}}',
      '{"data":1e999}',
      '{"data":"\\ud800"}',
      `{"data":${"9".repeat(500)}}`,
      `{"data":"${"x".repeat(20_000)}"}`,
    )
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
);
const method = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom("GET", "POST", "HEAD") },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      "PUT",
      "DELETE",
      "OPTIONS",
      "PATCH",
      "TRACE",
      "PROPFIND",
      "M-SEARCH",
      "CONNECT",
      "PRI",
      "QUERY",
      "get",
      "BREW",
      "",
    ),
  },
);
const path = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom(
      "/",
      "/predict",
      "/healthz",
      "/readyz",
      "/metrics",
      "/v2",
      "/v2/health/live",
      "/v2/models/spam",
      "/v2/models/spam/infer",
      "/v2/models/other/versions/2.0.0/infer",
      "/v2/models/spam/ready",
    ),
  },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      "*",
      "//",
      "/%",
      "/%00",
      "/../predict",
      "/predict/../metrics",
      "/v2/models/__proto__/infer",
      "/v2/models/constructor",
      "/v2/models/%2e%2e/infer",
      "/v2/models/%ff/infer",
      "/v2/models/a%2fb/infer",
      "/__proto__",
      "/constructor",
      "/predict?__proto__=1",
      "/predict#x",
      "\\predict",
      "http://localhost/predict",
      "http://evil.example/predict",
      "http://",
      "/v2/models//infer",
      `/v2/models/${"a/".repeat(2_000)}`,
    ),
  },
  { weight: 2, arbitrary: fc.webPath() },
  { weight: 1, arbitrary: fc.string({ maxLength: 30, unit: "binary" }).map((text) => `/${text}`) },
);
const header = fc.oneof(
  fc.constantFrom(
    "Content-Type: application/json",
    "Content-Type: text/plain",
    "Content-Type: application/octet-stream",
    "Content-Type: application/x-ndjson",
    "Content-Encoding: gzip",
    "Expect: 100-continue",
    "Expect: nonsense",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
    "Origin: null",
    "Origin: https://evil.example",
    "Sec-Fetch-Site: cross-site",
    "Authorization: Basic x",
    "Accept-Encoding: gzip",
    "Range: bytes=0-1",
    "If-None-Match: *",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Content-Length: 0",
    "Content-Length: -1",
    "Content-Length: 1e3",
    "Content-Length: 99999999999999999999",
    "Content-Length: 5, 5",
    "Inference-Header-Content-Length: 3",
    "Inference-Header-Content-Length: 1.5",
    "Inference-Header-Content-Length: -0",
    "Host: evil.example",
    "Host: localhost",
    "__proto__: 1",
    "constructor: 1",
    "Cookie: a=b",
    " X: folded",
    "X",
    ": x",
    `X: ${"y".repeat(9_000)}`,
  ),
  fc
    .tuple(fc.string({ maxLength: 10, unit: "binary" }), fc.string({ maxLength: 20, unit: "binary" }))
    .map(([key, value]) => `${key}: ${value}`),
);

test(`${RUNS} requests with any method, path, headers and JSON: a documented status, and no fault`, async () => {
  const seen = new Set<number>();
  await fc.assert(
    fc.asyncProperty(
      method,
      path,
      fc.array(header, { maxLength: 3 }),
      fc.boolean(),
      body,
      async (verb, target, headers, isUsual, bytes) => {
        const lines = [
          `${verb} ${target} HTTP/1.1`,
          "Host: localhost",
          "Connection: close",
          ...(isUsual ? ["Content-Type: application/json", `Content-Length: ${bytes.length}`] : []),
          ...headers,
        ];
        // A CONNECT gets no answer, and what breaks off within a request may get none.
        for (const status of await holds(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), bytes]), true))
          seen.add(status);
      },
    ),
    { numRuns: RUNS },
  );
  for (const status of [200, 400, 404, 405]) expect(seen).toContain(status);
});

test(`${RUNS} requests of the right form with any JSON: one answer each, below 500 or of the model's own fault`, async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("/predict", "/v2/models/spam/infer"), body, async (target, bytes) => {
      const head = `POST ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${bytes.length}\r\n\r\n`;
      const found = await holds(Buffer.concat([Buffer.from(head), bytes]), false);
      expect(found).toHaveLength(1);
      if (!bytes.includes("boom")) expect(found[0]).toBeLessThan(500);
    }),
    { numRuns: RUNS },
  );
});

test(`${RUNS} times any bytes`, async () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
    fc
      .constantFrom(
        "GET / HTTP/1.1\r\n",
        "POST /predict HTTP/1.1\r\n",
        "Host: localhost\r\n",
        "\r\n",
        "\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "5;ext=\r\nhello\r\n",
        '{"data":"win"}',
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00",
      )
      .map((text) => Buffer.from(text, "latin1")),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
      await holds(Buffer.concat(pieces), true);
    }),
    { numRuns: RUNS },
  );
  expect(
    await (
      await fetch(`${http.url}/predict`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: '{"data":"win"}',
      })
    ).json(),
  ).toEqual({ label: "spam" });
});
