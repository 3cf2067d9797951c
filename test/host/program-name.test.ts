// The commands that help and messages name work where they are read: from a checkout, from an
// installed package, and from the PATH.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
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
  expect(programName("/home/me/app/node_modules/.bin/edgelabel", path)).toBe("npx edgelabel");
  expect(programName(join(process.cwd(), "build/host/main.js"), path)).toBe(`node ${join("build", "host", "main.js")}`);
  expect(programName("/opt/edgelabel/build/host/main.js", path)).toBe("node /opt/edgelabel/build/host/main.js");
  expect(programName("/opt/my tools/main.js", path)).toBe('node "/opt/my tools/main.js"');
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

test("a packed and installed package runs the demo, and says how to go on", () => {
  execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], { cwd: root });
  const modules = join(folder, "node_modules");
  mkdirSync(join(modules, "edgelabel"), { recursive: true });
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"))!;
  execFileSync("tar", ["-xzf", join(folder, archive), "-C", join(modules, "edgelabel"), "--strip-components=1"]);
  // As npm installs it, with the checkout's dependencies instead of a registry's.
  for (const name of readdirSync(join(root, "node_modules")))
    if (!name.startsWith(".")) symlinkSync(join(root, "node_modules", name), join(modules, name));
  mkdirSync(join(modules, ".bin"));
  const { bin } = JSON.parse(readFileSync(join(modules, "edgelabel", "package.json"), "utf8")) as {
    bin: { edgelabel: string };
  };
  symlinkSync(join("..", "edgelabel", bin.edgelabel), join(modules, ".bin", "edgelabel"));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(modules, ".bin", "edgelabel"), "demo", "--once", "--port", "0"],
    { cwd: folder, encoding: "utf8" },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining("edgelabel:") });
  expect(stdout).toContain(
    "\n$ npx edgelabel train node_modules/edgelabel/build/demo/messages.tsv -o node_modules/edgelabel/build/demo.wasm\n",
  );
  expect(stdout).toContain("\n  npx edgelabel ask 'a text' --broker mqtt://127.0.0.1:");
  expect(
    stdout.match(/^\$ npx edgelabel ask .*\n(?:lights|climate|music|alarm|fault|weather)\t0\.\d{6}$/gm),
  ).toHaveLength(8);
}, 300_000);
