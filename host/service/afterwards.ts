// Bookkeeping that can wait until the answers of this turn of the event loop have left: the
// requester and the broker go on while counters are found and answers are remembered.
const waiting: (() => void)[] = [];

/** Runs this in the order of the calls, before the event loop has gone round once more. */
export function afterwards(work: () => void): void {
  if (waiting.push(work) === 1) setImmediate(settle);
}

/** Runs now what waits, for one who is about to read it. */
export function settle(): void {
  for (const work of waiting.splice(0)) work();
}
