// The twin of host/artefact.ts in the bundle for browsers, which has the compiled modules in it:
// the engine at once, the trainer in a file beside it that is loaded when something trains.
// The characters of a module are its bytes, each exclusive-or 50, by build.mjs.
import engine from "../build/engine.wasm";

export async function readArtefact(name: "engine.wasm" | "trainer.wasm"): Promise<Uint8Array<ArrayBuffer>> {
  const characters = name === "engine.wasm" ? engine : (await import("../build/trainer.wasm")).default;
  return Uint8Array.from(characters, (character) => character.charCodeAt(0) ^ 50);
}
