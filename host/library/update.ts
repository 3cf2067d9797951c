// What changes a trained model: calibration, quantization, learning from corrections. Bytes of model files in, bytes out.
import { Classifier } from "../model/classifier.ts";
import { isWasm, unpackModel } from "../model/container.ts";
import { packModel } from "../model/pack.ts";
import { calibrate as calibrateModel, type Calibration } from "../training/calibration.ts";
import {
  learn as learnCorrections,
  LEARN_DEFAULTS,
  type LearnOptions as Learning,
  type LearnReport,
} from "../training/learn.ts";
import { type Agreement, distortions, MIN_AGREEMENT, quantize as quantizeModel } from "../training/quantization.ts";
import { type Distortion, type ModelForm, Trainer } from "../training/trainer.ts";
import { type LabelledTexts, samplesOf } from "./samples.ts";
import { weak } from "./train.ts";

/** A model file, made by edgelabel: .elb or .wasm. */
export type ModelBytes = Uint8Array;

interface SourceOptions {
  /** Names the model in errors. Default: "model". */
  source?: string | undefined;
}

export interface CalibrateOptions extends SourceOptions {
  /** Also makes a rule for unknown texts, which rejects at most this share of the right answers, 0 to below 1. */
  unknown?: number | undefined;
  /** Of labels such as `a/b/c`: where the best one's score is below this, 0 to 1, the answer is the nearest parent that reaches it. Default: 0, never. */
  levels?: number | undefined;
}

/** The model, of the same kind as it was given, with scores that mean what they say; `texts` are labelled ones that it was not trained on. */
export async function calibrate(
  model: ModelBytes,
  texts: LabelledTexts,
  { unknown, levels, source = "model" }: CalibrateOptions = {},
): Promise<{ model: ModelBytes; report: Calibration }> {
  const { elb, calibration } = await calibrateModel(elbOf(model, source), await samplesOf(texts, "texts"), {
    unknownShare: unknown,
    levels,
    source,
  });
  return { model: isWasm(model) ? await packModel(elb) : elb, report: calibration };
}

export interface QuantizeOptions extends SourceOptions {
  /** Texts to compare both models on. */
  texts?: Iterable<string> | undefined;
  /** If fewer than this share of `texts` get the same label, the arithmetic stays f32. Default: 0.99. */
  minAgreement?: number | undefined;
  /** int8 weights with f32 arithmetic, whatever the agreement. */
  weightOnly?: boolean | undefined;
  /** Told, in a sentence, of a form that agrees too little. */
  onNote?: ((note: string) => void) | undefined;
}

export interface QuantizeReport {
  form: ModelForm;
  /** null when there were no texts to compare on. */
  agreement: Agreement | null;
  /** What int8 costs each tensor. */
  tensors: (Distortion & { name: string })[];
}

/** An f32 model -> the same with int8 weights, as an .elb. */
export async function quantize(
  model: ModelBytes,
  { texts = [], minAgreement = MIN_AGREEMENT, weightOnly = false, source = "model", onNote }: QuantizeOptions = {},
): Promise<{ model: ModelBytes; report: QuantizeReport }> {
  const original = elbOf(model, source);
  const trainer = await Trainer.open(original, source);
  trainer.buildOpened();
  const { form, elb, agreement } = await quantizeModel(trainer, source, {
    texts: [...texts],
    minAgreement,
    forms: weightOnly ? ["int8-weights"] : ["int8", "int8-weights"],
    onWeak: (form, { top1 }) => onNote?.(weak(form, top1, minAgreement)),
  });
  const { info } = await Classifier.fromBytes(original, source);
  return { model: elb, report: { form, agreement, tensors: distortions(trainer, info) } };
}

export interface LearnOptions extends Partial<Learning>, SourceOptions {
  /** Texts with the labels that the model should have given, oldest first. */
  corrections: LabelledTexts;
  /** What it was trained on; some of them are rehearsed. */
  data: LabelledTexts;
  /** The hold-out: labelled texts that are not in `data`. */
  valid: LabelledTexts;
  /** Called with the epochs done, fractions included, and their total. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/** The next version of a model, if it learnt corrections and is not worse on the hold-out; null when the old one stays, for the reason in the report. */
export async function learn(
  elb: ModelBytes,
  { corrections, data, valid, onProgress, source = "model", ...options }: LearnOptions,
): Promise<{ report: LearnReport; elb: ModelBytes | null; wasm: ModelBytes | null }> {
  const { report, model } = await learnCorrections(
    {
      elb: elbOf(elb, source),
      source,
      corrections: await samplesOf(corrections, "corrections"),
      data: await samplesOf(data, "data"),
      validation: await samplesOf(valid, "valid"),
    },
    { ...LEARN_DEFAULTS, ...options },
    onProgress,
  );
  return { report, elb: model?.training ?? null, wasm: model ? await packModel(model.deployed) : null };
}

/** The deployable of a model, without the state to resume training, which is several times as large and of no use there. */
export async function pack(model: ModelBytes, { source = "model" }: SourceOptions = {}): Promise<ModelBytes> {
  const elb = elbOf(model, source);
  const { info } = await Classifier.fromBytes(elb, source);
  return packModel(info.resumable ? await withoutState(elb, source) : elb);
}

/** An f32 .elb without the state to resume training. */
export async function withoutState(elb: Uint8Array, source: string): Promise<Uint8Array> {
  const trainer = await Trainer.open(elb, source);
  trainer.buildOpened();
  return trainer.write("f32");
}

function elbOf(model: ModelBytes, source: string): Uint8Array {
  return isWasm(model) ? unpackModel(model, source) : model;
}
