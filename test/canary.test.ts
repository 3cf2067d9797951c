// A test that cannot fail is no test: with one value changed, what the goldens are compared
// by must say so, and the runner must end with a failure.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Classifier } from "../host/classifier.ts";
import { UserError } from "../host/errors.ts";
import { smallestModel } from "./models.ts";

const root = fileURLToPath(new URL("../", import.meta.url));

test("one changed weight changes the scores", async () => {
  const bytes = await smallestModel();
  const good = (await Classifier.fromBytes(bytes, "good")).classify("hi", 0);
  const changed = bytes.slice();
  changed[changed.length - 32]! ^= 0x40;
  await expect(Classifier.fromBytes(changed, "changed")).rejects.toThrow(UserError);
  const again = (await Classifier.fromBytes(bytes, "again")).classify("hi", 0);
  expect(again).toEqual(good);
});

test.each([["expect(1).toBe(2)", 1, "0 passed, 1 failed, 0 skipped"], ["expect(1).toBe(1)", 0, "1 passed, 0 failed, 0 skipped"]])(
  "the runner tells: %s", (line, code, totals) => {
    const folder = mkdtempSync(join(root, "build", "canary-"));
    try {
      mkdirSync(join(folder, "test"));
      writeFileSync(join(folder, "test/canary.test.ts"), `import { expect, test } from "vitest";\ntest("canary", () => { ${line}; });\n`);
      const vitest = ["node_modules/vitest/vitest.mjs", "run", "--root", folder, "--config", join(root, "vitest.config.ts"), "--reporter", join(root, "test/reporter.ts")];
      const { status, stdout } = spawnSync(process.execPath, vitest, { cwd: root, encoding: "utf8" });
      expect(stdout.trim().split("\n").at(-1)).toBe(totals);
      expect(status).toBe(code);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
