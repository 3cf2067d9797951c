// Which nodes are there: asked when the one that a command is for does not answer.
import { setTimeout as pause } from "node:timers/promises";
import type { MqttClient } from "mqtt";
import { listed } from "../../errors.ts";

/** Retained statuses come at once: when none has come for so long, all have. It takes no longer than MOST_MS. */
const QUIET_MS = 300;
const MOST_MS = 2_000;
const REFUSED = 128;

/** Names the nodes below the root that are online, for the end of a message; "" if the broker does not let us know. */
export async function whoIsOnline(client: MqttClient, root: string): Promise<string> {
  const [before, after] = [`${root}/`, "/status"];
  const online = new Set<string>();
  let quietUntil: number;
  client.on("message", (topic, payload) => {
    if (!topic.startsWith(before) || !topic.endsWith(after)) return;
    quietUntil = performance.now() + QUIET_MS;
    if (payload.toString() === "online") online.add(topic.slice(before.length, -after.length));
  });
  const isGranted = await new Promise<boolean>((resolve) => {
    client.once("close", () => resolve(false));
    client.subscribe(`${before}+${after}`, (error, granted = []) =>
      resolve(!error && granted.every(({ qos }) => qos < REFUSED)),
    );
  });
  if (!isGranted) return "";
  const since = performance.now();
  quietUntil = since + QUIET_MS;
  while (performance.now() < Math.min(since + MOST_MS, quietUntil)) await pause(QUIET_MS / 10);
  return online.size === 0 ? `no node is seen online below ${before}` : `online: ${listed([...online].sort())}`;
}
