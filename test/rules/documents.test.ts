// The documents: what they link to exists, the README's example prints what it shows, and its
// pictures show the figures of bench/README.md.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const main = join(root, "build/host/main.js");
const documents = ["", "assembly", "bench", "deploy", "docs", "host/demo"].flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name)),
);
const read = (path: string) => readFileSync(join(root, path), "utf8");
/** GitHub's anchor of a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

describe("links", () => {
  test.each(documents)("%s", (document) => {
    const links = [...read(document).matchAll(/\]\(([^)\s]+)\)|src="([^"]+)"/g)].map(([, link, source]) => link ?? source!);
    const missing = links
      .filter((link) => !/^https?:/.test(link))
      .filter((link) => {
        const [path, anchor] = link.split("#");
        const target = path ? join(dirname(document), path) : document;
        if (!existsSync(join(root, target))) return true;
        return anchor !== undefined && ![...read(target).matchAll(/^#+ (.*)$/gm)].some(([, heading]) => anchorOf(heading!) === anchor);
      });
    expect(missing).toEqual([]);
  });
});

test("the README's example prints what it shows, but for the time", { timeout: 120_000 }, () => {
  const session = /```console\n(\$ npm run build\n[\s\S]*?)```/.exec(read("README.md"))![1]!;
  const [, ...steps] = session.split(/^\$ /m).slice(1);
  expect(steps.length).toBeGreaterThan(1);
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-readme-"));
  try {
    cpSync(join(root, "host/demo"), join(folder, "host/demo"), { recursive: true });
    for (const step of steps) {
      const [command] = step.split("\n", 1);
      const printed = execFileSync("sh", ["-c", command!.replace("npx edgelabel", `"${process.execPath}" "${main}"`)], { cwd: folder, encoding: "utf8" });
      expect(`${command}\n${printed}`.replace(/in [\d.]+ s$/m, "")).toBe(step.replace(/in [\d.]+ s$/m, ""));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the plot shows the tables of bench/README.md", () => {
  const before = read("docs/numbers.svg");
  expect(execFileSync(process.execPath, [join(root, "docs/pictures.mjs"), "numbers", "-"], { encoding: "utf8" })).toBe(before);
});
