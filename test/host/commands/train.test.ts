// The options of `edgelabel train`: --set and --settings, what options that are settings now
// answer, and how much of this --help shows. Nothing here trains.
import { CommanderError } from "commander";
import { describe, expect, test } from "vitest";
import { trainCommand } from "../../../host/commands/train.ts";
import { EdgelabelError } from "../../../host/errors.ts";
import {
  ALL_SETTINGS,
  parseSetting,
  RECIPES,
  SETTINGS,
  typedValue,
  withSettings,
} from "../../../host/training/setting-table.ts";

/** What the command writes, and its exit code where it ends by itself; a command that is accepted fails on its data. */
async function train(...args: string[]): Promise<{ code: number | "accepted"; stdout: string; stderr: string }> {
  let [stdout, stderr] = ["", ""];
  const command = trainCommand()
    .exitOverride()
    .configureOutput({ writeOut: (text) => (stdout += text), writeErr: (text) => (stderr += text) });
  try {
    await command.parseAsync(args, { from: "user" });
    throw new Error("it trained");
  } catch (error) {
    if (error instanceof CommanderError) return { code: error.exitCode, stdout, stderr };
    expect(error).toBeInstanceOf(EdgelabelError);
    expect((error as Error).message).toBe("no-such.tsv: no such file");
    return { code: "accepted", stdout, stderr };
  }
}
const files = ["no-such.tsv", "-o", "no-such.wasm"];

describe("--set", () => {
  test("takes several settings, the last of which counts", async () => {
    expect(await train(...files, "--set", "units=4", "--set", "mask=false", "--set=units=8")).toEqual({
      code: "accepted",
      stdout: "",
      stderr: "",
    });
    const { settings, given } = withSettings(
      RECIPES.default,
      new Map(["units=4", "mask=false", "padding=post", "augment-swap=0.1", "units=8"].map(parseSetting)),
    );
    expect(settings).toEqual({
      ...RECIPES.default,
      units: 8,
      mask: false,
      tokenizer: { ...RECIPES.default.tokenizer, padPost: true },
      augment: { ...RECIPES.default.augment, swap: 0.1 },
    });
    expect([...given]).toEqual(["units", "mask", "tokenizer.padPost", "augment.swap"]);
    expect(RECIPES.default).toMatchObject({ units: 64, mask: true, tokenizer: { padPost: false } });
  });

  test.each([
    ["learning_rate=0.1", 'there is no setting "learning_rate", did you mean learning-rate?'],
    ["Unit=3", 'there is no setting "Unit", did you mean units?'],
    ["batch=16", 'there is no setting "batch", did you mean batch-size?'],
    ["pad-post=true", 'there is no setting "pad-post", did you mean padding?'],
    ["speed-of-light=3", 'there is no setting "speed-of-light"; edgelabel train --settings lists all'],
    ["epochs=3", "epochs is an option of its own: --epochs 3"],
    ["mask", "a setting is written name=value, such as units=32 or mask=false"],
    ["=3", "a setting is written name=value"],
    ["units=0", "units takes a whole number from 1 to 1024"],
    ["units=", "units takes a whole number from 1 to 1024"],
    ["units=1.5", "units takes a whole number from 1 to 1024"],
    ["warmup=1", "warmup takes a number from 0 to below 1"],
    ["warmup= ", "warmup takes a number from 0 to below 1"],
    ["final-rate=1.01", "final-rate takes a number from 0 to 1"],
    ["learning-rate=0", "learning-rate takes a number above 0 and below 1000000"],
    ["learning-rate=1e9", "learning-rate takes a number above 0 and below 1000000"],
    ["weight-decay=-1", "weight-decay takes a number from 0 to below 1000000"],
    ["mask=no", "mask takes true or false"],
    ["padding=true", "padding takes pre or post"],
    ["optimizer=rmsprop", "optimizer takes adam or sgd"],
    ["optimizer=constructor", "optimizer takes adam or sgd"],
    ["schedule=inverse-time", "schedule takes cosine or linear or constant"],
    ["split=", "split takes 1 to 4096 bytes of text"],
    ["clean=urls,html", 'clean takes "all", "none", or some of normalize, markup'],
    ["augment-typo=2", "augment-typo takes a number from 0 to below 1"],
  ])("refuses %s", async (setting, message) => {
    const { code, stdout, stderr } = await train(...files, "--set", setting);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(message);
  });

  test.each([
    [["momentum=0.9"], "momentum needs optimizer=sgd"],
    [["nesterov=true", "optimizer=adam"], "nesterov needs optimizer=sgd"],
    [["final-rate=0.1", "schedule=constant"], "final-rate needs schedule=cosine or schedule=linear"],
    [["loss=mean_squared_error", "label-smoothing=0.1"], "label-smoothing needs a cross-entropy as its loss"],
    [["oov-token=?"], "oov-token needs ngram-buckets=0"],
    [["add-ngrams=true", "ngram-buckets=0"], "add-ngrams needs ngram-buckets above 0"],
    [["split-scripts=true", "char-level=true"], "split-scripts needs char-level=false"],
    [["letter-pairs=true", "split-scripts=false"], "letter-pairs needs split-scripts=true"],
    [["letter-pairs=true", "ngram-buckets=0"], "letter-pairs needs split-scripts=true, ngram-buckets above 0"],
    [["augment-synonym=0.1"], "augment-synonym needs synonyms"],
  ])("%j would have no effect", async (settings, message) => {
    const given = settings.flatMap((setting) => ["--set", setting]);
    const { code, stderr } = await train(...files, ...given);
    expect(code).toBe(1);
    expect(stderr).toContain(`error: ${message}`);
  });

  test.each([
    [["momentum=0.9", "optimizer=sgd"]],
    [["final-rate=0", "schedule=constant"]],
    [["oov-token=?", "ngram-buckets=0"]],
    [["add-ngrams=true", "ngram-buckets=1"]],
    [["filters="]],
    [["clean=none"]],
  ])("%j has", async (settings) => {
    const given = settings.flatMap((setting) => ["--set", setting]);
    expect(await train(...files, ...given)).toEqual({ code: "accepted", stdout: "", stderr: "" });
  });

  test("the recipe linear takes no setting of a network, and tells no figures of one", async () => {
    const linear = [...files, "--recipe", "linear"];
    for (const [name, ...given] of [
      ["units", "--set", "units=3"],
      ["class-weight", "--set", "class-weight=balanced"],
      ["linear", "--set", "linear=false"],
      ["epochs", "--epochs", "3"],
      ["workers", "--workers", "2"],
    ])
      expect((await train(...linear, ...given)).stderr).toBe(
        `error: ${name} is a setting of the network, and the recipe linear trains none\n`,
      );
    expect((await train(...linear, "--set", "clean=urls", "--seed", "2")).code).toBe("accepted");
  });

  test("a resumed run keeps its settings, and may be quantized and calibrated otherwise", async () => {
    const resumed = [...files, "--resume", "no-such.elb"];
    expect((await train(...resumed, "--set", "min-agreement=0", "--set", "units=3")).stderr).toBe(
      "error: units cannot be changed in a resumed run, which keeps the settings that it was started with\n",
    );
    for (const [option, value] of [
      ["--seed", "1"],
      ["--epochs", "3"],
      ["--workers", "1"],
      ["--recipe", "tutorial"],
    ])
      expect((await train(...resumed, option!, value!)).stderr).toContain("'--resume <file>' cannot be used with");
    expect(await train(...resumed, "--set", "min-agreement=0.9", "--set", "calibrate=false")).toMatchObject({
      code: "accepted",
    });
  });

  test("the recipe's cleaning is added to, or left out with all other", () => {
    const cleaning = (setting: string) =>
      withSettings(RECIPES.default, new Map([parseSetting(setting)])).settings.tokenizer.cleaning;
    expect(cleaning("clean=urls")).toEqual(["normalize", "urls", "compose", "punctuation"]);
    expect(cleaning("clean=none")).toEqual([]);
  });
});

describe("--settings", () => {
  test("lists every setting with its default, within 100 columns", async () => {
    const { code, stdout, stderr } = await train("--settings");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const [group, settings] of SETTINGS) {
      expect(stdout).toContain(`\n${group}:\n`);
      for (const { name } of settings) expect(stdout).toMatch(new RegExp(`^  ${name}[= \n]`, "m"));
    }
    expect(stdout).toMatch(/^ {2}units=64 {29}1 to 1024 {7}recurrent units in each direction$/m);
    expect(stdout).toMatch(/^ {2}bidirectional=true +false +read each text/m);
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
  });

  test("what it shows can be typed", () => {
    for (const recipe of Object.values(RECIPES))
      for (const setting of ALL_SETTINGS) {
        const value = typedValue(setting, recipe);
        if (value === undefined) continue;
        const { settings } = withSettings(recipe, new Map([parseSetting(`${setting.name}=${value}`)]));
        expect(settings).toEqual(recipe);
      }
  });
});

describe("options that are settings now say so", () => {
  test.each([
    ["--batch 16", "batch-size=16"],
    ["--optimizer sgd", "optimizer=sgd"],
    ["--learning-rate 0.01", "learning-rate=0.01"],
    ["--learning-rate=0.01", "learning-rate=0.01"],
    ["--schedule linear", "schedule=linear"],
    ["--warmup 0.2", "warmup=0.2"],
    ["--final-rate 0", "final-rate=0"],
    ["--momentum 0.9", "momentum=0.9"],
    ["--nesterov", "nesterov=true"],
    ["--no-nesterov", "nesterov=false"],
    ["--clip-norm 0", "global-clipnorm=0"],
    ["--weight-decay 0.1", "weight-decay=0.1"],
    ["--average-decay 0", "ema-momentum=0"],
    ["--loss mean_squared_error", "loss=mean_squared_error"],
    ["--label-smoothing 0", "label-smoothing=0"],
    ["--balanced", "class-weight=balanced"],
    ["--no-balanced", "class-weight=none"],
    ["--embedding 8", "embedding-dim=8"],
    ["--units 8", "units=8"],
    ["--bidirectional", "bidirectional=true"],
    ["--no-bidirectional", "bidirectional=false"],
    ["--mask", "mask=true"],
    ["--no-mask", "mask=false"],
    ["--pooling max+mean", "pooling=max+mean"],
    ["--binary-output", "binary-output=true"],
    ["--no-binary-output", "binary-output=false"],
    ["--embedding-dropout 0", "embedding-dropout=0"],
    ["--output-dropout 0", "output-dropout=0"],
    ["--dropout-samples 1", "dropout-samples=1"],
    ["--perturbation 0", "perturbation=0"],
    ["--word-dropout 0", "word-dropout=0"],
    ["--augment typo=0.1,delete=0.05", "augment-typo=0.1 --set augment-delete=0.05"],
    ["--augment delete=0.05", "augment-delete=0.05 --set augment-typo=0"],
    ["--min-count 1", "min-count=1"],
    ["--num-words 100", "num-words=100"],
    ["--oov-token ?", "oov-token='?'"],
    ["--ngram-buckets=0", "ngram-buckets=0"],
    ["--add-ngrams", "add-ngrams=true"],
    ["--no-add-ngrams", "add-ngrams=false"],
    ["--maxlen 10", "maxlen=10"],
    ["--clean urls,numbers", "clean=urls,numbers"],
    ["--filters '", "filters=''\\'''"],
    ["--split |", "split='|'"],
    ["--lower", "lower=true"],
    ["--no-lower", "lower=false"],
    ["--char-level", "char-level=true"],
    ["--no-char-level", "char-level=false"],
    ["--split-scripts", "split-scripts=true"],
    ["--no-split-scripts", "split-scripts=false"],
    ["--letter-pairs", "letter-pairs=true"],
    ["--no-letter-pairs", "letter-pairs=false"],
    ["--pad-post", "padding=post"],
    ["--no-pad-post", "padding=pre"],
    ["--truncate-post", "truncating=post"],
    ["--no-truncate-post", "truncating=pre"],
    ["--min-agreement 0.9", "min-agreement=0.9"],
    ["--no-calibrate", "calibrate=false"],
  ])("%s", async (old, now) => {
    expect(await train(...files, ...old.split(" "))).toEqual({
      code: 1,
      stdout: "",
      stderr: `error: ${old.split(/[ =]/)[0]} is a setting now; write --set ${now} (edgelabel train --settings lists all)\n`,
    });
  });

  test("several at once", async () => {
    expect((await train(...files, "--no-mask", "--units", "4", "--embedding", "8")).stderr).toBe(
      "error: --embedding, --units, --no-mask are settings now; write --set embedding-dim=8 --set units=4 --set mask=false (edgelabel train --settings lists all)\n",
    );
  });

  test("one that is gone", async () => {
    expect((await train(...files, "--decay", "0.1")).stderr).toMatch(
      /^error: --decay is gone, with the schedule inverse-time/,
    );
  });
});

test("--help shows 27 options in groups, and none that is a setting", () => {
  const help = trainCommand().helpInformation();
  const options = [...help.matchAll(/^ {2}(?:-\w, )?--([\w-]+)/gm)].map(([, name]) => name);
  expect(options).toHaveLength(28); // with --help itself
  expect(options.filter((name) => ALL_SETTINGS.some((setting) => setting.name === name))).toEqual([]);
  expect([...help.matchAll(/^(\w[\w ]*):$/gm)].map(([, group]) => group)).toEqual([
    "Arguments",
    "Texts",
    "Training",
    "Output",
    "In parts",
    "Options",
  ]);
});
