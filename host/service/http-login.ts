// Who may use HTTP: the users of the configuration file, by Basic authentication, with the
// rights that they have over MQTT. Checking a password takes tens of milliseconds, so right
// ones are remembered, as keyed digests; of others only a few are checked at a time, so that
// somebody who guesses passwords does not keep the users waiting.
import { createHmac, randomBytes } from "node:crypto";
import { RequestError } from "./messages.ts";
import type { Topics } from "./topics.ts";
import { Users } from "./users.ts";
import type { UserSettings } from "./users.ts";

const REMEMBERED = 100;
const CHECKS_AT_ONCE = 8;

/** A user who has logged in. */
export interface HttpUser {
  name: string;
  /** Whether texts may be sent to the model; "" means the default one. */
  mayAsk(model: string): boolean;
  /** Whether the user may read what the node publishes to this topic. */
  mayRead(topic: "info" | "metrics"): boolean;
}

export class HttpLogin {
  private readonly users: Users;
  private readonly topics: Topics;
  private readonly key = randomBytes(32);
  /** Names of users by the digest of their credentials, oldest first. */
  private readonly remembered = new Map<string, string>();
  private checks = 0;

  constructor(users: Readonly<Record<string, UserSettings>>, topics: Topics) {
    this.users = new Users(users);
    this.topics = topics;
  }

  /** The user of an Authorization header; undefined when it is absent or wrong. Throws a RequestError `busy`. */
  async userOf(header = ""): Promise<HttpUser | undefined> {
    const credentials = /^Basic +([A-Za-z0-9+/]+=*) *$/i.exec(header)?.[1];
    if (credentials === undefined) return undefined;
    const digest = createHmac("sha256", this.key).update(credentials).digest("base64");
    const known = this.remembered.get(digest);
    if (known !== undefined) return this.user(known);
    if (this.checks >= CHECKS_AT_ONCE) throw new RequestError("busy", "too many passwords are being checked; try again later", 1);
    const [, name, password] = /^([^:]*):([^]*)$/.exec(Buffer.from(credentials, "base64").toString()) ?? [];
    this.checks++;
    try {
      if (name === undefined || !(await this.users.knows(name, Buffer.from(password!)))) return undefined;
    } finally {
      this.checks--;
    }
    this.remembered.set(digest, name);
    const [oldest] = this.remembered.keys();
    if (this.remembered.size > REMEMBERED) this.remembered.delete(oldest!);
    return this.user(name);
  }

  private user(name: string): HttpUser {
    const { users, topics } = this;
    return {
      name,
      mayAsk: (model) => users.mayPublish(name, model === "" ? topics.classify : `${topics.classify}/${model}`),
      mayRead: (topic) => users.maySubscribe(name, topics[topic]),
    };
  }
}
