// Texts a second of `edgelabel predict MODEL < FILE` and of fastText's command `fasttext predict MODEL FILE`, on the same
// file, on one core and on two, from the start of the program to its last line: medians of alternating runs. Without
// --fasttext the peer is left out; its program is what `c++ -O3 -march=native -pthread src/*.cc` makes of the sources of
// its pip package. It uses one core; for two, two of it run at once, each on half of the file.
//   node bench/bulk.mjs [set] [--recipe NAME or NAME=TRAINED.wasm ...] [--fasttext PROGRAM] [--data ../shared/data]
//     [--copies 300] [--runs 5]
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { edgelabel, main } from "./program.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    recipe: { type: "string", multiple: true, default: ["linear", "default"] },
    fasttext: { type: "string" },
    data: { type: "string", default: "../shared/data" },
    copies: { type: "string", default: "300" },
    runs: { type: "string", default: "5" },
  },
});
const [set = "snips"] = positionals;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-bulk-"));
const [texts, table, output, ...halves] = ["texts.txt", "texts.tsv", "output", "half1.txt", "half2.txt"].map((name) =>
  join(folder, name),
);

const read = (name) =>
  readFileSync(join(values.data, set, name), "utf8")
    .trimEnd()
    .split("\n");
const lines = read("test.tsv").map((line) => line.slice(line.indexOf("\t") + 1));
const copies = 2 * Math.ceil(Number(values.copies) / 2);
const count = lines.length * copies;

/** Runs commands at once, each with its input; returns the seconds until the last one ends, and the lines of all. */
async function measure(commands) {
  const outputs = commands.map((_, i) => `${output}${i}`);
  const start = performance.now();
  await Promise.all(
    commands.map(async ({ command: [program, ...args], input }, i) => {
      const files = [openSync(input ?? "/dev/null"), openSync(outputs[i], "w")];
      const [status] = await once(spawn(program, args, { stdio: [...files, "ignore"] }), "exit");
      files.forEach((file) => closeSync(file));
      if (status !== 0) throw new Error(`${program} ${args.join(" ")}: exit ${status}`);
    }),
  );
  const seconds = (performance.now() - start) / 1000;
  const lines = outputs.map((name) => readFileSync(name, "latin1").split("\n").length - 1);
  return { seconds, lines: lines.reduce((sum, each) => sum + each) };
}

const contenders = [];
try {
  const block = `${lines.join("\n")}\n`;
  writeFileSync(texts, block.repeat(copies));
  halves.forEach((name) => writeFileSync(name, block.repeat(copies / 2)));
  writeFileSync(table, `text\n${block.repeat(copies)}`);
  for (const [recipe, trained] of values.recipe.map((each) => each.split("="))) {
    const model = trained ?? join(folder, `${recipe}.wasm`);
    const options = recipe === "default" ? [] : ["--recipe", recipe];
    if (!trained) edgelabel("train", join(values.data, set, "train.tsv"), "-o", model, ...options);
    const command = [process.execPath, main, "predict", model];
    for (const [suffix, more] of [
      ["", []],
      [" --workers 2", ["--workers", "2"]],
    ]) {
      contenders.push({
        name: `\`predict M${suffix} < FILE\`, recipe ${recipe}`,
        commands: [{ command: [...command, ...more], input: texts }],
      });
      if (recipe === "linear")
        contenders.push({
          name: `\`predict M${suffix} --in FILE.tsv\`, recipe ${recipe}`,
          commands: [{ command: [...command, ...more, "--in", table] }],
          header: 1,
        });
    }
  }
  if (values.fasttext !== undefined) {
    const labelled = join(folder, "train.txt");
    writeFileSync(
      labelled,
      read("train.tsv")
        .map((line) => `__label__${line.replace("\t", " ")}\n`)
        .join(""),
    );
    for (const [name, options] of [
      ["words", []],
      ["words and pairs", ["-wordNgrams", "2", "-bucket", "16384"]],
    ]) {
      const model = join(folder, `ft-${options.length}`);
      execFileSync(
        values.fasttext,
        ["supervised", "-input", labelled, "-output", model, "-epoch", "25", "-thread", "1", ...options],
        { stdio: "ignore" },
      );
      const command = (file) => ({ command: [values.fasttext, "predict", `${model}.bin`, file] });
      contenders.push(
        { name: `\`fasttext predict\`, ${name}, 100 units`, commands: [command(texts)] },
        { name: `two of it, each on half of the file, ${name}`, commands: halves.map(command) },
      );
    }
  }
  for (let run = 0; run < Number(values.runs); run++) {
    for (const each of contenders) {
      const { seconds, lines } = await measure(each.commands);
      (each.times ??= []).push(seconds);
      const written = lines - (each.header ?? 0);
      if (written !== count) throw new Error(`${each.name}: ${written} lines for ${count} texts`);
    }
  }
  process.stdout.write(`${count} texts\n\n| | seconds | texts a second |\n|---|--:|--:|\n`);
  for (const { name, times } of contenders) {
    const median = times.toSorted((a, b) => a - b)[times.length >> 1];
    process.stdout.write(`| ${name} | ${median.toFixed(2)} | ${Math.round(count / median).toLocaleString("en")} |\n`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
