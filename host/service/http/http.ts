// The HTTP interface: POST /predict, the KServe V2 paths, health, metrics, and a page for people.
// docs/openapi.json describes it. Pages of other sites cannot use it unless they are configured: see hosts.ts.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { artefactPath } from "../../artefact.ts";
import { readText } from "../../files/read.ts";
import { Bodies } from "./body.ts";
import { Console } from "./console.ts";
import type { ConsoleOptions } from "./console.ts";
import { failureOf, HttpError } from "./error.ts";
import { HttpHosts } from "./hosts.ts";
import type { HttpLogin, HttpUser } from "./login.ts";
import { encodeInfer, modelMetadata, parseInfer, parseModelPath, serverMetadata } from "./kserve.ts";
import type { ModelPath } from "./kserve.ts";
import { explainListenError, hostInUrl, listen, reachable } from "../listen.ts";
import type { ServerTls } from "../listen.ts";
import { RequestError, requestReader } from "../answer/messages.ts";
import type { RequestReader } from "../answer/messages.ts";
import { answer, answerStream, classify, parseJson, parsePredict, requireRight } from "./predict.ts";
import type { Service } from "../service.ts";

export interface HttpEndpoint {
  url: string;
  port: number;
  close(): Promise<void>;
}

/** What answers may do in a browser; the page may do a little more. */
const POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** For browsers, with every answer: do not embed it elsewhere, load or run anything, or keep a copy. */
const securityHeaders: readonly [name: string, value: string][] = [
  ["Cache-Control", "no-store"],
  ["Content-Security-Policy", POLICY],
  ["Cross-Origin-Opener-Policy", "same-origin"],
  ["Cross-Origin-Resource-Policy", "same-origin"],
  ["Referrer-Policy", "no-referrer"],
  ["X-Content-Type-Options", "nosniff"],
  ["X-Frame-Options", "DENY"],
];

/** Value of topK: all scores. */
const ALL = 0;

/** For pages of the configured origins. They log in by a header that they send themselves, so no credentials of the browser are allowed. */
const corsHeaders: readonly [name: string, value: string][] = [
  ["Access-Control-Allow-Headers", "Authorization, Content-Type, Inference-Header-Content-Length"],
  ["Access-Control-Allow-Methods", "GET, HEAD, POST"],
  ["Access-Control-Expose-Headers", "Retry-After"],
  ["Access-Control-Max-Age", "600"],
  ["Vary", "Origin"],
];

export interface HttpOptions {
  host: string;
  port: number;
  /** Names, besides this machine's, by which clients may ask for it. */
  hosts?: readonly string[] | undefined;
  /** Origins of the pages of other sites that may use this service. */
  origins?: readonly string[] | undefined;
  bodyBytes: number;
  textsPerRequest: number;
  tls?: ServerTls | undefined;
  /** Without it, everyone may ask and read. */
  login?: HttpLogin | undefined;
  console?: ConsoleOptions | undefined;
}

const timeouts = {
  headersTimeout: 5_000,
  // Streams may take any time, and Node has no limit for some requests only: see WaitingSockets.
  requestTimeout: 0,
  keepAliveTimeout: 5_000,
  maxHeaderSize: 8_192,
  connectionsCheckingInterval: 1_000,
  handshakeTimeout: 5_000,
};
const MAX_CONNECTIONS = 256;
/** How long the rest of a request may take to arrive after its headers. */
const BODY_MS = 10_000;
/** Connections without a complete request; beyond this number the oldest one is closed. */
const MAX_WAITING = 192;
/** A client that does not read its answer for this long, at most twice this long, is disconnected. */
const SILENCE_MS = 5_000;

export async function startHttp(
  service: Service,
  {
    host,
    port,
    tls,
    hosts = [],
    origins = [],
    bodyBytes,
    console = { learners: new Map(), isOpen: false },
    ...rest
  }: HttpOptions,
): Promise<HttpEndpoint> {
  const waiting = new WaitingSockets();
  const gate = {
    ...rest,
    hosts: new HttpHosts(host, hosts, origins),
    bodies: new Bodies(bodyBytes),
    read: requestReader(rest),
    waiting,
    console: new Console(service, console),
  };
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

const TOO_SLOW = { code: "too_slow", message: `a request must arrive within ${BODY_MS / 1000} s` };

/** Connections without a complete request. The oldest one is closed to make room for a new one, so that slow clients keep nobody out. */
class WaitingSockets {
  private readonly sockets = new Set<Socket>();
  /** Connections whose answer has not been sent. */
  private readonly answering = new WeakSet<Socket>();
  private readonly late = new WeakMap<Socket, NodeJS.Timeout>();

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
    if (!hasBody) {
      this.sockets.delete(socket);
      return true;
    }
    const late = setTimeout(() => {
      if (response.headersSent) socket.destroy();
      else sendJson(response, 408, { error: TOO_SLOW }, { Connection: "close" });
    }, BODY_MS);
    this.late.set(socket, late);
    const onEnd = () => clearTimeout(late);
    request
      .once("end", () => this.sockets.delete(socket))
      .once("end", onEnd)
      .once("close", onEnd);
    return true;
  }

  /** A stream begins, or a line of it has come. As a whole it may take any time. */
  onLine(socket: Socket): void {
    clearTimeout(this.late.get(socket));
    if (this.sockets.has(socket)) this.add(socket);
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
  read: RequestReader;
  waiting: WaitingSockets;
  console: Console;
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
  "/info": { GET: (_service, _request, response, { console, user }) => sendJson(response, 200, console.info(user)) },
  "/commands": {
    GET: (_service, _request, response, { console, user }) =>
      sendJson(response, 200, { commands: console.statuses(user) }),
  },
  "/openapi.json": { GET: description },
  "/v2": { GET: (_service, _request, response) => sendJson(response, 200, serverMetadata()) },
  "/v2/health/live": { GET: live },
  "/v2/health/ready": { GET: ready },
};

/** Paths without login: health checks have no password, and these answers are no secret. */
const open = new Set(["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]);

/** Whether pages of the configured origins may use it: they may send texts, and neither read those of others nor give commands. */
function isForPages(path: string): boolean {
  return path === "/predict" || path === "/v2" || path.startsWith("/v2/");
}

function handlersOf(path: string): Handlers | undefined {
  if (Object.hasOwn(routes, path)) return routes[path];
  const [, of, name = "", labels] = /^\/(commands|review)\/([A-Za-z0-9._-]+)(\/labels\.jsonl)?$/.exec(path) ?? [];
  if (of === "commands" && labels === undefined) return { POST: (...args) => command(name, ...args) };
  if (of === "review") return labels === undefined ? reviewOf(name) : { GET: (...args) => exported(name, ...args) };
  const found = parseModelPath(path);
  if (!found) return undefined;
  return found.verb === "infer"
    ? { POST: (...args) => infer(found, ...args) }
    : { GET: (service, _request, response) => describe(found, service, response) };
}

interface Gate extends Pick<HttpOptions, "textsPerRequest" | "login"> {
  hosts: HttpHosts;
  bodies: Bodies;
  read: RequestReader;
  waiting: WaitingSockets;
  console: Console;
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
    const origin = isForPages(path) ? hosts.allowed(request.headers) : undefined;
    if (origin !== undefined) {
      for (const [name, value] of corsHeaders) response.setHeader(name, value);
      response.setHeader("Access-Control-Allow-Origin", origin);
      // Browsers ask before they send what forms cannot send; that request has no credentials.
      if (request.method === "OPTIONS") {
        response.writeHead(204).end();
        return;
      }
    }
    if (request.method === "POST" && origin === undefined && hosts.isForeign(request.headers))
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
    if (response.headersSent) response.destroy();
    if (response.destroyed) return;
    const { status, code, message, headers } = failureOf(service, error, user);
    // Do not wait for the rest of a body that was refused.
    if (!request.complete && (status === 413 || status === 503)) headers["Connection"] = "close";
    // In KServe's protocol an error is a string.
    sendJson(response, status, { error: isKserve ? message : { code, message } }, headers);
  }
}

async function predict(
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  { bodies, read, waiting, user }: Context,
): Promise<void> {
  const asker = { service, request, user };
  if (isOfType(request, /^application\/x-ndjson$/)) {
    requireUncoded(request);
    waiting.onLine(request.socket);
    await answerStream(asker, response, { bodies, read, onLine: () => waiting.onLine(request.socket) });
    return;
  }
  const body = await readRequest(service, request, bodies);
  send(response, 200, "application/json", `${await answer(asker, parsePredict(body, read), body.length)}\n`);
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
    { service, request, user },
    { model, bytes: body.length, texts: wanted.texts, topK: wanted.outputs?.includes("scores") ? ALL : 1 },
  );
  sendJson(response, 200, encodeInfer(wanted, outcome));
}

async function command(
  verb: string,
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  { bodies, console, user }: Context,
): Promise<void> {
  sendJson(response, 202, console.command(verb, parseJson(await readRequest(service, request, bodies)), user));
}

/** Names of models are levels of topics, so they need no decoding. */
function reviewOf(name: string): Handlers {
  return {
    GET: (_service, _request, response, { console, user }) => sendJson(response, 200, console.review(name, user)),
    POST: async (service, request, response, { bodies, console, user }) => {
      const body = parseJson(await readRequest(service, request, bodies));
      sendJson(response, 200, await console.judge(name, body, user));
    },
  };
}

function exported(
  name: string,
  _service: Service,
  _request: IncomingMessage,
  response: ServerResponse,
  { console, user }: Context,
): void {
  const headers = { "Content-Disposition": `attachment; filename="${name}.corrections.jsonl"` };
  send(response, 200, "application/x-ndjson", console.corrections(name, user), headers);
}

function describe(path: ModelPath, service: Service, response: ServerResponse): void {
  const name = modelOf(service, path);
  if (path.verb === "ready") sendJson(response, 200, { name, ready: true });
  else sendJson(response, 200, modelMetadata(name, service.predictor.model(name).model));
}

function modelOf(service: Service, { name, version }: ModelPath): string {
  const { model } = service.predictor.model(name);
  if (version !== undefined && version !== model.version)
    throw new RequestError("unknown_model", `version ${model.version} of this model is here, and no other`);
  return name;
}

/** A JSON object, and the bytes of a tensor after it if a header gives the object's length. */
function readInfer(body: Buffer, request: IncomingMessage): { json: unknown; binary: Buffer } {
  const length = Number(request.headers["inference-header-content-length"] ?? body.length);
  if (!(length >= 0 && length <= body.length))
    throw new RequestError("bad_request", "Inference-Header-Content-Length is no length within the body");
  return { json: parseJson(body.subarray(0, length)), binary: body.subarray(length) };
}

function readRequest(service: Service, request: IncomingMessage, bodies: Bodies): Promise<Buffer> {
  service.metrics.requests.inc({ transport: "http" });
  // Browsers send requests of some other types to another site without asking there first.
  if (!isOfType(request, /^application\/(?:json|octet-stream)$/))
    throw new HttpError(415, "send the header Content-Type: application/json");
  requireUncoded(request);
  return bodies.receive(request);
}

/** JSON, if the request does not say what it is. */
function isOfType({ headers }: IncomingMessage, types: RegExp): boolean {
  const [type] = (headers["content-type"] ?? "application/json").split(";", 1);
  return types.test(type!.trim().toLowerCase());
}

function requireUncoded({ headers }: IncomingMessage): void {
  if (
    (headers["content-encoding"] ?? "identity") !== "identity" ||
    !/^chunked$/i.test(headers["transfer-encoding"] ?? "chunked")
  )
    throw new HttpError(415, "send the body as it is, without a coding");
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

async function description(_service: Service, _request: IncomingMessage, response: ServerResponse): Promise<void> {
  send(response, 200, "application/json", await readText(artefactPath("../docs/openapi.json")));
}

export function curlLine(url: string, options = ""): string {
  return `curl -s${options} ${url}/predict -H 'Content-Type: application/json' -d '{"data": "a text"}'`;
}

/** The page, and its policy: its own script and style run, by their digests, and may ask this service. */
let built: Promise<{ html: string; policy: string }> | undefined;

async function readPage(): Promise<{ html: string; policy: string }> {
  const html = await readText(artefactPath("console.html"));
  const digest = (element: string): string => {
    const [, content] = new RegExp(`<${element}(?: [^>]*)?>([^]*?)</${element}>`).exec(html)!;
    return `'sha256-${createHash("sha256").update(content!).digest("base64")}'`;
  };
  const policy = `${POLICY}; script-src ${digest("script")}; style-src ${digest("style")}; img-src data:; connect-src 'self'`;
  return { html, policy };
}

async function page(_service: Service, _request: IncomingMessage, response: ServerResponse): Promise<void> {
  built ??= readPage();
  const { html, policy } = await built;
  send(response, 200, "text/html; charset=utf-8", html, { "Content-Security-Policy": policy });
}
