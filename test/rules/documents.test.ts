// The documents: what they link to exists, and the plot shows the figures of bench/README.md.
// test/integration/readme.test.ts runs the README's example.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const documents = ["", "assembly", "bench", "deploy", "docs", "examples", "host/demo", "integrations/node-red"].flatMap(
  (folder) =>
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
    const links = [...read(document).matchAll(/\]\(([^)\s]+)\)|src="([^"]+)"/g)].map(
      ([, link, source]) => link ?? source!,
    );
    const missing = links
      .filter((link) => !/^https?:/.test(link))
      .filter((link) => {
        const [path, anchor] = link.split("#");
        const target = path ? join(dirname(document), path) : document;
        if (!existsSync(join(root, target))) return true;
        return (
          anchor !== undefined &&
          ![...read(target).matchAll(/^#+ (.*)$/gm)].some(([, heading]) => anchorOf(heading!) === anchor)
        );
      });
    expect(missing).toEqual([]);
  });
});

test("the plot shows the tables of bench/README.md", () => {
  const before = read("docs/numbers.svg");
  expect(execFileSync(process.execPath, [join(root, "docs/pictures.mjs"), "numbers", "-"], { encoding: "utf8" })).toBe(
    before,
  );
});
