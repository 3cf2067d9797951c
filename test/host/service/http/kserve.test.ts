// The Open Inference Protocol: paths and bodies, without a server.
import { expect, test } from "vitest";
import type { Outcome } from "../../../../host/service/answer/predictor.ts";
import { encodeInfer, modelMetadata, parseInfer, parseModelPath } from "../../../../host/service/http/kserve.ts";
import { fakeModel } from "../../../support/fake.ts";

test.each([
  ["/v2/models/spam", { name: "spam", version: undefined, verb: "metadata" }],
  ["/v2/models/spam/ready", { name: "spam", version: undefined, verb: "ready" }],
  ["/v2/models/a%2Fb/versions/1%202/infer", { name: "a/b", version: "1 2", verb: "infer" }],
  ["/v2/models/spam/versions/1", { name: "spam", version: "1", verb: "metadata" }],
  ["/v2/models/", undefined],
  ["/v2/models/spam/", undefined],
  ["/v2/models/spam/explain", undefined],
  ["/v2/models/%ff", undefined],
])("path %s", (path, expected) => {
  expect(parseModelPath(path)).toEqual(expected);
});

const tensor = (data: unknown, shape: unknown = [Array.isArray(data) ? data.flat().length : 1]) => ({
  name: "text",
  datatype: "BYTES",
  shape,
  data,
});
const parse = (inputs: unknown, more: object = {}, most = 3) => parseInfer({ inputs, ...more }, Buffer.alloc(0), most);
const NO_BYTES = Buffer.alloc(0);

test("texts in JSON: flat or in rows, as many as the shape says and as may come at once", () => {
  expect(parse([tensor(["a", "b"])])).toEqual({ id: undefined, texts: ["a", "b"], outputs: undefined });
  expect(parse([tensor([["a"], ["b"]], [2, 1])], { id: "7", outputs: [{ name: "scores" }] })).toEqual({
    id: "7",
    texts: ["a", "b"],
    outputs: ["scores"],
  });
  expect(parse([tensor(["a", "b", "c"])]).texts).toHaveLength(3);
  expect(() => parse([tensor(["a", "b", "c", "d"])])).toThrow('"inputs.0" must hold at most 3 texts');
  expect(() => parse([tensor(["a", "b"], [3])])).toThrow('"inputs.0" holds 2 texts, its shape says 3');
  expect(parse([tensor(["a"], [])]).texts).toEqual(["a"]);
  expect(() => parseInfer({}, NO_BYTES, 3)).toThrow('"inputs" is missing');
});

test.each<[string, unknown, object]>([
  ['"inputs" must hold one tensor of texts', [], {}],
  ['"inputs" must hold one tensor of texts', [tensor(["a"]), tensor(["b"])], {}],
  ['"inputs" must be an array', "win", {}],
  ['"inputs.0.shape.0" must hold numbers from 1', [tensor([], [0])], {}],
  ['"inputs.0.shape.0" must hold whole numbers', [tensor(["a"], [1.5])], {}],
  ['"inputs.0.datatype" must be BYTES', [{ ...tensor(["a"]), datatype: "FP32" }], {}],
  ['"inputs.0" must have its texts either in "data" or as binary data', [{ ...tensor(["a"]), data: undefined }], {}],
  ['"id" must have at most 256 characters', [tensor(["a"])], { id: "x".repeat(257) }],
  ['"outputs.0.name" must be one of label, score, labels, scores', [tensor(["a"])], { outputs: [{ name: "logits" }] }],
])("%s", (message, inputs, more) => {
  expect(() => parse(inputs, more)).toThrow(message);
  expect(parse([tensor(["a"])], { id: "x".repeat(256) }).id).toHaveLength(256);
});

/** Each text behind its length in bytes. */
function packed(...texts: string[]): Buffer {
  return Buffer.concat(
    texts.flatMap((text) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return [length, Buffer.from(text)];
    }),
  );
}
const binary = (bytes: Buffer, count: number, size = bytes.length) =>
  parseInfer(
    { inputs: [{ name: "text", datatype: "BYTES", shape: [count], parameters: { binary_data_size: size } }] },
    bytes,
    3,
  ).texts.map((text) => Buffer.from(text as Uint8Array).toString());

test("texts as bytes behind the JSON, each with its length, and none of them cut", () => {
  const bytes = packed("win", "", "für 日本");
  expect(binary(bytes, 3)).toEqual(["win", "", "für 日本"]);
  for (let length = 1; length < bytes.length; length++) {
    const isWhole = [7, 11].includes(length);
    const cut = () => binary(bytes.subarray(0, length), length === 7 ? 1 : 2);
    if (isWhole) expect(cut()).toEqual(["win", ""].slice(0, length === 7 ? 1 : 2));
    else expect(cut).toThrow('"inputs.0" holds binary data that is cut off');
  }
  expect(() => binary(bytes, 3, 1)).toThrow(
    `"inputs.0.parameters.binary_data_size" is 1, and ${bytes.length} bytes follow the JSON object`,
  );
  expect(() => parseInfer({ inputs: [tensor(["a"])] }, bytes, 3)).toThrow('binary_data_size" is 0');
  const both = { ...tensor(["a"]), parameters: { binary_data_size: bytes.length } };
  expect(() => parseInfer({ inputs: [both] }, bytes, 3)).toThrow('either in "data" or as binary data');
  expect(() => parseInfer({ inputs: [{ ...tensor(undefined), data: undefined }] }, NO_BYTES, 3)).toThrow("either in");
});

test("answers: the outputs asked for, in that order; a rejected text has an empty label, and a score for each label", () => {
  const outcome = {
    name: "spam",
    model: fakeModel(),
    predictions: [
      { label: "spam", score: 0.75, scores: { spam: 0.75, ham: 0.25 } },
      { label: null, score: 0.5, scores: { ham: 0.5 } },
    ] as Outcome["predictions"],
  };
  expect(encodeInfer({ id: "7", texts: [], outputs: ["scores", "label", "score"] }, outcome)).toEqual({
    id: "7",
    model_name: "spam",
    model_version: "1.0.0",
    outputs: [
      {
        name: "scores",
        datatype: "FP32",
        shape: [2, 2],
        parameters: { labels: ["ham", "spam"] },
        data: [0.25, 0.75, 0.5, 0],
      },
      { name: "label", datatype: "BYTES", shape: [2], data: ["spam", ""] },
      { name: "score", datatype: "FP32", shape: [2], data: [0.75, 0.5] },
    ],
  });
  expect(modelMetadata("spam", fakeModel())).toMatchObject({
    versions: ["1.0.0"],
    inputs: [{ shape: [-1] }],
    outputs: [{ name: "label" }, { name: "score" }, { name: "scores", shape: [-1, 2] }],
  });
});
