// Labelled texts as the library gets them -> samples.
import { type Sample, sampleDefect } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";

/** A text and the label that it should get. */
export interface LabelledText {
  text: string;
  label: string;
}

export type LabelledTexts = Iterable<LabelledText> | AsyncIterable<LabelledText>;

/** `what` names them in errors. Their numbers, from 1, stand for the lines of a file. */
export async function samplesOf(texts: LabelledTexts, what: string): Promise<Sample[]> {
  const samples: Sample[] = [];
  for await (const given of texts) {
    const { text, label } = (given ?? {}) as Partial<LabelledText>;
    const line = samples.length + 1;
    if (typeof text !== "string" || typeof label !== "string")
      throw new EdgelabelError(`${what}: number ${line} is not { text, label } with two strings`);
    const defect = sampleDefect(label, text);
    if (defect !== undefined) throw new EdgelabelError(`${what}: number ${line}: ${defect}`);
    samples.push({ text, label, line });
  }
  return samples;
}
