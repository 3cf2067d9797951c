// Labelled texts as the library gets them -> samples.
import { type Sample, sampleOf } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";

/** A text and the label that it should get, or all labels of one that may have several, or none. */
export type LabelledText =
  | { text: string; label: string; labels?: readonly string[] | undefined }
  | { text: string; label?: string; labels: readonly string[] };

export type LabelledTexts = Iterable<LabelledText> | AsyncIterable<LabelledText>;

/** `what` names them in errors. Their numbers, from 1, stand for the lines of a file. */
export async function samplesOf(texts: LabelledTexts, what: string): Promise<Sample[]> {
  const samples: Sample[] = [];
  for await (const given of texts) {
    const { text, label, labels } = (given ?? {}) as Partial<LabelledText>;
    const line = samples.length + 1;
    const found = labels ?? label;
    const isFit =
      typeof found === "string" || (Array.isArray(found) && found.every((each) => typeof each === "string"));
    if (typeof text !== "string" || !isFit)
      throw new EdgelabelError(`${what}: number ${line} is not { text, label } or { text, labels }`);
    const sample = sampleOf(found, text, line);
    if (typeof sample === "string") throw new EdgelabelError(`${what}: number ${line}: ${sample}`);
    samples.push(sample);
  }
  return samples;
}
