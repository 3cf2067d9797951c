// The wasmtime CLI for tests. Without it their suites skip, visibly; under CI=true they fail.
import { spawnSync } from "node:child_process";
import { describe, test } from "vitest";
import { fetchWasmtime } from "../tools/fetch-wasmtime.mjs";

function find(): { path: string } | { reason: string } {
  try {
    return { path: fetchWasmtime() };
  } catch (error) {
    return { reason: (error as Error).message };
  }
}

const found = find();

/** A `describe` whose tests run wasmtime; the body gets the program's path. */
export function describeWasmtime(name: string, body: (path: string) => void): void {
  if ("path" in found) describe(name, () => body(found.path));
  else if (process.env["CI"] === "true")
    test(name, () => {
      throw new Error(`wasmtime cannot be had, and CI=true demands it: ${found.reason}`);
    });
  else
    describe.skip(`${name} (needs wasmtime: ${found.reason})`, () => {
      test("skipped", () => {});
    });
}

/** Runs a module on `input` to its end. */
export function runWasmtime(path: string, module: string, args: readonly string[], input: Uint8Array | string) {
  const { status, stdout, stderr } = spawnSync(path, ["run", module, ...args], { input, maxBuffer: 1 << 28 });
  return { status, stdout, stderr: stderr.toString() };
}
