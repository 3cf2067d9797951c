// The effect of calibration on real data: a model is trained on nine tenths of a set's training texts and
// calibrated on the last tenth. All figures are those for the test texts, and medians of the seeds. Texts of
// another set stand for texts that the model should not know.
//   node bench/calibration.mjs [set ...] [--outside hwu64] [--unknown 0.05] [--seeds 1] [--data ../shared/data]
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { edgelabel } from "./program.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    outside: { type: "string", default: "hwu64" },
    unknown: { type: "string", default: "0.05" },
    seeds: { type: "string", default: "1" },
    data: { type: "string", default: "../shared/data" },
  },
});
const sets = positionals.length ? positionals : ["snips", "sms_spam"];
const linesOf = (set, part) => readFileSync(`${values.data}/${set}/${part}.tsv`, "utf8").split("\n").filter(Boolean);

const folder = mkdtempSync(join(tmpdir(), "edgelabel-calibration-"));
const at = (name, lines) => {
  const path = join(folder, name);
  if (lines) writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
  return path;
};
const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const percent = (share) => `${(100 * share).toFixed(1)} %`;

console.log(
  `| set | calibration error | log loss | right answers rejected, asked ${percent(Number(values.unknown))} | wrong answers rejected | accuracy of the accepted | ${values.outside} texts rejected | AUROC |\n|---|---|---|---|---|---|---|---|`,
);
try {
  for (const set of sets) {
    const lines = linesOf(set, "train");
    const train = at(
      "train.tsv",
      lines.filter((_, i) => i % 10 !== 9),
    );
    const valid = at(
      "valid.tsv",
      lines.filter((_, i) => i % 10 === 9),
    );
    const test = at("test.tsv", linesOf(set, "test"));
    const outside = at(
      "outside.tsv",
      linesOf(values.outside, "test").map((line) => `outside ${line}`),
    );
    const runs = values.seeds.split(",").map((seed) => {
      const model = at("model.wasm");
      edgelabel("train", train, "--valid", valid, "--unknown", values.unknown, "--seed", seed, "-o", model);
      const known = edgelabel("eval", model, test, "--curve");
      const { curve } = edgelabel("eval", model, test, outside, "--curve");
      return { ...curve, accepted: known.accepted_accuracy, accuracy: known.curve.points[0].accuracy };
    });
    const of = (read) => median(runs.map(read));
    const share = (kind) => percent(of(({ rejected, answers }) => rejected[kind] / answers[kind]));
    console.log(
      `| ${set} | ${percent(of((run) => run.calibration_error.before))} → ${percent(of((run) => run.calibration_error.after))} ` +
        `| ${of((run) => run.log_loss.before).toFixed(3)} → ${of((run) => run.log_loss.after).toFixed(3)} | ${share("right")} | ${share("wrong")} ` +
        `| ${percent(of((run) => run.accuracy))} → ${percent(of((run) => run.accepted))} | ${share("unknown")} | ${of((run) => run.auroc).toFixed(3)} |`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
