// The Open Inference Protocol (KServe V2). Texts come in as BYTES, in JSON or in a binary tensor after
// the JSON, which is what Triton's client sends by default. Labels go out as BYTES and scores as FP32,
// in JSON; of a model that gives several labels, a BOOL for each label says whether the text has it. This file only knows paths and bodies; http.ts does the rest.
//
//   /v2  /v2/health/live  /v2/health/ready
//   /v2/models/NAME[/versions/V]  …/ready  …/infer
import * as v from "valibot";
import { givenLabels } from "../../model/answer.ts";
import { RequestError } from "../answer/messages.ts";
import type { Model, Outcome } from "../answer/predictor.ts";
import { packageVersion } from "../../version.ts";

export interface ModelPath {
  name: string;
  version: string | undefined;
  verb: "metadata" | "ready" | "infer";
}

export interface InferRequest {
  id: string | undefined;
  texts: (string | Uint8Array)[];
  /** Outputs that were asked for; undefined: the usual ones. */
  outputs: OutputName[] | undefined;
}

const OUTPUTS = ["label", "score", "labels", "scores"] as const;
type OutputName = (typeof OUTPUTS)[number];

/** Undefined if it is not the path of a model. */
export function parseModelPath(path: string): ModelPath | undefined {
  const match = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(?:\/(ready|infer))?$/.exec(path);
  if (!match) return undefined;
  try {
    return {
      name: decodeURIComponent(match[1]!),
      version: match[2] === undefined ? undefined : decodeURIComponent(match[2]),
      verb: (match[3] as "ready" | "infer" | undefined) ?? "metadata",
    };
  } catch {
    return undefined;
  }
}

export function serverMetadata(): object {
  return { name: "edgelabel", version: packageVersion, extensions: [] };
}

export function modelMetadata(name: string, { version, labels, isMultiLabel }: Model): object {
  const ofEach = { shape: [-1, labels.length], parameters: { labels } };
  return {
    name,
    versions: [version],
    platform: "edgelabel_wasm",
    inputs: [{ name: "text", datatype: "BYTES", shape: [-1] }],
    outputs: [
      { name: "label", datatype: "BYTES", shape: [-1] },
      { name: "score", datatype: "FP32", shape: [-1] },
      ...(isMultiLabel ? [{ name: "labels", datatype: "BOOL", ...ofEach }] : []),
      { name: "scores", datatype: "FP32", ...ofEach },
    ],
  };
}

/** The message for something that is not an object, or an object that lacks a key. */
const fault = ({ expected }: v.ObjectIssue): string => (expected === "Object" ? "must be an object" : "is missing");

const tensor = v.object(
  {
    name: v.string("must be a string"),
    datatype: v.literal("BYTES", "must be BYTES: the texts as strings"),
    shape: v.array(
      v.pipe(
        v.number("must hold numbers"),
        v.integer("must hold whole numbers"),
        v.minValue(1, "must hold numbers from 1"),
      ),
      "must be an array",
    ),
    data: v.optional(
      v.array(v.union([v.string(), v.array(v.string())], "must hold strings"), "must be an array of strings"),
    ),
    parameters: v.optional(v.object({ binary_data_size: v.optional(v.number("must be a number of bytes")) }, fault)),
  },
  fault,
);

const body = v.object(
  {
    id: v.optional(v.pipe(v.string("must be a string"), v.maxLength(256, "must have at most 256 characters"))),
    inputs: v.pipe(v.array(tensor, "must be an array"), v.length(1, "must hold one tensor of texts")),
    outputs: v.optional(
      v.array(
        v.object({ name: v.picklist(OUTPUTS, `must be one of ${OUTPUTS.join(", ")}`) }, fault),
        "must be an array",
      ),
    ),
  },
  fault,
);

/** `binary`: the bytes after the JSON object. Throws a RequestError. */
export function parseInfer(value: unknown, binary: Buffer, textsPerRequest: number): InferRequest {
  const result = v.safeParse(body, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new RequestError("bad_request", `"${v.getDotPath(issue) ?? "body"}" ${issue.message}`);
  }
  const {
    id,
    inputs: [input],
    outputs,
  } = result.output;
  const { data, parameters } = input!;
  const binarySize = parameters?.binary_data_size ?? 0;
  if (binarySize !== binary.length)
    throw new RequestError(
      "bad_request",
      `"inputs.0.parameters.binary_data_size" is ${binarySize}, and ${binary.length} bytes follow the JSON object`,
    );
  if ((data === undefined) === (binary.length === 0))
    throw new RequestError("bad_request", '"inputs.0" must have its texts either in "data" or as binary data');
  const texts = data?.flat() ?? binaryTexts(binary);
  const size = input!.shape.reduce((product, length) => product * length, 1);
  if (texts.length !== size)
    throw new RequestError("bad_request", `"inputs.0" holds ${texts.length} texts, its shape says ${size}`);
  if (texts.length > textsPerRequest)
    throw new RequestError("bad_request", `"inputs.0" must hold at most ${textsPerRequest} texts`);
  return { id, texts, outputs: outputs?.map(({ name }) => name) };
}

/** Each text is preceded by its length in bytes: 32 bits, little-endian. */
function binaryTexts(binary: Buffer): Buffer[] {
  const texts: Buffer[] = [];
  for (let at = 0; at < binary.length;) {
    const start = at + 4;
    const end = start > binary.length ? Infinity : start + binary.readUInt32LE(at);
    if (end > binary.length) throw new RequestError("bad_request", '"inputs.0" holds binary data that is cut off');
    texts.push(binary.subarray(start, end));
    at = end;
  }
  return texts;
}

/** An unknown text has the label "". */
export function encodeInfer({ id, outputs }: InferRequest, { name, model, predictions }: Outcome): object {
  const n = predictions.length;
  const usual: OutputName[] = model.isMultiLabel ? ["label", "score", "labels"] : ["label", "score"];
  const ofEach = { shape: [n, model.labels.length], parameters: { labels: model.labels } };
  const tensors: Record<OutputName, () => object> = {
    label: () => ({ name: "label", datatype: "BYTES", shape: [n], data: predictions.map(({ label }) => label ?? "") }),
    score: () => ({ name: "score", datatype: "FP32", shape: [n], data: predictions.map(({ score }) => score) }),
    labels: () => ({
      name: "labels",
      datatype: "BOOL",
      ...ofEach,
      data: predictions.flatMap((prediction) => {
        const given = new Set(givenLabels(prediction).map(({ label }) => label));
        return model.labels.map((label) => given.has(label));
      }),
    }),
    scores: () => ({
      name: "scores",
      datatype: "FP32",
      ...ofEach,
      data: predictions.flatMap(({ scores }) => model.labels.map((label) => scores[label] ?? 0)),
    }),
  };
  return {
    id,
    model_name: name,
    model_version: model.version,
    outputs: (outputs ?? usual).map((output) => tensors[output]()),
  };
}
