// Who may do what over HTTP: the users of the configuration file, their passwords as scrypt hashes,
// and the topics that they may publish and subscribe to, as if they used MQTT. `%u` in a topic
// filter stands for the user's name.
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { EdgelabelError } from "../errors.ts";
import { filterCovers, filterMatches } from "./topics.ts";

export interface UserSettings {
  /** As `edgelabel serve --hash-password` prints it. */
  password: string;
  publish: readonly string[];
  subscribe: readonly string[];
}

/** COST and REPEATS are OWASP's minimum for 32 MiB; more memory would be too much for a small board. */
const COST = 32_768;
const REPEATS = 3;
const BLOCK = 8;
const KEY_BYTES = 32;
const SALT_BYTES = 16;
const SHORTEST_PASSWORD = 8;
/** Cost times repeats of the weakest setting that OWASP lists. */
const LEAST_WORK = 81_920;
const MOST_COST = 131_072;
const MOST_WORK = 1_048_576;
/** Hashes of earlier versions do not say how often they repeat: once. */
const hashForm = /^scrypt\$(\d{1,8})\$(?:(\d{1,3})\$)?([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})$/;

/** Memory that OpenSSL needs for a hash: a table of `cost` blocks, and a few more. */
const memoryBytes = (cost: number, repeats: number) => 128 * BLOCK * (cost + repeats + 2);

function derive(password: Buffer | string, salt: Buffer, cost: number, repeats: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(
      password,
      salt,
      KEY_BYTES,
      { N: cost, r: BLOCK, p: repeats, maxmem: memoryBytes(cost, repeats) },
      (error, key) => (error ? reject(error) : resolve(key)),
    );
  });
}

const base64 = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");

/** Throws an EdgelabelError for a password that is too short. */
export async function hashPassword(password: string): Promise<string> {
  const length = [...password].length;
  if (length < SHORTEST_PASSWORD)
    throw new EdgelabelError(`a password must have at least ${SHORTEST_PASSWORD} characters, this one has ${length}`);
  const salt = randomBytes(SALT_BYTES);
  return `scrypt$${COST}$${REPEATS}$${base64(salt)}$${base64(await derive(password, salt, COST, REPEATS))}`;
}

function parseHash(hash: string): { cost: number; repeats: number; salt: Buffer; key: Buffer } | undefined {
  const [, cost, repeats = 1, salt, key] = hashForm.exec(hash) ?? [];
  return salt === undefined
    ? undefined
    : {
        cost: Number(cost),
        repeats: Number(repeats),
        salt: Buffer.from(salt, "base64"),
        key: Buffer.from(key!, "base64"),
      };
}

export function isPasswordHash(text: string): boolean {
  const { cost = 0, repeats = 0 } = parseHash(text) ?? {};
  return (
    cost >= 2 && cost <= MOST_COST && Number.isInteger(Math.log2(cost)) && repeats >= 1 && cost * repeats <= MOST_WORK
  );
}

/** Whether it is too cheap by today's standards to guess the password from this hash, as with those of earlier versions. */
export function isWeakHash(hash: string): boolean {
  const { cost, repeats } = parseHash(hash)!;
  return cost * repeats < LEAST_WORK;
}

export async function isPassword(password: Buffer | string, hash: string): Promise<boolean> {
  const { cost, repeats, salt, key } = parseHash(hash)!;
  return timingSafeEqual(await derive(password, salt, cost, repeats), key);
}

export class Users {
  private readonly byName: ReadonlyMap<string, UserSettings>;
  /** Checked for names that do not exist, so that the time taken gives nothing away. */
  private readonly nobody = hashPassword(base64(randomBytes(SALT_BYTES)));

  constructor(users: Readonly<Record<string, UserSettings>>) {
    this.byName = new Map(Object.entries(users));
  }

  async knows(name: string | undefined, password: Buffer | undefined): Promise<boolean> {
    const user = this.byName.get(name ?? "");
    const isRight = await isPassword(password ?? "", user?.password ?? (await this.nobody));
    return user !== undefined && isRight;
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  mayPublish(name: string, topic: string): boolean {
    return this.filtersOf(name, "publish").some((filter) => filterMatches(filter, topic));
  }

  maySubscribe(name: string, filter: string): boolean {
    return this.filtersOf(name, "subscribe").some((allowed) => filterCovers(allowed, filter));
  }

  private filtersOf(name: string, right: "publish" | "subscribe"): string[] {
    return (this.byName.get(name)?.[right] ?? []).map((filter) => filter.replaceAll("%u", name));
  }
}
