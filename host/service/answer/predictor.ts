// Texts -> predictions, for MQTT requests, routes and HTTP alike, which share the loaded
// models, one queue in front of them, and the counters behind them. An explanation takes
// dozens of forward passes, each of which is a turn of its own in the queue.
import { MAX_PIECES } from "../../../assembly/abi.ts";
import { listed } from "../../errors.ts";
import type { Prediction } from "../../model/classifier.ts";
import type { ModelFile } from "../../model/file.ts";
import type { Explanation } from "../../model/explanation.ts";
import { RequestError } from "./messages.ts";
import type { ExplainedPrediction } from "./messages.ts";
import type { Metrics } from "../metrics.ts";
import { Queue } from "./queue.ts";
import { RateLimit, shortName } from "./rate.ts";

export type Model = Pick<ModelFile, "version" | "labels" | "isMultiLabel" | "digest" | "classify" | "explaining">;

export interface Work {
  requester: string;
  /** "" means the default model. */
  model: string;
  texts: readonly (string | Uint8Array)[];
  bytes: number;
  topK?: number | undefined;
  /** Whether to explain which tokens led to the labels, or to the one that is named. */
  explain?: boolean | string | undefined;
  /** By performance.now(). */
  expiresAt?: number | undefined;
  /** The service's own work, whose texts are nobody's to review. */
  isOwn?: boolean | undefined;
}

export interface Outcome {
  name: string;
  model: Model;
  predictions: ExplainedPrediction[];
}

/** Created once: refusals come in floods, and creating an Error would double their cost. */
const refusals = {
  busy: new RequestError("busy", "too many requests wait here; try again later", 1),
  expired: new RequestError("expired", "the time of the request was over before its turn came"),
  noModel: new RequestError("no_model", "no model is installed here yet; try again when one is", 10),
};

/** Called for every text that a model has answered, or failed to answer through no fault of the text. */
export type Observer = (name: string, model: Model, failure: Error | undefined) => void;

/** Called for every text of a requester that a model has answered, if somebody is to review such texts. */
export type Reviewer = (name: string, text: string | Uint8Array, prediction: Prediction) => void;

export class Predictor {
  readonly queue: Queue;
  observer: Observer | undefined;
  reviewer: Reviewer | undefined;
  private readonly byName: Map<string, Model>;
  private readonly metrics: Metrics;
  private readonly rate: RateLimit;
  /** Models that are explaining a text: each can explain only one at a time. */
  private readonly explaining = new Set<Model>();

  constructor(
    models: ReadonlyMap<string, Model>,
    limits: { texts: number; bytes: number; textsPerSecond?: number | undefined; requesters: number },
    metrics: Metrics,
  ) {
    this.byName = new Map(models);
    this.queue = new Queue(limits);
    this.rate = new RateLimit({ textsPerSecond: limits.textsPerSecond ?? Infinity, requesters: limits.requesters });
    this.metrics = metrics;
  }

  get models(): ReadonlyMap<string, Model> {
    return this.byName;
  }

  /** Name of the first model; "" while there is none. */
  get defaultModel(): string {
    return this.byName.keys().next().value ?? "";
  }

  /** From now on, requests for `name` go to `model`; waiting requests keep the old one. */
  set(name: string, model: Model): void {
    this.byName.set(name, model);
  }

  remove(name: string): void {
    this.byName.delete(name);
  }

  /** The model of that name, or the default one for "". Throws a RequestError. */
  model(name: string): { name: string; model: Model } {
    if (this.models.size === 0) throw refusals.noModel;
    const wanted = name === "" ? this.defaultModel : name;
    const model = this.models.get(wanted);
    if (!model)
      throw new RequestError(
        "unknown_model",
        `there is no such model here; the models are ${[...this.models.keys()].join(", ")}`,
      );
    return { name: wanted, model };
  }

  /** Queues the texts, then calls `done` with all predictions, or `failed`, possibly at once. Also calls `failed` if `done` throws. `failed` must not throw. */
  submit(given: Work, done: (outcome: Outcome) => void, failed: (error: RequestError) => void): void {
    try {
      const work = { ...given, requester: shortName(given.requester) };
      const model = this.model(work.model);
      const { explain } = work;
      if (typeof explain === "string" && !model.model.labels.includes(explain))
        throw new RequestError(
          "bad_request",
          `"explain" names a label that the model lacks; its labels are ${listed(model.model.labels)}`,
        );
      const waitMs = this.rate.take(work.requester, work.texts.length);
      if (waitMs > 0)
        throw new RequestError(
          "rate",
          "more texts a second than one requester may send here; try again later",
          Math.ceil(waitMs / 1000),
        );
      this.enqueue(work, model, done, failed);
    } catch (error) {
      failed(requestErrorOf(error));
    }
  }

  private enqueue(
    work: Work,
    { name, model }: { name: string; model: Model },
    done: (outcome: Outcome) => void,
    failed: (error: RequestError) => void,
  ): void {
    const predictions: ExplainedPrediction[] = [];
    const isExplained = work.explain !== undefined && work.explain !== false;
    let explanation: Generator<undefined, Explanation> | undefined;
    const release = (): void => {
      if (explanation) this.explaining.delete(model);
      explanation = undefined;
    };
    /** Does at most one forward pass. Returns true when the text is done, undefined when it must wait for another text's explanation. */
    const pass = (text: string | Uint8Array): boolean | undefined => {
      if (!explanation) {
        if (isExplained && this.explaining.has(model)) return undefined;
        const prediction = this.classify(name, model, text, work.topK);
        predictions.push(prediction);
        if (this.reviewer && !work.isOwn) this.reviewer(name, text, prediction);
        if (!isExplained) return true;
        explanation = model.explaining(text, typeof work.explain === "string" ? work.explain : undefined);
        this.explaining.add(model);
        return false;
      }
      const step = explanation.next();
      if (!step.done) return false;
      predictions.at(-1)!.explanation = step.value;
      this.metrics.explanations.inc({ model: name });
      release();
      return true;
    };
    let textsDone = 0;
    this.queue.offer({
      requester: this.rate.lineOf(work.requester),
      texts: isExplained ? work.texts.reduce((sum, text) => sum + passesOf(text), 0) : work.texts.length,
      bytes: work.bytes,
      isModest: isExplained,
      expiresAt: work.expiresAt ?? Infinity,
      step: () => {
        try {
          const isDone = pass(work.texts[textsDone]!);
          if (!isDone) return isDone;
          if (++textsDone < work.texts.length) return false;
          done({ name, model, predictions });
        } catch (error) {
          release();
          failed(requestErrorOf(error));
        }
        return true;
      },
      refuse: (why) => {
        release();
        failed(refusals[why]);
      },
    });
  }

  predict(work: Work): Promise<Outcome> {
    return new Promise((resolve, reject) => this.submit(work, resolve, reject));
  }

  private classify(name: string, model: Model, text: string | Uint8Array, top?: number): Prediction {
    const start = performance.now();
    try {
      const prediction = model.classify(text, top);
      this.observer?.(name, model, undefined);
      if (prediction.label === null) this.metrics.unknown.inc({ model: name });
      return prediction;
    } catch (error) {
      if (requestErrorOf(error).code === "internal") this.observer?.(name, model, error as Error);
      throw error;
    } finally {
      this.metrics.classified(name, (performance.now() - start) / 1000);
    }
  }
}

/** Upper bound of the forward passes for explaining a text: 1 + 2 per token; tokens <= bytes. */
function passesOf(text: string | Uint8Array): number {
  return 1 + 2 * Math.min(MAX_PIECES, Buffer.byteLength(text));
}

/** The error that a requester gets: `text_too_long`, a RequestError as it is, or `internal` for everything else. */
export function requestErrorOf(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  if ((error as { code?: unknown }).code === "text_too_long")
    return new RequestError("text_too_long", (error as Error).message);
  // The message of a trap names the model's file, which only concerns the operator.
  if ((error as { code?: unknown }).code === "trap")
    return new RequestError("internal", "the engine broke down at this text");
  return new RequestError("internal", error instanceof Error ? error.message : "the engine failed");
}
