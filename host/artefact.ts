// The files of this build that the program reads, whether its code runs from the sources (tests) or from build/host.
// Of all that a browser needs too, this is the only file that asks Node for files: web/artefact.ts is its twin there.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export function artefactPath(name: string): string {
  const isSource = import.meta.url.endsWith(".ts");
  return fileURLToPath(new URL(isSource ? `../build/${name}` : `../${name}`, import.meta.url));
}

/** The bytes of a compiled module. */
export function readArtefact(name: "engine.wasm" | "trainer.wasm"): Promise<Uint8Array<ArrayBuffer>> {
  return readFile(artefactPath(name));
}
