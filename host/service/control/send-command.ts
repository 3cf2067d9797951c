// The sender's side of a command (commands.ts): publishes it, and follows its status until it has ended.
import { randomBytes } from "node:crypto";
import type { MqttClient } from "mqtt";
import { EdgelabelError } from "../../errors.ts";
import { connectOnce, shownUrl } from "../mqtt/connection.ts";
import type { BrokerAccess } from "../mqtt/connection.ts";
import { whoIsOnline } from "../mqtt/online.ts";
import type { Topics } from "../topics.ts";

export interface SendOptions {
  access: BrokerAccess;
  topics: Topics;
  /** How long to wait for a sign of life. */
  timeoutMs?: number;
}

/** A status of the command, with what its verb has added. */
export type Status = Readonly<Record<string, unknown>>;

const TIMEOUT_MS = 30_000;

/**
 * Resolves with the result. `onProgress` is called for each status "executing", and may publish parts of the command.
 * Throws an EdgelabelError with the service's reason, or if it does not answer.
 */
export async function sendCommand(
  verb: string,
  args: object,
  options: SendOptions,
  onProgress?: (progress: Status, publish: (part: number, bytes: Buffer) => void) => void,
): Promise<Status> {
  const { client } = await connectOnce(options.access);
  try {
    return await exchange(client, verb, args, options, onProgress);
  } finally {
    client.end(true);
  }
}

function exchange(
  client: MqttClient,
  verb: string,
  args: object,
  { access, topics, timeoutMs = TIMEOUT_MS }: SendOptions,
  onProgress: Parameters<typeof sendCommand>[3],
): Promise<Status> {
  return new Promise((resolve, reject) => {
    const topic = `${topics.command}/${verb}/${randomBytes(8).toString("hex")}`;
    let timer: NodeJS.Timeout;
    const fail = (message: string) => {
      clearTimeout(timer);
      reject(new EdgelabelError(message));
    };
    const failUnanswered = async () => {
      const online = await whoIsOnline(client, topics.root);
      fail(
        `${topics.node} does not answer on ${topic}: does the service run with commands and a registry, and may this user publish there?${online && ` (${online})`}`,
      );
    };
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(() => void failUnanswered(), timeoutMs);
    };
    const publish = (to: string, payload: string | Buffer) =>
      client.publish(to, payload, { qos: 1 }, (error, packet) => {
        const code = (packet as { reasonCode?: number } | undefined)?.reasonCode ?? 0;
        if (error || code >= 0x80)
          fail(`the broker refuses ${to}: ${error?.message ?? `reason 0x${code.toString(16)}`}`);
      });

    client.on("message", (from, payload) => {
      if (from !== topic) return;
      let status: Status;
      try {
        status = JSON.parse(payload.toString()) as Status;
      } catch {
        return;
      }
      if (status["status"] === "executing") {
        restartTimer();
        onProgress?.(status, (part, bytes) => publish(`${topic}/${part}`, bytes));
      } else if (status["status"] === "failed" || status["status"] === "successful") {
        clearTimeout(timer);
        // Clears the retained status, which was for us alone.
        client.publish(topic, "", { qos: 1, retain: true }, () => {
          if (status["status"] === "failed") fail(`the service refuses: ${String(status["reason"])}`);
          else resolve(status);
        });
      }
    });
    client.on("close", () => fail(`${shownUrl(access.url)} closed the connection; try again`));
    restartTimer();
    client.subscribe(topic, { qos: 1 }, (error) => {
      if (error) fail(`the broker refuses the subscription to ${topic}: ${error.message}`);
      else publish(topic, JSON.stringify({ status: "init", ...args }));
    });
  });
}
