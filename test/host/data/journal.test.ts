// The journal of corrections on a real disk: what was confirmed is there after any cut.
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { appendCorrections, journalPath, newsTo, readCorrections } from "../../../host/data/journal.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-corrections-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = (): string => journalPath(join(folder, `model${files++}.elb`));
const entries = async (path: string): Promise<[string, string][]> =>
  (await readCorrections(path)).map(({ label, text }) => [label, text]);

const WRITTEN: [string, string][] = [
  ["spam", 'line\none, "two"'],
  ["härm", "日本語 \u2028 🙂"],
  ["spam", "three"],
];
const asEntries = (pairs: [string, string][]) => pairs.map(([label, text]) => ({ label, text }));

test("lies beside its model, is for its owner only, and grows in order", async () => {
  expect(journalPath("a.b/spam.elb")).toBe("a.b/spam.corrections.jsonl");
  const path = fresh();
  expect(await readCorrections(path)).toEqual([]);
  for (const entry of asEntries(WRITTEN)) await appendCorrections(path, [entry]);
  await appendCorrections(path, asEntries(WRITTEN));
  expect(await entries(path)).toEqual([...WRITTEN, ...WRITTEN]);
  if (process.platform !== "win32") expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("is a JSON object a line and nothing else, so that other programs can read it", async () => {
  const path = fresh();
  await appendCorrections(path, asEntries(WRITTEN.slice(0, 1)));
  await appendCorrections(path, asEntries(WRITTEN.slice(1)));
  expect(readFileSync(path, "utf8")).toBe(
    asEntries(WRITTEN)
      .map((entry) => `${JSON.stringify(entry)}\n`)
      .join(""),
  );
  expect(journalPath("a/spam.wasm")).toBe("a/spam.corrections.jsonl");
});

test.runIf(existsSync("/proc/self/fd"))("appending keeps no file open, be it done or failed", async () => {
  const path = fresh();
  const round = async (): Promise<void> => {
    await appendCorrections(path, asEntries(WRITTEN));
    await appendCorrections(join(folder, "none", "x.jsonl"), asEntries(WRITTEN)).catch(() => {});
  };
  const open = (): number => readdirSync("/proc/self/fd").length;
  await round();
  const before = open();
  for (let i = 0; i < 30; i++) await round();
  expect(open() - before).toBeLessThan(10);
});

test.skipIf(process.getuid?.() !== 0)(
  "is appended to by root only if it is its folder's owner's, and made his",
  async () => {
    const home = mkdtempSync(join(folder, "home-"));
    chownSync(home, 12_345, 12_346);
    const path = join(home, "x.jsonl");
    await appendCorrections(path, asEntries(WRITTEN));
    expect([statSync(path).uid, statSync(path).gid]).toEqual([12_345, 12_346]);
    chownSync(path, 0, 0);
    await expect(appendCorrections(path, asEntries(WRITTEN))).rejects.toThrow(
      "it belongs to user 0, but its folder to user 12345; give both to one user",
    );
    expect(await entries(path)).toEqual(WRITTEN);
  },
);

describe("cut at any byte", () => {
  const path = fresh();
  test("keeps all whole entries, and the next append mends it", async () => {
    await appendCorrections(path, asEntries(WRITTEN));
    const bytes = readFileSync(path);
    const ends = [...bytes].flatMap((byte, i) => (byte === 10 ? [i] : []));
    expect(ends).toHaveLength(WRITTEN.length);
    for (let length = 0; length <= bytes.length; length++) {
      writeFileSync(path, bytes.subarray(0, length));
      // An entry is whole with its last brace, even if the end of its line is missing.
      const whole = WRITTEN.slice(0, ends.filter((end) => end <= length).length);
      expect(await entries(path)).toEqual(whole);
      await appendCorrections(path, [{ label: "ham", text: "after the cut" }]);
      expect(await entries(path)).toEqual([...whole, ["ham", "after the cut"]]);
      expect(readFileSync(path, "utf8").endsWith("}\n")).toBe(true);
    }
  });
  test.each([
    ["zeros", Buffer.alloc(700)],
    ["half a letter", Buffer.from([0x22, 0xe6, 0x97])],
    ["another object", Buffer.from('{"a":1}')],
  ])("with %s behind it", async (_, tail) => {
    await appendCorrections(path, asEntries(WRITTEN));
    const before = await entries(path);
    writeFileSync(path, tail, { flag: "a" });
    expect(await entries(path)).toEqual(before);
    await appendCorrections(path, asEntries(WRITTEN));
    expect(await entries(path)).toEqual([...before, ...WRITTEN]);
  });
});

test("a broken line in the middle is no cut: it is named", async () => {
  const path = fresh();
  await appendCorrections(path, asEntries(WRITTEN));
  writeFileSync(path, readFileSync(path, "utf8").replace('{"label":"h', '{"labe'));
  await expect(readCorrections(path)).rejects.toThrow(`${path}: line 2: not valid JSON`);
});

test("a folder that is not there is an EdgelabelError", async () => {
  await expect(appendCorrections(join(folder, "none", "x.jsonl"), asEntries(WRITTEN))).rejects.toThrow(
    "x.jsonl: the corrections cannot be kept (ENOENT",
  );
});

test("what is said of a text last counts, whatever was said of it before", () => {
  const [on, off] = ["on", "off"].map((label) => ({ label, text: "lights" })) as [
    { label: string; text: string },
    { label: string; text: string },
  ];
  expect(newsTo([off, on], [on])).toEqual([]);
  expect(newsTo([], [on, on])).toEqual([on]);
  expect(newsTo([on], [off, on])).toEqual([off, on]);
});
