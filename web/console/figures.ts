// Prometheus' text -> the figures that the console shows: what happened between two readings of /metrics.

/** Values by name and labels, as a line of /metrics has them. */
export type Metrics = ReadonlyMap<string, number>;

export interface Reading {
  /** When it was read, in ms. */
  at: number;
  metrics: Metrics;
}

/** What happened between two readings; undefined where nothing did that it could be told from. */
export interface Figures {
  at: number;
  textsPerSecond: number;
  errorsPerSecond: number;
  ignoredPerSecond: number;
  /** Upper bounds in ms of the times in which half, and 95 %, of the answers were given. */
  median: number | undefined;
  p95: number | undefined;
  /** Share of the texts that a model's rule rejected. */
  unknown: number | undefined;
}

export function parseMetrics(text: string): Metrics {
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    // Label values may hold spaces.
    const [, key, value] = /^([^#].*) (\S+)$/.exec(line) ?? [];
    if (key !== undefined) values.set(key, Number(value));
  }
  return values;
}

/** The sum over all labels. */
export function total(metrics: Metrics, name: string): number {
  let sum = 0;
  for (const [key, value] of metrics) if (key === name || key.startsWith(`${name}{`)) sum += value;
  return sum;
}

export function figuresOf(before: Reading, now: Reading): Figures {
  const seconds = (now.at - before.at) / 1000;
  // The service may have been restarted in between.
  const grown = (name: string): number => Math.max(0, total(now.metrics, name) - total(before.metrics, name));
  const texts = grown("edgelabel_texts_total");
  const quantile = quantiles(before.metrics, now.metrics, "edgelabel_answer_seconds");
  return {
    at: now.at,
    textsPerSecond: texts / seconds,
    errorsPerSecond: grown("edgelabel_errors_total") / seconds,
    ignoredPerSecond: grown("edgelabel_ignored_total") / seconds,
    median: quantile(0.5),
    p95: quantile(0.95),
    unknown: texts > 0 ? Math.min(1, grown("edgelabel_unknown_total") / texts) : undefined,
  };
}

/** Of a histogram of seconds: the upper bound, in ms, of the bucket with that share. */
function quantiles(before: Metrics, now: Metrics, name: string): (share: number) => number | undefined {
  const buckets = new Map<number, number>();
  for (const [key, value] of now) {
    const [, bound] = key.startsWith(`${name}_bucket{`) ? (/le="([^"]+)"/.exec(key) ?? []) : [];
    if (bound === undefined) continue;
    const le = bound === "+Inf" ? Infinity : Number(bound);
    buckets.set(le, (buckets.get(le) ?? 0) + Math.max(0, value - (before.get(key) ?? 0)));
  }
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const all = sorted.at(-1)?.[1] ?? 0;
  const highest = sorted.filter(([le]) => Number.isFinite(le)).at(-1)?.[0] ?? 0;
  return (share) => {
    if (all === 0) return undefined;
    const [bound] = sorted.find(([, count]) => count >= share * all)!;
    return 1000 * Math.min(bound, highest);
  };
}
