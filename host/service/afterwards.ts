// Bookkeeping that can wait until the answers of this turn of the event loop have left: the
// requester and the broker go on while counters are found and answers are remembered.
const waiting: (() => void)[] = [];

/** Runs this in the order of the calls, before the event loop looks for what comes next. */
export function afterwards(work: () => void): void {
  if (waiting.push(work) > 1) return;
  setImmediate(() => {
    for (const each of waiting.splice(0)) each();
  });
}
