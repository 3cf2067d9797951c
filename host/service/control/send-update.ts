// The sender's side of `load` (update-verbs.ts): an update -> its manifest, then its parts, as fast
// as the service takes them. Parts that came over in an earlier attempt are not sent again.
import { randomBytes } from "node:crypto";
import type { MqttClient } from "mqtt";
import { EdgelabelError } from "../../errors.ts";
import { connectOnce, shownUrl } from "../mqtt/connection.ts";
import type { BrokerAccess } from "../mqtt/connection.ts";
import type { Topics } from "../topics.ts";
import type { VersionInfo } from "../../registry/state.ts";

export interface SendOptions {
  access: BrokerAccess;
  topics: Topics;
  activate: boolean;
  /** How long to wait for a sign of life. */
  timeoutMs?: number;
}

/** Parts in flight at once: enough to keep a slow line busy, few enough to send again. */
const WINDOW = 8;
const TIMEOUT_MS = 30_000;

export async function sendUpdate(update: { head: Buffer; model: Buffer }, options: SendOptions): Promise<VersionInfo> {
  const { client } = await connectOnce(options.access);
  try {
    return await exchange(client, update, options);
  } finally {
    client.end(true);
  }
}

function exchange(
  client: MqttClient,
  { head, model }: { head: Buffer; model: Buffer },
  { access, topics, activate, timeoutMs = TIMEOUT_MS }: SendOptions,
): Promise<VersionInfo> {
  return new Promise((resolve, reject) => {
    const topic = `${topics.command}/load/${randomBytes(8).toString("hex")}`;
    let timer: NodeJS.Timeout;
    let sent = -1;
    let last = -1;
    let gap = -1;
    const fail = (message: string) => {
      clearTimeout(timer);
      reject(new EdgelabelError(message));
    };
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(
        () =>
          fail(
            `${topics.node} does not answer on ${topic}: does the service run with commands and a registry, and may this user publish there?`,
          ),
        timeoutMs,
      );
    };
    const publish = (to: string, payload: string | Buffer) =>
      client.publish(to, payload, { qos: 1 }, (error, packet) => {
        const code = (packet as { reasonCode?: number } | undefined)?.reasonCode ?? 0;
        if (error || code >= 0x80)
          fail(`the broker refuses ${to}: ${error?.message ?? `reason 0x${code.toString(16)}`}`);
      });

    const onProgress = ({ received, chunkBytes }: { received: number; chunkBytes: number }) => {
      // Two reports without progress: the parts behind `received` were lost, so they are sent again, once.
      const isStuck = received === last && gap !== received;
      if (isStuck) gap = received;
      if (isStuck || received > sent) sent = received;
      last = received;
      while (sent < model.length && sent < received + WINDOW * chunkBytes) {
        publish(`${topic}/${sent}`, model.subarray(sent, sent + chunkBytes));
        sent = Math.min(model.length, sent + chunkBytes);
      }
    };

    client.on("message", (_topic, payload) => {
      let status: { status?: string; reason?: string; received?: number; chunkBytes?: number };
      try {
        status = JSON.parse(payload.toString()) as typeof status;
      } catch {
        return;
      }
      if (status.status === "executing" && status.received !== undefined) {
        restartTimer();
        onProgress(status as { received: number; chunkBytes: number });
      } else if (status.status === "failed" || status.status === "successful") {
        clearTimeout(timer);
        // Clears the retained status, which was for us alone.
        client.publish(topic, "", { qos: 1, retain: true }, () => {
          if (status.status === "failed") fail(`the service refuses: ${status.reason}`);
          else resolve(status as unknown as VersionInfo);
        });
      }
    });
    client.on("close", () => fail(`${shownUrl(access.url)} closed the connection; send the update again to go on`));
    restartTimer();
    client.subscribe(topic, { qos: 1 }, (error) => {
      if (error) fail(`the broker refuses the subscription to ${topic}: ${error.message}`);
      else publish(topic, JSON.stringify({ status: "init", manifest: head.toString(), activate }));
    });
  });
}
