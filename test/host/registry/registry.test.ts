// A registry in a folder: what is active, what is kept, what is refused, and that the
// power may go at every step.
import { spawnSync } from "node:child_process";
import type { KeyObject } from "node:crypto";
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Disk } from "../../../host/registry/disk.ts";
import { realDisk } from "../../../host/registry/disk.ts";
import { takeLock } from "../../../host/files/lock.ts";
import { IncomingUpdate } from "../../../host/registry/incoming.ts";
import { keyId } from "../../../host/registry/keys.ts";
import { encodeManifest, readManifest } from "../../../host/registry/manifest.ts";
import { Registry } from "../../../host/registry/registry.ts";
import { describeModel } from "../../../host/registry/selftest.ts";
import { Seeded } from "../../support/models.ts";
import { edgelabel } from "../../support/program.ts";
import {
  DAY,
  keysFile,
  lineOf,
  MemoryDisk,
  modelOf,
  newKey,
  PowerCut,
  signed,
  signedEndless,
} from "../../support/registry.ts";
import type { Signed } from "../../support/registry.ts";

const root = mkdtempSync(join(tmpdir(), "edgelabel-registry-"));
const keys = join(root, "keys");
let key: KeyObject;
let second: KeyObject;
let models: Uint8Array[];
/** Update v has version v and sequence 10 v. */
let updates: Signed[];
let folder: string;
let registry: Registry;

beforeAll(async () => {
  [key, second] = [newKey(), newKey()];
  models = await Promise.all([0, 1, 2, 3, 4].map((version) => modelOf(version)));
  updates = await Promise.all(models.map((model, v) => signed(model, key, Math.max(1, 10 * v))));
});
beforeEach(() => {
  folder = mkdtempSync(join(root, "r-"));
  writeFileSync(keys, keysFile([key]));
  registry = new Registry(folder, { keys });
});
afterAll(() => rmSync(root, { recursive: true }));

const install = (version: number, options = {}, on = registry) =>
  on.install(updates[version]!.update, `v${version}`, options);
const summary = async (on = registry) =>
  (await on.versions()).map(({ version, state }) => `${version} ${state}`).sort();
const never = (_version: unknown, reason: string) => {
  throw new Error(`rejected: ${reason}`);
};

/** Hundreds of them, so without a thread each for the self-test. */
const inMemory = (disk: MemoryDisk) => new Registry("/registry", { keys, disk });

/** The version that answers, by its answer. */
async function answering(
  on = registry,
  rejected: (version: { version: string }, reason: string) => void = never,
): Promise<string | undefined> {
  const found = await on.open("spam", rejected);
  if (!found) return undefined;
  const { version } = found.classifier;
  expect(`spam\t${found.classifier.classify("anything").score.toFixed(6)}`).toBe(lineOf(Number(version)));
  return version;
}

test("install, activate, roll back, remove; the previous one is kept, older ones go", async () => {
  expect(await summary()).toEqual([]);
  expect(await install(1)).toMatchObject({
    name: "spam",
    version: "1",
    state: "active",
    sequence: 10,
    key: keyId(key),
  });
  await install(2);
  expect(await summary()).toEqual(["1 previous", "2 active"]);
  expect(await answering()).toBe("2");
  await install(3, { activate: false });
  expect(await summary()).toEqual(["1 previous", "2 active", "3 waiting"]);
  await registry.activate("spam", "3");
  expect(await summary()).toEqual(["1 waiting", "2 previous", "3 active"]);
  await registry.rollback("spam");
  expect(await answering()).toBe("2");
  await registry.rollback("spam");
  expect(await answering()).toBe("3");
  await install(4);
  expect(await summary()).toEqual(["2 waiting", "3 previous", "4 active"]);
  expect(readdirSync(join(folder, "models")).length).toBe(3);
  await expect(registry.remove("spam", "4")).rejects.toThrow("version 4 of spam is active");
  await registry.remove("spam", "3");
  await expect(registry.rollback("spam")).rejects.toThrow("spam has no previous version to go back to");
  await expect(registry.activate("spam", "9")).rejects.toThrow('there is no version "9" of spam; there are');
  await expect(registry.activate("ham", "1")).rejects.toThrow('the registry has no model "ham"; it has spam');
  await registry.activate("spam", updates[2]!.manifest.digest.slice(0, 8));
  expect(await answering()).toBe("2");
  await registry.remove("spam");
  expect(await answering()).toBeUndefined();
  expect(readdirSync(join(folder, "models"))).toEqual([]);
  // What was installed once is not installed again, though it is gone.
  await expect(install(3)).rejects.toThrow("has sequence 30, but 40 of spam was installed already");
});

test("a version is named by itself, or by six digits of its digest or id; what is meant must be clear", async () => {
  const [one, two] = [await install(1), await install(2)];
  const digest = ({ digest }: { digest: string }) => digest.slice(0, 12);
  const known = `there are 1 (${digest(one)}), 2 (${digest(two)}): name one by its version, or by the beginning of its digest`;
  for (const which of ["9", one.digest.slice(0, 5), ""])
    await expect(registry.activate("spam", which)).rejects.toThrow(
      `there is no version ${JSON.stringify(which)} of spam; ${known}`,
    );
  for (const which of [one.digest.slice(0, 6), one.id.slice(0, 6), one.id, "1"]) {
    expect(await registry.activate("spam", which)).toMatchObject({ version: "1", state: "active" });
    await registry.activate("spam", "2");
  }
  await registry.install((await signed(models[1]!, key, 30)).update, "u", { activate: false });
  await expect(registry.activate("spam", "1")).rejects.toThrow('more than one is a version "1" of spam; there are 1 (');
});

test("a folder that is no registry is left as it is; one with all models removed is empty", async () => {
  const typo = join(folder, "typo");
  const elsewhere = new Registry(typo);
  for (const command of [
    () => elsewhere.activate("spam", "1"),
    () => elsewhere.rollback("spam"),
    () => elsewhere.remove("spam"),
  ])
    await expect(command()).rejects.toThrow(`there is no registry in ${typo}`);
  expect([await elsewhere.versions(), await elsewhere.exists(), readdirSync(folder)]).toEqual([[], false, []]);
  await install(1);
  await registry.remove("spam");
  expect([await registry.versions(), await registry.exists()]).toEqual([[], true]);
  await expect(registry.rollback("spam")).rejects.toThrow("it has none");
});

test("files are the owner's only", async () => {
  await install(1);
  for (const path of [join(folder, "state.json"), join(folder, "models", readdirSync(join(folder, "models"))[0]!)])
    expect(statSync(path).mode & 0o077).toBe(0);
});

test.skipIf(process.getuid?.() !== 0)("what root installs belongs to the owner of the folder", async () => {
  chownSync(folder, 12_345, 12_346);
  await install(1, {}, new Registry(join(folder, "new"), { keys }));
  const owners = readdirSync(join(folder, "new"), { recursive: true, encoding: "utf8" }).map(
    (name) =>
      `${name.replace(/[0-9a-f]{64}/, "ID")} ${statSync(join(folder, "new", name)).uid} ${statSync(join(folder, "new", name)).gid}`,
  );
  expect(statSync(join(folder, "new")).uid).toBe(12_345);
  expect(owners.sort()).toEqual(
    ["incoming", "models", "models/ID.update", "reserve", "state.backup.json", "state.json"].map(
      (name) => `${name} 12345 12346`,
    ),
  );
});

test("names do not disturb each other, not even odd ones", async () => {
  await install(1);
  const odd = await signed(models[2]!, key, 1, { name: "constructor" });
  await registry.install(odd.update, "odd");
  expect((await registry.versions()).map(({ name, version }) => `${name} ${version}`)).toEqual([
    "spam 1",
    "constructor 2",
  ]);
  await expect(registry.install(odd.update, "odd")).rejects.toThrow(
    "has sequence 1, but 1 of constructor was installed already",
  );
});

describe("refused, and nothing changes", () => {
  const attempt = async (update: Buffer, reason: string, on = registry) => {
    const before = [await summary(), readdirSync(folder, { recursive: true }).sort()];
    await expect(on.install(update, "u")).rejects.toThrow(reason);
    expect([await summary(), readdirSync(folder, { recursive: true }).sort()]).toEqual(before);
  };

  test("replays: the same, an older one, after a rollback, after a restart", async () => {
    await install(2);
    await install(3);
    await attempt(updates[3]!.update, "sequence 30, but 30");
    await attempt(updates[1]!.update, "sequence 10, but 30");
    await registry.rollback("spam");
    await attempt(updates[3]!.update, "sequence 30, but 30");
    await attempt(updates[2]!.update, "sequence 20, but 30", new Registry(folder, { keys }));
    // Going back on purpose is a new update with an old model.
    await registry.install((await signed(models[1]!, key, 31)).update, "old model");
    expect(await answering()).toBe("1");
  });

  test("a manifest with another model; a bad model that is well signed; no keys", async () => {
    await install(1);
    const [a, b] = [await signed(models[2]!, key, 50), await signed(models[3]!, key, 51)];
    await attempt(Buffer.concat([a.head, b.model]), "belongs to another manifest");
    await attempt(Buffer.concat([a.head, a.model, Buffer.from([0])]), "bytes, the manifest says");
    await attempt(
      (await signed(models[2]!, key, 52, { golden: [{ text: "x", line: "ham\t1.000000" }] })).update,
      "fails the self-test",
    );
    await attempt((await signed(models[2]!, key, 53, { abi: 99 })).update, "engine ABI 99");
    await attempt(
      (await signed(models[2]!, key, 54, { expires: new Date(Date.now() - 1).toISOString() })).update,
      "expired on",
    );
    await attempt(a.update, "no keys are trusted here", new Registry(folder));
    await attempt(
      a.update,
      "cannot read the file of trusted keys",
      new Registry(folder, { keys: join(root, "nowhere") }),
    );
    await attempt(Buffer.from("nothing"), "is not an update");
    await attempt(Buffer.alloc(0), "is not an update");
    // None of them used up a sequence.
    await registry.install(a.update, "a");
    expect(await answering()).toBe("2");
  });

  test("code that never ends: it is not run, and holds no model", async () => {
    await install(1);
    await attempt(signedEndless(updates[2]!.manifest, key, { sequence: 50 }).update, "u: holds no model");
  });
});

test("keys change: an old key is revoked, and with it the sequences that it reached", async () => {
  await install(1);
  writeFileSync(keys, keysFile([key, second]));
  const largest = await signed(models[2]!, key, Number.MAX_SAFE_INTEGER);
  await registry.install(largest.update, "by a thief");
  const next = await signed(models[3]!, second, 11);
  await expect(registry.install(next.update, "next")).rejects.toThrow(`but ${Number.MAX_SAFE_INTEGER} of spam`);
  writeFileSync(keys, keysFile([second], [key]));
  await registry.install(next.update, "next");
  expect(await answering()).toBe("3");
  await expect(registry.install((await signed(models[4]!, key, 12)).update, "thief")).rejects.toThrow(
    "which is revoked",
  );
  await expect(registry.install(next.update, "next")).rejects.toThrow("sequence 11, but 11");
});

describe("what a revoked key has signed does not come back", () => {
  let reasons: string[];
  const note = ({ version }: { version: string }, reason: string) => {
    reasons.push(`${version}: ${reason}`);
  };
  /** Version 1 by the second key, which is revoked since, then version 2. */
  beforeEach(async () => {
    reasons = [];
    writeFileSync(keys, keysFile([key, second]));
    await registry.install((await signed(models[1]!, second, 1)).update, "theirs");
    await install(2);
    writeFileSync(keys, keysFile([key], [second]));
  });

  test("by a command, whatever is active stays", async () => {
    await expect(registry.rollback("spam")).rejects.toThrow(
      `version 1 of spam: is signed with the key ${keyId(second)}, which is revoked`,
    );
    await expect(registry.activate("spam", "1")).rejects.toThrow("which is revoked");
    expect(await answering()).toBe("2");
  });

  test.each<[string, () => void, string]>([
    ["damaged in another line", () => writeFileSync(keys, `${keysFile([key], [second])}oops\n`), "line 4: must be"],
    ["gone", () => rmSync(keys), "cannot read the file of trusted keys"],
    ["without its line", () => writeFileSync(keys, keysFile([key])), "is not trusted"],
  ])("nor when the file of keys is %s", async (_, damage, reason) => {
    damage();
    await expect(registry.rollback("spam")).rejects.toThrow(reason);
    await expect(registry.activate("spam", "1")).rejects.toThrow(reason);
    await expect(
      registry.reject("spam", (await registry.versions()).find(({ state }) => state === "active")!.id, "it failed"),
    ).rejects.toThrow(`spam has no version to go back to: `);
    expect(await answering(registry, note)).toBe("2");
  });

  test("nor where no keys are given, as by a command line without --keys", async () => {
    await expect(new Registry(folder).rollback("spam")).rejects.toThrow(
      "no keys are trusted here, so nothing that is signed can be installed or activated: give --keys FILE",
    );
    for (const command of ["activate", "rollback"]) {
      const args = ["models", command, folder, "spam", ...(command === "activate" ? ["1"] : [])];
      expect(await edgelabel(args)).toMatchObject({ code: 1, stderr: expect.stringContaining("give --keys FILE") });
      expect(await edgelabel([...args, "--keys", keys])).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("which is revoked"),
      });
    }
    expect(await answering()).toBe("2");
  });

  test("nor by itself, when the active version fails: rather none is served, and that is said", async () => {
    const { id } = (await registry.versions()).find(({ state }) => state === "active")!;
    for (let start = 1; start <= 2; start++) await registry.open("spam", never, "start");
    expect((await registry.open("spam", note, "start"))?.classifier.version).toBeUndefined();
    rmSync(registry.store.updatePath(id));
    expect(await answering(registry, note)).toBeUndefined();
    expect(reasons).toEqual([
      expect.stringMatching(/^2: the service did not get through/),
      expect.stringMatching(/^1: version 1 of spam: .* revoked$/),
      expect.stringMatching(/^2: .* is missing or damaged$/),
      expect.stringMatching(/^1: .* revoked$/),
    ]);
    const checked: string[] = [];
    expect([...(await registry.check((_, { version }) => checked.push(version))).keys()]).toEqual([]);
    expect(checked).toEqual(["2", "1"]);
    // The next one that may be served is.
    await install(3);
    expect(await answering()).toBe("3");
  });

  test("nor by a state that is made anew from the updates, in which its sequence is the highest", async () => {
    writeFileSync(keys, keysFile([key, second]));
    await registry.install((await signed(models[3]!, second, 1_000)).update, "thief");
    writeFileSync(keys, keysFile([key], [second]));
    for (const name of ["state.json", "state.backup.json"]) rmSync(join(folder, name));
    expect(await answering(registry, note)).toBe("2");
    expect(reasons).toEqual([expect.stringMatching(/^3: .* revoked$/)]);
  });

  test("unsigned ones need no keys", async () => {
    const unsigned = new Registry(mkdtempSync(join(root, "r-")));
    await unsigned.adopt(models[1]!, "m1");
    await unsigned.adopt(models[2]!, "m2");
    await unsigned.rollback("spam");
    expect(await summary(unsigned)).toEqual(["1 active", "2 previous"]);
  });
});

describe("what never was active", () => {
  test("must be as new as what is installed when it becomes so; what was active may come back", async () => {
    await install(1);
    await install(2, { activate: false });
    await install(3);
    await expect(registry.activate("spam", "2")).rejects.toThrow(
      "has sequence 20, but 30 of spam was installed already",
    );
    await registry.rollback("spam");
    expect(await answering()).toBe("1");
    await registry.activate("spam", "3");
  });

  test("must not have expired, not even when the clock is set back after that", async () => {
    let now = Date.now();
    registry = new Registry(folder, { keys, now: () => now });
    await install(1);
    const waiting = await signed(models[2]!, key, 20, { expires: new Date(now + 5 * DAY).toISOString() });
    const late = await signed(models[3]!, key, 30, { expires: new Date(now + 5 * DAY).toISOString() });
    await registry.install(waiting.update, "waiting", { activate: false });
    now += 6 * DAY;
    await expect(registry.activate("spam", "2")).rejects.toThrow("expired on");
    // As the service does each hour.
    await registry.store.change(() => {});
    now -= 6 * DAY;
    for (const again of [registry, new Registry(folder, { keys, now: () => now })]) {
      await expect(again.activate("spam", "2")).rejects.toThrow(
        `expired on ${waiting.manifest.expires}, and this machine's clock shows, or has shown, ${new Date(now + 6 * DAY).toISOString()}`,
      );
      await expect(again.install(late.update, "late")).rejects.toThrow("expired on");
    }
    // What is active, or was, does not expire.
    expect(await answering()).toBe("1");
  });
});

describe("what fails is rolled back", () => {
  test("a damaged, a lost and an exchanged file: the one before is opened, and active from then on", async () => {
    for (const damage of [
      (path: string) => writeFileSync(path, readFileSync(path).subarray(0, -1)),
      (path: string) => rmSync(path),
      (path: string) => writeFileSync(path, updates[3]!.update),
    ]) {
      await registry.remove("spam").catch(() => {});
      registry = new Registry(mkdtempSync(join(root, "r-")), { keys });
      await install(1);
      const { id } = await install(2);
      damage(registry.store.updatePath(id));
      const reasons: string[] = [];
      expect(await answering(registry, ({ version }, reason) => reasons.push(`${version}: ${reason}`))).toBe("1");
      expect(reasons.length).toBe(1);
      expect(await summary()).toEqual(["1 active", "2 failed"]);
    }
    await expect(registry.rollback("spam")).rejects.toThrow("no previous version");
  });

  test("two starts that did not end: the third one is with the version before", async () => {
    await install(1);
    const first = (await registry.open("spam", never, "start"))!;
    await registry.prove("spam", first.id);
    await install(2);
    for (let start = 1; start <= 2; start++)
      expect((await registry.open("spam", never, "start"))!.classifier.version).toBe("2");
    const reasons: string[] = [];
    const third = (await registry.open("spam", (_version, reason) => reasons.push(reason), "start"))!;
    expect([third.classifier.version, third.isOnTrial, reasons]).toEqual([
      "1",
      false,
      ["the service did not get through its first 2 starts with it"],
    ]);
    expect(await summary()).toEqual(["1 active", "2 failed"]);
    // Whoever knows better may say so.
    await registry.activate("spam", "2");
    expect(await answering()).toBe("2");
  });

  test("a start that ended well, or a version that has proven itself, does not count", async () => {
    await install(1);
    const { id } = await install(2);
    for (let start = 1; start <= 5; start++) {
      await registry.open("spam", never, "start");
      await registry.endStart("spam", id);
    }
    await registry.open("spam", never, "start");
    await registry.prove("spam", id);
    for (let start = 1; start <= 5; start++)
      expect((await registry.open("spam", never, "start"))!.classifier.version).toBe("2");
  });

  test("without a previous version the one that fails stays active, and the fault is reported", async () => {
    const { id } = await install(1);
    rmSync(registry.store.updatePath(id));
    const reasons: string[] = [];
    expect(await answering(registry, (_version, reason) => reasons.push(reason))).toBeUndefined();
    expect(reasons[0]).toContain("is missing or damaged");
  });
});

test("a check opens what a service would, and changes nothing", async () => {
  await install(1);
  const { id } = await install(2);
  const state = readFileSync(join(folder, "state.json"), "utf8");
  const reasons: string[] = [];
  const check = async () =>
    [...(await registry.check((name, { version }, reason) => reasons.push(`${name} ${version} ${reason}`)))].map(
      ([name, { version }]) => `${name} ${version}`,
    );
  expect([await check(), reasons]).toEqual([["spam 2"], []]);
  rmSync(registry.store.updatePath(id));
  expect(await check()).toEqual(["spam 1"]);
  expect(reasons).toEqual([expect.stringMatching(/^spam 2 .* is missing or damaged$/)]);
  expect(readFileSync(join(folder, "state.json"), "utf8")).toBe(state);
});

describe("the state file", () => {
  test.each([
    ["lost", "missing", (path: string) => rmSync(path)],
    ["empty", "damaged", (path: string) => writeFileSync(path, "")],
    [
      "a bit flipped",
      "damaged",
      (path: string) => {
        const bytes = readFileSync(path);
        bytes[bytes.length >> 1]! ^= 4;
        writeFileSync(path, bytes);
      },
    ],
  ])("%s: the copy counts; both: made anew from the updates, their sequences included", async (_what, made, damage) => {
    await install(1);
    await install(2);
    await registry.rollback("spam");
    damage(join(folder, "state.json"));
    expect((await registry.store.read()).made).toBe(made);
    expect(await answering()).toBe("1");
    await expect(install(2)).rejects.toThrow("sequence 20, but 20");
    await registry.rollback("spam");
    expect((await registry.store.read()).made).toBeUndefined();
    damage(join(folder, "state.json"));
    damage(join(folder, "state.backup.json"));
    expect((await registry.store.read()).made).toBe(made);
    expect(await answering()).toBe("2");
    await expect(install(2)).rejects.toThrow("sequence 20, but 20");
    await install(3);
    expect((await registry.store.read()).made).toBeUndefined();
    expect(await summary()).toEqual(["1 waiting", "2 previous", "3 active"]);
  });

  test("two processes at once: no change is lost", async () => {
    await install(1);
    const others = Array.from({ length: 4 }, () => new Registry(folder, { keys }));
    await Promise.all(
      others.map(async (each, i) => each.install((await signed(models[2]!, key, 1, { name: `m${i}` })).update, "u")),
    );
    expect((await registry.versions()).map(({ name }) => name).sort()).toEqual(["m0", "m1", "m2", "m3", "spam"]);
  });

  test.each<[string, Partial<Disk>]>([
    ["", {}],
    [", even where no lock reaches the other, as between machines", { lock: async () => async () => {} }],
  ])("a disk that takes 14 s to sync: no confirmed change is lost%s", async (_, changes) => {
    await install(1);
    await install(2);
    let [sync, enter] = [() => {}, () => {}];
    const [isSynced, isEntered] = [
      new Promise<void>((resolve) => {
        sync = resolve;
      }),
      new Promise<void>((resolve) => {
        enter = resolve;
      }),
    ];
    const slow = new Registry(folder, {
      keys,
      disk: {
        ...realDisk,
        ...changes,
        sync: async (path) => {
          if (path.endsWith(".tmp")) {
            enter();
            await isSynced;
          }
          await realDisk.sync(path);
        },
      },
    });
    const rollback = slow.rollback("spam");
    await isEntered;
    const now = Date.now() + 14_000;
    const clock = vi.spyOn(Date, "now").mockImplementation(() => now);
    const other = new Registry(folder, { keys, disk: { ...realDisk, ...changes } }).install(updates[3]!.update, "v3", {
      activate: false,
    });
    // Where there is no lock it is done before the slow one. Else it waits: whoever asks for the lock is told who has it.
    if (changes.lock) await other;
    else expect(await takeLock(join(folder, "lock"))).toMatchObject({ pid: process.pid });
    sync();
    await Promise.all([rollback, other]);
    clock.mockRestore();
    expect(await summary()).toEqual(["1 active", "2 previous", "3 waiting"]);
    expect((await registry.store.read()).models[0]!.sequences).toEqual({ [keyId(key)]: 30 });
  });

  test("what crashes left is removed at the next start, whatever its age; parts that are young, and what counts, stay", async () => {
    await install(1);
    const lost = [
      join(folder, "models", `${"a".repeat(64)}.update`),
      join(folder, "incoming", "b.part"),
      join(folder, ".abc.tmp"),
      join(folder, "models", ".def.tmp"),
    ];
    const young = join(folder, "incoming", "c.part");
    for (const path of [...lost, young]) writeFileSync(path, "x");
    const longAgo = (Date.now() - 8 * DAY) / 1000;
    for (const path of [lost[1]!, registry.store.updatePath((await registry.versions())[0]!.id)])
      utimesSync(path, longAgo, longAgo);
    await registry.store.clean();
    expect(
      readdirSync(folder, { recursive: true }).filter((name) => /\.(update|part|tmp)$/.test(String(name))).length,
    ).toBe(2);
    expect(await answering()).toBe("1");
  });
});

test("made anew, an update that nobody signed comes before those that are, whatever its sequence", async () => {
  await install(1);
  await install(2);
  const model = models[3]!;
  const manifest = await describeModel(model, "m", { sequence: 999, expires: new Date(Date.now() + DAY) });
  const head = encodeManifest(manifest);
  const { id } = readManifest(head, "m", undefined);
  writeFileSync(join(folder, "models", `${id}.update`), Buffer.concat([head, model]));
  for (const name of ["state.json", "state.backup.json"]) rmSync(join(folder, name));
  expect(await answering()).toBe("2");
});

test("an install for which there is no room leaves the versions that it would have put out", async () => {
  for (const version of [1, 2, 3]) await install(version);
  const before = readdirSync(join(folder, "models"));
  const full = new Registry(folder, {
    keys,
    disk: {
      ...realDisk,
      write: async (path, bytes) => {
        // The update fits in, the state does not.
        if (!path.includes("/models/")) throw Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" });
        await realDisk.write(path, bytes);
      },
    },
  });
  await expect(install(4, {}, full)).rejects.toThrow("ENOSPC");
  expect(readdirSync(join(folder, "models")).sort()).toEqual(before.sort());
  expect(await answering()).toBe("3");
});

describe.skipIf(process.platform !== "linux" || process.getuid?.() !== 0)(
  "a disk that is full (needs root, to mount a small one)",
  () => {
    const temporary = (on: string) =>
      readdirSync(on, { recursive: true, encoding: "utf8" }).filter((name) => /\.(tmp|part)$/.test(name));

    test.each([
      ["with the reserve", false],
      ["whose reserve is used up", true],
    ])("%s: an install says so and leaves nothing; going back and removing need no room", async (_, isUsedUp) => {
      const disk = join(folder, "disk");
      mkdirSync(disk);
      if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).status !== 0)
        return expect.unreachable("a tmpfs cannot be mounted here");
      onTestFinished(() => void spawnSync("umount", ["-l", disk]));
      const on = new Registry(join(disk, "registry"), { keys });
      for (const version of [1, 2]) await install(version, {}, on);
      const fill = () => {
        for (const bytes of [65_536, 4_096]) {
          for (let i = 0; i < 1_000; i++) {
            try {
              writeFileSync(join(disk, `filler-${bytes}-${i}`), Buffer.alloc(bytes, 1));
            } catch {
              break;
            }
          }
        }
      };
      if (isUsedUp) rmSync(join(disk, "registry", "reserve"));
      fill();
      await expect(install(3, {}, on)).rejects.toThrow("ENOSPC");
      expect([temporary(disk), await summary(on)]).toEqual([[], ["1 previous", "2 active"]]);
      const { head } = updates[3]!;
      await expect(
        IncomingUpdate.begin(on, head).then((incoming) => incoming.append(0, updates[3]!.model)),
      ).rejects.toThrow("ENOSPC");
      expect(temporary(disk)).toEqual([]);
      if (isUsedUp) await on.remove("spam", "1");
      else {
        await on.rollback("spam");
        fill();
        await on.remove("spam", "2");
      }
      expect(await summary(on)).toEqual([isUsedUp ? "2 active" : "1 active"]);
      for (const name of readdirSync(disk).filter((each) => each.startsWith("filler"))) rmSync(join(disk, name));
      await install(4, {}, on);
      expect(await answering(on)).toBe("4");
      expect(readdirSync(join(disk, "registry"))).toContain("reserve");
    });
  },
);

describe("in parts", () => {
  test("goes on where it stopped, takes only what follows, and trusts nothing until it is whole", async () => {
    await install(1);
    const { head, model } = updates[2]!;
    const first = await IncomingUpdate.begin(registry, head);
    expect(await first.append(0, model.subarray(0, 100))).toBe(true);
    for (const offset of [0, 99, 101, -1, NaN])
      expect(await first.append(offset, model.subarray(100, 200))).toBe(false);
    const again = await IncomingUpdate.begin(new Registry(folder, { keys }), head);
    expect(again.received).toBe(100);
    await again.append(100, model.subarray(100));
    expect(again.isComplete).toBe(true);
    expect(await again.install({})).toMatchObject({ version: "2", state: "active" });
    expect(readdirSync(join(folder, "incoming"))).toEqual([]);
    await expect(IncomingUpdate.begin(registry, head)).rejects.toThrow("sequence 20, but 20");
  });

  test("what came in wrong is thrown away whole; what is too much is refused at once", async () => {
    const { head, model } = updates[1]!;
    const wrong = Buffer.from(model);
    wrong[7]! ^= 1;
    const incoming = await IncomingUpdate.begin(registry, head);
    await incoming.append(0, wrong);
    await expect(incoming.install({})).rejects.toThrow("is not the one that was signed");
    const again = await IncomingUpdate.begin(registry, head);
    expect(again.received).toBe(0);
    await expect(again.append(0, Buffer.alloc(model.length + 1))).rejects.toThrow(
      `the update has ${model.length} bytes, but more arrived`,
    );
    expect(await summary()).toEqual([]);
  });

  test("goes on with a sound part only: one that is too long, or another's, is begun anew", async () => {
    const { head, model } = updates[1]!;
    const path = registry.store.partPath((await IncomingUpdate.begin(registry, head)).id);
    const begunWith = async (part: Uint8Array): Promise<number> => {
      writeFileSync(path, part);
      const { received } = await IncomingUpdate.begin(registry, head);
      if (received === 0) expect(readFileSync(path)).toEqual(head);
      return received;
    };
    expect(await begunWith(Buffer.concat([head, model]))).toBe(model.length);
    expect(await begunWith(Buffer.concat([head, model, Buffer.from("x")]))).toBe(0);
    expect(await begunWith(Buffer.concat([updates[2]!.head, model.subarray(0, 9)]))).toBe(0);
    expect(await begunWith(head.subarray(1))).toBe(0);
  });

  test.each([
    ["ENOSPC", []],
    ["EIO", [expect.stringMatching(/\.part$/)]],
  ])("a part that cannot be kept is not in the way of others when the disk is full: %s", async (code, left) => {
    const refuse = () => Promise.reject(Object.assign(new Error(`${code}: refused`), { code }));
    const failing = new Registry(folder, { keys, disk: { ...realDisk, append: refuse } });
    const incoming = await IncomingUpdate.begin(failing, updates[1]!.head);
    await expect(incoming.append(0, updates[1]!.model)).rejects.toThrow(`(${code}: refused)`);
    expect(incoming.received).toBe(0);
    expect(readdirSync(join(folder, "incoming"))).toEqual(left);
  });

  test("half-received updates do not fill the disk", async () => {
    for (let i = 1; i <= 8; i++) await IncomingUpdate.begin(registry, (await signed(models[1]!, key, i)).head);
    expect(readdirSync(join(folder, "incoming")).length).toBe(4);
  });

  test("a manifest that may not be installed: no byte is taken", async () => {
    await expect(IncomingUpdate.begin(registry, (await signed(models[1]!, second, 1)).head)).rejects.toThrow(
      "not trusted",
    );
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("what the disk refuses", () => {
  test.each(["ENOSPC", "EIO", "EROFS", "EMFILE"])(
    "%s at every step: said so, and the old model stays",
    async (code) => {
      const fails: Disk = { ...realDisk };
      let left = Infinity;
      for (const step of ["write", "append", "sync", "rename", "remove"] as const) {
        const work = realDisk[step] as (...args: unknown[]) => Promise<void>;
        (fails as unknown as Record<string, unknown>)[step] = (...args: unknown[]) =>
          --left < 0 ? Promise.reject(Object.assign(new Error(`${code}: refused`), { code })) : work(...args);
      }
      const failing = new Registry(folder, { keys, disk: fails });
      await install(1, {}, failing);
      let refusals = 0;
      for (let steps = 0; ; steps++) {
        left = steps;
        try {
          await install(2, {}, failing);
          break;
        } catch (error) {
          refusals++;
          expect((error as Error).message).toBe(`the registry ${folder} cannot be used (${code}: refused)`);
          left = Infinity;
          const now = await answering();
          // From the rename of the state on it is the new one, whatever fails after it.
          if (now === "2") break;
          expect(now).toBe("1");
        }
      }
      expect(refusals).toBeGreaterThan(5);
    },
  );
});

describe("a disk that only reads", () => {
  const readOnly = (changes: Partial<Disk> = {}): Disk => {
    const refuse = () => Promise.reject(Object.assign(new Error("EROFS: read-only file system"), { code: "EROFS" }));
    return { ...realDisk, write: refuse, append: refuse, rename: refuse, remove: refuse, lock: refuse, ...changes };
  };

  test("is served all the same: a version on trial, and the one before a damaged one", async () => {
    await install(1);
    const { id } = await install(2);
    const on = new Registry(folder, { keys, disk: readOnly() });
    for (let start = 0; start < 3; start++)
      expect((await on.open("spam", never, "start"))!.classifier.version).toBe("2");
    writeFileSync(registry.store.updatePath(id), "damaged");
    expect(await answering(on, () => {})).toBe("1");
    await expect(install(3, {}, on)).rejects.toThrow("cannot be used (EROFS: read-only file system)");
  });

  test.each([
    ["EIO", "1"],
    ["EMFILE", undefined],
  ])(
    "%s while reading the active one: goes back to the one before only if the file is to blame",
    async (code, expected) => {
      await install(1);
      const { id } = await install(2);
      const read = (path: string) =>
        path.includes(id) ? Promise.reject(Object.assign(new Error(code), { code })) : realDisk.read(path);
      const on = new Registry(folder, { keys, disk: { ...realDisk, read } });
      if (expected === undefined) await expect(answering(on, () => {})).rejects.toThrow("cannot be used (EMFILE)");
      else expect(await answering(on, () => {})).toBe(expected);
      expect(await summary()).toEqual(expected === undefined ? ["1 previous", "2 active"] : ["1 active", "2 failed"]);
    },
  );
});

test("the power goes at every step of an install, an activation and a rollback: the old model or the new one", async () => {
  const scenarios: [string, (on: Registry) => Promise<unknown>, string[]][] = [
    ["install", (on) => install(3, {}, on), ["2", "3"]],
    ["rollback", (on) => on.rollback("spam"), ["2", "1"]],
    ["activate", (on) => on.activate("spam", "1"), ["2", "1"]],
    [
      "automatic rollback",
      async (on) => on.reject("spam", (await on.versions()).find(({ state }) => state === "active")!.id, "failed"),
      ["2", "1"],
    ],
    [
      "in parts",
      async (on) => {
        const { head, model } = updates[3]!;
        const incoming = await IncomingUpdate.begin(on, head);
        for (let at = 0; at < model.length; at += 200) await incoming.append(at, model.subarray(at, at + 200));
        await incoming.install({});
      },
      ["2", "3"],
    ],
  ];
  let cuts = 0;
  for (const [what, work, allowed] of scenarios) {
    const prepare = async () => {
      const disk = new MemoryDisk();
      const on = inMemory(disk);
      await install(1, {}, on);
      await install(2, {}, on);
      disk.steps = 0;
      return { disk, on: inMemory(disk) };
    };
    const whole = await prepare();
    await work(whole.on);
    expect(await answering(whole.on)).toBe(allowed[1]);
    for (let k = 1; k <= whole.disk.steps; k++) {
      for (let seed = 0; seed < 3; seed++) {
        const { disk, on } = await prepare();
        Object.assign(disk, { cutAt: k, completesLast: seed % 2 === 1 });
        await expect(work(on)).rejects.toThrow(PowerCut);
        const after = inMemory(disk.afterCut(new Seeded(seed)));
        const version = await answering(after);
        expect([what, k, seed, allowed.includes(version!)]).toEqual([what, k, seed, true]);
        // Nothing old comes back in, and the next update does.
        await expect(install(2, {}, after)).rejects.toThrow("sequence 20, but");
        await install(4, {}, after);
        expect(await answering(after)).toBe("4");
        cuts++;
      }
    }
  }
  expect(cuts).toBeGreaterThan(100);
});
