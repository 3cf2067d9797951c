// The bound on what a text may take: at it a model is accepted and answers in good time; one
// step more, and engine and trainer refuse it.
import { describe, expect, test } from "vitest";
import {
  ACTIVATION_SOFTMAX,
  LAYER_BIDIRECTIONAL,
  LAYER_DROPOUT,
  LAYER_SEQUENCES,
  MAX_NGRAMS_PER_WORD,
  MAX_TEXT_WORK,
  TABLE_BUDGET,
} from "../../assembly/abi.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { dense, embedding, type LayerShape, lstm, makeModel, minGru, type ModelSpec } from "../support/models.ts";
import { cpuSeconds } from "../support/wait.ts";

const MOST = MAX_TEXT_WORK * 2 ** 20;

/** As FORMAT.md says it. */
function work({ layers, tokenizer = {} }: ModelSpec, rows: number): number {
  const steps = tokenizer.sequenceLength!;
  const reads = tokenizer.ngramBuckets ? (1 + MAX_NGRAMS_PER_WORD) * steps : steps;
  let width = layers[0]!.units!;
  let sum = 0;
  let isFirst = true;
  for (const { kind, units = 0, flags = 0 } of layers.slice(1)) {
    if (kind === LAYER_DROPOUT) continue;
    if (kind === lstm(1).kind || kind === minGru(1).kind) {
      const directions = flags & LAYER_BIDIRECTIONAL ? 2 : 1;
      if (kind === lstm(1).kind) {
        const hasTable = rows * directions * Math.ceil(units / 4) * 64 <= TABLE_BUDGET;
        const projections = !isFirst ? steps : hasTable ? Math.min(rows, reads) : reads;
        sum += 4 * units * directions * (projections * width + steps * units + (isFirst ? reads : 0));
      } else sum += 2 * units * directions * steps * (width + 1) + (isFirst ? reads * width : 0);
      width = units * directions;
      isFirst = false;
    } else {
      sum += width * units;
      width = units;
    }
  }
  return sum;
}

const spec = (sequenceLength: number, layers: LayerShape[], ngramBuckets = 0): ModelSpec => ({
  words: ["hi"],
  labels: ["no", "yes"],
  layers,
  tokenizer: { sequenceLength, ngramBuckets, ...(ngramBuckets ? { ngramMin: 3, ngramMax: 5 } : {}) },
});
const zeros = (_: number, length: number): Float32Array => new Float32Array(length);

describe.each<[string, LayerShape[], number]>([
  ["a wide LSTM", [embedding(64), lstm(960), dense(2, ACTIVATION_SOFTMAX)], 0],
  [
    "a stack of two directions",
    [
      embedding(64),
      lstm(512, LAYER_BIDIRECTIONAL | LAYER_SEQUENCES),
      lstm(512, LAYER_BIDIRECTIONAL),
      dense(2, ACTIVATION_SOFTMAX),
    ],
    0,
  ],
  ["a wide minGRU", [embedding(1024), minGru(1024, LAYER_BIDIRECTIONAL), dense(2, ACTIVATION_SOFTMAX)], 8192],
  [
    "n-grams, whose projections are kept",
    [embedding(1024), lstm(512, LAYER_BIDIRECTIONAL), dense(2, ACTIVATION_SOFTMAX)],
    1000,
  ],
  [
    "n-grams, whose projections are not kept",
    [embedding(512), lstm(256, LAYER_BIDIRECTIONAL), dense(2, ACTIVATION_SOFTMAX)],
    8192,
  ],
])("%s", (_, layers, buckets) => {
  const rows = 2 + buckets;
  const longest = Array.from({ length: 4096 }, (_, i) => i + 1).findLast(
    (steps) => work(spec(steps, layers, buckets), rows) <= MOST,
  )!;

  test("is accepted with the longest sequence within the bound, and answers in good time", async () => {
    expect(longest).toBeLessThan(4096);
    const { write } = await makeModel(spec(longest, layers, buckets), zeros);
    const classifier = await Classifier.fromBytes(write("int8"), "slowest");
    // Without n-grams unknown words would be dropped; with them, each has as many different ones as count.
    const words =
      buckets === 0
        ? "hi ".repeat(4096)
        : Array.from(
            { length: 4096 },
            (_, i) => `${i.toString(36)}abcdefghijklmnopqrstuvwxyz${(i * 7919).toString(36)}`,
          ).join(" ");
    const seconds = cpuSeconds(() => void classifier.classify(words));
    console.log(`T = ${longest}: ${seconds.toFixed(1)} s`);
    expect(seconds).toBeLessThan(10);
  });

  test("is refused with one step more, before it is trained", async () => {
    await expect(makeModel(spec(longest + 1, layers, buckets), zeros)).rejects.toThrow(
      "a text could take more than 8192 million multiplications",
    );
  });
});
