// The command line beside an attacker who may write in the folders where it writes, and who is
// quicker: whatever it creates below FOLDER (a temporary file, a folder) is at once exchanged
// for a link to VICTIM: node plant.mjs symlink|hardlink FOLDER VICTIM ARGUMENTS
import sync from "node:fs";
import files from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { dirname, resolve } from "node:path";

const [kind, folder, victim, ...args] = process.argv.slice(2);
const { linkSync, lstatSync, readlinkSync, renameSync, symlinkSync } = sync;
let planted = 0;
const plant = (path) => {
  try {
    const place = dirname(path);
    const real = place.startsWith("/proc/") ? readlinkSync(place) : resolve(place);
    if (!real.startsWith(folder) || lstatSync(path).isSymbolicLink()) return;
    renameSync(path, `${path}.away`);
    planted++;
    (kind === "hardlink" ? linkSync : symlinkSync)(victim, path);
  } catch {
    // Not even root's, or a link that the kernel forbids.
  }
};
const creating =
  (work, isCreation) =>
  async (...given) => {
    const result = await work(...given);
    if (typeof given[0] === "string" && isCreation(given)) plant(given[0]);
    return result;
  };
const isDirectory = sync.statSync(victim).isDirectory();
if (isDirectory) files.mkdir = creating(files.mkdir, () => true);
else {
  files.writeFile = creating(files.writeFile, () => true);
  files.open = creating(files.open, ([, flags]) =>
    typeof flags === "string" ? !flags.startsWith("r") : (flags & sync.constants.O_CREAT) !== 0,
  );
}
syncBuiltinESMExports();

const { run } = await import("../../../build/host/main.js");
const code = await run(args);
process.stderr.write(`planted ${planted}\n`);
process.exitCode = code;
