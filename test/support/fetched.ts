// Tests that run on a program which a script of test/tools/ fetches. Without it they skip, loudly; under CI=true they fail.
import { describe, test } from "vitest";

/** A `describe` whose body gets what `fetch` returns. */
export function describeFetched<T>(name: string, what: string, fetch: () => T, body: (fetched: T) => void): void {
  let fetched: T;
  try {
    fetched = fetch();
  } catch (error) {
    const said = (error as { stderr?: Buffer }).stderr?.toString() || (error as Error).message;
    const reason = `${what} cannot be had: ${said}`;
    process.stderr.write(`\n*** ${name}: ${reason}\n`);
    if (process.env["CI"] === "true")
      test(name, () => {
        throw new Error(reason);
      });
    else
      describe.skip(`${name} (${reason})`, () => {
        test("skipped", () => {});
      });
    return;
  }
  describe(name, () => body(fetched));
}
