// Ed25519 keys: the pair that signs updates, and the file of public keys that a service
// trusts. The file has one key a line and is read for each update, so that adding a line
// introduces a key, and the word "revoked" in front of a line withdraws it:
//
//   ed25519 MCowBQYDK2VwAyEA…= release 2026
//   revoked ed25519 MCowBQYDK2VwAyEA…= lost laptop
//
// A revoked key stays revoked whatever else the file says. No update can change this file.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { EdgelabelError } from "../errors.ts";
import { readText, readWholeSync } from "../files/read.ts";

/** The keys that updates are checked against, by key id. */
export interface TrustedKeys {
  trusted: ReadonlyMap<string, KeyObject>;
  revoked: ReadonlySet<string>;
}

/** 16 hex digits: the beginning of the SHA-256 of the public key (SPKI, DER). */
export function keyId(key: KeyObject): string {
  return createHash("sha256").update(publicBytes(key)).digest("hex").slice(0, 16);
}

/** A line for the file of trusted keys. */
export function trustLine(key: KeyObject, remark: string): string {
  return `ed25519 ${publicBytes(key).toString("base64")} ${remark}`;
}

/** A new private key as PEM, like `openssl genpkey -algorithm ed25519` makes it. */
export function newPrivateKey(): string {
  return generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }) as string;
}

export function readPrivateKey(path: string): KeyObject {
  const pem = readWholeSync(path, { ifMissing: `make one with: edgelabel keygen ${path}` });
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (error) {
    throw new EdgelabelError(
      `${path}: is not a private key in PEM (${(error as Error).message}); make one with: edgelabel keygen ${path}`,
    );
  }
  if (key.asymmetricKeyType !== "ed25519")
    throw new EdgelabelError(
      `${path}: is a key of type ${key.asymmetricKeyType}, but updates are signed with Ed25519; make one with: edgelabel keygen FILE`,
    );
  return key;
}

export async function readTrustedKeys(path: string): Promise<TrustedKeys> {
  return parseTrustedKeys(await readText(path, { what: "file of trusted keys" }), path);
}

export function parseTrustedKeys(text: string, source: string): TrustedKeys {
  const trusted = new Map<string, KeyObject>();
  const revoked = new Set<string>();
  for (const [i, line] of text.split("\n").entries()) {
    if (/^\s*(?:#|$)/.test(line)) continue;
    const [, isRevoked, base64] = /^\s*(revoked\s+)?ed25519\s+([A-Za-z0-9+/]+=*)(?:\s|$)/.exec(line) ?? [];
    const key = base64 === undefined ? undefined : publicKey(Buffer.from(base64, "base64"));
    if (!key)
      throw new EdgelabelError(
        `${source}, line ${i + 1}: must be "ed25519 KEY REMARK", as edgelabel keygen prints it, with "revoked " in front if the key is no longer trusted`,
      );
    if (isRevoked) revoked.add(keyId(key));
    else trusted.set(keyId(key), key);
  }
  for (const id of revoked) trusted.delete(id);
  return { trusted, revoked };
}

function publicKey(der: Buffer): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: der, format: "der", type: "spki" });
    return key.asymmetricKeyType === "ed25519" ? key : undefined;
  } catch {
    return undefined;
  }
}

function publicBytes(key: KeyObject): Buffer {
  return (key.type === "private" ? createPublicKey(key) : key).export({ type: "spki", format: "der" });
}
