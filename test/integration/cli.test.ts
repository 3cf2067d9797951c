// The commands as a user runs them: build/host/main.js as a process, files in and out,
// exit codes. Expected scores are those that Keras gave; see test/host/keras/make.py.
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
// @ts-ignore: as built, so that its workers and modules are found.
import { run } from "../../build/host/main.js";
import { edgelabel, json, LAMPS, main, type Outcome, SMALL, typed } from "../support/program.ts";
import { describeShared, readSharedJson, readSharedJsonLines, sharedPath } from "../support/shared.ts";
import { until } from "../support/wait.ts";

const fixtures = fileURLToPath(new URL("../host/keras/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-cli-"));
const at = (name: string): string => join(folder, name);

afterAll(() => rmSync(folder, { recursive: true }));

describe("the program", () => {
  test("explains itself, and each command with an example", async () => {
    const commandsIn = ({ stdout }: Outcome) => [...stdout.matchAll(/^  ([a-z]+) .*$/gm)].map(([, name]) => name!);
    const top = await edgelabel(["--help"]);
    expect(top.code).toBe(0);
    expect(commandsIn(top)).toEqual([
      ...["data", "train", "learn", "calibrate", "eval", "predict", "explain", "quantize", "prune", "pack", "import"],
      ...["export", "serve", "ask", "info", "demo", "playground", "models", "sign", "keygen", "help"],
    ]);
    expect(top.stdout).toContain("\nnode build/host/main.js COMMAND --help shows");
    const models = await edgelabel(["models", "--help"]);
    expect(commandsIn(models)).toEqual(["list", "install", "activate", "rollback", "remove", "send", "help"]);
    const calls = [
      ...commandsIn(top)
        .filter((name) => name !== "models" && name !== "help")
        .map((name) => [name]),
      ...["install", "send"].map((name) => ["models", name]),
    ];
    for (const call of calls) {
      const { code, stdout, stderr } = await edgelabel([...call, "--help"]);
      expect({ call, code, stderr }).toEqual({ call, code: 0, stderr: "" });
      expect(stdout, call.join(" ")).toContain(`Usage: node build/host/main.js ${call.join(" ")} `);
      expect(stdout, call.join(" ")).toMatch(
        new RegExp(`\\nExamples?:\\n(?:  .*\\n)*?  node build/host/main\\.js ${call.join(" ")}\\b`),
      );
      // Every command in a help text is one that works here.
      expect(stdout, call.join(" ")).not.toMatch(/\bedgelabel (?!model\b)[a-z[]/);
    }
  });
  test("says which hold-out is not worse, as learn decides it", async () => {
    const { stdout } = await edgelabel(["learn", "--help"]);
    expect(stdout.replace(/\s+/g, " ")).toContain(
      "Not worse means: the accuracy as deployed is not lower and, where it is the same, the loss is at most 1 % higher.",
    );
  });
  test("tells its version", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect((await edgelabel(["--version"])).stdout).toBe(`${version}\n`);
  });
  const wasm = ["train", "x.tsv", "-o", "x.wasm"];
  const overwrites = "error: -o would overwrite the model's f32 weights; choose another name\n";
  test.concurrent.each<[string[], string]>([
    [["trane"], "error: unknown command 'trane'\n(Did you mean one of prune, train?)\n"],
    [["predict"], "error: missing required argument 'model'\n"],
    [["train", "x.tsv"], "error: required option '-o, --output <file>' not specified\n"],
    [
      ["train", "x.tsv", "-o", "x.bin"],
      "error: option '-o, --output <file>' argument 'x.bin' is invalid. its name must end in .wasm (deployable) or .elb (model only).\n",
    ],
    [
      [...wasm, "--epochs", "0"],
      "error: option '--epochs <n>' argument '0' is invalid. it takes a whole number from 1 to 100000.\n",
    ],
    [[...wasm, "--stop-after", "1"], "error: --stop-after needs an .elb to keep the rest of the run in; change -o\n"],
    [
      ["train", "x.tsv", "-o", "x.elb", "--resume", "y.elb", "--epochs", "3"],
      "error: option '--resume <file>' cannot be used with option '--epochs <n>'\n",
    ],
    [
      [...wasm, "--format", "xml"],
      "error: option '--format <name>' argument 'xml' is invalid. Allowed choices are tsv, csv, jsonl, fasttext.\n",
    ],
    [
      ["predict", "x.wasm", "--top", "0"],
      "error: option '--top <n>' argument '0' is invalid. it takes a whole number from 1 to 9999.\n",
    ],
    [["predict", "x.wasm", "--nope"], "error: unknown option '--nope'\n(Did you mean --top?)\n"],
    [
      ["quantize", "x.elb", "-o", "y.elb", "--min-agreement", "0.9"],
      "error: --min-agreement needs texts to compare on; give them with --data\n",
    ],
    [
      ["quantize", "x.elb", "-o", "y.elb", "--min-agreement", "2"],
      "error: option '--min-agreement <share>' argument '2' is invalid. it takes a number from 0 to 1.\n",
    ],
    [["import", "m.keras", "-o", "m.elb"], "error: required option '--tokenizer <file>' not specified\n"],
    [["info", "a", "b"], "error: too many arguments for 'info'. Expected 1 argument but got 2.\n"],
    [["quantize", "x.elb", "-o", "./x.elb"], overwrites],
    [["prune", "x.elb", "x.tsv", "--valid", "x.tsv", "--units", "4", "-o", "x.elb"], overwrites],
    [
      [...wasm, "--name", "a\nb"],
      "error: option '--name <name>' argument 'a\nb' is invalid. it takes no control characters.\n",
    ],
    [
      [...wasm, "--model-version", ""],
      "error: option '--model-version <text>' argument '' is invalid. it takes 1 to 4096 bytes of text.\n",
    ],
    [
      ["import", "m.keras", "--tokenizer", "t.json", "--labels", "l.json", "-o", "m.elb", "--name", "a\tb"],
      "error: option '--name <name>' argument 'a\tb' is invalid. it takes no control characters.\n",
    ],
    [["models", "list"], "error: missing required argument 'folder'\n"],
    [["models", "install", "r", "u", "--nope"], "error: unknown option '--nope'\n(Did you mean --name?)\n"],
    [["models", "nope"], "error: unknown command 'nope'\n"],
  ])("ends with 2 on misuse, and says what is wrong: %j", async (args, message) => {
    const { code, stdout, stderr } = await edgelabel(args);
    expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: "", stderr: message });
  });
  test("ends with 2 and its help on standard error when no command is given", async () => {
    const { stdout } = await edgelabel(["--help"]);
    expect(await edgelabel([])).toMatchObject({ code: 2, stdout: "", stderr: stdout });
  });
  const noModel = `${fixtures}make.py: it is not an edgelabel model`;
  test.concurrent.each<[string[], string]>([
    [["predict", "none.wasm", "x"], `none.wasm: no such file; make a model with: ${typed} train DATA -o none.wasm`],
    [["eval", `${fixtures}make.py`, "x.tsv"], noModel],
    [["train", "none.tsv", "-o", "x.wasm"], "none.tsv: no such file"],
    [["info", fixtures], `${fixtures}: is a directory, not a file`],
    [["pack", `${fixtures}make.py`, "-o", "x.wasm"], noModel],
  ])("ends with 1 and one line on failure: %j", async (args, message) => {
    const { code, stdout, stderr } = await edgelabel(args);
    expect({ code, stdout, stderr }).toEqual({ code: 1, stdout: "", stderr: `edgelabel: ${message}\n` });
  });
});

describe("the recipe goes by the texts, and says so", () => {
  const names = Array.from(
    { length: 120 },
    (_, i) => `${i % 2}\t${i % 2 ? "q" : "e"}${i.toString(36)}x${i * 7919}\n`,
  ).join("");
  const few = ["--epochs", "1", "--set", "units=4", "--set", "embedding-dim=4", "--set", "min-agreement=0"];

  test("names are read letter by letter, unless words are asked for", async () => {
    writeFileSync(at("names.tsv"), names);
    const { stderr } = await edgelabel(["train", at("names.tsv"), "-o", at("names.wasm"), ...few]);
    expect(stderr).toContain(
      "nearly every text has a word that no other text has, so texts are read letter by letter (char-level=false: word by word)\n",
    );
    expect((await json("info", at("names.wasm"))).tokenizer).toMatchObject({ char_level: true, ngram_buckets: 0 });
    const words = await edgelabel([
      "train",
      at("names.tsv"),
      "-o",
      at("words.wasm"),
      "--set",
      "char-level=false",
      ...few,
    ]);
    expect(words.stderr).not.toContain("letter");
    expect((await json("info", at("words.wasm"))).tokenizer).toMatchObject({ char_level: false, ngram_buckets: 4096 });
  });

  test.each([
    ["last", []],
    ["first", ["--set", "truncating=post"]],
  ])("the %s tokens of long texts count", async (end, options) => {
    writeFileSync(at("long.tsv"), LAMPS.join(""));
    const { stderr } = await edgelabel([
      "train",
      at("long.tsv"),
      "-o",
      at("long.wasm"),
      "--set",
      "maxlen=2",
      ...options,
      ...few,
    ]);
    expect(stderr).toMatch(
      new RegExp(
        `\\d+ of ${LAMPS.length} texts have more than 2 tokens, of which only the ${end} 2 count; a higher maxlen reads more, and takes longer\n`,
      ),
    );
    expect((await edgelabel(["train", at("long.tsv"), "-o", at("long.wasm"), ...few])).stderr).not.toContain("maxlen");
  });

  test("texts without a token are counted", async () => {
    writeFileSync(at("dots.tsv"), `${LAMPS.join("")}on\t...\noff\t?!\n`);
    const { stderr } = await edgelabel(["train", at("dots.tsv"), "-o", at("dots.wasm"), ...few]);
    expect(stderr).toContain(
      `2 of ${LAMPS.length + 2} texts have no tokens, so nothing is learnt from them; ${typed} data lists them\n`,
    );
    writeFileSync(at("spoken.tsv"), LAMPS.join(""));
    expect((await edgelabel(["train", at("spoken.tsv"), "-o", at("spoken.wasm"), ...few])).stderr).not.toContain(
      "no tokens",
    );
  });

  test("a vocabulary is cut to its most frequent words", async () => {
    writeFileSync(at("lamps.tsv"), LAMPS.join(""));
    await json("train", at("lamps.tsv"), "-o", at("cut.wasm"), "--set", "num-words=4", ...few);
    expect((await json("info", at("cut.wasm"))).tokenizer.words).toBe(3);
  });
});

describe("from texts to a deployable", () => {
  beforeAll(async () => {
    writeFileSync(at("data.tsv"), LAMPS.join(""));
    const trained = await json(
      "train",
      at("data.tsv"),
      "-o",
      at("light.wasm"),
      "--seed",
      "3",
      "--valid",
      at("data.tsv"),
      "--set",
      "calibrate=false",
      "--set",
      "min-agreement=0.9",
      ...SMALL,
    );
    expect(trained).toMatchObject({
      file: at("light.wasm"),
      labels: 2,
      texts: LAMPS.length,
      epochs_left: 0,
      form: "int8",
    });
    expect(trained.bytes).toBe(readFileSync(at("light.wasm")).length);
    expect(trained.agreement.n).toBe(LAMPS.length);
    expect(trained.agreement.top1).toBeGreaterThanOrEqual(0.9);
    await json("train", at("data.tsv"), "-o", at("light.elb"), "--seed", "3", ...SMALL);
  });

  test("train --tune takes the best settings, and says how to train with them again", async () => {
    const args = ["train", at("data.tsv"), "-o", at("tuned.wasm"), "--epochs", "2", "--set", "embedding-dim=8"];
    const { tuned } = await json(...(args as [string]), "--tune", "2");
    expect(tuned.chosen.what).toBe("the recipe as it is");
    const { code, stdout, stderr } = await edgelabel([
      ...args,
      "--tune",
      "2",
      "--max-size",
      String(tuned.trials[0].bytes - 1),
      "--chart",
      at("tuned.svg"),
    ]);
    expect([code, stdout.split("\n")[0]]).toEqual([
      0,
      `2 trials, each on ${LAMPS.length} texts that it was not trained on:`,
    ]);
    expect(stderr).toMatch(/%  the recipe as it is\n[^]*%  half the network/);
    expect(readFileSync(at("tuned.svg"), "utf8")).toContain("size of the model, KB");
    const first = readFileSync(at("tuned.wasm"));
    const again = /the same without trials: .*? train (.*)\n/.exec(stdout)![1]!.split(" ");
    expect(again).not.toContain("--tune");
    // What was given is not changed by the trial, half the network.
    expect(again.filter((word) => /^(?:units|embedding-dim)=/.test(word))).toEqual(["embedding-dim=8", "units=32"]);
    rmSync(at("tuned.wasm"));
    expect((await edgelabel(["train", ...again])).code).toBe(0);
    expect(readFileSync(at("tuned.wasm")).equals(first)).toBe(true);
  });

  test.each([
    [["--tune", "soon"], "it takes a time such as 90s, 5m or 1h, or a number of trials such as 12."],
    [["--tune", "2", "--max-size", "big"], "it takes a size such as 500K or 1M, or a number of bytes."],
    [["--max-us", "5"], "--max-size and --max-us choose among the trials of --tune; add --tune 5m"],
  ])("train %j: misuse", async (args, problem) => {
    const { code, stderr } = await edgelabel(["train", at("data.tsv"), "-o", at("no.wasm"), ...args]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(problem)]);
  });

  test("the model has learnt, and eval says so in the contract's fields", async () => {
    const figures = await json("eval", at("light.wasm"), at("data.tsv"));
    expect(figures).toMatchObject({ n: LAMPS.length, labels: ["off", "on"], unknown_labels: [] });
    expect(figures.accuracy).toBeGreaterThan(0.9);
    expect(figures.macro_f1).toBeGreaterThan(0.9);
    expect(Object.keys(figures.per_class)).toEqual(["off", "on"]);
    expect(figures.confusion.flat().reduce((a: number, b: number) => a + b)).toBe(LAMPS.length);
    const table = await edgelabel(["eval", at("light.wasm"), at("data.tsv")]);
    expect(table.stdout).toContain(figures.accuracy.toFixed(4));
    const [least, most] = figures.accuracy_interval.map((share: number) => (100 * share).toFixed(1));
    expect(table.stdout).toContain(
      `with 95 % confidence, ${least} % to ${most} % of all such texts are labelled right`,
    );
  });

  test("the same data in CSV, JSONL, fastText and on stdin gives the same figures", async () => {
    const rows = LAMPS.map((line) => line.trimEnd().split("\t") as [string, string]);
    writeFileSync(at("data.csv"), `class,message\r\n${rows.map(([label, text]) => `${label},"${text}"\r\n`).join("")}`);
    writeFileSync(at("data.jsonl"), rows.map(([label, text]) => `${JSON.stringify({ text, label })}\n`).join(""));
    writeFileSync(at("data.ft"), rows.map(([label, text]) => `__label__${label} ${text}\n`).join(""));
    const expected = await json("eval", at("light.wasm"), at("data.tsv"));
    expect(
      await json("eval", at("light.wasm"), at("data.csv"), "--text-column", "message", "--label-column", "class"),
    ).toEqual(expected);
    expect(await json("eval", at("light.wasm"), at("data.jsonl"))).toEqual(expected);
    expect(await json("eval", at("light.wasm"), at("data.ft"))).toEqual(expected);
    const piped = await edgelabel(["eval", at("light.wasm"), "-", "--format", "tsv", "--json"], LAMPS.join(""));
    expect(JSON.parse(piped.stdout)).toEqual(expected);
  });

  test("a label that the model lacks is warned of and counts as wrong", async () => {
    const { code, stdout, stderr } = await edgelabel(
      ["eval", at("light.wasm"), "-", "--format", "tsv", "--json"],
      `${LAMPS[0]}dim\tdim the hall\n`,
    );
    expect(code).toBe(0);
    expect(stderr).toBe('edgelabel: warning: the model does not know "dim"; their texts count as wrong\n');
    expect(JSON.parse(stdout)).toMatchObject({ n: 2, labels: ["off", "on", "dim"], unknown_labels: ["dim"] });
  });

  test("a malformed line stops a command and is named", async () => {
    const { code, stderr } = await edgelabel(["eval", at("light.wasm"), "-", "--format", "tsv"], "on\tx\nno tab\n");
    expect(code).toBe(1);
    expect(stderr).toBe("edgelabel: standard input: line 2: no tab between label and text\n");
  });

  test("the same seed gives the same file, another seed another one", async () => {
    await json("train", at("data.tsv"), "-o", at("again.elb"), "--seed", "3", "--name", "light", ...SMALL);
    await json("train", at("data.tsv"), "-o", at("other.elb"), "--seed", "4", "--name", "light", ...SMALL);
    expect(readFileSync(at("again.elb")).equals(readFileSync(at("light.elb")))).toBe(true);
    expect(readFileSync(at("other.elb")).equals(readFileSync(at("light.elb")))).toBe(false);
  });

  test("a run that is stopped and resumed gives the bits of one that is not", async () => {
    const part = await json(
      "train",
      at("data.tsv"),
      "-o",
      at("part.elb"),
      "--seed",
      "3",
      "--name",
      "light",
      "--stop-after",
      "3",
      ...SMALL,
    );
    expect(part.epochs_left).toBe(5);
    await json("train", at("data.tsv"), "-o", at("whole.elb"), "--resume", at("part.elb"));
    expect(readFileSync(at("whole.elb")).equals(readFileSync(at("light.elb")))).toBe(true);
    const other = await edgelabel([
      "train",
      at("data.csv"),
      "--text-column",
      "message",
      "--label-column",
      "class",
      at("data.tsv"),
      "-o",
      at("x.elb"),
      "--resume",
      at("part.elb"),
    ]);
    expect(other.code).toBe(1);
    const deployable = await edgelabel(["train", at("data.tsv"), "-o", at("x.elb"), "--resume", at("light.wasm")]);
    expect(deployable.code).toBe(1);
    expect(deployable.stderr).toContain("training, quantizing and packing start from an f32 .elb file");
  });

  test("Ctrl-C ends a run that can be resumed after its epoch, and the rest gives the same bits", async () => {
    const settings = [
      "--seed",
      "3",
      "--name",
      "light",
      "--set",
      "embedding-dim=16",
      "--set",
      "units=8",
      "--epochs",
      "300",
    ];
    await json("train", at("data.tsv"), "-o", at("long.elb"), ...settings);
    const others = process.listenerCount("SIGINT");
    const running = run(["train", at("data.tsv"), "-o", at("cut.elb"), "--json", ...settings]);
    await until(() => process.listenerCount("SIGINT") > others);
    process.emit("SIGINT");
    expect(await running).toBe(1);
    expect(process.listenerCount("SIGINT")).toBe(others);
    const { stdout } = await edgelabel([
      "train",
      at("data.tsv"),
      "-o",
      at("cut2.elb"),
      "--resume",
      at("cut.elb"),
      "--stop-after",
      "1",
    ]);
    expect(stdout).toMatch(/\n\d+ epochs are left; continue with the same data and --resume .*cut2\.elb\n/);
    await json("train", at("data.tsv"), "-o", at("rest.elb"), "--resume", at("cut2.elb"));
    expect(readFileSync(at("rest.elb")).equals(readFileSync(at("long.elb")))).toBe(true);
  });

  test("what cannot be written is said before the work, or without a stack", async () => {
    mkdirSync(at("folder.wasm"));
    expect(await edgelabel(["train", at("data.tsv"), "-o", at("folder.wasm")])).toMatchObject({
      code: 1,
      stderr: `edgelabel: ${at("folder.wasm")}: is a directory, not a file\n`,
    });
    expect(await edgelabel(["train", at("data.tsv"), "-o", at("data.tsv/x.wasm")])).toMatchObject({
      code: 1,
      stderr: `edgelabel: ${at("data.tsv/x.wasm")}: cannot be written (no folder ${at("data.tsv")})\n`,
    });
    if (!existsSync("/dev/full")) return;
    const { status, stderr } = spawnSync(process.execPath, [main, "data", at("data.tsv")], {
      stdio: ["ignore", openSync("/dev/full", "w"), "pipe"],
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([
      1,
      "edgelabel: standard output cannot be written (ENOSPC: no space left on device, write)\n",
    ]);
  });

  test("validation texts that are learnt too are counted", async () => {
    writeFileSync(at("seen.tsv"), [...LAMPS.slice(0, 3), "on\tno such text\n"].join(""));
    const small = [
      "-o",
      at("seen.elb"),
      "--set",
      "calibrate=false",
      "--epochs",
      "1",
      "--set",
      "units=4",
      "--set",
      "embedding-dim=4",
    ];
    const seen = await edgelabel(["train", at("data.tsv"), "--valid", at("seen.tsv"), ...small]);
    expect(seen).toMatchObject({
      code: 0,
      stderr: `edgelabel: 3 of 4 texts of the validation data are in the training data too, so the figures are better than for new texts; keep them apart (${typed} data DATA --valid FILE lists them)\n`,
    });
    writeFileSync(at("seen.tsv"), "on\tno such text\n");
    expect(await edgelabel(["train", at("data.tsv"), "--valid", at("seen.tsv"), ...small])).toMatchObject({
      code: 0,
      stderr: "",
    });
  });

  test("validation texts with a label of their own are named by their line", async () => {
    writeFileSync(at("dim.tsv"), "on\tlight\ndim\thalf\n");
    const { code, stderr } = await edgelabel(["train", at("data.tsv"), "--valid", at("dim.tsv"), "-o", at("x.wasm")]);
    expect([code, stderr]).toEqual([
      1,
      'edgelabel: the validation texts have the label "dim" (first in line 2), which does not occur in the training data; remove its lines or train with it\n',
    ]);
  });

  test("quantize makes the bytes that train packs, and reports agreement", async () => {
    const report = await json(
      "quantize",
      at("light.elb"),
      "-o",
      at("light8.wasm"),
      "--data",
      at("data.tsv"),
      "--min-agreement",
      "0.9",
    );
    expect(report).toMatchObject({ form: "int8", agreement: { n: LAMPS.length } });
    expect(report.agreement.top1).toBeGreaterThanOrEqual(0.9);
    expect(report.tensors[0]).toMatchObject({ name: "embedding/embeddings", bits: 8 });
    expect(report.tensors.at(-1)).toMatchObject({ name: "dense/bias", shape: [2], bits: 32 });
    expect(readFileSync(at("light8.wasm")).equals(readFileSync(at("light.wasm")))).toBe(true);
    const { stdout: table } = await edgelabel(["quantize", at("light.elb"), "-o", at("light8.elb")]);
    expect(table).toMatch(
      /\nlstm\/backward\/recurrent_kernel +8 x 32 +8 +\S+ … \S+ +\S+ +[\d.]+ dB +1\.0 KB +0\.4 KB\n/,
    );
    const blind = await json("quantize", at("light.elb"), "-o", at("light8.elb"));
    expect(blind.agreement).toBeNull();
    await json("pack", at("light8.elb"), "-o", at("packed.wasm"));
    expect(readFileSync(at("packed.wasm")).equals(readFileSync(at("light.wasm")))).toBe(true);
    await json("pack", at("packed.wasm"), "-o", at("unpacked.elb"));
    expect(readFileSync(at("unpacked.elb")).equals(readFileSync(at("light8.elb")))).toBe(true);
  });

  test("quantize and prune do not write over their model through a linked folder", async () => {
    symlinkSync(folder, at("linked"));
    for (const command of [
      ["quantize", at("light.elb")],
      ["prune", at("light.elb"), at("data.tsv"), "--valid", at("data.tsv"), "--units", "4"],
    ]) {
      const { code, stderr } = await edgelabel([...command, "-o", at("linked/light.elb")]);
      expect([code, stderr]).toEqual([2, "error: -o would overwrite the model's f32 weights; choose another name\n"]);
    }
  });

  test("what is deployed has no state to resume training", async () => {
    await json(
      "train",
      at("data.tsv"),
      "-o",
      at("f32.wasm"),
      "--seed",
      "3",
      "--name",
      "light",
      "--no-quantize",
      ...SMALL,
    );
    await json("pack", at("light.elb"), "-o", at("packed.wasm"));
    expect(readFileSync(at("packed.wasm")).equals(readFileSync(at("f32.wasm")))).toBe(true);
    const { temperature } = await json("calibrate", at("light.elb"), at("data.tsv"), "-o", at("calibrated.wasm"));
    const card = await json("info", at("calibrated.wasm"));
    expect(card).toMatchObject({ form: "f32", resumable: false });
    expect(card.temperature).toBeCloseTo(temperature, 5);
  });

  test("where int8 agrees too little, only the weights become int8", async () => {
    // Texts of unknown words score near the middle, where rounding decides.
    const texts = Array.from({ length: 400 }, (_, i) => `on\tzq${(i * 7919) % 1009}x vj${i}\n`);
    writeFileSync(at("odd.tsv"), texts.join(""));
    const report = await json(
      "quantize",
      at("light.elb"),
      "-o",
      at("odd.wasm"),
      "--data",
      at("odd.tsv"),
      "--min-agreement",
      "0",
    );
    expect(report.form).toBe("int8");
    expect(report.agreement.largest_difference).toBeGreaterThan(0);
    const forced = await json("quantize", at("light.elb"), "-o", at("weights.wasm"), "--weight-only");
    expect(forced.form).toBe("int8-weights");
    expect((await json("info", at("weights.wasm"))).form).toBe("int8-weights");
  });

  test("an int8 model cannot be quantized again", async () => {
    const { code, stderr } = await edgelabel(["quantize", at("light.wasm"), "-o", at("x.elb")]);
    expect(code).toBe(1);
    expect(stderr).toContain("start from an f32 .elb file");
  });

  test("info tells what the file holds", async () => {
    expect(await json("info", at("light.wasm"))).toMatchObject({
      name: "light",
      version: "1",
      form: "int8",
      labels: ["off", "on"],
    });
    expect(await json("info", at("light.elb"))).toMatchObject({ form: "f32", resumable: true });
    expect((await edgelabel(["info", at("light.wasm")])).stdout).toMatch(/^labels {2}2: off, on$/m);
  });

  test("the squared error is learnt without smoothing", async () => {
    const { train } = await json(
      "train",
      at("data.tsv"),
      "-o",
      at("squared.elb"),
      "--set",
      "loss=mean_squared_error",
      ...SMALL,
    );
    expect(train.loss).toBeLessThan(0.25); // that of a coin
  });

  test("batches that are too large say so, and only those: room is made for the longest text", async () => {
    const large = ["--set", "batch-size=4096", "--set", "units=256", "--epochs", "1"];
    writeFileSync(at("long-lines.tsv"), LAMPS.map((line) => `${line.trimEnd()}${" on".repeat(300)}\n`).join(""));
    const { code, stderr } = await edgelabel(["train", at("long-lines.tsv"), "-o", at("x.wasm"), ...large]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /edgelabel: batches of 4096 of these texts do not fit in WebAssembly memory; set a smaller batch-size, maxlen, units or embedding-dim\n$/,
      ),
    ]);
    expect(
      (await edgelabel(["train", at("data.tsv"), "-o", at("x.wasm"), "--set", "batch-size=4096", "--epochs", "1"]))
        .code,
    ).toBe(0);
  });
  test("a demo that cannot serve fails", async () => {
    const { code, stderr } = await edgelabel(["demo", "--once", "--port", "99999"]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/a port is a number from 0 to 65535\.\nedgelabel: that command ended with exit code 2\n$/),
    ]);
  });

  test("more labels than a model can have are said to be so many", async () => {
    writeFileSync(at("swapped.tsv"), Array.from({ length: 1025 }, (_, i) => `text ${i}\ton\n`).join(""));
    const { code, stderr } = await edgelabel(["train", at("swapped.tsv"), "-o", at("x.wasm")]);
    expect([code, stderr]).toEqual([
      1,
      'edgelabel: the data has 1025 labels, such as "text 0"; a model tells at most 1024 apart. Are label and text the wrong way round?\n',
    ]);
  });

  test("writing is whole or not at all", async () => {
    const { code, stderr } = await edgelabel(["pack", at("light.elb"), "-o", at("missing/light.wasm")]);
    expect(code).toBe(1);
    expect(stderr).toContain(`cannot be written (no folder ${at("missing")})`);
    const early = await edgelabel(["train", at("data.tsv"), "-o", at("missing/light.wasm"), "--epochs", "100000"]);
    expect(early.stderr).toBe(stderr);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("a damaged model is named, whatever is cut off", async () => {
    writeFileSync(at("cut.wasm"), readFileSync(at("light.wasm")).subarray(0, -100));
    const { code, stderr } = await edgelabel(["predict", at("cut.wasm"), "x"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^edgelabel: .*cut\.wasm: .*\n$/);
  });

  describe("predict", () => {
    test("gives one line a text, from arguments as from stdin", async () => {
      const texts = ["light the hall", "dark in the cellar", ""];
      const given = await edgelabel(["predict", at("light.wasm"), ...texts]);
      const piped = await edgelabel(["predict", at("light.wasm")], texts.map((text) => `${text}\n`).join(""));
      expect(given.stdout).toBe(piped.stdout);
      expect(given.stdout).toMatch(/^on\t0\.\d{6}\noff\t0\.\d{6}\no(n|ff)\t0\.\d{6}\n$/);
    });
    test("prints JSON with the best labels first", async () => {
      const { stdout } = await edgelabel(["predict", at("light.wasm"), "--json", "light the hall"]);
      const { label, score, scores } = JSON.parse(stdout);
      expect(label).toBe("on");
      expect(Object.entries(scores)).toEqual([
        ["on", score],
        ["off", expect.closeTo(1 - score, 5)],
      ]);
      const best = await edgelabel(["predict", at("light.wasm"), "--json", "--top", "1", "light the hall"]);
      expect(JSON.parse(best.stdout)).toEqual({ label, score, scores: { on: score } });
    });
    test("takes any bytes: invalid UTF-8, NUL, CRLF, no last line end, a line above 1 MiB", async () => {
      const input = Buffer.concat([
        Buffer.from("light\r\n\n\0\n"),
        Buffer.from([0xff, 0xc3, 0x0a]),
        Buffer.alloc(1_200_000, 0x61),
        Buffer.from("\nlast"),
      ]);
      const { code, stdout, stderr } = await edgelabel(["predict", at("light.wasm")], input);
      expect(code).toBe(0);
      expect(stdout.match(/^o(n|ff)\t0\.\d{6}$/gm)).toHaveLength(6);
      expect(stderr).toBe(`edgelabel: a line is longer than ${TEXT_CAPACITY} bytes; its beginning was classified\n`);
      const plain = await edgelabel(["predict", at("light.wasm")], "light\n");
      expect(stdout.split("\n")[0]).toBe(plain.stdout.trimEnd());
    });
    test("drops a byte order mark; names UTF-16, and old Mac line ends", async () => {
      const plain = await edgelabel(["predict", at("light.wasm")], "light the hall\nout\n");
      expect((await edgelabel(["predict", at("light.wasm")], "\ufefflight the hall\r\nout\0")).stdout).toBe(
        plain.stdout,
      );
      const wide = Buffer.from("\ufefflight the hall\nout\n", "utf16le");
      for (const input of [wide, Buffer.from(wide).swap16()]) {
        expect(await edgelabel(["predict", at("light.wasm")], input)).toMatchObject({
          code: 1,
          stdout: "",
          stderr: "edgelabel: standard input: is UTF-16, as some Windows programs write it; save it as UTF-8\n",
        });
      }
      expect(await edgelabel(["predict", at("light.wasm")], "light the hall\rout\r")).toMatchObject({
        code: 1,
        stdout: "",
        stderr: expect.stringContaining("uses \\r as line ends"),
      });
    });
    test("says when a text is the name of a file", async () => {
      const named = await edgelabel(["predict", at("light.wasm"), at("data.tsv")]);
      expect([named.code, named.stdout]).toEqual([0, expect.stringMatching(/^o(n|ff)\t0\.\d{6}\n$/)]);
      expect(named.stderr).toMatch(
        /^edgelabel: ".*" is the name of a file, but was read as a text; to read its lines: /,
      );
      expect(named.stderr.endsWith(`: ${typed} predict MODEL < FILE; to label the rows of a table: --in FILE\n`)).toBe(
        true,
      );
      for (const texts of [[at("data.tsv"), "light"], [folder], ["x".repeat(5000)], [`${at("data.tsv")}/x`]]) {
        expect(await edgelabel(["predict", at("light.wasm"), ...texts])).toMatchObject({ code: 0, stderr: "" });
      }
    });
    test("says when the lines look like labelled texts", async () => {
      const labelled = await edgelabel(["predict", at("light.wasm")], LAMPS.slice(0, 3).join(""));
      expect([labelled.code, labelled.stdout.trim().split("\n").length]).toEqual([0, 3]);
      expect(labelled.stderr).toBe(
        `edgelabel: every line has a tab, as labelled texts do, but was read as one text; to measure a model on labelled texts: ${typed} eval\n`,
      );
      for (const lines of [`${LAMPS[0]}no tab\n`, LAMPS[0]!, ""])
        expect((await edgelabel(["predict", at("light.wasm")], lines)).stderr).toBe("");
    });
    test("answers each line while its input is still open", async () => {
      const child = spawn(process.execPath, [main, "predict", at("light.wasm")]);
      const answer = new Promise<string>((resolve) =>
        child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString())),
      );
      child.stdin.write("light the hall\n");
      expect(await answer).toMatch(/^on\t/);
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.stdin.end();
      expect(await ended).toBe(0);
    });
    test("ends well when its reader goes away", async () => {
      const child = spawn(process.execPath, [main, "predict", at("light.wasm")]);
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.stdin.on("error", () => {});
      child.stdout.once("data", () => child.stdout.destroy());
      const feed = setInterval(() => child.stdin.write("light the hall\n".repeat(1000)), 5);
      expect(await ended).toBe(0);
      clearInterval(feed);
    });
  });
});

describe("import", () => {
  const wordIndex = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`w${i + 1}`, i + 1]));
  beforeAll(() => {
    writeFileSync(
      at("tokenizer.json"),
      JSON.stringify({
        class_name: "Tokenizer",
        config: {
          num_words: null,
          filters: "",
          lower: true,
          split: " ",
          char_level: false,
          oov_token: null,
          word_index: JSON.stringify(wordIndex),
        },
      }),
    );
    writeFileSync(at("two.json"), '["l0","l1"]');
    writeFileSync(at("three.json"), '["l0","l1","l2"]');
  });
  const parts = (labels: string, output: string) => [
    "--tokenizer",
    at("tokenizer.json"),
    "--labels",
    at(labels),
    "-o",
    at(output),
  ];

  describe.each(["keras2.keras", "keras2.h5", "keras3.keras", "keras3.h5"])("%s", (form) => {
    test.each([
      ["stack", "three.json", []],
      ["functional", "two.json", ["--maxlen", "6"]],
      ["pooled", "two.json", []],
    ])("%s gives Keras' scores", async (name, labels, more) => {
      await json("import", `${fixtures}${name}-${form}`, ...parts(labels, "imported.wasm"), ...more);
      const expected = JSON.parse(readFileSync(`${fixtures}${name}-${form.split(".")[0]}.json`, "utf8")) as {
        ids: number[][];
        scores: number[][];
      };
      const texts = expected.ids.map((ids) =>
        ids
          .filter((id) => id > 0)
          .map((id) => `w${id}`)
          .join(" "),
      );
      const { stdout } = await edgelabel(["predict", at("imported.wasm"), "--json", ...texts]);
      const found = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).scores as Record<string, number>);
      expect(found).toHaveLength(expected.scores.length);
      expected.scores.forEach((scores, i) => {
        const both = scores.length === 1 ? [1 - scores[0]!, scores[0]!] : scores;
        both.forEach((score, k) => expect(Math.abs(found[i]![`l${k}`]! - score)).toBeLessThan(1e-5));
      });
    });
  });

  test("says what it leaves out", async () => {
    const { code, stderr } = await edgelabel([
      "import",
      `${fixtures}stack-keras3.keras`,
      ...parts("three.json", "noted.elb"),
    ]);
    expect(code).toBe(0);
    expect(stderr).toBe('edgelabel: note: layer "lstm": dropout is left out; it only matters in training\n');
  });
  test.each([
    [
      "functional-keras3.keras",
      "two.json",
      [],
      "the model leaves the length of its input open; give the maxlen of pad_sequences with --maxlen N",
    ],
    ["pooled-keras3.keras", "two.json", ["--maxlen", "7"], "the model takes 6 tokens, but --maxlen says 7"],
    ["pooled-keras3.keras", "three.json", [], "has 3 names where the model needs 2"],
    ["external-link.h5", "two.json", [], "external links"],
    ["make.py", "two.json", [], "neither a .keras archive nor an HDF5 file"],
  ])("refuses %s with %s %j", async (name, labels, more, message) => {
    const { code, stderr } = await edgelabel(["import", fixtures + name, ...parts(labels, "refused.elb"), ...more]);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
    expect(existsSync(at("refused.elb"))).toBe(false);
  });

  describeShared("the golden models", () => {
    test.each(["seed", "snips", "snips-masked-bidirectional", "massive-zh-char"])(
      "model-%s gives Keras' scores",
      async (name) => {
        const golden = (file: string) => sharedPath("golden", `model-${name}`, file);
        const labels = readSharedJson<string[]>("golden", `model-${name}`, "labels.json");
        const cases = readSharedJsonLines<{ text: string; scores: number[] }>("golden", `model-${name}`, "cases.jsonl");
        for (const form of ["keras", "h5"]) {
          await json(
            "import",
            golden(`model.${form}`),
            "--tokenizer",
            golden("tokenizer.json"),
            "--labels",
            golden("labels.json"),
            "-o",
            at("golden.elb"),
          );
          // As arguments, since some texts hold line ends; NUL cannot be in one.
          const sent = cases.filter(({ text }) => !text.includes("\0"));
          const { stdout } = await edgelabel([
            "predict",
            at("golden.elb"),
            "--json",
            "--",
            ...sent.map(({ text }) => text),
          ]);
          const found = stdout
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line).scores as Record<string, number>);
          expect(found).toHaveLength(sent.length);
          sent.forEach(({ text, scores }, i) => {
            const all = scores.length === 1 ? [1 - scores[0]!, scores[0]!] : scores;
            all.forEach((score, k) => expect(Math.abs(found[i]![labels[k]!]! - score), text).toBeLessThan(1e-5));
          });
        }
      },
    );
  });
});
