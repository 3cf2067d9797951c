import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BrokenRequest,
  encodeAnswer,
  encodeError,
  labelValue,
  RequestError,
  requestParser,
} from "../../../../host/service/answer/messages.ts";
import { describeShared, sharedPath } from "../../../support/shared.ts";
import { cpuSeconds } from "../../../support/wait.ts";

const parse = requestParser({ payloadBytes: 1000, textsPerRequest: 3 });
const bytes = (text: string) => Buffer.from(text);

function failure(payload: Uint8Array, contentType?: string): RequestError {
  try {
    parse(payload, contentType);
  } catch (error) {
    if (error instanceof RequestError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("what is text and what is JSON", () => {
  test.each([
    "hello",
    "{hello",
    '["text"]',
    '"text"',
    " {",
    // Control characters are no white space.
    '\u0008{"text":"a"}',
    '\u000e{"text":"a"}',
    '{"texture":',
    "{hello, text: a",
    '{"a":"b", text: x',
    '{"x": }',
    "[".repeat(900),
    '{"x":'.repeat(190),
  ])("%j is text", (text) => {
    expect(parse(bytes(text))).toEqual({ texts: [bytes(text)], isBatch: false });
  });

  test.each([
    ["{}", "text"],
    ['{"id":1}', "text"],
    ['{"Text":"a"}', "text"],
    ['{"TEXTS":["a"]}', "texts"],
    ['{"id":7,"textes":["a"]}', "texts"],
    [`{"${"x".repeat(500)}":1}`, "text"],
  ])("%j is text, though %s is missing", (payload, missing) => {
    expect(parse(bytes(payload))).toEqual({ texts: [bytes(payload)], isBatch: false, missing });
    expect(parse(bytes(payload), "text/plain").missing).toBeUndefined();
  });

  test("a byte order mark is no part of the text", () => {
    expect(parse(bytes("\ufeffhello")).texts).toEqual([bytes("hello")]);
    expect(failure(bytes("\ufeff")).message).toBe("the payload is empty");
  });

  test.each([
    ['{"text', "not JSON: it is cut off"],
    ['{"text":', "not JSON: it is cut off"],
    ['{"text"', "not JSON: it is cut off"],
    ['\ufeff {"texts":["a"', "not JSON: it is cut off"],
    ['{"text":"a"} b', "not JSON from character 14 on"],
    ["{'text': 'win'}", "not JSON from character 2 on"],
    ["{text: 'a'}", "not JSON from character 2 on"],
    ["{\u201ctext\u201d: \u201ca\u201d}", "not JSON from character 2 on"],
    ['{"id":"7", "text":"a",}', "not JSON from character 23 on"],
    ['{"text":"a","battery":nan}', "not JSON from character 23 on, which has no NaN and no Infinity"],
    ['{"text":"a"}\0b', "not JSON from character 13 on"],
    [`{"text":"a","x":${"[".repeat(400)}${"]".repeat(400)}}`, "JSON of more than 64 levels"],
  ])("%j begins as a request and is faulty", (payload, fault) => {
    expect(failure(bytes(payload))).toBeInstanceOf(BrokenRequest);
    expect(failure(bytes(payload))).toMatchObject({
      code: "bad_request",
      message: `the payload starts like a JSON request, but is ${fault}; send a text that starts like this as {"text": "…"}`,
    });
    expect(failure(bytes(payload), "application/json").message).toBe(`the payload is ${fault}`);
    expect(parse(bytes(payload), "text/plain").texts).toEqual([bytes(payload.replace("\ufeff", ""))]);
  });

  test.each([
    '{"text":"a"}',
    '\ufeff{"text":"a"}',
    '{"text":"a"}\0',
    '{"text":"a"}\r\n\0\0',
    ' \r\n\t{"text":"a"} ',
    '{"text":"a","anything":[{}],"__proto__":{"id":1}}',
  ])("%j is JSON", (text) => {
    expect(parse(bytes(text))).toMatchObject({ texts: ["a"], isBatch: false });
    expect(parse(bytes(text)).id).toBeUndefined();
  });

  test("the content type decides", () => {
    expect(parse(bytes('{"text":"a"}'), "text/plain").texts).toEqual([bytes('{"text":"a"}')]);
    expect(parse(bytes('{"text":"a"}'), "application/json; charset=utf-8").texts).toEqual(["a"]);
    for (const payload of ["hello", "{}", "[]", "", '{"id":1}'])
      expect(failure(bytes(payload), "application/json").code).toBe("bad_request");
  });

  test("bytes that are no UTF-8 are text, but not in a request in JSON", () => {
    const [text, payload] = ['{"', '{"text":"'].map((start) =>
      Buffer.concat([bytes(start), Buffer.from([0xff]), bytes('"}')]),
    ) as [Buffer, Buffer];
    expect(parse(text).texts).toEqual([text]);
    expect(failure(payload).message).toContain("is not UTF-8");
    expect(failure(payload, "application/json").message).toBe("the payload is not UTF-8");
  });

  test("limits", () => {
    expect(parse(Buffer.alloc(1000, "x")).texts).toHaveLength(1);
    expect(failure(Buffer.alloc(1001, "x")).code).toBe("too_large");
    expect(failure(bytes("")).code).toBe("bad_request");
    expect(failure(bytes('{"texts":["a","b","c","d"]}')).message).toBe('"texts" must hold at most 3 texts');
  });
});

describeShared("payloads that are nearly JSON, as devices send them", () => {
  const folder = sharedPath("cases", "almost-json");
  const right: Record<string, object | string> = {
    "bom.json": { texts: ["you have won a prize"], id: "dev-2", replyTo: "my/reply/2" },
    "control.json": { texts: ["you have won a prize"], id: "dev-2", replyTo: "my/reply/2" },
    "nul.bin": { texts: ["you have won a prize"], id: "dev-2", replyTo: "my/reply/2" },
    "cut_off.json": "is not JSON: it is cut off",
    "nan.json": "is not JSON from character 78 on, which has no NaN and no Infinity",
    "python_repr.txt": "is not JSON from character 2 on",
    "raw_newline.json": "is not JSON from character 18 on",
    "unescaped_quotes.json": "is not JSON from character 19 on",
  };

  test("all of them are here", () => {
    expect(
      readdirSync(folder)
        .filter((name) => name !== "README")
        .sort(),
    ).toEqual(Object.keys(right).sort());
  });

  test.each(Object.entries(right))("%s", (name, expected) => {
    const payload = readFileSync(`${folder}/${name}`);
    if (typeof expected === "string")
      expect(failure(payload)).toMatchObject({ code: "bad_request", message: expect.stringContaining(expected) });
    else expect(parse(payload)).toMatchObject(expected);
  });
});

describe("ids are echoed digit by digit", () => {
  test.each(["9223372036854775807", "12345678901234567890", "-1700000000123456789", "0.1234567890123456789", "7"])(
    "%s",
    (id) => {
      const model = { name: "m", version: "1" };
      const prediction = { label: "a", score: 0.25, scores: {} };
      const request = parse(bytes(`{"text":"a","id":${id}}`));
      expect(encodeAnswer(request, [prediction], model)).toBe(
        `{"id":${id},"label":"a","score":0.25,"model":"m","version":"1"}`,
      );
      expect(encodeAnswer(parse(bytes(`{"texts":["a"],"id":${id}}`)), [prediction], model)).toContain(
        `{"id":${id},"results"`,
      );
      expect(encodeError({ code: "busy", message: "later" }, failure(bytes(`{"text":1,"id":${id}}`)).id)).toContain(
        `{"id":${id},"error"`,
      );
    },
  );

  test("numbers that are only compared may have any digits", () => {
    expect(
      parse(bytes('{"text":"a","threshold":0.69999999999999995559,"deadline":1700000000123.4567890123}')),
    ).toMatchObject({ threshold: 0.7, deadline: 1700000000123.4568 });
    expect(
      failure(bytes('{"text":"a","topK":12345678901234567890.5,"threshold":1.00000000000000000001e3}')).message,
    ).toContain('"threshold"');
  });
});

test("all fields", () => {
  expect(parse(bytes('{"texts":["a","b"],"id":"7","replyTo":"r","topK":2,"threshold":0.5,"explain":true}'))).toEqual({
    texts: ["a", "b"],
    isBatch: true,
    id: "7",
    replyTo: "r",
    topK: 2,
    threshold: 0.5,
    explain: true,
  });
});

test.each([
  ['{"text":null}', '"text" must be a string'],
  ['{"texts":"a"}', '"texts" must be an array of strings'],
  ['{"texts":["a",null]}', '"texts.1" must hold strings only'],
  ['{"text":"a","texts":["a"]}', 'give either "text" or "texts", not both'],
  ['{"text":"a","id":{}}', '"id" must be a number or a string of at most 256 characters'],
  ['{"text":"a","id":1e999}', '"id" must be a number or a string of at most 256 characters'],
  ['{"text":"a","replyTo":1}', '"replyTo" must be a string'],
  ['{"text":"a","topK":"2"}', '"topK" must be a whole number from 1'],
  ['{"text":"a","explain":1}', '"explain" must be true, false or a label'],
  ['{"text":"a","threshold":-1}', '"threshold" must be a number from 0 to 1'],
])("%s: %s", (payload, message) => {
  expect(failure(bytes(payload))).toMatchObject({ code: "bad_request", message });
});

test("a faulty request keeps what is sound of its id and replyTo", () => {
  expect(failure(bytes('{"text":1,"id":5,"replyTo":"r"}'))).toMatchObject({ id: 5, replyTo: "r" });
  expect(failure(bytes('{"text":1,"id":[],"replyTo":{}}'))).toMatchObject({ id: undefined, replyTo: undefined });
});

test("any bytes give a request or a named error, soon", () => {
  const seconds = cpuSeconds(() => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 1100 }),
        fc.constantFrom(undefined, "application/json", "text/plain", "x"),
        (payload, contentType) => {
          try {
            expect(parse(payload, contentType).texts.length).toBeGreaterThan(0);
          } catch (error) {
            expect(error).toBeInstanceOf(RequestError);
          }
        },
      ),
      { numRuns: 2000 },
    );
    const deep = requestParser({ payloadBytes: 1_000_000, textsPerRequest: 3 });
    expect(() => deep(bytes(`{"text":"a","x":${"[".repeat(50_000)}${"]".repeat(50_000)}}`))).toThrow(RequestError);
  });
  expect(seconds).toBeLessThan(10);
});

test("answers", () => {
  const prediction = { label: "a", score: 0.25, scores: { a: 0.25, b: 0.2 } };
  const model = { name: "m", version: "1" };
  expect(encodeAnswer({ texts: ["x"], isBatch: false, id: 1 }, [prediction], model)).toBe(
    '{"id":1,"label":"a","score":0.25,"model":"m","version":"1"}',
  );
  expect(encodeAnswer({ texts: ["x"], isBatch: true, topK: 2, threshold: 0.5 }, [prediction], model)).toBe(
    '{"results":[{"label":null,"score":0.25,"unknown":true,"scores":{"a":0.25,"b":0.2}}],"model":"m","version":"1"}',
  );
  expect(encodeError({ code: "busy", message: "later" }, "i")).toBe(
    '{"id":"i","error":{"code":"busy","message":"later"}}',
  );
});

test.each([
  ["0", 0],
  ["1", 1],
  ["-7", -7],
  ["-0", "-0"],
  ["01", "01"],
  ["1.0", "1.0"],
  ["", ""],
  ["spam", "spam"],
  ["1e3", "1e3"],
  ["999999999999999", 999999999999999],
  ["9999999999999999", "9999999999999999"],
] as const)("label %j is %j in /predict", (label, value) => {
  expect(labelValue(label)).toBe(value);
});
