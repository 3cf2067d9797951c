// Labelled texts, in memory or in files, that are read several times from the beginning, and what the first time shows of
// them. Nothing here grows with their number.
import { MAX_LABELS } from "../../assembly/abi.ts";
import { EdgelabelError } from "../errors.ts";
import { detached } from "../text.ts";
import { labelsOfSample, type Sample } from "./dataset.ts";

/** Labelled texts that are read part by part, from the beginning each time. */
export interface SampleParts {
  read(): AsyncIterable<readonly Sample[]>;
}

export type Samples = readonly Sample[] | SampleParts;

/** So many texts tell whether two forms of a model agree; more would only be slower. */
export const MOST_COMPARED = 2000;
/** Whoever has more labels has taken texts for labels; they are not counted to the end. */
const MOST_LABELS = 1 << 20;

export function partsOf(samples: Samples): Iterable<readonly Sample[]> | AsyncIterable<readonly Sample[]> {
  return "read" in samples ? samples.read() : [samples];
}

/** Figures of labelled texts. */
export class LabelFigures {
  texts = 0;
  /** Texts of each label. */
  readonly labels = new Map<string, number>();
  /** Label of the first text. */
  first: string | undefined;
  /** Texts have several labels, or none. */
  isMultiLabel = false;
  readonly #different = new Set<string>();
  readonly #most: number;

  /** `most`: as soon as there are more different texts, they are no longer counted. */
  constructor(most = Infinity) {
    this.#most = most;
  }

  add(sample: Pick<Sample, "label" | "labels" | "text">): void {
    this.texts++;
    this.first ??= detached(sample.label);
    this.isMultiLabel ||= sample.labels !== undefined;
    for (const label of labelsOfSample(sample)) {
      const count = this.labels.get(label);
      if (count !== undefined) this.labels.set(label, count + 1);
      else if (this.labels.size < MOST_LABELS) this.labels.set(detached(label), 1);
    }
    if (this.#different.size <= this.#most) this.#different.add(sample.text);
  }

  /** Number of different texts; Infinity when it is above `most`. */
  get different(): number {
    return this.#different.size > this.#most ? Infinity : this.#different.size;
  }
}

export class Survey {
  readonly figures = new LabelFigures(MAX_LABELS);
  /** How many of the texts sought are among the samples. */
  seen = 0;
  /** Some of the texts, evenly spread, once they have been read twice. */
  readonly spread: string[] = [];
  readonly #samples: Samples;
  readonly #sought: Map<string, number>;
  #times = 0;

  /** `sought`: texts that might be among the samples, too. */
  constructor(samples: Samples, sought: readonly Pick<Sample, "text">[] = []) {
    this.#samples = samples;
    this.#sought = new Map();
    for (const { text } of sought) this.#sought.set(text, (this.#sought.get(text) ?? 0) + 1);
  }

  /** In the order of classes, which does not depend on that of the texts. */
  labels(): string[] {
    return [...this.figures.labels.keys()].sort();
  }

  async *read(): AsyncGenerator<readonly Sample[]> {
    const time = this.#times++;
    let read = 0;
    for await (const part of partsOf(this.#samples)) {
      for (const sample of part) {
        if (time === 0) this.#look(sample);
        else this.#check(sample, read, time);
        read++;
      }
      yield part;
    }
    if (read !== this.figures.texts) throw changed();
  }

  #look(sample: Sample): void {
    this.figures.add(sample);
    this.seen += this.#sought.get(sample.text) ?? 0;
    this.#sought.delete(sample.text);
  }

  #check(sample: Sample, index: number, time: number): void {
    const { texts, labels } = this.figures;
    if (index >= texts || !labelsOfSample(sample).every((label) => labels.has(label))) throw changed();
    const step = Math.max(1, texts / MOST_COMPARED);
    if (time === 1 && index === Math.floor(this.spread.length * step)) this.spread.push(detached(sample.text));
  }
}

function changed(): EdgelabelError {
  return new EdgelabelError("the data has changed while it was read; train again");
}
