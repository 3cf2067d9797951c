// A trained model in the trainer -> its quantized file: with int8 arithmetic, or, if its
// answers on the given texts differ too often from those of f32, with int8 weights and f32
// arithmetic.
import { type Agreement, compare } from "./agreement.ts";
import { Classifier } from "../model/classifier.ts";
import { thinned } from "../data/dataset.ts";
import type { ModelInfo } from "../model/engine.ts";
import type { Distortion, ModelForm, Trainer } from "./trainer.ts";

/** Default of the smallest share of equal labels with which int8 arithmetic is taken. */
export const MIN_AGREEMENT = 0.99;

/** Largest number of texts on which the quantized model is compared. */
const MOST_TEXTS = 2000;

export interface Quantized {
  form: ModelForm;
  elb: Uint8Array;
  /** null when there were no texts to compare on. */
  agreement: Agreement | null;
}

export interface QuantizeOptions {
  texts: readonly string[];
  minAgreement: number;
  /** Forms to try, best first; the last one is taken whatever its agreement. */
  forms?: readonly ModelForm[];
  /** Called for each form that agrees too little, also for the last one. */
  onWeak?(form: ModelForm, agreement: Agreement): void;
}

/** Texts to compare on, evenly spread over the samples. */
export function spreadTexts(samples: readonly { text: string }[]): string[] {
  return thinned(samples, MOST_TEXTS).map(({ text }) => text);
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
    if (kind !== "lstm") return [];
    const directions = bidirectional ? [`${layer}/forward`, `${layer}/backward`] : [layer];
    return directions.flatMap((direction) => [
      `${direction}/kernel`,
      `${direction}/recurrent_kernel`,
      `${direction}/bias`,
    ]);
  });
}
