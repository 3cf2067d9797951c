// Whatever others send, as text or as JSON of any shape: each reader gives a value or one of
// its named errors, and what was read can be written again. Nothing here catches a fault, as
// guard.ts does in the service.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Commands } from "../../host/service/control/commands.ts";
import { fromJson, JsonError } from "../../host/service/answer/json.ts";
import { encodeInfer, parseInfer } from "../../host/service/http/kserve.ts";
import { encodeAnswer, encodeError, RequestError, requestParser } from "../../host/service/answer/messages.ts";
import { Metrics } from "../../host/service/metrics.ts";
import type { Outcome, Work } from "../../host/service/answer/predictor.ts";
import type { RouteSettings } from "../../host/service/answer/outputs.ts";
import { Routes, type RoutesOptions } from "../../host/service/answer/routes.ts";
import { fakeModel, limits, recordingLog, topics } from "../support/fake.ts";

/** Keys that readers look for, and those of all objects. */
const keys = fc.oneof(
  fc.constantFrom(
    "text",
    "texts",
    "id",
    "replyTo",
    "topK",
    "threshold",
    "explain",
    "deadline",
    "data",
    "inputs",
    "name",
    "datatype",
    "shape",
    "parameters",
    "status",
    "from",
    "only",
    "__proto__",
    "constructor",
    "toString",
    "length",
    "0",
  ),
  fc.string({ maxLength: 5 }),
);
const numbers = fc.oneof(
  fc.constantFrom(
    "0",
    "-1",
    "1e999",
    "-1e-999",
    "9223372036854775807",
    "0.1234567890123456789",
    "1".repeat(300),
    "1".repeat(1000),
    "NaN",
  ),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
);
const strings = fc.oneof(
  fc.constantFrom('"text"', '"BYTES"', '"\\ud800"', '"\\u0000"', '"win"', '""'),
  fc.string({ unit: "binary", maxLength: 8 }).map((text) => JSON.stringify(text)),
);
const deep = fc
  .tuple(fc.constantFrom("[", '{"a":', '[{"text":'), fc.constantFrom(1, 60, 70, 6_000, 100_000), fc.boolean())
  .map(
    ([open, levels, isClosed]) =>
      `${open.repeat(levels)}1${
        isClosed
          ? [...open]
              .reverse()
              .filter((c) => "[{".includes(c))
              .map((c) => (c === "[" ? "]" : "}"))
              .join("")
              .repeat(levels)
          : ""
      }`,
  );
const { value } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    strings,
    numbers,
    fc.constantFrom("true", "false", "null"),
    { arbitrary: deep, weight: 1 },
    fc.array(tie("value"), { maxLength: 4 }).map((items) => `[${items.join()}]`),
    fc
      .array(fc.tuple(keys, tie("value")), { maxLength: 5 })
      .map((entries) => `{${entries.map(([key, part]) => `${JSON.stringify(key)}:${part}`).join()}}`),
  ),
}));
/** Objects with the keys that make a request, and anything for the values; cut off now and then. */
const payloads = fc
  .oneof(
    value,
    fc
      .record({
        text: fc.oneof(strings, value),
        id: value,
        more: value,
        start: fc.constantFrom("", "\ufeff", " "),
        end: fc.constantFrom("", "\0", "\r\n", "}", " x"),
      })
      .map(
        ({ text, id, more, start, end }) =>
          `${start}{"text":${text},"id":${id},"from":${more},"status":"init","data":${text}}${end}`,
      ),
    fc
      .record({
        data: fc.oneof(
          fc.array(strings, { maxLength: 3 }).map((items) => `[${items.join()}]`),
          value,
        ),
        shape: value,
      })
      .map(
        ({ data, shape }) => `{"id":"a","inputs":[{"name":"text","datatype":"BYTES","shape":${shape},"data":${data}}]}`,
      ),
  )
  .map((text) => Buffer.from(text));
const guard = {
  run: (_message: unknown, handle: () => void) => handle(),
  drop: (_message: unknown, error: unknown) => {
    throw error;
  },
} as unknown as RoutesOptions["guard"];
const RUNS = { numRuns: 600 };

function readable(payload: Buffer): unknown {
  try {
    return fromJson(payload);
  } catch (error) {
    expect(error).toBeInstanceOf(JsonError);
    return undefined;
  }
}

test("requests", () => {
  const parse = requestParser({ payloadBytes: 1_000_000, textsPerRequest: 3 });
  let read = 0;
  fc.assert(
    fc.property(payloads, fc.constantFrom(undefined, "application/json", "text/plain"), (payload, contentType) => {
      try {
        const request = parse(payload, contentType);
        JSON.parse(
          encodeAnswer(
            request,
            request.texts.map((text) => fakeModel().classify(text.slice(0, 1000))),
            { name: "m", version: "1" },
          ),
        );
        read++;
      } catch (error) {
        expect(error).toBeInstanceOf(RequestError);
        const { code, message, id } = error as RequestError;
        expect(code).not.toBe("internal");
        JSON.parse(encodeError({ code, message }, id));
      }
    }),
    RUNS,
  );
  expect(read).toBeGreaterThan(100);
});

test("bodies of KServe", () => {
  let read = 0;
  fc.assert(
    fc.property(payloads, (payload) => {
      try {
        const request = parseInfer(readable(payload), Buffer.alloc(0), 3);
        JSON.stringify(
          encodeInfer(request, {
            name: "m",
            model: fakeModel(),
            predictions: request.texts.map((text) => fakeModel().classify(text.slice(0, 1000))),
          }),
        );
        read++;
      } catch (error) {
        expect(error).toBeInstanceOf(RequestError);
      }
    }),
    { ...RUNS, examples: [[Buffer.from('{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a"]}]}')]] },
  );
  expect(read).toBeGreaterThan(0);
});

test("messages of routes, and the templates that are filled from them", () => {
  const output = { when: "any", onChange: false, qos: 0, retain: false } as const;
  const route = (name: string, more: Partial<RouteSettings>): RouteSettings => ({
    name,
    filter: "in/+",
    text: [],
    model: "",
    threshold: 0,
    outputs: [
      { ...output, topic: "out/{/id}/{/text}", payload: "{/}" },
      { ...output, topic: "out/{1}", payload: { all: "{/from}", id: "{/id}", line: "{/more} {text} {/from/a}" } },
    ],
    ...more,
  });
  const published: string[] = [];
  let acknowledged = 0;
  const model = fakeModel();
  const routes = new Routes({
    routes: [
      route("raw", {}),
      route("json", { text: ["/text"], among: "/from" }),
      route("parts", { text: ["/text", "/id", "/from"] }),
    ],
    predictor: {
      queue: { hasRoomToSpare: true },
      model: () => ({ name: "m", model }),
      submit: (work: Work, done: (outcome: Outcome) => void) =>
        done({
          name: "m",
          model,
          predictions: work.texts.map((text) => model.classify(Buffer.from(text).subarray(0, 1000))),
        }),
    } as unknown as RoutesOptions["predictor"],
    outbox: {
      isFull: false,
      hasRoomToSpare: true,
      offer: ({ payload, finished }: { payload: string; finished: () => void }) => {
        published.push(payload);
        finished();
      },
    } as unknown as RoutesOptions["outbox"],
    metrics: new Metrics(),
    topics,
    limits: { ...limits, payloadBytes: 1_000_000, answerBytes: 10_000_000 },
    log: recordingLog(),
    guard,
    mayPause: true,
    session: () => undefined,
  });
  fc.assert(
    fc.property(payloads, (payload) => {
      acknowledged = 0;
      routes.onMessage({
        topic: "in/7",
        payload,
        qos: 1,
        isRetained: false,
        acknowledge: () => acknowledged++,
      } as unknown as Parameters<Routes["onMessage"]>[0]);
      expect(acknowledged).toBe(1);
      for (const text of published.splice(0)) if (text.startsWith('{"all":')) JSON.parse(text);
    }),
    RUNS,
  );
});

test("commands", async () => {
  const log = recordingLog();
  const said: string[] = [];
  const commands = new Commands({
    topics,
    metrics: new Metrics(),
    log,
    guard,
    outbox: { publishState: ({ payload }) => void said.push(payload) },
    onFailed: () => {},
  });
  commands.add("echo", async ({ args }) => ({ args }));
  let n = 0;
  await fc.assert(
    fc.asyncProperty(payloads, async (payload) => {
      let acknowledged = 0;
      commands.onMessage({
        topic: `${topics.command}/echo/${n++}`,
        payload,
        qos: 1,
        isRetained: false,
        acknowledge: () => acknowledged++,
      } as unknown as Parameters<Commands["onMessage"]>[0]);
      expect(acknowledged).toBeGreaterThan(0);
      await Promise.resolve();
    }),
    RUNS,
  );
  for (const payload of said) expect(JSON.parse(payload)).toHaveProperty("status");
  expect(said.length).toBeGreaterThan(50);
  expect(log.lines.filter((line) => line.includes("unexpectedly"))).toEqual([]);
});
