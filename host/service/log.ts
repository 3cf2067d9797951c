// What the service tells its operator: plain lines, or pino's JSON lines. Texts,
// payloads and passwords are never logged.
import { pino } from "pino";
import { printable } from "../errors.ts";

type LogFields = Record<string, string | number | boolean | readonly string[] | undefined>;

export interface Log {
  /** Plain logs show the text `forPeople` instead, where there is one. */
  info(message: string, fields?: LogFields, forPeople?: string): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export function plainLog(): Log {
  const write =
    (stream: NodeJS.WriteStream) =>
    (message: string, _fields?: LogFields, forPeople = message) =>
      void stream.write(`${forPeople.split("\n").map(printable).join("\n")}\n`);
  return { info: write(process.stdout), warn: write(process.stderr), error: write(process.stderr) };
}

export function jsonLog(): Log {
  const logger = pino({ base: { name: "edgelabel", pid: process.pid } });
  return {
    info: (message, fields = {}) => logger.info(fields, message),
    warn: (message, fields = {}) => logger.warn(fields, message),
    error: (message, fields = {}) => logger.error(fields, message),
  };
}
