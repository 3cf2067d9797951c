// HTTP beside MQTT: POST /predict as the Flask tutorial has it, health, metrics,
// and a page for people. No cross-origin requests: the JSON content type is
// demanded, and no header allows another origin.
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { explainListenError, hostInUrl, listen, reachable } from "./broker.ts";
import { labelValue, RequestError } from "./messages.ts";
import { requestErrorOf } from "./service.ts";
import type { Service } from "./service.ts";
import { packageVersion } from "./version.ts";

export interface HttpEndpoint {
  url: string;
  port: number;
  close(): Promise<void>;
}

/** An error of HTTP itself, before anything is classified. */
class HttpError extends Error {
  readonly status: number;
  readonly headers: Record<string, string>;
  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

const codeOf: Record<number, string> = { 400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type" };

export async function startHttp(service: Service, { host, port, bodyBytes }: { host: string; port: number; bodyBytes: number }): Promise<HttpEndpoint> {
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000, maxHeaderSize: 8_192, connectionsCheckingInterval: 1_000 }, (request, response) => {
    void respond(service, request, response, bodyBytes);
  });
  server.maxConnections = 256;
  try {
    await listen(server, host, port);
  } catch (error) {
    throw explainListenError(error, host, port, "choose another one with --http NUMBER (0 takes any free one)");
  }
  const bound = server.address() as AddressInfo;
  return { url: `http://${hostInUrl(reachable(host))}:${bound.port}`, port: bound.port, close: () => close(server) };
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 1_000).unref();
  });
}

type Handler = (service: Service, request: IncomingMessage, response: ServerResponse, bodyBytes: number) => void | Promise<void>;

const routes: Record<string, Partial<Record<string, Handler>>> = {
  "/": { GET: page },
  "/predict": { POST: predict },
  "/healthz": { GET: (_service, _request, response) => sendJson(response, 200, { status: "ok" }) },
  "/readyz": { GET: (service, _request, response) => (service.isReady ? sendJson(response, 200, { status: "ready" }) : sendJson(response, 503, { status: "not connected to the broker" })) },
  "/metrics": { GET: metrics },
};

async function respond(service: Service, request: IncomingMessage, response: ServerResponse, bodyBytes: number): Promise<void> {
  const path = (request.url ?? "/").split("?", 1)[0]!;
  const methods = Object.hasOwn(routes, path) ? routes[path] : undefined;
  try {
    if (!methods) throw new HttpError(404, `nothing here; try ${Object.keys(routes).join(", ")}`);
    const handler = methods[request.method === "HEAD" ? "GET" : request.method ?? ""];
    if (!handler) throw new HttpError(405, `use ${Object.keys(methods).join(" or ")}`, { Allow: Object.keys(methods).join(", ") });
    await handler(service, request, response, bodyBytes);
  } catch (error) {
    if (response.headersSent || response.destroyed) return;
    if (error instanceof HttpError) {
      sendJson(response, error.status, { error: { code: codeOf[error.status], message: error.message } }, error.headers);
      return;
    }
    const failure = requestErrorOf(error);
    sendJson(response, service.countError(failure.code), { error: { code: failure.code, message: failure.message } });
  }
}

async function predict(service: Service, request: IncomingMessage, response: ServerResponse, bodyBytes: number): Promise<void> {
  service.metrics.requests.inc({ transport: "http" });
  if (!/^application\/json\s*(?:;|$)/i.test(request.headers["content-type"] ?? "")) throw new HttpError(415, "send the header Content-Type: application/json");
  const body = await readBody(request, bodyBytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new RequestError("bad_request", "the body is not JSON");
  }
  const { data, model: wanted = "" } = (typeof value === "object" && value !== null ? value : {}) as { data?: unknown; model?: unknown };
  if (typeof data !== "string") throw new RequestError("bad_request", 'the body must be an object such as {"data": "the text"}');
  if (typeof wanted !== "string") throw new RequestError("bad_request", '"model" must be a string');
  const { name, model } = service.model(wanted);
  sendJson(response, 200, { label: labelValue(service.classify(name, model, data).label) });
}

async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const tooLarge = () => new HttpError(413, `the body may have at most ${limit} bytes`, { Connection: "close" });
  if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  // Not `for await`: leaving that loop early destroys the socket before the 413 is written.
  await new Promise<void>((resolve, reject) => {
    request.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limit) chunks.push(chunk);
      else {
        request.pause();
        reject(tooLarge());
      }
    });
    request.on("end", resolve);
    request.on("error", reject);
  });
  return Buffer.concat(chunks);
}

function sendJson(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "Content-Type": "application/json", "X-Content-Type-Options": "nosniff", ...headers });
  response.end(`${JSON.stringify(body)}\n`);
}

async function metrics(service: Service, _request: IncomingMessage, response: ServerResponse): Promise<void> {
  const text = await service.metrics.registry.metrics();
  response.writeHead(200, { "Content-Type": service.metrics.registry.contentType });
  response.end(text);
}

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => escapes[character]!);
}

export function curlLine(url: string): string {
  return `curl -s ${url}/predict -H 'Content-Type: application/json' -d '{"data": "a text"}'`;
}

function page(service: Service, request: IncomingMessage, response: ServerResponse): void {
  const { localAddress = "127.0.0.1", localPort } = request.socket;
  const url = `http://${hostInUrl(localAddress.replace(/^::ffff:/, ""))}:${localPort}`;
  const rows = [...service.models].map(([name, { version, labels }]) => `<tr><td>${escapeHtml(name)}</td><td>${escapeHtml(version)}</td><td>${escapeHtml(labels.join(", "))}</td></tr>`);
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff" });
  response.end(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>edgelabel</title>
<style>body { font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em } td, th { text-align: left; vertical-align: top; padding: 0 1em 0 0 } pre { background: #eee; padding: 1em; overflow: auto }</style>
<h1>edgelabel ${escapeHtml(packageVersion)}</h1>
<p>Send a text, receive its label:</p>
<pre>${escapeHtml(curlLine(url))}</pre>
<table><tr><th>Model</th><th>Version</th><th>Labels</th></tr>
${rows.join("\n")}
</table>
<p><a href="/healthz">/healthz</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></p>
</html>
`);
}
