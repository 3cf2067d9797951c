// The sender's side of `load` (update-verbs.ts): an update -> its manifest, then its parts, as fast
// as the service takes them. Parts that came over in an earlier attempt are not sent again.
import { sendCommand } from "./send-command.ts";
import type { SendOptions } from "./send-command.ts";
import type { VersionInfo } from "../../registry/state.ts";

/** Parts in flight at once: enough to keep a slow line busy, few enough to send again. */
const WINDOW = 8;

export async function sendUpdate(
  { head, model }: { head: Buffer; model: Buffer },
  { activate, ...options }: SendOptions & { activate: boolean },
): Promise<VersionInfo> {
  let sent = -1;
  let last = -1;
  let gap = -1;
  const installed = await sendCommand("load", { manifest: head.toString(), activate }, options, (progress, publish) => {
    const { received, chunkBytes } = progress as { received?: number; chunkBytes: number };
    if (received === undefined) return;
    // Two reports without progress: the parts behind `received` were lost, so they are sent again, once.
    const isStuck = received === last && gap !== received;
    if (isStuck) gap = received;
    if (isStuck || received > sent) sent = received;
    last = received;
    while (sent < model.length && sent < received + WINDOW * chunkBytes) {
      publish(sent, model.subarray(sent, sent + chunkBytes));
      sent = Math.min(model.length, sent + chunkBytes);
    }
  });
  return installed as unknown as VersionInfo;
}
