// Tells systemd that the service is up, and then at intervals that its event loop is running. After
// WatchdogSec without a sign, systemd restarts the service. Node has no Unix datagram sockets, so
// systemd-notify, which comes with systemd, sends the messages.
import { execFile } from "node:child_process";
import { OnceLog } from "./log.ts";
import type { Log } from "./log.ts";

/** Signs of life in WatchdogSec. */
const SIGNS = 3;

/** Does nothing unless systemd expects signs; returns a function that stops it. */
export function startWatchdog(log: Log, { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = process.env): () => void {
  if (NOTIFY_SOCKET === undefined) return () => {};
  const once = new OnceLog(log);
  const tell = (state: string): void => {
    execFile("systemd-notify", [state], (error) => {
      if (!error) return;
      once.warn(
        "silent",
        `warning: systemd gets no watchdog signal (${error.message.trim()}); without systemd-notify, set Type=exec and no WatchdogSec in the unit`,
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
