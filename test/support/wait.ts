// Waiting for what must happen. A test that expects nothing to happen waits for something that comes after it.
// And the time that something takes, for bounds far above it.

/** Only a test that fails waits so long, and none fails because the machine is busy. */
export const PATIENCE_MS = 30_000;

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Seconds of the processor, which other programs have no part in. */
export function cpuSeconds(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = PATIENCE_MS): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`the condition did not come true within ${timeoutMs} ms`);
    await pause(10);
  }
}
