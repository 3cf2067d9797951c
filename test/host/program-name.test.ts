// The commands that help and messages name work where they are read: in a checkout, in a folder with the
// package, and from the PATH. test/integration/package.test.ts tries them there.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { asTyped, programName } from "../../host/program-name.ts";
import { edgelabel } from "../support/program.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-name-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("it is what starts the program again", () => {
  const path = ["/usr/bin", "/usr/local/bin"].join(delimiter);
  expect(programName("/usr/local/bin/edgelabel", path)).toBe("edgelabel");
  expect(programName("/opt/tools/edgelabel", path)).toBe("node /opt/tools/edgelabel");
  expect(programName(join(process.cwd(), "bin/edgelabel.js"), path)).toBe(`node ${join("bin", "edgelabel.js")}`);
  expect(programName("/opt/edgelabel/build/host/main.js", path)).toBe("node /opt/edgelabel/build/host/main.js");
  expect(programName("/opt/my tools/main.js", path)).toBe('node "/opt/my tools/main.js"');
});

test("of a package in a folder it is npx, in that folder and below", () => {
  const script = "/home/me/app/node_modules/.bin/edgelabel";
  expect(programName(script, "", "/home/me/app")).toBe("npx edgelabel");
  // As npm run and npx do it.
  expect(programName(script, "/home/me/app/node_modules/.bin", "/home/me/app/data")).toBe("npx edgelabel");
  expect(programName(script, "", "/home/me")).toBe("node app/node_modules/.bin/edgelabel");
  expect(programName(script, "", "/srv")).toBe(`node ${script}`);
});

test("of what npx has fetched it is npx with what it was told to fetch", () => {
  const cache = join(folder, "_npx/0123");
  mkdirSync(cache, { recursive: true });
  const named = (asked: string, cwd: string) => {
    writeFileSync(join(cache, "package.json"), JSON.stringify({ _npx: { packages: [asked] } }));
    return programName(join(cache, "node_modules/.bin/edgelabel"), join(cache, "node_modules/.bin"), cwd);
  };
  expect(named("edgelabel", "/srv")).toBe("npx edgelabel");
  expect(named("./edgelabel-0.1.0.tgz", "/srv")).toBe("npx -p ./edgelabel-0.1.0.tgz edgelabel");
  expect(named("/home/me/my tools", "/srv")).toBe('npx -p "/home/me/my tools" edgelabel');
  // In a checkout.
  expect(named(root, root)).toBe("npx edgelabel");
  expect(named(root, join(root, "docs"))).toBe("npx edgelabel");
});

test("every command is named so, and nothing else", async () => {
  const { stdout } = await edgelabel(["--help"]);
  const commands = [...stdout.matchAll(/^  ([a-z]+) .*$/gm)].map(([, name]) => name!).filter((name) => name !== "help");
  expect(commands).toContain("sign");
  for (const name of commands) expect(asTyped(`run edgelabel ${name}: x`)).toBe(`run ${programName()} ${name}: x`);
  for (const text of [
    "edgelabel: no",
    "every edgelabel model",
    "an edgelabel trainer",
    "my-edgelabel-train",
    "edgelabels train",
  ])
    expect(asTyped(text)).toBe(text);
});
