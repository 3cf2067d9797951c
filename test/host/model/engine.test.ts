// What the host makes of a trap: a named error with the model's file in it, never a stack.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { smallestModel } from "../../support/models.ts";
import { main } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-engine-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(async () => {
  writeFileSync(at("m.elb"), await smallestModel());
  writeFileSync(at("data.tsv"), "no\tlo\nyes\thi\n".repeat(8));
});

/** In place of an export of our modules, a function that traps. */
const preload = (name: string): string =>
  `data:text/javascript,${encodeURIComponent(`
  const { instantiate } = WebAssembly;
  const { ${name} } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, ${name.length + 4}, 1, ${name.length}, ${[...Buffer.from(name)].join()}, 0, 0, 10, 5, 1, 3, 0, 0, 0x0b,
  ]))).exports;
  WebAssembly.instantiate = async (...args) => {
    const made = await instantiate(...args);
    const { exports } = made.instance ?? made;
    if (!exports.${name}) return made;
    const instance = { exports: { ...exports, ${name} } };
    return made.instance ? { module: made.module, instance } : instance;
  };
`)}`;

test.each<[string, string, string[]]>([
  ["classify", "m.elb", ["predict", at("m.elb"), "hi"]],
  ["explainNext", "m.elb", ["explain", at("m.elb"), "hi"]],
  ["loadModel", "m.elb", ["info", at("m.elb")]],
  ["renderCard", "m.elb", ["info", at("m.elb")]],
  ["writeFile", "m.elb", ["quantize", at("m.elb"), "-o", at("n.elb")]],
  [
    "trainBatch",
    "o.elb",
    ["train", at("data.tsv"), "-o", at("o.elb"), "--epochs", "1", "--set", "units=4", "--set", "embedding-dim=4"],
  ],
])(
  "a trap in %s names the model, and shows no stack",
  async (name, model, args) => {
    const { code, stderr } = (await promisify(execFile)(process.execPath, [
      "--import",
      preload(name),
      main,
      ...args,
    ]).catch((error: { code: number; stderr: string }) => error)) as { code?: number; stderr: string };
    const last = stderr
      .trimEnd()
      .split(/[\r\n]/)
      .at(-1);
    expect(code, stderr).toBe(1);
    expect(last).toMatch(/^edgelabel: .*: the engine crashed \(unreachable\); no model should cause that: /);
    if (model === "m.elb") expect(last).toContain(`${at(model)}: `);
    expect(stderr).not.toMatch(/\n {4}at |unexpected failure/);
  },
  60_000,
);
