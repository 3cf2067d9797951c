// open() and classify(): every source that a user may have, and the object that MQTT gives.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { TEXT_CAPACITY } from "../../../assembly/abi.ts";
import { EdgelabelError, type Model, open } from "../../../host/index.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import { packModel } from "../../../host/model/pack.ts";
import { encodeAnswer } from "../../../host/service/answer/messages.ts";
import { Calibrator } from "../../../host/training/calibrator.ts";
import { trainTiny } from "../../support/models.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-library-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "tiny.wasm");
const TEXTS = ["please play some jazz", "will it rain?", "lights off", "", "ünknown \u{1f600}"];
let elb: Uint8Array;
let wasm: Uint8Array;
let model: Model;

beforeAll(async () => {
  elb = (await trainTiny()).write("int8");
  wasm = await packModel(elb);
  writeFileSync(path, wasm);
  model = await open(path);
});

async function serve(status: number): Promise<string> {
  const server = createServer((_, response) => response.writeHead(status).end(wasm));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/tiny.wasm`;
}

describe("open()", () => {
  test("takes a path, URLs, a response, a blob and bytes of either kind of file", async () => {
    const url = await serve(200);
    const buffer = wasm.slice().buffer;
    const sources = [pathToFileURL(path), url, new URL(url), await fetch(url), new Blob([buffer]), buffer, wasm, elb];
    for (const source of sources) {
      const opened = await open(source);
      expect(opened.classify(TEXTS[0]!)).toEqual(model.classify(TEXTS[0]!));
      expect([opened.labels, opened.info]).toEqual([model.labels, model.info]);
    }
  });

  test.each<[string, () => Promise<unknown>, string, string]>([
    ["a missing file", () => open(join(folder, "none")), "unreadable", "none: no such file; make a model with"],
    ["a missing page", async () => open(await serve(404)), "unreadable", "/tiny.wasm: the server answers 404"],
    ["a failed response", async () => open(await fetch(await serve(500))), "unreadable", "the server answers 500"],
    ["a server that is not there", () => open("http://127.0.0.1:9/x"), "unreadable", "http://127.0.0.1:9/x: cannot be"],
    [
      "no model",
      () => open(new TextEncoder().encode("hello ".repeat(99))),
      "bad_magic",
      "model: it is not an edgelabel",
    ],
    ["half a model", () => open(wasm.subarray(0, wasm.length / 2)), "bad_wasm", "model: not a deployable of edgelabel"],
    ["another value", () => open(3 as unknown as string), "invalid", "open() takes a path, a URL, a Response"],
  ])("says what is wrong with %s", async (_, attempt, code, message) => {
    const error = await attempt().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EdgelabelError);
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

describe("classify()", () => {
  test("gives the object that MQTT gives", async () => {
    const classifier = await Classifier.fromBytes(elb, "tiny");
    for (const text of TEXTS) {
      for (const options of [{}, { topK: 2 }, { threshold: 0.99 }, { topK: 3, threshold: 0.01, explain: true }]) {
        const prediction = {
          ...classifier.classify(text, options.topK),
          ...(options.explain && { explanation: classifier.explain(text) }),
        };
        const sent = encodeAnswer({ texts: [text], isBatch: false, ...options }, [prediction], model);
        const { model: _model, version: _version, ...answer } = JSON.parse(sent);
        expect(JSON.stringify(model.classify(text, options))).toBe(JSON.stringify(answer));
      }
    }
  });

  test("takes UTF-8, and explains the label that is asked for", () => {
    expect(model.classify(new TextEncoder().encode(TEXTS[4]), { topK: 2 })).toEqual(
      model.classify(TEXTS[4]!, { topK: 2 }),
    );
    const [first, last] = [model.labels[0]!, model.labels.at(-1)!];
    for (const label of [first, last])
      expect(model.classify(TEXTS[0]!, { explain: label }).explanation).toMatchObject({ label });
  });

  test("needs no JSON for the label", () => {
    const parse = vi.spyOn(JSON, "parse");
    onTestFinished(() => parse.mockRestore());
    expect(model.classify(TEXTS[0]!).label).not.toBeNull();
    expect(parse).not.toHaveBeenCalled();
  });

  test("knows the model's own rule for unknown texts, with and without scores", async () => {
    const calibrator = await Calibrator.open(elb, "tiny");
    calibrator.change(1, { score: 1, margin: 0, unknown_share: 1 });
    const strict = await open(calibrator.file());
    const { score } = model.classify(TEXTS[0]!);
    expect(strict.classify(TEXTS[0]!)).toEqual({ label: null, score, unknown: true });
    expect(strict.classify(TEXTS[0]!, { topK: 1 })).toEqual({
      ...{ label: null, score, unknown: true },
      scores: model.classify(TEXTS[0]!, { topK: 1 }).scores,
    });
  });

  test.each([
    [{ topK: 0 }, "invalid", "topK takes a whole number from 1"],
    [{ topK: 1.5 }, "invalid", "topK takes a whole number from 1"],
    [{ threshold: 2 }, "invalid", "threshold takes a number from 0 to 1"],
    [{ threshold: NaN }, "invalid", "threshold takes a number from 0 to 1"],
    [{ explain: "jazz" }, "invalid", 'has no label "jazz"'],
  ])("refuses %j", (options, code, message) => {
    expect(() => model.classify("x", options)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });

  test("refuses a text above 1 MiB, and goes on", () => {
    expect(() => model.classify("x".repeat(TEXT_CAPACITY + 1))).toThrow(
      expect.objectContaining({ name: "EdgelabelError", code: "text_too_long" }),
    );
    expect(model.classify("x".repeat(TEXT_CAPACITY)).score).toBeGreaterThan(0);
  });

  test("classifyAll() takes each text when its answer is asked for", () => {
    const taken: string[] = [];
    const texts = function* () {
      for (const text of TEXTS) yield (taken.push(text), text);
    };
    const answers = model.classifyAll(texts(), { topK: 2 });
    expect(answers.next().value).toEqual(model.classify(TEXTS[0]!, { topK: 2 }));
    expect(taken).toEqual(TEXTS.slice(0, 1));
    expect([...answers]).toEqual(TEXTS.slice(1).map((text) => model.classify(text, { topK: 2 })));
  });
});
