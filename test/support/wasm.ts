// Fresh instances of the built modules for tests that reach inner kernels.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export type Exports = Record<string, any> & { memory: WebAssembly.Memory };

const compiled = new Map<string, WebAssembly.Module>();

/** A fresh instance of build/NAME.wasm; its WASI imports do nothing. */
export function loadWasm(name: "engine" | "trainer" | "testing"): Exports {
  let module = compiled.get(name);
  if (!module) {
    module = new WebAssembly.Module(readFileSync(fileURLToPath(new URL(`../../build/${name}.wasm`, import.meta.url))));
    compiled.set(name, module);
  }
  const imports: Record<string, Record<string, () => number>> = {};
  for (const { module: from, name: what } of WebAssembly.Module.imports(module)) (imports[from] ??= {})[what] = () => 0;
  return new WebAssembly.Instance(module, imports).exports as Exports;
}

/** Copies bytes into memory that the instance claims for them; returns the address. */
export function put(wasm: Exports, data: ArrayBufferView): number {
  const address: number = wasm["allocate"](Math.max(16, data.byteLength));
  new Uint8Array(wasm.memory.buffer, address, data.byteLength).set(
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
  return address;
}

export function f32(wasm: Exports, address: number, length: number): Float32Array {
  return new Float32Array(wasm.memory.buffer, address, length).slice();
}

export function i32(wasm: Exports, address: number, length: number): Int32Array {
  return new Int32Array(wasm.memory.buffer, address, length).slice();
}
