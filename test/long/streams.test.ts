// A stream of very many texts over HTTP: each is answered, in order, and the service takes no more memory for it
// than for a few, at whatever pace its client reads.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "../support/program.ts";
import { modelOf } from "../support/registry.ts";
import { pause } from "../support/wait.ts";
import { size } from "./size.ts";

const TEXTS = size(100_000, 10_000);
/** Of a text: at full size all together are more than the memory that deploy/edgelabel.service allows. */
const BYTES = 3_000;
const MEMORY_MAX_MB = 256;
/** For what has not been collected yet; a third of what comes in. */
const GROWTH_MB = 100;
/** Before the memory is measured. */
const WARM_UP = TEXTS / 5;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-streams-"));
beforeAll(async () => writeFileSync(join(folder, "model.wasm"), await modelOf(1, { packed: true })));
afterAll(() => rmSync(folder, { recursive: true }));

/** Sends the texts as fast as the service takes them; returns how many answers came, each for its text. */
async function ask(url: string, texts: number, onAnswer: (i: number) => Promise<void> | undefined): Promise<number> {
  const sent = request(`${url}/predict`, { method: "POST", headers: { "Content-Type": "application/x-ndjson" } });
  const answered = once(sent, "response") as Promise<[IncomingMessage]>;
  void (async () => {
    for (let i = 0; i < texts; i++)
      if (!sent.write(`{"text":"${"word ".repeat(BYTES / 5)}","id":${i}}\n`)) await once(sent, "drain");
    sent.end();
  })();
  const [response] = await answered;
  let count = 0;
  for await (const line of createInterface({ input: response })) {
    const { id, label } = JSON.parse(line) as { id: number; label: string };
    if (id !== count || typeof label !== "string") throw new Error(`answer ${count} is ${line}`);
    count++;
    await onAnswer(id);
  }
  return count;
}

test.each([
  ["as fast as it can", () => undefined],
  // For a second at a time it takes nothing.
  ["with pauses", (i: number) => (i % (TEXTS / 5) === 0 ? pause(1_000) : undefined)],
] as const)(
  `${TEXTS} texts of ${BYTES} bytes, to a client that reads %s`,
  async (_how, onAnswer) => {
    const { http, child, end } = await serve(["model.wasm", "--port", "0", "--http", "0"], { cwd: folder });
    const residentMb = () =>
      Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))![1]) / 1024;
    expect(await ask(http, WARM_UP, () => undefined)).toBe(WARM_UP);
    const before = residentMb();
    let peak = before;
    const timer = setInterval(() => (peak = Math.max(peak, residentMb())), 50);
    const since = performance.now();
    expect(await ask(http, TEXTS, onAnswer)).toBe(TEXTS);
    clearInterval(timer);
    const seconds = (performance.now() - since) / 1_000;
    process.stdout.write(
      `streams: ${TEXTS} texts, ${((TEXTS * BYTES) / 1e6).toFixed(0)} MB, in ${seconds.toFixed(1)} s; ${before.toFixed(0)} MB before, at most ${peak.toFixed(0)} MB\n`,
    );
    expect(peak - before).toBeLessThan(GROWTH_MB);
    expect(peak).toBeLessThan(MEMORY_MAX_MB);
    const figures = await (await fetch(`${http}/metrics`)).text();
    expect(figures).toContain(`edgelabel_requests_total{transport="http"} ${TEXTS + WARM_UP}`);
    expect((await end()).code).toBe(0);
  },
  600_000,
);
