// docs/openapi.json: a linter finds nothing, it tells of each path there is, all answers are as it says, and a client that
// is generated from it calls the service.
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { transformSync } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import type { Broker } from "../../host/service/broker/broker.ts";
import { type HttpEndpoint, startHttp } from "../../host/service/http/http.ts";
import type { Service } from "../../host/service/service.ts";
import { packageVersion } from "../../host/version.ts";
import { fakeService, fakeSeveral } from "../support/fake.ts";
import { describeFetched } from "../support/fetched.ts";
import { fetchOpenapi } from "../tools/fetch-openapi.mjs";

const path = fileURLToPath(new URL("../../docs/openapi.json", import.meta.url));
const description = JSON.parse(readFileSync(path, "utf8"));

let broker: Broker;
let service: Service;
let http: HttpEndpoint;
beforeAll(async () => {
  broker = await startBroker({ port: 0 });
  service = fakeService({ access: broker.access });
  service.setModel("several", fakeSeveral());
  await service.start();
  http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 3 });
});
afterAll(async () => {
  await http.close();
  await service.stop();
  await broker.close();
});

test("it is this version's, and the service gives it out", async () => {
  expect(description.info.version).toBe(packageVersion);
  expect(await (await fetch(`${http.url}/openapi.json`)).json()).toEqual(description);
});

test("it has all paths that there are, and no others", async () => {
  const { error } = (await (await fetch(`${http.url}/nope`)).json()) as { error: { message: string } };
  const paths = Object.keys(description.paths);
  expect(error.message.split("try ")[1]!.split(", ").toSorted()).toEqual(
    paths.filter((each) => !each.includes("{")).toSorted(),
  );
  for (const each of paths) {
    const url = http.url + each.replace("{name}", "spam").replace("{version}", "1.0.0");
    const methods = Object.keys(description.paths[each]).filter((key) => key !== "parameters");
    const allowed = methods.map((method) => (method === "post" ? "POST" : "GET, HEAD")).join(", ");
    const { status, headers } = await fetch(url, { method: "DELETE" });
    expect([each, status, headers.get("allow")]).toEqual([each, 405, allowed]);
  }
});

describeFetched("with the tools for OpenAPI", "the tools for OpenAPI", fetchOpenapi, (packages) => {
  const from = createRequire(join(packages, "x.js"));
  const load = (name: string) => import(pathToFileURL(from.resolve(name)).href);
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-openapi-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  async function problems(document: object): Promise<string[]> {
    const file = join(folder, "openapi.json");
    writeFileSync(file, JSON.stringify(document));
    const { lint, createConfig } = (await load("@redocly/openapi-core")).default;
    const found_ = await lint({ ref: file, config: await createConfig({ extends: ["recommended-strict"] }) });
    return found_.map(({ ruleId, message }: { ruleId: string; message: string }) => `${ruleId}: ${message}`);
  }

  test("Redocly's linter finds nothing at its strictest, and finds a fault that is made", async () => {
    expect(await problems(description)).toEqual([]);
    const faulty = structuredClone(description);
    delete faulty.paths["/predict"].post.operationId;
    faulty.components.schemas.Result.properties.score.type = "float";
    const rules = (await problems(faulty)).map((each) => each.split(":")[0]);
    expect(rules).toEqual(expect.arrayContaining(["operation-operationId", "struct"]));
  });

  describe("answers are as it says", () => {
    const json = "application/json";
    const infer = (...data: unknown[]) => ({
      inputs: [{ name: "text", datatype: "BYTES", shape: [data.length], data }],
    });
    test.each<[method: string, url: string, template: string, body?: unknown, type?: string]>([
      ["GET", "/healthz", "/healthz"],
      ["GET", "/readyz", "/readyz"],
      ["GET", "/metrics", "/metrics"],
      ["GET", "/", "/"],
      ["GET", "/openapi.json", "/openapi.json"],
      ["GET", "/v2", "/v2"],
      ["GET", "/v2/health/live", "/v2/health/live"],
      ["GET", "/v2/health/ready", "/v2/health/ready"],
      ["GET", "/v2/models/spam", "/v2/models/{name}"],
      ["GET", "/v2/models/nope", "/v2/models/{name}"],
      ["GET", "/v2/models/spam/ready", "/v2/models/{name}/ready"],
      ["GET", "/v2/models/spam/versions/1.0.0", "/v2/models/{name}/versions/{version}"],
      ["GET", "/v2/models/spam/versions/7/ready", "/v2/models/{name}/versions/{version}/ready"],
      ["POST", "/v2/models/spam/infer", "/v2/models/{name}/infer", { id: "x", ...infer("win", "hello") }],
      [
        "POST",
        "/v2/models/spam/versions/1.0.0/infer",
        "/v2/models/{name}/versions/{version}/infer",
        { ...infer("win"), outputs: [{ name: "scores" }] },
      ],
      ["POST", "/v2/models/spam/infer", "/v2/models/{name}/infer", {}],
      ["POST", "/predict", "/predict", { text: "win", id: 7, topK: 2 }],
      ["POST", "/predict", "/predict", { text: "hello", threshold: 0.99, model: "other" }],
      ["POST", "/predict", "/predict", { texts: ["win", "hello"], id: "x", explain: true }],
      ["POST", "/predict", "/predict", { data: "win" }],
      ["POST", "/predict", "/predict", { data: "win", explain: true }],
      ["POST", "/predict", "/predict", { texts: ["win now", "hello"], model: "several", explain: "urgent" }],
      ["POST", "/predict", "/predict", { data: "hello", model: "several" }],
      ["GET", "/v2/models/several", "/v2/models/{name}"],
      ["POST", "/v2/models/several/infer", "/v2/models/{name}/infer", infer("win now", "hello")],
      ["POST", "/predict", "/predict", { text: 7, id: 3 }],
      ["POST", "/predict", "/predict", { text: "x", model: "nope" }],
      ["POST", "/predict", "/predict", { text: "x".repeat(20_000) }],
      ["POST", "/predict", "/predict", { text: "x" }, "text/plain"],
      ["POST", "/predict", "/predict", { text: "boom" }],
      ["POST", "/predict", "/predict", { text: "win", deadline: 1 }],
      ["POST", "/predict", "/predict", { text: "win", id: 1 }, "application/x-ndjson"],
    ])("%s %s", async (method, url, template, body, type = json) => {
      const answer = await fetch(http.url + url, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": type } }),
      });
      const operation = description.paths[template][method.toLowerCase()];
      const given = operation.responses[answer.status];
      expect([answer.status, given]).toEqual([answer.status, expect.anything()]);
      const response = given.$ref ? description.components.responses[given.$ref.split("/").at(-1)] : given;
      const [kind] = answer.headers.get("content-type")!.split(";");
      expect(Object.keys(response.content)).toContain(kind);
      const text = await answer.text();
      if (kind !== json) {
        expect(typeof text).toBe("string");
        return;
      }
      const Ajv = (await load("@redocly/ajv/dist/2020.js")).default;
      const ajv = new (Ajv.default ?? Ajv)({ strict: false });
      ajv.addSchema(description, "openapi");
      const escape = (key: string) => key.replaceAll("~", "~0").replaceAll("/", "~1");
      const pointer = given.$ref
        ? `${given.$ref}/content/${escape(json)}/schema`
        : `#/paths/${escape(template)}/${method.toLowerCase()}/responses/${answer.status}/content/${escape(json)}/schema`;
      const validate = ajv.compile({ $ref: `openapi${encodeURI(pointer)}` });
      expect([validate(JSON.parse(text)), validate.errors]).toEqual([true, null]);
      expect(validate({ something: "else" })).toBe(url === "/openapi.json");
    });
  });

  test("a client with the types that are generated from it compiles, refuses what is wrong, and is answered", async () => {
    const openapi = (await load("openapi-typescript")) as {
      default(source: object): Promise<unknown>;
      astToString(ast: unknown): string;
    };
    writeFileSync(join(folder, "schema.d.ts"), openapi.astToString(await openapi.default(description)));
    symlinkSync(packages, join(folder, "node_modules"));
    const client = `
import createClient from "openapi-fetch";
import type { paths } from "./schema";
const client = createClient<paths>({ baseUrl: process.argv[2]! });
const one = await client.POST("/predict", { body: { text: "win", topK: 2, id: 7 } });
const many = await client.POST("/predict", { body: { texts: ["win", "hello"], model: "other" } });
const plain = await client.POST("/predict", { body: { data: "win" } });
// @ts-expect-error: a number is no text
const wrong = await client.POST("/predict", { body: { text: 7 } });
// @ts-expect-error: there is no such path
client.GET("/nope");
const code: string | undefined = wrong.error?.error.code;
const model = await client.GET("/v2/models/{name}", { params: { path: { name: "spam" } } });
const inferred = await client.POST("/v2/models/{name}/infer", {
  params: { path: { name: "spam" } },
  body: { inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["win"] }] },
});
const ready = await client.GET("/readyz");
console.log(JSON.stringify([one.data, many.data, plain.data, code, model.data?.versions, inferred.data?.outputs[0]?.data, ready.data?.status]));
`;
    writeFileSync(join(folder, "client.ts"), client.replace("process.argv[2]!", "address"));
    // The client runs in Node, whose types it need not have.
    writeFileSync(
      join(folder, "node.d.ts"),
      "declare const address: string; declare const console: { log(text: string): void };",
    );
    const settings = { strict: true, noEmit: true, skipLibCheck: true, module: "esnext", target: "es2022" };
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: {
          ...settings,
          moduleResolution: "bundler",
          types: [],
          lib: ["es2022", "dom", "dom.iterable"],
        },
        files: ["client.ts", "node.d.ts"],
      }),
    );
    const tsc = fileURLToPath(new URL("../../node_modules/typescript/lib/tsc.js", import.meta.url));
    execFileSync(process.execPath, [tsc, "-p", folder], { stdio: "pipe" });
    writeFileSync(join(folder, "client.mjs"), transformSync(client, { loader: "ts", format: "esm" }).code);
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, "client.mjs"), http.url]);
    expect(JSON.parse(stdout)).toEqual([
      { id: 7, label: "spam", score: 0.875, scores: { spam: 0.875, ham: 0.125 }, model: "spam", version: "1.0.0" },
      {
        results: [
          { label: "spam", score: 0.875 },
          { label: "ham", score: 0.875 },
        ],
        model: "other",
        version: "2.0.0",
      },
      { label: "spam" },
      "bad_request",
      ["1.0.0"],
      ["spam"],
      "ready",
    ]);
  });
});
