// What root does in a folder of another user, who may put links and other folders in the
// place of everything there, does nothing which that user could not do himself.
import { spawnSync } from "node:child_process";
import type { KeyObject } from "node:crypto";
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { appendCorrections } from "../../../host/data/journal.ts";
import { writeWhole } from "../../../host/files/atomic.ts";
import { replaceFiles } from "../../../host/files/versions.ts";
import { realDisk } from "../../../host/registry/disk.ts";
import { Registry } from "../../../host/registry/registry.ts";
import { edgelabel } from "../../support/program.ts";
import { keysFile, modelOf, newKey, signed } from "../../support/registry.ts";

const planting = fileURLToPath(new URL("../files/plant.mjs", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "edgelabel-owner-"));
const [keys, update] = [join(root, "keys"), join(root, "spam.update")];
const SERVICE = 12_345;
let key: KeyObject;
let home: string;
let victim: string;

beforeAll(async () => {
  key = newKey();
  chmodSync(root, 0o755);
  writeFileSync(keys, keysFile([key]));
  writeFileSync(update, (await signed(await modelOf(1), key, 1)).update);
});
beforeEach(() => {
  // Closed to the service's user, as that of systemd's dynamic users is; what is in it is his.
  home = join(mkdtempSync(join(root, "private-")), "edgelabel");
  mkdirSync(home);
  chownSync(home, SERVICE, SERVICE);
  victim = mkdtempSync(join(root, "victim-"));
  chmodSync(victim, 0o755);
  for (const name of ["state.json", "secret"]) writeFileSync(join(victim, name), "root's\n", { mode: 0o600 });
});
afterAll(() => rmSync(root, { recursive: true }));

/** Owner, mode and content of all that is not the service's. */
function untouched(): string[] {
  return [
    victim,
    ...readdirSync(victim)
      .sort()
      .map((name) => join(victim, name)),
  ].map((path) => {
    const found = statSync(path);
    return `${path} ${found.uid} ${found.mode.toString(8)} ${found.isDirectory() ? "" : readFileSync(path, "utf8")}`;
  });
}

describe.skipIf(process.getuid?.() !== 0)("root at work for the service (needs root)", () => {
  test("models install, rollback and remove: all is the service's afterwards, also where folders above are closed to it", async () => {
    const linked = join(root, "linked");
    symlinkSync(home, linked);
    const registry = join(linked, "registry");
    expect(await edgelabel(["models", "install", registry, update, "--keys", keys])).toMatchObject({
      code: 0,
      stderr: "",
    });
    const owners = new Set(
      readdirSync(home, { recursive: true, encoding: "utf8" }).map(
        (name) => `${statSync(join(home, name)).uid} ${statSync(join(home, name)).gid}`,
      ),
    );
    expect([...owners]).toEqual([`${SERVICE} ${SERVICE}`]);
    expect((await new Registry(registry).versions()).map(({ version, state }) => `${version} ${state}`)).toEqual([
      "1 active",
    ]);
    expect(await edgelabel(["models", "remove", registry, "spam"])).toMatchObject({ code: 0, stderr: "" });
    expect(readdirSync(join(home, "registry", "models"))).toEqual([]);
  });

  test.each(["symlink", "hardlink"])("a %s in the place of each temporary file as soon as it is there", (kind) => {
    const before = untouched();
    const { stderr } = spawnSync(
      process.execPath,
      [
        planting,
        kind,
        home,
        join(victim, "secret"),
        "models",
        "install",
        join(home, "registry"),
        update,
        "--keys",
        keys,
      ],
      { encoding: "utf8" },
    );
    expect(stderr).toMatch(/planted [1-9]/);
    expect(untouched()).toEqual(before);
  });

  test("a link in the place of each folder as soon as it is there", () => {
    const before = untouched();
    const { stderr } = spawnSync(
      process.execPath,
      [planting, "symlink", home, victim, "models", "install", join(home, "registry"), update, "--keys", keys],
      { encoding: "utf8" },
    );
    expect(stderr).toMatch(/planted [1-9]/);
    expect(untouched()).toEqual(before);
  });

  test.each<[string, (registry: string) => void]>([
    ["the registry", (registry) => symlinkSync(victim, registry)],
    [
      "its folder of models",
      (registry) => {
        mkdirSync(registry);
        chownSync(registry, SERVICE, SERVICE);
        symlinkSync(victim, join(registry, "models"));
      },
    ],
    ["a folder above, which does not exist yet", (registry) => symlinkSync(join(victim, "new"), registry)],
  ])("a folder of root's in the place of %s", async (_, plant) => {
    const registry = join(home, "registry");
    plant(registry);
    const before = untouched();
    expect((await edgelabel(["models", "install", registry, update, "--keys", keys])).code).toBe(1);
    expect((await edgelabel(["models", "remove", registry, "spam"])).code).toBe(1);
    expect(untouched()).toEqual(before);
  });

  test("a registry of another user's in a folder of root's: what the user has put there leads nowhere either", async () => {
    const registry = mkdtempSync(join(root, "registry-"));
    chownSync(registry, SERVICE, SERVICE);
    symlinkSync(victim, join(registry, "models"));
    chmodSync(victim, 0o777);
    const before = untouched();
    // The link would do for anybody who may write behind it: what is made there is not root's.
    await edgelabel(["models", "install", registry, update, "--keys", keys]);
    const made = readdirSync(victim).filter((name) => name.endsWith(".update"));
    for (const name of made) {
      expect(statSync(join(victim, name)).uid).toBe(SERVICE);
      rmSync(join(victim, name));
    }
    expect(untouched()).toEqual(before);
    expect(statSync(join(registry, "state.json")).uid).toBe(SERVICE);
  });

  test("a registry of root's own is made with the folders above it, for root only", async () => {
    const registry = join(mkdtempSync(join(root, "own-")), "some", "where");
    expect(await edgelabel(["models", "install", registry, update, "--keys", keys])).toMatchObject({
      code: 0,
      stderr: "",
    });
    expect([statSync(registry).uid, statSync(registry).mode & 0o777]).toEqual([0, 0o700]);
  });

  test("a folder of root's in which others may write is refused", async () => {
    const open = join(root, "open");
    mkdirSync(open);
    chmodSync(open, 0o777);
    const { code, stderr } = await edgelabel(["models", "install", join(open, "registry"), update, "--keys", keys]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(`${open} belongs to root, but others may write there: give it to the user who does`),
    ]);
  });

  test("a service that runs as root gives what it writes to the owner of the folder, and nothing else", async () => {
    const before = untouched();
    const temporary = join(home, "guessed.tmp");
    symlinkSync(join(victim, "secret"), temporary);
    await realDisk.write(temporary, "state");
    expect([statSync(temporary).uid, readFileSync(temporary, "utf8")]).toEqual([SERVICE, "state"]);
    rmSync(temporary);
    symlinkSync(join(victim, "secret"), temporary);
    await expect(realDisk.append(temporary, Buffer.from("x"))).rejects.toThrow("ELOOP");
    symlinkSync(victim, join(home, "models"));
    await realDisk.makeFolder(join(home, "models"));
    expect(untouched()).toEqual(before);
  });

  test("learn's files: what lies under a name that can be guessed is not followed, and new ones are the owner's", async () => {
    const model = join(home, "lamps.elb");
    writeFileSync(model, "old");
    chownSync(model, SERVICE, SERVICE);
    for (const name of [".lamps.elb.next", ".lamps.previous.elb.next", "..lamps.elb.plan.next"])
      symlinkSync(join(victim, "secret"), join(home, name));
    const before = untouched();
    await replaceFiles([{ path: model, bytes: Buffer.from("new") }]);
    expect(
      ["lamps.elb", "lamps.previous.elb"].map(
        (name) => `${readFileSync(join(home, name), "utf8")} ${statSync(join(home, name)).uid}`,
      ),
    ).toEqual([`new ${SERVICE}`, `old ${SERVICE}`]);
    expect(untouched()).toEqual(before);
  });

  test.each<[string, (victim: string, journal: string) => void]>([
    ["a symlink", symlinkSync],
    ["a hard link", linkSync],
  ])("%s in the place of the journal is not appended to", async (_, plant) => {
    const journal = join(home, "lamps.corrections.jsonl");
    plant(join(victim, "secret"), journal);
    const before = untouched();
    await expect(appendCorrections(journal, [{ label: "on", text: "light" }])).rejects.toThrow(
      /the corrections cannot be kept \((ELOOP|it belongs to user 0, but its folder to user 12345)/,
    );
    expect(untouched()).toEqual(before);
    rmSync(journal);
    await appendCorrections(journal, [{ label: "on", text: "light" }]);
    expect(statSync(journal).uid).toBe(SERVICE);
  });

  test("-o: what lies under the name of an earlier temporary file is not followed", async () => {
    const output = join(home, "x.update");
    symlinkSync(join(victim, "secret"), join(home, `.x.update.${process.pid}.tmp`));
    const before = untouched();
    await writeWhole(output, Buffer.from("update"));
    expect(readFileSync(output, "utf8")).toBe("update");
    expect(untouched()).toEqual(before);
  });
});
