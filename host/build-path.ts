// The path of a compiled module in build/, whether this code runs from the sources (tests) or from build/host.
import { fileURLToPath } from "node:url";

export function artefactPath(name: string): string {
  const isSource = import.meta.url.endsWith(".ts");
  return fileURLToPath(new URL(isSource ? `../build/${name}` : `../${name}`, import.meta.url));
}
