// The library in Node, Deno and Bun: `import { open, train } from "edgelabel"`. web/index.ts has the
// same names for browsers and their workers. docs/api.md has them with examples.
import { fileURLToPath } from "node:url";
import { type CrossValidation, crossValidate as runCrossValidation, type FoldOptions } from "./library/folds.ts";
import { fetchModel, type Model, type ModelSource, openModel } from "./library/model.ts";
import type { LabelledTexts } from "./library/samples.ts";
import { train as trainModel, type Trained, type TrainOptions } from "./library/train.ts";
import { readModelFile } from "./model/file.ts";
import { startWorkers } from "./training/workers.ts";

/** Opens a model file (.wasm or .elb): a path, a URL, a Response, a Blob or bytes. Code of the file is never run. Throws an EdgelabelError that says what is wrong with it. */
export function open(source: ModelSource): Promise<Model> {
  return openModel(source, (place) => {
    const url = place instanceof URL ? place : /^https?:\/\//.test(place) ? new URL(place) : undefined;
    if (url === undefined) return readModelFile(place as string);
    return url.protocol === "file:" ? readModelFile(fileURLToPath(url)) : fetchModel(url);
  });
}

/** Trains on labelled texts. The same texts, settings and seed give the same bytes as `edgelabel train`. Throws an EdgelabelError for texts or settings that do not fit. */
export function train(texts: LabelledTexts, options: TrainOptions = {}): Promise<Trained> {
  return trainModel(texts, options, startWorkers);
}

/** Measures what models of these texts and settings are worth, on texts that they were not trained on. */
export function crossValidate(texts: LabelledTexts, options: FoldOptions = {}): Promise<CrossValidation> {
  return runCrossValidation(texts, options, startWorkers);
}

export * from "./library/exports.ts";
