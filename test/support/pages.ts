// A web server as simple as there can be, which sends no policies: what a page forbids, it forbids by itself.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface FileServer {
  url: string;
  /** Paths that were asked for, in order. */
  asked: string[];
  close(): Promise<void>;
}

/** Serves a folder, and further files by their paths. */
export async function serveFolder(folder: URL, more: Readonly<Record<string, Uint8Array>> = {}): Promise<FileServer> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url!.replace(/\?.*/, "");
    asked.push(request.url!);
    try {
      const body = more[path] ?? readFileSync(new URL(path === "/" ? "index.html" : path.slice(1), folder));
      const type = /\.js$/.test(path) ? "text/javascript" : /\.css$/.test(path) ? "text/css" : "text/html";
      response.writeHead(200, { "content-type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
