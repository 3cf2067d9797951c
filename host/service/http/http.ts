// The HTTP interface: POST /predict as in the Flask tutorial, the KServe V2 paths, health, metrics,
// and a page for people. Pages of other sites cannot use it: see hosts.ts.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { escapeMarkup } from "../../escape.ts";
import { Bodies } from "./body.ts";
import { HttpHosts } from "./hosts.ts";
import type { HttpLogin, HttpUser } from "./login.ts";
import { fromJson, JsonError } from "../answer/json.ts";
import { encodeInfer, modelMetadata, parseInfer, parseModelPath, serverMetadata } from "./kserve.ts";
import type { ModelPath } from "./kserve.ts";
import { explainListenError, hostInUrl, listen, reachable } from "../listen.ts";
import type { ServerTls } from "../listen.ts";
import { labelValue, RequestError, statusOf } from "../answer/messages.ts";
import { requestErrorOf } from "../answer/predictor.ts";
import type { Outcome } from "../answer/predictor.ts";
import type { Service } from "../service.ts";
import { packageVersion } from "../../version.ts";

export interface HttpEndpoint {
  url: string;
  port: number;
  close(): Promise<void>;
}

/** An error that exists only in HTTP, such as a wrong path or method. */
class HttpError extends Error {
  readonly status: number;
  readonly headers: Record<string, string>;
  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

const style =
  "body { font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em } td, th { text-align: left; vertical-align: top; padding: 0 1em 0 0 } pre { background: #eee; padding: 1em; overflow: auto }";

/** For browsers, with every answer: do not embed it elsewhere, load or run anything, or keep a copy. */
const securityHeaders: readonly [name: string, value: string][] = [
  ["Cache-Control", "no-store"],
  [
    "Content-Security-Policy",
    `default-src 'none'; style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  ],
  ["Cross-Origin-Opener-Policy", "same-origin"],
  ["Cross-Origin-Resource-Policy", "same-origin"],
  ["Referrer-Policy", "no-referrer"],
  ["X-Content-Type-Options", "nosniff"],
  ["X-Frame-Options", "DENY"],
];

/** Value of topK: all scores. */
const ALL = 0;

const codeOf: Record<number, string> = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  405: "method_not_allowed",
  413: "too_large",
  415: "unsupported_media_type",
  421: "misdirected",
};

export interface HttpOptions {
  host: string;
  port: number;
  /** Names, besides this machine's, by which clients may ask for it. */
  hosts?: readonly string[] | undefined;
  bodyBytes: number;
  textsPerRequest: number;
  tls?: ServerTls | undefined;
  /** Without it, everyone may do everything. */
  login?: HttpLogin | undefined;
}

const timeouts = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  maxHeaderSize: 8_192,
  connectionsCheckingInterval: 1_000,
  handshakeTimeout: 5_000,
};
const MAX_CONNECTIONS = 256;
/** Connections without a complete request; beyond this number the oldest one is closed. */
const MAX_WAITING = 192;
/** A client that does not read its answer for this long, at most twice this long, is disconnected. */
const SILENCE_MS = 5_000;

export async function startHttp(
  service: Service,
  { host, port, tls, hosts = [], bodyBytes, ...rest }: HttpOptions,
): Promise<HttpEndpoint> {
  const waiting = new WaitingSockets();
  const gate = { ...rest, hosts: new HttpHosts(host, hosts), bodies: new Bodies(bodyBytes) };
  const listener: RequestListener = (request, response) => {
    if (waiting.onRequest(request, response)) void respond(service, request, response, gate);
  };
  const server = tls ? createTlsServer({ ...timeouts, ...tls }, listener) : createServer(timeouts, listener);
  // Node itself would answer an unknown Expect, without any of the checks here.
  server.on("checkExpectation", listener);
  server.maxConnections = MAX_CONNECTIONS;
  server.on("connection", (socket: Socket) => waiting.onConnection(socket));
  server.on("secureConnection", (socket: TLSSocket) => waiting.onHandshake(socket));
  try {
    await listen(server, host, port);
  } catch (error) {
    throw explainListenError(error, host, port, "choose another one with --http NUMBER (0 takes any free one)");
  }
  const bound = server.address() as AddressInfo;
  return {
    url: `${tls ? "https" : "http"}://${hostInUrl(reachable(host))}:${bound.port}`,
    port: bound.port,
    close: () => close(server),
  };
}

/** Connections without a complete request. The oldest one is closed to make room for a new one, so that slow clients keep nobody out. */
class WaitingSockets {
  private readonly sockets = new Set<Socket>();
  /** Connections whose answer has not been sent. */
  private readonly answering = new WeakSet<Socket>();

  onConnection(socket: Socket): void {
    this.add(socket);
    socket.once("close", () => this.sockets.delete(socket));
  }

  /** From here on, the TLS socket stands for the connection. */
  onHandshake(secure: TLSSocket): void {
    for (const socket of this.sockets)
      if (socket !== secure && socket.remotePort === secure.remotePort && socket.remoteAddress === secure.remoteAddress)
        this.sockets.delete(socket);
    this.onConnection(secure);
  }

  /** Closes the connection and returns false if the last answer has not been sent yet: many small pipelined requests could take any amount of memory. */
  onRequest(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket, headers } = request;
    if (this.answering.has(socket)) {
      socket.destroy();
      return false;
    }
    this.answering.add(socket);
    response.once("prefinish", () => socket.setTimeout(SILENCE_MS));
    response.once("close", () => {
      this.answering.delete(socket);
      if (!socket.destroyed) this.add(socket);
    });
    const hasBody = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
    if (hasBody) request.once("end", () => this.sockets.delete(socket));
    else this.sockets.delete(socket);
    return true;
  }

  private add(socket: Socket): void {
    this.sockets.delete(socket);
    this.sockets.add(socket);
    const [oldest] = this.sockets;
    if (this.sockets.size > MAX_WAITING) oldest!.destroy();
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 1_000).unref();
  });
}

interface Context extends Pick<HttpOptions, "textsPerRequest"> {
  bodies: Bodies;
  /** Absent if no users are configured, and on paths that need no login. */
  user?: HttpUser | undefined;
}
type Handler = (
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  context: Context,
) => void | Promise<void>;
type Handlers = Partial<Record<string, Handler>>;

const live: Handler = (_service, _request, response) => sendJson(response, 200, { status: "ok" });
const ready: Handler = (service, _request, response) =>
  sendJson(response, service.isReady ? 200 : 503, { status: service.notReadyReason ?? "ready" });

const routes: Record<string, Handlers> = {
  "/": { GET: page },
  "/predict": { POST: predict },
  "/healthz": { GET: live },
  "/readyz": { GET: ready },
  "/metrics": { GET: metrics },
  "/v2": { GET: (_service, _request, response) => sendJson(response, 200, serverMetadata()) },
  "/v2/health/live": { GET: live },
  "/v2/health/ready": { GET: ready },
};

/** Paths without login: health checks have no password, and these answers are no secret. */
const open = new Set(["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]);

function handlersOf(path: string): Handlers | undefined {
  if (Object.hasOwn(routes, path)) return routes[path];
  const found = parseModelPath(path);
  if (!found) return undefined;
  return found.verb === "infer"
    ? { POST: (...args) => infer(found, ...args) }
    : { GET: (service, _request, response) => describe(found, service, response) };
}

interface Gate extends Pick<HttpOptions, "textsPerRequest" | "login"> {
  hosts: HttpHosts;
  bodies: Bodies;
}

async function respond(
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  { hosts, login, ...context }: Gate,
): Promise<void> {
  // The request target may be a full URL, as in requests to a proxy. Then its host takes precedence over the header.
  const [, authority = request.headers.host, path = "/"] =
    /^(?:https?:\/\/([^/?]*))?([^?]+)?/i.exec(request.url ?? "") ?? [];
  const isKserve = path.startsWith("/v2");
  for (const [name, value] of securityHeaders) response.setHeader(name, value);
  let user: HttpUser | undefined;
  try {
    if ((request.headersDistinct["host"]?.length ?? 0) > 1) throw new HttpError(400, "a request has one Host");
    // Only HTTP/1.0 has no host, and no browser uses that.
    if (authority !== undefined && !hosts.isOwn(authority))
      throw new HttpError(
        421,
        'this service does not go by that name: ask for it by an address, or list the name in "httpHosts" of the configuration file',
      );
    if (request.method === "POST" && hosts.isForeign(request.headers))
      throw new HttpError(403, "pages of other sites may not send texts here");
    // Rights first: only users who may know learn which paths there are, and how to use them.
    user =
      login && !open.has(path)
        ? await login.userOf(request.headers.authorization, request.socket.remoteAddress?.replace(/^::ffff:/, ""))
        : undefined;
    if (login && !open.has(path) && !user)
      throw new HttpError(401, "a user name and password of this service is needed", {
        "WWW-Authenticate": 'Basic realm="edgelabel", charset="UTF-8"',
      });
    const methods = handlersOf(path);
    if (!methods) throw new HttpError(404, `nothing here; try ${Object.keys(routes).join(", ")}`);
    const handler = methods[request.method === "HEAD" ? "GET" : (request.method ?? "")];
    const allowed = Object.keys(methods).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
    if (!handler) throw new HttpError(405, `use ${allowed.join(" or ")}`, { Allow: allowed.join(", ") });
    if (user && request.method !== "POST" && !user.mayRead(path === "/metrics" ? "metrics" : "info"))
      throw new HttpError(403, "this user may not read that");
    await handler(service, request, response, { ...context, user });
  } catch (error) {
    if (response.headersSent || response.destroyed) return;
    const { status, code, message, headers } = failureOf(service, error, user);
    // Do not wait for the rest of a body that was refused.
    if (!request.complete && (status === 413 || status === 503)) headers["Connection"] = "close";
    // In KServe's protocol an error is a string.
    sendJson(response, status, { error: isKserve ? message : { code, message } }, headers);
  }
}

function failureOf(
  service: Service,
  error: unknown,
  user: HttpUser | undefined,
): { status: number; code: string | undefined; message: string; headers: Record<string, string> } {
  if (error instanceof HttpError)
    return { status: error.status, code: codeOf[error.status], message: error.message, headers: error.headers };
  const { code, message, retrySeconds } = requestErrorOf(error);
  service.metrics.errors.inc({ code });
  // The message would list the models.
  const isHidden = code === "unknown_model" && user?.mayRead("info") === false;
  return {
    status: statusOf[code],
    code,
    message: isHidden ? "there is no such model here" : message,
    headers: retrySeconds === undefined ? {} : { "Retry-After": String(retrySeconds) },
  };
}

async function predict(
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  { bodies, user }: Context,
): Promise<void> {
  const body = await readRequest(service, request, bodies);
  const value = parseJson(body);
  const {
    data,
    model = "",
    explain = false,
  } = (typeof value === "object" && value !== null ? value : {}) as {
    data?: unknown;
    model?: unknown;
    explain?: unknown;
  };
  if (typeof data !== "string")
    throw new RequestError("bad_request", 'the body must be an object such as {"data": "the text"}');
  if (typeof model !== "string") throw new RequestError("bad_request", '"model" must be a string');
  if (typeof explain !== "boolean") throw new RequestError("bad_request", '"explain" must be true or false');
  requireRight(user, model);
  const {
    predictions: [prediction],
  } = await classify(service, request, { model, bytes: body.length, texts: [data], explain }, user);
  sendJson(response, 200, { label: labelValue(prediction!.label), explanation: prediction!.explanation });
}

async function infer(
  path: ModelPath,
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  { bodies, textsPerRequest, user }: Context,
): Promise<void> {
  requireRight(user, path.name);
  const model = modelOf(service, path);
  const body = await readRequest(service, request, bodies);
  const { json, binary } = readInfer(body, request);
  const wanted = parseInfer(json, binary, textsPerRequest);
  const outcome = await classify(
    service,
    request,
    { model, bytes: body.length, texts: wanted.texts, topK: wanted.outputs.includes("scores") ? ALL : 1 },
    user,
  );
  sendJson(response, 200, encodeInfer(wanted, outcome));
}

function describe(path: ModelPath, service: Service, response: ServerResponse): void {
  const name = modelOf(service, path);
  if (path.verb === "ready") sendJson(response, 200, { name, ready: true });
  else sendJson(response, 200, modelMetadata(name, service.predictor.model(name).model));
}

function requireRight(user: HttpUser | undefined, model: string): void {
  if (user && !user.mayAsk(model)) throw new HttpError(403, "this user may not send texts to this model");
}

function modelOf(service: Service, { name, version }: ModelPath): string {
  const { model } = service.predictor.model(name);
  if (version !== undefined && version !== model.version)
    throw new RequestError("unknown_model", `version ${model.version} of this model is here, and no other`);
  return name;
}

async function classify(
  service: Service,
  request: IncomingMessage,
  work: { model: string; bytes: number; texts: (string | Uint8Array)[]; topK?: number; explain?: boolean },
  user: HttpUser | undefined,
): Promise<Outcome> {
  const start = performance.now();
  const outcome = await service.predictor.predict({
    ...work,
    requester: `http ${user?.name ?? request.socket.remoteAddress}`,
  });
  service.metrics.answerSeconds.observe({ transport: "http" }, (performance.now() - start) / 1000);
  return outcome;
}

/** A JSON object, and the bytes of a tensor after it if a header gives the object's length. */
function readInfer(body: Buffer, request: IncomingMessage): { json: unknown; binary: Buffer } {
  const length = Number(request.headers["inference-header-content-length"] ?? body.length);
  if (!(length >= 0 && length <= body.length))
    throw new RequestError("bad_request", "Inference-Header-Content-Length is no length within the body");
  return { json: parseJson(body.subarray(0, length)), binary: body.subarray(length) };
}

function readRequest(service: Service, request: IncomingMessage, bodies: Bodies): Promise<Buffer> {
  const { headers } = request;
  service.metrics.requests.inc({ transport: "http" });
  // Browsers send requests of some other types to another site without asking there first.
  if (!/^application\/(?:json|octet-stream)\s*(?:;|$)/i.test(headers["content-type"] ?? "application/json"))
    throw new HttpError(415, "send the header Content-Type: application/json");
  if (
    (headers["content-encoding"] ?? "identity") !== "identity" ||
    !/^chunked$/i.test(headers["transfer-encoding"] ?? "chunked")
  )
    throw new HttpError(415, "send the body as it is, without a coding");
  return bodies.receive(request);
}

function parseJson(body: Buffer): unknown {
  try {
    return fromJson(body);
  } catch (error) {
    if (error instanceof JsonError) throw new RequestError("bad_request", `the body is ${error.message}`);
    throw error;
  }
}

function sendJson(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  send(response, status, "application/json", `${JSON.stringify(body)}\n`, headers);
}

/** Sends a length instead of chunks: some small devices cannot read chunks, and HEAD shows it too. */
function send(
  response: ServerResponse,
  status: number,
  type: string,
  text: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(text), ...headers });
  response.end(text);
}

async function metrics(service: Service, _request: IncomingMessage, response: ServerResponse): Promise<void> {
  const text = await service.metrics.text();
  send(response, 200, service.metrics.registry.contentType, text);
}

export function curlLine(url: string, options = ""): string {
  return `curl -s${options} ${url}/predict -H 'Content-Type: application/json' -d '{"data": "a text"}'`;
}

function page(service: Service, request: IncomingMessage, response: ServerResponse): void {
  const { localAddress = "127.0.0.1", localPort } = request.socket;
  const url = `${"encrypted" in request.socket ? "https" : "http"}://${hostInUrl(localAddress.replace(/^::ffff:/, ""))}:${localPort}`;
  const rows = [...service.predictor.models].map(
    ([name, { version, labels }]) =>
      `<tr><td>${escapeMarkup(name)}</td><td>${escapeMarkup(version)}</td><td>${escapeMarkup(labels.join(", "))}</td></tr>`,
  );
  send(
    response,
    200,
    "text/html; charset=utf-8",
    `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>edgelabel</title>
<style>${style}</style>
<h1>edgelabel ${escapeMarkup(packageVersion)}</h1>
<p>Send a text, receive its label:</p>
<pre>${escapeMarkup(curlLine(url))}</pre>
<table><tr><th>Model</th><th>Version</th><th>Labels</th></tr>
${rows.join("\n")}
</table>
<p><a href="/healthz">/healthz</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></p>
</html>
`,
  );
}
