// A trained model in the trainer -> its quantized file: with int8 arithmetic, or, if its
// answers on the given texts differ too often from those of f32, with int8 weights and f32
// arithmetic.
import { Classifier, type Prediction } from "../model/classifier.ts";
import { thinned } from "../data/dataset.ts";
import { MOST_COMPARED } from "../data/survey.ts";
import type { ModelInfo } from "../model/engine.ts";
import type { Distortion, ModelForm, Trainer } from "./trainer.ts";

/** By default, int8 arithmetic is used if it gives at least this share of the labels of f32. */
export const MIN_AGREEMENT = 0.99;

/** How far the answers of two models agree on the same texts. */
export interface Agreement {
  n: number;
  /** Share of texts with the same label; of several labels, the share of those that a text gets from either model that it gets from both, like an F1. */
  top1: number;
  /** Largest difference of any label's score on any text. */
  largest_difference: number;
}

export interface Quantized {
  form: ModelForm;
  elb: Uint8Array;
  /** null when there were no texts to compare on. */
  agreement: Agreement | null;
}

export interface QuantizeOptions {
  texts: readonly string[];
  minAgreement: number;
  /** Forms to try, best first; the last one is used whatever its agreement. */
  forms?: readonly ModelForm[];
  /** Called for each form that agrees too little, the last one included. */
  onWeak?(form: ModelForm, agreement: Agreement): void;
}

/** Texts to compare on, evenly spread over the samples. */
export function spreadTexts(samples: readonly { text: string }[]): string[] {
  return thinned(samples, MOST_COMPARED).map(({ text }) => text);
}

/** `source` names the model in errors. */
export async function quantize(
  trainer: Trainer,
  source: string,
  { texts, minAgreement, forms = ["int8", "int8-weights"], onWeak }: QuantizeOptions,
): Promise<Quantized> {
  if (texts.length === 0) return { form: forms[0]!, elb: trainer.write(forms[0]!), agreement: null };
  const original = await Classifier.fromBytes(trainer.write("f32"), source);
  let result: Quantized;
  for (const form of forms) {
    const elb = trainer.write(form);
    const agreement = compare(original, await Classifier.fromBytes(elb, `${source} as ${form}`), texts);
    result = { form, elb, agreement };
    if (agreement.top1 >= minAgreement) break;
    onWeak?.(form, agreement);
  }
  return result!;
}

function compare(one: Classifier, other: Classifier, texts: readonly string[]): Agreement {
  let [same, all] = [0, 0];
  let largest = 0;
  for (const text of texts) {
    const a = one.classify(text, 0);
    const b = other.classify(text, 0);
    const [ours, theirs] = [namesOf(a), namesOf(b)];
    same += 2 * ours.filter((label) => theirs.includes(label)).length;
    all += ours.length + theirs.length;
    for (const [label, score] of Object.entries(a.scores))
      largest = Math.max(largest, Math.abs(score - (b.scores[label] ?? 0)));
  }
  return { n: texts.length, top1: all > 0 ? same / all : 1, largest_difference: largest };
}

function namesOf({ label, labels }: Prediction): (string | null)[] {
  return labels?.map((each) => each.label) ?? [label];
}

/** What int8 costs each tensor of the built model that `info` describes. */
export function distortions(trainer: Trainer, { layers }: ModelInfo): (Distortion & { name: string })[] {
  return tensorNames(layers).map((name, i) => ({ name, ...trainer.measure(i) }));
}

/** Keras' names in Keras' order; of several layers of a kind the later ones are numbered. */
function tensorNames(layers: ModelInfo["layers"]): string[] {
  const seen: Record<string, number> = {};
  return layers.flatMap(({ kind, bidirectional }) => {
    const count = (seen[kind] = (seen[kind] ?? 0) + 1);
    const layer = count === 1 ? kind : `${kind}_${count - 1}`;
    if (kind === "embedding") return [`${layer}/embeddings`];
    if (kind === "dense") return [`${layer}/kernel`, `${layer}/bias`];
    if (kind !== "lstm" && kind !== "mingru") return [];
    const directions = bidirectional ? [`${layer}/forward`, `${layer}/backward`] : [layer];
    return directions.flatMap((direction) => [
      `${direction}/kernel`,
      ...(kind === "lstm" ? [`${direction}/recurrent_kernel`] : []),
      `${direction}/bias`,
    ]);
  });
}
