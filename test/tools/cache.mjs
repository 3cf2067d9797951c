// The user's cache, where what the tests need and fetch lies: outside of the checkout.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "edgelabel");

/** A folder of the cache. If it is not there yet, `make` fills the folder that it is given, or returns one below it to keep. */
export function cached(name, make) {
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(`${folder}-`);
  try {
    const made = make(work) ?? work;
    // Two test runs may fetch at the same time; the first one to finish wins.
    if (!existsSync(folder)) renameSync(made, folder);
    return folder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
