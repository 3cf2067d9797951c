// Files that are whole or not there, on a real disk.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  ifCode,
  inFolder,
  isFull,
  isSameFile,
  openToAppend,
  reasonOf,
  requireWritable,
  syncFolder,
  temporaryIn,
  writeNew,
  writeWhole,
} from "../../../host/files/atomic.ts";

const root = mkdtempSync(join(tmpdir(), "edgelabel-atomic-"));
let folder: string;
const at = (name: string): string => join(folder, name);
const bytes = Buffer.from("whole");

beforeEach(() => {
  folder = mkdtempSync(join(root, "-"));
});
afterAll(() => rmSync(root, { recursive: true }));

describe("writeWhole", () => {
  test("makes a file, and takes the place of one, and leaves nothing else", async () => {
    for (const content of ["one", "two, which is longer", ""]) {
      await writeWhole(at("a"), Buffer.from(content));
      expect(readFileSync(at("a"), "utf8")).toBe(content);
    }
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("that fails leaves what was there, and nothing else", async () => {
    mkdirSync(at("a"));
    await expect(writeWhole(at("a"), bytes)).rejects.toThrow(`${at("a")}: cannot be written (`);
    await expect(writeWhole(at("none/a"), bytes)).rejects.toThrow(
      `${at("none/a")}: cannot be written (no folder ${at("none")})`,
    );
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("follows no link that has taken the file's place", async () => {
    writeFileSync(at("other"), "other");
    symlinkSync(at("other"), at("a"));
    await writeWhole(at("a"), bytes);
    expect([readFileSync(at("other"), "utf8"), readFileSync(at("a"), "utf8")]).toEqual(["other", "whole"]);
  });
});

describe("writeNew", () => {
  test("writes nothing where something is", async () => {
    writeFileSync(at("a"), "old");
    symlinkSync(at("nowhere"), at("link"));
    for (const name of ["a", "link"]) await expect(writeNew(at(name), bytes)).rejects.toMatchObject({ code: "EEXIST" });
    expect(readFileSync(at("a"), "utf8")).toBe("old");
    expect(existsSync(at("nowhere"))).toBe(false);
  });

  test("gives exactly the mode that is asked for, whatever the umask", async () => {
    const umask = process.umask(0o077);
    try {
      await writeNew(at("open"), bytes, { mode: 0o666 });
      await writeNew(at("closed"), bytes, { mode: 0o600 });
      await writeNew(at("usual"), "text");
    } finally {
      process.umask(umask);
    }
    const modes = ["open", "closed", "usual"].map((name) => statSync(at(name)).mode & 0o777);
    expect(modes).toEqual([0o666, 0o600, 0o600]);
    expect(readFileSync(at("usual"), "utf8")).toBe("text");
  });

  test("removes what it has begun when it fails", async () => {
    // No such bytes can be written.
    await expect(writeNew(at("a"), 7 as unknown as string)).rejects.toThrow();
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("openToAppend", () => {
  test("makes a file for its owner's eyes only, or goes on with one", async () => {
    for (const line of ["one\n", "two\n"]) {
      const file = await openToAppend(at("a"));
      await file.appendFile(line);
      await file.close();
    }
    expect([readFileSync(at("a"), "utf8"), statSync(at("a")).mode & 0o777]).toEqual(["one\ntwo\n", 0o600]);
    symlinkSync(at("a"), at("link"));
    await expect(openToAppend(at("link"))).rejects.toMatchObject({ code: "ELOOP" });
  });

  test.skipIf(process.getuid?.() !== 0)("leaves another user's file alone, and closed", async () => {
    writeFileSync(at("a"), "root's");
    chownSync(folder, 12_345, 12_345);
    const handles = (): number => readdirSync("/proc/self/fd").length;
    const before = handles();
    for (let i = 0; i < 30; i++) await expect(openToAppend(at("a"))).rejects.toThrow("it belongs to user 0");
    expect(handles() - before).toBeLessThan(10);
    await (await openToAppend(at("b"))).close();
    expect(statSync(at("b")).uid).toBe(12_345);
  });
});

test.runIf(existsSync("/proc/self/fd"))("no write keeps a file open, be it done or failed", async () => {
  const handles = (): number => readdirSync("/proc/self/fd").length;
  mkdirSync(at("folder"));
  writeFileSync(at("there"), "");
  const round = async (i: number): Promise<void> => {
    await writeWhole(at("whole"), bytes);
    await writeNew(at(`new ${i}`), bytes);
    await writeNew(at("there"), bytes).catch(() => {});
    await writeNew(at(`bad ${i}`), 7 as unknown as string).catch(() => {});
    await writeWhole(at("folder"), bytes).catch(() => {});
    await inFolder(folder, async () => {});
    await inFolder(folder, () => Promise.reject(new Error())).catch(() => {});
    await syncFolder(folder);
  };
  await round(0);
  const before = handles();
  for (let i = 1; i <= 50; i++) await round(i);
  // A collection of garbage closes forgotten files too: 50 rounds come without one.
  expect(handles() - before).toBeLessThan(20);
});

test("what is written is synced before its name is given to it, and a folder when that is asked for", async () => {
  const handle = await open(folder);
  const prototype = Object.getPrototypeOf(handle) as typeof handle;
  await handle.close();
  const synced: string[][] = [];
  const sync = vi.spyOn(prototype, "sync").mockImplementation(async () => {
    synced.push(readdirSync(folder));
  });
  await writeWhole(at("a"), bytes);
  await writeNew(at("b"), bytes);
  await syncFolder(folder);
  sync.mockRestore();
  expect(synced).toEqual([[expect.stringMatching(/\.tmp$/)], ["a", "b"], ["a", "b"]]);
});

describe("requireWritable", () => {
  test("takes a file that is there or not, in a folder that is there", async () => {
    writeFileSync(at("a"), "old");
    await requireWritable(at("a"));
    await requireWritable(at("b"));
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("refuses a folder, a missing folder, and a file for a folder", async () => {
    writeFileSync(at("a"), "old");
    await expect(requireWritable(folder)).rejects.toThrow(`${folder}: is a directory, not a file`);
    await expect(requireWritable(at("none/b"))).rejects.toThrow(`no folder ${at("none")}`);
    await expect(requireWritable(at("a/b"))).rejects.toThrow("cannot be written (");
  });

  test.skipIf(process.getuid?.() === 0)("refuses a folder in which it may not write", async () => {
    chmodSync(folder, 0o500);
    await expect(requireWritable(at("a"))).rejects.toThrow("cannot be written (EACCES");
  });
});

test("isSameFile sees through links and spellings", async () => {
  writeFileSync(at("a"), "");
  writeFileSync(at("b"), "");
  symlinkSync(at("a"), at("link"));
  expect(await isSameFile(at("a"), at("link"))).toBe(true);
  expect(await isSameFile(at("a"), relative("", at("a")))).toBe(true);
  expect(await isSameFile(at("a"), at("b"))).toBe(false);
  // Neither is there yet.
  expect(await isSameFile(at("c"), relative("", at("c")))).toBe(true);
  expect(await isSameFile(at("c"), at("d"))).toBe(false);
});

test.runIf(process.platform === "linux")(
  "inFolder's path leads to the folder it found, wherever the name leads",
  async () => {
    mkdirSync(at("one"));
    mkdirSync(at("two"));
    symlinkSync(at("one"), at("name"));
    const owner = await inFolder(at("name"), async (path, owner) => {
      rmSync(at("name"));
      symlinkSync(at("two"), at("name"));
      writeFileSync(join(path, "a"), "");
      return owner;
    });
    expect([readdirSync(at("one")), readdirSync(at("two"))]).toEqual([["a"], []]);
    expect(owner.uid).toBe(statSync(at("one")).uid);
    await expect(
      inFolder(at("one"), async (path) => {
        throw new Error(`${path}/a, ${path}/b`);
      }),
    ).rejects.toThrow(`${at("one")}/a, ${at("one")}/b`);
    writeFileSync(at("file"), "");
    await expect(inFolder(at("file"), async () => {})).rejects.toMatchObject({ code: "ENOTDIR" });
  },
);

test("errors of files: by code, and in words", () => {
  const error = (code: string): Error => Object.assign(new Error(`${code}: in words`), { code });
  expect(ifCode("ENOENT", 7)(error("ENOENT"))).toBe(7);
  expect(() => ifCode("ENOENT", 7)(error("EACCES"))).toThrow("EACCES");
  expect(["ENOSPC", "EDQUOT", "EIO"].map((code) => isFull(error(code)))).toEqual([true, true, false]);
  expect(reasonOf(error("ENOENT"), at("a"))).toBe(`no folder ${folder}`);
  expect(reasonOf(error("EIO"), at("a"))).toBe("EIO: in words");
});

test("temporary names are in the folder, hidden, and never the same", () => {
  const names = Array.from({ length: 100 }, () => temporaryIn(folder));
  expect(new Set(names).size).toBe(100);
  for (const name of names) expect(relative(folder, name)).toMatch(/^\.[0-9a-f]{16}\.tmp$/);
});

test("syncFolder minds no folder that is not there", async () => {
  await syncFolder(at("none"));
});
