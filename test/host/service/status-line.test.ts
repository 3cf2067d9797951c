// The status line: right figures, below the log, for people only.
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Metrics } from "../../../host/service/metrics.ts";
import { createStatusLine } from "../../../host/service/status-line.ts";
import { fakeModel, recordingLog } from "../../support/fake.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date"] }));
afterEach(() => void vi.useRealTimers());

function terminal(columns: number, isTTY = true) {
  const stream = Object.assign(new PassThrough(), { isTTY, columns });
  let written = "";
  stream.on("data", (chunk: Buffer) => {
    written += chunk.toString();
  });
  return { stream: stream as unknown as NodeJS.WriteStream, written: () => written };
}

function fakeService(notReadyReason?: string) {
  return {
    metrics: new Metrics(),
    notReadyReason,
    predictor: {
      models: new Map([
        ["spam", fakeModel()],
        ["mood", fakeModel("2\u001b[2J")],
      ]),
      queue: { length: 7 },
    } as never,
  };
}

test("shows what happens, at most twice a second, and goes away", async () => {
  const { stream, written } = terminal(200);
  const line = createStatusLine(recordingLog(), { stream });
  const service = fakeService();
  line.follow(service);
  await vi.advanceTimersByTimeAsync(499);
  expect(written()).toBe("");
  await vi.advanceTimersByTimeAsync(1);
  expect(written()).toBe("broker connected | 0.0 requests/s | 7 waiting | p50 - | p99 - | spam 1.0.0, mood 2\ufffd[2J");
  for (let i = 0; i < 200; i++) {
    service.metrics.requests.inc({ transport: i % 2 ? "mqtt" : "http" });
    service.metrics.answerSeconds.observe({ transport: i % 2 ? "mqtt" : "http" }, i < 190 ? 0.003 : i < 198 ? 0.2 : 60);
  }
  await vi.advanceTimersByTimeAsync(1_000);
  const draws = written().split("requests/s").slice(1);
  expect(draws).toHaveLength(3);
  expect(draws[2]).toContain("p50 <= 5 ms | p99 <= 250 ms");
  // 200 requests in the second since the first reading.
  expect(written()).toContain("200.0 requests/s | 7 waiting | p50 <= 5 ms");
  line.stop();
  line.stop();
  expect(written().endsWith("\u001b[1G\u001b[2K")).toBe(true);
  const end = written();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(written()).toBe(end);
});

test("what is logged stands above it", async () => {
  const { stream, written } = terminal(200);
  const log = recordingLog();
  const line = createStatusLine(log, { stream });
  line.log.info("before");
  expect([written(), log.lines]).toEqual(["", ["before"]]);
  line.follow(fakeService("not connected to the broker"));
  await vi.advanceTimersByTimeAsync(500);
  expect(written()).toContain("NOT CONNECTED TO THE BROKER");
  const drawn = written();
  line.log.warn("lost the broker");
  expect(written().slice(drawn.length)).toMatch(/^\u001b\[1G\u001b\[2KNOT CONNECTED TO THE BROKER \| /);
  expect(log.lines).toEqual(["before", "lost the broker"]);
  line.stop();
});

test("a narrow terminal gets its beginning, without a wrap", async () => {
  const { stream, written } = terminal(24);
  const line = createStatusLine(recordingLog(), { stream });
  line.follow(fakeService());
  await vi.advanceTimersByTimeAsync(500);
  expect(written()).toBe("broker connected | 0.0 ");
  line.stop();
});

test("a pipe, or a program that reads the log, gets nothing", async () => {
  for (const [isTTY, json] of [
    [false, false],
    [true, true],
  ] as const) {
    const { stream, written } = terminal(80, isTTY);
    const log = recordingLog();
    const line = createStatusLine(log, { stream, json });
    expect(line.log).toBe(log);
    line.follow(fakeService());
    await vi.advanceTimersByTimeAsync(2_000);
    line.stop();
    expect(written()).toBe("");
  }
});
