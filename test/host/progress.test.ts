// The bar shows itself to people and to nobody else.
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { startProgress } from "../../host/progress.ts";

function run(isTTY: boolean, json: boolean): string {
  const stream = Object.assign(new PassThrough(), {
    isTTY,
    columns: 80,
    cursorTo() {},
    moveCursor() {},
    clearLine() {},
  });
  const progress = startProgress("training", { json, stream: stream as unknown as NodeJS.WriteStream });
  progress.update(1, 4, "loss 0.5");
  progress.update(4, 4, "loss 0.1");
  progress.stop();
  progress.stop();
  return String(stream.read() ?? "");
}

test("a terminal gets a bar with its task, share, time left and note", () => {
  const shown = run(true, false);
  expect(shown).toContain("training");
  expect(shown).toContain("100 %");
  expect(shown).toMatch(/ 25 % \S+ left /);
  expect(shown).toContain("loss 0.1");
  // No cursor is hidden and no wrapping switched off, which a signal would leave so.
  expect(shown).not.toMatch(/\u001b\[\?\d+l/);
});

test("a pipe, or a program that reads JSON, gets nothing", () => {
  expect(run(false, false)).toBe("");
  expect(run(true, true)).toBe("");
});
