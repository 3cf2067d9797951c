// Learning and undoing killed at every file operation: afterwards both files are whole, and the
// same command makes of them what it would have made at once. `npm run test:long` prints the figures.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Registry } from "../../host/registry/registry.ts";
import { json, LAMPS, main, SMALL } from "../support/program.ts";
import { isLong, size } from "./size.ts";

const dying = fileURLToPath(new URL("../host/training/learn-and-die.mjs", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "edgelabel-learning-kills-"));
const at = (...names: string[]): string => join(root, ...names);
const PAIR = ["lamps.elb", "lamps.wasm"];
const PREVIOUS = ["lamps.previous.elb", "lamps.previous.wasm"];

beforeAll(async () => {
  writeFileSync(at("data.tsv"), LAMPS.join(""));
  // With texts of the corrections' kind: a hold-out that is all right before could only get worse.
  writeFileSync(
    at("valid.tsv"),
    [
      ...LAMPS.filter((_, i) => i % 5 === 0),
      ...["garage", "office"].map((room) => `off\tthe ${room} needs nothing\n`),
    ].join(""),
  );
  writeFileSync(
    at("fixes.tsv"),
    ["kitchen", "hall", "attic"]
      .map((room) => `on\tthe ${room} needs everything\noff\tthe ${room} needs nothing\n`)
      .join(""),
  );
  await json(
    "train",
    at("data.tsv"),
    "--valid",
    at("valid.tsv"),
    "-o",
    at("lamps.elb"),
    "--set",
    "ngram-buckets=256",
    "--set",
    "batch-size=32",
    ...SMALL,
  );
  await json("quantize", at("lamps.elb"), "-o", at("lamps.wasm"));
});
afterAll(() => rmSync(root, { recursive: true }));

/** Digests of the files; undefined where there is none. */
function digests(folder: string, names: readonly string[]): (string | undefined)[] {
  const there = readdirSync(at(folder));
  return names.map((name) =>
    there.includes(name)
      ? createHash("sha256")
          .update(readFileSync(at(folder, name)))
          .digest("hex")
      : undefined,
  );
}

function place(from: readonly string[]): string {
  const folder = mkdtempSync(at("k-")).slice(root.length + 1);
  for (const path of from) cpSync(path, at(folder, path.slice(path.lastIndexOf("/") + 1)), { recursive: true });
  return folder;
}

const commands: Record<string, (folder: string) => string[]> = {
  learn: (folder) => [
    "learn",
    at(folder, "lamps.elb"),
    "-o",
    at(folder, "lamps.wasm"),
    "--corrections",
    at("fixes.tsv"),
    "--data",
    at("data.tsv"),
    "--valid",
    at("valid.tsv"),
    "--learning-rate",
    "0.01",
  ],
  undo: (folder) => ["learn", at(folder, "lamps.elb"), "-o", at(folder, "lamps.wasm"), "--undo"],
};

function die(step: number, when: string, args: string[]) {
  return spawnSync(process.execPath, [dying, String(step), when, ...args], { encoding: "utf8" });
}

test.each(["learn", "undo"])(
  "%s",
  (what) => {
    const command = commands[what]!;
    const origin = place(PAIR.map((name) => at(name)));
    const first = digests(origin, PAIR);
    // An older version, so that the way back leads to it or to the first one, and never to one of each.
    for (const [i, name] of PREVIOUS.entries()) writeFileSync(at(origin, name), `older ${i}`);
    if (what === "undo") expect(spawnSync(process.execPath, [main, ...commands["learn"]!(origin)]).status).toBe(0);
    const before = digests(origin, PAIR);
    const files = readdirSync(at(origin)).map((name) => at(origin, name));

    const counted = place(files);
    const whole = die(0, "", command(counted));
    // Remarks come before it.
    const steps = Number(whole.stderr.trim().split("\n").at(-1));
    expect([whole.status, steps > 10]).toEqual([0, true]);
    const after = digests(counted, PAIR);
    expect(after[0] !== before[0] && after[1] !== before[1]).toBe(true);
    expect([...after, ...digests(counted, PREVIOUS)]).toEqual(
      what === "learn" ? [...after, ...first] : [...first, undefined, undefined],
    );
    const left = readdirSync(at(counted)).sort();
    rmSync(at(counted), { recursive: true });

    const found: Record<string, number> = {};
    let kills = 0;
    for (let step = 1; step <= steps; step += size(1, 9)) {
      for (const when of isLong ? ["before", "half", "after"] : [["before", "half", "after"][step % 3]!]) {
        const folder = place(files);
        const killed = die(step, when, command(folder));
        expect([step, when, killed.signal]).toEqual([step, when, "SIGKILL"]);
        kills++;
        // Whoever starts a service now finds a model, the old one or the new one.
        const state = digests(folder, PAIR);
        state.forEach((digest, i) =>
          expect([step, when, [before[i], after[i]].includes(digest)]).toEqual([step, when, true]),
        );
        const named = state.map((digest, i) => (digest === after[i] ? "new" : "old")).join(" ");
        found[named] = (found[named] ?? 0) + 1;
        const again = spawnSync(process.execPath, [main, ...command(folder)], { encoding: "utf8" });
        // An undo that was done, but for the end of it, has nothing left to do.
        if (!again.stderr.includes("there is nothing to undo"))
          expect([step, when, again.status]).toEqual([step, when, 0]);
        expect([step, when, ...digests(folder, PAIR), ...digests(folder, PREVIOUS)]).toEqual([
          step,
          when,
          ...after,
          ...(what === "learn" ? first : [undefined, undefined]),
        ]);
        // Nothing else is left behind but the journal's lock, which the next append takes.
        expect([
          step,
          when,
          readdirSync(at(folder))
            .sort()
            .filter((name) => !name.startsWith(".lamps.corrections.jsonl.lock.")),
        ]).toEqual([step, when, left]);
        rmSync(at(folder), { recursive: true });
      }
    }
    if (isLong)
      process.stdout.write(
        `figure: SIGKILL at every file operation of ${what}: ${kills} kills in ${steps} operations, found ${JSON.stringify(found)}; all finished by the same command, 0 half-done\n`,
      );
  },
  900_000,
);

test("learn, into a registry", async () => {
  const origin = place(PAIR.map((name) => at(name)));
  const registryIn = (folder: string) => new Registry(at(folder, "registry"));
  await registryIn(origin).adopt(readFileSync(at(origin, "lamps.wasm")), "lamps.wasm", { name: "lamps" });
  rmSync(at(origin, "lamps.wasm"));
  const files = readdirSync(at(origin)).map((name) => at(origin, name));
  const command = (folder: string): string[] => [
    ...commands["learn"]!(folder).filter((arg, i, all) => arg !== "-o" && all[i - 1] !== "-o"),
    "--registry",
    at(folder, "registry"),
    "--name",
    "lamps",
  ];
  const found = async (folder: string) => {
    const { digest, training } = await registryIn(folder).active("lamps");
    return { digest, training, file: digests(folder, ["lamps.elb"])[0] };
  };
  const before = await found(origin);

  const counted = place(files);
  const whole = die(0, "", command(counted));
  const steps = Number(whole.stderr.trim().split("\n").at(-1));
  expect([whole.status, steps > 30]).toEqual([0, true]);
  const after = await found(counted);
  expect([after.training, after.file === before.file, after.digest === before.digest]).toEqual([
    after.file,
    false,
    false,
  ]);

  let kills = 0;
  for (let step = 1; step <= steps; step += size(1, 9)) {
    for (const when of isLong ? ["before", "half", "after"] : [["before", "half", "after"][step % 3]!]) {
      const folder = place(files);
      expect([step, when, die(step, when, command(folder)).signal]).toEqual([step, when, "SIGKILL"]);
      kills++;
      // A service that starts now answers with a whole model, the old one or the new one.
      const state = await found(folder);
      expect([step, when, [before.digest, after.digest].includes(state.digest)]).toEqual([step, when, true]);
      expect([step, when, [before.file, after.file].includes(state.file)]).toEqual([step, when, true]);
      // The training form is never ahead of what is deployed, since then nothing would deploy it any more.
      if (state.file === after.file) expect([step, when, state]).toEqual([step, when, after]);
      expect([step, when, spawnSync(process.execPath, [main, ...command(folder)]).status]).toEqual([step, when, 0]);
      expect([step, when, await found(folder)]).toEqual([step, when, after]);
      rmSync(at(folder), { recursive: true });
    }
  }
  if (isLong)
    process.stdout.write(
      `figure: SIGKILL at every file operation of learn into a registry: ${kills} kills in ${steps} operations; all finished by the same command\n`,
    );
}, 3_600_000);
