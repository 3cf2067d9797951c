// The library in browsers and their workers: the names of host/index.ts, without files and threads.
import { EdgelabelError } from "../host/errors.ts";
import { type CrossValidation, crossValidate as runCrossValidation, type FoldOptions } from "../host/library/folds.ts";
import { fetchModel, type Model, type ModelSource, openModel } from "../host/library/model.ts";
import type { LabelledTexts } from "../host/library/samples.ts";
import { type StartWorkers, train as trainModel, type Trained, type TrainOptions } from "../host/library/train.ts";

export function open(source: ModelSource): Promise<Model> {
  return openModel(source, fetchModel);
}

/** Training takes the thread's time: call it in a worker, so that the page stays alive. */
export function train(texts: LabelledTexts, options: TrainOptions = {}): Promise<Trained> {
  return trainModel(texts, options, refuseWorkers);
}

export function crossValidate(texts: LabelledTexts, options: FoldOptions = {}): Promise<CrossValidation> {
  return runCrossValidation(texts, options, refuseWorkers);
}

const refuseWorkers: StartWorkers = async (trainer) => {
  if (trainer.workers() > 1) throw new EdgelabelError("a browser trains in one thread; leave workers out");
  return { stop: async () => {} };
};

export * from "../host/library/exports.ts";
