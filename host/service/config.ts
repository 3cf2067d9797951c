// The settings of `serve`. The command line takes precedence over the environment (which
// holds credentials only), and that over a JSON file. Every key of the file is checked; an
// unknown one is an error that names the nearest known one. Relative paths in the file
// start at its folder.
import { statSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { createSecureContext } from "node:tls";
import * as v from "valibot";
import { artefactPath } from "../artefact.ts";
import { nearest, EdgelabelError } from "../errors.ts";
import { requireReadable } from "../files/read.ts";
import { decodeText } from "../text.ts";
import type { LearningSettings } from "./control/learning.ts";
import { REVIEW_DEFAULTS } from "./control/review.ts";
import type { ReviewSettings } from "./control/review.ts";
import { isLoopback } from "./listen.ts";
import type { ServerTls } from "./listen.ts";
import { defaultLimits } from "./limits.ts";
import type { Limits } from "./limits.ts";
import { credentials, defaultNode, readFileFor, readTls } from "./mqtt/access.ts";
import type { BrokerOptions } from "./mqtt/access.ts";
import { brokerUrls } from "./mqtt/connection.ts";
import type { BrokerAccess } from "./mqtt/connection.ts";
import { checkOutputs } from "./answer/outputs.ts";
import type { Announcement, RouteSettings } from "./answer/outputs.ts";
import type { Json } from "./answer/template.ts";
import { isLevel } from "../names.ts";
import { isTopicFilter, topicsOf } from "./topics.ts";
import type { ResponseRules, Topics } from "./topics.ts";
import type { WyomingSettings } from "./wyoming/wyoming.ts";
import { isPasswordHash, isWeakHash } from "./users.ts";
import type { UserSettings } from "./users.ts";

/** In the checkout and in the package. */
const SETUP = relative("", artefactPath("../deploy/mosquitto/setup.mjs"));

export interface ModelFile {
  /** Overrides the name in the file. */
  name?: string | undefined;
  path: string;
}

export interface Settings {
  models: ModelFile[];
  /** Folder of the registry, and the file of keys with which its updates may be signed. */
  registry?: { path: string; keys?: string | undefined } | undefined;
  topics: Topics;
  clientId: string;
  /** Without a URL the embedded broker is used. */
  access: Omit<BrokerAccess, "url"> & { url?: string | undefined };
  /** Where HTTP and Wyoming listen; the embedded broker is on loopback. */
  host: string;
  embeddedPort: number;
  httpPort?: number | undefined;
  wyoming?: WyomingSettings | undefined;
  /** Names, besides this machine's, by which clients of HTTP may ask for it. */
  httpHosts: string[];
  /** Origins of the pages of other sites that may use HTTP. */
  httpOrigins: string[];
  limits: Limits;
  responses: ResponseRules;
  routes: RouteSettings[];
  announcements: Announcement[];
  figuresSeconds: number;
  commands: boolean;
  /** What models learn from when told to by a command, by model name. */
  learning: ReadonlyMap<string, LearningSettings>;
  /** Whether and how doubtful texts are kept for people to label. */
  review?: ReviewSettings | undefined;
  /** Whether everyone who reaches HTTP may give commands: where no users are configured, and the embedded broker takes commands from this machine too. */
  isConsoleOpen: boolean;
  /** Certificate of HTTP. */
  serverTls?: ServerTls | undefined;
  /** Users of HTTP, by name. */
  users?: Record<string, UserSettings> | undefined;
  warnings: string[];
}

/** Options of the command line, which take precedence over the file. */
export interface ServeOptions extends BrokerOptions {
  broker?: string;
  node?: string;
  group?: string;
  root?: string;
  config?: string;
  registry?: string;
  keys?: string;
  http?: number;
  wyoming?: number;
  port?: number;
  host?: string;
}

/** V8's message quotes the text from so many characters before the faulty one. */
const EXCERPT_LEAD = 10;

const text = v.pipe(v.string("must be a string"), v.nonEmpty("must not be empty"));
const port = v.pipe(
  v.number("must be a port number"),
  v.integer("must be a port number"),
  v.minValue(0, "must be a port number"),
  v.maxValue(65_535, "must be a port number"),
);
const count = (largest: number) => {
  const message = `must be a whole number from 1 to ${largest}`;
  return v.optional(
    v.pipe(v.number(message), v.integer(message), v.minValue(1, message), v.maxValue(largest, message)),
  );
};
const share = v.pipe(
  v.number("must be a number from 0 to 1"),
  v.minValue(0, "must be a number from 0 to 1"),
  v.maxValue(1, "must be a number from 0 to 1"),
);
const filters = v.optional(
  v.array(
    v.pipe(text, v.check(isTopicFilter, "must hold topic filters such as answers/#")),
    "must be an array of topic filters",
  ),
);

/** Scheme, host and perhaps port, in the form that browsers send. */
function isOrigin(origin: string): boolean {
  try {
    return /^https?:/.test(origin) && new URL(origin).origin === origin;
  } catch {
    return false;
  }
}

const pointer = v.pipe(
  v.string("must be a string"),
  v.regex(/^(?:\/(?:[^~]|~[01])*)+$/, "must be a JSON pointer such as /message/text"),
);
const boolean = v.boolean("must be true or false");
const json = v.custom<Json>((value) => value !== undefined, "must be JSON");
const outputSchema = v.strictObject({
  topic: text,
  payload: v.optional(json),
  when: v.optional(
    v.union(
      [v.picklist(["known", "unknown", "any"]), v.array(text)],
      'must be "known", "unknown", "any" or an array of labels',
    ),
  ),
  on: v.optional(v.picklist(["always", "change"], 'must be "always" or "change"')),
  qos: v.optional(v.picklist([0, 1], "must be 0 or 1")),
  retain: v.optional(boolean),
});
const routeSchema = v.strictObject({
  name: v.pipe(text, v.check(isLevel, 'must be 1 to 64 letters, digits, ".", "_" or "-"')),
  filter: v.pipe(
    text,
    v.check(
      (filter) => isTopicFilter(filter) && !filter.startsWith("$"),
      "must be a topic filter such as sensors/+/log",
    ),
  ),
  text: v.optional(
    v.union([pointer, v.array(pointer)], "must be a JSON pointer such as /message/text, or an array of them"),
  ),
  model: v.optional(text),
  threshold: v.optional(share),
  among: v.optional(pointer),
  outputs: v.pipe(v.array(outputSchema, "must be an array"), v.minLength(1, "must hold at least one output")),
});
const announcementSchema = v.strictObject({
  topic: text,
  payload: json,
  again: v.optional(
    v.strictObject({ topic: v.pipe(text, v.check(isTopicFilter, "must be a topic")), payload: v.optional(text) }),
  ),
});
const paths = v.union(
  [text, v.pipe(v.array(text), v.nonEmpty("must name a file"))],
  "must be a file name, or an array of them",
);
const learningSchema = v.strictObject({
  training: v.pipe(text, v.regex(/\.elb$/, "must be a training form (.elb), as edgelabel train -o NAME.elb writes it")),
  data: paths,
  valid: paths,
  newLabels: v.optional(boolean),
});
const userSchema = v.strictObject({
  password: v.pipe(text, v.check(isPasswordHash, "must be what edgelabel serve --hash-password prints")),
  publish: filters,
  subscribe: filters,
});

const fileSchema = v.strictObject({
  models: v.optional(
    v.array(
      v.union(
        [text, v.strictObject({ name: v.optional(text), path: text })],
        "must hold file names, or objects with path and name",
      ),
      "must be an array",
    ),
  ),
  registry: v.optional(
    v.union(
      [text, v.strictObject({ path: text, keys: v.optional(text) })],
      "must be a folder, or an object with path and keys",
    ),
  ),
  broker: v.optional(
    v.union(
      [text, v.pipe(v.array(text), v.nonEmpty("must name a broker"))],
      "must be a broker URL, or an array of them",
    ),
  ),
  protocol: v.optional(v.picklist([4, 5], "must be 4 (MQTT 3.1.1) or 5")),
  node: v.optional(text),
  group: v.optional(text),
  root: v.optional(text),
  clientId: v.optional(text),
  username: v.optional(text),
  password: v.optional(text),
  tls: v.optional(v.strictObject({ ca: v.optional(text), cert: v.optional(text), key: v.optional(text) })),
  host: v.optional(text),
  port: v.optional(port),
  http: v.optional(port),
  wyoming: v.optional(
    v.union(
      [port, v.strictObject({ port, threshold: v.optional(share) })],
      "must be a port number, or an object with port and threshold",
    ),
  ),
  httpHosts: v.optional(
    v.array(
      v.pipe(text, v.regex(/^[\w.-]+$/, "must be the name of a host, without scheme and port")),
      "must be an array of host names",
    ),
  ),
  httpOrigins: v.optional(
    v.array(
      v.pipe(
        text,
        v.check(isOrigin, "must be what browsers send as the origin of a page, such as https://app.example.org"),
      ),
      "must be an array of origins",
    ),
  ),
  limits: v.optional(
    v.strictObject({
      payloadBytes: count(16_777_216),
      textsPerRequest: count(10_000),
      queuedAnswers: count(30_000),
      queuedBytes: count(1_073_741_824),
      queuedTexts: count(100_000),
      textsPerSecond: count(1_000_000),
      requesters: count(100_000),
      rememberedAnswers: count(1_000_000),
      rememberSeconds: count(86_400),
      answerSeconds: count(86_400),
      answerBytes: count(16_777_216),
    }),
  ),
  responses: v.optional(v.strictObject({ allow: filters, deny: filters })),
  routes: v.optional(v.array(routeSchema, "must be an array")),
  announcements: v.optional(v.array(announcementSchema, "must be an array")),
  figuresSeconds: count(86_400),
  commands: v.optional(boolean),
  learning: v.optional(v.record(v.pipe(v.string(), v.check(isLevel, "must have names of models")), learningSchema)),
  review: v.optional(v.strictObject({ texts: count(10_000), hours: count(720) })),
  serverTls: v.optional(v.strictObject({ cert: text, key: text, ca: v.optional(text) })),
  users: v.optional(
    v.record(
      v.pipe(v.string(), v.check(isLevel, 'must have names of 1 to 64 letters, digits, ".", "_" or "-"')),
      userSchema,
    ),
  ),
});

type ConfigFile = v.InferOutput<typeof fileSchema>;

export function parseConfig(json: string, source: string): ConfigFile {
  let value: unknown;
  try {
    value = JSON.parse(json.replace(/^\ufeff/, ""));
  } catch (error) {
    throw new EdgelabelError(
      `${source} is not JSON from line ${lineOfFault(json, error as Error)} on: look for a missing or extra comma, quote or bracket`,
    );
  }
  // The schema takes an array for an object without keys.
  for (const [path, part] of [["", value], ...Object.entries(value ?? {})] as [string, unknown][]) {
    if (
      Array.isArray(part) &&
      !["models", "broker", "routes", "announcements", "httpHosts", "httpOrigins"].includes(path)
    )
      throw new EdgelabelError(`${source}: ${path ? JSON.stringify(path) : "the file"} must not be an array`);
  }
  const reserved = reservedName(value);
  if (reserved !== undefined)
    throw new EdgelabelError(
      `${source}: ${JSON.stringify(reserved)}: this name cannot be used, since every JavaScript object has a property called that`,
    );
  const result = v.safeParse(fileSchema, value);
  if (result.success) return result.output;
  // A misspelt key is reported twice, as unknown and as missing: the first is more useful.
  const issue =
    result.issues.find(({ type, expected }) => type === "strict_object" && expected === "never") ?? result.issues[0];
  const path = v.getDotPath(issue);
  if (issue.type === "strict_object" && issue.expected === "never")
    throw new EdgelabelError(`${source}: unknown key ${JSON.stringify(path)}${suggestion(path ?? "")}`);
  if (issue.type === "strict_object" && issue.expected?.startsWith('"'))
    throw new EdgelabelError(`${source}: ${JSON.stringify(path)} is missing`);
  if (issue.type === "strict_object")
    throw new EdgelabelError(`${source}: ${path ? JSON.stringify(path) : "the file"} must be a JSON object`);
  throw new EdgelabelError(`${source}: ${JSON.stringify(path)} ${issue.message}`);
}

/** The path of the first key that the schema would skip without a word. Payloads may have any keys. */
function reservedName(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, part] of Object.entries(value)) {
    if (["__proto__", "constructor", "prototype"].includes(key)) return key;
    const found = key === "payload" ? undefined : reservedName(part);
    if (found !== undefined) return `${key}.${found}`;
  }
  return undefined;
}

/** The line of the fault. The parser's message itself is not shown: it quotes the file, which may hold a password. */
function lineOfFault(json: string, { message }: Error): number {
  const [, before, excerpt = ""] = /, (\.\.\.)?"([^]*)"(?:\.\.\.)? is not valid JSON$/.exec(message) ?? [];
  const position = /at position (\d+)/.exec(message)?.[1];
  const at =
    position !== undefined
      ? Number(position)
      : excerpt === ""
        ? json.length
        : json.indexOf(excerpt) + (before ? EXCERPT_LEAD : 0);
  return json.slice(0, at).trimEnd().split("\n").length;
}

function suggestion(path: string): string {
  const levels = path.split(".");
  const key = levels.pop()!;
  const nested: Record<string, readonly string[]> = {
    "": Object.keys(fileSchema.entries),
    tls: Object.keys(fileSchema.entries.tls.wrapped.entries),
    limits: Object.keys(fileSchema.entries.limits.wrapped.entries),
    responses: Object.keys(fileSchema.entries.responses.wrapped.entries),
    serverTls: Object.keys(fileSchema.entries.serverTls.wrapped.entries),
    "routes[]": Object.keys(routeSchema.entries),
    "routes[].outputs[]": Object.keys(outputSchema.entries),
    "announcements[]": Object.keys(announcementSchema.entries),
    "announcements[].again": Object.keys(announcementSchema.entries.again.wrapped.entries),
    "learning[]": Object.keys(learningSchema.entries),
    review: ["texts", "hours"],
    "users[]": Object.keys(userSchema.entries),
  };
  // In the path, items of arrays and records have their position or name.
  const shape = levels
    .join(".")
    .replace(/\.\d+(?=\.|$)/g, "[]")
    .replace(/^(users|learning)\.[^.]+$/, "$1[]");
  const known = nested[shape] ?? ["name", "path"];
  const meant = nearest(key, known);
  return meant === undefined ? `; known keys: ${known.join(", ")}` : `, did you mean ${JSON.stringify(meant)}?`;
}

/** `NAME=FILE` or `FILE`. */
export function parseModelArgument(argument: string): ModelFile {
  const match = /^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$/.exec(argument);
  return match ? { name: match[1], path: match[2]! } : { path: argument };
}

function readServerTls({ cert, key, ca }: { cert: string; key: string; ca?: string | undefined }): ServerTls {
  const tls: ServerTls = {
    cert: readFileFor("certificate", cert),
    key: readFileFor("private key", key),
    ...(ca === undefined ? {} : { ca: readFileFor("CA file", ca), requestCert: true }),
  };
  try {
    createSecureContext(tls);
  } catch (error) {
    throw new EdgelabelError(
      `"serverTls": ${[cert, key, ca].filter(Boolean).join(", ")} do not go together: ${(error as Error).message}`,
    );
  }
  return tls;
}

function routeOf({
  name,
  filter,
  text: pointers = [],
  model = "",
  threshold = 0,
  among,
  outputs,
}: v.InferOutput<typeof routeSchema>): RouteSettings {
  return {
    name,
    filter,
    text: typeof pointers === "string" ? [pointers] : pointers,
    model,
    threshold,
    among,
    outputs: outputs.map(({ topic, payload, when = "known", on = "always", qos = 1, retain = false }) => ({
      topic,
      payload,
      when,
      onChange: on === "change",
      qos,
      retain,
    })),
  };
}

/** The settings, checked against one another. Throws an EdgelabelError for the first that cannot be. */
export function readSettings(
  models: readonly string[],
  options: ServeOptions,
  env: NodeJS.ProcessEnv = process.env,
): Settings {
  const { config } = options;
  const file =
    config === undefined ? {} : parseConfig(decodeText(readFileFor("configuration file", config), config), config);
  const folder = config === undefined ? "." : dirname(config);
  const fromFile: FromFile = (path) => (path === undefined ? path : resolve(folder, path)) as typeof path;

  const served = chooseModels(models, options, file, fromFile);
  const { url, protocol, group } = chooseBroker(options, file);
  const httpPort = options.http ?? file.http;
  const wyoming = chooseWyoming(options, file);
  const host = options.host ?? file.host ?? "127.0.0.1";
  if (url === undefined && httpPort === undefined && wyoming === undefined && !isLoopback(host))
    throw new EdgelabelError(
      `the embedded broker serves this machine only, so it cannot listen on ${host}: set up Mosquitto (node ${SETUP}) and give --broker`,
    );
  if (file.users && httpPort === undefined)
    throw new EdgelabelError(
      `"users" are those of HTTP, which is off: give "http" too; users of MQTT are a real broker's affair, such as the Mosquitto that node ${SETUP} sets up`,
    );
  const topics = topicsOf(options.root ?? file.root ?? "edgelabel", options.node ?? file.node ?? defaultNode(), group);
  const login = credentials(env, file);
  const tls = readTls({
    ca: options.ca ?? fromFile(file.tls?.ca),
    cert: options.cert ?? fromFile(file.tls?.cert),
    key: options.key ?? fromFile(file.tls?.key),
  });
  if (url === undefined && (tls.ca ?? tls.cert) !== undefined)
    throw new EdgelabelError(
      '"tls" (--ca, --cert, --key) is for a broker that is given by its URL; the embedded one is reached from this machine only',
    );
  const hasRights = url !== undefined && (login.username !== undefined || tls.cert !== undefined);
  // Whoever may publish a command may change models, so somebody has to think of who may publish.
  const commands = file.commands ?? false;
  const learning = readLearning(file.learning ?? {}, fromFile);
  const isOpen = file.users === undefined && url === undefined && isLoopback(host);
  const routes = (file.routes ?? []).map(routeOf);
  const announcements = file.announcements ?? [];
  checkOutputs({ routes, announcements, topics });
  return {
    ...served,
    topics,
    clientId: file.clientId ?? `edgelabel-${topics.node}`,
    access: { url, protocol, ...login, tls },
    host,
    embeddedPort: options.port ?? file.port ?? 1883,
    httpPort,
    wyoming,
    httpHosts: file.httpHosts ?? [],
    httpOrigins: file.httpOrigins ?? [],
    limits: { ...defaultLimits, ...file.limits },
    // A requester must not publish with the service's rights: where it has any, answers go to its own topics only, unless the file allows more.
    responses: { allow: file.responses?.allow ?? (hasRights ? [] : ["#"]), deny: file.responses?.deny ?? [] },
    routes,
    announcements,
    figuresSeconds: file.figuresSeconds ?? 0,
    commands,
    learning,
    review: readReview(file.review, httpPort, isOpen || file.users !== undefined),
    isConsoleOpen: isOpen,
    serverTls:
      file.serverTls &&
      readServerTls({
        cert: fromFile(file.serverTls.cert),
        key: fromFile(file.serverTls.key),
        ca: fromFile(file.serverTls.ca),
      }),
    users:
      file.users &&
      Object.fromEntries(
        Object.entries(file.users).map(([name, { password, publish = [], subscribe = [] }]) => [
          name,
          { password, publish, subscribe },
        ]),
      ),
    warnings: [
      ...readableByOthers([
        [config, heldBy(file)],
        [fromFile(file.serverTls?.key), "a private key"],
        [options.key ?? fromFile(file.tls?.key), "a private key"],
      ]),
      ...exposures({
        host,
        httpPort,
        wyoming,
        users: file.users,
        serverTls: file.serverTls,
        url,
        password: login.password,
      }),
      ...(env["NODE_DEBUG"] ? ["NODE_DEBUG is set: Node itself may write texts and passwords to standard error"] : []),
      ...inertSettings(file, { url, httpPort, wyoming }),
      ...Object.entries(file.users ?? {})
        .filter(([, { password }]) => isWeakHash(password))
        .map(
          ([name]) =>
            `the password of user ${name} has a weak hash: make a new one with edgelabel serve --hash-password`,
        ),
      ...(commands && !hasRights
        ? [
            `"commands" are on, and ${url === undefined ? "every program on this machine may send them" : "whoever reaches the broker may send them: require a login there"}`,
          ]
        : []),
      ...(file.review
        ? [
            '"review" is on: doubtful texts of all requesters are kept in memory, and shown to users who may have a model learn',
          ]
        : []),
      ...(file.learning && !commands ? ['"learning" does nothing without commands: set "commands" to true'] : []),
    ],
  };
}

/** A path in the file starts at the file's folder. */
type FromFile = <Path extends string | undefined>(path: Path) => Path;

/** Model files of the command line, else of the file; and the registry. */
function chooseModels(
  models: readonly string[],
  options: ServeOptions,
  file: ConfigFile,
  fromFile: FromFile,
): Pick<Settings, "models" | "registry"> {
  const named =
    models.length > 0
      ? models.map(parseModelArgument)
      : (file.models ?? []).map((model) =>
          typeof model === "string" ? { path: fromFile(model) } : { name: model.name, path: fromFile(model.path) },
        );
  const configured = typeof file.registry === "string" ? { path: file.registry } : file.registry;
  const path = options.registry ?? fromFile(configured?.path);
  const keys = options.keys ?? fromFile(configured?.keys);
  if (keys !== undefined && path === undefined)
    throw new EdgelabelError("--keys is for updates of a registry: give --registry DIR too");
  if (named.length === 0 && path === undefined)
    throw new EdgelabelError('no model given: edgelabel serve MODEL.wasm, or "models" in the configuration file');
  return { models: named, registry: path === undefined ? undefined : { path, keys } };
}

/** The port of the command line, and the threshold of the file. */
function chooseWyoming(options: ServeOptions, file: ConfigFile): WyomingSettings | undefined {
  const { port = undefined, threshold = 0 } =
    typeof file.wyoming === "number" ? { port: file.wyoming } : (file.wyoming ?? {});
  const chosen = options.wyoming ?? port;
  return chosen === undefined ? undefined : { port: chosen, threshold };
}

/** Without a URL the embedded broker is used, which has no shared subscriptions. */
function chooseBroker(
  options: ServeOptions,
  file: ConfigFile,
): Pick<ServeOptions, "protocol" | "group"> & { url: string | undefined } {
  const url = options.broker ?? (Array.isArray(file.broker) ? file.broker.join() : file.broker);
  if (url !== undefined) brokerUrls(url);
  if (url !== undefined && options.port !== undefined)
    throw new EdgelabelError("--port is for the embedded broker; with --broker the port is part of the URL");
  const group = options.group ?? file.group;
  if (group !== undefined && url === undefined)
    throw new EdgelabelError(
      "a group needs a broker that all its workers reach, and the embedded one has no shared subscriptions: give --broker",
    );
  const protocol = options.protocol ?? file.protocol ?? (group === undefined ? undefined : 5);
  if (group !== undefined && protocol === 4)
    throw new EdgelabelError(
      "a group needs MQTT 5, by which a broker tells whether it has shared subscriptions: omit --protocol",
    );
  return { url, protocol, group };
}

function readLearning(
  learning: NonNullable<ConfigFile["learning"]>,
  fromFile: FromFile,
): Map<string, LearningSettings> {
  const allFromFile = (paths: string | string[]) => [paths].flat().map((path) => fromFile(path));
  const found = new Map(
    Object.entries(learning).map(([name, { training, data, valid, newLabels = false }]) => [
      name,
      { training: fromFile(training), data: allFromFile(data), valid: allFromFile(valid), newLabels },
    ]),
  );
  for (const { training, data, valid } of found.values())
    for (const path of [training, ...data, ...valid]) requireReadable(path, { what: "file to learn from" });
  return found;
}

/** Texts are private: only users see them, or whoever is on this machine anyway. */
function readReview(
  review: ConfigFile["review"],
  httpPort: number | undefined,
  isPrivate: boolean,
): ReviewSettings | undefined {
  if (review === undefined) return undefined;
  if (httpPort === undefined)
    throw new EdgelabelError('"review" is for the page at "http", which is off: give "http" too');
  if (!isPrivate)
    throw new EdgelabelError(
      '"review" keeps texts of others and shows them over HTTP, so it needs a login: give "users" in the configuration file',
    );
  const { texts = REVIEW_DEFAULTS.texts, hours = REVIEW_DEFAULTS.hours } = review;
  return { texts, hours };
}

/** Warnings of secrets that every user of this machine can read. A group may: that is how a service reads what root owns. */
function readableByOthers(secrets: [path: string | undefined, what: string | undefined][]): string[] {
  if (process.platform === "win32") return [];
  return secrets
    .filter(([path, what]) => path !== undefined && what !== undefined && (statSync(path).mode & 0o007) !== 0)
    .map(([path, what]) => `${path} holds ${what} and can be read by others: chmod o= ${path}`);
}

function heldBy({ password, users = {} }: ConfigFile): string | undefined {
  if (password !== undefined) return "a password";
  return Object.keys(users).length > 0 ? "hashes of passwords, which can be guessed from them," : undefined;
}

/** What others on the network could use or overhear. */
function exposures({
  host,
  httpPort,
  wyoming,
  users,
  serverTls,
  url,
  password,
}: {
  host: string;
  httpPort: number | undefined;
  wyoming: WyomingSettings | undefined;
  users: ConfigFile["users"];
  serverTls: ConfigFile["serverTls"];
  url: string | undefined;
  password: string | undefined;
}): string[] {
  const warnings: string[] = [];
  if (!isLoopback(host) && httpPort !== undefined) {
    if (users && !serverTls)
      warnings.push(`passwords travel to ${host} unencrypted: give "serverTls" in the configuration file`);
    if (!users && serverTls?.ca === undefined)
      warnings.push(
        `HTTP on ${host} can be used by everyone who reaches this address: give "users" in the configuration file`,
      );
  }
  if (!isLoopback(host) && wyoming !== undefined)
    warnings.push(
      `Wyoming on ${host} can be used and overheard by everyone who reaches this address, since it has no logins and no TLS: keep others out with a firewall`,
    );
  if (users && wyoming !== undefined)
    warnings.push('"users" are those of HTTP only: Wyoming answers everyone who reaches it');
  if (users && url === undefined)
    warnings.push('"users" are those of HTTP only: the embedded broker answers every program on this machine');
  const overheard =
    password === undefined || url === undefined
      ? undefined
      : url
          .split(",")
          .find(
            (each) => /^(?:mqtt|ws):/i.test(each) && !isLoopback(new URL(each).hostname.replace(/^\[(.*)\]$/, "$1")),
          );
  if (overheard !== undefined)
    warnings.push(
      `the password of the broker travels to ${new URL(overheard).host} unencrypted: use mqtts:// or wss://`,
    );
  return warnings;
}

/** A warning for each setting of the file that has no effect beside the others. */
function inertSettings(
  file: ConfigFile,
  { url, httpPort, wyoming }: { url: string | undefined } & Pick<Settings, "httpPort" | "wyoming">,
): string[] {
  const inert: [key: keyof ConfigFile, why: string][] =
    url === undefined
      ? [["username", "it is for a broker that is given by its URL"]]
      : [["port", "it is for the embedded broker"]];
  if (httpPort === undefined)
    for (const key of ["serverTls", "httpHosts", "httpOrigins"] as const) inert.push([key, "it is for HTTP"]);
  if (httpPort === undefined && wyoming === undefined) inert.push(["host", "it is for HTTP and Wyoming"]);
  return inert.filter(([key]) => file[key] !== undefined).map(([key, why]) => `"${key}" has no effect: ${why}`);
}
