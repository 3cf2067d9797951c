// Odd inputs by every way in: each kind of oddity, each way, the right value. A cell that
// makes no sense says why. What a kind does in all its forms is tested where it is done;
// here it is that no way forgets it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type * as Library from "../../host/index.ts";
import { type ModelFile, openModelBytes } from "../../host/model/file.ts";
import { packModel } from "../../host/model/pack.ts";
import { DEFAULT_RECIPE, prepareTraining, runEpochs } from "../../host/training/recipe.ts";
import { startBroker } from "../../host/service/broker/broker.ts";
import { readSettings } from "../../host/service/config.ts";
import { startHttp } from "../../host/service/http/http.ts";
import { EventReader, type WyomingEvent } from "../../host/service/wyoming/events.ts";
import { startWyoming } from "../../host/service/wyoming/wyoming.ts";
import { toJson } from "../../host/service/answer/json.ts";
import type { RouteSettings } from "../../host/service/answer/outputs.ts";
import { counter, fakeService, limits, TestClient, topics } from "../support/fake.ts";
import { edgelabel } from "../support/program.ts";
import { describeShared, sharedIsPresent, sharedPath } from "../support/shared.ts";
import { fetchWasmtime } from "../tools/fetch-wasmtime.mjs";
import { runWasmtime } from "../support/wasmtime.ts";

const WAYS = [
  "argument",
  "stdin",
  "wasmtime",
  "MQTT raw",
  "MQTT JSON",
  "route raw",
  "route JSON",
  "HTTP /predict",
  "HTTP stream",
  "KServe JSON",
  "KServe binary",
  "Hermes",
  "Wyoming",
  "browser",
] as const;
type Way = (typeof WAYS)[number];

interface Answer {
  label: string | null;
  /** HTTP's /predict has none, as in the tutorial, nor has Wyoming. */
  score?: number | undefined;
}

/** An odd text, the plain one whose answer is the right one, and why some ways know no such text. */
interface Kind {
  odd: string;
  plain: string;
  not?: Partial<Record<Way, string>>;
}

const TIME = "what's the time at the café";
const GOOD = "the menu 👍";
const NO_NUL = { argument: "the system ends an argument at a NUL" };
const JSON_STRING =
  "in JSON, only the sender can have put it there; models that are trained here see nothing in it (see: invisible)";
const inJson = {
  "MQTT JSON": JSON_STRING,
  "route JSON": JSON_STRING,
  "HTTP /predict": JSON_STRING,
  "HTTP stream": JSON_STRING,
  "KServe JSON": JSON_STRING,
  "KServe binary": JSON_STRING,
  Hermes: JSON_STRING,
  Wyoming: JSON_STRING,
};
const LINE = { stdin: "ends the line", wasmtime: "ends the line" };

// The byte order mark comes first, so that it stands at the start of standard input.
const kinds: Record<string, Kind> = {
  "byte order mark at the start": {
    odd: `\ufeff${TIME}`,
    plain: TIME,
    not: {
      ...inJson,
      argument: "no program writes one there (see: invisible)",
      browser: "no page has one there (see: invisible)",
    },
  },
  "line end": { odd: `${TIME}\n`, plain: TIME, not: LINE },
  CRLF: { odd: `${TIME}\r\n`, plain: TIME, not: LINE },
  "carriage return at the end": { odd: `${TIME}\r`, plain: TIME },
  "NUL at the end": { odd: `${TIME}\0`, plain: TIME, not: NO_NUL },
  "buffer filled up with NULs": { odd: `${TIME}\r\n\0\0\0\0`, plain: TIME, not: { ...LINE, ...NO_NUL } },
  "line break inside": {
    odd: TIME.replace(" at", "\nat"),
    plain: TIME,
    not: { stdin: "each line is a text, as README.md says", wasmtime: "each line is a text, as README.md says" },
  },
  plain: { odd: TIME, plain: TIME },
};

/** What models that are trained here make of texts (FORMAT.md), by whatever way. */
const cleaned: Record<string, Kind> = {
  invisible: {
    odd: "\ufeffwh\u00adat's \u2068the\u2069 ti\u2060me at\u200b the \u200ecafé\u0000",
    plain: TIME,
    not: NO_NUL,
  },
  NFD: { odd: TIME.normalize("NFD"), plain: TIME },
  "apostrophe ’": { odd: TIME.replace("'", "’"), plain: TIME },
  "apostrophe ´": { odd: TIME.replace("'", "´"), plain: TIME },
  "emoji run": { odd: "the menu 👍👍👍", plain: GOOD },
  "emoji with skin tone and selector": { odd: "the menu 👍🏿\ufe0f", plain: GOOD },
  "punctuation of other scripts": { odd: `¿${TIME}؟ «»`, plain: TIME },
};

const samples = (
  [
    ["time", "what's the time at the café|what's the hour|tell me the time|is it late at the café|what time is it"],
    ["good", "the menu 👍|the café was nice 👍|very good food|i liked the menu|👍"],
    ["bad", "the menu 👎|the food was cold 👎|very bad café|i hated the soup|👎"],
  ] as const
)
  .flatMap(([label, texts]) => texts.split("|").map((text) => ({ label, text })))
  .map((sample, i) => ({ ...sample, line: i + 1 }));

const folder = mkdtempSync(join(tmpdir(), "edgelabel-ways-"));
const model = join(folder, "model.wasm");
const ends: (() => unknown)[] = [];
let classifier: ModelFile;
let service: ReturnType<typeof fakeService>;
let url: string;
let wyomingPort: number;
let client: TestClient;

beforeAll(async () => {
  const recipe = {
    ...DEFAULT_RECIPE,
    name: "m",
    version: "1",
    minCount: 1,
    embedding: 12,
    units: 9,
    epochs: 60,
    batch: 5,
    learningRate: 0.02,
  };
  const trainer = await prepareTraining(samples, [], recipe);
  trainer.start(recipe);
  runEpochs(trainer, recipe.epochs, false, {});
  const bytes = await packModel(trainer.write("int8"));
  writeFileSync(model, bytes);
  classifier = await openModelBytes(bytes, model);
  const broker = await startBroker({ port: 0 });
  ends.push(() => broker.close());
  const output = { topic: "out/{1}", when: "any", onChange: false, qos: 1, retain: false } as const;
  const routes: RouteSettings[] = [
    { name: "raw", filter: "raw/+", text: [], model: "", threshold: 0, outputs: [output] },
    {
      name: "json",
      filter: "json/+",
      text: ["/part/0"],
      model: "",
      threshold: 0,
      outputs: [{ ...output, payload: { label: "{label}", score: "{score}", id: "{/id}" } }],
    },
    ...readSettings(
      [],
      { config: fileURLToPath(new URL("../../deploy/examples/hermes-nlu.json", import.meta.url)) },
      {},
    ).routes,
  ];
  service = fakeService({
    access: broker.access,
    routes,
    limits: { ...limits, payloadBytes: 1_000_000 },
    models: new Map([["m", classifier]]),
  });
  await service.start();
  ends.push(() => service.stop());
  const http = await startHttp(service, { host: "127.0.0.1", port: 0, bodyBytes: 1_000_000, textsPerRequest: 100 });
  ends.push(() => http.close());
  ({ url } = http);
  const wyoming = await startWyoming(service, { host: "127.0.0.1", port: 0, threshold: 0 });
  ends.push(() => wyoming.close());
  wyomingPort = wyoming.port;
  client = await TestClient.connect(broker.url, 4);
  ends.push(() => client.close());
  await client.subscribe(topics.label, "out/#", "hermes/nlu/intentParsed", "hermes/nlu/intentNotRecognized");
});

afterAll(async () => {
  for (const end of ends.reverse()) await end();
  rmSync(folder, { recursive: true, force: true });
});

async function mqtt(topic: string, payload: string | Buffer | object): Promise<any> {
  await client.publish(
    topic,
    typeof payload === "string" || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload),
  );
  return (await client.next()).json;
}

async function post(
  path: string,
  body: string | Buffer<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<{ status: number; json: any }> {
  const response = await fetch(`${url}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body,
  });
  return { status: response.status, json: await response.json() };
}

async function stream(requests: string | Buffer): Promise<any[]> {
  const headers = { "Content-Type": "application/x-ndjson" };
  const response = await fetch(`${url}/predict`, { method: "POST", headers, body: Buffer.from(requests) });
  return (await response.text())
    .trimEnd()
    .split("\n")
    .map((line) => ({ ...JSON.parse(line), line }));
}

/** Asks to recognize what is in `data`, which is JSON. */
async function wyoming(data: string | Buffer): Promise<WyomingEvent> {
  const socket = connect(wyomingPort, "127.0.0.1");
  const bytes = Buffer.from(data);
  socket.end(Buffer.concat([Buffer.from(`{"type":"recognize","data_length":${bytes.length}}\n`), bytes]));
  const [answer] = new EventReader(1_000_000).read(Buffer.concat(await socket.toArray()));
  return answer!;
}

const lines = (output: string): Answer[] =>
  output
    .trimEnd()
    .split("\n")
    .map((line) => ({ label: line.split("\t")[0]!, score: Number(line.split("\t")[1]) }));
const each =
  (ask: (text: string) => Promise<Answer>) =>
  async (texts: string[]): Promise<Answer[]> => {
    const answers: Answer[] = [];
    for (const text of texts) answers.push(await ask(text));
    return answers;
  };
const tensors = ({ json }: { json: any }): Answer => ({
  label: json.outputs[0].data[0],
  score: json.outputs[1].data[0],
});
const tensor = (texts: unknown[], more: object = {}) => ({
  inputs: [{ name: "text", datatype: "BYTES", shape: [texts.length], ...more }],
});

const ask: Record<Way, (texts: string[]) => Promise<Answer[]>> = {
  argument: async (texts) => lines((await edgelabel(["predict", model, ...texts])).stdout),
  stdin: async (texts) => lines((await edgelabel(["predict", model], texts.join("\n"))).stdout),
  wasmtime: async (texts) => lines(runWasmtime(fetchWasmtime(), model, [], texts.join("\n")).stdout.toString()),
  "MQTT raw": each((text) => mqtt(topics.classify, text)),
  "MQTT JSON": each((text) => mqtt(topics.classify, { text })),
  "route raw": each((text) => mqtt("raw/1", text)),
  "route JSON": each((text) => mqtt("json/1", { part: [text] })),
  "HTTP /predict": each(async (text) => (await post("/predict", JSON.stringify({ data: text }))).json),
  "HTTP stream": async (texts) => stream(texts.map((text) => `${JSON.stringify({ text })}\n`).join("")),
  "KServe JSON": each(async (text) =>
    tensors(await post("/v2/models/m/infer", JSON.stringify(tensor([text], { data: [text] })))),
  ),
  "KServe binary": each(async (text) => {
    const bytes = Buffer.from(text);
    const head = Buffer.from(JSON.stringify(tensor([text], { parameters: { binary_data_size: bytes.length + 4 } })));
    const size = Buffer.alloc(4);
    size.writeUInt32LE(bytes.length);
    return tensors(
      await post("/v2/models/m/infer", Buffer.concat([head, size, bytes]), {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": String(head.length),
      }),
    );
  }),
  Hermes: each(async (text) => {
    const { intent } = await mqtt("hermes/nlu/query", { input: text, siteId: "s" });
    return { label: intent?.intentName ?? null, score: intent?.confidenceScore };
  }),
  Wyoming: each(async (text) => {
    const { type, data } = await wyoming(JSON.stringify({ text }));
    return { label: type === "intent" ? (data["name"] as string) : null };
  }),
  // The library's bundle; test/web/web.test.ts runs it in a browser.
  browser: async (texts) => {
    const { open } = (await import(new URL("../../build/web/edgelabel.js", import.meta.url).href)) as typeof Library;
    const page = await open(readFileSync(model));
    return texts.map((text) => page.classify(text));
  },
};

function reason(way: Way, { not = {} }: Kind): string | undefined {
  return not[way];
}

describe.each(WAYS)("a text by %s", (way) => {
  const texts = Object.entries({ ...kinds, ...cleaned });
  const asked = texts.filter(([, kind]) => reason(way, kind) === undefined);
  const answers = new Map<string, Answer>();
  beforeAll(async () => {
    const given = await ask[way](asked.map(([, { odd }]) => odd));
    expect(given).toHaveLength(asked.length);
    asked.forEach(([name], i) => answers.set(name, given[i]!));
  });

  for (const [name, kind] of texts) {
    const why = reason(way, kind);
    if (why !== undefined) test.skip(`${name}: ${why}`, () => {});
    else
      test(name, () => {
        const { label, score } = classifier.classify(kind.plain);
        expect(label).toBe(kind.plain === GOOD ? "good" : "time");
        expect(answers.get(name)!.label).toBe(label);
        if (way !== "HTTP /predict" && way !== "Wyoming") expect(answers.get(name)!.score).toBe(score);
      });
  }
});

describeShared("a payload with line breaks", () => {
  const payload = sharedIsPresent
    ? readFileSync(sharedPath("cases", "multi-line-payload", "payload.txt"))
    : Buffer.alloc(0);
  test.each(["MQTT raw", "route raw", "KServe binary"] as const)("is one text by %s", async (way) => {
    const { label, score } = classifier.classify(payload);
    expect(await ask[way]([payload.toString()])).toMatchObject([{ label, score }]);
  });
  test.each(["stdin", "wasmtime"] as const)("is a text a line by %s", async (way) => {
    expect(await ask[way]([payload.toString()])).toEqual(
      payload
        .toString()
        .split("\n")
        .map((line) => {
          const { label, score } = classifier.classify(line);
          return { label, score };
        }),
    );
  });
});

// --- what is odd about the JSON around a text -----------------------------------------

type JsonWay = Exclude<Way, "argument" | "stdin" | "wasmtime" | "route raw" | "KServe binary" | "browser">;
const NO_JSON = ["argument", "stdin", "wasmtime", "route raw", "browser"] as const;

/** The JSON of a request, with other fields before its text. */
const request: Record<JsonWay, (text: string, fields: string) => string> = {
  "MQTT raw": (text, fields) => `{${fields}"text":${text}}`,
  "MQTT JSON": (text, fields) => `{${fields}"text":${text}}`,
  "route JSON": (text, fields) => `{${fields}"part":[${text}]}`,
  "HTTP /predict": (text, fields) => `{${fields}"data":${text}}`,
  "HTTP stream": (text, fields) => `{${fields}"text":${text}}`,
  "KServe JSON": (text, fields) =>
    `{${fields}"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":[${text}]}]}`,
  Hermes: (text, fields) => `{${fields}"input":${text},"siteId":"s"}`,
  // What comes back is the context.
  Wyoming: (text, fields) => `{"context":{${fields}"x":0},"text":${text}}`,
};

/** "ok", or the error; and the JSON of the answer, of routes that drop the message the outcome. */
const send: Record<JsonWay, (json: string | Buffer) => Promise<{ outcome: string; answer: string }>> = {
  "MQTT raw": (json) => sendMqtt(json),
  "MQTT JSON": (json) => sendMqtt(json),
  "route JSON": (json) => sendRoute("json", "json/1", json),
  "HTTP /predict": (json) => sendHttp("/predict", json),
  "HTTP stream": async (json) => {
    const [{ error, line }] = await stream(json);
    return { outcome: error?.code ?? "ok", answer: line };
  },
  "KServe JSON": (json) => sendHttp("/v2/models/m/infer", json),
  Hermes: (json) => sendRoute("hermes", "hermes/nlu/query", json),
  Wyoming: async (json) => {
    const { type, data } = await wyoming(json);
    return { outcome: type === "error" ? (data["code"] as string) : "ok", answer: toJson(data) };
  },
};

async function sendMqtt(json: string | Buffer) {
  await client.publish(topics.classify, json);
  const { text, json: answer } = await client.next();
  return { outcome: answer.error?.code ?? "ok", answer: text };
}

/** A message that is dropped is known by the next one, which is not. */
async function sendRoute(name: string, topic: string, json: string | Buffer) {
  const faults = ["bad_json", "no_text", "part_missing"];
  const counts = () =>
    Promise.all(faults.map((fault) => counter(service, `edgelabel_routed_total{route="${name}",outcome="${fault}"}`)));
  const before = await counts();
  await client.publish(topic, json);
  await client.publish("raw/end", "end");
  const { topic: heard, text } = await client.next();
  if (heard !== "out/end") {
    await client.next(({ topic: last }) => last === "out/end");
    return { outcome: "ok", answer: text };
  }
  const after = await counts();
  return { outcome: faults.find((_, i) => after[i]! > before[i]!) ?? "none", answer: "" };
}

async function sendHttp(path: string, json: string | Buffer) {
  const { status, json: answer } = await post(path, Buffer.from(json));
  return { outcome: status === 200 ? "ok" : (answer.code ?? String(status)), answer: JSON.stringify(answer) };
}

const text = JSON.stringify(TIME);
const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
const ID = "9223372036854775807";
const broken = {
  "MQTT raw": "bad_request",
  "MQTT JSON": "bad_request",
  "route JSON": "bad_json",
  "HTTP /predict": "400",
  "HTTP stream": "bad_request",
  "KServe JSON": "400",
  Hermes: "bad_json",
  Wyoming: "bad_request",
};
const all = (outcome: string) =>
  Object.fromEntries(Object.keys(request).map((way) => [way, outcome])) as Record<JsonWay, string>;

/** A payload, and what each way makes of it; `echo` stands in the answers of the ways that echo an id. */
const payloads: Record<
  string,
  { json: (way: JsonWay) => string | Buffer; outcome: Record<JsonWay, string>; echo?: string }
> = {
  "byte order mark": { json: (way) => `\ufeff${request[way](text, "")}`, outcome: all("ok") },
  "NUL and line end behind": { json: (way) => `${request[way](text, "")}\r\n\0`, outcome: all("ok") },
  "id of 64 bits": {
    json: (way) => request[way](text, `"id":${ID},`),
    outcome: { ...all("ok"), "KServe JSON": "400" },
    echo: `"id":${ID}`,
  },
  "time in nanoseconds beside it": {
    json: (way) => request[way](text, `"time":1700000000123456789,"x":1e999,`),
    outcome: all("ok"),
  },
  __proto__: {
    json: (way) => request[way](text, '"__proto__":{"id":1,"text":"x"},"constructor":1,'),
    outcome: all("ok"),
  },
  "cut off": { json: (way) => request[way](text, "").slice(0, -1), outcome: broken },
  NaN: { json: (way) => request[way](text, '"battery":NaN,'), outcome: broken },
  "unescaped quotes": { json: (way) => request[way]('"say "hi" now"', ""), outcome: broken },
  "line break in a string": { json: (way) => request[way]('"line\ntwo"', ""), outcome: broken },
  "Latin-1": { json: (way) => Buffer.from(request[way]('"caf\xe9"', ""), "latin1"), outcome: broken },
  "100,000 levels": { json: (way) => request[way](text, `"x":${deep},`), outcome: broken },
  "100,000 levels for a text": { json: (way) => request[way](deep, ""), outcome: broken },
  "array of bytes": {
    json: (way) => request[way](`[${[...Buffer.from(TIME)].join()}]`, ""),
    outcome: { ...broken, "route JSON": "ok", Hermes: "ok" },
  },
  "lone surrogate": { json: (way) => request[way]('"\\ud800 what\'s the time"', ""), outcome: all("ok") },
  null: { json: (way) => request[way]("null", ""), outcome: { ...broken, "route JSON": "ok", Hermes: "ok" } },
};

describe.each(Object.keys(request) as JsonWay[])("JSON by %s", (way) => {
  test.each(Object.entries(payloads))("%s", async (_name, { json, outcome, echo }) => {
    const given = await send[way](json(way));
    expect(given.outcome).toBe(outcome[way]);
    if (echo !== undefined && outcome[way] === "ok" && way !== "HTTP /predict") expect(given.answer).toContain(echo);
  });
});

describe("JSON by the other ways", () => {
  for (const way of NO_JSON) test.skip(`${way}: it is the text itself there`, () => {});
  test.skip("KServe binary: the JSON before the tensor is read as by KServe JSON", () => {});
});

describe("UTF-16", () => {
  const wide = Buffer.from(`\ufeff${TIME}\n`, "utf16le");
  const complaint = "edgelabel: standard input: is UTF-16, as some Windows programs write it; save it as UTF-8\n";
  test("stdin", async () =>
    expect(await edgelabel(["predict", model], wide)).toMatchObject({ code: 1, stdout: "", stderr: complaint }));
  test("wasmtime", () =>
    expect(runWasmtime(fetchWasmtime(), model, [], wide)).toMatchObject({ status: 1, stderr: complaint }));
  test.skip("the other ways: a payload or a string is UTF-8 by definition, and broken UTF-8 reads as U+FFFD", () => {});
});
