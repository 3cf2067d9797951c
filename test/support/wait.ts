// Waiting for what must happen. A test that expects nothing to happen waits for something that comes after it.

/** Only a test that fails waits so long, and none fails because the machine is busy. */
export const PATIENCE_MS = 30_000;

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = PATIENCE_MS): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`the condition did not come true within ${timeoutMs} ms`);
    await pause(10);
  }
}
