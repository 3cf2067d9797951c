// Locks: held against others, whoever and wherever they are, as long as their owner lives;
// not held by what a crash has left behind.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as tick } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { type Lock, takeLock, waitForLock } from "../../../host/files/lock.ts";
import { edgelabel, json, LAMPS, main, SMALL, startProgram, withoutSeen } from "../../support/program.ts";
import { until } from "../../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-lock-"));
const at = (name: string): string => join(folder, name);
const path = at("lock");
const left = (): string[] => readdirSync(folder).filter((name) => name.startsWith(".lock."));
/** Prints "held", or who has the lock; holds it until it is ended. */
const taking = fileURLToPath(new URL("take-lock.mjs", import.meta.url));
const take = (): string => spawnSync(process.execPath, [taking, path, "once"], { encoding: "utf8" }).stdout;
const canUnshare = process.platform === "linux" && spawnSync("unshare", ["-pf", "true"]).status === 0;

async function holder(command: string, args: string[]) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  return child;
}

afterEach(() => void vi.restoreAllMocks());
afterAll(() => rmSync(folder, { recursive: true }));

test("names who has it, and since when; gives it back", async () => {
  const lock = (await takeLock(path)) as Lock;
  const started = Date.now();
  const found = await takeLock(path);
  expect(found).toEqual({ pid: process.pid, since: expect.any(Date) });
  expect(Math.abs("since" in found ? found.since!.getTime() - started : NaN)).toBeLessThan(10_000);
  await lock.release();
  expect(left()).toEqual([]);
  await ((await takeLock(path)) as Lock).release();
});

test.runIf(existsSync("/proc/self/fd"))("given back, it keeps nothing open, nor does asking for it", async () => {
  const open = (): number => readdirSync("/proc/self/fd").length;
  const round = async (): Promise<void> => {
    const lock = (await takeLock(path)) as Lock;
    expect("release" in (await takeLock(path, 0))).toBe(false);
    await lock.release();
  };
  await round();
  const before = open();
  for (let i = 0; i < 30; i++) await round();
  expect(open() - before).toBeLessThan(10);
});

test("dropped, as by a process that ends, it is free at once", async () => {
  const lock = (await takeLock(path)) as Lock;
  lock.drop();
  expect(left()).toEqual([]);
  await ((await takeLock(path, 0)) as Lock).release();
  await lock.release();
});

test.each([
  ["a day ahead", 1],
  ["a day behind", -1],
])("is not lost when the clock is set %s, however old its file is", async (_, days) => {
  const lock = (await takeLock(path)) as Lock;
  const old = new Date(Date.now() - 3 * 86_400_000);
  for (const name of readdirSync(folder)) utimesSync(at(name), old, old);
  const now = Date.now() + days * 86_400_000;
  vi.spyOn(Date, "now").mockImplementation(() => now);
  expect(await takeLock(path)).toMatchObject({ pid: process.pid });
  await lock.release();
});

test("is not lost by an owner that stands still", async () => {
  const child = await holder(process.execPath, [taking, path]);
  child.kill("SIGSTOP");
  expect(await takeLock(path)).toMatchObject({ pid: child.pid });
  child.kill("SIGKILL");
  await once(child, "exit");
  // And not kept by one that is gone.
  await ((await takeLock(path, 0)) as Lock).release();
  expect(left()).toEqual([]);
});

test("an owner that nobody hears for long is still the owner: the queue of those who ask is full", async () => {
  const child = await holder(process.execPath, [taking, path]);
  child.kill("SIGSTOP");
  for (let i = 0; i < 600; i++) expect("release" in (await takeLock(path, 0))).toBe(false);
  child.kill("SIGKILL");
  await once(child, "exit");
});

describe.skipIf(!canUnshare)("between containers (needs unshare, as root)", () => {
  test("who has it outside has it inside, where its process is not to be seen", async () => {
    const lock = (await takeLock(path)) as Lock;
    const inside = spawnSync("unshare", ["-pf", "--mount-proc", process.execPath, taking, path, "once"], {
      encoding: "utf8",
    });
    expect(inside.stdout).toBe(`${process.pid}\n`);
    await lock.release();
  });

  test("who has it inside has it outside, until the container ends", async () => {
    const child = await holder("unshare", ["-pf", "--kill-child", "--mount-proc", process.execPath, taking, path]);
    expect(take()).toMatch(/^\d\n$/);
    expect("release" in (await takeLock(path))).toBe(false);
    child.kill("SIGKILL");
    await once(child, "exit");
    await (await waitForLock(path)).release();
  });
});

test.each<[string, (name: string) => void]>([
  ["socket", () => spawnSync(process.execPath, [taking, path, "die"])],
  ["socket that was not in its place yet", () => spawnSync(process.execPath, [taking, path, "die early"])],
  ["file", () => writeFileSync(at(".lock.1.abc.def"), "")],
])("the %s of a crash holds nothing, and is removed", async (_, crash) => {
  crash(path);
  expect(left()).toHaveLength(1);
  await ((await takeLock(path, 0)) as Lock).release();
  expect(left()).toEqual([]);
});

test.each([
  ["who waits for it gets it, one at a time", () => {}],
  ["of those who find one that a crash has left, too", () => spawnSync(process.execPath, [taking, path, "die"])],
])("%s", async (_, make) => {
  let inside = 0;
  let most = 0;
  for (let round = 0; round < 5; round++) {
    make();
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const lock = await waitForLock(path);
        most = Math.max(most, ++inside);
        // The others go on meanwhile.
        await tick();
        inside--;
        await lock.release();
      }),
    );
  }
  expect([most, inside]).toEqual([1, 0]);
  expect(left()).toEqual([]);
});

test("long names and deep folders are no obstacle", async () => {
  const deep = at(`${"d".repeat(100)}/${"e".repeat(100)}`);
  mkdirSync(deep, { recursive: true });
  const file = join(deep, `${"m".repeat(200)}.elb.lock`);
  if (process.platform !== "linux") {
    await expect(takeLock(file)).rejects.toThrow("is too long for a lock");
    return;
  }
  const lock = (await takeLock(file)) as Lock;
  expect(await takeLock(file, 0)).toMatchObject({ pid: process.pid });
  await lock.release();
  expect(readdirSync(deep)).toEqual([]);
});

describe("edgelabel learn", () => {
  test("twice at once: one learns, the other says who does, and neither leaves a lock", async () => {
    writeFileSync(at("data.tsv"), LAMPS.join(""));
    writeFileSync(
      at("valid.tsv"),
      `${LAMPS.filter((_, i) => i % 5 === 0).join("")}off\tthe attic needs nothing\non\tthe attic needs everything\n`,
    );
    writeFileSync(at("fixes.tsv"), "on\tthe hall needs everything\noff\tthe hall needs nothing\n");
    await json("train", at("data.tsv"), "-o", at("lamps.elb"), "--set", "ngram-buckets=256", ...SMALL);
    const learn = [
      "learn",
      at("lamps.elb"),
      "--corrections",
      at("fixes.tsv"),
      "--data",
      at("data.tsv"),
      "--valid",
      at("valid.tsv"),
      "--learning-rate",
      "0.01",
    ];
    const locks = (): string[] => readdirSync(folder).filter((name) => name.includes(".lock."));
    const first = startProgram(process.execPath, [main, ...learn, "--epochs", "100"]);
    await until(() => locks().length > 0);
    // It learns no further before the other one has been told.
    first.child.kill("SIGSTOP");
    const other = await edgelabel(learn);
    first.child.kill("SIGCONT");
    expect([await first.ended, withoutSeen(first.stderr())]).toEqual([0, ""]);
    expect([other.code, other.stderr]).toEqual([
      1,
      expect.stringMatching(
        /^edgelabel: .*lamps\.elb: process \d+ has been learning, or undoing, for \d+ s; try again when it is done\n$/,
      ),
    ]);
    expect(locks()).toEqual([]);
    const lock = (await takeLock(at("lamps.elb.lock"))) as Lock;
    expect(await edgelabel(["learn", at("lamps.elb"), "--undo"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`process ${process.pid} has been`),
    });
    await lock.release();
    expect(existsSync(at("lamps.elb.lock"))).toBe(false);
  });
});
