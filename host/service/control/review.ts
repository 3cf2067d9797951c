// Texts for people to label: a bounded queue of those that the models are least sure of, and of a few others by chance,
// since a model can be sure and wrong. Texts are private: they are kept in memory only, for some hours, and neither
// logged nor written anywhere. Labels that people give are corrections; they wait here, where they can be taken back,
// until they are learnt.
import { createHash } from "node:crypto";
import { sampleDefect, sampleOf } from "../../data/dataset.ts";
import type { Correction } from "../../data/journal.ts";
import { EdgelabelError } from "../../errors.ts";
import type { GivenLabel } from "../../model/answer.ts";
import type { Prediction } from "../../model/classifier.ts";

export interface ReviewSettings {
  /** How many texts wait at most. */
  texts: number;
  /** How long a text waits at most, labelled or not. */
  hours: number;
}

export const REVIEW_DEFAULTS: ReviewSettings = { texts: 200, hours: 24 };

/** A text that waits for a label. */
export interface Doubtful {
  id: number;
  text: string;
  model: string;
  /** What the model answered; null when it rejected the text. */
  label: string | null;
  score: number;
  /** All that it answered, if it gives several labels. */
  labels?: GivenLabel[] | undefined;
  /** From 0, certain, to 2. */
  doubt: number;
  /** Why it is asked for. */
  why: "unknown" | "uncertain" | "chance";
  /** Milliseconds since 1970. */
  at: number;
}

/** A text with the label, or labels, that somebody gave it; without a correction it was skipped. */
interface Judged {
  from: Doubtful;
  correction?: Correction | undefined;
}

type Labelled = Judged & { correction: Correction };

/** Scores from here on are certain. */
const CERTAIN = 0.9;
/** So often the next text is one that was taken by chance. */
const CHANCE_EVERY = 10;
/** Share of the queue for these. */
const CHANCE_SHARE = 0.1;
/** Longer texts are for no one to label by a key, and would take too much memory. */
const MOST_BYTES = 4_096;
/** Labels that wait to be learnt, with the last skips. */
const MOST_JUDGED = 1_000;
/** What `next` compares, since nothing is answered meanwhile: the most doubtful texts, the last judged ones, the first words of each. */
const COMPARED = { waiting: 200, judged: 100, words: 50 };
/** Texts that are not asked for again. */
const REMEMBERED = 10_000;
const HOUR_MS = 3_600_000;
const SWEEP_MS = 60_000;

export class Review {
  private readonly settings: ReviewSettings;
  private readonly now: () => number;
  private readonly random: () => number;
  private doubtful: Doubtful[] = [];
  private byChance: Doubtful[] = [];
  /** Oldest first. */
  private judged: Judged[] = [];
  /** Digests of texts that wait or were judged: alike ones are asked for once. */
  private readonly known = new Set<string>();
  private lastId = 0;
  /** Certain texts since `certainSince`. */
  private certain = 0;
  private certainSince: number;
  private readonly timer: NodeJS.Timeout;

  constructor(settings: ReviewSettings, now: () => number = Date.now, random: () => number = Math.random) {
    this.settings = settings;
    this.now = now;
    this.random = random;
    this.certainSince = now();
    this.timer = setInterval(() => this.sweep(), SWEEP_MS).unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Texts that wait for a label. */
  get waiting(): number {
    this.sweep();
    return this.doubtful.length + this.byChance.length;
  }

  /** Considers a text that a model has answered. */
  offer(model: string, given: string | Uint8Array, prediction: Prediction): void {
    const room = Math.ceil(this.settings.texts * CHANCE_SHARE);
    const { label, score, labels } = prediction;
    const doubt = doubtOf(prediction);
    const why = doubt <= 1 - CERTAIN ? "chance" : label === null ? "unknown" : "uncertain";
    // Any certain text has the same chance, however many come.
    if (why === "chance" && this.random() * ++this.certain >= room) return;
    // First what costs least, since these may come in floods.
    const isFull = why !== "chance" && this.doubtful.length >= Math.max(1, this.settings.texts - room);
    const surest = isFull ? this.doubtful.reduce((one, other) => (other.doubt < one.doubt ? other : one)) : null;
    if (surest && doubt <= surest.doubt) return;
    if (Buffer.byteLength(given) > MOST_BYTES) return;
    const text = typeof given === "string" ? given : Buffer.from(given).toString();
    const key = alikeKey(model, text);
    if (this.known.has(key) || sampleDefect(label ?? "?", text) !== undefined) return;
    this.sweep();
    const item: Doubtful = { id: ++this.lastId, text, model, label, score, labels, doubt, why, at: this.now() };
    if (why === "chance") {
      this.byChance.push(item);
      if (this.byChance.length > room) this.byChance.shift();
    } else {
      this.doubtful = this.doubtful.filter((each) => each !== surest);
      this.doubtful.push(item);
    }
    this.remember(key);
  }

  /** The texts to label next, at most `count`: doubtful ones that are unlike each other and unlike those that were labelled. */
  next(model: string, count: number): Doubtful[] {
    this.sweep();
    const done = this.judged.filter(({ from }) => from.model === model).map(({ from }) => from.text);
    const doubtful = this.doubtful
      .filter((each) => each.model === model)
      .sort((one, other) => other.doubt - one.doubt)
      .slice(0, COMPARED.waiting);
    const telling = mostTelling(doubtful, done.slice(-COMPARED.judged), count);
    const byChance = this.byChance.filter((each) => each.model === model);
    // A model is sure of these, so they would never have their turn.
    const isTurn = done.length % CHANCE_EVERY === CHANCE_EVERY - 1;
    const first = isTurn ? byChance.splice(0, 1) : [];
    return [...first, ...telling, ...byChance].slice(0, count);
  }

  /** Gives a text its label, or its list of labels if the model gives several; without any it is skipped. Throws an EdgelabelError when the text has gone, or too many labels wait. */
  judge(id: number, given?: string | readonly string[]): void {
    this.sweep();
    const from = [...this.doubtful, ...this.byChance].find((each) => each.id === id);
    if (!from)
      throw new EdgelabelError("this text no longer waits: somebody else has labelled it, or its time is over");
    const correction = given === undefined ? undefined : correctionOf(from, given);
    if (this.judged.length >= MOST_JUDGED) {
      const oldestSkip = this.judged.findIndex((each) => each.correction === undefined);
      if (oldestSkip < 0)
        throw new EdgelabelError(
          `${MOST_JUDGED} labels wait to be learnt: have the model learn, or export them and wait; each goes ${this.settings.hours} hours after its text came`,
        );
      this.judged.splice(oldestSkip, 1);
    }
    this.doubtful = this.doubtful.filter((each) => each !== from);
    this.byChance = this.byChance.filter((each) => each !== from);
    this.judged.push({ from, correction });
  }

  /** Takes the model's last label back, or its last skip; the text waits again. */
  undo(model: string): void {
    const last = this.judged.filter(({ from }) => from.model === model).at(-1);
    if (!last) throw new EdgelabelError("there is nothing to undo");
    this.judged = this.judged.filter((each) => each !== last);
    (last.from.why === "chance" ? this.byChance : this.doubtful).push(last.from);
  }

  /** Labels that wait to be learnt, oldest first. */
  corrections(model: string): Correction[] {
    this.sweep();
    return this.labelled(model).map(({ correction }) => correction);
  }

  /**
   * Gives the labels that wait to `keep`. While it runs, nobody can take them back or have them learnt twice; if it fails,
   * they wait again. Throws an EdgelabelError when none wait, and what `keep` throws.
   */
  async learn(model: string, keep: (corrections: Correction[]) => Promise<void>): Promise<void> {
    const corrections = this.corrections(model);
    if (corrections.length === 0) throw new EdgelabelError("no labels wait to be learnt");
    const taken = new Set<Judged>(this.labelled(model));
    this.judged = this.judged.filter((each) => !taken.has(each));
    try {
      await keep(corrections);
    } catch (error) {
      this.judged = [...taken, ...this.judged];
      throw error;
    }
  }

  private labelled(model: string): Labelled[] {
    return this.judged.filter((each): each is Labelled => each.from.model === model && each.correction !== undefined);
  }

  private sweep(): void {
    const oldest = this.now() - this.settings.hours * HOUR_MS;
    const isKept = ({ at }: Doubtful): boolean => at > oldest;
    if (this.certainSince <= oldest) [this.certain, this.certainSince] = [0, this.now()];
    this.doubtful = this.doubtful.filter(isKept);
    this.byChance = this.byChance.filter(isKept);
    this.judged = this.judged.filter(({ from }) => isKept(from));
  }

  private remember(key: string): void {
    this.known.add(key);
    if (this.known.size > REMEMBERED) this.known.delete(this.known.values().next().value!);
  }
}

/** Throws an EdgelabelError for what no text, or not this one, can have. */
function correctionOf(from: Doubtful, given: string | readonly string[]): Correction {
  if (typeof given === "object" && !from.labels)
    throw new EdgelabelError(`${from.model} gives one label a text: "label" must be a string`);
  const sample = sampleOf(from.labels ? [given].flat() : given, from.text, 1);
  if (typeof sample === "string") throw new EdgelabelError(sample);
  const { text, label, labels } = sample;
  return { text, label, labels };
}

/**
 * From 0, certain, to 2: rejected texts are more doubtful than all others. Of several labels, the least sure one counts; none
 * is an answer, too. Behind a parent, the best of its labels counts: their sum says nothing of the doubt between them.
 */
export function doubtOf({ label, score, labels, scores }: Prediction): number {
  if (labels) return labels.length > 0 ? 1 - labels.at(-1)!.score : score;
  // A model without levels may give no scores, and the best one is that of its label.
  const best = Object.values(scores).reduce((one, other) => Math.max(one, other), 0) || score;
  return (label === null ? 2 : 1) - best;
}

/** Texts that differ in case, numbers, punctuation and spaces only are alike. */
function alikeKey(model: string, text: string): string {
  return createHash("sha256")
    .update(`${model}\0${wordsOf(text).join(" ")}`)
    .digest("base64");
}

function wordsOf(text: string): string[] {
  const words = text
    .toLowerCase()
    .replace(/\p{N}+/gu, "0")
    .match(/[\p{L}\p{M}0]+/gu);
  // Of emoji or punctuation only.
  return words ?? [text];
}

/**
 * Those of the texts whose labels would teach a model most, at most `count`, the best first: each time the one with the
 * largest doubt x (1 - likeness), where likeness is the largest Jaccard index of its words with those of a text that was
 * chosen before or is in `done`. bench/labelling.mjs measures it.
 */
export function mostTelling<T extends Pick<Doubtful, "text" | "doubt">>(
  texts: readonly T[],
  done: readonly string[],
  count: number,
): T[] {
  const firstWords = (text: string): ReadonlySet<string> => new Set(wordsOf(text).slice(0, COMPARED.words));
  const left = texts.map((item) => ({ item, words: firstWords(item.text), likeness: 0 }));
  const compare = (words: ReadonlySet<string>): void => {
    for (const each of left) each.likeness = Math.max(each.likeness, jaccard(each.words, words));
  };
  for (const text of done) compare(firstWords(text));
  const chosen: T[] = [];
  const value = ({ item, likeness }: (typeof left)[0]): number => item.doubt * (1 - likeness);
  while (chosen.length < count && left.length > 0) {
    const best = left.reduce((one, other) => (value(other) > value(one) ? other : one));
    left.splice(left.indexOf(best), 1);
    chosen.push(best.item);
    compare(best.words);
  }
  return chosen;
}

function jaccard(one: ReadonlySet<string>, other: ReadonlySet<string>): number {
  let common = 0;
  for (const word of one) if (other.has(word)) common++;
  return common / (one.size + other.size - common);
}
