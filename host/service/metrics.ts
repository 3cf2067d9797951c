// The counters of a service, in Prometheus' text format. Label values are from fixed sets and model
// names: nothing that a requester sends becomes a series.
import { Counter, Gauge, Histogram, Registry } from "prom-client";

export class Metrics {
  readonly registry = new Registry();
  private readonly registers = [this.registry];

  readonly requests = new Counter({
    name: "edgelabel_requests_total",
    help: "Requests received.",
    labelNames: ["transport"],
    registers: this.registers,
  });
  readonly texts = new Counter({
    name: "edgelabel_texts_total",
    help: "Texts classified.",
    labelNames: ["model"],
    registers: this.registers,
  });
  readonly unknown = new Counter({
    name: "edgelabel_unknown_total",
    help: "Texts that fit none of the model's labels.",
    labelNames: ["model"],
    registers: this.registers,
  });
  readonly explanations = new Counter({
    name: "edgelabel_explanations_total",
    help: "Texts explained.",
    labelNames: ["model"],
    registers: this.registers,
  });
  readonly errors = new Counter({
    name: "edgelabel_errors_total",
    help: "Requests answered with an error.",
    labelNames: ["code"],
    registers: this.registers,
  });
  readonly ignored = new Counter({
    name: "edgelabel_ignored_total",
    help: "Requests that got no answer at all.",
    labelNames: ["reason"],
    registers: this.registers,
  });
  readonly duplicates = new Counter({
    name: "edgelabel_duplicates_total",
    help: "Requests that got the answer of an earlier one.",
    registers: this.registers,
  });
  readonly answers = new Counter({
    name: "edgelabel_answers_total",
    help: "Answers over MQTT, by what became of them.",
    labelNames: ["fate"],
    registers: this.registers,
  });
  readonly connects = new Counter({
    name: "edgelabel_broker_connects_total",
    help: "Connections to the broker.",
    registers: this.registers,
  });
  readonly connected = new Gauge({
    name: "edgelabel_broker_connected",
    help: "1 while connected to the broker and subscribed.",
    registers: this.registers,
  });
  readonly routed = new Counter({
    name: "edgelabel_routed_total",
    help: "Messages of routes, by what became of them.",
    labelNames: ["route", "outcome"],
    registers: this.registers,
  });
  readonly commands = new Counter({
    name: "edgelabel_commands_total",
    help: "Commands over MQTT, by how they ended.",
    labelNames: ["verb", "status"],
    registers: this.registers,
  });
  readonly modelInfo = new Gauge({
    name: "edgelabel_model_info",
    help: "1 for every model that is served.",
    labelNames: ["model", "version", "digest"],
    registers: this.registers,
  });
  readonly modelChanges = new Counter({
    name: "edgelabel_model_changes_total",
    help: "Models that took the place of others while the service ran.",
    labelNames: ["model"],
    registers: this.registers,
  });
  readonly modelFailures = new Counter({
    name: "edgelabel_model_failures_total",
    help: "Versions that the registry took out of service because they failed.",
    labelNames: ["model"],
    registers: this.registers,
  });
  readonly duration = new Histogram({
    name: "edgelabel_classify_seconds",
    help: "Time to classify one text.",
    labelNames: ["model"],
    buckets: [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1],
    registers: this.registers,
  });

  readonly answerSeconds = new Histogram({
    name: "edgelabel_answer_seconds",
    help: "Time from a request's arrival to its answer being handed to the broker's connection, or to the HTTP client.",
    labelNames: ["transport"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    registers: this.registers,
  });

  constructor() {
    // By the names that all of Prometheus' clients give them.
    const startSeconds = Date.now() / 1000 - process.uptime();
    this.gauge(
      "process_start_time_seconds",
      "When the process was started, in seconds since 1970.",
      () => startSeconds,
    );
    this.gauge("process_resident_memory_bytes", "Memory that the process takes.", () => process.memoryUsage.rss());
  }

  /** Counts a text. */
  classified(model: string, seconds: number): void {
    this.texts.inc({ model });
    this.duration.observe({ model }, seconds);
  }

  /** Totals since the start, for a small message. */
  async figures(): Promise<Record<string, number>> {
    const sum = async (metric: Counter<string>) =>
      (await metric.get()).values.reduce((total, { value }) => total + value, 0);
    return {
      uptime_seconds: Math.round(process.uptime()),
      requests: await sum(this.requests),
      texts: await sum(this.texts),
      errors: await sum(this.errors),
      ignored: await sum(this.ignored),
    };
  }

  /** Everything, as /metrics shows it. */
  text(): Promise<string> {
    return this.registry.metrics();
  }

  /** A value that is read when it is asked for. */
  gauge(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers: this.registers,
      collect() {
        this.set(value());
      },
    });
  }

  /** A counter that is kept elsewhere. */
  counter(name: string, help: string, count: () => number): void {
    new Counter({
      name,
      help,
      registers: this.registers,
      collect() {
        this.reset();
        this.inc(count());
      },
    });
  }
}
