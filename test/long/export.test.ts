// Exported models, judged by Keras and onnxruntime: the same scores for the ids of real texts, and of
// texts without a token. And what Keras saves again is read back.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { exportModel } from "../../host/commands/export.ts";
import { readDataset } from "../../host/data/read.ts";
import {
  DEFAULT_RECIPE,
  prepareTraining,
  type RecipeOptions,
  runEpochs,
  TUTORIAL_RECIPE,
} from "../../host/training/recipe.ts";
import { Calibrator } from "../../host/training/calibrator.ts";
import { GOLDEN_MODELS, importGolden, openFile } from "../support/golden.ts";
import { putText, scoresOf } from "../support/models.ts";
import { buildSpec, importBack, SPECS } from "../support/exported.ts";
import { pad } from "../support/reference.ts";
import { sharedIsPresent, sharedPath } from "../support/shared.ts";
import { cachedKeras, fetchKeras } from "../tools/fetch-keras.mjs";
import { describeWith } from "./needs.ts";
import { isLong, size } from "./size.ts";

const CLOSE = 1e-5;
type Exported = Awaited<ReturnType<typeof exportModel>>;
const script = fileURLToPath(new URL("export.py", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-export-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Subject {
  name: string;
  elb: Uint8Array;
  texts: string[];
}

function textsOf(...sets: string[]): string[] {
  return sets.flatMap((set) =>
    readFileSync(sharedPath("data", set, "test.tsv"), "utf8")
      .split("\n")
      .slice(0, size(300, 60))
      .map((line) => line.split("\t")[1] ?? ""),
  );
}

async function train(set: string, recipe: RecipeOptions): Promise<Uint8Array> {
  const all = await readDataset([sharedPath("data", set, "train.tsv")]);
  // The file is sorted by label.
  const samples = all.filter((_, i) => i % Math.ceil(all.length / size(2000, 300)) === 0);
  const trainer = await prepareTraining(samples, [], recipe);
  trainer.start(recipe);
  runEpochs(trainer, recipe.epochs, false, {});
  return trainer.write("f32");
}

async function subjects(): Promise<Subject[]> {
  const words = ["light", "lamp rain", "", '7 7 7 lamp ü light rain 7 light a"b', "__proto__ rain", "none of these"];
  const made = await Promise.all(
    Object.keys(SPECS).map(async (name) => ({ name, elb: await buildSpec(name as keyof typeof SPECS), texts: words })),
  );
  if (!sharedIsPresent) return made;
  const golden = await Promise.all(
    GOLDEN_MODELS.map(async (name) => ({
      name,
      elb: await importGolden(name),
      texts: textsOf(name.includes("zh") ? "massive_zh" : "snips", "sms_spam"),
    })),
  );
  const tutorial = await train("sms_spam", { ...TUTORIAL_RECIPE, epochs: 3 });
  const calibrator = await Calibrator.open(
    await train("snips", { ...DEFAULT_RECIPE, linear: false, epochs: 3 }),
    "default",
  );
  calibrator.change(1.37, { score: 0, margin: 0, unknown_share: 1 });
  return [
    ...made,
    ...golden,
    { name: "tutorial", elb: tutorial, texts: textsOf("sms_spam", "snips") },
    { name: "default", elb: calibrator.file(), texts: textsOf("snips", "sms_spam") },
  ];
}

/** The padded ids of each text, and the engine's scores; words that are read by their n-grams are left out of a text. */
function reference(
  elb: Uint8Array,
  texts: readonly string[],
  info: Exported["info"],
): { ids: number[][]; scores: number[][] } {
  const wasm = openFile(elb);
  const { sequence_length: steps, padding, truncating, words } = info.tokenizer;
  const read = (text: string): number[] =>
    Array.from({ length: wasm["readText"](putText(wasm, text)) as number }, (_, i) =>
      wasm["readRowCount"](i) === 1 ? (wasm["readRow"](i, 0) as number) : Infinity,
    );
  const known = texts.map((text) =>
    info.tokenizer.ngram_buckets === 0
      ? text
      : text
          .split(" ")
          .filter((word) => read(word).every((id) => id <= words))
          .join(" "),
  );
  return {
    ids: known.map((text) =>
      pad(read(text), steps, { padding: padding === "post", truncating: truncating === "post" }).flat(),
    ),
    scores: known.map((text) => [...scoresOf(wasm, text)]),
  };
}

describeWith("Keras and onnxruntime", "Keras", isLong ? fetchKeras : cachedKeras, (packages) => {
  const models: (Subject & { folder: string; ids: number[][]; scores: number[][]; exported: Exported })[] = [];

  beforeAll(async () => {
    for (const subject of await subjects()) {
      const path = join(folder, subject.name);
      mkdirSync(path);
      const exported = await exportModel(subject.elb, subject.name, "model.keras");
      writeFileSync(join(path, "model.keras"), exported.network);
      writeFileSync(join(path, "model.onnx"), (await exportModel(subject.elb, subject.name, "model.onnx")).network);
      const { ids, scores } = reference(subject.elb, subject.texts, exported.info);
      writeFileSync(join(path, "tokenizer.json"), exported.tokenizer);
      writeFileSync(join(path, "texts.json"), JSON.stringify(subject.texts));
      writeFileSync(join(path, "ids.json"), JSON.stringify(ids));
      models.push({ ...subject, folder: path, ids, scores, exported });
    }
    execFileSync("python3", [script, ...models.map((model) => model.folder)], {
      env: { ...process.env, PYTHONPATH: packages },
      stdio: ["ignore", "ignore", "pipe"],
    });
  }, 600_000);

  const judged = (path: string) =>
    JSON.parse(readFileSync(join(path, "judged.json"), "utf8")) as Record<"keras" | "onnx" | "tokens", number[][]>;

  test.each(["keras", "onnx"] as const)("%s gives the scores of the engine", (judge) => {
    const worst = models.map(({ name, folder: path, scores }): [string, number] => {
      const found = judged(path)[judge];
      expect(found).toHaveLength(scores.length);
      const differences = found.flatMap((row, i) => {
        // In Keras one sigmoid output is the score of the second label.
        const expected = judge === "keras" && row.length === 1 ? scores[i]!.slice(1) : scores[i]!;
        expect(row).toHaveLength(expected.length);
        return row.map((score, k) => Math.abs(score - expected[k]!));
      });
      return [name, Math.max(...differences)];
    });
    process.stderr.write(`${judge}: ${worst.map(([name, by]) => `${name} ${by.toExponential(1)}`).join(", ")}\n`);
    // Not a number is not close either.
    expect(worst.filter(([, by]) => !(by <= CLOSE))).toEqual([]);
  });

  test("Keras' Tokenizer gives the ids of a model that reads texts as Keras does", () => {
    const plain = models.filter(({ exported: { info } }) => info.tokenizer.cleaning.length === 0);
    for (const { name, folder: path, ids, exported } of plain) {
      const { sequence_length: steps, padding, truncating } = exported.info.tokenizer;
      const found = judged(path).tokens.map((tokens) =>
        pad(tokens, steps, { padding: padding === "post", truncating: truncating === "post" }).flat(),
      );
      expect(found, name).toEqual(ids);
    }
    if (sharedIsPresent) expect(plain.map(({ name }) => name)).toContain("tutorial");
  });

  test("what Keras saves again is imported again, with the same weights", async () => {
    for (const { name, folder: path, exported } of models) {
      const network = new Uint8Array(readFileSync(join(path, "model-again.keras")));
      const [again, first] = [await importBack({ ...exported, network }, name), await importBack(exported, name)];
      expect(Buffer.compare(again, first), name).toBe(0);
    }
  });
});
