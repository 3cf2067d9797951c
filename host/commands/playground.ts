// `edgelabel playground`: serves the files of the playground to browsers on this machine. Models and
// texts stay in the browser; the server only has files to give.
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { Command } from "commander";
import { artefactPath } from "../artefact.ts";
import { EdgelabelError } from "../errors.ts";
import { explainListenError, listen } from "../service/listen.ts";
import { wholeNumber } from "./options.ts";
import { print } from "./terminal.ts";

const HOST = "127.0.0.1";
const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
};

export function playgroundCommand(): Command {
  return new Command("playground")
    .option("--port <port>", "port of the page (default: any free one)", wholeNumber(0, 65_535))
    .addHelpText(
      "after",
      `
The page tries models and trains them, in the browser alone: what is typed, dropped or
trained there is sent nowhere. Its files are in build/web of the package, for any web server.

Example:
  edgelabel playground --port 8000`,
    )
    .action(async ({ port = 0 }: { port?: number }) => {
      const files = await readPage();
      const page = files.get("/")!.body.toString();
      // As the page has it, but a page cannot forbid to be embedded by itself.
      const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(page)!;
      const headers = {
        "Content-Security-Policy": `${policy}; frame-ancestors 'none'`,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
      };
      const server = createServer((request, response) => {
        const file = files.get(request.url!.replace(/\?.*/, ""));
        if (request.method !== "GET" && request.method !== "HEAD")
          response.writeHead(405, { ...headers, Allow: "GET, HEAD" }).end();
        else if (!file) response.writeHead(404, { ...headers, "Content-Type": "text/plain" }).end("nothing here\n");
        else
          response
            .writeHead(200, { ...headers, "Content-Type": file.type, "Content-Length": file.body.length })
            .end(request.method === "HEAD" ? undefined : file.body);
      });
      await listen(server, HOST, port).catch((error: unknown) => {
        throw explainListenError(error, HOST, port, "choose another one with --port, or leave it out");
      });
      for (const signal of ["SIGINT", "SIGTERM"] as const)
        process.once(signal, () => {
          server.close();
          server.closeAllConnections();
        });
      await print(`http://${HOST}:${(server.address() as AddressInfo).port}/\nStop with Ctrl-C.\n`);
    });
}

interface PageFile {
  type: string;
  body: Buffer;
}

/** All files of the page, by their paths. */
async function readPage(): Promise<Map<string, PageFile>> {
  const folder = artefactPath("web");
  const names = await readdir(folder).catch((): string[] => []);
  if (!names.includes("index.html")) throw new EdgelabelError(`${folder}: the page is not built; run: npm run build`);
  const files = new Map<string, PageFile>();
  for (const name of names) {
    const file = { type: TYPES[extname(name)] ?? "application/octet-stream", body: await readFile(join(folder, name)) };
    files.set(name === "index.html" ? "/" : `/${name}`, file);
  }
  return files;
}
