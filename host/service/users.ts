// Who may do what on the embedded broker, and over HTTP: users from the configuration file, their
// passwords as scrypt hashes, and the topics that each may publish and subscribe to.
// `%u` in a topic filter is the user's name.
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { UserError } from "../errors.ts";
import { filterCovers, filterMatches } from "./topics.ts";

export interface UserSettings {
  /** As `edgelabel serve --hash-password` prints it. */
  password: string;
  publish: readonly string[];
  subscribe: readonly string[];
}

const COST = 16_384;
const BLOCK = 8;
const KEY_BYTES = 32;
const SALT_BYTES = 16;
const hashForm = /^scrypt\$(\d{1,8})\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})$/;

/** Memory that OpenSSL needs for one hash: a table of `cost` blocks, and three more. */
const memoryBytes = (cost: number) => 128 * BLOCK * (cost + 3);

function derive(password: Buffer | string, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, KEY_BYTES, { N: cost, r: BLOCK, maxmem: memoryBytes(cost) }, (error, key) => (error ? reject(error) : resolve(key)));
  });
}

const base64 = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");

export async function hashPassword(password: string): Promise<string> {
  if (password === "") throw new UserError("a password must not be empty");
  const salt = randomBytes(SALT_BYTES);
  return `scrypt$${COST}$${base64(salt)}$${base64(await derive(password, salt, COST))}`;
}

export function isPasswordHash(text: string): boolean {
  const cost = Number(hashForm.exec(text)?.[1]);
  return cost >= 2 && cost <= 1_048_576 && Number.isInteger(Math.log2(cost));
}

export async function isPassword(password: Buffer | string, hash: string): Promise<boolean> {
  const [, cost, salt, key] = hashForm.exec(hash)!;
  return timingSafeEqual(await derive(password, Buffer.from(salt!, "base64"), Number(cost)), Buffer.from(key!, "base64"));
}

export class Users {
  private readonly byName: ReadonlyMap<string, UserSettings>;
  /** Hash that is checked for names that do not exist, so that the time tells nothing. */
  private readonly nobody = hashPassword(base64(randomBytes(SALT_BYTES)));

  constructor(users: Readonly<Record<string, UserSettings>>) {
    this.byName = new Map(Object.entries(users));
  }

  async knows(name: string | undefined, password: Buffer | undefined): Promise<boolean> {
    const user = this.byName.get(name ?? "");
    const isRight = await isPassword(password ?? "", user?.password ?? await this.nobody);
    return user !== undefined && isRight;
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
