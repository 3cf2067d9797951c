// The examples of docs/api.md, run in order in one folder as a user would, with the package found by its name.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import * as library from "../../host/index.ts";
import { LAMPS } from "../support/program.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const page = readFileSync(join(root, "docs/api.md"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "edgelabel-api-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("docs/api.md: its examples run, and print what they should", () => {
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules/edgelabel"));
  writeFileSync(join(folder, "texts.tsv"), LAMPS.join(""));
  const examples = Array.from(page.matchAll(/<!-- run -->\n```js\n([\s\S]*?)```/g), ([, code]) => code!);
  const printed = examples.map((code, i) => {
    writeFileSync(join(folder, `${i}.mjs`), code);
    const { status, stdout, stderr } = spawnSync(process.execPath, [`${i}.mjs`], { cwd: folder, encoding: "utf8" });
    expect([status, stderr]).toEqual([0, ""]);
    return stdout;
  });
  expect(printed).toEqual([
    expect.stringMatching(/^[01] \[ 'off', 'on' \]\n$/),
    expect.stringMatching(/^on true \[ 'off', 'on' \]\n\{\n {2}label: [\s\S]*explanation: \{[\s\S]*\non\noff\n$/),
    expect.stringMatching(/^int8(-weights)? [\d.]+ true\n.+ true\n$/),
    expect.stringMatching(
      /^unreadable: no-such\.wasm: no such file.*\ninvalid: the data has no.*\nbad_setting: .*learningRate.*\n$/,
    ),
  ]);
});

test("docs/api.md names every function of the library", () => {
  for (const name of Object.keys(library)) expect(page).toContain(`\`${name}`);
});
