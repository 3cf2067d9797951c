// The command line, in a process that kills itself with SIGKILL at one of the operations with
// which it changes files: node learn-and-die.mjs STEP before|half|after ARGUMENTS. "half" is in
// the middle of a write. With step 0 it lives, and prints how many operations there were.
import files from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { fileURLToPath } from "node:url";

const [step, when, ...args] = process.argv.slice(2);
let steps = 0;
const die = () => process.kill(process.pid, "SIGKILL");
const counted = (work) =>
  async function (...given) {
    // To read is no change.
    if (given[1] === "r") return work.apply(this, given);
    const isLast = ++steps === Number(step);
    if (isLast && when === "before") die();
    const bytes = given[0];
    if (isLast && when === "half" && (work.name === "writeFile" || work.name === "appendFile")) {
      await work.call(this, bytes.slice(0, bytes.length >> 1));
      die();
    }
    const result = await work.apply(this, given);
    if (isLast) die();
    return result;
  };
const handle = await files.open(fileURLToPath(import.meta.url), "r");
const methods = Object.getPrototypeOf(handle);
await handle.close();
for (const name of ["writeFile", "appendFile", "sync", "truncate", "chmod"]) methods[name] = counted(methods[name]);
for (const name of ["open", "rename", "rm", "unlink", "chmod"]) files[name] = counted(files[name]);
syncBuiltinESMExports();

const { run } = await import("../../../build/host/main.js");
process.stdout.write = (
  (write) =>
  (content, ...rest) =>
    write.call(process.stdout, Number(step) === 0 ? "" : content, ...rest)
)(process.stdout.write);
const code = await run(args);
if (Number(step) === 0) process.stderr.write(`${steps}\n`);
process.exitCode = code;
