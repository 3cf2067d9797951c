// Names that become a level of a topic or the name of a folder: of nodes, models and users.
import { EdgelabelError } from "./errors.ts";

/** A host or model name as a topic level: "My Host.local" becomes "my-host-local"; `otherwise` when nothing is left of it. */
export function slug(name: string, otherwise = "node"): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 64) || otherwise
  );
}

/** The name of a model as a topic level. */
export function levelOf(name: string): string {
  return isLevel(name) ? name : slug(name, "model");
}

/** Returns `name` when it can stand as one level of a topic. */
export function checkLevel(what: string, name: string): string {
  if (isLevel(name)) return name;
  throw new EdgelabelError(
    `the ${what} ${JSON.stringify(name)} cannot be part of a topic: use 1 to 64 letters, digits, ".", "_" or "-", the first one a letter or digit`,
  );
}

export function isLevel(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name);
}
