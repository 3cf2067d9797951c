// The README's example, typed as a reader would: it prints what the README shows, but for the time.
// When a change of the recipe or the engine changes it, `npm run docs:pictures` draws the terminal anew.
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const main = join(root, "build/host/main.js");

test("train and predict", { timeout: 120_000 }, () => {
  const session = /```console\n(\$ edgelabel train [\s\S]*?)```/.exec(
    readFileSync(join(root, "README.md"), "utf8"),
  )![1]!;
  const steps = session.split(/^\$ /m).slice(1);
  expect(steps.length).toBeGreaterThan(1);
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-readme-"));
  try {
    cpSync(join(root, "host/demo"), join(folder, "host/demo"), { recursive: true });
    for (const step of steps) {
      const [command] = step.split("\n", 1);
      const printed = execFileSync("sh", ["-c", command!.replace("edgelabel", `"${process.execPath}" "${main}"`)], {
        cwd: folder,
        encoding: "utf8",
      });
      expect(`${command}\n${printed}`.replace(/in [\d.]+ s$/m, "")).toBe(step.replace(/in [\d.]+ s$/m, ""));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
