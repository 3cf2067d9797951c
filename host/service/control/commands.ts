// Commands over MQTT. A command is published to `ROOT/NODE/cmd/VERB/ID`. Its status then appears on the
// same topic, retained, until the sender clears the topic with an empty message:
//
//   {"status":"init", …arguments}       in
//   {"status":"executing", …progress}   out, any number of them
//   {"status":"successful", …result}    out
//   {"status":"failed","reason":"…"}    out
//
// Data that is too large for one message follows in parts, on `…/ID/PART`.
//
// A verb is one async function, added before the service starts:
//
//   service.commands?.add("learn", async ({ args, report, signal }) => {
//     report({ epoch: 1 });            // status "executing"; the same fields as a result
//     return { accuracy: 0.9 };        // status "successful"; a throw is "failed",
//   });                                // with the message of an EdgelabelError for its reason
//
// A verb checks its own `args`, must not block (requests are answered meanwhile), and may run several
// times at once. A command runs once: if the same id comes again, its last status is repeated. A
// command that was interrupted by a restart has "failed".
import { randomUUID } from "node:crypto";
import { EdgelabelError } from "../../errors.ts";
import type { Guard } from "../answer/guard.ts";
import { fromJson } from "../answer/json.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { TooLarge } from "../mqtt/message.ts";
import type { Incoming } from "../mqtt/message.ts";
import type { Outbox } from "../mqtt/outbox.ts";
import { isLevel } from "../../names.ts";
import type { Topics } from "../topics.ts";

export interface Command {
  id: string;
  /** The command's JSON object, unchecked, without `status`. */
  args: Readonly<Record<string, unknown>>;
  /** Publishes the status "executing" with these fields. */
  report(progress: object): void;
  /** Set by a verb that takes parts. The part is acknowledged when the promise resolves. */
  onPart?: (part: string, bytes: Buffer) => Promise<void>;
  /** Aborted when the service stops. */
  signal: AbortSignal;
}

export type Verb = (command: Command) => Promise<object>;

export interface CommandsOptions {
  topics: Topics;
  metrics: Metrics;
  log: Log;
  guard: Guard;
  outbox: Pick<Outbox, "publishState">;
  /** Called after a command has failed. */
  onFailed: () => void;
}

const MAX_RUNNING = 16;
/** Commands whose last status is kept, in case they are sent again. */
const REMEMBERED = 100;

export class Commands {
  private readonly options: CommandsOptions;
  private readonly verbs = new Map<string, Verb>();
  private readonly running = new Map<string, Command>();
  private readonly finished = new Map<string, string>();
  /** Last statuses of those that are running. */
  private readonly executing = new Map<string, string>();
  private readonly stopping = new AbortController();

  constructor(options: CommandsOptions) {
    this.options = options;
  }

  /** Topic filter of all commands and their parts. */
  get filter(): string {
    return `${this.options.topics.command}/#`;
  }

  add(name: string, verb: Verb): void {
    this.verbs.set(name, verb);
  }

  onMessage(message: Incoming): void {
    const [verb = "", id = "", part, ...deeper] = message.topic
      .slice(this.options.topics.command.length + 1)
      .split("/");
    if (!isLevel(verb) || !isLevel(id) || deeper.length > 0) this.ignore("bad_command_topic", message);
    else if (part === undefined) this.onCommand(verb, id, message);
    else this.onPart(`${verb}/${id}`, part, message);
  }

  stop(): void {
    this.stopping.abort(new EdgelabelError("the service stopped"));
  }

  /** Runs a command that did not come over MQTT, where its statuses appear nevertheless. Returns its id. */
  start(verb: string, args: Command["args"]): string {
    const id = randomUUID();
    // The class only, as in guard.ts.
    this.run(verb, id, args).catch((error: unknown) =>
      this.options.log.error(
        `command ${verb} broke off (${error instanceof Error ? error.name : typeof error}). This is a bug in edgelabel`,
      ),
    );
    return id;
  }

  /** The last statuses, the newest command last. */
  statuses(): { verb: string; id: string; [field: string]: unknown }[] {
    return [...this.finished, ...this.executing].map(([key, payload]) => {
      const [verb, id] = key.split("/") as [string, string];
      return { verb, id, ...parseObject(Buffer.from(payload)) };
    });
  }

  private onCommand(verb: string, id: string, message: Incoming): void {
    // Acknowledged before it runs: a command that crashes the process must not be delivered again.
    message.acknowledge();
    const key = `${verb}/${id}`;
    if (message.payload.length === 0) {
      this.finished.delete(key);
      return;
    }
    const { status, ...args } = parseObject(message.payload);
    const known = this.finished.get(key);
    // We also receive our own statuses, which are on the same topics.
    if (message.isRetained) {
      if (status === "init") this.ignore("retained", message);
      else if (status === "executing" && !this.running.has(key)) {
        if (known !== undefined) this.publishStatus(key, known);
        else this.finish(key, { status: "failed", reason: "a restart of the service interrupted it" });
      }
    } else if (status === "init" && !this.running.has(key)) {
      if (known !== undefined) this.publishStatus(key, known);
      else this.run(verb, id, args).catch((error: unknown) => this.options.guard.drop(message, error));
    } else if (typeof status !== "string") this.ignore("bad_command", message);
  }

  private async run(name: string, id: string, args: Command["args"]): Promise<void> {
    const { metrics, log } = this.options;
    const key = `${name}/${id}`;
    const verb = this.verbs.get(name);
    const report = (progress: object) => {
      const payload = JSON.stringify({ status: "executing", ...progress });
      this.executing.set(key, payload);
      this.publishStatus(key, payload);
    };
    let last: { status: string; reason?: string };
    try {
      if (!verb)
        throw new EdgelabelError(
          `there is no such command here; the commands are ${[...this.verbs.keys()].join(", ")}`,
        );
      if (this.running.size >= MAX_RUNNING)
        throw new EdgelabelError("too many commands are running; try again when some have finished");
      const command: Command = { id, args, report, signal: this.stopping.signal };
      this.running.set(key, command);
      report({});
      last = { status: "successful", ...(await verb(command)) };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (!(error instanceof EdgelabelError)) log.error(`command ${name} failed unexpectedly: ${reason}`);
      last = { status: "failed", reason };
    }
    this.running.delete(key);
    this.executing.delete(key);
    metrics.commands.inc({ verb: verb ? name : "unknown", status: last.status });
    log.info(`command ${key} ${last.status}${last.reason ? `: ${last.reason}` : ""}`, {
      verb: name,
      id,
      status: last.status,
    });
    this.finish(key, last);
    if (last.status === "failed") this.options.onFailed();
  }

  private onPart(key: string, part: string, message: Incoming): void {
    const command = this.running.get(key);
    if (!command?.onPart || message.isRetained) this.ignore("unexpected_part", message);
    else
      command
        .onPart(part, message.payload)
        .then(message.acknowledge, (error: unknown) => this.options.guard.drop(message, error));
  }

  private finish(key: string, status: object): void {
    const payload = JSON.stringify(status);
    this.finished.delete(key);
    this.finished.set(key, payload);
    if (this.finished.size > REMEMBERED) this.finished.delete(this.finished.keys().next().value!);
    this.publishStatus(key, payload);
  }

  private publishStatus(key: string, payload: string): void {
    const { topics, outbox } = this.options;
    outbox.publishState({
      topic: `${topics.command}/${key}`,
      payload,
      qos: 1,
      retain: true,
      isKept: true,
      finished: (_fate, error) => {
        if (error instanceof TooLarge) this.onTooLarge(key, payload);
      },
    });
  }

  /** Replaces a final status by a short one, since it must arrive. A progress report may be lost. */
  private onTooLarge(key: string, payload: string): void {
    if (this.finished.get(key) !== payload) return;
    const { status } = parseObject(Buffer.from(payload));
    this.publishStatus(
      key,
      JSON.stringify({
        status: "failed",
        reason: `the status, which is "${String(status)}", is larger than the broker takes`,
      }),
    );
  }

  private ignore(reason: string, message: Incoming): void {
    this.options.metrics.ignored.inc({ reason });
    message.acknowledge();
  }
}

/** The payload as a JSON object; an empty one if it is something else. */
function parseObject(payload: Buffer): Record<string, unknown> {
  try {
    const value = fromJson(payload);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}
