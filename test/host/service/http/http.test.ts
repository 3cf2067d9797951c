import { createHash } from "node:crypto";
import { request } from "node:http";
import { createConnection } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import type { Broker } from "../../../../host/service/broker/broker.ts";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../../../host/service/http/http.ts";
import type { Service } from "../../../../host/service/service.ts";
import { fakeModel, fakeService, limits, fillQueue } from "../../../support/fake.ts";

let broker: Broker;
let service: Service;
let http: HttpEndpoint;

beforeEach(async () => {
  broker = await startBroker({ port: 0 });
  const numbers = { ...fakeModel(), classify: () => ({ label: "1", score: 0.9, scores: {} }) };
  service = fakeService({
    access: { url: broker.url, protocol: 4 },
    models: new Map([
      ["spam", fakeModel()],
      ["sentiment", numbers],
    ]),
  });
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 1_000, textsPerRequest: 3 });
});

afterEach(async () => {
  await http.close();
  await service.stop();
  await broker.close();
});

async function post(
  body: string | Buffer<ArrayBuffer>,
  headers: Record<string, string> = { "Content-Type": "application/json" },
) {
  const response = await fetch(`${http.url}/predict`, { method: "POST", body, headers });
  return { status: response.status, body: (await response.json()) as any, headers: response.headers };
}

test("POST /predict answers as the tutorial does: the label and nothing else", async () => {
  const { status, body, headers } = await post('{"data":"win a prize"}');
  expect([status, body, headers.get("content-type")]).toEqual([200, { label: "spam" }, "application/json"]);
  expect((await post('{"data":""}', { "Content-Type": "application/json; charset=utf-8" })).body).toEqual({
    label: "ham",
  });
});

test("with explain, which tokens made the label", async () => {
  expect((await post('{"data":"win","explain":true}')).body).toMatchObject({
    label: "spam",
    explanation: { label: "spam", base: 0.5, tokens: [{ token: "win", start: 0, end: 3, share: 0.375 }] },
  });
  expect((await post('{"data":"win","explain":false}')).body).toEqual({ label: "spam" });
});

test("a model by name; a label that is a whole number comes as a number", async () => {
  expect((await post('{"data":"x","model":"sentiment"}')).body).toEqual({ label: 1 });
  const { status, body } = await post('{"data":"x","model":"nope"}');
  expect([status, body.error.code]).toEqual([404, "unknown_model"]);
  expect(body.error.message).toContain("spam, sentiment");
});

test.each([
  "",
  "{",
  "[]",
  "null",
  "7",
  "{}",
  '{"data":7}',
  '{"text":["a"]}',
  '{"data":"x","model":7}',
  '{"data":"x","explain":1}',
  '{"__proto__":{"data":"x"}}',
])("body %j: 400", async (payload) => {
  const { status, body } = await post(payload);
  expect([status, body.error.code]).toEqual([400, "bad_request"]);
});

test("bytes that are no UTF-8: 400", async () => {
  expect((await post(Buffer.from([0x22, 0xff, 0x22]))).status).toBe(400);
});

test("another content type: 415", async () => {
  for (const headers of [
    { "Content-Type": "text/plain" },
    { "Content-Type": "application/x-www-form-urlencoded" },
    { "Content-Type": "application/jsonx" },
  ]) {
    const { status, body } = await post('{"data":"x"}', headers);
    expect([status, body.error.code]).toEqual([415, "unsupported_media_type"]);
  }
});

test("no content type: fine from a program, 403 from a page of another site; a coded body: 415", async () => {
  const send = (headers: Record<string, string>) =>
    new Promise<number>((resolve, reject) => {
      const sent = request(`${http.url}/predict`, { method: "POST", headers }, (response) =>
        resolve(response.resume().statusCode!),
      );
      sent.on("error", reject);
      sent.end('{"data":"win"}');
    });
  const json = { "Content-Type": "application/json" };
  expect([
    await send({}),
    await send({ Origin: "https://example.org" }),
    await send({ "Sec-Fetch-Site": "cross-site" }),
  ]).toEqual([200, 403, 403]);
  expect([
    await send({ ...json, "Content-Encoding": "gzip" }),
    await send({ ...json, "Content-Encoding": "identity" }),
  ]).toEqual([415, 200]);
});

test("a body over the limit: 413, announced or not", async () => {
  const body = JSON.stringify({ data: "x".repeat(1_000) });
  expect((await post(body)).status).toBe(413);
  const chunked = new ReadableStream({
    start(controller) {
      controller.enqueue(Buffer.from(body));
      controller.close();
    },
  });
  const response = await fetch(`${http.url}/predict`, {
    method: "POST",
    body: chunked,
    duplex: "half",
    headers: { "Content-Type": "application/json" },
  } as RequestInit);
  expect(response.status).toBe(413);
});

test("a fault of the engine: 500, and the next request works", async () => {
  const { status, body } = await post('{"data":"boom"}');
  expect([status, body.error.code]).toEqual([500, "internal"]);
  expect((await post('{"data":"win"}')).body).toEqual({ label: "spam" });
});

test("unknown paths and methods", async () => {
  for (const path of ["/nope", "/predict/", "/__proto__", "/constructor"])
    expect((await fetch(http.url + path)).status).toBe(404);
  const get = await fetch(`${http.url}/predict`);
  expect([get.status, get.headers.get("allow")]).toEqual([405, "POST"]);
  for (const method of ["DELETE", "OPTIONS"]) {
    const other = await fetch(`${http.url}/healthz`, { method });
    expect([other.status, other.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  }
});

test("each answer tells its length, and HEAD the length that GET has", async () => {
  for (const path of ["/", "/healthz", "/metrics", "/openapi.json", "/v2", "/v2/models/spam", "/nope"]) {
    const [get, head] = [await fetch(http.url + path), await fetch(http.url + path, { method: "HEAD" })];
    const length = (await get.arrayBuffer()).byteLength;
    expect([path, Number(get.headers.get("content-length"))]).toEqual([path, length]);
    expect([path, head.status, (await head.arrayBuffer()).byteLength]).toEqual([path, get.status, 0]);
    // The figures are others each time.
    if (path !== "/metrics") expect(Number(head.headers.get("content-length"))).toBe(length);
  }
});

test("every answer says that it must not be framed, kept, guessed or embedded; the page's style is allowed by its digest", async () => {
  const json = { "Content-Type": "application/json" };
  const answers = [
    ...(await Promise.all(
      ["/", "/healthz", "/readyz", "/metrics", "/v2", "/v2/models/spam", "/v2/models/nope", "/nope", "/predict"].map(
        (path) => fetch(http.url + path),
      ),
    )),
    await fetch(http.url, { method: "HEAD" }),
    ...(await Promise.all(
      ['{"data":"win"}', "{", JSON.stringify({ data: "x".repeat(1_000) }), '{"data":"boom"}'].map((body) =>
        fetch(`${http.url}/predict`, { method: "POST", headers: json, body }),
      ),
    )),
    await fetch(`${http.url}/predict`, { method: "POST", headers: { "Content-Type": "text/plain" }, body: "a" }),
    await fetch(`${http.url}/predict`, {
      method: "POST",
      headers: { ...json, Origin: "https://evil.example" },
      body: "{}",
    }),
  ];
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 400, 403, 404, 405, 413, 415, 500, 503]));
  for (const { status, headers } of answers) {
    const named = Object.fromEntries(
      [
        "cache-control",
        "x-content-type-options",
        "x-frame-options",
        "referrer-policy",
        "cross-origin-resource-policy",
        "access-control-allow-origin",
      ].map((name) => [name, headers.get(name)]),
    );
    expect([status, named]).toEqual([
      status,
      {
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "access-control-allow-origin": null,
      },
    ]);
    for (const part of ["default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"])
      expect([status, headers.get("content-security-policy")!.split("; ")]).toEqual([
        status,
        expect.arrayContaining([part]),
      ]);
    expect(headers.get("content-security-policy")).not.toContain("unsafe");
  }
  const html = await (await fetch(http.url)).text();
  const digestOf = (element: string): string =>
    createHash("sha256")
      .update(new RegExp(`<${element}[^>]*>([^]*)</${element}>`).exec(html)![1]!)
      .digest("base64");
  const policy = answers[0]!.headers.get("content-security-policy")!.split("; ");
  expect(policy).toEqual(
    expect.arrayContaining([
      `style-src 'sha256-${digestOf("style")}'`,
      `script-src 'sha256-${digestOf("script")}'`,
      "connect-src 'self'",
    ]),
  );
  expect(html.replace(/<script[^>]*>[^]*<\/script>/, "")).not.toMatch(/<script| style=| on[a-z]+=/);
  expect(answers[1]!.headers.get("content-security-policy")).not.toMatch(/script-src|connect-src/);
});

/** What the server answers to these bytes, until it closes the connection. */
function exchange(head: string, body = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = createConnection(http.port, "127.0.0.1", () =>
      socket.write(`${head}\r\nHost: localhost\r\nConnection: close\r\n\r\n${body}`),
    );
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString();
    });
    socket.on("end", () => resolve(answer));
    socket.on("error", reject);
  });
}

test("HTTP as the standard has it: chunks, a whole URL, 100 Continue, byte order mark, an old version", async () => {
  const json = "POST /predict HTTP/1.1\r\nContent-Type: application/json";
  expect(await exchange(`${json}\r\nTransfer-Encoding: chunked`, '6\r\n{"data\r\n8\r\n":"win"}\r\n0\r\n\r\n')).toMatch(
    /^HTTP\/1.1 200 [^]*\{"label":"spam"\}\n$/,
  );
  expect(await exchange(`${json}; charset=utf-8\r\nContent-Length: 17`, '\ufeff{"data":"win"}')).toMatch(
    /^HTTP\/1.1 200 /,
  );
  expect(await exchange(`${json}\r\nExpect: 100-continue\r\nContent-Length: 14`, '{"data":"win"}')).toMatch(
    /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 /,
  );
  for (const target of ["http://10.0.0.1/healthz", "HTTPS://LOCALHOST:8080/healthz?x"])
    expect(await exchange(`GET ${target} HTTP/1.1`)).toMatch(/^HTTP\/1.1 200 /);
  expect(await exchange("GET http://localhost HTTP/1.1")).toContain("<!doctype html>");
  expect(await exchange("GET /healthz HTTP/1.0")).toMatch(/^HTTP\/1.1 200 [^]*\r\n\r\n\{"status":"ok"\}\n$/);
  for (const broken of [
    `${json}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5`,
    "BREW /predict HTTP/1.1",
    `GET /healthz HTTP/1.1\r\nX: ${"x".repeat(9_000)}`,
  ])
    expect(await exchange(broken)).toMatch(/^HTTP\/1.1 4(?:00|31) /);
});

test("metrics are text that Prometheus takes: one block a name, with its kind; buckets that add up", async () => {
  service.predictor.set('odd "name"\\', fakeModel());
  await post(JSON.stringify({ data: "win", model: 'odd "name"\\' }));
  await post("{");
  const response = await fetch(`${http.url}/metrics`);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  const [families, samples] = [new Set<string>(), new Set<string>()];
  const buckets = new Map<string, number>();
  let [family, kind] = ["", ""];
  for (const line of text.split("\n").filter((each) => each !== "")) {
    const [, comment, name, rest] = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line) ?? [];
    if (comment === "HELP") {
      expect([line, families.has(name!)]).toEqual([line, false]);
      families.add((family = name!));
    } else if (comment === "TYPE") {
      kind = rest!;
      expect([
        name,
        ["counter", "gauge", "histogram"].includes(kind),
        (kind === "counter") === name!.endsWith("_total"),
      ]).toEqual([family, true, true]);
    } else {
      const [, sample, labels = "", value] =
        /^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)$/.exec(line) ?? [];
      expect([
        line,
        kind === "histogram" ? sample?.replace(/_(?:bucket|sum|count)$/, "") : sample,
        Number.isFinite(Number(value)),
      ]).toEqual([line, family, true]);
      expect([line, samples.has(`${sample} ${labels}`)]).toEqual([line, false]);
      samples.add(`${sample} ${labels}`);
      const series = `${family} ${labels.replace(/,?le="[^"]*",?/, "")}`;
      if (sample!.endsWith("_bucket")) {
        expect([line, Number(value) >= (buckets.get(series) ?? 0)]).toEqual([line, true]);
        buckets.set(series, Number(value));
      } else if (sample!.endsWith("_count") && kind === "histogram")
        expect([line, Number(value)]).toEqual([line, buckets.get(series)]);
    }
  }
  expect(text).toContain('edgelabel_texts_total{model="odd \\"name\\"\\\\"} 1\n');
  expect(text).toMatch(/^process_start_time_seconds \d+/m);
});

test("health is about the process, readiness about the broker", async () => {
  const health = await fetch(`${http.url}/healthz`);
  expect([health.status, await health.json()]).toEqual([200, { status: "ok" }]);
  expect((await fetch(`${http.url}/readyz`)).status).toBe(503);
  await service.start();
  expect((await fetch(`${http.url}/readyz`)).status).toBe(200);
});

test("a page that asks for what it shows, and is the same for everyone", async () => {
  const response = await fetch(`${http.url}/?q=1`);
  expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
  const html = await response.text();
  expect(html).toContain('<div id="models"></div>');
  expect(html).not.toContain("spam");
});

test("metrics count and hold no text", async () => {
  await post('{"data":"win canary-text-4711"}');
  await post("{");
  const text = await (await fetch(`${http.url}/metrics`)).text();
  expect(text).toContain('edgelabel_requests_total{transport="http"} 2');
  expect(text).toContain('edgelabel_texts_total{model="spam"} 1');
  expect(text).toContain('edgelabel_errors_total{code="bad_request"} 1');
  expect(text).not.toContain("canary");
});

test("a client that dribbles its headers is cut off", async () => {
  const start = Date.now();
  await new Promise<void>((resolve) => {
    const socket = createConnection(http.port, "127.0.0.1", () =>
      socket.write("POST /predict HTTP/1.1\r\nHost: localhost\r\n"),
    );
    const timer = setInterval(() => socket.write("X-A: b\r\n"), 500);
    socket.on("error", () => {});
    socket.on("close", () => {
      clearInterval(timer);
      resolve();
    });
    socket.resume();
  });
  // Node would wait for a minute.
  expect(Date.now() - start).toBeLessThan(30_000);
});

test("a taken port is an error that names the way out", async () => {
  await expect(
    startHttp(service, { host: "127.0.0.1", port: http.port, bodyBytes: 1, textsPerRequest: 1 }),
  ).rejects.toThrow(`port ${http.port} on 127.0.0.1 is already taken: choose another one with --http`);
  await expect(startBroker({ port: broker.port })).rejects.toThrow(`--broker ${broker.url}`);
  await expect(startHttp(service, { host: "192.0.2.1", port: 0, bodyBytes: 1, textsPerRequest: 1 })).rejects.toThrow(
    "192.0.2.1 is not an address of this machine",
  );
});

describe("KServe V2", () => {
  const get = async (path: string) => {
    const response = await fetch(http.url + path);
    return { status: response.status, body: (await response.json()) as any };
  };
  const infer = async (body: unknown, path = "/v2/models/spam/infer") => {
    const response = await fetch(http.url + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as any };
  };
  const input = (...data: string[]) => ({ name: "text", shape: [data.length], datatype: "BYTES", data });

  test("server, health and metadata", async () => {
    expect((await get("/v2")).body).toMatchObject({ name: "edgelabel", extensions: [] });
    expect((await get("/v2/health/live")).status).toBe(200);
    expect((await get("/v2/health/ready")).status).toBe(503);
    await service.start();
    expect((await get("/v2/health/ready")).status).toBe(200);
    expect((await get("/v2/models/spam/ready")).status).toBe(200);
    for (const path of ["/v2/models/spam", "/v2/models/spam/versions/1.0.0"]) {
      expect((await get(path)).body).toEqual({
        name: "spam",
        versions: ["1.0.0"],
        platform: "edgelabel_wasm",
        inputs: [{ name: "text", datatype: "BYTES", shape: [-1] }],
        outputs: [
          { name: "label", datatype: "BYTES", shape: [-1] },
          { name: "score", datatype: "FP32", shape: [-1] },
          { name: "scores", datatype: "FP32", shape: [-1, 2], parameters: { labels: ["ham", "spam"] } },
        ],
      });
    }
    for (const path of [
      "/v2/models/nope",
      "/v2/models/spam/versions/2",
      "/v2/models/spam/nope",
      "/v2/models/%ff",
      "/v2/models/__proto__",
    ]) {
      const { status, body } = await get(path);
      expect([path, status, typeof body.error]).toEqual([path, 404, "string"]);
    }
  });

  test("infer: texts in, labels and scores out", async () => {
    const { status, body } = await infer({ id: "42", inputs: [input("win", "hello")] });
    expect([status, body]).toEqual([
      200,
      {
        id: "42",
        model_name: "spam",
        model_version: "1.0.0",
        outputs: [
          { name: "label", datatype: "BYTES", shape: [2], data: ["spam", "ham"] },
          { name: "score", datatype: "FP32", shape: [2], data: [0.875, 0.875] },
        ],
      },
    ]);
    const all = await infer(
      {
        inputs: [{ ...input("win", "hello"), shape: [2, 1], data: [["win"], ["hello"]] }],
        outputs: [{ name: "scores" }],
      },
      "/v2/models/spam/versions/1.0.0/infer",
    );
    expect(all.body.outputs).toEqual([
      {
        name: "scores",
        datatype: "FP32",
        shape: [2, 2],
        parameters: { labels: ["ham", "spam"] },
        data: [0.125, 0.875, 0.875, 0.125],
      },
    ]);
  });

  describe("as Triton's client sends it: no content type, binary tensors", () => {
    const bytesOf = (text: string | Buffer) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return Buffer.concat([length, Buffer.from(text as string)]);
    };
    const send = async (
      tensor: object,
      binary: Buffer<ArrayBuffer>,
      headers = (json: string): Record<string, string> => ({
        "Inference-Header-Content-Length": String(Buffer.byteLength(json)),
      }),
    ) => {
      const json = JSON.stringify({
        inputs: [{ name: "text", datatype: "BYTES", ...tensor }],
        outputs: [{ name: "label", parameters: { binary_data: true } }],
      });
      // A body without a type has no Content-Type header.
      const response = await fetch(`${http.url}/v2/models/spam/infer`, {
        method: "POST",
        headers: headers(json),
        body: new Blob([json, binary]),
      });
      return { status: response.status, body: (await response.json()) as any };
    };

    test("texts of any bytes", async () => {
      const binary = Buffer.concat([bytesOf("win ü"), bytesOf(""), bytesOf(Buffer.from([0xff, 0xfe]))]);
      const { status, body } = await send({ shape: [3], parameters: { binary_data_size: binary.length } }, binary);
      expect([status, body.outputs]).toEqual([
        200,
        [{ name: "label", datatype: "BYTES", shape: [3], data: ["spam", "ham", "ham"] }],
      ]);
      expect((await send({ shape: [1], data: ["win"] }, Buffer.of(), () => ({}))).status).toBe(200);
    });

    const one = bytesOf("win");
    test.each([
      ["cut off in a text", { shape: [1], parameters: { binary_data_size: 6 } }, one.subarray(0, 6), "cut off"],
      [
        "cut off in a length",
        { shape: [2], parameters: { binary_data_size: 9 } },
        Buffer.concat([one, one]).subarray(0, 9),
        "cut off",
      ],
      ["a length of 4 GiB", { shape: [1], parameters: { binary_data_size: 4 } }, Buffer.alloc(4, 0xff), "cut off"],
      ["another size", { shape: [1], parameters: { binary_data_size: 8 } }, one, "is 8, and 7 bytes follow"],
      ["bytes that nothing tells of", { shape: [1], data: ["win"] }, one, "is 0, and 7 bytes follow"],
      ["both", { shape: [1], data: ["win"], parameters: { binary_data_size: 7 } }, one, "either"],
      ["neither", { shape: [1] }, Buffer.of(), "either"],
      ["another count", { shape: [2], parameters: { binary_data_size: 7 } }, one, "its shape says 2"],
      [
        "too many",
        { shape: [4], parameters: { binary_data_size: 28 } },
        Buffer.concat([one, one, one, one]),
        "at most 3 texts",
      ],
    ])("%s: 400", async (_what, tensor, binary, message) => {
      const { status, body } = await send(tensor, binary);
      expect([status, body.error]).toEqual([400, expect.stringContaining(message)]);
    });

    test.each(["-1", "x", "99999", "1e9"])("%j for the length of the object: 400", async (length) => {
      const { status, body } = await send({ shape: [1], data: ["win"] }, Buffer.of(), () => ({
        "Inference-Header-Content-Length": length,
      }));
      expect([status, body.error]).toEqual([400, "Inference-Header-Content-Length is no length within the body"]);
    });
  });

  test.each([
    ["{", "not JSON"],
    [{}, '"inputs" is missing'],
    [7, '"body" must be an object'],
    [{ inputs: [7] }, '"inputs.0" must be an object'],
    [{ inputs: [{ name: "text" }] }, '"inputs.0.datatype" is missing'],
    [{ inputs: [input("a")], outputs: [{}] }, '"outputs.0.name" is missing'],
    [{ inputs: [] }, "one tensor"],
    [{ inputs: [input("a"), input("b")] }, "one tensor"],
    [{ inputs: [{ ...input("a"), datatype: "FP32" }] }, "must be BYTES"],
    [{ inputs: [{ ...input("a"), shape: [2] }] }, "its shape says 2"],
    [{ inputs: [{ ...input("a"), shape: [1e9, 1e9] }] }, "its shape says"],
    [{ inputs: [{ ...input("a"), shape: [0] }] }, "from 1"],
    [{ inputs: [{ ...input("a"), data: [7] }] }, "must hold strings"],
    [{ inputs: [{ name: "text", shape: [1], datatype: "BYTES", parameters: { binary_data_size: 3 } }] }, "data"],
    [{ inputs: [input("a", "b", "c", "d")] }, "at most 3 texts"],
    [{ inputs: [input("a")], outputs: [{ name: "logits" }] }, "must be one of label, score, labels, scores"],
  ])("%j: 400", async (body, message) => {
    const answer = await infer(body);
    expect(answer.status).toBe(400);
    expect(answer.body.error).toContain(message);
  });
});

test("a full queue: 503 and when to come again, and then it goes on", async () => {
  const makeRoom = fillQueue(service);
  const { status, body, headers } = await post('{"data":"win"}');
  expect([status, body.error.code, headers.get("retry-after")]).toEqual([503, "busy", "1"]);
  const kserve = await fetch(`${http.url}/v2/models/spam/infer`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["win"]}]}',
  });
  expect([kserve.status, kserve.headers.get("retry-after")]).toEqual([503, "1"]);
  makeRoom();
  expect((await post('{"data":"win"}')).body).toEqual({ label: "spam" });
});

test("more than the rate allows: 429, when to come again, and then it goes on", async () => {
  await http.close();
  await service.stop();
  service = fakeService({ access: { url: broker.url, protocol: 4 }, limits: { ...limits, textsPerSecond: 2 } });
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 1_000, textsPerRequest: 3 });
  const statuses = [];
  let refused;
  while (!refused && statuses.length < 100) {
    const answer = await post('{"data":"win"}');
    statuses.push(answer.status);
    if (answer.status !== 200) refused = answer;
  }
  expect(statuses.slice(0, 2)).toEqual([200, 200]);
  expect([refused!.status, refused!.body.error.code, refused!.headers.get("retry-after")]).toEqual([429, "rate", "1"]);
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + 1_000);
  expect((await post('{"data":"win"}')).status).toBe(200);
  clock.mockRestore();
});
