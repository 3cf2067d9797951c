// Versions of files: they change together, and the replaced ones come back.
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { finishChange, previousPath, replaceFiles, restoreFiles } from "../../../host/files/versions.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-versions-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

test("versions go and come back together, byte for byte", async () => {
  const paths = [at("a.elb"), at("a.wasm")];
  expect(paths.map(previousPath)).toEqual([at("a.previous.elb"), at("a.previous.wasm")]);
  const content = (): string[] => paths.map((path) => readFileSync(path, "utf8"));
  const write = (version: string): Promise<void> =>
    replaceFiles(paths.map((path) => ({ path, bytes: Buffer.from(version) })));
  await write("one");
  await expect(restoreFiles(paths)).rejects.toThrow("there is nothing to undo");
  await write("two");
  await write("three");
  expect(await restoreFiles(paths)).toEqual(paths);
  expect(content()).toEqual(["two", "two"]);
  await expect(restoreFiles(paths)).rejects.toThrow("there is nothing to undo");
  // A crash between the two renames: the rest is made up for.
  await write("four");
  await restoreFiles([paths[0]!]);
  expect(content()).toEqual(["two", "four"]);
  expect(await restoreFiles(paths)).toEqual([paths[1]]);
  expect(content()).toEqual(["two", "two"]);
});

test("what a crash has left is finished if the change was decided, and removed if not", async () => {
  const paths = [at("b.elb"), at("b.wasm")];
  for (const path of paths) writeFileSync(path, "old");
  for (const name of ["b.elb", "b.previous.elb"]) writeFileSync(at(`.${name}.next`), "half");
  writeFileSync(at("..b.elb.plan.next"), "[[");
  expect(await finishChange(paths)).toEqual([]);
  expect(readdirSync(folder).filter((name) => name.includes("b."))).toEqual(["b.elb", "b.wasm"]);
  // As edgelabel 0.1 wrote it: names from the folder of the plan.
  for (const name of ["b.elb", "b.wasm"]) writeFileSync(at(`.${name}.next`), "new");
  writeFileSync(
    at(".b.elb.plan"),
    JSON.stringify([".b.elb", ".b.wasm"].map((name) => [`${name}.next`, name.slice(1)])),
  );
  expect(await finishChange(paths)).toEqual(paths);
  expect(paths.map((path) => readFileSync(path, "utf8"))).toEqual(["new", "new"]);
  expect(readdirSync(folder).filter((name) => name.includes("b."))).toEqual(["b.elb", "b.wasm"]);
});

test("all are written or none, and the error names the one that cannot be", async () => {
  writeFileSync(at("c.elb"), "old");
  const [good, bad] = [at("c.elb"), at("none/c.wasm")];
  const write = (paths: string[]): Promise<void> =>
    replaceFiles(paths.map((path) => ({ path, bytes: Buffer.from("new") })));
  await expect(write([good, bad])).rejects.toThrow(
    `${bad}: cannot be written (no folder ${at("none")}); the model stays as it was`,
  );
  expect([readFileSync(good, "utf8"), readdirSync(folder).filter((name) => name.includes("c."))]).toEqual([
    "old",
    ["c.elb"],
  ]);
});

test("a file's first version has none before it, even if another file of its name once had", async () => {
  writeFileSync(at("d.previous.elb"), "another's");
  await replaceFiles([{ path: at("d.elb"), bytes: Buffer.from("first") }]);
  await expect(restoreFiles([at("d.elb")])).rejects.toThrow(`there is nothing to undo: no ${at("d.previous.elb")}`);
});

test("a new version has the rights of the old one", async () => {
  writeFileSync(at("e.elb"), "old");
  chmodSync(at("e.elb"), 0o640);
  await replaceFiles([{ path: at("e.elb"), bytes: Buffer.from("new") }]);
  expect(["e.elb", "e.previous.elb"].map((name) => statSync(at(name)).mode & 0o777)).toEqual([0o640, 0o640]);
});
