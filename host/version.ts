// The package's version, found from the sources as well as from build/.
import { existsSync, readFileSync } from "node:fs";

function readVersion(): string {
  for (let folder = new URL("./service", import.meta.url); folder.pathname !== "/"; folder = new URL("..", folder)) {
    const file = new URL("package.json", folder);
    if (existsSync(file)) return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
  }
  return "unknown";
}

export const packageVersion = readVersion();
