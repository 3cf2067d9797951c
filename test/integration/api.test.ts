// The examples of docs/api.md in Node, Deno and Bun, run in order in one folder as a user would, with the package found by
// its name. What they print is the same everywhere but for the runtimes' own way to print objects, and so are the bytes of models.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import * as library from "../../host/index.ts";
import { LAMPS } from "../support/program.ts";
import { bun, deno } from "../tools/fetch-runtimes.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const page = readFileSync(join(root, "docs/api.md"), "utf8");
const examples = Array.from(page.matchAll(/<!-- run -->\s*```js\n([\s\S]*?)```/g), ([, code]) => code!);
const WORKERS = `
  import { writeFile, readFile } from "node:fs/promises";
  import { parse, train } from "edgelabel";
  const texts = parse(await readFile("texts.tsv"), "texts.tsv");
  const trained = await train(texts, { workers: 2, epochs: 2, units: 8, embeddingDim: 8 });
  await writeFile("shared.wasm", await trained.wasm());`;
const folders: string[] = [];
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

const RUNTIMES: Record<string, () => string[]> = {
  Node: () => [process.execPath],
  Deno: () => [deno()[0]!, "run", "--allow-all", "--quiet", "--node-modules-dir=manual"],
  Bun: () => bun().slice(0, 1),
};

const outcomes = new Map<string, { printed: string[]; files: Buffer[] }>();

function run(runtime: string): { printed: string[]; files: Buffer[] } {
  const [program, ...args] = RUNTIMES[runtime]!();
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-api-"));
  folders.push(folder);
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules/edgelabel"));
  writeFileSync(join(folder, "package.json"), "{}");
  writeFileSync(join(folder, "texts.tsv"), LAMPS.join(""));
  const printed = [...examples, WORKERS].map((code, i) => {
    writeFileSync(join(folder, `${i}.mjs`), code);
    const { status, stdout, stderr } = spawnSync(program!, [...args, `${i}.mjs`], { cwd: folder, encoding: "utf8" });
    expect([status, stderr]).toEqual([0, ""]);
    return stdout.replaceAll('"', "'");
  });
  const files = ["lamp.wasm", "lamp.elb", "shared.wasm"].map((name) => readFileSync(join(folder, name)));
  outcomes.set(runtime, { printed, files });
  return { printed, files };
}

describe("the examples of docs/api.md", () => {
  test.each(Object.keys(RUNTIMES))("run in %s, and print what they should", (runtime) => {
    expect(run(runtime).printed).toEqual([
      expect.stringMatching(/^[01] \[ 'off', 'on' \]\n$/),
      expect.stringMatching(/^on true \[ 'off', 'on' \]\n\{\n {2}label: [\s\S]*explanation: \{[\s\S]*\non\noff\n$/),
      expect.stringMatching(/^int8(-weights)? [\d.]+ true\n.+ true\n$/),
      expect.stringMatching(
        /^unreadable: no-such\.wasm: no such file.*\ninvalid: the data .*\nbad_setting: .*learningRate.*\n$/,
      ),
      "",
    ]);
  });

  test("make the same bytes everywhere", () => {
    const { files } = outcomes.get("Node")!;
    for (const [runtime, other] of outcomes)
      files.forEach((file, i) => expect(file.equals(other.files[i]!), `${runtime}, file ${i}`).toBe(true));
    expect(outcomes.size).toBe(3);
  });
});

test("docs/api.md names every function of the library", () => {
  for (const name of Object.keys(library)) expect(page).toContain(`\`${name}`);
});
