// Where the compiled modules lie, seen from the sources (tests) and from build/host.
import { fileURLToPath } from "node:url";

export function artefactPath(name: string): string {
  const isSource = import.meta.url.endsWith(".ts");
  return fileURLToPath(new URL(isSource ? `../build/${name}` : `../${name}`, import.meta.url));
}
