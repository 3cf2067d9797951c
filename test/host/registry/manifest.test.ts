// Updates: what is signed, what is trusted, and what is refused with which words.
import { createPublicKey, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { ABI_VERSION } from "../../../assembly/abi.ts";
import { keyId, parseTrustedKeys } from "../../../host/registry/keys.ts";
import {
  checkDigest,
  checkFitness,
  encodeManifest,
  readManifest,
  splitUpdate,
} from "../../../host/registry/manifest.ts";
import { testModel } from "../../../host/registry/selftest.ts";
import { DAY, keysFile, lineOf, modelOf, newKey, signed } from "../../support/registry.ts";
import type { Signed } from "../../support/registry.ts";

let key: KeyObject;
let other: KeyObject;
let update: Signed;

beforeAll(async () => {
  [key, other] = [newKey(), newKey()];
  update = await signed(await modelOf(1), key, 7);
});

const trusting = (text: string) => parseTrustedKeys(text, "keys");
const read = (head: Uint8Array, keys = keysFile([key])) => readManifest(head, "spam.update", trusting(keys));

test("two lines: what is signed, and by whom; anyone with the key can check it", () => {
  const { head } = update;
  const [line, signature, rest] = head.toString().split("\n");
  expect(rest).toBe("");
  expect(JSON.parse(line!)).toMatchObject({
    update: 1,
    name: "spam",
    version: "1",
    bytes: update.model.length,
    abi: ABI_VERSION,
    sequence: 7,
  });
  expect(JSON.parse(line!).golden).toEqual([
    { text: "", line: lineOf(1) },
    { text: "ham", line: lineOf(1) },
    { text: "spam", line: lineOf(1) },
  ]);
  const [kind, id, base64] = signature!.split(" ");
  expect([kind, id]).toEqual(["ed25519", keyId(key)]);
  expect(verify(null, Buffer.from(`${line}\n`), createPublicKey(key), Buffer.from(base64!, "base64"))).toBe(true);
  expect(read(head)).toMatchObject({ key: keyId(key), manifest: update.manifest });
  expect(splitUpdate(update.update, "u")).toEqual({ head, model: Buffer.from(update.model) });
});

test("the public key of RFC 8032, test 1, as a line of the file", () => {
  // SPKI: the fixed beginning of RFC 8410, then the 32 bytes.
  const der = Buffer.from(
    "302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "hex",
  );
  const { trusted } = trusting(`ed25519 ${der.toString("base64")} RFC 8032`);
  const [found] = trusted.values();
  const signature = Buffer.from(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    "hex",
  );
  expect(verify(null, Buffer.alloc(0), found!, signature)).toBe(true);
});

describe("keys", () => {
  test("several, with remarks; a revoked one is revoked wherever the line stands", () => {
    expect([...trusting(keysFile([key, other])).trusted.keys()]).toEqual([keyId(key), keyId(other)]);
    const { trusted, revoked } = trusting(keysFile([key, other], [key]) + keysFile([key]));
    expect([[...trusted.keys()], [...revoked]]).toEqual([[keyId(other)], [keyId(key)]]);
  });

  test.each([
    ["ed25519", 1],
    ["rsa AAAA", 1],
    ["# fine\n\ned25519 AAAA x", 3],
    ["revokd ed25519 AAAA", 1],
    ["ed25519 MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf", 1],
  ])("%j: names line %i", (text, line) => {
    expect(() => trusting(text)).toThrow(`keys, line ${line}: must be "ed25519 KEY REMARK"`);
  });

  test("unknown, revoked, absent, and somebody else's name on the signature", () => {
    expect(() => read(update.head, keysFile([other]))).toThrow(
      `signed with the key ${keyId(key)}, which is not trusted (trusted: ${keyId(other)})`,
    );
    expect(() => read(update.head, "")).toThrow("not trusted (trusted: none)");
    expect(() => read(update.head, keysFile([key], [key]))).toThrow("which is revoked");
    expect(() => read(encodeManifest(update.manifest))).toThrow("spam.update: is not signed");
    const forged = update.head.toString().replace(keyId(key), keyId(other));
    expect(() => read(Buffer.from(forged), keysFile([key, other]))).toThrow("its signature is wrong");
  });
});

test("one spelling only: the unused bits of base64 are no hiding place", () => {
  const text = update.head.toString();
  const base64 = text.trimEnd().split(" ").at(-1)!;
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const twin = `${base64.slice(0, -3)}${alphabet[alphabet.indexOf(base64.at(-3)!) ^ 1]}==`;
  expect(Buffer.from(twin, "base64")).toEqual(Buffer.from(base64, "base64"));
  expect(() => read(Buffer.from(text.replace(base64, twin)))).toThrow("its signature is wrong");
});

test("a signed manifest that says what this edgelabel does not know is refused", () => {
  const extra = { ...update.manifest, trust: "ed25519 AAAA" };
  expect(() => read(encodeManifest(extra, key))).toThrow("its manifest is invalid at trust");
  for (const [field, value] of [
    ["update", 2],
    ["name", "a/b"],
    ["name", "__proto__"],
    ["digest", "abc"],
    ["bytes", 0],
    ["bytes", 2 ** 31],
    ["bytes", -1],
    ["bytes", 1.5],
    ["abi", "1"],
    ["sequence", 0],
    ["sequence", -1],
    ["sequence", 1.5],
    ["sequence", 2 ** 53],
    ["sequence", 2 ** 63],
    ["sequence", "7"],
    ["expires", "tomorrow"],
    ["expires", "2027-01-01"],
    ["signed", 0],
    ["golden", [{ text: "a" }]],
  ] as const) {
    expect(() => read(encodeManifest({ ...update.manifest, [field]: value }, key))).toThrow(
      `its manifest is invalid at ${field}`,
    );
  }
});

test("engine, clock and sequence", () => {
  const fitness =
    (changes: object, { now = Date.now(), floor = 6 } = {}) =>
    () =>
      checkFitness({ ...read(update.head), manifest: { ...update.manifest, ...changes } }, "u", { now, floor });
  expect(fitness({})).not.toThrow();
  expect(fitness({ abi: ABI_VERSION + 1 })).toThrow(
    `needs engine ABI ${ABI_VERSION + 1}, but this edgelabel has ${ABI_VERSION}`,
  );
  expect(fitness({}, { now: Date.now() + DAY })).toThrow("expired on");
  expect(fitness({}, { now: Date.now() + 365 * DAY })).toThrow("expired on");
  // Without a clock of its own a machine may believe that it is 1970.
  expect(fitness({}, { now: 0 })).toThrow("is in the future; set this machine's clock");
  expect(fitness({}, { floor: 7 })).toThrow("has sequence 7, but 7 of spam was installed already");
  expect(fitness({}, { floor: 8 })).toThrow("an old update is never accepted again");
});

test("clock and sequence at their bounds", () => {
  const now = Date.parse("2027-05-06T07:08:09.000Z");
  const iso = (time: number) => new Date(time).toISOString();
  const fits = (changes: object, floor = 6) => {
    const manifest = { ...update.manifest, signed: iso(now), expires: iso(now + DAY), ...changes };
    return () => checkFitness({ ...read(update.head), manifest }, "u", { now, floor });
  };
  expect(fits({ expires: iso(now + 1) })).not.toThrow();
  expect(fits({ expires: iso(now) })).toThrow("expired on 2027-05-06T07:08:09.000Z");
  expect(fits({ signed: iso(now + DAY) })).not.toThrow();
  expect(fits({ signed: iso(now + DAY + 1) })).toThrow("is in the future");
  expect(fits({ sequence: 8 }, 7)).not.toThrow();
  expect(fits({ sequence: 7 }, 7)).toThrow("has sequence 7, but 7 of spam was installed already");
  expect(fits({ abi: ABI_VERSION - 1 })).toThrow("needs engine ABI");
});

test("sizes at their bounds", () => {
  const legal = (changes: object) => read(encodeManifest({ ...update.manifest, ...changes }, key)).manifest;
  expect(legal({ bytes: 2 ** 28 }).bytes).toBe(2 ** 28);
  expect(() => legal({ bytes: 2 ** 28 + 1 })).toThrow("invalid at bytes");
  const texts = (count: number) => Array.from({ length: count }, (_, i) => ({ text: `${i}`, line: "" }));
  expect(legal({ golden: texts(64) }).golden).toHaveLength(64);
  expect(legal({ golden: [] }).golden).toEqual([]);
  expect(() => legal({ golden: texts(65) })).toThrow("invalid at golden");
  expect(legal({ sequence: 1 }).sequence).toBe(1);

  const least = encodeManifest({ ...update.manifest, version: "" }, key).length;
  const longest = { ...update.manifest, version: "v".repeat(65_536 - least) };
  const head = encodeManifest(longest, key);
  expect(head).toHaveLength(65_536);
  expect(read(head).manifest.version).toBe(longest.version);
  expect(splitUpdate(Buffer.concat([head, Buffer.from("x")]), "u")).toEqual({ head, model: Buffer.from("x") });
  expect(() => encodeManifest({ ...longest, version: `${longest.version}v` }, key)).toThrow(
    "the manifest would have 65537 bytes, at most 65536 are allowed",
  );
  const tooLong = Buffer.from(head.toString().replace("vv", "vvv"));
  expect(() => read(tooLong)).toThrow("its manifest is cut off or too long");
  expect(() => splitUpdate(tooLong, "u")).toThrow("u: is not an update");
});

test("an update whose manifest is cut off, or which is something else, is told from one that is damaged", () => {
  const { head } = update;
  for (const bytes of ["", "{", "x\ny\nz", head.subarray(0, -1), head.subarray(0, head.indexOf("\n") + 1)])
    expect(() => splitUpdate(Buffer.from(bytes as string), "u")).toThrow("u: is not an update; make one with");
  for (const length of [0, 1, head.indexOf("\n"), head.length - 1])
    expect(() => read(head.subarray(0, length))).toThrow("its manifest is cut off");
  const unsigned = encodeManifest(update.manifest);
  expect(readManifest(unsigned, "u", undefined)).toMatchObject({ manifest: update.manifest, key: undefined });
  expect(readManifest(head, "u", undefined)).toMatchObject({ manifest: update.manifest, key: keyId(key) });
  const damaged = Buffer.from(unsigned.toString().replace("unsigned", "unsigmed"));
  expect(() => readManifest(damaged, "u", undefined)).toThrow("u: its manifest is damaged");
  expect(() => readManifest(Buffer.from("{\nunsigned\n"), "u", undefined)).toThrow("its manifest is not JSON");
});

test("digest and size", () => {
  const { model, manifest } = update;
  expect(() => checkDigest(model, manifest, "u")).not.toThrow();
  expect(() => checkDigest(model.subarray(1), manifest, "u")).toThrow(
    `its model has ${model.length - 1} bytes, the manifest says ${model.length}`,
  );
  const changed = Buffer.from(model);
  changed[100]! ^= 1;
  expect(() => checkDigest(changed, manifest, "u")).toThrow("is not the one that was signed");
});

describe("self-test", () => {
  test.each([false, true])("packed: %s; gives the model that was tested", async (packed) => {
    const model = await modelOf(2, { packed });
    const { manifest } = await signed(model, key, 1);
    const classifier = await testModel(model, manifest, "u");
    expect([classifier.version, classifier.digest, classifier.classify("x").score]).toEqual([
      "2",
      manifest.digest,
      Number(lineOf(2).split("\t")[1]),
    ]);
  });

  test("another answer, another version, no model at all", async () => {
    const model = await modelOf(2);
    const lie = async (changes: object) => testModel(model, (await signed(model, key, 1, changes)).manifest, "u");
    await expect(lie({ golden: [{ text: "x", line: lineOf(3) }] })).rejects.toThrow(
      `it answers ${JSON.stringify(lineOf(2))} where it answered ${JSON.stringify(lineOf(3))} when it was signed`,
    );
    await expect(lie({ version: "3" })).rejects.toThrow('its model has version "2", the manifest says "3"');
    const noise = Buffer.from("no model");
    const { digest } = update.manifest;
    await expect(testModel(noise, { ...update.manifest, bytes: noise.length, digest }, "u")).rejects.toThrow(
      "is not the one that was signed",
    );
  });
});
