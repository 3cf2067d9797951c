// The cost of edgelabel: time against tokens, units and vocabulary, and memory.
//   node -e 'import("./bench/curves.mjs").then(async ({ curves }) => console.log(await curves()))'
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { randomIds, randomModel, testingWith, textOf } from "./models.mjs";

/** A minGRU takes so little time that one run could not be told from the clock's own. */
const RUNS = 10;

/** Median µs of the forward pass of random texts. */
async function forwardTime(shape, form) {
  const wasm = testingWith((await randomModel(shape)).write(form));
  const texts = randomIds(shape, 200).map((ids) => Buffer.from(textOf(ids)));
  const text = wasm.allocate(65536);
  const times = [];
  for (let round = 0; round < 6; round++) {
    for (const bytes of texts) {
      new Uint8Array(wasm.memory.buffer, text, bytes.length).set(bytes);
      wasm.readIds(text, bytes.length);
      const before = performance.now();
      for (let i = 0; i < RUNS; i++) wasm.runIds();
      const time = performance.now() - before;
      if (round > 1) times.push((time * 1000) / RUNS);
    }
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}

const BASE = { name: "curve", rows: 1000, width: 64, units: 64, outputs: 7, activation: "softmax", steps: 16 };
const CURVES = [
  ["tokens", "steps", [8, 16, 32, 64, 128]],
  ["units", "units", [16, 32, 64, 128, 256, 512]],
  ["words", "rows", [300, 1000, 3000, 10000, 30000, 100000]],
];

/** All curves as Markdown, one table each. */
export async function curves() {
  const parts = [];
  for (const [what, key, points] of CURVES) {
    const rows = {};
    for (const point of points) {
      for (const cell of ["lstm", "mingru"]) {
        for (const form of ["int8", "f32"]) {
          const time = await forwardTime({ ...BASE, cell, [key]: point }, form);
          (rows[`${cell === "lstm" ? "LSTM" : "minGRU"}, ${form}`] ??= []).push(time.toFixed(time < 1 ? 2 : 1));
        }
      }
    }
    parts.push(
      [
        `| ${what} | ${points.join(" | ")} |`,
        `|---|${points.map(() => "--:").join("|")}|`,
        ...Object.entries(rows).map(([form, row]) => `| ${form} | ${row.join(" | ")} |`),
      ].join("\n"),
    );
  }
  return `### cost against tokens, units and words\n\nµs of the forward pass in node; else ${BASE.steps} tokens, ${BASE.units} units, ${BASE.rows} words, embedding ${BASE.width}.\n\n${parts.join("\n\n")}`;
}

/** Sizes of files, and memory after 100,000 classifications in a process of its own, as Markdown. */
export async function memory(sizes, folder) {
  const rows = sizes.map(([name, bytes]) => [name, `${(bytes / 1024).toFixed(1)} KiB`]);
  const snips = sizes.find(([name]) => name === "snips.wasm") ? `${folder}/snips.wasm` : `${folder}/large.wasm`;
  const { stdout, status, stderr } = spawnSync(
    process.execPath,
    ["--expose-gc", fileURLToPath(new URL("memory.mjs", import.meta.url)), snips],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`memory.mjs: ${stderr}`);
  rows.push(...JSON.parse(stdout));
  return `### memory\n\n${["| | |", "|---|--:|", ...rows.map((row) => `| ${row.join(" | ")} |`)].join("\n")}`;
}
