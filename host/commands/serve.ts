// `edgelabel serve`: models -> a service on a broker (the embedded one when none is
// given) and on HTTP, until SIGTERM or SIGINT. All settings and models are checked
// before any port is opened.
import { text as readAll } from "node:stream/consumers";
import { Command, InvalidArgumentError } from "commander";
import { type ModelFile, openModel } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import { LiveModels } from "../service/control/live-models.ts";
import { Registry } from "../registry/registry.ts";
import { registryVerbs } from "../service/control/update-verbs.ts";
import { startBroker } from "../service/broker/broker.ts";
import type { Broker } from "../service/broker/broker.ts";
import { readSettings } from "../service/config.ts";
import type { ServeOptions, Settings } from "../service/config.ts";
import { curlLine, startHttp } from "../service/http/http.ts";
import type { HttpEndpoint } from "../service/http/http.ts";
import { HttpLogin } from "../service/http/login.ts";
import { createLearners, finishWriting, learningVerbs } from "../service/control/learning.ts";
import { Review } from "../service/control/review.ts";
import { jsonLog, plainLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { largestPacket } from "../service/answer/messages.ts";
import { shownUrl } from "../service/mqtt/connection.ts";
import type { BrokerAccess } from "../service/mqtt/connection.ts";
import { Service } from "../service/service.ts";
import { checkLevel, levelOf } from "../names.ts";
import { createStatusLine } from "../service/status-line.ts";
import type { StatusLine } from "../service/status-line.ts";
import { hashPassword } from "../service/users.ts";
import { startWyoming } from "../service/wyoming/wyoming.ts";
import type { WyomingEndpoint } from "../service/wyoming/wyoming.ts";
import { startWatchdog } from "../service/watchdog.ts";
import { addBrokerOptions } from "./broker-options.ts";
import { print } from "./terminal.ts";

/** A stop takes at most this long, whatever broker and clients do. */
const STOP_MS = 1_900;

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError("a port is a number from 0 to 65535.");
  return port;
}

export function serveCommand(): Command {
  return addBrokerOptions(
    new Command("serve")
      .argument("[models...]", "model files (.wasm or .elb), or NAME=FILE; the first one is the default")
      .option(
        "--broker <urls>",
        "mqtt://, mqtts://, ws:// or wss://HOST[:PORT]; several nodes of a cluster separated by commas (default: an embedded broker)",
      )
      .option("--node <name>", "name in the topics (default: the host name)")
      .option("--group <name>", "share the requests to this group with its other workers (default: no group)")
      .option("--root <topic>", "first levels of all topics (default: edgelabel)")
      .option("--config <file>", "JSON file with these and more settings")
      .option("--registry <folder>", "also serve the active models of this registry, and follow its changes")
      .option("--keys <file>", "trusted keys for updates of the registry")
      .option("--http <port>", "also serve HTTP there (0: any free port)", parsePort)
      .option(
        "--wyoming <port>",
        "also answer voice assistants there, such as Home Assistant (0: any free port)",
        parsePort,
      )
      .option("--port <port>", "port of the embedded broker (default: 1883; 0: any free one)", parsePort)
      .option("--host <address>", "where HTTP and Wyoming listen (default: 127.0.0.1)")
      .option("--json", "log JSON lines")
      .option("--check", "check the settings, the configuration file and the models, and stop")
      .option(
        "--hash-password",
        'read a password from standard input, print its hash for "users" in the configuration file, and stop',
      ),
  )
    .addHelpText(
      "after",
      "\nExamples:\n  edgelabel serve spam.wasm --http 8080\n  edgelabel serve spam.wasm --broker mqtt://192.168.1.5 --node gate-1\n  edgelabel serve --config edgelabel.json --check",
    )
    .action(
      async (models: string[], options: ServeOptions & { json?: boolean; check?: boolean; hashPassword?: boolean }) => {
        if (options.hashPassword) {
          await print(`${await hashPassword((await readAll(process.stdin)).replace(/\r?\n$/, ""))}\n`);
          return;
        }
        const line = createStatusLine(options.json ? jsonLog() : plainLog(), { json: options.json });
        const { log } = line;
        const settings = readSettings(models, options);
        for (const warning of settings.warnings) log.warn(`warning: ${warning}`);
        await (options.check ? check(settings, log) : serve(settings, line));
      },
    );
}

/** Opens the model files and adds the active models of the registry, by name. There is no model while the registry waits for its first update. */
async function openModels(
  { models: files, registry, routes, learning }: Settings,
  active: ReadonlyMap<string, ModelFile> | undefined,
  log: Log,
): Promise<{ models: Map<string, ModelFile>; paths: Map<string, string> }> {
  const models = new Map<string, ModelFile>();
  const paths = new Map<string, string>();
  for (const { name: given, path } of files) {
    const classifier = await openModel(path);
    const name = given === undefined ? levelOf(classifier.name) : checkLevel("model name", given);
    if (models.has(name))
      throw new EdgelabelError(`two models are called ${name}: give ${path} another name with NAME=${path}`);
    models.set(name, classifier);
    paths.set(name, path);
  }
  for (const [name, classifier] of active ?? []) {
    if (models.has(name))
      throw new EdgelabelError(
        `two models are called ${name}, one of them in the registry: give the file another name with NAME=FILE`,
      );
    models.set(name, classifier);
  }
  for (const { warning } of models.values()) if (warning !== undefined) log.warn(`warning: ${warning}`);
  if (models.size === 0)
    log.warn(
      `warning: the registry ${registry!.path} has no active model; requests get the error no_model until one is installed: edgelabel models install ${registry!.path} UPDATE, or models send`,
    );
  const named = [
    ...routes.map(({ name, model }) => [`route "${name}"`, model] as const),
    ...[...learning.keys()].map((model) => ['"learning"', model] as const),
  ];
  for (const [who, model] of named) {
    if (model === "" || models.has(model)) continue;
    const problem = `${who} names the model ${model}, which is not served; the models are ${[...models.keys()].join(", ") || "none"}`;
    if (!registry) throw new EdgelabelError(problem);
    log.warn(`warning: ${problem}; it works as soon as the registry has that model`);
  }
  for (const { name, model, outputs } of routes) {
    const { labels } = (model === "" ? [...models.values()][0] : models.get(model)) ?? {};
    const unknown =
      labels &&
      outputs.flatMap(({ when }) => (typeof when === "string" ? [] : when)).find((label) => !labels.includes(label));
    if (unknown !== undefined)
      log.warn(
        `warning: route "${name}" waits for the label ${JSON.stringify(unknown)}, which its model does not know; it knows ${labels!.join(", ")}`,
      );
  }
  return { models, paths };
}

async function openRegistry({ registry: settings }: Settings, log: Log): Promise<Registry | undefined> {
  if (!settings) return undefined;
  const registry = new Registry(settings.path, { keys: settings.keys });
  await warnOfKeys(registry, log);
  return registry;
}

/** Keys are read again for each update; this warns at the start if none could be installed or activated, or if an active model's key has been revoked. */
async function warnOfKeys(registry: Registry, log: Log): Promise<void> {
  try {
    // Without trusted keys and signed versions there is nothing to warn of.
    if (!registry.hasKeys && (await registry.versions()).every(({ key }) => key === undefined)) return;
    const { revoked } = await registry.trustedKeys();
    for (const { name, version, state, key = "" } of await registry.versions()) {
      if (state === "active" && revoked.has(key))
        log.warn(
          `warning: version ${version} of ${name} is active, but signed with the key ${key}, which is revoked: install another one`,
        );
    }
  } catch (error) {
    log.warn(`warning: no update can be installed, and no kept version activated: ${(error as Error).message}`);
  }
}

function createService(settings: Settings, models: Map<string, ModelFile>, access: BrokerAccess, log: Log): Service {
  const { topics, clientId, limits, responses, routes, announcements, figuresSeconds, commands } = settings;
  return new Service({
    models,
    topics,
    access,
    clientId,
    limits,
    responses,
    routes,
    announcements,
    figuresSeconds,
    commands,
    log,
  });
}

/** Checks everything that can be checked without a connection. */
async function check(settings: Settings, log: Log): Promise<void> {
  const { access, topics, routes, httpPort, wyoming } = settings;
  const registry = await openRegistry(settings, log);
  const { models } = await openModels(
    settings,
    await registry?.check((name, { version }, reason) => {
      log.warn(`warning: version ${version} of model ${name} could not be served: ${reason}`);
    }),
    log,
  );
  createService(settings, models, { ...access, url: access.url ?? "mqtt://127.0.0.1" }, log);
  const parts = [
    `models ${[...models.keys()].join(", ") || "none yet"}`,
    access.url === undefined ? "embedded broker" : `broker ${shownUrl(access.url)}`,
    `requests on ${topics.classify}`,
    ...(topics.group ? [`group ${topics.group.name} on ${topics.group.classify}`] : []),
    ...(httpPort === undefined ? [] : [`HTTP on port ${httpPort}`]),
    ...(wyoming === undefined ? [] : [`Wyoming on port ${wyoming.port}`]),
    ...(routes.length === 0 ? [] : [`routes ${routes.map(({ name }) => name).join(", ")}`]),
  ];
  log.info(`the configuration is valid: ${parts.join("; ")}`);
}

async function serve(settings: Settings, line: StatusLine): Promise<void> {
  const { log } = line;
  const { access, clientId, limits, host, serverTls: tls, users } = settings;
  const registry = await openRegistry(settings, log);
  const live = registry && new LiveModels(registry, log);
  await finishWriting(settings.learning, log);
  const { models, paths } = await openModels(settings, await live?.open(), log);
  // From here on a signal means a clean stop. Ctrl-C often comes twice, from the
  // terminal and from npx; a stop takes no longer than STOP_MS in any case.
  const stopSignal = new Promise<string>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => resolve(signal));
  });
  let broker: Broker | undefined;
  let http: HttpEndpoint | undefined;
  let wyoming: WyomingEndpoint | undefined;
  let service: Service | undefined;
  let review: Review | undefined;
  let stopWatchdog: (() => void) | undefined;
  try {
    if (access.url === undefined) {
      broker = await startBroker({
        port: settings.embeddedPort,
        ownClientId: clientId,
        packetBytes: largestPacket(limits),
      });
    }
    const url = access.url ?? broker!.url;
    service = createService(settings, models, { ...access, url, ...broker?.access }, log);
    if (broker)
      service.metrics.counter(
        "edgelabel_broker_dropped_total",
        "Messages that the embedded broker had no room to retain.",
        () => broker!.dropped,
      );
    if (live) {
      live.attach(service);
      for (const [name, verb] of Object.entries(registryVerbs(live, limits.payloadBytes)))
        service.commands?.add(name, verb);
    }
    const learners = createLearners(settings.learning, service, paths, live);
    for (const [name, verb] of Object.entries(learningVerbs(service, learners))) service.commands?.add(name, verb);
    const login = users && settings.httpPort !== undefined ? new HttpLogin(users, settings.topics, log) : undefined;
    if (login)
      service.metrics.counter(
        "edgelabel_failed_logins_total",
        "Logins over HTTP with a wrong name or password.",
        () => login.failed,
      );
    if (settings.review) {
      const kept = (review = new Review(settings.review));
      service.predictor.reviewer = (name, text, prediction) => kept.offer(name, text, prediction);
      service.metrics.gauge("edgelabel_review_waiting", "Texts that wait for a label.", () => kept.waiting);
    }
    if (settings.httpPort !== undefined)
      http = await startHttp(service, {
        host,
        port: settings.httpPort,
        hosts: settings.httpHosts,
        origins: settings.httpOrigins,
        tls,
        login,
        bodyBytes: limits.payloadBytes,
        textsPerRequest: limits.textsPerRequest,
        console: { learners, review, isOpen: settings.isConsoleOpen },
      });
    if (settings.wyoming) wyoming = await startWyoming(service, { host, ...settings.wyoming });
    stopWatchdog = startWatchdog(log);
    const signal = await Promise.race([stopSignal, service.start()]);
    if (signal === undefined) {
      announce(service, { settings, url, broker, http, wyoming, log });
      line.follow(service);
      await stopSignal;
      line.stop();
    }
    log.info("stopping");
  } finally {
    // After this time the process ends even if something still keeps the event loop alive.
    setTimeout(() => process.exit(), STOP_MS).unref();
    await Promise.all([service?.stop(), http?.close(), wyoming?.close(), live?.stop()]);
    await broker?.close();
    stopWatchdog?.();
    review?.close();
  }
}

function announce(
  service: Service,
  {
    settings,
    url: fullUrl,
    broker,
    http,
    wyoming,
    log,
  }: {
    settings: Settings;
    url: string;
    broker: Broker | undefined;
    http: HttpEndpoint | undefined;
    wyoming: WyomingEndpoint | undefined;
    log: Log;
  },
): void {
  const { topics, serverTls } = settings;
  const clientFiles = serverTls?.ca ? " --cert CLIENT.pem --key CLIENT.key" : "";
  const url = shownUrl(fullUrl);
  const names = [...service.predictor.models.keys()];
  const [first] = service.predictor.models.values();
  const access = [
    url === "mqtt://127.0.0.1:1883" ? "" : ` --broker ${url}`,
    ` --node ${topics.group?.name ?? topics.node}`,
    topics.root === "edgelabel" ? "" : ` --root ${topics.root}`,
  ].join("");
  const banner = [
    "",
    broker ? `MQTT broker  ${url} (embedded, for this machine only)` : `MQTT broker  ${url}`,
    ...(http ? [`HTTP         ${http.url}`] : []),
    ...(wyoming ? [`Wyoming      ${wyoming.url}`] : []),
    `requests     ${topics.classify}  (${first ? `model ${names[0]}: ${first.labels.length} labels` : "no model yet"})`,
    ...names.map((name) => `             ${topics.classify}/${name}`),
    ...(topics.group ? [`group        ${topics.group.classify}  (one worker each)`] : []),
    ...settings.routes.map(({ name, filter }) => `route ${name.padEnd(6)} ${filter}`),
    `answers      the request's response topic, its "replyTo", or ${topics.label}`,
    "",
    serverTls && http
      ? "Try it from another terminal, with your own files in place of the names in capitals:"
      : "Try it from another terminal:",
    `  edgelabel ask 'a text'${access}`,
    ...(http ? [`  ${curlLine(http.url, serverTls && ` --cacert CA.pem${clientFiles}`)}`] : []),
    "",
    "Stop with Ctrl-C.",
  ].join("\n");
  log.info(
    "serving",
    {
      broker: url,
      embedded: broker !== undefined,
      http: http?.url,
      wyoming: wyoming?.url,
      node: topics.node,
      models: names,
      group: topics.group?.name,
      classify: topics.classify,
      label: topics.label,
    },
    banner,
  );
}
