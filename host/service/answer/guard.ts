// Where the faults of our own code end. Whatever a message makes a handler throw, the process
// goes on: it must not die of a message that the broker would deliver again after each restart.
//
// A handler that fails answers with the error `internal` if it still can. A message whose
// error fails too is set aside: acknowledged, counted as `failed`, and never seen again. What
// no handler can catch, such as memory that runs out, is prevented by limits; nothing is
// written to the disk about messages that were being handled when the process died.
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Incoming } from "../mqtt/connection.ts";

export class Guard {
  private readonly metrics: Metrics;
  private readonly log: Log;
  private readonly told = new Set<string>();

  constructor(metrics: Metrics, log: Log) {
    this.metrics = metrics;
    this.log = log;
  }

  /** Runs a handler of the message; sets the message aside when that throws. */
  run(message: Incoming, handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.setAside(message, error);
    }
  }

  setAside(message: Incoming, error: unknown): void {
    this.metrics.ignored.inc({ reason: "failed" });
    // The class only: a message of the runtime may quote what came.
    const fault = error instanceof Error ? error.name : typeof error;
    if (!this.told.has(fault))
      this.log.error(
        `a message is set aside, since handling it failed (${fault}); further ones are only counted. This is a fault of edgelabel`,
        { fault },
      );
    this.told.add(fault);
    message.acknowledge();
  }
}
