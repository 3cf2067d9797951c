// Where bugs of our own code end. Whatever a message makes a handler throw, the process goes on:
// it must not crash on a message that the broker would deliver again after each restart.
//
// A handler that fails answers with the error `internal` if it still can. If that fails too, the
// message is dropped: acknowledged, counted as `failed`, and never seen again. What no handler
// can catch, such as running out of memory, is prevented by limits.
import { OnceLog } from "../log.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Incoming } from "../mqtt/message.ts";

export class Guard {
  private readonly metrics: Metrics;
  private readonly log: OnceLog;

  constructor(metrics: Metrics, log: Log) {
    this.metrics = metrics;
    this.log = new OnceLog(log);
  }

  /** Runs a handler of the message; drops the message if it throws. */
  run(message: Incoming, handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.drop(message, error);
    }
  }

  drop(message: Incoming, error: unknown): void {
    this.metrics.ignored.inc({ reason: "failed" });
    // The class only: a message of the runtime may quote what came.
    const fault = error instanceof Error ? error.name : typeof error;
    this.log.error(
      fault,
      `a message could not be handled (${fault}) and is dropped; logged once, then only counted. This is a bug in edgelabel`,
      { fault },
    );
    message.acknowledge();
  }
}
