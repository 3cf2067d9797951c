// The tutorial that the project starts from, typed as a user would: three texts, Tokenizer
// (num_words=100), pad_sequences(maxlen=10), Embedding(100, 64), LSTM(64), Dense(1, sigmoid),
// Adam, 10 epochs; saved, loaded, served, and answered by POST /predict.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { main, serve } from "../support/program.ts";

const TEXTS = [
  ["1", "I love machine learning"],
  ["1", "AI is amazing"],
  ["0", "Deep learning is cool"],
] as const;

test("train, save, serve, predict", async () => {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-tutorial-"));
  const edgelabel = (...args: string[]) =>
    execFileSync(process.execPath, [main, ...args], { cwd: folder, encoding: "utf8" });
  try {
    writeFileSync(join(folder, "texts.tsv"), TEXTS.map((line) => `${line.join("\t")}\n`).join(""));
    const report = JSON.parse(edgelabel("train", "texts.tsv", "-o", "tutorial.elb", "--recipe", "tutorial", "--json"));
    expect(report.train.loss).toBeLessThan(0.6931); // that of a coin
    const { layers, tokenizer } = JSON.parse(edgelabel("info", "tutorial.elb", "--json"));
    expect(layers).toEqual([
      { kind: "embedding", input: 100, output: 64 },
      { kind: "lstm", input: 64, output: 64 },
      { kind: "dense", input: 64, output: 1, activation: "sigmoid" },
    ]);
    expect(tokenizer).toMatchObject({ sequence_length: 10, padding: "pre", words: 9, split_scripts: false });
    edgelabel("pack", "tutorial.elb", "-o", "tutorial.wasm");

    const service = await serve(["tutorial.wasm", "--port", "0", "--http", "0", "--node", "tutorial"], { cwd: folder });
    for (const [, text] of TEXTS) {
      const response = await fetch(`${service.http}/predict`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ data: text }),
      });
      expect(response.status).toBe(200);
      const { label } = JSON.parse(edgelabel("predict", "tutorial.elb", text, "--json"));
      expect(await response.json()).toEqual({ label: Number(label) });
    }
    expect((await service.end()).code).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
