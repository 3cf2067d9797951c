// Locks: held against others, whoever they are; not held by what a crash has left behind.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type Lock, takeLock, waitForLock } from "../../host/lock.ts";
import { edgelabel, json, LAMPS, SMALL } from "../program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-lock-"));
const at = (name: string): string => join(folder, name);
const path = at("lock");
const STALE_MS = 60_000;
const written = (content: string, ageMs = 0): void => {
  writeFileSync(path, content);
  const time = new Date(Date.now() - ageMs);
  utimesSync(path, time, time);
};
/** Of a process that is no more. */
const gone = spawnSync(process.execPath, ["-e", ""]).pid;

beforeEach(() => rmSync(path, { force: true }));
afterAll(() => rmSync(folder, { recursive: true }));

test("names who has it, and since when", async () => {
  const lock = await takeLock(path, STALE_MS) as Lock;
  const started = Date.now();
  const holder = await takeLock(path, STALE_MS);
  expect(holder).toMatchObject({ pid: process.pid });
  expect(Math.abs("since" in holder ? holder.since.getTime() - started : NaN)).toBeLessThan(10_000);
  await lock.release();
  expect(existsSync(path)).toBe(false);
});

test.each<[string, () => void, boolean]>([
  ["a process that lives", () => written(`${process.ppid} 1 2`), true],
  ["a process that is gone", () => written(`${gone} 1 2`), false],
  ["an earlier life of the same number", () => written(`${process.pid} 1 2`), false],
  ["a number that another process has now", () => written(`${process.ppid} 1 2`, STALE_MS + 5_000), false],
  ["a time that has not come yet", () => written(`${process.ppid} 1 2`, -STALE_MS - 5_000), false],
  ["a crash before a name was in it", () => written("", 5_000), false],
])("%s", async (_, make, isHeld) => {
  make();
  const taken = await takeLock(path, STALE_MS);
  if (isHeld) expect(taken).toEqual({ pid: process.ppid, since: new Date(2) });
  else await (taken as Lock).release();
  expect(existsSync(path)).toBe(isHeld);
});

test("one that is kept long is refreshed, and given back only by its owner", async () => {
  const lock = await takeLock(path, STALE_MS) as Lock;
  const old = new Date(Date.now() - 3 * STALE_MS);
  utimesSync(path, old, old);
  lock.refresh();
  expect(Date.now() - statSync(path).mtimeMs).toBeGreaterThan(2 * STALE_MS);
  const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now() + 10_000);
  lock.refresh();
  clock.mockRestore();
  expect(Date.now() - statSync(path).mtimeMs).toBeLessThan(STALE_MS);
  written("1 1 1");
  await lock.release();
  expect(readFileSync(path, "utf8")).toBe("1 1 1");
});

test.each([
  ["who waits for it gets it, one at a time", () => {}],
  ["of those who find one that a crash has left, too", () => written(`${gone} 1 2`)],
])("%s", async (_, make) => {
  let inside = 0;
  let most = 0;
  for (let round = 0; round < 10; round++) {
    make();
    await Promise.all(Array.from({ length: 10 }, async () => {
      const lock = await waitForLock(path, STALE_MS);
      most = Math.max(most, ++inside);
      await new Promise((resolve) => { setTimeout(resolve, 1); });
      inside--;
      await lock.release();
    }));
  }
  expect([most, inside]).toEqual([1, 0]);
  expect(readdirSync(folder).filter((name) => name.startsWith("lock"))).toEqual([]);
});

describe("edgelabel learn", () => {
  test("twice at once: one learns, the other says who does, and neither leaves a lock", async () => {
    writeFileSync(at("data.tsv"), LAMPS.join(""));
    writeFileSync(at("valid.tsv"), `${LAMPS.filter((_, i) => i % 5 === 0).join("")}off\tthe attic needs nothing\non\tthe attic needs everything\n`);
    writeFileSync(at("fixes.tsv"), "on\tthe hall needs everything\noff\tthe hall needs nothing\n");
    await json("train", at("data.tsv"), "-o", at("lamps.elb"), "--ngram-buckets", "256", ...SMALL);
    const learn = ["learn", at("lamps.elb"), "--corrections", at("fixes.tsv"), "--data", at("data.tsv"), "--valid", at("valid.tsv"), "--learning-rate", "0.01"];
    // Texts and epochs enough that another process has started before it is done.
    writeFileSync(at("data.tsv"), [0, 1, 2, 3, 4].flatMap((times) => LAMPS.map((line) => line.replace("\n", `${" again".repeat(times)}\n`))).join(""));
    const first = edgelabel([...learn, "--epochs", "1000"]);
    while (!existsSync(at("lamps.elb.lock"))) await new Promise((resolve) => { setTimeout(resolve, 5); });
    const other = await edgelabel(learn);
    expect(await first).toMatchObject({ code: 0, stderr: "" });
    expect([other.code, other.stderr]).toEqual([1, expect.stringMatching(/^edgelabel: .*lamps\.elb: process \d+ has been learning, or undoing, for \d+ s; try again when it is done\n$/)]);
    expect(readdirSync(folder).filter((name) => name.endsWith(".lock"))).toEqual([]);
    writeFileSync(at("lamps.elb.lock"), `${process.pid} ${performance.timeOrigin} ${Date.now()}`);
    expect(await edgelabel(["learn", at("lamps.elb"), "--undo"])).toMatchObject({ code: 1, stderr: expect.stringContaining(`process ${process.pid} has been`) });
  });
});
