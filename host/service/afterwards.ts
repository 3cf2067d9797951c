// Bookkeeping that can wait until the answers of this turn of the event loop have been sent:
// requesters and the broker need not wait for counters and remembered answers.
const waiting: (() => void)[] = [];

/** Runs `work` at the end of this turn of the event loop, in the order of the calls. */
export function afterwards(work: () => void): void {
  if (waiting.push(work) === 1) setImmediate(settle);
}

/** Runs everything that waits, for a caller that is about to read its results. */
export function settle(): void {
  for (const work of waiting.splice(0)) work();
}
