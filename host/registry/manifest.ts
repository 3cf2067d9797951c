// An update: a manifest of two lines, then the model file.
//
//   {"update":1,"name":…,"version":…,"digest":…,"bytes":…,"abi":…,"sequence":…,…}
//   ed25519 KEYID SIGNATURE                    of the first line, its line end included
//   …the bytes of the .wasm or .elb file…
//
// The signature covers the exact bytes of the first line, and the digest in that line the
// bytes of the model, so no part can be replaced on its own. The first line is not parsed
// before its signature has been verified. The sequence rises with each update of a name and is
// independent of the version: to go back, an old model is sent as a new update.
import { createHash, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import * as v from "valibot";
import { ABI_VERSION } from "../../assembly/abi.ts";
import { digestOf } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import { isLevel } from "../names.ts";
import { keyId } from "./keys.ts";
import type { TrustedKeys } from "./keys.ts";

/** A text, and the output line (without "\n") that the model must give for it. */
interface GoldenAnswer {
  text: string;
  line: string;
}

export interface Manifest {
  /** Format of the update. */
  update: 1;
  /** Name under which the model is served: one level of a topic. */
  name: string;
  /** The version in the model file itself. */
  version: string;
  /** SHA-256 of the model file, in hex. */
  digest: string;
  bytes: number;
  /** ABI_VERSION of the engine that the model needs. */
  abi: number;
  sequence: number;
  /** ISO 8601, UTC. */
  signed: string;
  expires: string;
  golden: readonly GoldenAnswer[];
}

/** A manifest whose signature was checked, or that was installed by hand. */
export interface SignedManifest {
  manifest: Manifest;
  /** Id of the key that signed it; undefined: unsigned. */
  key: string | undefined;
  /** Its two lines. */
  head: Buffer;
  /** SHA-256 of `head`, in hex: the name of the update. */
  id: string;
}

const MAX_MANIFEST_BYTES = 65_536;
const MAX_MODEL_BYTES = 268_435_456;
export const MAX_GOLDEN = 64;
/** How far this machine's clock may be behind the signer's. */
const CLOCK_TOLERANCE_MS = 86_400_000;
const UNSIGNED = "unsigned";
const LINE_END = 0x0a;
const OPENING_BRACE = 0x7b;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const time = v.pipe(
  v.string(),
  v.check((text) => Number.isFinite(Date.parse(text)) && new Date(text).toISOString() === text),
);
const schema = v.strictObject({
  update: v.literal(1),
  name: v.pipe(v.string(), v.check(isLevel)),
  version: v.string(),
  digest: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  bytes: v.pipe(count, v.maxValue(MAX_MODEL_BYTES)),
  abi: v.pipe(v.number(), v.safeInteger()),
  sequence: count,
  signed: time,
  expires: time,
  golden: v.pipe(v.array(v.strictObject({ text: v.string(), line: v.string() })), v.maxLength(MAX_GOLDEN)),
});

/** The manifest's two lines; without a key the second one is "unsigned". */
export function encodeManifest(manifest: Manifest, key?: KeyObject): Buffer {
  const line = Buffer.from(`${JSON.stringify(manifest)}\n`);
  const signature = key ? `ed25519 ${keyId(key)} ${sign(null, line, key).toString("base64")}` : UNSIGNED;
  const head = Buffer.concat([line, Buffer.from(`${signature}\n`)]);
  if (head.length > MAX_MANIFEST_BYTES)
    throw new EdgelabelError(
      `the manifest would have ${head.length} bytes, at most ${MAX_MANIFEST_BYTES} are allowed: give fewer or shorter texts for the self-test`,
    );
  return head;
}

/** Splits an update into manifest and model; throws an EdgelabelError when it does not begin with a manifest. */
export function splitUpdate(update: Uint8Array, source: string): { head: Buffer; model: Buffer } {
  const bytes = Buffer.from(update.buffer, update.byteOffset, update.length);
  const first = bytes.subarray(0, MAX_MANIFEST_BYTES).indexOf(LINE_END);
  const second = bytes.subarray(0, MAX_MANIFEST_BYTES).indexOf(LINE_END, first + 1);
  if (bytes[0] !== OPENING_BRACE || first < 0 || second < 0)
    throw new EdgelabelError(
      `${source}: is not an update; make one with: edgelabel sign MODEL --key KEY --sequence N --expires DATE`,
    );
  return { head: bytes.subarray(0, second + 1), model: bytes.subarray(second + 1) };
}

/** Reads the two lines; with `keys`, only if one of them has signed them. Throws an EdgelabelError that says what is wrong. */
export function readManifest(head: Uint8Array, source: string, keys: TrustedKeys | undefined): SignedManifest {
  const bytes = Buffer.from(head);
  const end = bytes.indexOf(LINE_END);
  if (bytes.length > MAX_MANIFEST_BYTES || end < 0 || bytes.at(-1) !== LINE_END)
    throw new EdgelabelError(`${source}: its manifest is cut off or too long`);
  const line = bytes.subarray(0, end + 1);
  const [, key, base64] =
    /^ed25519 ([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==)\n$/.exec(bytes.toString("latin1", end + 1)) ?? [];
  if (keys) {
    if (key === undefined) throw new EdgelabelError(`${source}: is not signed`);
    const signature = Buffer.from(base64!, "base64");
    if (keys.revoked.has(key)) throw new EdgelabelError(`${source}: is signed with the key ${key}, which is revoked`);
    const trusted = keys.trusted.get(key);
    if (!trusted)
      throw new EdgelabelError(
        `${source}: is signed with the key ${key}, which is not trusted (trusted: ${[...keys.trusted.keys()].join(", ") || "none"})`,
      );
    // Several base64 texts decode to the same bytes: only the canonical one is accepted.
    if (signature.toString("base64") !== base64 || !verify(null, line, trusted, signature))
      throw new EdgelabelError(
        `${source}: its signature is wrong; the file was changed or damaged after it was signed`,
      );
  } else if (key === undefined && bytes.toString("latin1", end + 1) !== `${UNSIGNED}\n`)
    throw new EdgelabelError(`${source}: its manifest is damaged`);
  return {
    manifest: parse(line.toString(), source),
    key,
    head: bytes,
    id: createHash("sha256").update(bytes).digest("hex"),
  };
}

function parse(line: string, source: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new EdgelabelError(`${source}: its manifest is not JSON`);
  }
  const result = v.safeParse(schema, value);
  if (!result.success)
    throw new EdgelabelError(
      `${source}: its manifest is invalid at ${v.getDotPath(result.issues[0]) ?? "its top"}; it was made by another version of edgelabel`,
    );
  return result.output;
}

/** Checks what depends on the receiving machine: its engine, its clock, and the highest sequence installed before (`floor`). Throws an EdgelabelError. */
export function checkFitness(
  { manifest }: SignedManifest,
  source: string,
  { now, floor }: { now: number; floor: number },
): void {
  const { abi, signed, expires, sequence, name } = manifest;
  if (abi !== ABI_VERSION)
    throw new EdgelabelError(
      `${source}: needs engine ABI ${abi}, but this edgelabel has ${ABI_VERSION}; pack the model again and sign it`,
    );
  if (Date.parse(expires) <= now)
    throw new EdgelabelError(
      `${source}: expired on ${expires}, and this machine's clock shows, or has shown, ${new Date(now).toISOString()}; sign the model again`,
    );
  if (Date.parse(signed) > now + CLOCK_TOLERANCE_MS)
    throw new EdgelabelError(`${source}: was signed on ${signed}, which is in the future; set this machine's clock`);
  if (sequence <= floor)
    throw new EdgelabelError(
      `${source}: has sequence ${sequence}, but ${floor} of ${name} was installed already; an old update is never accepted again: sign with a higher sequence`,
    );
}

export function checkDigest(model: Uint8Array, { bytes, digest }: Manifest, source: string): void {
  if (model.length !== bytes)
    throw new EdgelabelError(
      `${source}: its model has ${model.length} bytes, the manifest says ${bytes}; it is cut off, or belongs to another manifest`,
    );
  if (digestOf(model) !== digest)
    throw new EdgelabelError(
      `${source}: its model is not the one that was signed; it is damaged, or belongs to another manifest`,
    );
}
