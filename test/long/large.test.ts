// A file that is larger than V8's longest string, and that memory would not hold twice, is trained on.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { MOST } from "../../host/data/dataset.ts";
import { edgelabel, main } from "../support/program.ts";
import { size } from "./size.ts";

const BLOCK_LINES = 1000;
const WORDS = 8;
/** What is not read makes the file large. */
const PADDING = "x".repeat(1000);

test(
  "a large file is trained on in little memory, in lines but not as an array",
  { timeout: size(1_800_000, 300_000) },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "edgelabel-large-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, "data.jsonl");
    const lineOf = (i: number): string =>
    JSON.stringify({ text: Array.from({ length: WORDS }, (_, w) => `word${(i * 31 + w * w) % 997}`).join(" "), label: i % 2 ? "on" : "off", note: PADDING }); // prettier-ignore
    const block = `${Array.from({ length: BLOCK_LINES }, (_, i) => lineOf(i)).join("\n")}\n`;
    const blocks = size(Math.ceil((1.1 * MOST.bytes) / block.length), 5);
    const file = openSync(path, "w");
    for (let i = 0; i < blocks; i++) writeSync(file, block);
    closeSync(file);
    expect(statSync(path).size).toBeGreaterThan(size(MOST.bytes, 1_000_000));

    const child = spawn(process.execPath, [
      main,
      "train",
      path,
      "-o",
      join(folder, "m.wasm"),
      "--recipe",
      "linear",
      "--json",
    ]);
    let peak = 0;
    const timer = setInterval(() => {
      const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8")) ?? [];
      peak = Math.max(peak, Number(kilobytes ?? 0) / 1024);
    }, 50);
    let printed = "";
    let complaint = "";
    child.stdout.on("data", (part) => (printed += String(part)));
    child.stderr.on("data", (part) => (complaint += String(part)));
    const [code] = (await once(child, "close")) as [number];
    clearInterval(timer);
    expect(complaint).toBe("");
    expect(code).toBe(0);
    expect(JSON.parse(printed)).toMatchObject({ texts: blocks * BLOCK_LINES, labels: 2 });
    if (process.platform === "linux") expect(peak).toBeLessThan(size(1800, 1000));
    const { stdout } = await edgelabel(["predict", join(folder, "m.wasm"), JSON.parse(lineOf(1)).text as string]);
    expect(stdout).toMatch(/^o(n|ff)\t/);

    if (size(1, 0) === 0) return;
    const array = join(folder, "data.json");
    const objects = block.trimEnd().replaceAll("\n", ",\n");
    const other = openSync(array, "w");
    for (let i = 0; i < blocks; i++) writeSync(other, (i === 0 ? "[" : ",") + objects);
    writeSync(other, "]");
    closeSync(other);
    const refused = await edgelabel(["train", array, "-o", join(folder, "n.wasm"), "--recipe", "linear"]);
    expect(refused.stderr).toContain(
      "a JSON array of more than 512 MB; give one object a line instead, as jq -c '.[]' writes it",
    );
  },
);
