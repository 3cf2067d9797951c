// Reaches the data sets and Keras goldens that lie beside the checkout. They are
// not part of the project: without them the tests skip, visibly; under CI=true
// their absence is a failure.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, test } from "vitest";

const root = fileURLToPath(new URL("../../../shared/", import.meta.url));

export const sharedIsPresent = existsSync(root);

export function sharedPath(...parts: string[]): string {
  return root + parts.join("/");
}

export function readSharedJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(sharedPath(...parts), "utf8")) as T;
}

export function readSharedJsonLines<T>(...parts: string[]): T[] {
  return readFileSync(sharedPath(...parts), "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T);
}

/** A `describe` whose tests need ../shared. */
export function describeShared(name: string, body: () => void): void {
  if (sharedIsPresent) describe(name, body);
  else if (process.env["CI"] === "true")
    test(name, () => {
      throw new Error("../shared is absent, and CI=true demands it");
    });
  else
    describe.skip(`${name} (needs ../shared)`, () => {
      test("skipped", () => {});
    });
}
