import fc from "fast-check";
import { describe, expect, test } from "vitest";
import "../../../support/fast-check.ts";
import { encodeEvent, EventError, EventReader, type WyomingEvent } from "../../../../host/service/wyoming/events.ts";

const MOST = 1_000;

function eventsIn(bytes: Uint8Array | string, pieceBytes = Infinity, most = MOST): WyomingEvent[] {
  const reader = new EventReader(most);
  const all = Buffer.from(bytes);
  const events: WyomingEvent[] = [];
  for (let at = 0; at < all.length; at += pieceBytes) events.push(...reader.read(all.subarray(at, at + pieceBytes)));
  return events;
}

test.each([
  ["a bare type", '{"type":"describe"}\n', [{ type: "describe", data: {} }]],
  ["nulls", '{"type":"ping","data":null,"data_length":null,"payload_length":null}\n', [{ type: "ping", data: {} }]],
  ["data in the line", '{"type":"ping","data":{"text":"a"}}\n', [{ type: "ping", data: { text: "a" } }]],
  ["data behind it", '{"type":"ping","data_length":13}\n{"text":"ä"}', [{ type: "ping", data: { text: "ä" } }]],
  [
    "both, of which the latter counts",
    '{"type":"a","data":{"b":1,"c":1},"data_length":7}\n{"b":2}{"type":"d"}\n',
    [
      { type: "a", data: { b: 2, c: 1 } },
      { type: "d", data: {} },
    ],
  ],
  [
    "a carriage return",
    '{"type":"a"}\r\n{"type":"b"}\r\n',
    [
      { type: "a", data: {} },
      { type: "b", data: {} },
    ],
  ],
  [
    "payloads, which are skipped",
    `{"type":"audio-chunk","payload_length":5000}\n${"\n".repeat(5000)}{"type":"a","data_length":2,"payload_length":3}\n{}xyz{"type":"b"}\n`,
    [
      { type: "audio-chunk", data: {} },
      { type: "a", data: {} },
      { type: "b", data: {} },
    ],
  ],
  ["an unfinished line", '{"type":"a"}\n{"type":"b"}', [{ type: "a", data: {} }]],
  ["unfinished data", '{"type":"a","data_length":3}\n{}', []],
])("reads %s, in one piece and byte by byte", (_name, bytes, expected) => {
  expect(eventsIn(bytes)).toEqual(expected);
  expect(eventsIn(bytes, 1)).toEqual(expected);
});

test.each([
  ["not JSON", "GET / HTTP/1.1\n", "the line of an event is not JSON from character 1 on"],
  ["an empty line", "\n", "the line of an event is not JSON"],
  ["an array", "[]\n", "the line of an event must be a JSON object"],
  ["no type", "{}\n", 'an event needs a "type"'],
  ["a type that is a number", '{"type":7}\n', 'an event needs a "type"'],
  ["data that is text", '{"type":"a","data":"b"}\n', '"data" must be a JSON object'],
  ["a negative length", '{"type":"a","data_length":-1}\n', '"data_length" must be a number of bytes'],
  ["half a byte", '{"type":"a","payload_length":0.5}\n', '"payload_length" must be a number of bytes'],
  ["a length in words", '{"type":"a","data_length":"9"}\n', '"data_length" must be a number of bytes'],
  ["data that is an array", '{"type":"a","data_length":2}\n[]', "the data of an event must be a JSON object"],
  ["bytes that are no UTF-8", Uint8Array.from([0x22, 0xff, 0x22, 0x0a]), "the line of an event is not UTF-8"],
  ["too many levels", `{"type":"a","data":${"[".repeat(99)}\n`, "levels"],
])("refuses %s", (_name, bytes, message) => {
  expect(() => eventsIn(bytes)).toThrow(EventError);
  expect(() => eventsIn(bytes, 1)).toThrow(message);
});

describe("the limit", () => {
  const line = (bytes: number) => `{"type":"${"a".repeat(bytes - 11)}"}\n`;
  test("is that of the line and its data together", () => {
    expect(eventsIn(line(MOST))).toHaveLength(1);
    expect(() => eventsIn(line(MOST + 1))).toThrow(`at most ${MOST} bytes`);
    const data = JSON.stringify({ text: "b".repeat(MOST - 50) });
    const header = `{"type":"ping","data_length":${data.length}}\n`;
    expect(() => eventsIn(header + data)).not.toThrow();
    expect(() => eventsIn(header.replace('"type"', `${" ".repeat(50)}"type"`) + data)).toThrow("at most");
  });

  test("holds before the end has come, so that nothing larger is kept", () => {
    expect(() => eventsIn("a".repeat(MOST + 1), 10)).toThrow("at most");
    expect(() => eventsIn('{"type":"a","data_length":1001}\n')).toThrow("at most");
    // A payload is not kept, whatever its length.
    expect(eventsIn('{"type":"a","payload_length":9007199254740991}\nabc')).toEqual([]);
  });
});

test("what is written is read again, in any pieces", () => {
  const event = fc.record({
    type: fc.string(),
    data: fc.dictionary(
      fc.string().filter((key) => key !== "__proto__"),
      fc.jsonValue(),
    ),
  });
  fc.assert(
    fc.property(fc.array(event), fc.integer({ min: 1, max: 50 }), (events, pieceBytes) => {
      const written = events.map(encodeEvent).join("");
      const read = eventsIn(written, pieceBytes, 100_000);
      expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(JSON.stringify(events)));
    }),
  );
});
