// Listening servers, the addresses under which clients reach them, and clients that read slowly.
import type { Server } from "node:net";
import type { Writable } from "node:stream";
import { EdgelabelError } from "../errors.ts";

export interface ServerTls {
  cert: Buffer;
  key: Buffer;
  /** Authority for client certificates; clients without one are refused. */
  ca?: Buffer | undefined;
  requestCert?: boolean | undefined;
}

export function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Turns a listen error into one that the user can act on. */
export function explainListenError(error: unknown, host: string, port: number, whenTaken: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") return new EdgelabelError(`port ${port} on ${host} is already taken: ${whenTaken}`);
  if (code === "EACCES")
    return new EdgelabelError(`port ${port} may not be opened by this user: choose one above 1023`);
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return new EdgelabelError(
      `${host} is not an address of this machine: give --host 127.0.0.1 or one of its own addresses`,
    );
  return error;
}

/** An address that clients can use instead of one that stands for all interfaces. */
export function reachable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "::1" : host;
}

export function hostInUrl(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** Resolves when the client has taken enough of what was written, or is gone. */
export function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off("drain", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("close", done);
  });
}
