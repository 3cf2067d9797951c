// Endurance tests that run on more than the others' programs. Where that cannot be had
// they skip, visibly; at their long size they fail.
import { describe, test } from "vitest";
import { isLong } from "./size.ts";

/** For what takes minutes: at its short size it is left out. */
export function onlyLong<T>(fetch: () => T): () => T {
  if (isLong) return fetch;
  return () => {
    throw new Error("it runs with EDGELABEL_LONG=1");
  };
}

/** A `describe` whose body gets what `fetch` returns. */
export function describeWith<T>(name: string, what: string, fetch: () => T, body: (fetched: T) => void): void {
  let fetched: T;
  try {
    fetched = fetch();
  } catch (error) {
    const reason = (error as Error).message;
    if (isLong)
      test(name, () => {
        throw new Error(`${what} cannot be had: ${reason}`);
      });
    else
      describe.skip(`${name} (needs ${what}: ${reason})`, () => {
        test("skipped", () => {});
      });
    return;
  }
  describe(name, () => body(fetched));
}
