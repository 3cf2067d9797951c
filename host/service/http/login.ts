// Who may use HTTP: the users of the configuration file, by Basic authentication, with the rights
// that they have over MQTT. Checking a password takes at least a tenth of a second, and 32 MiB. So
// correct ones are remembered, as keyed digests; others are checked one at a time, and addresses
// take turns, so that somebody who guesses passwords does not keep the users waiting.
import { createHmac, randomBytes } from "node:crypto";
import { printable } from "../../escape.ts";
import type { Log } from "../log.ts";
import { RequestError } from "../answer/messages.ts";
import type { Topics } from "../topics.ts";
import { Users } from "../users.ts";
import type { UserSettings } from "../users.ts";

const REMEMBERED = 100;
/** Passwords that wait to be checked, of all addresses together. */
const MAX_WAITING = 16;
const LOG_EVERY_MS = 60_000;

/** A user who has logged in. */
export interface HttpUser {
  name: string;
  /** Whether texts may be sent to the model; "" means the default one. */
  mayAsk(model: string): boolean;
  /** Whether the user may read what the node publishes to this topic. */
  mayRead(topic: "info" | "metrics"): boolean;
  /** Whether the user may give this command. */
  mayCommand(verb: string): boolean;
}

export class HttpLogin {
  /** Failed logins since the start. */
  failed = 0;
  private readonly users: Users;
  private readonly topics: Topics;
  private readonly log: Log;
  private readonly logEveryMs: number;
  private readonly key = randomBytes(32);
  /** Names of users by the digest of their credentials, oldest first. */
  private readonly remembered = new Map<string, string>();
  /** Pending checks, by the same digest: a program's first requests often arrive together. */
  private readonly pending = new Map<string, Promise<string | undefined>>();
  private readonly checks = new Checks();
  private unlogged = 0;
  private lastFailed = "";
  private logTimer: NodeJS.Timeout | undefined;

  constructor(users: Readonly<Record<string, UserSettings>>, topics: Topics, log: Log, logEveryMs = LOG_EVERY_MS) {
    this.users = new Users(users);
    this.topics = topics;
    this.log = log;
    this.logEveryMs = logEveryMs;
  }

  /** The user of an Authorization header; undefined if it is absent or wrong. Throws a RequestError `busy`. */
  async userOf(header = "", address = ""): Promise<HttpUser | undefined> {
    const credentials = /^Basic +([A-Za-z0-9+/]+=*) *$/i.exec(header)?.[1];
    if (credentials === undefined) return undefined;
    const digest = createHmac("sha256", this.key).update(credentials).digest("base64");
    let name = this.remembered.get(digest);
    if (name === undefined) {
      let check = this.pending.get(digest);
      if (!check) {
        check = this.checks
          .add(address, () => this.check(credentials, address))
          .finally(() => this.pending.delete(digest));
        this.pending.set(digest, check);
      }
      name = await check;
      if (name !== undefined) this.remember(digest, name);
    }
    return name === undefined ? undefined : this.user(name);
  }

  private async check(credentials: string, address: string): Promise<string | undefined> {
    const [, name, password] = /^([^:]*):([^]*)$/.exec(Buffer.from(credentials, "base64").toString()) ?? [];
    if (name !== undefined && (await this.users.knows(name, Buffer.from(password!)))) return name;
    this.failed++;
    this.unlogged++;
    // An unknown name is not logged: it may be a password in the wrong field.
    this.lastFailed = `${printable(address)} as ${name !== undefined && this.users.has(name) ? `user ${name}` : "a user that does not exist"}`;
    if (!this.logTimer) this.logFailures();
    return undefined;
  }

  /** Logs the first failure at once, and the next ones together after `logEveryMs`. */
  private logFailures(): void {
    this.logTimer = undefined;
    if (this.unlogged === 0) return;
    this.log.warn(
      `${this.unlogged} ${this.unlogged === 1 ? "login" : "logins"} over HTTP failed, the last one from ${this.lastFailed}`,
    );
    this.unlogged = 0;
    this.logTimer = setTimeout(() => this.logFailures(), this.logEveryMs).unref();
  }

  private remember(digest: string, name: string): void {
    this.remembered.set(digest, name);
    const [oldest] = this.remembered.keys();
    if (this.remembered.size > REMEMBERED) this.remembered.delete(oldest!);
  }

  private user(name: string): HttpUser {
    const { users, topics } = this;
    return {
      name,
      mayAsk: (model) => users.mayPublish(name, model === "" ? topics.classify : `${topics.classify}/${model}`),
      mayCommand: (verb) => users.mayPublish(name, `${topics.command}/${verb}/+`),
      mayRead: (topic) => users.maySubscribe(name, topics[topic]),
    };
  }
}

interface Check {
  run(): Promise<void>;
  refuse(): void;
}

/**
 * Runs one check at a time. Addresses take turns; within an address the newest goes first, so that nobody waits for an
 * earlier flood. When too many wait, the oldest of the address with the most is refused.
 */
class Checks {
  /** In the order of their turns. */
  private readonly byAddress = new Map<string, Check[]>();
  private waiting = 0;
  private isRunning = false;

  /** Rejects with a RequestError `busy` if it is refused. */
  add<T>(address: string, check: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const checks = this.byAddress.get(address) ?? [];
      this.byAddress.set(address, checks);
      checks.push({
        run: () => check().then(resolve, reject),
        refuse: () => reject(new RequestError("busy", "too many passwords are being checked; try again later", 1)),
      });
      this.waiting++;
      if (!this.isRunning) void this.runAll();
      if (this.waiting > MAX_WAITING) this.refuseOne();
    });
  }

  private refuseOne(): void {
    const [address, checks] = [...this.byAddress].reduce((most, each) =>
      each[1].length >= most[1].length ? each : most,
    );
    checks.shift()!.refuse();
    this.waiting--;
    if (checks.length === 0) this.byAddress.delete(address);
  }

  private async runAll(): Promise<void> {
    this.isRunning = true;
    for (let next = this.byAddress.entries().next().value; next; next = this.byAddress.entries().next().value) {
      const [address, checks] = next;
      const check = checks.pop()!;
      this.byAddress.delete(address);
      if (checks.length > 0) this.byAddress.set(address, checks);
      this.waiting--;
      await check.run();
    }
    this.isRunning = false;
  }
}
