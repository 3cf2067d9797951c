// A trained f32 model -> its int8 file, and how well the two agree on given texts. When
// the int8 form agrees too little, the form with int8 weights and float state is tried.
import { Classifier } from "./classifier.ts";
import type { Sample } from "./dataset.ts";
import type { ModelForm, Trainer } from "./trainer.ts";

/** Below this share of equal labels the int8 form is not used. */
export const MIN_AGREEMENT = 0.98;

export interface Agreement {
  texts: number;
  /** Share of texts that get the same label. */
  same_label: number;
  /** Over all texts and labels. */
  largest_score_difference: number;
  /** The texts that get another label. */
  changed: { text: string; f32: string; quantized: string }[];
}

export interface Quantized {
  elb: Uint8Array;
  form: "int8" | "int8-weights";
  agreement: Agreement | null;
}

export interface Refused {
  elb: null;
  /** Of the last form that was tried. */
  agreement: Agreement;
}

/** The smallest form that agrees on `minAgreement` of the samples; without samples the int8 form unseen. */
export async function quantize(trainer: Trainer, source: string, samples: readonly Sample[], minAgreement: number): Promise<Quantized | Refused> {
  if (samples.length === 0) return { elb: trainer.write("int8"), form: "int8", agreement: null };
  const reference = await Classifier.fromBytes(trainer.write("f32"), source);
  const attempt = async (form: ModelForm & Quantized["form"]): Promise<Quantized & { agreement: Agreement }> => {
    const elb = trainer.write(form);
    return { elb, form, agreement: compare(reference, await Classifier.fromBytes(elb, source), samples) };
  };
  const whole = await attempt("int8");
  if (whole.agreement.same_label >= minAgreement) return whole;
  const weights = await attempt("int8-weights");
  if (weights.agreement.same_label >= minAgreement) return weights;
  return { elb: null, agreement: weights.agreement };
}

export function compare(reference: Classifier, candidate: Classifier, samples: readonly Sample[]): Agreement {
  const changed: Agreement["changed"] = [];
  let largest = 0;
  for (const { text } of samples) {
    const expected = reference.classify(text, 0);
    const found = candidate.classify(text, 0);
    if (found.label !== expected.label) changed.push({ text, f32: expected.label, quantized: found.label });
    const scores = new Map(Object.entries(found.scores));
    for (const [label, score] of Object.entries(expected.scores)) largest = Math.max(largest, Math.abs(score - scores.get(label)!));
  }
  return {
    texts: samples.length,
    same_label: samples.length === 0 ? 1 : 1 - changed.length / samples.length,
    largest_score_difference: largest,
    changed,
  };
}

/** One line for people. */
export function renderAgreement({ texts, same_label: share, largest_score_difference: difference }: Agreement): string {
  return `same label as f32 on ${(share * 100).toFixed(2)} % of ${texts} texts, largest score difference ${difference.toFixed(4)}`;
}
