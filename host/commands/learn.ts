// `edgelabel learn`: corrections -> a new version of a model, or the reason why the old one
// stays. With --undo it goes back to the version before.
import { Command } from "commander";
import { renderCalibration } from "../training/calibration.ts";
import { Classifier } from "../model/classifier.ts";
import { digestOf, openModel } from "../model/file.ts";
import { appendCorrections, journalPath, newsTo, readCorrections } from "../data/journal.ts";
import { without } from "../data/dataset.ts";
import { EdgelabelError } from "../errors.ts";
import { isSameFile, requireWritable } from "../files/atomic.ts";
import {
  isDone,
  latest,
  learn,
  LEARN_DEFAULTS,
  type LearnOptions,
  type LearnReport,
  type Standing,
} from "../training/learn.ts";
import { withModelLock } from "../files/lock.ts";
import { packModel } from "../model/pack.ts";
import { finishChange, previousPath, replaceFiles, restoreFiles } from "../files/versions.ts";
import { levelOf } from "../names.ts";
import { startProgress } from "../progress.ts";
import { Registry } from "../registry/registry.ts";
import type { VersionInfo } from "../registry/state.ts";
import { requireKnownLabels } from "../training/fine-tune.ts";
import { positive } from "../values.ts";
import {
  addDatasetOptions,
  type DatasetFlags,
  nameText,
  parserOf,
  parseSeed,
  readSamples,
  wholeNumber,
} from "./options.ts";
import { isDeployable, parseOutput } from "./output.ts";
import { noteSeen } from "../library/train.ts";
import { readElb } from "./pack.ts";
import { note, print, printJson } from "./terminal.ts";
import { percent } from "../figures.ts";

interface LearnFlags extends DatasetFlags, LearnOptions {
  corrections?: string[];
  data?: string[];
  valid?: string[];
  output?: string;
  registry?: string;
  name?: string;
  modelVersion?: string;
  undo?: boolean;
  json?: boolean;
}

export function learnCommand(): Command {
  const command = new Command("learn").argument(
    "<model>",
    "training form (.elb, as train -o NAME.elb writes it); a new version takes its place",
  );
  command.optionsGroup("Texts:");
  addDatasetOptions(
    command
      .option(
        "--corrections <files...>",
        "texts with the labels that the model should have given; they are kept in a journal beside it",
      )
      .option("--data <files...>", "the labelled texts that it was trained on; some of them are rehearsed")
      .option("--valid <files...>", "the hold-out: labelled texts that are not in the data"),
  );
  command.optionsGroup("Learning:");
  command
    .option(
      "--new-labels",
      "allow new labels in corrections and data; the hold-out should have texts of them",
      LEARN_DEFAULTS.newLabels,
    )
    .option(
      "--epochs <n>",
      "passes over the texts, of which the best acceptable one is kept (default: 4, or more if there are few texts)",
      wholeNumber(1, 1000),
    )
    .option("--learning-rate <x>", "highest rate", parserOf(positive), LEARN_DEFAULTS.learningRate)
    .option(
      "--rehearsed <n>",
      "texts of the data to rehearse in each pass, at most",
      wholeNumber(0, 10_000_000),
      LEARN_DEFAULTS.rehearsed,
    )
    .option("--seed <n>", "the same seed gives the same model", parseSeed, LEARN_DEFAULTS.seed)
    .option("--undo", "go back to the previous version, in the file of -o too; in a registry, models rollback does so");
  command.optionsGroup("Output:");
  return command
    .option(
      "-o, --output <file>",
      "also write the model for deployment (.wasm, or .elb for the model only)",
      parseOutput,
    )
    .option("--no-quantize", "keep f32 weights in what -o writes")
    .option(
      "--registry <folder>",
      "also make it the active version there, unsigned, in place of the one that is active now",
    )
    .option("--name <name>", "with --registry: name that it is served under (default: the one in the model)")
    .option(
      "--model-version <text>",
      'version of the new model (default: "1" becomes "1+1", "1+1" becomes "1+2")',
      nameText,
    )
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Each time, all corrections in the journal (MODEL.corrections.jsonl) are learnt. If a text has
several, the last one counts. The new version is taken if it answers more corrections right
than before, and the hold-out not worse. Not worse means: the accuracy as deployed is not
lower and, where it is the same, the loss is at most 1 % higher. Otherwise nothing but the
journal changes, and the exit code is 1 if there was something to learn. The version before
is kept as MODEL.previous.elb. A calibrated model is calibrated again on the hold-out; its rule for
unknown texts then rejects the same share of the right answers as before.

Examples:
  edgelabel train train.tsv -o spam.elb
  edgelabel learn spam.elb --corrections fixes.tsv --data train.tsv --valid valid.tsv -o spam.wasm
  edgelabel learn spam.elb -o spam.wasm --undo`,
    )
    .action(run);
}

async function run(path: string, options: LearnFlags, command: Command): Promise<void> {
  if (isDeployable(path))
    command.error(
      "error: it takes the training form, an .elb as edgelabel train -o NAME.elb writes it; -o names the .wasm",
    );
  const paths = [path, ...(options.output === undefined ? [] : [options.output])];
  if (options.output !== undefined && (await isSameFile(options.output, path)))
    command.error("error: -o would overwrite the training form; choose another name");
  if (options.registry === undefined && options.name !== undefined) command.error("error: --name is for --registry");
  if (options.undo && options.registry !== undefined)
    command.error("error: --undo restores files; in a registry go back with: edgelabel models rollback FOLDER NAME");
  if (!options.undo && (options.data === undefined || options.valid === undefined))
    command.error("error: it takes the texts to rehearse, with --data, and a hold-out, with --valid");
  for (const file of paths) await requireWritable(file);
  await withModelLock(path, async () => {
    const finished = await finishChange(paths);
    if (finished.length > 0)
      note(`an earlier run was interrupted while it wrote; its files are complete now: ${finished.join(", ")}`);
    if (options.undo) {
      const restored = await restoreFiles(paths);
      for (const left of paths.filter((file) => !restored.includes(file)))
        note(`${left} stays as it is: no earlier version was kept`);
      await (options.json
        ? printJson({ restored })
        : print(`${restored.join(" and ")}: the previous version is back\n`));
      return;
    }
    const report = await learnFiles(path, options as LearnFlags & { data: string[]; valid: string[] });
    await (options.json ? printJson(report) : print(render(report)));
    if (!isDone(report)) throw new EdgelabelError(`${path} stays as it is: ${report.reason}`);
  });
}

interface FileReport extends LearnReport {
  file: string;
  /** The new version in the registry. */
  installed?: VersionInfo | undefined;
  seconds: number;
}

async function learnFiles(
  path: string,
  options: LearnFlags & { data: string[]; valid: string[] },
): Promise<FileReport> {
  const started = performance.now();
  const elb = await readElb(path);
  const { labels, name, info } = await Classifier.fromBytes(elb, path);
  const registry = options.registry === undefined ? undefined : new Registry(options.registry);
  const active = await registry?.active(options.name ?? levelOf(name));
  // Undefined as well when there is no model there yet, or a damaged one.
  const deployed = await (
    active
      ? registry!.store.readUpdate(active.id).then((update) => Classifier.fromBytes(update!.model, active.name))
      : options.output === undefined
        ? undefined
        : openModel(options.output)
  )?.catch(() => undefined);
  const [given, data, validation] = [
    options.corrections ? await readSamples(options.corrections, options, info.multi_label) : [],
    await readSamples(options.data, options, info.multi_label),
    await readSamples(options.valid, options, info.multi_label),
  ];
  noteSeen(validation, data, note);
  const journal = journalPath(path);
  const kept = await readCorrections(journal);
  // --undo may have taken back a label that the journal goes on naming, unless its text was corrected again.
  if (!options.newLabels)
    requireKnownLabels(
      labels,
      without(latest(kept), given),
      path,
      `Take it out of ${journal}, allow it with --new-labels`,
    );
  const progress = startProgress("learning", options);
  const { report, model } = await learn(
    { elb, source: path, deployed: deployed?.info, corrections: [...kept, ...given], data, validation },
    { ...options, version: options.modelVersion },
    (done, total) => progress.update(done, total),
  ).finally(() => progress.stop());
  const fresh = newsTo(kept, given);
  if (fresh.length > 0) await appendCorrections(journal, fresh);
  let installed: VersionInfo | undefined;
  if (model) {
    const packed = await packModel(model.deployed);
    const training = digestOf(model.training);
    // Before the files, since a run that a crash ends in between is then made good by the next one, which learns the same.
    if (active)
      installed =
        active.training === training
          ? active
          : await registry!.adopt(packed, path, { name: active.name, learnt: { training, active: active.id } });
    const files = [{ path, bytes: model.training }];
    if (options.output !== undefined)
      files.push({ path: options.output, bytes: isDeployable(options.output) ? packed : model.deployed });
    await replaceFiles(files);
  }
  return { file: path, ...report, installed, seconds: (performance.now() - started) / 1000 };
}

function render({
  file,
  accepted,
  reason,
  version,
  form,
  corrections,
  rehearsed,
  validated,
  new_labels: labels,
  before,
  measured,
  after,
  calibration,
  seconds,
}: FileReport): string {
  const last = after ?? measured.at(-1) ?? before;
  const row = (name: string, show: (standing: Standing) => string, note = ""): string =>
    `${name.padEnd(12)}${show(before).padStart(12)}${show(last).padStart(12)}${note && `   ${note}`}`;
  const lines = [
    accepted
      ? `${file}: version ${version}${labels.length > 0 ? `, with the new label${labels.length > 1 ? "s" : ""} ${labels.join(", ")}` : ""}, in ${seconds.toFixed(1)} s`
      : `${file}: version ${version} stays: ${reason}`,
    `${" ".repeat(12)}${"before".padStart(12)}${"after".padStart(12)}`,
    row("corrections", ({ corrected }) => `${corrected}/${corrections}`, `mixed with ${rehearsed} rehearsed texts`),
    row("hold-out", ({ accuracy }) => percent(accuracy), `${validated} texts, ${form}`),
    row("loss", ({ loss }) => loss.toFixed(4)),
    ...(accepted ? [`the previous version is kept as ${previousPath(file)}`] : []),
  ];
  return `${lines.join("\n")}\n${calibration ? renderCalibration(calibration) : ""}`;
}
