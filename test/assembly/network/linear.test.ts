// The linear part against its plain twin: its scores, bit for bit in f32, and what they change in the softmax.
import { beforeAll, describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import type { ModelForm } from "../../../host/training/trainer.ts";
import { LABELS, linearScores, readPart } from "../../support/linear-part.ts";
import { withParts } from "../../support/model-file.ts";
import { loadFile, putText, scoresOf, trainTiny } from "../../support/models.ts";
import { loadWasm } from "../../support/wasm.ts";

const files = new Map<ModelForm, Uint8Array>();

beforeAll(async () => {
  const trainer = await trainTiny({ epochs: 2, linear: true });
  for (const form of ["f32", "int8", "int8-weights"] as const) files.set(form, trainer.write(form));
});

describe.each<ModelForm>(["f32", "int8", "int8-weights"])("%s", (form) => {
  test.each([
    "",
    "turn on the light",
    "play",
    "zebra crossing lamps",
    "the weather the weather the weather is cold and strange in the far north",
  ])("%j: the scores have the same bits, and are mixed into what enters the softmax", (text) => {
    const file = files.get(form)!;
    const reading = loadWasm("testing");
    expect(loadFile(reading, file)).toBe(abi.OK);
    expect(reading["prepareReading"]()).toBe(abi.OK);
    reading["readIds"](reading["textPtr"](), putText(reading, text));
    const at = reading["allocate"](4 * LABELS.length);
    reading["readLinear"](at);
    expect([...new Float32Array(reading.memory.buffer, at, LABELS.length)]).toEqual(linearScores(readPart(file), text));

    const [whole, alone] = [file, withParts(file, { linear: new Uint8Array() })].map((bytes) => {
      const wasm = loadWasm("testing");
      expect(loadFile(wasm, bytes)).toBe(abi.OK);
      return [...scoresOf(wasm, text)];
    }) as [number[], number[]];
    const part = readPart(file);
    const expected = linearScores(part, text);
    for (const k of [1, 2])
      expect(Math.log(whole[k]! / whole[0]!)).toBeCloseTo(
        part.share * Math.log(alone[k]! / alone[0]!) + expected[k]! - expected[0]!,
        3,
      );
  });
});

test("hidden tokens are left out of the part's scores, too", () => {
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, files.get("f32")!)).toBe(abi.OK);
  expect(wasm["prepareExplaining"]()).toBeTruthy();
  const whole = scoresOf(wasm, "turn on zebra lights")[0]!;
  const empty = scoresOf(wasm, "")[0]!;
  scoresOf(wasm, "turn on zebra lights");
  expect(wasm["explainLast"](0)).toBe(abi.OK);
  while (wasm["passesLeft"]() > 0) expect(wasm["explainNext"]()).toBe(abi.OK);
  let sum = 0;
  for (let i = 0; i < wasm["pieceCount"](); i++) sum += wasm["pieceShare"](i);
  expect(wasm["baseScore"]()).toBeCloseTo(empty, 6);
  expect(sum).toBeCloseTo(whole - empty, 6);
});
