// Mutants of model files: success or a named error, never a trap, each within 50 ms. What is
// accepted answers texts, and its answers do not depend on any byte that belongs to nobody: the
// file is loaded again into memories full of zeros and full of ones.
import { beforeAll, expect, test } from "vitest";
import * as abi from "../../assembly/abi.ts";
import { EdgelabelError } from "../../host/errors.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { unpackModel } from "../../host/model/container.ts";
import { packModel } from "../../host/model/pack.ts";
import { Trainer } from "../../host/training/trainer.ts";
import { Loader, documented, samples } from "../support/loader.ts";
import { partAt } from "../support/model-file.ts";
import { Seeded, samples as texts } from "../support/models.ts";
import { mutate, sources, type Sources } from "../support/mutants.ts";
import { loadWasm } from "../support/wasm.ts";
import { isLong, size } from "./size.ts";

const SEED = Number(process.env["MUTANT_SEED"] ?? 20261124);
const PAGES = 20;
/** Bytes behind a text that the engine might read by mistake. */
const BEHIND = 4096;
/** A machine that is busy with other things says nothing about the engine. */
const MOST_MS = isLong ? 50 : 2_000;

let files: Sources;
beforeAll(async () => {
  files = await sources();
});

/** Output lines as Loader.lines, from a fresh memory that holds `fill` wherever nothing was written. */
function linesAmid(file: Uint8Array, fill: number): string[] {
  const wasm = loadWasm("testing");
  wasm.memory.grow(PAGES);
  const address: number = wasm["reserveModel"](file.length);
  let memory = new Uint8Array(wasm.memory.buffer);
  memory.fill(fill, address);
  memory.set(file, address);
  if (wasm["loadModel"](file.length) !== abi.OK || !wasm["prepareLine"]())
    throw new Error("accepted by one engine, refused by the other");
  const free: number = wasm["arenaTop"]();
  memory = new Uint8Array(wasm.memory.buffer);
  memory.fill(fill, free);
  const lines: string[] = [];
  for (const sample of samples) {
    const text: number = wasm["textPtr"]();
    memory.fill(fill, text, text + BEHIND);
    const { written } = new TextEncoder().encodeInto(sample, memory.subarray(text));
    const status: number = wasm["classify"](written);
    if (status === abi.ERR_NOT_FINITE) lines.push("");
    else
      for (const json of [false, true])
        lines.push(
          new TextDecoder().decode(new Uint8Array(memory.buffer, wasm["linePtr"](), wasm["renderLine"](json, 3))),
        );
  }
  if (wasm.memory.buffer !== memory.buffer) throw new Error("memory grew while classifying");
  if (Buffer.compare(memory.subarray(free), new Uint8Array(memory.length - free).fill(fill)) !== 0)
    throw new Error("something was written outside the engine's blocks");
  return lines;
}

test.each([
  ["f32", size(50_000, 1_500)],
  ["int8", size(50_000, 1_500)],
  ["int8Weights", size(20_000, 500)],
] as const)(
  `%s files: %i mutants, seed ${SEED}`,
  (form, count) => {
    const next = new Seeded(SEED);
    const loader = new Loader();
    const all = Object.values(files).flat();
    let slowest = 0;
    for (let i = 0; i < count; i++) {
      const mutant = mutate(next.pick(files[form]), next.pick(all), next);
      const which = `mutant ${i} of seed ${SEED}`;
      try {
        const status = loader.load(mutant);
        if (!documented.has(status)) expect(`${which}: ${status}`).toBe("a documented status");
        let { ms } = loader;
        // A pause of the machine does not come back.
        for (let again = 0; ms > MOST_MS && again < 3; again++) {
          loader.load(mutant);
          ms = Math.min(ms, loader.ms);
        }
        slowest = Math.max(slowest, ms);
        if (status !== "OK") continue;
        const { lines } = loader;
        for (const fill of [0x00, 0xff]) expect(linesAmid(mutant, fill)).toEqual(lines);
      } catch (error) {
        throw new Error(`${which}: ${String(error)}`, { cause: error });
      }
    }
    console.log(
      `slowest ${slowest.toFixed(1)} ms; ${[...loader.counts].map(([status, times]) => `${status} ${times}`).join(", ")}`,
    );
    expect(slowest).toBeLessThanOrEqual(MOST_MS);
    // The mutants reach behind the first checks, most of the statuses, and the network.
    expect(loader.counts.get("OK")).toBeGreaterThan(count / 10);
    expect(loader.counts.size).toBeGreaterThan(10);
  },
  1_200_000,
);

/** Not the engine's doing: whatever else is thrown is a fault of ours. */
async function outcome(attempt: () => Promise<void>): Promise<string> {
  try {
    await attempt();
    return "OK";
  } catch (error) {
    if (error instanceof EdgelabelError) return error.code;
    throw error;
  }
}

test(`deployable files: ${size(20_000, 300)} mutants of the model's segment, seed ${SEED}`, async () => {
  const next = new Seeded(SEED);
  const bases = await Promise.all([...files.int8, ...files.f32].map((model) => packModel(model)));
  const counts = new Map<string, number>();
  for (let i = 0; i < size(20_000, 300); i++) {
    const wasm = next.pick(bases).slice();
    const model = unpackModel(wasm, "deployable");
    const begin = model.byteOffset;
    if (next.below(4) > 0) wasm.set(mutate(model, unpackModel(next.pick(bases), "deployable"), next, true), begin);
    // The segment's own head: address, length; or the file ends early.
    if (next.below(8) === 0) wasm[begin - 1 - next.below(8)]! = next.below(256);
    const file =
      next.below(40) === 0
        ? wasm.subarray(0, next.below(2) ? next.below(wasm.length) : begin + next.below(model.length))
        : wasm;
    try {
      const what = await outcome(async () => {
        const classifier = await Classifier.fromBytes(file, "mutant.wasm");
        const { memory_bytes: memory } = classifier.info;
        for (const sample of samples) {
          const said = await outcome(async () => void classifier.classify(sample, 0));
          if (said !== "OK" && said !== "not_finite") throw new Error(`classify: ${said}`);
        }
        expect(classifier.memoryBytes()).toBe(memory);
      });
      counts.set(what, (counts.get(what) ?? 0) + 1);
    } catch (error) {
      throw new Error(`mutant ${i} of seed ${SEED}: ${String(error)}`, { cause: error });
    }
  }
  console.log([...counts].map(([code, times]) => `${code} ${times}`).join(", "));
  expect(counts.get("OK")).toBeGreaterThan(size(20_000, 300) / 10);
  expect(counts.size).toBeGreaterThan(6);
}, 1_200_000);

test(`the trainer: ${size(5_000, 150)} mutants opened, and resumed where they can be, seed ${SEED}`, async () => {
  const next = new Seeded(SEED);
  const all = Object.values(files).flat();
  const counts = new Map<string, number>();
  for (let i = 0; i < size(5_000, 150); i++) {
    const mutant = mutate(files.f32.at(-1)!, next.pick(all), next);
    try {
      const what = await outcome(async () => {
        const trainer = await Trainer.open(mutant, "mutant.elb");
        for (const [label, { text }] of texts.entries()) trainer.addSample(label % 2, text);
        if (partAt(mutant, "training").length > 0) trainer.resume();
        else trainer.buildOpened();
        trainer.write(next.pick(["f32", "int8", "int8-weights"]));
      });
      counts.set(what, (counts.get(what) ?? 0) + 1);
    } catch (error) {
      throw new Error(`mutant ${i} of seed ${SEED}: ${String(error)}`, { cause: error });
    }
  }
  console.log([...counts].map(([code, times]) => `${code} ${times}`).join(", "));
  expect(counts.get("OK")).toBeGreaterThan(0);
  expect(counts.size).toBeGreaterThan(6);
}, 1_200_000);
