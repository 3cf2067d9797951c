// Tells systemd that the service is up, and from then on that its event loop turns; when it hears
// nothing for WatchdogSec, it starts the service anew. Node has no datagram sockets of Unix, so
// systemd-notify, which comes with systemd, sends what is to be told.
import { execFile } from "node:child_process";
import type { Log } from "./log.ts";

/** How often in a watchdog's time it hears of the service. */
const SIGNS = 3;

/** Does nothing unless systemd waits for a sign; returns what ends it. */
export function startWatchdog(log: Log, { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = process.env): () => void {
  if (NOTIFY_SOCKET === undefined) return () => {};
  let isTold = false;
  const tell = (state: string): void => {
    execFile("systemd-notify", [state], (error) => {
      if (!error || isTold) return;
      isTold = true;
      log.warn(
        `warning: systemd hears no sign of life (${error.message.trim()}); without systemd-notify, set Type=exec and no WatchdogSec in the unit`,
      );
    });
  };
  tell("READY=1");
  const isWatched = WATCHDOG_USEC !== undefined && (WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid);
  const timer = isWatched
    ? setInterval(() => tell("WATCHDOG=1"), Number(WATCHDOG_USEC) / 1000 / SIGNS).unref()
    : undefined;
  return () => clearInterval(timer);
}
