// A process that takes a lock: node take-lock.mjs PATH [once|die|die early]. It prints "held",
// or the number of the process that has it. Without more it keeps the lock until it is ended;
// "once" gives it back, "die" dies with it, "die early" dies before others could see it.
import files from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

const [path, what] = process.argv.slice(2);
const die = () => process.kill(process.pid, "SIGKILL");
if (what === "die early") {
  files.rename = async () => die();
  syncBuiltinESMExports();
}
const { takeLock } = await import("../../../build/host/files/lock.js");
const taken = await takeLock(path);
if (what === "die") die();
process.stdout.write("release" in taken ? "held\n" : `${taken.pid}\n`);
if ("release" in taken && what === "once") await taken.release();
else if ("release" in taken) setInterval(() => {}, 1000);
