// A process that changes a registry and kills itself with SIGKILL at one of its file
// operations: node install-and-die.mjs FOLDER KEYS UPDATE STEP before|after. Without a
// step it prints how many there are. UPDATE "rollback" rolls back instead.
import { readFileSync } from "node:fs";
import { realDisk } from "../../../build/host/registry/disk.js";
import { Registry } from "../../../build/host/registry/registry.js";

const [folder, keys, update, step = "0", when = "before"] = process.argv.slice(2);
let steps = 0;
const die = () => process.kill(process.pid, "SIGKILL");
const disk = Object.fromEntries(
  Object.entries(realDisk).map(([name, work]) => [
    name,
    async (...args) => {
      if (["list", "read", "modifiedAt"].includes(name)) return work(...args);
      const isLast = ++steps === Number(step);
      if (isLast && when === "before") die();
      const result = await work(...args);
      if (isLast) die();
      return result;
    },
  ]),
);
const registry = new Registry(folder, { keys, disk });
if (update === "rollback") await registry.rollback("spam");
else await registry.install(readFileSync(update), update);
process.stdout.write(`${steps}\n`);
