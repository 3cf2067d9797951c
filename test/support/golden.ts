// What the goldens of Keras are compared by. A function of its own, so that canary.test.ts
// can show that it fails when it should.
import { readFileSync } from "node:fs";
import { importKeras } from "../../host/keras/import.ts";
import { loadFile, putText, scoresOf } from "./models.ts";
import { pad } from "./reference.ts";
import { sharedPath } from "./shared.ts";
import { loadWasm, type Exports } from "./wasm.ts";

export const GOLDEN_MODELS = [
  "model-seed",
  "model-snips",
  "model-massive-zh-char",
  "model-snips-masked-bidirectional",
] as const;

export interface GoldenCase {
  text: string;
  /** Padded before the tokens, as Keras does by default. */
  ids: number[];
  /** float32, in class order; one number is the second of two labels' score. */
  scores: number[];
}

export interface Comparison {
  /** Largest difference of any score; Infinity where their number differs. */
  worst: number;
  /** Cases whose padded ids are others. */
  wrongIds: string[];
}

/** A model of ../shared/golden as an f32 .elb file. */
export async function importGolden(
  name: string,
  file: "model.keras" | "model.h5" = "model.keras",
): Promise<Uint8Array> {
  const text = (part: string): { path: string; content: string } => ({
    path: part,
    content: readFileSync(sharedPath("golden", name, part), "utf8"),
  });
  const { elb } = await importKeras({
    model: { path: file, content: new Uint8Array(readFileSync(sharedPath("golden", name, file))) },
    tokenizer: text("tokenizer.json"),
    labels: text("labels.json"),
    name,
    version: "1",
    padding: "pre",
    truncating: "pre",
  });
  return elb;
}

/** An instance of testing.wasm with the file, ready to tell ids too. */
export function openFile(file: Uint8Array): Exports {
  const wasm = loadWasm("testing");
  const status = loadFile(wasm, file) || wasm["prepareReading"]();
  if (status !== 0) throw new Error(`the file does not load: status ${status}`);
  return wasm;
}

export function compareGolden(wasm: Exports, cases: readonly GoldenCase[]): Comparison {
  const result: Comparison = { worst: 0, wrongIds: [] };
  for (const { text, ids, scores } of cases) {
    const found = scoresOf(wasm, text);
    const expected = scores.length === 1 ? [1 - scores[0]!, scores[0]!] : scores;
    if (found.length !== expected.length) result.worst = Infinity;
    found.forEach((score, k) => {
      result.worst = Math.max(result.worst, Math.abs(score - expected[k]!));
    });
    const count: number = wasm["readText"](putText(wasm, text));
    const kept = Array.from({ length: count }, (_, t) => wasm["readRow"](t, 0) as number);
    if (pad(kept, ids.length).join() !== ids.join()) result.wrongIds.push(text);
  }
  return result;
}
