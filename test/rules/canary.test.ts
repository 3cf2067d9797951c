// A test that cannot fail is no test: with one value changed, what the goldens are compared
// by must say so, and the runner must end with a failure.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Classifier } from "../../host/model/classifier.ts";
import { EdgelabelError } from "../../host/errors.ts";
import { compareGolden, importGolden, openFile, type GoldenCase } from "../support/golden.ts";
import { partAt, read, repair, write } from "../support/model-file.ts";
import { smallestModel } from "../support/models.ts";
import { describeShared, readSharedJsonLines } from "../support/shared.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

test("one changed weight is refused, or changes the scores", async () => {
  const bytes = await smallestModel();
  const good = (await Classifier.fromBytes(bytes, "good")).classify("hi", 0);
  const changed = bytes.slice();
  changed[changed.length - 29]! ^= 0x01;
  await expect(Classifier.fromBytes(changed, "changed")).rejects.toThrow(EdgelabelError);
  expect((await Classifier.fromBytes(repair(changed), "changed")).classify("hi", 0)).not.toEqual(good);
  expect((await Classifier.fromBytes(bytes, "again")).classify("hi", 0)).toEqual(good);
});

describeShared("the goldens' comparator", () => {
  const cases = readSharedJsonLines<GoldenCase>("golden", "model-seed", "cases.jsonl").slice(0, 20);
  const changed = (change: (each: GoldenCase) => void): GoldenCase[] => {
    const copy = structuredClone(cases);
    change(copy[7]!);
    return copy;
  };
  test("tells one changed score, id, score too many or case", async () => {
    const wasm = openFile(await importGolden("model-seed"));
    const good = compareGolden(wasm, cases);
    expect(good.worst).toBeLessThan(1e-5);
    expect(good.wrongIds).toEqual([]);
    expect(
      compareGolden(
        wasm,
        changed((each) => {
          each.scores[0]! += 2e-5;
        }),
      ).worst,
    ).toBeGreaterThan(1e-5);
    expect(
      compareGolden(
        wasm,
        changed((each) => {
          each.scores.push(0, 0);
        }),
      ).worst,
    ).toBe(Infinity);
    expect(
      compareGolden(
        wasm,
        changed((each) => {
          each.ids[9]!++;
        }),
      ).wrongIds,
    ).toEqual([cases[7]!.text]);
    expect(
      compareGolden(
        wasm,
        changed((each) => {
          each.ids.reverse()[0] = 1;
        }),
      ).wrongIds,
    ).toEqual([cases[7]!.text]);
    expect(
      compareGolden(
        wasm,
        changed((each) => {
          each.text += " machine learning";
        }),
      ).worst,
    ).toBeGreaterThan(1e-5);
  });
  test("tells one changed weight", async () => {
    const file = await importGolden("model-seed");
    const { offset } = partAt(file, "weights");
    // The row of padding, which every one of these texts has.
    write(file, offset, "f32", read(file, offset, "f32") + 0.5);
    expect(compareGolden(openFile(repair(file)), cases).worst).toBeGreaterThan(1e-5);
  });
});

test.each([
  ["expect(1).toBe(2)", 1, "0 passed, 1 failed, 0 skipped"],
  ["expect(1).toBe(1)", 0, "1 passed, 0 failed, 0 skipped"],
])("the runner tells: %s", (line, code, totals) => {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-canary-"));
  try {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    mkdirSync(join(folder, "test/rules"), { recursive: true });
    writeFileSync(
      join(folder, "test/rules/canary.test.ts"),
      `import { expect, test } from "vitest";\ntest("canary", () => { ${line}; });\n`,
    );
    const vitest = [
      "node_modules/vitest/vitest.mjs",
      "run",
      "--root",
      folder,
      "--config",
      join(root, "vitest.config.ts"),
      "--reporter",
      join(root, "test/support/reporter.ts"),
    ];
    const { status, stdout } = spawnSync(process.execPath, vitest, { cwd: root, encoding: "utf8" });
    expect(stdout.trim().split("\n").at(-1)).toBe(totals);
    expect(status).toBe(code);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
