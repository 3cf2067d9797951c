// What the page and the worker that trains say to each other.
import type { DataReport, EpochReport, Evaluation } from "../index.ts";

export interface Read {
  kind: "read";
  name: string;
  bytes: Uint8Array;
  textColumn?: string | undefined;
  labelColumn?: string | undefined;
}

export interface Choices {
  name: string;
  seed: number;
  /** Undefined: as many as suit the texts. */
  epochs: number | undefined;
  /** Share of the texts that is kept aside to measure on; 0: none. */
  aside: number;
  /** Share of the right answers that may be lost to a rule for unknown texts; 0: no rule. */
  unknown: number;
}

export type Job = Read | { kind: "train"; choices: Choices } | { kind: "stop" };

/** What the model answers to a text that it was not trained on. */
export interface Answered {
  line: number;
  text: string;
  /** Its label; or labels, if texts have several. */
  truth: readonly string[];
  /** None: rejected as unknown, or given no label. */
  answer: readonly string[];
  /** Of the best label. */
  score: number;
  isRight: boolean;
}

export interface Done {
  kind: "done";
  wasm: Uint8Array;
  elb: Uint8Array;
  /** Null if no texts were kept aside. */
  evaluation: Evaluation | null;
  answers: readonly Answered[];
  /** Texts of each label that were trained on. */
  counts: ReadonlyMap<string, number>;
  seconds: number;
  epochsLeft: number;
}

export type News =
  | { kind: "read"; report: DataReport; skipped: number }
  | { kind: "progress"; done: number; total: number }
  | { kind: "epoch"; report: EpochReport }
  | { kind: "note"; note: string }
  | Done
  | { kind: "failed"; message: string };
