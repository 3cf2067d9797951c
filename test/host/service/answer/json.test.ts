import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromJson, JsonError, toJson } from "../../../../host/service/answer/json.ts";

const read = (text: string) => fromJson(Buffer.from(text));
const again = (text: string) => toJson(read(text));

function complaint(text: string | Uint8Array): string {
  try {
    fromJson(Buffer.from(text));
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    throw error;
  }
  throw new Error("it was read");
}

describe("numbers", () => {
  test.each([
    "12345678901234567890",
    "-9223372036854775808",
    "18446744073709551615",
    "1700000000123456789",
    "8949123456789012345",
    "9007199254740993",
    "0.1234567890123456789",
    "1e999",
    "-1e-999",
    "123456789012345678.5",
    "100000000000000000000000000000000000001",
  ])("%s comes back with its digits, wherever it is", (number) => {
    expect(again(number)).toBe(number);
    expect(again(`{"a":[${number},{"b":${number}}],"__proto__":${number},"7":"${number}"}`)).toBe(
      `{"7":"${number}","a":[${number},{"b":${number}}],"__proto__":${number}}`,
    );
    expect(`${read(number)}`).toBe(number);
    // For whoever writes it with JSON.stringify: no number, but the digits.
    expect(JSON.stringify([read(number)])).toBe(`["${number}"]`);
  });

  test.each([
    ["0", 0],
    ["-7", -7],
    ["1.50", 1.5],
    ["1e3", 1000],
    ["15e-1", 1.5],
    ["0.00000000000000000001", 1e-20],
    ["1000000000000000000000", 1e21],
    ["9007199254740992", 2 ** 53],
    ["0.1", 0.1],
    ["5e-324", 5e-324],
    ["0.000", 0],
    ["-0", -0],
  ])("%s is a plain number", (text, value) => {
    expect(read(text)).toBe(value);
  });

  test("any decimal comes back as the same number", () => {
    const digits = fc
      .array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 40 })
      .map((each) => each.join(""));
    const whole = digits.map((each) => each.replace(/^0+(?=\d)/, ""));
    const exponent = fc.option(fc.integer({ min: -400, max: 400 }));
    /** Exact, by whole numbers. */
    const compare = (a: string, b: string) => {
      const [x, y] = [a, b].map((number) => {
        const [, sign, left, right = "", power = "0"] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(number)!;
        return [BigInt(`${sign}${left}${right}`), Number(power) - right.length] as const;
      }) as [readonly [bigint, number], readonly [bigint, number]];
      const least = Math.min(x[1], y[1]);
      return x[0] * 10n ** BigInt(x[1] - least) === y[0] * 10n ** BigInt(y[1] - least);
    };
    fc.assert(
      fc.property(fc.boolean(), whole, fc.option(digits), exponent, (isNegative, left, right, power) => {
        const number = `${isNegative ? "-" : ""}${left}${right === null ? "" : `.${right}`}${power === null ? "" : `e${power}`}`;
        expect(compare(again(number), number)).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test.each([
    "{12345678901234567890:1}",
    '["a"12345678901234567890]',
    "012345678901234567890",
    "12345678901234567890 1",
    "-",
    "1.2345678901234567890.",
  ])("%s is no JSON", (text) => {
    expect(complaint(text)).toMatch(/^not JSON/);
  });

  test("one of a thousand digits is refused", () => {
    expect(complaint("1".repeat(1000))).toBe("JSON with a number of more than 400 characters");
  });
});

test("at most 64 levels, brackets in strings not counted", () => {
  const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  expect(again(nested(64))).toBe(nested(64));
  expect(complaint(nested(65))).toBe("JSON of more than 64 levels");
  expect(complaint('{"a":'.repeat(100_000))).toBe("JSON of more than 64 levels");
  expect(read(`["${"[".repeat(100)}","\\"${"{".repeat(100)}"]`)).toHaveLength(2);
});

test("a byte order mark before, NULs after", () => {
  expect(read('\ufeff{"a":1}\n\0\0')).toEqual({ a: 1 });
  expect(complaint('{"a":1}\0}')).toBe("not JSON from character 8 on");
});

test.each([
  ['{"a":NaN}', "not JSON from character 6 on, which has no NaN and no Infinity"],
  ['{"ä":"\\"","b":-Infinity}', "not JSON from character 16 on, which has no NaN and no Infinity"],
  ['{"a":nan}', "not JSON from character 6 on, which has no NaN and no Infinity"],
  ["{'a':1}", "not JSON from character 2 on"],
  ['{"a":True}', "not JSON from character 6 on"],
  ['{"a":"he said "call"}', "not JSON from character 16 on"],
  ['{"a":1 "b":2}', "not JSON from character 8 on"],
  ['{"a":"line\ntwo"}', "not JSON from character 11 on"],
  ['{"a":"b', "not JSON: it is cut off"],
  ['{"a":"b\\"}', "not JSON: it is cut off"],
  ['{"a":[1', "not JSON: it is cut off"],
])("%j is %s", (text, message) => {
  expect(complaint(text)).toBe(message);
});

test("what is no UTF-8", () => expect(complaint(Buffer.from([0x22, 0xff, 0x22]))).toBe("not UTF-8"));

test("any bytes: what JSON.parse reads, or a JsonError; and what is read can be written", () => {
  const pieces = fc
    .array(
      fc.constantFrom(
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\",
        '"a"',
        '"__proto__"',
        "\\ud800",
        "1",
        "-1.5e3",
        "12345678901234567890",
        "e",
        "true",
        "null",
        "\n",
        " ",
        "\ufeff",
        "\0",
        "ü",
      ),
      { maxLength: 30 },
    )
    .map((each) => each.join(""));
  fc.assert(
    fc.property(
      fc.oneof(
        pieces,
        fc.json(),
        fc.json().map((json) => json.slice(0, -1)),
      ),
      (text) => {
        const plain = text.replace(/\0+$/, "").replace(/^\ufeff/, "");
        let expected: string | undefined;
        try {
          expected = JSON.stringify(JSON.parse(plain));
        } catch {
          expected = undefined;
        }
        if (expected === undefined) expect(complaint(text)).not.toBe("");
        else expect(JSON.stringify(JSON.parse(again(text)))).toBe(expected);
      },
    ),
    { numRuns: 5000 },
  );
});
