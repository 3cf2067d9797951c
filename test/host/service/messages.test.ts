import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeAnswer, encodeError, labelValue, RequestError, requestParser } from "../../../host/service/messages.ts";

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
  test.each(["hello", "{hello", "{}", '{"id":1}', '["text"]', '"text"', " {", "{\"text\":", "{\"text\":\"a\"} b", "\ufeff{\"text\":\"a\"}"])("%j is text", (text) => {
    expect(parse(bytes(text))).toEqual({ texts: [bytes(text)], isBatch: false });
  });

  test.each(['{"text":"a"}', ' \r\n\t{"text":"a"} ', '{"text":"a","anything":[{}],"__proto__":{"id":1}}'])("%j is JSON", (text) => {
    expect(parse(bytes(text))).toMatchObject({ texts: ["a"], isBatch: false });
    expect(parse(bytes(text)).id).toBeUndefined();
  });

  test("the content type decides", () => {
    expect(parse(bytes('{"text":"a"}'), "text/plain").texts).toEqual([bytes('{"text":"a"}')]);
    expect(parse(bytes('{"text":"a"}'), "application/json; charset=utf-8").texts).toEqual(["a"]);
    for (const payload of ["hello", "{}", "[]", "", '{"id":1}']) expect(failure(bytes(payload), "application/json").code).toBe("bad_request");
  });

  test("bytes that are no UTF-8 are text, unless JSON is declared", () => {
    const payload = Buffer.concat([bytes('{"text":"'), Buffer.from([0xff]), bytes('"}')]);
    expect(parse(payload).texts).toEqual([payload]);
    expect(failure(payload, "application/json").code).toBe("bad_request");
  });

  test("limits", () => {
    expect(parse(Buffer.alloc(1000, "x")).texts).toHaveLength(1);
    expect(failure(Buffer.alloc(1001, "x")).code).toBe("too_large");
    expect(failure(bytes("")).code).toBe("bad_request");
    expect(failure(bytes('{"texts":["a","b","c","d"]}')).message).toBe('"texts" must hold at most 3 texts');
  });
});

test("all fields", () => {
  expect(parse(bytes('{"texts":["a","b"],"id":"7","replyTo":"r","topK":2,"threshold":0.5,"explain":true}'))).toEqual({ texts: ["a", "b"], isBatch: true, id: "7", replyTo: "r", topK: 2, threshold: 0.5, explain: true });
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
  ['{"text":"a","explain":1}', '"explain" must be true or false'],
  ['{"text":"a","threshold":-1}', '"threshold" must be a number from 0 to 1'],
])("%s: %s", (payload, message) => {
  expect(failure(bytes(payload))).toMatchObject({ code: "bad_request", message });
});

test("a faulty request keeps what is sound of its id and replyTo", () => {
  expect(failure(bytes('{"text":1,"id":5,"replyTo":"r"}'))).toMatchObject({ id: 5, replyTo: "r" });
  expect(failure(bytes('{"text":1,"id":[],"replyTo":{}}'))).toMatchObject({ id: undefined, replyTo: undefined });
});

test("any bytes give a request or a named error, soon", () => {
  const start = Date.now();
  fc.assert(fc.property(fc.uint8Array({ maxLength: 1100 }), fc.constantFrom(undefined, "application/json", "text/plain", "x"), (payload, contentType) => {
    try {
      expect(parse(payload, contentType).texts.length).toBeGreaterThan(0);
    } catch (error) {
      expect(error).toBeInstanceOf(RequestError);
    }
  }), { numRuns: 2000 });
  const deep = requestParser({ payloadBytes: 1_000_000, textsPerRequest: 3 });
  expect(deep(bytes(`{"text":"a","x":${"[".repeat(50_000)}${"]".repeat(50_000)}}`)).texts).toEqual(["a"]);
  expect(Date.now() - start).toBeLessThan(10_000);
});

test("answers", () => {
  const prediction = { label: "a", score: 0.25, scores: { a: 0.25, b: 0.2 } };
  const model = { name: "m", version: "1" };
  expect(encodeAnswer({ texts: ["x"], isBatch: false, id: 1 }, [prediction], model)).toBe('{"id":1,"label":"a","score":0.25,"model":"m","version":"1"}');
  expect(encodeAnswer({ texts: ["x"], isBatch: true, topK: 2, threshold: 0.5 }, [prediction], model)).toBe('{"results":[{"label":null,"score":0.25,"unknown":true,"scores":{"a":0.25,"b":0.2}}],"model":"m","version":"1"}');
  expect(encodeError({ code: "busy", message: "later" }, "i")).toBe('{"id":"i","error":{"code":"busy","message":"later"}}');
});

test.each([["0", 0], ["1", 1], ["-7", -7], ["-0", "-0"], ["01", "01"], ["1.0", "1.0"], ["", ""], ["spam", "spam"], ["1e3", "1e3"], ["999999999999999", 999999999999999], ["9999999999999999", "9999999999999999"]] as const)("label %j is %j in /predict", (label, value) => {
  expect(labelValue(label)).toBe(value);
});
