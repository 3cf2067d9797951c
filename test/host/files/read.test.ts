// The reader of all files: what is wrong with a file is said in the same words, whoever reads it.
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { readDataset } from "../../../host/data/read.ts";
import { readCorrections } from "../../../host/data/journal.ts";
import {
  readIfAny,
  readText,
  readUnzipped,
  readWhole,
  readWholeSync,
  requireReadable,
} from "../../../host/files/read.ts";
import { openModel } from "../../../host/model/file.ts";
import { readPrivateKey, readTrustedKeys } from "../../../host/registry/keys.ts";
import { readSettings } from "../../../host/service/config.ts";
import { edgelabel, main } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-read-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));
mkdirSync(at("folder"));
writeFileSync(at("utf16"), Buffer.from("\ufeffon\tlight\n", "utf16le"));
writeFileSync(at("latin1"), Buffer.from("on\tK\u00fcche, licht\n", "latin1"));
writeFileSync(at("marked"), '\ufeff{"node": "gate"}');

test("a file, or undefined where there may be none", async () => {
  expect((await readWhole(at("latin1"))).toString("latin1")).toBe("on\tK\u00fcche, licht\n");
  expect(readWholeSync(at("latin1"))).toEqual(await readWhole(at("latin1")));
  expect(await readIfAny(at("latin1"))).toEqual(await readWhole(at("latin1")));
  expect([await readIfAny(at("none")), await readText(at("marked"))]).toEqual([undefined, '{"node": "gate"}']);
  requireReadable(at("latin1"), {});
  expect(() => requireReadable(at("none"), { what: "certificate" })).toThrow(
    `cannot read the certificate ${at("none")}: no such file`,
  );
});

test("a file in gzip is read as what is in it, any other as it is; a cut off one is named", async () => {
  const content = Buffer.from(Array.from({ length: 50_000 }, (_, i) => `word${i} ${i / 7}\n`).join(""));
  const zipped = gzipSync(content);
  writeFileSync(at("plain.vec"), content);
  writeFileSync(at("zipped.vec"), zipped);
  writeFileSync(at("two.vec"), Buffer.concat([gzipSync(content.subarray(0, 100)), gzipSync(content.subarray(100))]));
  writeFileSync(at("cut.vec"), zipped.subarray(0, zipped.length - 100));
  writeFileSync(at("empty.vec"), "");
  const read = async (name: string): Promise<Buffer> => {
    const parts: Uint8Array[] = [];
    for await (const part of readUnzipped(at(name))) parts.push(part);
    return Buffer.concat(parts);
  };
  for (const name of ["plain.vec", "zipped.vec", "two.vec"]) expect((await read(name)).equals(content)).toBe(true);
  expect(await read("empty.vec")).toHaveLength(0);
  await expect(read("cut.vec")).rejects.toThrow(
    `${at("cut.vec")}: is damaged or cut off gzip (unexpected end of file)`,
  );
  await expect(read("no.vec")).rejects.toThrow(`${at("no.vec")}: no such file`);
});

const readers: [string, (path: string) => unknown, { prefix?: string; missing?: string }][] = [
  ["texts", (path) => readDataset([path]), {}],
  ["a model", (path) => openModel(path), { missing: "; make a model with: edgelabel train DATA -o none" }],
  ["trusted keys", readTrustedKeys, { prefix: "cannot read the file of trusted keys " }],
  ["a private key", readPrivateKey, { missing: `; make one with: edgelabel keygen ${at("none")}` }],
  ["a configuration", (config) => readSettings([], { config }), { prefix: "cannot read the configuration file " }],
];

test.each(readers)(
  "%s: a file that is missing, below a file, or a directory",
  async (_, read, { prefix = "", missing = "" }) => {
    const complaint = async (path: string) => {
      try {
        await read(path);
        return "none";
      } catch (error) {
        return `${(error as Error).name}: ${(error as Error).message}`;
      }
    };
    expect(await complaint(at("none"))).toBe(`EdgelabelError: ${prefix}${at("none")}: no such file${missing}`);
    expect(await complaint(at("latin1/x"))).toBe(`EdgelabelError: ${prefix}${at("latin1/x")}: no such file`);
    expect(await complaint(at("folder"))).toBe(`EdgelabelError: ${prefix}${at("folder")}: is a directory, not a file`);
  },
);

test("a journal may be missing, but must be a file", async () => {
  expect(await readCorrections(at("none"))).toEqual([]);
  await expect(readCorrections(at("folder"))).rejects.toThrow(`${at("folder")}: is a directory, not a file`);
});

test.each(readers.filter(([what]) => ["synonyms", "trusted keys", "a configuration"].includes(what)))(
  "%s: a file in another encoding",
  async (_, read) => {
    await expect(async () => read(at("utf16"))).rejects.toThrow(
      `${at("utf16")}: is UTF-16, as some Windows programs write it; save it as UTF-8`,
    );
    await expect(async () => read(at("latin1"))).rejects.toThrow(`${at("latin1")}: not valid UTF-8`);
  },
);

test("a file that is larger than its kind may be is not read; what is gone by then is still named", async () => {
  const most = { bytes: 10, otherwise: "larger than 10 bytes; split it" };
  await expect(readWhole(at("latin1"), { most })).rejects.toThrow(`${at("latin1")}: larger than 10 bytes; split it`);
  await expect(readWhole(at("none"), { most })).rejects.toThrow(`${at("none")}: no such file`);
  spawnSync("truncate", ["-s", "3G", at("huge.tsv")]);
  await expect(readDataset([at("huge.tsv")])).rejects.toThrow(
    `${at("huge.tsv")}: larger than 512 MB; split it into several files`,
  );
  await expect(readText(at("huge.tsv"))).rejects.toThrow(`${at("huge.tsv")}: is larger than 2 GiB`);
  expect(() => readWholeSync(at("huge.tsv"))).toThrow(`${at("huge.tsv")}: is larger than 2 GiB`);
});

test.skipIf(process.platform === "win32")("a file that this user may not read", () => {
  writeFileSync(at("closed.wasm"), "");
  chmodSync(at("closed.wasm"), 0);
  chmodSync(folder, 0o755);
  const as = process.getuid!() === 0 ? { uid: 12_345, gid: 12_345 } : {};
  const { status, stderr } = spawnSync(process.execPath, [main, "info", at("closed.wasm")], {
    encoding: "utf8",
    ...as,
  });
  expect([status, stderr]).toEqual([1, `edgelabel: ${at("closed.wasm")}: permission denied\n`]);
});

test("the commands say the same, in one line", async () => {
  for (const [args, reason] of [
    [["models", "install", at("registry"), at("none"), "--keys", at("none")], `${at("none")}: no such file`],
    [["models", "send", at("folder")], `${at("folder")}: is a directory, not a file`],
    [["import", at("none"), "--tokenizer", "t", "--labels", "l", "-o", "x.elb"], `${at("none")}: no such file`],
    [
      ["serve", "--config", at("utf16")],
      `${at("utf16")}: is UTF-16, as some Windows programs write it; save it as UTF-8`,
    ],
    [["serve", "m.wasm", "--ca", at("none")], `cannot read the CA file ${at("none")}: no such file`],
  ] as [string[], string][])
    expect(await edgelabel(args)).toMatchObject({ code: 1, stdout: "", stderr: `edgelabel: ${reason}\n` });
});
