// The names of the library that are the same code everywhere; open() and train() depend on where it runs.
export { type DatasetOptions, parseDataset as parse } from "../data/dataset.ts";
export type { DataReport } from "../data/report.ts";
export { EdgelabelError } from "../errors.ts";
export type { Answer } from "../model/answer.ts";
export type { ModelInfo } from "../model/classifier.ts";
export type { Explanation, TokenShare } from "../model/explanation.ts";
export type { Evaluation } from "../report/evaluation.ts";
export type { Calibration } from "../training/calibration.ts";
export type { LearnReport } from "../training/learn.ts";
export type { Agreement } from "../training/quantization.ts";
export type { EpochReport } from "../training/recipe.ts";
export type { CrossValidation, FoldOptions } from "./folds.ts";
export { inspect } from "./inspect.ts";
export type { ClassifyOptions, Model, ModelSource } from "./model.ts";
export type { LabelledText, LabelledTexts } from "./samples.ts";
export type { RunSettings, TrainSettings } from "./settings.ts";
export type { Finished, Trained, TrainOptions } from "./train.ts";
export {
  calibrate,
  type CalibrateOptions,
  learn,
  type LearnOptions,
  type ModelBytes,
  pack,
  quantize,
  type QuantizeOptions,
  type QuantizeReport,
} from "./update.ts";
