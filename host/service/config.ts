// The settings of `serve`: command line over environment (credentials only) over
// a JSON file. Every key of the file is checked; an unknown one is an error that
// names the nearest known one. Relative paths in the file start at its folder.
import { readFileSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import * as v from "valibot";
import type { BrokerOptions } from "../commands/broker-options.ts";
import { UserError } from "../errors.ts";
import type { MessageLimits } from "./messages.ts";
import { checkBrokerUrl } from "./mqtt.ts";
import type { BrokerAccess } from "./mqtt.ts";
import { isTopicFilter, slug, topicsOf } from "./topics.ts";
import type { ResponseRules, Topics } from "./topics.ts";

export interface Limits extends MessageLimits {
  /** Answers that wait or are unacknowledged; beyond it requests are told `busy`. */
  queuedAnswers: number;
  /** The same limit by their size, in characters. */
  queuedBytes: number;
  /** An answer that could not be sent for so long is dropped. */
  answerSeconds: number;
  /** Largest answer. Brokers that announce a smaller packet size lower it. */
  answerBytes: number;
}

export interface ModelFile {
  /** Overrides the name in the file. */
  name?: string | undefined;
  path: string;
}

export interface Settings {
  models: ModelFile[];
  topics: Topics;
  clientId: string;
  /** Without a URL the embedded broker is used. */
  access: Omit<BrokerAccess, "url"> & { url?: string | undefined };
  host: string;
  embeddedPort: number;
  httpPort?: number | undefined;
  limits: Limits;
  responses: ResponseRules;
  warnings: string[];
}

/** What the command line may say; it wins over the file. */
export interface ServeOptions extends BrokerOptions {
  broker?: string;
  node?: string;
  root?: string;
  config?: string;
  http?: number;
  port?: number;
  host?: string;
}

const defaultLimits: Limits = {
  payloadBytes: 2_097_152,
  textsPerRequest: 256,
  queuedAnswers: 1000,
  queuedBytes: 8_388_608,
  answerSeconds: 60,
  answerBytes: 1_048_576,
};

const text = v.pipe(v.string("must be a string"), v.nonEmpty("must not be empty"));
const port = v.pipe(v.number("must be a port number"), v.integer("must be a port number"), v.minValue(0, "must be a port number"), v.maxValue(65_535, "must be a port number"));
const count = (largest: number) => {
  const message = `must be a whole number from 1 to ${largest}`;
  return v.optional(v.pipe(v.number(message), v.integer(message), v.minValue(1, message), v.maxValue(largest, message)));
};
const filters = v.optional(v.array(v.pipe(text, v.check(isTopicFilter, "must hold topic filters such as answers/#")), "must be an array of topic filters"));

const fileSchema = v.strictObject({
  models: v.optional(v.array(v.union([text, v.strictObject({ name: v.optional(text), path: text })], "must hold file names, or objects with path and name"), "must be an array")),
  broker: v.optional(text),
  protocol: v.optional(v.picklist([4, 5], "must be 4 (MQTT 3.1.1) or 5")),
  node: v.optional(text),
  root: v.optional(text),
  clientId: v.optional(text),
  username: v.optional(text),
  password: v.optional(text),
  tls: v.optional(v.strictObject({ ca: v.optional(text), cert: v.optional(text), key: v.optional(text) })),
  host: v.optional(text),
  port: v.optional(port),
  http: v.optional(port),
  limits: v.optional(v.strictObject({
    payloadBytes: count(16_777_216),
    textsPerRequest: count(10_000),
    queuedAnswers: count(30_000),
    queuedBytes: count(1_073_741_824),
    answerSeconds: count(86_400),
    answerBytes: count(16_777_216),
  })),
  responses: v.optional(v.strictObject({ allow: filters, deny: filters })),
});

type ConfigFile = v.InferOutput<typeof fileSchema>;

export function parseConfig(json: string, source: string): ConfigFile {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new UserError(`${source} is not JSON: ${(error as Error).message}`);
  }
  // An array passes for an object that has no keys.
  for (const [path, part] of [["", value], ...Object.entries(value ?? {})]) {
    if (Array.isArray(part) && path !== "models") throw new UserError(`${source}: ${path ? JSON.stringify(path) : "the file"} must not be an array`);
  }
  const result = v.safeParse(fileSchema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  if (issue.type === "strict_object" && issue.expected === "never") throw new UserError(`${source}: unknown key ${JSON.stringify(path)}${suggestion(path ?? "")}`);
  if (issue.type === "strict_object") throw new UserError(`${source}: ${path ? JSON.stringify(path) : "the file"} must be a JSON object`);
  throw new UserError(`${source}: ${JSON.stringify(path)} ${issue.message}`);
}

function suggestion(path: string): string {
  const levels = path.split(".");
  const key = levels.pop()!;
  const nested: Record<string, readonly string[]> = {
    "": Object.keys(fileSchema.entries),
    tls: Object.keys(fileSchema.entries.tls.wrapped.entries),
    limits: Object.keys(fileSchema.entries.limits.wrapped.entries),
    responses: Object.keys(fileSchema.entries.responses.wrapped.entries),
  };
  const known = nested[levels.join(".")] ?? ["name", "path"];
  const nearest = known.toSorted((a, b) => editDistance(key, a) - editDistance(key, b))[0]!;
  if (editDistance(key, nearest) <= 3) return `, did you mean ${JSON.stringify(nearest)}?`;
  return `; known keys: ${known.join(", ")}`;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1]!.toLowerCase() === b[j - 1]!.toLowerCase() ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

function readFileFor(what: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UserError(`cannot read the ${what} ${path}: ${(error as Error).message}`);
  }
}

/** `NAME=FILE` or `FILE`. */
export function parseModelArgument(argument: string): ModelFile {
  const match = /^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$/.exec(argument);
  return match ? { name: match[1], path: match[2]! } : { path: argument };
}

export function readTls(files: { ca?: string | undefined; cert?: string | undefined; key?: string | undefined }): BrokerAccess["tls"] {
  if ((files.cert === undefined) !== (files.key === undefined)) throw new UserError("a client certificate needs both --cert and --key");
  const read = (what: string, path?: string) => (path === undefined ? undefined : readFileFor(what, path));
  return { ca: read("CA file", files.ca), cert: read("certificate", files.cert), key: read("private key", files.key) };
}

export function credentials(env: NodeJS.ProcessEnv, file: { username?: string | undefined; password?: string | undefined } = {}): { username?: string | undefined; password?: string | undefined } {
  return {
    username: env["EDGELABEL_MQTT_USERNAME"] || file.username,
    password: env["EDGELABEL_MQTT_PASSWORD"] || file.password,
  };
}

export function defaultNode(): string {
  return slug(hostname());
}

export function readSettings(models: readonly string[], options: ServeOptions, env: NodeJS.ProcessEnv = process.env): Settings {
  const warnings: string[] = [];
  const file = options.config === undefined ? {} : parseConfig(readFileFor("configuration file", options.config).toString("utf8"), options.config);
  const folder = options.config === undefined ? "." : dirname(options.config);
  const fromFile = (path?: string) => (path === undefined ? undefined : resolve(folder, path));
  if (file.password !== undefined && process.platform !== "win32" && (statSync(options.config!).mode & 0o077) !== 0) {
    warnings.push(`${options.config} holds a password and can be read by others: chmod 600 ${options.config}`);
  }

  const named = models.length > 0
    ? models.map(parseModelArgument)
    : (file.models ?? []).map((model) => (typeof model === "string" ? { path: fromFile(model)! } : { name: model.name, path: fromFile(model.path)! }));
  if (named.length === 0) throw new UserError("no model given: edgelabel serve MODEL.wasm, or \"models\" in the configuration file");

  const url = options.broker ?? file.broker;
  if (url !== undefined) checkBrokerUrl(url);
  if (url !== undefined && options.port !== undefined) throw new UserError("--port is for the embedded broker; with --broker the port is part of the URL");
  const protocol = options.protocol ?? file.protocol;
  if (url === undefined && protocol === 5) throw new UserError("the embedded broker speaks MQTT 3.1.1 only: leave --protocol away, or give --broker");
  const topics = topicsOf(options.root ?? file.root ?? "edgelabel", options.node ?? file.node ?? defaultNode());
  return {
    models: named,
    topics,
    clientId: file.clientId ?? `edgelabel-${topics.node}`,
    access: {
      url,
      protocol,
      ...credentials(env, file),
      tls: readTls({ ca: options.ca ?? fromFile(file.tls?.ca), cert: options.cert ?? fromFile(file.tls?.cert), key: options.key ?? fromFile(file.tls?.key) }),
    },
    host: options.host ?? file.host ?? "127.0.0.1",
    embeddedPort: options.port ?? file.port ?? 1883,
    httpPort: options.http ?? file.http,
    limits: { ...defaultLimits, ...file.limits },
    responses: { allow: file.responses?.allow ?? ["#"], deny: file.responses?.deny ?? [] },
    warnings,
  };
}
