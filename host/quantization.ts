// A trained model in the trainer -> its quantized file. int8 arithmetic unless it agrees
// too little with f32 on the given texts; then int8 weights with f32 arithmetic.
import { type Agreement, compare } from "./agreement.ts";
import { Classifier } from "./classifier.ts";
import { thinned } from "./dataset.ts";
import type { ModelInfo } from "./engine.ts";
import type { Distortion, ModelForm, Trainer } from "./trainer.ts";

/** Least share of equal labels for int8 arithmetic, unless the user says otherwise. */
export const MIN_AGREEMENT = 0.99;

/** Texts that the quantized model is compared on, at most. */
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
  /** Forms to try, best first; the last one is taken as it is. */
  forms?: readonly ModelForm[];
  /** A form that agrees too little and is passed over, or taken for want of another. */
  onWeak?(form: ModelForm, agreement: Agreement): void;
}

/** Texts to compare on. */
export function spreadTexts(samples: readonly { text: string }[]): string[] {
  return thinned(samples, MOST_TEXTS).map(({ text }) => text);
}

/** `source` names the model in errors. */
export async function quantize(trainer: Trainer, source: string, { texts, minAgreement, forms = ["int8", "int8-weights"], onWeak }: QuantizeOptions): Promise<Quantized> {
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
    return directions.flatMap((direction) => [`${direction}/kernel`, `${direction}/recurrent_kernel`, `${direction}/bias`]);
  });
}
