// The Chromium of the browser tests; without one they are skipped, except where CI says that all must run.
import { type Browser, chromium } from "playwright-core";
import { fetchChromium } from "../tools/fetch-chromium.mjs";

export function findChromium(): string | undefined {
  try {
    return fetchChromium();
  } catch (error) {
    if (process.env["CI"] === "true") throw error;
    process.stderr.write(`\nThe browser tests are skipped: ${(error as Error).message}\n`);
    return undefined;
  }
}

/** It does nothing on the network but what a test asks for. */
export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
}
