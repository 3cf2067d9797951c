// Texts -> predictions, for whoever asks: MQTT requests, routes and HTTP share the
// loaded models, one queue in front of them, and the counters behind them.
import type { Classifier, Prediction } from "../classifier.ts";
import { RequestError } from "./messages.ts";
import type { Metrics } from "./metrics.ts";
import { Queue } from "./queue.ts";

export type Model = Pick<Classifier, "version" | "labels" | "digest" | "classify">;

export interface Work {
  requester: string;
  /** "" means the default model. */
  model: string;
  texts: readonly (string | Uint8Array)[];
  bytes: number;
  topK?: number | undefined;
  /** Milliseconds since 1970. */
  expiresAt?: number | undefined;
}

export interface Outcome {
  name: string;
  model: Model;
  predictions: Prediction[];
}

/** Told of every text that a model has answered, or failed at by no fault of the text. */
export type Observer = (name: string, model: Model, failure: Error | undefined) => void;

export class Predictor {
  readonly queue: Queue;
  observer: Observer | undefined;
  private readonly byName: Map<string, Model>;
  private readonly metrics: Metrics;

  constructor(models: ReadonlyMap<string, Model>, capacity: { texts: number; bytes: number }, metrics: Metrics) {
    if (models.size === 0) throw new Error("a service needs a model");
    this.byName = new Map(models);
    this.queue = new Queue(capacity);
    this.metrics = metrics;
  }

  get models(): ReadonlyMap<string, Model> {
    return this.byName;
  }

  /** The first one. */
  get defaultModel(): string {
    return this.byName.keys().next().value!;
  }

  /** From now on requests for `name` go to `model`; those that wait keep the one they came for. */
  set(name: string, model: Model): void {
    this.byName.set(name, model);
  }

  remove(name: string): void {
    this.byName.delete(name);
  }

  /** The model of that name, "" being the default one. */
  model(name: string): { name: string; model: Model } {
    const wanted = name === "" ? this.defaultModel : name;
    const model = this.models.get(wanted);
    if (!model) throw new RequestError("unknown_model", `there is no such model here; the models are ${[...this.models.keys()].join(", ")}`);
    return { name: wanted, model };
  }

  /** Calls one of the two when the texts have had their turn; throws when there is no such model. */
  submit(work: Work, done: (outcome: Outcome) => void, failed: (error: RequestError) => void): void {
    const { name, model } = this.model(work.model);
    const predictions: Prediction[] = [];
    this.queue.offer({
      requester: work.requester,
      texts: work.texts.length,
      bytes: work.bytes,
      expiresAt: work.expiresAt ?? Infinity,
      step: () => {
        try {
          predictions.push(this.classify(name, model, work.texts[predictions.length]!, work.topK));
        } catch (error) {
          failed(requestErrorOf(error));
          return true;
        }
        if (predictions.length < work.texts.length) return false;
        done({ name, model, predictions });
        return true;
      },
      refuse: (why) => failed(why === "busy"
        ? new RequestError("busy", "too many requests wait here; try again later")
        : new RequestError("expired", "the time of the request was over before its turn came")),
    });
  }

  predict(work: Work): Promise<Outcome> {
    return new Promise((resolve, reject) => this.submit(work, resolve, reject));
  }

  private classify(name: string, model: Model, text: string | Uint8Array, top?: number): Prediction {
    const start = performance.now();
    try {
      const prediction = top === undefined ? model.classify(text) : model.classify(text, top);
      this.observer?.(name, model, undefined);
      return prediction;
    } catch (error) {
      if (requestErrorOf(error).code === "internal") this.observer?.(name, model, error as Error);
      throw error;
    } finally {
      this.metrics.classified(name, (performance.now() - start) / 1000);
    }
  }
}

/** Engine errors keep their meaning; anything else is `internal`, and says no more than its message. */
export function requestErrorOf(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  if ((error as { code?: unknown }).code === "text_too_long") return new RequestError("text_too_long", (error as Error).message);
  return new RequestError("internal", error instanceof Error ? error.message : "the engine failed");
}
