// A progress bar on stderr, for people only: shown when stderr is a terminal and
// no program reads the output, silent otherwise.
import { SingleBar } from "cli-progress";

export interface Progress {
  /** `done` of `total` steps; `note` stands behind the bar. */
  update(done: number, total: number, note?: string): void;
  /** Leaves the last state on its line; calling it twice does no harm. */
  stop(): void;
}

export function startProgress(
  task: string,
  options: { json?: boolean | undefined; stream?: NodeJS.WriteStream } = {},
): Progress {
  const stream = options.stream ?? process.stderr;
  if (options.json === true || !stream.isTTY) return { update() {}, stop() {} };
  const bar = new SingleBar({
    format: `${task} {bar} {percentage} % {eta_formatted} left {note}`,
    stream,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 24,
    // The terminal's settings are not changed, since a signal could leave them so; a line that is too long is cut.
    hideCursor: false,
    linewrap: true,
    stopOnComplete: false,
  });
  let started = false;
  return {
    update(done, total, note = "") {
      if (!started) bar.start(total, done, { note });
      started = true;
      bar.setTotal(total);
      bar.update(done, { note });
    },
    stop() {
      if (started) bar.stop();
      started = false;
    },
  };
}
