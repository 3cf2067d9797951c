// The embedded MQTT broker (Aedes, MQTT 3.1.1) for those who run none yet: one
// gateway, one process. Sessions and retained messages live in memory.
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { Aedes } from "aedes";
import { UserError } from "../errors.ts";

export interface Broker {
  host: string;
  port: number;
  /** Where clients on this machine find it. */
  url: string;
  close(): Promise<void>;
}

export async function startBroker({ host, port }: { host: string; port: number }): Promise<Broker> {
  const aedes = await Aedes.createBroker({
    connectTimeout: 10_000,
    // A subscriber that reads nothing must not hold up the others for a minute.
    drainTimeout: 5_000,
  });
  // Without listeners a client's fault would be thrown at us.
  aedes.on("clientError", () => {});
  aedes.on("connectionError", () => {});
  const server = createServer({ noDelay: true }, (socket) => aedes.handle(socket));
  server.maxConnections = 1000;
  try {
    await listen(server, host, port);
  } catch (error) {
    await new Promise<void>((resolve) => aedes.close(resolve));
    throw explainListenError(error, host, port, `use that broker with --broker mqtt://${hostInUrl(host)}:${port}, or choose another port with --port NUMBER (0 takes any free one)`);
  }
  const bound = server.address() as AddressInfo;
  return {
    host,
    port: bound.port,
    url: `mqtt://${hostInUrl(reachable(host))}:${bound.port}`,
    close: () => new Promise((resolve) => {
      server.close(() => resolve());
      aedes.close();
    }),
  };
}

export function listen(server: { listen(port: number, host: string): unknown; once(event: string, listener: (error: Error) => void): unknown; off(event: string, listener: (error: Error) => void): unknown }, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onListening = () => {
      server.off("error", reject);
      resolve();
    };
    server.once("error", reject);
    server.once("listening", onListening);
    server.listen(port, host);
  });
}

/** A listen error as something the user can act on. */
export function explainListenError(error: unknown, host: string, port: number, whenTaken: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") return new UserError(`port ${port} on ${host} is already taken: ${whenTaken}`);
  if (code === "EACCES") return new UserError(`port ${port} may not be opened by this user: choose one above 1023`);
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return new UserError(`${host} is not an address of this machine: give --host 127.0.0.1 or one of its own addresses`);
  return error;
}

/** Every-interface addresses are for listening only. */
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
