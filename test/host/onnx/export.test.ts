// ONNX files, read by a decoder of the wire format: their operators, and the weights in ONNX' layout.
// Whether onnxruntime computes our scores with them is in test/long/export.test.ts.
import { describe, expect, test } from "vitest";
import { LAYER_MASK_ZERO } from "../../../assembly/abi.ts";
import { exportModel } from "../../../host/commands/export.ts";
import { readKerasModel } from "../../../host/keras/archive.ts";
import { encode } from "../../../host/onnx/protobuf.ts";
import { buildSpec, SPECS } from "../../support/exported.ts";

type Message = Map<number, (number | Uint8Array)[]>;

function decode(bytes: Uint8Array): Message {
  const message: Message = new Map();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const field = Math.floor(key / 8);
    const number = varint();
    expect([0, 2]).toContain(key % 8);
    message.set(field, [...(message.get(field) ?? []), key % 8 === 0 ? number : bytes.subarray(at, at + number)]);
    if (key % 8 === 2) at += number;
  }
  expect(at).toBe(bytes.length);
  return message;
}

const messages = (message: Message, field: number): Message[] =>
  (message.get(field) ?? []).map((bytes) => decode(bytes as Uint8Array));
const strings = (message: Message, field: number): string[] =>
  (message.get(field) ?? []).map((bytes) => Buffer.from(bytes as Uint8Array).toString());

test("numbers, strings and messages in the wire format", () => {
  const bytes = encode([
    [1, 300],
    [2, "ü"],
    [20, [[1, 0]]],
    [3, 2 ** 40],
  ]);
  // As the specification of Protocol Buffers has it: 300 is ac 02.
  expect(Buffer.from(bytes).toString("hex")).toBe("08ac021202c3bca201020800" + "18808080808020");
});

interface Tensor {
  shape: number[];
  values: Float32Array;
}

async function exported(name: keyof typeof SPECS) {
  const elb = await buildSpec(name);
  const model = decode((await exportModel(elb, name, "model.onnx")).network);
  const [graph] = messages(model, 7) as [Message];
  const tensors = new Map(
    messages(graph, 5).map((tensor): [string, Tensor] => [
      strings(tensor, 8)[0]!,
      {
        shape: (tensor.get(1) ?? []) as number[],
        values: new Float32Array(Uint8Array.from(tensor.get(9)![0] as Uint8Array).buffer),
      },
    ]),
  );
  const nodes = messages(graph, 1).map((node) => ({
    type: strings(node, 4)[0]!,
    inputs: strings(node, 1),
    outputs: strings(node, 2),
  }));
  const keras = readKerasModel((await exportModel(elb, name, "model.keras")).network, name).tensors;
  return { model, graph, nodes, tensors, keras };
}

/** Keras' (rows, 4H) with the gates i f c o -> (4H, rows) with the gates i o f c. */
function turned({ shape, values }: { shape: readonly number[]; values: Float32Array }): number[] {
  const [rows, width] = shape.length === 1 ? [1, shape[0]!] : (shape as [number, number]);
  const units = width / 4;
  return [0, 3, 1, 2].flatMap((gate) =>
    Array.from({ length: units }, (_, u) =>
      Array.from({ length: rows }, (_, r) => values[r * width + gate * units + u]!),
    ).flat(),
  );
}

describe.each(Object.keys(SPECS) as (keyof typeof SPECS)[])("a model with %s", (name) => {
  test("has each weight where ONNX wants it", async () => {
    const { nodes, tensors, keras } = await exported(name);
    const left = [...keras];
    for (const { type, inputs } of nodes) {
      const weights = inputs.map((input) => tensors.get(input));
      if (type === "Gather" && weights[0]?.shape.length === 2) expect(weights[0]).toMatchObject(same(left.shift()!));
      if (type === "Gemm") for (const tensor of weights.slice(1)) expect(tensor).toMatchObject(same(left.shift()!));
      if (type === "LSTM") {
        const [, kernel, recurrent, bias] = weights as Tensor[];
        const directions = Array.from({ length: kernel!.shape[0]! }, () => left.splice(0, 3));
        const [inWidth, width] = directions[0]![0]!.shape as [number, number];
        expect(kernel!.shape).toEqual([directions.length, width, inWidth]);
        expect([...kernel!.values]).toEqual(directions.flatMap(([tensor]) => turned(tensor!)));
        expect(recurrent!.shape).toEqual([directions.length, width, width / 4]);
        expect([...recurrent!.values]).toEqual(directions.flatMap(([, tensor]) => turned(tensor!)));
        expect(bias!.shape).toEqual([directions.length, 2 * width]);
        expect([...bias!.values]).toEqual(
          directions.flatMap(([, , tensor]) => [...turned(tensor!), ...new Float32Array(width)]),
        );
      }
    }
    expect(left).toEqual([]);
  });

  test("says of itself what onnx.proto has a place for", async () => {
    const { model, graph, nodes, tensors } = await exported(name);
    const isMasked = (SPECS[name].layers[0]!.flags! & LAYER_MASK_ZERO) !== 0;
    expect(messages(model, 14).map((each) => [...strings(each, 1), ...strings(each, 2)])).toEqual([
      ["name", expect.any(String)],
      ["version", expect.any(String)],
    ]);
    const dimensions = (value: Message) =>
      messages(value, 2)
        .flatMap((type) => messages(type, 1))
        .flatMap((tensor) => messages(tensor, 2))
        .flatMap((shape) => messages(shape, 1))
        .map((dimension) => dimension.get(1)?.[0] ?? strings(dimension, 2)[0]);
    const [input, output] = [11, 12].map((field) => dimensions(messages(graph, field)[0]!));
    expect(input).toEqual(["batch", isMasked ? "steps" : expect.any(Number)]);
    expect(output).toEqual(["batch", expect.any(Number)]);
    expect(nodes.some(({ type }) => type === "GatherElements")).toBe(isMasked);
    // Scalars, where ONNX takes nothing else.
    for (const { inputs } of nodes.filter(({ type }) => type === "Range"))
      expect([tensors.get(inputs[0]!)!.shape, tensors.get(inputs[2]!)!.shape]).toEqual([[], []]);
    const lstm = messages(graph, 1).find((node) => strings(node, 4)[0] === "LSTM")!;
    const attributes = messages(lstm, 5).map((each) => [
      strings(each, 1)[0],
      each.get(20)![0],
      each.get(3)?.[0] ?? strings(each, 4)[0],
    ]);
    expect(attributes).toEqual([
      ["hidden_size", 2, expect.any(Number)],
      ["direction", 3, expect.stringMatching(/^(forward|bidirectional)$/)],
    ]);
  });

  test("reads only what was made before, and ends in the scores", async () => {
    const { graph, nodes, tensors } = await exported(name);
    const made = new Set(["", "ids", ...tensors.keys()]);
    for (const { inputs, outputs } of nodes) {
      expect(inputs.filter((input) => !made.has(input))).toEqual([]);
      for (const output of outputs.filter(Boolean)) expect(made.size).toBeLessThan(made.add(output).size);
    }
    expect(made.has("scores")).toBe(true);
    expect(messages(graph, 12).map((output) => strings(output, 1)[0])).toEqual(["scores"]);
  });
});

function same({ shape, values }: { shape: readonly number[]; values: Float32Array }): object {
  return { shape: [...shape], values };
}
