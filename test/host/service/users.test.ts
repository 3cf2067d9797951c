// Passwords: how they are kept, and that old hashes still work.
import { randomBytes, scryptSync } from "node:crypto";
import { expect, test } from "vitest";
import { hashPassword, isPassword, isPasswordHash, isWeakHash } from "../../../host/service/users.ts";

const salt = randomBytes(16);
const base64 = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");
const hashOf = (password: string, N: number, p: number, prefix: string) =>
  `${prefix}$${base64(salt)}$${base64(scryptSync(password, salt, 32, { N, r: 8, p, maxmem: 2 ** 30 }))}`;

test("a password is kept as a salted hash, with as much work as OWASP demands", async () => {
  const hash = await hashPassword("s3nsor-ü");
  expect(hash).toMatch(/^scrypt\$32768\$3\$/);
  expect(await hashPassword("s3nsor-ü")).not.toBe(hash);
  expect([isPasswordHash(hash), isWeakHash(hash)]).toEqual([true, false]);
  expect(await isPassword("s3nsor-ü", hash)).toBe(true);
  expect(await isPassword("S3nsor-ü", hash)).toBe(false);
  expect(await isPassword("", hash)).toBe(false);
  const [, , , ...rest] = hash.split("$");
  for (const work of [
    "32767$3",
    "99999999$3",
    "262144$1",
    "32768$0",
    "32768$33",
    "131072$9",
    "32768$-3",
    "1$1",
    "0$1",
    "32768$3$1",
  ])
    expect([work, isPasswordHash(["scrypt", work, ...rest].join("$"))]).toEqual([work, false]);
  for (const text of ["", "s3nsor-ü", "scrypt$0$a$b", hash.slice(1), hash.slice(0, -1), `${hash}=`])
    expect([text, isPasswordHash(text)]).toEqual([text, false]);
});

test.each(["", "a", "1234567", "äöüäöüä", "😀😀😀😀😀😀😀"])("%j is too short for a password", async (password) => {
  await expect(hashPassword(password)).rejects.toThrow(
    `a password must have at least 8 characters, this one has ${[...password].length}`,
  );
});

test("hashes of earlier versions work, and are known to be weak", async () => {
  for (let cost = 2; cost <= 65_536; cost *= 2) {
    const hash = hashOf("s", cost, 1, `scrypt$${cost}`);
    expect([
      cost,
      isPasswordHash(hash),
      isWeakHash(hash),
      await isPassword("s", hash),
      await isPassword("other", hash),
    ]).toEqual([cost, true, true, true, false]);
  }
});

// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
test.each([
  [131_072, 1],
  [65_536, 2],
  [32_768, 3],
  [16_384, 5],
  [8_192, 10],
])("OWASP's N=%i, p=%i is not weak", async (N, p) => {
  const hash = hashOf("s3nsor-4711", N, p, `scrypt$${N}$${p}`);
  expect([isPasswordHash(hash), isWeakHash(hash), await isPassword("s3nsor-4711", hash)]).toEqual([true, false, true]);
  expect(isWeakHash(hash.replace(/^scrypt\$\d+/, `scrypt$${N / 2}`))).toBe(true);
});
