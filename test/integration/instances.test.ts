// How many instances of the modules a command starts: one trainer for a training, and engines only to measure with.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { LAMPS, main } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-instances-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

writeFileSync(at("data.tsv"), `${LAMPS.join("\n")}\n`);
writeFileSync(at("valid.tsv"), `${LAMPS.slice(0, 12).join("\n")}\n`);
// Loaded before the program: counts what it instantiates, and says so at its end.
writeFileSync(
  at("count.mjs"),
  `const counts = { trainer: 0, engine: 0 };
  const instantiate = WebAssembly.instantiate;
  WebAssembly.instantiate = async (...args) => {
    const result = await instantiate(...args);
    const { exports } = result.instance ?? result;
    // Node has a module of its own.
    if ("abiVersion" in exports) counts["beginModel" in exports ? "trainer" : "engine"]++;
    return result;
  };
  process.on("exit", () => process.stderr.write(JSON.stringify(counts)));`,
);

function instances(...args: string[]): unknown {
  const { status, stderr } = spawnSync(process.execPath, ["--import", at("count.mjs"), main, ...args], {
    encoding: "utf8",
  });
  expect(status).toBe(0);
  return JSON.parse(stderr.slice(stderr.lastIndexOf("{")));
}

const small = ["--epochs", "1", "--seed", "1"];

// One engine more than models that are measured: the one from which the others are compiled.
test("train compares two forms, and calibrates where it has trained", () => {
  expect(instances("train", at("data.tsv"), "--valid", at("valid.tsv"), "-o", at("x.wasm"), ...small)).toEqual({
    trainer: 1,
    engine: 3,
  });
});

test("train needs no engine when nothing is measured", () => {
  expect(instances("train", at("data.tsv"), "-o", at("x.elb"), ...small)).toEqual({ trainer: 1, engine: 0 });
  expect(instances("train", at("data.tsv"), "-o", at("y.elb"), "--resume", at("x.elb"))).toEqual({
    trainer: 1,
    engine: 0,
  });
});
