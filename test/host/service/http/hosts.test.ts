// Web pages of other sites: neither a name that they point here nor a request straight from them gets in.
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, request } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startHttp } from "../../../../host/service/http/http.ts";
import type { HttpEndpoint } from "../../../../host/service/http/http.ts";
import { findChromium, launchChromium } from "../../../support/chromium.ts";
import { counter, fakeService } from "../../../support/fake.ts";

let http: HttpEndpoint;
beforeAll(async () => {
  const service = fakeService({ access: { url: "mqtt://127.0.0.1:1", protocol: 4 } });
  http = await startHttp(service, {
    host: "127.0.0.1",
    port: 0,
    hosts: ["Labels.example.org"],
    origins: ["https://app.example.org", "http://10.0.0.7:3000"],
    bodyBytes: 1_000,
    textsPerRequest: 3,
  });
});
afterAll(() => http.close());

interface Answer {
  status: number;
  text: string;
  headers: IncomingHttpHeaders;
}

function send(path: string, headers: Record<string, string>, method = "GET", body = ""): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port: http.port, path, method, headers, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on("end", () => resolve({ status: response.statusCode!, text, headers: response.headers }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

const predict = (headers: Record<string, string>) =>
  send("/predict", { "Content-Type": "application/json", ...headers }, "POST", '{"data":"win"}');

describe("DNS rebinding: a name that is not this service's", () => {
  test.each([
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.localhost",
    "xlocalhost",
    "2130706433",
    "0x7f.1",
    "[evil.example]",
    "labels.example.org.evil.example",
    "a b",
    "@localhost",
    "localhost:8080:1",
    ".",
    ":8080",
    "constructor",
    "__proto__",
  ])("%j: 421 on every path, and nothing about models", async (host) => {
    for (const path of [
      "/",
      "/predict",
      "/metrics",
      "/healthz",
      "/readyz",
      "/v2",
      "/v2/models/spam",
      "/v2/models/spam/infer",
      "/nope",
    ]) {
      for (const method of ["GET", "POST", "OPTIONS"]) {
        const { status, text } = await send(
          path,
          { Host: host, "Content-Type": "application/json" },
          method,
          method === "POST" ? '{"data":"win"}' : "",
        );
        expect([path, method, status]).toEqual([path, method, 421]);
        expect(text).not.toMatch(/spam|ham|edgelabel_/);
        expect(text).toContain("httpHosts");
      }
    }
  });

  test("the same in the target of a request", async () => {
    expect((await send("http://evil.example/metrics", { Host: "localhost" })).status).toBe(421);
    expect((await send("http://localhost@evil.example/metrics", { Host: "localhost" })).status).toBe(421);
    expect((await send("http://localhost:1/healthz", { Host: "evil.example" })).status).toBe(200);
  });

  test("two names at once: 400", async () => {
    for (const hosts of [
      ["localhost", "evil.example"],
      ["evil.example", "localhost"],
      ["localhost", "localhost"],
    ]) {
      const status = await new Promise((resolve) => {
        request(
          {
            host: "127.0.0.1",
            port: http.port,
            path: "/metrics",
            headers: hosts.flatMap((host) => ["Host", host]),
            agent: false,
          },
          (response) => resolve(response.resume().statusCode),
        ).end();
      });
      expect([hosts, status]).toEqual([hosts, 400]);
    }
  });

  test("the message is a string in KServe's protocol", async () => {
    expect(typeof (JSON.parse((await send("/v2", { Host: "evil.example" })).text) as { error: unknown }).error).toBe(
      "string",
    );
  });

  const first = hostname().split(".")[0]!;
  test.each([
    "127.0.0.1",
    "192.168.1.5:8080",
    "10.0.0.1",
    "[::1]",
    "[fe80::1]:8080",
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    hostname(),
    first,
    `${first}.local:1`,
    "labels.example.org",
    "LABELS.example.org.:443",
  ])("%j: answered", async (host) => {
    expect((await predict({ Host: host })).text).toBe('{"label":"spam"}\n');
    expect((await send("/metrics", { Host: host })).status).toBe(200);
  });
});

describe("a page of another site", () => {
  const own = () => `127.0.0.1:${http.port}`;
  test.each([
    { Origin: "https://evil.example" },
    { Origin: "null" },
    { Origin: "http://localhost:1" },
    { Origin: "http://127.0.0.1" },
    { Origin: "file://" },
    { Origin: "" },
    { "Sec-Fetch-Site": "cross-site" },
    { "Sec-Fetch-Site": "same-site" },
    { "Sec-Fetch-Site": "nonsense" },
  ] as Record<string, string>[])("%j: 403 for texts, whatever the content type", async (headers) => {
    for (const type of [
      "application/json",
      "text/plain",
      "application/octet-stream",
      "application/x-www-form-urlencoded",
    ]) {
      for (const path of ["/predict", "/v2/models/spam/infer"]) {
        const { status, text } = await send(path, { ...headers, "Content-Type": type }, "POST", '{"data":"win"}');
        expect([path, type, status]).toEqual([path, type, 403]);
        expect(text).not.toMatch(/spam|ham/);
      }
    }
  });

  test("a page of this service, or behind a proxy of its name, may; a link from anywhere works", async () => {
    for (const headers of [
      { Origin: `http://${own()}` },
      { "Sec-Fetch-Site": "same-origin", Origin: `http://${own()}` },
      { "Sec-Fetch-Site": "none" },
      { Origin: "https://labels.example.org" },
      { Origin: "https://labels.example.org:8443" },
    ] as Record<string, string>[]) {
      expect([headers, (await predict({ Host: own(), ...headers })).status]).toEqual([headers, 200]);
    }
    expect((await send("/", { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate" })).status).toBe(200);
  });
});

describe("CORS", () => {
  const asks = (headers: Record<string, string>) => ({
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
    ...headers,
  });

  test.each(["https://app.example.org", "http://10.0.0.7:3000"])(
    "a page of %s, which is configured, may ask and read, and its browser is told so before",
    async (origin) => {
      for (const path of ["/predict", "/v2/models/spam/infer", "/v2/nope"]) {
        const { status, headers, text } = await send(path, asks({ Origin: origin }), "OPTIONS");
        expect([path, status, text]).toEqual([path, 204, ""]);
        expect(headers).toMatchObject({
          "access-control-allow-origin": origin,
          "access-control-allow-methods": "GET, HEAD, POST",
          "access-control-allow-headers": "Authorization, Content-Type, Inference-Header-Content-Length",
          vary: "Origin",
        });
        expect(headers["access-control-allow-credentials"]).toBeUndefined();
      }
      const answers = [
        await predict({ Origin: origin, "Sec-Fetch-Site": "cross-site" }),
        await predict({ Origin: origin, "Content-Type": "text/plain" }),
        await send("/v2/models/spam", { Origin: origin }),
        await send("/v2/nope", { Origin: origin }),
      ];
      expect(answers.map(({ status }) => status)).toEqual([200, 415, 200, 404]);
      for (const { headers } of answers) expect(headers["access-control-allow-origin"]).toBe(origin);
    },
  );

  test.each([
    "https://app.example.org:8443",
    "http://app.example.org",
    "https://app.example.org.evil.example",
    "https://evil.example",
    "HTTPS://APP.EXAMPLE.ORG",
    "https://app.example.org, https://evil.example",
    "null",
    "*",
    "",
  ])("a page of %j, which is not, may not, and nothing says that it may", async (origin) => {
    const answers = [
      await send("/predict", asks({ Origin: origin }), "OPTIONS"),
      await predict({ Origin: origin }),
      await send("/metrics", { Origin: origin }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([405, 403, 200]);
    for (const { headers } of answers)
      expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  test.each([
    "/",
    "/metrics",
    "/info",
    "/commands",
    "/commands/list",
    "/review/spam",
    "/healthz",
    "/predict/",
    "/nope",
  ])("even a configured page may do nothing but send texts: not %s", async (path) => {
    const headers = { Origin: "https://app.example.org", "Content-Type": "application/json" };
    const answers = [
      await send(path, asks(headers), "OPTIONS"),
      await send(path, headers, "POST", "{}"),
      await send(path, headers),
    ];
    expect(answers[0]!.status).not.toBe(204);
    expect(answers[1]!.status).toBe(403);
    for (const answer of answers)
      expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  test("a configured page gains nothing by a name that is not this service's", async () => {
    const { status, headers } = await predict({ Host: "evil.example", Origin: "https://app.example.org" });
    expect([status, headers["access-control-allow-origin"]]).toEqual([421, undefined]);
  });

  const executablePath = findChromium();
  test.skipIf(!executablePath)(
    "a real browser lets the one page read answers and streams, and the other not",
    async () => {
      const pages = await Promise.all(
        [0, 1].map(async () => {
          const server = createServer((_request, response) => {
            response.setHeader("Content-Type", "text/html");
            response.end("<!doctype html><title>another site</title>");
          });
          server.listen(0, "127.0.0.1");
          await once(server, "listening");
          return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
        }),
      );
      const service = fakeService({ access: { url: "mqtt://127.0.0.1:1", protocol: 4 } });
      const own = await startHttp(service, {
        host: "127.0.0.1",
        port: 0,
        origins: [pages[0]!.origin],
        bodyBytes: 1_000,
        textsPerRequest: 3,
      });
      const browser = await launchChromium(executablePath!);
      const ask = async (origin: string, type: string) => {
        const page = await browser.newPage();
        await page.goto(origin);
        return page.evaluate(
          async ([url, contentType]) => {
            try {
              const answer = await fetch(`${url}/predict`, {
                method: "POST",
                headers: { "Content-Type": contentType!, Authorization: "Basic eDp5" },
                body: '{"text":"win"}',
              });
              return await answer.text();
            } catch (error) {
              return String(error);
            }
          },
          [own.url, type],
        );
      };
      try {
        for (const type of ["application/json", "application/x-ndjson"])
          expect([await ask(pages[0]!.origin, type), await ask(pages[1]!.origin, type)]).toEqual([
            expect.stringContaining('"label":"spam"'),
            "TypeError: Failed to fetch",
          ]);
        // The other one's preflights were refused, so its texts never came.
        expect(await counter(service, 'edgelabel_requests_total{transport="http"}')).toBe(2);
      } finally {
        await browser.close();
        await own.close();
        for (const { server } of pages) server.close();
      }
    },
  );
});
