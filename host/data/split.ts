// Labelled texts -> parts of given shares, such as training and validation texts: each label has about its share in each
// part, a text that occurs several times is in one part only, and the same seed gives the same parts.
import { EdgelabelError } from "../errors.ts";
import { isMultiLabel, labelsOf, labelsOfSample, type Sample } from "./dataset.ts";

/** Of the texts that are kept aside, and of folds. */
export const SPLIT_SEED = 1;

/** `shares` add up to 1 or less; what is left over is in no part. The samples of a part keep their order. */
export function split(samples: readonly Sample[], shares: readonly number[], seed: number): Sample[][] {
  const partOf = new Map<string, number>();
  for (const texts of textsByLabel(samples).values()) {
    shuffle(texts, seed);
    let start = 0;
    let sum = 0;
    shares.forEach((share, part) => {
      sum += share;
      const end = Math.min(texts.length, Math.round(sum * texts.length));
      for (; start < end; start++) partOf.set(texts[start]!, part);
    });
  }
  const parts: Sample[][] = shares.map(() => []);
  for (const sample of samples) parts[partOf.get(sample.text) ?? -1]?.push(sample);
  return parts;
}

/** The texts to train on, and a share of them to validate on; always the same ones, so that runs with other seeds or settings can be compared. */
export function keptAside(samples: readonly Sample[], share: number): [Sample[], Sample[]] {
  const [training, validation] = split(samples, [1 - share, share], SPLIT_SEED);
  if (isMultiLabel(samples)) {
    // A model cannot be asked for a label that it has not seen.
    const known = new Set(labelsOf(training!));
    const isStrange = (sample: Sample): boolean => !labelsOfSample(sample).every((label) => known.has(label));
    const moved = new Set(validation!.filter(isStrange));
    return keepsBoth(
      [...training!, ...moved],
      validation!.filter((sample) => !moved.has(sample)),
      samples.length,
      share,
    );
  }
  return keepsBoth(training!, validation!, samples.length, share);
}

function keepsBoth(training: Sample[], validation: Sample[], texts: number, share: number): [Sample[], Sample[]] {
  if (validation.length === 0 || training.length === 0)
    throw new EdgelabelError(
      `${texts} texts are too few to keep ${100 * share} % of them for validation; take another share`,
    );
  return [training, validation];
}

/** The distinct texts, under the label that each has first; of several labels under the rarest, so that this one is in all parts. */
function textsByLabel(samples: readonly Sample[]): Map<string, string[]> {
  const seen = new Set<string>();
  const texts = new Map<string, string[]>();
  const counts = new Map<string, number>();
  for (const sample of samples)
    for (const label of labelsOfSample(sample)) counts.set(label, (counts.get(label) ?? 0) + 1);
  for (const { label: sole, labels, text } of samples) {
    if (seen.has(text)) continue;
    seen.add(text);
    const label =
      labels?.reduce((rarest, each) => (counts.get(each)! < (counts.get(rarest) ?? Infinity) ? each : rarest), "") ??
      sole;
    if (!texts.has(label)) texts.set(label, []);
    texts.get(label)!.push(text);
  }
  return texts;
}

/** Fisher and Yates' shuffle, by numbers of Steele's SplitMix32. */
function shuffle(items: unknown[], seed: number): void {
  let state = seed >>> 0;
  const below = (limit: number): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let bits = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
    return ((bits ^ (bits >>> 15)) >>> 0) % limit;
  };
  for (let i = items.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}
