// How a command or the service connects to a broker: URL, credentials and TLS files.
import { hostname } from "node:os";
import { EdgelabelError } from "../../errors.ts";
import { readWholeSync } from "../../files/read.ts";
import { slug } from "../../names.ts";
import { brokerUrls } from "./connection.ts";
import type { BrokerAccess, Protocol } from "./connection.ts";

/** Options of every command that connects to a broker. */
export interface BrokerOptions {
  protocol?: Protocol;
  ca?: string;
  cert?: string;
  key?: string;
}

/** The content of a file from the settings; `what` describes it in errors. */
export function readFileFor(what: string, path: string): Buffer {
  if (/[\n\0]/.test(path)) throw new EdgelabelError(`the ${what} must be the name of a file, not what is in it`);
  return readWholeSync(path, { what });
}

export function readTls(files: {
  ca?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
}): NonNullable<BrokerAccess["tls"]> {
  if ((files.cert === undefined) !== (files.key === undefined))
    throw new EdgelabelError("a client certificate needs both --cert and --key");
  const read = (what: string, path?: string) => (path === undefined ? undefined : readFileFor(what, path));
  return { ca: read("CA file", files.ca), cert: read("certificate", files.cert), key: read("private key", files.key) };
}

/** A user of the file may have a password of the environment, but not the other way round. */
export function credentials(
  env: NodeJS.ProcessEnv,
  file: { username?: string | undefined; password?: string | undefined } = {},
): Pick<BrokerAccess, "username" | "password"> {
  const [username, password] = [
    env["EDGELABEL_MQTT_USERNAME"] || undefined,
    env["EDGELABEL_MQTT_PASSWORD"] || undefined,
  ];
  if (username === undefined) return { username: file.username, password: password ?? file.password };
  if (password === undefined && file.password !== undefined)
    throw new EdgelabelError(
      'EDGELABEL_MQTT_USERNAME is set without EDGELABEL_MQTT_PASSWORD, and the "password" of the configuration file is another user\'s: set both variables, or neither',
    );
  return { username, password };
}

/** How a command reaches the broker that its command line names, with the credentials of the environment. */
export function accessOf({ broker, protocol, ...files }: BrokerOptions & { broker: string }): BrokerAccess {
  brokerUrls(broker);
  return { url: broker, protocol, ...credentials(process.env), tls: readTls(files) };
}

/** The node's name where none is given: the host's. */
export function defaultNode(): string {
  return slug(hostname());
}
