// A model of the recipe fast through all that is done with a model: trained in parts and by two workers, packed, explained,
// pruned, corrected, and measured before it is quantized. Only export has no such layer.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { edgelabel, json, LAMPS, SMALL } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-fast-"));
const at = (name: string): string => join(folder, name);
const FAST = ["--recipe", "fast", "--set", "ngram-buckets=256", ...SMALL];
const recurrent = async (file: string): Promise<unknown> =>
  (await json("info", at(file))).layers.filter(({ sequences }: { sequences?: boolean }) => sequences);

beforeAll(async () => {
  writeFileSync(at("data.tsv"), LAMPS.join(""));
  writeFileSync(at("valid.tsv"), LAMPS.filter((_, i) => i % 4 === 0).join(""));
  const empty = ["hall", "attic", "kitchen", "cellar"].map((room) => `off\tnobody is in the ${room}\n`);
  writeFileSync(at("fixes.tsv"), empty.join(""));
  // A hold-out on which learning from them shows.
  writeFileSync(at("held.tsv"), LAMPS.slice(0, 3).join("") + empty.join("").replaceAll("the", "our"));
  await json("train", at("data.tsv"), "-o", at("fast.elb"), ...FAST);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("info names the cell", async () => {
  expect(await recurrent("fast.elb")).toEqual([
    { kind: "mingru", input: 16, output: 16, bidirectional: true, sequences: true },
  ]);
  expect((await edgelabel(["info", at("fast.elb")])).stdout).toContain("mingru 16 → 16 (bidirectional, sequences)");
});

test("a resumed run gives the same bits, and two workers learn it, too", async () => {
  await json("train", at("data.tsv"), "-o", at("part.elb"), "--name", "fast", ...FAST, "--stop-after", "3");
  await json("train", at("data.tsv"), "-o", at("part.elb"), "--resume", at("part.elb"));
  expect(readFileSync(at("part.elb")).equals(readFileSync(at("fast.elb")))).toBe(true);
  await json("train", at("data.tsv"), "-o", at("two.wasm"), ...FAST, "--workers", "2");
  expect((await json("eval", at("two.wasm"), at("valid.tsv"))).accuracy).toBeGreaterThan(0.9);
});

test("the deployable answers as the f32 model, and says why", async () => {
  const quantized = await json("quantize", at("fast.elb"), "-o", at("fast.wasm"), "--data", at("data.tsv"));
  expect(quantized.form).toBe("int8");
  expect(quantized.agreement.top1).toBe(1);
  expect(quantized.tensors.map(({ name }: { name: string }) => name)).toEqual([
    "embedding/embeddings",
    ...["forward", "backward"].flatMap((side) => [`mingru/${side}/kernel`, `mingru/${side}/bias`]),
    "dense/kernel",
    "dense/bias",
  ]);
  expect((await json("eval", at("fast.wasm"), at("valid.tsv"))).accuracy).toBeGreaterThan(0.9);
  for (const file of ["fast.elb", "fast.wasm"]) {
    const { base, score, tokens } = await json("explain", at(file), "please light the hall");
    const sum = tokens.reduce((total: number, { share }: { share: number }) => total + share, base);
    expect(sum).toBeCloseTo(score, 4);
  }
});

test("it is pruned, and learns corrections", async () => {
  const pruned = await json("prune", at("fast.elb"), at("data.tsv"), "--valid", at("valid.tsv"), "-o", at("small.wasm"), "--units", "4"); // prettier-ignore
  expect(pruned).toMatchObject({ before: { units: [8] }, after: { units: [4] } });
  expect(pruned.after.accuracy).toBeGreaterThan(0.9);
  expect(await recurrent("small.wasm")).toMatchObject([{ kind: "mingru", output: 8 }]);
  const files = ["--corrections", at("fixes.tsv"), "--data", at("data.tsv"), "--valid", at("held.tsv")];
  const learned = await json("learn", at("fast.elb"), ...files, "--learning-rate", "0.01");
  expect(learned).toMatchObject({ accepted: true, after: { corrected: 4 } });
  expect(await recurrent("fast.elb")).toMatchObject([{ kind: "mingru", output: 16 }]);
});

test.each(["fast.keras", "fast.onnx"])("export to %s says why it cannot", async (name) => {
  const { code, stderr } = await edgelabel(["export", at("fast.elb"), "-o", at(name)]);
  expect([code, stderr.replaceAll(folder, "")]).toEqual([
    1,
    "edgelabel: /fast.elb: Keras and ONNX have no minGRU layer, which the recipe fast trains; train with the default recipe to export\n",
  ]);
  expect(existsSync(at(name))).toBe(false);
});
