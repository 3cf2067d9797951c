// The log: plain lines, in which commands are named as one would type them here, or pino's JSON
// lines. Texts, payloads and passwords are never logged.
import { pino } from "pino";
import { printableLines } from "../escape.ts";
import { asTyped } from "../program-name.ts";

type LogFields = Record<string, string | number | boolean | readonly string[] | undefined>;

export interface Log {
  /** Plain logs show the text `forPeople` instead, where there is one. */
  info(message: string, fields?: LogFields, forPeople?: string): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** For what any message may cause again: each kind of it is logged once. */
export class OnceLog {
  private readonly log: Log;
  private readonly logged = new Set<string>();

  constructor(log: Log) {
    this.log = log;
  }

  /** `kind`: one of few. */
  warn(kind: string, message: string, fields?: LogFields): void {
    if (this.isNew(kind)) this.log.warn(message, fields);
  }

  error(kind: string, message: string, fields?: LogFields): void {
    if (this.isNew(kind)) this.log.error(message, fields);
  }

  /** From here on everything is logged once more. */
  reset(): void {
    this.logged.clear();
  }

  private isNew(kind: string): boolean {
    if (this.logged.has(kind)) return false;
    this.logged.add(kind);
    return true;
  }
}

export function plainLog(): Log {
  const write =
    (stream: NodeJS.WriteStream) =>
    (message: string, _fields?: LogFields, forPeople = message) =>
      void stream.write(`${printableLines(asTyped(forPeople))}\n`);
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
