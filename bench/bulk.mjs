// Texts a second of `edgelabel predict MODEL < FILE` and of fastText's command `fasttext predict MODEL FILE`, on the same
// file and one core, from the start of the program to its last line: medians of alternating runs. Without --fasttext the
// peer is left out; its program is what `c++ -O3 -march=native -pthread src/*.cc` makes of the sources of its pip package.
//   node bench/bulk.mjs [set] [--fasttext PROGRAM] [--data ../shared/data] [--copies 300] [--runs 5]
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { edgelabel, main } from "./program.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    fasttext: { type: "string" },
    data: { type: "string", default: "../shared/data" },
    copies: { type: "string", default: "300" },
    runs: { type: "string", default: "5" },
  },
});
const [set = "snips"] = positionals;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-bulk-"));
const [texts, table, output] = ["texts.txt", "texts.tsv", "output"].map((name) => join(folder, name));

const read = (name) =>
  readFileSync(join(values.data, set, name), "utf8")
    .trimEnd()
    .split("\n");
const lines = read("test.tsv").map((line) => line.slice(line.indexOf("\t") + 1));
const copies = Number(values.copies);
const count = lines.length * copies;

/** Runs a program on the texts; returns the seconds that it took. */
function seconds([program, ...args], input) {
  const files = [openSync(input ?? "/dev/null"), openSync(output, "w")];
  const start = performance.now();
  const { status, stderr } = spawnSync(program, args, { stdio: [...files, "pipe"] });
  const time = (performance.now() - start) / 1000;
  files.forEach((file) => closeSync(file));
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
  return time;
}

const contenders = [];
try {
  const block = `${lines.join("\n")}\n`;
  writeFileSync(texts, block.repeat(copies));
  writeFileSync(table, `text\n${block.repeat(copies)}`);
  for (const recipe of ["linear", "default"]) {
    const model = join(folder, `${recipe}.wasm`);
    const options = recipe === "default" ? [] : ["--recipe", recipe];
    edgelabel("train", join(values.data, set, "train.tsv"), "-o", model, ...options);
    const command = [process.execPath, main, "predict", model];
    contenders.push({ name: `\`predict M < FILE\`, recipe ${recipe}`, command, input: texts });
    if (recipe === "linear")
      contenders.push({
        name: `\`predict M --in FILE.tsv\`, recipe ${recipe}`,
        command: [...command, "--in", table],
        header: 1,
      });
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
      contenders.push({
        name: `\`fasttext predict\`, ${name}, 100 units`,
        command: [values.fasttext, "predict", `${model}.bin`, texts],
      });
    }
  }
  for (let run = 0; run < Number(values.runs); run++) {
    for (const each of contenders) {
      (each.times ??= []).push(seconds(each.command, each.input));
      const written = readFileSync(output, "latin1").split("\n").length - 1 - (each.header ?? 0);
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
