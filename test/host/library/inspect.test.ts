// What the library says about labelled texts is what `edgelabel data --json` prints of them.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { inspect, parse } from "../../../host/index.ts";
import { json } from "../../support/program.ts";

test("inspect() finds what the command finds, at the numbers of the texts", async () => {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-inspect-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "texts.tsv");
  const lines = ["on\tLamp on!", "on\tlamp on", "off\tlamp on", "Off\tlamp off", "off\t…", `on\t${"a ".repeat(300)}`];
  const bytes = Buffer.from(`${lines.join("\n")}\n`);
  writeFileSync(file, bytes);
  const report = await inspect(parse(bytes, "texts.tsv"));
  expect(JSON.parse(JSON.stringify(report).replaceAll('"file":""', `"file":${JSON.stringify(file)}`))).toEqual(
    await json("data", file),
  );
  expect([report.conflicts.texts, report.similar_labels, report.long.texts.length]).toEqual([2, [["Off", "off"]], 1]);
  await expect(inspect([{ text: "", label: "on" }])).rejects.toThrow("texts: number 1: the text is empty");
});
