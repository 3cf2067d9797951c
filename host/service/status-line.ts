// A status line on the operator's terminal: requests per second, latencies, and whether the broker
// is connected. Redrawn twice a second below the log. There is none when stderr is not a terminal,
// or when a program reads the log.
import { clearLine, cursorTo } from "node:readline";
import { printable } from "../escape.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import type { Service } from "./service.ts";

export interface StatusLine {
  /** Use this instead of the given log: it hides the line while something is logged. */
  log: Log;
  follow(service: Pick<Service, "metrics" | "predictor" | "notReadyReason">): void;
  /** Removes the line; may be called twice. */
  stop(): void;
}

const REDRAW_MS = 500;
/** Rates and latencies are for the last ten seconds. */
const READINGS = 20;

interface Reading {
  at: number;
  requests: number;
  /** Number of answers that took at most so many seconds, by that bound. */
  answers: ReadonlyMap<number, number>;
}

export function createStatusLine(
  log: Log,
  { json = false, stream = process.stderr }: { json?: boolean | undefined; stream?: NodeJS.WriteStream } = {},
): StatusLine {
  if (json || !stream.isTTY) return { log, follow() {}, stop() {} };
  let shown = "";
  let timer: NodeJS.Timeout | undefined;
  const erase = () => {
    if (shown === "") return;
    cursorTo(stream, 0);
    clearLine(stream, 0);
  };
  const show = (text: string) => {
    erase();
    // A line that wraps could not be erased.
    shown = text.slice(0, Math.max(0, (stream.columns || 80) - 1));
    stream.write(shown);
  };
  const above =
    (write: Log["info"]): Log["info"] =>
    (...line) => {
      erase();
      write(...line);
      if (shown !== "") stream.write(shown);
    };
  return {
    log: { info: above(log.info), warn: above(log.warn), error: above(log.error) },
    follow(service) {
      const readings: Reading[] = [];
      timer = setInterval(async () => {
        readings.push(await read(service.metrics));
        if (readings.length > READINGS) readings.shift();
        if (timer) show(describe(service, readings));
      }, REDRAW_MS);
      timer.unref();
    },
    stop() {
      clearInterval(timer);
      timer = undefined;
      erase();
      shown = "";
    },
  };
}

async function read({ requests, answerSeconds }: Metrics): Promise<Reading> {
  const answers = new Map<number, number>();
  for (const { metricName, labels, value } of (await answerSeconds.get()).values) {
    const { le } = labels as { le?: number | string };
    const limit = le === "+Inf" ? Infinity : Number(le);
    if (metricName?.endsWith("_bucket")) answers.set(limit, (answers.get(limit) ?? 0) + value);
  }
  return {
    at: Date.now(),
    requests: (await requests.get()).values.reduce((sum, { value }) => sum + value, 0),
    answers,
  };
}

function describe(
  { predictor, notReadyReason }: Pick<Service, "predictor" | "notReadyReason">,
  readings: readonly Reading[],
): string {
  const [first, last] = [readings[0]!, readings.at(-1)!];
  const seconds = (last.at - first.at) / 1000;
  const models = [...predictor.models].map(([name, { version }]) => `${name} ${version}`).join(", ");
  return [
    notReadyReason?.toUpperCase() ?? "broker connected",
    `${seconds > 0 ? ((last.requests - first.requests) / seconds).toFixed(1) : "0.0"} requests/s`,
    `${predictor.queue.length} waiting`,
    `p50 ${quantile(0.5, first, last)}`,
    `p99 ${quantile(0.99, first, last)}`,
    printable(models),
  ].join(" | ");
}

/** The quantile of the latest answers, as the limit of its bucket in the histogram. */
function quantile(share: number, first: Reading, last: Reading): string {
  const since = [...last.answers]
    .map(([limit, count]) => [limit, count - (first.answers.get(limit) ?? 0)] as const)
    .sort(([a], [b]) => a - b);
  const all = since.at(-1)?.[1] ?? 0;
  if (all === 0) return "-";
  const limit = since.find(([, count]) => count >= share * all)![0];
  return limit === Infinity ? `> ${since.at(-2)![0]} s` : limit < 1 ? `<= ${limit * 1000} ms` : `<= ${limit} s`;
}
